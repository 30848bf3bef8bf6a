/*
 * rlimits: setrlimit, getrlimit and prlimit, and every limit that binds; getrusage and times;
 * the prctl options of processes.
 */
#include "proc.h"
#include <sys/times.h>
#include <sys/prctl.h>

static void lim(int r, rlim_t cur, rlim_t max) { struct rlimit l = { cur, max }; if (setrlimit(r, &l)) say("setrlimit %d: %s", r, errname(errno)); }
#define MAX RLIM_INFINITY

static void rules(void)
{
	int st;
	struct rlimit l = { 10, 5 }, o;
	say("-- rules");
	R(setrlimit(RLIMIT_CORE, &l)); R(prlimit(0, RLIMIT_CORE, &l, 0));
	l = (struct rlimit){ 5, 10 };
	R(prlimit(0, RLIMIT_LOCKS, &l, &o)); R(o.rlim_cur == MAX); R(prlimit(0, RLIMIT_LOCKS, 0, &o)); R(o.rlim_cur); R(o.rlim_max);
	l = (struct rlimit){ 5, 1UL << 40 };
	R(setrlimit(RLIMIT_NOFILE, &l));
	l = (struct rlimit){ 5, 1048577 };
	R(setrlimit(RLIMIT_NOFILE, &l));
	SC(prlimit64, 0, 16, 0, 0); SC(prlimit64, 0, 0, 8, 0); SC(prlimit64, 0, 0, 0, 8); SC(prlimit64, 99999, 0, 0, 0); SC(prlimit64, 99999, 16, 0, 0); SC(prlimit64, -1, 0, 0, 0); SC(prlimit64, 99999, 0, 8, 0);
	IN_CHILD(st, {
		pid_t root = getppid();
		setresgid(1000, 1000, 1000); setresuid(1000, 1000, 1000);
		l = (struct rlimit){ 1, 4 };
		R(setrlimit(RLIMIT_LOCKS, &l)); l.rlim_max = 5; R(setrlimit(RLIMIT_LOCKS, &l)); l.rlim_cur = 4; l.rlim_max = 4; R(setrlimit(RLIMIT_LOCKS, &l));
		R(prlimit(root, RLIMIT_CORE, 0, &o)); R(prlimit(root, RLIMIT_CORE, &l, 0)); R(prlimit(root, 16, &l, 0)); R(prlimit(getpid(), RLIMIT_CORE, 0, &o));
		pid_t p = fork();
		if (!p) for (;;) pause();
		l = (struct rlimit){ 0, 0 };
		R(prlimit(p, RLIMIT_CORE, &l, 0)); R(prlimit(p, RLIMIT_CORE, 0, &o)); R(o.rlim_max);
		kill(p, SIGKILL);
		siginfo_t si; waitid(P_PID, p, &si, WEXITED | WNOWAIT);
		R(prlimit(p, RLIMIT_CORE, 0, &o));
		wait(0);
		R(prlimit(p, RLIMIT_CORE, 0, &o));
	});
	IN_CHILD(st, { /* limits belong to the process: all threads, inherited, kept by exec */
		lim(RLIMIT_CORE, 3, 30);
		IN_CHILD(st, getrlimit(RLIMIT_CORE, &o); _exit(o.rlim_cur + o.rlim_max));
		status("inherited", st);
	});
}

static volatile sig_atomic_t got;
static int codes[70];
static void on(int s, siginfo_t *i, void *c) { (void)c; got++; codes[s] = i->si_code; }
static void hook(int s) { struct sigaction a = { .sa_sigaction = on, .sa_flags = SA_SIGINFO | SA_RESTART }; sigaction(s, &a, 0); got = 0; }

static void burn(int ms)
{
	clock_t a = clock();
	while ((clock() - a) * 1000 / CLOCKS_PER_SEC < ms)
		;
}

static long tgkill_(int s) { return syscall(SYS_tgkill, getpid(), getpid(), s); }
static void *idle(void *p) { for (;;) pause(); return p; }

__attribute__((noinline)) static void deep(void) { volatile char b[65536]; b[0] = 1; }

