/* AF_NETLINK with NETLINK_ROUTE, on the loopback: requests, errors, what groups hear. */
#include "sock.h"
#include <net/if.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

static struct { struct nlmsghdr h; char b[4000]; } req;
static int seq;

static int nl(int groups)
{
	int s;
	struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_groups = groups };
	MUST(s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	MUST(bind(s, SA(a)));
	return s;
}

static void start(int type, int flags, const void *body, int n)
{
	memset(&req, 0, sizeof req);
	req.h = (struct nlmsghdr){ .nlmsg_len = NLMSG_LENGTH(n), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags, .nlmsg_seq = ++seq };
	memcpy(NLMSG_DATA(&req.h), body, n);
}

static void put(int type, const void *v, int n)
{
	struct rtattr *a = (void *)((char *)&req + NLMSG_ALIGN(req.h.nlmsg_len));
	a->rta_type = type;
	a->rta_len = RTA_LENGTH(n);
	memcpy(RTA_DATA(a), v, n);
	req.h.nlmsg_len = NLMSG_ALIGN(req.h.nlmsg_len) + RTA_ALIGN(a->rta_len);
}

/* answer prints the error in the answer to a request with an ACK. */
static int answer(const char *what, int s)
{
	for (;;) {
		int n = recv(s, buf, sizeof buf, 0);
		MUST(n);
		for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, (unsigned)n); h = NLMSG_NEXT(h, n))
			if (h->nlmsg_type == NLMSG_ERROR) {
				struct nlmsgerr *e = NLMSG_DATA(h);
				say("%s: %s (%u bytes%s)", what, e->error ? errname(-e->error) : "ok", h->nlmsg_len > 36 ? 37 : h->nlmsg_len,
					h->nlmsg_flags & NLM_F_CAPPED ? ", capped" : "");
				return e->error;
			} else
				say("%s: message %d", what, h->nlmsg_type);
	}
}

/* ask sends the request with an ACK and prints the answer's error. */
static int ask(const char *what, int s)
{
	req.h.nlmsg_flags |= NLM_F_ACK;
	if (send(s, &req, req.h.nlmsg_len, 0) < 0) {
		say("%s: send %s", what, errname(errno));
		return -1;
	}
	return answer(what, s);
}

static void addr(int s, const char *what, int type, int flags, uint32_t a, int bits, int index)
{
	struct ifaddrmsg m = { .ifa_family = AF_INET, .ifa_prefixlen = bits, .ifa_index = index };
	uint32_t v = htonl(a);
	start(type, flags, &m, sizeof m);
	put(IFA_LOCAL, &v, 4);
	put(IFA_ADDRESS, &v, 4);
	ask(what, s);
}

static void route(int s, const char *what, int type, int flags, uint32_t a, int bits, int index, uint32_t gw, int metric)
{
	struct rtmsg m = { .rtm_family = AF_INET, .rtm_dst_len = bits, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = type == RTM_DELROUTE ? 0 : RTPROT_BOOT,
		.rtm_type = RTN_UNICAST, .rtm_scope = type == RTM_DELROUTE ? RT_SCOPE_NOWHERE : gw ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK };
	uint32_t v = htonl(a), g = htonl(gw);
	start(type, flags, &m, sizeof m);
	if (bits)
		put(RTA_DST, &v, 4);
	if (index)
		put(RTA_OIF, &index, 4);
	if (gw)
		put(RTA_GATEWAY, &g, 4);
	if (metric)
		put(RTA_PRIORITY, &metric, 4);
	ask(what, s);
}

static const char *tname(int t)
{
	static char b[20];
	switch (t) {
#define T(x) case x: return #x
	T(RTM_NEWLINK); T(RTM_DELLINK); T(RTM_NEWADDR); T(RTM_DELADDR); T(RTM_NEWROUTE); T(RTM_DELROUTE); T(RTM_NEWRULE);
	}
	sprintf(b, "%d", t);
	return b;
}

