/* mount, umount2 and pivot_root: errors in order, busy mounts, bind, move, remount, flags
 * that take effect, propagation, /proc/self/mounts and mountinfo. */
#include "files.h"
#include <sys/statvfs.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <sys/mman.h>

static int mountedat(const char *dir)
{
	struct stat a, b;
	char up[200];
	sprintf(up, "%s/..", dir);
	return lstat(dir, &a) == 0 && lstat(up, &b) == 0 && a.st_dev != b.st_dev;
}

/* begin is a private tmpfs with some directories and files. */
static void begin(void)
{
	fresh("/tmp/mt");
	for (const char *d = "abcd"; *d; d++)
		mkdir((char[]){*d, 0}, 0755);
	close(made("file", "content"));
}

static int order(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }

/* shown prints the lines of mountinfo below /tmp/mt, without numbers. */
static void shown(const char *what)
{
	FILE *f = fopen("/proc/self/mountinfo", "r");
	char line[1000], root[200], at[200], rest[500], *lines[50];
	int n = 0;
	say("%s:", what);
	while (f && fgets(line, sizeof line, f)) {
		if (sscanf(line, "%*d %*d %*d:%*d %199s %199s %499[^\n]", root, at, rest) == 3 && !strncmp(at, "/tmp/mt/", 8)) {
			for (char *p = rest; *p; p++) /* group numbers differ */
				if (*p == ':')
					for (char *q = p + 1; *q >= '0' && *q <= '9'; q++)
						*q = 'N';
			if (n < 50)
				asprintf(&lines[n++], "  %s %s %s", at + 7, root, rest);
		}
	}
	qsort(lines, n, sizeof *lines, order); /* copies come in an order of their own */
	for (int i = 0; i < n; i++)
		say("%s", lines[i]);
	if (f)
		fclose(f);
}

static void nobody(void)
{
	R(mount("none", "/tmp/mt", "tmpfs", 0, 0));
	R(mount("none", "/missing", "tmpfs", 0, 0));
	R(mount("none", "/tmp/mt", "nosuchfs", 0, 0));
	R(umount2("/tmp/mt", 0));
	R(umount2("/missing", 0));
	R(umount2("/tmp/mt", 64));
	R(syscall(SYS_pivot_root, "/missing", "/missing"));
}

CASE(errors, mount)
{
	begin();
	R(mount("none", "/missing", "tmpfs", 0, 0));
	R(mount("none", "", "tmpfs", 0, 0));
	R(mount("none", BAD, "tmpfs", 0, 0));
	R(mount(BAD, "a", "tmpfs", 0, 0));
	R(mount("none", "a", BAD, 0, 0));
	R(mount("none", "a", "tmpfs", 0, BAD));
	R(mount("none", "a", "nosuchfs", 0, 0));
	R(mount("none", "a", "", 0, 0));
	R(mount("none", "a", 0, 0, 0));
	R(mount("none", "file", "tmpfs", 0, 0));
	R(mount("none", "a", "tmpfs", 0, "size=x"));
	R(mount("none", "a", "tmpfs", 0, "nosuch=1"));
	R(mount("none", "a", "tmpfs", 0, "mode=9"));
	R(mount(0, "a", "tmpfs", 0, 0));
	R(umount2("a", 0));
	R(mount("none", "a", 0, MS_REMOUNT, 0));
	R(mount("none", "a", 0, MS_REMOUNT | MS_BIND, 0));
	R(mount(0, "a", 0, MS_BIND, 0));
	R(mount("", "a", 0, MS_BIND, 0));
	R(mount("missing", "a", 0, MS_BIND, 0));
	R(mount("file", "a", 0, MS_BIND, 0));
	R(mount("a", "file", 0, MS_BIND, 0));
	R(mount("a", "b", 0, MS_MOVE, 0));
	R(mount(0, "b", 0, MS_MOVE, 0));
	R(mount("none", "a", 0, MS_PRIVATE, 0));
	R(mount("none", ".", 0, MS_PRIVATE | MS_SHARED, 0));
	R(mount("none", ".", 0, MS_PRIVATE | MS_NOSUID, 0));
	as_user(nobody);
}

