/* io_uring and streams that take or give a part: what is counted, what is done again, what
 * breaks a link, and that no byte comes twice or is lost. How much fits is not said. */
/* link: -luring */
#include "uring.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <netinet/in.h>

enum { TOTAL = 2 << 20, MUCH = 1 << 20 };
static unsigned char out[TOTAL], in[TOTAL];

static void paint(void)
{
	for (unsigned i = 0; i < TOTAL; i++)
		out[i] = i * 2654435761u >> 24;
}

enum { PIPE, UNIX, TCP };

/* ends makes two: 0 to read from, 1 to write to. */
static void ends(int *p, int kind, int flags)
{
	int size = 65536;
	if (kind == PIPE) {
		MUST(pipe(p));
	} else if (kind == UNIX) {
		MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
		setsockopt(p[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	} else {
		int l = socket(AF_INET, SOCK_STREAM, 0);
		struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		socklen_t n = sizeof a;
		setsockopt(l, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
		MUST(bind(l, (void *)&a, n));
		MUST(listen(l, 5));
		getsockname(l, (void *)&a, &n);
		MUST(p[1] = socket(AF_INET, SOCK_STREAM, 0));
		setsockopt(p[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
		MUST(connect(p[1], (void *)&a, n));
		MUST(p[0] = accept(l, 0, 0));
		close(l);
	}
	if (flags)
		fcntl(p[1], F_SETFL, fcntl(p[1], F_GETFL) | flags);
}

/* full writes what fits, and says how much. */
static unsigned full(int fd)
{
	int fl = fcntl(fd, F_GETFL);
	unsigned n = 0;
	fcntl(fd, F_SETFL, fl | O_NONBLOCK);
	for (unsigned more = 1; more; usleep(5000)) { /* what is on its way leaves room behind it */
		more = 0;
		for (unsigned size = 65536; size; size /= 16)
			for (ssize_t k; (k = write(fd, out + n, size)) > 0;)
				n += k, more = 1;
	}
	fcntl(fd, F_SETFL, fl);
	return n;
}

static const char *part(int r, unsigned want)
{
	return r < 0 ? errname(-r) : r == 0 ? "none" : (unsigned)r == want ? "all" : "a part";
}

static struct iovec vec[2];
static struct msghdr msg;

/* submit, and use the memory of what describes the transfer for something else. */
static void submit(void)
{
	int r = io_uring_submit(&ring);
	if (r < 0)
		say("submit: %s", errname(-r)), exit(1);
	memset(vec, 0x77, sizeof vec), memset(&msg, 0x77, sizeof msg);
}

/* drain reads what comes until both requests are done and what they say has come, and nothing
 * more comes. Bytes follow those at from. */
static void drain(const char *what, int fd, unsigned from, unsigned want)
{
	struct io_uring_cqe *c;
	unsigned got = 0, bad = 0;
	int done = 0, idle = 0, res1 = 0, res2 = 0;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (idle < 30 && got < TOTAL) {
		ssize_t k = read(fd, in + got, TOTAL - got);
		if (k > 0)
			got += k, idle = 0;
		while (io_uring_peek_cqe(&ring, &c) == 0) {
			if (c->user_data == 1)
				res1 = c->res, done++;
			else if (c->user_data == 2)
				res2 = c->res, done++;
			else
				say("  %s: %s", c->user_data == 8 ? "limit" : "cancel", res(c->res));
			io_uring_cqe_seen(&ring, c);
		}
		if (k > 0)
			continue;
		struct pollfd p = {fd, POLLIN, 0};
		int all = done == 2 && (res1 <= 0 || got >= (unsigned)res1);
		if (poll(&p, 1, all ? 10 : 100) == 0 && (idle++, all))
			break;
	}
	while (bad < got && in[bad] == out[from + bad])
		bad++;
	say("%s: %d done, %s, linked %s, %s", what, done, part(res1, want), part(res2, 1),
	    bad < got ? "WRONG BYTES" : res1 > 0 && got != (unsigned)res1 ? "MORE OR LESS CAME" : "the same came");
}

static const char *kinds[] = {"pipe", "unix", "tcp"};

enum { SEND, SENDALL, SENDMSG, SENDMSGALL, WRITE, WRITEV, FIXED, NOPS };
static const char *ops[] = {"send", "send all", "sendmsg", "sendmsg all", "write", "writev", "write_fixed"};

static void prep(int op, int fd, unsigned char *at, unsigned n, unsigned flags)
{
	struct io_uring_sqe *s = sqe(1);
	vec[0] = (struct iovec){at, n / 3}, vec[1] = (struct iovec){at + n / 3, n - n / 3};
	msg = (struct msghdr){.msg_iov = vec, .msg_iovlen = 2};
	switch (op) {
	case SEND: case SENDALL:
		io_uring_prep_send(s, fd, at, n, op == SENDALL ? MSG_WAITALL : 0);
		break;
	case SENDMSG: case SENDMSGALL:
		io_uring_prep_sendmsg(s, fd, &msg, op == SENDMSGALL ? MSG_WAITALL : 0);
		break;
	case WRITE:
		io_uring_prep_write(s, fd, at, n, 0);
		break;
	case WRITEV:
		io_uring_prep_writev(s, fd, vec, 2, 0);
		break;
	case FIXED:
		io_uring_prep_write_fixed(s, fd, at, n, 0, 0);
		break;
	}
	USER(s, 1), s->flags |= flags | IOSQE_IO_LINK;
	s = sqe(2), io_uring_prep_nop(s), USER(s, 2);
}

static void flow(int kind, int nonblock, int first, unsigned flags)
{
	for (int op = 0; op < NOPS; op++) {
		int p[2];
		char what[100];
		if (kind == PIPE && op < WRITE)
			continue;
		/* a worker and who reads race otherwise */
		if (flags && kind != PIPE && (nonblock || (op != SENDALL && op != SENDMSGALL)))
			continue;
		ends(p, kind, nonblock);
		unsigned n = first ? full(p[1]) : 0, want = MUCH;
		if (n > TOTAL - want) {
			say("too much fits");
			want = TOTAL - n;
		}
		if (n) { /* what was there is read first, not to be counted */
			prep(op, p[1], out + n, want, flags);
			submit();
			for (unsigned got = 0; got < n;) {
				ssize_t k = read(p[0], in, n - got);
				if (k <= 0)
					break;
				got += k;
			}
		} else {
			prep(op, p[1], out, want, flags);
			submit();
		}
		snprintf(what, sizeof what, "%s %s%s%s%s", kinds[kind], ops[op], nonblock ? " nonblocking" : "", first ? " full" : "", flags ? " async" : "");
		drain(what, p[0], n, want);
		close(p[0]), close(p[1]);
	}
}

static void flows(int kind)
{
	begin(16, 0);
	paint();
	struct iovec v = {out, TOTAL};
	int r = io_uring_register_buffers(&ring, &v, 1);
	if (r < 0)
		say("register: %s", errname(-r));
	for (int i = 0; i < 8; i++)
		flow(kind, i & 1 ? O_NONBLOCK : 0, i & 2, i & 4 ? IOSQE_ASYNC : 0);
}

CASE(pipe_writes, io_uring_enter)
{
	flows(PIPE);
}

CASE(unix_sends, io_uring_enter)
{
	flows(UNIX);
}

CASE(tcp_sends, io_uring_enter)
{
	flows(TCP);
}

/* What is cancelled in the middle. */
CASE(cancelled, io_uring_enter)
{
	begin(16, 0);
	paint();
	struct iovec v = {out, TOTAL};
	io_uring_register_buffers(&ring, &v, 1);
	for (int kind = PIPE; kind <= TCP; kind++)
		for (int op = 0; op < NOPS; op++)
			for (int limit = 0; limit < 2; limit++) {
				int p[2];
				char what[100];
				struct __kernel_timespec soon = {.tv_nsec = 80000000};
				if (kind == PIPE && op < WRITE)
					continue;
				ends(p, kind, 0);
				if (limit) {
					prep(op, p[1], out, MUCH, 0);
					/* put the limit between */
					struct io_uring_sqe *s = &ring.sq.sqes[(ring.sq.sqe_tail - 1) & 15];
					io_uring_prep_link_timeout(s, &soon, 0), USER(s, 8), s->flags |= IOSQE_IO_LINK;
					s = sqe(2), io_uring_prep_nop(s), USER(s, 2);
				} else {
					prep(op, p[1], out, MUCH, 0);
				}
				submit();
				usleep(limit ? 150000 : 60000); /* it has moved what it can */
				if (!limit) {
					struct io_uring_sqe *s = sqe(9);
					io_uring_prep_cancel64(s, 1, 0), USER(s, 9);
					submit();
					usleep(10000);
				}
				snprintf(what, sizeof what, "%s %s %s", kinds[kind], ops[op], limit ? "limited" : "cancelled");
				drain(what, p[0], 0, MUCH);
				close(p[0]), close(p[1]);
			}
}

enum { RECV, RECVALL, RECVMSG, RECVMSGALL, READ, READV, NRECV };
static const char *rops[] = {"recv", "recv all", "recvmsg", "recvmsg all", "read", "readv"};

static void prep_in(int op, int fd, char *b, unsigned n, unsigned flags)
{
	struct io_uring_sqe *s = sqe(1);
	vec[0] = (struct iovec){b, 7}, vec[1] = (struct iovec){b + 7, n - 7};
	msg = (struct msghdr){.msg_iov = vec, .msg_iovlen = 2};
	memset(b, '.', n), b[n] = 0;
	switch (op) {
	case RECV: case RECVALL:
		io_uring_prep_recv(s, fd, b, n, op == RECVALL ? MSG_WAITALL : 0);
		break;
	case RECVMSG: case RECVMSGALL:
		io_uring_prep_recvmsg(s, fd, &msg, op == RECVMSGALL ? MSG_WAITALL : 0);
		break;
	case READ:
		io_uring_prep_read(s, fd, b, n, 0);
		break;
	case READV:
		io_uring_prep_readv(s, fd, vec, 2, 0);
		break;
	}
	USER(s, 1), s->flags |= flags | IOSQE_IO_LINK;
	s = sqe(2), io_uring_prep_nop(s), USER(s, 2);
}

static void receives(int kind, int flags)
{
	begin(16, 0);
	for (int op = 0; op < NRECV; op++)
		for (int how = 0; how < 4; how++) {
			static const char *hows[] = {"whole", "ended", "cancelled", "nonblocking"};
			char what[64], b[32];
			int p[2];
			if (kind == PIPE && op < READ)
				continue;
			ends(p, kind, 0);
			if (how == 3)
				fcntl(p[0], F_SETFL, O_NONBLOCK);
			snprintf(what, sizeof what, "%s %s %s", kinds[kind], rops[op], hows[how]);
			prep_in(op, p[0], b, 20, flags);
			go(what, 0);
			MUST(write(p[1], "abcdefghij", 10));
			usleep(10000);
			if (op == RECVALL || op == RECVMSGALL) {
				if (how == 1) {
					close(p[1]);
				} else if (how == 2) {
					struct io_uring_sqe *s = sqe(9);
					io_uring_prep_cancel64(s, 1, 0), USER(s, 9);
				} else {
					MUST(write(p[1], "0123456789xyz", 13));
				}
				go("the rest", how == 2 ? 3 : 2);
			} else {
				go("the rest", 2);
			}
			say("'%s'", b);
			close(p[0]), close(p[1]);
		}
}

CASE(pipe_receives, io_uring_enter)
{
	receives(PIPE, 0);
}

CASE(unix_receives, io_uring_enter)
{
	receives(UNIX, 0);
}

CASE(tcp_receives, io_uring_enter)
{
	receives(TCP, 0);
}

CASE(tcp_receives_async, io_uring_enter)
{
	receives(TCP, IOSQE_ASYNC);
}

/* Descriptors go with the first byte, once. */
CASE(rights, io_uring_enter)
{
	begin(16, 0);
	paint();
	for (int all = 0; all < 2; all++) {
		int p[2];
		union { char b[CMSG_SPACE(4)]; struct cmsghdr h; } u;
		ends(p, UNIX, 0);
		prep(all ? SENDMSGALL : SENDMSG, p[1], out, MUCH, 0);
		msg.msg_control = &u, msg.msg_controllen = sizeof u;
		u.h = (struct cmsghdr){CMSG_LEN(4), SOL_SOCKET, SCM_RIGHTS};
		*(int *)CMSG_DATA(&u.h) = 1;
		submit();
		unsigned got = 0, fds = 0, first = 0;
		int done = 0;
		struct io_uring_cqe *c;
		while (1) {
			struct pollfd q = {p[0], POLLIN, 0};
			while (io_uring_peek_cqe(&ring, &c) == 0)
				say("%llu: %s", (unsigned long long)c->user_data, c->user_data == 1 ? part(c->res, MUCH) : res(c->res)), done++, io_uring_cqe_seen(&ring, c);
			if (poll(&q, 1, done == 2 ? 0 : 1000) == 0)
				break;
			struct iovec v = {in, 65536};
			struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof u};
			ssize_t k = recvmsg(p[0], &m, 0);
			if (k <= 0)
				break;
			if (m.msg_controllen) {
				fds++, close(*(int *)CMSG_DATA(&u.h));
				if (!got)
					first = 1;
			}
			got += k;
		}
		say("descriptors came %d times, with the first byte %d", fds, first);
	}
}

enum { TOTCP, TOPIPE, FROMUNIX, NSPLICE };
static const char *splices[] = {"to tcp", "to pipe", "from unix"};

/* The other side of a splice is full, or takes a part. What a unix socket takes beyond its send
 * buffer is Linux's own (pages are hung on its last message, up to 6.4). */
CASE(splices, io_uring_enter)
{
	begin(16, 0);
	paint();
	for (int how = 0; how < NSPLICE; how++)
		for (int nonblock = 0; nonblock < 2; nonblock++)
			for (int cancel = 0; cancel < 2; cancel++) {
				int p[2], q[2];
				char what[64];
				unsigned left = 0;
				ends(p, how == FROMUNIX ? UNIX : PIPE, 0);
				ends(q, how == TOTCP ? TCP : PIPE, nonblock ? O_NONBLOCK : 0);
				unsigned n = full(q[1]);
				/* room for some, but not for all */
				for (unsigned k = 0; k < 8192;)
					k += read(q[0], in, 8192 - k);
				MUST(write(p[1], out + n, 60000));
				struct io_uring_sqe *s = sqe(1);
				io_uring_prep_splice(s, p[0], -1, q[1], -1, 60000, 0), USER(s, 1), s->flags |= IOSQE_IO_LINK;
				s = sqe(2), io_uring_prep_nop(s), USER(s, 2);
				submit();
				usleep(20000);
				if (cancel) {
					s = sqe(9), io_uring_prep_cancel64(s, 1, 0), USER(s, 9);
					submit();
					usleep(20000);
				}
				for (unsigned k = 0; k < n - 8192;)
					k += read(q[0], in, n - 8192 - k);
				snprintf(what, sizeof what, "%s%s%s", splices[how], nonblock ? " nonblocking" : "", cancel ? " cancelled" : "");
				drain(what, q[0], n, 60000);
				struct pollfd w = {p[0], POLLIN, 0};
				left = poll(&w, 1, 0);
				say("  %s left", left ? "something" : "nothing");
				close(p[0]), close(p[1]), close(q[0]), close(q[1]);
			}
}

/* Nothing to move: what waits, and how it ends. */
CASE(splice_waits, io_uring_enter)
{
	begin(16, 0);
	for (int how = 0; how < 3; how++)
		for (int end = 0; end < 3; end++) {
			static const char *hows[] = {"empty pipe", "full pipe", "empty socket"}, *endings[] = {"goes on", "cancelled", "limited"};
			int p[2], q[2];
			char what[64], b[16] = "";
			struct __kernel_timespec soon = {.tv_nsec = 30000000};
			ends(p, how == 2 ? UNIX : PIPE, 0);
			ends(q, how ? PIPE : UNIX, 0);
			unsigned n = 0;
			if (how == 1) {
				n = full(q[1]);
				MUST(write(p[1], "bytes", 5));
			}
			struct io_uring_sqe *s = sqe(1);
			io_uring_prep_splice(s, p[0], -1, q[1], -1, 5, 0), USER(s, 1);
			if (end == 2) {
				s->flags |= IOSQE_IO_LINK;
				s = sqe(8), io_uring_prep_link_timeout(s, &soon, 0), USER(s, 8);
			}
			snprintf(what, sizeof what, "%s %s", hows[how], endings[end]);
			go(what, end == 2 ? 2 : 0);
			if (end < 2)
				usleep(20000);
			if (end == 1) {
				s = sqe(9), io_uring_prep_cancel64(s, 1, 0), USER(s, 9);
			} else if (end == 0) {
				if (how == 1)
					MUST(read(q[0], in, n));
				else
					MUST(write(p[1], "bytes", 5));
			}
			if (end < 2)
				go("ended", end + 1);
			if (how == 1 && end == 0) {
				fcntl(q[0], F_SETFL, O_NONBLOCK);
				R(read(q[0], b, 5));
			}
			fcntl(p[0], F_SETFL, O_NONBLOCK);
			R(read(p[0], b, 5));
			say("'%s'", b);
			close(p[0]), close(p[1]), close(q[0]), close(q[1]);
		}
}

/* Records, what is only looked at, and buffers that the kernel chooses, with MSG_WAITALL. */
CASE(all_of_others, io_uring_enter)
{
	begin(16, 0);
	struct io_uring_sqe *s;
	static char b[2][32];
	int p[2];
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p));
	s = sqe(1), io_uring_prep_recv(s, p[0], b[0], 20, MSG_WAITALL), USER(s, 1);
	go("seqpacket", 0);
	MUST(send(p[1], "one", 3, 0));
	usleep(10000);
	MUST(send(p[1], "two", 3, 0));
	usleep(10000);
	close(p[1]);
	go("and its end", 1);
	say("'%s'", b[0]);
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
	s = sqe(1), io_uring_prep_recv(s, p[0], b[0], 20, MSG_WAITALL), USER(s, 1);
	go("dgram", 0);
	MUST(send(p[1], "three", 5, 0));
	go("is enough", 1);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
	s = sqe(1), io_uring_prep_provide_buffers(s, b, 32, 2, 7, 10), USER(s, 1);
	go("provide", 1);
	for (int i = 0; i < 2; i++) {
		memset(b, 0, sizeof b);
		s = sqe(1), io_uring_prep_recv(s, p[0], 0, 20, MSG_WAITALL), s->flags |= IOSQE_BUFFER_SELECT, s->buf_group = 7, USER(s, 1);
		go("a chosen buffer", 0);
		MUST(write(p[1], "abcdefghij", 10));
		usleep(10000);
		if (i)
			s = sqe(9), io_uring_prep_cancel64(s, 1, 0), USER(s, 9);
		else
			MUST(write(p[1], "0123456789", 10));
		go("the rest", i ? 2 : 1);
		say("'%s' '%s'", b[0], b[1]);
	}
}

/* The two completions of a send without copies. */
CASE(zero_copies, io_uring_enter)
{
	paint();
	for (int how = 0; how < 4; how++) {
		static const char *hows[] = {"send", "send all", "cancelled", "no peer"};
		int p[2];
		begin(16, 0);
		ends(p, TCP, 0);
		if (how == 3)
			shutdown(p[1], SHUT_WR);
		struct io_uring_sqe *s = sqe(1);
		io_uring_prep_send(s, p[1], out, MUCH, how ? MSG_WAITALL : 0), s->opcode = IORING_OP_SEND_ZC, USER(s, 1);
		submit();
		usleep(20000);
		if (how == 2) {
			s = sqe(9), io_uring_prep_cancel64(s, 1, 0), USER(s, 9);
			submit();
		}
		unsigned got = 0, want = MUCH;
		int all = 0;
		fcntl(p[0], F_SETFL, O_NONBLOCK);
		for (int idle = 0; idle < 20 && (!all || got < want);) {
			struct io_uring_cqe *c;
			ssize_t k = read(p[0], in + got, TOTAL - got);
			if (k > 0)
				got += k;
			while (io_uring_peek_cqe(&ring, &c) == 0) {
				say("  %llu: %s flags %#x", (unsigned long long)c->user_data, c->user_data == 1 ? part(c->res, MUCH) : res(c->res), c->flags);
				if (c->user_data == 1 && !(c->flags & IORING_CQE_F_NOTIF))
					want = c->res > 0 ? c->res : 0, all = 1;
				io_uring_cqe_seen(&ring, c);
			}
			struct pollfd q = {p[0], POLLIN, 0};
			if (k <= 0 && poll(&q, 1, 100) == 0)
				idle++;
		}
		struct io_uring_cqe *c;
		struct __kernel_timespec ts = {.tv_nsec = 100000000};
		while (io_uring_wait_cqe_timeout(&ring, &c, &ts) == 0 && c) {
			if (c->user_data != LIBURING_UDATA_TIMEOUT)
				say("  %llu: %s flags %#x", (unsigned long long)c->user_data, res(c->res), c->flags);
			io_uring_cqe_seen(&ring, c);
		}
		say("%s: %s", hows[how], got == want && memcmp(in, out, got) == 0 ? "the same came" : "SOMETHING ELSE CAME");
		close(p[0]), close(p[1]);
		io_uring_queue_exit(&ring);
	}
}

static int pipes;
static void broke(int s) { pipes++; }

/* Nobody reads: SIGPIPE or not. */
CASE(no_reader, io_uring_enter)
{
	begin(16, 0);
	paint();
	signal(SIGPIPE, broke);
	struct iovec v = {out, TOTAL};
	io_uring_register_buffers(&ring, &v, 1);
	for (int kind = PIPE; kind <= TCP; kind++)
		for (int how = 0; how < 3; how++)
			for (int op = 0; op < NOPS; op++) {
				static const char *hows[] = {"", " nonblocking", " nonblocking async"};
				int p[2];
				if (kind == PIPE && op < WRITE)
					continue;
				ends(p, kind, how ? O_NONBLOCK : 0);
				if (kind == TCP)
					shutdown(p[1], SHUT_WR);
				else
					close(p[0]);
				prep(op, p[1], out, 10, how == 2 ? IOSQE_ASYNC : 0);
				pipes = 0;
				go(ops[op], 2);
				say("%s%s: %d signals", kinds[kind], hows[how], pipes);
				close(p[1]);
				if (kind == TCP)
					close(p[0]);
			}
}
/* What a submission names may be used for something else once it is taken. */
CASE(stable, io_uring_enter)
{
	begin(16, 0);
	struct { sa_family_t f; char p[108]; } a = {AF_UNIX, "\0uringstable"};
	int l = socket(AF_UNIX, SOCK_STREAM, 0), c[2], p[2], q[2], fd;
	struct io_uring_sqe *s;
	char b[16] = "";
	MUST(bind(l, (void *)&a, 14));
	MUST(listen(l, 0));
	MUST(c[0] = socket(AF_UNIX, SOCK_STREAM, 0));
	MUST(c[1] = socket(AF_UNIX, SOCK_STREAM, 0));
	MUST(connect(c[0], (void *)&a, 14));
	s = sqe(1), io_uring_prep_connect(s, c[1], (void *)&a, 14), USER(s, 1);
	go("connect to a full queue", 0);
	memset(&a, 0x77, sizeof a);
	usleep(10000);
	MUST(fd = accept(l, 0, 0));
	go("connected", 1);
	MUST(fd = accept(l, 0, 0));
	/* The descriptors of a splice, too. */
	MUST(pipe(p));
	MUST(pipe(q));
	s = sqe(2), io_uring_prep_splice(s, p[0], -1, q[1], -1, 5, 0), USER(s, 2);
	go("splice of an empty pipe", 0);
	usleep(10000);
	fd = open("/dev/null", O_RDWR);
	dup2(fd, p[0]), dup2(fd, q[1]);
	MUST(write(p[1], "bytes", 5));
	go("spliced", 1);
	R(read(q[0], b, 16));
}
CASES
