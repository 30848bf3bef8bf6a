/* SO_ATTACH_FILTER on every kind of socket: what the program sees, what passes. */
#include "packet.h"
#include <linux/icmp.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/un.h>

static int attach(int s, struct sock_filter *f, int n)
{
	struct sock_fprog fp = { n, f };
	return setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &fp, sizeof fp);
}
#define ATTACH(s, f) attach(s, f, sizeof(f) / sizeof *(f))

/* drain prints what there is to read, from byte head on. */
static void drain(int s, int head)
{
	int n;
	memset(buf, 0, 100);
	while ((n = recv(s, buf, 1000, MSG_DONTWAIT)) >= 0)
		say("%d bytes: %.*s", n, n > head ? n - head : 0, buf + head);
	say("%s", errname(errno));
}

static struct { struct icmphdr h; char d[8]; } echo;

static void mkecho(int type, int seq, const char *text)
{
	memset(&echo, 0, sizeof echo);
	echo.h.type = type, echo.h.un.echo.id = htons(77), echo.h.un.echo.sequence = htons(seq);
	memcpy(echo.d, text, 8);
	echo.h.checksum = sum(&echo, sizeof echo);
}

CASE(raw, setsockopt, recvfrom)
{
	/* IPv4: from the IP header on. Echo replies whose text begins with 'y', 36 bytes at most. */
	int s;
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 20),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ICMP_ECHOREPLY, 0, 3),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 28),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 'y', 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 32),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sockaddr_in a = lo(0);
	MUST(s = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
	mkecho(ICMP_ECHO, 1, "earlier.");
	R(sendto(s, &echo, sizeof echo, 0, SA(a)));
	R(ATTACH(s, f));
	mkecho(ICMP_ECHO, 2, "no, not.");
	R(sendto(s, &echo, sizeof echo, 0, SA(a)));
	mkecho(ICMP_ECHO, 3, "yes, it.");
	R(sendto(s, &echo, sizeof echo, 0, SA(a)));
	IS(ready(s, POLLIN) & POLLIN);
	drain(s, 28);
	R(setint(s, SOL_SOCKET, SO_DETACH_FILTER, 0));
	R(setint(s, SOL_SOCKET, SO_DETACH_FILTER, 0));
	mkecho(ICMP_ECHOREPLY, 3, "open now");
	R(sendto(s, &echo, sizeof echo, 0, SA(a)));
	drain(s, 28);
}

CASE(raw6, setsockopt, recvfrom)
{
	/* IPv6: from what follows the header on. */
	int s;
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 129 << 8, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 8),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x7965732c, 0, 2),
		BPF_STMT(BPF_LDX | BPF_W | BPF_LEN, 0),
		BPF_STMT(BPF_RET | BPF_K, 100),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sockaddr_in6 a = lo6(0);
	MUST(s = socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
	R(ATTACH(s, f));
	mkecho(128, 1, "no, not.");
	R(sendto(s, &echo, sizeof echo, 0, SA(a)));
	mkecho(128, 2, "yes, it.");
	R(sendto(s, &echo, sizeof echo, 0, SA(a)));
	IS(ready(s, POLLIN) & POLLIN);
	drain(s, 8);
}

CASE(ping, setsockopt, recvfrom)
{
	int s, f = open("/proc/sys/net/ipv4/ping_group_range", O_RDWR);
	struct sock_filter p[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ICMP_ECHOREPLY, 0, 3),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 8),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 'y', 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 12),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sockaddr_in a = lo(0);
	R(pwrite(f, "0 0\n", 4, 0));
	MUST(s = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
	R(ATTACH(s, p));
	mkecho(ICMP_ECHO, 1, "no, not.");
	R(sendto(s, &echo, sizeof echo, 0, SA(a)));
	mkecho(ICMP_ECHO, 2, "yes, it.");
	R(sendto(s, &echo, sizeof echo, 0, SA(a)));
	IS(ready(s, POLLIN) & POLLIN);
	drain(s, 8);
}

CASE(udp6, setsockopt, recvfrom)
{
	int p[2];
	udp(AF_INET6, p);
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 8),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 'a', 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 11),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	R(ATTACH(p[1], f));
	R(send(p[0], "bcd", 3, 0));
	R(send(p[0], "abcdef", 6, 0));
	IS(ready(p[1], POLLIN) & POLLIN);
	drain(p[1], 0);
}

