/*
 * families.h: children that sit in each family of calls that block, or that keep the
 * kernel busy with it, and how they are killed.
 */
#ifndef FAMILIES_H
#define FAMILIES_H
#include "soak.h"
#include <ftw.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>

static char buf[1 << 16];
static int32_t *shared; /* a page that all children share */
static int lock_file, common[2];

/* The families. Each blocks, or works in the kernel without end. */
static void f_pipe_read(void) { int p[2]; if (!pipe(p)) read(p[0], buf, 1); }
static void f_pipe_write(void) { int p[2]; if (!pipe(p)) for (;;) write(p[1], buf, sizeof buf); }
static void f_pipe_common(void) { for (;;) { if (rnd(2)) write(common[1], buf, rnd(5000)); else read(common[0], buf, rnd(5000)); } }
static void f_splice(void) { int p[2], q[2]; if (!pipe(p) && !pipe(q)) for (;;) { write(p[1], buf, 4096); splice(p[0], 0, q[1], 0, 8192, 0); tee(q[0], p[1], 100, SPLICE_F_NONBLOCK); } }
static void f_vmsplice(void) { int p[2]; struct iovec v = {buf, sizeof buf}; if (!pipe(p)) for (;;) vmsplice(p[1], &v, 1, 0); }
static void f_fifo(void) { char n[40]; sprintf(n, "/tmp/fifo.%d", (int)rnd(3)); mkfifo(n, 0600); open(n, rnd(2) ? O_RDONLY : O_WRONLY); pause(); }
static void f_nanosleep(void) { struct timespec t = {100, 0}; nanosleep(&t, 0); }
static void f_pause(void) { pause(); }
static void f_sigsuspend(void) { sigset_t s; sigemptyset(&s); sigsuspend(&s); }
static void f_sigtimedwait(void) { sigset_t s; sigemptyset(&s); sigaddset(&s, SIGUSR1); sigprocmask(SIG_BLOCK, &s, 0); sigtimedwait(&s, 0, 0); }
static void f_poll(void) { struct pollfd f = {eventfd(0, 0), POLLIN, 0}; poll(&f, 1, -1); }
static void f_select(void) { fd_set s; FD_ZERO(&s); int e = eventfd(0, 0); FD_SET(e, &s); select(e + 1, &s, 0, 0, 0); }
static void f_epoll(void) { int e = epoll_create1(0); struct epoll_event v = {EPOLLIN, {0}}; epoll_ctl(e, EPOLL_CTL_ADD, eventfd(0, 0), &v); epoll_ctl(e, EPOLL_CTL_ADD, common[0], &v); for (;;) epoll_wait(e, &v, 1, 50); }
static void f_eventfd(void) { uint64_t v; read(eventfd(0, 0), &v, 8); }
static void f_timerfd(void) { uint64_t v; struct itimerspec t = {{0, 100000}, {0, 100000}}; int f = timerfd_create(CLOCK_MONOTONIC, 0); timerfd_settime(f, 0, &t, 0); for (;;) read(f, &v, 8); }
static void f_signalfd(void) { sigset_t s; sigemptyset(&s); sigaddset(&s, SIGUSR1); sigprocmask(SIG_BLOCK, &s, 0); read(signalfd(-1, &s, 0), buf, 128); }
static void f_inotify(void) { int f = inotify_init(); inotify_add_watch(f, "/tmp", IN_ALL_EVENTS); for (;;) read(f, buf, 4096); }
static void f_fanotify(void)
{
	char name[32];
	struct fanotify_event_metadata e;
	int g = syscall(SYS_fanotify_init, FAN_CLASS_CONTENT, O_RDONLY), f = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	write(f, "x", 1);
	syscall(SYS_fanotify_mark, g, FAN_MARK_ADD, (uint64_t)(FAN_OPEN_PERM | FAN_ACCESS_PERM | FAN_MODIFY | FAN_CLOSE), f, 0);
	snprintf(name, sizeof name, "/proc/self/fd/%d", f);
	if (fork() == 0)
		for (;;) {
			read(g, &e, sizeof e);
			struct fanotify_response r = {e.fd, rnd(2) ? FAN_ALLOW : FAN_DENY};
			if (rnd(8))
				write(g, &r, sizeof r);
			close(e.fd);
		}
	for (;;) {
		int o = open(name, O_RDWR);
		read(o, buf, 1);
		write(o, buf, 1);
		close(o);
	}
}
static void *uffd_touch(void *area) { for (;;) { ((volatile char *)area)[rnd(8) * 4096] = 1; madvise(area, 8 * 4096, MADV_DONTNEED); } return 0; }
static void f_userfault(void)
{
	char *area = mmap(0, 8 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int u = syscall(SYS_userfaultfd, 0);
	struct uffdio_api a = {UFFD_API, 0, 0};
	struct uffdio_register r = {{(unsigned long)area, 8 * 4096}, UFFDIO_REGISTER_MODE_MISSING, 0};
	pthread_t t;
	ioctl(u, UFFDIO_API, &a);
	ioctl(u, UFFDIO_REGISTER, &r);
	for (int i = 0; i < 3; i++)
		pthread_create(&t, 0, uffd_touch, area);
	for (;;) {
		struct uffd_msg m;
		if (read(u, &m, sizeof m) != sizeof m)
			continue;
		struct uffdio_copy c = {m.arg.pagefault.address, (unsigned long)buf, 4096, 0, 0};
		struct uffdio_zeropage z = {{m.arg.pagefault.address, 4096}, 0, 0};
		switch (rnd(4)) {
		case 0: ioctl(u, UFFDIO_COPY, &c); break;
		case 1: ioctl(u, UFFDIO_WAKE, &r.range); break;
		default: ioctl(u, UFFDIO_ZEROPAGE, &z);
		}
		ioctl(u, UFFDIO_WAKE, &r.range);
	}
}
static void f_landlock(void)
{
	for (;;) {
		struct { uint64_t handled; } a = {1 << 2 | 1 << 3};
		struct { uint64_t rights; int32_t fd; } __attribute__((packed)) r = {1 << 2, open("/tmp", O_PATH)};
		int s = syscall(SYS_landlock_create_ruleset, &a, 8, 0);
		syscall(SYS_landlock_add_rule, s, 1, &r, 0);
		if (fork() == 0) {
			syscall(SYS_landlock_restrict_self, s, 0);
			open("/tmp/lock", O_RDONLY);
			_exit(0);
		}
		close(s);
		close(r.fd);
		wait(0);
	}
}
static void f_futex(void) { syscall(SYS_futex, shared, FUTEX_WAIT, *shared, 0, 0, 0); pause(); }
static void f_futex_wake(void) { for (;;) { __sync_fetch_and_add(shared, 1); syscall(SYS_futex, shared, FUTEX_WAKE, 100, 0, 0, 0); } }
static void f_futex_requeue(void) { for (;;) syscall(SYS_futex, shared, FUTEX_REQUEUE, 1, 1000, shared + 1, 0); }
static void f_wait4(void) { if (fork() == 0) { pause(); _exit(0); } wait(0); }
static void f_waitid(void) { siginfo_t i; if (fork() == 0) { pause(); _exit(0); } waitid(P_ALL, 0, &i, WEXITED); }
static void f_vfork(void) { if (vfork() == 0) { pause(); _exit(0); } }
static void f_forks(void) { for (;;) { if (fork() == 0) _exit(0); if (rnd(2)) wait(0); } }
static void f_exec(void) { for (;;) { if (vfork() == 0) { execl("/proc/self/exe", "leaks", "nothing", (char *)0); _exit(1); } wait(0); } }
static void f_flock(void) { int f = open("/tmp/lock", O_RDWR | O_CREAT, 0600); for (;;) { flock(f, LOCK_EX); if (rnd(2)) flock(f, LOCK_UN); else usleep(100); } }
static void f_fcntl(void) { struct flock l = {.l_type = F_WRLCK, .l_start = rnd(4), .l_len = 1 + rnd(3)}; for (;;) { l.l_type = rnd(2) ? F_WRLCK : F_UNLCK; fcntl(lock_file, F_SETLKW, &l); } }
static void f_unix(void) { int s[2]; if (!socketpair(AF_UNIX, rnd(2) ? SOCK_STREAM : SOCK_DGRAM, 0, s)) { if (rnd(2)) for (;;) write(s[0], buf, 3000); read(s[1], buf, 1); } }
static void f_rights(void)
{
	int s[2];
	char c[CMSG_SPACE(8)] = {0};
	struct iovec v = {buf, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, s))
		return;
	for (;;) {
		int p[2];
		if (pipe(p))
			return;
		m.msg_controllen = sizeof c;
		h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = CMSG_LEN(8);
		memcpy(CMSG_DATA(h), p, 8);
		sendmsg(s[0], &m, MSG_DONTWAIT);
		close(p[0]), close(p[1]);
		if (rnd(2)) {
			m.msg_controllen = sizeof c;
			if (recvmsg(s[1], &m, MSG_DONTWAIT) == 1 && m.msg_controllen) {
				memcpy(p, CMSG_DATA(h), 8);
				close(p[0]), close(p[1]);
			}
		}
	}
}
static int tcp(struct sockaddr_in *a)
{
	socklen_t n = sizeof *a;
	int l = socket(AF_INET, SOCK_STREAM, 0);
	memset(a, 0, sizeof *a);
	a->sin_family = AF_INET, a->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(l, (void *)a, sizeof *a) || listen(l, 5) || getsockname(l, (void *)a, &n))
		pause();
	return l;
}
static void f_accept(void) { struct sockaddr_in a; accept(tcp(&a), 0, 0); }
static void f_tcp(void)
{
	struct sockaddr_in a;
	int l = tcp(&a), s = socket(AF_INET, SOCK_STREAM, 0), c = -1;
	if (connect(s, (void *)&a, sizeof a) || (c = accept(l, 0, 0)) < 0)
		pause();
	if (rnd(2))
		for (;;)
			send(s, buf, sizeof buf, 0);
	for (;;) {
		send(s, buf, 100, 0);
		recv(c, buf, 100, 0);
	}
}
static void f_udp(void) { int s = socket(AF_INET, SOCK_DGRAM, 0); struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}; bind(s, (void *)&a, sizeof a); socklen_t n = sizeof a; getsockname(s, (void *)&a, &n); for (int i = 0; i < 50; i++) sendto(s, buf, 1000, 0, (void *)&a, sizeof a); for (;;) recv(s, buf, 2000, 0); }
static void f_mmap(void) { for (;;) { int n = 1 + rnd(200); char *m = mmap(0, n << 12, PROT_READ | PROT_WRITE, rnd(2) ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED | MAP_ANONYMOUS, -1, 0); if (m == MAP_FAILED) continue; for (int i = 0; i < n; i += 1 + rnd(3)) m[i << 12] = 1; if (rnd(2)) mprotect(m, n << 11, PROT_READ); if (rnd(3)) munmap(m, n << 12); else if (rnd(2)) mremap(m, n << 12, n << 13, MREMAP_MAYMOVE); } }
static void f_files(void) { char n[40]; sprintf(n, "/tmp/f.%d", (int)rnd(4)); for (;;) { int f = open(n, O_RDWR | O_CREAT | (rnd(2) ? O_TRUNC : 0), 0600); write(f, buf, rnd(sizeof buf)); char *m = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0); if (m != MAP_FAILED) { msync(m, 4096, MS_SYNC); read(f, m, 100); munmap(m, 65536); } sendfile(common[1], f, 0, 10); close(f); if (!rnd(4)) unlink(n); } }
static void f_memfd(void) { for (;;) { int f = memfd_create("x", 0); write(f, buf, sizeof buf); char *m = mmap(0, sizeof buf, PROT_READ, MAP_PRIVATE, f, 0); if (m != MAP_FAILED && rnd(2)) munmap(m, sizeof buf); close(f); } }
static void *spin(void *a) { for (;;) if (rnd(2)) syscall(SYS_sched_yield); else syscall(SYS_futex, shared, FUTEX_WAIT, *shared, &(struct timespec){0, 1000}, 0, 0); return a; }
static void f_threads(void) { pthread_t t; for (int i = 0; i < 6; i++) pthread_create(&t, 0, spin, 0); spin(0); }
static void *nothing(void *a) { return a; }
static void f_thread_storm(void) { for (;;) { pthread_t t[4]; int n = 0; for (int i = 0; i < 4; i++) n += !pthread_create(&t[n], 0, nothing, 0); for (int i = 0; i < n; i++) pthread_join(t[i], 0); } }
static pthread_mutex_t *robust;
static void f_robust(void) { for (;;) { int e = pthread_mutex_lock(robust); if (e == EOWNERDEAD) pthread_mutex_consistent(robust); if (rnd(3)) pthread_mutex_unlock(robust); else usleep(50), pthread_mutex_unlock(robust); } }
static void f_timers(void) { for (;;) { timer_t t; struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGURG}; struct itimerspec v = {{0, 50000}, {0, 50000}}; if (timer_create(CLOCK_MONOTONIC, &e, &t) == 0) { timer_settime(t, 0, &v, 0); usleep(200); if (rnd(2)) timer_delete(t); } } }
static void on(int s) { (void)s; }
static void f_signals(void) { signal(SIGUSR1, on); signal(SIGUSR2, on); for (;;) { kill(getpid(), rnd(2) ? SIGUSR1 : SIGUSR2); raise(SIGUSR1); } }
static void f_proc(void) { for (;;) { static const char *const n[] = {"/proc/self/maps", "/proc/self/status", "/proc/meminfo", "/proc/stat", "/proc/1/stat", "/proc/self/fd/0"}; int f = open(n[rnd(6)], O_RDONLY); while (read(f, buf, 1000) > 0) ; close(f); } }
static void f_dirs(void) { char n[40]; for (;;) { sprintf(n, "/tmp/d.%d", (int)rnd(8)); mkdir(n, 0700); sprintf(buf, "%s/x", n); rename("/tmp/d.1", buf); rmdir(buf); rmdir(n); } }
static void f_sched(void) { for (;;) { unsigned long m = 1 + rnd(15); syscall(SYS_sched_setaffinity, 0, 8, &m); setpriority(0, 0, rnd(20)); syscall(SYS_sched_yield); } }
static void f_sem(void) { int id = semget(0x5eed, 2, IPC_CREAT | 0600); struct sembuf b[2] = {{0, -1, SEM_UNDO}, {1, 1, SEM_UNDO}}; semop(id, b, 2); pause(); }
static void f_msg(void) { int id = msgget(0x5eed, IPC_CREAT | 0600); struct { long t; char x[100]; } m = {1, {0}}; for (;;) { if (rnd(2)) msgsnd(id, &m, 100, 0); else msgrcv(id, &m, 100, 0, 0); } }
static void f_shm(void) { for (;;) { int id = shmget(IPC_PRIVATE, 40960, 0600); char *a = shmat(id, 0, 0); shmctl(id, IPC_RMID, 0); if (a != (void *)-1) { a[5000] = 1; if (rnd(2)) shmdt(a); } } }
static void f_stopped(void) { raise(SIGSTOP); pause(); }
static void f_readv(void) { int p[2]; char *m = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); if (pipe(p)) return; struct iovec v[2] = {{m, 1 << 19}, {m + (1 << 19), 1 << 19}}; for (;;) { write(p[1], buf, 8192); readv(p[0], v, 2); madvise(m, 1 << 20, MADV_DONTNEED); } }

