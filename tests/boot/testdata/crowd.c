/*
 * crowd bomb: fork bombs of a user with RLIMIT_NPROC and of root, for a while each; then all
 * are killed, and the machine forks as before.
 * crowd oom: among processes of many sizes memory ends; who dies is who Linux would choose.
 */
#include "check.h"
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>

static void nap(int ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };
	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

static volatile int *shared;

/* every process of a bomb forks for ever. */
static void bomb(void)
{
	for (;;)
		if (fork() < 0) {
			if (errno != EAGAIN && errno != ENOMEM)
				say("WRONG: fork: %s", errname(errno));
			shared[0]++;
		}
}

static int gone(void)
{
	int n = 0, st;
	while (wait(&st) > 0)
		n++;
	return n;
}

static int forks(void)
{
	int st, p = fork();
	if (!p)
		_exit(7);
	return waitpid(p, &st, 0) == p && WEXITSTATUS(st) == 7;
}

static int one(const char *who, int uid, int limit, int ms)
{
	struct sysinfo after;
	shared[0] = 0;
	int p = fork();
	if (!p) {
		if (limit)
			setrlimit(RLIMIT_NPROC, &(struct rlimit){ limit, limit });
		if (uid && (setgroups(0, 0) || setgid(uid) || setuid(uid)))
			_exit(1);
		bomb();
	}
	for (int i = 0; i < 600 && !shared[0]; i++)
		nap(100);
	nap(ms);
	sysinfo(&after);
	int most = after.procs, died = 0;
	/* A kill may miss those that are being born. */
	for (int i = 0; i < 200; i++) {
		kill(-1, SIGKILL);
		died += gone();
		if (sysinfo(&after), after.procs == 1)
			break;
		nap(5);
	}
	say("%s: met the edge %s, %s", who, shared[0] ? "yes" : "NO", limit && most > limit + 1 ? "WRONG: too many" : "bounded");
	say("%s: %s, then %d alive, fork works: %s", who, died > 3 ? "many were there" : "WRONG: few were there", after.procs, forks() ? "yes" : "NO");
	return 0;
}

static void eat(int mb)
{
	char *p = mmap(0, (size_t)mb << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (size_t i = 0; i < (size_t)mb << 20; i += 4096)
		p[i] = 1;
}

static void adjust(const char *v)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY);
	if (write(fd, v, strlen(v)) < 0)
		say("WRONG: oom_score_adj: %s", errname(errno));
	close(fd);
}

static int sits(int mb, const char *adj)
{
	int p = fork();
	if (!p) {
		adjust(adj);
		eat(mb);
		shared[1]++;
		for (;;)
			pause();
	}
	return p;
}

static void oom(int total)
{
	static const char *const name[] = { "small", "volunteer", "exempt", "middle", "greedy" };
	int p[5], n = 0, st;
	shared[1] = 0;
	p[n++] = sits(2, "0");
	p[n++] = sits(4, "900");
	p[n++] = sits(total / 3, "-1000");
	p[n++] = sits(total / 8, "0");
	while (shared[1] < n)
		nap(5);
	p[n] = fork();
	if (!p[n]) {
		for (int i = 1;; i++) { /* faster than the machine can lose track */
			eat(1);
			shared[2] = i;
		}
	}
	n++;
	for (int died = 0; died < 2; died++) {
		int q = wait(&st);
		for (int i = 0; i < n; i++)
			if (q == p[i])
				say("%s died of signal %d", name[i], WTERMSIG(st));
	}
	for (int i = 0; i < n; i++)
		if (!kill(p[i], 0))
			say("%s lives", name[i]);
	kill(-1, SIGKILL);
	gone();
	say("fork works: %s", forks() ? "yes" : "NO");
}

int main(int argc, char **argv)
{
	shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (argc > 2 && !strcmp(argv[1], "bomb")) {
		one("a user", 1000, 40, atoi(argv[2]));
		one("root", 0, 0, atoi(argv[2]));
	} else {
		oom(argc > 2 ? atoi(argv[2]) : 100);
	}
	say("crowd over");
	return 0;
}