/* hear prints what has come to a socket, routes of table main only. */
static void hear(int s)
{
	struct sockaddr_nl from;
	socklen_t l = sizeof from;
	int n;
	while ((n = recvfrom(s, buf, sizeof buf, MSG_DONTWAIT, (void *)&from, &l)) > 0)
		for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, (unsigned)n); h = NLMSG_NEXT(h, n)) {
			struct rtmsg *r = NLMSG_DATA(h);
			struct ifaddrmsg *a = NLMSG_DATA(h);
			struct ifinfomsg *i = NLMSG_DATA(h);
			if (h->nlmsg_type == RTM_NEWROUTE || h->nlmsg_type == RTM_DELROUTE) {
				if (r->rtm_table == RT_TABLE_MAIN && r->rtm_family == AF_INET)
					say("heard %s /%d proto %d scope %d type %d, groups %x", tname(h->nlmsg_type), r->rtm_dst_len, r->rtm_protocol, r->rtm_scope, r->rtm_type, from.nl_groups);
			} else if (h->nlmsg_type == RTM_NEWADDR || h->nlmsg_type == RTM_DELADDR)
				say("heard %s family %d /%d scope %d index %d, groups %x", tname(h->nlmsg_type), a->ifa_family, a->ifa_prefixlen, a->ifa_scope, a->ifa_index, from.nl_groups);
			else if (h->nlmsg_type == RTM_NEWLINK)
				say("heard %s index %d up %d, groups %x", tname(h->nlmsg_type), i->ifi_index, !!(i->ifi_flags & IFF_UP), from.nl_groups);
			else
				say("heard %s", tname(h->nlmsg_type));
		}
}

CASE(names, bind, getsockname, connect)
{
	int s, t;
	struct sockaddr_nl a = { .nl_family = AF_NETLINK };
	socklen_t n = sizeof a;
	R(socket(AF_NETLINK, SOCK_STREAM, NETLINK_ROUTE));
	R(socket(AF_NETLINK, SOCK_RAW, 99));
	R(socket(AF_NETLINK, SOCK_RAW, -1));
	MUST(s = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_ROUTE));
	MUST(t = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	R(getsockname(s, (void *)&a, &n));
	say("%u bytes, port %u groups %x", n, a.nl_pid, a.nl_groups);
	R(bind(s, (void *)&a, 8));
	a.nl_family = AF_INET;
	R(bind(s, SA(a)));
	a.nl_family = AF_NETLINK;
	a.nl_groups = 5;
	R(bind(s, SA(a)));
	R(getsockname(s, (void *)&a, &n));
	IS(a.nl_pid == (unsigned)getpid() && a.nl_groups == 5);
	R(bind(t, SA(a)));
	a.nl_pid = 0;
	R(bind(t, SA(a)));
	n = sizeof a;
	getsockname(t, (void *)&a, &n);
	IS(a.nl_pid != (unsigned)getpid() && a.nl_pid != 0);
	a.nl_pid = 123456;
	R(bind(t, SA(a)));
	a = (struct sockaddr_nl){ .nl_family = AF_NETLINK };
	R(connect(s, SA(a)));
	R(getpeername(s, (void *)&a, &n));
	say("port %u", a.nl_pid);
	R(listen(s, 1));
	R(accept(s, 0, 0));
	R(shutdown(s, 0));
	R(recv(s, buf, 10, MSG_DONTWAIT));
	R(recv(s, buf, 10, MSG_OOB));
	R(send(s, buf, 1, MSG_OOB));
}

