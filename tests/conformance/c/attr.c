/* stat, statx, access, chmod, chown, utimensat, truncate, xattrs, statfs, umask. */
#include "files.h"
#include <grp.h>
#include <linux/capability.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <utime.h>

static void begin(void)
{
	umask(022);
	mkdir("/tmp/a", 0777);
	if (mount("none", "/tmp/a", "tmpfs", 0, "mode=0777") < 0 || chdir("/tmp/a") < 0)
		say("begin: %s", errname(errno));
	close(open("file", O_CREAT | O_WRONLY, 0644));
	mkdir("dir", 0755);
	if (symlink("file", "link") < 0 || symlink("missing", "dangling") < 0)
		say("symlink: %s", errname(errno));
}

static void mode(const char *path)
{
	struct stat st;
	if (lstat(path, &st) < 0)
		say("  %s: %s", path, errname(errno));
	else
		say("  %s: %o %d:%d", path, st.st_mode, st.st_uid, st.st_gid);
}

CASE(stat, stat, lstat, fstat, newfstatat)
{
	begin();
	struct stat st;
	R(syscall(SYS_stat, "file", &st)), say("%o %d %ld", st.st_mode, (int)st.st_nlink, (long)st.st_size);
	R(syscall(SYS_lstat, "link", &st)), say("%o %ld", st.st_mode, (long)st.st_size);
	R(syscall(SYS_stat, "link", &st)), say("%o", st.st_mode);
	R(syscall(SYS_stat, "dangling", &st));
	R(syscall(SYS_stat, "file/x", &st));
	R(syscall(SYS_stat, "", &st));
	R(syscall(SYS_stat, (char *)8, &st));
	R(syscall(SYS_stat, "file", (void *)8));
	R(syscall(SYS_stat, "missing", (void *)8));
	int fd = open("file", O_RDONLY);
	R(syscall(SYS_fstat, fd, &st)), say("%o", st.st_mode);
	R(syscall(SYS_fstat, 99, &st));
	R(syscall(SYS_fstat, fd, (void *)8));
	R(syscall(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH)), say("%o", st.st_mode);
	R(syscall(SYS_newfstatat, fd, "", &st, 0));
	R(syscall(SYS_newfstatat, AT_FDCWD, "link", &st, AT_SYMLINK_NOFOLLOW)), say("%o", st.st_mode);
	R(syscall(SYS_newfstatat, AT_FDCWD, "link", &st, AT_NO_AUTOMOUNT)), say("%o", st.st_mode);
	R(syscall(SYS_newfstatat, AT_FDCWD, "file", &st, 0x10));
	R(syscall(SYS_newfstatat, 99, "file", &st, 0));
	R(syscall(SYS_newfstatat, 99, "/tmp/a/file", &st, 0));
	struct stat d;
	stat("dir", &d);
	say("directory: links %d blocks %ld blksize %ld", (int)d.st_nlink, (long)d.st_blocks, (long)d.st_blksize);
	fd = open("file", O_RDWR);
	MUST(pwrite(fd, "x", 1, 10000));
	fstat(fd, &st);
	say("sparse: size %ld blocks %ld", (long)st.st_size, (long)st.st_blocks);
	int p[2];
	MUST(pipe(p));
	fstat(p[0], &st);
	say("pipe: %o links %d size %ld", st.st_mode, (int)st.st_nlink, (long)st.st_size);
}

CASE(statx, statx)
{
	begin();
	struct statx x;
	R(statx(AT_FDCWD, "file", 0, STATX_BASIC_STATS, &x)), say("mask %#x mode %o links %d", x.stx_mask & STATX_BASIC_STATS, x.stx_mode, x.stx_nlink);
	R(statx(AT_FDCWD, "file", 0, 0, &x));
	R(statx(AT_FDCWD, "file", 0, STATX_BTIME, &x)), IS(x.stx_mask & STATX_BTIME);
	R(statx(AT_FDCWD, "link", AT_SYMLINK_NOFOLLOW, STATX_TYPE, &x)), say("%o", x.stx_mode);
	R(statx(open("file", O_RDONLY), "", AT_EMPTY_PATH, STATX_SIZE, &x)), say("%lld", (long long)x.stx_size);
	R(statx(AT_FDCWD, "file", AT_STATX_FORCE_SYNC, 0, &x));
	R(statx(AT_FDCWD, "file", AT_STATX_DONT_SYNC, 0, &x));
	R(statx(AT_FDCWD, "file", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, 0, &x));
	R(statx(AT_FDCWD, "file", 0x10, 0, &x));
	R(statx(AT_FDCWD, "file", 0, STATX__RESERVED, &x));
	R(statx(AT_FDCWD, "missing", 0, 0, &x));
	R(statx(99, "file", 0, 0, &x));
	R(statx(AT_FDCWD, "file", 0, 0, (void *)8));
	R(statx(AT_FDCWD, 0, 0, 0, &x));
}

