/* read, write and their kin: errors in order, vectors, RWF_ flags, positions, the fsync
 * family, sizes and limits. */
#include "files.h"
#include <sys/eventfd.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/mman.h>

static char buf[8192];

CASE(read_errors, read)
{
	fresh("/tmp/io");
	int fd = made("f", "0123456789"), w = open("f", O_WRONLY), d = open(".", O_RDONLY), p[2];
	MUST(pipe(p));
	R(syscall(SYS_read, 99, buf, 1));
	R(syscall(SYS_read, -1, BAD, 1));
	R(syscall(SYS_read, w, buf, 1));
	R(syscall(SYS_read, w, BAD, 0));
	R(syscall(SYS_read, d, buf, 1));
	R(syscall(SYS_read, d, buf, 0));
	R(syscall(SYS_read, fd, BAD, 1));
	R(syscall(SYS_read, fd, BAD, 0));
	R(syscall(SYS_read, fd, (void *)-4096, 1));
	R(syscall(SYS_read, fd, (void *)-4096, 0));
	R(syscall(SYS_read, fd, buf, -1ul));
	R(syscall(SYS_read, fd, buf, 1ul << 62));
	R(syscall(SYS_read, fd, buf, 4));
	R(syscall(SYS_read, fd, buf, 0x7ffff001));
	R(syscall(SYS_read, fd, buf, 4));
	R(syscall(SYS_read, fd, BAD, 4));
	R(syscall(SYS_read, p[1], buf, 1));
	R(syscall(SYS_read, p[0], buf, 0));
	R(syscall(SYS_read, open("f", O_PATH), buf, 1));
	fcntl(p[0], F_SETFL, O_NONBLOCK);
	R(syscall(SYS_read, p[0], BAD, 1));
	close(p[1]);
	R(syscall(SYS_read, p[0], BAD, 1));
}

CASE(write_errors, write)
{
	fresh("/tmp/io");
	int fd = made("f", "0123456789"), r = open("f", O_RDONLY), d = open(".", O_RDONLY), p[2];
	MUST(pipe(p));
	R(syscall(SYS_write, 99, "x", 1));
	R(syscall(SYS_write, r, "x", 1));
	R(syscall(SYS_write, r, "x", 0));
	R(syscall(SYS_write, d, "x", 1));
	R(syscall(SYS_write, fd, BAD, 1));
	R(syscall(SYS_write, fd, BAD, 0));
	R(syscall(SYS_write, fd, (void *)-4096, 1));
	R(syscall(SYS_write, fd, "x", -1ul));
	R(syscall(SYS_write, fd, "abc", 3));
	content("after", fd);
	R(syscall(SYS_write, p[0], "x", 1));
	R(syscall(SYS_write, p[1], BAD, 1));
	R(syscall(SYS_write, p[1], BAD, 0));
	close(p[0]);
	R(syscall(SYS_write, p[1], "x", 1));
	R(syscall(SYS_write, p[1], "x", 0));
	R(syscall(SYS_write, p[1], BAD, 1));
	R(syscall(SYS_write, open("f", O_PATH | O_WRONLY), "x", 1));
}

CASE(partial_fault, read, write)
{
	fresh("/tmp/io");
	char *m = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(m + 4096, 4096);
	memset(m, 'a', 4096);
	int fd = open("f", O_CREAT | O_RDWR, 0600);
	R(write(fd, m + 4096 - 10, 20));
	content("after", fd);
	R(write(fd, m + 4096 - 100, 4096));
	R(lseek(fd, 0, SEEK_CUR));
	R(pread(fd, m + 4096 - 10, 20, 0));
	lseek(fd, 0, SEEK_SET);
	R(read(fd, m + 4096 - 10, 20));
	R(lseek(fd, 0, SEEK_CUR));
}

