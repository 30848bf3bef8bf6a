/*
 * oom: who is chosen when memory ends, as oom_score tells beforehand; oom_score_adj and
 * oom_adj. That the machine survives is what tests/boot looks at.
 */
#include "proc.h"

static long get(const char *name)
{
	char b[64], f[64];
	snprintf(f, sizeof f, "/proc/self/%s", name);
	int fd = open(f, O_RDONLY), n = read(fd, b, sizeof b - 1);
	close(fd);
	b[n > 0 ? n : 0] = 0;
	return atol(b);
}

static long put(const char *name, const char *v)
{
	char f[64];
	snprintf(f, sizeof f, "/proc/self/%s", name);
	int fd = open(f, O_WRONLY);
	if (fd < 0)
		return -1;
	long r = write(fd, v, strlen(v));
	int e = errno;
	close(fd);
	errno = e;
	return r;
}

static void all(void)
{
	int st;
	say("-- oom_score_adj");
	R(get("oom_score_adj")); R(get("oom_adj"));
	R(put("oom_score_adj", "500")); R(get("oom_score_adj")); R(get("oom_adj")); R(put("oom_score_adj", "1001")); R(put("oom_score_adj", "-1001")); R(put("oom_score_adj", "x")); R(put("oom_score_adj", " 7\n")); R(get("oom_score_adj")); R(put("oom_score_adj", "")); R(put("oom_score_adj", "0x10")); R(get("oom_score_adj"));
	R(put("oom_score_adj", "1000")); R(get("oom_adj")); R(put("oom_score_adj", "-1000")); R(get("oom_adj"));
	say("-- oom_adj");
	R(put("oom_adj", "15")); R(get("oom_score_adj")); R(put("oom_adj", "-17")); R(get("oom_score_adj")); R(put("oom_adj", "8")); R(get("oom_score_adj")); R(get("oom_adj")); R(put("oom_adj", "16")); R(put("oom_adj", "-18"));
	say("-- inherited, privilege");
	put("oom_score_adj", "300");
	IN_CHILD(st, {
		R(get("oom_score_adj"));
		setresuid(1000, 1000, 1000); prctl(PR_SET_DUMPABLE, 1);
		R(put("oom_score_adj", "299")); R(put("oom_score_adj", "300")); R(put("oom_score_adj", "400")); R(put("oom_score_adj", "350")); R(put("oom_score_adj", "300")); R(get("oom_score_adj"));
	});
	say("-- oom_score");
	put("oom_score_adj", "0");
	long base = get("oom_score");
	IS(base >= 666 && base < 700);
	put("oom_score_adj", "500"); IS(get("oom_score") - base >= 320 && get("oom_score") - base <= 340);
	put("oom_score_adj", "-500"); IS(get("oom_score") - base <= -320);
	put("oom_score_adj", "1000"); IS(get("oom_score") >= 1300);
	put("oom_score_adj", "-1000"); R(get("oom_score"));
	put("oom_score_adj", "0");
	memset(mmap(0, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1, 64 << 20);
	IS(get("oom_score") > base + 20);
}

int main(void) { return family(all); }
