/* fanotify groups whose events have handles (FAN_REPORT_FID and its kin): what is reported, with which records, and what is refused. */
#include "files.h"
#include "fan.h"

CASE(fidinit, fanotify_init)
{
	R(init(FAN_REPORT_FID | FAN_CLASS_CONTENT, 0));
	R(init(FAN_REPORT_DIR_FID | FAN_CLASS_PRE_CONTENT, 0));
	R(init(FAN_REPORT_NAME, 0));
	R(init(FAN_REPORT_NAME | FAN_REPORT_FID, 0));
	R(init(FAN_REPORT_TARGET_FID | FAN_REPORT_FID, 0));
	R(init(FAN_REPORT_TARGET_FID | FAN_REPORT_NAME | FAN_REPORT_DIR_FID, 0));
	OK(init(FAN_REPORT_FID, 0));
	OK(init(FAN_REPORT_DIR_FID, 0));
	OK(init(FAN_REPORT_DIR_FID | FAN_REPORT_NAME | FAN_REPORT_PIDFD, 0));
	OK(init(FAN_REPORT_FID | FAN_REPORT_DIR_FID | FAN_REPORT_TID, 0));
	OK(init(FAN_REPORT_FID | FAN_REPORT_DIR_FID | FAN_REPORT_NAME | FAN_REPORT_TARGET_FID, 0));
	OK(init(FAN_ENABLE_AUDIT | FAN_CLASS_CONTENT, 0));
	setuid(1000);
	R(init(FAN_REPORT_FID | FAN_REPORT_TID, 0));
	R(init(FAN_REPORT_FID | FAN_REPORT_PIDFD, 0));
	R(init(FAN_REPORT_FID | FAN_UNLIMITED_QUEUE, 0));
	R(init(FAN_REPORT_FID | FAN_UNLIMITED_MARKS, 0));
	R(init(FAN_REPORT_FID | FAN_CLASS_CONTENT, 0));
	R(init(FAN_REPORT_FID | FAN_ENABLE_AUDIT, 0));
	R(init(FAN_REPORT_NAME, 0));
	OK(init(FAN_REPORT_FID | FAN_CLOEXEC | FAN_NONBLOCK, 0));
}

CASE(fidmark, fanotify_mark)
{
	fresh("/tmp/fan");
	mkdir("d", 0755);
	touch("d/f");
	int fid = init(FAN_REPORT_FID | FAN_NONBLOCK, 0), dir = init(FAN_REPORT_DIR_FID | FAN_NONBLOCK, 0);
	int name = init(FAN_REPORT_DFID_NAME | FAN_NONBLOCK, 0), all = init(FAN_REPORT_DFID_NAME_TARGET | FAN_NONBLOCK, 0);
	R(mark(fid, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN, AT_FDCWD, "d"));
	R(mark(fid, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_CREATE, AT_FDCWD, "d"));
	R(mark(fid, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_ATTRIB, AT_FDCWD, "d"));
	R(mark(fid, FAN_MARK_ADD, FAN_CREATE, AT_FDCWD, "d/f"));
	R(mark(fid, FAN_MARK_ADD, FAN_OPEN | FAN_ONDIR, AT_FDCWD, "d/f"));
	R(mark(fid, FAN_MARK_ADD, FAN_RENAME, AT_FDCWD, "d"));
	R(mark(dir, FAN_MARK_ADD, FAN_RENAME, AT_FDCWD, "d"));
	R(mark(name, FAN_MARK_ADD, FAN_RENAME, AT_FDCWD, "d"));
	R(mark(name, FAN_MARK_ADD, FAN_RENAME, AT_FDCWD, "d/f"));
	R(mark(all, FAN_MARK_ADD, FAN_CREATE, AT_FDCWD, "d/f"));
	R(mark(all, FAN_MARK_ADD, FAN_OPEN | FAN_ONDIR, AT_FDCWD, "d/f"));
	R(mark(all, FAN_MARK_ADD, FAN_OPEN | FAN_EVENT_ON_CHILD, AT_FDCWD, "d/f"));
	R(mark(all, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "d/f"));
	R(mark(all, FAN_MARK_ADD, FAN_ATTRIB | FAN_DELETE_SELF | FAN_MOVE_SELF, AT_FDCWD, "d/f"));
	R(mark(fid, FAN_MARK_ADD | FAN_MARK_IGNORE | FAN_MARK_IGNORED_SURV_MODIFY, FAN_OPEN | FAN_ONDIR, AT_FDCWD, "d/f"));
	R(mark(fid, FAN_MARK_ADD, FAN_FS_ERROR, AT_FDCWD, "d"));
	R(mark(fid, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_FS_ERROR, AT_FDCWD, "d"));
	R(mark(fid, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, "d"));
	R(mark(fid, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "/proc/self/status"));
	R(mark(fid, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_OPEN, AT_FDCWD, "/proc"));
	R(mark(fid, FAN_MARK_REMOVE | FAN_MARK_FILESYSTEM, FAN_DELETE, AT_FDCWD, "d"));
	R(mark(dir, FAN_MARK_REMOVE | FAN_MARK_FILESYSTEM, FAN_DELETE, AT_FDCWD, "d"));
}

