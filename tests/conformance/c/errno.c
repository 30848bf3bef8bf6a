/*
 * errno: the errors of system calls by family, in the order Linux checks: bad flags
 * before bad descriptors or after, limits, states. Pointers are badptr's business.
 */
#include "../../programs/c/check.h"
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#define SC(n, ...) R(syscall(SYS_##n, ##__VA_ARGS__))

static char buf[8192];

static void descriptors(void)
{
	say("-- descriptors that are not open");
	SC(read, -1, buf, 1); SC(write, -1, buf, 1); SC(close, -1); SC(fstat, -1, buf); SC(lseek, -1, 0, 0);
	SC(pread64, -1, buf, 1, 0); SC(pwrite64, -1, buf, 1, 0); SC(readv, -1, buf, 0); SC(writev, -1, buf, 0);
	SC(ioctl, -1, 0, 0); SC(fcntl, -1, F_GETFD); SC(dup, -1); SC(dup2, -1, -1); SC(dup3, -1, -1, 0);
	SC(fsync, -1); SC(fdatasync, -1); SC(ftruncate, -1, 0); SC(ftruncate, -1, -1); SC(fchmod, -1, 0); SC(fchown, -1, 0, 0);
	SC(fchdir, -1); SC(flock, -1, LOCK_SH); SC(getdents64, -1, buf, 100); SC(fstatfs, -1, buf); SC(fallocate, -1, 0, 0, 1);
	SC(fallocate, -1, 0, 0, 0); SC(fadvise64, -1, 0, 0, 0); SC(readahead, -1, 0, 0); SC(sync_file_range, -1, 0, 0, 0); SC(syncfs, -1);
	SC(sendfile, -1, -1, 0, 1); SC(splice, -1, 0, -1, 0, 1, 0); SC(tee, -1, -1, 1, 0); SC(vmsplice, -1, buf, 0, 0);
	SC(copy_file_range, -1, 0, -1, 0, 1, 0); SC(epoll_wait, -1, buf, 1, 0); SC(epoll_ctl, -1, 1, -1, buf);
	SC(timerfd_settime, -1, 0, buf, 0); SC(timerfd_gettime, -1, buf); SC(signalfd4, -2, buf, 8, 0); SC(signalfd4, -1, buf, 7, 0);
	SC(accept, -1, 0, 0); SC(bind, -1, buf, 16); SC(connect, -1, buf, 16); SC(listen, -1, 1); SC(shutdown, -1, 0);
	SC(getsockname, -1, buf, buf); SC(getsockopt, -1, 1, 1, buf, buf); SC(setsockopt, -1, 1, 1, buf, 4); SC(sendto, -1, buf, 1, 0, 0, 0);
	SC(recvfrom, -1, buf, 1, 0, 0, 0); SC(sendmsg, -1, buf, 0); SC(recvmsg, -1, buf, 0); SC(openat, -1, "x", 0, 0); SC(openat, -1, "/", 0, 0);
	SC(mkdirat, -1, "x", 0); SC(unlinkat, -1, "x", 0); SC(newfstatat, -1, "x", buf, 0); SC(newfstatat, -1, "", buf, AT_EMPTY_PATH);
	SC(readlinkat, -1, "x", buf, 1); SC(symlinkat, "y", -1, "x"); SC(linkat, -1, "x", -1, "y", 0); SC(renameat2, -1, "x", -1, "y", 0);
	SC(fchmodat, -1, "x", 0); SC(fchownat, -1, "x", 0, 0, 0); SC(faccessat, -1, "x", 0); SC(utimensat, -1, 0, 0, 0); SC(inotify_rm_watch, -1, 1);
	SC(preadv, -1, buf, 0, 0, 0); SC(preadv2, -1, buf, 0, 0, 0, 0); SC(execveat, -1, "x", 0, 0, 0); SC(mmap, 0, 4096, 1, 2, -1, 0);
	SC(openat, 0, "x", 0, 0); SC(fgetxattr, -1, "user.x", buf, 1); SC(pidfd_send_signal, -1, 0, 0, 0); SC(memfd_create, "x", -1);
}

