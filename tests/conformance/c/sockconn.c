/* socket, bind, listen, accept, connect, shutdown: states and errors in Linux's order. */
#include "sock.h"
#include <sys/epoll.h>
#include <sys/un.h>

CASE(create, socket)
{
	R(socket(-1, SOCK_STREAM, 0));
	R(socket(1000, SOCK_STREAM, 0));
	R(socket(AF_INET, 0, 0));
	R(socket(AF_INET, 11, 0));
	R(socket(AF_INET, -1, 0));
	R(socket(AF_INET, SOCK_RDM, 0));
	R(socket(AF_INET, SOCK_SEQPACKET, 0));
	R(socket(AF_INET, SOCK_STREAM, -1));
	R(socket(AF_INET, SOCK_STREAM, 10000));
	R(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
	R(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP));
	R(socket(AF_INET, SOCK_RAW, 0));
	R(socket(AF_INET6, SOCK_STREAM, IPPROTO_ICMPV6));
	R(socket(AF_UNSPEC, SOCK_STREAM, 0));
	R(socket(AF_INET, SOCK_STREAM | 0x100000, 0));
	R(socket(AF_APPLETALK, SOCK_DGRAM, 0));
	R(socket(AF_BLUETOOTH, SOCK_RAW, 0));
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDP);
	R(fcntl(s, F_GETFD));
	R(fcntl(s, F_GETFL));
	int p[2];
	R(socketpair(AF_INET, SOCK_STREAM, 0, p));
	R(socketpair(AF_INET, SOCK_STREAM, 0, 0));
	R(socketpair(AF_INET, 0, 0, p));
	R(lseek(s, 0, SEEK_SET));
	R(pread(s, buf, 1, 0));
	R(ftruncate(s, 0));
	R(fsync(s));
}

CASE(bind4, bind)
{
	int s = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = lo(0);
	R(bind(s, (void *)&a, -1));
	R(bind(s, (void *)&a, 200));
	R(bind(s, (void *)&a, 0));
	R(bind(s, (void *)&a, 15));
	R(bind(s, 0, 16));
	R(bind(-1, SA(a)));
	R(bind(0, SA(a)));
	a.sin_family = AF_INET6;
	R(bind(s, SA(a)));
	a.sin_family = AF_UNSPEC;
	R(bind(s, SA(a)));
	a = v4(0x08080808, 0);
	R(bind(s, SA(a)));
	a.sin_port = htons(80);
	a.sin_family = AF_INET6;
	R(bind(s, SA(a)));
	a = v4(0x7f010203, 0);
	R(bind(s, SA(a)));
	R(bind(s, SA(a)));
	a = v4(0x08080808, 0);
	R(bind(s, SA(a)));
	int u = socket(AF_INET, SOCK_DGRAM, 0);
	a = v4(0, 0);
	a.sin_family = AF_UNSPEC;
	R(bind(u, SA(a)));
	R(bind(u, SA(a)));
	u = socket(AF_INET, SOCK_DGRAM, 0);
	a = v4(0xe1010101, 0);
	R(bind(u, SA(a)));
	u = socket(AF_INET, SOCK_DGRAM, 0);
	a = v4(0xffffffff, 0);
	R(bind(u, SA(a)));
	u = socket(AF_INET, SOCK_DGRAM, 0);
	a = v4(0x7fffffff, 0);
	R(bind(u, SA(a)));
}

CASE(bind6, bind)
{
	int s = socket(AF_INET6, SOCK_STREAM, 0);
	struct sockaddr_in6 a = lo6(0);
	struct sockaddr_in b = lo(0);
	R(bind(s, (void *)&a, 23));
	R(bind(s, SA(b)));
	a.sin6_family = AF_INET;
	R(bind(s, SA(a)));
	a.sin6_family = AF_UNSPEC;
	R(bind(s, SA(a)));
	a = lo6(0);
	inet_pton(AF_INET6, "2001:db8::1", &a.sin6_addr);
	R(bind(s, SA(a)));
	inet_pton(AF_INET6, "fe80::1", &a.sin6_addr);
	R(bind(s, SA(a)));
	a.sin6_scope_id = 99;
	R(bind(s, SA(a)));
	a.sin6_scope_id = 0;
	inet_pton(AF_INET6, "ff02::1", &a.sin6_addr);
	R(bind(s, SA(a)));
	inet_pton(AF_INET6, "::ffff:127.0.0.1", &a.sin6_addr);
	setint(s, SOL_IPV6, IPV6_V6ONLY, 1);
	R(bind(s, SA(a)));
	s = socket(AF_INET6, SOCK_STREAM, 0);
	R(bind(s, SA(a)));
	s = socket(AF_INET6, SOCK_STREAM, 0);
	a = lo6(0);
	R(bind(s, (void *)&a, 24));
	R(bind(s, SA(a)));
	socklen_t n = sizeof a;
	R(getsockname(s, (void *)&a, &n));
	R(n);
}

