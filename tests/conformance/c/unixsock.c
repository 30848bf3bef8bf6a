/* AF_UNIX: names, connections, data, what is at the ends, options. */
#include "ipc.h"
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <linux/sockios.h>

static char buf[300000];

static socklen_t un(struct sockaddr_un *a, const char *path, int n)
{
	memset(a, 0, sizeof *a);
	a->sun_family = AF_UNIX;
	memcpy(a->sun_path, path, n);
	return offsetof(struct sockaddr_un, sun_path) + n;
}

static int bindto(int s, const char *path, int n)
{
	struct sockaddr_un a;
	socklen_t l = un(&a, path, n);
	return bind(s, (void *)&a, l);
}

static int connectto(int s, const char *path, int n)
{
	struct sockaddr_un a;
	socklen_t l = un(&a, path, n);
	return connect(s, (void *)&a, l);
}

#define B(s, p) bindto(s, p, strlen(p) + 1)
#define C(s, p) connectto(s, p, strlen(p) + 1)
#define BA(s, p) bindto(s, p, sizeof p - 1)
#define CA(s, p) connectto(s, p, sizeof p - 1)
#define TO(s, p, d, n, f) ({ struct sockaddr_un a_; socklen_t l_ = un(&a_, p, strlen(p) + 1); sendto(s, d, n, f, (void *)&a_, l_); })

static void name(const char *what, int (*f)(int, struct sockaddr *, socklen_t *), int s)
{
	struct sockaddr_un a;
	socklen_t l = sizeof a;
	memset(&a, 0, sizeof a);
	errno = 0;
	if (f(s, (void *)&a, &l) < 0) {
		say("%s: %s", what, errname(errno));
		return;
	}
	if (l > 2 && a.sun_path[0] == 0)
		a.sun_path[0] = '@';
	say("%s: %u bytes, family %d, %s", what, l, a.sun_family, l > 2 ? a.sun_path : "");
}

static void names(void)
{
	say("-- names");
	int s, t;
	struct sockaddr_un a;
	struct stat st;
	chdir("/tmp");
	R(socket(AF_UNIX, SOCK_RAW, 0) >= 0);
	R(socket(AF_UNIX, SOCK_STREAM, 1) >= 0);
	R(socket(AF_UNIX, SOCK_STREAM, 2));
	R(socket(AF_UNIX, SOCK_RDM, 0));
	R(socket(AF_UNIX, 9, 0));
	MUST(s = socket(AF_UNIX, SOCK_STREAM, 0));
	MUST(t = socket(AF_UNIX, SOCK_STREAM, 0));
	name("unbound", getsockname, s);
	name("unbound peer", getpeername, s);
	umask(022);
	R(B(s, "sock"));
	name("path", getsockname, s);
	R(stat("/tmp/sock", &st));
	say("mode %o", st.st_mode);
	R(open("/tmp/sock", O_RDWR));
	R(B(s, "other"));
	R(B(t, "sock"));
	R(B(t, "no/such"));
	R(bindto(t, "", 0));
	struct sockaddr_un l;
	socklen_t n = sizeof l;
	getsockname(t, (void *)&l, &n);
	say("autobind: %u bytes", n);
	R(bindto(t, "", 0));
	R(B(t, "other"));
	close(t);
	MUST(t = socket(AF_UNIX, SOCK_STREAM, 0));
	R(bind(t, (void *)&a, 1));
	n = un(&a, "x", 2);
	a.sun_family = AF_INET;
	R(bind(t, (void *)&a, n));
	a.sun_family = AF_UNIX;
	R(bind(t, (void *)&a, 111));
	memset(a.sun_path, 'p', 108);
	R(bind(t, (void *)&a, 110));
	name("long", getsockname, t);
	memset(buf, 'p', 108), buf[108] = 0;
	R(unlink(buf));
	close(t);
	MUST(t = socket(AF_UNIX, SOCK_STREAM, 0));
	R(BA(t, "\0abstract"));
	name("abstract", getsockname, t);
	int u = socket(AF_UNIX, SOCK_STREAM, 0);
	R(BA(u, "\0abstract"));
	R(BA(u, "\0abstract\0"));
	int d = socket(AF_UNIX, SOCK_DGRAM, 0);
	R(BA(d, "\0abstract"));
	close(t), close(u), close(d);
	MUST(t = socket(AF_UNIX, SOCK_STREAM, 0));
	R(BA(t, "\0abstract"));
	close(t);
	close(s);
	R(access("/tmp/sock", F_OK));
	MUST(t = socket(AF_UNIX, SOCK_STREAM, 0));
	R(C(t, "sock"));
	R(C(t, "none"));
	R(C(t, "/dev/null"));
	R(C(t, "/tmp"));
	R(CA(t, "\0none"));
	R(connectto(t, "", 0));
	R(connect(t, (void *)&a, 1));
	R(unlink("sock"));
	close(t);
	say("-- permissions of a path");
	MUST(s = socket(AF_UNIX, SOCK_STREAM, 0));
	B(s, "sock"), listen(s, 5);
	reap("user", FORK({
		setgid(500); setuid(500);
		t = socket(AF_UNIX, SOCK_STREAM, 0);
		R(C(t, "sock"));
	}));
	chmod("sock", 0702);
	reap("user", FORK({
		setgid(500); setuid(500);
		t = socket(AF_UNIX, SOCK_STREAM, 0);
		R(C(t, "sock"));
		R(B(t, "/root/x"));
	}));
	rename("sock", "moved");
	MUST(t = socket(AF_UNIX, SOCK_STREAM, 0));
	R(C(t, "moved"));
	name("peer", getpeername, t);
	unlink("moved");
	close(s), close(t);
	umask(0);
}