static void denied(void)
{
	R(access("ro", R_OK)), R(access("ro", W_OK)), R(access("ro", X_OK));
	R(access("wo", R_OK)), R(access("wo", W_OK));
	R(access("xo", X_OK)), R(access("locked/x", F_OK)), R(access("locked", F_OK));
	R(chmod("file", 0777)), R(chown("file", 1000, -1)), R(truncate("ro", 0)), R(truncate("wo", 0));
	struct timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}}, set[2] = {{1, 0}, {1, 0}};
	R(utimensat(AT_FDCWD, "ro", now, 0)), R(utimensat(AT_FDCWD, "wo", now, 0));
	R(utimensat(AT_FDCWD, "ro", set, 0)), R(utimensat(AT_FDCWD, "wo", set, 0));
	R(utimensat(AT_FDCWD, "wo", 0, 0));
	close(open("mine", O_CREAT | O_WRONLY, 0600));
	R(chmod("mine", 06777)), mode("mine");
	R(chown("mine", -1, 1000)), mode("mine");
	R(chown("mine", -1, 0));
	R(chown("mine", 0, -1));
	R(chown("mine", 1000, 1000));
}

CASE(permissions, access, chmod, chown, utimensat)
{
	begin();
	umask(0);
	close(open("ro", O_CREAT, 0604)), close(open("wo", O_CREAT, 0602)), close(open("xo", O_CREAT, 0601));
	mkdir("locked", 0700), close(open("locked/x", O_CREAT, 0666));
	as_user(denied);
}

CASE(access, access, faccessat, faccessat2)
{
	begin();
	R(access("file", F_OK)), R(access("file", R_OK | W_OK)), R(access("file", X_OK)), R(access("dir", X_OK));
	R(access("file", 8)), R(access("missing", F_OK)), R(access("dangling", F_OK)), R(access((char *)8, F_OK));
	R(access("file/x", F_OK));
	R(syscall(SYS_faccessat, AT_FDCWD, "link", R_OK));
	R(syscall(SYS_faccessat, 99, "file", R_OK));
	R(syscall(SYS_faccessat2, AT_FDCWD, "dangling", F_OK, AT_SYMLINK_NOFOLLOW));
	R(syscall(SYS_faccessat2, AT_FDCWD, "file", F_OK, AT_EACCESS));
	R(syscall(SYS_faccessat2, open("file", O_RDONLY), "", R_OK, AT_EMPTY_PATH));
	R(syscall(SYS_faccessat2, AT_FDCWD, "file", F_OK, 0x10));
	chmod("file", 0600);
	MUST(setreuid(1000, 0));
	R(access("file", R_OK));
	R(syscall(SYS_faccessat2, AT_FDCWD, "file", R_OK, AT_EACCESS));
}

CASE(chmod, chmod, fchmod, fchmodat)
{
	begin();
	R(chmod("file", 07777)), mode("file");
	R(chmod("file", 0170644)), mode("file");
	R(chmod("link", 0600)), mode("file"), mode("link");
	R(chmod("dir", 01777)), mode("dir");
	R(chmod("missing", 0600)), R(chmod("dangling", 0600)), R(chmod((char *)8, 0600));
	int fd = open("file", O_RDONLY);
	R(fchmod(fd, 0400)), mode("file");
	R(fchmod(99, 0400));
	R(syscall(SYS_fchmodat, AT_FDCWD, "file", 0640)), mode("file");
	R(syscall(SYS_fchmodat, 99, "file", 0640));
	int p[2];
	MUST(pipe(p));
	R(fchmod(p[0], 0666));
}

