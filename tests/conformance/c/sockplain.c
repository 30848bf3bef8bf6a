/* SOL_SOCKET on sockets that no protocol of the Internet stands behind: AF_UNIX, AF_PACKET and
 * AF_NETLINK keep for the most part what they are told, without heeding it. */
#include "sock.h"
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <net/ethernet.h>

#define FAMILIES 4

/* family makes a socket of kind i and says which. */
static int family(int i)
{
	static const char *const names[FAMILIES] = { "unix stream", "unix datagram", "packet", "netlink" };
	int s;
	say("-- %s", names[i]);
	switch (i) {
	case 0: MUST(s = socket(AF_UNIX, SOCK_STREAM, 0)); break;
	case 1: MUST(s = socket(AF_UNIX, SOCK_DGRAM, 0)); break;
	case 2: MUST(s = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL))); break;
	default: MUST(s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	}
	return s;
}

CASE(switches, setsockopt, getsockopt)
{
	for (int i = 0; i < FAMILIES; i++) {
		int s = family(i);
		SET(s, SOL_SOCKET, SO_REUSEADDR, 5);
		SET(s, SOL_SOCKET, SO_REUSEADDR, 0);
		SET(s, SOL_SOCKET, SO_KEEPALIVE, 5);
		SET(s, SOL_SOCKET, SO_KEEPALIVE, 0);
		SET(s, SOL_SOCKET, SO_BROADCAST, -1);
		SET(s, SOL_SOCKET, SO_BROADCAST, 0);
		SET(s, SOL_SOCKET, SO_NO_CHECK, 2);
		SET(s, SOL_SOCKET, SO_NO_CHECK, 0);
		SET(s, SOL_SOCKET, SO_REUSEPORT, 1);
		SET(s, SOL_SOCKET, SO_REUSEPORT, 0);
		SET(s, SOL_SOCKET, 9999, 1);
		R(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, buf, 3));
		R(setsockopt(s, SOL_SOCKET, SO_BROADCAST, NULL, 4));
		close(s);
	}
}

CASE(linger, setsockopt, getsockopt)
{
	for (int i = 0; i < FAMILIES; i++) {
		static const struct linger l[] = { { 1, 7 }, { 0, 9 }, { 3, 0 } };
		int s = family(i);
		struct linger g = { -1, -1 };
		socklen_t n = sizeof g;
		R(getsockopt(s, SOL_SOCKET, SO_LINGER, &g, &n));
		say("%d %d", g.l_onoff, g.l_linger);
		for (int k = 0; k < 3; k++) {
			R(setsockopt(s, SOL_SOCKET, SO_LINGER, &l[k], sizeof l[k]));
			n = sizeof g;
			R(getsockopt(s, SOL_SOCKET, SO_LINGER, &g, &n));
			say("%d %d", g.l_onoff, g.l_linger);
		}
		R(setsockopt(s, SOL_SOCKET, SO_LINGER, &l[0], 4));
		R(setsockopt(s, SOL_SOCKET, SO_LINGER, &l[0], 7));
		close(s);
	}
}

CASE(buffers, setsockopt, getsockopt)
{
	for (int i = 0; i < FAMILIES; i++) {
		int s = family(i);
		GET(s, SOL_SOCKET, SO_SNDBUF);
		GET(s, SOL_SOCKET, SO_RCVBUF);
		static const int sizes[] = { 0, 1, 2000, 3000, 20000, 100000, 212992, 300000, -1 };
		for (int k = 0; k < (int)(sizeof sizes / sizeof *sizes); k++) {
			SET(s, SOL_SOCKET, SO_SNDBUF, sizes[k]);
			SET(s, SOL_SOCKET, SO_RCVBUF, sizes[k]);
		}
		close(s);
	}
}

CASE(buffers_by_force, setsockopt)
{
	/* The descriptors are made before the privilege goes. */
	int s[FAMILIES];
	for (int i = 0; i < FAMILIES; i++)
		s[i] = family(i);
	int n = 3000;
	for (int i = 0; i < FAMILIES; i++) {
		R(setsockopt(s[i], SOL_SOCKET, SO_SNDBUFFORCE, &n, sizeof n));
		R(setsockopt(s[i], SOL_SOCKET, SO_RCVBUFFORCE, &n, sizeof n));
		GET(s[i], SOL_SOCKET, SO_SNDBUF);
		GET(s[i], SOL_SOCKET, SO_RCVBUF);
	}
	MUST(setuid(65534));
	for (int i = 0; i < FAMILIES; i++) {
		R(setsockopt(s[i], SOL_SOCKET, SO_SNDBUFFORCE, &n, sizeof n));
		R(setsockopt(s[i], SOL_SOCKET, SO_RCVBUFFORCE, &n, sizeof n));
	}
}

CASE(told, getsockopt)
{
	for (int i = 0; i < FAMILIES; i++) {
		int s = family(i);
		GET(s, SOL_SOCKET, SO_ERROR);
		GET(s, SOL_SOCKET, SO_ACCEPTCONN);
		GET(s, SOL_SOCKET, SO_REUSEADDR);
		GET(s, SOL_SOCKET, SO_REUSEPORT);
		GET(s, SOL_SOCKET, SO_KEEPALIVE);
		GET(s, SOL_SOCKET, SO_BROADCAST);
		GET(s, SOL_SOCKET, SO_NO_CHECK);
		GET(s, SOL_SOCKET, SO_BINDTOIFINDEX);
		GET(s, SOL_SOCKET, SO_PEEK_OFF);
		GET(s, SOL_SOCKET, 9999);
		close(s);
	}
}

CASES
