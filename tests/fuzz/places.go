package fuzz

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// place is a kind of descriptor in a state: calls that make one, whose line open gives. Ports and
// names of sockets have port in them, which no other program has.
type place struct {
	name string
	open func(g *gen, port int) int
}

// Arguments that are not chance: a number, the result and the second result of a line, bytes, a
// path, room for a result.
func is(n int) arg          { return func(*gen) string { return fmt.Sprintf("i%d", uint64(n)) } }
func res(line int) arg      { return func(*gen) string { return fmt.Sprintf("r%d", line) } }
func res2(line int) arg     { return func(*gen) string { return fmt.Sprintf("R%d", line) } }
func str(s string) arg      { return func(g *gen) string { return g.data([]byte(s)) } }
func name(s string) arg     { return str(s + "\x00") }
func space(n int) arg       { return func(g *gen) string { return fmt.Sprintf("b%d", g.room(n)) } }
func flagged(n int) arg     { return is(n | unix.SOCK_NONBLOCK) }
func (g *gen) shut(fd arg)  { g.put(c(unix.SYS_CLOSE, "v", fd)) }
func (g *gen) hello(fd arg) { g.put(c(unix.SYS_SENDTO, "v", fd, str("hello"), is(5), zero)) }

// family is one of sockets: how its addresses look.
type family struct {
	name    string
	af, len int
	addr    func(port int) arg
	types   []int
}

func sockaddr4(a string) func(port int) arg {
	return func(port int) arg {
		b := make([]byte, 16)
		binary.LittleEndian.PutUint16(b, unix.AF_INET)
		binary.BigEndian.PutUint16(b[2:], uint16(port))
		copy(b[4:], a)
		return str(string(b))
	}
}

func sockaddr6(a string) func(port int) arg {
	return func(port int) arg {
		b := make([]byte, 28)
		binary.LittleEndian.PutUint16(b, unix.AF_INET6)
		binary.BigEndian.PutUint16(b[2:], uint16(port))
		copy(b[8:], a)
		return str(string(b))
	}
}

func sockaddrUnix(port int) arg {
	b := make([]byte, 110)
	b[0] = unix.AF_UNIX
	copy(b[2:], fmt.Sprintf("s%d", port))
	return str(string(b))
}

var socketFamilies = []family{
	{"IPv4", unix.AF_INET, 16, sockaddr4("\x7f\x00\x00\x01"), []int{unix.SOCK_STREAM, unix.SOCK_DGRAM}},
	{"IPv6", unix.AF_INET6, 28, sockaddr6(strings.Repeat("\x00", 15) + "\x01"), []int{unix.SOCK_STREAM, unix.SOCK_DGRAM}},
	{"IPv4 by IPv6", unix.AF_INET6, 28, sockaddr6(strings.Repeat("\x00", 10) + "\xff\xff\x7f\x00\x00\x01"), []int{unix.SOCK_STREAM, unix.SOCK_DGRAM}},
	{"unix", unix.AF_UNIX, 110, sockaddrUnix, []int{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET}},
}

func (f family) socket(g *gen, typ int) int {
	return g.put(c(unix.SYS_SOCKET, "v", is(f.af), flagged(typ), zero))
}

func (f family) bound(g *gen, typ, port int) int {
	s := f.socket(g, typ)
	g.put(c(unix.SYS_BIND, "v", res(s), f.addr(port), is(f.len)))
	return s
}

func (f family) connect(g *gen, s, port int) {
	g.put(c(unix.SYS_CONNECT, "v", res(s), f.addr(port), is(f.len)))
}

// nobody is a port that nobody listens at.
const nobody = 81

// places are those of sockets that connect or take datagrams, of one type.
func (f family) places(typ int) (out []place) {
	add := func(state string, open func(g *gen, port int) int) {
		out = append(out, place{fmt.Sprintf("%s, type %d, %s", f.name, typ, state), open})
	}
	add("fresh", func(g *gen, _ int) int { return f.socket(g, typ) })
	add("bound", func(g *gen, port int) int { return f.bound(g, typ, port) })
	add("not connected", func(g *gen, _ int) int { s := f.socket(g, typ); f.connect(g, s, nobody); return s })
	if typ == unix.SOCK_DGRAM {
		f.datagramPlaces(add)
	} else {
		f.streamPlaces(typ, add)
	}
	return out
}

func (f family) datagramPlaces(add func(state string, open func(g *gen, port int) int)) {
	const typ = unix.SOCK_DGRAM
	connected := func(g *gen, port int) int {
		f.bound(g, typ, port)
		s := f.socket(g, typ)
		f.connect(g, s, port)
		return s
	}
	add("connected", connected)
	add("connected no more", func(g *gen, port int) int {
		s := connected(g, port)
		g.put(c(unix.SYS_CONNECT, "v", res(s), str(string(make([]byte, 28))), is(f.len)))
		return s
	})
	add("with a datagram", func(g *gen, port int) int {
		s := f.bound(g, typ, port)
		g.put(c(unix.SYS_SENDTO, "v", res(f.socket(g, typ)), str("hello"), is(5), zero, f.addr(port), is(f.len)))
		return s
	})
	add("refused", func(g *gen, _ int) int {
		s := f.socket(g, typ)
		f.connect(g, s, nobody)
		g.hello(res(s))
		return s
	})
}