CASE(pread_errors, pread64, pwrite64)
{
	fresh("/tmp/io");
	int fd = made("f", "0123456789"), w = open("f", O_WRONLY), r = open("f", O_RDONLY), p[2];
	MUST(pipe(p));
	R(syscall(SYS_pread64, 99, buf, 1, -1l));
	R(syscall(SYS_pread64, 99, buf, 1, 0l));
	R(syscall(SYS_pread64, fd, buf, 1, -1l));
	R(syscall(SYS_pread64, w, buf, 1, 0l));
	R(syscall(SYS_pread64, p[0], buf, 1, 0l));
	R(syscall(SYS_pread64, p[1], buf, 1, 0l));
	R(syscall(SYS_pread64, fd, BAD, 1, 0l));
	R(syscall(SYS_pread64, fd, BAD, 1, 100l));
	R(syscall(SYS_pread64, fd, buf, 100, 4l));
	R(syscall(SYS_pread64, fd, buf, 100, 10l));
	R(syscall(SYS_pread64, fd, buf, 1, 0x7fffffffffffffffl));
	R(syscall(SYS_pread64, open(".", O_RDONLY), buf, 1, 0l));
	R(syscall(SYS_pwrite64, 99, buf, 1, -1l));
	R(syscall(SYS_pwrite64, fd, buf, 1, -1l));
	R(syscall(SYS_pwrite64, r, buf, 1, 0l));
	R(syscall(SYS_pwrite64, p[1], buf, 1, 0l));
	R(syscall(SYS_pwrite64, fd, BAD, 1, 0l));
	R(syscall(SYS_pwrite64, fd, "x", 1, 0x7fffffffffffffffl));
	R(syscall(SYS_pwrite64, fd, "x", 0, 0x7fffffffffffffffl));
	R(syscall(SYS_pwrite64, fd, "ZZ", 2, 12l));
	content("after", fd);
}

CASE(vectors, readv, writev)
{
	fresh("/tmp/io");
	int fd = made("f", ""), r = open("f", O_RDONLY), p[2];
	struct iovec v[1025], bad[2] = {{"good", 4}, {BAD, 4}}, neg[2] = {{"x", 1}, {"y", -1ul}}, hi[1] = {{(void *)-4096, 1}};
	for (int i = 0; i < 1025; i++)
		v[i] = (struct iovec){"ab", i % 3};
	R(syscall(SYS_writev, fd, v, 0));
	R(syscall(SYS_writev, fd, BAD, 0));
	R(syscall(SYS_writev, fd, BAD, 1));
	R(syscall(SYS_writev, fd, v, 1025));
	R(syscall(SYS_writev, fd, v, -1l));
	R(syscall(SYS_writev, fd, BAD, 1025));
	R(syscall(SYS_writev, 99, BAD, 1025));
	R(syscall(SYS_writev, r, v, 1));
	R(syscall(SYS_writev, fd, neg, 2));
	R(syscall(SYS_writev, fd, hi, 1));
	R(syscall(SYS_writev, fd, v, 1024));
	R(syscall(SYS_writev, fd, bad, 2));
	struct iovec flipped[2] = {{BAD, 4}, {"good", 4}}, empty[2] = {{BAD, 0}, {"good", 4}};
	R(syscall(SYS_writev, fd, flipped, 2));
	R(syscall(SYS_writev, fd, empty, 2));
	struct iovec huge[2] = {{buf, 1ul << 62}, {buf, 1ul << 62}};
	R(syscall(SYS_writev, fd, huge, 2));
	content("file", fd);
	char a[4] = "", b[6] = "", c[2] = "";
	struct iovec in[4] = {{a, 3}, {0, 0}, {b, 5}, {c, 1}}, inbad[2] = {{a, 3}, {BAD, 3}};
	R(syscall(SYS_readv, r, in, 4));
	say("'%s' '%s' '%s'", a, b, c);
	R(syscall(SYS_readv, r, inbad, 2));
	R(syscall(SYS_readv, r, inbad + 1, 1));
	R(syscall(SYS_readv, r, in, 1025));
	R(syscall(SYS_readv, 99, in, 1));
	MUST(pipe2(p, O_NONBLOCK));
	R(syscall(SYS_writev, p[1], bad, 2));
	R(read(p[0], buf, 100));
	R(syscall(SYS_readv, p[1], in, 1));
	R(syscall(SYS_readv, open(".", O_RDONLY), in, 1));
}

