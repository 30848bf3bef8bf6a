/* seccomp: strict mode, filters and what they can answer, inheritance, threads, and the
 * errors of the call (seccomp(2)). Each part runs in a child: there is no way back. */
#include "../../programs/c/check.h"
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <ucontext.h>

#define LD(off) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, off)
#define NR LD(offsetof(struct seccomp_data, nr))
#define RET(v) BPF_STMT(BPF_RET | BPF_K, v)
#define JEQ(k, t, f) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, t, f)
#define LEN(a) (sizeof a / sizeof *a)
#define L(expr) ({ errno = 0; last = (expr); last; })
#define FAILS(expr) do { errno = 0; long r_ = (expr); say("%s: %ld %s", #expr, r_, r_ < 0 ? errname(errno) : ""); } while (0)

static long last;

static long sec(unsigned op, unsigned flags, void *p) { return syscall(SYS_seccomp, op, flags, p); }

static long filter(struct sock_filter *f, int n, unsigned flags)
{
	struct sock_fprog p = {n, f};
	return sec(SECCOMP_SET_MODE_FILTER, flags, &p);
}

/* on answers one call with ret and lets the others be. */
static long on(int nr, unsigned ret, unsigned flags)
{
	struct sock_filter f[] = {NR, JEQ(nr, 0, 1), RET(ret), RET(SECCOMP_RET_ALLOW)};
	return filter(f, LEN(f), flags);
}

static void child(const char *what, void (*f)(void))
{
	pid_t pid = fork();
	if (pid == 0) {
		struct rlimit none = {0, 0};
		setrlimit(RLIMIT_CORE, &none);
		f();
		_exit(7);
	}
	int st = 0;
	waitpid(pid, &st, 0);
	say("%s: %s %d", what, WIFSIGNALED(st) ? "signal" : "exit", WIFSIGNALED(st) ? WTERMSIG(st) : WEXITSTATUS(st));
}

static void strict_ok(void)
{
	say("mode %d", prctl(PR_GET_SECCOMP));
	FAILS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
	say("write is allowed");
	syscall(SYS_exit, 3);
}

static void strict_kill(void)
{
	sec(SECCOMP_SET_MODE_STRICT, 0, 0);
	syscall(SYS_getpid);
	say("not reached");
}

static void strict_read(void)
{
	int p[2];
	char c = 0;
	if (pipe(p) < 0 || write(p[1], "r", 1) != 1)
		say("pipe: %s", errname(errno));
	sec(SECCOMP_SET_MODE_STRICT, 0, 0);
	if (read(p[0], &c, 1) == 1)
		say("read %c", c);
	syscall(SYS_exit_group, 0);
}

static void errnos(void)
{
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	FAILS(on(SYS_getppid, SECCOMP_RET_ERRNO | 42, 0));
	FAILS(syscall(SYS_getppid));
	FAILS(on(SYS_getpgid, SECCOMP_RET_ERRNO | 0, 0));
	FAILS(syscall(SYS_getpgid, 99999));
	FAILS(on(SYS_getsid, SECCOMP_RET_ERRNO | 5000, 0));
	L(syscall(SYS_getsid, 0));
	say("getsid: %ld %d", last, errno);
	FAILS(prctl(PR_GET_SECCOMP));
	/* The strictest answer counts, of equal ones the newest. */
	FAILS(on(SYS_getppid, SECCOMP_RET_ERRNO | 43, 0));
	L(syscall(SYS_getppid));
	say("two filters: %ld %d", last, errno);
	FAILS(on(SYS_getppid, SECCOMP_RET_LOG, 0));
	L(syscall(SYS_getppid));
	say("a weaker one: %ld %d", last, errno);
	FAILS(on(SYS_alarm, SECCOMP_RET_TRACE | 1, 0));
	FAILS(syscall(SYS_alarm, 0));
	FAILS(on(SYS_times, SECCOMP_RET_USER_NOTIF, 0));
	FAILS(syscall(SYS_times, 0));
	FAILS(on(SYS_getuid, SECCOMP_RET_LOG, 0));
	FAILS(syscall(SYS_getuid));
	FAILS(sec(SECCOMP_SET_MODE_STRICT, 0, 0));
	FAILS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
	FAILS(prctl(PR_SET_SECCOMP, 3));
	FILE *f = fopen("/proc/self/status", "r");
	char l[200];
	while (f && fgets(l, sizeof l, f))
		if (!strncmp(l, "Seccomp", 7) || !strncmp(l, "NoNew", 5))
			printf("%s", l);
	fflush(stdout);
}

