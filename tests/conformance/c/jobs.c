/*
 * jobs: kill and its kin, process groups and sessions, stops of processes with threads,
 * orphaned groups, who may signal whom.
 */
#include "proc.h"

static int *shared;
static long tgkill_(int p, int s) { return syscall(SYS_tgkill, p, p, s); }
static pid_t sleeps(void)
{
	pid_t p = fork();
	if (!p)
		for (;;)
			pause();
	return p;
}

static void end(pid_t p) { int st; kill(p, SIGKILL); waitpid(p, &st, 0); }

static void kills(void)
{
	int st;
	say("-- kill");
	pid_t p = sleeps();
	SC(kill, p, 0); SC(kill, p, -1); SC(kill, p, 65); SC(kill, p, 64 + 1000); SC(kill, 99999, 0); SC(kill, 99999, 65); SC(kill, -99999, 0); SC(kill, -99999, 65); SC(kill, -2147483648, 0); SC(kill, 0, 65); SC(kill, 0, 0); SC(kill, -getpgrp(), 0);
	SC(tkill, p, 0); SC(tkill, 0, 0); SC(tkill, -1, 0); SC(tkill, 99999, 0); SC(tkill, p, 65); SC(tgkill, p, p, 0); SC(tgkill, getpid(), p, 0); SC(tgkill, -1, p, 0); SC(tgkill, p, -1, 0); SC(tgkill, p, p, 65); SC(tgkill, p, p, -1); SC(tgkill, 99999, p, 65);
	siginfo_t si = { .si_code = SI_QUEUE };
	SC(rt_sigqueueinfo, 99999, 10, &si); SC(rt_sigqueueinfo, p, 0, &si); SC(rt_sigqueueinfo, p, 65, &si); SC(rt_sigqueueinfo, p, 10, 8); SC(rt_tgsigqueueinfo, p, p, 0, &si); SC(rt_tgsigqueueinfo, p, -1, 0, &si); SC(rt_tgsigqueueinfo, getpid(), p, 0, &si); si.si_code = SI_USER; SC(rt_sigqueueinfo, p, 0, &si); SC(rt_tgsigqueueinfo, p, p, 0, &si); SC(rt_sigqueueinfo, getpid(), 0, &si); SC(rt_sigqueueinfo, 99999, 0, &si);
	end(p);
	say("-- who may");
	p = fork();
	if (!p) {
		setresuid(1000, 1001, 1002);
		shared[0] = 1;
		for (;;)
			pause();
	}
	while (!shared[0])
		nap(1);
	static const int ids[][3] = { { 1000, 1000, 1000 }, { 1001, 1001, 1001 }, { 1002, 1002, 1002 }, { 1003, 1003, 1003 }, { 1003, 1000, 1003 }, { 1003, 1002, 1003 }, { 1003, 1001, 1003 }, { 1000, 1003, 1003 }, { 1002, 1003, 1003 }, { 1001, 1003, 1003 }, { 1003, 1003, 1000 } };
	for (unsigned i = 0; i < sizeof ids / sizeof *ids; i++)
		IN_CHILD(st, {
			setresuid(ids[i][0], ids[i][1], ids[i][2]);
			errno = 0;
			int r = kill(p, 0), e = errno;
			int q = kill(p, SIGCONT); /* same session */
			setsid();
			int q2 = kill(p, SIGCONT);
			say("%d %d %d: %d %s, SIGCONT %d, from another session %d", ids[i][0], ids[i][1], ids[i][2], r, errname(e), q, q2);
		});
	IN_CHILD(st, setresuid(1003, 1003, 1003); R(kill(p, SIGTERM)); R(kill(-getpgrp(), 0)); R(tgkill_(p, 0)); R(kill(getppid(), 0)); R(kill(1, 0)); R(kill(99999, 0)));
	end(p);
	siginfo_t i;
	p = fork();
	if (!p) {
		setresuid(1000, 1000, 1000);
		_exit(0);
	}
	waitid(P_PID, p, &i, WEXITED | WNOWAIT);
	R(kill(p, 0)); R(kill(p, SIGKILL)); R(tgkill_(p, 0));
	IN_CHILD(st, setresuid(1003, 1003, 1003); R(kill(p, 0)); R(kill(p, SIGTERM)));
	waitpid(p, &st, 0);
	R(kill(p, 0));
	say("-- groups");
	pid_t a = fork();
	if (!a) {
		setpgid(0, 0);
		pid_t b = sleeps();
		shared[1] = b;
		for (;;)
			pause();
	}
	while (!shared[1])
		nap(1);
	R(kill(-a, 0)); R(kill(-a, SIGTERM)); waitpid(a, &st, 0); status("leader", st);
	nap(20);
	R(kill(-a, 0)); R(kill(shared[1], 0));
	IN_CHILD(st, { /* one of a group may be signalled: no error */
		setpgid(0, 0);
		pid_t q = fork();
		if (!q) { setresuid(1000, 1000, 1000); shared[30] = 1; for (;;) pause(); }
		while (!shared[30]) nap(1);
		pid_t q2 = fork();
		if (!q2) { setresuid(1000, 1000, 1000); R(kill(-getpgrp(), SIGWINCH)); R(kill(0, SIGWINCH)); _exit(0); }
		waitpid(q2, &st, 0);
		q2 = fork();
		if (!q2) { setpgid(0, 0); setresuid(1000, 1000, 1000); R(kill(-getppid(), 0)); _exit(0); }
		waitpid(q2, &st, 0);
		kill(q, SIGKILL); wait(&st);
	});
}