CASE(preadv, preadv, pwritev)
{
	fresh("/tmp/io");
	int fd = made("f", "0123456789"), p[2];
	MUST(pipe(p));
	char a[4] = "", b[4] = "";
	struct iovec in[2] = {{a, 3}, {b, 3}};
	R(syscall(SYS_preadv, fd, in, 2, 2l, 0l));
	say("'%s' '%s'", a, b);
	R(syscall(SYS_preadv, fd, in, 2, -1l, -1l));
	R(syscall(SYS_preadv, fd, in, 2, -1l, 0l));
	R(syscall(SYS_preadv, 99, in, 2, -1l, 0l));
	R(syscall(SYS_preadv, p[0], in, 2, 0l, 0l));
	R(syscall(SYS_preadv, fd, in, 1025, 0l, 0l));
	R(syscall(SYS_preadv, fd, BAD, 1, 0l, 0l));
	R(syscall(SYS_pwritev, fd, in, 2, 8l, 0l));
	R(syscall(SYS_pwritev, fd, in, 2, -5l, 0l));
	R(syscall(SYS_pwritev, p[1], in, 2, 0l, 0l));
	R(syscall(SYS_pwritev, open("f", O_RDONLY), in, 2, 0l, 0l));
	content("file", fd);
}

static long rwf(int nr, int fd, long off, int flags)
{
	struct iovec v = {buf, 2};
	return syscall(nr, fd, &v, 1, off, 0l, flags);
}

static void each_flag(int nr, const char *what, int fd, long off)
{
	for (int f = 0; f <= 64; f = f ? 2 * f : 1) {
		long r = rwf(nr, fd, off, f);
		say("%s flag %#x: %s", what, f, r < 0 ? errname(errno) : r == 2 ? "2" : r ? "?" : "0");
	}
}

CASE(preadv2_flags, preadv2)
{
	fresh("/tmp/io");
	int fd = made("f", "0123456789abcdefghijklmnopqrstuvwxyz"), p[2], s[2];
	MUST(pipe(p));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	each_flag(SYS_preadv2, "file", fd, 2);
	each_flag(SYS_preadv2, "file at its position", fd, -1);
	R(lseek(fd, 0, SEEK_CUR));
	R(rwf(SYS_preadv2, fd, -2, 0));
	R(rwf(SYS_preadv2, 99, -2, 0));
	R(rwf(SYS_preadv2, fd, 0, 8 | 1));
	R(rwf(SYS_preadv2, fd, 0, 8 | 2));
	R(rwf(SYS_preadv2, p[0], 0, 0));
	R(write(p[1], "0123456789", 10));
	R(rwf(SYS_preadv2, p[0], -1, 0));
	R(rwf(SYS_preadv2, p[0], -1, 8));
	R(rwf(SYS_preadv2, p[0], -1, 1));
	R(read(p[0], buf, 100));
	R(rwf(SYS_preadv2, p[0], -1, 8));
	R(rwf(SYS_preadv2, s[0], -1, 8));
	R(write(s[1], "0123456789", 10));
	R(rwf(SYS_preadv2, s[0], -1, 8));
	R(rwf(SYS_preadv2, p[1], -1, 0x100));
	R(syscall(SYS_preadv2, fd, 0, 0, 0l, 0l, 0x100));
	R(syscall(SYS_preadv2, fd, 0, 0, 0l, 0l, 0));
}

CASE(pwritev2_flags, pwritev2)
{
	fresh("/tmp/io");
	int fd = made("f", "0123456789"), p[2], s[2];
	MUST(pipe(p));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	memcpy(buf, "WW", 2);
	each_flag(SYS_pwritev2, "file", fd, 2);
	content("file", fd);
	each_flag(SYS_pwritev2, "file at its position", fd, -1);
	content("file", fd);
	R(rwf(SYS_pwritev2, fd, -2, 0));
	R(rwf(SYS_pwritev2, fd, -2, 16));
	R(rwf(SYS_pwritev2, p[1], 0, 0));
	R(rwf(SYS_pwritev2, p[1], -1, 0));
	R(rwf(SYS_pwritev2, p[1], -1, 16));
	R(rwf(SYS_pwritev2, p[1], -1, 8));
	R(rwf(SYS_pwritev2, p[1], -1, 1));
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	while (write(p[1], buf, 4096) > 0)
		;
	fcntl(p[1], F_SETFL, 0);
	R(rwf(SYS_pwritev2, p[1], -1, 8));
	R(rwf(SYS_pwritev2, s[1], -1, 8));
	R(rwf(SYS_pwritev2, open("f", O_RDONLY), 0, 0));
	R(rwf(SYS_pwritev2, open("f", O_RDONLY), 0, 0x100));
}

