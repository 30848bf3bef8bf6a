/* Signals: handlers, masks, restarts, alternate stacks, timers, vector state. */
#include "check.h"
#include <signal.h>
#include <setjmp.h>
#include <sys/time.h>
#include <sys/mman.h>
#include <pthread.h>
#include <time.h>
#include <ucontext.h>

static volatile sig_atomic_t hits, last, code;
static void count(int s) { hits++; last = s; }

static void info(int s, siginfo_t *si, void *u)
{
	(void)u;
	hits++;
	last = s;
	code = si->si_code;
	if (s == SIGUSR2)
		say("info: signo %d pid is ours %d value %d", si->si_signo, si->si_pid == getpid(), si->si_value.sival_int);
}

static void set(int s, void (*f)(int), int flags)
{
	struct sigaction a = { .sa_handler = f, .sa_flags = flags };
	MUST(sigaction(s, &a, NULL));
}

static void setinfo(int s, void (*f)(int, siginfo_t *, void *), int flags)
{
	struct sigaction a = { .sa_sigaction = f, .sa_flags = flags | SA_SIGINFO };
	MUST(sigaction(s, &a, NULL));
}

static void basics(void)
{
	say("-- basics");
	set(SIGUSR1, count, 0);
	R(raise(SIGUSR1));
	R(hits);
	R(kill(getpid(), SIGUSR1));
	R(hits);
	R(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1));
	R(hits);
	sigset_t m, o;
	sigemptyset(&m);
	sigaddset(&m, SIGUSR1);
	R(sigprocmask(SIG_BLOCK, &m, &o));
	raise(SIGUSR1);
	raise(SIGUSR1);
	R(hits);
	sigpending(&m);
	R(sigismember(&m, SIGUSR1));
	R(sigprocmask(SIG_SETMASK, &o, NULL));
	R(hits);
	struct sigaction old;
	R(sigaction(SIGUSR1, NULL, &old));
	IS(old.sa_handler == count);
	R(sigaction(SIGKILL, &old, NULL));
	R(sigaction(SIGSTOP, &old, NULL));
	R(sigaction(65, &old, NULL));
	R(kill(getpid(), 65));
	R(kill(getpid(), 0));
	R(kill(99999, 0));
	R(kill(99999, SIGUSR1));
	set(SIGUSR1, count, SA_RESETHAND);
	raise(SIGUSR1);
	sigaction(SIGUSR1, NULL, &old);
	IS(old.sa_handler == SIG_DFL);
	set(SIGCHLD, SIG_IGN, 0);
	R(raise(SIGCHLD));
}

static void queued(void)
{
	say("-- queued");
	setinfo(SIGUSR2, info, 0);
	R(sigqueue(getpid(), SIGUSR2, (union sigval){ .sival_int = 1234 }));
	IS(code == SI_QUEUE);
	/* Real-time signals queue, keep their order, and come lowest first. */
	sigset_t m;
	sigemptyset(&m);
	sigaddset(&m, SIGRTMIN);
	sigaddset(&m, SIGRTMIN + 1);
	sigprocmask(SIG_BLOCK, &m, NULL);
	for (int i = 0; i < 3; i++) {
		sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = 10 + i });
		sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = i });
	}
	siginfo_t si;
	for (int i = 0; i < 6; i++) {
		int s = sigwaitinfo(&m, &si);
		say("sigwaitinfo: SIGRTMIN+%d value %d", s - SIGRTMIN, si.si_value.sival_int);
	}
	R(sigtimedwait(&m, &si, &(struct timespec){ 0, 1000000 }));
	R(sigtimedwait(&m, &si, &(struct timespec){ 0, -1 }));
}

