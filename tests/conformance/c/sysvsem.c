/* System V semaphores: semget, semop, semtimedop, semctl, SEM_UNDO. */
#include "ipc.h"
#include <sys/ipc.h>
#include <sys/sem.h>
#include <pthread.h>

union arg { int val; struct semid_ds *buf; unsigned short *array; struct seminfo *info; };
#define CTL(id, n, cmd, ...) syscall(SYS_semctl, id, n, cmd, ##__VA_ARGS__)
#define SETV(id, n, v) CTL(id, n, SETVAL, (long)(v))
#define VAL(id, n) CTL(id, n, GETVAL, 0L)
#define OP(n, o, f) ((struct sembuf){ n, o, f })

static int op1(int id, int n, int o, int f)
{
	struct sembuf b = { n, o, f };
	return semop(id, &b, 1);
}

static int opt(int id, int n, int o, int f, long msec)
{
	struct sembuf b = { n, o, f };
	struct timespec t = { msec / 1000, msec % 1000 * 1000000 };
	return semtimedop(id, &b, 1, &t);
}

static void get(void)
{
	say("-- semget");
	int id, id2;
	R(semget(0x1234, 1, 0600));
	R(semget(0x1234, -1, IPC_CREAT | 0600));
	R(semget(0x1234, 0, IPC_CREAT | 0600));
	R(semget(0x1234, 32001, IPC_CREAT | 0600));
	MUST(id = semget(0x1234, 3, IPC_CREAT | 0640));
	IS(semget(0x1234, 3, 0) == id);
	IS(semget(0x1234, 0, 0) == id);
	IS(semget(0x1234, 2, IPC_CREAT) == id);
	R(semget(0x1234, 4, 0));
	R(semget(0x1234, 4, IPC_CREAT | IPC_EXCL));
	R(semget(0x1234, 1, IPC_CREAT | IPC_EXCL | 0600));
	MUST(id2 = semget(IPC_PRIVATE, 1, 0600));
	IS(id2 != id);
	struct semid_ds d;
	memset(&d, 0xff, sizeof d);
	R(CTL(id, 0, IPC_STAT, &d));
	say("key %x mode %o uid %d gid %d cuid %d cgid %d nsems %lu otime %ld", d.sem_perm.__key, d.sem_perm.mode,
	    d.sem_perm.uid, d.sem_perm.gid, d.sem_perm.cuid, d.sem_perm.cgid, d.sem_nsems, (long)d.sem_otime);
	IS(d.sem_ctime > 1000000 && d.sem_ctime <= time(NULL));
	IS(d.sem_perm.__seq == id >> 15);
	R(CTL(id, 0, IPC_STAT, 0L));
	R(CTL(id, 0, IPC_STAT | 0x100, &d));
	R(CTL(-1, 0, IPC_STAT, &d));
	R(CTL(id + 32768, 0, IPC_STAT, &d));
	R(CTL(id ^ 0x7000, 0, IPC_STAT, &d));
	R(CTL(id, 0, 77, 0L));
	R(CTL(id, 0, IPC_RMID));
	R(CTL(id, 0, IPC_RMID));
	R(CTL(id, 0, IPC_STAT, &d));
	R(semget(0x1234, 3, 0));
	R(op1(id, 0, 1, 0));
	R(CTL(id2, 0, IPC_RMID));
	int a[4];
	for (int i = 0; i < 4; i++)
		a[i] = semget(IPC_PRIVATE, 1, 0600);
	IS(a[1] == a[0] + 1 && a[2] == a[0] + 2 && a[3] == a[0] + 3);
	CTL(a[3], 0, IPC_RMID);
	int b = semget(IPC_PRIVATE, 1, 0600);
	IS(b == a[0] + 4); /* a slot is not used again at once */
	CTL(b, 0, IPC_RMID);
	for (int i = 0; i < 3; i++)
		CTL(a[i], 0, IPC_RMID);
}

