/* AF_VSOCK: what is sent and received, flow control, options, and what else a socket does. */
#include "vsock.h"
#include <linux/io_uring.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

CASE(stream, sendto, recvfrom, sendmsg, recvmsg, read, write, readv, writev)
{
	int p[2];
	vpair(SOCK_STREAM, p);
	R(send(p[0], "hello ", 6, 0));
	R(write(p[0], "there", 5));
	settle();
	R(recv(p[1], buf, 4, MSG_PEEK));
	R(recv(p[1], buf, 20, MSG_PEEK));
	R(recv(p[1], buf, 8, 0));
	say("%.8s", buf);
	R(recv(p[1], buf, 20, MSG_DONTWAIT));
	R(recv(p[1], buf, 20, MSG_DONTWAIT));
	R(recv(p[1], buf, 0, 0));
	R(send(p[0], "", 0, 0));
	R(read(p[1], buf, 0));
	struct sockaddr_vm a = vm(VMADDR_CID_LOCAL, 1);
	R(sendto(p[0], "x", 1, 0, SA(a)));
	R(sendto(socket(AF_VSOCK, SOCK_STREAM, 0), "x", 1, 0, SA(a)));
	R(send(socket(AF_VSOCK, SOCK_STREAM, 0), "x", 1, 0));
	R(recv(socket(AF_VSOCK, SOCK_STREAM, 0), buf, 1, 0));
	R(send(p[0], "x", 1, MSG_OOB));
	R(recv(p[1], buf, 1, MSG_OOB));
	R(recv(p[1], buf, 1, MSG_ERRQUEUE));
	struct iovec io[2] = { { "two ", 4 }, { "parts", 5 } }, in[2] = { { buf, 2 }, { buf + 10, 9 } };
	char control[64];
	struct msghdr m = { .msg_iov = io, .msg_iovlen = 2 };
	R(sendmsg(p[0], &m, MSG_EOR | MSG_MORE | MSG_CONFIRM));
	struct msghdr g = { .msg_iov = in, .msg_iovlen = 2, .msg_name = &a, .msg_namelen = sizeof a, .msg_control = control, .msg_controllen = sizeof control };
	R(recvmsg(p[1], &g, 0));
	say("%.2s %.7s name %u control %zu flags %#x", buf, buf + 10, g.msg_namelen, g.msg_controllen, g.msg_flags);
	R(writev(p[1], io, 2));
	R(readv(p[0], in, 2));
	R(send(p[0], "abc", 3, 0));
	socklen_t n = sizeof a;
	R(recvfrom(p[1], buf, 2, MSG_TRUNC, (void *)&a, &n));
	R(n);
	R(recv(p[1], buf, 2, MSG_WAITALL | MSG_DONTWAIT));
	R(pread(p[1], buf, 1, 0));
	R(lseek(p[1], 0, SEEK_SET));
}

CASE(control, sendmsg, recvmsg)
{
	int p[2];
	vpair(SOCK_STREAM, p);
	/* control messages mean nothing, right or wrong */
	char c[CMSG_SPACE(8)] = { 0 };
	struct iovec io = { "data", 4 };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = c, .msg_controllen = CMSG_SPACE(4) };
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = CMSG_LEN(4);
	*(int *)CMSG_DATA(h) = p[0];
	R(sendmsg(p[0], &m, 0));
	*(int *)CMSG_DATA(h) = 99;
	R(sendmsg(p[0], &m, 0));
	h->cmsg_len = 3;
	R(sendmsg(p[0], &m, 0));
	h->cmsg_len = CMSG_LEN(4), h->cmsg_type = 77;
	R(sendmsg(p[0], &m, 0));
	m.msg_control = (void *)1;
	R(sendmsg(p[0], &m, 0));
	R(setint(p[1], SOL_SOCKET, SO_PASSCRED, 1));
	R(setint(p[1], SOL_SOCKET, SO_TIMESTAMP, 1));
	settle();
	char in[128];
	struct iovec to = { buf, 99 };
	struct msghdr g = { .msg_iov = &to, .msg_iovlen = 1, .msg_control = in, .msg_controllen = sizeof in };
	R(recvmsg(p[1], &g, 0));
	say("control %zu flags %#x", g.msg_controllen, g.msg_flags);
}

