// Changes of mappings reach threads that run on other CPUs: a thread touches a page all
// the time while another takes it away, makes it read-only, replaces or empties it, or
// forks. Prints a line a kind; "STALE" if a thread saw the old page after the call that
// changed it had returned.
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };
static volatile long *page;
static atomic_int round_, changed, ready, done, stale, faults;
static int kind, touchers;
static __thread sigjmp_buf out;

static void segv(int s) { (void)s; siglongjmp(out, 1); }

// look is what a thread sees: 0 nothing out of order, 1 the old page.
static int touch(void)
{
	if (sigsetjmp(out, 1)) {
		atomic_fetch_add(&faults, 1);
		return 0;
	}
	long x = 0;
	atomic_fetch_add(&ready, 1);
	while (!atomic_load_explicit(&changed, memory_order_acquire)) {
		if (kind == 1)
			page[0]++; // hot and dirty
		else
			x += page[0];
	}
	switch (kind) {
	case 0: // munmap
		x += page[0];
		return 1;
	case 1: // mprotect read-only
		page[0]++;
		return 1;
	case 2: // another page is there now
	case 4:
		return page[0] != 2;
	case 3: // emptied
		return page[0] != 0;
	}
	return 0;
}

static void *toucher(void *arg)
{
	(void)arg;
	for (int r = 1;; r++) {
		while (atomic_load(&round_) < r)
			;
		if (kind < 0)
			return 0;
		if (touch())
			atomic_fetch_add(&stale, 1);
		atomic_fetch_add(&done, 1);
	}
}

static void change(void)
{
	void *p = (void *)page;
	switch (kind) {
	case 0: munmap(p, PAGE); break;
	case 1: mprotect(p, PAGE, PROT_READ); break;
	case 2: {
		void *q = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		*(long *)q = 2;
		mremap(q, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p);
		break;
	}
	case 3: madvise(p, PAGE, MADV_DONTNEED); break;
	case 4: {
		long two = 2;
		mmap(p, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE, -1, 0);
		memcpy(p, &two, sizeof two);
		break;
	}
	}
}

// writers go on in the parent while it forks: what the child has must stand still.
static atomic_int quit;
static volatile long counters[8][512] __attribute__((aligned(PAGE)));
static void *writer(void *arg)
{
	long id = (long)arg;
	while (!atomic_load_explicit(&quit, memory_order_relaxed))
		counters[id][0]++;
	return 0;
}

static int forks(int n)
{
	pthread_t t[8];
	int bad = 0;
	for (long i = 0; i < touchers; i++)
		pthread_create(&t[i], 0, writer, (void *)i);
	for (int i = 0; i < n; i++) {
		pid_t p = fork();
		if (p == 0) {
			long a[8], moved = 0;
			for (int k = 0; k < touchers; k++)
				a[k] = counters[k][0];
			for (volatile int d = 0; d < 200000; d++)
				;
			for (int k = 0; k < touchers; k++)
				moved |= a[k] != counters[k][0];
			_exit(moved != 0);
		}
		int st = 0;
		if (p < 0 || waitpid(p, &st, 0) != p || st)
			bad++;
	}
	atomic_store(&quit, 1);
	for (int i = 0; i < touchers; i++)
		pthread_join(t[i], 0);
	return bad;
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 200;
	touchers = argc > 2 ? atoi(argv[2]) : 1;
	if (touchers < 1 || touchers > 8)
		return 2;
	struct sigaction sa = {.sa_handler = segv, .sa_flags = SA_NODEFER};
	sigaction(SIGSEGV, &sa, 0);
	pthread_t t[8];
	for (int i = 0; i < touchers; i++)
		pthread_create(&t[i], 0, toucher, 0);
	static const char *names[] = {"munmap", "mprotect", "mremap", "madvise", "mmap"};
	int r = 0;
	for (int k = 0; k < 5; k++) {
		atomic_store(&stale, 0);
		atomic_store(&faults, 0);
		for (int i = 0; i < rounds; i++) {
			page = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			page[0] = 1;
			kind = k;
			atomic_store(&changed, 0);
			atomic_store(&ready, 0);
			atomic_store(&done, 0);
			atomic_store(&round_, ++r);
			while (atomic_load(&ready) < touchers)
				;
			change();
			atomic_store_explicit(&changed, 1, memory_order_release);
			while (atomic_load(&done) < touchers)
				;
			if (k)
				munmap((void *)page, PAGE);
		}
		// A page that is gone or read-only faults each time; the others may, in passing.
		int must = k < 2 ? rounds * touchers : 0;
		printf("%s %s\n", names[k], atomic_load(&stale) ? "STALE" : atomic_load(&faults) < must ? "NO FAULT" : "ok");
		fflush(stdout);
	}
	kind = -1;
	atomic_store(&round_, ++r);
	for (int i = 0; i < touchers; i++)
		pthread_join(t[i], 0);
	printf("fork %s\n", forks(rounds / 4 + 1) ? "STALE" : "ok");
	return 0;
}
