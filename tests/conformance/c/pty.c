/* Pseudo-terminals: opening, locking, the file system, requests of both sides, hang-up, readiness. */
#include "pty.h"
#include <dirent.h>
#include <pty.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

static void opening(void)
{
	int n, v;
	struct stat st, st2;
	char name[64], b[64];
	MUST(m = open("/dev/ptmx", O_RDWR | O_NOCTTY));
	R(ioctl(m, TIOCGPTN, &n));
	R(ioctl(m, TIOCGPTLCK, &v));
	say("locked %d", v);
	snprintf(name, sizeof name, "/dev/pts/%d", n);
	R(open(name, O_RDWR | O_NOCTTY));
	R(ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY));
	R(grantpt(m));
	R(unlockpt(m));
	IS(strcmp(ptsname(m), name) == 0);
	R(ioctl(m, TIOCGPTLCK, &v));
	say("locked %d", v);
	events("master before a slave", m);
	one("read before a slave", m, 10);
	put(m, "early\n");
	MUST(s = open(name, O_RDWR | O_NOCTTY));
	one("typed before a slave", s, 20);
	all("its echo", m);
	IS(isatty(s));
	IS(isatty(m));
	IS(ttyname(s) && strcmp(ttyname(s), name) == 0);
	R(fstat(s, &st));
	IS(S_ISCHR(st.st_mode) && major(st.st_rdev) == 136 && minor(st.st_rdev) == n);
	R(stat(name, &st2));
	IS(st.st_ino == st2.st_ino && st.st_dev == st2.st_dev && st.st_ino == n + 3);
	say("mode %o links %d uid %d", st2.st_mode & 07777 & ~020, (int)st2.st_nlink, (int)st2.st_uid);
	snprintf(b, sizeof b, "/proc/self/fd/%d", s);
	char l[64] = "";
	R(readlink(b, l, sizeof l) == strlen(name));
	IS(strcmp(l, name) == 0);
	R(chmod(name, 0622));
	R(chown(name, 7, 8));
	stat(name, &st2);
	say("mode %o uid %d gid %d", st2.st_mode & 07777, (int)st2.st_uid, (int)st2.st_gid);
	int p = -1;
	OK(p = ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
	IS(fcntl(p, F_GETFD) == FD_CLOEXEC && ttyname(p) && strcmp(ttyname(p), name) == 0);
	close(p);
	/* requests that one side has only */
	R(ioctl(s, TIOCGPTN, &v));
	R(ioctl(s, TIOCSPTLCK, &v));
	R(ioctl(s, TIOCGPTPEER, O_RDWR));
	R(ioctl(s, TIOCPKT, &v));
	R(ioctl(m, TIOCSPTLCK, 1));
	R(ioctl(m, TIOCGPTN, 1));
	R(ioctl(m, TIOCPKT, 1));
	R(ioctl(m, TIOCSIG, SIGHUP));
	R(ioctl(m, TIOCSIG, SIGINT));
	R(ioctl(m, 0x54fe, 0));
	R(lseek(m, 0, SEEK_SET));
	R(lseek(s, 0, SEEK_CUR));
	R(pread(s, b, 1, 0));
	R(ftruncate(s, 0));
	R(fsync(s));
	R(ioctl(s, TIOCEXCL));
	OK(p = open(name, O_RDWR | O_NOCTTY));
	close(p);
	R(ioctl(s, TIOCGEXCL, &v));
	say("exclusive %d", v);
	R(ioctl(s, TIOCNXCL));
	unpair();
	R(open(name, O_RDWR | O_NOCTTY));
	R(stat(name, &st));
}

