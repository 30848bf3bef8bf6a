/* What processes cost, by the guest's own clock (see micro.c): the mean of many
 * rounds after a warm-up, in hundredths of an instruction under -icount shift=0.
 *
 *   procs                all measures
 *   procs NAME ROUNDS    one of them, for profiles
 *   procs -              the program that the exec measure starts: it ends at once */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define COW_PAGES 256

static const char *self;
/* One page that all processes here share. */
static volatile struct shared {
    int64_t ns;
    uint32_t turn;
} *shared;

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

static void reap(pid_t pid)
{
    int status;
    if (pid < 0)
        fail("fork");
    if (waitpid(pid, &status, 0) != pid || status != 0)
        fail("waitpid");
}

static void *touched(size_t pages)
{
    char *p = mmap(0, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        fail("mmap");
    for (size_t i = 0; i < pages; i++)
        p[i * PAGE] = 1;
    return p;
}

/* A measure does n rounds and returns their time. */
static int64_t m_fork(int n)
{
    int64_t t = now();
    for (int i = 0; i < n; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        reap(pid);
    }
    return now() - t;
}

static int64_t m_fork_4mb(int n)
{
    void *p = touched(1024);
    int64_t t = m_fork(n);
    munmap(p, 1024 * PAGE);
    return t;
}

static int64_t m_exec(int n)
{
    char *const argv[] = {"procs", "-", 0}, *const env[] = {0};
    int64_t t = now();
    for (int i = 0; i < n; i++) {
        pid_t pid = vfork();
        if (pid == 0) {
            execve(self, argv, env);
            _exit(9);
        }
        reap(pid);
    }
    return now() - t;
}

static int64_t m_pipe(int n)
{
    int to[2], from[2];
    char c = 0;
    if (pipe(to) || pipe(from))
        fail("pipe");
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < n; i++)
            if (read(to[0], &c, 1) != 1 || write(from[1], &c, 1) != 1)
                _exit(1);
        _exit(0);
    }
    int64_t t = now();
    for (int i = 0; i < n; i++)
        if (write(to[1], &c, 1) != 1 || read(from[0], &c, 1) != 1)
            fail("pipe");
    t = now() - t;
    reap(pid);
    close(to[0]), close(to[1]), close(from[0]), close(from[1]);
    return t;
}

static void futex(int op, uint32_t v)
{
    syscall(SYS_futex, &shared->turn, op, v, 0, 0, 0);
}

/* turns passes the word to and fro: me is the value at which it is this process's. */
static void turns(uint32_t me, int n)
{
    for (int i = 0; i < n; i++) {
        while (shared->turn != me)
            futex(FUTEX_WAIT, !me);
        shared->turn = !me;
        futex(FUTEX_WAKE, 1);
    }
}

/* A round is one switch: two of them pass the word there and back. */
static int64_t m_futex(int n)
{
    shared->turn = 0;
    pid_t pid = fork();
    if (pid == 0) {
        turns(1, n / 2);
        _exit(0);
    }
    int64_t t = now();
    turns(0, n / 2);
    t = now() - t;
    reap(pid);
    return t;
}

/* A round is one fault: a child writes to pages that it shares with its parent. */
static int64_t m_cow(int n)
{
    char *p = touched(COW_PAGES);
    int64_t t = 0;
    for (int done = 0; done < n; done += COW_PAGES) {
        pid_t pid = fork();
        if (pid == 0) {
            int64_t s = now();
            for (int i = 0; i < COW_PAGES; i++)
                p[i * PAGE] = 2;
            shared->ns = now() - s;
            _exit(0);
        }
        reap(pid);
        t += shared->ns;
    }
    munmap(p, COW_PAGES * PAGE);
    return t;
}

static const struct measure {
    const char *name;
    int64_t (*f)(int);
    int rounds, warm;
} measures[] = {
    {"fork_exit_wait", m_fork, 400, 50},
    {"fork_exit_wait_4mb", m_fork_4mb, 200, 20},
    {"vfork_exec_wait", m_exec, 200, 30},
    {"pipe_round_trip", m_pipe, 4000, 200},
    {"futex_switch", m_futex, 8000, 200},
    {"cow_fault", m_cow, COW_PAGES * 20, COW_PAGES},
};

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "-"))
        return 0;
    self = (const char *)getauxval(AT_EXECFN);
    shared = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        fail("mmap");
    for (size_t i = 0; i < sizeof measures / sizeof *measures; i++) {
        const struct measure *m = &measures[i];
        int rounds = m->rounds;
        if (argc > 2) {
            if (strcmp(argv[1], m->name))
                continue;
            rounds = atoi(argv[2]);
        }
        m->f(m->warm);
        printf("%s %lld\n", m->name, (long long)(m->f(rounds) * 100 / rounds));
        fflush(stdout);
    }
    return 0;
}
