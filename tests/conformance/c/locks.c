/* Locks: POSIX, OFD and flock; conflicts, splitting, dead ends, waiting and signals. */
#include "files.h"
#include <pthread.h>
#include <sys/file.h>

static struct flock fl(int type, int whence, long start, long len)
{
	return (struct flock){.l_type = type, .l_whence = whence, .l_start = start, .l_len = len};
}

static int lock(int fd, int cmd, int type, long start, long len)
{
	struct flock l = fl(type, SEEK_SET, start, len);
	return fcntl(fd, cmd, &l);
}

static void who(const char *what, int fd, int type, long start, long len)
{
	struct flock l = fl(type, SEEK_SET, start, len);
	l.l_pid = 77;
	if (fcntl(fd, F_GETLK, &l) < 0)
		say("%s: %s", what, errname(errno));
	else if (l.l_type == F_UNLCK)
		say("%s: free, pid %d", what, l.l_pid);
	else
		say("%s: type %d whence %d %ld+%ld pid %s", what, l.l_type, l.l_whence, (long)l.l_start, (long)l.l_len, l.l_pid == getppid() ? "parent" : l.l_pid == -1 ? "-1" : "other");
}

static int fd;

static void look(void)
{
	who("read 0-10", fd, F_RDLCK, 0, 10);
	who("write 0-10", fd, F_WRLCK, 0, 10);
	who("write 10-20", fd, F_WRLCK, 10, 10);
	who("write 20-30", fd, F_WRLCK, 20, 10);
	who("write all", fd, F_WRLCK, 0, 0);
	who("write 100-", fd, F_WRLCK, 100, 0);
}

CASE(posix_errors, fcntl)
{
	fresh("/tmp/lk");
	fd = made("f", "0123456789");
	int r = open("f", O_RDONLY), w = open("f", O_WRONLY);
	struct flock l = fl(F_RDLCK, SEEK_SET, 0, 0);
	R(fcntl(fd, F_SETLK, BAD));
	R(fcntl(fd, F_GETLK, BAD));
	R(fcntl(99, F_SETLK, BAD));
	R(lock(fd, F_SETLK, 3, 0, 0));
	R(lock(fd, F_SETLK, -1, 0, 0));
	R(lock(fd, F_GETLK, F_UNLCK, 0, 0));
	R(lock(r, F_SETLK, F_WRLCK, 0, 0));
	R(lock(w, F_SETLK, F_RDLCK, 0, 0));
	R(lock(r, F_SETLK, F_RDLCK, 0, 0));
	R(lock(w, F_SETLK, F_WRLCK, 0, 0));
	R(lock(r, F_SETLK, F_UNLCK, 0, 0));
	R(lock(fd, F_SETLK, F_RDLCK, -1, 0));
	R(lock(fd, F_SETLK, F_RDLCK, 5, -6));
	R(lock(fd, F_SETLK, F_RDLCK, 5, -5));
	R(lock(fd, F_SETLK, F_RDLCK, 0x7fffffffffffffffl, 2));
	R(lock(fd, F_SETLK, F_RDLCK, 0x7fffffffffffffffl, 1));
	l.l_whence = 9;
	R(fcntl(fd, F_SETLK, &l));
	l = fl(F_RDLCK, SEEK_END, 0x7fffffffffffffffl, 1);
	R(fcntl(fd, F_SETLK, &l));
	l = fl(F_RDLCK, SEEK_END, -11, 1);
	R(fcntl(fd, F_SETLK, &l));
	l = fl(F_RDLCK, SEEK_END, -5, 3);
	R(fcntl(fd, F_SETLK, &l));
	int p[2];
	pipe(p);
	R(lock(p[1], F_SETLK, F_WRLCK, 0, 0));
	R(lock(open(".", O_RDONLY), F_SETLK, F_RDLCK, 0, 0));
	R(lock(open("f", O_PATH), F_SETLK, F_RDLCK, 0, 0));
}

