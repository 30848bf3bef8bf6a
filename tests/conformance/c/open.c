/* open, openat, openat2 and creat: flags one by one, the order of errors, umask, O_TMPFILE,
 * O_PATH, resolution rules. */
#include "files.h"
#include <linux/openat2.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

static void begin(void)
{
	umask(022);
	mkdir("/tmp/o", 0777);
	if (mount("none", "/tmp/o", "tmpfs", 0, "mode=0777") < 0 || chdir("/tmp/o") < 0)
		say("begin: %s", errname(errno));
	close(open("file", O_CREAT | O_WRONLY, 0644));
	mkdir("dir", 0755);
	if (symlink("file", "link") < 0 || symlink("dir", "dlink") < 0 || symlink("loop", "loop") < 0 || symlink("missing", "dangling") < 0)
		say("symlink: %s", errname(errno));
}

static void tell(const char *what, int fd)
{
	struct stat st;
	if (fd < 0) {
		say("%s: %s", what, errname(errno));
		return;
	}
	fstat(fd, &st);
	say("%s: mode %o size %ld flags %#x cloexec %d", what, st.st_mode, (long)st.st_size, fcntl(fd, F_GETFL) & ~O_LARGEFILE, fcntl(fd, F_GETFD));
	close(fd);
}

#define OPEN(path, flags, mode) tell("open " #path " " #flags " " #mode, open(path, flags, mode))

CASE(access_modes, open)
{
	begin();
	int fd = syscall(SYS_open, "file", O_RDONLY, 0);
	R(write(fd, "x", 1));
	R(read(fd, &fd, 0));
	fd = syscall(SYS_open, "file", O_WRONLY, 0);
	char c;
	R(read(fd, &c, 1));
	R(write(fd, "abc", 3));
	fd = syscall(SYS_open, "file", O_RDWR, 0);
	R(read(fd, &c, 1));
	R(write(fd, "x", 1));
	fd = syscall(SYS_open, "file", 3, 0);
	R(read(fd, &c, 1));
	R(write(fd, "x", 1));
	tell("3", fd);
	R(syscall(SYS_open, "missing", O_RDONLY, 0));
	R(syscall(SYS_open, (char *)8, O_RDONLY, 0));
	R(syscall(SYS_open, "", O_RDONLY, 0));
	R(syscall(SYS_open, "dir", O_WRONLY, 0));
}

CASE(create, openat)
{
	begin();
	OPEN("new", O_CREAT | O_RDWR, 0666);
	OPEN("new", O_CREAT | O_RDWR, 0600);
	OPEN("new2", O_CREAT | O_EXCL | O_WRONLY, 07777);
	OPEN("new2", O_CREAT | O_EXCL | O_WRONLY, 0600);
	OPEN("link", O_CREAT | O_EXCL | O_WRONLY, 0600);
	OPEN("dangling", O_CREAT | O_EXCL | O_WRONLY, 0600);
	OPEN("dangling", O_CREAT | O_WRONLY, 0600);
	OPEN("missing", O_RDONLY, 0);
	OPEN("dir", O_CREAT | O_RDONLY, 0600);
	OPEN("dir/", O_CREAT | O_RDONLY, 0600);
	OPEN("new3/", O_CREAT | O_WRONLY, 0600);
	OPEN("nodir/new", O_CREAT | O_WRONLY, 0600);
	OPEN("file/new", O_CREAT | O_WRONLY, 0600);
	OPEN("loop", O_CREAT | O_WRONLY, 0600);
	OPEN(".", O_CREAT | O_RDONLY, 0600);
	OPEN("none", O_CREAT | O_DIRECTORY | O_RDONLY, 0600);
	struct stat st;
	R(stat("none", &st));
	umask(0);
	OPEN("bare", O_CREAT | O_WRONLY, 0666);
	umask(0777);
	OPEN("closed", O_CREAT | O_RDWR, 0666);
	char name[300];
	memset(name, 'n', 299), name[299] = 0;
	OPEN(name, O_CREAT | O_WRONLY, 0600);
	name[255] = 0;
	tell("255", open(name, O_CREAT | O_WRONLY, 0600));
	R(syscall(SYS_openat, 99, "x", O_RDONLY, 0));
	R(syscall(SYS_openat, open("file", O_RDONLY), "x", O_RDONLY, 0));
	tell("at a directory", syscall(SYS_openat, open("dir", O_RDONLY), "x", O_CREAT | O_WRONLY, 0600));
	tell("absolute", syscall(SYS_openat, 99, "/tmp/o/file", O_RDONLY, 0));
}

