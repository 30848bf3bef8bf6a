/*
 * A server for what a peer can pile up. TCP ports: 7001 echoes, and answers a line
 * "stat" with its counters, "drop" by closing what 7002 and 7003 hold; 7002 takes connections and leaves them alone; 7003 sends
 * to each connection all that the kernel takes. UDP port 7005 is never read, 7006
 * echoes. Nothing it is refused ends it: it prints the first errno of each kind.
 */
#include "check.h"
#include "meminfo.h"
#include <arpa/inet.h>
#include <signal.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

enum { ECHO = 7001, IDLE, FLOOD, DEAF = 7005, UECHO };
static int ep, held, echoes, refused;
static long flooded;
static char buf[65536];
static unsigned short kind[70000];
static unsigned char taken[70000];

static void once(const char *what, int e)
{
	static unsigned char seen[2][140];
	if (e > 0 && e < 140 && !seen[what[0] == 'a'][e]) {
		seen[what[0] == 'a'][e] = 1;
		say("%s: %s", what, errname(e));
	}
}

static void add(int fd, int k, int events)
{
	struct epoll_event e = { .events = events, .data.fd = fd };
	kind[fd] = k;
	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e)) {
		once("epoll_ctl", errno);
		close(fd);
	}
}

static int listener(int port, int type)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	int s, one = 1;
	MUST(s = socket(AF_INET, type | SOCK_NONBLOCK, 0));
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	MUST(bind(s, (struct sockaddr *)&a, sizeof a));
	if (type == SOCK_STREAM)
		MUST(listen(s, 4096));
	return s;
}

static void gone(int fd)
{
	if (!taken[fd])
		return; /* "drop" was faster than an event of the same batch */
	if (kind[fd] == ECHO)
		echoes--;
	else
		held--;
	taken[fd] = 0;
	close(fd);
}

static void flood(int fd)
{
	ssize_t n;
	while ((n = write(fd, buf, sizeof buf)) > 0)
		flooded += n;
	if (n < 0 && errno == EAGAIN)
		return;
	once("write", errno);
	if (errno != ENOBUFS && errno != ENOMEM)
		gone(fd);
}

static void echo(int fd)
{
	ssize_t n = read(fd, buf, sizeof buf);
	if (n <= 0) {
		if (n < 0 && errno == EAGAIN)
			return;
		gone(fd);
		return;
	}
	if (n == 5 && !memcmp(buf, "stat\n", 5))
		n = snprintf(buf, sizeof buf, "held %d echoes %d refused %d flooded %ld charged %ld kernel %ld free %ld\n", held, echoes,
			refused, flooded, meminfo("SUnreclaim:"), meminfo("Slab:"), meminfo("MemFree:"));
	if (n == 5 && !memcmp(buf, "drop\n", 5))
		for (int i = 0; i < 70000; i++)
			if (taken[i] && kind[i] != ECHO)
				gone(i);
	for (ssize_t o = 0, w; o < n; o += w)
		if ((w = write(fd, buf + o, n - o)) <= 0) {
			once("write", errno);
			gone(fd);
			return;
		}
}

static void take(int l, int k)
{
	int fd = accept4(l, NULL, NULL, SOCK_NONBLOCK);
	if (fd < 0) {
		if (errno != EAGAIN) {
			refused++;
			once("accept", errno);
			usleep(10000);
		}
		return;
	}
	if (fd >= 70000) {
		close(fd);
		return;
	}
	if (k == ECHO)
		echoes++;
	else
		held++;
	taken[fd] = 1;
	add(fd, k, k == ECHO ? EPOLLIN : EPOLLRDHUP);
	if (k == FLOOD)
		flood(fd);
}

int main(void)
{
	struct rlimit r = { 70000, 70000 };
	signal(SIGPIPE, SIG_IGN);
	if (setrlimit(RLIMIT_NOFILE, &r))
		say("setrlimit: %s", errname(errno));
	MUST(ep = epoll_create1(0));
	int tcp[3];
	for (int i = 0; i < 3; i++) {
		tcp[i] = listener(ECHO + i, SOCK_STREAM);
		add(tcp[i], ECHO + i, EPOLLIN);
	}
	int u = listener(UECHO, SOCK_DGRAM);
	add(u, UECHO, EPOLLIN);
	listener(DEAF, SOCK_DGRAM);
	say("ready");
	for (;;) {
		struct epoll_event e[256];
		int n = epoll_wait(ep, e, 256, -1);
		if (n < 0 && errno != EINTR)
			once("epoll_wait", errno);
		for (int i = 0; i < n; i++) {
			int fd = e[i].data.fd;
			if (fd == tcp[0] || fd == tcp[1] || fd == tcp[2])
				take(fd, kind[fd]);
			else if (fd == u) {
				struct sockaddr_in a;
				socklen_t len = sizeof a;
				ssize_t m = recvfrom(fd, buf, sizeof buf, 0, (struct sockaddr *)&a, &len);
				if (m >= 0)
					sendto(fd, buf, m, 0, (struct sockaddr *)&a, len);
			} else if (kind[fd] == ECHO)
				echo(fd);
			else
				gone(fd); /* the peer has ended it */
		}
	}
}
