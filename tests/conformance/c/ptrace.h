/*
 * ptrace.h: what the programs about tracing share. A tracee is a child that asks to be
 * traced and stops itself, or one that is seized.
 */
#include "proc.h"
#include <elf.h>
#include <linux/ptrace.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/uio.h>
#include <sys/user.h>

/* A case that waits for what does not come ends, and what it has started with it. */
__attribute__((constructor)) static void bounded(void) { alarm(8); }
static void mortal(void) { prctl(PR_SET_PDEATHSIG, SIGKILL); }

/* The system call itself, without what libc makes of it. */
static long pt(long req, long pid, long addr, long data) { return syscall(SYS_ptrace, req, pid, addr, data); }

#define PT(req, ...) R(pt(PTRACE_##req, ##__VA_ARGS__))

/* GO is PT for what makes the tracee print: nothing is said behind its back. */
#define GO(req, ...) MUST(pt(PTRACE_##req, ##__VA_ARGS__))

/* traced runs f in a child that is stopped before it, with options set. */
__attribute__((unused)) static pid_t traced(void (*f)(void), long options)
{
	int st;
	pid_t p = fork();
	if (!p) {
		mortal();
		if (pt(PTRACE_TRACEME, 0, 0, 0))
			_exit(90);
		syscall(SYS_tgkill, getpid(), getpid(), SIGSTOP); /* raise makes other calls too */
		f();
		_exit(0);
	}
	if (waitpid(p, &st, 0) != p || !WIFSTOPPED(st))
		say("the tracee did not stop: %x", st);
	MUST(pt(PTRACE_SETOPTIONS, p, 0, options | PTRACE_O_EXITKILL));
	return p;
}

/* seized runs f in a child that is seized first. */
__attribute__((unused)) static pid_t seized(void (*f)(void), long options)
{
	int c[2];
	pipe(c);
	pid_t p = fork();
	if (!p) {
		char b;
		mortal();
		close(c[1]);
		read(c[0], &b, 1);
		close(c[0]);
		f();
		_exit(0);
	}
	close(c[0]);
	MUST(pt(PTRACE_SEIZE, p, 0, options | PTRACE_O_EXITKILL));
	close(c[1]);
	return p;
}

/* next waits for the tracee and says what it did: the event's number too. */
__attribute__((unused)) static int next(const char *what, pid_t p)
{
	int st = 0;
	pid_t r = waitpid(p, &st, __WALL);
	if (r == -1)
		return say("%s: wait: %s", what, errname(errno)), -1;
	if (WIFSTOPPED(st) && st >> 16)
		say("%s: event %d, signal %d", what, st >> 16, st >> 8 & 0xff);
	else
		status(what, st);
	return st;
}

__attribute__((unused)) static void end(pid_t p)
{
	int st;
	kill(p, SIGKILL);
	while (waitpid(p, &st, __WALL) == p && WIFSTOPPED(st))
		;
}

__attribute__((unused)) static void naps(void)
{
	mortal();
	for (;;)
		pause();
}