CASE(umount_errors, umount2)
{
	begin();
	R(umount2("a", 0));
	R(umount2("missing", 0));
	R(umount2("file", 0));
	R(umount2(BAD, 0));
	R(umount2("a", 16));
	R(umount2("a", MNT_EXPIRE));
	R(umount2("a", MNT_EXPIRE | MNT_FORCE));
	MUST(mount("none", "a", "tmpfs", 0, 0));
	R(umount2("a", MNT_EXPIRE | MNT_FORCE));
	R(umount2("a", MNT_EXPIRE | MNT_DETACH));
	symlink("a", "link");
	R(umount2("link", UMOUNT_NOFOLLOW));
	R(umount2("link", 0));
	MUST(mount("none", "a", "tmpfs", 0, 0));
	R(umount2("a", UMOUNT_NOFOLLOW));
	R(umount2("a", 0));
}

CASE(busy, umount2)
{
	begin();
	MUST(mount("none", "a", "tmpfs", 0, 0));
	int fd = made("a/f", "x");
	R(umount2("a", 0));
	R(umount2("a", MNT_FORCE));
	close(fd);
	fd = open("a/f", O_PATH);
	R(umount2("a", 0));
	close(fd);
	fd = open("a", O_RDONLY);
	R(umount2("a", 0));
	close(fd);
	fd = open("a/f", O_RDWR);
	char *m = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	R(umount2("a", 0));
	munmap(m, 4096);
	chdir("a");
	R(umount2("/tmp/mt/a", 0));
	chdir("..");
	int p[2];
	pipe(p);
	pid_t c = fork();
	if (c == 0) {
		chdir("a");
		write(p[1], "", 1);
		pause();
	}
	read(p[0], &(char){0}, 1);
	R(umount2("a", 0));
	kill(c, SIGKILL);
	wait(0);
	mkdir("a/sub", 0755);
	MUST(mount("none", "a/sub", "tmpfs", 0, 0));
	R(umount2("a", 0));
	R(rmdir("a/sub"));
	R(rename("a/sub", "a/other"));
	R(umount2("a/sub", 0));
	R(umount2("a", 0));
	R(umount2("a", 0));
}

CASE(lazy, umount2)
{
	begin();
	MUST(mount("none", "a", "tmpfs", 0, 0));
	mkdir("a/sub", 0755);
	MUST(mount("none", "a/sub", "tmpfs", 0, 0));
	int fd = made("a/sub/f", "still here"), d = open("a", O_RDONLY);
	R(umount2("a", MNT_DETACH));
	IS(!mountedat("a"));
	content("file", fd);
	R(openat(d, "new", O_CREAT | O_RDWR, 0600) >= 0);
	R(faccessat(d, "sub/f", F_OK, 0));
	R(mkdirat(d, "x", 0755));
	shown("gone");
	close(d);
	R(umount2("a", MNT_DETACH));
}

CASE(expire, umount2)
{
	begin();
	MUST(mount("none", "a", "tmpfs", 0, 0));
	R(umount2("a", MNT_EXPIRE));
	struct stat st;
	stat("a", &st);
	R(umount2("a", MNT_EXPIRE));
	int fd = open("a", O_RDONLY);
	R(umount2("a", MNT_EXPIRE));
	close(fd);
	R(umount2("a", MNT_EXPIRE));
	R(umount2("a", MNT_EXPIRE));
	R(umount2("a", MNT_EXPIRE));
}

