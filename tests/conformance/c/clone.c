/*
 * clone: clone, clone3, unshare, setns and kcmp flag by flag: what is refused and in which
 * order, what parent and child share, where numbers are written, how a child ends.
 */
#include "proc.h"
#include <linux/futex.h>
#include <linux/kcmp.h>
#include <sys/epoll.h>

struct args { uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup; };
#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif
#define CLONE_NEWTIME_ 0x80

static char stack[65536] __attribute__((aligned(16)));
static char stack2[65536] __attribute__((aligned(16)));
static int *shared;

/* c3 calls clone3 and ends a child at once, so that only the caller comes back. */
static long c3(struct args *a, size_t n)
{
	long r = syscall(SYS_clone3, a, n);
	if (r == 0 && !(a->flags & CLONE_VM))
		_exit(7);
	if (r > 0) {
		int st;
		waitpid(r, &st, __WALL);
		return 1;
	}
	return r;
}
#define C3(...) do { struct args a_ = { __VA_ARGS__ }; errno = 0; long r_ = c3(&a_, sizeof a_); result("clone3 {" #__VA_ARGS__ "}", r_, errno); } while (0)

static long c1(unsigned long flags, void *sp, int *ptid, int *ctid, unsigned long tls)
{
	long r = syscall(SYS_clone, flags, sp, ptid, ctid, tls);
	if (r == 0)
		_exit(7);
	if (r > 0) {
		int st;
		waitpid(r, &st, __WALL);
		return 1;
	}
	return r;
}
#define C1(f, ...) do { errno = 0; long r_ = c1(f, ##__VA_ARGS__); result("clone " #f, r_, errno); } while (0)

