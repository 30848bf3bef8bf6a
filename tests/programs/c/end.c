/* Ends in the way its argument says: exit N, or one of the crashes below. */
#include "check.h"
#include <signal.h>
#include <sys/mman.h>

static int deep(volatile char *p)
{
	volatile char b[4096];
	b[0] = *p;
	return deep(b) + b[0];
}

static void *volatile wild = (void *)0x123456789000;
static volatile int zero;

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "exit";
	say("ending by %s", how);
	if (!strcmp(how, "exit"))
		return argc > 2 ? atoi(argv[2]) : 0;
	if (!strcmp(how, "exit_group"))
		syscall(SYS_exit_group, 300);
	if (!strcmp(how, "null"))
		*(volatile int *)(uintptr_t)zero = 1;
	if (!strcmp(how, "read"))
		zero = *(volatile int *)wild;
	if (!strcmp(how, "write"))
		*(volatile int *)wild = 1;
	if (!strcmp(how, "jump"))
		((void (*)(void))wild)();
	if (!strcmp(how, "kernel"))
		zero = *(volatile int *)0xffffffff80000000;
	if (!strcmp(how, "noncanonical"))
		zero = *(volatile int *)0x8000000000000000;
	if (!strcmp(how, "text"))
		*(volatile char *)main = 1;
	if (!strcmp(how, "noexec")) {
		static char data[16] = "\xc3";
		((void (*)(void))data)();
	}
	if (!strcmp(how, "stack"))
		return deep((char *)argv);
	if (!strcmp(how, "hlt"))
		__asm__ volatile("hlt");
	if (!strcmp(how, "cli"))
		__asm__ volatile("cli");
	if (!strcmp(how, "out"))
		__asm__ volatile("outb %al, $0x80");
	if (!strcmp(how, "ud2"))
		__asm__ volatile("ud2");
	if (!strcmp(how, "int3"))
		__asm__ volatile("int3");
	if (!strcmp(how, "div"))
		return 7 / zero;
	if (!strcmp(how, "abort"))
		abort();
	if (!strcmp(how, "sigterm"))
		raise(SIGTERM);
	if (!strcmp(how, "sigkill"))
		kill(getpid(), SIGKILL);
	if (!strcmp(how, "bus")) {
		char *p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memfd_create("m", 0), 0);
		p[0] = 1;
	}
	if (!strcmp(how, "badstack")) {
		/* A handler is wanted, and there is no stack to run it on. */
		signal(SIGSEGV, (void (*)(int))deep);
		__asm__ volatile("xor %rsp, %rsp; push %rax");
	}
	say("still here after %s", how);
	return 97;
}
