/* Control messages of AF_INET and AF_INET6 sockets. */
#include "sock.h"
#include <linux/errqueue.h>

static char cb[512];

static const char *cname(int level, int type)
{
	static char t[40];
	if (level == SOL_SOCKET)
		return type == SO_TIMESTAMP ? "SO_TIMESTAMP" : type == SO_TIMESTAMPNS ? "SO_TIMESTAMPNS" : type == SO_TIMESTAMPING ? "SO_TIMESTAMPING" :
			type == SO_RXQ_OVFL ? "SO_RXQ_OVFL" : type == SO_MARK ? "SO_MARK" : (sprintf(t, "socket %d", type), t);
	if (level == SOL_IP)
		return type == IP_PKTINFO ? "IP_PKTINFO" : type == IP_TTL ? "IP_TTL" : type == IP_TOS ? "IP_TOS" : type == IP_RECVERR ? "IP_RECVERR" :
			type == IP_ORIGDSTADDR ? "IP_ORIGDSTADDR" : (sprintf(t, "ip %d", type), t);
	if (level == SOL_IPV6)
		return type == IPV6_PKTINFO ? "IPV6_PKTINFO" : type == IPV6_HOPLIMIT ? "IPV6_HOPLIMIT" : type == IPV6_TCLASS ? "IPV6_TCLASS" :
			type == IPV6_RECVERR ? "IPV6_RECVERR" : type == IPV6_ORIGDSTADDR ? "IPV6_ORIGDSTADDR" : (sprintf(t, "ipv6 %d", type), t);
	sprintf(t, "%d %d", level, type);
	return t;
}

static void take(int s, int flags, int room)
{
	struct iovec io = { buf, 100 };
	struct sockaddr_storage from;
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = cb, .msg_controllen = room, .msg_name = &from, .msg_namelen = sizeof from };
	memset(cb, 0, sizeof cb);
	errno = 0;
	int n = recvmsg(s, &m, flags);
	if (n < 0) {
		say("recvmsg: %s", errname(errno));
		return;
	}
	say("%d bytes, flags %x, control %zu", n, m.msg_flags, m.msg_controllen);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		int *v = (void *)CMSG_DATA(c);
		char t[300] = "";
		if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo *p = (void *)v;
			sprintf(t, "if %d spec %x addr %x", p->ipi_ifindex, ntohl(p->ipi_spec_dst.s_addr), ntohl(p->ipi_addr.s_addr));
		} else if (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			char a[64];
			sprintf(t, "if %d addr %s", v[4], inet_ntop(AF_INET6, v, a, sizeof a));
		} else if (c->cmsg_level == SOL_SOCKET && (c->cmsg_type == SO_TIMESTAMP || c->cmsg_type == SO_TIMESTAMPNS)) {
			struct timespec now;
			clock_gettime(CLOCK_REALTIME, &now);
			long d = now.tv_sec - *(long *)v;
			sprintf(t, "%s", d >= 0 && d < 60 ? "now" : "another time");
		} else if ((c->cmsg_type == IP_RECVERR && c->cmsg_level == SOL_IP) || (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_RECVERR)) {
			struct sock_extended_err *e = (void *)v;
			struct sockaddr *o = SO_EE_OFFENDER(e);
			char a[64] = "";
			if (o->sa_family == AF_INET)
				inet_ntop(AF_INET, &((struct sockaddr_in *)o)->sin_addr, a, sizeof a);
			else if (o->sa_family == AF_INET6)
				inet_ntop(AF_INET6, &((struct sockaddr_in6 *)o)->sin6_addr, a, sizeof a);
			sprintf(t, "%s origin %d type %d code %d info %u, offender %d %s port %d", errname(e->ee_errno), e->ee_origin, e->ee_type, e->ee_code, e->ee_info,
				o->sa_family, a, o->sa_family ? ntohs(((struct sockaddr_in *)o)->sin_port) : 0);
		} else if (c->cmsg_type == IP_ORIGDSTADDR && c->cmsg_level == SOL_IP) {
			sprintf(t, "family %d", *(unsigned short *)v);
		} else if (c->cmsg_len >= CMSG_LEN(4))
			sprintf(t, "%d", *v);
		else if (c->cmsg_len >= CMSG_LEN(1))
			sprintf(t, "byte %d", *(unsigned char *)v);
		say("  %s, %zu bytes: %s", cname(c->cmsg_level, c->cmsg_type), c->cmsg_len - sizeof *c, t);
	}
}

