/* debuggee: what strace and gdb are let loose on: calls a few functions deep, a thread, a child; "crash" ends badly. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int *nowhere;
int counter;

__attribute__((noinline)) int inner(int value)
{
	counter += value;
	return counter * 2;
}

__attribute__((noinline)) int outer(int value, int crash)
{
	int r = inner(value + 1);
	if (crash)
		*nowhere = r;
	return r + 1;
}

static void *thread(void *a)
{
	return (void *)(long)outer((int)(long)a, 0);
}

int main(int argc, char **argv)
{
	pthread_t t;
	void *r;
	int crash = argc > 1 && !strcmp(argv[1], "crash");
	if (argc > 1 && !strcmp(argv[1], "fork") && fork() == 0) {
		close(777);
		_exit(7);
	}
	pthread_create(&t, 0, thread, (void *)10L);
	pthread_join(t, &r);
	int sum = outer(20, crash);
	printf("the thread %ld, main %d\n", (long)r, sum);
	if (argc > 1)
		wait(0);
	return 3;
}
