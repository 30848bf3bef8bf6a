/* ptracestop: the stops of a tracee and what wait says of them; signals, group stops, steps, system calls. */
#include "ptrace.h"

static siginfo_t chld;
static volatile int chlds;
static void on_chld(int s, siginfo_t *i, void *u) { (void)s; (void)u; chld = *i; chlds++; }
static volatile int got;
static void on(int s) { got = s; }
static void nothing(void) { }

static void info(const char *what, pid_t p)
{
	siginfo_t si;
	memset(&si, 0, sizeof si);
	errno = 0;
	if (pt(PTRACE_GETSIGINFO, p, 0, (long)&si))
		say("%s: siginfo: %s", what, errname(errno));
	else
		say("%s: signo %d code %x its own %d", what, si.si_signo, si.si_code, si.si_pid == p);
}

CASE(sigchld, ptrace)
{
	struct sigaction a = { .sa_sigaction = on_chld, .sa_flags = SA_SIGINFO };
	sigaction(SIGCHLD, &a, 0);
	pid_t p = traced(naps, 0);
	say("%d: signo %d code %d status %d its %d", chlds, chld.si_signo, chld.si_code, chld.si_status, chld.si_pid == p);
	PT(CONT, p, 0, SIGSTOP);
	next("group stop", p);
	say("%d: signo %d code %d status %d", chlds, chld.si_signo, chld.si_code, chld.si_status);
	end(p);
	a.sa_flags = SA_SIGINFO | SA_NOCLDSTOP;
	sigaction(SIGCHLD, &a, 0);
	chlds = 0;
	p = traced(naps, 0);
	R(chlds);
	end(p);
}

CASE(waitid, ptrace, waitid)
{
	siginfo_t si;
	pid_t p = fork();
	if (!p) {
		pt(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGUSR1);
		_exit(3);
	}
	memset(&si, 0x55, sizeof si);
	R(waitid(P_PID, p, &si, WEXITED | WNOWAIT)); say("signo %d code %d status %d", si.si_signo, si.si_code, si.si_status);
	R(waitid(P_ALL, 0, &si, WSTOPPED)); say("code %d status %d", si.si_code, si.si_status);
	R(waitid(P_PID, p, &si, WSTOPPED | WNOHANG)); R(si.si_pid);
	MUST(pt(PTRACE_SETOPTIONS, p, 0, PTRACE_O_TRACEEXIT));
	PT(CONT, p, 0, 0);
	R(waitid(P_PID, p, &si, WEXITED)); say("code %d status %x", si.si_code, si.si_status);
	PT(CONT, p, 0, 0);
	R(waitid(P_PID, p, &si, WEXITED)); say("code %d status %d", si.si_code, si.si_status);
}

CASE(wall, ptrace, wait4)
{
	/* A tracee that is nobody's child here needs no __WALL; the parent sees no stop of it. */
	int c[2];
	char b;
	pipe(c);
	pid_t q = fork();
	if (!q) {
		pid_t g = fork();
		if (!g)
			naps();
		write(c[1], &g, 4);
		int st;
		pid_t r = waitpid(g, &st, WUNTRACED);
		nap(50);
		IS(r == g);
		status("the parent saw", st);
		_exit(0);
	}
	pid_t g;
	read(c[0], &g, 4);
	nap(20);
	PT(ATTACH, g, 0, 0);
	next("attached", g);
	R(waitpid(g, 0, WNOHANG | __WALL));
	R(waitpid(-getpgrp(), 0, WNOHANG));
	PT(CONT, g, 0, 0);
	R(waitpid(g, 0, WNOHANG));
	kill(g, SIGTERM);
	next("signal", g);
	PT(CONT, g, 0, SIGTERM);
	nap(30);
	next("end, to the tracer", g);
	next("the parent", q);
	R(waitpid(g, 0, 0));
	(void)b;
}

