/*
 * pidfd: pidfd_open, pidfd_send_signal, pidfd_getfd, waiting and polling on one, what fdinfo
 * says; process_vm_readv and writev, process_madvise, process_mrelease, membarrier.
 */
#include "proc.h"
#include <sys/epoll.h>
#include <sys/uio.h>
#include <linux/membarrier.h>

static int *shared;
#define OPEN(p, f) ((int)syscall(SYS_pidfd_open, p, f))
#define SEND(fd, s, i, f) syscall(SYS_pidfd_send_signal, fd, s, i, f)

static pid_t sleeps(void)
{
	pid_t p = fork();
	if (!p)
		for (;;)
			pause();
	return p;
}

#include <sys/ioctl.h>
static int ioctl_(int fd) { return ioctl(fd, 0x5401, 0); }
static int ready(int fd) { struct pollfd p = { fd, POLLIN | POLLOUT | POLLPRI, 0 }; poll(&p, 1, 0); return p.revents; }
static void *thread(void *p) { *(int *)p = syscall(SYS_gettid); for (;;) pause(); return p; }
static void *ender(void *p)
{
	while (!shared[2])
		nap(1);
	_exit(3);
	return p;
}

static void opening(void)
{
	int st;
	char b[200];
	say("-- pidfd_open");
	SC(pidfd_open, 0, 0); SC(pidfd_open, -1, 0); SC(pidfd_open, 99999, 0); SC(pidfd_open, getpid(), 1); SC(pidfd_open, getpid(), O_CLOEXEC); SC(pidfd_open, 0, 1); SC(pidfd_open, 99999, 1);
	int fd = OPEN(getpid(), 0), n;
	R(fcntl(fd, F_GETFD)); R(fcntl(fd, F_GETFL)); R(ready(fd)); R(read(fd, b, 8)); R(write(fd, b, 8)); R(lseek(fd, 0, 0)); R(ftruncate(fd, 0)); R(fsync(fd)); R(ioctl_(fd)); R(pread(fd, b, 1, 0));
	char l[100] = { 0 };
	snprintf(b, sizeof b, "/proc/self/fd/%d", fd);
	readlink(b, l, 99); say("link %s", l);
	snprintf(b, sizeof b, "/proc/self/fdinfo/%d", fd);
	IS(field(b, "Pid:") == getpid()); IS(field(b, "NSpid:") == getpid());
	struct stat s;
	fstat(fd, &s); say("mode %o", s.st_mode);
	int nb = OPEN(getpid(), O_NONBLOCK);
	R(fcntl(nb, F_GETFL));
	close(nb); close(fd);
	pthread_t t;
	int tid = 0;
	pthread_create(&t, 0, thread, &tid);
	while (!__atomic_load_n(&tid, __ATOMIC_SEQ_CST))
		nap(1);
	R(OPEN(tid, 0)); /* only leaders */
	pid_t p = fork();
	if (!p)
		_exit(4);
	siginfo_t si;
	waitid(P_PID, p, &si, WEXITED | WNOWAIT);
	fd = OPEN(p, 0); /* a zombie has one too */
	IS(fd >= 0); R(ready(fd)); R(SEND(fd, 0, 0, 0)); R(SEND(fd, SIGTERM, 0, 0));
	R(waitid(P_PIDFD, fd, &si, WEXITED)); R(si.si_status);
	R(ready(fd)); R(SEND(fd, 0, 0, 0)); R(waitid(P_PIDFD, fd, &si, WEXITED)); R(OPEN(p, 0));
	snprintf(b, sizeof b, "/proc/self/fdinfo/%d", fd);
	R(field(b, "Pid:")); R(field(b, "NSpid:"));
	close(fd);
	say("-- waiting");
	p = sleeps();
	fd = OPEN(p, 0); nb = OPEN(p, O_NONBLOCK);
	R(ready(fd)); R(waitid(P_PIDFD, fd, &si, WEXITED | WNOHANG)); R(si.si_pid); R(waitid(P_PIDFD, nb, &si, WEXITED)); R(waitid(P_PIDFD, nb, &si, WEXITED | WNOHANG)); R(waitid(P_PIDFD, nb, &si, WSTOPPED));
	int ep = epoll_create1(0);
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = 7 }, out = { 0 };
	R(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	R(epoll_wait(ep, &out, 1, 0));
	R(SEND(fd, SIGSTOP, 0, 0)); R(waitid(P_PIDFD, fd, &si, WSTOPPED)); R(si.si_code); R(ready(fd));
	R(SEND(fd, SIGCONT, 0, 0)); R(waitid(P_PIDFD, nb, &si, WCONTINUED) == 0 || errno == EAGAIN);
	R(SEND(fd, SIGKILL, 0, 0));
	R(epoll_wait(ep, &out, 1, 5000)); R(out.data.u32); R(out.events);
	R(poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, 1000)); R(ready(fd));
	R(waitid(P_PIDFD, nb, &si, WEXITED)); R(si.si_code); R(waitid(P_PIDFD, nb, &si, WEXITED));
	close(fd); close(nb);
	p = fork();
	if (!p) {
		pthread_create(&t, 0, ender, 0);
		syscall(SYS_exit, 0);
	}
	fd = OPEN(p, 0);
	nap(15);
	R(ready(fd)); /* the leader is gone, the group is not */
	shared[2] = 1;
	R(poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, 5000));
	waitpid(p, &st, 0); status("group", st);
	close(fd);
	fd = OPEN(1, 0);
	IS(fd >= 0); R(waitid(P_PIDFD, fd, &si, WEXITED));
	close(fd);
}