CASE(chown, chown, fchown, lchown, fchownat)
{
	begin();
	R(chmod("file", 06755));
	R(chown("file", 5, 6)), mode("file");
	R(chmod("file", 06755)), R(chown("file", -1, -1)), mode("file");
	R(chmod("file", 02644)), R(chown("file", 7, -1)), mode("file");
	R(lchown("link", 8, 9)), mode("link"), mode("file");
	R(chown("link", 10, 11)), mode("link"), mode("file");
	R(fchown(open("file", O_RDONLY), 1, 2)), mode("file");
	R(fchown(99, 1, 2)), R(chown("missing", 1, 2)), R(chown((char *)8, 1, 2));
	R(fchownat(AT_FDCWD, "link", 3, 4, AT_SYMLINK_NOFOLLOW)), mode("link");
	R(fchownat(open("file", O_RDONLY), "", 5, 5, AT_EMPTY_PATH)), mode("file");
	R(fchownat(AT_FDCWD, "file", 5, 5, 0x10)), R(fchownat(99, "file", 5, 5, 0));
	chmod("dir", 06777);
	R(chown("dir", 5, 5)), mode("dir");
}

static void times(const char *what, const char *path)
{
	struct stat st;
	time_t now = time(0);
	if (lstat(path, &st) < 0)
		say("%s: %s", what, errname(errno));
	else
		say("%s: atime %s%ld.%09ld mtime %s%ld.%09ld", what, labs(st.st_atime - now) < 100 ? "now " : "", labs(st.st_atime - now) < 100 ? 0 : st.st_atime,
		    labs(st.st_atime - now) < 100 ? 0 : st.st_atim.tv_nsec, labs(st.st_mtime - now) < 100 ? "now " : "",
		    labs(st.st_mtime - now) < 100 ? 0 : st.st_mtime, labs(st.st_mtime - now) < 100 ? 0 : st.st_mtim.tv_nsec);
}

CASE(times, utimensat, utimes, utime, futimesat)
{
	begin();
	struct timespec a[2] = {{1, 5}, {2, 6}}, b[2] = {{0, UTIME_OMIT}, {7, 0}}, c[2] = {{9, 9}, {0, UTIME_NOW}}, o[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}},
			bad[2] = {{1, 1000000000}, {1, 0}}, neg[2] = {{-5, 0}, {1, -1}};
	R(utimensat(AT_FDCWD, "file", a, 0)), times("set", "file");
	R(utimensat(AT_FDCWD, "file", b, 0)), times("mtime", "file");
	R(utimensat(AT_FDCWD, "file", c, 0)), times("now", "file");
	R(utimensat(AT_FDCWD, "file", a, 0)), R(utimensat(AT_FDCWD, "file", o, 0)), times("omitted", "file");
	R(utimensat(AT_FDCWD, "file", 0, 0)), times("null", "file");
	R(utimensat(AT_FDCWD, "link", a, AT_SYMLINK_NOFOLLOW)), times("link", "link"), times("not the file", "file");
	R(utimensat(AT_FDCWD, "file", bad, 0)), R(utimensat(AT_FDCWD, "file", neg, 0)), R(utimensat(AT_FDCWD, "file", a, 0x10));
	R(utimensat(AT_FDCWD, "missing", a, 0)), R(utimensat(AT_FDCWD, "missing", o, 0)), R(utimensat(99, "file", a, 0));
	R(syscall(SYS_utimensat, AT_FDCWD, "file", (void *)8, 0));
	R(syscall(SYS_utimensat, open("file", O_RDONLY), 0, a, 0)), times("by descriptor", "file");
	R(syscall(SYS_utimensat, 99, 0, a, 0));
	struct timeval v[2] = {{3, 4}, {5, 6}}, vbad[2] = {{3, 1000000}, {5, 6}};
	R(syscall(SYS_utimes, "file", v)), times("utimes", "file");
	R(syscall(SYS_utimes, "file", vbad)), R(syscall(SYS_utimes, "file", 0)), times("utimes null", "file");
	R(syscall(SYS_futimesat, AT_FDCWD, "file", v)), times("futimesat", "file");
	struct utimbuf u = {11, 12};
	R(syscall(SYS_utime, "file", &u)), times("utime", "file");
	R(syscall(SYS_utime, "file", 0)), R(syscall(SYS_utime, "missing", &u)), R(syscall(SYS_utime, "file", (void *)8));
	struct timespec early[2] = {{1l << 33, 0}, {-1, 0}};
	R(utimensat(AT_FDCWD, "file", early, 0)), times("before 1970", "file");
}

