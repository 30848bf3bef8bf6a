/* sendfile, splice, tee, vmsplice; pipes of packets. */
#include "files.h"
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/time.h>

static char buf[65536];

static void drain(const char *what, int fd)
{
	char b[100];
	int fl = fcntl(fd, F_GETFL);
	fcntl(fd, F_SETFL, fl | O_NONBLOCK);
	ssize_t n = read(fd, b, 64);
	fcntl(fd, F_SETFL, fl);
	if (n < 0)
		say("%s: %s", what, errname(errno));
	else
		say("%s: %ld '%.*s'", what, (long)n, (int)n, b);
}

CASE(sendfile_errors, sendfile)
{
	fresh("/tmp/sp");
	int fd = made("f", "0123456789"), g = made("g", ""), p[2], d = open(".", O_RDONLY);
	MUST(pipe(p));
	long neg = -1, o = 0;
	R(sendfile(99, fd, 0, 1));
	R(sendfile(g, 99, 0, 1));
	R(sendfile(open("g", O_RDONLY), fd, 0, 1));
	R(sendfile(g, open("f", O_WRONLY), 0, 1));
	R(sendfile(g, fd, BAD, 1));
	R(sendfile(g, fd, &neg, 1));
	R(sendfile(g, fd, &o, 0));
	R(sendfile(g, fd, 0, -1));
	R(sendfile(g, p[0], 0, 1));
	R(sendfile(g, p[0], &o, 1));
	R(sendfile(open("g", O_WRONLY | O_APPEND), fd, 0, 1));
	R(sendfile(g, d, 0, 1));
	R(sendfile(d, fd, 0, 1));
	R(sendfile(g, open("f", O_PATH), 0, 1));
	R(sendfile(open("/dev/null", O_WRONLY), fd, 0, 1));
	o = 0;
	R(sendfile(g, open("/dev/zero", O_RDONLY), &o, 5));
	R(sendfile(eventfd(0, 0), fd, 0, 8));
	R(sendfile(g, eventfd(0, 0), 0, 8));
}

CASE(sendfile, sendfile)
{
	fresh("/tmp/sp");
	int fd = made("f", "0123456789"), g = made("g", ""), p[2], s[2];
	MUST(pipe(p));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	long o = 2;
	R(sendfile(g, fd, &o, 3));
	say("%ld", o);
	R(sendfile(g, fd, 0, 4));
	content("g", g);
	content("f", fd);
	R(sendfile(g, fd, 0, 100));
	R(sendfile(g, fd, 0, 100));
	o = 100;
	R(sendfile(g, fd, &o, 100));
	o = 0;
	R(sendfile(p[1], fd, &o, 100));
	drain("pipe", p[0]);
	o = 5;
	R(sendfile(s[1], fd, &o, 100));
	drain("socket", s[0]);
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	int big = open("big", O_CREAT | O_RDWR, 0600);
	ftruncate(big, 1 << 20);
	o = 0;
	R(sendfile(p[1], big, &o, 1 << 20));
	say("%ld", o);
	R(sendfile(p[1], big, &o, 1 << 20));
	close(p[0]);
	R(sendfile(p[1], big, &o, 1 << 20));
}

CASE(splice_errors, splice)
{
	fresh("/tmp/sp");
	int fd = made("f", "0123456789"), p[2], q[2];
	MUST(pipe(p));
	MUST(pipe(q));
	long o = 0, neg = -1;
	R(splice(99, 0, p[1], 0, 1, 0));
	R(splice(fd, 0, 99, 0, 1, 0));
	R(splice(99, 0, p[1], 0, 0, 0));
	R(splice(99, 0, p[1], 0, 1, 16));
	R(splice(99, 0, p[1], 0, 0, 16));
	R(splice(fd, 0, fd, 0, 1, 0));
	R(splice(p[0], 0, p[1], 0, 1, 0));
	R(splice(p[1], 0, q[1], 0, 1, 0));
	R(splice(p[0], 0, q[0], 0, 1, 0));
	R(splice(p[0], &o, q[1], 0, 1, 0));
	R(splice(fd, 0, p[1], &o, 1, 0));
	R(splice(fd, BAD, p[1], 0, 1, 0));
	R(splice(fd, &neg, p[1], 0, 1, 0));
	R(splice(open("f", O_WRONLY), 0, p[1], 0, 1, 0));
	R(splice(open(".", O_RDONLY), 0, p[1], 0, 1, 0));
	write(p[1], "abcdef", 6);
	R(splice(p[0], 0, open("f", O_RDONLY), 0, 1, 0));
	R(splice(p[0], 0, open("f", O_WRONLY | O_APPEND), 0, 1, 0));
	R(splice(p[0], 0, fd, BAD, 1, 0));
	R(splice(p[0], 0, fd, &neg, 1, 0));
	drain("left", p[0]);
	R(splice(p[0], 0, q[1], 0, 1, SPLICE_F_NONBLOCK));
	R(splice(p[0], 0, fd, 0, 1, SPLICE_F_NONBLOCK));
	close(p[1]);
	R(splice(p[0], 0, fd, 0, 1, 0));
	R(splice(eventfd(1, 0), 0, q[1], 0, 8, 0));
	close(q[0]);
	R(splice(fd, 0, q[1], 0, 1, 0));
	R(splice(open("f", O_PATH), 0, q[1], 0, 1, 0));
}

