/* userfaultfd: absent pages of anonymous memory that a program fills in. */
#include "files.h"
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <poll.h>
#include <pthread.h>

#define PAGE 4096ul

static int uffd(int flags) { return syscall(SYS_userfaultfd, flags); }

static int api(int fd, uint64_t features)
{
	struct uffdio_api a = { UFFD_API, features, 0 };
	return ioctl(fd, UFFDIO_API, &a);
}

static int reg(int fd, void *p, unsigned long n, uint64_t mode)
{
	struct uffdio_register r = { { (unsigned long)p, n }, mode, 0 };
	return ioctl(fd, UFFDIO_REGISTER, &r);
}

static int unreg(int fd, void *p, unsigned long n)
{
	struct uffdio_range r = { (unsigned long)p, n };
	return ioctl(fd, UFFDIO_UNREGISTER, &r);
}

static int wake(int fd, void *p, unsigned long n)
{
	struct uffdio_range r = { (unsigned long)p, n };
	return ioctl(fd, UFFDIO_WAKE, &r);
}

static long long said;
static int copy(int fd, void *to, void *from, unsigned long n, uint64_t mode)
{
	struct uffdio_copy c = { (unsigned long)to, (unsigned long)from, n, mode, 77 };
	int r = ioctl(fd, UFFDIO_COPY, &c);
	said = c.copy;
	return r;
}

static int zero(int fd, void *p, unsigned long n, uint64_t mode)
{
	struct uffdio_zeropage z = { { (unsigned long)p, n }, mode, 77 };
	int r = ioctl(fd, UFFDIO_ZEROPAGE, &z);
	said = z.zeropage;
	return r;
}

