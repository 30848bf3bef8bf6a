/* Signals: what a handler is told, for each source, queues, masks and the calls that send and
 * take signals (sigaction(2), sigqueue(3), signal(7)). */
#include "ipc.h"
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <ucontext.h>
#define SC(n, ...) R(syscall(SYS_##n, ##__VA_ARGS__))

static sigset_t set(int a, int b) { sigset_t s; sigemptyset(&s); if (a) sigaddset(&s, a); if (b) sigaddset(&s, b); return s; }
static void block(int a, int b) { sigset_t s = set(a, b); sigprocmask(SIG_BLOCK, &s, 0); }
static void unblock(int a, int b) { sigset_t s = set(a, b); sigprocmask(SIG_UNBLOCK, &s, 0); }

static siginfo_t last;
static volatile int n;
static void note(int s, siginfo_t *i, void *u) { last = *i, n++; }
static void noting(int s, int flags) { struct sigaction a = { .sa_sigaction = note, .sa_flags = SA_SIGINFO | flags }; sigaction(s, &a, 0); }
static void show(const char *what) { say("%s: signal %d code %d errno %d", what, last.si_signo, last.si_code, last.si_errno); }
static void nothing(int s) { }

CASE(from_kill, kill, tgkill, tkill)
{
	noting(SIGUSR1, SA_RESTART);
	kill(getpid(), SIGUSR1);
	show("kill");
	IS(last.si_pid == getpid() && last.si_uid == getuid());
	SC(tgkill, getpid(), getpid(), SIGUSR1);
	show("tgkill");
	IS(last.si_pid == getpid());
	SC(tkill, getpid(), SIGUSR1);
	show("tkill");
	raise(SIGUSR1);
	show("raise");
	int c = FORK(kill(getppid(), SIGUSR1));
	reap("child", c);
	show("from the child");
	IS(last.si_pid == c);
	c = FORK(setuid(1000); R(kill(getppid(), SIGUSR1)); R(kill(getppid(), 0)));
	reap("unprivileged", c);
}

CASE(from_sigqueue, rt_sigqueueinfo)
{
	noting(SIGRTMIN, SA_RESTART);
	R(sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 77 }));
	show("sigqueue");
	IS(last.si_value.sival_int == 77 && last.si_pid == getpid());
	R(sigqueue(getpid(), 65, (union sigval){ 0 }));
	R(sigqueue(getpid(), -1, (union sigval){ 0 }));
	R(sigqueue(getpid(), 0, (union sigval){ 0 }));
	R(sigqueue(99999, SIGUSR1, (union sigval){ 0 }));
	siginfo_t i = { .si_signo = 3, .si_code = -60, .si_errno = 5, .si_pid = 12, .si_uid = 13 };
	i.si_value.sival_ptr = (void *)0x123456789abc;
	SC(rt_sigqueueinfo, getpid(), SIGRTMIN, &i);
	show("own code");
	IS(last.si_pid == 12 && last.si_uid == 13 && last.si_value.sival_ptr == (void *)0x123456789abc);
	i.si_code = SI_USER;
	SC(rt_sigqueueinfo, getpid(), SIGRTMIN, &i);
	show("as from kill");
	i.si_code = 5;
	SC(rt_sigqueueinfo, getpid(), SIGRTMIN, &i);
	show("as from the kernel");
	SC(rt_sigqueueinfo, getpid(), SIGRTMIN, 8L);
	int c = FORK(i.si_code = SI_USER; SC(rt_sigqueueinfo, getppid(), SIGRTMIN, &i); i.si_code = 5; SC(rt_sigqueueinfo, getppid(), SIGRTMIN, &i);
		i.si_code = SI_TKILL; SC(rt_sigqueueinfo, getppid(), SIGRTMIN, &i); i.si_code = SI_QUEUE; SC(rt_sigqueueinfo, getppid(), SIGRTMIN, &i));
	reap("child", c);
	show("from the child");
}

