/* io_uring through liburing: what its operations do, links, drains, timeouts,
 * cancellation, registered files and buffers, and the errors of the three calls. */
/* link: -luring */
#include "../../programs/c/check.h"
#include <fcntl.h>
#include <liburing.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

static struct io_uring ring;

static void begin(unsigned entries, unsigned flags)
{
	alarm(30);
	if (chdir("/tmp") < 0)
		say("chdir: %s", errname(errno));
	int r = io_uring_queue_init(entries, &ring, flags);
	if (r < 0)
		say("init: %s", errname(-r)), exit(1);
}

static struct io_uring_sqe *sqe(unsigned long user)
{
	struct io_uring_sqe *s = io_uring_get_sqe(&ring);
	memset(s, 0, sizeof *s);
	s->user_data = user;
	return s;
}

static const char *res(int r)
{
	static char b[8][24];
	static int i;
	char *p = b[i++ & 7];
	if (r < 0)
		snprintf(p, 24, "-%s", errname(-r));
	else
		snprintf(p, 24, "%d", r);
	return p;
}

/* go submits everything and says n completions, sorted by user data. */
static void go(const char *what, int n)
{
	struct io_uring_cqe *c, got[64];
	int s = io_uring_submit(&ring), k = 0;
	say("%s: submitted %s", what, res(s));
	while (k < n) {
		int r = io_uring_wait_cqe(&ring, &c);
		if (r < 0) {
			say("  wait: %s", errname(-r));
			return;
		}
		got[k++] = *c;
		io_uring_cqe_seen(&ring, c);
	}
	for (int i = 0; i < k; i++)
		for (int j = i + 1; j < k; j++)
			if (got[j].user_data < got[i].user_data) {
				struct io_uring_cqe t = got[i];
				got[i] = got[j], got[j] = t;
			}
	for (int i = 0; i < k; i++)
		say("  %llu: %s flags %#x", (unsigned long long)got[i].user_data, res(got[i].res), got[i].flags);
	if (io_uring_peek_cqe(&ring, &c) == 0)
		say("  AND MORE: %llu %s", (unsigned long long)c->user_data, res(c->res));
}

#define USER(s, n) ((s)->user_data = (n))

CASE(setup, io_uring_setup)
{
	struct io_uring_params p;
	struct { unsigned entries, flags, cq; } t[] = {
		{1, 0, 0}, {3, 0, 0}, {32768, 0, 0}, {32769, 0, 0}, {40000, IORING_SETUP_CLAMP, 0}, {0, 0, 0}, {4, IORING_SETUP_CQSIZE, 3},
		{4, IORING_SETUP_CQSIZE, 16}, {4, IORING_SETUP_CQSIZE, 0}, {4, IORING_SETUP_CQSIZE, 100000}, {4, IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP, 100000},
		{4, 1u << 31, 0}, {4, IORING_SETUP_SQ_AFF, 0}, {4, IORING_SETUP_TASKRUN_FLAG, 0}, {4, IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG, 0},
		{4, IORING_SETUP_DEFER_TASKRUN, 0}, {4, IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER, 0}, {4, IORING_SETUP_R_DISABLED, 0},
	};
	for (unsigned i = 0; i < sizeof t / sizeof *t; i++) {
		memset(&p, 0, sizeof p);
		p.flags = t[i].flags, p.cq_entries = t[i].cq;
		errno = 0;
		int fd = syscall(SYS_io_uring_setup, t[i].entries, &p);
		if (fd < 0)
			say("%u flags %#x cq %u: %s", t[i].entries, t[i].flags, t[i].cq, errname(errno));
		else
			say("%u flags %#x cq %u: sq %u cq %u features %#x cloexec %d", t[i].entries, t[i].flags, t[i].cq, p.sq_entries, p.cq_entries,
			    p.features, fcntl(fd, F_GETFD)), close(fd);
	}
	memset(&p, 0, sizeof p), p.resv[1] = 1;
	R(syscall(SYS_io_uring_setup, 4, &p));
	R(syscall(SYS_io_uring_setup, 4, (void *)8));
	memset(&p, 0, sizeof p), p.flags = IORING_SETUP_ATTACH_WQ, p.wq_fd = 99;
	R(syscall(SYS_io_uring_setup, 4, &p));
	p.wq_fd = 1;
	R(syscall(SYS_io_uring_setup, 4, &p));
}

CASE(enter_errors, io_uring_enter)
{
	begin(4, 0);
	R(syscall(SYS_io_uring_enter, 99, 0, 0, 0, 0, 0));
	R(syscall(SYS_io_uring_enter, 1, 0, 0, 0, 0, 0));
	R(syscall(SYS_io_uring_enter, ring.ring_fd, 0, 0, 1u << 20, 0, 0));
	R(syscall(SYS_io_uring_enter, ring.ring_fd, 0, 0, 0, 0, 0));
	R(syscall(SYS_io_uring_enter, ring.ring_fd, 5, 0, 0, 0, 0));
	R(syscall(SYS_io_uring_enter, ring.ring_fd, 0, 0, IORING_ENTER_GETEVENTS, 0, 0));
	R(syscall(SYS_io_uring_enter, ring.ring_fd, 0, 0, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, 0, 8));
	R(syscall(SYS_io_uring_enter, ring.ring_fd, 0, 1, IORING_ENTER_GETEVENTS, (void *)8, 8));
	R(syscall(SYS_io_uring_enter, ring.ring_fd, 0, 1, IORING_ENTER_GETEVENTS, &ring, 7));
	R(read(ring.ring_fd, &ring, 1));
	R(lseek(ring.ring_fd, 0, SEEK_SET));
	IS(mmap(0, 4096, PROT_READ, MAP_SHARED, ring.ring_fd, IORING_OFF_CQ_RING) != MAP_FAILED);
	struct io_uring off;
	io_uring_queue_init(4, &off, IORING_SETUP_R_DISABLED);
	R(syscall(SYS_io_uring_enter, off.ring_fd, 0, 0, 0, 0, 0));
	R(io_uring_enable_rings(&off) == 0);
	R(syscall(SYS_io_uring_enter, off.ring_fd, 0, 0, 0, 0, 0));
	say("again: %s", res(io_uring_enable_rings(&off)));
}

