/*
 * leaks forks N: N children, one after the other, leave nothing behind.
 * leaks kills N [SEED]: N children that block in each family of calls, killed at a random
 * moment, leave no lock held, no page and no file description behind.
 */
#include "families.h"
static void forks(int n)
{
	for (int i = 0; i < n; i++) {
		pid_t p = fork();
		if (p < 0) {
			say("fork %d: %s", i, errname(errno));
			exit(1);
		}
		if (p == 0)
			_exit(i & 0x7f);
		int st;
		if (waitpid(p, &st, 0) != p || st != (i & 0x7f) << 8) {
			say("child %d: status %#x", i, st);
			exit(1);
		}
	}
}

int main(int argc, char **argv)
{
	long before[NCOUNTS];
	if (argc < 3)
		return argc == 2 ? 0 : 1; /* "nothing": what f_exec runs */
	int n = atoi(argv[2]);
	if (argc > 3)
		seed += atoi(argv[3]);
	if (argc > 4)
		for (int i = 0; i < NFAMILIES; i++)
			if (!strcmp(families[i].name, argv[4]))
				only = i;
	if (!strcmp(argv[1], "forks")) {
		forks(200); /* what is kept for the next, is */
		counts(before);
		forks(n);
		return settle(before, n);
	}
	prepare();
	kills(only >= 0 ? 30 : 4 * NFAMILIES, 0);
	tidy();
	counts(before);
	kills(n, 0);
	tidy();
	free_locks();
	return settle(before, n);
}