/* play does a bit of everything with files. */
static void play(void)
{
	mkdir("d/sub", 0700);
	touch("d/a");
	chmod("d/a", 0600);
	truncate("d/a", 3);
	rename("d/a", "d/sub/b");
	link("d/sub/b", "d/c");
	unlink("d/c");
	symlink("x", "d/l");
	unlink("d/l");
	close(open("d/sub", O_RDONLY));
	chmod("d/sub", 0755);
	unlink("d/sub/b");
	rename("d/sub", "d/tub");
	rmdir("d/tub");
}

#define EVERY (FAN_ACCESS | FAN_MODIFY | FAN_CLOSE | FAN_OPEN | FAN_OPEN_EXEC | FAN_ATTRIB | FAN_CREATE | FAN_DELETE | FAN_MOVE | FAN_DELETE_SELF | FAN_MOVE_SELF)

static void all_of(unsigned flags, unsigned kind, uint64_t mask)
{
	int g = init(flags | FAN_NONBLOCK, 0);
	mkdir("d", 0755);
	say("-- %x %x", flags, kind);
	R(mark(g, FAN_MARK_ADD | kind, mask, AT_FDCWD, "d"));
	play();
	known("the root", ".");
	known("d", "d");
	drain(g, getpid());
	close(g);
}

CASE(fiddir, fanotify_mark, fanotify_init, read)
{
	fresh("/tmp/fan");
	all_of(FAN_REPORT_FID, 0, EVERY);
	all_of(FAN_REPORT_FID, 0, EVERY | FAN_ONDIR | FAN_EVENT_ON_CHILD);
	all_of(FAN_REPORT_DIR_FID, 0, EVERY | FAN_ONDIR | FAN_EVENT_ON_CHILD);
	all_of(FAN_REPORT_DFID_NAME, 0, EVERY);
	all_of(FAN_REPORT_DFID_NAME, 0, EVERY | FAN_ONDIR | FAN_EVENT_ON_CHILD);
	all_of(FAN_REPORT_DIR_FID | FAN_REPORT_FID, 0, EVERY | FAN_ONDIR | FAN_EVENT_ON_CHILD);
	all_of(FAN_REPORT_DFID_NAME | FAN_REPORT_FID, 0, EVERY | FAN_ONDIR | FAN_EVENT_ON_CHILD | FAN_RENAME);
	all_of(FAN_REPORT_DFID_NAME_TARGET, 0, EVERY | FAN_ONDIR | FAN_EVENT_ON_CHILD | FAN_RENAME);
}

