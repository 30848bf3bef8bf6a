/* mkdir, rmdir, unlink, link, symlink, readlink, rename, mknod, getdents, chdir, chroot:
 * results, the order of errors, permissions. */
#include "files.h"
#include <dirent.h>
#include <sys/sysmacros.h>

static void begin(void)
{
	umask(022);
	mkdir("/tmp/n", 0777);
	if (mount("none", "/tmp/n", "tmpfs", 0, "mode=0777") < 0 || chdir("/tmp/n") < 0)
		say("begin: %s", errname(errno));
	close(open("file", O_CREAT | O_WRONLY, 0644));
	mkdir("dir", 0755);
	mkdir("full", 0755);
	close(open("full/x", O_CREAT | O_WRONLY, 0644));
	if (symlink("file", "link") < 0 || symlink("dir", "dlink") < 0 || symlink("loop", "loop") < 0 || symlink("missing", "dangling") < 0)
		say("symlink: %s", errname(errno));
}

static void tell(const char *path)
{
	struct stat st;
	char l[64] = "";
	if (lstat(path, &st) < 0) {
		say("  %s: %s", path, errname(errno));
		return;
	}
	if (S_ISLNK(st.st_mode) && readlink(path, l, 63) < 0)
		say("readlink: %s", errname(errno));
	say("  %s: mode %o links %d uid %d gid %d%s%s", path, st.st_mode, (int)st.st_nlink, st.st_uid, st.st_gid, *l ? " -> " : "", l);
}

CASE(mkdir, mkdir, mkdirat)
{
	begin();
	R(mkdir("new", 0777)), tell("new");
	R(mkdir("new", 0777));
	R(mkdir("new2/", 07777)), tell("new2");
	R(mkdir("file", 0777));
	R(mkdir("link", 0777));
	R(mkdir("dangling", 0777));
	R(mkdir("missing/x", 0777));
	R(mkdir("file/x", 0777));
	R(mkdir("loop/x", 0777));
	R(mkdir("", 0777));
	R(mkdir(".", 0777));
	R(mkdir("..", 0777));
	R(mkdir("/", 0777));
	R(mkdir((char *)8, 0777));
	int d = open("dir", O_RDONLY);
	R(mkdirat(d, "in", 0700)), tell("dir/in");
	R(mkdirat(99, "in", 0700));
	R(mkdirat(open("file", O_RDONLY), "in", 0700));
	chmod("dir", 02777), chown("dir", 0, 55);
	R(mkdir("dir/sgid", 0777)), tell("dir/sgid"), tell("dir");
}

CASE(rmdir, rmdir, unlinkat)
{
	begin();
	R(rmdir("dir")), tell("dir");
	R(rmdir("full"));
	R(rmdir("file"));
	R(rmdir("link"));
	R(rmdir("dlink"));
	R(rmdir("dlink/"));
	R(rmdir("missing"));
	R(rmdir("."));
	R(rmdir(".."));
	R(rmdir("/"));
	R(rmdir(""));
	R(rmdir("full/."));
	R(rmdir("full/.."));
	R(unlinkat(AT_FDCWD, "full/x", AT_REMOVEDIR));
	R(unlinkat(AT_FDCWD, "full/x", 1));
	R(unlinkat(AT_FDCWD, "full/x", 0));
	R(unlinkat(AT_FDCWD, "full", AT_REMOVEDIR));
	mkdir("cwd", 0755);
	MUST(chdir("cwd"));
	R(rmdir("../cwd"));
	char b[64];
	R((long)getcwd(b, 64));
	R(open("x", O_CREAT | O_WRONLY, 0600));
	R(mkdir("y", 0700));
	R(open("..", O_RDONLY) >= 0);
	MUST(chdir("/tmp/n"));
	mkdir("mnt", 0755);
	MUST(mount("none", "mnt", "tmpfs", 0, 0));
	R(rmdir("mnt"));
}

