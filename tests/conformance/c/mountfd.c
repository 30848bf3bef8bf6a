/* The calls about mounts that work on descriptors: fsopen, fsconfig, fsmount, fspick,
 * open_tree, move_mount, mount_setattr. */
#include "files.h"
#include <sys/statfs.h>
#include <sys/statvfs.h>

#define fsopen(n, f) syscall(SYS_fsopen, n, f)
#define fsconfig(fd, c, k, v, a) syscall(SYS_fsconfig, fd, c, k, v, a)
#define fsmount(fd, f, a) syscall(SYS_fsmount, fd, f, a)
#define fspick(d, p, f) syscall(SYS_fspick, d, p, f)
#define open_tree(d, p, f) syscall(SYS_open_tree, d, p, f)
#define move_mount(a, b, c, d, f) syscall(SYS_move_mount, a, b, c, d, f)

static void begin(void)
{
	fresh("/tmp/mf");
	for (const char *d = "abcd"; *d; d++)
		mkdir((char[]){*d, 0}, 0755);
	close(made("file", "content"));
}

static void nobody(void)
{
	R(fsopen("tmpfs", 0));
	R(fsopen("tmpfs", 8));
	R(fsmount(99, 99, 99));
	R(fspick(AT_FDCWD, "missing", 99));
	R(open_tree(AT_FDCWD, ".", 1));
	OK(open_tree(AT_FDCWD, ".", 0));
	R(move_mount(99, "", 99, "", 0x1000));
}

CASE(open_errors, fsopen, fsmount, fspick, open_tree, move_mount)
{
	begin();
	as_user(nobody);
	R(fsopen("nosuchfs", 0));
	R(fsopen("tmpfs", 8));
	R(fsopen(BAD, 0));
	R(fsopen("", 0));
	int fd = fsopen("tmpfs", 1);
	R(fcntl(fd, F_GETFD));
	char c;
	R(read(fd, &c, 1));
	R(fsmount(99, 0, 0));
	R(fsmount(fd, 8, 0));
	R(fsmount(fd, 0, 1 << 30));
	R(fsmount(fd, 0, 0x30));
	R(fsmount(fd, 0, 0));
	R(fsmount(open("file", O_RDONLY), 0, 0));
	R(fspick(AT_FDCWD, "a", 0));
	R(fspick(AT_FDCWD, "missing", 0));
	R(fspick(AT_FDCWD, ".", 99));
	R(open_tree(AT_FDCWD, "missing", 0));
	R(open_tree(AT_FDCWD, ".", 2));
	R(open_tree(AT_FDCWD, ".", AT_RECURSIVE));
	R(open_tree(99, "x", 0));
	R(move_mount(AT_FDCWD, "a", AT_FDCWD, "b", 0));
	R(move_mount(AT_FDCWD, "a", AT_FDCWD, "b", 0x1000));
	R(move_mount(AT_FDCWD, "", AT_FDCWD, "b", 0));
	R(move_mount(99, "", AT_FDCWD, "b", 4));
}

CASE(config_errors, fsconfig)
{
	begin();
	int fd = fsopen("tmpfs", 0);
	R(fsconfig(-1, 0, "ro", 0, 0));
	R(fsconfig(99, 0, "ro", 0, 0));
	R(fsconfig(99, 0, 0, 0, 0));
	R(fsconfig(fd, 99, 0, 0, 0));
	R(fsconfig(fd, 0, 0, 0, 0));
	R(fsconfig(fd, 0, "ro", "x", 0));
	R(fsconfig(fd, 0, "ro", 0, 1));
	R(fsconfig(fd, 1, "size", 0, 0));
	R(fsconfig(fd, 1, "size", "1m", 1));
	R(fsconfig(fd, 1, BAD, "1m", 0));
	R(fsconfig(fd, 1, "size", BAD, 0));
	R(fsconfig(fd, 1, "size", "x", 0));
	R(fsconfig(fd, 1, "nosuch", "x", 0));
	R(fsconfig(fd, 0, "nosuch", 0, 0));
	R(fsconfig(fd, 0, "", 0, 0));
	R(fsconfig(fd, 0, "source", 0, 0));
	R(fsconfig(fd, 1, "source", "here", 0));
	R(fsconfig(fd, 1, "source", "there", 0));
	R(fsconfig(fd, 2, "size", "1m", 0));
	R(fsconfig(fd, 3, "size", "/", -1));
	R(fsconfig(fd, 5, "size", 0, -1));
	R(fsconfig(fd, 6, "x", 0, 0));
	R(fsconfig(fd, 7, 0, 0, 0));
	R(fsconfig(open("file", O_RDONLY), 0, "ro", 0, 0));
	R(fsconfig(fd, 6, 0, 0, 0));
	R(fsconfig(fd, 6, 0, 0, 0));
	R(fsconfig(fd, 1, "size", "1m", 0));
}

