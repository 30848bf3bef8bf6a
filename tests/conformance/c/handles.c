/* name_to_handle_at and open_by_handle_at; ustat, sysfs and quotactl, of which little is left. */
#include "files.h"
#include <sys/sysmacros.h>
#include <sys/quota.h>

struct handle { struct file_handle h; unsigned char more[128]; };

static char *buf_of(int i) { static char b[256]; return b; }
static struct handle h, g;
static int id, id2;

static void nobody(void)
{
	h.h.handle_bytes = 128;
	R(name_to_handle_at(AT_FDCWD, "f", &h.h, &id, 0));
	R(open_by_handle_at(AT_FDCWD, &h.h, O_RDONLY));
	R(open_by_handle_at(99, BAD, O_RDONLY));
}

CASE(name, name_to_handle_at)
{
	fresh("/tmp/hd");
	made("f", "content");
	symlink("f", "l");
	mkdir("d", 0755);
	h.h.handle_bytes = 0;
	R(name_to_handle_at(AT_FDCWD, "f", &h.h, &id, 0));
	say("needs %u", h.h.handle_bytes);
	h.h.handle_bytes = 4;
	R(name_to_handle_at(AT_FDCWD, "f", &h.h, &id, 0));
	h.h.handle_bytes = 128;
	R(name_to_handle_at(AT_FDCWD, "f", &h.h, &id, 0));
	say("type %d bytes %u", h.h.handle_type, h.h.handle_bytes);
	g.h.handle_bytes = 128;
	R(name_to_handle_at(AT_FDCWD, "l", &g.h, &id2, AT_SYMLINK_FOLLOW));
	IS(id == id2 && !memcmp(&h, &g, sizeof h.h + h.h.handle_bytes));
	g.h.handle_bytes = 128;
	R(name_to_handle_at(AT_FDCWD, "l", &g.h, &id2, 0));
	IS(memcmp(&h, &g, sizeof h.h + h.h.handle_bytes) != 0);
	g.h.handle_bytes = 128;
	R(name_to_handle_at(open("f", O_RDONLY), "", &g.h, &id2, AT_EMPTY_PATH));
	IS(!memcmp(&h, &g, sizeof h.h + h.h.handle_bytes));
	R(name_to_handle_at(AT_FDCWD, "f", &g.h, &id2, AT_SYMLINK_NOFOLLOW));
	R(name_to_handle_at(AT_FDCWD, "", &g.h, &id2, 0));
	R(name_to_handle_at(AT_FDCWD, "missing", &g.h, &id2, 0));
	R(name_to_handle_at(AT_FDCWD, BAD, &g.h, &id2, 0));
	R(name_to_handle_at(AT_FDCWD, "f", BAD, &id2, 0));
	g.h.handle_bytes = 128;
	R(name_to_handle_at(AT_FDCWD, "f", &g.h, BAD, 0));
	g.h.handle_bytes = 129;
	R(name_to_handle_at(AT_FDCWD, "f", &g.h, &id2, 0));
	g.h.handle_bytes = 128;
	R(name_to_handle_at(99, "f", &g.h, &id2, 0));
	R(name_to_handle_at(AT_FDCWD, "/proc/self/status", &g.h, &id2, 0));
	R(name_to_handle_at(AT_FDCWD, "d", &g.h, &id2, 0));
}

CASE(open, open_by_handle_at)
{
	fresh("/tmp/hd");
	int fd = made("f", "content"), m = open(".", O_RDONLY);
	mkdir("d", 0755), mkdir("d/e", 0755);
	made("d/e/deep", "deep content");
	symlink("f", "l");
	h.h.handle_bytes = 128;
	MUST(name_to_handle_at(AT_FDCWD, "f", &h.h, &id, 0));
	int o = open_by_handle_at(m, &h.h, O_RDWR);
	content("opened", o);
	R(write(o, "C", 1));
	content("the same", fd);
	rename("f", "d/moved");
	content("moved", open_by_handle_at(m, &h.h, O_RDONLY));
	content("by the cwd", open_by_handle_at(AT_FDCWD, &h.h, O_RDONLY));
	g.h.handle_bytes = 128;
	MUST(name_to_handle_at(AT_FDCWD, "d/e/deep", &g.h, &id, 0));
	content("deep", open_by_handle_at(m, &g.h, O_RDONLY));
	g.h.handle_bytes = 128;
	MUST(name_to_handle_at(AT_FDCWD, "d/e", &g.h, &id, 0));
	R(openat(open_by_handle_at(m, &g.h, O_RDONLY | O_DIRECTORY), "deep", O_RDONLY) >= 0);
	R(open_by_handle_at(m, &g.h, O_RDWR));
	g.h.handle_bytes = 128;
	MUST(name_to_handle_at(AT_FDCWD, "l", &g.h, &id, 0));
	R(open_by_handle_at(m, &g.h, O_RDONLY));
	R(open_by_handle_at(m, &g.h, O_PATH) >= 0);
	as_user(nobody);
	R(open_by_handle_at(99, &h.h, O_RDONLY));
	R(open_by_handle_at(m, BAD, O_RDONLY));
	h.h.handle_bytes = 0;
	R(open_by_handle_at(m, &h.h, O_RDONLY));
	h.h.handle_bytes = 129;
	R(open_by_handle_at(m, &h.h, O_RDONLY));
	h.h.handle_bytes = 4;
	R(open_by_handle_at(m, &h.h, O_RDONLY));
	h.h.handle_bytes = 12;
	R(open_by_handle_at(open("/proc", O_RDONLY), &h.h, O_RDONLY));
	h.h.f_handle[4] ^= 0x55;
	R(open_by_handle_at(m, &h.h, O_RDONLY));
	h.h.f_handle[4] ^= 0x55;
	h.h.handle_type = 9;
	R(open_by_handle_at(m, &h.h, O_RDONLY));
	h.h.handle_type = 1;
	close(fd), close(o);
	for (int i = 3; i < 30; i++)
		if (i != m)
			close(i);
	unlink("d/moved");
	R(open_by_handle_at(m, &h.h, O_RDONLY));
}

