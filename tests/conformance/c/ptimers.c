/* ptimers: how repeating timers wait for their signals: a timer stands still while its signal
 * is queued, what is not sent is counted as overrun, and no period, however short, stops the
 * program (timer_create(2), setitimer(2)). */
#include "../../programs/c/check.h"
#include <limits.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>

static timer_t make(int notify, int sig, int value)
{
	struct sigevent e = {.sigev_notify = notify, .sigev_signo = sig, .sigev_value = {value}};
	timer_t t = 0;
	if (timer_create(CLOCK_MONOTONIC, &e, &t))
		say("timer_create: %s", errname(errno));
	return t;
}

static void set(timer_t t, long value, long interval)
{
	struct itimerspec v = {{interval / 1000000000, interval % 1000000000}, {value / 1000000000, value % 1000000000}};
	if (timer_settime(t, 0, &v, 0))
		say("timer_settime: %s", errname(errno));
}

static sigset_t block(int sig)
{
	sigset_t s;
	sigemptyset(&s);
	sigaddset(&s, sig);
	sigprocmask(SIG_BLOCK, &s, 0);
	return s;
}

/* work goes on for some system calls and says that it came to its end. */
static void work(void)
{
	for (int i = 0; i < 2000; i++)
		getppid();
	say("the program goes on");
}

static volatile int count;
static void on(int s) { (void)s; count++; }

CASE(storm_ignored, timer_create)
{
	for (int i = 0; i < 100; i++)
		set(make(SIGEV_SIGNAL, SIGURG, i), 1, 1);
	usleep(20000);
	work();
}

CASE(storm_handled, timer_create)
{
	signal(SIGUSR1, on);
	timer_t t[20];
	for (int i = 0; i < 20; i++)
		set(t[i] = make(SIGEV_SIGNAL, SIGUSR1, i), 1, 1000000);
	usleep(20000);
	for (int i = 0; i < 20; i++)
		MUST(timer_delete(t[i]));
	work();
	IS(count > 0);
}

CASE(storm_none, timer_create, timer_gettime)
{
	struct itimerspec v;
	timer_t t = 0;
	for (int i = 0; i < 100; i++)
		set(t = make(SIGEV_NONE, 0, i), 1, 1000);
	usleep(1000);
	work();
	R(timer_gettime(t, &v));
	IS(v.it_value.tv_sec == 0 && v.it_value.tv_nsec >= 0 && v.it_value.tv_nsec <= 1000);
	IS(v.it_interval.tv_nsec == 1000);
}

CASE(storm_real, setitimer, getitimer)
{
	struct itimerval v = {{0, 1}, {0, 1}};
	signal(SIGALRM, on);
	sigset_t s = block(SIGALRM);
	setitimer(ITIMER_REAL, &v, 0);
	usleep(5000);
	work();
	sigset_t pend;
	sigpending(&pend);
	IS(sigismember(&pend, SIGALRM));
	R(getitimer(ITIMER_REAL, &v));
	IS(v.it_value.tv_sec == 0 && v.it_value.tv_usec == 0);
	IS(v.it_interval.tv_usec == 1);
	R(sigtimedwait(&s, 0, &(struct timespec){1, 0}));
	R(sigtimedwait(&s, 0, &(struct timespec){1, 0})); /* it runs on */
}

CASE(real_ignored, setitimer)
{
	struct itimerval v = {{0, 1000}, {0, 1000}};
	signal(SIGALRM, SIG_IGN);
	R(setitimer(ITIMER_REAL, &v, 0));
	usleep(10000);
	R(getitimer(ITIMER_REAL, &v));
	say("left %ld.%06ld interval %ld.%06ld", (long)v.it_value.tv_sec, (long)v.it_value.tv_usec, (long)v.it_interval.tv_sec, (long)v.it_interval.tv_usec);
}

CASE(one_signal_of_each, timer_create, timer_settime)
{
	/* A classic signal is queued once for each timer. */
	sigset_t s = block(SIGUSR1);
	siginfo_t si;
	set(make(SIGEV_SIGNAL, SIGUSR1, 41), 1000000, 0);
	set(make(SIGEV_SIGNAL, SIGUSR1, 42), 2000000, 0);
	usleep(30000);
	for (int i = 0; i < 3; i++) {
		R(sigtimedwait(&s, &si, &(struct timespec){0, 1000}));
		if (i < 2)
			say("  code %d id %d value %d overrun %d", si.si_code, si.si_timerid, si.si_value.sival_int, si.si_overrun);
	}
}

CASE(overrun, timer_getoverrun, timer_gettime)
{
	sigset_t s = block(SIGRTMIN);
	siginfo_t si;
	struct itimerspec v;
	timer_t t = make(SIGEV_SIGNAL, SIGRTMIN, 7);
	set(t, 1000000, 1000000);
	usleep(30000);
	R(timer_getoverrun(t));
	R(timer_gettime(t, &v));
	IS(v.it_value.tv_nsec > 0 && v.it_value.tv_nsec <= 1000000);
	R(sigtimedwait(&s, &si, &(struct timespec){0, 1000}) == SIGRTMIN);
	IS(si.si_overrun >= 28);
	IS(si.si_overrun == timer_getoverrun(t));
	IS(si.si_value.sival_int == 7 && si.si_code == SI_TIMER);
	set(t, 0, 1000000);
	R(timer_getoverrun(t));
	R(timer_gettime(t, &v));
	IS(v.it_value.tv_nsec == 0 && v.it_interval.tv_nsec == 0);
}

