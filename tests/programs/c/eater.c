/* Eats memory until it is killed; says each 16 MB that it got. */
#include "check.h"
#include <sys/mman.h>
int main(void)
{
	for (int mb = 16;; mb += 16) {
		char *p = mmap(0, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED) {
			say("mmap: %s", errname(errno));
			return 3;
		}
		for (int i = 0; i < 16 << 20; i += 4096)
			p[i] = 1;
		say("%d MB", mb);
	}
}