CASE(fidfs, fanotify_mark, fanotify_init, read)
{
	fresh("/tmp/fan");
	all_of(FAN_REPORT_FID, FAN_MARK_FILESYSTEM, EVERY);
	all_of(FAN_REPORT_FID, FAN_MARK_FILESYSTEM, EVERY | FAN_ONDIR);
	all_of(FAN_REPORT_DIR_FID, FAN_MARK_FILESYSTEM, EVERY);
	all_of(FAN_REPORT_DFID_NAME, FAN_MARK_FILESYSTEM, EVERY | FAN_ONDIR);
	all_of(FAN_REPORT_DFID_NAME | FAN_REPORT_FID, FAN_MARK_FILESYSTEM, EVERY | FAN_ONDIR);
	all_of(FAN_REPORT_DFID_NAME_TARGET, FAN_MARK_FILESYSTEM, EVERY | FAN_ONDIR | FAN_RENAME);
}

CASE(fidself, fanotify_mark, fanotify_init, read)
{
	fresh("/tmp/fan");
	static const unsigned modes[] = { FAN_REPORT_FID, FAN_REPORT_DIR_FID, FAN_REPORT_DFID_NAME, FAN_REPORT_DFID_NAME_TARGET };
	for (int i = 0; i < 4; i++) {
		int g = init(modes[i] | FAN_NONBLOCK, 0);
		mkdir("d", 0755);
		touch("d/f");
		touch("d/o");
		say("-- %x", modes[i]);
		R(mark(g, FAN_MARK_ADD, FAN_ATTRIB | FAN_MODIFY | FAN_OPEN | FAN_MOVE_SELF | FAN_DELETE_SELF, AT_FDCWD, "d/f"));
		known("f", "d/f");
		known("d", "d");
		chmod("d/f", 0600);
		drain(g, getpid());
		touch("d/f");
		drain(g, getpid());
		rename("d/f", "d/g");
		drain(g, getpid());
		rename("d/o", "d/g"); /* the last name of f */
		drain(g, getpid());
		/* The mark has gone with the file. */
		touch("d/g");
		drain(g, getpid());
		close(g);
	}
}

CASE(fidrename, fanotify_mark, fanotify_init, read)
{
	fresh("/tmp/fan");
	int old = init(FAN_REPORT_DFID_NAME | FAN_NONBLOCK, 0), new = init(FAN_REPORT_DFID_NAME_TARGET | FAN_NONBLOCK, 0), fs = init(FAN_REPORT_DFID_NAME | FAN_NONBLOCK, 0);
	mkdir("a", 0755);
	mkdir("b", 0755);
	touch("a/f");
	mkdir("a/s", 0755);
	known("a", "a");
	known("b", "b");
	known("f", "a/f");
	known("s", "a/s");
	R(mark(old, FAN_MARK_ADD, FAN_RENAME, AT_FDCWD, "a"));
	R(mark(new, FAN_MARK_ADD, FAN_RENAME | FAN_ONDIR, AT_FDCWD, "b"));
	R(mark(fs, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_RENAME | FAN_MOVE, AT_FDCWD, "b"));
	rename("a/f", "b/g");
	rename("a/s", "b/t");
	rename("b/g", "b/h");
	touch("a/k");
	syscall(SYS_renameat2, AT_FDCWD, "a/k", AT_FDCWD, "b/h", 2 /* RENAME_EXCHANGE */);
	known("k", "b/h");
	say("- old");
	drain(old, getpid());
	say("- new");
	drain(new, getpid());
	say("- fs");
	drain(fs, getpid());
}

