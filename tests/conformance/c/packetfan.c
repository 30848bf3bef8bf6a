/* PACKET_FANOUT: packet sockets that share what comes. */
#include "packet.h"

static int join(int s, int id, int type_flags) { return setint(s, SOL_PACKET, PACKET_FANOUT, id | (unsigned)type_flags << 16); }

static int joinmax(int s, int id, int type_flags, unsigned most)
{
	struct fanout_args a = { .id = id, .type_flags = type_flags, .max_num_members = most };
	return setsockopt(s, SOL_PACKET, PACKET_FANOUT, &a, sizeof a);
}

static int member(void)
{
	int s = hear(SOCK_DGRAM);
	struct sockaddr_ll a = ll(ETH_P_IP, 1);
	MUST(bind(s, SA(a)));
	return s;
}

/* listener takes the datagrams that shout sends, so that no errors come back for them. */
static void listener(void)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in a = lo(7777);
	MUST(bind(s, SA(a)));
}

static int count(int s)
{
	int n = 0;
	while (recv(s, buf, 100, MSG_DONTWAIT) >= 0)
		n++;
	return n;
}

CASE(join, setsockopt, getsockopt)
{
	int a, b, c;
	MUST(a = socket(AF_PACKET, SOCK_RAW, 0));
	R(join(a, 7, PACKET_FANOUT_HASH)); /* not bound to a protocol */
	MUST(a = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_IP)));
	MUST(b = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP)));
	MUST(c = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)));
	R(join(a, 7, 8));
	R(join(a, 7, 255));
	R(join(a, 7, PACKET_FANOUT_ROLLOVER | PACKET_FANOUT_FLAG_ROLLOVER));
	R(joinmax(a, 7, PACKET_FANOUT_HASH, 65537));
	R(join(a, 7, PACKET_FANOUT_FLAG_UNIQUEID));
	R(join(a, 7, PACKET_FANOUT_LB | PACKET_FANOUT_FLAG_ROLLOVER));
	R(join(a, 8, PACKET_FANOUT_HASH));
	int v;
	socklen_t n = sizeof v;
	R(getsockopt(a, SOL_PACKET, PACKET_FANOUT, &v, &n));
	say("%x", v);
	R(join(b, 7, PACKET_FANOUT_LB));
	R(join(b, 7, PACKET_FANOUT_HASH | PACKET_FANOUT_FLAG_ROLLOVER));
	R(join(c, 7, PACKET_FANOUT_LB | PACKET_FANOUT_FLAG_ROLLOVER));
	R(joinmax(b, 7, PACKET_FANOUT_LB | PACKET_FANOUT_FLAG_ROLLOVER, 5));
	R(joinmax(b, 7, PACKET_FANOUT_LB | PACKET_FANOUT_FLAG_ROLLOVER, 256));
	struct sockaddr_ll at = ll(ETH_P_IP, 1);
	R(bind(b, SA(at)));
	struct { unsigned long a, b, c; } roll;
	n = sizeof roll;
	R(getsockopt(b, SOL_PACKET, PACKET_ROLLOVER_STATS, &roll, &n));
	say("%u bytes, %lu %lu %lu", n, roll.a, roll.b, roll.c);
	R(getsockopt(c, SOL_PACKET, PACKET_ROLLOVER_STATS, &roll, &n));
	R(setsockopt(c, SOL_PACKET, PACKET_FANOUT_DATA, &v, 4));
	R(setsockopt(a, SOL_PACKET, PACKET_FANOUT_DATA, &v, 4));
	R(setsockopt(a, SOL_PACKET, PACKET_FANOUT_DATA, (void *)8, 4));
	/* The group is gone with its last member: another kind may have its number. */
	close(a);
	close(b);
	R(join(c, 7, PACKET_FANOUT_RND));
	R(getsockopt(c, SOL_PACKET, PACKET_FANOUT, &v, &n));
}

CASE(full, setsockopt)
{
	int s[4];
	for (int i = 0; i < 4; i++)
		s[i] = member();
	for (int i = 0; i < 3; i++)
		R(joinmax(s[i], 3, PACKET_FANOUT_LB, i < 2 ? 2 : 0));
	close(s[0]);
	R(joinmax(s[2], 3, PACKET_FANOUT_LB, 0));
	R(joinmax(s[3], 4, PACKET_FANOUT_LB, 65536));
	close(s[3]);
	MUST(s[3] = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_IP)));
	R(joinmax(s[3], 3, PACKET_FANOUT_LB, 0)); /* not of the interface */
}

CASE(unique, setsockopt, getsockopt)
{
	int a = member(), b = member(), c = member(), v, w;
	socklen_t n = sizeof v;
	R(join(a, 0, PACKET_FANOUT_HASH | PACKET_FANOUT_FLAG_UNIQUEID));
	R(join(b, 0, PACKET_FANOUT_HASH | PACKET_FANOUT_FLAG_UNIQUEID));
	R(getsockopt(a, SOL_PACKET, PACKET_FANOUT, &v, &n));
	R(getsockopt(b, SOL_PACKET, PACKET_FANOUT, &w, &n));
	IS((v & 0xffff) != (w & 0xffff));
	say("%x %x", (unsigned)v >> 16, (unsigned)w >> 16);
	R(join(c, v & 0xffff, PACKET_FANOUT_HASH));
}

