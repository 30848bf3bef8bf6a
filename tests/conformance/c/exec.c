/*
 * exec: execve and execveat: what is refused and in which order, limits of arguments, scripts,
 * descriptors, busy texts, what a new program keeps and what it loses, threads that exec.
 */
#include "proc.h"
#include <elf.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

static const char *self = "/proc/self/exe";
static char *none[] = { 0 };
static char img[4 << 20];
static long imglen;

static void file(const char *path, const void *data, long n, int mode)
{
	unlink(path);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0700);
	write(fd, data, n);
	fchmod(fd, mode);
	close(fd);
}
static void text(const char *path, const char *s) { file(path, s, strlen(s), 0755); }

static char *args[20], *env_[] = { "E=1", 0 };

/* runs prints what became of exec in a child: its errno, or the new program's lines. */
#define RUN(what, call) do { \
	int st_; pid_t p_ = fork(); \
	if (!p_) { errno = 0; call; say("%s = %s", what, errname(errno)); _exit(90); } \
	waitpid(p_, &st_, 0); if (!WIFEXITED(st_) || WEXITSTATUS(st_) != 90) status(what, st_); } while (0)
#define E(path, ...) RUN("execve " path, execve(path, ((char *[]){ __VA_ARGS__ __VA_OPT__(,) 0 }), env_))

static void refused(void)
{
	say("-- refused");
	mkdir("/tmp/dir", 0755);
	text("/tmp/plain", "hello\n"); chmod("/tmp/plain", 0644);
	file("/tmp/empty", "", 0, 0755); file("/tmp/one", "#", 1, 0755); file("/tmp/two", "#!", 2, 0755); file("/tmp/text", "echo hello\n", 11, 0755); file("/tmp/noexec", img, imglen, 0644); file("/tmp/good", img, imglen, 0755);
	symlink("good", "/tmp/link"); symlink("loop", "/tmp/loop"); symlink("nothing", "/tmp/dangle"); mkfifo("/tmp/fifo", 0777); mknod("/tmp/null", S_IFCHR | 0777, makedev(1, 3));
	E("", "x"); E("/tmp/none", "x"); E("/tmp/none/x", "x"); E("/tmp/plain/x", "x"); E("/tmp/plain", "x"); E("/tmp/dir", "x"); E("/tmp/dir/", "x"); E("/tmp/good/", "x"); E("/tmp/fifo", "x"); E("/tmp/null", "x"); E("/tmp/loop", "x"); E("/tmp/dangle", "x");
	E("/tmp/empty", "x"); E("/tmp/one", "x"); E("/tmp/two", "x"); E("/tmp/text", "x"); E("/tmp/noexec", "x"); E("/tmp/link", "x", "print", "through a link");
	static char longname[5000];
	memset(longname, 'a', sizeof longname - 1);
	RUN("long component", execve(longname, none, none));
	memset(longname, '/', sizeof longname - 1);
	RUN("long path", execve(longname, none, none));
	longname[4095] = 0;
	RUN("4095 slashes", execve(longname, none, none));
	RUN("path fault", execve((char *)8, none, none)); RUN("argv fault", execve("/tmp/good", (char **)8, none)); RUN("envp fault", execve("/tmp/good", none, (char **)8)); RUN("argument fault", execve("/tmp/good", (char *[]){ (char *)8, 0 }, none)); RUN("argv fault of none", execve("/tmp/none", (char **)8, none)); RUN("path before argv", execve("", (char **)8, none));
	char *page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(page + 4096, 4096);
	char **edge = (char **)(page + 4096 - 8);
	*edge = "x";
	RUN("argv runs off", execve("/tmp/good", edge, none));
	memset(page + 4000, 'x', 88);
	RUN("argument runs off", execve("/tmp/good", (char *[]){ memset(page + 4000, 'x', 96), 0 }, none));
	say("-- not as root");
	int st;
	IN_CHILD(st, {
		setresgid(1000, 1000, 1000); setresuid(1000, 1000, 1000);
		chdir("/tmp");
		E("/tmp/plain", "x"); E("/tmp/good", "x", "print", "as user");
	});
	file("/tmp/unread", img, imglen, 0111); file("/tmp/noother", img, imglen, 0770); text("/tmp/script-unread", "#!/tmp/good\n"); chmod("/tmp/script-unread", 0111); mkdir("/tmp/shut", 0700); file("/tmp/shut/good", img, imglen, 0755);
	text("/tmp/through-shut", "#!/tmp/shut/good\n");
	IN_CHILD(st, {
		setresgid(1000, 1000, 1000); setresuid(1000, 1000, 1000);
		E("/tmp/unread", "x", "print", "unreadable"); E("/tmp/unread", "x", "dumpable"); E("/tmp/good", "x", "dumpable"); E("/tmp/noother", "x"); E("/tmp/script-unread", "x", "y"); E("/tmp/shut/good", "x"); E("/tmp/through-shut", "x");
	});
	E("/tmp/unread", "x", "dumpable");
}