CASE(splice, splice)
{
	fresh("/tmp/sp");
	int fd = made("f", "0123456789"), g = made("g", ""), p[2], q[2], s[2];
	MUST(pipe(p));
	MUST(pipe(q));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	long o = 2;
	R(splice(fd, &o, p[1], 0, 3, 0));
	say("%ld", o);
	R(splice(fd, 0, p[1], 0, 4, SPLICE_F_MOVE | SPLICE_F_MORE | SPLICE_F_GIFT));
	R(lseek(fd, 0, SEEK_CUR));
	R(splice(p[0], 0, q[1], 0, 5, 0));
	drain("moved", q[0]);
	o = 3;
	R(splice(p[0], 0, g, &o, 100, 0));
	say("%ld", o);
	content("g", g);
	R(splice(fd, 0, p[1], 0, 100, 0));
	R(splice(fd, 0, p[1], 0, 100, 0));
	R(splice(p[0], 0, s[1], 0, 100, 0));
	drain("socket", s[0]);
	write(s[1], "stream", 6);
	R(splice(s[0], 0, p[1], 0, 100, 0));
	drain("pipe", p[0]);
	R(splice(open("/dev/zero", O_RDONLY), 0, p[1], 0, 100, 0));
	write(p[1], "gone", 4);
	R(splice(p[0], 0, open("/dev/null", O_WRONLY), 0, 100, 0));
}

CASE(splice_full, splice)
{
	fresh("/tmp/sp");
	int fd = made("f", ""), p[2];
	ftruncate(fd, 1 << 20);
	MUST(pipe(p));
	long o = 0;
	R(splice(fd, &o, p[1], 0, 1 << 20, 0));
	R(splice(fd, &o, p[1], 0, 1 << 20, SPLICE_F_NONBLOCK));
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	R(splice(fd, &o, p[1], 0, 1 << 20, 0));
	read(p[0], buf, 100);
	R(splice(fd, &o, p[1], 0, 1 << 20, 0));
	read(p[0], buf, 4096);
	R(splice(fd, &o, p[1], 0, 1 << 20, 0));
}

CASE(tee, tee)
{
	fresh("/tmp/sp");
	int fd = made("f", "0123456789"), p[2], q[2];
	MUST(pipe(p));
	MUST(pipe(q));
	R(tee(99, q[1], 1, 0));
	R(tee(p[0], 99, 1, 0));
	R(tee(p[0], q[1], 1, 16));
	R(tee(99, q[1], 0, 0));
	R(tee(p[0], p[1], 1, 0));
	R(tee(fd, q[1], 1, 0));
	R(tee(p[0], fd, 1, 0));
	R(tee(p[1], q[1], 1, 0));
	R(tee(p[0], q[0], 1, 0));
	R(tee(p[0], q[1], 1, SPLICE_F_NONBLOCK));
	write(p[1], "abcdef", 6);
	R(tee(p[0], q[1], 4, 0));
	R(tee(p[0], q[1], 100, 0));
	drain("copy", q[0]);
	drain("original", p[0]);
	close(p[1]);
	R(tee(p[0], q[1], 1, 0));
	close(q[0]);
	R(tee(p[0], q[1], 1, 0));
}

