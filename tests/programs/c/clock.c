/* Clocks by the vDSO and by system call agree, do not go back, and sleeps last. */
#include "check.h"
#include <sys/time.h>
#include <sys/auxv.h>
#include <sched.h>
#include <time.h>

static long ns(struct timespec t) { return t.tv_sec * 1000000000l + t.tv_nsec; }

static long by_vdso(int c) { struct timespec t; return clock_gettime(c, &t) ? -1 : ns(t); }
static long by_syscall(int c) { struct timespec t; return syscall(SYS_clock_gettime, c, &t) ? -1 : ns(t); }

int main(void)
{
	static const struct { int c; const char *n; } clocks[] = {
		{ CLOCK_REALTIME, "REALTIME" }, { CLOCK_MONOTONIC, "MONOTONIC" }, { CLOCK_MONOTONIC_RAW, "MONOTONIC_RAW" },
		{ CLOCK_REALTIME_COARSE, "REALTIME_COARSE" }, { CLOCK_MONOTONIC_COARSE, "MONOTONIC_COARSE" },
		{ CLOCK_BOOTTIME, "BOOTTIME" }, { CLOCK_PROCESS_CPUTIME_ID, "PROCESS_CPUTIME" },
		{ CLOCK_THREAD_CPUTIME_ID, "THREAD_CPUTIME" }, { CLOCK_TAI, "TAI" },
	};
	IS(getauxval(AT_SYSINFO_EHDR) != 0);
	for (size_t i = 0; i < sizeof clocks / sizeof *clocks; i++) {
		int c = clocks[i].c, back = 0;
		for (int k = 0; k < 2000; k++) {
			long a = by_vdso(c), b = c == CLOCK_REALTIME_COARSE || c == CLOCK_MONOTONIC_COARSE ? by_vdso(c) : by_syscall(c), d = by_vdso(c);
			if (a == -1 || b == -1 || a > b || b > d)
				back++;
		}
		say("%s: %d of 2000 readings failed or went back", clocks[i].n, back);
	}
	struct timespec t;
	R(clock_gettime(99, &t));
	R(clock_gettime(-1, &t));
	R(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, NULL));
	R(syscall(SYS_clock_gettime, 99, NULL));
	R(clock_getres(CLOCK_MONOTONIC, &t));
	IS(t.tv_sec == 0 && t.tv_nsec == 1);
	struct timeval tv;
	R(gettimeofday(&tv, NULL));
	long d = by_syscall(CLOCK_REALTIME) / 1000 - (tv.tv_sec * 1000000l + tv.tv_usec);
	IS(d >= 0 && d < 1000000);
	d = time(NULL) - by_syscall(CLOCK_REALTIME) / 1000000000;
	IS(d >= -1 && d <= 0);
	IS(time(NULL) > 1600000000);
	unsigned cpu = 99, node = 99;
	R(getcpu(&cpu, &node));
	IS(cpu < 64 && node == 0);
	long a = by_vdso(CLOCK_MONOTONIC);
	R(nanosleep(&(struct timespec){ 0, 30000000 }, NULL));
	d = by_vdso(CLOCK_MONOTONIC) - a;
	IS(d >= 30000000 && d < 2000000000);
	t = (struct timespec){ 0, 0 };
	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += 20000000;
	if (t.tv_nsec >= 1000000000) { t.tv_sec++; t.tv_nsec -= 1000000000; }
	R(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL));
	IS(by_vdso(CLOCK_MONOTONIC) >= ns(t));
	R(nanosleep(&(struct timespec){ -1, 0 }, NULL));
	R(nanosleep(&(struct timespec){ 0, 1000000000 }, NULL));
	R(clock_nanosleep(99, 0, &t, NULL));
	R(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &t, NULL));
	return 0;
}
