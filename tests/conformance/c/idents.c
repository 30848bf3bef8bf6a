/* Small calls about a process and the machine, and those that this kernel refuses as one built
 * without them does. */
#include "ipc.h"
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#define SC(n, ...) R(syscall(SYS_##n, ##__VA_ARGS__))
static void unroot(void) { MUST(setresuid(1000, 1000, 1000)); }

CASE(caps_get, capget)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 }, bad = { 0x123, 0 };
	struct __user_cap_data_struct d[2];
	SC(capget, &h, d);
	say("%x %x %x, %x %x %x", d[0].effective, d[0].permitted, d[0].inheritable, d[1].effective, d[1].permitted, d[1].inheritable);
	SC(capget, &bad, d);
	say("%x", bad.version);
	bad.version = 1;
	SC(capget, &bad, 0);
	h.version = _LINUX_CAPABILITY_VERSION_1;
	SC(capget, &h, d);
	h.version = _LINUX_CAPABILITY_VERSION_2;
	SC(capget, &h, d);
	h.version = _LINUX_CAPABILITY_VERSION_3;
	h.pid = 99999;
	SC(capget, &h, d);
	h.pid = -1;
	SC(capget, &h, d);
	h.pid = 0;
	SC(capget, &h, 8L);
	SC(capget, 8L, d);
	int c = FORK(unroot(); SC(capget, &h, d); say("%x %x", d[0].effective, d[0].permitted));
	reap("unprivileged", c);
}
CASE(caps_set, capset)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2] = { { 1 << CAP_KILL, 1 << CAP_KILL | 1 << CAP_CHOWN, 1 << CAP_KILL } };
	int c = FORK(SC(capset, &h, d); SC(capget, &h, d); say("%x %x %x", d[0].effective, d[0].permitted, d[0].inheritable);
		d[0].permitted |= 1 << CAP_SYS_TIME; SC(capset, &h, d); d[0].permitted = 1 << CAP_KILL; d[0].effective = 1 << CAP_CHOWN; SC(capset, &h, d);
		d[0].effective = 0; d[0].inheritable = 1 << CAP_NET_RAW; SC(capset, &h, d));
	reap("dropped", c);
	h.pid = 99999;
	SC(capset, &h, d);
	h.pid = FORK(pause());
	SC(capset, &h, d);
	kill(h.pid, SIGKILL);
	h.pid = 0, h.version = 5;
	SC(capset, &h, d);
	SC(capset, 8L, d);
	h.version = _LINUX_CAPABILITY_VERSION_3;
	SC(capset, &h, 8L);
}
CASE(personalities, personality)
{
	SC(personality, 0xffffffff);
	SC(personality, ADDR_NO_RANDOMIZE);
	SC(personality, 0xffffffff);
	SC(personality, PER_LINUX32);
	struct utsname u;
	uname(&u);
	say("%s", u.machine);
	int c = FORK(SC(personality, 0xffffffff));
	reap("child", c);
	SC(personality, 0);
	uname(&u);
	say("%s", u.machine);
}
CASE(usage, getrusage)
{
	struct rusage r;
	SC(getrusage, RUSAGE_SELF, &r);
	IS(r.ru_maxrss > 0);
	SC(getrusage, RUSAGE_CHILDREN, &r);
	SC(getrusage, RUSAGE_THREAD, &r);
	SC(getrusage, 2, &r);
	SC(getrusage, -2, &r);
	SC(getrusage, RUSAGE_SELF, 8L);
	SC(getrusage, RUSAGE_CHILDREN, 8L);
	SC(getrusage, RUSAGE_THREAD, 8L);
	SC(getrusage, 7, 8L);
}
CASE(info, sysinfo)
{
	struct sysinfo s;
	SC(sysinfo, &s);
	IS(s.totalram * s.mem_unit > 32 << 20 && s.freeram <= s.totalram && s.procs > 0 && s.uptime > 0);
	SC(sysinfo, 8L);
}
CASE(names, uname, sethostname, setdomainname)
{
	struct utsname u, old;
	SC(uname, &old);
	say("%s %s", old.sysname, old.machine);
	SC(uname, 8L);
	SC(sethostname, "kiln-test", 9);
	SC(setdomainname, "example", 7);
	uname(&u);
	say("%s %s", u.nodename, u.domainname);
	char b[80];
	gethostname(b, 80);
	say("%s", b);
	SC(sethostname, "x", -1);
	SC(sethostname, "x", 65);
	SC(sethostname, 8L, 5);
	SC(setdomainname, "x", 65);
	SC(setdomainname, 8L, 5);
	SC(sethostname, "", 0);
	uname(&u);
	say("[%s]", u.nodename);
	int c = FORK(unroot(); SC(sethostname, "x", 1); SC(setdomainname, "x", 99));
	reap("unprivileged", c);
	sethostname(old.nodename, strlen(old.nodename));
	setdomainname(old.domainname, strlen(old.domainname));
}
CASE(priorities, getpriority, setpriority)
{
	SC(getpriority, PRIO_PROCESS, 0);
	SC(setpriority, PRIO_PROCESS, 0, 5);
	SC(getpriority, PRIO_PROCESS, 0);
	SC(setpriority, PRIO_PROCESS, 0, 100);
	SC(getpriority, PRIO_PROCESS, 0);
	SC(setpriority, PRIO_PROCESS, 0, -100);
	SC(getpriority, PRIO_PROCESS, 0);
	SC(setpriority, PRIO_PROCESS, 0, 0);
	SC(getpriority, 3, 0);
	SC(setpriority, 3, 0, 0);
	SC(getpriority, PRIO_PROCESS, 99999);
	SC(setpriority, PRIO_PROCESS, 99999, 0);
	SC(getpriority, PRIO_PGRP, 99999);
	SC(setpriority, PRIO_PGRP, 99999, 0);
	SC(getpriority, PRIO_USER, 4711);
	SC(setpriority, PRIO_USER, 4711, 0);
	int c = FORK(setpgid(0, 0); SC(getpriority, PRIO_PGRP, 0); SC(setpriority, PRIO_PGRP, 0, 3); SC(getpriority, PRIO_PROCESS, 0); setresuid(4711, 4711, 4711); SC(getpriority, PRIO_USER, 0);
		SC(setpriority, PRIO_USER, 0, 7); SC(setpriority, PRIO_PROCESS, 0, 2); SC(setpriority, PRIO_PROCESS, getppid(), 9));
	reap("group", c);
}
CASE(io_priorities, ioprio_get, ioprio_set)
{
	SC(ioprio_get, 1, 0);
	SC(ioprio_set, 1, 0, 2 << 13 | 7);
	SC(ioprio_get, 1, 0);
	SC(ioprio_set, 1, 0, 3 << 13);
	SC(ioprio_get, 1, 0);
	SC(ioprio_set, 1, 0, 1 << 13 | 3);
	SC(ioprio_get, 1, 0);
	int c = FORK(SC(ioprio_get, 1, 0));
	reap("child", c);
	SC(ioprio_set, 1, 0, 0);
	SC(ioprio_get, 1, 0);
	SC(ioprio_set, 1, 0, 5);
	SC(ioprio_set, 1, 0, 2 << 13 | 8);
	SC(ioprio_set, 1, 0, 4 << 13);
	SC(ioprio_set, 4, 0, 0);
	SC(ioprio_get, 4, 0);
	SC(ioprio_get, 0, 0);
	SC(ioprio_get, 1, 99999);
	SC(ioprio_set, 1, 99999, 0);
	SC(ioprio_get, 2, 99999);
	SC(ioprio_set, 2, 99999, 0);
	SC(ioprio_get, 3, 4711);
	SC(ioprio_set, 3, 4711, 2 << 13);
	c = FORK(setpgid(0, 0); SC(ioprio_set, 2, 0, 2 << 13 | 1); SC(ioprio_get, 2, 0); setresuid(4711, 4711, 4711); SC(ioprio_set, 3, 4711, 2 << 13 | 2); SC(ioprio_get, 3, 4711); SC(ioprio_set, 1, 0, 1 << 13); SC(ioprio_set, 1, getppid(), 2 << 13));
	reap("group and user", c);
}
CASE(random_bytes, getrandom)
{
	char a[64] = "", b[64] = "";
	SC(getrandom, a, 64, 0);
	SC(getrandom, b, 64, GRND_NONBLOCK);
	IS(memcmp(a, b, 64));
	SC(getrandom, b, 64, GRND_RANDOM);
	SC(getrandom, b, 64, GRND_RANDOM | GRND_NONBLOCK);
	SC(getrandom, b, 64, 4 /* GRND_INSECURE */);
	SC(getrandom, b, 64, 4 | GRND_RANDOM);
	SC(getrandom, b, 64, 4 | GRND_NONBLOCK);
	SC(getrandom, b, 64, 8);
	SC(getrandom, b, 0, 0);
	SC(getrandom, 8L, 64, 0);
	SC(getrandom, 8L, 64, GRND_NONBLOCK);
	SC(getrandom, 8L, 64, GRND_RANDOM);
	SC(getrandom, 8L, 64, 4);
	SC(getrandom, 8L, 0, 0);
}
CASE(cpu, getcpu)
{
	unsigned c = 99, n = 99;
	SC(getcpu, &c, &n, 0);
	IS(c < 64 && n == 0);
	SC(getcpu, 0, 0, 0);
	SC(getcpu, 8L, 0, 0);
	SC(getcpu, 0, 8L, 0);
}
static struct rs { unsigned cpu_id_start, cpu_id; unsigned long cs; unsigned flags; } __attribute__((aligned(32))) rs = { 0, -1 }, other;
static void *registers(void *p)
{
	SC(rseq, &rs, 32, 0, 0x53053053);
	int same = 0; /* the thread may move between the two loads */
	for (int i = 0; i < 100 && !same; i++) {
		unsigned cpu = *(volatile unsigned *)&rs.cpu_id;
		same = cpu < 64 && *(volatile unsigned *)&rs.cpu_id_start == cpu;
	}
	IS(same);
	SC(rseq, &rs, 32, 0, 0x53053053);
	SC(rseq, &rs, 32, 0, 0x53053054);
	SC(rseq, &other, 32, 0, 0x53053053);
	SC(rseq, &rs, 32, 1, 0x53053054);
	SC(rseq, &other, 32, 1, 0x53053053);
	SC(rseq, &rs, 16, 1, 0x53053053);
	SC(rseq, &rs, 32, 1, 0x53053053);
	R(rs.cpu_id == -1);
	SC(rseq, &rs, 32, 1, 0x53053053);
	SC(rseq, (char *)&rs + 4, 32, 0, 0x53053053);
	SC(rseq, &rs, 16, 0, 0x53053053);
	SC(rseq, &rs, 32, 2, 0x53053053);
	SC(rseq, 32L, 32, 0, 0x53053053);
	SC(rseq, -32L, 32, 0, 0x53053053);
	return 0;
}
#include <sys/rseq.h>
#include <sys/wait.h>
/* wrong says whether a child's area shows another CPU than the one that it runs on. It may move
 * between the calls, but not each time. */
