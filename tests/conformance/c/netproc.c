/* What /proc/net says of sockets that have something to read, and of routes on the loopback. */
#include "sock.h"
#include <net/route.h>

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

CASES