#define F(n) {#n, f_##n}
static const struct { const char *name; void (*f)(void); } families[] = {
	F(pipe_read), F(pipe_write), F(pipe_common), F(splice), F(vmsplice), F(fifo), F(nanosleep), F(pause), F(sigsuspend), F(sigtimedwait), F(poll), F(select),
	F(epoll), F(eventfd), F(timerfd), F(signalfd), F(inotify), F(fanotify), F(userfault), F(landlock), F(futex), F(futex_wake), F(futex_requeue), F(wait4), F(waitid), F(vfork), F(forks), F(exec),
	F(flock), F(fcntl), F(unix), F(rights), F(accept), F(tcp), F(udp), F(mmap), F(files), F(memfd), F(threads), F(thread_storm), F(robust), F(timers), F(signals),
	F(proc), F(dirs), F(sched), F(sem), F(msg), F(shm), F(stopped), F(readv),
};
#define NFAMILIES ((int)(sizeof families / sizeof *families))

static int only = -1;

/* finish kills a child and all of its group, and waits for the child. */
static void finish(pid_t p)
{
	if (rnd(2))
		kill(p, SIGKILL);
	kill(-p, SIGKILL);
	if (waitpid(p, 0, 0) != p) {
		say("a child is not there: %s", errname(errno));
		exit(1);
	}
	kill(-p, SIGKILL); /* who was born meanwhile */
}