static void refused(void)
{
	say("-- combinations");
	signal(SIGUSR1, SIG_IGN); signal(64, SIG_IGN);
	C1(SIGCHLD, 0, 0, 0, 0); C1(0, 0, 0, 0, 0); C1(SIGUSR1, 0, 0, 0, 0); C1(200, 0, 0, 0, 0);
	C1(CLONE_THREAD, 0, 0, 0, 0); C1(CLONE_THREAD | CLONE_SIGHAND, 0, 0, 0, 0); C1(CLONE_SIGHAND, 0, 0, 0, 0); C1(CLONE_THREAD | CLONE_VM, 0, 0, 0, 0);
	C1(CLONE_NEWNS | CLONE_FS, 0, 0, 0, 0); C1(CLONE_NEWUSER | CLONE_FS, 0, 0, 0, 0);
	C1(CLONE_THREAD | CLONE_SIGHAND | CLONE_VM | CLONE_NEWUSER, stack + 60000, 0, 0, 0); C1(CLONE_THREAD | CLONE_SIGHAND | CLONE_VM | CLONE_NEWPID, stack + 60000, 0, 0, 0);
	C1(CLONE_PIDFD | CLONE_DETACHED | SIGCHLD, 0, shared, 0, 0); C1(CLONE_PIDFD | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, stack + 60000, shared, 0, 0);
	C1(CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD, 0, shared, 0, 0); C1(CLONE_PIDFD | SIGCHLD, 0, (int *)8, 0, 0); C1(CLONE_PIDFD | SIGCHLD, 0, 0, 0, 0);
	C1(CLONE_DETACHED | SIGCHLD, 0, 0, 0, 0); C1(CLONE_IO | CLONE_SYSVSEM | CLONE_UNTRACED | CLONE_PTRACE | SIGCHLD, 0, 0, 0, 0);
	C1(CLONE_SETTLS | SIGCHLD, 0, 0, 0, 0x800000000000UL); C1(CLONE_SETTLS | SIGCHLD, 0, 0, 0, -1UL);
	C1(CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD, 0, (int *)8, (int *)8, 0);
	C1(0x8000000000000000UL | SIGCHLD, 0, 0, 0, 0); C1(0xff00000000UL | SIGCHLD, 0, 0, 0, 0);
	signal(SIGUSR1, SIG_DFL);
	say("-- clone3");
	SC(clone3, 0, 64); SC(clone3, 0, 63); SC(clone3, 0, 0); SC(clone3, 0, 4097); SC(clone3, (void *)-4096, 64);
	C3(0, .exit_signal = SIGCHLD); C3(0); C3(0, .exit_signal = 64); C3(0, .exit_signal = 65); C3(0, .exit_signal = 256 + SIGCHLD); C3(0, .exit_signal = -1ULL);
	C3(SIGCHLD); C3(0x80, .exit_signal = SIGCHLD | 0x100); C3(CLONE_DETACHED, .exit_signal = SIGCHLD); C3(0x400000000ULL); C3(-1ULL);
	C3(CLONE_THREAD, .exit_signal = SIGCHLD); C3(CLONE_PARENT, .exit_signal = SIGCHLD); C3(CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, .exit_signal = 1);
	C3(CLONE_CLEAR_SIGHAND, .exit_signal = SIGCHLD); C3(CLONE_CLEAR_SIGHAND | CLONE_SIGHAND | CLONE_VM);
	C3(0, .stack = 0x1000); C3(0, .stack_size = 0x1000); C3(0, .stack = (uint64_t)stack, .stack_size = sizeof stack); C3(0, .stack = -4096ULL, .stack_size = 8192); C3(0, .stack = 0x7ffffffff000, .stack_size = 0x1000); C3(0, .stack = 0xffff800000000000, .stack_size = 0x1000);
	C3(CLONE_VM | CLONE_VFORK, .stack = 0x10, .stack_size = 0);
	pid_t one = 1, two[2] = { 30001, 30002 }, me = getpid(), neg = -1, zero = 0, big = 1 << 22, ok = 31234;
	C3(0, .set_tid = (uint64_t)&one); C3(0, .set_tid_size = 1); C3(0, .set_tid = (uint64_t)&one, .set_tid_size = 33); C3(0, .set_tid = 8, .set_tid_size = 1);
	C3(0, .set_tid = (uint64_t)&one, .set_tid_size = 1); C3(0, .set_tid = (uint64_t)two, .set_tid_size = 2); C3(0, .set_tid = (uint64_t)&me, .set_tid_size = 1);
	C3(0, .set_tid = (uint64_t)&neg, .set_tid_size = 1); C3(0, .set_tid = (uint64_t)&zero, .set_tid_size = 1);
	C3(0, .set_tid = (uint64_t)&big, .set_tid_size = 1);
	struct args t = { .set_tid = (uint64_t)&ok, .set_tid_size = 1, .exit_signal = SIGCHLD };
	long r = syscall(SYS_clone3, &t, sizeof t);
	if (!r)
		_exit(getpid() == ok ? 11 : 12);
	int st;
	IS(r == ok);
	waitpid(r, &st, 0);
	status("set_tid", st);
	say("-- CLONE_INTO_CGROUP");
	C3(CLONE_INTO_CGROUP, .cgroup = 99); C3(CLONE_INTO_CGROUP, .cgroup = 1ULL << 32); C3(CLONE_INTO_CGROUP, .cgroup = 1); C3(0, .cgroup = 99);
	int fd = open("/tmp", O_RDONLY | O_DIRECTORY);
	C3(CLONE_INTO_CGROUP, .cgroup = fd);
	{
		struct args a = { CLONE_INTO_CGROUP };
		R(c3(&a, 80));
		R(c3(&a, 64));
		char big[256] = { 0 };
		((struct args *)big)->exit_signal = SIGCHLD;
		R(c3((struct args *)big, sizeof big));
		big[200] = 1;
		R(c3((struct args *)big, sizeof big));
	}
	close(fd);
}

