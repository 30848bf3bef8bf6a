/*
 * Threads and forked children hold patterns in x87, MXCSR and every vector register over
 * system calls, page faults, preemption and signals, all at once. It prints what was lost.
 */
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>

struct state {
	unsigned char v[16][32];
	double x87;
	unsigned short cw, pad;
	unsigned mxcsr;
};

/* hold(pattern, out, nr, arg, page, spin): loads the pattern, touches the page, spins,
 * makes the system call and stores the registers. It returns the call's result. */
long hold_avx(const struct state *, struct state *, long, long, volatile char *, long);
long hold_sse(const struct state *, struct state *, long, long, volatile char *, long);
void clobber_avx(const struct state *);
void clobber_sse(const struct state *);

#define ALL(op, a, b) \
	op(a, b, 0) op(a, b, 1) op(a, b, 2) op(a, b, 3) op(a, b, 4) op(a, b, 5) op(a, b, 6) op(a, b, 7) \
	op(a, b, 8) op(a, b, 9) op(a, b, 10) op(a, b, 11) op(a, b, 12) op(a, b, 13) op(a, b, 14) op(a, b, 15)
#define LOAD(mov, reg, n) mov " 32*" #n "(%rdi), %" reg #n "\n"
#define STORE(mov, reg, n) mov " %" reg #n ", 32*" #n "(%rsi)\n"
#define HOLD(name, mov, reg) asm(".text\n.globl hold_" name "\nhold_" name ":\n" \
	"sub $16, %rsp; fnstcw (%rsp); stmxcsr 4(%rsp)\n" \
	"fninit; fldl 512(%rdi); fldcw 520(%rdi); ldmxcsr 524(%rdi)\n" \
	ALL(LOAD, mov, reg) \
	"mov %rdx, %rax; mov %rcx, %rdi; movb $1, (%r8)\n" \
	"1: dec %r9; jns 1b\n" \
	"push %rsi; xor %esi, %esi; xor %edx, %edx; xor %r10d, %r10d; xor %r8d, %r8d; syscall; pop %rsi\n" \
	ALL(STORE, mov, reg) \
	"fnstcw 520(%rsi); fstpl 512(%rsi); stmxcsr 524(%rsi)\n" \
	"fninit; fldcw (%rsp); ldmxcsr 4(%rsp); add $16, %rsp; ret\n" \
	".globl clobber_" name "\nclobber_" name ":\n" ALL(LOAD, mov, reg) \
	"fninit; fldpi; fldcw 520(%rdi); ldmxcsr 524(%rdi); ret\n")
HOLD("avx", "vmovups", "ymm");
HOLD("sse", "movups", "xmm");

static int avx, rounds;
static volatile int alarms;
static struct state other;

static void pattern(struct state *s, unsigned seed)
{
	memset(s, 0, sizeof *s);
	for (int r = 0; r < 16; r++)
		for (int i = 0; i < (avx ? 32 : 16); i++)
			s->v[r][i] = seed = seed * 1103515245 + 12345 + (seed >> 16);
	s->x87 = seed;
	s->cw = 0x37f | (seed & 3) << 10;
	s->mxcsr = 0x1f80 | (seed & 3) << 13 | (seed >> 2 & 0x3f);
}

static void handler(int sig)
{
	(avx ? clobber_avx : clobber_sse)(&other);
	alarms++;
}

/* lost is the first part of the state that differs. */
static const char *lost(const struct state *a, const struct state *b)
{
	static char what[16];
	for (int r = 0; r < 16; r++)
		if (memcmp(a->v[r], b->v[r], 32)) {
			snprintf(what, sizeof what, "register %d", r);
			return what;
		}
	return a->x87 != b->x87 ? "x87" : a->cw != b->cw ? "control word" : a->mxcsr != b->mxcsr ? "MXCSR" : NULL;
}

static void *work(void *arg)
{
	static const long calls[] = { SYS_getppid, SYS_sched_yield, SYS_fork, SYS_close };
	long me = (long)arg, bad = 0;
	struct state want, got;
	char *page = mmap(0, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < rounds; i++) {
		long nr = calls[i % 16 == me ? 2 : i % 3 == 2 ? 3 : i % 3];
		if (i % 64 == 0)
			madvise(page, 64 * 4096, MADV_DONTNEED);
		pattern(&want, me * 1000003 + i);
		memset(&got, 0, sizeof got);
		long r = (avx ? hold_avx : hold_sse)(&want, &got, nr, -1, page + i % 64 * 4096, i % 32 == 0 ? 2000000 : i % 50);
		const char *l = lost(&want, &got);
		if (l && bad++ < 3)
			say("%ld, round %d, call %ld, %s: %s lost", me, i, nr, nr == SYS_fork && r == 0 ? "child" : "self", l);
		if (nr == SYS_fork) {
			int st = 0;
			if (r == 0)
				syscall(SYS_exit_group, l != NULL);
			while (waitpid(r, &st, 0) < 0 && errno == EINTR)
				;
			if (r < 0 || st)
				say("%ld, round %d: child %ld ended with %x", me, i, r < 0 ? r : 0, st);
		}
	}
	return (void *)bad;
}

int main(int argc, char **argv)
{
	pthread_t t[2];
	void *r;
	rounds = argc > 1 ? atoi(argv[1]) : 500;
	avx = __builtin_cpu_supports("avx") != 0;
	pattern(&other, 77);
	struct sigaction sa = { .sa_handler = handler, .sa_flags = SA_RESTART };
	sigaction(SIGALRM, &sa, NULL);
	struct itimerval it = { { 0, 3000 }, { 0, 3000 } };
	setitimer(ITIMER_REAL, &it, NULL);
	for (long i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, work, (void *)(i + 1));
	long bad = (long)work((void *)3);
	for (int i = 0; i < 2; i++) {
		pthread_join(t[i], &r);
		bad += (long)r;
	}
	fprintf(stderr, "avx %d, %d alarms\n", avx, alarms);
	say("%d rounds in three threads, alarms: %d, states lost: %ld", rounds, alarms > 3, bad);
	return bad != 0;
}
