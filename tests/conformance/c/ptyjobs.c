/* Terminals and processes: controlling terminals, signals of keys, background reads and writes, orphaned groups, hang-up, packet mode. */
#include "pty.h"

static volatile int got[65];
static void count(int sig) { got[sig]++; }

static void catch(int sig)
{
	struct sigaction a = { .sa_handler = count };
	sigaction(sig, &a, 0);
}

/* tell and ask synchronise parent and child over pipes. */
static int up[2], down[2];
static void tell(int fd) { write(fd, "x", 1); }
static int ask(int fd)
{
	char c;
	int r;
	while ((r = read(fd, &c, 1)) < 0 && errno == EINTR)
		;
	return r;
}

static const char *how(int st)
{
	static char b[40];
	if (WIFSTOPPED(st))
		sprintf(b, "stopped %d", WSTOPSIG(st));
	else if (WIFSIGNALED(st))
		sprintf(b, "signal %d", WTERMSIG(st));
	else if (WIFCONTINUED(st))
		sprintf(b, "continued");
	else
		sprintf(b, "exit %d", WEXITSTATUS(st));
	return b;
}

static void reap(const char *what, pid_t p, int flags)
{
	int st = 0;
	pid_t r = waitpid(p, &st, flags);
	say("%s: %s", what, r == p ? how(st) : r == 0 ? "nothing" : errname(errno));
}

/* session runs f as the leader of a session on a new pty; the parent runs g beside it. */
static void session(const char *what, void (*f)(void), void (*g)(pid_t))
{
	say("--- %s", what);
	pipe(up);
	pipe(down);
	pair();
	pid_t p = fork();
	if (p == 0) {
		close(m);
		setsid();
		MUST(ioctl(s, TIOCSCTTY, 0));
		f();
		_exit(0);
	}
	g(p);
	reap(what, p, 0);
	close(s);
	close(m);
	for (int i = 0; i < 2; i++)
		close(up[i]), close(down[i]);
}

static void keys(void)
{
	int sigs[] = { SIGINT, SIGQUIT, SIGTSTP, SIGWINCH };
	for (int i = 0; i < 4; i++)
		catch(sigs[i]);
	pid_t g;
	IS(ioctl(s, TIOCGSID, &g) == 0 && g == getpid());
	IS(tcgetpgrp(s) == getpid());
	tell(up[1]);
	for (int i = 0; i < 8; i++) {
		ask(down[0]);
		say("int %d quit %d tstp %d winch %d", got[SIGINT], got[SIGQUIT], got[SIGTSTP], got[SIGWINCH]);
		tell(up[1]);
	}
	modes(0, 0, 0, 0, ISIG, 0);
	tell(up[1]);
	ask(down[0]);
	all("without isig", s);
	modes(0, 0, 0, 0, 0, ISIG | NOFLSH);
	tell(up[1]);
	ask(down[0]);
	all("noflsh", s);
	say("int %d", got[SIGINT]);
	say("%d", isatty(open("/dev/tty", O_RDWR)));
}

static void step(void)
{
	usleep(30000);
	tell(down[1]);
	ask(up[0]);
}

static void keys2(pid_t p)
{
	struct winsize w = { 10, 20 };
	ask(up[0]);
	put(m, "half\003"); step();
	put(m, "\034"); step();
	put(m, "\032"); step();
	ioctl(m, TIOCSWINSZ, &w); step();
	ioctl(m, TIOCSWINSZ, &w); step();
	R(ioctl(m, TIOCSIG, SIGINT)); step();
	R(ioctl(m, TIOCSIG, SIGTSTP)); step();
	put(m, "\n"); step();
	ask(up[0]);
	all("echo", m);
	pid_t g;
	IS(ioctl(m, TIOCGPGRP, &g) == 0 && g == p);
	IS(ioctl(m, TIOCGSID, &g) == 0 && g == p);
	R(ioctl(m, TIOCSPGRP, &g));
	R(ioctl(s, TIOCGPGRP, &g));
	put(m, "\003\n");
	usleep(30000);
	tell(down[1]);
	ask(up[0]);
	put(m, "ab\003c\n");
	usleep(30000);
	tell(down[1]);
}