CASE(to_thread, rt_tgsigqueueinfo, tgkill)
{
	noting(SIGRTMIN, 0);
	siginfo_t i = { .si_code = SI_QUEUE };
	int me = getpid(), other = FORK(pause());
	SC(rt_tgsigqueueinfo, me, me, SIGRTMIN, &i);
	show("queue");
	SC(rt_tgsigqueueinfo, me, me, 65, &i);
	SC(rt_tgsigqueueinfo, me, me, 0, &i);
	SC(rt_tgsigqueueinfo, 0, me, SIGRTMIN, &i);
	SC(rt_tgsigqueueinfo, me, 0, SIGRTMIN, &i);
	SC(rt_tgsigqueueinfo, me, -1, SIGRTMIN, &i);
	SC(rt_tgsigqueueinfo, other, me, SIGRTMIN, &i);
	SC(rt_tgsigqueueinfo, me, 99999, SIGRTMIN, &i);
	SC(rt_tgsigqueueinfo, me, me, SIGRTMIN, 8L);
	SC(rt_tgsigqueueinfo, 0, 0, SIGRTMIN, 8L);
	SC(tgkill, me, 99999, SIGUSR1);
	SC(tgkill, 0, me, SIGUSR1);
	SC(tgkill, me, 0, SIGUSR1);
	SC(tgkill, me, me, 65);
	SC(tgkill, me, me, -1);
	SC(tgkill, other, me, 0);
	SC(tgkill, me, me, 0);
	SC(tkill, 0, 0);
	SC(tkill, -1, 0);
	SC(tkill, 99999, 0);
	SC(tkill, me, 65);
	kill(other, SIGKILL);
}

/* A siginfo_t that a thread sends itself reaches its handler as it was. */
static void forge(const char *what, int s, int code, long a, long b, long c, long d)
{
	siginfo_t i = { .si_signo = s, .si_errno = 3, .si_code = code };
	memcpy((char *)&i + 16, (long[]){ a, b, c, d }, 32);
	noting(s, 0);
	memset(&last, 9, sizeof last);
	SC(rt_tgsigqueueinfo, getpid(), getpid(), s, &i);
	show(what);
	IS(!memcmp(&last, &i, sizeof i));
}

CASE(forged, rt_tgsigqueueinfo)
{
	const long at = 0x123456789abc;
	forge("SEGV_MAPERR", SIGSEGV, 1, at, 0, 0, 0);
	forge("SEGV_BNDERR", SIGSEGV, 3, at, 0, 0x1000, 0x2000);
	forge("BUS_MCEERR_AR", SIGBUS, 4, at, 12, 0, 0);
	forge("FPE_INTDIV", SIGFPE, 1, at, 0, 0, 0);
	forge("CLD_EXITED", SIGCHLD, 1, 4 | 5L << 32, 6, 7, 8);
	forge("SYS_SECCOMP", SIGSYS, 1, at, 39 | 0xc000003eL << 32, 0, 0);
	forge("POLL_IN", SIGIO, 1, 0x41, 5, 0, 0);
	forge("SI_SIGIO", SIGUSR1, SI_SIGIO, 0x41, 5, 0, 0);
	forge("SI_QUEUE", SIGUSR1, SI_QUEUE, 1 | 2L << 32, 3, 4, 5);
	forge("SI_USER", SIGUSR1, SI_USER, 1 | 2L << 32, 3, 4, 5);
	forge("3", SIGUSR1, 3, 1 | 2L << 32, 3, 4, 5);
}

static void *queueing(void *u)
{
	siginfo_t i = { .si_code = SI_USER, .si_pid = 12 };
	int me = getpid(), own = syscall(SYS_gettid);
	SC(rt_sigqueueinfo, me, SIGUSR1, &i);
	SC(rt_sigqueueinfo, own, SIGUSR1, &i);
	SC(rt_tgsigqueueinfo, me, me, SIGUSR1, &i);
	SC(rt_tgsigqueueinfo, me, own, SIGUSR1, &i);
	i.si_code = SI_QUEUE;
	SC(rt_sigqueueinfo, me, SIGUSR1, &i);
	SC(rt_sigqueueinfo, own, SIGUSR1, &i);
	SC(rt_tgsigqueueinfo, me, me, SIGUSR1, &i);
	return 0;
}

/* What claims to be the kernel's goes to the calling thread alone, by its own number. */
CASE(from_thread, rt_sigqueueinfo, rt_tgsigqueueinfo)
{
	pthread_t t;
	noting(SIGUSR1, SA_RESTART);
	MUST(pthread_create(&t, 0, queueing, 0));
	pthread_join(t, 0);
	IS(n > 0);
}

CASE(kill_errors, kill)
{
	R(kill(99999, 0));
	R(kill(99999, SIGUSR1));
	R(kill(getpid(), 65));
	R(kill(getpid(), -1));
	R(kill(getpid(), 0));
	R(kill(-99999, SIGUSR1));
	R(kill(1 << 31, SIGUSR1));
	int c = FORK(setpgid(0, 0); signal(SIGUSR1, SIG_IGN); R(kill(0, SIGUSR1)); R(kill(-getpid(), SIGUSR1)); R(kill(-getpid(), 65)));
	reap("group", c);
}

