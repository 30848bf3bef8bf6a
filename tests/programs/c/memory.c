/* mmap, mprotect, mremap, madvise, brk, shared mappings, and I/O between a file and its own mapping. */
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define P 4096
static sigjmp_buf back;
static volatile int got;
static void fault(int s) { got = s; siglongjmp(back, 1); }
static int touch(volatile char *p, int write)
{
	got = 0;
	if (sigsetjmp(back, 1) == 0) {
		if (write)
			*p = *p + 1;
		else
			(void)*p;
	}
	return got;
}
#define BAD(x) ((long)(x) == -1 ? -1l : 0l)

static void anonymous(void)
{
	say("-- anonymous");
	char *p = mmap(NULL, 8 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	R(touch(p, 1));
	R(touch(p + 7 * P, 0));
	R(mprotect(p + P, P, PROT_READ));
	R(touch(p + P, 1));
	R(touch(p + P, 0));
	R(mprotect(p + 2 * P, P, PROT_NONE));
	R(touch(p + 2 * P, 0));
	R(munmap(p + 3 * P, P));
	R(touch(p + 3 * P, 0));
	R(mprotect(p, 8 * P, PROT_READ));
	R(mprotect(p + 1, P, PROT_READ));
	R(mprotect(p, P, 0x100));
	R(munmap(p + 1, P));
	R(munmap(p, 0));
	R(munmap((void *)0x7ffffffff000, P));
	R(munmap(p, 8 * P));
	R(munmap(p, 8 * P));
	R(BAD(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
	R(BAD(mmap(NULL, P, PROT_READ, MAP_ANONYMOUS, -1, 0)));
	R(BAD(mmap(NULL, P, PROT_READ, MAP_PRIVATE, -1, 0)));
	R(BAD(mmap(NULL, P, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 1)));
	R(BAD(mmap((void *)0x1001, P, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)));
	R(BAD(mmap((void *)0x7ffffffff000, P, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)));
	R(BAD(mmap((void *)0x7fffffffe000, 2 * P, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)));
	R(BAD(mmap(NULL, 1ul << 47, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)));
	p = mmap(NULL, 4 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	R(BAD(mmap(p, P, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0)));
	strcpy(p, "keep");
	R(madvise(p, P, MADV_DONTNEED));
	R(p[0]);
	R(madvise(p, P, MADV_FREE));
	R(madvise(p, P, MADV_WILLNEED));
	R(madvise(p, P, 9999));
	R(madvise(p + 1, P, MADV_DONTNEED));
	R(madvise((void *)0x10000, P, MADV_DONTNEED));
	R(madvise(p, 0, MADV_DONTNEED));
	unsigned char vec[4] = { 9, 9, 9, 9 };
	p[2 * P] = 1;
	R(mincore(p, 4 * P, vec));
	IS(vec[2] & 1);
	R(mincore(p + 1, P, vec));
	R(mincore((void *)0x10000, P, vec));
	R(mlock(p, P));
	R(munlock(p, P));
	R(msync(p, P, MS_SYNC));
	R(msync(p, P, MS_SYNC | MS_ASYNC));
	R(msync((void *)0x10000, P, MS_SYNC));
	munmap(p, 4 * P);
}

static void moving(void)
{
	say("-- mremap");
	char *p = mmap(NULL, 4 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *q;
	strcpy(p, "first");
	strcpy(p + 3 * P, "last");
	q = mremap(p, 4 * P, 64 * P, MREMAP_MAYMOVE);
	OK(q);
	IS(!strcmp(q, "first") && !strcmp(q + 3 * P, "last") && q[63 * P] == 0);
	p = q;
	q = mremap(p, 64 * P, 2 * P, 0);
	IS(q == p);
	R(touch(p + 3 * P, 0));
	char *hole = mmap(NULL, 16 * P, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	q = mremap(p, 2 * P, 2 * P, MREMAP_MAYMOVE | MREMAP_FIXED, hole + 4 * P);
	IS(q == hole + 4 * P && !strcmp(q, "first"));
	R(touch(p, 0));
	R(BAD(mremap(q, 2 * P, 8 * P, 0)) ? -1 : 0);
	R(BAD(mremap(q, 2 * P, 0, MREMAP_MAYMOVE)));
	R(BAD(mremap(q + 1, P, P, MREMAP_MAYMOVE)));
	R(BAD(mremap(q, P, P, 99)));
	R(BAD(mremap(q, P, P, MREMAP_FIXED, hole)));
	R(BAD(mremap(q, 2 * P, 2 * P, MREMAP_MAYMOVE | MREMAP_FIXED, q + P)));
	R(BAD(mremap((void *)0x10000, P, 2 * P, MREMAP_MAYMOVE)));
	munmap(hole, 16 * P);
}

static void files(void)
{
	say("-- files");
	int f = open("/tmp/mapped", O_RDWR | O_CREAT | O_TRUNC, 0600);
	char b[P];
	MUST(f);
	R(ftruncate(f, 3 * P + 100));
	char *s = mmap(NULL, 5 * P, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
	char *v = mmap(NULL, 4 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE, f, 0);
	strcpy(s, "shared");
	R(pread(f, b, 7, 0));
	IS(!strcmp(b, "shared"));
	IS(!strcmp(v, "shared"));
	strcpy(v, "private");
	IS(!strcmp(s, "shared"));
	R(pwrite(f, "written", 8, P));
	IS(!strcmp(s + P, "written") && !strcmp(v + P, "written"));
	R(touch(s + 3 * P + 2000, 1));
	R(touch(s + 4 * P, 0));
	R(ftruncate(f, P));
	R(touch(s + P, 0));
	R(touch(v + P, 0));
	IS(!strcmp(v, "private"));
	R(ftruncate(f, 2 * P));
	R(s[P]);
	R(msync(s, P, MS_SYNC));
	/* Between a file and its own mapping. */
	memset(s, 'a', P);
	memset(s + P, 'b', P);
	R(pwrite(f, s, 2 * P, 0));
	IS(s[0] == 'a' && s[2 * P - 1] == 'b');
	R(pread(f, s + P, P, 0));
	IS(s[P] == 'a');
	R(pwrite(f, s, P, 100));
	R(pread(f, s + 7, P, 0));
	char *nv = mmap(NULL, 2 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE, f, 0);
	R(pread(f, nv, 2 * P, 0));
	R(pwrite(f, nv, 2 * P, P));
	R(lseek(f, 0, SEEK_END));
	struct iovec io[2] = { { s, P }, { nv + P, P } };
	R(pwritev(f, io, 2, 0));
	R(preadv(f, io, 2, P));
	/* Rights of the descriptor. */
	int r = open("/tmp/mapped", O_RDONLY), w = open("/tmp/mapped", O_WRONLY), d = open("/tmp", O_RDONLY);
	R(BAD(mmap(NULL, P, PROT_READ | PROT_WRITE, MAP_SHARED, r, 0)));
	R(BAD(mmap(NULL, P, PROT_READ | PROT_WRITE, MAP_PRIVATE, r, 0)));
	R(BAD(mmap(NULL, P, PROT_READ, MAP_SHARED, w, 0)));
	R(BAD(mmap(NULL, P, PROT_READ, MAP_PRIVATE, d, 0)));
	R(BAD(mmap(NULL, P, PROT_READ, MAP_SHARED, 999, 0)));
	char *ro = mmap(NULL, P, PROT_READ, MAP_SHARED, r, 0);
	R(mprotect(ro, P, PROT_READ | PROT_WRITE));
	R(read(r, ro, 10));
	R(write(f, (void *)0x10000, 10));
	close(r);
	close(w);
	close(d);
	close(f);
	R(unlink("/tmp/mapped"));
	IS(s[0] != 0);
	munmap(s, 5 * P);
}

static void *writer(void *p)
{
	for (int i = 0; i < 2000; i++)
		((volatile int *)p)[i % 1024]++;
	return NULL;
}

static void racing(void)
{
	say("-- threads and mappings");
	pthread_t t[4];
	char *p = mmap(NULL, 64 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, writer, p + i * P);
	for (int i = 0; i < 200; i++) {
		char *q = mmap(NULL, 3 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		q[P] = 1;
		munmap(q, 3 * P);
		mprotect(p + 32 * P, P, i & 1 ? PROT_READ : PROT_READ | PROT_WRITE);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	R(*(int *)p);
	munmap(p, 64 * P);
}

static void heap(void)
{
	say("-- brk");
	char *b = (char *)syscall(SYS_brk, 0);
	IS((char *)syscall(SYS_brk, b + 10 * P) == b + 10 * P);
	b[9 * P] = 7;
	IS((char *)syscall(SYS_brk, b) == b);
	IS((char *)syscall(SYS_brk, b + P) == b + P);
	R(b[0]);
	IS((char *)syscall(SYS_brk, 1) == b + P);
	IS((char *)syscall(SYS_brk, 0x7fffffffffff) == b + P);
}

static void memfds(void)
{
	say("-- memfd");
	int m = memfd_create("m", MFD_ALLOW_SEALING);
	MUST(m);
	R(write(m, "x", 1));
	R(fcntl(m, F_GET_SEALS));
	R(fcntl(m, F_ADD_SEALS, F_SEAL_WRITE));
	R(write(m, "x", 1));
	R(BAD(mmap(NULL, P, PROT_READ | PROT_WRITE, MAP_SHARED, m, 0)));
	R(memfd_create("m", 0x1000));
	close(m);
}

int main(void)
{
	signal(SIGSEGV, fault);
	signal(SIGBUS, fault);
	anonymous();
	moving();
	files();
	racing();
	heap();
	memfds();
	return 0;
}
