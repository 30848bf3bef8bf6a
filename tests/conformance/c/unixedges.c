/* AF_UNIX at its edges: names that sockets give themselves, what a send buffer holds and what
 * poll says of it, descriptors that come with a receive that fails. */
#include "ipc.h"
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <linux/sockios.h>

static char buf[300000];

static int un(int type, const char *name)
{
	int s;
	struct sockaddr_un a = { AF_UNIX };
	MUST(s = socket(AF_UNIX, type, 0));
	if (name) {
		strcpy(a.sun_path + 1, name);
		MUST(bind(s, (void *)&a, sizeof(sa_family_t) + 1 + strlen(name)));
	}
	return s;
}

static int to(int s, const char *name)
{
	struct sockaddr_un a = { AF_UNIX };
	strcpy(a.sun_path + 1, name);
	return connect(s, (void *)&a, sizeof(sa_family_t) + 1 + strlen(name));
}

static void named(const char *what, int s)
{
	struct sockaddr_un a;
	socklen_t n = sizeof a;
	MUST(getsockname(s, (void *)&a, &n));
	say("%s: a name of %d bytes", what, (int)n - 2);
}

static void setint(int s, int opt, int v) { MUST(setsockopt(s, SOL_SOCKET, opt, &v, sizeof v)); }

static int outq(int s)
{
	int n = -1;
	MUST(ioctl(s, SIOCOUTQ, &n));
	return n;
}

static int writable(int s)
{
	struct pollfd p = { s, POLLOUT };
	return poll(&p, 1, 0);
}

/* With SO_PASSCRED who sends or connects gets a name, unless it has one. */
CASE(passcred, setsockopt, sendto, getsockname)
{
	int l = un(SOCK_DGRAM, "edges"), s = un(SOCK_DGRAM, 0), t = un(SOCK_DGRAM, "mine"), v[2];
	setint(s, SO_PASSCRED, 1);
	setint(t, SO_PASSCRED, 1);
	R(send(s, "a", 1, 0));
	named("sent to nobody", s);
	R(to(s, "nowhere"));
	named("connected to nowhere", s);
	R(to(s, "edges"));
	R(send(s, "a", 1, 0));
	R(send(s, "b", 1, 0));
	named("sent", s);
	R(to(t, "edges"));
	R(send(t, "c", 1, 0));
	R(send(t, "d", 1, 0));
	named("had one", t);
	for (int i = 0; i < 4; i++)
		R(recv(l, buf, 9, MSG_DONTWAIT));
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, v));
	setint(v[0], SO_PASSCRED, 1);
	R(send(v[0], "a", 1, 0));
	R(send(v[0], "b", 1, 0));
	named("seqpacket", v[0]);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, v));
	setint(v[0], SO_PASSCRED, 1);
	R(send(v[0], "a", 1, 0));
	named("stream", v[0]);
}

CASE(passcred_connect, setsockopt, connect, accept)
{
	int l = un(SOCK_STREAM | SOCK_NONBLOCK, "edges"), a, b;
	listen(l, 0);
	a = un(SOCK_STREAM | SOCK_NONBLOCK, 0);
	b = un(SOCK_STREAM | SOCK_NONBLOCK, 0);
	setint(a, SO_PASSCRED, 1);
	setint(b, SO_PASSCRED, 1);
	R(to(a, "edges"));
	R(to(b, "edges"));
	named("had to wait", b);
	R(to(b, "edges"));
	int c = accept(l, 0, 0);
	R(to(b, "edges"));
	int p = FORK({
		int s = un(SOCK_STREAM, 0);
		struct timeval tv = { 1, 0 };
		setint(s, SO_PASSCRED, 1);
		setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
		R(to(s, "edges"));
	});
	asleep(p);
	accept(l, 0, 0);
	reap("waits in connect", p);
	/* An accepted one has its listener's name. */
	struct sockaddr_un none = { AF_UNIX };
	named("accepted", c);
	R(bind(c, (void *)&none, 2));
	none.sun_path[1] = 'x';
	R(bind(c, (void *)&none, 4));
	named("accepted", c);
}