CASE(nop, io_uring_enter)
{
	begin(8, 0);
	for (int i = 1; i <= 3; i++)
		io_uring_prep_nop(sqe(i)), USER(&ring.sq.sqes[(ring.sq.sqe_tail - 1) & 7], i);
	go("three nops", 3);
	struct io_uring_sqe *s = sqe(0);
	s->opcode = 200, USER(s, 7);
	go("an operation that is not there", 1);
	s = sqe(0), s->flags = 0x80, USER(s, 8);
	go("a flag that is not there", 1);
	s = sqe(0), s->opcode = 200, USER(s, 1);
	s = sqe(0), io_uring_prep_nop(s), USER(s, 2);
	go("bad, then good", 1);
	go("the good one", 1);
	s = sqe(0), s->personality = 77, USER(s, 9);
	go("a personality that is not there", 1);
	s = sqe(0), io_uring_prep_nop(s), s->ioprio = 1, USER(s, 10);
	go("ioprio", 1);
}

CASE(submit_all, io_uring_enter)
{
	begin(8, IORING_SETUP_SUBMIT_ALL);
	struct io_uring_sqe *s = sqe(0);
	s->opcode = 200, USER(s, 1);
	s = sqe(0), io_uring_prep_nop(s), USER(s, 2);
	go("bad, then good", 2);
}

CASE(files, io_uring_enter, io_uring_setup)
{
	begin(16, 0);
	struct io_uring_sqe *s;
	char b[64] = "", p1[8] = "", p2[8] = "";
	struct iovec v[2] = {{"hello ", 6}, {"world", 5}}, w[2] = {{p1, 3}, {p2, 8}};
	s = sqe(1), io_uring_prep_openat(s, AT_FDCWD, "u-file", O_RDWR | O_CREAT | O_TRUNC, 0644), USER(s, 1);
	struct io_uring_cqe *c;
	io_uring_submit_and_wait(&ring, 1);
	io_uring_peek_cqe(&ring, &c);
	int fd = c->res;
	io_uring_cqe_seen(&ring, c);
	IS(fd > 2);
	s = sqe(1), io_uring_prep_writev(s, fd, v, 2, 0), USER(s, 1);
	go("writev", 1);
	s = sqe(1), io_uring_prep_readv(s, fd, w, 2, 0), USER(s, 1);
	go("readv", 1);
	say("'%s' '%s'", p1, p2);
	s = sqe(1), io_uring_prep_write(s, fd, "HELLO", 5, 0), USER(s, 1);
	go("write", 1);
	s = sqe(1), io_uring_prep_read(s, fd, b, 60, 0), USER(s, 1);
	go("read", 1);
	say("'%s'", b);
	s = sqe(1), io_uring_prep_read(s, fd, b, 60, 100), USER(s, 1);
	go("read behind the end", 1);
	s = sqe(1), io_uring_prep_read(s, fd, b, 3, -1), USER(s, 1);
	go("read at the position", 1);
	say("position %ld", (long)lseek(fd, 0, SEEK_CUR));
	s = sqe(1), io_uring_prep_read(s, fd, (void *)8, 3, 0), USER(s, 1);
	go("read to nowhere", 1);
	s = sqe(1), io_uring_prep_read(s, 99, b, 3, 0), USER(s, 1);
	go("read of no file", 1);
	s = sqe(1), io_uring_prep_fsync(s, fd, 0), USER(s, 1);
	s = sqe(1), io_uring_prep_fsync(s, fd, IORING_FSYNC_DATASYNC), USER(s, 2);
	s = sqe(1), io_uring_prep_fsync(s, fd, 4), USER(s, 3);
	go("fsync", 3);
	s = sqe(1), io_uring_prep_fallocate(s, fd, 0, 0, 1000), USER(s, 1);
	go("fallocate", 1);
	s = sqe(1), io_uring_prep_fadvise(s, fd, 0, 100, POSIX_FADV_WILLNEED), USER(s, 1);
	s = sqe(1), io_uring_prep_madvise(s, (void *)((unsigned long)b & ~4095ul), 4096, MADV_NORMAL), USER(s, 2);
	s = sqe(1), io_uring_prep_sync_file_range(s, fd, 100, 0, 0), USER(s, 3);
	go("advice", 3);
	struct statx st;
	s = sqe(1), io_uring_prep_statx(s, AT_FDCWD, "u-file", 0, STATX_SIZE, &st), USER(s, 1);
	go("statx", 1);
	say("size %llu", (unsigned long long)st.stx_size);
	s = sqe(1), io_uring_prep_close(s, fd), USER(s, 1);
	go("close", 1);
	s = sqe(1), io_uring_prep_close(s, fd), USER(s, 1);
	go("close again", 1);
	s = sqe(1), io_uring_prep_close(s, ring.ring_fd), USER(s, 1);
	go("close of the ring", 1);
	unlink("u-file");
}

