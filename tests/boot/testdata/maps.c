/* Makes mappings that cannot be merged until it is refused, twice; the refusal is ENOMEM
 * and what is there goes on working. An argument is the number to stop at. */
#include "check.h"
#include "meminfo.h"
#include <sys/mman.h>
#define P 4096
int main(int argc, char **argv)
{
	long most = argc > 1 ? atol(argv[1]) : 70000;
	long before = meminfo("SUnreclaim:");
	for (int round = 0; round < 2; round++) {
		/* One reservation; every other page gets other rights and so is a mapping of its own. */
		size_t len = (size_t)(most + 16) * P;
		char *p = mmap(0, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (p == MAP_FAILED) {
			say("reservation: %s", errname(errno));
			return 1;
		}
		long n = 0;
		for (; n < most; n += 2)
			if (mprotect(p + (n + 1) * P, P, PROT_READ | PROT_WRITE)) {
				say("round %d: refused with %s", round, errname(errno));
				break;
			}
		say("round %d: %ld mappings", round, n);
		/* What was given works. */
		for (long i = 0; i < n; i += 1000) {
			p[(i + 1) * P] = 42;
			if (p[(i + 1) * P] != 42)
				return 2;
		}
		if (munmap(p, len)) {
			say("munmap: %s", errname(errno));
			return 3;
		}
	}
	/* Nothing is charged for what is gone; a thread's stack of pages more is nothing. */
	long after = meminfo("SUnreclaim:");
	if (after > before + 64)
		say("charged %ld kB before and %ld after: A LEAK", before, after);
	/* And new mappings by mmap, each apart from its neighbours. */
	char *keep[64];
	for (int i = 0; i < 64; i++) {
		keep[i] = mmap(0, P, i & 1 ? PROT_READ : PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (keep[i] == MAP_FAILED) {
			say("afterwards: %s", errname(errno));
			return 4;
		}
	}
	say("afterwards: ok");
	return 0;
}
