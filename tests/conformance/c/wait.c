/*
 * wait: wait4 and waitid: which child, in which state, what is filled in; SIGCHLD and its
 * flags; order of children; threads that wait; adoption; what is counted in RUSAGE_CHILDREN.
 */
#include "proc.h"
#include <limits.h>

static int *shared;
static char stack[65536] __attribute__((aligned(16)));

static pid_t exits(int code)
{
	pid_t p = fork();
	if (!p)
		_exit(code);
	return p;
}

static pid_t sleeps(void)
{
	pid_t p = fork();
	if (!p)
		for (;;)
			pause();
	return p;
}

static void info(const char *what, siginfo_t *i, pid_t p)
{
	say("%s: signo %d errno %d code %d status %d uid %d pid is its %d", what, i->si_signo, i->si_errno, i->si_code, i->si_status, i->si_uid, i->si_pid == p);
}

static void errors(void)
{
	int st;
	siginfo_t si;
	say("-- errors");
	SC(wait4, -1, 0, 0, 0); SC(wait4, -1, 0, WNOHANG, 0); SC(wait4, -1, 0, WEXITED, 0); SC(wait4, -1, 0, WNOWAIT, 0); SC(wait4, -1, 0, __WALL | __WCLONE | __WNOTHREAD, 0); SC(wait4, 0, 0, 0, 0); SC(wait4, INT_MIN, 0, 0, 0); SC(wait4, INT_MIN + 1, 0, 0, 0); SC(wait4, getpid(), 0, 0, 0); SC(wait4, 1, 0, 0, 0); SC(wait4, -1, 8, 0, 8);
	SC(waitid, P_ALL, 0, 0, 0, 0); SC(waitid, P_ALL, 0, 0, WNOHANG, 0); SC(waitid, P_ALL, 0, 0, WUNTRACED, 0); SC(waitid, P_ALL, 0, 8, WEXITED, 0); SC(waitid, P_ALL, -5, 0, WEXITED, 0); SC(waitid, P_PID, 0, 0, WEXITED, 0); SC(waitid, P_PID, -1, 0, WEXITED, 0); SC(waitid, P_PID, 99999, 0, WEXITED, 0);
	SC(waitid, P_PGID, 0, 0, WEXITED, 0); SC(waitid, P_PGID, -1, 0, WEXITED, 0); SC(waitid, P_PGID, 99999, 0, WEXITED, 0); SC(waitid, P_PGID, 1, 0, WEXITED, 0); SC(waitid, 4, 0, 0, WEXITED, 0); SC(waitid, -1, 0, 0, WEXITED, 0);
	SC(waitid, P_PIDFD, -1, 0, WEXITED, 0); SC(waitid, P_PIDFD, 99, 0, WEXITED, 0); SC(waitid, P_PIDFD, 1, 0, WEXITED, 0); SC(waitid, P_PIDFD, 99, 0, 0, 0);
	memset(&si, 0x55, sizeof si);
	SC(waitid, P_ALL, 0, &si, WEXITED, 0);
	R(si.si_signo); R(si.si_pid);
	pid_t p = exits(1);
	R(syscall(SYS_wait4, p, 8, 0, 0)); /* EFAULT after the child is gone */
	R(waitpid(p, &st, 0));
	p = exits(1);
	R(syscall(SYS_waitid, P_PID, p, 8, WEXITED, 0));
	R(waitpid(p, &st, 0));
	p = exits(1);
	R(syscall(SYS_waitid, P_PID, p, 0, WEXITED, 8));
	R(waitpid(p, &st, 0));
	p = exits(1);
	R(syscall(SYS_wait4, p, 0, 0, 8));
	R(waitpid(p, &st, 0));
	p = exits(1);
	R(syscall(SYS_waitid, P_PID, p, 0, WEXITED, 0));
}