CASE(inuse, bind, listen)
{
	struct sockaddr_storage a;
	socklen_t n;
	int s = bound(AF_INET, SOCK_STREAM, &a, &n), t = socket(AF_INET, SOCK_STREAM, 0);
	R(bind(t, (void *)&a, n));
	setint(t, SOL_SOCKET, SO_REUSEADDR, 1);
	R(bind(t, (void *)&a, n));
	s = socket(AF_INET, SOCK_STREAM, 0);
	setint(s, SOL_SOCKET, SO_REUSEADDR, 1);
	struct sockaddr_in z = lo(0);
	R(bind(s, SA(z)));
	n = sizeof a;
	getsockname(s, (void *)&a, &n);
	R(bind(t, (void *)&a, n));
	R(listen(s, 1));
	R(listen(t, 1));
	int x = socket(AF_INET, SOCK_STREAM, 0);
	setint(x, SOL_SOCKET, SO_REUSEADDR, 1);
	R(bind(x, (void *)&a, n));
	/* Another address of the same port; the any address. */
	struct sockaddr_in b = *(struct sockaddr_in *)&a;
	b.sin_addr.s_addr = htonl(0x7f000002);
	R(bind(x, SA(b)));
	int y = socket(AF_INET, SOCK_STREAM, 0);
	b.sin_addr.s_addr = 0;
	R(bind(y, SA(b)));
	/* UDP. */
	int u = bound(AF_INET, SOCK_DGRAM, &a, &n), v = socket(AF_INET, SOCK_DGRAM, 0);
	R(bind(v, (void *)&a, n));
	setint(v, SOL_SOCKET, SO_REUSEADDR, 1);
	R(bind(v, (void *)&a, n));
	u = socket(AF_INET, SOCK_DGRAM, 0);
	setint(u, SOL_SOCKET, SO_REUSEADDR, 1);
	R(bind(u, SA(z)));
	n = sizeof a;
	getsockname(u, (void *)&a, &n);
	R(bind(v, (void *)&a, n));
}

CASE(dual, accept)
{
	/* IPv6's any address takes the port of IPv4 too, unless V6ONLY. */
	int s = socket(AF_INET6, SOCK_STREAM, 0), t = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in6 a = { .sin6_family = AF_INET6 };
	socklen_t n = sizeof a;
	R(bind(s, SA(a)));
	getsockname(s, (void *)&a, &n);
	struct sockaddr_in b = v4(0, ntohs(a.sin6_port));
	R(bind(t, SA(b)));
	s = socket(AF_INET6, SOCK_STREAM, 0);
	setint(s, SOL_IPV6, IPV6_V6ONLY, 1);
	a = (struct sockaddr_in6){ .sin6_family = AF_INET6 };
	R(bind(s, SA(a)));
	n = sizeof a;
	getsockname(s, (void *)&a, &n);
	b = v4(0, ntohs(a.sin6_port));
	R(bind(t, SA(b)));
	R(listen(s, 1));
	R(listen(t, 1));
	int c = socket(AF_INET6, SOCK_STREAM, 0);
	struct sockaddr_in6 m = { .sin6_family = AF_INET6, .sin6_port = a.sin6_port };
	inet_pton(AF_INET6, "::ffff:127.0.0.1", &m.sin6_addr);
	R(connect(c, SA(m)));
	n = sizeof b;
	R(accept(t, (void *)&b, &n) >= 0);
	say("peer family %d, %u bytes", b.sin_family, n);
	n = sizeof m;
	R(getsockname(c, (void *)&m, &n));
	IS(IN6_IS_ADDR_V4MAPPED(&m.sin6_addr));
}