CASE(names, io_uring_enter)
{
	begin(16, 0);
	struct io_uring_sqe *s;
	close(creat("n1", 0644));
	s = sqe(1), io_uring_prep_mkdirat(s, AT_FDCWD, "nd", 0755), USER(s, 1);
	go("mkdirat", 1);
	s = sqe(1), io_uring_prep_mkdirat(s, AT_FDCWD, "nd", 0755), USER(s, 1);
	go("mkdirat again", 1);
	s = sqe(1), io_uring_prep_renameat(s, AT_FDCWD, "n1", AT_FDCWD, "nd/n2", 0), USER(s, 1);
	go("renameat", 1);
	s = sqe(1), io_uring_prep_linkat(s, AT_FDCWD, "nd/n2", AT_FDCWD, "nd/n3", 0), USER(s, 1);
	go("linkat", 1);
	s = sqe(1), io_uring_prep_symlinkat(s, "n2", AT_FDCWD, "nd/n4"), USER(s, 1);
	go("symlinkat", 1);
	s = sqe(1), io_uring_prep_fsetxattr(s, 99, "trusted.a", "1", 0, 1), USER(s, 1);
	go("fsetxattr", 1);
	s = sqe(1), io_uring_prep_setxattr(s, "trusted.a", "xyz", "nd/n2", 0, 3), USER(s, 1);
	go("setxattr", 1);
	char v[8] = "";
	s = sqe(1), io_uring_prep_getxattr(s, "trusted.a", v, "nd/n2", 8), USER(s, 1);
	go("getxattr", 1);
	say("'%s'", v);
	for (int i = 2; i <= 4; i++) {
		char p[8];
		snprintf(p, sizeof p, "nd/n%d", i);
		s = sqe(1), io_uring_prep_unlinkat(s, AT_FDCWD, p, 0), USER(s, i);
		go("unlinkat", 1);
	}
	s = sqe(1), io_uring_prep_unlinkat(s, AT_FDCWD, "nd", AT_REMOVEDIR), USER(s, 1);
	go("rmdir", 1);
	struct open_how how = {.flags = O_RDONLY | O_DIRECTORY};
	s = sqe(1), io_uring_prep_openat2(s, AT_FDCWD, "no-such", &how), USER(s, 1);
	go("openat2", 1);
}

CASE(pipe_waits, io_uring_enter)
{
	begin(8, 0);
	int p[2];
	char b[16] = "";
	struct io_uring_sqe *s;
	MUST(pipe(p));
	s = sqe(1), io_uring_prep_read(s, p[0], b, 16, 0), USER(s, 1);
	go("read of an empty pipe", 0);
	MUST(write(p[1], "late", 4));
	go("after the write", 1);
	say("'%s'", b);
	s = sqe(1), io_uring_prep_read(s, p[0], b, 16, 0), USER(s, 2);
	s = sqe(1), io_uring_prep_write(s, p[1], "both", 4, 0), USER(s, 3);
	go("read and write at once", 2);
	say("'%s'", b);
	fcntl(p[0], F_SETFL, O_NONBLOCK);
	s = sqe(1), io_uring_prep_read(s, p[0], b, 16, 0), USER(s, 4);
	go("nonblocking", 0);
	MUST(write(p[1], "z", 1));
	go("waits all the same", 1);
	s = sqe(1), io_uring_prep_read(s, p[0], b, 16, 0), s->rw_flags = RWF_NOWAIT, USER(s, 4);
	go("unless told not to", 1);
	close(p[1]);
	s = sqe(1), io_uring_prep_read(s, p[0], b, 16, 0), USER(s, 5);
	go("end of file", 1);
	MUST(pipe(p));
	close(p[0]);
	signal(SIGPIPE, SIG_IGN);
	s = sqe(1), io_uring_prep_write(s, p[1], "x", 1, 0), USER(s, 6);
	go("no reader", 1);
}

static void *writer(void *arg)
{
	usleep(30000);
	if (write(*(int *)arg, "woken", 5) != 5)
		say("write: %s", errname(errno));
	return 0;
}

/* The program spins on the completion ring and makes no call. */
CASE(no_call, io_uring_enter)
{
	begin(8, 0);
	int p[2];
	char b[16] = "";
	pthread_t t;
	MUST(pipe(p));
	struct io_uring_sqe *s = sqe(1);
	io_uring_prep_read(s, p[0], b, 16, 0), USER(s, 1);
	say("submitted %d", io_uring_submit(&ring));
	pthread_create(&t, 0, writer, &p[1]);
	while (!*(volatile unsigned *)ring.cq.ktail)
		;
	struct io_uring_cqe *c;
	io_uring_peek_cqe(&ring, &c);
	say("seen without a call: %d '%s'", c->res, b);
	pthread_join(t, 0);
}

/* It waits in another call meanwhile, which goes on. */
CASE(other_call, io_uring_enter)
{
	begin(8, 0);
	int p[2], q[2];
	char b[16] = "", x;
	pthread_t t;
	MUST(pipe(p));
	MUST(pipe(q));
	struct io_uring_sqe *s = sqe(1);
	io_uring_prep_read(s, p[0], b, 5, 0), USER(s, 1);
	s->flags |= IOSQE_IO_LINK;
	s = sqe(1), io_uring_prep_write(s, q[1], "q", 1, 0), USER(s, 2);
	say("submitted %d", io_uring_submit(&ring));
	pthread_create(&t, 0, writer, &p[1]);
	say("read of the other pipe: %d %c", (int)read(q[0], &x, 1), 'q');
	go("both", 2);
	say("'%s'", b);
	pthread_join(t, 0);
}

