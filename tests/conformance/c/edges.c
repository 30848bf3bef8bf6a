/* What the fuzzer (tests/fuzz) found: owners of pipes and sockets, transfers of nothing, what
 * mmap has unmapped when it fails, the order of errors of calls with two of them. */
#include "../../programs/c/check.h"
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>

static void here(void)
{
	mkdir("/tmp/e", 0777);
	if (mount("none", "/tmp/e", "tmpfs", 0, "mode=0777") < 0 || chdir("/tmp/e") < 0)
		say("here: %s", errname(errno));
	umask(022);
}

static void tick(int sig) { (void)sig; }

/* soon has SIGALRM come every 50 ms, so that what waits for ever says EINTR. */
static void soon(void)
{
	struct sigaction sa = {.sa_handler = tick};
	sigaction(SIGALRM, &sa, NULL);
	struct itimerval it = {{0, 50000}, {0, 50000}};
	setitimer(ITIMER_REAL, &it, NULL);
}

static void whose(const char *what, int fd)
{
	struct stat st;
	MUST(fstat(fd, &st));
	say("  %s: mode %o uid %u gid %u", what, st.st_mode, st.st_uid, st.st_gid);
}

CASE(owned, fchmod, fchown)
{
	here();
	MUST(setresgid(-1, 1001, -1));
	MUST(setresuid(-1, 1000, -1));
	int p[2], s[2], t = socket(AF_INET, SOCK_STREAM, 0), u = socket(AF_UNIX, SOCK_STREAM, 0), e = eventfd(0, 0), ep = epoll_create1(0);
	MUST(pipe(p));
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
	whose("pipe", p[0]), whose("pair", s[1]), whose("tcp", t), whose("unix", u), whose("eventfd", e);
	R(fchmod(p[0], 0640)), whose("pipe", p[1]);
	R(fchmod(s[0], 07777)), whose("pair", s[0]), whose("its other end", s[1]);
	R(fchmod(t, 0)), whose("tcp", t);
	R(fchmod(u, 0710)), whose("unix", u);
	R(fchmod(e, 0644));
	R(fchmod(ep, 0644));
	R(fchown(p[0], 0, -1));
	R(fchown(p[0], 1000, 1001)), whose("pipe", p[0]);
	R(fchown(p[0], -1, 7));
	R(fchown(t, 1000, -1));
	R(fchown(t, 1001, -1));
	R(fchown(e, 1000, -1));
	R(fchown(ep, -1, -1));
	struct sockaddr_un a = {AF_UNIX, "name"};
	R(bind(u, (void *)&a, sizeof a));
	struct stat st;
	MUST(stat("name", &st));
	say("  its name: mode %o uid %u gid %u", st.st_mode, st.st_uid, st.st_gid);
	MUST(seteuid(0));
	R(fchown(t, 5, 6)), whose("tcp", t);
	R(fchown(p[1], 5, 6)), whose("pipe", p[0]);
}

