# What programs in Perl do of a system: processes, pipes, signals, sockets, files, locks.
use strict;
use warnings;
use Digest::SHA qw(sha256_hex);
use Fcntl qw(:flock SEEK_SET);
use File::Find;
use File::Temp qw(tempdir);
use IO::Select;
use IPC::Open3;
use List::Util qw(sum);
use POSIX qw(mkfifo strftime WNOHANG);
use Socket;
use Storable qw(freeze thaw);
use Time::HiRes qw(alarm sleep time);

$| = 1;
my %status;
for my $n (1 .. 3) {
	my $pid = fork // die;
	exit $n if !$pid;
	$status{$pid} = $n;
}
my $right = 0;
while ((my $pid = wait) > 0) { $right++ if $status{$pid} == $? >> 8 }
print "children $right\n";

print "backticks ", `echo \$((6 * 7)); exit 3`, "status ", $? >> 8, "\n";
open my $to, '|-', 'tr a-z A-Z' or die;
print $to "through a pipe\n";
close $to;
my $pid = open3(my $in, my $out, undef, '/bin/sh', '-c', 'cat; echo oops >&2');
print $in "both\n";
close $in;
print "open3 ", join('|', sort map { s/\n//r } <$out>), "\n";
waitpid $pid, 0;

# A file that four children write under a lock.
my $dir = tempdir(CLEANUP => 1);
open my $count, '+>', "$dir/count" or die;
print $count "0\n";
$count->flush;
for (1 .. 4) {
	next if fork;
	open my $f, '+<', "$dir/count" or die;
	for (1 .. 50) {
		flock $f, LOCK_EX;
		seek $f, 0, SEEK_SET;
		my $n = <$f>;
		seek $f, 0, SEEK_SET;
		printf $f "%d\n", $n + 1;
		$f->flush;
		flock $f, LOCK_UN;
	}
	POSIX::_exit(0);
}
1 while wait > 0;
seek $count, 0, SEEK_SET;
print "counted ", scalar <$count>;

mkfifo("$dir/fifo", 0600) or die;
if (!fork) { open my $f, '>', "$dir/fifo"; print $f "through a fifo\n"; close $f; POSIX::_exit(0) }
open my $fifo, '<', "$dir/fifo" or die;
print <$fifo>;
wait;

socketpair my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC or die;
syswrite $a, "ready";
my ($ready) = IO::Select->new($b)->can_read(5);
sysread $ready, my $text, 100;
print "select $text\n";

my $slept = eval { local $SIG{ALRM} = sub { die "alarm\n" }; alarm 0.2; sleep 100; 1 };
print "ended by $@" if !$slept;
my $hits = 0;
$SIG{USR1} = sub { $hits++ };
kill USR1 => $$ for 1 .. 3;
print "signals ", $hits > 0 ? "came" : "lost", "\n";
open my $none, '<', '/no/such' or print "open: $!\n";

mkdir "$dir/$_" for qw(a b c);
for my $n (1 .. 30) { open my $f, '>', "$dir/" . (qw(a b c))[$n % 3] . "/$n"; print $f 'x' x $n }
my $bytes = 0;
find(sub { $bytes += -s if -f && /^\d+$/ }, $dir);
print "found $bytes bytes\n";
print "sum ", sum(@{thaw(freeze([1 .. 100]))}), " ", substr(sha256_hex('kiln'), 0, 8), " ", strftime('%F', gmtime 86400), "\n";
