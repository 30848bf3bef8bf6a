/* System calls that do not exist, and those removed from Linux. */
#include "check.h"
int main(void)
{
	static const long nr[] = { 156, 174, 177, 178, 180, 181, 182, 183, 184, 185, 212, 214, 215, 236, 400, 423,
		600, 1000, 100000, 0x40000000, 0x40000001, -1, -2, 0x7fffffffffffffff };
	for (size_t i = 0; i < sizeof nr / sizeof *nr; i++) {
		long r;
		register long r10 __asm__("r10") = 0, r8 __asm__("r8") = 0, r9 __asm__("r9") = 0;
		__asm__ volatile("syscall" : "=a"(r) : "a"(nr[i]), "D"(0), "S"(0), "d"(0), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
		say("syscall %#lx = %s", nr[i], r < 0 ? errname(-r) : "ok");
	}
	for (int i = 0; i < 1000; i++)
		syscall(1000);
	say("alive");
	return 0;
}