static void ctl(void)
{
	say("-- semctl");
	int id;
	unsigned short v[4] = { 1, 2, 3, 4 };
	MUST(id = semget(IPC_PRIVATE, 4, 0600));
	R(VAL(id, 0));
	R(CTL(id, 0, SETALL, v));
	memset(v, 9, sizeof v);
	R(CTL(id, 77, GETALL, v));
	say("%d %d %d %d", v[0], v[1], v[2], v[3]);
	R(CTL(id, 0, GETALL, 0L));
	R(CTL(id, 0, SETALL, 0L));
	v[2] = 32768;
	R(CTL(id, 0, SETALL, v));
	R(VAL(id, 2));
	R(SETV(id, 1, 32767));
	R(SETV(id, 1, 32768));
	R(SETV(id, 1, -1));
	R(SETV(id, 4, 1));
	R(SETV(id, -1, 1));
	R(SETV(id, 4, 99999));
	R(VAL(id, 1));
	R(VAL(id, 4));
	R(VAL(id, -1));
	IS(CTL(id, 1, GETPID) == getpid());
	R(CTL(id, 4, GETPID));
	R(CTL(id, 1, GETNCNT));
	R(CTL(id, 1, GETZCNT));
	struct seminfo in;
	memset(&in, 0, sizeof in);
	IS(CTL(0, 0, IPC_INFO, &in) >= 0);
	say("map %d mni %d mns %d mnu %d msl %d opm %d ume %d usz %d vmx %d aem %d", in.semmap, in.semmni, in.semmns,
	    in.semmnu, in.semmsl, in.semopm, in.semume, in.semusz, in.semvmx, in.semaem);
	R(CTL(0, 0, IPC_INFO, 0L));
	int top;
	MUST(top = CTL(0, 0, SEM_INFO, &in));
	say("usz %d aem %d", in.semusz, in.semaem);
	struct semid_ds d;
	R(CTL(top, 0, SEM_STAT, &d) == id);
	R(CTL(top, 0, 20 /* SEM_STAT_ANY */, &d) == id);
	R(CTL(top + 1, 0, SEM_STAT, &d));
	R(CTL(-1, 0, SEM_STAT, &d));
	MUST(CTL(id, 0, IPC_STAT, &d));
	d.sem_perm.uid = 1000, d.sem_perm.gid = 1001, d.sem_perm.mode = 01646;
	R(CTL(id, 0, IPC_SET, &d));
	R(CTL(id, 0, IPC_SET, 0L));
	MUST(CTL(id, 0, IPC_STAT, &d));
	say("mode %o uid %d gid %d cuid %d cgid %d", d.sem_perm.mode, d.sem_perm.uid, d.sem_perm.gid, d.sem_perm.cuid, d.sem_perm.cgid);
	d.sem_perm.uid = -1;
	R(CTL(id, 0, IPC_SET, &d));
	R(CTL(id, 0, IPC_RMID));
}

static void perms(void)
{
	say("-- permissions");
	int id, r;
	MUST(id = semget(0x77, 2, IPC_CREAT | 0640));
	MUST(r = semget(IPC_PRIVATE, 1, 0604));
	reap("child", FORK({
		setgid(500); setuid(500);
		struct semid_ds d;
		struct sembuf b = { 5, 1, 0 };
		unsigned short v[2];
		IS(semget(0x77, 0, 0) == id);
		R(semget(0x77, 0, 0600));
		R(semget(0x77, 9, 0600));
		R(CTL(id, 0, IPC_STAT, &d));
		R(CTL(id, 9, GETVAL));
		R(CTL(id, 0, GETALL, v));
		R(CTL(id, 0, SETALL, 0L));
		R(SETV(id, 9, 1));
		R(SETV(id, 0, 1));
		R(CTL(id, 0, IPC_SET, 0L));
		R(CTL(id, 0, IPC_SET, &d));
		R(CTL(id, 0, IPC_RMID));
		R(op1(id, 0, 1, 0));
		R(semop(id, &b, 1));
		R(CTL(r, 0, IPC_STAT, &d));
		R(VAL(r, 0));
		R(op1(r, 0, 0, 0));
		R(op1(r, 0, 1, 0));
		R(SETV(r, 0, 1));
		R(CTL(r & 32767, 0, SEM_STAT, &d) == r);
		R(CTL(id & 32767, 0, SEM_STAT, &d));
		R(CTL(id & 32767, 0, 20, &d) == id);
	}));
	CTL(id, 0, IPC_RMID);
	CTL(r, 0, IPC_RMID);
}

