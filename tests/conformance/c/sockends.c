/* How connections end: what a side hears that still has bytes to read or to send, and what a
 * socket hears of a peer that it has no more. */
#include "sock.h"
#include <sys/uio.h>
#include <sys/un.h>

static void events(int s)
{
	struct pollfd f = {s, POLLIN | POLLOUT | POLLRDHUP, 0};
	int r = poll(&f, 1, 0);
	say("poll %d %#x", r, f.revents);
}

/* reset ends a connection at its peer by a reset. */
static void reset(int s)
{
	struct linger l = {1, 0};
	MUST(setsockopt(s, SOL_SOCKET, SO_LINGER, &l, sizeof l));
	close(s);
}

/* all reads to the end, in pieces of what comes. */
static void all(int s)
{
	int n, sum = 0;
	while ((n = read(s, buf, sizeof buf)) > 0)
		sum += n;
	say("%d bytes, then %d %s", sum, n, n < 0 ? errname(errno) : "");
}

/* What was written comes to a peer whose bytes were not read, when both directions are shut. */
static void shut(int family, int how1, int how2)
{
	int p[2];
	tcp(family, p);
	MUST(write(p[0], "unread", 6));
	ready(p[1], POLLIN);
	MUST(write(p[1], buf, 20000));
	R(shutdown(p[1], how1));
	if (how2 >= 0)
		R(shutdown(p[1], how2));
	all(p[0]);
	all(p[1]);
	R(write(p[0], "x", 1));
	settle();
	events(p[0]);
	events(p[1]);
	close(p[0]), close(p[1]);
}

CASE(shutboth, shutdown, write)
{
	signal(SIGPIPE, SIG_IGN);
	for (int f = 0; f < 2; f++) {
		int family = f ? AF_INET6 : AF_INET;
		shut(family, SHUT_RDWR, -1);
		shut(family, SHUT_RD, SHUT_WR);
		shut(family, SHUT_WR, SHUT_RD);
	}
}

/* waiting has a child reset the connection while the call waits for more than there is: the call
 * tells what it has, the next one of the reset, the one behind that of the end. */
static void waiting(int how)
{
	int p[2], on = 100;
	tcp(AF_INET, p);
	MUST(write(p[0], "abc", 3));
	ready(p[1], POLLIN);
	if (how >= 2)
		MUST(setsockopt(p[1], SOL_SOCKET, SO_RCVLOWAT, &on, sizeof on));
	if (!fork()) {
		close(p[1]);
		usleep(100000);
		reset(p[0]);
		_exit(0);
	}
	close(p[0]);
	struct iovec v = {buf, 100};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	switch (how) {
	case 0: R(recv(p[1], buf, 100, MSG_WAITALL)); break;
	case 1: R(recv(p[1], buf, 100, MSG_WAITALL | MSG_PEEK)); break;
	case 2: R(recv(p[1], buf, 100, 0)); break;
	case 3: R(read(p[1], buf, 100)); break;
	case 4: R(readv(p[1], &v, 1)); break;
	case 5: R(recvmsg(p[1], &m, MSG_WAITALL)); break;
	}
	wait(0);
	events(p[1]);
	if (how == 0)
		GET(p[1], SOL_SOCKET, SO_ERROR);
	R(recv(p[1], buf, 100, 0));
	R(recv(p[1], buf, 100, 0));
	R(recv(p[1], buf, 100, 0));
	events(p[1]);
	close(p[1]);
}

CASE(resets, recvfrom, read, readv, recvmsg)
{
	for (int how = 0; how < 6; how++)
		waiting(how);
}

/* The same of a write that has sent some. */
CASE(resetwrites, write, sendto, sendmsg)
{
	signal(SIGPIPE, SIG_IGN);
	static char much[8 << 20];
	struct iovec v = {much, sizeof much};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	for (int how = 0; how < 3; how++) {
		int p[2];
		long n = 0;
		tcp(AF_INET, p);
		if (!fork()) {
			close(p[0]);
			usleep(200000);
			reset(p[1]);
			_exit(0);
		}
		close(p[1]);
		switch (how) {
		case 0: n = write(p[0], much, sizeof much); break;
		case 1: n = send(p[0], much, sizeof much, 0); break;
		case 2: n = sendmsg(p[0], &m, 0); break;
		}
		say("some: %d", n > 0 && n < (long)sizeof much);
		wait(0);
		events(p[0]);
		R(write(p[0], "x", 1));
		R(write(p[0], "x", 1));
		R(read(p[0], buf, 1));
		close(p[0]);
	}
}

