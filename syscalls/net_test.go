package syscalls

import (
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal/fake"
	"kiln/net"
)

// sockets is a scenario of socket calls, whose results (without descriptor numbers and
// ports) are to be the same on this kernel and on the host's.
type sockets struct {
	abi
	log []string
}

const (
	netAddr = 0x100 // offsets in memory
	netLen  = 0x200
	netBuf  = 0x400
	netHdr  = 0x800
	netIov  = 0x900
	netCtl  = 0xa00
)

func (s *sockets) at(off uint64) uint64 { return s.base() + off }

// do makes a call and notes its result; fd hides a good one, which is a descriptor.
func (s *sockets) do(what string, nr uint64, args ...uint64) int64 {
	r := s.sys(nr, args...)
	s.log = append(s.log, fmt.Sprintf("%s: %d", what, r))
	return r
}

func (s *sockets) fd(what string, nr uint64, args ...uint64) uint64 {
	r := s.sys(nr, args...)
	s.log = append(s.log, fmt.Sprintf("%s: %d", what, min(r, 0)))
	return uint64(r)
}

func (s *sockets) note(what string, b []byte) { s.log = append(s.log, fmt.Sprintf("%s: %x", what, b)) }

// addr puts 127.0.0.1:port at netAddr.
func (s *sockets) addr(port uint16) {
	b := make([]byte, 16)
	b[0] = unix.AF_INET
	binary.BigEndian.PutUint16(b[2:], port)
	b[4], b[7] = 127, 1
	s.put(s.at(netAddr), b)
}

func (s *sockets) put32(off uint64, v uint32) { s.put(s.at(off), le.AppendUint32(nil, v)) }

// hdr puts a msghdr with two ranges of the buffer and control data of n bytes.
func (s *sockets) hdr(name uint64, nameLen uint32, n1, n2 uint64, ctl int) {
	v := le.AppendUint64(nil, s.at(netBuf))
	v = le.AppendUint64(v, n1)
	v = le.AppendUint64(v, s.at(netBuf)+n1)
	s.put(s.at(netIov), le.AppendUint64(v, n2))
	h := le.AppendUint64(nil, name)
	h = le.AppendUint64(h, uint64(nameLen))
	h = le.AppendUint64(le.AppendUint64(h, s.at(netIov)), 2)
	c := uint64(0)
	if ctl > 0 {
		c = s.at(netCtl)
	}
	h = le.AppendUint64(le.AppendUint64(h, c), uint64(ctl))
	s.put(s.at(netHdr), le.AppendUint64(h, 0))
}

// rights puts an SCM_RIGHTS message with one descriptor.
func (s *sockets) rights(fd uint64) {
	c := le.AppendUint64(nil, 20)
	c = le.AppendUint32(le.AppendUint32(c, unix.SOL_SOCKET), unix.SCM_RIGHTS)
	s.put(s.at(netCtl), append(le.AppendUint32(c, uint32(fd)), 0, 0, 0, 0))
}