static void kinds(void)
{
	say("-- descriptors of the wrong kind");
	int p[2], f = open("/tmp/kind", O_RDWR | O_CREAT, 0600), e = eventfd(0, EFD_NONBLOCK), ep = epoll_create1(0), s = socket(AF_INET, SOCK_STREAM, 0);
	int path = open("/tmp/kind", O_PATH), d = open("/tmp", O_RDONLY), t = timerfd_create(CLOCK_MONOTONIC, 0);
	pipe(p);
	SC(lseek, p[0], 0, 0); SC(lseek, s, 0, 0); SC(lseek, e, 0, 0); SC(lseek, ep, 0, 0); SC(pread64, s, buf, 1, 0); SC(pwrite64, e, buf, 1, 0);
	SC(pread64, d, buf, 1, 0); SC(write, d, buf, 1); SC(ftruncate, d, 0); SC(ftruncate, e, 0); SC(ftruncate, s, 0); SC(fsync, s); SC(fsync, e); SC(fsync, d);
	SC(read, ep, buf, 8); SC(write, ep, buf, 8); SC(read, s, buf, 1); SC(write, t, buf, 8); SC(read, e, buf, 4); SC(write, e, buf, 4);
	SC(read, path, buf, 1); SC(write, path, buf, 1); SC(fstat, path, buf); SC(fchmod, path, 0600); SC(ftruncate, path, 0); SC(lseek, path, 0, 0); SC(ioctl, path, FIONREAD, buf);
	SC(fcntl, path, F_GETFL); SC(fcntl, path, F_SETFL, 0); SC(fcntl, path, F_GETFD); SC(fsync, path); SC(mmap, 0, 4096, 1, 2, path, 0); SC(flock, path, LOCK_SH); SC(getdents64, path, buf, 100);
	SC(getdents64, p[0], buf, 100); SC(getdents64, s, buf, 100); SC(fchdir, p[0]); SC(flock, p[0], LOCK_SH | LOCK_NB); SC(fallocate, p[0], 0, 0, 1); SC(fallocate, d, 0, 0, 1); SC(fallocate, s, 0, 0, 1);
	SC(mmap, 0, 4096, 1, 2, p[0], 0); SC(mmap, 0, 4096, 1, 1, e, 0); SC(mmap, 0, 4096, 1, 1, ep, 0);
	SC(splice, f, 0, f, 0, 1, 0); SC(tee, f, p[1], 1, 0); SC(splice, p[0], 0, p[0], 0, 1, 0); SC(vmsplice, f, buf, 0, 0); SC(sendfile, f, p[0], 0, 1); SC(sendfile, d, f, 0, 1); SC(copy_file_range, p[0], 0, f, 0, 1, 0); SC(copy_file_range, d, 0, f, 0, 1, 0);
	SC(accept, f, 0, 0); SC(listen, p[0], 1); SC(getsockname, e, buf, buf); SC(shutdown, f, 0); SC(epoll_ctl, f, 1, p[0], buf); SC(timerfd_gettime, e, buf); SC(epoll_wait, e, buf, 1, 0);
	SC(fcntl, f, F_GETPIPE_SZ); SC(fcntl, p[0], F_SETPIPE_SZ, -1); SC(fcntl, f, F_ADD_SEALS, 1); SC(fcntl, f, F_GET_SEALS); SC(ioctl, f, TIOCGWINSZ, buf); SC(ioctl, p[0], TIOCGWINSZ, buf); SC(ioctl, s, TIOCGWINSZ, buf); SC(ioctl, ep, FIONREAD, buf); SC(ioctl, d, FIONREAD, buf);
	SC(fadvise64, p[0], 0, 0, 0); SC(fadvise64, f, 0, 0, 99); SC(fadvise64, f, 0, -1, 0); SC(readahead, p[0], 0, 0); SC(sync_file_range, f, 0, 0, 99); SC(sync_file_range, f, -1, 0, 0); SC(sync_file_range, p[0], 0, 0, 0);
	SC(openat, f, "x", 0, 0); SC(mkdirat, f, "x", 0); SC(newfstatat, f, "", buf, AT_EMPTY_PATH); SC(newfstatat, f, "", buf, 0); SC(newfstatat, d, "", buf, 0x99999); SC(newfstatat, f, "x", buf, 0); SC(statx, f, "", 0x1000, 0x80000000u, buf); SC(statx, f, "", 0x1000, 0x7ff, buf); SC(statx, f, "", 0x6000, 0x7ff, buf);
	SC(fchmodat, AT_FDCWD, "", 0600); SC(linkat, f, "", AT_FDCWD, "/tmp/kind2", 0); SC(linkat, f, "x", AT_FDCWD, "/tmp/kind2", 0x9999); SC(unlinkat, d, "", 0); SC(faccessat2, d, "", 0, 0x9999);
	for (int fd = 3; fd < 30; fd++)
		close(fd);
	unlink("/tmp/kind");
}