static int wrong(void)
{
	volatile struct rseq *r = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
	for (int i = 0; i < 5; i++) {
		unsigned before = r->cpu_id, c = 0;
		if (!syscall(SYS_getcpu, &c, 0, 0) && before == c && r->cpu_id == c)
			return 0;
	}
	return 1;
}
CASE(restartable_in_a_child, clone, getcpu)
{
	int st, bad = 0;
	for (int i = 0; i < 100; i++) {
		pid_t p = fork();
		if (p < 0) { say("fork: %s", errname(errno)); return; }
		if (!p) _exit(wrong());
		waitpid(p, &st, 0);
		bad += st != 0;
	}
	R(bad);
}
CASE(restartable, rseq)
{
	/* in a process of its own whose C library has not registered: a raw clone's thread */
	extern const unsigned __rseq_size;
	extern const long __rseq_offset;
	if (__rseq_size) /* the library's area is this thread's: take it away first */
		syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset, 32, 1, 0x53053053);
	registers(0);
}
CASE(robust, set_robust_list, get_robust_list)
{
	struct { void *next; long off; void *pending; } h = { &h }, *got;
	size_t n = 0;
	SC(set_robust_list, &h, 24);
	SC(get_robust_list, 0, &got, &n);
	IS((void *)got == &h && n == 24);
	SC(set_robust_list, &h, 23);
	SC(set_robust_list, &h, 32);
	SC(set_robust_list, 8L, 24); /* not looked at yet */
	SC(set_robust_list, 0, 24);
	SC(get_robust_list, 0, 8L, &n);
	SC(get_robust_list, 0, &got, 8L);
	SC(get_robust_list, 99999, &got, &n);
	SC(get_robust_list, -1, &got, &n);
	int p = FORK(pause()), c = FORK(unroot(); SC(get_robust_list, p, &got, &n));
	reap("unprivileged", c);
	kill(p, SIGKILL);
}
CASE(tid_address, set_tid_address)
{
	int a;
	IS(syscall(SYS_set_tid_address, &a) == getpid());
	IS(syscall(SYS_set_tid_address, 0) == getpid());
}
CASE(identities, getpid, gettid, getppid, getuid, geteuid, getgid, getegid, getpgrp)
{
	IS(syscall(SYS_getpid) == syscall(SYS_gettid));
	int me = getpid(), c = FORK(IS(syscall(SYS_getppid) == me); IS(syscall(SYS_getpid) != me); IS(syscall(SYS_gettid) == getpid()));
	reap("child", c);
	IS(syscall(SYS_getpid) == me && me > 0);
	SC(getuid);
	SC(geteuid);
	SC(getgid);
	SC(getegid);
	IS(syscall(SYS_getpgrp) == getpgid(0));
	c = FORK(setpgid(0, 0); IS(syscall(SYS_getpgrp) == getpid()); setresgid(5, 6, 7); setresuid(8, 9, 10); SC(getuid); SC(geteuid); SC(getgid); SC(getegid));
	reap("changed", c);
}
/* Kernels built without these say ENOSYS; the other one's answers are not compared. */
#define REFUSED(n, ...) do { long r_ = syscall(SYS_##n, ##__VA_ARGS__); say(#n ": refused %s", r_ == -1 ? "yes" : "NO"); } while (0)
CASE(refused)
{
	int c = FORK(unroot();
		REFUSED(bpf, 99, 0, 0); REFUSED(perf_event_open, 8L, 0, 0, -1, 0); REFUSED(kexec_load, 0, 0, 0, 0); REFUSED(kexec_file_load, -1, -1, 0, 0, 0);
		REFUSED(init_module, 0, 0, 8L); REFUSED(finit_module, -1, "", 0); REFUSED(delete_module, "x", 0); REFUSED(swapon, "/x", 0); REFUSED(swapoff, "/x");
		REFUSED(acct, "/x"); REFUSED(quotactl, 0, "/x", 0, 0); REFUSED(iopl, 3); REFUSED(ioperm, 0x80, 1, 1); REFUSED(uselib, "/x"); REFUSED(lookup_dcookie, 0, 8L, 0);
		REFUSED(_sysctl, 8L); REFUSED(nfsservctl, 0, 0, 0); REFUSED(vserver); REFUSED(security); REFUSED(tuxcall); REFUSED(afs_syscall); REFUSED(getpmsg); REFUSED(putpmsg);
		REFUSED(create_module, 0, 0); REFUSED(get_kernel_syms, 0); REFUSED(query_module, 0, 0, 0, 0, 0); REFUSED(set_thread_area, 8L); REFUSED(get_thread_area, 8L);
		REFUSED(epoll_ctl_old); REFUSED(epoll_wait_old); REFUSED(userfaultfd, 0xf0); REFUSED(keyctl, 9999); REFUSED(add_key, 8L, 8L, 0, 0, 0); REFUSED(request_key, 8L, 8L, 0, 0));
	reap("unprivileged", c);
}
CASES