CASE(posix_ranges, fcntl)
{
	fresh("/tmp/lk");
	fd = made("f", "0123456789");
	R(lock(fd, F_SETLK, F_WRLCK, 5, 20));
	in_child(look);
	R(lock(fd, F_SETLK, F_RDLCK, 10, 5));
	in_child(look);
	R(lock(fd, F_SETLK, F_UNLCK, 8, 4));
	in_child(look);
	R(lock(fd, F_SETLK, F_WRLCK, 0, 0));
	in_child(look);
	R(lock(fd, F_SETLK, F_UNLCK, 0, 100));
	in_child(look);
	who("own", fd, F_WRLCK, 0, 0);
	lseek(fd, 4, SEEK_SET);
	struct flock l = fl(F_WRLCK, SEEK_CUR, 2, 3);
	R(fcntl(fd, F_SETLK, &l));
	l = fl(F_WRLCK, SEEK_END, -2, 5);
	R(fcntl(fd, F_SETLK, &l));
	l = fl(F_WRLCK, SEEK_END, 20, -5);
	R(fcntl(fd, F_SETLK, &l));
	in_child(look);
}

static void try(void)
{
	R(lock(fd, F_SETLK, F_RDLCK, 0, 5));
	R(lock(fd, F_SETLK, F_WRLCK, 0, 5));
	R(lock(fd, F_SETLK, F_WRLCK, 10, 5));
	R(lock(fd, F_SETLK, F_RDLCK, 10, 5));
	R(lock(fd, F_SETLK, F_WRLCK, 15, 0));
	R(lock(fd, F_SETLK, F_UNLCK, 0, 0));
}

CASE(posix_conflicts, fcntl, close)
{
	fresh("/tmp/lk");
	fd = made("f", "0123456789");
	R(lock(fd, F_SETLK, F_RDLCK, 0, 5));
	R(lock(fd, F_SETLK, F_WRLCK, 10, 5));
	in_child(try);
	int other = open("f", O_RDONLY);
	close(other);
	in_child(look);
	R(lock(fd, F_SETLK, F_WRLCK, 0, 5));
	int d = dup(fd);
	close(d);
	in_child(look);
}

static int to[2], from[2], r;
static void step(int *p) { write(p[1], "x", 1); }
static void await(int *p) { char c; read(p[0], &c, 1); }

/* The alarm rings until a wait has ended by it, for it may come before the wait does. */
static volatile int rang, tell;
static void on_alarm(int s)
{
	if (!rang++) {
		say("alarm");
		if (tell)
			step(from);
	}
}

CASE(posix_wait, fcntl)
{
	fresh("/tmp/lk");
	fd = made("f", "0123456789");
	pipe(to), pipe(from);
	R(lock(fd, F_SETLKW, F_WRLCK, 0, 10));
	if (fork() == 0) {
		step(from);
		R(lock(fd, F_SETLKW, F_RDLCK, 5, 10));
		who("parent's", fd, F_WRLCK, 0, 5);
		_exit(0);
	}
	await(from);
	usleep(20000);
	say("unlock");
	r = lock(fd, F_SETLK, F_UNLCK, 5, 5);
	wait(0);
	say("%d", r);
	/* a signal ends the wait */
	if (fork() == 0) {
		struct sigaction a = {.sa_handler = on_alarm};
		sigaction(SIGALRM, &a, 0);
		ualarm(20000, 20000);
		r = lock(fd, F_SETLKW, F_WRLCK, 0, 0);
		int e = errno;
		ualarm(0, 0);
		result("interrupted", r, e);
		a.sa_flags = SA_RESTART;
		sigaction(SIGALRM, &a, 0);
		rang = 0, tell = 1;
		ualarm(20000, 0);
		R(lock(fd, F_SETLKW, F_WRLCK, 0, 0));
		_exit(0);
	}
	await(from);
	usleep(60000);
	r = lock(fd, F_SETLK, F_UNLCK, 0, 0);
	wait(0);
	say("%d", r);
}

