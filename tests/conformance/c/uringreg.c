/* What io_uring_register takes: files, buffers, an eventfd, personalities, and the probe. */
/* link: -luring */
#include "uring.h"
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

CASE(fixed_files, io_uring_register, io_uring_enter)
{
	begin(16, 0);
	struct io_uring_sqe *s;
	int p[2], t[4] = {-1, -1, -1, -1};
	char b[8] = "";
	MUST(pipe(p));
	say("none: %s", res(io_uring_unregister_files(&ring)));
	t[0] = p[0], t[2] = p[1];
	say("register: %s", res(io_uring_register_files(&ring, t, 4)));
	say("again: %s", res(io_uring_register_files(&ring, t, 4)));
	close(p[0]);
	s = sqe(1), io_uring_prep_write(s, 2, "fixed", 5, 0), s->flags |= IOSQE_FIXED_FILE, USER(s, 1);
	s = sqe(2), io_uring_prep_read(s, 0, b, 8, 0), s->flags |= IOSQE_FIXED_FILE, USER(s, 2);
	go("through numbers", 2);
	say("'%s'", b);
	s = sqe(1), io_uring_prep_read(s, 1, b, 8, 0), s->flags |= IOSQE_FIXED_FILE, USER(s, 1);
	go("an empty one", 1);
	s = sqe(2), io_uring_prep_read(s, 7, b, 8, 0), s->flags |= IOSQE_FIXED_FILE, USER(s, 2);
	go("beyond the table", 1);
	int up[2] = {p[1], -1};
	say("update: %s", res(io_uring_register_files_update(&ring, 1, up, 2)));
	say("update beyond: %s", res(io_uring_register_files_update(&ring, 3, up, 2)));
	s = sqe(1), io_uring_prep_files_update(s, up, 1, 3), USER(s, 1);
	go("update by operation", 1);
	s = sqe(1), io_uring_prep_openat_direct(s, AT_FDCWD, "/tmp/direct", O_RDWR | O_CREAT, 0600, 0), USER(s, 1);
	go("open into a place", 1);
	s = sqe(1), io_uring_prep_write(s, 0, "direct", 6, 0), s->flags |= IOSQE_FIXED_FILE, USER(s, 1);
	go("write there", 1);
	s = sqe(1), io_uring_prep_close_direct(s, 0), USER(s, 1);
	go("close there", 1);
	s = sqe(1), io_uring_prep_close_direct(s, 0), USER(s, 1);
	go("close again", 1);
	say("unregister: %s", res(io_uring_unregister_files(&ring)));
	t[0] = ring.ring_fd, t[2] = -1;
	say("the ring itself: %s", res(io_uring_register_files(&ring, t, 1)));
	t[0] = 99;
	say("no file: %s", res(io_uring_register_files(&ring, t, 1)));
	say("none: %s", res(io_uring_register_files(&ring, t, 0)));
}

CASE(fixed_buffers, io_uring_register, io_uring_enter)
{
	begin(16, 0);
	struct io_uring_sqe *s;
	char *b = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open("/tmp/fixed", O_RDWR | O_CREAT | O_TRUNC, 0600);
	struct iovec v = {b, 4096}, bad = {(void *)8, 4096};
	say("none: %s", res(io_uring_unregister_buffers(&ring)));
	say("bad: %s", res(io_uring_register_buffers(&ring, &bad, 1)));
	say("register: %s", res(io_uring_register_buffers(&ring, &v, 1)));
	say("again: %s", res(io_uring_register_buffers(&ring, &v, 1)));
	strcpy(b, "registered");
	s = sqe(1), io_uring_prep_write_fixed(s, fd, b, 10, 0, 0), USER(s, 1);
	go("write", 1);
	memset(b, 0, 4096);
	s = sqe(1), io_uring_prep_read_fixed(s, fd, b + 100, 50, 0, 0), USER(s, 1);
	go("read", 1);
	say("'%s'", b + 100);
	s = sqe(1), io_uring_prep_read_fixed(s, fd, b + 4000, 200, 0, 0), USER(s, 1);
	go("beyond the buffer", 1);
	s = sqe(1), io_uring_prep_read_fixed(s, fd, b, 50, 0, 3), USER(s, 1);
	go("beyond the table", 1);
	say("unregister: %s", res(io_uring_unregister_buffers(&ring)));
	say("none: %s", res(io_uring_register_buffers(&ring, &v, 0)));
}

