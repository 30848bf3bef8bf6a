/* AF_PACKET, raw sockets, ICMP sockets, on the loopback. */
#include "packet.h"
#include <linux/icmp.h>

/* wire prints the packets of UDP port 7777 that a packet socket has seen. */
static void wire(int s, int head)
{
	struct sockaddr_ll a;
	socklen_t n = sizeof a;
	for (int r, i = 0; i < 20 && (r = recvfrom(s, buf, sizeof buf, MSG_DONTWAIT, (void *)&a, &n)) >= 0; i++, n = sizeof a) {
		struct iphdr *ip = (void *)(buf + head);
		if (ip->protocol != IPPROTO_UDP || *(uint16_t *)(buf + head + 22) != htons(7777))
			continue;
		say("%d bytes, type %d proto %x index %d hatype %d halen %d, name %u bytes, %.*s", r, a.sll_pkttype, ntohs(a.sll_protocol), a.sll_ifindex, a.sll_hatype,
			a.sll_halen, n, r - head - 28, buf + head + 28);
	}
}

CASE(packet, socket, bind, getsockname)
{
	int s;
	struct sockaddr_ll a = ll(ETH_P_ALL, 1);
	socklen_t n;
	R(socket(AF_PACKET, SOCK_STREAM, 0));
	R(socket(AF_PACKET, SOCK_SEQPACKET, 0));
	MUST(s = socket(AF_PACKET, SOCK_RAW, 0));
	n = sizeof a;
	R(getsockname(s, (void *)&a, &n));
	say("%u bytes, proto %x index %d hatype %d halen %d", n, ntohs(a.sll_protocol), a.sll_ifindex, a.sll_hatype, a.sll_halen);
	R(getpeername(s, (void *)&a, &n));
	a = ll(ETH_P_ALL, 1);
	R(bind(s, (void *)&a, 19));
	R(bind(s, (void *)&a, 12));
	a.sll_family = AF_INET;
	R(bind(s, SA(a)));
	a = ll(ETH_P_ALL, 99);
	R(bind(s, SA(a)));
	a = ll(ETH_P_IP, 1);
	R(bind(s, SA(a)));
	n = sizeof a;
	R(getsockname(s, (void *)&a, &n));
	say("%u bytes, proto %x index %d hatype %d halen %d", n, ntohs(a.sll_protocol), a.sll_ifindex, a.sll_hatype, a.sll_halen);
	R(connect(s, SA(a)));
	R(listen(s, 1));
	R(accept(s, 0, 0));
	R(shutdown(s, 2));
	R(recv(s, buf, 10, MSG_OOB));
	R(recv(s, buf, 10, MSG_DONTWAIT | MSG_WAITALL));
	GET(s, SOL_SOCKET, SO_TYPE);
	GET(s, SOL_SOCKET, SO_DOMAIN);
	GET(s, SOL_SOCKET, SO_PROTOCOL);
	GET(s, SOL_SOCKET, SO_RCVBUF);
}

CASE(capture, socket, recvfrom)
{
	int s, d, ip;
	MUST(s = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)));
	MUST(d = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_ALL)));
	MUST(ip = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP)));
	struct sockaddr_ll a = ll(0, 1);
	R(bind(ip, SA(a)));
	shout("hello");
	IS(ready(s, POLLIN) & POLLIN);
	wire(s, 14);
	wire(d, 0);
	wire(ip, 0);
	R(recv(s, buf, 9, MSG_DONTWAIT));
}

CASE(statistics, getsockopt, recvfrom)
{
	int s;
	struct tpacket_stats st;
	socklen_t n = sizeof st;
	MUST(s = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_IP)));
	shout("one");
	shout("two");
	R(getsockopt(s, SOL_PACKET, PACKET_STATISTICS, &st, &n));
	IS(st.tp_packets >= 2);
	say("%u bytes, drops %u", n, st.tp_drops);
	n = sizeof st;
	R(getsockopt(s, SOL_PACKET, PACKET_STATISTICS, &st, &n));
	R(st.tp_packets);
	R(recv(s, buf, 20, 0));
	R(recv(s, buf, 20, MSG_TRUNC | MSG_PEEK) > 20);
	SET(s, SOL_PACKET, PACKET_AUXDATA, 1);
	SET(s, SOL_PACKET, PACKET_ORIGDEV, 2);
	R(setsockopt(s, SOL_PACKET, PACKET_AUXDATA, buf, 2));
	SET(s, SOL_PACKET, 99, 1);
	struct packet_mreq m = { .mr_ifindex = 1, .mr_type = PACKET_MR_PROMISC };
	R(setsockopt(s, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &m, sizeof m));
	R(setsockopt(s, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &m, sizeof m));
	R(setsockopt(s, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &m, sizeof m));
	m.mr_ifindex = 99;
	R(setsockopt(s, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &m, sizeof m));
	R(setsockopt(s, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &m, 8));
}

