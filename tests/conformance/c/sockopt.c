/* getsockopt and setsockopt: SOL_SOCKET, on TCP and UDP sockets. */
#include "sock.h"
#include <linux/filter.h>
#ifndef SO_PREFER_BUSY_POLL
#define SO_PREFER_BUSY_POLL 69
#define SO_BUSY_POLL_BUDGET 70
#endif

static int t4(void) { int s; MUST(s = socket(AF_INET, SOCK_STREAM, 0)); return s; }
static int u4(void) { int s; MUST(s = socket(AF_INET, SOCK_DGRAM, 0)); return s; }

CASE(defaults, getsockopt)
{
	int kinds[] = { t4(), u4() };
	for (int i = 0; i < 2; i++) {
		int s = kinds[i];
		say("-- %s", i ? "UDP" : "TCP");
		GET(s, SOL_SOCKET, SO_DEBUG);
		GET(s, SOL_SOCKET, SO_REUSEADDR);
		GET(s, SOL_SOCKET, SO_TYPE);
		GET(s, SOL_SOCKET, SO_ERROR);
		GET(s, SOL_SOCKET, SO_DONTROUTE);
		GET(s, SOL_SOCKET, SO_BROADCAST);
		GET(s, SOL_SOCKET, SO_KEEPALIVE);
		GET(s, SOL_SOCKET, SO_OOBINLINE);
		GET(s, SOL_SOCKET, SO_NO_CHECK);
		GET(s, SOL_SOCKET, SO_PRIORITY);
		GET(s, SOL_SOCKET, SO_REUSEPORT);
		GET(s, SOL_SOCKET, SO_PASSCRED);
		GET(s, SOL_SOCKET, SO_PASSSEC);
		GET(s, SOL_SOCKET, SO_RCVLOWAT);
		GET(s, SOL_SOCKET, SO_SNDLOWAT);
		GET(s, SOL_SOCKET, SO_TIMESTAMP);
		GET(s, SOL_SOCKET, SO_TIMESTAMPNS);
		GET(s, SOL_SOCKET, SO_TIMESTAMPING);
		GET(s, SOL_SOCKET, SO_ACCEPTCONN);
		GET(s, SOL_SOCKET, SO_PROTOCOL);
		GET(s, SOL_SOCKET, SO_DOMAIN);
		GET(s, SOL_SOCKET, SO_MARK);
		GET(s, SOL_SOCKET, SO_RXQ_OVFL);
		GET(s, SOL_SOCKET, SO_WIFI_STATUS);
			GET(s, SOL_SOCKET, SO_NOFCS);
		GET(s, SOL_SOCKET, SO_LOCK_FILTER);
		GET(s, SOL_SOCKET, SO_SELECT_ERR_QUEUE);
		GET(s, SOL_SOCKET, SO_BUSY_POLL);
		GET(s, SOL_SOCKET, SO_INCOMING_CPU);
		GET(s, SOL_SOCKET, SO_CNX_ADVICE);
		GET(s, SOL_SOCKET, SO_MEMINFO);
		GET(s, SOL_SOCKET, SO_INCOMING_NAPI_ID);
		GET(s, SOL_SOCKET, SO_ZEROCOPY);
		GET(s, SOL_SOCKET, SO_TXTIME);
		GET(s, SOL_SOCKET, SO_BINDTOIFINDEX);
		GET(s, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF);
		GET(s, SOL_SOCKET, SO_PREFER_BUSY_POLL);
		GET(s, SOL_SOCKET, SO_BUSY_POLL_BUDGET);
		GET(s, SOL_SOCKET, SO_SNDBUFFORCE);
		GET(s, SOL_SOCKET, SO_PEERNAME);
		GET(s, SOL_SOCKET, SO_ATTACH_BPF);
	}
}

