/* POSIX message queues: mq_open, mq_unlink, mq_timedsend, mq_timedreceive, mq_notify,
 * mq_getsetattr, the mqueue file system, its limits. */
#include "ipc.h"
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

static const char *N = "/conformance";
#define ATTR(m, s) (&(struct mq_attr){ .mq_maxmsg = m, .mq_msgsize = s })
#define OPEN(name, f, mode, a) syscall(SYS_mq_open, name, f, mode, a)
#define UNLINK(name) syscall(SYS_mq_unlink, name)
#define SEND(q, b, n, p, t) syscall(SYS_mq_timedsend, q, b, (size_t)(n), p, t)
#define RECV(q, b, n, p, t) syscall(SYS_mq_timedreceive, q, b, (size_t)(n), p, t)

static char buf[9000];

static void take(int q)
{
	unsigned prio = 99;
	memset(buf, 0, 100);
	errno = 0;
	long n = RECV(q, buf, 8192, &prio, NULL);
	if (n < 0)
		say("receive: %s", errname(errno));
	else
		say("receive: %ld bytes, priority %u, %s", n, prio, buf);
}

static struct timespec in(int msec)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	long ns = t.tv_nsec + msec % 1000 * 1000000L;
	t.tv_sec += msec / 1000 + ns / 1000000000;
	t.tv_nsec = ns % 1000000000;
	return t;
}

static void opens(void)
{
	say("-- open");
	int q, r;
	char name[400];
	R(OPEN("q", O_RDWR, 0, 0));
	R(OPEN("", O_RDWR | O_CREAT, 0600, 0));
	R(OPEN(NULL, O_RDWR, 0, 0));
	R(OPEN("/q", O_RDWR | O_CREAT, 0600, 0));
	R(OPEN("a/b", O_RDWR | O_CREAT, 0600, 0));
	R(OPEN(".", O_RDWR, 0600, 0));
	R(OPEN("..", O_RDWR, 0600, 0));
	memset(name, 'x', sizeof name), name[256] = 0;
	R(OPEN(name, O_RDWR | O_CREAT, 0600, 0));
	name[255] = 0;
	OK(OPEN(name, O_RDWR | O_CREAT, 0600, 0));
	R(UNLINK(name));
	R(OPEN("q", O_RDWR | O_CREAT, 0600, (void *)8));
	R(OPEN("q", O_RDWR | O_CREAT, 0600, ATTR(0, 10)));
	R(OPEN("q", O_RDWR | O_CREAT, 0600, ATTR(10, 0)));
	R(OPEN("q", O_RDWR | O_CREAT, 0600, ATTR(-1, 10)));
	R(OPEN("q", O_RDWR | O_CREAT, 0600, ATTR(65537, 10)));
	R(OPEN("q", O_RDWR | O_CREAT, 0600, ATTR(1, (16 << 20) + 1)));
	R(OPEN("q", O_RDWR | O_CREAT, 0600, ATTR(10, 100000)));
	R(OPEN("q", O_RDWR, 0600, ATTR(0, 0)));
	umask(027);
	MUST(q = OPEN("q", O_RDWR | O_CREAT | O_EXCL, 0666, ATTR(3, 100)));
	umask(0);
	R(OPEN("q", O_RDWR | O_CREAT | O_EXCL, 0666, 0));
	R(OPEN("q", 3, 0, 0));
	MUST(r = OPEN("q", O_RDONLY | O_CREAT, 0600, ATTR(0, 0)));
	struct stat st;
	R(fstat(q, &st));
	say("mode %o size %ld nlink %ld uid %d", st.st_mode, (long)st.st_size, (long)st.st_nlink, st.st_uid);
	R(fcntl(q, F_GETFD));
	IS((fcntl(q, F_GETFL) & ~0100000) == O_RDWR);
	struct mq_attr a;
	memset(&a, 0xff, sizeof a);
	R(mq_getattr(q, &a));
	say("flags %ld maxmsg %ld msgsize %ld curmsgs %ld", a.mq_flags, a.mq_maxmsg, a.mq_msgsize, a.mq_curmsgs);
	a.mq_flags = O_NONBLOCK | 1;
	R(mq_setattr(q, &a, NULL));
	a.mq_flags = O_NONBLOCK, a.mq_maxmsg = 77;
	R(mq_setattr(q, &a, &a));
	R(mq_getattr(q, &a));
	say("flags %ld maxmsg %ld", a.mq_flags, a.mq_maxmsg);
	R(mq_getattr(r, &a));
	say("flags %ld", a.mq_flags);
	R(mq_getattr(0, &a));
	R(mq_getattr(99, &a));
	R(syscall(SYS_mq_getsetattr, q, 8L, 0L));
	R(syscall(SYS_mq_getsetattr, q, 0L, 8L));
	R(syscall(SYS_mq_getsetattr, 99, 8L, 0L));
	R(write(q, "x", 1));
	R(read(q, buf, 100) > 0 ? (buf[strlen("QSIZE:0         ")] = 0, say("%s", buf), 0) : -1);
	R(lseek(q, 6, SEEK_SET));
	R(UNLINK("q"));
	R(UNLINK("q"));
	R(UNLINK("a/b"));
	R(OPEN("q", O_RDWR, 0, 0));
	R(fstat(q, &st));
	say("nlink %ld", (long)st.st_nlink);
	R(SEND(q, "still there", 11, 1, NULL));
	take(r);
	close(q);
	close(r);
	reap("no rights", FORK({
		MUST(q = OPEN("q", O_RDWR | O_CREAT, 0640, 0));
		setgid(500); setuid(500);
		R(OPEN("q", O_RDONLY, 0, 0));
		R(OPEN("q", O_RDWR | O_CREAT, 0600, 0));
		R(UNLINK("q"));
		OK(OPEN("mine", O_RDWR | O_CREAT, 0600, 0));
		R(OPEN("big", O_RDWR | O_CREAT, 0600, ATTR(11, 10)));
		R(OPEN("big", O_RDWR | O_CREAT, 0600, ATTR(10, 8193)));
		R(UNLINK("mine"));
	}));
	UNLINK("q");
}

