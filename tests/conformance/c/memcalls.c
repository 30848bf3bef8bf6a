/* Calls about the memory of other processes, about memory nodes, barriers, keys and about
 * memory that is served by a program. */
#include "mem.h"
#include <linux/membarrier.h>
#define RW (PROT_READ | PROT_WRITE)

/* pidfd of a child that sleeps, with p mapped as here */
static int child, childfd;
static void sleeper(void)
{
	child = FORK(pause());
	childfd = syscall(SYS_pidfd_open, child, 0);
	MUST(childfd);
}
static void done(void) { kill(child, SIGKILL), waitpid(child, 0, 0), close(childfd); }

CASE(advise_other, process_madvise)
{
	char *p = map(4);
	struct iovec v[2] = { { p, PAGE }, { p + 2 * PAGE, PAGE } }, bad = { p + 1, PAGE }, hole = { gap(1), PAGE };
	int self = syscall(SYS_pidfd_open, getpid(), 0);
	sleeper();
	for (int i = 0; i <= 26; i++)
		say("advice %d: %ld %s", i, errno = 0, (syscall(SYS_process_madvise, childfd, v, 2, i, 0) == -1 ? errname(errno) : "ok"));
	SC(process_madvise, childfd, v, 2, MADV_COLD, 0);
	SC(process_madvise, childfd, v, 2, MADV_PAGEOUT, 0);
	SC(process_madvise, childfd, v, 2, MADV_WILLNEED, 0);
	SC(process_madvise, childfd, v, 2, MADV_COLD, 1);
	SC(process_madvise, childfd, v, 0, MADV_COLD, 0);
	SC(process_madvise, childfd, v, 1025, MADV_COLD, 0);
	SC(process_madvise, childfd, 8L, 1, MADV_COLD, 0);
	SC(process_madvise, childfd, &bad, 1, MADV_COLD, 0);
	SC(process_madvise, childfd, &hole, 1, MADV_COLD, 0);
	SC(process_madvise, 999, v, 2, MADV_COLD, 0);
	SC(process_madvise, 0, v, 2, MADV_COLD, 0);
	SC(process_madvise, self, v, 2, MADV_COLD, 0);
	int c = FORK(unroot(); SC(process_madvise, childfd, v, 2, MADV_COLD, 0); SC(process_madvise, childfd, v, 2, MADV_DONTNEED, 0));
	reap("unprivileged", c);
	done();
}

CASE(read_other, process_vm_readv)
{
	char *p = map(3), b[64] = "";
	strcpy(p, "in the child");
	sleeper();
	strcpy(p, "in the parent");
	struct iovec l = { b, 20 }, r = { p, 20 }, rs[2] = { { p, 4 }, { p + PAGE, 4 } }, hole[2] = { { p, 4 }, { gap(1), 4 } }, across = { p + 3 * PAGE - 4, 20 };
	SC(process_vm_readv, child, &l, 1, &r, 1, 0);
	say("%s", b);
	SC(process_vm_readv, child, &l, 1, rs, 2, 0);
	say("%.4s %c", b, b[4]);
	SC(process_vm_readv, child, &l, 1, hole, 2, 0);
	SC(process_vm_readv, child, &l, 1, hole + 1, 1, 0);
	munmap(p + 3 * PAGE, PAGE);
	SC(process_vm_readv, child, &l, 1, &r, 1, 1);
	SC(process_vm_readv, child, &l, 0, &r, 1, 0);
	SC(process_vm_readv, child, &l, 1, &r, 0, 0);
	SC(process_vm_readv, child, &l, 1025, &r, 1, 0);
	SC(process_vm_readv, child, &l, 1, &r, 1025, 0);
	SC(process_vm_readv, child, 8L, 1, &r, 1, 0);
	SC(process_vm_readv, child, &l, 1, 8L, 1, 0);
	SC(process_vm_readv, 99999, &l, 1, &r, 1, 0);
	SC(process_vm_readv, 0, &l, 1, &r, 1, 0);
	SC(process_vm_readv, getpid(), &l, 1, &r, 1, 0);
	l.iov_base = (void *)8;
	SC(process_vm_readv, child, &l, 1, &r, 1, 0);
	l.iov_base = b;
	int c = FORK(unroot(); SC(process_vm_readv, child, &l, 1, &r, 1, 0));
	reap("unprivileged", c);
	done();
}

