/* What /proc/net says of sockets that have something to read, and of routes on the loopback. */
#include "sock.h"
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <net/route.h>
#include <sys/stat.h>

/* line prints what of /proc/net/udp there is about a socket's port. */
static void line(const char *what, int s)
{
	struct sockaddr_in a;
	socklen_t n = sizeof a;
	MUST(getsockname(s, (void *)&a, &n));
	FILE *f = fopen("/proc/net/udp", "r");
	char l[300];
	unsigned port, tx, rx, drops;
	while (f && fgets(l, sizeof l, f))
		if (sscanf(l, "%*d: %*x:%x %*x:%*x %*x %x:%x %*x:%*x %*x %*d %*d %*d %*d %*s %u", &port, &tx, &rx, &drops) == 4 && port == ntohs(a.sin_port))
			say("%s: tx %u, rx %s, drops %s", what, tx, rx == 0 ? "0" : rx >= 300 ? "three at least" : "some", drops ? "some" : "0");
	if (f)
		fclose(f);
	unsigned m[9];
	n = sizeof m;
	R(getsockopt(s, SOL_SOCKET, SO_MEMINFO, m, &n));
	say("%u bytes, %s, drops %s", n, m[0] == 0 ? "0" : m[0] >= 300 ? "three at least" : "some", m[8] ? "some" : "0");
}

CASE(udpqueue, openat, recvfrom)
{
	int p[2];
	udp(AF_INET, p);
	line("empty", p[1]);
	for (int i = 0; i < 3; i++)
		R(send(p[0], buf, 100, 0));
	line("three", p[1]);
	while (recv(p[1], buf, sizeof buf, MSG_DONTWAIT) > 0)
		;
	line("read", p[1]);
	setint(p[1], SOL_SOCKET, SO_RCVBUF, 3000);
	for (int i = 0; i < 50; i++)
		send(p[0], buf, 1000, 0);
	line("too many", p[1]);
}

static void change(int s, int how, uint32_t dst, uint32_t mask, int flags, int metric)
{
	struct rtentry r = { .rt_flags = RTF_UP | flags, .rt_metric = metric, .rt_dev = "lo" };
	*(struct sockaddr_in *)&r.rt_dst = v4(dst, 0);
	*(struct sockaddr_in *)&r.rt_genmask = v4(mask, 0);
	R(ioctl(s, how, &r));
}

CASE(route, openat, ioctl)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	change(s, SIOCADDRT, 0x0a050505, 0xffffffff, RTF_HOST, 8);
	change(s, SIOCADDRT, 0x0a060000, 0xffff0000, 0, 0);
	FILE *f = fopen("/proc/net/route", "r");
	char l[300];
	for (int i = 0; f && fgets(l, sizeof l, f); i++)
		if (!i || !strncmp(l, "lo\t", 3)) {
			int n = strlen(l), end = n;
			while (end && (l[end - 1] == '\n' || l[end - 1] == ' '))
				end--;
			l[end] = 0;
			for (char *c = l; (c = strchr(c, '\t')); *c = '|')
				;
			say("%d: %s", n, l);
		}
	change(s, SIOCDELRT, 0x0a050505, 0xffffffff, RTF_HOST, 8);
	change(s, SIOCDELRT, 0x0a060000, 0xffff0000, 0, 0);
}

/* The loopback's, but for how many use them. */
CASE(route6, openat)
{
	FILE *f = fopen("/proc/net/ipv6_route", "r");
	char l[300], lines[20][300];
	int n = 0;
	while (f && n < 20 && fgets(l, sizeof l, f))
		if (strstr(l, " lo\n")) {
			memcpy(l + 114, "--------", 8);
			int i = n++;
			for (; i && strcmp(lines[i - 1], l) > 0; i--)
				strcpy(lines[i], lines[i - 1]);
			strcpy(lines[i], l);
		}
	for (int i = 0; i < n; i++)
		if (!i || strcmp(lines[i], lines[i - 1]))
			say("%.*s", (int)strlen(lines[i]) - 1, lines[i]);
}

