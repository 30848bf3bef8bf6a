/* Arguments and environment arrive whole, however big; the auxiliary vector is complete. */
#include "check.h"
#include <sys/auxv.h>
extern char **environ;
int main(int argc, char **argv)
{
	unsigned long n = 0, sum = 5381, e = 0;
	for (int i = 1; i < argc; i++)
		for (char *p = argv[i]; *p; p++, n++)
			sum = sum * 33 + (unsigned char)*p;
	for (char **p = environ; *p; p++)
		e++;
	say("argc %d bytes %lu hash %lx", argc, n, sum);
	say("environment %lu", e);
	IS(getauxval(AT_PAGESZ) == 4096);
	IS(getauxval(AT_CLKTCK) == 100);
	IS(getauxval(AT_RANDOM) != 0);
	IS(getauxval(AT_PHDR) != 0 && getauxval(AT_PHENT) == 56 && getauxval(AT_PHNUM) > 1);
	IS(getauxval(AT_ENTRY) != 0);
	IS(getauxval(AT_EXECFN) != 0 && !strcmp((char *)getauxval(AT_EXECFN), argv[0]));
	IS(getauxval(AT_PLATFORM) != 0 && !strcmp((char *)getauxval(AT_PLATFORM), "x86_64"));
	IS(getauxval(AT_HWCAP) != 0);
	IS(getauxval(AT_SECURE) == 0);
	IS(getauxval(AT_MINSIGSTKSZ) >= 1440);
	IS(getauxval(AT_UID) == 0 && getauxval(AT_EGID) == 0);
	IS(argv[argc] == NULL);
	return 0;
}
