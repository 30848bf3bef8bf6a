/* AF_VSOCK (vsock(7)): making, naming, connecting and ending, over the loopback. */
#include "vsock.h"
#include <linux/capability.h>
#include <sys/epoll.h>

CASE(make, socket, socketpair)
{
	int fd[2];
	R(socket(AF_VSOCK, SOCK_STREAM, AF_VSOCK) > 2);
	R(socket(AF_VSOCK, SOCK_SEQPACKET, 0) > 2);
	R(socket(AF_VSOCK, SOCK_STREAM, 1));
	R(socket(AF_VSOCK, SOCK_RAW, 0));
	R(socket(AF_VSOCK, SOCK_RDM, 0));
	R(socket(AF_VSOCK, SOCK_DGRAM, 0));
	R(socket(AF_VSOCK, SOCK_DGRAM, 1));
	R(socket(AF_VSOCK, 11, 0));
	R(socketpair(AF_VSOCK, SOCK_STREAM, 0, fd));
	R(socketpair(AF_VSOCK, SOCK_DGRAM, 0, fd));
	int s = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	IS(fcntl(s, F_GETFL) == (O_RDWR | O_NONBLOCK));
	IS(fcntl(s, F_GETFD) == FD_CLOEXEC);
	GET(s, SOL_SOCKET, SO_DOMAIN);
	GET(s, SOL_SOCKET, SO_TYPE);
	GET(s, SOL_SOCKET, SO_PROTOCOL);
	GET(s, SOL_SOCKET, SO_ACCEPTCONN);
	GET(s, SOL_SOCKET, SO_ERROR);
	GET(s, SOL_SOCKET, SO_RCVBUF);
	GET(s, SOL_SOCKET, SO_SNDBUF);
	s = socket(AF_VSOCK, SOCK_STREAM, AF_VSOCK);
	GET(s, SOL_SOCKET, SO_PROTOCOL);
}

static void name_of(const char *what, int r, struct sockaddr_vm *a, socklen_t n)
{
	if (r < 0)
		say("%s: %s", what, errname(errno));
	else
		say("%s: family %d cid %d port %s flags %d, %u bytes", what, a->svm_family, (int)a->svm_cid,
		    a->svm_port == VMADDR_PORT_ANY ? "any" : a->svm_port < 1024 ? "low" : "some", a->svm_flags, n);
}
#define NAME(s) ({ struct sockaddr_vm a_ = vm(7, 7); socklen_t n_ = sizeof a_; int r_ = getsockname(s, (void *)&a_, &n_); name_of("getsockname " #s, r_, &a_, n_); })
#define PEER(s) ({ struct sockaddr_vm a_ = vm(7, 7); socklen_t n_ = sizeof a_; int r_ = getpeername(s, (void *)&a_, &n_); name_of("getpeername " #s, r_, &a_, n_); })

CASE(bind, bind, getsockname)
{
	int s = socket(AF_VSOCK, SOCK_STREAM, 0), t = socket(AF_VSOCK, SOCK_STREAM, 0), u = socket(AF_VSOCK, SOCK_SEQPACKET, 0);
	NAME(s);
	struct sockaddr_vm a = vm(VMADDR_CID_LOCAL, 5000);
	R(bind(s, (void *)&a, sizeof a - 1));
	R(bind(s, (void *)&a, 0));
	R(bind(s, (void *)1, sizeof a));
	a.svm_family = AF_INET;
	R(bind(s, SA(a)));
	a.svm_family = AF_VSOCK;
	a.svm_flags = 2;
	R(bind(s, SA(a)));
	a = vm(VMADDR_CID_HOST, 5000);
	R(bind(s, SA(a)));
	a = vm(VMADDR_CID_HYPERVISOR, 5000);
	R(bind(s, SA(a)));
	a = vm(77, 5000);
	R(bind(s, SA(a)));
	a = vm(VMADDR_CID_LOCAL, 5000);
	R(bind(s, SA(a)));
	NAME(s);
	R(bind(s, SA(a)));
	R(bind(t, SA(a)));
	R(bind(u, SA(a))); /* both kinds share the ports */
	a.svm_cid = VMADDR_CID_ANY;
	R(bind(t, SA(a)));
	a.svm_port = VMADDR_PORT_ANY;
	R(bind(t, SA(a)));
	NAME(t);
	a = vm(VMADDR_CID_LOCAL, VMADDR_PORT_ANY);
	a.svm_flags = VMADDR_FLAG_TO_HOST;
	a.svm_reserved1 = 9;
	R(bind(u, SA(a)));
	NAME(u);
	IS(vmport(u) == vmport(t) + 1);
	close(s);
	s = socket(AF_VSOCK, SOCK_STREAM, 0);
	a = vm(VMADDR_CID_ANY, 5000);
	R(bind(s, SA(a)));
	PEER(s);
}

