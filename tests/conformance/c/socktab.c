/* What /proc/net and NETLINK_SOCK_DIAG tell of TCP connections, those without a socket too. */
#include "sock.h"
#include <net/if.h>
#include <linux/ethtool.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <sys/stat.h>

static char lines[64][120];
static int count;

static int by(const void *a, const void *b) { return strcmp(a, b); }

static void print(const char *what)
{
	say("%s: %d", what, count);
	qsort(lines, count, sizeof *lines, by);
	for (int i = 0; i < count; i++)
		say("  %s", lines[i]);
}

/* proc prints the lines of a file of /proc/net that are about a port. */
static void proc(const char *file, int port)
{
	char l[400], la[40], ra[40];
	unsigned lp, rp, st, tx, rx, tr, uid;
	unsigned long when, retr, ino;
	FILE *f = fopen(file, "r");
	MUST(f ? 0 : -1);
	for (count = 0; fgets(l, sizeof l, f) && count < 64;) {
		if (sscanf(l, "%*d: %32[0-9A-F]:%x %32[0-9A-F]:%x %x %x:%x %x:%lx %lx %u %*d %lu", la, &lp, ra, &rp, &st, &tx, &rx, &tr, &when, &retr, &uid, &ino) != 12)
			continue;
		if (lp == (unsigned)port || rp == (unsigned)port)
			sprintf(lines[count++], "%s state %02x, queues %u %u, user %u, %s, %d long", lp == (unsigned)port ? "local " : "remote", st, tx, rx, uid,
				ino ? "a socket" : "no socket", strcmp(file, "/proc/net/tcp") ? 0 : (int)strlen(l));
	}
	fclose(f);
	print(file);
}

/* diag prints what ss(8) would of a port. */
static void diag(int family, int port)
{
	struct { struct nlmsghdr h; struct inet_diag_req_v2 r; } q = {
		{ sizeof q, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0 },
		{ .sdiag_family = family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = -1 } };
	int s, n, done = 0;
	MUST(s = socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG));
	MUST(send(s, &q, sizeof q, 0));
	for (count = 0; !done;) {
		MUST(n = recv(s, buf, sizeof buf, 0));
		for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, (unsigned)n); h = NLMSG_NEXT(h, n)) {
			struct inet_diag_msg *m = NLMSG_DATA(h);
			if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR) {
				done = 1;
				break;
			}
			int lp = ntohs(m->id.idiag_sport), rp = ntohs(m->id.idiag_dport);
			if ((lp == port || rp == port) && count < 64)
				sprintf(lines[count++], "%s state %02x, queues %u %u, %s", lp == port ? "local " : "remote", m->idiag_state, m->idiag_wqueue, m->idiag_rqueue,
					m->idiag_inode ? "a socket" : "no socket");
		}
	}
	close(s);
	print(family == AF_INET ? "diag" : "diag 6");
}

static int listener(int family, int *port)
{
	struct sockaddr_storage a;
	socklen_t n;
	int l = bound(family, SOCK_STREAM, &a, &n);
	MUST(listen(l, 5));
	*port = ntohs(((struct sockaddr_in *)&a)->sin_port);
	return l;
}

static int connected(int family, int port)
{
	struct sockaddr_in a = lo(port);
	struct sockaddr_in6 a6 = lo6(port);
	int s;
	MUST(s = socket(family, SOCK_STREAM, 0));
	if (family == AF_INET)
		MUST(connect(s, SA(a)));
	else
		MUST(connect(s, SA(a6)));
	return s;
}

CASE(waiting, listen, connect, sendto)
{
	for (int family = AF_INET;; family = AF_INET6) {
		int port, l = listener(family, &port), c[3];
		for (int i = 0; i < 3; i++)
			c[i] = connected(family, port);
		MUST(send(c[1], "hello", 5, 0));
		MUST(shutdown(c[2], SHUT_WR));
		settle();
		proc(family == AF_INET ? "/proc/net/tcp" : "/proc/net/tcp6", port);
		diag(family, port);
		int s;
		MUST(s = accept(l, 0, 0));
		proc(family == AF_INET ? "/proc/net/tcp" : "/proc/net/tcp6", port);
		diag(family, port);
		close(s);
		close(l);
		if (family == AF_INET6)
			break;
	}
}

