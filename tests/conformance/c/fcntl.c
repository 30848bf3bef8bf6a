/* fcntl: each command and its errors; O_ASYNC and the signals it sends; leases; dnotify. */
#include "files.h"
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <poll.h>
#include <time.h>

static char buf[8192];

CASE(unknown, fcntl)
{
	fresh("/tmp/fc");
	int fd = made("f", "x"), o = open("f", O_PATH);
	R(fcntl(99, 9999, 0));
	R(fcntl(fd, 9999, 0));
	R(fcntl(fd, -1, 0));
	R(fcntl(fd, 500, 0));
	R(fcntl(fd, 1023, 0));
	R(fcntl(fd, 1028, 0));
	R(fcntl(o, 9999, 0));
	R(fcntl(o, F_GETFD));
	R(fcntl(o, F_SETFD, 1));
	say("%#x", fcntl(o, F_GETFL));
	R(fcntl(o, F_SETFL, 0));
	R(fcntl(o, F_GETOWN));
	R(fcntl(o, F_GETSIG));
	R(fcntl(o, F_GETLEASE));
	R(fcntl(o, F_GETPIPE_SZ));
	R(fcntl(o, F_GET_SEALS));
	R(fcntl(o, F_DUPFD, 50));
	R(fcntl(o, F_DUPFD_CLOEXEC, 50));
	R(fcntl(fd, F_GETPIPE_SZ));
	R(fcntl(fd, F_SETPIPE_SZ, 4096));
	R(fcntl(99, F_GETFD));
	R(fcntl(99, F_SETFL, 0));
	R(fcntl(99, F_DUPFD, -1));
}

CASE(setfl, fcntl)
{
	fresh("/tmp/fc");
	int fd = made("f", "x"), p[2], s[2];
	MUST(pipe(p));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	int all[] = {O_APPEND, O_NONBLOCK, O_ASYNC, O_DIRECT, O_NOATIME, O_SYNC, O_DSYNC, O_TRUNC, O_CREAT, O_RDWR, O_CLOEXEC, O_PATH};
	for (int i = 0; i < sizeof all / sizeof *all; i++) {
		int fds[] = {fd, p[0], s[0]};
		for (int k = 0; k < 3; k++) {
			errno = 0;
			int r = fcntl(fds[k], F_SETFL, all[i]);
			say("%#x on %d: %s, now %#x", all[i], k, r < 0 ? errname(errno) : "0", fcntl(fds[k], F_GETFL) & ~O_LARGEFILE);
		}
	}
	int e = eventfd(0, 0);
	R(fcntl(e, F_SETFL, O_ASYNC));
	say("%#x", fcntl(e, F_GETFL));
	R(fcntl(open("/dev/null", O_RDWR), F_SETFL, O_DIRECT));
	R(fcntl(open(".", O_RDONLY), F_SETFL, O_ASYNC));
}

static void noatime(void)
{
	int fd = open("theirs", O_RDONLY);
	R(fcntl(fd, F_SETFL, O_NOATIME));
	R(fcntl(fd, F_SETFL, O_NONBLOCK));
}

CASE(setfl_permission, fcntl)
{
	fresh("/tmp/fc");
	made("theirs", "x");
	as_user(noatime);
	int a = made("log", "x");
	fcntl(a, F_SETFL, O_APPEND);
	R(fcntl(a, F_SETFL, O_NOATIME));
	say("%#x", fcntl(a, F_GETFL) & ~O_LARGEFILE);
}