CASE(nothing, readv, writev, preadv2, pwritev2, read, write)
{
	here();
	char b[8];
	struct iovec none[2] = {{b, 0}, {b, 0}}, far = {(void *)-4096, 1};
	int p[2], s[2], e = eventfd(0, 0), d = open(".", O_RDONLY), w = open("f", O_CREAT | O_WRONLY, 0644), in = inotify_init1(0), ep = epoll_create1(0),
	    tf = timerfd_create(CLOCK_MONOTONIC, 0), u = socket(AF_INET, SOCK_DGRAM, 0), un = socket(AF_UNIX, SOCK_STREAM, 0);
	sigset_t set;
	sigemptyset(&set);
	int sf = signalfd(-1, &set, 0);
	MUST(pipe2(p, O_NONBLOCK));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	soon();
	R(readv(p[0], none, 2));
	R(readv(p[0], none, 0));
	R(writev(p[1], none, 2));
	R(readv(e, none, 2));
	R(writev(e, none, 2));
	R(readv(d, none, 1));
	R(writev(u, none, 1));
	R(readv(s[0], none, 1));
	R(readv(ep, none, 1));
	R(readv(in, none, 1));
	R(writev(in, none, 1));
	R(writev(tf, none, 1));
	R(writev(sf, none, 1));
	R(readv(w, none, 1));
	R(readv(w, &far, 1));
	R(readv(w, none, -1));
	R(writev(d, &far, 1));
	R(preadv(w, &far, 1, 0));
	R(preadv2(p[0], none, 1, -1, 99));
	R(pwritev2(w, none, 1, 0, 0x200));
	R(pwritev2(w, none, 1, -1, 0x200));
	R(read(un, b, 0));
	R(read(u, b, 0));
	R(write(in, b, 0));
	R(write(in, (void *)-4096, 7));
	R(write(tf, (void *)-4096, 7));
	R(read(ep, (void *)-4096, 7));
	R(read(d, (void *)-4096, 7));
	R(read(w, (void *)-4096, 7));
}

CASE(recvnothing, recvmsg, recvfrom)
{
	int u = socket(AF_INET, SOCK_DGRAM, 0), t = socket(AF_INET, SOCK_STREAM, 0), alone = socket(AF_INET, SOCK_STREAM, 0), s[2], d[2];
	char b[4];
	struct msghdr m = {0};
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t l = sizeof a;
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, d));
	int lis = socket(AF_INET, SOCK_STREAM, 0);
	a.sin_port = 0;
	MUST(bind(lis, (void *)&a, sizeof a));
	MUST(listen(lis, 1));
	MUST(getsockname(lis, (void *)&a, &l));
	MUST(connect(t, (void *)&a, l));
	int c = accept(lis, NULL, NULL);
	a.sin_port = 0;
	MUST(bind(u, (void *)&a, l));
	MUST(getsockname(u, (void *)&a, &l));
	soon();
	R(recvmsg(u, &m, MSG_DONTWAIT));
	R(recvmsg(alone, &m, 0));
	R(recvmsg(alone, &m, MSG_TRUNC));
	R(recvmsg(alone, &m, MSG_PEEK));
	R(recvmsg(s[0], &m, MSG_DONTWAIT));
	R(recvmsg(s[0], &m, 0));
	R(recv(d[0], b, 0, 0));
	R(recv(d[0], b, 1, MSG_ERRQUEUE));
	R(recv(s[0], b, 1, MSG_ERRQUEUE | MSG_DONTWAIT));
	R(send(s[1], "xy", 2, 0));
	R(recv(s[0], b, 0, 0));
	R(recv(s[0], b, 1, MSG_ERRQUEUE));
	R(recv(s[0], b, 4, 0));
	R(sendto(u, "xyz", 3, 0, (void *)&a, l));
	R(recv(u, b, 0, 0));
	R(recv(u, b, 4, MSG_DONTWAIT));
	MUST(connect(u, (void *)&a, l));
	R(shutdown(u, SHUT_RD));
	R(recv(u, b, 4, MSG_DONTWAIT));
	R(recv(u, b, 4, 0));
	R(read(u, b, 4));
	R(recv(t, b, 0, 0));
	R(recv(t, b, 0, MSG_DONTWAIT));
	R(read(t, b, 0));
	R(send(c, "ab", 2, 0));
	struct pollfd pf = {t, POLLIN};
	R(poll(&pf, 1, 1000));
	R(recv(t, b, 0, 0));
	R(recv(t, b, 4, 0));
	R(shutdown(c, SHUT_WR));
	R(poll(&pf, 1, 1000));
	R(recv(t, b, 0, 0));
}

static int mapped(char *p)
{
	unsigned char v;
	return mincore(p, 4096, &v) == 0;
}