/* fill sends until it would have to wait. */
static void fill(const char *what, int s, int size)
{
	long n = 0, all = 0, r;
	while ((r = send(s, buf, size, MSG_DONTWAIT)) > 0 && n++ < 10000)
		all += r;
	const char *e = errname(errno);
	say("%s of %d: %ld sends, %ld bytes, %s, counted %d, writable %d", what, size, n, all, e, outq(s), writable(s));
}

/* drain reads until there is room again, and the rest. */
static void drain(int from, int to, int size)
{
	int n = 0;
	while (!writable(from) && recv(to, buf, size, MSG_DONTWAIT) > 0)
		n++;
	say("writable after %d, counted %d", n, outq(from));
	while (recv(to, buf, sizeof buf, MSG_DONTWAIT) > 0)
		;
	say("empty: counted %d", outq(from));
}

CASE(sizes, sendto, recvfrom, ioctl, poll)
{
	static const int type[] = { SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM };
	static const char *const kind[] = { "stream", "seqpacket", "datagram" };
	static const int size[] = { 1, 192, 193, 1000, 4096, 20000, 65536 };
	for (int k = 0; k < 3; k++)
		for (int i = 0; i < 7; i++) {
			int v[2];
			MUST(socketpair(AF_UNIX, type[k], 0, v));
			fill(kind[k], v[0], size[i]);
			drain(v[0], v[1], size[i]);
			close(v[0]), close(v[1]);
		}
	int v[2];
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, v));
	fill("stream", v[0], 300000);
	close(v[0]), close(v[1]);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, v));
	setint(v[0], SO_SNDBUF, 1);
	fill("small", v[0], 10000);
	drain(v[0], v[1], 1000);
	/* The receiver's buffer means nothing. */
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, v));
	setint(v[1], SO_RCVBUF, 1);
	fill("datagram", v[0], 1000);
	/* An accepted one's is not its listener's. */
	int l = un(SOCK_STREAM, "edges"), c = un(SOCK_STREAM, 0);
	setint(l, SO_SNDBUF, 1);
	listen(l, 1);
	R(to(c, "edges"));
	int s = accept(l, 0, 0), n;
	socklen_t k = sizeof n;
	R(getsockopt(s, SOL_SOCKET, SO_SNDBUF, &n, &k));
	R(n);
}

/* A sender's buffer is one for all that it sends to. */
CASE(several, sendto, recvfrom, ioctl, poll)
{
	int a = un(SOCK_DGRAM, "one"), b = un(SOCK_DGRAM, "two"), s = un(SOCK_DGRAM, 0);
	to(s, "one");
	for (int i = 0; i < 3; i++)
		R(send(s, buf, 60000, MSG_DONTWAIT));
	R(writable(s));
	to(s, "two");
	R(writable(s));
	R(send(s, buf, 60000, MSG_DONTWAIT));
	say("counted %d", outq(s));
	R(recv(a, buf, sizeof buf, MSG_DONTWAIT));
	R(recv(a, buf, sizeof buf, MSG_DONTWAIT));
	R(writable(s));
	R(recv(a, buf, sizeof buf, MSG_DONTWAIT));
	R(writable(s));
	close(b);
	R(writable(s));
	say("counted %d", outq(s));
	/* Many small ones: the other's queue is full, one's own buffer is not. */
	to(s, "one");
	fill("datagram", s, 1);
	R(recv(a, buf, sizeof buf, MSG_DONTWAIT));
	R(writable(s));
}