static siginfo_t last;
static void on(int s, siginfo_t *i, void *c) { (void)s; (void)c; last = *i; }

static void sending(void)
{
	int st;
	say("-- pidfd_send_signal");
	struct sigaction a = { .sa_sigaction = on, .sa_flags = SA_SIGINFO };
	sigaction(SIGUSR1, &a, 0);
	int me = OPEN(getpid(), 0);
	pid_t p = sleeps();
	int fd = OPEN(p, 0);
	R(SEND(-1, 0, 0, 0)); R(SEND(99, 0, 0, 0)); R(SEND(1, 0, 0, 0)); R(SEND(me, 0, 0, 1)); R(SEND(me, -1, 0, 0)); R(SEND(me, 65, 0, 0)); R(SEND(me, 64 + 1, 0, 0)); R(SEND(99, 0, 0, 1)); R(SEND(me, SIGUSR1, (void *)8, 0));
	R(SEND(me, SIGUSR1, 0, 0)); R(last.si_code); IS(last.si_pid == getpid());
	siginfo_t si = { .si_signo = SIGUSR2, .si_code = SI_QUEUE };
	R(SEND(me, SIGUSR1, &si, 0)); /* another number in the structure */
	si.si_signo = SIGUSR1; si.si_value.sival_int = 42;
	R(SEND(me, SIGUSR1, &si, 0)); R(last.si_code); R(last.si_value.sival_int);
	si.si_code = SI_USER;
	R(SEND(me, SIGUSR1, &si, 0)); R(SEND(fd, SIGUSR1, &si, 0)); si.si_code = SI_TKILL; R(SEND(fd, SIGUSR1, &si, 0)); si.si_code = SI_KERNEL; R(SEND(fd, SIGUSR1, &si, 0)); si.si_code = SI_QUEUE;
	si.si_signo = 0; R(SEND(fd, 0, &si, 0));
	IN_CHILD(st, setresuid(1000, 1000, 1000); R(SEND(fd, 0, 0, 0)); R(SEND(fd, SIGTERM, 0, 0)); R(SEND(me, SIGTERM, 0, 0)); si.si_signo = SIGTERM; R(SEND(fd, SIGTERM, &si, 0)));
	int d = open("/proc/self", O_RDONLY | O_DIRECTORY), o = open("/proc/self/status", O_RDONLY);
	R(SEND(d, 0, 0, 0)); R(SEND(o, 0, 0, 0));
	d = open("/proc", O_RDONLY);
	R(SEND(d, 0, 0, 0));
	si.si_signo = SIGTERM;
	R(SEND(fd, SIGTERM, &si, 0));
	R(waitpid(p, &st, 0) == p); status("sent", st);
	R(SEND(fd, 0, 0, 0));
	close(fd); close(me);
}