func (f family) streamPlaces(typ int, add func(state string, open func(g *gen, port int) int)) {
	listening := func(g *gen, port int) int {
		s := f.bound(g, typ, port)
		g.put(c(unix.SYS_LISTEN, "v", res(s), is(3)))
		return s
	}
	add("listening", listening)
	// A connection's client, its server, and the listener.
	conn := func(state string, then func(g *gen, client, server, listener int) int) {
		add(state, func(g *gen, port int) int {
			l := listening(g, port)
			s := f.socket(g, typ)
			f.connect(g, s, port)
			g.put(c(unix.SYS_POLL, "x", str("\x03\x00\x00\x00\x01\x00\x00\x00"), is(1), is(1000))) // the listener
			return then(g, s, g.put(c(unix.SYS_ACCEPT4, "v", res(l), zero, zero, flagged(0))), l)
		})
	}
	shutdown := func(g *gen, s, how int) { g.put(c(unix.SYS_SHUTDOWN, "v", res(s), is(how))) }
	conn("connected", func(g *gen, client, _, _ int) int { return client })
	conn("accepted", func(g *gen, _, server, _ int) int { return server })
	conn("listening, with a connection", func(g *gen, _, _, listener int) int { return listener })
	conn("closed by its peer", func(g *gen, client, server, _ int) int { g.shut(res(server)); return client })
	conn("shut for reading", func(g *gen, client, _, _ int) int { shutdown(g, client, unix.SHUT_RD); return client })
	conn("shut for writing", func(g *gen, client, _, _ int) int { shutdown(g, client, unix.SHUT_WR); return client })
	conn("shut", func(g *gen, client, _, _ int) int { shutdown(g, client, unix.SHUT_RDWR); return client })
	conn("shut by its peer", func(g *gen, client, server, _ int) int { shutdown(g, server, unix.SHUT_WR); return client })
	conn("with bytes", func(g *gen, client, server, _ int) int { g.hello(res(server)); return client })
	conn("reset", func(g *gen, client, server, _ int) int { g.hello(res(client)); g.shut(res(server)); return client })
}