CASE(none, recvmsg)
{
	int u[2];
	udp(AF_INET, u);
	send(u[0], "x", 1, 0);
	take(u[1], 0, sizeof cb);
	int p[2];
	tcp(AF_INET, p);
	send(p[0], "x", 1, 0);
	take(p[1], 0, sizeof cb);
}

CASE(pktinfo, recvmsg)
{
	int u[2];
	udp(AF_INET, u);
	setint(u[1], SOL_IP, IP_PKTINFO, 1);
	send(u[0], "x", 1, 0);
	take(u[1], 0, sizeof cb);
	send(u[0], "x", 1, 0);
	take(u[1], 0, CMSG_SPACE(sizeof(struct in_pktinfo)));
	send(u[0], "x", 1, 0);
	take(u[1], 0, CMSG_LEN(8));
	send(u[0], "x", 1, 0);
	take(u[1], 0, 15);
	send(u[0], "x", 1, 0);
	take(u[1], 0, 0);
}

CASE(ttltos, recvmsg)
{
	int u[2];
	udp(AF_INET, u);
	setint(u[1], SOL_IP, IP_RECVTTL, 1);
	setint(u[1], SOL_IP, IP_RECVTOS, 1);
	send(u[0], "x", 1, 0);
	take(u[1], 0, sizeof cb);
	setint(u[0], SOL_IP, IP_TOS, 0x28);
	setint(u[0], SOL_IP, IP_TTL, 9);
	send(u[0], "x", 1, 0);
	take(u[1], MSG_PEEK, sizeof cb);
	take(u[1], 0, sizeof cb);
	setint(u[1], SOL_IP, IP_PKTINFO, 1);
	setint(u[1], SOL_IP, IP_RECVORIGDSTADDR, 1);
	setint(u[1], SOL_SOCKET, SO_TIMESTAMP, 1);
	send(u[0], "x", 1, 0);
	take(u[1], 0, sizeof cb);
}

CASE(six, recvmsg)
{
	int u[2];
	udp(AF_INET6, u);
	setint(u[1], SOL_IPV6, IPV6_RECVPKTINFO, 1);
	setint(u[1], SOL_IPV6, IPV6_RECVHOPLIMIT, 1);
	setint(u[1], SOL_IPV6, IPV6_RECVTCLASS, 1);
	send(u[0], "x", 1, 0);
	take(u[1], 0, sizeof cb);
	setint(u[0], SOL_IPV6, IPV6_UNICAST_HOPS, 7);
	setint(u[0], SOL_IPV6, IPV6_TCLASS, 0x30);
	send(u[0], "x", 1, 0);
	take(u[1], 0, sizeof cb);
}

CASE(mapped, recvmsg)
{
	/* An IPv4 datagram on an IPv6 socket. */
	int s = socket(AF_INET6, SOCK_DGRAM, 0), c = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in6 a = { .sin6_family = AF_INET6 };
	socklen_t n = sizeof a;
	MUST(bind(s, SA(a)));
	getsockname(s, (void *)&a, &n);
	setint(s, SOL_IPV6, IPV6_RECVPKTINFO, 1);
	setint(s, SOL_IPV6, IPV6_RECVHOPLIMIT, 1);
	setint(s, SOL_IPV6, IPV6_RECVTCLASS, 1);
	struct sockaddr_in to = lo(ntohs(a.sin6_port));
	sendto(c, "x", 1, 0, SA(to));
	take(s, 0, sizeof cb);
	setint(s, SOL_IP, IP_PKTINFO, 1);
	setint(s, SOL_IP, IP_RECVTTL, 1);
	setint(s, SOL_IP, IP_RECVTOS, 1);
	sendto(c, "x", 1, 0, SA(to));
	take(s, 0, sizeof cb);
	n = sizeof a;
	sendto(c, "x", 1, 0, SA(to));
	R(recvfrom(s, buf, 1, 0, (void *)&a, &n));
	IS(IN6_IS_ADDR_V4MAPPED(&a.sin6_addr));
}

