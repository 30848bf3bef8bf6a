/*
 * soak SECONDS [SEED]: workers that check what they do (pipes, futexes, sockets over
 * loopback, signals, timers, threads, copy-on-write, exec, all sleeping and waking each
 * other) beside children of every family that are killed at random moments. A worker
 * that makes no progress for a minute has lost a wake-up, or hangs. In the end nothing
 * is left behind.
 */
#include "families.h"
#include <semaphore.h>
#include <sys/prctl.h>

#define PATIENCE 60 /* seconds */
static volatile uint32_t *progress; /* of each worker, shared */
static volatile int *over;
static volatile uint32_t *mine;
static int brief; /* a short run */

static void w_pipes(void)
{
	int a[2], b[2];
	EXPECT(!pipe(a) && !pipe(b));
	pid_t p = fork();
	EXPECT(p >= 0);
	if (p == 0) {
		uint32_t v;
		close(a[1]), close(b[0]);
		while (read(a[0], &v, 4) == 4) {
			v = ~v;
			EXPECT(write(b[1], &v, 4) == 4);
		}
		_exit(0);
	}
	close(a[0]), close(b[1]);
	for (uint32_t i = 0; i < 300 && !*over; i++) {
		uint32_t v = i * 2654435761u, w;
		EXPECT(write(a[1], &v, 4) == 4);
		EXPECT(read(b[0], &w, 4) == 4 && w == ~v);
		++*mine;
	}
	close(a[1]), close(b[0]);
	int st;
	EXPECT(waitpid(p, &st, 0) == p && st == 0);
}

/* A ring of processes hands a token on by futexes in shared memory: every wake-up counts. */
static void w_futexes(void)
{
	enum { N = 4 };
	uint32_t *turn = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t p[N];
	EXPECT(turn != MAP_FAILED);
	for (uint32_t k = 0; k < N; k++) {
		EXPECT((p[k] = fork()) >= 0);
		if (p[k])
			continue;
		for (uint32_t want = k; want < 400; want += N) {
			uint32_t v;
			while ((v = __atomic_load_n(turn, __ATOMIC_SEQ_CST)) != want) {
				EXPECT(v < want);
				syscall(SYS_futex, turn, FUTEX_WAIT, v, 0, 0, 0);
			}
			__atomic_store_n(turn, want + 1, __ATOMIC_SEQ_CST);
			syscall(SYS_futex, turn, FUTEX_WAKE, 1000, 0, 0, 0);
			++*mine;
		}
		_exit(0);
	}
	for (int k = 0; k < N; k++) {
		int st;
		EXPECT(waitpid(p[k], &st, 0) == p[k] && st == 0);
	}
	EXPECT(*turn == 400);
	munmap(turn, 4096);
}

static void w_sockets(void)
{
	struct sockaddr_in a;
	int l = tcp(&a), st;
	pid_t p = fork();
	EXPECT(p >= 0);
	if (p == 0) {
		int c = accept(l, 0, 0), n;
		EXPECT(c >= 0);
		while ((n = recv(c, buf, sizeof buf, 0)) > 0)
			for (int o = 0, r; o < n; o += r)
				EXPECT((r = send(c, buf + o, n - o, MSG_NOSIGNAL)) > 0);
		EXPECT(n == 0 || (brief && errno == ECONNRESET));
		_exit(0);
	}
	int s = socket(AF_INET, SOCK_STREAM, 0);
	EXPECT(!connect(s, (void *)&a, sizeof a));
	for (int i = 0; i < 40 && !*over; i++) {
		int n = 1 + rnd(20000);
		char *out = malloc(n), *in = malloc(n);
		for (int k = 0; k < n; k++)
			out[k] = rnd(256);
		for (int sent = 0, got = 0, r; got < n;) {
			if (sent < n) {
				EXPECT((r = send(s, out + sent, n - sent, MSG_NOSIGNAL)) > 0);
				sent += r;
			}
			EXPECT((r = recv(s, in + got, n - got, 0)) > 0);
			got += r;
		}
		EXPECT(!memcmp(in, out, n));
		free(in), free(out);
		++*mine;
	}
	if (brief) /* no TIME_WAIT to wait for in the end */
		EXPECT(!setsockopt(s, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)));
	close(s), close(l);
	EXPECT(waitpid(p, &st, 0) == p && st == 0);
}

