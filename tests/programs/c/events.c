/* pipe, eventfd, epoll, poll, select, timerfd, signalfd. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/ioctl.h>
#include <time.h>

static void pipes(void)
{
	say("-- pipe");
	int p[2], n = 0;
	static char big[70000];
	R(pipe2(p, O_NONBLOCK));
	R(read(p[0], big, 1));
	R(write(p[1], "hello", 5));
	R(ioctl(p[0], FIONREAD, &n));
	R(n);
	R(read(p[0], big, 3));
	R(read(p[0], big, 100));
	R(fcntl(p[0], F_GETPIPE_SZ));
	R(write(p[1], big, sizeof big));
	R(write(p[1], big, 1));
	R(lseek(p[0], 0, SEEK_SET));
	R(pread(p[0], big, 1, 0));
	R(read(p[1], big, 1));
	R(write(p[0], big, 1));
	R(close(p[1]));
	R(read(p[0], big, sizeof big));
	R(read(p[0], big, sizeof big));
	R(close(p[0]));
	signal(SIGPIPE, SIG_IGN);
	MUST(pipe(p));
	close(p[0]);
	R(write(p[1], big, 1));
	R(pipe2(p, 0x8000000));
	struct iovec iov[2] = { { "ab", 2 }, { "cd", 2 } };
	MUST(pipe(p));
	R(writev(p[1], iov, 2));
	R(read(p[0], big, 10));
	R(writev(p[1], iov, -1));
	R(writev(p[1], iov, 1025));
	R(writev(p[1], iov, 0));
	R(fcntl(p[1], F_GETFL) == O_WRONLY);
	R(fcntl(p[1], F_SETFL, O_NONBLOCK));
	R(fcntl(p[1], F_GETFL) == (O_WRONLY | O_NONBLOCK));
	close(p[0]);
	close(p[1]);
}

static void eventfds(void)
{
	say("-- eventfd");
	uint64_t v = 3;
	int e;
	MUST(e = eventfd(2, EFD_NONBLOCK));
	R(read(e, &v, 8));
	R(v);
	R(read(e, &v, 8));
	R(read(e, &v, 7));
	v = 5;
	R(write(e, &v, 8));
	R(write(e, &v, 8));
	R(read(e, &v, 8));
	R(v);
	v = UINT64_MAX;
	R(write(e, &v, 8));
	v = UINT64_MAX - 1;
	R(write(e, &v, 8));
	v = 1;
	R(write(e, &v, 8));
	close(e);
	MUST(e = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK));
	R(read(e, &v, 8));
	R(v);
	R(read(e, &v, 8));
	R(read(e, &v, 8));
	R(read(e, &v, 8));
	R(eventfd(0, 0x1000000));
	close(e);
}

static void *later(void *p)
{
	uint64_t one = 1;
	nanosleep(&(struct timespec){ 0, 20000000 }, NULL);
	write(*(int *)p, &one, 8);
	return NULL;
}

static void epolls(void)
{
	say("-- epoll");
	int ep, p[2], e;
	uint64_t v;
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = 7 }, out[4];
	MUST(ep = epoll_create1(EPOLL_CLOEXEC));
	R(epoll_create1(1));
	R(epoll_create(0));
	MUST(pipe2(p, O_NONBLOCK));
	R(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev));
	R(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev));
	R(epoll_ctl(ep, EPOLL_CTL_MOD, p[1], &ev));
	R(epoll_ctl(ep, EPOLL_CTL_DEL, p[1], NULL));
	R(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &ev));
	R(epoll_ctl(ep, EPOLL_CTL_ADD, 999, &ev));
	R(epoll_ctl(p[0], EPOLL_CTL_ADD, p[1], &ev));
	R(epoll_ctl(ep, 77, p[0], &ev));
	int f = open("/tmp", O_RDONLY | O_DIRECTORY);
	R(epoll_ctl(ep, EPOLL_CTL_ADD, f, &ev));
	close(f);
	R(epoll_wait(ep, out, 4, 0));
	R(epoll_wait(ep, out, 0, 0));
	R(epoll_wait(ep, out, -1, 0));
	R(write(p[1], "x", 1));
	R(epoll_wait(ep, out, 4, 0));
	IS(out[0].events == EPOLLIN && out[0].data.u64 == 7);
	R(epoll_wait(ep, out, 4, 0));
	ev.events = EPOLLIN | EPOLLET;
	R(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &ev));
	R(epoll_wait(ep, out, 4, 0));
	R(epoll_wait(ep, out, 4, 0));
	R(write(p[1], "y", 1));
	R(epoll_wait(ep, out, 4, 0));
	R(epoll_wait(ep, out, 4, 0));
	ev.events = EPOLLIN | EPOLLONESHOT;
	R(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &ev));
	R(epoll_wait(ep, out, 4, 0));
	R(epoll_wait(ep, out, 4, 0));
	close(p[1]);
	ev.events = EPOLLIN;
	R(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &ev));
	R(epoll_wait(ep, out, 4, 0));
	IS(out[0].events == (EPOLLIN | EPOLLHUP));
	close(p[0]);
	R(epoll_wait(ep, out, 4, 0));
	MUST(e = eventfd(0, 0));
	R(epoll_ctl(ep, EPOLL_CTL_ADD, e, &ev));
	pthread_t t;
	pthread_create(&t, NULL, later, &e);
	R(epoll_wait(ep, out, 4, 5000));
	pthread_join(t, NULL);
	R(read(e, &v, 8));
	R(epoll_wait(ep, out, 4, 10));
	/* An epoll in an epoll. */
	int outer;
	MUST(outer = epoll_create1(0));
	R(epoll_ctl(outer, EPOLL_CTL_ADD, ep, &ev));
	R(epoll_ctl(ep, EPOLL_CTL_ADD, outer, &ev));
	R(epoll_wait(outer, out, 4, 0));
	v = 1;
	write(e, &v, 8);
	R(epoll_wait(outer, out, 4, 0));
	close(outer);
	close(ep);
	close(e);
}

