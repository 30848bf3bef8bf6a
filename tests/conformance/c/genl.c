/* NETLINK_GENERIC: the controller, and TASKSTATS. */
#include "files.h"
#include <linux/netlink.h>
#include <linux/genetlink.h>
#include <linux/taskstats.h>
#include <linux/cgroupstats.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <poll.h>
#include <sched.h>

static char b[16384];
static int family;

static int generic(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC);
	struct sockaddr_nl a = { .nl_family = AF_NETLINK };
	if (fd < 0)
		say("socket: %s", errname(errno));
	else
		bind(fd, (void *)&a, sizeof a);
	return fd;
}

/* ask sends a command with one attribute (size -1: none). */
static void ask(int fd, int type, int flags, int cmd, int attr, const void *v, int size)
{
	struct { struct nlmsghdr h; struct genlmsghdr g; struct nlattr a; char v[256]; } q = { { 0, type, NLM_F_REQUEST | flags, 5, 0 }, { cmd, 1, 0 }, { NLA_HDRLEN + size, attr }, { 0 } };
	q.h.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN);
	if (size >= 0) {
		memcpy(q.v, v, size);
		q.h.nlmsg_len += NLA_ALIGN(NLA_HDRLEN + size);
	}
	if (send(fd, &q, q.h.nlmsg_len, 0) < 0)
		say("send: %s", errname(errno));
}

/* got receives one message: its error, or its genetlink header. */
static struct genlmsghdr *got(int fd, int *size)
{
	struct pollfd p = { fd, POLLIN, 0 };
	if (poll(&p, 1, 2000) <= 0) {
		say("nothing");
		return 0;
	}
	int n = recv(fd, b, sizeof b, 0);
	struct nlmsghdr *h = (void *)b;
	if (n < 0) {
		say("recv: %s", errname(errno));
		return 0;
	}
	if (h->nlmsg_type == NLMSG_ERROR) {
		int e = -((struct nlmsgerr *)NLMSG_DATA(h))->error;
		say("error: %s", e ? errname(e) : "none");
		return 0;
	}
	*size = h->nlmsg_len - NLMSG_LENGTH(GENL_HDRLEN);
	return NLMSG_DATA(h);
}

#define EACH(a, from, size) for (struct nlattr *a = (void *)(from); (char *)a + NLA_HDRLEN <= (char *)(from) + (size) && a->nla_len; a = (void *)((char *)a + NLA_ALIGN(a->nla_len)))
#define VAL(a) ((void *)((char *)(a) + NLA_HDRLEN))

static void describe(struct genlmsghdr *g, int size)
{
	if (!g)
		return;
	say("command %d version %d", g->cmd, g->version);
	EACH(a, g + 1, size) {
		switch (a->nla_type & NLA_TYPE_MASK) {
		case CTRL_ATTR_FAMILY_NAME:
			say("name %s of %d", (char *)VAL(a), a->nla_len);
			break;
		case CTRL_ATTR_FAMILY_ID:
			family = *(uint16_t *)VAL(a);
			say("number %s", family == GENL_ID_CTRL ? "the controller's" : family >= GENL_START_ALLOC ? "another" : "?");
			break;
		case CTRL_ATTR_OPS:
			say("commands in %x", a->nla_type);
			EACH(o, VAL(a), a->nla_len - NLA_HDRLEN) {
				unsigned id = 0, flags = 0;
				EACH(x, VAL(o), o->nla_len - NLA_HDRLEN)
					*(x->nla_type == CTRL_ATTR_OP_ID ? &id : &flags) = *(unsigned *)VAL(x);
				if (id != CTRL_CMD_GETPOLICY) /* not here */
					say("  %x: %d flags %x", o->nla_type, id, flags);
			}
			break;
		case CTRL_ATTR_MCAST_GROUPS:
			EACH(o, VAL(a), a->nla_len - NLA_HDRLEN)
				EACH(x, VAL(o), o->nla_len - NLA_HDRLEN)
					if (x->nla_type == CTRL_ATTR_MCAST_GRP_NAME)
						say("  group %s", (char *)VAL(x));
					else
						say("  group number %x", *(unsigned *)VAL(x));
			break;
		default:
			say("attribute %d: %d", a->nla_type, *(int *)VAL(a));
		}
	}
}

static int taskstats(int fd)
{
	int n;
	ask(fd, GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, "TASKSTATS", 10);
	struct genlmsghdr *g = got(fd, &n);
	if (g)
		EACH(a, g + 1, n)
			if (a->nla_type == CTRL_ATTR_FAMILY_ID)
				return *(uint16_t *)VAL(a);
	return 0;
}

