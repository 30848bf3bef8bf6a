/* Descriptors of what has no name where a path is wanted, and requests about files that are for
 * every file system (fs/ioctl.c). */
#define _GNU_SOURCE
#include "files.h"
#include <linux/fs.h>
#include <mqueue.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/timerfd.h>
#include <sys/vfs.h>

static void begin(void)
{
	umask(022);
	mkdir("/tmp/n", 0777);
	if (mount("none", "/tmp/n", "tmpfs", 0, "mode=0777") < 0 || chdir("/tmp/n") < 0)
		say("begin: %s", errname(errno));
}

/* AT_EMPTY_PATH of a pipe. */
CASE(empty, fchownat, utimensat, faccessat2, linkat)
{
	begin();
	int p[2];
	struct stat st;
	struct timespec t[2] = {{5, 0}, {6, 0}};
	MUST(pipe(p));
	R(fchownat(p[0], "", 1000, 1000, AT_EMPTY_PATH));
	fstat(p[0], &st), say("%d:%d", st.st_uid, st.st_gid);
	R(fchownat(p[0], "", 1000, 1000, 0));
	R(fchownat(p[0], "x", 1000, 1000, AT_EMPTY_PATH));
	R(syscall(SYS_utimensat, p[0], "", t, AT_EMPTY_PATH));
	R(syscall(SYS_utimensat, p[0], NULL, t, 0));
	R(syscall(SYS_utimensat, p[0], NULL, t, AT_EMPTY_PATH));
	R(syscall(SYS_utimensat, 99, NULL, t, AT_SYMLINK_NOFOLLOW));
	R(syscall(SYS_faccessat2, p[0], "", R_OK, AT_EMPTY_PATH));
	R(syscall(SYS_faccessat2, p[0], "", X_OK, AT_EMPTY_PATH));
	R(linkat(p[0], "", AT_FDCWD, "x", AT_EMPTY_PATH));
	char path[40];
	snprintf(path, sizeof path, "/proc/self/fd/%d", p[1]);
	R(access(path, W_OK));
	R(linkat(AT_FDCWD, path, AT_FDCWD, "x", AT_SYMLINK_FOLLOW));
	R(mkdirat(p[0], "x", 0755));
}

CASE(handles, name_to_handle_at, open_tree)
{
	begin();
	int p[2], id;
	struct { unsigned bytes; int type; char f[128]; } h = {128};
	MUST(pipe(p));
	R(syscall(SYS_name_to_handle_at, p[0], "", &h, &id, AT_EMPTY_PATH));
	R(syscall(SYS_name_to_handle_at, p[0], "", &h, &id, 0));
	int fd = syscall(SYS_open_tree, p[0], "", AT_EMPTY_PATH);
	say("open_tree %d", fd >= 0);
	char c;
	R(read(fd, &c, 1));
	struct stat a, b;
	say("same %d", fstat(fd, &a) == 0 && fstat(p[0], &b) == 0 && a.st_ino == b.st_ino);
	struct timespec t[2] = {{5, 0}, {6, 0}};
	R(syscall(SYS_utimensat, fd, "", t, AT_EMPTY_PATH));
	R(fchownat(fd, "", 1000, 1000, AT_EMPTY_PATH));
	fstat(p[0], &b), say("%d %d", b.st_uid, b.st_gid);
	R(fchown(fd, 0, 0));
	R(futimens(fd, t));
	R(fchmod(fd, 0600));
}

CASE(statx, statx)
{
	begin();
	int p[2], f = open("f", O_CREAT | O_RDWR, 0644), m = memfd_create("m", 0), e = eventfd(0, 0);
	MUST(pipe(p));
	int fds[] = {p[0], f, m, e, socket(AF_UNIX, SOCK_STREAM, 0)};
	for (unsigned i = 0; i < sizeof fds / sizeof *fds; i++)
		for (unsigned mask = 0; mask <= STATX_BTIME; mask += STATX_BTIME) {
			struct statx x = {0};
			R(statx(fds[i], "", AT_EMPTY_PATH, mask, &x));
			say("  mask %x", x.stx_mask);
		}
}

CASE(statfs, fstatfs)
{
	begin();
	int p[2];
	MUST(pipe(p));
	struct mq_attr at = {.mq_maxmsg = 2, .mq_msgsize = 8};
	int fds[] = {p[0], open("f", O_CREAT | O_RDWR, 0644), memfd_create("m", 0), eventfd(0, 0), socket(AF_UNIX, SOCK_STREAM, 0), mq_open("/nameless", O_CREAT | O_RDWR, 0600, &at)};
	for (unsigned i = 0; i < sizeof fds / sizeof *fds; i++) {
		struct statfs s;
		R(fstatfs(fds[i], &s));
		say("  %lx", (long)s.f_type);
	}
	R(lseek(fds[5], -1, SEEK_DATA));
	R(lseek(fds[5], 1000, SEEK_DATA));
	mq_unlink("/nameless");
}

/* TFD_IOC_SET_TICKS. */
CASE(ticks, ioctl)
{
	int t = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	unsigned long n = 7;
	R(ioctl(t, _IOW('T', 0, unsigned long), &n));
	n = 0;
	R(read(t, &n, 8)), say("%lu", n);
	n = 0;
	R(ioctl(t, _IOW('T', 0, unsigned long), &n));
	R(ioctl(t, _IOW('T', 0, unsigned long), 8));
	R(ioctl(t, _IOW('T', 1, unsigned long), &n));
}

