/*
 * setids: what execve does to credentials: set-user-ID and set-group-ID programs, mounts and
 * flags that take them away, capabilities, securebits, the ambient set, AT_SECURE, dumpable.
 */
#include "proc.h"
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/auxv.h>
#include <sys/mount.h>
#include <sys/xattr.h>

static char img[4 << 20];
static long imglen;

static void file(const char *path, const void *d, long n, int uid, int gid, int mode)
{
	unlink(path);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0700);
	write(fd, d, n);
	fchown(fd, uid, gid);
	fchmod(fd, mode);
	close(fd);
}
static void prog(const char *path, int uid, int gid, int mode) { file(path, img, imglen, uid, gid, mode); }

static void caps(unsigned long *e, unsigned long *p, unsigned long *i, int set)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2];
	if (set) {
		for (int k = 0; k < 2; k++)
			d[k] = (struct __user_cap_data_struct){ *e >> 32 * k, *p >> 32 * k, *i >> 32 * k };
		R(syscall(SYS_capset, &h, d));
		return;
	}
	syscall(SYS_capget, &h, d);
	*e = d[0].effective | (unsigned long)d[1].effective << 32;
	*p = d[0].permitted | (unsigned long)d[1].permitted << 32;
	*i = d[0].inheritable | (unsigned long)d[1].inheritable << 32;
}
static void setcaps(unsigned long e, unsigned long p, unsigned long i) { caps(&e, &p, &i, 1); }

static int report(void)
{
	uid_t r, e, s, fs = syscall(SYS_setfsuid, -1);
	gid_t gr, ge, gs, gfs = syscall(SYS_setfsgid, -1);
	unsigned long ce, cp, ci, amb = 0;
	int sig = -1;
	getresuid(&r, &e, &s);
	getresgid(&gr, &ge, &gs);
	caps(&ce, &cp, &ci, 0);
	for (int c = 0; c <= 40; c++)
		amb |= (unsigned long)(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, c, 0, 0) == 1) << c;
	prctl(PR_GET_PDEATHSIG, &sig);
	say("  uid %d %d %d %d gid %d %d %d %d eff %lx perm %lx inh %lx amb %lx secure %lu auxv %lu %lu %lu %lu dumpable %d bits %x nnp %d death %d pers %x",
	    r, e, s, fs, gr, ge, gs, gfs, ce, cp, ci, amb, getauxval(AT_SECURE), getauxval(AT_UID), getauxval(AT_EUID), getauxval(AT_GID), getauxval(AT_EGID),
	    prctl(PR_GET_DUMPABLE), (int)prctl(PR_GET_SECUREBITS), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), sig, (int)syscall(SYS_personality, -1));
	return 0;
}

/* as runs a program after setup in a child. */
#define AS(path, ...) do { int st_; say(path ": " #__VA_ARGS__); \
	IN_CHILD(st_, __VA_ARGS__; execl(path, "prog", "report", (char *)0); say("  execve: %s", errname(errno)); _exit(1)); \
	if (!WIFEXITED(st_)) status("  ended", st_); } while (0)

static void user(int u, int g) { setgroups(0, 0); setresgid(g, g, g); setresuid(u, u, u); }
#define ALL ((1UL << 41) - 1)
#define BIT(c) (1UL << (c))