CASE(poll, io_uring_enter)
{
	begin(8, 0);
	int p[2];
	char b;
	struct io_uring_sqe *s;
	MUST(pipe(p));
	s = sqe(1), io_uring_prep_poll_add(s, p[1], POLLOUT), USER(s, 1);
	go("poll of what is there", 1);
	s = sqe(1), io_uring_prep_poll_add(s, p[0], POLLIN), USER(s, 2);
	go("poll of what is not", 0);
	MUST(write(p[1], "x", 1));
	go("now", 1);
	MUST(read(p[0], &b, 1));
	s = sqe(1), io_uring_prep_poll_add(s, p[0], POLLIN), USER(s, 3);
	go("again", 0);
	s = sqe(1), io_uring_prep_poll_remove(s, 3), USER(s, 4);
	go("removed", 2);
	s = sqe(1), io_uring_prep_poll_remove(s, 3), USER(s, 5);
	go("remove of nothing", 1);
	s = sqe(1), io_uring_prep_poll_multishot(s, p[0], POLLIN), USER(s, 6);
	go("multishot", 0);
	MUST(write(p[1], "x", 1));
	go("first", 1);
	MUST(read(p[0], &b, 1));
	MUST(write(p[1], "x", 1));
	go("second", 1);
	s = sqe(1), io_uring_prep_poll_remove(s, 6), USER(s, 7);
	go("ended", 2);
	s = sqe(1), io_uring_prep_poll_add(s, 99, POLLIN), USER(s, 8);
	go("no file", 1);
	close(p[1]);
	s = sqe(1), io_uring_prep_poll_add(s, p[0], 0), USER(s, 9);
	go("hang-up", 1);
}

CASE(links, io_uring_enter)
{
	begin(16, 0);
	struct io_uring_sqe *s;
	char b[8];
	for (int i = 1; i <= 3; i++)
		s = sqe(i), io_uring_prep_nop(s), USER(s, i), s->flags |= i < 3 ? IOSQE_IO_LINK : 0;
	go("three linked", 3);
	s = sqe(1), io_uring_prep_read(s, 99, b, 1, 0), USER(s, 1), s->flags |= IOSQE_IO_LINK;
	s = sqe(2), io_uring_prep_nop(s), USER(s, 2), s->flags |= IOSQE_IO_LINK;
	s = sqe(3), io_uring_prep_nop(s), USER(s, 3);
	s = sqe(4), io_uring_prep_nop(s), USER(s, 4);
	go("the first fails", 4);
	s = sqe(1), io_uring_prep_read(s, 99, b, 1, 0), USER(s, 1), s->flags |= IOSQE_IO_HARDLINK;
	s = sqe(2), io_uring_prep_nop(s), USER(s, 2);
	go("hard link", 2);
	s = sqe(1), io_uring_prep_nop(s), USER(s, 1), s->flags |= IOSQE_IO_LINK;
	s = sqe(2), s->opcode = 200, USER(s, 2), s->flags |= IOSQE_IO_LINK;
	s = sqe(3), io_uring_prep_nop(s), USER(s, 3);
	go("a bad one in the middle", 3);
	int fd = open("/tmp/short", O_RDWR | O_CREAT | O_TRUNC, 0600);
	MUST(write(fd, "abc", 3));
	s = sqe(1), io_uring_prep_read(s, fd, b, 8, 0), USER(s, 1), s->flags |= IOSQE_IO_LINK;
	s = sqe(2), io_uring_prep_nop(s), USER(s, 2);
	go("a short read breaks a link", 2);
	int p[2];
	MUST(pipe(p));
	s = sqe(1), io_uring_prep_read(s, p[0], b, 1, 0), USER(s, 1), s->flags |= IOSQE_IO_LINK;
	s = sqe(2), io_uring_prep_write(s, p[1], "z", 1, 0), USER(s, 2);
	go("behind one that waits", 0);
	MUST(write(p[1], "y", 1));
	go("it ran", 2);
	s = sqe(1), io_uring_prep_nop(s), USER(s, 1), s->flags |= IOSQE_CQE_SKIP_SUCCESS;
	s = sqe(2), io_uring_prep_read(s, 99, b, 1, 0), USER(s, 2), s->flags |= IOSQE_CQE_SKIP_SUCCESS;
	go("success is not told", 1);
}

CASE(drain, io_uring_enter)
{
	begin(16, 0);
	struct io_uring_sqe *s;
	int p[2];
	char b[8];
	MUST(pipe(p));
	s = sqe(1), io_uring_prep_read(s, p[0], b, 8, 0), USER(s, 1);
	s = sqe(2), io_uring_prep_nop(s), USER(s, 2), s->flags |= IOSQE_IO_DRAIN;
	s = sqe(3), io_uring_prep_nop(s), USER(s, 3);
	say("submitted %d, ready %d", io_uring_submit(&ring), io_uring_cq_ready(&ring));
	MUST(write(p[1], "go", 2));
	go("then", 3);
}

CASE(timeouts, io_uring_enter)
{
	begin(16, 0);
	struct io_uring_sqe *s;
	struct __kernel_timespec soon = {0, 5000000}, never = {1000, 0}, bad = {0, -1};
	s = sqe(1), io_uring_prep_timeout(s, &soon, 0, 0), USER(s, 1);
	go("a timeout", 1);
	s = sqe(1), io_uring_prep_timeout(s, &never, 2, 0), USER(s, 1);
	s = sqe(2), io_uring_prep_nop(s), USER(s, 2);
	s = sqe(3), io_uring_prep_nop(s), USER(s, 3);
	go("two completions", 3);
	s = sqe(1), io_uring_prep_timeout(s, &never, 0, 0), USER(s, 1);
	go("one that stays", 0);
	s = sqe(2), io_uring_prep_timeout_remove(s, 1, 0), USER(s, 2);
	go("removed", 2);
	s = sqe(2), io_uring_prep_timeout_remove(s, 1, 0), USER(s, 2);
	go("removed again", 1);
	s = sqe(1), io_uring_prep_timeout(s, &never, 0, 0), USER(s, 1);
	go("one more", 0);
	s = sqe(2), io_uring_prep_timeout_update(s, &soon, 1, 0), USER(s, 2);
	go("made shorter", 2);
	s = sqe(1), io_uring_prep_timeout(s, &soon, 0, IORING_TIMEOUT_ABS), USER(s, 1);
	go("in the past", 1);
	s = sqe(1), io_uring_prep_timeout(s, &bad, 0, 0), USER(s, 1);
	s = sqe(2), io_uring_prep_timeout(s, (void *)8, 0, 0), USER(s, 2);
	s = sqe(3), io_uring_prep_timeout(s, &soon, 0, 1 << 20), USER(s, 3);
	s = sqe(4), io_uring_prep_timeout(s, &soon, 0, 0), s->len = 2, USER(s, 4);
	for (int i = 0; i < 4; i++)
		go("bad", 1);
	s = sqe(1), io_uring_prep_timeout(s, &soon, 0, IORING_TIMEOUT_ETIME_SUCCESS), USER(s, 1), s->flags |= IOSQE_IO_LINK;
	s = sqe(2), io_uring_prep_nop(s), USER(s, 2);
	go("ETIME as success", 2);
	s = sqe(1), io_uring_prep_timeout(s, &soon, 0, 0), USER(s, 1), s->flags |= IOSQE_IO_LINK;
	s = sqe(2), io_uring_prep_nop(s), USER(s, 2);
	go("ETIME as failure", 2);
}