func (s *sockets) run() {
	const bad = badAddr
	s.do("socket type", unix.SYS_SOCKET, unix.AF_INET, 0x100001, 0)
	s.do("socket family", unix.SYS_SOCKET, 999, unix.SOCK_STREAM, 0)
	s.do("pair inet", unix.SYS_SOCKETPAIR, unix.AF_INET, unix.SOCK_STREAM, 0, s.at(netBuf))
	s.do("pair bad pointer", unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_STREAM, 0, bad)
	s.do("bind EBADF", unix.SYS_BIND, 900, s.at(netAddr), 16)
	l := s.fd("socket", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	s.addr(0)
	s.do("bind length", unix.SYS_BIND, l, s.at(netAddr), 15)
	s.do("bind too long", unix.SYS_BIND, l, s.at(netAddr), 129)
	s.do("bind negative", unix.SYS_BIND, l, s.at(netAddr), ^uint64(0))
	s.do("bind bad pointer", unix.SYS_BIND, l, bad, 16)
	s.do("accept before listen", unix.SYS_ACCEPT, l, 0, 0)
	s.do("connect bad pointer", unix.SYS_CONNECT, l, bad, 16)
	s.do("bind", unix.SYS_BIND, l, s.at(netAddr), 16)
	s.do("bind again", unix.SYS_BIND, l, s.at(netAddr), 16)
	s.do("listen", unix.SYS_LISTEN, l, 5)
	s.do("listen again", unix.SYS_LISTEN, l, 50)
	s.do("getsockname bad length", unix.SYS_GETSOCKNAME, l, s.at(netAddr), bad)
	s.put32(netLen, 0xffffffff)
	s.do("getsockname negative", unix.SYS_GETSOCKNAME, l, s.at(netAddr), s.at(netLen))
	s.put32(netLen, 100)
	s.do("getsockname", unix.SYS_GETSOCKNAME, l, s.at(netAddr), s.at(netLen))
	s.note("length", s.get(s.at(netLen), 4))
	s.note("name", append(s.get(s.at(netAddr), 2), s.get(s.at(netAddr)+4, 12)...))
	s.do("getpeername of a listener", unix.SYS_GETPEERNAME, l, s.at(netAddr), s.at(netLen))
	s.do("accept4 flags", unix.SYS_ACCEPT4, l, 0, 0, 0x40)
	s.do("recv of a listener", unix.SYS_RECVFROM, l, s.at(netBuf), 10, unix.MSG_DONTWAIT, 0, 0)
	s.do("send to a listener", unix.SYS_SENDTO, l, s.at(netBuf), 10, unix.MSG_NOSIGNAL, 0, 0)

	c := s.fd("socket", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
	s.do("recv unconnected", unix.SYS_RECVFROM, c, s.at(netBuf), 10, 0, 0, 0)
	s.do("send unconnected", unix.SYS_SENDTO, c, s.at(netBuf), 10, unix.MSG_NOSIGNAL, 0, 0)
	n := s.fd("socket", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
	s.do("shutdown unconnected", unix.SYS_SHUTDOWN, n, 0)
	s.do("shutdown how", unix.SYS_SHUTDOWN, n, 3)
	s.sys(unix.SYS_CLOSE, n)
	s.do("connect", unix.SYS_CONNECT, c, s.at(netAddr), 16)
	s.do("connect again", unix.SYS_CONNECT, c, s.at(netAddr), 16)
	a := s.fd("accept", unix.SYS_ACCEPT4, l, 0, 0, unix.SOCK_NONBLOCK)
	s.do("recv EAGAIN", unix.SYS_RECVFROM, a, s.at(netBuf), 10, 0, 0, 0)
	s.put(s.at(netBuf), []byte("0123456789"))
	s.do("send", unix.SYS_SENDTO, c, s.at(netBuf), 10, 0, 0, 0)
	s.do("send bad pointer", unix.SYS_SENDTO, c, bad, 10, 0, 0, 0)
	s.do("nothing to receive", unix.SYS_RECVFROM, c, s.at(netBuf), 1, unix.MSG_DONTWAIT, 0, 0)
	s.sys(unix.SYS_FCNTL, a, unix.F_SETFL, 0)
	s.do("peek", unix.SYS_RECVFROM, a, s.at(netBuf)+100, 4, unix.MSG_PEEK, 0, 0)
	s.do("recv bad pointer", unix.SYS_RECVFROM, a, bad, 4, 0, 0, 0)
	s.do("truncating recv", unix.SYS_RECVFROM, a, s.at(netBuf)+100, 4, unix.MSG_TRUNC, 0, 0)
	s.hdr(s.at(netAddr), 64, 2, 3, 64)
	s.do("recvmsg", unix.SYS_RECVMSG, a, s.at(netHdr), 0)
	s.note("bytes", s.get(s.at(netBuf), 5))
	s.note("header", append(s.get(s.at(netHdr)+8, 4), s.get(s.at(netHdr)+40, 12)...))
	s.hdr(0, 0, 1<<63, 3, 0)
	s.do("negative range", unix.SYS_SENDMSG, c, s.at(netHdr), 0)
	s.do("sendmsg bad header", unix.SYS_SENDMSG, c, bad, 0)
	s.put(s.at(netHdr)+24, le.AppendUint64(nil, 2000))
	s.do("too many ranges", unix.SYS_SENDMSG, c, s.at(netHdr), 0)
	s.do("shutdown", unix.SYS_SHUTDOWN, c, unix.SHUT_WR)
	s.do("send after shutdown", unix.SYS_SENDTO, c, s.at(netBuf), 1, unix.MSG_NOSIGNAL, 0, 0)
	s.do("rest", unix.SYS_RECVFROM, a, s.at(netBuf), 100, unix.MSG_WAITALL, 0, 0)
	s.do("end", unix.SYS_RECVFROM, a, s.at(netBuf), 100, 0, 0, 0)
	s.put32(netLen, 4)
	s.do("getsockopt", unix.SYS_GETSOCKOPT, a, unix.SOL_SOCKET, unix.SO_ERROR, s.at(netBuf), s.at(netLen))
	s.note("error", s.get(s.at(netBuf), 4))
	s.put32(netLen, 2)
	s.do("short getsockopt", unix.SYS_GETSOCKOPT, a, unix.SOL_SOCKET, unix.SO_TYPE, s.at(netBuf), s.at(netLen))
	s.note("length", s.get(s.at(netLen), 4))
	s.put32(netLen, 0xffffffff)
	s.do("negative getsockopt", unix.SYS_GETSOCKOPT, a, unix.SOL_SOCKET, unix.SO_TYPE, s.at(netBuf), s.at(netLen))
	s.do("getsockopt bad pointer", unix.SYS_GETSOCKOPT, a, unix.SOL_SOCKET, unix.SO_TYPE, s.at(netBuf), bad)
	s.do("setsockopt bad pointer", unix.SYS_SETSOCKOPT, a, unix.SOL_SOCKET, unix.SO_KEEPALIVE, bad, 4)
	s.do("setsockopt short", unix.SYS_SETSOCKOPT, a, unix.SOL_SOCKET, unix.SO_KEEPALIVE, s.at(netBuf), 3)
	s.do("setsockopt negative", unix.SYS_SETSOCKOPT, a, unix.SOL_SOCKET, unix.SO_KEEPALIVE, s.at(netBuf), 1<<31)
	s.put(s.at(netBuf), make([]byte, 16))
	s.put(s.at(netBuf)+8, le.AppendUint64(nil, 5000000))
	s.do("time-out of too many microseconds", unix.SYS_SETSOCKOPT, a, unix.SOL_SOCKET, unix.SO_RCVTIMEO, s.at(netBuf), 16)
	s.put(s.at(netBuf)+8, le.AppendUint64(nil, 5000))
	s.do("time-out", unix.SYS_SETSOCKOPT, c, unix.SOL_SOCKET, unix.SO_RCVTIMEO, s.at(netBuf), 16)
	s.do("recv times out", unix.SYS_RECVFROM, c, s.at(netBuf), 1, 0, 0, 0)
	for _, fd := range []uint64{l, c, a} {
		s.sys(unix.SYS_CLOSE, fd)
	}
	s.resets()
	s.unix()
}

// resets receives from and sends to connections that are reset while a call has done something:
// it tells of that, and the next one of the reset.
func (s *sockets) resets() {
	l := s.fd("socket", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
	s.addr(0)
	s.do("bind", unix.SYS_BIND, l, s.at(netAddr), 16)
	s.do("listen", unix.SYS_LISTEN, l, 5)
	s.put32(netLen, 16)
	s.do("getsockname", unix.SYS_GETSOCKNAME, l, s.at(netAddr), s.at(netLen))
	for _, call := range []struct {
		what string
		do   func(fd uint64) int64
	}{
		{"recv of all", func(fd uint64) int64 { return s.sys(unix.SYS_RECVFROM, fd, s.at(netBuf), 9, unix.MSG_WAITALL, 0, 0) }},
		{"peek of all", func(fd uint64) int64 {
			return s.sys(unix.SYS_RECVFROM, fd, s.at(netBuf), 9, unix.MSG_WAITALL|unix.MSG_PEEK, 0, 0)
		}},
		{"recv of enough", func(fd uint64) int64 { return s.sys(unix.SYS_RECVFROM, fd, s.at(netBuf), 9, 0, 0, 0) }},
		{"read of enough", func(fd uint64) int64 { return s.sys(unix.SYS_READ, fd, s.at(netBuf), 9) }},
	} {
		c := s.fd(call.what, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
		s.do("connect", unix.SYS_CONNECT, c, s.at(netAddr), 16)
		a := s.fd("accept", unix.SYS_ACCEPT, l, 0, 0)
		s.put32(netLen, 9)
		s.do("low water", unix.SYS_SETSOCKOPT, a, unix.SOL_SOCKET, unix.SO_RCVLOWAT, s.at(netLen), 4)
		s.do("send", unix.SYS_SENDTO, c, s.at(netBuf), 3, 0, 0, 0)
		s.put(s.at(netHdr), le.AppendUint64(nil, 1)) // struct linger: on, no seconds
		s.do("linger", unix.SYS_SETSOCKOPT, c, unix.SOL_SOCKET, unix.SO_LINGER, s.at(netHdr), 8)
		s.sys(unix.SYS_CLOSE, c)
		s.log = append(s.log, fmt.Sprintf("%s: %d", call.what, call.do(a)))
		if call.what == "peek of all" {
			s.do("what was seen", unix.SYS_RECVFROM, a, s.at(netBuf), 3, 0, 0, 0)
		}
		s.put(s.at(netHdr), le.AppendUint64(nil, a))
		s.do("poll", unix.SYS_POLL, s.at(netHdr), 1, 0)
		s.note("events", s.get(s.at(netHdr)+6, 2))
		s.do("recv", unix.SYS_RECVFROM, a, s.at(netBuf), 9, 0, 0, 0)
		s.do("the end", unix.SYS_RECVFROM, a, s.at(netBuf), 9, 0, 0, 0)
		s.sys(unix.SYS_CLOSE, a)
	}
	s.sys(unix.SYS_CLOSE, l)
}

func (s *sockets) unix() {
	s.do("pair", unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_STREAM, 0, s.at(netBuf))
	a, b := uint64(le.Uint32(s.get(s.at(netBuf), 4))), uint64(le.Uint32(s.get(s.at(netBuf)+4, 4)))
	s.rights(b)
	s.hdr(0, 0, 2, 1, 24)
	s.do("send a descriptor", unix.SYS_SENDMSG, a, s.at(netHdr), 0)
	s.rights(900)
	s.do("send EBADF", unix.SYS_SENDMSG, a, s.at(netHdr), 0)
	s.put(s.at(netCtl), le.AppendUint64(nil, 8))
	s.do("send a short control message", unix.SYS_SENDMSG, a, s.at(netHdr), 0)
	s.hdr(0, 0, 2, 10, 16)
	s.do("receive without room", unix.SYS_RECVMSG, b, s.at(netHdr), 0)
	s.note("header", s.get(s.at(netHdr)+40, 12))
	s.rights(a)
	s.hdr(0, 0, 2, 1, 24)
	s.do("send a descriptor", unix.SYS_SENDMSG, a, s.at(netHdr), 0)
	s.hdr(0, 0, 2, 10, 64)
	s.do("receive it", unix.SYS_RECVMSG, b, s.at(netHdr), unix.MSG_CMSG_CLOEXEC)
	s.note("header", s.get(s.at(netHdr)+40, 12))
	s.note("control", s.get(s.at(netCtl), 16))
	got := uint64(le.Uint32(s.get(s.at(netCtl)+16, 4)))
	s.do("its flags", unix.SYS_FCNTL, got, unix.F_GETFD)
	s.do("write through it", unix.SYS_WRITE, got, s.at(netBuf), 7)
	s.do("read it", unix.SYS_READ, b, s.at(netBuf), 100)
	s.do("name a stream's message", unix.SYS_SENDTO, a, s.at(netBuf), 1, 0, s.at(netAddr), 16)
	s.do("connect a pair", unix.SYS_CONNECT, a, s.at(netAddr), 16)
	s.put(s.at(netAddr), append([]byte{unix.AF_UNIX, 0, 0}, "kiln-scenario"...))
	l := s.fd("listener", unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	s.do("listen unbound", unix.SYS_LISTEN, l, 1)
	s.do("bind", unix.SYS_BIND, l, s.at(netAddr), 16)
	s.do("listen", unix.SYS_LISTEN, l, 1)
	c := s.fd("socket", unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0)
	s.do("connect another type", unix.SYS_CONNECT, c, s.at(netAddr), 16)
	s.do("recv unconnected", unix.SYS_RECVFROM, c, s.at(netBuf), 1, 0, 0, 0)
	s.do("send unconnected", unix.SYS_SENDTO, c, s.at(netBuf), 1, unix.MSG_NOSIGNAL, 0, 0)
	p := s.fd("socket", unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	s.do("connect", unix.SYS_CONNECT, p, s.at(netAddr), 16)
	s.put32(netLen, 3)
	q := s.fd("accept", unix.SYS_ACCEPT, l, s.at(netBuf), s.at(netLen))
	s.note("peer", append(s.get(s.at(netLen), 4), s.get(s.at(netBuf), 2)...))
	s.do("send", unix.SYS_SENDTO, p, s.at(netBuf), 20, 0, 0, 0)
	s.do("real length", unix.SYS_RECVFROM, q, s.at(netBuf), 5, unix.MSG_TRUNC, 0, 0)
	s.do("nothing", unix.SYS_RECVFROM, q, s.at(netBuf), 5, unix.MSG_DONTWAIT, 0, 0)
	s.do("out of band", unix.SYS_SENDTO, p, s.at(netBuf), 1, unix.MSG_OOB, 0, 0)
	s.sys(unix.SYS_CLOSE, p)
	s.do("end", unix.SYS_RECVFROM, q, s.at(netBuf), 5, 0, 0, 0)
	s.do("send to nobody", unix.SYS_SENDTO, q, s.at(netBuf), 5, unix.MSG_NOSIGNAL, 0, 0)
	for _, fd := range []uint64{a, b, got, l, c, q} {
		s.sys(unix.SYS_CLOSE, fd)
	}
}

func TestSocketCallsAnswerAsTheHost(t *testing.T) {
	r := newRig(t)
	r.k.M.(*fake.Machine).UseHostClock()
	st, err := net.New(net.Config{Machine: r.k.M, Timers: r.k.Timers, Budget: r.mem.Budget(), RAM: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	r.k.Net = st
	ours := &sockets{}
	r.run(nil, func(p *prog) { ours.abi = p; ours.run() })
	theirs := &sockets{abi: newHost(t)}
	theirs.run()
	for i := range theirs.log {
		if i >= len(ours.log) || ours.log[i] != theirs.log[i] {
			t.Errorf("%d: got %q, the host says %q", i, ours.log[min(i, len(ours.log)-1)], theirs.log[i])
		}
	}
}

// An accept that gets no descriptor leaves the connection to the next, and nothing behind: the
// number of open files comes down again.
func TestAcceptWithoutADescriptorLeavesTheConnection(t *testing.T) {
	r := newRig(t)
	st, err := net.New(net.Config{Machine: r.k.M, Timers: r.k.Timers, Budget: r.mem.Budget(), RAM: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	r.k.Net = st
	most := vfs.MaxFiles()
	defer vfs.SetMaxFiles(most)
	r.run(nil, func(p *prog) {
		s := &sockets{abi: p}
		for _, name := range [][]byte{{unix.AF_UNIX, 0, 0, 'l'}, append([]byte{unix.AF_INET, 0, 0, 99, 127, 0, 0, 1}, make([]byte, 8)...)} {
			call := func(what string, nr uint64, args ...uint64) uint64 {
				n := p.sys(nr, args...)
				if n < 0 {
					t.Fatalf("%s: %d", what, n)
				}
				return uint64(n)
			}
			s.put(s.at(netAddr), name)
			size := uint64(len(name))
			l := call("socket", unix.SYS_SOCKET, uint64(name[0]), unix.SOCK_STREAM, 0)
			call("bind", unix.SYS_BIND, l, s.at(netAddr), size)
			call("listen", unix.SYS_LISTEN, l, 5)
			c := call("socket", unix.SYS_SOCKET, uint64(name[0]), unix.SOCK_STREAM, 0)
			call("connect", unix.SYS_CONNECT, c, s.at(netAddr), size)
			open := vfs.OpenFiles()
			vfs.SetMaxFiles(open)
			for range 3 {
				if n := p.sys(unix.SYS_ACCEPT, l, 0, 0); n != -int64(unix.ENFILE) {
					t.Errorf("accept: %d", n)
				}
			}
			vfs.SetMaxFiles(most)
			if n := vfs.OpenFiles(); n != open {
				t.Errorf("%d files are open, before %d", n, open)
			}
			a := call("accept", unix.SYS_ACCEPT, l, 0, 0)
			call("send", unix.SYS_SENDTO, c, s.at(netBuf), 3, 0, 0, 0)
			if n := p.sys(unix.SYS_RECVFROM, a, s.at(netBuf), 9, 0, 0, 0); n != 3 {
				t.Errorf("recv: %d", n)
			}
			for _, fd := range []uint64{a, c, l} {
				p.sys(unix.SYS_CLOSE, fd)
			}
		}
	})
}
