/* sched: policies, priorities, nice values and affinity masks as they are set, read back,
 * inherited and refused (sched(7), setpriority(2)). Run as root on any number of CPUs. */
#include "../../programs/c/check.h"
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#define SC(n, ...) R(syscall(SYS_##n, ##__VA_ARGS__))
#define BAD ((void *)8)

struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t util_min, util_max;
};

static int prio(int p) { return p; }
static struct sched_param *param(int p) { static struct sched_param s; s.sched_priority = prio(p); return &s; }

/* now says how the thread is scheduled. */
static void now(const char *what)
{
	struct sched_param p = {-1};
	int policy = syscall(SYS_sched_getscheduler, 0);
	syscall(SYS_sched_getparam, 0, &p);
	errno = 0;
	say("%s: policy %#x, priority %d, nice %d", what, policy, p.sched_priority, getpriority(PRIO_PROCESS, 0));
}

/* child runs f in a child and waits. */
static void child(void (*f)(void))
{
	int st;
	pid_t p = fork();
	if (p == 0) {
		f();
		_exit(0);
	}
	waitpid(p, &st, 0);
	if (st)
		say("child: status %#x", st);
}

static void user(void)
{
	MUST(setgid(1000));
	MUST(setuid(1000));
}

static void limit(int what, rlim_t v)
{
	struct rlimit r = {v, v};
	MUST(setrlimit(what, &r));
}

CASE(policies, sched_setscheduler, sched_getscheduler, sched_setparam, sched_getparam)
{
	static const int all[] = {SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, 4, SCHED_IDLE, 6, 7, 99};
	static const int prios[] = {-1, 0, 1, 50, 99, 100};
	for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
		for (unsigned j = 0; j < sizeof prios / sizeof *prios; j++) {
			long r = syscall(SYS_sched_setscheduler, 0, all[i], param(prios[j]));
			say("policy %d, priority %d: %s", all[i], prios[j], r ? errname(errno) : "ok");
			if (r == 0)
				now("is");
		}
	SC(sched_setscheduler, 0, SCHED_RR, param(20));
	for (unsigned j = 0; j < sizeof prios / sizeof *prios; j++) {
		SC(sched_setparam, 0, param(prios[j]));
		now("is");
	}
	SC(sched_setscheduler, 0, SCHED_OTHER, param(0));
	SC(sched_setparam, 0, param(0));
	SC(sched_setparam, 0, param(1));
	SC(setpriority, PRIO_PROCESS, 0, 7);
	SC(sched_setscheduler, 0, SCHED_FIFO, param(3));
	now("nice 7, then FIFO");
	SC(setpriority, PRIO_PROCESS, 0, 3);
	now("nice 3 under FIFO");
	SC(sched_setscheduler, 0, SCHED_BATCH, param(0));
	now("and BATCH");
}

CASE(errors, sched_setscheduler, sched_getscheduler, sched_setparam, sched_getparam, sched_rr_get_interval)
{
	char buf[64];
	SC(sched_setscheduler, 0, -1, BAD); SC(sched_setscheduler, 0, 99, 0); SC(sched_setscheduler, -1, 99, BAD); SC(sched_setscheduler, 1 << 30, 99, BAD);
	SC(sched_setscheduler, 1 << 30, 99, param(0)); SC(sched_setscheduler, 0, 0x40000000 | 99, param(0)); SC(sched_setscheduler, 0, 0x80000000, param(0));
	SC(sched_setparam, -1, 0); SC(sched_setparam, -1, BAD); SC(sched_setparam, 0, 0); SC(sched_setparam, 1 << 30, BAD); SC(sched_setparam, 1 << 30, param(100));
	SC(sched_getscheduler, -1); SC(sched_getscheduler, 1 << 30);
	SC(sched_getparam, -1, buf); SC(sched_getparam, 1 << 30, 0); SC(sched_getparam, 1 << 30, BAD); SC(sched_getparam, 0, BAD);
	SC(sched_rr_get_interval, -1, BAD); SC(sched_rr_get_interval, 1 << 30, BAD); SC(sched_rr_get_interval, 0, BAD); SC(sched_rr_get_interval, 0, 0);
}

