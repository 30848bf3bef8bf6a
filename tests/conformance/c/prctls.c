/* prctl and arch_prctl: each option, what it keeps over fork and exec, and its errors
 * (prctl(2), arch_prctl(2)). */
#include "ipc.h"
#include <asm/prctl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#define SC(n, ...) R(syscall(SYS_##n, ##__VA_ARGS__))
#define P(...) R(syscall(SYS_prctl, ##__VA_ARGS__))
static void unroot(void) { MUST(setresuid(1000, 1000, 1000)); }

CASE(name, prctl)
{
	char b[17] = "";
	P(PR_SET_NAME, "a name that is too long");
	P(PR_GET_NAME, b);
	say("%s", b);
	P(PR_SET_NAME, "");
	P(PR_GET_NAME, b);
	say("%s", b);
	P(PR_SET_NAME, 8L);
	P(PR_GET_NAME, 8L);
	P(PR_SET_NAME, "mine");
	int c = FORK(prctl(PR_GET_NAME, b); say("%s", b));
	reap("child", c);
}
CASE(death_signal, prctl)
{
	int s = 9;
	P(PR_GET_PDEATHSIG, &s);
	R(s);
	P(PR_SET_PDEATHSIG, SIGUSR1);
	P(PR_GET_PDEATHSIG, &s);
	R(s);
	P(PR_SET_PDEATHSIG, 65);
	P(PR_SET_PDEATHSIG, -1L);
	P(PR_GET_PDEATHSIG, 8L);
	int c = FORK(prctl(PR_GET_PDEATHSIG, &s); say("%d", s));
	reap("child", c);
	P(PR_SET_PDEATHSIG, 0);
	int p[2];
	pipe(p);
	c = FORK(int g = FORK(prctl(PR_SET_PDEATHSIG, SIGKILL); write(p[1], "x", 1); pause()); char b; read(p[0], &b, 1));
	reap("its parent", c);
	close(p[1]);
	char b;
	R(read(p[0], &b, 1)); /* the grandchild is gone */
}
CASE(dumpable, prctl)
{
	P(PR_GET_DUMPABLE);
	P(PR_SET_DUMPABLE, 0);
	P(PR_GET_DUMPABLE);
	P(PR_SET_DUMPABLE, 2);
	P(PR_SET_DUMPABLE, 3);
	P(PR_SET_DUMPABLE, -1L);
	P(PR_SET_DUMPABLE, 1);
	P(PR_GET_DUMPABLE);
	int c = FORK(unroot(); P(PR_GET_DUMPABLE));
	reap("after setuid", c);
}
CASE(capabilities, prctl)
{
	P(PR_CAPBSET_READ, 0);
	P(PR_CAPBSET_READ, 40);
	P(PR_CAPBSET_READ, 64);
	P(PR_CAPBSET_DROP, CAP_SYS_TIME);
	P(PR_CAPBSET_READ, CAP_SYS_TIME);
	P(PR_CAPBSET_DROP, 64);
	int c = FORK(unroot(); P(PR_CAPBSET_DROP, CAP_KILL); P(PR_CAPBSET_DROP, 64));
	reap("unprivileged", c);
	P(PR_GET_KEEPCAPS);
	P(PR_SET_KEEPCAPS, 1);
	P(PR_GET_KEEPCAPS);
	P(PR_SET_KEEPCAPS, 2);
	P(PR_SET_KEEPCAPS, 0);
}
CASE(ambient, prctl)
{
	P(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_KILL, 0, 0);
	P(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0);
	P(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, CAP_KILL, 0, 0);
	P(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	P(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 1, 0, 0);
	P(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 64, 0, 0);
	P(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 64, 0, 0);
	P(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, 64, 0, 0);
	P(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, 1, 1, 0);
	P(PR_CAP_AMBIENT, 9, 1, 0, 0);
}
CASE(securebits, prctl)
{
	P(PR_GET_SECUREBITS);
	P(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NO_SETUID_FIXUP);
	P(PR_GET_SECUREBITS);
	P(PR_SET_SECUREBITS, 0x100);
	P(PR_SET_SECUREBITS, SECBIT_NOROOT_LOCKED | SECBIT_NOROOT);
	P(PR_SET_SECUREBITS, 0);
	int c = FORK(unroot(); P(PR_SET_SECUREBITS, 0));
	reap("unprivileged", c);
}
CASE(no_new_privs, prctl)
{
	P(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
	P(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0);
	P(PR_SET_NO_NEW_PRIVS, 2, 0, 0, 0);
	P(PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0);
	P(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	P(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
	P(PR_GET_NO_NEW_PRIVS, 1, 0, 0, 0);
	int c = FORK(P(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	reap("child", c);
}
CASE(timer_slack, prctl)
{
	P(PR_GET_TIMERSLACK);
	P(PR_SET_TIMERSLACK, 1);
	P(PR_GET_TIMERSLACK);
	int c = FORK(P(PR_GET_TIMERSLACK); P(PR_SET_TIMERSLACK, 7); P(PR_SET_TIMERSLACK, 0); P(PR_GET_TIMERSLACK));
	reap("child", c);
	P(PR_SET_TIMERSLACK, -1L);
	P(PR_GET_TIMERSLACK);
}
CASE(subreaper, prctl)
{
	int v = 9;
	P(PR_GET_CHILD_SUBREAPER, &v);
	R(v);
	P(PR_SET_CHILD_SUBREAPER, 5);
	P(PR_GET_CHILD_SUBREAPER, &v);
	R(v);
	P(PR_GET_CHILD_SUBREAPER, 8L);
	int c = FORK(prctl(PR_GET_CHILD_SUBREAPER, &v); say("%d", v); FORK(ms(20); _exit(5)));
	reap("child", c);
	int st;
	wait(&st); /* the orphan */
	R(WEXITSTATUS(st));
}
CASE(huge_pages, prctl)
{
	P(PR_GET_THP_DISABLE, 0, 0, 0, 0);
	P(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	P(PR_GET_THP_DISABLE, 0, 0, 0, 0);
	P(PR_GET_THP_DISABLE, 1, 0, 0, 0);
	P(PR_SET_THP_DISABLE, 1, 1, 0, 0);
	P(PR_SET_THP_DISABLE, 1, 0, 0, 1);
	int c = FORK(P(PR_GET_THP_DISABLE, 0, 0, 0, 0));
	reap("child", c);
}
CASE(memory_errors, prctl)
{
	P(PR_MCE_KILL_GET, 0, 0, 0, 0);
	P(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0);
	P(PR_MCE_KILL_GET, 0, 0, 0, 0);
	P(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_LATE, 0, 0);
	P(PR_MCE_KILL_GET, 0, 0, 0, 0);
	P(PR_MCE_KILL, PR_MCE_KILL_SET, 3, 0, 0);
	P(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 0, 0, 0);
	P(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 1, 0, 0);
	P(PR_MCE_KILL, 5, 0, 0, 0);
	P(PR_MCE_KILL, PR_MCE_KILL_SET, 0, 1, 0);
	P(PR_MCE_KILL_GET, 1, 0, 0, 0);
}
CASE(flusher, prctl)
{
	P(PR_GET_IO_FLUSHER, 0, 0, 0, 0);
	P(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	P(PR_GET_IO_FLUSHER, 0, 0, 0, 0);
	P(PR_SET_IO_FLUSHER, 2, 0, 0, 0);
	P(PR_SET_IO_FLUSHER, 0, 1, 0, 0);
	P(PR_GET_IO_FLUSHER, 1, 0, 0, 0);
	P(PR_SET_IO_FLUSHER, 0, 0, 0, 0);
	int c = FORK(unroot(); P(PR_GET_IO_FLUSHER, 0, 0, 0, 0); P(PR_SET_IO_FLUSHER, 0, 0, 0, 0));
	reap("unprivileged", c);
}
CASE(small_ones, prctl)
{
	int v = 9;
	void *at = 0;
	P(PR_GET_TIMING);
	P(PR_SET_TIMING, PR_TIMING_STATISTICAL);
	P(PR_SET_TIMING, PR_TIMING_TIMESTAMP);
	P(PR_GET_TSC, &v);
	R(v);
	P(PR_GET_TSC, 8L);
	P(PR_SET_TSC, PR_TSC_ENABLE);
	P(PR_SET_TSC, 3);
	P(PR_TASK_PERF_EVENTS_DISABLE);
	P(PR_TASK_PERF_EVENTS_ENABLE);
	P(PR_GET_TID_ADDRESS, &at);
	IS(at != 0);
	P(PR_GET_TID_ADDRESS, 8L);
	P(PR_GET_UNALIGN, &v);
	P(PR_SET_UNALIGN, 1);
	P(PR_GET_FPEMU, &v);
	P(PR_SET_FPEMU, 1);
	P(PR_GET_FPEXC, &v);
	P(PR_SET_FPEXC, 1);
	P(PR_GET_ENDIAN, &v);
	P(PR_SET_ENDIAN, 1);
	P(PR_GET_FP_MODE);
	P(PR_SET_FP_MODE, 1);
	P(PR_SVE_GET_VL);
	P(PR_SVE_SET_VL, 1);
	P(PR_PAC_RESET_KEYS, 0, 0, 0, 0);
	P(PR_SET_TAGGED_ADDR_CTRL, 0, 0, 0, 0);
	P(PR_GET_TAGGED_ADDR_CTRL, 0, 0, 0, 0);
	P(PR_SET_PTRACER, getpid());
	P(PR_SET_PTRACER, 0);
	P(PR_SET_PTRACER, -1L);
	P(PR_SET_PTRACER, 99999);
	P(9999);
	P(-1);
	P(0);
}
CASE(map_layout, prctl)
{
	P(PR_SET_MM, PR_SET_MM_BRK, 0, 0, 0);
	P(PR_SET_MM, PR_SET_MM_BRK, 0, 0, 1);
	P(PR_SET_MM, 99, 0x400000L, 0, 0);
	int c = FORK(unroot(); P(PR_SET_MM, PR_SET_MM_START_BRK, 0x400000L, 0, 0); P(PR_SET_MM, PR_SET_MM_ARG_START, 8L, 0, 0));
	reap("unprivileged", c);
}
CASE(vma_names, prctl)
{
	char *p = mmap(0, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	P(0x53564d41, 1, p, 4096, "x"); /* PR_SET_VMA */
	P(0x53564d41, 0, p, 4096, "x");
	P(0x53564d41, 0, p + 1, 4096, "x");
}
CASE(seccomp_mode, prctl) { P(PR_GET_SECCOMP); P(PR_SET_SECCOMP, 9, 0); P(PR_SET_SECCOMP, 0, 0); int c = FORK(prctl(PR_SET_SECCOMP, 1); syscall(SYS_prctl, PR_GET_SECCOMP)); reap("strict", c); }
CASE(user_dispatch, prctl)
{
	P(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0);
	P(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 1, 0, 0);
	P(PR_SET_SYSCALL_USER_DISPATCH, 9, 0, 0, 0);
}
CASE(arch, arch_prctl)
{
	unsigned long fs = 1, gs = 1, old = 0;
	SC(arch_prctl, ARCH_GET_FS, &fs);
	IS(fs > 4096);
	SC(arch_prctl, ARCH_SET_GS, 0x12345678L);
	SC(arch_prctl, ARCH_GET_GS, &gs);
	say("%lx", gs);
	SC(arch_prctl, ARCH_SET_FS, fs);
	SC(arch_prctl, ARCH_SET_FS, 1L << 47);
	SC(arch_prctl, ARCH_SET_GS, -1L);
	SC(arch_prctl, ARCH_GET_FS, 8L);
	SC(arch_prctl, ARCH_GET_GS, 8L);
	SC(arch_prctl, 0, 0);
	SC(arch_prctl, 0x9999, 0);
	int c = FORK(SC(arch_prctl, ARCH_GET_GS, &gs); say("%lx", gs));
	reap("child", c);
}
CASES