CASE(privileged, bind)
{
	int s = socket(AF_VSOCK, SOCK_STREAM, 0), t = socket(AF_VSOCK, SOCK_STREAM, 0);
	struct sockaddr_vm a = vm(VMADDR_CID_ANY, 1023);
	R(bind(s, SA(a)));
	if (fork() == 0) {
		MUST(setresuid(1000, 1000, 1000));
		R(bind(t, SA(a)));
		a.svm_port = 0;
		R(bind(t, SA(a)));
		a.svm_port = 1024;
		R(bind(t, SA(a)));
		exit(0);
	}
	wait(0);
	NAME(s);
	s = socket(AF_VSOCK, SOCK_STREAM, 0);
	a.svm_port = 0;
	R(bind(s, SA(a)));
	NAME(s);
}

CASE(listen, listen, accept, accept4)
{
	int s = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK, 0);
	R(listen(s, 1));
	R(accept(s, 0, 0));
	R(shutdown(s, SHUT_RDWR));
	struct sockaddr_vm a = vm(VMADDR_CID_ANY, VMADDR_PORT_ANY), from;
	MUST(bind(s, SA(a)));
	R(accept(s, 0, 0));
	say("%#x", now(s));
	R(listen(s, 1));
	R(listen(s, 0));
	say("%#x", now(s));
	GET(s, SOL_SOCKET, SO_ACCEPTCONN);
	R(accept(s, 0, 0));
	R(shutdown(s, SHUT_RD));
	a = vm(VMADDR_CID_LOCAL, vmport(s));
	R(connect(s, SA(a)));
	R(recv(s, buf, 1, 0));
	R(send(s, buf, 1, 0));
	int c = socket(AF_VSOCK, SOCK_STREAM, 0);
	R(connect(c, SA(a)));
	say("%#x", until(s, POLLIN));
	socklen_t n = sizeof from;
	int p = accept4(s, (void *)&from, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
	IS(p > 2);
	name_of("accept4", 0, &from, n);
	IS(from.svm_port == vmport(c));
	IS(fcntl(p, F_GETFL) == (O_RDWR | O_NONBLOCK));
	NAME(p);
	PEER(p);
	NAME(c);
	PEER(c);
	R(connect(c, SA(a)));
	R(listen(c, 1));
	R(listen(p, 1));
	R(accept(c, 0, 0));
	R(bind(c, SA(a)));
	R(bind(p, SA(a)));
	IS(vmport(p) == vmport(s));
}

CASE(connect, connect, accept, getsockname, getpeername)
{
	int l = vlisten(SOCK_STREAM, VMADDR_CID_ANY, 8), c = socket(AF_VSOCK, SOCK_STREAM, 0);
	struct sockaddr_vm a = vm(VMADDR_CID_LOCAL, vmport(l)), none = vm(VMADDR_CID_LOCAL, 4999);
	R(connect(c, (void *)&a, sizeof a - 1));
	R(connect(c, (void *)1, sizeof a));
	a.svm_family = AF_UNSPEC;
	R(connect(c, SA(a)));
	a.svm_family = AF_VSOCK;
	a.svm_flags = 4;
	R(connect(c, SA(a)));
	PEER(c);
	static const unsigned cids[] = { VMADDR_CID_HYPERVISOR, 3, 77, VMADDR_CID_ANY };
	for (int i = 0; i < 4; i++) {
		a = vm(cids[i], vmport(l));
		R(connect(c, SA(a)));
	}
	NAME(c);
	/* without a host, the host is the machine itself */
	a = vm(VMADDR_CID_HOST, vmport(l));
	R(connect(c, SA(a)));
	NAME(c);
	PEER(c);
	int p = accept(l, 0, 0);
	NAME(p);
	PEER(p);
	R(send(c, "host", 4, 0));
	R(recv(p, buf, 9, 0));
	R(send(p, "back", 4, 0));
	R(recv(c, buf, 9, 0));
	NAME(c);
	NAME(p);
	close(c);
	c = socket(AF_VSOCK, SOCK_STREAM, 0);
	R(connect(c, SA(none)));
	say("%#x", now(c));
	NAME(c);
	PEER(c);
	R(connect(c, SA(none)));
	GET(c, SOL_SOCKET, SO_ERROR);
	GET(c, SOL_SOCKET, SO_ERROR);
	a = vm(VMADDR_CID_LOCAL, vmport(l));
	R(connect(c, SA(a)));
	PEER(c);
	R(connect(c, SA(none)));
}

