/* Labels of addresses (lo:1), queueing disciplines, and the old option for hop limits. */
#include "sock.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/if_addr.h>
#include <net/if.h>
#include <netinet/icmp6.h>

static int u;
static struct ifreq f;
static struct sockaddr_in *const a = (void *)&f.ifr_addr;

static void name(const char *n, const char *addr)
{
	memset(&f, 0, sizeof f);
	strcpy(f.ifr_name, n);
	a->sin_family = AF_INET;
	if (addr)
		inet_pton(AF_INET, addr, &a->sin_addr);
}

static void show(const char *n)
{
	name(n, 0);
	errno = 0;
	if (ioctl(u, SIOCGIFADDR, &f)) {
		say("%s: %s", n, errname(errno));
		return;
	}
	char ip[20];
	inet_ntop(AF_INET, &a->sin_addr, ip, sizeof ip);
	ioctl(u, SIOCGIFNETMASK, &f);
	say("%s: %s %s", f.ifr_name, ip, inet_ntoa(a->sin_addr));
}

static void conf(void)
{
	struct ifreq l[16];
	struct ifconf c = { .ifc_len = sizeof l, .ifc_req = l };
	MUST(ioctl(u, SIOCGIFCONF, &c));
	for (int i = 0; i < c.ifc_len / (int)sizeof *l; i++)
		if (!strncmp(l[i].ifr_name, "lo", 2))
			say("%s %s", l[i].ifr_name, inet_ntoa(((struct sockaddr_in *)&l[i].ifr_addr)->sin_addr));
}

CASE(ioctls, ioctl)
{
	u = socket(AF_INET, SOCK_DGRAM, 0);
	show("lo");
	show("lo:1");
	name("lo:1", "127.0.0.5");
	R(ioctl(u, SIOCSIFNETMASK, &f));
	name("lo:1", "127.0.0.5");
	R(ioctl(u, SIOCSIFADDR, &f));
	show("lo:1");
	show("lo");
	name("lo:1", "255.255.255.0");
	R(ioctl(u, SIOCSIFNETMASK, &f));
	show("lo:1");
	conf();
	name("lo:1", "127.0.0.6");
	R(ioctl(u, SIOCSIFADDR, &f));
	show("lo:1");
	name("lo:1", 0);
	R(ioctl(u, SIOCGIFFLAGS, &f));
	IS(f.ifr_flags & IFF_UP);
	R(ioctl(u, SIOCGIFMTU, &f));
	R(ioctl(u, SIOCSIFMTU, &f));
	name("lo:2", 0);
	R(ioctl(u, SIOCGIFINDEX, &f));
	R(ioctl(u, SIOCSIFFLAGS, &f));
	name("nosuch:1", "127.0.0.7");
	R(ioctl(u, SIOCSIFADDR, &f));
	name("lo:1", 0);
	f.ifr_flags = 0;
	R(ioctl(u, SIOCSIFFLAGS, &f));
	show("lo:1");
	show("lo");
}

static char rbuf[65536];

static int request(int s, int type, int flags, void *body, int n)
{
	struct { struct nlmsghdr h; char b[256]; } m = { .h = { .nlmsg_len = NLMSG_LENGTH(n), .nlmsg_type = type, .nlmsg_flags = flags | NLM_F_REQUEST | NLM_F_ACK } };
	memcpy(m.b, body, n);
	if (send(s, &m, m.h.nlmsg_len, 0) < 0)
		return errno;
	recv(s, rbuf, sizeof rbuf, 0);
	return -((struct nlmsgerr *)NLMSG_DATA((struct nlmsghdr *)rbuf))->error;
}

static struct { struct ifaddrmsg m; struct rtattr l; struct in_addr addr; struct rtattr k; char label[8]; } am;

static void address(const char *addr, const char *label)
{
	am.m = (struct ifaddrmsg){ .ifa_family = AF_INET, .ifa_prefixlen = 8, .ifa_index = 1, .ifa_scope = RT_SCOPE_HOST };
	am.l = (struct rtattr){ 8, IFA_LOCAL };
	inet_pton(AF_INET, addr, &am.addr);
	am.k = (struct rtattr){ 4 + strlen(label) + 1, IFA_LABEL };
	strcpy(am.label, label);
}