static int rootless(void)
{
	static const unsigned long ns[] = { CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWCGROUP };
	static const char *const name[] = { "NEWNS", "NEWUTS", "NEWIPC", "NEWPID", "NEWNET", "NEWCGROUP" };
	if (setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000))
		return 1;
	say("-- namespaces without privilege");
	for (int i = 0; i < 6; i++) {
		errno = 0;
		long r = c1(ns[i] | SIGCHLD, 0, 0, 0, 0);
		say("clone %s: %ld %s", name[i], r, errname(errno));
		errno = 0;
		r = unshare(ns[i]);
		say("unshare %s: %ld %s", name[i], r, errname(errno));
		struct args a = { ns[i], .exit_signal = SIGCHLD };
		errno = 0;
		r = c3(&a, sizeof a);
		say("clone3 %s: %ld %s", name[i], r, errname(errno));
	}
	C3(CLONE_NEWTIME_, .exit_signal = SIGCHLD); R(unshare(CLONE_NEWTIME_)); C1(CLONE_NEWIPC | CLONE_SYSVSEM | SIGCHLD, 0, 0, 0, 0);
	pid_t ok = 31235;
	C3(0, .set_tid = (uint64_t)&ok, .set_tid_size = 1); C3(CLONE_NEWUTS, .set_tid = (uint64_t)&ok, .set_tid_size = 1);
	C1(SIGCHLD | CLONE_NEWNS | CLONE_SIGHAND, 0, 0, 0, 0);
	return 0;
}

static int seen;
static int shares(void *p)
{
	(void)p;
	seen++;
	dup2(1, 50);
	chdir("/tmp");
	umask(077);
	signal(SIGUSR2, SIG_IGN);
	_exit(0);
}

static void sharing(void)
{
	static const struct { const char *n; int f; } t[] = {
		{ "nothing", 0 }, { "VM", CLONE_VM }, { "FS", CLONE_FS }, { "FILES", CLONE_FILES }, { "VM|SIGHAND", CLONE_VM | CLONE_SIGHAND },
		{ "VM|FS|FILES|SIGHAND", CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND }, { "VM|VFORK", CLONE_VM | CLONE_VFORK }, { "FS|FILES|VFORK", CLONE_FS | CLONE_FILES | CLONE_VFORK },
	};
	say("-- sharing");
	for (unsigned i = 0; i < sizeof t / sizeof *t; i++) {
		int st;
		char cwd[100];
		chdir("/");
		umask(022);
		signal(SIGUSR2, SIG_DFL);
		close(50);
		seen = 0;
		pid_t p = clone(shares, stack + sizeof stack, t[i].f | SIGCHLD, 0);
		waitpid(p, &st, 0);
		mode_t m = umask(022);
		struct sigaction sa;
		sigaction(SIGUSR2, 0, &sa);
		say("%s: exit %x memory %d fd %d cwd %s umask %o ignored %d", t[i].n, st, seen, fcntl(50, F_GETFD), getcwd(cwd, sizeof cwd), m, sa.sa_handler == SIG_IGN);
	}
	chdir("/");
	umask(022);
	signal(SIGUSR2, SIG_DFL);
	close(50);
}

static int tids(void *p)
{
	int *w = p;
	shared[10] = w[1] == syscall(SYS_gettid); /* CHILD_SETTID is there before the child runs */
	shared[11] = w[0];
	_exit(0);
}

