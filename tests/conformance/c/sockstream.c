/* A TCP connection within the machine: what a program sees of the way its bytes take. */
#include "sock.h"
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <sys/epoll.h>
#include <sys/uio.h>

/* pair is a connection that has carried a byte each way, so that nothing is in flight. */
static void pair(int p[2])
{
	tcp(AF_INET, p);
	for (int i = 0; i < 2; i++)
		if (send(p[i], "x", 1, 0) == 1)
			recv(p[!i], buf, 1, 0);
}

static int all(int s, int n)
{
	return recv(s, buf, n, MSG_WAITALL);
}

static int revents(int s)
{
	struct pollfd f = { s, POLLIN | POLLOUT | POLLRDHUP, 0 };
	poll(&f, 1, 0);
	return f.revents;
}

static int inq(int s) { int n = -1; ioctl(s, SIOCINQ, &n); return n; }

/* Bytes that wait are read before the end of the stream, which poll tells at once. */
CASE(halfclose, recvfrom, poll)
{
	int p[2];
	pair(p);
	R(send(p[0], "request", 7, 0));
	R(shutdown(p[0], SHUT_WR));
	ready(p[1], POLLRDHUP);
	say("revents %x, %d wait", revents(p[1]), inq(p[1]));
	R(recv(p[1], buf, 3, 0));
	R(recv(p[1], buf, 30, MSG_PEEK));
	R(recv(p[1], buf, 30, 0));
	R(recv(p[1], buf, 30, 0));
	say("revents %x", revents(p[1]));
	R(send(p[0], "more", 4, MSG_NOSIGNAL));
	R(send(p[1], "answer", 6, 0));
	R(all(p[0], 6));
	R(recv(p[0], buf, 3, MSG_DONTWAIT));
	R(send(p[1], "last", 4, 0));
	R(close(p[1]));
	R(all(p[0], 4));
	R(recv(p[0], buf, 3, 0));
	say("revents %x", revents(p[0]));
}

/* Who closes with bytes unread resets the connection; what he sent is still there. */
CASE(unread, recvfrom)
{
	int p[2];
	pair(p);
	R(send(p[1], "mine", 4, 0));
	R(send(p[0], "never read", 10, 0));
	ready(p[1], POLLIN);
	R(close(p[1]));
	ready(p[0], POLLHUP);
	say("revents %x", revents(p[0]));
	R(recv(p[0], buf, 2, 0));
	R(recv(p[0], buf, 20, 0));
	R(recv(p[0], buf, 20, 0));
	R(recv(p[0], buf, 20, 0));
	R(send(p[0], "a", 1, MSG_NOSIGNAL));
}

CASE(linger0, recvfrom)
{
	int p[2];
	struct linger l = { 1, 0 };
	pair(p);
	R(send(p[1], "mine", 4, 0));
	setsockopt(p[1], SOL_SOCKET, SO_LINGER, &l, sizeof l);
	R(close(p[1]));
	ready(p[0], POLLHUP);
	R(recv(p[0], buf, 20, 0));
	GET(p[0], SOL_SOCKET, SO_ERROR);
	R(recv(p[0], buf, 20, 0));
	R(send(p[0], "a", 1, MSG_NOSIGNAL));
}

/* After SHUT_RD there is an end, and what comes later is read all the same. */
CASE(noreading, recvfrom)
{
	int p[2];
	pair(p);
	R(send(p[0], "before", 6, 0));
	ready(p[1], POLLIN);
	R(shutdown(p[1], SHUT_RD));
	R(recv(p[1], buf, 20, 0));
	R(recv(p[1], buf, 20, 0));
	say("revents %x", revents(p[1]));
	R(send(p[0], "after", 5, 0));
	for (int i = 0; i < 1000 && inq(p[1]) == 0; i++)
		usleep(1000); /* poll says readable all the time */
	R(recv(p[1], buf, 20, 0));
	R(recv(p[1], buf, 20, 0));
}

/* What was sent before accept comes first. */
CASE(early, accept, recvfrom)
{
	struct sockaddr_storage a;
	socklen_t n;
	int l = bound(AF_INET, SOCK_STREAM, &a, &n), c, s;
	MUST(listen(l, 8));
	MUST(c = socket(AF_INET, SOCK_STREAM, 0));
	MUST(connect(c, (void *)&a, n));
	R(send(c, "one ", 4, 0));
	MUST(s = accept(l, 0, 0));
	R(send(c, "two ", 4, 0));
	R(all(s, 6));
	R(send(c, "three", 5, 0));
	R(all(s, 7));
	R(send(s, "answer", 6, 0));
	R(all(c, 6));
	R(send(c, "four", 4, 0));
	R(all(s, 4));
	say("%.4s", buf);
}