CASE(truncate, truncate, ftruncate)
{
	begin();
	struct stat st;
	int fd = open("file", O_RDWR);
	MUST(write(fd, "0123456789", 10));
	char b[32] = "";
	R(truncate("file", 4)), R(ftruncate(fd, 8)), R(pread(fd, b, 32, 0)), say("%.4s %d%d%d%d", b, b[4], b[5], b[6], b[7]);
	R(truncate("link", 2)), fstat(fd, &st), say("%ld", (long)st.st_size);
	R(truncate("dir", 0)), R(truncate("missing", 0)), R(truncate("file", -1)), R(truncate((char *)8, 0));
	R(ftruncate(fd, -1)), R(ftruncate(99, 0)), R(ftruncate(open("file", O_RDONLY), 0)), R(ftruncate(open("dir", O_RDONLY), 0));
	int p[2];
	MUST(pipe(p));
	R(ftruncate(p[1], 0));
	R(truncate("/dev/null", 0));
	R(ftruncate(fd, 1l << 40)), fstat(fd, &st), say("%ld blocks %ld", (long)st.st_size, (long)st.st_blocks);
	chmod("file", 06755);
	R(truncate("file", 0)), mode("file");
	struct rlimit l = {1000, 1000};
	setrlimit(RLIMIT_FSIZE, &l);
	signal(SIGXFSZ, SIG_IGN);
	R(truncate("file", 1001)), R(ftruncate(fd, 1000)), R(pwrite(fd, "ab", 2, 999)), R(pwrite(fd, "ab", 2, 1000));
	fstat(fd, &st), say("%ld", (long)st.st_size);
}

CASE(xattr, setxattr, getxattr, listxattr, removexattr, fsetxattr, fgetxattr, flistxattr, fremovexattr)
{
	begin();
	char b[256];
	R(setxattr("file", "trusted.a", "value", 5, 0));
	R(getxattr("file", "trusted.a", b, 256)), say("%.5s", b);
	R(getxattr("file", "trusted.a", 0, 0)), R(getxattr("file", "trusted.a", b, 3)), R(getxattr("file", "trusted.none", b, 256));
	R(setxattr("file", "trusted.a", "new", 3, XATTR_CREATE)), R(setxattr("file", "trusted.b", "new", 3, XATTR_REPLACE));
	R(setxattr("file", "trusted.a", "new", 3, XATTR_REPLACE)), R(setxattr("file", "trusted.e", "", 0, 0)), R(getxattr("file", "trusted.e", b, 256));
	R(setxattr("file", "trusted.a", "x", 1, 4)), R(setxattr("file", "nospace.a", "x", 1, 0)), R(setxattr("file", "trusted.", "x", 1, 0));
	R(setxattr("file", "", "x", 1, 0)), R(setxattr("missing", "trusted.a", "x", 1, 0)), R(setxattr("file", "trusted.a", b, 70000, 0));
	R(setxattr("file", (char *)8, "x", 1, 0)), R(setxattr("file", "trusted.a", (char *)8, 1, 0));
	int n = listxattr("file", b, 256);
	say("list %d", n);
	R(listxattr("file", b, 3)), R(listxattr("file", 0, 0) == n);
	R(removexattr("file", "trusted.a")), R(removexattr("file", "trusted.a")), R(getxattr("file", "trusted.a", b, 256));
	int fd = open("file", O_RDONLY);
	R(fsetxattr(fd, "trusted.f", "f", 1, 0)), R(fgetxattr(fd, "trusted.f", b, 256)), R(flistxattr(fd, b, 256) > 0), R(fremovexattr(fd, "trusted.f"));
	R(fsetxattr(99, "trusted.f", "f", 1, 0));
	R(setxattr("link", "trusted.l", "x", 1, 0)), R(getxattr("file", "trusted.l", b, 256)), R(lgetxattr("link", "trusted.l", b, 256));
	R(lsetxattr("link", "trusted.own", "y", 1, 0)), R(lgetxattr("link", "trusted.own", b, 256));
	R(setxattr("file", "security.x", "s", 1, 0)), R(getxattr("file", "security.x", b, 256));
	char name[300] = "trusted.";
	memset(name + 8, 'n', 260);
	R(setxattr("file", name, "x", 1, 0));
}