CASE(owner, fcntl)
{
	int p[2];
	MUST(pipe(p));
	struct f_owner_ex ex = {9, 9};
	setpgid(0, 0);
	R(fcntl(p[0], F_GETOWN));
	R(fcntl(p[0], F_GETOWN_EX, &ex));
	say("type %d pid %d", ex.type, ex.pid);
	R(fcntl(p[0], F_SETOWN, getpid()));
	IS(fcntl(p[0], F_GETOWN) == getpid());
	R(fcntl(p[0], F_GETOWN_EX, &ex));
	say("type %d mine %d", ex.type, ex.pid == getpid());
	R(fcntl(p[0], F_SETOWN, -getpgrp()));
	R(fcntl(p[0], F_GETOWN_EX, &ex));
	say("type %d mine %d", ex.type, ex.pid == getpgrp());
	R(fcntl(p[0], F_SETOWN, 99999));
	R(fcntl(p[0], F_SETOWN, -99999));
	R(fcntl(p[0], F_SETOWN, 0x80000000));
	R(fcntl(p[0], F_GETOWN_EX, BAD));
	R(fcntl(p[0], F_SETOWN_EX, BAD));
	ex.type = F_OWNER_TID, ex.pid = getpid();
	R(fcntl(p[0], F_SETOWN_EX, &ex));
	ex.type = ex.pid = 77;
	R(fcntl(p[0], F_GETOWN_EX, &ex));
	say("type %d mine %d", ex.type, ex.pid == getpid());
	IS(fcntl(p[0], F_GETOWN) == getpid());
	ex.type = F_OWNER_PGRP, ex.pid = getpgrp();
	R(fcntl(p[0], F_SETOWN_EX, &ex));
	ex.type = 3;
	R(fcntl(p[0], F_SETOWN_EX, &ex));
	ex.type = F_OWNER_PID, ex.pid = 99999;
	R(fcntl(p[0], F_SETOWN_EX, &ex));
	ex.type = F_OWNER_PID, ex.pid = 0;
	R(fcntl(p[0], F_SETOWN_EX, &ex));
	R(fcntl(p[0], F_GETOWN));
	R(fcntl(p[0], F_GETSIG));
	R(fcntl(p[0], F_SETSIG, 64));
	R(fcntl(p[0], F_GETSIG));
	R(fcntl(p[0], F_SETSIG, 65));
	R(fcntl(p[0], F_SETSIG, -1));
	R(fcntl(p[0], F_SETSIG, 0));
	R(fcntl(p[0], 17, (void *)8)); /* F_GETOWNER_UIDS */
}

static volatile int got, code, sifd, band;
static void on_io(int s, siginfo_t *i, void *u)
{
	got = s, code = i->si_code, sifd = i->si_fd, band = i->si_band;
}

static void handle(int sig)
{
	struct sigaction a = {.sa_sigaction = on_io, .sa_flags = SA_SIGINFO};
	sigaction(sig, &a, 0);
}

static void told(const char *what, int fd)
{
	for (int i = 0; i < 100 && !got; i++)
		usleep(1000);
	if (got)
		say("%s: signal %d code %d fd %s band %#x", what, got, code, got == SIGIO && code > 6 ? "?" : sifd == fd ? "ok" : "-", (unsigned)band);
	else
		say("%s: nothing", what);
	got = code = sifd = band = 0;
}

CASE(async_pipe, fcntl)
{
	int p[2];
	MUST(pipe(p));
	setpgid(0, 0);
	handle(SIGIO), handle(SIGUSR1), handle(40);
	R(fcntl(p[0], F_SETOWN, getpid()));
	write(p[1], "x", 1);
	told("without O_ASYNC", p[0]);
	R(fcntl(p[0], F_SETFL, O_ASYNC));
	write(p[1], "x", 1);
	told("a write, not empty", p[0]);
	read(p[0], buf, 100);
	write(p[1], "x", 1);
	told("a write", p[0]);
	R(fcntl(p[0], F_SETSIG, 40));
	read(p[0], buf, 100);
	write(p[1], "x", 1);
	told("with F_SETSIG", p[0]);
	R(fcntl(p[0], F_SETSIG, SIGUSR1));
	read(p[0], buf, 100);
	write(p[1], "x", 1);
	told("with SIGUSR1", p[0]);
	R(fcntl(p[0], F_SETOWN, 0));
	read(p[0], buf, 100);
	write(p[1], "x", 1);
	told("without an owner", p[0]);
	R(fcntl(p[0], F_SETOWN, -getpgrp()));
	read(p[0], buf, 100);
	write(p[1], "x", 1);
	told("a group", p[0]);
	close(p[1]);
	told("the last writer closed", p[0]);
}

CASE(async_pipe_writer, fcntl)
{
	int p[2];
	MUST(pipe2(p, O_NONBLOCK));
	handle(SIGIO), handle(40);
	R(fcntl(p[1], F_SETOWN, getpid()));
	R(fcntl(p[1], F_SETSIG, 40));
	R(fcntl(p[1], F_SETFL, O_ASYNC | O_NONBLOCK));
	while (write(p[1], buf, 4096) > 0)
		;
	told("full", p[1]);
	while (read(p[0], buf, 4096) < 4096)
		;
	told("a page read", p[1]);
	close(p[0]);
	told("no reader", p[1]);
}

