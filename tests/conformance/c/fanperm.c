/* fanotify's permission events: who is asked, what the answers do, and what becomes of those who wait. */
#include "files.h"
#include "fan.h"
#include <sys/inotify.h>

static int answer(int g, int fd, unsigned what)
{
	struct fanotify_response r = { fd, what };
	return write(g, &r, sizeof r);
}

/* serve answers n events: deny has a bit for each that is refused. */
static void serve(int g, int n, unsigned deny, int who)
{
	for (int i = 0; i < n; i++) {
		struct fanotify_event_metadata e;
		if (read(g, &e, sizeof e) != sizeof e) {
			say("serve: %s", errname(errno));
			return;
		}
		char link[64], path[200];
		snprintf(link, sizeof link, "/proc/self/fd/%d", e.fd);
		int k = readlink(link, path, sizeof path - 1);
		path[k > 0 ? k : 0] = 0;
		char *base = strrchr(path, '/');
		say("asked:%s of %s by %s", bits(e.mask), base ? base + 1 : path, e.pid == who ? "it" : "another");
		if (e.mask & (FAN_OPEN_PERM | FAN_ACCESS_PERM | FAN_OPEN_EXEC_PERM))
			if (answer(g, e.fd, deny >> i & 1 ? FAN_DENY : FAN_ALLOW) != sizeof(struct fanotify_response))
				say("answer: %s", errname(errno));
		close(e.fd);
	}
}

static int code(int r) { return r < 0 ? errno : 0; }

static void ended(const char *what, int c)
{
	int s;
	waitpid(c, &s, 0);
	if (WIFSIGNALED(s))
		say("%s: signal %d", what, WTERMSIG(s));
	else
		say("%s: %s", what, WEXITSTATUS(s) ? errname(WEXITSTATUS(s)) : "fine");
}

#define CHILD(what) ({ int c_ = fork(); if (!c_) _exit(what); c_; })

CASE(permerrors, fanotify_mark, write)
{
	fresh("/tmp/fan");
	int n = init(FAN_CLASS_NOTIF, 0), c = init(FAN_CLASS_CONTENT | FAN_NONBLOCK, 0);
	touch("f");
	R(mark(n, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, "f"));
	R(mark(n, FAN_MARK_ADD, FAN_ACCESS_PERM, AT_FDCWD, "f"));
	R(mark(n, FAN_MARK_ADD, FAN_OPEN_EXEC_PERM, AT_FDCWD, "f"));
	R(mark(c, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, "/proc/self/status"));
	R(mark(c, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN_PERM, AT_FDCWD, "/proc"));
	R(mark(c, FAN_MARK_ADD, FAN_OPEN_PERM | FAN_ACCESS_PERM | FAN_OPEN_EXEC_PERM, AT_FDCWD, "f"));
	R(answer(c, 5, FAN_ALLOW));
	R(answer(c, -1, FAN_ALLOW));
	R(answer(c, 5, 0));
	R(answer(c, 5, 3));
	R(answer(c, 5, FAN_ALLOW | FAN_AUDIT));
	R(write(c, "abc", 3));
	R(write(c, (char *)8, 8));
	int a = init(FAN_CLASS_CONTENT | FAN_ENABLE_AUDIT, 0);
	R(answer(a, 5, FAN_ALLOW | FAN_AUDIT));
}

CASE(permopen, fanotify_mark, write, read)
{
	fresh("/tmp/fan");
	int g = init(FAN_CLASS_CONTENT, O_RDONLY);
	touch("f");
	R(mark(g, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, "f"));
	int c = CHILD(code(open("f", O_RDONLY)));
	serve(g, 1, 0, c);
	ended("allowed", c);
	c = CHILD(code(open("f", O_RDONLY)));
	serve(g, 1, 1, c);
	ended("denied", c);
	/* Denied, a file is not cut, and nobody hears of it. */
	int in = inotify_init1(IN_NONBLOCK);
	inotify_add_watch(in, "f", IN_ALL_EVENTS);
	c = CHILD(code(open("f", O_RDWR | O_TRUNC)));
	serve(g, 1, 1, c);
	ended("cut", c);
	struct stat st;
	stat("f", &st);
	say("size %d", (int)st.st_size);
	R(read(in, ebuf, sizeof ebuf));
	/* O_PATH asks nobody. */
	OK(open("f", O_PATH));
	/* A new file is there before anybody is asked. */
	R(mark(g, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN_PERM, AT_FDCWD, "."));
	c = CHILD(code(open("new", O_CREAT | O_RDWR, 0600)));
	serve(g, 1, 1, c);
	ended("made", c);
	R(access("new", F_OK));
}

