/* System V shared memory: shmget, shmat, shmdt, shmctl across fork, exec and exit. */
#include "ipc.h"
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>

#define GET(k, n, f) syscall(SYS_shmget, k, (size_t)(n), f)
#define AT(id, a, f) syscall(SYS_shmat, id, a, f)
#define DT(a) syscall(SYS_shmdt, a)
#define CTL(id, cmd, p) syscall(SYS_shmctl, id, cmd, p)

static void att(const char *what, int id)
{
	struct shmid_ds d;
	errno = 0;
	if (CTL(id, IPC_STAT, &d) < 0)
		say("%s: %s", what, errname(errno));
	else
		say("%s: %lu attached, mode %o, last %s", what, d.shm_nattch, d.shm_perm.mode, d.shm_lpid == getpid() ? "mine" : d.shm_lpid == 0 ? "nobody" : "another's");
}

static void get(void)
{
	say("-- shmget");
	int id, id2;
	R(GET(0x1234, 100, 0600));
	R(GET(0x1234, 0, IPC_CREAT | 0600));
	R(GET(0x1234, -1, IPC_CREAT | 0600));
	R(GET(0x1234, 1UL << 46, IPC_CREAT | 0600));
	R(GET(0x1234, 4096, IPC_CREAT | 0600 | SHM_HUGETLB | 22 << 26));
	MUST(id = GET(0x1234, 5000, IPC_CREAT | 0640));
	IS(GET(0x1234, 0, 0) == id);
	IS(GET(0x1234, 5000, IPC_CREAT) == id);
	R(GET(0x1234, 5001, 0));
	R(GET(0x1234, 8192, 0));
	R(GET(0x1234, 1, IPC_CREAT | IPC_EXCL | 0600));
	struct shmid_ds d;
	memset(&d, 0xff, sizeof d);
	R(CTL(id, IPC_STAT, &d));
	say("key %x mode %o uid %d cuid %d size %zu atime %ld dtime %ld nattch %lu lpid %d", d.shm_perm.__key, d.shm_perm.mode, d.shm_perm.uid, d.shm_perm.cuid,
	    d.shm_segsz, (long)d.shm_atime, (long)d.shm_dtime, d.shm_nattch, d.shm_lpid);
	IS(d.shm_cpid == getpid() && d.shm_ctime > 1000000);
	R(CTL(id, IPC_STAT, 0L));
	R(CTL(-1, IPC_STAT, &d));
	R(CTL(id, -1, &d));
	R(CTL(id, 99, &d));
	R(CTL(id + 32768, IPC_STAT, &d));
	d.shm_perm.uid = 5, d.shm_perm.gid = 6, d.shm_perm.mode = 07777;
	R(CTL(id, IPC_SET, &d));
	R(CTL(id, IPC_SET, 0L));
	MUST(CTL(id, IPC_STAT, &d));
	say("mode %o uid %d gid %d cuid %d", d.shm_perm.mode, d.shm_perm.uid, d.shm_perm.gid, d.shm_perm.cuid);
	d.shm_perm.uid = -1;
	R(CTL(id, IPC_SET, &d));
	R(CTL(id, SHM_LOCK, 0L));
	att("locked", id);
	R(CTL(id, SHM_UNLOCK, 0L));
	struct { unsigned long max, min, mni, seg, all, x[4]; } in;
	IS(CTL(0, IPC_INFO, &in) >= 0);
	say("%lu %lu %lu %lu %lu", in.max, in.min, in.mni, in.seg, in.all);
	struct { int used; unsigned long tot, rss, swp, a, s; } si;
	int top;
	MUST(top = CTL(0, SHM_INFO, &si));
	say("used %d total %lu resident %lu swapped %lu", si.used, si.tot, si.rss, si.swp);
	IS(CTL(top, SHM_STAT, &d) == id);
	IS(CTL(top, 15 /* SHM_STAT_ANY */, &d) == id);
	R(CTL(top + 1, SHM_STAT, &d));
	R(CTL(id, IPC_RMID, 0L));
	R(CTL(id, IPC_RMID, 0L));
	R(GET(0x1234, 0, 0));
}

