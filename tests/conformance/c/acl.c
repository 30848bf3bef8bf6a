/* POSIX access control lists: their extended attributes, whom they let in, what chmod and
 * umask make of them, and what a directory's default list does to what is made in it. */
#include "files.h"
#include <grp.h>
#include <stdint.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/socket.h>
#include <sys/xattr.h>

#define ACC "system.posix_acl_access"
#define DEF "system.posix_acl_default"

static unsigned char v[4 + 8 * 64];

/* acl makes a value from "u:rwx u1000:r-x g:r-- g7:rw- m:rwx o:---". */
static int acl(const char *s)
{
	int n = 4;
	*(uint32_t *)v = 2;
	while (*s) {
		int kind = *s++, named = *s >= '0' && *s <= '9';
		uint32_t id = named ? strtoul(s, (char **)&s, 10) : -1;
		uint16_t tag = kind == 'u' ? named ? 2 : 1 : kind == 'g' ? named ? 8 : 4 : kind == 'm' ? 16 : kind == 'o' ? 32 : 64, perm = 0;
		for (s++; *s && *s != ' '; s++)
			perm |= *s == 'r' ? 4 : *s == 'w' ? 2 : *s == 'x' ? 1 : *s == 'X' ? 8 : 0;
		if (*s)
			s++;
		memcpy(v + n, &tag, 2), memcpy(v + n + 2, &perm, 2), memcpy(v + n + 4, &id, 4);
		n += 8;
	}
	return n;
}

static void set(const char *file, const char *name, const char *s)
{
	int n = acl(s), r = lsetxattr(file, name, v, n, 0);
	say("%s %s %s: %s", file, !strcmp(name, ACC) ? "access" : "default", s, r ? errname(errno) : "ok");
}

static void get(const char *file)
{
	static const char *const names[] = { ACC, DEF };
	struct stat st;
	lstat(file, &st);
	say("%s: mode %o", file, st.st_mode);
	for (int k = 0; k < 2; k++) {
		unsigned char b[600];
		char out[600] = "", *p = out;
		int n = lgetxattr(file, names[k], b, sizeof b);
		if (n < 0) {
			if (errno != ENODATA)
				say("  %s: %s", names[k], errname(errno));
			continue;
		}
		for (int i = 4; i < n; i += 8) {
			uint16_t tag, perm;
			int id;
			memcpy(&tag, b + i, 2), memcpy(&perm, b + i + 2, 2), memcpy(&id, b + i + 4, 4);
			p += sprintf(p, " %d/%d:%d", tag, id, perm);
		}
		say("  %s version %d%s", k ? "default" : "access", b[0], out);
	}
}

/* as says what a user of groups may do: read, write and execute by open and access. */
static void as(const char *file, int uid, int gid, int more)
{
	gid_t g[] = { more };
	pid_t p = fork();
	if (!p) {
		setgroups(more ? 1 : 0, g), setresgid(gid, gid, gid), setresuid(uid, uid, uid);
		int r = open(file, O_RDONLY) >= 0, w = open(file, O_WRONLY) >= 0;
		say("uid %d gid %d,%d: open %c%c access %c%c%c", uid, gid, more, r ? 'r' : '-', w ? 'w' : '-',
			access(file, R_OK) ? '-' : 'r', access(file, W_OK) ? '-' : 'w', access(file, X_OK) ? '-' : 'x');
		_exit(0);
	}
	waitpid(p, 0, 0);
}

