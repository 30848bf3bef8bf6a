/* What a signal does to a call that waits: with a handler, with one that has SA_RESTART, and
 * with a stop and a continuation, call by call (signal(7)). */
#include "ipc.h"
#include <mqueue.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>

/* after says what became of a child that a signal met: it ended, or it waits again, which it
 * does when it is seen asleep six times in a row: who has just been woken runs, however late. */
static void after(const char *what, int c)
{
	int st;
	for (int i = 0, slept = 0; i < 500 && slept < 6; i++) {
		if (waitpid(c, &st, WNOHANG) == c) {
			say("%s: ended", what);
			return;
		}
		slept = state(c) == 'S' ? slept + 1 : 0;
		ms(10);
	}
	say("%s: waits again", what);
	kill(c, SIGKILL);
	waitpid(c, 0, 0);
}

/* WAITS runs a call three times, in a child each. */
#define WAITS(name, call) do { \
	int c_; \
	handle(SIGUSR1, 0); \
	c_ = FORK(errno = 0; long r_ = call; say("%s: %ld %s", name, r_, r_ == -1 ? errname(errno) : "")); \
	settle(c_), kill(c_, SIGUSR1), after("handler", c_); \
	handle(SIGUSR1, SA_RESTART); \
	c_ = FORK(errno = 0; long r_ = call; say("%s: %ld %s", name, r_, r_ == -1 ? errname(errno) : "")); \
	settle(c_), kill(c_, SIGUSR1), after("SA_RESTART", c_); \
	c_ = FORK(errno = 0; long r_ = call; say("%s: %ld %s", name, r_, r_ == -1 ? errname(errno) : "")); \
	settle(c_), kill(c_, SIGSTOP), waitpid(c_, 0, WUNTRACED), kill(c_, SIGCONT), after("stop", c_); \
} while (0)
static void settle(int c) { ms(10), asleep_now(c), ms(5); }

static int p[2], full[2], sv[2], ev;
static char b[70000];
static void pipes(void)
{
	MUST(pipe(p));
	MUST(pipe(full));
	fcntl(full[1], F_SETFL, O_NONBLOCK);
	while (write(full[1], b, 4096) > 0)
		;
	fcntl(full[1], F_SETFL, 0);
}

