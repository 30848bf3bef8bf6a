/* futex: every operation, across processes over every kind of shared memory; robust
 * lists; process-shared mutexes, conditions, barriers and semaphores of libc. */
#include "ipc.h"
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>

/* uapi/linux/futex.h, which musl-gcc does not find */
enum { FUTEX_WAIT, FUTEX_WAKE, FUTEX_REQUEUE = 3, FUTEX_CMP_REQUEUE, FUTEX_WAKE_OP, FUTEX_LOCK_PI, FUTEX_UNLOCK_PI, FUTEX_TRYLOCK_PI,
	FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET, FUTEX_WAIT_REQUEUE_PI, FUTEX_CMP_REQUEUE_PI, FUTEX_LOCK_PI2,
	FUTEX_PRIVATE_FLAG = 128, FUTEX_CLOCK_REALTIME = 256 };
#define FUTEX_WAITERS 0x80000000
#define FUTEX_OWNER_DIED 0x40000000
#define FUTEX_TID_MASK 0x3fffffff
#define FUTEX_OP_SET 0
#define FUTEX_OP_ADD 1
#define FUTEX_OP_CMP_EQ 0
#define FUTEX_OP(op, oparg, cmp, cmparg) (((op) & 0xf) << 28 | ((cmp) & 0xf) << 24 | ((oparg) & 0xfff) << 12 | ((cmparg) & 0xfff))
struct robust_list { struct robust_list *next; };
struct robust_list_head { struct robust_list list; long futex_offset; struct robust_list *list_op_pending; };
#define F(p, op, val, t, p2, v3) syscall(SYS_futex, p, op, (int)(val), t, p2, (int)(v3))

static unsigned *w; /* shared words */
static unsigned priv[16];

static struct timespec rel(int msec) { return (struct timespec){ msec / 1000, msec % 1000 * 1000000L }; }
static struct timespec at(int clock, int msec)
{
	struct timespec t;
	clock_gettime(clock, &t);
	long ns = t.tv_nsec + msec % 1000 * 1000000L;
	t.tv_sec += msec / 1000 + ns / 1000000000;
	t.tv_nsec = ns % 1000000000;
	return t;
}

