/* Linux AIO by its system calls: contexts, operations, events, polls, cancellation. */
#include "../../programs/c/check.h"
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static aio_context_t ctx;

static long setup(unsigned n, aio_context_t *c) { return syscall(SYS_io_setup, n, c); }
static long destroy(aio_context_t c) { return syscall(SYS_io_destroy, c); }
static long submit(long n, struct iocb **l) { return syscall(SYS_io_submit, ctx, n, l); }
static long getevents(long min, long n, struct io_event *e, struct timespec *t) { return syscall(SYS_io_getevents, ctx, min, n, e, t); }

static struct iocb op(int code, int fd, void *buf, long n, long off, long data)
{
	struct iocb o = {.aio_lio_opcode = code, .aio_fildes = fd, .aio_buf = (unsigned long)buf, .aio_nbytes = n, .aio_offset = off, .aio_data = data};
	return o;
}

static void run(const char *what, struct iocb o)
{
	struct iocb *l[] = {&o};
	struct io_event e = {0};
	struct timespec soon = {1, 0};
	errno = 0;
	long n = submit(1, l);
	if (n != 1) {
		say("%s: submit %ld %s", what, n, errname(errno));
		return;
	}
	n = getevents(1, 1, &e, &soon);
	say("%s: %ld event, data %lld, its own %d, res %lld res2 %lld", what, n, e.data, e.obj == (unsigned long)&o, e.res, e.res2);
}

static void begin(void)
{
	alarm(30);
	if (chdir("/tmp") < 0)
		say("chdir: %s", errname(errno));
	ctx = 0;
	MUST(setup(8, &ctx));
}

CASE(setup, io_setup, io_destroy)
{
	aio_context_t c = 1;
	R(setup(4, &c));
	c = 0;
	R(setup(0, &c));
	R(setup(4, 0));
	R(setup(4, (void *)8));
	R(setup(0x10000000, &c));
	R(setup(70000, &c));
	R(setup(4, &c));
	IS(c != 0);
	aio_context_t d = 0;
	R(setup(4, &d));
	IS(d != c);
	R(destroy(c));
	R(destroy(c));
	R(destroy(0));
	R(destroy(12345));
	R(destroy(d));
}

CASE(files, io_submit, io_getevents)
{
	begin();
	char b[16] = "", c[16] = "";
	struct iovec v[2] = {{"ab", 2}, {"cd", 2}}, w[2] = {{b, 1}, {c, 8}};
	int fd = open("aio-file", O_RDWR | O_CREAT | O_TRUNC, 0600);
	run("pwrite", op(IOCB_CMD_PWRITE, fd, "hello", 5, 0, 1));
	run("pwritev", op(IOCB_CMD_PWRITEV, fd, v, 2, 5, 2));
	run("pread", op(IOCB_CMD_PREAD, fd, b, 16, 2, 3));
	say("'%s'", b);
	run("preadv", op(IOCB_CMD_PREADV, fd, w, 2, 3, 4));
	say("'%.1s' '%s'", b, c);
	run("behind the end", op(IOCB_CMD_PREAD, fd, b, 16, 200, 5));
	run("to nowhere", op(IOCB_CMD_PREAD, fd, (void *)8, 16, 0, 6));
	run("fsync", op(IOCB_CMD_FSYNC, fd, 0, 0, 0, 7));
	run("fdsync", op(IOCB_CMD_FDSYNC, fd, 0, 0, 0, 8));
	run("fsync with a length", op(IOCB_CMD_FSYNC, fd, 0, 1, 0, 9));
	run("no file", op(IOCB_CMD_PREAD, 99, b, 16, 0, 10));
	run("noop", op(6, fd, b, 16, 0, 11));
	run("no operation", op(77, fd, b, 16, 0, 12));
	run("negative length", op(IOCB_CMD_PREAD, fd, b, -1, 0, 13));
	run("negative offset", op(IOCB_CMD_PREAD, fd, b, 1, -5, 14));
	int ro = open("aio-file", O_RDONLY);
	run("write to one for reading", op(IOCB_CMD_PWRITE, ro, "x", 1, 0, 15));
	int wo = open("aio-file", O_WRONLY);
	run("read of one for writing", op(IOCB_CMD_PREAD, wo, b, 1, 0, 16));
	struct iocb o = op(IOCB_CMD_PREAD, fd, b, 1, 0, 17);
	o.aio_reserved2 = 1;
	run("a reserved field", o);
	o = op(IOCB_CMD_PREAD, fd, b, 1, 0, 18), o.aio_rw_flags = 0x1000;
	run("a flag", o);
	o = op(IOCB_CMD_PWRITE, fd, "end", 3, 0, 19), o.aio_rw_flags = 0x10 /* RWF_APPEND */;
	run("append", o);
	struct stat st;
	fstat(fd, &st);
	say("size %ld", (long)st.st_size);
	int p[2];
	MUST(pipe(p));
	run("write to a pipe", op(IOCB_CMD_PWRITE, p[1], "pipe", 4, 0, 20));
	run("read from it", op(IOCB_CMD_PREAD, p[0], b, 4, 0, 21));
	int dir = open("/", O_RDONLY);
	run("a directory", op(IOCB_CMD_PREAD, dir, b, 4, 0, 22));
	unlink("aio-file");
}