CASE(seqpacket, sendto, recvfrom, recvmsg)
{
	int p[2];
	vpair(SOCK_SEQPACKET, p);
	R(send(p[0], "first", 5, 0));
	R(send(p[0], "second", 6, MSG_EOR));
	R(send(p[0], "", 0, MSG_EOR));
	R(send(p[0], "third one", 9, 0));
	R(send(p[0], "fourth", 6, 0));
	settle();
	struct iovec io = { buf, 20 };
	struct msghdr g = { .msg_iov = &io, .msg_iovlen = 1 };
	R(recvmsg(p[1], &g, 0));
	say("%.5s %#x", buf, g.msg_flags);
	R(recvmsg(p[1], &g, 0));
	say("%.6s %#x", buf, g.msg_flags);
	io.iov_len = 3;
	R(recvmsg(p[1], &g, 0));
	say("%.3s %#x", buf, g.msg_flags);
	R(recv(p[1], buf, 2, MSG_TRUNC));
	R(recv(p[1], buf, 2, MSG_DONTWAIT));
	R(send(p[0], "more", 4, 0));
	settle();
	R(recv(p[1], buf, 9, MSG_PEEK));
	R(recv(p[1], buf, 0, 0));
	R(recv(p[1], buf, 9, MSG_WAITALL));
	struct sockaddr_vm a = vm(VMADDR_CID_LOCAL, 1);
	R(sendto(p[0], "x", 1, 0, SA(a)));
	R(send(p[0], "x", 1, MSG_OOB));
	R(recv(p[1], buf, 1, MSG_ERRQUEUE));
	/* longer than a packet of the transport */
	static char big[200000], back[200000];
	for (int i = 0; i < (int)sizeof big; i++)
		big[i] = i * 7 >> 3;
	R(send(p[0], big, sizeof big, 0));
	R(recv(p[1], back, sizeof back, 0));
	IS(!memcmp(big, back, sizeof big));
	R(send(p[0], big, sizeof big, 0));
	R(recv(p[1], back, 70000, 0));
	R(send(p[0], "end", 3, 0));
	R(recv(p[1], back, 9, 0));
}

CASE(toolong, sendto)
{
	int p[2];
	vpair(SOCK_SEQPACKET, p);
	char *big = calloc(1, 300000);
	R(send(p[0], big, 256 * 1024 + 1, 0));
	R(send(p[0], big, 256 * 1024, 0));
	say("%#x", now(p[0]));
	R(send(p[0], big, 1, MSG_DONTWAIT));
	R(recv(p[1], big, 300000, 0));
	say("%#x", until(p[0], POLLOUT));
	R(send(p[0], big, 1, MSG_DONTWAIT));
}

CASE(badpointers, sendto, recvfrom)
{
	int p[2];
	char *bad = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(bad + 4096, 4096);
	vpair(SOCK_STREAM, p);
	R(send(p[0], bad + 4096, 10, 0));
	R(send(p[0], bad + 4090, 10, 0));
	R(send(p[0], "good", 4, 0));
	settle();
	R(recv(p[1], bad + 4096, 10, 0));
	R(recv(p[1], bad + 4096, 10, MSG_PEEK));
	R(recv(p[1], buf, 10, 0));
	vpair(SOCK_SEQPACKET, p);
	R(send(p[0], bad + 4096, 10, 0));
	R(send(p[0], "one", 3, 0));
	R(send(p[0], "two", 3, 0));
	settle();
	R(recv(p[1], bad + 4096, 10, 0));
	R(recv(p[1], buf, 10, 0));
}