CASE(inject, ptrace)
{
	signal(SIGUSR1, on); signal(SIGUSR2, on);
	pid_t p = fork();
	if (!p) {
		pt(PTRACE_TRACEME, 0, 0, 0);
		int saw[3];
		for (int i = 0; i < 3; i++) {
			got = 0;
			raise(SIGUSR1);
			saw[i] = got;
		}
		raise(SIGURG); signal(SIGURG, SIG_IGN); raise(SIGURG);
		say("it got %d, %d, %d", saw[0], saw[1], saw[2]);
		_exit(0);
	}
	next("one", p); info("one", p);
	PT(CONT, p, 0, SIGUSR1);
	next("two", p);
	PT(CONT, p, 0, 0);
	next("three", p);
	PT(CONT, p, 0, SIGUSR2);
	next("ignored by default", p); PT(CONT, p, 0, SIGURG);
	next("ignored", p); GO(CONT, p, 0, SIGURG);
	next("end", p);
}

static void term(void) { raise(SIGTERM); }

CASE(fatal, ptrace)
{
	pid_t p = traced(term, 0);
	PT(CONT, p, 0, 0);
	next("term", p);
	PT(CONT, p, 0, SIGTERM);
	next("end", p);
	p = traced(naps, 0);
	kill(p, SIGTERM);
	kill(p, SIGKILL);
	next("killed in a stop", p);
	p = traced(naps, 0);
	PT(KILL, p, 0, 0);
	next("PTRACE_KILL", p);
	p = traced(naps, PTRACE_O_TRACEEXIT);
	PT(CONT, p, 0, SIGKILL);
	next("injected", p); PT(CONT, p, 0, 0); next("injected", p);
}

static void stops(void) { raise(SIGSTOP); raise(SIGUSR1); }

CASE(groupstop, ptrace)
{
	signal(SIGUSR1, SIG_IGN);
	pid_t p = traced(stops, 0);
	PT(CONT, p, 0, 0);
	next("signal", p); info("signal", p);
	PT(CONT, p, 0, SIGSTOP);
	next("group stop", p); info("group stop", p);
	PT(LISTEN, p, 0, 0); PT(INTERRUPT, p, 0, 0);
	PT(CONT, p, 0, 0);
	next("runs on", p);
	kill(p, SIGCONT);
	PT(CONT, p, 0, 0);
	next("continued", p); info("continued", p);
	PT(CONT, p, 0, 0);
	next("end", p);
}

CASE(detachstopped, ptrace)
{
	pid_t p = traced(naps, 0);
	PT(CONT, p, 0, SIGSTOP);
	next("group stop", p);
	PT(DETACH, p, 0, 0);
	nap(30);
	char f[64];
	snprintf(f, sizeof f, "/proc/%d/status", p);
	R(field(f, "TracerPid:"));
	int st;
	R(waitpid(p, &st, WNOHANG | WUNTRACED) == p); 
	kill(p, SIGCONT);
	R(waitpid(p, &st, WCONTINUED) == p);
	kill(p, SIGTERM);
	next("end", p);
}

CASE(attach, ptrace)
{
	int st;
	char f[64];
	signal(SIGUSR1, on);
	pid_t p = fork();
	if (!p) {
		naps();
	}
	snprintf(f, sizeof f, "/proc/%d/status", p);
	R(field(f, "TracerPid:"));
	nap(10);
	PT(ATTACH, p, 0, 0);
	IS(field(f, "TracerPid:") == getpid());
	next("attached", p); info("attached", p);
	PT(ATTACH, p, 0, 0);
	PT(DETACH, p, 0, 0); PT(DETACH, p, 0, 0);
	R(field(f, "TracerPid:"));
	R(waitpid(p, &st, WNOHANG | WUNTRACED));
	PT(ATTACH, p, 0, 0);
	next("attached again", p);
	PT(DETACH, p, 0, SIGTERM);
	next("ended by the last signal", p);
}

CASE(attachstopped, ptrace)
{
	int st;
	pid_t p = fork();
	if (!p)
		naps();
	kill(p, SIGSTOP);
	R(waitpid(p, &st, WUNTRACED) == p);
	PT(ATTACH, p, 0, 0);
	next("attached", p); info("attached", p);
	kill(p, SIGCONT);
	PT(CONT, p, 0, 0);
	next("one", p);
	end(p);
}