static void states(void)
{
	int st;
	siginfo_t si;
	say("-- states");
	pid_t p = sleeps();
	memset(&si, 0x55, sizeof si);
	R(waitid(P_PID, p, &si, WEXITED | WSTOPPED | WCONTINUED | WNOHANG));
	info("nothing yet", &si, 0);
	R(waitpid(p, &st, WNOHANG | WUNTRACED | WCONTINUED));
	kill(p, SIGTSTP);
	R(waitid(P_PID, p, &si, WSTOPPED | WNOWAIT)); info("stopped", &si, p);
	R(waitid(P_PID, p, &si, WEXITED | WNOHANG)); info("WEXITED only", &si, 0);
	R(waitid(P_PID, p, &si, WSTOPPED | WEXITED | WCONTINUED)); info("again", &si, p);
	R(waitid(P_PID, p, &si, WSTOPPED | WNOHANG)); info("taken", &si, 0);
	kill(p, SIGSTOP); /* stopped already: nothing to tell */
	nap(20);
	R(waitid(P_PID, p, &si, WSTOPPED | WNOHANG)); info("stopped twice", &si, 0);
	kill(p, SIGCONT);
	R(waitid(P_PID, p, &si, WCONTINUED | WNOWAIT)); info("continued", &si, p);
	R(waitpid(p, &st, WNOHANG | WUNTRACED));
	R(waitpid(p, &st, WCONTINUED) == p); status("continued", st);
	R(waitpid(p, &st, WCONTINUED | WNOHANG));
	kill(p, SIGCONT); /* was not stopped */
	nap(20);
	R(waitpid(p, &st, WCONTINUED | WNOHANG));
	kill(p, SIGSTOP);
	R(waitpid(p, &st, WUNTRACED) == p); status("stopped", st);
	kill(p, SIGCONT);
	kill(p, SIGSTOP);
	R(waitpid(p, &st, WUNTRACED) == p); status("stopped anew", st);
	kill(p, SIGKILL);
	R(waitid(P_PID, p, &si, WEXITED | WNOWAIT)); info("killed", &si, p);
	R(waitid(P_PID, p, &si, WSTOPPED | WNOHANG)); info("a zombie has not stopped", &si, 0);
	R(waitid(P_PID, p, &si, WEXITED | WSTOPPED)); info("killed", &si, p);
	static const int sig[] = { SIGHUP, SIGSEGV, SIGABRT, SIGQUIT, SIGPIPE, SIGALRM, SIGUSR1, 34, 64, SIGXCPU };
	for (unsigned i = 0; i < sizeof sig / sizeof *sig; i++) {
		p = sleeps();
		kill(p, sig[i]);
		R(waitid(P_PID, p, &si, WEXITED | WNOWAIT)); info("by signal", &si, p);
		waitpid(p, &st, 0); status("status", st);
	}
	static const int code[] = { 0, 1, 127, 255, 256, -1, 0x7fffff };
	for (unsigned i = 0; i < sizeof code / sizeof *code; i++) {
		p = exits(code[i]);
		waitid(P_PID, p, &si, WEXITED | WNOWAIT); info("code", &si, p);
		waitpid(p, &st, 0); status("status", st);
	}
	IN_CHILD(st, setresuid(7, 7, 7); nap(1); _exit(0));
	p = fork();
	if (!p) {
		setresuid(7, 8, 9);
		raise(SIGSTOP);
		_exit(3);
	}
	R(waitid(P_PID, p, &si, WSTOPPED)); info("another user stopped", &si, p);
	kill(p, SIGCONT);
	R(waitid(P_PID, p, &si, WEXITED)); info("another user ended", &si, p);
}

static void order(void)
{
	siginfo_t si;
	int st;
	say("-- order");
	pid_t p[5];
	for (int i = 0; i < 5; i++)
		p[i] = exits(i);
	for (int i = 4; i >= 0; i--)
		while (waitid(P_PID, p[i], &si, WEXITED | WNOWAIT))
			;
	for (int i = 0; i < 5; i++) {
		pid_t q = wait(&st);
		say("wait %d: child %d exit %d", i, q == p[0] ? 0 : q == p[1] ? 1 : q == p[2] ? 2 : q == p[3] ? 3 : q == p[4] ? 4 : -1, WEXITSTATUS(st));
	}
	say("-- groups");
	pid_t a = exits(10), b = fork();
	if (!b) {
		setpgid(0, 0);
		_exit(11);
	}
	setpgid(b, b);
	waitid(P_PID, a, &si, WEXITED | WNOWAIT);
	waitid(P_PID, b, &si, WEXITED | WNOWAIT);
	R(waitpid(-b, &st, 0) == b); status("its group", st);
	R(waitpid(-b, &st, 0));
	R(waitid(P_PGID, getpgrp(), &si, WEXITED | WNOWAIT)); info("own group", &si, a);
	R(waitid(P_PGID, 0, &si, WEXITED)); info("group 0", &si, a);
	R(waitpid(0, &st, 0));
	b = fork();
	if (!b) {
		setpgid(0, 0);
		a = exits(12);
		R(waitid(P_PGID, 1, &si, WEXITED)); /* whose process 1 may be */
		R(waitid(P_PGID, getpgrp(), &si, WEXITED)); info("the child's group", &si, a);
		_exit(0);
	}
	waitpid(b, &st, 0); status("it", st);
}

