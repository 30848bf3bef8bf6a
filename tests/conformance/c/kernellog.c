/* syslog: the kernel's messages, which are not the same on two kernels (syslog(2)). */
#include "ipc.h"
#include <signal.h>

static char buf[1 << 18];

static long log_(int action, void *b, int n) { return syscall(SYS_syslog, action, b, n); }

CASE(actions, syslog)
{
	IS(log_(10, 0, 0) >= 1 << 12);
	IS(log_(9, 0, 0) >= 0);
	R(log_(0, 0, 0));
	R(log_(1, 0, 0));
	R(log_(3, 0, 10));
	R(log_(3, buf, -1));
	R(log_(3, buf, 0));
	R(log_(4, 0, 10));
	R(log_(2, 0, 10));
	R(log_(2, buf, -1));
	R(log_(2, buf, 0));
	IS(log_(3, buf, sizeof buf) >= 0);
	R(log_(5, 0, 0));
	R(log_(3, buf, sizeof buf));
	R(log_(8, 0, 0));
	R(log_(8, 0, 9));
	R(log_(11, 0, 0));
	R(log_(-1, 0, 0));
}

CASE(without_privilege, syslog)
{
	MUST(setresuid(1000, 1000, 1000));
	R(log_(2, buf, 10));
	R(log_(2, 0, 10));
	R(log_(4, buf, 10));
	R(log_(5, 0, 0));
	R(log_(9, 0, 0));
	R(log_(8, 0, 0));
}
CASES