static void patch(const char *what, size_t off, const void *v, size_t n)
{
	static char b[sizeof img];
	memcpy(b, img, imglen);
	memcpy(b + off, v, n);
	file("/tmp/bad", b, imglen, 0755);
	RUN(what, execve("/tmp/bad", ((char *[]){ "bad", "quiet", 0 }), none));
}
#define P(field, val) do { Elf64_Ehdr h_; __typeof__(h_.field) v_ = val; patch("e_" #field " " #val, offsetof(Elf64_Ehdr, field), &v_, sizeof v_); } while (0)

static void images(void)
{
	say("-- images");
	P(e_type, ET_REL); P(e_type, ET_CORE); P(e_machine, EM_AARCH64); P(e_machine, EM_386); P(e_phentsize, 32); P(e_phnum, 0); P(e_phnum, 2000); P(e_phoff, 1UL << 40); P(e_phoff, -1UL); P(e_version, 7);
	patch("magic", 0, "\x7f" "ELG", 4); patch("class 32", EI_CLASS, "\1", 1); patch("big endian", EI_DATA, "\2", 1); patch("OS", EI_OSABI, "\xff", 1);
	static const int cut[] = { 3, 4, 16, 63, 64, 100, 300 };
	for (unsigned i = 0; i < sizeof cut / sizeof *cut; i++) {
		file("/tmp/cut", img, cut[i], 0755);
		say("cut to %d", cut[i]);
		E("/tmp/cut", "x");
	}
	/* An interpreter: missing, no ELF, a directory, not executable, of another machine. */
	static char b[4096];
	Elf64_Ehdr *h = (void *)b;
	Elf64_Phdr *ph = (void *)(b + 64);
	memcpy(h->e_ident, "\x7f" "ELF\2\1\1", 7);
	h->e_type = ET_DYN; h->e_machine = EM_X86_64; h->e_version = 1; h->e_phoff = 64; h->e_phentsize = 56; h->e_phnum = 2; h->e_ehsize = 64; h->e_entry = 0x1000;
	ph[0] = (Elf64_Phdr){ PT_INTERP, PF_R, 512, 0, 0, 0, 0, 1 };
	ph[1] = (Elf64_Phdr){ PT_LOAD, PF_R | PF_X, 0, 0, 0, 4096, 4096, 4096 };
	static const char *const interp[] = { "/tmp/none", "/tmp/text", "/tmp/dir", "/tmp/plain", "/tmp/cut", "/tmp/noexec", "", "/tmp/fifo" };
	for (unsigned i = 0; i < sizeof interp / sizeof *interp; i++) {
		strcpy(b + 512, interp[i]);
		ph[0].p_filesz = ph[0].p_memsz = strlen(interp[i]) + 1;
		file("/tmp/withinterp", b, sizeof b, 0755);
		say("interpreter '%s'", interp[i]);
		E("/tmp/withinterp", "x");
	}
	ph[0].p_filesz = 1; file("/tmp/withinterp", b, sizeof b, 0755); E("/tmp/withinterp", "x");
	ph[0].p_filesz = 5000; file("/tmp/withinterp", b, sizeof b, 0755); E("/tmp/withinterp", "x");
	ph[0].p_filesz = 5; memset(b + 512, 'x', 5); file("/tmp/withinterp", b, sizeof b, 0755); E("/tmp/withinterp", "x");
	ph[0].p_offset = 1 << 20; file("/tmp/withinterp", b, sizeof b, 0755); E("/tmp/withinterp", "x");
	/* Segments that cannot be: the old program is gone by then. */
	h->e_phnum = 1; h->e_type = ET_EXEC;
	static const Elf64_Phdr bad[] = {
		{ PT_LOAD, PF_R, 0, 0x7fffffffe000, 0, 0x10000, 0x10000, 4096 }, { PT_LOAD, PF_R, 0, 0xffff800000000000, 0, 0x1000, 0x1000, 4096 },
		{ PT_LOAD, PF_R, 0, 0x10000, 0, 0x2000, 0x1000, 4096 }, { PT_LOAD, PF_R, 1, 0x10000, 0, 0x1000, 0x1000, 4096 }, { PT_LOAD, PF_R, 0, 0, 0, 0x1000, 0x1000, 4096 }, { PT_NOTE, PF_R, 0, 0x10000, 0, 0x1000, 0x1000, 4096 },
	};
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
		ph[0] = bad[i];
		file("/tmp/badseg", b, sizeof b, 0755);
		say("segment %u", i);
		E("/tmp/badseg", "x");
	}
}