CASE(unlink, unlink)
{
	begin();
	R(unlink("file")), tell("file");
	R(unlink("link")), R(unlink("dangling")), R(unlink("loop"));
	R(unlink("dir"));
	R(unlink("dir/"));
	R(unlink("missing"));
	R(unlink("missing/"));
	R(unlink("full/x/"));
	R(unlink("full/x/y"));
	R(unlink(""));
	R(unlink("."));
	R(unlink((char *)8));
	int fd = open("full/x", O_RDWR);
	MUST(unlink("full/x"));
	MUST(write(fd, "still", 5));
	struct stat st;
	fstat(fd, &st);
	say("links %d size %ld", (int)st.st_nlink, (long)st.st_size);
}

CASE(link, link, linkat)
{
	begin();
	R(link("file", "f2")), tell("file"), tell("f2");
	R(link("file", "f2"));
	R(link("file", "dir"));
	R(link("dir", "d2"));
	R(link("missing", "x"));
	R(link("file", "missing/x"));
	R(link("file", "x/"));
	R(link("file/", "x"));
	R(link("link", "l2")), tell("l2");
	R(linkat(AT_FDCWD, "link", AT_FDCWD, "l3", AT_SYMLINK_FOLLOW)), tell("l3");
	R(linkat(AT_FDCWD, "dangling", AT_FDCWD, "l4", AT_SYMLINK_FOLLOW));
	R(linkat(AT_FDCWD, "file", AT_FDCWD, "l5", 0x10));
	int fd = open("file", O_RDONLY);
	R(linkat(fd, "", AT_FDCWD, "l6", AT_EMPTY_PATH)), tell("l6");
	R(linkat(fd, "", AT_FDCWD, "l7", 0));
	R(linkat(AT_FDCWD, "file", 99, "x", 0));
	mkdir("mnt", 0755);
	MUST(mount("none", "mnt", "tmpfs", 0, 0));
	R(link("file", "mnt/x"));
	R(link("/proc/self/stat", "x"));
	int gone = open("f2", O_RDONLY);
	unlink("f2"), unlink("l3"), unlink("l6"), unlink("file");
	char p[64];
	snprintf(p, sizeof p, "/proc/self/fd/%d", gone);
	R(linkat(AT_FDCWD, p, AT_FDCWD, "back", AT_SYMLINK_FOLLOW));
}

CASE(symlink, symlink, symlinkat, readlink, readlinkat)
{
	begin();
	char b[300], big[5000];
	R(symlink("target", "s")), tell("s");
	R(symlink("target", "s"));
	R(symlink("target", "file"));
	R(symlink("", "e"));
	R(symlink("target", ""));
	R(symlink("target", "missing/s"));
	R(symlink("target", "s2/"));
	R(symlinkat("t", 99, "x"));
	memset(big, 'a', 4999), big[4999] = 0;
	R(symlink(big, "big"));
	big[4095] = 0;
	R(symlink(big, "big"));
	R(symlink((char *)8, "x"));
	R(readlink("s", b, 300)), say("%.6s", b);
	R(readlink("s", b, 3)), say("%.3s", b);
	R(readlink("s", b, 0));
	R(readlink("s", b, -1));
	R(readlink("file", b, 300));
	R(readlink("missing", b, 300));
	R(readlink("s", (char *)8, 300));
	R(readlinkat(AT_FDCWD, "", b, 300));
	R(open("loop/x", O_RDONLY));
	for (int i = 0; i < 41; i++) {
		char from[16], to[16];
		snprintf(from, 16, "c%d", i), snprintf(to, 16, "c%d", i + 1);
		symlink(to, from);
	}
	symlink("file", "c41");
	R(access("c2", F_OK));
	R(access("c1", F_OK));
	R(access("c0", F_OK));
}

static void holds(const char *path, const char *text)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644);
	if (write(fd, text, strlen(text)) < 0)
		say("write: %s", errname(errno));
	close(fd);
}