static void arguments(void)
{
	struct sock_filter f[] = {
		LD(offsetof(struct seccomp_data, arch)), JEQ(AUDIT_ARCH_X86_64, 0, 8),
		NR, JEQ(SYS_lseek, 0, 5),
		LD(offsetof(struct seccomp_data, args[1])), JEQ(0x55667788, 0, 3),
		LD(offsetof(struct seccomp_data, args[1]) + 4), JEQ(0x11223344, 0, 1),
		RET(SECCOMP_RET_ERRNO | EDOM), RET(SECCOMP_RET_ALLOW), RET(SECCOMP_RET_KILL),
	};
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	FAILS(filter(f, LEN(f), 0));
	FAILS(syscall(SYS_lseek, 99, 0x1122334455667788, 0));
	FAILS(syscall(SYS_lseek, 99, 0x1122334555667788, 0));
	FAILS(syscall(SYS_lseek, 99, 0x55667788, 0));
}

static void computes(void)
{
	/* All the arithmetic there is; the answer is errno. */
	struct sock_filter f[] = {
		NR, JEQ(SYS_getppid, 1, 0), RET(SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_LD | BPF_IMM, 100), BPF_STMT(BPF_ST, 3), BPF_STMT(BPF_LDX | BPF_IMM, 7),
		BPF_STMT(BPF_STX, 5), BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0), /* 107 */
		BPF_STMT(BPF_ALU | BPF_SUB | BPF_K, 2), /* 105 */
		BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, 3), /* 315 */
		BPF_STMT(BPF_ALU | BPF_DIV | BPF_X, 0), /* 45 */
		BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 4), /* 720 */
		BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 2), /* 180 */
		BPF_STMT(BPF_ALU | BPF_XOR | BPF_K, 0xff), /* 75 */
		BPF_STMT(BPF_ALU | BPF_OR | BPF_K, 0x100), /* 331 */
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x3f), /* 11 */
		BPF_STMT(BPF_ALU | BPF_NEG, 0), BPF_STMT(BPF_ALU | BPF_NEG, 0),
		BPF_STMT(BPF_MISC | BPF_TAX, 0), BPF_STMT(BPF_LD | BPF_MEM, 3),
		BPF_STMT(BPF_ALU | BPF_SUB | BPF_X, 0), /* 89 */
		BPF_STMT(BPF_LDX | BPF_MEM, 5), BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0), /* 96 */
		BPF_STMT(BPF_LDX | BPF_W | BPF_LEN, 0), BPF_STMT(BPF_ALU | BPF_SUB | BPF_X, 0), /* 32 */
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 31, 0, 2), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 32, 0, 1),
		BPF_STMT(BPF_JMP | BPF_JA, 1), RET(SECCOMP_RET_KILL),
		BPF_STMT(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO), BPF_STMT(BPF_RET | BPF_A, 0),
	};
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	FAILS(filter(f, LEN(f), 0));
	L(syscall(SYS_getppid));
	say("computed: %ld %d", last, errno);
}

static void divides(void)
{
	struct sock_filter f[] = {
		NR, JEQ(SYS_getppid, 1, 0), RET(SECCOMP_RET_ALLOW), BPF_STMT(BPF_LDX | BPF_IMM, 0),
		BPF_STMT(BPF_ALU | BPF_DIV | BPF_X, 0), RET(SECCOMP_RET_ALLOW),
	};
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	FAILS(filter(f, LEN(f), 0));
	syscall(SYS_getppid);
	say("not reached");
}

static void kill_process(void)
{
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	signal(SIGSYS, SIG_IGN);
	on(SYS_getppid, SECCOMP_RET_KILL_PROCESS, 0);
	syscall(SYS_getppid);
	say("not reached");
}

static void kill_only_thread(void)
{
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	on(SYS_getppid, SECCOMP_RET_KILL_THREAD, 0);
	syscall(SYS_getppid);
	say("not reached");
}

static void unknown_action(void)
{
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	on(SYS_getppid, 0x12340000, 0);
	syscall(SYS_getppid);
	say("not reached");
}

static volatile int ran;

static void *doomed(void *arg)
{
	(void)arg;
	on(SYS_getppid, SECCOMP_RET_KILL_THREAD, 0);
	ran = 1;
	syscall(SYS_getppid);
	ran = 2;
	return 0;
}

