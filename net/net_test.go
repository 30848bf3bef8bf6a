package net

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	vnet "kiln/drivers/virtio/net"
	"kiln/fs/vfs"
	"kiln/kernel/hal/fake"
	"kiln/kernel/image"
	"kiln/kernel/mm"
	"kiln/kernel/timer"
	"kiln/kernel/wait"
)

func newStack(t testing.TB, ram uint64) *Stack {
	t.Helper()
	m := fake.New(16)
	m.UseHostClock()
	s, err := New(Config{Machine: m, Timers: timer.NewQueue(m), RAM: ram, Hostname: "host",
		Log: func(l, f string, a ...any) {
			if _, fuzzes := t.(*testing.F); !fuzzes { // whose target may not use it
				t.Logf(l+": "+f, a...)
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.cfg.Log = func(string, string, ...any) {}; s.ns.Close() })
	return s
}

const testRAM = 1 << 30

var me = &Caller{C: wait.Background(), PID: 42, Creds: vfs.RootCreds()}

// pipeDev is a network card whose cable ends at another one; frames are copied and
// delivered from a goroutine, as a driver does.
type pipeDev struct {
	mac     [6]byte
	offload bool
	peer    *pipeDev
	ch      chan vnet.Packet
	recv    func(*vnet.Packet)
	writ    func()
	mu      sync.Mutex
	room    int // frames before ErrFull; 0: no limit
	inFly   int
	lose    func(frame []byte) bool
}

func (d *pipeDev) MAC() [6]byte                     { return d.mac }
func (d *pipeDev) MTU() int                         { return 1500 }
func (d *pipeDev) TxCsum() bool                     { return d.offload }
func (d *pipeDev) TSO4() bool                       { return d.offload }
func (d *pipeDev) TSO6() bool                       { return d.offload }
func (d *pipeDev) LinkUp() bool                     { return true }
func (d *pipeDev) SetReceiver(f func(*vnet.Packet)) { d.recv = f }
func (d *pipeDev) OnWritable(f func())              { d.writ = f }
func (d *pipeDev) Kick()                            {}

func (d *pipeDev) Sent() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.inFly == 0
}

func (d *pipeDev) Send(p *vnet.Packet) error {
	d.mu.Lock()
	if d.room > 0 && d.inFly >= d.room {
		d.mu.Unlock()
		return vnet.ErrFull
	}
	d.inFly++
	d.mu.Unlock()
	q := *p
	q.Slices = [][]byte{bytes.Join(p.Slices, nil)}
	q.CsumValid = p.NeedsCsum
	select {
	case d.ch <- q:
	default:
		d.done()
	}
	return nil
}

func (d *pipeDev) done() {
	d.mu.Lock()
	full := d.room > 0 && d.inFly >= d.room
	d.inFly--
	d.mu.Unlock()
	if full {
		d.writ()
	}
}

func newPipe(offload bool) (a, b *pipeDev) {
	a = &pipeDev{mac: [6]byte{2, 0, 0, 0, 0, 1}, offload: offload, ch: make(chan vnet.Packet, 4096)}
	b = &pipeDev{mac: [6]byte{2, 0, 0, 0, 0, 2}, offload: offload, ch: make(chan vnet.Packet, 4096)}
	a.peer, b.peer = b, a
	return a, b
}

func (d *pipeDev) pump() {
	go func() {
		for p := range d.ch {
			d.mu.Lock()
			lose := d.lose
			d.mu.Unlock()
			if lose == nil || !lose(p.Slices[0]) {
				d.peer.recv(&p)
			}
			d.done()
		}
	}()
}

// twoStacks are 10.0.0.1 and 10.0.0.2.
func twoStacks(t testing.TB, ram uint64, offload bool) (x, y *Stack, dx, dy *pipeDev) {
	x, y = newStack(t, ram), newStack(t, ram)
	dx, dy = newPipe(offload)
	for i, p := range []struct {
		s *Stack
		d *pipeDev
	}{{x, dx}, {y, dy}} {
		if err := p.s.AddDevice("eth0", p.d); err != nil {
			t.Fatal(err)
		}
		if err := p.s.Configure(image.Network{Mode: "static", Address: fmt.Sprintf("10.0.0.%d/24", i+1), Gateway: "10.0.0.254"}, ""); err != nil {
			t.Fatal(err)
		}
	}
	dx.pump()
	dy.pump()
	return x, y, dx, dy
}

func sock(t testing.TB, s *Stack, family, typ, proto int) Socket {
	t.Helper()
	x, err := s.Socket(me, family, typ, proto)
	if err != nil {
		t.Fatalf("socket(%d, %d, %d): %v", family, typ, proto, err)
	}
	return x
}

func in4(a, b, c, d byte, port int) []byte {
	return []byte{unix.AF_INET, 0, byte(port >> 8), byte(port), a, b, c, d, 15: 0}
}

func portOf(t testing.TB, s Socket) int {
	t.Helper()
	b, err := s.SockName()
	if err != nil {
		t.Fatal(err)
	}
	return int(binary.BigEndian.Uint16(b[2:]))
}

// await calls try until it answers something else than EAGAIN.
func await(t testing.TB, s Socket, try func() error) error {
	t.Helper()
	e, ch := waiter.NewChannelEntry(waiter.AllEvents)
	s.EventRegister(&e)
	defer s.EventUnregister(&e)
	end := time.After(20 * time.Second)
	for {
		if err := try(); err != unix.EAGAIN && err != unix.EINPROGRESS {
			return err
		}
		select {
		case <-ch:
		case <-end:
			buf := make([]byte, 1<<20)
			t.Fatalf("no progress for 20 s\n%s", buf[:runtime.Stack(buf, true)])
		}
	}
}

func read(t testing.TB, s Socket, n int) ([]byte, error) {
	t.Helper()
	b := make([]byte, n)
	var got int
	err := await(t, s, func() (err error) {
		q := mm.KernelIO(b)
		got, err = s.Read(me.C, nil, &q, -1)
		return err
	})
	return b[:got], err
}

func readFull(t testing.TB, s Socket, n int) []byte {
	t.Helper()
	var out []byte
	for len(out) < n {
		b, err := read(t, s, n-len(out))
		if err != nil || len(b) == 0 {
			t.Fatalf("read %d of %d: %v", len(out), n, err)
		}
		out = append(out, b...)
	}
	return out
}

func write(t testing.TB, s Socket, b []byte) error {
	t.Helper()
	q := mm.KernelIO(b)
	for q.Len() > 0 {
		if err := await(t, s, func() error {
			_, err := s.Write(me.C, nil, &q, -1)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

func listen(t testing.TB, s *Stack, addr []byte, backlog int) Socket {
	t.Helper()
	l := sock(t, s, familyOf(addr), unix.SOCK_STREAM, 0)
	if err := l.Bind(me, addr); err != nil {
		t.Fatalf("bind: %v", err)
	}
	if err := l.Listen(me, backlog); err != nil {
		t.Fatalf("listen: %v", err)
	}
	return l
}

func connect(t testing.TB, s *Stack, addr []byte) (Socket, error) {
	t.Helper()
	c := sock(t, s, familyOf(addr), unix.SOCK_STREAM, 0)
	err := c.Connect(me, addr)
	if err == unix.EINPROGRESS {
		err = await(t, c, c.ConnectResult)
	}
	return c, err
}

func accept(t testing.TB, l Socket) Socket {
	t.Helper()
	var c Socket
	if err := await(t, l, func() (err error) { c, err = l.Accept(me); return err }); err != nil {
		t.Fatalf("accept: %v", err)
	}
	return c
}

// connected is a TCP connection from y to x.
func connected(t testing.TB, x, y *Stack, addr []byte) (srv, cli, l Socket) {
	t.Helper()
	l = listen(t, x, addr, 16)
	port := portOf(t, l)
	to := append([]byte(nil), addr...)
	binary.BigEndian.PutUint16(to[2:], uint16(port))
	cli, err := connect(t, y, to)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	return accept(t, l), cli, l
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func TestTCPEchoOverLoopback(t *testing.T) {
	s := newStack(t, testRAM)
	srv, cli, l := connected(t, s, s, in4(127, 0, 0, 1, 0))
	if err := write(t, cli, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if b := readFull(t, srv, 5); string(b) != "hello" {
		t.Fatalf("got %q", b)
	}
	pn, err := srv.PeerName()
	if cn, _ := cli.SockName(); err != nil || !bytes.Equal(pn, cn) {
		t.Errorf("peer %v (%v), socket %v", pn, err, cn)
	}
	if err := cli.Shutdown(unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	if b, err := read(t, srv, 10); len(b) != 0 || err != nil {
		t.Fatalf("after shutdown: %q, %v", b, err)
	}
	if err := write(t, srv, []byte("bye")); err != nil {
		t.Fatal(err)
	}
	if b := readFull(t, cli, 3); string(b) != "bye" {
		t.Fatalf("got %q", b)
	}
	for _, x := range []Socket{cli, srv, l} {
		x.Release(nil)
	}
}

func TestTCPOverIPv6AndMappedAddresses(t *testing.T) {
	s := newStack(t, testRAM)
	any6 := make([]byte, sizeIn6)
	any6[0] = unix.AF_INET6
	l := listen(t, s, any6, 4)
	c, err := connect(t, s, in4(127, 0, 0, 1, portOf(t, l)))
	if err != nil {
		t.Fatal(err)
	}
	srv := accept(t, l)
	n, _ := srv.PeerName()
	if len(n) != sizeIn6 || n[18] != 0xff || n[20] != 127 {
		t.Errorf("the IPv4 peer of an IPv6 socket is %v", n)
	}
	c.Release(nil)
	srv.Release(nil)
	to := append([]byte(nil), any6...)
	to[23] = 1
	binary.BigEndian.PutUint16(to[2:], uint16(portOf(t, l)))
	if c, err = connect(t, s, to); err != nil {
		t.Fatal(err)
	}
	accept(t, l).Release(nil)
	c.Release(nil)
	l.Release(nil)
}

func TestTCPTransfersBetweenStacks(t *testing.T) {
	for _, c := range []struct {
		name    string
		offload bool
		room    int
		lose    bool
	}{{"plain", false, 0, false}, {"offload", true, 0, false}, {"fullQueue", true, 4, false}, {"loss", false, 0, true}} {
		t.Run(c.name, func(t *testing.T) {
			x, y, dx, dy := twoStacks(t, testRAM, c.offload)
			for _, d := range []*pipeDev{dx, dy} {
				d.mu.Lock()
				d.room = c.room
				d.mu.Unlock()
			}
			n := 3 << 20
			if c.lose {
				n = 256 << 10
				k := 0
				dy.mu.Lock()
				dy.lose = func([]byte) bool { k++; return k%67 == 0 }
				dy.mu.Unlock()
			}
			srv, cli, _ := connected(t, x, y, in4(10, 0, 0, 1, 0))
			data := pattern(n)
			done := make(chan error, 1)
			go func() { done <- write(t, cli, data) }()
			if got := readFull(t, srv, n); !bytes.Equal(got, data) {
				t.Fatal("bytes differ")
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			srv.Release(nil)
			cli.Release(nil)
		})
	}
}

func TestConnectErrors(t *testing.T) {
	s := newStack(t, testRAM)
	if _, err := connect(t, s, in4(127, 0, 0, 1, 9)); err != unix.ECONNREFUSED {
		t.Errorf("closed port: %v", err)
	}
	if _, err := connect(t, s, in4(192, 0, 2, 1, 9)); err != unix.ENETUNREACH {
		t.Errorf("no route: %v", err)
	}
	l := listen(t, s, in4(127, 0, 0, 1, 0), 1)
	c, err := connect(t, s, in4(127, 0, 0, 1, portOf(t, l)))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Connect(me, in4(127, 0, 0, 1, portOf(t, l))); err != unix.EISCONN {
		t.Errorf("second connect: %v", err)
	}
	if err := l.Connect(me, in4(127, 0, 0, 1, 1)); err != unix.EISCONN {
		t.Errorf("connect of a listener: %v", err)
	}
}

func TestResetIsSeenByTheReader(t *testing.T) {
	s := newStack(t, testRAM)
	srv, cli, _ := connected(t, s, s, in4(127, 0, 0, 1, 0))
	if err := cli.SetOption(me, unix.SOL_SOCKET, unix.SO_LINGER, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	cli.Release(nil)
	if _, err := read(t, srv, 1); err != unix.ECONNRESET {
		t.Errorf("read: %v", err)
	}
	if err := write(t, srv, []byte("x")); err != unix.EPIPE {
		t.Errorf("write: %v", err)
	}
}

func TestUDPMessages(t *testing.T) {
	s := newStack(t, testRAM)
	a, b := sock(t, s, unix.AF_INET, unix.SOCK_DGRAM, 0), sock(t, s, unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err := a.Bind(me, in4(127, 0, 0, 1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := a.SetOption(me, unix.SOL_IP, unix.IP_PKTINFO, le32(1)); err != nil {
		t.Fatal(err)
	}
	q := mm.KernelIO(pattern(1000))
	if n, err := b.Send(me, &q, &SendMsg{Name: in4(127, 0, 0, 1, portOf(t, a))}); n != 1000 || err != nil {
		t.Fatalf("sendto: %d, %v", n, err)
	}
	buf := make([]byte, 100)
	m := RecvMsg{WantControl: true}
	if err := await(t, a, func() error {
		d := mm.KernelIO(buf)
		_, err := a.Recv(me, &d, &m)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if m.Full != 1000 || m.OutFlags&unix.MSG_TRUNC == 0 || !bytes.Equal(buf, pattern(100)) {
		t.Errorf("full %d, flags %#x", m.Full, m.OutFlags)
	}
	if bn, _ := b.SockName(); !bytes.Equal(m.Name[2:4], bn[2:4]) {
		t.Errorf("from %v, sent by %v", m.Name[:16], bn)
	}
	if len(m.Control.Msgs) != 1 || m.Control.Msgs[0].Type != unix.IP_PKTINFO || m.Control.Msgs[0].Data[8] != 127 {
		t.Errorf("control %+v", m.Control.Msgs)
	}
	q = mm.KernelIO(make([]byte, 65508))
	if _, err := b.Send(me, &q, &SendMsg{Name: in4(127, 0, 0, 1, portOf(t, a))}); err != unix.EMSGSIZE {
		t.Errorf("too long: %v", err)
	}
	q = mm.KernelIO([]byte("x"))
	if _, err := b.Send(me, &q, &SendMsg{}); err != unix.EDESTADDRREQ {
		t.Errorf("no destination: %v", err)
	}
	// A closed port answers with an ICMP error to who is connected.
	if err := b.Connect(me, in4(127, 0, 0, 1, 9)); err != nil {
		t.Fatal(err)
	}
	write(t, b, []byte("x"))
	if _, err := read(t, b, 1); err != unix.ECONNREFUSED {
		t.Errorf("refused: %v", err)
	}
}

func TestNonblockingReadsAndAcceptsAnswerEAGAIN(t *testing.T) {
	s := newStack(t, testRAM)
	srv, _, l := connected(t, s, s, in4(127, 0, 0, 1, 0))
	q := mm.KernelIO(make([]byte, 1))
	if _, err := srv.Read(me.C, nil, &q, -1); err != unix.EAGAIN {
		t.Errorf("read: %v", err)
	}
	if _, err := l.Accept(me); err != unix.EAGAIN {
		t.Errorf("accept: %v", err)
	}
}

func TestPeekLeavesBytes(t *testing.T) {
	s := newStack(t, testRAM)
	srv, cli, _ := connected(t, s, s, in4(127, 0, 0, 1, 0))
	write(t, cli, []byte("abc"))
	for range 2 {
		var n int
		b := make([]byte, 8)
		if err := await(t, srv, func() (err error) {
			q := mm.KernelIO(b)
			n, err = srv.Recv(me, &q, &RecvMsg{Flags: unix.MSG_PEEK})
			return err
		}); err != nil || string(b[:n]) != "abc" {
			t.Fatalf("peek: %q, %v", b[:n], err)
		}
	}
	if b := readFull(t, srv, 3); string(b) != "abc" {
		t.Fatalf("read after peek: %q", b)
	}
}

func TestReusePortSharesAndPlainBindDoesNot(t *testing.T) {
	s := newStack(t, testRAM)
	l := listen(t, s, in4(127, 0, 0, 1, 0), 1)
	x := sock(t, s, unix.AF_INET, unix.SOCK_STREAM, 0)
	if err := x.Bind(me, in4(127, 0, 0, 1, portOf(t, l))); err != unix.EADDRINUSE {
		t.Errorf("second bind: %v", err)
	}
	a, b := sock(t, s, unix.AF_INET, unix.SOCK_STREAM, 0), sock(t, s, unix.AF_INET, unix.SOCK_STREAM, 0)
	a.SetOption(me, unix.SOL_SOCKET, unix.SO_REUSEPORT, le32(1))
	b.SetOption(me, unix.SOL_SOCKET, unix.SO_REUSEPORT, le32(1))
	if err := a.Bind(me, in4(0, 0, 0, 0, 8081)); err != nil {
		t.Fatal(err)
	}
	if err := b.Bind(me, in4(0, 0, 0, 0, 8081)); err != nil {
		t.Errorf("reuseport: %v", err)
	}
	if err := a.Listen(me, 1); err != nil {
		t.Error(err)
	}
	if err := b.Listen(me, 1); err != nil {
		t.Error(err)
	}
}

func TestUnacceptedConnectionIsNotLost(t *testing.T) {
	s := newStack(t, testRAM)
	srv, cli, l := connected(t, s, s, in4(127, 0, 0, 1, 0))
	l.Unaccept(srv)
	if l.Readiness(waiter.ReadableEvents) == 0 {
		t.Error("the listener is not readable")
	}
	again := accept(t, l)
	write(t, cli, []byte("x"))
	if b := readFull(t, again, 1); b[0] != 'x' {
		t.Error("not the same connection")
	}
}

// A raw socket has no ports, whatever its protocol.
func TestRawSocketOfUDPSendsToNoPort(t *testing.T) {
	s := newStack(t, testRAM)
	r := sock(t, s, unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP)
	q := mm.KernelIO(make([]byte, 8))
	if n, err := r.Send(me, &q, &SendMsg{Name: in4(127, 0, 0, 1, 0)}); n != 8 || err != nil {
		t.Errorf("%d bytes sent: %v", n, err)
	}
}

// A peek that is to wait for all does not wait for more than can come while nothing is read.
func TestPeekWaitsForNoMoreThanFits(t *testing.T) {
	x, y, _, _ := twoStacks(t, testRAM, true)
	srv, cli, _ := connected(t, x, y, in4(10, 0, 0, 1, 0))
	for _, size := range []int64{4 << 10, 20 << 10, 1 << 20} {
		cli.(*inetSocket).ep().SocketOptions().SetReceiveBufferSize(size, true)
		want := cli.Target(1<<20, unix.MSG_PEEK|unix.MSG_WAITALL)
		if want < int(min(size, 128<<10))/4 {
			t.Errorf("with a buffer of %d it waits for %d bytes", size, want)
		}
		go write(t, srv, make([]byte, 200<<10))
		got := 0
		for end := time.Now().Add(5 * time.Second); got < want && time.Now().Before(end); time.Sleep(time.Millisecond) {
			q := mm.KernelIO(make([]byte, 1<<20))
			got, _ = cli.Recv(me, &q, &RecvMsg{Flags: unix.MSG_PEEK})
		}
		if got < want {
			t.Errorf("with a buffer of %d it waits for %d bytes, of which %d come", size, want, got)
		}
		readFull(t, cli, 200<<10)
	}
}

// What a receive waits for.
func TestTargets(t *testing.T) {
	const all, peek = unix.MSG_WAITALL, unix.MSG_PEEK
	for _, c := range []struct {
		domain, typ, low   int32
		flags, n, expected int
	}{
		{unix.AF_INET, unix.SOCK_STREAM, 0, 0, 100, 1}, {unix.AF_INET, unix.SOCK_STREAM, 10, 0, 100, 10}, {unix.AF_INET6, unix.SOCK_STREAM, 10, 0, 5, 5},
		{unix.AF_INET, unix.SOCK_STREAM, 10, all, 100, 100}, {unix.AF_INET, unix.SOCK_STREAM, 10, peek, 100, 10},
		{unix.AF_INET, unix.SOCK_STREAM, 0, all | peek, 100, 100}, {unix.AF_INET, unix.SOCK_DGRAM, 10, all, 100, 1},
		{unix.AF_UNIX, unix.SOCK_STREAM, 10, 0, 100, 10}, {unix.AF_UNIX, unix.SOCK_STREAM, 10, all | peek, 100, 1},
		{unix.AF_UNIX, unix.SOCK_SEQPACKET, 10, all, 100, 1}, {unix.AF_VSOCK, unix.SOCK_STREAM, 10, 0, 100, 1}, {unix.AF_VSOCK, unix.SOCK_STREAM, 10, all, 100, 100},
	} {
		b := base{domain: c.domain, typ: c.typ}
		b.opt.rcvlowat.Store(c.low)
		if got := b.Target(c.n, c.flags); got != c.expected {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
