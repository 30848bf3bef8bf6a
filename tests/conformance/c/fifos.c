/* Pipes and FIFOs between processes. */
#include "ipc.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>

static char buf[1 << 20];
#define O(f) open("/tmp/fifo", f)

static void pollit(const char *what, int fd)
{
	struct pollfd p = { fd, POLLIN | POLLOUT };
	int r = poll(&p, 1, 0);
	say("%s: poll %d, %x", what, r, p.revents);
}

static void opens(void)
{
	say("-- opening a FIFO");
	int r, w, p, st;
	struct stat s;
	unlink("/tmp/fifo");
	R(mkfifo("/tmp/fifo", 0640));
	R(mkfifo("/tmp/fifo", 0640));
	R(stat("/tmp/fifo", &s));
	say("mode %o size %ld", s.st_mode, (long)s.st_size);
	R(O(O_WRONLY | O_NONBLOCK));
	MUST(r = O(O_RDONLY | O_NONBLOCK));
	R(read(r, buf, 10));
	pollit("no writer yet", r);
	MUST(w = O(O_WRONLY | O_NONBLOCK));
	R(read(r, buf, 10));
	pollit("with a writer", r);
	pollit("writer", w);
	write(w, "abc", 3);
	pollit("data", r);
	close(w);
	pollit("writer gone", r);
	R(read(r, buf, 10));
	R(read(r, buf, 10));
	pollit("empty", r);
	MUST(w = O(O_WRONLY));
	pollit("another writer", r);
	R(read(r, buf, 10));
	close(r);
	pollit("reader gone", w);
	signal(SIGPIPE, SIG_IGN);
	R(write(w, "x", 1));
	signal(SIGPIPE, SIG_DFL);
	reap("SIGPIPE", FORK(write(w, "x", 1)));
	close(w);
	MUST(r = O(O_RDWR));
	pollit("both", r);
	write(r, "self", 4);
	R(read(r, buf, 10));
	fcntl(r, F_SETFL, O_NONBLOCK);
	R(read(r, buf, 10));
	R(lseek(r, 0, SEEK_SET));
	R(pread(r, buf, 1, 0));
	R(ftruncate(r, 0));
	R(fsync(r));
	close(r);
	say("-- opens that block");
	p = FORK({ r = O(O_RDONLY); R(read(r, buf, 10)); R(read(r, buf, 10)); });
	asleep(p);
	MUST(w = O(O_WRONLY));
	write(w, "to it", 5);
	close(w);
	reap("reader", p);
	p = FORK({ w = O(O_WRONLY); write(w, "hi", 2); });
	asleep(p);
	MUST(r = O(O_RDONLY));
	R(read(r, buf, 10));
	reap("writer", p);
	R(read(r, buf, 10));
	close(r);
	handle(SIGUSR1, 0);
	p = FORK(R(O(O_RDONLY)));
	asleep(p);
	kill(p, SIGUSR1);
	reap("interrupted", p);
	handle(SIGUSR1, SA_RESTART);
	p = FORK(R(O(O_WRONLY) > 0));
	asleep(p);
	kill(p, SIGUSR1);
	asleep(p);
	MUST(r = O(O_RDONLY | O_NONBLOCK));
	reap("restarted", p);
	close(r);
	p = FORK(O(O_RDONLY));
	killed("killed", p);
	R(O(O_WRONLY | O_NONBLOCK));
	/* a writer that comes and goes lets the reader's open succeed */
	p = FORK({ r = O(O_RDONLY); R(read(r, buf, 10)); });
	asleep(p);
	close(O(O_WRONLY));
	reap("came and went", p);
	chmod("/tmp/fifo", 0600);
	reap("user", FORK({ setuid(500); R(O(O_RDONLY | O_NONBLOCK)); R(O(O_RDWR)); }));
	R(unlink("/tmp/fifo"));
}