CASE(new_mount, fsopen, fsconfig, fsmount, move_mount)
{
	begin();
	int fd = fsopen("tmpfs", 0);
	R(fsconfig(fd, 1, "source", "mine", 0));
	R(fsconfig(fd, 1, "size", "64k", 0));
	R(fsconfig(fd, 1, "mode", "0711", 0));
	R(fsconfig(fd, 6, 0, 0, 0));
	int m = fsmount(fd, 1, 8 | 2);
	IS(m >= 0);
	R(fcntl(m, F_GETFD));
	say("%#x", fcntl(m, F_GETFL));
	R(fsmount(fd, 0, 0));
	close(openat(m, "before", O_CREAT | O_WRONLY, 0600));
	R(move_mount(m, "", AT_FDCWD, "file", 4));
	R(move_mount(m, "", AT_FDCWD, "a", 4));
	R(access("a/before", F_OK));
	struct stat st;
	stat("a", &st);
	say("%o", st.st_mode);
	struct statvfs v;
	statvfs("a", &v);
	say("%#lx %ld", v.f_flag, (long)v.f_blocks);
	R(move_mount(m, "", AT_FDCWD, "b", 4));
	R(access("b/before", F_OK));
	R(access("a/before", F_OK));
	R(umount2("b", 0));
	close(m);
	R(umount2("b", 0));
}

CASE(reconfigure, fspick, fsconfig)
{
	begin();
	MUST(mount("none", "a", "tmpfs", 0, "size=64k"));
	int fd = fspick(AT_FDCWD, "a", 1);
	IS(fd >= 0);
	R(fsconfig(fd, 1, "size", "128k", 0));
	R(fsconfig(fd, 0, "ro", 0, 0));
	R(fsconfig(fd, 6, 0, 0, 0));
	R(fsconfig(fd, 7, 0, 0, 0));
	struct statvfs v;
	statvfs("a", &v);
	say("%#lx %ld", v.f_flag, (long)v.f_blocks);
	R(mkdir("a/x", 0755));
	R(fsmount(fd, 0, 0));
	close(fd);
	fd = fspick(AT_FDCWD, "a", 0);
	R(fsconfig(fd, 0, "rw", 0, 0));
	R(fsconfig(fd, 7, 0, 0, 0));
	R(mkdir("a/x", 0755));
}

CASE(trees, open_tree, move_mount)
{
	begin();
	MUST(mount("none", "a", "tmpfs", 0, 0));
	mkdir("a/in", 0755);
	MUST(mount("none", "a/in", "tmpfs", 0, 0));
	close(made("a/in/deep", "x"));
	int t = open_tree(AT_FDCWD, "a", 1 | O_CLOEXEC), r = open_tree(AT_FDCWD, "a", 1 | AT_RECURSIVE), p = open_tree(AT_FDCWD, "a", 0);
	R(fcntl(t, F_GETFD));
	R(fcntl(p, F_GETFD));
	R(faccessat(t, "in/deep", F_OK, 0));
	R(faccessat(r, "in/deep", F_OK, 0));
	R(move_mount(t, "", AT_FDCWD, "b", 4));
	R(move_mount(r, "", AT_FDCWD, "c", 4));
	R(access("b/in/deep", F_OK));
	R(access("c/in/deep", F_OK));
	close(t), close(r);
	R(umount2("c", 0));
	R(umount2("b", 0));
	R(move_mount(p, "", AT_FDCWD, "d", 4));
	R(access("a/in", F_OK));
	R(access("d/in/deep", F_OK));
	int f = open_tree(AT_FDCWD, "file", 1);
	R(move_mount(f, "", AT_FDCWD, "b", 4));
	close(made("target", ""));
	R(move_mount(f, "", AT_FDCWD, "target", 4));
	struct stat st;
	stat("target", &st);
	say("%ld", (long)st.st_size);
}

struct attr { unsigned long set, clr, propagation, userns; };

static long setattr(const char *path, int flags, unsigned long set, unsigned long clr, unsigned long prop)
{
	struct attr a = {set, clr, prop};
	return syscall(SYS_mount_setattr, AT_FDCWD, path, flags, &a, sizeof a);
}