CASE(from_children, rt_sigtimedwait)
{
	noting(SIGCHLD, 0);
	block(SIGCHLD, 0);
	sigset_t chld = set(SIGCHLD, 0);
	int c = FORK(_exit(7));
	IS(sigwaitinfo(&chld, &last) == SIGCHLD);
	show("exited");
	IS(last.si_pid == c && last.si_status == 7 && last.si_uid == 0);
	waitpid(c, 0, 0);
	c = FORK(abort());
	sigwaitinfo(&chld, &last);
	show("dumped or killed");
	say("status %d", last.si_status);
	waitpid(c, 0, 0);
	c = FORK(raise(SIGKILL));
	sigwaitinfo(&chld, &last);
	show("killed");
	say("status %d", last.si_status);
	waitpid(c, 0, 0);
	c = FORK(pause());
	kill(c, SIGSTOP);
	sigwaitinfo(&chld, &last);
	show("stopped");
	say("status %d", last.si_status);
	kill(c, SIGCONT);
	sigwaitinfo(&chld, &last);
	show("continued");
	say("status %d", last.si_status);
	kill(c, SIGKILL);
	waitpid(c, 0, 0);
}

CASE(other_exit_signal, clone)
{
	noting(SIGUSR2, SA_RESTART);
	int c = syscall(SYS_clone, SIGUSR2, 0, 0, 0, 0);
	if (!c)
		_exit(7);
	IS(waitpid(c, 0, __WALL) == c);
	show("exited");
	IS(last.si_pid == c && last.si_status == 7);
}

CASE(no_child_stop, rt_sigaction)
{
	noting(SIGCHLD, SA_NOCLDSTOP);
	int c = FORK(pause());
	kill(c, SIGSTOP);
	waitpid(c, 0, WUNTRACED);
	kill(c, SIGCONT);
	waitpid(c, 0, WCONTINUED);
	R(n);
	kill(c, SIGKILL);
	waitpid(c, 0, 0);
	R(n);
}

CASE(no_child_wait, rt_sigaction, wait4)
{
	noting(SIGCHLD, SA_NOCLDWAIT);
	int c = FORK(_exit(3)), st;
	R(waitpid(c, &st, 0));
	R(n);
	signal(SIGCHLD, SIG_IGN);
	c = FORK(_exit(3));
	R(waitpid(c, &st, 0));
	R(n);
	signal(SIGCHLD, SIG_DFL);
	c = FORK(_exit(3));
	IS(waitpid(c, &st, 0) == c);
}

CASE(from_timers, setitimer)
{
	noting(SIGALRM, 0);
	struct itimerval t = { .it_value.tv_usec = 1000 };
	setitimer(ITIMER_REAL, &t, 0);
	while (!n)
		usleep(1000);
	show("ITIMER_REAL");
	n = 0;
	alarm(1);
	while (!n)
		usleep(1000);
	show("alarm");
	noting(SIGVTALRM, 0);
	n = 0;
	setitimer(ITIMER_VIRTUAL, &t, 0);
	while (!n)
		;
	show("ITIMER_VIRTUAL");
	noting(SIGPROF, 0);
	n = 0;
	setitimer(ITIMER_PROF, &t, 0);
	while (!n)
		;
	show("ITIMER_PROF");
}

CASE(from_pipe, write)
{
	int p[2];
	noting(SIGPIPE, 0);
	pipe(p);
	close(p[0]);
	R(write(p[1], "x", 1));
	show("pipe");
	IS(last.si_pid == getpid());
	block(SIGPIPE, 0);
	R(write(p[1], "x", 1));
	sigset_t s = set(SIGPIPE, 0);
	R(sigtimedwait(&s, 0, &(struct timespec){ 0 }));
}

CASE(from_limits, write, prlimit64)
{
	noting(SIGXFSZ, 0);
	struct rlimit l = { 10, 10 };
	setrlimit(RLIMIT_FSIZE, &l);
	int fd = open("/tmp/xfsz", O_CREAT | O_RDWR, 0600);
	R(write(fd, "0123456789abc", 13));
	R(write(fd, "x", 1));
	show("file size");
	R(ftruncate(fd, 11));
	R(n);
	unlink("/tmp/xfsz");
}