CASE(bind, mount)
{
	begin();
	close(made("a/f", "in a"));
	R(mount("a", "b", 0, MS_BIND, 0));
	R(access("b/f", F_OK));
	close(made("b/g", "by b"));
	R(access("a/g", F_OK));
	close(made("target", ""));
	R(mount("file", "target", "ignored", MS_BIND | MS_RDONLY | MS_NOSUID, "nonsense"));
	int fd = open("target", O_RDWR);
	content("target", fd);
	R(rename("target", "elsewhere"));
	R(unlink("target"));
	R(rename("a/f", "b/f"));
	R(link("a/f", "b/h"));
	shown("bound");
	close(fd);
	R(umount2("target", 0));
	R(umount2("b", 0));
	R(access("b/g", F_OK));
	MUST(mount("none", "a", "tmpfs", 0, 0));
	mkdir("a/in", 0755);
	MUST(mount("none", "a/in", "tmpfs", 0, 0));
	close(made("a/in/deep", "x"));
	R(mount("a", "c", 0, MS_BIND, 0));
	R(access("c/in/deep", F_OK));
	R(umount2("c", 0));
	R(mount("a", "c", 0, MS_BIND | MS_REC, 0));
	R(access("c/in/deep", F_OK));
	shown("recursive");
	R(umount2("c", 0));
	R(umount2("c", MNT_DETACH));
	R(mount("/tmp/mt", "d", 0, MS_BIND | MS_REC, 0));
	R(access("d/a/in/deep", F_OK));
	R(access("d/d/a", F_OK));
	R(umount2("d", MNT_DETACH));
}

CASE(stacked, mount, umount2)
{
	begin();
	MUST(mount("one", "a", "tmpfs", 0, 0));
	close(made("a/1", ""));
	MUST(mount("two", "a", "tmpfs", 0, 0));
	close(made("a/2", ""));
	R(access("a/1", F_OK));
	shown("two");
	R(umount2("a", 0));
	R(access("a/1", F_OK));
	R(umount2("a", 0));
	int d = open("b", O_RDONLY);
	MUST(mount("three", "b", "tmpfs", 0, 0));
	R(faccessat(d, "..", F_OK, 0));
	close(made("b/3", ""));
	R(faccessat(d, "3", F_OK, 0));
	R(fchdir(d));
	R(umount2(".", 0));
	R(umount2("../b", 0));
}

CASE(move, mount)
{
	begin();
	MUST(mount("none", "a", "tmpfs", 0, 0));
	close(made("a/f", "x"));
	mkdir("a/in", 0755);
	MUST(mount("none", "a/in", "tmpfs", 0, 0));
	int fd = open("a/f", O_RDWR);
	R(mount("a", "b", 0, MS_MOVE, 0));
	R(access("a/f", F_OK));
	R(access("b/f", F_OK));
	shown("moved");
	R(mount("b", "b/in", 0, MS_MOVE, 0));
	R(mount("b", "file", 0, MS_MOVE, 0));
	R(mount("b/f", "c", 0, MS_MOVE, 0));
	R(mount("missing", "c", 0, MS_MOVE, 0));
	R(mount("/", "c", 0, MS_MOVE, 0));
	close(fd);
	char p[100] = "";
	fd = open("b/in", O_RDONLY);
	R(mount("b/in", "c", 0, MS_MOVE, 0));
	sprintf(p, "/proc/self/fd/%d", fd);
	char l[100] = "";
	readlink(p, l, 99);
	say("%s", l);
	MUST(mount("none", "d", "tmpfs", 0, 0));
	MUST(mount("none", "d", 0, MS_SHARED, 0));
	mkdir("d/x", 0755), mkdir("d/y", 0755);
	MUST(mount("none", "d/x", "tmpfs", 0, 0));
	R(mount("d/x", "d/y", 0, MS_MOVE, 0));
}

