// Time does not run back between CPUs: a thread bound to each takes a spin lock, reads a
// clock, by the vDSO and by the system call, and compares with what the last one read.
// Arguments: CPUs, milliseconds.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static atomic_flag lock = ATOMIC_FLAG_INIT;
static long last[2], back, reads, limit;
static const int clocks[2] = {CLOCK_MONOTONIC, CLOCK_REALTIME};

static long now(int clock, int call)
{
	struct timespec t;
	if (call)
		syscall(SYS_clock_gettime, clock, &t);
	else
		clock_gettime(clock, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void *reader(void *arg)
{
	cpu_set_t s;
	CPU_ZERO(&s);
	CPU_SET((long)arg, &s);
	if (sched_setaffinity(0, sizeof s, &s))
		exit(3);
	for (int i = 0; now(CLOCK_MONOTONIC, 0) < limit; i++) {
		while (atomic_flag_test_and_set_explicit(&lock, memory_order_acquire))
			if (i & 1)
				sched_yield();
		long t = now(clocks[i & 1], i & 2);
		if (t < last[i & 1])
			back++;
		last[i & 1] = t;
		reads++;
		atomic_flag_clear_explicit(&lock, memory_order_release);
	}
	return 0;
}

int main(int argc, char **argv)
{
	int cpus = argc > 1 ? atoi(argv[1]) : 2;
	limit = now(CLOCK_MONOTONIC, 1) + (argc > 2 ? atol(argv[2]) : 500) * 1000000;
	pthread_t t[64];
	for (long i = 0; i < cpus; i++)
		pthread_create(&t[i], 0, reader, (void *)i);
	for (int i = 0; i < cpus; i++)
		pthread_join(t[i], 0);
	printf("%s, back %ld\n", reads > 100 ? "read" : "NOT READ", back);
	return back != 0;
}
