/* What sockets say after what has happened to them: errors told once, and by whom; connections
 * that have ended; options that depend on them. */
#include "sock.h"
#include <linux/netlink.h>
#include <sys/un.h>

#ifndef MSG_FASTOPEN
#define MSG_FASTOPEN 0x20000000
#endif

/* started is a socket that began to connect to a listener *l without waiting. */
static int started(int family, int *l)
{
	struct sockaddr_storage a;
	socklen_t n;
	*l = bound(family, SOCK_STREAM, &a, &n);
	MUST(listen(*l, 1));
	int s = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	connect(s, (void *)&a, n);
	struct pollfd p = {s, POLLOUT};
	MUST(poll(&p, 1, 1000));
	return s;
}

/* refused is a socket whose connection was refused, and nobody has heard of it. */
static int refused(int family)
{
	struct sockaddr_storage a;
	socklen_t n;
	close(bound(family, SOCK_STREAM, &a, &n));
	int s = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	connect(s, (void *)&a, n);
	struct pollfd p = {s, POLLOUT};
	MUST(poll(&p, 1, 1000));
	return s;
}

static void again(int s)
{
	struct sockaddr_in a = lo(1);
	R(connect(s, SA(a)));
}

CASE(connect, connect, shutdown)
{
	int l, s = started(AF_INET, &l);
	R(shutdown(s, SHUT_WR));
	again(s);
	s = started(AF_INET, &l);
	R(shutdown(s, SHUT_RD));
	again(s);
	s = started(AF_INET, &l);
	again(s);
	again(s);
	s = refused(AF_INET);
	R(shutdown(s, SHUT_RD));
	again(s);
	s = refused(AF_INET);
	again(s);
	again(s);
}

/* A reset when the peer has sent its last is EPIPE, once; another one ECONNRESET. */
CASE(reset, write, read)
{
	for (int data = 0; data < 2; data++) {
		int p[2];
		signal(SIGPIPE, SIG_IGN);
		tcp(AF_INET, p);
		if (data)
			MUST(write(p[0], "x", 1));
		close(p[1]);
		usleep(20000);
		R(write(p[0], "a", 1));
		usleep(20000);
		R(write(p[0], "b", 1));
		R(write(p[0], "c", 1));
		R(write(p[0], "", 0));
		R(read(p[0], buf, 1));
		R(read(p[0], buf, 1));
		int e = -1;
		socklen_t n = sizeof e;
		R(getsockopt(p[0], SOL_SOCKET, SO_ERROR, &e, &n)), say("%d", e);
	}
}

/* Who there was at the other end. */
CASE(peer, getsockopt, getpeername)
{
	int fams[] = {AF_INET, AF_INET6};
	for (int i = 0; i < 2; i++) {
		int s = refused(fams[i]);
		struct sockaddr_storage a = {0};
		socklen_t n = sizeof a;
		R(getpeername(s, (void *)&a, &n));
		n = fams[i] == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
		R(getsockopt(s, SOL_SOCKET, 28 /* SO_PEERNAME */, &a, &n)), say("family %d", a.ss_family);
		int v = 0;
		n = sizeof v;
		R(getsockopt(s, fams[i] == AF_INET ? SOL_IP : SOL_IPV6, fams[i] == AF_INET ? IP_MTU : IPV6_MTU, &v, &n)), say("%d", v);
		if (fams[i] == AF_INET6)
			SET(s, SOL_IPV6, IPV6_V6ONLY, 0);
	}
	int p[2];
	tcp(AF_INET6, p);
	GET(p[0], SOL_IPV6, IPV6_ADDRFORM);
	MUST(shutdown(p[1], SHUT_WR));
	usleep(20000);
	GET(p[0], SOL_IPV6, IPV6_ADDRFORM);
}

/* Options of TCP by its state. */
CASE(options, setsockopt, getsockopt)
{
	int p[2], l, states[5] = {socket(AF_INET, SOCK_STREAM, 0), refused(AF_INET)};
	tcp(AF_INET, p);
	states[2] = p[0];
	states[3] = started(AF_INET, &l);
	states[4] = l;
	for (int i = 0; i < 5; i++) {
		int s = states[i];
		say("state %d", i);
		SET(s, SOL_TCP, TCP_FASTOPEN, 1);
		SET(s, SOL_TCP, TCP_FASTOPEN_CONNECT, 0);
		SET(s, SOL_TCP, TCP_FASTOPEN_NO_COOKIE, 0);
		SET(s, SOL_TCP, TCP_WINDOW_CLAMP, 0);
		SET(s, SOL_TCP, TCP_QUEUE_SEQ, 1);
		SET(s, SOL_TCP, TCP_TX_DELAY, 5);
		GET(s, SOL_TCP, TCP_TX_DELAY);
		SET(s, SOL_TCP, TCP_TX_DELAY, 0);
	}
	R(setsockopt(p[0], SOL_TCP, TCP_ULP, "x", 0));
	R(setsockopt(p[0], SOL_TCP, TCP_ULP, "x", 1));
	GET(p[0], SOL_TCP, TCP_NODELAY);
	MUST(shutdown(p[0], SHUT_WR));
	GET(p[0], SOL_TCP, TCP_NODELAY);
	SET(p[0], SOL_TCP, TCP_NODELAY, 1);
	GET(p[0], SOL_TCP, TCP_NODELAY);
}

