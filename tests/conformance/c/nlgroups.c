/* AF_NETLINK between programs: groups, who sent a message, and what is lost. */
#include "sock.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

static int nl(int protocol, int groups)
{
	int s;
	struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_groups = groups };
	MUST(s = socket(AF_NETLINK, SOCK_RAW, protocol));
	MUST(bind(s, SA(a)));
	return s;
}

static unsigned port(int s)
{
	struct sockaddr_nl a;
	socklen_t n = sizeof a;
	MUST(getsockname(s, (void *)&a, &n));
	return a.nl_pid;
}

static unsigned sender; /* the port of who sends */

/* hear prints the next message and who it is from. */
static void hear(const char *what, int s, int room)
{
	struct sockaddr_nl from = { 0 };
	union { char b[200]; struct cmsghdr h; } c;
	struct iovec v = { buf, sizeof buf };
	struct msghdr m = { .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &v, .msg_iovlen = 1, .msg_control = c.b, .msg_controllen = room };
	int n = recvmsg(s, &m, MSG_DONTWAIT);
	if (n < 0) {
		say("%s: %s", what, errname(errno));
		return;
	}
	say("%s: %d bytes from %s, groups %x, flags %x", what, n, from.nl_pid == 0 ? "the kernel" : from.nl_pid == sender ? "the sender" : "another",
		from.nl_groups, m.msg_flags);
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h))
		if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_CREDENTIALS) {
			struct { int pid, uid, gid; } *u = (void *)CMSG_DATA(h);
			say("- by %s, uid %d, gid %d", u->pid == 0 ? "nobody" : u->pid == getpid() ? "this process" : "another", u->uid, u->gid);
		} else
			say("- control %d %d", h->cmsg_level, h->cmsg_type);
}

static struct sockaddr_nl group(unsigned n) { return (struct sockaddr_nl){ .nl_family = AF_NETLINK, .nl_groups = n }; }

/* What the kernel sends is by nobody, who is root. */
CASE(kernel, recvmsg, sendto, setsockopt)
{
	int s = nl(NETLINK_ROUTE, 0);
	struct { struct nlmsghdr h; struct ifinfomsg i; } q = { { sizeof q, RTM_GETLINK, NLM_F_REQUEST }, { .ifi_index = 99 } };
	R(send(s, &q, sizeof q, 0));
	hear("plain", s, 200);
	R(setint(s, SOL_SOCKET, SO_PASSCRED, 1));
	R(send(s, &q, sizeof q, 0));
	hear("credentials", s, 200);
	R(setint(s, SOL_NETLINK, NETLINK_PKTINFO, 1));
	R(send(s, &q, sizeof q, 0));
	hear("with the group", s, 200);
	R(send(s, &q, sizeof q, 0));
	hear("without room", s, 0);
}

/* Those in a group hear what is sent to it, but for the sender. */
CASE(groups, sendto, recvmsg, connect, getpeername)
{
	int s = nl(NETLINK_KOBJECT_UEVENT, 2), two = nl(NETLINK_KOBJECT_UEVENT, 2), four = nl(NETLINK_KOBJECT_UEVENT, 8);
	R(setint(two, SOL_SOCKET, SO_PASSCRED, 1));
	R(setint(four, SOL_SOCKET, SO_PASSCRED, 1));
	sender = port(s);
	struct sockaddr_nl a = group(2);
	R(sendto(s, "libudev, more or less", 21, 0, SA(a)));
	hear("itself", s, 200);
	hear("two", two, 200);
	hear("four", four, 200);
	a = group(8 | 16);
	R(sendto(s, "to the first of two", 19, 0, SA(a)));
	hear("two", two, 200);
	hear("four", four, 200);
	R(connect(s, SA(a)));
	socklen_t n = sizeof a;
	R(getpeername(s, (void *)&a, &n));
	say("port %u, groups %x", a.nl_pid, a.nl_groups);
	R(send(s, "connected", 9, 0));
	hear("four", four, 200);
	a = group(2);
	R(sendto(s, "elsewhere", 9, 0, SA(a)));
	hear("two", two, 200);
	hear("four", four, 200);
	a.nl_family = AF_UNSPEC;
	R(connect(s, SA(a)));
	R(send(s, "disconnected", 12, 0));
	hear("four", four, 200);
	R(send(s, "", 0, 0));
	a = (struct sockaddr_nl){ .nl_family = AF_NETLINK, .nl_pid = 424242 };
	R(sendto(s, "nobody", 6, 0, SA(a)));
	/* Not for everybody. */
	setegid(1000);
	seteuid(1000);
	R(sendto(s, "user", 4, 0, SA(a)));
	a = group(2);
	R(sendto(s, "user", 4, 0, SA(a)));
	R(connect(s, SA(a)));
	a = group(0);
	R(connect(s, SA(a)));
	hear("two", two, 200);
}