CASE(stamps, recvmsg, ioctl)
{
	int u[2];
	struct timeval tv;
	struct timespec ts;
	udp(AF_INET, u);
	R(ioctl(u[1], 0x8906, &tv)); /* SIOCGSTAMP */
	send(u[0], "x", 1, 0);
	take(u[1], 0, sizeof cb);
	R(ioctl(u[1], 0x8906, &tv));
	send(u[0], "x", 1, 0);
	take(u[1], 0, sizeof cb);
	R(ioctl(u[1], 0x8906, &tv));
	R(ioctl(u[1], 0x8907, &ts));
	setint(u[1], SOL_SOCKET, SO_TIMESTAMP, 1);
	send(u[0], "x", 1, 0);
	take(u[1], 0, sizeof cb);
	setint(u[1], SOL_SOCKET, SO_TIMESTAMPNS, 1);
	send(u[0], "x", 1, 0);
	take(u[1], 0, sizeof cb);
	setint(u[1], SOL_SOCKET, SO_TIMESTAMPNS, 0);
	send(u[0], "x", 1, 0);
	take(u[1], 0, sizeof cb);
}

static int put(int s, struct sockaddr *to, socklen_t len, int level, int type, const void *v, size_t n)
{
	struct iovec io = { "x", 1 };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = cb, .msg_controllen = CMSG_SPACE(n), .msg_name = to, .msg_namelen = len };
	memset(cb, 0, sizeof cb);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = level, c->cmsg_type = type, c->cmsg_len = CMSG_LEN(n);
	memcpy(CMSG_DATA(c), v, n);
	return sendmsg(s, &m, 0);
}

CASE(sendttl, sendmsg)
{
	int u[2], v;
	udp(AF_INET, u);
	setint(u[1], SOL_IP, IP_RECVTTL, 1);
	setint(u[1], SOL_IP, IP_RECVTOS, 1);
#define PUT(level, type, val, n) ({ v = val; R(put(u[0], 0, 0, level, type, &v, n)); })
	PUT(SOL_IP, IP_TTL, 5, 4);
	take(u[1], MSG_DONTWAIT, sizeof cb);
	PUT(SOL_IP, IP_TOS, 0x20, 4);
	take(u[1], MSG_DONTWAIT, sizeof cb);
	PUT(SOL_IP, IP_TOS, 0x24, 1);
	take(u[1], MSG_DONTWAIT, sizeof cb);
	PUT(SOL_IP, IP_TTL, 0, 4);
	PUT(SOL_IP, IP_TTL, 256, 4);
	PUT(SOL_IP, IP_TTL, 5, 1);
	PUT(SOL_IP, IP_TOS, 5, 2);
	PUT(SOL_IP, IP_TOS, 256, 4);
	PUT(SOL_IP, 5000, 5, 4);
	PUT(SOL_SOCKET, 5000, 5, 4);
	PUT(SOL_SOCKET, SO_MARK, 5, 4);
	PUT(SOL_SOCKET, SO_MARK, 5, 2);
	PUT(SOL_TCP, 1, 5, 4);
	PUT(SOL_IPV6, IPV6_HOPLIMIT, 5, 4);
	PUT(SOL_IP, IP_PKTINFO, 5, 4);
	PUT(SOL_SOCKET, SCM_RIGHTS, 0, 4);
}

