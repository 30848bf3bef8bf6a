/* mmap, munmap, mprotect, brk and mremap: every flag with what it does and where it fails
 * (mmap(2), mprotect(2), mremap(2), brk(2)). */
#include "mem.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MAP_SHARED_VALIDATE
#define MAP_SHARED_VALIDATE 3
#endif
#ifndef MAP_SYNC
#define MAP_SYNC 0x80000
#endif
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

CASE(errors, mmap)
{
	int ro = open("/proc/self/exe", O_RDONLY), wo = open("/tmp/wo", O_CREAT | O_WRONLY, 0600), p[2], dir = open("/", O_RDONLY), path = open("/", O_PATH);
	pipe(p);
	MAPS(0, 0, RW, ANON, -1, 0);
	MAPS(0, 0, RW, MAP_PRIVATE, -1, 0);
	MAPS(0, PAGE, RW, 0, -1, 0);
	MAPS(0, PAGE, RW, MAP_ANONYMOUS, -1, 0);
	MAPS(0, PAGE, RW, 15 | MAP_ANONYMOUS, -1, 0);
	MAPS(0, PAGE, RW, MAP_PRIVATE, -1, 0);
	MAPS(0, PAGE, RW, MAP_PRIVATE, 999, 0);
	MAPS(0, PAGE, RW, MAP_PRIVATE, path, 0);
	MAPS(0, PAGE, PROT_READ, MAP_PRIVATE, p[0], 0);
	MAPS(0, PAGE, PROT_READ, MAP_PRIVATE, dir, 0);
	MAPS(0, PAGE, PROT_READ, MAP_PRIVATE, wo, 0);
	MAPS(0, PAGE, PROT_WRITE, MAP_SHARED, wo, 0);
	MAPS(0, PAGE, RW, MAP_SHARED, ro, 0);
	MAPS(0, PAGE, RW, MAP_SHARED_VALIDATE, ro, 0);
	MAPS(0, PAGE, RW, MAP_PRIVATE, ro, 0);
	SC(mmap, 0, PAGE, PROT_READ, MAP_PRIVATE, ro, 1);
	SC(mmap, 0, PAGE, PROT_READ, MAP_PRIVATE, 999, 1);
	SC(mmap, 0, PAGE, PROT_READ, MAP_PRIVATE, ro, -4096L);
	SC(mmap, 0, -1L, PROT_READ, ANON, -1, 0);
	SC(mmap, 0, 1L << 47, PROT_READ, ANON, -1, 0);
	SC(mmap, 0, -4096L, PROT_READ, MAP_PRIVATE, 999, 0);
	unlink("/tmp/wo");
}

CASE(fixed, mmap, munmap)
{
	char *p = map(3);
	IS(MAPS(p + PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0) == p + PAGE);
	say("%c %d %c", p[0], p[PAGE], p[2 * PAGE]);
	MAPS(p + 1, PAGE, RW, ANON | MAP_FIXED, -1, 0);
	MAPS((void *)(1L << 47), PAGE, RW, ANON | MAP_FIXED, -1, 0);
	MAPS((void *)0x7ffffffff000, PAGE, RW, ANON | MAP_FIXED, -1, 0);
	MAPS((void *)-4096L, PAGE, RW, ANON | MAP_FIXED, -1, 0);
	IS(mmap(p + PAGE, PAGE, RW, ANON, -1, 0) != p + PAGE);
	munmap(p + PAGE, PAGE);
	IS(mmap(p + PAGE + 17, PAGE, RW, ANON, -1, 0) == p + PAGE); /* a hint that is free, rounded */
}

CASE(fixed_low, mmap)
{
	int p = FORK(unroot(); MAPS(0, PAGE, RW, ANON | MAP_FIXED, -1, 0); MAPS((void *)PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0);
		MAPS((void *)0xf000, PAGE, RW, ANON | MAP_FIXED, -1, 0); MAPS((void *)0x10000, PAGE, RW, ANON | MAP_FIXED, -1, 0);
		MAPS((void *)0xf000, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0));
	reap("unprivileged", p);
}