static sigjmp_buf out;
static void *fault_at;
static void fault(int s, siginfo_t *i, void *u)
{
	ucontext_t *c = u;
	last = *i;
	fault_at = (void *)c->uc_mcontext.gregs[REG_RIP];
	say("signal %d code %d errno %d trap %lld", s, i->si_code, i->si_errno, c->uc_mcontext.gregs[REG_TRAPNO]);
	siglongjmp(out, 1);
}
static void faulting(void)
{
	int l[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
	for (int i = 0; i < 5; i++) {
		struct sigaction a = { .sa_sigaction = fault, .sa_flags = SA_SIGINFO };
		sigaction(l[i], &a, 0);
	}
}
#define TRAP(what, x) do { say("-- %s", what); if (!sigsetjmp(out, 1)) { x; say("no signal"); } } while (0)

CASE(fpe, rt_sigaction)
{
	faulting();
	volatile int zero = 0, min = 1 << 31, r;
	TRAP("divide by zero", r = 1 / zero);
	IS(last.si_addr == fault_at);
	TRAP("divide overflow", r = min / (zero - 1));
	/* QEMU does not raise SSE exceptions */
	unsigned short cw = 0x37f & ~4;
	TRAP("x87 divide by zero", __asm__ volatile("fninit; fldcw %0; fld1; fldz; fdivrp; fwait" :: "m"(cw)));
	__asm__ volatile("fninit");
	cw = 0x37f & ~1;
	TRAP("x87 invalid", __asm__ volatile("fninit; fldcw %0; fldz; fldz; fdivrp; fwait" :: "m"(cw)));
	__asm__ volatile("fninit");
}

CASE(ill_trap, rt_sigaction)
{
	faulting();
	TRAP("ud2", __asm__ volatile("ud2"));
	IS(last.si_addr == fault_at);
	TRAP("int3", __asm__ volatile("int3"));
	IS(last.si_addr == 0);
	TRAP("single step", __asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq; nop; nop" ::: "memory", "cc"));
}

CASE(segv, rt_sigaction, mmap)
{
	faulting();
	char *none = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *ro = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TRAP("null", *(volatile char *)8);
	IS(last.si_addr == (void *)8);
	TRAP("null, written", *(volatile char *)8 = 1);
	TRAP("no access", *(volatile char *)none);
	IS(last.si_addr == none);
	*(volatile char *)ro;
	TRAP("read-only", *(volatile char *)(ro + 5) = 1);
	IS(last.si_addr == ro + 5);
	TRAP("no execution", ((void (*)(void))ro)());
	IS(last.si_addr == ro);
	TRAP("the kernel's half", *(volatile char *)0xffffffff81000000);
	IS(last.si_addr == (void *)0xffffffff81000000);
	TRAP("non-canonical", *(volatile char *)0x8000000000000000);
	IS(last.si_addr == 0);
	TRAP("privileged", __asm__ volatile("hlt"));
	IS(last.si_addr == 0);
	TRAP("port", __asm__ volatile("inb $0x80, %%al" ::: "eax"));
	TRAP("vector", __asm__ volatile("int $0x33"));
	TRAP("bad selector", __asm__ volatile("mov %w0, %%fs" :: "r"(0x1fb)));
}

CASE(bus, rt_sigaction, mmap)
{
	faulting();
	int fd = memfd_create("m", 0);
	char *p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TRAP("beyond the end", *(volatile char *)(p + 7));
	IS(last.si_addr == p + 7);
	TRAP("beyond the end, written", *(volatile char *)(p + 7) = 1);
}

CASE(realtime_order, rt_sigqueueinfo, rt_sigtimedwait)
{
	sigset_t s = set(SIGRTMIN, SIGRTMIN + 3);
	sigaddset(&s, SIGUSR1);
	sigprocmask(SIG_BLOCK, &s, 0);
	for (int i = 0; i < 3; i++) {
		sigqueue(getpid(), SIGRTMIN + 3, (union sigval){ .sival_int = i });
		sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 10 + i });
		sigqueue(getpid(), SIGUSR1, (union sigval){ .sival_int = 20 + i });
	}
	siginfo_t i;
	for (int k; (k = sigtimedwait(&s, &i, &(struct timespec){ 0 })) > 0;)
		say("signal %d value %d", k == SIGUSR1 ? 10 : k - SIGRTMIN + 34, i.si_value.sival_int);
	R(sigtimedwait(&s, &i, &(struct timespec){ 0 }));
}

static int order[16], orders;
static void ordered(int s, siginfo_t *i, void *u) { order[orders++ & 15] = s * 100 + i->si_value.sival_int; }

