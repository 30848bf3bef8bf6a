/* getsockopt and setsockopt: SOL_IP and SOL_IPV6; multicast membership. */
#include "sock.h"
#include <linux/errqueue.h>

static int t4(void) { int s; MUST(s = socket(AF_INET, SOCK_STREAM, 0)); return s; }
static int u4(void) { int s; MUST(s = socket(AF_INET, SOCK_DGRAM, 0)); return s; }
static int u6(void) { int s; MUST(s = socket(AF_INET6, SOCK_DGRAM, 0)); return s; }
static int t6(void) { int s; MUST(s = socket(AF_INET6, SOCK_STREAM, 0)); return s; }

CASE(defaults4, getsockopt)
{
	int kinds[] = { t4(), u4(), u6() };
	for (int i = 0; i < 3; i++) {
		int s = kinds[i];
		say("-- %s", i == 0 ? "TCP" : i == 1 ? "UDP" : "UDP over IPv6");
		GET(s, SOL_IP, IP_TOS);
		GET(s, SOL_IP, IP_TTL);
		GET(s, SOL_IP, IP_HDRINCL);
		GET(s, SOL_IP, IP_OPTIONS);
		GET(s, SOL_IP, IP_ROUTER_ALERT);
		GET(s, SOL_IP, IP_RECVOPTS);
		GET(s, SOL_IP, IP_RETOPTS);
		GET(s, SOL_IP, IP_PKTINFO);
		GET(s, SOL_IP, IP_PKTOPTIONS);
		GET(s, SOL_IP, IP_MTU_DISCOVER);
		GET(s, SOL_IP, IP_RECVERR);
		GET(s, SOL_IP, IP_RECVTTL);
		GET(s, SOL_IP, IP_RECVTOS);
		GET(s, SOL_IP, IP_MTU);
		GET(s, SOL_IP, IP_FREEBIND);
		GET(s, SOL_IP, IP_PASSSEC);
		GET(s, SOL_IP, IP_TRANSPARENT);
		GET(s, SOL_IP, IP_RECVORIGDSTADDR);
		GET(s, SOL_IP, IP_MINTTL);
		GET(s, SOL_IP, IP_NODEFRAG);
		GET(s, SOL_IP, IP_CHECKSUM);
		GET(s, SOL_IP, IP_BIND_ADDRESS_NO_PORT);
		GET(s, SOL_IP, IP_RECVFRAGSIZE);
		GET(s, SOL_IP, IP_MULTICAST_IF);
		GET(s, SOL_IP, IP_MULTICAST_TTL);
		GET(s, SOL_IP, IP_MULTICAST_LOOP);
		GET(s, SOL_IP, IP_MULTICAST_ALL);
		GET(s, SOL_IP, IP_UNICAST_IF);
		GET(s, SOL_IP, IP_ADD_MEMBERSHIP);
		GET(s, SOL_IP, 5000);
	}
}