CASE(statfs, statfs, fstatfs)
{
	begin();
	struct statfs s;
	R(statfs("/tmp/a", &s)), say("type %#lx bsize %ld namelen %ld", (long)s.f_type, (long)s.f_bsize, (long)s.f_namelen);
	R(statfs("/proc", &s)), say("type %#lx", (long)s.f_type);
	R(statfs("/sys", &s)), say("type %#lx", (long)s.f_type);
	R(fstatfs(open("file", O_RDONLY), &s)), say("type %#lx", (long)s.f_type);
	R(statfs("missing", &s)), R(fstatfs(99, &s)), R(statfs("/tmp/a", (void *)8)), R(statfs("", &s));
	mkdir("m", 0755);
	MUST(mount("none", "m", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=64k,nr_inodes=10"));
	statfs("m", &s);
	say("blocks %ld free %ld files %ld flags %#lx", (long)s.f_blocks, (long)s.f_bfree, (long)s.f_files, (long)s.f_flags);
	int p[2];
	MUST(pipe(p));
	R(fstatfs(p[0], &s)), say("type %#lx", (long)s.f_type);
}

CASE(umask, umask)
{
	begin();
	say("%o", umask(077)), say("%o", umask(0170123)), say("%o", umask(0));
	umask(027);
	close(open("u", O_CREAT, 0777)), mode("u");
	mkdir("ud", 0777), mode("ud");
	mknod("uf", S_IFIFO | 0777, 0), mode("uf");
	if (fork() == 0) {
		say("inherited %o", umask(0));
		_exit(0);
	}
	wait(0);
	say("%o", umask(0));
}

static void writes(void)
{
	int fd = open("suid", O_WRONLY);
	mode("suid");
	R(write(fd, "", 0)), mode("suid");
	R(write(fd, "x", 1)), mode("suid");
	fd = open("suid2", O_WRONLY | O_TRUNC);
	mode("suid2");
}

CASE(write_strips, write)
{
	begin();
	umask(0);
	close(open("suid", O_CREAT, 0666)), close(open("suid2", O_CREAT, 0666));
	chmod("suid", 06777), chmod("suid2", 06777);
	int fd = open("suid", O_WRONLY);
	R(write(fd, "root", 4)), mode("suid");
	as_user(writes);
}

static void follows(void)
{
	R(access("t/rl", F_OK)), R(access("t/ml", F_OK)), R(access("t/sub/ol", F_OK)), R(open("t/ol", O_RDONLY));
	R(access("t/ol/x", F_OK)), R(open("t/ol", O_RDONLY | O_NOFOLLOW)), R(open("t/ol", O_CREAT | O_WRONLY, 0600));
	char b[16];
	R(readlink("t/ol", b, 16));
}

CASE(sticky_links, openat, access)
{
	begin();
	umask(0);
	mkdir("t", 01777), mkdir("t/sub", 0777);
	symlink("/tmp/a/file", "t/rl"), symlink("/tmp/a/file", "t/ml"), symlink("/tmp/a/file", "t/ol"), symlink("/tmp/a/file", "t/sub/ol");
	lchown("t/ml", 1000, 1000), lchown("t/ol", 2000, 2000), lchown("t/sub/ol", 2000, 2000);
	R(open("t/ol", O_RDONLY));
	as_user(follows);
}

CASE(full, write, ftruncate)
{
	begin();
	mkdir("m", 0755);
	MUST(mount("none", "m", "tmpfs", 0, "size=64k,nr_inodes=4"));
	MUST(chdir("m"));
	static char b[65536];
	int fd = open("f", O_CREAT | O_RDWR, 0600);
	R(write(fd, b, 65536)), R(write(fd, b, 1));
	R(pwrite(fd, b, 8192, 61440));
	R(ftruncate(fd, 1 << 20)), R(pwrite(fd, b, 1, 100000));
	R(ftruncate(fd, 4096)), R(write(fd, b, 100));
	OK(open("g", O_CREAT, 0600)), OK(open("h", O_CREAT, 0600)), R(open("i", O_CREAT, 0600)), R(mkdir("j", 0700)), R(symlink("a", "k"));
	unlink("h");
	OK(open("i", O_CREAT, 0600));
}

static void *sleeper(void *pipe)
{
	char c;
	read(*(int *)pipe, &c, 1);
	return 0;
}

/* A process learns from the links of /proc/self/task how many threads it has. */
CASE(task_links, newfstatat)
{
	struct stat st;
	int d = open("/proc", O_RDONLY | O_DIRECTORY), p[2];
	long all;
	MUST(pipe(p));
	pthread_t t[3];
	OK(fstatat(d, "self/task/", &st, 0));
	R((int)st.st_nlink);
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], 0, sleeper, &p[0]);
	OK(stat("/proc/self/task", &st));
	R((int)st.st_nlink);
	write(p[1], "xxx", 3);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], 0);
	for (int i = 0; i < 1000 && (stat("/proc/self/task", &st), st.st_nlink != 3); i++)
		usleep(1000);
	R((int)st.st_nlink);
	pid_t c;
	for (int i = 0; i < 20; i++) { /* what others leave behind may end meanwhile */
		MUST(stat("/proc", &st));
		all = st.st_nlink;
		if (!(c = fork())) {
			pause();
			_exit(0);
		}
		MUST(stat("/proc", &st));
		if ((all = st.st_nlink - all) == 1)
			break;
		kill(c, 9);
		waitpid(c, 0, 0);
	}
	say("one process more: %ld", all);
	kill(c, 9);
	waitid(P_PID, c, 0, WEXITED | WNOWAIT);
	char n[40];
	sprintf(n, "/proc/%d/task", c);
	OK(stat(n, &st));
	R((int)st.st_nlink);
	waitpid(c, 0, 0);
	OK(stat("/proc/self", &st));
	R((int)st.st_nlink > 2);
	OK(stat("/proc/self/fd", &st));
	R((int)st.st_nlink);
}