CASE(lseek, lseek)
{
	fresh("/tmp/io");
	int fd = made("f", "0123456789"), p[2], s[2];
	MUST(pipe(p));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	R(lseek(99, 0, SEEK_SET));
	R(lseek(99, 0, 99));
	R(lseek(fd, 0, 99));
	R(lseek(fd, 0, -1));
	R(lseek(fd, -1, SEEK_SET));
	R(lseek(fd, 4, SEEK_SET));
	R(lseek(fd, -5, SEEK_CUR));
	R(lseek(fd, 3, SEEK_CUR));
	R(lseek(fd, -3, SEEK_END));
	R(lseek(fd, -11, SEEK_END));
	R(lseek(fd, 100, SEEK_END));
	R(lseek(fd, 0x7fffffffffffffffl, SEEK_SET));
	R(lseek(fd, 1, SEEK_CUR));
	R(lseek(fd, 0x7fffffffffffffffl, SEEK_END));
	R(read(fd, buf, 1));
	R(write(fd, buf, 1));
	R(lseek(p[0], 0, SEEK_CUR));
	R(lseek(p[0], 0, 99));
	R(lseek(s[0], 0, SEEK_CUR));
	R(lseek(eventfd(0, 0), 5, SEEK_SET));
	R(lseek(epoll_create1(0), 5, SEEK_SET));
	R(lseek(open("f", O_PATH), 0, SEEK_CUR));
	int d = open(".", O_RDONLY);
	R(lseek(d, 0, SEEK_SET));
	R(lseek(d, -1, SEEK_SET));
	R(lseek(d, 0, SEEK_END));
}

CASE(seek_data, lseek)
{
	fresh("/tmp/io");
	int fd = open("f", O_CREAT | O_RDWR, 0600);
	R(lseek(fd, 0, SEEK_DATA));
	R(lseek(fd, 0, SEEK_HOLE));
	MUST(ftruncate(fd, 65536));
	R(lseek(fd, 0, SEEK_DATA));
	R(lseek(fd, 0, SEEK_HOLE));
	MUST(pwrite(fd, "x", 1, 16384 + 5));
	MUST(pwrite(fd, "x", 1, 40960));
	R(lseek(fd, 0, SEEK_DATA));
	R(lseek(fd, 16390, SEEK_DATA));
	R(lseek(fd, 16390, SEEK_HOLE));
	R(lseek(fd, 20480, SEEK_DATA));
	R(lseek(fd, 40961, SEEK_HOLE));
	R(lseek(fd, 45056, SEEK_DATA));
	R(lseek(fd, 65535, SEEK_HOLE));
	R(lseek(fd, 65536, SEEK_HOLE));
	R(lseek(fd, 65536, SEEK_DATA));
	R(lseek(fd, -1, SEEK_DATA));
	R(lseek(fd, -1, SEEK_HOLE));
	R(lseek(fd, 0, SEEK_CUR));
	int m = made("full", "0123456789");
	R(lseek(m, 3, SEEK_DATA));
	R(lseek(m, 3, SEEK_HOLE));
	R(lseek(open(".", O_RDONLY), 0, SEEK_DATA));
}

CASE(append, write, pwrite64)
{
	fresh("/tmp/io");
	int fd = made("f", "0123"), a = open("f", O_RDWR | O_APPEND);
	R(write(a, "ab", 2));
	R(lseek(a, 0, SEEK_CUR));
	R(lseek(a, 1, SEEK_SET));
	R(read(a, buf, 1));
	R(write(a, "cd", 2));
	R(lseek(a, 0, SEEK_CUR));
	R(pwrite(a, "ef", 2, 0));
	R(lseek(a, 0, SEEK_CUR));
	fcntl(a, F_SETFL, 0);
	R(pwrite(a, "g", 1, 0));
	content("file", fd);
}