static void getting(void)
{
	int st, pp[2], go[2];
	char b[10] = "";
	say("-- pidfd_getfd");
	pipe(go);
	pid_t p = fork();
	if (!p) {
		pipe(pp);
		dup2(pp[1], 60);
		write(60, "hello", 5);
		dup2(pp[0], 61);
		shared[0] = 1;
		for (;;)
			pause();
	}
	while (!shared[0])
		nap(1);
	int fd = OPEN(p, 0), me = OPEN(getpid(), 0);
	SC(pidfd_getfd, fd, 61, 1); SC(pidfd_getfd, -1, 61, 0); SC(pidfd_getfd, 1, 61, 0); SC(pidfd_getfd, 99, 61, 0); SC(pidfd_getfd, fd, 999, 0); SC(pidfd_getfd, fd, -1, 0); SC(pidfd_getfd, 99, 61, 1);
	int got = syscall(SYS_pidfd_getfd, fd, 61, 0);
	IS(got > 0); R(fcntl(got, F_GETFD)); R(read(got, b, 5)); say("%s", b);
	int own = syscall(SYS_pidfd_getfd, me, 1, 0);
	IS(own > 0);
	IN_CHILD(st, setresuid(1000, 1000, 1000); SC(pidfd_getfd, fd, 61, 0); SC(pidfd_getfd, fd, 999, 0));
	kill(p, SIGKILL);
	siginfo_t si;
	waitid(P_PID, p, &si, WEXITED | WNOWAIT);
	SC(pidfd_getfd, fd, 61, 0);
	waitpid(p, &st, 0);
	SC(pidfd_getfd, fd, 61, 0);
	close(fd); close(me);
}