static volatile sig_atomic_t chld;
static siginfo_t last;
static void on(int s, siginfo_t *i, void *c) { (void)s; (void)c; chld++; last = *i; }
static void handler(int flags)
{
	struct sigaction a = { .sa_sigaction = on, .sa_flags = SA_SIGINFO | flags };
	sigaction(SIGCHLD, &a, 0);
	chld = 0;
	memset(&last, 0, sizeof last);
}

static void until(int n)
{
	for (int i = 0; i < 200 && chld < n; i++)
		nap(5);
}

static void sigchld(void)
{
	int st;
	say("-- SIGCHLD");
	handler(SA_RESTART);
	pid_t p = exits(9);
	until(1);
	R(chld); info("exit", &last, p);
	R(waitpid(p, &st, 0) == p);
	handler(SA_RESTART);
	p = sleeps();
	kill(p, SIGSTOP); until(1); info("stop", &last, p);
	kill(p, SIGCONT); until(2); info("continue", &last, p);
	kill(p, SIGTERM); until(3); info("term", &last, p);
	R(chld);
	waitpid(p, &st, 0);
	handler(SA_RESTART | SA_NOCLDSTOP);
	p = sleeps();
	kill(p, SIGSTOP);
	R(waitpid(p, &st, WUNTRACED) == p);
	kill(p, SIGCONT);
	R(waitpid(p, &st, WCONTINUED) == p);
	R(chld);
	kill(p, SIGKILL); until(1);
	R(chld); info("kill", &last, p);
	waitpid(p, &st, 0);
	handler(SA_RESTART | SA_NOCLDWAIT);
	p = exits(1);
	until(1);
	R(waitpid(p, &st, 0)); R(chld); info("no wait", &last, p);
	struct sigaction ign = { .sa_handler = SIG_IGN };
	sigaction(SIGCHLD, &ign, 0);
	exits(1); exits(2);
	R(wait(&st)); /* waits for all to go, then ECHILD */
	p = sleeps();
	kill(p, SIGSTOP);
	R(waitpid(p, &st, WUNTRACED) == p); status("stopped though ignored", st);
	kill(p, SIGKILL);
	R(waitpid(p, &st, 0));
	/* A zombie from before stays. */
	signal(SIGCHLD, SIG_DFL);
	p = exits(5);
	siginfo_t si;
	waitid(P_PID, p, &si, WEXITED | WNOWAIT);
	signal(SIGCHLD, SIG_IGN);
	R(waitpid(p, &st, 0) == p); status("from before", st);
	signal(SIGCHLD, SIG_DFL);
	say("-- interrupted");
	handler(0);
	p = sleeps();
	pid_t q = exits(1);
	until(1);
	waitpid(q, &st, 0);
	struct sigaction al = { .sa_sigaction = on, .sa_flags = SA_SIGINFO };
	sigaction(SIGALRM, &al, 0);
	ualarm(20000, 0);
	R(waitpid(p, &st, 0));
	memset(&si, 0x55, sizeof si);
	ualarm(20000, 0);
	R(waitid(P_PID, p, &si, WEXITED)); R(si.si_signo == 0x55555555 || si.si_signo == 0);
	kill(p, SIGKILL);
	waitpid(p, &st, 0);
	signal(SIGCHLD, SIG_DFL);
}

static void *waits_nothread(void *arg)
{
	int st;
	R(waitpid(-1, &st, __WNOTHREAD | WNOHANG)); /* the other thread's child does not count */
	R(waitpid(*(pid_t *)arg, &st, __WNOTHREAD | WNOHANG));
	R(waitpid(*(pid_t *)arg, &st, 0) == *(pid_t *)arg);
	status("any thread waits", st);
	pid_t q = exits(33);
	R(waitpid(-1, &st, __WNOTHREAD) == q);
	shared[0] = sleeps();
	return arg;
}

static void threads(void)
{
	int st;
	say("-- threads");
	pid_t p = exits(31);
	pthread_t t;
	pthread_create(&t, 0, waits_nothread, &p);
	pthread_join(t, 0);
	nap(20); /* join ends before the thread has quite gone */
	/* Its child is a sibling's now. */
	kill(shared[0], SIGTERM);
	R(waitpid(shared[0], &st, __WNOTHREAD) == shared[0]);
	status("inherited from a thread", st);
}

