#include <stdlib.h>

#include "project.h"

size_t sieve(unsigned limit, unsigned *out, size_t max)
{
	unsigned char *composite = calloc(limit, 1);
	size_t n = 0;

	if (!composite)
		abort();
	for (unsigned i = 2; i < limit; i++) {
		if (composite[i])
			continue;
		if (n < max)
			out[n] = i;
		n++;
		for (unsigned long j = (unsigned long)i * i; j < limit; j += i)
			composite[j] = 1;
	}
	free(composite);
	return n;
}
