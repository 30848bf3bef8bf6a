/*
 * streams N [SEED]: threads that talk over TCP connections of the loopback in every way:
 * blocking, by poll, by edges of epoll (where a read that comes short is the last); with
 * pieces and buffers of all sizes, peeking, options and packet sockets in the midst; ended by
 * shutdown, close and reset. Each byte is checked. In the end nothing is left behind.
 */
#include "soak.h"
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

static int brief; /* a short run */
static __thread uint64_t state;
static uint32_t any(uint32_t n)
{
	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return (state >> 32) % n;
}

enum { BLOCKING, POLLS, EDGES, WAYS };
enum { PATIENCE = 60000 }; /* milliseconds that one waits at most */

/* One direction of a connection: byte i is at(d, i). */
struct direction {
	int from, to, seed, total;
	int way_out, way_in;
	int resets; /* who sends stops in the midst and resets the connection */
	int rough;  /* one of the two directions does */
	int open;   /* its end is not told: the receiver knows it */
};

static unsigned char at(const struct direction *d, int i) { return (i + d->seed) * 31 + ((i + d->seed) >> 9); }

static int size(void)
{
	static const int most[] = {3, 300, 5000, 90000};
	return 1 + any(most[any(4)]);
}

/* wait_for waits for an event of s by poll, or for an edge of e. Of a socket that was closed
 * meanwhile there are none. */
static void wait_for(const struct direction *d, int s, int e, int events)
{
	struct epoll_event v;
	struct pollfd f = {s, events, 0};
	int most = d->rough ? 50 : PATIENCE, n = e >= 0 ? epoll_wait(e, &v, 1, most) : poll(&f, 1, most);
	if (n != 1 && !d->rough)
		wrong("nothing for a minute: %s", e >= 0 ? "edges" : "poll");
}

static int edges(const struct direction *d, int s, int way, int events)
{
	struct epoll_event v = {events | EPOLLET, {0}};
	if (way != EDGES)
		return -1;
	int e = epoll_create1(0);
	EXPECT(e >= 0 && (!epoll_ctl(e, EPOLL_CTL_ADD, s, &v) || (d->rough && errno == EPERM)));
	return e;
}

static int over(const struct direction *d) { return d->rough && (errno == ECONNRESET || errno == EPIPE || errno == ENOTSOCK); }

static void *sender(void *p)
{
	struct direction *d = p;
	char *b = malloc(90000);
	int e = edges(d, d->from, d->way_out, EPOLLOUT), flags = MSG_NOSIGNAL | (d->way_out == BLOCKING ? 0 : MSG_DONTWAIT);
	int last = d->resets ? (int)any(d->total + 1) : d->total;
	state = (uint64_t)d->seed * 2654435761u + 1;
	for (int i = 0; i < last;) {
		int n = size(), r;
		n = n < last - i ? n : last - i;
		for (int k = 0; k < n; k++)
			b[k] = at(d, i + k);
		if (any(3)) {
			r = send(d->from, b, n, flags);
		} else {
			struct iovec v[3] = {{b, n / 3}, {b + n / 3, 0}, {b + n / 3, n - n / 3}};
			struct msghdr m = {.msg_iov = v, .msg_iovlen = 3};
			r = sendmsg(d->from, &m, flags);
		}
		if (r < 0 && errno == EAGAIN) {
			wait_for(d, d->from, e, POLLOUT);
			continue;
		}
		if (r < 0 && over(d))
			break;
		EXPECT(r > 0 && (d->way_out != BLOCKING || r == n || d->rough));
		i += r;
		int v = 3000 + any(100000), one = any(2);
		switch (any(200)) {
		case 0: setsockopt(d->from, SOL_SOCKET, SO_SNDBUF, &v, sizeof v); break;
		case 1: setsockopt(d->from, SOL_TCP, TCP_NODELAY, &one, sizeof one); break;
		case 2: if (!any(4)) { one = 1; setsockopt(d->from, SOL_TCP, TCP_CORK, &one, sizeof one); one = 0; setsockopt(d->from, SOL_TCP, TCP_CORK, &one, sizeof one); } break;
		}
	}
	if (d->resets) {
		struct linger l = {1, 0};
		setsockopt(d->from, SOL_SOCKET, SO_LINGER, &l, sizeof l);
		shutdown(d->from, SHUT_RD); /* who reads here is told */
	} else if (!d->open) {
		shutdown(d->from, SHUT_WR);
	}
	if (e >= 0)
		close(e);
	free(b);
	return 0;
}

