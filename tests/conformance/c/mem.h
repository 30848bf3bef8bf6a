/*
 * mem.h: what the programs about memory share: pages with a pattern, and touching an
 * address to see which signal comes of it.
 */
#include "ipc.h"
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>

#define PAGE 4096L
#define SC(n, ...) R(syscall(SYS_##n, ##__VA_ARGS__))

static sigjmp_buf mem_out;
static int mem_signal, mem_code;
static void *mem_addr;
__attribute__((unused)) static void mem_fault(int s, siginfo_t *si, void *u)
{
	mem_signal = s, mem_code = si->si_code, mem_addr = si->si_addr;
	siglongjmp(mem_out, 1);
}

/* FAULTS(what, address, access) says whether the access is a fault, and of which kind. */
#define FAULTS(what, addr, x) do { \
	struct sigaction a_ = { .sa_sigaction = mem_fault, .sa_flags = SA_SIGINFO }; \
	sigaction(SIGSEGV, &a_, 0), sigaction(SIGBUS, &a_, 0); \
	if (sigsetjmp(mem_out, 1) == 0) { x; say("%s: no fault", what); } \
	else say("%s: %s code %d%s", what, mem_signal == SIGBUS ? "SIGBUS" : "SIGSEGV", mem_code, (char *)mem_addr == (char *)(addr) ? "" : " at another address"); \
	signal(SIGSEGV, SIG_DFL), signal(SIGBUS, SIG_DFL); \
} while (0)
#define GET(p) FAULTS("read " #p, p, (void)*(volatile char *)(p))
#define PUT(p) FAULTS("write " #p, p, *(volatile char *)(p) = 1)

/* map is anonymous private memory of n pages, whose page i begins with 'a'+i. */
__attribute__((unused)) static char *map(int n)
{
	char *p = mmap(0, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		say("mmap: %s", errname(errno)), exit(98);
	for (int i = 0; i < n; i++)
		p[i * PAGE] = 'a' + i;
	return p;
}

/* file is a new file of n bytes, open for reading and writing. */
__attribute__((unused)) static int file(long n)
{
	char name[] = "/tmp/memXXXXXX";
	int fd = mkstemp(name);
	MUST(fd);
	unlink(name);
	MUST(ftruncate(fd, n));
	return fd;
}

/* gap is an address with n free pages behind it. */
__attribute__((unused)) static char *gap(int n)
{
	char *p = mmap(0, n * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	munmap(p, n * PAGE);
	return p;
}

/* unroot gives all privileges away. */
__attribute__((unused)) static void unroot(void) { MUST(setresuid(1000, 1000, 1000)); }

/* MAPS prints whether a mapping succeeded, and gives its address. */
#define MAPS(...) ({ errno = 0; char *m_ = mmap(__VA_ARGS__); say("mmap(%s): %s", #__VA_ARGS__, m_ == MAP_FAILED ? errname(errno) : "ok"); m_; })
#define LIMIT(res, n) do { struct rlimit l_ = { n, n }; MUST(setrlimit(res, &l_)); } while (0)