CASE(seize, ptrace)
{
	long v = 0;
	pid_t p = seized(naps, PTRACE_O_TRACESYSGOOD);
	nap(10);
	R(waitpid(p, 0, WNOHANG));
	PT(GETREGS, p, 0, 0);
	PT(INTERRUPT, p, 0, 0);
	next("interrupted", p); info("interrupted", p);
	PT(GETEVENTMSG, p, 0, (long)&v); R(v);
	PT(INTERRUPT, p, 0, 0);
	PT(CONT, p, 0, 0);
	next("again", p);
	PT(CONT, p, 0, 0);
	kill(p, SIGUSR1);
	next("signal", p);
	PT(LISTEN, p, 0, 0);
	PT(CONT, p, 0, 0);
	PT(INTERRUPT, p, 0, 0);
	next("third", p);
	end(p);
}

CASE(listen, ptrace)
{
	pid_t p = seized(naps, 0);
	kill(p, SIGSTOP);
	next("signal", p);
	PT(CONT, p, 0, SIGSTOP);
	next("group stop", p); info("group stop", p);
	PT(LISTEN, p, 0, 0);
	PT(GETREGS, p, 0, 0); PT(CONT, p, 0, 0);
	R(waitpid(p, 0, WNOHANG));
	kill(p, SIGCONT);
	next("continued", p); info("continued", p);
	PT(CONT, p, 0, 0);
	next("its signal", p);
	PT(CONT, p, 0, SIGCONT);
	kill(p, SIGSTOP);
	next("stop", p);
	PT(CONT, p, 0, SIGSTOP);
	next("group stop", p);
	PT(LISTEN, p, 0, 0); PT(INTERRUPT, p, 0, 0);
	next("interrupted", p);
	PT(LISTEN, p, 0, 0); PT(LISTEN, p, 0, 0);
	kill(p, SIGKILL);
	next("killed", p);
}

static void calls(void)
{
	syscall(SYS_getuid, 1, 2, 3);
	syscall(SYS_close, 999);
}

static void entry(pid_t p)
{
	struct user_regs_struct r;
	siginfo_t si;
	long v = -1;
	pt(PTRACE_GETREGS, p, 0, (long)&r);
	pt(PTRACE_GETEVENTMSG, p, 0, (long)&v);
	pt(PTRACE_GETSIGINFO, p, 0, (long)&si);
	say("  nr %ld result %ld message %ld code %x", (long)r.orig_rax, (long)r.rax, v, si.si_code);
}

CASE(syscall, ptrace)
{
	for (int good = 0; good < 2; good++) {
		pid_t p = traced(calls, good ? PTRACE_O_TRACESYSGOOD : 0);
		PT(SYSCALL, p, 0, 0); next("raise's end", p);
		for (int i = 0; i < 4; i++) {
			PT(SYSCALL, p, 0, 0);
			next("stop", p);
			entry(p);
		}
		PT(SYSCALL, p, 0, 0); next("exit_group", p);
		PT(SYSCALL, p, 0, 0); next("end", p);
	}
}

static void sysinfo_of(pid_t p)
{
	struct ptrace_syscall_info i;
	struct user_regs_struct r;
	memset(&i, 0, sizeof i);
	errno = 0;
	long n = pt(PTRACE_GET_SYSCALL_INFO, p, sizeof i, (long)&i);
	pt(PTRACE_GETREGS, p, 0, (long)&r);
	say("%ld bytes, op %d arch %x ip %d sp %d", n, i.op, i.arch, i.instruction_pointer == r.rip, i.stack_pointer == r.rsp);
	if (i.op == PTRACE_SYSCALL_INFO_ENTRY)
		say("  nr %lld args %lld %lld, rdx %d", i.entry.nr, i.entry.args[0], i.entry.args[1], i.entry.args[2] == r.rdx);
	if (i.op == PTRACE_SYSCALL_INFO_EXIT)
		say("  rval %lld error %d", i.exit.rval, i.exit.is_error);
}

CASE(syscallinfo, ptrace)
{
	char b[4];
	pid_t p = traced(calls, PTRACE_O_TRACESYSGOOD);
	sysinfo_of(p);
	PT(GET_SYSCALL_INFO, p, 0, 0); PT(GET_SYSCALL_INFO, p, 4, (long)b); PT(GET_SYSCALL_INFO, p, 88, 8);
	PT(SYSCALL, p, 0, 0); next("raise", p);
	sysinfo_of(p);
	for (int i = 0; i < 4; i++) {
		PT(SYSCALL, p, 0, 0);
		next("stop", p);
		sysinfo_of(p);
	}
	end(p);
}