CASE(options, setsockopt, getsockopt)
{
	int s = nl(0);
	SET(s, SOL_NETLINK, NETLINK_PKTINFO, 1);
	SET(s, SOL_NETLINK, NETLINK_CAP_ACK, 1);
	SET(s, SOL_NETLINK, NETLINK_EXT_ACK, 1);
	SET(s, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
	SET(s, SOL_NETLINK, NETLINK_NO_ENOBUFS, 1);
	SET(s, SOL_NETLINK, NETLINK_BROADCAST_ERROR, 1);
	SET(s, SOL_NETLINK, 99, 1);
	R(setint(s, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, 0));
	R(setint(s, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, 1));
	R(setint(s, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, 27));
	R(setint(s, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, 1000));
	R(setint(s, SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, 27));
	struct sockaddr_nl a;
	socklen_t n = sizeof a;
	getsockname(s, (void *)&a, &n);
	say("groups %x", a.nl_groups);
	GET(s, SOL_SOCKET, SO_TYPE);
	GET(s, SOL_SOCKET, SO_PROTOCOL);
	GET(s, SOL_SOCKET, SO_DOMAIN);
}

CASE(errors, sendto, recvfrom)
{
	int s = nl(0);
	struct rtgenmsg g = { AF_INET };
	struct ifinfomsg i = { .ifi_index = 99 };
	start(9999, 0, &g, sizeof g);
	ask("unknown", s);
	start(RTM_GETLINK, 0, &g, 0);
	ask("short getlink", s);
	start(RTM_GETLINK, 0, &i, sizeof i);
	ask("getlink 99", s);
	start(RTM_NEWROUTE, 0, &g, 0);
	ask("nothing", s);
	start(RTM_NEWROUTE, 0, &g, sizeof g);
	ask("short newroute", s);
	start(RTM_NEWADDR, 0, &g, sizeof g);
	ask("short newaddr", s);
	start(RTM_GETLINK, 0, &i, sizeof i);
	req.h.nlmsg_flags = NLM_F_ACK;
	ask("no request", s);
	start(NLMSG_NOOP, 0, &g, 0);
	ask("noop", s);
	/* Too short for a header, and longer than what was sent: no answer. */
	R(send(s, &req, 10, 0));
	req.h.nlmsg_len = 5000;
	R(send(s, &req, 20, 0));
	R(recv(s, buf, 10, MSG_DONTWAIT));
	struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_pid = 424242 };
	R(sendto(s, &req, 20, 0, SA(a)));
	a.nl_family = AF_INET;
	R(sendto(s, &req, 20, 0, SA(a)));
	setint(s, SOL_NETLINK, NETLINK_CAP_ACK, 1);
	start(RTM_GETLINK, 0, &i, sizeof i);
	ask("capped", s);
}

CASE(links, recvfrom)
{
	int s = nl(0), g = nl(RTMGRP_LINK), v;
	struct ifinfomsg i = { .ifi_index = 1 };
	start(RTM_NEWLINK, 0, &i, sizeof i);
	v = 9000;
	put(IFLA_MTU, &v, 4);
	ask("mtu 9000", s);
	hear(g);
	struct ifreq f = { .ifr_name = "lo" };
	R(ioctl(s, SIOCGIFMTU, &f));
	R(f.ifr_mtu);
	start(RTM_NEWLINK, NLM_F_EXCL | NLM_F_CREATE, &i, sizeof i);
	ask("exclusive", s);
	i.ifi_index = 99;
	start(RTM_NEWLINK, 0, &i, sizeof i);
	ask("none", s);
	i.ifi_index = 0;
	start(RTM_SETLINK, 0, &i, sizeof i);
	put(IFLA_IFNAME, "nosuch", 7);
	ask("no name", s);
	start(RTM_SETLINK, 0, &i, sizeof i);
	put(IFLA_IFNAME, "lo", 3);
	v = 65536;
	put(IFLA_MTU, &v, 4);
	ask("by name", s);
	hear(g);
	i = (struct ifinfomsg){ .ifi_index = 1 };
	start(RTM_DELLINK, 0, &i, sizeof i);
	ask("delete", s);
	/* Down, and up again. */
	i = (struct ifinfomsg){ .ifi_index = 1, .ifi_change = IFF_UP };
	start(RTM_NEWLINK, 0, &i, sizeof i);
	ask("down", s);
	hear(g);
	int u = socket(AF_INET, SOCK_DGRAM, 0);
	R(ioctl(u, SIOCGIFFLAGS, &f));
	say("up %d", !!(f.ifr_flags & IFF_UP));
	i.ifi_flags = IFF_UP;
	start(RTM_NEWLINK, 0, &i, sizeof i);
	ask("up", s);
	hear(g);
	int p[2];
	udp(AF_INET, p);
	R(send(p[0], "x", 1, 0));
	R(recv(p[1], buf, 9, 0));
}