CASE(values4, setsockopt, getsockopt)
{
	int s = u4(), t = t4();
	SET(s, SOL_IP, IP_TOS, 0x10);
	SET(s, SOL_IP, IP_TOS, 0xff);
	SET(s, SOL_IP, IP_TOS, 0x1ff);
	SET(t, SOL_IP, IP_TOS, 0xff);
	SET(t, SOL_IP, IP_TOS, 3);
	SET(s, SOL_IP, IP_TTL, 1);
	SET(s, SOL_IP, IP_TTL, 255);
	SET(s, SOL_IP, IP_TTL, 256);
	SET(s, SOL_IP, IP_TTL, 0);
	SET(s, SOL_IP, IP_TTL, -1);
	SET(s, SOL_IP, IP_TTL, -2);
	SET(s, SOL_IP, IP_MINTTL, 20);
	SET(s, SOL_IP, IP_MINTTL, 256);
	SET(s, SOL_IP, IP_MTU_DISCOVER, 0);
	SET(s, SOL_IP, IP_MTU_DISCOVER, 2);
	SET(s, SOL_IP, IP_MTU_DISCOVER, 3);
	SET(s, SOL_IP, IP_MTU_DISCOVER, 4);
	SET(s, SOL_IP, IP_MTU_DISCOVER, 5);
	SET(s, SOL_IP, IP_MTU_DISCOVER, 6);
	SET(s, SOL_IP, IP_MTU_DISCOVER, -1);
	SET(t, SOL_IP, IP_MTU_DISCOVER, 2);
	SET(s, SOL_IP, IP_PKTINFO, 3);
	SET(s, SOL_IP, IP_RECVTTL, 1);
	SET(s, SOL_IP, IP_RECVTOS, 1);
	SET(s, SOL_IP, IP_RECVERR, 1);
	SET(s, SOL_IP, IP_RECVOPTS, 1);
	SET(s, SOL_IP, IP_RETOPTS, 1);
	SET(s, SOL_IP, IP_RECVORIGDSTADDR, 1);
	SET(s, SOL_IP, IP_FREEBIND, 1);
	SET(s, SOL_IP, IP_TRANSPARENT, 1);
	SET(s, SOL_IP, IP_NODEFRAG, 1);
	SET(s, SOL_IP, IP_CHECKSUM, 1);
	SET(t, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	SET(t, SOL_IP, IP_RECVTTL, 1);
	SET(s, SOL_IP, IP_RECVFRAGSIZE, 1);
	SET(s, SOL_IP, IP_HDRINCL, 1);
	SET(s, SOL_IP, IP_ROUTER_ALERT, 1);
	SET(s, SOL_IP, IP_MULTICAST_TTL, 5);
	SET(s, SOL_IP, IP_MULTICAST_TTL, -1);
	SET(s, SOL_IP, IP_MULTICAST_TTL, 256);
	SET(t, SOL_IP, IP_MULTICAST_TTL, 5);
	SET(s, SOL_IP, IP_MULTICAST_LOOP, 0);
	SET(s, SOL_IP, IP_MULTICAST_ALL, 0);
	SET(s, SOL_IP, IP_MULTICAST_ALL, 2);
	SET(s, SOL_IP, IP_UNICAST_IF, htonl(1));
	SET(s, SOL_IP, IP_UNICAST_IF, htonl(77));
	SET(s, SOL_IP, 5000, 1);
}

CASE(bytes, setsockopt, getsockopt)
{
	/* A byte is enough for an option of IPv4. */
	int s = u4();
	unsigned char b = 33;
	R(setsockopt(s, SOL_IP, IP_TTL, &b, 1));
	GET(s, SOL_IP, IP_TTL);
	int v = 34;
	R(setsockopt(s, SOL_IP, IP_TTL, &v, 3));
	GET(s, SOL_IP, IP_TTL);
	R(setsockopt(s, SOL_IP, IP_TTL, &v, 0));
	R(setsockopt(s, SOL_IP, IP_TTL, 0, 4));
	for (int room = 0; room < 6; room++) {
		unsigned char o[8];
		socklen_t n = room;
		memset(o, 0xee, 8);
		R(getsockopt(s, SOL_IP, IP_TTL, o, &n));
		say("room %d: %u bytes %02x %02x %02x %02x %02x", room, n, o[0], o[1], o[2], o[3], o[4]);
	}
	socklen_t n = 1;
	v = -1;
	R(getsockopt(s, SOL_IP, IP_UNICAST_IF, &v, &n));
	R(setsockopt(u6(), SOL_IPV6, IPV6_UNICAST_HOPS, &v, 1));
	n = 2;
	v = 0;
	R(getsockopt(u6(), SOL_IPV6, IPV6_UNICAST_HOPS, &v, &n));
	say("%u bytes %d", n, v);
}

CASE(mtu, getsockopt)
{
	int p[2], q[2];
	udp(AF_INET, p);
	GET(p[0], SOL_IP, IP_MTU);
	GET(p[1], SOL_IP, IP_MTU);
	udp(AF_INET6, q);
	GET(q[0], SOL_IPV6, IPV6_MTU);
	GET(q[1], SOL_IPV6, IPV6_MTU);
}

CASE(defaults6, getsockopt)
{
	int kinds[] = { t6(), u6() };
	for (int i = 0; i < 2; i++) {
		int s = kinds[i];
		say("-- %s", i ? "UDP" : "TCP");
		GET(s, SOL_IPV6, IPV6_V6ONLY);
		GET(s, SOL_IPV6, IPV6_UNICAST_HOPS);
		GET(s, SOL_IPV6, IPV6_MULTICAST_HOPS);
		GET(s, SOL_IPV6, IPV6_MULTICAST_LOOP);
		GET(s, SOL_IPV6, IPV6_MULTICAST_IF);
		GET(s, SOL_IPV6, IPV6_MULTICAST_ALL);
		GET(s, SOL_IPV6, IPV6_UNICAST_IF);
		GET(s, SOL_IPV6, IPV6_MTU_DISCOVER);
		GET(s, SOL_IPV6, IPV6_MTU);
		GET(s, SOL_IPV6, IPV6_RECVERR);
		GET(s, SOL_IPV6, IPV6_RECVPKTINFO);
		GET(s, SOL_IPV6, IPV6_2292PKTINFO);
		GET(s, SOL_IPV6, IPV6_RECVHOPLIMIT);
		GET(s, SOL_IPV6, IPV6_RECVRTHDR);
		GET(s, SOL_IPV6, IPV6_RECVHOPOPTS);
		GET(s, SOL_IPV6, IPV6_RECVDSTOPTS);
		GET(s, SOL_IPV6, IPV6_TCLASS);
		GET(s, SOL_IPV6, IPV6_RECVTCLASS);
		GET(s, SOL_IPV6, IPV6_RECVPATHMTU);
		GET(s, SOL_IPV6, IPV6_TRANSPARENT);
		GET(s, SOL_IPV6, IPV6_FREEBIND);
		GET(s, SOL_IPV6, IPV6_RECVORIGDSTADDR);
		GET(s, SOL_IPV6, IPV6_AUTOFLOWLABEL);
		GET(s, SOL_IPV6, IPV6_DONTFRAG);
		GET(s, SOL_IPV6, IPV6_MINHOPCOUNT);
		GET(s, SOL_IPV6, IPV6_ADDR_PREFERENCES);
		GET(s, SOL_IPV6, IPV6_RECVFRAGSIZE);
		GET(s, SOL_IPV6, IPV6_ROUTER_ALERT_ISOLATE);
		GET(s, SOL_IPV6, 5000);
	}
}

CASE(values6, setsockopt, getsockopt)
{
	int s = u6(), t = t6();
	SET(s, SOL_IPV6, IPV6_V6ONLY, 2);
	SET(s, SOL_IPV6, IPV6_V6ONLY, 0);
	SET(s, SOL_IPV6, IPV6_UNICAST_HOPS, 12);
	SET(s, SOL_IPV6, IPV6_UNICAST_HOPS, 0);
	SET(s, SOL_IPV6, IPV6_UNICAST_HOPS, -1);
	SET(s, SOL_IPV6, IPV6_UNICAST_HOPS, 256);
	SET(s, SOL_IPV6, IPV6_UNICAST_HOPS, -2);
	SET(s, SOL_IPV6, IPV6_MULTICAST_HOPS, 12);
	SET(s, SOL_IPV6, IPV6_MULTICAST_HOPS, -1);
	SET(s, SOL_IPV6, IPV6_MULTICAST_HOPS, 256);
	SET(t, SOL_IPV6, IPV6_MULTICAST_HOPS, 12);
	SET(s, SOL_IPV6, IPV6_MULTICAST_LOOP, 0);
	SET(s, SOL_IPV6, IPV6_MULTICAST_LOOP, 2);
	SET(s, SOL_IPV6, IPV6_MULTICAST_ALL, 0);
	SET(s, SOL_IPV6, IPV6_MULTICAST_IF, 1);
	SET(s, SOL_IPV6, IPV6_MULTICAST_IF, 0);
	SET(s, SOL_IPV6, IPV6_MULTICAST_IF, 99);
	SET(t, SOL_IPV6, IPV6_MULTICAST_IF, 1);
	SET(s, SOL_IPV6, IPV6_UNICAST_IF, htonl(1));
	SET(s, SOL_IPV6, IPV6_MTU_DISCOVER, 0);
	SET(s, SOL_IPV6, IPV6_MTU_DISCOVER, 2);
	SET(s, SOL_IPV6, IPV6_MTU_DISCOVER, 6);
	SET(s, SOL_IPV6, IPV6_RECVERR, 1);
	SET(s, SOL_IPV6, IPV6_RECVPKTINFO, 1);
	SET(s, SOL_IPV6, IPV6_2292PKTINFO, 1);
	SET(s, SOL_IPV6, IPV6_RECVHOPLIMIT, 1);
	SET(s, SOL_IPV6, IPV6_RECVRTHDR, 1);
	SET(s, SOL_IPV6, IPV6_RECVHOPOPTS, 1);
	SET(s, SOL_IPV6, IPV6_RECVDSTOPTS, 1);
	SET(s, SOL_IPV6, IPV6_TCLASS, 0x20);
	SET(s, SOL_IPV6, IPV6_TCLASS, -1);
	SET(s, SOL_IPV6, IPV6_TCLASS, 256);
	SET(s, SOL_IPV6, IPV6_RECVTCLASS, 1);
	SET(s, SOL_IPV6, IPV6_RECVPATHMTU, 1);
	SET(s, SOL_IPV6, IPV6_TRANSPARENT, 1);
	SET(s, SOL_IPV6, IPV6_FREEBIND, 1);
	SET(s, SOL_IPV6, IPV6_RECVORIGDSTADDR, 1);
	SET(s, SOL_IPV6, IPV6_AUTOFLOWLABEL, 1);
	SET(s, SOL_IPV6, IPV6_DONTFRAG, 1);
	SET(s, SOL_IPV6, IPV6_MINHOPCOUNT, 7);
	SET(s, SOL_IPV6, IPV6_MINHOPCOUNT, 256);
	SET(s, SOL_IPV6, IPV6_RECVFRAGSIZE, 1);
	SET(s, SOL_IPV6, IPV6_MTU, 1280);
	SET(s, SOL_IPV6, IPV6_MTU, 1279);
	SET(s, SOL_IPV6, IPV6_ADDR_PREFERENCES, 2);
	SET(s, SOL_IPV6, 5000, 1);
	int p[2];
	udp(AF_INET6, p);
	SET(p[1], SOL_IPV6, IPV6_V6ONLY, 1);
}

CASE(member4, setsockopt)
{
	int s = u4();
	struct ip_mreqn m = { { htonl(0xe1020304) }, { htonl(INADDR_LOOPBACK) }, 0 };
	R(setsockopt(s, SOL_IP, IP_ADD_MEMBERSHIP, &m, 8));
	R(setsockopt(s, SOL_IP, IP_ADD_MEMBERSHIP, &m, 8));
	R(setsockopt(s, SOL_IP, IP_ADD_MEMBERSHIP, &m, 7));
	R(setsockopt(s, SOL_IP, IP_DROP_MEMBERSHIP, &m, 8));
	R(setsockopt(s, SOL_IP, IP_DROP_MEMBERSHIP, &m, 8));
	m.imr_ifindex = 1;
	R(setsockopt(s, SOL_IP, IP_ADD_MEMBERSHIP, &m, sizeof m));
	R(setsockopt(s, SOL_IP, IP_DROP_MEMBERSHIP, &m, sizeof m));
	m.imr_ifindex = 99;
	R(setsockopt(s, SOL_IP, IP_ADD_MEMBERSHIP, &m, sizeof m));
	R(setsockopt(s, SOL_IP, IP_DROP_MEMBERSHIP, &m, sizeof m));
	m = (struct ip_mreqn){ { htonl(0x0a000001) }, { htonl(INADDR_LOOPBACK) }, 0 };
	R(setsockopt(s, SOL_IP, IP_ADD_MEMBERSHIP, &m, 8));
	m = (struct ip_mreqn){ { htonl(0xe1020304) }, { htonl(0x01020304) }, 0 };
	R(setsockopt(s, SOL_IP, IP_ADD_MEMBERSHIP, &m, 8));
	R(setsockopt(t4(), SOL_IP, IP_ADD_MEMBERSHIP, &m, 8));
}

CASE(multicast4, setsockopt, sendto, recvfrom)
{
	int s = u4(), r = u4(), o = u4();
	struct sockaddr_in a = v4(INADDR_ANY, 0);
	socklen_t n = sizeof a;
	MUST(bind(r, SA(a)));
	getsockname(r, (void *)&a, &n);
	struct ip_mreqn m = { { htonl(0xe1020304) }, { 0 }, 1 };
	R(setsockopt(r, SOL_IP, IP_ADD_MEMBERSHIP, &m, sizeof m));
	struct sockaddr_in g = v4(0xe1020304, ntohs(a.sin_port));
	struct ip_mreqn i = { { 0 }, { htonl(INADDR_LOOPBACK) }, 1 };
	R(setsockopt(s, SOL_IP, IP_MULTICAST_IF, &i, sizeof i));
	R(sendto(s, "hello", 5, 0, SA(g)));
	IS(ready(r, POLLIN) == POLLIN);
	struct sockaddr_in from = { 0 };
	n = sizeof from;
	R(recvfrom(r, buf, 10, MSG_DONTWAIT, (void *)&from, &n));
	IS(from.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	R(setsockopt(r, SOL_IP, IP_DROP_MEMBERSHIP, &m, sizeof m));
	R(sendto(s, "hello", 5, 0, SA(g)));
	R(recv(r, buf, 10, MSG_DONTWAIT));
	struct in_addr l = { htonl(INADDR_LOOPBACK) };
	R(setsockopt(o, SOL_IP, IP_MULTICAST_IF, &l, sizeof l));
	l.s_addr = htonl(0x01020304);
	R(setsockopt(o, SOL_IP, IP_MULTICAST_IF, &l, sizeof l));
	i.imr_ifindex = 99;
	R(setsockopt(o, SOL_IP, IP_MULTICAST_IF, &i, sizeof i));
	R(setsockopt(o, SOL_IP, IP_MULTICAST_IF, &l, 3));
	R(setsockopt(t4(), SOL_IP, IP_MULTICAST_IF, &l, 4));
	n = 4;
	R(getsockopt(o, SOL_IP, IP_MULTICAST_IF, &l, &n));
	say("%u bytes %s", n, inet_ntoa(l));
}

CASE(member6, setsockopt)
{
	int s = u6();
	struct ipv6_mreq m = { .ipv6mr_interface = 1 };
	inet_pton(AF_INET6, "ff01::1234", &m.ipv6mr_multiaddr);
	R(setsockopt(s, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &m, sizeof m));
	R(setsockopt(s, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &m, sizeof m));
	R(setsockopt(s, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &m, 10));
	R(setsockopt(s, SOL_IPV6, IPV6_DROP_MEMBERSHIP, &m, sizeof m));
	R(setsockopt(s, SOL_IPV6, IPV6_DROP_MEMBERSHIP, &m, sizeof m));
	m.ipv6mr_interface = 99;
	R(setsockopt(s, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &m, sizeof m));
	inet_pton(AF_INET6, "::1", &m.ipv6mr_multiaddr);
	m.ipv6mr_interface = 1;
	R(setsockopt(s, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &m, sizeof m));
	R(setsockopt(t6(), SOL_IPV6, IPV6_ADD_MEMBERSHIP, &m, sizeof m));
}

CASE(mcastgroup, setsockopt)
{
	/* The protocol-independent forms of RFC 3678. */
	int s = u4(), r = u6();
	struct group_req g = { .gr_interface = 1 };
	struct sockaddr_in a = v4(0xe1020305, 0);
	memcpy(&g.gr_group, &a, sizeof a);
	R(setsockopt(s, SOL_IP, MCAST_JOIN_GROUP, &g, sizeof g));
	R(setsockopt(s, SOL_IP, MCAST_JOIN_GROUP, &g, sizeof g));
	R(setsockopt(s, SOL_IP, MCAST_LEAVE_GROUP, &g, sizeof g));
	R(setsockopt(s, SOL_IP, MCAST_LEAVE_GROUP, &g, sizeof g));
	R(setsockopt(s, SOL_IP, MCAST_JOIN_GROUP, &g, 20));
	struct sockaddr_in6 b = { .sin6_family = AF_INET6 };
	inet_pton(AF_INET6, "ff01::1235", &b.sin6_addr);
	memcpy(&g.gr_group, &b, sizeof b);
	R(setsockopt(s, SOL_IP, MCAST_JOIN_GROUP, &g, sizeof g));
	R(setsockopt(r, SOL_IPV6, MCAST_JOIN_GROUP, &g, sizeof g));
	R(setsockopt(r, SOL_IPV6, MCAST_JOIN_GROUP, &g, sizeof g));
	R(setsockopt(r, SOL_IPV6, MCAST_LEAVE_GROUP, &g, sizeof g));
	R(setsockopt(r, SOL_IPV6, MCAST_LEAVE_GROUP, &g, sizeof g));
}

/* How many groups a socket joins: of IPv4 as many as the sysctl says, of IPv6 as its memory for
 * options holds. */
static int fill4(int s, int from)
{
	for (int i = from;; i++) {
		struct ip_mreqn m = { { htonl(0xe1000000 + i) }, { 0 }, 1 };
		if (setsockopt(s, SOL_IP, IP_ADD_MEMBERSHIP, &m, sizeof m) || i == 1000)
			return i;
	}
}

CASE(mostgroups4, setsockopt)
{
	int s = u4(), r = u6();
	struct ip_mreqn m = { { htonl(0xe1000000) }, { 0 }, 1 };
	int f = open("/proc/sys/net/ipv4/igmp_max_memberships", O_RDONLY), n = read(f, buf, 20);
	say("%.*s of %d", n - 1, buf, fill4(s, 0));
	R(setsockopt(s, SOL_IP, IP_ADD_MEMBERSHIP, &m, sizeof m)); /* it is in that already */
	m.imr_ifindex = 99;
	R(setsockopt(s, SOL_IP, IP_ADD_MEMBERSHIP, &m, sizeof m));
	m = (struct ip_mreqn){ { htonl(0xe1000100) }, { 0 }, 1 };
	R(setsockopt(s, SOL_IP, IP_ADD_MEMBERSHIP, &m, sizeof m));
	m.imr_multiaddr.s_addr = htonl(0xe1000003);
	R(setsockopt(s, SOL_IP, IP_DROP_MEMBERSHIP, &m, sizeof m));
	say("%d", fill4(s, 50));
	say("%d", fill4(r, 0));
}

CASE(mostgroups6, setsockopt)
{
	int s = u6(), i;
	struct ipv6_mreq m = { .ipv6mr_interface = 1 };
	inet_pton(AF_INET6, "ff01::1:0", &m.ipv6mr_multiaddr);
	for (i = 0; i < 1000; i++) {
		m.ipv6mr_multiaddr.s6_addr[14] = i >> 8;
		m.ipv6mr_multiaddr.s6_addr[15] = i;
		if (setsockopt(s, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &m, sizeof m))
			break;
	}
	say("%d", i);
	R(setsockopt(s, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &m, sizeof m));
	m.ipv6mr_interface = 99;
	R(setsockopt(s, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &m, sizeof m));
	m.ipv6mr_interface = 1;
	m.ipv6mr_multiaddr.s6_addr[14] = 0;
	m.ipv6mr_multiaddr.s6_addr[15] = 7;
	R(setsockopt(s, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &m, sizeof m));
	R(setsockopt(s, SOL_IPV6, IPV6_DROP_MEMBERSHIP, &m, sizeof m));
	R(setsockopt(s, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &m, sizeof m));
}

CASES