CASE(async_socket, fcntl)
{
	int s[2];
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	handle(SIGIO), handle(41);
	R(fcntl(s[0], F_SETOWN, getpid()));
	R(fcntl(s[0], F_SETSIG, 41));
	R(fcntl(s[0], F_SETFL, O_ASYNC));
	write(s[1], "x", 1);
	told("data", s[0]);
	read(s[0], buf, 10);
	told("read", s[0]);
	write(s[1], "x", 1);
	told("data again", s[0]);
	int on = 0;
	R(ioctl(s[0], FIOASYNC, &on));
	write(s[1], "x", 1);
	told("off", s[0]);
	on = 1;
	R(ioctl(s[0], FIOASYNC, &on));
	say("%#x", fcntl(s[0], F_GETFL));
	close(s[1]);
	told("closed", s[0]);
	R(ioctl(s[0], FIOASYNC, BAD));
	R(ioctl(made("/tmp/f", "x"), FIOASYNC, &on));
	int pid = getpid();
	R(ioctl(s[0], 0x8901, &pid)); /* FIOSETOWN */
	IS(fcntl(s[0], F_GETOWN) == pid);
}

static void theirs(void)
{
	int p[2];
	MUST(pipe(p));
	R(fcntl(p[0], F_SETOWN, getppid()));
	R(fcntl(p[0], F_SETFL, O_ASYNC));
	write(p[1], "x", 1);
}

CASE(async_permission, fcntl)
{
	handle(SIGIO);
	as_user(theirs);
	told("from a stranger", 0);
	in_child(theirs);
	told("from root", 0);
}

CASE(async_thread, fcntl)
{
	int p[2];
	MUST(pipe(p));
	handle(SIGIO);
	struct f_owner_ex ex = {F_OWNER_TID, getpid()};
	R(fcntl(p[0], F_SETOWN_EX, &ex));
	R(fcntl(p[0], F_SETFL, O_ASYNC));
	write(p[1], "x", 1);
	told("to a thread", p[0]);
	if (fork() == 0) {
		read(p[0], buf, 10);
		write(p[1], "x", 1);
		_exit(0);
	}
	told("from a child", p[0]);
	wait(0);
}

CASE(pipe_size, fcntl)
{
	int p[2];
	MUST(pipe2(p, O_NONBLOCK));
	R(fcntl(p[0], F_GETPIPE_SZ));
	R(fcntl(p[1], F_SETPIPE_SZ, 0));
	R(fcntl(p[1], F_SETPIPE_SZ, 5000));
	R(fcntl(p[0], F_GETPIPE_SZ));
	R(fcntl(p[1], F_SETPIPE_SZ, 1 << 20));
	R(fcntl(p[1], F_SETPIPE_SZ, (1 << 20) + 1));
	R(fcntl(p[1], F_SETPIPE_SZ, -1));
	R(fcntl(p[1], F_SETPIPE_SZ, 1u << 31));
	R(fcntl(p[1], F_SETPIPE_SZ, 16384));
	int n = 0;
	while (write(p[1], buf, 4096) > 0)
		n++;
	say("%d pages", n);
	R(fcntl(p[1], F_SETPIPE_SZ, 8192));
	R(fcntl(p[1], F_SETPIPE_SZ, 32768));
	R(write(p[1], buf, 8192));
	R(fcntl(99, F_GETPIPE_SZ));
	R(fcntl(eventfd(0, 0), F_GETPIPE_SZ));
	int s[2];
	socketpair(AF_UNIX, SOCK_STREAM, 0, s);
	R(fcntl(s[0], F_GETPIPE_SZ));
}

static void small_pipe(void)
{
	int p[2];
	MUST(pipe(p));
	R(fcntl(p[1], F_SETPIPE_SZ, 1 << 20));
	R(fcntl(p[1], F_SETPIPE_SZ, (1 << 20) + 1));
	R(fcntl(p[1], F_SETPIPE_SZ, 4096));
}
CASE(pipe_size_user, fcntl) { as_user(small_pipe); }

