/* What the programs about pseudo-terminals share. */
#include "../../programs/c/check.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER 0x5441
#endif
#ifndef EXTPROC
#define EXTPROC 0200000
#endif

static int m, s; /* the two sides */

/* pts mounts the file system where the program has it for itself. */
static void pts(void)
{
	mkdir("/dev/pts", 0755);
	if (access("/dev/pts/ptmx", F_OK) < 0)
		MUST(mount("devpts", "/dev/pts", "devpts", 0, "ptmxmode=666"));
}

/* pair opens both sides; the slave is nobody's controlling terminal. */
static void pair(void)
{
	int zero = 0, n;
	char name[32];
	MUST(m = open("/dev/ptmx", O_RDWR | O_NOCTTY));
	MUST(ioctl(m, TIOCSPTLCK, &zero));
	MUST(ioctl(m, TIOCGPTN, &n));
	snprintf(name, sizeof name, "/dev/pts/%d", n);
	MUST(s = open(name, O_RDWR | O_NOCTTY));
}

static void unpair(void)
{
	close(s);
	close(m);
}

/* show prints bytes, controls as \xHH. */
static void show(const char *what, const char *b, int n)
{
	char o[900], *p = o;
	if (n < 0) {
		say("%s: %s", what, errname(errno));
		return;
	}
	for (int i = 0; i < n && p < o + sizeof o - 8; i++)
		if (b[i] >= 32 && b[i] < 127 && b[i] != '\\')
			*p++ = b[i];
		else
			p += sprintf(p, "\\x%02x", (unsigned char)b[i]);
	*p = 0;
	say("%s: %d '%s'", what, n, o);
}

/* ready waits a little for input: what is written on one side arrives on the other by a
 * kernel thread on Linux. */
static int ready(int fd, int ms)
{
	struct pollfd p = { fd, POLLIN, 0 };
	poll(&p, 1, ms);
	return p.revents;
}

/* all reads what is there now and prints it. */
static void all(const char *what, int fd)
{
	char b[2048];
	int n = 0, r, fl = fcntl(fd, F_GETFL);
	fcntl(fd, F_SETFL, fl | O_NONBLOCK);
	for (int i = 0; i < 3; i++) {
		ready(fd, 20);
		while (n < sizeof b && (r = read(fd, b + n, sizeof b - n)) > 0)
			n += r;
	}
	fcntl(fd, F_SETFL, fl);
	show(what, b, n);
}

/* one reads once. */
static void one(const char *what, int fd, int n)
{
	char b[2048];
	int fl = fcntl(fd, F_GETFL);
	fcntl(fd, F_SETFL, fl | O_NONBLOCK);
	ready(fd, 50);
	show(what, b, read(fd, b, n));
	fcntl(fd, F_SETFL, fl);
}

static void put(int fd, const char *t)
{
	int n = strlen(t);
	if (write(fd, t, n) != n)
		say("short write: %s", errname(errno));
}

/* modes changes the slave's flags. */
static void modes(int ioff, int ion, int ooff, int oon, int loff, int lon)
{
	struct termios t;
	tcgetattr(s, &t);
	t.c_iflag = t.c_iflag & ~ioff | ion;
	t.c_oflag = t.c_oflag & ~ooff | oon;
	t.c_lflag = t.c_lflag & ~loff | lon;
	tcsetattr(s, TCSANOW, &t);
}

static void events(const char *what, int fd)
{
	struct pollfd p = { fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0 };
	ready(fd, 20);
	poll(&p, 1, 0);
	say("%s: %s%s%s%s%s", what, p.revents & POLLIN ? " in" : "", p.revents & POLLOUT ? " out" : "",
	    p.revents & POLLPRI ? " pri" : "", p.revents & POLLHUP ? " hup" : "", p.revents & POLLERR ? " err" : "");
}