static void sends(void)
{
	say("-- send and receive");
	int q, w, r;
	unsigned prio;
	MUST(q = OPEN("q", O_RDWR | O_CREAT | O_NONBLOCK, 0600, ATTR(4, 100)));
	MUST(w = OPEN("q", O_WRONLY, 0, 0));
	MUST(r = OPEN("q", O_RDONLY, 0, 0));
	R(SEND(q, "low", 3, 1, NULL));
	R(SEND(q, "high", 4, 32767, NULL));
	R(SEND(q, "low again", 9, 1, NULL));
	R(SEND(q, "", 0, 5, NULL));
	R(SEND(q, "x", 1, 0, NULL));
	R(SEND(q, "x", 1, 32768, NULL));
	R(SEND(q, buf, 101, 0, NULL));
	R(SEND(q, buf, -1, 0, NULL));
	R(SEND(q, NULL, 1, 0, NULL));
	R(SEND(r, "x", 1, 0, NULL));
	R(SEND(r, "x", 101, 32768, NULL));
	R(SEND(0, "x", 1, 0, NULL));
	R(SEND(99, "x", 1, 0, NULL));
	R(RECV(w, buf, 100, NULL, NULL));
	R(RECV(w, buf, 1, NULL, NULL));
	R(RECV(q, buf, 99, NULL, NULL));
	R(RECV(0, buf, 100, NULL, NULL));
	struct timespec bad = { 0, 1000000000 }, neg = { -1, 0 }, past = { 1, 0 };
	R(SEND(99, "x", 1, 0, &bad));
	R(SEND(99, "x", 1, 0, (void *)8));
	R(RECV(99, buf, 1, NULL, &neg));
	R(RECV(q, buf, 100, (void *)8, NULL));
	struct mq_attr a;
	mq_getattr(q, &a);
	say("curmsgs %ld", a.mq_curmsgs);
	take(q);
	take(q);
	take(q);
	take(q);
	R(RECV(r, buf, 100, NULL, &past));
	struct timespec t = in(30);
	R(RECV(r, buf, 100, NULL, &t));
	for (int i = 0; i < 4; i++)
		SEND(q, "fill", 4, 0, NULL);
	R(SEND(w, "x", 1, 0, &past));
	t = in(30);
	R(SEND(w, "x", 1, 0, &t));
	R(RECV(q, (char *)8, 100, NULL, NULL));
	mq_getattr(q, &a);
	say("curmsgs %ld", a.mq_curmsgs);
	UNLINK("q");
	close(q), close(r), close(w);
}

