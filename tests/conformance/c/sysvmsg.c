/* System V message queues: msgget, msgsnd, msgrcv, msgctl. */
#include "ipc.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <limits.h>

struct m { long type; char text[9000]; };
#define SND(id, p, n, f) syscall(SYS_msgsnd, id, p, (size_t)(n), f)
#define RCV(id, p, n, t, f) syscall(SYS_msgrcv, id, p, (size_t)(n), (long)(t), f)
#define CTL(id, cmd, p) syscall(SYS_msgctl, id, cmd, p)
#define MSG_COPY_ 040000

static int send(int id, long type, const char *text, int flags)
{
	struct m m = { type };
	strcpy(m.text, text);
	return SND(id, &m, strlen(text), flags);
}

static void recv(int id, size_t n, long type, int flags)
{
	struct m m;
	memset(&m, 0, sizeof m);
	errno = 0;
	long r = RCV(id, &m, n, type, flags);
	if (r < 0)
		say("receive %zu of %ld, flags %o: %s", n, type, flags, errname(errno));
	else
		say("receive %zu of %ld, flags %o: %ld bytes, type %ld, %s", n, type, flags, r, m.type, m.text);
}

static void get(void)
{
	say("-- msgget");
	int id;
	R(msgget(0x1234, 0600));
	MUST(id = msgget(0x1234, IPC_CREAT | 0640));
	IS(msgget(0x1234, 0) == id);
	IS(msgget(0x1234, IPC_CREAT | 0600) == id);
	R(msgget(0x1234, IPC_CREAT | IPC_EXCL | 0600));
	struct msqid_ds d;
	memset(&d, 0xff, sizeof d);
	R(CTL(id, IPC_STAT, &d));
	say("key %x mode %o uid %d cuid %d stime %ld rtime %ld cbytes %lu qnum %lu qbytes %lu lspid %d lrpid %d", d.msg_perm.__key, d.msg_perm.mode,
	    d.msg_perm.uid, d.msg_perm.cuid, (long)d.msg_stime, (long)d.msg_rtime, d.__msg_cbytes, d.msg_qnum, d.msg_qbytes, d.msg_lspid, d.msg_lrpid);
	IS(d.msg_ctime > 1000000);
	R(CTL(id, IPC_STAT, 0L));
	R(CTL(-1, IPC_STAT, &d));
	R(CTL(id, -1, &d));
	R(CTL(id + 32768, IPC_STAT, &d));
	R(CTL(id, 99, &d));
	R(CTL(id, IPC_RMID, 0L));
	R(CTL(id, IPC_RMID, 0L));
	R(send(id, 1, "x", 0));
}