static void ends(void)
{
	say("-- ends with several processes");
	int p[2], k, n;
	MUST(pipe(p));
	k = FORK({ close(p[0]); ms(100); write(p[1], "late", 4); });
	close(p[1]);
	R(read(p[0], buf, 10));
	R(read(p[0], buf, 10));
	reap("writer", k);
	close(p[0]);
	MUST(pipe(p));
	make_gate();
	int q = FORK({ close(p[1]); held(); });
	close(p[0]);
	R(write(p[1], "someone may read", 16));
	open_gate();
	reap("reader", q);
	signal(SIGPIPE, SIG_IGN);
	R(write(p[1], "nobody", 6));
	signal(SIGPIPE, SIG_DFL);
	close(p[1]);
	/* a blocked writer hears of the end of the readers */
	MUST(pipe(p));
	k = FORK({ close(p[0]); signal(SIGPIPE, SIG_IGN); while (write(p[1], buf, 4096) == 4096) ; say("blocked writer: %s", errname(errno)); });
	asleep(k);
	close(p[0]);
	reap("blocked writer", k);
	close(p[1]);
	/* a partial write before the end */
	MUST(pipe(p));
	k = FORK({ close(p[0]); signal(SIGPIPE, SIG_IGN); R(write(p[1], buf, 100000)); });
	asleep(k);
	close(p[0]);
	reap("partial", k);
	close(p[1]);
	say("-- blocked and interrupted");
	handle(SIGUSR1, 0);
	MUST(pipe(p));
	k = FORK(R(read(p[0], buf, 10)));
	asleep(k);
	kill(k, SIGUSR1);
	reap("read", k);
	k = FORK(R(write(p[1], buf, 100000)));
	asleep(k);
	kill(k, SIGUSR1);
	reap("write some", k);
	k = FORK(R(write(p[1], buf, 100)));
	asleep(k);
	kill(k, SIGUSR1);
	reap("write none", k);
	k = FORK(write(p[1], buf, 100));
	killed("killed writer", k);
	R(ioctl(p[0], FIONREAD, &n));
	R(n);
	R(ioctl(p[1], FIONREAD, &n));
	while (n > 0)
		n -= read(p[0], buf, sizeof buf);
	k = FORK(read(p[0], buf, 1));
	killed("killed reader", k);
	write(p[1], "x", 1);
	R(read(p[0], buf, 10));
	close(p[0]), close(p[1]);
}

static void atomic(void)
{
	say("-- PIPE_BUF");
	int p[2], n;
	MUST(pipe2(p, O_NONBLOCK));
	for (n = 0; write(p[1], buf, 4096) == 4096; n++)
		;
	say("%d pages", n);
	R(write(p[1], "x", 1));
	R(read(p[0], buf, 1));
	R(write(p[1], "x", 1));
	R(read(p[0], buf, 4095));
	R(write(p[1], buf, 4096));
	R(write(p[1], buf, 4097));
	close(p[0]), close(p[1]);
	/* writes of PIPE_BUF bytes do not mix */
	MUST(pipe(p));
	int kids[4];
	for (int i = 0; i < 4; i++)
		kids[i] = FORK({
			close(p[0]);
			memset(buf, 'a' + i, 4096);
			for (int k = 0; k < 50; k++)
				write(p[1], buf, i % 2 ? 4096 : 1000);
		});
	close(p[1]);
	int left = 0, mixed = 0, total = 0;
	char cur = 0;
	static char all[1 << 20];
	while ((n = read(p[0], all + total, sizeof all - total)) > 0)
		total += n;
	for (int i = 0; i < total; i += left) {
		cur = all[i];
		left = (cur - 'a') % 2 ? 4096 : 1000;
		for (int k = 0; k < left; k++)
			mixed += all[i + k] != cur;
	}
	say("%d bytes, %d mixed", total, mixed);
	for (int i = 0; i < 4; i++)
		waitpid(kids[i], NULL, 0);
	close(p[0]);
}

static void sizes(void)
{
	say("-- F_SETPIPE_SZ");
	int p[2];
	MUST(pipe2(p, O_NONBLOCK));
	R(fcntl(p[0], F_GETPIPE_SZ));
	R(fcntl(p[0], F_SETPIPE_SZ, 1));
	R(fcntl(p[0], F_SETPIPE_SZ, 5000));
	R(fcntl(p[1], F_GETPIPE_SZ));
	R(fcntl(p[0], F_SETPIPE_SZ, 0));
	R(fcntl(p[0], F_SETPIPE_SZ, -1));
	R(write(p[1], buf, 8192));
	R(fcntl(p[0], F_SETPIPE_SZ, 4096));
	R(fcntl(p[0], F_SETPIPE_SZ, 1 << 20));
	R(fcntl(p[0], F_SETPIPE_SZ, 1 << 31));
	R(fcntl(0, F_GETPIPE_SZ));
	reap("user", FORK({ setuid(500); R(fcntl(p[0], F_SETPIPE_SZ, 1 << 20)); R(fcntl(p[0], F_SETPIPE_SZ, 1 << 21)); }));
	close(p[0]), close(p[1]);
	say("-- O_DIRECT");
	MUST(pipe2(p, O_DIRECT | O_NONBLOCK));
	write(p[1], "one", 3), write(p[1], "two!", 4), write(p[1], "three", 5);
	R(read(p[0], buf, 100));
	R(read(p[0], buf, 2));
	R(read(p[0], buf, 100));
	R(write(p[1], buf, 5000));
	R(read(p[0], buf, 10000));
	R(read(p[0], buf, 10000));
	R(write(p[1], "", 0));
	R(read(p[0], buf, 10));
	R(fcntl(p[0], F_GETFL) == (O_RDONLY | O_NONBLOCK | O_DIRECT));
	close(p[0]), close(p[1]);
	R(pipe2(p, 0x1000));
	R(pipe((int *)8));
}