CASE(switches, setsockopt, getsockopt)
{
	int s = t4(), u = u4();
	SET(s, SOL_SOCKET, SO_REUSEADDR, 5);
	SET(s, SOL_SOCKET, SO_REUSEADDR, 0);
	SET(s, SOL_SOCKET, SO_REUSEPORT, 5);
	SET(s, SOL_SOCKET, SO_KEEPALIVE, -1);
	SET(s, SOL_SOCKET, SO_KEEPALIVE, 0);
	SET(s, SOL_SOCKET, SO_OOBINLINE, 7);
	SET(s, SOL_SOCKET, SO_DONTROUTE, 1);
	SET(s, SOL_SOCKET, SO_BROADCAST, 1);
	SET(u, SOL_SOCKET, SO_BROADCAST, 2);
	SET(u, SOL_SOCKET, SO_NO_CHECK, 2);
	SET(u, SOL_SOCKET, SO_RXQ_OVFL, 1);
	SET(u, SOL_SOCKET, SO_NOFCS, 1);
	SET(u, SOL_SOCKET, SO_SELECT_ERR_QUEUE, 1);
	SET(u, SOL_SOCKET, SO_DEBUG, 1);
	SET(u, SOL_SOCKET, SO_WIFI_STATUS, 1);
	SET(s, SOL_SOCKET, SO_ZEROCOPY, 1);
	SET(u, SOL_SOCKET, SO_ZEROCOPY, 1);
	SET(s, SOL_SOCKET, SO_ZEROCOPY, 2);
	SET(u, SOL_SOCKET, SO_PASSCRED, 1);
	SET(s, SOL_SOCKET, SO_PREFER_BUSY_POLL, 1);
	SET(s, SOL_SOCKET, SO_BUSY_POLL_BUDGET, 9);
	SET(s, SOL_SOCKET, SO_BUSY_POLL_BUDGET, -1);
	SET(s, SOL_SOCKET, SO_BUSY_POLL, 50);
	SET(s, SOL_SOCKET, SO_BUSY_POLL, -1);
	SET(s, SOL_SOCKET, SO_INCOMING_CPU, 0);
}

CASE(readonly, setsockopt)
{
	int s = t4();
	SET(s, SOL_SOCKET, SO_TYPE, 1);
	SET(s, SOL_SOCKET, SO_ERROR, 1);
	SET(s, SOL_SOCKET, SO_PROTOCOL, 1);
	SET(s, SOL_SOCKET, SO_DOMAIN, 1);
	SET(s, SOL_SOCKET, SO_ACCEPTCONN, 1);
	SET(s, SOL_SOCKET, SO_SNDLOWAT, 1);
	SET(s, SOL_SOCKET, SO_PEERCRED, 1);
	SET(s, SOL_SOCKET, SO_PEERNAME, 1);
	SET(s, SOL_SOCKET, SO_COOKIE, 1);
	SET(s, SOL_SOCKET, SO_MEMINFO, 1);
	SET(s, SOL_SOCKET, SO_INCOMING_NAPI_ID, 1);
	SET(s, SOL_SOCKET, 1000, 1);
	SET(s, 1000, 1, 1);
}

CASE(lengths, setsockopt, getsockopt)
{
	int s = t4(), v = 1;
	for (int n = 0; n < 4; n++)
		R(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &v, n));
	R(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &v, -1));
	R(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, 0, 4));
	R(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, 0, 0));
	R(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, buf + 1, 4000));
	R(setsockopt(s, SOL_SOCKET, 1000, 0, 4));
	R(setsockopt(s, SOL_SOCKET, 1000, &v, 1));
	R(setsockopt(-1, SOL_SOCKET, SO_REUSEADDR, &v, -1));
	R(setsockopt(0, SOL_SOCKET, SO_REUSEADDR, &v, 4));
	for (int room = -1; room < 8; room++) {
		unsigned char b[8];
		socklen_t n = room;
		memset(b, 0xee, sizeof b);
		R(getsockopt(s, SOL_SOCKET, SO_TYPE, b, &n));
		say("room %d: %u bytes, %02x %02x %02x %02x %02x", room, n, b[0], b[1], b[2], b[3], b[4]);
	}
	socklen_t n = 4;
	R(getsockopt(s, SOL_SOCKET, SO_TYPE, 0, &n));
	R(getsockopt(s, SOL_SOCKET, SO_TYPE, &v, 0));
	R(getsockopt(s, SOL_SOCKET, 1000, &v, &n));
	n = -1;
	R(getsockopt(s, SOL_SOCKET, 1000, &v, &n));
	R(getsockopt(s, 1000, 1000, &v, &n));
	n = 4;
	R(getsockopt(s, 1000, 1000, &v, &n));
	R(getsockopt(s, SOL_UDP, 1, &v, &n));
	R(getsockopt(s, SOL_RAW, 1, &v, &n));
	R(getsockopt(s, SOL_IPV6, IPV6_V6ONLY, &v, &n));
	R(getsockopt(u4(), SOL_TCP, TCP_NODELAY, &v, &n));
	R(setsockopt(u4(), SOL_TCP, TCP_NODELAY, &v, n));
	R(setsockopt(s, SOL_UDP, 1, &v, n));
	R(setsockopt(s, SOL_IPV6, IPV6_V6ONLY, &v, n));
}