CASE(lease, fcntl)
{
	fresh("/tmp/fc");
	int fd = made("f", "x"), r, p[2];
	MUST(pipe(p));
	R(fcntl(fd, F_GETLEASE));
	R(fcntl(fd, F_SETLEASE, F_RDLCK));
	R(fcntl(fd, F_SETLEASE, F_UNLCK));
	R(fcntl(fd, F_SETLEASE, F_WRLCK));
	R(fcntl(fd, F_GETLEASE));
	R(fcntl(fd, F_SETLEASE, F_RDLCK));
	R(fcntl(fd, F_SETLEASE, F_UNLCK));
	R(fcntl(fd, F_GETLEASE));
	R(fcntl(fd, F_SETLEASE, 77));
	R(fcntl(99, F_SETLEASE, F_RDLCK));
	r = open("f", O_RDONLY);
	R(fcntl(fd, F_SETLEASE, F_WRLCK));
	R(fcntl(r, F_SETLEASE, F_RDLCK));
	R(fcntl(r, F_SETLEASE, F_WRLCK));
	close(fd);
	R(fcntl(r, F_SETLEASE, F_RDLCK));
	R(fcntl(r, F_GETLEASE));
	int r2 = open("f", O_RDONLY);
	R(fcntl(r2, F_GETLEASE));
	R(fcntl(r2, F_SETLEASE, F_RDLCK));
	R(fcntl(r2, F_GETLEASE));
	R(fcntl(r, F_SETLEASE, F_WRLCK));
	R(fcntl(r2, F_SETLEASE, F_UNLCK));
	close(r2);
	R(fcntl(r, F_SETLEASE, F_WRLCK));
	R(fcntl(r, F_GETLEASE));
	R(fcntl(dup(r), F_GETLEASE));
	R(fcntl(p[0], F_SETLEASE, F_RDLCK));
	R(fcntl(open(".", O_RDONLY), F_SETLEASE, F_RDLCK));
	R(fcntl(open("/dev/null", O_RDONLY), F_SETLEASE, F_RDLCK));
	R(fcntl(p[0], F_GETLEASE));
	R(fcntl(open("f", O_PATH), F_SETLEASE, F_RDLCK));
}

static void stranger(void)
{
	int fd = open("theirs", O_RDONLY);
	R(fcntl(fd, F_SETLEASE, F_RDLCK));
	fd = open("mine", O_RDONLY | O_CREAT, 0600);
	R(fcntl(fd, F_SETLEASE, F_RDLCK));
}

CASE(lease_permission, fcntl)
{
	fresh("/tmp/fc");
	close(made("theirs", "x"));
	as_user(stranger);
}

/* ended is what the call of a child came to: the child exits with its errno. */
static const char *ended(void)
{
	int st = 0;
	MUST(wait(&st));
	return WEXITSTATUS(st) ? errname(WEXITSTATUS(st)) : "ok";
}

CASE(lease_break, fcntl, open)
{
	fresh("/tmp/fc");
	close(made("f", "x"));
	handle(SIGIO), handle(42);
	int fd = open("f", O_RDONLY);
	R(fcntl(fd, F_SETLEASE, F_RDLCK));
	R(open("f", O_WRONLY | O_NONBLOCK));
	told("a writer", fd);
	R(fcntl(fd, F_GETLEASE));
	R(open("f", O_RDONLY | O_NONBLOCK) >= 0);
	R(fcntl(fd, F_SETLEASE, F_UNLCK));
	R(open("f", O_WRONLY | O_NONBLOCK) >= 0);
	close(made("g", "x"));
	fd = open("g", O_RDWR);
	R(fcntl(fd, F_SETSIG, 42));
	R(fcntl(fd, F_SETLEASE, F_WRLCK));
	pid_t c = fork();
	if (c == 0)
		_exit(open("g", O_RDONLY) >= 0 ? 0 : errno);
	told("a reader", fd);
	R(fcntl(fd, F_GETLEASE));
	R(fcntl(fd, F_SETLEASE, F_RDLCK));
	close(fd);
	say("child's open: %s", ended());
	close(made("h", "x"));
	fd = open("h", O_RDWR);
	R(fcntl(fd, F_SETLEASE, F_WRLCK));
	c = fork();
	if (c == 0)
		_exit(truncate("h", 0) == 0 ? 0 : errno);
	told("truncate", fd);
	R(fcntl(fd, F_SETLEASE, F_UNLCK));
	say("child's truncate: %s", ended());
	R(fcntl(fd, F_SETLEASE, F_WRLCK));
	c = fork();
	if (c == 0) {
		struct stat st;
		R(stat("h", &st));
		R(unlink("h"));
		_exit(0);
	}
	wait(0);
	told("unlink", fd);
}