static void simple(void)
{
	say("-- msgsnd and msgrcv");
	int id;
	struct m m = { 1 };
	MUST(id = msgget(IPC_PRIVATE, 0600));
	R(send(id, 0, "x", 0));
	R(send(id, -1, "x", 0));
	R(SND(id, &m, 8193, 0));
	R(SND(id, &m, -1, 0));
	R(SND(-1, &m, 1, 0));
	R(SND(id, 0L, 1, 0));
	R(SND(id, 8L, 8193, 0));
	R(SND(99999, &m, 1, 0));
	R(RCV(-1, &m, 1, 0, 0));
	R(RCV(id, &m, -1, 0, 0));
	R(RCV(id, &m, 1, 0, IPC_NOWAIT));
	R(RCV(99999, &m, 1, 0, IPC_NOWAIT));
	R(send(id, 5, "five", 0));
	R(send(id, 3, "three", 0));
	R(send(id, 4, "four", 0));
	R(send(id, 3, "another three", 0));
	R(send(id, LONG_MAX, "most", 0));
	R(send(id, 7, "", 0));
	struct msqid_ds d;
	CTL(id, IPC_STAT, &d);
	say("cbytes %lu qnum %lu", d.__msg_cbytes, d.msg_qnum);
	IS(d.msg_lspid == getpid() && d.msg_lrpid == 0 && d.msg_stime > 1000000);
	recv(id, 100, 3, 0);
	recv(id, 100, 9, IPC_NOWAIT);
	recv(id, 2, 4, 0);
	recv(id, 2, 4, MSG_NOERROR);
	recv(id, 100, -4, 0);
	recv(id, 100, -4, IPC_NOWAIT);
	recv(id, 100, 5, MSG_EXCEPT);
	recv(id, 100, 0, MSG_EXCEPT);
	recv(id, 100, 7, 0);
	recv(id, 100, 0, IPC_NOWAIT);
	send(id, 9, "nine", 0), send(id, 8, "eight", 0), send(id, 8, "eight again", 0);
	recv(id, 100, LONG_MIN, 0);
	recv(id, 100, -100, 0);
	recv(id, 0, 9, MSG_NOERROR);
	say("-- MSG_COPY");
	send(id, 2, "zeroth", 0), send(id, 1, "first", 0);
	recv(id, 100, 0, MSG_COPY_ | IPC_NOWAIT);
	recv(id, 100, 1, MSG_COPY_ | IPC_NOWAIT);
	recv(id, 100, 2, MSG_COPY_ | IPC_NOWAIT);
	recv(id, 100, -1, MSG_COPY_ | IPC_NOWAIT);
	recv(id, 100, 1, MSG_COPY_);
	recv(id, 100, 1, MSG_COPY_ | IPC_NOWAIT | MSG_EXCEPT);
	recv(id, 2, 1, MSG_COPY_ | IPC_NOWAIT);
	recv(id, 2, 1, MSG_COPY_ | IPC_NOWAIT | MSG_NOERROR);
	CTL(id, IPC_STAT, &d);
	say("qnum %lu", d.msg_qnum);
	/* a bad pointer loses the message */
	R(RCV(id, 0L, 100, 0, 0));
	CTL(id, IPC_STAT, &d);
	say("qnum %lu", d.msg_qnum);
	CTL(id, IPC_RMID, 0L);
}

static void limits(void)
{
	say("-- full");
	int id, i;
	struct m m = { 1 };
	MUST(id = msgget(IPC_PRIVATE, 0600));
	R(SND(id, &m, 8192, IPC_NOWAIT));
	R(SND(id, &m, 8192, IPC_NOWAIT));
	R(SND(id, &m, 1, IPC_NOWAIT));
	R(SND(id, &m, 0, IPC_NOWAIT));
	/* Who goes on first, the sender or its waker, is the scheduler's business. */
	int p = FORK(m.type = 2; strcpy(m.text, "late"); _exit(SND(id, &m, 4, 0)));
	asleep(p);
	recv(id, 0, 0, MSG_NOERROR);
	reap("sender", p);
	R(RCV(id, &m, 8192, 1, 0));
	recv(id, 100, 2, 0);
	recv(id, 100, 0, MSG_NOERROR | IPC_NOWAIT);
	struct msqid_ds d;
	CTL(id, IPC_STAT, &d);
	d.msg_qbytes = 10;
	R(CTL(id, IPC_SET, &d));
	R(SND(id, &m, 11, IPC_NOWAIT));
	for (i = 0; i < 20 && SND(id, &m, 0, IPC_NOWAIT) == 0; i++)
		;
	say("%d empty messages", i);
	p = FORK(R(SND(id, &m, 0, 0)));
	asleep(p);
	d.msg_qbytes = 16385;
	MUST(CTL(id, IPC_SET, &d));
	reap("sender", p);
	CTL(id, IPC_STAT, &d);
	say("qbytes %lu", d.msg_qbytes);
	d.msg_perm.uid = 44;
	d.msg_perm.gid = 45;
	d.msg_perm.mode = 0777;
	R(CTL(id, IPC_SET, &d));
	d.msg_perm.gid = -1;
	R(CTL(id, IPC_SET, &d));
	R(CTL(id, IPC_SET, 0L));
	CTL(id, IPC_STAT, &d);
	say("mode %o uid %d gid %d", d.msg_perm.mode, d.msg_perm.uid, d.msg_perm.gid);
	reap("owner", FORK({
		setgid(45); setuid(44);
		d.msg_perm.gid = 45;
		d.msg_qbytes = 16385;
		R(CTL(id, IPC_SET, &d));
		d.msg_qbytes = 16384;
		R(CTL(id, IPC_SET, &d));
		R(CTL(id, IPC_RMID, 0L));
	}));
	struct msginfo in;
	memset(&in, 0, sizeof in);
	R(CTL(0, IPC_INFO, &in) >= 0);
	say("pool %d map %d max %d mnb %d mni %d ssz %d tql %d seg %d", in.msgpool, in.msgmap, in.msgmax, in.msgmnb, in.msgmni, in.msgssz, in.msgtql, in.msgseg);
}