/* background: a group that is not in the foreground */
static void background(void)
{
	int st;
	char c;
	signal(SIGTTOU, SIG_IGN);
	pid_t p = fork();
	if (p == 0) {
		setpgid(0, 0);
		signal(SIGTTOU, SIG_DFL);
		say("read %d", (int)read(s, &c, 1));
		_exit(1);
	}
	setpgid(p, p);
	reap("background read", p, WUNTRACED);
	R(tcsetpgrp(s, p));
	kill(-p, SIGCONT);
	tell(up[1]); /* types a byte */
	reap("in the foreground", p, WUNTRACED);
	R(tcsetpgrp(s, getpgrp()));
	for (int how = 0; how < 6; how++) {
		p = fork();
		if (p == 0) {
			setpgid(0, 0);
			signal(SIGTTOU, how == 1 || how == 4 ? SIG_IGN : SIG_DFL);
			signal(SIGTTIN, how == 1 ? SIG_IGN : SIG_DFL);
			if (how == 0)
				R(write(s, "no tostop\n", 10));
			if (how == 1)
				R(read(s, &c, 1));
			if (how == 2 || how == 4) {
				struct termios t;
				tcgetattr(s, &t);
				t.c_lflag |= TOSTOP;
				R(tcsetattr(s, TCSANOW, &t));
			}
			if (how == 3)
				R(tcsetpgrp(s, getpgrp()));
			if (how == 5)
				R(write(s, "tostop\n", 7));
			_exit(how);
		}
		setpgid(p, p);
		char w[20];
		sprintf(w, "case %d", how);
		reap(w, p, WUNTRACED);
		kill(-p, SIGKILL);
		waitpid(p, 0, 0);
	}
	/* ^Z stops the foreground, the leader goes on */
	p = fork();
	if (p == 0) {
		setpgid(0, 0);
		tcsetpgrp(s, getpgrp());
		tell(up[1]);
		pause();
	}
	reap("suspended", p, WUNTRACED);
	R(tcsetpgrp(s, getpgrp()));
	kill(-p, SIGCONT);
	reap("continued", p, WCONTINUED);
	kill(-p, SIGTERM);
	reap("ended", p, 0);
	/* a group nobody could continue: stops of the terminal are not for it */
	int gone[2], over[2];
	pipe(gone);
	pipe(over);
	p = fork();
	if (p == 0) {
		pid_t q = fork();
		if (q == 0) {
			setpgid(0, 0);
			ask(gone[0]);
			R(read(s, &c, 1));
			raise(SIGTSTP);
			say("not stopped");
			tell(over[1]);
			_exit(0);
		}
		_exit(0);
	}
	reap("parent of the orphan", p, 0);
	tell(gone[1]);
	ask(over[0]);
}

static void background2(pid_t p)
{
	ask(up[0]);
	put(m, "x\n");
	ask(up[0]);
	usleep(50000);
	put(m, "\032");
}

/* the leader ends: SIGHUP for the foreground, descriptors live on, the terminal is free */
static void leader(void)
{
	pid_t p = fork();
	if (p == 0) {
		setpgid(0, 0);
		catch(SIGHUP);
		catch(SIGCONT);
		tell(down[1]);
		while (!got[SIGHUP])
			usleep(1000);
		usleep(50000);
		say("foreground: hup %d cont %d", got[SIGHUP], got[SIGCONT]);
		R(open("/dev/tty", O_RDWR));
		R(write(s, "still there\n", 12));
		pid_t g;
		R(ioctl(s, TIOCGPGRP, &g));
		tell(up[1]);
		_exit(0);
	}
	setpgid(p, p);
	R(tcsetpgrp(s, p));
	ask(down[0]);
	_exit(7);
}
static void leader2(pid_t p)
{
	ask(up[0]);
	all("master", m);
	pid_t g;
	R(ioctl(m, TIOCGSID, &g));
}

/* the leader lets go */
static void notty(void)
{
	catch(SIGHUP);
	catch(SIGCONT);
	R(ioctl(s, TIOCNOTTY));
	say("hup %d cont %d", got[SIGHUP], got[SIGCONT]);
	R(ioctl(s, TIOCNOTTY));
	R(open("/dev/tty", O_RDWR));
	pid_t g;
	R(ioctl(s, TIOCGPGRP, &g));
	R(tcsetpgrp(s, getpgrp()));
	/* and takes it again by opening it */
	int n = open(ttyname(s), O_RDWR);
	IS(n >= 0 && tcgetpgrp(n) == getpgrp());
}
static void nothing(pid_t p) { }

