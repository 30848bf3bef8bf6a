/* ptrace: requests, their errors in order, registers and memory of a stopped tracee. */
#include "ptrace.h"

static volatile long word = 0x1122334455667788;
static const long fixed = 0x0102030405060708; /* in memory that is not writable */
static long *shared;

static void nothing(void) { }

CASE(errors, ptrace)
{
	pid_t p = fork();
	if (!p)
		naps();
	PT(CONT, p, 0, 0); PT(PEEKDATA, p, 0, 0); PT(GETREGS, 999999, 0, 0); PT(ATTACH, 999999, 0, 0); PT(ATTACH, -1, 0, 0); PT(ATTACH, 0, 0, 0);
	PT(ATTACH, getpid(), 0, 0); PT(SEIZE, getpid(), 0, 0); PT(SEIZE, p, 1, 0); PT(SEIZE, p, 0, 0x100); PT(SEIZE, p, 0, 1 << 22); PT(SEIZE, 999999, 1, 0);
	R(pt(12345, p, 0, 0)); R(pt(-1, p, 0, 0)); R(pt(12345, 999999, 0, 0));
	PT(KILL, p, 0, 0); PT(INTERRUPT, p, 0, 0); PT(DETACH, p, 0, 0); PT(SETOPTIONS, p, 0, -1);
	PT(SEIZE, p, 0, 0);
	PT(SEIZE, p, 0, 0); PT(ATTACH, p, 0, 0); PT(CONT, p, 0, 0); PT(GETREGS, p, 0, 0);
	end(p);
	PT(CONT, p, 0, 0);
	p = fork();
	if (!p)
		_exit(0);
	siginfo_t si;
	waitid(P_PID, p, &si, WEXITED | WNOWAIT);
	PT(ATTACH, p, 0, 0); PT(SEIZE, p, 0, 0); PT(CONT, p, 0, 0);
	waitpid(p, 0, 0);
}

CASE(traceme, ptrace)
{
	int st;
	pid_t p = fork();
	if (!p) {
		PT(TRACEME, 0, 0, 0); PT(TRACEME, 0, 0, 0); PT(TRACEME, 99, 98, 97);
		raise(SIGUSR1);
		_exit(7);
	}
	st = next("first", p);
	PT(CONT, p, 0, 0);
	next("second", p);
	PT(CONT, p, 0, 0);
	p = traced(nothing, 0);
	PT(CONT, p, 0, 65); PT(CONT, p, 0, -1); PT(DETACH, p, 0, 65); PT(SYSCALL, p, 0, 65); PT(SINGLESTEP, p, 0, 65); R(pt(31, p, 0, 65));
	PT(CONT, p, 5, SIGTERM);
	next("injected", p);
	(void)st;
}

CASE(options, ptrace)
{
	pid_t p = traced(naps, 0);
	PT(SETOPTIONS, p, 0, 0); PT(SETOPTIONS, p, 0, 0xff); PT(SETOPTIONS, p, 0, 0x100); PT(SETOPTIONS, p, 0, 1 << 20); PT(SETOPTIONS, p, 0, 1 << 22); PT(SETOPTIONS, p, 0, 1L << 40); PT(SETOPTIONS, p, 77, PTRACE_O_TRACESYSGOOD);
	R(pt(21, p, 0, 0)); R(pt(21, p, 0, 0x100));
	end(p);
}

CASE(peekdata, ptrace)
{
	word = 0x1122334455667788;
	pid_t p = traced(naps, 0);
	word = 5;
	long v = 0;
	PT(PEEKDATA, p, (long)&word, (long)&v); say("%lx", v);
	PT(PEEKTEXT, p, (long)&fixed, (long)&v); say("%lx", v);
	PT(PEEKTEXT, p, (long)&word + 1, (long)&v); say("%lx", v & 0xffffff);
	PT(PEEKDATA, p, 8, (long)&v); PT(PEEKDATA, p, (long)&word, 8); PT(PEEKDATA, p, 8, 8); PT(PEEKDATA, p, -8, (long)&v); PT(PEEKDATA, p, 0xffff800000000000, (long)&v);
	char *m = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(m, 0x42, 8192);
	munmap(m + 4096, 4096);
	pid_t q = traced(naps, 0);
	PT(PEEKDATA, q, (long)m + 4088, (long)&v); say("%lx", v);
	PT(PEEKDATA, q, (long)m + 4092, (long)&v);
	end(p);
	end(q);
}

