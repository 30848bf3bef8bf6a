// The programs of an image that has several: what each does is its first argument.
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void ms(int n) { usleep(n * 1000); }

static void say(const char *name, const char *text) {
	char line[200];
	int n = snprintf(line, sizeof line, "%s %s\n", name, text);
	if (write(1, line, n) != n) _exit(99);
}

static const char *name, *onstop;

static void stopped(int sig) {
	char text[60];
	snprintf(text, sizeof text, "got signal %d", sig);
	say(name, text);
	_exit(onstop ? atoi(onstop) : 0);
}

// linger NAME [STATUS]: until a signal, whose number it prints.
static int linger(int argc, char **argv) {
	name = argv[2];
	onstop = argc > 3 ? argv[3] : NULL;
	for (int s = 1; s < 32; s++)
		if (s == SIGTERM || s == SIGQUIT || s == SIGHUP || s == SIGUSR1 || s == SIGINT) signal(s, stopped);
	say(name, "lingers");
	for (;;) pause();
}

// deaf NAME: ignores what it can.
static int deaf(char **argv) {
	signal(SIGTERM, SIG_IGN);
	say(argv[2], "is deaf");
	for (;;) pause();
}

// grow adds a byte to a file and gives its size.
static int grow(const char *file) {
	int fd = open(file, O_RDWR | O_CREAT | O_APPEND, 0644);
	if (write(fd, "x", 1) != 1) _exit(99);
	struct stat st;
	fstat(fd, &st);
	close(fd);
	return st.st_size;
}

// count FILE N STATUS: fails with STATUS until its Nth run, which lingers.
static int count(int argc, char **argv) {
	// Whoever looks at the file may end us as soon as it has grown.
	name = "count";
	signal(SIGTERM, stopped);
	struct stat st;
	int run = stat(argv[2], &st) ? 1 : (int)st.st_size + 1;
	char text[60];
	snprintf(text, sizeof text, "run %d of process %d", run, (int)getppid());
	say("count", text);
	grow(argv[2]);
	if (run < atoi(argv[3])) return atoi(argv[4]);
	char *l[] = {argv[0], "linger", "count", NULL};
	return linger(3, l);
}

// serve PORT [SICK]: takes connections, until the file SICK is there: then none is answered.
static int serve(int argc, char **argv) {
	ms(50);
	int s = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
	if (bind(s, (void *)&a, sizeof a) || listen(s, 5)) return 98;
	say("serve", "listens");
	for (;;) {
		int c = accept(s, NULL, NULL);
		char buf[1000];
		ssize_t n = read(c, buf, sizeof buf);
		const char *ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", *bad = "HTTP/1.1 503 No\r\n\r\n";
		const char *r = argc > 3 && access(argv[3], F_OK) == 0 ? bad : ok;
		if (n > 0 && write(c, r, strlen(r)) < 0) return 97;
		close(c);
	}
}

// states counts the processes in a state, and says who their parent is.
static int states(char want, int parent) {
	int n = 0;
	DIR *d = opendir("/proc");
	for (struct dirent *e; (e = readdir(d));) {
		char path[300], buf[300], state;
		int ppid;
		snprintf(path, sizeof path, "/proc/%s/stat", e->d_name);
		if (atoi(e->d_name) == 0) continue;
		int fd = open(path, O_RDONLY);
		if (fd < 0) continue;
		ssize_t k = read(fd, buf, sizeof buf - 1);
		close(fd);
		if (k <= 0) continue;
		buf[k] = 0;
		if (sscanf(strrchr(buf, ')') + 1, " %c %d", &state, &ppid) == 2 && state == want && (!parent || ppid == parent)) n++;
	}
	closedir(d);
	return n;
}