CASE(reuseport, bind, setsockopt)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0), t = socket(AF_INET, SOCK_DGRAM, 0), w = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in a = lo(0);
	socklen_t n = sizeof a;
	setint(s, SOL_SOCKET, SO_REUSEPORT, 1);
	setint(t, SOL_SOCKET, SO_REUSEPORT, 1);
	R(bind(s, SA(a)));
	getsockname(s, (void *)&a, &n);
	R(bind(t, SA(a)));
	R(bind(w, SA(a)));
	/* Datagrams of many senders are spread, those of one are not. */
	int c = socket(AF_INET, SOCK_DGRAM, 0), got[2] = { 0, 0 };
	for (int i = 0; i < 10; i++)
		sendto(c, "x", 1, 0, SA(a));
	while (recv(s, buf, 9, MSG_DONTWAIT) > 0)
		got[0]++;
	while (recv(t, buf, 9, MSG_DONTWAIT) > 0)
		got[1]++;
	IS((got[0] == 10 && got[1] == 0) || (got[0] == 0 && got[1] == 10));
	got[0] = got[1] = 0;
	for (int i = 0; i < 64; i++) {
		c = socket(AF_INET, SOCK_DGRAM, 0);
		sendto(c, "x", 1, 0, SA(a));
		close(c);
	}
	while (recv(s, buf, 9, MSG_DONTWAIT) > 0)
		got[0]++;
	while (recv(t, buf, 9, MSG_DONTWAIT) > 0)
		got[1]++;
	IS(got[0] + got[1] == 64 && got[0] > 8 && got[1] > 8);
}

CASE(reuseportuid, bind, setsockopt)
{
	/* Another user does not get into the group. */
	int s = socket(AF_INET, SOCK_STREAM, 0), t = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = lo(0);
	socklen_t n = sizeof a;
	setint(s, SOL_SOCKET, SO_REUSEPORT, 1);
	setint(t, SOL_SOCKET, SO_REUSEPORT, 1);
	R(bind(s, SA(a)));
	R(listen(s, 1));
	getsockname(s, (void *)&a, &n);
	R(bind(t, SA(a)));
	R(listen(t, 1));
	seteuid(1000);
	int u = socket(AF_INET, SOCK_STREAM, 0);
	setint(u, SOL_SOCKET, SO_REUSEPORT, 1);
	R(bind(u, SA(a)));
}

CASE(listening, listen, accept, accept4)
{
	int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), u = socket(AF_INET, SOCK_DGRAM, 0);
	R(listen(-1, 1));
	R(listen(0, 1));
	R(listen(u, 1));
	R(accept(s, 0, 0));
	R(accept(u, 0, 0));
	R(accept(0, 0, 0));
	R(accept(-1, 0, 0));
	R(accept4(s, 0, 0, 1));
	R(accept4(-1, 0, 0, 1));
	R(listen(s, -1));
	R(accept(s, 0, 0));
	R(listen(s, 5));
	struct sockaddr_in a;
	socklen_t n = sizeof a;
	R(getsockname(s, (void *)&a, &n));
	IS(a.sin_port != 0);
	R(bind(s, SA(a)));
	R(connect(s, SA(a)));
	R(send(s, "x", 1, MSG_NOSIGNAL));
	R(recv(s, buf, 1, 0));
	R(shutdown(s, SHUT_WR));
	int p[2];
	tcp(AF_INET, p);
	R(listen(p[0], 1));
	R(accept(p[0], 0, 0));
}

