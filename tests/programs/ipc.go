package programs

// IPC are the programs about inter-process communication; each is a conformance case of
// the same name.
var IPC = []Program{
	{"sysvsem", "conformance/c/sysvsem.c", Static, nil},
	{"sysvmsg", "conformance/c/sysvmsg.c", Static, nil},
	{"posixmq", "conformance/c/posixmq.c", Static, nil},
	{"unixsock", "conformance/c/unixsock.c", Static, nil},
	{"unixrights", "conformance/c/unixrights.c", Static, nil},
	{"futexes", "conformance/c/futexes.c", Static, nil},
	{"futexes-musl", "conformance/c/futexes.c", Musl, nil},
	{"fifos", "conformance/c/fifos.c", Static, nil},
	{"sysvshm", "conformance/c/sysvshm.c", Static, nil},
}