CASE(handler_order, rt_sigqueueinfo)
{
	struct sigaction a = { .sa_sigaction = ordered, .sa_flags = SA_SIGINFO };
	sigset_t s = set(SIGRTMIN, SIGRTMIN + 1), none;
	sigaddset(&s, SIGUSR2);
	sigaddset(&s, SIGHUP);
	for (int i = 1; i < 64; i++)
		if (sigismember(&s, i) == 1)
			sigaction(i, &a, 0);
	sigprocmask(SIG_BLOCK, &s, 0);
	sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = 1 });
	sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 2 });
	sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 3 });
	kill(getpid(), SIGUSR2);
	kill(getpid(), SIGHUP);
	sigprocmask(SIG_UNBLOCK, &s, 0);
	for (int i = 0; i < orders; i++) /* the last frame runs first */
		say("%d", order[i]);
}

CASE(queue_limit, rt_sigqueueinfo, prlimit64)
{
	struct rlimit l = { 5, 5 };
	block(SIGRTMIN, SIGUSR1);
	int c = FORK(setuid(4321); setrlimit(RLIMIT_SIGPENDING, &l); for (int i = 0; i < 7; i++) R(sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = i }));
		R(kill(getpid(), SIGUSR1)); R(kill(getpid(), SIGRTMIN));
		R(sigqueue(getpid(), SIGUSR1, (union sigval){ 0 }));
		sigset_t s = set(SIGRTMIN, 0); int k = 0; siginfo_t i; while (sigtimedwait(&s, &i, &(struct timespec){ 0 }) > 0) k++; R(k);
		s = set(SIGUSR1, 0); R(sigtimedwait(&s, &i, &(struct timespec){ 0 })); R(i.si_code));
	reap("limited", c);
}

CASE(wait_errors, rt_sigtimedwait)
{
	sigset_t s = set(SIGUSR1, 0);
	siginfo_t i;
	struct timespec t = { 0, 1000000 }, bad = { 0, 1000000000 }, neg = { -1, 0 };
	block(SIGUSR1, 0);
	SC(rt_sigtimedwait, &s, &i, &t, 8);
	SC(rt_sigtimedwait, &s, &i, &t, 4);
	SC(rt_sigtimedwait, &s, &i, &t, 16);
	SC(rt_sigtimedwait, &s, &i, &bad, 8);
	SC(rt_sigtimedwait, &s, &i, &neg, 8);
	SC(rt_sigtimedwait, 8L, &i, &t, 8);
	SC(rt_sigtimedwait, &s, &i, 8L, 8);
	raise(SIGUSR1);
	SC(rt_sigtimedwait, &s, 8L, &t, 8);
	SC(rt_sigtimedwait, &s, &i, &t, 8);
	raise(SIGUSR1);
	SC(rt_sigtimedwait, &s, 0, 0, 8);
	/* another signal's handler ends it */
	signal(SIGALRM, nothing);
	struct itimerval it = { .it_value.tv_usec = 20000 };
	setitimer(ITIMER_REAL, &it, 0);
	SC(rt_sigtimedwait, &s, 0, 0, 8);
}

static int hold[2];
static void *reading(void *u)
{
	char b;
	unblock(SIGUSR2, 0);
	return (void *)(long)(read(hold[0], &b, 1) == -1 && errno == EINTR);
}
static void *sending(void *u)
{
	asleep(getpid());
	kill(getpid(), SIGUSR1);
	kill(getpid(), SIGUSR2);
	return 0;
}

/* A signal that came to a thread because it waited is another's where it takes something else. */
CASE(left_by_who_waited, rt_sigtimedwait)
{
	pthread_t r, w;
	void *interrupted;
	siginfo_t i;
	cpu_set_t one;
	sigset_t both = set(SIGUSR1, SIGUSR2);
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof one, &one); /* so that both are there before it takes one */
	noting(SIGUSR2, 0);
	block(SIGUSR1, SIGUSR2);
	pipe(hold);
	pthread_create(&r, 0, reading, 0);
	ms(30);
	pthread_create(&w, 0, sending, 0);
	R(sigwaitinfo(&both, &i));
	for (int k = 0; k < 300 && !n; k++)
		ms(10);
	write(hold[1], "x", 1);
	pthread_join(r, &interrupted);
	pthread_join(w, 0);
	say("handled %d, interrupted %d", n, interrupted != 0);
}