static void ids(void)
{
	prog("/root/plain", 0, 0, 0755); prog("/root/suid", 0, 0, 04755); prog("/root/sgid", 0, 50, 02755); prog("/root/both", 30, 50, 06755); prog("/root/suser", 30, 0, 04755); prog("/root/sgid-nox", 0, 50, 02745); prog("/root/own", 1000, 1000, 06755);
	say("-- ids");
	AS("/root/plain", ;); AS("/root/plain", user(1000, 1000)); AS("/root/suid", user(1000, 1000)); AS("/root/sgid", user(1000, 1000)); AS("/root/both", user(1000, 1000)); AS("/root/suser", user(1000, 1000)); AS("/root/sgid-nox", user(1000, 1000)); AS("/root/own", user(1000, 1000)); AS("/root/suid", ;); AS("/root/suser", ;); AS("/root/sgid", ;); AS("/root/both", ;);
	AS("/root/plain", setresuid(1000, 0, 0)); AS("/root/plain", setresuid(0, 1000, 0)); AS("/root/plain", setresuid(1000, 1001, 1002)); AS("/root/plain", setresgid(10, 11, 12)); AS("/root/suser", setresuid(1000, 30, 1002)); AS("/root/suser", user(30, 30)); AS("/root/suid", setresuid(1000, 1001, 1002)); AS("/root/plain", setresuid(1000, 1000, 0));
	say("-- flags that take them away");
	AS("/root/suid", user(1000, 1000); prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); AS("/root/both", user(1000, 1000); prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); AS("/root/suser", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	mkdir("/root/mnt", 0755);
	R(mount("none", "/root/mnt", "tmpfs", MS_NOSUID, "mode=755"));
	prog("/root/mnt/suid", 0, 0, 06755);
	AS("/root/mnt/suid", user(1000, 1000));
	umount("/root/mnt");
	file("/root/script", "#!/root/plain report\n", 20, 0, 0, 06755); AS("/root/script", user(1000, 1000));
	file("/root/script2", "#!/root/suid report\n", 19, 0, 0, 0755); AS("/root/script2", user(1000, 1000));
	AS("/root/suid", user(1000, 1000); prctl(PR_SET_PDEATHSIG, 10)); AS("/root/plain", user(1000, 1000); prctl(PR_SET_PDEATHSIG, 10)); AS("/root/plain", prctl(PR_SET_PDEATHSIG, 10); user(1000, 1000));
	AS("/root/plain", prctl(PR_SET_DUMPABLE, 0)); AS("/root/suid", user(1000, 1000); prctl(PR_SET_DUMPABLE, 1));
	/* A working directory and umask shared with another process: no new privileges. */
	int st;
	say("CLONE_FS");
	IN_CHILD(st, { user(1000, 1000); pid_t p = syscall(SYS_clone, CLONE_FS | SIGCHLD, 0, 0, 0, 0); if (!p) { execl("/root/suid", "prog", "report", (char *)0); _exit(1); } waitpid(p, &st, 0); });
	IN_CHILD(st, { pid_t p = syscall(SYS_clone, CLONE_FS | SIGCHLD, 0, 0, 0, 0); if (!p) { execl("/root/suser", "prog", "report", (char *)0); _exit(1); } waitpid(p, &st, 0); });
}

static void capabilities(void)
{
	say("-- capabilities");
	AS("/root/plain", prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT, 0, 0, 0)); AS("/root/suid", prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT, 0, 0, 0); user(1000, 1000));
	AS("/root/plain", setcaps(0, BIT(5), BIT(5))); AS("/root/plain", setcaps(BIT(5), ALL, BIT(5)); user(1000, 1000)); AS("/root/plain", prctl(PR_SET_KEEPCAPS, 1); user(1000, 1000); setcaps(BIT(5), BIT(5) | BIT(6), BIT(5)));
	AS("/root/plain", prctl(PR_SET_KEEPCAPS, 1); user(1000, 1000); setcaps(BIT(5), BIT(5) | BIT(6), BIT(5)); R(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 5, 0, 0)); R(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 6, 0, 0)));
	AS("/root/suid", prctl(PR_SET_KEEPCAPS, 1); user(1000, 1000); setcaps(BIT(5), BIT(5), BIT(5)); prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 5, 0, 0)); AS("/root/sgid", prctl(PR_SET_KEEPCAPS, 1); user(1000, 1000); setcaps(BIT(5), BIT(5), BIT(5)); prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 5, 0, 0)); AS("/root/own", prctl(PR_SET_KEEPCAPS, 1); user(1000, 1000); setcaps(BIT(5), BIT(5), BIT(5)); prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 5, 0, 0));
	AS("/root/plain", setcaps(ALL, ALL, BIT(5)); prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 5, 0, 0)); AS("/root/plain", setcaps(ALL, ALL, BIT(5)); prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 5, 0, 0); R(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, 5, 0, 0)));
	AS("/root/plain", setcaps(ALL, ALL, BIT(5)); prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 5, 0, 0); setcaps(ALL, ALL, 0)); AS("/root/plain", setcaps(ALL, ALL, BIT(5)); prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 5, 0, 0); user(1000, 1000)); AS("/root/plain", prctl(PR_SET_KEEPCAPS, 1); setcaps(ALL, ALL, BIT(5)); prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 5, 0, 0); user(1000, 1000));
	say("-- securebits");
	AS("/root/plain", R(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT))); AS("/root/suid", R(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT)); user(1000, 1000)); AS("/root/plain", R(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)); user(1000, 1000)); AS("/root/plain", R(prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS | SECBIT_NOROOT_LOCKED)); R(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT)); R(prctl(PR_SET_SECUREBITS, 0))); AS("/root/plain", R(prctl(PR_SET_SECUREBITS, SECBIT_NO_CAP_AMBIENT_RAISE)); setcaps(ALL, ALL, BIT(5)); R(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 5, 0, 0))); AS("/root/plain", R(prctl(PR_SET_SECUREBITS, 0x100)); R(prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS_LOCKED)); R(prctl(PR_SET_KEEPCAPS, 1)));
	AS("/root/plain", setresuid(1000, 0, 0); setcaps(BIT(1), BIT(1), 0)); AS("/root/plain", setresuid(0, 1000, 1000));
	say("-- file capabilities");
	struct { uint32_t magic, p0, i0, p1, i1; } v = { 0x02000000 | 1, 1 << 10, 0, 0, 0 };
	prog("/root/fcap", 0, 0, 0755);
	R(setxattr("/root/fcap", "security.capability", &v, sizeof v, 0));
	AS("/root/fcap", user(1000, 1000)); AS("/root/fcap", ;); AS("/root/fcap", user(1000, 1000); prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); AS("/root/fcap", prctl(PR_CAPBSET_DROP, 10, 0, 0, 0); user(1000, 1000));
	v.magic = 0x02000000;
	setxattr("/root/fcap", "security.capability", &v, sizeof v, 0);
	AS("/root/fcap", user(1000, 1000)); AS("/root/fcap", prctl(PR_CAPBSET_DROP, 10, 0, 0, 0); user(1000, 1000));
	v.p0 = 0; v.i0 = 1 << 5; v.magic |= 1;
	setxattr("/root/fcap", "security.capability", &v, sizeof v, 0);
	AS("/root/fcap", user(1000, 1000)); AS("/root/fcap", prctl(PR_SET_KEEPCAPS, 1); user(1000, 1000); setcaps(BIT(5), BIT(5), BIT(5))); AS("/root/fcap", prctl(PR_SET_KEEPCAPS, 1); user(1000, 1000); setcaps(BIT(5), BIT(5), BIT(5)); prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 5, 0, 0));
	chown("/root/fcap", 5, 5); R(getxattr("/root/fcap", "security.capability", &v, sizeof v));
	R(setxattr("/root/fcap", "security.capability", &v, 3, 0)); R(setxattr("/root/fcap", "security.capability", "xxxxxxxxxxxxxxxxxxxx", 20, 0));
	IN_CHILD(v.i1, user(5, 5); R(setxattr("/root/fcap", "security.capability", &v, sizeof v, 0)));
}

