// The executor of the system-call fuzzer (fuzz.go): runs the programs in the file that
// its argument names, one after another, each in a process and a directory of its own,
// and prints what each call gave. It is process 1, on Linux and on Kiln.
//
// A line of a program is one of
//
//	d OFF HEX                     bytes into the data arena
//	c NR RET A0 … A5 [AFTER …]    a call
//	p ADDR, q ADDR                read, write a byte of memory
//	f N, t N                      the next N lines in a child, in a thread
//	=                             the end of the program
//
// An argument is iN (a number), rN or RN (the result, the second result of line N), bN
// (the data arena at N), mN (page N of the mapping arena). RET says what is printed of a
// result: v its value, s whether it succeeded, a an address of the mapping arena, x
// nothing. AFTER, on success: o OFF LEN prints bytes (LEN -1: as many as the result), S OFF
// a struct stat's fields, F OFF takes two descriptors, w OFF a wait status.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAXLINES = 128, DATA = 1 << 16, MAPPED = 64 };
static char *const data = (char *)0x300000000, *const mapped = (char *)0x200000000;

static char *lines[MAXLINES];
static int nlines, program;
static long res[MAXLINES], res2[MAXLINES];
static _Thread_local sigjmp_buf probe;
static _Thread_local volatile sig_atomic_t probing, quiet;
static volatile int counts[65], tids[8], done[8];

// say adds to the line, and writes it when it is one: whole, whatever signals come.
static void say(const char *fmt, ...)
{
	static char line[2048];
	static int len;
	if (quiet)
		return;
	va_list ap;
	va_start(ap, fmt);
	len += vsnprintf(line + len, sizeof line - len, fmt, ap);
	va_end(ap);
	if (len >= (int)sizeof line)
		len = sizeof line - 1;
	if (line[len - 1] != '\n')
		return;
	unsigned long all = -1, old;
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, 8);
	for (int o = 0; o < len;) {
		long n = syscall(SYS_write, 1, line + o, len - o);
		if (n <= 0)
			break;
		o += n;
	}
	len = 0;
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, 8);
}

static void handler(int sig, siginfo_t *si, void *uc)
{
	int e = errno;
	if (probing && (sig == SIGSEGV || sig == SIGBUS)) {
		probing = 0;
		siglongjmp(probe, sig << 8 | (si->si_code & 0xff));
	}
	if ((sig == SIGSEGV || sig == SIGBUS || sig == SIGILL || sig == SIGFPE) && si->si_code > 0) {
		say("%d died of %d at %p\n", program, sig, si->si_addr);
		_exit(99);
	}
	if (sig != SIGALRM)
		counts[sig]++;
	else if (si->si_code == SI_KERNEL) // the timer's: the other threads are to hear of it, too
		for (int k = 0; k < 8; k++)
			if (tids[k] && tids[k] != syscall(SYS_gettid))
				syscall(SYS_tgkill, getpid(), tids[k], SIGALRM);
	errno = e;
}

static long arg(const char *s)
{
	long n = (long)strtoull(s + 1, NULL, 0);
	switch (*s) {
	case 'r': return n < MAXLINES ? res[n] : -1;
	case 'R': return n < MAXLINES ? res2[n] : -1;
	case 'b': return (long)data + n;
	case 'm': return (long)mapped + n * 4096;
	}
	return n;
}

static void stat_fields(struct stat *s)
{
	say(" mode %o uid %u gid %u", s->st_mode, s->st_uid, s->st_gid);
	if (!S_ISDIR(s->st_mode)) // what a directory counts is its file system's business
		say(" nlink %lu size %ld", (long)s->st_nlink, (long)s->st_size);
}

// interrupt has what blocks interrupted.
static void interrupt(void)
{
	struct itimerval it = {{0, 20000}, {0, 20000}};
	setitimer(ITIMER_REAL, &it, NULL);
}

static int timed(long nr)
{
	switch (nr) {
	case SYS_poll: case SYS_ppoll: case SYS_select: case SYS_pselect6: case SYS_epoll_wait: case SYS_epoll_pwait: case SYS_epoll_pwait2:
	case SYS_nanosleep: case SYS_clock_nanosleep: case SYS_futex: case SYS_futex_waitv: case SYS_rt_sigtimedwait: case SYS_semtimedop:
	case SYS_mq_timedsend: case SYS_mq_timedreceive: case SYS_io_getevents: case SYS_recvmmsg:
		return 1;
	}
	return 0;
}

