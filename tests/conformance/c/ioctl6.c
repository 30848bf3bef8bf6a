/* The ioctls of AF_INET6 sockets, and which families know those of IPv4. */
#include "sock.h"
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>

struct in6_ifreq_ { struct in6_addr addr; uint32_t prefix; int index; };

static void addr(int s, const char *what, unsigned long req, const char *a, int bits, int index)
{
	struct in6_ifreq_ r = { .prefix = bits, .index = index };
	inet_pton(AF_INET6, a, &r.addr);
	errno = 0;
	say("%s: %s", what, ioctl(s, req, &r) ? errname(errno) : "ok");
}

CASE(addresses, ioctl, bind)
{
	int s = socket(AF_INET6, SOCK_DGRAM, 0);
	addr(s, "add", SIOCSIFADDR, "2001:db8::5", 64, 1);
	addr(s, "add again", SIOCSIFADDR, "2001:db8::5", 64, 1);
	addr(s, "another interface", SIOCSIFADDR, "2001:db8::6", 64, 99);
	addr(s, "too long", SIOCSIFADDR, "2001:db8::6", 129, 1);
	addr(s, "much too long", SIOCSIFADDR, "2001:db8::6", 256 + 64, 1);
	addr(s, "of many", SIOCSIFADDR, "ff02::5", 64, 1);
	addr(s, "any", SIOCSIFADDR, "::", 64, 1);
	struct sockaddr_in6 a = { .sin6_family = AF_INET6 };
	inet_pton(AF_INET6, "2001:db8::5", &a.sin6_addr);
	R(bind(socket(AF_INET6, SOCK_DGRAM, 0), SA(a)));
	addr(s, "delete another's", SIOCDIFADDR, "2001:db8::6", 64, 1);
	addr(s, "delete", SIOCDIFADDR, "2001:db8::5", 64, 1);
	addr(s, "delete again", SIOCDIFADDR, "2001:db8::5", 64, 1);
	R(bind(socket(AF_INET6, SOCK_DGRAM, 0), SA(a)));
	R(ioctl(s, SIOCSIFADDR, 0));
	setuid(1000);
	addr(s, "user", SIOCSIFADDR, "2001:db8::5", 64, 1);
	addr(s, "user", SIOCDIFADDR, "::1", 128, 1);
	R(ioctl(s, SIOCSIFADDR, 0));
}

static void route(int s, const char *what, unsigned long req, const char *a, int bits, int index, int metric)
{
	struct in6_rtmsg r = { .rtmsg_dst_len = bits, .rtmsg_ifindex = index, .rtmsg_metric = metric, .rtmsg_flags = RTF_UP };
	inet_pton(AF_INET6, a, &r.rtmsg_dst);
	errno = 0;
	say("%s: %s", what, ioctl(s, req, &r) ? errname(errno) : "ok");
}

CASE(routes, ioctl, openat)
{
	int s = socket(AF_INET6, SOCK_DGRAM, 0);
	route(s, "add", SIOCADDRT, "2001:db8:9::", 48, 1, 0);
	route(s, "add again", SIOCADDRT, "2001:db8:9::", 48, 1, 0);
	route(s, "too long", SIOCADDRT, "2001:db8:8::", 129, 1, 0);
	route(s, "another interface", SIOCADDRT, "2001:db8:8::", 48, 99, 0);
	FILE *f = fopen("/proc/net/ipv6_route", "r");
	char l[300];
	while (f && fgets(l, sizeof l, f))
		if (!strncmp(l, "20010db80009", 12))
			say("%.113s", l);
	route(s, "delete another", SIOCDELRT, "2001:db8:8::", 48, 1, 0);
	route(s, "delete", SIOCDELRT, "2001:db8:9::", 48, 1, 0);
	route(s, "delete again", SIOCDELRT, "2001:db8:9::", 48, 1, 0);
	R(ioctl(s, SIOCADDRT, 0));
	setuid(1000);
	route(s, "user", SIOCADDRT, "2001:db8:9::", 48, 1, 0);
	R(ioctl(s, SIOCADDRT, 0));
}

/* known prints what a family's socket makes of a request about the loopback. */
static void known(const char *family, int s, const char *name, unsigned long req)
{
	union { struct ifreq r; struct arpreq a; struct rtentry e; struct ifconf c; char b[200]; } u = { .r.ifr_name = "lo" };
	if (req == SIOCGIFCONF)
		u.c = (struct ifconf){ .ifc_len = sizeof buf, .ifc_buf = buf };
	errno = 0;
	say("%s %s: %s", family, name, ioctl(s, req, &u) ? errname(errno) : "ok");
}

CASE(families, ioctl)
{
	static const struct { const char *name; int family, type; } of[] = {
		{ "inet", AF_INET, SOCK_DGRAM }, { "inet6", AF_INET6, SOCK_DGRAM }, { "unix", AF_UNIX, SOCK_STREAM }, { "netlink", AF_NETLINK, SOCK_RAW },
		{ "packet", AF_PACKET, SOCK_RAW } };
	for (int i = 0; i < 5; i++) {
		int s;
		MUST(s = socket(of[i].family, of[i].type, 0));
#define KNOWN(req) known(of[i].name, s, #req, req)
		KNOWN(SIOCGIFADDR);
		KNOWN(SIOCGIFDSTADDR);
		KNOWN(SIOCGIFBRDADDR);
		KNOWN(SIOCGIFNETMASK);
		KNOWN(SIOCSIFBRDADDR);
		KNOWN(SIOCSIFNETMASK);
		KNOWN(SIOCSIFDSTADDR);
		KNOWN(SIOCDIFADDR);
		KNOWN(SIOCGARP);
		KNOWN(SIOCDARP);
		KNOWN(SIOCGIFFLAGS);
		KNOWN(SIOCGIFINDEX);
		KNOWN(SIOCGIFMTU);
		KNOWN(SIOCGIFCONF);
	}
}

CASES