CASE(stale, connect)
{
	int l = vlisten(SOCK_STREAM, VMADDR_CID_ANY, 8), c = socket(AF_VSOCK, SOCK_STREAM, 0);
	struct sockaddr_vm a = vm(VMADDR_CID_LOCAL, vmport(l)), none = vm(VMADDR_CID_LOCAL, 4998);
	R(connect(c, SA(none)));
	R(connect(c, SA(a))); /* whatever was found wrong before */
	PEER(c);
	GET(c, SOL_SOCKET, SO_ERROR);
	R(send(c, "a", 1, 0));
}

CASE(nonblocking, connect)
{
	int l = vlisten(SOCK_STREAM, VMADDR_CID_ANY, 8), c = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct sockaddr_vm a = vm(VMADDR_CID_LOCAL, vmport(l)), none = vm(VMADDR_CID_LOCAL, 4997);
	say("%#x", now(c));
	R(connect(c, SA(a)));
	say("%#x", until(c, POLLOUT));
	R(connect(c, SA(a)));
	GET(c, SOL_SOCKET, SO_ERROR);
	int p = accept(l, 0, 0);
	R(send(p, "x", 1, 0));
	say("%#x", until(c, POLLIN));
	R(recv(c, buf, 2, 0));
	R(recv(c, buf, 2, 0));
	c = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK, 0);
	R(connect(c, SA(none)));
	say("%#x", until(c, POLLERR));
	R(connect(c, SA(none)));
	R(recv(c, buf, 1, 0));
	R(send(c, buf, 1, MSG_NOSIGNAL));
	GET(c, SOL_SOCKET, SO_ERROR);
	say("%#x", now(c));
	R(connect(c, SA(a)));
}

CASE(kinds, connect)
{
	int l = vlisten(SOCK_STREAM, VMADDR_CID_LOCAL, 8), q = vlisten(SOCK_SEQPACKET, VMADDR_CID_LOCAL, 8);
	struct sockaddr_vm a = vm(VMADDR_CID_LOCAL, vmport(l)), b = vm(VMADDR_CID_LOCAL, vmport(q));
	R(connect(socket(AF_VSOCK, SOCK_SEQPACKET, 0), SA(a)));
	R(connect(socket(AF_VSOCK, SOCK_STREAM, 0), SA(b)));
	R(connect(socket(AF_VSOCK, SOCK_SEQPACKET, 0), SA(b)));
	R(connect(socket(AF_VSOCK, SOCK_STREAM, 0), SA(a)));
	a.svm_cid = VMADDR_CID_HOST; /* not what it is bound to */
	R(connect(socket(AF_VSOCK, SOCK_STREAM, 0), SA(a)));
	/* to itself */
	int s = socket(AF_VSOCK, SOCK_STREAM, 0);
	a = vm(VMADDR_CID_LOCAL, VMADDR_PORT_ANY);
	MUST(bind(s, SA(a)));
	a.svm_port = vmport(s);
	R(connect(s, SA(a)));
	NAME(s);
}

CASE(backlog, listen, connect)
{
	int l = vlisten(SOCK_STREAM, VMADDR_CID_ANY, 1);
	struct sockaddr_vm a = vm(VMADDR_CID_LOCAL, vmport(l));
	for (int i = 0; i < 4; i++)
		R(connect(socket(AF_VSOCK, SOCK_STREAM, 0), SA(a)));
	R(accept(l, 0, 0) > 2);
	R(connect(socket(AF_VSOCK, SOCK_STREAM, 0), SA(a)));
	R(listen(l, 3));
	R(connect(socket(AF_VSOCK, SOCK_STREAM, 0), SA(a)));
}