CASE(buffers, setsockopt, getsockopt)
{
	/* UDP: the default, the smallest, doubling, the largest. */
	int u = u4(), s = t4();
	SET(u, SOL_SOCKET, SO_RCVBUF, 10000);
	SET(u, SOL_SOCKET, SO_RCVBUF, 1);
	SET(u, SOL_SOCKET, SO_RCVBUF, 0);
	SET(u, SOL_SOCKET, SO_RCVBUF, -1);
	SET(u, SOL_SOCKET, SO_RCVBUF, 212992);
	SET(u, SOL_SOCKET, SO_RCVBUF, 300000);
	SET(u, SOL_SOCKET, SO_RCVBUF, 0x7fffffff);
	SET(u, SOL_SOCKET, SO_SNDBUF, 10000);
	SET(u, SOL_SOCKET, SO_SNDBUF, 1);
	SET(u, SOL_SOCKET, SO_SNDBUF, 0);
	SET(u, SOL_SOCKET, SO_SNDBUF, -1);
	SET(u, SOL_SOCKET, SO_SNDBUF, 212992);
	SET(u, SOL_SOCKET, SO_SNDBUF, 300000);
	SET(s, SOL_SOCKET, SO_RCVBUF, 10000);
	SET(s, SOL_SOCKET, SO_RCVBUF, 1);
	SET(s, SOL_SOCKET, SO_RCVBUF, 200000);
	SET(s, SOL_SOCKET, SO_RCVBUF, 300000);
	SET(s, SOL_SOCKET, SO_SNDBUF, 10000);
	SET(s, SOL_SOCKET, SO_SNDBUF, 1);
	SET(s, SOL_SOCKET, SO_SNDBUF, 200000);
	SET(s, SOL_SOCKET, SO_SNDBUF, 300000);
	setint(u, SOL_SOCKET, SO_RCVBUFFORCE, 250000);
	GET(u, SOL_SOCKET, SO_RCVBUF);
	setint(u, SOL_SOCKET, SO_SNDBUFFORCE, 250000);
	GET(u, SOL_SOCKET, SO_SNDBUF);
	setint(u, SOL_SOCKET, SO_RCVBUFFORCE, -5);
	GET(u, SOL_SOCKET, SO_RCVBUF);
	GET(u4(), SOL_SOCKET, SO_RCVBUF);
	GET(u4(), SOL_SOCKET, SO_SNDBUF);
}

