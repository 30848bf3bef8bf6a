/* TCP, UDP and UNIX sockets over the loopback. */
#include "check.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/un.h>

static char buf[1 << 16];
static struct sockaddr_in at(int port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}
#define SA(x) (struct sockaddr *)&x, sizeof x

static void *echo(void *p)
{
	int l = *(int *)p, n, c = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	char b[8192];
	while ((n = read(c, b, sizeof b)) > 0)
		for (int o = 0, w; o < n; o += w)
			if ((w = write(c, b + o, n - o)) <= 0)
				return NULL;
	close(c);
	return NULL;
}

static void tcp(void)
{
	say("-- TCP");
	int l, c, one = 1, v = 0;
	socklen_t len;
	pthread_t t;
	struct sockaddr_in a = at(0), b;
	MUST(l = socket(AF_INET, SOCK_STREAM, 0));
	R(setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
	R(bind(l, SA(a)));
	R(bind(l, SA(a)));
	R(listen(l, 16));
	len = sizeof a;
	R(getsockname(l, (struct sockaddr *)&a, &len));
	IS(len == sizeof a && a.sin_port != 0);
	int port = ntohs(a.sin_port);
	MUST(c = socket(AF_INET, SOCK_STREAM, 0));
	R(bind(c, SA(a)));
	R(send(c, "x", 1, MSG_NOSIGNAL));
	R(recv(c, buf, 1, 0));
	R(connect(c, (struct sockaddr *)&a, 3));
	pthread_create(&t, NULL, echo, &l);
	R(connect(c, SA(a)));
	R(connect(c, SA(a)));
	len = sizeof b;
	R(getpeername(c, (struct sockaddr *)&b, &len));
	IS(ntohs(b.sin_port) == port);
	R(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
	len = sizeof v;
	R(getsockopt(c, IPPROTO_TCP, TCP_NODELAY, &v, &len));
	IS(v != 0);
	R(getsockopt(c, SOL_SOCKET, SO_TYPE, &v, &len));
	R(v);
	R(getsockopt(c, SOL_SOCKET, SO_ERROR, &v, &len));
	R(v);
	R(getsockopt(c, SOL_SOCKET, 9999, &v, &len));
	R(setsockopt(c, SOL_SOCKET, SO_KEEPALIVE, &one, 1));
	R(write(c, "hello", 5));
	R(recv(c, buf, 5, MSG_WAITALL));
	R(memcmp(buf, "hello", 5));
	R(send(c, "peek", 4, 0));
	struct pollfd pf = { c, POLLIN, 0 };
	R(poll(&pf, 1, 5000));
	R(recv(c, buf, 2, MSG_PEEK));
	R(recv(c, buf, 4, MSG_WAITALL));
	R(recv(c, buf, 4, MSG_DONTWAIT));
	/* A megabyte, in pieces, both ways at once. */
	long sent = 0, back = 0, sum = 0, want = 0;
	fcntl(c, F_SETFL, O_NONBLOCK);
	while (back < 1 << 20) {
		pf.events = POLLIN | (sent < 1 << 20 ? POLLOUT : 0);
		MUST(poll(&pf, 1, 5000) > 0 ? 0 : -1);
		if (pf.revents & POLLOUT && sent < 1 << 20) {
			for (int i = 0; i < 4096; i++)
				buf[i] = (sent + i) * 7;
			long w = write(c, buf, (1 << 20) - sent < 4096 ? (1 << 20) - sent : 4096);
			for (long i = 0; i < w; i++)
				want += (unsigned char)buf[i];
			if (w > 0)
				sent += w;
		}
		if (pf.revents & POLLIN) {
			long r = read(c, buf, sizeof buf);
			for (long i = 0; i < r; i++)
				sum += (unsigned char)buf[i];
			if (r > 0)
				back += r;
		}
	}
	R(back);
	IS(sum == want);
	R(shutdown(c, SHUT_WR));
	pf.events = POLLIN;
	R(poll(&pf, 1, 5000));
	R(read(c, buf, 1));
	R(shutdown(c, 7));
	close(c);
	pthread_join(t, NULL);
	close(l);
	/* Nobody listens now. */
	MUST(c = socket(AF_INET, SOCK_STREAM, 0));
	R(connect(c, SA(a)));
	close(c);
	MUST(c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	R(accept(c, NULL, NULL));
	R(listen(c, 1));
	R(accept(c, NULL, NULL));
	close(c);
	R(socket(AF_INET, SOCK_STREAM, 99));
	R(socket(AF_INET, 99, 0));
	R(socket(999, SOCK_STREAM, 0));
	R(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
	a = at(1);
	a.sin_addr.s_addr = htonl(0x08080808);
	MUST(c = socket(AF_INET, SOCK_STREAM, 0));
	R(bind(c, SA(a)));
	close(c);
	R(bind(0, SA(a)));
	R(bind(999, SA(a)));
}

static void reset(void)
{
	say("-- reset");
	int l, c, s;
	struct sockaddr_in a = at(0);
	socklen_t len = sizeof a;
	MUST(l = socket(AF_INET, SOCK_STREAM, 0));
	bind(l, SA(a));
	listen(l, 4);
	getsockname(l, (struct sockaddr *)&a, &len);
	MUST(c = socket(AF_INET, SOCK_STREAM, 0));
	R(connect(c, SA(a)));
	MUST(s = accept(l, NULL, NULL));
	R(setsockopt(s, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 }, sizeof(struct linger)));
	close(s);
	struct pollfd pf = { c, POLLIN, 0 };
	R(poll(&pf, 1, 5000));
	IS((pf.revents & (POLLERR | POLLHUP)) == (POLLERR | POLLHUP));
	R(read(c, buf, 1));
	R(read(c, buf, 1));
	signal(SIGPIPE, SIG_IGN);
	R(write(c, buf, 1));
	close(c);
	close(l);
}

static void udp(void)
{
	say("-- UDP");
	int a, b, n = 0;
	struct sockaddr_in sa = at(0), from;
	socklen_t len = sizeof sa;
	MUST(a = socket(AF_INET, SOCK_DGRAM, 0));
	MUST(b = socket(AF_INET, SOCK_DGRAM, 0));
	R(bind(a, SA(sa)));
	getsockname(a, (struct sockaddr *)&sa, &len);
	R(send(b, "x", 1, 0));
	R(sendto(b, "one", 3, 0, SA(sa)));
	R(sendto(b, "", 0, 0, SA(sa)));
	R(connect(b, SA(sa)));
	R(send(b, "three", 5, 0));
	struct pollfd pf = { a, POLLIN, 0 };
	R(poll(&pf, 1, 5000));
	R(ioctl(a, FIONREAD, &n));
	R(n);
	len = sizeof from;
	R(recvfrom(a, buf, 2, MSG_TRUNC, (struct sockaddr *)&from, &len));
	IS(len == sizeof from && from.sin_family == AF_INET && from.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	R(recv(a, buf, 10, 0));
	R(recv(a, buf, 10, 0));
	R(recv(a, buf, 10, MSG_DONTWAIT));
	R(listen(a, 1));
	R(accept(a, NULL, NULL));
	R(send(b, buf, 65508, 0));
	struct iovec io[2] = { { "ab", 2 }, { "cd", 2 } };
	struct msghdr m = { .msg_iov = io, .msg_iovlen = 2 };
	R(sendmsg(b, &m, 0));
	struct iovec in[2] = { { buf, 1 }, { buf + 100, 100 } };
	struct msghdr mi = { .msg_iov = in, .msg_iovlen = 2, .msg_name = &from, .msg_namelen = sizeof from };
	R(recvmsg(a, &mi, 0));
	IS(buf[0] == 'a' && !memcmp(buf + 100, "bcd", 3) && mi.msg_namelen == sizeof from);
	struct timeval tv = { 0, 20000 };
	R(setsockopt(a, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
	R(recv(a, buf, 10, 0));
	close(a);
	close(b);
}

static void local(void)
{
	say("-- UNIX");
	int p[2], l, c, s;
	R(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
	R(write(p[0], "hello", 5));
	R(read(p[1], buf, 3));
	R(read(p[1], buf, 10));
	/* A descriptor travels. */
	char cb[CMSG_SPACE(sizeof(int))];
	struct iovec io = { "f", 1 };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = cb, .msg_controllen = sizeof cb };
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	*h = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) };
	memcpy(CMSG_DATA(h), &p[1], sizeof(int));
	R(sendmsg(p[0], &m, 0));
	memset(cb, 0, sizeof cb);
	io.iov_base = buf;
	m.msg_controllen = sizeof cb;
	R(recvmsg(p[1], &m, 0));
	h = CMSG_FIRSTHDR(&m);
	IS(h && h->cmsg_type == SCM_RIGHTS);
	int got = -1;
	if (h)
		memcpy(&got, CMSG_DATA(h), sizeof(int));
	R(write(p[0], "via", 3));
	R(read(got, buf, 10));
	R(close(p[0]));
	R(read(p[1], buf, 10));
	signal(SIGPIPE, SIG_IGN);
	R(write(p[1], "x", 1));
	close(p[1]);
	close(got);
	R(socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
	R(send(p[0], "abc", 3, 0));
	R(send(p[0], "", 0, 0));
	R(recv(p[1], buf, 1, 0));
	R(recv(p[1], buf, 10, 0));
	R(recv(p[1], buf, 10, MSG_DONTWAIT));
	close(p[0]);
	close(p[1]);
	R(socketpair(AF_INET, SOCK_STREAM, 0, p));
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "/tmp/sock" };
	unlink(a.sun_path);
	MUST(l = socket(AF_UNIX, SOCK_STREAM, 0));
	MUST(c = socket(AF_UNIX, SOCK_STREAM, 0));
	R(connect(c, SA(a)));
	R(bind(l, SA(a)));
	R(connect(c, SA(a)));
	R(listen(l, 2));
	R(connect(c, SA(a)));
	MUST(s = accept(l, NULL, NULL));
	struct ucred cred;
	socklen_t len = sizeof cred;
	R(getsockopt(c, SOL_SOCKET, SO_PEERCRED, &cred, &len));
	IS(cred.pid == getpid());
	R(write(s, "ok", 2));
	R(read(c, buf, 10));
	R(shutdown(s, SHUT_WR));
	R(read(c, buf, 10));
	close(s);
	close(c);
	close(l);
	MUST(l = socket(AF_UNIX, SOCK_STREAM, 0));
	R(bind(l, SA(a)));
	R(unlink(a.sun_path));
	/* Abstract names leave no file. */
	a = (struct sockaddr_un){ .sun_family = AF_UNIX, .sun_path = "\0kiln" };
	R(bind(l, (struct sockaddr *)&a, offsetof(struct sockaddr_un, sun_path) + 5));
	R(listen(l, 1));
	MUST(c = socket(AF_UNIX, SOCK_STREAM, 0));
	R(connect(c, (struct sockaddr *)&a, offsetof(struct sockaddr_un, sun_path) + 5));
	close(c);
	close(l);
}

static void six(void)
{
	say("-- IPv6");
	int s = socket(AF_INET6, SOCK_STREAM, 0), one = 1;
	if (s < 0) {
		say("socket(AF_INET6): %s", errname(errno));
		return;
	}
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	R(setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one));
	R(bind(s, SA(a)));
	R(listen(s, 1));
	socklen_t len = sizeof a;
	R(getsockname(s, (struct sockaddr *)&a, &len));
	int c = socket(AF_INET6, SOCK_STREAM, 0);
	R(connect(c, SA(a)));
	close(c);
	close(s);
}

int main(void)
{
	tcp();
	reset();
	udp();
	local();
	six();
	return 0;
}