/* Queued signals come in order and none is lost; the sender waits for an answer now and then. */
static void w_signals(void)
{
	sigset_t set, old;
	int st, me = getpid();
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigaddset(&set, SIGRTMIN + 1);
	sigprocmask(SIG_BLOCK, &set, &old);
	pid_t p = fork();
	EXPECT(p >= 0);
	if (p == 0) {
		for (int i = 0; i < 100; i++) {
			siginfo_t si;
			EXPECT(sigwaitinfo(&set, &si) == SIGRTMIN && si.si_value.sival_int == i);
			if (i % 10 == 9)
				EXPECT(!sigqueue(me, SIGRTMIN + 1, (union sigval){.sival_int = i}));
		}
		_exit(0);
	}
	for (int i = 0; i < 100; i++) {
		siginfo_t si;
		EXPECT(!sigqueue(p, SIGRTMIN, (union sigval){.sival_int = i}));
		if (i % 10 == 9)
			EXPECT(sigwaitinfo(&set, &si) == SIGRTMIN + 1 && si.si_value.sival_int == i);
		++*mine;
	}
	EXPECT(waitpid(p, &st, 0) == p && st == 0);
	sigprocmask(SIG_SETMASK, &old, 0);
}

static int64_t ns(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000LL + t.tv_nsec; }

/* Timers are not early and come at all. */
static void w_timers(void)
{
	int f = timerfd_create(CLOCK_MONOTONIC, 0), e = epoll_create1(0);
	struct epoll_event ev = {EPOLLIN, {0}};
	EXPECT(f >= 0 && e >= 0 && !epoll_ctl(e, EPOLL_CTL_ADD, f, &ev));
	for (int i = 0; i < 40 && !*over; i++) {
		int64_t d = 1 + rnd(5000000), t = ns();
		struct itimerspec s = {{0, 0}, {0, d}};
		uint64_t n;
		switch (rnd(4)) {
		case 0:
			EXPECT(!nanosleep(&s.it_value, 0));
			break;
		case 1:
			EXPECT(!timerfd_settime(f, 0, &s, 0) && read(f, &n, 8) == 8 && n == 1);
			break;
		case 2:
			EXPECT(!timerfd_settime(f, 0, &s, 0) && epoll_wait(e, &ev, 1, -1) == 1 && read(f, &n, 8) == 8);
			break;
		default:
			EXPECT(syscall(SYS_futex, buf, FUTEX_WAIT, *(int *)buf, &s.it_value, 0, 0) == -1 && errno == ETIMEDOUT);
		}
		EXPECT(ns() - t >= d);
		++*mine;
	}
	close(f), close(e);
}

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cv = PTHREAD_COND_INITIALIZER;
static sem_t sem;
static long sum, queued;

static void *taker(void *n)
{
	long s = 0;
	for (long i = 0; i < (long)n; i++) {
		pthread_mutex_lock(&mu);
		while (!queued)
			pthread_cond_wait(&cv, &mu);
		queued--;
		s++, sum++;
		pthread_mutex_unlock(&mu);
		sem_post(&sem);
	}
	return (void *)s;
}

static void w_threads(void)
{
	enum { N = 5, EACH = 40 };
	pthread_t t[N];
	sum = queued = 0;
	sem_init(&sem, 0, 0);
	for (int i = 0; i < N; i++)
		EXPECT(!pthread_create(&t[i], 0, taker, (void *)EACH));
	for (int i = 0; i < N * EACH; i++) {
		pthread_mutex_lock(&mu);
		queued++;
		pthread_mutex_unlock(&mu);
		pthread_cond_signal(&cv);
		if (rnd(2))
			sched_yield();
		++*mine;
	}
	for (int i = 0; i < N * EACH; i++)
		while (sem_wait(&sem))
			EXPECT(errno == EINTR);
	for (int i = 0; i < N; i++) {
		void *r;
		EXPECT(!pthread_join(t[i], &r) && (long)r == EACH);
	}
	EXPECT(sum == N * EACH);
}