/* blocked waits until a process stands in fcntl. */
static void blocked(pid_t p)
{
	char name[64], b[16] = "";
	sprintf(name, "/proc/%d/syscall", p);
	while (strncmp(b, "72 ", 3)) {
		int f = open(name, O_RDONLY);
		read(f, b, 15);
		close(f);
		usleep(1000);
	}
}

CASE(posix_deadlock, fcntl)
{
	fresh("/tmp/lk");
	fd = made("f", "0123456789");
	pipe(to), pipe(from);
	R(lock(fd, F_SETLK, F_WRLCK, 0, 1));
	pid_t c = fork();
	if (c == 0) {
		R(lock(fd, F_SETLK, F_WRLCK, 1, 1));
		step(from);
		R(lock(fd, F_SETLKW, F_WRLCK, 0, 1));
		_exit(0);
	}
	await(from);
	blocked(c);
	R(lock(fd, F_SETLKW, F_WRLCK, 1, 1));
	say("after");
	r = lock(fd, F_SETLK, F_UNLCK, 0, 0);
	wait(0);
	say("%d", r);
}

CASE(posix_deadlock_of_three, fcntl)
{
	fresh("/tmp/lk");
	fd = made("f", "0123456789");
	pipe(to), pipe(from);
	R(lock(fd, F_SETLK, F_WRLCK, 0, 1));
	pid_t c[3];
	for (int i = 1; i <= 2; i++) {
		if ((c[i] = fork()) == 0) {
			lock(fd, F_SETLK, F_WRLCK, i, 1);
			step(from);
			await(to);
			int r = lock(fd, F_SETLKW, F_WRLCK, i == 2 ? 0 : 2, 1), e = errno;
			say("child %d: %s", i, r < 0 ? errname(e) : "0");
			_exit(0);
		}
		await(from);
	}
	step(to), step(to);
	blocked(c[1]), blocked(c[2]);
	R(lock(fd, F_SETLKW, F_WRLCK, 1, 1));
	r = lock(fd, F_SETLK, F_UNLCK, 0, 0);
	wait(0), wait(0);
	say("%d", r);
}

/* Who has what it waited for is no part of a ring, before it has run, too. */
CASE(posix_no_deadlock, fcntl)
{
	fresh("/tmp/lk");
	fd = made("f", "0123456789");
	pipe(to), pipe(from);
	for (int i = 0; i < 10; i++) {
		MUST(lock(fd, F_SETLK, F_WRLCK, 0, 1));
		pid_t c = fork();
		if (c == 0) {
			r = lock(fd, F_SETLK, F_WRLCK, 1, 1);
			step(from);
			r |= lock(fd, F_SETLKW, F_WRLCK, 0, 1);
			_exit(r != 0);
		}
		await(from);
		blocked(c);
		r = lock(fd, F_SETLK, F_UNLCK, 0, 1);
		r |= lock(fd, F_SETLKW, F_WRLCK, 1, 1);
		if (r)
			say("turn %d: %s", i, errname(errno));
		wait(&r);
		say("%d", r);
		lock(fd, F_SETLK, F_UNLCK, 0, 0);
	}
}

static void *waits_for(void *p)
{
	(void)p;
	R(lock(fd, F_SETLKW, F_WRLCK, 0, 10));
	return 0;
}

/* A lock that comes after its descriptor was closed is nobody's. */
CASE(posix_closed_meanwhile, fcntl)
{
	fresh("/tmp/lk");
	fd = made("f", "0123456789");
	pipe(to), pipe(from);
	pid_t c = fork();
	if (c == 0) {
		lock(fd, F_SETLK, F_WRLCK, 0, 10);
		step(from);
		await(to);
		_exit(0);
	}
	await(from);
	pthread_t t;
	pthread_create(&t, 0, waits_for, 0);
	usleep(50000);
	close(fd);
	step(to);
	pthread_join(t, 0);
	wait(0);
	fd = open("f", O_RDWR);
	in_child(look);
	R(lock(fd, F_SETLK, F_WRLCK, 0, 10));
}