static void basic(void)
{
	say("-- wait and wake");
	struct timespec t = rel(20), bad = { 0, 1000000000 }, neg = { -1, 0 };
	R(F(w, FUTEX_WAIT, 1, NULL, NULL, 0));
	R(F(w, FUTEX_WAIT, 0, &t, NULL, 0));
	R(F(w, FUTEX_WAIT, 0, &bad, NULL, 0));
	R(F(w, FUTEX_WAIT, 1, &neg, NULL, 0));
	R(F(w, FUTEX_WAIT, 0, 8L, NULL, 0));
	R(F((char *)w + 1, FUTEX_WAIT, 0, NULL, NULL, 0));
	R(F((char *)w + 2, FUTEX_WAKE, 1, NULL, NULL, 0));
	R(F(8L, FUTEX_WAIT, 0, NULL, NULL, 0));
	R(F(8L, FUTEX_WAKE, 1, NULL, NULL, 0));
	R(F(8L, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0));
	R(F(-8L, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0));
	R(F(w, FUTEX_WAKE, 1, NULL, NULL, 0));
	R(F(w, FUTEX_WAKE, -1, NULL, NULL, 0));
	R(F(w, 2 /* FUTEX_FD */, 0, NULL, NULL, 0));
	R(F(w, 14, 0, NULL, NULL, 0));
	R(F(w, 99, 0, NULL, NULL, 0));
	R(F(w, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 1, NULL, NULL, 0));
	R(F(w, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 1, NULL, NULL, 0));
	R(F(w, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0));
	R(F(w, FUTEX_WAKE_BITSET, 1, NULL, NULL, 0));
	t = at(CLOCK_MONOTONIC, 20);
	R(F(w, FUTEX_WAIT_BITSET, 0, &t, NULL, 1));
	t = at(CLOCK_REALTIME, 20);
	R(F(w, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &t, NULL, 1));
	t = (struct timespec){ 1, 0 };
	R(F(w, FUTEX_WAIT_BITSET, 0, &t, NULL, 1));
	int p = FORK(R(F(w, FUTEX_WAIT, 0, NULL, NULL, 0)));
	asleep(p);
	R(F(w, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0)); /* another key */
	MUST(F(w, FUTEX_WAKE, 1, NULL, NULL, 0));
	reap("woken", p);
	/* private memory is private */
	p = FORK({ struct timespec t = rel(300); _exit(F(priv, FUTEX_WAIT, 0, &t, NULL, 0) == -1 && errno == ETIMEDOUT); });
	asleep(p);
	R(F(priv, FUTEX_WAKE, 1, NULL, NULL, 0));
	reap("alone", p);
	say("-- bitsets and order");
	int kids[4], order[2];
	char got[8] = "";
	pipe(order);
	for (int i = 0; i < 4; i++) {
		kids[i] = FORK({ char c = 'a' + i; F(w, FUTEX_WAIT_BITSET, 0, NULL, NULL, 1 << i); write(order[1], &c, 1); });
		asleep(kids[i]);
	}
	R(F(w, FUTEX_WAKE_BITSET, 9, NULL, NULL, 16));
	R(F(w, FUTEX_WAKE_BITSET, 9, NULL, NULL, 4));
	read(order[0], got, 1);
	R(F(w, FUTEX_WAKE_BITSET, 1, NULL, NULL, 3));
	read(order[0], got + 1, 1);
	R(F(w, FUTEX_WAKE, 0, NULL, NULL, 0));
	read(order[0], got + 2, 1);
	R(F(w, FUTEX_WAKE, INT_MAX, NULL, NULL, 0));
	read(order[0], got + 3, 1);
	say("order %s", got);
	for (int i = 0; i < 4; i++)
		waitpid(kids[i], NULL, 0);
	say("-- interrupted");
	handle(SIGUSR1, 0);
	p = FORK(R(F(w, FUTEX_WAIT, 0, NULL, NULL, 0)));
	asleep(p);
	kill(p, SIGUSR1);
	reap("EINTR", p);
	handle(SIGUSR1, SA_RESTART);
	p = FORK(R(F(w, FUTEX_WAIT, 0, NULL, NULL, 0)));
	asleep(p);
	kill(p, SIGUSR1);
	asleep(p);
	MUST(F(w, FUTEX_WAKE, 1, NULL, NULL, 0));
	reap("restarted", p);
	p = FORK({ struct timespec t = rel(10000); R(F(w, FUTEX_WAIT, 0, &t, NULL, 0)); });
	asleep(p);
	kill(p, SIGUSR1);
	reap("with a time", p);
	p = FORK(F(w, FUTEX_WAIT, 0, NULL, NULL, 0));
	killed("killed", p);
	R(F(w, FUTEX_WAKE, 1, NULL, NULL, 0));
	p = FORK(R(F(w, FUTEX_WAIT, 0, NULL, NULL, 0)));
	asleep(p);
	kill(p, SIGSTOP);
	ms(50);
	kill(p, SIGCONT);
	asleep(p);
	MUST(F(w, FUTEX_WAKE, 1, NULL, NULL, 0));
	reap("stopped and continued", p);
}