/* Who waits for room goes on when it is there. */
CASE(waits, sendto, recvfrom, setsockopt)
{
	static const int type[] = { SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM };
	int v[2];
	struct timeval tv = { 1, 0 };
	for (int k = 0; k < 3; k++) {
		MUST(socketpair(AF_UNIX, type[k], 0, v));
		setsockopt(v[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
		while (send(v[0], "x", 1, MSG_DONTWAIT) == 1)
			;
		int p = FORK(_exit(send(v[0], "y", 1, 0)));
		asleep(p);
		while (recv(v[1], buf, 1, MSG_DONTWAIT) > 0)
			;
		reap("sender", p);
		close(v[0]), close(v[1]);
	}
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, v));
	setsockopt(v[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
	setint(v[0], SO_SNDBUF, 1);
	while (send(v[0], "x", 1, MSG_DONTWAIT) == 1)
		;
	int p = FORK(_exit(send(v[0], "y", 1, 0)));
	asleep(p);
	setint(v[0], SO_SNDBUF, 100000);
	reap("a larger buffer", p);
}

/* The urgent byte takes room, too. */
CASE(urgent, sendto, recvfrom)
{
	int v[2];
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, v));
	while (send(v[0], "x", 1, MSG_DONTWAIT) == 1)
		;
	R(send(v[0], "y", 1, MSG_OOB | MSG_DONTWAIT));
	while (recv(v[1], buf, 100, MSG_DONTWAIT) > 0)
		;
	R(send(v[0], "y", 1, MSG_OOB | MSG_DONTWAIT));
	R(recv(v[1], buf, 1, MSG_OOB));
}

/* give sends the write end of a new pipe, and gives its read end. */
static int give(int s)
{
	int p[2];
	char c[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = { 0 };
	struct iovec io = { "text", 4 };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c };
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	MUST(pipe2(p, O_NONBLOCK));
	h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &p[1], sizeof(int));
	MUST(sendmsg(s, &m, 0));
	close(p[1]);
	return p[0];
}

static long take(int s, void *data, void *name, void *control, int flags)
{
	struct iovec io = { data, 10 };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_name = name, .msg_namelen = name ? 20 : 0, .msg_control = control, .msg_controllen = 64 };
	return recvmsg(s, &m, flags | MSG_DONTWAIT);
}

#define BAD ((void *)16)

/* What came with a receive that fails is not held by anybody. */
CASE(faults, recvmsg, pipe2, sendmsg)
{
	static const int type[] = { SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM };
	char c[64] __attribute__((aligned(8)));
	int v[2], p;
	for (int k = 0; k < 3; k++) {
		say("-- type %d", type[k]);
		MUST(socketpair(AF_UNIX, type[k], 0, v));
		p = give(v[0]);
		R(take(v[1], BAD, 0, c, 0));
		if (take(v[1], buf, 0, 0, 0) == 4)
			say("still there");
		R(read(p, buf, 1));
		p = give(v[0]);
		R(take(v[1], BAD, 0, c, MSG_PEEK));
		R(take(v[1], BAD, 0, c, MSG_PEEK));
		R(take(v[1], buf, 0, 0, 0));
		R(read(p, buf, 1));
		p = give(v[0]);
		R(take(v[1], buf, 0, BAD, 0));
		R(take(v[1], buf, 0, c, 0));
		say("%s", read(p, buf, 1) == 0 ? "closed" : errname(errno));
		for (int i = 3; i < 20; i++) /* perhaps it was installed */
			if (i != v[0] && i != v[1] && i != p)
				close(i);
		R(read(p, buf, 1));
		close(v[0]), close(v[1]), close(p);
	}
	/* The name is written last. */
	int l = un(SOCK_DGRAM, "edges"), s = un(SOCK_DGRAM, "mine");
	to(s, "edges");
	int low = dup(0);
	close(low);
	p = give(s);
	R(take(l, buf, BAD, c, 0));
	int now = dup(0);
	IS(p == low && now == low + 2);
	R(read(p, buf, 1));
	close(low + 1);
	R(read(p, buf, 1));
}

CASES