CASE(fidignored, fanotify_mark, fanotify_init, read)
{
	fresh("/tmp/fan");
	int g = init(FAN_REPORT_DFID_NAME | FAN_NONBLOCK, 0);
	mkdir("d", 0755);
	mkdir("d/s", 0755);
	touch("d/f");
	known("d", "d");
	known("d/s", "d/s");
	R(mark(g, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_OPEN | FAN_CLOSE_WRITE | FAN_CREATE | FAN_ONDIR, AT_FDCWD, "."));
	R(mark(g, FAN_MARK_ADD | FAN_MARK_IGNORE | FAN_MARK_IGNORED_SURV_MODIFY, FAN_OPEN | FAN_CREATE | FAN_EVENT_ON_CHILD, AT_FDCWD, "d"));
	touch("d/f");
	touch("d/n");
	mkdir("d/m", 0755);
	close(open("d", O_RDONLY));
	close(open("d/s", O_RDONLY));
	touch("d/s/x");
	drain(g, getpid());
	R(mark(g, FAN_MARK_ADD | FAN_MARK_IGNORE | FAN_MARK_IGNORED_SURV_MODIFY, FAN_ONDIR, AT_FDCWD, "d"));
	close(open("d", O_RDONLY));
	mkdir("d/m2", 0755);
	touch("d/f");
	drain(g, getpid());
	R(mark(g, FAN_MARK_REMOVE | FAN_MARK_IGNORE, FAN_OPEN | FAN_CREATE | FAN_ONDIR | FAN_EVENT_ON_CHILD, AT_FDCWD, "d"));
	touch("d/f");
	drain(g, getpid());
	/* An ignored mask on a file that is open for writing is not taken. */
	R(mark(g, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "d/f"));
	int fd = open("d/f", O_RDWR);
	R(mark(g, FAN_MARK_ADD | FAN_MARK_IGNORED_MASK, FAN_OPEN, AT_FDCWD, "d/f"));
	drain(g, getpid());
	close(open("d/f", O_RDONLY));
	drain(g, getpid());
	close(fd);
	R(mark(g, FAN_MARK_ADD | FAN_MARK_IGNORED_MASK, FAN_OPEN, AT_FDCWD, "d/f"));
	drain(g, getpid());
	close(open("d/f", O_RDONLY));
	drain(g, getpid());
}

static void listen_and(void)
{
	int g = init(FAN_REPORT_DFID_NAME | FAN_NONBLOCK, 0);
	R(mark(g, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_OPEN, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "secret"));
	R(mark(g, FAN_MARK_ADD, FAN_OPEN | FAN_CREATE | FAN_EVENT_ON_CHILD, AT_FDCWD, "d"));
	close(open("d/f", O_RDONLY));
	drain(g, getpid());
	int c = fork();
	if (!c) {
		close(open("d/f", O_RDONLY));
		_exit(0);
	}
	waitpid(c, 0, 0);
	drain(g, c);
	R(mark(g, FAN_MARK_FLUSH, 0, AT_FDCWD, "d"));
	close(open("d/f", O_RDONLY));
	drain(g, getpid());
}

CASE(fiduser, fanotify_mark, fanotify_init, read)
{
	fresh("/tmp/fan");
	mkdir("d", 0777);
	touch("d/f");
	touch("secret");
	chmod("secret", 0600);
	known("d", "d");
	as_user(listen_and);
}

CASE(fidsizes, read, fanotify_init)
{
	fresh("/tmp/fan");
	int g = init(FAN_REPORT_DFID_NAME | FAN_REPORT_FID | FAN_REPORT_PIDFD | FAN_NONBLOCK, 0), n;
	mkdir("d", 0755);
	R(mark(g, FAN_MARK_ADD, FAN_CREATE | FAN_OPEN | FAN_EVENT_ON_CHILD, AT_FDCWD, "d"));
	touch("d/abc");
	touch("d/abcdefgh");
	R(ioctl(g, FIONREAD, &n));
	R(n);
	R(read(g, ebuf, 24));
	R(read(g, ebuf, 71));
	R(read(g, ebuf, 130));
	R(read(g, (char *)8, 4096));
	R(read(g, ebuf, sizeof ebuf));
	R(read(g, ebuf, sizeof ebuf));
	/* A queue that is full. */
	int fd = open("/proc/sys/fs/fanotify/max_queued_events", O_RDWR);
	char old[32] = "";
	int k = read(fd, old, sizeof old - 1);
	pwrite(fd, "3", 1, 0);
	g = init(FAN_REPORT_DFID_NAME | FAN_NONBLOCK, 0);
	pwrite(fd, old, k, 0);
	R(mark(g, FAN_MARK_ADD, FAN_CREATE, AT_FDCWD, "d"));
	for (int i = 0; i < 6; i++) {
		char name[16];
		snprintf(name, sizeof name, "d/n%d", i);
		close(open(name, O_CREAT | O_RDWR, 0600));
	}
	known("d", "d");
	drain(g, getpid());
}