CASE(sendpktinfo, sendmsg, recvfrom)
{
	/* The source of a socket that is bound to no address. */
	struct sockaddr_storage a;
	socklen_t n;
	int r = bound(AF_INET, SOCK_DGRAM, &a, &n), s = socket(AF_INET, SOCK_DGRAM, 0);
	struct in_pktinfo p = { .ipi_spec_dst.s_addr = htonl(0x7f000005) };
	R(put(s, (void *)&a, n, SOL_IP, IP_PKTINFO, &p, sizeof p));
	struct sockaddr_in from;
	socklen_t m = sizeof from;
	R(recvfrom(r, buf, 9, MSG_DONTWAIT, (void *)&from, &m));
	p = (struct in_pktinfo){ .ipi_spec_dst.s_addr = htonl(0x01020304) };
	R(put(s, (void *)&a, n, SOL_IP, IP_PKTINFO, &p, sizeof p));
	p = (struct in_pktinfo){ .ipi_ifindex = 1 };
	R(put(s, (void *)&a, n, SOL_IP, IP_PKTINFO, &p, sizeof p));
	p = (struct in_pktinfo){ .ipi_ifindex = 99 };
	R(put(s, (void *)&a, n, SOL_IP, IP_PKTINFO, &p, sizeof p));
}

CASE(send6, sendmsg, recvmsg)
{
	int u[2], v;
	udp(AF_INET6, u);
	setint(u[1], SOL_IPV6, IPV6_RECVHOPLIMIT, 1);
	setint(u[1], SOL_IPV6, IPV6_RECVTCLASS, 1);
	PUT(SOL_IPV6, IPV6_HOPLIMIT, 5, 4);
	take(u[1], MSG_DONTWAIT, sizeof cb);
	PUT(SOL_IPV6, IPV6_TCLASS, 0x20, 4);
	take(u[1], MSG_DONTWAIT, sizeof cb);
	PUT(SOL_IPV6, IPV6_HOPLIMIT, -1, 4);
	take(u[1], MSG_DONTWAIT, sizeof cb);
	PUT(SOL_IPV6, IPV6_HOPLIMIT, 256, 4);
	PUT(SOL_IPV6, IPV6_HOPLIMIT, 5, 1);
	PUT(SOL_IPV6, IPV6_TCLASS, 256, 4);
	PUT(SOL_IPV6, IPV6_DONTFRAG, 1, 4);
	take(u[1], MSG_DONTWAIT, sizeof cb);
	PUT(SOL_IPV6, 5000, 1, 4);
	struct in6_pktinfo p = { .ipi6_addr = IN6ADDR_LOOPBACK_INIT };
	R(put(u[0], 0, 0, SOL_IPV6, IPV6_PKTINFO, &p, sizeof p));
	p.ipi6_ifindex = 1;
	R(put(u[0], 0, 0, SOL_IPV6, IPV6_PKTINFO, &p, sizeof p));
	p.ipi6_ifindex = 99;
	R(put(u[0], 0, 0, SOL_IPV6, IPV6_PKTINFO, &p, sizeof p));
	R(put(u[0], 0, 0, SOL_IPV6, IPV6_PKTINFO, &p, 10));
}

CASE(segments, sendmsg, recvfrom)
{
	int u[2];
	short seg = 4;
	udp(AF_INET, u);
	struct iovec io = { "abcdefghij", 10 };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = cb, .msg_controllen = CMSG_SPACE(2) };
	memset(cb, 0, sizeof cb);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_UDP, c->cmsg_type = 103, c->cmsg_len = CMSG_LEN(2);
	memcpy(CMSG_DATA(c), &seg, 2);
	R(sendmsg(u[0], &m, 0));
	for (int i = 0; i < 4; i++)
		R(recv(u[1], buf, 100, MSG_DONTWAIT));
}

