/* inotify: which operation tells whom of what, in which order; watches and their ends; the
 * errors of the four calls (inotify(7)). */
#include "../../programs/c/check.h"
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>

static int in;

static const struct { unsigned bit; const char *name; } bits[] = {
	{IN_ACCESS, "ACCESS"}, {IN_MODIFY, "MODIFY"}, {IN_ATTRIB, "ATTRIB"}, {IN_CLOSE_WRITE, "CLOSE_WRITE"},
	{IN_CLOSE_NOWRITE, "CLOSE_NOWRITE"}, {IN_OPEN, "OPEN"}, {IN_MOVED_FROM, "MOVED_FROM"}, {IN_MOVED_TO, "MOVED_TO"},
	{IN_CREATE, "CREATE"}, {IN_DELETE, "DELETE"}, {IN_DELETE_SELF, "DELETE_SELF"}, {IN_MOVE_SELF, "MOVE_SELF"},
	{IN_UNMOUNT, "UNMOUNT"}, {IN_Q_OVERFLOW, "Q_OVERFLOW"}, {IN_IGNORED, "IGNORED"}, {IN_ISDIR, "ISDIR"},
};

/* drain says what is queued. Cookies are numbered as they come. */
static void drain(const char *what)
{
	static char buf[65536] __attribute__((aligned(8)));
	unsigned cookies[16], nc = 0;
	int total = 0;
	ioctl(in, FIONREAD, &total);
	say("%s: %d bytes", what, total);
	for (;;) {
		int n = read(in, buf, sizeof buf);
		if (n <= 0) {
			if (errno != EAGAIN)
				say("  read: %s", errname(errno));
			return;
		}
		for (char *p = buf; p < buf + n;) {
			struct inotify_event *e = (void *)p;
			char m[200] = "";
			for (unsigned i = 0; i < sizeof bits / sizeof *bits; i++)
				if (e->mask & bits[i].bit)
					strcat(strcat(m, " "), bits[i].name);
			unsigned c = 0;
			if (e->cookie) {
				for (c = 0; c < nc && cookies[c] != e->cookie; c++)
					;
				if (c == nc && nc < 16)
					cookies[nc++] = e->cookie;
				c++;
			}
			say("  wd %d%s%s%s len %d cookie %u", e->wd, m, e->len ? " " : "", e->len ? e->name[0] == '#' ? "#inode" : e->name : "", (int)e->len, c);
			p += sizeof *e + e->len;
		}
	}
}

#define WATCH(path, mask) say("watch %s: %d", path, inotify_add_watch(in, path, mask))
#define FAILS(expr) do { errno = 0; long r_ = (expr); say("%s: %ld %s", #expr, r_, r_ < 0 ? errname(errno) : ""); } while (0)

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (*text)
		if (write(fd, text, strlen(text)) < 0)
			say("write: %s", errname(errno));
	close(fd);
}

