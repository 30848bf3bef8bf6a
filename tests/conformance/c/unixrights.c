/* Descriptors and credentials over AF_UNIX: SCM_RIGHTS, SCM_CREDENTIALS, limits,
 * descriptors in flight that only lead to themselves. */
#include "ipc.h"
#include <dirent.h>
#include <poll.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>

static char data[100];
static int nowait = MSG_DONTWAIT;

/* give sends n descriptors with a text. */
static int give(int s, const char *text, const int *fds, int n, int flags)
{
	char c[CMSG_SPACE(sizeof(int) * 300)];
	struct iovec io = { (void *)text, strlen(text) };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1 };
	if (n > 0) {
		m.msg_control = c;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n);
		memset(c, 0, m.msg_controllen);
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = CMSG_LEN(sizeof(int) * n);
		memcpy(CMSG_DATA(h), fds, sizeof(int) * n);
	}
	return sendmsg(s, &m, flags);
}

/* take receives with room for so many bytes of control, says what came and gives the
 * descriptors. */
static int take(int s, int bytes, int room, int flags, int *fds)
{
	char c[2048] __attribute__((aligned(8)));
	struct iovec io = { data, bytes };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = c, .msg_controllen = room };
	int n = 0;
	memset(data, 0, sizeof data);
	errno = 0;
	long r = recvmsg(s, &m, flags | nowait);
	if (r < 0) {
		say("receive: %s", errname(errno));
		return 0;
	}
	say("receive: %ld %s, flags %x, control %zu", r, data, m.msg_flags, m.msg_controllen);
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
		int len = h->cmsg_len - CMSG_LEN(0);
		if (h->cmsg_type == SCM_RIGHTS) {
			memcpy(fds + n, CMSG_DATA(h), len);
			n += len / 4;
			say("  %d descriptors", len / 4);
		} else if (h->cmsg_type == SCM_CREDENTIALS) {
			struct ucred *u = (void *)CMSG_DATA(h);
			say("  credentials of %s, %d, %d", u->pid == 0 ? "nobody" : u->pid == getpid() ? "mine" : "another", u->uid, u->gid);
		} else
			say("  type %d, %d bytes", h->cmsg_type, len);
	}
	return n;
}

static void shut(int *fds, int n)
{
	for (int i = 0; i < n; i++)
		close(fds[i]);
}

static int lowest(void)
{
	int f = dup(0);
	close(f);
	return f;
}

