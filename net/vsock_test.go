package net

import (
	"bytes"
	"encoding/binary"
	"math/rand"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/drivers/virtio/vsock"
	"kiln/kernel/mm"
)

// wire joins two stacks as a host does that passes packets on: what one sends, the other
// receives, from a goroutine of its own.
type wire struct {
	cid     uint64
	seq     bool
	receive func(*vsock.Header, []byte)
	sent    func(*vsock.Packet)
	reset   func(bool)
	to      *wire

	mu     sync.Mutex
	queue  []*vsock.Packet
	wake   chan struct{}
	closed bool
}

func (w *wire) CID() uint64                               { return w.cid }
func (w *wire) Seqpacket() bool                           { return w.seq }
func (w *wire) MaxData() int                              { return 4000 }
func (w *wire) SetReceiver(f func(*vsock.Header, []byte)) { w.receive = f }
func (w *wire) OnSent(f func(*vsock.Packet))              { w.sent = f }
func (w *wire) OnReset(f func(bool))                      { w.reset = f }
func (w *wire) Send(p *vsock.Packet) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.queue = append(w.queue, p)
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return true
}

func (w *wire) run() {
	for range w.wake {
		for {
			w.mu.Lock()
			q := w.queue
			w.queue = nil
			w.mu.Unlock()
			if len(q) == 0 {
				break
			}
			for _, p := range q {
				data := append([]byte(nil), p.Data...)
				h := p.Header
				w.sent(p)
				if w.to != nil {
					w.to.receive(&h, data)
				}
			}
		}
	}
}

// wired are two machines, 3 and 4, on one host.
func wired(t *testing.T) (x, y *Stack, wx, wy *wire) {
	wx, wy = &wire{cid: 3, seq: true, wake: make(chan struct{}, 1)}, &wire{cid: 4, seq: true, wake: make(chan struct{}, 1)}
	wx.to, wy.to = wy, wx
	x, y = newStack(t, testRAM), newStack(t, testRAM)
	if !x.AddVsock(wx) || !y.AddVsock(wy) || x.AddVsock(wy) {
		t.Fatal("adding devices")
	}
	for _, w := range []*wire{wx, wy} {
		go w.run()
		t.Cleanup(func() { w.mu.Lock(); w.closed = true; close(w.wake); w.mu.Unlock() })
	}
	return x, y, wx, wy
}

func vm(cid, port uint32) []byte { return vmAddr{cid: cid, port: port}.encode() }

// vmListener listens at a port of its choice.
func vmListener(t *testing.T, s *Stack, typ, backlog int) (Socket, uint32) {
	t.Helper()
	l := sock(t, s, unix.AF_VSOCK, typ, 0)
	if err := l.Bind(me, vm(vmCIDAny, vmPortAny)); err != nil {
		t.Fatal(err)
	}
	if err := l.Listen(me, backlog); err != nil {
		t.Fatal(err)
	}
	b, _ := l.SockName()
	return l, binary.LittleEndian.Uint32(b[4:])
}

func vmConnect(t *testing.T, s *Stack, typ int, cid, port uint32) (Socket, error) {
	t.Helper()
	c := sock(t, s, unix.AF_VSOCK, typ, 0)
	err := c.Connect(me, vm(cid, port))
	if err == unix.EINPROGRESS {
		err = await(t, c, c.ConnectResult)
	}
	return c, err
}

