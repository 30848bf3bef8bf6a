/* Sends a stream and a datagram to the host and port of its arguments, and ends at once. */
#include "check.h"
#include <arpa/inet.h>
#include <sys/socket.h>

static void must(int ok, const char *what)
{
	if (ok < 0) {
		say("%s: %s", what, errname(errno));
		exit(1);
	}
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[2])), .sin_addr.s_addr = inet_addr(argv[1]) };
	size_t n = atol(argv[3]);
	char *b = malloc(n + 1);
	for (size_t i = 0; i < n; i++)
		b[i] = i * 7 + (i >> 8);
	if (n > 0) {
		int s = socket(AF_INET, SOCK_STREAM, 0);
		must(connect(s, (void *)&to, sizeof to), "connect");
		for (size_t at = 0; at < n;) {
			ssize_t w = write(s, b + at, n - at);
			must(w, "write");
			at += w;
		}
	}
	must(sendto(socket(AF_INET, SOCK_DGRAM, 0), "the last word", 13, 0, (void *)&to, sizeof to), "sendto");
	return 0;
}