static char *big(size_t n) { char *p = malloc(n + 1); memset(p, 'a', n); p[n] = 0; return p; }
static void many(size_t n, size_t len, unsigned long stack)
{
	int st;
	IN_CHILD(st, {
		struct rlimit rl = { stack, RLIM_INFINITY };
		setrlimit(RLIMIT_STACK, &rl);
		char **v = calloc(n + 4, sizeof *v);
		char *s = big(len);
		v[0] = "good"; v[1] = "count";
		for (size_t i = 2; i < n + 2; i++)
			v[i] = s;
		char what[100];
		snprintf(what, sizeof what, "%zu of %zu bytes, stack limit %lu", n, len, stack);
		RUN(what, execve("/tmp/good", v, none));
	});
}

static void limits(void)
{
	say("-- limits");
	RUN("131071 bytes", execve("/tmp/good", ((char *[]){ "x", "count", big(131071), 0 }), none)); RUN("131072 bytes", execve("/tmp/good", ((char *[]){ "x", "count", big(131072), 0 }), none));
	RUN("environment 131072", execve("/tmp/good", ((char *[]){ "x", "count", 0 }), ((char *[]){ big(131072), 0 })));
	many(10, 100000, 8 << 20); many(20, 100000, 8 << 20); many(21, 100000, 8 << 20); many(20, 104000, 8 << 20); many(21, 104000, 8 << 20);
	many(1, 100000, 4096); many(1, 130000, 4096); many(2, 65000, 0); many(60, 100000, 64 << 20); many(63, 100000, 64 << 20); many(60, 100000, RLIM_INFINITY); many(63, 100000, RLIM_INFINITY);
	many(10000, 1, 8 << 20); many(100000, 1, 8 << 20); many(200000, 1, 8 << 20); many(220000, 1, 8 << 20); many(300000, 0, 8 << 20);
	RUN("no argv", execve("/tmp/good", 0, 0)); RUN("empty argv", execve("/tmp/good", none, none));
}

