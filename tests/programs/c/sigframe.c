/* The signal frame, byte for byte: layout, vector state, and what changing it does. */
#include "check.h"
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

static unsigned char frame[440];
static unsigned long sp, fp;
static uint32_t sw[12], magic2, xsize;
static volatile int ran;

struct ksigaction { void *handler; unsigned long flags; void *restorer; unsigned long mask; };
__asm__(".globl my_restorer\nmy_restorer: mov $15, %eax\n syscall\n");
extern void my_restorer(void);

static void look(int s, siginfo_t *si, void *u)
{
	(void)s; (void)si;
	ucontext_t *uc = u;
	sp = (unsigned long)u - 8;
	memcpy(frame, (void *)sp, sizeof frame);
	memcpy(&fp, frame + 48 + 184, 8);
	memcpy(sw, (void *)(fp + 464), sizeof sw);
	if (sw[0] == 0x46505853) {
		xsize = sw[4];
		memcpy(&magic2, (void *)(fp + xsize), 4);
	}
	ran++;
	/* xmm7 and r15 as the interrupted code gets them back */
	*(uint64_t *)(fp + 160 + 7 * 16) = 0x1122334455667788;
	uc->uc_mcontext.gregs[REG_R15] = 0x7777;
}

static long raw(int sig, void *h, unsigned long flags, unsigned long mask)
{
	struct ksigaction k = { h, flags | 0x04000000, my_restorer, mask };
	return syscall(SYS_rt_sigaction, sig, &k, NULL, 8);
}

#define U64(o) (*(uint64_t *)(frame + (o)))
#define U32(o) (*(uint32_t *)(frame + (o)))
#define U16(o) (*(uint16_t *)(frame + (o)))

static void send(int sig, uint64_t *xmm7, uint64_t *r15, unsigned long *before)
{
	long pid = getpid(), tid = syscall(SYS_gettid);
	uint64_t x, r;
	unsigned long stack;
	__asm__ volatile(
		"mov %%rsp, %2\n\t"
		"mov $0x5555, %%r15\n\t"
		"movq %%r15, %%xmm7\n\t"
		"mov %%r15, %%r12\n\t"
		"syscall\n\t"
		"movq %%xmm7, %0\n\t"
		"mov %%r15, %1\n\t"
		: "=&r"(x), "=&r"(r), "=&r"(stack)
		: "a"(SYS_tgkill), "D"(pid), "S"(tid), "d"((long)sig)
		: "rcx", "r11", "r12", "r15", "xmm7", "memory");
	*xmm7 = x;
	*r15 = r;
	*before = stack;
}

static void show(const char *what, int sig)
{
	uint64_t x, r;
	unsigned long stack;
	say("-- %s", what);
	send(sig, &x, &r, &stack);
	say("ran %d, xmm7 %llx, r15 %llx", ran, (unsigned long long)x, (unsigned long long)r);
	IS(U64(0) == (uint64_t)my_restorer);
	say("uc_flags without xstate %llx, link %llx", (unsigned long long)(U64(8) & ~1ull), (unsigned long long)U64(16));
	say("stack flags %x size %llx", U32(8 + 24), (unsigned long long)U64(8 + 32));
	say("r12 %llx r15 %llx rdx %llx rax %llx", (unsigned long long)U64(48 + 32), (unsigned long long)U64(48 + 56),
		(unsigned long long)U64(48 + 96), (unsigned long long)U64(48 + 104));
	IS(U64(48 + 120) == stack);
	IS(U64(48 + 112) == U64(48 + 128)); /* rcx is rip, r11 is rflags, after SYSCALL */
	IS((U64(48 + 24) & ~0x10000ull) == (U64(48 + 136) & ~0x10000ull));
	say("cs %x gs %x fs %x ss %x", U16(48 + 144), U16(48 + 146), U16(48 + 148), U16(48 + 150));
	say("oldmask %llx sigmask %llx", (unsigned long long)U64(48 + 168), (unsigned long long)U64(8 + 296));
	IS(fp % 64 == 0);
	IS(sp % 16 == 8);
	IS(fp - sp >= 440 && fp - sp < 440 + 64 + 16);
	say("signo %d errno %d code %d pid is ours %d uid %d", U32(312), U32(316), (int)U32(320), U32(328) == (uint32_t)getpid(), U32(332));
	if (sw[0]) {
		IS(sw[0] == 0x46505853);
		IS(magic2 == 0x46505845);
		IS(sw[1] == xsize + 4);
		IS((sw[2] & 3) == 3);
		IS(U64(8) & 1);
	} else
		IS(!(U64(8) & 1));
}

static void fault(int s, siginfo_t *si, void *u)
{
	ucontext_t *uc = u;
	say("fault: signal %d code %d err %llx trapno %lld cr2 %llx addr %llx", s, si->si_code,
		(unsigned long long)uc->uc_mcontext.gregs[REG_ERR] & ~2ull /* hosted cannot tell a write to nothing */, (long long)uc->uc_mcontext.gregs[REG_TRAPNO],
		(unsigned long long)uc->uc_mcontext.gregs[REG_CR2], (unsigned long long)si->si_addr);
	uc->uc_mcontext.gregs[REG_RIP] = uc->uc_mcontext.gregs[REG_R14];
}

#define FAULT(insn) __asm__ volatile("lea 1f(%%rip), %%r14\n\t" insn "\n1:\n" ::: "r14", "rax", "rcx", "rdx", "memory", "cc")

int main(void)
{
	static char alt[32768] __attribute__((aligned(16)));
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof alt };
	MUST(raw(SIGUSR1, look, SA_SIGINFO, 0));
	show("on the stack", SIGUSR1);
	MUST(raw(SIGUSR1, look, SA_SIGINFO | SA_NODEFER, 1ul << (SIGUSR2 - 1)));
	MUST(sigaltstack(&ss, NULL));
	MUST(raw(SIGUSR2, look, SA_SIGINFO | SA_ONSTACK, 0));
	show("on the alternate stack", SIGUSR2);
	IS(sp > (unsigned long)alt && sp < (unsigned long)alt + sizeof alt);
	MUST(raw(SIGSEGV, fault, SA_SIGINFO, 0));
	MUST(raw(SIGBUS, fault, SA_SIGINFO, 0));
	MUST(raw(SIGFPE, fault, SA_SIGINFO, 0));
	MUST(raw(SIGILL, fault, SA_SIGINFO, 0));
	MUST(raw(SIGTRAP, fault, SA_SIGINFO, 0));
	say("-- faults");
	FAULT("movl $1, 16");
	FAULT("movl 16, %%eax");
	FAULT("mov $0x10, %%eax\n\tjmp *%%rax");
	FAULT("mov $0xffffffff80000000, %%rax\n\tmov (%%rax), %%rax");
	FAULT("mov $0x8000000000000000, %%rax\n\tmov (%%rax), %%rax");
	FAULT("hlt");
	FAULT("int3");
	/* si_addr of these is their own address: shown as whether it is */
	say("-- done %d", ran);
	return 0;
}
