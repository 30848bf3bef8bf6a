/* NETLINK_CONNECTOR's process events: who may listen, and what is told of forks, execs, ids, sessions, names and ends. */
#include "files.h"
#include <linux/netlink.h>
#include <linux/connector.h>
#include <linux/cn_proc.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <poll.h>
#include <sched.h>

static int conn(unsigned groups)
{
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_CONNECTOR);
	struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_groups = groups };
	if (fd < 0)
		say("socket: %s", errname(errno));
	else if (bind(fd, (void *)&a, sizeof a) < 0)
		say("bind: %s", errname(errno));
	return fd;
}

static long ask(int fd, unsigned op, unsigned ack)
{
	struct { struct nlmsghdr h; struct cn_msg m; unsigned op; } __attribute__((packed)) q = { { sizeof q, NLMSG_DONE, 0, 0, getpid() }, { { CN_IDX_PROC, CN_VAL_PROC }, 7, ack, sizeof op, 0 }, op };
	return send(fd, &q, sizeof q, 0);
}

static char b[4096];
static int me, child;

static const char *who(unsigned n) { return n == (unsigned)me ? "me" : n == (unsigned)child ? "child" : n == 0 ? "none" : "another"; }

/* next prints the next event about the child; 0 at what its end. timeout in ms. */
static int next(int fd, int timeout)
{
	for (;;) {
		struct pollfd p = { fd, POLLIN, 0 };
		if (poll(&p, 1, timeout) <= 0) {
			say("nothing");
			return 0;
		}
		int n = recv(fd, b, sizeof b, 0);
		if (n < 0) {
			say("recv: %s", errname(errno));
			return 0;
		}
		struct nlmsghdr *h = (void *)b;
		struct cn_msg *m = NLMSG_DATA(h);
		struct proc_event *e = (void *)m->data;
		unsigned *d = (void *)&e->event_data;
		if (e->what == PROC_EVENT_NONE) {
			say("%d: type %d flags %d id %d %d len %d ack %d: error %s", n, h->nlmsg_type, h->nlmsg_flags, m->id.idx, m->id.val, m->len, m->ack, e->event_data.ack.err ? errname(e->event_data.ack.err) : "none");
			return 1;
		}
		if (e->what == PROC_EVENT_FORK ? d[3] != (unsigned)child : d[1] != (unsigned)child)
			continue;
		switch (e->what) {
		case PROC_EVENT_FORK:
			say("fork: by %s of %s makes %s%s", who(d[0]), who(d[1]), who(d[2]), d[2] == d[3] ? "" : " a thread");
			break;
		case PROC_EVENT_EXEC:
			say("exec: %s", who(d[0]));
			break;
		case PROC_EVENT_UID:
		case PROC_EVENT_GID:
			say("%s: %s real %d effective %d", e->what == PROC_EVENT_UID ? "uid" : "gid", who(d[0]), d[2], d[3]);
			break;
		case PROC_EVENT_SID:
			say("sid: %s", who(d[0]));
			break;
		case PROC_EVENT_PTRACE:
			say("ptrace: %s by %s of %s", who(d[0]), who(d[2]), who(d[3]));
			break;
		case PROC_EVENT_COMM:
			say("comm: %s is %.16s", who(d[0]), e->event_data.comm.comm);
			break;
		case PROC_EVENT_COREDUMP:
			say("coredump: %s of %s", who(d[0]), who(d[2]));
			break;
		case PROC_EVENT_EXIT:
			say("exit: %s%s code %#x signal %d of %s %s", d[0] == d[1] ? "" : "a thread of ", who(d[1]), d[2], (int)d[3], who(d[4]), who(d[5]));
			return d[0] != d[1];
		default:
			say("event %x", e->what);
		}
		return 1;
	}
}

/* told runs f in a child and prints what is told of it. */
static void told(int fd, void (*f)(void))
{
	int go[2];
	pipe(go);
	me = getpid();
	if (!(child = fork())) {
		char c;
		close(go[1]);
		read(go[0], &c, 1);
		f();
		_exit(3);
	}
	close(go[0]);
	close(go[1]); /* now the parent knows the number */
	while (next(fd, 10000))
		;
	waitpid(child, 0, 0);
}