CASE(pipes, read, write)
{
	pipes();
	WAITS("read", read(p[0], b, 1));
	WAITS("write", write(full[1], b, 1));
}
CASE(vectors, readv, writev)
{
	struct iovec v = { b, 1 };
	pipes();
	WAITS("readv", readv(p[0], &v, 1));
	WAITS("writev", writev(full[1], &v, 1));
}
CASE(part, write)
{
	/* what was written before the signal counts */
	MUST(pipe(p));
	WAITS("write of more than fits", write(p[1], b, sizeof b));
}
CASE(sockets, recvfrom, sendto, recvmsg)
{
	struct iovec v = { b, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	WAITS("recv", recv(sv[0], b, 1, 0));
	WAITS("recvmsg", recvmsg(sv[0], &m, 0));
	while (send(sv[0], b, 4096, MSG_DONTWAIT) > 0)
		;
	WAITS("send", send(sv[0], b, 4096, 0));
}
CASE(timeouts, recvfrom, setsockopt)
{
	struct timeval t = { 5, 0 };
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	MUST(setsockopt(sv[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
	WAITS("recv with a time-out", recv(sv[0], b, 1, 0));
}
CASE(accepting, accept, accept4)
{
	int l = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un a = { AF_UNIX };
	MUST(bind(l, (void *)&a, sizeof(sa_family_t)));
	MUST(listen(l, 1));
	WAITS("accept", accept(l, 0, 0));
	WAITS("accept4", accept4(l, 0, 0, SOCK_CLOEXEC));
}
CASE(children, wait4, waitid)
{
	int st;
	siginfo_t i;
	WAITS("wait4", ({ int k = FORK(prctl(PR_SET_PDEATHSIG, SIGKILL); pause()); long r = wait4(k, &st, 0, 0); int e = errno; kill(k, SIGKILL); errno = e; r; }));
	WAITS("waitid", ({ int k = FORK(prctl(PR_SET_PDEATHSIG, SIGKILL); pause()); long r = waitid(P_PID, k, &i, WEXITED); int e = errno; kill(k, SIGKILL); errno = e; r; }));
}
CASE(sleeps, nanosleep, clock_nanosleep)
{
	struct timespec t = { 5, 0 }, at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_sec += 5;
	WAITS("nanosleep", syscall(SYS_nanosleep, &t, 0));
	WAITS("clock_nanosleep", -clock_nanosleep(CLOCK_REALTIME, 0, &t, 0) ? -1L : 0L);
	WAITS("clock_nanosleep, absolute", syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &at, 0));
}
CASE(remaining, nanosleep, clock_nanosleep)
{
	struct timespec t = { 5, 0 }, rem = { -1, -1 };
	handle(SIGUSR1, SA_RESTART);
	int c = FORK(R(syscall(SYS_nanosleep, &t, &rem)); IS(rem.tv_sec == 4 && rem.tv_nsec > 0));
	settle(c), kill(c, SIGUSR1);
	reap("nanosleep", c);
	c = FORK(R(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &t, &rem)); IS(rem.tv_sec == 4));
	settle(c), kill(c, SIGUSR1);
	reap("clock_nanosleep", c);
	c = FORK(clock_gettime(CLOCK_MONOTONIC, &t); t.tv_sec += 5; R(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &t, &rem)); IS(rem.tv_sec == -1));
	settle(c), kill(c, SIGUSR1);
	reap("absolute", c);
	c = FORK(R(syscall(SYS_nanosleep, &t, 8L)));
	settle(c), kill(c, SIGUSR1);
	reap("bad address", c);
}
CASE(polls, poll, ppoll)
{
	pipes();
	struct pollfd f = { p[0], POLLIN };
	struct timespec t = { 5, 0 };
	WAITS("poll", poll(&f, 1, -1));
	WAITS("poll with a time-out", poll(&f, 1, 5000));
	WAITS("ppoll", syscall(SYS_ppoll, &f, 1, 0, 0, 8));
	WAITS("ppoll with a time-out", syscall(SYS_ppoll, &f, 1, &t, 0, 8));
}
CASE(selects, pselect6)
{
	fd_set s;
	pipes();
	WAITS("select", ({ FD_ZERO(&s); FD_SET(p[0], &s); select(p[0] + 1, &s, 0, 0, 0); }));
	WAITS("select with a time-out", ({ FD_ZERO(&s); FD_SET(p[0], &s); select(p[0] + 1, &s, 0, 0, &(struct timeval){ 5, 0 }); }));
	WAITS("pselect", ({ FD_ZERO(&s); FD_SET(p[0], &s); pselect(p[0] + 1, &s, 0, 0, 0, 0); }));
}
CASE(epolls, epoll_wait, epoll_pwait, epoll_pwait2)
{
	struct epoll_event e;
	int ep = epoll_create1(0);
	WAITS("epoll_wait", syscall(SYS_epoll_wait, ep, &e, 1, -1));
	WAITS("epoll_pwait", syscall(SYS_epoll_pwait, ep, &e, 1, 5000, 0, 8));
	WAITS("epoll_pwait2", syscall(SYS_epoll_pwait2, ep, &e, 1, &(struct timespec){ 5, 0 }, 0, 8));
}
CASE(signals, pause, rt_sigsuspend, rt_sigtimedwait)
{
	sigset_t none, usr2;
	sigemptyset(&none), sigemptyset(&usr2), sigaddset(&usr2, SIGUSR2);
	WAITS("pause", pause());
	WAITS("sigsuspend", sigsuspend(&none));
	WAITS("sigtimedwait", syscall(SYS_rt_sigtimedwait, &usr2, 0, 0, 8));
	WAITS("sigtimedwait with a time-out", syscall(SYS_rt_sigtimedwait, &usr2, 0, &(struct timespec){ 5, 0 }, 8));
}
CASE(events, eventfd2, timerfd_create, signalfd4)
{
	int e = eventfd(0, 0), t = timerfd_create(CLOCK_MONOTONIC, 0), i = inotify_init();
	sigset_t usr2;
	sigemptyset(&usr2), sigaddset(&usr2, SIGUSR2);
	int s = signalfd(-1, &usr2, 0);
	WAITS("eventfd", read(e, b, 8));
	WAITS("timerfd", read(t, b, 8));
	WAITS("inotify", read(i, b, 4096));
	WAITS("signalfd", read(s, b, 128));
	write(e, &(uint64_t){ UINT64_MAX - 1 }, 8);
	WAITS("eventfd, written", write(e, &(uint64_t){ 5 }, 8));
}
CASE(locks, flock, fcntl)
{
	int f = open("/tmp/lock", O_CREAT | O_RDWR, 0600), g;
	struct flock l = { .l_type = F_WRLCK };
	MUST(flock(f, LOCK_EX));
	MUST(fcntl(f, F_SETLK, &l));
	WAITS("flock", (g = open("/tmp/lock", O_RDWR), flock(g, LOCK_EX)));
	WAITS("F_SETLKW", fcntl(f, F_SETLKW, &l));
	g = open("/tmp/lock", O_RDWR);
	l.l_pid = 0;
	WAITS("F_OFD_SETLKW", fcntl(g, F_OFD_SETLKW, &l));
	unlink("/tmp/lock");
}
CASE(fifo, open, openat)
{
	unlink("/tmp/fifo");
	MUST(mkfifo("/tmp/fifo", 0600));
	WAITS("open for reading", open("/tmp/fifo", O_RDONLY));
	WAITS("open for writing", syscall(SYS_open, "/tmp/fifo", O_WRONLY));
	unlink("/tmp/fifo");
}
CASE(sysv, msgrcv, msgsnd, semop, semtimedop)
{
	int q = msgget(IPC_PRIVATE, 0600), s = semget(IPC_PRIVATE, 1, 0600), fq = msgget(IPC_PRIVATE, 0600);
	struct { long t; char b[8192]; } m = { 1 };
	struct sembuf sb = { 0, -1, 0 };
	while (msgsnd(fq, &m, 8192, IPC_NOWAIT) == 0)
		;
	WAITS("msgrcv", msgrcv(q, &m, 8, 0, 0));
	WAITS("msgsnd", msgsnd(fq, &m, 8192, 0));
	WAITS("semop", syscall(SYS_semop, s, &sb, 1));
	WAITS("semtimedop", semtimedop(s, &sb, 1, &(struct timespec){ 5, 0 }));
	msgctl(q, IPC_RMID, 0), msgctl(fq, IPC_RMID, 0), semctl(s, 0, IPC_RMID);
}
CASE(queues, mq_timedreceive, mq_timedsend)
{
	struct mq_attr a = { .mq_maxmsg = 1, .mq_msgsize = 8 };
	mq_unlink("/r"), mq_unlink("/s");
	mqd_t r = mq_open("/r", O_CREAT | O_RDWR, 0600, &a), s = mq_open("/s", O_CREAT | O_RDWR, 0600, &a);
	MUST(r);
	MUST(s);
	mq_send(s, "x", 1, 0);
	WAITS("mq_receive", mq_receive(r, b, 8, 0));
	WAITS("mq_send", mq_send(s, "x", 1, 0));
	mq_unlink("/r"), mq_unlink("/s");
}
CASE(restart_syscall, restart_syscall) { R(syscall(SYS_restart_syscall)); }
CASES
