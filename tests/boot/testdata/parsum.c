// The sum of f(i) for i < COUNT over as many threads as the first argument says, each
// taking every n-th, and a counter that all raise under one mutex. Prints both; they must
// be right whatever the CPUs. The second argument scales COUNT.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint64_t count = 20000000;
static int threads;
static uint64_t part[64][8];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t counter;

static uint64_t f(uint64_t i) { return (i * 2654435761u) >> 7 & 0xffff; }

static void *sum(void *arg)
{
	uint64_t id = (uintptr_t)arg, s = 0;
	for (uint64_t i = id; i < count; i += threads)
		s += f(i);
	part[id][0] = s;
	return 0;
}

static void *contend(void *arg)
{
	(void)arg;
	for (int i = 0; i < 200000 / threads; i++) {
		pthread_mutex_lock(&lock);
		counter++;
		pthread_mutex_unlock(&lock);
	}
	return 0;
}

/* One is the caller, who would else be woken where another one runs. */
static void all(void *(*f)(void *))
{
	pthread_t t[64];
	for (int i = 1; i < threads; i++)
		if (pthread_create(&t[i], 0, f, (void *)(uintptr_t)i))
			exit(3);
	f(0);
	for (int i = 1; i < threads; i++)
		pthread_join(t[i], 0);
}

int main(int argc, char **argv)
{
	threads = argc > 1 ? atoi(argv[1]) : 2;
	if (argc > 2)
		count *= atoi(argv[2]);
	if (threads < 1 || threads > 64)
		return 2;
	struct timespec a, b;
	clock_gettime(CLOCK_MONOTONIC, &a);
	all(sum);
	clock_gettime(CLOCK_MONOTONIC, &b);
	uint64_t s = 0, want = 0;
	for (int i = 0; i < threads; i++)
		s += part[i][0];
	if (argc <= 3) { // a third argument spares the check
		for (uint64_t i = 0; i < count; i++)
			want += f(i);
		all(contend);
		printf("sum %s\n", s == want ? "right" : "WRONG");
		printf("counter %s\n", counter == (uint64_t)(200000 / threads * threads) ? "right" : "WRONG");
	}
	printf("took %ld us, sum %lu\n", (b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000, s);
	return 0;
}