CASE(ranges, sched_get_priority_max, sched_get_priority_min)
{
	for (int p = -1; p < 8; p++)
		say("%d: %ld %s", p, syscall(SYS_sched_get_priority_max, p), p == 4 || p < 0 || p > 6 ? errname(errno) : "");
	for (int p = -1; p < 8; p++)
		say("%d: %ld", p, syscall(SYS_sched_get_priority_min, p));
	SC(sched_get_priority_max, SCHED_RR | 0x40000000);
	SC(sched_get_priority_min, 99);
}

CASE(interval, sched_rr_get_interval)
{
	struct timespec t;
	static const int all[] = {SCHED_FIFO, SCHED_RR};
	for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
		SC(sched_setscheduler, 0, all[i], param(5));
		memset(&t, -1, sizeof t);
		SC(sched_rr_get_interval, 0, &t);
		say("%d: %ld.%09ld", all[i], t.tv_sec, t.tv_nsec);
	}
	SC(sched_setscheduler, 0, SCHED_OTHER, param(0));
	SC(sched_rr_get_interval, getpid(), &t);
	IS(t.tv_sec == 0 && t.tv_nsec > 0 && t.tv_nsec <= 100000000);
}

static void inherited(void) { now("child"); }

CASE(reset_on_fork, sched_setscheduler, sched_getscheduler)
{
	SC(sched_setscheduler, 0, SCHED_FIFO, param(9));
	child(inherited);
	SC(sched_setscheduler, 0, SCHED_RR | 0x40000000, param(9));
	now("parent");
	child(inherited);
	SC(sched_setparam, 0, param(8));
	now("parent keeps the flag");
	SC(setpriority, PRIO_PROCESS, 0, -5);
	SC(sched_setscheduler, 0, SCHED_OTHER | 0x40000000, param(0));
	now("parent");
	child(inherited);
	SC(setpriority, PRIO_PROCESS, 0, 5);
	child(inherited);
	SC(sched_setscheduler, 0, SCHED_IDLE | 0x40000000, param(0));
	child(inherited);
	SC(sched_setscheduler, 0, SCHED_BATCH, param(0));
	now("parent");
	child(inherited);
}

static void show(void)
{
	struct attr a;
	memset(&a, -1, sizeof a);
	if (syscall(SYS_sched_getattr, 0, &a, sizeof a, 0)) {
		say("sched_getattr: %s", errname(errno));
		return;
	}
	say("  size %u policy %u flags %#lx nice %d priority %u runtime %lu deadline %lu period %lu", a.size, a.policy, (long)a.flags, a.nice, a.priority,
	    (long)a.runtime, (long)a.deadline, (long)a.period);
}