CASE(fixedmmap, mmap, mincore)
{
	here();
	char *p = mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int u = socket(AF_UNIX, SOCK_STREAM, 0), d = open(".", O_RDONLY), pi[2], w = open("f", O_CREAT | O_WRONLY, 0644), t = socket(AF_INET, SOCK_STREAM, 0);
	int m = memfd_create("m", MFD_ALLOW_SEALING), e = eventfd(0, 0);
	MUST(pipe(pi));
	MUST(ftruncate(m, 4096));
#define TRY(at, len, prot, flags, fd, off) do { \
		errno = 0; \
		char *got_ = mmap(p + (at) * 4096, len, prot, flags, fd, off); \
		int e_ = errno; \
		say("mmap(page " #at ", " #len ", " #prot ", " #flags ", " #fd ", " #off ") = %s, page there: %s", got_ == MAP_FAILED ? errname(e_) : "ok", mapped(p + (at) * 4096) ? "yes" : "no"); \
	} while (0)
	TRY(0, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, u, 0);
	TRY(1, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, d, 0);
	TRY(1, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, pi[0], 0);
	TRY(1, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, e, 0);
	TRY(1, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, w, 0);
	TRY(1, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, d, 0);
	TRY(1, 4096, PROT_READ, MAP_FIXED, u, 0);
	TRY(1, -1, PROT_READ, MAP_FIXED, u, 0);
	TRY(1, -1, PROT_READ, MAP_FIXED, w, 0);
	TRY(1, 0, PROT_READ, MAP_FIXED, w, 0);
	TRY(1, 4096, PROT_READ, MAP_FIXED | MAP_SHARED_VALIDATE | 0x1000000, w, 0);
	TRY(1, 4096, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_GROWSDOWN, u, 0);
	TRY(1, 4096, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_GROWSDOWN, pi[0], 0);
	TRY(1, 4096, PROT_READ, MAP_FIXED | MAP_PRIVATE, 99, 0);
	TRY(1, 4096, PROT_READ, MAP_FIXED | MAP_PRIVATE, 99, 1);
	TRY(1, 4096, PROT_READ, MAP_FIXED | MAP_PRIVATE, t, 0);
	TRY(2, 4096, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE, t, 0);
	TRY(3, 4096, PROT_READ, MAP_FIXED | MAP_SHARED, t, 0);
	R(mprotect(p + 3 * 4096, 4096, PROT_READ | PROT_WRITE));
	R(fcntl(m, F_ADD_SEALS, F_SEAL_WRITE));
	TRY(4, 4096, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_SHARED, m, 0);
	TRY(5, 4096, PROT_READ, MAP_FIXED | MAP_SHARED, m, 0);
	TRY(6, 4096, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE, m, 0);
}