/* setgids makes one of each kind in a directory whose group is handed down. */
static void setgids(const char *who)
{
	struct stat st;
	say("%s:", who);
	close(open("g/file", O_CREAT | O_EXCL | O_RDWR, 02777)), mode("g/file");
	close(open("g/noexec", O_CREAT | O_EXCL | O_RDWR, 02766)), mode("g/noexec");
	close(open("g/both", O_CREAT | O_EXCL | O_RDWR, 06711)), mode("g/both");
	mknod("g/node", S_IFREG | 02755, 0), mode("g/node");
	mknod("g/fifo", S_IFIFO | 02777, 0), mode("g/fifo");
	mkdir("g/dir", 0755), mode("g/dir");
	int fd = open("g", O_TMPFILE | O_RDWR, 02775);
	if (fstat(fd, &st) == 0)
		say("  tmpfile: %o %d:%d", st.st_mode, st.st_uid, st.st_gid);
	close(fd);
	umask(0777); /* which comes later */
	close(open("g/masked", O_CREAT | O_EXCL | O_RDWR, 02777)), mode("g/masked");
	umask(0);
	close(open("d/own", O_CREAT | O_EXCL | O_RDWR, 02777)), mode("d/own");
	for (const char *f[] = { "file", "noexec", "both", "node", "fifo", "masked" }, **n = f; n < f + 6; n++) {
		char b[20];
		snprintf(b, sizeof b, "g/%s", *n);
		unlink(b);
	}
	rmdir("g/dir"), unlink("d/own");
}

static void stranger(void)
{
	setgids("not of the group");
}

static void member(void)
{
	MUST(setgroups(1, (gid_t[]){ 50 }));
	MUST(setgid(1000));
	MUST(setuid(1000));
	setgids("of the group");
}