static void ops(void)
{
	say("-- semop");
	int id;
	struct sembuf b[600];
	MUST(id = semget(IPC_PRIVATE, 3, 0600));
	R(semop(id, b, 0));
	R(semop(-1, b, 0));
	R(semop(id, b, 501));
	R(semop(id, NULL, 1));
	b[0] = OP(0, 1, 0);
	R(semop(-1, b, 1));
	b[0] = OP(3, 1, 0);
	R(semop(id, b, 1));
	R(op1(id, 0, 2, 0));
	R(VAL(id, 0));
	R(op1(id, 0, -3, IPC_NOWAIT));
	R(op1(id, 0, 0, IPC_NOWAIT));
	R(op1(id, 1, 0, IPC_NOWAIT));
	R(op1(id, 0, 32767, 0));
	R(op1(id, 0, -2, 0));
	R(op1(id, 0, 32767, 0));
	R(op1(id, 0, 1, IPC_NOWAIT));
	R(op1(id, 0, -32768, IPC_NOWAIT));
	R(SETV(id, 0, 2));
	/* all or none */
	b[0] = OP(0, -1, 0), b[1] = OP(1, -1, IPC_NOWAIT), b[2] = OP(2, 1, 0);
	R(semop(id, b, 3));
	say("%ld %ld %ld", VAL(id, 0), VAL(id, 1), VAL(id, 2));
	/* in order, on the same semaphore */
	b[0] = OP(0, -2, 0), b[1] = OP(0, 0, IPC_NOWAIT), b[2] = OP(0, 5, 0);
	R(semop(id, b, 3));
	R(VAL(id, 0));
	b[0] = OP(0, 0, IPC_NOWAIT), b[1] = OP(0, -5, 0);
	R(semop(id, b, 2));
	b[0] = OP(1, 1, 0), b[1] = OP(1, -1, 0), b[2] = OP(1, 0, 0);
	R(semop(id, b, 3));
	R(VAL(id, 1));
	b[0] = OP(1, 32767, 0), b[1] = OP(1, 1, 0);
	R(semop(id, b, 2));
	R(VAL(id, 1));
	for (int i = 0; i < 500; i++)
		b[i] = OP(2, 1, 0);
	R(semop(id, b, 500));
	R(VAL(id, 2));
	struct semid_ds d;
	CTL(id, 0, IPC_STAT, &d);
	IS(d.sem_otime > 1000000 && d.sem_otime <= time(NULL));
	say("-- semtimedop");
	struct timespec t = { 0, 1000000000 }, past = { -1, 0 };
	b[0] = OP(1, -1, 0);
	R(semtimedop(id, b, 1, &t));
	R(semtimedop(id, b, 1, &past));
	R(semtimedop(id, b, 0, &past));
	R(semtimedop(id, b, 501, (void *)8));
	R(semtimedop(id, b, 1, (void *)8));
	R(semtimedop(9999999, b, 1, &past));
	R(opt(id, 1, -1, 0, 0));
	R(opt(id, 1, -1, 0, 30));
	R(opt(id, 0, 0, 0, 30));
	R(opt(id, 1, 1, 0, 30));
	R(opt(id, 1, -1, 0, 30));
	R(CTL(id, 1, GETNCNT));
	CTL(id, 0, IPC_RMID);
}