static void reads(const char *path)
{
	char b[32] = "";
	int fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, b, 31) < 0)
		say("  %s: %s", path, errname(errno));
	else
		say("  %s: '%s'", path, b);
	close(fd);
}

CASE(rename, rename, renameat)
{
	begin();
	holds("a", "A"), holds("b", "B");
	R(rename("a", "c")), tell("a"), reads("c");
	R(rename("c", "b")), reads("b");
	R(rename("b", "b")), reads("b");
	R(link("b", "b2")), R(rename("b", "b2")), tell("b"), tell("b2");
	R(rename("missing", "x"));
	R(rename("b", "missing/x"));
	R(rename("b", "dir"));
	R(rename("dir", "b"));
	R(rename("dir", "full"));
	R(rename("full", "dir")), tell("full"), tell("dir/x");
	R(rename("dir", "dir/sub"));
	mkdir("e1", 0755), mkdir("e2", 0755);
	R(rename("e1", "e2")), tell("e1"), tell("e2");
	R(rename("b/", "x"));
	R(rename("b", "x/"));
	R(rename("e2/", "e3/")), tell("e3");
	R(rename("link", "lnk")), tell("lnk");
	R(rename(".", "x"));
	R(rename("e3", "."));
	R(rename("e3", ".."));
	R(rename("..", "x"));
	R(rename("", "x"));
	R(rename("b", ""));
	R(rename((char *)8, "x"));
	R(rename("b", (char *)8));
	R(renameat(99, "b", AT_FDCWD, "x"));
	mkdir("mnt", 0755);
	MUST(mount("none", "mnt", "tmpfs", 0, 0));
	R(rename("b", "mnt/b"));
	R(rename("mnt", "mnt2"));
	R(rename("e3", "mnt"));
}

CASE(renameat2, renameat2)
{
	begin();
	holds("a", "A"), holds("b", "B");
#define REN(x, y, f) R(syscall(SYS_renameat2, AT_FDCWD, x, AT_FDCWD, y, f))
	REN("a", "b", 1), reads("a"), reads("b");
	REN("a", "c", 1), reads("c");
	REN("c", "b", 2), reads("c"), reads("b");
	REN("c", "missing", 2);
	REN("missing", "c", 2);
	REN("c", "full", 2), tell("c"), reads("full");
	REN("c", "c/x", 2);
	REN("c/x", "c", 2);
	REN("b", "b", 1);
	REN("b", "b", 2);
	REN("b", "x", 3);
	REN("b", "x", 8);
	REN("b", "x", 16);
	REN("dir", ".", 1);
	REN("dangling", "link", 2), tell("link");
}

CASE(whiteout, renameat2)
{
	begin();
	holds("a", "A"), holds("b", "B");
	symlink("x", "full/l");
	REN("a", "new", 4), tell("a"), reads("new");
	REN("new", "b", 4), tell("new"), reads("b");
	REN("b", "full/b", 5), tell("b"), reads("full/b");
	REN("full", "dir", 4), tell("full"), tell("dir"), reads("dir/b");
	REN("dir/l", "dir/m", 4), tell("dir/l"), tell("dir/m");
	REN("file", "link", 5), tell("file");
	REN("file", "file", 4), tell("file");
	REN("missing", "c", 4);
	REN("dir", "dir/x", 4);
	REN("dir/b", "file", 6);
	REN("dir/.", "file", 4);
	R(unlink("full")), R(unlink("a")), R(rename("new", "a")), tell("a");
	DIR *d = opendir("dir");
	int whiteouts = 0;
	for (struct dirent *e; (e = readdir(d));)
		whiteouts += e->d_type == DT_CHR;
	say("  %d", whiteouts);
	MUST(setresgid(-1, 1001, -1));
	MUST(setresuid(-1, 1000, -1));
	holds("mine", "M");
	REN("mine", "yours", 4), tell("mine");
	R(open("mine", O_RDONLY));
	REN("b", "full/c", 4);
}

