/* Addresses of one link, and which link a socket is bound to or sends by; on the loopback. */
#include "sock.h"
#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62
#endif
#ifndef IPV6_UNICAST_IF
#define IPV6_UNICAST_IF 76
#endif

static struct sockaddr_in6 at(const char *a, int port, int scope)
{
	struct sockaddr_in6 s = { .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_scope_id = scope };
	inet_pton(AF_INET6, a, &s.sin6_addr);
	return s;
}

static int u6(void) { return socket(AF_INET6, SOCK_DGRAM, 0); }

static int bind_to(int s, const char *name, int scope)
{
	struct sockaddr_in6 a = at(name, 0, scope);
	errno = 0;
	int r = bind(s, SA(a)), e = errno;
	socklen_t n = sizeof a;
	getsockname(s, (void *)&a, &n);
	say("bind %s%%%d: %s, scope %u", name, scope, r ? errname(e) : "ok", a.sin6_scope_id);
	return r;
}

static void connect_to(int s, const char *name, int scope)
{
	struct sockaddr_in6 a = at(name, 9, scope);
	errno = 0;
	int r = connect(s, SA(a)), e = errno;
	socklen_t n = sizeof a;
	a.sin6_scope_id = 77;
	getpeername(s, (void *)&a, &n);
	say("connect %s%%%d: %s, scope %u", name, scope, r ? errname(e) : "ok", a.sin6_scope_id);
}

CASE(binds, bind, getsockname)
{
	int s = u6();
	bind_to(s, "ff02::1", 0);
	bind_to(s, "ff01::1", 0);
	bind_to(s, "ff02::1", 99);
	bind_to(u6(), "ff02::1", 1);
	bind_to(u6(), "ff01::5", 1);
	bind_to(u6(), "ff05::5", 1);
	bind_to(u6(), "::1", 99);
	s = u6();
	bind_to(s, "ff02::2", 1);
	GET(s, SOL_SOCKET, SO_BINDTOIFINDEX);
	s = u6();
	SET(s, SOL_SOCKET, SO_BINDTOIFINDEX, 1);
	bind_to(s, "ff02::3", 0);
	GET(s, SOL_SOCKET, SO_BINDTOIFINDEX);
	bind_to(socket(AF_INET6, SOCK_STREAM, 0), "ff02::1", 1);
	bind_to(socket(AF_INET6, SOCK_STREAM, 0), "fe80::1", 1);
}

CASE(connects, connect, getpeername)
{
	int s = u6();
	connect_to(s, "ff02::1", 0);
	connect_to(s, "fe80::1", 0);
	connect_to(s, "ff05::1", 0);
	connect_to(s, "::1", 99);
	connect_to(socket(AF_INET6, SOCK_STREAM, 0), "ff02::1", 1);
	connect_to(socket(AF_INET6, SOCK_STREAM, 0), "fe80::1", 0);
	SET(s, SOL_SOCKET, SO_BINDTOIFINDEX, 1);
	connect_to(s, "fe80::1", 99);
	connect_to(s, "ff02::1", 99);
}

CASE(options, setsockopt, getsockopt)
{
	int s = u6();
	SET(s, SOL_IPV6, IPV6_MULTICAST_IF, 1);
	SET(s, SOL_IPV6, IPV6_MULTICAST_IF, 99);
	struct in_addr a = { 7 };
	socklen_t n = sizeof a;
	R(getsockopt(s, SOL_IP, IP_MULTICAST_IF, &a, &n));
	say("IPv4's is %s", inet_ntoa(a));
	SET(s, SOL_IPV6, IPV6_MULTICAST_IF, 0);
	SET(s, SOL_IPV6, IPV6_UNICAST_IF, htonl(1));
	SET(s, SOL_IPV6, IPV6_UNICAST_IF, 0);
	SET(s, SOL_SOCKET, SO_BINDTOIFINDEX, 1);
	SET(s, SOL_IPV6, IPV6_UNICAST_IF, htonl(1));
	SET(s, SOL_IPV6, IPV6_MULTICAST_IF, 1);
	int u = socket(AF_INET, SOCK_DGRAM, 0);
	SET(u, SOL_IP, IP_UNICAST_IF, htonl(1));
	SET(u, SOL_SOCKET, SO_BINDTOIFINDEX, 1);
	SET(u, SOL_IP, IP_UNICAST_IF, htonl(1));
	SET(u, SOL_IP, IP_UNICAST_IF, 0);
}

/* By the loopback, named in every way. */
CASE(sends, sendto, sendmsg, recvfrom)
{
	struct sockaddr_storage a, a4;
	socklen_t n, n4;
	int r = bound(AF_INET6, SOCK_DGRAM, &a, &n), r4 = bound(AF_INET, SOCK_DGRAM, &a4, &n4), s = u6(), s4 = socket(AF_INET, SOCK_DGRAM, 0);
	setint(s, SOL_IPV6, IPV6_UNICAST_IF, htonl(1));
	setint(s4, SOL_IP, IP_UNICAST_IF, htonl(1));
	R(sendto(s, "one", 3, 0, (void *)&a, n));
	R(sendto(s4, "four", 4, 0, (void *)&a4, n4));
	R(recv(r, buf, 9, 0));
	R(recv(r4, buf, 9, 0));
	s = u6();
	struct in6_pktinfo p = { .ipi6_ifindex = 1 };
	union { char b[CMSG_SPACE(sizeof p)]; struct cmsghdr h; } c = { .h = { .cmsg_level = SOL_IPV6, .cmsg_type = IPV6_PKTINFO, .cmsg_len = CMSG_LEN(sizeof p) } };
	struct iovec v = { "pktinfo", 7 };
	struct msghdr m = { .msg_name = &a, .msg_namelen = n, .msg_iov = &v, .msg_iovlen = 1, .msg_control = c.b, .msg_controllen = sizeof c.b };
	memcpy(CMSG_DATA(&c.h), &p, sizeof p);
	R(sendmsg(s, &m, 0));
	R(recv(r, buf, 9, 0));
	inet_pton(AF_INET6, "2001:db8::99", &p.ipi6_addr);
	memcpy(CMSG_DATA(&c.h), &p, sizeof p);
	R(sendmsg(s, &m, 0));
	struct sockaddr_in6 many = at("ff02::1234", 9, 0);
	R(sendto(s, "x", 1, 0, SA(many)));
	struct ipv6_mreq q = { .ipv6mr_multiaddr = many.sin6_addr };
	R(setsockopt(s, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &q, sizeof q));
}

CASES
