/* What the families of io_uring share: a ring, and its completions said in the order of their
 * user data. */
#ifndef URING_H
#define URING_H
#include "../../programs/c/check.h"
#include <liburing.h>

static struct io_uring ring;

static void begin(unsigned entries, unsigned flags)
{
	alarm(30);
	if (chdir("/tmp") < 0)
		say("chdir: %s", errname(errno));
	int r = io_uring_queue_init(entries, &ring, flags);
	if (r < 0)
		say("init: %s", errname(-r)), exit(1);
}

__attribute__((unused)) static struct io_uring_sqe *sqe(unsigned long user)
{
	struct io_uring_sqe *s = io_uring_get_sqe(&ring);
	memset(s, 0, sizeof *s);
	s->user_data = user;
	return s;
}

static const char *res(int r)
{
	static char b[8][24];
	static int i;
	char *p = b[i++ & 7];
	if (r < 0)
		snprintf(p, 24, "-%s", errname(-r));
	else
		snprintf(p, 24, "%d", r);
	return p;
}

/* go submits everything and says n completions, sorted by user data. */
__attribute__((unused)) static void go(const char *what, int n)
{
	struct io_uring_cqe *c, got[64];
	int s = io_uring_submit(&ring), k = 0;
	say("%s: submitted %s", what, res(s));
	while (k < n) {
		int r = io_uring_wait_cqe(&ring, &c);
		if (r < 0) {
			say("  wait: %s", errname(-r));
			return;
		}
		got[k++] = *c;
		io_uring_cqe_seen(&ring, c);
	}
	for (int i = 0; i < k; i++)
		for (int j = i + 1; j < k; j++)
			if (got[j].user_data < got[i].user_data) {
				struct io_uring_cqe t = got[i];
				got[i] = got[j], got[j] = t;
			}
	for (int i = 0; i < k; i++)
		say("  %llu: %s flags %#x", (unsigned long long)got[i].user_data, res(got[i].res), got[i].flags);
	if (io_uring_peek_cqe(&ring, &c) == 0)
		say("  AND MORE: %llu %s", (unsigned long long)c->user_data, res(c->res));
}

#define USER(s, n) ((s)->user_data = (n))
#endif