static void rights(void)
{
	say("-- SCM_RIGHTS");
	int v[2], p[2], f[300], n, first = lowest();
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, v));
	MUST(pipe(p));
	R(give(v[0], "a", p, 2, 0));
	n = take(v[1], 10, 256, 0, f);
	write(f[1], "through", 7);
	memset(data, 0, sizeof data);
	R(read(p[0], data, 10));
	R(fcntl(f[0], F_GETFD));
	IS(f[0] > p[1] && f[1] == f[0] + 1);
	shut(f, n);
	R(give(v[0], "b", p, 2, 0));
	n = take(v[1], 10, 256, MSG_CMSG_CLOEXEC, f);
	R(fcntl(f[0], F_GETFD));
	shut(f, n);
	/* room for none, one, one and a half */
	int rooms[] = { 0, 8, 16, 19, 20, 23, 24, 28 };
	for (int i = 0; i < 8; i++) {
		give(v[0], "r", p, 2, 0);
		say("room %d", rooms[i]);
		n = take(v[1], 10, rooms[i], 0, f);
		shut(f, n);
	}
	give(v[0], "plain read", p, 2, 0);
	R(read(v[1], data, 20));
	IS(lowest() == p[1] + 1);
	/* bytes on the two sides of descriptors are not joined */
	give(v[0], "one", 0, 0, 0), give(v[0], "two", p, 1, 0), give(v[0], "three", 0, 0, 0);
	n = take(v[1], 50, 256, 0, f), shut(f, n);
	n = take(v[1], 50, 256, 0, f), shut(f, n);
	n = take(v[1], 50, 256, 0, f), shut(f, n);
	give(v[0], "two", p, 1, 0), give(v[0], "three", p + 1, 1, 0);
	n = take(v[1], 50, 256, 0, f), shut(f, n);
	n = take(v[1], 50, 256, 0, f), shut(f, n);
	give(v[0], "split", p, 1, 0);
	n = take(v[1], 2, 256, 0, f), shut(f, n);
	n = take(v[1], 10, 256, 0, f), shut(f, n);
	say("-- peeked");
	give(v[0], "peek", p, 2, 0);
	n = take(v[1], 10, 256, MSG_PEEK, f), shut(f, n);
	n = take(v[1], 10, 256, MSG_PEEK, f), shut(f, n);
	n = take(v[1], 10, 256, 0, f), shut(f, n);
	say("-- bad");
	R(give(v[0], "x", (int[]){ 99 }, 1, 0));
	R(give(v[0], "x", (int[]){ p[0], -1 }, 2, 0));
	for (int i = 0; i < 300; i++)
		f[i] = p[0];
	R(give(v[0], "x", f, 254, 0));
	R(give(v[0], "many", f, 253, 0));
	n = take(v[1], 10, 2048, 0, f), shut(f, n);
	R(give(v[0], "", p, 1, 0));
	R(take(v[1], 10, 256, MSG_DONTWAIT, f));
	int o = open("/tmp", O_PATH);
	R(give(v[0], "path", &o, 1, 0));
	n = take(v[1], 10, 256, MSG_DONTWAIT, f), shut(f, n);
	close(o);
	char c[64];
	struct iovec io = { "x", 1 };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = c, .msg_controllen = 24 };
	struct cmsghdr *h = (void *)c;
	memset(c, 0, sizeof c);
	h->cmsg_len = 15;
	R(sendmsg(v[0], &m, 0));
	h->cmsg_len = 25;
	R(sendmsg(v[0], &m, 0));
	h->cmsg_len = 20, h->cmsg_level = SOL_SOCKET, h->cmsg_type = 77;
	R(sendmsg(v[0], &m, 0));
	h->cmsg_type = 3; /* SCM_SECURITY */
	R(sendmsg(v[0], &m, 0));
	h->cmsg_type = 4; /* SCM_PIDFD, later than 6.1 */
	R(sendmsg(v[0], &m, 0));
	h->cmsg_level = 999;
	R(sendmsg(v[0], &m, 0));
	while (recv(v[1], data, 50, MSG_DONTWAIT) > 0)
		;
	h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = 16;
	R(sendmsg(v[0], &m, 0));
	n = take(v[1], 10, 256, MSG_DONTWAIT, f);
	h->cmsg_len = 18;
	R(sendmsg(v[0], &m, 0));
	n = take(v[1], 10, 256, MSG_DONTWAIT, f);
	m.msg_controllen = 30000;
	R(sendmsg(v[0], &m, 0));
	m.msg_control = (void *)8, m.msg_controllen = 24;
	R(sendmsg(v[0], &m, 0));
	/* the receiver's table is full */
	struct rlimit l = { p[1] + 2, 1024 }, was;
	getrlimit(RLIMIT_NOFILE, &was);
	give(v[0], "full", p, 2, 0);
	setrlimit(RLIMIT_NOFILE, &l);
	n = take(v[1], 10, 256, MSG_DONTWAIT, f), shut(f, n);
	setrlimit(RLIMIT_NOFILE, &was);
	say("-- over the other kinds");
	for (int type = 0; type < 2; type++) {
		int d[2];
		socketpair(AF_UNIX, type ? SOCK_SEQPACKET : SOCK_DGRAM, 0, d);
		give(d[0], "msg", p, 2, 0);
		n = take(d[1], 2, 256, 0, f), shut(f, n);
		give(d[0], "", p, 1, 0);
		n = take(d[1], 2, 256, MSG_DONTWAIT, f), shut(f, n);
		close(d[0]), close(d[1]);
	}
	close(v[0]), close(v[1]), close(p[0]), close(p[1]);
	IS(lowest() == first);
}