static void attach(void)
{
	say("-- shmat and shmdt");
	int id;
	MUST(id = GET(IPC_PRIVATE, 10000, 0600));
	R(AT(-1, 0, 0));
	R(AT(id + 32768, 0, 0));
	R(AT(id, 0, SHM_REMAP));
	R(AT(id, 0x10001, 0));
	R(AT(id, 0x5, SHM_RND | SHM_REMAP));
	char *a, *b, *c;
	MUST(a = (char *)AT(id, 0, 0));
	att("one", id);
	strcpy(a + 9000, "text");
	MUST(b = (char *)AT(id, 0, SHM_RDONLY));
	say("%s", b + 9000);
	att("two", id);
	R(mprotect(b, 4096, PROT_READ | PROT_WRITE));
	R(AT(id, a, 0));
	R(AT(id, a + 4096, 0));
	char *hole = mmap(NULL, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	R(AT(id, hole, 0));
	R((char *)AT(id, hole, SHM_REMAP) == hole);
	R((char *)AT(id, hole + 16384 + 100, SHM_REMAP | SHM_RND) == hole + 16384);
	att("four", id);
	R(DT(hole + 4096));
	R(DT(hole + 1));
	R(DT(hole));
	R(DT(hole));
	R(DT(hole + 16384));
	att("two", id);
	/* pieces count */
	R(munmap(a + 4096, 4096));
	att("a hole in one", id);
	R(mprotect(a, 4096, PROT_READ));
	att("protected", id);
	R(mprotect(b, 4096, PROT_NONE));
	att("the other split", id);
	R(DT(a));
	att("detached", id);
	R(DT(b));
	att("none", id);
	MUST(c = (char *)AT(id, 0, SHM_EXEC));
	R(DT(c));
	MUST(a = (char *)AT(id, 0, 0));
	R(CTL(id, IPC_RMID, 0L));
	att("marked", id);
	IS(AT(id, 0, 0) != -1); /* as long as it is there */
	att("marked", id);
	MUST(b = mremap(a, 12288, 12288, MREMAP_MAYMOVE | MREMAP_FIXED, hole + 32768));
	att("moved", id);
	say("%s", b + 9000);
	R(munmap(b, 12288));
	att("unmapped", id);
}

/* attached waits until n have it. */
static void attached(int id, unsigned long n)
{
	for (struct shmid_ds d = {}; d.shm_nattch != n; ms(5))
		if (shmctl(id, IPC_STAT, &d))
			break;
}

static void processes(void)
{
	say("-- fork, exec, exit");
	int id, p, q;
	char *a;
	MUST(id = GET(IPC_PRIVATE, 4096, 0600));
	MUST(a = (char *)AT(id, 0, 0));
	make_gate();
	p = FORK({ held(); strcpy(a, "from the child"); });
	att("after fork", id);
	open_gate();
	reap("child", p);
	att("after exit", id);
	say("%s", a);
	p = FORK(execl("/proc/self/exe", "sysvshm", "wait", NULL));
	attached(id, 1);
	att("after exec", id);
	open_gate();
	reap("child", p);
	p = FORK({ ms(10000); });
	att("two", id);
	kill(p, SIGKILL);
	reap("killed", p);
	att("one", id);
	p = FORK({ DT(a); DT(a); ms(10000); });
	attached(id, 1);
	att("child has detached", id);
	kill(p, SIGKILL);
	reap("child", p);
	madvise(a, 4096, MADV_DONTFORK);
	p = FORK(held());
	att("not inherited", id);
	open_gate();
	reap("child", p);
	madvise(a, 4096, MADV_DOFORK);
	CTL(id, IPC_RMID, 0L);
	p = FORK(held());
	DT(a);
	att("the child has it", id);
	open_gate();
	reap("child", p);
	att("gone with the last", id);
	say("-- permissions");
	MUST(id = GET(0x66, 4096, IPC_CREAT | 0604));
	reap("user", FORK({
		struct shmid_ds d;
		setgid(500); setuid(500);
		R(GET(0x66, 0, 0) == id);
		R(GET(0x66, 0, 0006));
		R(GET(0x66, 9999, 0006));
		R(CTL(id, IPC_STAT, &d));
		R(AT(id, 0, 0));
		IS(AT(id, 0, SHM_RDONLY) != -1);
		R(AT(id, 0, SHM_RDONLY | SHM_EXEC));
		R(CTL(id, IPC_SET, &d));
		R(CTL(id, IPC_RMID, 0L));
		R(CTL(id, SHM_LOCK, 0L));
		int mine = GET(IPC_PRIVATE, 4096, 0600);
		R(CTL(mine, SHM_LOCK, 0L));
		struct rlimit z = { 0, 0 };
		setrlimit(RLIMIT_MEMLOCK, &z);
		R(CTL(mine, SHM_LOCK, 0L));
		R(CTL(mine, SHM_UNLOCK, 0L));
		R(CTL(mine, IPC_RMID, 0L));
	}));
	CTL(id, IPC_RMID, 0L);
	MUST(id = GET(0x66, 4096, IPC_CREAT | 0600));
	reap("user", FORK({
		struct shmid_ds d;
		setuid(500);
		R(GET(0x66, 0, 0400));
		R(CTL(id, IPC_STAT, &d));
		R(AT(id, 0, SHM_RDONLY));
		R(CTL(id & 32767, SHM_STAT, &d));
		IS(CTL(id & 32767, 15, &d) == id);
	}));
	CTL(id, IPC_RMID, 0L);
}

static void cat(const char *file)
{
	char b[4096];
	int fd = open(file, O_RDONLY);
	int n = read(fd, b, sizeof b - 1);
	close(fd);
	b[n < 0 ? 0 : n] = 0;
	for (char *l = strtok(b, "\n"); l; l = strtok(NULL, "\n")) {
		int key, id, perm, cp, lp, na, uid, gid, cuid, cgid;
		long size, at, dt, ct, rss, swap;
		if (sscanf(l, "%d %d %o %ld %d %d %d %d %d %d %d %ld %ld %ld %ld %ld", &key, &id, &perm, &size, &cp, &lp, &na, &uid, &gid, &cuid, &cgid, &at, &dt, &ct, &rss, &swap) == 16)
			say("key %d perm %o size %ld by %d %d attached %d owner %d %d %d %d rss %ld swap %ld, %d characters", key, perm, size, cp == getpid(), lp == getpid(), na, uid, gid, cuid, cgid, rss, swap, (int)strlen(l));
		else
			say("%s", l);
	}
}

static void store(const char *file, const char *v)
{
	int fd = open(file, O_WRONLY);
	long n = write(fd, v, strlen(v));
	say("%s <- %s: %s", strrchr(file, '/') + 1, v, n < 0 ? errname(errno) : "ok");
	close(fd);
	cat(file);
}

#define K "/proc/sys/kernel/"
static void files(void)
{
	say("-- /proc");
	int id, id2;
	char *a;
	MUST(id = GET(0x55, 10000, IPC_CREAT | 0644));
	MUST(a = (char *)AT(id, 0, 0));
	a[5000] = 1;
	cat("/proc/sysvipc/shm");
	cat(K "shmmax"), cat(K "shmall"), cat(K "shmmni"), cat(K "shm_rmid_forced");
	store(K "shmmax", "20000");
	R(GET(IPC_PRIVATE, 20001, 0600));
	store(K "shmmax", "18446744073692774399");
	store(K "shmall", "5");
	R(GET(IPC_PRIVATE, 8193, 0600));
	R(GET(IPC_PRIVATE, 8192, 0600) >= 0);
	store(K "shmall", "18446744073692774399");
	store(K "shmmni", "2");
	R(GET(IPC_PRIVATE, 1, 0600));
	store(K "shmmni", "32769");
	store(K "shmmni", "4096");
	store(K "shm_rmid_forced", "2");
	store(K "shm_rmid_forced", "1"); /* the segment that nobody has goes */
	struct { int used; unsigned long tot, rss, swp, x, s; } si;
	CTL(0, SHM_INFO, &si);
	say("used %d", si.used);
	DT(a);
	CTL(0, SHM_INFO, &si);
	say("used %d", si.used);
	store(K "shm_rmid_forced", "0");
}

int main(int argc, char **argv)
{
	alarm(50); /* nothing here takes long: no check may hang */
	if (argc > 1) {
		held();
		return 0;
	}
	get();
	attach();
	processes();
	files();
	return 0;
}
