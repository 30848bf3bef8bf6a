/* The terminal: requests that must be refused, sessions, and the four ways to read without lines (termios(3)). */
#include "../../programs/c/check.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>

static int tty;
static struct termios old;

/* typed puts input into the terminal's queue, as if it had been typed. */
static void typed(const char *s)
{
	for (; *s; s++)
		if (ioctl(tty, TIOCSTI, s) < 0)
			say("TIOCSTI: %s", errname(errno));
}

static void mode(int vmin, int vtime)
{
	struct termios t = old;
	t.c_lflag &= ~(ICANON | ECHO);
	t.c_cc[VMIN] = vmin;
	t.c_cc[VTIME] = vtime;
	ioctl(tty, TCSETSF, &t);
}

static long ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static long since; /* when later was called, for the read after it */

/* got reads and says what came, and whether it waited. */
static void got(const char *how, int n, long least, long most)
{
	char b[64];
	long t0 = since ? since : ms();
	int r = read(tty, b, n);
	long d = ms() - t0;
	since = 0;
	say("%s: %d%s%s '%.*s' %s", how, r, r < 0 ? " " : "", r < 0 ? errname(errno) : "", r > 0 ? r : 0, b,
	    d < least ? "TOO SOON" : d > most ? "TOO LATE" : "in time");
}

static void later(int usec, const char *s)
{
	since = ms(); /* a loaded machine may run the child long before who called */
	if (fork() == 0) {
		for (; *s; s++) {
			usleep(usec);
			ioctl(tty, TIOCSTI, s);
		}
		_exit(0);
	}
}

static void polled(const char *how)
{
	struct pollfd p = { tty, POLLIN, 0 };
	int r = poll(&p, 1, 0);
	say("poll %s: %d %d", how, r, p.revents);
}

static void reading(void)
{
	int n;
	mode(0, 0);
	got("0 0 empty", 10, 0, 500);
	typed("ab");
	got("0 0 two", 10, 0, 500);
	mode(0, 3);
	got("0 3 empty", 10, 280, 2500);
	typed("c");
	got("0 3 one", 10, 0, 250);
	mode(0, 50);
	later(100000, "d");
	got("0 50 later", 10, 80, 4000);
	wait(0);
	mode(3, 0);
	typed("ef");
	polled("2 of 3");
	typed("g");
	polled("3 of 3");
	got("3 0 three", 10, 0, 500);
	typed("hij");
	got("3 0 two wanted", 2, 0, 500);
	later(100000, "kl");
	got("3 0 rest later", 10, 150, 3000);
	wait(0);
	mode(5, 3);
	typed("mn");
	got("5 3 two", 10, 280, 2500);
	later(50000, "o");
	got("5 3 one later", 10, 300, 3000);
	wait(0);
	polled("5 3 empty");
	typed("p");
	polled("5 3 one");
	got("5 3 one", 10, 280, 2500);
	fcntl(tty, F_SETFL, O_RDWR | O_NONBLOCK);
	mode(3, 0);
	got("nonblock 3 0 empty", 10, 0, 500);
	typed("q");
	got("nonblock 3 0 one", 10, 0, 500);
	mode(0, 5);
	got("nonblock 0 5 empty", 10, 0, 500);
	mode(0, 0);
	got("nonblock 0 0 empty", 10, 0, 500);
	fcntl(tty, F_SETFL, O_RDWR);
	ioctl(tty, TCSETSF, &old);
	typed("line\nmore");
	R(ioctl(tty, FIONREAD, &n));
	got("line", 10, 0, 500);
	typed("\x15");
	typed("\x04");
	got("end of file", 10, 0, 500);
}

static void requests(void)
{
	int v = 7;
	/* in one line: what is printed here may go to this terminal */
	R(ioctl(tty, TCXONC, TCOOFF) + 2 * ioctl(tty, TCXONC, TCOON));
	R(ioctl(tty, TCXONC, 4));
	R(ioctl(tty, TCXONC, -1));
	R(ioctl(tty, TCFLSH, TCIFLUSH));
	R(ioctl(tty, TCFLSH, 3));
	R(ioctl(tty, TCSBRK, 1));
	R(ioctl(tty, TIOCGETD, &v));
	say("discipline %d", v);
	R(ioctl(tty, TIOCGETD, 1));
	R(ioctl(tty, TIOCEXCL));
	R(ioctl(tty, TIOCGEXCL, &v));
	say("exclusive %d", v);
	R(ioctl(tty, TIOCNXCL));
	R(ioctl(tty, TCGETS, 1));
	R(ioctl(tty, TCSETS, 1));
	R(ioctl(tty, TIOCSTI, 1));
	R(ioctl(tty, 0x54ff));
}