static void perms(void)
{
	say("-- permissions");
	int id;
	struct m m = { 1 };
	MUST(id = msgget(0x99, IPC_CREAT | 0604));
	send(id, 1, "for all", 0);
	reap("reader", FORK({
		struct msqid_ds d;
		setgid(7); setuid(7);
		IS(msgget(0x99, 0) == id);
		IS(msgget(0x99, 0004) == id);
		R(msgget(0x99, 0006));
		R(CTL(id, IPC_STAT, &d));
		R(CTL(id, IPC_SET, 0L));
		R(CTL(id, IPC_SET, &d));
		R(CTL(id, IPC_RMID, 0L));
		R(send(id, 1, "x", 0));
		recv(id, 100, 0, 0);
	}));
	MUST(CTL(id, IPC_RMID, 0L));
	MUST(id = msgget(0x99, IPC_CREAT | 0602));
	reap("writer", FORK({
		struct msqid_ds d;
		setgid(7); setuid(7);
		R(CTL(id, IPC_STAT, &d));
		R(CTL(id & 32767, MSG_STAT, &d));
		IS(CTL(id & 32767, 13, &d) == id);
		R(send(id, 1, "x", 0));
		recv(id, 100, 0, 0);
	}));
	IS(CTL(id & 32767, MSG_STAT, (&(struct msqid_ds){ 0 })) == id);
	R(CTL((id & 32767) + 1, MSG_STAT, (&(struct msqid_ds){ 0 })));
	struct msginfo in;
	IS(CTL(0, MSG_INFO, &in) == (id & 32767));
	say("queues %d messages %d bytes %d", in.msgpool, in.msgmap, in.msgtql);
	CTL(id, IPC_RMID, 0L);
}

static void blocking(void)
{
	say("-- blocking");
	int id, p, q;
	struct m m = { 1 };
	struct msqid_ds d;
	MUST(id = msgget(IPC_PRIVATE, 0600));
	p = FORK(recv(id, 100, 3, 0));
	asleep(p);
	send(id, 1, "one", 0);
	send(id, 3, "three", 0);
	reap("receiver of 3", p);
	CTL(id, IPC_STAT, &d);
	say("qnum %lu", d.msg_qnum);
	IS(d.msg_lrpid == p);
	recv(id, 100, 0, 0);
	/* in the order they came, each what it asked for */
	p = FORK(recv(id, 100, -2, 0));
	asleep(p);
	q = FORK(recv(id, 100, 0, 0));
	asleep(q);
	send(id, 3, "for the second", 0);
	reap("any", q);
	send(id, 2, "for the first", 0);
	reap("up to 2", p);
	/* who has too little room fails, and the next gets the message */
	p = FORK(recv(id, 2, 0, 0));
	asleep(p);
	send(id, 1, "long text", 0);
	reap("small buffer", p);
	recv(id, 100, 0, IPC_NOWAIT);
	p = FORK(recv(id, 4, 0, MSG_NOERROR));
	asleep(p);
	send(id, 1, "long text", 0);
	reap("cut", p);
	p = FORK(recv(id, 100, 5, MSG_EXCEPT));
	asleep(p);
	send(id, 5, "five", 0);
	send(id, 6, "six", 0);
	reap("all but 5", p);
	recv(id, 100, 0, IPC_NOWAIT);
	say("-- interrupted");
	handle(SIGUSR1, 0);
	p = FORK(recv(id, 100, 0, 0));
	asleep(p);
	kill(p, SIGUSR1);
	reap("msgrcv", p);
	handle(SIGUSR1, SA_RESTART);
	p = FORK(recv(id, 100, 0, 0));
	asleep(p);
	kill(p, SIGUSR1);
	reap("msgrcv with SA_RESTART", p);
	p = FORK(recv(id, 100, 0, 0));
	killed("killed", p);
	p = FORK(recv(id, 100, 0, 0));
	asleep(p);
	kill(p, SIGSTOP);
	ms(50);
	kill(p, SIGCONT);
	asleep(p);
	send(id, 1, "after a stop", 0);
	reap("stopped and continued", p);
	SND(id, &m, 8192, 0), SND(id, &m, 8192, 0);
	p = FORK(R(SND(id, &m, 100, 0)));
	asleep(p);
	kill(p, SIGUSR1);
	reap("msgsnd", p);
	p = FORK(SND(id, &m, 100, 0));
	killed("killed", p);
	p = FORK(R(SND(id, &m, 100, 0)));
	asleep(p);
	say("-- removed");
	MUST(CTL(id, IPC_RMID, 0L));
	reap("msgsnd", p);
	MUST(id = msgget(IPC_PRIVATE, 0600));
	p = FORK(recv(id, 100, 0, 0));
	asleep(p);
	MUST(CTL(id, IPC_RMID, 0L));
	reap("msgrcv", p);
}