/* Each arrival is an edge, also of one who has not read. */
CASE(edges, epoll_wait)
{
	int p[2], e = epoll_create1(0);
	struct epoll_event v = { EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP, { 0 } };
	pair(p);
	R(epoll_ctl(e, EPOLL_CTL_ADD, p[1], &v));
	R(epoll_wait(e, &v, 1, 0));
	say("%x", v.events);
	R(epoll_wait(e, &v, 1, 0));
	for (int i = 0; i < 2; i++) {
		R(send(p[0], "abc", 3, 0));
		R(epoll_wait(e, &v, 1, 1000));
		say("%x", v.events);
		R(epoll_wait(e, &v, 1, 0));
	}
	R(recv(p[1], buf, 6, 0));
	R(epoll_wait(e, &v, 1, 0));
	R(shutdown(p[0], SHUT_WR));
	R(epoll_wait(e, &v, 1, 1000));
	say("%x", v.events);
	R(epoll_wait(e, &v, 1, 0));
}

/* Nobody reads: the writer is stopped, told by poll when there is room, and no byte is lost. */
CASE(full, poll, recvfrom)
{
	int p[2], n, out;
	long sent = 0, got = 0, wrong = 0;
	pair(p);
	setint(p[0], SOL_SOCKET, SO_SNDBUF, 20000);
	for (int tries = 0; tries < 3; tries++, usleep(20000))
		while ((n = send(p[0], buf, 3001, MSG_DONTWAIT)) > 0) {
			sent += n;
			for (int i = 0; i < 3001; i++)
				buf[i] = sent + i;
		}
	R(send(p[0], buf, 1, MSG_DONTWAIT));
	say("revents %x", revents(p[0]));
	IS(sent > 20000);
	ioctl(p[0], SIOCOUTQ, &out);
	IS(out > 0);
	IS(inq(p[1]) > 0);
	while (got < sent && (n = recv(p[1], buf, sizeof buf, 0)) > 0)
		for (int i = 0; i < n; i++, got++)
			wrong += got >= 3001 && buf[i] != (char)got;
	IS(got == sent);
	IS(wrong == 0);
	if (got == sent)
		ready(p[0], POLLOUT);
	say("revents %x, %d wait", revents(p[0]), inq(p[1]));
}

/* A blocked writer goes on as its reader does, and a reader waits for all. */
CASE(blocked, sendto, recvfrom)
{
	int p[2], st;
	long n = 0;
	pair(p);
	if (fork() == 0) {
		close(p[1]);
		static char big[3000000];
		for (unsigned i = 0; i < sizeof big; i++)
			big[i] = i * 7 >> 3;
		_exit(send(p[0], big, sizeof big, 0) == sizeof big ? 7 : 8);
	}
	close(p[0]);
	for (int k; (k = recv(p[1], buf, n % 2 ? 70000 : 999, n % 5 ? 0 : MSG_WAITALL)) > 0;)
		for (int i = 0; i < k; i++, n++)
			if (buf[i] != (char)(n * 7 >> 3)) {
				say("byte %ld", n);
				exit(1);
			}
	close(p[1]);
	MUST(wait(&st));
	say("%ld bytes, %x", n, st);
}

CASE(lowat, setsockopt, poll)
{
	int p[2];
	pair(p);
	setint(p[1], SOL_SOCKET, SO_RCVLOWAT, 4);
	R(send(p[0], "abc", 3, 0));
	usleep(20000);
	say("revents %x", revents(p[1]));
	R(send(p[0], "d", 1, 0));
	ready(p[1], POLLIN);
	say("revents %x", revents(p[1]));
}

/* A packet socket that comes in the midst sees the segments from then on. */
CASE(watched, socket, recvfrom)
{
	int p[2], s, seen = 0;
	pair(p);
	R(send(p[0], "unseen, ", 8, 0));
	MUST(s = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP)));
	R(send(p[0], "seen by others", 14, 0));
	while (!seen && ready(s, POLLIN)) {
		int n = recv(s, buf, sizeof buf, 0);
		if (n < 0)
			break;
		seen = n > 14 && !memcmp(buf + n - 14, "seen by others", 14);
	}
	IS(seen);
	R(all(p[1], 22));
	say("%.22s", buf);
	close(s);
	R(send(p[1], "back", 4, 0));
	R(all(p[0], 4));
}

