/* Receiving through rings of AF_PACKET: TPACKET_V1 and V2 frame by frame, V3 by blocks. */
#include "packet.h"

/* One frame as a line: all versions have the same things at other places. */
static void frame(const char *p, int ver, int head)
{
	unsigned long st;
	unsigned len, snap, mac, net, sec, hdr;
	if (ver == TPACKET_V1) {
		const struct tpacket_hdr *h = (void *)p;
		st = h->tp_status, len = h->tp_len, snap = h->tp_snaplen, mac = h->tp_mac, net = h->tp_net, sec = h->tp_sec, hdr = sizeof *h;
	} else if (ver == TPACKET_V2) {
		const struct tpacket2_hdr *h = (void *)p;
		st = h->tp_status, len = h->tp_len, snap = h->tp_snaplen, mac = h->tp_mac, net = h->tp_net, sec = h->tp_sec, hdr = sizeof *h;
	} else {
		const struct tpacket3_hdr *h = (void *)p;
		st = h->tp_status, len = h->tp_len, snap = h->tp_snaplen, mac = h->tp_mac, net = h->tp_net, sec = h->tp_sec, hdr = sizeof *h;
		say("next %u, vlan %u %u", h->tp_next_offset, h->hv1.tp_vlan_tci, h->hv1.tp_vlan_tpid);
	}
	const struct sockaddr_ll *a = (void *)(p + TPACKET_ALIGN(hdr));
	int n = (int)snap - head - 28;
	say("status %lx len %u snaplen %u mac %u net %u now %d, type %d proto %x index %d hatype %d halen %d, %.*s", st, len, snap, mac, net,
		sec + 100 > (unsigned)time(0), a->sll_pkttype, ntohs(a->sll_protocol), a->sll_ifindex, a->sll_hatype, a->sll_halen, n > 0 ? n : 0, p + mac + head + 28);
}

static void simple(int type, int ver)
{
	int s = hear(type), head = type == SOCK_RAW ? 14 : 0;
	R(setint(s, SOL_PACKET, PACKET_VERSION, ver));
	R(ring(s, PACKET_RX_RING, 4096, 2, 2048, 4));
	char *p = map(s, 8192);
	IS(!(ready(s, POLLOUT) & POLLIN));
	static const char *what[] = { "one", "two", "three", "four", "five" };
	for (int i = 0; i < 5; i++)
		shout(what[i]);
	IS(ready(s, POLLIN) & POLLIN);
	for (int i = 0; i < 4; i++)
		frame(p + 2048 * i, ver, head);
	stats(s);
	stats(s);
	/* Two are given back; the next one finds the first of them. */
	for (int i = 0; i < 2; i++)
		memset(p + 2048 * i, 0, 8);
	shout("six");
	frame(p, ver, head);
	say("%d", p[2048]);
	IS(ready(s, POLLIN) & POLLIN);
	memset(p, 0, 8);
	IS(ready(s, POLLOUT) & POLLIN);
	shout("seven");
	IS(ready(s, POLLOUT) & POLLIN);
	frame(p + 2048, ver, head);
	/* A status that is not one. */
	memset(p + 4096, 0, 8);
	p[4096] = 64;
	shout("eight");
	stats(s);
	R(recv(s, buf, 10, MSG_DONTWAIT));
}

CASE(v1, setsockopt, mmap, poll) { simple(SOCK_RAW, TPACKET_V1); }
CASE(v2, setsockopt, mmap, poll) { simple(SOCK_RAW, TPACKET_V2); }
CASE(v2dgram, setsockopt, mmap, poll) { simple(SOCK_DGRAM, TPACKET_V2); }

CASE(bothways, setsockopt, mmap)
{
	/* What goes out, too, of TCP, UDP and ICMP: statuses say who has a checksum. */
	int s;
	MUST(s = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)));
	R(setint(s, SOL_PACKET, PACKET_VERSION, TPACKET_V2));
	R(ring(s, PACKET_RX_RING, 4096, 4, 2048, 8));
	char *p = map(s, 16384);
	shout("both");
	for (int i = 0; i < 4; i++)
		if (i < 2)
			frame(p + 2048 * i, TPACKET_V2, 14);
		else
			say("type %d, status %x", ((struct sockaddr_ll *)(p + 2048 * i + 32))->sll_pkttype, *(unsigned *)(p + 2048 * i));
	/* The field has the sum of the pseudo-header: addresses, protocol, length. */
	say("sum %04x", ntohs(*(uint16_t *)(p + ((struct tpacket2_hdr *)p)->tp_net + 26)));
}