static void *receiver(void *p)
{
	struct direction *d = p;
	unsigned char *b = malloc(90000);
	int e = edges(d, d->to, d->way_in, EPOLLIN | EPOLLRDHUP), i = 0;
	state = (uint64_t)d->seed * 40503 + 7;
	for (int more = d->way_in != EDGES; i < d->total || !d->open;) {
		int n = size(), peek = any(8) ? 0 : MSG_PEEK, r;
		if (!more)
			wait_for(d, d->to, e, POLLIN);
		more = 1;
		r = recv(d->to, b, n, peek | (d->way_in == BLOCKING ? (any(4) || peek || (d->open && n > d->total - i) ? 0 : MSG_WAITALL) : MSG_DONTWAIT));
		if (r < 0 && errno == EAGAIN) {
			more = 0;
			continue;
		}
		if (r < 0 && over(d))
			break;
		EXPECT(r >= 0);
		for (int k = 0; k < r; k++)
			if (b[k] != at(d, i + k))
				wrong("byte %d of %d", i + k, d->total);
		if (r == 0)
			break;
		if (!peek)
			i += r;
		if (d->open && i == d->total)
			break;
		if (e >= 0 && r < n && !peek) { /* the last there was, unless the end is there already */
			struct pollfd f = {d->to, POLLRDHUP, 0};
			more = poll(&f, 1, 0);
		}
		int v = 3000 + any(100000);
		if (!any(300))
			setsockopt(d->to, SOL_SOCKET, SO_RCVBUF, &v, sizeof v);
	}
	if (!d->rough && i != d->total)
		wrong("%d of %d bytes", i, d->total);
	if (e >= 0)
		close(e);
	free(b);
	return 0;
}

static int listener(struct sockaddr_in *a)
{
	socklen_t n = sizeof *a;
	int l = socket(AF_INET, SOCK_STREAM, 0);
	*a = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	EXPECT(!bind(l, (void *)a, sizeof *a) && !listen(l, 5) && !getsockname(l, (void *)a, &n));
	return l;
}

/* connection carries both directions at once and ends one way or another. */
static void connection(void)
{
	struct sockaddr_in a;
	struct linger l = {1, 0};
	int s = listener(&a), c = socket(AF_INET, SOCK_STREAM, 0), rough = !any(3);
	EXPECT(s >= 0 && c >= 0 && !connect(c, (void *)&a, sizeof a));
	int x = accept(s, 0, 0);
	EXPECT(x >= 0 && !close(s));
	struct direction d[2] = {{.from = c, .to = x}, {.from = x, .to = c}};
	pthread_t t[4];
	for (int i = 0; i < 2; i++) {
		d[i].seed = any(100000), d[i].total = any(any(2) ? 500 : 400000);
		d[i].way_out = any(WAYS), d[i].way_in = any(WAYS), d[i].rough = rough;
	}
	if (brief) /* two ends would be a TIME_WAIT, which the comparison would have to sit out */
		d[any(2)].open = !rough;
	d[any(2)].resets = rough;
	for (int i = 0; i < 2; i++)
		EXPECT(!pthread_create(&t[2 * i], 0, sender, &d[i]) && !pthread_create(&t[2 * i + 1], 0, receiver, &d[i]));
	int who = d[1].resets;
	if (rough) { /* his sender ends, and then he goes, whatever there is to read */
		pthread_join(t[2 * who], 0);
		int n = open("/dev/null", O_RDWR);
		EXPECT(n >= 0 && dup2(n, d[who].from) == d[who].from && !close(n)); /* while it is read */
	}
	for (int i = 0; i < 4; i++)
		if (!rough || i != 2 * who)
			pthread_join(t[i], 0);
	/* That of one end would be in FIN_WAIT_2. */
	setsockopt(c, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	setsockopt(x, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	close(c), close(x);
}

static volatile int left;
static void *worker(void *n)
{
	state = seed + (uintptr_t)n * 0x9e3779b97f4a7c15ULL;
	while (__sync_fetch_and_sub(&left, 1) > 0)
		connection();
	return 0;
}

/* watcher looks at the segments now and then. */
static volatile int done;
static void *watcher(void *p)
{
	while (!done) {
		usleep(30000);
		int s = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP));
		EXPECT(s >= 0);
		usleep(1000);
		close(s);
	}
	return p;
}

/* run has a process of its own for them, whose memory goes with it. */
static void run(int n)
{
	enum { WORKERS = 5 };
	pthread_t t[WORKERS + 1];
	int st;
	pid_t p = fork();
	EXPECT(p >= 0);
	if (p) {
		EXPECT(waitpid(p, &st, 0) == p);
		if (st)
			exit(7);
		return;
	}
	left = n;
	for (uintptr_t i = 0; i < WORKERS; i++)
		EXPECT(!pthread_create(&t[i], 0, worker, (void *)i));
	EXPECT(!pthread_create(&t[WORKERS], 0, watcher, 0));
	for (int i = 0; i < WORKERS; i++)
		pthread_join(t[i], 0);
	done = 1;
	pthread_join(t[WORKERS], 0);
	_exit(0);
}

int main(int argc, char **argv)
{
	long before[NCOUNTS];
	if (argc < 2)
		return 1;
	if (argc > 2)
		seed += atoi(argv[2]);
	int n = atoi(argv[1]);
	brief = n < 1000;
	run(n / 4 + 20); /* what is kept for the next, is */
	counts(before);
	seed++;
	run(n);
	return settle(before, n);
}
