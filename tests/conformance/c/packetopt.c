/* Options of AF_PACKET: values, sizes, what is refused and in which order. */
#include "packet.h"

CASE(ints, setsockopt, getsockopt)
{
	int s, d;
	MUST(s = socket(AF_PACKET, SOCK_RAW, 0));
	MUST(d = socket(AF_PACKET, SOCK_DGRAM, 0));
	SET(s, SOL_PACKET, PACKET_AUXDATA, 7);
	SET(s, SOL_PACKET, PACKET_ORIGDEV, -1);
	SET(s, SOL_PACKET, PACKET_VNET_HDR, 2);
	SET(d, SOL_PACKET, PACKET_VNET_HDR, 1);
	SET(s, SOL_PACKET, PACKET_LOSS, 3);
	SET(s, SOL_PACKET, PACKET_RESERVE, 100);
	SET(s, SOL_PACKET, PACKET_RESERVE, -1);
	SET(s, SOL_PACKET, PACKET_TIMESTAMP, 64);
	SET(s, SOL_PACKET, PACKET_TIMESTAMP, -5);
	SET(s, SOL_PACKET, PACKET_COPY_THRESH, 1);
	SET(s, SOL_PACKET, PACKET_TX_HAS_OFF, 9);
	SET(s, SOL_PACKET, PACKET_QDISC_BYPASS, 4);
	SET(s, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
	SET(s, SOL_PACKET, PACKET_IGNORE_OUTGOING, 2);
	SET(s, SOL_PACKET, PACKET_IGNORE_OUTGOING, -1);
	for (int v = -1; v < 4; v++)
		SET(s, SOL_PACKET, PACKET_VERSION, v);
	SET(s, SOL_PACKET, PACKET_STATISTICS, 1);
	SET(s, SOL_PACKET, PACKET_HDRLEN, 1);
	SET(s, SOL_PACKET, PACKET_ROLLOVER_STATS, 1);
	SET(s, SOL_PACKET, PACKET_RECV_OUTPUT, 1);
	SET(s, SOL_PACKET, 0, 1);
	GET(s, SOL_PACKET, PACKET_FANOUT);
	GET(s, SOL_PACKET, PACKET_FANOUT_DATA);
	GET(s, SOL_PACKET, PACKET_RX_RING);
	GET(s, SOL_PACKET, PACKET_ROLLOVER_STATS);
	GET(s, SOL_PACKET, PACKET_ADD_MEMBERSHIP);
}

CASE(sizes, setsockopt, getsockopt)
{
	static const struct { const char *n; int o; } t[] = {
#define O(x) { #x, x }
		O(PACKET_ADD_MEMBERSHIP), O(PACKET_RX_RING), O(PACKET_TX_RING), O(PACKET_STATISTICS), O(PACKET_COPY_THRESH), O(PACKET_AUXDATA), O(PACKET_ORIGDEV),
		O(PACKET_VERSION), O(PACKET_HDRLEN), O(PACKET_RESERVE), O(PACKET_LOSS), O(PACKET_VNET_HDR), O(PACKET_TIMESTAMP), O(PACKET_FANOUT),
		O(PACKET_TX_HAS_OFF), O(PACKET_QDISC_BYPASS), O(PACKET_ROLLOVER_STATS), O(PACKET_FANOUT_DATA), O(PACKET_IGNORE_OUTGOING),
	};
	int s;
	MUST(s = socket(AF_PACKET, SOCK_RAW, 0));
	for (unsigned i = 0; i < sizeof t / sizeof *t; i++) {
		char line[200];
		int at = 0;
		static char v[64];
		static const int sizes[] = { 0, 3, 4, 5, 8, 15, 16, 17, 28 };
		memset(v, 0, sizeof v);
		for (unsigned k = 0; k < sizeof sizes / sizeof *sizes; k++) {
			errno = 0;
			int r = setsockopt(s, SOL_PACKET, t[i].o, v, sizes[k]);
			at += snprintf(line + at, sizeof line - at, " %d:%s", sizes[k], r ? errname(errno) : "ok");
		}
		say("%s set%s", t[i].n, line);
		for (unsigned k = at = 0; k < 3; k++) {
			static const int bad[] = { 3, 4, 28 };
			errno = 0;
			int r = setsockopt(s, SOL_PACKET, t[i].o, (void *)8, bad[k]);
			at += snprintf(line + at, sizeof line - at, " %d:%s", bad[k], r ? errname(errno) : "ok");
		}
		say("%s from nowhere%s", t[i].n, line);
		for (int k = at = 0; k < 3; k++) {
			static const int room[] = { 0, 2, 40 };
			socklen_t n = room[k];
			errno = 0;
			memset(v, 0, sizeof v);
			int r = getsockopt(s, SOL_PACKET, t[i].o, v, &n);
			at += snprintf(line + at, sizeof line - at, " %d:%s,%u", room[k], r ? errname(errno) : "ok", n);
		}
		say("%s get%s", t[i].n, line);
	}
	socklen_t n = -1;
	R(getsockopt(s, SOL_PACKET, PACKET_VERSION, &n, &n));
	R(setsockopt(s, SOL_IP, 1, &n, 4));
	R(setsockopt(s, SOL_IP, 1, (void *)8, 4));
	R(getsockopt(s, SOL_IP, 1, &n, &n));
}

CASE(hdrlen, getsockopt)
{
	int s;
	MUST(s = socket(AF_PACKET, SOCK_RAW, 0));
	for (int i = -1; i < 4; i++) {
		int v = i;
		socklen_t n = sizeof v;
		R(getsockopt(s, SOL_PACKET, PACKET_HDRLEN, &v, &n));
		say("version %d: %d, %u bytes", i, v, n);
	}
	long v = 1;
	socklen_t n = sizeof v;
	R(getsockopt(s, SOL_PACKET, PACKET_HDRLEN, &v, &n));
	say("%ld, %u bytes", v, n);
	n = 3;
	R(getsockopt(s, SOL_PACKET, PACKET_HDRLEN, &v, &n));
	n = 4;
	R(getsockopt(s, SOL_PACKET, PACKET_HDRLEN, (void *)8, &n));
	n = 3;
	R(getsockopt(s, SOL_PACKET, PACKET_HDRLEN, (void *)8, &n));
}

CASE(requests, setsockopt)
{
	/* What a ring may be, in the order of the checks. */
	int s;
	MUST(s = socket(AF_PACKET, SOCK_RAW, 0));
	R(ring(s, PACKET_RX_RING, 0, 0, 0, 1));
	R(ring(s, PACKET_RX_RING, 0, 0, 0, 0));
	R(ring(s, PACKET_RX_RING, 0, 1, 0, 0));
	R(ring(s, PACKET_RX_RING, -4096, 1, 2048, 2));
	R(ring(s, PACKET_RX_RING, 4095, 1, 2048, 1));
	R(ring(s, PACKET_RX_RING, 2048, 1, 2048, 1));
	R(ring(s, PACKET_RX_RING, 4096, 1, 51, 80));
	R(ring(s, PACKET_RX_RING, 4096, 1, 48, 85));
	R(ring(s, PACKET_RX_RING, 4096, 1, 52, 78));
	R(ring(s, PACKET_RX_RING, 4096, 1, 64, 63));
	R(ring(s, PACKET_RX_RING, 4096, 1, 64, 65));
	R(ring(s, PACKET_RX_RING, 4096, 1, 8192, 1));
	R(ring(s, PACKET_RX_RING, 4096, 0x10000000, 64, 0));
	R(ring(s, PACKET_RX_RING, 4096, 1, 64, 64));
	R(ring(s, PACKET_RX_RING, 4096, 1, 64, 64));
	R(ring(s, PACKET_RX_RING, 1, 1, 1, 1));
	R(ring(s, PACKET_RX_RING, 0, 0, 0, 1));
	R(ring(s, PACKET_TX_RING, 8192, 2, 4096, 4));
	SET(s, SOL_PACKET, PACKET_VERSION, 1);
	SET(s, SOL_PACKET, PACKET_VERSION, 9);
	SET(s, SOL_PACKET, PACKET_RESERVE, 1);
	SET(s, SOL_PACKET, PACKET_RESERVE, -1);
	SET(s, SOL_PACKET, PACKET_LOSS, 1);
	SET(s, SOL_PACKET, PACKET_VNET_HDR, 1);
	SET(s, SOL_PACKET, PACKET_TX_HAS_OFF, 1);
	R(ring(s, PACKET_RX_RING, 0, 0, 0, 0));
	SET(s, SOL_PACKET, PACKET_RESERVE, 1);
	R(ring(s, PACKET_TX_RING, 0, 0, 99, 0));
	SET(s, SOL_PACKET, PACKET_RESERVE, 12);
	R(ring(s, PACKET_RX_RING, 4096, 1, 48, 85));
	R(ring(s, PACKET_RX_RING, 4096, 1, 64, 64));
	R(ring(s, PACKET_RX_RING, 0, 0, 0, 0));
	SET(s, SOL_PACKET, PACKET_RESERVE, 13);
	R(ring(s, PACKET_RX_RING, 4096, 1, 64, 64));
	SET(s, SOL_PACKET, PACKET_RESERVE, 0x7fffffff);
	R(ring(s, PACKET_RX_RING, 4096, 1, 64, 64));
}

CASE(requests3, setsockopt)
{
	int s;
	MUST(s = socket(AF_PACKET, SOCK_RAW, 0));
	SET(s, SOL_PACKET, PACKET_VERSION, TPACKET_V3);
	R(ring(s, PACKET_RX_RING, 4096, 1, 2048, 2));
	R(ring3(s, PACKET_RX_RING, 4096, 1, 64, 64, 0, 0, 0));
	R(ring3(s, PACKET_RX_RING, 4096, 1, 80, 51, 0, 3980, 0));
	R(ring3(s, PACKET_RX_RING, 4096, 1, 80, 51, 0, 3981, 0));
	R(ring3(s, PACKET_RX_RING, 4096, 1, 80, 51, 0, 3976, 0));
	R(ring3(s, PACKET_RX_RING, 4096, 1, 80, 51, 0, -1, 0));
	R(ring3(s, PACKET_RX_RING, 0, 0, 0, 0, 0, 0, 0));
	R(ring3(s, PACKET_RX_RING, 4096, 1, 80, 51, 50, 0, 0xff));
	R(ring3(s, PACKET_RX_RING, 0, 0, 0, 0, 1, 2, 3));
	R(ring3(s, PACKET_TX_RING, 4096, 1, 2048, 2, 1, 0, 0));
	R(ring3(s, PACKET_TX_RING, 4096, 1, 2048, 2, 0, 1, 0));
	R(ring3(s, PACKET_TX_RING, 4096, 1, 2048, 2, 0, 0, 1));
	R(ring3(s, PACKET_TX_RING, 4096, 1, 2048, 2, 0, 0, 0));
	R(ring3(s, PACKET_RX_RING, 4096, 1, 2048, 2, 1, 0, 0));
	stats(s);
	SET(s, SOL_PACKET, PACKET_VERSION, TPACKET_V2);
}

CASE(mapping, mmap, munmap, setsockopt)
{
	int s;
	MUST(s = socket(AF_PACKET, SOCK_RAW, 0));
#define MAP(n, prot, flags, off) ({ void *p_ = mmap(0, n, prot, flags, s, off); if (p_ == MAP_FAILED) say("mmap(" #n ", " #prot ", " #flags ", " #off "): %s", errname(errno)); \
	else say("mmap(" #n ", " #prot ", " #flags ", " #off "): ok"); p_; })
	MAP(4096, PROT_READ, MAP_SHARED, 0);
	R(ring(s, PACKET_RX_RING, 4096, 2, 2048, 4));
	MAP(4096, PROT_READ, MAP_SHARED, 0);
	MAP(8192, PROT_READ, MAP_SHARED, 4096);
	MAP(16384, PROT_READ, MAP_SHARED, 0);
	char *p = MAP(8191, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	R(ring(s, PACKET_RX_RING, 0, 0, 0, 0));
	R(ring(s, PACKET_TX_RING, 4096, 1, 2048, 2));
	R(ring(s, PACKET_RX_RING, 0, 0, 0, 1));
	char *q = MAP(8192, PROT_READ, MAP_PRIVATE, 0);
	R(munmap(p, 4096));
	R(munmap(q, 8192));
	R(ring(s, PACKET_RX_RING, 0, 0, 0, 0));
	R(munmap(p + 4096, 4096));
	R(ring(s, PACKET_TX_RING, 8192, 1, 4096, 2));
	p = MAP(16384, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	memset(p, 'x', 16384);
	IS(p[0] == 'x' && p[16383] == 'x');
	int kid = fork();
	if (!kid) {
		p[1] = 'y';
		_exit(0);
	}
	waitpid(kid, 0, 0);
	IS(p[1] == 'y');
	R(munmap(p, 16384));
	R(ring(s, PACKET_RX_RING, 0, 0, 0, 0));
	MAP(8192, PROT_READ, MAP_SHARED, 0);
	R(ring(s, PACKET_TX_RING, 0, 0, 0, 0));
	close(s);
	/* Closed while mapped: the pages stay. */
	MUST(s = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_IP)));
	MUST(ring(s, PACKET_RX_RING, 4096, 1, 2048, 2));
	p = MAP(4096, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	close(s);
	p[4095] = 1;
	shout("after close");
	R(munmap(p, 4096));
}

CASES