// socketPlaces are those of all sockets.
func socketPlaces() (out []place) {
	for _, f := range socketFamilies {
		for _, typ := range f.types {
			out = append(out, f.places(typ)...)
		}
	}
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET} {
		pair := func(g *gen, _ int) int {
			return g.put(c(unix.SYS_SOCKETPAIR, "v", is(unix.AF_UNIX), flagged(typ), zero, space(8)).shows("F 3"))
		}
		out = append(out, place{fmt.Sprintf("pair, type %d", typ), pair},
			place{fmt.Sprintf("pair, type %d, closed by its peer", typ), func(g *gen, n int) int { p := pair(g, n); g.shut(res2(p)); return p }},
			place{fmt.Sprintf("pair, type %d, with a message", typ), func(g *gen, n int) int { p := pair(g, n); g.hello(res2(p)); return p }})
	}
	netlink := func(g *gen, _ int) int {
		return g.put(c(unix.SYS_SOCKET, "v", is(unix.AF_NETLINK), flagged(unix.SOCK_RAW), zero))
	}
	return append(out, place{"netlink", netlink}, place{"netlink, bound", func(g *gen, n int) int {
		s := netlink(g, n)
		g.put(c(unix.SYS_BIND, "v", res(s), str("\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), is(12)))
		return s
	}})
}

// filePlaces are descriptors of files, pipes and what has no name. a is a file of 300 bytes, d a
// directory, l a link to a, f a FIFO.
func filePlaces() (out []place) {
	add := func(state string, open func(g *gen) int) {
		out = append(out, place{state, func(g *gen, _ int) int {
			a := g.put(c(unix.SYS_OPENAT, "v", is(unix.AT_FDCWD), name("a"), is(unix.O_CREAT|unix.O_RDWR), is(0o644)))
			g.put(c(unix.SYS_WRITE, "v", res(a), str(strings.Repeat("0123456789", 30)), is(300)))
			g.shut(res(a))
			g.put(c(unix.SYS_MKDIR, "v", name("d"), is(0o755)))
			g.put(c(unix.SYS_SYMLINK, "v", name("a"), name("l")))
			g.put(c(unix.SYS_MKNOD, "v", name("f"), is(unix.S_IFIFO|0o644), zero))
			return open(g)
		}})
	}
	open := func(n string, flags int) func(g *gen) int {
		return func(g *gen) int {
			return g.put(c(unix.SYS_OPENAT, "v", is(unix.AT_FDCWD), name(n), is(flags), is(0o644)))
		}
	}
	for _, f := range []struct {
		name, path string
		flags      int
	}{
		{"file", "a", unix.O_RDWR}, {"file to read", "a", unix.O_RDONLY}, {"file to write", "a", unix.O_WRONLY}, {"file to append to", "a", unix.O_WRONLY | unix.O_APPEND},
		{"file for ioctl alone", "a", 3}, {"O_PATH of a file", "a", unix.O_PATH}, {"directory", "d", unix.O_DIRECTORY}, {"working directory", ".", unix.O_DIRECTORY},
		{"O_PATH of a directory", "d", unix.O_PATH}, {"O_PATH of a link", "l", unix.O_PATH | unix.O_NOFOLLOW}, {"O_PATH of a FIFO", "f", unix.O_PATH},
		{"FIFO", "f", unix.O_RDWR | unix.O_NONBLOCK}, {"FIFO to read", "f", unix.O_RDONLY | unix.O_NONBLOCK}, {"O_TMPFILE", ".", unix.O_RDWR | unix.O_TMPFILE},
	} {
		add(f.name, open(f.path, f.flags))
	}
	add("removed file", func(g *gen) int { f := open("a", unix.O_RDWR)(g); g.put(c(unix.SYS_UNLINK, "v", name("a"))); return f })
	add("removed directory", func(g *gen) int { f := open("d", unix.O_RDONLY)(g); g.put(c(unix.SYS_RMDIR, "v", name("d"))); return f })
	pipePlaces(add)
	for _, n := range []struct {
		name string
		call spec
	}{
		{"eventfd", c(unix.SYS_EVENTFD2, "v", is(3), is(unix.EFD_NONBLOCK))}, {"eventfd of 0", c(unix.SYS_EVENTFD2, "v", is(0), is(unix.EFD_NONBLOCK))},
		{"timerfd", c(unix.SYS_TIMERFD_CREATE, "v", is(1), is(unix.TFD_NONBLOCK))}, {"epoll", c(unix.SYS_EPOLL_CREATE1, "v", zero)},
		{"signalfd", c(unix.SYS_SIGNALFD4, "v", is(-1), str("\x00\x02\x00\x00\x00\x00\x00\x00"), is(8), is(unix.SFD_NONBLOCK))},
		{"inotify", c(unix.SYS_INOTIFY_INIT1, "v", is(unix.IN_NONBLOCK))}, {"mqueue", c(unix.SYS_MQ_OPEN, "v", name("q1"), is(0o4102), is(0o600), zero)},
		{"open_tree", c(unix.SYS_OPEN_TREE, "v", is(unix.AT_FDCWD), name("d"), zero)},
	} {
		add(n.name, func(g *gen) int { return g.put(n.call) })
	}
	add("inotify with an event", func(g *gen) int {
		i := g.put(c(unix.SYS_INOTIFY_INIT1, "v", is(unix.IN_NONBLOCK)))
		g.put(c(unix.SYS_INOTIFY_ADD_WATCH, "v", res(i), name("."), is(0xfff)))
		g.put(c(unix.SYS_MKDIR, "v", name("e"), is(0o755)))
		return i
	})
	add("pidfd", func(g *gen) int { return g.put(c(unix.SYS_PIDFD_OPEN, "v", res(g.put(c(unix.SYS_GETPID, "x"))), zero)) })
	memfd := func(g *gen) int {
		m := g.put(c(unix.SYS_MEMFD_CREATE, "v", name("m"), is(unix.MFD_ALLOW_SEALING)))
		g.put(c(unix.SYS_FTRUNCATE, "v", res(m), is(10000)))
		return m
	}
	add("memfd", memfd)
	add("sealed memfd", func(g *gen) int {
		m := memfd(g)
		g.put(c(unix.SYS_FCNTL, "v", res(m), is(unix.F_ADD_SEALS), is(15)))
		return m
	})
	return out
}

func pipePlaces(add func(state string, open func(g *gen) int)) {
	pipe := func(g *gen, flags int) int {
		return g.put(c(unix.SYS_PIPE2, "v", space(8), is(unix.O_NONBLOCK|flags)).shows("F 0"))
	}
	written := func(g *gen, flags int) int {
		p := pipe(g, flags)
		g.put(c(unix.SYS_WRITE, "v", res2(p), str("hello"), is(5)))
		return p
	}
	second := func(g *gen, p int) int { return g.put(c(unix.SYS_DUP, "v", res2(p))) }
	add("pipe to read", func(g *gen) int { return pipe(g, 0) })
	add("pipe to write", func(g *gen) int { return second(g, pipe(g, 0)) })
	add("pipe with bytes", func(g *gen) int { return written(g, 0) })
	add("pipe with a packet", func(g *gen) int { return written(g, unix.O_DIRECT) })
	add("pipe that nobody writes", func(g *gen) int { p := pipe(g, 0); g.shut(res2(p)); return p })
	add("pipe that nobody reads", func(g *gen) int { p := pipe(g, 0); g.shut(res(p)); return second(g, p) })
	add("full pipe", func(g *gen) int {
		p := pipe(g, 0)
		g.put(c(unix.SYS_WRITE, "v", res2(p), is(0x300000000), is(65536)))
		return second(g, p)
	})
}