static void errors(void)
{
	int p[2];
	if (pipe(p) < 0)
		say("pipe: %s", errname(errno));
	FAILS(syscall(SYS_inotify_init1, 1));
	FAILS(inotify_add_watch(in, ".", 0));
	FAILS(inotify_add_watch(in, ".", IN_MASK_ADD));
	FAILS(inotify_rm_watch(in, 1));
	FAILS(inotify_add_watch(in, ".", 0x00010000));
	FAILS(inotify_add_watch(99, ".", IN_OPEN));
	FAILS(inotify_add_watch(99, ".", 0));
	FAILS(inotify_add_watch(p[0], ".", IN_OPEN));
	FAILS(inotify_add_watch(p[0], (char *)8, IN_OPEN | IN_MASK_ADD | IN_MASK_CREATE));
	FAILS(inotify_add_watch(in, (char *)8, IN_OPEN));
	FAILS(inotify_add_watch(in, "", IN_OPEN));
	FAILS(inotify_add_watch(in, "no-such", IN_OPEN));
	FAILS(inotify_add_watch(in, ".", IN_OPEN | IN_MASK_ADD | IN_MASK_CREATE));
	put("plain", "");
	FAILS(inotify_add_watch(in, "plain", IN_OPEN | IN_ONLYDIR));
	if (symlink("no-such", "dangling") < 0 || symlink("plain", "link") < 0)
		say("symlink: %s", errname(errno));
	FAILS(inotify_add_watch(in, "dangling", IN_OPEN));
	FAILS(inotify_add_watch(in, "dangling", IN_OPEN | IN_DONT_FOLLOW));
	FAILS(inotify_add_watch(in, "link", IN_OPEN));
	FAILS(inotify_add_watch(in, "plain", IN_CLOSE));
	FAILS(inotify_add_watch(in, "plain", IN_CLOSE | IN_MASK_CREATE));
	FAILS(inotify_rm_watch(in, 99));
	FAILS(inotify_rm_watch(p[0], 1));
	FAILS(inotify_rm_watch(98, 1));
	FAILS(write(in, "x", 1));
	FAILS(read(in, p, 4));
	FAILS(lseek(in, 0, SEEK_SET));
	drain("errors");
	if (fork() == 0) {
		chmod("plain", 0200);
		if (setuid(1000) < 0)
			say("setuid: %s", errname(errno));
		FAILS(inotify_add_watch(in, "plain", IN_OPEN));
		_exit(0);
	}
	wait(0);
	for (int i = 1; i < 8; i++)
		inotify_rm_watch(in, i);
	drain("all removed");
	unlink("plain"), unlink("link"), unlink("dangling");
	close(p[0]), close(p[1]);
}

static void files(void)
{
	char b[64];
	mkdir("d", 0755);
	WATCH("d", IN_ALL_EVENTS);
	put("d/f", "");
	drain("create empty");
	WATCH("d/f", IN_ALL_EVENTS);
	put("d/f", "hello");
	drain("write");
	int fd = open("d/f", O_RDWR);
	if (read(fd, b, 5) != 5 || pread(fd, b, 2, 0) != 2 || read(fd, b, 5) != 0)
		say("read: %s", errname(errno));
	drain("open, read, pread, read at the end");
	if (pwrite(fd, "x", 1, 0) != 1 || ftruncate(fd, 3) < 0 || write(fd, "", 0) != 0)
		say("pwrite: %s", errname(errno));
	drain("pwrite, ftruncate, write of nothing");
	if (fallocate(fd, 0, 0, 100) < 0)
		say("fallocate: %s", errname(errno));
	drain("fallocate");
	fchmod(fd, 0600);
	drain("fchmod");
	if (fchown(fd, 0, 0) < 0)
		say("fchown: %s", errname(errno));
	drain("fchown");
	struct timespec both[2] = {{1, 0}, {2, 0}}, one[2] = {{1, 0}, {0, UTIME_OMIT}}, two[2] = {{0, UTIME_OMIT}, {2, 0}};
	futimens(fd, both);
	drain("both times");
	utimensat(AT_FDCWD, "d/f", one, 0);
	drain("atime");
	utimensat(AT_FDCWD, "d/f", two, 0);
	drain("mtime");
	fsync(fd);
	int dupfd = dup(fd);
	close(fd);
	drain("fsync, dup, close of one");
	close(dupfd);
	drain("close of the other");
	if (truncate("d/f", 1) < 0)
		say("truncate: %s", errname(errno));
	drain("truncate");
	fd = open("d/f", O_RDONLY);
	int out = open("other", O_CREAT | O_WRONLY, 0600);
	off_t off = 0;
	if (sendfile(out, fd, &off, 1) != 1)
		say("sendfile: %s", errname(errno));
	close(out), close(fd);
	unlink("other");
	drain("sendfile from");
	if (link("d/f", "d/g") < 0)
		say("link: %s", errname(errno));
	drain("link");
	fd = open("d/g", O_RDONLY);
	close(fd);
	drain("open by the other name");
	rename("d/g", "d/h");
	drain("rename in the directory");
	rename("d/h", "h");
	drain("rename out");
	rename("h", "d/i");
	drain("rename in");
	put("d/j", "");
	drain("one more");
	rename("d/j", "d/i");
	drain("rename over the other name");
	syscall(SYS_renameat2, AT_FDCWD, "d/i", AT_FDCWD, "d/f", 2);
	drain("exchange");
	syscall(SYS_renameat2, AT_FDCWD, "d/i", AT_FDCWD, "d/f", 2);
	drain("exchange back");
	fd = open("d/f", O_RDONLY);
	unlink("d/f");
	drain("unlink of an open file");
	if (read(fd, b, 1) < 0)
		say("read: %s", errname(errno));
	drain("read of it");
	close(fd);
	drain("close of it");
	unlink("d/i");
	drain("unlink");
	FAILS(inotify_rm_watch(in, 1));
	drain("rm_watch");
}

