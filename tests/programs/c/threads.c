/* Threads: mutexes, condition variables, TLS, robust and PI errors, futex calls. */
#include "check.h"
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <sched.h>
#include <time.h>

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cv = PTHREAD_COND_INITIALIZER;
static long counter;
static int turn;
static __thread int mine = 5;
static pthread_key_t key;
static int destroyed;

static void *add(void *p)
{
	for (int i = 0; i < 20000; i++) {
		pthread_mutex_lock(&mu);
		counter++;
		pthread_mutex_unlock(&mu);
	}
	mine += (int)(long)p;
	return (void *)(long)mine;
}

static void *pong(void *p)
{
	(void)p;
	for (int i = 0; i < 500; i++) {
		pthread_mutex_lock(&mu);
		while (turn != 1)
			pthread_cond_wait(&cv, &mu);
		turn = 0;
		pthread_cond_broadcast(&cv);
		pthread_mutex_unlock(&mu);
	}
	return NULL;
}

static void gone(void *p) { (void)p; __sync_fetch_and_add(&destroyed, 1); }
static void *keyed(void *p) { pthread_setspecific(key, p); return NULL; }
static void *owner(void *m) { pthread_mutex_lock(m); return NULL; }

static uint32_t word;
static long fut(uint32_t *a, int op, uint32_t v, void *t, uint32_t *b, uint32_t v3)
{
	return syscall(SYS_futex, a, op, v, t, b, v3);
}

static void *waiter(void *p)
{
	(void)p;
	long r = fut(&word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	return (void *)(r == 0 || errno == EAGAIN ? 0l : 1l);
}

static void *sleeper(void *p)
{
	sem_wait(p);
	return (void *)42l;
}

static void futexes(void)
{
	struct timespec soon = { 0, 5000000 }, bad = { 0, -1 };
	uint32_t other = 0;
	R(fut(&word, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0));
	R(fut(&word, FUTEX_WAIT_PRIVATE, 0, &soon, NULL, 0));
	R(fut(&word, FUTEX_WAIT_PRIVATE, 0, &bad, NULL, 0));
	R(fut(&word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
	R(fut((uint32_t *)1, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0));
	R(fut((uint32_t *)4096, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0));
	R(fut((uint32_t *)4096, FUTEX_WAKE, 1, NULL, NULL, 0));
	R(fut((uint32_t *)0xffffffff80000000, FUTEX_WAKE, 1, NULL, NULL, 0));
	R(fut(&word, 99, 0, NULL, NULL, 0));
	R(fut(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, 0));
	R(fut(&word, FUTEX_WAKE_BITSET_PRIVATE, 1, NULL, NULL, 0));
	R(fut(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)1, &other, 7));
	R(fut(&word, FUTEX_REQUEUE_PRIVATE, 1, (void *)1, &other, 0));
	R(fut(&word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &other, FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 0)));
	R(other);
	R(fut(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	R(syscall(SYS_set_robust_list, NULL, 1));
	pthread_t t[3];
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, waiter, NULL);
	nanosleep(&(struct timespec){ 0, 30000000 }, NULL);
	word = 1;
	fut(&word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	nanosleep(&(struct timespec){ 0, 10000000 }, NULL);
	fut(&word, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0);
	for (int i = 0; i < 3; i++) {
		void *r;
		pthread_join(t[i], &r);
		R((long)r);
	}
}

int main(void)
{
	pthread_t t[8];
	for (long i = 0; i < 8; i++)
		MUST(-pthread_create(&t[i], NULL, add, (void *)i));
	for (int i = 0; i < 8; i++) {
		void *r;
		pthread_join(t[i], &r);
		R((long)r);
	}
	R(counter);
	R(mine);
	pthread_create(&t[0], NULL, pong, NULL);
	for (int i = 0; i < 500; i++) {
		pthread_mutex_lock(&mu);
		turn = 1;
		pthread_cond_broadcast(&cv);
		while (turn != 0)
			pthread_cond_wait(&cv, &mu);
		pthread_mutex_unlock(&mu);
	}
	pthread_join(t[0], NULL);
	say("ping-pong done");
	pthread_mutex_lock(&mu);
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_nsec += 10000000;
	if (ts.tv_nsec >= 1000000000) { ts.tv_sec++; ts.tv_nsec -= 1000000000; }
	say("pthread_cond_timedwait: %s", errname(pthread_cond_timedwait(&cv, &mu, &ts)));
	pthread_mutex_unlock(&mu);
	pthread_key_create(&key, gone);
	for (int i = 0; i < 8; i++)
		pthread_create(&t[i], NULL, keyed, &t[i]);
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
	R(destroyed);
	pthread_mutexattr_t a;
	pthread_mutex_t robust;
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&robust, &a);
	pthread_create(&t[0], NULL, owner, &robust);
	pthread_join(t[0], NULL);
	say("lock of a dead owner: %s", errname(pthread_mutex_lock(&robust)));
	R(pthread_mutex_consistent(&robust));
	R(pthread_mutex_unlock(&robust));
	sem_t sem;
	sem_init(&sem, 0, 0);
	pthread_create(&t[0], NULL, sleeper, &sem);
	sched_yield();
	R(sem_post(&sem));
	void *r;
	pthread_join(t[0], &r);
	R((long)r);
	pthread_create(&t[0], NULL, sleeper, &sem);
	R(pthread_cancel(t[0]));
	pthread_join(t[0], &r);
	IS(r == PTHREAD_CANCELED);
	futexes();
	/* Many short threads: stacks and ids are given back. */
	for (int i = 0; i < 300; i++) {
		MUST(-pthread_create(&t[0], NULL, keyed, &t[0]));
		pthread_join(t[0], NULL);
	}
	R(destroyed);
	/* The main thread leaves; the process ends with the last one. */
	say("done");
	return 0;
}