CASE(posix_exec_fork, fcntl)
{
	fresh("/tmp/lk");
	fd = made("f", "0123456789");
	R(lock(fd, F_SETLK, F_WRLCK, 0, 0));
	if (fork() == 0) {
		who("child does not inherit", fd, F_WRLCK, 0, 0);
		close(fd);
		_exit(0);
	}
	wait(0);
	fd = open("f", O_RDWR);
	in_child(look);
}

static void ofd_look(void)
{
	int o = open("f", O_RDWR);
	struct flock l = fl(F_WRLCK, SEEK_SET, 0, 0);
	R(fcntl(o, F_OFD_GETLK, &l));
	say("type %d %ld+%ld pid %d", l.l_type, (long)l.l_start, (long)l.l_len, l.l_pid);
	R(lock(o, F_OFD_SETLK, F_WRLCK, 0, 5));
	R(lock(fd, F_OFD_SETLK, F_RDLCK, 0, 5));
	who("posix", o, F_WRLCK, 0, 0);
}

CASE(ofd, fcntl)
{
	fresh("/tmp/lk");
	fd = made("f", "0123456789");
	struct flock l = fl(F_WRLCK, SEEK_SET, 0, 0);
	l.l_pid = 5;
	R(fcntl(fd, F_OFD_SETLK, &l));
	R(fcntl(fd, F_OFD_GETLK, &l));
	l = fl(F_UNLCK, SEEK_SET, 0, 0);
	R(fcntl(fd, F_OFD_GETLK, &l));
	R(lock(fd, F_OFD_SETLK, F_WRLCK, 0, 10));
	int o = open("f", O_RDWR), d = dup(fd);
	R(lock(o, F_OFD_SETLK, F_WRLCK, 5, 1));
	R(lock(d, F_OFD_SETLK, F_WRLCK, 5, 1));
	R(lock(fd, F_SETLK, F_WRLCK, 5, 1));
	in_child(ofd_look);
	in_child(look);
	close(o);
	R(lock(open("f", O_RDWR), F_OFD_SETLK, F_WRLCK, 5, 1));
	close(fd);
	R(lock(open("f", O_RDWR), F_OFD_SETLK, F_WRLCK, 5, 1));
	close(d);
	R(lock(open("f", O_RDWR), F_OFD_SETLK, F_WRLCK, 5, 1));
	R(lock(open("f", O_RDONLY), F_OFD_SETLK, F_WRLCK, 5, 1));
}

CASE(ofd_wait, fcntl)
{
	fresh("/tmp/lk");
	fd = made("f", "0123456789");
	pipe(from);
	R(lock(fd, F_OFD_SETLK, F_WRLCK, 0, 0));
	if (fork() == 0) {
		int o = open("f", O_RDWR);
		struct sigaction a = {.sa_handler = on_alarm};
		sigaction(SIGALRM, &a, 0);
		ualarm(20000, 20000);
		r = lock(o, F_OFD_SETLKW, F_WRLCK, 0, 0);
		int e = errno;
		ualarm(0, 0);
		result("interrupted", r, e);
		step(from);
		R(lock(o, F_OFD_SETLKW, F_WRLCK, 0, 0));
		_exit(0);
	}
	await(from);
	usleep(20000);
	say("unlock");
	r = lock(fd, F_OFD_SETLK, F_UNLCK, 0, 0);
	wait(0);
	say("%d", r);
}

static void flock_try(void)
{
	R(flock(fd, LOCK_SH | LOCK_NB));
	int o = open("f", O_RDONLY);
	R(flock(o, LOCK_SH | LOCK_NB));
	R(flock(o, LOCK_EX | LOCK_NB));
	R(flock(o, LOCK_UN));
}

