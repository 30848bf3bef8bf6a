/* ptraceevent: PTRACE_O_* events, what children of tracees are, threads, exec, exit, seccomp. */
#include "ptrace.h"

static void forks(void)
{
	pid_t p = fork();
	if (!p)
		_exit(4);
	waitpid(p, 0, 0);
}

static void vforks(void)
{
	pid_t p = vfork();
	if (!p)
		_exit(5);
	waitpid(p, 0, 0);
}

static void clones(void)
{
	/* First: it would take away a SIGUSR1 that has come. Who is traced gets what it ignores. */
	signal(SIGUSR1, SIG_IGN);
	pid_t p = syscall(SYS_clone, SIGUSR1, 0, 0, 0, 0);
	if (!p)
		_exit(6);
	waitpid(p, 0, __WALL);
}

static void clones_ptrace(void)
{
	pid_t p = syscall(SYS_clone, SIGCHLD | CLONE_PTRACE, 0, 0, 0, 0);
	if (!p)
		_exit(6);
	waitpid(p, 0, __WALL);
}

static void clones_untraced(void)
{
	pid_t p = syscall(SYS_clone, SIGCHLD | CLONE_UNTRACED, 0, 0, 0, 0);
	if (!p)
		_exit(6);
	waitpid(p, 0, __WALL);
}

/* child follows the event of a new child to its end. */
static void child(pid_t p)
{
	long c = 0;
	siginfo_t si;
	PT(GETEVENTMSG, p, 0, (long)&c);
	IS(c > p);
	pt(PTRACE_GETSIGINFO, p, 0, (long)&si);
	say("signo %d code %x", si.si_signo, si.si_code);
	next("the child", c);
	if (pt(PTRACE_GETSIGINFO, c, 0, (long)&si) == 0)
		say("signo %d code %x", si.si_signo, si.si_code);
	PT(CONT, p, 0, 0); PT(CONT, c, 0, 0);
	next("the child", c);
}

CASE(fork, ptrace)
{
	pid_t p = traced(forks, PTRACE_O_TRACEFORK);
	PT(CONT, p, 0, 0); next("fork", p);
	child(p);
	next("SIGCHLD", p); PT(CONT, p, 0, 0); next("end", p);
	p = traced(forks, PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE);
	PT(CONT, p, 0, 0); next("not asked for", p); PT(CONT, p, 0, 0); next("end", p);
}

CASE(forkseized, ptrace)
{
	pid_t p = seized(forks, PTRACE_O_TRACEFORK);
	next("fork", p);
	child(p);
	next("SIGCHLD", p); PT(CONT, p, 0, 0); next("end", p);
}

CASE(vfork, ptrace)
{
	long c = 0;
	pid_t p = traced(vforks, PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE);
	PT(CONT, p, 0, 0); next("vfork", p);
	child(p);
	next("done", p);
	PT(GETEVENTMSG, p, 0, (long)&c); IS(c > p);
	PT(CONT, p, 0, 0); next("SIGCHLD", p);
	PT(CONT, p, 0, 0); next("end", p);
	p = traced(vforks, PTRACE_O_TRACEVFORKDONE);
	PT(CONT, p, 0, 0); next("done only", p);
	end(p);
}

CASE(clone, ptrace)
{
	pid_t p = traced(clones, PTRACE_O_TRACECLONE);
	PT(CONT, p, 0, 0); next("clone", p);
	child(p);
	next("signal", p); PT(CONT, p, 0, 0); next("end", p);
	p = traced(clones_ptrace, 0);
	long v;
	PT(CONT, p, 0, 0);
	int st;
	pid_t c = waitpid(-1, &st, __WALL);
	IS(c > p); status("CLONE_PTRACE", st);
	PT(CONT, c, 0, 0); next("child", c); next("parent", p); PT(CONT, p, 0, 0); next("end", p);
	p = traced(clones_untraced, PTRACE_O_TRACEFORK);
	PT(CONT, p, 0, 0); next("CLONE_UNTRACED", p);
	end(p);
	(void)v;
}

static void syscallstop(pid_t p)
{
	struct user_regs_struct r;
	pt(PTRACE_GETREGS, p, 0, (long)&r);
	say("  nr %ld, result is positive %d", (long)r.orig_rax, (long)r.rax > 0);
}

static void forks_raw(void)
{
	pid_t p = syscall(SYS_fork);
	if (!p)
		_exit(4);
	waitpid(p, 0, 0);
}