CASE(write_other, process_vm_writev)
{
	char *p = mmap(0, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *ro = mmap(0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), b[8] = "written", got[8];
	sleeper();
	struct iovec l = { b, 8 }, r = { p, 8 }, g = { got, 8 }, o = { ro, 8 }, hole = { gap(1), 8 };
	SC(process_vm_writev, child, &l, 1, &r, 1, 0);
	R(*p);
	SC(process_vm_readv, child, &g, 1, &r, 1, 0);
	say("%s", got);
	SC(process_vm_writev, child, &l, 1, &o, 1, 0);
	SC(process_vm_writev, child, &l, 1, &hole, 1, 0);
	SC(process_vm_writev, child, &l, 1, &r, 1, 4);
	SC(process_vm_writev, 99999, &l, 1, &r, 1, 0);
	SC(process_vm_writev, child, 8L, 1, &r, 1, 0);
	int c = FORK(unroot(); SC(process_vm_writev, child, &l, 1, &r, 1, 0));
	reap("unprivileged", c);
	done();
}

CASE(policy_get, get_mempolicy)
{
	int mode = 9;
	unsigned long nodes[16] = { 9, 9 };
	char *p = map(1);
	SC(get_mempolicy, &mode, 0, 0, 0, 0);
	R(mode);
	/* as many bits as Debian's kernel has nodes (CONFIG_NODES_SHIFT=10) */
	SC(get_mempolicy, &mode, nodes, 1024, 0, 0);
	say("%d %lx", mode, nodes[0]);
	SC(get_mempolicy, 0, nodes, 1024, 0, 4 /* MEMS_ALLOWED */);
	R(nodes[0]);
	SC(get_mempolicy, &mode, 0, 0, p, 2 /* ADDR */);
	R(mode);
	SC(get_mempolicy, &mode, 0, 0, p, 3 /* NODE | ADDR */);
	R(mode);
	SC(get_mempolicy, &mode, nodes, 1, 0, 0);
	SC(get_mempolicy, &mode, nodes, 8, 0, 0);
	SC(get_mempolicy, &mode, nodes, 64, 0, 4);
	SC(get_mempolicy, &mode, 0, 0, 0, 8);
	SC(get_mempolicy, &mode, 0, 0, p, 0);
	SC(get_mempolicy, &mode, 0, 0, p, 4);
	SC(get_mempolicy, &mode, 0, 0, 0, 1);
	SC(get_mempolicy, &mode, 0, 0, gap(1), 2);
	SC(get_mempolicy, &mode, 0, 0, gap(1), 3);
	SC(get_mempolicy, &mode, 0, 0, 0, 4 | 2);
	SC(get_mempolicy, &mode, 0, 0, 0, 4 | 1);
	SC(get_mempolicy, 8L, 0, 0, 0, 0);
	SC(get_mempolicy, 0, 8L, 1024, 0, 0);
}

static const char *modes[] = { "DEFAULT", "PREFERRED", "BIND", "INTERLEAVE", "LOCAL", "PREFERRED_MANY", "6" };

CASE(policy_set, set_mempolicy, get_mempolicy)
{
	unsigned long one[16] = { 1 }, two[16] = { 2 }, none[16] = { 0 }, both[16] = { 3 }, got[16];
	int mode;
	for (int m = 0; m <= 6; m++) {
		say("-- %s", modes[m]);
		SC(set_mempolicy, m, 0, 0);
		SC(set_mempolicy, m, none, 64);
		SC(set_mempolicy, m, two, 64);
		SC(set_mempolicy, m, both, 64);
		SC(set_mempolicy, m, one, 64);
		got[0] = 99;
		SC(get_mempolicy, &mode, got, 1024, 0, 0);
		say("in force: %d %lu", mode, got[0]);
		SC(set_mempolicy, m | 1 << 15 /* STATIC_NODES */, one, 64);
		SC(get_mempolicy, &mode, got, 1024, 0, 0);
		say("in force: %d %lu", mode, got[0]);
		SC(set_mempolicy, m | 1 << 14 /* RELATIVE_NODES */, one, 64);
		SC(set_mempolicy, m | 3 << 14, one, 64);
		SC(set_mempolicy, m | 1 << 13 /* NUMA_BALANCING */, one, 64);
	}
	SC(set_mempolicy, 2, 8L, 64);
	SC(set_mempolicy, 2, one, 1);
	SC(set_mempolicy, 2, one, 2);
	SC(set_mempolicy, 2, one, 1024);
	SC(set_mempolicy, 2, one, 1L << 20);
	SC(set_mempolicy, -1, 0, 0);
	SC(set_mempolicy, 0, 0, 0);
	SC(set_mempolicy, 3, one, 64);
	int c = FORK(SC(get_mempolicy, &mode, got, 1024, 0, 0); say("inherited: %d %lu", mode, got[0]); SC(get_mempolicy, &mode, 0, 0, 0, 1));
	reap("child", c);
}

CASE(policy_range, mbind, get_mempolicy)
{
	unsigned long one[16] = { 1 }, two[16] = { 2 }, got[16];
	char *p = map(4);
	int mode;
	for (int m = 0; m <= 6; m++) {
		say("-- %s", modes[m]);
		SC(mbind, p, PAGE, m, 0, 0, 0);
		SC(mbind, p, PAGE, m, two, 64, 0);
		SC(mbind, p + PAGE, PAGE, m, one, 64, 0);
		got[0] = 99;
		SC(get_mempolicy, &mode, got, 1024, p + PAGE, 2);
		say("in force: %d %lu", mode, got[0]);
	}
	SC(mbind, p, PAGE, 2, one, 64, 1 /* STRICT */);
	SC(mbind, p, PAGE, 2, one, 64, 2 /* MOVE */);
	SC(mbind, p, PAGE, 2, one, 64, 4 /* MOVE_ALL */);
	SC(mbind, p, PAGE, 2, one, 64, 7);
	SC(mbind, p, PAGE, 2, one, 64, 8);
	SC(mbind, p, PAGE, 2, two, 64, 1);
	SC(mbind, p, PAGE, 2, two, 64, 2);
	SC(mbind, p, PAGE, 2, two, 64, 4);
	SC(mbind, p + 1, PAGE, 2, one, 64, 0);
	SC(mbind, p, 0, 2, one, 64, 0);
	SC(mbind, p, -1L, 2, one, 64, 0);
	SC(mbind, p, PAGE, 2, 8L, 64, 0);
	SC(mbind, gap(1), PAGE, 2, one, 64, 0);
	munmap(p + 2 * PAGE, PAGE);
	SC(mbind, p, 4 * PAGE, 2, one, 64, 0);
	SC(mbind, p, 4 * PAGE, 0, 0, 0, 0);
	SC(mbind, p, PAGE, 2 | 1 << 15, one, 64, 0);
	SC(mbind, p, PAGE, 2 | 1 << 14, one, 64, 0);
	SC(mbind, p, PAGE, 2 | 1 << 13, one, 64, 0);
	int c = FORK(unroot(); SC(mbind, p, PAGE, 2, one, 64, 4); SC(mbind, p, PAGE, 2, one, 64, 2));
	reap("unprivileged", c);
}

CASE(policy_home, set_mempolicy_home_node)
{
	unsigned long one[16] = { 1 };
	char *p = map(2);
	SC(set_mempolicy_home_node, p, PAGE, 0, 0);
	SC(mbind, p, PAGE, 2, one, 64, 0);
	SC(set_mempolicy_home_node, p, PAGE, 0, 0);
	SC(set_mempolicy_home_node, p, PAGE, 0, 1);
	SC(set_mempolicy_home_node, p, PAGE, 1, 0);
	SC(set_mempolicy_home_node, p, PAGE, 99999, 0);
	SC(set_mempolicy_home_node, p + 1, PAGE, 0, 0);
	SC(set_mempolicy_home_node, p, 0, 0, 0);
	SC(set_mempolicy_home_node, p, -PAGE, 0, 0);
	SC(mbind, p, PAGE, 3, one, 64, 0);
	SC(set_mempolicy_home_node, p, PAGE, 0, 0);
}

CASE(migrate, migrate_pages)
{
	unsigned long one[16] = { 1 }, two[16] = { 2 }, none[16] = { 0 };
	sleeper();
	SC(migrate_pages, 0, 64, one, one);
	SC(migrate_pages, child, 64, one, one);
	SC(migrate_pages, getpid(), 64, none, one);
	SC(migrate_pages, 0, 64, two, one);
	SC(migrate_pages, 0, 64, one, two);
	SC(migrate_pages, 0, 64, one, none);
	SC(migrate_pages, 0, 0, one, one);
	SC(migrate_pages, 99999, 64, one, one);
	SC(migrate_pages, 0, 64, 8L, one);
	SC(migrate_pages, 0, 64, one, 8L);
	SC(migrate_pages, 0, 1L << 20, one, one);
	int c = FORK(unroot(); SC(migrate_pages, child, 64, one, one); SC(migrate_pages, 0, 64, one, one));
	reap("unprivileged", c);
	done();
}

CASE(move, move_pages)
{
	char *p = map(3), *untouched = mmap(0, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *at[4] = { p, p + PAGE, untouched, gap(1) };
	int to[4] = { 0, 0, 0, 0 }, far[4] = { 1, 0, 0, 0 }, worse[4] = { 99999 }, st[4] = { 9, 9, 9, 9 };
	sleeper();
#define ST say("%d %d %d %d", st[0], st[1], st[2], st[3])
	SC(move_pages, 0, 4, at, 0, st, 0);
	ST;
	SC(move_pages, child, 2, at, 0, st, 0);
	ST;
	SC(move_pages, 0, 4, at, to, st, 2 /* MOVE */);
	ST;
	SC(move_pages, 0, 2, at, to, st, 4 /* MOVE_ALL */);
	SC(move_pages, 0, 1, at, far, st, 2);
	SC(move_pages, 0, 1, at, worse, st, 2);
	SC(move_pages, 0, 0, at, to, st, 0);
	SC(move_pages, 0, 1, at, to, st, 1);
	SC(move_pages, 0, 1, at, 0, st, 8);
	SC(move_pages, 0, 1, 8L, 0, st, 0);
	SC(move_pages, 0, 1, at, 8L, st, 2);
	SC(move_pages, 0, 1, at, 0, 8L, 0);
	SC(move_pages, 99999, 1, at, 0, st, 0);
	int c = FORK(unroot(); SC(move_pages, child, 1, at, 0, st, 0); SC(move_pages, 0, 1, at, to, st, 4); SC(move_pages, 0, 1, at, to, st, 2));
	reap("unprivileged", c);
	done();
}

CASE(barriers, membarrier)
{
	SC(membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
	SC(membarrier, MEMBARRIER_CMD_QUERY, 1, 0);
	SC(membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
	SC(membarrier, MEMBARRIER_CMD_GLOBAL, 1, 0);
	SC(membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0);
	SC(membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 1, 0);
	SC(membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0);
	SC(membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 1, 0);
	SC(membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
	SC(membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
	SC(membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 1, 0);
	SC(membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
	SC(membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 1, 0);
	SC(membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
	SC(membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
	SC(membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 1, 0);
	SC(membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
	SC(membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 1, 0);
	int q = syscall(SYS_membarrier, 0, 0, 0);
	if (q & 1 << 7) {
		SC(membarrier, 1 << 7, 0, 0);
		SC(membarrier, 1 << 8, 0, 0);
		SC(membarrier, 1 << 8, 1, 0);
		SC(membarrier, 1 << 7, 0, 0);
		SC(membarrier, 1 << 7, 1, 0);
		SC(membarrier, 1 << 7, 1, 99999);
		SC(membarrier, 1 << 7, 2, 0);
	}
	SC(membarrier, 1 << 9, 0, 0);
	SC(membarrier, 1 << 20, 0, 0);
	SC(membarrier, 3, 0, 0);
	SC(membarrier, -1, 0, 0);
}

CASE(keys_errors, pkey_alloc, pkey_free, pkey_mprotect)
{
	/* what does not depend on whether the processor has keys */
	char *p = map(1);
	SC(pkey_alloc, 1, 0);
	SC(pkey_alloc, 0, 4);
	SC(pkey_free, 15);
	SC(pkey_free, 16);
	SC(pkey_free, -1);
	SC(pkey_mprotect, p, PAGE, PROT_READ, -1);
	PUT(p);
	SC(pkey_mprotect, p, PAGE, PROT_READ | PROT_WRITE, -1);
	PUT(p);
	SC(pkey_mprotect, p, PAGE, PROT_READ, 14);
	SC(pkey_mprotect, p, PAGE, PROT_READ, 16);
	SC(pkey_mprotect, p + 1, PAGE, PROT_READ, -1);
	SC(pkey_mprotect, p, PAGE, 0x40, -1);
	SC(pkey_mprotect, gap(1), PAGE, PROT_READ, -1);
	SC(pkey_mprotect, p, PAGE, PROT_GROWSDOWN, -1);
}

CASE(cache, readahead, fadvise64)
{
	int fd = file(4 * PAGE), p[2], wo = open("/tmp/wo", O_CREAT | O_WRONLY, 0600);
	pipe(p);
	R(readahead(fd, 0, PAGE));
	R(readahead(fd, 1, 3 * PAGE));
	R(readahead(fd, 1L << 40, PAGE));
	R(readahead(p[0], 0, PAGE));
	R(readahead(wo, 0, PAGE));
	R(readahead(999, 0, PAGE));
	R(readahead(open("/", O_RDONLY), 0, PAGE));
	for (int a = 0; a < 7; a++) {
		SC(fadvise64, fd, 0, PAGE, a);
		SC(fadvise64, fd, 0, 0, a);
		SC(fadvise64, fd, -1L, 0, a);
		SC(fadvise64, fd, 0, -1L, a);
		SC(fadvise64, p[0], 0, PAGE, a);
		SC(fadvise64, 999, 0, PAGE, a);
	}
	unlink("/tmp/wo");
}

CASE(remap_pages, remap_file_pages)
{
	int fd = file(4 * PAGE);
	char *p = mmap(0, 4 * PAGE, RW, MAP_SHARED, fd, 0);
	for (int i = 0; i < 4; i++)
		p[i * PAGE] = 'a' + i;
	SC(remap_file_pages, p, PAGE, 0, 2, 0);
	say("%c %c %c %c", p[0], p[PAGE], p[2 * PAGE], p[3 * PAGE]);
	SC(remap_file_pages, p + PAGE, 2 * PAGE, 0, 0, 0);
	say("%c %c %c %c", p[0], p[PAGE], p[2 * PAGE], p[3 * PAGE]);
	p[PAGE] = 'z';
	char b;
	R(pread(fd, &b, 1, 0));
	R(b);
	SC(remap_file_pages, p, PAGE, PROT_READ, 0, 0);
	SC(remap_file_pages, p, 0, 0, 0, 0);
	SC(remap_file_pages, p, PAGE, 0, 1UL << 51, 0);
	SC(remap_file_pages, p, PAGE, 0, (1UL << 51) - 1, 0);
	SC(remap_file_pages, p, PAGE, 0, 1UL << 63, 0);
	SC(remap_file_pages, p, PAGE, 0, -1UL, 0);
	SC(remap_file_pages, p + 1, PAGE, 0, 0, 0);
	SC(remap_file_pages, p, PAGE, 0, -1L, 0);
	SC(remap_file_pages, p, PAGE, 0, 1, 0x10000 /* MAP_NONBLOCK */);
	SC(remap_file_pages, map(1), PAGE, 0, 0, 0);
	SC(remap_file_pages, gap(1), PAGE, 0, 0, 0);
	SC(remap_file_pages, p, -PAGE, 0, 0, 0);
}

/* numa prints what /proc/self/numa_maps says of the mapping at p, or of the first that has what in
 * its line, without what Linux's lists of pages know. */
static void numa(const char *how, void *p, const char *what)
{
	char line[512], *end;
	FILE *f = fopen("/proc/self/numa_maps", "r");
	while (fgets(line, sizeof line, f)) {
		void *at = (void *)strtoul(line, &end, 16);
		if (p ? at != p : !strstr(line, what))
			continue;
		char *a = strstr(end, " active=");
		if (a)
			memmove(a, a + 8 + strspn(a + 8, "0123456789"), strlen(a + 8 + strspn(a + 8, "0123456789")) + 1);
		end[strcspn(end, "\n")] = 0;
		if (!p)
			strstr(end, what)[strlen(what)] = 0;
		say("%s:%s", how, end);
		break;
	}
	fclose(f);
}

CASE(numa_maps, mbind, set_mempolicy)
{
	unsigned long node = 1;
	char *p = mmap(0, 4 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	numa("untouched", p, 0);
	p[0] = p[PAGE] = 1;
	numa("two pages", p, 0);
	for (int m = 0; m <= 5; m++) {
		say("mode %d: %ld", m, syscall(SYS_mbind, p, 4 * PAGE, m, m == 0 || m == 4 ? 0 : &node, 64, 0));
		numa("mode", p, 0);
	}
	SC(mbind, p, 4 * PAGE, 1, 0, 0, 0);
	numa("preferred without nodes", p, 0);
	SC(mbind, p, 4 * PAGE, 2 | 1 << 15, &node, 64, 0);
	numa("static", p, 0);
	SC(mbind, p, 4 * PAGE, 3 | 1 << 14, &node, 64, 0);
	numa("relative", p, 0);
	SC(mbind, p, PAGE, 0, 0, 0, 0);
	numa("split", p, 0);
	numa("its rest", p + PAGE, 0);
	SC(set_mempolicy, 3, &node, 64);
	numa("the thread's", p, 0);
	SC(set_mempolicy, 0, 0, 0);
	char *s = mmap(0, 2 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	s[0] = 1;
	numa("shared", s, 0);
	sleeper();
	numa("with a child", p, 0);
	p[0] = 2;
	numa("a copy", p, 0);
	done();
	int fd = open("/tmp/a b=c\td", O_CREAT | O_RDWR | O_TRUNC, 0600);
	ftruncate(fd, 4 * PAGE);
	char *f = mmap(0, 4 * PAGE, RW, MAP_SHARED, fd, 0);
	numa("file", f, 0);
	f[0] = 1;
	numa("file written", f, 0);
	char *q = mmap(0, 4 * PAGE, RW, MAP_PRIVATE, fd, 0);
	q[0] = 1;
	numa("file private", q, 0);
	numa("stack", 0, " stack");
	unlink("/tmp/a b=c\td");
}

CASES