/* orphans waits for all that has ended and is not one of kid. */
static void orphans(const pid_t *kid)
{
	siginfo_t si;
	for (int k = 0; k < 16; k++) {
		si.si_pid = 0;
		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) || !si.si_pid)
			return;
		for (int i = 0; i < 8; i++)
			if (kid[i] == si.si_pid)
				return; /* its turn comes */
		waitpid(si.si_pid, 0, 0);
	}
}

/* kills has up to eight children at a time, each with a process group of its own; which
 * dies when is chance. It ends after n children, or when the time is over, if that is
 * not 0. Orphans must come to the caller. */
static void kills(long n, time_t until)
{
	pid_t kid[8] = {0};
	for (long i = 0; i < n && (!until || time(0) < until); i++) {
		int slot = rnd(8), f = only >= 0 ? only : (int)rnd(NFAMILIES);
		if (kid[slot])
			finish(kid[slot]);
		uint64_t s = seed + i * 0x9e3779b97f4a7c15ULL;
		if ((kid[slot] = fork()) == 0) {
			setpgid(0, 0);
			seed = s | 1;
			families[f].f();
			_exit(0);
		}
		if (kid[slot] < 0) {
			say("fork %ld: %s", i, errname(errno));
			exit(1);
		}
		setpgid(kid[slot], kid[slot]);
		if (rnd(3))
			usleep(rnd(1000));
		orphans(kid);
	}
	for (int i = 0; i < 8; i++)
		if (kid[i])
			finish(kid[i]);
	while (waitpid(-1, 0, __WALL) > 0 || errno == EINTR)
		;
}