CASE(fixed_noreplace, mmap)
{
	char *p = map(3);
	MAPS(p, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0);
	MAPS(p - PAGE, 2 * PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0);
	MAPS(p + 2 * PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE | MAP_FIXED, -1, 0);
	MAPS(p + 1, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0);
	munmap(p + PAGE, PAGE);
	IS(MAPS(p + PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == p + PAGE);
	say("%c %d %c", p[0], p[PAGE], p[2 * PAGE]);
}

CASE(growsdown, mmap)
{
	char *base = gap(512), *p = MAPS(base + 400 * PAGE, PAGE, RW, ANON | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
	PUT(p);
	PUT(p - 8);
	PUT(p - PAGE - 8);
	PUT(p - 100 * PAGE);
	MAPS(0, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0);
	MAPS(0, PAGE, RW, MAP_PRIVATE | MAP_GROWSDOWN, file(PAGE), 0);
}

CASE(growsdown_gap, mmap)
{
	/* It does not grow into the guard gap above another mapping. */
	char *base = gap(600), *p;
	MUST(mmap(base + 100 * PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0));
	p = mmap(base + 400 * PAGE, PAGE, RW, ANON | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
	PUT(p - 10 * PAGE);
	PUT(p - 30 * PAGE);
	PUT(p - 45 * PAGE);
	int c = FORK(LIMIT(RLIMIT_STACK, 64 * PAGE); PUT(p - 43 * PAGE); p = mmap(base + 550 * PAGE, PAGE, RW, ANON | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
		PUT(p - 20 * PAGE); PUT(p - 70 * PAGE));
	reap("with a limit", c);
}

static int resident(char *p, int n)
{
	unsigned char v[64];
	int k = 0;
	MUST(mincore(p, n * PAGE, v));
	for (int i = 0; i < n; i++)
		k += v[i] & 1;
	return k;
}

CASE(populate, mmap, mincore)
{
	char *p = MAPS(0, 8 * PAGE, RW, ANON, -1, 0);
	R(resident(p, 8));
	p = MAPS(0, 8 * PAGE, RW, ANON | MAP_POPULATE, -1, 0);
	R(resident(p, 8));
	p = MAPS(0, 8 * PAGE, RW, ANON | MAP_POPULATE | MAP_NONBLOCK, -1, 0);
	R(resident(p, 8));
	p = MAPS(0, 8 * PAGE, PROT_READ, ANON | MAP_POPULATE, -1, 0);
	R(resident(p, 8));
	p = MAPS(0, 8 * PAGE, PROT_NONE, ANON | MAP_POPULATE, -1, 0);
	R(resident(p, 8));
	p = MAPS(0, 8 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	R(resident(p, 8));
	p = MAPS(0, 8 * PAGE, RW, MAP_SHARED | MAP_POPULATE, file(4 * PAGE), 0);
	R(resident(p, 4));
	MAPS(0, PAGE, RW, MAP_PRIVATE | MAP_POPULATE, 999, 0);
	MAPS(0, PAGE, RW, MAP_PRIVATE | MAP_NONBLOCK, 999, 0);
}

CASE(locked, mmap)
{
	char *p = MAPS(0, 8 * PAGE, RW, ANON | MAP_LOCKED, -1, 0);
	R(resident(p, 8));
	int c = FORK(LIMIT(RLIMIT_MEMLOCK, 8 * PAGE); unroot();
		MAPS(0, 9 * PAGE, RW, ANON | MAP_LOCKED, -1, 0); p = MAPS(0, 6 * PAGE, RW, ANON | MAP_LOCKED, -1, 0);
		MAPS(0, 3 * PAGE, RW, ANON | MAP_LOCKED, -1, 0); munmap(p, 2 * PAGE); MAPS(0, 3 * PAGE, RW, ANON | MAP_LOCKED, -1, 0));
	reap("with a limit", c);
	c = FORK(LIMIT(RLIMIT_MEMLOCK, 0); unroot(); MAPS(0, PAGE, RW, ANON | MAP_LOCKED, -1, 0));
	reap("with a limit of 0", c);
}

CASE(noreserve, mmap)
{
	char *p = MAPS(0, 1L << 40, RW, ANON | MAP_NORESERVE, -1, 0);
	PUT(p + (1L << 39));
	MAPS(0, PAGE, RW, ANON | MAP_NORESERVE, 999, 0);
	MAPS(0, PAGE, RW, MAP_PRIVATE | MAP_NORESERVE, 999, 0);
	MAPS(0, 1L << 50, RW, ANON | MAP_NORESERVE, -1, 0);
}

CASE(shared_validate, mmap)
{
	int fd = file(2 * PAGE);
	char *p = MAPS(0, PAGE, RW, MAP_SHARED_VALIDATE, fd, 0), c;
	*p = 'x';
	R(pread(fd, &c, 1, 0));
	R(c);
	MAPS(0, PAGE, RW, MAP_SHARED_VALIDATE | MAP_ANONYMOUS, -1, 0);
	MAPS(0, PAGE, RW, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
	MAPS(0, PAGE, RW, MAP_SHARED_VALIDATE | 0x800000, fd, 0);
	MAPS(0, PAGE, RW, MAP_SHARED_VALIDATE | MAP_POPULATE | MAP_LOCKED | MAP_NORESERVE | MAP_NONBLOCK | MAP_STACK, fd, 0);
	MAPS(0, PAGE, RW, MAP_SHARED | MAP_SYNC, fd, 0);
	MAPS(0, PAGE, RW, MAP_PRIVATE | MAP_SYNC, fd, 0);
	MAPS(0, PAGE, RW, MAP_SHARED | 0x800000, fd, 0);
	MAPS(0, PAGE, RW, MAP_SHARED_VALIDATE | MAP_SYNC, 999, 0);
}

CASE(low_2g, mmap)
{
	char *p = MAPS(0, PAGE, RW, ANON | MAP_32BIT, -1, 0);
	IS((unsigned long)p + PAGE <= 1L << 31);
	IS(MAPS(p, PAGE, RW, ANON | MAP_32BIT, -1, 0) != p);
	MAPS(0, 1L << 31, RW, ANON | MAP_32BIT | MAP_NORESERVE, -1, 0);
	MAPS(0, PAGE, RW, MAP_PRIVATE | MAP_32BIT, 999, 0);
	char *hint = (char *)0x50000000; /* a hint counts, if what it names lies below 2 GB */
	IS(MAPS(hint, PAGE, RW, ANON | MAP_32BIT, -1, 0) == hint);
	IS(MAPS(hint, PAGE, RW, ANON | MAP_32BIT, -1, 0) != hint);
	hint = (char *)0x20000000;
	IS(MAPS(hint + 1, PAGE, RW, ANON | MAP_32BIT, -1, 0) == hint);
	hint = (char *)(0x80000000 - PAGE);
	IS(MAPS(hint, PAGE, RW, ANON | MAP_32BIT, -1, 0) == hint);
	p = MAPS(hint + PAGE, PAGE, RW, ANON | MAP_32BIT, -1, 0);
	IS((unsigned long)p >= 0x40000000 && p < hint);
}

CASE(ignored_flags, mmap)
{
	MAPS(0, PAGE, RW, ANON | MAP_STACK, -1, 0);
	MAPS(0, PAGE, RW, ANON | MAP_DENYWRITE, -1, 0);
	MAPS(0, PAGE, RW, ANON | MAP_EXECUTABLE, -1, 0);
	MAPS(0, PAGE, RW, ANON | 0x4000000, -1, 0);
	MAPS(0, PAGE, RW, MAP_PRIVATE | MAP_STACK, 999, 0);
	MAPS(0, PAGE, RW, MAP_PRIVATE | MAP_DENYWRITE, 999, 0);
	MAPS(0, PAGE, RW, MAP_PRIVATE | MAP_EXECUTABLE, 999, 0);
	MAPS(0, PAGE, RW, MAP_PRIVATE | 0x4000000, 999, 0);
	int c = FORK(MAPS(0, PAGE, PROT_READ, MAP_PRIVATE | MAP_DENYWRITE, open("/proc/self/exe", 0), 0); R(open("/proc/self/exe", O_WRONLY)));
	reap("deny write", c);
}

CASE(huge, mmap)
{
	/* no huge pages are reserved */
	MAPS(0, 2L << 20, RW, ANON | MAP_HUGETLB, -1, 0);
	MAPS(0, 2L << 20, RW, ANON | MAP_HUGETLB | 21 << MAP_HUGE_SHIFT, -1, 0);
	MAPS(0, 2L << 20, RW, MAP_PRIVATE | MAP_HUGETLB, file(PAGE), 0);
	MAPS(0, 2L << 20, RW, MAP_PRIVATE | MAP_HUGETLB, 999, 0);
	MAPS(0, 2L << 20, RW, ANON | MAP_HUGETLB | 13 << MAP_HUGE_SHIFT, -1, 0);
	MAPS(0, 0, RW, ANON | MAP_HUGETLB, -1, 0);
}

CASE(beyond_the_end, mmap, ftruncate)
{
	int fd = file(PAGE + 100);
	char *p = MAPS(0, 4 * PAGE, RW, MAP_SHARED, fd, 0), b[8] = "";
	PUT(p + PAGE + 99);
	PUT(p + PAGE + 200); /* in the last page */
	PUT(p + 2 * PAGE);
	GET(p + 3 * PAGE + 5);
	R(pread(fd, b, 8, PAGE + 98));
	MUST(ftruncate(fd, 3 * PAGE));
	PUT(p + 2 * PAGE);
	MUST(ftruncate(fd, PAGE));
	GET(p + PAGE);
	GET(p + 2 * PAGE);
	GET(p);
	MUST(ftruncate(fd, 0));
	GET(p);
	R(read(fd, p, 1));
	R(write(fd, p, 1));
}

CASE(beyond_the_end_private, mmap)
{
	int fd = file(2 * PAGE);
	char *p = MAPS(0, 3 * PAGE, RW, MAP_PRIVATE, fd, 0);
	PUT(p);
	MUST(ftruncate(fd, 0));
	GET(p);
	GET(p + PAGE);
	PUT(p + 2 * PAGE);
}

CASE(shared_file, mmap)
{
	int fd = file(2 * PAGE);
	char *p = MAPS(0, 2 * PAGE, RW, MAP_SHARED, fd, 0), *q = MAPS(0, PAGE, PROT_READ, MAP_SHARED, fd, PAGE), b[4] = "";
	strcpy(p + PAGE, "via");
	R(strcmp(q, "via"));
	R(pread(fd, b, 4, PAGE));
	R(strcmp(b, "via"));
	pwrite(fd, "write", 6, PAGE);
	R(strcmp(q, "write"));
	int c = FORK(strcpy(p + PAGE, "child"));
	reap("child", c);
	R(strcmp(q, "child"));
	char *r = MAPS(0, PAGE, RW, MAP_PRIVATE, fd, PAGE);
	strcpy(r, "own");
	R(strcmp(q, "child"));
	close(fd);
	R(strcmp(p + PAGE, "child"));
}

CASE(dev_zero, mmap)
{
	int fd = open("/dev/zero", O_RDWR);
	char *p = MAPS(0, PAGE, RW, MAP_PRIVATE, fd, 0), *q = MAPS(0, PAGE, RW, MAP_SHARED, fd, 0);
	R(*p);
	PUT(p);
	int c = FORK(*q = 7; *p = 7);
	reap("child", c);
	R(*p);
	R(*q);
	MAPS(0, PAGE, RW, MAP_PRIVATE, open("/dev/null", O_RDWR), 0);
}

CASE(unmap, munmap)
{
	char *p = map(5);
	R(munmap(p + 1, PAGE));
	R(munmap(p, 0));
	R(munmap(p, -1L));
	R(munmap((void *)(1L << 47), PAGE));
	R(munmap((void *)0x7ffffffff000, PAGE));
	R(munmap(p + PAGE, 1));
	GET(p + PAGE);
	GET(p + 2 * PAGE);
	R(munmap(p + PAGE, PAGE)); /* nothing there: fine */
	R(munmap(p, 5 * PAGE));
	GET(p + 4 * PAGE);
}

CASE(protections, mmap, mprotect)
{
	char *p = MAPS(0, PAGE, PROT_NONE, ANON, -1, 0);
	GET(p);
	p = MAPS(0, PAGE, PROT_READ, ANON, -1, 0);
	GET(p);
	PUT(p);
	p = MAPS(0, PAGE, PROT_WRITE, ANON, -1, 0);
	PUT(p);
	GET(p);
	p = MAPS(0, PAGE, PROT_EXEC, ANON, -1, 0); /* what a read does depends on the processor's keys */
	p = MAPS(0, PAGE, RW | PROT_EXEC, ANON, -1, 0);
	*p = (char)0xc3; /* ret */
	FAULTS("call", p, ((void (*)(void))p)());
	R(mprotect(p, PAGE, RW));
	FAULTS("call", p, ((void (*)(void))p)());
	R(mprotect(p, PAGE, PROT_READ | PROT_EXEC));
	FAULTS("call", p, ((void (*)(void))p)());
	PUT(p);
	MAPS(0, PAGE, PROT_EXEC, MAP_PRIVATE, 999, 0);
	MAPS(0, PAGE, PROT_NONE | 8, ANON, -1, 0);
	MAPS(0, PAGE, PROT_READ | 0xf0, ANON, -1, 0);
	MAPS(0, PAGE, 8, MAP_PRIVATE, 999, 0);
}

CASE(protect_errors, mprotect)
{
	char *p = map(4);
	R(mprotect(p + 1, PAGE, PROT_READ));
	R(mprotect(p, 0, PROT_READ));
	R(mprotect(p, 4 * PAGE, 0x40));
	R(mprotect(p, 4 * PAGE, PROT_READ | 0x80));
	R(mprotect(p, PAGE, RW | 8 /* PROT_SEM */));
	R(mprotect(p + 1, PAGE, RW | 8));
	R(mprotect(p, -1L, PROT_READ));
	R(mprotect((void *)(1L << 47), PAGE, PROT_READ));
	R(mprotect((void *)-4096L, PAGE, PROT_READ));
	R(mprotect(p, PAGE, PROT_GROWSDOWN | PROT_READ));
	R(mprotect(p, PAGE, PROT_GROWSUP | PROT_READ));
	R(mprotect(p, PAGE, PROT_GROWSUP | PROT_GROWSDOWN | PROT_READ));
	munmap(p + 2 * PAGE, PAGE);
	R(mprotect(p + PAGE, 3 * PAGE, PROT_READ));
	PUT(p + PAGE); /* what lies before the hole has changed */
	PUT(p + 3 * PAGE);
	R(mprotect(p + 2 * PAGE, PAGE, PROT_READ));
}

CASE(protect_growsdown, mprotect)
{
	char *base = gap(512), *p = mmap(base + 400 * PAGE, 4 * PAGE, PROT_READ, ANON | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
	R(mprotect(p + 2 * PAGE, PAGE, RW | PROT_GROWSDOWN)); /* from the mapping's start on */
	PUT(p);
	PUT(p + PAGE);
	PUT(p + 2 * PAGE);
	PUT(p + 3 * PAGE);
	R(mprotect(p + 2 * PAGE, PAGE, RW | PROT_GROWSUP));
	R(mprotect(p - 20 * PAGE, PAGE, RW | PROT_GROWSDOWN));
}

CASE(protect_files, mprotect)
{
	int fd = file(PAGE), ro = open("/proc/self/exe", O_RDONLY);
	char *p = mmap(0, PAGE, PROT_READ, MAP_SHARED, ro, 0);
	R(mprotect(p, PAGE, RW));
	R(mprotect(p, PAGE, PROT_NONE));
	GET(p);
	R(mprotect(p, PAGE, PROT_READ));
	p = mmap(0, PAGE, PROT_READ, MAP_PRIVATE, ro, 0);
	R(mprotect(p, PAGE, RW));
	PUT(p);
	p = mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	R(mprotect(p, PAGE, RW));
	PUT(p);
	R(mprotect(p, PAGE, PROT_EXEC | 0x8));
}

CASE(break, brk)
{
	char *b = (char *)syscall(SYS_brk, 0), *p = (char *)(((long)b + PAGE - 1) & -PAGE);
	IS((char *)syscall(SYS_brk, p + 2 * PAGE) == p + 2 * PAGE);
	PUT(p + PAGE);
	IS((char *)syscall(SYS_brk, p + 2 * PAGE + 1) == p + 2 * PAGE + 1);
	PUT(p + 3 * PAGE - 1);
	GET(p + 3 * PAGE);
	IS((char *)syscall(SYS_brk, p) == p);
	GET(p);
	IS((char *)syscall(SYS_brk, p + PAGE) == p + PAGE);
	R(*p); /* fresh memory again */
	IS((char *)syscall(SYS_brk, 1) == p + PAGE);
	IS((char *)syscall(SYS_brk, -1L) == p + PAGE);
	IS((char *)syscall(SYS_brk, p + (1L << 46)) == p + PAGE);
	MUST(mmap(p + 8 * PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0));
	IS((char *)syscall(SYS_brk, p + 9 * PAGE) == p + PAGE);
	int c = FORK(LIMIT(RLIMIT_DATA, 0); IS((char *)syscall(SYS_brk, p + 3 * PAGE) == p + PAGE));
	reap("limited", c);
	c = FORK(LIMIT(RLIMIT_AS, PAGE); IS((char *)syscall(SYS_brk, p + 3 * PAGE) == p + PAGE));
	reap("limited", c);
}

CASE(limits, mmap, mremap)
{
	char *p = map(1);
	int c = FORK(LIMIT(RLIMIT_AS, PAGE); MAPS(0, PAGE, RW, ANON, -1, 0); IS(mremap(p, PAGE, 2 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED && errno == ENOMEM);
		MAPS(p, PAGE, RW, ANON | MAP_FIXED, -1, 0));
	reap("RLIMIT_AS", c);
	c = FORK(LIMIT(RLIMIT_DATA, PAGE); MAPS(0, PAGE, RW, ANON, -1, 0); MAPS(0, PAGE, PROT_READ, ANON, -1, 0); MAPS(0, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		char *q = mmap(0, PAGE, PROT_READ, ANON, -1, 0); R(mprotect(q, PAGE, RW)));
	reap("RLIMIT_DATA", c);
}

#define REMAP(...) ({ errno = 0; char *m_ = mremap(__VA_ARGS__); say("mremap(%s): %s", #__VA_ARGS__, m_ == MAP_FAILED ? errname(errno) : "ok"); m_; })
#define DONTUNMAP 4

CASE(remap_errors, mremap)
{
	char *p = map(4), *hole = gap(8);
	int fd = file(PAGE);
	REMAP(p, PAGE, PAGE, 8);
	REMAP(p, PAGE, PAGE, MREMAP_FIXED, hole);
	REMAP(p, PAGE, PAGE, DONTUNMAP, hole);
	REMAP(p, PAGE, 2 * PAGE, DONTUNMAP | MREMAP_MAYMOVE, hole);
	REMAP(p + 1, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
	REMAP(p, PAGE, 0, MREMAP_MAYMOVE);
	REMAP(p, 0, PAGE, MREMAP_MAYMOVE);
	REMAP(hole, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
	REMAP(p + 3 * PAGE, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE);
	REMAP(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, hole + 1);
	REMAP(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p);
	REMAP(p, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + PAGE);
	REMAP(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)(1L << 47));
	REMAP(p, PAGE, 2 * PAGE, 0);
	REMAP(p, PAGE, -4096L, MREMAP_MAYMOVE);
	REMAP(p, PAGE, 1L << 47, MREMAP_MAYMOVE);
	char *q = mmap(0, PAGE, RW, MAP_SHARED, fd, 0);
	REMAP(q, PAGE, PAGE, DONTUNMAP | MREMAP_MAYMOVE, 0);
}

CASE(remap_resize, mremap)
{
	char *base = gap(16), *p = mmap(base, 4 * PAGE, RW, ANON | MAP_FIXED, -1, 0), *q;
	for (int i = 0; i < 4; i++)
		p[i * PAGE] = 'a' + i;
	IS(REMAP(p, 4 * PAGE, 2 * PAGE, 0) == p);
	GET(p + 2 * PAGE);
	IS(REMAP(p, 2 * PAGE, 6 * PAGE, 0) == p);
	say("%c %d", p[PAGE], p[2 * PAGE]);
	MUST(mmap(p + 6 * PAGE, PAGE, PROT_READ, ANON | MAP_FIXED, -1, 0));
	REMAP(p, 6 * PAGE, 8 * PAGE, 0);
	q = REMAP(p, 6 * PAGE, 8 * PAGE, MREMAP_MAYMOVE);
	IS(q != p);
	say("%c %c %d", q[0], q[PAGE], q[7 * PAGE]);
	GET(p);
	/* the middle of a mapping */
	IS(REMAP(q + 2 * PAGE, PAGE, PAGE, 0) == q + 2 * PAGE);
	REMAP(q + 2 * PAGE, PAGE, 2 * PAGE, 0);
	p = REMAP(q + PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
	say("%c %d", p[0], p[PAGE]);
	GET(q + PAGE);
	GET(q + 2 * PAGE);
}

CASE(remap_move, mremap)
{
	char *p = map(3), *to = gap(8);
	IS(REMAP(p, 3 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	say("%c %c %c", to[0], to[PAGE], to[2 * PAGE]);
	GET(p);
	p = map(2);
	IS(REMAP(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + PAGE) == to + PAGE); /* replaces */
	say("%c %c %c", to[0], to[PAGE], to[2 * PAGE]);
	IS(REMAP(to, 3 * PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + 4 * PAGE) == to + 4 * PAGE);
	GET(to + PAGE);
	R(to[4 * PAGE]);
}

CASE(remap_duplicate, mremap)
{
	/* An old length of 0 maps shared memory a second time. */
	char *p = mmap(0, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0), *q = REMAP(p, 0, PAGE, MREMAP_MAYMOVE);
	*p = 'x';
	R(*q);
	munmap(p, PAGE);
	R(*q);
}

CASE(remap_dontunmap, mremap)
{
	char *p = map(2), *to = gap(4), *q;
	IS(REMAP(p, 2 * PAGE, 2 * PAGE, DONTUNMAP | MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	say("%c %c, left behind %d %d", to[0], to[PAGE], p[0], p[PAGE]);
	PUT(p);
	p = map(2);
	q = REMAP(p, 2 * PAGE, 2 * PAGE, DONTUNMAP | MREMAP_MAYMOVE, 0);
	IS(q != p);
	say("%c %c, left behind %d %d", q[0], q[PAGE], p[0], p[PAGE]);
}

CASE(remap_locked, mremap, mlock)
{
	int c = FORK(LIMIT(RLIMIT_MEMLOCK, 2 * PAGE); unroot(); char *p = map(1); R(mlock(p, PAGE)); REMAP(p, PAGE, 3 * PAGE, MREMAP_MAYMOVE);
		p = REMAP(p, PAGE, 2 * PAGE, MREMAP_MAYMOVE); R(mlock(map(1), PAGE)));
	reap("limited", c);
}

CASE(fork_copies, mmap)
{
	char *p = map(2), *s = mmap(0, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int c = FORK(p[0] = 'x'; s[0] = 'y'; mprotect(p, PAGE, PROT_READ); munmap(p + PAGE, PAGE));
	reap("child", c);
	say("%c %c %c", p[0], p[PAGE], s[0]);
	PUT(p);
}

CASE(kernel_writes, mmap)
{
	/* System calls meet the same protections as the program. */
	char *ro = mmap(0, PAGE, PROT_READ, ANON, -1, 0), *none = mmap(0, PAGE, PROT_NONE, ANON, -1, 0);
	int z = open("/dev/zero", O_RDONLY), n = open("/dev/null", O_WRONLY), p[2];
	pipe(p);
	R(read(z, ro, 1));
	R(read(z, none, 1));
	R(write(p[1], none, 1));
	R(write(p[1], ro, 1));
	R(read(p[0], ro, 1));
	R(read(p[0], (void *)0xffffffff80000000, 1));
	R(write(n, none, 1));
}
/* mapped prints the pages and names of the mappings that begin in a range of four pages. */
static void mapped(const char *what, char *at)
{
	char line[512];
	unsigned long from, to;
	FILE *f = fopen("/proc/self/maps", "r");
	while (fgets(line, sizeof line, f))
		if (sscanf(line, "%lx-%lx", &from, &to) == 2 && from >= (long)at && from < (long)at + 4 * PAGE) {
			line[strcspn(line, "\n")] = 0;
			say("%s: page %lu, %lu pages, %s", what, (from - (long)at) / PAGE, (to - from) / PAGE, strchr(line, '/') ?: "no name");
		}
	fclose(f);
}

/* A mapping is named by where its file is now; those of one description become one. */
CASE(named_by_its_place, mmap, rename, unlink)
{
	int a = open("/tmp/mapped", O_CREAT | O_RDWR, 0600), b = open("/tmp/mapped", O_RDWR);
	ftruncate(a, 4 * PAGE);
	char *at = mmap(0, 4 * PAGE, PROT_NONE, ANON, -1, 0);
	for (int i = 0; i < 4; i++)
		mmap(at + i * PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, i < 2 ? a : b, i * PAGE);
	mapped("two descriptions", at);
	R(rename("/tmp/mapped", "/tmp/renamed"));
	mapped("renamed", at);
	close(a);
	R(unlink("/tmp/renamed"));
	mapped("unlinked", at);
}

CASES