CASE(changecall, ptrace)
{
	struct user_regs_struct r;
	pid_t p = traced(calls, PTRACE_O_TRACESYSGOOD);
	PT(SYSCALL, p, 0, 0); next("raise", p);
	PT(SYSCALL, p, 0, 0); next("getuid", p);
	pt(PTRACE_GETREGS, p, 0, (long)&r);
	r.orig_rax = SYS_close; r.rdi = 12345; /* another call */
	pt(PTRACE_SETREGS, p, 0, (long)&r);
	PT(SYSCALL, p, 0, 0); next("its end", p); entry(p);
	PT(SYSCALL, p, 0, 0); next("close", p);
	pt(PTRACE_GETREGS, p, 0, (long)&r);
	r.orig_rax = -1; r.rax = 77; /* none */
	pt(PTRACE_SETREGS, p, 0, (long)&r);
	PT(SYSCALL, p, 0, 0); next("its end", p); entry(p);
	end(p);
}

static void emulated(void) { _exit(syscall(SYS_getpid) == 4711 ? 8 : 9); }

CASE(sysemu, ptrace)
{
	pid_t p = traced(emulated, PTRACE_O_TRACESYSGOOD);
	R(pt(31, p, 0, 0)); next("getpid", p); entry(p);
	MUST(pt(PTRACE_POKEUSR, p, offsetof(struct user_regs_struct, rax), 4711));
	PT(CONT, p, 0, 0); next("end", p);
	p = traced(emulated, 0);
	R(pt(32, p, 0, 0)); next("a step", p);
	end(p);
}

static void steps(void)
{
	register long rbx __asm__("rbx") = 0;
	__asm__ volatile("int3\n incq %%rbx\n incq %%rbx\n movl $39, %%eax\n syscall\n incq %%rbx\n incq %%rbx\n" : "+r"(rbx) :: "rax", "rcx", "r11", "memory");
	_exit(rbx);
}

CASE(singlestep, ptrace)
{
	struct user_regs_struct r;
	pid_t p = traced(steps, 0);
	PT(CONT, p, 0, 0); next("int3", p);
	MUST(pt(PTRACE_GETREGS, p, 0, (long)&r));
	unsigned long at = r.rip;
	for (int i = 0; i < 6; i++) {
		siginfo_t si;
		PT(SINGLESTEP, p, 0, 0);
		next("step", p);
		MUST(pt(PTRACE_GETREGS, p, 0, (long)&r));
		pt(PTRACE_GETSIGINFO, p, 0, (long)&si);
		say("  at +%ld, rbx %ld, TF %ld, code %d", (long)(r.rip - at), (long)r.rbx, (long)(r.eflags & 0x100), si.si_code);
	}
	PT(CONT, p, 0, 0); next("end", p);
}

static void steps_over_none(void)
{
	long rax = -1;
	__asm__ volatile("int3\n syscall\n nop\n" : "+a"(rax) :: "rcx", "r11", "memory");
	_exit(-rax);
}

CASE(step_over_call_minus_1, ptrace)
{
	struct user_regs_struct r;
	pid_t p = traced(steps_over_none, 0);
	PT(CONT, p, 0, 0); next("int3", p);
	PT(SINGLESTEP, p, 0, 0); next("step", p);
	MUST(pt(PTRACE_GETREGS, p, 0, (long)&r));
	say("rax %ld", (long)r.rax);
	PT(CONT, p, 0, 0); next("end", p);
}

static void handled(void) { signal(SIGUSR1, on); raise(SIGUSR1); _exit(got); }

CASE(stephandler, ptrace)
{
	struct user_regs_struct r;
	pid_t p = traced(handled, 0);
	PT(CONT, p, 0, 0); next("signal", p);
	PT(SINGLESTEP, p, 0, SIGUSR1); next("in the handler", p); info("in the handler", p);
	MUST(pt(PTRACE_GETREGS, p, 0, (long)&r));
	IS(r.rip == (unsigned long)on); R(r.rdi); R(r.eflags & 0x100);
	PT(CONT, p, 0, 0); next("end", p);
}

static void reads(void)
{
	int c[2];
	char b;
	pipe(c);
	alarm(1000);
	read(c[0], &b, 1);
}