CASE(fastopen, sendto)
{
	int p[2], l;
	tcp(AF_INET, p);
	struct sockaddr none = {AF_UNSPEC};
	R(sendto(p[0], "x", 1, MSG_FASTOPEN, NULL, 0));
	R(sendto(l = started(AF_INET, &l), "x", 1, MSG_FASTOPEN, NULL, 0));
	int s = socket(AF_INET, SOCK_STREAM, 0);
	R(sendto(s, "x", 1, MSG_FASTOPEN, NULL, 0));
	R(sendto(s, "x", 1, MSG_FASTOPEN, &none, sizeof none));
	struct sockaddr_storage a;
	socklen_t n;
	l = bound(AF_INET, SOCK_STREAM, &a, &n);
	MUST(listen(l, 1));
	R(sendto(l, "x", 1, MSG_FASTOPEN, (void *)&a, n));
	R(sendto(s, "hello", 5, MSG_FASTOPEN, (void *)&a, n));
	int c = accept(l, NULL, NULL);
	R(read(c, buf, 10));
	R(sendto(s, "x", 1, MSG_FASTOPEN, (void *)&a, n));
	close(l);
	s = socket(AF_INET, SOCK_STREAM, 0);
	R(sendto(s, "x", 1, MSG_FASTOPEN, (void *)&a, n));
}

/* An error of recvmmsg's second message waits for the next call. */
CASE(deferred, recvmmsg)
{
	int kinds[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET, 0};
	for (int i = 0; i < 4; i++) {
		int p[2];
		if (kinds[i])
			MUST(socketpair(AF_UNIX, kinds[i], 0, p));
		else
			tcp(AF_INET, p);
		struct iovec v = {buf, 10};
		struct mmsghdr m[2] = {{{.msg_iov = &v, .msg_iovlen = 1}}, {{.msg_name = buf, .msg_namelen = -1, .msg_iov = &v, .msg_iovlen = 1}}};
		MUST(write(p[1], "a", 1));
		usleep(5000);
		R(syscall(SYS_recvmmsg, p[0], m, 2, MSG_DONTWAIT, NULL));
		if (i & 1)
			R(recv(p[0], buf, 1, MSG_DONTWAIT));
		else
			R(write(p[0], "x", 1));
		R(write(p[0], "x", 1));
	}
}

/* Control messages that a stream knows not. */
CASE(control, sendmsg)
{
	int p[2];
	tcp(AF_INET, p);
	int types[][2] = {{SOL_SOCKET, 3}, {SOL_SOCKET, SCM_RIGHTS}, {SOL_IP, 99}, {SOL_SOCKET, SO_MARK}};
	for (int i = 0; i < 4; i++) {
		struct { struct cmsghdr h; int v; } c = {{sizeof(struct cmsghdr) + 4, types[i][0], types[i][1]}, 0};
		struct iovec v = {"x", 1};
		struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c};
		R(sendmsg(p[0], &m, 0));
	}
}

/* The sender of a stream's bytes, and what else AF_UNIX knows of a peer. */
CASE(local, recvfrom, getsockopt)
{
	struct sockaddr_un a = {AF_UNIX, "/tmp/sockstate"}, from;
	unlink(a.sun_path);
	int l = socket(AF_UNIX, SOCK_STREAM, 0), s = socket(AF_UNIX, SOCK_STREAM, 0);
	MUST(bind(l, SA(a)));
	MUST(listen(l, 1));
	MUST(connect(s, SA(a)));
	int c = accept(l, NULL, NULL);
	MUST(write(c, "abc", 3));
	MUST(write(s, "abc", 3));
	socklen_t n = sizeof from;
	memset(&from, 0, sizeof from);
	R(recvfrom(s, buf, 1, 0, (void *)&from, &n)), say("%d %s", n, from.sun_path);
	n = sizeof from;
	R(recvfrom(s, buf, 10, 0, (void *)&from, &n)), say("%d %s", n, from.sun_path);
	n = sizeof from;
	R(recvfrom(c, buf, 10, 0, (void *)&from, &n)), say("%d", n);
	struct { int pid, uid, gid; } u;
	n = sizeof u;
	R(getsockopt(l, SOL_SOCKET, SO_PEERCRED, &u, &n)), say("%d %d %d", u.pid == getpid(), u.uid, u.gid);
	signal(SIGPIPE, SIG_IGN);
	int p[2];
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p));
	MUST(write(p[0], "x", 1));
	close(p[1]);
	R(write(p[0], "x", 1));
	R(write(p[0], "x", 1));
	R(read(p[0], buf, 1));
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
	close(p[1]);
	R(write(p[0], "x", 1));
	n = sizeof from;
	R(getpeername(p[0], (void *)&from, &n));
	SET(l, SOL_SOCKET, SO_BINDTOIFINDEX, 77);
	GET(l, SOL_SOCKET, SO_BINDTOIFINDEX);
	SET(l, SOL_SOCKET, SO_BINDTOIFINDEX, -1);
}

