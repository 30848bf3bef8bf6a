// Threads that fork, exec and wait at the same time, with pipes between parent and
// child: every child's status and byte must come back. Arguments: threads, rounds.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int rounds, bad;
static char *self;

static void *storm(void *arg)
{
	long id = (long)arg;
	for (int i = 0; i < rounds; i++) {
		int p[2], st = -1;
		char code[8], c = 0;
		if (pipe(p)) {
			__atomic_fetch_add(&bad, 1, __ATOMIC_RELAXED);
			continue;
		}
		int want = (id * 31 + i) & 127;
		snprintf(code, sizeof code, "%d", want);
		pid_t pid = fork();
		if (pid == 0) {
			char b = (char)want;
			write(p[1], &b, 1);
			if (i & 1)
				execl(self, self, "-", code, (char *)0);
			_exit(want);
		}
		close(p[1]);
		int ok = pid > 0 && read(p[0], &c, 1) == 1 && c == (char)want && waitpid(pid, &st, 0) == pid &&
			 WIFEXITED(st) && WEXITSTATUS(st) == want;
		close(p[0]);
		if (!ok)
			__atomic_fetch_add(&bad, 1, __ATOMIC_RELAXED);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "-"))
		return atoi(argv[2]);
	int n = argc > 1 ? atoi(argv[1]) : 4;
	rounds = argc > 2 ? atoi(argv[2]) : 50;
	self = "/proc/self/exe";
	pthread_t t[64];
	for (long i = 0; i < n; i++)
		if (pthread_create(&t[i], 0, storm, (void *)i))
			return 3;
	for (int i = 0; i < n; i++)
		pthread_join(t[i], 0);
	printf("%d forks, %d bad\n", n * rounds, bad);
	return bad != 0;
}