static void numbers(void)
{
	int st;
	say("-- numbers");
	int w[4] = { 0, 0, -1, 0 };
	pid_t p = clone(tids, stack + sizeof stack, CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, w, w, 0, w + 1);
	IS(w[0] == p);
	R(w[1]);
	waitpid(p, &st, 0);
	R(shared[10]);
	memset(w, 0, sizeof w);
	p = clone(tids, stack + sizeof stack, CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD, w, w, 0, w + 1);
	IS(w[0] == p);
	R(w[1]);
	R(shared[10]);
	IS(shared[11] == p);
	waitpid(p, &st, 0);
	/* CLEARTID wakes a waiter in shared memory although the child shares nothing else; the
	   word is cleared only where another user of the memory is left. */
	memset(w, -1, sizeof w);
	p = clone(tids, stack + sizeof stack, CLONE_VM | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD, w, 0, 0, w + 1);
	for (int v; (v = __atomic_load_n(w + 1, __ATOMIC_SEQ_CST)); )
		syscall(SYS_futex, w + 1, FUTEX_WAIT, v, 0, 0, 0);
	R(w[1]);
	waitpid(p, &st, 0);
	/* Memory of their own: nobody else sees it, it stays. */
	shared[12] = 0;
	p = syscall(SYS_clone, CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD, 0, 0, shared + 12, 0);
	if (!p)
		_exit(0);
	waitpid(p, &st, 0);
	IS(shared[12] == p);
	/* pidfd in clone and clone3. */
	int fd = -1, ptid = -1;
	p = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, &fd, 0, 0);
	if (!p)
		_exit(5);
	IS(fd >= 3);
	R(fcntl(fd, F_GETFD)); R(fcntl(fd, F_GETFL));
	siginfo_t si = { 0 };
	R(waitid(P_PIDFD, fd, &si, WEXITED));
	R(si.si_status); IS(si.si_pid == p);
	close(fd);
	fd = -1;
	struct args a = { CLONE_PIDFD | CLONE_PARENT_SETTID, .pidfd = (uint64_t)&fd, .parent_tid = (uint64_t)&ptid, .exit_signal = SIGCHLD };
	p = syscall(SYS_clone3, &a, sizeof a);
	if (!p)
		_exit(6);
	IS(fd >= 3); IS(ptid == p);
	waitpid(p, &st, 0);
	status("clone3 pidfd", st);
	close(fd);
	/* A refused clone leaves no descriptor. */
	int next = dup(1);
	close(next);
	a.pidfd = 8;
	R(syscall(SYS_clone3, &a, sizeof a));
	IS(dup(1) == next);
	close(next);
}

static int got;
static void count(int s) { got = s; }
static int ends(void *p) { (void)p; _exit(3); }
static int child_of_parent(void *p) { shared[0] = getppid(); (void)p; _exit(4); }
static int handlers(void *p)
{
	struct sigaction a, b, c;
	(void)p;
	sigaction(SIGUSR1, 0, &a);
	sigaction(SIGUSR2, 0, &b);
	sigaction(SIGCHLD, 0, &c);
	_exit((a.sa_handler == SIG_DFL) | (b.sa_handler == SIG_IGN) << 1 | (c.sa_handler == SIG_DFL) << 2);
}

static void signals_(void)
{
	int st;
	say("-- exit signals");
	signal(SIGUSR1, count);
	pid_t p = clone(ends, stack + sizeof stack, SIGUSR1, 0);
	R(waitpid(p, &st, 0)); /* not a SIGCHLD child: interrupted by the signal or not seen */
	R(waitpid(p, &st, __WALL) == p);
	status("SIGUSR1 child", st);
	R(got);
	got = 0;
	p = clone(ends, stack + sizeof stack, 0, 0);
	R(waitpid(p, &st, 0)); R(waitpid(p, &st, __WCLONE) == p); R(waitpid(p, &st, __WALL));
	p = clone(ends, stack + sizeof stack, SIGCHLD, 0);
	R(waitpid(p, &st, __WCLONE)); R(waitpid(p, &st, 0) == p);
	/* SIGCHLD ignored: only children that send it go by themselves. */
	signal(SIGCHLD, SIG_IGN);
	p = clone(ends, stack + sizeof stack, SIGUSR1, 0);
	nap(30);
	R(waitpid(p, &st, __WALL) == p);
	p = clone(ends, stack + sizeof stack, SIGCHLD, 0);
	R(waitpid(p, &st, __WALL));
	signal(SIGCHLD, SIG_DFL);
	say("-- CLONE_CLEAR_SIGHAND");
	signal(SIGUSR2, SIG_IGN);
	struct args a = { CLONE_CLEAR_SIGHAND, .exit_signal = SIGCHLD };
	p = syscall(SYS_clone3, &a, sizeof a);
	if (!p)
		handlers(0);
	waitpid(p, &st, 0);
	status("cleared", st);
	signal(SIGUSR1, SIG_DFL);
	signal(SIGUSR2, SIG_DFL);
	say("-- CLONE_PARENT");
	IN_CHILD(st, {
		pid_t q = clone(child_of_parent, stack + sizeof stack, CLONE_PARENT | SIGUSR2, 0);
		R(waitpid(q, &st, __WALL));
		nap(30);
		_exit(q > 0 ? 0 : 1);
	});
	status("between", st);
	R(wait(&st) > 0);
	IS(shared[0] == getpid());
	status("sibling", st);
}