static void streams(void)
{
	say("-- stream connections");
	int l, c, s, x;
	MUST(l = socket(AF_UNIX, SOCK_STREAM, 0));
	R(listen(l, 1));
	R(accept(l, NULL, NULL));
	R(BA(l, "\0srv"));
	MUST(c = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
	R(CA(c, "\0srv"));
	R(listen(l, 1));
	R(listen(l, 1));
	R(send(c, "x", 1, MSG_NOSIGNAL));
	R(recv(c, buf, 1, 0));
	R(TO(c, "sock", "x", 1, MSG_NOSIGNAL));
	R(shutdown(c, SHUT_RD));
	R(CA(c, "\0srv"));
	R(CA(c, "\0srv"));
	int d = socket(AF_UNIX, SOCK_DGRAM, 0), q = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	R(CA(d, "\0srv"));
	R(CA(q, "\0srv"));
	close(c);
	accept(l, NULL, NULL);
	int cs[5];
	for (int i = 0; i < 4; i++) {
		cs[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		R(CA(cs[i], "\0srv"));
	}
	int p = FORK({ int b = socket(AF_UNIX, SOCK_STREAM, 0); R(CA(b, "\0srv")); });
	asleep(p);
	MUST(s = accept(l, NULL, NULL));
	reap("waited for room", p);
	name("accepted", getsockname, s);
	name("its peer", getpeername, s);
	name("client", getsockname, cs[0]);
	name("its peer", getpeername, cs[0]);
	R(listen(cs[0], 1));
	R(accept(cs[0], NULL, NULL));
	R(B(cs[0], "late"));
	name("bound late", getsockname, cs[0]);
	name("as the peer sees it", getpeername, s);
	unlink("late");
	R(CA(cs[0], "\0srv"));
	fcntl(l, F_SETFL, O_NONBLOCK);
	R(CA(l, "\0srv"));
	fcntl(l, F_SETFL, 0);
	struct pollfd pf = { l, POLLIN | POLLOUT };
	R(poll(&pf, 1, 0));
	say("%x", pf.revents);
	R(send(l, "x", 1, MSG_NOSIGNAL));
	R(recv(l, buf, 1, MSG_DONTWAIT));
	R(close(l));
	R(recv(cs[1], buf, 1, 0));
	R(recv(cs[1], buf, 1, 0));
	R(send(cs[1], "x", 1, MSG_NOSIGNAL));
	R(send(cs[0], "hello", 5, 0));
	R(send(cs[0], "world", 5, 0));
	R(recv(s, buf, 7, 0));
	R(recv(s, buf, 7, MSG_DONTWAIT));
	R(TO(cs[0], "sock", "x", 1, 0));
	say("-- ends");
	R(send(cs[0], "unread", 6, 0));
	close(s);
	pf = (struct pollfd){ cs[0], POLLIN | POLLOUT | POLLRDHUP };
	R(poll(&pf, 1, 0));
	say("%x", pf.revents);
	int e = 9;
	socklen_t n = sizeof e;
	R(recv(cs[0], buf, 1, 0));
	R(recv(cs[0], buf, 1, 0));
	R(send(cs[0], "x", 1, MSG_NOSIGNAL));
	R(getsockopt(cs[0], SOL_SOCKET, SO_ERROR, &e, &n));
	say("%d", e);
	int v[2];
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, v));
	send(v[0], "last words", 10, 0);
	close(v[0]);
	R(recv(v[1], buf, 100, 0));
	R(recv(v[1], buf, 100, 0));
	handle(SIGPIPE, 0);
	caught = 0;
	R(send(v[1], "x", 1, MSG_NOSIGNAL));
	R(caught);
	R(send(v[1], "x", 1, 0));
	R(caught);
	R(write(v[1], "x", 1));
	R(caught);
	close(v[1]);
	say("-- shutdown");
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, v));
	R(shutdown(v[0], 3));
	send(v[0], "abc", 3, 0);
	R(shutdown(v[0], SHUT_WR));
	R(send(v[0], "x", 1, MSG_NOSIGNAL));
	pf = (struct pollfd){ v[1], POLLIN | POLLOUT | POLLRDHUP };
	R(poll(&pf, 1, 0));
	say("%x", pf.revents);
	R(recv(v[1], buf, 10, 0));
	R(recv(v[1], buf, 10, 0));
	R(send(v[1], "back", 4, MSG_NOSIGNAL));
	R(recv(v[0], buf, 10, 0));
	R(shutdown(v[0], SHUT_RD));
	R(send(v[1], "back", 4, MSG_NOSIGNAL));
	R(recv(v[0], buf, 10, 0));
	pf = (struct pollfd){ v[0], POLLIN | POLLOUT | POLLRDHUP };
	R(poll(&pf, 1, 0));
	say("%x", pf.revents);
	close(v[0]), close(v[1]);
	R(socketpair(AF_UNIX, SOCK_STREAM, 0, (int *)8));
	R(socketpair(AF_UNIX, SOCK_STREAM, 3, v));
	R(socketpair(AF_INET, SOCK_STREAM, 0, v));
	say("-- a listener that ends");
	MUST(l = socket(AF_UNIX, SOCK_STREAM, 0));
	BA(l, "\0srv"), listen(l, 5);
	c = socket(AF_UNIX, SOCK_STREAM, 0);
	CA(c, "\0srv");
	R(shutdown(l, SHUT_RD));
	x = socket(AF_UNIX, SOCK_STREAM, 0);
	R(CA(x, "\0srv"));
	R(accept(l, NULL, NULL) >= 0);
	R(accept(l, NULL, NULL));
	close(l);
	say("-- SOCK_CLOEXEC and SOCK_NONBLOCK");
	R(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, v));
	R(fcntl(v[0], F_GETFD));
	R(fcntl(v[0], F_GETFL) == (O_RDWR | O_NONBLOCK));
	R(recv(v[0], buf, 1, 0));
	close(v[0]), close(v[1]);
}

