/* Processes: fork, vfork, exec, wait, stops, orphans, groups, death signals; PI locks. */
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

static volatile sig_atomic_t chld;
static void on(int s) { (void)s; chld++; }

static void status(const char *what, int st)
{
	if (WIFEXITED(st))
		say("%s: exit %d", what, WEXITSTATUS(st));
	else if (WIFSIGNALED(st))
		say("%s: signal %d", what, WTERMSIG(st));
	else if (WIFSTOPPED(st))
		say("%s: stopped %d", what, WSTOPSIG(st));
	else if (WIFCONTINUED(st))
		say("%s: continued", what);
}

static void basics(void)
{
	int st;
	say("-- basics");
	R(wait(&st));
	R(waitpid(-1, &st, 0x40000000));
	R(waitpid(1 << 30, &st, 0));
	int *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int private = 1;
	pid_t p = fork();
	if (!p) {
		*shared = 7;
		private = 2;
		_exit(getppid() > 0 && syscall(SYS_gettid) == getpid() ? 3 : 4);
	}
	R(waitpid(p, &st, 0) == p);
	status("child", st);
	R(*shared);
	R(private);
	R(waitpid(p, &st, 0));
	p = vfork();
	if (!p) {
		private = 5;
		_exit(6);
	}
	R(private);
	waitpid(p, &st, 0);
	status("vfork", st);
	p = fork();
	if (!p)
		raise(SIGKILL);
	siginfo_t si = { 0 };
	R(waitid(P_PID, p, &si, WEXITED | WNOWAIT));
	say("waitid: signo %d code %d status %d pid is its %d", si.si_signo, si.si_code, si.si_status, si.si_pid == p);
	R(waitid(P_PID, p, &si, 0));
	R(waitpid(p, &st, WNOHANG) == p);
	status("killed", st);
	p = fork();
	if (!p)
		for (;;)
			pause();
	R(waitpid(p, &st, WNOHANG));
	memset(&si, 1, sizeof si);
	R(waitid(P_ALL, 0, &si, WEXITED | WNOHANG));
	R(si.si_pid);
	R(kill(p, SIGSTOP));
	waitpid(p, &st, WUNTRACED);
	status("stop", st);
	R(waitpid(p, &st, WUNTRACED | WNOHANG));
	R(kill(p, SIGCONT));
	waitpid(p, &st, WCONTINUED);
	status("cont", st);
	R(kill(p, SIGTERM));
	waitpid(p, &st, 0);
	status("term", st);
}

static void signals(void)
{
	int st;
	say("-- signals of children");
	signal(SIGCHLD, on);
	pid_t p = fork();
	if (!p)
		_exit(0);
	while (!chld)
		usleep(1000);
	R(chld);
	R(waitpid(p, &st, 0) == p);
	signal(SIGCHLD, SIG_IGN);
	p = fork();
	if (!p)
		_exit(0);
	R(waitpid(p, &st, 0));
	signal(SIGCHLD, SIG_DFL);
	/* PR_SET_PDEATHSIG, and a grandchild that comes to a subreaper. */
	R(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
	int fd[2];
	MUST(pipe(fd));
	p = fork();
	if (!p) {
		pid_t q = fork();
		if (!q) {
			prctl(PR_SET_PDEATHSIG, SIGUSR1);
			write(fd[1], "x", 1);
			for (;;)
				pause();
		}
		char c;
		read(fd[0], &c, 1);
		_exit(1);
	}
	waitpid(p, &st, 0);
	status("parent", st);
	R(wait(&st) > 0);
	status("grandchild", st);
	R(wait(&st));
}

static void *waits(void *p)
{
	(void)p;
	for (;;)
		pause();
}

static void execs(const char *self)
{
	int st;
	char *no[] = { 0 }, *args[] = { "procs", "child", "a b", "", 0 }, *env[] = { "X=1", 0 };
	say("-- exec");
	R(execve("/nowhere", no, no));
	R(execve("/tmp", no, no));
	R(execve((char *)1, no, no));
	R(execve(self, (char **)1, no));
	fflush(stdout);
	pid_t p = fork();
	if (!p) {
		signal(SIGUSR1, SIG_IGN);
		signal(SIGUSR2, on);
		fcntl(dup2(1, 50), F_SETFD, FD_CLOEXEC);
		dup2(1, 51);
		pthread_t t;
		for (int i = 0; i < 3; i++)
			pthread_create(&t, 0, waits, 0);
		execve(self, args, env);
		_exit(99);
	}
	waitpid(p, &st, 0);
	status("exec", st);
}

static int child(int argc, char **argv, char **env)
{
	struct sigaction a;
	say("argc %d last '%s' env %s", argc, argv[3], env[0]);
	sigaction(SIGUSR1, 0, &a);
	R(a.sa_handler == SIG_IGN);
	sigaction(SIGUSR2, 0, &a);
	R(a.sa_handler == SIG_DFL);
	R(fcntl(50, F_GETFD));
	R(fcntl(51, F_GETFD));
	R(syscall(SYS_gettid) == getpid());
	return 21;
}

static void groups(void)
{
	int st;
	say("-- groups");
	R(setpgid(-1, 0));
	R(setpgid(0, -1));
	R(setpgid(99999, 0));
	R(getpgid(99999));
	R(getsid(99999));
	pid_t p = fork();
	if (!p) {
		R(setsid() == getpid());
		R(getpgrp() == getpid());
		R(setsid());
		R(setpgid(0, 0));
		fflush(stdout);
		pid_t q = fork();
		if (!q)
			for (;;)
				pause();
		_exit(kill(0, SIGTERM));
	}
	waitpid(p, &st, 0);
	status("group", st);
	R(wait(&st) > 0);
	status("member", st);
}

static pthread_mutex_t pi, robust;
static sem_t held;
static long n;
static void *add(void *p)
{
	for (int i = 0; i < 5000; i++) {
		pthread_mutex_lock(&pi);
		n++;
		pthread_mutex_unlock(&pi);
	}
	return p;
}
static void *dies(void *p) { pthread_mutex_lock(&robust); sem_post(&held); usleep(20000); return p; }

static void locks(void)
{
	say("-- PI locks");
	pthread_mutexattr_t a;
	pthread_t t[4];
	pthread_mutexattr_init(&a);
	R(pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT));
	R(pthread_mutex_init(&pi, &a));
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	R(pthread_mutex_init(&robust, &a));
	for (int i = 0; i < 4; i++)
		pthread_create(t + i, 0, add, 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], 0);
	R(n);
	sem_init(&held, 0, 0);
	pthread_create(t, 0, dies, 0);
	while (sem_wait(&held))
		;
	R(pthread_mutex_lock(&robust) == EOWNERDEAD);
	R(pthread_mutex_consistent(&robust));
	R(pthread_mutex_unlock(&robust));
	pthread_join(t[0], 0);
	R(pthread_mutex_trylock(&robust));
	R(pthread_mutex_unlock(&robust));
}

int main(int argc, char **argv, char **env)
{
	setvbuf(stdout, 0, _IOLBF, 0);
	if (argc > 1)
		return child(argc, argv, env);
	basics();
	signals();
	execs("/proc/self/exe");
	groups();
	locks();
	return 0;
}
