/* The MSG_ flags of sends and receives; sendmmsg, recvmmsg. */
#include "sock.h"
#include <sys/uio.h>

CASE(peek, recvfrom)
{
	int p[2], u[2];
	tcp(AF_INET, p);
	udp(AF_INET, u);
	send(p[0], "abcdef", 6, 0);
	ready(p[1], POLLIN);
	R(recv(p[1], buf, 3, MSG_PEEK));
	R(recv(p[1], buf, 30, MSG_PEEK));
	R(recv(p[1], buf, 2, 0));
	memset(buf, 0, 9);
	R(recv(p[1], buf, 30, MSG_PEEK));
	say("%s", buf);
	R(recv(p[1], buf, 30, 0));
	R(recv(p[1], buf, 30, MSG_PEEK | MSG_DONTWAIT));
	send(u[0], "one", 3, 0);
	send(u[0], "three", 5, 0);
	R(recv(u[1], buf, 2, MSG_PEEK));
	R(recv(u[1], buf, 2, MSG_PEEK | MSG_TRUNC));
	R(recv(u[1], buf, 20, 0));
	R(recv(u[1], buf, 20, MSG_PEEK));
	R(recv(u[1], buf, 20, 0));
	R(recv(u[1], buf, 20, MSG_PEEK | MSG_DONTWAIT));
}

CASE(trunc, recvfrom, recvmsg)
{
	int p[2], u[2];
	tcp(AF_INET, p);
	udp(AF_INET, u);
	send(u[0], "123456", 6, 0);
	send(u[0], "123456", 6, 0);
	send(u[0], "", 0, 0);
	R(recv(u[1], buf, 0, MSG_TRUNC));
	struct iovec io = { buf, 3 };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_flags = 0x7777 };
	R(recvmsg(u[1], &m, 0));
	say("flags %x", m.msg_flags);
	R(recvmsg(u[1], &m, MSG_TRUNC));
	say("flags %x", m.msg_flags);
	/* On a stream the bytes are thrown away. */
	send(p[0], "abcdef", 6, 0);
	ready(p[1], POLLIN);
	strcpy(buf, "......");
	R(recv(p[1], buf, 4, MSG_TRUNC));
	say("%s", buf);
	R(recv(p[1], buf, 4, 0));
	say("%s", buf);
	R(recv(p[1], buf, 4, MSG_TRUNC | MSG_DONTWAIT));
}