static void dirs(void)
{
	int d;
	WATCH("d", IN_ALL_EVENTS);
	mkdir("d/sub", 0755);
	drain("mkdir");
	WATCH("d/sub", IN_ALL_EVENTS);
	if (symlink("x", "d/l") < 0 || mkfifo("d/p", 0600) < 0)
		say("symlink: %s", errname(errno));
	drain("symlink, mkfifo");
	char b[4096];
	d = open("d/sub", O_RDONLY | O_DIRECTORY);
	while (syscall(SYS_getdents64, d, b, sizeof b) > 0)
		;
	close(d);
	drain("opendir, readdir, closedir");
	chmod("d/sub", 0700);
	drain("chmod");
	put("d/sub/deep", "");
	drain("create in it");
	unlink("d/sub/deep");
	drain("unlink in it");
	rename("d/sub", "d/bus");
	drain("rename of a directory");
	d = open("d/bus", O_PATH);
	close(d);
	drain("O_PATH");
	d = open("d", O_TMPFILE | O_WRONLY, 0600);
	if (d >= 0) {
		if (write(d, "x", 1) < 0)
			say("write: %s", errname(errno));
		close(d);
		say("O_TMPFILE works");
	}
	drain("O_TMPFILE (events)");
	d = open("d/p", O_RDWR);
	if (write(d, "abc", 3) != 3 || read(d, b, 3) != 3)
		say("fifo: %s", errname(errno));
	close(d);
	drain("fifo");
	unlink("d/l"), unlink("d/p");
	drain("unlink of both");
	rmdir("d/bus");
	drain("rmdir");
	rmdir("d");
	drain("rmdir of the watched one");
}

static void masks(void)
{
	mkdir("m", 0755);
	WATCH("m", IN_CREATE);
	WATCH("m", IN_DELETE | IN_MASK_ADD);
	put("m/a", "text");
	unlink("m/a");
	drain("created and deleted");
	WATCH("m", IN_OPEN);
	put("m/a", "text");
	drain("opened only");
	WATCH("m", IN_MODIFY | IN_ONESHOT);
	put("m/a", "text");
	put("m/a", "more");
	drain("one shot");
	WATCH("m", IN_CLOSE | IN_MODIFY | IN_EXCL_UNLINK);
	int fd = open("m/a", O_WRONLY);
	unlink("m/a");
	if (write(fd, "x", 1) < 0)
		say("write: %s", errname(errno));
	close(fd);
	drain("excl unlink");
	inotify_rm_watch(in, 1);
	WATCH("m", IN_MODIFY);
	fd = open("m/a", O_WRONLY | O_CREAT, 0600);
	for (int i = 0; i < 5; i++)
		if (write(fd, "x", 1) < 0)
			say("write: %s", errname(errno));
	drain("equal events are one");
	struct pollfd p = {in, POLLIN | POLLOUT, 0};
	say("poll of nothing: %d", poll(&p, 1, 0));
	if (write(fd, "x", 1) < 0)
		say("write: %s", errname(errno));
	int n = poll(&p, 1, 0);
	say("poll: %d %#x", n, p.revents);
	char b[20];
	FAILS(read(in, b, 16));
	FAILS(read(in, b, 0));
	drain("after a short buffer");
	close(fd);
	unlink("m/a");
	setxattr("m", "trusted.x", "1", 1, 0);
	drain("nothing");
	WATCH("m", IN_ATTRIB);
	setxattr("m", "trusted.x", "2", 1, 0);
	removexattr("m", "trusted.x");
	drain("xattr");
	int own = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	say("flags %#x, fd %#x", fcntl(own, F_GETFL) & ~O_LARGEFILE, fcntl(own, F_GETFD));
	say("watch of another instance: %d", inotify_add_watch(own, "m", IN_ATTRIB));
	chmod("m", 0700);
	say("both: %d", (int)read(own, (char[64]){0}, 64));
	drain("the first");
	close(own);
}