static void polls(void)
{
	say("-- poll, select");
	int p[2];
	MUST(pipe(p));
	struct pollfd f[3] = { { p[0], POLLIN, 0 }, { p[1], POLLOUT, 0 }, { 999, POLLIN, 0 } };
	R(poll(f, 3, 0));
	say("revents %#x %#x %#x", f[0].revents, f[1].revents, f[2].revents);
	f[2].fd = -1;
	write(p[1], "x", 1);
	R(poll(f, 3, 0));
	say("revents %#x %#x %#x", f[0].revents, f[1].revents, f[2].revents);
	close(p[1]);
	R(poll(f, 1, 0));
	say("revents %#x", f[0].revents);
	R(poll(NULL, 0, 5));
	R(ppoll(NULL, 0, &(struct timespec){ 0, 5000000 }, NULL));
	R(ppoll(NULL, 0, &(struct timespec){ 0, -5 }, NULL));
	fd_set r;
	FD_ZERO(&r);
	FD_SET(p[0], &r);
	struct timeval tv = { 0, 1000 };
	R(select(p[0] + 1, &r, NULL, NULL, &tv));
	R(FD_ISSET(p[0], &r) != 0);
	FD_ZERO(&r);
	FD_SET(900, &r);
	R(select(901, &r, NULL, NULL, &tv));
	R(select(-1, NULL, NULL, NULL, &tv));
	R(select(0, NULL, NULL, NULL, &tv));
	close(p[0]);
}

static void timerfds(void)
{
	say("-- timerfd");
	int t;
	uint64_t n = 0;
	MUST(t = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
	R(timerfd_create(99, 0));
	R(timerfd_create(CLOCK_MONOTONIC, 0x70000000));
	R(read(t, &n, 8));
	struct itimerspec s = { .it_value = { 0, 10000000 }, .it_interval = { 0, 5000000 } }, o;
	R(timerfd_settime(t, 0, &s, NULL));
	R(timerfd_gettime(t, &o));
	IS(o.it_interval.tv_nsec == 5000000 && o.it_value.tv_nsec > 0 && o.it_value.tv_nsec <= 10000000);
	struct pollfd f = { t, POLLIN, 0 };
	R(poll(&f, 1, 2000));
	R(read(t, &n, 8));
	IS(n >= 1);
	nanosleep(&(struct timespec){ 0, 30000000 }, NULL);
	R(read(t, &n, 8));
	IS(n >= 5);
	s = (struct itimerspec){ 0 };
	R(timerfd_settime(t, 0, &s, &o));
	IS(o.it_interval.tv_nsec == 5000000);
	R(read(t, &n, 8));
	s.it_value.tv_nsec = 1000000000;
	R(timerfd_settime(t, 0, &s, NULL));
	R(timerfd_settime(t, 8, &s, NULL));
	s.it_value = (struct timespec){ 1, 0 }; /* long past */
	R(timerfd_settime(t, TFD_TIMER_ABSTIME, &s, NULL));
	R(poll(&f, 1, 1000));
	R(read(t, &n, 4));
	R(read(t, &n, 8));
	R(n);
	R(write(t, &n, 8));
	close(t);
}

static void signalfds(void)
{
	say("-- signalfd");
	sigset_t m;
	struct signalfd_siginfo si;
	sigemptyset(&m);
	sigaddset(&m, SIGUSR1);
	sigprocmask(SIG_BLOCK, &m, NULL);
	int s;
	MUST(s = signalfd(-1, &m, SFD_NONBLOCK));
	R(read(s, &si, sizeof si));
	raise(SIGUSR1);
	R(read(s, &si, sizeof si));
	R(si.ssi_signo);
	R(read(s, &si, 10));
	R(signalfd(-1, &m, 0x1000000));
	R(signalfd(0, &m, 0));
	close(s);
}

int main(void)
{
	pipes();
	eventfds();
	epolls();
	polls();
	timerfds();
	signalfds();
	return 0;
}