static void scripts(void)
{
	static const char *const s[] = { "#!/tmp/good\n", "#!/tmp/good print\n", "#! /tmp/good   print \n", "#!\t/tmp/good\tprint\tb c \t\n", "#!/tmp/good print", "#!/tmp/good", "#!\n", "#! \n", "#!/tmp/none\n", "#!/tmp/dir\n", "#!/tmp/plain\n", "#!/tmp/text\n", "#!relative\n", "#!good print\n", "#!/tmp/good print\r\n", "# !/tmp/good\n", "#!/tmp/good\0print\n" };
	say("-- scripts");
	chdir("/tmp");
	for (unsigned i = 0; i < sizeof s / sizeof *s; i++) {
		file("/tmp/s", s[i], i == 16 ? 18 : strlen(s[i]), 0755);
		say("script %u", i);
		E("/tmp/s", "argv0", "print", "last");
	}
	text("/tmp/s", "#!/tmp/good print\n");
	RUN("relative", execve("s", ((char *[]){ "zero", "one", 0 }), none)); RUN("dot", execve("./s", ((char *[]){ "zero", "one", 0 }), none)); RUN("no argv", execve("/tmp/s", none, none));
	char b[600];
	for (int n = 240; n < 262; n += 3) { /* the first 256 bytes count */
		memset(b, ' ', sizeof b);
		memcpy(b, "#!/tmp/good print", 17);
		b[n] = 'z';
		b[n + 1] = '\n';
		file("/tmp/s", b, n + 2, 0755);
		say("argument at %d", n);
		E("/tmp/s", "a");
	}
	static const int len[] = { 252, 253, 254, 255, 256, 257 };
	for (unsigned i = 0; i < 6; i++) { /* a name that may be cut */
		strcpy(b, "#!/tmp/");
		memset(b + 7, 'n', 400);
		b[len[i]] = '\n';
		file("/tmp/s", b, 300, 0755);
		say("name ends at %d", len[i]);
		E("/tmp/s", "a");
	}
	text("/tmp/n0", "#!/tmp/good print\n");
	for (int i = 1; i < 7; i++) {
		char name[20], body[40];
		snprintf(name, sizeof name, "/tmp/n%d", i);
		snprintf(body, sizeof body, "#!/tmp/n%d arg%d\n", i - 1, i);
		text(name, body);
		say("nested %d", i);
		RUN("nested", execve(name, ((char *[]){ "zero", "one", 0 }), none));
	}
	text("/tmp/self", "#!/tmp/self\n");
	E("/tmp/self", "x");
	chdir("/");
}

static void at(void)
{
	say("-- execveat");
	int d = open("/tmp", O_RDONLY | O_DIRECTORY), f = open("/tmp/good", O_RDONLY), p = open("/tmp/good", O_PATH), c = open("/tmp/good", O_RDONLY | O_CLOEXEC), w, s = open("/tmp/s", O_RDONLY), sc = open("/tmp/s", O_RDONLY | O_CLOEXEC), pl = open("/tmp/plain", O_RDONLY), pp[2];
	pipe(pp);
	text("/tmp/s", "#!/tmp/good print\n");
	close(s); close(sc);
	s = open("/tmp/s", O_RDONLY); sc = open("/tmp/s", O_RDONLY | O_CLOEXEC); fcntl(d, F_SETFD, 0);
	char *a[] = { "zero", "print", 0 };
#define AT(fd, path, fl) RUN("execveat " #fd " '" path "' " #fl, syscall(SYS_execveat, fd, path, a, none, fl))
	AT(-1, "good", 0); AT(99, "good", 0); AT(99, "/tmp/good", 0); AT(f, "good", 0); AT(pl, "", AT_EMPTY_PATH); AT(d, "", AT_EMPTY_PATH); AT(pp[0], "", AT_EMPTY_PATH); AT(-1, "", AT_EMPTY_PATH); AT(d, "", 0); AT(AT_FDCWD, "", AT_EMPTY_PATH); AT(AT_FDCWD, "/tmp/good", 0x10); AT(AT_FDCWD, "/tmp/good", AT_SYMLINK_FOLLOW); AT(d, "link", AT_SYMLINK_NOFOLLOW); AT(d, "nothing", 0); AT(d, "plain", 0); AT(99, "good", 0x10);
	AT(d, "good", 0); AT(d, "link", 0); AT(d, "./good", 0); AT(d, "good", AT_EMPTY_PATH); AT(f, "", AT_EMPTY_PATH); AT(p, "", AT_EMPTY_PATH); AT(c, "", AT_EMPTY_PATH); AT(AT_FDCWD, "tmp/good", 0);
	AT(s, "", AT_EMPTY_PATH); AT(sc, "", AT_EMPTY_PATH); AT(d, "s", 0);
	RUN("fd 8 argv", syscall(SYS_execveat, f, "", 8, none, AT_EMPTY_PATH)); RUN("flags after argv", syscall(SYS_execveat, f, "", 8, none, 0x10)); RUN("path fault", syscall(SYS_execveat, f, 8, a, none, 0));
	fcntl(d, F_SETFD, FD_CLOEXEC);
	AT(d, "s", 0); AT(d, "good", 0);
	int m = memfd_create("prog", 0);
	write(m, img, imglen);
	AT(m, "", AT_EMPTY_PATH);
	char self[40];
	sprintf(self, "/proc/self/fd/%d", m);
	int mp = open(self, O_PATH), mr = open(self, O_RDONLY);
	AT(mp, "", AT_EMPTY_PATH); AT(mr, "", AT_EMPTY_PATH);
	for (w = 0; w < 3; w++)
		RUN("/proc/self/fd of memory", ({ char n[40]; snprintf(n, sizeof n, "/proc/self/fd/%d", (int[]){ m, mp, mr }[w]); execve(n, ((char *[]){ "zero", "quiet", 0 }), none); }));
	fchmod(m, 0644);
	RUN("/proc/self/fd of memory, not executable", execve(self, ((char *[]){ "zero", "quiet", 0 }), none));
	RUN("/proc/self/fd of a pipe", ({ char n[40]; snprintf(n, sizeof n, "/proc/self/fd/%d", pp[0]); execve(n, ((char *[]){ "zero", "quiet", 0 }), none); }));
	RUN("/proc/self/fd", ({ char n[40]; snprintf(n, sizeof n, "/proc/self/fd/%d", f); execve(n, ((char *[]){ "zero", "quiet", 0 }), none); }));
	RUN("/proc/self/fd O_PATH", ({ char n[40]; snprintf(n, sizeof n, "/proc/self/fd/%d", p); execve(n, ((char *[]){ "zero", "quiet", 0 }), none); }));
	int dead = open("/tmp/good", O_RDONLY);
	file("/tmp/good2", img, imglen, 0755);
	int gone = open("/tmp/good2", O_RDONLY);
	unlink("/tmp/good2");
	AT(gone, "", AT_EMPTY_PATH);
	for (w = 3; w < 40; w++)
		close(w);
	(void)dead;
}

