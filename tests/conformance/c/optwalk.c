/* Every option number of every level on every kind of socket: which there are, what they are at
 * first, what they take. What depends on the machine (sizes of buffers, addresses) is left out. */
#include "../../programs/c/check.h"
#include <netinet/in.h>
#include <sched.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static const struct { const char *name; int family, type, proto; } kinds[] = {
	{ "tcp", AF_INET, SOCK_STREAM, 0 }, { "udp", AF_INET, SOCK_DGRAM, 0 }, { "tcp6", AF_INET6, SOCK_STREAM, 0 }, { "udp6", AF_INET6, SOCK_DGRAM, 0 },
	{ "unix", AF_UNIX, SOCK_STREAM, 0 }, { "raw", AF_INET, SOCK_RAW, IPPROTO_UDP }, { "raw6", AF_INET6, SOCK_RAW, IPPROTO_UDP },
};

static void get(int s, int level, int n, int max, const unsigned char *not)
{
	for (int o = 0; o < max; o++) {
		unsigned char b[300] = {0};
		socklen_t l = sizeof b;
		if (memchr(not, o, strlen((char *)not)))
			continue;
		int r = getsockopt(s, level, o, b, &l), e = errno;
		if (r < 0 && (e == ENOPROTOOPT || e == EOPNOTSUPP) && n)
			continue;
		if (r < 0)
			say("  %d: %s", o, errname(e));
		else if (l > 8)
			say("  %d: %d bytes", o, l);
		else
			say("  %d: %d bytes %02x%02x%02x%02x", o, l, b[0], b[1], b[2], b[3]);
		l = 2;
		memset(b, 0, 8);
		if (getsockopt(s, level, o, b, &l) < 0)
			say("  %d in 2 bytes: %s", o, errname(errno));
		else if (l != 2)
			say("  %d in 2 bytes: %d bytes", o, l);
		l = -1;
		if (getsockopt(s, level, o, b, &l) < 0 && errno != EINVAL && o != 61)
			say("  %d in -1 bytes: %s", o, errname(errno));
	}
}

static void set(const char *kind, int i, int level, int max, const unsigned char *not)
{
	for (int o = 0; o < max; o++) {
		if (memchr(not, o, strlen((char *)not)))
			continue;
		char line[200];
		int at = 0, same = 1, first = 0;
		static const int values[] = {1, 0, -1, 7, 70000};
		for (int k = 0; k < 7; k++) {
			int s = socket(kinds[i].family, kinds[i].type, kinds[i].proto), v = k < 5 ? values[k] : 1;
			long wide[8] = {v};
			int r = setsockopt(s, level, o, wide, k < 5 ? 4 : k == 5 ? 1 : 20), e = r < 0 ? errno : 0;
			if (k == 0)
				first = e;
			same = same && e == first;
			at += snprintf(line + at, sizeof line - at, " %s", e ? errname(e) : "ok");
			close(s);
		}
		if (same && (first == ENOPROTOOPT || first == EOPNOTSUPP))
			continue;
		say("  %d:%s", o, same ? first ? errname(first) : " ok" : line);
	}
	(void)kind;
}

static void begin(void)
{
	struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP};

	int s = socket(AF_INET, SOCK_DGRAM, 0);
	ioctl(s, SIOCSIFFLAGS, &r);
	close(s);
}

#define NOT(...) ((const unsigned char[]){ __VA_ARGS__ __VA_OPT__(,) 0 })

static void walk(int level, int max, const unsigned char *not, int setting)
{
	begin();
	for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		int s = socket(kinds[i].family, kinds[i].type, kinds[i].proto);
		say("%s", kinds[i].name);
		if (setting)
			set(kinds[i].name, i, level, max, not);
		else
			get(s, level, 1, max, not);
		close(s);
	}
}

/* Left out, besides what varies: IP_OPTIONS, IP_ROUTER_ALERT, IP_LOCAL_PORT_RANGE, IP_DROP_MEMBERSHIP of what was
 * not joined; IPV6_CHECKSUM and HDRINCL of raw sockets, IPV6_2292PKTOPTIONS, IPV6_FLOWLABEL_MGR, IPV6_PATHMTU in -1 bytes, IPV6_PKTINFO. */
CASE(getip, getsockopt) { walk(SOL_IP, 55, NOT(51), 0); }
CASE(getipv6, getsockopt) { walk(SOL_IPV6, 85, NOT(7, 32, 36), 0); }
CASE(setip, setsockopt) { walk(SOL_IP, 55, NOT(4, 5, 36, 51), 1); }
CASE(setipv6, setsockopt) { walk(SOL_IPV6, 85, NOT(6, 7, 26, 36, 50), 1); }
/* SO_SNDBUF, SO_RCVBUF, SO_NO_CHECK of raw sockets, SO_TIMESTAMPING, SO_PEEK_OFF, SO_COOKIE, SO_NETNS_COOKIE, SO_TXREHASH, SO_MAX_PACING_RATE,
 * and of AF_UNIX filters and SO_BINDTODEVICE. */
CASE(getsocket, getsockopt) { walk(SOL_SOCKET, 80, NOT(2, 7, 8, 25, 26, 28, 37, 42, 47, 55, 57, 65, 71, 74), 0); }
CASE(setsocket, setsockopt) { walk(SOL_SOCKET, 80, NOT(25, 26, 27, 42, 50, 52, 60, 61, 62, 65), 1); }
/* TCP_TIMESTAMP, TCP_ZEROCOPY_RECEIVE, TCP_TX_DELAY, TCP_REPAIR. */
CASE(gettcp, getsockopt) { walk(6, 45, NOT(24, 35, 37), 0); }
CASE(settcp, setsockopt) { walk(6, 45, NOT(19, 37), 1); }
CASE(getudp, getsockopt) { walk(17, 110, NOT(250), 0); }
CASE(setudp, setsockopt) { walk(17, 110, NOT(100), 1); }

CASES