static void *sleeper(void *p) { for (;;) pause(); return p; }
static void *forker(void *p)
{
	long r = vfork();
	if (!r) {
		nap(400);
		shared[3] = shared[4];
		_exit(9);
	}
	int st;
	waitpid(r, &st, 0);
	shared[5] = WEXITSTATUS(st);
	return p;
}

static void vforks(void)
{
	int st;
	say("-- vfork");
	/* Only the thread that calls vfork waits. */
	shared[3] = shared[4] = shared[5] = 0;
	pthread_t t;
	pthread_create(&t, 0, forker, 0);
	nap(5);
	shared[4] = 77;
	pthread_join(t, 0);
	R(shared[3]); R(shared[5]);
	/* The parent in vfork can be killed, the child goes on. */
	shared[6] = 0;
	pid_t p = fork();
	if (!p) {
		if (!vfork()) {
			shared[7] = 1;
			nap(300);
			shared[6] = 1;
			_exit(0);
		}
		_exit(1);
	}
	while (!shared[7])
		nap(1);
	R(kill(p, SIGKILL));
	R(waitpid(p, &st, 0) == p);
	status("killed in vfork", st);
	R(shared[6]);
	for (int i = 0; i < 500 && !shared[6]; i++)
		nap(10);
	R(shared[6]);
	/* fork in a threaded process copies the calling thread only. */
	pthread_create(&t, 0, sleeper, 0);
	IN_CHILD(st, _exit(field("/proc/self/status", "Threads:")));
	status("threads after fork", st);
}

static void unshares(void)
{
	int st;
	say("-- unshare");
	R(unshare(0)); R(unshare(1)); R(unshare(CLONE_VFORK)); R(unshare(CLONE_PARENT)); R(unshare(CLONE_FILES)); R(unshare(CLONE_FS)); R(unshare(CLONE_SYSVSEM)); R(unshare(CLONE_FILES | CLONE_FS | CLONE_SYSVSEM));
	IN_CHILD(st, {
		R(unshare(CLONE_THREAD)); R(unshare(CLONE_SIGHAND)); R(unshare(CLONE_VM)); R(unshare(CLONE_THREAD | CLONE_SIGHAND | CLONE_VM));
		pthread_t t;
		pthread_create(&t, 0, sleeper, 0);
		R(unshare(CLONE_THREAD)); R(unshare(CLONE_SIGHAND)); R(unshare(CLONE_VM)); R(unshare(CLONE_FS)); R(unshare(CLONE_FILES)); R(unshare(CLONE_NEWUSER));
	});
	R(unshare(CLONE_PIDFD)); R(unshare(CLONE_IO));
	say("-- setns");
	SC(setns, -1, 0); SC(setns, 99, CLONE_NEWUTS); SC(setns, 1, 0); SC(setns, 1, CLONE_NEWUTS); SC(setns, 1, 1);
	int fd = syscall(SYS_pidfd_open, getpid(), 0);
	SC(setns, fd, 0); SC(setns, fd, 1); SC(setns, fd, CLONE_NEWUSER);
	IN_CHILD(st, setresuid(1000, 1000, 1000); SC(setns, fd, CLONE_NEWUTS); SC(setns, fd, 0));
	close(fd);
}