CASE(netlink, setsockopt, recvfrom)
{
	/* Of two requests only the answer to one passes: its number is in the header, in the
	 * machine's order. */
	int s;
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 8),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(5), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 20),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	MUST(s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	R(ATTACH(s, f));
	struct { struct nlmsghdr h; struct ifinfomsg i; } q = { { sizeof q, RTM_GETLINK, NLM_F_REQUEST, 4, 0 }, { .ifi_index = 1 } };
	R(send(s, &q, sizeof q, 0));
	q.h.nlmsg_seq = 5;
	R(send(s, &q, sizeof q, 0));
	q.h.nlmsg_seq = 6;
	R(send(s, &q, sizeof q, 0));
	int n;
	while ((n = recv(s, buf, sizeof buf, MSG_DONTWAIT)) >= 0)
		say("%d bytes, number %u", n, ((struct nlmsghdr *)buf)->nlmsg_seq);
	say("%s", errname(errno));
	struct sock_filter g[8];
	socklen_t l = 8;
	R(getsockopt(s, SOL_SOCKET, SO_GET_FILTER, g, &l));
	IS(l == 4 && !memcmp(f, g, sizeof f));
	R(setint(s, SOL_SOCKET, SO_LOCK_FILTER, 1));
	R(ATTACH(s, f));
	R(setint(s, SOL_SOCKET, SO_DETACH_FILTER, 0));
}

CASE(netlinkattr, setsockopt, recvfrom)
{
	/* The name of an interface is an attribute: SKF_AD_NLATTR finds it. */
	int s;
	struct sock_filter f[] = {
		BPF_STMT(BPF_LDX | BPF_IMM, IFLA_IFNAME),
		BPF_STMT(BPF_LD | BPF_IMM, 32),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_NLATTR),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 4, 0),
		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		BPF_STMT(BPF_LD | BPF_B | BPF_IND, 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 'l', 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 16),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	MUST(s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	R(ATTACH(s, f));
	struct { struct nlmsghdr h; struct ifinfomsg i; } q = { { sizeof q, RTM_GETLINK, NLM_F_REQUEST, 4, 0 }, { .ifi_index = 1 } };
	R(send(s, &q, sizeof q, 0));
	R(recv(s, buf, sizeof buf, MSG_DONTWAIT));
	q.i.ifi_index = 99; /* an error has no attributes */
	R(send(s, &q, sizeof q, 0));
	R(recv(s, buf, sizeof buf, MSG_DONTWAIT));
}

static struct sock_filter first[] = { /* what begins with 'y', four bytes of it */
	BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 'y', 0, 1),
	BPF_STMT(BPF_RET | BPF_K, 4),
	BPF_STMT(BPF_RET | BPF_K, 0),
};

CASE(unixsockets, setsockopt, sendto, recvfrom)
{
	static const int types[] = { SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM };
	for (int i = 0; i < 3; i++) {
		int p[2];
		MUST(socketpair(AF_UNIX, types[i], 0, p));
		R(setint(p[1], SOL_SOCKET, SO_DETACH_FILTER, 0));
		R(ATTACH(p[1], first));
		R(send(p[0], "no", 2, 0));
		R(send(p[0], "yes, this", 9, 0));
		R(send(p[0], "y", 1, 0));
		R(send(p[0], "", 0, 0));
		R(send(p[1], "other way", 9, 0));
		drain(p[1], 0);
		drain(p[0], 0);
		R(setint(p[1], SOL_SOCKET, SO_LOCK_FILTER, 1));
		R(setint(p[1], SOL_SOCKET, SO_DETACH_FILTER, 0));
		close(p[0]);
		close(p[1]);
	}
}