static char *pages(int n) { return mmap(0, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }

static void user(void)
{
	R(uffd(0));
	R(uffd(1 << 5));
	OK(uffd(1));
	R(uffd(1 | 1 << 5));
	R(uffd(O_CLOEXEC));
	R(uffd(O_NONBLOCK));
}

CASE(init, userfaultfd, ioctl)
{
	char b[64];
	R(uffd(1 << 5));
	int fd = uffd(O_CLOEXEC | O_NONBLOCK);
	R(fcntl(fd, F_GETFD));
	R(fcntl(fd, F_GETFL) & O_NONBLOCK);
	R(read(fd, b, 64));
	R(write(fd, b, 64));
	struct pollfd p = { fd, POLLIN, 0 };
	R(poll(&p, 1, 0));
	R(p.revents);
	R(reg(fd, pages(1), PAGE, UFFDIO_REGISTER_MODE_MISSING));
	R(ioctl(fd, UFFDIO_API, 8));
	struct uffdio_api a = { 0xab, 0, 5 };
	R(ioctl(fd, UFFDIO_API, &a));
	say("%lld %lld %lld", a.api, a.features, a.ioctls);
	a = (struct uffdio_api){ UFFD_API, 1ull << 40, 5 };
	R(ioctl(fd, UFFDIO_API, &a));
	say("%lld %lld %lld", a.api, a.features, a.ioctls);
	a = (struct uffdio_api){ UFFD_API, UFFD_FEATURE_SIGBUS | UFFD_FEATURE_THREAD_ID, 0 };
	R(ioctl(fd, UFFDIO_API, &a));
	say("%llx %llx", a.features & (UFFD_FEATURE_SIGBUS | UFFD_FEATURE_THREAD_ID), a.ioctls);
	R(api(fd, UFFD_FEATURE_SIGBUS));
	R(read(fd, b, 64));
	R(read(fd, b, 8));
	R(poll(&p, 1, 0));
	R(ioctl(fd, 0xaa99, &a));
	int blocks = uffd(0);
	api(blocks, 0);
	p.fd = blocks;
	R(poll(&p, 1, 0));
	R(p.revents);
	as_user(user);
}

CASE(ranges, ioctl, userfaultfd)
{
	int fd = uffd(O_NONBLOCK), other = uffd(O_NONBLOCK);
	R(api(fd, 0));
	R(api(other, 0));
	char *p = pages(8), *ro = mmap(0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	R(reg(fd, p, PAGE, 0));
	R(reg(fd, p, PAGE, 1 << 7));
	R(reg(fd, p + 1, PAGE, 1));
	R(reg(fd, p, 1, 1));
	R(reg(fd, p, 0, 1));
	R(reg(fd, 0, PAGE, 1));
	R(reg(fd, (void *)(1ul << 47), PAGE, 1));
	R(reg(fd, p, 1ul << 48, 1));
	R(ioctl(fd, UFFDIO_REGISTER, 8));
	struct uffdio_register r = { { (unsigned long)p, 2 * PAGE }, UFFDIO_REGISTER_MODE_MISSING, 0 };
	R(ioctl(fd, UFFDIO_REGISTER, &r));
	say("%llx", r.ioctls & 0x1f);
	R(reg(fd, p, 2 * PAGE, 1));
	R(reg(other, p + PAGE, PAGE, 1));
	R(reg(other, p + 2 * PAGE, PAGE, 1));
	R(reg(fd, ro, PAGE, 1));
	munmap(ro, PAGE);
	R(reg(fd, ro, PAGE, 1));
	R(unreg(fd, ro, PAGE));
	R(unreg(fd, p, 4 * PAGE));
	R(unreg(fd, p, PAGE));
	R(unreg(fd, p + 1, PAGE));
	R(ioctl(fd, UFFDIO_UNREGISTER, 8));
	R(wake(fd, p, PAGE));
	R(wake(fd, p, 1));
	R(close(fd));
	R(close(other));
}

CASE(fills, ioctl, userfaultfd)
{
	int fd = uffd(O_NONBLOCK);
	api(fd, 0);
	char *p = pages(8), *from = pages(4);
	memset(from, 'a', 3 * PAGE);
	from[PAGE] = 'b';
	R(copy(fd, p, from, PAGE, 0));
	say("%lld", said);
	R(reg(fd, p, 6 * PAGE, 1));
	R(copy(fd, p, from, 2 * PAGE, 0));
	say("%lld %c %c", said, p[0], p[PAGE]);
	R(copy(fd, p, from, PAGE, 0));
	say("%lld", said);
	R(copy(fd, p + PAGE, from, 2 * PAGE, 0));
	say("%lld", said);
	R(zero(fd, p + 2 * PAGE, PAGE, UFFDIO_ZEROPAGE_MODE_DONTWAKE));
	say("%lld %d", said, p[2 * PAGE]);
	p[2 * PAGE] = 'z';
	say("%c", p[2 * PAGE]);
	R(zero(fd, p + PAGE, 2 * PAGE, 0));
	say("%lld", said);
	/* What is there in the middle ends it. */
	R(copy(fd, p + 4 * PAGE, from, PAGE, UFFDIO_COPY_MODE_DONTWAKE));
	R(copy(fd, p + 3 * PAGE, from, 3 * PAGE, 0));
	say("%lld", said);
	R(copy(fd, p + 5 * PAGE, from, 2 * PAGE, 0));
	say("%lld", said);
	R(copy(fd, p + 5 * PAGE, (char *)8, PAGE, 0));
	say("%lld", said);
	R(copy(fd, p + 5 * PAGE, from, PAGE, 1 << 5));
	R(copy(fd, p + 5 * PAGE, (char *)-PAGE, PAGE, 0));
	R(copy(fd, p + 5 * PAGE, from, 1, 0));
	R(zero(fd, p + 5 * PAGE, PAGE, 1 << 5));
	R(zero(fd, p + 6 * PAGE, PAGE, 0));
	say("%lld", said);
	R(ioctl(fd, UFFDIO_COPY, 8));
	R(ioctl(fd, UFFDIO_ZEROPAGE, 8));
	/* Unaligned sources are fine. */
	R(copy(fd, p + 5 * PAGE, from + 5, PAGE, 0));
	say("%lld %c", said, p[5 * PAGE]);
	/* Dropped pages are absent again. */
	R(madvise(p, PAGE, MADV_DONTNEED));
	R(copy(fd, p, from + PAGE, PAGE, 0));
	say("%c", p[0]);
	close(fd);
	say("%d", p[7 * PAGE]);
}

static char *area;
static int server, tid, hits;

static void *touch(void *how)
{
	tid = syscall(SYS_gettid);
	if (how)
		area[3 * PAGE + 5] = 'w';
	else
		hits += area[PAGE + 9];
	return 0;
}

/* next takes a message. */
static struct uffd_msg next(void)
{
	struct uffd_msg m;
	struct pollfd p = { server, POLLIN, 0 };
	if (poll(&p, 1, 10000) != 1 || read(server, &m, sizeof m) != sizeof m)
		say("no message: %s", errname(errno));
	return m;
}

CASE(faults, userfaultfd, read, poll, ioctl)
{
	pthread_t t;
	char *from = pages(1);
	memset(from, 3, PAGE);
	server = uffd(O_NONBLOCK);
	api(server, UFFD_FEATURE_THREAD_ID);
	area = pages(8);
	R(reg(server, area, 8 * PAGE, 1));
	pthread_create(&t, 0, touch, 0);
	struct uffd_msg m = next();
	say("event %x flags %llx page %lld %s", m.event, m.arg.pagefault.flags, (m.arg.pagefault.address - (unsigned long)area) / PAGE, m.arg.pagefault.address % PAGE ? "within" : "start");
	IS((int)m.arg.pagefault.feat.ptid == tid);
	R(copy(server, area + PAGE, from, PAGE, 0));
	pthread_join(t, 0);
	R(hits);
	pthread_create(&t, 0, touch, "w");
	m = next();
	/* On hosted a write is first seen as a read: the flag is in "calls". */
	say("event %x page %lld", m.event, (m.arg.pagefault.address - (unsigned long)area) / PAGE);
	/* Without a wake-up it waits on; woken, it goes on with what is there. */
	R(copy(server, area + 3 * PAGE, from, PAGE, UFFDIO_COPY_MODE_DONTWAKE));
	R(wake(server, area + 3 * PAGE, PAGE));
	pthread_join(t, 0);
	say("%d %c", area[3 * PAGE], area[3 * PAGE + 5]);
	/* Woken without a page, it comes again. */
	madvise(area, 8 * PAGE, MADV_DONTNEED);
	pthread_create(&t, 0, touch, "w");
	next();
	R(wake(server, area, 8 * PAGE));
	m = next();
	say("again page %lld", (m.arg.pagefault.address - (unsigned long)area) / PAGE);
	/* Unregistered, it finds zeros. */
	R(unreg(server, area, 8 * PAGE));
	pthread_join(t, 0);
	say("%d %c", area[3 * PAGE], area[3 * PAGE + 5]);
	/* So it does when the descriptor is closed. */
	madvise(area, 8 * PAGE, MADV_DONTNEED);
	R(reg(server, area, 8 * PAGE, 1));
	pthread_create(&t, 0, touch, 0);
	next();
	R(close(server));
	pthread_join(t, 0);
	R(hits);
}

static void *reads(void *fd)
{
	return (void *)(long)(read(*(int *)fd, area + 2 * PAGE - 2, 4) < 0 ? -errno : 4);
}

CASE(calls, userfaultfd, read)
{
	/* A system call's touch is served as well, unless it is of UFFD_USER_MODE_ONLY. */
	pthread_t t;
	int z = open("/dev/zero", O_RDONLY);
	void *r;
	for (int only = 0; only < 2; only++) {
		server = uffd(O_NONBLOCK | only);
		api(server, UFFD_FEATURE_EXACT_ADDRESS);
		area = pages(4);
		R(reg(server, area, 4 * PAGE, 1));
		pthread_create(&t, 0, reads, &z);
		for (int i = 0; !only && i < 2; i++) {
			struct uffd_msg m = next();
			unsigned long at = m.arg.pagefault.address - (unsigned long)area;
			say("page %ld flags %llx", at / PAGE, m.arg.pagefault.flags);
			R(zero(server, area + at / PAGE * PAGE, PAGE, 0));
		}
		pthread_join(t, &r);
		say("%s", (long)r < 0 ? errname(-(long)r) : "read");
		close(server);
	}
}

static void onbus(int s, siginfo_t *i, void *c)
{
	(void)s, (void)c;
	say("SIGBUS code %d page %ld", i->si_code, ((char *)i->si_addr - area) / PAGE);
	_exit(0);
}

static void bus(void)
{
	struct sigaction a = { .sa_sigaction = onbus, .sa_flags = SA_SIGINFO };
	sigaction(SIGBUS, &a, 0);
	area[PAGE + 3] = 1;
	say("no signal");
}

static void child(void)
{
	say("%d", area[2 * PAGE]); /* served by nobody */
}

CASE(others, userfaultfd, mremap, mprotect)
{
	int fd = uffd(O_NONBLOCK);
	api(fd, UFFD_FEATURE_SIGBUS);
	area = pages(4);
	R(reg(fd, area, 4 * PAGE, 1));
	{
		int c = fork(), s;
		if (!c) {
			int own = uffd(O_NONBLOCK);
			api(own, UFFD_FEATURE_SIGBUS);
			R(reg(own, area, 4 * PAGE, 1));
			bus();
			_exit(0);
		}
		waitpid(c, &s, 0);
	}
	in_child(child);
	/* Neither does a moved mapping keep it. */
	char *to = mremap(area, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, pages(4));
	say("%d", to[PAGE]);
	R(copy(fd, to, to, PAGE, 0));
	/* Two halves of a mapping. */
	area = pages(4);
	R(reg(fd, area + PAGE, PAGE, 1));
	say("%d %d", area[0], area[2 * PAGE]);
	R(mprotect(area, 4 * PAGE, PROT_READ));
	R(copy(fd, area + PAGE, area, PAGE, 0));
	say("%d", area[PAGE]);
	R(munmap(area, 4 * PAGE));
	R(copy(fd, area + PAGE, to, PAGE, 0));
	R(close(fd));
}

static void handler(int s) { (void)s; hits++; }

static void waits(void)
{
	/* A signal is served while its thread waits for a page. */
	pthread_t t;
	struct sigaction a = { .sa_handler = handler };
	sigaction(SIGUSR1, &a, 0);
	hits = 0;
	server = uffd(O_NONBLOCK);
	api(server, 0);
	area = pages(8);
	R(reg(server, area, 8 * PAGE, 1));
	pthread_create(&t, 0, touch, "w");
	next();
	pthread_kill(t, SIGUSR1);
	next(); /* it comes again behind the handler */
	R(hits);
	R(zero(server, area + 3 * PAGE, PAGE, 0));
	pthread_join(t, 0);
	/* One that is killed is waited for by nobody. */
	pthread_create(&t, 0, touch, 0);
	next();
	raise(SIGKILL);
}

CASE(signals, userfaultfd, read)
{
	in_child(waits);
}

static void *fills(void *fd) { return (void *)(long)(write(*(int *)fd, area, 4) < 0 ? -errno : 4); }

static volatile int sealed;
static void *seals(void *fd)
{
	int r = fcntl(*(int *)fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK);
	sealed = 1;
	return (void *)(long)(r < 0 ? -errno : r);
}

/* A seal waits for the write that is under way: what is sealed stays. */
CASE(sealing, userfaultfd, fcntl)
{
	pthread_t w, s;
	void *r;
	char *from = pages(1);
	memset(from, 'n', PAGE);
	int fd = memfd_create("x", MFD_ALLOW_SEALING);
	MUST(pwrite(fd, "old!", 4, 0));
	server = uffd(O_NONBLOCK);
	api(server, 0);
	area = pages(1);
	R(reg(server, area, PAGE, 1));
	pthread_create(&w, 0, fills, &fd);
	next();
	pthread_create(&s, 0, seals, &fd);
	usleep(100000);
	R(sealed);
	R(fcntl(fd, F_GET_SEALS));
	R(copy(server, area, from, PAGE, 0));
	pthread_join(w, &r);
	R(r);
	pthread_join(s, &r);
	R(r);
	R(fcntl(fd, F_GET_SEALS));
	content("sealed", fd);
	R(write(fd, "late", 4));
}

CASES