static void requeue(void)
{
	say("-- requeue");
	int kids[5], i;
	w[0] = w[1] = 0;
	R(F(w, FUTEX_CMP_REQUEUE, 1, 1L, w + 1, 7));
	R(F(w, FUTEX_REQUEUE, -1, 1L, w + 1, 0));
	R(F(w, FUTEX_REQUEUE, 1, -1L, w + 1, 0));
	R(F(w, FUTEX_REQUEUE, 1, 1L, 8L, 0));
	for (i = 0; i < 5; i++) {
		kids[i] = FORK(F(w, FUTEX_WAIT, 0, NULL, NULL, 0));
		asleep(kids[i]);
	}
	R(F(w, FUTEX_CMP_REQUEUE, 1, 2L, w + 1, 0));
	reap("woken", kids[0]);
	R(F(w, FUTEX_REQUEUE, 0, 0L, w + 1, 0));
	R(F(w + 1, FUTEX_WAKE, 1, NULL, NULL, 0));
	reap("requeued and woken", kids[1]);
	R(F(w, FUTEX_REQUEUE, 0, 9L, w, 0));
	R(F(w, FUTEX_WAKE, 9, NULL, NULL, 0));
	reap("left", kids[3]);
	reap("left", kids[4]);
	R(F(w + 1, FUTEX_WAKE, 9, NULL, NULL, 0));
	reap("requeued", kids[2]);
	say("-- wake op");
	static const struct { int op, arg; } ops[] = { { 0, 5 }, { 1, 5 }, { 2, 6 }, { 3, 6 }, { 4, 6 }, { 8, 3 }, { 9, 3 }, { 1, -1 }, { 5, 1 } };
	for (i = 0; i < 9; i++) {
		w[1] = 12;
		errno = 0;
		int r = F(w, FUTEX_WAKE_OP, 1, 1L, w + 1, FUTEX_OP(ops[i].op, ops[i].arg, FUTEX_OP_CMP_EQ, 0));
		say("op %d %d: %d %s, word %u", ops[i].op, ops[i].arg, r, r < 0 ? errname(errno) : "", w[1]);
	}
	/* a waiter on each of 18 words, which hold 4, 5 and 6 by turns */
	int wait[18];
	for (i = 0; i < 18; i++) {
		w[20 + i] = 4 + i % 3;
		wait[i] = FORK(F(w + 20 + i, FUTEX_WAIT, w[20 + i], NULL, NULL, 0));
	}
	for (i = 0; i < 18; i++)
		asleep_now(wait[i]);
	ms(50);
	for (i = 0; i < 18; i++) {
		static const char *n[] = { "==", "!=", "<", "<=", ">", ">=" };
		int r = F(w + 3, FUTEX_WAKE_OP, 1, 1L, w + 20 + i, FUTEX_OP(FUTEX_OP_ADD, 0, i / 3, 5));
		say("%d %s 5: %d", 4 + i % 3, n[i / 3], r);
		if (r <= 0)
			F(w + 20 + i, FUTEX_WAKE, 1, NULL, NULL, 0);
		waitpid(wait[i], NULL, 0);
	}
	R(F(w + 3, FUTEX_WAKE_OP, 1, 1L, w + 2, FUTEX_OP(FUTEX_OP_ADD, 0, 6, 5)));
	R(F(w, FUTEX_WAKE_OP, 1, 1L, 8L, 0));
	int p = FORK(F(w + 4, FUTEX_WAIT, 0, NULL, NULL, 0)), q = FORK(F(w + 5, FUTEX_WAIT, 0, NULL, NULL, 0));
	asleep(p), asleep(q);
	R(F(w + 4, FUTEX_WAKE_OP, 1, 1L, w + 5, FUTEX_OP(FUTEX_OP_SET, 1, FUTEX_OP_CMP_EQ, 0)));
	reap("first", p), reap("second", q);
}

static const char *word(unsigned v, int pid)
{
	static char b[100];
	snprintf(b, sizeof b, "%s%s%s", (v & FUTEX_TID_MASK) == 0 ? "free" : (v & FUTEX_TID_MASK) == getpid() ? "mine" : (v & FUTEX_TID_MASK) == pid ? "the child's" : "another's",
		 v & FUTEX_WAITERS ? " waiters" : "", v & FUTEX_OWNER_DIED ? " died" : "");
	return b;
}

