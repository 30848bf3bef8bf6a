/*
 * soak.h: what the kernel holds (/proc/kiln/counts), before and after, and the random
 * numbers of the programs that look for leaks.
 */
#ifndef SOAK_H
#define SOAK_H
#include "check.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

static uint64_t seed = 88172645463325252ULL;
__attribute__((unused)) static uint32_t rnd(uint32_t n)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return (seed >> 32) % n;
}

enum { ANON, SHMEM, CACHE, KERNEL, FREE, FILES, PROCESSES, THREADS, BUDGET, GOROUTINES, OBJECTS, FORKS, SWITCHES, NCOUNTS };
static const char *const count_names[NCOUNTS] = {"anon", "shmem", "cache", "kernel", "free", "files", "processes", "threads", "budget",
	"goroutines", "objects", "forks", "switches"};

static void counts(long *c)
{
	char b[2048], name[32];
	long v;
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY), n = 0, r;
	MUST(fd);
	MUST(write(fd, "3", 1)); /* entries of files that are gone, too */
	close(fd);
	MUST(fd = open("/proc/kiln/counts", O_RDONLY));
	while ((r = read(fd, b + n, sizeof b - 1 - n)) > 0)
		n += r;
	close(fd);
	b[n] = 0;
	for (int i = 0; i < NCOUNTS; i++)
		c[i] = -1;
	for (char *p = b; sscanf(p, "%31s %ld", name, &v) == 2; p = strchr(p, '\n') + 1)
		for (int i = 0; i < NCOUNTS; i++)
			if (!strcmp(name, count_names[i]))
				c[i] = v;
}

/* leaked says which counts are further up than they may be: exactly what is counted by
 * the piece, and nearly what the collector and caches move. n is how many times the thing
 * was done that may leak: less than one in fifty of an object each time is noise. */
static int leaked(const long *a, const long *b, long n, int talk)
{
	/* A page or two of our own stack; coroutines that are kept for the next threads. */
	long slack[NCOUNTS] = {[ANON] = 4, [KERNEL] = 2048 + n / 8, [GOROUTINES] = 20, [BUDGET] = 16384, [OBJECTS] = 3000 + n / 50};
	int bad = 0;
	for (int i = 0; i < NCOUNTS; i++) {
		if (i == CACHE || i == FREE || i == FORKS || i == SWITCHES || b[i] <= a[i] + slack[i])
			continue;
		bad = 1;
		if (talk)
			say("LEAK: %s %ld, was %ld", count_names[i], b[i], a[i]);
	}
	return bad;
}

/* settle compares, again and again for a while: what ends in the background may. */
__attribute__((unused)) static int settle(const long *a, long n)
{
	long b[NCOUNTS];
	for (int i = 0; i < 400; i++) { /* longer than TIME_WAIT */
		counts(b);
		if (!leaked(a, b, n, 0)) {
			fprintf(stderr, "counts:");
			for (int k = 0; k < NCOUNTS; k++)
				fprintf(stderr, " %s %ld (%+ld)", count_names[k], b[k], b[k] - a[k]);
			fprintf(stderr, "\n");
			say("nothing leaked");
			return 0;
		}
		usleep(200000);
	}
	leaked(a, b, n, 1);
	return 1;
}

/* wrong ends the program with what it found, EXPECT where that is that x does not hold. */
__attribute__((unused)) static void __attribute__((noreturn, format(printf, 1, 2))) wrong(const char *f, ...)
{
	char b[200];
	va_list ap;
	va_start(ap, f);
	vsnprintf(b, sizeof b, f, ap);
	va_end(ap);
	say("WRONG: %s (errno %s)", b, errname(errno));
	_exit(7);
}
#define EXPECT(x) do { if (!(x)) wrong("%s:%d: %s", __func__, __LINE__, #x); } while (0)
#endif
