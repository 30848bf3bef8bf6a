package net

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/mm"
)

func pair(t *testing.T, s *Stack, typ int) (Socket, Socket) {
	t.Helper()
	a, b, err := s.SocketPair(me, unix.AF_UNIX, typ, 0)
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

func TestUnixStreamPairCarriesBytesAndEnds(t *testing.T) {
	s := newStack(t, testRAM)
	a, b := pair(t, s, unix.SOCK_STREAM)
	data := pattern(1 << 20)
	go func() { write(t, a, data); a.Shutdown(unix.SHUT_WR) }()
	if got := readFull(t, b, len(data)); !bytes.Equal(got, data) {
		t.Fatal("bytes differ")
	}
	if got, err := read(t, b, 1); len(got) != 0 || err != nil {
		t.Errorf("after shutdown: %d bytes, %v", len(got), err)
	}
	a.Release(nil)
	if err := write(t, b, []byte("x")); err != unix.EPIPE {
		t.Errorf("write to a closed peer: %v", err)
	}
	if r := b.Readiness(waiter.AllEvents); r&waiter.EventHUp == 0 || r&waiter.EventRdHUp == 0 {
		t.Errorf("readiness %#x", r)
	}
	b.Release(nil)
	if used := s.cfg.Budget.Used(); used != 0 {
		t.Errorf("%d bytes still charged", used)
	}
}

func TestUnixCloseWithUnreadBytesResetsThePeer(t *testing.T) {
	s := newStack(t, testRAM)
	a, b := pair(t, s, unix.SOCK_STREAM)
	write(t, a, []byte("x"))
	b.Release(nil)
	if _, err := read(t, a, 1); err != unix.ECONNRESET {
		t.Errorf("got %v", err)
	}
	if used := s.cfg.Budget.Used(); used != sockCost {
		t.Errorf("%d bytes charged, want one socket", used)
	}
}

func abstract(name string) []byte { return unixName("\x00" + name) }

func TestUnixStreamConnectsByAbstractName(t *testing.T) {
	s := newStack(t, testRAM)
	l := listen(t, s, abstract("srv"), 0)
	if x := sock(t, s, unix.AF_UNIX, unix.SOCK_STREAM, 0); x.Bind(me, abstract("srv")) != unix.EADDRINUSE {
		t.Error("a name was bound twice")
	}
	c, err := connect(t, s, abstract("srv"))
	if err != nil {
		t.Fatal(err)
	}
	full := sock(t, s, unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err := full.Connect(me, abstract("srv")); err != unix.EAGAIN {
		t.Errorf("full backlog: %v", err)
	}
	srv := accept(t, l)
	if err := full.Connect(me, abstract("srv")); err != nil {
		t.Errorf("after accept: %v", err)
	}
	if n, err := c.PeerName(); err != nil || !bytes.Equal(n, abstract("srv")) {
		t.Errorf("peer %q, %v", n, err)
	}
	cred, err := c.GetOption(me, unix.SOL_SOCKET, unix.SO_PEERCRED, 12)
	if err != nil || binary.LittleEndian.Uint32(cred) != 42 {
		t.Errorf("peer credentials %v, %v", cred, err)
	}
	write(t, srv, []byte("hi"))
	if b := readFull(t, c, 2); string(b) != "hi" {
		t.Errorf("got %q", b)
	}
	l.Release(nil)
	if _, err := connect(t, s, abstract("srv")); err != unix.ECONNREFUSED {
		t.Errorf("closed listener: %v", err)
	}
	if _, err := read(t, full, 1); err != unix.ECONNRESET && err != nil {
		t.Errorf("a connection that was never accepted: %v", err)
	}
}

func TestUnixDatagramsKeepBoundariesAndBlockWhenFull(t *testing.T) {
	s := newStack(t, testRAM)
	a, b := sock(t, s, unix.AF_UNIX, unix.SOCK_DGRAM, 0), sock(t, s, unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err := a.Bind(me, abstract("a")); err != nil {
		t.Fatal(err)
	}
	if err := b.Bind(me, []byte{unix.AF_UNIX, 0}); err != nil {
		t.Fatal(err)
	}
	send := func(p string) error {
		q := mm.KernelIO([]byte(p))
		_, err := b.Send(me, &q, &SendMsg{Name: abstract("a")})
		return err
	}
	n := 0
	for ; send("message") == nil; n++ {
	}
	if n != unixDgrams+1 {
		t.Errorf("%d datagrams queued, Linux takes %d", n, unixDgrams+1)
	}
	buf := make([]byte, 4)
	q := mm.KernelIO(buf)
	m := RecvMsg{}
	k, err := a.Recv(me, &q, &m)
	if k != 4 || err != nil || m.Full != 7 || m.OutFlags&unix.MSG_TRUNC == 0 {
		t.Errorf("recv: %d, %v, %+v", k, err, m.Full)
	}
	if bn, _ := b.SockName(); !bytes.Equal(m.Name[:m.NameLen], bn) || len(bn) != 8 {
		t.Errorf("from %q, sent by %q", m.Name[:m.NameLen], bn)
	}
	if err := send("again"); err != nil {
		t.Errorf("after a read: %v", err)
	}
	a.Release(nil)
	if err := send("x"); err != unix.ECONNREFUSED {
		t.Errorf("closed: %v", err)
	}
}

func TestUnixRightsTravelOnce(t *testing.T) {
	s := newStack(t, testRAM)
	a, b := pair(t, s, unix.SOCK_STREAM)
	inner, other := pair(t, s, unix.SOCK_STREAM)
	f := SocketFile(inner, 0, nil)
	f.IncRef()
	q := mm.KernelIO([]byte("fd"))
	if _, err := a.Send(me, &q, &SendMsg{Control: Control{Files: []*vfs.File{f}}}); err != nil {
		t.Fatal(err)
	}
	write(t, a, []byte("more"))
	buf := make([]byte, 16)
	q = mm.KernelIO(buf)
	m := RecvMsg{WantControl: true}
	n, err := b.Recv(me, &q, &m)
	if err != nil || len(m.Control.Files) != 1 || m.Control.Files[0] != f {
		t.Fatalf("%d bytes, %v, files %v", n, err, m.Control.Files)
	}
	m.Control.Files[0].DecRef()
	f.DecRef()
	if r := other.Readiness(waiter.EventHUp); r&waiter.EventHUp == 0 {
		t.Error("the passed socket is still open after its last reference went")
	}
	// Not received: released with the queue.
	inner, other = pair(t, s, unix.SOCK_STREAM)
	q = mm.KernelIO([]byte("fd"))
	if _, err := a.Send(me, &q, &SendMsg{Control: Control{Files: []*vfs.File{SocketFile(inner, 0, nil)}}}); err != nil {
		t.Fatal(err)
	}
	b.Release(nil)
	if r := other.Readiness(waiter.EventHUp); r&waiter.EventHUp == 0 {
		t.Error("a queued descriptor outlived its socket")
	}
	if f := &s.unix.flights; len(f.byUser) != 0 || len(f.sockets) != 0 {
		t.Errorf("in flight: %v, %v", f.byUser, f.sockets)
	}
}

func TestUnixSeqpacketKeepsBoundaries(t *testing.T) {
	s := newStack(t, testRAM)
	a, b := pair(t, s, unix.SOCK_SEQPACKET)
	write(t, a, []byte("one"))
	write(t, a, []byte("two"))
	if m, err := read(t, b, 16); string(m) != "one" || err != nil {
		t.Errorf("%q, %v", m, err)
	}
	if m, err := read(t, b, 16); string(m) != "two" || err != nil {
		t.Errorf("%q, %v", m, err)
	}
}

func TestUnixQueuesAreChargedAndRefused(t *testing.T) {
	s := newStack(t, 64<<20) // a budget of 4 MiB
	var socks []Socket
	for {
		a, b, err := s.SocketPair(me, unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			if err != unix.ENOBUFS {
				t.Fatalf("socketpair: %v", err)
			}
			break
		}
		socks = append(socks, a, b)
		q := mm.KernelIO(make([]byte, 64<<10))
		if _, err := a.Write(me.C, nil, &q, -1); err != nil && err != unix.ENOBUFS && err != unix.EAGAIN {
			t.Fatalf("write: %v", err)
		}
	}
	if used := s.cfg.Budget.Used(); used > s.cfg.Budget.Limit() {
		t.Errorf("%d bytes used of %d", used, s.cfg.Budget.Limit())
	}
	for _, x := range socks {
		x.Release(nil)
	}
	if used := s.cfg.Budget.Used(); used != 0 {
		t.Errorf("%d bytes still charged", used)
	}
}

// Who finds no room and is closed is forgotten where it would have waited; who stays hears.
func TestUnixWaitersAreForgottenWhenTheyAreClosed(t *testing.T) {
	s := newStack(t, testRAM)
	l := listen(t, s, abstract("srv"), 0)
	if _, err := connect(t, s, abstract("srv")); err != nil {
		t.Fatal(err)
	}
	d := sock(t, s, unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err := d.Bind(me, abstract("d")); err != nil {
		t.Fatal(err)
	}
	send := func(x Socket) error {
		q := mm.KernelIO([]byte("x"))
		_, err := x.Send(me, &q, &SendMsg{Name: abstract("d")})
		return err
	}
	polled := func(x Socket) error {
		if err := x.Connect(me, abstract("d")); err != nil {
			return err
		}
		if x.Readiness(waiter.WritableEvents) == 0 {
			return unix.EAGAIN
		}
		return nil
	}
	stays := sock(t, s, unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	for send(stays) == nil {
	}
	e, ch := waiter.NewChannelEntry(waiter.WritableEvents)
	stays.EventRegister(&e)
	defer stays.EventUnregister(&e)
	before := s.cfg.Budget.Used()
	for range 1000 {
		x := sock(t, s, unix.AF_UNIX, unix.SOCK_STREAM, 0)
		y, z := sock(t, s, unix.AF_UNIX, unix.SOCK_DGRAM, 0), sock(t, s, unix.AF_UNIX, unix.SOCK_DGRAM, 0)
		if a, b, c := x.Connect(me, abstract("srv")), send(y), polled(z); a != unix.EAGAIN || b != unix.EAGAIN || c != unix.EAGAIN {
			t.Fatalf("%v, %v, %v", a, b, c)
		}
		x.Release(nil)
		y.Release(nil)
		z.Release(nil)
	}
	if a, b := len(l.(*unixSocket).waits.here), len(d.(*unixSocket).waits.here); a != 0 || b != 1 {
		t.Errorf("%d and %d wait", a, b)
	}
	if now := s.cfg.Budget.Used(); now != before {
		t.Errorf("%d bytes stay charged", now-before)
	}
	if _, err := read(t, d, 1); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ch:
	default:
		t.Error("who waits for room is not told of it")
	}
	x := sock(t, s, unix.AF_UNIX, unix.SOCK_STREAM, 0)
	e2, ch := waiter.NewChannelEntry(waiter.WritableEvents)
	x.EventRegister(&e2)
	if err := x.Connect(me, abstract("srv")); err != unix.EAGAIN {
		t.Fatal(err)
	}
	if err := l.Listen(me, 1); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ch:
	default:
		t.Error("who waits to connect is not told that the backlog has grown")
	}
}

// A datagram socket that is connected to another peer, to none, or whose peer turns out to be gone
// loses what it has not read; a peer that is connected to it hears of that.
func TestUnixDatagramsOfALostPeerAreDropped(t *testing.T) {
	for name, part := range map[string]func(a, b Socket) error{
		"another": func(a, _ Socket) error { return a.Connect(me, abstract("c")) },
		"none":    func(a, _ Socket) error { return a.Connect(me, []byte{unix.AF_UNSPEC, 0}) },
		"gone": func(a, b Socket) error {
			b.Release(nil)
			if err := write(t, a, []byte("x")); err != unix.ECONNREFUSED {
				return err
			}
			return nil
		},
	} {
		s := newStack(t, testRAM)
		var x [3]Socket
		for i := range x {
			x[i] = sock(t, s, unix.AF_UNIX, unix.SOCK_DGRAM, 0)
			if err := x[i].Bind(me, abstract(string(rune('a'+i)))); err != nil {
				t.Fatal(err)
			}
		}
		a, b := x[0], x[1]
		for _, err := range []error{a.Connect(me, abstract("b")), a.Connect(me, abstract("b")), b.Connect(me, abstract("a")),
			write(t, b, []byte("lost")), part(a, b)} {
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if r := a.Readiness(waiter.AllEvents); r&waiter.ReadableEvents != 0 {
			t.Errorf("%s: ready for %#x", name, r)
		}
		if name != "gone" {
			if r := b.Readiness(waiter.AllEvents); r&waiter.EventErr == 0 {
				t.Errorf("%s: the peer is ready for %#x", name, r)
			}
			if _, err := read(t, b, 1); err != unix.ECONNRESET {
				t.Errorf("%s: the peer reads %v", name, err)
			}
		}
		for i := range x {
			x[i].Release(nil)
		}
		if used := s.cfg.Budget.Used(); used != 0 {
			t.Errorf("%s: %d bytes still charged", name, used)
		}
	}
}

// Who waits behind another's queue and is then connected elsewhere may write.
func TestUnixDatagramsWaitForTheirPeerAlone(t *testing.T) {
	s := newStack(t, testRAM)
	a, b, c := sock(t, s, unix.AF_UNIX, unix.SOCK_DGRAM, 0), sock(t, s, unix.AF_UNIX, unix.SOCK_DGRAM, 0), sock(t, s, unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	for _, err := range []error{b.Bind(me, abstract("b")), c.Bind(me, abstract("c")), a.Connect(me, abstract("b"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	q := mm.KernelIO([]byte("x"))
	for err := error(nil); err == nil; _, err = a.Send(me, &q, &SendMsg{}) {
		q = mm.KernelIO([]byte("x"))
	}
	e, ch := waiter.NewChannelEntry(waiter.WritableEvents)
	if err := a.EventRegister(&e); err != nil {
		t.Fatal(err)
	}
	defer a.EventUnregister(&e)
	if err := a.Connect(me, abstract("c")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ch:
	default:
		t.Error("it is not told that it may write")
	}
	for _, x := range []Socket{a, b, c} {
		x.Release(nil)
	}
	if used := s.cfg.Budget.Used(); used != 0 {
		t.Errorf("%d bytes still charged", used)
	}
}
