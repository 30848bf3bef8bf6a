/* What the operations of io_uring do: files, names, pipes, sockets, polls, timeouts and
 * cancellation. */
/* link: -luring */
#include "uring.h"
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

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
/* A FIFO is opened without waiting for its other end. */
CASE(open_fifo, io_uring_enter)
{
	begin(8, 0);
	struct io_uring_sqe *s;
	unlink("u-fifo");
	MUST(mkfifo("u-fifo", 0600));
	int next = dup(0);
	close(next);
	s = sqe(1), io_uring_prep_openat(s, AT_FDCWD, "u-fifo", O_WRONLY, 0), USER(s, 1);
	go("to write, alone", 1);
	s = sqe(1), io_uring_prep_openat(s, AT_FDCWD, "u-fifo", O_RDONLY, 0), USER(s, 1);
	io_uring_submit(&ring);
	struct io_uring_cqe *c;
	io_uring_wait_cqe(&ring, &c);
	int r = c->res;
	io_uring_cqe_seen(&ring, c);
	say("to read: %d, non-blocking %d", r == next, fcntl(r, F_GETFL) & O_NONBLOCK);
	struct open_how how = {.flags = O_WRONLY};
	s = sqe(1), io_uring_prep_openat2(s, AT_FDCWD, "u-fifo", &how), USER(s, 1);
	io_uring_submit(&ring);
	io_uring_wait_cqe(&ring, &c);
	int w = c->res;
	io_uring_cqe_seen(&ring, c);
	say("to write: %d, non-blocking %d", w == next + 1, fcntl(w, F_GETFL) & O_NONBLOCK);
	R(write(w, "x", 1));
	s = sqe(1), io_uring_prep_openat(s, AT_FDCWD, "u-fifo", O_RDONLY | O_NONBLOCK, 0), USER(s, 1);
	io_uring_submit(&ring);
	io_uring_wait_cqe(&ring, &c);
	say("asked for: non-blocking %d", fcntl(c->res, F_GETFL) & O_NONBLOCK ? 1 : 0);
	io_uring_cqe_seen(&ring, c);
	unlink("u-fifo");
}

CASES
