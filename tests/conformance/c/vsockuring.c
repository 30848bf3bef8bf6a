/* AF_VSOCK through io_uring. */
/* link: -luring */
#include "uring.h"
#include "vsock.h"

CASE(connection, io_uring_enter, io_uring_setup)
{
	begin(8, 0);
	int l = vlisten(SOCK_STREAM, VMADDR_CID_ANY, 8), c, p;
	struct sockaddr_vm a = vm(VMADDR_CID_LOCAL, vmport(l)), none = vm(VMADDR_CID_LOCAL, 4990);
	MUST(c = socket(AF_VSOCK, SOCK_STREAM, 0));
	struct io_uring_sqe *s = sqe(1);
	io_uring_prep_accept(s, l, 0, 0, 0);
	USER(s, 1);
	R(io_uring_submit(&ring));
	s = sqe(2);
	io_uring_prep_connect(s, c, SA(a));
	USER(s, 2);
	R(io_uring_submit(&ring));
	struct io_uring_cqe *e;
	int got[3] = { -1, -1, -1 };
	for (int i = 0; i < 2; i++) {
		MUST(io_uring_wait_cqe(&ring, &e));
		got[e->user_data % 3] = e->res;
		io_uring_cqe_seen(&ring, e);
	}
	R(got[2]);
	IS(got[1] > 2);
	p = got[1];
	s = sqe(3);
	io_uring_prep_recv(s, p, buf, 20, 0);
	USER(s, 3);
	R(io_uring_submit(&ring));
	s = sqe(4);
	io_uring_prep_send(s, c, "through a ring", 14, 0);
	USER(s, 4);
	go("send and receive", 2);
	say("%.14s", buf);
	s = sqe(5);
	io_uring_prep_poll_add(s, p, POLLRDHUP);
	USER(s, 5);
	R(io_uring_submit(&ring));
	s = sqe(6);
	io_uring_prep_shutdown(s, c, SHUT_WR);
	USER(s, 6);
	go("shutdown", 2);
	s = sqe(7);
	io_uring_prep_recv(s, p, buf, 20, 0);
	USER(s, 7);
	go("the end", 1);
	s = sqe(8);
	io_uring_prep_connect(s, socket(AF_VSOCK, SOCK_STREAM, 0), SA(none));
	USER(s, 8);
	go("refused", 1);
	s = sqe(9);
	io_uring_prep_connect(s, c, SA(a));
	USER(s, 9);
	go("again", 1);
}
CASES