static void paths(void)
{
	say("-- paths");
	static const char *const bad[] = { "", "/", ".", "..", "/tmp/", "/tmp/.", "/tmp/..", "/tmp/none", "/tmp/none/", "/tmp/f", "/tmp/f/", "/tmp/f/.", "/tmp/f/x", "/tmp/dangle", "/tmp/dangle/", "/tmp/dir", "/tmp/dir/", "/tmp/linkd", "/tmp/linkd/" };
	struct stat st;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		const char *p = bad[i];
#define ON(x) do { \
	system_setup(); errno = 0; long r_ = (long)(x); \
	say("%s with p = '%s': %s", #x, p, r_ == -1 ? errname(errno) : "ok"); \
	if (r_ > 2) close(r_); } while (0)
		void system_setup(void)
		{
			close(open("/tmp/f", O_CREAT | O_WRONLY, 0600));
			mkdir("/tmp/dir", 0700);
			symlink("none", "/tmp/dangle");
			symlink("dir", "/tmp/linkd");
			unlink("/tmp/none");
			rmdir("/tmp/none");
			unlink("/tmp/new");
			rmdir("/tmp/new");
			chdir("/tmp");
		}
		ON(stat(p, &st)); ON(lstat(p, &st)); ON(access(p, F_OK)); ON(open(p, O_RDONLY)); ON(open(p, O_WRONLY)); ON(open(p, O_RDONLY | O_DIRECTORY));
		ON(open(p, O_RDONLY | O_NOFOLLOW)); ON(open(p, O_CREAT | O_RDONLY, 0600)); ON(open(p, O_CREAT | O_EXCL | O_RDONLY, 0600)); ON(open(p, O_CREAT | O_DIRECTORY, 0600)); ON(open(p, O_TMPFILE | O_RDWR, 0600)); ON(open(p, O_RDONLY | O_TRUNC));
		ON(readlink(p, buf, 100)); ON(chdir(p)); ON(truncate(p, 5)); ON(chmod(p, 0700)); ON(lchown(p, 0, 0)); ON(utimensat(AT_FDCWD, p, NULL, 0));
		ON(mkdir(p, 0700)); ON(mknod(p, S_IFREG | 0600, 0)); ON(symlink("x", p)); ON(link("/tmp/f", p)); ON(link(p, "/tmp/new")); ON(unlink(p));
		ON(rename("/tmp/f", p)); ON(rename(p, "/tmp/new"));
		if (strncmp(p, "/tmp/dir", 8) && strncmp(p, "/tmp/linkd", 10))
			ON(rename("/tmp/dir", p));
		rmdir("/tmp/new"); unlink("/tmp/new");
		if (strcmp(p, "/"))
			ON(rmdir(p));
		ON(execve(p, (char *[]){ "x", NULL }, (char *[]){ NULL }) );
		ON(statfs(p, (void *)buf));
	}
}