CASE(packetfilter, setsockopt, recvfrom)
{
	int s;
	MUST(s = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP)));
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 22),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 7777, 0, 3),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 28),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 'y', 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 30),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog fp = { 6, f };
	R(setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &fp, sizeof fp));
	shout("no");
	shout("yes, this");
	IS(ready(s, POLLIN) & POLLIN);
	wire(s, 0);
	R(setint(s, SOL_SOCKET, SO_DETACH_FILTER, 0));
	R(setint(s, SOL_SOCKET, SO_DETACH_FILTER, 0));
	shout("no");
	IS(ready(s, POLLIN) & POLLIN);
	wire(s, 0);
}

CASE(packetsend, sendto)
{
	/* A datagram made by hand. Its source is no address that could come from outside, so
	 * that nobody but a packet socket hears of it. */
	int s, raw, r;
	MUST(s = socket(AF_PACKET, SOCK_DGRAM, 0));
	MUST(raw = socket(AF_PACKET, SOCK_RAW, 0));
	MUST(r = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_IP)));
	static struct { struct iphdr ip; uint16_t sp, dp, len, sum; char d[4]; } p = {
		.ip = { .version = 4, .ihl = 5, .ttl = 9, .protocol = IPPROTO_UDP }, .d = "abcd" };
	p.ip.tot_len = htons(sizeof p);
	p.ip.saddr = p.ip.daddr = htonl(INADDR_LOOPBACK);
	p.ip.check = sum(&p.ip, 20);
	p.sp = htons(5), p.dp = htons(7777), p.len = htons(12);
	struct sockaddr_ll a = ll(ETH_P_IP, 1);
	a.sll_halen = 6;
	R(sendto(s, &p, sizeof p, 0, SA(a)));
	wire(r, 14);
	memset(buf, 0, 100);
	*(uint16_t *)(buf + 12) = htons(ETH_P_IP);
	memcpy(buf + 14, &p, sizeof p);
	R(sendto(raw, buf, 14 + sizeof p, 0, SA(a)));
	wire(r, 14);
	R(send(s, &p, sizeof p, 0));
	R(sendto(s, &p, sizeof p, 0, (void *)&a, 11));
	a.sll_ifindex = 99;
	R(sendto(s, &p, sizeof p, 0, SA(a)));
	a.sll_ifindex = 1;
	R(sendto(raw, &p, 5, 0, SA(a)));
	R(sendto(raw, buf, 70000, 0, SA(a)));
	R(sendto(s, (void *)8, 50, 0, SA(a)));
	R(bind(raw, SA(a)));
	memset(buf, 0, 100);
	*(uint16_t *)(buf + 12) = htons(ETH_P_IP);
	memcpy(buf + 14, &p, sizeof p);
	R(send(raw, buf, 14 + sizeof p, 0));
	wire(r, 14);
}

static struct { struct icmphdr h; char d[8]; } echo;

static void mkecho(int type, int id, int seq)
{
	memset(&echo, 0, sizeof echo);
	echo.h.type = type, echo.h.un.echo.id = htons(id), echo.h.un.echo.sequence = htons(seq);
	memcpy(echo.d, "payload!", 8);
	echo.h.checksum = sum(&echo, sizeof echo);
}