CASE(addresses, recvfrom, bind)
{
	int s = nl(0), g = nl(RTMGRP_IPV4_IFADDR);
	addr(s, "add", RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, 0x0a090807, 24, 1);
	hear(g);
	addr(s, "again", RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, 0x0a090807, 24, 1);
	addr(s, "index", RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, 0x0a090808, 24, 99);
	addr(s, "length", RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, 0x0a090808, 33, 1);
	struct sockaddr_in a = v4(0x0a090807, 0);
	int u = socket(AF_INET, SOCK_DGRAM, 0);
	R(bind(u, SA(a)));
	socklen_t n = sizeof a;
	getsockname(u, (void *)&a, &n);
	int c = socket(AF_INET, SOCK_DGRAM, 0);
	R(sendto(c, "x", 1, 0, SA(a)));
	R(recv(u, buf, 9, 0));
	hear(g);
	addr(s, "delete other", RTM_DELADDR, 0, 0x0a090809, 24, 1);
	addr(s, "delete", RTM_DELADDR, 0, 0x0a090807, 24, 1);
	hear(g);
	addr(s, "delete again", RTM_DELADDR, 0, 0x0a090807, 24, 1);
	u = socket(AF_INET, SOCK_DGRAM, 0);
	R(bind(u, SA(a)));
	struct ifaddrmsg m = { .ifa_family = AF_INET, .ifa_prefixlen = 8, .ifa_index = 1 };
	start(RTM_NEWADDR, NLM_F_CREATE, &m, sizeof m);
	ask("no address", s);
	m.ifa_family = AF_UNIX;
	start(RTM_NEWADDR, NLM_F_CREATE, &m, sizeof m);
	ask("family", s);
}

CASE(routes, sendto, recvfrom)
{
	int s = nl(0), g = nl(RTMGRP_IPV4_ROUTE);
	route(s, "add", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, 0x0a000000, 8, 1, 0, 0);
	hear(g);
	route(s, "again", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, 0x0a000000, 8, 1, 0, 0);
	route(s, "replace", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, 0x0a000000, 8, 1, 0, 0);
	route(s, "change none", RTM_NEWROUTE, NLM_F_REPLACE, 0x0b000000, 8, 1, 0, 0);
	route(s, "bits behind", RTM_NEWROUTE, NLM_F_CREATE, 0x0b000001, 8, 1, 0, 0);
	route(s, "length", RTM_NEWROUTE, NLM_F_CREATE, 0x0b000000, 33, 1, 0, 0);
	route(s, "no link", RTM_NEWROUTE, NLM_F_CREATE, 0x0b000000, 8, 99, 0, 0);
	route(s, "no way", RTM_NEWROUTE, NLM_F_CREATE, 0x0b000000, 8, 0, 0, 0);
	route(s, "gateway", RTM_NEWROUTE, NLM_F_CREATE, 0x0b000000, 8, 0, 0xc0a80001, 0);
	hear(g);
	route(s, "delete other", RTM_DELROUTE, 0, 0x0c000000, 8, 1, 0, 0);
	route(s, "delete", RTM_DELROUTE, 0, 0x0a000000, 8, 1, 0, 0);
	hear(g);
	hear(g);
	route(s, "delete again", RTM_DELROUTE, 0, 0x0a000000, 8, 1, 0, 0);
}

/* way prints the route to an address with all of its attributes. */
static void way(int s, const char *what, int family, const void *to, int bits, int flags)
{
	struct rtmsg m = { .rtm_family = family, .rtm_dst_len = bits, .rtm_flags = flags };
	start(RTM_GETROUTE, 0, &m, sizeof m);
	put(RTA_DST, to, bits / 8);
	MUST(send(s, &req, req.h.nlmsg_len, 0));
	int n = recv(s, buf, sizeof buf, 0);
	MUST(n);
	struct nlmsghdr *h = (void *)buf;
	struct rtmsg *r = NLMSG_DATA(h);
	if (h->nlmsg_type != RTM_NEWROUTE) {
		say("%s: %s", what, errname(-((struct nlmsgerr *)r)->error));
		return;
	}
	say("%s: %d/%d from %d, table %d, protocol %d, scope %d, type %d, flags %x", what, r->rtm_family, r->rtm_dst_len, r->rtm_src_len, r->rtm_table,
		r->rtm_protocol, r->rtm_scope, r->rtm_type, r->rtm_flags);
	n = RTM_PAYLOAD(h);
	for (struct rtattr *a = RTM_RTA(r); RTA_OK(a, n); a = RTA_NEXT(a, n)) {
		if (a->rta_type == RTA_CACHEINFO)
			say("  attribute %d, %d bytes", a->rta_type, (int)RTA_PAYLOAD(a));
		else if (RTA_PAYLOAD(a) == 4)
			say("  attribute %d: %x", a->rta_type, *(int *)RTA_DATA(a));
		else
			say("  attribute %d, %d bytes, the last %x", a->rta_type, (int)RTA_PAYLOAD(a), ((unsigned char *)RTA_DATA(a))[RTA_PAYLOAD(a) - 1]);
	}
}