static void processes(void)
{
	say("-- processes");
	struct rlimit rl = { 0, 0 };
	int st;
	SC(wait4, -1, 0, 0, 0); SC(wait4, -1, 0, 0x1000, 0); SC(wait4, 99999, 0, 0, 0); SC(wait4, INT_MIN, 0, 0, 0); SC(waitid, P_ALL, 0, 0, 0, 0); SC(waitid, P_ALL, 0, 0, WEXITED, 0); SC(waitid, 99, 0, 0, WEXITED, 0); SC(waitid, P_PID, 0, 0, WEXITED, 0);
	SC(kill, 99999, 9); SC(kill, getpid(), -1); SC(kill, getpid(), 65); SC(tkill, 0, 0); SC(tkill, -1, 0); SC(tgkill, getpid(), 99999, 0); SC(tgkill, 99999, gettid(), 0); SC(tgkill, 0, 0, 0); SC(tgkill, getpid(), getpid(), 65);
	SC(getpgid, 99999); SC(getsid, 99999); SC(setpgid, 99999, 0); SC(setpgid, -1, 0); SC(setpgid, 0, -1); SC(getpriority, 99, 0); SC(getpriority, PRIO_PROCESS, 99999); SC(setpriority, PRIO_PROCESS, 99999, 0); SC(setpriority, 99, 0, 0);
	SC(sched_setscheduler, 0, 99, buf); SC(sched_setscheduler, 0, SCHED_FIFO, &(int){ 0 }); SC(sched_setscheduler, 0, SCHED_OTHER, &(int){ 1 }); SC(sched_setscheduler, -1, 0, buf); SC(sched_setscheduler, 99999, 0, &(int){ 0 }); SC(sched_getscheduler, -1); SC(sched_getscheduler, 99999); SC(sched_getparam, -1, buf); SC(sched_get_priority_max, 99); SC(sched_get_priority_min, SCHED_RR); SC(sched_rr_get_interval, -1, buf); SC(sched_setaffinity, 0, 0, buf); SC(sched_getaffinity, 0, 3, buf); SC(sched_getaffinity, 99999, 128, buf);
	SC(getrlimit, 16, &rl); SC(setrlimit, 16, &rl); SC(prlimit64, 99999, 0, 0, 0); SC(prlimit64, 0, 99, 0, 0); SC(prlimit64, -1, 0, 0, 0); SC(getrusage, 5, buf);
	SC(clone, CLONE_THREAD, 0, 0, 0, 0); SC(clone, CLONE_SIGHAND, 0, 0, 0, 0); SC(clone, CLONE_THREAD | CLONE_SIGHAND, 0, 0, 0, 0); SC(clone, CLONE_NEWNS | CLONE_FS, 0, 0, 0, 0); SC(clone3, buf, 8); SC(clone3, buf, 100000); SC(unshare, 0x1); SC(unshare, 0);
	SC(prctl, PR_SET_DUMPABLE, 3); SC(prctl, PR_SET_KEEPCAPS, 2); SC(prctl, PR_SET_NO_NEW_PRIVS, 0); SC(prctl, PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0); SC(prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); SC(prctl, PR_SET_TIMING, 1); SC(prctl, PR_GET_SECCOMP); SC(prctl, PR_SET_SECCOMP, 99, 0); SC(prctl, PR_CAPBSET_READ, 99); SC(prctl, PR_CAPBSET_READ, 0); SC(prctl, PR_SET_TIMERSLACK, 5000); SC(prctl, PR_GET_TIMERSLACK); SC(prctl, PR_SET_THP_DISABLE, 0, 1, 0, 0); SC(prctl, PR_GET_CHILD_SUBREAPER, 0);
	SC(personality, 0xffffffff); SC(setuid, -1); SC(setresuid, -1, -1, -1); SC(setreuid, -1, -1); SC(setgroups, -1, 0); SC(setgroups, 70000, 0); SC(getgroups, -1, 0); SC(capget, buf, 0); SC(get_robust_list, 99999, buf, buf); SC(set_robust_list, buf, 1); SC(membarrier, 99999, 0, 0); SC(membarrier, 0, 1, 0); SC(rseq, 0, 0, 0, 0); SC(rseq, buf, 32, 99, 0); SC(getcpu, 0, 0, 0); SC(sethostname, buf, -1); SC(sethostname, buf, 65); SC(setdomainname, buf, 65); SC(syslog, 99, 0, 0); SC(reboot, 0, 0, 0, 0); SC(acct, "/tmp/none"); SC(swapon, "/tmp/none", 0); SC(seccomp, 99, 0, 0); SC(bpf, 99, 0, 0); SC(ptrace, 99, 99999, 0, 0); SC(pidfd_open, 99999, 0); SC(pidfd_open, getpid(), 99); SC(kcmp, 99999, 99999, 0, 0, 0); SC(getrandom, buf, 10, 99); SC(umask, 022); SC(sysfs, 99); SC(ustat, -1, buf); SC(pivot_root, "/tmp/none", "/tmp/none"); SC(init_module, 0, 0, ""); SC(delete_module, "nope", 0); SC(add_key, 0, 0, 0, 0, 0) ; SC(ioprio_get, 99, 0); SC(ioprio_set, 99, 0, 0); SC(iopl, 4); SC(ioperm, -1, 1, 1); SC(modify_ldt, 99, 0, 0); SC(quotactl, 99, 0, 0, 0); SC(mbind, 1, 0, 0, 0, 0, 0); SC(get_mempolicy, 0, 0, 0, 0, 99); SC(process_vm_readv, 99999, 0, 0, 0, 0, 1); SC(process_vm_readv, 99999, 0, 0, 0, 0, 0);
	(void)st;
}

