/*
 * proc.h: what the programs about processes share. The first process is the image's own on
 * Kiln and a child of a shell on Linux, so every family runs in a child of it (family).
 */
#include "../../programs/c/check.h"
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define SC(n, ...) R(syscall(SYS_##n, ##__VA_ARGS__))

/* child forks; the block that follows is the child's, and ends it. */
#define IN_CHILD(st, ...) do { \
	pid_t p_ = fork(); \
	if (!p_) { __VA_ARGS__; _exit(0); } \
	waitpid(p_, &(st), 0); } while (0)

__attribute__((unused)) static void status(const char *what, int st)
{
	if (WIFEXITED(st))
		say("%s: exit %d", what, WEXITSTATUS(st));
	else if (WIFSIGNALED(st))
		say("%s: signal %d%s", what, WTERMSIG(st), WCOREDUMP(st) ? " core" : "");
	else if (WIFSTOPPED(st))
		say("%s: stopped %d", what, WSTOPSIG(st));
	else if (WIFCONTINUED(st))
		say("%s: continued", what);
	else
		say("%s: status %x", what, st);
}

__attribute__((unused)) static void nap(int ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };
	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

/* family runs f in a child, in a group that is not orphaned, and passes its status on. */
__attribute__((unused)) static int family(void (*f)(void))
{
	int st;
	alarm(120);
	IN_CHILD(st, setpgid(0, 0); f());
	if (WIFSIGNALED(st))
		return say("the family ended by signal %d", WTERMSIG(st)), 97;
	return WEXITSTATUS(st);
}

/* cat prints a small file's line that begins with key ("": all). */
__attribute__((unused)) static long field(const char *file, const char *key)
{
	char b[8192];
	int fd = open(file, O_RDONLY), n = read(fd, b, sizeof b - 1);
	close(fd);
	if (n < 0)
		return -2;
	b[n] = 0;
	char *at = *key ? strstr(b, key) : b;
	return at ? strtol(at + strlen(key), 0, 0) : -3;
}