func TestVsockStreamsBetweenMachinesAndWithin(t *testing.T) {
	x, y, _, _ := wired(t)
	z := newStack(t, testRAM)
	for _, c := range []struct {
		name     string
		from, to *Stack
		cid      uint32
	}{
		{"local", z, z, vmCIDLocal}, {"host without one", z, z, vmCIDHost}, {"to the other", x, y, 4}, {"its own address", x, x, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, port := vmListener(t, c.to, unix.SOCK_STREAM, 5)
			cli, err := vmConnect(t, c.from, unix.SOCK_STREAM, c.cid, port)
			if err != nil {
				t.Fatal(err)
			}
			srv := accept(t, l)
			data := pattern(1 << 20)
			go func() { write(t, cli, data); cli.Shutdown(unix.SHUT_WR) }()
			go func() { write(t, srv, data) }()
			if got := readFull(t, srv, len(data)); !bytes.Equal(got, data) {
				t.Error("bytes differ")
			}
			if got := readFull(t, cli, len(data)); !bytes.Equal(got, data) {
				t.Error("bytes differ on the way back")
			}
			if got, err := read(t, srv, 1); len(got) != 0 || err != nil {
				t.Errorf("after shutdown: %d bytes, %v", len(got), err)
			}
			srv.Release(nil)
			cli.Release(nil)
			l.Release(nil)
			freed(t, c.from, c.to)
		})
	}
	if _, err := vmConnect(t, z, unix.SOCK_STREAM, 3, 99); err != unix.ENODEV {
		t.Errorf("without a device: %v", err)
	}
	if _, err := vmConnect(t, x, unix.SOCK_STREAM, 4, 99); err != unix.ECONNRESET {
		t.Errorf("no such port: %v", err)
	}
}