CASE(waitall, recvfrom)
{
	int p[2];
	tcp(AF_INET, p);
	if (fork() == 0) {
		for (int i = 0; i < 5; i++) {
			send(p[0], "ab", 2, 0);
			usleep(20000);
		}
		usleep(50000);
		send(p[0], "end", 3, 0);
		shutdown(p[0], SHUT_WR);
		_exit(0);
	}
	R(recv(p[1], buf, 10, MSG_WAITALL));
	R(recv(p[1], buf, 10, MSG_WAITALL));
	R(recv(p[1], buf, 10, MSG_WAITALL));
	wait(0);
	tcp(AF_INET, p);
	struct timeval tv = { 0, 50000 };
	setsockopt(p[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	send(p[0], "abc", 3, 0);
	R(recv(p[1], buf, 10, MSG_WAITALL));
	R(recv(p[1], buf, 10, MSG_WAITALL));
	send(p[0], "abc", 3, 0);
	ready(p[1], POLLIN);
	R(recv(p[1], buf, 10, MSG_WAITALL | MSG_DONTWAIT));
	send(p[0], "abc", 3, 0);
	R(recv(p[1], buf, 10, MSG_WAITALL | MSG_PEEK));
	R(recv(p[1], buf, 10, 0));
}

CASE(dontwait, sendto, recvfrom)
{
	int p[2];
	tcp(AF_INET, p);
	R(recv(p[1], buf, 10, MSG_DONTWAIT));
	long n = 0, k;
	for (int i = 0; i < 5; i++) { /* what was sent makes room for a while */
		while ((k = send(p[0], buf, sizeof buf, MSG_DONTWAIT)) > 0)
			n += k;
		usleep(50000);
	}
	R(k);
	IS(n > 10000);
	struct timeval tv = { 0, 20000 };
	setsockopt(p[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
	R(send(p[0], buf, 10, 0));
	struct pollfd f = { p[0], POLLOUT, 0 };
	R(poll(&f, 1, 0));
}

static volatile int pipes;
static void onpipe(int s) { (void)s; pipes++; }

CASE(nosignal, sendto, sendmsg)
{
	int p[2];
	signal(SIGPIPE, onpipe);
	tcp(AF_INET, p);
	shutdown(p[0], SHUT_WR);
	R(send(p[0], "x", 1, MSG_NOSIGNAL));
	R(pipes);
	R(send(p[0], "x", 1, 0));
	R(pipes);
	R(write(p[0], "x", 1));
	R(pipes);
	struct iovec io = { buf, 3 };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1 };
	R(sendmsg(p[0], &m, 0));
	R(pipes);
	R(sendmsg(p[0], &m, MSG_NOSIGNAL));
	R(pipes);
	R(send(p[0], "", 0, 0));
	R(pipes);
	int s = socket(AF_INET, SOCK_STREAM, 0);
	R(send(s, "x", 1, 0));
	R(pipes);
}

CASE(more, recvfrom)
{
	int u[2], p[2];
	udp(AF_INET, u);
	R(send(u[0], "ab", 2, MSG_MORE));
	R(recv(u[1], buf, 10, MSG_DONTWAIT));
	R(send(u[0], "cd", 2, MSG_MORE));
	R(send(u[0], "ef", 2, 0));
	memset(buf, 0, 10);
	R(recv(u[1], buf, 10, MSG_DONTWAIT));
	say("%s", buf);
	tcp(AF_INET, p);
	R(send(p[0], "ab", 2, MSG_MORE));
	R(send(p[0], "cd", 2, 0));
	R(recv(p[1], buf, 4, MSG_WAITALL));
}

CASE(cork, setsockopt, sendto, recvfrom)
{
	int u[2];
	udp(AF_INET, u);
	GET(u[0], SOL_UDP, 1);
	SET(u[0], SOL_UDP, 1, 1); /* UDP_CORK */
	R(send(u[0], "ab", 2, 0));
	R(send(u[0], "cd", 2, 0));
	R(recv(u[1], buf, 10, MSG_DONTWAIT));
	SET(u[0], SOL_UDP, 1, 0);
	R(recv(u[1], buf, 10, MSG_DONTWAIT));
	SET(u[0], SOL_UDP, 101, 1); /* UDP_NO_CHECK6_TX */
	SET(u[0], SOL_UDP, 103, 1000); /* UDP_SEGMENT */
	SET(u[0], SOL_UDP, 103, -1);
	SET(u[0], SOL_UDP, 103, 0);
	SET(u[0], SOL_UDP, 104, 1); /* UDP_GRO */
	SET(u[0], SOL_UDP, 55, 1);
}

CASE(segment, setsockopt, sendto, recvfrom)
{
	int u[2];
	udp(AF_INET, u);
	R(setint(u[0], SOL_UDP, 103, 4));
	R(send(u[0], "abcdefghij", 10, 0));
	R(recv(u[1], buf, 20, MSG_DONTWAIT));
	R(recv(u[1], buf, 20, MSG_DONTWAIT));
	R(recv(u[1], buf, 20, MSG_DONTWAIT));
	R(recv(u[1], buf, 20, MSG_DONTWAIT));
}

CASE(oobudp, sendto, recvfrom)
{
	int u[2];
	udp(AF_INET, u);
	R(send(u[0], "x", 1, MSG_OOB));
	R(recv(u[1], buf, 1, MSG_OOB | MSG_DONTWAIT));
	R(recv(u[1], buf, 1, MSG_ERRQUEUE));
	int p[2];
	tcp(AF_INET, p);
	R(recv(p[1], buf, 1, MSG_OOB));
	R(recv(p[1], buf, 1, MSG_ERRQUEUE));
}

CASE(sizes, recvfrom)
{
	int u[2], v[2];
	udp(AF_INET, u);
	udp(AF_INET6, v);
	R(send(u[0], buf, 65507, 0));
	R(recv(u[1], buf, sizeof buf, 0));
	R(send(u[0], buf, 65508, 0));
	R(send(u[0], buf, 65536, 0));
	R(send(u[0], buf, 70000, 0));
	R(send(v[0], buf, 65507, 0));
	R(recv(v[1], buf, sizeof buf, 0));
	R(send(v[0], buf, 65527, 0));
	R(recv(v[1], buf, sizeof buf, MSG_DONTWAIT));
	R(send(v[0], buf, 65528, 0));
	R(send(u[0], (void *)8, 10, 0));
	R(send(u[0], 0, 0, 0));
	R(recv(u[1], 0, 0, 0));
	R(sendto(u[0], "x", 1, 0, (void *)buf, 0));
	R(sendto(u[0], "x", 1, 0, (void *)buf, 5));
	R(sendto(u[0], "x", 1, 0, (void *)buf, 200));
	R(sendto(u[0], "x", 1, 0, (void *)8, 16));
}

CASE(destination, recvfrom)
{
	struct sockaddr_storage a;
	socklen_t n;
	int r = bound(AF_INET, SOCK_DGRAM, &a, &n), s = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in t = *(struct sockaddr_in *)&a;
	R(sendto(s, "a", 1, 0, SA(t)));
	R(recv(r, buf, 9, MSG_DONTWAIT));
	t.sin_family = AF_UNSPEC;
	R(sendto(s, "a", 1, 0, SA(t)));
	R(recv(r, buf, 9, MSG_DONTWAIT));
	t.sin_family = AF_INET6;
	R(sendto(s, "a", 1, 0, SA(t)));
	t.sin_family = AF_UNIX;
	R(sendto(s, "a", 1, 0, SA(t)));
	t.sin_family = AF_INET;
	R(sendto(s, "a", 1, 0, (void *)&t, 15));
	R(sendto(s, "a", 1, 0, (void *)&t, 100));
	R(recv(r, buf, 9, MSG_DONTWAIT));
	t.sin_port = 0;
	R(sendto(s, "a", 1, 0, SA(t)));
	t = lo(9);
	t.sin_addr.s_addr = htonl(INADDR_BROADCAST);
	R(sendto(s, "a", 1, 0, SA(t)));
	t.sin_addr.s_addr = htonl(0x7fffffff);
	R(sendto(s, "a", 1, 0, SA(t)));
	/* The any address is this host. */
	t = *(struct sockaddr_in *)&a;
	t.sin_addr.s_addr = 0;
	R(sendto(s, "a", 1, 0, SA(t)));
	R(recv(r, buf, 9, MSG_DONTWAIT));
	/* TCP sockets ignore the name of a connected one. */
	int p[2];
	tcp(AF_INET, p);
	R(sendto(p[0], "abc", 3, 0, (void *)buf, 16));
	R(recvfrom(p[1], buf, 10, 0, (void *)&a, &n));
	say("name: %u bytes", n);
	s = socket(AF_INET6, SOCK_DGRAM, 0);
	t = *(struct sockaddr_in *)&a;
	R(sendto(s, "a", 1, 0, SA(t)));
	setint(s, SOL_IPV6, IPV6_V6ONLY, 1);
	s = socket(AF_INET, SOCK_STREAM, 0);
	R(sendto(s, "a", 1, MSG_NOSIGNAL, SA(t)));
}

CASE(names, recvfrom, recvmsg)
{
	int u[2];
	udp(AF_INET, u);
	struct sockaddr_in a;
	socklen_t n;
	for (int i = 0; i < 6; i++)
		send(u[0], "x", 1, 0);
	n = 4;
	memset(&a, 0xee, sizeof a);
	R(recvfrom(u[1], buf, 9, 0, (void *)&a, &n));
	say("%u bytes, family %d, port %x", n, a.sin_family, a.sin_port == 0xeeee);
	n = 0;
	R(recvfrom(u[1], buf, 9, 0, (void *)&a, &n));
	say("%u bytes", n);
	n = -1;
	R(recvfrom(u[1], buf, 9, 0, (void *)&a, &n));
	R(recvfrom(u[1], buf, 9, 0, (void *)&a, 0));
	R(recvfrom(u[1], buf, 9, 0, 0, 0));
	struct iovec io = { buf, 3 };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_name = &a, .msg_namelen = 5 };
	R(recvmsg(u[1], &m, 0));
	say("%u bytes", m.msg_namelen);
	R(recvmsg(u[1], &m, MSG_DONTWAIT));
	m.msg_namelen = -1;
	R(recvmsg(u[1], &m, MSG_DONTWAIT));
	m = (struct msghdr){ .msg_iov = &io, .msg_iovlen = 1025 };
	R(recvmsg(u[1], &m, MSG_DONTWAIT));
	R(sendmsg(u[0], &m, MSG_DONTWAIT));
	m = (struct msghdr){ .msg_iov = 0, .msg_iovlen = 0 };
	R(sendmsg(u[0], &m, 0));
	R(recvmsg(u[1], &m, 0));
	R(sendmsg(u[0], (void *)8, 0));
	R(recvmsg(u[1], (void *)8, 0));
	io.iov_len = -1;
	m = (struct msghdr){ .msg_iov = &io, .msg_iovlen = 1 };
	R(sendmsg(u[0], &m, 0));
}

CASE(many, recvmmsg)
{
	int u[2];
	udp(AF_INET, u);
	struct iovec io[4] = { { "one", 3 }, { "two", 3 }, { "three", 5 }, { (void *)8, 1 } };
	struct mmsghdr m[4] = { 0 };
	for (int i = 0; i < 4; i++)
		m[i].msg_hdr.msg_iov = &io[i], m[i].msg_hdr.msg_iovlen = 1, m[i].msg_len = 99;
	R(sendmmsg(u[0], m, 4, 0));
	say("%u %u %u %u", m[0].msg_len, m[1].msg_len, m[2].msg_len, m[3].msg_len);
	R(sendmmsg(u[0], m + 3, 1, 0));
	R(sendmmsg(u[0], m, 0, 0));
	R(sendmmsg(-1, m, 1, 0));
	R(sendmmsg(0, m, 1, 0));
	R(sendmmsg(u[0], (void *)8, 1, 0));
	static char in[8][10];
	struct iovec ri[8];
	struct mmsghdr r[8] = { 0 };
	for (int i = 0; i < 8; i++)
		ri[i] = (struct iovec){ in[i], 4 }, r[i].msg_hdr.msg_iov = &ri[i], r[i].msg_hdr.msg_iovlen = 1;
	R(recvmmsg(u[1], r, 2, 0, 0));
	say("%u %u, %.3s %.3s", r[0].msg_len, r[1].msg_len, in[0], in[1]);
	R(recvmmsg(u[1], r, 8, MSG_DONTWAIT, 0));
	say("%u flags %x", r[0].msg_len, r[0].msg_hdr.msg_flags);
	R(recvmmsg(u[1], r, 8, MSG_DONTWAIT, 0));
	R(recvmmsg(u[1], r, 0, MSG_DONTWAIT, 0));
	send(u[0], "x", 1, 0);
	send(u[0], "y", 1, 0);
	R(recvmmsg(u[1], r, 8, MSG_WAITFORONE, 0));
	struct timespec ts = { 0, 1000000000 };
	R(recvmmsg(u[1], r, 8, 0, &ts));
	ts = (struct timespec){ -1, 0 };
	R(recvmmsg(u[1], r, 8, 0, &ts));
	R(recvmmsg(u[1], r, 8, 0, (void *)8));
	R(recvmmsg(-1, r, 8, 0, &ts));
	ts = (struct timespec){ 0, 0 };
	send(u[0], "x", 1, 0);
	send(u[0], "y", 1, 0);
	R(recvmmsg(u[1], r, 8, 0, &ts));
	say("left %ld.%ld", ts.tv_sec, ts.tv_nsec);
	ts = (struct timespec){ 100, 0 };
	R(recvmmsg(u[1], r, 1, 0, &ts));
	IS(ts.tv_sec == 99);
}

CASE(manytimeout, recvmmsg)
{
	/* The time-out is looked at after each message only. */
	int u[2];
	udp(AF_INET, u);
	if (fork() == 0) {
		for (int i = 0; i < 3; i++) {
			usleep(60000);
			send(u[0], "x", 1, 0);
		}
		_exit(0);
	}
	struct iovec ri[8];
	struct mmsghdr r[8] = { 0 };
	for (int i = 0; i < 8; i++)
		ri[i] = (struct iovec){ buf, 4 }, r[i].msg_hdr.msg_iov = &ri[i], r[i].msg_hdr.msg_iovlen = 1;
	struct timespec ts = { 0, 10000000 };
	R(recvmmsg(u[1], r, 8, 0, &ts));
	say("left %ld.%09ld", ts.tv_sec, ts.tv_nsec);
	wait(0);
	R(recvmmsg(u[1], r, 8, MSG_WAITFORONE, 0));
}

CASE(manyerror, recvmmsg, sendmmsg, getsockopt)
{
	/* An error after the first message is kept for the next call. */
	int u[2];
	udp(AF_INET, u);
	struct iovec ri[3];
	struct mmsghdr r[3] = { 0 };
	for (int i = 0; i < 3; i++)
		ri[i] = (struct iovec){ buf, 4 }, r[i].msg_hdr.msg_iov = &ri[i], r[i].msg_hdr.msg_iovlen = 1;
	r[1].msg_hdr.msg_iovlen = 5000;
	send(u[0], "x", 1, 0);
	send(u[0], "y", 1, 0);
	R(recvmmsg(u[1], r, 3, MSG_DONTWAIT, 0));
	GET(u[1], SOL_SOCKET, SO_ERROR);
	R(recvmmsg(u[1], r, 1, MSG_DONTWAIT, 0));
	close(u[1]);
	R(send(u[0], "z", 1, 0));
	r[1].msg_hdr.msg_iovlen = 1;
	R(sendmmsg(u[0], r, 3, 0));
	R(sendmmsg(u[0], r, 1, 0));
}

CASE(icmperror, recvfrom)
{
	/* A port where nobody is: the error comes back to a connected socket. */
	struct sockaddr_storage a;
	socklen_t n;
	int r = bound(AF_INET, SOCK_DGRAM, &a, &n), s = socket(AF_INET, SOCK_DGRAM, 0);
	close(r);
	MUST(connect(s, (void *)&a, n));
	R(send(s, "a", 1, 0));
	R(ready(s, POLLIN));
	GET(s, SOL_SOCKET, SO_ERROR);
	GET(s, SOL_SOCKET, SO_ERROR);
	R(send(s, "a", 1, 0));
	R(recv(s, buf, 9, 0));
	R(recv(s, buf, 9, MSG_DONTWAIT));
	R(send(s, "a", 1, 0));
	R(send(s, "a", 1, 0));
	/* Not to one that is not. */
	s = socket(AF_INET, SOCK_DGRAM, 0);
	R(sendto(s, "a", 1, 0, (void *)&a, n));
	R(recv(s, buf, 9, MSG_DONTWAIT));
}

/* Descriptors mean nothing to UDP and TCP, and stay the sender's, also when the call fails;
 * control data that are none are refused when their turn comes. */
CASE(nofiles, sendmsg)
{
	int f[2], u = socket(AF_INET, SOCK_DGRAM, 0), t = socket(AF_INET, SOCK_STREAM, 0), p[2];
	pipe(f);
	tcp(AF_INET, p);
	char c[CMSG_SPACE(4)] = {0};
	struct iovec v = {"x", 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = CMSG_LEN(4);
	memcpy(CMSG_DATA(h), f, 4);
	for (int i = 0; i < 3; i++) {
		R(sendmsg(u, &m, 0));
		R(sendmsg(t, &m, MSG_NOSIGNAL));
		R(sendmsg(p[0], &m, 0));
	}
	/* Nor are they looked for. */
	memset(CMSG_DATA(h), 0x77, 4);
	R(sendmsg(u, &m, 0));
	R(sendmsg(p[0], &m, 0));
	h->cmsg_type = SCM_CREDENTIALS;
	R(sendmsg(u, &m, 0));
	R(sendmsg(p[0], &m, 0));
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = 15;
	R(sendmsg(u, &m, 0));
	R(sendmsg(t, &m, MSG_NOSIGNAL));
	R(sendmsg(p[0], &m, 0));
	R(write(f[1], "y", 1));
	R(read(f[0], buf, 1));
}

static int broken;
static void broke(int s) { broken++; }

static void writes(const char *what, int fd)
{
	struct iovec v = {"y", 1};
	int p[2], got[3];
	signal(SIGPIPE, broke);
	pipe(p);
	write(p[1], "z", 1);
	broken = 0;
	R(write(fd, "x", 1));
	got[0] = broken;
	R(writev(fd, &v, 1));
	got[1] = broken - got[0];
	R(splice(p[0], 0, fd, 0, 1, 0));
	got[2] = broken - got[1] - got[0];
	say("%s: signals %d %d %d", what, got[0], got[1], got[2]);
	close(p[0]), close(p[1]);
}

/* Which sockets signal that nobody reads: streams. */
CASE(sigpipe, write, writev, splice)
{
	static const struct { int type; const char *name; } t[] = {{SOCK_STREAM, "stream"}, {SOCK_DGRAM, "dgram"}, {SOCK_SEQPACKET, "seqpacket"}};
	char what[64];
	int v[2];
	for (int i = 0; i < 3; i++) {
		snprintf(what, sizeof what, "unix %s closed", t[i].name);
		socketpair(AF_UNIX, t[i].type, 0, v);
		close(v[1]);
		writes(what, v[0]);
		snprintf(what, sizeof what, "unix %s shut", t[i].name);
		socketpair(AF_UNIX, t[i].type, 0, v);
		R(shutdown(v[0], SHUT_WR));
		writes(what, v[0]);
	}
	udp(AF_INET, v);
	R(shutdown(v[0], SHUT_WR));
	writes("udp shut", v[0]);
	tcp(AF_INET, v);
	R(shutdown(v[0], SHUT_WR));
	writes("tcp shut", v[0]);
	pipe(v);
	close(v[0]);
	writes("pipe", v[1]);
}

/* To look at what is cut away is to count it: nothing is copied. */
CASE(peektrunc, recvfrom)
{
	for (int i = 0; i < 2; i++) {
		int p[2];
		tcp(AF_INET, p);
		if (i)
			setint(p[1], SOL_TCP, TCP_USER_TIMEOUT, 100000);
		R(recv(p[1], 0, 100, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT));
		send(p[0], "abcdef", 6, 0);
		ready(p[1], POLLIN);
		R(recv(p[1], 0, 100, MSG_PEEK | MSG_TRUNC));
		strcpy(buf, "......");
		R(recv(p[1], buf, 4, MSG_PEEK | MSG_TRUNC));
		say("%s", buf);
		R(recv(p[1], buf, 4, 0));
		say("%s", buf);
		R(recv(p[1], 0, 1, MSG_PEEK | MSG_TRUNC));
		R(recv(p[1], buf, 9, 0));
		shutdown(p[0], SHUT_WR);
		R(recv(p[1], 0, 100, MSG_PEEK | MSG_TRUNC));
	}
}

/* A part that makes a datagram too long takes those before it along. */
CASE(toolong, sendto, recvfrom)
{
	int u[2];
	udp(AF_INET, u);
	R(send(u[0], "ab", 2, MSG_MORE));
	R(send(u[0], buf, 65507, MSG_MORE));
	R(send(u[0], "cd", 2, 0));
	R(recv(u[1], buf, 10, MSG_DONTWAIT));
	R(send(u[0], "ab", 2, MSG_MORE));
	R(send(u[0], buf, 65536, 0));
	R(send(u[0], "cd", 2, 0));
	R(recv(u[1], buf, 10, MSG_DONTWAIT));
}

CASES