static void nothing(void) { }
static void ids(void) { setgid(1000); setresuid(1000, 1001, 1002); setuid(1001); setsid(); setsid(); }
static void execs(void) { execl("/proc/self/exe", "prog", "none", (char *)0); _exit(9); }
static void names(void) { prctl(PR_SET_NAME, "a name that is too long"); int fd = open("/proc/self/comm", O_WRONLY); write(fd, "short", 5); }
static void dies(void) { signal(SIGTERM, SIG_DFL); raise(SIGTERM); }
static void dumps(void) { raise(SIGABRT); }

static int run(void *stack) { (void)stack; syscall(SYS_exit, 5); return 0; }
static void threads(void)
{
	static char stack[16384];
	int tid = 0;
	clone(run, stack + sizeof stack, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID | CLONE_PARENT_SETTID, 0, &tid, 0, &tid);
	while (__atomic_load_n(&tid, __ATOMIC_SEQ_CST))
		sched_yield();
}

CASE(refused, socket, bind, sendto, setsockopt)
{
	int fd = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_CONNECTOR), g = 1;
	R(setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &g, sizeof g));
	R(setsockopt(fd, SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, &g, sizeof g));
	OK(setgid(1000));
	OK(setuid(1000));
	R(setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &g, sizeof g));
	struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	R(bind(fd, (void *)&a, sizeof a));
	a.nl_groups = 0;
	R(bind(fd, (void *)&a, sizeof a));
	R(ask(fd, PROC_CN_MCAST_LISTEN, 1));
	R(socket(AF_NETLINK, SOCK_STREAM, NETLINK_CONNECTOR));
}

CASE(asked, sendto, recvfrom, poll)
{
	int fd = conn(CN_IDX_PROC), quiet = conn(0);
	/* What is not for process events or not whole is dropped. */
	R(ask(fd, PROC_CN_MCAST_LISTEN, 41));
	next(fd, 10000);
	R(ask(fd, 9, 1));
	next(fd, 10000);
	R(send(fd, b, 8, 0));
	R(send(fd, b, 40, 0));
	me = getpid();
	int p = fork();
	if (!p) {
		setuid(1000);
		ask(fd, PROC_CN_MCAST_LISTEN, 5);
		_exit(0);
	}
	waitpid(p, 0, 0);
	while (next(fd, 200))
		;
	R(ask(fd, PROC_CN_MCAST_IGNORE, 1));
	if (!(child = fork()))
		_exit(0);
	waitpid(child, 0, 0);
	next(fd, 20);
	struct pollfd q = { quiet, POLLIN, 0 };
	R(poll(&q, 1, 0));
}

static void told_of(void (*f)(void))
{
	int fd = conn(CN_IDX_PROC);
	ask(fd, PROC_CN_MCAST_LISTEN, 1);
	next(fd, 10000);
	told(fd, f);
	ask(fd, PROC_CN_MCAST_IGNORE, 1);
}

CASE(forkexit, recvfrom, sendto) { told_of(nothing); }
CASE(ids, recvfrom, sendto, setresuid, setsid) { told_of(ids); }
CASE(exec, recvfrom, sendto, execve) { told_of(execs); }
CASE(names, recvfrom, sendto, prctl) { told_of(names); }
CASE(thread, recvfrom, sendto, clone) { told_of(threads); }
CASE(killed, recvfrom, sendto) { told_of(dies); }
CASE(dumped, recvfrom, sendto) { told_of(dumps); }

CASE(traced, ptrace, recvfrom, sendto)
{
	int fd = conn(CN_IDX_PROC), s;
	me = getpid();
	if (!(child = fork()))
		for (;;)
			pause();
	ask(fd, PROC_CN_MCAST_LISTEN, 1);
	next(fd, 10000);
	R(ptrace(PTRACE_ATTACH, child, 0, 0));
	next(fd, 10000);
	waitpid(child, &s, 0);
	R(ptrace(PTRACE_DETACH, child, 0, 0));
	next(fd, 10000);
	R(ptrace(PTRACE_SEIZE, child, 0, 0));
	next(fd, 10000);
	kill(child, SIGKILL);
	waitpid(child, &s, 0);
	next(fd, 10000);
	ask(fd, PROC_CN_MCAST_IGNORE, 1);
}

CASES