static void blocking(void)
{
	say("-- blocking");
	int id, p, q;
	MUST(id = semget(IPC_PRIVATE, 3, 0600));
	p = FORK(R(op1(id, 0, -1, 0)));
	asleep(p);
	R(CTL(id, 0, GETNCNT));
	R(CTL(id, 0, GETZCNT));
	R(CTL(id, 1, GETNCNT));
	MUST(op1(id, 0, 1, 0));
	reap("decrement", p);
	R(VAL(id, 0));
	IS(CTL(id, 0, GETPID) == p);
	SETV(id, 0, 2);
	p = FORK(R(op1(id, 0, 0, 0)));
	asleep(p);
	R(CTL(id, 0, GETZCNT));
	R(op1(id, 0, -1, 0));
	R(CTL(id, 0, GETZCNT));
	MUST(op1(id, 0, -1, 0));
	reap("zero", p);
	/* served in the order they came, none overtaken by a smaller one */
	p = FORK({ R(op1(id, 0, -3, 0)); });
	asleep(p);
	q = FORK({ R(op1(id, 0, -1, 0)); });
	asleep(q);
	R(CTL(id, 0, GETNCNT));
	MUST(op1(id, 0, 1, 0));
	reap("-1 of 1", q);
	R(CTL(id, 0, GETNCNT));
	MUST(SETV(id, 0, 5));
	reap("-3 of 5", p);
	R(VAL(id, 0));
	SETV(id, 0, 0);
	int order[2];
	pipe(order);
	int kids[4];
	for (int i = 0; i < 4; i++) {
		kids[i] = FORK({ char c = 'a' + i; op1(id, 0, -1, 0); write(order[1], &c, 1); });
		asleep(kids[i]);
	}
	char got[5] = "";
	for (int i = 0; i < 4; i++) {
		op1(id, 0, 1, 0);
		read(order[0], got + i, 1);
	}
	say("order %s", got);
	for (int i = 0; i < 4; i++)
		waitpid(kids[i], NULL, 0);
	/* several at once */
	p = FORK({ struct sembuf b[2] = { OP(0, -1, 0), OP(1, -1, 0) }; R(semop(id, b, 2)); });
	asleep(p);
	say("waiting for 0: %ld, 1: %ld", CTL(id, 0, GETNCNT), CTL(id, 1, GETNCNT));
	op1(id, 0, 1, 0);
	asleep(p);
	say("waiting for 0: %ld, 1: %ld", CTL(id, 0, GETNCNT), CTL(id, 1, GETNCNT));
	R(VAL(id, 0));
	op1(id, 1, 1, 0);
	reap("two", p);
	say("%ld %ld", VAL(id, 0), VAL(id, 1));
	/* one release lets a chain go on */
	p = FORK({ struct sembuf b[2] = { OP(0, -1, 0), OP(1, 1, 0) }; _exit(semop(id, b, 2)); });
	asleep(p);
	q = FORK({ _exit(op1(id, 1, -1, 0)); });
	asleep(q);
	op1(id, 0, 1, 0);
	reap("first", p);
	reap("second", q);
	say("%ld %ld", VAL(id, 0), VAL(id, 1));
	/* SETALL */
	p = FORK(R(op1(id, 2, -2, 0)));
	asleep(p);
	unsigned short v[3] = { 0, 0, 2 };
	MUST(CTL(id, 0, SETALL, v));
	reap("setall", p);
	/* a waiter that would leave the range */
	SETV(id, 0, 32767);
	p = FORK({ struct sembuf b[2] = { OP(1, -1, 0), OP(0, 1, 0) }; R(semop(id, b, 2)); });
	asleep(p);
	op1(id, 1, 1, 0);
	reap("range", p);
	say("%ld %ld", VAL(id, 0), VAL(id, 1));
	SETV(id, 0, 0);
	SETV(id, 1, 0);
	say("-- interrupted");
	handle(SIGUSR1, SA_RESTART);
	p = FORK(R(op1(id, 0, -1, 0)));
	asleep(p);
	kill(p, SIGUSR1);
	reap("semop", p);
	R(CTL(id, 0, GETNCNT));
	p = FORK(R(opt(id, 0, -1, 0, 10000)));
	asleep(p);
	kill(p, SIGUSR1);
	reap("semtimedop", p);
	p = FORK(op1(id, 0, -1, 0));
	killed("killed", p);
	R(CTL(id, 0, GETNCNT));
	p = FORK(R(op1(id, 0, -1, 0)));
	asleep(p);
	kill(p, SIGSTOP);
	ms(50);
	kill(p, SIGCONT);
	asleep(p);
	op1(id, 0, 1, 0);
	reap("stopped and continued", p);
	say("-- removed");
	SETV(id, 1, 1);
	p = FORK(R(op1(id, 0, -1, 0)));
	q = FORK({ ms(1); op1(id, 1, 0, 0); _exit(errno == EIDRM); });
	asleep(p);
	asleep(q);
	MUST(CTL(id, 0, IPC_RMID));
	reap("decrement", p);
	reap("zero", q);
}

