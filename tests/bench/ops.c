/* What single operations cost, by the guest's own clock (see micro.c): the mean of many
 * rounds after a warm-up less that of an empty loop, in hundredths of an instruction
 * under -icount shift=0.
 *
 *   ops                all measures
 *   ops NAME ROUNDS    one of them, for profiles */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define BULK (64 << 10)

static int64_t now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void fail(const char *what)
{
    perror(what);
    exit(2);
}

#define MUST(call) ({ __typeof__(call) r_ = (call); if (r_ < 0) fail(#call); r_; })
#define EXPECT(call, want) do { if ((call) != (want)) fail(#call); } while (0)

static char buf[BULK] __attribute__((aligned(PAGE)));
static int fd, fds[2];

/* loop calls op n times and returns the time. */
static int64_t loop(void (*op)(void), int n)
{
    int64_t t = now();
    for (int i = 0; i < n; i++)
        op();
    return now() - t;
}

static void nothing(void) { __asm__ volatile(""); }
static int64_t m_empty(int n) { return loop(nothing, n); }

/* Files: a tmpfs that was mounted for it, and the root as it is. */
static void read1(void) { EXPECT(pread(fd, buf, 1, 0), 1); }
static void write1(void) { EXPECT(pwrite(fd, buf, 1, 0), 1); }
static void read4k(void) { EXPECT(pread(fd, buf, PAGE, 0), PAGE); }
static void write4k(void) { EXPECT(pwrite(fd, buf, PAGE, 0), PAGE); }

static int64_t on_tmpfs(void (*op)(void), int n)
{
    fd = MUST(open("/dev/shm/ops", O_RDWR | O_CREAT | O_TRUNC, 0600));
    write4k();
    int64_t t = loop(op, n);
    close(fd);
    unlink("/dev/shm/ops");
    return t;
}

static int64_t m_tmpfs_read1(int n) { return on_tmpfs(read1, n); }
static int64_t m_tmpfs_write1(int n) { return on_tmpfs(write1, n); }
static int64_t m_tmpfs_read4k(int n) { return on_tmpfs(read4k, n); }
static int64_t m_tmpfs_write4k(int n) { return on_tmpfs(write4k, n); }

/* path1 and path6 have that many components. */
static const char path1[] = "/opsfile", path6[] = "/opsdir/b/c/d/e/file";

static void make_paths(void)
{
    char p[sizeof path6];
    strcpy(p, path6);
    for (char *s = strchr(p + 1, '/'); s; s = strchr(s + 1, '/')) {
        *s = 0;
        mkdir(p, 0755);
        *s = '/';
    }
    close(MUST(open(path1, O_RDWR | O_CREAT, 0644)));
    close(MUST(open(path6, O_RDWR | O_CREAT, 0644)));
}

static struct stat st;
static void open_close(void) { close(MUST(open(path1, O_RDONLY))); }
static void stat1(void) { MUST(stat(path1, &st)); }
static void stat6(void) { MUST(stat(path6, &st)); }

static int64_t m_open_close(int n) { make_paths(); return loop(open_close, n); }
static int64_t m_stat1(int n) { make_paths(); return loop(stat1, n); }
static int64_t m_stat6(int n) { make_paths(); return loop(stat6, n); }

/* Pipes: 8 writes, then 8 reads, and the time of one kind. */
static int64_t pipes(int n, size_t size, int writes)
{
    int64_t t[2] = {0, 0};
    MUST(pipe(fds));
    for (int i = 0; i < n; i += 8) {
        int64_t t0 = now();
        for (int j = 0; j < 8; j++)
            EXPECT(write(fds[1], buf, size), (ssize_t)size);
        int64_t t1 = now();
        for (int j = 0; j < 8; j++)
            EXPECT(read(fds[0], buf, size), (ssize_t)size);
        t[1] += t1 - t0;
        t[0] += now() - t1;
    }
    close(fds[0]), close(fds[1]);
    return t[writes];
}

static int64_t m_pipe_read1(int n) { return pipes(n, 1, 0); }
static int64_t m_pipe_write1(int n) { return pipes(n, 1, 1); }
static int64_t m_pipe_read4k(int n) { return pipes(n, PAGE, 0); }
static int64_t m_pipe_write4k(int n) { return pipes(n, PAGE, 1); }

/* One of 1,000 descriptors is ready, and stays it. */
static void epoll_one(void)
{
    struct epoll_event ev[16];
    EXPECT(epoll_wait(fd, ev, 16, -1), 1);
}