/* A write to a peer that has closed shows in poll until somebody is told. */
CASE(refused, write, poll)
{
	signal(SIGPIPE, SIG_IGN);
	for (int how = 0; how < 3; how++) {
		int p[2];
		tcp(AF_INET, p);
		close(p[1]);
		ready(p[0], POLLIN);
		events(p[0]);
		R(write(p[0], "x", 1));
		settle();
		events(p[0]);
		switch (how) {
		case 0: GET(p[0], SOL_SOCKET, SO_ERROR); break;
		case 1: R(write(p[0], "x", 1)); break;
		case 2: R(read(p[0], buf, 1)); break;
		}
		events(p[0]);
		R(read(p[0], buf, 1));
		R(write(p[0], "x", 1));
	}
}

/* A datagram socket of AF_UNIX that gets another peer loses what it has not read, and the old peer
 * hears of it where it is connected to this one. */
static void named(int s, const char *name)
{
	struct sockaddr_un a = {AF_UNIX};
	strcpy(a.sun_path + 1, name);
	MUST(bind(s, (void *)&a, 3 + strlen(name)));
}

static int to(int s, const char *name)
{
	struct sockaddr_un a = {AF_UNIX};
	strcpy(a.sun_path + 1, name);
	return connect(s, (void *)&a, 3 + strlen(name));
}

CASE(unixpeers, connect, sendto, recvfrom)
{
	struct sockaddr none = {AF_UNSPEC};
	for (int how = 0; how < 6; how++) {
		int a = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0), b = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0), c = socket(AF_UNIX, SOCK_DGRAM, 0);
		named(a, "a"), named(b, "b"), named(c, "c");
		R(to(a, "b"));
		if (how != 1)
			R(to(b, "a"));
		R(write(a, "from a", 6));
		R(sendto(c, "from c", 6, 0, &none, 0));
		say("how %d", how);
		switch (how) {
		case 0: R(to(b, "c")); break;
		case 1: R(to(b, "c")); break;
		case 2: R(connect(b, &none, sizeof none)); break;
		case 3: R(to(b, "a")); break;
		case 4: R(to(b, "nobody")); break;
		case 5: close(a), a = -1; R(write(b, "to a", 4)); break;
		}
		R(recv(b, buf, 10, 0));
		if (a >= 0) {
			events(a);
			GET(a, SOL_SOCKET, SO_ERROR);
			R(write(a, "again", 5));
			close(a);
		}
		R(recv(b, buf, 10, 0));
		close(b), close(c);
	}
}

/* An empty message on a stream leaves the error that waits. */
CASE(nothing, recvmmsg, sendto)
{
	int p[2];
	signal(SIGPIPE, SIG_IGN);
	for (int n = 0; n < 2; n++) {
		MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p));
		MUST(write(p[1], "data", 4));
		struct iovec v = {buf, 2};
		struct mmsghdr m[2] = {{{.msg_iov = &v, .msg_iovlen = 1}}, {{.msg_iov = (void *)8, .msg_iovlen = 1}}};
		R(recvmmsg(p[0], m, 2, MSG_DONTWAIT, 0));
		R(send(p[0], "", 0, 0));
		R(send(p[0], "x", n, 0));
		R(send(p[0], "x", 1, 0));
		R(send(p[0], "x", 1, 0));
		close(p[0]), close(p[1]);
	}
}

/* No way to an address comes before an error that waits, which goes on waiting. */
CASE(noway, sendto, connect)
{
	struct sockaddr_in a = lo(1), far = v4(0xf0000001, 5000);
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	R(connect(s, SA(a)));
	R(send(s, "x", 1, 0));
	R(sendto(s, "x", 1, 0, SA(far)));
	R(sendto(s, "x", 1, 0, SA(far)));
	R(send(s, "x", 1, 0));
}

/* What is asked for beside the bytes is looked at before the way of a mapped peer that the call
 * names as none. */
CASE(astray, sendmsg)
{
	struct sockaddr_storage at;
	struct sockaddr none = {AF_UNSPEC};
	socklen_t n;
	int r = bound(AF_INET, SOCK_DGRAM, &at, &n), s = socket(AF_INET6, SOCK_DGRAM, 0);
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = ((struct sockaddr_in *)&at)->sin_port};
	a.sin6_addr.s6_addr[10] = a.sin6_addr.s6_addr[11] = 255, a.sin6_addr.s6_addr[12] = 127, a.sin6_addr.s6_addr[15] = 1;
	R(connect(s, SA(a)));
	struct iovec v = {"x", 1};
	size_t bad[3] = {200, 0x100000001, 0};
	for (int k = 0; k < 4; k++) {
		struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
		if (k & 1)
			m.msg_control = bad, m.msg_controllen = sizeof bad;
		if (k & 2)
			m.msg_name = &none, m.msg_namelen = 2;
		R(sendmsg(s, &m, 0));
	}
	close(r);
}