static int pipes[2];
static void orphans(void)
{
	int st;
	char c;
	say("-- orphans");
	/* What the parts before this one have left behind is not to be adopted here. */
	nap(50);
	while (waitpid(-1, &st, WNOHANG) > 0)
		;
	R(prctl(PR_SET_CHILD_SUBREAPER, 1));
	pipe(pipes);
	pid_t p = fork();
	if (!p) {
		int v = 0;
		prctl(PR_GET_CHILD_SUBREAPER, &v);
		say("subreaper is not inherited: %d", v);
		if (!fork()) {
			read(pipes[0], &c, 1);
			nap(10);
			_exit(getppid() == shared[1] ? 41 : 42);
		}
		_exit(40);
	}
	shared[1] = getpid();
	R(waitpid(p, &st, 0) == p); status("parent", st);
	write(pipes[1], "x", 1);
	R(wait(&st) > 0); status("adopted", st);
	R(wait(&st));
	/* A zombie that its parent never waited for. */
	IN_CHILD(st, { siginfo_t si; pid_t z = exits(43); waitid(P_PID, z, &si, WEXITED | WNOWAIT); _exit(44); });
	status("parent", st);
	R(wait(&st) > 0); status("adopted zombie", st);
	/* A child with another signal than SIGCHLD is a SIGCHLD child once adopted. */
	p = fork();
	if (!p) {
		pid_t q = syscall(SYS_clone, SIGUSR1, 0, 0, 0, 0);
		if (!q) {
			read(pipes[0], &c, 1);
			_exit(45);
		}
		_exit(46);
	}
	R(waitpid(p, &st, 0) == p);
	write(pipes[1], "x", 1);
	R(wait(&st) > 0); status("adopted clone child", st);
	/* To the nearest subreaper, not to the farthest. */
	p = fork();
	if (!p) {
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		pid_t q = fork();
		if (!q) {
			if (!fork()) {
				nap(20);
				_exit(47);
			}
			_exit(0);
		}
		waitpid(q, &st, 0);
		R(wait(&st) > 0);
		status("nearest", st);
		_exit(0);
	}
	waitpid(p, &st, 0);
	R(wait(&st));
	say("-- PR_SET_PDEATHSIG");
	SC(prctl, PR_SET_PDEATHSIG, 65); SC(prctl, PR_SET_PDEATHSIG, -1); SC(prctl, PR_SET_PDEATHSIG, 64);
	int v = -1;
	SC(prctl, PR_GET_PDEATHSIG, &v); R(v);
	IN_CHILD(st, { int w = -1; prctl(PR_GET_PDEATHSIG, &w); _exit(w); });
	status("not inherited by fork", st);
	R(prctl(PR_SET_PDEATHSIG, 0));
	p = fork();
	if (!p) {
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, SIGUSR1);
			sigset_t s;
			sigemptyset(&s);
			sigaddset(&s, SIGUSR1);
			sigprocmask(SIG_BLOCK, &s, 0);
			write(pipes[1], "y", 1);
			siginfo_t si;
			sigwaitinfo(&s, &si);
			say("death signal: signo %d code %d pid is the parent's %d uid %d", si.si_signo, si.si_code, si.si_pid == shared[2], si.si_uid);
			_exit(48);
		}
		shared[2] = getpid();
		read(pipes[0], &c, 1);
		_exit(0);
	}
	waitpid(p, &st, 0);
	R(wait(&st) > 0); status("told", st);
	R(prctl(PR_SET_CHILD_SUBREAPER, 0));
}

/* PR_SET_PDEATHSIG goes by the thread that forked. */
static void *forks_and_ends(void *p)
{
	pid_t q = fork();
	if (!q) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		shared[3] = 1;
		for (;;)
			pause();
	}
	shared[4] = q;
	while (!shared[3])
		nap(1);
	return p;
}

static void threaddeath(void)
{
	int st;
	say("-- death of the thread that forked");
	pthread_t t;
	pthread_create(&t, 0, forks_and_ends, 0);
	pthread_join(t, 0);
	R(waitpid(shared[4], &st, 0) == shared[4]);
	status("child of an ended thread", st);
}