static void pgids(void)
{
	int st, pp[2], back[2];
	char c;
	say("-- setpgid");
	SC(setpgid, 0, -1); SC(setpgid, -1, 0); SC(setpgid, 99999, 0); SC(setpgid, 1, 0); SC(setpgid, 0, 99999); SC(getpgid, -1); SC(getpgid, 99999); SC(getsid, -1); SC(getsid, 99999);
	pid_t p = sleeps();
	IS(getpgid(p) == getpgrp()); IS(getsid(p) == getsid(0)); R(setpgid(p, 0)); IS(getpgid(p) == p); R(setpgid(p, p)); R(setpgid(0, p)); IS(getpgrp() == p); R(setpgid(0, 0)); R(setpgid(p, getpid())); IS(getpgid(p) == getpid());
	IN_CHILD(st, R(setpgid(p, 0)); R(setpgid(getppid(), 0)));
	end(p);
	R(setpgid(p, 0));
	p = fork();
	if (!p) {
		siginfo_t si;
		_exit(0);
	}
	siginfo_t si;
	waitid(P_PID, p, &si, WEXITED | WNOWAIT);
	R(setpgid(p, p)); IS(getpgid(p) == p); IS(getsid(p) == getsid(0)); /* zombies have groups */
	waitpid(p, &st, 0);
	pipe(pp); pipe(back);
	p = fork();
	if (!p) {
		dup2(pp[0], 50); dup2(back[1], 51);
		execl("/proc/self/exe", "jobs", "hold", (char *)0);
		_exit(1);
	}
	read(back[0], &c, 1);
	R(setpgid(p, p)); R(setpgid(p, getpgrp())); /* after its exec */
	write(pp[1], "x", 1);
	waitpid(p, &st, 0); status("held", st);
	say("-- setsid");
	IN_CHILD(st, {
		R(setpgid(0, 0)); R(setsid());
		pid_t q = fork();
		if (!q) {
			R(setsid() == getpid()); IS(getpgrp() == getpid()); IS(getsid(0) == getpid()); R(setsid()); R(setpgid(0, 0)); R(setpgid(0, getppid()));
			pid_t k = sleeps();
			R(setpgid(k, 0)); IS(getsid(k) == getpid());
			IN_CHILD(st, R(setpgid(0, k)));
			kill(k, SIGKILL);
			_exit(0);
		}
		waitpid(q, &st, 0);
		q = fork();
		if (!q) { setsid(); shared[2] = 1; for (;;) pause(); }
		while (!shared[2]) nap(1);
		R(setpgid(q, q)); R(setpgid(q, getpgrp())); R(setpgid(0, q));
		kill(q, SIGKILL);
	});
	/* A number stays a group's while a member lives. */
	IN_CHILD(st, {
		pid_t l = fork();
		if (!l) { setpgid(0, 0); shared[3] = 0; pid_t m = sleeps(); shared[3] = m; _exit(0); }
		waitpid(l, &st, 0);
		IS(getpgid(shared[3]) == l); R(setpgid(0, l)); IS(getpgrp() == l); R(kill(-l, 0));
		kill(shared[3], SIGKILL);
	});
}