CASE(peeknone, ptrace)
{
	char *m = mmap(0, 12288, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(m, 0x42, 4096);
	mprotect(m, 12288, PROT_NONE);
	pid_t p = traced(naps, 0);
	long v = 0;
	PT(PEEKDATA, p, (long)m, (long)&v); say("%lx", v);
	PT(PEEKDATA, p, (long)m + 8192, (long)&v); say("%lx", v);
	PT(POKEDATA, p, (long)m, 0x77); PT(PEEKDATA, p, (long)m, (long)&v); say("%lx", v);
	PT(POKEDATA, p, (long)m + 4092, -2); PT(PEEKDATA, p, (long)m + 4092, (long)&v); say("%lx", v);
	end(p);
}

static void exits_with_word(void) { _exit(word == 9 && *(volatile const long *)&fixed == 11 ? 5 : 6); }

CASE(pokedata, ptrace)
{
	word = 1;
	pid_t p = traced(exits_with_word, 0);
	PT(POKEDATA, p, (long)&word, 9); PT(POKETEXT, p, (long)&fixed, 11); PT(POKEDATA, p, 8, 0); PT(POKEDATA, p, -8, 0);
	IS(word == 1); IS(*(volatile const long *)&fixed == 0x0102030405060708);
	PT(CONT, p, 0, 0);
	next("it saw", p);
}

CASE(pokeshared, ptrace)
{
	shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	*shared = 1;
	pid_t p = traced(naps, 0);
	PT(POKEDATA, p, (long)shared, 3); R(*shared);
	end(p);
	mprotect(shared, 4096, PROT_READ);
	p = traced(naps, 0);
	PT(POKEDATA, p, (long)shared, 4); R(*shared);
	end(p);
}

static void breakpoint(void)
{
	__asm__ volatile("movl $1, %%eax; int3; nop" ::: "eax");
	_exit(3);
}

CASE(poketext, ptrace)
{
	/* A breakpoint of the tracer's own in code that is executable only. */
	struct user_regs_struct r;
	siginfo_t si;
	long v = 0;
	pid_t p = traced(nothing, 0);
	PT(PEEKTEXT, p, (long)nothing, (long)&v);
	MUST(pt(PTRACE_POKETEXT, p, (long)nothing, (v & ~0xffL) | 0xcc));
	PT(CONT, p, 0, 0);
	next("at it", p);
	MUST(pt(PTRACE_GETREGS, p, 0, (long)&r));
	IS(r.rip == (unsigned long)nothing + 1);
	PT(GETSIGINFO, p, 0, (long)&si);
	say("signo %d code %d", si.si_signo, si.si_code);
	MUST(pt(PTRACE_POKETEXT, p, (long)nothing, v));
	r.rip--;
	PT(SETREGS, p, 0, (long)&r); PT(CONT, p, 0, 0);
	next("after it", p);
	p = traced(breakpoint, 0);
	PT(CONT, p, 0, 0);
	next("int3", p);
	MUST(pt(PTRACE_GETREGS, p, 0, (long)&r));
	R(r.rax); say("orig_rax %ld", (long)r.orig_rax);
	PT(CONT, p, 0, 0);
	next("on", p);
}

CASE(peekuser, ptrace)
{
	struct user u;
	long v = 0;
	memset(&u, 0, sizeof u);
	pid_t p = traced(naps, 0);
	MUST(pt(PTRACE_GETREGS, p, 0, (long)&u.regs));
	PT(PEEKUSR, p, offsetof(struct user, regs.rip), (long)&v); IS(v == (long)u.regs.rip);
	PT(PEEKUSR, p, offsetof(struct user, regs.rsp), (long)&v); IS(v == (long)u.regs.rsp);
	PT(PEEKUSR, p, offsetof(struct user, regs.cs), (long)&v); say("cs %lx", v);
	PT(PEEKUSR, p, offsetof(struct user, regs.ss), (long)&v); say("ss %lx", v);
	PT(PEEKUSR, p, offsetof(struct user, regs.fs_base), (long)&v); IS(v == (long)u.regs.fs_base);
	PT(PEEKUSR, p, 1, (long)&v); PT(PEEKUSR, p, sizeof u, (long)&v); PT(PEEKUSR, p, -8, (long)&v); PT(PEEKUSR, p, 8, 8); PT(PEEKUSR, p, 216, (long)&v); R(v); PT(PEEKUSR, p, sizeof u - 8, (long)&v); R(v);
	PT(POKEUSR, p, 1, 0); PT(POKEUSR, p, sizeof u, 0); PT(POKEUSR, p, 216, 0);
	PT(POKEUSR, p, offsetof(struct user, regs.rbx), 77); PT(PEEKUSR, p, offsetof(struct user, regs.rbx), (long)&v); R(v);
	PT(POKEUSR, p, offsetof(struct user, regs.cs), 0); PT(POKEUSR, p, offsetof(struct user, regs.cs), 8); PT(POKEUSR, p, offsetof(struct user, regs.ss), 0); PT(POKEUSR, p, offsetof(struct user, regs.ds), 8);
	PT(POKEUSR, p, offsetof(struct user, regs.fs_base), 1L << 47); PT(POKEUSR, p, offsetof(struct user, regs.gs_base), -1);
	PT(POKEUSR, p, offsetof(struct user, regs.eflags), 0x3fffff); PT(PEEKUSR, p, offsetof(struct user, regs.eflags), (long)&v); say("flags %lx", v);
	end(p);
}

CASE(debugregs, ptrace)
{
	long v = 0;
	pid_t p = traced(naps, 0);
	for (int i = 0; i < 8; i++) {
		PT(PEEKUSR, p, offsetof(struct user, u_debugreg[i]), (long)&v);
		R(v);
	}
	PT(POKEUSR, p, offsetof(struct user, u_debugreg[4]), 0); PT(POKEUSR, p, offsetof(struct user, u_debugreg[5]), 0); PT(POKEUSR, p, offsetof(struct user, u_debugreg[7]), 0); PT(POKEUSR, p, offsetof(struct user, u_debugreg[0]), -1); PT(POKEUSR, p, offsetof(struct user, u_debugreg[6]), 0);
	end(p);
}

static void by_regs(void)
{
	register long rbx __asm__("rbx") = 1;
	__asm__ volatile("int3" : "+r"(rbx));
	_exit(rbx);
}

CASE(setregs, ptrace)
{
	struct user_regs_struct r;
	pid_t p = traced(by_regs, 0);
	PT(CONT, p, 0, 0);
	next("int3", p);
	PT(GETREGS, p, 0, (long)&r); R(r.rbx);
	say("cs %llx ss %llx ds %llx es %llx fs %llx gs %llx gs_base %llx", r.cs, r.ss, r.ds, r.es, r.fs, r.gs, r.gs_base);
	r.rbx = 42;
	PT(SETREGS, p, 0, (long)&r); PT(GETREGS, p, 0, 8); PT(SETREGS, p, 0, 8); PT(CONT, p, 0, 0);
	next("end", p);
}

static void by_xmm(void)
{
	double d = 2;
	__asm__ volatile("movsd %0, %%xmm3; int3; movsd %%xmm3, %0" : "+m"(d) :: "xmm3");
	_exit((int)d);
}

CASE(fpregs, ptrace)
{
	struct user_fpregs_struct f;
	double d;
	pid_t p = traced(by_xmm, 0);
	PT(CONT, p, 0, 0);
	next("int3", p);
	PT(GETFPREGS, p, 0, (long)&f);
	memcpy(&d, &f.xmm_space[12], 8);
	say("xmm3 %.0f mxcsr %x cwd %x", d, f.mxcsr, f.cwd);
	d = 33;
	memcpy(&f.xmm_space[12], &d, 8);
	PT(SETFPREGS, p, 0, (long)&f); PT(GETFPREGS, p, 0, 8); PT(SETFPREGS, p, 0, 8); PT(CONT, p, 0, 0);
	next("end", p);
}

static void set(const char *what, long req, pid_t p, long type, void *at, long n)
{
	struct iovec v = { at, n };
	errno = 0;
	long r = pt(req, p, type, (long)&v);
	result(what, r, errno);
	say("  length %ld", type == NT_X86_XSTATE && n != 8 ? (long)(v.iov_len >= 832) : (long)v.iov_len);
}

CASE(regset, ptrace)
{
	static char b[8192];
	struct user_regs_struct r;
	pid_t p = traced(by_regs, 0);
	PT(CONT, p, 0, 0);
	next("int3", p);
	set("general", PTRACE_GETREGSET, p, NT_PRSTATUS, &r, sizeof r);
	R(r.rbx);
	set("more room", PTRACE_GETREGSET, p, NT_PRSTATUS, b, sizeof b);
	set("less", PTRACE_GETREGSET, p, NT_PRSTATUS, b, 16);
	set("not words", PTRACE_GETREGSET, p, NT_PRSTATUS, b, 17);
	set("nothing", PTRACE_GETREGSET, p, NT_PRSTATUS, b, 0);
	set("bad buffer", PTRACE_GETREGSET, p, NT_PRSTATUS, (void *)8, 216);
	set("no such", PTRACE_GETREGSET, p, 0x7777, b, 216);
	set("no such, not words", PTRACE_GETREGSET, p, 0x7777, b, 217);
	set("fp", PTRACE_GETREGSET, p, NT_PRFPREG, b, sizeof b);
	set("xstate", PTRACE_GETREGSET, p, NT_X86_XSTATE, b, sizeof b);
	set("xstate, less", PTRACE_GETREGSET, p, NT_X86_XSTATE, b, 8);
	set("set xstate, less", PTRACE_SETREGSET, p, NT_X86_XSTATE, b, 8);
	PT(GETREGSET, p, NT_PRSTATUS, 8);
	r.rbx = 44;
	set("set", PTRACE_SETREGSET, p, NT_PRSTATUS, &r, sizeof r);
	set("set not words", PTRACE_SETREGSET, p, NT_PRSTATUS, &r, 7);
	set("set bad buffer", PTRACE_SETREGSET, p, NT_PRSTATUS, (void *)8, 216);
	PT(CONT, p, 0, 0);
	next("end", p);
}

CASE(xstate, ptrace)
{
	static char b[8192];
	struct iovec v = { b, sizeof b };
	double d = 21;
	pid_t p = traced(by_xmm, 0);
	PT(CONT, p, 0, 0);
	next("int3", p);
	PT(GETREGSET, p, NT_X86_XSTATE, (long)&v);
	IS((*(long *)(b + 464) & 7) == 7);
	IS(*(double *)(b + 160 + 48) == 2);
	memcpy(b + 160 + 48, &d, 8);
	PT(SETREGSET, p, NT_X86_XSTATE, (long)&v);
	b[520] = 1;
	PT(SETREGSET, p, NT_X86_XSTATE, (long)&v);
	PT(CONT, p, 0, 0);
	next("end", p);
}

CASE(sigmask, ptrace)
{
	long m = 0;
	sigset_t s;
	sigemptyset(&s);
	sigaddset(&s, SIGUSR2);
	sigprocmask(SIG_BLOCK, &s, 0);
	pid_t p = traced(naps, 0);
	PT(GETSIGMASK, p, 8, (long)&m); say("%lx", m);
	PT(GETSIGMASK, p, 4, (long)&m); PT(GETSIGMASK, p, 16, (long)&m); PT(SETSIGMASK, p, 16, (long)&m); PT(SETSIGMASK, p, 8, 8); PT(GETSIGMASK, p, 8, 8);
	m = -1;
	PT(SETSIGMASK, p, 8, (long)&m); PT(GETSIGMASK, p, 8, (long)&m); say("%lx", m);
	end(p);
}

CASE(siginfo, ptrace)
{
	siginfo_t si;
	union sigval val = { .sival_int = 1234 };
	pid_t p = traced(naps, 0);
	memset(&si, 0x55, sizeof si);
	PT(GETSIGINFO, p, 0, (long)&si);
	say("signo %d errno %d code %d from itself %d", si.si_signo, si.si_errno, si.si_code, si.si_pid == p);
	PT(GETSIGINFO, p, 0, 8); PT(SETSIGINFO, p, 0, 8);
	sigqueue(p, SIGUSR1, val);
	PT(CONT, p, 0, 0);
	next("queued", p);
	PT(GETSIGINFO, p, 0, (long)&si);
	say("signo %d code %d value %d", si.si_signo, si.si_code, si.si_value.sival_int);
	si.si_value.sival_int = 9;
	PT(SETSIGINFO, p, 0, (long)&si); PT(GETSIGINFO, p, 0, (long)&si); R(si.si_value.sival_int);
	end(p);
}

static void caught(int s, siginfo_t *i, void *c) { _exit(i->si_addr == (void *)0x123 && i->si_code == SEGV_MAPERR ? 33 : 44); }
static void faults(void)
{
	struct sigaction a = { .sa_sigaction = caught, .sa_flags = SA_SIGINFO };
	sigaction(SIGSEGV, &a, 0);
	*(volatile char *)0x123 = 1;
}

/* As gdb puts it back when it has called a function of the program's. */
CASE(siginfo_of_a_fault, ptrace)
{
	siginfo_t si, again;
	pid_t p = traced(faults, 0);
	PT(CONT, p, 0, 0); next("fault", p);
	memset(&si, 0x55, sizeof si);
	PT(GETSIGINFO, p, 0, (long)&si); PT(SETSIGINFO, p, 0, (long)&si); PT(GETSIGINFO, p, 0, (long)&again);
	IS(si.si_addr == (void *)0x123 && !memcmp(&si, &again, sizeof si));
	PT(CONT, p, 0, SIGSEGV); next("end", p);
}

CASE(peeksiginfo, ptrace)
{
	siginfo_t si[4];
	struct ptrace_peeksiginfo_args a = { 0, 0, 4 };
	sigset_t s;
	sigfillset(&s);
	sigprocmask(SIG_BLOCK, &s, 0);
	pid_t p = fork();
	if (!p) {
		pt(PTRACE_TRACEME, 0, 0, 0);
		tgkill(getpid(), getpid(), SIGUSR1);
		kill(getpid(), SIGUSR2);
		kill(getpid(), SIGRTMIN);
		kill(getpid(), SIGRTMIN);
		kill(getpid(), SIGSTOP);
		_exit(0);
	}
	next("stopped", p);
	PT(PEEKSIGINFO, p, (long)&a, (long)si); R(si[0].si_signo); R(si[0].si_code);
	a.flags = PTRACE_PEEKSIGINFO_SHARED;
	PT(PEEKSIGINFO, p, (long)&a, (long)si); R(si[0].si_signo); R(si[1].si_signo); R(si[2].si_signo);
	a.off = 2;
	PT(PEEKSIGINFO, p, (long)&a, (long)si);
	a.off = 9;
	PT(PEEKSIGINFO, p, (long)&a, (long)si);
	a.off = 0; a.nr = 0;
	PT(PEEKSIGINFO, p, (long)&a, (long)si);
	a.nr = -1;
	PT(PEEKSIGINFO, p, (long)&a, (long)si);
	a.nr = 1; a.flags = 2;
	PT(PEEKSIGINFO, p, (long)&a, (long)si); PT(PEEKSIGINFO, p, 8, (long)si);
	a.flags = 1;
	PT(PEEKSIGINFO, p, (long)&a, 8);
	end(p);
}

CASE(eventmsg, ptrace)
{
	long v = 77;
	pid_t p = traced(naps, 0);
	PT(GETEVENTMSG, p, 0, (long)&v); R(v);
	PT(GETEVENTMSG, p, 0, 8);
	end(p);
}

CASE(archprctl, ptrace)
{
	long v = 0;
	struct user_regs_struct r;
	pid_t p = traced(naps, 0);
	MUST(pt(PTRACE_GETREGS, p, 0, (long)&r));
	R(pt(30, p, (long)&v, 0x1003)); IS(v == (long)r.fs_base);
	R(pt(30, p, 1L << 47, 0x1002)); R(pt(30, p, 0x1000, 0x1001)); R(pt(30, p, (long)&v, 0x1004)); R(v); R(pt(30, p, 0, 0x9999)); R(pt(30, p, 8, 0x1003));
	end(p);
}

CASE(access, ptrace, prctl)
{
	int c[2];
	pid_t p = fork();
	if (!p)
		naps();
	pid_t q = fork();
	if (!q) {
		MUST(setresgid(7, 7, 7)); MUST(setresuid(7, 7, 7));
		PT(ATTACH, p, 0, 0); PT(SEIZE, p, 0, 0); PT(SEIZE, p, 1, 0); PT(ATTACH, 1, 0, 0);
		_exit(0);
	}
	waitpid(q, 0, 0);
	end(p);
	pipe(c);
	for (int dumpable = 0; dumpable < 2; dumpable++) {
		p = fork();
		if (!p) {
			MUST(setresgid(7, 7, 7)); MUST(setresuid(7, 7, 7));
			R(prctl(PR_GET_DUMPABLE));
			R(prctl(PR_SET_DUMPABLE, dumpable));
			write(c[1], "x", 1);
			naps();
		}
		char b;
		read(c[0], &b, 1);
		q = fork();
		if (!q) {
			MUST(setresgid(7, 7, 7)); MUST(setresuid(7, 7, 7));
			PT(SEIZE, p, 0, 0);
			_exit(0);
		}
		waitpid(q, 0, 0);
		PT(SEIZE, p, 0, 0); /* root may */
		end(p);
	}
}

CASES
