/* Makes calls that Kiln does not serve, many times each: ENOSYS each time. */
#include "check.h"
int main(void)
{
	static const long nr[] = { SYS_bpf, SYS_kexec_load, 1000, 0x40000001, -1 };
	for (size_t i = 0; i < sizeof nr / sizeof *nr; i++) {
		int nosys = 0;
		for (int k = 0; k < 100; k++)
			nosys += syscall(nr[i], 0, 0, 0, 0, 0, 0) == -1 && errno == ENOSYS;
		say("call %ld: ENOSYS %d of 100 times", nr[i], nosys);
	}
	return 0;
}