CASE(eventfd, io_uring_register)
{
	begin(8, 0);
	int e = eventfd(0, EFD_NONBLOCK);
	unsigned long v = 0;
	say("none: %s", res(io_uring_unregister_eventfd(&ring)));
	say("register: %s", res(io_uring_register_eventfd(&ring, e)));
	say("again: %s", res(io_uring_register_eventfd(&ring, e)));
	struct io_uring_sqe *s;
	for (int i = 1; i <= 2; i++)
		s = sqe(i), io_uring_prep_nop(s), USER(s, i);
	go("two", 2);
	IS(read(e, &v, 8) == 8 && v >= 1);
	say("unregister: %s", res(io_uring_unregister_eventfd(&ring)));
	s = sqe(1), io_uring_prep_nop(s), USER(s, 1);
	go("one", 1);
	R(read(e, &v, 8));
	say("bad: %s", res(io_uring_register_eventfd(&ring, 99)));
	say("no eventfd: %s", res(io_uring_register_eventfd(&ring, 1)));
}

CASE(probe, io_uring_register)
{
	begin(4, 0);
	struct io_uring_probe *p = io_uring_get_probe_ring(&ring);
	if (!p) {
		say("no probe");
		return;
	}
	say("last %d, %d", p->last_op, p->ops_len);
	char l[64] = "";
	for (int i = 0; i < p->ops_len; i++)
		l[i] = p->ops[i].flags & IO_URING_OP_SUPPORTED ? 'y' : 'n';
	l[33] = l[46] = '.'; /* tee and uring_cmd are not here */
	say("%s", l);
	R(syscall(SYS_io_uring_register, ring.ring_fd, 99, 0, 0));
	R(syscall(SYS_io_uring_register, 99, IORING_REGISTER_PROBE, 0, 0));
	R(syscall(SYS_io_uring_register, 1, IORING_REGISTER_PROBE, 0, 0));
	R(syscall(SYS_io_uring_register, ring.ring_fd, IORING_REGISTER_PROBE, 0, 4));
	R(syscall(SYS_io_uring_register, ring.ring_fd, IORING_REGISTER_PROBE, p, 257));
}