static int readf(void)
{
	int fd = open("f", O_RDONLY);
	return code(read(fd, ebuf, 1)) | code(pread(fd, ebuf, 1, 0)) << 1;
}

static int list(void)
{
	int fd = open("d", O_RDONLY);
	return code(syscall(SYS_getdents64, fd, ebuf, sizeof ebuf));
}

CASE(permaccess, fanotify_mark, read, pread64, getdents64, write)
{
	fresh("/tmp/fan");
	int g = init(FAN_CLASS_PRE_CONTENT, O_RDONLY);
	touch("f");
	mkdir("d", 0755);
	R(mark(g, FAN_MARK_ADD, FAN_ACCESS_PERM | FAN_ACCESS, AT_FDCWD, "f"));
	int c = CHILD(readf());
	serve(g, 4, 0, c);
	ended("read and pread", c);
	c = CHILD(readf());
	serve(g, 2, 3, c);
	ended("neither", c);
	R(mark(g, FAN_MARK_ADD, FAN_ACCESS_PERM, AT_FDCWD, "d"));
	c = CHILD(list());
	ended("without FAN_ONDIR", c);
	R(mark(g, FAN_MARK_ADD, FAN_ONDIR, AT_FDCWD, "d"));
	c = CHILD(list());
	serve(g, 1, 1, c);
	ended("with", c);
	/* Writing and mapping ask nobody. */
	int fd = open("f", O_RDWR);
	R(write(fd, "abc", 3));
}

CASE(permexec, fanotify_mark, execve, write)
{
	fresh("/tmp/fan");
	int g = init(FAN_CLASS_CONTENT, O_RDONLY);
	int from = open("/proc/self/exe", O_RDONLY), to = open("prog", O_CREAT | O_RDWR, 0755), n;
	while ((n = read(from, ebuf, sizeof ebuf)) > 0)
		write(to, ebuf, n);
	close(to);
	char *args[] = { "prog", "none", 0 };
	R(mark(g, FAN_MARK_ADD, FAN_OPEN_EXEC_PERM | FAN_OPEN_PERM, AT_FDCWD, "prog"));
	int c = CHILD(code(execv("prog", args)));
	serve(g, 2, 0, c);
	ended("both", c);
	c = CHILD(code(execv("prog", args)));
	serve(g, 1, 1, c);
	ended("denied", c);
	c = CHILD(code(execv("prog", args)));
	serve(g, 2, 2, c);
	ended("denied by the second", c);
	c = CHILD(code(open("prog", O_RDONLY)));
	serve(g, 1, 0, c);
	ended("open", c);
}

CASE(permgroups, fanotify_mark, write)
{
	fresh("/tmp/fan");
	/* Who may still change the content is asked first; after a refusal nobody. */
	int late = init(FAN_CLASS_CONTENT | FAN_NONBLOCK, O_RDONLY), early = init(FAN_CLASS_PRE_CONTENT, O_RDONLY), told = init(FAN_CLASS_NOTIF | FAN_NONBLOCK, 0);
	touch("f");
	R(mark(late, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, "f"));
	R(mark(early, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, "f"));
	R(mark(told, FAN_MARK_ADD, FAN_OPEN | FAN_CLOSE, AT_FDCWD, "f"));
	int c = CHILD(code(open("f", O_RDONLY)));
	serve(early, 1, 1, c);
	ended("refused early", c);
	R(read(late, ebuf, sizeof ebuf));
	R(read(told, ebuf, sizeof ebuf));
	c = CHILD(code(open("f", O_RDONLY)));
	serve(early, 1, 0, c);
	struct pollfd p = { late, POLLIN, 0 };
	poll(&p, 1, -1);
	serve(late, 1, 1, c);
	ended("refused late", c);
	R(read(told, ebuf, sizeof ebuf));
	c = CHILD(code(open("f", O_RDONLY)));
	serve(early, 1, 0, c);
	poll(&p, 1, -1);
	serve(late, 1, 0, c);
	ended("allowed", c);
	drain(told, c);
}