/* chattr(1) on a tmpfs. */
CASE(flags, ioctl)
{
	begin();
	int v = 0, f = open("f", O_CREAT | O_RDWR, 0644), d = open(".", O_RDONLY), m = memfd_create("m", 0), p[2];
	struct fsxattr x;
	MUST(pipe(p));
	R(ioctl(f, FS_IOC_GETFLAGS, &v)), say("%x", v);
	v = FS_NODUMP_FL;
	R(ioctl(f, FS_IOC_SETFLAGS, &v));
	v = 0;
	R(ioctl(f, FS_IOC_GETFLAGS, &v)), say("%x", v);
	R(ioctl(f, FS_IOC_FSGETXATTR, &x)), say("%x", x.fsx_xflags);
	v = FS_COMPR_FL;
	R(ioctl(f, FS_IOC_SETFLAGS, &v));
	x.fsx_xflags = FS_XFLAG_NOATIME;
	R(ioctl(f, FS_IOC_FSSETXATTR, &x));
	R(ioctl(f, FS_IOC_GETFLAGS, &v)), say("%x", v);
	x.fsx_projid = 1;
	R(ioctl(f, FS_IOC_FSSETXATTR, &x));
	v = FS_NODUMP_FL;
	R(ioctl(d, FS_IOC_SETFLAGS, &v));
	int in = open("in", O_CREAT | O_RDWR, 0644);
	R(ioctl(in, FS_IOC_GETFLAGS, &v)), say("inherited %x", v);
	R(ioctl(m, FS_IOC_GETFLAGS, &v)), say("%x", v);
	R(ioctl(p[0], FS_IOC_GETFLAGS, &v));
	R(ioctl(p[0], FS_IOC_SETFLAGS, 8));
	R(ioctl(p[0], FS_IOC_SETFLAGS, &v));
	R(ioctl(f, FS_IOC_SETFLAGS, 8));
	MUST(setresuid(1000, 1000, 1000));
	v = 0;
	R(ioctl(f, FS_IOC_SETFLAGS, &v));
	int own = open("own", O_CREAT | O_RDWR, 0644);
	v = FS_IMMUTABLE_FL;
	R(ioctl(own, FS_IOC_SETFLAGS, &v));
	v = FS_NOATIME_FL;
	R(ioctl(own, FS_IOC_SETFLAGS, &v));
}

/* FICLONE and its kin, and where blocks are, on a file system that shares none. */
CASE(sharing, ioctl)
{
	begin();
	int a = open("a", O_CREAT | O_RDWR, 0644), b = open("b", O_CREAT | O_RDWR, 0644), r = open("a", O_RDONLY), d = open(".", O_RDONLY), p[2], z = open("/dev/zero", O_RDONLY);
	MUST(pipe(p));
	R(ioctl(a, FICLONE, b));
	R(ioctl(a, FICLONE, 99));
	R(ioctl(r, FICLONE, b));
	R(ioctl(d, FICLONE, b));
	R(ioctl(a, FICLONE, d));
	R(ioctl(a, FICLONE, z));
	R(ioctl(a, FICLONE, p[0]));
	struct file_clone_range c = {.src_fd = b};
	R(ioctl(a, FICLONERANGE, &c));
	R(ioctl(a, FICLONERANGE, 8));
	struct { struct file_dedupe_range r; struct file_dedupe_range_info i; } dd = {.r = {.src_length = 10, .dest_count = 1}, .i = {.dest_fd = b}};
	R(ioctl(a, FIDEDUPERANGE, &dd));
	R(ioctl(d, FIDEDUPERANGE, &dd));
	R(ioctl(p[0], FIDEDUPERANGE, &dd));
	dd.r.reserved1 = 1;
	R(ioctl(a, FIDEDUPERANGE, &dd));
	dd.r.reserved1 = 0, dd.r.dest_count = 1000;
	R(ioctl(a, FIDEDUPERANGE, &dd));
	R(ioctl(a, FIDEDUPERANGE, 8));
	char fm[64] = {0};
	R(ioctl(a, 0xc020660b, fm));
	R(ioctl(p[0], 0xc020660b, fm));
}

/* FS_IOC_RESVSP and its kin. */
CASE(reserve, ioctl)
{
	begin();
	struct { short type, whence; long start, len; int sysid; unsigned pid; int pad[4]; } s = {0, SEEK_SET, 0, 8192};
	int f = open("f", O_CREAT | O_RDWR, 0644), r = open("f", O_RDONLY), d = open(".", O_RDONLY);
	struct stat st;
	R(ioctl(f, _IOW('X', 40, char[48]), &s));
	fstat(f, &st), say("%ld %ld", (long)st.st_size, (long)st.st_blocks);
	R(ioctl(f, _IOW('X', 43, char[48]), &s));
	fstat(f, &st), say("%ld %ld", (long)st.st_size, (long)st.st_blocks);
	R(ioctl(f, _IOW('X', 57, char[48]), &s));
	R(ioctl(r, _IOW('X', 42, char[48]), &s));
	R(ioctl(d, _IOW('X', 42, char[48]), &s));
	s.whence = 9;
	R(ioctl(f, _IOW('X', 42, char[48]), &s));
	R(ioctl(f, _IOW('X', 42, char[48]), 8));
	s.whence = SEEK_CUR, s.start = -1;
	R(ioctl(f, _IOW('X', 42, char[48]), &s));
}

/* A descriptor of access mode 3. */
CASE(mode3, flock)
{
	begin();
	close(open("f", O_CREAT | O_RDWR, 0755));
	int f = open("f", 3);
	char c;
	R(read(f, &c, 1));
	R(write(f, &c, 1));
	R(flock(f, LOCK_SH));
	R(flock(f, LOCK_UN));
	char *none[] = {NULL};
	R(syscall(SYS_execveat, f, "", none, none, AT_EMPTY_PATH));
}

CASES
