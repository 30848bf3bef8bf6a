#ifndef PROJECT_H
#define PROJECT_H

#include <stddef.h>

/* sieve stores the primes below limit in out, which has room for max, and counts them. */
size_t sieve(unsigned limit, unsigned *out, size_t max);

/* deviation is the standard deviation of n numbers. */
double deviation(const unsigned *v, size_t n);

/* grouped writes n with a comma between groups of three digits into buf. */
char *grouped(unsigned long n, char *buf, size_t size);

#endif
