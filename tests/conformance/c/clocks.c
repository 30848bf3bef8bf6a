/* Clocks, sleeps and timers: every clock and flag, errors in Linux's order (clock_gettime(2),
 * clock_nanosleep(2), timer_create(2), timerfd_create(2), setitimer(2), adjtimex(2)). */
#include "ipc.h"
#include <linux/futex.h>
#include <mqueue.h>
#include <sys/prctl.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/timex.h>
#define SC(n, ...) R(syscall(SYS_##n, ##__VA_ARGS__))
typedef struct timespec ts;
static int64_t now(int c) { ts t = { 0 }; syscall(SYS_clock_gettime, c, &t); return t.tv_sec * 1000000000LL + t.tv_nsec; }
static ts in(int c, int msec) { int64_t n = now(c) + msec * 1000000LL; return (ts){ n / 1000000000, n % 1000000000 }; }
static int ids[] = { -1, -2, -3, -6, -8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 16, 99 };
#define EACH for (int k = 0; k < (int)(sizeof ids / sizeof *ids); k++)
#define C(n, ...) ({ errno = 0; long r_ = syscall(SYS_##n, ##__VA_ARGS__); say("clock %d: " #n " = %ld %s", ids[k], r_, r_ == -1 ? errname(errno) : ""); r_; })
static void other(int s) { }