CASE(remount, mount)
{
	begin();
	MUST(mount("none", "a", "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=0755"));
	shown("first");
	R(mount("none", "a", 0, MS_REMOUNT | MS_NOEXEC, 0));
	shown("remounted");
	R(mount("none", "a", 0, MS_REMOUNT, "size=128k"));
	struct statfs s;
	statfs("a", &s);
	say("blocks %ld", (long)s.f_blocks);
	R(mount("none", "a", 0, MS_REMOUNT, "size=zz"));
	R(mount("none", "a", 0, MS_REMOUNT, "nosuch"));
	int fd = made("a/f", "x");
	char big[8192] = {1};
	write(fd, big, 8192);
	R(mount("none", "a", 0, MS_REMOUNT, "size=4k"));
	R(mount("none", "a", 0, MS_REMOUNT | MS_RDONLY, 0));
	R(mount("none", "a", 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0));
	close(fd);
	fd = open("a/f", O_RDONLY);
	R(mount("none", "a", 0, MS_REMOUNT | MS_RDONLY, 0));
	shown("read-only");
	R(open("a/f", O_RDWR));
	R(open("a/new", O_RDWR | O_CREAT, 0600));
	R(mount("none", "a", 0, MS_REMOUNT | MS_BIND, 0));
	shown("the mount is not, the file system is");
	R(open("a/f", O_RDWR));
	R(mount("none", "a", 0, MS_REMOUNT, 0));
	R(open("a/f", O_RDWR) >= 0);
	MUST(mount("a", "b", 0, MS_BIND, 0));
	R(mount("none", "b", 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0));
	shown("one of two");
	R(open("b/f", O_RDWR));
	R(open("a/f", O_RDWR) >= 0);
	R(mkdir("b/x", 0755));
	R(chmod("b/f", 0600));
	R(unlink("b/f"));
	R(mount("none", "a", 0, MS_REMOUNT | MS_BIND | MS_NOATIME | MS_NODIRATIME, 0));
	R(mount("none", "a", 0, MS_REMOUNT | MS_BIND | MS_NOSUID, 0));
	shown("atime stays");
	R(mount("none", "a", 0, MS_REMOUNT | MS_BIND | MS_STRICTATIME, 0));
	shown("strictatime");
	R(mount("none", "a", 0, MS_REMOUNT | MS_SYNCHRONOUS | MS_DIRSYNC, 0));
	shown("sync");
}

CASE(flags, mount)
{
	begin();
	MUST(mount("none", "a", "tmpfs", MS_NODEV | MS_NOEXEC | MS_NOSUID, 0));
	struct statvfs v;
	statvfs("a", &v);
	say("flags %#lx", v.f_flag);
	MUST(mknod("a/null", S_IFCHR | 0666, 0x103));
	R(open("a/null", O_RDWR));
	int fd = open("a/prog", O_CREAT | O_RDWR, 0755);
	write(fd, "#!/bin/false\n", 13);
	R(access("a/prog", X_OK));
	IS(mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED && errno == EPERM);
	close(fd);
	char *argv[] = {"prog", 0};
	R(execve("a/prog", argv, argv + 1));
	MUST(mount("none", "a", 0, MS_REMOUNT, 0));
	R(open("a/null", O_RDWR) >= 0);
	R(access("a/prog", X_OK));
	MUST(mount("none", "b", "tmpfs", MS_RDONLY, 0));
	R(mkdir("b/x", 0755));
	shown("read-only");
	MUST(mount("none", "c", "tmpfs", 256, 0)); /* MS_NOSYMFOLLOW */
	symlink("/", "c/l");
	R(open("c/l", O_RDONLY));
	R(open("c/l/tmp", O_RDONLY));
	R(open("c/l", O_PATH | O_NOFOLLOW) >= 0);
	char buf[10];
	R(readlink("c/l", buf, 10));
}

static void atime(const char *what, const char *path)
{
	struct stat a, b;
	struct timespec old[2] = {{1000, 0}, {2000, 0}};
	char c;
	utimensat(AT_FDCWD, path, old, 0);
	stat(path, &a);
	int fd = open(path, O_RDONLY);
	read(fd, &c, 1);
	close(fd);
	stat(path, &b);
	say("%s: %s", what, a.st_atime == b.st_atime ? "kept" : "changed");
}