static int kept(void *p) { (void)p; shared[1] = 1; while (shared[1]) nap(2); _exit(0); }

static void kcmps(void)
{
	int st, me = getpid();
	say("-- kcmp");
	SC(kcmp, 99999, me, KCMP_VM, 0, 0); SC(kcmp, me, 99999, KCMP_VM, 0, 0); SC(kcmp, me, me, 99, 0, 0); SC(kcmp, me, me, -1, 0, 0);
	SC(kcmp, me, me, KCMP_VM, 0, 0); SC(kcmp, me, me, KCMP_FILES, 0, 0); SC(kcmp, me, me, KCMP_FS, 0, 0); SC(kcmp, me, me, KCMP_SIGHAND, 0, 0); SC(kcmp, me, me, KCMP_IO, 0, 0); SC(kcmp, me, me, KCMP_SYSVSEM, 0, 0);
	int fd = dup(1), other = open("/dev/null", O_RDONLY);
	SC(kcmp, me, me, KCMP_FILE, 1, fd); SC(kcmp, me, me, KCMP_FILE, 1, 999); SC(kcmp, me, me, KCMP_FILE, -1, 1);
	IS(syscall(SYS_kcmp, me, me, KCMP_FILE, 1, other) + syscall(SYS_kcmp, me, me, KCMP_FILE, other, 1) == 3);
	static const struct { const char *n; int f; } t[] = { { "nothing", 0 }, { "VM", CLONE_VM }, { "FS", CLONE_FS }, { "FILES", CLONE_FILES }, { "VM|SIGHAND", CLONE_VM | CLONE_SIGHAND } };
	for (unsigned i = 0; i < 5; i++) {
		shared[1] = 0;
		pid_t p = clone(kept, stack + sizeof stack, t[i].f | SIGCHLD, 0);
		while (!shared[1])
			nap(1);
#define K(x) (syscall(SYS_kcmp, me, p, x, 1, 1) == 0)
		say("%s: file %d vm %d files %d fs %d sighand %d", t[i].n, K(KCMP_FILE), K(KCMP_VM), K(KCMP_FILES), K(KCMP_FS), K(KCMP_SIGHAND));
		if (!i)
			IN_CHILD(st, setresuid(1000, 1000, 1000); SC(kcmp, me, p, KCMP_VM, 0, 0); SC(kcmp, getpid(), getpid(), KCMP_VM, 0, 0); SC(kcmp, me, p, 99, 0, 0));
		shared[1] = 0;
		waitpid(p, &st, 0);
	}
	int ep = epoll_create1(0);
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = 5 };
	int pp[2];
	pipe(pp);
	epoll_ctl(ep, EPOLL_CTL_ADD, pp[0], &ev);
	struct kcmp_epoll_slot slot = { ep, pp[0], 0 };
	SC(kcmp, me, me, KCMP_EPOLL_TFD, pp[0], &slot); SC(kcmp, me, me, KCMP_EPOLL_TFD, 999, &slot);
	slot.toff = 1;
	SC(kcmp, me, me, KCMP_EPOLL_TFD, pp[0], &slot); SC(kcmp, me, me, KCMP_EPOLL_TFD, pp[0], 8);
	slot = (struct kcmp_epoll_slot){ pp[0], pp[0], 0 };
	SC(kcmp, me, me, KCMP_EPOLL_TFD, pp[0], &slot);
	slot = (struct kcmp_epoll_slot){ ep, pp[1], 0 };
	SC(kcmp, me, me, KCMP_EPOLL_TFD, pp[0], &slot);
}

static void all(void)
{
	int st;
	refused();
	IN_CHILD(st, _exit(rootless()));
	sharing();
	numbers();
	signals_();
	vforks();
	unshares();
	kcmps();
}

int main(void)
{
	shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return family(all);
}