static int64_t m_epoll(int n)
{
    enum { SET = 1000 };
    static int set[SET];
    fd = MUST(epoll_create1(0));
    for (int i = 0; i < SET; i++) {
        struct epoll_event ev = {.events = EPOLLIN, .data.fd = i};
        set[i] = MUST(eventfd(i == SET / 2, EFD_NONBLOCK));
        MUST(epoll_ctl(fd, EPOLL_CTL_ADD, set[i], &ev));
    }
    int64_t t = loop(epoll_one, n);
    for (int i = 0; i < SET; i++)
        close(set[i]);
    close(fd);
    return t;
}

static uint32_t word;
static long futex(uint32_t *w, int op, uint32_t v) { return syscall(SYS_futex, w, op | FUTEX_PRIVATE_FLAG, v, 0, 0, 0); }
static void wake_nobody(void) { EXPECT(futex(&word, FUTEX_WAKE, 1), 0); }
static int64_t m_futex_wake(int n) { return loop(wake_nobody, n); }

/* A round of a ping-pong is there and back, between two threads. */
static int rounds;

static void turns(uint32_t me, int n)
{
    for (int i = 0; i < n; i++) {
        while (__atomic_load_n(&word, __ATOMIC_SEQ_CST) != me)
            futex(&word, FUTEX_WAIT, !me);
        __atomic_store_n(&word, !me, __ATOMIC_SEQ_CST);
        futex(&word, FUTEX_WAKE, 1);
    }
}

static void *futex_partner(void *arg) { turns(1, rounds); return arg; }

static pthread_t start(void *(*f)(void *), int n)
{
    pthread_t th;
    rounds = n;
    if (pthread_create(&th, 0, f, 0))
        fail("pthread_create");
    return th;
}

static int64_t m_futex(int n)
{
    word = 0;
    pthread_t th = start(futex_partner, n);
    int64_t t = now();
    turns(0, n);
    t = now() - t;
    pthread_join(th, 0);
    word = 0;
    return t;
}

static void *byte_partner(void *arg)
{
    char c;
    for (int i = 0; i < rounds; i++) {
        EXPECT(read(fds[1], &c, 1), 1);
        EXPECT(write(fds[1], &c, 1), 1);
    }
    return arg;
}

static int64_t bytes(int n)
{
    char c = 0;
    pthread_t th = start(byte_partner, n);
    int64_t t = now();
    for (int i = 0; i < n; i++) {
        EXPECT(write(fds[0], &c, 1), 1);
        EXPECT(read(fds[0], &c, 1), 1);
    }
    t = now() - t;
    pthread_join(th, 0);
    close(fds[0]), close(fds[1]);
    return t;
}

static int64_t m_unix(int n)
{
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
    return bytes(n);
}

