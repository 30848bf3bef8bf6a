/* The line discipline: canonical editing, every special character, the forms of echo, output and input flags. */
#include "pty.h"

/* t types and shows what the slave reads and what the master sees. */
static void t(const char *what, const char *typed)
{
	char b[128];
	put(m, typed);
	snprintf(b, sizeof b, "%s echo", what);
	all(b, m);
	snprintf(b, sizeof b, "%s read", what);
	all(b, s);
}

static void again(void)
{
	unpair();
	pair();
}

static void key(int k, int v)
{
	struct termios t;
	tcgetattr(s, &t);
	t.c_cc[k] = v;
	tcsetattr(s, TCSANOW, &t);
}

static void editing(void)
{
	t("line", "hello\r");
	t("erase", "abc\177d\n");
	t("erase control", "a\001b\177\177c\n");
	t("erase nothing", "\177\177x\n");
	t("erase tab", "ab\tc\177\177d\n");
	t("erase tabs", "\t\t\177\177x\n");
	t("kill", "gone\025kept\n");
	t("word erase", "one two  \027three\n");
	t("word erase _", "a_b.c\027\027\027d\n");
	t("reprint", "abc\022d\n");
	t("literal", "a\026\003b\026\177c\n");
	t("literal newline", "a\026\nb\n");
	put(m, "no newline\004");
	one("end of file, line", s, 100);
	put(m, "\004");
	one("end of file", s, 100);
	put(m, "abc\004\n");
	one("exactly the line", s, 3);
	one("the rest", s, 100);
	put(m, "ab\004cd\n");
	one("two", s, 1);
	one("two", s, 1);
	one("two", s, 100);
	put(m, "one\ntwo\nhalf");
	one("lines", s, 100);
	one("lines", s, 2);
	one("lines", s, 100);
	one("half", s, 100);
	put(m, "\n");
	one("whole", s, 100);
	all("echo of all", m);
	key(VEOL, 'E');
	key(VEOL2, 'F');
	t("eol", "abEcdFg\n");
	put(m, "xEyFz\n");
	one("eol", s, 100);
	one("eol2", s, 100);
	one("rest", s, 100);
	modes(0, 0, 0, 0, IEXTEN, 0);
	t("no iexten", "a b\027\022\026F\n");
	again();
	key(VERASE, 0);
	t("no erase key", "a\177b\n");
	char z[] = "a";
	z[0] = 0;
	write(m, z, 1);
	t("nul", "b\n");
}

static void echo(void)
{
	static const struct { const char *n; int off, on; } f[] = {
		{ "no echoe", ECHOE, 0 }, { "no echok", ECHOK, 0 }, { "no echoke", ECHOKE, 0 }, { "no echok, echoke", ECHOK | ECHOKE, 0 },
		{ "no echoctl", ECHOCTL, 0 }, { "echoprt", 0, ECHOPRT }, { "no echo", ECHO, 0 }, { "echonl", ECHO, ECHONL },
	};
	for (int i = 0; i < sizeof f / sizeof *f; i++) {
		again();
		modes(0, 0, 0, 0, f[i].off, f[i].on);
		t(f[i].n, "ab\001c\177\177x\n");
		t(f[i].n, "line\025new\n");
		t(f[i].n, "two words\027\027x\n");
		t(f[i].n, "t\ta\177\177\n");
	}
	again();
	modes(0, IUTF8, 0, 0, 0, 0);
	t("utf8", "a\xc3\xa4\177b\xe2\x82\xac\177\177\n");
	modes(0, 0, 0, 0, ICANON, 0);
	t("raw echo", "ab\177\001\r\n\tx");
}

static void inputs(void)
{
	static const struct { const char *n; int off, on; } f[] = {
		{ "no icrnl", ICRNL, 0 }, { "inlcr", ICRNL, INLCR }, { "igncr", 0, IGNCR }, { "istrip", 0, ISTRIP }, { "iuclc", 0, IUCLC },
		{ "parmrk", 0, PARMRK },
	};
	for (int i = 0; i < sizeof f / sizeof *f; i++) {
		again();
		modes(f[i].off, f[i].on, 0, 0, 0, 0);
		t(f[i].n, "A\rb\nc\xff\xe1\n");
		modes(0, 0, 0, 0, ICANON, 0);
		t(f[i].n, "A\rb\nc\xff\n");
	}
}

static void outputs(void)
{
	static const struct { const char *n; int off, on; } f[] = {
		{ "opost", 0, 0 }, { "no opost", OPOST, 0 }, { "no onlcr", ONLCR, 0 }, { "ocrnl", 0, OCRNL }, { "onocr", 0, ONOCR },
		{ "onlret", ONLCR, ONLRET }, { "xtabs", 0, XTABS }, { "olcuc", 0, OLCUC },
	};
	for (int i = 0; i < sizeof f / sizeof *f; i++) {
		again();
		modes(0, 0, f[i].off, f[i].on, 0, 0);
		put(s, "ab\tc\n\rd\r\re\n12345678\tx\b\ty\n");
		all(f[i].n, m);
	}
}

