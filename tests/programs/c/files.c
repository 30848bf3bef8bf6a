/* Files and directories on what / and /tmp are: names, links, modes, getdents, locks, offsets. */
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/time.h>
#include <sys/uio.h>

static char buf[70000];

static int order(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }

static void list(const char *d)
{
	char *names[300];
	int n = 0;
	DIR *dir = opendir(d);
	if (!dir) {
		say("opendir: %s", errname(errno));
		return;
	}
	for (struct dirent *e; (e = readdir(dir)) && n < 300;) {
		char t[300];
		snprintf(t, sizeof t, "%s type %d", e->d_name, e->d_type);
		names[n++] = strdup(t);
	}
	closedir(dir);
	qsort(names, n, sizeof *names, order);
	for (int i = 0; i < n && i < 10; i++)
		say("entry %s", names[i]);
	R(n);
}

static void names(void)
{
	struct stat st;
	say("-- names");
	R(mkdir("/tmp/d", 0755));
	R(mkdir("/tmp/d", 0755));
	R(chdir("/tmp/d"));
	IS(getcwd(buf, sizeof buf) && !strcmp(buf, "/tmp/d"));
	R(syscall(SYS_getcwd, buf, 3));
	R(open("a", O_RDWR));
	int f = open("a", O_RDWR | O_CREAT | O_EXCL, 0640);
	MUST(f);
	R(open("a", O_RDWR | O_CREAT | O_EXCL, 0640));
	R(open("a/b", O_RDONLY));
	R(open("a", O_RDONLY | O_DIRECTORY));
	R(open(".", O_RDWR));
	R(open("", O_RDONLY));
	memset(buf, 'x', 5000);
	buf[256] = 0;
	R(open(buf, O_RDONLY));
	buf[256] = 'x';
	buf[4999] = 0;
	R(open(buf, O_RDONLY));
	R(fstat(f, &st));
	say("mode %o links %ld size %ld", st.st_mode, (long)st.st_nlink, (long)st.st_size);
	R(link("a", "b"));
	R(stat("b", &st));
	R(st.st_nlink);
	R(link("a", "b"));
	R(link(".", "c"));
	R(symlink("a", "s"));
	R(symlink("a", "s"));
	R(readlink("s", buf, 100));
	R(readlink("a", buf, 100));
	R(readlink("s", buf, 0));
	R(lstat("s", &st));
	say("mode %o size %ld", st.st_mode, (long)st.st_size);
	R(symlink("l2", "l1"));
	R(symlink("l1", "l2"));
	R(stat("l1", &st));
	R(open("s", O_RDONLY | O_NOFOLLOW));
	R(close(openat(AT_FDCWD, "s", O_PATH | O_NOFOLLOW)));
	R(rename("b", "bb"));
	R(rename("nope", "c"));
	R(rename("a", "bb"));
	R(mkdir("sub", 0700));
	R(rename("sub", "sub/x"));
	R(rename("a", "sub"));
	R(rename("sub", "a"));
	R(rmdir("a"));
	R(unlink("sub"));
	R(close(open("sub/f", O_CREAT | O_WRONLY, 0600)));
	R(rmdir("sub"));
	R(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "bb", 1));
	R(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "sub", 2));
	R(access("sub", F_OK));
	R(access("nope", F_OK));
	R(access("a", 99));
	R(chmod("bb", 04711));
	R(stat("bb", &st));
	say("mode %o", st.st_mode);
	R(umask(077));
	R(close(open("masked", O_CREAT | O_WRONLY, 0777)));
	R(stat("masked", &st));
	say("mode %o", st.st_mode);
	R(umask(022));
	R(mknod("fifo", S_IFIFO | 0600, 0));
	R(stat("fifo", &st));
	say("mode %o", st.st_mode);
	R(open("fifo", O_WRONLY | O_NONBLOCK));
	list(".");
	for (int i = 0; i < 200; i++) {
		snprintf(buf, sizeof buf, "many-%03d", i);
		close(open(buf, O_CREAT | O_WRONLY, 0600));
	}
	list(".");
	int d = open(".", O_RDONLY | O_DIRECTORY);
	R(syscall(SYS_getdents64, d, buf, 10));
	R(syscall(SYS_getdents64, f, buf, 1000));
	R(read(d, buf, 10));
	R(unlinkat(d, "many-000", 0));
	R(unlinkat(d, "many-000", AT_REMOVEDIR));
	R(unlinkat(d, "many-001", 0x1000));
	R(fchdir(d));
	R(fchdir(f));
	close(d);
	close(f);
}