static void creds(void)
{
	say("-- SCM_CREDENTIALS");
	int v[2], on = 1, f[10];
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, v));
	send(v[0], "before", 6, 0);
	setsockopt(v[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
	take(v[1], 10, 256, 0, f);
	send(v[0], "after", 5, 0);
	take(v[1], 10, 256, 0, f);
	send(v[0], "cut", 3, 0);
	take(v[1], 10, 20, 0, f);
	send(v[0], "none", 4, 0);
	take(v[1], 10, 0, 0, f);
	int p = FORK(send(v[0], "child", 5, 0));
	waitpid(p, NULL, 0);
	send(v[0], "parent", 6, 0);
	take(v[1], 50, 256, 0, f);
	take(v[1], 50, 256, 0, f);
	p = FORK({ setgid(500); setuid(501); send(v[0], "user", 4, 0); });
	waitpid(p, NULL, 0);
	take(v[1], 50, 256, 0, f);
	give(v[0], "both", v, 1, 0);
	int n = take(v[1], 50, 256, 0, f);
	shut(f, n);
	say("-- claimed");
	char c[CMSG_SPACE(12)];
	struct iovec io = { "claim", 5 };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c };
	struct cmsghdr *h = (void *)c;
	memset(c, 0, sizeof c);
	h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_CREDENTIALS, h->cmsg_len = CMSG_LEN(12);
	struct ucred *u = (void *)CMSG_DATA(h);
	reap("in another's name", FORK({ *u = (struct ucred){ getppid(), 77, 78 }; R(sendmsg(v[0], &m, 0)); }));
	take(v[1], 50, 256, 0, f);
	*u = (struct ucred){ 999999, 0, 0 };
	R(sendmsg(v[0], &m, 0));
	h->cmsg_len = CMSG_LEN(8);
	R(sendmsg(v[0], &m, 0));
	h->cmsg_len = CMSG_LEN(12);
	reap("user", FORK({
		setgid(500); setuid(501);
		*u = (struct ucred){ getpid(), 501, 500 };
		R(sendmsg(v[0], &m, 0));
		*u = (struct ucred){ 1, 501, 500 };
		R(sendmsg(v[0], &m, 0));
		*u = (struct ucred){ getpid(), 0, 500 };
		R(sendmsg(v[0], &m, 0));
		*u = (struct ucred){ getpid(), 501, 0 };
		R(sendmsg(v[0], &m, 0));
	}));
	take(v[1], 50, 256, MSG_DONTWAIT, f);
	close(v[0]), close(v[1]);
	say("-- datagrams with SO_PASSCRED bind themselves");
	MUST(v[0] = socket(AF_UNIX, SOCK_DGRAM, 0));
	MUST(v[1] = socket(AF_UNIX, SOCK_DGRAM, 0));
	struct sockaddr_un a = { AF_UNIX, "\0to" };
	bind(v[1], (void *)&a, 5);
	setsockopt(v[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
	R(sendto(v[0], "x", 1, 0, (void *)&a, 5));
	socklen_t l = sizeof a;
	getsockname(v[0], (void *)&a, &l);
	R(l);
	setsockopt(v[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
	take(v[1], 10, 256, MSG_DONTWAIT, f);
	close(v[0]), close(v[1]);
}

static void flight(void)
{
	say("-- in flight");
	int v[2], p[2], w[2];
	/* who closes what is on its way keeps it open; the end of the last socket closes it */
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, v));
	MUST(pipe(p));
	give(v[0], "x", p + 1, 1, 0);
	close(p[1]);
	fcntl(p[0], F_SETFL, O_NONBLOCK);
	R(read(p[0], data, 1));
	close(v[0]);
	R(read(p[0], data, 1));
	close(v[1]);
	R(read(p[0], data, 1));
	close(p[0]);
	/* a socket in its own queue */
	MUST(pipe(p));
	fcntl(p[0], F_SETFL, O_NONBLOCK);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, v));
	give(v[0], "me", v + 1, 1, 0);
	give(v[0], "and a pipe", p + 1, 1, 0);
	close(p[1]), close(v[0]), close(v[1]);
	/* the collector runs when sockets are closed */
	for (int i = 0; i < 50; i++) {
		socketpair(AF_UNIX, SOCK_STREAM, 0, w);
		give(w[0], "x", w, 1, 0);
		close(w[0]), close(w[1]);
		if (i > 5 && read(p[0], data, 1) == 0)
			break;
		ms(10);
	}
	R(read(p[0], data, 1));
	close(p[0]);
	/* two pairs that hold each other */
	MUST(pipe(p));
	fcntl(p[0], F_SETFL, O_NONBLOCK);
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, v));
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, w));
	give(v[0], "1", w + 1, 1, 0);
	give(w[0], "2", v + 1, 1, 0);
	give(w[0], "3", p + 1, 1, 0);
	close(p[1]), close(v[0]), close(v[1]), close(w[0]), close(w[1]);
	for (int i = 0; i < 50 && read(p[0], data, 1) != 0; i++) {
		socketpair(AF_UNIX, SOCK_STREAM, 0, w);
		give(w[0], "x", w, 1, 0);
		close(w[0]), close(w[1]);
		ms(10);
	}
	R(read(p[0], data, 1));
	close(p[0]);
	/* a connection in a listener's backlog, with the listener in its queue */
	MUST(pipe(p));
	fcntl(p[0], F_SETFL, O_NONBLOCK);
	int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un a = { AF_UNIX, "\0cycle" };
	bind(l, (void *)&a, 8), listen(l, 5);
	R(connect(c, (void *)&a, 8));
	R(give(c, "listener", &l, 1, 0));
	R(give(c, "pipe", p + 1, 1, 0));
	close(l), close(c), close(p[1]);
	for (int i = 0; i < 50 && read(p[0], data, 1) != 0; i++) {
		socketpair(AF_UNIX, SOCK_STREAM, 0, w);
		give(w[0], "x", w, 1, 0);
		close(w[0]), close(w[1]);
		ms(10);
	}
	R(read(p[0], data, 1));
	close(p[0]);
	/* what can still be reached stays */
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, v));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, w));
	give(v[0], "keep", w + 1, 1, 0);
	give(w[0], "inside", v, 1, 0);
	close(w[1]), close(w[0]);
	for (int i = 0; i < 5; i++) {
		int x[2];
		socketpair(AF_UNIX, SOCK_STREAM, 0, x);
		give(x[0], "x", x, 1, 0);
		close(x[0]), close(x[1]);
	}
	int f[4], n;
	n = take(v[1], 10, 256, MSG_DONTWAIT, f);
	if (n == 1)
		n = take(f[0], 10, 256, MSG_DONTWAIT, f + 1);
	IS(n == 1);
	close(v[0]), close(v[1]), close(f[0]), close(f[1]);
	/* many rounds */
	struct rlimit r = { 200, 1024 };
	setrlimit(RLIMIT_NOFILE, &r);
	int bad = 0;
	reap("user", FORK({
		setgid(500); setuid(500);
		for (int i = 0; i < 700; i++) {
			if (socketpair(AF_UNIX, SOCK_STREAM, 0, v) < 0)
				bad++;
			else {
				for (int t = 0; give(v[0], "x", v, 2, 0) < 0 && t < 100; t++)
					ms(1); /* ETOOMANYREFS until the collector has been */
				close(v[0]), close(v[1]);
			}
		}
		R(bad);
	}));
	for (int i = 0; i < 3; i++) { /* let the collector find what the last rounds left */
		socketpair(AF_UNIX, SOCK_STREAM, 0, w);
		close(w[0]), close(w[1]);
		ms(30);
	}
	reap("too many", FORK({
		setgid(500); setuid(500);
		socketpair(AF_UNIX, SOCK_DGRAM, 0, v);
		int d[100];
		for (int i = 0; i < 100; i++)
			d[i] = 0;
		/* RLIMIT_NOFILE descriptors of a user may be in flight */
		R(give(v[0], "x", d, 100, 0));
		R(give(v[0], "x", d, 100, 0));
		R(give(v[0], "x", d, 1, 0));
		R(give(v[0], "x", d, 1, 0));
		n = take(v[1], 10, 2048, 0, d);
		shut(d, n);
		R(give(v[0], "x", d + 99, 0, 0));
		n = open("/dev/null", O_RDONLY);
		R(give(v[0], "x", &n, 1, 0));
	}));
	reap("root", FORK({
		socketpair(AF_UNIX, SOCK_DGRAM, 0, v);
		int d[100];
		for (int i = 0; i < 100; i++)
			d[i] = 0;
		for (int i = 0; i < 5; i++)
			R(give(v[0], "x", d, 100, 0));
	}));
	r.rlim_cur = 1024;
	setrlimit(RLIMIT_NOFILE, &r);
	/* too deep: four levels of sockets in sockets may be sent, not more */
	int chain[8][2];
	for (int i = 0; i < 8; i++)
		socketpair(AF_UNIX, SOCK_DGRAM, 0, chain[i]);
	for (int i = 0; i < 7; i++)
		R(give(chain[i + 1][0], "x", &chain[i][1], 1, 0));
	for (int i = 0; i < 8; i++)
		close(chain[i][0]), close(chain[i][1]);
}