CASE(forksyscall, ptrace)
{
	/* Stops at calls go on behind the event; the child has none until it is asked for. */
	long c = 0;
	pid_t p = traced(forks_raw, PTRACE_O_TRACEFORK | PTRACE_O_TRACESYSGOOD);
	PT(SYSCALL, p, 0, 0); next("entry", p); syscallstop(p);
	PT(SYSCALL, p, 0, 0); next("event", p); syscallstop(p);
	PT(GETEVENTMSG, p, 0, (long)&c); IS(c > p);
	PT(SYSCALL, p, 0, 0); next("exit", p); syscallstop(p);
	next("the child", c); syscallstop(c);
	PT(SYSCALL, c, 0, 0); next("the child", c); syscallstop(c);
	end(c); end(p);
	p = traced(forks_raw, PTRACE_O_TRACEFORK | PTRACE_O_TRACESYSGOOD);
	PT(CONT, p, 0, 0); next("event", p);
	PT(GETEVENTMSG, p, 0, (long)&c); IS(c > p);
	PT(SYSCALL, p, 0, 0); next("exit", p); syscallstop(p);
	end(c); end(p);
}

static void execs(void) { execl("/proc/self/exe", "exe", "nothing", (char *)0); _exit(1); }
CASE(nothing) { }

CASE(exec, ptrace, execve)
{
	long v = 0;
	siginfo_t si;
	pid_t p = traced(execs, 0);
	PT(CONT, p, 0, 0); next("without the option", p);
	pt(PTRACE_GETSIGINFO, p, 0, (long)&si); say("signo %d code %x", si.si_signo, si.si_code);
	PT(CONT, p, 0, 0); next("end", p);
	p = traced(execs, PTRACE_O_TRACEEXEC);
	PT(CONT, p, 0, 0); next("event", p);
	pt(PTRACE_GETSIGINFO, p, 0, (long)&si); say("signo %d code %x", si.si_signo, si.si_code);
	PT(GETEVENTMSG, p, 0, (long)&v); IS(v == p); syscallstop(p);
	PT(CONT, p, 0, 0); next("end", p);
	p = seized(execs, 0);
	next("seized: end", p);
	p = traced(execs, PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD);
	PT(SYSCALL, p, 0, 0); next("raise", p);
	PT(SYSCALL, p, 0, 0); next("execve", p); syscallstop(p);
	PT(SYSCALL, p, 0, 0); next("event", p); syscallstop(p);
	PT(SYSCALL, p, 0, 0); next("execve's end", p); syscallstop(p);
	end(p);
}

static void exits(void) { _exit(9); }
static void aborts(void) { raise(SIGTERM); }

CASE(exit, ptrace)
{
	long v = 0;
	pid_t p = traced(exits, PTRACE_O_TRACEEXIT);
	PT(CONT, p, 0, 0); next("exit", p);
	PT(GETEVENTMSG, p, 0, (long)&v); say("message %lx", v);
	PT(CONT, p, 0, 0); next("end", p);
	p = traced(aborts, PTRACE_O_TRACEEXIT);
	PT(CONT, p, 0, 0); next("signal", p);
	PT(CONT, p, 0, SIGTERM); next("exit", p);
	PT(GETEVENTMSG, p, 0, (long)&v); say("message %lx", v);
	PT(DETACH, p, 0, 0); next("end", p);
}

static void *thread(void *a) { (void)a; syscall(SYS_gettid); return 0; }

static void threads(void)
{
	pthread_t t;
	pthread_create(&t, 0, thread, 0);
	pthread_join(t, 0);
}

CASE(threads, ptrace)
{
	/* A thread is its own tracee and its own zombie. */
	long c = 0, v = 0;
	pid_t p = traced(threads, PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXIT);
	PT(CONT, p, 0, 0); next("clone", p);
	PT(GETEVENTMSG, p, 0, (long)&c);
	next("the thread", c);
	PT(CONT, p, 0, 0); PT(CONT, c, 0, 0);
	next("it ends", c);
	PT(GETEVENTMSG, c, 0, (long)&v); R(v);
	PT(CONT, c, 0, 0); next("it has ended", c);
	R(waitpid(c, 0, __WALL | WNOHANG)); PT(CONT, c, 0, 0);
	next("the process ends", p);
	PT(CONT, p, 0, 0); next("it has ended", p);
}

static void *thread_naps(void *a) { (void)a; for (;;) pause(); return 0; }

static void two(void)
{
	pthread_t t;
	pthread_create(&t, 0, thread_naps, 0);
	naps();
}

CASE(groupstopthreads, ptrace)
{
	/* Both threads take part, and report it. */
	long c = 0;
	pid_t p = traced(two, PTRACE_O_TRACECLONE);
	PT(CONT, p, 0, 0); next("clone", p);
	PT(GETEVENTMSG, p, 0, (long)&c);
	next("the thread", c);
	PT(CONT, p, 0, 0); PT(CONT, c, 0, 0);
	syscall(SYS_tgkill, p, p, SIGSTOP);
	next("signal", p);
	PT(CONT, p, 0, SIGSTOP);
	next("group stop", p);
	next("group stop, the thread", c);
	kill(p, SIGKILL);
	next("the thread", c);
	next("the process", p);
}

static void *thread_execs(void *a) { (void)a; execs(); return 0; }

static void exec_in_thread(void)
{
	pthread_t t;
	pthread_create(&t, 0, thread_execs, 0);
	naps();
}