CASE(mask, rt_sigprocmask, rt_sigpending)
{
	unsigned long s = 1L << (SIGUSR1 - 1) | 1L << (SIGKILL - 1) | 1L << (SIGSTOP - 1), o = 0;
	SC(rt_sigprocmask, SIG_SETMASK, &s, &o, 8);
	say("%#lx", o);
	SC(rt_sigprocmask, SIG_BLOCK, 0, &o, 8);
	say("%#lx", o);
	s = 1L << 63;
	SC(rt_sigprocmask, SIG_BLOCK, &s, &o, 8);
	SC(rt_sigprocmask, SIG_UNBLOCK, &s, &o, 8);
	say("%#lx", o);
	SC(rt_sigprocmask, 3, &s, &o, 8);
	SC(rt_sigprocmask, 3, 0, &o, 8);
	SC(rt_sigprocmask, -1, &s, 0, 8);
	SC(rt_sigprocmask, SIG_BLOCK, &s, &o, 4);
	SC(rt_sigprocmask, SIG_UNBLOCK, &s, &o, 128);
	SC(rt_sigprocmask, SIG_BLOCK, 8L, &o, 8);
	SC(rt_sigprocmask, SIG_SETMASK, 8L, &o, 4);
	SC(rt_sigprocmask, SIG_SETMASK, 8L, &o, 8);
	SC(rt_sigprocmask, SIG_UNBLOCK, 8L, &o, 8);
	SC(rt_sigprocmask, SIG_BLOCK, 0, 8L, 8);
	raise(SIGUSR1);
	SC(rt_sigpending, &o, 8);
	say("%#lx", o);
	SC(rt_sigpending, &o, 9);
	SC(rt_sigpending, 8L, 8);
	SC(rt_sigpending, &o, 4);
	SC(rt_sigpending, &o, 0);
	int c = FORK(SC(rt_sigpending, &o, 8); say("%#lx", o); SC(rt_sigprocmask, SIG_BLOCK, 0, &o, 8); say("%#lx", o));
	reap("child", c);
}

CASE(actions, rt_sigaction)
{
	struct ka { void *h; unsigned long flags; void *restorer; unsigned long mask; } k = { nothing, 0xffffffff, 0, -1L }, o;
	memset(&o, 9, sizeof o);
	SC(rt_sigaction, SIGUSR1, &k, &o, 8);
	say("%lx %lx %lx", (long)o.h, o.flags, o.mask);
	SC(rt_sigaction, SIGUSR1, 0, &o, 8);
	say("%lx %lx", o.flags, o.mask);
	SC(rt_sigaction, SIGUSR1, &k, 0, 4);
	SC(rt_sigaction, 0, &k, 0, 8);
	SC(rt_sigaction, 65, &k, 0, 8);
	SC(rt_sigaction, -1, &k, 0, 8);
	SC(rt_sigaction, SIGKILL, &k, 0, 8);
	SC(rt_sigaction, SIGSTOP, &k, 0, 8);
	SC(rt_sigaction, SIGKILL, 0, &o, 8);
	SC(rt_sigaction, SIGUSR1, 8L, 0, 8);
	SC(rt_sigaction, SIGUSR1, 0, 8L, 8);
	SC(rt_sigaction, 0, 8L, 0, 8);
	SC(rt_sigaction, SIGUSR1, 0, 0, 8);
	SC(rt_sigaction, 32, 0, 0, 8);
	unsigned long fl[] = { SA_NOCLDSTOP, SA_NOCLDWAIT, SA_SIGINFO, 0x400, 0x800 /* EXPOSE_TAGBITS */, 0x04000000 /* RESTORER */, SA_ONSTACK, SA_RESTART, SA_NODEFER, SA_RESETHAND };
	for (int i = 0; i < 10; i++) {
		k.flags = fl[i];
		SC(rt_sigaction, SIGUSR2, &k, 0, 8);
		SC(rt_sigaction, SIGUSR2, 0, &o, 8);
		say("%lx", o.flags);
		SC(rt_sigaction, SIGKILL, &k, 0, 8);
	}
}