static volatile sig_atomic_t hups, conts;
static void on(int s) { if (s == SIGHUP) shared[10]++; else shared[11]++; }

static void orphans(void)
{
	int st;
	say("-- orphaned groups");
	/* The parent of a stopped job ends: SIGHUP, then SIGCONT. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	shared[10] = shared[11] = shared[12] = 0;
	pid_t shell = fork();
	if (!shell) {
		setsid();
		pid_t job = fork();
		if (!job) {
			setpgid(0, 0);
			signal(SIGHUP, on); signal(SIGCONT, on);
			shared[12] = getpid();
			raise(SIGSTOP);
			nap(10);
			_exit(50 + shared[10] * 2 + shared[11]);
		}
		waitpid(job, &st, WUNTRACED);
		_exit(0);
	}
	waitpid(shell, &st, 0); status("shell", st);
	R(wait(&st) == shared[12]); status("stopped job", st);
	/* A running job gets nothing. */
	shared[10] = shared[11] = shared[12] = 0;
	shell = fork();
	if (!shell) {
		setsid();
		pid_t job = fork();
		if (!job) {
			setpgid(0, 0);
			signal(SIGHUP, on); signal(SIGCONT, on);
			shared[12] = getpid();
			nap(60);
			_exit(50 + shared[10] * 2 + shared[11]);
		}
		while (!shared[12]) nap(1);
		_exit(0);
	}
	waitpid(shell, &st, 0);
	R(wait(&st) == shared[12]); status("running job", st);
	/* A group of two: the member's end orphans the stopped one. */
	shared[12] = 0;
	shell = fork();
	if (!shell) {
		setsid();
		pid_t link = fork();
		if (!link) { /* in the session's first group, parent of the job */
			pid_t job = fork();
			if (!job) {
				setpgid(0, 0);
				shared[12] = getpid();
				raise(SIGSTOP);
				_exit(1);
			}
			waitpid(job, &st, WUNTRACED);
			_exit(0);
		}
		waitpid(link, &st, 0);
		nap(30);
		_exit(7);
	}
	waitpid(shell, &st, 0); status("leader", st);
	R(wait(&st) == shared[12]); status("job without a parent in its session", st);
	/* Terminal stops do nothing in an orphaned group, SIGSTOP does. */
	IN_CHILD(st, {
		setsid();
		raise(SIGTSTP); raise(SIGTTIN); raise(SIGTTOU);
		_exit(3);
	});
	status("SIGTSTP in an orphaned group", st);
	pid_t p = fork();
	if (!p) {
		setsid();
		raise(SIGSTOP);
		_exit(4);
	}
	R(waitpid(p, &st, WUNTRACED) == p); status("SIGSTOP in an orphaned group", st);
	R(kill(p, SIGCONT));
	waitpid(p, &st, 0); status("then", st);
	p = fork();
	if (!p) {
		raise(SIGTSTP);
		_exit(5);
	}
	R(waitpid(p, &st, WUNTRACED) == p); status("SIGTSTP in this group", st);
	kill(p, SIGCONT);
	waitpid(p, &st, 0); status("then", st);
	prctl(PR_SET_CHILD_SUBREAPER, 0);
}

static volatile long work[4];
static void *works(void *p) { for (;;) work[(long)p]++; return p; }
static void *naps(void *p) { for (;;) nap(1), shared[20 + (long)p]++; return p; }