static void status(const char *what)
{
	int s = 0;
	wait(&s);
	say("%s: %s %d", what, WIFSIGNALED(s) ? "signal" : "exit", WIFSIGNALED(s) ? WTERMSIG(s) : WEXITSTATUS(s));
}

/* a new session, whose leader this is */
static void session(void)
{
	pid_t p = 0, other;
	int n = 0;
	setsid();
	R(ioctl(tty, TIOCNOTTY));
	R(ioctl(tty, TIOCGPGRP, &p));
	R(ioctl(tty, TIOCGSID, &p));
	p = getpid();
	R(ioctl(tty, TIOCSPGRP, &p));
	R(open("/dev/tty", O_RDWR));
	R(ioctl(tty, TIOCSCTTY, 1));
	R(ioctl(tty, TIOCSCTTY, 0));
	IS(ioctl(tty, TIOCGSID, &p) == 0 && p == getpid());
	IS(ioctl(tty, TIOCGPGRP, &p) == 0 && p == getpid());
	IS((n = open("/dev/tty", O_RDWR)) >= 0);
	close(n);
	p = -1;
	R(ioctl(tty, TIOCSPGRP, &p));
	p = 1;
	R(ioctl(tty, TIOCSPGRP, &p));
	p = 30000;
	R(ioctl(tty, TIOCSPGRP, &p));
	R(ioctl(tty, TIOCSPGRP, 1));
	if ((other = fork()) == 0) {
		R(ioctl(tty, TIOCSCTTY, 0));
		setpgid(0, 0);
		/* in the background now */
		signal(SIGTTIN, SIG_IGN);
		signal(SIGTTOU, SIG_IGN);
		char c;
		n = open("/dev/tty", O_RDWR);
		R(read(n, &c, 1));
		p = getpid();
		R(ioctl(tty, TIOCSPGRP, &p));
		p = getppid();
		R(ioctl(tty, TIOCSPGRP, &p));
		R(ioctl(tty, TIOCNOTTY));
		R(ioctl(tty, TIOCNOTTY));
		R(open("/dev/tty", O_RDWR));
		_exit(3);
	}
	status("member");
	if ((other = fork()) == 0) {
		setsid();
		R(ioctl(tty, TIOCSCTTY, 0));
		setuid(1000);
		R(ioctl(tty, TIOCSCTTY, 1));
		char c = 'x';
		R(ioctl(tty, TIOCSTI, &c));
		_exit(4);
	}
	status("other session");
	if ((other = fork()) == 0) {
		signal(SIGHUP, SIG_DFL);
		pause();
	}
	usleep(100000);
	signal(SIGHUP, SIG_IGN);
	R(ioctl(tty, TIOCNOTTY));
	status("hung up");
	R(ioctl(tty, TIOCGPGRP, &p));
	/* whoever leads a session and opens a free terminal gets it */
	n = open("/dev/ttyS0", O_RDWR | O_NOCTTY);
	R(ioctl(n, TIOCGPGRP, &p));
	close(n);
	n = open("/dev/ttyS0", O_RDWR);
	IS(ioctl(n, TIOCGSID, &p) == 0 && p == getpid());
	R(ioctl(n, TIOCNOTTY));
}

int main(void)
{
	setvbuf(stdout, 0, _IONBF, 0);
	tty = open("/dev/ttyS0", O_RDWR | O_NOCTTY);
	if (ioctl(tty, TCGETS, &old) < 0)
		say("no terminal: %s", errname(errno));
	old.c_lflag &= ~ECHO;
	requests();
	reading();
	fflush(stdout);
	if (fork() == 0) {
		session();
		_exit(0);
	}
	status("session");
	return 0;
}