static void *undoer(void *p)
{
	op1(*(int *)p, 0, 3, SEM_UNDO);
	return NULL;
}

static void undo(void)
{
	say("-- SEM_UNDO");
	int id, p;
	MUST(id = semget(IPC_PRIVATE, 2, 0600));
	SETV(id, 0, 5);
	p = FORK({ R(op1(id, 0, -3, SEM_UNDO)); R(VAL(id, 0)); });
	reap("child", p);
	R(VAL(id, 0));
	IS(CTL(id, 0, GETPID) == p);
	reap("killed", FORK({ op1(id, 0, -3, SEM_UNDO); op1(id, 0, 1, SEM_UNDO); kill(getpid(), SIGKILL); }));
	R(VAL(id, 0));
	/* not below zero, not beyond the range */
	reap("up", FORK({ op1(id, 0, 4, SEM_UNDO); SETV(id, 0, 5); op1(id, 0, 3, SEM_UNDO); op1(id, 0, -8, 0); }));
	R(VAL(id, 0));
	reap("down", FORK({ SETV(id, 0, 10); op1(id, 0, -10, SEM_UNDO); op1(id, 0, 32760, 0); }));
	R(VAL(id, 0));
	/* SETVAL and SETALL forget */
	reap("setval", FORK({ SETV(id, 0, 9); op1(id, 0, -4, SEM_UNDO); SETV(id, 0, 2); }));
	R(VAL(id, 0));
	reap("setall", FORK({ unsigned short v[2] = { 7, 7 }; op1(id, 0, -1, SEM_UNDO); CTL(id, 0, SETALL, v); }));
	R(VAL(id, 0));
	/* the adjustment has a range of its own */
	SETV(id, 0, 0);
	R(op1(id, 0, 32767, SEM_UNDO));
	R(op1(id, 0, -32767, 0));
	R(op1(id, 0, 2, SEM_UNDO));
	R(op1(id, 0, 1, SEM_UNDO));
	R(VAL(id, 0));
	SETV(id, 0, 0);
	/* fork does not inherit */
	MUST(op1(id, 0, 2, SEM_UNDO));
	reap("grandchild", FORK(op1(id, 0, 1, 0)));
	R(VAL(id, 0));
	/* threads share: nothing is undone before the last ends */
	SETV(id, 0, 0);
	p = FORK({
		pthread_t t;
		pthread_create(&t, NULL, undoer, &id);
		pthread_join(t, NULL);
		R(VAL(id, 0));
		op1(id, 0, 1, SEM_UNDO);
		R(VAL(id, 0));
	});
	reap("threads", p);
	R(VAL(id, 0));
	/* exec keeps */
	SETV(id, 0, 4);
	p = FORK({
		op1(id, 0, -1, SEM_UNDO);
		char b[20];
		snprintf(b, sizeof b, "%d", id);
		execl("/proc/self/exe", "sysvsem", "exec", b, NULL);
	});
	reap("exec", p);
	R(VAL(id, 0));
	/* the end of one lets another go on */
	SETV(id, 1, 0);
	SETV(id, 0, 1);
	int q;
	make_gate();
	p = FORK({ op1(id, 0, -1, SEM_UNDO); held(); });
	asleep(p);
	q = FORK({ _exit(op1(id, 0, -1, 0)); });
	asleep(q);
	open_gate();
	reap("holder", p);
	reap("waiter", q);
	/* removed before */
	p = FORK({ op1(id, 0, 1, SEM_UNDO); held(); });
	asleep(p);
	MUST(CTL(id, 0, IPC_RMID));
	open_gate();
	reap("after removal", p);
}

