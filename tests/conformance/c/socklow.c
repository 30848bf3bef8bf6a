/* How much a blocking receive on a stream waits for: SO_RCVLOWAT, MSG_WAITALL, MSG_PEEK. */
#include "sock.h"

/* later sends some bytes at a time, with a pause before each, from another process, and at the
 * end shuts the stream down. */
static void later(int s, int end, const int *sizes)
{
	if (fork())
		return;
	for (; *sizes; sizes++) {
		usleep(60000);
		send(s, "0123456789012345678901234567890123456789", *sizes, 0);
	}
	usleep(60000);
	if (end)
		shutdown(s, SHUT_WR);
	_exit(0);
}
#define LATER(s, end, ...) later(s, end, (const int[]){ __VA_ARGS__ __VA_OPT__(,) 0 })

static void unixpair(int p[2]) { MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, p)); }

/* come waits until n bytes have come. */
static void come(int s, int n)
{
	for (int have = 0, i = 0; have < n && i < 1000; i++) {
		MUST(ioctl(s, FIONREAD, &have));
		if (have < n)
			usleep(2000);
	}
}

static void left(int p[2], int n)
{
	while (wait(0) > 0)
		;
	come(p[1], n);
	R(recv(p[1], buf, 100, MSG_DONTWAIT));
	close(p[0]), close(p[1]);
}

static void low(int p[2], int n, int there)
{
	setint(p[1], SOL_SOCKET, SO_RCVLOWAT, n);
	send(p[0], "abcdefghijklmnop", there, 0);
	come(p[1], there);
}

static void timeo(int s, int msec)
{
	struct timeval tv = { 0, msec * 1000 };
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
}

/* kinds runs f for both kinds of streams. */
static void kinds(void (*f)(int *))
{
	int p[2];
	say("-- TCP");
	tcp(AF_INET, p);
	f(p);
	say("-- UNIX");
	unixpair(p);
	f(p);
}

static void asleep_on(int p[2])
{
	low(p, 10, 0);
	LATER(p[0], 0, 4, 6, 5);
	R(recv(p[1], buf, 100, 0));
	left(p, 5);
}
CASE(asleep, setsockopt, recvfrom) { kinds(asleep_on); }

static void there_on(int p[2])
{
	low(p, 10, 4);
	LATER(p[0], 0, 20);
	R(recv(p[1], buf, 100, 0));
	left(p, 0);
}
CASE(there, setsockopt, recvfrom) { kinds(there_on); }

static void ends_on(int p[2])
{
	low(p, 10, 4);
	LATER(p[0], 1);
	R(recv(p[1], buf, 100, 0));
	R(recv(p[1], buf, 100, 0));
	left(p, 0);
}
CASE(ends, recvfrom) { kinds(ends_on); }

static void less_on(int p[2])
{
	/* No more is waited for than there is room for. */
	low(p, 10, 4);
	R(recv(p[1], buf, 3, 0));
	R(recv(p[1], buf, 100, MSG_DONTWAIT));
	send(p[0], "abcdefghijkl", 12, 0);
	come(p[1], 12);
	R(recv(p[1], buf, 100, 0));
	timeo(p[1], 60);
	send(p[0], "abc", 3, 0);
	R(recv(p[1], buf, 100, 0));
	R(recv(p[1], buf, 100, 0));
	R(fcntl(p[1], F_SETFL, O_NONBLOCK));
	send(p[0], "abc", 3, 0);
	come(p[1], 3);
	R(recv(p[1], buf, 100, 0));
	left(p, 0);
}
CASE(less, setsockopt, recvfrom) { kinds(less_on); }

static void read_on(int p[2])
{
	low(p, 10, 4);
	LATER(p[0], 0, 20);
	R(read(p[1], buf, 100));
	struct iovec v = { buf, 100 };
	send(p[0], "abc", 3, 0);
	come(p[1], 3);
	timeo(p[1], 60);
	R(readv(p[1], &v, 1));
	R(read(p[1], buf, 100));
	send(p[0], "abcdef", 6, 0);
	come(p[1], 6);
	R(read(p[1], buf, 5));
	left(p, 1);
}
CASE(reads, setsockopt, read, readv) { kinds(read_on); }

static void peek_on(int p[2])
{
	low(p, 10, 4);
	timeo(p[1], 100);
	R(recv(p[1], buf, 100, MSG_PEEK));
	timeo(p[1], 900);
	LATER(p[0], 0, 20);
	R(recv(p[1], buf, 100, MSG_PEEK));
	left(p, 24);
}
CASE(lowpeek, setsockopt, recvfrom) { kinds(peek_on); }

static void peekall_on(int p[2])
{
	send(p[0], "a", 1, 0);
	come(p[1], 1);
	LATER(p[0], 0, 1, 1, 5);
	memset(buf, 0, 5);
	R(recv(p[1], buf, 4, MSG_PEEK | MSG_WAITALL));
	say("%s", buf);
	left(p, 8);
}
CASE(peekall, recvfrom) { kinds(peekall_on); }

static void peekend_on(int p[2])
{
	send(p[0], "a", 1, 0);
	come(p[1], 1);
	LATER(p[0], 1, 1);
	R(recv(p[1], buf, 4, MSG_PEEK | MSG_WAITALL));
	while (wait(0) > 0)
		;
	R(recv(p[1], buf, 4, MSG_PEEK | MSG_WAITALL));
	R(recv(p[1], buf, 4, MSG_PEEK | MSG_WAITALL | MSG_DONTWAIT));
	R(recv(p[1], buf, 4, MSG_WAITALL));
	R(recv(p[1], buf, 4, MSG_PEEK | MSG_WAITALL));
	left(p, 0);
}
CASE(peekend, recvfrom) { kinds(peekend_on); }

static void onalarm(int s) { (void)s; }

static void signal_on(int p[2])
{
	struct sigaction a = { .sa_handler = onalarm, .sa_flags = SA_RESTART };
	struct itimerval t = { { 0, 60000 }, { 0, 60000 } }; /* again and again: the first may come too early */
	sigaction(SIGALRM, &a, 0);
	low(p, 10, 4);
	setitimer(ITIMER_REAL, &t, 0);
	R(recv(p[1], buf, 100, 0));
	send(p[0], "abcd", 4, 0);
	come(p[1], 4);
	timeo(p[1], 900);
	R(recv(p[1], buf, 100, MSG_PEEK | MSG_WAITALL));
	R(recv(p[1], buf, 4, 0));
	R(recv(p[1], buf, 100, 0));
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, 0);
	left(p, 0);
}
CASE(signals, setsockopt, recvfrom) { kinds(signal_on); }

/* What a message of descriptors came with ends what is received. */
CASE(files, sendmsg, recvmsg)
{
	int p[2];
	unixpair(p);
	char c[CMSG_SPACE(4)] = { 0 };
	struct iovec v = { "abc", 3 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c };
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = CMSG_LEN(4);
	memcpy(CMSG_DATA(h), p, 4);
	low(p, 10, 2);
	R(sendmsg(p[0], &m, 0));
	send(p[0], "defghijklmnop", 13, 0);
	v = (struct iovec){ buf, 100 };
	for (int i = 0; i < 2; i++) {
		m.msg_controllen = sizeof c;
		R(recvmsg(p[1], &m, i ? 0 : MSG_WAITALL));
		say("%zu bytes of control data", m.msg_controllen);
	}
	left(p, 0);
}

CASES
