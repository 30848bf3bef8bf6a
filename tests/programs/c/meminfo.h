/* What /proc/meminfo says. */
#include <fcntl.h>

/* A line's value in kB, -1 if there is no such line. SUnreclaim is what objects that the
 * program made the kernel keep are charged with. */
static long meminfo(const char *name)
{
	char b[4096], *p;
	int fd = open("/proc/meminfo", O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, b, sizeof b - 1);
	close(fd);
	b[n < 0 ? 0 : n] = 0;
	p = strstr(b, name);
	return p ? atol(p + strlen(name)) : -1;
}
