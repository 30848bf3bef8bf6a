/* Sending through rings of AF_PACKET, and what goes with sending: PACKET_LOSS,
 * PACKET_TX_HAS_OFF, PACKET_QDISC_BYPASS, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING. */
#include "packet.h"

/* mk puts a datagram to port 7777, with Ethernet's header before it if head is 14, at p and
 * says how long it is. Its source could not come from outside: only packet sockets hear it. */
static int mk(char *p, int head, const char *text)
{
	struct { struct iphdr ip; uint16_t sp, dp, len, sum; } u = { .ip = { .version = 4, .ihl = 5, .ttl = 9, .protocol = IPPROTO_UDP } };
	int n = strlen(text);
	memset(p, 0, head);
	if (head)
		p[12] = 8;
	u.ip.tot_len = htons(sizeof u + n);
	u.ip.saddr = u.ip.daddr = htonl(INADDR_LOOPBACK);
	u.ip.check = sum(&u.ip, 20);
	u.sp = htons(5), u.dp = htons(7777), u.len = htons(8 + n);
	memcpy(p + head, &u, sizeof u);
	memcpy(p + head + sizeof u, text, n);
	return head + sizeof u + n;
}

static void heard(int r)
{
	int n;
	struct sockaddr_ll a;
	socklen_t l = sizeof a;
	while ((n = recvfrom(r, buf, sizeof buf, MSG_DONTWAIT, (void *)&a, &l)) >= 0)
		say("heard %d bytes, type %d: %.*s", n, a.sll_pkttype, n - 28, buf + 28);
}

static int hdrof(int ver) { return ver == TPACKET_V3 ? TPACKET3_HDRLEN - 20 : ver == TPACKET_V2 ? TPACKET2_HDRLEN - 20 : TPACKET_HDRLEN - 20; }

static void mark(char *f, int ver, unsigned status, unsigned len, int mac)
{
	if (ver == TPACKET_V3) {
		struct tpacket3_hdr *h = (void *)f;
		h->tp_next_offset = 0, h->tp_len = len, h->tp_mac = h->tp_net = mac, h->tp_status = status;
	} else if (ver == TPACKET_V2) {
		struct tpacket2_hdr *h = (void *)f;
		h->tp_len = len, h->tp_mac = h->tp_net = mac, h->tp_status = status;
	} else {
		struct tpacket_hdr *h = (void *)f;
		h->tp_len = len, h->tp_mac = h->tp_net = mac, h->tp_status = status;
	}
}

static unsigned status(char *f, int ver)
{
	return ver == TPACKET_V3 ? ((struct tpacket3_hdr *)f)->tp_status : ver == TPACKET_V2 ? ((struct tpacket2_hdr *)f)->tp_status : ((struct tpacket_hdr *)f)->tp_status;
}

static void tx(int type, int ver)
{
	int r = hear(SOCK_DGRAM), s, head = type == SOCK_RAW ? 14 : 0, off = hdrof(ver), n;
	struct sockaddr_ll a = ll(ETH_P_IP, 1);
	a.sll_halen = 6;
	MUST(s = socket(AF_PACKET, type, 0));
	R(setint(s, SOL_PACKET, PACKET_VERSION, ver));
	R(ver == TPACKET_V3 ? ring3(s, PACKET_TX_RING, 4096, 2, 2048, 4, 0, 0, 0) : ring(s, PACKET_TX_RING, 4096, 2, 2048, 4));
	char *p = map(s, 8192);
	IS(ready(s, POLLOUT) & POLLOUT);
	R(send(s, 0, 0, 0));
	R(sendto(s, 0, 0, 0, SA(a)));
	for (int i = 0; i < 3; i++) {
		n = mk(p + 2048 * i + off, head, i ? i == 1 ? "second" : "third" : "first");
		mark(p + 2048 * i, ver, TP_STATUS_SEND_REQUEST, n, 0);
	}
	R(sendto(s, "ignored", 7, 0, SA(a)));
	for (int i = 0; i < 4; i++)
		say("status %x", status(p + 2048 * i, ver));
	heard(r);
	/* The fourth, and the first again, with one too long behind it. */
	n = mk(p + 3 * 2048 + off, head, "fourth");
	mark(p + 3 * 2048, ver, TP_STATUS_SEND_REQUEST, n, 0);
	n = mk(p + off, head, "fifth");
	mark(p, ver, TP_STATUS_SEND_REQUEST, n, 0);
	mark(p + 2048, ver, TP_STATUS_SEND_REQUEST, 2048, 0);
	mark(p + 4096, ver, TP_STATUS_SEND_REQUEST, n, 0);
	R(sendto(s, 0, 0, MSG_DONTWAIT, SA(a)));
	for (int i = 0; i < 4; i++)
		say("status %x", status(p + 2048 * i, ver));
	heard(r);
	R(sendto(s, 0, 0, MSG_DONTWAIT, SA(a)));
	IS(ready(s, POLLOUT) & POLLOUT);
	/* Too short for a link header, no length at all. */
	mark(p + 2048, ver, TP_STATUS_SEND_REQUEST, 5, 0);
	R(sendto(s, 0, 0, MSG_DONTWAIT, SA(a)));
	say("status %x", status(p + 2048, ver));
	heard(r);
	if (ver == TPACKET_V3) {
		mark(p + 2048, ver, TP_STATUS_SEND_REQUEST, 50, 0);
		((struct tpacket3_hdr *)(p + 2048))->tp_next_offset = 64;
		R(sendto(s, 0, 0, MSG_DONTWAIT, SA(a)));
	}
	/* Where to. */
	R(sendto(s, 0, 0, 0, (void *)&a, 19));
	a.sll_halen = 9;
	R(sendto(s, 0, 0, 0, SA(a)));
	a.sll_halen = 6, a.sll_ifindex = 99;
	R(sendto(s, 0, 0, 0, SA(a)));
	a.sll_ifindex = 1;
	R(bind(s, SA(a)));
	R(write(s, "", 1));
	R(write(s, "", 0));
}

