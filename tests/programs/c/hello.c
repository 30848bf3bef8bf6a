/* Says hello with its arguments: the program for every way of linking. */
#include <stdio.h>
#ifdef THREADS
#include <pthread.h>
static __thread int tls = 7;
static void *run(void *p) { tls += *(int *)p; *(int *)p = tls; return p; }
#endif
int main(int argc, char **argv)
{
	printf("hello");
	for (int i = 1; i < argc; i++)
		printf(" %s", argv[i]);
	printf("\n");
#ifdef THREADS
	pthread_t t[4];
	int v[4];
	for (int i = 0; i < 4; i++) {
		v[i] = i;
		if (pthread_create(&t[i], 0, run, &v[i]))
			return 1;
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], 0);
		printf("thread %d: %d\n", i, v[i]);
	}
#endif
	return 0;
}
