/*
 * A program tries to come into 32-bit code in every way there is, on each CPU and
 * with segment bases of its choice, and to make a system call there: SYSCALL of 32-bit code does not go where that of
 * 64-bit code goes.
 */
#include "check.h"
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <asm/prctl.h>

#define CODE32 0x23

static sigjmp_buf back;
static volatile int nr, code;
static void fault(int s, siginfo_t *si, void *u)
{
	(void)u;
	nr = s;
	code = si->si_code;
	siglongjmp(back, 1);
}

static unsigned char *low; /* code below 4 GiB */
static struct { unsigned off; unsigned short sel; } __attribute__((packed)) *far;

static void ljmp(void) { __asm__ volatile("ljmpl *(%0)" :: "r"(far) : "memory", "rax", "rcx", "r11"); }
static void lcall(void) { __asm__ volatile("lcalll *(%0)" :: "r"(far) : "memory", "rax", "rcx", "r11"); }
static void lret(void)
{
	__asm__ volatile("pushq %0; pushq %1; lretq" :: "r"((long)CODE32), "r"((long)far->off) : "memory", "rax", "rcx", "r11");
}
static void iret(void)
{
	__asm__ volatile("movq %%rsp, %%rcx; pushq $0x2b; pushq %%rcx; pushfq; pushq %0; pushq %1; iretq"
		:: "r"((long)CODE32), "r"((long)far->off) : "memory", "rax", "rcx", "r11");
}
static void sysenter(void) { __asm__ volatile("sysenter" ::: "memory", "rax", "rcx", "rdx", "r11"); }
static void int80(void) { __asm__ volatile("int $0x80" :: "a"(20) : "memory", "rcx", "r11"); }

static const struct { const char *n; void (*f)(void); } ways[] = {
	{ "far jump", ljmp }, { "far call", lcall }, { "far return", lret }, { "IRETQ", iret },
	{ "SYSENTER", sysenter }, { "INT 0x80", int80 },
};

int main(void)
{
	/* Where a CPU goes whose entry nobody set: page 0 is refused, a page below 4 GiB is not. */
	void *zero = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (zero != MAP_FAILED)
		memset(zero, 0x90, 4096);
	low = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	MUST(low == MAP_FAILED ? -1 : 0);
	far = (void *)(low + 2048);
	/* mov $20 (getpid), %eax; syscall; mov %eax, 256(page); ljmp $0x33:64(page) */
	unsigned at = (unsigned)(unsigned long)low;
	unsigned char c[] = { 0xb8, 20, 0, 0, 0, 0x0f, 0x05, 0xa3, 0, 0, 0, 0, 0xea, 0, 0, 0, 0, 0x33, 0 };
	*(unsigned *)(c + 8) = at + 256;
	*(unsigned *)(c + 13) = at + 64;
	memcpy(low, c, sizeof c);
	memcpy(low + 64, (unsigned char[]){ 0x0f, 0x0b }, 2); /* ud2, in 64-bit code again */
	far->off = at;
	far->sel = CODE32;

	static char alt[1 << 16];
	stack_t st = { .ss_sp = alt, .ss_size = sizeof alt };
	MUST(sigaltstack(&st, 0));
	struct sigaction act = { .sa_sigaction = fault, .sa_flags = SA_ONSTACK | SA_SIGINFO };
	MUST(sigaction(SIGSEGV, &act, 0));
	MUST(sigaction(SIGBUS, &act, 0));
	MUST(sigaction(SIGILL, &act, 0));

	static const unsigned long bases[] = { 0, 16, 0x7fffffff0000, 0xffff800000000000, 0xffffffff80200000 };
	cpu_set_t all, one;
	MUST(sched_getaffinity(0, sizeof all, &all));
	int n = 0, bad = 0;
	volatile int *answer = (int *)(low + 256);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		n++;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		MUST(sched_setaffinity(0, sizeof one, &one));
		for (unsigned w = 0; w < sizeof ways / sizeof *ways; w++)
			for (unsigned b = 0; b < sizeof bases / sizeof *bases; b++) {
				if (!(bases[b] >> 47))
					syscall(SYS_arch_prctl, ARCH_SET_GS, bases[b]);
				else if (getauxval(AT_HWCAP2) & 2)
					__asm__ volatile("wrgsbase %0" :: "r"(bases[b]));
				*answer = nr = code = 0;
				if (!sigsetjmp(back, 1))
					ways[w].f();
				/* A processor that has no SYSENTER here says so by another signal. */
				if ((nr == SIGSEGV && code == SI_KERNEL && !*answer) || (nr == SIGILL && ways[w].f == sysenter))
					continue;
				if (bad++ < 8)
					say("CPU %d, GS base %lx, %s: signal %d, code %d, answer %d", cpu, bases[b], ways[w].n, nr, code, *answer);
			}
	}
	say("%d CPUs, %d ways, let in %d times", n, (int)(sizeof ways / sizeof *ways), bad);
	return bad != 0;
}
