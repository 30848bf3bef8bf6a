/* Queues as many datagrams as its argument says, never reading: by UDP over the loopback,
 * then by AF_UNIX. Each refusal is an errno or a drop; then all is read again. */
#include "check.h"
#include "meminfo.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

static long drain(int s)
{
	char b[64];
	long n = 0;
	while (recv(s, b, sizeof b, MSG_DONTWAIT) >= 0)
		n++;
	return n;
}

static int count[140];
static void note(int e) { if (e > 0 && e < 140) count[e]++; }
static void print(const char *what, long sent)
{
	say("%s: %ld sent", what, sent);
	for (int e = 0; e < 140; e++)
		if (count[e])
			say("%s: %d refused with %s", what, count[e], errname(e));
	memset(count, 0, sizeof count);
}

int main(int argc, char **argv)
{
	long total = argc > 1 ? atol(argv[1]) : 20000, sent, got;
	enum { S = 1000 };
	static int s[S];
	static struct sockaddr_in a[S];
	struct rlimit r = { 4096, 4096 };
	setrlimit(RLIMIT_NOFILE, &r);
	int n = 0, big = 4 << 20, out;
	long before = meminfo("SUnreclaim:");
	MUST(out = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0));
	for (; n < S; n++) {
		socklen_t len = sizeof a[n];
		a[n].sin_family = AF_INET;
		a[n].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		s[n] = socket(AF_INET, SOCK_DGRAM, 0);
		if (s[n] < 0 || bind(s[n], (struct sockaddr *)&a[n], sizeof a[n]) || getsockname(s[n], (struct sockaddr *)&a[n], &len)) {
			say("socket %d: %s", n, errname(errno));
			break;
		}
		setsockopt(s[n], SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof big);
	}
	static char text[1400];
	for (sent = 0; sent < total; sent++)
		if (sendto(out, text, sent & 1 ? 1 : sizeof text, 0, (struct sockaddr *)&a[sent % n], sizeof a[0]) < 0)
			note(errno);
	print("udp", total);
	got = 0;
	for (int i = 0; i < n; i++)
		got += drain(s[i]);
	say("udp: %s queued", got > 0 && got <= total ? "some or all" : "NONE OR TOO MANY");
	long udp = got;
	/* The sockets still work. */
	if (sendto(out, "again", 5, 0, (struct sockaddr *)&a[0], sizeof a[0]) != 5 || recv(s[0], text, sizeof text, 0) != 5)
		say("udp: NOT SERVING: %s", errname(errno));
	for (int i = 0; i < n; i++)
		close(s[i]);

	/* AF_UNIX: pairs, each filled until it refuses. */
	long queued = 0;
	int pairs = 0;
	static int p[S][2];
	for (; pairs < S && queued < total; pairs++) {
		if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, p[pairs])) {
			note(errno);
			break;
		}
		setsockopt(p[pairs][0], SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof big);
		for (long before = queued; queued - before < 2000 && queued < total; queued++)
			if (send(p[pairs][0], text, 100, 0) < 0) {
				note(errno);
				break;
			}
	}
	print("unix", queued);
	got = 0;
	for (int i = 0; i < pairs; i++)
		got += drain(p[i][1]);
	say("unix: %s", got == queued ? "all that was taken came" : "SOME WAS LOST");
	fprintf(stderr, "udp queued %ld, unix queued %ld over %d pairs\n", udp, queued, pairs);
	for (int i = 0; i < pairs; i++) {
		close(p[i][0]);
		close(p[i][1]);
	}
	close(out);
	/* What is queued is counted each second. */
	long after = -1;
	for (int i = 0; i < 50 && (after = meminfo("SUnreclaim:")) > before + 128; i++)
		usleep(100000);
	if (after > before + 128)
		say("charged %ld kB before and %ld after: A LEAK", before, after);
	say("serving");
	return 0;
}