/* the master closes */
static void hungup(void)
{
	char c;
	int told[2];
	pipe(told);
	catch(SIGHUP);
	catch(SIGCONT);
	pid_t p = fork();
	if (p == 0) {
		setpgid(0, 0);
		got[SIGHUP] = got[SIGCONT] = 0;
		tell(told[1]);
		ask(down[0]);
		say("member: hup %d cont %d", got[SIGHUP], got[SIGCONT]);
		R(read(s, &c, 1));
		R(write(s, "x", 1));
		R(open("/dev/tty", O_RDWR));
		tell(told[1]);
		for (int i = 0; i < 5000 && !(got[SIGHUP] && got[SIGCONT]); i++)
			usleep(1000);
		say("member after the leader: hup %d cont %d", got[SIGHUP], got[SIGCONT]);
		tell(up[1]);
		_exit(0);
	}
	setpgid(p, p);
	ask(told[0]);
	signal(SIGTTOU, SIG_IGN);
	tcsetpgrp(s, p);
	tell(up[1]);
	while (!got[SIGHUP])
		usleep(1000);
	usleep(10000);
	say("leader: hup %d cont %d", got[SIGHUP], got[SIGCONT]);
	R(open("/dev/tty", O_RDWR));
	R(tcgetpgrp(s));
	tell(down[1]);
	ask(told[0]);
	_exit(3);
}
static void hungup2(pid_t p)
{
	ask(up[0]);
	close(m);
	ask(up[0]);
	m = open("/dev/null", O_RDWR);
}

/* a blocked reader is woken by the end of the other side */
static void blocked(void)
{
	char c;
	signal(SIGHUP, SIG_IGN);
	tell(up[1]);
	R(read(s, &c, 1));
}
static void blocked2(pid_t p)
{
	ask(up[0]);
	usleep(50000);
	close(m);
	m = open("/dev/null", O_RDWR);
}

static void packet(void)
{
	int v = 1;
	char b[100];
	say("--- packet mode");
	pair();
	R(ioctl(m, TIOCPKT, &v));
	R(ioctl(m, 0x80045438, &v)); /* TIOCGPKT */
	say("packet %d", v);
	events("nothing", m);
	put(s, "data\n");
	one("data", m, 100);
	put(s, "data");
	one("short", m, 3);
	one("short", m, 1);
	one("short", m, 100);
	one("nothing", m, 100);
	tcflow(s, TCOOFF);
	events("stop", m);
	one("stop", m, 100);
	tcflow(s, TCOON);
	one("start", m, 100);
	tcflush(s, TCIFLUSH);
	one("flush input", m, 100);
	tcflush(s, TCOFLUSH);
	one("flush output", m, 100);
	tcflush(s, TCIOFLUSH);
	one("flush both", m, 100);
	modes(IXON, 0, 0, 0, 0, 0);
	one("no stop keys", m, 100);
	modes(0, IXON, 0, 0, 0, 0);
	one("stop keys", m, 100);
	modes(0, 0, 0, 0, 0, EXTPROC);
	one("extproc", m, 100);
	modes(0, 0, 0, 0, EXTPROC | ECHO, 0);
	one("no extproc", m, 100);
	modes(0, 0, 0, 0, ICANON, 0);
	one("no icanon", m, 100);
	put(m, "\003");
	one("interrupt", m, 100);
	put(s, "before");
	tcflow(s, TCOOFF);
	one("status first", m, 100);
	one("then data", m, 100);
	v = 0;
	R(ioctl(m, TIOCPKT, &v));
	tcflow(s, TCOON);
	put(s, "plain");
	one("plain", m, 100);
	unpair();
}

int main(void)
{
	setvbuf(stdout, 0, _IONBF, 0);
	pts();
	session("keys", keys, keys2);
	session("background", background, background2);
	session("leader", leader, leader2);
	session("notty", notty, nothing);
	session("hungup", hungup, hungup2);
	session("blocked", blocked, blocked2);
	packet();
	return 0;
}