/* Each flag in a call that is refused and in one that is not. */
CASE(everyinit, fanotify_init)
{
	static const unsigned flags[] = { FAN_CLOEXEC, FAN_NONBLOCK, FAN_CLASS_CONTENT, FAN_CLASS_PRE_CONTENT, FAN_UNLIMITED_QUEUE, FAN_UNLIMITED_MARKS, FAN_ENABLE_AUDIT, FAN_REPORT_PIDFD, FAN_REPORT_TID,
		FAN_REPORT_FID, FAN_REPORT_DIR_FID, FAN_REPORT_DFID_NAME, FAN_REPORT_DFID_NAME_TARGET };
	static const unsigned events[] = { O_RDONLY, O_WRONLY, O_RDWR, O_APPEND, O_NONBLOCK, O_SYNC, O_DSYNC, O_CLOEXEC, O_LARGEFILE, O_NOATIME };
	for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++) {
		int r = init(flags[i], O_CREAT);
		say("%x: %s", flags[i], r < 0 ? errname(errno) : "taken");
		r = init(flags[i], 0);
		say("%x: %s", flags[i], r < 0 ? errname(errno) : "taken");
	}
	for (unsigned i = 0; i < sizeof events / sizeof *events; i++) {
		int r = init(FAN_CLASS_CONTENT | FAN_CLASS_PRE_CONTENT, events[i]);
		say("events %x: %s", events[i], r < 0 ? errname(errno) : "taken");
		r = init(0, events[i]);
		say("events %x: %s", events[i], r < 0 ? errname(errno) : "taken");
	}
}

CASE(everymark, fanotify_mark)
{
	fresh("/tmp/fan");
	mkdir("d", 0755);
	static const unsigned flags[] = { 0, FAN_MARK_DONT_FOLLOW, FAN_MARK_ONLYDIR, FAN_MARK_MOUNT, FAN_MARK_FILESYSTEM, FAN_MARK_IGNORED_MASK, FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY, FAN_MARK_EVICTABLE,
		FAN_MARK_IGNORE | FAN_MARK_IGNORED_SURV_MODIFY };
	int all = init(FAN_REPORT_DFID_NAME, 0), perm = init(FAN_CLASS_CONTENT, 0);
	for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++)
		for (int cmd = FAN_MARK_ADD; cmd <= FAN_MARK_REMOVE; cmd++) {
			int g = init(FAN_REPORT_FID, 0), r = mark(g, flags[i] | cmd, FAN_OPEN, AT_FDCWD, "nosuch");
			say("%x: %s", flags[i] | cmd, r < 0 ? errname(errno) : "taken");
			if (cmd == FAN_MARK_REMOVE)
				mark(g, flags[i] | FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "d");
			r = mark(g, flags[i] | cmd, FAN_OPEN, AT_FDCWD, "d");
			say("%x: %s", flags[i] | cmd, r < 0 ? errname(errno) : "taken");
			close(g);
		}
	R(mark(99, FAN_MARK_FLUSH, 0, AT_FDCWD, "d"));
	R(mark(all, FAN_MARK_FLUSH, 0, AT_FDCWD, "d"));
	for (uint64_t m = 1; m < 1ull << 32; m <<= 1) {
		int is_perm = (m & (FAN_OPEN_PERM | FAN_ACCESS_PERM | FAN_OPEN_EXEC_PERM)) != 0, kind = m == FAN_FS_ERROR ? FAN_MARK_FILESYSTEM : 0;
		int r = mark(is_perm ? perm : all, FAN_MARK_ADD | kind, m, AT_FDCWD, "nosuch");
		say("mask %lx: %s", (long)m, r < 0 ? errname(errno) : "taken");
		r = mark(is_perm ? perm : all, FAN_MARK_ADD | kind, m, AT_FDCWD, "d");
		say("mask %lx: %s", (long)m, r < 0 ? errname(errno) : "taken");
	}
}

CASES
