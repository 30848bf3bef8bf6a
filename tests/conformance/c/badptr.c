/*
 * badptr: every system call with every pointer argument bad in every way, one line
 * each: the call, which argument, how it is bad, and the errno. A call that succeeds
 * prints "ok": Linux says which do.
 *
 * A row of the table is a call with good arguments. I() marks a pointer that the call
 * reads, O() one that it writes, B() both: those are replaced, one at a time.
 */
#include "../../programs/c/check.h"
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <asm/prctl.h>
#include <linux/futex.h>
#include <sys/prctl.h>
#include <termios.h>
#include <time.h>

enum { VAL, IN, OUT, BOTH, WAIT };
struct arg { int kind; uint64_t v; };
struct call { const char *name; long nr; struct arg a[6]; };
#define V(x) { VAL, (uint64_t)(x) }
#define I(x) { IN, (uint64_t)(x) }
#define O(x) { OUT, (uint64_t)(x) }
#define B(x) { BOTH, (uint64_t)(x) }
/* A time-out that is read, and without which the call would wait for ever. */
#define T(x) { WAIT, (uint64_t)(x) }

/* Descriptors that stand at fixed numbers during each call. */
enum { FILEFD = 50, PR, PW, SOCK, SOCK2, EP, TFD, DIRFD, UDP, EV, LISTEN };

static char out[65536] __attribute__((aligned(4096)));
static char in[65536] __attribute__((aligned(4096)));
static char path[] = "/tmp/bp/file", gone[] = "/tmp/bp/gone", dir[] = "/tmp/bp";
static uint64_t sets[2];
static struct timespec soon = { 0, 1000000 };
static struct itimerspec its = { .it_value = { 100, 0 } };
static struct sigaction_k { void *h; unsigned long fl; void *r; unsigned long m; } act = { SIG_IGN, 0, 0, 0 };
static unsigned long mask;
static struct iovec vec[2] = { { out, 8 }, { out + 100, 8 } };
static struct msghdr msg = { .msg_iov = vec, .msg_iovlen = 2 };
static struct mmsghdr mmsg = { .msg_hdr = { .msg_iov = vec, .msg_iovlen = 2 } };
static struct sockaddr_in to = { .sin_family = AF_INET };
static struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "/tmp/bp/none" };
static socklen_t len = sizeof(struct sockaddr_in);
static int one = 1;
static uint64_t off;
static struct epoll_event ev = { .events = EPOLLIN };
static struct pollfd pfd = { PR, POLLIN, 0 };
static uint32_t word = 1;
static struct rlimit lim = { 100, 1000 };
static struct itimerval itv;
static char *none[] = { "x", NULL };
static struct flock fl = { .l_type = F_RDLCK };
static struct { uint64_t m; uint64_t n; } sigset6 = { 0, 8 };