CASE(bufferuser, setsockopt)
{
	int u = u4();
	MUST(setuid(1000));
	R(setint(u, SOL_SOCKET, SO_RCVBUFFORCE, 3000));
	R(setint(u, SOL_SOCKET, SO_SNDBUFFORCE, 3000));
	R(setint(u, SOL_SOCKET, SO_PRIORITY, 6));
	R(setint(u, SOL_SOCKET, SO_PRIORITY, 7));
	R(setint(u, SOL_SOCKET, SO_PRIORITY, -1));
	R(setint(u, SOL_SOCKET, SO_MARK, 1));
	R(setint(u, SOL_SOCKET, SO_DEBUG, 1));
	R(setint(u, SOL_SOCKET, SO_DEBUG, 0));
	R(setint(u, SOL_SOCKET, SO_BUSY_POLL, 1));
	R(setint(u, SOL_SOCKET, SO_BUSY_POLL, 0));
	R(setint(u, SOL_IP, IP_TRANSPARENT, 1));
	R(setint(u, SOL_IP, IP_TRANSPARENT, 0));
	R(setint(u, SOL_IP, IP_FREEBIND, 1));
	R(setsockopt(u, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
	R(setsockopt(u, SOL_SOCKET, SO_BINDTODEVICE, "", 1));
	R(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
	R(socket(AF_PACKET, SOCK_RAW, 0));
	R(socket(AF_INET, SOCK_RAW, 0));
	struct sockaddr_in a = lo(80);
	R(bind(u, SA(a)));
}

CASE(priority, setsockopt, getsockopt)
{
	int u = u4();
	SET(u, SOL_SOCKET, SO_PRIORITY, 6);
	SET(u, SOL_SOCKET, SO_PRIORITY, 7);
	SET(u, SOL_SOCKET, SO_PRIORITY, -1);
	SET(u, SOL_SOCKET, SO_MARK, 77);
	SET(u, SOL_SOCKET, SO_MARK, -1);
	/* TOS moves the priority. */
	for (int tos = 0; tos < 32; tos += 4) {
		setint(u, SOL_IP, IP_TOS, tos);
		GET(u, SOL_SOCKET, SO_PRIORITY);
	}
}

CASE(lowat, setsockopt, getsockopt, recvfrom)
{
	int s = t4(), p[2];
	SET(s, SOL_SOCKET, SO_RCVLOWAT, 0);
	SET(s, SOL_SOCKET, SO_RCVLOWAT, 100);
	SET(u4(), SOL_SOCKET, SO_RCVLOWAT, 100);
	tcp(AF_INET, p);
	setint(p[1], SOL_SOCKET, SO_RCVLOWAT, 10);
	write(p[0], "12345", 5);
	settle();
	struct pollfd f = { p[1], POLLIN, 0 };
	R(poll(&f, 1, 50));
	R(recv(p[1], buf, 3, MSG_DONTWAIT));
	write(p[0], "1234567890", 10);
	IS(ready(p[1], POLLIN) & POLLIN);
	R(recv(p[1], buf, 30, 0));
	write(p[0], "123", 3);
	shutdown(p[0], SHUT_WR);
	IS(ready(p[1], POLLIN) & POLLIN);
	R(recv(p[1], buf, 30, 0));
	R(recv(p[1], buf, 30, 0));
}

CASE(timeouts, getsockopt, recvfrom)
{
	int u = u4();
	struct timeval tv[] = { { 0, 0 }, { 1, 500000 }, { 0, 1000000 }, { 0, -1 }, { -5, 3 }, { 1000000000, 0 }, { 0, 4000 } };
	struct timeval g;
	socklen_t n;
	for (size_t i = 0; i < sizeof tv / sizeof *tv; i++) {
		R(setsockopt(u, SOL_SOCKET, SO_RCVTIMEO, &tv[i], sizeof tv[i]));
		n = sizeof g;
		R(getsockopt(u, SOL_SOCKET, SO_RCVTIMEO, &g, &n));
		say("%ld.%06ld (%u bytes)", g.tv_sec, g.tv_usec, n);
	}
	R(setsockopt(u, SOL_SOCKET, SO_RCVTIMEO, &tv[1], 8));
	R(setsockopt(u, SOL_SOCKET, SO_SNDTIMEO, &tv[1], sizeof tv[1]));
	n = 8;
	R(getsockopt(u, SOL_SOCKET, SO_SNDTIMEO, &g, &n));
	say("%u bytes", n);
	struct timeval soon = { 0, 30000 };
	setsockopt(u, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
	struct sockaddr_in a = lo(0);
	bind(u, SA(a));
	R(recv(u, buf, 1, 0));
}

CASE(linger, setsockopt, getsockopt)
{
	int s = t4();
	struct linger l[] = { { 1, 5 }, { 0, 7 }, { 7, 0 }, { 1, -1 }, { 1, 0x7fffffff } }, g;
	socklen_t n;
	for (size_t i = 0; i < sizeof l / sizeof *l; i++) {
		R(setsockopt(s, SOL_SOCKET, SO_LINGER, &l[i], sizeof l[i]));
		n = sizeof g;
		R(getsockopt(s, SOL_SOCKET, SO_LINGER, &g, &n));
		if (g.l_linger > 1000000 || g.l_linger < 0)
			say("%d, much (%u bytes)", g.l_onoff, n);
		else
			say("%d, %d s (%u bytes)", g.l_onoff, g.l_linger, n);
	}
	R(setsockopt(s, SOL_SOCKET, SO_LINGER, &l[0], 4));
	R(setsockopt(s, SOL_SOCKET, SO_LINGER, &l[0], 7));
}

CASE(device, setsockopt, getsockopt, bind)
{
	int u = u4();
	char name[32];
	socklen_t n = sizeof name;
	struct sockaddr_in a = lo(0);
	R(getsockopt(u, SOL_SOCKET, SO_BINDTODEVICE, name, &n));
	say("%u bytes", n);
	R(setsockopt(u, SOL_SOCKET, SO_BINDTODEVICE, "nosuch0", 8));
	R(setsockopt(u, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2));
	n = sizeof name;
	R(getsockopt(u, SOL_SOCKET, SO_BINDTODEVICE, name, &n));
	say("%u bytes: %s", n, name);
	n = 8;
	R(getsockopt(u, SOL_SOCKET, SO_BINDTODEVICE, name, &n));
	GET(u, SOL_SOCKET, SO_BINDTOIFINDEX);
	SET(u, SOL_SOCKET, SO_BINDTOIFINDEX, 0);
	SET(u, SOL_SOCKET, SO_BINDTOIFINDEX, 1);
	SET(u, SOL_SOCKET, SO_BINDTOIFINDEX, -1);
	R(bind(u, SA(a)));
	R(setsockopt(u, SOL_SOCKET, SO_BINDTODEVICE, "", 0));
	R(setsockopt(u, SOL_SOCKET, SO_BINDTODEVICE, "lo\0lo", 6));
}

CASE(timestamps, setsockopt, getsockopt)
{
	int u = u4();
	SET(u, SOL_SOCKET, SO_TIMESTAMP, 1);
	SET(u, SOL_SOCKET, SO_TIMESTAMPNS, 1);
	GET(u, SOL_SOCKET, SO_TIMESTAMP);
	SET(u, SOL_SOCKET, SO_TIMESTAMP, 1);
	GET(u, SOL_SOCKET, SO_TIMESTAMPNS);
	SET(u, SOL_SOCKET, SO_TIMESTAMP, 0);
	SET(u, SOL_SOCKET, SO_TIMESTAMPING, 0x18);
	SET(u, SOL_SOCKET, SO_TIMESTAMPING, 0);
	SET(u, SOL_SOCKET, SO_TIMESTAMPING, 1 << 20);
	SET(u, SOL_SOCKET, 63, 1); /* SO_TIMESTAMP_NEW */
	GET(u, SOL_SOCKET, SO_TIMESTAMP);
	SET(u, SOL_SOCKET, 64, 1); /* SO_TIMESTAMPNS_NEW */
	GET(u, SOL_SOCKET, SO_TIMESTAMPNS);
}

CASE(cookies, getsockopt)
{
	int s = t4(), t = t4();
	uint64_t a, b, c;
	uint32_t m[9];
	socklen_t n = 8;
	R(getsockopt(s, SOL_SOCKET, SO_COOKIE, &a, &n));
	R(getsockopt(s, SOL_SOCKET, SO_COOKIE, &b, &n));
	R(getsockopt(t, SOL_SOCKET, SO_COOKIE, &c, &n));
	IS(a == b && a != c);
	n = 4;
	R(getsockopt(t, SOL_SOCKET, SO_COOKIE, &c, &n));
	n = sizeof m;
	R(getsockopt(u4(), SOL_SOCKET, SO_MEMINFO, m, &n));
	say("%u bytes, rmem %u of %u, wmem %u of %u, drops %u", n, m[0], m[1], m[2], m[3], m[8]);
	struct { int pid; unsigned uid, gid; } cr;
	n = sizeof cr;
	R(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &cr, &n));
	say("pid %d uid %d gid %d", cr.pid, cr.uid, cr.gid);
	n = 64;
	R(getsockopt(s, SOL_SOCKET, SO_PEERNAME, buf, &n));
	R(getsockopt(s, SOL_SOCKET, SO_PEERGROUPS, buf, &n));
	R(getsockopt(s, SOL_SOCKET, SO_PEERSEC, buf, &n));
	int p[2];
	tcp(AF_INET, p);
	n = 64;
	R(getsockopt(p[0], SOL_SOCKET, SO_PEERNAME, buf, &n));
	say("%u bytes", n);
	n = 8;
	R(getsockopt(p[0], SOL_SOCKET, SO_PEERNAME, buf, &n));
}

CASE(inherited, accept, setsockopt, getsockopt)
{
	struct sockaddr_storage a;
	socklen_t n;
	int l = bound(AF_INET, SOCK_STREAM, &a, &n), c;
	setint(l, SOL_SOCKET, SO_KEEPALIVE, 1);
	setint(l, SOL_SOCKET, SO_OOBINLINE, 1);
	setint(l, SOL_SOCKET, SO_REUSEADDR, 1);
	setint(l, SOL_SOCKET, SO_RCVBUF, 50000);
	setint(l, SOL_SOCKET, SO_SNDBUF, 50000);
	setint(l, SOL_SOCKET, SO_PRIORITY, 3);
	setint(l, SOL_SOCKET, SO_MARK, 9);
	setint(l, SOL_SOCKET, SO_DONTROUTE, 1);
	setint(l, SOL_TCP, TCP_NODELAY, 1);
	setint(l, SOL_TCP, TCP_KEEPIDLE, 33);
	setint(l, SOL_TCP, TCP_KEEPINTVL, 11);
	setint(l, SOL_TCP, TCP_KEEPCNT, 3);
	setint(l, SOL_TCP, TCP_USER_TIMEOUT, 12345);
	setint(l, SOL_TCP, TCP_LINGER2, 7);
	setint(l, SOL_TCP, TCP_SYNCNT, 4);
	setint(l, SOL_TCP, TCP_NOTSENT_LOWAT, 9999);
	setint(l, SOL_IP, IP_TOS, 0x10);
	setint(l, SOL_IP, IP_TTL, 44);
	setint(l, SOL_IP, IP_FREEBIND, 1);
	struct timeval tv = { 5, 0 };
	setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	struct linger lg = { 1, 0 };
	setsockopt(l, SOL_SOCKET, SO_LINGER, &lg, sizeof lg);
	listen(l, 4);
	int k = t4();
	MUST(connect(k, (void *)&a, n));
	MUST(c = accept(l, 0, 0));
	GET(c, SOL_SOCKET, SO_KEEPALIVE);
	GET(c, SOL_SOCKET, SO_OOBINLINE);
	GET(c, SOL_SOCKET, SO_REUSEADDR);
	GET(c, SOL_SOCKET, SO_SNDBUF);
	GET(c, SOL_SOCKET, SO_RCVBUF);
	GET(c, SOL_SOCKET, SO_PRIORITY);
	GET(c, SOL_SOCKET, SO_MARK);
	GET(c, SOL_SOCKET, SO_DONTROUTE);
	GET(c, SOL_SOCKET, SO_ACCEPTCONN);
	GET(l, SOL_SOCKET, SO_ACCEPTCONN);
	GET(c, SOL_TCP, TCP_NODELAY);
	GET(c, SOL_TCP, TCP_KEEPIDLE);
	GET(c, SOL_TCP, TCP_KEEPINTVL);
	GET(c, SOL_TCP, TCP_KEEPCNT);
	GET(c, SOL_TCP, TCP_USER_TIMEOUT);
	GET(c, SOL_TCP, TCP_LINGER2);
	GET(c, SOL_TCP, TCP_SYNCNT);
	GET(c, SOL_TCP, TCP_NOTSENT_LOWAT);
	GET(c, SOL_IP, IP_TOS);
	GET(c, SOL_IP, IP_TTL);
	GET(c, SOL_IP, IP_FREEBIND);
	n = sizeof tv;
	getsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, &n);
	say("SO_RCVTIMEO %ld", tv.tv_sec);
	n = sizeof lg;
	getsockopt(c, SOL_SOCKET, SO_LINGER, &lg, &n);
	say("SO_LINGER %d %d", lg.l_onoff, lg.l_linger);
	IS((fcntl(c, F_GETFL) & O_NONBLOCK) == 0);
}

CASE(filter, setsockopt, recvfrom)
{
	int p[2];
	udp(AF_INET, p);
	/* The first byte of the datagram, behind the UDP header, is 'a': 3 bytes of it pass. */
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 8),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 'a', 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 11),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog fp = { 4, f };
	R(setint(p[1], SOL_SOCKET, SO_DETACH_FILTER, 0));
	R(setsockopt(p[1], SOL_SOCKET, SO_ATTACH_FILTER, &fp, 4));
	R(setsockopt(p[1], SOL_SOCKET, SO_ATTACH_FILTER, &fp, sizeof fp));
	R(send(p[0], "bbbb", 4, 0));
	R(send(p[0], "abcdef", 6, 0));
	R(send(p[0], "ccc", 3, 0));
	memset(buf, 0, 8);
	R(recv(p[1], buf, 100, 0));
	say("%s", buf);
	R(recv(p[1], buf, 100, MSG_DONTWAIT));
	struct sock_filter g[8];
	socklen_t n = 0;
	R(getsockopt(p[1], SOL_SOCKET, SO_GET_FILTER, g, &n));
	say("%u instructions", n);
	n = 2;
	R(getsockopt(p[1], SOL_SOCKET, SO_GET_FILTER, g, &n));
	n = 8;
	R(getsockopt(p[1], SOL_SOCKET, SO_GET_FILTER, g, &n));
	IS(n == 4 && !memcmp(f, g, sizeof f));
	R(setint(p[1], SOL_SOCKET, SO_DETACH_FILTER, 0));
	R(setint(p[1], SOL_SOCKET, SO_DETACH_FILTER, 0));
	R(send(p[0], "bbbb", 4, 0));
	R(recv(p[1], buf, 100, MSG_DONTWAIT));
}

