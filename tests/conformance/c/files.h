/*
 * files.h: what the families about files share: a fresh tmpfs to work in, and how a
 * descriptor's state is printed.
 */
#ifndef FILES_H
#define FILES_H
#include "../../programs/c/check.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* fresh makes an empty tmpfs the working directory. */
__attribute__((unused)) static void fresh(const char *dir)
{
	umask(022);
	signal(SIGPIPE, SIG_IGN);
	mkdir("/tmp", 0777);
	mkdir(dir, 0777);
	while (umount2(dir, MNT_DETACH) == 0) /* of the case before */
		;
	if (mount("none", dir, "tmpfs", 0, "mode=0777,size=8m") < 0 || chdir(dir) < 0)
		say("fresh: %s", errname(errno));
}

/* made is a new file with content, open for reading and writing at its start. */
__attribute__((unused)) static int made(const char *name, const char *content)
{
	int fd = open(name, O_CREAT | O_RDWR | O_TRUNC, 0644);
	if (fd < 0 || pwrite(fd, content, strlen(content), 0) != (ssize_t)strlen(content))
		say("made %s: %s", name, errname(errno));
	return fd;
}

/* content prints what a file holds from its start on, holes as dots. */
__attribute__((unused)) static void content(const char *what, int fd)
{
	char b[65];
	struct stat st;
	fstat(fd, &st);
	ssize_t n = pread(fd, b, 64, 0);
	if (n < 0) {
		say("%s: %s", what, errname(errno));
		return;
	}
	for (int i = 0; i < n; i++)
		if (b[i] < 32 || b[i] > 126)
			b[i] = '.';
	b[n] = 0;
	say("%s: '%s' size %ld position %ld", what, b, (long)st.st_size, (long)lseek(fd, 0, SEEK_CUR));
}

/* in_child runs f in a child and prints how it ended. */
__attribute__((unused)) static void in_child(void (*f)(void))
{
	int s;
	pid_t p = fork();
	if (p == 0) {
		f();
		_exit(0);
	}
	while (waitpid(p, &s, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(s))
		say("child: signal %d", WTERMSIG(s));
	else if (WEXITSTATUS(s))
		say("child: status %d", WEXITSTATUS(s));
}

__attribute__((unused)) static void as_user(void (*f)(void))
{
	int s;
	pid_t p = fork();
	if (p == 0) {
		if (setgid(1000) < 0 || setuid(1000) < 0)
			say("setuid: %s", errname(errno));
		f();
		_exit(0);
	}
	while (waitpid(p, &s, 0) < 0 && errno == EINTR)
		;
}

#define BAD ((void *)8)
#endif