static void blocking(void)
{
	say("-- blocking");
	int q, p, p2;
	MUST(q = OPEN("q", O_RDWR | O_CREAT, 0600, ATTR(2, 8192)));
	p = FORK(take(q));
	asleep(p);
	SEND(q, "to the child", 12, 3, NULL);
	reap("receiver", p);
	SEND(q, "1", 1, 1, NULL), SEND(q, "2", 1, 2, NULL);
	p = FORK(_exit(SEND(q, "3", 1, 3, NULL)));
	asleep(p);
	p2 = FORK(_exit(SEND(q, "9", 1, 9, NULL)));
	asleep(p2);
	take(q);
	reap("first sender", p);
	take(q);
	reap("second sender", p2);
	take(q), take(q);
	int order[2];
	pipe(order);
	int kids[3];
	for (int i = 0; i < 3; i++) {
		kids[i] = FORK({ char c = 'a' + i; RECV(q, buf, 8192, NULL, NULL); write(order[1], &c, 1); });
		asleep(kids[i]);
	}
	char got[4] = "";
	for (int i = 0; i < 3; i++)
		SEND(q, "x", 1, 0, NULL), read(order[0], got + i, 1);
	say("order %s", got);
	for (int i = 0; i < 3; i++)
		reap("kid", kids[i]);
	say("-- interrupted");
	handle(SIGUSR1, 0);
	p = FORK(take(q));
	asleep(p);
	kill(p, SIGUSR1);
	reap("receive", p);
	handle(SIGUSR1, SA_RESTART);
	p = FORK(take(q));
	asleep(p);
	kill(p, SIGUSR1);
	asleep(p);
	SEND(q, "after", 5, 0, NULL);
	reap("restarted", p);
	p = FORK(take(q));
	killed("killed", p);
	SEND(q, "1", 1, 0, NULL), SEND(q, "2", 1, 0, NULL);
	p = FORK(SEND(q, "lost", 4, 0, NULL));
	killed("killed sender", p);
	handle(SIGUSR1, 0);
	p = FORK(R(SEND(q, "x", 1, 0, NULL)));
	asleep(p);
	kill(p, SIGUSR1);
	reap("send", p);
	take(q), take(q);
	struct mq_attr a;
	mq_getattr(q, &a);
	say("curmsgs %ld", a.mq_curmsgs);
	say("-- poll");
	struct pollfd pf = { q, POLLIN | POLLOUT };
	R(poll(&pf, 1, 0));
	say("%x", pf.revents);
	SEND(q, "1", 1, 0, NULL);
	R(poll(&pf, 1, 0));
	say("%x", pf.revents);
	SEND(q, "2", 1, 0, NULL);
	R(poll(&pf, 1, 0));
	say("%x", pf.revents);
	pf.events = POLLOUT;
	p = FORK({ ms(50); RECV(q, buf, 8192, NULL, NULL); });
	R(poll(&pf, 1, 5000));
	reap("made room", p);
	RECV(q, buf, 8192, NULL, NULL);
	int ep = epoll_create1(0);
	struct epoll_event ev = { EPOLLIN };
	R(epoll_ctl(ep, EPOLL_CTL_ADD, q, &ev));
	p = FORK({ ms(50); SEND(q, "x", 1, 0, NULL); });
	R(epoll_wait(ep, &ev, 1, 5000));
	reap("sent", p);
	close(ep);
	UNLINK("q");
	close(q);
}