CASE(ways, sendto, recvfrom)
{
	int s = nl(0);
	uint32_t a = htonl(INADDR_LOOPBACK), b = htonl(0x7f010203), far = htonl(0xf0000001);
	struct in6_addr six = IN6ADDR_LOOPBACK_INIT;
	way(s, "127.0.0.1", AF_INET, &a, 32, 0);
	way(s, "127.1.2.3, which table", AF_INET, &b, 32, RTM_F_LOOKUP_TABLE);
	way(s, "240.0.0.1", AF_INET, &far, 32, 0);
	way(s, "::1", AF_INET6, &six, 128, 0);
}

CASE(dumps, sendto, recvfrom)
{
	int s = nl(0);
	static const struct { const char *n; int type, family; } d[] = {
		{ "links", RTM_GETLINK, AF_UNSPEC }, { "addresses", RTM_GETADDR, AF_INET }, { "addresses 6", RTM_GETADDR, AF_INET6 },
		{ "rules", RTM_GETRULE, AF_INET }, { "rules 6", RTM_GETRULE, AF_INET6 },
	};
	for (size_t k = 0; k < sizeof d / sizeof *d; k++) {
		struct rtgenmsg g = { d[k].family };
		start(d[k].type, NLM_F_DUMP, &g, sizeof g);
		MUST(send(s, &req, req.h.nlmsg_len, 0));
		for (int done = 0; !done;) {
			int n = recv(s, buf, sizeof buf, 0);
			MUST(n);
			for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, (unsigned)n); h = NLMSG_NEXT(h, n)) {
				if (h->nlmsg_type == NLMSG_DONE) {
					say("%s: done, multi %d", d[k].n, !!(h->nlmsg_flags & NLM_F_MULTI));
					done = 1;
					break;
				}
				IS(h->nlmsg_seq == (unsigned)seq && h->nlmsg_pid == (unsigned)getpid());
				say("%s: %s, multi %d", d[k].n, tname(h->nlmsg_type), !!(h->nlmsg_flags & NLM_F_MULTI));
			}
		}
	}
}

CASE(user, recvfrom)
{
	setuid(1000);
	int s = nl(0);
	struct ifinfomsg i = { .ifi_index = 1, .ifi_change = IFF_UP };
	start(RTM_NEWLINK, 0, &i, sizeof i);
	ask("link", s);
	addr(s, "address", RTM_NEWADDR, NLM_F_CREATE, 0x0a090807, 24, 1);
	route(s, "route", RTM_NEWROUTE, NLM_F_CREATE, 0x0a000000, 8, 1, 0, 0);
	start(RTM_GETLINK, 0, &i, sizeof i);
	req.h.nlmsg_flags |= NLM_F_ACK;
	send(s, &req, req.h.nlmsg_len, 0);
	recv(s, buf, sizeof buf, 0);
	say("%s", tname(((struct nlmsghdr *)buf)->nlmsg_type));
}

/* put_mtu asks for lo's usual MTU by write(2). */
static void put_mtu(const char *what, int s)
{
	struct ifinfomsg i = { .ifi_index = 1 };
	int v = 65536;
	start(RTM_NEWLINK, NLM_F_ACK, &i, sizeof i);
	put(IFLA_MTU, &v, 4);
	IS(write(s, &req, req.h.nlmsg_len) == req.h.nlmsg_len);
	answer(what, s);
}