CASE(v1, sendto, setsockopt, mmap) { tx(SOCK_RAW, TPACKET_V1); }
CASE(v2, sendto, setsockopt, mmap) { tx(SOCK_RAW, TPACKET_V2); }
CASE(v2dgram, sendto, setsockopt, mmap) { tx(SOCK_DGRAM, TPACKET_V2); }
CASE(v3, sendto, setsockopt, mmap) { tx(SOCK_RAW, TPACKET_V3); }

CASE(loss, setsockopt, sendto)
{
	/* With PACKET_LOSS what cannot be sent is passed over. */
	int r = hear(SOCK_DGRAM), s, n;
	struct sockaddr_ll a = ll(ETH_P_IP, 1);
	MUST(s = socket(AF_PACKET, SOCK_RAW, 0));
	R(setint(s, SOL_PACKET, PACKET_LOSS, 1));
	R(ring(s, PACKET_TX_RING, 4096, 2, 2048, 4));
	char *p = map(s, 8192);
	int off = hdrof(TPACKET_V1);
	mark(p, TPACKET_V1, TP_STATUS_SEND_REQUEST, 4096, 0);
	n = mk(p + 2048 + off, 14, "passes");
	mark(p + 2048, TPACKET_V1, TP_STATUS_SEND_REQUEST, n, 0);
	mark(p + 4096, TPACKET_V1, TP_STATUS_SEND_REQUEST, 3, 0);
	R(sendto(s, 0, 0, 0, SA(a)));
	for (int i = 0; i < 4; i++)
		say("status %x", status(p + 2048 * i, TPACKET_V1));
	heard(r);
}

CASE(offset, setsockopt, sendto)
{
	int r = hear(SOCK_DGRAM), s, n;
	struct sockaddr_ll a = ll(ETH_P_IP, 1);
	for (int ver = 0; ver < 3; ver++) {
		MUST(s = socket(AF_PACKET, SOCK_RAW, 0));
		R(setint(s, SOL_PACKET, PACKET_VERSION, ver));
		R(setint(s, SOL_PACKET, PACKET_TX_HAS_OFF, 1));
		R(ver == TPACKET_V3 ? ring3(s, PACKET_TX_RING, 4096, 1, 2048, 2, 0, 0, 0) : ring(s, PACKET_TX_RING, 4096, 1, 2048, 2));
		char *p = map(s, 4096);
		n = mk(p + 500, 14, "there");
		mark(p, ver, TP_STATUS_SEND_REQUEST, n, 500);
		R(sendto(s, 0, 0, 0, SA(a)));
		heard(r);
		int bad[] = { hdrof(ver) - 1, 2048 - n + 1 };
		for (int i = 0; i < 2; i++) {
			mark(p + 2048, ver, TP_STATUS_SEND_REQUEST, n, bad[i]);
			R(sendto(s, 0, 0, 0, SA(a)));
			say("status %x", status(p + 2048, ver));
		}
		mk(p + 2048 + 2048 - n, 14, "there");
		mark(p + 2048, ver, TP_STATUS_SEND_REQUEST, n, 2048 - n);
		R(sendto(s, 0, 0, 0, SA(a)));
		heard(r);
		close(s);
	}
}

