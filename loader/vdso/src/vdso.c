// The vDSO: clocks without a system call. It is mapped into every program, one page of
// data (struct vvar, read-only) before its own first page. build.sh makes vdso.so from
// it; ../vdso.go writes the data.
//
// See vdso(7), and hal.TimeParams for the arithmetic:
//
//	mono = mono_base + ((tsc - tsc_base) * mult >> 32)
//	real = mono + real_offset

typedef unsigned int u32;
typedef unsigned long u64;
typedef long s64;

struct timespec { s64 sec, nsec; };
struct timeval { s64 sec, usec; };
struct timezone { int minuteswest, dsttime; };

// Offsets are known to vdso.go.
struct vvar {
	u32 seq;    // odd while the kernel writes
	u32 usable; // 0: every call goes to the kernel
	u64 tsc_base;
	u64 mult;
	s64 mono_base;
	s64 real_offset;
	s64 tai_offset; // TAI - UTC, nanoseconds
	u32 cpu_segment; // selector with CPU (11:0) and node (19:12) as its limit, or 0
};

extern const volatile struct vvar kiln_vvar __attribute__((visibility("hidden")));

enum {
	REALTIME, MONOTONIC, PROCESS_CPU, THREAD_CPU, MONOTONIC_RAW, REALTIME_COARSE,
	MONOTONIC_COARSE, BOOTTIME, REALTIME_ALARM, BOOTTIME_ALARM, SGI, TAI,
	NCLOCKS
};
enum { SYS_gettimeofday = 96, SYS_time = 201, SYS_clock_gettime = 228, SYS_clock_getres = 229, SYS_getcpu = 309 };

#define BIT(n) (1u << (n))
// Clocks served here. The others, and numbers that are none, are the kernel's.
#define SERVED (BIT(REALTIME) | BIT(MONOTONIC) | BIT(MONOTONIC_RAW) | BIT(REALTIME_COARSE) | \
		BIT(MONOTONIC_COARSE) | BIT(BOOTTIME) | BIT(TAI))
#define REAL (BIT(REALTIME) | BIT(REALTIME_COARSE) | BIT(TAI))
#define COARSE (BIT(REALTIME_COARSE) | BIT(MONOTONIC_COARSE))
#define COARSE_NS 4000000 // what clock_getres says of them: a tick of 250 Hz
#define NS 1000000000UL

static inline s64 syscall3(s64 nr, s64 a, s64 b, s64 c)
{
	asm volatile("syscall" : "+a"(nr) : "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return nr;
}

// rdtsc cannot be moved before earlier loads (SDM 2B RDTSC: LFENCE before it).
static inline u64 rdtsc(void)
{
	u32 lo, hi;
	asm volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi) :: "memory");
	return (u64)hi << 32 | lo;
}

// now gives nanoseconds of a served clock; 0 if the kernel must be asked: the TSC is not
// usable, or the writer was caught half-way and is not running.
static inline s64 now(u32 bit)
{
	for (u32 spins = 0; spins < 1000; spins++) {
		u32 seq = kiln_vvar.seq;
		asm volatile("" ::: "memory");
		if (__builtin_expect(!(seq & 1), 1)) {
			if (__builtin_expect(!kiln_vvar.usable, 0))
				return 0;
			u64 delta = rdtsc() - kiln_vvar.tsc_base;
			// Another CPU's counter may lag behind the base.
			if ((s64)delta < 0)
				delta = 0;
			s64 ns = kiln_vvar.mono_base + (s64)(u64)((unsigned __int128)delta * kiln_vvar.mult >> 32);
			if (bit & REAL) {
				ns += kiln_vvar.real_offset;
				if (bit & BIT(TAI))
					ns += kiln_vvar.tai_offset;
			}
			asm volatile("" ::: "memory");
			if (__builtin_expect(kiln_vvar.seq == seq, 1))
				return ns;
		}
		asm volatile("pause");
	}
	return 0;
}

int __vdso_clock_gettime(int clock, struct timespec *ts)
{
	if ((u32)clock < NCLOCKS && BIT(clock) & SERVED) {
		s64 ns = now(BIT(clock));
		if (__builtin_expect(ns > 0, 1)) {
			ts->sec = (u64)ns / NS;
			ts->nsec = (u64)ns % NS;
			return 0;
		}
	}
	return syscall3(SYS_clock_gettime, clock, (s64)ts, 0);
}

int __vdso_gettimeofday(struct timeval *tv, struct timezone *tz)
{
	if (tv) {
		s64 ns = now(BIT(REALTIME));
		if (ns <= 0)
			return syscall3(SYS_gettimeofday, (s64)tv, (s64)tz, 0);
		tv->sec = (u64)ns / NS;
		tv->usec = (u64)ns % NS / 1000;
	}
	if (tz)
		tz->minuteswest = tz->dsttime = 0;
	return 0;
}

s64 __vdso_time(s64 *t)
{
	s64 ns = now(BIT(REALTIME));
	if (ns <= 0)
		return syscall3(SYS_time, (s64)t, 0, 0);
	s64 sec = (u64)ns / NS;
	if (t)
		*t = sec;
	return sec;
}

int __vdso_clock_getres(int clock, struct timespec *res)
{
	if ((u32)clock >= NCLOCKS || !(BIT(clock) & SERVED))
		return syscall3(SYS_clock_getres, clock, (s64)res, 0);
	if (res) {
		res->sec = 0;
		res->nsec = BIT(clock) & COARSE ? COARSE_NS : 1;
	}
	return 0;
}

s64 __vdso_getcpu(u32 *cpu, u32 *node, void *unused)
{
	u32 sel = kiln_vvar.cpu_segment, p;
	unsigned char ok;
	if (sel) {
		asm volatile("lsl %2, %0" : "=r"(p), "=@ccz"(ok) : "r"(sel));
		if (ok) {
			if (cpu)
				*cpu = p & 0xfff;
			if (node)
				*node = p >> 12;
			return 0;
		}
	}
	return syscall3(SYS_getcpu, (s64)cpu, (s64)node, (s64)unused);
}

#define ALIAS(name) __attribute__((weak, alias("__vdso_" #name)))
int clock_gettime(int, struct timespec *) ALIAS(clock_gettime);
int gettimeofday(struct timeval *, struct timezone *) ALIAS(gettimeofday);
s64 time(s64 *) ALIAS(time);
int clock_getres(int, struct timespec *) ALIAS(clock_getres);
s64 getcpu(u32 *, u32 *, void *) ALIAS(getcpu);