CASE(shared_position, dup, lseek)
{
	fresh("/tmp/io");
	int fd = made("f", "0123456789"), d = dup(fd), o = open("f", O_RDONLY);
	R(read(fd, buf, 3));
	R(lseek(d, 0, SEEK_CUR));
	R(lseek(o, 0, SEEK_CUR));
	if (fork() == 0) {
		read(d, buf, 2);
		_exit(0);
	}
	wait(0);
	R(lseek(fd, 0, SEEK_CUR));
	fcntl(d, F_SETFL, O_APPEND);
	say("%#x", fcntl(fd, F_GETFL) & ~O_LARGEFILE);
	fcntl(d, F_SETFD, FD_CLOEXEC);
	R(fcntl(fd, F_GETFD));
}

static int xfsz;
static void on_xfsz(int s) { xfsz++; }

CASE(file_size_limit, write, ftruncate, fallocate)
{
	fresh("/tmp/io");
	int fd = made("f", "0123456789");
	signal(SIGXFSZ, on_xfsz);
	struct rlimit l = {20, 20}, old;
	getrlimit(RLIMIT_FSIZE, &old);
	l.rlim_max = old.rlim_max;
	setrlimit(RLIMIT_FSIZE, &l);
	R(pwrite(fd, buf, 30, 5));
	say("signals %d", xfsz);
	R(pwrite(fd, buf, 1, 20));
	R(pwrite(fd, buf, 0, 20));
	say("signals %d", xfsz);
	R(ftruncate(fd, 20));
	R(ftruncate(fd, 21));
	say("signals %d", xfsz);
	R(truncate("f", 21));
	R(truncate("f", 5));
	R(fallocate(fd, 0, 0, 21));
	say("signals %d", xfsz);
	R(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 21));
	R(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 21));
	say("signals %d", xfsz);
	int a = open("f", O_WRONLY | O_APPEND);
	R(write(a, buf, 100));
	R(write(a, buf, 100));
	say("signals %d", xfsz);
	struct stat st;
	fstat(fd, &st);
	say("size %ld", (long)st.st_size);
	int p[2];
	pipe(p);
	R(write(p[1], buf, 100));
	setrlimit(RLIMIT_FSIZE, &old);
}

static void cannot_truncate(void)
{
	R(truncate("f", 0));
	R(truncate("locked/f", 0));
	R(truncate(".", 0));
}

CASE(truncate, truncate, ftruncate)
{
	fresh("/tmp/io");
	int fd = made("f", "0123456789"), p[2];
	MUST(pipe(p));
	R(truncate("f", 4));
	content("shorter", fd);
	R(ftruncate(fd, 8));
	content("longer", fd);
	R(truncate("f", -1));
	R(truncate(BAD, -1));
	R(truncate(BAD, 0));
	R(truncate("missing", 0));
	R(truncate("", 0));
	R(truncate(".", 0));
	R(truncate("f/x", 0));
	R(truncate("f", 0x7fffffffffffffffl));
	R(ftruncate(99, -1));
	R(ftruncate(99, 0));
	R(ftruncate(fd, -1));
	R(ftruncate(open("f", O_RDONLY), 0));
	R(ftruncate(p[1], 0));
	R(ftruncate(open(".", O_RDONLY), 0));
	R(ftruncate(open("f", O_PATH), 0));
	R(ftruncate(eventfd(0, 0), 0));
	mkfifo("fifo", 0600);
	R(truncate("fifo", 0));
	symlink("f", "l");
	R(truncate("l", 2));
	content("by a link", fd);
	mkdir("locked", 0700);
	as_user(cannot_truncate);
	R(truncate("f", 2));
	R(mount("none", "/tmp/io", 0, MS_REMOUNT | MS_RDONLY, 0));
	close(fd);
	R(mount("none", "/tmp/io", 0, MS_REMOUNT | MS_RDONLY, 0));
	R(truncate("f", 0));
}