CASE(unixtossed, setsockopt, sendto)
{
	/* A message that is tossed needs no room, and no right to send it. */
	int s, r, c;
	struct sockaddr_un a = { AF_UNIX, "\0filtered" }, b = { AF_UNIX, "\0other" };
	MUST(r = socket(AF_UNIX, SOCK_DGRAM, 0));
	MUST(s = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
	MUST(c = socket(AF_UNIX, SOCK_DGRAM, 0));
	MUST(bind(r, (void *)&a, 11));
	MUST(bind(c, (void *)&b, 8));
	R(ATTACH(r, first));
	int n = 0;
	while (sendto(s, "yes", 3, 0, (void *)&a, 11) == 3)
		n++;
	say("%d, %s", n, errname(errno));
	R(sendto(s, "no", 2, 0, (void *)&a, 11));
	R(connect(r, (void *)&b, 8));
	R(sendto(s, "no", 2, 0, (void *)&a, 11));
	R(sendto(s, "yes", 3, 0, (void *)&a, 11));
	int fd[1] = { 1 };
	char ctl[CMSG_SPACE(4)];
	struct iovec v = { "no", 2 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof ctl, .msg_name = &a, .msg_namelen = 11 };
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = CMSG_LEN(4);
	memcpy(CMSG_DATA(h), fd, 4);
	R(sendmsg(s, &m, 0));
	R(sendto(s, (void *)8, 2, 0, (void *)&a, 11));
}

static void ask(const char *name, int s, unsigned what)
{
	/* The value is how many bytes pass, beyond 30. */
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_IMM, 0),
		BPF_STMT(BPF_LDX | BPF_IMM, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + what),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xfff),
		BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, 30),
		BPF_STMT(BPF_RET | BPF_A, 0),
	};
	static char big[5000];
	errno = 0;
	if (ATTACH(s, f) < 0) {
		say("%s: %s", name, errname(errno));
		return;
	}
	shoutn(big, sizeof big);
	char b[6000];
	int n = recv(s, b, sizeof b, MSG_DONTWAIT);
	say("%s: %d", name, n - 30);
	while (recv(s, b, sizeof b, MSG_DONTWAIT) >= 0)
		;
}

CASE(ancillary, setsockopt, recvfrom)
{
	/* What a program may ask for beside the bytes. */
	int s;
	struct sockaddr_ll a = ll(ETH_P_IP, 1);
	MUST(s = socket(AF_PACKET, SOCK_DGRAM, 0));
	MUST(bind(s, SA(a)));
#define ASK(x) ask(#x, s, x)
	ASK(SKF_AD_PROTOCOL);
	ASK(SKF_AD_PKTTYPE);
	ASK(SKF_AD_IFINDEX);
	ASK(SKF_AD_MARK);
	ASK(SKF_AD_QUEUE);
	ASK(SKF_AD_HATYPE);
	ASK(SKF_AD_ALU_XOR_X);
	ASK(SKF_AD_VLAN_TAG);
	ASK(SKF_AD_VLAN_TAG_PRESENT);
	ASK(SKF_AD_PAY_OFFSET);
	ASK(SKF_AD_VLAN_TPID);
	ASK(2);
	ASK(64);
	ASK(100);
}

CASE(headers, setsockopt, recvfrom)
{
	/* Loads from the network and the link header, wherever the socket's packets begin. */
	static const struct { const char *name; unsigned k; int type; } t[] = {
		{ "net 9, raw", SKF_NET_OFF + 9, SOCK_RAW }, { "net 9", SKF_NET_OFF + 9, SOCK_DGRAM }, { "link 12, raw", SKF_LL_OFF + 12, SOCK_RAW },
		{ "link 12", SKF_LL_OFF + 12, SOCK_DGRAM }, { "net 500", SKF_NET_OFF + 500, SOCK_DGRAM },
	};
	for (unsigned i = 0; i < sizeof t / sizeof *t; i++) {
		int s;
		struct sock_filter f[] = { BPF_STMT(BPF_LD | BPF_B | BPF_ABS, t[i].k), BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, 1), BPF_STMT(BPF_RET | BPF_A, 0) };
		struct sockaddr_ll a = ll(ETH_P_IP, 1);
		MUST(s = socket(AF_PACKET, t[i].type, 0));
		MUST(bind(s, SA(a)));
		R(ATTACH(s, f));
		shout("some bytes to be cut");
		say("%s: %d", t[i].name, (int)recv(s, buf, 1000, MSG_DONTWAIT));
		close(s);
	}
}

CASE(long, setsockopt)
{
	/* How long a program may be: 4096 instructions, and the memory for options. */
	static struct sock_filter f[5000];
	int s;
	MUST(s = socket(AF_INET, SOCK_DGRAM, 0));
	for (int i = 0; i < 5000; i++)
		f[i] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 1);
	R(attach(s, f, 1000));
	R(attach(s, f, 4096));
	R(attach(s, f, 4097));
	R(setint(s, SOL_SOCKET, SO_LOCK_FILTER, 1));
	R(attach(s, f, 4097));
	R(attach(s, 0, 0));
	R(setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, f, 8));
}

CASES