static siginfo_t info;
static void onsig(int s, siginfo_t *i, void *u) { info = *i; caught++; }

static sem_t told;
static void onthread(union sigval v)
{
	say("told in a thread: %d", v.sival_int);
	sem_post(&told);
}

static void notify(void)
{
	say("-- mq_notify");
	int q, p;
	struct sigaction sa = { .sa_sigaction = onsig, .sa_flags = SA_SIGINFO | SA_RESTART };
	sigaction(SIGUSR2, &sa, NULL);
	MUST(q = OPEN("q", O_RDWR | O_CREAT | O_NONBLOCK, 0600, ATTR(4, 8192)));
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_int = 42 };
#define NOTIFY(q, e) syscall(SYS_mq_notify, q, e)
	R(NOTIFY(99, &ev));
	R(NOTIFY(0, &ev));
	R(NOTIFY(q, 8L));
	ev.sigev_notify = 7;
	R(NOTIFY(99, &ev));
	ev.sigev_notify = SIGEV_SIGNAL;
	ev.sigev_signo = 65;
	R(NOTIFY(99, &ev));
	ev.sigev_signo = SIGUSR2;
	R(NOTIFY(q, NULL));
	R(NOTIFY(q, &ev));
	R(NOTIFY(q, &ev));
	reap("other", FORK({ R(NOTIFY(q, &ev)); R(NOTIFY(q, NULL)); }));
	lseek(q, 0, SEEK_SET);
	memset(buf, 0, 100);
	int n = read(q, buf, 100);
	IS(strstr(buf, "NOTIFY:0     SIGNO:12") != NULL);
	IS(atoi(strstr(buf, "PID:") + 4) == getpid());
	say("%d characters", n);
	caught = 0;
	p = FORK(SEND(q, "x", 1, 0, NULL));
	reap("sender", p);
	say("caught %d: signal %d code %d value %d", caught, info.si_signo, info.si_code, info.si_value.sival_int);
	IS(info.si_pid == p && info.si_uid == 0);
	/* only into the empty queue, and once */
	R(NOTIFY(q, &ev));
	SEND(q, "y", 1, 0, NULL);
	say("caught %d", caught);
	take(q), take(q);
	SEND(q, "z", 1, 0, NULL);
	say("caught %d", caught);
	take(q);
	SEND(q, "z", 1, 0, NULL);
	say("caught %d", caught);
	take(q);
	/* a waiting receiver is served first */
	R(NOTIFY(q, &ev));
	fcntl(q, F_SETFL, 0);
	p = FORK(take(q));
	asleep(p);
	SEND(q, "for the receiver", 16, 0, NULL);
	reap("receiver", p);
	say("caught %d", caught);
	fcntl(q, F_SETFL, O_NONBLOCK);
	R(NOTIFY(q, NULL));
	SEND(q, "z", 1, 0, NULL);
	say("caught %d", caught);
	take(q);
	ev.sigev_notify = SIGEV_NONE;
	R(NOTIFY(q, &ev));
	R(NOTIFY(q, &ev));
	SEND(q, "z", 1, 0, NULL);
	take(q);
	R(NOTIFY(q, &ev));
	R(NOTIFY(q, NULL));
	/* the end of a process, and a close, take the registration back */
	reap("registered", FORK(R(NOTIFY(q, &ev))));
	R(NOTIFY(q, &ev));
	close(dup(q));
	R(NOTIFY(q, &ev));
	R(NOTIFY(q, NULL));
	/* SIGEV_THREAD: the kernel's side is a netlink socket */
	char cookie[32];
	for (int i = 0; i < 32; i++)
		cookie[i] = i;
	int nl = socket(AF_NETLINK, SOCK_RAW, 0), un = socket(AF_UNIX, SOCK_STREAM, 0);
	ev.sigev_notify = SIGEV_THREAD, ev.sigev_value.sival_ptr = cookie;
	ev.sigev_signo = 99;
	R(NOTIFY(q, &ev));
	ev.sigev_signo = q;
	R(NOTIFY(q, &ev));
	ev.sigev_signo = un;
	R(NOTIFY(q, &ev));
	ev.sigev_signo = nl;
	R(NOTIFY(q, &ev));
	SEND(q, "t", 1, 0, NULL);
	memset(buf, 0, 64);
	R(recv(nl, buf, 64, MSG_DONTWAIT));
	say("%d %d … %d %d", buf[0], buf[1], buf[30], buf[31]);
	R(recv(nl, buf, 64, MSG_DONTWAIT));
	take(q);
	R(NOTIFY(q, &ev));
	R(NOTIFY(q, NULL));
	R(recv(nl, buf, 64, MSG_DONTWAIT));
	say("%d", buf[31]);
	R(NOTIFY(q, &ev));
	close(dup(q));
	R(recv(nl, buf, 64, MSG_DONTWAIT));
	say("%d", buf[31]);
	ev.sigev_value.sival_ptr = (void *)8;
	R(NOTIFY(q, &ev));
	/* and libc's */
	struct sigevent te = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = onthread, .sigev_value.sival_int = 7 };
	sem_init(&told, 0, 0);
	R(mq_notify(q, &te));
	SEND(q, "t", 1, 0, NULL);
	sem_wait(&told);
	UNLINK("q");
	close(q);
}