static void timers(void)
{
	say("-- time");
	struct itimerval iv = { { 0, 0 }, { 0, 1000000 } };
	timer_t t;
	SC(nanosleep, &(struct timespec){ 0, -1 }, 0); SC(setitimer, 3, &iv, 0); SC(setitimer, 0, &iv, 0); iv.it_value.tv_usec = -1; SC(setitimer, 0, &iv, 0); SC(getitimer, 3, &iv);
	SC(clock_getres, 99, 0); SC(clock_getres, 0, 0); SC(clock_gettime, 10, buf); SC(clock_settime, CLOCK_MONOTONIC, &(struct timespec){ 1, 0 }); SC(clock_settime, 0, &(struct timespec){ 1, -1 }); SC(clock_settime, 0, &(struct timespec){ -1, 0 }); SC(clock_nanosleep, CLOCK_MONOTONIC, 99, &(struct timespec){ 0, 1 }, 0); SC(clock_nanosleep, CLOCK_MONOTONIC_RAW, 0, &(struct timespec){ 0, 1 }, 0); SC(clock_nanosleep, CLOCK_MONOTONIC_COARSE, 0, &(struct timespec){ 0, 1 }, 0); SC(clock_nanosleep, CLOCK_BOOTTIME, 0, &(struct timespec){ 0, 1 }, 0);
	SC(timer_create, 99, 0, &t); SC(timer_create, CLOCK_MONOTONIC_RAW, 0, &t); SC(timer_delete, 12345); SC(timer_gettime, 12345, buf); SC(timer_getoverrun, 12345); SC(timer_settime, 12345, 0, buf, 0);
	struct sigevent se = { .sigev_notify = 99 };
	SC(timer_create, 0, &se, &t); se.sigev_notify = SIGEV_SIGNAL; se.sigev_signo = 99; SC(timer_create, 0, &se, &t); se.sigev_notify = SIGEV_NONE;
	SC(timer_create, 0, &se, buf); SC(timer_settime, *(int *)buf, 0, &(struct itimerspec){ .it_value = { 0, -1 } }, 0); SC(timer_settime, *(int *)buf, 0, &(struct itimerspec){ .it_value = { 1, 0 } }, 0); SC(timer_getoverrun, *(int *)buf); SC(timer_delete, *(int *)buf); SC(timer_delete, *(int *)buf);
	SC(timerfd_create, 0, 1); SC(timerfd_create, CLOCK_MONOTONIC_RAW, 0); SC(timerfd_create, CLOCK_PROCESS_CPUTIME_ID, 0); SC(adjtimex, 0); SC(clock_adjtime, 99, buf); SC(settimeofday, &(struct timeval){ 1, -1 }, 0); SC(alarm, 0); SC(utimensat, AT_FDCWD, "/tmp", &(struct timespec[2]){ { 0, -5 }, { 0, 0 } }, 0); SC(utimensat, AT_FDCWD, "/tmp", 0, 0x999);
}