static void connect_loopback(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int l = MUST(socket(AF_INET, SOCK_STREAM, 0)), on = 1;
    MUST(bind(l, (struct sockaddr *)&a, sizeof a));
    MUST(listen(l, 1));
    MUST(getsockname(l, (struct sockaddr *)&a, &len));
    fds[0] = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(connect(fds[0], (struct sockaddr *)&a, sizeof a));
    fds[1] = MUST(accept(l, 0, 0));
    close(l);
    for (int i = 0; i < 2; i++)
        MUST(setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
}

static int64_t m_tcp(int n)
{
    connect_loopback();
    return bytes(n);
}

/* A round is 64 KiB, sent and received. */
static void *bulk_partner(void *arg)
{
    static char sink[BULK];
    for (int64_t left = (int64_t)rounds * BULK; left > 0;)
        left -= MUST(read(fds[1], sink, sizeof sink));
    EXPECT(write(fds[1], sink, 1), 1);
    return arg;
}

static int64_t m_tcp_bulk(int n)
{
    char c;
    connect_loopback();
    pthread_t th = start(bulk_partner, n);
    int64_t t = now();
    for (int i = 0; i < n; i++)
        for (ssize_t done = 0; done < BULK;)
            done += MUST(write(fds[0], buf + done, BULK - done));
    EXPECT(read(fds[0], &c, 1), 1);
    t = now() - t;
    pthread_join(th, 0);
    close(fds[0]), close(fds[1]);
    return t;
}

/* Two pipes between two threads, as OSv was measured. */
static int back[2];

static void *pipe_partner(void *arg)
{
    char c;
    for (int i = 0; i < rounds; i++) {
        EXPECT(read(fds[0], &c, 1), 1);
        EXPECT(write(back[1], &c, 1), 1);
    }
    return arg;
}

static int64_t m_pipe_threads(int n)
{
    char c = 0;
    MUST(pipe(fds));
    MUST(pipe(back));
    pthread_t th = start(pipe_partner, n);
    int64_t t = now();
    for (int i = 0; i < n; i++) {
        EXPECT(write(fds[1], &c, 1), 1);
        EXPECT(read(back[0], &c, 1), 1);
    }
    t = now() - t;
    pthread_join(th, 0);
    close(fds[0]), close(fds[1]), close(back[0]), close(back[1]);
    return t;
}

static volatile sig_atomic_t caught;
static void on_signal(int sig) { caught++; }
static pid_t pid, tid;
static void signal_self(void) { syscall(SYS_tgkill, pid, tid, SIGUSR1); }

static int64_t m_signal(int n)
{
    struct sigaction sa = {.sa_handler = on_signal};
    MUST(sigaction(SIGUSR1, &sa, 0));
    caught = 0, pid = getpid(), tid = gettid();
    int64_t t = loop(signal_self, n);
    EXPECT(caught, n);
    return t;
}

static void map_touch_unmap(void)
{
    char *p = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        fail("mmap");
    *(volatile char *)p = 1;
    MUST(munmap(p, PAGE));
}

static int64_t m_mmap(int n) { return loop(map_touch_unmap, n); }

/* A round is one page of a new mapping, written to in order. It is too small for a huge page. */
static int64_t m_fault(int n)
{
    enum { PAGES = 256 };
    int64_t t = 0;
    for (int done = 0; done < n; done += PAGES) {
        volatile char *p = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            fail("mmap");
        int64_t s = now();
        for (int i = 0; i < PAGES; i++)
            p[i * PAGE] = 1;
        t += now() - s;
        MUST(munmap((void *)p, PAGES * PAGE));
    }
    return t;
}

static void *ends(void *arg) { return arg; }
static void create_join(void) { pthread_join(start(ends, 0), 0); }
static int64_t m_thread(int n) { return loop(create_join, n); }

/* A round is the call that arms the timer, and what passes from the moment it is set to
 * until the thread, which waits in read, goes on. What lies between is sleep. */
static int64_t m_timer(int n)
{
    int64_t sum = 0;
    fd = MUST(timerfd_create(CLOCK_MONOTONIC, 0));
    for (int i = 0; i < n; i++) {
        uint64_t fired;
        int64_t t0 = now(), at = t0 + 100000;
        struct itimerspec its = {.it_value = {at / 1000000000, at % 1000000000}};
        MUST(timerfd_settime(fd, TFD_TIMER_ABSTIME, &its, 0));
        sum += now() - t0;
        EXPECT(read(fd, &fired, sizeof fired), (ssize_t)sizeof fired);
        sum += now() - at;
    }
    close(fd);
    return sum;
}

static const struct measure {
    const char *name;
    int64_t (*f)(int);
    int rounds, warm;
} measures[] = {
    {"tmpfs_read1", m_tmpfs_read1, 8000, 500},
    {"tmpfs_write1", m_tmpfs_write1, 8000, 500},
    {"tmpfs_read4k", m_tmpfs_read4k, 4000, 500},
    {"tmpfs_write4k", m_tmpfs_write4k, 4000, 500},
    {"pipe_read1", m_pipe_read1, 8000, 800},
    {"pipe_write1", m_pipe_write1, 8000, 800},
    {"pipe_read4k", m_pipe_read4k, 4000, 800},
    {"pipe_write4k", m_pipe_write4k, 4000, 800},
    {"open_close", m_open_close, 4000, 500},
    {"stat1", m_stat1, 4000, 500},
    {"stat6", m_stat6, 4000, 500},
    {"epoll_wait", m_epoll, 4000, 500},
    {"futex_wake", m_futex_wake, 8000, 500},
    {"futex_ping_pong", m_futex, 4000, 300},
    {"signal", m_signal, 4000, 300},
    {"mmap_touch_munmap", m_mmap, 2000, 300},
    {"page_fault", m_fault, 256 * 20, 256 * 2},
    {"thread_create_join", m_thread, 1000, 100},
    {"timer_set_fire", m_timer, 1000, 100},
    {"pipe_ping_pong", m_pipe_threads, 4000, 300},
    {"unix_ping_pong", m_unix, 4000, 300},
    {"tcp_ping_pong", m_tcp, 2000, 300},
    {"tcp_64k", m_tcp_bulk, 512, 100},
};

int main(int argc, char **argv)
{
    struct rlimit files = {2048, 2048};
    setrlimit(RLIMIT_NOFILE, &files);
    m_empty(1000);
    int64_t empty = m_empty(10000) * 100 / 10000;
    for (size_t i = 0; i < sizeof measures / sizeof *measures; i++) {
        const struct measure *m = &measures[i];
        int n = m->rounds;
        if (argc > 2) {
            if (strcmp(argv[1], m->name))
                continue;
            n = atoi(argv[2]);
        }
        m->f(m->warm);
        printf("%s %lld\n", m->name, (long long)(m->f(n) * 100 / n - empty));
        fflush(stdout);
    }
    return 0;
}