#define S(n) #n, SYS_##n
static struct call calls[] = {
	{ S(read), { V(FILEFD), O(out), V(10) } },
	{ "read pipe", SYS_read, { V(PR), O(out), V(10) } },
	{ "read eventfd", SYS_read, { V(EV), O(out), V(8) } },
	{ "read timerfd", SYS_read, { V(TFD), O(out), V(8) } },
	{ "read socket", SYS_read, { V(SOCK), O(out), V(8) } },
	{ S(write), { V(FILEFD), I(in), V(10) } },
	{ "write pipe", SYS_write, { V(PW), I(in), V(10) } },
	{ "write eventfd", SYS_write, { V(EV), I(&off), V(8) } },
	{ "write socket", SYS_write, { V(SOCK), I(in), V(8) } },
	{ S(open), { I(path), V(O_RDONLY), V(0) } },
	{ S(openat), { V(AT_FDCWD), I(path), V(O_RDONLY) } },
	{ S(creat), { I(gone), V(0600) } },
	{ S(stat), { I(path), O(out) } },
	{ S(lstat), { I(path), O(out) } },
	{ S(fstat), { V(FILEFD), O(out) } },
	{ S(newfstatat), { V(AT_FDCWD), I(path), O(out), V(0) } },
	{ S(statx), { V(AT_FDCWD), I(path), V(0), V(0x7ff), O(out) } },
	{ S(statfs), { I(path), O(out) } },
	{ S(fstatfs), { V(FILEFD), O(out) } },
	{ S(poll), { B(&pfd), V(1), V(0) } },
	{ S(ppoll), { B(&pfd), V(1), I(&soon), I(&mask), V(8) } },
	{ S(select), { V(PW + 1), B(out), B(sets), B(out), I(&itv) } },
	{ S(pselect6), { V(PW + 1), B(out), B(sets), B(out), I(&soon), I(&sigset6) } },
	{ S(rt_sigaction), { V(SIGUSR1), I(&act), O(out), V(8) } },
	{ S(rt_sigprocmask), { V(SIG_BLOCK), I(&mask), O(out), V(8) } },
	{ S(rt_sigpending), { O(out), V(8) } },
	{ S(rt_sigtimedwait), { I(&mask), O(out), T(&soon), V(8) } },
	{ S(rt_sigqueueinfo), { V(99999), V(SIGUSR1), I(in) } },
	{ S(rt_tgsigqueueinfo), { V(99999), V(99999), V(SIGUSR1), I(in) } },
	{ S(sigaltstack), { I(in), O(out) } },
	{ "ioctl TCGETS", SYS_ioctl, { V(FILEFD), V(TCGETS), O(out) } },
	{ "ioctl FIONREAD", SYS_ioctl, { V(PR), V(FIONREAD), O(out) } },
	{ "ioctl FIONBIO", SYS_ioctl, { V(SOCK), V(FIONBIO), I(&one) } },
	{ "ioctl SIOCGIFCONF", SYS_ioctl, { V(UDP), V(0x8912), B(in) } },
	{ "ioctl SIOCGIFFLAGS", SYS_ioctl, { V(UDP), V(0x8913), B(in) } },
	{ S(pread64), { V(FILEFD), O(out), V(10), V(0) } },
	{ S(pwrite64), { V(FILEFD), I(in), V(10), V(0) } },
	{ S(readv), { V(FILEFD), I(vec), V(2) } },
	{ S(writev), { V(FILEFD), I(vec), V(2) } },
	{ S(preadv), { V(FILEFD), I(vec), V(2), V(0), V(0) } },
	{ S(pwritev), { V(FILEFD), I(vec), V(2), V(0), V(0) } },
	{ S(preadv2), { V(FILEFD), I(vec), V(2), V(0), V(0), V(0) } },
	{ S(pwritev2), { V(FILEFD), I(vec), V(2), V(0), V(0), V(0) } },
	{ S(access), { I(path), V(0) } },
	{ S(faccessat), { V(AT_FDCWD), I(path), V(0) } },
	{ S(faccessat2), { V(AT_FDCWD), I(path), V(0), V(0) } },
	{ S(pipe), { O(out) } },
	{ S(pipe2), { O(out), V(0) } },
	{ S(mincore), { V(in), V(4096), O(out) } },
	{ S(nanosleep), { I(&soon), O(out) } },
	{ S(clock_nanosleep), { V(CLOCK_MONOTONIC), V(0), I(&soon), O(out) } },
	{ S(clock_gettime), { V(CLOCK_MONOTONIC), O(out) } },
	{ S(clock_getres), { V(CLOCK_MONOTONIC), O(out) } },
	{ S(clock_settime), { V(99), I(in) } },
	{ S(gettimeofday), { O(out), O(out + 100) } },
	{ S(time), { O(out) } },
	{ S(times), { O(out) } },
	{ S(getitimer), { V(0), O(out) } },
	{ S(setitimer), { V(0), I(&itv), O(out) } },
	{ S(timer_create), { V(CLOCK_MONOTONIC), V(0), O(out) } },
	{ S(timer_settime), { V(99), V(0), I(&its), O(out) } },
	{ S(timer_gettime), { V(99), O(out) } },
	{ S(timerfd_settime), { V(TFD), V(0), I(&its), O(out) } },
	{ S(timerfd_gettime), { V(TFD), O(out) } },
	{ S(sendfile), { V(PW), V(FILEFD), B(&off), V(10) } },
	{ S(copy_file_range), { V(FILEFD), B(&off), V(FILEFD), V(0), V(0), V(0) } },
	{ S(splice), { V(PR), V(0), V(FILEFD), B(&off), V(5), V(2) } },
	{ S(vmsplice), { V(PW), I(vec), V(1), V(2) } },
	{ S(connect), { V(UDP), I(&to), V(sizeof to) } },
	{ "connect UNIX", SYS_connect, { V(SOCK), I(&un), V(sizeof un) } },
	{ S(bind), { V(LISTEN), I(&to), V(sizeof to) } },
	{ S(accept), { V(LISTEN), O(out), B(&len) } },
	{ S(accept4), { V(LISTEN), O(out), B(&len), V(0) } },
	{ S(getsockname), { V(UDP), O(out), B(&len) } },
	{ S(getpeername), { V(SOCK), O(out), B(&len) } },
	{ S(sendto), { V(UDP), I(in), V(10), V(0), I(&to), V(sizeof to) } },
	{ S(recvfrom), { V(SOCK), O(out), V(10), V(MSG_DONTWAIT), O(out), B(&len) } },
	{ S(sendmsg), { V(SOCK), I(&msg), V(0) } },
	{ S(recvmsg), { V(SOCK), B(&msg), V(MSG_DONTWAIT) } },
	{ S(sendmmsg), { V(SOCK), B(&mmsg), V(1), V(0) } },
	{ S(recvmmsg), { V(SOCK), B(&mmsg), V(1), V(MSG_DONTWAIT), I(&soon) } },
	{ S(setsockopt), { V(UDP), V(SOL_SOCKET), V(SO_REUSEADDR), I(&one), V(4) } },
	{ S(getsockopt), { V(UDP), V(SOL_SOCKET), V(SO_TYPE), O(out), B(&len) } },
	{ S(socketpair), { V(AF_UNIX), V(SOCK_STREAM), V(0), O(out) } },
	{ S(wait4), { V(-1), O(out), V(WNOHANG), O(out) } },
	{ S(waitid), { V(P_ALL), V(0), O(out), V(WNOHANG | WEXITED), O(out) } },
	{ S(uname), { O(out) } },
	{ "fcntl F_GETLK", SYS_fcntl, { V(FILEFD), V(F_GETLK), B(&fl) } },
	{ "fcntl F_SETLK", SYS_fcntl, { V(FILEFD), V(F_SETLK), I(&fl) } },
	{ "fcntl F_GETOWN_EX", SYS_fcntl, { V(SOCK), V(F_GETOWN_EX), O(out) } },
	{ S(getdents), { V(DIRFD), O(out), V(1000) } },
	{ S(getdents64), { V(DIRFD), O(out), V(1000) } },
	{ S(getcwd), { O(out), V(1000) } },
	{ S(chdir), { I(dir) } },
	{ S(truncate), { I(path), V(100) } },
	{ S(rename), { I(gone), I(gone) } },
	{ S(renameat), { V(AT_FDCWD), I(gone), V(AT_FDCWD), I(gone) } },
	{ S(renameat2), { V(AT_FDCWD), I(gone), V(AT_FDCWD), I(gone), V(0) } },
	{ S(mkdir), { I(dir), V(0700) } },
	{ S(mkdirat), { V(AT_FDCWD), I(dir), V(0700) } },
	{ S(rmdir), { I(gone) } },
	{ S(link), { I(gone), I(gone) } },
	{ S(linkat), { V(AT_FDCWD), I(gone), V(AT_FDCWD), I(gone), V(0) } },
	{ S(unlink), { I(gone) } },
	{ S(unlinkat), { V(AT_FDCWD), I(gone), V(0) } },
	{ S(symlink), { I(in + 1), I(path) } },
	{ S(symlinkat), { I(path), V(AT_FDCWD), I(path) } },
	{ S(readlink), { I("/proc/self/exe"), O(out), V(100) } },
	{ S(readlinkat), { V(AT_FDCWD), I("/proc/self/exe"), O(out), V(100) } },
	{ S(chmod), { I(path), V(0600) } },
	{ S(fchmodat), { V(AT_FDCWD), I(path), V(0600) } },
	{ S(chown), { I(path), V(0), V(0) } },
	{ S(lchown), { I(path), V(0), V(0) } },
	{ S(fchownat), { V(AT_FDCWD), I(path), V(0), V(0), V(0) } },
	{ S(mknod), { I(path), V(S_IFREG), V(0) } },
	{ S(mknodat), { V(AT_FDCWD), I(path), V(S_IFREG), V(0) } },
	{ S(utime), { I(path), I(in) } },
	{ S(utimes), { I(path), I(in) } },
	{ S(futimesat), { V(AT_FDCWD), I(path), I(in) } },
	{ S(utimensat), { V(AT_FDCWD), I(path), I(in), V(0) } },
	{ S(getxattr), { I(path), I("user.x"), O(out), V(100) } },
	{ S(lgetxattr), { I(path), I("user.x"), O(out), V(100) } },
	{ S(fgetxattr), { V(FILEFD), I("user.x"), O(out), V(100) } },
	{ S(listxattr), { I(path), O(out), V(100) } },
	{ S(getrlimit), { V(RLIMIT_NOFILE), O(out) } },
	{ S(setrlimit), { V(99), I(&lim) } },
	{ S(prlimit64), { V(0), V(RLIMIT_CORE), I(&lim), O(out) } },
	{ S(getrusage), { V(0), O(out) } },
	{ S(sysinfo), { O(out) } },
	{ S(getgroups), { V(0), O(out) } },
	{ S(setgroups), { V(0), I(in) } },
	{ S(getresuid), { O(out), O(out), O(out) } },
	{ S(getresgid), { O(out), O(out), O(out) } },
	{ S(capget), { I(in), O(out) } },
	{ S(sched_setparam), { V(0), I(in) } },
	{ S(sched_getparam), { V(0), O(out) } },
	{ S(sched_setscheduler), { V(0), V(0), I(in) } },
	{ S(sched_rr_get_interval), { V(0), O(out) } },
	{ S(sched_setaffinity), { V(99999), V(8), I(in) } },
	{ S(sched_getaffinity), { V(0), V(128), O(out) } },
	{ S(sched_getattr), { V(0), O(out), V(56), V(0) } },
	{ S(futex), { I(&word), V(FUTEX_WAIT), V(0), V(&soon) } },
	{ "futex timeout", SYS_futex, { V(&word), V(FUTEX_WAIT), V(1), T(&soon) } },
	{ "futex wake", SYS_futex, { I(&word), V(FUTEX_WAKE), V(1) } },
	{ "futex wake private", SYS_futex, { I(&word), V(FUTEX_WAKE | FUTEX_PRIVATE_FLAG), V(1) } },
	{ "futex requeue", SYS_futex, { I(&word), V(FUTEX_CMP_REQUEUE), V(1), V(1), I(&word), V(1) } },
	{ S(set_robust_list), { I(in), V(24) } },
	{ S(get_robust_list), { V(0), O(out), O(out + 8) } },
	{ S(epoll_ctl), { V(EP), V(EPOLL_CTL_ADD), V(PR), I(&ev) } },
	{ S(epoll_wait), { V(EP), O(out), V(4), V(0) } },
	{ S(epoll_pwait), { V(EP), O(out), V(4), V(0), I(&mask), V(8) } },
	{ S(epoll_pwait2), { V(EP), O(out), V(4), I(&itv), I(&mask), V(8) } },
	{ S(signalfd), { V(-1), I(&mask), V(8) } },
	{ S(signalfd4), { V(-1), I(&mask), V(8), V(0) } },
	{ S(inotify_add_watch), { V(FILEFD), I(path), V(IN_MODIFY) } },
	{ S(getrandom), { O(out), V(10), V(0) } },
	{ S(memfd_create), { I("name"), V(0) } },
	{ S(getcpu), { O(out), O(out), V(0) } },
	{ S(arch_prctl), { V(ARCH_GET_FS), O(out) } },
	{ "prctl PR_SET_NAME", SYS_prctl, { V(PR_SET_NAME), I("badptr") } },
	{ "prctl PR_GET_NAME", SYS_prctl, { V(PR_GET_NAME), O(out) } },
	{ "prctl PR_GET_PDEATHSIG", SYS_prctl, { V(PR_GET_PDEATHSIG), O(out) } },
	{ S(execve), { I("/tmp/bp/none"), I(none), I(none) } },
	{ S(execveat), { V(AT_FDCWD), I("/tmp/bp/none"), I(none), I(none), V(0) } },
	{ S(sethostname), { I("kiln"), V(4) } },
	{ S(mount), { I("x"), I("/tmp/bp/none"), I("tmpfs"), V(0), I("x") } },
	{ S(umount2), { I("/tmp/bp/none"), V(0) } },
	{ S(chroot), { I("/tmp/bp/none") } },
	{ S(process_vm_readv), { V(99999), I(vec), V(1), I(vec), V(1), V(0) } },
	{ S(rseq), { I(in + 32), V(31), V(0), V(0) } },
	{ S(clone3), { I(in), V(64) } },
	{ S(openat2), { V(AT_FDCWD), I(path), I(in), V(24) } },
	{ S(name_to_handle_at), { V(AT_FDCWD), I(path), B(in), O(out), V(0) } },
	{ S(msync), { V(in), V(4096), V(MS_SYNC) } },
	{ S(settimeofday), { I(in + 7), V(1) } },
};

