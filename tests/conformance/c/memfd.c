/* memfd_create and seals. */
#include "files.h"
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/xattr.h>
#include <linux/falloc.h>

#define SEALS(fd) say("seals %#x", fcntl(fd, F_GET_SEALS))

CASE(create, memfd_create)
{
	char name[300];
	memset(name, 'n', 299), name[299] = 0;
	R(syscall(SYS_memfd_create, BAD, 0));
	R(syscall(SYS_memfd_create, name, 0));
	name[250] = 0;
	R(syscall(SYS_memfd_create, name, 0));
	name[249] = 0;
	OK(syscall(SYS_memfd_create, name, 0));
	R(syscall(SYS_memfd_create, "x", 8));
	R(syscall(SYS_memfd_create, "x", 0x10));
	R(syscall(SYS_memfd_create, "x", 1u << 31));
	R(syscall(SYS_memfd_create, BAD, 1u << 31));
	int fd = memfd_create("x", MFD_CLOEXEC);
	R(fcntl(fd, F_GETFD));
	SEALS(fd);
	R(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	fd = memfd_create("", 0);
	R(fcntl(fd, F_GETFD));
	struct stat st;
	R(fstat(fd, &st));
	say("mode %o links %d size %ld flags %#x", st.st_mode, (int)st.st_nlink, (long)st.st_size, fcntl(fd, F_GETFL));
	char l[64] = "", p[64];
	sprintf(p, "/proc/self/fd/%d", memfd_create("named one", 0));
	readlink(p, l, 63);
	say("%s", l);
}

CASE(seal_errors, fcntl)
{
	fresh("/tmp/mf");
	int fd = memfd_create("x", MFD_ALLOW_SEALING), f = made("f", "x"), p[2];
	MUST(pipe(p));
	SEALS(fd);
	R(fcntl(fd, F_ADD_SEALS, 0));
	R(fcntl(fd, F_ADD_SEALS, 0x20));
	R(fcntl(fd, F_ADD_SEALS, -1));
	R(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
	R(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
	SEALS(fd);
	char path[64];
	sprintf(path, "/proc/self/fd/%d", fd);
	int r = open(path, O_RDONLY);
	R(fcntl(r, F_ADD_SEALS, F_SEAL_SHRINK));
	SEALS(r);
	R(fcntl(f, F_GET_SEALS));
	R(fcntl(f, F_ADD_SEALS, F_SEAL_SEAL));
	R(fcntl(p[0], F_GET_SEALS));
	R(fcntl(p[1], F_ADD_SEALS, F_SEAL_SEAL));
	R(fcntl(open(".", O_RDONLY), F_GET_SEALS));
	R(fcntl(open("/dev/null", O_RDWR), F_GET_SEALS));
	R(fcntl(99, F_GET_SEALS));
	R(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
	R(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	R(fcntl(fd, F_ADD_SEALS, 0));
	SEALS(fd);
}

CASE(seal_size, fcntl, ftruncate)
{
	int fd = memfd_create("x", MFD_ALLOW_SEALING);
	R(ftruncate(fd, 8192));
	R(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
	R(ftruncate(fd, 4096));
	R(ftruncate(fd, 8192));
	R(ftruncate(fd, 12288));
	R(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
	R(ftruncate(fd, 16384));
	R(ftruncate(fd, 12288));
	R(pwrite(fd, "x", 1, 12287));
	R(pwrite(fd, "xy", 2, 12287));
	R(pwrite(fd, "x", 1, 12288));
	R(fallocate(fd, 0, 0, 12288));
	R(fallocate(fd, 0, 0, 12289));
	R(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 16384));
	R(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
	struct stat st;
	fstat(fd, &st);
	say("size %ld", (long)st.st_size);
}

CASE(seal_write, fcntl, mmap)
{
	int fd = memfd_create("x", MFD_ALLOW_SEALING);
	ftruncate(fd, 8192);
	char *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	R(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	mprotect(m, 4096, PROT_READ);
	R(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	munmap(m, 4096);
	m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	*m = 1;
	char path[64];
	sprintf(path, "/proc/self/fd/%d", fd);
	int r = open(path, O_RDONLY);
	char *s = mmap(0, 4096, PROT_READ, MAP_SHARED, r, 0);
	R(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	SEALS(fd);
	R(write(fd, "x", 1));
	R(write(fd, "x", 0));
	R(pwrite(fd, "x", 1, 8192));
	R(ftruncate(fd, 4096));
	R(ftruncate(fd, 8192));
	R(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
	R(fallocate(fd, 0, 0, 4096));
	R(mprotect(s, 4096, PROT_READ | PROT_WRITE));
	IS(mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EPERM);
	m = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
	say("read-only shared: %s", m == MAP_FAILED ? errname(errno) : "ok");
	if (m != MAP_FAILED)
		R(mprotect(m, 4096, PROT_READ | PROT_WRITE));
	IS(mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0) != MAP_FAILED);
	R(open(path, O_RDWR) >= 0);
	R(open(path, O_RDWR | O_TRUNC) >= 0);
}

CASE(seal_write_forked, fcntl)
{
	int fd = memfd_create("x", MFD_ALLOW_SEALING), p[2];
	ftruncate(fd, 8192);
	pipe(p);
	char *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), c;
	if (fork() == 0) {
		close(p[1]);
		read(p[0], &c, 1);
		_exit(0);
	}
	munmap(m, 4096);
	R(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	R(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW));
	SEALS(fd);
	close(p[1]);
	wait(0);
	R(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	SEALS(fd);
}

CASE(seal_future, fcntl, mmap)
{
	int fd = memfd_create("x", MFD_ALLOW_SEALING);
	ftruncate(fd, 8192);
	char *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	R(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
	m[0] = 7;
	say("%d", m[0]);
	R(write(fd, "x", 1));
	IS(mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EPERM);
	char *r = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
	say("read-only shared: %s", r == MAP_FAILED ? errname(errno) : "ok");
	if (r != MAP_FAILED)
		R(mprotect(r, 4096, PROT_READ | PROT_WRITE));
	R(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
	R(fallocate(fd, 0, 0, 4096));
	R(ftruncate(fd, 4096));
	R(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
}

CASE(content, memfd_create, mmap)
{
	int fd = memfd_create("x", 0);
	R(write(fd, "hello", 5));
	char *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	say("%s", m);
	m[0] = 'j';
	content("file", fd);
	R(fchmod(fd, 0400));
	R(fchown(fd, 5, 5));
	struct stat st;
	fstat(fd, &st);
	say("%o %d %d", st.st_mode, st.st_uid, st.st_gid);
	R(fallocate(fd, 0, 0, 100000));
	fstat(fd, &st);
	say("%ld %ld", (long)st.st_size, (long)st.st_blocks);
	R(lseek(fd, 0, SEEK_DATA));
	R(lseek(fd, 0, SEEK_HOLE));
	R(fsync(fd));
}

/* reopened opens a memfd once more. */
static int reopened(int fd, int flags)
{
	char path[64];
	sprintf(path, "/proc/self/fd/%d", fd);
	return open(path, flags);
}

/* A memfd as it was made counts as open for nothing, a reopened one and a queue like any file. */
CASE(leases, fcntl, memfd_create, mq_open)
{
	int fd = memfd_create("x", 0);
	R(fcntl(fd, F_GETLEASE));
	R(fcntl(fd, F_SETLEASE, F_RDLCK));
	R(fcntl(fd, F_GETLEASE));
	R(fcntl(fd, F_SETLEASE, F_WRLCK));
	R(fcntl(fd, F_SETLEASE, F_UNLCK));
	int r = reopened(fd, O_RDONLY);
	R(fcntl(fd, F_SETLEASE, F_WRLCK));
	R(fcntl(r, F_SETLEASE, F_RDLCK));
	signal(SIGIO, SIG_IGN);
	R(reopened(fd, O_RDWR | O_NONBLOCK) >= 0);
	R(fcntl(r, F_GETLEASE));
	R(fcntl(r, F_SETLEASE, F_UNLCK));
	int w = reopened(fd, O_RDWR);
	R(fcntl(fd, F_SETLEASE, F_RDLCK));
	R(fcntl(w, F_SETLEASE, F_WRLCK));
	close(r);
	R(fcntl(w, F_SETLEASE, F_WRLCK));
	close(w);
	R(fcntl(fd, F_SETLEASE, F_RDLCK));
	syscall(SYS_mq_unlink, "leases");
	int q = syscall(SYS_mq_open, "leases", O_CREAT | O_RDWR, 0600, 0);
	R(fcntl(q, F_SETLEASE, F_RDLCK));
	R(fcntl(q, F_SETLEASE, F_WRLCK));
	int q2 = syscall(SYS_mq_open, "leases", O_RDONLY, 0, 0);
	R(syscall(SYS_mq_open, "leases", O_RDONLY | O_NONBLOCK, 0, 0));
	R(fcntl(q2, F_SETLEASE, F_RDLCK));
	syscall(SYS_mq_unlink, "leases");
}

/* A memfd has file capabilities and set-id bits, and what is written to it takes both. */
CASE(powers, fsetxattr, fgetxattr, fremovexattr, write, ftruncate, fchown)
{
	unsigned cap[5] = {0x2000001, 0x400};
	char got[32];
	for (int how = 0; how < 5; how++) {
		int fd = memfd_create("x", 0);
		R(fsetxattr(fd, "security.capability", cap, 20, XATTR_CREATE));
		R(fchmod(fd, 06755));
		switch (how) {
		case 0: R(write(fd, "x", 1)); break;
		case 1: R(ftruncate(fd, 10)); break;
		case 2: R(fchown(fd, 1, 1)); break;
		case 3: R(fremovexattr(fd, "security.capability")); break;
		case 4: R(write(fd, "", 0)); break;
		}
		R(fgetxattr(fd, "security.capability", got, sizeof got));
		struct stat st;
		fstat(fd, &st);
		say("%o", st.st_mode);
		close(fd);
	}
	int fd = memfd_create("x", 0);
	R(fsetxattr(fd, "security.capability", cap, 3, 0));
	R(fsetxattr(fd, "security.capability", cap, 20, XATTR_REPLACE));
}

CASE(truncated, truncate)
{
	char path[64];
	int fd = memfd_create("x", 0), p[2];
	sprintf(path, "/proc/self/fd/%d", fd);
	R(truncate(path, 100));
	R(lseek(fd, 0, SEEK_END));
	R(truncate(path, -1));
	MUST(pipe(p));
	sprintf(path, "/proc/self/fd/%d", p[0]);
	R(truncate(path, 1));
}

/* What statx tells of: not all file systems know when a file was made. */
CASE(born, statx)
{
	struct statx x;
	const char *names[] = {"/proc", "/proc/version", "/proc/self/status", "/proc/self/fd", "/proc/sys/kernel/hostname", "/sys", "/sys/kernel", "/tmp"};
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		MUST(statx(AT_FDCWD, names[i], 0, 0xfff, &x));
		say("%s %#x", names[i], x.stx_mask);
	}
	int fds[] = {memfd_create("x", 0), syscall(SYS_mq_open, "born", O_CREAT | O_RDWR, 0600, 0), eventfd(0, 0), socket(AF_UNIX, SOCK_STREAM, 0), open("/dev/null", O_RDONLY)};
	for (unsigned i = 0; i < sizeof fds / sizeof *fds; i++) {
		MUST(statx(fds[i], "", AT_EMPTY_PATH, 0xfff, &x));
		say("%u %#x", i, x.stx_mask);
	}
	syscall(SYS_mq_unlink, "born");
}

/* The whole argument counts. */
CASE(wide, fcntl)
{
	int fds[] = {memfd_create("x", MFD_ALLOW_SEALING), open("/", O_RDONLY), open("/dev/null", O_RDWR)};
	for (int i = 0; i < 3; i++) {
		R(syscall(SYS_fcntl, fds[i], F_ADD_SEALS, -1L));
		R(syscall(SYS_fcntl, fds[i], F_ADD_SEALS, 1L << 32));
		R(syscall(SYS_fcntl, fds[i], F_ADD_SEALS, 0xffffffffL));
		R(syscall(SYS_fcntl, fds[i], F_ADD_SEALS, 2L));
	}
}

/* sendfile to a pipe without room does not ask what it is from. */
CASE(fullpipe, sendfile)
{
	static char zeros[4096];
	int p[2], q[2];
	MUST(pipe2(p, O_NONBLOCK));
	MUST(pipe(q));
	R(sendfile(p[1], q[0], 0, 1));
	R(sendfile(p[1], p[0], 0, 1));
	while (write(p[1], zeros, sizeof zeros) > 0)
		;
	R(sendfile(p[1], q[0], 0, 1));
	R(sendfile(p[1], p[0], 0, 1));
	R(sendfile(p[1], eventfd(1, 0), 0, 8));
	close(p[0]);
	R(sendfile(p[1], q[0], 0, 1));
}

CASES
