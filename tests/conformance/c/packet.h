/* What the programs about packet sockets share: addresses, a datagram to look for on the
 * loopback, rings. */
#include "sock.h"
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/ip.h>
#include <sys/mman.h>

__attribute__((unused)) static struct sockaddr_ll ll(int proto, int index)
{
	return (struct sockaddr_ll){ .sll_family = AF_PACKET, .sll_protocol = htons(proto), .sll_ifindex = index };
}

__attribute__((unused)) static uint16_t sum(const void *p, int n)
{
	uint32_t s = 0;
	const uint8_t *b = p;
	for (int i = 0; i < n; i++)
		s += i & 1 ? b[i] : b[i] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return htons(~s);
}

/* shoutn sends n bytes to UDP port 7777 of the loopback, where nobody listens. */
__attribute__((unused)) static void shoutn(const void *what, int n)
{
	int u = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in a = lo(7777);
	sendto(u, what, n, 0, SA(a));
	close(u);
}

__attribute__((unused)) static void shout(const char *what) { shoutn(what, strlen(what)); }

/* hear makes a packet socket that sees only the datagrams to port 7777 as they come in:
 * f is for what a raw socket sees (head 14) or one of SOCK_DGRAM (head 0). */
__attribute__((unused)) static int hear(int type)
{
	int s, head = type == SOCK_RAW ? 14 : 0;
	MUST(s = socket(AF_PACKET, type, htons(ETH_P_IP)));
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, head + 9),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 3),
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, head + 22),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 7777, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0x40000),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog fp = { 6, f };
	MUST(setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &fp, sizeof fp));
	return s;
}

/* ring asks for a ring of nr blocks. */
__attribute__((unused)) static int ring(int s, int which, int size, int nr, int frame, int frames)
{
	struct tpacket_req r = { size, nr, frame, frames };
	return setsockopt(s, SOL_PACKET, which, &r, sizeof r);
}

__attribute__((unused)) static int ring3(int s, int which, int size, int nr, int frame, int frames, int tov, int priv, int feat)
{
	struct tpacket_req3 r = { size, nr, frame, frames, tov, priv, feat };
	return setsockopt(s, SOL_PACKET, which, &r, sizeof r);
}

__attribute__((unused)) static void *map(int s, size_t n)
{
	void *p = mmap(0, n, PROT_READ | PROT_WRITE, MAP_SHARED, s, 0);
	MUST(p == MAP_FAILED ? -1 : 0);
	return p;
}

__attribute__((unused)) static void stats(int s)
{
	struct tpacket_stats_v3 st;
	socklen_t n = sizeof st;
	memset(&st, 0xff, sizeof st);
	R(getsockopt(s, SOL_PACKET, PACKET_STATISTICS, &st, &n));
	say("%u bytes: %u packets, %u drops, freezes %d", n, st.tp_packets, st.tp_drops, (int)st.tp_freeze_q_cnt);
}