/* find asks for one socket between two addresses. */
static struct inet_diag_msg *find(const char *what, int family, int proto, struct sockaddr_storage *src, struct sockaddr_storage *dst, unsigned cookie)
{
	struct { struct nlmsghdr h; struct inet_diag_req_v2 r; } q = { { sizeof q, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 1, 0 },
		{ .sdiag_family = family, .sdiag_protocol = proto, .idiag_states = -1, .id.idiag_cookie = { cookie, cookie } } };
	struct sockaddr_storage *a[2] = { src, dst };
	for (int i = 0; i < 2; i++)
		if (a[i] && family == AF_INET) {
			struct sockaddr_in *p = (void *)a[i];
			*(i ? &q.r.id.idiag_dport : &q.r.id.idiag_sport) = p->sin_port;
			*(i ? q.r.id.idiag_dst : q.r.id.idiag_src) = p->sin_addr.s_addr;
		} else if (a[i]) {
			struct sockaddr_in6 *p = (void *)a[i];
			*(i ? &q.r.id.idiag_dport : &q.r.id.idiag_sport) = p->sin6_port;
			memcpy(i ? q.r.id.idiag_dst : q.r.id.idiag_src, &p->sin6_addr, 16);
		}
	int s;
	MUST(s = socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG));
	MUST(send(s, &q, sizeof q, 0));
	MUST(recv(s, buf, sizeof buf, 0));
	close(s);
	struct nlmsghdr *h = (void *)buf;
	if (h->nlmsg_type == NLMSG_ERROR) {
		say("%s: %s", what, errname(-((struct nlmsgerr *)NLMSG_DATA(h))->error));
		return 0;
	}
	struct inet_diag_msg *m = NLMSG_DATA(h);
	say("%s: family %d, state %d", what, m->idiag_family, m->idiag_state);
	return m;
}

static unsigned inode(int s)
{
	struct stat st;
	MUST(fstat(s, &st));
	return st.st_ino;
}

/* Of sockets with the same ports the one with the addresses. */
CASE(diagone, sendto, recvfrom, connect)
{
	struct sockaddr_storage la, a, b, other;
	socklen_t n;
	int l = bound(AF_INET, SOCK_STREAM, &la, &n), c[2], s[2];
	struct inet_diag_msg *m;
	MUST(listen(l, 8));
	for (int i = 0; i < 2; i++) { /* 127.0.0.7 and 127.0.0.8, from one port */
		struct sockaddr_in from = v4(0x7f000007 + i, i ? ntohs(((struct sockaddr_in *)&a)->sin_port) : 0);
		MUST(c[i] = socket(AF_INET, SOCK_STREAM, 0));
		MUST(bind(c[i], SA(from)));
		MUST(connect(c[i], (void *)&la, n));
		MUST(s[i] = accept(l, 0, 0));
		getsockname(c[i], (void *)(i ? &b : &a), &n);
	}
	if ((m = find("first", AF_INET, IPPROTO_TCP, &a, &la, -1)))
		IS(m->idiag_inode == inode(c[0]));
	if ((m = find("second", AF_INET, IPPROTO_TCP, &b, &la, -1)))
		IS(m->idiag_inode == inode(c[1]));
	if ((m = find("its other end", AF_INET, IPPROTO_TCP, &la, &b, -1)))
		IS(m->idiag_inode == inode(s[1]));
	find("another's cookie", AF_INET, IPPROTO_TCP, &b, &la, 1);
	other = b;
	((struct sockaddr_in *)&other)->sin_addr.s_addr = htonl(0x7f000009);
	find("nobody", AF_INET, IPPROTO_TCP, &other, &la, -1);
	if ((m = find("who listens", AF_INET, IPPROTO_TCP, &la, &other, -1)))
		IS(m->idiag_inode == inode(l));
	if ((m = find("who listens, alone", AF_INET, IPPROTO_TCP, &la, 0, -1)))
		IS(m->idiag_inode == inode(l));
	int u = bound(AF_INET, SOCK_DGRAM, &a, &n), v = socket(AF_INET, SOCK_DGRAM, 0);
	MUST(connect(v, (void *)&a, n));
	getsockname(v, (void *)&b, &n);
	if ((m = find("udp", AF_INET, IPPROTO_UDP, 0, &a, -1)))
		IS(m->idiag_inode == inode(u));
	if ((m = find("udp, connected", AF_INET, IPPROTO_UDP, &a, &b, -1)))
		IS(m->idiag_inode == inode(v));
	find("udp, the other way", AF_INET, IPPROTO_UDP, &b, 0, -1);
	find("udp, another's cookie", AF_INET, IPPROTO_UDP, &a, &b, 1);
	int six = bound(AF_INET6, SOCK_DGRAM, &a, &n);
	if ((m = find("udp, six", AF_INET6, IPPROTO_UDP, 0, &a, -1)))
		IS(m->idiag_inode == inode(six));
	find("udp, six, not four", AF_INET, IPPROTO_UDP, 0, &a, -1);
	six = socket(AF_INET6, SOCK_DGRAM, 0);
	struct sockaddr_in6 any = { .sin6_family = AF_INET6 };
	MUST(bind(six, SA(any)));
	n = sizeof a;
	getsockname(six, (void *)&a, &n);
	*(struct sockaddr_in *)&b = lo(ntohs(((struct sockaddr_in6 *)&a)->sin6_port));
	if ((m = find("udp, of both versions", AF_INET, IPPROTO_UDP, 0, &b, -1)))
		IS(m->idiag_inode == inode(six));
	find("nobody's protocol", AF_INET, 200, 0, &b, -1);
}

CASES