CASE(rawicmp, socket, recvfrom)
{
	int s;
	struct sockaddr_in a = lo(0), from;
	socklen_t n = sizeof from;
	MUST(s = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
	mkecho(ICMP_ECHO, 77, 1);
	R(sendto(s, &echo, sizeof echo, 0, SA(a)));
	for (int i = 0; i < 2; i++) {
		IS(ready(s, POLLIN) & POLLIN);
		R(recvfrom(s, buf, 100, 0, (void *)&from, &n));
		struct iphdr *ip = (void *)buf;
		struct icmphdr *h = (void *)(buf + ip->ihl * 4);
		say("from %s port %d, ttl %d, length %d, type %d id %d seq %d", inet_ntoa(from.sin_addr), from.sin_port, ip->ttl, ntohs(ip->tot_len), h->type,
			ntohs(h->un.echo.id), ntohs(h->un.echo.sequence));
	}
	R(send(s, &echo, sizeof echo, 0));
	R(connect(s, SA(a)));
	R(send(s, &echo, sizeof echo, 0));
	GET(s, SOL_SOCKET, SO_PROTOCOL);
	GET(s, SOL_IP, IP_HDRINCL);
	n = sizeof from;
	R(getpeername(s, (void *)&from, &n));
	R(listen(s, 1));
}

CASE(icmpfilter, setsockopt, getsockopt, recvfrom)
{
	int s;
	struct icmp_filter f = { ~(1u << ICMP_ECHOREPLY) };
	struct sockaddr_in a = lo(0);
	socklen_t n = sizeof f;
	MUST(s = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
	R(setsockopt(s, SOL_RAW, ICMP_FILTER, &f, sizeof f));
	f.data = 0;
	R(getsockopt(s, SOL_RAW, ICMP_FILTER, &f, &n));
	say("%x, %u bytes", f.data, n);
	n = 2;
	R(getsockopt(s, SOL_RAW, ICMP_FILTER, &f, &n));
	say("%u bytes", n);
	mkecho(ICMP_ECHO, 78, 2);
	R(sendto(s, &echo, sizeof echo, 0, SA(a)));
	IS(ready(s, POLLIN) & POLLIN);
	R(recv(s, buf, 100, 0));
	say("type %d", ((struct icmphdr *)(buf + 20))->type);
	R(recv(s, buf, 100, MSG_DONTWAIT));
	R(setsockopt(s, SOL_RAW, 99, &f, sizeof f));
	int u;
	MUST(u = socket(AF_INET, SOCK_RAW, IPPROTO_UDP));
	R(setsockopt(u, SOL_RAW, ICMP_FILTER, &f, sizeof f));
	R(getsockopt(u, SOL_RAW, ICMP_FILTER, &f, &n));
}

CASE(icmp6, setsockopt, getsockopt, recvfrom)
{
	int s;
	uint32_t f[8];
	socklen_t n = sizeof f;
	struct sockaddr_in6 a = lo6(0);
	MUST(s = socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
	GET(s, SOL_RAW, IPV6_CHECKSUM);
	SET(s, SOL_RAW, IPV6_CHECKSUM, 2);
	SET(s, SOL_RAW, IPV6_CHECKSUM, 3);
	R(setint(s, SOL_IPV6, IPV6_CHECKSUM, 2));
	R(getsockopt(s, 58, 1, f, &n));
	say("%u bytes %x", n, f[4]);
	memset(f, 0xff, sizeof f);
	f[129 / 32] &= ~(1u << 129 % 32); /* echo reply */
	R(setsockopt(s, 58, 1, f, sizeof f));
	n = sizeof f;
	R(getsockopt(s, 58, 1, f, &n));
	say("%u bytes %x", n, f[4]);
	R(setsockopt(s, 58, 2, f, sizeof f));
	mkecho(128, 9, 4);
	R(sendto(s, &echo, sizeof echo, 0, SA(a)));
	IS(ready(s, POLLIN) & POLLIN);
	R(recv(s, buf, 100, 0));
	struct icmphdr *h = (void *)buf;
	say("type %d id %d seq %d", h->type, ntohs(h->un.echo.id), ntohs(h->un.echo.sequence));
	R(recv(s, buf, 100, MSG_DONTWAIT));
	R(setsockopt(socket(AF_INET6, SOCK_DGRAM, 0), 58, 1, f, sizeof f));
}

CASE(hdrincl, getsockopt, recvfrom)
{
	int s, r = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in at = lo(7777), from;
	socklen_t n = sizeof from;
	MUST(bind(r, SA(at)));
	MUST(s = socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
	GET(s, SOL_IP, IP_HDRINCL);
	static struct { struct iphdr ip; uint16_t sp, dp, len, sum; char d[4]; } p = {
		.ip = { .version = 4, .ihl = 5, .ttl = 9, .protocol = IPPROTO_UDP }, .d = "abcd" };
	p.ip.daddr = htonl(INADDR_LOOPBACK);
	p.ip.saddr = htonl(INADDR_LOOPBACK);
	p.ip.tot_len = htons(sizeof p);
	p.sp = htons(5), p.dp = htons(7777), p.len = htons(12);
	R(sendto(s, &p, sizeof p, 0, SA(at)));
	IS(ready(r, POLLIN) & POLLIN);
	R(recvfrom(r, buf, 9, MSG_DONTWAIT, (void *)&from, &n));
	say("from %s port %d", inet_ntoa(from.sin_addr), ntohs(from.sin_port));
	R(recv(s, buf, 9, MSG_DONTWAIT));
}

CASE(ping, socket, recvfrom)
{
	int s, f = open("/proc/sys/net/ipv4/ping_group_range", O_RDWR);
	struct sockaddr_in a = lo(0), from, me;
	socklen_t n = sizeof from;
	R(pwrite(f, "1 0\n", 4, 0));
	R(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
	R(pwrite(f, "0 0\n", 4, 0));
	MUST(s = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
	mkecho(ICMP_ECHO, 1, 3);
	R(sendto(s, &echo, sizeof echo, 0, SA(a)));
	IS(ready(s, POLLIN) & POLLIN);
	R(recvfrom(s, buf, 100, 0, (void *)&from, &n));
	struct icmphdr *h = (void *)buf;
	n = sizeof me;
	getsockname(s, (void *)&me, &n);
	say("from %s port %d, type %d code %d seq %d", inet_ntoa(from.sin_addr), from.sin_port, h->type, h->code, ntohs(h->un.echo.sequence));
	IS(h->un.echo.id == me.sin_port && me.sin_port != 0);
	IS(!memcmp(buf + 8, "payload!", 8));
	mkecho(ICMP_ECHOREPLY, 1, 3);
	R(sendto(s, &echo, sizeof echo, 0, SA(a)));
	mkecho(ICMP_ECHO, 1, 3);
	R(sendto(s, &echo, 5, 0, SA(a)));
	R(send(s, &echo, sizeof echo, 0));
	R(connect(s, SA(a)));
	R(send(s, &echo, sizeof echo, 0));
	R(recv(s, buf, 100, 0));
	GET(s, SOL_SOCKET, SO_TYPE);
	GET(s, SOL_SOCKET, SO_PROTOCOL);
	R(setgid(1000));
	R(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
}

CASES