/* Nobody makes himself a set-gid program of a group that he is not in. */
CASE(setgid_dir, openat, mknodat, mkdir)
{
	begin();
	umask(0);
	mkdir("d", 0777), mkdir("g", 0777);
	MUST(chown("g", 0, 50));
	MUST(chmod("g", 02777));
	setgids("root");
	as_user(stranger);
	in_child(member);
}

#define OF_ALL (0x1000 | 0x2000 | 0x200000) /* automount, mount's root, DAX */

static void place(const char *what, int fd, const char *path, int flags)
{
	struct statx x;
	memset(&x, 0, sizeof x);
	if (statx(fd, path, flags, STATX_MNT_ID, &x) < 0)
		say("%s: %s", what, errname(errno));
	else
		say("%s: mount's id %s, attributes %#llx of %#llx", what, x.stx_mask & STATX_MNT_ID ? "known" : "unknown",
			(long long)x.stx_attributes & OF_ALL, (long long)x.stx_attributes_mask & OF_ALL);
}

CASE(statx_place, statx)
{
	begin();
	struct statx a, b;
	int fd = open("file", O_RDONLY), dir = open(".", O_PATH);
	place("a file", AT_FDCWD, "file", 0);
	place("its descriptor", fd, "", AT_EMPTY_PATH);
	place("a directory", AT_FDCWD, "dir", 0);
	place("a mount's root", AT_FDCWD, ".", 0);
	place("its descriptor", dir, "", AT_EMPTY_PATH);
	place("from below", AT_FDCWD, "dir/..", 0);
	place("the working directory", AT_FDCWD, "", AT_EMPTY_PATH);
	place("a link", AT_FDCWD, "link", AT_SYMLINK_NOFOLLOW);
	MUST(mount("file", "file", 0, MS_BIND, 0));
	place("a bound file", AT_FDCWD, "file", 0);
	place("what it covers", fd, "", AT_EMPTY_PATH);
	R(statx(AT_FDCWD, "file", 0, STATX_MNT_ID, &a));
	R(statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &b));
	IS(a.stx_mnt_id != b.stx_mnt_id);
	R(statx(dir, "", AT_EMPTY_PATH, STATX_MNT_ID, &a));
	IS(a.stx_mnt_id == b.stx_mnt_id);
}

/* with leaves the caller one effective capability. */
static void with(int cap)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2];
	MUST(syscall(SYS_capget, &h, d));
	d[0].effective = d[1].effective = 0;
	d[cap / 32].effective = 1u << cap % 32;
	MUST(syscall(SYS_capset, &h, d));
}

static const unsigned file_caps[5] = {0x02000001, 1 << CAP_NET_RAW};

static void with_setfcap(void)
{
	with(CAP_SETFCAP);
	R(setxattr("file", "security.capability", file_caps, 20, 0));
	R(setxattr("file", "security.capability", file_caps, 19, 0));
	R(removexattr("file", "security.capability"));
	R(removexattr("file", "security.capability"));
	R(setxattr("file", "security.capability", file_caps, 20, 0));
}

static void with_sys_admin(void)
{
	with(CAP_SYS_ADMIN);
	R(setxattr("file", "security.capability", file_caps, 20, 0));
	R(setxattr("file", "security.capability", file_caps, 19, 0));
}

CASE(xattr_caps, setxattr, removexattr)
{
	begin();
	in_child(with_setfcap);
	in_child(with_sys_admin);
	R(getxattr("file", "security.capability", 0, 0));
}

static void marks(void)
{
	R(setxattr("sticky", "user.x", "x", 1, 0));
	R(removexattr("sticky", "user.x"));
	R(setxattr("own", "user.x", "x", 1, 0));
}

CASE(xattr_sticky, setxattr, removexattr)
{
	begin();
	mkdir("sticky", 0755), mkdir("own", 0755);
	MUST(chmod("sticky", 01777));
	MUST(chmod("own", 01777));
	MUST(chown("own", 1000, 1000));
	as_user(marks);
	R(setxattr("sticky", "user.x", "x", 1, 0));
}

CASES