CASE(ended, shutdown, close)
{
	int port, l = listener(AF_INET, &port);
	int c = connected(AF_INET, port), s;
	MUST(s = accept(l, 0, 0));
	close(l);
	say("the client goes first");
	close(c);
	settle();
	proc("/proc/net/tcp", port);
	diag(AF_INET, port);
	close(s);
	settle();
	proc("/proc/net/tcp", port);
	diag(AF_INET, port);
	say("the server goes first");
	l = listener(AF_INET, &port);
	c = connected(AF_INET, port);
	MUST(s = accept(l, 0, 0));
	close(l);
	MUST(shutdown(s, SHUT_WR));
	settle();
	proc("/proc/net/tcp", port);
	close(s);
	close(c);
	settle();
	proc("/proc/net/tcp", port);
}

/* inuse reads how many sockets of TCP and UDP are counted. */
static void inuse(int n[2])
{
	char l[200];
	FILE *f = fopen("/proc/net/sockstat", "r");
	MUST(f ? 0 : -1);
	while (fgets(l, sizeof l, f))
		if (sscanf(l, "TCP: inuse %d", &n[0]) == 1 || sscanf(l, "UDP: inuse %d", &n[1]) == 1)
			;
	fclose(f);
}

/* What others leave behind may end meanwhile: then it is counted again. */
CASE(counted, socket, bind, listen)
{
	int n[3][2];
	struct sockaddr_in z = lo(0);
	for (int i = 0; i < 20; i++) {
		int a, c, port, t = listener(AF_INET, &port);
		MUST(a = socket(AF_INET, SOCK_DGRAM, 0));
		inuse(n[0]);
		MUST(bind(a, SA(z)));
		c = connected(AF_INET, port);
		settle();
		inuse(n[1]);
		close(t);
		settle();
		inuse(n[2]);
		close(a);
		close(c);
		if (n[1][0] - n[0][0] == 2 && n[1][1] - n[0][1] == 1 && n[2][0] - n[1][0] == -3 && n[2][1] == n[1][1])
			break;
	}
	say("a connection and a bound socket: TCP %+d, UDP %+d", n[1][0] - n[0][0], n[1][1] - n[0][1]);
	say("without the listener: TCP %+d, UDP %+d", n[2][0] - n[1][0], n[2][1] - n[1][1]);
}