static void sticky(void)
{
	R(unlink("s/root"));
	R(rename("s/root", "s/x"));
	R(rename("s/mine", "s/root"));
	R(unlink("s/mine"));
	R(mkdir("dir/x", 0755));
	R(rmdir("full"));
	R(unlink("full/x"));
	R(link("file", "s/hard"));
	R(rename("file", "s/file"));
	R(symlink("a", "dir/s"));
	R(mknod("s/fifo", S_IFIFO | 0600, 0));
	R(mknod("s/dev", S_IFCHR | 0600, makedev(1, 3)));
	R(chroot("."));
	R(chmod("file", 0777));
	R(chdir("locked"));
	R(mkdir("locked/x", 0755));
	R(open("locked/..", O_RDONLY));
}

CASE(permissions, unlink, rename)
{
	begin();
	umask(0);
	mkdir("s", 01777);
	mkdir("locked", 0700);
	holds("s/root", "r"), holds("s/mine", "m");
	if (chown("s/mine", 1000, 1000) < 0)
		say("chown: %s", errname(errno));
	as_user(sticky);
}

CASE(mknod, mknodat)
{
	begin();
	R(mknod("fifo", S_IFIFO | 0666, 0)), tell("fifo");
	R(mknod("plain", 0666, 0)), tell("plain");
	R(mknod("reg", S_IFREG | 04755, 0)), tell("reg");
	R(mknod("sock", S_IFSOCK | 0666, 0)), tell("sock");
	R(mknod("null", S_IFCHR | 0666, makedev(1, 3))), tell("null");
	R(mknod("blk", S_IFBLK | 0600, makedev(250, 1))), tell("blk");
	R(mknod("fifo", S_IFIFO, 0));
	R(mknod("d", S_IFDIR | 0755, 0));
	R(mknod("l", S_IFLNK | 0755, 0));
	R(mknod("x", 0130000, 0));
	R(mknod("missing/x", S_IFIFO, 0));
	R(mknod("x/", S_IFIFO, 0));
	R(mknodat(99, "x", S_IFIFO, 0));
	R(open("sock", O_RDWR));
	R(open("blk", O_RDWR));
	int fd = open("null", O_RDWR);
	R(write(fd, "x", 1));
	R(read(fd, &fd, 1));
	MUST(mount("none", "/tmp/n", 0, MS_REMOUNT | MS_NODEV, 0));
	R(open("null", O_RDWR));
}

CASE(getdents, getdents64, getdents)
{
	begin();
	char b[1024], names[20][20];
	int fd = open(".", O_RDONLY), n, k = 0;
	R(syscall(SYS_getdents64, fd, b, 10));
	R(syscall(SYS_getdents64, fd, (void *)8, 1024));
	R(syscall(SYS_getdents64, 99, b, 1024));
	R(syscall(SYS_getdents64, open("file", O_RDONLY), b, 1024));
	R(syscall(SYS_getdents, fd, b, 10));
	while ((n = syscall(SYS_getdents64, fd, b, 64)) > 0)
		for (int o = 0; o < n;) {
			struct dirent64 *d = (void *)(b + o);
			snprintf(names[k++], 20, "%s %d", d->d_name, d->d_type);
			o += d->d_reclen;
		}
	for (int i = 0; i < k; i++)
		for (int j = i + 1; j < k; j++)
			if (strcmp(names[j], names[i]) < 0) {
				char t[20];
				strcpy(t, names[i]), strcpy(names[i], names[j]), strcpy(names[j], t);
			}
	for (int i = 0; i < k; i++)
		say("%s", names[i]);
	R(syscall(SYS_getdents64, fd, b, 1024));
	R(lseek(fd, 0, SEEK_SET));
	IS(syscall(SYS_getdents64, fd, b, 1024) > 0);
	lseek(fd, 0, SEEK_SET);
	IS(syscall(SYS_getdents, fd, b, 1024) > 0);
	/* What is removed and added meanwhile does not disturb what stays. */
	DIR *d = opendir(".");
	struct dirent *e;
	int seen = 0;
	unlink("dangling");
	while ((e = readdir(d)))
		seen += !strcmp(e->d_name, "file") + !strcmp(e->d_name, "dir") + !strcmp(e->d_name, "full");
	say("seen %d", seen);
	int sub = open("dir", O_RDONLY);
	rmdir("dir");
	R(syscall(SYS_getdents64, sub, b, 1024));
}

