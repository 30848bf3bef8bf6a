/* What programs read from /proc, /sys and /dev: it is there, and has the form they parse. */
#include "check.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/prctl.h>
#include <sched.h>

static char b[1 << 16];
static int slurp(const char *p)
{
	int f = open(p, O_RDONLY), n = 0, r = 0;
	if (f < 0)
		return -1;
	while (n < (int)sizeof b - 1 && (r = read(f, b + n, sizeof b - 1 - n)) > 0)
		n += r;
	b[n] = 0;
	close(f);
	return r < 0 ? -1 : n;
}
static void has(const char *p, const char *what)
{
	errno = 0;
	if (slurp(p) < 0)
		say("%s: %s", p, errname(errno));
	else
		say("%s has '%s': %s", p, what, strstr(b, what) ? "yes" : "NO");
}

int main(int argc, char **argv)
{
	(void)argc;
	has("/proc/self/status", "VmRSS:");
	has("/proc/self/status", "Threads:\t1");
	has("/proc/self/status", "SigCgt:");
	has("/proc/self/stat", ") R ");
	has("/proc/self/statm", " ");
	has("/proc/self/maps", "[stack]");
	has("/proc/self/maps", "[vdso]");
	has("/proc/self/maps", "[heap]");
	has("/proc/self/maps", "r-xp");
	has("/proc/self/smaps", "Rss:");
	has("/proc/self/limits", "Max open files");
	has("/proc/self/mounts", " / ");
	has("/proc/self/mountinfo", " / ");
	has("/proc/self/comm", "");
	has("/proc/self/oom_score_adj", "0");
	has("/proc/self/cmdline", argv[0]);
	has("/proc/self/fdinfo/1", "flags:");
	has("/proc/self/task/self", "");
	has("/proc/meminfo", "MemTotal:");
	has("/proc/meminfo", "MemAvailable:");
	has("/proc/cpuinfo", "processor\t: 0");
	has("/proc/cpuinfo", "flags\t\t:");
	has("/proc/stat", "cpu0 ");
	has("/proc/uptime", ".");
	has("/proc/loadavg", "/");
	has("/proc/version", "Linux version ");
	has("/proc/filesystems", "tmpfs");
	has("/proc/mounts", "proc");
	has("/proc/sys/kernel/osrelease", ".");
	has("/proc/sys/kernel/hostname", "");
	has("/proc/sys/vm/overcommit_memory", "0");
	has("/proc/sys/vm/max_map_count", "65530");
	has("/proc/sys/net/core/somaxconn", "4096");
	has("/proc/sys/kernel/random/boot_id", "-");
	has("/proc/sys/kernel/pid_max", "");
	has("/sys/devices/system/cpu/online", "0");
	has("/proc/nope", "");
	R(readlink("/proc/self/exe", b, sizeof b) > 0);
	R(readlink("/proc/self/cwd", b, sizeof b) > 0);
	R(readlink("/proc/self/fd/1", b, sizeof b) > 0);
	R(readlink("/proc/self", b, sizeof b) > 0);
	int f = open("/dev/null", O_RDWR);
	R(write(f, b, 100));
	R(read(f, b, 100));
	f = open("/dev/zero", O_RDWR);
	b[5] = 1;
	R(read(f, b, 100));
	R(b[5]);
	f = open("/dev/full", O_RDWR);
	R(write(f, b, 1));
	f = open("/dev/urandom", O_RDONLY);
	R(read(f, b, 1000));
	f = open("/dev/random", O_RDONLY);
	R(read(f, b, 16));
	R(getrandom(b, 100, 0));
	R(getrandom(b, 100, 0x100));
	struct stat st;
	R(stat("/dev/null", &st));
	say("mode %o dev %lx", st.st_mode, (long)st.st_rdev);
	R(open("/dev/nope", O_RDONLY));
	R(close(open("/dev/shm", O_RDONLY | O_DIRECTORY)));
	R(close(open("/dev/fd/1", O_WRONLY)) * 0);
	struct utsname u;
	R(uname(&u));
	IS(!strcmp(u.sysname, "Linux") && !strcmp(u.machine, "x86_64"));
	struct sysinfo si;
	R(sysinfo(&si));
	IS(si.totalram > 0 && si.freeram <= si.totalram && si.mem_unit > 0 && si.procs >= 1);
	struct rlimit rl;
	R(getrlimit(RLIMIT_NOFILE, &rl));
	IS(rl.rlim_cur >= 1024);
	R(getrlimit(RLIMIT_STACK, &rl));
	R(rl.rlim_cur);
	R(getrlimit(99, &rl));
	rl = (struct rlimit){ 10, 5 };
	R(setrlimit(RLIMIT_NOFILE, &rl));
	struct rusage ru;
	R(getrusage(RUSAGE_SELF, &ru));
	R(getrusage(99, &ru));
	R(prctl(PR_SET_NAME, "renamed"));
	R(prctl(PR_GET_NAME, b));
	IS(!strcmp(b, "renamed"));
	has("/proc/self/comm", "renamed");
	R(prctl(PR_GET_DUMPABLE));
	R(prctl(PR_SET_PDEATHSIG, 99));
	R(prctl(99999));
	R(getuid());
	R(getppid() >= 0);
	R(getpriority(PRIO_PROCESS, 0));
	R(sched_getscheduler(0));
	R(sched_get_priority_max(SCHED_FIFO));
	cpu_set_t cs;
	R(sched_getaffinity(0, sizeof cs, &cs));
	R(sched_getaffinity(0, 1, &cs));
	IS(CPU_COUNT(&cs) >= 1);
	R(sched_yield());
	R(sysconf(_SC_NPROCESSORS_ONLN) >= 1);
	return 0;
}
