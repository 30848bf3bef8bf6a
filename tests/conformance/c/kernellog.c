/* syslog: the kernel's messages, which are not the same on two kernels (syslog(2)). */
#include "ipc.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char buf[1 << 18];

static long log_(int action, void *b, int n) { return syscall(SYS_syslog, action, b, n); }

CASE(actions, syslog)
{
	IS(log_(10, 0, 0) >= 1 << 12);
	IS(log_(9, 0, 0) >= 0);
	R(log_(0, 0, 0));
	R(log_(1, 0, 0));
	R(log_(3, 0, 10));
	R(log_(3, buf, -1));
	R(log_(3, buf, 0));
	R(log_(4, 0, 10));
	R(log_(2, 0, 10));
	R(log_(2, buf, -1));
	R(log_(2, buf, 0));
	IS(log_(3, buf, sizeof buf) >= 0);
	R(log_(5, 0, 0));
	R(log_(3, buf, sizeof buf));
	R(log_(8, 0, 0));
	R(log_(8, 0, 9));
	R(log_(11, 0, 0));
	R(log_(-1, 0, 0));
}

CASE(without_privilege, syslog)
{
	MUST(setresuid(1000, 1000, 1000));
	R(log_(2, buf, 10));
	R(log_(2, 0, 10));
	R(log_(4, buf, 10));
	R(log_(5, 0, 0));
	R(log_(9, 0, 0));
	R(log_(8, 0, 0));
	R(log_(3, buf, 0));
	R(log_(10, 0, 0));
	R(open("/dev/kmsg", O_RDONLY));
	R(open("/dev/kmsg", O_WRONLY));
	R(open("/proc/kmsg", O_RDONLY));
}

/* own reads the records of a description up to what "find" is in, and prints that without number and time. */
static void own(const char *what, int fd, const char *find)
{
	char b[4096], *t;
	long n;
	for (;;) {
		if ((n = read(fd, b, sizeof b - 1)) < 0) {
			say("%s: %s", what, errname(errno));
			return;
		}
		b[n] = 0;
		if (!strstr(b, find))
			continue;
		int prio = -1, commas = 0;
		sscanf(b, "%d,", &prio);
		for (t = b; *t && *t != ';'; t++)
			commas += *t == ',';
		say("%s: priority %d, %d commas, text %s", what, prio, commas, *t ? t + 1 : "?");
		return;
	}
}

CASE(kmsg, openat, read, write, lseek, poll)
{
	struct stat st;
	int w, r, q;
	MUST(stat("/dev/kmsg", &st));
	say("mode %o, device %d %d", st.st_mode, (int)(st.st_rdev >> 8), (int)(st.st_rdev & 255));
	MUST(r = open("/dev/kmsg", O_RDONLY | O_NONBLOCK));
	R(lseek(r, 0, SEEK_END));
	MUST(w = open("/dev/kmsg", O_WRONLY));
	struct pollfd p = { r, POLLIN | POLLOUT, 0 };
	R(write(w, "<13>kilnone: first\n", 19));
	R(poll(&p, 1, 1000));
	R(p.revents);
	own("first", r, "kilnone");
	own("none", r, "kilnone");
	R(write(w, "kilntwo\n", 8));
	R(write(w, "<3>kilnthree \001 \\ \303\244\n", 18));
	R(write(w, "<30>kilnfour\n", 13));
	R(write(w, "<x>kilnfive\n", 12));
	R(write(w, "<>kilnsix\n", 10));
	R(write(w, "<2000>kilnseven\n", 16));
	R(write(w, buf, 1025));
	R(write(w, (void *)1, 10));
	own("two", r, "kilntwo");
	own("three", r, "kilnthree");
	own("four", r, "kilnfour");
	own("five", r, "kilnfive");
	own("six", r, "kilnsix");
	own("seven", r, "kilnseven");
	R(read(w, buf, 100));
	R(write(r, "x", 1));
	R(lseek(r, 0, SEEK_SET));
	own("again", r, "kilnone");
	R(read(r, buf, 3));
	R(lseek(r, 1, SEEK_SET));
	R(lseek(r, 0, SEEK_CUR));
	R(lseek(r, 0, SEEK_HOLE));
	R(lseek(r, 0, SEEK_DATA));
	R(lseek(r, 0, SEEK_END));
	own("at the end", r, "kilnone"); /* others may have said something */
	MUST(q = open("/dev/kmsg", O_RDONLY));
	MUST(lseek(q, 0, SEEK_END));
	if (!fork()) {
		usleep(100000);
		write(w, "<5>kilnlate\n", 12);
		_exit(0);
	}
	own("waited for", q, "kilnlate");
	wait(0);
}

CASE(proc_kmsg, openat, read, poll, write)
{
	int r, w;
	MUST(r = open("/proc/kmsg", O_RDONLY | O_NONBLOCK));
	while (read(r, buf, sizeof buf) > 0)
		;
	IS(errno == EAGAIN);
	struct pollfd p = { r, POLLIN, 0 };
	MUST(w = open("/dev/kmsg", O_WRONLY));
	R(write(w, "<14>kilneight\n", 14));
	R(poll(&p, 1, 1000));
	R(p.revents);
	IS(log_(9, 0, 0) > 0);
	/* Others may say something before it. */
	long n = read(r, buf, sizeof buf - 1);
	buf[n < 0 ? 0 : n] = 0;
	char *t = strstr(buf, "kilneight"), *l = t;
	IS(t != 0);
	while (l && l > buf && l[-1] != '\n')
		l--;
	IS(l && !strncmp(l, "<14>[", 5));
	while (read(r, buf, sizeof buf) > 0)
		;
	IS(errno == EAGAIN);
}
CASES
