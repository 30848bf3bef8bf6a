/* io_uring through liburing: the ring itself, links and drains, waiting, and the errors of
 * its calls. */
/* link: -luring */
#include "uring.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

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

CASE(sqpoll, io_uring_setup, io_uring_enter)
{
	begin(8, IORING_SETUP_SQPOLL);
	struct io_uring_sqe *s;
	for (int i = 1; i <= 3; i++)
		s = sqe(i), io_uring_prep_nop(s), USER(s, i);
	go("three nops", 3);
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
static void told(const char *when)
{
	struct io_uring_cqe *c;
	int n = 0, r[10], seen[10] = {0};
	for (; io_uring_peek_cqe(&ring, &c) == 0; n++) {
		r[c->user_data] = c->res, seen[c->user_data]++;
		io_uring_cqe_seen(&ring, c);
	}
	for (int i = 0; i < 10; i++)
		if (seen[i])
			say("  %s: %d: %s, %d times", when, i, res(r[i]), seen[i]);
	if (n == 0)
		say("  %s: nothing", when);
}

static void *submitter(void *arg)
{
	long r = io_uring_submit(&ring);
	if (r < 0)
		say("submit: %s", errname(-r));
	return 0;
}

/* The requests of others on one's ring: which end with a child, its program, or a thread. */
CASE(left, io_uring_enter, execve)
{
	static const char *ends[] = {"exit", "exec", "a thread's end"};
	begin(16, 0);
	for (int how = 0; how < 3; how++) {
		int p[2];
		char b[8];
		struct io_uring_sqe *s;
		MUST(pipe(p));
		fcntl(ring.ring_fd, F_SETFD, 0);
		s = sqe(1), io_uring_prep_poll_add(s, ring.ring_fd, POLLPRI), USER(s, 1);
		s = sqe(2), io_uring_prep_read(s, p[0], b, 8, 0), USER(s, 2);
		pthread_t t;
		if (how == 2) {
			pthread_create(&t, 0, submitter, 0);
			pthread_join(t, 0);
		} else {
			pid_t pid = fork();
			if (pid == 0) {
				submitter(0);
				if (how == 1)
					execl("/proc/self/exe", "uring", "none", (char *)0);
				_exit(0);
			}
			waitpid(pid, 0, 0);
		}
		usleep(20000);
		say("%s", ends[how]);
		told("then");
		MUST(write(p[1], "bytes", 5));
		usleep(50000);
		told("there is something to read");
		fcntl(p[0], F_SETFL, O_NONBLOCK);
		R(read(p[0], b, 8));
		struct io_uring_sqe *last = sqe(9);
		io_uring_prep_cancel64(last, 0, IORING_ASYNC_CANCEL_ANY), USER(last, 9);
		io_uring_submit(&ring);
		usleep(20000);
		told("cancelled");
	}
}
CASES