CASE(restart, ptrace)
{
	/* An interrupted call as the tracer sees it, and that it goes on. */
	struct user_regs_struct r;
	pid_t p = traced(reads, PTRACE_O_TRACESYSGOOD);
	PT(CONT, p, 0, 0);
	nap(50);
	kill(p, SIGWINCH);
	next("signal", p);
	MUST(pt(PTRACE_GETREGS, p, 0, (long)&r));
	say("nr %ld result %ld", (long)r.orig_rax, (long)r.rax);
	PT(SYSCALL, p, 0, 0); next("again", p); entry(p);
	end(p);
}

CASE(tracerdies, ptrace)
{
	int st, c[2];
	pipe(c);
	pid_t p = fork();
	if (!p)
		naps();
	pid_t q = fork();
	if (!q) {
		pt(PTRACE_ATTACH, p, 0, 0);
		waitpid(p, &st, 0);
		_exit(0);
	}
	next("tracer", q);
	char f[64];
	snprintf(f, sizeof f, "/proc/%d/status", p);
	R(field(f, "TracerPid:"));
	R(waitpid(p, &st, WNOHANG));
	kill(p, SIGTERM);
	next("tracee", p);
	p = fork();
	if (!p)
		naps();
	q = fork();
	if (!q) {
		R(pt(PTRACE_SEIZE, p, 0, PTRACE_O_EXITKILL));
		_exit(0);
	}
	next("tracer", q);
	next("tracee", p);
	(void)c;
}

/* SIGCONT comes while the tracee is on its way into a stop: the stop tells of it, or the next does. */
CASE(continuing, ptrace)
{
	int told = 0;
	alarm(60); /* 200 tracees take their time with a race detector on a busy host */
	for (int i = 0; i < 200; i++) {
		int st, events = 0;
		pid_t p = fork();
		if (!p) {
			mortal();
			kill(getpid(), SIGSTOP);
			_exit(7);
		}
		waitpid(p, &st, WUNTRACED);
		pt(PTRACE_SEIZE, p, 0, 0);
		pt(PTRACE_INTERRUPT, p, 0, 0);
		for (volatile int k = i % 50 * 300; k > 0; k--)
			;
		kill(p, SIGCONT);
		while (waitpid(p, &st, __WALL) == p && WIFSTOPPED(st)) {
			int event = st >> 16, sig = WSTOPSIG(st);
			events += event == PTRACE_EVENT_STOP && sig == SIGTRAP;
			if (event && sig != SIGTRAP)
				pt(PTRACE_LISTEN, p, 0, 0);
			else
				pt(PTRACE_CONT, p, 0, event ? 0 : sig);
		}
		told += events > 0 && WIFEXITED(st) && WEXITSTATUS(st) == 7;
	}
	R(told);
}

CASE(procmem, ptrace, openat, pread64, pwrite64)
{
	static volatile long w = 5;
	static const long ro = 6;
	char f[64];
	long v = 0;
	pid_t p = traced(naps, 0);
	snprintf(f, sizeof f, "/proc/%d/mem", p);
	int fd;
	R((fd = open(f, O_RDWR)) >= 0);
	R(pread(fd, &v, 8, (long)&w)); R(v);
	R(pread(fd, &v, 8, (long)&ro)); R(v);
	v = 9;
	R(pwrite(fd, &v, 8, (long)&ro)); R(pread(fd, &v, 8, (long)&ro)); R(v); R(*(volatile const long *)&ro);
	R(pread(fd, &v, 8, 8)); R(pread(fd, (void *)8, 8, (long)&w)); R(pwrite(fd, &v, 8, 8));
	R(lseek(fd, (long)&w, SEEK_SET) == (long)&w); R(read(fd, &v, 8)); R(v); IS(lseek(fd, 0, SEEK_CUR) == (long)&w + 8);
	R(lseek(fd, 0, SEEK_END));
	end(p);
	R(pread(fd, &v, 8, (long)&w));
	R(open(f, O_RDONLY));
	close(fd);
	R((fd = open("/proc/self/mem", O_RDWR)) >= 0);
	v = 31; R(pwrite(fd, &v, 8, (long)&w)); R(w);
}

CASES