static void filesystem(void)
{
	struct stat st;
	struct statfs f;
	int n, zero = 0;
	mkdir("/tmp/p", 0755);
	R(mount("devpts", "/tmp/p", "devpts", 0, "nonsense=1"));
	R(mount("devpts", "/tmp/p", "devpts", 0, "mode=9"));
	R(mount("devpts", "/tmp/p", "devpts", 0, "max=99999999"));
	R(mount("devpts", "/tmp/p", "devpts", 0, "newinstance,ptmxmode=0666,mode=640,gid=12,uid=34,max=2"));
	R(stat("/tmp/p/ptmx", &st));
	say("ptmx %o %d:%d ino %d", st.st_mode, major(st.st_rdev), minor(st.st_rdev), (int)st.st_ino);
	R(stat("/tmp/p", &st));
	say("root %o links %d ino %d", st.st_mode, (int)st.st_nlink, (int)st.st_ino);
	R(statfs("/tmp/p", &f));
	say("type %lx names %ld", (long)f.f_type, (long)f.f_namelen);
	int a = open("/tmp/p/ptmx", O_RDWR | O_NOCTTY), b = open("/tmp/p/ptmx", O_RDWR | O_NOCTTY);
	IS(a >= 0 && b >= 0);
	R(open("/tmp/p/ptmx", O_RDWR | O_NOCTTY));
	ioctl(b, TIOCGPTN, &n);
	say("number %d", n);
	R(stat("/tmp/p/1", &st));
	say("slave %o %d:%d uid %d gid %d", st.st_mode, major(st.st_rdev), minor(st.st_rdev), (int)st.st_uid, (int)st.st_gid);
	DIR *d = opendir("/tmp/p");
	struct dirent *e;
	int count = 0;
	while ((e = readdir(d)))
		count += !strcmp(e->d_name, "ptmx") || !strcmp(e->d_name, "0") || !strcmp(e->d_name, "1");
	closedir(d);
	say("entries %d", count);
	close(a);
	R(stat("/tmp/p/0", &st));
	OK(a = open("/tmp/p/ptmx", O_RDWR | O_NOCTTY));
	ioctl(a, TIOCGPTN, &n);
	say("number again %d", n);
	ioctl(b, TIOCSPTLCK, &zero);
	int p = open("/tmp/p/1", O_RDWR | O_NOCTTY);
	IS(p >= 0 && isatty(p));
	R(open("/tmp/p/2", O_RDWR | O_CREAT, 0600));
	R(mkdir("/tmp/p/x", 0700));
	R(unlink("/tmp/p/1"));
	R(rename("/tmp/p/1", "/tmp/p/5"));
	R(open("/tmp/p/01", O_RDWR));
	close(p);
	close(a);
	close(b);
	R(umount("/tmp/p"));
}

static void sizes(void)
{
	struct winsize w = { 24, 80, 0, 0 }, v = { 0 };
	pair();
	R(ioctl(s, TIOCGWINSZ, &v));
	say("%d %d", v.ws_row, v.ws_col);
	R(ioctl(m, TIOCSWINSZ, &w));
	R(ioctl(s, TIOCGWINSZ, &v));
	say("%d %d", v.ws_row, v.ws_col);
	w.ws_row = 50;
	R(ioctl(s, TIOCSWINSZ, &w));
	R(ioctl(m, TIOCGWINSZ, &v));
	say("%d %d", v.ws_row, v.ws_col);
	R(ioctl(m, TIOCSWINSZ, 1));
	R(ioctl(m, TIOCGWINSZ, 1));
	unpair();
}

static void hangup(void)
{
	char b[10];
	int v, n;
	pair();
	events("both open", m);
	events("both open, slave", s);
	put(s, "last words");
	close(s);
	events("slave closed, output left", m);
	one("rest", m, 100);
	events("slave closed", m);
	one("end", m, 10);
	R(write(m, "x", 1));
	ioctl(m, TIOCGPTN, &n);
	char name[32];
	snprintf(name, sizeof name, "/dev/pts/%d", n);
	MUST(s = open(name, O_RDWR | O_NOCTTY));
	events("opened again", m);
	one("master", m, 10);
	put(m, "\n");
	one("typed while closed", s, 10);
	put(s, "unread");
	int s2 = dup(s);
	close(m);
	events("master closed", s);
	R(read(s, b, 10));
	R(write(s, "x", 1));
	R(ioctl(s, TCGETS, b));
	R(ioctl(s, TIOCSPGRP, b));
	R(ioctl(s, FIONREAD, &v));
	R(fcntl(s, F_GETFL) & O_ACCMODE);
	R(isatty(s));
	R(read(s2, b, 10));
	close(s);
	close(s2);
}