CASE(creat, creat)
{
	begin();
	int fd = open("file", O_WRONLY);
	MUST(write(fd, "content", 7));
	tell("creat", syscall(SYS_creat, "file", 0600));
	tell("creat new", syscall(SYS_creat, "fresh", 0666));
	R(syscall(SYS_creat, "dir", 0600));
	R(syscall(SYS_creat, (char *)8, 0600));
}

CASE(truncate_append, openat)
{
	begin();
	int fd = open("file", O_RDWR);
	MUST(write(fd, "0123456789", 10));
	tell("before", open("file", O_RDONLY));
	tell("O_TRUNC", open("file", O_WRONLY | O_TRUNC));
	MUST(pwrite(fd, "0123456789", 10, 0));
	tell("O_RDONLY|O_TRUNC", open("file", O_RDONLY | O_TRUNC));
	int a = open("file", O_WRONLY | O_APPEND), b = open("file", O_WRONLY | O_APPEND);
	MUST(write(a, "aa", 2));
	MUST(write(b, "bb", 2));
	R(lseek(a, 0, SEEK_SET));
	MUST(write(a, "cc", 2));
	R(pwrite(a, "dd", 2, 0));
	char t[32] = "";
	MUST(pread(fd, t, 31, 0));
	say("'%s' position %ld", t, (long)lseek(a, 0, SEEK_CUR));
	OPEN("dir", O_RDONLY | O_TRUNC, 0);
}

CASE(nofollow_directory, openat)
{
	begin();
	OPEN("link", O_RDONLY | O_NOFOLLOW, 0);
	OPEN("dlink", O_RDONLY | O_NOFOLLOW | O_DIRECTORY, 0);
	OPEN("dlink/", O_RDONLY | O_NOFOLLOW, 0);
	OPEN("file", O_RDONLY | O_NOFOLLOW, 0);
	OPEN("loop", O_RDONLY, 0);
	OPEN("dir", O_RDONLY | O_DIRECTORY, 0);
	OPEN("dlink", O_RDONLY | O_DIRECTORY, 0);
	OPEN("file", O_RDONLY | O_DIRECTORY, 0);
	OPEN("file/", O_RDONLY, 0);
	OPEN("file/.", O_RDONLY, 0);
	OPEN("dir/..", O_RDONLY, 0);
	OPEN("dangling", O_RDONLY, 0);
}

CASE(path, openat)
{
	begin();
	char b[8];
	struct stat st;
	int fd = open("file", O_PATH);
	R(read(fd, b, 1));
	R(write(fd, b, 1));
	R(fchmod(fd, 0600));
	R(fchown(fd, 0, 0));
	R(ftruncate(fd, 0));
	R(lseek(fd, 0, SEEK_SET));
	R(fstat(fd, &st));
	R(fcntl(fd, F_SETFL, O_NONBLOCK));
	say("flags %#x", fcntl(fd, F_GETFL) & ~O_LARGEFILE);
	R(fsync(fd));
	OK(dup(fd));
	tell("O_PATH ignores", open("file", O_PATH | O_WRONLY | O_TRUNC | O_APPEND | O_CREAT));
	tell("a link itself", open("link", O_PATH | O_NOFOLLOW));
	tell("a directory", open("dir", O_PATH | O_DIRECTORY));
	int l = open("link", O_PATH | O_NOFOLLOW);
	say("readlinkat: %d", (int)readlinkat(l, "", b, 8));
	char p[64];
	snprintf(p, sizeof p, "/proc/self/fd/%d", fd);
	tell("opened again", open(p, O_RDWR));
	OPEN("missing", O_PATH, 0);
}