CASE(unaccepted, accept, close)
{
	int l = vlisten(SOCK_STREAM, VMADDR_CID_ANY, 8), c = socket(AF_VSOCK, SOCK_STREAM, 0);
	struct sockaddr_vm a = vm(VMADDR_CID_LOCAL, vmport(l));
	MUST(connect(c, SA(a)));
	R(send(c, "early", 5, 0));
	int p = accept(l, 0, 0);
	R(recv(p, buf, 9, 0));
	int d = socket(AF_VSOCK, SOCK_STREAM, 0);
	MUST(connect(d, SA(a)));
	close(l);
	say("%#x", until(d, POLLRDHUP));
	R(recv(d, buf, 1, 0));
	R(send(d, buf, 1, MSG_NOSIGNAL));
	R(connect(socket(AF_VSOCK, SOCK_STREAM, 0), SA(a)));
	R(send(c, "still", 5, 0));
	R(recv(p, buf, 9, 0));
}

CASE(shutdown, shutdown)
{
	int p[2];
	R(shutdown(socket(AF_VSOCK, SOCK_STREAM, 0), SHUT_RDWR));
	vpair(SOCK_STREAM, p);
	R(shutdown(p[0], 3));
	R(shutdown(p[0], -1));
	say("%#x %#x", now(p[0]), now(p[1]));
	R(send(p[0], "last", 4, 0));
	R(shutdown(p[0], SHUT_WR));
	say("%#x", now(p[0]));
	R(send(p[0], buf, 1, 0));
	R(send(p[0], buf, 1, MSG_NOSIGNAL));
	PEER(p[0]);
	NAME(p[0]);
	PEER(p[1]);
	struct sockaddr_vm a = vm(VMADDR_CID_LOCAL, 4996);
	R(connect(p[0], SA(a)));
	R(listen(p[0], 1));
	say("%#x", until(p[1], POLLRDHUP));
	R(recv(p[1], buf, 9, 0));
	R(recv(p[1], buf, 9, 0));
	R(send(p[1], "answer", 6, 0));
	R(recv(p[0], buf, 9, 0));
	R(shutdown(p[0], SHUT_WR));
	R(shutdown(p[1], SHUT_WR));
	say("%#x", until(p[0], POLLHUP));
	R(recv(p[0], buf, 9, 0));
	R(shutdown(p[0], SHUT_RD));
	say("%#x", now(p[0]));

	vpair(SOCK_STREAM, p);
	R(shutdown(p[0], SHUT_RD));
	say("%#x", now(p[0]));
	R(recv(p[0], buf, 9, 0));
	settle();
	say("%#x", now(p[1]));
	R(send(p[1], buf, 1, MSG_NOSIGNAL));
	R(send(p[0], "one way", 7, 0));
	R(recv(p[1], buf, 9, 0));

	vpair(SOCK_STREAM, p);
	R(shutdown(p[0], SHUT_RDWR));
	say("%#x", until(p[1], POLLRDHUP));
	settle();
	say("%#x %#x", now(p[0]), now(p[1]));
	R(recv(p[1], buf, 1, 0));
	R(recv(p[0], buf, 1, 0));
	R(send(p[1], buf, 1, MSG_NOSIGNAL));
	R(send(p[0], buf, 1, MSG_NOSIGNAL));
	PEER(p[1]);
	R(shutdown(p[1], SHUT_RDWR));
	settle();
	R(recv(p[1], buf, 1, 0));
	PEER(p[1]);
}

CASE(close, close, recvfrom, sendto)
{
	int p[2];
	vpair(SOCK_STREAM, p);
	R(send(p[0], "rest", 4, 0));
	R(send(p[1], "unread", 6, 0));
	settle();
	close(p[0]);
	say("%#x", until(p[1], POLLRDHUP));
	R(send(p[1], buf, 1, MSG_NOSIGNAL));
	R(recv(p[1], buf, 9, 0));
	R(recv(p[1], buf, 9, 0));
	GET(p[1], SOL_SOCKET, SO_ERROR);
	PEER(p[1]);
	say("%#x", now(p[1]));
	close(p[1]);
	vpair(SOCK_SEQPACKET, p);
	close(p[1]);
	say("%#x", until(p[0], POLLRDHUP));
	R(recv(p[0], buf, 9, 0));
	R(send(p[0], buf, 1, MSG_NOSIGNAL));
}

