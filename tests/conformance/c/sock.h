/* What the programs about sockets share: addresses of the loopback, pairs of connected
 * sockets, options printed by name. */
#include "../../programs/c/check.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#ifndef SOL_TCP
#define SOL_TCP 6
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef SOL_RAW
#define SOL_RAW 255
#endif

static char buf[70000];

__attribute__((unused)) static struct sockaddr_in v4(uint32_t host, int port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(host) };
}
__attribute__((unused)) static struct sockaddr_in lo(int port) { return v4(INADDR_LOOPBACK, port); }
__attribute__((unused)) static struct sockaddr_in6 lo6(int port)
{
	return (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT };
}
#define SA(x) (struct sockaddr *)&(x), sizeof(x)

/* bound makes a socket bound to the loopback of its family, at a port the kernel chose,
 * and gives its address. */
__attribute__((unused)) static int bound(int family, int type, struct sockaddr_storage *at, socklen_t *len)
{
	int s;
	struct sockaddr_in a = lo(0);
	struct sockaddr_in6 a6 = lo6(0);
	MUST(s = socket(family, type, 0));
	if (family == AF_INET)
		MUST(bind(s, SA(a)));
	else
		MUST(bind(s, SA(a6)));
	*len = sizeof *at;
	MUST(getsockname(s, (void *)at, len));
	return s;
}

/* tcp makes a connection over the loopback: p[0] connected, p[1] accepted. */
__attribute__((unused)) static void tcp(int family, int p[2])
{
	struct sockaddr_storage a;
	socklen_t n;
	int l = bound(family, SOCK_STREAM, &a, &n);
	MUST(listen(l, 8));
	MUST(p[0] = socket(family, SOCK_STREAM, 0));
	MUST(connect(p[0], (void *)&a, n));
	MUST(p[1] = accept(l, 0, 0));
	close(l);
}

/* udp makes two datagram sockets, p[0] connected to p[1]. */
__attribute__((unused)) static void udp(int family, int p[2])
{
	struct sockaddr_storage a;
	socklen_t n;
	p[1] = bound(family, SOCK_DGRAM, &a, &n);
	p[0] = socket(family, SOCK_DGRAM, 0);
	MUST(connect(p[0], (void *)&a, n));
}

/* wait for events, at most 5 s. */
__attribute__((unused)) static int ready(int s, int events)
{
	struct pollfd f = { s, events, 0 };
	return poll(&f, 1, 5000) == 1 ? f.revents : 0;
}

/* settle lets segments come to where they are going, also on a machine with other work; for
 * what can be waited for there is ready. */
__attribute__((unused)) static void settle(void) { usleep(150000); }

__attribute__((unused)) static int setint(int s, int level, int name, int v) { return setsockopt(s, level, name, &v, sizeof v); }

/* get prints an option's value as its int, or the errno. */
__attribute__((unused)) static void getint(const char *what, int s, int level, int name)
{
	int v = -77;
	socklen_t n = sizeof v;
	errno = 0;
	if (getsockopt(s, level, name, &v, &n) < 0)
		say("%s: %s", what, errname(errno));
	else
		say("%s: %d (%u bytes)", what, v, n);
}
#define GET(s, l, n) getint(#n, s, l, n)
/* SET sets an int and prints what is read back. */
#define SET(s, l, n, v) ({ errno = 0; int r_ = setint(s, l, n, v), e_ = errno; char t_[64]; \
	if (r_ < 0) say("%s = %s: %s", #n, #v, errname(e_)); \
	else { snprintf(t_, sizeof t_, "%s after %s", #n, #v); getint(t_, s, l, n); } })