// freed says that nothing is charged any more.
func freed(t *testing.T, ss ...*Stack) {
	t.Helper()
	for _, s := range ss {
		used := int64(0)
		for range 5000 {
			if used = s.cfg.Budget.Used(); used == 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		s.vsock.mu.Lock()
		if used != 0 || len(s.vsock.bound)+len(s.vsock.connected) > 0 {
			t.Errorf("%d bytes still charged, %d ports bound, %d connections", used, len(s.vsock.bound), len(s.vsock.connected))
		}
		s.vsock.mu.Unlock()
	}
}

func TestVsockMessagesKeepBoundaries(t *testing.T) {
	x, y, _, _ := wired(t)
	l, port := vmListener(t, y, unix.SOCK_SEQPACKET, 5)
	cli, err := vmConnect(t, x, unix.SOCK_SEQPACKET, 4, port)
	if err != nil {
		t.Fatal(err)
	}
	srv := accept(t, l)
	r := rand.New(rand.NewSource(1))
	var sizes []int
	for range 300 {
		sizes = append(sizes, 1+r.Intn(20000)*r.Intn(2))
	}
	data := pattern(20001)
	go func() {
		for i, n := range sizes {
			q := mm.KernelIO(data[:n])
			if err := await(t, cli, func() error {
				_, err := cli.Send(me, &q, &SendMsg{Flags: unix.MSG_EOR * (i & 1)})
				return err
			}); err != nil {
				t.Error(err)
			}
		}
	}()
	buf := make([]byte, 30000)
	for i, n := range sizes {
		m := RecvMsg{}
		k := 0
		if err := await(t, srv, func() (err error) {
			q := mm.KernelIO(buf)
			m.Reset()
			k, err = srv.Recv(me, &q, &m)
			return err
		}); err != nil || k != n || !bytes.Equal(buf[:n], data[:n]) || (m.OutFlags == unix.MSG_EOR) != (i&1 == 1) {
			t.Fatalf("message %d: %d bytes of %d, flags %#x, %v", i, k, n, m.OutFlags, err)
		}
	}
	for _, s := range []Socket{cli, srv, l} {
		s.Release(nil)
	}
	freed(t, x, y)
}

func TestVsockMessageThatWillNeverFitIsRefused(t *testing.T) {
	s := newStack(t, testRAM)
	l, port := vmListener(t, s, unix.SOCK_SEQPACKET, 5)
	cli, err := vmConnect(t, s, unix.SOCK_SEQPACKET, vmCIDLocal, port)
	if err != nil {
		t.Fatal(err)
	}
	srv := accept(t, l)
	send := func(n int) error {
		q := mm.KernelIO(make([]byte, n))
		_, err := cli.Send(me, &q, &SendMsg{})
		return err
	}
	if err := send(100000); err != nil {
		t.Fatal(err)
	}
	if err := send(200000); err != unix.EAGAIN || cli.Readiness(waiter.WritableEvents) != 0 {
		t.Errorf("without room: %v, %#x", err, cli.Readiness(waiter.WritableEvents))
	}
	e, got := waiter.NewChannelEntry(waiter.WritableEvents)
	cli.EventRegister(&e)
	defer cli.EventUnregister(&e)
	if err := srv.SetOption(me, unix.AF_VSOCK, soVMBufferSize, binary.LittleEndian.AppendUint64(nil, 150000)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-got:
	case <-time.After(5 * time.Second):
		t.Error("the sender was not woken")
	}
	if err := send(200000); err != unix.ENOMEM || cli.Readiness(waiter.WritableEvents) == 0 {
		t.Errorf("for good: %v", err)
	}
	if err := send(50000); err != nil {
		t.Error(err)
	}
}

func TestVsockConnectTimesOutAndIsGivenUp(t *testing.T) {
	x, _, wx, _ := wired(t)
	wx.to = nil // a host that does not answer
	c := sock(t, x, unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	tv := make([]byte, 16)
	binary.LittleEndian.PutUint64(tv[8:], 40000)
	if err := c.SetOption(me, unix.AF_VSOCK, soVMConnectTimeoutNew, tv); err != nil {
		t.Fatal(err)
	}
	if err := c.Connect(me, vm(4, 99)); err != unix.EINPROGRESS {
		t.Fatal(err)
	}
	if r := c.Readiness(waiter.AllEvents); r != 0 {
		t.Errorf("%#x while connecting", r)
	}
	if err := await(t, c, c.ConnectResult); err != unix.ETIMEDOUT {
		t.Errorf("%v", err)
	}
	if err := c.Connect(me, vm(4, 99)); err != unix.EINPROGRESS {
		t.Fatal(err)
	}
	c.(TimedConnect).AbandonConnect()
	if err := c.Connect(me, vm(4, 98)); err != unix.EINPROGRESS {
		t.Errorf("after giving up: %v", err)
	}
	c.Release(nil)
	freed(t, x)
}

func TestVsockDeviceResetEndsConnectionsNotListeners(t *testing.T) {
	x, y, wx, _ := wired(t)
	l, port := vmListener(t, y, unix.SOCK_STREAM, 5)
	lx, _ := vmListener(t, x, unix.SOCK_STREAM, 5)
	cli, err := vmConnect(t, x, unix.SOCK_STREAM, 4, port)
	if err != nil {
		t.Fatal(err)
	}
	wx.cid = 9
	wx.reset(false)
	if e, err := cli.GetOption(me, unix.SOL_SOCKET, unix.SO_ERROR, 4); err != nil || e[0] != byte(unix.ECONNRESET) {
		t.Errorf("SO_ERROR %v, %v", e, err)
	}
	if _, err := read(t, cli, 1); err != unix.ENOTCONN {
		t.Errorf("read: %v", err)
	}
	if err := sock(t, x, unix.AF_VSOCK, unix.SOCK_STREAM, 0).Bind(me, vm(9, 5000)); err != nil {
		t.Errorf("the new address: %v", err)
	}
	if b, _ := lx.GetOption(me, unix.SOL_SOCKET, unix.SO_ACCEPTCONN, 4); b[0] != 1 {
		t.Error("a listener was reset")
	}
	wx.reset(true)
	if _, err := vmConnect(t, x, unix.SOCK_STREAM, 4, port); err != unix.ENODEV {
		t.Errorf("without its device: %v", err)
	}
	l.Release(nil)
}

// inject is a packet of the host's to machine 3.
func (w *wire) inject(h vsock.Header, data string) {
	h.DstCID, h.Len = 3, uint32(len(data))
	if h.SrcCID == 0 {
		h.SrcCID = 2
	}
	if h.Type == 0 {
		h.Type = vsock.TypeStream
	}
	w.receive(&h, []byte(data))
}

func TestVsockHostileHostIsResetOrRefused(t *testing.T) {
	s := newStack(t, testRAM)
	w := &wire{cid: 3, seq: true, wake: make(chan struct{}, 1)}
	s.AddVsock(w)
	last := func() vsock.Header {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.queue) == 0 {
			return vsock.Header{}
		}
		h := w.queue[len(w.queue)-1].Header
		for _, p := range w.queue {
			w.sent(p)
		}
		w.queue = nil
		return h
	}
	w.inject(vsock.Header{SrcPort: 1, DstPort: 2, Op: vsock.OpRequest}, "")
	if h := last(); h.Op != vsock.OpReset || h.SrcPort != 2 || h.DstPort != 1 || h.SrcCID != 3 || h.DstCID != 2 {
		t.Errorf("nobody's port: %+v", h)
	}
	w.inject(vsock.Header{SrcPort: 1, DstPort: 2, Op: vsock.OpReset}, "")
	if h := last(); h.Op != 0 {
		t.Errorf("a reset was answered: %+v", h)
	}
	w.inject(vsock.Header{SrcPort: 1, DstPort: 2, Op: vsock.OpData, Type: 9}, "x")
	if h := last(); h.Op != vsock.OpReset || h.Type != 9 {
		t.Errorf("an unknown type: %+v", h)
	}
	l, port := vmListener(t, s, unix.SOCK_STREAM, 1)
	for _, cid := range []uint64{1, 3, 2 | 1<<32} {
		w.inject(vsock.Header{SrcCID: cid, SrcPort: 1, DstPort: port, Op: vsock.OpRequest}, "")
		if h := last(); h.Op != 0 {
			t.Errorf("from %d: %+v", cid, h)
		}
	}
	for _, op := range []uint16{vsock.OpData, vsock.OpResponse, vsock.OpCreditRequest, 77} {
		w.inject(vsock.Header{SrcPort: 1, DstPort: port, Op: op}, "x")
		if h := last(); h.Op != vsock.OpReset {
			t.Errorf("operation %d to a listener: %+v", op, h)
		}
	}
	for i := range uint32(4) {
		w.inject(vsock.Header{SrcPort: i, DstPort: port, Op: vsock.OpRequest, BufAlloc: 1 << 31}, "")
		want := uint16(vsock.OpResponse)
		if i > 1 {
			want = vsock.OpReset // the backlog is full
		}
		if h := last(); h.Op != want {
			t.Errorf("request %d: %+v", i, h)
		}
	}
	a, b := accept(t, l), accept(t, l)
	// More than it was given room for ends the connection.
	for range vmBufSize / 4096 {
		w.inject(vsock.Header{SrcPort: 0, DstPort: port, Op: vsock.OpData}, string(make([]byte, 4096)))
	}
	if h := last(); h.Op != 0 {
		t.Errorf("within its room: %+v", h)
	}
	w.inject(vsock.Header{SrcPort: 0, DstPort: port, Op: vsock.OpData}, "x")
	if h := last(); h.Op != vsock.OpReset {
		t.Errorf("beyond its room: %+v", h)
	}
	if e, _ := a.GetOption(me, unix.SOL_SOCKET, unix.SO_ERROR, 4); e[0] != byte(unix.ENOBUFS) {
		t.Errorf("SO_ERROR %v", e)
	}
	// Small pieces take little memory.
	before := s.cfg.Budget.Used()
	for range 10000 {
		w.inject(vsock.Header{SrcPort: 1, DstPort: port, Op: vsock.OpData}, "y")
	}
	if used := s.cfg.Budget.Used() - before; used > 20000 {
		t.Errorf("10000 bytes of one each are charged %d", used)
	}
	w.inject(vsock.Header{SrcPort: 1, DstPort: port, Op: vsock.OpCreditRequest, BufAlloc: 5, FwdCnt: 1 << 31}, "")
	if h := last(); h.Op != vsock.OpCreditUpdate || h.BufAlloc != vmBufSize {
		t.Errorf("credit: %+v", h)
	}
	q := mm.KernelIO(make([]byte, 100))
	if n, err := b.Send(me, &q, &SendMsg{}); n != 0 || err != unix.EAGAIN {
		t.Errorf("sent %d, %v, with a counter that lies", n, err)
	}
	if got := readFull(t, b, 10000); string(got) != string(bytes.Repeat([]byte("y"), 10000)) {
		t.Error("bytes differ")
	}
	// Empty messages without end are bounded too.
	ls, sport := vmListener(t, s, unix.SOCK_SEQPACKET, 1)
	w.inject(vsock.Header{SrcPort: 7, DstPort: sport, Op: vsock.OpRequest, Type: vsock.TypeSeqpacket}, "")
	c := accept(t, ls)
	last()
	for i := 0; ; i++ {
		w.inject(vsock.Header{SrcPort: 7, DstPort: sport, Op: vsock.OpData, Type: vsock.TypeSeqpacket, Flags: vsock.EndOfMessage}, "")
		if last().Op == vsock.OpReset {
			break
		}
		if i > vmBufSize {
			t.Fatal("empty messages are not bounded")
		}
	}
	for _, x := range []Socket{a, b, c, l, ls} {
		x.Release(nil)
	}
	w.reset(true)
	last()
	freed(t, s)
}

// Threads connect, send, read and close as they like: nothing hangs, races or is lost count of.
func TestVsockStorm(t *testing.T) {
	x, y, _, _ := wired(t)
	for _, c := range []struct {
		name     string
		from, to *Stack
		cid      uint32
	}{{"local", x, x, vmCIDLocal}, {"wired", x, y, 4}} {
		t.Run(c.name, func(t *testing.T) {
			l, port := vmListener(t, c.to, unix.SOCK_STREAM, 4)
			q, qport := vmListener(t, c.to, unix.SOCK_SEQPACKET, 4)
			stop := make(chan struct{})
			var clients, servers, served sync.WaitGroup // served grows until the last of servers ends
			for _, l := range []Socket{l, q, l} {
				servers.Add(1)
				go func() {
					defer servers.Done()
					r := rand.New(rand.NewSource(int64(l.Type())))
					for {
						s, err := l.Accept(me)
						if err != nil {
							select {
							case <-stop:
								return
							default:
								time.Sleep(100 * time.Microsecond)
								continue
							}
						}
						seed := r.Int63()
						served.Go(func() { abuse(s, seed) })
					}
				}()
			}
			for i := range 8 {
				clients.Add(1)
				go func() {
					defer clients.Done()
					r := rand.New(rand.NewSource(int64(i)))
					for range 60 {
						typ, p := unix.SOCK_STREAM, port
						if r.Intn(2) == 0 {
							typ, p = unix.SOCK_SEQPACKET, qport
						}
						k, err := c.from.Socket(me, unix.AF_VSOCK, typ, 0)
						if err != nil {
							t.Error(err)
							return
						}
						if err := k.Connect(me, vm(c.cid, p)); err != unix.EINPROGRESS {
							t.Error(err)
						}
						abuse(k, r.Int63())
					}
				}()
			}
			time.Sleep(300 * time.Millisecond)
			clients.Wait()
			close(stop)
			servers.Wait()
			served.Wait()
			l.Release(nil)
			q.Release(nil)
			freed(t, c.from, c.to)
		})
	}
}

// abuse does things to a socket with several threads, and closes it while they do.
func abuse(s Socket, seed int64) {
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewSource(seed + int64(i)))
			buf := make([]byte, 9000)
			for range 30 {
				q := mm.KernelIO(buf[:r.Intn(len(buf))])
				switch r.Intn(8) {
				case 0, 1, 2:
					s.Send(me, &q, &SendMsg{})
				case 3, 4:
					s.Recv(me, &q, &RecvMsg{Nonblock: true, Flags: unix.MSG_PEEK * r.Intn(2)})
				case 5:
					s.Readiness(waiter.AllEvents)
				case 6:
					s.SetOption(me, unix.AF_VSOCK, soVMBufferSize, binary.LittleEndian.AppendUint64(nil, uint64(r.Intn(60000))))
				default:
					if r.Intn(10) == 0 {
						s.Shutdown(r.Intn(3))
					}
				}
			}
		}()
	}
	if seed&3 == 0 {
		time.Sleep(time.Duration(seed>>2&255) * time.Microsecond)
		s.Release(nil)
	}
	wg.Wait()
	s.Release(nil)
}