CASE(dnotify, fcntl)
{
	fresh("/tmp/fc");
	mkdir("d", 0755);
	handle(SIGIO), handle(43);
	int d = open("d", O_RDONLY), fd = made("f", "x");
	R(fcntl(fd, F_NOTIFY, DN_CREATE));
	R(fcntl(99, F_NOTIFY, DN_CREATE));
	R(fcntl(d, F_NOTIFY, 0));
	R(fcntl(d, F_NOTIFY, DN_CREATE));
	close(open("d/a", O_CREAT | O_WRONLY, 0600));
	told("create", d);
	close(open("d/b", O_CREAT | O_WRONLY, 0600));
	told("once only", d);
	R(fcntl(d, F_SETSIG, 43));
	R(fcntl(d, F_NOTIFY, DN_CREATE | DN_DELETE | DN_MODIFY | DN_RENAME | DN_ATTRIB | DN_ACCESS | DN_MULTISHOT));
	unlink("d/b");
	told("delete", d);
	int a = open("d/a", O_RDWR);
	told("open", d);
	write(a, "x", 1);
	told("modify", d);
	pread(a, buf, 1, 0);
	told("access", d);
	fchmod(a, 0644);
	told("attrib", d);
	rename("d/a", "d/c");
	told("rename", d);
	rename("d/c", "c");
	told("move away", d);
	fchmod(d, 0700);
	told("of its own", d);
	syscall(SYS_getdents64, d, buf, sizeof buf);
	told("listed", d);
	struct iovec none = {buf, 0};
	R(preadv(d, &none, 0, 0));
	told("no ranges", d);
	R(readv(d, &none, 1));
	told("an empty one", d);
	R(read(d, buf, 0));
	told("nothing read", d);
	rename("d", "e"), rename("e", "d");
	told("renamed", d);
	R(fcntl(d, F_NOTIFY, 0));
	close(open("d/e", O_CREAT | O_WRONLY, 0600));
	told("off", d);
	R(fcntl(d, F_NOTIFY, DN_CREATE | DN_MULTISHOT));
	close(d);
	close(open("d/g", O_CREAT | O_WRONLY, 0600));
	told("closed", d);
}

/* fs.dir-notify-enable turns F_NOTIFY off. */
CASE(dnotify_off, fcntl)
{
	fresh("/tmp/fc");
	mkdir("d", 0755);
	int d = open("d", O_RDONLY), fd = made("f", "x"), sw = open("/proc/sys/fs/dir-notify-enable", O_RDWR);
	R(pread(sw, buf, 8, 0));
	say("%.2s", buf);
	R(pwrite(sw, "0", 1, 0));
	R(fcntl(d, F_NOTIFY, DN_CREATE));
	R(fcntl(d, F_NOTIFY, 0));
	R(fcntl(fd, F_NOTIFY, DN_CREATE));
	R(fcntl(99, F_NOTIFY, DN_CREATE));
	R(pwrite(sw, "1", 1, 0));
	R(fcntl(d, F_NOTIFY, DN_CREATE));
}

CASE(rw_hint, fcntl)
{
	fresh("/tmp/fc");
	int fd = made("f", "x"), p[2];
	MUST(pipe(p));
	unsigned long h = 77;
	R(fcntl(fd, 1035, &h)); /* F_GET_RW_HINT */
	say("%lu", h);
	h = 2;
	R(fcntl(fd, 1036, &h));
	h = 77;
	R(fcntl(fd, 1035, &h));
	say("%lu", h);
	h = 6;
	R(fcntl(fd, 1036, &h));
	R(fcntl(fd, 1036, BAD));
	R(fcntl(fd, 1035, BAD));
	h = 1;
	R(fcntl(fd, 1037, &h));
	R(fcntl(fd, 1038, &h));
	R(fcntl(p[0], 1035, &h));
}

CASES