CASE(errqueue, recvmsg)
{
	struct sockaddr_storage a;
	socklen_t n;
	int r = bound(AF_INET, SOCK_DGRAM, &a, &n), s = socket(AF_INET, SOCK_DGRAM, 0);
	close(r);
	MUST(connect(s, (void *)&a, n));
	setint(s, SOL_IP, IP_RECVERR, 1);
	take(s, MSG_ERRQUEUE, sizeof cb);
	R(sendto(s, "abc", 3, 0, (void *)&a, n));
	R(ready(s, POLLIN));
	take(s, MSG_ERRQUEUE, sizeof cb);
	take(s, MSG_ERRQUEUE, sizeof cb);
	GET(s, SOL_SOCKET, SO_ERROR);
	R(sendto(s, "abc", 3, 0, (void *)&a, n));
	R(ready(s, POLLIN));
	GET(s, SOL_SOCKET, SO_ERROR);
	take(s, MSG_ERRQUEUE, 20);
	R(setint(s, SOL_IP, IP_RECVERR, 0));
}

CASE(errqueue6, recvmsg, sendto)
{
	struct sockaddr_storage a;
	socklen_t n;
	int r = bound(AF_INET6, SOCK_DGRAM, &a, &n), s = socket(AF_INET6, SOCK_DGRAM, 0);
	close(r);
	setint(s, SOL_IPV6, IPV6_RECVERR, 1);
	MUST(connect(s, (void *)&a, n));
	R(send(s, "abc", 3, 0));
	R(ready(s, POLLIN));
	take(s, MSG_ERRQUEUE, sizeof cb);
	take(s, MSG_ERRQUEUE, sizeof cb);
}

static uint16_t sum(const void *b, int n)
{
	uint32_t s = 0;
	for (int i = 0; i < n; i += 2)
		s += *(uint16_t *)((char *)b + i);
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return ~s;
}

/* icmp sends an error about a datagram from one port to another, as if a router had, and waits
 * until a socket has it or will not get it. */
static void icmp(int s, int type, int code, uint32_t rest, int sport, int dport)
{
	struct { uint8_t type, code; uint16_t sum; uint32_t rest; uint8_t ip[20]; uint16_t sport, dport, len, usum; char data[4]; } p = {
		type, code, 0, htonl(rest), { 0x45, 0, 0, 32, 0, 1, 0, 0, 1, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 9 }, htons(sport), htons(dport), htons(12), 0, "abcd" };
	struct sockaddr_in to = lo(0);
	int r;
	MUST(r = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
	memcpy(p.ip + 10, (uint16_t[]){ sum(p.ip, 20) }, 2);
	p.sum = sum(&p, sizeof p);
	MUST(sendto(r, &p, sizeof p, 0, SA(to)));
	close(r);
	poll(&(struct pollfd){ s, 0, 0 }, 1, 150);
}

/* Errors that routers send, about datagrams of a socket that is connected to nobody. */
CASE(errqueue_routers, recvmsg, setsockopt)
{
	struct sockaddr_storage a;
	socklen_t n;
	int s = bound(AF_INET, SOCK_DGRAM, &a, &n), port = ntohs(((struct sockaddr_in *)&a)->sin_port);
	static const int kinds[][3] = { { 11, 0, 0 }, { 11, 1, 0 }, { 3, 0, 0 }, { 3, 1, 0 }, { 3, 2, 0 }, { 3, 3, 0 }, { 3, 4, 1400 }, { 3, 5, 0 }, { 3, 7, 0 },
		{ 3, 9, 0 }, { 3, 13, 0 }, { 3, 15, 0 }, { 3, 16, 0 }, { 12, 0, 5 << 24 }, { 4, 0, 0 } };
	icmp(s, 11, 0, 0, port, 33434);
	take(s, MSG_ERRQUEUE, sizeof cb);
	setint(s, SOL_IP, IP_RECVERR, 1);
	for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		icmp(s, kinds[i][0], kinds[i][1], kinds[i][2], port, 33434 + i);
		struct pollfd f = { s, POLLIN, 0 };
		poll(&f, 1, 0);
		say("type %d code %d: ready %d", kinds[i][0], kinds[i][1], f.revents);
		take(s, MSG_ERRQUEUE, sizeof cb);
	}
	GET(s, SOL_SOCKET, SO_ERROR);
	icmp(s, 11, 0, 0, port, 33434);
	icmp(s, 3, 1, 0, port, 33434);
	settle();
	GET(s, SOL_SOCKET, SO_ERROR);
	GET(s, SOL_SOCKET, SO_ERROR);
	take(s, MSG_ERRQUEUE, sizeof cb);
	R(recv(s, buf, 10, MSG_DONTWAIT));
	R(recv(s, buf, 10, MSG_DONTWAIT));
	icmp(s, 3, 1, 0, port, 33434);
	struct sockaddr_in self = lo(port);
	R(sendto(s, "x", 1, 0, SA(self)));
	R(sendto(s, "x", 1, 0, SA(self)));
	take(s, MSG_ERRQUEUE, sizeof cb);
	take(s, MSG_ERRQUEUE, sizeof cb);
	take(s, MSG_ERRQUEUE, sizeof cb);
	icmp(s, 3, 1, 0, port + 1, 33434);
	take(s, MSG_ERRQUEUE, sizeof cb);
	icmp(s, 3, 1, 0, port, 33434);
	setint(s, SOL_IP, IP_RECVERR, 0);
	take(s, MSG_ERRQUEUE, sizeof cb);
}

