/* execs N kind… : runs programs of several kinds, N times each, by fork and by vfork; also
 * from a thread. Prints what came of each kind and whether the machine is as before. */
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

static char *const env[] = { "PATH=/bin", 0 };
static const char *path;

static void *runs(void *p)
{
	char *argv[] = { (char *)path, "one", 0 };
	execve(path, argv, env);
	_exit(99);
	return p;
}

static int open_files(void)
{
	char b[100] = "";
	int fd = open("/proc/sys/fs/file-nr", O_RDONLY);
	read(fd, b, sizeof b - 1);
	close(fd);
	return atoi(b);
}

static void quiet(void)
{
	int fd = open("/dev/null", O_WRONLY);
	dup2(fd, 1);
	close(fd);
}

int main(int argc, char **argv)
{
	int n = atoi(argv[1]), st, before = open_files();
	unsigned seed = 1;
	for (int k = 2; k < argc; k++) {
		int ok = 0, killed = 0;
		path = argv[k];
		for (int i = 0; i < n; i++) {
			pid_t p = i % 3 == 1 ? vfork() : fork();
			if (!p) {
				if (i % 3 == 1)
					runs(0);
				quiet();
				if (i % 3 == 0)
					runs(0);
				pthread_t t;
				pthread_create(&t, 0, runs, 0);
				for (;;)
					pause();
			}
			if (i % 4 == 3) { /* somewhere on its way */
				struct timespec d = { 0, rand_r(&seed) % 3000000 };
				nanosleep(&d, 0);
				kill(p, SIGKILL);
			}
			if (waitpid(p, &st, 0) != p)
				say("WRONG: wait");
			if (WIFEXITED(st) && WEXITSTATUS(st) == 0)
				ok++;
			else if (WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL && i % 4 == 3)
				killed++;
			else
				say("WRONG: %s: status %x", path, st);
		}
		say("%s: %d of %d", path, ok + killed, n);
	}
	for (int i = 0; i < 100 && open_files() != before; i++)
		usleep(1000);
	say("files left open: %d", open_files() - before);
	return 0;
}