CASE(netlink, setsockopt, getsockopt)
{
	int s = socket(AF_NETLINK, SOCK_RAW, 0);
	struct { int pid, uid, gid; } u;
	socklen_t n = sizeof u;
	R(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &u, &n)), say("%d %d %d", u.pid, u.uid, u.gid);
	n = sizeof buf;
	R(getsockopt(s, SOL_SOCKET, SO_PEERGROUPS, buf, &n));
	R(setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2));
	n = 16;
	R(getsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, buf, &n)), say("%s", buf);
	R(setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, "none", 4));
	R(setsockopt(s, SOL_NETLINK, NETLINK_EXT_ACK, "\1", 1));
	GET(s, SOL_NETLINK, NETLINK_EXT_ACK);
	R(setsockopt(s, SOL_NETLINK, 99, "\1", 1));
	SET(s, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, 1);
	n = 1;
	R(getsockopt(s, SOL_NETLINK, NETLINK_EXT_ACK, buf, &n));
	int v;
	R(ioctl(s, FIONREAD, &v));
}

/* Requests about interfaces, to sockets of any family. */
CASE(requests, ioctl)
{
	int fams[] = {AF_UNIX, AF_INET, AF_INET6};
	unsigned reqs[] = {0x8923, 0x8929, 0x8930, 0x8931, 0x8937, 0x8940, 0x8941, 0x8947, 0x894a, 0x8971, 0x8982, 0x8983, 0x8990, 0x8993, 0x89a0, 0x89a2, 0x89b0, 0x89b1, 0x89e1, 0x89f0, 0x89ff, 0x890d, 0x8999};
	for (int i = 0; i < 3; i++) {
		int s = socket(fams[i], SOCK_DGRAM, 0);
		say("family %d", fams[i]);
		for (unsigned k = 0; k < sizeof reqs / sizeof *reqs; k++) {
			char r[40] = "none";
			errno = 0;
			int v = ioctl(s, reqs[k], r), e = errno;
			errno = 0;
			int w = ioctl(s, reqs[k], 8), f = errno;
			say("  %x: %d %s, %d %s", reqs[k], v, errname(e), w, errname(f));
		}
	}
}

/* IPv6: the interface that datagrams leave by, preferred addresses, headers that are not there. */
CASE(ipv6, setsockopt, getsockopt)
{
	int s = socket(AF_INET6, SOCK_DGRAM, 0);
	struct { struct in6_addr a; int i; } pi = {IN6ADDR_ANY_INIT, 1};
	R(setsockopt(s, SOL_IPV6, IPV6_PKTINFO, &pi, sizeof pi));
	R(setsockopt(s, SOL_IPV6, IPV6_PKTINFO, &pi, 4));
	R(setsockopt(s, SOL_IPV6, IPV6_RTHDR, NULL, 0));
	R(setsockopt(s, SOL_IPV6, IPV6_HOPOPTS, NULL, 0));
	int prefs[] = {1, 2, 3, 4, 0x100, 0x400, 0x404, 8, 0x808, 0};
	for (unsigned i = 0; i < sizeof prefs / sizeof *prefs; i++) {
		SET(s, SOL_IPV6, 72 /* IPV6_ADDR_PREFERENCES */, prefs[i]);
		GET(s, SOL_IPV6, 72);
	}
	struct sockaddr_in6 g = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
	inet_pton(AF_INET6, "ff02::1", &g.sin6_addr);
	R(sendto(s, "x", 1, 0, SA(g)));
	SET(s, SOL_SOCKET, SO_BUSY_POLL, -1);
	struct sockaddr_in6 at = lo6(0);
	MUST(bind(s, SA(at)));
	struct in_addr no = {htonl(0x01000000)};
	R(setsockopt(s, SOL_IP, IP_MULTICAST_IF, &no, 4));
	struct sockaddr_in four = lo(9);
	R(connect(s, (void *)&four, 2));
	GET(s, SOL_RAW, 1);
}

CASES