static void busy(void)
{
	int st;
	say("-- busy texts");
	file("/tmp/busy", img, imglen, 0755);
	int w = open("/tmp/busy", O_WRONLY);
	E("/tmp/busy", "x", "quiet");
	int r = open("/tmp/busy", O_RDONLY);
	RUN("by descriptor", syscall(SYS_execveat, r, "", ((char *[]){ "x", "quiet", 0 }), none, AT_EMPTY_PATH));
	close(w);
	E("/tmp/busy", "x", "quiet");
	w = open("/tmp/busy", O_RDWR);
	E("/tmp/busy", "x", "quiet");
	text("/tmp/s", "#!/tmp/busy quiet\n");
	E("/tmp/s", "x");
	close(w);
	w = open("/tmp/s", O_WRONLY | O_APPEND);
	E("/tmp/s", "x");
	close(w);
	/* A writable shared mapping keeps it busy, a dup and a fork as well. */
	w = open("/tmp/busy", O_RDWR);
	char *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, w, 0);
	close(w);
	E("/tmp/busy", "x", "quiet");
	munmap(m, 4096);
	E("/tmp/busy", "x", "quiet");
	int pp[2], back[2];
	pipe(pp); pipe(back);
	pid_t p = fork();
	if (!p) {
		dup2(pp[0], 0); dup2(back[1], 9);
		execve("/tmp/busy", ((char *[]){ "x", "hold", 0 }), none);
		_exit(91);
	}
	char c;
	read(back[0], &c, 1);
	R(open("/tmp/busy", O_WRONLY)); R(open("/tmp/busy", O_RDWR)); R(open("/tmp/busy", O_WRONLY | O_TRUNC)); R(open("/tmp/busy", O_RDONLY | O_TRUNC)); R(open("/tmp/busy", O_WRONLY | O_CREAT, 0600)); R(truncate("/tmp/busy", 10)); R(open("/tmp/busy", O_RDWR | O_CREAT | O_EXCL, 0600));
	OK(r = open("/tmp/busy", O_RDONLY)); R(ftruncate(r, 10)); R(chmod("/tmp/busy", 0755)); R(link("/tmp/busy", "/tmp/busy3")); R(open("/tmp/busy3", O_WRONLY)); R(rename("/tmp/busy3", "/tmp/busy4")); R(unlink("/tmp/busy4"));
	m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, r, 0);
	IS(m != MAP_FAILED);
	m[0] = 1;
	R(unlink("/tmp/busy")); OK(open("/tmp/busy", O_WRONLY | O_CREAT, 0700));
	unlink("/tmp/busy");
	write(pp[1], "x", 1);
	waitpid(p, &st, 0);
	status("held", st);
	file("/tmp/busy", img, imglen, 0755);
	E("/tmp/busy", "x", "quiet");
	OK(w = open("/tmp/busy", O_WRONLY));
	for (w = 3; w < 40; w++)
		close(w);
	/* fork keeps the text busy, exec lets it go. */
	pipe(pp); pipe(back);
	p = fork();
	if (!p) {
		dup2(pp[0], 0); dup2(back[1], 9);
		execve("/tmp/busy", ((char *[]){ "x", "holdfork", 0 }), none);
		_exit(91);
	}
	read(back[0], &c, 1);
	R(open("/tmp/busy", O_WRONLY));
	write(pp[1], "x", 1);
	waitpid(p, &st, 0);
	status("held by a child", st);
	nap(20);
	OK(open("/tmp/busy", O_WRONLY));
	for (w = 3; w < 40; w++)
		close(w);
}

