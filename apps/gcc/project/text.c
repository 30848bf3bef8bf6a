#include <stdio.h>
#include <string.h>

#include "project.h"

char *grouped(unsigned long n, char *buf, size_t size)
{
	char digits[24];
	int len = snprintf(digits, sizeof digits, "%lu", n);
	size_t at = 0;

	for (int i = 0; i < len && at + 2 < size; i++) {
		if (i > 0 && (len - i) % 3 == 0)
			buf[at++] = ',';
		buf[at++] = digits[i];
	}
	buf[at] = '\0';
	return buf;
}