CASE(link_timeout, io_uring_enter)
{
	begin(16, 0);
	struct io_uring_sqe *s;
	struct __kernel_timespec soon = {0, 5000000}, never = {1000, 0};
	int p[2];
	char b[8];
	MUST(pipe(p));
	s = sqe(1), io_uring_prep_read(s, p[0], b, 8, 0), USER(s, 1), s->flags |= IOSQE_IO_LINK;
	s = sqe(2), io_uring_prep_link_timeout(s, &soon, 0), USER(s, 2);
	go("too slow", 2);
	MUST(write(p[1], "x", 1));
	s = sqe(1), io_uring_prep_read(s, p[0], b, 8, 0), USER(s, 1), s->flags |= IOSQE_IO_LINK;
	s = sqe(2), io_uring_prep_link_timeout(s, &never, 0), USER(s, 2);
	go("quick enough", 2);
	s = sqe(2), io_uring_prep_link_timeout(s, &soon, 0), USER(s, 2);
	go("behind nothing", 1);
}

CASE(wait_timeout, io_uring_enter)
{
	begin(4, 0);
	struct __kernel_timespec soon = {0, 5000000};
	struct io_uring_cqe *c;
	say("wait: %s", res(io_uring_wait_cqe_timeout(&ring, &c, &soon)));
	signal(SIGALRM, SIG_IGN);
	if (fork() == 0) {
		usleep(30000);
		_exit(0);
	}
	struct sigaction sa = {.sa_handler = (void (*)(int))(void *)abs};
	sigaction(SIGCHLD, &sa, 0);
	say("interrupted: %s", res(io_uring_wait_cqe(&ring, &c)));
	wait(0);
}

CASE(cancel, io_uring_enter)
{
	begin(16, 0);
	struct io_uring_sqe *s;
	int p[2];
	char b[8];
	MUST(pipe(p));
	s = sqe(1), io_uring_prep_read(s, p[0], b, 8, 0), USER(s, 1);
	go("waits", 0);
	s = sqe(2), io_uring_prep_cancel64(s, 1, 0), USER(s, 2);
	go("cancelled", 2);
	s = sqe(2), io_uring_prep_cancel64(s, 1, 0), USER(s, 2);
	go("not there", 1);
	for (int i = 1; i <= 3; i++)
		s = sqe(i), io_uring_prep_poll_add(s, p[0], POLLIN), USER(s, i);
	go("three", 0);
	s = sqe(9), io_uring_prep_cancel_fd(s, p[0], IORING_ASYNC_CANCEL_ALL), USER(s, 9);
	go("all of a file", 4);
	s = sqe(1), io_uring_prep_poll_add(s, p[0], POLLIN), USER(s, 1);
	s = sqe(2), io_uring_prep_read(s, p[0], b, 8, 0), USER(s, 2);
	go("two", 0);
	s = sqe(9), io_uring_prep_cancel64(s, 0, IORING_ASYNC_CANCEL_ANY), USER(s, 9);
	go("any", 3);
	s = sqe(9), io_uring_prep_cancel64(s, 0, 1 << 20), USER(s, 9);
	go("flags", 1);
}