static void moves(void)
{
	say("-- splice, tee, vmsplice");
	int a[2], b[2], f;
	loff_t off;
	MUST(pipe2(a, O_NONBLOCK));
	MUST(pipe2(b, O_NONBLOCK));
	MUST(f = open("/tmp/data", O_RDWR | O_CREAT | O_TRUNC, 0600));
	write(f, "0123456789", 10);
	R(tee(a[0], b[1], 100, SPLICE_F_NONBLOCK));
	write(a[1], "hello", 5), write(a[1], " world", 6);
	R(tee(a[0], b[1], 8, 0));
	R(tee(a[0], a[1], 8, 0));
	R(tee(a[1], b[1], 8, 0));
	R(tee(f, b[1], 8, 0));
	R(tee(99, b[1], 8, 0));
	R(tee(a[0], b[1], 0, 0));
	R(tee(a[0], b[1], 8, 0x100));
	memset(buf, 0, 64);
	R(read(b[0], buf, 100));
	say("%s", buf);
	R(splice(a[0], NULL, b[1], NULL, 7, 0));
	memset(buf, 0, 64);
	R(read(b[0], buf, 100));
	say("%s", buf);
	memset(buf, 0, 64);
	R(read(a[0], buf, 100));
	say("%s", buf);
	off = 3;
	R(splice(f, &off, a[1], NULL, 4, 0));
	R(off);
	memset(buf, 0, 64);
	R(read(a[0], buf, 100));
	say("%s", buf);
	off = 20;
	R(splice(f, &off, a[1], NULL, 4, 0));
	write(a[1], "XY", 2);
	off = 1;
	R(splice(a[0], NULL, f, &off, 2, 0));
	memset(buf, 0, 64);
	R(pread(f, buf, 64, 0));
	say("%s", buf);
	R(splice(a[0], NULL, f, NULL, 2, SPLICE_F_NONBLOCK));
	R(splice(a[0], &off, b[1], NULL, 2, 0));
	R(splice(f, NULL, f, NULL, 2, 0));
	R(splice(a[0], NULL, a[1], NULL, 2, 0));
	R(splice(a[0], NULL, b[0], NULL, 2, 0));
	R(splice(a[0], NULL, b[1], NULL, 2, 0x100));
	R(splice(a[0], NULL, b[1], NULL, 0, 0));
	struct iovec io[2] = { { "from ", 5 }, { "memory", 6 } };
	R(vmsplice(a[1], io, 2, 0));
	memset(buf, 0, 64);
	io[0] = (struct iovec){ buf, 64 };
	R(vmsplice(a[0], io, 1, 0));
	say("%s", buf);
	R(vmsplice(f, io, 1, 0));
	R(vmsplice(a[1], io, 1, 0x100));
	R(vmsplice(a[1], (void *)8, 1, 0));
	R(vmsplice(a[1], io, 0, 0));
	R(vmsplice(a[1], io, 2000, 0));
	close(b[1]);
	signal(SIGPIPE, SIG_IGN);
	close(b[0]);
	int k = FORK({ int c[2]; pipe(c); close(c[0]); signal(SIGPIPE, SIG_IGN); write(a[1], "z", 1); R(splice(a[0], NULL, c[1], NULL, 1, 0)); });
	reap("no reader", k);
	fcntl(a[0], F_SETFL, 0);
	read(a[0], buf, 10);
	MUST(pipe(b));
	k = FORK({ R(splice(a[0], NULL, b[1], NULL, 10, 0)); });
	asleep(k);
	write(a[1], "waited", 6);
	reap("blocking splice", k);
	k = FORK({ R(tee(a[0], b[1], 10, 0)); });
	asleep(k);
	write(a[1], "waited", 6);
	reap("blocking tee", k);
	k = FORK(splice(f, NULL, b[1], NULL, 0, 0));
	reap("nothing", k);
	read(a[0], buf, 10);
	k = FORK(splice(a[0], NULL, b[1], NULL, 10, 0));
	killed("killed splice", k);
	unlink("/tmp/data");
}

int main(void)
{
	alarm(50); /* nothing here takes long: no check may hang */
	opens();
	ends();
	atomic();
	sizes();
	moves();
	return 0;
}