static void restarts(void)
{
	say("-- restarts");
	int p[2];
	char c;
	struct itimerval one = { .it_value = { 0, 200000 } }, left; /* a host may be late */
	MUST(pipe(p));
	set(SIGALRM, count, 0);
	hits = 0;
	R(setitimer(ITIMER_REAL, &one, NULL));
	R(read(p[0], &c, 1));
	R(hits);
	R(setitimer(ITIMER_REAL, &one, NULL));
	R(nanosleep(&(struct timespec){ 5, 0 }, NULL));
	struct timespec rem = { 0, 0 };
	setitimer(ITIMER_REAL, &one, NULL);
	R(nanosleep(&(struct timespec){ 5, 0 }, &rem));
	IS(rem.tv_sec == 4 && rem.tv_nsec > 0);
	R(getitimer(ITIMER_REAL, &left));
	IS(left.it_value.tv_sec == 0 && left.it_value.tv_usec == 0);
	/* With SA_RESTART the read goes on; a second timer's handler feeds it. */
	set(SIGALRM, count, SA_RESTART);
	hits = 0;
	struct itimerval rep = { .it_interval = { 0, 10000 }, .it_value = { 0, 10000 } };
	setitimer(ITIMER_REAL, &rep, NULL);
	pthread_t t;
	extern void *feed(void *);
	int fd = p[1];
	pthread_create(&t, NULL, feed, &fd);
	R(read(p[0], &c, 1));
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	pthread_join(t, NULL);
	IS(hits >= 2);
	R(alarm(100));
	R(alarm(0));
	set(SIGALRM, count, 0);
	setitimer(ITIMER_REAL, &one, NULL);
	R(pause());
}

void *feed(void *p)
{
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	nanosleep(&(struct timespec){ 0, 60000000 }, NULL);
	write(*(int *)p, "x", 1);
	return NULL;
}

static sigjmp_buf out;
static char *alt;
static volatile int on_alt;
static void overflow(int s, siginfo_t *si, void *u)
{
	char here;
	(void)s; (void)si; (void)u;
	on_alt = &here >= alt && &here < alt + 65536;
	stack_t st;
	sigaltstack(NULL, &st);
	say("overflow: on the alternate stack %d, flags say so %d", on_alt, st.ss_flags == SS_ONSTACK);
	siglongjmp(out, 1);
}

static int deep(volatile char *p)
{
	volatile char b[4096];
	b[0] = *p;
	return deep(b) + b[0];
}

static void altstack(void)
{
	say("-- sigaltstack");
	alt = malloc(65536);
	stack_t st = { .ss_sp = alt, .ss_size = 65536 }, old;
	R(sigaltstack(&st, NULL));
	R(sigaltstack(NULL, &old));
	IS(old.ss_sp == alt && old.ss_size == 65536 && old.ss_flags == 0);
	setinfo(SIGSEGV, overflow, SA_ONSTACK);
	if (sigsetjmp(out, 1) == 0)
		deep((char *)&st);
	st.ss_size = 100;
	R(sigaltstack(&st, NULL));
	st.ss_flags = 77;
	R(sigaltstack(&st, NULL));
	st.ss_flags = SS_DISABLE;
	R(sigaltstack(&st, NULL));
}

static volatile uintptr_t fault_addr;
static volatile int fault_code, fault_signo;
static void fault(int s, siginfo_t *si, void *u)
{
	(void)u;
	fault_signo = s;
	fault_addr = (uintptr_t)si->si_addr;
	fault_code = si->si_code;
	siglongjmp(out, 1);
}

#define FAULT(name, want, x) do { \
	fault_signo = 0; \
	if (sigsetjmp(out, 1) == 0) { x; say("%s: no fault", name); } \
	else say("%s: signal %d code %d address as expected %d", name, fault_signo, fault_code, fault_addr == (uintptr_t)(want)); \
} while (0)

