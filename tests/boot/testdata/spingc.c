/* One thread spins without a system call; another makes many that allocate in the kernel
 * and must come to an end, which takes the kernel's garbage collector with it. */
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

static volatile unsigned long spins;
static void *spin(void *p)
{
	for (;;)
		spins++;
	return p;
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 2000;
	pthread_t t;
	struct timespec a, b;
	pthread_create(&t, NULL, spin, NULL);
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int i = 0; i < rounds; i++) {
		int p[2], s[2], f = open("/tmp/f", O_RDWR | O_CREAT, 0600), e = epoll_create1(0), v = eventfd(0, 0);
		if (f < 0 || e < 0 || v < 0 || pipe(p) || socketpair(AF_UNIX, SOCK_STREAM, 0, s)) {
			say("round %d: %s", i, errname(errno));
			return 1;
		}
		char *m = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), buf[512] = { 1 };
		m[0] = 1;
		for (int k = 0; k < 8; k++)
			if (write(s[0], buf, sizeof buf) != sizeof buf || read(s[1], buf, sizeof buf) != sizeof buf)
				return 2;
		munmap(m, 65536);
		close(p[0]), close(p[1]), close(s[0]), close(s[1]), close(f), close(e), close(v);
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	say("%d rounds beside a spinning thread, spun: %d", rounds, spins > 1000);
	fprintf(stderr, "%ld ms\n", (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000);
	return 0;
}
