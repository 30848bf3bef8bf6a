/* fallocate in every mode, copy_file_range, sparse files. */
#include "files.h"
#include <linux/falloc.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

static char buf[65536];

static void map(const char *what, int fd)
{
	struct stat st;
	char line[200] = "";
	fstat(fd, &st);
	for (long at = 0; at < st.st_size;) {
		long d = lseek(fd, at, SEEK_DATA);
		if (d < 0)
			break;
		at = lseek(fd, d, SEEK_HOLE);
		sprintf(line + strlen(line), " %ld-%ld", d, at);
		if (strlen(line) > 150)
			break;
	}
	say("%s: size %ld blocks %ld data%s", what, (long)st.st_size, (long)st.st_blocks, line);
}

CASE(errors, fallocate)
{
	fresh("/tmp/al");
	int fd = made("f", "0123456789"), p[2], s[2];
	MUST(pipe(p));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	R(fallocate(99, 0, 0, 1));
	R(fallocate(fd, 0, -1, 1));
	R(fallocate(fd, 0, 0, 0));
	R(fallocate(fd, 0, 0, -1));
	R(fallocate(99, 0, -1, 1));
	R(fallocate(open("f", O_RDONLY), 0, 0, 1));
	R(fallocate(open("f", O_RDONLY), 0, 0, 0));
	R(fallocate(open("f", O_RDONLY), 0x1000, 0, 1));
	R(fallocate(open("f", O_PATH), 0, 0, 1));
	R(fallocate(p[1], 0, 0, 1));
	R(fallocate(p[0], 0, 0, 1));
	R(fallocate(s[0], 0, 0, 1));
	R(fallocate(open(".", O_RDONLY), 0, 0, 1));
	R(fallocate(open("/dev/null", O_RDWR), 0, 0, 1));
	R(fallocate(eventfd(0, 0), 0, 0, 1));
	R(fallocate(fd, 0, 0x7fffffffffffffffl, 1));
	R(fallocate(fd, 0, 0x7ffffffffffffff0l, 0x100));
	R(fallocate(fd, 0, 1l << 40, 1));
}

CASE(modes, fallocate)
{
	fresh("/tmp/al");
	int fd = made("f", "");
	memset(buf, 'x', sizeof buf);
	MUST(write(fd, buf, 40960));
	for (int m = 0; m < 256; m++) {
		if (m == 0 || m == 1 || m == 3)
			continue;
		errno = 0;
		int r = fallocate(fd, m, 4096, 4096);
		say("mode %#x: %s", m, r < 0 ? errname(errno) : "0");
	}
	map("after", fd);
	R(fallocate(fd, 1 << 20, 0, 1));
	R(fallocate(fd, -1, 0, 1));
}

CASE(allocate, fallocate)
{
	fresh("/tmp/al");
	int fd = made("f", "0123456789");
	map("before", fd);
	R(fallocate(fd, 0, 0, 4));
	map("less than there is", fd);
	R(fallocate(fd, 0, 0, 10000));
	map("more", fd);
	content("content", fd);
	R(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 40000));
	map("size kept", fd);
	R(fallocate(fd, 0, 100000, 10));
	map("beyond", fd);
	R(ftruncate(fd, 5));
	map("cut", fd);
	R(fallocate(fd, 0, 0, 9 << 20));
	map("too much", fd);
}

CASE(punch, fallocate)
{
	fresh("/tmp/al");
	int fd = made("f", "");
	memset(buf, 'x', sizeof buf);
	MUST(write(fd, buf, 40960));
	R(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10));
	R(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192));
	map("two pages", fd);
	R(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 10));
	content("ten bytes", fd);
	R(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 16000, 9000));
	map("unaligned", fd);
	R(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100000, 9000));
	map("beyond", fd);
	R(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 36864, 1 << 20));
	map("to the end", fd);
	R(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 0x7ffffffffffff000l));
	map("all", fd);
}