static void stops(void)
{
	int st;
	say("-- stops");
	pid_t p = fork();
	if (!p) {
		pthread_t t;
		for (long i = 0; i < 3; i++)
			pthread_create(&t, 0, naps, (void *)i);
		for (;;)
			shared[23]++;
	}
	nap(30);
	R(kill(p, SIGSTOP)); R(waitpid(p, &st, WUNTRACED) == p); status("with threads", st);
	int before[4], moved = 0;
	memcpy(before, shared + 20, sizeof before);
	nap(50);
	for (int i = 0; i < 4; i++)
		moved += before[i] != shared[20 + i];
	R(moved);
	R(kill(p, SIGCONT)); R(waitpid(p, &st, WCONTINUED) == p); status("goes on", st);
	for (int n = moved = 0; moved < 3 && n < 100; n++) { /* on a busy host it takes a while */
		nap(50);
		for (int i = moved = 0; i < 3; i++)
			moved += before[i] != shared[20 + i];
	}
	R(moved);
	R(kill(p, SIGSTOP)); waitpid(p, &st, WUNTRACED);
	R(kill(p, SIGTERM)); nap(20); R(waitpid(p, &st, WNOHANG)); /* waits for SIGCONT */
	R(kill(p, SIGCONT)); R(waitpid(p, &st, 0) == p); status("terminated after the stop", st);
	p = sleeps();
	kill(p, SIGSTOP); waitpid(p, &st, WUNTRACED);
	R(kill(p, SIGKILL)); R(waitpid(p, &st, 0) == p); status("killed in the stop", st);
	p = fork();
	if (!p) {
		signal(SIGTSTP, SIG_IGN); raise(SIGTSTP);
		signal(SIGTSTP, SIG_DFL);
		sigset_t s; sigemptyset(&s); sigaddset(&s, SIGTSTP); sigaddset(&s, SIGCONT); sigprocmask(SIG_BLOCK, &s, 0);
		raise(SIGTSTP);
		sigpending(&s); R(sigismember(&s, SIGTSTP));
		raise(SIGCONT); /* takes the stop away though blocked */
		sigpending(&s); R(sigismember(&s, SIGTSTP)); R(sigismember(&s, SIGCONT));
		raise(SIGTSTP);
		sigpending(&s); R(sigismember(&s, SIGTSTP)); R(sigismember(&s, SIGCONT));
		_exit(6);
	}
	waitpid(p, &st, 0); status("blocked stops", st);
	/* A handler of SIGCONT runs when the process goes on. */
	shared[11] = 0;
	p = fork();
	if (!p) {
		signal(SIGCONT, on);
		raise(SIGSTOP);
		_exit(60 + shared[11]);
	}
	waitpid(p, &st, WUNTRACED);
	kill(p, SIGCONT);
	waitpid(p, &st, 0); status("SIGCONT handler", st);
	/* A system call that a stop interrupts goes on or is interrupted as Linux has it. */
	int pp[2];
	pipe(pp);
	p = fork();
	if (!p) {
		struct timespec t = { 0, 150000000 };
		char c;
		R(nanosleep(&t, 0));
		R(read(pp[0], &c, 1));
		R(poll(&(struct pollfd){ pp[0], POLLIN, 0 }, 1, 150));
		_exit(8);
	}
	nap(20); kill(p, SIGSTOP); waitpid(p, &st, WUNTRACED); nap(10); kill(p, SIGCONT); nap(250);
	kill(p, SIGSTOP); waitpid(p, &st, WUNTRACED); kill(p, SIGCONT); nap(20); write(pp[1], "x", 1); nap(20);
	kill(p, SIGSTOP); waitpid(p, &st, WUNTRACED); kill(p, SIGCONT);
	waitpid(p, &st, 0); status("calls", st);
}

static void all(void)
{
	kills();
	pgids();
	orphans();
	stops();
}

int main(int argc, char **argv)
{
	char c;
	if (argc > 1) {
		write(51, "x", 1);
		read(50, &c, 1);
		return 17;
	}
	shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return family(all);
}
