/*
 * check.h: how the programs of this folder print what they saw. One line a check:
 * the expression as written, its result, and errno's name where the result is -1.
 * Nothing that differs from run to run (addresses, ids, times) is printed, so that
 * Linux's output is the expected output on Kiln.
 */
#ifndef CHECK_H
#define CHECK_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/syscall.h>

__attribute__((unused)) static const char *errname(int e)
{
	static char b[16];
	static const struct { int e; const char *n; } t[] = {
#define E(x) { x, #x }
		E(EPERM), E(ENOENT), E(ESRCH), E(EINTR), E(EIO), E(ENXIO), E(E2BIG), E(ENOEXEC),
		E(EBADF), E(ECHILD), E(EAGAIN), E(ENOMEM), E(EACCES), E(EFAULT), E(ENOTBLK), E(EBUSY),
		E(EEXIST), E(EXDEV), E(ENODEV), E(ENOTDIR), E(EISDIR), E(EINVAL), E(ENFILE), E(EMFILE),
		E(ENOTTY), E(ETXTBSY), E(EFBIG), E(ENOSPC), E(ESPIPE), E(EROFS), E(EMLINK), E(EPIPE),
		E(EDOM), E(ERANGE), E(EDEADLK), E(ENAMETOOLONG), E(ENOLCK), E(ENOSYS), E(ENOTEMPTY),
		E(ELOOP), E(ENODATA), E(EOVERFLOW), E(EBADFD), E(ENOTSOCK), E(EDESTADDRREQ), E(EMSGSIZE),
		E(EPROTOTYPE), E(ENOPROTOOPT), E(EPROTONOSUPPORT), E(ESOCKTNOSUPPORT), E(EOPNOTSUPP),
		E(EPFNOSUPPORT), E(EAFNOSUPPORT), E(EADDRINUSE), E(EADDRNOTAVAIL), E(ENETDOWN),
		E(ENETUNREACH), E(ECONNABORTED), E(ECONNRESET), E(ENOBUFS), E(EISCONN), E(ENOTCONN),
		E(ETIMEDOUT), E(ECONNREFUSED), E(EHOSTUNREACH), E(EALREADY), E(EINPROGRESS), E(ECANCELED),
		E(EOWNERDEAD), E(ENOTRECOVERABLE), E(ESTALE), E(EDQUOT),
#undef E
	};
	for (size_t i = 0; i < sizeof t / sizeof *t; i++)
		if (t[i].e == e)
			return t[i].n;
	snprintf(b, sizeof b, "E%d", e);
	return b;
}

/* say prints one line with a single write, so that lines of threads do not mix. */
__attribute__((unused)) static void say(const char *f, ...)
{
	char b[1024];
	va_list ap;
	va_start(ap, f);
	int n = vsnprintf(b, sizeof b - 1, f, ap);
	va_end(ap);
	if (n > (int)sizeof b - 2)
		n = sizeof b - 2;
	b[n++] = '\n';
	for (int o = 0; o < n;) {
		ssize_t w = write(1, b + o, n - o);
		if (w <= 0)
			_exit(99);
		o += w;
	}
}

__attribute__((unused)) static void result(const char *what, long r, int e)
{
	if (r == -1)
		say("%s = -1 %s", what, errname(e));
	else
		say("%s = %ld", what, r);
}

/* R prints a call and its result; OK prints whether it did not fail (for results
 * that vary); IS prints whether a condition holds. */
#define R(x) ({ errno = 0; long r_ = (long)(x); result(#x, r_, errno); })
#define OK(x) ({ errno = 0; long r_ = (long)(x); if (r_ == -1) result(#x, r_, errno); else say("%s: ok", #x); })
#define IS(x) say("%s: %s", #x, (x) ? "yes" : "NO")

/*
 * CASE(name, call, call…) { … } defines one conformance case of the file and the system
 * calls that it is about; CASES ends the file. The program runs the case that its first
 * argument names (or all), each of which tests/conformance/cases.go finds by itself.
 */
struct check_case { const char *name; void (*run)(void); struct check_case *next; };
__attribute__((unused)) static struct check_case *check_cases;
#define CASE(name, ...) \
	static void case_##name(void); \
	__attribute__((constructor)) static void register_##name(void) \
	{ \
		static struct check_case c = {#name, case_##name, 0}, **p = &check_cases; \
		while (*p) \
			p = &(*p)->next; \
		*p = &c; \
	} \
	static void case_##name(void)
#define CASES \
	int main(int argc, char **argv) \
	{ \
		int ran = 0; \
		for (struct check_case *c = check_cases; c; c = c->next) \
			if (argc < 2 || !strcmp(argv[1], c->name)) \
				c->run(), ran++; \
		return ran ? 0 : 97; \
	}

/* must ends the program where going on makes no sense. */
#define MUST(x) do { errno = 0; if ((long)(x) == -1) { say("%s failed: %s", #x, errname(errno)); exit(98); } } while (0)
#endif
