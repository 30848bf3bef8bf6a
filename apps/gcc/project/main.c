#include <pthread.h>
#include <stdio.h>

#include "project.h"

enum { LIMIT = 1000000, ROOM = 80000 };

static unsigned primes[ROOM];

static void *count(void *result)
{
	*(size_t *)result = sieve(LIMIT, primes, ROOM);
	return NULL;
}

int main(void)
{
	pthread_t thread;
	size_t n = 0;
	char a[32], b[32];

	if (pthread_create(&thread, NULL, count, &n) || pthread_join(thread, NULL)) {
		perror("pthread");
		return 1;
	}
	printf("%s primes below %s\n", grouped(n, a, sizeof a), grouped(LIMIT, b, sizeof b));
	printf("the last is %u, the standard deviation %.3f\n", primes[n - 1], deviation(primes, n));
	return 0;
}