/* fix gives SOCK data to read and puts everything back as the calls expect it. */
static void at(int fd, int where)
{
	if (fd < 0 || dup2(fd, where) < 0) {
		say("set-up of descriptor %d failed: %s", where, errname(errno));
		exit(98);
	}
	if (fd != where)
		close(fd);
}

static void fix(void)
{
	int p[2];
	at(open(path, O_RDWR | O_CREAT, 0600), FILEFD);
	pwrite(FILEFD, "0123456789012345678901234567890123456789", 40, 0);
	MUST(pipe2(p, O_NONBLOCK));
	at(p[0], PR);
	at(p[1], PW);
	write(PW, "pipe data", 9);
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p));
	at(p[0], SOCK);
	at(p[1], SOCK2);
	write(SOCK2, "socket data", 11);
	at(epoll_create1(0), EP);
	struct epoll_event e = { .events = EPOLLIN };
	epoll_ctl(EP, EPOLL_CTL_ADD, SOCK, &e);
	at(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), TFD);
	struct itimerspec now = { .it_value = { 0, 1 } };
	timerfd_settime(TFD, 0, &now, NULL);
	poll(&(struct pollfd){ TFD, POLLIN, 0 }, 1, 1000);
	at(open(dir, O_RDONLY | O_DIRECTORY), DIRFD);
	at(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), UDP);
	at(eventfd(1, EFD_NONBLOCK), EV);
	at(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), LISTEN);
	len = sizeof to;
	off = 0;
	pfd = (struct pollfd){ PR, POLLIN, 0 };
	to.sin_port = htons(9);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	vec[0] = (struct iovec){ out, 8 };
	vec[1] = (struct iovec){ out + 100, 8 };
	msg = (struct msghdr){ .msg_iov = vec, .msg_iovlen = 2 };
	mmsg.msg_hdr = msg;
	memset(in, 0, sizeof in);
	memset(out, 0, sizeof out);
	mask = 0;
	sets[0] = 1ul << PW;
	soon = (struct timespec){ 0, 1000000 };
	fl = (struct flock){ .l_type = F_RDLCK };
}