CASE(bypass, setsockopt, sendto)
{
	/* What goes out, a sender does not see itself, and with PACKET_QDISC_BYPASS nobody. */
	int r, s, n, i, u;
	struct sockaddr_ll a = ll(ETH_P_IP, 1);
	struct sockaddr_in at = lo(7777);
	MUST(u = socket(AF_INET, SOCK_DGRAM, 0));
	MUST(bind(u, SA(at))); /* nobody has to answer */
	MUST(s = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)));
	MUST(r = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)));
	n = mk(buf + 60000, 14, "out");
	for (int k = 0; k < 3; k++) {
		R(sendto(s, buf + 60000, n, 0, SA(a)));
		for (i = 0; i < 2; i++) {
			struct sockaddr_ll from;
			socklen_t l = sizeof from;
			while (recvfrom(i ? r : s, buf, 1000, MSG_DONTWAIT, (void *)&from, &l) >= 0)
				say("%s sees type %d", i ? "another" : "the sender", from.sll_pkttype);
		}
		R(setint(k ? r : s, SOL_PACKET, k ? PACKET_IGNORE_OUTGOING : PACKET_QDISC_BYPASS, 1));
		if (k)
			R(setint(s, SOL_PACKET, PACKET_QDISC_BYPASS, 0));
	}
}

CASE(vnet, setsockopt, sendto, recvfrom)
{
	/* struct virtio_net_hdr before what is sent and received. */
	int r = hear(SOCK_RAW), s, n;
	struct sockaddr_ll a = ll(ETH_P_IP, 1);
	struct __attribute__((packed)) { uint8_t flags, gso; uint16_t len, size, start, off; } h;
	MUST(s = socket(AF_PACKET, SOCK_RAW, 0));
	R(setint(s, SOL_PACKET, PACKET_VNET_HDR, 1));
	R(setint(r, SOL_PACKET, PACKET_VNET_HDR, 1));
	char *f = buf + 60000;
	n = mk(f + 10, 14, "with a header");
	static const struct { int short_, flags, gso, len, size, start, off; } t[] = {
		{ 0 }, { .short_ = 1 }, { .len = 14 }, { .len = 2000 }, { .flags = 1, .start = 34, .off = 6 }, { .flags = 1, .start = 54, .off = 6 }, { .gso = 9, .size = 4 },
		{ .flags = 1, .start = 34, .off = 6, .gso = 2, .size = 0 },
	};
	for (unsigned i = 0; i < sizeof t / sizeof *t; i++) {
		memset(&h, 0, 10);
		h.flags = t[i].flags, h.gso = t[i].gso, h.len = t[i].len, h.size = t[i].size, h.start = t[i].start, h.off = t[i].off;
		memcpy(f, &h, 10);
		R(sendto(s, f, t[i].short_ ? 9 : 10 + n, 0, SA(a)));
	}
	shout("from a socket");
	struct sockaddr_ll from;
	socklen_t l = sizeof from;
	int k;
	while ((k = recvfrom(r, buf, 1000, MSG_DONTWAIT, (void *)&from, &l)) >= 0) {
		memcpy(&h, buf, 10);
		say("%d bytes, flags %d gso %d len %d size %d start %d off %d: %.*s", k, h.flags, h.gso, h.len, h.size, h.start, h.off, k - 52, buf + 52);
	}
	shout("short");
	R(recv(r, buf, 9, MSG_DONTWAIT));
	R(recv(r, buf, 9, MSG_DONTWAIT));
	shout("short");
	R(recv(r, buf, 20, MSG_TRUNC | MSG_DONTWAIT));
	SET(s, SOL_PACKET, PACKET_VNET_HDR, 0);
}

CASE(addresses, sendto)
{
	int s, d;
	struct sockaddr_ll a = ll(ETH_P_IP, 1);
	char f[60];
	int n = mk(f, 0, "x");
	MUST(s = socket(AF_PACKET, SOCK_RAW, 0));
	MUST(d = socket(AF_PACKET, SOCK_DGRAM, 0));
	R(sendto(d, f, n, 0, (void *)&a, 19));
	R(sendto(d, f, n, 0, SA(a)));
	a.sll_halen = 9;
	R(sendto(d, f, n, 0, SA(a)));
	a.sll_halen = 0;
	R(sendto(s, f, 14, 0, SA(a)));
	R(sendto(s, f, 13, 0, SA(a)));
	R(sendto(s, f, 0, 0, SA(a)));
	R(sendto(d, f, 0, 0, SA(a)));
	R(bind(d, SA(a)));
	R(send(d, f, n, 0));
	R(send(d, f, n, MSG_OOB));
	a.sll_family = AF_INET;
	R(sendto(d, f, n, 0, SA(a)));
}

CASES