CASE(many, io_submit, io_getevents)
{
	begin();
	char b[16];
	int fd = open("/dev/zero", O_RDONLY);
	struct iocb o[10], *l[10];
	struct io_event e[10];
	for (int i = 0; i < 10; i++)
		o[i] = op(IOCB_CMD_PREAD, fd, b, i + 1, 0, 100 + i), l[i] = &o[i];
	R(submit(-1, l));
	R(submit(0, l));
	R(submit(3, l));
	R(submit(1, (void *)8));
	struct iocb *bad[] = {&o[3], (void *)8};
	R(submit(2, bad));
	R(getevents(-1, 4, e, 0));
	R(getevents(5, 4, e, 0));
	R(getevents(0, 0, e, 0));
	R(getevents(1, 2, e, 0));
	say("%lld %lld", e[0].data, e[1].data);
	R(getevents(1, 10, (void *)8, 0));
	struct timespec soon = {0, 10000000};
	R(getevents(10, 10, e, &soon));
	R(getevents(1, 1, e, &soon));
	R(getevents(1, 1, e, (void *)8));
	R(syscall(SYS_io_getevents, 12345, 1, 1, e, 0));
	aio_context_t old = ctx;
	ctx = 12345;
	R(submit(1, l));
	ctx = old;
	R(destroy(ctx));
	R(submit(1, l));
}

CASE(eventfd, io_submit, io_getevents)
{
	begin();
	int e = eventfd(0, EFD_NONBLOCK), fd = open("/dev/zero", O_RDONLY);
	char b[8];
	unsigned long v = 0;
	struct iocb o = op(IOCB_CMD_PREAD, fd, b, 8, 0, 1);
	o.aio_flags = IOCB_FLAG_RESFD, o.aio_resfd = e;
	run("with a counter", o);
	R(read(e, &v, 8));
	say("%lu", v);
	o.aio_resfd = 99;
	run("no file", o);
	o.aio_resfd = fd;
	run("no counter", o);
}

static void *later(void *arg)
{
	usleep(20000);
	if (write(*(int *)arg, "x", 1) != 1)
		say("write: %s", errname(errno));
	return 0;
}

CASE(poll, io_submit, io_cancel)
{
	begin();
	int p[2];
	MUST(pipe(p));
	run("what is there", op(IOCB_CMD_POLL, p[1], (void *)POLLOUT, 0, 0, 1));
	struct iocb o = op(IOCB_CMD_POLL, p[0], (void *)POLLIN, 0, 0, 2), *l[] = {&o};
	struct io_event e;
	struct timespec none = {0, 0}, soon = {5, 0};
	R(submit(1, l));
	R(getevents(0, 1, &e, &none));
	pthread_t t;
	pthread_create(&t, 0, later, &p[1]);
	R(getevents(1, 1, &e, &soon));
	/* A wake-up tells more than was asked for: only that bit counts. */
	say("%lld %lld", e.data, e.res & POLLIN);
	pthread_join(t, 0);
	char c;
	MUST(read(p[0], &c, 1));
	R(submit(1, l));
	R(syscall(SYS_io_cancel, ctx, &o, &e));
	R(getevents(1, 1, &e, &soon));
	say("%lld", e.data);
	R(syscall(SYS_io_cancel, ctx, &o, &e));
	R(syscall(SYS_io_cancel, ctx, (void *)8, &e));
	o.aio_key = 5;
	R(syscall(SYS_io_cancel, ctx, &o, &e));
	o.aio_key = 0;
	R(syscall(SYS_io_cancel, 12345, &o, &e));
	run("with a length", op(IOCB_CMD_POLL, p[0], (void *)POLLIN, 1, 0, 3));
	run("with an offset", op(IOCB_CMD_POLL, p[0], (void *)POLLIN, 0, 1, 4));
	run("more than 16 bits", op(IOCB_CMD_POLL, p[0], (void *)0x10001, 0, 0, 5));
	close(p[1]);
	run("hang-up", op(IOCB_CMD_POLL, p[0], 0, 0, 0, 6));
}

static void nothing(int s) { (void)s; }

CASE(waits, io_getevents, io_pgetevents)
{
	begin();
	struct io_event e;
	struct sigaction sa = {.sa_handler = nothing};
	sigaction(SIGUSR1, &sa, 0);
	if (fork() == 0) {
		usleep(30000);
		kill(getppid(), SIGUSR1);
		_exit(0);
	}
	R(getevents(1, 1, &e, 0));
	wait(0);
	sigset_t m;
	sigemptyset(&m), sigaddset(&m, SIGUSR1);
	struct { sigset_t *m; size_t n; } s = {&m, 8};
	struct timespec soon = {0, 50000000};
	kill(0, 0);
	if (fork() == 0) {
		usleep(10000);
		kill(getppid(), SIGUSR1);
		_exit(0);
	}
	R(syscall(SYS_io_pgetevents, ctx, 1, 1, &e, &soon, &s));
	wait(0);
	s.n = 7;
	R(syscall(SYS_io_pgetevents, ctx, 1, 1, &e, &soon, &s));
	R(syscall(SYS_io_pgetevents, ctx, 1, 1, &e, &soon, (void *)8));
	R(syscall(SYS_io_pgetevents, ctx, 0, 1, &e, 0, 0));
}

CASE(inherited, io_setup)
{
	begin();
	if (fork() == 0) {
		struct io_event e;
		struct timespec none = {0, 0};
		R(getevents(0, 1, &e, &none));
		R(destroy(ctx));
		_exit(0);
	}
	wait(0);
	R(destroy(ctx));
	FILE *f = fopen("/proc/sys/fs/aio-nr", "r");
	int n = -1;
	if (f && fscanf(f, "%d", &n) == 1)
		IS(n < 100);
}

CASES