static char text[8192] = "the parent's";
static void memory(void)
{
	int st;
	char b[8192];
	say("-- process_vm_readv and writev");
	pid_t p = fork();
	if (!p) {
		strcpy(text, "the child's");
		strcpy(text + 4096, "second page");
		shared[1] = 1;
		while (shared[1])
			nap(1);
		say("the child has '%s' '%s'", text, text + 4000);
		_exit(0);
	}
	while (!shared[1])
		nap(1);
	struct iovec l = { b, 100 }, r = { text, 12 }, two[2] = { { b, 4 }, { b + 10, 7 } }, rtwo[2] = { { text, 11 }, { text + 4096, 11 } }, bad = { (void *)8, 10 }, neg = { b, -1 }, part[2] = { { text, 11 }, { (void *)8, 10 } };
#define V(x, ...) R(syscall(SYS_process_vm_##x, __VA_ARGS__))
	V(readv, p, &l, 1, &r, 1, 1); V(readv, p, &l, 1, &r, 1, 0); say("read '%s'", b);
	memset(b, 0, sizeof b); V(readv, p, two, 2, rtwo, 2, 0); say("read '%s' '%s'", b, b + 10);
	V(readv, p, &l, 0, &r, 1, 0); V(readv, p, &l, 1, &r, 0, 0); V(readv, p, 0, 0, 0, 0, 0); V(readv, 99999, &l, 1, &r, 1, 0); V(readv, 99999, &l, 0, &r, 1, 0); V(readv, 99999, &l, 1, &r, 0, 0); V(readv, -1, &l, 1, &r, 1, 0); V(readv, 0, &l, 1, &r, 1, 0);
	V(readv, p, &l, 1, &bad, 1, 0); V(readv, p, &bad, 1, &r, 1, 0); V(readv, p, &neg, 1, &r, 1, 0); V(readv, p, &l, 1, &neg, 1, 0); V(readv, p, &l, 1025, &r, 1, 0); V(readv, p, &l, 1, &r, 1025, 0); V(readv, p, (void *)8, 1, &r, 1, 0); V(readv, p, &l, 1, (void *)8, 1, 0); V(readv, p, &l, 1, part, 2, 0);
	V(readv, p, &l, -1, &r, 1, 0); V(readv, p, &l, 1, &r, -1, 0);
	V(writev, p, &(struct iovec){ "written", 8 }, 1, &r, 1, 0); V(writev, p, &(struct iovec){ "also", 5 }, 1, &(struct iovec){ text + 4000, 5 }, 1, 0); V(writev, p, &(struct iovec){ "x", 1 }, 1, &(struct iovec){ (void *)memory, 1 }, 1, 0); V(writev, p, &(struct iovec){ "x", 1 }, 1, &bad, 1, 0); V(writev, p, &(struct iovec){ "x", 1 }, 1, &r, 1, 2);
	V(readv, getpid(), &l, 1, &r, 1, 0); say("own '%s'", b);
	IN_CHILD(st, setresuid(1000, 1000, 1000); V(readv, p, &l, 1, &r, 1, 0); V(writev, p, &l, 1, &r, 1, 0); V(readv, getpid(), &l, 1, &r, 1, 0));
	shared[1] = 0;
	siginfo_t si;
	waitid(P_PID, p, &si, WEXITED | WNOWAIT);
	V(readv, p, &l, 1, &r, 1, 0);
	waitpid(p, &st, 0);
	V(readv, p, &l, 1, &r, 1, 0);
	say("-- process_madvise");
	char *m = mmap(0, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(m, 1, 16384);
	p = sleeps();
	int fd = OPEN(p, 0), me = OPEN(getpid(), 0);
	struct iovec mv = { m, 8192 }, odd = { m + 1, 100 }, un[2] = { { m, 4096 }, { m + 1, 4096 } };
#define A(...) R(syscall(SYS_process_madvise, __VA_ARGS__))
	A(fd, &mv, 1, MADV_COLD, 0); A(fd, &mv, 1, MADV_PAGEOUT, 0); A(fd, &mv, 1, MADV_WILLNEED, 0); A(fd, &mv, 1, MADV_DONTNEED, 0); A(fd, &mv, 1, MADV_FREE, 0); A(fd, &mv, 1, 99, 0); A(fd, &mv, 1, MADV_COLD, 1); A(-1, &mv, 1, MADV_COLD, 0); A(1, &mv, 1, MADV_COLD, 0); A(fd, &odd, 1, MADV_COLD, 0); A(fd, un, 2, MADV_COLD, 0); A(fd, &mv, 0, MADV_COLD, 0); A(fd, &(struct iovec){ (void *)0x10000, 4096 }, 1, MADV_COLD, 0); A(fd, (void *)8, 1, MADV_COLD, 0); A(fd, &mv, 2000, MADV_COLD, 0); A(me, &mv, 1, MADV_COLD, 0); A(me, &mv, 1, MADV_DONTNEED, 0); R(m[0]);
	IN_CHILD(st, setresuid(1000, 1000, 1000); A(fd, &mv, 1, MADV_COLD, 0); A(me, &mv, 1, MADV_COLD, 0));
	say("-- process_mrelease");
#define M(...) R(syscall(SYS_process_mrelease, __VA_ARGS__))
	M(fd, 1); M(-1, 0); M(1, 0); M(fd, 0); M(me, 0); M(99, 1);
	kill(p, SIGKILL);
	waitpid(p, &st, 0);
	M(fd, 0); A(fd, &mv, 1, MADV_COLD, 0);
}

static int barriers(int c, int f, int cpu) { return syscall(SYS_membarrier, c, f, cpu); }
static volatile int stop;
static long misses;
static int x_, y_;
static volatile int round_, done_, r1;
static void *other(void *p)
{
	for (int i = 1; !stop; i++) {
		while (round_ < i && !stop)
			;
		__atomic_store_n(&y_, i, __ATOMIC_RELAXED);
		__asm__ volatile("" ::: "memory"); /* membarrier of the other side is the barrier */
		r1 = __atomic_load_n(&x_, __ATOMIC_RELAXED);
		done_ = i;
	}
	return p;
}

static void membarriers(void)
{
	say("-- membarrier");
	IS((barriers(MEMBARRIER_CMD_QUERY, 0, 0) & 0x1ff) == 0x1ff);
	R(barriers(MEMBARRIER_CMD_QUERY, 1, 0)); R(barriers(-1, 0, 0)); R(barriers(3, 0, 0)); R(barriers(512, 0, 0)); R(barriers(MEMBARRIER_CMD_GLOBAL, 1, 0));
	R(barriers(MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0)); R(barriers(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0)); R(barriers(128, 0, 0));
	R(barriers(MEMBARRIER_CMD_GLOBAL, 0, 0)); R(barriers(MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0)); R(barriers(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0)); R(barriers(MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0));
	R(barriers(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0)); R(barriers(MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0)); R(barriers(MEMBARRIER_CMD_PRIVATE_EXPEDITED, 1, 0)); R(barriers(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0));
	R(barriers(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0)); R(barriers(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0));
	R(barriers(256, 0, 0)); R(barriers(128, 0, 0)); R(barriers(128, 1, 0)); R(barriers(128, 1, 9999)); R(barriers(128, 2, 0)); R(barriers(256, 1, 0));
	int st;
	IN_CHILD(st, R(barriers(MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0)));
	/* Two stores and two loads: not both may miss. */
	pthread_t t;
	pthread_create(&t, 0, other, 0);
	for (int i = 1; i <= 500; i++) {
		round_ = i;
		__atomic_store_n(&x_, i, __ATOMIC_RELAXED);
		barriers(MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
		int r2 = __atomic_load_n(&y_, __ATOMIC_RELAXED);
		while (done_ < i)
			sched_yield();
		misses += r1 < i && r2 < i;
	}
	stop = 1;
	pthread_join(t, 0);
	R(misses);
}

static void all(void)
{
	opening();
	sending();
	getting();
	memory();
	membarriers();
}

int main(void)
{
	shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return family(all);
}