CASE(filterbad, setsockopt)
{
	int p[2];
	udp(AF_INET, p);
	struct sock_filter ok[] = { BPF_STMT(BPF_RET | BPF_K, 65535) }, no[] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0) };
	struct sock_fprog fp = { 0, ok };
	R(setsockopt(p[1], SOL_SOCKET, SO_ATTACH_FILTER, &fp, sizeof fp));
	fp = (struct sock_fprog){ 1, no };
	R(setsockopt(p[1], SOL_SOCKET, SO_ATTACH_FILTER, &fp, sizeof fp));
	fp = (struct sock_fprog){ 1, 0 };
	R(setsockopt(p[1], SOL_SOCKET, SO_ATTACH_FILTER, &fp, sizeof fp));
	fp = (struct sock_fprog){ 5000, ok };
	R(setsockopt(p[1], SOL_SOCKET, SO_ATTACH_FILTER, &fp, sizeof fp));
	fp = (struct sock_fprog){ 1, (void *)8 };
	R(setsockopt(p[1], SOL_SOCKET, SO_ATTACH_FILTER, &fp, sizeof fp));
	R(setsockopt(p[1], SOL_SOCKET, SO_ATTACH_FILTER, 0, sizeof fp));
	fp = (struct sock_fprog){ 1, ok };
	R(setsockopt(p[1], SOL_SOCKET, SO_ATTACH_FILTER, &fp, sizeof fp));
	SET(p[1], SOL_SOCKET, SO_LOCK_FILTER, 1);
	SET(p[1], SOL_SOCKET, SO_LOCK_FILTER, 0);
	R(setsockopt(p[1], SOL_SOCKET, SO_ATTACH_FILTER, &fp, sizeof fp));
	R(setint(p[1], SOL_SOCKET, SO_DETACH_FILTER, 0));
	R(setint(p[1], SOL_SOCKET, SO_ATTACH_BPF, -1));
	R(setint(p[0], SOL_SOCKET, SO_ATTACH_BPF, -1));
}