CASE(atimes, mount)
{
	begin();
	MUST(mount("none", "a", "tmpfs", MS_NOATIME, 0));
	close(made("a/f", "x"));
	atime("noatime", "a/f");
	MUST(mount("none", "a", 0, MS_REMOUNT | MS_RELATIME, 0));
	atime("relatime", "a/f");
	MUST(mount("none", "a", 0, MS_REMOUNT | MS_BIND | MS_NOATIME, 0));
	atime("noatime", "a/f");
	MUST(mount("none", "a", 0, MS_REMOUNT | MS_BIND | MS_STRICTATIME, 0));
	atime("strictatime", "a/f");
	MUST(mount("a", "b", 0, MS_BIND, 0));
	MUST(mount("none", "b", 0, MS_REMOUNT | MS_BIND | MS_NOATIME, 0));
	atime("bind noatime", "b/f");
	atime("the other", "a/f");
}

CASE(shared, mount)
{
	begin();
	MUST(mount("none", "a", "tmpfs", 0, 0));
	mkdir("a/x", 0755);
	R(mount("none", "a", 0, MS_SHARED, 0));
	MUST(mount("a", "b", 0, MS_BIND, 0));
	shown("peers");
	MUST(mount("inner", "a/x", "tmpfs", 0, 0));
	shown("mounted on one");
	close(made("b/x/f", "x"));
	R(access("a/x/f", F_OK));
	R(umount2("b/x", 0));
	IS(!mountedat("a/x"));
	MUST(mount("a", "c", 0, MS_BIND, 0));
	R(mount("none", "c", 0, MS_SLAVE, 0));
	shown("slave");
	MUST(mount("inner", "a/x", "tmpfs", 0, 0));
	IS(mountedat("b/x"));
	IS(mountedat("c/x"));
	mkdir("c/y", 0755);
	MUST(mount("own", "c/y", "tmpfs", 0, 0));
	IS(mountedat("a/y"));
	shown("slave hears");
	R(umount2("a/x", 0));
	IS(mountedat("c/x"));
	R(mount("none", "b", 0, MS_PRIVATE, 0));
	MUST(mount("inner", "a/x", "tmpfs", 0, 0));
	IS(mountedat("b/x"));
	R(mount("none", "b", 0, MS_UNBINDABLE, 0));
	shown("unbindable");
	R(mount("b", "d", 0, MS_BIND, 0));
	R(mount("none", ".", 0, MS_PRIVATE | MS_REC, 0));
	shown("private again");
}

CASE(proc_mounts, mount)
{
	begin();
	MUST(mount("a source\twith\\blanks", "a", "tmpfs", MS_NOSUID, "size=1m,mode=0700,uid=5,gid=6,nr_inodes=100"));
	mkdir("b c", 0755);
	MUST(mount("none", "b c", "tmpfs", MS_RDONLY, 0));
	FILE *f = fopen("/proc/self/mounts", "r");
	char line[500];
	while (fgets(line, sizeof line, f))
		if (strstr(line, "/tmp/mt/")) {
			line[strlen(line) - 1] = 0;
			say("%s", line);
		}
	shown("mountinfo");
}

static void rooted(void)
{
	shown("outside");
	R(chroot("/tmp/mt/a"));
	R(chdir("/"));
	FILE *f = fopen("/proc/self/mounts", "r");
	IS(f == 0);
	mkdir("old", 0755);
	R(syscall(SYS_pivot_root, "new", "new/old"));
	R(syscall(SYS_pivot_root, "missing", "new/old"));
	R(syscall(SYS_pivot_root, "new", "missing"));
	R(syscall(SYS_pivot_root, ".", "old"));
	MUST(mount("none", "new", "tmpfs", 0, 0));
	mkdir("new/old", 0755);
	R(syscall(SYS_pivot_root, "new", "old"));
	R(syscall(SYS_pivot_root, "new/old", "new/old"));
	close(made("new/marker", "x"));
	R(syscall(SYS_pivot_root, "new", "new/old"));
	R(access("/marker", F_OK));
	R(access("/old/f", F_OK));
	R(access("/old/new", F_OK));
	R(access("marker", F_OK));
	char cwd[100];
	IS(getcwd(cwd, 100) != 0);
	say("%s", cwd);
	R(umount2("/old", 0));
	R(umount2("/old", MNT_DETACH));
	R(access("/old/f", F_OK));
}