static void faults(void)
{
	say("-- faults");
	static const int s[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP };
	for (int i = 0; i < 5; i++)
		setinfo(s[i], fault, 0);
	volatile int zero = 0;
	char *ro = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *gone = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, memfd_create("m", 0), 0);
	FAULT("null", 16, *(volatile int *)(uintptr_t)(16 + zero) = 1);
	FAULT("read-only", ro + 5, ((volatile char *)ro)[5] = 1);
	FAULT("beyond the file", gone + 4096, ((volatile char *)gone)[4096] = 1);
	FAULT("kernel half", 0xffffffff80000000, zero = *(volatile int *)0xffffffff80000000);
	FAULT("noncanonical", 0, zero = *(volatile int *)0x8000000000000000);
	FAULT("no exec", ro, ((void (*)(void))ro)());
	FAULT("hlt", 0, __asm__ volatile("hlt"));
	FAULT("in", 0, __asm__ volatile("inb $0x80, %%al" ::: "rax"));
	FAULT("div", fault_addr, zero = 7 / zero);
	FAULT("ud2", fault_addr, __asm__ volatile("ud2"));
	FAULT("int3", 0, __asm__ volatile("int3"));
	FAULT("int80 gate of 99", 0, __asm__ volatile("int $99"));
	say("after all faults");
	for (int i = 0; i < 5; i++)
		set(s[i], SIG_DFL, 0);
}

/* A handler that uses vector registers must not disturb the code it interrupts. */
static void scribble(int s)
{
	(void)s;
	hits++;
	__asm__ volatile("pcmpeqb %%xmm0, %%xmm0; pcmpeqb %%xmm7, %%xmm7; pxor %%xmm15, %%xmm15; fldz; fldpi" ::: "xmm0", "xmm7", "xmm15");
}

static void vectors(void)
{
	say("-- vector state");
	set(SIGALRM, scribble, 0);
	hits = 0;
	setitimer(ITIMER_REAL, &(struct itimerval){ { 0, 1000 }, { 0, 1000 } }, NULL);
	uint64_t a[2] = { 0x1122334455667788, 0x99aabbccddeeff00 }, x0[2], x7[2], x15[2];
	double pi;
	int bad = 0;
	while (hits < 20) {
		__asm__ volatile(
			"movdqu %4, %%xmm0; movdqu %4, %%xmm7; movdqu %4, %%xmm15; fldpi\n\t"
			"mov $200000, %%ecx\n1: dec %%ecx; jnz 1b\n\t"
			"movdqu %%xmm0, %0; movdqu %%xmm7, %1; movdqu %%xmm15, %2; fstpl %3"
			: "=m"(x0), "=m"(x7), "=m"(x15), "=m"(pi) : "m"(a) : "rcx", "xmm0", "xmm7", "xmm15");
		bad += memcmp(a, x0, 16) || memcmp(a, x7, 16) || memcmp(a, x15, 16) || pi < 3.14159 || pi > 3.1416;
	}
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	R(bad);
}

static void edit(int s, siginfo_t *si, void *u)
{
	(void)s; (void)si;
	ucontext_t *c = u;
	c->uc_mcontext.gregs[REG_RIP] += 2; /* over the ud2 */
	c->uc_mcontext.gregs[REG_RBX] = 4711;
	c->uc_mcontext.gregs[REG_EFL] |= 0x400; /* DF */
}

static void sigreturns(void)
{
	say("-- sigreturn");
	setinfo(SIGILL, edit, 0);
	long rbx = 1, fl;
	__asm__ volatile("ud2; pushfq; popq %1; cld" : "+b"(rbx), "=r"(fl));
	R(rbx);
	IS(fl & 0x400);
	set(SIGILL, SIG_DFL, 0);
}

static void *target(void *p)
{
	(void)p;
	sigset_t m;
	int s;
	sigemptyset(&m);
	sigaddset(&m, SIGUSR1);
	sigwait(&m, &s);
	say("thread got %d", s);
	return NULL;
}

static void threads(void)
{
	say("-- threads");
	sigset_t m;
	sigemptyset(&m);
	sigaddset(&m, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &m, NULL);
	pthread_t t;
	pthread_create(&t, NULL, target, NULL);
	int r = pthread_kill(t, SIGUSR1);
	pthread_join(t, NULL);
	R(r);
	sigset_t none;
	sigemptyset(&none);
	set(SIGUSR1, count, 0);
	hits = 0;
	raise(SIGUSR1);
	R(hits);
	R(sigsuspend(&none));
	R(hits);
}

int main(void)
{
	basics();
	queued();
	restarts();
	altstack();
	faults();
	vectors();
	sigreturns();
	threads();
	return 0;
}