static int depth;
static void again(int s)
{
	if (++depth < 3)
		raise(s);
	else
		say("depth %d", depth);
	depth--;
}
CASE(nodefer, rt_sigaction)
{
	struct sigaction a = { .sa_handler = again, .sa_flags = SA_NODEFER };
	sigaction(SIGUSR1, &a, 0);
	raise(SIGUSR1);
}
CASE(reset_hand, rt_sigaction)
{
	struct sigaction a = { .sa_handler = nothing, .sa_flags = SA_RESETHAND }, o;
	sigaction(SIGUSR1, &a, 0);
	raise(SIGUSR1);
	sigaction(SIGUSR1, 0, &o);
	IS(o.sa_handler == SIG_DFL);
	int c = FORK(raise(SIGUSR1));
	reap("the second", c);
}
static sigset_t seen;
static void look(int s) { sigprocmask(SIG_BLOCK, 0, &seen); }
CASE(mask_in_handler, rt_sigaction)
{
	struct sigaction a = { .sa_handler = look, .sa_mask = set(SIGUSR2, SIGHUP) };
	sigaction(SIGUSR1, &a, 0);
	raise(SIGUSR1);
	say("%d %d %d %d", sigismember(&seen, SIGUSR1), sigismember(&seen, SIGUSR2), sigismember(&seen, SIGHUP), sigismember(&seen, SIGINT));
	sigprocmask(SIG_BLOCK, 0, &seen);
	say("%d %d", sigismember(&seen, SIGUSR1), sigismember(&seen, SIGUSR2));
	a.sa_flags = SA_NODEFER;
	sigaction(SIGUSR1, &a, 0);
	raise(SIGUSR1);
	say("%d %d", sigismember(&seen, SIGUSR1), sigismember(&seen, SIGUSR2));
}
CASE(ignored, rt_sigaction)
{
	block(SIGUSR1, SIGCHLD);
	raise(SIGUSR1);
	signal(SIGUSR1, SIG_IGN); /* takes it away */
	sigset_t p;
	sigpending(&p);
	R(sigismember(&p, SIGUSR1));
	raise(SIGUSR1);
	sigpending(&p);
	R(sigismember(&p, SIGUSR1));
	raise(SIGCHLD); /* ignored by default: kept while it is blocked */
	sigpending(&p);
	R(sigismember(&p, SIGCHLD));
	signal(SIGCHLD, SIG_DFL);
	sigpending(&p);
	R(sigismember(&p, SIGCHLD));
}
CASE(suspend, rt_sigsuspend)
{
	sigset_t none = set(0, 0), cur;
	noting(SIGUSR1, 0);
	block(SIGUSR1, 0);
	raise(SIGUSR1);
	R(sigsuspend(&none));
	R(n);
	sigprocmask(SIG_BLOCK, 0, &cur);
	R(sigismember(&cur, SIGUSR1));
	SC(rt_sigsuspend, &none, 4);
	SC(rt_sigsuspend, 8L, 8);
	int c = FORK(signal(SIGUSR1, SIG_IGN); R(sigsuspend(&none)));
	asleep(c);
	kill(c, SIGUSR1);
	killed("ignored signals do not end it", c);
}
CASE(pausing, pause)
{
	handle(SIGUSR1, SA_RESTART);
	int c = FORK(R(pause()));
	asleep(c);
	kill(c, SIGUSR1);
	reap("pause", c);
}

