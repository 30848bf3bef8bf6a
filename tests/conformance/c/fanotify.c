/* fanotify groups whose events have descriptors: what is reported, to whom, and what is refused. */
#include "files.h"
#include "fan.h"
#include <sys/mman.h>

/* shown prints what is queued, with the names of the descriptors; who is the process that did it. */
static void shown(int g, int who)
{
	int n = read(g, ebuf, sizeof ebuf);
	if (n < 0) {
		say("read: %s", errname(errno));
		return;
	}
	struct fanotify_event_metadata *e = (void *)ebuf;
	for (; FAN_EVENT_OK(e, n); e = FAN_EVENT_NEXT(e, n)) {
		char link[64], path[200] = "none";
		if (e->fd >= 0) {
			snprintf(link, sizeof link, "/proc/self/fd/%d", e->fd);
			int k = readlink(link, path, sizeof path - 1);
			path[k > 0 ? k : 0] = 0;
			close(e->fd);
		}
		char *base = strrchr(path, '/');
		say("version %d head %d length %d:%s of %s by %s", e->vers, e->metadata_len, e->event_len, bits(e->mask), base && base[1] ? base + 1 : path, e->pid == who ? "it" : e->pid ? "another" : "none");
	}
}

CASE(initerrors, fanotify_init)
{
	R(init(0x10000, 0));
	R(init(FAN_CLASS_CONTENT | FAN_CLASS_PRE_CONTENT, 0));
	R(init(FAN_REPORT_TID | FAN_REPORT_PIDFD, 0));
	R(init(0, 3));
	R(init(0, O_CREAT));
	R(init(0, O_TRUNC));
	int fd = init(FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY | O_LARGEFILE | O_NOATIME);
	IS(fcntl(fd, F_GETFD) == FD_CLOEXEC);
	IS(fcntl(fd, F_GETFL) & O_NONBLOCK);
	R(read(fd, ebuf, sizeof ebuf));
	R(read(fd, ebuf, 3));
	R(write(fd, ebuf, 8));
	R(lseek(fd, 0, SEEK_SET));
	OK(init(FAN_CLASS_CONTENT, O_RDWR));
	OK(init(FAN_CLASS_PRE_CONTENT | FAN_UNLIMITED_QUEUE | FAN_UNLIMITED_MARKS, O_WRONLY | O_SYNC));
	OK(init(FAN_REPORT_TID, O_APPEND | O_NONBLOCK | O_DSYNC | O_CLOEXEC));
	OK(init(FAN_REPORT_PIDFD, 0));
	setuid(1000);
	R(init(0, 0));
	R(init(0x10000, 0));
}

CASE(markerrors, fanotify_mark, fanotify_init)
{
	fresh("/tmp/fan");
	int g = init(FAN_NONBLOCK, 0);
	mkdir("d", 0755);
	touch("d/f");
	symlink("d/f", "l");
	R(mark(g, 0, FAN_OPEN, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD | FAN_MARK_REMOVE, FAN_OPEN, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD, 0, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD, 1ull << 40, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD, 0x2000, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD, FAN_Q_OVERFLOW, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD | 0x1000, FAN_OPEN, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD | FAN_MARK_MOUNT | FAN_MARK_FILESYSTEM, FAN_OPEN, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_FLUSH | FAN_MARK_ONLYDIR, 0, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD | FAN_MARK_IGNORE | FAN_MARK_IGNORED_MASK, FAN_OPEN, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD, FAN_CREATE, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD, FAN_ATTRIB, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD | FAN_MARK_EVICTABLE | FAN_MARK_MOUNT, FAN_OPEN, AT_FDCWD, "d"));
	R(mark(99, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "d"));
	R(mark(0, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "nosuch"));
	R(mark(g, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, (char *)8));
	R(mark(g, FAN_MARK_ADD, FAN_OPEN, 99, 0));
	R(mark(g, FAN_MARK_ADD | FAN_MARK_ONLYDIR, FAN_OPEN, AT_FDCWD, "d/f"));
	R(mark(g, FAN_MARK_ADD | FAN_MARK_DONT_FOLLOW, FAN_OPEN, AT_FDCWD, "l"));
	R(mark(g, FAN_MARK_REMOVE, FAN_OPEN, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD | FAN_MARK_IGNORE, FAN_OPEN, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD | FAN_MARK_IGNORE | FAN_MARK_FILESYSTEM, FAN_OPEN, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD | FAN_MARK_EVICTABLE, FAN_OPEN, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD | FAN_MARK_EVICTABLE, FAN_OPEN, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD | FAN_MARK_IGNORE | FAN_MARK_IGNORED_SURV_MODIFY, FAN_OPEN, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD | FAN_MARK_IGNORED_MASK, FAN_OPEN, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_ADD | FAN_MARK_IGNORE, FAN_OPEN, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_REMOVE, FAN_OPEN, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_FLUSH, 0, AT_FDCWD, "d"));
	R(mark(g, FAN_MARK_REMOVE, FAN_OPEN, AT_FDCWD, "d"));
	chmod("d/f", 0);
	setuid(1000);
	R(mark(g, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "d/f"));
}