CASE(netlink, socket, bind)
{
	int s[3], n, done = 0, twice = 0;
	unsigned long ino, mine[3];
	char l[300];
	static const int proto[] = { NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_ROUTE };
	for (int i = 0; i < 3; i++) {
		struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_pid = 77770 + i, .nl_groups = i == 2 ? 5 : 0 };
		struct stat st;
		MUST(s[i] = socket(AF_NETLINK, i == 2 ? SOCK_DGRAM : SOCK_RAW, proto[i]));
		MUST(bind(s[i], SA(a)));
		MUST(fstat(s[i], &st));
		mine[i] = st.st_ino;
	}
	FILE *f = fopen("/proc/net/netlink", "r");
	for (count = 0; fgets(l, sizeof l, f);) {
		unsigned eth, port, groups;
		if (sscanf(l, "%*s %u %u %x %*d %*d %*d %*d %*d %lu", &eth, &port, &groups, &ino) == 4 && port / 10 == 7777)
			sprintf(lines[count++], "protocol %u port %u groups %x, %s, %d long", eth, port, groups, ino == mine[port % 10] ? "its inode" : "another inode", (int)strlen(l));
	}
	print("proc");
	struct { struct nlmsghdr h; unsigned char family, protocol; short pad; int ino, show, cookie[2]; } q = {
		{ sizeof q, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 1, 0 }, AF_NETLINK, 255, 0, 0, 2 };
	MUST(send(s[1], &q, sizeof q, 0));
	MUST(n = recv(s[1], buf, sizeof buf, 0));
	say("one: %s", errname(-((struct nlmsgerr *)NLMSG_DATA(buf))->error));
	q.h.nlmsg_flags |= NLM_F_DUMP;
	MUST(send(s[1], &q, sizeof q, 0));
	for (count = 0; !done;) {
		MUST(n = recv(s[1], buf, sizeof buf, 0));
		for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, (unsigned)n); h = NLMSG_NEXT(h, n)) {
			struct { unsigned char family, type, protocol, state; unsigned port, dport, dgroup, ino, cookie[2], attr, groups; } *m = NLMSG_DATA(h);
			if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR) {
				done = 1;
				break;
			}
			if (m->port / 10 == 7777 && !(twice & 1 << m->port % 10)) { /* Linux lists one with groups twice */
				twice |= 1 << m->port % 10;
				sprintf(lines[count++], "port %u type %d protocol %d state %d, to %u %u, %s, groups %x", m->port, m->type, m->protocol, m->state, m->dport, m->dgroup,
					m->ino == mine[m->port % 10] ? "its inode" : "another inode", h->nlmsg_len > NLMSG_LENGTH(32) ? m->groups : 0);
			}
		}
	}
	print("diag");
}
CASE(ethtool, ioctl)
{
	struct ifreq f = { .ifr_name = "lo" };
	struct ethtool_value v = { ETHTOOL_GLINK, 77 };
	struct ethtool_drvinfo d = { ETHTOOL_GDRVINFO };
	struct ethtool_ts_info t = { ETHTOOL_GET_TS_INFO };
	struct ethtool_cmd c = { ETHTOOL_GSET };
	struct { struct ethtool_perm_addr p; char a[8]; } a = { { ETHTOOL_GPERMADDR, 8 }, "abcdefg" };
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	f.ifr_data = (void *)&v;
	R(ioctl(s, SIOCETHTOOL, &f));
	R(v.data);
	f.ifr_data = (void *)&d;
	R(ioctl(s, SIOCETHTOOL, &f));
	f.ifr_data = (void *)&t;
	R(ioctl(s, SIOCETHTOOL, &f));
	say("stamps %x, clock %d, tx %x, rx %x", t.so_timestamping, t.phc_index, t.tx_types, t.rx_filters);
	f.ifr_data = (void *)&c;
	R(ioctl(s, SIOCETHTOOL, &f));
	f.ifr_data = (void *)&a;
	R(ioctl(s, SIOCETHTOOL, &f));
	say("%u bytes, %d %d", a.p.size, a.a[0], a.a[5]);
	a.p.size = 5;
	R(ioctl(s, SIOCETHTOOL, &f));
	v.cmd = 0x7777;
	f.ifr_data = (void *)&v;
	R(ioctl(s, SIOCETHTOOL, &f));
	f.ifr_data = (void *)8;
	R(ioctl(s, SIOCETHTOOL, &f));
	R(ioctl(s, SIOCETHTOOL, 8));
	strcpy(f.ifr_name, "none");
	R(ioctl(s, SIOCETHTOOL, &f));
	f.ifr_data = (void *)&v;
	R(ioctl(s, SIOCETHTOOL, &f));
	strcpy(f.ifr_name, "lo");
	MUST(setresuid(1000, 1000, 1000));
	R(ioctl(s, SIOCETHTOOL, &f));
	v.cmd = ETHTOOL_GLINK;
	R(ioctl(s, SIOCETHTOOL, &f));
	v.cmd = ETHTOOL_SMSGLVL;
	R(ioctl(s, SIOCETHTOOL, &f));
}
/* uevent announces a device and prints the answer. */
static void uevent(const char *what, int s, int flags, int len)
{
	struct { struct nlmsghdr h; char b[4096]; } q = { { NLMSG_LENGTH(len), 0x10, NLM_F_REQUEST | NLM_F_ACK | flags, 7, 0 }, "add@/devices/x\0ACTION=add\0DEVPATH=/devices/x" };
	MUST(send(s, &q, q.h.nlmsg_len, 0));
	MUST(recv(s, buf, sizeof buf, 0));
	struct nlmsghdr *h = (void *)buf;
	say("%s: %s", what, h->nlmsg_type == NLMSG_ERROR ? errname(-((struct nlmsgerr *)NLMSG_DATA(h))->error) : "no answer");
}

CASE(uevents, socket, bind, sendto, recvfrom)
{
	int s, l;
	struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_groups = 1 }, from;
	socklen_t n = sizeof from;
	MUST(s = socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT));
	MUST(l = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_KOBJECT_UEVENT));
	R(bind(l, SA(a)));
	uevent("one", s, 0, 46);
	int k = recvfrom(l, buf, sizeof buf, MSG_DONTWAIT, (void *)&from, &n);
	MUST(k);
	say("from %u to %x, %s, then %s, then %.7s, %s", from.nl_pid, from.nl_groups, buf, buf + 15, buf + 46, buf[k - 1] ? "no end" : "ended");
	uevent("long", s, 0, 2049);
	MUST(setresuid(1000, 1000, 1000));
	uevent("without privilege", s, 0, 46);
	R(recv(l, buf, sizeof buf, MSG_DONTWAIT));
	MUST(l = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_KOBJECT_UEVENT));
	R(bind(l, SA(a)));
}
CASES
