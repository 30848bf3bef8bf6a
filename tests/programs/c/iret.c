/*
 * A program returns by IRETQ and by a far RET to where it is itself, as Wine does: its frame
 * is read with the program's rights, also by an emulator that would use the kernel's.
 */
#include "check.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#define CS 0x33ul
#define SS 0x2bul

static sigjmp_buf back;
static void fault(int s) { siglongjmp(back, s); }

/* iret goes through a frame; gives the stack pointer and flags behind it. */
static void iret(unsigned long *frame, unsigned long *sp, unsigned long *flags)
{
	__asm__ volatile(
		"leaq 1f(%%rip), %%rax\n\tmovq %%rax, (%2)\n\tmovq %%rsp, %%r12\n\tmovq %2, %%rsp\n\tiretq\n"
		"1:\tmovq %%rsp, %0\n\tpushfq\n\tpopq %1\n\tmovq %%r12, %%rsp\n\tcld"
		: "=&r"(*sp), "=&r"(*flags) : "r"(frame) : "rax", "r12", "memory", "cc");
}

int main(void)
{
	unsigned long sp, flags, *page, stack[64];
	MUST((page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) == MAP_FAILED ? -1 : 0);
	static char alt[1 << 16];
	stack_t a = { .ss_sp = alt, .ss_size = sizeof alt };
	MUST(sigaltstack(&a, 0));
	struct sigaction act = { .sa_handler = fault, .sa_flags = SA_ONSTACK };
	MUST(sigaction(SIGSEGV, &act, 0));
	MUST(sigaction(SIGBUS, &act, 0));
	for (int i = 0; i < 3; i++) {
		/* On a page, across two of them, on one that has been taken away and comes back. */
		unsigned long *f = i == 1 ? (unsigned long *)((char *)page + 4096 - 16) : page + 8;
		if (i == 2)
			fork() ? (void)0 : _exit(0); /* write-protected, for copies */
		f[1] = CS, f[2] = 0x202 | 0x8d5, f[3] = (unsigned long)(stack + 32), f[4] = SS;
		iret(f, &sp, &flags);
		say("frame %d: stack %s, flags %lx", i, sp == (unsigned long)(stack + 32) ? "as asked" : "another", flags & 0x8d5);
	}
	page[8 + 1] = CS, page[8 + 2] = 0x3202, page[8 + 3] = (unsigned long)(stack + 32), page[8 + 4] = SS;
	iret(page + 8, &sp, &flags);
	say("privileges asked for: %lx, interrupts %d", flags & 0x3000, !!(flags & 0x200));

	unsigned long there;
	__asm__ volatile("movq %%rsp, %%r12\n\tsubq $256, %%rsp\n\tpushq %1\n\tleaq 1f(%%rip), %%rax\n\tpushq %%rax\n\tlretq\n1:\tmovq %%rsp, %0\n\tmovq %%r12, %%rsp\n\tsubq %%r12, %0"
		: "=&r"(there) : "r"(CS) : "rax", "r12", "memory", "cc");
	say("far return: %ld", (long)there);

	static const unsigned long bad[][2] = { { 0x10, SS }, { CS, 0x18 }, { 0, SS }, { CS, 0 }, { 0x1000, SS } };
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
		int s = sigsetjmp(back, 1);
		if (!s) {
			page[8 + 1] = bad[i][0], page[8 + 2] = 0x202, page[8 + 3] = (unsigned long)(stack + 32), page[8 + 4] = bad[i][1];
			iret(page + 8, &sp, &flags);
		}
		say("segments %lx %lx: signal %d", bad[i][0], bad[i][1], s);
	}
	return 0;
}