CASE(values, setxattr, lsetxattr, getxattr, lgetxattr, listxattr, removexattr)
{
	char b[600];
	fresh("/tmp/acl");
	made("f", ""), mkdir("d", 0755), symlink("f", "l"), mkfifo("p", 0644);
	R(getxattr("f", ACC, b, 600)), R(getxattr("f", DEF, b, 600)), R(getxattr("d", DEF, b, 600)), R(lgetxattr("l", ACC, b, 600));
	R(setxattr("f", ACC, v, 0, 0)), R(setxattr("f", ACC, "\2\0\0", 3, 0)), R(setxattr("f", ACC, "\1\0\0\0", 4, 0)), R(setxattr("f", ACC, "\2\0\0\0x", 5, 0));
	R(setxattr("f", ACC, "\2\0\0\0", 4, 0)), R(setxattr("f", DEF, "\2\0\0\0", 4, 0)), R(setxattr("d", DEF, "\2\0\0\0", 4, 0));
	set("f", ACC, "u:rw g:r o:r"), get("f");
	set("f", ACC, "u:rw g:rw o:"), get("f");
	set("f", ACC, "u:rw u1000:rwx g:r g7:w m:rw o:r"), get("f");
	R(setxattr("f", ACC, v, 4 + 48, XATTR_CREATE)), R(setxattr("f", ACC, v, 4 + 48, XATTR_REPLACE)), R(setxattr("f", ACC, v, 4 + 48, 4));
	R(getxattr("f", ACC, 0, 0)), R(getxattr("f", ACC, b, 10)), R(getxattr("f", ACC, b, 52)), R(listxattr("f", b, 600));
	set("f", ACC, "u:rwx g:r m:r o:r"), get("f");
	set("f", ACC, ""), get("f");
	static const char *const wrong[] = { "u:r", "u:r g:r", "g:r u:r o:r", "u:r o:r g:r", "u:r g:r o:r o:r", "u:r u:r g:r o:r", "u:r u1:r g:r o:r",
		"u:r g:r g1:r o:r", "u:r g:r o:r m:r", "u:rX g:r o:r", "u:r z:r g:r o:r", "u:r g:r u1:r m:r o:r", "u:r g:r m:r m:r o:r", "o:r",
		"u:r u1:r u1:w u1:r g:r m:r o:r", "u:r u2:r u1:r g:r m:r o:r", "u:r u4294967295:r g:r m:r o:r" };
	for (int i = 0; i < (int)(sizeof wrong / sizeof *wrong); i++)
		set("f", ACC, wrong[i]);
	get("f");
	set("f", DEF, "u:r g:r o:r"), set("d", DEF, "u:r g:r o:"), get("d"), set("l", ACC, "u:r g:r o:r"), set("p", ACC, "u:r u3:r g:r m:r o:r"), get("p");
	set("d", ACC, "u:rwx u5:x g:r m:x o:"), get("d");
	setxattr("d", "trusted.z", "", 0, 0);
	int n = listxattr("d", b, 600);
	for (int i = 0; i < n; i += strlen(b + i) + 1)
		say("  %s", b + i);
	R(removexattr("d", DEF)), R(removexattr("d", DEF)), R(removexattr("d", ACC)), R(removexattr("f", DEF)), R(lremovexattr("l", ACC)), get("d");
	R(setxattr("f", "system.posix_acl", v, 4, 0)), R(getxattr("f", "system.posix_acl_accessx", b, 600)), R(removexattr("f", "system."));
	R(setxattr("f", ACC, (void *)8, 20, 0)), R(getxattr("/proc/self/status", ACC, b, 600)), R(setxattr("/proc/self/status", ACC, v, 4, 0));
	int q[2];
	R(pipe(q)), R(fgetxattr(q[0], ACC, b, 600));
	R(setxattr("none", ACC, v, 4, 0));
	mount("", "/tmp/acl", 0, MS_REMOUNT | MS_RDONLY, 0), set("f", ACC, "u:r g:r o:r"), R(removexattr("f", ACC));
}

CASE(owner, setxattr, removexattr)
{
	fresh("/tmp/acl");
	made("f", ""), mkdir("d", 0777), chown("f", 1000, 7), chmod("f", 02755);
	seteuid(1001);
	set("f", ACC, "u:rw g:r o:r"), set("f", ACC, "u:rw g:r"), set("d", DEF, "u:r g:r o:r"), set("f", DEF, "u:r g:r o:r");
	R(removexattr("f", ACC)), R(removexattr("f", DEF)), R(setxattr("f", ACC, "\1\0\0\0", 4, 0));
	seteuid(0);
	pid_t p = fork();
	if (!p) {
		setgroups(0, 0), setresgid(1000, 1000, 1000), setresuid(1000, 1000, 1000);
		set("f", ACC, "u:rw u5:r g:r m:rwx o:r"), get("f"); /* the owner is not in the group: no set-id */
		_exit(0);
	}
	waitpid(p, 0, 0);
	chmod("f", 02755), set("f", ACC, "u:rw g:rx o:r"), get("f");
}