static void kill_thread(void)
{
	pthread_t t;
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	pthread_create(&t, 0, doomed, 0);
	while (!ran)
		usleep(1000);
	usleep(20000);
	say("the thread got to %d, the main one has mode %d and lives: %d", ran, prctl(PR_GET_SECCOMP), syscall(SYS_getppid) > 0);
}

static void trapped(int sig, siginfo_t *si, void *u)
{
	ucontext_t *uc = u;
	say("signal %d code %d errno %d call %d arch %#x rax %lld at rip %d", sig, si->si_code, si->si_errno, si->si_syscall,
	    si->si_arch, uc->uc_mcontext.gregs[REG_RAX], (void *)uc->uc_mcontext.gregs[REG_RIP] == si->si_call_addr);
	uc->uc_mcontext.gregs[REG_RAX] = 1234;
}

static void trap(void)
{
	struct sigaction sa = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	sigaction(SIGSYS, &sa, 0);
	on(SYS_getppid, SECCOMP_RET_TRAP | 77, 0);
	say("emulated: %ld", syscall(SYS_getppid));
	sigset_t s;
	sigemptyset(&s), sigaddset(&s, SIGSYS), sigprocmask(SIG_BLOCK, &s, 0);
	syscall(SYS_getppid);
	say("not reached: the signal cannot be blocked");
}

static void forked(void)
{
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	on(SYS_getppid, SECCOMP_RET_ERRNO | 42, 0);
	if (fork() == 0) {
		L(syscall(SYS_getppid));
		say("in the child: %ld %d", last, errno);
		char *v[] = {"/bin/seccomp", "after_exec", 0};
		execv(v[0], v);
		say("execv: %s", errname(errno));
		_exit(1);
	}
	wait(0);
}

static void *waits(void *arg)
{
	while (!__atomic_load_n((int *)arg, __ATOMIC_ACQUIRE))
		usleep(1000);
	errno = 0;
	long r = syscall(SYS_getppid);
	return (void *)(long)(r < 0 ? errno : 0);
}

static void synced(void)
{
	pthread_t t;
	int go = 0;
	void *r;
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	pthread_create(&t, 0, waits, &go);
	FAILS(on(SYS_getppid, SECCOMP_RET_ERRNO | 42, SECCOMP_FILTER_FLAG_TSYNC));
	__atomic_store_n(&go, 1, __ATOMIC_RELEASE);
	pthread_join(t, &r);
	say("the other thread has it: %ld", (long)r);
}

static volatile int own_tid, state;

static void *has_its_own(void *arg)
{
	(void)arg;
	own_tid = syscall(SYS_gettid);
	on(SYS_getppid, SECCOMP_RET_ERRNO | 1, 0);
	state = 1;
	while (state == 1)
		usleep(1000);
	return 0;
}

static void unsynced(void)
{
	pthread_t t;
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	pthread_create(&t, 0, has_its_own, 0);
	while (!state)
		usleep(1000);
	long r = on(SYS_getppid, SECCOMP_RET_ERRNO | 42, SECCOMP_FILTER_FLAG_TSYNC);
	say("the number of the other thread: %d, mode %d", r == own_tid, prctl(PR_GET_SECCOMP));
	FAILS(on(SYS_getppid, SECCOMP_RET_ERRNO | 42, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH));
	state = 2;
	pthread_join(t, 0);
}

static void unprivileged(void)
{
	if (setuid(1000) < 0)
		say("setuid: %s", errname(errno));
	FAILS(on(SYS_getppid, SECCOMP_RET_ALLOW, 0));
	FAILS(filter((void *)8, 1, 0));
	FAILS(filter((void *)8, 0, 0));
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	FAILS(on(SYS_getppid, SECCOMP_RET_ALLOW, 0));
	FAILS(filter((void *)8, 1, 0));
}

static void many(void)
{
	static struct sock_filter f[4096];
	for (int i = 0; i < 4095; i++)
		f[i] = (struct sock_filter)NR;
	f[4095] = (struct sock_filter)RET(SECCOMP_RET_ALLOW);
	int n = 0;
	while (n < 100 && filter(f, 4096, 0) == 0)
		n++;
	say("filters of 4096: %d, then %s", n, errname(errno));
}