static void bound(void)
{
	int st, fd;
	char b[8192];
	say("-- NPROC");
	IN_CHILD(st, { /* root is not bound */
		lim(RLIMIT_NPROC, 1, 1);
		IN_CHILD(st, _exit(1));
		status("root", st);
	});
	IN_CHILD(st, {
		lim(RLIMIT_NPROC, 4, 4);
		setresgid(2000, 2000, 2000); setresuid(2000, 2000, 2000);
		int n = 0, e;
		pid_t p;
		while ((p = fork()) > 0)
			n++;
		e = errno;
		if (!p) for (;;) pause();
		say("%d children, then %s", n, errname(e));
		pthread_t t;
		R(pthread_create(&t, 0, idle, 0));
		R(vfork());
		kill(p = getpid(), 0);
		signal(SIGTERM, SIG_IGN); kill(0, 0);
		R(kill(-1, SIGKILL));
		while (wait(0) > 0) ;
		R(pthread_create(&t, 0, idle, 0)); R(pthread_create(&t, 0, idle, 0)); R(pthread_create(&t, 0, idle, 0)); R(pthread_create(&t, 0, idle, 0)); /* threads count */
		R(fork());
	});
	IN_CHILD(st, { /* another user's processes do not count; setuid beyond the limit fails at exec */
		lim(RLIMIT_NPROC, 1, 1);
		pid_t p = fork();
		if (!p) { setresuid(2001, 2001, 2001); prctl(PR_SET_PDEATHSIG, SIGKILL); for (;;) pause(); }
		nap(20);
		R(setresuid(2001, 2001, 2001));
		R(fork());
		R(execl("/proc/self/exe", "rlimits", "exits", (char *)0));
		_exit(9);
	});
	status("over the limit", st);
	IN_CHILD(st, { /* who has ended counts until somebody has waited */
		lim(RLIMIT_NPROC, 5, 5);
		setresgid(2002, 2002, 2002); setresuid(2002, 2002, 2002);
		int n = 0;
		pid_t p;
		siginfo_t si;
		while (n < 20 && (p = fork()) >= 0) {
			if (!p) _exit(0);
			n++;
			waitid(P_PID, p, &si, WEXITED | WNOWAIT);
		}
		say("%d zombies, then %s", n, errname(errno));
		R(wait(0) > 0);
		p = fork();
		if (!p) _exit(0);
		R(p > 0);
		R(fork());
	});
	say("-- a child in the parent's memory");
	IN_CHILD(st, {
		deep(); /* later the stack cannot grow */
		struct rlimit l = { 1 << 20, 1 << 20 };
		char *m;
		if (!vfork()) {
			setrlimit(RLIMIT_AS, &l); setrlimit(RLIMIT_DATA, &l); l.rlim_cur = 0; setrlimit(RLIMIT_MEMLOCK, &l);
			_exit(0);
		}
		R(wait(&st) > 0);
		m = mmap(0, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		R(m != MAP_FAILED);
		R(mlock(m, 4096));
		if (!vfork()) { /* its limits are its child's */
			l.rlim_cur = 1 << 20; setrlimit(RLIMIT_AS, &l);
			pid_t p = fork();
			if (!p) _exit(mmap(0, 4 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
			waitpid(p, &st, 0);
			_exit(WEXITSTATUS(st));
		}
		R(wait(&st) > 0); R(WEXITSTATUS(st));
		l.rlim_cur = 32 << 20; l.rlim_max = 64 << 20; R(setrlimit(RLIMIT_AS, &l));
		R(mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
	});
	say("-- NOFILE");
	IN_CHILD(st, {
		for (int i = 3; i < 50; i++) close(i);
		lim(RLIMIT_NOFILE, 6, 10);
		R(dup(1)); R(dup(1)); R(dup(1)); R(dup(1)); R(dup2(1, 6)); R(dup2(1, 5)); R(fcntl(1, F_DUPFD, 6)); R(fcntl(1, F_DUPFD, 5));
		lim(RLIMIT_NOFILE, 10, 10);
		R(dup2(1, 9));
		lim(RLIMIT_NOFILE, 4, 10);
		R(write(9, "", 0)); R(dup2(1, 9)); R(dup(1)); R(close(9)); R(dup2(9, 9)); /* open ones stay open */
		pid_t p = getpid();
		IN_CHILD(st, R(dup(1)); struct rlimit l = { 8, 10 }; prlimit(p, RLIMIT_NOFILE, &l, 0));
		R(dup(1)); R(syscall(SYS_pidfd_open, p, 0));
		lim(RLIMIT_NOFILE, 0, 10);
		R(open("/", O_RDONLY));
	});
	say("-- FSIZE");
	IN_CHILD(st, {
		hook(SIGXFSZ);
		lim(RLIMIT_FSIZE, 100, MAX);
		fd = open("/tmp/fsize", O_RDWR | O_CREAT | O_TRUNC, 0600);
		R(write(fd, b, 90)); R(got); R(write(fd, b, 90)); R(got); R(write(fd, b, 1)); R(got); R(codes[SIGXFSZ]); R(pwrite(fd, b, 5, 95)); R(pwrite(fd, b, 5, 100)); R(got); R(pwrite(fd, b, 5, 1000)); R(got); R(ftruncate(fd, 101)); R(got); R(ftruncate(fd, 100)); R(fallocate(fd, 0, 0, 101)); R(got); R(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 200)); R(got); R(truncate("/tmp/fsize", 200)); R(got); R(write(fd, b, 0));
		int pp[2]; pipe(pp);
		R(write(pp[1], b, 200)); /* pipes are not files */
		R(got);
		signal(SIGXFSZ, SIG_DFL);
		write(fd, b, 1);
	});
	status("SIGXFSZ", st);
	say("-- CPU");
	IN_CHILD(st, {
		hook(SIGXCPU);
		lim(RLIMIT_CPU, 1, 6);
		for (int i = 0; i < 30 && got < 1; i++) burn(100);
		R(got >= 1); R(codes[SIGXCPU]);
		for (int i = 0; i < 25 && got < 2; i++) burn(100);
		R(got >= 2); /* once a second */
		for (;;) burn(1000);
	});
	status("hard CPU limit", st);
	IN_CHILD(st, lim(RLIMIT_CPU, 1, 3); int s; if (!fork()) { burn(3000); _exit(0); } wait(&s); status("inherited soft CPU limit", s));
	IN_CHILD(st, burn(200); lim(RLIMIT_CPU, 0, 3); burn(3000));
	status("CPU limit 0", st);
	say("-- AS, DATA, STACK, MEMLOCK");
	IN_CHILD(st, {
		lim(RLIMIT_AS, 64 << 20, MAX);
		R(mmap(0, 128 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0); R(malloc(100 << 20) ? 0 : -1); char *m = mmap(0, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); R(mremap(m, 1 << 20, 128 << 20, MREMAP_MAYMOVE) == MAP_FAILED ? -1 : 0); R(sbrk(100 << 20) == (void *)-1 ? -1 : 0);
	});
	IN_CHILD(st, {
		lim(RLIMIT_DATA, 1 << 20, MAX);
		R(mmap(0, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0); R(mmap(0, 8 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0); R(mmap(0, 8 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0); R(sbrk(8 << 20) == (void *)-1 ? -1 : 0);
	});
	IN_CHILD(st, lim(RLIMIT_STACK, 64 << 10, MAX); volatile char deep[200000]; memset((void *)deep, 1, sizeof deep); deep[0] = 1);
	status("stack beyond the limit", st);
	IN_CHILD(st, volatile char deep[200000]; memset((void *)deep, 1, sizeof deep); deep[0] = 1);
	status("stack within", st);
	IN_CHILD(st, {
		lim(RLIMIT_MEMLOCK, 8192, 8192);
		setresuid(1000, 1000, 1000);
		char *m = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		R(mlock(m, 8192)); R(mlock(m, 16384)); R(mlock(m + 8192, 4096)); R(munlock(m, 4096)); R(mlock(m + 8192, 4096)); R(mmap(0, 16384, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0) == MAP_FAILED ? -1 : 0); R(mlockall(MCL_CURRENT));
		lim(RLIMIT_MEMLOCK, 0, 0); R(mlock(m + 20000, 1)); R(mlockall(MCL_FUTURE));
	});
	say("-- SIGPENDING");
	IN_CHILD(st, {
		sigset_t s; sigfillset(&s); sigprocmask(SIG_BLOCK, &s, 0);
		setresuid(2002, 2002, 2002);
		lim(RLIMIT_SIGPENDING, 3, 3);
		union sigval v = { 1 };
		R(sigqueue(getpid(), 40, v)); R(sigqueue(getpid(), 40, v)); R(sigqueue(getpid(), 40, v)); R(sigqueue(getpid(), 40, v)); R(sigqueue(getpid(), 41, v)); R(kill(getpid(), 42)); R(kill(getpid(), SIGUSR1)); R(sigqueue(getpid(), SIGUSR2, v)); R(tgkill_(43));
		siginfo_t si;
		sigwaitinfo(&s, &si); say("signo %d code %d value %d", si.si_signo, si.si_code, si.si_value.sival_int); sigwaitinfo(&s, &si); say("signo %d code %d value %d", si.si_signo, si.si_code, si.si_value.sival_int); sigwaitinfo(&s, &si); say("signo %d", si.si_signo);
		R(sigqueue(getpid(), 41, v));
		timer_t t; R(timer_create(CLOCK_MONOTONIC, 0, &t));
	});
	say("-- CORE");
	IN_CHILD(st, lim(RLIMIT_CORE, 0, 0); abort());
	status("abort without core", st);
	say("-- NICE");
	IN_CHILD(st, {
		lim(RLIMIT_NICE, 25, 25); setresuid(1000, 1000, 1000);
		R(setpriority(PRIO_PROCESS, 0, 5)); R(setpriority(PRIO_PROCESS, 0, -5)); R(setpriority(PRIO_PROCESS, 0, -6)); R(setpriority(PRIO_PROCESS, 0, 0)); R(getpriority(PRIO_PROCESS, 0));
	});
}

static void usage(void)
{
	struct rusage u, v;
	struct tms t;
	say("-- getrusage and times");
	SC(getrusage, 0, 0); SC(getrusage, 0, 8); SC(getrusage, -1, 8); SC(getrusage, 1, 8); SC(getrusage, 2, 8); SC(getrusage, -2, 0); SC(times, 8);
	memset(&u, 0x55, sizeof u);
	getrusage(RUSAGE_SELF, &u);
	R(u.ru_ixrss); R(u.ru_idrss); R(u.ru_isrss); R(u.ru_nswap); R(u.ru_msgsnd); R(u.ru_msgrcv); R(u.ru_nsignals); IS(u.ru_maxrss > 100); IS(u.ru_minflt > 10);
	getrusage(RUSAGE_THREAD, &u);
	memset(malloc(1 << 20), 1, 1 << 20);
	getrusage(RUSAGE_THREAD, &v);
	IS(v.ru_minflt > u.ru_minflt); /* how many depends on how much a fault maps */
	getrusage(RUSAGE_THREAD, &u);
	for (int i = 0; i < 100 && (!i || v.ru_nvcsw - u.ru_nvcsw < 3); i++) { /* one that is over before it begins, on a host that is late, does not count */
		nap(2);
		getrusage(RUSAGE_THREAD, &v);
	}
	IS(v.ru_nvcsw - u.ru_nvcsw >= 3);
	clock_t a = times(&t), b;
	burn(100);
	b = times(&t);
	IS(b - a >= 9); IS(t.tms_utime + t.tms_stime >= 9); R(t.tms_cutime + t.tms_cstime < 1000); OK(times(0));
	/* The peak stays when the memory goes. */
	char *m = mmap(0, 30 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(m, 1, 30 << 20);
	munmap(m, 30 << 20);
	getrusage(RUSAGE_SELF, &u);
	IS(u.ru_maxrss >= 30 << 10);
}

static void prctls(void)
{
	int st, v;
	char b[100];
	say("-- prctl");
#define C(...) R(syscall(SYS_prctl, __VA_ARGS__))
	C(-1, 0, 0, 0, 0); C(0, 0, 0, 0, 0); C(9999, 0, 0, 0, 0);
	C(PR_SET_NAME, "a name that is too long", 0, 0, 0); C(PR_GET_NAME, b, 0, 0, 0); say("%s", b); C(PR_SET_NAME, 8, 0, 0, 0); C(PR_GET_NAME, 8, 0, 0, 0);
	C(PR_GET_DUMPABLE, 0, 0, 0, 0); C(PR_SET_DUMPABLE, 2, 0, 0, 0); C(PR_SET_DUMPABLE, -1, 0, 0, 0); C(PR_SET_DUMPABLE, 0, 0, 0, 0); C(PR_GET_DUMPABLE, 0, 0, 0, 0); C(PR_SET_DUMPABLE, 1, 0, 0, 0);
	C(PR_SET_TIMERSLACK, 1000, 0, 0, 0); C(PR_GET_TIMERSLACK, 0, 0, 0, 0); C(PR_SET_TIMERSLACK, 0, 0, 0, 0); C(PR_GET_TIMERSLACK, 0, 0, 0, 0);
	C(PR_SET_PDEATHSIG, 65, 0, 0, 0); C(PR_GET_PDEATHSIG, 8, 0, 0, 0); C(PR_SET_CHILD_SUBREAPER, 5, 0, 0, 0); v = 9; C(PR_GET_CHILD_SUBREAPER, &v, 0, 0, 0); R(v); C(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0); C(PR_GET_CHILD_SUBREAPER, 8, 0, 0, 0);
	C(PR_GET_ENDIAN, &v, 0, 0, 0); C(PR_SET_ENDIAN, 0, 0, 0, 0); C(PR_GET_FPEMU, &v, 0, 0, 0); C(PR_GET_FPEXC, &v, 0, 0, 0); C(PR_SET_UNALIGN, 0, 0, 0, 0); C(PR_GET_UNALIGN, &v, 0, 0, 0); C(PR_GET_TSC, &v, 0, 0, 0); C(PR_SET_TSC, 9, 0, 0, 0); C(PR_GET_TIMING, 0, 0, 0, 0);
	C(PR_GET_TID_ADDRESS, &v, 0, 0, 0); C(PR_SET_MM, PR_SET_MM_BRK, 0, 0, 0); C(PR_SET_MM, 99, 0, 0, 0); C(PR_SET_PTRACER, 1, 0, 0, 0); C(PR_SET_PTRACER, 99999, 0, 0, 0); C(PR_SET_PTRACER, 0, 0, 0, 0); C(PR_SET_PTRACER, -1, 0, 0, 0);
	C(PR_SET_IO_FLUSHER, 1, 0, 0, 0); C(PR_GET_IO_FLUSHER, 0, 0, 0, 0); C(PR_GET_IO_FLUSHER, 1, 0, 0, 0); C(PR_SET_IO_FLUSHER, 2, 0, 0, 0); C(PR_SET_IO_FLUSHER, 0, 0, 0, 0);
	C(PR_MCE_KILL, 9, 0, 0, 0); C(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 0, 0, 0); C(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0); C(PR_MCE_KILL_GET, 0, 0, 0, 0); C(PR_MCE_KILL, PR_MCE_KILL_SET, 9, 0, 0); C(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_DEFAULT, 0, 0); C(PR_MCE_KILL_GET, 0, 0, 0, 0); C(PR_MCE_KILL_GET, 1, 0, 0, 0);
	C(PR_SET_THP_DISABLE, 1, 0, 0, 0); C(PR_GET_THP_DISABLE, 0, 0, 0, 0); C(PR_SET_THP_DISABLE, 0, 0, 0, 0); C(PR_GET_THP_DISABLE, 0, 0, 0, 0); C(PR_GET_THP_DISABLE, 1, 0, 0, 0);
	C(53, 0, 0, 0, 0); C(60, 1, 0, 0, 0); C(PR_SVE_GET_VL, 0, 0, 0, 0); C(PR_SET_FP_MODE, 0, 0, 0, 0); C(PR_GET_FP_MODE, 0, 0, 0, 0); C(PR_SET_SYSCALL_USER_DISPATCH, 0, 0, 0, 0); C(PR_SET_SYSCALL_USER_DISPATCH, 9, 0, 0, 0);
	C(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); C(PR_GET_SECCOMP, 0, 0, 0, 0); C(PR_TASK_PERF_EVENTS_DISABLE, 0, 0, 0, 0);
	C(PR_CAPBSET_READ, 0, 0, 0, 0); C(PR_CAPBSET_READ, 40, 0, 0, 0); C(PR_CAPBSET_READ, 41, 0, 0, 0); C(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 0, 0, 0); C(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 0, 0, 0); C(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, 41, 0, 0); C(PR_CAP_AMBIENT, 9, 0, 0, 0); C(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 1, 0, 0); C(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); C(PR_GET_KEEPCAPS, 0, 0, 0, 0); C(PR_GET_SECUREBITS, 0, 0, 0, 0);
	IN_CHILD(st, {
		setresuid(1000, 1000, 1000);
		C(PR_GET_DUMPABLE, 0, 0, 0, 0); C(PR_CAPBSET_DROP, 5, 0, 0, 0); C(PR_CAPBSET_DROP, 99, 0, 0, 0); C(PR_SET_SECUREBITS, 1, 0, 0, 0); C(PR_SET_SECUREBITS, 0, 0, 0, 0); C(PR_SET_KEEPCAPS, 1, 0, 0, 0); C(PR_GET_KEEPCAPS, 0, 0, 0, 0); C(PR_SET_IO_FLUSHER, 1, 0, 0, 0); C(PR_GET_IO_FLUSHER, 0, 0, 0, 0); C(PR_SET_MM, PR_SET_MM_BRK, 0, 0, 0); C(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 5, 0, 0); C(PR_GET_TID_ADDRESS, &v, 0, 0, 0);
	});
	char *m = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
#define VMA 0x53564d41
	C(VMA, 0, m, 8192, "a name"); C(VMA, 0, m, 8192, 0); C(VMA, 0, m + 1, 4096, "x"); C(VMA, 0, m, 4096, "bad\001"); C(VMA, 0, m, 4096, "bad[x]"); C(VMA, 1, m, 4096, "x"); C(VMA, 0, m, 4096, 8); C(VMA, 0, 0x10000, 4096, "x"); C(VMA, 0, m, 0, "x"); C(VMA, 0, m, 4096, "12345678901234567890123456789012345678901234567890123456789012345678901234567890123");
}

static void all(void)
{
	rules();
	bound();
	usage();
	prctls();
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return 33;
	return family(all);
}
