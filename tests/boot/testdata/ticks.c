// Timers at random high rates beside threads that hand a token around by futexes and
// pipes: no wake-up may get lost. Arguments: seconds, pairs of threads. Prints what it
// counted; whoever waits for more than ten seconds ends it with status 1.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static atomic_long alarms, expirations, sleeps, turns, bytes, stuck;
static atomic_int quit;

static void on_alarm(int s) { (void)s; alarms++; }

static unsigned rnd(unsigned *s) { return *s = *s * 1664525 + 1013904223; }

static void *sleeper(void *arg)
{
	unsigned s = (uintptr_t)arg + 1;
	while (!quit) {
		struct timespec a, b, t = {0, 20000 + (rnd(&s) >> 12) % 200000};
		clock_gettime(CLOCK_MONOTONIC, &a);
		clock_nanosleep(CLOCK_MONOTONIC, 0, &t, 0);
		clock_gettime(CLOCK_MONOTONIC, &b);
		if (b.tv_sec - a.tv_sec > 10)
			stuck++;
		sleeps++;
	}
	return 0;
}

static void *ticker(void *arg)
{
	unsigned s = (uintptr_t)arg + 77;
	int fd = timerfd_create(CLOCK_MONOTONIC, 0);
	while (!quit) {
		uint64_t n = 0;
		struct itimerspec t = {{0, 20000 + (rnd(&s) >> 12) % 100000}, {0, 20000}};
		timerfd_settime(fd, 0, &t, 0);
		for (int i = 0; i < 20; i++)
			if (read(fd, &n, sizeof n) == sizeof n)
				expirations += n;
	}
	close(fd);
	return 0;
}

struct pair { atomic_int word; int fd[2][2]; };

static int wait_word(atomic_int *w, int old)
{
	struct timespec t = {10, 0};
	while (atomic_load(w) == old)
		if (syscall(SYS_futex, w, FUTEX_WAIT_PRIVATE, old, &t, 0, 0) && errno == ETIMEDOUT && atomic_load(w) == old)
			return -1;
	return 0;
}

static void *ping(void *arg)
{
	struct pair *p = arg;
	while (!quit) {
		atomic_store(&p->word, 1);
		syscall(SYS_futex, &p->word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
		if (wait_word(&p->word, 1)) {
			stuck++;
			break;
		}
		turns++;
		char c = 1;
		if (write(p->fd[0][1], &c, 1) == 1 && read(p->fd[1][0], &c, 1) == 1)
			bytes++;
	}
	atomic_store(&p->word, 2);
	syscall(SYS_futex, &p->word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
	close(p->fd[0][1]);
	return 0;
}

static void *pong(void *arg)
{
	struct pair *p = arg;
	for (;;) {
		if (wait_word(&p->word, 0)) {
			stuck++;
			break;
		}
		if (atomic_load(&p->word) == 2)
			break;
		atomic_store(&p->word, 0);
		syscall(SYS_futex, &p->word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
		char c;
		if (read(p->fd[0][0], &c, 1) != 1 || write(p->fd[1][1], &c, 1) != 1)
			break;
	}
	return 0;
}

int main(int argc, char **argv)
{
	int secs = argc > 1 ? atoi(argv[1]) : 5, pairs = argc > 2 ? atoi(argv[2]) : 3;
	struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	sigaction(SIGALRM, &sa, 0);
	static struct pair p[16];
	pthread_t t[64];
	int n = 0;
	for (int i = 0; i < pairs && i < 16; i++) {
		if (pipe(p[i].fd[0]) || pipe(p[i].fd[1]))
			return 3;
		pthread_create(&t[n++], 0, ping, &p[i]);
		pthread_create(&t[n++], 0, pong, &p[i]);
	}
	for (long i = 0; i < 2; i++) {
		pthread_create(&t[n++], 0, sleeper, (void *)i);
		pthread_create(&t[n++], 0, ticker, (void *)i);
	}
	unsigned s = 5;
	struct timespec a, b;
	clock_gettime(CLOCK_MONOTONIC, &a);
	do {
		struct itimerval it = {{0, 50 + (rnd(&s) >> 12) % 500}, {0, 50}};
		setitimer(ITIMER_REAL, &it, 0);
		struct timespec d = {0, 50000000}, left = d;
		while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
			;
		clock_gettime(CLOCK_MONOTONIC, &b);
	} while (b.tv_sec - a.tv_sec < secs && !stuck);
	struct itimerval off = {0};
	setitimer(ITIMER_REAL, &off, 0);
	quit = 1;
	for (int i = 0; i < n; i++)
		pthread_join(t[i], 0);
	printf("alarms %s, expirations %s, sleeps %s, turns %s, bytes %s\n", alarms ? "came" : "NONE", expirations ? "came" : "NONE",
	       sleeps ? "ended" : "NONE", turns ? "taken" : "NONE", bytes ? "passed" : "NONE");
	printf("%ld alarms, %ld expirations, %ld sleeps, %ld turns\n", alarms, expirations, sleeps, turns);
	printf("stuck %ld\n", stuck);
	return stuck != 0;
}