/* An announcement comes from the kernel, by who announced it. */
CASE(announced, sendto, recvmsg)
{
	int s = nl(NETLINK_KOBJECT_UEVENT, 0), l = nl(NETLINK_KOBJECT_UEVENT, 1);
	struct { struct nlmsghdr h; char text[24]; } q = { { sizeof q, NLMSG_MIN_TYPE, NLM_F_REQUEST }, "add@/none\0ACTION=add\0A=B" };
	R(setint(l, SOL_SOCKET, SO_PASSCRED, 1));
	R(send(s, &q, sizeof q, 0) == sizeof q);
	struct pollfd p = { l, POLLIN, 0 };
	R(poll(&p, 1, 0));
	struct sockaddr_nl from = { 0 };
	union { char b[200]; struct cmsghdr h; } c;
	struct iovec v = { buf, sizeof buf };
	struct msghdr m = { .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &v, .msg_iovlen = 1, .msg_control = c.b, .msg_controllen = 200 };
	R(recvmsg(l, &m, MSG_DONTWAIT) > 24);
	struct { int pid, uid, gid; } *u = (void *)CMSG_DATA(&c.h);
	say("port %u, groups %x, %s: type %d, this process %d, uid %d", from.nl_pid, from.nl_groups, buf, c.h.cmsg_type, u->pid == getpid(), u->uid);
}

/* A sender may say who he is, as far as he may, and sends no descriptors. */
CASE(claims, sendmsg, recvmsg)
{
	int s = nl(NETLINK_KOBJECT_UEVENT, 0), l = nl(NETLINK_KOBJECT_UEVENT, 2);
	R(setint(l, SOL_SOCKET, SO_PASSCRED, 1));
	struct sockaddr_nl a = group(2);
	union { char b[CMSG_SPACE(12)]; struct cmsghdr h; } c = { .h = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_CREDENTIALS, .cmsg_len = CMSG_LEN(12) } };
	struct iovec v = { "hello", 5 };
	struct msghdr m = { .msg_name = &a, .msg_namelen = sizeof a, .msg_iov = &v, .msg_iovlen = 1, .msg_control = c.b, .msg_controllen = sizeof c.b };
	int u[3] = { getpid(), 5, 7 }, fd = 0;
	memcpy(CMSG_DATA(&c.h), u, sizeof u);
	R(sendmsg(s, &m, 0));
	hear("heard", l, 200);
	c.h.cmsg_type = SCM_RIGHTS, c.h.cmsg_len = CMSG_LEN(4), m.msg_controllen = CMSG_SPACE(4);
	memcpy(CMSG_DATA(&c.h), &fd, 4);
	R(sendmsg(s, &m, 0));
	hear("heard", l, 200);
}

/* lost counts what a listener hears of more than he has room for. */
static void lost(const char *what, int s, int l)
{
	struct sockaddr_nl a = group(2);
	struct pollfd p = { l, POLLIN, 0 };
	int n = 0;
	memset(buf, 'x', 1000);
	for (int i = 0; i < 20; i++)
		if (sendto(s, buf, 1000, 0, SA(a)) == 1000)
			n++;
	say("%s: sent %d", what, n);
	R(poll(&p, 1, 0));
	say("events %x", p.revents);
	hear("first", l, 200);
	hear("second", l, 200);
	while (recv(l, buf, sizeof buf, MSG_DONTWAIT) > 0)
		;
	say("%s", errname(errno));
}

CASE(lost, sendto, recvmsg, setsockopt)
{
	int s = nl(NETLINK_KOBJECT_UEVENT, 0), l = nl(NETLINK_KOBJECT_UEVENT, 2);
	sender = port(s);
	R(setint(l, SOL_SOCKET, SO_RCVBUF, 3000));
	lost("told", s, l);
	SET(l, SOL_NETLINK, NETLINK_NO_ENOBUFS, 1);
	lost("not told", s, l);
	SET(l, SOL_NETLINK, NETLINK_NO_ENOBUFS, 0);
	lost("told again", s, l);
}

CASES