CASE(events, fanotify_mark, fanotify_init, read)
{
	fresh("/tmp/fan");
	int g = init(FAN_NONBLOCK, O_RDONLY), n;
	mkdir("d", 0755);
	touch("d/f");
	struct pollfd p = { g, POLLIN, 0 };
	R(poll(&p, 1, 0));
	R(mark(g, FAN_MARK_ADD, FAN_ACCESS | FAN_MODIFY | FAN_OPEN | FAN_CLOSE, AT_FDCWD, "d/f"));
	touch("d/f");
	touch("d/other");
	R(poll(&p, 1, 0));
	R(ioctl(g, FIONREAD, &n));
	R(n);
	R(read(g, ebuf, 23));
	shown(g, getpid());
	shown(g, getpid());
	int fd = open("d/f", O_RDONLY);
	shown(g, getpid());
	close(fd);
	shown(g, getpid());
	int c = fork();
	if (!c) {
		touch("d/f");
		_exit(0);
	}
	waitpid(c, 0, 0);
	shown(g, c);
	/* Two files are two events, in the order of the first of each. */
	R(mark(g, FAN_MARK_ADD, FAN_OPEN | FAN_CLOSE_WRITE, AT_FDCWD, "d/other"));
	touch("d/other");
	touch("d/f");
	touch("d/other");
	shown(g, getpid());
	R(mark(g, FAN_MARK_REMOVE, FAN_OPEN | FAN_CLOSE, AT_FDCWD, "d/f"));
	touch("d/f");
	shown(g, getpid());
	unlink("d/f");
	shown(g, getpid());
}

CASE(children, fanotify_mark, fanotify_init, read)
{
	fresh("/tmp/fan");
	int g = init(FAN_NONBLOCK, O_RDONLY);
	mkdir("d", 0755);
	mkdir("d/sub", 0755);
	R(mark(g, FAN_MARK_ADD, FAN_OPEN | FAN_CLOSE, AT_FDCWD, "d"));
	touch("d/f");
	close(open("d", O_RDONLY));
	shown(g, getpid());
	R(mark(g, FAN_MARK_ADD, FAN_EVENT_ON_CHILD, AT_FDCWD, "d"));
	touch("d/f");
	close(open("d", O_RDONLY));
	close(open("d/sub", O_RDONLY));
	shown(g, getpid());
	R(mark(g, FAN_MARK_ADD, FAN_ONDIR, AT_FDCWD, "d"));
	close(open("d", O_RDONLY));
	close(open("d/sub", O_RDONLY));
	shown(g, getpid());
	touch("d/sub/deep");
	shown(g, getpid());
	R(mark(g, FAN_MARK_FLUSH, 0, AT_FDCWD, "/"));
	touch("d/f");
	shown(g, getpid());
}