static volatile int piped;
static void on_pipe(int s) { (void)s; piped++; }

CASE(sigpipe, sendto, write, sendmsg)
{
	int p[2];
	signal(SIGPIPE, on_pipe);
	for (int i = 0; i < 2; i++) {
		vpair(i ? SOCK_SEQPACKET : SOCK_STREAM, p);
		close(p[1]);
		until(p[0], POLLRDHUP);
		R(send(p[0], "a", 1, 0));
		R(piped);
		R(write(p[0], "a", 1));
		R(piped);
		struct iovec io = { buf, 1 };
		struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1 };
		R(sendmsg(p[0], &m, MSG_NOSIGNAL));
		R(writev(p[0], &io, 1));
		R(piped);
	}
}

CASE(lingering, close, bind)
{
	/* Who closes with something that the other has not read keeps the address until
	 * that one has. */
	int l = vlisten(SOCK_STREAM, VMADDR_CID_ANY, 8), c = socket(AF_VSOCK, SOCK_STREAM, 0), t = socket(AF_VSOCK, SOCK_STREAM, 0);
	struct sockaddr_vm a = vm(VMADDR_CID_LOCAL, vmport(l)), mine = vm(VMADDR_CID_ANY, 4995);
	MUST(bind(c, SA(mine)));
	MUST(connect(c, SA(a)));
	int p = accept(l, 0, 0);
	R(send(c, "x", 1, 0));
	close(c);
	R(bind(t, SA(mine)));
	until(p, POLLRDHUP);
	close(p);
	settle();
	R(bind(t, SA(mine)));
}

CASE(events, epoll_wait, epoll_ctl)
{
	int p[2], e = epoll_create1(0);
	vpair(SOCK_STREAM, p);
	struct epoll_event v = { .events = EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP }, got[2];
	R(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &v));
	R(epoll_wait(e, got, 2, 1000));
	say("%#x", got[0].events);
	R(epoll_wait(e, got, 2, 0));
	R(write(p[1], "a", 1));
	R(epoll_wait(e, got, 2, 5000));
	say("%#x", got[0].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP));
	R(read(p[0], buf, 2));
	close(p[1]);
	do
		R(epoll_wait(e, got, 2, 5000) > 0);
	while (!(got[0].events & EPOLLRDHUP));
	say("%#x", got[0].events);
}

CASE(ending, accept, recvfrom)
{
	/* a child's end ends its connections */
	int l = vlisten(SOCK_STREAM, VMADDR_CID_ANY, 8), st;
	struct sockaddr_vm a = vm(VMADDR_CID_LOCAL, vmport(l));
	pid_t k = fork();
	if (k == 0) {
		int c = socket(AF_VSOCK, SOCK_STREAM, 0);
		if (connect(c, SA(a)) || write(c, "from a child", 12) != 12)
			_exit(1);
		_exit(0);
	}
	int p = accept(l, 0, 0);
	int n = 0, r;
	while ((r = recv(p, buf + n, 20, 0)) > 0)
		n += r;
	R(r);
	R(n);
	waitpid(k, &st, 0);
	R(st);
	/* accept waits for the time of SO_RCVTIMEO */
	struct timeval tv = { 0, 20000 };
	R(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
	R(accept(l, 0, 0));
}

static void on_alarm(int s) { (void)s; }

CASE(interrupted, accept, recvfrom)
{
	int l = vlisten(SOCK_STREAM, VMADDR_CID_ANY, 8), p[2];
	struct sigaction sa = { .sa_handler = on_alarm };
	struct itimerval it = { { 0, 30000 }, { 0, 30000 } }, off = { 0 };
	sigaction(SIGALRM, &sa, 0);
	setitimer(ITIMER_REAL, &it, 0);
	R(accept(l, 0, 0));
	setitimer(ITIMER_REAL, &off, 0);
	vpair(SOCK_STREAM, p);
	setitimer(ITIMER_REAL, &it, 0);
	R(recv(p[0], buf, 1, 0));
	setitimer(ITIMER_REAL, &off, 0);
	struct timeval tv = { 0, 20000 };
	R(setsockopt(p[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
	R(recv(p[0], buf, 1, 0));
}
CASES