static void dgrams(void)
{
	say("-- datagrams");
	int a, b, c, n;
	MUST(a = socket(AF_UNIX, SOCK_DGRAM, 0));
	MUST(b = socket(AF_UNIX, SOCK_DGRAM, 0));
	R(listen(a, 1));
	R(accept(a, NULL, NULL));
	R(B(a, "a"));
	R(send(b, "x", 1, 0));
	R(TO(b, "none", "x", 1, 0));
	R(TO(b, "a", "from nobody", 11, 0));
	struct sockaddr_un from;
	socklen_t l = sizeof from;
	R(recvfrom(a, buf, 100, 0, (void *)&from, &l));
	R(l);
	B(b, "b");
	TO(b, "a", "from b", 6, 0);
	l = sizeof from;
	R(recvfrom(a, buf, 3, MSG_TRUNC, (void *)&from, &l));
	say("%u %s", l, from.sun_path);
	TO(b, "a", "from b", 6, 0);
	R(recv(a, buf, 3, 0));
	R(recv(a, buf, 3, MSG_DONTWAIT));
	TO(b, "a", "", 0, 0);
	R(recv(a, buf, 3, MSG_DONTWAIT));
	R(TO(b, "a", buf, 300000, 0));
	R(C(b, "a"));
	R(C(b, "none"));
	name("peer", getpeername, b);
	R(send(b, "x", 1, 0));
	R(recv(a, buf, 10, 0));
	/* a may send to nobody but who is connected to it, or to all if it is not connected */
	R(C(a, "b"));
	MUST(c = socket(AF_UNIX, SOCK_DGRAM, 0));
	R(TO(c, "a", "x", 1, 0));
	R(C(c, "a"));
	R(connect(a, (void *)&(struct sockaddr){ AF_UNSPEC }, sizeof(struct sockaddr)));
	name("peer", getpeername, a);
	R(C(c, "a"));
	for (n = 0; send(c, "x", 1, MSG_DONTWAIT) == 1 && n < 1000; n++)
		;
	say("%d datagrams fit: %s", n, errname(errno));
	struct pollfd pf = { c, POLLOUT };
	R(poll(&pf, 1, 0));
	int p = FORK(_exit(send(c, "y", 1, 0)));
	asleep(p);
	R(recv(a, buf, 1, 0));
	reap("waited for room", p);
	/* what the receiver leaves when it ends */
	close(a);
	R(send(c, "x", 1, 0));
	R(send(c, "x", 1, 0));
	name("peer", getpeername, c);
	unlink("a"), unlink("b");
	close(b), close(c);
	int v[2];
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, v));
	send(v[0], "1", 1, 0), send(v[0], "22", 2, 0);
	R(ioctl(v[1], FIONREAD, &n));
	R(n);
	shutdown(v[0], SHUT_WR);
	R(send(v[0], "x", 1, MSG_NOSIGNAL));
	R(recv(v[1], buf, 10, 0));
	R(recv(v[1], buf, 10, 0));
	R(recv(v[1], buf, 10, MSG_DONTWAIT));
	R(shutdown(v[1], SHUT_RD));
	R(recv(v[1], buf, 10, MSG_DONTWAIT));
	close(v[1]);
	R(recv(v[0], buf, 10, MSG_DONTWAIT));
	close(v[0]);
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, v));
	shutdown(v[1], SHUT_RD);
	R(send(v[0], "x", 1, MSG_NOSIGNAL));
	close(v[1]);
	R(send(v[0], "x", 1, MSG_NOSIGNAL));
	R(send(v[0], "x", 1, MSG_NOSIGNAL));
	close(v[0]);
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, v));
	send(v[0], "unread", 6, 0);
	close(v[1]);
	pf = (struct pollfd){ v[0], POLLIN | POLLOUT };
	R(poll(&pf, 1, 0));
	say("%x", pf.revents);
	R(recv(v[0], buf, 10, MSG_DONTWAIT));
	R(send(v[0], "x", 1, 0));
	close(v[0]);
}

