/* landlock(7): rulesets, rules, and what a confined program may still do with files. */
#include "files.h"
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

static int create(uint64_t handled)
{
	struct landlock_ruleset_attr a = { handled };
	return syscall(SYS_landlock_create_ruleset, &a, sizeof a, 0);
}

static int allow(int set, const char *path, uint64_t rights)
{
	struct landlock_path_beneath_attr a = { rights, open(path, O_PATH | O_CLOEXEC) };
	int r = syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &a, 0), e = errno;
	close(a.parent_fd);
	errno = e;
	return r;
}

static int restrict_self(int set, unsigned flags) { return syscall(SYS_landlock_restrict_self, set, flags); }

#define ALL ((1 << 14) - 1)
#define RD (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define WR LANDLOCK_ACCESS_FS_WRITE_FILE
#define MAKE (LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)
#define REMOVE (LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE)
#define REFER LANDLOCK_ACCESS_FS_REFER

/* tree makes a, b and c, each with a file f and a directory s with a file g. */
static void tree(void)
{
	fresh("/tmp/landlock");
	for (const char *d = "abc"; *d; d++) {
		char p[16];
		snprintf(p, sizeof p, "%c", *d), mkdir(p, 0755);
		snprintf(p, sizeof p, "%c/f", *d), close(made(p, "hello"));
		snprintf(p, sizeof p, "%c/s", *d), mkdir(p, 0755);
		snprintf(p, sizeof p, "%c/s/g", *d), close(made(p, "deep"));
	}
}

CASE(rulesets, landlock_create_ruleset)
{
	struct { uint64_t handled, more; } a = { ALL, 0 };
	static char big[8192];
	R(syscall(SYS_landlock_create_ruleset, 0, 0, LANDLOCK_CREATE_RULESET_VERSION));
	R(syscall(SYS_landlock_create_ruleset, &a, sizeof a, LANDLOCK_CREATE_RULESET_VERSION));
	R(syscall(SYS_landlock_create_ruleset, 0, 8, LANDLOCK_CREATE_RULESET_VERSION));
	R(syscall(SYS_landlock_create_ruleset, &a, 8, 1 << 8));
	R(syscall(SYS_landlock_create_ruleset, 0, 8, 0));
	R(syscall(SYS_landlock_create_ruleset, &a, 7, 0));
	R(syscall(SYS_landlock_create_ruleset, &a, 0, 0));
	R(syscall(SYS_landlock_create_ruleset, 8, 8, 0));
	R(syscall(SYS_landlock_create_ruleset, big, 8192, 0));
	OK(syscall(SYS_landlock_create_ruleset, &a, 16, 0));
	a.more = 1;
	R(syscall(SYS_landlock_create_ruleset, &a, 16, 0));
	a.handled = 0;
	R(syscall(SYS_landlock_create_ruleset, &a, 8, 0));
	a.handled = ALL + 1;
	R(syscall(SYS_landlock_create_ruleset, &a, 8, 0));
	a.handled = 1ull << 40;
	R(syscall(SYS_landlock_create_ruleset, &a, 8, 0));
	int fd = create(RD);
	R(fcntl(fd, F_GETFD));
	R(fcntl(fd, F_GETFL) & O_ACCMODE);
	R(read(fd, big, 8));
	R(write(fd, big, 8));
}