CASE(get, clock_gettime)
{
	ts t;
	EACH { if (C(clock_gettime, ids[k], &t) == 0) IS(t.tv_sec >= 0 && t.tv_nsec < 1000000000); C(clock_gettime, ids[k], 8L); }
}
CASE(resolution, clock_getres)
{
	ts t;
	EACH { t.tv_nsec = 0; C(clock_getres, ids[k], &t); say("%ld", t.tv_nsec); C(clock_getres, ids[k], 0); C(clock_getres, ids[k], 8L); }
}
CASE(set_errors, clock_settime)
{
	ts t = { 1000000000, 0 }, bad = { 5, 1000000000 }, neg = { -1, 0 };
	EACH { if (ids[k] != 0) C(clock_settime, ids[k], &t); C(clock_settime, ids[k], 8L); C(clock_settime, ids[k], &bad); C(clock_settime, ids[k], &neg); }
	int c = FORK(setuid(1000); clock_gettime(CLOCK_REALTIME, &t); SC(clock_settime, 0, &t); SC(settimeofday, &t, 0); SC(clock_settime, 0, &bad); SC(clock_settime, 0, 8L));
	reap("unprivileged", c);
}
CASE(set, clock_settime, settimeofday)
{
	ts t, u;
	struct timeval v, bad = { 0, 1000000 }, neg = { -1, 0 };
	struct timezone z = { 0, 0 };
	int64_t m = now(CLOCK_MONOTONIC), r = now(CLOCK_REALTIME);
	t = (ts){ r / 1000000000 + 1000, 0 };
	SC(clock_settime, CLOCK_REALTIME, &t);
	IS(now(CLOCK_REALTIME) - r > 990000000000LL && now(CLOCK_MONOTONIC) - m < 1000000000);
	clock_gettime(CLOCK_REALTIME_COARSE, &u);
	IS(u.tv_sec >= t.tv_sec);
	IS(time(0) >= t.tv_sec);
	v = (struct timeval){ r / 1000000000, 0 };
	SC(settimeofday, &v, 0);
	IS(now(CLOCK_REALTIME) - r < 10000000000LL);
	SC(settimeofday, &bad, 0);
	SC(settimeofday, &neg, 0);
	SC(settimeofday, 8L, 0);
	SC(settimeofday, 0, 8L);
	SC(settimeofday, 0, 0);
	SC(settimeofday, 0, &z);
	z.tz_minuteswest = 16 * 60;
	SC(settimeofday, 0, &z);
	SC(gettimeofday, &v, &z);
	SC(gettimeofday, 8L, 0);
	SC(gettimeofday, 0, 8L);
	SC(gettimeofday, 0, 0);
	SC(time, 8L);
	SC(clock_settime, CLOCK_REALTIME, &(ts){ 0, 0 }); /* before the machine was started */
}
CASE(sleep_errors, clock_nanosleep, nanosleep)
{
	ts t = { 0, 1000 }, bad = { 0, 1000000000 }, neg = { 0, -1 }, old = { -1, 0 };
	EACH { if (ids[k] >= -1 && ids[k] != 2) C(clock_nanosleep, ids[k], 0, &t, 0); C(clock_nanosleep, ids[k], 0, &bad, 0); C(clock_nanosleep, ids[k], 0, 8L, 0); C(clock_nanosleep, ids[k], TIMER_ABSTIME, &old, 0); }
	SC(clock_nanosleep, 1, 2, &t, 0);
	SC(clock_nanosleep, 1, 1, &t, 0);
	SC(clock_nanosleep, 1, 0, &neg, 0);
	SC(nanosleep, &bad, 0);
	SC(nanosleep, &neg, 0);
	SC(nanosleep, &old, 0);
	SC(nanosleep, 8L, 0);
	SC(nanosleep, &t, 8L);
	SC(nanosleep, &(ts){ 0 }, 0);
}
CASE(sleeps, clock_nanosleep)
{
	int list[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI };
	for (int i = 0; i < 4; i++) {
		int64_t a = now(list[i]);
		SC(clock_nanosleep, list[i], 0, &(ts){ 0, 20000000 }, 0);
		IS(now(list[i]) - a >= 20000000);
		ts t = in(list[i], 20);
		SC(clock_nanosleep, list[i], TIMER_ABSTIME, &t, 0);
		IS(now(list[i]) >= t.tv_sec * 1000000000LL + t.tv_nsec);
	}
}
static void *burn(void *p) { for (volatile long i = 0; *(volatile int *)p; i++) ; return 0; }
CASE(sleep_on_cpu_time, clock_nanosleep)
{
	volatile int go = 1;
	pthread_t t;
	pthread_create(&t, 0, burn, (void *)&go);
	int64_t a = now(CLOCK_PROCESS_CPUTIME_ID);
	SC(clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, 0, &(ts){ 0, 30000000 }, 0);
	IS(now(CLOCK_PROCESS_CPUTIME_ID) - a >= 30000000);
	ts at = in(CLOCK_PROCESS_CPUTIME_ID, 20);
	SC(clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, TIMER_ABSTIME, &at, 0);
	SC(clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, TIMER_ABSTIME, &(ts){ 0, 1 }, 0);
	go = 0;
	pthread_join(t, 0);
}
CASE(timer_errors, timer_create, timer_settime, timer_gettime, timer_getoverrun, timer_delete)
{
	struct sigevent e = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
	struct itimerspec s = { 0 }, bad = { .it_value = { 0, 1000000000 } }, neg = { .it_value = { -1, 0 } }, badi = { .it_interval = { 0, -1 }, .it_value = { 1, 0 } };
	int t = 99;
	EACH { if (ids[k] != -3 && ids[k] != -8 && C(timer_create, ids[k], &e, &t) == 0) syscall(SYS_timer_delete, t); }
	SC(timer_create, 1, 8L, &t);
	SC(timer_create, 1, &e, 8L);
	e.sigev_signo = 65; SC(timer_create, 1, &e, &t);
	e.sigev_signo = 0; SC(timer_create, 1, &e, &t);
	e.sigev_signo = -1; SC(timer_create, 1, &e, &t);
	e.sigev_signo = 10;
	e.sigev_notify = 3; SC(timer_create, 1, &e, &t);
	e.sigev_notify = 5; SC(timer_create, 1, &e, &t);
	e.sigev_notify = 99; SC(timer_create, 1, &e, &t);
	e.sigev_notify = SIGEV_THREAD_ID; SC(timer_create, 1, &e, &t);
	e._sigev_un._tid = 99999; SC(timer_create, 1, &e, &t);
	e._sigev_un._tid = getpid(); SC(timer_create, 1, &e, &t);
	SC(timer_delete, t);
	SC(timer_delete, t);
	e.sigev_notify = SIGEV_NONE; SC(timer_create, 1, &e, &t);
	SC(timer_settime, t, 0, &bad, 0);
	SC(timer_settime, t, 0, &neg, 0);
	SC(timer_settime, t, 0, &badi, 0);
	SC(timer_settime, t, 0, 0, 0);
	SC(timer_settime, t, 0, 8L, 0);
	SC(timer_settime, t, 0, &s, 8L);
	SC(timer_settime, t, 2, &s, 0);
	SC(timer_settime, t, 1, &s, 0);
	SC(timer_settime, 9999, 0, &s, 0);
	SC(timer_settime, 9999, 0, &bad, 0);
	SC(timer_gettime, t, &s);
	SC(timer_gettime, t, 8L);
	SC(timer_gettime, 9999, &s);
	SC(timer_getoverrun, t);
	SC(timer_getoverrun, 9999);
	SC(timer_delete, 9999);
	SC(timer_delete, -1);
	int c = FORK(SC(timer_gettime, t, &s)); /* not inherited */
	reap("child", c);
}
CASE(timer_values, timer_settime, timer_gettime)
{
	struct sigevent e = { .sigev_notify = SIGEV_NONE };
	struct itimerspec s = { { 3, 5 }, { 100, 0 } }, o;
	int t;
	SC(timer_create, CLOCK_MONOTONIC, &e, &t);
	SC(timer_gettime, t, &o);
	IS(!o.it_value.tv_sec && !o.it_value.tv_nsec);
	SC(timer_settime, t, 0, &s, &o);
	IS(!o.it_value.tv_sec && !o.it_value.tv_nsec && !o.it_interval.tv_sec);
	SC(timer_gettime, t, &o);
	IS(o.it_value.tv_sec == 99 && o.it_interval.tv_sec == 3 && o.it_interval.tv_nsec == 5);
	s.it_value = in(CLOCK_MONOTONIC, 50000);
	SC(timer_settime, t, TIMER_ABSTIME, &s, &o);
	IS(o.it_value.tv_sec == 99);
	SC(timer_gettime, t, &o);
	IS(o.it_value.tv_sec == 49);
	s.it_value = (ts){ 0 };
	SC(timer_settime, t, 0, &s, &o);
	IS(o.it_value.tv_sec == 49);
}
CASE(timer_signal, timer_create, timer_settime, timer_getoverrun)
{
	sigset_t m;
	siginfo_t i;
	int t, list[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI };
	sigemptyset(&m), sigaddset(&m, SIGRTMIN), sigaddset(&m, SIGALRM), sigprocmask(SIG_BLOCK, &m, 0);
	for (int k = 0; k < 4; k++) {
		struct sigevent e = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_ptr = (void *)0x1234567890 };
		struct itimerspec s = { .it_value = { 0, 1000000 } };
		SC(timer_create, list[k], &e, &t);
		SC(timer_settime, t, 0, &s, 0);
		IS(sigwaitinfo(&m, &i) == SIGRTMIN);
		say("code %d overrun %d", i.si_code, i.si_overrun);
		IS(i.si_timerid == t && i.si_value.sival_ptr == (void *)0x1234567890);
		s.it_value = in(list[k], 5);
		SC(timer_settime, t, TIMER_ABSTIME, &s, 0);
		IS(sigwaitinfo(&m, &i) == SIGRTMIN);
		s.it_value = (ts){ 1, 0 };
		SC(timer_settime, t, TIMER_ABSTIME, &s, 0); /* long past */
		IS(sigwaitinfo(&m, &i) == SIGRTMIN);
		SC(timer_getoverrun, t);
		SC(timer_delete, t);
	}
	SC(timer_create, CLOCK_MONOTONIC, 0, &t);
	struct itimerspec s = { .it_value = { 0, 1000000 } };
	SC(timer_settime, t, 0, &s, 0);
	IS(sigwaitinfo(&m, &i) == SIGALRM && i.si_value.sival_int == t);
	SC(timer_delete, t);
}
CASE(timer_thread, timer_create, timer_settime)
{
	struct sigevent e = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN, ._sigev_un._tid = getpid() };
	struct itimerspec s = { .it_value = { 0, 1000000 } };
	sigset_t m;
	siginfo_t i;
	int t;
	sigemptyset(&m), sigaddset(&m, SIGRTMIN), sigprocmask(SIG_BLOCK, &m, 0);
	SC(timer_create, CLOCK_MONOTONIC, &e, &t);
	SC(timer_settime, t, 0, &s, 0);
	IS(sigwaitinfo(&m, &i) == SIGRTMIN && i.si_code == SI_TIMER);
}
CASE(timer_cpu, timer_create, timer_settime)
{
	struct sigevent e = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
	struct itimerspec s = { .it_value = { 0, 10000000 } };
	sigset_t m, p;
	int t, list[] = { CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID };
	sigemptyset(&m), sigaddset(&m, SIGRTMIN), sigprocmask(SIG_BLOCK, &m, 0);
	for (int k = 0; k < 2; k++) {
		int64_t a = now(list[k]);
		SC(timer_create, list[k], &e, &t);
		SC(timer_settime, t, 0, &s, 0);
		do
			sigpending(&p);
		while (!sigismember(&p, SIGRTMIN) && now(list[k]) - a < 5000000000LL);
		IS(now(list[k]) - a >= 10000000);
		IS(sigwaitinfo(&m, 0) == SIGRTMIN);
		SC(timer_delete, t);
	}
}
CASE(itimers, setitimer, getitimer)
{
	struct itimerval v = { { 0 }, { 100, 0 } }, bad = { { 0 }, { 0, 1000000 } }, neg = { { 0, -1 }, { 0 } }, o;
	for (int w = 0; w < 3; w++) {
		SC(setitimer, w, &v, &o);
		SC(getitimer, w, &o);
		IS(o.it_value.tv_sec >= 99 && !o.it_interval.tv_sec);
		SC(setitimer, w, &bad, 0);
		SC(setitimer, w, &neg, 0);
		SC(setitimer, w, 8L, 0);
		SC(setitimer, w, &v, 8L);
		SC(getitimer, w, 8L);
		SC(setitimer, w, 0, &o); /* as zeroes */
		IS(o.it_value.tv_sec >= 99);
		SC(getitimer, w, &o);
		IS(!o.it_value.tv_sec && !o.it_value.tv_usec);
	}
	SC(setitimer, 3, &v, 0);
	SC(setitimer, -1, &v, 0);
	SC(setitimer, 3, 8L, 0);
	SC(getitimer, 3, &o);
	SC(getitimer, -1, 8L);
}
CASE(alarms, alarm)
{
	R(alarm(100));
	R(alarm(50));
	struct itimerval o;
	getitimer(ITIMER_REAL, &o);
	IS(o.it_value.tv_sec == 49);
	R(alarm(0));
	R(alarm(0));
	R(alarm(-1));
	int c = FORK(R(alarm(0)));
	reap("child", c);
	alarm(0);
}
CASE(fd_errors, timerfd_create, timerfd_settime, timerfd_gettime)
{
	struct itimerspec s = { 0 }, bad = { .it_value = { 0, 1000000000 } };
	int p[2], t;
	EACH { int r = C(timerfd_create, ids[k], 0); if (r >= 0) close(r); }
	pipe(p);
	SC(timerfd_create, 1, 1);
	SC(timerfd_create, 1, ~(TFD_NONBLOCK | TFD_CLOEXEC));
	MUST(t = syscall(SYS_timerfd_create, 1, TFD_NONBLOCK | TFD_CLOEXEC));
	R(fcntl(t, F_GETFD));
	R(fcntl(t, F_GETFL));
	SC(timerfd_settime, t, 4, &s, 0);
	SC(timerfd_settime, t, 0, &bad, 0);
	SC(timerfd_settime, t, 0, 8L, 0);
	SC(timerfd_settime, t, 4, 8L, 0);
	SC(timerfd_settime, t, 0, &s, 8L);
	SC(timerfd_settime, 999, 0, &s, 0);
	SC(timerfd_settime, 999, 4, &s, 0);
	SC(timerfd_settime, p[0], 0, &s, 0);
	SC(timerfd_settime, t, TFD_TIMER_CANCEL_ON_SET, &s, 0);
	SC(timerfd_settime, 999, TFD_TIMER_ABSTIME, &s, 0);
	SC(timerfd_settime, 999, TFD_TIMER_CANCEL_ON_SET, &s, 0);
	SC(timerfd_gettime, t, &s);
	SC(timerfd_gettime, t, 8L);
	SC(timerfd_gettime, 999, &s);
	SC(timerfd_gettime, p[0], &s);
	char b[16];
	R(read(t, b, 7));
	R(read(t, b, 8));
	R(write(t, b, 8));
	R(lseek(t, 0, SEEK_SET));
	R(pread(t, b, 8, 0));
	SC(timerfd_create, 1, TFD_NONBLOCK | 1);
	SC(timerfd_create, 99, TFD_CLOEXEC);
	int c = FORK(setuid(1000); SC(timerfd_create, 8, 0); SC(timerfd_create, 9, 0));
	reap("unprivileged", c);
}
CASE(fd_expires, timerfd_create, timerfd_settime)
{
	int list[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME };
	uint64_t n;
	for (int k = 0; k < 3; k++) {
		struct itimerspec s = { { 0 }, { 0, 5000000 } }, o;
		int t = timerfd_create(list[k], 0);
		SC(timerfd_settime, t, 0, &s, 0);
		R(read(t, &n, 8));
		R(n);
		s.it_value = in(list[k], 5);
		SC(timerfd_settime, t, TFD_TIMER_ABSTIME, &s, 0);
		R(read(t, &n, 8));
		s = (struct itimerspec){ { 10, 0 }, { 0, 1 } };
		SC(timerfd_settime, t, 0, &s, 0);
		R(read(t, &n, 8));
		R(n);
		SC(timerfd_gettime, t, &o);
		IS(o.it_interval.tv_sec == 10 && o.it_value.tv_sec == 9);
		s.it_value = (ts){ 0 };
		SC(timerfd_settime, t, 0, &s, &o);
		IS(o.it_value.tv_sec == 9);
		SC(timerfd_gettime, t, &o);
		IS(!o.it_value.tv_sec && !o.it_value.tv_nsec);
		close(t);
	}
}
CASE(fd_cancel, timerfd_settime, clock_settime)
{
	struct itimerspec s = { .it_value = in(CLOCK_REALTIME, 5000000) };
	uint64_t n;
	ts w;
	int t = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
	SC(timerfd_settime, t, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &s, 0);
	R(read(t, &n, 8));
	clock_gettime(CLOCK_REALTIME, &w);
	MUST(clock_settime(CLOCK_REALTIME, &w));
	struct pollfd f = { t, POLLIN };
	R(poll(&f, 1, 0));
	R(read(t, &n, 8));
	R(read(t, &n, 8));
	SC(timerfd_settime, t, TFD_TIMER_ABSTIME, &s, 0);
	MUST(clock_settime(CLOCK_REALTIME, &w));
	R(read(t, &n, 8));
}
/* What waits for a time of the wall clock moves when it is set. */
static ts until;
static void sleeps_until(int c)
{
	while (syscall(SYS_clock_nanosleep, c, TIMER_ABSTIME, &until, 0))
		;
}
static void waits_nanosleep(void) { sleeps_until(CLOCK_REALTIME); }
static void waits_tai(void) { sleeps_until(CLOCK_TAI); }
static void waits_futex(void)
{
	int word = 0;
	while (syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &until, 0, FUTEX_BITSET_MATCH_ANY) == 0 || errno != ETIMEDOUT)
		;
}
static void waits_pi(void)
{
	int word = 0;
	pid_t c = FORK(syscall(SYS_futex, &word, FUTEX_LOCK_PI, 0, 0); pause());
	word = c;
	syscall(SYS_futex, &word, FUTEX_LOCK_PI, 0, &until);
	kill(c, SIGKILL);
}
static void waits_queue(void)
{
	struct mq_attr a = { .mq_maxmsg = 1, .mq_msgsize = 8 };
	char b[8];
	mqd_t q = mq_open("/moves", O_CREAT | O_RDWR, 0600, &a);
	mq_timedreceive(q, b, 8, 0, &until);
}
static void waits_timer(void)
{
	struct itimerspec s = { .it_value = until };
	timer_t t;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	sigprocmask(SIG_BLOCK, &set, 0);
	timer_create(CLOCK_REALTIME, 0, &t);
	timer_settime(t, TIMER_ABSTIME, &s, 0);
	sigwaitinfo(&set, 0);
}
static void waits_fd(void)
{
	struct itimerspec s = { .it_value = until };
	uint64_t n;
	int t = timerfd_create(CLOCK_REALTIME, 0);
	timerfd_settime(t, TFD_TIMER_ABSTIME, &s, 0);
	if (read(t, &n, 8) != 8)
		_exit(1);
}
static void waits_relative(void)
{
	struct itimerspec s = { .it_value.tv_sec = 600 };
	timer_t t;
	timer_create(CLOCK_REALTIME, 0, &t);
	timer_settime(t, 0, &s, 0);
	syscall(SYS_clock_nanosleep, CLOCK_REALTIME, 0, &(ts){ 600 }, 0);
}
static void waits_monotonic(void)
{
	until = in(CLOCK_MONOTONIC, 600000);
	sleeps_until(CLOCK_MONOTONIC);
}
static struct { const char *name; void (*f)(void); } waits[] = {
	{ "clock_nanosleep", waits_nanosleep }, { "CLOCK_TAI", waits_tai }, { "futex", waits_futex }, { "PI lock", waits_pi }, { "queue", waits_queue }, { "timer", waits_timer },
	{ "timerfd", waits_fd }, { "relative", waits_relative }, { "monotonic", waits_monotonic },
};
#define WAITS (int)(sizeof waits / sizeof *waits)
static void jump(int sec)
{
	ts w;
	clock_gettime(CLOCK_REALTIME, &w);
	w.tv_sec += sec;
	MUST(clock_settime(CLOCK_REALTIME, &w));
}
/* ended gives a process up to some milliseconds. */
static int ended(pid_t p, int ms)
{
	for (; ms > 0; ms -= 10) {
		if (waitpid(p, 0, WNOHANG) == p)
			return 1;
		usleep(10000);
	}
	return 0;
}
static void moves(int msec, int by)
{
	pid_t p[WAITS];
	until = in(CLOCK_REALTIME, msec);
	for (int i = 0; i < WAITS; i++)
		p[i] = FORK(prctl(PR_SET_PDEATHSIG, SIGKILL); waits[i].f());
	usleep(300000);
	jump(by);
	for (int i = 0; i < WAITS; i++) {
		int over = ended(p[i], by > 0 && i < WAITS - 2 ? 5000 : i ? 10 : msec + 300);
		say("%s, clock set by %d: %s", waits[i].name, by, over ? "over" : "waits");
		if (over)
			p[i] = 0;
	}
	jump(-by);
	for (int i = 0; i < WAITS; i++)
		if (p[i]) {
			if (by < 0 && i < WAITS - 2)
				say("%s, set back: %s", waits[i].name, ended(p[i], 5000) ? "over" : "waits");
			kill(p[i], SIGKILL);
			waitpid(p[i], 0, 0);
		}
	mq_unlink("/moves");
}
CASE(set_moves, clock_settime)
{
	moves(600000, 3600);
	moves(2500, -3600);
}
CASE(adjust, adjtimex, clock_adjtime)
{
	struct timex x = { 0 };
	IS(syscall(SYS_adjtimex, &x) >= 0);
	say("tick %ld", x.tick);
	IS(x.time.tv_sec > 1000000);
	SC(adjtimex, 8L);
	x.modes = 0;
	IS(syscall(SYS_clock_adjtime, 0, &x) >= 0);
	EACH { if (ids[k] != 0) { x.modes = 0; C(clock_adjtime, ids[k], &x); } }
	SC(clock_adjtime, 0, 8L);
	int modes[] = { ADJ_OFFSET, ADJ_FREQUENCY, ADJ_MAXERROR, ADJ_ESTERROR, ADJ_STATUS, ADJ_TIMECONST, ADJ_TAI, ADJ_SETOFFSET, ADJ_MICRO, ADJ_NANO, ADJ_TICK, ADJ_OFFSET_SINGLESHOT };
	int c = FORK(setuid(1000); for (int i = 0; i < 12; i++) { x = (struct timex){ .modes = modes[i], .tick = 10000 }; SC(adjtimex, &x); }
		x.modes = ADJ_OFFSET_SS_READ; IS(syscall(SYS_adjtimex, &x) >= 0));
	reap("unprivileged", c);
}
CASE(times_of, times)
{
	struct tms t;
	IS(syscall(SYS_times, &t) > 0);
	IS(syscall(SYS_times, 0) > 0);
	SC(times, 8L);
}
CASE(cpu_clocks, clock_gettime)
{
	clockid_t c;
	ts t;
	int p = FORK(pause());
	R(clock_getcpuclockid(0, &c));
	R(clock_gettime(c, &t));
	R(clock_getcpuclockid(p, &c));
	R(clock_gettime(c, &t));
	IS(t.tv_sec == 0);
	R(clock_getres(c, &t));
	kill(p, SIGKILL), waitpid(p, 0, 0);
	R(clock_gettime(c, &t));
	R(clock_getcpuclockid(99999, &c) != 0);
	R(pthread_getcpuclockid(pthread_self(), &c));
	R(clock_gettime(c, &t));
	SC(clock_gettime, (~getpid() << 3) | 6, &t);
	SC(clock_gettime, (~getpid() << 3) | 2, &t);
	SC(clock_gettime, (~getpid() << 3) | 0, &t);
	SC(clock_gettime, (~getpid() << 3) | 1, &t);
	SC(clock_gettime, (~getpid() << 3) | 3, &t);
	SC(clock_gettime, (~getpid() << 3) | 7, &t);
	p = FORK(pause());
	SC(clock_gettime, (~p << 3) | 6, &t);
	kill(p, SIGKILL);
}
CASES