CASE(pivot, pivot_root)
{
	begin();
	MUST(mount("none", "a", "tmpfs", 0, 0));
	close(made("a/f", "x"));
	mkdir("a/new", 0755);
	R(syscall(SYS_pivot_root, BAD, "a"));
	R(syscall(SYS_pivot_root, "a", BAD));
	R(syscall(SYS_pivot_root, "file", "a"));
	R(syscall(SYS_pivot_root, "a", "file"));
	in_child(rooted);
	shown("after");
}

/* place prints where the kernel says that the working directory and a file are. */
static void place(const char *what, int fd)
{
	char b[200] = "", l[64];
	long n = getcwd(b, sizeof b) ? 0 : -errno;
	say("%s: cwd %s %s", what, n ? errname(-n) : "", b);
	n = readlink("/proc/self/cwd", b, sizeof b - 1);
	b[n > 0 ? n : 0] = 0;
	say("%s: link %s", what, n < 0 ? errname(errno) : b);
	snprintf(l, sizeof l, "/proc/self/fd/%d", fd);
	n = readlink(l, b, sizeof b - 1);
	b[n > 0 ? n : 0] = 0;
	say("%s: file %s", what, n < 0 ? errname(errno) : b);
	void *m = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
	FILE *f = fopen("/proc/self/maps", "r");
	for (char line[500], *at; f && fgets(line, sizeof line, f);)
		if (strtoul(line, 0, 16) == (unsigned long)m && (at = strchr(line, '/')))
			say("%s: mapped %s", what, strtok(at, "\n"));
	if (f)
		fclose(f);
	munmap(m, 4096);
}

/* A directory that is moved out of what a bind mount shows: what is above it stays hidden. */
CASE(escaped, mount, getcwd, readlink, rename)
{
	begin();
	mkdir("a/in", 0755), mkdir("a/in/deep", 0755), mkdir("a/in/point", 0755), mkdir("c/d", 0755);
	close(made("a/in/file", "x"));
	MUST(mount("a", "b", 0, MS_BIND, 0));
	MUST(mount("none", "b/in/point", "tmpfs", 0, 0));
	MUST(chdir("b/in"));
	int fd = open("file", O_RDONLY), here = open(".", O_RDONLY);
	place("inside", fd);
	R(rename("/tmp/mt/a/in", "/tmp/mt/c/d/out"));
	place("outside", fd);
	R(access("..", F_OK));
	R(access("../..", F_OK));
	R(open("../x", O_CREAT | O_RDWR, 0600));
	R(rename("file", "../file"));
	R(access("deep/..", F_OK));
	R(access("deep/../..", F_OK));
	R(access("deep/../file", F_OK));
	R(access("point/..", F_OK));
	R(access("point/../..", F_OK));
	R(access("/proc/self/cwd/..", F_OK));
	R(chdir("deep"));
	place("deeper", fd);
	R(chdir(".."));
	R(fchdir(here));
	shown("mounts");
	R(unlink("file"));
	place("unlinked", fd);
	R(mount("none", "deep", "tmpfs", 0, 0));
	R(rename("/tmp/mt/c/d/out", "/tmp/mt/a/back"));
	place("back", fd);
	R(access("../..", F_OK));
	shown("mounts");
	R(umount2("point", 0));
	R(umount2("deep", 0));
	close(fd), close(here);
	chdir("/");
}

static void room(const char *what)
{
	struct statfs f;
	R(statfs("a", &f));
	say("%s: blocks %ld free %ld %ld, files %ld free %ld", what, (long)f.f_blocks, (long)f.f_bfree, (long)f.f_bavail,
	    (long)f.f_files, (long)f.f_ffree);
}