CASE(accepting, accept4, getpeername)
{
	struct sockaddr_storage a;
	socklen_t n, m;
	int l = bound(AF_INET, SOCK_STREAM, &a, &n), c[6], s;
	listen(l, 8);
	for (int i = 0; i < 6; i++) {
		c[i] = socket(AF_INET, SOCK_STREAM, 0);
		MUST(connect(c[i], (void *)&a, n));
	}
	settle(); /* the last segments of the handshakes are on their way */
	MUST(s = accept4(l, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK));
	R(fcntl(s, F_GETFD));
	R(fcntl(s, F_GETFL));
	fcntl(l, F_SETFL, O_NONBLOCK);
	MUST(s = accept(l, 0, 0));
	R(fcntl(s, F_GETFL));
	struct sockaddr_in b;
	memset(&b, 0xee, sizeof b);
	m = 4;
	OK(accept(l, (void *)&b, &m));
	say("%u bytes, family %d, port kept %d", m, b.sin_family, b.sin_port == 0xeeee);
	m = -1;
	R(accept(l, (void *)&b, &m));
	R(accept(l, (void *)8, &m));
	R(accept(l, (void *)&b, 0));
	R(accept(l, 0, 0));
	settle();
	/* A connection that ended before it was accepted. */
	int k = socket(AF_INET, SOCK_STREAM, 0);
	struct linger lg = { 1, 0 };
	connect(k, (void *)&a, n);
	setsockopt(k, SOL_SOCKET, SO_LINGER, &lg, sizeof lg);
	close(k);
	settle();
	OK(s = accept(l, 0, 0));
	R(recv(s, buf, 1, 0));
	m = sizeof b;
	R(getpeername(s, (void *)&b, &m));
}

CASE(names, getsockname, getpeername)
{
	int p[2], u = socket(AF_INET, SOCK_DGRAM, 0), s = socket(AF_INET, SOCK_STREAM, 0), x = socket(AF_INET6, SOCK_STREAM, 0);
	struct sockaddr_in6 a;
	socklen_t n;
#define NAME(f, s, room) ({ n = room; memset(&a, 0xee, sizeof a); R(f(s, (void *)&a, &n)); say("  %u bytes, family %x", n, a.sin6_family); })
	NAME(getsockname, u, 28);
	NAME(getsockname, s, 28);
	NAME(getsockname, x, 28);
	NAME(getpeername, u, 28);
	NAME(getpeername, s, 28);
	NAME(getpeername, x, 28);
	tcp(AF_INET, p);
	NAME(getpeername, p[0], 28);
	NAME(getpeername, p[0], 2);
	NAME(getpeername, p[0], 1);
	NAME(getpeername, p[0], 0);
	NAME(getpeername, p[0], -1);
	NAME(getsockname, p[0], 3);
	NAME(getsockname, p[0], -1);
	R(getsockname(p[0], 0, &n));
	n = 16;
	R(getsockname(p[0], 0, &n));
	R(getsockname(p[0], (void *)&a, 0));
	R(getsockname(-1, (void *)&a, &n));
	R(getsockname(0, (void *)&a, &n));
	close(p[1]);
	ready(p[0], POLLIN);
	NAME(getpeername, p[0], 28);
	shutdown(p[0], SHUT_WR);
	settle();
	NAME(getpeername, p[0], 28);
	NAME(getsockname, p[0], 28);
}

CASE(connect4, connect)
{
	struct sockaddr_storage a;
	socklen_t n;
	int l = bound(AF_INET, SOCK_STREAM, &a, &n), s = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in b = *(struct sockaddr_in *)&a;
	R(connect(s, (void *)&b, 1));
	R(connect(s, (void *)&b, 2));
	R(connect(s, (void *)&b, 15));
	R(connect(s, (void *)&b, -1));
	R(connect(s, 0, 16));
	b.sin_family = AF_INET6;
	R(connect(s, SA(b)));
	b.sin_family = AF_UNIX;
	R(connect(s, SA(b)));
	b.sin_family = AF_UNSPEC;
	R(connect(s, SA(b)));
	b.sin_family = AF_INET;
	R(connect(s, SA(b)));
	GET(s, SOL_SOCKET, SO_ERROR);
	R(listen(l, 1));
	R(connect(s, SA(b)));
	R(connect(s, SA(b)));
	b.sin_family = AF_INET6;
	R(connect(s, SA(b)));
	R(connect(s, (void *)&b, 3));
	int t = socket(AF_INET, SOCK_STREAM, 0);
	b = v4(0xe1020304, 80);
	R(connect(t, SA(b)));
	b = v4(0xffffffff, 80);
	R(connect(t, SA(b)));
	b = lo(0);
	R(connect(t, SA(b)));
	b = v4(0x01020304, 80);
	R(connect(t, SA(b)));
	b = *(struct sockaddr_in *)&a;
	b.sin_addr.s_addr = 0;
	R(connect(t, SA(b)));
	n = sizeof b;
	R(getpeername(t, (void *)&b, &n));
	say("%s", inet_ntoa(b.sin_addr));
}