CASE(vmsplice, vmsplice)
{
	fresh("/tmp/sp");
	int fd = made("f", "0123456789"), p[2];
	MUST(pipe(p));
	char out[8] = "";
	struct iovec v[2] = {{"hello ", 6}, {"world", 5}}, bad = {BAD, 4}, r = {out, 7};
	R(vmsplice(99, v, 2, 0));
	R(vmsplice(fd, v, 2, 0));
	R(vmsplice(p[1], v, 2, 16));
	R(vmsplice(p[1], v, 1025, 0));
	R(vmsplice(p[1], BAD, 1, 0));
	R(vmsplice(p[1], &bad, 1, 0));
	R(vmsplice(p[1], v, 0, 0));
	R(vmsplice(p[1], v, 2, 0));
	R(vmsplice(p[0], &r, 1, 0));
	say("'%s'", out);
	drain("rest", p[0]);
	R(vmsplice(p[0], &r, 1, SPLICE_F_NONBLOCK));
	struct iovec big = {buf, 40000};
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	R(vmsplice(p[1], &big, 1, 0));
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	R(vmsplice(p[1], v, 1, SPLICE_F_NONBLOCK));
	close(p[0]);
	R(vmsplice(p[1], v, 1, 0));
	R(vmsplice(open("f", O_PATH), v, 1, 0));
}

CASE(packets, pipe2, read, write)
{
	int p[2];
	R(pipe2(p, O_DIRECT | 1));
	R(pipe2(p, O_DIRECT | O_APPEND));
	R(pipe2(BAD, O_DIRECT));
	MUST(pipe2(p, O_DIRECT));
	write(p[1], "one", 3);
	write(p[1], "two", 3);
	write(p[1], "", 0);
	R(write(p[1], buf, 5000));
	drain("first", p[0]);
	R(read(p[0], buf, 2));
	R(read(p[0], buf, 10000));
	R(read(p[0], buf, 10000));
	drain("none", p[0]);
	fcntl(p[1], F_SETFL, 0);
	write(p[1], "one", 3);
	write(p[1], "two", 3);
	drain("stream", p[0]);
}

static void nothing(int s) {}

static int waiting(int fd)
{
	int n = -1;
	ioctl(fd, FIONREAD, &n);
	return n;
}

/* What the other side does not take stays in the pipe: where it does not wait, and where a
 * signal ends the wait. */
CASE(splice_leaves, splice)
{
	int p[2], q[2], l = socket(AF_INET, SOCK_STREAM, 0), size = 65536;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	setsockopt(l, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	MUST(bind(l, (void *)&a, n));
	MUST(listen(l, 1));
	getsockname(l, (void *)&a, &n);
	MUST(q[1] = socket(AF_INET, SOCK_STREAM, 0));
	setsockopt(q[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	MUST(connect(q[1], (void *)&a, n));
	MUST(q[0] = accept(l, 0, 0));
	MUST(pipe(p));
	struct sigaction sa = {.sa_handler = nothing};
	sigaction(SIGALRM, &sa, 0);
	unsigned in = 0, gone = 0, came = 0, bad = 0, lost = 0;
	for (int wait = 0; wait < 2; wait++) {
		fcntl(q[1], F_SETFL, wait ? 0 : O_NONBLOCK);
		for (long k = 1; k > 0;) {
			for (int i = 0; i < 60000; i++)
				buf[i] = (in + i) * 2654435761u >> 24;
			long w = 60000 - waiting(p[0]);
			MUST(write(p[1], buf, w));
			in += w;
			struct itimerval it = {.it_value.tv_usec = wait ? 50000 : 0};
			setitimer(ITIMER_REAL, &it, 0);
			k = splice(p[0], 0, q[1], 0, 60000, 0);
			if (k < 0)
				say("splice: %s", errname(errno));
			else
				gone += k;
			lost += waiting(p[0]) != in - gone;
		}
	}
	while (came < gone) {
		long k = recv(q[0], buf, sizeof buf, 0);
		for (long i = 0; i < k; i++)
			bad += (unsigned char)buf[i] != (unsigned char)((came + i) * 2654435761u >> 24);
		came += k;
	}
	say("%u bad, %u times something was lost", bad, lost);
	R(recv(q[0], buf, 1, MSG_DONTWAIT));
	while (waiting(p[0]) > 0) {
		long k = read(p[0], buf, sizeof buf);
		for (long i = 0; i < k; i++)
			bad += (unsigned char)buf[i] != (unsigned char)((came + i) * 2654435761u >> 24);
		came += k;
	}
	say("%u bad, all %d", bad, came == in);
}

CASES