CASE(sockets, io_uring_enter)
{
	begin(16, 0);
	struct io_uring_sqe *s;
	char b[32] = "";
	int l = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, from;
	socklen_t n = sizeof a, fl = sizeof from;
	MUST(bind(l, (void *)&a, n));
	MUST(listen(l, 5));
	getsockname(l, (void *)&a, &n);
	int c = socket(AF_INET, SOCK_STREAM, 0);
	s = sqe(1), io_uring_prep_accept(s, l, (void *)&from, &fl, SOCK_CLOEXEC), USER(s, 1);
	s = sqe(2), io_uring_prep_connect(s, c, (void *)&a, n), USER(s, 2);
	io_uring_submit(&ring);
	struct io_uring_cqe *q;
	int conn = -1;
	for (int i = 0; i < 2; i++) {
		io_uring_wait_cqe(&ring, &q);
		if (q->user_data == 1)
			conn = q->res;
		else
			say("connect: %s", res(q->res));
		io_uring_cqe_seen(&ring, q);
	}
	say("accepted %d, family %d, cloexec %d", conn > 2, from.sin_family, fcntl(conn, F_GETFD));
	s = sqe(1), io_uring_prep_recv(s, conn, b, 32, 0), USER(s, 1);
	go("recv waits", 0);
	s = sqe(2), io_uring_prep_send(s, c, "hi there", 8, 0), USER(s, 2);
	go("send", 2);
	say("'%s'", b);
	s = sqe(1), io_uring_prep_recv(s, conn, b, 32, MSG_DONTWAIT), USER(s, 1);
	go("recv that does not wait", 1);
	MUST(write(c, "more to come", 12));
	s = sqe(1), io_uring_prep_recv(s, conn, b, 5, 0), USER(s, 1);
	go("a part", 1);
	s = sqe(1), io_uring_prep_recv(s, conn, b, 32, 0), USER(s, 1);
	go("the rest", 1);
	struct iovec v = {b, 32}, w = {"message", 7};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1}, o = {.msg_iov = &w, .msg_iovlen = 1};
	s = sqe(1), io_uring_prep_recvmsg(s, c, &m, 0), USER(s, 1);
	s = sqe(2), io_uring_prep_sendmsg(s, conn, &o, 0), USER(s, 2);
	go("messages", 2);
	say("'%.7s'", b);
	s = sqe(1), io_uring_prep_shutdown(s, c, SHUT_WR), USER(s, 1);
	go("shutdown", 1);
	s = sqe(1), io_uring_prep_recv(s, conn, b, 32, 0), USER(s, 1);
	go("the end", 1);
	s = sqe(1), io_uring_prep_send(s, 0, "x", 1, 0), USER(s, 1);
	go("no socket", 1);
	s = sqe(1), io_uring_prep_socket(s, AF_UNIX, SOCK_STREAM, 0, 0), USER(s, 1);
	io_uring_submit_and_wait(&ring, 1);
	io_uring_peek_cqe(&ring, &q);
	IS(q->res > 2);
	io_uring_cqe_seen(&ring, q);
	close(c);
	c = socket(AF_INET, SOCK_STREAM, 0);
	close(l);
	s = sqe(1), io_uring_prep_connect(s, c, (void *)&a, n), USER(s, 1);
	go("refused", 1);
}

CASE(accept_multishot, io_uring_enter)
{
	begin(16, 0);
	int l = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un_ { sa_family_t f; char p[108]; } a = {AF_UNIX, "\0uring"};
	MUST(bind(l, (void *)&a, 8));
	MUST(listen(l, 5));
	struct io_uring_sqe *s = sqe(1);
	io_uring_prep_multishot_accept(s, l, 0, 0, 0), USER(s, 1);
	io_uring_submit(&ring);
	struct io_uring_cqe *q;
	for (int i = 0; i < 3; i++) {
		int c = socket(AF_UNIX, SOCK_STREAM, 0);
		MUST(connect(c, (void *)&a, 8));
		io_uring_wait_cqe(&ring, &q);
		say("accepted %d flags %#x", q->res > 2, q->flags);
		io_uring_cqe_seen(&ring, q);
	}
	s = sqe(2), io_uring_prep_cancel64(s, 1, 0), USER(s, 2);
	go("ended", 2);
}

CASE(fixed_files, io_uring_register, io_uring_enter)
{
	begin(16, 0);
	struct io_uring_sqe *s;
	int p[2], t[4] = {-1, -1, -1, -1};
	char b[8] = "";
	MUST(pipe(p));
	say("none: %s", res(io_uring_unregister_files(&ring)));
	t[0] = p[0], t[2] = p[1];
	say("register: %s", res(io_uring_register_files(&ring, t, 4)));
	say("again: %s", res(io_uring_register_files(&ring, t, 4)));
	close(p[0]);
	s = sqe(1), io_uring_prep_write(s, 2, "fixed", 5, 0), s->flags |= IOSQE_FIXED_FILE, USER(s, 1);
	s = sqe(2), io_uring_prep_read(s, 0, b, 8, 0), s->flags |= IOSQE_FIXED_FILE, USER(s, 2);
	go("through numbers", 2);
	say("'%s'", b);
	s = sqe(1), io_uring_prep_read(s, 1, b, 8, 0), s->flags |= IOSQE_FIXED_FILE, USER(s, 1);
	go("an empty one", 1);
	s = sqe(2), io_uring_prep_read(s, 7, b, 8, 0), s->flags |= IOSQE_FIXED_FILE, USER(s, 2);
	go("beyond the table", 1);
	int up[2] = {p[1], -1};
	say("update: %s", res(io_uring_register_files_update(&ring, 1, up, 2)));
	say("update beyond: %s", res(io_uring_register_files_update(&ring, 3, up, 2)));
	s = sqe(1), io_uring_prep_files_update(s, up, 1, 3), USER(s, 1);
	go("update by operation", 1);
	s = sqe(1), io_uring_prep_openat_direct(s, AT_FDCWD, "/tmp/direct", O_RDWR | O_CREAT, 0600, 0), USER(s, 1);
	go("open into a place", 1);
	s = sqe(1), io_uring_prep_write(s, 0, "direct", 6, 0), s->flags |= IOSQE_FIXED_FILE, USER(s, 1);
	go("write there", 1);
	s = sqe(1), io_uring_prep_close_direct(s, 0), USER(s, 1);
	go("close there", 1);
	s = sqe(1), io_uring_prep_close_direct(s, 0), USER(s, 1);
	go("close again", 1);
	say("unregister: %s", res(io_uring_unregister_files(&ring)));
	t[0] = ring.ring_fd, t[2] = -1;
	say("the ring itself: %s", res(io_uring_register_files(&ring, t, 1)));
	t[0] = 99;
	say("no file: %s", res(io_uring_register_files(&ring, t, 1)));
	say("none: %s", res(io_uring_register_files(&ring, t, 0)));
}