// orphans N: makes N orphans that end, looks at one that lives, and at what is left.
static int orphans(char **argv) {
	int p[2];
	if (pipe(p)) return 99;
	for (int i = 0; i < atoi(argv[2]); i++) {
		pid_t c = fork();
		if (c == 0) {
			int parent = getpid();
			if (fork() == 0) {
				for (int i = 0; i < 2000 && getppid() == parent; i++) ms(1);
				int pp = getppid();
				if (write(p[1], &pp, sizeof pp) < 0) _exit(99);
				_exit(3);
			}
			_exit(0);
		}
		waitpid(c, NULL, 0);
	}
	int pp, ones = 0;
	for (int i = 0; i < atoi(argv[2]); i++)
		if (read(p[0], &pp, sizeof pp) == sizeof pp && pp == 1) ones++;
	int zombies = states('Z', 0); // none at one moment: other programs end, too
	for (int i = 0; i < 200 && zombies; i++) ms(10), zombies = states('Z', 0);
	printf("orphans %d children of process 1, %d zombies, my parent is %d\n", ones, zombies, getppid());
	printf("orphans kill(1, 0) gives %d, a child with wait %d\n", kill(1, 0), waitpid(-1, NULL, WNOHANG));
	fflush(stdout);
	return 0;
}

// leave STATUS: ends and leaves a deaf child behind.
static int leave(char **argv) {
	if (fork() == 0) {
		signal(SIGTERM, SIG_IGN);
		setsid();
		for (;;) pause();
	}
	return atoi(argv[2]);
}

// eat FILE: until memory is over; after its first run it is sated.
static int eat(char **argv) {
	if (grow(argv[2]) > 1) {
		say("eat", "is sated");
		for (;;) pause();
	}
	say("eat", "eats");
	for (;;) {
		char *m = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (m == MAP_FAILED) continue;
		memset(m, 1, 1 << 20);
	}
}

// copy PREFIX [STATUS]: its input's lines with a prefix.
static int copy(int argc, char **argv) {
	char line[200];
	while (fgets(line, sizeof line, stdin)) printf("%s%s", argv[2], line);
	fflush(stdout);
	return argc > 3 ? atoi(argv[3]) : 0;
}

int main(int argc, char **argv) {
	const char *m = argc > 1 ? argv[1] : "";
	if (!strcmp(m, "say")) {
		say("say", argv[2]);
		return argc > 3 ? atoi(argv[3]) : 0;
	}
	if (!strcmp(m, "linger")) return linger(argc, argv);
	if (!strcmp(m, "deaf")) return deaf(argv);
	if (!strcmp(m, "count")) return count(argc, argv);
	if (!strcmp(m, "serve")) return serve(argc, argv);
	if (!strcmp(m, "orphans")) return orphans(argv);
	if (!strcmp(m, "leave")) return leave(argv);
	if (!strcmp(m, "eat")) return eat(argv);
	if (!strcmp(m, "copy")) return copy(argc, argv);
	if (!strcmp(m, "touch")) {
		ms(atoi(argv[3]));
		close(open(argv[2], O_CREAT | O_WRONLY, 0644));
		ms(atoi(argv[4]));
		return 0;
	}
	if (!strcmp(m, "until")) { // FILE SIZE
		struct stat st;
		while (stat(argv[2], &st) || st.st_size < atoi(argv[3])) ms(5);
		return 0;
	}
	if (!strcmp(m, "exists")) return access(argv[2], F_OK) != 0;
	if (!strcmp(m, "kids")) { // KIDS LINGER_MS: says how many processes there are beside itself
		ms(atoi(argv[2]));
		printf("kids %d alive, %d zombies\n", states('S', 0), states('Z', 0));
		return 0;
	}
	if (!strcmp(m, "who")) {
		printf("who parent %d, leads session %d group %d, uid %d, X=%s, in %s\n", getppid(), getsid(0) == getpid(), getpgrp() == getpid(), getuid(),
		       getenv("X") ? getenv("X") : "", getcwd(malloc(300), 300));
		char c;
		printf("who read gives %d\n", (int)read(0, &c, 1));
		return 0;
	}
	return 96;
}