static void on(int s) { (void)s; }
static void *sleeps(void *p) { for (;;) pause(); return p; }
static void *execs(void *p) { execve("/tmp/good", p, env_); _exit(92); }
static void *execs_bad(void *p) { long r = execve("/tmp/none", p, env_); R(r); return p; }

static void personality_(void) { syscall(SYS_personality, 0x0040000); }
static void setenv_pid(void) { static char b[40]; snprintf(b, sizeof b, "PID=%d", getpid()); env_[0] = b; }

static void kept(void)
{
	int st;
	say("-- kept and lost");
	IN_CHILD(st, {
		signal(SIGUSR1, on); signal(SIGUSR2, SIG_IGN); signal(SIGCHLD, SIG_IGN);
		sigset_t s; sigemptyset(&s); sigaddset(&s, SIGTERM); sigaddset(&s, SIGUSR1); sigprocmask(SIG_BLOCK, &s, 0);
		raise(SIGTERM); raise(SIGUSR1);
		stack_t ss = { malloc(65536), 0, 65536 }; sigaltstack(&ss, 0);
		prctl(PR_SET_NAME, "oldname"); prctl(PR_SET_PDEATHSIG, SIGUSR2); prctl(PR_SET_KEEPCAPS, 1); prctl(PR_SET_CHILD_SUBREAPER, 1); prctl(PR_SET_TIMERSLACK, 123456); prctl(PR_SET_DUMPABLE, 0); prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		struct itimerval it = { { 0, 0 }, { 1000, 0 } }; setitimer(ITIMER_REAL, &it, 0); setitimer(ITIMER_VIRTUAL, &it, 0);
		timer_t tm; timer_create(CLOCK_MONOTONIC, 0, &tm); timer_settime(tm, 0, &(struct itimerspec){ .it_value = { 0, 600000000 } }, 0);
		mlockall(MCL_FUTURE);
		nice(3); umask(031); chdir("/tmp"); personality_(); setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 77 });
		for (int i = 3; i < 20; i++) close(i);
		open("/dev/null", O_RDONLY); open("/dev/null", O_RDONLY | O_CLOEXEC); dup3(1, 10, O_CLOEXEC); dup2(1, 11); fcntl(1, F_DUPFD_CLOEXEC, 12);
		execve("/tmp/good", ((char *[]){ "good", "kept", 0 }), env_);
		_exit(93);
	});
	status("kept", st);
	file("/tmp/moves", img, imglen, 0755);
	E("/tmp/moves", "x", "moved");
	say("-- threads");
	static char *a[] = { "good", "leader", 0 };
	IN_CHILD(st, {
		pthread_t t;
		for (int i = 0; i < 5; i++) pthread_create(&t, 0, sleeps, 0);
		setenv_pid();
		execs(a);
	});
	status("the leader", st);
	IN_CHILD(st, {
		pthread_t t;
		for (int i = 0; i < 5; i++) pthread_create(&t, 0, sleeps, 0);
		setenv_pid();
		pthread_create(&t, 0, execs, a);
		for (;;) pause();
	});
	status("another", st);
	IN_CHILD(st, {
		pthread_t t;
		setenv_pid();
		pthread_create(&t, 0, execs, a);
		syscall(SYS_exit, 1); /* the leader may be gone */
	});
	status("another without a leader", st);
	IN_CHILD(st, {
		pthread_t t;
		setenv_pid();
		for (int i = 0; i < 4; i++) pthread_create(&t, 0, execs, a);
		for (;;) pause();
	});
	status("four at a time", st);
	IN_CHILD(st, {
		pthread_t t;
		pthread_create(&t, 0, execs_bad, a);
		pthread_join(t, 0);
		_exit(5);
	});
	status("one that fails", st);
	IN_CHILD(st, { /* vfork: the parent's memory is left alone */
		volatile int x = 1;
		if (!vfork()) { x = 2; execve("/tmp/good", ((char *[]){ "good", "quiet", 0 }), none); _exit(94); }
		R(x);
		wait(&st); status("vfork exec", st);
	});
	IN_CHILD(st, { /* a descriptor table shared with another process is unshared */
		static char stk[65536];
		int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		pid_t p = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
		if (!p) { execve("/tmp/good", ((char *[]){ "good", "quiet", 0 }), none); _exit(95); }
		waitpid(p, &st, 0);
		R(fcntl(fd, F_GETFD));
	});
	for (int sig = 0; sig <= SIGUSR1; sig += SIGUSR1) { /* a child with another signal: the new program gets SIGCHLD */
		IN_CHILD(st, {
			int pp[2];
			sigset_t s; sigemptyset(&s); sigaddset(&s, SIGUSR1); sigaddset(&s, SIGCHLD); sigprocmask(SIG_BLOCK, &s, 0);
			pipe2(pp, O_CLOEXEC);
			if (!syscall(SYS_clone, sig, 0, 0, 0, 0)) { close(pp[1]); read(pp[0], &st, 1); _exit(6); }
			execve("/tmp/good", ((char *[]){ "good", "parent", 0 }), none);
			_exit(96);
		});
		status("exit signal", st);
	}
	say("-- noexec and nosuid mounts");
	mkdir("/tmp/mnt", 0755);
	R(mount("none", "/tmp/mnt", "tmpfs", MS_NOEXEC, 0));
	file("/tmp/mnt/good", img, imglen, 0755); text("/tmp/mnt/s", "#!/tmp/good print\n"); text("/tmp/s", "#!/tmp/mnt/good print\n");
	E("/tmp/mnt/good", "x", "print"); E("/tmp/mnt/s", "x"); E("/tmp/s", "x");
	umount("/tmp/mnt");
}