CASE(cut, setsockopt, mmap, recvfrom)
{
	/* Frames longer than the ring's are cut; with PACKET_COPY_THRESH they are queued, too. */
	static char big[3000];
	memset(big, 'b', sizeof big);
	for (int ver = 0; ver < 2; ver++) {
		int s = hear(SOCK_RAW);
		R(setint(s, SOL_PACKET, PACKET_VERSION, ver));
		R(setint(s, SOL_PACKET, PACKET_COPY_THRESH, ver));
		R(ring(s, PACKET_RX_RING, 4096, 2, 128, 64));
		char *p = map(s, 8192);
		shoutn(big, sizeof big);
		IS(ready(s, POLLIN) & POLLIN);
		frame(p, ver, 14);
		R(recv(s, buf, sizeof buf, MSG_DONTWAIT));
		shout("short");
		frame(p + 128, ver, 14);
		R(recv(s, buf, sizeof buf, MSG_DONTWAIT));
		stats(s);
		close(s);
	}
}

CASE(reserve, setsockopt, mmap)
{
	int s = hear(SOCK_RAW);
	R(setint(s, SOL_PACKET, PACKET_VERSION, TPACKET_V2));
	R(setint(s, SOL_PACKET, PACKET_RESERVE, 20));
	R(setint(s, SOL_PACKET, PACKET_VNET_HDR, 1));
	R(ring(s, PACKET_RX_RING, 4096, 1, 2048, 2));
	char *p = map(s, 4096);
	shout("reserved");
	frame(p, TPACKET_V2, 14);
	const uint8_t *h = (void *)(p + ((struct tpacket2_hdr *)p)->tp_mac - 10);
	say("flags %d gso %d len %d size %d start %d offset %d", h[0], h[1], *(uint16_t *)(h + 2), *(uint16_t *)(h + 4), *(uint16_t *)(h + 6), *(uint16_t *)(h + 8));
	close(s);
	/* So much that there is no room for bytes, and that no 16 bits say where they are. */
	static const int res[] = { 1900, 1950, 65500 };
	for (int i = 0; i < 3; i++) {
		s = hear(SOCK_DGRAM);
		R(setint(s, SOL_PACKET, PACKET_RESERVE, res[i]));
		R(ring(s, PACKET_RX_RING, 131072, 1, res[i] < 2000 ? 2048 : 65568, res[i] < 2000 ? 64 : 1));
		p = map(s, 131072);
		shout("far away");
		if (*p)
			frame(p, TPACKET_V1, 0);
		stats(s);
		close(s);
	}
}

CASE(stamp, setsockopt, mmap)
{
	int s = hear(SOCK_RAW);
	R(setint(s, SOL_PACKET, PACKET_VERSION, TPACKET_V2));
	R(setint(s, SOL_PACKET, PACKET_TIMESTAMP, 0));
	R(setint(s, SOL_SOCKET, SO_TIMESTAMP, 1));
	R(ring(s, PACKET_RX_RING, 4096, 1, 2048, 2));
	char *p = map(s, 4096);
	usleep(100000); /* Linux turns stamps on in its own time */
	shout("stamped");
	frame(p, TPACKET_V2, 14);
}

CASE(queued, setsockopt, recvfrom)
{
	/* Making a ring, or ending it, drops what was queued. */
	int s = hear(SOCK_DGRAM);
	shout("before");
	IS(ready(s, POLLIN) & POLLIN);
	R(ring(s, PACKET_RX_RING, 4096, 1, 2048, 2));
	R(recv(s, buf, 100, MSG_DONTWAIT));
	shout("into the ring");
	R(recv(s, buf, 100, MSG_DONTWAIT));
	R(ring(s, PACKET_RX_RING, 0, 0, 0, 0));
	R(recv(s, buf, 100, MSG_DONTWAIT));
	shout("after");
	R(recv(s, buf, 100, MSG_DONTWAIT));
	R(ring(s, PACKET_TX_RING, 4096, 1, 2048, 2));
	shout("with one for sending");
	R(recv(s, buf, 100, MSG_DONTWAIT));
	stats(s);
}

static struct tpacket_block_desc *block(char *p, int i, int size) { return (void *)(p + i * size); }

static void blockhead(struct tpacket_block_desc *b)
{
	struct tpacket_hdr_v1 *h = &b->hdr.bh1;
	say("version %u priv %u: status %x packets %u first %u length %u seq %llu, first %d last %d", b->version, b->offset_to_priv, h->block_status, h->num_pkts,
		h->offset_to_first_pkt, h->blk_len, (unsigned long long)h->seq_num, h->ts_first_pkt.ts_sec + 100 > (unsigned)time(0), h->ts_last_pkt.ts_sec + 100 > (unsigned)time(0));
}

static void packets(struct tpacket_block_desc *b)
{
	char *p = (char *)b + b->hdr.bh1.offset_to_first_pkt;
	for (unsigned i = 0; i < b->hdr.bh1.num_pkts; i++) {
		frame(p, TPACKET_V3, 14);
		p += ((struct tpacket3_hdr *)p)->tp_next_offset;
	}
}