CASE(flock, flock)
{
	fresh("/tmp/lk");
	fd = made("f", "0123456789");
	R(flock(99, LOCK_SH));
	R(flock(fd, 0));
	R(flock(fd, 3));
	R(flock(fd, LOCK_SH | LOCK_EX));
	R(flock(fd, LOCK_UN));
	R(flock(fd, LOCK_UN | LOCK_NB));
	R(flock(fd, LOCK_EX | 16));
	R(flock(99, 3));
	R(flock(open("f", O_PATH), LOCK_SH));
	R(flock(open("f", O_RDONLY), LOCK_EX | LOCK_NB));
	R(flock(fd, LOCK_SH | LOCK_NB));
	R(flock(fd, LOCK_EX | LOCK_NB));
	int p[2];
	pipe(p);
	R(flock(p[0], LOCK_EX | LOCK_NB));
	R(flock(p[1], LOCK_EX | LOCK_NB));
	R(flock(open(".", O_RDONLY), LOCK_EX | LOCK_NB));
	R(flock(open("/dev/null", O_RDONLY), LOCK_EX | LOCK_NB));
}

CASE(flock_conflicts, flock)
{
	fresh("/tmp/lk");
	fd = made("f", "0123456789");
	int o = open("f", O_RDONLY);
	R(flock(fd, LOCK_EX));
	R(flock(dup(fd), LOCK_EX | LOCK_NB));
	R(flock(o, LOCK_SH | LOCK_NB));
	in_child(flock_try);
	R(flock(o, LOCK_SH | LOCK_NB));
	R(flock(fd, LOCK_EX | LOCK_NB));
	R(flock(o, LOCK_EX | LOCK_NB));
	R(lock(fd, F_SETLK, F_WRLCK, 0, 0));
	in_child(flock_try);
	close(fd);
	R(flock(o, LOCK_EX | LOCK_NB));
}

CASE(flock_wait, flock)
{
	fresh("/tmp/lk");
	fd = made("f", "0123456789");
	pipe(from);
	R(flock(fd, LOCK_EX));
	if (fork() == 0) {
		int o = open("f", O_RDWR);
		struct sigaction a = {.sa_handler = on_alarm};
		sigaction(SIGALRM, &a, 0);
		ualarm(20000, 20000);
		r = flock(o, LOCK_EX);
		int e = errno;
		ualarm(0, 0);
		result("interrupted", r, e);
		step(from);
		R(flock(o, LOCK_EX));
		_exit(0);
	}
	await(from);
	usleep(20000);
	say("unlock");
	r = flock(fd, LOCK_UN);
	wait(0);
	say("%d", r);
}

CASE(threads_share, fcntl)
{
	fresh("/tmp/lk");
	fd = made("f", "0123456789");
	int o = open("f", O_RDWR);
	R(lock(fd, F_SETLK, F_WRLCK, 0, 0));
	R(lock(o, F_SETLK, F_WRLCK, 0, 0));
	R(lock(o, F_SETLK, F_RDLCK, 3, 3));
	in_child(look);
	R(lock(o, F_SETLK, F_UNLCK, 0, 0));
	in_child(look);
}

static int order(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }

CASE(listed, fcntl, flock)
{
	fresh("/tmp/lk");
	fd = made("f", "0123456789");
	int o = open("f", O_RDWR);
	lock(fd, F_SETLK, F_WRLCK, 2, 3);
	lock(o, F_OFD_SETLK, F_RDLCK, 20, 0);
	flock(o, LOCK_EX);
	FILE *f = fopen("/proc/locks", "r");
	char line[200], a[32], b[32], c[32], from[32], upto[32];
	char *lines[9];
	int n, pid, k = 0;
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "%d: %31s %31s %31s %d %*s %31s %31s", &n, a, b, c, &pid, from, upto) == 7)
			if (k < 9)
				asprintf(&lines[k++], "%s %s %s %s %s %s", a, b, c, pid == getpid() ? "mine" : pid == -1 ? "-1" : "other", from, upto);
	qsort(lines, k, sizeof *lines, order);
	for (n = 0; n < k; n++)
		say("%s", lines[n]);
}

CASES
