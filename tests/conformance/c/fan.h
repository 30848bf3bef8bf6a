/* fan.h: what the families of fanotify share: the calls, and how events are printed. */
#ifndef FAN_H
#define FAN_H
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <poll.h>

#ifndef FAN_REPORT_PIDFD
#define FAN_REPORT_PIDFD 0x80
#endif
#ifndef FAN_REPORT_DIR_FID
#define FAN_REPORT_DIR_FID 0x400
#define FAN_REPORT_NAME 0x800
#endif
#ifndef FAN_REPORT_TARGET_FID
#define FAN_REPORT_TARGET_FID 0x1000
#endif
#ifndef FAN_FS_ERROR
#define FAN_FS_ERROR 0x8000
#endif
#ifndef FAN_RENAME
#define FAN_RENAME 0x10000000
#endif
#ifndef FAN_MARK_EVICTABLE
#define FAN_MARK_EVICTABLE 0x200
#endif
#ifndef FAN_MARK_IGNORE
#define FAN_MARK_IGNORE 0x400
#endif
#ifndef FAN_REPORT_DFID_NAME
#define FAN_REPORT_DFID_NAME (FAN_REPORT_DIR_FID | FAN_REPORT_NAME)
#endif
#ifndef FAN_REPORT_DFID_NAME_TARGET
#define FAN_REPORT_DFID_NAME_TARGET (FAN_REPORT_DFID_NAME | FAN_REPORT_FID | FAN_REPORT_TARGET_FID)
#endif

__attribute__((unused)) static int init(unsigned flags, unsigned events) { return syscall(SYS_fanotify_init, flags, events); }
__attribute__((unused)) static int mark(int fd, unsigned flags, uint64_t mask, int at, const char *path) { return syscall(SYS_fanotify_mark, fd, flags, mask, at, path); }

static char ebuf[16384];

__attribute__((unused)) static void touch(const char *name)
{
	int fd = open(name, O_CREAT | O_RDWR, 0644);
	write(fd, "x", 1);
	pread(fd, ebuf, 1, 0);
	close(fd);
}

__attribute__((unused)) static const char *bits(uint64_t m)
{
	static char s[400];
	static const struct { uint64_t b; const char *n; } t[] = { { FAN_ACCESS, " access" }, { FAN_MODIFY, " modify" }, { FAN_ATTRIB, " attrib" }, { FAN_CLOSE_WRITE, " close_write" }, { FAN_CLOSE_NOWRITE, " close_nowrite" },
		{ FAN_OPEN, " open" }, { FAN_MOVED_FROM, " moved_from" }, { FAN_MOVED_TO, " moved_to" }, { FAN_CREATE, " create" }, { FAN_DELETE, " delete" }, { FAN_DELETE_SELF, " delete_self" }, { FAN_MOVE_SELF, " move_self" },
		{ FAN_OPEN_EXEC, " open_exec" }, { FAN_Q_OVERFLOW, " overflow" }, { FAN_OPEN_PERM, " open_perm" }, { FAN_ACCESS_PERM, " access_perm" }, { FAN_OPEN_EXEC_PERM, " open_exec_perm" }, { FAN_RENAME, " rename" }, { FAN_ONDIR, " ondir" } };
	s[0] = 0;
	for (unsigned i = 0; i < sizeof t / sizeof *t; i++)
		if (m & t[i].b)
			strcat(s, t[i].n), m &= ~t[i].b;
	if (m)
		strcat(s, " and others");
	return s;
}

/* Handles by what they are called in the output. */
static struct { const char *what; int type; unsigned n; unsigned char b[128]; } knowns[32];
static int nknowns;

__attribute__((unused)) static void known(const char *what, const char *path)
{
	struct { unsigned n; int type; unsigned char b[128]; } h = { 128, 0, { 0 } };
	int mnt;
	if (syscall(SYS_name_to_handle_at, AT_FDCWD, path, &h, &mnt, 0) < 0) {
		say("handle of %s: %s", path, errname(errno));
		return;
	}
	knowns[nknowns].what = what;
	knowns[nknowns].type = h.type;
	knowns[nknowns].n = h.n;
	memcpy(knowns[nknowns++].b, h.b, h.n);
}

/* drain prints what is queued, without descriptors; who is the process that did it. */
__attribute__((unused)) static void drain(int g, int who)
{
	int n = read(g, ebuf, sizeof ebuf);
	if (n < 0) {
		say("read: %s", errname(errno));
		return;
	}
	struct fanotify_event_metadata *e = (void *)ebuf;
	for (; FAN_EVENT_OK(e, n); e = FAN_EVENT_NEXT(e, n)) {
		say("%d:%s by %s%s", e->event_len, bits(e->mask), e->pid == who ? "it" : e->pid ? "another" : "none", e->fd == FAN_NOFD ? "" : " with a descriptor");
		for (unsigned o = e->metadata_len; o < e->event_len;) {
			unsigned char *r = (unsigned char *)e + o;
			unsigned len = r[2] | r[3] << 8, hn = *(unsigned *)(r + 12), at = 20 + hn;
			int type = *(int *)(r + 16);
			const char *what = "a handle", *name = at < len ? (char *)r + at : "";
			for (int i = nknowns - 1; i >= 0; i--)
				if (knowns[i].n == hn && knowns[i].type == type && !memcmp(knowns[i].b, r + 20, hn)) {
					what = knowns[i].what;
					break;
				}
			say("  record %d of %u: %s%s%s", r[0], len, what, *name ? " name " : "", name);
			if (!len)
				break;
			o += len;
		}
		if (e->fd >= 0)
			close(e->fd);
	}
}
#endif