CASE(permission, access, lsetxattr)
{
	fresh("/tmp/acl");
	made("f", "x"), chown("f", 500, 50);
	set("f", ACC, "u:r u1000:rwx u1001: g:r g7:w g8:x m:rw o:rwx"), get("f");
	as("f", 500, 50, 0), as("f", 1000, 1, 0), as("f", 1001, 50, 7), as("f", 2000, 50, 0), as("f", 2000, 7, 0), as("f", 2000, 8, 0), as("f", 2000, 7, 50), as("f", 2000, 8, 7), as("f", 2000, 9, 0), as("f", 0, 0, 0);
	set("f", ACC, "u:r u1000:rwx g:rwx g7:w m: o:rwx"), get("f");
	as("f", 1000, 1, 0), as("f", 2000, 7, 0), as("f", 2000, 50, 0), as("f", 3, 3, 0);
	set("f", ACC, "u: u1000:r u1000:w g: m:rwx o:");
	as("f", 500, 50, 0), as("f", 1000, 1, 0), as("f", 2000, 50, 0);
	set("f", ACC, "u:rw u1000:r g:rwx m:r o:rw");
	say("chmod"), chmod("f", 0666), get("f"), as("f", 1000, 1, 0), as("f", 2000, 50, 0);
	chmod("f", 0601), get("f"), as("f", 1000, 1, 0), as("f", 2000, 50, 0), as("f", 3, 3, 0);
	chmod("f", 06777), get("f"), chown("f", 1000, 1000), get("f");
	/* directories */
	mkdir("d", 0700), made("d/in", "x"), chmod("d/in", 0666);
	as("d/in", 1000, 1000, 0), set("d", ACC, "u:rwx u1000:x g: m:x o:"), as("d/in", 1000, 1000, 0), as("d/in", 1001, 1000, 0), get("d");
	/* a link, a rename and an unlink keep and lose them */
	set("f", ACC, "u:rw u1000:r g:rwx m:r o:rw"), link("f", "g"), get("g"), rename("g", "h"), get("h"), unlink("f"), get("h");
	int fd = open("h", O_RDWR);
	R(fchmod(fd, 0640)), get("h"), R(fsetxattr(fd, ACC, v, acl("u:rwx u9:rwx g:rwx m:w o:rwx"), 0)), get("h"), R(fremovexattr(fd, ACC)), get("h");
}

CASE(inherit, mkdir, openat, umask, symlink)
{
	fresh("/tmp/acl");
	mkdir("d", 0755);
	set("d", DEF, "u:rwx u1000:rwx g:rx g7:rx m:rwx o:rx"), umask(077);
	made("d/f", ""), get("d/f");
	mkdir("d/sub", 0777), get("d/sub"), mkdir("d/sub/sub", 0700), get("d/sub/sub"), mkdir("d/t", 01777), get("d/t");
	mknod("d/fifo", S_IFIFO | 0666, 0), get("d/fifo"), symlink("f", "d/l"), get("d/l"), mknod("d/null", S_IFCHR | 0622, 0x103), get("d/null");
	close(open("d/x", O_CREAT | O_WRONLY, 0777)), get("d/x"), close(open("d/none", O_CREAT | O_WRONLY, 0)), get("d/none"), close(open("d/gw", O_CREAT | O_WRONLY, 0420)), get("d/gw");
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un a = { AF_UNIX, "d/sock" };
	R(bind(s, (void *)&a, sizeof a)), get("d/sock");
	int t = open("d", O_TMPFILE | O_RDWR, 0666);
	char path[40];
	sprintf(path, "/proc/self/fd/%d", t);
	R(linkat(AT_FDCWD, path, AT_FDCWD, "d/tmp", AT_SYMLINK_FOLLOW)), get("d/tmp");
	/* a minimal default list: only the mode */
	mkdir("m", 0755), get("m"), set("m", DEF, "u:rwx g:rwx o:r"), made("m/f", ""), get("m/f"), mkdir("m/d", 0777), get("m/d");
	close(open("m/x", O_CREAT | O_WRONLY, 0777)), get("m/x");
	/* without a mask: the group's entry bounds */
	removexattr("m", DEF), close(open("m/plain", O_CREAT | O_WRONLY, 0777)), get("m/plain");
	/* a set-group-id directory, and a move of what has none */
	mkdir("g", 0755), chown("g", 0, 7), chmod("g", 02775), set("g", DEF, "u:rwx g:rwx g9:rwx m:rwx o:");
	mkdir("g/d", 0777), get("g/d"), rename("m/plain", "g/plain"), get("g/plain");
	umask(022);
}

CASE(root, lsetxattr, lgetxattr, mkdir)
{
	/* On the file system of the root, where files come from the image. */
	umask(022);
	made("/root-file", "x"), mkdir("/root-dir", 0755);
	set("/root-file", ACC, "u:rw u1000:r g:r m:r o:"), get("/root-file"), as("/root-file", 1000, 1000, 0), as("/root-file", 1001, 1001, 0);
	chmod("/root-file", 0600), get("/root-file"), as("/root-file", 1000, 1000, 0);
	set("/root-dir", DEF, "u:rwx u1000:rx g:rx m:rx o:"), mkdir("/root-dir/sub", 0777), get("/root-dir/sub"), made("/root-dir/f", ""), get("/root-dir/f");
	unlink("/root-file"), unlink("/root-dir/f"), rmdir("/root-dir/sub"), rmdir("/root-dir");
}
CASES