static void seqpackets(void)
{
	say("-- SOCK_SEQPACKET");
	int v[2], n;
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, v));
	struct msghdr m = { 0 };
	struct iovec io = { buf, 4 };
	m.msg_iov = &io, m.msg_iovlen = 1;
	R(send(v[0], "first", 5, 0));
	R(send(v[0], "2nd", 3, 0));
	R(send(v[0], "", 0, 0));
	R(ioctl(v[1], FIONREAD, &n));
	R(n);
	R(recvmsg(v[1], &m, 0));
	say("flags %x", m.msg_flags);
	R(recvmsg(v[1], &m, MSG_TRUNC));
	say("flags %x", m.msg_flags);
	R(recvmsg(v[1], &m, 0));
	R(recvmsg(v[1], &m, MSG_DONTWAIT));
	R(send(v[0], buf, 250000, 0));
	R(TO(v[0], "x", "x", 1, 0));
	int l = socket(AF_UNIX, SOCK_SEQPACKET, 0), c = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	BA(l, "\0seq"), listen(l, 1);
	R(recv(c, buf, 1, MSG_DONTWAIT));
	R(send(c, "x", 1, MSG_NOSIGNAL));
	R(CA(c, "\0seq"));
	int s = accept(l, NULL, NULL);
	R(send(c, "x", 1, 0));
	close(c);
	R(recv(s, buf, 10, 0));
	R(recv(s, buf, 10, 0));
	R(send(s, "x", 1, MSG_NOSIGNAL));
	close(s), close(l);
	send(v[0], "unread", 6, 0);
	close(v[1]);
	R(recv(v[0], buf, 10, 0));
	R(recv(v[0], buf, 10, 0));
	R(send(v[0], "x", 1, MSG_NOSIGNAL));
	close(v[0]);
}