/* By write(2), too, and where the socket is somebody else's: both must be allowed to. */
CASE(written, recvfrom, setresuid)
{
	int mine = nl(0), s;
	put_mtu("root", mine);
	MUST(seteuid(1000));
	MUST(s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	put_mtu("user", s);
	put_mtu("user, root's socket", mine);
	MUST(seteuid(0));
	put_mtu("root, user's socket", s);
	put_mtu("root", mine);
}

CASE(ioctls, ioctl)
{
	int u = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq f = { .ifr_name = "lo" };
	struct sockaddr_in *a = (void *)&f.ifr_addr;
	R(ioctl(u, SIOCGIFADDR, &f));
	say("%s", inet_ntoa(a->sin_addr));
	R(ioctl(u, SIOCGIFNETMASK, &f));
	say("%s", inet_ntoa(a->sin_addr));
	f.ifr_mtu = 1400;
	R(ioctl(u, SIOCSIFMTU, &f));
	f.ifr_mtu = 0;
	R(ioctl(u, SIOCGIFMTU, &f));
	R(f.ifr_mtu);
	f.ifr_mtu = 65536;
	R(ioctl(u, SIOCSIFMTU, &f));
	R(ioctl(u, SIOCGIFFLAGS, &f));
	IS((f.ifr_flags & (IFF_UP | IFF_LOOPBACK | IFF_RUNNING)) == (IFF_UP | IFF_LOOPBACK | IFF_RUNNING));
	R(ioctl(u, SIOCSIFFLAGS, &f));
	f.ifr_qlen = 77;
	R(ioctl(u, SIOCSIFTXQLEN, &f));
	f.ifr_qlen = 0;
	R(ioctl(u, SIOCGIFTXQLEN, &f));
	R(f.ifr_qlen);
	strcpy(f.ifr_name, "nosuch");
	R(ioctl(u, SIOCGIFADDR, &f));
	R(ioctl(u, SIOCSIFMTU, &f));
	R(ioctl(u, SIOCGIFADDR, 0));
	R(ioctl(u, SIOCSIFADDR, 0));
	f.ifr_ifindex = 99;
	R(ioctl(u, SIOCGIFNAME, &f));
	setuid(1000);
	strcpy(f.ifr_name, "lo");
	R(ioctl(u, SIOCSIFMTU, &f));
	R(ioctl(u, SIOCGIFMTU, &f));
}

/* read_one prints what a datagram holds, messages of one kind in a row as one. */
static int read_one(int s, int flags)
{
	int n = recv(s, buf, sizeof buf, MSG_DONTWAIT | flags), last = -1;
	if (n < 0) {
		say("- %s", errname(errno));
		return -1;
	}
	for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, (unsigned)n); h = NLMSG_NEXT(h, n)) {
		if (h->nlmsg_type == NLMSG_ERROR)
			say("- error %s", errname(-((struct nlmsgerr *)NLMSG_DATA(h))->error));
		else if (h->nlmsg_type != last)
			say("- type %d%s", h->nlmsg_type, h->nlmsg_flags & NLM_F_MULTI ? ", one of many" : "");
		last = h->nlmsg_type;
	}
	return 0;
}

static void dump(int s, int type)
{
	struct tcmsg m = { .tcm_family = type == RTM_GETADDR ? AF_INET : 0 };
	start(type, NLM_F_DUMP | NLM_F_ACK, &m, sizeof m);
	R(send(s, &req, req.h.nlmsg_len, 0) > 0);
}

/* A socket has one dump, which goes on as it is read; its end comes by itself. */
CASE(onedump, sendto, recvfrom)
{
	int s = nl(0);
	dump(s, RTM_GETADDR);
	dump(s, RTM_GETADDR);
	dump(s, RTM_GETTCLASS);
	read_one(s, MSG_PEEK);
	while (!read_one(s, 0))
		;
	dump(s, RTM_GETADDR);
	read_one(s, 0);
	dump(s, RTM_GETADDR); /* the first's end is there, but not read */
	while (!read_one(s, 0))
		;
}

/* Of dumps of nothing there may be many; what is not read is bounded by SO_RCVBUF. */
CASE(emptydumps, sendto, recvfrom)
{
	int s = nl(0);
	for (int i = 0; i < 3; i++)
		dump(s, RTM_GETTCLASS);
	while (!read_one(s, 0))
		;
	struct tcmsg m = { 0 };
	int n = 0, lost = 0, r;
	start(RTM_GETTCLASS, NLM_F_DUMP, &m, sizeof m);
	for (int i = 0; i < 3000; i++)
		send(s, &req, req.h.nlmsg_len, 0);
	while ((r = recv(s, buf, sizeof buf, MSG_DONTWAIT)) > 0 || errno == ENOBUFS)
		if (r > 0)
			n++;
		else
			lost++;
	say("%s, %d times ENOBUFS", n > 10 && n < 1000 ? "some" : "none or all", lost);
	dump(s, RTM_GETADDR);
	while (!read_one(s, 0))
		;
}

CASES