CASE(permclose, fanotify_mark, close)
{
	fresh("/tmp/fan");
	/* Closing the group lets all go on that wait, whether their event was read or not. */
	touch("f");
	touch("h");
	int g = init(FAN_CLASS_CONTENT, O_RDONLY);
	R(mark(g, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, "f"));
	R(mark(g, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, "h"));
	int a = CHILD((close(g), code(open("f", O_RDONLY))));
	struct pollfd p = { g, POLLIN, 0 };
	R(poll(&p, 1, -1));
	struct fanotify_event_metadata e;
	R(read(g, &e, sizeof e));
	int b = CHILD((close(g), code(open("h", O_RDONLY))));
	R(poll(&p, 1, -1));
	R(close(g));
	ended("read", a);
	ended("not read", b);
	R(close(e.fd));
}

CASE(permkill, fanotify_mark, kill, write)
{
	fresh("/tmp/fan");
	touch("f");
	int g = init(FAN_CLASS_CONTENT | FAN_NONBLOCK, O_RDONLY);
	R(mark(g, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, "f"));
	struct pollfd p = { g, POLLIN, 0 };
	/* Killed before the event is read: it is gone. */
	int a = CHILD(code(open("f", O_RDONLY)));
	R(poll(&p, 1, -1));
	kill(a, SIGKILL);
	ended("killed", a);
	R(poll(&p, 1, 0));
	R(read(g, ebuf, sizeof ebuf));
	/* Killed after: an answer is still taken, once. */
	a = CHILD(code(open("f", O_RDONLY)));
	R(poll(&p, 1, -1));
	struct fanotify_event_metadata e;
	R(read(g, &e, sizeof e));
	kill(a, SIGKILL);
	ended("killed", a);
	R(answer(g, e.fd, FAN_ALLOW));
	R(answer(g, e.fd, FAN_ALLOW));
	R(close(e.fd));
	/* A signal with a handler does not end the wait. */
	signal(SIGUSR1, SIG_IGN);
	a = CHILD(code(open("f", O_RDONLY)));
	R(poll(&p, 1, -1));
	kill(a, SIGUSR1);
	serve(g, 1, 0, a);
	ended("ignored", a);
	/* Children of one that listens share the group. */
	a = CHILD(code(open("f", O_RDONLY)));
	R(poll(&p, 1, -1));
	int b = CHILD((serve(g, 1, 1, a), 0));
	ended("served by a child", b);
	ended("denied", a);
	R(close(g));
	OK(open("f", O_RDONLY));
}

CASE(permqueue, fanotify_mark, read)
{
	fresh("/tmp/fan");
	/* Too small a buffer leaves the event; one that cannot be written to refuses. */
	touch("f");
	int g = init(FAN_CLASS_CONTENT, O_RDONLY);
	R(mark(g, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, "f"));
	int a = CHILD(code(open("f", O_RDONLY)));
	struct pollfd p = { g, POLLIN, 0 };
	R(poll(&p, 1, -1));
	R(read(g, ebuf, 8));
	R(read(g, (char *)8, 4096));
	ended("unreadable", a);
	/* So does one without a free descriptor. */
	a = CHILD(code(open("f", O_RDONLY)));
	R(poll(&p, 1, -1));
	struct { unsigned long cur, max; } l = { 0, 0 }, old;
	syscall(SYS_prlimit64, 0, 7, 0, &old);
	l.max = old.max;
	syscall(SYS_prlimit64, 0, 7, &l, 0);
	R(read(g, ebuf, sizeof ebuf));
	syscall(SYS_prlimit64, 0, 7, &old, 0);
	ended("no descriptor", a);
	/* Ignored is not asked. */
	R(mark(g, FAN_MARK_ADD | FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY, FAN_OPEN_PERM, AT_FDCWD, "f"));
	OK(open("f", O_RDONLY));
}

CASES