CASE(refused, connect, getsockopt)
{
	struct sockaddr_storage a;
	socklen_t n;
	int l = bound(AF_INET, SOCK_STREAM, &a, &n), s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	close(l);
	R(connect(s, (void *)&a, n));
	int r = ready(s, POLLOUT | POLLIN);
	IS(r & POLLERR && r & POLLHUP);
	GET(s, SOL_SOCKET, SO_ERROR);
	GET(s, SOL_SOCKET, SO_ERROR);
	/* The socket can try again. */
	R(connect(s, (void *)&a, n));
	ready(s, POLLOUT);
	R(send(s, "x", 1, MSG_NOSIGNAL));
	R(send(s, "x", 1, MSG_NOSIGNAL));
	R(recv(s, buf, 1, 0));
	R(connect(s, (void *)&a, n));
	ready(s, POLLOUT);
	R(connect(s, (void *)&a, n));
	int t = socket(AF_INET, SOCK_STREAM, 0);
	R(connect(t, (void *)&a, n));
	R(connect(t, (void *)&a, n));
	n = sizeof a;
	R(getpeername(t, (void *)&a, &n));
	R(shutdown(t, SHUT_RDWR));
}

CASE(progress, connect, poll)
{
	/* A full backlog keeps a connection in progress. */
	struct sockaddr_storage a;
	socklen_t n;
	int l = bound(AF_INET, SOCK_STREAM, &a, &n), s[8];
	listen(l, 0);
	for (int i = 0; i < 8; i++) {
		s[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(s[i], (void *)&a, n);
		settle(); /* the queue is seen to be full when the handshakes before have ended */
	}
	int x = s[7];
	R(connect(x, (void *)&a, n));
	R(send(x, "x", 1, MSG_NOSIGNAL));
	R(recv(x, buf, 1, 0));
	GET(x, SOL_SOCKET, SO_ERROR);
	struct sockaddr_in b;
	n = sizeof b;
	R(getpeername(x, (void *)&b, &n));
	R(listen(x, 1));
	struct pollfd f = { x, POLLIN | POLLOUT, 0 };
	R(poll(&f, 1, 0));
	struct timeval tv = { 0, 30000 };
	fcntl(x, F_SETFL, 0);
	setsockopt(x, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
	R(connect(x, (void *)&a, sizeof(struct sockaddr_in)));
	R(shutdown(x, SHUT_RDWR));
	R(connect(x, (void *)&a, sizeof(struct sockaddr_in)) < 0);
}

CASE(unconnect, getsockname)
{
	/* AF_UNSPEC ends a connection, and the socket can be used again. */
	struct sockaddr_storage a;
	socklen_t n;
	int l = bound(AF_INET, SOCK_STREAM, &a, &n), s = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	struct sockaddr_in b;
	listen(l, 5);
	R(connect(s, &none, sizeof none));
	setint(s, SOL_TCP, TCP_NODELAY, 1);
	setint(s, SOL_SOCKET, SO_KEEPALIVE, 1);
	setint(s, SOL_IP, IP_TOS, 0x10);
	R(connect(s, (void *)&a, n));
	int c = accept(l, 0, 0);
	R(connect(s, &none, sizeof none));
	IS(ready(c, POLLIN) & POLLERR);
	R(recv(c, buf, 1, 0));
	socklen_t m = sizeof b;
	R(getpeername(s, (void *)&b, &m));
	m = sizeof b;
	R(getsockname(s, (void *)&b, &m));
	say("address %x", ntohl(b.sin_addr.s_addr));
	R(send(s, "x", 1, MSG_NOSIGNAL));
	R(connect(s, (void *)&a, n));
	c = accept(l, 0, 0);
	R(send(s, "hello", 5, 0));
	R(recv(c, buf, 5, MSG_WAITALL));
	GET(s, SOL_TCP, TCP_NODELAY);
	GET(s, SOL_SOCKET, SO_KEEPALIVE);
	GET(s, SOL_IP, IP_TOS);
	/* A listener stops listening. */
	R(connect(l, &none, sizeof none));
	R(accept(l, 0, 0));
	/* A bound socket keeps its port. */
	int k = bound(AF_INET, SOCK_STREAM, &a, &n);
	R(connect(k, &none, sizeof none));
	m = sizeof b;
	getsockname(k, (void *)&b, &m);
	IS(b.sin_port == ((struct sockaddr_in *)&a)->sin_port);
}

CASE(unconnectudp, connect)
{
	int u[2];
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	struct sockaddr_in a;
	socklen_t n = sizeof a;
	udp(AF_INET, u);
	R(getsockname(u[0], (void *)&a, &n));
	say("%s, port %d", inet_ntoa(a.sin_addr), a.sin_port != 0);
	R(connect(u[0], &none, sizeof none));
	n = sizeof a;
	R(getsockname(u[0], (void *)&a, &n));
	say("%s, port %d", inet_ntoa(a.sin_addr), a.sin_port != 0);
	R(getpeername(u[0], (void *)&a, &n));
	R(send(u[0], "x", 1, 0));
	n = sizeof a;
	getsockname(u[1], (void *)&a, &n);
	R(connect(u[0], SA(a)));
	R(connect(u[0], SA(a)));
	/* Only the peer is heard. */
	int o = socket(AF_INET, SOCK_DGRAM, 0);
	n = sizeof a;
	getsockname(u[0], (void *)&a, &n);
	R(sendto(o, "x", 1, 0, SA(a)));
	R(recv(u[0], buf, 9, MSG_DONTWAIT));
	R(sendto(u[1], "xy", 2, 0, SA(a)));
	R(recv(u[0], buf, 9, MSG_DONTWAIT));
	a = v4(0x01020304, 80);
	R(connect(o, SA(a)));
	R(sendto(o, "x", 1, 0, SA(a)));
	a = v4(0x7fffffff, 80);
	R(connect(o, SA(a)));
	setint(o, SOL_SOCKET, SO_BROADCAST, 1);
	R(connect(o, SA(a)));
}

CASE(down, recvfrom)
{
	int p[2], u[2], s = socket(AF_INET, SOCK_STREAM, 0), d = socket(AF_INET, SOCK_DGRAM, 0);
	R(shutdown(s, SHUT_RD));
	R(shutdown(s, 3));
	R(shutdown(s, -1));
	R(shutdown(d, SHUT_RD));
	R(shutdown(d, 3));
	R(shutdown(0, 0));
	R(shutdown(-1, 3));
	tcp(AF_INET, p);
	send(p[0], "left", 4, 0);
	ready(p[1], POLLIN);
	R(shutdown(p[1], SHUT_RD));
	R(recv(p[1], buf, 9, 0));
	R(recv(p[1], buf, 9, 0));
	/* What comes later is read all the same. */
	R(send(p[0], "more", 4, MSG_NOSIGNAL));
	settle();
	R(recv(p[1], buf, 9, 0));
	R(send(p[1], "back", 4, 0));
	R(recv(p[0], buf, 9, 0));
	R(shutdown(p[0], SHUT_WR));
	R(shutdown(p[0], SHUT_WR));
	R(send(p[0], "x", 1, MSG_NOSIGNAL));
	R(send(p[1], "back", 4, 0));
	R(recv(p[0], buf, 9, 0));
	R(shutdown(p[1], SHUT_RDWR));
	R(recv(p[0], buf, 9, 0));
	settle();
	R(shutdown(p[0], SHUT_RD));
	R(shutdown(p[1], SHUT_RD));
	udp(AF_INET, u);
	R(shutdown(u[0], SHUT_WR));
	R(send(u[0], "x", 1, MSG_NOSIGNAL));
	R(shutdown(u[0], SHUT_RD));
	R(recv(u[0], buf, 1, 0));
}

CASE(events, poll, shutdown)
{
	int p[2], s = socket(AF_INET, SOCK_STREAM, 0), u = socket(AF_INET, SOCK_DGRAM, 0);
#define EV(s) ({ struct pollfd f_ = { s, POLLIN | POLLOUT | POLLRDHUP | POLLPRI | POLLRDNORM | POLLWRNORM, 0 }; poll(&f_, 1, 0); say(#s ": %x", f_.revents); })
	EV(s);
	EV(u);
	struct sockaddr_storage a;
	socklen_t n;
	int l = bound(AF_INET, SOCK_STREAM, &a, &n);
	EV(l);
	listen(l, 1);
	EV(l);
	connect(s, (void *)&a, n);
	ready(l, POLLIN); /* the last segment of the handshake is on its way */
	EV(l);
	EV(s);
	tcp(AF_INET, p);
	EV(p[0]);
	send(p[1], "x", 1, 0);
	ready(p[0], POLLIN);
	EV(p[0]);
	shutdown(p[1], SHUT_WR);
	ready(p[0], POLLRDHUP);
	EV(p[0]);
	recv(p[0], buf, 1, 0);
	EV(p[0]);
	EV(p[1]);
	shutdown(p[0], SHUT_WR);
	ready(p[0], 0); /* both ends: hung up */
	ready(p[1], 0);
	EV(p[0]);
	EV(p[1]);
	tcp(AF_INET, p);
	shutdown(p[0], SHUT_RD);
	EV(p[0]);
	EV(p[1]);
	shutdown(u, SHUT_RDWR);
	EV(u);
}

CASE(backlog, listen, connect)
{
	/* Connections beyond the backlog wait; those in it can send before they are accepted. */
	struct sockaddr_storage a;
	socklen_t n;
	int l = bound(AF_INET, SOCK_STREAM, &a, &n), s[3], ok = 0;
	listen(l, 2);
	for (int i = 0; i < 3; i++) {
		s[i] = socket(AF_INET, SOCK_STREAM, 0);
		ok += connect(s[i], (void *)&a, n) == 0;
	}
	R(ok);
	R(send(s[0], "early", 5, 0));
	close(s[0]);
	int c = accept(l, 0, 0);
	R(recv(c, buf, 9, 0));
	R(recv(c, buf, 9, 0));
	/* A listener that closes resets those it has not accepted. */
	close(l);
	int r = ready(s[1], POLLIN);
	IS(r & POLLERR || r & POLLHUP);
	R(recv(s[1], buf, 9, 0));
}

CASE(interrupted, connect, accept)
{
	struct sockaddr_storage a;
	socklen_t n;
	int l = bound(AF_INET, SOCK_STREAM, &a, &n);
	struct timeval tv = { 0, 30000 };
	listen(l, 1);
	setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	R(accept(l, 0, 0));
	int s = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	R(connect(s, (void *)&a, n));
	R(recv(s, buf, 1, 0));
	R(read(s, buf, 1));
}

/* A connection that was reset before it is accepted is one all the same, and tells whose. */
CASE(resetearly, accept, recvfrom, getpeername)
{
	for (int family = AF_INET; family; family = family == AF_INET ? AF_INET6 : 0) {
		struct sockaddr_storage a;
		struct sockaddr_in6 b;
		struct linger lg = { 1, 0 };
		socklen_t n, m = sizeof b;
		int l = bound(family, SOCK_STREAM, &a, &n), k, s;
		MUST(listen(l, 8));
		MUST(k = socket(family, SOCK_STREAM, 0));
		MUST(connect(k, (void *)&a, n));
		setsockopt(k, SOL_SOCKET, SO_LINGER, &lg, sizeof lg);
		IS(ready(l, POLLIN) & POLLIN);
		close(k);
		settle();
		memset(&b, 0, sizeof b);
		OK(s = accept(l, (void *)&b, &m));
		say("%u bytes, family %d, a port %d", m, b.sin6_family, b.sin6_port != 0);
		R(recv(s, buf, 1, 0));
		R(recv(s, buf, 1, 0));
		m = sizeof b;
		R(getpeername(s, (void *)&b, &m));
		R(getsockname(s, (void *)&b, &m));
	}
}

CASES
