/* /proc/PID/pagemap: what it says of a page of each kind, and where a read fails
 * (Documentation/admin-guide/mm/pagemap.rst). */
#include "mem.h"
#include <sys/stat.h>

#define SOFT (1ull << 55)
#define ONCE (1ull << 56)
#define FILE_PAGE (1ull << 61)
#define SWAPPED (1ull << 62)
#define PRESENT (1ull << 63)
#define FRAME (SOFT - 1)

static int fd;

static void page(const char *what, void *at)
{
	uint64_t e = 0;
	long n = pread(fd, &e, 8, (uintptr_t)at / PAGE * 8);
	say("%s: %ld%s%s%s%s%s%s", what, n, e & PRESENT ? " present" : "", e & SWAPPED ? " swapped" : "", e & FILE_PAGE ? " file" : "",
	    e & ONCE ? " once" : "", e & SOFT ? " soft-dirty" : "", e & FRAME ? " frame" : "");
}

CASE(pages, pread64)
{
	fd = open("/proc/self/pagemap", O_RDONLY);
	char *p = mmap(0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	page("untouched", p);
	p[0] = 1;
	page("written", p);
	munmap(p + PAGE, PAGE);
	page("hole", p + PAGE);
	char *s = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	s[0] = 1;
	page("shared memory", s);
	mprotect(p, PAGE, PROT_NONE);
	page("no access", p);
	mprotect(p, PAGE, PROT_READ | PROT_WRITE);
	int pipes[2];
	MUST(pipe(pipes));
	pid_t c = fork();
	if (c == 0) {
		char b;
		read(pipes[0], &b, 1);
		_exit(0);
	}
	page("shared with a child", p);
	p[0] = 2;
	page("a copy of its own", p);
	write(pipes[1], "x", 1);
	waitpid(c, 0, 0);
}

CASE(reads, pread64, lseek)
{
	uint64_t e[16];
	fd = open("/proc/self/pagemap", O_RDONLY);
	R(open("/proc/self/pagemap", O_WRONLY));
	R(pread(fd, e, 7, 0));
	R(pread(fd, e, 8, 4));
	R(pread(fd, e, 0, 8));
	R(pread(fd, e, 0, 4));
	R(pread(fd, e, 128, 0));
	R(pread(fd, (void *)1, 8, 0));
	R(pread(fd, e, 8, (1l << 47) / PAGE * 8));
	R(pread(fd, e, 16, ((1l << 47) / PAGE - 2) * 8));
	R(pread(fd, e, 8, 1l << 60));
	R(lseek(fd, 800, SEEK_SET));
	R(read(fd, e, 16));
	R(lseek(fd, 0, SEEK_CUR));
	R(lseek(fd, 0, SEEK_END));
	struct stat st;
	MUST(fstat(fd, &st));
	say("mode %o size %ld", st.st_mode, (long)st.st_size);
}

CASE(without_privilege, pread64)
{
	char *p = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), path[40];
	p[0] = 1;
	pid_t c = fork();
	if (c == 0) {
		snprintf(path, sizeof path, "/proc/%d/pagemap", getppid());
		MUST(setresuid(1000, 1000, 1000));
		prctl(PR_SET_DUMPABLE, 1);
		p[0] = 2;
		fd = open("/proc/self/pagemap", O_RDONLY);
		page("written", p);
		R(open(path, O_RDONLY));
		_exit(0);
	}
	waitpid(c, 0, 0);
}
CASES