static void pi(void)
{
	say("-- PI");
	int p, q;
	struct timespec t;
	w[0] = 0;
	R(F(w, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
	say("%s", word(w[0], 0));
	R(F(w, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
	R(F(w, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0));
	p = FORK({
		R(F(w, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0));
		R(F(w, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
		t = at(CLOCK_REALTIME, 20);
		R(F(w, FUTEX_LOCK_PI, 0, &t, NULL, 0));
		t = at(CLOCK_MONOTONIC, 20);
		R(F(w, FUTEX_LOCK_PI2, 0, &t, NULL, 0));
		t = at(CLOCK_REALTIME, 20);
		R(F(w, FUTEX_LOCK_PI2 | FUTEX_CLOCK_REALTIME, 0, &t, NULL, 0));
		R(F(w, FUTEX_LOCK_PI | FUTEX_CLOCK_REALTIME, 0, NULL, NULL, 0));
	});
	reap("others", p);
	p = FORK({ int r = F(w, FUTEX_LOCK_PI, 0, NULL, NULL, 0); say("child: %d, %s", r, word(w[0], 0)); R(F(w, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0)); });
	asleep(p);
	say("%s", word(w[0], p));
	MUST(F(w, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
	reap("handed over", p);
	say("%s", word(w[0], p));
	R(F(w, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
	w[0] = 999999;
	R(F(w, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
	w[0] = FUTEX_OWNER_DIED;
	R(F(w, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
	say("%s", word(w[0], 0));
	w[0] = 0;
	R(F(8L, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
	R(F(8L, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
	R(F((char *)w + 1, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
	F(w, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
	p = FORK(R(F(w, FUTEX_LOCK_PI, 0, NULL, NULL, 0)));
	asleep(p);
	R(F(w, FUTEX_WAKE, 1, NULL, NULL, 0));
	R(F(w, FUTEX_REQUEUE, 1, 1L, w + 1, 0));
	kill(p, SIGUSR1);
	asleep(p);
	MUST(F(w, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
	reap("a signal does not end it", p);
	w[0] = 0;
	/* the owner ends: the next gets it, marked */
	make_gate();
	p = FORK({ F(w, FUTEX_LOCK_PI, 0, NULL, NULL, 0); held(); ms(100); });
	asleep(p);
	open_gate();
	R(F(w, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
	reap("owner", p);
	say("%s", word(w[0], p));
	w[0] = w[1] = 0;
	/* two that wait for each other */
	F(w, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
	p = FORK({ F(w + 1, FUTEX_LOCK_PI, 0, NULL, NULL, 0); R(F(w, FUTEX_LOCK_PI, 0, NULL, NULL, 0)); F(w, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0); F(w + 1, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0); });
	asleep(p);
	R(F(w + 1, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
	MUST(F(w, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
	reap("the other", p);
	/* the higher priority is served first */
	w[0] = 0;
	int order[2];
	char got[4] = "";
	pipe(order);
	for (int pi = 0; pi < 2; pi++) {
		int kids[3];
		if (pi)
			F(w, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
		for (int i = 0; i < 3; i++) {
			kids[i] = FORK({
				char c = 'a' + i;
				syscall(SYS_sched_setscheduler, 0, i ? SCHED_FIFO : SCHED_OTHER, (&(struct sched_param){ i * 10 }));
				F(pi ? w : w + 2, pi ? FUTEX_LOCK_PI : FUTEX_WAIT, pi ? 0 : w[2], NULL, NULL, 0);
				write(order[1], &c, 1);
				if (pi)
					F(w, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
			});
			asleep(kids[i]);
		}
		for (int i = 0; i < 3; i++) {
			if (!pi)
				F(w + 2, FUTEX_WAKE, 1, NULL, NULL, 0);
			else if (i == 0)
				F(w, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
			read(order[0], got + i, 1);
		}
		say("%s: order %s", pi ? "PI" : "wait", got);
		for (int i = 0; i < 3; i++)
			waitpid(kids[i], NULL, 0);
	}
	say("-- requeue PI");
	w[0] = w[1] = 0;
	R(F(w, FUTEX_WAIT_REQUEUE_PI, 1, NULL, w + 1, 0));
	R(F(w, FUTEX_WAIT_REQUEUE_PI, 0, NULL, w, 0));
	R(F(w, FUTEX_CMP_REQUEUE_PI, 1, 1L, w, 0));
	R(F(w, FUTEX_CMP_REQUEUE_PI, 2, 1L, w + 1, 0));
	R(F(w, FUTEX_CMP_REQUEUE_PI, 1, 1L, w + 1, 5));
	R(F(w, FUTEX_CMP_REQUEUE_PI, 1, 1L, w + 1, 0));
	t = at(CLOCK_MONOTONIC, 30);
	R(F(w, FUTEX_WAIT_REQUEUE_PI, 0, &t, w + 1, 0));
	int kids[3];
	for (int i = 0; i < 3; i++) {
		kids[i] = FORK({
			int r = F(w, FUTEX_WAIT_REQUEUE_PI, 0, NULL, w + 1, 0);
			int m = (w[1] & FUTEX_TID_MASK) == getpid();
			int u = F(w + 1, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
			_exit(r == 0 && m && u == 0);
		});
		asleep(kids[i]);
	}
	R(F(w, FUTEX_WAKE, 1, NULL, NULL, 0));
	R(F(w, FUTEX_CMP_REQUEUE, 1, 1L, w + 1, 0));
	R(F(w, FUTEX_CMP_REQUEUE_PI, 1, 1L, w + 2, 0));
	/* the lock is free: one gets it; the next waits for it */
	OK(F(w, FUTEX_CMP_REQUEUE_PI, 1, 1L, w + 1, 0));
	reap("first", kids[0]);
	reap("second", kids[1]);
	/* the lock is taken */
	F(w + 1, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
	R(F(w, FUTEX_CMP_REQUEUE_PI, 1, 9L, w + 1, 0));
	say("%s", word(w[1], 0));
	asleep(kids[2]);
	R(F(w + 1, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
	reap("third", kids[2]);
	say("%s", word(w[1], 0));
	p = FORK(F(w, FUTEX_WAIT_REQUEUE_PI, 0, NULL, w + 1, 0));
	killed("killed", p);
	p = FORK(R(F(w, FUTEX_WAIT, 0, NULL, NULL, 0)));
	asleep(p);
	R(F(w, FUTEX_CMP_REQUEUE_PI, 1, 1L, w + 1, 0));
	MUST(F(w, FUTEX_WAKE, 1, NULL, NULL, 0));
	reap("an ordinary waiter", p);
}

struct waitv { uint64_t val, uaddr; uint32_t flags, reserved; };
static void waitv(void)
{
	say("-- futex_waitv");
	struct waitv v[130];
	for (int i = 0; i < 130; i++)
		v[i] = (struct waitv){ 0, (uintptr_t)(w + i % 100), 2, 0 };
	memset(w, 0, 4096);
#define WV(n, f, t, c) syscall(449, v, n, f, t, c)
	struct timespec t = at(CLOCK_MONOTONIC, 20);
	R(WV(0, 0, NULL, 0));
	R(WV(129, 0, NULL, 0));
	R(WV(2, 1, NULL, 0));
	R(syscall(449, NULL, 1, 0, NULL, 0));
	R(syscall(449, 8L, 1, 0, NULL, 0));
	R(WV(2, 0, &t, 7));
	R(WV(2, 0, 8L, CLOCK_MONOTONIC));
	R(WV(2, 0, &t, CLOCK_MONOTONIC));
	t = at(CLOCK_REALTIME, 20);
	R(WV(128, 0, &t, CLOCK_REALTIME));
	v[1].flags = 0;
	R(WV(2, 0, NULL, 0));
	v[1].flags = 2 | 4;
	R(WV(2, 0, NULL, 0));
	v[1].flags = 2, v[1].reserved = 1;
	R(WV(2, 0, NULL, 0));
	v[1].reserved = 0, v[1].val = 9;
	R(WV(2, 0, NULL, 0));
	v[1].val = 0, v[1].uaddr++;
	R(WV(2, 0, NULL, 0));
	v[1].uaddr = 8;
	R(WV(2, 0, NULL, 0));
	v[1].uaddr = (uintptr_t)(w + 1);
	int p = FORK(R(WV(3, 0, NULL, 0)));
	asleep(p);
	MUST(F(w + 1, FUTEX_WAKE, 1, NULL, NULL, 0));
	reap("second", p);
	R(F(w, FUTEX_WAKE, 1, NULL, NULL, 0));
	handle(SIGUSR1, 0);
	p = FORK(R(WV(3, 0, NULL, 0)));
	asleep(p);
	kill(p, SIGUSR1);
	reap("interrupted", p);
	p = FORK(WV(128, 0, NULL, 0));
	killed("killed", p);
	R(F(w + 2, FUTEX_WAKE, 1, NULL, NULL, 0));
}

static void over(const char *what, unsigned *a, unsigned *b)
{
	/* a and b are two mappings of the same word */
	int p = FORK(_exit(F(a, FUTEX_WAIT, *a, NULL, NULL, 0)));
	asleep(p);
	int r = F(b, FUTEX_WAKE, 1, NULL, NULL, 0);
	say("%s: %d", what, r);
	if (r != 1)
		F(a, FUTEX_WAKE, 1, NULL, NULL, 0);
	reap("waiter", p);
}

static void keys(void)
{
	say("-- two mappings of one word");
	int m = memfd_create("m", 0), f = open("/tmp/futex", O_RDWR | O_CREAT | O_TRUNC, 0600), s = open("/dev/shm/futex", O_RDWR | O_CREAT, 0600);
	int fds[] = { m, f, s };
	const char *names[] = { "memfd", "/tmp", "/dev/shm" };
	for (int i = 0; i < 3; i++) {
		if (fds[i] < 0)
			continue;
		ftruncate(fds[i], 16384);
		char *a = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0);
		char *b = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 8192);
		char *c = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fds[i], 8192);
		char *d = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fds[i], 8192);
		over(names[i], (unsigned *)(a + 8200), (unsigned *)(b + 8));
		over("read-only", (unsigned *)(d + 8), (unsigned *)(b + 8));
		over("private", (unsigned *)(a + 8200), (unsigned *)(c + 8));
	}
	int id = shmget(IPC_PRIVATE, 4096, 0600);
	over("System V", shmat(id, NULL, 0), shmat(id, NULL, 0));
	shmctl(id, IPC_RMID, NULL);
	unlink("/tmp/futex"), unlink("/dev/shm/futex");
	/* after a fork, and moved */
	unsigned *a = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int p = FORK(_exit(F(a + 4, FUTEX_WAIT, 0, NULL, NULL, 0)));
	asleep(p);
	a = mremap(a, 8192, 16384, MREMAP_MAYMOVE);
	R(F(a + 4, FUTEX_WAKE, 1, NULL, NULL, 0));
	reap("moved", p);
}

struct robust { struct robust_list l; unsigned word; };
static void robust(void)
{
	say("-- robust lists");
	struct robust *r = (void *)(w + 64);
	struct robust_list_head *h = (void *)(w + 200), *got;
	size_t len;
	volatile unsigned *ready = w + 300, *waiter = w + 301; /* the second word is the waiter's pid */
	R(syscall(SYS_set_robust_list, h, sizeof *h - 1));
	R(syscall(SYS_get_robust_list, 0, 8L, &len));
	R(syscall(SYS_get_robust_list, 999999, &got, &len));
	for (int how = 0; how < 4; how++) {
		memset(w, 0, 4096);
		int p = FORK({
			h->futex_offset = offsetof(struct robust, word);
			h->list.next = &r[0].l;
			r[0].l.next = &r[1].l, r[1].l.next = &r[2].l, r[2].l.next = &h->list;
			r[0].word = getpid(), r[1].word = getpid() | FUTEX_WAITERS, r[2].word = 12345;
			r[3].word = getpid();
			h->list_op_pending = &r[3].l;
			syscall(SYS_set_robust_list, h, sizeof *h);
			*ready = 1;
			while (*waiter == 0)
				ms(1);
			asleep(*waiter);
			if (how == 1)
				kill(getpid(), SIGKILL);
			if (how == 2)
				execl("/proc/self/exe", "futexes", "nothing", NULL);
			if (how == 3)
				r[1].l.next = (void *)8; /* a broken list */
		});
		int q = FORK({
			while (!*ready)
				ms(1);
			struct timespec t = rel(20000);
			unsigned held = r[1].word;
			*waiter = getpid();
			_exit(F(&r[1].word, FUTEX_WAIT, held, &t, NULL, 0));
		});
		while (!*ready)
			ms(1);
		R(syscall(SYS_get_robust_list, p, &got, &len) == 0 && len == 24);
		waitpid(p, NULL, 0);
		say("end %d: %s, %s, %u, pending %s", how, strcpy((char[100]){ 0 }, word(r[0].word, p)), strcpy((char[100]){ 0 }, word(r[1].word, p)), r[2].word, word(r[3].word, p));
		reap("waiter", q);
	}
	reap("foreign list", FORK({ setuid(500); R(syscall(SYS_get_robust_list, 1, &got, &len)); R(syscall(SYS_get_robust_list, 0, &got, &len)); }));
}

struct shared {
	pthread_mutex_t m, robust, pim;
	pthread_cond_t c;
	pthread_barrier_t b;
	pthread_rwlock_t rw;
	pthread_spinlock_t spin;
	sem_t s;
	int n, turn;
};

static void libc(void)
{
	say("-- libc, process-shared");
	struct shared *s = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutexattr_t ma;
	pthread_condattr_t ca;
	pthread_barrierattr_t ba;
	pthread_rwlockattr_t ra;
	pthread_mutexattr_init(&ma), pthread_mutexattr_setpshared(&ma, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&s->m, &ma);
	pthread_mutexattr_setrobust(&ma, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&s->robust, &ma);
	pthread_mutexattr_setrobust(&ma, PTHREAD_MUTEX_STALLED);
	pthread_mutexattr_setprotocol(&ma, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(&s->pim, &ma);
	pthread_condattr_init(&ca), pthread_condattr_setpshared(&ca, PTHREAD_PROCESS_SHARED);
	pthread_cond_init(&s->c, &ca);
	pthread_barrierattr_init(&ba), pthread_barrierattr_setpshared(&ba, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&s->b, &ba, 4);
	pthread_rwlockattr_init(&ra), pthread_rwlockattr_setpshared(&ra, PTHREAD_PROCESS_SHARED);
	pthread_rwlock_init(&s->rw, &ra);
	pthread_spin_init(&s->spin, PTHREAD_PROCESS_SHARED);
	sem_init(&s->s, 1, 0);
	int kids[4];
	for (int i = 0; i < 4; i++)
		kids[i] = FORK({
			int last = pthread_barrier_wait(&s->b) == PTHREAD_BARRIER_SERIAL_THREAD;
			for (int k = 0; k < 500; k++) {
				pthread_mutex_lock(&s->m), s->n++, pthread_mutex_unlock(&s->m);
				pthread_mutex_lock(&s->pim), pthread_mutex_unlock(&s->pim);
				pthread_rwlock_wrlock(&s->rw), pthread_rwlock_unlock(&s->rw);
			}
			for (int k = 0; k < 20; k++) {
				pthread_mutex_lock(&s->m);
				while (s->turn % 4 != i)
					pthread_cond_wait(&s->c, &s->m);
				s->turn++;
				pthread_cond_broadcast(&s->c);
				pthread_mutex_unlock(&s->m);
			}
			sem_post(&s->s);
			_exit(last);
		});
	for (int i = 0; i < 4; i++)
		sem_wait(&s->s);
	int last = 0, st;
	for (int i = 0; i < 4; i++)
		waitpid(kids[i], &st, 0), last += WEXITSTATUS(st);
	say("count %d, turns %d, one was last: %d", s->n, s->turn, last);
	/* the owner of a robust mutex dies */
	int p = FORK({ pthread_mutex_lock(&s->robust); kill(getpid(), SIGKILL); });
	reap("owner", p);
	int r = pthread_mutex_lock(&s->robust);
	say("lock: %s", r == EOWNERDEAD ? "EOWNERDEAD" : "other");
	say("consistent: %d", pthread_mutex_consistent(&s->robust));
	say("unlock: %d", pthread_mutex_unlock(&s->robust));
	make_gate();
	p = FORK({ pthread_mutex_lock(&s->robust); held(); ms(100); });
	asleep(p);
	open_gate();
	r = pthread_mutex_lock(&s->robust);
	say("waited for: %s", r == EOWNERDEAD ? "EOWNERDEAD" : "other");
	waitpid(p, NULL, 0);
	pthread_mutex_unlock(&s->robust);
	say("given up: %d", pthread_mutex_lock(&s->robust) == ENOTRECOVERABLE);
	/* named semaphores and memory */
	sem_unlink("/conformance");
	sem_t *n = sem_open("/conformance", O_CREAT | O_EXCL, 0600, 1);
	say("sem_open: %s", n == SEM_FAILED ? errname(errno) : "ok");
	R(sem_open("/conformance", O_CREAT | O_EXCL, 0600, 1) == SEM_FAILED ? -1 : 0);
	R(sem_wait(n));
	R(sem_trywait(n));
	p = FORK({ sem_t *o = sem_open("/conformance", 0); ms(50); sem_post(o); });
	R(sem_wait(n));
	reap("post", p);
	int v;
	sem_getvalue(n, &v);
	say("value %d", v);
	R(sem_unlink("/conformance"));
	R(sem_unlink("/conformance"));
	int fd = shm_open("/conformance", O_RDWR | O_CREAT | O_EXCL, 0600);
	OK(fd);
	R(shm_open("/conformance", O_RDWR | O_CREAT | O_EXCL, 0600));
	R(ftruncate(fd, 4096));
	char *a = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	p = FORK({ int o = shm_open("/conformance", O_RDWR, 0); char *b = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, o, 0); strcpy(b, "from another"); });
	reap("writer", p);
	say("%s", a);
	R(shm_unlink("/conformance"));
	R(shm_open("/conformance", O_RDWR, 0));
}

int main(int argc, char **argv)
{
	alarm(50); /* nothing here takes long: no check may hang */
	if (argc > 1)
		return 0;
	w = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	mkdir("/dev/shm", 01777);
	basic();
	requeue();
	pi();
	waitv();
	keys();
	robust();
	libc();
	return 0;
}