static void cat(const char *file)
{
	char b[4096];
	int fd = open(file, O_RDONLY);
	int n = read(fd, b, sizeof b - 1);
	close(fd);
	b[n < 0 ? 0 : n] = 0;
	for (char *l = strtok(b, "\n"); l; l = strtok(NULL, "\n")) {
		int key, id, perm, ls, lr, uid, gid, cuid, cgid;
		long cb, qn, st, rt, ct;
		if (sscanf(l, "%d %d %o %ld %ld %d %d %d %d %d %d %ld %ld %ld", &key, &id, &perm, &cb, &qn, &ls, &lr, &uid, &gid, &cuid, &cgid, &st, &rt, &ct) == 14)
			say("key %d perm %o cbytes %ld qnum %ld sender %d receiver %d %d %d %d %d, %d characters", key, perm, cb, qn, ls == getpid(), lr, uid, gid, cuid, cgid, (int)strlen(l));
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
	cat(file);
}

static void files(void)
{
	say("-- /proc");
	int id;
	struct m m = { 1 };
	MUST(id = msgget(0x55, IPC_CREAT | 0644));
	send(id, 1, "four", 0);
	cat("/proc/sysvipc/msg");
	store("/proc/sys/kernel/msgmax", "100");
	R(SND(id, &m, 101, 0));
	R(SND(id, &m, 100, 0));
	store("/proc/sys/kernel/msgmax", "8192");
	store("/proc/sys/kernel/msgmax", "-1");
	store("/proc/sys/kernel/msgmnb", "20000");
	int q = msgget(IPC_PRIVATE, 0600);
	struct msqid_ds d;
	CTL(q, IPC_STAT, &d);
	say("qbytes %lu", d.msg_qbytes);
	store("/proc/sys/kernel/msgmnb", "16384");
	store("/proc/sys/kernel/msgmni", "2");
	R(msgget(IPC_PRIVATE, 0600));
	store("/proc/sys/kernel/msgmni", "40000");
	store("/proc/sys/kernel/msgmni", "32000");
	CTL(q, IPC_RMID, 0L);
	store("/proc/sys/kernel/msg_next_id", "98309");
	IS(msgget(IPC_PRIVATE, 0600) == 98309);
	cat("/proc/sys/kernel/msg_next_id");
	CTL(98309, IPC_RMID, 0L);
	CTL(id, IPC_RMID, 0L);
}

int main(void)
{
	alarm(50); /* nothing here takes long: no check may hang */
	get();
	simple();
	limits();
	perms();
	blocking();
	files();
	return 0;
}