CASE(chdir, chdir, fchdir, getcwd)
{
	begin();
	char b[64];
	R(chdir("dir")), say("%s", getcwd(b, 64));
	R(chdir("../dlink")), say("%s", getcwd(b, 64));
	R(chdir("..")), say("%s", getcwd(b, 64));
	R(chdir("file"));
	R(chdir("missing"));
	R(chdir(""));
	R(chdir((char *)8));
	int fd = open("dir", O_RDONLY);
	R(fchdir(fd)), say("%s", getcwd(b, 64));
	R(fchdir(99));
	R(fchdir(open("/tmp/n/file", O_RDONLY)));
	R(fchdir(open("/tmp/n/full", O_PATH))), say("%s", getcwd(b, 64));
	R(syscall(SYS_getcwd, b, 5));
	R(syscall(SYS_getcwd, b, 0));
	R(syscall(SYS_getcwd, b, 12));
	R(syscall(SYS_getcwd, (void *)8, 64));
	rename("/tmp/n/full", "/tmp/n/moved");
	say("%s", getcwd(b, 64));
}

CASE(chroot, chroot)
{
	begin();
	char b[64];
	R(chroot("missing"));
	R(chroot("file"));
	R(chroot((char *)8));
	if (fork() == 0) {
		R(chroot("/tmp/n"));
		say("%s", getcwd(b, 64));
		R(chdir("/full"));
		say("%s", getcwd(b, 64));
		R(access("/file", F_OK));
		R(access("/tmp/n/file", F_OK));
		R(access("/../../file", F_OK));
		MUST(chroot("/dir"));
		char l[100];
		R(syscall(SYS_getcwd, l, 100));
		say("%.14s", l);
		_exit(0);
	}
	wait(0);
}

/* replaces writes a new file and gives it the name of the old one, again and again. */
static void replaces(void)
{
	for (int i = 0; i < 500; i++) {
		char b[300];
		memset(b, 'a' + i % 26, sizeof b);
		int fd = open("new", O_CREAT | O_EXCL | O_WRONLY, 0644);
		if (write(fd, b, 100 + i % 200) < 0 || close(fd) < 0 || rename("new", "conf") < 0) {
			say("replace: %s", errname(errno));
			return;
		}
	}
}

/* Whoever opens a file that is being replaced finds the old one or the new one, whole. */
CASE(replaced, rename, openat)
{
	fresh("/tmp/rp");
	close(made("conf", "aaaa"));
	int missing = 0, broken = 0, empty = 0, rounds = 0;
	pid_t c = fork();
	if (c == 0) {
		replaces();
		_exit(0);
	}
	while (waitpid(c, 0, WNOHANG) == 0) {
		char b[400];
		struct stat st;
		for (int flags = 0; flags <= O_CREAT; flags += O_CREAT) {
			int fd = open("conf", O_RDONLY | flags, 0644), n = 0;
			if (fd < 0) {
				missing++;
				continue;
			}
			if (fstat(fd, &st) < 0 || (n = read(fd, b, sizeof b)) <= 0 || n != st.st_size)
				broken++;
			for (int i = 1; i < n; i++)
				if (b[i] != b[0]) {
					broken++;
					break;
				}
			close(fd);
		}
		if (stat("conf", &st) < 0)
			missing++;
		else if (st.st_size == 0)
			empty++;
		rounds++;
	}
	IS(rounds > 0);
	say("missing %d, broken %d, empty %d", missing, broken, empty);
	R(access("new", F_OK));
}

CASES