static void lines(void)
{
	char b[4096], *l, *save;
	int fd = open("/proc/self/status", O_RDONLY), n = read(fd, b, sizeof b - 1);
	b[n > 0 ? n : 0] = 0;
	close(fd);
	for (l = strtok_r(b, "\n", &save); l; l = strtok_r(0, "\n", &save))
		if (!strncmp(l, "Name:", 5) || !strncmp(l, "Threads:", 8) || !strncmp(l, "Sig", 3) && strncmp(l, "SigQ", 4) || !strncmp(l, "ShdPnd", 6) || !strncmp(l, "NoNewPrivs", 10) || !strncmp(l, "Umask", 5) || !strncmp(l, "VmLck", 5))
			say("%s", l);
}

/* mapped says under which name the program's own text is mapped. */
static void mapped(void)
{
	static char b[4096];
	int fd = open("/proc/self/maps", O_RDONLY);
	b[read(fd, b, sizeof b - 1)] = 0;
	close(fd);
	*strchr(b, '\n') = 0;
	say("mapped as %s", strchr(b, '/') ? strchr(b, '/') : "nothing");
}

static int program(int argc, char **argv, char **env)
{
	const char *c = argc > 1 ? argv[1] : "none";
	if (!strcmp(c, "quiet"))
		return 20;
	if (!strcmp(c, "count")) {
		say("argc %d", argc);
		return 21;
	}
	if (!strcmp(c, "dumpable")) {
		R(prctl(PR_GET_DUMPABLE));
		return 22;
	}
	if (!strcmp(c, "hold") || !strcmp(c, "holdfork")) {
		if (!strcmp(c, "holdfork") && fork())
			for (int st;;)
				return wait(&st) > 0 ? 23 : 24;
		if (!strcmp(c, "holdfork") && 0)
			return 1;
		write(9, "x", 1);
		read(0, &argc, 1);
		return 25;
	}
	if (!strcmp(c, "leader")) {
		IS(atoi(getenv("PID")) == getpid()); IS(syscall(SYS_gettid) == getpid());
		R(field("/proc/self/status", "Threads:"));
		return 26;
	}
	if (!strcmp(c, "parent")) {
		sigset_t s;
		int st;
		sigemptyset(&s); sigaddset(&s, SIGUSR1); sigaddset(&s, SIGCHLD);
		say("%s", sigtimedwait(&s, 0, &(struct timespec){ 3, 0 }) == SIGCHLD ? "SIGCHLD" : "another signal");
		R(waitpid(-1, &st, 0)); R(waitpid(-1, &st, __WCLONE) > 0);
		return 29;
	}
	if (!strcmp(c, "moved")) {
		mapped();
		R(rename("/tmp/moves", "/tmp/moved"));
		mapped();
		R(unlink("/tmp/moved"));
		mapped();
		return 30;
	}
	if (!strcmp(c, "kept")) {
		struct sigaction a;
		stack_t ss;
		struct itimerval it;
		int v = -1;
		char b[100];
		sigaction(SIGUSR1, 0, &a); R(a.sa_handler == SIG_DFL); sigaction(SIGUSR2, 0, &a); R(a.sa_handler == SIG_IGN); R(a.sa_flags); sigaction(SIGCHLD, 0, &a); R(a.sa_handler == SIG_IGN);
		sigaltstack(0, &ss); R(ss.ss_flags == SS_DISABLE);
		prctl(PR_GET_NAME, b); say("name %s", b);
		prctl(PR_GET_PDEATHSIG, &v); R(v); R(prctl(PR_GET_KEEPCAPS)); prctl(PR_GET_CHILD_SUBREAPER, &v); R(v); R(prctl(PR_GET_TIMERSLACK)); R(prctl(PR_GET_DUMPABLE)); R(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
		getitimer(ITIMER_REAL, &it); IS(it.it_value.tv_sec > 900); getitimer(ITIMER_VIRTUAL, &it); IS(it.it_value.tv_sec > 900);
		nap(700); /* the timer of timer_create is gone */
		R(getpriority(PRIO_PROCESS, 0)); say("cwd %s", getcwd(b, sizeof b)); R(syscall(SYS_personality, -1));
		for (int i = 3; i < 14; i++)
			if (fcntl(i, F_GETFD) >= 0)
				say("fd %d is open", i);
		R(getauxval(AT_SECURE)); say("execfn %s", (char *)getauxval(AT_EXECFN));
		lines();
		struct rlimit rl;
		getrlimit(RLIMIT_CORE, &rl); R(rl.rlim_max);
		return 27;
	}
	char out[1000];
	int n = 0;
	for (int i = 0; i < argc; i++)
		n += snprintf(out + n, sizeof out - n, " '%s'", argv[i]);
	for (int i = 0; env[i]; i++)
		n += snprintf(out + n, sizeof out - n, " %s", env[i]);
	prctl(PR_GET_NAME, out + 900);
	say("argv%s execfn %s comm %s", out, (char *)getauxval(AT_EXECFN), out + 900);
	return 28;
}

static void all(void)
{
	refused();
	images();
	limits();
	scripts();
	at();
	busy();
	kept();
}

int main(int argc, char **argv, char **env)
{
	if (getenv("TERM") == 0 || argc > 1)
		return program(argc, argv, env);
	int fd = open(self, O_RDONLY);
	imglen = read(fd, img, sizeof img);
	close(fd);
	return family(all);
}