/* A size of 0 is no limit, and what has none does not get one again. */
CASE(unlimited, mount, statfs, fallocate)
{
	static char big[300000];
	int fd;
	begin();
	R(mount("none", "a", "tmpfs", 0, "size=0,nr_inodes=0"));
	fd = made("a/f", "x");
	R(pwrite(fd, big, sizeof big, 0));
	R(fallocate(fd, 0, sizeof big, sizeof big));
	R(mkdir("a/d", 0755));
	room("size=0");
	shown("size=0");
	R(mount("none", "a", 0, MS_REMOUNT, "size=1m"));
	R(mount("none", "a", 0, MS_REMOUNT, "nr_inodes=100"));
	R(mount("none", "a", 0, MS_REMOUNT, "size=0,nr_inodes=0"));
	R(mount("none", "a", 0, MS_REMOUNT, 0));
	close(fd);
	R(umount2("a", 0));
	R(mount("none", "a", "tmpfs", 0, "nr_blocks=0,nr_inodes=9"));
	fd = made("a/f", "x");
	R(pwrite(fd, big, sizeof big, 0));
	room("nr_blocks=0");
	R(mount("none", "a", 0, MS_REMOUNT, "nr_blocks=1000"));
	close(fd);
	R(umount2("a", 0));
	R(mount("none", "a", "tmpfs", 0, "size=0%"));
	close(made("a/f", "x"));
	R(umount2("a", 0));
	R(mount("none", "a", "tmpfs", 0, "size=64k,nr_inodes=2"));
	fd = made("a/f", "x");
	R(pwrite(fd, big, sizeof big, 0));
	R(mkdir("a/d", 0755));
	room("size=64k");
	R(mount("none", "a", 0, MS_REMOUNT, "nr_inodes=1"));
	R(mount("none", "a", 0, MS_REMOUNT, "size=0,nr_inodes=0"));
	R(pwrite(fd, big, sizeof big, 0));
	R(mkdir("a/d", 0755));
	room("not any more");
	R(mount("none", "a", 0, MS_REMOUNT, "size=64k"));
	R(mount("none", "a", 0, MS_REMOUNT, "size=8m"));
	R(mount("none", "a", 0, MS_REMOUNT, "nr_inodes=2000"));
	shown("not any more");
	close(fd);
}

/* What a bind mount shows outlives its name. */
CASE(bind_file, mount, rename, unlink, openat)
{
	struct stat st;
	int fd;
	begin();
	close(made("a/f", "old"));
	close(made("b/p", "covered"));
	MUST(mount("a/f", "b/p", 0, MS_BIND, 0));
	shown("file");
	close(made("a/tmp", "new"));
	R(rename("a/tmp", "a/f"));
	content("name", fd = open("a/f", O_RDONLY));
	close(fd);
	content("mount", fd = open("b/p", O_RDWR));
	R(pwrite(fd, "even older", 10, 0));
	close(fd);
	content("again", fd = open("b/p", O_RDONLY));
	close(fd);
	R(stat("b/p", &st));
	say("links %d size %d", (int)st.st_nlink, (int)st.st_size);
	shown("replaced");
	R(link("b/p", "b/q"));
	R(truncate("b/p", 3));
	close(made("b/p", "rewritten"));
	content("rewritten", fd = open("b/p", O_RDONLY));
	R(unlink("b/p"));
	R(umount2("b/p", 0));
	close(fd);
	R(umount2("b/p", 0));
	content("uncovered", fd = open("b/p", O_RDONLY));
	close(fd);
	mkdir("a/d", 0755);
	MUST(mount("a/d", "d", 0, MS_BIND, 0));
	R(rmdir("a/d"));
	shown("directory");
	R(stat("d", &st));
	say("links %d", (int)st.st_nlink);
	R(open("d/x", O_CREAT | O_RDWR, 0600));
	R(mkdir("d/x", 0600));
	R(umount2("d", 0));
}

CASES