/* What parent and child write to private memory stays theirs; shared memory is one. */
static void w_memory(void)
{
	int n = 1 + rnd(300), st;
	uint32_t *m = mmap(0, n << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), tag = rnd(1 << 30);
	EXPECT(m != MAP_FAILED);
	for (int i = 0; i < n; i++)
		m[i << 10] = tag + i;
	pid_t p = fork();
	EXPECT(p >= 0);
	for (int i = p ? 0 : 1; i < n; i += 2)
		m[i << 10] ^= p ? 0x55555555 : 0xaaaaaaaa;
	sched_yield();
	for (int i = 0; i < n; i++) {
		uint32_t want = tag + i;
		if (i % 2 == (p ? 0 : 1))
			want ^= p ? 0x55555555 : 0xaaaaaaaa;
		EXPECT(m[i << 10] == want);
	}
	if (p == 0)
		_exit(0);
	EXPECT(waitpid(p, &st, 0) == p && st == 0);
	EXPECT(!munmap(m, n << 12));
	++*mine;
}

static void w_exec(void)
{
	int st;
	pid_t p = rnd(2) ? vfork() : fork();
	EXPECT(p >= 0);
	if (p == 0) {
		execl("/proc/self/exe", "soak", "nothing", (char *)0);
		_exit(9);
	}
	EXPECT(waitpid(p, &st, 0) == p && st == 42 << 8);
	++*mine;
}

#define W(n) {#n, w_##n}
static const struct { const char *name; void (*f)(void); } workers[] = {W(pipes), W(futexes), W(sockets), W(signals), W(timers), W(threads), W(memory), W(exec)};
#define NWORKERS ((int)(sizeof workers / sizeof *workers))
#define NKILLERS 2

/* stacks says where the kernel is, for who has to find out why. */
static void stacks(void)
{
	int n, f = open("/proc/kiln/stacks", O_RDONLY);
	while ((n = read(f, buf, sizeof buf)) > 0)
		if (write(1, buf, n) < 0)
			break;
	close(f);
}

static void soak(long seconds)
{
	pid_t p[NWORKERS + NKILLERS];
	uint32_t last[NWORKERS + NKILLERS] = {0};
	time_t moved[NWORKERS + NKILLERS], start = time(0), end = start + seconds;
	int left = 0, st;
	*over = 0;
	for (int i = 0; i < NWORKERS + NKILLERS; i++) {
		uint64_t s = seed + i * 0x9e3779b97f4a7c15ULL;
		moved[i] = start;
		MUST(p[i] = fork());
		left++;
		if (p[i])
			continue;
		seed = s | 1;
		mine = progress + i;
		if (i < NWORKERS) {
			while (!*over && time(0) < end)
				workers[i].f();
			_exit(0);
		}
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		while (!*over && time(0) < end) {
			kills(20, end);
			++*mine;
		}
		_exit(0);
	}
	while (left) {
		pid_t c = waitpid(-1, &st, WNOHANG);
		if (c == 0) {
			usleep(200000);
			for (int i = 0; i < NWORKERS + NKILLERS; i++) {
				if (progress[i] != last[i] || !p[i])
					last[i] = progress[i], moved[i] = time(0);
				else if (time(0) - moved[i] > PATIENCE) {
					say("HANG: %s (pid %d) made no progress for a minute after %u", i < NWORKERS ? workers[i].name : "kills", p[i], last[i]);
					stacks();
					exit(5);
				}
			}
			continue;
		}
		for (int i = 0; i < NWORKERS + NKILLERS; i++)
			if (p[i] == c) {
				if (st) {
					say("%s ended with %#x", i < NWORKERS ? workers[i].name : "kills", st);
					exit(6);
				}
				p[i] = 0, left--;
			}
	}
	*over = 1;
	for (int i = 0; i < NWORKERS + NKILLERS; i++)
		fprintf(stderr, "%s %u  ", i < NWORKERS ? workers[i].name : "kills", progress[i]);
	fprintf(stderr, "\n");
}

int main(int argc, char **argv)
{
	long before[NCOUNTS], after[NCOUNTS];
	if (argc < 2)
		return 1;
	if (!strcmp(argv[1], "nothing"))
		return 42;
	long seconds = atol(argv[1]);
	if (argc > 2)
		seed += atoi(argv[2]);
	brief = seconds < 60;
	prepare();
	progress = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	over = (volatile int *)(progress + 1000);
	soak(seconds / 5 + 1); /* warm */
	tidy();
	counts(before);
	memset((void *)progress, 0, 4000);
	soak(seconds);
	tidy();
	counts(after);
	free_locks();
	return settle(before, after[FORKS] - before[FORKS]);
}