CASE(fixed_buffers, io_uring_register, io_uring_enter)
{
	begin(16, 0);
	struct io_uring_sqe *s;
	char *b = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open("/tmp/fixed", O_RDWR | O_CREAT | O_TRUNC, 0600);
	struct iovec v = {b, 4096}, bad = {(void *)8, 4096};
	say("none: %s", res(io_uring_unregister_buffers(&ring)));
	say("bad: %s", res(io_uring_register_buffers(&ring, &bad, 1)));
	say("register: %s", res(io_uring_register_buffers(&ring, &v, 1)));
	say("again: %s", res(io_uring_register_buffers(&ring, &v, 1)));
	strcpy(b, "registered");
	s = sqe(1), io_uring_prep_write_fixed(s, fd, b, 10, 0, 0), USER(s, 1);
	go("write", 1);
	memset(b, 0, 4096);
	s = sqe(1), io_uring_prep_read_fixed(s, fd, b + 100, 50, 0, 0), USER(s, 1);
	go("read", 1);
	say("'%s'", b + 100);
	s = sqe(1), io_uring_prep_read_fixed(s, fd, b + 4000, 200, 0, 0), USER(s, 1);
	go("beyond the buffer", 1);
	s = sqe(1), io_uring_prep_read_fixed(s, fd, b, 50, 0, 3), USER(s, 1);
	go("beyond the table", 1);
	say("unregister: %s", res(io_uring_unregister_buffers(&ring)));
	say("none: %s", res(io_uring_register_buffers(&ring, &v, 0)));
}

CASE(provided_buffers, io_uring_enter)
{
	begin(16, 0);
	struct io_uring_sqe *s;
	static char b[4][16];
	int p[2];
	MUST(pipe(p));
	s = sqe(1), io_uring_prep_provide_buffers(s, b, 16, 4, 7, 10), USER(s, 1);
	go("provide", 1);
	MUST(write(p[1], "abc", 3));
	s = sqe(1), io_uring_prep_read(s, p[0], 0, 16, 0), s->flags |= IOSQE_BUFFER_SELECT, s->buf_group = 7, USER(s, 1);
	go("read", 1);
	say("'%s' '%s'", b[0], b[1]);
	s = sqe(1), io_uring_prep_read(s, p[0], 0, 2, 0), s->flags |= IOSQE_BUFFER_SELECT, s->buf_group = 7, USER(s, 1);
	go("waits", 0);
	MUST(write(p[1], "defg", 4));
	go("now", 1);
	s = sqe(1), io_uring_prep_remove_buffers(s, 1, 7), USER(s, 1);
	go("remove one", 1);
	s = sqe(1), io_uring_prep_remove_buffers(s, 9, 7), USER(s, 1);
	go("remove the rest", 1);
	s = sqe(1), io_uring_prep_read(s, p[0], 0, 2, 0), s->flags |= IOSQE_BUFFER_SELECT, s->buf_group = 7, USER(s, 1);
	go("none left", 1);
	s = sqe(1), io_uring_prep_remove_buffers(s, 9, 8), USER(s, 1);
	go("no such group", 1);
	s = sqe(1), io_uring_prep_nop(s), s->flags |= IOSQE_BUFFER_SELECT, USER(s, 1);
	go("an operation without buffers", 1);
}

CASE(eventfd, io_uring_register)
{
	begin(8, 0);
	int e = eventfd(0, EFD_NONBLOCK);
	unsigned long v = 0;
	say("none: %s", res(io_uring_unregister_eventfd(&ring)));
	say("register: %s", res(io_uring_register_eventfd(&ring, e)));
	say("again: %s", res(io_uring_register_eventfd(&ring, e)));
	struct io_uring_sqe *s;
	for (int i = 1; i <= 2; i++)
		s = sqe(i), io_uring_prep_nop(s), USER(s, i);
	go("two", 2);
	IS(read(e, &v, 8) == 8 && v >= 1);
	say("unregister: %s", res(io_uring_unregister_eventfd(&ring)));
	s = sqe(1), io_uring_prep_nop(s), USER(s, 1);
	go("one", 1);
	R(read(e, &v, 8));
	say("bad: %s", res(io_uring_register_eventfd(&ring, 99)));
	say("no eventfd: %s", res(io_uring_register_eventfd(&ring, 1)));
}

CASE(probe, io_uring_register)
{
	begin(4, 0);
	struct io_uring_probe *p = io_uring_get_probe_ring(&ring);
	if (!p) {
		say("no probe");
		return;
	}
	say("last %d, %d", p->last_op, p->ops_len);
	char l[64] = "";
	for (int i = 0; i < p->ops_len; i++)
		l[i] = p->ops[i].flags & IO_URING_OP_SUPPORTED ? 'y' : 'n';
	l[33] = l[46] = '.'; /* tee and uring_cmd are not here */
	say("%s", l);
	R(syscall(SYS_io_uring_register, ring.ring_fd, 99, 0, 0));
	R(syscall(SYS_io_uring_register, 99, IORING_REGISTER_PROBE, 0, 0));
	R(syscall(SYS_io_uring_register, 1, IORING_REGISTER_PROBE, 0, 0));
	R(syscall(SYS_io_uring_register, ring.ring_fd, IORING_REGISTER_PROBE, 0, 4));
	R(syscall(SYS_io_uring_register, ring.ring_fd, IORING_REGISTER_PROBE, p, 257));
}