static void call(int i, char *line)
{
	char *w[16] = {0}, *save;
	int n = 0;
	for (char *p = strtok_r(line, " ", &save); p && n < 16; p = strtok_r(NULL, " ", &save))
		w[n++] = p;
	if (n < 9)
		return;
	long a[6];
	for (int k = 0; k < 6; k++)
		a[k] = arg(w[3 + k]);
	if (timed(atol(w[1])))
		interrupt(); // a short time-out is to end before that
	errno = 0;
	long r = syscall(atol(w[1]), a[0], a[1], a[2], a[3], a[4], a[5]);
	int e = errno;
	res[i] = r;
	char kind = w[2][0];
	if (kind == 'x')
		return;
	if (r == -1) {
		say("%d.%d %s = -1 errno %d\n", program, i, w[1], e);
		return;
	}
	say("%d.%d %s = ", program, i, w[1]);
	if (kind == 's')
		say("ok");
	else if (kind == 'a' && r >= (long)mapped && r < (long)mapped + MAPPED * 4096)
		say("page %ld", (r - (long)mapped) / 4096);
	else if (kind == 'a')
		say("somewhere");
	else
		say("%ld", r);
	if (n > 10) {
		char *b = data + atol(w[10]);
		int *fd = (int *)b;
		switch (w[9][0]) {
		case 'o': {
			long len = n > 11 ? atol(w[11]) : 0;
			if (len < 0)
				len = r;
			say(" [");
			for (long k = 0; k < len && k < 64; k++)
				say("%02x", (unsigned char)b[k]);
			say("]");
			break;
		}
		case 'S': stat_fields((struct stat *)b); break;
		case 'F': res[i] = fd[0], res2[i] = fd[1]; say(" %d %d", fd[0], fd[1]); break;
		case 'w': say(" status %x", *fd); break;
		}
	}
	say("\n");
}

static void touch(int i, char *line)
{
	volatile char *p = (volatile char *)arg(line + 2);
	int s = sigsetjmp(probe, 1);
	if (s == 0) {
		probing = 1;
		char c = 1;
		if (line[0] == 'p')
			c = *p;
		else
			*p = i;
		probing = 0;
		say("%d.%d %c %d\n", program, i, line[0], c);
	} else
		say("%d.%d %c signal %d code %d\n", program, i, line[0], s >> 8, s & 0xff);
}

static void run(int from, int to);

struct range { int from, to, nr; };

static void *thread(void *p)
{
	struct range *r = p;
	quiet = 1;
	tids[r->nr] = syscall(SYS_gettid);
	run(r->from, r->to);
	tids[r->nr] = 0;
	done[r->nr] = 1;
	return NULL;
}

static void run(int from, int to)
{
	pthread_t th[8];
	struct range ranges[8];
	int nth = 0;
	for (int i = from; i < to; i++) {
		char copy[8300];
		snprintf(copy, sizeof copy, "%s", lines[i]);
		switch (copy[0]) {
		case 'd': {
			unsigned off = 0;
			int at = 0;
			sscanf(copy + 2, "%u %n", &off, &at);
			for (char *h = copy + 2 + at; h[0] && h[1] && off < DATA; h += 2) {
				unsigned x = 0;
				sscanf(h, "%2x", &x);
				data[off++] = x;
			}
			break;
		}
		case 'c': call(i, copy); break;
		case 'p': case 'q': touch(i, copy); break;
		case 'f': {
			int n = atoi(copy + 2);
			pid_t pid = fork();
			if (pid == 0) {
				memset((void *)tids, 0, sizeof tids);
				interrupt();
				run(i + 1, i + 1 + n < to ? i + 1 + n : to);
				_exit(7);
			}
			int st = 0;
			while (waitpid(pid, &st, 0) < 0 && errno == EINTR)
				;
			say("%d.%d child %x\n", program, i, st);
			i += n;
			break;
		}
		case 't': {
			int n = atoi(copy + 2);
			if (nth < 8) {
				done[nth] = 0;
				ranges[nth] = (struct range){i + 1, i + 1 + n < to ? i + 1 + n : to, nth};
				if (pthread_create(&th[nth], NULL, thread, &ranges[nth]) == 0)
					nth++;
			}
			i += n;
			break;
		}
		}
	}
	// Not pthread_join, which set_tid_address in a thread would make wait for ever. A thread that
	// has called exit(2) is gone without a word.
	for (int k = 0; k < nth; k++)
		while (!done[k] && (!tids[k] || syscall(SYS_tgkill, getpid(), tids[k], 0) == 0))
			usleep(200);
}