CASE(corked, recvfrom)
{
	int p[2];
	pair(p);
	R(send(p[0], "a", 1, 0));
	setint(p[0], SOL_TCP, TCP_CORK, 1);
	R(send(p[0], "bc", 2, 0));
	R(all(p[1], 1));
	R(recv(p[1], buf, 9, MSG_DONTWAIT));
	setint(p[0], SOL_TCP, TCP_CORK, 0);
	R(all(p[1], 2));
	R(send(p[0], "d", 1, 0));
	R(all(p[1], 1));
}

/* A connection is undone, and its socket used again. */
CASE(undone, connect, recvfrom)
{
	int p[2];
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	pair(p);
	R(send(p[0], "abc", 3, 0));
	ready(p[1], POLLIN);
	R(connect(p[0], &none, sizeof none));
	ready(p[1], POLLHUP);
	R(recv(p[1], buf, 9, 0));
	R(recv(p[1], buf, 9, 0));
	R(recv(p[1], buf, 9, 0));
}

CASE(badmemory, readv, recvfrom)
{
	int p[2];
	pair(p);
	R(send(p[0], (void *)16, 5, 0));
	R(send(p[0], "abcdef", 6, 0));
	ready(p[1], POLLIN);
	R(recv(p[1], (void *)16, 3, 0));
	R(recv(p[1], (void *)16, 3, MSG_PEEK));
	struct iovec v[2] = { { buf, 2 }, { buf + 9, 9 } };
	R(readv(p[1], v, 2));
	R(recv(p[1], buf, 9, MSG_DONTWAIT));
}

/* now is what poll and epoll say of s this moment. */
static void now(const char *what, int s)
{
	struct epoll_event e = { EPOLLIN | EPOLLOUT | EPOLLRDHUP }, got = { 0 };
	int ep = epoll_create1(0);
	epoll_ctl(ep, EPOLL_CTL_ADD, s, &e);
	int n = epoll_wait(ep, &got, 1, 0);
	say("%s: poll %x, epoll %x", what, revents(s), n == 1 ? got.events : 0);
	close(ep);
}

/* What is sent within the machine is taken when the call returns: nobody waits here. */
CASE(atonce, connect, accept4, shutdown, close)
{
	for (int family = AF_INET;; family = AF_INET6)
		for (int i = 0;; i++) {
			struct sockaddr_storage a, m, r;
			socklen_t n, k = sizeof m;
			int l = bound(family, SOCK_STREAM, &a, &n), c[3], s[2];
			MUST(listen(l, 8));
			for (int j = 0; j < 3; j++) {
				MUST(c[j] = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0));
				R(connect(c[j], (void *)&a, n));
				now("connected", c[j]);
			}
			now("to accept", l);
			for (int j = 0; j < 2; j++) {
				R((s[j] = accept4(l, (void *)&r, &k, SOCK_NONBLOCK)) < 0);
				getsockname(c[j], (void *)&m, &n);
				say("%s", memcmp(&m, &r, n) ? "another" : "in order");
			}
			now("one more", l);
			if (i == 0) {
				R(shutdown(c[0], SHUT_WR));
			} else if (i == 1) {
				R(close(c[0]));
			} else {
				struct linger g = { 1, 0 };
				setsockopt(c[0], SOL_SOCKET, SO_LINGER, &g, sizeof g);
				R(close(c[0]));
			}
			now("its other end", s[0]);
			R(recv(s[0], buf, 9, 0));
			R(close(l));
			now("not accepted", c[2]);
			R(recv(c[2], buf, 9, 0));
			R(close(s[1]));
			now("closed there", c[1]);
			R(recv(c[1], buf, 9, 0));
			int d = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
			R(connect(d, (void *)&a, n));
			now("refused", d);
			R(connect(d, (void *)&a, n));
			close(d), close(c[1]), close(c[2]), close(s[0]);
			if (i == 0)
				close(c[0]);
			if (i == 2 && family == AF_INET6)
				return;
			if (i == 2)
				break;
		}
}

CASES