CASE(netlink, sendto, recvfrom)
{
	u = socket(AF_INET, SOCK_DGRAM, 0);
	int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	address("127.0.0.8", "lo:x");
	R(request(s, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &am, sizeof am));
	R(request(s, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &am, sizeof am));
	show("lo:x");
	conf();
	address("127.0.0.8", "lo:y");
	R(request(s, RTM_DELADDR, 0, &am, sizeof am));
	address("127.0.0.8", "lo:x");
	R(request(s, RTM_DELADDR, 0, &am, sizeof am));
	show("lo:x");
	/* The net is still there, since another address is in it: its broadcast address is refused. */
	struct sockaddr_in to = { AF_INET, htons(9), .sin_addr = { htonl(0x7fffffff) } };
	R(connect(u, (void *)&to, sizeof to));
}

CASE(qdiscs, sendto, recvfrom)
{
	int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	struct { struct nlmsghdr h; struct tcmsg t; } m = { { sizeof m, RTM_GETQDISC, NLM_F_REQUEST | NLM_F_DUMP, 1, 0 }, { 0 } };
	MUST(send(s, &m, sizeof m, 0));
	for (;;) {
		int n = recv(s, rbuf, sizeof rbuf, 0);
		for (struct nlmsghdr *h = (void *)rbuf; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return;
			struct tcmsg *t = NLMSG_DATA(h);
			if (h->nlmsg_type != RTM_NEWQDISC || t->tcm_ifindex != 1)
				continue;
			say("handle %x parent %x info %d", t->tcm_handle, t->tcm_parent, t->tcm_info);
			int left = h->nlmsg_len - NLMSG_LENGTH(sizeof *t);
			for (struct rtattr *r = (void *)(t + 1); RTA_OK(r, left); r = RTA_NEXT(r, left))
				if (r->rta_type == TCA_KIND)
					say("kind %s", (char *)RTA_DATA(r));
				else
					say("attribute %d, %d bytes", r->rta_type, (int)RTA_PAYLOAD(r));
		}
	}
}

#ifndef IPV6_2292HOPLIMIT
#define IPV6_2292HOPLIMIT 8
#endif

static void opt(int s, int o)
{
	int v = -1;
	socklen_t n = sizeof v;
	R(getsockopt(s, SOL_IPV6, o, &v, &n));
	R(v);
}

static void echo(int s)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct icmp6_hdr h = { .icmp6_type = ICMP6_ECHO_REQUEST };
	MUST(sendto(s, &h, sizeof h, 0, (void *)&to, sizeof to));
	char c[256];
	struct iovec v = { rbuf, sizeof rbuf };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c };
	R(recvmsg(s, &m, 0));
	for (struct cmsghdr *k = CMSG_FIRSTHDR(&m); k; k = CMSG_NXTHDR(&m, k))
		say("level %d type %d value %d", k->cmsg_level, k->cmsg_type, *(int *)CMSG_DATA(k));
}

CASE(hoplimit, setsockopt, getsockopt, recvmsg)
{
	int s = socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6), one = 1, no = 0;
	struct icmp6_filter fl;
	ICMP6_FILTER_SETBLOCKALL(&fl);
	ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &fl);
	MUST(setsockopt(s, IPPROTO_ICMPV6, ICMP6_FILTER, &fl, sizeof fl));
	echo(s);
	R(setsockopt(s, SOL_IPV6, IPV6_2292HOPLIMIT, &one, sizeof one));
	opt(s, IPV6_2292HOPLIMIT);
	opt(s, IPV6_RECVHOPLIMIT);
	echo(s);
	R(setsockopt(s, SOL_IPV6, IPV6_RECVHOPLIMIT, &one, sizeof one));
	echo(s);
	R(setsockopt(s, SOL_IPV6, IPV6_2292HOPLIMIT, &no, sizeof no));
	opt(s, IPV6_2292HOPLIMIT);
	opt(s, IPV6_RECVHOPLIMIT);
	echo(s);
	R(setsockopt(s, SOL_IPV6, IPV6_2292HOPLIMIT, &one, 2));
}

CASES
