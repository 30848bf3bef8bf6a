/* madvise, mincore, msync, mlock and their kin: each advice and flag with what a program can
 * see of it (madvise(2), mincore(2), msync(2), mlock(2)). */
#include "mem.h"
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static const struct { int a; const char *n; } all[] = {
#define A(x) { MADV_##x, #x }
	A(NORMAL), A(RANDOM), A(SEQUENTIAL), A(WILLNEED), A(DONTNEED), A(FREE), A(REMOVE), A(DONTFORK), A(DOFORK), A(MERGEABLE), A(UNMERGEABLE),
	A(HUGEPAGE), A(NOHUGEPAGE), A(DONTDUMP), A(DODUMP), A(WIPEONFORK), A(KEEPONFORK), A(COLD), A(PAGEOUT), A(POPULATE_READ), A(POPULATE_WRITE),
	{ 24, "DONTNEED_LOCKED" }, { 25, "COLLAPSE" }, { 5, "5" }, { 26, "26" }, { -1, "-1" },
};
#define EACH(what, at, size, ...) for (int i = 0; i < (int)(sizeof all / sizeof *all); i++) { __VA_ARGS__; errno = 0; \
	int r_ = madvise(at, size, all[i].a); say("%s: %s = %d %s", what, all[i].n, r_, r_ ? errname(errno) : ""); }

CASE(anonymous, madvise) { EACH("private", map(2), 2 * PAGE) }
CASE(shared, madvise) { EACH("shared", mmap(0, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0), PAGE) }
CASE(files, madvise)
{
	int fd = file(2 * PAGE);
	EACH("file", mmap(0, PAGE, RW, MAP_SHARED, fd, 0), PAGE)
	EACH("private file", mmap(0, PAGE, RW, MAP_PRIVATE, fd, 0), PAGE)
}
CASE(read_only, madvise)
{
	int fd = open("/proc/self/exe", O_RDONLY);
	EACH("image", mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0), PAGE)
	EACH("read-only", mmap(0, PAGE, PROT_READ, ANON, -1, 0), PAGE)
	EACH("none", mmap(0, PAGE, PROT_NONE, ANON, -1, 0), PAGE)
}
CASE(unaligned, madvise) { char *p = map(2); EACH("unaligned", p + 1, PAGE) EACH("length 0", p, 0) EACH("wraps", p, -PAGE) EACH("huge", p, -1L) }
CASE(holes, madvise)
{
	char *p;
	EACH("hole", p, 3 * PAGE, p = map(3); munmap(p + PAGE, PAGE))
	p = gap(1);
	EACH("nothing", p, PAGE)
}
CASE(locked, madvise) { char *p; EACH("locked", p, PAGE, p = map(1); mlock(p, PAGE)) }