static void cat(const char *f)
{
	int fd = open(f, O_RDONLY);
	int n = read(fd, buf, 200);
	buf[n < 0 ? 0 : n] = 0;
	say("%s: %s", strrchr(f, '/') + 1, strtok(buf, "\n"));
	close(fd);
}

static void store(const char *f, const char *v)
{
	int fd = open(f, O_WRONLY);
	errno = 0;
	write(fd, v, strlen(v));
	say("%s <- %s: %s", strrchr(f, '/') + 1, v, errno ? errname(errno) : "ok");
	close(fd);
}

#define D "/proc/sys/fs/mqueue/"
static void limits(void)
{
	say("-- limits");
	cat(D "queues_max"), cat(D "msg_max"), cat(D "msgsize_max"), cat(D "msg_default"), cat(D "msgsize_default");
	store(D "msg_max", "0"), store(D "msg_max", "65537"), store(D "msgsize_max", "127");
	store(D "msg_default", "5"), store(D "msgsize_default", "200");
	struct mq_attr a;
	int q = OPEN("q", O_RDWR | O_CREAT, 0600, 0);
	mq_getattr(q, &a);
	say("maxmsg %ld msgsize %ld", a.mq_maxmsg, a.mq_msgsize);
	close(q), UNLINK("q");
	store(D "msg_max", "3");
	q = OPEN("q", O_RDWR | O_CREAT, 0600, 0);
	mq_getattr(q, &a);
	say("maxmsg %ld msgsize %ld", a.mq_maxmsg, a.mq_msgsize);
	close(q), UNLINK("q");
	store(D "msg_max", "10"), store(D "msg_default", "10"), store(D "msgsize_default", "8192");
	struct rlimit l;
	getrlimit(RLIMIT_MSGQUEUE, &l);
	say("RLIMIT_MSGQUEUE %ld %ld", (long)l.rlim_cur, (long)l.rlim_max);
	reap("user", FORK({
		char n[8] = "q0";
		setgid(500); setuid(500);
		/* ten messages of 8192 bytes count 82880 */
		for (int i = 0; i < 10; i++, n[1]++)
			result("open", OPEN(n, O_RDWR | O_CREAT, 0600, 0) > 0 ? 0 : -1, errno);
		UNLINK("q0");
		result("open", OPEN("qx", O_RDWR | O_CREAT, 0600, 0) > 0 ? 0 : -1, errno);
		close(3);
		result("open", OPEN("qx", O_RDWR | O_CREAT, 0600, 0) > 0 ? 0 : -1, errno);
		UNLINK("qx");
		for (n[1] = '1'; n[1] <= '9'; n[1]++)
			UNLINK(n);
		close(12), close(11), close(10);
		l.rlim_cur = 500;
		setrlimit(RLIMIT_MSGQUEUE, &l);
		R(OPEN("qx", O_RDWR | O_CREAT, 0600, ATTR(1, 405)));
		for (int i = 3; i < 20; i++)
			close(i);
		R(OPEN("qx", O_RDWR | O_CREAT, 0600, ATTR(1, 405)));
		R(OPEN("qx", O_RDWR | O_CREAT, 0600, ATTR(1, 404)));
		UNLINK("qx");
	}));
	store(D "queues_max", "1");
	reap("user", FORK({
		setgid(500); setuid(500);
		OK(OPEN("q0", O_RDWR | O_CREAT, 0600, 0));
		R(OPEN("q1", O_RDWR | O_CREAT, 0600, 0));
		UNLINK("q0");
	}));
	store(D "queues_max", "256");
}