static long raw(long nr, const uint64_t *a)
{
	long r;
	register uint64_t r10 __asm__("r10") = a[3], r8 __asm__("r8") = a[4], r9 __asm__("r9") = a[5];
	__asm__ volatile("syscall" : "=a"(r) : "a"(nr), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return r;
}

int main(int argc, char **argv)
{
	char *readonly = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *noaccess = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	/* The last byte before a hole: the rest of what is there cannot be had. */
	char *edge = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(edge + 4096, 4096);
	edge += 4095;
	struct { const char *n; uint64_t v; } bad[] = {
		{ "NULL", 0 }, { "unmapped", 0x10000 }, { "kernel", 0xffff888000000000 }, { "noncanonical", 0x800000000000 },
		{ "top", ~0ull }, { "noaccess", (uint64_t)noaccess }, { "edge", (uint64_t)edge }, { "readonly", (uint64_t)readonly },
	};
	mkdir(dir, 0700);
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		struct call *c = &calls[i];
		if (argc > 1 && strcmp(argv[1], c->name))
			continue;
		for (int k = 0; k < 6; k++) {
			if (c->a[k].kind == VAL)
				continue;
			for (size_t b = 0; b < sizeof bad / sizeof *bad; b++) {
				if (!strcmp(bad[b].n, "readonly") && (c->a[k].kind == IN || c->a[k].kind == WAIT))
					continue;
				if (!bad[b].v && c->a[k].kind == WAIT)
					continue;
				uint64_t a[6];
				*edge = 0;
				fix();
				for (int j = 0; j < 6; j++)
					a[j] = j == k ? bad[b].v : c->a[j].v;
				long r = raw(c->nr, a);
				say("%s argument %d %s: %s", c->name, k + 1, bad[b].n, r < 0 && r > -4096 ? errname(-r) : "ok");
				if (r >= 61 && r < 300)
					close(r);
			}
		}
	}
	return 0;
}
