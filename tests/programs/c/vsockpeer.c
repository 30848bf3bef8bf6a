/* vsockpeer CID: what two machines do to each other over AF_VSOCK. Each of the two runs it
 * with the other's address; one whose address is the lower connects first, then they change
 * places. A line for each that did not go well, and "ok" at the end. */
#include "check.h"
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <linux/vm_sockets.h>

#define STREAM 5000
#define PACKETS 5001
#define TOTAL (1 << 20)
#define MESSAGES 50

static int bad;
#define WANT(x) do { errno = 0; if (!(x)) bad++, say("line %d: %s: %s", __LINE__, #x, errname(errno)); } while (0)

static unsigned char at(unsigned i) { return i * 7 ^ i >> 9; }
static int size(int i) { return 1 + i * 7919 % 60000; }

static int listener(int type, int port)
{
	int s = socket(AF_VSOCK, type, 0);
	struct sockaddr_vm a = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port };
	MUST(bind(s, (void *)&a, sizeof a));
	MUST(listen(s, 8));
	return s;
}

static int dial(int type, unsigned cid, int port, int patience)
{
	struct sockaddr_vm a = { .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port };
	for (;; usleep(200000)) {
		int s = socket(AF_VSOCK, type, 0);
		if (connect(s, (void *)&a, sizeof a) == 0)
			return s;
		if (patience-- <= 0)
			return -1;
		close(s);
	}
}

static void *echo(void *p) /* what comes goes back; a message as a message */
{
	int s = (long)p, n, type;
	socklen_t l = sizeof type;
	char *b = malloc(65536);
	getsockopt(s, SOL_SOCKET, SO_TYPE, &type, &l);
	while ((n = recv(s, b, 65536, 0)) > 0)
		for (int o = 0, k; o < n; o += k)
			if ((k = send(s, b + o, n - o, type == SOCK_SEQPACKET ? MSG_EOR : 0)) <= 0)
				return say("echo of %d: %s", n, errname(errno)), bad++, (void *)0;
	if (n < 0)
		say("echo: %s", errname(errno)), bad++;
	close(s);
	return 0;
}

static void *feed(void *p)
{
	int s = (long)p;
	unsigned char b[10000];
	for (int o = 0; o < TOTAL;) {
		int n = sizeof b < TOTAL - o ? sizeof b : TOTAL - o;
		for (int i = 0; i < n; i++)
			b[i] = at(o + i);
		WANT(send(s, b, n, 0) == n);
		o += n;
	}
	WANT(shutdown(s, SHUT_WR) == 0);
	return 0;
}

static void active(unsigned cid)
{
	struct sockaddr_vm a;
	socklen_t l = sizeof a;
	int s = dial(SOCK_STREAM, cid, STREAM, 300), n, got = 0, wrong = 0;
	WANT(s >= 0);
	WANT(getpeername(s, (void *)&a, &l) == 0 && a.svm_cid == cid && a.svm_port == STREAM);
	pthread_t t;
	pthread_create(&t, 0, feed, (void *)(long)s);
	static unsigned char b[70000];
	while ((n = recv(s, b, sizeof b, 0)) > 0) {
		for (int i = 0; i < n; i++)
			wrong += b[i] != at(got + i);
		got += n;
	}
	pthread_join(t, 0);
	WANT(n == 0);
	WANT(got == TOTAL);
	WANT(wrong == 0);
	close(s);

	s = dial(SOCK_SEQPACKET, cid, PACKETS, 20);
	WANT(s >= 0);
	for (int i = 0; i < MESSAGES; i++) {
		for (int k = 0; k < size(i); k++)
			b[k] = at(i + k);
		WANT(send(s, b, size(i), 0) == size(i));
		struct iovec io = { b, sizeof b };
		struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1 };
		memset(b, 0, size(i));
		n = recvmsg(s, &m, 0);
		WANT(n == size(i) && m.msg_flags == MSG_EOR && b[n - 1] == at(i + n - 1) && b[n / 2] == at(i + n / 2));
	}
	close(s);

	/* nobody there, and a kind that is not */
	WANT(dial(SOCK_STREAM, cid, 4999, 0) == -1 && errno == ECONNRESET);
	WANT(dial(SOCK_SEQPACKET, cid, STREAM, 0) == -1 && errno == ECONNRESET);
	/* many, a byte each way */
	for (int i = 0; i < 20; i++) {
		char c = i;
		WANT((s = dial(SOCK_STREAM, cid, STREAM, 20)) >= 0);
		WANT(send(s, &c, 1, 0) == 1);
		c = 99;
		WANT(recv(s, &c, 1, 0) == 1 && c == i);
		close(s);
	}
	/* a port that says it is over */
	WANT((s = dial(SOCK_STREAM, cid, PACKETS + 1, 20)) >= 0);
	close(s);
}

static void passive(int stream, int packets, int last)
{
	struct pollfd f[3] = { { stream, POLLIN, 0 }, { packets, POLLIN, 0 }, { last, POLLIN, 0 } };
	while (!(f[2].revents & POLLIN)) {
		WANT(poll(f, 3, 90000) > 0);
		if (bad > 20)
			return;
		for (int i = 0; i < 2; i++)
			if (f[i].revents & POLLIN) {
				int s = accept(f[i].fd, 0, 0);
				pthread_t t;
				WANT(s >= 0);
				pthread_create(&t, 0, echo, (void *)(long)s);
				pthread_detach(t);
			}
	}
	/* The machine of who is passive last ends with this program, and the answer to the other's
	 * connect must have left it: the other closes when it has it. */
	int s = accept(last, 0, 0);
	WANT(s >= 0);
	struct pollfd end = { s, POLLIN, 0 };
	poll(&end, 1, 5000);
	close(s);
}

int main(int argc, char **argv)
{
	unsigned cid = atoi(argv[1]), mine = 0;
	setvbuf(stdout, 0, _IONBF, 0);
	int f = open("/dev/vsock", O_RDONLY);
	MUST(ioctl(f, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &mine));
	say("vsock %u to %u", mine, cid);
	int a = listener(SOCK_STREAM, STREAM), b = listener(SOCK_SEQPACKET, PACKETS), c = listener(SOCK_STREAM, PACKETS + 1);
	if (mine < cid) {
		active(cid);
		passive(a, b, c);
	} else {
		passive(a, b, c);
		active(cid);
	}
	say(bad ? "vsock bad: %d" : "vsock ok", bad);
	return bad != 0;
}