CASE(fsync, fsync, fdatasync, syncfs, sync)
{
	fresh("/tmp/io");
	int fd = made("f", "x"), p[2], s[2];
	MUST(pipe(p));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	R(fsync(99));
	R(fdatasync(99));
	R(syncfs(99));
	R(fsync(fd));
	R(fdatasync(fd));
	R(fsync(open("f", O_RDONLY)));
	R(fsync(open(".", O_RDONLY)));
	R(fdatasync(open(".", O_RDONLY)));
	R(fsync(p[0]));
	R(fdatasync(p[1]));
	R(fsync(s[0]));
	R(fsync(eventfd(0, 0)));
	R(fsync(open("/dev/null", O_RDWR)));
	R(fsync(open("f", O_PATH)));
	R(syncfs(fd));
	R(syncfs(p[0]));
	R(syncfs(s[0]));
	R(syncfs(open("f", O_PATH)));
	R(syscall(SYS_sync));
}

CASE(sync_file_range, sync_file_range)
{
	fresh("/tmp/io");
	int fd = made("f", "0123456789"), p[2];
	MUST(pipe(p));
	for (int f = 0; f < 9; f++)
		say("flags %d: %s", f, sync_file_range(fd, 0, 10, f) < 0 ? errname(errno) : "0");
	R(sync_file_range(99, 0, 10, 99));
	R(sync_file_range(fd, -1, 10, 1));
	R(sync_file_range(fd, 0, -1, 1));
	R(sync_file_range(fd, 0x7fffffffffffffffl, 10, 1));
	R(sync_file_range(fd, 0, 0, 7));
	R(sync_file_range(fd, 1000, 1000, 7));
	R(sync_file_range(p[0], 0, 10, 1));
	R(sync_file_range(p[0], 0, 10, 99));
	R(sync_file_range(open("/dev/null", O_RDONLY), 0, 10, 1));
	R(sync_file_range(open(".", O_RDONLY), 0, 10, 1));
	R(sync_file_range(eventfd(0, 0), 0, 10, 1));
	R(sync_file_range(open("f", O_PATH), 0, 10, 1));
}

CASE(advice, fadvise64, readahead)
{
	fresh("/tmp/io");
	int fd = made("f", "0123456789"), p[2], s[2];
	MUST(pipe(p));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	for (int a = -1; a < 8; a++)
		say("advice %d: %s", a, syscall(SYS_fadvise64, fd, 0l, 10l, a) < 0 ? errname(errno) : "0");
	R(syscall(SYS_fadvise64, 99, 0l, -1l, 99));
	R(syscall(SYS_fadvise64, fd, 0l, -1l, 0));
	R(syscall(SYS_fadvise64, fd, -1l, 1l, 0));
	R(syscall(SYS_fadvise64, p[0], 0l, 0l, 0));
	R(syscall(SYS_fadvise64, p[0], 0l, 0l, 99));
	R(syscall(SYS_fadvise64, s[0], 0l, 0l, 0));
	R(syscall(SYS_fadvise64, open(".", O_RDONLY), 0l, 0l, 0));
	R(syscall(SYS_fadvise64, open("/dev/null", O_RDONLY), 0l, 0l, 0));
	R(syscall(SYS_fadvise64, open("f", O_PATH), 0l, 0l, 0));
	R(syscall(SYS_readahead, 99, 0l, 10ul));
	R(syscall(SYS_readahead, fd, 0l, 10ul));
	R(syscall(SYS_readahead, fd, -1l, 10ul));
	R(syscall(SYS_readahead, open("f", O_WRONLY), 0l, 10ul));
	R(syscall(SYS_readahead, p[0], 0l, 10ul));
	R(syscall(SYS_readahead, s[0], 0l, 10ul));
	R(syscall(SYS_readahead, open(".", O_RDONLY), 0l, 10ul));
	R(syscall(SYS_readahead, open("f", O_PATH), 0l, 10ul));
}

