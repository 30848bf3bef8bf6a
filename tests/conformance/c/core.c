/* core: RLIMIT_CORE, core_pattern, PR_SET_DUMPABLE and what is in the file. */
#include "ptrace.h"
#include <sys/procfs.h>

static char *shared;
static volatile int *nowhere;

static void write_to(const char *file, const char *s)
{
	int fd = open(file, O_WRONLY);
	errno = 0;
	long r = write(fd, s, strlen(s));
	result(s, r, errno);
	close(fd);
}

static int crash(void (*f)(void), unsigned long limit)
{
	int st;
	struct rlimit l = { limit, RLIM_INFINITY };
	pid_t p = fork();
	if (!p) {
		setrlimit(RLIMIT_CORE, &l);
		f();
		*nowhere = 1;
	}
	waitpid(p, &st, 0);
	return st;
}

static void nothing(void) { }
static void undumpable(void) { prctl(PR_SET_DUMPABLE, 0); }
static void aborts(void) { abort(); }
static void terms(void) { raise(SIGTERM); }
static void quits(void) { signal(SIGQUIT, SIG_DFL); raise(SIGQUIT); }

static void here(void)
{
	mkdir("/tmp/core-test", 0777);
	MUST(chdir("/tmp/core-test"));
	unlink("core");
	write_to("/proc/sys/kernel/core_pattern", "core");
}

static void gone(void)
{
	struct stat s;
	if (stat("core", &s))
		say("no core: %s", errname(errno));
	else
		say("core of mode %o, links %d, uid %d, empty %d", s.st_mode, (int)s.st_nlink, s.st_uid, s.st_size == 0);
	unlink("core");
}

CASE(limit, prlimit64)
{
	here();
	status("0", crash(nothing, 0)); gone();
	status("1", crash(nothing, 1)); gone();
	status("4095", crash(nothing, 4095)); gone();
	status("all", crash(nothing, RLIM_INFINITY)); gone();
}

CASE(actions)
{
	here();
	status("abort", crash(aborts, RLIM_INFINITY)); gone();
	status("SIGQUIT", crash(quits, RLIM_INFINITY)); gone();
	status("SIGTERM", crash(terms, RLIM_INFINITY)); gone();
}

CASE(dumpable, prctl)
{
	here();
	status("undumpable", crash(undumpable, RLIM_INFINITY)); gone();
}

CASE(waitid, waitid)
{
	siginfo_t si;
	struct rlimit l = { RLIM_INFINITY, RLIM_INFINITY };
	here();
	pid_t p = fork();
	if (!p) {
		setrlimit(RLIMIT_CORE, &l);
		abort();
	}
	R(waitid(P_PID, p, &si, WEXITED)); say("code %d status %d", si.si_code, si.si_status);
	gone();
}

CASE(pattern)
{
	char name[64];
	struct stat s;
	here();
	write_to("/proc/sys/kernel/core_pattern", "x.%e.%s.%u.%%.%f.%c%");
	status("named", crash(nothing, 1 << 30));
	R(stat("x.core.11.0.%.core.1073741824", &s)); unlink("x.core.11.0.%.core.1073741824");
	write_to("/proc/sys/kernel/core_pattern", "/tmp/core-test/deep/core");
	status("no such folder", crash(nothing, 1 << 30));
	write_to("/proc/sys/kernel/core_pattern", "");
	write_to("/proc/sys/kernel/core_pattern", "\n");
	status("none", crash(nothing, 1 << 30)); gone();
	write_to("/proc/sys/kernel/core_pattern", "core");
	write_to("/proc/sys/kernel/core_uses_pid", "1");
	pid_t p = fork();
	struct rlimit l = { RLIM_INFINITY, RLIM_INFINITY };
	if (!p) {
		setrlimit(RLIMIT_CORE, &l);
		abort();
	}
	int st;
	waitpid(p, &st, 0);
	status("with its number", st);
	snprintf(name, sizeof name, "core.%d", p);
	R(stat(name, &s)); unlink(name);
	write_to("/proc/sys/kernel/core_uses_pid", "0");
}

CASE(inplace)
{
	/* What stands in its place: a file goes, a link is not followed, a folder is in the way. */
	here();
	close(open("core", O_CREAT | O_WRONLY, 0644));
	status("a file", crash(nothing, RLIM_INFINITY)); gone();
	symlink("elsewhere", "core");
	status("a link", crash(nothing, RLIM_INFINITY)); gone();
	mkdir("core", 0755);
	status("a folder", crash(nothing, RLIM_INFINITY));
	rmdir("core");
	umask(0777);
	status("umask", crash(nothing, RLIM_INFINITY)); gone();
}