CASE(hugemmap, mmap, mincore)
{
	/* Far more than there is memory, over what is mapped: that is gone when it fails. */
	char *at = (char *)0x200000000000, *p = mmap(at, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	OK(p == MAP_FAILED ? -1 : 0);
	OK((long)mmap(at, 1L << 44, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	say("there: %d", mapped(at));
	OK((long)mmap(at, 1L << 44, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	say("there: %d", mapped(at));
	MUST(munmap(at, 1L << 44));
	mmap(at, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	OK((long)mmap(at, 1L << 44, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	say("there: %d", mapped(at));
}

CASE(mincorevec, mincore)
{
	unsigned char v[64];
	char *p = mmap(NULL, 4 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(munmap(p + 2 * 4096, 2 * 4096));
	MUST(munmap(p + 2 * 4096, 4096));
	mmap(p + 2 * 4096, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	R(mincore(p, 4 * 4096, NULL));
	R(mincore(p, 4 * 4096, v));
	R(mincore(p, 1L << 47, NULL));
	R(mincore(p, -1, NULL));
	R(mincore(p + 1, 4096, v));
	R(mincore(p, 4096, (void *)-4096));
	R(mincore(p, 0, NULL));
	R(mincore(p, 0, (void *)-4096));
	R(mincore((void *)-4096, 4096, v));
	R(mincore(p + 3 * 4096, 4096, NULL));
}

CASE(vmspliceedges, vmsplice)
{
	soon();
	int p[2], e = eventfd(0, 0), o = open("/", O_PATH);
	char b[8] = "abcdefg";
	struct iovec v = {b, 8}, none = {b, 0}, far = {(void *)-4096, 1};
	MUST(pipe2(p, O_NONBLOCK));
	R(vmsplice(e, &none, 1, 0));
	R(vmsplice(e, &v, 1, 0));
	R(vmsplice(e, &far, 1, 0));
	R(vmsplice(e, (void *)8, 1, 0));
	R(vmsplice(e, &v, -1, 0));
	R(vmsplice(e, &v, 1, 16));
	R(vmsplice(99, &v, 1, 0));
	R(vmsplice(o, &none, 1, 0));
	R(vmsplice(p[0], &none, 1, 0));
	R(vmsplice(p[0], &v, 1, SPLICE_F_NONBLOCK));
	R(vmsplice(p[0], &v, 1, 0));
	R(vmsplice(p[1], &v, 1, 0));
	R(vmsplice(p[0], &v, 1, 0));
	R(fcntl(p[1], F_SETPIPE_SZ, 4096));
	R(vmsplice(p[1], &v, 1, 0));
	R(vmsplice(p[1], &v, 1, SPLICE_F_NONBLOCK));
	R(vmsplice(p[1], &v, 1, 0));
	signal(SIGPIPE, SIG_IGN);
	close(p[0]);
	R(vmsplice(p[1], &v, 1, 0));
}

CASE(sendfileedges, sendfile, copy_file_range)
{
	here();
	soon();
	int f = open("f", O_CREAT | O_RDWR, 0644), p[2], e = eventfd(0, 0), ep = epoll_create1(0), in = inotify_init1(0), s[2], a = open("g", O_CREAT | O_WRONLY | O_APPEND, 0644);
	MUST(pipe(p));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	MUST(write(f, "0123456789", 10));
	off_t minus = -1, zero = 0;
	R(sendfile(ep, ep, NULL, 0));
	R(sendfile(in, in, NULL, 0));
	R(sendfile(e, ep, NULL, 0));
	R(sendfile(p[1], ep, NULL, 0));
	R(sendfile(a, ep, NULL, 0));
	R(sendfile(e, ep, NULL, 1));
	R(sendfile(99, f, NULL, -1));
	R(sendfile(99, f, &minus, 1));
	R(sendfile(f, p[0], NULL, 0));
	R(sendfile(f, s[0], NULL, 1));
	R(sendfile(p[1], s[0], &zero, 1));
	R(write(s[1], "hello", 5));
	R(sendfile(p[1], s[0], NULL, 9));
	R(fcntl(s[0], F_SETFL, O_NONBLOCK));
	R(sendfile(p[1], s[0], NULL, 9));
	/* overlapping is what is inside of the file */
	R(lseek(f, 0, SEEK_SET));
	R(copy_file_range(f, NULL, f, NULL, 5, 0));
	R(lseek(f, 0, SEEK_END));
	R(copy_file_range(f, NULL, f, NULL, 5, 0));
	loff_t i = 8, o = 10;
	R(copy_file_range(f, &i, f, &o, 100, 0));
	say("  %ld %ld", (long)i, (long)o);
}

CASE(twopaths, linkat, renameat)
{
	here();
	int f = open("f", O_CREAT | O_RDWR, 0644);
	char *bad = (char *)8;
	R(linkat(AT_FDCWD, "missing", 99, "x", 0));
	R(linkat(AT_FDCWD, "f", 99, "x", 0));
	R(linkat(AT_FDCWD, "missing", f, "x", 0));
	R(linkat(AT_FDCWD, "f", f, "x", 0));
	R(linkat(AT_FDCWD, "f/", f, "x", 0));
	R(linkat(AT_FDCWD, "missing", AT_FDCWD, bad, 0));
	R(linkat(AT_FDCWD, "f", AT_FDCWD, bad, 0));
	R(linkat(AT_FDCWD, bad, 99, "x", 0));
	R(linkat(99, "f", AT_FDCWD, bad, 0));
	R(linkat(AT_FDCWD, "f", AT_FDCWD, "", 0));
	R(linkat(AT_FDCWD, "missing/x", AT_FDCWD, "", 0));
	R(renameat2(AT_FDCWD, "missing/x", 99, "x", 0));
	R(renameat2(AT_FDCWD, "missing", 99, "x", 0));
	R(renameat2(AT_FDCWD, "missing/x", f, "x", 0));
	R(renameat2(AT_FDCWD, "missing/x", AT_FDCWD, bad, 0));
	R(renameat2(AT_FDCWD, "missing", AT_FDCWD, bad, 0));
	R(renameat2(AT_FDCWD, "f", AT_FDCWD, "", 0));
	R(renameat2(99, "f", AT_FDCWD, bad, 0));
	R(renameat2(AT_FDCWD, "..", 99, "x", 0));
	R(renameat2(AT_FDCWD, "f", 99, "x", 64));
	R(mknod(bad, S_IFDIR, 0));
	R(mknod("missing/x", S_IFDIR, 0));
	R(mknod(bad, 0xf000, 0));
	R(mknod(bad, S_IFIFO, 0));
}

CASE(socketorder, accept4, socketpair, setsockopt, bind)
{
	int e = eventfd(0, 0), u = socket(AF_UNIX, SOCK_STREAM, 0), s[2], i = socket(AF_INET, SOCK_STREAM, 0), d = socket(AF_INET, SOCK_DGRAM, 0), n = -1, v;
	socklen_t l = sizeof v;
	R(accept4(e, NULL, NULL, 1));
	R(accept4(e, NULL, NULL, 0));
	R(accept4(99, NULL, NULL, 1));
	R(setsockopt(u, 99, 8, NULL, 1));
	R(setsockopt(u, SOL_TCP, 250, NULL, 4));
	R(setsockopt(u, SOL_SOCKET, SO_KEEPALIVE, NULL, 4));
	R(setsockopt(i, 99, 8, NULL, 4));
	R(setsockopt(i, SOL_IP, 250, NULL, 4));
	R(setsockopt(i, SOL_IP, 250, &n, 0));
	R(setsockopt(i, SOL_IP, IP_TTL, NULL, 4));
	R(setsockopt(i, SOL_TCP, 250, NULL, 4));
	R(setsockopt(i, SOL_TCP, 250, &n, 2));
	R(setsockopt(d, SOL_IP, IP_RECVTTL, &n, 4));
	R(setsockopt(d, SOL_IP, IP_RECVTTL, NULL, 0));
	v = 7;
	R(getsockopt(d, SOL_IP, IP_RECVTTL, &v, &l)), say("  %d", v);
	R(setsockopt(d, SOL_IP, IP_TTL, &n, 0));
	R(setsockopt(d, SOL_IP, IP_TOS, &n, 0));
	R(setsockopt(d, SOL_IP, IP_FREEBIND, &n, 0));
	R(setsockopt(d, SOL_IP, IP_MULTICAST_LOOP, &n, 0));
	R(setsockopt(d, SOL_IP, IP_MTU_DISCOVER, &n, 0));
	R(setsockopt(d, SOL_IP, 26 /* IP_RECVERR_RFC4884 */, &n, 0));
	R(setsockopt(d, SOL_IP, 26, &n, 4));
	n = 1;
	R(setsockopt(d, SOL_IP, 26, &n, 4));
	R(getsockopt(d, SOL_IP, 26, &v, &l)), say("  %d", v);
	/* a connection that has failed leaves the socket without a port */
	int nb = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(5999), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, b = a;
	b.sin_port = htons(5998);
	R(connect(nb, (void *)&a, sizeof a));
	struct pollfd pf = {nb, POLLOUT};
	R(poll(&pf, 1, 1000));
	R(bind(nb, (void *)&b, sizeof b));
	R(bind(nb, (void *)&b, sizeof b));
	l = sizeof v;
	R(getsockopt(nb, SOL_SOCKET, SO_ERROR, &v, &l)), say("  %s", errname(v));
	struct rlimit r = {20, 20};
	for (int k = 0; k < 30; k++)
		dup(0);
	setrlimit(RLIMIT_NOFILE, &r);
	R(accept4(e, NULL, NULL, 0));
	R(accept4(u, NULL, NULL, 0));
	R(socketpair(99, SOCK_STREAM, 0, s));
	R(socketpair(AF_UNIX, SOCK_STREAM, 0, NULL));
	R(socket(99, SOCK_STREAM, 0));
}

CASE(lateerrors, timer_create, getrandom, fallocate)
{
	timer_t t;
	R(syscall(SYS_timer_create, -1, NULL, NULL));
	R(syscall(SYS_timer_create, -1, NULL, &t));
	R(syscall(SYS_timer_create, 99, NULL, NULL));
	R(syscall(SYS_timer_create, -1, 8, NULL));
	R(syscall(SYS_getrandom, (void *)-4096, 0, 0));
	R(syscall(SYS_getrandom, (void *)8, 0, 0));
	R(syscall(SYS_getrandom, (void *)-4096, 16, 4));
	int m = memfd_create("m", 0);
	struct rlimit r = {4096, 4096};
	MUST(ftruncate(m, 8192));
	setrlimit(RLIMIT_FSIZE, &r);
	signal(SIGXFSZ, SIG_IGN);
	R(fallocate(m, FALLOC_FL_INSERT_RANGE, 1 << 20, 1));
	R(fallocate(m, FALLOC_FL_ZERO_RANGE, 1 << 20, 1));
	R(fallocate(m, 0, 0, 8192));
	R(fallocate(m, 0, 8192, 1));
	R(fallocate(m, FALLOC_FL_KEEP_SIZE, 8192, 1));
	R(fallocate(m, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 8192, 1));
}

CASE(queueinfo, rt_sigqueueinfo, rt_tgsigqueueinfo)
{
	/* what lies behind the part of a siginfo_t that the kernel knows */
	int codes[] = {-1, -6, -7, -8, -60, -61, 0, 0x80, 1, 6, 7, 10};
	char info[128] = {0};
	signal(SIGUSR1, SIG_IGN), signal(SIGILL, SIG_IGN);
	for (int full = 0; full < 2; full++) {
		info[127] = full;
		for (unsigned i = 0; i < sizeof codes / sizeof *codes; i++) {
			memcpy(info + 8, &codes[i], 4);
			say("-- code %d, %s", codes[i], full ? "more" : "nothing more");
			R(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, info));
			R(syscall(SYS_rt_sigqueueinfo, 99999, SIGILL, info));
			R(syscall(SYS_rt_tgsigqueueinfo, 0, 1, SIGUSR1, info));
		}
	}
	R(syscall(SYS_rt_sigqueueinfo, 99999, 65, (void *)8));
}

CASE(lateargs, setxattr, fsetxattr, getxattr, removexattr, splice, preadv2, clock_nanosleep)
{
	here();
	int f = open("f", O_CREAT | O_RDWR, 0644), p[2], q[2], d = open(".", O_RDONLY);
	char *bad = (char *)8, b[4];
	off_t zero = 0;
	struct iovec v = {b, 4};
	struct timespec ts = {0, 1}, wrong = {0, -1};
	MUST(pipe(p));
	MUST(pipe(q));
	R(syscall(SYS_setxattr, "missing", "trusted.x", b, 4, 8));
	R(syscall(SYS_setxattr, "missing", bad, b, 4, 0));
	R(syscall(SYS_setxattr, "f", "trusted.x", b, 4, 8));
	R(syscall(SYS_setxattr, "f", bad, b, 1 << 20, 8));
	R(syscall(SYS_setxattr, "f", "", b, 1 << 20, 0));
	R(syscall(SYS_setxattr, "f", "trusted.x", bad, 1 << 20, 0));
	R(syscall(SYS_setxattr, "f", "x", bad, 4, 0));
	R(syscall(SYS_fsetxattr, 99, "", b, 4, 8));
	R(syscall(SYS_fsetxattr, p[0], "trusted.x", b, 4, 8));
	R(syscall(SYS_fsetxattr, p[0], "trusted.x", b, 4, 0));
	R(syscall(SYS_getxattr, "missing", bad, b, 4));
	R(syscall(SYS_getxattr, "f", bad, b, 4));
	R(syscall(SYS_removexattr, "missing", bad));
	R(syscall(SYS_removexattr, "f", ""));
	R(splice(p[0], &zero, p[1], NULL, 1, 0));
	R(splice(p[0], NULL, p[1], NULL, 1, 0));
	R(splice(f, NULL, f, NULL, 1, 0));
	R(splice(p[0], &zero, q[1], NULL, 1, 0));
	R(syscall(SYS_preadv2, d, &v, 1, 0, 0, 1));
	R(syscall(SYS_preadv2, d, &v, 1, 0, 0, 17));
	R(syscall(SYS_preadv2, d, &v, 1, -1, 0, 8));
	timer_t t = NULL;
	struct sigevent ev = {.sigev_notify = SIGEV_NONE}, odd = {.sigev_notify = 99};
	R(syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, &t)), say("  %d", *(int *)&t);
	R(syscall(SYS_timer_create, CLOCK_MONOTONIC, &odd, &t));
	R(syscall(SYS_timer_create, -1, NULL, &t));
	R(syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, NULL));
	R(syscall(SYS_timer_create, 99, &ev, &t));
	R(syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, &t)), say("  %d", *(int *)&t);
	MUST(seteuid(1000));
	R(mknod("missing/x", S_IFBLK | 0600, 0x103));
	R(mknod("f", S_IFBLK | 0600, 0x103));
	R(mknod("new", S_IFBLK | 0600, 0x103));
	R(syscall(SYS_clock_nanosleep, CLOCK_REALTIME_ALARM, 0, bad, NULL));
	R(syscall(SYS_clock_nanosleep, CLOCK_REALTIME_ALARM, 0, &wrong, NULL));
	R(syscall(SYS_clock_nanosleep, CLOCK_BOOTTIME_ALARM, 0, &ts, NULL));
	int s6 = socket(AF_INET6, SOCK_STREAM, 0), s4 = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t l = 4;
	R(getsockopt(s6, 17, 103, b, &l));
	R(getsockopt(s4, 17, 103, b, &l));
	R(getsockopt(s6, 99, 1, b, &l));
	R(getsockopt(s4, 99, 1, b, &l));
}

CASE(cachedopen, openat2)
{
	here();
	close(open("f", O_CREAT | O_RDWR, 0644));
	struct { unsigned long flags, mode, resolve; } how = {O_PATH, 0, 0x20};
	char longer[300];
	memset(longer, 'n', 299), longer[299] = 0;
	OK(syscall(SYS_openat2, AT_FDCWD, "f", &how, sizeof how));
	R(syscall(SYS_openat2, AT_FDCWD, "missing", &how, sizeof how));
	R(syscall(SYS_openat2, AT_FDCWD, "missing/x", &how, sizeof how));
	R(syscall(SYS_openat2, AT_FDCWD, longer, &how, sizeof how));
	R(syscall(SYS_openat2, AT_FDCWD, "", &how, sizeof how));
	R(syscall(SYS_openat2, AT_FDCWD, (char *)8, &how, sizeof how));
	R(syscall(SYS_openat2, AT_FDCWD, "f/x", &how, sizeof how));
}

CASE(oddfiles, flistxattr, setxattr, getxattr, removexattr, readahead, sendto)
{
	here();
	char b[64];
	int p[2], e = eventfd(0, 0), f = open("f", O_CREAT | O_RDWR, 0644), d = open(".", O_RDONLY), m = syscall(SYS_mq_open, "oddfiles", O_CREAT | O_RDWR, 0600, NULL);
	MUST(pipe(p));
	R(syscall(SYS_flistxattr, e, b, sizeof b));
	R(syscall(SYS_flistxattr, p[0], NULL, 0));
	R(syscall(SYS_flistxattr, open("f", O_PATH), b, sizeof b));
	R(readahead(f, 0, 1)), R(readahead(f, 0, -1)), R(readahead(f, -1, 1)), R(readahead(m, 0, 1));
	R(readahead(e, 0, 1)), R(readahead(p[0], 0, 1)), R(readahead(p[1], 0, 1)), R(readahead(d, 0, 1));
	R(readahead(open("f", O_WRONLY), 0, 1));
	for (int family = AF_INET; family <= AF_INET6; family += AF_INET6 - AF_INET) {
		int u = socket(family, SOCK_DGRAM, 0), r = socket(family, SOCK_DGRAM, 0);
		struct sockaddr_in6 to = {.sin6_family = family};
		if (family == AF_INET)
			((struct sockaddr_in *)&to)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		else
			to.sin6_addr = in6addr_loopback;
		MUST(bind(r, (void *)&to, sizeof to));
		socklen_t l = sizeof to;
		MUST(getsockname(r, (void *)&to, &l));
		R(send(u, "a", 1, MSG_MORE)), R(send(u, (void *)8, 1, MSG_MORE)), R(send(u, "a", 1, 0));
		R(sendto(u, "b", 1, MSG_MORE, (void *)&to, l)), R(send(u, "c", 1, MSG_MORE)), R(send(u, "d", 1, 0)), R(send(u, "e", 1, MSG_MORE));
		R(recv(r, b, sizeof b, MSG_DONTWAIT)), say("  %.3s", b);
		MUST(connect(u, (void *)&to, l));
		R(send(u, "x", 1, MSG_MORE)), R(send(u, "y", 1, 0)), R(recv(r, b, sizeof b, MSG_DONTWAIT));
	}
	mkdir("root", 0755), chmod("f", 0);
	MUST(seteuid(1000));
	for (char *const *n = (char *const[]){"x", "system.y", "trusted.x", "trusted.", "system.", "xy.z", NULL}; *n; n++) {
		say("  %s", *n);
		R(syscall(SYS_setxattr, "root", *n, "v", 1, 0)), R(syscall(SYS_getxattr, "root", *n, b, 64)), R(syscall(SYS_removexattr, "root", *n));
		R(syscall(SYS_setxattr, "f", *n, "v", 1, 0)), R(syscall(SYS_getxattr, "f", *n, b, 64)), R(syscall(SYS_removexattr, "f", *n));
		R(syscall(SYS_fsetxattr, e, *n, "v", 1, 0)), R(syscall(SYS_fgetxattr, e, *n, b, 64)), R(syscall(SYS_fremovexattr, p[0], *n));
	}
}

CASE(address6, connect, sendto)
{
	for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
		int s = socket(AF_INET6, type | SOCK_NONBLOCK, 0);
		struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(9), .sin6_addr.s6_addr = {0xfe, 0x80, [15] = 1}};
		R(connect(s, (void *)&a, sizeof a));
		R(connect(s, (void *)&a, 24));
		a.sin6_family = AF_UNSPEC;
		if (type == SOCK_STREAM)
			continue;
		R(sendto(s, "a", 1, 0, (void *)&a, sizeof a)), R(sendto(s, "a", 1, 0, (void *)&a, 3)), R(sendto(s, "a", 1, 0, (void *)&a, 1));
		R(sendto(s, "a", 1, MSG_MORE, (void *)&a, 2));
	}
}

CASES
