package vdso

// harness is a C program that maps vdso.so and a data page as the kernel does, runs the
// clocks against the machine's TSC, and counts their instructions by single steps.
const harness = `
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

struct vvar { unsigned seq, usable; unsigned long base, mult; long mono, real, tai; unsigned seg; };
static unsigned char *at;
static volatile struct vvar *vv;

static void *sym(const char *name)
{
	Elf64_Ehdr *eh = (void *)at;
	Elf64_Phdr *ph = (void *)(at + eh->e_phoff);
	Elf64_Dyn *d = 0;
	for (int i = 0; i < eh->e_phnum; i++)
		if (ph[i].p_type == PT_DYNAMIC) d = (void *)(at + ph[i].p_vaddr);
	Elf64_Sym *st = 0; char *str = 0; unsigned *hash = 0;
	for (; d->d_tag; d++) {
		if (d->d_tag == DT_SYMTAB) st = (void *)(at + d->d_un.d_ptr);
		if (d->d_tag == DT_STRTAB) str = (char *)(at + d->d_un.d_ptr);
		if (d->d_tag == DT_HASH) hash = (void *)(at + d->d_un.d_ptr);
	}
	for (unsigned i = 0; i < hash[1]; i++)
		if (!strcmp(str + st[i].st_name, name)) return at + st[i].st_value;
	printf("no symbol %s\n", name); exit(1);
}

typedef int (*gettime_t)(int, struct timespec *);
typedef int (*tod_t)(struct timeval *, struct timezone *);
typedef long (*time_t_)(long *);
typedef long (*getcpu_t)(unsigned *, unsigned *, void *);

static long steps(gettime_t f, int clock)
{
	struct timespec ts;
	pid_t p = fork();
	if (!p) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		f(clock, &ts);
		raise(SIGSTOP);
		asm volatile("int3" ::: "memory");
		f(clock, &ts);
		asm volatile("int3" ::: "memory");
		_exit(0);
	}
	int st; long n = 0;
	waitpid(p, &st, 0);
	ptrace(PTRACE_CONT, p, 0, 0);
	waitpid(p, &st, 0);
	struct user_regs_struct r;
	int in = 0;
	for (int i = 0; i < 10000; i++) {
		if (ptrace(PTRACE_SINGLESTEP, p, 0, 0)) break;
		waitpid(p, &st, 0);
		if (!WIFSTOPPED(st)) break;
		ptrace(PTRACE_GETREGS, p, 0, &r);
		int now = r.rip >= (unsigned long)at && r.rip < (unsigned long)at + 4096;
		if (in && !now) break;
		in = now; n += now;
	}
	kill(p, SIGKILL); waitpid(p, &st, 0);
	return n;
}

#define CHECK(x) do { if (!(x)) { printf("line %d: %s\n", __LINE__, #x); bad = 1; } } while (0)

int main(int argc, char **argv)
{
	int bad = 0, fd = open(argv[1], O_RDONLY);
	unsigned char *m = mmap(0, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	vv = (void *)m;
	at = mmap(m + 4096, 8192, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, 0);
	gettime_t get = (gettime_t)sym("__vdso_clock_gettime"), res = (gettime_t)sym("clock_getres");
	tod_t tod = (tod_t)sym("__vdso_gettimeofday");
	time_t_ tim = (time_t_)sym("time");
	getcpu_t cpu = (getcpu_t)sym("__vdso_getcpu");
	struct timespec a, b, h; struct timeval tv; struct timezone tz = {5, 5}; unsigned c = 999, n = 999;

	// Not usable: the kernel answers.
	vv->usable = 0;
	CHECK(!get(CLOCK_MONOTONIC, &a)); clock_gettime(CLOCK_MONOTONIC, &h);
	CHECK(h.tv_sec - a.tv_sec <= 1);
	CHECK(!tod(&tv, 0) && labs(tv.tv_sec - time(0)) <= 1 && labs(tim(0) - time(0)) <= 1);

	// One nanosecond a tick, times 1/4.
	vv->base = __rdtsc(); vv->mult = 1UL << 30; vv->mono = 5000000000L; vv->real = 1700000000L * 1000000000L + 7; vv->tai = 37000000000L;
	vv->usable = 1; vv->seq = 2;
	unsigned long t0 = __rdtsc();
	CHECK(!get(CLOCK_MONOTONIC, &a));
	unsigned long t1 = __rdtsc();
	unsigned long ns = a.tv_sec * 1000000000UL + a.tv_nsec, lo = 5000000000UL + ((t0 - vv->base) >> 2), hi = 5000000000UL + ((t1 - vv->base) >> 2);
	CHECK(ns + 1 >= lo && ns <= hi);
	int same[] = {CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME};
	for (int i = 0; i < 3; i++) {
		CHECK(!get(same[i], &b) && (b.tv_sec > a.tv_sec || b.tv_nsec >= a.tv_nsec) && b.tv_sec - a.tv_sec <= 1);
	}
	CHECK(!get(CLOCK_REALTIME, &b) && b.tv_sec >= 1700000005 && b.tv_sec <= 1700000006);
	CHECK(!get(CLOCK_REALTIME_COARSE, &h) && h.tv_sec >= b.tv_sec && h.tv_sec <= b.tv_sec + 1);
	CHECK(!get(CLOCK_TAI, &h) && h.tv_sec >= b.tv_sec + 37 && h.tv_sec <= b.tv_sec + 38);
	CHECK(!tod(&tv, &tz) && tv.tv_sec >= b.tv_sec && tv.tv_usec < 1000000 && !tz.tz_minuteswest);
	CHECK(!tod(0, 0));
	long t = 0;
	CHECK(tim(&t) == t && t >= b.tv_sec);

	// A lagging counter does not go back before the base.
	vv->base = __rdtsc() + (1UL << 40);
	CHECK(!get(CLOCK_MONOTONIC, &a) && a.tv_sec == 5 && a.tv_nsec == 0);
	vv->base = __rdtsc();
	// A writer that never ends: the kernel answers.
	vv->seq = 3;
	CHECK(!get(CLOCK_MONOTONIC, &a)); clock_gettime(CLOCK_MONOTONIC, &h);
	CHECK(h.tv_sec - a.tv_sec <= 1);
	vv->seq = 4;

	// Others, and what is no clock, are the kernel's.
	CHECK(!get(CLOCK_PROCESS_CPUTIME_ID, &a) && a.tv_sec < 100);
	CHECK(get(77, &a) == -EINVAL && get(10, &a) == -EINVAL && get(12, &a) == -EINVAL);
	CHECK(get(-1, &a) == -EINVAL && get(0x7fffffff, &a) == -EINVAL && get(-6, &a) == 0);
	CHECK(!res(CLOCK_MONOTONIC, &a) && a.tv_sec == 0 && a.tv_nsec == 1);
	CHECK(!res(CLOCK_MONOTONIC_COARSE, &a) && a.tv_nsec == 4000000);
	CHECK(!res(CLOCK_REALTIME, 0) && res(77, &a) == -EINVAL);
	CHECK(cpu(&c, &n, 0) == 0 && c < 4096 && n < 4096);
	// Linux's own segment of this kind, where there is a Linux that has it; one that is
	// no segment of the program's: the kernel answers.
	for (int i = 0; i < 2; i++) {
		vv->seg = i ? 0x10 : 0x7b; c = n = 9999;
		CHECK(cpu(&c, &n, 0) == 0 && c < 4096 && n < 4096);
		CHECK(cpu(0, 0, 0) == 0);
	}
	printf("steps %ld %ld\n", steps(get, CLOCK_MONOTONIC), steps(get, CLOCK_REALTIME));
	return bad;
}
`