CASE(filterdrop, setsockopt, recvfrom)
{
	/* A filter that counts lengths and ports, and one that divides by zero. */
	int p[2];
	udp(AF_INET, p);
	struct sock_filter len[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 8 + 4, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
		BPF_STMT(BPF_RET | BPF_K, 0),
	}, div[] = {
		BPF_STMT(BPF_LDX | BPF_IMM, 0),
		BPF_STMT(BPF_LD | BPF_IMM, 7),
		BPF_STMT(BPF_ALU | BPF_DIV | BPF_X, 0),
		BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
	}, far[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 500),
		BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
	}, tax[] = {
		BPF_STMT(BPF_LD | BPF_IMM, 5),
		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		BPF_STMT(BPF_LD | BPF_IMM, 0),
		BPF_STMT(BPF_MISC | BPF_TXA, 0),
		BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, 6),
		BPF_STMT(BPF_RET | BPF_A, 0),
	}, acc[] = {
		BPF_STMT(BPF_LD | BPF_IMM, 10),
		BPF_STMT(BPF_RET | BPF_A, 0),
	};
	struct { struct sock_filter *f; int n; } t[] = { { len, 4 }, { div, 4 }, { far, 2 }, { tax, 6 }, { acc, 2 } };
	for (int i = 0; i < 5; i++) {
		struct sock_fprog fp = { t[i].n, t[i].f };
		R(setsockopt(p[1], SOL_SOCKET, SO_ATTACH_FILTER, &fp, sizeof fp));
		send(p[0], "1234", 4, 0);
		send(p[0], "12345", 5, 0);
		int n;
		while ((n = recv(p[1], buf, 100, MSG_DONTWAIT)) >= 0)
			say("filter %d let %d bytes through", i, n);
		say("%s", errname(errno));
	}
}