CASE(ustat, ustat)
{
	fresh("/tmp/hd");
	struct { int tfree; long tinode; char name[12]; } u;
	struct stat st;
	stat(".", &st);
	u.tfree = -1;
	R(syscall(SYS_ustat, (unsigned)st.st_dev, &u));
	say("%d %s", u.tfree > 0, u.name);
	R(syscall(SYS_ustat, 0x9999, &u));
	R(syscall(SYS_ustat, (unsigned)st.st_dev, BAD));
}

CASE(sysfs, sysfs)
{
	char name[64];
	R(syscall(SYS_sysfs, 0, 0, 0));
	R(syscall(SYS_sysfs, 4, 0, 0));
	R(syscall(SYS_sysfs, 1, "nosuchfs", 0));
	R(syscall(SYS_sysfs, 1, BAD, 0));
	int i = syscall(SYS_sysfs, 1, "tmpfs", 0);
	IS(i >= 0);
	R(syscall(SYS_sysfs, 2, i, name));
	say("%s", name);
	R(syscall(SYS_sysfs, 2, i, BAD));
	R(syscall(SYS_sysfs, 2, 9999, name));
	IS(syscall(SYS_sysfs, 3, 0, 0) > i);
}

CASE(quotactl, quotactl)
{
	fresh("/tmp/hd");
	made("f", "x");
	R(quotactl(QCMD(Q_SYNC, USRQUOTA), 0, 0, 0));
	R(quotactl(QCMD(Q_SYNC, 9), 0, 0, 0));
	R(quotactl(QCMD(Q_GETQUOTA, USRQUOTA), 0, 0, buf_of(0)));
	R(quotactl(QCMD(Q_GETQUOTA, USRQUOTA), "missing", 0, buf_of(0)));
	R(quotactl(QCMD(Q_GETQUOTA, USRQUOTA), "f", 0, buf_of(0)));
	R(quotactl(QCMD(Q_GETQUOTA, USRQUOTA), "/dev/null", 0, buf_of(0)));
	R(quotactl(QCMD(Q_QUOTAON, 9), "f", 0, buf_of(0)));
	R(quotactl(-1, "f", 0, buf_of(0)));
	R(syscall(443, open(".", O_RDONLY), QCMD(Q_GETQUOTA, USRQUOTA), 0, buf_of(0)));
	R(syscall(443, 99, QCMD(Q_GETQUOTA, USRQUOTA), 0, buf_of(0)));
	R(syscall(443, open(".", O_RDONLY), QCMD(Q_GETQUOTA, 9), 0, buf_of(0)));
}

/* A handle leads out of what a bind mount shows, and to no name there. */
CASE(beside, open_by_handle_at, mount, readlink)
{
	char l[64], b[200] = "";
	fresh("/tmp/hd");
	mkdir("d", 0755), mkdir("m", 0755), mkdir("e", 0755);
	close(made("e/f", "content"));
	MUST(mount("d", "m", 0, MS_BIND, 0));
	int m = open("m", O_RDONLY);
	static const char *names[] = { "e/f", "e", "." };
	for (int i = 0; i < 3; i++) {
		h.h.handle_bytes = 128;
		MUST(name_to_handle_at(AT_FDCWD, names[i], &h.h, &id, 0));
		int fd = open_by_handle_at(m, &h.h, O_RDONLY);
		IS(fd >= 0);
		snprintf(l, sizeof l, "/proc/self/fd/%d", fd);
		memset(b, 0, sizeof b);
		R(readlink(l, b, sizeof b - 1));
		say("%s: %s", names[i], b);
		if (i == 0)
			continue;
		R(fchdir(fd));
		IS(getcwd(b, sizeof b) != 0);
		say("%s: %s", names[i], b);
		R(access("..", F_OK));
		chdir("/tmp/hd");
	}
}

CASES