#define SET(...) do { struct attr a_ = {__VA_ARGS__}; long r_ = syscall(SYS_sched_setattr, 0, &a_, 0); \
	say("%s: %s", #__VA_ARGS__, r_ ? errname(errno) : "ok"); show(); } while (0)

CASE(attr, sched_setattr, sched_getattr)
{
	show();
	SET(.size = 56, .nice = 5);
	SET(.size = 48, .nice = 50);
	SET(.size = 0, .nice = -50);
	SET(.size = 48, .policy = SCHED_BATCH, .nice = 2, .flags = 1);
	SET(.size = 48, .policy = SCHED_FIFO, .priority = 10, .nice = 9);
	SET(.size = 48, .policy = SCHED_RR, .priority = 0);
	SET(.size = 48, .policy = SCHED_RR, .priority = 100);
	SET(.size = 48, .policy = SCHED_RR, .priority = 99, .flags = 1);
	SET(.size = 48, .policy = SCHED_OTHER, .priority = 1);
	SET(.size = 48, .policy = 77, .flags = 8, .priority = 7);           /* KEEP_POLICY */
	SET(.size = 48, .policy = SCHED_FIFO, .flags = 0x10, .priority = 0); /* KEEP_PARAMS */
	SET(.size = 48, .policy = SCHED_OTHER, .flags = 0x10, .nice = 4);
	SET(.size = 48, .policy = SCHED_OTHER, .nice = 4);
	SET(.size = 48, .policy = SCHED_IDLE, .nice = 1);
	SET(.size = 48, .policy = SCHED_OTHER, .flags = 0x18, .nice = 1);
	SET(.size = 48, .policy = 4);
	SET(.size = 48, .policy = 7);
	SET(.size = 48, .policy = 0x80000000);
	SET(.size = 48, .flags = 0x80);
	SET(.size = 48, .policy = 6);
	SET(.size = 48, .policy = 6, .runtime = 2000000, .deadline = 1000000);
	SET(.size = 48, .policy = 6, .runtime = 100, .deadline = 1000000);
	SET(.size = 48, .policy = 6, .runtime = 500000, .deadline = 1000000, .period = 900000);
	SET(.size = 48, .policy = 6, .priority = 3, .runtime = 500000, .deadline = 1000000, .period = 1000000);
	SET(.size = 47);
	SET(.size = 1);
	SET(.size = 5000);
}

CASE(attr_errors, sched_setattr, sched_getattr)
{
	char big[4096] = {0};
	struct attr a = {.size = 48}, *b = (void *)big;
	SC(sched_setattr, 0, 0, 0); SC(sched_setattr, 0, &a, 1); SC(sched_setattr, -1, BAD, 0); SC(sched_setattr, 1 << 30, BAD, 0); SC(sched_setattr, 1 << 30, &a, 0);
	SC(sched_getattr, 0, 0, 48, 0); SC(sched_getattr, 0, &a, 48, 1); SC(sched_getattr, -1, &a, 48, 0); SC(sched_getattr, 0, &a, 47, 0); SC(sched_getattr, 0, &a, 4097, 0);
	SC(sched_getattr, 1 << 30, BAD, 48, 0); SC(sched_getattr, 0, BAD, 48, 0); SC(sched_getattr, 0, big, 4096, 0);
	say("size %u", b->size);
	memset(big, 0, sizeof big);
	b->size = 4096;
	SC(sched_setattr, 0, b, 0);
	big[100] = 1;
	SC(sched_setattr, 0, b, 0);
	say("size %u", b->size);
	b->size = 40;
	SC(sched_setattr, 0, b, 0);
	say("size %u", b->size);
	a.policy = -1;
	SC(sched_setattr, 1 << 30, &a, 0);
	char *page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(page + 4096, 4096);
	b = (void *)(page + 4096 - 48);
	b->size = 48;
	SC(sched_setattr, 0, b, 0);
	b->size = 56;
	SC(sched_setattr, 0, b, 0);
	b->size = 4;
	SC(sched_setattr, 0, b, 0);
}

static int cpus;

static void count(void)
{
	unsigned long m[16] = {0};
	syscall(SYS_sched_getaffinity, 0, sizeof m, m);
	cpus = __builtin_popcountl(m[0]);
}

CASE(affinity, sched_setaffinity, sched_getaffinity, getcpu)
{
	unsigned long m[16] = {0}, all;
	count();
	IS(cpus == sysconf(_SC_NPROCESSORS_ONLN));
	R(syscall(SYS_sched_getaffinity, 0, 8, m));
	all = m[0];
	R(syscall(SYS_sched_getaffinity, 0, 128, m));
	SC(sched_getaffinity, 0, 0, m); SC(sched_getaffinity, 0, 12, m); SC(sched_getaffinity, 0, 12, BAD); SC(sched_getaffinity, 0, 8, BAD);
	SC(sched_getaffinity, 1 << 30, 8, BAD); SC(sched_getaffinity, -1, 8, m);
	SC(sched_setaffinity, 0, 8, BAD); SC(sched_setaffinity, 0, 0, BAD); SC(sched_setaffinity, 1 << 30, 8, BAD); SC(sched_setaffinity, 1 << 30, 8, m); SC(sched_setaffinity, 1 << 30, 0, 0);
	m[0] = 0;
	SC(sched_setaffinity, 0, 8, m);
	m[0] = 1UL << 63;
	SC(sched_setaffinity, 0, 8, m);
	m[0] = -1;
	SC(sched_setaffinity, 0, 8, m); SC(sched_setaffinity, 0, 1, m); SC(sched_setaffinity, 0, 3, m);
	SC(sched_getaffinity, 0, 8, m);
	IS(m[0] == all);
	int right = 0, seen = 0;
	for (int c = 0; c < 64; c++)
		if (all >> c & 1) {
			unsigned cpu = -1, node = -1;
			m[0] = 1UL << c;
			seen++;
			if (syscall(SYS_sched_setaffinity, 0, 8, m) || syscall(SYS_getcpu, &cpu, &node, 0) || node)
				say("CPU %d: %s", c, errname(errno));
			unsigned long is = 0;
			syscall(SYS_sched_getaffinity, getpid(), 8, &is);
			right += cpu == (unsigned)c && sched_getcpu() == c && is == m[0];
		}
	IS(right == seen);
	SC(getcpu, BAD, 0, 0); SC(getcpu, 0, BAD, 0); SC(getcpu, 0, 0, BAD);
}

static void inherits(void)
{
	unsigned long m = 0;
	syscall(SYS_sched_getaffinity, 0, 8, &m);
	say("child: %#lx", m);
}

static void *other(void *m)
{
	syscall(SYS_sched_getaffinity, 0, 8, m);
	return 0;
}

CASE(affinity_inherited, sched_setaffinity)
{
	unsigned long m = 1, got = 0;
	pthread_t t;
	SC(sched_setaffinity, 0, 8, &m);
	child(inherits);
	pthread_create(&t, 0, other, &got);
	pthread_join(t, 0);
	say("thread: %#lx", got);
}

static void strange(void)
{
	unsigned long m = 1;
	struct attr a = {.size = 48};
	user();
	SC(sched_setaffinity, 1, 8, &m); SC(sched_getaffinity, 1, 8, &m); m = 0; SC(sched_setaffinity, 1, 8, &m); m = -1; SC(sched_setaffinity, 0, 8, &m);
	SC(sched_setscheduler, 1, SCHED_OTHER, param(0)); SC(sched_setscheduler, 1, SCHED_OTHER, param(1)); SC(sched_setparam, 1, param(0));
	SC(sched_setattr, 1, &a, 0); SC(sched_getscheduler, 1); SC(setpriority, PRIO_PROCESS, 1, 19); SC(getpriority, PRIO_PROCESS, 1);
	SC(ioprio_set, 1, 1, 2 << 13); SC(ioprio_set, 1, 0, 1 << 13); SC(ioprio_set, 1, 0, 2 << 13 | 4);
}

CASE(strangers, sched_setaffinity, sched_setscheduler, sched_setparam, setpriority) { child(strange); }

static void unprivileged(void)
{
	user();
	SC(sched_setscheduler, 0, SCHED_FIFO, param(1)); SC(sched_setscheduler, 0, SCHED_RR, param(0)); SC(sched_setscheduler, 0, SCHED_BATCH, param(0));
	SC(sched_setscheduler, 0, SCHED_OTHER, param(0));
	SC(setpriority, PRIO_PROCESS, 0, 0); SC(setpriority, PRIO_PROCESS, 0, -1); SC(setpriority, PRIO_PROCESS, 0, 4); SC(setpriority, PRIO_PROCESS, 0, 4); SC(setpriority, PRIO_PROCESS, 0, 3);
	R(nice(1)); R(nice(-1)); R(nice(100));
	SC(sched_setscheduler, 0, SCHED_IDLE, param(0)); SC(sched_setscheduler, 0, SCHED_OTHER, param(0)); SC(sched_setscheduler, 0, SCHED_IDLE, param(0));
	now("in the end");
	struct attr a = {.size = 48, .policy = 6, .runtime = 500000, .deadline = 1000000};
	SC(sched_setattr, 0, &a, 0);
}

static void flagged(void)
{
	user();
	SC(sched_setscheduler, 0, SCHED_OTHER | 0x40000000, param(0));
	SC(sched_setscheduler, 0, SCHED_OTHER, param(0));
	SC(sched_setscheduler, 0, SCHED_OTHER | 0x40000000, param(0));
	SC(sched_setparam, 0, param(0));
}

static void limited(void)
{
	limit(RLIMIT_RTPRIO, 10);
	limit(RLIMIT_NICE, 22);
	user();
	SC(setpriority, PRIO_PROCESS, 0, -2); SC(setpriority, PRIO_PROCESS, 0, -3); SC(setpriority, PRIO_PROCESS, 0, 10); SC(setpriority, PRIO_PROCESS, 0, -2);
	SC(sched_setscheduler, 0, SCHED_FIFO, param(11)); SC(sched_setscheduler, 0, SCHED_FIFO, param(10)); SC(sched_setparam, 0, param(11)); SC(sched_setparam, 0, param(2));
	SC(sched_setparam, 0, param(9)); SC(sched_setscheduler, 0, SCHED_RR, param(10));
	limit(RLIMIT_RTPRIO, 0);
	SC(sched_setparam, 0, param(9)); SC(sched_setparam, 0, param(10)); SC(sched_setscheduler, 0, SCHED_RR, param(9)); SC(sched_setscheduler, 0, SCHED_FIFO, param(1));
	SC(sched_setscheduler, 0, SCHED_IDLE, param(0)); SC(sched_setscheduler, 0, SCHED_OTHER, param(0));
	now("in the end");
}

CASE(limits, setpriority, sched_setscheduler, sched_setparam)
{
	child(unprivileged);
	child(flagged);
	child(limited);
}

CASE(nice, setpriority, getpriority)
{
	SC(getpriority, 3, 0); SC(getpriority, -1, 1 << 30); SC(getpriority, PRIO_PROCESS, 1 << 30); SC(getpriority, PRIO_PGRP, 1 << 30); SC(getpriority, PRIO_USER, 1 << 30); SC(getpriority, PRIO_PROCESS, -1);
	SC(setpriority, 3, 0, 0); SC(setpriority, PRIO_PROCESS, 1 << 30, 0); SC(setpriority, PRIO_PGRP, 1 << 30, 0); SC(setpriority, PRIO_USER, 1 << 30, 0);
	static const int values[] = {-21, -20, -1, 0, 1, 19, 20, 1000, -1000};
	for (unsigned i = 0; i < sizeof values / sizeof *values; i++) {
		SC(setpriority, PRIO_PROCESS, 0, values[i]);
		SC(getpriority, PRIO_PROCESS, 0);
	}
	setpgid(0, 0);
	SC(setpriority, PRIO_PGRP, 0, 3);
	child(inherited);
	SC(getpriority, PRIO_PGRP, 0); SC(getpriority, PRIO_PGRP, getpid() - 0);
	R(nice(2)); R(nice(-1)); R(nice(0));
	now("in the end");
}

static int order[8], norder;

static void *fifo(void *a)
{
	order[norder++] = (long)a;
	return 0;
}

/* Threads of one CPU and SCHED_FIFO run in order of priority, and in the order they came. */
CASE(fifo_order, sched_setscheduler, sched_setaffinity)
{
	static const int prios[] = {10, 30, 20, 30, 5, 20};
	pthread_t t[6];
	unsigned long m = 1;
	MUST(syscall(SYS_sched_setaffinity, 0, 8, &m));
	MUST(syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, param(90)));
	for (long i = 0; i < 6; i++) {
		pthread_attr_t at;
		pthread_attr_init(&at);
		pthread_attr_setinheritsched(&at, PTHREAD_EXPLICIT_SCHED);
		pthread_attr_setschedpolicy(&at, SCHED_FIFO);
		pthread_attr_setschedparam(&at, param(prios[i]));
		int e = pthread_create(&t[i], &at, fifo, (void *)i);
		if (e)
			say("pthread_create: %s", errname(e));
	}
	say("before: %d ran", norder);
	for (int i = 0; i < 6; i++)
		pthread_join(t[i], 0);
	say("order %d %d %d %d %d %d", order[0], order[1], order[2], order[3], order[4], order[5]);
}

static volatile int turn, stop;

static void *yielder(void *a)
{
	while (!stop)
		if (turn == (long)a)
			turn = !turn;
		else
			syscall(SYS_sched_yield);
	return 0;
}

/* sched_yield lets the other of two threads of one CPU run, well within a slice. */
CASE(yield, sched_yield)
{
	pthread_t t;
	struct timespec a, b;
	unsigned long m = 1;
	MUST(syscall(SYS_sched_setaffinity, 0, 8, &m));
	SC(sched_yield);
	pthread_create(&t, 0, yielder, (void *)1);
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int i = 0; i < 200; i++) {
		while (turn != 0)
			syscall(SYS_sched_yield);
		turn = 1;
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	stop = 1;
	pthread_join(t, 0);
	IS(b.tv_sec - a.tv_sec < 20);
}

CASES