static void threads(void)
{
	int st;
	say("-- setuid");
	IN_CHILD(st, { R(setuid(1000)); R(setuid(0)); R(setuid(1000)); R(setuid(1001)); R(seteuid(0)); report(); });
	IN_CHILD(st, { R(seteuid(1000)); R(seteuid(0)); R(setreuid(1000, -1)); R(setreuid(-1, 1000)); R(setreuid(0, -1)); R(setuid(0)); report(); });
	IN_CHILD(st, { R(setresuid(1, 2, 3)); R(setresuid(2, 3, 1)); R(setresuid(4, -1, -1)); R(setresuid(-1, -1, 2)); R(setuid(3)); R(setfsuid(1)); R(setfsuid(9)); R(setfsuid(-1)); report(); });
	IN_CHILD(st, { R(setregid(5, 6)); R(setgid(7)); R(setresuid(1000, 1000, 1000)); R(setgid(8)); R(setregid(-1, 8)); R(setgroups(0, 0)); R(setresgid(-1, -1, 9)); report(); });
	IN_CHILD(st, { R(seteuid(1000)); unsigned long e, p, i; caps(&e, &p, &i, 0); say("%lx %lx", e, p); R(seteuid(0)); caps(&e, &p, &i, 0); say("%lx %lx", e, p); R(setfsuid(1000)); caps(&e, &p, &i, 0); say("%lx %lx", e, p); });
}

