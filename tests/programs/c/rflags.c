/*
 * A program may load any flags and segment bases it can before it enters the
 * kernel; the kernel must not be disturbed, and must give them back.
 */
#include "check.h"
#include <signal.h>
#include <ucontext.h>
#include <setjmp.h>
#include <sys/auxv.h>
#include <asm/prctl.h>

#define TF 0x100ul
#define DF 0x400ul
#define IOPL 0x3000ul
#define NT 0x4000ul
#define AC 0x40000ul
#define ID 0x200000ul

static volatile int traps;
static volatile unsigned long trap_flags;
static void trap(int s, siginfo_t *si, void *u)
{
	(void)s; (void)si;
	ucontext_t *c = u;
	traps++;
	trap_flags = c->uc_mcontext.gregs[REG_EFL];
	c->uc_mcontext.gregs[REG_EFL] &= ~TF;
}

/* getpid with flags f; gives the flags after it. */
static unsigned long with(unsigned long f, long *pid)
{
	unsigned long before, after;
	long r;
	__asm__ volatile(
		"sub $256, %%rsp\n\t" /* over the red zone */
		"pushfq\n\tpopq %1\n\tmovq %1, %%rcx\n\torq %3, %%rcx\n\tpushq %%rcx\n\t"
		"movl $39, %%eax\n\tpopfq\n\tsyscall\n\tpushfq\n\tpopq %2\n\tpushq %1\n\tpopfq\n\tcld\n\t"
		"add $256, %%rsp"
		: "=&a"(r), "=&r"(before), "=&r"(after) : "r"(f) : "rcx", "r11", "memory", "cc");
	*pid = r;
	return after;
}

/* A read of an unmapped page with flags f; the handler notes them. */
static sigjmp_buf back;
static volatile unsigned long fault_flags;
static void fault(int s, siginfo_t *si, void *u)
{
	unsigned long now;
	(void)s; (void)si;
	/* The handler gets AC as it was; printing would fault on its unaligned words. */
	__asm__ volatile("pushfq; popq %0; movq %0, %%rcx; andq %1, %%rcx; pushq %%rcx; popfq"
		: "=&r"(now) : "r"(~AC) : "rcx", "cc", "memory");
	fault_flags = ((ucontext_t *)u)->uc_mcontext.gregs[REG_EFL];
	say("handler: DF %d TF %d", !!(now & DF), !!(now & TF));
	siglongjmp(back, 1);
}

static void faulting(unsigned long f, const char *n)
{
	if (sigsetjmp(back, 1) == 0)
		__asm__ volatile(
			"sub $256, %%rsp; pushfq; popq %%rcx; orq %0, %%rcx; pushq %%rcx; popfq; movq 16, %%rax; add $256, %%rsp"
			:: "r"(f) : "rax", "rcx", "memory", "cc");
	__asm__ volatile("sub $256, %%rsp; pushfq; popq %%rcx; andq %0, %%rcx; pushq %%rcx; popfq; add $256, %%rsp"
		:: "r"(~(AC | DF | NT | ID | TF)) : "rcx", "cc", "memory");
	say("fault with %s: kept %d", n, (fault_flags & f) == f);
}

static unsigned long gsbase(void)
{
	unsigned long v = 0;
	syscall(SYS_arch_prctl, ARCH_GET_GS, &v);
	return v;
}

int main(void)
{
	static const struct { unsigned long f; const char *n; } flags[] = {
		{ DF, "DF" }, { AC, "AC" }, { NT, "NT" }, { ID, "ID" }, { AC | DF | NT, "AC|DF|NT" }, { IOPL, "IOPL" },
	};
	long pid, me = getpid();
	for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
		unsigned long after = with(flags[i].f, &pid);
		say("getpid with %s: right %d, kept %d", flags[i].n, pid == me, (after & flags[i].f) == flags[i].f);
	}
	struct sigaction a = { .sa_sigaction = trap, .sa_flags = SA_SIGINFO };
	sigaction(SIGTRAP, &a, NULL);
	with(TF, &pid);
	say("getpid with TF: right %d, trapped %d", pid == me, traps > 0);
	a.sa_sigaction = fault;
	sigaction(SIGSEGV, &a, NULL);
	faulting(DF, "DF");
	faulting(AC, "AC");
	faulting(NT, "NT");
	faulting(ID | DF | AC | NT, "all");

	unsigned long v;
	R(syscall(SYS_arch_prctl, ARCH_SET_GS, 0x123456000ul));
	IS(gsbase() == 0x123456000ul);
	R(syscall(SYS_arch_prctl, ARCH_SET_GS, 0xffff800000000000ul));
	R(syscall(SYS_arch_prctl, ARCH_SET_GS, 0x7ffffffff000ul));
	R(syscall(SYS_arch_prctl, ARCH_SET_GS, 0x7fffffffeffful));
	R(syscall(SYS_arch_prctl, ARCH_SET_FS, 0xffff800000000000ul));
	R(syscall(SYS_arch_prctl, ARCH_GET_FS, 1));
	R(syscall(SYS_arch_prctl, 0x9999, 1));
	R(syscall(SYS_arch_prctl, ARCH_GET_FS, &v));
	if (getauxval(AT_HWCAP2) & 2) {
		v = 0xffff888000000000ul;
		int bad = 0;
		for (int i = 0; i < 2000; i++) {
			unsigned long now;
			long r;
			__asm__ volatile("wrgsbase %2; movl $39, %%eax; syscall; rdgsbase %1"
				: "=&a"(r), "=&r"(now) : "r"(v + i * 4096) : "rcx", "r11", "memory");
			bad += r != me || now != v + i * 4096;
		}
		if (bad)
			say("getpid with a kernel-half GS base: %d wrong", bad);
		__asm__ volatile("wrgsbase %0" :: "r"(v));
		faulting(DF, "a kernel-half GS base");
		__asm__ volatile("wrgsbase %0" :: "r"(0ul));
	} else {
		faulting(DF, "a kernel-half GS base");
	}
	/* Null and user selectors in the data segments. */
	__asm__ volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%fs; mov %0, %%gs; mov %1, %%ds" :: "r"(0), "r"(0x2b) : "memory");
	/* FS is gone now, and with it TLS: raw calls only. */
	long r;
	static const char msg[] = "alive with null selectors\n";
	__asm__ volatile("syscall" : "=a"(r) : "a"(1), "D"(1), "S"(msg), "d"(sizeof msg - 1) : "rcx", "r11", "memory");
	__asm__ volatile("syscall" : "=a"(r) : "a"(231), "D"(0) : "rcx", "r11", "memory");
	return 1;
}