CASE(dontneed, madvise)
{
	char *p = map(3), *s = mmap(0, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int fd = file(PAGE);
	*s = 's';
	R(madvise(p + PAGE, 1, MADV_DONTNEED));
	say("%c %d %c", p[0], p[PAGE], p[2 * PAGE]);
	R(madvise(s, PAGE, MADV_DONTNEED));
	R(*s);
	pwrite(fd, "f", 1, 0);
	char *q = mmap(0, PAGE, RW, MAP_PRIVATE, fd, 0);
	*q = 'x';
	R(madvise(q, PAGE, MADV_DONTNEED));
	R(*q); /* the file's byte again */
	mlock(p, PAGE);
	R(madvise(p, PAGE, MADV_DONTNEED));
	R(*p);
	R(madvise(p, PAGE, 24 /* MADV_DONTNEED_LOCKED */));
	R(*p);
	/* what lies before the hole is done */
	p = map(3);
	munmap(p + PAGE, PAGE);
	R(madvise(p, 3 * PAGE, MADV_DONTNEED));
	say("%d %d", p[0], p[2 * PAGE]);
}

CASE(remove, madvise)
{
	int fd = file(2 * PAGE);
	char *p = mmap(0, 2 * PAGE, RW, MAP_SHARED, fd, 0), b[2];
	p[0] = 'a', p[PAGE] = 'b';
	R(madvise(p, PAGE, MADV_REMOVE));
	say("%d %c", p[0], p[PAGE]);
	R(pread(fd, b, 1, 0));
	R(b[0]);
	R(lseek(fd, 0, SEEK_END));
	p = mmap(0, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	*p = 'c';
	R(madvise(p, PAGE, MADV_REMOVE));
	R(*p);
	R(madvise(map(1), PAGE, MADV_REMOVE));
	R(madvise(mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0), PAGE, MADV_REMOVE));
}

CASE(free_and_write, madvise)
{
	char *p = map(2);
	R(madvise(p, 2 * PAGE, MADV_FREE));
	p[0] = 'n';
	IS(p[0] == 'n');
	IS(p[PAGE] == 'b' || p[PAGE] == 0);
}

CASE(fork_advice, madvise)
{
	char *p = map(4);
	R(madvise(p, PAGE, MADV_DONTFORK));
	R(madvise(p + PAGE, PAGE, MADV_WIPEONFORK));
	R(madvise(p + 2 * PAGE, PAGE, MADV_DONTFORK));
	R(madvise(p + 2 * PAGE, PAGE, MADV_DOFORK));
	R(madvise(p + 3 * PAGE, PAGE, MADV_WIPEONFORK));
	R(madvise(p + 3 * PAGE, PAGE, MADV_KEEPONFORK));
	int c = FORK(GET(p); R(p[PAGE]); R(p[2 * PAGE]); R(p[3 * PAGE]); c = FORK(R(p[PAGE] = 'x')); reap("grandchild", c));
	reap("child", c);
	say("%c %c %c %c", p[0], p[PAGE], p[2 * PAGE], p[3 * PAGE]);
	c = FORK(R(p[PAGE]));
	reap("wiped again", c);
}

CASE(populate, madvise, mincore)
{
	unsigned char v[4];
	char *p = mmap(0, 4 * PAGE, RW, ANON, -1, 0);
	R(madvise(p, 2 * PAGE, MADV_POPULATE_READ));
	R(madvise(p + 3 * PAGE, PAGE, MADV_POPULATE_WRITE));
	R(mincore(p, 4 * PAGE, v));
	say("%d %d %d %d", v[0] & 1, v[1] & 1, v[2] & 1, v[3] & 1);
	p = mmap(0, PAGE, PROT_READ, ANON, -1, 0);
	R(madvise(p, PAGE, MADV_POPULATE_WRITE));
	R(madvise(p, PAGE, MADV_POPULATE_READ));
	p = mmap(0, PAGE, PROT_NONE, ANON, -1, 0);
	R(madvise(p, PAGE, MADV_POPULATE_READ));
	p = mmap(0, 2 * PAGE, RW, MAP_SHARED, file(PAGE), 0);
	R(madvise(p, PAGE, MADV_POPULATE_WRITE));
	R(madvise(p + PAGE, PAGE, MADV_POPULATE_READ));
	R(madvise(p + PAGE, PAGE, MADV_POPULATE_WRITE));
}

CASE(core_errors, mincore)
{
	unsigned char v[8];
	char *p = map(4);
	R(mincore(p + 1, PAGE, v));
	R(mincore(p, PAGE, (void *)8));
	R(mincore(p, PAGE, (void *)0xffffffff80000000));
	R(mincore(p, 0, v));
	R(mincore(p, 0, (void *)8));
	R(mincore((void *)(1L << 47), PAGE, v));
	R(mincore(p, -1L, v));
	munmap(p + 2 * PAGE, PAGE);
	memset(v, 9, 8);
	R(mincore(p, 4 * PAGE, v));
	R(mincore(p, PAGE + 1, v));
	say("%d %d", v[0], v[1]);
}

CASE(core_files, mincore)
{
	unsigned char v[4];
	int fd = file(3 * PAGE);
	char *p = mmap(0, 3 * PAGE, RW, MAP_SHARED, fd, 0);
	R(mincore(p, 3 * PAGE, v));
	say("%d %d %d", v[0] & 1, v[1] & 1, v[2] & 1);
	p[PAGE] = 1;
	pwrite(fd, "x", 1, 2 * PAGE); /* in the page cache, not in the page table */
	R(mincore(p, 3 * PAGE, v));
	say("%d %d %d", v[0] & 1, v[1] & 1, v[2] & 1);
}

CASE(sync_flags, msync)
{
	int fd = file(2 * PAGE);
	char *p = mmap(0, 2 * PAGE, RW, MAP_SHARED, fd, 0);
	*p = 1;
	R(msync(p, PAGE, MS_SYNC));
	R(msync(p, PAGE, MS_ASYNC));
	R(msync(p, PAGE, MS_INVALIDATE));
	R(msync(p, PAGE, MS_INVALIDATE | MS_SYNC));
	R(msync(p, PAGE, MS_INVALIDATE | MS_ASYNC));
	R(msync(p, PAGE, MS_SYNC | MS_ASYNC));
	R(msync(p, PAGE, 0));
	R(msync(p, PAGE, 8));
	R(msync(p + 1, PAGE, MS_SYNC));
	R(msync(p + 1, PAGE, MS_ASYNC));
	R(msync(p + 1, PAGE, MS_INVALIDATE));
	R(msync(p, 0, MS_SYNC));
	R(msync(p, -1L, MS_SYNC));
	R(msync(p, 2 * PAGE, MS_SYNC));
	R(msync(map(1), PAGE, MS_SYNC));
	mlock(p, PAGE);
	R(msync(p, PAGE, MS_INVALIDATE));
	R(msync(p, PAGE, MS_SYNC));
	p = map(3);
	munmap(p + PAGE, PAGE);
	R(msync(p, 3 * PAGE, MS_SYNC));
	R(msync(p, 3 * PAGE, MS_ASYNC));
	R(msync(gap(1), PAGE, MS_ASYNC));
}

CASE(lock, mlock, munlock)
{
	char *p = map(4);
	R(mlock(p + 1, 2 * PAGE));
	R(mlock(p, 0));
	R(mlock(p, -1L));
	R(mlock((void *)(1L << 47), PAGE));
	R(munlock(p, 4 * PAGE));
	R(munlock(p + 7, 1));
	R(munlock(p, -1L));
	R(munlock(gap(1), PAGE));
	munmap(p + 2 * PAGE, PAGE);
	R(mlock(p, 4 * PAGE));
	R(munlock(p, 4 * PAGE));
	R(mlock(mmap(0, PAGE, PROT_NONE, ANON, -1, 0), PAGE));
	p = mmap(0, 2 * PAGE, RW, MAP_SHARED, file(PAGE), 0);
	R(mlock(p, 2 * PAGE));
	R(mlock(p, PAGE));
}

CASE(lock_limit, mlock, mlock2, mlockall)
{
	int c = FORK(LIMIT(RLIMIT_MEMLOCK, 4 * PAGE); char *p = map(8); R(mlock(p, 8 * PAGE)); unroot(); R(mlock(p, 8 * PAGE)); R(munlock(p, 8 * PAGE));
		R(mlock(p, 5 * PAGE)); R(mlock(p, 4 * PAGE)); R(mlock(p, 4 * PAGE)); R(mlock(p + 3 * PAGE, 2 * PAGE)); R(munlock(p, PAGE)); R(mlock(p + 4 * PAGE, PAGE));
		SC(mlock2, p + 5 * PAGE, PAGE, 1); R(mlockall(MCL_CURRENT)));
	reap("4 pages", c);
	c = FORK(LIMIT(RLIMIT_MEMLOCK, 0); char *p = map(1); unroot(); R(mlock(p, PAGE)); R(munlock(p, PAGE)); R(mlockall(MCL_FUTURE)); R(mlockall(MCL_CURRENT)); R(munlockall()));
	reap("none", c);
}

CASE(break_under_lock_limit, brk, mlockall)
{
	char *b = (char *)syscall(SYS_brk, 0);
	int c = FORK(LIMIT(RLIMIT_MEMLOCK, 8 * PAGE); unroot(); R(mlockall(MCL_FUTURE)); IS((char *)syscall(SYS_brk, b + 4 * PAGE) == b + 4 * PAGE);
		IS((char *)syscall(SYS_brk, b + 9 * PAGE) == b + 4 * PAGE); IS((char *)syscall(SYS_brk, b + 8 * PAGE) == b + 8 * PAGE));
	reap("8 pages", c);
	c = FORK(LIMIT(RLIMIT_MEMLOCK, 8 * PAGE); R(mlockall(MCL_FUTURE)); IS((char *)syscall(SYS_brk, b + 9 * PAGE) == b + 9 * PAGE));
	reap("root", c);
}

CASE(lock_on_fault, mlock2)
{
	unsigned char v[4] = "";
	char *p = mmap(0, 4 * PAGE, RW, ANON, -1, 0);
	SC(mlock2, p, 2 * PAGE, 1);
	R(mincore(p, 4 * PAGE, v));
	say("%d %d", v[0] & 1, v[1] & 1);
	SC(mlock2, p + 2 * PAGE, 2 * PAGE, 0);
	R(mincore(p, 4 * PAGE, v));
	say("%d %d", v[2] & 1, v[3] & 1);
	SC(mlock2, p, PAGE, 2);
	SC(mlock2, p, -1L, 1);
	SC(mlock2, gap(1), PAGE, 1);
	SC(mlock2, gap(1), PAGE, 0);
	R(madvise(p, PAGE, MADV_DONTNEED));
}

CASE(lock_all, mlockall, munlockall)
{
	R(mlockall(0));
	R(mlockall(8));
	R(mlockall(MCL_ONFAULT));
	R(mlockall(MCL_CURRENT | 8));
	R(mlockall(MCL_FUTURE | 8));
	R(mlockall(MCL_ONFAULT | 8));
	unsigned char v[2] = "";
	R(mlockall(MCL_FUTURE));
	char *p = mmap(0, 2 * PAGE, RW, ANON, -1, 0);
	R(mincore(p, 2 * PAGE, v));
	say("%d %d", v[0] & 1, v[1] & 1);
	R(mlockall(MCL_FUTURE | MCL_ONFAULT));
	p = mmap(0, 2 * PAGE, RW, ANON, -1, 0);
	R(mincore(p, 2 * PAGE, v));
	say("%d %d", v[0] & 1, v[1] & 1);
	R(madvise(p, PAGE, MADV_DONTNEED));
	R(munlockall());
	R(madvise(p, PAGE, MADV_DONTNEED));
	p = mmap(0, 2 * PAGE, RW, ANON, -1, 0);
	R(mincore(p, 2 * PAGE, v));
	say("%d %d", v[0] & 1, v[1] & 1);
	R(mlockall(MCL_CURRENT));
	R(mincore(p, 2 * PAGE, v));
	say("%d %d", v[0] & 1, v[1] & 1);
	R(madvise(p, PAGE, MADV_DONTNEED));
	int c = FORK(R(madvise(p, PAGE, MADV_DONTNEED))); /* locks are not inherited */
	reap("child", c);
	R(mlockall(MCL_CURRENT | MCL_ONFAULT));
	R(munlockall());
}
CASES
