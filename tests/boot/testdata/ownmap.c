/* read and write between a file and a mapping of the same file: whatever the copies
 * meet under the kernel's locks, they end, and the bytes are right where the ranges do
 * not overlap or are the same. */
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/uio.h>

#define P 4096
#define N (64 * P)

static char *fresh(int fd, int flags)
{
	char *m = mmap(0, N, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (m == MAP_FAILED) {
		say("mmap: %s", errname(errno));
		exit(1);
	}
	return m;
}

static unsigned char pat(long i) { return i * 7 + i / P; }

static int fill(int fd)
{
	static char b[N];
	for (long i = 0; i < N; i++)
		b[i] = pat(i);
	return pwrite(fd, b, N, 0) == N;
}

static int same(const char *m, long from, long n, long src)
{
	for (long i = 0; i < n; i++)
		if ((unsigned char)m[from + i] != pat(src + i))
			return 0;
	return 1;
}

static volatile int stop;
static void *toucher(void *p)
{
	volatile char *m = p;
	for (long i = 0; !stop; i = (i + P) % N)
		m[i] = m[i];
	return NULL;
}

static void file(const char *name)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	MUST(fd);
	IS(fill(fd));
	/* Each time a mapping whose pages have not been touched. */
	char *m = fresh(fd, MAP_SHARED);
	R(pread(fd, m + 32 * P, 16 * P, 0));
	IS(same(m, 32 * P, 16 * P, 0));
	munmap(m, N);
	IS(fill(fd));
	m = fresh(fd, MAP_SHARED);
	R(pwrite(fd, m, 16 * P, 40 * P));
	IS(same(m, 40 * P, 16 * P, 0));
	munmap(m, N);
	IS(fill(fd));
	m = fresh(fd, MAP_SHARED);
	R(pread(fd, m, N, 0));
	R(pwrite(fd, m, N, 0));
	IS(same(m, 0, N, 0));
	munmap(m, N);
	m = fresh(fd, MAP_SHARED);
	R(pwrite(fd, m + 100, 20 * P, 21 * P + 7));
	IS(same(m, 21 * P + 7, 20 * P, 100));
	munmap(m, N);
	/* Overlapping ranges end, with whatever bytes. */
	m = fresh(fd, MAP_SHARED);
	R(pread(fd, m + P / 2, 30 * P, 0));
	R(pwrite(fd, m, 30 * P, P + 1));
	munmap(m, N);
	IS(fill(fd));
	/* A private copy of the pages being read. */
	m = fresh(fd, MAP_PRIVATE);
	R(pread(fd, m, N / 2, N / 2));
	IS(same(m, 0, N / 2, N / 2));
	R(pwrite(fd, m, N / 2, N / 2));
	munmap(m, N);
	m = fresh(fd, MAP_SHARED);
	IS(same(m, N / 2, N / 2, N / 2));
	struct iovec v[2] = { { m, 8 * P }, { m + 8 * P, 8 * P } };
	R(pwritev(fd, v, 2, 0));
	R(preadv(fd, v, 2, 0));
	/* Growing the file from its own mapping. */
	R(pwrite(fd, m, N, N));
	R(lseek(fd, 0, SEEK_END));
	/* A mapping beyond the end is a bus error to the program and EFAULT to a call. */
	R(ftruncate(fd, P));
	errno = 0;
	R(pwrite(fd, m + 8 * P, P, 0));
	R(pread(fd, m + 8 * P, P, 0));
	IS(fill(fd));
	pthread_t t;
	pthread_create(&t, NULL, toucher, m);
	int bad = 0;
	for (int i = 0; i < 200; i++)
		bad += pread(fd, m + 32 * P, 16 * P, 0) != 16 * P || pwrite(fd, m + 16 * P, 16 * P, 0) != 16 * P;
	stop = 1;
	pthread_join(t, NULL);
	stop = 0;
	say("%d of 400 calls beside a thread that touches the pages were short", bad);
	munmap(m, N);
	close(fd);
}

int main(void)
{
	file("/tmp/own");
	int fd = memfd_create("own", 0);
	MUST(fd);
	char name[40];
	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	file(name);
	/* The program's own file: its text is a mapping of it. */
	extern char etext;
	fd = open("/proc/self/exe", O_RDONLY);
	MUST(fd);
	R(pwrite(fd, &etext, 1, 0));
	return 0;
}