CASE(devices, read, write, lseek)
{
	int n = open("/dev/null", O_RDWR), z = open("/dev/zero", O_RDWR), f = open("/dev/full", O_RDWR);
	R(read(n, buf, 10));
	R(write(n, buf, 10));
	R(write(n, BAD, 10));
	R(pread(n, buf, 10, 100));
	R(pwrite(n, buf, 10, 100));
	R(lseek(n, 100, SEEK_SET));
	R(lseek(n, 0, SEEK_CUR));
	R(lseek(n, 5, SEEK_END));
	R(lseek(n, 5, SEEK_DATA));
	memset(buf, 'x', 10);
	R(read(z, buf, 10));
	IS(!memcmp(buf, "\0\0\0\0\0\0\0\0\0\0", 10));
	R(read(z, BAD, 10));
	R(write(z, BAD, 10));
	R(pread(z, buf, 10, 5));
	R(lseek(z, 7, SEEK_SET));
	R(lseek(z, 0, SEEK_CUR));
	R(read(f, buf, 10));
	R(write(f, buf, 10));
	R(write(f, buf, 0));
	R(ftruncate(n, 0));
	R(fallocate(n, 0, 0, 10));
	R(rwf(SYS_preadv2, z, 0, 8));
	R(rwf(SYS_pwritev2, n, 0, 8));
	R(rwf(SYS_pwritev2, n, 0, 16));
}

CASE(no_space, write, fallocate)
{
	fresh("/tmp/io");
	MUST(mount("none", "/tmp/io", "tmpfs", 0, "size=16k"));
	MUST(chdir("/tmp/io"));
	int fd = open("f", O_CREAT | O_RDWR, 0600);
	memset(buf, 'x', sizeof buf);
	R(write(fd, buf, 8192));
	R(write(fd, buf, 8000));
	R(write(fd, buf, 8192));
	R(write(fd, buf, 8192));
	R(ftruncate(fd, 1 << 20));
	R(pwrite(fd, buf, 1, 100000));
	R(fallocate(fd, 0, 0, 1 << 20));
	R(ftruncate(fd, 4096));
	R(pwrite(fd, buf, 1, 100000));
	R(fallocate(fd, 0, 4096, 4096));
	struct stat st;
	fstat(fd, &st);
	say("size %ld blocks %ld", (long)st.st_size, (long)st.st_blocks);
	R(write(open("g", O_CREAT | O_WRONLY, 0600), buf, 8192));
	R(write(open("g", O_WRONLY | O_APPEND, 0600), buf, 8192));
}

CASE(direct, fcntl)
{
	fresh("/tmp/io");
	int fd = made("f", "0123456789");
	R(open("f", O_RDWR | O_DIRECT));
	R(fcntl(fd, F_SETFL, O_DIRECT));
	say("%#x", fcntl(fd, F_GETFL) & ~O_LARGEFILE);
	int p[2];
	R(pipe2(p, O_DIRECT));
	say("%#x %#x", fcntl(p[0], F_GETFL), fcntl(p[1], F_GETFL));
	R(fcntl(p[0], F_SETFL, 0));
	R(fcntl(p[0], F_SETFL, O_DIRECT));
	R(open(".", O_RDONLY | O_DIRECT));
	R(open("new", O_CREAT | O_RDWR | O_DIRECT, 0600));
	R(access("new", F_OK));
}

CASE(dup, dup, dup2, dup3, fcntl)
{
	fresh("/tmp/io");
	int fd = made("f", "x");
	struct rlimit l = {20, 4096}, old;
	getrlimit(RLIMIT_NOFILE, &old);
	l.rlim_max = old.rlim_max;
	MUST(setrlimit(RLIMIT_NOFILE, &l));
	R(dup2(fd, 19));
	R(dup2(fd, 20));
	R(dup3(fd, 20, 0));
	R(dup2(fd, 19));
	R(dup2(20, 20));
	R(dup3(99, 99, 0));
	R(dup3(99, 18, O_CLOEXEC | O_NONBLOCK));
	R(dup3(fd, -1, 0));
	R(fcntl(fd, F_DUPFD, 19));
	R(fcntl(fd, F_DUPFD, 20));
	R(fcntl(99, F_DUPFD, 20));
	R(fcntl(fd, F_DUPFD, -1));
	R(dup2(open("f", O_PATH), 18));
	R(fcntl(18, F_DUPFD, 0) >= 0);
	while (dup(fd) >= 0)
		;
	say("%s", errname(errno));
	R(dup2(fd, 18));
	R(fcntl(fd, F_DUPFD, 0));
	R(fcntl(fd, F_DUPFD_CLOEXEC, 10));
	R(pipe((int[2]){}));
	close(12);
	R(pipe((int[2]){}));
	R(dup(fd));
	setrlimit(RLIMIT_NOFILE, &old);
}

CASES