static void setup(void)
{
	struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_NODEFER};
	for (int s = 1; s < 65; s++)
		if (s != SIGKILL && s != SIGSTOP && s != SIGTSTP && s != SIGTTIN && s != SIGTTOU && s != SIGCONT)
			sigaction(s, &sa, NULL);
	mmap(data, DATA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	mmap(mapped, MAPPED * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	struct rlimit n = {64, 64}, f = {1 << 20, 1 << 20}, one = {1 << 16, 1 << 16}, none = {0, 0}, procs = {64, 64};
	setrlimit(RLIMIT_NOFILE, &n);
	setrlimit(RLIMIT_FSIZE, &f);
	setrlimit(RLIMIT_MEMLOCK, &one);
	setrlimit(RLIMIT_NICE, &none);
	setrlimit(RLIMIT_RTPRIO, &none);
	setrlimit(RLIMIT_CORE, &none);
	setrlimit(RLIMIT_NPROC, &procs);
	mkdir("/tmp/w", 0755);
	if (chown("/tmp/w", 1000, 1000) || chdir("/tmp/w"))
		_exit(97);
	setgroups(0, NULL);
	if (setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000))
		_exit(98);
	for (int i = 0; i < MAXLINES; i++)
		res[i] = res2[i] = -1;
}

// tidy removes what System V and message queues a program has left.
static void tidy(void)
{
	char info[256];
	for (int i = 0, n = msgctl(0, MSG_INFO, (void *)info); i <= n; i++) {
		int id = msgctl(i, MSG_STAT, (void *)info);
		if (id >= 0)
			msgctl(id, IPC_RMID, NULL);
	}
	for (int i = 0, n = semctl(0, 0, SEM_INFO, info); i <= n; i++) {
		int id = semctl(i, 0, SEM_STAT, info);
		if (id >= 0)
			semctl(id, 0, IPC_RMID);
	}
	for (int i = 0, n = shmctl(0, SHM_INFO, (void *)info); i <= n; i++) {
		int id = shmctl(i, SHM_STAT, (void *)info);
		if (id >= 0)
			shmctl(id, IPC_RMID, NULL);
	}
	syscall(SYS_mq_unlink, "q1");
	syscall(SYS_mq_unlink, "q2");
}

// one runs a program in a child and waits, at most two seconds.
static void one(void)
{
	if (mount("tmpfs", "/tmp", "tmpfs", 0, "size=64m"))
		say("mount: %d\n", errno);
	pid_t pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		setup();
		interrupt();
		run(0, nlines);
		struct itimerval it = {0};
		setitimer(ITIMER_REAL, &it, NULL);
		for (int s = 1; s < 65; s++)
			if (counts[s] && s != SIGALRM && s != SIGXCPU) /* which come when they come */
				say("%d got %d\n", program, s);
		_exit(0);
	}
	int st = 0, left = 2000;
	while (waitpid(pid, &st, WNOHANG) == 0) {
		if (left-- == 0) {
			say("%d HANG\n", program);
			kill(pid, SIGKILL);
			waitpid(pid, &st, 0);
			break;
		}
		usleep(1000);
	}
	kill(-pid, SIGKILL);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	umount2("/tmp", MNT_DETACH);
	tidy();
	say("%d ends %x\n", program, st);
}

int main(int argc, char **argv)
{
	static char text[8 << 20];
	int fd = open(argv[1], O_RDONLY);
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n < 0)
		return 1;
	struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	ioctl(s, SIOCSIFFLAGS, &ifr);
	close(s);
	chmod("/", 0755);
	umask(022);
	setpriority(PRIO_PROCESS, 0, 15);
	char *save;
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		if (*l == '#')
			continue;
		if (*l != '=') {
			if (nlines < MAXLINES)
				lines[nlines++] = l;
			continue;
		}
		one();
		nlines = 0;
		program++;
	}
	say("all done\n");
	return 0;
}