CASE(tmpfile, openat)
{
	begin();
	int fd = open("dir", O_TMPFILE | O_RDWR, 0640);
	struct stat st;
	fstat(fd, &st);
	say("mode %o links %d", st.st_mode, (int)st.st_nlink);
	MUST(write(fd, "temp", 4));
	char p[64];
	snprintf(p, sizeof p, "/proc/self/fd/%d", fd);
	R(linkat(AT_FDCWD, p, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
	fstat(fd, &st);
	say("links %d", (int)st.st_nlink);
	tell("named", open("named", O_RDONLY));
	fd = open("dir", O_TMPFILE | O_RDWR | O_EXCL, 0640);
	snprintf(p, sizeof p, "/proc/self/fd/%d", fd);
	R(linkat(AT_FDCWD, p, AT_FDCWD, "named2", AT_SYMLINK_FOLLOW));
	OPEN("dir", O_TMPFILE | O_RDONLY, 0640);
	OPEN("file", O_TMPFILE | O_RDWR, 0640);
	OPEN("missing", O_TMPFILE | O_RDWR, 0640);
}

CASE(flags_kept, openat, fcntl)
{
	begin();
	OPEN("file", O_RDONLY | O_CLOEXEC, 0);
	OPEN("file", O_RDWR | O_NONBLOCK | O_SYNC, 0);
	OPEN("file", O_RDWR | O_DSYNC | O_NOATIME, 0);
	OPEN("file", O_RDONLY | O_NOCTTY | O_ASYNC, 0);
	OPEN("file", O_RDONLY | 0x40000000, 0);
	int fd = open("file", O_RDWR);
	R(fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK | O_CREAT | O_WRONLY));
	say("%#x", fcntl(fd, F_GETFL) & ~O_LARGEFILE);
	R(fcntl(fd, F_SETFL, 0));
	say("%#x", fcntl(fd, F_GETFL) & ~O_LARGEFILE);
	R(fcntl(99, F_GETFL));
}

static void denied(void)
{
	OPEN("secret", O_RDONLY, 0);
	OPEN("secret", O_PATH, 0);
	OPEN("readable", O_RDONLY, 0);
	OPEN("readable", O_RDWR, 0);
	OPEN("readable", O_RDONLY | O_TRUNC, 0);
	OPEN("readable", O_RDONLY | O_NOATIME, 0);
	OPEN("writable", O_WRONLY, 0);
	OPEN("writable", O_RDONLY, 0);
	OPEN("locked/x", O_RDONLY, 0);
	OPEN("dir/new", O_CREAT | O_WRONLY, 0600);
	OPEN("dir", O_TMPFILE | O_WRONLY, 0600);
	OPEN("mine", O_CREAT | O_WRONLY, 0600);
	OPEN("mine", O_RDONLY | O_NOATIME, 0);
}

CASE(permissions, openat)
{
	begin();
	close(open("secret", O_CREAT | O_WRONLY, 0600));
	close(open("readable", O_CREAT | O_WRONLY, 0644));
	umask(0);
	close(open("writable", O_CREAT | O_WRONLY, 0602));
	mkdir("locked", 0700);
	close(open("locked/x", O_CREAT | O_WRONLY, 0666));
	as_user(denied);
}

CASE(limits, openat)
{
	begin();
	struct rlimit l = {6, 6};
	setrlimit(RLIMIT_NOFILE, &l);
	int n = 0;
	while (open("file", O_RDONLY) >= 0)
		n++;
	say("then %s", errname(errno));
	IS(n <= 3);
	R(open("missing", O_RDONLY));
	R(open("brandnew", O_CREAT | O_WRONLY, 0600));
	struct stat st;
	R(stat("brandnew", &st));
}

CASE(read_only, openat)
{
	begin();
	MUST(mount("none", "/tmp/o", 0, MS_REMOUNT | MS_RDONLY, 0));
	OPEN("file", O_RDONLY, 0);
	OPEN("file", O_RDWR, 0);
	OPEN("file", O_RDONLY | O_TRUNC, 0);
	OPEN("file", O_RDONLY | O_CREAT, 0600);
	OPEN("new", O_RDONLY | O_CREAT, 0600);
	OPEN("dir", O_TMPFILE | O_RDWR, 0600);
	R(mkdir("m", 0755));
	R(unlink("file"));
	R(unlink("missing"));
	R(rename("file", "f2"));
	R(chmod("file", 0600));
	R(truncate("file", 0));
	R(symlink("a", "b"));
	R(mknod("n", S_IFIFO, 0));
	R(access("file", W_OK));
	R(access("file", R_OK));
}

static long at2from(int dir, const char *path, unsigned long flags, unsigned long resolve)
{
	struct open_how how = {flags, 0, resolve};
	return syscall(SYS_openat2, dir, path, &how, sizeof how);
}

static long at2(const char *path, unsigned long flags, unsigned long mode, unsigned long resolve)
{
	struct open_how how = {flags, mode, resolve};
	return syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
}

CASE(openat2_how, openat2)
{
	begin();
	struct { struct open_how how; unsigned long more; } big = {{O_RDONLY}, 0};
	tell("plain", at2("file", O_RDONLY, 0, 0));
	R(syscall(SYS_openat2, AT_FDCWD, "file", &big, 0));
	R(syscall(SYS_openat2, AT_FDCWD, "file", &big, 23));
	OK(syscall(SYS_openat2, AT_FDCWD, "file", &big, 32));
	big.more = 1;
	R(syscall(SYS_openat2, AT_FDCWD, "file", &big, 32));
	R(syscall(SYS_openat2, AT_FDCWD, "file", &big, 5000));
	R(syscall(SYS_openat2, AT_FDCWD, "file", (void *)8, 24));
	R(at2("file", 0x40000000, 0, 0));
	R(at2("file", 1ul << 40, 0, 0));
	R(at2("file", O_RDONLY, 0600, 0));
	R(at2("new", O_CREAT | O_WRONLY, 010000, 0));
	R(at2("file", O_RDONLY, 0, 0x100));
	R(at2("file", O_PATH | O_RDWR, 0, 0));
	R(at2("dir", O_TMPFILE, 0600, 0));
	tell("create", at2("new", O_CREAT | O_WRONLY, 0600, 0));
	R(at2("file", O_RDONLY, 0, RESOLVE_BENEATH | RESOLVE_IN_ROOT));
}

CASE(openat2_resolve, openat2)
{
	begin();
	tell("beneath", at2("dir/../file", O_RDONLY, 0, RESOLVE_BENEATH));
	R(at2("../o/file", O_RDONLY, 0, RESOLVE_BENEATH));
	R(at2("/tmp/o/file", O_RDONLY, 0, RESOLVE_BENEATH));
	MUST(symlink("/tmp/o/file", "abs"));
	MUST(symlink("../o/file", "up"));
	R(at2("abs", O_RDONLY, 0, RESOLVE_BENEATH));
	R(at2("up", O_RDONLY, 0, RESOLVE_BENEATH));
	tell("in root", at2("/file", O_RDONLY, 0, RESOLVE_IN_ROOT));
	tell("in root, up", at2("../../file", O_RDONLY, 0, RESOLVE_IN_ROOT));
	R(at2("abs", O_RDONLY, 0, RESOLVE_IN_ROOT));
	R(at2("link", O_RDONLY, 0, RESOLVE_NO_SYMLINKS));
	R(at2("dlink/x", O_RDONLY, 0, RESOLVE_NO_SYMLINKS));
	tell("a link itself", at2("link", O_PATH | O_NOFOLLOW, 0, RESOLVE_NO_SYMLINKS));
	tell("not magic", at2("link", O_RDONLY, 0, RESOLVE_NO_MAGICLINKS));
	R(at2("/proc/self/exe", O_RDONLY, 0, RESOLVE_NO_MAGICLINKS));
	R(at2("/proc/self/cwd/file", O_RDONLY, 0, RESOLVE_NO_MAGICLINKS));
	mkdir("mnt", 0755);
	MUST(mount("none", "mnt", "tmpfs", 0, 0));
	R(at2("mnt", O_RDONLY, 0, RESOLVE_NO_XDEV));
	R(at2("mnt/x", O_RDONLY, 0, RESOLVE_NO_XDEV));
	R(at2("/tmp/o/file", O_RDONLY, 0, RESOLVE_NO_XDEV));
	tell("same device", at2("dir/../file", O_RDONLY, 0, RESOLVE_NO_XDEV));
	MUST(symlink("/tmp/o/file", "mnt/abs"));
	MUST(symlink("x", "mnt/rel"));
	MUST(close(open("mnt/x", O_CREAT | O_WRONLY, 0600)));
	int mnt = open("mnt", O_PATH), proc = open("/proc", O_PATH), p[2];
	MUST(pipe(p));
	R(at2from(mnt, "abs", O_RDONLY, RESOLVE_NO_XDEV));
	R(at2from(mnt, "abs", O_RDONLY, RESOLVE_NO_XDEV | RESOLVE_BENEATH));
	tell("a link inside", at2from(mnt, "rel", O_RDONLY, RESOLVE_NO_XDEV));
	R(at2from(mnt, "/abs", O_RDONLY, RESOLVE_NO_XDEV | RESOLVE_IN_ROOT));
	R(at2from(proc, "self/cwd", O_RDONLY, RESOLVE_NO_XDEV));
	R(at2from(proc, "self/root/tmp", O_RDONLY, RESOLVE_NO_XDEV));
	char name[40];
	snprintf(name, sizeof name, "self/fd/%d", p[0]);
	IS(at2from(proc, name, O_RDONLY, RESOLVE_NO_XDEV) < 0 && errno == EXDEV);
	snprintf(name, sizeof name, "self/fd/%d", proc);
	tell("a magic link inside", at2from(proc, name, O_RDONLY, RESOLVE_NO_XDEV));
	long r = at2("file", O_RDONLY, 0, RESOLVE_CACHED);
	say("cached: %s", r >= 0 ? "yes" : errname(errno));
	R(at2("file", O_RDONLY | O_TRUNC, 0, RESOLVE_CACHED));
}

CASE(close, close, dup, dup2, dup3, close_range)
{
	begin();
	int fd = open("file", O_RDONLY);
	R(close(99));
	R(close(-1));
	R(dup2(fd, fd) == fd);
	R(dup2(99, fd));
	R(dup2(fd, -1));
	R(dup2(fd, 1 << 30));
	R(dup3(fd, fd, 0));
	R(dup3(fd, 50, 1));
	R(dup3(fd, 50, O_CLOEXEC));
	R(fcntl(50, F_GETFD));
	R(dup2(fd, 51));
	R(fcntl(51, F_GETFD));
	R(fcntl(fd, F_DUPFD, 60));
	R(fcntl(fd, F_DUPFD_CLOEXEC, 60));
	R(fcntl(61, F_GETFD));
	R(fcntl(fd, F_DUPFD, -1));
	R(fcntl(fd, F_DUPFD, 1 << 30));
	R(dup(99));
	IS(dup(fd) >= 0);
	R(syscall(SYS_close_range, 60, 50, 0));
	R(syscall(SYS_close_range, 60, 61, 8));
	R(syscall(SYS_close_range, 60, 61, 4));
	R(fcntl(60, F_GETFD));
	R(syscall(SYS_close_range, 50, ~0u, 0));
	R(fcntl(50, F_GETFD));
	R(fcntl(60, F_GETFD));
	R(syscall(SYS_close_range, 50, ~0u, 2));
	R(close(fd));
	R(close(fd));
}

static char again[6][32];

static int link_of(int i, int fd)
{
	snprintf(again[i], sizeof again[i], "/proc/self/fd/%d", fd);
	return fd;
}

static void stranger(void)
{
	tell("a pipe's read end", open(again[0], O_RDONLY | O_NONBLOCK));
	tell("its other end", open(again[0], O_WRONLY | O_NONBLOCK));
	tell("a memfd to read", open(again[2], O_RDONLY));
	tell("a memfd to write", open(again[2], O_RDWR));
	tell("a memfd to cut", open(again[2], O_RDONLY | O_TRUNC));
	tell("a memfd, unseen", open(again[2], O_RDONLY | O_NOATIME));
	tell("a memfd's place", open(again[2], O_RDWR | O_PATH));
	tell("an eventfd", open(again[3], O_RDWR));
	tell("a socket", open(again[4], O_RDWR));
}

CASE(reopened, openat)
{
	begin();
	int p[2], s[2];
	MUST(pipe(p));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	link_of(0, p[0]), link_of(1, p[1]);
	int m = link_of(2, memfd_create("m", MFD_ALLOW_SEALING));
	MUST(write(m, "hello", 5));
	link_of(3, eventfd(0, 0)), link_of(4, s[0]);
	R(fchmod(m, 0444));
	as_user(stranger);
	R(fchown(p[0], 1000, 1000));
	R(fchown(m, 1000, 1000));
	as_user(stranger);
	R(fchmod(m, 0666));
	as_user(stranger);
	MUST(write(m, "hello", 5));
	tell("cut", open(again[2], O_RDWR | O_TRUNC));
	MUST(write(m, "hello", 5));
	tell("direct", open(again[2], O_RDWR | O_DIRECT));
	tell("new", open(again[2], O_RDWR | O_CREAT | O_TRUNC, 0600));
	MUST(write(m, "hello", 5));
	R(fcntl(m, F_ADD_SEALS, F_SEAL_SHRINK));
	tell("sealed", open(again[2], O_RDWR | O_TRUNC));
	tell("sealed, not cut", open(again[2], O_RDWR));
	tell("an eventfd", open(again[3], O_RDWR));
	tell("a socket", open(again[4], O_RDWR));
	tell("a pipe, cut", open(again[1], O_WRONLY | O_TRUNC));
}

CASES