static void show(const char *file)
{
	char b[4096];
	int fd = open(file, O_RDONLY);
	int n = read(fd, b, sizeof b - 1);
	close(fd);
	b[n < 0 ? 0 : n] = 0;
	for (char *l = strtok(b, "\n"); l; l = strtok(NULL, "\n")) {
		int key, id, perm, uid, gid, cuid, cgid;
		long ns, ot, ct;
		if (sscanf(l, "%d %d %o %ld %d %d %d %d %ld %ld", &key, &id, &perm, &ns, &uid, &gid, &cuid, &cgid, &ot, &ct) == 10)
			say("key %d perm %o nsems %ld %d %d %d %d, %d characters", key, perm, ns, uid, gid, cuid, cgid, (int)strlen(l));
		else
			say("%s", l);
	}
}

static void store(const char *file, const char *v)
{
	int fd = open(file, O_WRONLY);
	long n = write(fd, v, strlen(v));
	say("%s <- %s: %s", strrchr(file, '/') + 1, v, n < 0 ? errname(errno) : "ok");
	close(fd);
}

static void cat(const char *file)
{
	char b[256];
	int fd = open(file, O_RDONLY);
	int n = read(fd, b, sizeof b - 1);
	close(fd);
	b[n < 0 ? 0 : n] = 0;
	say("%s: %s", strrchr(file, '/') + 1, strtok(b, "\n"));
}

static void files(void)
{
	say("-- /proc");
	int id, id2;
	MUST(id = semget(0x55, 7, IPC_CREAT | 0644));
	MUST(id2 = semget(IPC_PRIVATE, 2, 0600));
	show("/proc/sysvipc/sem");
	cat("/proc/sys/kernel/sem");
	store("/proc/sys/kernel/sem", "10 20 3 2");
	cat("/proc/sys/kernel/sem");
	R(semget(IPC_PRIVATE, 11, 0600));
	R(semget(IPC_PRIVATE, 1, 0600)); /* two arrays are there */
	store("/proc/sys/kernel/sem", "10 20 3 4");
	R(semget(IPC_PRIVATE, 10, 0600) >= 0);
	R(semget(IPC_PRIVATE, 10, 0600)); /* 19 semaphores are there */
	struct sembuf b[4] = { OP(0, 1, 0), OP(0, 1, 0), OP(0, 1, 0), OP(0, 1, 0) };
	R(semop(id, b, 3));
	R(semop(id, b, 4));
	store("/proc/sys/kernel/sem", "10 20 3 32769");
	store("/proc/sys/kernel/sem", "10 20 3 -1");
	store("/proc/sys/kernel/sem", "x");
	cat("/proc/sys/kernel/sem");
	store("/proc/sys/kernel/sem", "32000 1024000000 500 32000");
	cat("/proc/sys/kernel/sem");
	struct seminfo in;
	int top = CTL(0, 0, SEM_INFO, &in);
	for (int i = 0; i <= top; i++) {
		struct semid_ds d;
		int x = CTL(i, 0, SEM_STAT, &d);
		if (x >= 0)
			CTL(x, 0, IPC_RMID);
	}
	CTL(0, 0, SEM_INFO, &in);
	say("arrays %d semaphores %d", in.semusz, in.semaem);
}

int main(int argc, char **argv)
{
	alarm(50); /* nothing here takes long: no check may hang */
	if (argc > 2) {
		R(VAL(atoi(argv[2]), 0));
		return 0;
	}
	get();
	ctl();
	perms();
	ops();
	blocking();
	undo();
	files();
	return 0;
}