CASE(share, setsockopt, recvfrom)
{
	/* Who gets what of twelve datagrams of one flow, and of many. */
	static const struct { const char *name; int type; } t[] = { { "hash", PACKET_FANOUT_HASH }, { "lb", PACKET_FANOUT_LB }, { "rnd", PACKET_FANOUT_RND },
		{ "rollover", PACKET_FANOUT_ROLLOVER }, { "qm", PACKET_FANOUT_QM }, { "cbpf", PACKET_FANOUT_CBPF }, { "ebpf", PACKET_FANOUT_EBPF } };
	listener();
	int w = member();
	for (unsigned i = 0, again = 0; i < sizeof t / sizeof *t; i++) {
		int s[3], n[3], u, total = 0;
		for (int k = 0; k < 3; k++) {
			s[k] = member();
			MUST(join(s[k], 11, t[i].type));
		}
		count(w);
		MUST(u = socket(AF_INET, SOCK_DGRAM, 0));
		struct sockaddr_in a = lo(7777);
		for (int k = 0; k < 12; k++)
			sendto(u, "x", 1, 0, SA(a));
		close(u);
		for (int k = 0; k < 3; k++)
			total += n[k] = count(s[k]);
		if (count(w) != 12 && again++ < 20) /* somebody else sent something, too */
			i--;
		else if (t[i].type == PACKET_FANOUT_HASH)
			say("%s: one has all: %d", t[i].name, n[0] == 12 || n[1] == 12 || n[2] == 12);
		else if (t[i].type == PACKET_FANOUT_RND)
			say("%s: %d", t[i].name, total);
		else
			say("%s: %d %d %d", t[i].name, n[0], n[1], n[2]);
		for (int k = 0; k < 3; k++)
			close(s[k]);
	}
}

CASE(program, setsockopt, recvfrom)
{
	/* A program chooses: by the last byte of the destination port, of the network header on. */
	int s[3];
	struct sock_filter f[] = { BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 28), BPF_STMT(BPF_RET | BPF_A, 0) }, bad[] = { BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 28) };
	struct sock_fprog fp = { 2, f }, no = { 1, bad };
	for (int k = 0; k < 3; k++) {
		s[k] = member();
		MUST(join(s[k], 12, PACKET_FANOUT_CBPF));
	}
	R(setsockopt(s[1], SOL_PACKET, PACKET_FANOUT_DATA, &fp, 4));
	R(setsockopt(s[1], SOL_PACKET, PACKET_FANOUT_DATA, (void *)8, sizeof fp));
	R(setsockopt(s[1], SOL_PACKET, PACKET_FANOUT_DATA, &no, sizeof no));
	R(setsockopt(s[1], SOL_PACKET, PACKET_FANOUT_DATA, &fp, sizeof fp));
	shout("a");
	shout("b");
	shout("b");
	shout("c");
	shout("c");
	shout("c");
	for (int k = 0; k < 3; k++)
		R(count(s[k]));
	R(setint(s[1], SOL_SOCKET, SO_LOCK_FILTER, 1));
	R(setsockopt(s[1], SOL_PACKET, PACKET_FANOUT_DATA, &fp, sizeof fp));
	close(s[0]); /* the last one takes its place */
	shout("a");
	shout("b");
	shout("b");
	for (int k = 1; k < 3; k++)
		R(count(s[k]));
}

CASE(roll, setsockopt, getsockopt)
{
	/* Rings that are full pass on what comes to the next one. */
	int s[2], w, again = 0;
	char *p[2];
	listener();
	w = member();
more:
	count(w);
	for (int k = 0; k < 2; k++) {
		s[k] = member();
		MUST(setint(s[k], SOL_PACKET, PACKET_VERSION, TPACKET_V2));
		MUST(ring(s[k], PACKET_RX_RING, 4096, 2, 1024, 8));
		p[k] = map(s[k], 8192);
		MUST(join(s[k], 13, PACKET_FANOUT_ROLLOVER));
	}
	for (int i = 0; i < 20; i++)
		shout("roll");
	if (count(w) != 20 && again++ < 20) { /* somebody else sent something, too */
		for (int k = 0; k < 2; k++)
			munmap(p[k], 8192), close(s[k]);
		goto more;
	}
	for (int k = 0; k < 2; k++) {
		int n = 0;
		for (int i = 0; i < 8; i++)
			n += *(unsigned *)(p[k] + 1024 * i) != 0;
		say("%d frames", n);
		stats(s[k]);
		struct { unsigned long a, b, c; } r;
		socklen_t l = sizeof r;
		R(getsockopt(s[k], SOL_PACKET, PACKET_ROLLOVER_STATS, &r, &l));
		say("%lu %lu %lu", r.a, r.b, r.c);
	}
}

CASE(quiet, setsockopt, recvfrom)
{
	/* Of ETH_P_ALL the group hears both ways; what its first member ignores, and the flag
	 * that later versions have for it, change nothing. */
	for (int i = 0; i < 2; i++) {
		int s;
		MUST(s = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_ALL)));
		R(setint(s, SOL_PACKET, PACKET_IGNORE_OUTGOING, i));
		R(join(s, 14, i ? PACKET_FANOUT_LB | 0x4000 : PACKET_FANOUT_LB));
		shout("x");
		struct sockaddr_ll a;
		socklen_t n = sizeof a;
		while (recvfrom(s, buf, 1000, MSG_DONTWAIT, (void *)&a, &n) >= 0)
			if (((struct iphdr *)buf)->protocol == IPPROTO_UDP)
				say("type %d", a.sll_pkttype);
		close(s);
	}
}

CASES