static void bad(void)
{
	unsigned known[] = {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP, SECCOMP_RET_ERRNO, SECCOMP_RET_USER_NOTIF,
			    SECCOMP_RET_TRACE, SECCOMP_RET_LOG, SECCOMP_RET_ALLOW, 0x12340000, 1};
	for (unsigned i = 0; i < LEN(known); i++) {
		L(sec(SECCOMP_GET_ACTION_AVAIL, 0, &known[i]));
		say("action %#x: %ld %s", known[i], last, errno ? errname(errno) : "");
	}
	FAILS(sec(SECCOMP_GET_ACTION_AVAIL, 1, known));
	FAILS(sec(SECCOMP_GET_ACTION_AVAIL, 0, 0));
	struct seccomp_notif_sizes z;
	FAILS(sec(SECCOMP_GET_NOTIF_SIZES, 0, &z));
	say("sizes %d %d %d", z.seccomp_notif, z.seccomp_notif_resp, z.seccomp_data);
	FAILS(sec(SECCOMP_GET_NOTIF_SIZES, 0, 0));
	FAILS(sec(SECCOMP_GET_NOTIF_SIZES, 1, &z));
	FAILS(sec(9, 0, 0));
	FAILS(sec(SECCOMP_SET_MODE_STRICT, 1, 0));
	FAILS(sec(SECCOMP_SET_MODE_STRICT, 0, &z));
	FAILS(sec(SECCOMP_SET_MODE_FILTER, 0x80, 0));
	FAILS(sec(SECCOMP_SET_MODE_FILTER, 0, 0));
	FAILS(sec(SECCOMP_SET_MODE_FILTER, 0, (void *)8));
	struct sock_filter ok[] = {RET(SECCOMP_RET_ALLOW)};
	FAILS(filter(ok, 0, 0));
	FAILS(filter(ok, 4097, 0));
	static const struct sock_filter progs[][3] = {
		{NR, NR, NR}, /* no return */
		{LD(64), RET(0), RET(0)},
		{LD(2), RET(0), RET(0)},
		{BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 0), RET(0), RET(0)},
		{BPF_STMT(BPF_LD | BPF_W | BPF_IND, 0), RET(0), RET(0)},
		{BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 3), RET(0), RET(0)},
		{BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), RET(0), RET(0)},
		{BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 32), RET(0), RET(0)},
		{BPF_STMT(BPF_LD | BPF_MEM, 0), RET(0), RET(0)},
		{BPF_STMT(BPF_ST, 16), RET(0), RET(0)},
		{BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 2, 0), RET(0), RET(0)},
		{BPF_STMT(BPF_JMP | BPF_JA, 0xffffffff), RET(0), RET(0)},
		{BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0), RET(0), RET(0)},
		{BPF_STMT(BPF_RET | BPF_X, 0), RET(0), RET(0)},
		{BPF_STMT(0xffff, 0), RET(0), RET(0)},
	};
	for (unsigned i = 0; i < LEN(progs); i++) {
		errno = 0;
		long r = filter((void *)progs[i], 3, 0);
		say("bad program %u: %ld %s", i, r, r < 0 ? errname(errno) : "");
	}
}

CASE(errors, seccomp) { child("errors", bad); }
CASE(strict, prctl) { child("strict", strict_ok); }
CASE(strict_kill, seccomp) { child("strict, another call", strict_kill); }
CASE(strict_read, seccomp) { child("strict, read and exit_group", strict_read); }
CASE(errno, seccomp, prctl) { child("errno", errnos); }
CASE(arguments, seccomp) { child("arguments", arguments); }
CASE(arithmetic, seccomp) { child("arithmetic", computes); }
CASE(division, seccomp) { child("division by zero", divides); }
CASE(kill_process, seccomp) { child("kill process", kill_process); }
CASE(kill_only_thread, seccomp) { child("kill the only thread", kill_only_thread); }
CASE(kill_thread, seccomp) { child("kill a thread", kill_thread); }
CASE(unknown_action, seccomp) { child("an action nobody knows", unknown_action); }
CASE(trap, seccomp) { child("trap", trap); }
CASE(fork_exec, seccomp) { child("fork and exec", forked); }
CASE(tsync, seccomp) { child("tsync", synced); }
CASE(tsync_fails, seccomp) { child("tsync that cannot be", unsynced); }
CASE(unprivileged, seccomp, prctl) { child("without privileges", unprivileged); }
CASE(too_many, seccomp) { child("too many", many); }

CASE(after_exec)
{
	R(syscall(SYS_getppid) == -1);
	say("mode %d", prctl(PR_GET_SECCOMP));
}

CASES