CASE(personality, io_uring_register, io_uring_enter)
{
	begin(8, 0);
	close(open("/tmp/secret", O_CREAT | O_RDWR, 0600));
	int root = io_uring_register_personality(&ring);
	IS(root > 0);
	MUST(seteuid(1000));
	int user = io_uring_register_personality(&ring);
	IS(user > 0 && user != root);
	struct io_uring_sqe *s = sqe(1);
	io_uring_prep_openat(s, AT_FDCWD, "/tmp/secret", O_RDONLY, 0), USER(s, 1);
	go("as the user", 1);
	s = sqe(1), io_uring_prep_statx(s, AT_FDCWD, "/tmp/secret", 0, 0, (void *)&ring), s->personality = 999, USER(s, 1);
	go("as nobody", 1);
	s = sqe(1), io_uring_prep_openat(s, AT_FDCWD, "/tmp/secret", O_WRONLY | O_TRUNC, 0), s->personality = root, USER(s, 1);
	io_uring_submit_and_wait(&ring, 1);
	struct io_uring_cqe *c;
	io_uring_peek_cqe(&ring, &c);
	say("as root: %d", c->res > 2);
	io_uring_cqe_seen(&ring, c);
	say("euid %d", geteuid());
	say("unregister: %s", res(io_uring_unregister_personality(&ring, user)));
	say("again: %s", res(io_uring_unregister_personality(&ring, user)));
}
/* What goes among the registered files needs no descriptor, and never is one. */
CASE(direct, io_uring_register, io_uring_enter)
{
	begin(16, 0);
	struct io_uring_sqe *s;
	struct sockaddr_un a = {AF_UNIX, "\0direct"};
	int t[4] = {-1, -1, -1, -1}, l = socket(AF_UNIX, SOCK_STREAM, 0), c[2];
	char b[8] = "";
	MUST(bind(l, (void *)&a, 9));
	MUST(listen(l, 5));
	for (int i = 0; i < 2; i++) {
		c[i] = socket(AF_UNIX, SOCK_STREAM, 0);
		MUST(connect(c[i], (void *)&a, 9));
	}
	say("register: %s", res(io_uring_register_files(&ring, t, 4)));
	s = sqe(1), io_uring_prep_openat_direct(s, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0, 0), USER(s, 1);
	go("open, close-on-exec", 1);
	struct open_how how = {.flags = O_RDWR | O_CLOEXEC};
	s = sqe(1), io_uring_prep_openat2_direct(s, AT_FDCWD, "/dev/null", &how, 0), USER(s, 1);
	go("openat2, close-on-exec", 1);
	s = sqe(1), io_uring_prep_accept_direct(s, l, 0, 0, SOCK_CLOEXEC, 0), USER(s, 1);
	go("accept, close-on-exec", 1);
	s = sqe(1), io_uring_prep_socket_direct(s, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, 0, 0), USER(s, 1);
	go("socket, close-on-exec", 1);
	int top = dup(0);
	close(top);
	struct rlimit r;
	getrlimit(RLIMIT_NOFILE, &r);
	rlim_t before = r.rlim_cur;
	r.rlim_cur = top;
	MUST(setrlimit(RLIMIT_NOFILE, &r));
	s = sqe(1), io_uring_prep_openat(s, AT_FDCWD, "/dev/null", O_RDWR, 0), USER(s, 1);
	go("a descriptor more", 1);
	s = sqe(1), io_uring_prep_accept(s, l, 0, 0, 0), USER(s, 1);
	go("by accept", 1);
	s = sqe(1), io_uring_prep_openat_direct(s, AT_FDCWD, "/dev/null", O_RDWR, 0, 0), USER(s, 1);
	go("open", 1);
	how.flags = O_RDWR;
	s = sqe(1), io_uring_prep_openat2_direct(s, AT_FDCWD, "/dev/zero", &how, 1), USER(s, 1);
	go("openat2", 1);
	s = sqe(1), io_uring_prep_socket_direct(s, AF_UNIX, SOCK_STREAM, 0, 2, 0), USER(s, 1);
	go("socket", 1);
	s = sqe(1), io_uring_prep_accept_direct(s, l, 0, 0, 0, 3), USER(s, 1);
	go("accept", 1);
	s = sqe(1), io_uring_prep_accept_direct(s, l, 0, 0, 0, 9), USER(s, 1);
	go("accept beyond the table", 1);
	s = sqe(1), io_uring_prep_write(s, 0, "12345", 5, 0), s->flags |= IOSQE_FIXED_FILE, USER(s, 1);
	s = sqe(2), io_uring_prep_read(s, 1, b, 8, 0), s->flags |= IOSQE_FIXED_FILE, USER(s, 2);
	s = sqe(3), io_uring_prep_write(s, 3, "hi", 3, 0), s->flags |= IOSQE_FIXED_FILE, USER(s, 3);
	go("they work", 3);
	R(read(c[0], b, 8));
	say("'%s'", b);
	R(fcntl(top, F_GETFD));
	r.rlim_cur = before;
	MUST(setrlimit(RLIMIT_NOFILE, &r));
}

CASES