CASE(execthread, ptrace, execve)
{
	/* The thread that calls execve takes over the leader's number. */
	long c = 0, v = 0;
	pid_t p = traced(exec_in_thread, PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC);
	PT(CONT, p, 0, 0); next("clone", p);
	PT(GETEVENTMSG, p, 0, (long)&c);
	next("the thread", c);
	PT(CONT, p, 0, 0); PT(CONT, c, 0, 0);
	next("event", p);
	PT(GETEVENTMSG, p, 0, (long)&v); IS(v == c);
	R(waitpid(c, 0, __WALL | WNOHANG));
	PT(CONT, p, 0, 0);
	next("end", p);
}

static void filter(int act)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, act),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getuid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EDOM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof f / sizeof *f, f };
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog));
}

static void filtered(void)
{
	filter(SECCOMP_RET_TRACE | 99);
	for (int i = 0; i < 4; i++) {
		errno = 0;
		long r = syscall(SYS_getppid);
		if (r == -1)
			result("getppid", r, errno);
		else
			say("getppid: %d", r > 0 ? r == getppid() : (int)r);
	}
}

CASE(seccomp, ptrace, prctl)
{
	long v = 0;
	struct user_regs_struct r;
	struct ptrace_syscall_info i;
	pid_t p = traced(filtered, 0);
	GO(CONT, p, 0, 0); next("without the option", p);
	p = traced(filtered, PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD);
	GO(CONT, p, 0, 0); next("seccomp", p);
	PT(GETEVENTMSG, p, 0, (long)&v); R(v);
	memset(&i, 0, sizeof i);
	R(pt(PTRACE_GET_SYSCALL_INFO, p, sizeof i, (long)&i)); say("op %d nr %lld data %d", i.op, i.seccomp.nr, i.seccomp.ret_data);
	pt(PTRACE_GETREGS, p, 0, (long)&r); say("rax %ld", (long)r.rax);
	r.orig_rax = -1; r.rax = -EXDEV;
	PT(SETREGS, p, 0, (long)&r); GO(CONT, p, 0, 0);
	next("skipped", p);
	pt(PTRACE_GETREGS, p, 0, (long)&r);
	r.orig_rax = SYS_getuid; /* filtered again */
	PT(SETREGS, p, 0, (long)&r); GO(CONT, p, 0, 0);
	next("another call", p);
	GO(SYSCALL, p, 0, 0);
	next("the end of the call", p);
	end(p);
}

/* The set-user-ID program of guarded: who it is, once it may say so. */
__attribute__((constructor)) static void suid(void)
{
	char b;
	if (!getenv("GUARDED"))
		return;
	read(20, &b, 1);
	say("uid %d euid %d dumpable %d", getuid(), geteuid(), prctl(PR_GET_DUMPABLE));
	_exit(3);
}

static void nobody(void) { setgroups(0, 0); setresgid(1000, 1000, 1000); setresuid(1000, 1000, 1000); prctl(PR_SET_DUMPABLE, 1); }
static int tidpipe[2];
static void *sibling(void *p)
{
	int id = syscall(SYS_gettid);
	write(tidpipe[1], &id, sizeof id);
	for (;;)
		pause();
	return p;
}

/* Who execs a program with privileges has no tracer before it is through, however long it
   takes: here a sibling that is traced does not end. */
CASE(guarded, ptrace, execve)
{
	static char img[4 << 20];
	chmod("/root", 0755);
	int in = open("/proc/self/exe", O_RDONLY), n = read(in, img, sizeof img), go[2], done[2], id, st;
	int out = open("/root/suid", O_WRONLY | O_CREAT | O_TRUNC, 0755);
	write(out, img, n); fchmod(out, 04755);
	close(in); close(out);
	pipe(go); pipe(done); pipe(tidpipe);
	pid_t p = fork();
	if (!p) {
		pthread_t t;
		char b;
		nobody(); mortal();
		dup2(go[0], 20);
		pthread_create(&t, 0, sibling, 0);
		read(go[0], &b, 1);
		execve("/root/suid", (char *[]){ "suid", 0 }, (char *[]){ "GUARDED=1", 0 });
		_exit(91);
	}
	read(tidpipe[0], &id, sizeof id);
	PT(SEIZE, id, 0, PTRACE_O_TRACEEXIT);
	write(go[1], "x", 1);
	next("the sibling", id);
	pid_t q = fork();
	if (!q) {
		nobody(); mortal();
		errno = 0;
		pt(PTRACE_SEIZE, p, 0, 0);
		write(done[1], &errno, sizeof errno);
		pause();
	}
	struct pollfd f = { done[0], POLLIN, 0 };
	R(poll(&f, 1, 200));
	GO(CONT, id, 0, 0); next("the sibling", id);
	read(done[0], &n, sizeof n);
	say("to seize: %s", errname(n));
	write(go[1], "x", 1);
	waitpid(p, &st, 0); status("the program", st);
	kill(q, SIGKILL); waitpid(q, &st, 0);
}

CASES