CASE(flow, sendto, poll)
{
	int p[2], n = 0, r;
	vpair(SOCK_STREAM, p);
	fcntl(p[0], F_SETFL, O_NONBLOCK);
	while ((r = send(p[0], buf, sizeof buf, 0)) > 0)
		n += r;
	R(r);
	R(n);
	say("%#x", now(p[0]));
	settle();
	R(recv(p[1], buf, 100, 0));
	settle();
	say("%#x", now(p[0]));
	char *all = malloc(300000);
	for (n = 0; n < 262144 - 100; n += r)
		r = recv(p[1], all, 300000, 0);
	R(n);
	say("%#x", until(p[0], POLLOUT));
	/* a writer that waits goes on when there is room */
	fcntl(p[0], F_SETFL, 0);
	pid_t k = fork();
	if (k == 0) {
		for (int i = 0; i < 1000000; i += 50000)
			if (send(p[0], buf, 50000, 0) != 50000)
				_exit(1);
		_exit(0);
	}
	close(p[0]);
	for (n = 0; (r = recv(p[1], all, 12345, 0)) > 0;)
		n += r;
	R(r);
	R(n);
	int st;
	waitpid(k, &st, 0);
	R(st);
	struct timeval tv = { 0, 20000 };
	vpair(SOCK_STREAM, p);
	R(setsockopt(p[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv));
	R(send(p[0], all, 300000, 0));
	R(send(p[0], all, 300000, 0));
	R(setsockopt(p[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
	R(recv(p[0], all, 1, 0));
}

static void setsize(int s, int name, uint64_t v)
{
	errno = 0;
	int r = setsockopt(s, AF_VSOCK, name, &v, sizeof v);
	uint64_t got[3];
	for (int i = 0; i < 3; i++) {
		socklen_t n = sizeof got[i];
		getsockopt(s, AF_VSOCK, i, got + i, &n);
	}
	say("set %d to %llu: %d, then size %llu min %llu max %llu", name, (unsigned long long)v, r, (unsigned long long)got[0], (unsigned long long)got[1], (unsigned long long)got[2]);
}

CASE(sizes, setsockopt, getsockopt)
{
	int s = socket(AF_VSOCK, SOCK_STREAM, 0), p[2];
	setsize(s, SO_VM_SOCKETS_BUFFER_SIZE, 5000);
	setsize(s, SO_VM_SOCKETS_BUFFER_SIZE, 1);
	setsize(s, SO_VM_SOCKETS_BUFFER_SIZE, 1 << 20);
	setsize(s, SO_VM_SOCKETS_BUFFER_MAX_SIZE, 1 << 20);
	setsize(s, SO_VM_SOCKETS_BUFFER_SIZE, 1 << 20);
	setsize(s, SO_VM_SOCKETS_BUFFER_MIN_SIZE, 2 << 20);
	setsize(s, SO_VM_SOCKETS_BUFFER_MAX_SIZE, 1ull << 40);
	setsize(s, SO_VM_SOCKETS_BUFFER_SIZE, 1ull << 36);
	setsize(s, SO_VM_SOCKETS_BUFFER_MIN_SIZE, 0);
	setsize(s, SO_VM_SOCKETS_BUFFER_MAX_SIZE, 0);
	uint64_t v = 7;
	socklen_t n = 7;
	R(setsockopt(s, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &v, 7));
	R(setsockopt(s, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, (void *)1, 8));
	R(getsockopt(s, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &v, &n));
	n = 20;
	R(getsockopt(s, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &v, &n));
	R(n);
	R(setsockopt(s, AF_VSOCK, SO_VM_SOCKETS_PEER_HOST_VM_ID, &v, 8));
	R(getsockopt(s, AF_VSOCK, SO_VM_SOCKETS_PEER_HOST_VM_ID, &v, &n));
	R(getsockopt(s, AF_VSOCK, SO_VM_SOCKETS_TRUSTED, &v, &n));
	R(setsockopt(s, AF_VSOCK, SO_VM_SOCKETS_NONBLOCK_TXRX, &v, 8));
	R(getsockopt(s, AF_VSOCK, 99, &v, &n));
	R(setsockopt(s, AF_VSOCK, 99, &v, 8));
	R(getsockopt(s, SOL_TCP, 1, &v, &n));
	R(setsockopt(s, SOL_TCP, 1, &v, 8));
	R(setsockopt(s, SOL_TCP, 1, (void *)1, 8));
	R(setsockopt(s, SOL_IP, 1, &v, 8));
	/* a listener's are its connections' */
	int l = vlisten(SOCK_STREAM, VMADDR_CID_ANY, 8), c = socket(AF_VSOCK, SOCK_STREAM, 0);
	setsize(l, SO_VM_SOCKETS_BUFFER_SIZE, 10000);
	struct sockaddr_vm a = vm(VMADDR_CID_LOCAL, vmport(l));
	MUST(connect(c, SA(a)));
	int d = accept(l, 0, 0);
	setsize(d, SO_VM_SOCKETS_BUFFER_MIN_SIZE, 129);
	R(send(c, buf, 70000, MSG_DONTWAIT));
	R(send(c, buf, 70000, MSG_DONTWAIT));
	/* more room is told at once */
	setsize(d, SO_VM_SOCKETS_BUFFER_SIZE, 30000);
	until(c, POLLOUT);
	R(send(c, buf, 70000, MSG_DONTWAIT));
	/* one's own buffer bounds what one sends, too */
	vpair(SOCK_STREAM, p);
	setsize(p[0], SO_VM_SOCKETS_BUFFER_SIZE, 4000);
	R(send(p[0], buf, 70000, MSG_DONTWAIT));
	R(recv(p[1], buf, 70000, MSG_WAITALL | MSG_DONTWAIT));
	char *big = malloc(300000);
	R(recv(p[1], big, 300000, MSG_WAITALL));
	R(recv(p[1], big, 262144, MSG_WAITALL | MSG_DONTWAIT));
	R(recv(p[1], big, 262143, MSG_WAITALL | MSG_DONTWAIT));
}

static void timeout(int s, int name, long sec, long usec)
{
	struct timeval tv = { sec, usec };
	errno = 0;
	int r = setsockopt(s, AF_VSOCK, name, &tv, sizeof tv), e = errno;
	socklen_t n = sizeof tv;
	getsockopt(s, AF_VSOCK, name, &tv, &n);
	say("%d: %ld.%06ld: %s, then %ld.%06ld, %u bytes", name, sec, usec, r ? errname(e) : "ok", (long)tv.tv_sec, (long)tv.tv_usec, n);
}

CASE(timeouts, setsockopt, getsockopt)
{
	int s = socket(AF_VSOCK, SOCK_STREAM, 0);
	struct timeval tv;
	socklen_t n = sizeof tv;
	R(getsockopt(s, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT_OLD, &tv, &n));
	say("%ld.%06ld", (long)tv.tv_sec, (long)tv.tv_usec);
	int names[] = { SO_VM_SOCKETS_CONNECT_TIMEOUT_OLD, SO_VM_SOCKETS_CONNECT_TIMEOUT_NEW };
	for (int i = 0; i < 2; i++) {
		timeout(s, names[i], 5, 0);
		timeout(s, names[i], 1, 500000);
		timeout(s, names[i], 0, 1);
		timeout(s, names[i], 0, 0);
		timeout(s, names[i], 0, 999999);
		timeout(s, names[i], 3, 1000000);
		timeout(s, names[i], -1, 0);
		timeout(s, names[i], 3, -4);
		timeout(s, names[i], 1l << 55, 0);
		timeout(s, names[i], 1l << 40, 0);
		R(setsockopt(s, AF_VSOCK, names[i], &tv, 15));
		n = 15;
		R(getsockopt(s, AF_VSOCK, names[i], &tv, &n));
	}
}

CASE(lowat, setsockopt, recvfrom, poll)
{
	int p[2];
	vpair(SOCK_STREAM, p);
	SET(p[1], SOL_SOCKET, SO_RCVLOWAT, 8);
	SET(p[1], SOL_SOCKET, SO_RCVLOWAT, 262145);
	SET(p[1], SOL_SOCKET, SO_RCVLOWAT, -1);
	SET(p[1], SOL_SOCKET, SO_RCVLOWAT, 0);
	SET(p[1], SOL_SOCKET, SO_RCVLOWAT, 8);
	R(send(p[0], "four", 4, 0));
	settle();
	say("%#x", now(p[1]));
	R(recv(p[1], buf, 2, MSG_PEEK));
	R(recv(p[1], buf, 20, MSG_DONTWAIT));
	R(send(p[0], "twelve bytes", 12, 0));
	say("%#x", until(p[1], POLLIN));
	R(recv(p[1], buf, 20, 0));
	pid_t k = fork();
	if (k == 0) {
		send(p[0], "abc", 3, 0);
		usleep(50000);
		send(p[0], "defghijk", 8, 0);
		_exit(0);
	}
	R(recv(p[1], buf, 20, 0));
	wait(0);
	k = fork();
	if (k == 0) {
		send(p[0], "abc", 3, 0);
		usleep(50000);
		shutdown(p[0], SHUT_WR);
		_exit(0);
	}
	R(recv(p[1], buf, 20, 0));
	wait(0);
}

CASE(options, setsockopt, getsockopt)
{
	int p[2];
	vpair(SOCK_STREAM, p);
	SET(p[0], SOL_SOCKET, SO_RCVBUF, 5000);
	SET(p[0], SOL_SOCKET, SO_SNDBUF, 100000);
	SET(p[0], SOL_SOCKET, SO_REUSEADDR, 5);
	SET(p[0], SOL_SOCKET, SO_REUSEPORT, 1);
	SET(p[0], SOL_SOCKET, SO_KEEPALIVE, 1);
	SET(p[0], SOL_SOCKET, SO_PRIORITY, 3);
	SET(p[0], SOL_SOCKET, SO_ZEROCOPY, 1);
	SET(p[0], SOL_SOCKET, SO_PEEK_OFF, 1);
	SET(p[0], SOL_SOCKET, SO_ERROR, 1);
	GET(p[0], SOL_SOCKET, SO_ACCEPTCONN);
	GET(p[0], SOL_SOCKET, SO_SNDLOWAT);
	GET(p[0], SOL_SOCKET, SO_PEERSEC);
	int u[3] = { 0 };
	socklen_t n = sizeof u;
	R(getsockopt(p[0], SOL_SOCKET, SO_PEERCRED, u, &n));
	say("%d %d %d, %u bytes", u[0], u[1], u[2], n);
	n = sizeof u;
	R(getsockopt(p[0], SOL_SOCKET, SO_PEERGROUPS, u, &n));
	struct linger lg = { 1, 1 };
	R(setsockopt(p[0], SOL_SOCKET, SO_LINGER, &lg, sizeof lg));
	int v = -1;
	R(ioctl(p[0], FIONREAD, &v));
	R(ioctl(p[0], TIOCOUTQ, &v));
	R(ioctl(p[0], 0x7b9, &v));
	R(close(p[0]));
	until(p[1], POLLRDHUP);
	R(recv(p[1], buf, 1, 0));
}

CASE(device, ioctl, openat)
{
	int f = open("/dev/vsock", O_RDONLY);
	unsigned cid = 99;
	R(f > 2);
	R(ioctl(f, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid));
	R(cid);
	R(ioctl(f, IOCTL_VM_SOCKETS_GET_LOCAL_CID, 1));
	R(ioctl(f, 0x7ba, &cid));
	R(read(f, buf, 1));
	int g = open("/dev/vsock", O_RDWR);
	R(write(g, buf, 1));
	R(lseek(f, 0, SEEK_SET));
	say("%#x", now(f));
}

CASE(files, sendfile, splice)
{
	int p[2], q[2], f = memfd_create("f", 0);
	vpair(SOCK_STREAM, p);
	R(write(f, "in a file", 9));
	off_t at = 3;
	R(sendfile(p[0], f, &at, 6));
	settle();
	R(recv(p[1], buf, 20, 0));
	say("%.6s", buf);
	R(pipe(q));
	R(write(q[1], "in a pipe", 9));
	R(splice(q[0], 0, p[0], 0, 9, 0));
	settle();
	R(splice(p[1], 0, q[1], 0, 20, 0));
	R(read(q[0], buf, 20));
	say("%.9s", buf);
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	R(splice(p[1], 0, q[1], 0, 20, 0));
	R(sendfile(f, p[1], 0, 1));
	close(p[0]);
	until(p[1], POLLRDHUP);
	R(splice(p[1], 0, q[1], 0, 20, 0));
}

CASE(many, sendmmsg, recvmmsg)
{
	int p[2];
	vpair(SOCK_SEQPACKET, p);
	struct iovec io[3] = { { "a", 1 }, { "bb", 2 }, { "ccc", 3 } }, in[3] = { { buf, 9 }, { buf + 9, 9 }, { buf + 18, 9 } };
	struct mmsghdr m[3] = { 0 }, g[3] = { 0 };
	for (int i = 0; i < 3; i++) {
		m[i].msg_hdr.msg_iov = io + i, m[i].msg_hdr.msg_iovlen = 1;
		g[i].msg_hdr.msg_iov = in + i, g[i].msg_hdr.msg_iovlen = 1;
	}
	R(sendmmsg(p[0], m, 3, 0));
	settle();
	R(recvmmsg(p[1], g, 3, MSG_WAITFORONE, 0));
	say("%u %u %u", g[0].msg_len, g[1].msg_len, g[2].msg_len);
	R(recvmmsg(p[1], g, 3, MSG_DONTWAIT, 0));
}

CASE(diag, sendto, recvfrom)
{
	int l = vlisten(SOCK_STREAM, VMADDR_CID_ANY, 8), c = socket(AF_VSOCK, SOCK_SEQPACKET, 0), x = socket(AF_VSOCK, SOCK_STREAM, 0);
	struct sockaddr_vm a = vm(VMADDR_CID_LOCAL, vmport(l));
	(void)c;
	MUST(connect(x, SA(a)));
	int d = accept(l, 0, 0);
	shutdown(d, SHUT_RD);
	int nl = socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
	struct {
		struct nlmsghdr h;
		unsigned char family, protocol;
		uint16_t pad;
		uint32_t states, ino, show, cookie[2];
	} req = { { sizeof req, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0 }, AF_VSOCK, 0, 0, ~0u, 0, 0, { 0, 0 } };
	for (int round = 0; round < 3; round++) {
		unsigned state[16] = { 0 }, bad = 0;
		char said[2][99] = { "", "" };
		if (round == 1)
			req.states = 1 << 10;
		if (round == 2)
			req.h.nlmsg_flags = NLM_F_REQUEST;
		MUST(send(nl, &req, sizeof req, 0));
		for (int end = 0; !end;) {
			int n = recv(nl, buf, sizeof buf, 0);
			for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, n) && !end; h = NLMSG_NEXT(h, n)) {
				if (h->nlmsg_type == NLMSG_DONE)
					end = 1;
				else if (h->nlmsg_type == NLMSG_ERROR) {
					say("error %s", errname(-*(int *)NLMSG_DATA(h)));
					end = 1;
				} else {
					struct { unsigned char family, type, state, shutdown; uint32_t scid, sport, dcid, dport, ino, cookie[2]; } *v = NLMSG_DATA(h);
					if (v->sport == vmport(l) && v->state == 10)
						sprintf(said[0], "the listener: type %u shutdown %u cid %d to %d, %u bytes", v->type, v->shutdown, (int)v->scid, (int)v->dcid, h->nlmsg_len);
					if (v->sport == vmport(l) && v->state == 1)
						sprintf(said[1], "accepted: type %u shutdown %u cid %d to %d, its port %s", v->type, v->shutdown, (int)v->scid, (int)v->dcid, v->dport == vmport(x) ? "yes" : "no");
					state[v->state & 15]++;
					bad += v->family != AF_VSOCK;
				}
			}
		}
		say("%s", said[0]);
		say("%s", said[1]);
		say("established %u closed %u listening %u, %u wrong", state[1], state[7], state[10], bad);
	}
}
CASES