CASE(fd, signalfd4, signalfd)
{
	sigset_t s = set(SIGUSR1, SIGRTMIN);
	struct signalfd_siginfo i[4];
	int fd, p[2];
	sigprocmask(SIG_BLOCK, &s, 0);
	MUST(fd = signalfd(-1, &s, SFD_NONBLOCK | SFD_CLOEXEC));
	R(fcntl(fd, F_GETFD));
	R(read(fd, i, sizeof i));
	sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 5 });
	kill(getpid(), SIGUSR1);
	sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 6 });
	struct pollfd f = { fd, POLLIN };
	R(poll(&f, 1, 0));
	R(read(fd, i, sizeof i[0] * 2 + 5));
	say("%u %d %u, %u %d %d", i[0].ssi_signo, i[0].ssi_code, i[0].ssi_pid == getpid(), i[1].ssi_signo == SIGRTMIN, i[1].ssi_code, i[1].ssi_int);
	R(read(fd, i, sizeof i));
	say("%d", i[0].ssi_int);
	R(read(fd, i, sizeof i[0] - 1));
	R(poll(&f, 1, 0));
	R(write(fd, i, sizeof i[0]));
	R(lseek(fd, 0, SEEK_SET));
	R(pread(fd, i, sizeof i, 0));
	SC(signalfd4, -1, &s, 4, 0);
	SC(signalfd4, -1, &s, 8, 1);
	SC(signalfd4, -1, 8L, 8, 0);
	SC(signalfd4, 999, &s, 8, 0);
	pipe(p);
	SC(signalfd4, p[0], &s, 8, 0);
	SC(signalfd4, p[0], &s, 8, SFD_NONBLOCK);
	SC(signalfd4, p[0], &s, 8, SFD_CLOEXEC);
	SC(signalfd, p[0], &s, 8);
	s = set(SIGUSR2, 0);
	sigprocmask(SIG_BLOCK, &s, 0);
	IS(signalfd(fd, &s, 0) == fd);
	kill(getpid(), SIGUSR1);
	R(read(fd, i, sizeof i));
	kill(getpid(), SIGUSR2);
	R(read(fd, i, sizeof i));
	raise(SIGUSR2);
	R(read(fd, (void *)8, 128));
	fd = syscall(SYS_signalfd, -1, &s, 8);
	R(fcntl(fd, F_GETFL));
	SC(signalfd, -1, &s, 4);
}
/* What of each siginfo_t goes where in a signalfd_siginfo. */
CASE(fd_layouts, signalfd4, rt_tgsigqueueinfo)
{
	static const struct { const char *what; int s, code; long a, b, c, d; } l[] = {
		{ "SEGV_BNDERR", SIGSEGV, 3, 0x123456789abc, 0, 0x1000, 0x2000 }, { "FPE_INTDIV", SIGFPE, 1, 0x123456789abc, 7, 8, 9 },
		{ "CLD_EXITED", SIGCHLD, 1, 4 | 5L << 32, 6, 7, 8 }, { "SYS_SECCOMP", SIGSYS, 1, 0x123456789abc, 39 | 0xc000003eL << 32, 0, 0 },
		{ "POLL_IN", SIGIO, 1, 0x41, 5, 0, 0 }, { "SI_QUEUE", SIGUSR1, SI_QUEUE, 1 | 2L << 32, 3, 4, 5 }, { "SI_TIMER", SIGUSR1, SI_TIMER, 1 | 2L << 32, 3, 0, 0 },
	};
	sigset_t all;
	unsigned w[32];
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, 0);
	int fd = signalfd(-1, &all, SFD_NONBLOCK);
	for (int k = 0; k < (int)(sizeof l / sizeof *l); k++) {
		siginfo_t i = { .si_signo = l[k].s, .si_errno = 3, .si_code = l[k].code };
		memcpy((char *)&i + 16, &l[k].a, 32);
		SC(rt_tgsigqueueinfo, getpid(), getpid(), l[k].s, &i);
		say("%s", l[k].what);
		R(read(fd, w, sizeof w));
		for (int j = 0; j < 32; j++)
			if (w[j])
				say("  %d: %#x", 4 * j, w[j]);
	}
}
CASE(fd_blocking, signalfd4)
{
	sigset_t s = set(SIGUSR1, 0);
	struct signalfd_siginfo i;
	sigprocmask(SIG_BLOCK, &s, 0);
	handle(SIGUSR2, 0);
	int fd = signalfd(-1, &s, 0), c = FORK(R(read(fd, &i, sizeof i)); R(i.ssi_signo));
	asleep(c);
	kill(c, SIGUSR1);
	reap("woken", c);
	c = FORK(R(read(fd, &i, sizeof i)));
	asleep(c);
	kill(c, SIGUSR2);
	reap("interrupted", c);
}
/* Whoever polls is told of signals of his own, whoever made the descriptor. */
CASE(fd_polled, signalfd4, poll, pselect6)
{
	sigset_t s = set(SIGUSR1, 0);
	struct signalfd_siginfo i;
	sigprocmask(SIG_BLOCK, &s, 0);
	int fd = signalfd(-1, &s, SFD_NONBLOCK), c;
	struct pollfd f = { fd, POLLIN };
	fd_set in;
	struct timeval none = { 0, 0 };
	FD_ZERO(&in);
	c = FORK(R(poll(&f, 1, 0)); raise(SIGUSR1); R(poll(&f, 1, 0)); FD_SET(fd, &in); R(select(fd + 1, &in, 0, 0, &none)); R(read(fd, &i, sizeof i)); R(poll(&f, 1, 0)));
	reap("its own", c);
	kill(getpid(), SIGUSR1);
	R(poll(&f, 1, 0));
	FD_SET(fd, &in);
	R(select(fd + 1, &in, 0, 0, &none));
	c = FORK(R(poll(&f, 1, 0)); R(select(fd + 1, &in, 0, 0, &none)));
	reap("not its parent's", c);
	R(read(fd, &i, sizeof i));
	c = FORK(R(poll(&f, 1, -1)); R(read(fd, &i, sizeof i)); R(i.ssi_signo));
	asleep(c);
	kill(c, SIGUSR1);
	reap("woken", c);
}
CASES