static void peeks(void)
{
	say("-- MSG_PEEK and SO_PEEK_OFF");
	int v[2], off;
	socklen_t n = sizeof off;
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, v));
	send(v[0], "abcdef", 6, 0), send(v[0], "ghij", 4, 0);
#define SHOW(call) do { memset(buf, 0, 32); errno = 0; long r_ = call; say("%s = %ld %s %s", #call, r_, r_ < 0 ? errname(errno) : "", buf); } while (0)
	SHOW(recv(v[1], buf, 4, MSG_PEEK | MSG_DONTWAIT));
	SHOW(recv(v[1], buf, 20, MSG_PEEK | MSG_DONTWAIT));
	R(getsockopt(v[1], SOL_SOCKET, SO_PEEK_OFF, &off, &n));
	R(off);
	off = 2;
	R(setsockopt(v[1], SOL_SOCKET, SO_PEEK_OFF, &off, sizeof off));
	SHOW(recv(v[1], buf, 3, MSG_PEEK | MSG_DONTWAIT));
	SHOW(recv(v[1], buf, 3, MSG_PEEK | MSG_DONTWAIT));
	R(getsockopt(v[1], SOL_SOCKET, SO_PEEK_OFF, &off, &n));
	R(off);
	SHOW(recv(v[1], buf, 3, 0));
	R(getsockopt(v[1], SOL_SOCKET, SO_PEEK_OFF, &off, &n));
	R(off);
	SHOW(recv(v[1], buf, 20, MSG_PEEK | MSG_DONTWAIT));
	SHOW(recv(v[1], buf, 20, MSG_PEEK | MSG_DONTWAIT));
	SHOW(recv(v[1], buf, 20, 0));
	off = -1;
	R(setsockopt(v[1], SOL_SOCKET, SO_PEEK_OFF, &off, sizeof off));
	off = -2;
	R(setsockopt(v[1], SOL_SOCKET, SO_PEEK_OFF, &off, sizeof off));
	close(v[0]), close(v[1]);
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, v));
	send(v[0], "abcdef", 6, 0), send(v[0], "ghij", 4, 0);
	SHOW(recv(v[1], buf, 4, MSG_PEEK | MSG_DONTWAIT));
	SHOW(recv(v[1], buf, 4, MSG_PEEK | MSG_TRUNC));
	off = 2;
	R(setsockopt(v[1], SOL_SOCKET, SO_PEEK_OFF, &off, sizeof off));
	SHOW(recv(v[1], buf, 10, MSG_PEEK | MSG_DONTWAIT));
	SHOW(recv(v[1], buf, 10, MSG_PEEK | MSG_DONTWAIT));
	SHOW(recv(v[1], buf, 10, MSG_DONTWAIT));
	SHOW(recv(v[1], buf, 10, MSG_PEEK | MSG_DONTWAIT));
	SHOW(recv(v[1], buf, 10, MSG_DONTWAIT));
	close(v[0]), close(v[1]);
	say("-- MSG_WAITALL");
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, v));
	int p = FORK({ SHOW(recv(v[1], buf, 6, MSG_WAITALL)); });
	asleep(p);
	send(v[0], "abc", 3, 0);
	ms(30);
	send(v[0], "def", 3, 0);
	reap("waitall", p);
	send(v[0], "abc", 3, 0);
	close(v[0]);
	SHOW(recv(v[1], buf, 6, MSG_WAITALL));
	close(v[1]);
}

