/* epoll, poll, select and eventfd: flag by flag, with their errors (epoll_ctl(2), poll(2),
 * select(2), eventfd(2)). */
#include "ipc.h"
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#define SC(n, ...) R(syscall(SYS_##n, ##__VA_ARGS__))
#define LIMIT(res, n) do { struct rlimit l_ = { n, n }; MUST(setrlimit(res, &l_)); } while (0)
static int ep, p[2], sv[2];
static struct epoll_event got[16];
static void one(void) { write(p[1], "x", 1); }
static void start(void) { ep = epoll_create1(0); MUST(pipe2(p, O_NONBLOCK)); MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv)); }
static int ctl(int op, int fd, unsigned ev) { struct epoll_event e = { ev, { .u64 = fd } }; return epoll_ctl(ep, op, fd, &e); }
static void wait_for(void) { int n = epoll_wait(ep, got, 16, 0); char b[200] = ""; for (int i = 0; i < n; i++) sprintf(b + strlen(b), " %#x", got[i].events); say("%d ready:%s", n, b); }

CASE(create, epoll_create1, epoll_create)
{
	int e = epoll_create1(EPOLL_CLOEXEC);
	R(fcntl(e, F_GETFD));
	R(fcntl(epoll_create1(0), F_GETFD));
	SC(epoll_create1, 1);
	SC(epoll_create1, EPOLL_CLOEXEC | 1);
	SC(epoll_create, 0);
	SC(epoll_create, -1);
	IS(syscall(SYS_epoll_create, 1) > 0);
	int c = FORK(LIMIT(RLIMIT_NOFILE, 0); SC(epoll_create1, EPOLL_CLOEXEC); SC(epoll_create, 1); SC(eventfd2, 0, EFD_CLOEXEC); SC(eventfd2, 0, EFD_NONBLOCK); SC(eventfd2, 0, EFD_SEMAPHORE); SC(eventfd, 0));
	reap("no descriptor left", c);
}
CASE(ctl_errors, epoll_ctl)
{
	struct epoll_event e = { EPOLLIN };
	start();
	SC(epoll_ctl, 999, EPOLL_CTL_ADD, p[0], &e);
	SC(epoll_ctl, ep, EPOLL_CTL_ADD, 999, &e);
	SC(epoll_ctl, 999, EPOLL_CTL_DEL, p[0], 0);
	SC(epoll_ctl, 999, EPOLL_CTL_MOD, p[0], &e);
	SC(epoll_ctl, ep, EPOLL_CTL_ADD, p[0], 8L);
	SC(epoll_ctl, ep, EPOLL_CTL_ADD, p[0], 0);
	SC(epoll_ctl, 999, EPOLL_CTL_ADD, 999, 8L);
	SC(epoll_ctl, ep, EPOLL_CTL_ADD, ep, &e);
	SC(epoll_ctl, p[0], EPOLL_CTL_ADD, p[1], &e);
	SC(epoll_ctl, ep, EPOLL_CTL_MOD, p[0], &e);
	SC(epoll_ctl, ep, EPOLL_CTL_DEL, p[0], 0);
	SC(epoll_ctl, ep, EPOLL_CTL_ADD, p[0], &e);
	SC(epoll_ctl, ep, EPOLL_CTL_ADD, p[0], &e);
	SC(epoll_ctl, ep, 0, p[0], &e);
	SC(epoll_ctl, ep, 4, p[0], &e);
	SC(epoll_ctl, ep, 4, p[0], 0);
	SC(epoll_ctl, ep, EPOLL_CTL_ADD, open("/proc/self/exe", O_RDONLY), &e);
	SC(epoll_ctl, ep, EPOLL_CTL_ADD, open("/", O_RDONLY), &e);
	SC(epoll_ctl, ep, EPOLL_CTL_ADD, open("/dev/null", O_RDONLY), &e);
	SC(epoll_ctl, ep, EPOLL_CTL_ADD, open("/", O_PATH), &e);
	SC(epoll_ctl, ep, EPOLL_CTL_DEL, p[0], 8L);
}
CASE(wait_errors, epoll_wait, epoll_pwait, epoll_pwait2)
{
	struct timespec t = { 0 }, bad = { 0, 1000000000 };
	sigset_t s;
	start();
	sigemptyset(&s);
	SC(epoll_wait, 999, got, 1, 0);
	SC(epoll_wait, ep, got, 0, 0);
	SC(epoll_wait, ep, got, -1, 0);
	SC(epoll_wait, ep, got, 1 << 30, 0);
	SC(epoll_wait, p[0], got, 1, 0);
	SC(epoll_wait, ep, 8L, 1, 0);
	SC(epoll_wait, ep, 0xffffffff80000000, 1, 0);
	SC(epoll_wait, 999, got, 0, 0);
	ctl(EPOLL_CTL_ADD, p[1], EPOLLOUT);
	SC(epoll_wait, ep, 8L, 1, 0);
	wait_for();
	SC(epoll_pwait, ep, got, 1, 0, &s, 8);
	SC(epoll_pwait, ep, got, 1, 0, &s, 4);
	SC(epoll_pwait, ep, got, 1, 0, 8L, 8);
	SC(epoll_pwait, ep, got, 1, 0, 0, 4);
	SC(epoll_pwait2, ep, got, 1, &t, &s, 8);
	SC(epoll_pwait2, ep, got, 1, &bad, &s, 8);
	SC(epoll_pwait2, ep, got, 1, 8L, &s, 8);
	SC(epoll_pwait2, ep, got, 1, 0, &s, 4);
	SC(epoll_pwait2, ep, got, 1, &t, 0, 0);
}
CASE(level, epoll_wait, epoll_ctl)
{
	start();
	ctl(EPOLL_CTL_ADD, p[0], EPOLLIN);
	wait_for(), one(), wait_for(), wait_for();
	R(ctl(EPOLL_CTL_MOD, p[0], EPOLLOUT));
	wait_for();
	R(ctl(EPOLL_CTL_MOD, p[0], 0));
	wait_for();
	close(p[1]);
	wait_for(); /* EPOLLHUP is always reported */
	R(ctl(EPOLL_CTL_DEL, p[0], 0));
	wait_for();
}
CASE(edge, epoll_wait, epoll_ctl)
{
	char b[8];
	start();
	ctl(EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLET);
	one(), wait_for(), wait_for();
	one(), wait_for(), wait_for();
	read(p[0], b, 1), wait_for();
	R(ctl(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET));
	wait_for(), wait_for();
	ctl(EPOLL_CTL_ADD, p[1], EPOLLOUT | EPOLLET);
	wait_for(), wait_for();
	read(p[0], b, 8), wait_for();
	R(ctl(EPOLL_CTL_ADD, p[1], EPOLLOUT | EPOLLET));
}
CASE(oneshot, epoll_wait, epoll_ctl)
{
	start();
	ctl(EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLONESHOT);
	one(), wait_for(), wait_for(), one(), wait_for();
	R(ctl(EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLONESHOT));
	R(ctl(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT));
	wait_for(), wait_for();
	close(p[1]), wait_for(); /* disabled: not even EPOLLHUP */
}
CASE(exclusive, epoll_ctl)
{
	start();
	R(ctl(EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLEXCLUSIVE));
	R(ctl(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLEXCLUSIVE));
	R(ctl(EPOLL_CTL_MOD, p[0], EPOLLIN));
	R(ctl(EPOLL_CTL_ADD, p[1], EPOLLOUT | EPOLLEXCLUSIVE | EPOLLONESHOT));
	R(ctl(EPOLL_CTL_ADD, p[1], EPOLLOUT | EPOLLEXCLUSIVE | EPOLLRDHUP));
	R(ctl(EPOLL_CTL_ADD, p[1], EPOLLOUT | EPOLLEXCLUSIVE | EPOLLET | EPOLLWAKEUP | EPOLLERR | EPOLLHUP));
	one(), wait_for();
	R(ctl(EPOLL_CTL_ADD, epoll_create1(0), EPOLLIN | EPOLLEXCLUSIVE));
	R(ctl(EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLEXCLUSIVE));
}
CASE(wakeup, epoll_ctl)
{
	/* EPOLLWAKEUP means something to machines that sleep, and is dropped without privilege */
	start();
	R(ctl(EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLWAKEUP));
	one(), wait_for();
	R(ctl(EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLWAKEUP));
	R(ctl(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLWAKEUP));
	int c = FORK(setuid(1000); R(ctl(EPOLL_CTL_ADD, p[1], EPOLLOUT | EPOLLWAKEUP)); wait_for());
	reap("unprivileged", c);
}
CASE(event_bits, epoll_ctl, epoll_wait)
{
	unsigned all[] = { EPOLLIN, EPOLLPRI, EPOLLOUT, EPOLLERR, EPOLLHUP, 0x20, EPOLLRDNORM, EPOLLRDBAND, EPOLLWRNORM, EPOLLMSG, EPOLLRDHUP };
	start();
	write(sv[1], "x", 1);
	ctl(EPOLL_CTL_ADD, sv[0], 0);
	for (int i = 0; i < 11; i++) {
		R(ctl(EPOLL_CTL_MOD, sv[0], all[i]));
		wait_for();
		R(ctl(EPOLL_CTL_ADD, sv[0], all[i]));
	}
	R(shutdown(sv[1], SHUT_WR));
	R(ctl(EPOLL_CTL_MOD, sv[0], EPOLLRDHUP));
	wait_for();
	R(ctl(EPOLL_CTL_MOD, sv[0], EPOLLIN));
	wait_for();
	close(sv[1]);
	wait_for();
	R(ctl(EPOLL_CTL_MOD, sv[0], EPOLLRDHUP | EPOLLIN | EPOLLOUT));
	wait_for();
}
CASE(order, epoll_wait)
{
	int fds[4];
	start();
	for (int i = 0; i < 4; i++) {
		struct epoll_event e = { EPOLLIN, { .u64 = i } };
		fds[i] = eventfd(i == 2 ? 0 : 1, EFD_NONBLOCK);
		epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &e);
	}
	for (int k = 0; k < 4; k++) { /* who was served goes to the end */
		int n = epoll_wait(ep, got, 2, 0);
		say("%d: %d %d", n, (int)got[0].data.u64, (int)got[1].data.u64);
	}
	eventfd_write(fds[2], 1);
	int n = epoll_wait(ep, got, 16, 0);
	say("%d", n);
}
CASE(many, epoll_wait)
{ /* events on pages that have not been touched, and on one that is not there */
	start();
	int e = eventfd(1, 0);
	for (int i = 0; i < 700; i++) {
		struct epoll_event v = { EPOLLIN, { .u64 = i } };
		epoll_ctl(ep, EPOLL_CTL_ADD, dup(e), &v);
	}
	struct epoll_event *to = mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	R(epoll_wait(ep, to, 1024, 0));
	say("%d %d", (int)to[341].data.u64, (int)to[699].data.u64);
	MUST(munmap((char *)to + 4096, 8192));
	R(epoll_wait(ep, to, 1024, 0));
	say("%d", (int)to[340].data.u64);
	R(epoll_wait(ep, (void *)((char *)to + 4090), 1024, 0));
	to = mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	R(epoll_wait(ep, to, 1024, 0));
	say("%d %d", (int)to[0].data.u64, (int)to[699].data.u64);
}
CASE(nested, epoll_ctl, epoll_wait)
{
	int e[8];
	struct epoll_event v = { EPOLLIN };
	start();
	for (int i = 0; i < 8; i++)
		e[i] = epoll_create1(0);
	R(epoll_ctl(e[0], EPOLL_CTL_ADD, p[0], &v));
	for (int i = 1; i < 8; i++)
		say("depth %d: %d %s", i, epoll_ctl(e[i], EPOLL_CTL_ADD, e[i - 1], &v), errname(errno));
	R(epoll_ctl(e[0], EPOLL_CTL_ADD, e[4], &v)); /* a loop */
	R(epoll_ctl(e[0], EPOLL_CTL_ADD, e[0], &v));
	one();
	R(epoll_wait(e[0], got, 1, 0));
	R(epoll_wait(e[4], got, 1, 0));
	struct pollfd f = { e[3], POLLIN };
	R(poll(&f, 1, 0));
	char b;
	read(p[0], &b, 1);
	R(epoll_wait(e[4], got, 1, 0));
	R(poll(&f, 1, 0));
}
CASE(duplicates, epoll_ctl, epoll_wait)
{
	start();
	int d = dup(p[0]);
	R(ctl(EPOLL_CTL_ADD, p[0], EPOLLIN));
	R(ctl(EPOLL_CTL_ADD, d, EPOLLIN));
	one(), wait_for();
	close(p[0]), wait_for(); /* the description lives on in d */
	R(ctl(EPOLL_CTL_DEL, p[0], 0));
	close(d), wait_for();
}
static void *later(void *f) { ms(30); eventfd_write((long)f, 1); return 0; }
CASE(wakes, epoll_wait)
{
	pthread_t t;
	start();
	int e = eventfd(0, 0);
	ctl(EPOLL_CTL_ADD, e, EPOLLIN);
	pthread_create(&t, 0, later, (void *)(long)e);
	R(epoll_wait(ep, got, 1, 5000));
	pthread_join(t, 0);
	R(epoll_wait(ep, got, 1, 5000));
	eventfd_t v;
	eventfd_read(e, &v);
	R(epoll_wait(ep, got, 1, 10));
	R(epoll_wait(ep, got, 1, 0));
}
static void got_it(int s) { }
CASE(masks, ppoll, pselect6, epoll_pwait, epoll_pwait2)
{
	/* the mask holds for the wait only, and a blocked signal ends it */
	sigset_t none, usr, cur;
	struct timespec t = { 5, 0 };
	start();
	signal(SIGUSR1, got_it);
	sigemptyset(&none), sigemptyset(&usr), sigaddset(&usr, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr, 0);
	raise(SIGUSR1);
	R(ppoll(0, 0, &t, &none));
	raise(SIGUSR1);
	R(pselect(0, 0, 0, 0, &t, &none));
	raise(SIGUSR1);
	R(epoll_pwait(ep, got, 1, 5000, &none));
	raise(SIGUSR1);
	SC(epoll_pwait2, ep, got, 1, &t, &none, 8);
	sigprocmask(SIG_BLOCK, 0, &cur);
	R(sigismember(&cur, SIGUSR1));
	one(); /* something ready comes before a signal, which stays */
	struct pollfd f = { p[0], POLLIN };
	raise(SIGUSR1);
	R(ppoll(&f, 1, &t, &none));
	sigpending(&cur);
	R(sigismember(&cur, SIGUSR1));
}
CASE(poll_errors, poll, ppoll)
{
	struct pollfd f[2] = { { 999, POLLIN }, { -1, POLLIN, 77 } };
	struct timespec t = { 0 }, bad = { 0, 1000000000 }, neg = { -1, 0 };
	sigset_t s;
	sigemptyset(&s);
	SC(poll, f, 2, 0);
	say("%#x %#x", f[0].revents, f[1].revents);
	SC(poll, 8L, 1, 0);
	SC(poll, 8L, 0, 0);
	SC(poll, f, -1, 0);
	SC(poll, f, 1 << 24, 0);
	SC(ppoll, f, 2, &t, &s, 8);
	SC(ppoll, f, 2, &bad, &s, 8);
	SC(ppoll, f, 2, &neg, &s, 8);
	SC(ppoll, f, 2, 8L, &s, 8);
	SC(ppoll, f, 2, &t, &s, 4);
	SC(ppoll, f, 2, &t, 8L, 8);
	SC(ppoll, f, 2, &t, 0, 4);
	int c = FORK(LIMIT(RLIMIT_NOFILE, 1); SC(poll, f, 2, 0); SC(poll, f, 1, 0));
	reap("limit", c);
	t = (struct timespec){ 0, 5000000 };
	SC(ppoll, 0, 0, &t, 0, 0); /* what is left of the time is written back */
	say("%ld %ld", t.tv_sec, t.tv_nsec);
}
CASE(poll_bits, poll)
{
	short all[] = { 0, POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLNVAL, POLLRDNORM, POLLRDBAND, POLLWRNORM, POLLRDHUP, POLLMSG };
	start();
	write(sv[1], "x", 1);
	int fds[] = { sv[0], p[0], p[1], open("/dev/null", O_RDWR), open("/proc/self/exe", O_RDONLY), open("/", O_RDONLY), open("/", O_PATH), eventfd(1, 0) };
	for (int k = 0; k < 8; k++)
		for (int i = 0; i < 12; i++) {
			struct pollfd f = { fds[k], all[i] };
			int r = poll(&f, 1, 0);
			say("file %d %#x: %d %#x", k, all[i], r, f.revents);
		}
	close(sv[1]), close(p[1]);
	struct pollfd f[2] = { { sv[0], 0xdff | POLLRDHUP }, { p[0], 0xdff | POLLRDHUP } };
	R(poll(f, 2, 0));
	say("%#x %#x", f[0].revents, f[1].revents);
	close(p[0]);
	MUST(pipe(p));
	close(p[0]);
	f[0] = (struct pollfd){ p[1], 0xfff };
	R(poll(f, 1, 0));
	say("%#x", f[0].revents);
}
CASE(select_errors, select, pselect6)
{
	fd_set r;
	struct timeval t = { 0 }, bad = { -1, 0 }, bad2 = { 0, -1 }, odd = { 0, 2000000 };
	struct timespec ts = { 0 }, badts = { 0, 1000000000 };
	struct { void *s; long n; } six = { 0, 8 };
	start();
	FD_ZERO(&r);
	SC(select, -1, 0, 0, 0, &t);
	SC(select, 0, 0, 0, 0, &bad);
	SC(select, 0, 0, 0, 0, &bad2);
	SC(select, 1, 8L, 0, 0, &t);
	SC(select, 0, 0, 0, 0, 8L);
	FD_SET(900, &r);
	SC(select, 901, &r, 0, 0, &t);
	SC(select, 901, 0, &r, 0, &t);
	SC(select, 901, 0, 0, &r, &t);
	SC(select, 1 << 20, &r, 0, 0, &t);
	FD_ZERO(&r);
	FD_SET(p[1], &r);
	SC(select, p[1] + 1, 0, &r, 0, &odd); /* more than a second of microseconds */
	SC(pselect6, 0, 0, 0, 0, &ts, 0);
	SC(pselect6, 0, 0, 0, 0, &badts, 0);
	SC(pselect6, 0, 0, 0, 0, 8L, 0);
	SC(pselect6, 0, 0, 0, 0, &ts, 8L);
	SC(pselect6, 0, 0, 0, 0, &ts, &six);
	SC(pselect6, -1, 0, 0, 0, &ts, &six);
	six.s = &r, six.n = 4;
	SC(pselect6, 0, 0, 0, 0, &ts, &six);
	six.s = (void *)8, six.n = 8;
	SC(pselect6, 0, 0, 0, 0, &ts, &six);
}
CASE(select_sets, select)
{
	fd_set r, w, x;
	struct timeval t = { 1, 0 };
	start();
	one();
#define SETS(n) do { FD_ZERO(&r); FD_ZERO(&w); FD_ZERO(&x); for (int i = 0; i < 2; i++) { FD_SET(p[i], &r); FD_SET(p[i], &w); FD_SET(p[i], &x); } t = (struct timeval){ 1, 0 }; \
	SC(select, n, &r, &w, &x, &t); say("%d %d %d %d %d %d, time left %s", !!FD_ISSET(p[0], &r), !!FD_ISSET(p[1], &r), !!FD_ISSET(p[0], &w), !!FD_ISSET(p[1], &w), !!FD_ISSET(p[0], &x), !!FD_ISSET(p[1], &x), t.tv_sec || t.tv_usec ? "yes" : "no"); } while (0)
	SETS(p[1] + 1);
	SETS(p[0] + 1);
	close(p[1]);
	FD_ZERO(&r); FD_SET(p[0], &r); FD_ZERO(&x); FD_SET(p[0], &x);
	SC(select, p[0] + 1, &r, 0, &x, 0);
	say("%d %d", !!FD_ISSET(p[0], &r), !!FD_ISSET(p[0], &x));
	t = (struct timeval){ 0, 5000 };
	SC(select, 0, 0, 0, 0, &t);
	say("%ld %ld", t.tv_sec, t.tv_usec);
}
CASE(eventfds, eventfd2, eventfd)
{
	uint64_t v = 3, max = UINT64_MAX - 1, over = UINT64_MAX;
	int e = syscall(SYS_eventfd2, 5, EFD_NONBLOCK | EFD_CLOEXEC), s = syscall(SYS_eventfd2, 2, EFD_SEMAPHORE | EFD_NONBLOCK);
	R(fcntl(e, F_GETFD));
	R(fcntl(e, F_GETFL));
	R(read(e, &v, 7));
	R(read(e, &v, 8));
	R(v);
	R(read(e, &v, 8));
	R(write(e, &v, 7));
	R(write(e, &over, 8));
	R(write(e, &max, 8));
	v = 1;
	R(write(e, &v, 8));
	v = 0;
	R(write(e, &v, 8));
	struct pollfd f = { e, POLLIN | POLLOUT };
	R(poll(&f, 1, 0));
	say("%#x", f.revents);
	R(read(e, (void *)8, 8));
	R(write(e, (void *)8, 8));
	R(read(s, &v, 8));
	R(v);
	R(read(s, &v, 8));
	R(read(s, &v, 8));
	R(lseek(e, 0, SEEK_SET));
	SC(eventfd2, 0, 2);
	SC(eventfd2, 0, EFD_SEMAPHORE | 2);
	SC(eventfd2, 0, EFD_NONBLOCK | 4);
	SC(eventfd2, 0, EFD_CLOEXEC | 4);
	e = syscall(SYS_eventfd, 1);
	R(fcntl(e, F_GETFL));
}
CASES
