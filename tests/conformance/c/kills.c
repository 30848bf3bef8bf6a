/* kills: signals for many processes while those are being born. */
#include "proc.h"
#include <grp.h>
#include <sched.h>

/* swarm forks for ever, up to a limit of processes of its user. */
static void swarm(void)
{
	for (;;)
		if (fork() < 0)
			sched_yield();
}

/* A signal for a group reaches all that are in it: none is born behind its back. */
CASE(group_that_forks, kill)
{
	int left = 0, most = 0;
	MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
	alarm(60);
	for (int i = 0; i < 30; i++) {
		pid_t p = fork();
		if (!p) {
			setpgid(0, 0);
			MUST(setrlimit(RLIMIT_NPROC, &(struct rlimit){ 30, 30 }));
			MUST(setgroups(0, 0));
			MUST(setresuid(4321, 4321, 4321));
			swarm();
		}
		setpgid(p, p);
		nap(10 + i % 7);
		MUST(kill(-p, SIGKILL));
		int n = 0, st;
		while (wait(&st) > 0)
			n++;
		most = n > most ? n : most;
		left += kill(-p, 0) == 0;
	}
	say("many: %d, left: %d", most > 2, left);
}

CASES
