/* Loads libm at run time and calls into it; a library with TLS and a constructor. */
#include "check.h"
#include <dlfcn.h>
int main(void)
{
	void *h = dlopen("libm.so.6", RTLD_NOW);
	if (!h) {
		say("dlopen: %s", dlerror());
		return 1;
	}
	double (*c)(double) = (double (*)(double))dlsym(h, "cos");
	say("cos(0) = %.3f", c(0));
	R(dlclose(h));
	IS(dlopen("libnope.so", RTLD_NOW) == NULL);
	IS(dlsym(RTLD_DEFAULT, "printf") != NULL);
	return 0;
}