func TestVsockQueuesAreChargedAndRefused(t *testing.T) {
	s := newStack(t, 64<<20) // a budget of 4 MiB
	l, port := vmListener(t, s, unix.SOCK_STREAM, 4)
	var socks []Socket
	for i := 0; ; i++ {
		c, err := s.Socket(me, unix.AF_VSOCK, unix.SOCK_STREAM, 0)
		if err == nil {
			socks = append(socks, c)
			if err = c.Connect(me, vm(vmCIDLocal, port)); err == unix.EINPROGRESS {
				err = c.ConnectResult()
			}
		}
		if err != nil {
			if err != unix.ENOMEM && err != unix.ECONNRESET {
				t.Errorf("after %d: %v", i, err)
			}
			break
		}
		socks = append(socks, accept(t, l))
		for {
			q := mm.KernelIO(make([]byte, 64<<10))
			if _, err := c.Send(me, &q, &SendMsg{}); err != nil {
				if err != unix.ENOMEM && err != unix.EAGAIN {
					t.Errorf("send: %v", err)
				}
				break
			}
		}
	}
	if used := s.cfg.Budget.Used(); used > s.cfg.Budget.Limit() || used < s.cfg.Budget.Limit()/2 {
		t.Errorf("%d bytes used of %d", used, s.cfg.Budget.Limit())
	}
	for _, x := range append(socks, l) {
		x.Release(nil)
	}
	freed(t, s)
}