static void oob(void)
{
	say("-- MSG_OOB");
	int v[2], mark, p;
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, v));
	R(recv(v[1], buf, 1, MSG_OOB));
	R(send(v[0], "", 0, MSG_OOB));
	send(v[0], "abc", 3, 0);
	R(send(v[0], "x", 1, MSG_OOB));
	struct pollfd pf = { v[1], POLLIN | POLLPRI };
	R(poll(&pf, 1, 0));
	say("%x", pf.revents);
	R(ioctl(v[1], SIOCATMARK, &mark));
	R(mark);
	SHOW(recv(v[1], buf, 1, MSG_OOB | MSG_PEEK));
	SHOW(recv(v[1], buf, 10, 0));
	R(ioctl(v[1], SIOCATMARK, &mark));
	R(mark);
	SHOW(recv(v[1], buf, 1, MSG_OOB));
	SHOW(recv(v[1], buf, 1, MSG_OOB));
	SHOW(recv(v[1], buf, 1, 0));
	/* the last byte of several is the urgent one */
	R(send(v[0], "defg", 4, MSG_OOB));
	SHOW(recv(v[1], buf, 10, MSG_OOB));
	SHOW(recv(v[1], buf, 10, 0));
	/* not taken: it is lost once what follows is read */
	send(v[0], "1", 1, 0), send(v[0], "2", 1, MSG_OOB), send(v[0], "3", 1, 0);
	SHOW(recv(v[1], buf, 10, 0));
	SHOW(recv(v[1], buf, 10, 0));
	SHOW(recv(v[1], buf, 10, 0));
	SHOW(recv(v[1], buf, 10, MSG_OOB));
	/* a second one takes the place of the first */
	send(v[0], "1", 1, MSG_OOB), send(v[0], "2", 1, MSG_OOB);
	SHOW(recv(v[1], buf, 10, MSG_OOB));
	SHOW(recv(v[1], buf, 10, 0));
	int on = 1;
	R(setsockopt(v[1], SOL_SOCKET, SO_OOBINLINE, &on, sizeof on));
	send(v[0], "a", 1, 0), send(v[0], "b", 1, MSG_OOB), send(v[0], "c", 1, 0);
	SHOW(recv(v[1], buf, 10, MSG_OOB));
	SHOW(recv(v[1], buf, 10, 0));
	SHOW(recv(v[1], buf, 10, 0));
	close(v[0]), close(v[1]);
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, v));
	R(send(v[0], "x", 1, MSG_OOB));
	R(recv(v[1], buf, 1, MSG_OOB | MSG_DONTWAIT));
	close(v[0]), close(v[1]);
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, v));
	R(send(v[0], "x", 1, MSG_OOB));
	R(recv(v[1], buf, 1, MSG_OOB | MSG_DONTWAIT));
	close(v[0]), close(v[1]);
}