CASE(controller, socket, sendto, recvfrom)
{
	int fd = generic(), n;
	struct genlmsghdr *g;
	uint16_t id = GENL_ID_CTRL;
#define ASK(what, ...) say("- %s", what), ask(fd, __VA_ARGS__), g = got(fd, &n), describe(g, n)
	ASK("by number", GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_ID, &id, 2);
	ASK("by name", GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, "TASKSTATS", 10);
	ASK("without the end of the name", GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, "TASKSTATS", 9);
	ASK("too long", GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, "a name that is too long", 24);
	ASK("nobody", GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, "nobody", 7);
	id = 0x3ff;
	ASK("no number", GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_ID, &id, 2);
	ASK("short", GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_ID, &id, 1);
	ASK("neither", GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, 0, 0, -1);
	ASK("no command", GENL_ID_CTRL, 0, 99, 0, 0, -1);
	ASK("none is done", GENL_ID_CTRL, 0, CTRL_CMD_NEWFAMILY, 0, 0, -1);
	ASK("no family", 0x3ff, 0, CTRL_CMD_GETFAMILY, 0, 0, -1);
	ASK("no family, acknowledged", 0x3ff, NLM_F_ACK, CTRL_CMD_GETFAMILY, 0, 0, -1);
	struct nlmsghdr h = { sizeof h, GENL_ID_CTRL, NLM_F_REQUEST, 1, 0 };
	R(send(fd, &h, sizeof h, 0));
	got(fd, &n);
	/* All of them: two are here. */
	ask(fd, GENL_ID_CTRL, NLM_F_DUMP, CTRL_CMD_GETFAMILY, 0, 0, -1);
	int seen = 0, done = 0;
	while (!done) {
		int k = recv(fd, b, sizeof b, 0);
		for (struct nlmsghdr *m = (void *)b; NLMSG_OK(m, k); m = NLMSG_NEXT(m, k)) {
			if (m->nlmsg_type == NLMSG_DONE) {
				say("done flags %x", m->nlmsg_flags);
				done = 1;
				break;
			}
			struct genlmsghdr *x = NLMSG_DATA(m);
			EACH(a, x + 1, m->nlmsg_len - NLMSG_LENGTH(GENL_HDRLEN))
				if (a->nla_type == CTRL_ATTR_FAMILY_NAME && (!strcmp(VAL(a), "nlctrl") || !strcmp(VAL(a), "TASKSTATS")))
					seen++;
		}
	}
	say("seen %d", seen);
}

static struct taskstats stats;

/* aggregate prints a TASKSTATS_TYPE_AGGR_*. */
static void aggregate(struct genlmsghdr *g, int n, unsigned who)
{
	if (!g)
		return;
	say("command %d version %d", g->cmd, g->version);
	EACH(a, g + 1, n) {
		say("attribute %x of %d", a->nla_type, a->nla_len);
		EACH(x, VAL(a), a->nla_len - NLA_HDRLEN)
			if (x->nla_type == TASKSTATS_TYPE_STATS) {
				say("  statistics of %d", x->nla_len);
				memcpy(&stats, VAL(x), sizeof stats);
			} else
				say("  attribute %x of %d: %s", x->nla_type, x->nla_len, *(unsigned *)VAL(x) == who ? "it" : "another");
	}
}

static void spin(void)
{
	struct rusage u;
	/* what is user's and what is the system's is estimated from samples, on Linux too */
	do {
		for (volatile int i = 0; i < 30000000; i++)
			;
		getrusage(RUSAGE_SELF, &u);
	} while (u.ru_utime.tv_sec == 0 && u.ru_utime.tv_usec < 10000);
}