CASE(copy_range_errors, copy_file_range)
{
	fresh("/tmp/al");
	int fd = made("f", "0123456789"), g = made("g", ""), p[2], d = open(".", O_RDONLY), r = open("f", O_RDONLY), w = open("g", O_WRONLY);
	MUST(pipe(p));
	long o = 0, neg = -1;
	R(syscall(SYS_copy_file_range, 99, 0, g, 0, 1, 0));
	R(syscall(SYS_copy_file_range, fd, 0, 99, 0, 1, 0));
	R(syscall(SYS_copy_file_range, fd, 0, g, 0, 1, 1));
	R(syscall(SYS_copy_file_range, 99, 0, g, 0, 1, 1));
	R(syscall(SYS_copy_file_range, w, 0, g, 0, 1, 0));
	R(syscall(SYS_copy_file_range, fd, 0, r, 0, 1, 0));
	R(syscall(SYS_copy_file_range, d, 0, g, 0, 1, 0));
	R(syscall(SYS_copy_file_range, fd, 0, d, 0, 1, 0));
	R(syscall(SYS_copy_file_range, p[0], 0, g, 0, 1, 0));
	R(syscall(SYS_copy_file_range, fd, 0, p[1], 0, 1, 0));
	R(syscall(SYS_copy_file_range, fd, 0, open("g", O_WRONLY | O_APPEND), 0, 1, 0));
	R(syscall(SYS_copy_file_range, fd, BAD, g, 0, 1, 0));
	R(syscall(SYS_copy_file_range, fd, 0, g, BAD, 1, 0));
	R(syscall(SYS_copy_file_range, fd, &neg, g, 0, 1, 0));
	R(syscall(SYS_copy_file_range, fd, &o, g, &neg, 1, 0));
	R(syscall(SYS_copy_file_range, fd, &o, fd, &o, 5, 0));
	R(syscall(SYS_copy_file_range, fd, &o, g, 0, 0, 0));
	R(syscall(SYS_copy_file_range, open("/dev/zero", O_RDONLY), 0, g, 0, 1, 0));
	R(syscall(SYS_copy_file_range, open("f", O_PATH), 0, g, 0, 1, 0));
}

CASE(copy_range, copy_file_range)
{
	fresh("/tmp/al");
	int fd = made("f", "0123456789"), g = made("g", "abcdefghijklmnop");
	long a = 2, b = 5;
	R(syscall(SYS_copy_file_range, fd, &a, g, &b, 3, 0));
	say("%ld %ld", a, b);
	content("g", g);
	content("f", fd);
	R(syscall(SYS_copy_file_range, fd, 0, g, 0, 4, 0));
	content("g", g);
	R(syscall(SYS_copy_file_range, fd, 0, g, 0, 100, 0));
	content("g", g);
	R(syscall(SYS_copy_file_range, fd, 0, g, 0, 100, 0));
	a = 100;
	R(syscall(SYS_copy_file_range, fd, &a, g, 0, 100, 0));
	a = 0, b = 8;
	R(syscall(SYS_copy_file_range, fd, &a, fd, &b, 4, 0));
	content("within", fd);
	a = 0, b = 3;
	R(syscall(SYS_copy_file_range, fd, &a, fd, &b, 4, 0));
	a = 0, b = 100;
	R(syscall(SYS_copy_file_range, fd, &a, g, &b, 4, 0));
	struct stat st;
	fstat(g, &st);
	say("size %ld", (long)st.st_size);
	mount("none", mkdtemp((char[]){"mXXXXXX"}), "tmpfs", 0, 0);
	mkdir("other", 0755);
	MUST(mount("none", "other", "tmpfs", 0, 0));
	a = 0;
	R(syscall(SYS_copy_file_range, fd, &a, open("other/x", O_CREAT | O_RDWR, 0600), 0, 4, 0));
}

CASE(sparse, lseek, ftruncate)
{
	fresh("/tmp/al");
	int fd = made("f", "");
	MUST(pwrite(fd, "x", 1, 1 << 20));
	map("sparse", fd);
	MUST(ftruncate(fd, 1 << 30));
	map("larger", fd);
	MUST(pwrite(fd, "x", 1, (1 << 30) - 1));
	map("at the end", fd);
	char c = 1;
	R(pread(fd, &c, 1, 12345));
	say("%d", c);
	map("a read fills nothing", fd);
	MUST(ftruncate(fd, 1 << 20));
	map("cut", fd);
	MUST(ftruncate(fd, 2 << 20));
	R(pread(fd, &c, 1, 1 << 20));
	say("%d", c);
}

CASES