static void burn(int ms)
{
	struct timespec a, b;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	do
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	while ((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 < ms);
}

static long ms(struct rusage *u) { return u->ru_utime.tv_sec * 1000 + u->ru_utime.tv_usec / 1000 + u->ru_stime.tv_sec * 1000 + u->ru_stime.tv_usec / 1000; }

static void usage(void)
{
	int st;
	struct rusage u, c0, c1;
	say("-- usage");
	getrusage(RUSAGE_CHILDREN, &c0);
	pid_t p = fork();
	if (!p) {
		IN_CHILD(st, burn(60));
		_exit(0);
	}
	siginfo_t si;
	R(syscall(SYS_waitid, P_PID, p, &si, WEXITED | WNOWAIT, &u));
	getrusage(RUSAGE_CHILDREN, &c1);
	IS(ms(&c1) - ms(&c0) == 0); /* not waited for yet */
	R(wait4(p, &st, 0, &u) == p);
	IS(ms(&u) >= 50); /* with what it waited for */
	getrusage(RUSAGE_CHILDREN, &c1);
	IS(ms(&c1) - ms(&c0) >= 50); IS(c1.ru_maxrss > 0); IS(c1.ru_minflt > c0.ru_minflt);
	/* A child that nobody waits for is not counted. */
	getrusage(RUSAGE_CHILDREN, &c0);
	signal(SIGCHLD, SIG_IGN);
	p = fork();
	if (!p) {
		burn(60);
		_exit(0);
	}
	R(waitpid(p, &st, 0));
	getrusage(RUSAGE_CHILDREN, &c1);
	IS(ms(&c1) - ms(&c0) < 20);
	signal(SIGCHLD, SIG_DFL);
	/* The largest child counts for maxrss. */
	IN_CHILD(st, memset(malloc(20 << 20), 1, 20 << 20));
	getrusage(RUSAGE_CHILDREN, &c1);
	IS(c1.ru_maxrss >= 20 << 10);
	IN_CHILD(st, ;);
	getrusage(RUSAGE_CHILDREN, &c0);
	IS(c0.ru_maxrss == c1.ru_maxrss);
	p = sleeps();
	kill(p, SIGSTOP);
	memset(&u, 0x55, sizeof u);
	R(wait4(p, &st, WUNTRACED, &u) == p);
	IS(u.ru_maxrss > 0 && u.ru_maxrss < 1 << 20);
	kill(p, SIGKILL);
	R(wait4(p, &st, 0, &u) == p);
	memset(&u, 0x55, sizeof u);
	R(wait4(-1, &st, WNOHANG, &u)); R(u.ru_nvcsw == 0x5555555555555555);
	R(getrusage(2, &u)); R(getrusage(-2, &u)); R(getrusage(RUSAGE_THREAD, &u));
}

/* Threads and the end of a process. */
static void *ends_last(void *p) { nap(40); _exit(61); return p; }
static void *ends_when_told(void *p) { char c; read(pipes[0], &c, 1); _exit(61); return p; }
static void *ends_thread(void *p) { nap(40); return p; }

static void *sleeper_(void *p) { for (;;) pause(); return p; }
static void leaders(void)
{
	int st;
	siginfo_t si;
	say("-- leaders");
	pthread_t t;
	pipe(pipes);
	pid_t p = fork();
	if (!p) {
		pthread_create(&t, 0, ends_when_told, 0);
		syscall(SYS_exit, 60);
	}
	nap(10);
	R(waitpid(p, &st, WNOHANG));
	write(pipes[1], "", 1);
	R(waitpid(p, &st, 0) == p); status("a thread ended it", st);
	p = fork();
	if (!p) {
		pthread_create(&t, 0, ends_thread, 0);
		syscall(SYS_exit, 63);
	}
	R(waitpid(p, &st, 0) == p); status("the leader's code", st);
	p = fork();
	if (!p) {
		pthread_create(&t, 0, ends_last, 0);
		pthread_create(&t, 0, ends_thread, 0);
		raise(SIGSTOP);
		for (;;)
			pause();
	}
	R(waitid(P_PID, p, &si, WSTOPPED)); info("all threads stop", &si, p);
	nap(100);
	R(waitpid(p, &st, WNOHANG));
	kill(p, SIGCONT);
	R(waitpid(p, &st, 0) == p); status("then end", st);
	p = fork();
	if (!p) { /* the leader is gone, the rest stops, goes on and is killed */
		pthread_create(&t, 0, ends_thread, 0);
		for (int i = 0; i < 3; i++)
			pthread_create(&t, 0, (void *(*)(void *))sleeper_, 0);
		syscall(SYS_exit, 64);
	}
	nap(80);
	kill(p, SIGSTOP);
	R(waitpid(p, &st, WUNTRACED) == p); status("stopped without a leader", st);
	kill(p, SIGCONT);
	R(waitpid(p, &st, WCONTINUED) == p); status("continued", st);
	kill(p, SIGTERM);
	R(waitpid(p, &st, 0) == p); status("killed", st);
}

static void all(void)
{
	errors();
	states();
	order();
	sigchld();
	threads();
	orphans();
	threaddeath();
	usage();
	leaders();
}

int main(void)
{
	shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return family(all);
}