/* Control messages are looked at in their order. */
CASE(controls, sendmsg, socketpair)
{
	int p[2];
	struct {
		struct cmsghdr h;
		int v[2];
	} c[2] = {{{24, SOL_SOCKET, 3}, {3, 5}}, {{24, SOL_SOCKET, SCM_RIGHTS}, {1000, 3}}}, d[2] = {c[1], c[0]};
	struct iovec v = {"x", 1};
	for (int k = 0; k < 4; k++) {
		struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = k & 1 ? d : c, .msg_controllen = k & 2 ? sizeof c[0] : sizeof c};
		MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
		R(sendmsg(p[0], &m, 0));
		MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
		R(sendmsg(p[0], &m, 0));
	}
}

/* Only streams of AF_UNIX have a mark. */
CASE(marks, ioctl)
{
	int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}, p[2], v = 7;
	for (int t = 0; t < 3; t++) {
		MUST(socketpair(AF_UNIX, types[t], 0, p));
		R(ioctl(p[0], SIOCATMARK, &v));
		MUST(write(p[1], "x", 1));
		R(ioctl(p[0], SIOCATMARK, &v));
		R(v);
	}
}

/* A message that cannot be read is that before its receiver is looked at. */
CASE(unread, write)
{
	int types[] = {SOCK_DGRAM, SOCK_SEQPACKET}, p[2];
	signal(SIGPIPE, SIG_IGN);
	for (int t = 0; t < 2; t++) {
		MUST(socketpair(AF_UNIX, types[t] | SOCK_NONBLOCK, 0, p));
		shutdown(p[1], SHUT_RD);
		R(write(p[0], (void *)8, 8));
		R(write(p[0], "x", 1));
		MUST(socketpair(AF_UNIX, types[t] | SOCK_NONBLOCK, 0, p));
		close(p[1]);
		R(write(p[0], (void *)8, 8));
		R(write(p[0], "x", 1));
		R(write(p[0], (void *)8, 8));
		R(write(p[0], "x", 1));
	}
	int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0), r = socket(AF_UNIX, SOCK_DGRAM, 0), e;
	named(r, "r");
	R(to(s, "r"));
	for (e = 0; write(s, "x", 1) == 1; e++)
		;
	R(write(s, (void *)8, 8));
	R(write(s, "x", 1));
}

/* A socket that was connected does not listen, also when its connection is over. */
CASE(listenagain, listen)
{
	int p[2];
	for (int how = 0; how < 3; how++) {
		struct sockaddr none = {AF_UNSPEC};
		tcp(AF_INET, p);
		R(listen(p[0], 1));
		R(listen(p[1], 1));
		if (how == 1)
			reset(p[1]);
		else if (how == 2)
			close(p[1]);
		if (how)
			ready(p[0], POLLIN);
		R(listen(p[0], 1));
		R(connect(p[0], &none, sizeof none));
		R(listen(p[0], 1));
		close(p[0]);
	}
}

/* Who listens keeps others away, also of the other family. */
static int server(int family, int any, int port, int reuse, int only)
{
	int s = socket(family, SOCK_STREAM, 0);
	struct sockaddr_in a = v4(any ? 0 : INADDR_LOOPBACK, port);
	struct sockaddr_in6 a6 = lo6(port);
	if (any)
		a6.sin6_addr = in6addr_any;
	setint(s, SOL_SOCKET, SO_REUSEADDR, reuse);
	if (family == AF_INET6)
		setint(s, IPPROTO_IPV6, IPV6_V6ONLY, only);
	int b = family == AF_INET ? bind(s, SA(a)) : bind(s, SA(a6)), e = errno, l = b < 0 ? -1 : listen(s, 1);
	say("%s %s reuse %d only %d: bind %s, listen %s", family == AF_INET ? "v4" : "v6", any ? "any" : "lo", reuse, only,
		b < 0 ? errname(e) : "ok", b < 0 ? "-" : l < 0 ? errname(errno) : "ok");
	return s;
}

CASE(listeners, bind, listen)
{
	for (int f = 0; f < 4; f++) {
		int family = f & 1 ? AF_INET6 : AF_INET, any = f / 2;
		int s = server(family, any, 7531, 1, 0);
		for (int k = 0; k < 16; k++) {
			int only = k >> 3 & 1;
			if (only && !(k & 1))
				continue;
			close(server(k & 1 ? AF_INET6 : AF_INET, k >> 1 & 1, 7531, k >> 2 & 1, only));
		}
		close(s);
	}
}

CASES