CASE(stats, sendto, recvfrom)
{
	int fd = generic(), n, me = getpid(), none = 0x3fffff;
	struct genlmsghdr *g;
	int id = taskstats(fd);
	spin();
	usleep(1000);
	ask(fd, id, 0, TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_PID, &me, 4);
	g = got(fd, &n);
	aggregate(g, n, me);
	say("version %d, flags %d, nice %d, policy %d", stats.version, stats.ac_flag & ~2, stats.ac_nice, stats.ac_sched);
	IS(stats.ac_pid == (unsigned)me && stats.ac_tgid == (unsigned)me && stats.ac_ppid == (unsigned)getppid());
	IS(stats.ac_uid == 0 && stats.ac_gid == 0);
	IS(stats.ac_utime > 1000 && stats.ac_etime >= stats.ac_utime);
	IS(stats.cpu_run_real_total > 1000000 && stats.cpu_run_virtual_total > 1000000);
	IS(stats.ac_minflt > 0);
	IS(stats.nvcsw + stats.nivcsw > 0);
	IS(stats.hiwater_rss > 0 && stats.hiwater_vm > stats.hiwater_rss);
	IS(stats.read_syscalls > 0 || stats.write_syscalls > 0);
	IS(stats.ac_btime == stats.ac_btime64 && stats.ac_btime > 1000000);
	struct stat st;
	stat("/proc/self/exe", &st);
	IS(stats.ac_exe_inode == st.st_ino);
	say("blkio %ld %ld swapin %ld", (long)stats.blkio_count, (long)stats.blkio_delay_total, (long)stats.swapin_count);
	say("- the group");
	ask(fd, id, 0, TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_TGID, &me, 4);
	g = got(fd, &n);
	aggregate(g, n, me);
	say("version %d, pid %d, comm '%s'", stats.version, stats.ac_pid, stats.ac_comm);
	IS(stats.nvcsw + stats.nivcsw > 0);
	IS(stats.ac_utime > 1000 && stats.ac_etime > 1000);
	say("- refused");
	ask(fd, id, 0, TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_PID, &none, 4);
	got(fd, &n);
	ask(fd, id, 0, TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_TGID, &none, 4);
	got(fd, &n);
	ask(fd, id, 0, TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_PID, &none, 2);
	got(fd, &n);
	ask(fd, id, 0, TASKSTATS_CMD_GET, 0, 0, -1);
	got(fd, &n);
	ask(fd, id, NLM_F_DUMP, TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_PID, &me, 4);
	got(fd, &n);
	ask(fd, id, 0, TASKSTATS_CMD_NEW, 0, 0, -1);
	got(fd, &n);
	ask(fd, id, 0, CGROUPSTATS_CMD_GET, 0, 0, -1);
	got(fd, &n);
	setuid(1000);
	ask(fd, id, 0, TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_PID, &me, 4);
	got(fd, &n);
	fd = generic();
	ask(fd, id, 0, TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_PID, &me, 4);
	got(fd, &n);
}

static int run(void *a) { (void)a; syscall(SYS_exit, 5); return 0; }

CASE(exits, sendto, recvfrom)
{
	int fd = generic(), n, id = taskstats(fd), c;
	struct genlmsghdr *g;
	static const char *bad[] = { "", "x", "4096", "3-1" };
	for (int i = 0; i < 4; i++) {
		ask(fd, id, NLM_F_ACK, TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, bad[i], strlen(bad[i]) + 1);
		got(fd, &n);
	}
	char cpus[64] = "0";
	int k = read(open("/sys/devices/system/cpu/possible", O_RDONLY), cpus, 63);
	cpus[k > 0 ? k - 1 : 1] = 0;
	ask(fd, id, NLM_F_ACK, TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, cpus, strlen(cpus) + 1);
	got(fd, &n);
	if (!(c = fork()))
		_exit(7);
	g = got(fd, &n);
	waitpid(c, 0, 0);
	aggregate(g, n, c);
	say("code %#x flags %d comm %s", stats.ac_exitcode, stats.ac_flag & ~2, stats.ac_comm);
	IS(stats.ac_pid == (unsigned)c && stats.ac_ppid == (unsigned)getpid());
	/* A process with two threads. */
	if (!(c = fork())) {
		static char stack[16384];
		int tid = 0;
		clone(run, stack + sizeof stack, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID | CLONE_PARENT_SETTID, 0, &tid, 0, &tid);
		while (__atomic_load_n(&tid, __ATOMIC_SEQ_CST))
			sched_yield();
		_exit(0);
	}
	g = got(fd, &n);
	aggregate(g, n, c);
	IS(stats.ac_tgid == (unsigned)c && stats.ac_pid != (unsigned)c);
	g = got(fd, &n);
	aggregate(g, n, c);
	waitpid(c, 0, 0);
	ask(fd, id, NLM_F_ACK, TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_DEREGISTER_CPUMASK, cpus, strlen(cpus) + 1);
	got(fd, &n);
	if (!(c = fork()))
		_exit(7);
	waitpid(c, 0, 0);
	struct pollfd p = { fd, POLLIN, 0 };
	R(poll(&p, 1, 50));
}

CASES