CASE(personality, io_uring_register, io_uring_enter)
{
	begin(8, 0);
	close(open("/tmp/secret", O_CREAT | O_RDWR, 0600));
	int root = io_uring_register_personality(&ring);
	IS(root > 0);
	MUST(seteuid(1000));
	int user = io_uring_register_personality(&ring);
	IS(user > 0 && user != root);
	struct io_uring_sqe *s = sqe(1);
	io_uring_prep_openat(s, AT_FDCWD, "/tmp/secret", O_RDONLY, 0), USER(s, 1);
	go("as the user", 1);
	s = sqe(1), io_uring_prep_statx(s, AT_FDCWD, "/tmp/secret", 0, 0, (void *)&ring), s->personality = 999, USER(s, 1);
	go("as nobody", 1);
	s = sqe(1), io_uring_prep_openat(s, AT_FDCWD, "/tmp/secret", O_WRONLY | O_TRUNC, 0), s->personality = root, USER(s, 1);
	io_uring_submit_and_wait(&ring, 1);
	struct io_uring_cqe *c;
	io_uring_peek_cqe(&ring, &c);
	say("as root: %d", c->res > 2);
	io_uring_cqe_seen(&ring, c);
	say("euid %d", geteuid());
	say("unregister: %s", res(io_uring_unregister_personality(&ring, user)));
	say("again: %s", res(io_uring_unregister_personality(&ring, user)));
}

CASE(overflow, io_uring_enter)
{
	begin(4, 0);
	struct io_uring_sqe *s;
	for (int k = 0; k < 5; k++) {
		for (int i = 0; i < 4; i++)
			s = sqe(k * 4 + i), io_uring_prep_nop(s), USER(s, k * 4 + i);
		say("submitted %s", res(io_uring_submit(&ring)));
	}
	say("in the ring %u, overflowed %d", io_uring_cq_ready(&ring), io_uring_cq_has_overflow(&ring));
	struct io_uring_cqe *c;
	int n = 0, sum = 0;
	while (n < 20 && io_uring_wait_cqe(&ring, &c) == 0)
		n++, sum += c->user_data, io_uring_cqe_seen(&ring, c);
	say("%d came, sum %d, overflowed %d", n, sum, io_uring_cq_has_overflow(&ring));
}

CASE(polled, io_uring_setup)
{
	begin(8, 0);
	struct pollfd p = {ring.ring_fd, POLLIN | POLLOUT, 0};
	int n = poll(&p, 1, 0);
	say("empty: %d %#x", n, p.revents);
	int e = epoll_create1(0);
	struct epoll_event ev = {EPOLLIN}, got;
	MUST(epoll_ctl(e, EPOLL_CTL_ADD, ring.ring_fd, &ev));
	say("epoll: %d", epoll_wait(e, &got, 1, 0));
	struct io_uring_sqe *s = sqe(1);
	io_uring_prep_nop(s), USER(s, 1);
	io_uring_submit(&ring);
	n = poll(&p, 1, 0);
	say("with one: %d %#x", n, p.revents);
	say("epoll: %d", epoll_wait(e, &got, 1, 0));
}

CASE(splice, io_uring_enter)
{
	begin(8, 0);
	int p[2], fd = open("/tmp/spliced", O_RDWR | O_CREAT | O_TRUNC, 0600);
	char b[16] = "";
	MUST(pipe(p));
	MUST(write(fd, "0123456789", 10));
	struct io_uring_sqe *s = sqe(1);
	io_uring_prep_splice(s, fd, 2, p[1], -1, 5, 0), USER(s, 1);
	go("file to pipe", 1);
	s = sqe(1), io_uring_prep_splice(s, p[0], -1, fd, 20, 5, 0), USER(s, 1);
	go("pipe to file", 1);
	MUST(pread(fd, b, 5, 20));
	say("'%s'", b);
	s = sqe(1), io_uring_prep_splice(s, fd, 0, fd, 20, 5, 0), USER(s, 1);
	go("no pipe", 1);
	s = sqe(1), io_uring_prep_splice(s, 99, 0, fd, 20, 5, 0), USER(s, 1);
	go("no file", 1);
}

CASE(msg_ring, io_uring_enter)
{
	begin(8, 0);
	struct io_uring other;
	io_uring_queue_init(4, &other, 0);
	struct io_uring_sqe *s = sqe(1);
	io_uring_prep_msg_ring(s, other.ring_fd, 42, 4711, 0), USER(s, 1);
	go("to another ring", 1);
	struct io_uring_cqe *c;
	io_uring_peek_cqe(&other, &c);
	say("there: %llu %d", (unsigned long long)c->user_data, c->res);
	s = sqe(1), io_uring_prep_msg_ring(s, 1, 42, 4711, 0), USER(s, 1);
	go("to no ring", 1);
}

CASE(sqpoll, io_uring_setup, io_uring_enter)
{
	begin(8, IORING_SETUP_SQPOLL);
	struct io_uring_sqe *s;
	for (int i = 1; i <= 3; i++)
		s = sqe(i), io_uring_prep_nop(s), USER(s, i);
	go("three nops", 3);
}

CASE(zero_copy, io_uring_enter)
{
	begin(8, 0);
	int l = socket(AF_INET, SOCK_DGRAM, 0), c = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	char b[16] = "";
	MUST(bind(l, (void *)&a, n));
	getsockname(l, (void *)&a, &n);
	MUST(connect(c, (void *)&a, n));
	struct io_uring_sqe *s = sqe(1);
	io_uring_prep_send(s, c, "zero", 4, 0), s->opcode = IORING_OP_SEND_ZC, USER(s, 1);
	go("send", 2);
	MUST(recv(l, b, 16, 0));
	say("'%s'", b);
}

/* The ring's requests end with it, and nothing is left of the process. */
CASE(closed, io_uring_setup)
{
	begin(8, 0);
	int p[2];
	char b[8];
	MUST(pipe(p));
	struct io_uring_sqe *s = sqe(1);
	io_uring_prep_read(s, p[0], b, 8, 0), USER(s, 1);
	io_uring_submit(&ring);
	close(p[0]);
	signal(SIGPIPE, SIG_IGN);
	IS(write(p[1], "", 0) == 0);
	io_uring_queue_exit(&ring);
	for (int i = 0; i < 100 && write(p[1], "x", 1) == 1; i++)
		usleep(10000);
	R(write(p[1], "x", 1));
}

CASES
