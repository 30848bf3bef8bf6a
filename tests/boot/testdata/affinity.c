// Where a thread runs: bound to a CPU, every way to ask must name that CPU, also after
// calls that sleep and while threads bound to all others keep them busy. The argument is
// the number of CPUs.
#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int cpus, wrong, has_rdtscp;
static volatile int quit;

static void bind_to(int c)
{
	cpu_set_t s;
	CPU_ZERO(&s);
	CPU_SET(c, &s);
	if (sched_setaffinity(0, sizeof s, &s)) {
		perror("sched_setaffinity");
		exit(3);
	}
}

static void expect(const char *how, unsigned got, unsigned want)
{
	if (got != want && __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED) < 10)
		printf("%s says CPU %u, bound to %u\n", how, got, want);
}

static void look(unsigned c)
{
	unsigned cpu = 999, node = 999, aux, limit = 9999;
	getcpu(&cpu, &node);
	expect("getcpu", cpu, c);
	expect("getcpu's node", node, 0);
	syscall(SYS_getcpu, &cpu, 0, 0);
	expect("SYS_getcpu", cpu, c);
	expect("sched_getcpu", sched_getcpu(), c);
	asm volatile("lsl %1, %0" : "+r"(limit) : "r"(0x7b));
	expect("LSL", limit & 0xfff, c);
	if (has_rdtscp) {
		asm volatile("rdtscp" : "=c"(aux) : : "eax", "edx");
		expect("RDTSCP", aux & 0xfff, c);
	}
}

static void *busy(void *arg)
{
	unsigned c = (long)arg;
	bind_to(c);
	while (!quit)
		for (int i = 0; i < 100; i++)
			look(c);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned a, b, c, d = 0;
	cpus = argc > 1 ? atoi(argv[1]) : 2;
	int rounds = argc > 2 ? atoi(argv[2]) : 100;
	if (__get_cpuid(0x80000001, &a, &b, &c, &d))
		has_rdtscp = d >> 27 & 1;
	cpu_set_t s;
	sched_getaffinity(0, sizeof s, &s);
	printf("%d CPUs, online %ld\n", CPU_COUNT(&s), sysconf(_SC_NPROCESSORS_ONLN));
	for (int pass = 0; pass < 2; pass++) {
		pthread_t t[64];
		for (long i = 0; pass && i < cpus; i++)
			pthread_create(&t[i], 0, busy, (void *)i);
		for (int i = 0; i < rounds; i++) {
			int to = (i * 7 + i / cpus) % cpus;
			bind_to(to);
			look(to);
			if (i % 4 == 0)
				usleep(100);
			else if (i % 4 == 1)
				sched_yield();
			look(to);
		}
		quit = 1;
		for (int i = 0; pass && i < cpus; i++)
			pthread_join(t[i], 0);
	}
	// What does not exist cannot be had.
	CPU_ZERO(&s);
	CPU_SET(cpus, &s);
	printf("beyond the last: %s\n", sched_setaffinity(0, sizeof s, &s) && errno == EINVAL ? "EINVAL" : "no error");
	printf("wrong answers: %d\n", wrong);
	return wrong != 0;
}