static void sizes(void)
{
	say("-- buffers");
	int v[2], n, k;
	socklen_t l = sizeof n;
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, v));
	R(ioctl(v[0], SIOCOUTQ, &n));
	R(n);
	R(ioctl(v[0], SIOCINQ, &n));
	R(n);
	send(v[0], "hello", 5, 0);
	R(ioctl(v[1], SIOCINQ, &n));
	R(n);
	R(ioctl(v[0], SIOCOUTQ, &n));
	IS(n >= 5);
	recv(v[1], buf, 10, 0);
	R(ioctl(v[0], SIOCOUTQ, &n));
	R(n);
	R(getsockopt(v[0], SOL_SOCKET, SO_SNDBUF, &n, &l));
	R(n);
	n = 10000;
	R(setsockopt(v[0], SOL_SOCKET, SO_SNDBUF, &n, sizeof n));
	R(getsockopt(v[0], SOL_SOCKET, SO_SNDBUF, &n, &l));
	R(n);
	n = 1;
	R(setsockopt(v[0], SOL_SOCKET, SO_SNDBUF, &n, sizeof n));
	R(getsockopt(v[0], SOL_SOCKET, SO_SNDBUF, &n, &l));
	R(n);
	n = 10000000;
	R(setsockopt(v[0], SOL_SOCKET, SO_SNDBUF, &n, sizeof n));
	R(getsockopt(v[0], SOL_SOCKET, SO_SNDBUF, &n, &l));
	R(n);
	n = 200000;
	R(setsockopt(v[0], SOL_SOCKET, SO_SNDBUFFORCE, &n, sizeof n));
	R(getsockopt(v[0], SOL_SOCKET, SO_SNDBUF, &n, &l));
	R(n);
	struct pollfd pf = { v[0], POLLOUT };
	for (k = 0; (n = send(v[0], buf, 1000, 0)) == 1000 && k < 10000; k++)
		;
	IS(k > 10);
	R(poll(&pf, 1, 0));
	while (recv(v[1], buf, sizeof buf, 0) > 0)
		;
	R(poll(&pf, 1, 0));
	fcntl(v[0], F_SETFL, 0);
	int p = FORK(_exit(send(v[0], buf, 300000, 0) == 300000));
	for (k = 0; k < 300000;) {
		n = recv(v[1], buf, 10000, 0);
		if (n > 0)
			k += n;
		else
			ms(1);
	}
	reap("sent all", p);
	handle(SIGUSR1, 0);
	p = FORK({ n = send(v[0], buf, 3000000, 0); _exit(n > 0 && n < 3000000); });
	asleep(p);
	kill(p, SIGUSR1);
	reap("interrupted in the middle", p);
	p = FORK(R(send(v[0], buf, 10, 0)));
	asleep(p);
	kill(p, SIGUSR1);
	reap("interrupted", p);
	p = FORK(send(v[0], buf, 10, 0));
	killed("killed sender", p);
	close(v[0]), close(v[1]);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, v));
	p = FORK(R(recv(v[0], buf, 10, 0)));
	asleep(p);
	kill(p, SIGUSR1);
	reap("interrupted", p);
	p = FORK(recv(v[0], buf, 10, 0));
	killed("killed receiver", p);
	struct timeval tv = { 0, 30000 };
	setsockopt(v[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	R(recv(v[0], buf, 10, 0));
	close(v[0]), close(v[1]);
}

static void options(void)
{
	say("-- options");
	int v[2], n;
	socklen_t l;
	struct ucred u;
	gid_t g[8] = { 9, 9, 9, 9, 9, 9, 9, 9 };
	gid_t mine[3] = { 7, 8, 9 };
	R(setgroups(3, mine));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, v));
	l = sizeof u;
	R(getsockopt(v[0], SOL_SOCKET, SO_PEERCRED, &u, &l));
	IS(u.pid == getpid() && u.uid == 0 && u.gid == 0 && l == 12);
	l = sizeof g;
	R(getsockopt(v[0], SOL_SOCKET, 59 /* SO_PEERGROUPS */, g, &l));
	say("%u: %d %d %d", l, g[0], g[1], g[2]);
	l = 4;
	R(getsockopt(v[0], SOL_SOCKET, 59, g, &l));
	R(l);
	l = sizeof g;
	R(getsockopt(v[0], SOL_SOCKET, 77 /* SO_PEERPIDFD */, g, &l));
	R(getsockopt(v[0], SOL_SOCKET, SO_PEERSEC, buf, &l));
	static const int opts[] = { SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ACCEPTCONN, SO_PASSCRED, SO_REUSEADDR, SO_KEEPALIVE, SO_BROADCAST,
		SO_RCVBUF, SO_RCVLOWAT, SO_SNDLOWAT, SO_ERROR, SO_PASSSEC, SO_TIMESTAMP, SO_PRIORITY, SO_MARK, SO_BINDTODEVICE };
	for (int i = 0; i < sizeof opts / sizeof *opts; i++) {
		l = sizeof n, n = -7;
		errno = 0;
		int r = getsockopt(v[0], SOL_SOCKET, opts[i], &n, &l);
		say("option %d: %d %s %d", opts[i], r, r ? errname(errno) : "", n);
	}
	n = 1;
	R(setsockopt(v[0], SOL_SOCKET, SO_PASSCRED, &n, sizeof n));
	R(setsockopt(v[0], SOL_SOCKET, SO_PASSSEC, &n, sizeof n));
	l = sizeof n;
	R(getsockopt(v[0], SOL_SOCKET, SO_PASSSEC, &n, &l));
	R(n);
	R(setsockopt(v[0], SOL_SOCKET, SO_REUSEADDR, &n, sizeof n));
	R(setsockopt(v[0], SOL_SOCKET, SO_REUSEPORT, &n, sizeof n));
	R(setsockopt(v[0], SOL_SOCKET, SO_PEERCRED, &u, sizeof u));
	R(setsockopt(v[0], SOL_SOCKET, 9999, &n, sizeof n));
	R(setsockopt(v[0], 6, 1, &n, sizeof n));
	R(getsockopt(v[0], 6, 1, &n, &l));
	close(v[0]), close(v[1]);
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	l = sizeof u;
	R(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &u, &l));
	say("%d %d %d", u.pid, u.uid, u.gid);
	l = sizeof g;
	R(getsockopt(s, SOL_SOCKET, 59, g, &l));
	close(s);
	/* SO_PEERCRED is of the time of connect and listen */
	int lis = socket(AF_UNIX, SOCK_STREAM, 0);
	BA(lis, "\0cred"), listen(lis, 1);
	int p = FORK({
		setgid(500); setuid(500);
		int c = socket(AF_UNIX, SOCK_STREAM, 0);
		CA(c, "\0cred");
		l = sizeof u;
		getsockopt(c, SOL_SOCKET, SO_PEERCRED, &u, &l);
		say("listener %d %d %d", u.pid == getppid(), u.uid, u.gid);
		recv(c, buf, 1, 0);
	});
	s = accept(lis, NULL, NULL);
	l = sizeof u;
	getsockopt(s, SOL_SOCKET, SO_PEERCRED, &u, &l);
	ms(50);
	say("client %d %d %d", u.pid == p, u.uid, u.gid);
	close(s), close(lis);
	reap("client", p);
}