static void *thread_naps(void *a) { (void)a; for (;;) pause(); return 0; }
static volatile long marker = 0x6d61726b6d61726b;

static void threads(void)
{
	pthread_t t;
	pthread_create(&t, 0, thread_naps, 0);
	pthread_create(&t, 0, thread_naps, 0);
	marker = 0x746f756368656421;
}

CASE(notes)
{
	static char b[16 << 20];
	here();
	status("dumped", crash(threads, RLIM_INFINITY));
	int fd = open("core", O_RDONLY), n = read(fd, b, sizeof b);
	close(fd);
	unlink("core");
	Elf64_Ehdr *e = (void *)b;
	Elf64_Phdr *ph = (void *)(b + e->e_phoff);
	if (n < 4096)
		return say("no core");
	say("type %d machine %d phoff %d", e->e_type, e->e_machine, (int)e->e_phoff);
	int threads = 0, marked = 0;
	for (char *at = b + ph->p_offset; at < b + ph->p_offset + ph->p_filesz;) {
		Elf64_Nhdr *h = (void *)at;
		char *desc = at + sizeof *h + ((h->n_namesz + 3) & ~3);
		say("note %x %s %s", h->n_type, at + sizeof *h, h->n_type == NT_PRSTATUS ? "of a thread" : h->n_descsz > 0 ? "with something" : "empty");
		if (h->n_type == NT_PRSTATUS) {
			struct elf_prstatus *s = (void *)desc;
			say("  size %d signal %d fp %d cs %lx", (int)h->n_descsz, s->pr_cursig, s->pr_fpvalid, (long)s->pr_reg[17]);
			threads++;
		} else if (h->n_type == NT_PRPSINFO) {
			struct elf_prpsinfo *s = (void *)desc;
			say("  size %d fname %s args %s", (int)h->n_descsz, s->pr_fname, s->pr_psargs);
		} else if (h->n_type == 0x53494749) {
			siginfo_t *s = (void *)desc;
			say("  signo %d code %d addr %lx", s->si_signo, s->si_code, (long)s->si_addr);
		}
		at = desc + ((h->n_descsz + 3) & ~3);
	}
	for (int i = 1; i < e->e_phnum; i++)
		if ((unsigned long)&marker >= ph[i].p_vaddr && (unsigned long)&marker < ph[i].p_vaddr + ph[i].p_filesz)
			marked = *(long *)(b + ph[i].p_offset + ((unsigned long)&marker - ph[i].p_vaddr)) == 0x746f756368656421;
	say("%d threads, memory as it was %d", threads, marked);
}

static void big(void) { shared = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); memset(shared, 7, 1 << 20); }
static void big_private(void) { shared = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); memset(shared, 7, 1 << 20); }
static void big_without(void) { big_private(); madvise(shared, 1 << 20, MADV_DONTDUMP); }

static void filtered(const char *what, const char *filter, void (*f)(void))
{
	struct stat s = {0};
	int fd = open("/proc/self/coredump_filter", O_WRONLY);
	write(fd, filter, strlen(filter));
	close(fd);
	crash(f, RLIM_INFINITY);
	stat("core", &s);
	say("%s, filter %s: a megabyte is in it: %d", what, filter, s.st_size > 1 << 20);
	unlink("core");
}

CASE(filter)
{
	here();
	filtered("shared", "0x33", big); filtered("shared", "0x31", big); filtered("private", "0x33", big_private); filtered("private", "0x32", big_private); filtered("MADV_DONTDUMP", "0x33", big_without); filtered("nothing", "0x33", nothing);
}

CASE(traced, ptrace)
{
	/* The tracer sees the signal first, and the status of a dump at the end. */
	here();
	pid_t p = traced(aborts, PTRACE_O_TRACEEXIT);
	struct rlimit l = { RLIM_INFINITY, RLIM_INFINITY };
	prlimit(p, RLIMIT_CORE, &l, 0);
	long v = 0;
	PT(CONT, p, 0, 0); next("abort", p);
	PT(CONT, p, 0, SIGABRT); next("exit", p);
	PT(GETEVENTMSG, p, 0, (long)&v); say("message %lx", v);
	PT(CONT, p, 0, 0); next("end", p);
	gone();
}

CASES
