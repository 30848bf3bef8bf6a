/* vhangup(2): what becomes of a terminal's descriptors and its session. */
#include "pty.h"

static volatile int hup, cont;
static void on(int s) { if (s == SIGHUP) hup++; else cont++; }

static void ended(const char *what)
{
	int st = 0;
	wait(&st);
	say("%s: %s %d", what, WIFSIGNALED(st) ? "signal" : "exit", WIFSIGNALED(st) ? WTERMSIG(st) : WEXITSTATUS(st));
}

CASE(terminal, vhangup)
{
	signal(SIGTTOU, SIG_IGN);
	pts();
	pair();
	if (fork() == 0) {
		struct sigaction a = { .sa_handler = on };
		char c;
		pid_t g;
		setsid();
		MUST(ioctl(s, TIOCSCTTY, 0));
		int tty = open("/dev/tty", O_RDWR);
		sigaction(SIGHUP, &a, 0);
		sigaction(SIGCONT, &a, 0);
		if (fork() == 0) {
			setpgid(0, 0);
			tcsetpgrp(s, getpgrp());
			hup = cont = 0;
			usleep(300000);
			say("member: hup %d cont %d", hup, cont);
			R(ioctl(s, TIOCGPGRP, &g));
			R(open("/dev/tty", O_RDWR));
			_exit(0);
		}
		usleep(100000);
		R(vhangup());
		say("leader: hup %d cont %d", hup, cont);
		R(read(s, &c, 1));
		R(write(s, "x", 1));
		R(write(tty, "x", 1));
		R(tcgetpgrp(s));
		events("poll", s);
		R(open("/dev/tty", O_RDWR));
		R(vhangup());
		/* the terminal itself goes on: who opens it anew can use it */
		int n = open("/dev/pts/0", O_RDWR);
		IS(n >= 0 && write(n, "again", 5) == 5);
		ended("member");
		_exit(5);
	}
	usleep(600000);
	all("master", m);
	ended("leader");
}

CASE(unprivileged, vhangup)
{
	pid_t p = fork();
	if (!p) {
		setsid(); /* or the terminal that the case has is hung up */
		R(vhangup());
		setuid(1000);
		R(vhangup());
		_exit(0);
	}
	waitpid(p, 0, 0);
}

CASES