/* Marks and high priorities are for who may send whatever he likes, or manage the net. */
CASE(marks, setsockopt, sendmsg)
{
	static const struct { const char *name; unsigned caps; } who[] = { { "raw", 1 << 13 }, { "admin", 1 << 12 }, { "bind", 1 << 10 } };
	for (int i = 0; i < 3; i++)
		if (!fork()) {
			struct { unsigned version; int pid; } h = { 0x20080522, 0 };
			struct { unsigned effective, permitted, inheritable; } d[2] = { { who[i].caps, who[i].caps, 0 } };
			MUST(syscall(SYS_capset, &h, d));
			int s = socket(AF_INET, SOCK_DGRAM, 0), u = 7;
			struct sockaddr_in a = lo(9);
			say("%s", who[i].name);
			SET(s, SOL_SOCKET, SO_PRIORITY, 6);
			SET(s, SOL_SOCKET, SO_PRIORITY, 7);
			SET(s, SOL_SOCKET, SO_MARK, 5);
			SET(s, SOL_SOCKET, SO_MARK, 0);
			union { char b[CMSG_SPACE(4)]; struct cmsghdr h; } c = { .h = { .cmsg_level = SOL_SOCKET, .cmsg_type = SO_MARK, .cmsg_len = CMSG_LEN(4) } };
			struct iovec v = { "x", 1 };
			struct msghdr m = { .msg_name = &a, .msg_namelen = sizeof a, .msg_iov = &v, .msg_iovlen = 1, .msg_control = c.b, .msg_controllen = sizeof c.b };
			memcpy(CMSG_DATA(&c.h), &u, 4);
			R(sendmsg(s, &m, 0));
			c.h.cmsg_len = CMSG_LEN(2);
			R(sendmsg(s, &m, 0));
			_exit(0);
		} else
			wait(0);
}

CASES