CASE(ignored, fanotify_mark, fanotify_init, read)
{
	fresh("/tmp/fan");
	int g = init(FAN_NONBLOCK, O_RDONLY);
	touch("f");
	R(mark(g, FAN_MARK_ADD, FAN_OPEN | FAN_CLOSE, AT_FDCWD, "f"));
	R(mark(g, FAN_MARK_ADD | FAN_MARK_IGNORED_MASK, FAN_OPEN, AT_FDCWD, "f"));
	close(open("f", O_RDONLY));
	shown(g, getpid());
	touch("f"); /* the change ends it */
	shown(g, getpid());
	close(open("f", O_RDONLY));
	shown(g, getpid());
	R(mark(g, FAN_MARK_ADD | FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY, FAN_OPEN, AT_FDCWD, "f"));
	touch("f");
	close(open("f", O_RDONLY));
	shown(g, getpid());
	R(mark(g, FAN_MARK_REMOVE | FAN_MARK_IGNORED_MASK, FAN_OPEN, AT_FDCWD, "f"));
	close(open("f", O_RDONLY));
	shown(g, getpid());
}

CASE(mounts, fanotify_mark, fanotify_init, read)
{
	fresh("/tmp/fan");
	mkdir("m", 0755);
	mkdir("b", 0755);
	MUST(mount("t", "m", "tmpfs", 0, 0));
	MUST(mount("m", "b", 0, MS_BIND, 0));
	int g = init(FAN_NONBLOCK, O_RDONLY);
	touch("m/f");
	R(mark(g, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN, AT_FDCWD, "m"));
	close(open("m/f", O_RDONLY));
	close(open("b/f", O_RDONLY));
	shown(g, getpid());
	R(mark(g, FAN_MARK_FLUSH | FAN_MARK_MOUNT, 0, AT_FDCWD, "m"));
	R(mark(g, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_OPEN, AT_FDCWD, "m/f"));
	close(open("m/f", O_RDONLY));
	close(open("b/f", O_RDONLY));
	touch("f");
	shown(g, getpid());
	R(mark(g, FAN_MARK_REMOVE | FAN_MARK_MOUNT, FAN_OPEN, AT_FDCWD, "m"));
	R(mark(g, FAN_MARK_REMOVE | FAN_MARK_FILESYSTEM, FAN_OPEN, AT_FDCWD, "b"));
	close(open("m/f", O_RDONLY));
	shown(g, getpid());
	close(g);
	R(umount("b"));
	R(umount("m"));
}

CASE(silent, fanotify_mark, fanotify_init, read)
{
	fresh("/tmp/fan");
	/* What is done with an event's own descriptor is no event. */
	int g = init(FAN_NONBLOCK, O_RDWR);
	touch("f");
	R(mark(g, FAN_MARK_ADD, FAN_ACCESS | FAN_MODIFY | FAN_OPEN | FAN_CLOSE, AT_FDCWD, "f"));
	close(open("f", O_RDONLY));
	R(read(g, ebuf, sizeof ebuf));
	int fd = ((struct fanotify_event_metadata *)ebuf)->fd;
	R(fcntl(fd, F_GETFL) & O_ACCMODE);
	R(fcntl(fd, F_GETFD));
	R(pwrite(fd, "y", 1, 0));
	R(close(fd));
	shown(g, getpid());
}

CASE(pidfds, fanotify_init, read)
{
	fresh("/tmp/fan");
	int g = init(FAN_NONBLOCK | FAN_REPORT_PIDFD, O_RDONLY);
	touch("f");
	R(mark(g, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "f"));
	close(open("f", O_RDONLY));
	R(read(g, ebuf, sizeof ebuf));
	struct fanotify_event_metadata *e = (void *)ebuf;
	struct { uint8_t type, pad; uint16_t len; int32_t fd; } *i = (void *)(e + 1);
	R(e->event_len);
	R(i->type);
	R(i->len);
	R(syscall(SYS_pidfd_send_signal, i->fd, 0, 0, 0));
}

CASES