CASE(ignored_then_handled, timer_settime)
{
	struct itimerspec v;
	timer_t t = make(SIGEV_SIGNAL, SIGURG, 1); /* ignored by default: it goes on unseen */
	set(t, 1000000, 1000000);
	usleep(20000);
	IS(timer_gettime(t, &v) == 0 && v.it_value.tv_nsec > 0);
	signal(SIGURG, on);
	for (int i = 0; i < 100 && count < 3; i++)
		usleep(10000);
	IS(count >= 3);
}

CASE(flushed_by_ignoring, timer_settime)
{
	sigset_t s = block(SIGUSR1);
	struct itimerspec v;
	timer_t t = make(SIGEV_SIGNAL, SIGUSR1, 1);
	set(t, 1000000, 0);
	usleep(20000);
	sigpending(&s);
	IS(sigismember(&s, SIGUSR1));
	signal(SIGUSR1, SIG_IGN);
	sigpending(&s);
	IS(sigismember(&s, SIGUSR1));
	signal(SIGUSR1, on);
	s = block(SIGUSR1);
	set(t, 1000000, 0); /* and it can be set anew */
	R(sigtimedwait(&s, 0, &(struct timespec){1, 0}));
	R(timer_gettime(t, &v));
	say("left %ld", (long)v.it_value.tv_nsec);
}

CASE(deleted_while_queued, timer_delete)
{
	sigset_t s = block(SIGUSR1);
	timer_t t = make(SIGEV_SIGNAL, SIGUSR1, 1);
	set(t, 1000000, 1000000);
	usleep(20000);
	R(timer_delete(t));
	R(sigtimedwait(&s, 0, &(struct timespec){0, 1000}));
	R(timer_delete(t));
}

CASE(set_while_queued, timer_settime, timer_getoverrun)
{
	sigset_t s = block(SIGUSR1);
	siginfo_t si;
	timer_t t = make(SIGEV_SIGNAL, SIGUSR1, 1);
	set(t, 1000000, 0);
	usleep(20000);
	set(t, 1000000, 0); /* fires while the first signal is there */
	usleep(20000);
	for (int i = 0; i < 2; i++) {
		R(sigtimedwait(&s, &si, &(struct timespec){0, 1000}));
		if (!i)
			say("overrun %d, %d", si.si_overrun, timer_getoverrun(t));
	}
	set(t, 1000000, 0);
	usleep(20000);
	set(t, 0, 0); /* disarmed: the signal stays */
	R(sigtimedwait(&s, &si, &(struct timespec){0, 1000}));
}

/* far shows what is left of a timer that was set to all time. */
static void far(long sec) { IS(sec > 1L << 32); }

CASE(no_end_of_cpu_time, setitimer, getitimer, timer_settime, timer_gettime)
{
	struct itimerval v, all = {{LONG_MAX, 999999}, {LONG_MAX, 999999}};
	for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++) {
		R(setitimer(which, &all, 0));
		R(getitimer(which, &v));
		if (which == ITIMER_REAL) /* Linux adds without looking for the others: what is left wraps */
			far(v.it_value.tv_sec);
	}
	clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};
	for (int i = 0; i < 4; i++) {
		timer_t t;
		struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
		struct itimerspec s = {{LONG_MAX, 999999999}, {LONG_MAX, 999999999}};
		R(timer_create(clocks[i], &e, &t));
		R(timer_settime(t, 0, &s, 0));
		R(timer_gettime(t, &s));
		far(s.it_value.tv_sec);
	}
	work();
	usleep(20000);
	work();
}

CASE(interval_without_end, timer_create, timer_settime)
{
	struct itimerspec s = {{LONG_MAX, 0}, {0, 1}};
	signal(SIGUSR1, SIG_IGN);
	R(timer_settime(make(SIGEV_SIGNAL, SIGUSR1, 1), 0, &s, 0));
	timer_t t = make(SIGEV_NONE, 0, 1);
	R(timer_settime(t, 0, &s, 0));
	signal(SIGPROF, SIG_IGN);
	setitimer(ITIMER_PROF, &(struct itimerval){{LONG_MAX, 0}, {0, 1}}, 0);
	usleep(20000);
	work();
	R(timer_gettime(t, &s));
	far(s.it_value.tv_sec);
}

CASE(descriptor_without_end, timerfd_settime, timerfd_gettime, read)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	struct itimerspec s = {{LONG_MAX, 0}, {0, 1}};
	unsigned long n = 0;
	R(timerfd_settime(fd, 0, &s, 0));
	usleep(20000);
	R(read(fd, &n, sizeof n));
	IS(n == 1);
	R(read(fd, &n, sizeof n));
	R(timerfd_gettime(fd, &s));
	far(s.it_value.tv_sec);
}

/* The signal of a timer that is gone counts for RLIMIT_SIGPENDING until it is taken. */
CASE(orphans_count, timer_create, timer_delete)
{
	timer_t t;
	struct sigevent e = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
	sigset_t s = block(SIGRTMIN);
	int n = 0;
	setrlimit(RLIMIT_SIGPENDING, &(struct rlimit){ 5, 5 });
	setresuid(4321, 4321, 4321);
	for (; n < 20 && !timer_create(CLOCK_MONOTONIC, &e, &t); n++) {
		set(t, 1, 0);
		usleep(2000);
		MUST(timer_delete(t));
	}
	say("%d timers, then %s", n, errname(errno));
	for (n = 0; sigtimedwait(&s, 0, &(struct timespec){0, 1000}) > 0; n++)
		;
	say("%d signals", n);
	R(timer_create(CLOCK_MONOTONIC, &e, &t));
}

CASES
