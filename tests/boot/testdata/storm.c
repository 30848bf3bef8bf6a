/*
 * Storms near the end of memory, while garbage is made in the kernel. Eaters, children
 * of their own, hold memory until little is left. Then, in rounds: as many threads as
 * are to be had, each of which makes garbage (a read of /proc) and waits for the others;
 * and forks, each of which writes some pages and makes garbage. A refusal is EAGAIN or
 * ENOMEM; an eater may be killed for memory, this process, the smallest, must not be.
 */
#include "check.h"
#include "meminfo.h"
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t all = PTHREAD_COND_INITIALIZER;
static int go, ran;

static void garbage(void)
{
	char b[512];
	int fd = open("/proc/meminfo", O_RDONLY);
	while (fd >= 0 && read(fd, b, sizeof b) > 0)
		;
	close(fd);
}

static void *thread(void *a)
{
	(void)a;
	garbage();
	pthread_mutex_lock(&mu);
	ran++;
	while (!go)
		pthread_cond_wait(&all, &mu);
	pthread_mutex_unlock(&mu);
	return NULL;
}

enum { MOST = 8000, STACK = 16 << 10 };

static int threads(int most)
{
	static pthread_t t[MOST];
	pthread_attr_t a;
	int n = 0, e = 0;
	pthread_attr_init(&a);
	go = ran = 0;
	/* One mapping for all stacks: what is measured is threads, and a fork copies little. */
	char *stacks = mmap(0, (size_t)most * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	MUST(stacks == MAP_FAILED ? -1 : 0);
	for (; n < most; n++)
		if (pthread_attr_setstack(&a, stacks + (size_t)n * STACK, STACK), (e = pthread_create(&t[n], &a, thread, NULL)))
			break;
	if (e && e != EAGAIN && e != ENOMEM)
		say("pthread_create: %s: WRONG", errname(e));
	pthread_mutex_lock(&mu);
	go = 1;
	pthread_cond_broadcast(&all);
	pthread_mutex_unlock(&mu);
	for (int i = 0; i < n; i++)
		pthread_join(t[i], NULL);
	munmap(stacks, (size_t)most * STACK);
	if (ran != n)
		say("%d of %d threads ran: WRONG", ran, n);
	return n;
}

/* eaters leaves about kb of memory. */
static int eaters(pid_t *p, int most, long kb)
{
	int n = 0;
	for (; n < most && meminfo("MemAvailable:") > kb; n++) {
		int f[2];
		char c;
		MUST(pipe(f));
		p[n] = fork();
		if (p[n] < 0)
			break;
		if (p[n] == 0) {
			char *m = mmap(0, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			if (m != MAP_FAILED)
				memset(m, 1, 4 << 20);
			write(f[1], "x", 1);
			for (;;)
				pause();
		}
		close(f[1]);
		read(f[0], &c, 1);
		close(f[0]);
	}
	return n;
}

static int forks(int n)
{
	int done = 0, running = 0, st;
	for (int i = 0; i < n; i++) {
		pid_t p = fork();
		if (p == 0) {
			char *m = mmap(0, 64 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			if (m != MAP_FAILED)
				memset(m, 1, 64 << 10);
			garbage();
			_exit(7);
		}
		if (p < 0 && errno != EAGAIN && errno != ENOMEM)
			say("fork: %s: WRONG", errname(errno));
		if (p > 0)
			running++;
		while (running > 0 && waitpid(-1, &st, running < 50 && p > 0 ? WNOHANG : 0) > 0) {
			running -= !WIFSIGNALED(st) || WTERMSIG(st) == SIGKILL;
			done += WIFEXITED(st) && WEXITSTATUS(st) == 7;
		}
	}
	while (waitpid(-1, &st, WNOHANG) > 0)
		;
	return done;
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 2, first = 0;
	threads(64); /* what the C library keeps of threads is there */
	long before = meminfo("SUnreclaim:");
	for (int r = 0; r < rounds; r++) {
		int n = threads(MOST);
		fprintf(stderr, "round %d: %d threads\n", r, n);
		if (n < 2000)
			say("only %d threads: WRONG", n);
		if (r == 0)
			first = n;
		else if (n < first - first / 8)
			say("%d threads at first, %d in round %d: WRONG", first, n, r);
		pid_t p[64];
		int e = eaters(p, 64, 16 << 10);
		fprintf(stderr, "round %d: %d eaters leave %ld kB\n", r, e, meminfo("MemAvailable:"));
		n = threads(MOST);
		int f = forks(300);
		fprintf(stderr, "round %d: %d threads and %d forks at the edge\n", r, n, f);
		if (n < 10 || f < 10)
			say("%d threads and %d forks at the edge: WRONG", n, f);
		for (int i = 0; i < e; i++)
			kill(p[i], SIGKILL);
		while (waitpid(-1, NULL, 0) > 0)
			;
	}
	/* A thread's memory is given back a moment after it was joined. */
	long after = -1;
	for (int i = 0; i < 50 && (after = meminfo("SUnreclaim:")) > before + 256; i++)
		usleep(100000);
	if (after > before + 256)
		say("charged %ld kB before and %ld after: A LEAK", before, after);
	say("storm over");
	return 0;
}