/* flow stops and starts output by keys and by TCXONC. */
static void flow(void)
{
	again();
	put(m, "\023");
	usleep(20000);
	fcntl(s, F_SETFL, O_RDWR | O_NONBLOCK);
	R(write(s, "stopped", 7));
	events("stopped", s);
	put(m, "\021");
	all("start is not echoed", m);
	put(s, "started");
	all("started", m);
	put(m, "\023");
	usleep(20000);
	modes(IXON, 0, 0, 0, 0, 0);
	put(s, "no ixon");
	all("no ixon", m);
	modes(0, IXON | IXANY, 0, 0, 0, 0);
	put(m, "\023x");
	put(s, "any key");
	all("ixany", m);
	R(tcflow(s, TCOOFF));
	R(write(s, "held", 4));
	put(m, "\021");
	R(write(s, "held", 4));
	R(tcflow(s, TCOON));
	put(s, "let go");
	all("tcoon", m);
	R(tcflow(s, TCIOFF));
	R(tcflow(s, TCION));
	all("stop and start sent", m);
	R(tcflow(s, 9));
	R(tcdrain(s));
	R(tcsendbreak(s, 0));
	/* the master's own */
	put(s, "discarded");
	usleep(20000);
	R(tcflush(m, TCIFLUSH));
	all("flushed", m);
	put(m, "discarded\n");
	usleep(20000);
	R(tcflush(s, TCIFLUSH));
	all("flushed", s);
	R(tcflush(s, TCOFLUSH));
	R(tcflush(s, 7));
}

static void limits(void)
{
	char b[6000];
	int n, r, fl;
	again();
	modes(0, 0, 0, 0, ECHO, 0);
	memset(b, 'x', sizeof b);
	b[sizeof b - 1] = '\n';
	for (int i = 0; i < sizeof b; i += 1000) {
		write(m, b + i, 1000);
		usleep(5000);
	}
	ready(s, 100);
	R(ioctl(s, FIONREAD, &n));
	say("a long line: %d", n);
	n = read(s, b, sizeof b);
	say("read %d, ends with a newline: %s", n, n > 0 && b[n - 1] == '\n' ? "yes" : "NO");
	/* a change of ICANON makes what is there readable, or a line */
	put(m, "typed");
	usleep(20000);
	R(ioctl(s, FIONREAD, &n));
	say("half a line: %d", n);
	modes(0, 0, 0, 0, ICANON, 0);
	R(ioctl(s, FIONREAD, &n));
	say("without lines: %d", n);
	modes(0, 0, 0, 0, 0, ICANON);
	one("with lines again", s, 100);
	put(m, "ab\004");
	usleep(20000);
	R(ioctl(s, FIONREAD, &n));
	say("end of file does not count: %d", n);
	modes(0, 0, 0, 0, 0, EXTPROC);
	put(m, "a\177b\003");
	one("extproc", s, 100);
	one("extproc", s, 100);
}

static void settings(void)
{
	struct termios t, u;
	unsigned char k[64];
	again();
	tcgetattr(s, &t);
	say("i %o o %o c %o l %o", t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag);
	for (int i = 0; i < 17; i++)
		if (i != VSWTC)
			say("key %d = %d", i, t.c_cc[i]);
	tcgetattr(m, &u);
	IS(memcmp(&t, &u, sizeof t) == 0);
	say("speed %d %d", cfgetospeed(&t) == B38400, cfgetispeed(&t) == B38400);
	cfsetspeed(&t, B9600);
	t.c_cflag = t.c_cflag & ~CSIZE | CS5 | PARENB;
	R(tcsetattr(m, TCSANOW, &t));
	tcgetattr(s, &u);
	say("c %o", u.c_cflag);
	R(ioctl(s, TCGETS, 1));
	R(ioctl(s, TCSETS, 1));
	R(ioctl(s, TCSETSW, 1));
	memset(k, 0xee, sizeof k);
	R(ioctl(s, 0x802c542a, k)); /* TCGETS2 */
	say("speeds %u %u", *(unsigned *)(k + 36), *(unsigned *)(k + 40));
	*(unsigned *)(k + 8) = *(unsigned *)(k + 8) & ~0x100f | 0x1000; /* BOTHER */
	*(unsigned *)(k + 40) = 12345;
	R(ioctl(s, 0x402c542b, k)); /* TCSETS2 */
	memset(k, 0xee, sizeof k);
	ioctl(s, 0x802c542a, k);
	say("speeds %u %u", *(unsigned *)(k + 36), *(unsigned *)(k + 40));
	memset(k, 0xee, sizeof k);
	R(ioctl(s, 0x5405, k)); /* TCGETA */
	say("old %o %o l %o line %d intr %d size %d", *(unsigned short *)k, *(unsigned short *)(k + 2), *(unsigned short *)(k + 6), k[8], k[9], k[17] == 0xee || k[17] == 0);
	*(unsigned short *)(k + 6) &= ~ECHO;
	R(ioctl(s, 0x5406, k)); /* TCSETA */
	tcgetattr(s, &u);
	say("l %o", u.c_lflag);
	int v = 3;
	R(ioctl(s, TIOCGETD, &v));
	say("discipline %d", v);
	v = 99;
	R(ioctl(s, TIOCSETD, &v));
	R(ioctl(m, FIONREAD, &v));
	R(ioctl(s, TIOCOUTQ, &v));
	say("output queue %d", v);
	R(ioctl(s, TIOCMGET, &v));
	R(ioctl(s, TIOCGSOFTCAR, &v));
	say("soft carrier %d", v);
}

int main(void)
{
	setvbuf(stdout, 0, _IONBF, 0);
	signal(SIGHUP, SIG_IGN);
	pts();
	pair();
	editing();
	echo();
	inputs();
	outputs();
	flow();
	limits();
	settings();
	return 0;
}