static void others(void)
{
	say("-- eventfd, timerfd, signalfd, memfd across fork and SCM_RIGHTS");
	int v[2], f[4], n, p;
	uint64_t x;
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, v));
	sigset_t set;
	sigemptyset(&set), sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	int e = eventfd(0, 0), t = timerfd_create(CLOCK_MONOTONIC, 0), s = signalfd(-1, &set, 0), m = memfd_create("shared", 0);
	ftruncate(m, 8192);
	p = FORK({
		nowait = 0;
		n = take(v[1], 10, 256, 0, f);
		char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, f[3], 0);
		read(f[0], &x, 8);
		say("child: eventfd %d", (int)x);
		read(f[1], &x, 8);
		say("child: timerfd %d", (int)x);
		kill(getpid(), SIGUSR1);
		struct signalfd_siginfo si;
		R(read(f[2], &si, sizeof si));
		IS(si.ssi_signo == SIGUSR1 && si.ssi_pid == getpid());
		say("child: memory %s", map);
		strcpy(map + 4096, "from the child");
		x = 9;
		write(f[0], &x, 8);
	});
	MUST(give(v[0], "four", (int[]){ e, t, s, m }, 4, 0));
	asleep(p);
	char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, m, 0);
	strcpy(map, "from the parent");
	timerfd_settime(t, 0, &(struct itimerspec){ .it_value = { 0, 30000000 } }, NULL);
	x = 5;
	write(e, &x, 8);
	reap("child", p);
	read(e, &x, 8);
	say("eventfd %d, memory %s", (int)x, map + 4096);
	p = FORK({ read(e, &x, 8); _exit(x); });
	asleep(p);
	x = 3;
	write(e, &x, 8);
	reap("eventfd by fork", p);
	p = FORK({ handle(SIGUSR2, 0); R(read(e, &x, 8)); });
	asleep(p);
	kill(p, SIGUSR2);
	reap("interrupted", p);
	p = FORK(read(e, &x, 8));
	killed("killed", p);
	p = FORK({ R(read(t, &x, 8)); });
	asleep(p);
	timerfd_settime(t, 0, &(struct itimerspec){ .it_value = { 0, 1000000 } }, NULL);
	reap("timerfd by fork", p);
	close(v[0]), close(v[1]);
}

int main(void)
{
	alarm(50); /* nothing here takes long: no check may hang */
	rights();
	creds();
	flight();
	others();
	return 0;
}