/* Nobody at a port, for a socket that is connected to nobody; and a datagram that is too long. */
CASE(errqueue_unconnected, recvmsg, setsockopt)
{
	struct sockaddr_storage a;
	socklen_t n;
	int r = bound(AF_INET, SOCK_DGRAM, &a, &n), s = socket(AF_INET, SOCK_DGRAM, 0);
	close(r);
	((struct sockaddr_in *)&a)->sin_addr.s_addr = htonl(0x7f000002);
	R(sendto(s, "abc", 3, 0, (void *)&a, n));
	settle();
	GET(s, SOL_SOCKET, SO_ERROR);
	setint(s, SOL_IP, IP_RECVERR, 1);
	R(sendto(s, "abc", 3, 0, (void *)&a, n));
	settle();
	R(ready(s, POLLIN));
	R(recv(s, buf, 10, MSG_DONTWAIT));
	take(s, MSG_ERRQUEUE, sizeof cb);
	take(s, MSG_ERRQUEUE, sizeof cb);
}

/* The same of a socket of IPv6 that speaks IPv4; and a datagram that must not be cut. */
CASE(errqueue_mapped, recvmsg, setsockopt)
{
	struct sockaddr_storage a;
	socklen_t n;
	int r = bound(AF_INET, SOCK_DGRAM, &a, &n), s = socket(AF_INET6, SOCK_DGRAM, 0);
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = ((struct sockaddr_in *)&a)->sin_port };
	inet_pton(AF_INET6, "::ffff:127.0.0.1", &to.sin6_addr);
	close(r);
	setint(s, SOL_IPV6, IPV6_RECVERR, 1);
	R(sendto(s, "abc", 3, 0, SA(to)));
	settle();
	take(s, MSG_ERRQUEUE, sizeof cb);
	setint(s, SOL_IP, IP_RECVERR, 1);
	R(sendto(s, "abc", 3, 0, SA(to)));
	settle();
	take(s, MSG_ERRQUEUE, sizeof cb);
	setint(s, SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
	R(sendto(s, buf, 65507, 0, SA(to)));
	take(s, MSG_ERRQUEUE, sizeof cb);
	take(s, MSG_ERRQUEUE, sizeof cb);
}

