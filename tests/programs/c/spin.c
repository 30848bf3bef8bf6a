/* Spins without a system call: for an argument, that many seconds, by the vDSO. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
int main(int argc, char **argv)
{
	struct timespec a, b;
	volatile unsigned long n = 0;
	printf("spinning\n");
	fflush(stdout);
	clock_gettime(CLOCK_MONOTONIC, &a);
	do {
		for (int i = 0; i < 100000; i++)
			n++;
		clock_gettime(CLOCK_MONOTONIC, &b);
	} while (argc < 2 || b.tv_sec - a.tv_sec < atoi(argv[1]));
	printf("spun\n");
	return 0;
}
