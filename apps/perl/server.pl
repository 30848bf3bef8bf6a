# A small HTTP server that forks its workers first, in the manner of the Perl Cookbook's
# preforkers: the children share the listening socket and are replaced when they end.
use strict;
use warnings;
use IO::Socket::INET;
use POSIX qw(:signal_h :sys_wait_h);

$| = 1;
my ($port, $workers, $requests) = (8080, 3, 20);
my $listen = IO::Socket::INET->new(LocalPort => $port, Listen => 64, ReuseAddr => 1) or die "listen: $@\n";
my %children;

sub serve {
	my ($client) = @_;
	my $request = <$client> // return;
	while (defined(my $line = <$client>)) { last if $line =~ /^\r?\n$/ }
	my ($status, $body) = ("404 Not Found", "there is no such page\n");
	($status, $body) = ("200 OK", "<h1>Perl in Kiln</h1>\n<p>$1</p>\n") if $request =~ m{^GET /(\S*) HTTP};
	print $client "HTTP/1.0 $status\r\nContent-Length: ", length $body, "\r\n\r\n$body";
}

my $stop = 0;
my $ends = POSIX::SigSet->new(SIGTERM, SIGINT);

# The signals wait while a worker is made: it must not run its parent's handler.
sub worker {
	sigprocmask(SIG_BLOCK, $ends);
	my $pid = fork // die "fork: $!\n";
	if ($pid) {
		$children{$pid} = 1;
		kill TERM => $pid if $stop; # the handler did not know it yet
	} else {
		sigaction($_, POSIX::SigAction->new('DEFAULT')) for SIGTERM, SIGINT;
	}
	sigprocmask(SIG_UNBLOCK, $ends);
	return if $pid;
	for (1 .. $requests) {
		my $client = $listen->accept or next;
		serve($client);
		close $client;
	}
	exit 0;
}

# At once, and not when waitpid has returned, as by way of %SIG: nothing may end it then.
sigaction($_, POSIX::SigAction->new(sub { $stop = 1; kill TERM => keys %children })) for SIGTERM, SIGINT;
worker() for 1 .. $workers;
print "serving with $workers workers\n";
until ($stop) {
	my $pid = waitpid(-1, 0);
	worker() if $pid > 0 && delete $children{$pid} && !$stop;
}
1 while waitpid(-1, 0) > 0;