CASE(broken, sendmsg)
{
	/* Control data that is no control message. */
	int u[2];
	udp(AF_INET, u);
	struct iovec io = { "x", 1 };
	for (int len = 0; len < 20; len += 3) {
		memset(cb, 0, sizeof cb);
		struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = cb, .msg_controllen = 24 };
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_IP, c->cmsg_type = IP_TTL, c->cmsg_len = len;
		*(int *)CMSG_DATA(c) = 5;
		say("cmsg_len %d", len);
		R(sendmsg(u[0], &m, 0));
	}
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = (void *)8, .msg_controllen = 24 };
	R(sendmsg(u[0], &m, 0));
	m = (struct msghdr){ .msg_iov = &io, .msg_iovlen = 1, .msg_control = cb, .msg_controllen = 10 };
	R(sendmsg(u[0], &m, 0));
	m = (struct msghdr){ .msg_iov = &io, .msg_iovlen = 1, .msg_control = cb, .msg_controllen = 1 << 30 };
	R(sendmsg(u[0], &m, 0));
	m = (struct msghdr){ .msg_iov = &io, .msg_iovlen = 1, .msg_control = cb, .msg_controllen = -1 };
	R(sendmsg(u[0], &m, 0));
}

/* copied prints a notification of MSG_ZEROCOPY; -1 if there is none. */
static int copied(int s, int quiet)
{
	union { char b[200]; struct cmsghdr h; } c;
	struct sockaddr_storage from;
	struct iovec v = { buf, 100 };
	struct msghdr m = { .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &v, .msg_iovlen = 1, .msg_control = c.b, .msg_controllen = sizeof c.b };
	errno = 0;
	int n = recvmsg(s, &m, MSG_ERRQUEUE);
	if (n < 0) {
		say("- %s", errname(errno));
		return -1;
	}
	struct sock_extended_err *e = (void *)CMSG_DATA(&c.h);
	if (!quiet) {
		say("- %d bytes, name of %d, flags %x, %d bytes of %d %d: errno %d origin %d type %d code %d, %u to %u", n, m.msg_namelen, m.msg_flags,
			(int)c.h.cmsg_len, c.h.cmsg_level, c.h.cmsg_type, e->ee_errno, e->ee_origin, e->ee_type, e->ee_code, e->ee_info, e->ee_data);
		for (int i = 16; i < (int)c.h.cmsg_len - 16; i++)
			if (CMSG_DATA(&c.h)[i])
				say("- an offender");
	}
	return e->ee_data;
}

/* Who sends without a copy is told when the memory is his again, here that it was copied. */
CASE(zerocopy, sendto, recvmsg, setsockopt, poll)
{
#ifndef MSG_ZEROCOPY
#define MSG_ZEROCOPY 0x4000000
#endif
#ifndef SO_ZEROCOPY
#define SO_ZEROCOPY 60
#endif
	static const int other[][3] = { { AF_INET, SOCK_RAW, IPPROTO_UDP }, { AF_INET, SOCK_DGRAM, 136 }, { AF_UNIX, SOCK_STREAM, 0 }, { AF_NETLINK, SOCK_RAW, 0 } };
	for (int i = 0; i < 4; i++)
		R(setint(socket(other[i][0], other[i][1], other[i][2]), SOL_SOCKET, SO_ZEROCOPY, 1));
	for (int i = 0; i < 4; i++) {
		int p[2], family = i & 1 ? AF_INET6 : AF_INET;
		(i & 2 ? udp : tcp)(family, p);
		say("%s, family %d", i & 2 ? "udp" : "tcp", family);
		R(send(p[0], buf, 100, MSG_ZEROCOPY));
		settle();
		copied(p[0], 0);
		SET(p[0], SOL_SOCKET, SO_ZEROCOPY, 1);
		R(send(p[0], buf, 100, 0));
		settle();
		copied(p[0], 0);
		R(send(p[0], buf, 100, MSG_ZEROCOPY));
		IS(ready(p[0], POLLPRI) & POLLERR);
		copied(p[0], 0);
		R(send(p[0], buf, 100, MSG_ZEROCOPY));
		R(send(p[0], buf, 100, MSG_ZEROCOPY));
		int upto;
		do {
			ready(p[0], POLLPRI);
			upto = copied(p[0], 1);
		} while (upto >= 0 && upto < 2);
		say("up to %d", upto);
		copied(p[0], 0);
		struct pollfd f = { p[0], POLLOUT };
		R(poll(&f, 1, 0));
		say("events %x", f.revents);
	}
}

CASES
