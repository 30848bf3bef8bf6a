/*
 * ipc.h: what the programs about inter-process communication share: children that do
 * one thing, waiting until a process sleeps, killing it there, and counting down.
 */
#ifndef IPC_H
#define IPC_H
#include "../../programs/c/check.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

__attribute__((unused)) static void ms(int n)
{
	struct timespec t = { n / 1000, n % 1000 * 1000000L };
	while (nanosleep(&t, &t) == -1 && errno == EINTR)
		;
}

/* state is the letter of /proc/pid/stat, 0 if there is none. */
__attribute__((unused)) static char state(int pid)
{
	char b[256], *p;
	snprintf(b, sizeof b, "/proc/%d/stat", pid);
	int fd = open(b, O_RDONLY);
	if (fd < 0)
		return 0;
	int n = read(fd, b, sizeof b - 1);
	close(fd);
	if (n <= 0)
		return 0;
	b[n] = 0;
	p = strrchr(b, ')');
	return p ? p[2] : 0;
}

/* asleep_now waits until pid sleeps. */
__attribute__((unused)) static void asleep_now(int pid)
{
	for (int i = 0; i < 500 && state(pid) != 'S' && state(pid) != 'Z'; i++)
		ms(10);
}

/* asleep waits until pid sleeps, which in these programs is in the call under test; a
 * short pause before makes sure that it has come as far. */
__attribute__((unused)) static void asleep(int pid)
{
	ms(30);
	asleep_now(pid);
	ms(20);
}

/* A child held at the gate goes on when the gate is opened: on a host that is late no time is
 * long enough. */
enum { GATE = 700 }; /* two descriptors that no test asks for */

__attribute__((unused)) static void make_gate(void)
{
	int p[2];
	pipe(p);
	dup2(p[0], GATE), dup2(p[1], GATE + 1);
	close(p[0]), close(p[1]);
}

__attribute__((unused)) static void held(void)
{
	char c;
	while (read(GATE, &c, 1) == -1 && errno == EINTR)
		;
}

__attribute__((unused)) static void open_gate(void) { write(GATE + 1, "", 1); }

/* FORK(…) runs its argument in a child and gives its pid. */
#define FORK(...) ({ int p_ = fork(); if (p_ == 0) { __VA_ARGS__; _exit(0); } p_; })

/* reap prints how a child ended. */
__attribute__((unused)) static void reap(const char *who, int pid)
{
	int st = 0;
	int r = waitpid(pid, &st, 0);
	if (r != pid)
		say("%s: waitpid = %d %s", who, r, errname(errno));
	else if (WIFSIGNALED(st))
		say("%s: signal %d", who, WTERMSIG(st));
	else
		say("%s: exit %d", who, WEXITSTATUS(st));
}

__attribute__((unused)) static void killed(const char *who, int pid)
{
	asleep(pid);
	kill(pid, SIGKILL);
	reap(who, pid);
}

static volatile int caught;
__attribute__((unused)) static void catcher(int s) { caught++; }

/* handle installs a handler that does nothing, with flags. */
__attribute__((unused)) static void handle(int sig, int flags)
{
	struct sigaction a = { .sa_handler = catcher, .sa_flags = flags };
	sigaction(sig, &a, NULL);
}
#endif