static int mine(int line, char *l, char *kind)
{
	return strstr(l, kind) != NULL;
}

static void proc(void)
{
	say("-- /proc/net/unix");
	int l = socket(AF_UNIX, SOCK_STREAM, 0), d = socket(AF_UNIX, SOCK_DGRAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
	BA(l, "\0listed"), listen(l, 3), B(d, "/tmp/listed");
	CA(c, "\0listed");
	int fd = open("/proc/net/unix", O_RDONLY), n = 0, k;
	while ((k = read(fd, buf + n, 10000)) > 0)
		n += k;
	buf[n] = 0;
	close(fd);
	char *e, lines[8][100];
	int found = 0;
	for (char *p = buf; *p; p = e + 1) {
		e = strchr(p, '\n');
		*e = 0;
		if (p == buf)
			say("%s", p);
		unsigned refs, proto, flags, type, st;
		unsigned long ino;
		char path[200] = "";
		if (strstr(p, "listed") && sscanf(p, "%*[^:]: %x %x %x %x %x %lu %199s", &refs, &proto, &flags, &type, &st, &ino, path) == 7)
			snprintf(lines[found++ & 7], 100, "%x %x %x %x %x %d %s", refs, proto, flags, type, st, ino > 0, path);
	}
	qsort(lines, found, sizeof *lines, (void *)strcmp);
	for (n = 0; n < found; n++)
		say("%s", lines[n]);
	close(l), close(d), close(c);
	unlink("/tmp/listed");
}

static void multi(void)
{
	say("-- sendmmsg and recvmmsg");
	int v[2];
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, v));
	struct mmsghdr m[3];
	struct iovec io[3] = { { "one", 3 }, { "two!", 4 }, { "three", 5 } };
	memset(m, 0, sizeof m);
	for (int i = 0; i < 3; i++)
		m[i].msg_hdr.msg_iov = io + i, m[i].msg_hdr.msg_iovlen = 1;
	R(sendmmsg(v[0], m, 3, 0));
	say("%u %u %u", m[0].msg_len, m[1].msg_len, m[2].msg_len);
	char b[3][4];
	for (int i = 0; i < 3; i++)
		io[i] = (struct iovec){ b[i], 4 };
	R(recvmmsg(v[1], m, 3, MSG_WAITFORONE, NULL));
	say("%u %u %u flags %x %x %x", m[0].msg_len, m[1].msg_len, m[2].msg_len, m[0].msg_hdr.msg_flags, m[1].msg_hdr.msg_flags, m[2].msg_hdr.msg_flags);
	R(recvmmsg(v[1], m, 3, MSG_DONTWAIT, NULL));
	R(sendmmsg(v[0], m, 0, 0));
	close(v[0]), close(v[1]);
}

int main(void)
{
	alarm(50); /* nothing here takes long: no check may hang */
	names();
	streams();
	dgrams();
	seqpackets();
	peeks();
	oob();
	sizes();
	options();
	multi();
	proc();
	return 0;
}