static void signals(void)
{
	say("-- signals");
	unsigned long m = 0;
	signal(SIGUSR1, SIG_IGN);
	SC(rt_sigaction, 0, 0, 0, 8); SC(rt_sigaction, 65, 0, 0, 8); SC(rt_sigaction, 10, 0, 0, 4); SC(rt_sigaction, SIGKILL, 0, 0, 8); SC(rt_sigaction, SIGKILL, buf, 0, 8); SC(rt_sigprocmask, 99, &m, 0, 8); SC(rt_sigprocmask, 99, 0, 0, 8); SC(rt_sigprocmask, 0, &m, 0, 4); SC(rt_sigpending, &m, 16); SC(rt_sigpending, &m, 4); SC(rt_sigsuspend, &m, 4); SC(rt_sigtimedwait, &m, 0, &(struct timespec){ 0, 0 }, 4); SC(rt_sigtimedwait, &m, 0, &(struct timespec){ 0, 0 }, 8); SC(rt_sigqueueinfo, getpid(), 10, &(siginfo_t){ .si_code = 0 }); SC(rt_sigqueueinfo, 99999, 10, &(siginfo_t){ .si_code = SI_QUEUE }); SC(rt_tgsigqueueinfo, getpid(), -1, 10, &(siginfo_t){ .si_code = SI_QUEUE }); SC(sigaltstack, &(stack_t){ .ss_size = 10, .ss_sp = buf }, 0); SC(sigaltstack, &(stack_t){ .ss_flags = 5 }, 0); SC(sigaltstack, &(stack_t){ .ss_flags = SS_DISABLE }, 0); SC(pause + 10000); SC(signalfd4, -1, &m, 8, 99);
}

static void polling(void)
{
	say("-- polling");
	SC(poll, buf, -1, 0); SC(poll, buf, 2000000, 0); SC(ppoll, 0, 0, &(struct timespec){ 0, 1000000000 }, 0, 8); SC(ppoll, 0, 0, &(struct timespec){ 0, 0 }, buf, 4); SC(select, -1, 0, 0, 0, 0); SC(select, 0, 0, 0, 0, &(struct timeval){ -1, 0 }); SC(select, 0, 0, 0, 0, &(struct timeval){ 0, 2000000 }); SC(pselect6, 0, 0, 0, 0, &(struct timespec){ 0, 1000000000 }, 0); SC(epoll_create, -1); SC(epoll_create1, 99); SC(eventfd2, 0, 99); SC(inotify_init1, 99); SC(pipe2, buf, 99); SC(futex, buf, 99, 0, 0, 0, 0); SC(futex, buf + 1, FUTEX_WAIT, 0, 0, 0, 0); SC(futex, buf, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 1, 0, 0, 0); SC(futex, buf, FUTEX_REQUEUE, -1, 1, buf + 64, 0); SC(futex, buf, FUTEX_LOCK_PI, 0, &(struct timespec){ 0, -1 }, 0, 0); SC(io_setup, 0, buf); SC(io_destroy, 1); SC(io_uring_enter, -1, 0, 0, 0, 0, 0);
}