CASE(setattr, mount_setattr)
{
	begin();
	MUST(mount("none", "a", "tmpfs", 0, 0));
	mkdir("a/in", 0755);
	MUST(mount("none", "a/in", "tmpfs", 0, 0));
	struct attr z = {};
	R(syscall(SYS_mount_setattr, AT_FDCWD, "a", 0, &z, 31));
	R(syscall(SYS_mount_setattr, AT_FDCWD, "a", 0, &z, 5000));
	R(syscall(SYS_mount_setattr, AT_FDCWD, "a", 0x4000, &z, 32));
	R(syscall(SYS_mount_setattr, AT_FDCWD, "a", 0, BAD, 32));
	R(syscall(SYS_mount_setattr, AT_FDCWD, "missing", 0, &z, 32));
	R(setattr("missing", 0, 1, 0, 0));
	R(setattr("b", 0, 1, 0, 0));
	R(setattr("a", 0, 1 << 30, 0, 0));
	R(setattr("a", 0, 0, 1 << 30, 0));
	R(setattr("a", 0, 0x10, 0, 0));
	R(setattr("a", 0, 0x10, 0x10, 0));
	R(setattr("a", 0, 0x30, 0x70, 0));
	R(setattr("a", 0, 0x10, 0x70, 0));
	R(setattr("a", 0, 0, 0, 1));
	R(setattr("a", 0, 0, 0, MS_SHARED | MS_PRIVATE));
	struct statvfs v;
	statvfs("a", &v);
	say("%#lx", v.f_flag);
	R(setattr("a", 0, 1 | 8, 0, 0));
	statvfs("a", &v);
	say("%#lx", v.f_flag);
	R(mkdir("a/x", 0755));
	R(mkdir("a/in/x", 0755));
	R(setattr("a", AT_RECURSIVE, 1, 8, 0));
	R(mkdir("a/in/y", 0755));
	statvfs("a", &v);
	say("%#lx", v.f_flag);
	R(setattr("a", AT_RECURSIVE, 0, 1, MS_SHARED));
	R(mkdir("a/in/y", 0755));
	int fd = open("a/in/f", O_CREAT | O_RDWR, 0600);
	R(setattr("a", AT_RECURSIVE, 1, 0, 0));
	R(mkdir("a/z", 0755));
}

CASE(closed, open_tree, fsopen, move_mount)
{
	begin();
	int ctx = fsopen("tmpfs", 0);
	R(fsconfig(ctx, 6, 0, 0, 0));
	int fd = fsmount(ctx, 0, 0);
	R(close(open_tree(fd, "", AT_EMPTY_PATH)));
	R(move_mount(fd, "", AT_FDCWD, "b", 4));
	MUST(mount("none", "a", "tmpfs", 0, 0));
	mkdir("a/in", 0755);
	MUST(mount("none", "a/in", "tmpfs", 0, 0));
	close(made("a/in/deep", "x"));
	int t = open_tree(AT_FDCWD, "a", 1 | AT_RECURSIVE);
	R(close(open_tree(t, "", AT_EMPTY_PATH)));
	R(close(open_tree(t, "in", 0)));
	R(faccessat(t, "in/deep", F_OK, 0));
	R(move_mount(t, "", AT_FDCWD, "c", 4));
	R(access("c/in/deep", F_OK));
	/* Whose descriptor made it takes it along. */
	t = open_tree(AT_FDCWD, "a", 1 | AT_RECURSIVE);
	int p = open_tree(t, "", AT_EMPTY_PATH);
	close(t);
	R(faccessat(p, "in", F_OK, 0));
	R(move_mount(p, "", AT_FDCWD, "d", 4));
}

static int context, picked;

static void configures(void)
{
	R(fsconfig(context, 1, "size", "64k", 0));
	R(fsconfig(context, 6, 0, 0, 0));
	R(fsconfig(picked, 0, "ro", 0, 0));
	R(fsconfig(picked, 7, 0, 0, 0));
	R(fsconfig(picked, 7, 0, 0, 0));
}

CASE(config_unprivileged, fsopen, fspick, fsconfig)
{
	begin();
	MUST(mount("none", "a", "tmpfs", 0, "size=64k"));
	context = fsopen("tmpfs", 0), picked = fspick(AT_FDCWD, "a", 0);
	as_user(configures);
	R(mkdir("a/x", 0755));
	R(fsconfig(context, 6, 0, 0, 0));
	R(fsconfig(picked, 7, 0, 0, 0));
}

CASES
