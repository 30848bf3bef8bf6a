/* What the programs about AF_VSOCK share: addresses, and connections over the loopback. */
#include "sock.h"
#include <linux/vm_sockets.h>

__attribute__((unused)) static struct sockaddr_vm vm(unsigned cid, unsigned port)
{
	return (struct sockaddr_vm){ .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port };
}
__attribute__((unused)) static unsigned vmport(int s)
{
	struct sockaddr_vm a;
	socklen_t n = sizeof a;
	MUST(getsockname(s, (void *)&a, &n));
	return a.svm_port;
}
/* vlisten makes a listener at a port of the kernel's choice. */
__attribute__((unused)) static int vlisten(int type, unsigned cid, int backlog)
{
	int s;
	struct sockaddr_vm a = vm(cid, VMADDR_PORT_ANY);
	MUST(s = socket(AF_VSOCK, type, 0));
	MUST(bind(s, SA(a)));
	MUST(listen(s, backlog));
	return s;
}
/* vpair makes a connection: p[0] connected, p[1] accepted. */
__attribute__((unused)) static void vpair(int type, int p[2])
{
	int l = vlisten(type, VMADDR_CID_ANY, 8);
	struct sockaddr_vm a = vm(VMADDR_CID_LOCAL, vmport(l));
	MUST(p[0] = socket(AF_VSOCK, type, 0));
	MUST(connect(p[0], SA(a)));
	MUST(p[1] = accept(l, 0, 0));
	close(l);
}
/* events that are there at the end of what is still on its way: those of within 5 s. */
__attribute__((unused)) static int now(int s)
{
	struct pollfd f = { s, POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLWRNORM | POLLWRBAND | POLLRDBAND, 0 };
	poll(&f, 1, 0);
	return f.revents;
}
/* until waits for an event of a set, and says all there are. */
__attribute__((unused)) static int until(int s, int events)
{
	if (!(ready(s, events) & events))
		say("never %#x", events);
	return now(s);
}