static void mode(const char *what, const char *path)
{
	struct stat st;
	char v[30];
	stat(path, &st);
	say("%s: mode %o, capabilities %ld", what, st.st_mode & 07777, getxattr(path, "security.capability", v, sizeof v));
}

static void writes(void)
{
	int st, fd;
	struct { uint32_t magic, p0, i0, p1, i1; } v = { 0x02000000 | 1, 1 << 10, 0, 0, 0 };
	static const int modes[] = { 04777, 02777, 06777, 02767, 06767 };
	say("-- writes");
	for (unsigned i = 0; i < sizeof modes / sizeof *modes; i++)
		for (int how = 0; how < 6; how++) {
			static const char *const name[] = { "root write", "write", "append", "truncate", "ftruncate", "chown" };
			file("/root/w", "hello", 5, 1000, 1000, modes[i]);
			setxattr("/root/w", "security.capability", &v, sizeof v, 0);
			chmod("/root", 0777);
			IN_CHILD(st, {
				if (how) user(1000, 1000);
				fd = open("/root/w", O_RDWR | (how == 2 ? O_APPEND : 0));
				if (how < 3) write(fd, "x", 1);
				if (how == 3) truncate("/root/w", 3);
				if (how == 4) ftruncate(fd, 3);
				if (how == 5) chown("/root/w", -1, 1000);
			});
			mode(name[how], "/root/w");
		}
	say("-- personality");
	AS("/root/suid", user(1000, 1000); syscall(SYS_personality, 0x0040000)); AS("/root/plain", user(1000, 1000); syscall(SYS_personality, 0x0040000));
}

/* What descriptors of a process's files show once it runs another program. */
static void opened_before(const char *path)
{
	static const char *const names[] = { "maps", "smaps", "smaps_rollup", "environ", "auxv", "mem", "io", "personality", "syscall", "status" };
	enum { N = sizeof names / sizeof *names };
	int st, go[2], done[2];
	say("-- opened before execve of %s", path);
	IN_CHILD(st, {
		int fds[N];
		char name[64];
		static char b[1 << 16];
		user(1000, 1000);
		prctl(PR_SET_DUMPABLE, 1);
		pipe(go);
		pipe2(done, O_CLOEXEC);
		pid_t p = fork();
		if (!p) {
			read(go[0], b, 1);
			execl(path, "prog", "pause", (char *)0);
			_exit(1);
		}
		for (int i = 0; i < N; i++) {
			sprintf(name, "/proc/%d/%s", p, names[i]);
			fds[i] = open(name, O_RDONLY);
			if (fds[i] < 0)
				say("  open %s: %s", names[i], errname(errno));
		}
		write(go[1], "", 1);
		close(done[1]);
		read(done[0], b, 1); /* the end: it has another program */
		for (int i = 0; i < N; i++) {
			long n = pread(fds[i], b, sizeof b, !strcmp(names[i], "mem") ? (long)&imglen : 0);
			say("  %s: %s", names[i], n < 0 ? errname(errno) : n ? "something" : "nothing");
		}
		for (int i = 0; i < N; i++) {
			sprintf(name, "/proc/%d/%s", p, names[i]);
			int fd = open(name, O_RDONLY);
			say("  %s now: %s", names[i], fd < 0 ? errname(errno) : "opens");
			close(fd);
		}
		kill(p, SIGKILL);
		close(go[1]);
	});
}

static void all(void)
{
	ids();
	capabilities();
	threads();
	writes();
	opened_before("/root/plain");
	opened_before("/root/suid");
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "pause")) {
		char c;
		signal(SIGALRM, SIG_DFL);
		alarm(20);
		return read(3, &c, 1); /* the pipe's other end is closed when its user is done */
	}
	if (argc > 1)
		return report();
	int fd = open("/proc/self/exe", O_RDONLY);
	imglen = read(fd, img, sizeof img);
	close(fd);
	return family(all);
}