CASE(v3, setsockopt, mmap, poll)
{
	int s = hear(SOCK_RAW);
	R(setint(s, SOL_PACKET, PACKET_VERSION, TPACKET_V3));
	R(ring3(s, PACKET_RX_RING, 4096, 2, 2048, 4, 60000, 13, 0));
	char *p = map(s, 8192);
	struct tpacket_block_desc *b = block(p, 0, 4096), *c = block(p, 1, 4096);
	blockhead(b);
	blockhead(c);
	static char big[1000];
	memset(big, 'x', sizeof big);
	shout("first");
	blockhead(b);
	IS(ready(s, POLLOUT) & POLLIN);
	for (int i = 0; i < 3; i++)
		shoutn(big, sizeof big - 996 * (i == 2));
	shoutn(big, sizeof big);
	blockhead(b);
	IS(ready(s, POLLOUT) & POLLIN);
	shoutn(big, sizeof big);
	IS(ready(s, POLLIN) & POLLIN);
	blockhead(b);
	p += b->hdr.bh1.offset_to_first_pkt;
	frame(p, TPACKET_V3, 14);
	p = (char *)b;
	blockhead(c);
	/* The second is filled, the first one not given back: frozen. */
	for (int i = 0; i < 4; i++)
		shoutn(big, sizeof big);
	blockhead(c);
	stats(s);
	b->hdr.bh1.block_status = 0;
	shout("thawed");
	blockhead(b);
	frame((char *)b + b->hdr.bh1.offset_to_first_pkt, TPACKET_V3, 14);
	IS(ready(s, POLLIN) & POLLIN);
	c->hdr.bh1.block_status = 0;
	IS(ready(s, POLLOUT) & POLLIN);
	stats(s);
	for (int i = 0; i < 4; i++)
		shoutn(big, sizeof big);
	blockhead(b);
	blockhead(c);
}

CASE(v3time, setsockopt, mmap, poll)
{
	/* A block is given up when its time is over; an empty one never. */
	int s = hear(SOCK_RAW);
	R(setint(s, SOL_PACKET, PACKET_VERSION, TPACKET_V3));
	R(ring3(s, PACKET_RX_RING, 4096, 2, 2048, 4, 100, 0, 0));
	char *p = map(s, 8192);
	struct tpacket_block_desc *b = block(p, 0, 4096), *c = block(p, 1, 4096);
	usleep(300000);
	blockhead(b);
	shout("one");
	shout("two");
	IS(ready(s, POLLIN) & POLLIN);
	blockhead(b);
	packets(b);
	blockhead(c);
	shout("three");
	while (!(*(volatile unsigned *)&c->hdr.bh1.block_status & TP_STATUS_USER))
		usleep(10000);
	blockhead(c);
	packets(c);
	/* Both are the program's now. */
	shout("lost");
	stats(s);
	b->hdr.bh1.block_status = c->hdr.bh1.block_status = 0;
	shout("four");
	IS(ready(s, POLLIN) & POLLIN);
	blockhead(b);
	packets(b);
}

CASE(v3big, setsockopt, mmap)
{
	/* A packet that does not fit into a block is cut to one. */
	static char big[6000];
	memset(big, 'x', sizeof big);
	int s = hear(SOCK_DGRAM);
	R(setint(s, SOL_PACKET, PACKET_VERSION, TPACKET_V3));
	R(ring3(s, PACKET_RX_RING, 4096, 2, 2048, 4, 60000, 8, TP_FT_REQ_FILL_RXHASH));
	char *p = map(s, 8192);
	shoutn(big, sizeof big);
	struct tpacket_block_desc *b = block(p, 0, 4096);
	blockhead(b);
	struct tpacket3_hdr *h = (void *)((char *)b + b->hdr.bh1.offset_to_first_pkt);
	say("next %u len %u snaplen %u mac %u net %u", h->tp_next_offset, h->tp_len, h->tp_snaplen, h->tp_mac, h->tp_net);
	shout("next");
	blockhead(b);
	blockhead(block(p, 1, 4096));
	stats(s);
}

CASE(nonsense, setsockopt, mmap)
{
	/* A program that writes all over its ring hurts itself at most. */
	for (int ver = 0; ver < 3; ver++) {
		int s = hear(SOCK_RAW);
		R(setint(s, SOL_PACKET, PACKET_VERSION, ver));
		R(ver == TPACKET_V3 ? ring3(s, PACKET_RX_RING, 4096, 4, 2048, 8, 1, 0, 0) : ring(s, PACKET_RX_RING, 4096, 4, 2048, 8));
		char *p = map(s, 16384);
		for (int i = 0; i < 256; i++) {
			memset(p, i * 37, 16384);
			shout("over and over");
			poll(&(struct pollfd){ s, POLLIN | POLLOUT, 0 }, 1, 0);
		}
		memset(p, 0xff, 16384);
		struct tpacket_stats_v3 st;
		socklen_t n = sizeof st;
		R(getsockopt(s, SOL_PACKET, PACKET_STATISTICS, &st, &n));
		IS(st.tp_packets == 256);
		close(s);
	}
}

CASES