CASE(rules, landlock_add_rule)
{
	tree();
	int set = create(RD | WR), f = open("a/f", O_RDONLY), p[2];
	struct landlock_path_beneath_attr a = { RD, open("a", O_PATH) };
	pipe(p);
	R(syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
	R(syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &a, 1));
	R(syscall(SYS_landlock_add_rule, -1, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
	R(syscall(SYS_landlock_add_rule, f, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
	R(syscall(SYS_landlock_add_rule, set, 0, &a, 0));
	R(syscall(SYS_landlock_add_rule, set, 2, &a, 0));
	R(syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, 0, 0));
	a.allowed_access = 0;
	R(syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
	a.allowed_access = REMOVE;
	R(syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
	a = (struct landlock_path_beneath_attr){ RD, -1 };
	R(syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
	a.parent_fd = p[0];
	R(syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
	a.parent_fd = set;
	R(syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
	a.parent_fd = f;
	R(syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
	a.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE | WR;
	R(syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
}

CASE(refused, landlock_add_rule, landlock_create_ruleset)
{
	tree();
	for (int bit = 0; bit < 15; bit++) {
		int set = create(1ull << bit), other = create(bit == 2 ? WR : RD), r = allow(other, "a", 1ull << bit);
		say("%d: %s", bit, set < 0 ? errname(EINVAL) : "made");
		say("%d: %s", bit, r < 0 ? errname(errno) : "allowed");
		r = syscall(SYS_landlock_create_ruleset, &(struct landlock_ruleset_attr){ 1ull << bit }, 7, 0);
		say("%d: %s", bit, r < 0 ? errname(errno) : "made");
	}
}

static void unprivileged(void)
{
	int set = create(RD);
	R(restrict_self(set, 0));
	R(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	R(restrict_self(set, 1));
	R(restrict_self(-1, 0));
	R(restrict_self(0, 0));
	R(restrict_self(set, 0));
	R(open("/tmp/landlock/a/f", O_RDONLY));
}

static void layers(void)
{
	int set = create(LANDLOCK_ACCESS_FS_MAKE_SOCK), i;
	for (i = 0; restrict_self(set, 0) == 0; i++)
		;
	say("%d layers: %s", i, errname(errno));
}

CASE(restricts, landlock_restrict_self)
{
	tree();
	as_user(unprivileged);
	in_child(layers);
	OK(open("/tmp/landlock/a/f", O_RDONLY));
}

static void opens(void)
{
	int set = create(ALL), kept = open("b/f", O_RDONLY), c;
	char b[8];
	R(allow(set, "a", RD));
	R(allow(set, "b/s", RD | WR));
	R(allow(set, "c/f", WR));
	R(restrict_self(set, 0));
	OK(open("a/f", O_RDONLY));
	R(open("a/f", O_WRONLY));
	R(open("a/f", O_RDWR));
	OK(open("a/s/g", O_RDONLY));
	OK(open("a", O_RDONLY));
	R(open("b/f", O_RDONLY));
	OK(open("b/f", O_PATH));
	R(open("b", O_RDONLY));
	OK(open("b/s/g", O_RDWR));
	R(open("b/s/g", O_RDWR | O_TRUNC));
	OK(open("b/s/../../a/f", O_RDONLY));
	OK(open("c/f", O_WRONLY));
	R(open("c/f", O_RDWR));
	R(open("a/new", O_CREAT | O_RDWR, 0600));
	R(open("a/f", O_CREAT | O_WRONLY, 0600));
	R(open("a/f", O_CREAT | O_EXCL | O_WRONLY, 0600));
	R(open("a", O_TMPFILE | O_RDWR, 0600));
	R(open("nosuch/f", O_RDONLY));
	R(open("a/nosuch", O_RDONLY));
	R(read(kept, b, 5));
	char link[40];
	snprintf(link, sizeof link, "/proc/self/fd/%d", kept);
	R(open(link, O_RDONLY));
	int p[2];
	pipe(p);
	snprintf(link, sizeof link, "/proc/self/fd/%d", p[1]);
	OK(open(link, O_WRONLY));
	/* Attributes are nobody's business. */
	struct stat st;
	R(stat("b/f", &st));
	R(chmod("b/f", 0600));
	R(truncate("b/f", 3));
	R(chdir("b"));
	R(access("f", R_OK));
	/* A child is confined as well, and so is what it executes. */
	if (!(c = fork()))
		_exit(open("f", O_RDONLY) < 0 ? errno : 0);
	waitpid(c, &set, 0);
	say("child: %s", errname(WEXITSTATUS(set)));
	char *args[] = { "prog", "none", 0 };
	R(execv("/proc/self/exe", args));
}

CASE(opens, landlock_restrict_self, landlock_add_rule, landlock_create_ruleset, openat, execve)
{
	tree();
	in_child(opens);
	OK(open("b/f", O_RDONLY));
}

static void makes(void)
{
	int set = create(ALL), s = socket(AF_UNIX, SOCK_STREAM, 0);
	R(allow(set, "a", MAKE | RD | WR));
	R(allow(set, "b", REMOVE));
	R(restrict_self(set, 0));
	for (const char *d = "abc"; *d; d++) {
		say("- %c", *d);
		char at[2] = { *d, 0 };
		R(chdir(at));
		R(mkdir("dir", 0755));
		OK(open("reg", O_CREAT | O_RDWR, 0644));
		R(mknod("reg2", S_IFREG | 0644, 0));
		R(mknod("fifo", S_IFIFO | 0644, 0));
		R(mknod("sock", S_IFSOCK | 0644, 0));
		R(mknod("char", S_IFCHR | 0644, 0x103));
		R(mknod("block", S_IFBLK | 0644, 0x103));
		R(symlink("x", "sym"));
		struct sockaddr_un u = { AF_UNIX, "bound" };
		R(bind(s, (void *)&u, sizeof u));
		close(s);
		s = socket(AF_UNIX, SOCK_STREAM, 0);
		R(mkdir("s", 0755));
		R(unlink("s/g"));
		R(rmdir("s"));
		R(unlink("f"));
		R(unlink("nosuch"));
		R(unlink("s"));
		chdir("..");
	}
}

CASE(makes, landlock_restrict_self, mkdir, symlink, unlink, rmdir, bind)
{
	tree();
	in_child(makes);
}

/* Each kind of right alone. */
CASE(each, landlock_restrict_self, landlock_add_rule)
{
	for (int bit = 0; bit < 14; bit++) {
		tree();
		fflush(stdout);
		int c = fork();
		if (!c) {
			int set = create(1 << bit), f = 0;
			allow(set, "a", 1 << bit);
			restrict_self(set, 0);
			char s[400];
			s[0] = 0;
#define TRY(x) (errno = 0, (x) < 0 ? (void)(f++, strcat(strcat(s, " "), errname(errno))) : (void)strcat(s, " ok"))
			for (const char *d = "ab"; *d; d++) {
				chdir(*d == 'a' ? "a" : "../b");
				TRY(open("f", O_RDONLY));
				TRY(open("f", O_WRONLY));
				TRY(open(".", O_RDONLY));
				TRY(mkdir("dir", 0755));
				TRY(mknod("reg", S_IFREG | 0644, 0));
				TRY(mknod("fifo", S_IFIFO | 0644, 0));
				TRY(mknod("sock", S_IFSOCK | 0644, 0));
				TRY(mknod("char", S_IFCHR | 0644, 0x103));
				TRY(mknod("block", S_IFBLK | 0644, 0x103));
				TRY(symlink("x", "sym"));
				TRY(unlink("f"));
				TRY(unlink("s/g"));
				TRY(rmdir("s"));
				strcat(s, " |");
			}
			say("%d:%s", bit, s);
			_exit(0);
		}
		waitpid(c, 0, 0);
	}
}

static void again(void)
{
	R(restrict_self(create(WR), 0));
	setenv("CONFINED", "1", 1);
	execl("/proc/self/exe", "landlock", "execs", (char *)0);
	say("exec: %s", errname(errno));
}

CASE(execs, landlock_restrict_self, execve)
{
	if (getenv("CONFINED")) {
		OK(open("/tmp/landlock/a/f", O_RDONLY));
		R(open("/tmp/landlock/a/f", O_WRONLY));
		return;
	}
	tree();
	in_child(again);
}

static void moves(void)
{
	int set = create(ALL);
	R(allow(set, "a", MAKE | REMOVE | REFER));
	R(allow(set, "b", MAKE | REMOVE | REFER | RD));
	R(allow(set, "c", MAKE | REMOVE));
	R(restrict_self(set, 0));
	R(rename("a/f", "a/h"));
	R(rename("a/h", "b/h")); /* more could be done with it there */
	R(rename("b/f", "a/e"));
	R(rename("b/s", "a/t"));
	R(rename("b/s/g", "b/s/k"));
	R(rename("a/h", "c/h")); /* no REFER */
	R(rename("c/f", "a/m"));
	R(rename("c/f", "c/m"));
	R(link("a/h", "b/h"));
	R(link("a/h", "a/h2"));
	R(link("b/s/k", "a/h3"));
	R(syscall(SYS_renameat2, AT_FDCWD, "a/h", AT_FDCWD, "b/s/k", 2));
	R(syscall(SYS_renameat2, AT_FDCWD, "a/h", AT_FDCWD, "a/h2", 2));
	R(syscall(SYS_renameat2, AT_FDCWD, "a/nosuch", AT_FDCWD, "b/h", 0));
	R(syscall(SYS_renameat2, AT_FDCWD, "a/h", AT_FDCWD, "b/s/k", 1));
	R(rename("a/s", "a/s2"));
}

static void moves_unhandled(void)
{
	/* REFER is denied by who does not handle it, too. */
	int set = create(RD);
	R(restrict_self(set, 0));
	R(rename("a/f", "b/h"));
	R(rename("a/f", "a/h"));
	R(link("a/h", "b/h"));
	R(link("a/h", "a/h2"));
}

static void moves_no_make(void)
{
	int set = create(ALL);
	R(allow(set, "a", REFER | REMOVE));
	R(allow(set, "b", REFER | LANDLOCK_ACCESS_FS_MAKE_DIR));
	R(allow(set, "c", REFER | LANDLOCK_ACCESS_FS_MAKE_REG));
	R(restrict_self(set, 0));
	R(rename("a/f", "b/h"));
	R(rename("a/f", "a/h"));
	R(rename("a/f", "c/h"));
	R(rename("a/f", "c/f"));
	R(rename("b/s", "b/t"));
	R(link("b/f", "c/h2"));
	R(link("c/f", "b/h2"));
	R(rename("a/s", "b/u"));
	R(rename("a/f", "c/h"));
}

CASE(moves, landlock_restrict_self, rename, link, renameat2)
{
	tree();
	in_child(moves);
	tree();
	in_child(moves_unhandled);
	tree();
	in_child(moves_no_make);
}

static void twice(void)
{
	int set = create(RD | WR);
	R(allow(set, "a", RD | WR));
	R(restrict_self(set, 0));
	/* What is added later does not count. */
	R(allow(set, "b", RD));
	R(open("b/f", O_RDONLY));
	set = create(RD | MAKE);
	R(allow(set, "a/s", RD));
	R(allow(set, "b", RD | MAKE));
	R(restrict_self(set, 0));
	R(open("a/f", O_RDONLY));
	OK(open("a/f", O_WRONLY));
	OK(open("a/s/g", O_RDWR));
	R(open("b/f", O_RDONLY));
	R(mkdir("b/dir", 0755));
	R(mkdir("a/dir", 0755));
}

static void through_mounts(void)
{
	int set = create(RD);
	R(allow(set, "a", RD));
	R(restrict_self(set, 0));
	OK(open("a/m/x", O_RDONLY));
	R(open("b/f", O_RDONLY));
	OK(open("a/n/f", O_RDONLY));
	R(open("a/../b/f", O_RDONLY));
	R(mount("none", "c", "tmpfs", 0, 0));
	R(mount("a", "c", 0, MS_BIND, 0));
	R(mount(0, "a/m", 0, MS_REMOUNT | MS_RDONLY, 0));
	R(umount("a/m"));
	R(umount2("a/m", MNT_DETACH));
	R(syscall(SYS_pivot_root, "a/m", "a/m"));
	R(umount("nosuch"));
}

static void bound(void)
{
	/* A rule is about what was opened, not about its name. */
	int set = create(RD);
	R(allow(set, "a/n", RD));
	R(restrict_self(set, 0));
	OK(open("b/f", O_RDONLY));
	OK(open("a/n/f", O_RDONLY));
	R(open("a/f", O_RDONLY));
}

CASE(mounts, landlock_restrict_self, mount, umount2)
{
	tree();
	mkdir("a/m", 0755);
	mkdir("a/n", 0755);
	MUST(mount("none", "a/m", "tmpfs", 0, 0));
	close(open("a/m/x", O_CREAT | O_RDWR, 0600));
	MUST(mount("b", "a/n", 0, MS_BIND, 0));
	in_child(through_mounts);
	in_child(bound);
	R(umount("a/m"));
	R(umount("a/n"));
}

CASE(layered, landlock_restrict_self)
{
	tree();
	in_child(twice);
}

static int pipes[2];
static void traces(void)
{
	int c = fork(), s;
	char b;
	if (!c) {
		for (;;)
			pause();
	}
	int set = create(RD), before = c;
	R(restrict_self(set, 0));
	if (!(c = fork())) {
		write(pipes[1], "x", 1);
		for (;;)
			pause();
	}
	read(pipes[0], &b, 1);
	R(ptrace(PTRACE_ATTACH, getppid(), 0, 0));
	R(ptrace(PTRACE_ATTACH, before, 0, 0));
	R(ptrace(PTRACE_ATTACH, c, 0, 0));
	waitpid(c, &s, 0);
	R(ptrace(PTRACE_DETACH, c, 0, 0));
	struct iovec l = { &b, 1 }, r = { &pipes, 1 };
	R(process_vm_readv(before, &l, 1, &r, 1, 0));
	R(process_vm_readv(c, &l, 1, &r, 1, 0));
	kill(c, SIGKILL);
	kill(before, SIGKILL);
	waitpid(c, 0, 0);
	waitpid(before, 0, 0);
	/* Who is confined further may not be traced by his child, and asks nobody to. */
	if (!(c = fork())) {
		R(restrict_self(create(WR), 0));
		R(ptrace(PTRACE_TRACEME, 0, 0, 0));
		R(ptrace(PTRACE_ATTACH, getppid(), 0, 0));
		_exit(0);
	}
	waitpid(c, 0, 0);
}

CASE(traces, landlock_restrict_self, ptrace, process_vm_readv)
{
	pipe(pipes);
	in_child(traces);
}

CASES