static int gone(const char *n, const struct stat *st, int kind, struct FTW *f) { (void)st, (void)kind, (void)f; return remove(n), 0; }

/* tidy drops what outlives processes by right. */
static void tidy(void)
{
	char n[40];
	fcntl(common[0], F_SETFL, O_NONBLOCK);
	while (read(common[0], buf, sizeof buf) > 0)
		;
	fcntl(common[0], F_SETFL, 0);
	msgctl(msgget(0x5eed, 0), IPC_RMID, 0);
	semctl(semget(0x5eed, 0, 0), 0, IPC_RMID);
	struct shm_info si;
	struct shmid_ds ds;
	for (int i = shmctl(0, SHM_INFO, (void *)&si); i >= 0; i--) /* whose maker died before he could */
		shmctl(shmctl(i, SHM_STAT, &ds), IPC_RMID, 0);
	for (int i = 0; i < 8; i++) {
		sprintf(n, "/tmp/f.%d", i), unlink(n);
		sprintf(n, "/tmp/fifo.%d", i), unlink(n);
		sprintf(n, "/tmp/d.%d", i), nftw(n, gone, 8, FTW_DEPTH | FTW_PHYS);
	}
}

/* prepare makes what the families share. */
static void prepare(void)
{
	pthread_mutexattr_t a;
	memset(buf, 1, sizeof buf);
	shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	robust = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(robust, &a);
	*shared = 1; /* the page is there from now on */
	lock_file = open("/tmp/ranges", O_RDWR | O_CREAT, 0600);
	open("/tmp/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	MUST(pipe(common));
}

/* free_locks checks that nobody holds what they all wanted. */
static void free_locks(void)
{
	struct flock l = {.l_type = F_WRLCK};
	int e = pthread_mutex_trylock(robust);
	IS(e == 0 || e == EOWNERDEAD);
	IS(fcntl(lock_file, F_SETLK, &l) == 0);
	l.l_type = F_UNLCK;
	fcntl(lock_file, F_SETLK, &l);
	if (e == EOWNERDEAD)
		pthread_mutex_consistent(robust);
	if (e == 0 || e == EOWNERDEAD)
		pthread_mutex_unlock(robust);
}
#endif