static void data(void)
{
	say("-- data");
	struct stat st;
	int f = open("/tmp/d/data", O_RDWR | O_CREAT, 0600), g;
	MUST(f);
	R(write(f, "0123456789", 10));
	R(lseek(f, 0, SEEK_CUR));
	R(lseek(f, -1, SEEK_SET));
	R(lseek(f, 0, 99));
	R(lseek(f, 100, SEEK_SET));
	R(read(f, buf, 10));
	R(write(f, "end", 3));
	R(fstat(f, &st));
	R(st.st_size);
	R(pread(f, buf, 10, 5));
	IS(!memcmp(buf, "56789\0\0\0\0\0", 10));
	R(pread(f, buf, 10, -1));
	R(lseek(f, 0, SEEK_DATA));
	R(lseek(f, 1000, SEEK_DATA));
	R(lseek(f, 0, SEEK_HOLE) > 0);
	R(ftruncate(f, 5));
	R(ftruncate(f, -1));
	R(ftruncate(f, 1l << 62) == 0 || errno == EFBIG);
	R(ftruncate(f, 5));
	MUST(g = open("/tmp/d/data", O_WRONLY | O_APPEND));
	R(write(g, "app", 3));
	R(pwrite(g, "X", 1, 0));
	R(read(g, buf, 1));
	R(fstat(f, &st));
	R(st.st_size);
	close(g);
	R(fallocate(f, 0, 0, 9000));
	R(fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
	R(fallocate(f, 0, 0, 0));
	R(pread(f, buf, 3, 0));
	R(buf[0]);
	R(fsync(f));
	R(fdatasync(f));
	R(fsync(999));
	int p[2];
	MUST(pipe(p));
	R(fsync(p[0]));
	R(ftruncate(p[0], 0));
	R(sendfile(p[1], f, &(off_t){ 0 }, 100));
	R(splice(p[0], NULL, f, NULL, 50, 0));
	R(read(p[0], buf, 1000));
	R(fcntl(f, F_DUPFD, 100));
	R(fcntl(100, F_GETFD));
	R(fcntl(f, F_DUPFD_CLOEXEC, 101));
	R(fcntl(101, F_GETFD));
	R(dup2(f, 102));
	R(dup2(999, 103));
	R(dup3(f, f, 0));
	R(dup3(f, 104, 1));
	R(dup2(f, -1));
	R(fcntl(f, F_DUPFD, -1));
	R(fcntl(f, 9999));
	R(close(102));
	R(close(102));
	R(ioctl(f, 0x1234));
	R(ioctl(f, FIOCLEX));
	R(fcntl(f, F_GETFD));
	R(flock(f, LOCK_EX));
	MUST(g = open("/tmp/d/data", O_RDWR));
	R(flock(g, LOCK_EX | LOCK_NB));
	R(flock(f, LOCK_UN));
	R(flock(g, LOCK_EX | LOCK_NB));
	R(flock(g, 99));
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10 };
	R(fcntl(f, F_SETLK, &fl));
	R(fcntl(g, F_GETLK, &fl));
	R(fl.l_type);
	struct timespec ts[2] = { { 1000, 5 }, { 2000, 7 } };
	R(futimens(f, ts));
	R(fstat(f, &st));
	IS(st.st_atim.tv_sec == 1000 && st.st_mtim.tv_sec == 2000 && st.st_mtim.tv_nsec == 7);
	ts[0].tv_nsec = 2000000000;
	R(futimens(f, ts));
	R(utimensat(AT_FDCWD, "/nope", NULL, 0));
	struct statfs fs;
	R(statfs("/tmp", &fs));
	R(fs.f_namelen);
	R(copy_file_range(f, &(off_t){ 0 }, g, &(off_t){ 100 }, 50, 0));
	R(copy_file_range(f, &(off_t){ 0 }, f, &(off_t){ 10 }, 50, 0));
	struct iovec io[2] = { { buf, 3 }, { buf + 10, 4 } };
	R(readv(f, io, 2));
	R(preadv2(f, io, 2, 0, 0x10000));
	io[1].iov_base = (void *)0x10000;
	R(readv(f, io, 2));
	R(read(f, NULL, 0));
	R(read(f, (void *)0x10000, 5));
	R(write(f, (void *)0x10000, 0));
	R(write(f, buf, -1));
	R(syscall(SYS_close_range, 100, 110, 0));
	R(close(101));
	R(syscall(SYS_close_range, 5, 3, 0));
	R(unlink("/tmp/d/data"));
	R(fstat(f, &st));
	R(st.st_nlink);
}

int main(void)
{
	list("/proc/self/nope");
	names();
	data();
	return 0;
}
