/* The main stack grows to its limit, and a thread's guard page is one. */
#include "check.h"
#include <sys/resource.h>
static long deep(int n, volatile char *p)
{
	volatile char b[4096];
	b[0] = *p + 1;
	return n ? deep(n - 1, b) + b[0] : b[0];
}
int main(void)
{
	char c = 0;
	struct rlimit r;
	getrlimit(RLIMIT_STACK, &r);
	IS(r.rlim_cur == 8 << 20);
	say("1700 frames: %d", deep(1700, &c) != 0);
	return 0;
}