func FuzzVsock(f *testing.F) {
	f.Add([]byte{1, 0, 1, 5, 10, 0, 4, 3, 0, 3, 0, 0})
	f.Add([]byte{1, 1, 1, 5, 1, 1, 5, 0, 1, 6, 0, 0, 7, 0, 0})
	s := newStack(f, testRAM)
	w := &wire{cid: 3, seq: true, wake: make(chan struct{}, 1)}
	s.AddVsock(w)
	drain := func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, p := range w.queue {
			w.sent(p)
		}
		w.queue = nil
	}
	// Whatever a host sends to listeners and connections, each is served, and at the end
	// nothing is charged.
	f.Fuzz(func(t *testing.T, script []byte) {
		l, port := vmListener(t, s, unix.SOCK_STREAM, 3)
		q, qport := vmListener(t, s, unix.SOCK_SEQPACKET, 3)
		c := sock(t, s, unix.AF_VSOCK, unix.SOCK_STREAM, 0)
		c.Connect(me, vm(2, 5))
		cn, _ := c.SockName()
		cport := binary.LittleEndian.Uint32(cn[4:])
		socks := []Socket{l, q, c}
		for ; len(script) >= 3; script = script[3:] {
			op, who, v := script[0], script[1], uint32(script[2])
			h := vsock.Header{SrcPort: uint32(who >> 4), DstPort: []uint32{port, qport, cport, 1}[who&3], Op: uint16(op & 15), Type: 1 + uint16(who>>2&1),
				Flags: v & 7, BufAlloc: v << (v & 24), FwdCnt: v >> 4}
			if who&3 == 2 {
				h.SrcPort, h.Type = 5, vsock.TypeStream
			}
			n := 0
			if h.Op == vsock.OpData {
				n = int(v) * int(op>>4)
			}
			w.inject(h, string(make([]byte, n)))
			for _, x := range []Socket{l, q} {
				if y, err := x.Accept(me); err == nil {
					socks = append(socks, y)
				}
			}
			x := socks[int(v)%len(socks)]
			io := mm.KernelIO(make([]byte, 1000))
			switch op >> 5 {
			case 1:
				x.Send(me, &io, &SendMsg{})
			case 2:
				x.Recv(me, &io, &RecvMsg{Nonblock: true})
			case 3:
				x.Release(nil)
			}
			drain()
		}
		for _, x := range socks {
			x.Release(nil)
		}
		drain()
		for _, x := range s.vsock.all() { // who waits for the host's answer
			x.closeTimedOut()
		}
		drain()
		if used := s.cfg.Budget.Used(); used != 0 {
			t.Errorf("%d bytes still charged", used)
		}
	})
}

// all are the sockets with a name or a connection.
func (t *vsockTable) all() (out []*vsockSocket) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range t.connected {
		out = append(out, x)
	}
	for _, bs := range t.bound {
		for _, b := range bs {
			out = append(out, b.x)
		}
	}
	return out
}
