/* Flags and commands that no other case uses in a call that succeeds or in one that fails
 * (masks.txt): each is passed once where it must work and once where the call must fail. */
#include "ipc.h"
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#define SC(n, ...) R(syscall(SYS_##n, ##__VA_ARGS__))
#define LIMIT(res, n) do { struct rlimit l_ = { n, n }; MUST(setrlimit(res, &l_)); } while (0)
static void unroot(void) { MUST(setresuid(1000, 1000, 1000)); }
static int file(void) { int f = open("/tmp/f", O_CREAT | O_RDWR | O_TRUNC, 0600); MUST(f); return f; }
#define EACH(list, ...) do { for (int i = 0; i < (int)(sizeof list / sizeof *list); i++) { long x = list[i]; __VA_ARGS__; } } while (0)
#define SAY(n, ...) do { errno = 0; long r_ = syscall(SYS_##n, ##__VA_ARGS__); say(#n " %#lx: %s", x, r_ < 0 ? errname(errno) : "ok"); if (r_ > 2 && (SYS_##n == SYS_open || SYS_##n == SYS_openat || SYS_##n == SYS_openat2)) close(r_); } while (0)

CASE(opens, open, openat)
{
	long fl[] = { O_WRONLY, O_RDWR, O_EXCL, O_NOCTTY, O_TRUNC, O_APPEND, O_NONBLOCK, O_DSYNC, O_DIRECTORY, O_NOFOLLOW, O_NOATIME, O_CLOEXEC, O_PATH, 0x100000 /* __O_SYNC */ };
	close(file());
	EACH(fl, SAY(open, x == O_DIRECTORY ? "/tmp" : "/tmp/f", x); SAY(open, "/tmp/none", x); SAY(openat, AT_FDCWD, x == O_DIRECTORY ? "/tmp" : "/tmp/f", x); SAY(openat, AT_FDCWD, "/tmp/none", x));
	SC(openat, AT_FDCWD, "/tmp/none", O_DIRECT);
}
CASE(resolve, openat2)
{
	struct { unsigned long flags, mode, resolve; } h = { O_RDONLY };
	long fl[] = { 0, 1, 2, 4, 8, 16, 32 };
	close(file());
	int d = open("/tmp", O_RDONLY | O_DIRECTORY);
	EACH(fl, h.resolve = x; SAY(openat2, d, "f", &h, 24); SAY(openat2, 999, "f", &h, 24));
}
CASE(seeks, lseek)
{
	int f = file();
	MUST(ftruncate(f, 8192));
	long w[] = { SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE };
	EACH(w, SAY(lseek, f, 0, x); SAY(lseek, 999, 0, x));
}
CASE(at, mkdirat, mknodat, mknod, symlinkat, readlinkat, renameat, unlinkat, fchownat, utimensat, faccessat, faccessat2)
{
	char b[8] = "";
	close(file());
	int d = open("/tmp", O_RDONLY | O_DIRECTORY), f = open("/tmp/f", O_RDWR);
	SC(mkdirat, d, "d", 0700);
	SC(mknodat, d, "p", S_IFIFO | 0600, 0);
	SC(mknod, "/tmp/q", S_IFIFO | 0600, 0);
	SC(symlinkat, "f", d, "s");
	SC(readlinkat, d, "s", b, 8);
	SC(renameat, d, "p", d, "p2");
	SC(unlinkat, d, "p2", 0);
	SC(unlinkat, d, "d", AT_REMOVEDIR);
	SC(unlinkat, d, "d", AT_REMOVEDIR);
	SC(unlinkat, 999, "d", 0);
	long fl[] = { AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH };
	EACH(fl, SAY(fchownat, d, "s", 0, 0, x); SAY(fchownat, d, "none", 0, 0, x); SAY(utimensat, d, "s", 0, x); SAY(utimensat, d, "none", 0, x); SAY(faccessat2, d, "s", F_OK, x); SAY(faccessat2, d, "none", F_OK, x));
	long m[] = { R_OK, W_OK, R_OK | W_OK, X_OK };
	EACH(m, SAY(faccessat, d, x == X_OK ? "." : "f", x); SAY(faccessat, d, "none", x); SAY(faccessat2, d, x == X_OK ? "." : "f", x, AT_EACCESS); SAY(faccessat2, d, "none", x, AT_EACCESS));
	struct { char b[256]; } st;
	long sx[] = { 0, AT_SYMLINK_NOFOLLOW, AT_NO_AUTOMOUNT, 0x2000, 0x4000 };
	EACH(sx, SAY(statx, d, "s", x, 1, &st); SAY(statx, d, "none", x, 1, &st); SAY(newfstatat, d, "s", &st, x & 0xfff); SAY(newfstatat, d, "none", &st, x & 0xfff));
	unlink("/tmp/q"), unlink("/tmp/s");
}
CASE(xattrs, setxattr, lsetxattr, fsetxattr, llistxattr, flistxattr, lremovexattr, fremovexattr, lgetxattr)
{
	char b[64];
	int f = file();
	long fl[] = { 1, 2 };
	EACH(fl, SAY(setxattr, "/tmp/f", "user.a", "v", 1, x); SAY(setxattr, "/tmp/none", "user.a", "v", 1, x));
	SC(lremovexattr, "/tmp/f", "user.a");
	SC(lremovexattr, "/tmp/f", "user.a");
	EACH(fl, SAY(lsetxattr, "/tmp/f", "trusted.a", "v", 1, x); SAY(lsetxattr, "/tmp/none", "trusted.a", "v", 1, x));
	SC(lgetxattr, "/tmp/f", "trusted.a", b, 64);
	SC(lgetxattr, "/tmp/f", "trusted.b", b, 64);
	SC(llistxattr, "/tmp/f", b, 64);
	SC(llistxattr, "/tmp/none", b, 64);
	SC(fremovexattr, f, "trusted.a");
	SC(fremovexattr, f, "trusted.a");
	EACH(fl, SAY(fsetxattr, f, "trusted.a", "v", 1, x); SAY(fsetxattr, 999, "trusted.a", "v", 1, x));
	SC(flistxattr, f, b, 64);
	SC(flistxattr, 999, b, 64);
}
CASE(watches, inotify_add_watch, inotify_init1, inotify_init)
{
	int i = inotify_init1(0);
	long m[] = { IN_ACCESS, IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE, IN_CLOSE_NOWRITE, IN_OPEN, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF };
	EACH(m, SAY(inotify_add_watch, i, "/tmp", x); SAY(inotify_add_watch, 999, "/tmp", x));
	long f[] = { IN_ONLYDIR, IN_DONT_FOLLOW, IN_EXCL_UNLINK, IN_MASK_ADD, IN_ONESHOT };
	EACH(f, SAY(inotify_add_watch, i, "/tmp", x | IN_OPEN); SAY(inotify_add_watch, 999, "/tmp", x | IN_OPEN));
	SC(inotify_add_watch, i, "/", IN_OPEN | IN_MASK_CREATE);
	SC(inotify_add_watch, i, "/", IN_OPEN | IN_MASK_CREATE);
	int c = FORK(LIMIT(RLIMIT_NOFILE, 0); SC(inotify_init); SC(inotify_init1, IN_NONBLOCK); SC(inotify_init1, IN_CLOEXEC); SC(pipe2, 8L, O_CLOEXEC); SC(pipe2, 8L, O_NONBLOCK); SC(pipe2, 8L, O_DIRECT);
		sigset_t s; sigemptyset(&s); SC(signalfd4, -1, &s, 8, 0x800); SC(signalfd4, -1, &s, 8, 0x80000); SC(memfd_create, "m", 1); SC(memfd_create, "m", 2); SC(pidfd_open, getpid(), 0x800));
	reap("no descriptor left", c);
}
CASE(descriptors, dup3, pipe2, memfd_create, signalfd, signalfd4, flock, syncfs, sync)
{
	int f = file(), p[2];
	sigset_t s;
	sigemptyset(&s);
	SC(dup3, f, 50, O_CLOEXEC);
	R(fcntl(50, F_GETFD));
	SC(dup3, 999, 50, O_CLOEXEC);
	SC(pipe2, p, O_CLOEXEC);
	R(fcntl(p[0], F_GETFD));
	SC(pipe2, p, O_DIRECT);
	OK(syscall(SYS_memfd_create, "m", 1));
	OK(syscall(SYS_signalfd, -1, &s, 8));
	OK(syscall(SYS_signalfd4, -1, &s, 8, 0x80000));
	SC(flock, f, LOCK_SH);
	SC(flock, f, LOCK_UN);
	SC(flock, 999, LOCK_SH);
	SC(flock, 999, LOCK_UN);
	SC(flock, 999, LOCK_EX | LOCK_NB);
	SC(syncfs, f);
	SC(syncfs, 999);
	SC(sync);
}
CASE(controls, shmctl, semctl, msgctl, shmget, semget, msgget)
{
	key_t k = 0x4b1;
	char b[256];
	OK(syscall(SYS_shmget, k, 4096, IPC_CREAT | IPC_EXCL | SHM_NORESERVE | 0600));
	SC(shmget, k, 4096, IPC_CREAT | IPC_EXCL | SHM_NORESERVE | 0600);
	OK(syscall(SYS_semget, k, 1, IPC_CREAT | IPC_EXCL | 0600));
	SC(semget, k, 1, IPC_CREAT | IPC_EXCL | 0600);
	OK(syscall(SYS_msgget, k, IPC_CREAT | IPC_EXCL | 0600));
	SC(msgget, k, IPC_CREAT | IPC_EXCL | 0600);
	struct sembuf sb = { 0, 1, 0 };
	SC(semop, semget(k, 1, 0), &sb, 1);
	SC(semop, 99999, &sb, 1);
	SC(shmctl, 0, IPC_INFO, 8L), ms(0);
	SC(shmctl, 0, SHM_INFO, 8L);
	SC(shmctl, 99999, SHM_UNLOCK, 0);
	SC(shmctl, 99999, SHM_LOCK, 0);
	SC(shmctl, 99999, 15 /* SHM_STAT_ANY */, b);
	SC(shmctl, 99999, SHM_STAT, b);
	SC(semctl, 0, 0, IPC_INFO, 8L);
	SC(semctl, 0, 0, SEM_INFO, 8L);
	SC(semctl, 99999, 0, GETNCNT);
	SC(semctl, 99999, 0, GETZCNT);
	SC(semctl, 99999, 0, 20 /* SEM_STAT_ANY */, b);
	SC(msgctl, 0, IPC_INFO, 8L);
	SC(msgctl, 0, MSG_INFO, 8L);
	SC(msgctl, 99999, 13 /* MSG_STAT_ANY */, b);
	shmctl(shmget(k, 0, 0), IPC_RMID, 0), semctl(semget(k, 0, 0), 0, IPC_RMID), msgctl(msgget(k, 0), IPC_RMID, 0);
}
CASE(waits, wait4, waitid)
{
	long o[] = { WNOHANG, WUNTRACED, WCONTINUED, 0x20000000, 0x40000000, 0x80000000 };
	siginfo_t si;
	EACH(o, SAY(wait4, -1, 0, x, 0); SAY(waitid, P_ALL, 0, &si, x | WEXITED, 0); SAY(waitid, P_ALL, 0, &si, x | WEXITED | WNOWAIT, 0));
}
CASE(limits_raw, getrlimit, setrlimit, prlimit64)
{
	struct rlimit l, big = { 10, 5 };
	SC(getrlimit, RLIMIT_NOFILE, &l);
	SC(setrlimit, RLIMIT_NOFILE, &l);
	SC(getrlimit, 99, &l);
	SC(setrlimit, 99, &l);
	for (long x = 0; x < 16; x++) {
		SAY(prlimit64, 0, x, 0, &l);
		SAY(prlimit64, 0, x, &big, 0);
	}
}
CASE(forks, fork, vfork)
{
	int c = syscall(SYS_fork);
	if (!c)
		_exit(3);
	reap("fork", c);
	c = FORK(setresuid(4242, 4242, 4242); LIMIT(RLIMIT_NPROC, 1); SC(fork); SC(vfork));
	reap("over the limit", c);
}
CASE(pairs, socketpair, shutdown)
{
	int v[2];
	SC(socketpair, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0, v);
	SC(socketpair, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0, v);
	SC(socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, v);
	for (int h = 0; h < 3; h++) {
		SC(shutdown, v[0], h);
		SC(shutdown, 999, h);
	}
}
CASE(mq, mq_open)
{
	SC(mq_open, "none", O_NONBLOCK, 0, 0);
	SC(mq_open, "none", O_RDWR | O_NONBLOCK, 0, 0);
	SC(mq_open, "none", O_WRONLY, 0, 0);
	OK(syscall(SYS_mq_open, "there", O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0600, 0));
	SC(mq_open, "there", O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0600, 0);
	SC(mq_unlink, "there");
}
CASE(pieces, preadv2, pwritev2, splice, tee, vmsplice, sync_file_range, fallocate, close_range)
{
	int f = file(), p[2], q[2];
	char b[8] = "abcdefg";
	struct { void *p; long n; } v = { b, 4 };
	MUST(pipe(p));
	MUST(pipe(q));
	long rw[] = { 1, 2, 4, 16 };
	EACH(rw, SAY(pwritev2, f, &v, 1, 0, 0, x); SAY(pwritev2, 999, &v, 1, 0, 0, x); if (x != 16) SAY(preadv2, f, &v, 1, 0, 0, x); SAY(preadv2, 999, &v, 1, 0, 0, x));
	SC(preadv2, 999, &v, 1, 0, 0, 8);
	SC(pwritev2, 999, &v, 1, 0, 0, 8);
	long sp[] = { 1, 2, 4, 8 };
	EACH(sp, SAY(vmsplice, p[1], &v, 1, x); SAY(vmsplice, 999, &v, 1, x); SAY(tee, p[0], q[1], 1, x); SAY(tee, 999, q[1], 1, x); SAY(splice, p[0], 0, q[1], 0, 1, x); SAY(splice, 999, 0, q[1], 0, 1, x));
	long sf[] = { 1, 2, 4 };
	EACH(sf, SAY(sync_file_range, f, 0, 0, x); SAY(sync_file_range, 999, 0, 0, x));
	SC(fallocate, 999, 3, 0, 4096);
	SC(fallocate, f, 3, 0, 4096);
	SC(close_range, 900, 800, 2);
	SC(close_range, 900, 800, 4);
}
CASE(advice, process_madvise, mprotect)
{
	struct { void *p; long n; } v = { 0, 4096 };
	SC(process_madvise, 999, &v, 1, MADV_PAGEOUT, 0);
	SC(process_madvise, 999, &v, 1, MADV_WILLNEED, 0);
	SC(process_madvise, 999, &v, 1, 25, 0);
	SC(mprotect, 1L, 4096, PROT_EXEC);
	SC(mprotect, 1L, 4096, PROT_GROWSDOWN);
}
CASES
