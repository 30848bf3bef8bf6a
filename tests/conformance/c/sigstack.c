/* Signal frames: the alternate stack, what a frame holds and what of it counts on the way
 * back, and vector registers over handlers (sigaltstack(2), sigreturn(2)). */
#include "ipc.h"
#include <cpuid.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#define SC(n, ...) R(syscall(SYS_##n, ##__VA_ARGS__))
#define AUTODISARM (1U << 31)
static char stack[65536], stack2[65536];
static volatile int on, n;
static stack_t told;
static void where(int s) { char c; on = &c >= stack && &c < stack + sizeof stack ? 1 : &c >= stack2 && &c < stack2 + sizeof stack2 ? 2 : 0; sigaltstack(0, &told); n++; }
static void handler(int s, void (*h)(int), int flags) { struct sigaction a = { .sa_handler = h, .sa_flags = flags }; sigaction(s, &a, 0); }
static void use(char *at, int size, unsigned flags) { stack_t s = { at, flags, size }; MUST(sigaltstack(&s, 0)); }
static void alts(stack_t *o) { say("flags %#x size %zu%s", o->ss_flags, o->ss_size, o->ss_sp == stack ? " here" : o->ss_sp ? " elsewhere" : ""); }

CASE(errors, sigaltstack)
{
	stack_t s = { stack, 0, sizeof stack }, o;
	R(sigaltstack(0, &o));
	alts(&o);
	R(sigaltstack(&s, &o));
	R(sigaltstack(0, &o));
	alts(&o);
	s.ss_size = 2047;
	R(sigaltstack(&s, 0));
	s.ss_size = 0;
	R(sigaltstack(&s, 0));
	s.ss_size = sizeof stack;
	s.ss_flags = 4;
	R(sigaltstack(&s, 0));
	s.ss_flags = SS_ONSTACK;
	R(sigaltstack(&s, 0));
	R(sigaltstack(0, &o));
	alts(&o);
	s.ss_flags = AUTODISARM;
	R(sigaltstack(&s, 0));
	R(sigaltstack(0, &o));
	alts(&o);
	s.ss_flags = AUTODISARM | 4;
	R(sigaltstack(&s, 0));
	s.ss_flags = SS_DISABLE | SS_ONSTACK;
	R(sigaltstack(&s, 0));
	s.ss_flags = SS_DISABLE | AUTODISARM;
	s.ss_size = 1;
	R(sigaltstack(&s, 0));
	R(sigaltstack(0, &o));
	alts(&o);
	s.ss_flags = SS_DISABLE;
	R(sigaltstack(&s, 0));
	R(sigaltstack((void *)8, 0));
	R(sigaltstack(0, (void *)8));
	R(sigaltstack(0, 0));
}
static void inside(int s)
{
	stack_t o, x = { stack2, 0, sizeof stack2 };
	R(sigaltstack(&x, &o));
	x.ss_flags = SS_DISABLE;
	R(sigaltstack(&x, 0));
	R(sigaltstack(0, &o));
	alts(&o);
}
CASE(in_use, sigaltstack)
{
	use(stack, sizeof stack, 0);
	handler(SIGUSR1, inside, SA_ONSTACK);
	raise(SIGUSR1);
	handler(SIGUSR1, where, 0);
	raise(SIGUSR1);
	R(on);
	alts(&told);
	handler(SIGUSR1, where, SA_ONSTACK);
	raise(SIGUSR1);
	R(on);
	alts(&told);
	sigaltstack(0, &told);
	alts(&told);
}
static void nested(int s) { raise(SIGUSR2); say("nested on %d", on); }
CASE(nesting, sigaltstack)
{
	use(stack, sizeof stack, 0);
	handler(SIGUSR1, nested, SA_ONSTACK);
	handler(SIGUSR2, where, SA_ONSTACK);
	raise(SIGUSR1);
	R(n);
}
static void disarmed(int s)
{
	stack_t o, x = { stack2, 0, sizeof stack2 };
	sigaltstack(0, &o);
	alts(&o);
	R(sigaltstack(&x, 0)); /* it may be changed inside */
	raise(SIGUSR2);
	R(on);
}
CASE(auto_disarm, sigaltstack)
{
	stack_t o;
	use(stack, sizeof stack, AUTODISARM);
	handler(SIGUSR1, disarmed, SA_ONSTACK);
	handler(SIGUSR2, where, SA_ONSTACK);
	raise(SIGUSR1);
	sigaltstack(0, &o); /* what it was before */
	alts(&o);
}
CASE(inherited, sigaltstack)
{
	stack_t o;
	use(stack, sizeof stack, 0);
	int c = FORK(sigaltstack(0, &o); alts(&o));
	reap("fork", c);
	c = FORK(execl("/proc/self/exe", "sigstack", "after_exec", NULL));
	reap("exec", c);
}
CASE(after_exec, sigaltstack) { stack_t o; sigaltstack(0, &o); alts(&o); }
static void *thread(void *p) { stack_t o; sigaltstack(0, &o); alts(&o); return 0; }
CASE(threads, sigaltstack)
{
	pthread_t t;
	use(stack, sizeof stack, 0);
	pthread_create(&t, 0, thread, 0);
	pthread_join(t, 0);
}
static sigjmp_buf out;
static void overflowed(int s) { where(s); siglongjmp(out, 1); }
static int deep(int d) { volatile char b[4096]; b[0] = d; return d > 1 << 20 ? 0 : deep(d + 1) + b[0]; }
CASE(overflow, sigaltstack)
{
	use(stack, sizeof stack, 0);
	handler(SIGSEGV, overflowed, SA_ONSTACK);
	if (!sigsetjmp(out, 1))
		deep(0);
	say("stack %d", on);
	/* without another stack there is no way to tell it */
	int c = FORK(handler(SIGSEGV, overflowed, 0); deep(0));
	reap("no stack", c);
}
CASE(bad_stack, sigaltstack)
{
	char *p = mmap(0, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int c = FORK(use(p, 65536, 0); handler(SIGUSR1, where, SA_ONSTACK); raise(SIGUSR1));
	reap("no access", c);
	c = FORK(handler(SIGSEGV, where, 0); use(p, 65536, 0); handler(SIGUSR1, where, SA_ONSTACK); raise(SIGUSR1); R(n));
	reap("with a handler", c);
}

static void frame(int s, siginfo_t *i, void *u)
{
	ucontext_t *c = u;
	say("flags %lx link %d stack %d oldmask %lld cs %llx", c->uc_flags, c->uc_link != 0, c->uc_stack.ss_size == sizeof stack, c->uc_mcontext.gregs[REG_OLDMASK], c->uc_mcontext.gregs[REG_CSGSFS] & 0xffff);
	IS(sigismember(&c->uc_sigmask, SIGUSR2) && !sigismember(&c->uc_sigmask, SIGUSR1));
	unsigned *sw = (unsigned *)((char *)c->uc_mcontext.fpregs + 464);
	say("magic %x", sw[0]);
	IS(*(unsigned *)((char *)c->uc_mcontext.fpregs + sw[4]) == 0x46505845); /* FP_XSTATE_MAGIC2 */
	IS((long)c->uc_mcontext.fpregs % 64 == 0);
	sigdelset(&c->uc_sigmask, SIGUSR2);
	sigaddset(&c->uc_sigmask, SIGHUP);
	c->uc_mcontext.gregs[REG_RAX] = 1;
}
CASE(context, rt_sigreturn, rt_sigaction)
{
	struct sigaction a = { .sa_sigaction = frame, .sa_flags = SA_SIGINFO };
	sigset_t m;
	sigemptyset(&m), sigaddset(&m, SIGUSR2), sigprocmask(SIG_BLOCK, &m, 0);
	use(stack, sizeof stack, 0);
	sigaction(SIGUSR1, &a, 0);
	kill(getpid(), SIGUSR1);
	sigprocmask(SIG_BLOCK, 0, &m); /* what the handler left in the frame */
	say("%d %d", sigismember(&m, SIGUSR2), sigismember(&m, SIGHUP));
}
static void edits(int s, siginfo_t *i, void *u)
{
	ucontext_t *c = u;
	long long *g = c->uc_mcontext.gregs;
	g[REG_EFL] = g[REG_EFL] & ~0x8d5 | 0x40 | 1 << 9 | 3 << 12 | 1 << 21 | 1 << 14; /* only some of these count */
	g[REG_RDI] = 1, g[REG_R15] = 15, g[REG_RBX] = 11;
	g[REG_RIP] += 2;
}
CASE(registers, rt_sigreturn)
{
	struct sigaction a = { .sa_sigaction = edits, .sa_flags = SA_SIGINFO };
	sigaction(SIGILL, &a, 0);
	long fl, rdi, r15, rbx;
	__asm__ volatile("xor %%edi, %%edi; ud2; pushfq; pop %0; mov %%rdi, %1; mov %%r15, %2; mov %%rbx, %3" : "=&r"(fl), "=&r"(rdi), "=&r"(r15), "=&r"(rbx) :: "rdi", "r15", "rbx", "cc");
	say("flags %lx rdi %ld r15 %ld rbx %ld", fl, rdi, r15, rbx);
}
static void breaks(int s, siginfo_t *i, void *u)
{
	ucontext_t *c = u;
	switch (on) {
	case 1: c->uc_mcontext.fpregs = (void *)1; break;
	case 2: ((unsigned *)c->uc_mcontext.fpregs)[6] = 0xffffffff; break; /* MXCSR's reserved bits */
	case 3: c->uc_mcontext.gregs[REG_RIP] = 1L << 63; break;
	case 4: c->uc_mcontext.gregs[REG_CSGSFS] = 0x10; break; /* the kernel's segment */
	case 5: c->uc_mcontext.fpregs = 0; break; /* the initial state */
	case 6: ((unsigned *)((char *)c->uc_mcontext.fpregs + 464))[0] = 0; break; /* FXSAVE's part only */
	case 7: c->uc_mcontext.gregs[REG_RSP] = 8; break;
	}
}
CASE(bad_frames, rt_sigreturn)
{
	struct sigaction a = { .sa_sigaction = breaks, .sa_flags = SA_SIGINFO };
	sigaction(SIGUSR1, &a, 0);
	for (on = 1; on <= 7; on++) {
		int c = FORK(kill(getpid(), SIGUSR1); _exit(3));
		reap("frame", c);
	}
	int c = FORK(syscall(SYS_rt_sigreturn));
	reap("no frame", c);
}

typedef int v8 __attribute__((vector_size(32)));
static int avx(void) { unsigned a, b, c, d; return __get_cpuid(1, &a, &b, &c, &d) && c & 1 << 28 && c & 1 << 27; }
static void __attribute__((target("avx"))) wipe(int s) { __asm__ volatile("vzeroall" ::: "memory"); n++; }
static void x87(int s) { __asm__ volatile("fninit; fld1; fldpi; fldz"); __asm__ volatile("ldmxcsr %0" :: "m"((unsigned){ 0x1fc0 })); n++; }
static int __attribute__((target("avx"))) keeps_avx(void)
{
	unsigned in[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, o[8] = { 0 }, o2[8] = { 0 };
	__asm__ volatile("vmovdqu %2, %%ymm3; vmovdqu %2, %%ymm15; mov %3, %%eax; mov %4, %%edi; mov %5, %%esi; syscall; vmovdqu %%ymm3, %0; vmovdqu %%ymm15, %1"
		: "=m"(o), "=m"(o2) : "m"(in), "i"(SYS_kill), "r"(getpid()), "i"(SIGUSR1) : "rax", "rcx", "rdi", "rsi", "r11", "memory", "xmm3", "xmm15");
	return !memcmp(in, o, 32) && !memcmp(in, o2, 32);
}
CASE(vectors, rt_sigreturn, kill)
{
	handler(SIGUSR1, wipe, 0);
	if (avx()) {
		IS(keeps_avx());
		IS(n == 1);
	} else
		say("keeps_avx(): yes\nn == 1: yes"); /* nothing to keep */
	n = 0;
	handler(SIGUSR1, x87, 0);
	unsigned short cw = 0x27f, got;
	unsigned mx = 0x1f80 | 3 << 13, gm;
	double d;
	__asm__ volatile("fninit; fldcw %0; fldln2; ldmxcsr %1" :: "m"(cw), "m"(mx));
	kill(getpid(), SIGUSR1);
	__asm__ volatile("fnstcw %0; fstpl %1; stmxcsr %2" : "=m"(got), "=m"(d), "=m"(gm));
	__asm__ volatile("fninit; ldmxcsr %0" :: "m"((unsigned){ 0x1f80 }));
	IS(got == 0x27f && d > 0.69 && d < 0.70 && gm == mx);
	R(n);
	mx = 0x1f80 | 0x8040; /* what -ffast-math sets: denormals are zeros, results are flushed */
	__asm__ volatile("ldmxcsr %0" :: "m"(mx));
	kill(getpid(), SIGUSR1);
	__asm__ volatile("stmxcsr %0; ldmxcsr %1" : "=m"(gm) : "m"((unsigned){ 0x1f80 }));
	__asm__ volatile("fninit");
	IS(gm == mx);
}
static void starts_clean(int s) { unsigned mx; unsigned short cw; __asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(mx), "=m"(cw)); say("mxcsr %x control %x", mx, cw); }
CASE(initial_state, rt_sigaction)
{
	/* a handler begins with what the program had */
	handler(SIGUSR1, starts_clean, 0);
	unsigned mx = 0x1f80 | 3 << 13;
	unsigned short cw = 0x27f;
	__asm__ volatile("ldmxcsr %0; fldcw %1" :: "m"(mx), "m"(cw));
	kill(getpid(), SIGUSR1);
	__asm__ volatile("fninit; ldmxcsr %0" :: "m"((unsigned){ 0x1f80 }));
}
static void fills(int s, siginfo_t *i, void *u)
{
	ucontext_t *c = u;
	unsigned *x = (unsigned *)((char *)c->uc_mcontext.fpregs + 160); /* XMM0 */
	x[0] = 0xabcd, x[3] = 0x1234;
}
CASE(edited_vectors, rt_sigreturn)
{
	struct sigaction a = { .sa_sigaction = fills, .sa_flags = SA_SIGINFO };
	unsigned o[4] = { 0 };
	sigaction(SIGUSR1, &a, 0);
	__asm__ volatile("pcmpeqb %%xmm0, %%xmm0; mov %1, %%eax; mov %2, %%edi; mov %3, %%esi; syscall; movdqu %%xmm0, %0"
		: "=m"(o) : "i"(SYS_kill), "r"(getpid()), "i"(SIGUSR1) : "rax", "rcx", "rdi", "rsi", "r11", "memory", "xmm0");
	say("%x %x %x %x", o[0], o[1], o[2], o[3]);
}
CASES
