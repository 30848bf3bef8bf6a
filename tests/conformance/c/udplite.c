/* UDP-Lite (udplite(7)): ports of its own, beside UDP's, and what datagrams do with them. */
#include "sock.h"

static int lite(int family) { int s; MUST(s = socket(family, SOCK_DGRAM, IPPROTO_UDPLITE)); return s; }
static int port_of(int s)
{
	struct sockaddr_in6 a;
	socklen_t n = sizeof a;
	MUST(getsockname(s, (void *)&a, &n));
	return ntohs(a.sin6_port); /* where IPv4's is */
}
static int bound_lite(int family)
{
	int s = lite(family);
	struct sockaddr_in a = lo(0);
	struct sockaddr_in6 a6 = lo6(0);
	if (family == AF_INET)
		MUST(bind(s, SA(a)));
	else
		MUST(bind(s, SA(a6)));
	return s;
}

CASE(ports, socket, bind, getsockname)
{
	int s = lite(AF_INET), t = lite(AF_INET), u = socket(AF_INET, SOCK_DGRAM, 0);
	GET(s, SOL_SOCKET, SO_PROTOCOL);
	GET(s, SOL_SOCKET, SO_TYPE);
	R(socket(AF_INET, SOCK_STREAM, IPPROTO_UDPLITE));
	R(port_of(s));
	struct sockaddr_in a = lo(0);
	R(bind(s, SA(a)));
	a.sin_port = htons(port_of(s));
	R(bind(t, SA(a)));
	R(bind(u, SA(a))); /* UDP has its own */
	R(bind(s, SA(a)));
	a = v4(0, port_of(s));
	R(bind(t, SA(a)));
	setint(s, SOL_SOCKET, SO_REUSEADDR, 1);
	setint(t, SOL_SOCKET, SO_REUSEADDR, 1);
	close(s);
	R(bind(t, SA(a)));
	s = lite(AF_INET);
	a.sin_addr.s_addr = htonl(0x01020304);
	R(bind(s, SA(a)));
	R(listen(s, 1));
	R(accept(s, 0, 0));
}

static void both(int family)
{
	int s = bound_lite(family), c = lite(family), port = port_of(s);
	struct sockaddr_in a = lo(port);
	struct sockaddr_in6 a6 = lo6(port);
	struct sockaddr *to = family == AF_INET ? (void *)&a : (void *)&a6;
	socklen_t n = family == AF_INET ? sizeof a : sizeof a6;
	R(recv(s, buf, 9, MSG_DONTWAIT));
	R(sendto(c, "hello", 5, 0, to, n));
	say("%#x", ready(s, POLLIN | POLLOUT));
	int q = -1;
	R(ioctl(s, FIONREAD, &q));
	R(q);
	struct sockaddr_storage from;
	socklen_t l = sizeof from;
	memset(buf, 0, 10);
	R(recvfrom(s, buf, 3, MSG_PEEK | MSG_TRUNC, 0, 0));
	R(recvfrom(s, buf, 9, 0, (void *)&from, &l));
	say("%s from port %s, %u", buf, ntohs(((struct sockaddr_in *)&from)->sin_port) == port_of(c) ? "its own" : "another", l);
	R(sendto(c, "", 0, 0, to, n));
	say("%#x", ready(s, POLLIN));
	R(recv(s, buf, 9, 0));
	R(connect(c, to, n));
	R(send(c, "odd", 3, 0));
	R(send(c, "longer than the buffer", 22, 0));
	struct iovec io[2] = { { buf, 1 }, { buf + 8, 5 } };
	struct msghdr m = { .msg_iov = io, .msg_iovlen = 2 };
	R(recvmsg(s, &m, 0));
	say("%.1s%.2s %x", buf, buf + 8, m.msg_flags);
	R(recvmsg(s, &m, 0));
	say("%.1s%.5s %x", buf, buf + 8, m.msg_flags);
	R(recv(s, buf, 9, MSG_DONTWAIT));
}
CASE(talk4, sendto, recvfrom, connect) { both(AF_INET); }
CASE(talk6, sendto, recvfrom, connect) { both(AF_INET6); }

CASE(others, recvfrom, poll)
{ /* what is for another port, or from another than the peer */
	int s = bound_lite(AF_INET), t = bound_lite(AF_INET), c = bound_lite(AF_INET), u;
	struct sockaddr_in as = lo(port_of(s)), at = lo(port_of(t)), ac = lo(port_of(c));
	sendto(c, "for t", 5, 0, SA(at));
	sendto(c, "for s", 5, 0, SA(as));
	R(recv(s, buf, 9, 0));
	say("%.5s", buf);
	R(recv(s, buf, 9, MSG_DONTWAIT));
	struct pollfd f = { s, POLLIN };
	R(poll(&f, 1, 0));
	R(recv(t, buf, 9, 0));
	say("%.5s", buf);
	R(connect(s, SA(ac)));
	sendto(t, "not the peer", 12, 0, SA(as));
	R(poll(&f, 1, 0));
	R(recv(s, buf, 9, MSG_DONTWAIT));
	sendto(c, "the peer", 8, 0, SA(as));
	R(poll(&f, 1, 1000));
	R(recv(s, buf, 9, 0));
	MUST(u = socket(AF_INET, SOCK_DGRAM, 0));
	sendto(u, "of UDP", 6, 0, SA(at));
	R(recv(t, buf, 9, MSG_DONTWAIT));
}

CASE(errors, sendto, connect, getpeername, shutdown)
{
	int s = lite(AF_INET);
	struct sockaddr_in a = lo(0), none = v4(0xe0000001, 9);
	socklen_t n = sizeof a;
	R(send(s, "x", 1, 0));
	R(sendto(s, "x", 1, 0, SA(a)));
	R(sendto(s, buf, 65508, 0, SA(none)));
	R(sendto(s, "x", 1, MSG_OOB, SA(none)));
	R(getpeername(s, (void *)&a, &n));
	R(shutdown(s, SHUT_RD));
	int t = bound_lite(AF_INET);
	a = lo(port_of(t));
	R(connect(s, SA(a)));
	R(getpeername(s, (void *)&a, &n));
	say("%d", ntohs(a.sin_port) == port_of(t));
	R(shutdown(s, SHUT_RD));
	R(recv(s, buf, 1, 0));
	R(shutdown(s, SHUT_WR));
	R(send(s, "x", 1, MSG_NOSIGNAL));
}
CASES