static void sockets(void)
{
	say("-- sockets");
	int s = socket(AF_INET, SOCK_STREAM, 0), u = socket(AF_INET, SOCK_DGRAM, 0), x = socket(AF_UNIX, SOCK_STREAM, 0), v;
	socklen_t l = 4, neg = -1;
	SC(socket, -1, 1, 0); SC(socket, AF_UNIX, 0, 0); SC(socket, AF_UNIX, SOCK_STREAM, 5); SC(socket, AF_INET, SOCK_STREAM | 0x100000, 0); SC(socket, AF_INET, SOCK_SEQPACKET, 0); SC(socket, AF_INET, SOCK_DGRAM, 6); SC(socketpair, AF_UNIX, 99, 0, buf); SC(socketpair, AF_UNIX, SOCK_STREAM, 9, buf);
	SC(bind, s, buf, 1); SC(bind, s, buf, 200); SC(bind, s, buf, -1); SC(bind, x, buf, 2); SC(connect, s, buf, 1); SC(connect, x, buf, 1); SC(connect, s, &(struct sockaddr){ .sa_family = 99 }, 16); SC(connect, u, &(struct sockaddr){ .sa_family = AF_UNSPEC }, 16); SC(sendto, u, buf, 1, 0, buf, 1); SC(sendto, u, buf, 1, MSG_OOB, 0, 0); SC(sendto, s, buf, 1, MSG_NOSIGNAL, 0, 0); SC(recvfrom, s, buf, 1, 0, 0, 0); SC(recvfrom, u, buf, 1, MSG_DONTWAIT, 0, 0); SC(recvfrom, x, buf, 1, 0, 0, 0); SC(getpeername, s, buf, &l); SC(getsockname, s, buf, &neg); SC(shutdown, s, 0); SC(shutdown, u, 2); SC(shutdown, x, 1); SC(accept4, s, 0, 0, 99); SC(accept, x, 0, 0);
	l = 4; SC(getsockopt, s, 99, 1, &v, &l); SC(getsockopt, s, 6, 999, &v, &l); SC(getsockopt, s, 0, 999, &v, &l); SC(getsockopt, s, 1, 3, &v, &neg); SC(setsockopt, s, 1, 2, &v, -1); SC(setsockopt, s, 1, 2, &v, 0); SC(setsockopt, s, 6, 1, &v, 1); SC(setsockopt, s, 99, 1, &v, 4); SC(setsockopt, s, 1, SO_ERROR, &v, 4); SC(setsockopt, s, 1, SO_RCVTIMEO, &(struct timeval){ 0, 1000000 }, 16); SC(setsockopt, s, 1, SO_RCVTIMEO, &v, 4); SC(sendmmsg, u, buf, 0, 0); SC(recvmmsg, u, buf, 0, 0, 0); SC(ioctl, s, 0x8999, buf); SC(ioctl, s, 0x1234, buf); SC(ioctl, x, 0x8912, 0);
	close(s); close(u); close(x);
}

static void limits(void)
{
	say("-- limits");
	struct rlimit rl = { 20, 4096 }, old;
	getrlimit(RLIMIT_NOFILE, &old);
	R(setrlimit(RLIMIT_NOFILE, &rl));
	int last = -1, fd;
	while ((fd = dup(1)) >= 0)
		last = fd;
	R(last);
	R(dup(1)); R(open("/tmp", O_RDONLY)); R(pipe((int *)buf)); R(socket(AF_INET, SOCK_STREAM, 0)); R(epoll_create1(0)); R(eventfd(0, 0)); R(dup2(1, 20)); R(dup2(1, 19)); R(fcntl(1, F_DUPFD, 20)); R(fcntl(1, F_DUPFD, 19)); R(memfd_create("x", 0)); R(timerfd_create(CLOCK_MONOTONIC, 0)); R(socketpair(AF_UNIX, SOCK_STREAM, 0, (int *)buf));
	R(poll((void *)buf, 21, 0));
	for (fd = 3; fd < 20; fd++)
		close(fd);
	setrlimit(RLIMIT_NOFILE, &old);
	signal(SIGXFSZ, SIG_IGN);
	rl = (struct rlimit){ 100, RLIM_INFINITY };
	R(setrlimit(RLIMIT_FSIZE, &rl));
	fd = open("/tmp/limit", O_RDWR | O_CREAT | O_TRUNC, 0600);
	R(write(fd, buf, 90)); R(write(fd, buf, 90)); R(write(fd, buf, 1)); R(ftruncate(fd, 101)); R(ftruncate(fd, 100)); R(pwrite(fd, buf, 10, 95)); R(fallocate(fd, 0, 0, 200));
	close(fd);
	unlink("/tmp/limit");
	rl.rlim_cur = RLIM_INFINITY;
	setrlimit(RLIMIT_FSIZE, &rl);
	getrlimit(RLIMIT_AS, &old);
	rl = (struct rlimit){ 64 << 20, RLIM_INFINITY };
	R(setrlimit(RLIMIT_AS, &rl));
	R(mmap(0, 128 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED ? -1 : 0);
	setrlimit(RLIMIT_AS, &old);
	rl = (struct rlimit){ 0, RLIM_INFINITY };
	R(setrlimit(RLIMIT_DATA, &rl));
	R(mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0);
	rl.rlim_cur = RLIM_INFINITY;
	setrlimit(RLIMIT_DATA, &rl);
}

int main(void)
{
	descriptors();
	kinds();
	paths();
	processes();
	timers();
	signals();
	polling();
	sockets();
	limits();
	return 0;
}