static void full(void)
{
	char b[4096];
	int n = 0, r;
	memset(b, 'a', sizeof b);
	pair();
	modes(0, 0, OPOST, 0, ECHO, 0);
	fcntl(s, F_SETFL, O_RDWR | O_NONBLOCK);
	fcntl(m, F_SETFL, O_RDWR | O_NONBLOCK);
	for (int i = 0; i < 100; i++)
		if ((r = write(s, b, sizeof b)) > 0)
			n += r;
		else
			usleep(1000);
	say("the slave's writes are bounded: %s, %s", n >= 4096 && n < 100000 ? "yes" : "NO", errname(errno));
	events("slave, full", s);
	while ((r = read(m, b, sizeof b)) > 0 || ready(m, 20) & POLLIN)
		n -= r > 0 ? r : 0;
	say("left %d", n);
	events("slave, empty", s);
	modes(0, 0, 0, 0, ICANON, 0);
	n = 0;
	for (int i = 0; i < 100; i++)
		if ((r = write(m, b, sizeof b)) > 0)
			n += r;
		else
			usleep(1000);
	say("the master's writes are bounded: %s, %s", n >= 4096 && n < 100000 ? "yes" : "NO", errname(errno));
	while ((r = read(s, b, sizeof b)) > 0 || ready(s, 20) & POLLIN)
		n -= r > 0 ? r : 0;
	say("left %d", n);
	unpair();
}

/* mode prints who may do what with a node. */
static void mode(const char *name, int owner)
{
	struct stat st;
	R(stat(name, &st));
	say("mode %o", st.st_mode & 07777 & ~(owner ? 0 : 020)); /* grantpt's group is the system's */
	if (owner)
		say("uid %d gid %d", (int)st.st_uid, (int)st.st_gid);
}

/* Nodes are their owner's to change, also here. */
static void owners(void)
{
	char theirs[32], mine[32];
	int n;
	pair();
	ioctl(m, TIOCGPTN, &n);
	snprintf(theirs, sizeof theirs, "/dev/pts/%d", n);
	R(fchmod(s, 0600));
	pid_t c = fork();
	if (c == 0) {
		MUST(setgid(1000));
		MUST(setuid(1000));
		R(chmod(theirs, 0666));
		R(chown(theirs, 1000, -1));
		R(chown(theirs, -1, 1000));
		R(fchmod(s, 0666));
		R(fchown(s, 1000, 1000));
		R(chmod("/dev/pts", 0777));
		R(chown("/dev/pts", 1000, 1000));
		R(chmod("/dev/pts/ptmx", 0777));
		unpair();
		pair();
		ioctl(m, TIOCGPTN, &n);
		snprintf(mine, sizeof mine, "/dev/pts/%d", n);
		R(chmod(mine, 0622));
		R(chown(mine, 0, -1));
		R(chown(mine, -1, 0));
		R(chown(mine, 1000, 1000));
		mode(mine, 1);
		unpair();
		_exit(0);
	}
	waitpid(c, 0, 0);
	mode(theirs, 0);
	mode("/dev/pts", 0);
	unpair();
}

static int pairs(void)
{
	char b[16] = "";
	int fd = open("/proc/sys/kernel/pty/nr", O_RDONLY);
	MUST(read(fd, b, 15));
	close(fd);
	return atoi(b);
}

/* The number of a pair is free when both its ends have closed, not before. */
static void numbers(void)
{
	int before = pairs(), n, o;
	char name[32];
	pair();
	MUST(ioctl(m, TIOCGPTN, &n));
	snprintf(name, sizeof name, "/dev/pts/%d", n);
	R(pairs() - before);
	close(m);
	R(access(name, F_OK));
	R(pairs() - before);
	struct stat st;
	R(fstat(s, &st));
	IS((int)minor(st.st_rdev) == n);
	MUST(m = open("/dev/ptmx", O_RDWR | O_NOCTTY));
	MUST(ioctl(m, TIOCGPTN, &o));
	IS(o != n);
	R(access(name, F_OK));
	R(pairs() - before);
	close(s);
	R(pairs() - before);
	close(m);
	R(pairs() - before);
	/* The slave first. */
	pair();
	MUST(ioctl(m, TIOCGPTN, &o));
	IS(o == n);
	close(s);
	R(access(name, F_OK));
	R(pairs() - before);
	MUST(s = open(name, O_RDWR | O_NOCTTY));
	close(s);
	close(m);
	R(access(name, F_OK));
	R(pairs() - before);
}

int main(void)
{
	setvbuf(stdout, 0, _IONBF, 0);
	signal(SIGHUP, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
	pts();
	opening();
	filesystem();
	sizes();
	hangup();
	full();
	owners();
	numbers();
	int mm, ss;
	char name[64];
	R(openpty(&mm, &ss, name, 0, 0) == 0);
	R(write(ss, "via openpty\n", 12));
	all("openpty", mm);
	return 0;
}