static void blocked(void)
{
	WATCH("m", IN_CREATE);
	fcntl(in, F_SETFL, 0);
	pid_t pid = fork();
	if (pid == 0) {
		usleep(50000);
		put("m/late", "");
		_exit(0);
	}
	char b[64];
	int n = read(in, b, sizeof b);
	struct inotify_event *e = (void *)b;
	say("waited: %d %s", n, n > 16 ? e->name : errname(errno));
	fcntl(in, F_SETFL, O_NONBLOCK);
	waitpid(pid, 0, 0);
	unlink("m/late");
	rmdir("m");
	drain("end");
}

static void unmounted(void)
{
	mkdir("mnt", 0755);
	if (mount("none", "mnt", "tmpfs", 0, 0) < 0) {
		say("mount: %s", errname(errno));
		return;
	}
	put("mnt/f", "");
	WATCH("mnt", IN_CREATE);
	umount("mnt");
	drain("unmounted");
	rmdir("mnt");
}

static void limits(void)
{
	int fd = open("/proc/sys/fs/inotify/max_queued_events", O_WRONLY);
	if (fd < 0 || write(fd, "4", 1) != 1)
		say("max_queued_events: %s", errname(errno));
	/* The limit of a queue is that of its instance's birth. */
	close(in);
	in = inotify_init1(IN_NONBLOCK);
	mkdir("q", 0755);
	WATCH("q", IN_CREATE | IN_DELETE);
	for (int i = 0; i < 4; i++) {
		put("q/a", "");
		unlink("q/a");
	}
	drain("overflow");
	put("q/a", "");
	unlink("q/a");
	drain("after an overflow");
	rmdir("q");
	if (pwrite(fd, "16384", 5, 0) != 5)
		say("max_queued_events: %s", errname(errno));
	close(fd);
	close(in);
	int n = 0, fds[200];
	while (n < 200 && (fds[n] = inotify_init1(0)) >= 0)
		n++;
	say("instances: %d %s", n, n < 200 ? errname(errno) : "");
	while (n > 0)
		close(fds[--n]);
}

/* begin makes a place of its own and an instance. */
static void begin(void)
{
	signal(SIGALRM, SIG_DFL);
	alarm(60);
	umask(022);
	mkdir("/tmp/inotify", 0777);
	if (mount("none", "/tmp/inotify", "tmpfs", 0, 0) < 0 || chdir("/tmp/inotify") < 0)
		say("mount: %s", errname(errno));
	in = inotify_init1(IN_NONBLOCK);
}

CASE(errors, inotify_init1, inotify_add_watch, inotify_rm_watch) { begin(); errors(); }
CASE(files, inotify_add_watch, fchmod, utimensat, link, renameat2, sendfile) { begin(); files(); }
CASE(dirs, inotify_add_watch, mkdir, rename, rmdir) { begin(); mkdir("d", 0755); dirs(); }
CASE(masks, inotify_add_watch, setxattr) { begin(); masks(); }
CASE(blocked, inotify_init1, inotify_add_watch) { begin(); mkdir("m", 0755); blocked(); }
CASE(unmounted, inotify_add_watch, umount2) { begin(); unmounted(); }
CASE(limits, inotify_init1) { begin(); limits(); }

CASE(init, inotify_init)
{
	int fd = syscall(SYS_inotify_init);
	say("flags %#x, fd %#x", fcntl(fd, F_GETFL) & ~O_LARGEFILE, fcntl(fd, F_GETFD));
}

CASES