static void files(void)
{
	say("-- the file system");
	int q;
	struct stat st;
	MUST(q = OPEN("q", O_RDWR | O_CREAT | O_NONBLOCK, 0640, ATTR(4, 100)));
	mkdir("/tmp/mq", 0755);
	R(mount("none", "/tmp/mq", "mqueue", 0, NULL));
	R(stat("/tmp/mq", &st));
	say("mode %o", st.st_mode);
	R(stat("/tmp/mq/q", &st));
	say("mode %o size %ld", st.st_mode, (long)st.st_size);
	SEND(q, "twelve bytes", 12, 1, NULL);
	int f = open("/tmp/mq/q", O_RDWR);
	memset(buf, 0, 200);
	R(read(f, buf, 200));
	say("%s", strtok(buf, "\n"));
	take(f);
	R(SEND(f, "by the file", 11, 1, NULL));
	take(q);
	close(f);
	f = open("/tmp/mq/made", O_RDWR | O_CREAT, 0600);
	OK(f);
	struct mq_attr a;
	R(mq_getattr(f, &a));
	say("maxmsg %ld msgsize %ld", a.mq_maxmsg, a.mq_msgsize);
	close(f);
	OK(OPEN("made", O_RDWR, 0, 0));
	R(mkdir("/tmp/mq/dir", 0700));
	R(symlink("x", "/tmp/mq/link"));
	R(link("/tmp/mq/q", "/tmp/mq/q2"));
	R(rename("/tmp/mq/q", "/tmp/mq/q2"));
	R(chmod("/tmp/mq/q", 0604));
	fstat(q, &st);
	say("mode %o", st.st_mode);
	R(unlink("/tmp/mq/made"));
	R(OPEN("made", O_RDWR, 0, 0));
	R(unlink("/tmp/mq/none"));
	R(UNLINK("q"));
	R(access("/tmp/mq/q", F_OK));
	R(umount("/tmp/mq"));
	rmdir("/tmp/mq");
	close(q);
}

static void libc(void)
{
	say("-- libc");
	mqd_t q;
	R(mq_open("noslash", O_RDWR));
	MUST(q = mq_open(N, O_RDWR | O_CREAT, 0600, NULL));
	R(mq_send(q, "hello", 6, 4));
	unsigned prio;
	R(mq_receive(q, buf, 8192, &prio));
	say("%s %u", buf, prio);
	R(mq_unlink(N));
	R(mq_unlink(N));
	R(mq_close(q));
	R(mq_close(q));
}

int main(void)
{
	alarm(50); /* nothing here takes long: no check may hang */
	opens();
	sends();
	blocking();
	notify();
	limits();
	files();
	libc();
	return 0;
}
