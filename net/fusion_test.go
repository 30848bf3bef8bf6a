package net

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/mm"
)

func lo4() []byte { return in4(127, 0, 0, 1, 0) }

// fusedPair is a connection over the loopback that has been fused by its first bytes.
func fusedPair(t testing.TB, s *Stack) (srv, cli *inetSocket) {
	t.Helper()
	a, b, l := connected(t, s, s, lo4())
	l.Release(nil)
	if err := write(t, b, []byte("x")); err != nil {
		t.Fatal(err)
	}
	readFull(t, a, 1)
	srv, cli = a.(*inetSocket), b.(*inetSocket)
	if srv.fused.Load() == nil || cli.fused.Load() == nil {
		t.Fatal("not fused")
	}
	return srv, cli
}

func set(t testing.TB, s Socket, level, name int, v ...uint32) {
	t.Helper()
	var b []byte
	for _, n := range v {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	if err := s.SetOption(me, level, name, b); err != nil {
		t.Fatal(err)
	}
}

func TestConnectionsWithinTheMachineHaveNoSegments(t *testing.T) {
	s := newStack(t, testRAM)
	srv, cli := fusedPair(t, s)
	lo := s.interfaces()[0]
	sent, before := s.ns.Stats().TCP.SegmentsSent.Value(), s.counters(lo)
	for range 100 {
		if err := write(t, cli, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		readFull(t, srv, 100)
	}
	if now := s.ns.Stats().TCP.SegmentsSent.Value(); now != sent {
		t.Errorf("%d segments", now-sent)
	}
	after := s.counters(lo)
	if n, b := after.txPackets-before.txPackets, after.rxBytes-before.rxBytes; n != 100 || b != 100*(100+fusedHeaders) {
		t.Errorf("the loopback counted %d packets and %d bytes", n, b)
	}
	if srv.taken.Load() != 10001 || cli.sent.Load() != 10001 {
		t.Errorf("sent %d, taken %d", cli.sent.Load(), srv.taken.Load())
	}
}

// What was sent before accept is read first.
func TestBytesSentBeforeAcceptComeFirst(t *testing.T) {
	s := newStack(t, testRAM)
	l := listen(t, s, lo4(), 4)
	c, err := connect(t, s, in4(127, 0, 0, 1, portOf(t, l)))
	if err != nil {
		t.Fatal(err)
	}
	write(t, c, []byte("one "))
	a := accept(t, l)
	write(t, c, []byte("two "))
	if b := readFull(t, a, 8); string(b) != "one two " {
		t.Fatalf("got %q", b)
	}
	// The last acknowledgement may still be on its way: a later write fuses them then.
	for i := 0; ; i++ {
		write(t, a, []byte("three"))
		if b := readFull(t, c, 5); string(b) != "three" {
			t.Fatalf("got %q", b)
		}
		if c.(*inetSocket).fused.Load() != nil {
			break
		}
		if i == 10 {
			t.Fatal("not fused")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Whoever wants to see segments gets them, in the midst of a stream, and no byte is lost.
func TestPairsComeApartInTheMidst(t *testing.T) {
	for name, apart := range map[string]func(t *testing.T, s *Stack, srv, cli *inetSocket){
		"packet socket": func(t *testing.T, s *Stack, _, _ *inetSocket) {
			p := sock(t, s, unix.AF_PACKET, unix.SOCK_RAW, 0x300)
			t.Cleanup(func() { p.Release(nil) })
		},
		"raw socket": func(t *testing.T, s *Stack, _, _ *inetSocket) {
			p := sock(t, s, unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP)
			t.Cleanup(func() { p.Release(nil) })
		},
		"user timeout": func(t *testing.T, _ *Stack, _, cli *inetSocket) {
			set(t, cli, unix.SOL_TCP, unix.TCP_USER_TIMEOUT, 10000)
		},
		"cork": func(t *testing.T, _ *Stack, _, cli *inetSocket) {
			set(t, cli, unix.SOL_TCP, unix.TCP_CORK, 1)
			set(t, cli, unix.SOL_TCP, unix.TCP_CORK, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStack(t, testRAM)
			srv, cli := fusedPair(t, s)
			write(t, cli, []byte("lane "))
			sent := s.ns.Stats().TCP.SegmentsSent.Value()
			apart(t, s, srv, cli)
			write(t, cli, []byte("segment"))
			if s.ns.Stats().TCP.SegmentsSent.Value() == sent {
				t.Error("no segment")
			}
			if b := readFull(t, srv, 12); string(b) != "lane segment" {
				t.Errorf("got %q", b)
			}
		})
	}
}

func TestNothingPassesALoopbackThatIsDown(t *testing.T) {
	s := newStack(t, testRAM)
	srv, cli := fusedPair(t, s)
	s.setUp(s.interfaces()[0], false)
	write(t, cli, []byte("later"))
	q := mm.KernelIO(make([]byte, 5))
	if n, err := srv.Read(me.C, nil, &q, -1); err != unix.EAGAIN {
		t.Fatalf("read %d (%v) over a link that is down", n, err)
	}
	s.setUp(s.interfaces()[0], true)
	if b := readFull(t, srv, 5); string(b) != "later" {
		t.Errorf("got %q", b)
	}
}

// A peer that does not read stops the writer at the send buffer and the window, and half of
// the send buffer must be free before he is told.
func TestFusedWriterWaitsForItsReader(t *testing.T) {
	s := newStack(t, testRAM)
	srv, cli := fusedPair(t, s)
	set(t, cli, unix.SOL_SOCKET, unix.SO_SNDBUF, 8192)
	set(t, srv, unix.SOL_SOCKET, unix.SO_RCVBUF, 8192)
	total := 0
	for {
		q := mm.KernelIO(make([]byte, 1000))
		n, err := cli.Write(me.C, nil, &q, -1)
		if total += n; err != nil {
			break
		}
	}
	if total != 16384+8192 {
		t.Errorf("%d bytes fit", total)
	}
	if in, out := int(must(srv.waiting())), cli.unsent(); in != 8192 || out != 16384 {
		t.Errorf("%d received, %d unsent", in, out)
	}
	e, ch := waiter.NewChannelEntry(waiter.WritableEvents)
	cli.EventRegister(&e)
	defer cli.EventUnregister(&e)
	if r := cli.Readiness(waiter.WritableEvents); r != 0 {
		t.Fatalf("ready for %#x", r)
	}
	readFull(t, srv, 8000)
	select {
	case <-ch:
		t.Error("told too early")
	default:
	}
	readFull(t, srv, 400)
	select {
	case <-ch:
	case <-time.After(5 * time.Second):
		t.Error("not told")
	}
	if r := cli.Readiness(waiter.WritableEvents); r != waiter.WritableEvents {
		t.Errorf("ready for %#x", r)
	}
}

func must[T any, E any](v T, _ E) T { return v }

func TestEndsOfFusedStreams(t *testing.T) {
	s := newStack(t, testRAM)
	t.Run("half close", func(t *testing.T) {
		srv, cli := fusedPair(t, s)
		write(t, cli, []byte("request"))
		cli.Shutdown(unix.SHUT_WR)
		if b := readFull(t, srv, 7); string(b) != "request" {
			t.Fatalf("got %q", b)
		}
		if b, err := read(t, srv, 1); len(b) != 0 || err != nil {
			t.Fatalf("read %d bytes (%v) behind the end", len(b), err)
		}
		write(t, srv, []byte("answer"))
		if b := readFull(t, cli, 6); string(b) != "answer" {
			t.Fatalf("got %q", b)
		}
		srv.Release(nil)
		if b, err := read(t, cli, 1); len(b) != 0 || err != nil {
			t.Fatalf("read %d bytes (%v) behind the end", len(b), err)
		}
		cli.Release(nil)
	})
	t.Run("close with unread bytes", func(t *testing.T) {
		srv, cli := fusedPair(t, s)
		write(t, srv, []byte("mine"))
		write(t, cli, []byte("never read"))
		srv.Release(nil)
		if b := readFull(t, cli, 4); string(b) != "mine" {
			t.Fatalf("got %q", b)
		}
		if _, err := read(t, cli, 1); err != unix.ECONNRESET {
			t.Errorf("read: %v", err)
		}
		cli.Release(nil)
	})
	t.Run("write to a closed peer", func(t *testing.T) {
		srv, cli := fusedPair(t, s)
		srv.Release(nil)
		if err := write(t, cli, []byte("first")); err != nil {
			t.Errorf("the first write: %v", err)
		}
		for start := time.Now(); ; { // the reset may take a moment
			err := write(t, cli, []byte("second"))
			if err == unix.EPIPE || err == unix.ECONNRESET {
				break
			}
			if err != nil || time.Since(start) > 5*time.Second {
				t.Fatalf("a later write: %v", err)
			}
		}
		cli.Release(nil)
	})
	if n := s.fuses.held.Load(); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
	if n := s.fuses.clients.Load(); n != 0 {
		t.Errorf("%d clients", n)
	}
}

// stream is one direction of the storm: byte i of it is at(i).
type stream struct{ seed, total int }

func (d stream) at(i int) byte { return byte((i+d.seed)*31 + (i+d.seed)>>9) }

var pieceSizes = []int{3, 300, 5000, 90000}

// send writes the bytes from i to end in pieces of all sizes; it stops at an error.
func (d stream) send(t testing.TB, x Socket, r *rand.Rand, i, end int) error {
	for i < end {
		b := make([]byte, min(end-i, 1+r.IntN(pieceSizes[r.IntN(4)])))
		for j := range b {
			b[j] = d.at(i + j)
		}
		if err := write(t, x, b); err != nil {
			return err
		}
		i += len(b)
		if r.IntN(200) == 0 {
			set(t, x, unix.SOL_SOCKET, unix.SO_SNDBUF, uint32(3000+r.IntN(100000)))
		}
	}
	return nil
}

// errEarly is also what is left to be said of a reset that the writer has been told.
var errEarly = errors.New("the stream ended")

// check reads up to most bytes and looks at every one; an error, or nil at the end or behind
// most.
func (d stream) check(t testing.TB, x Socket, r *rand.Rand, most int) error {
	for i := 0; i < most; {
		b := make([]byte, 1+r.IntN(pieceSizes[r.IntN(4)]))
		n, flags := 0, 0
		if r.IntN(8) == 0 {
			flags = unix.MSG_PEEK
		}
		if err := await(t, x, func() (err error) {
			q := mm.KernelIO(b)
			n, err = x.Recv(me, &q, &RecvMsg{Flags: flags})
			return err
		}); err != nil {
			return err
		}
		for j := range n {
			if b[j] != d.at(i+j) {
				return fmt.Errorf("byte %d of %d differs", i+j, d.total)
			}
		}
		if n == 0 {
			if i != d.total {
				return fmt.Errorf("%w at %d of %d", errEarly, i, d.total)
			}
			return nil
		}
		if flags == 0 {
			i += n
		}
	}
	return nil
}

// Connections with both directions at once, pieces of all sizes, ends of all kinds, and
// pairs that come apart at any moment: every byte comes, once, and the end behind the last.
func TestFusedStorm(t *testing.T) {
	s := newStack(t, testRAM)
	rounds, size := 6, 400_000
	if testing.Short() {
		rounds = 2
	}
	var all sync.WaitGroup
	for w := range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			r := rand.New(rand.NewPCG(uint64(w), 7))
			for i := range rounds {
				storm(t, s, r, fmt.Sprintf("connection %d.%d", w, i), size)
			}
		}()
	}
	stop := make(chan struct{})
	var taps sync.WaitGroup
	taps.Add(1)
	go func() { // somebody looks at the segments now and then
		defer taps.Done()
		for {
			select {
			case <-stop:
				return
			case <-time.After(40 * time.Millisecond):
			}
			if p, err := s.Socket(me, unix.AF_PACKET, unix.SOCK_DGRAM, 0x300); err == nil {
				time.Sleep(time.Millisecond)
				p.Release(nil)
			}
		}
	}()
	all.Wait()
	close(stop)
	taps.Wait()
	if n := s.fuses.held.Load(); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
	if n := s.fuses.clients.Load(); n != 0 || len(s.fuses.waiting) != 0 {
		t.Errorf("%d clients, %d ends wait", n, len(s.fuses.waiting))
	}
}

func storm(t *testing.T, s *Stack, r *rand.Rand, name string, size int) {
	l := listen(t, s, lo4(), 4)
	a, err := connect(t, s, in4(127, 0, 0, 1, portOf(t, l)))
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	b := accept(t, l)
	l.Release(nil)
	ends := [2]Socket{a, b}
	d := [2]stream{{r.IntN(1000), r.IntN(size)}, {r.IntN(1000), r.IntN(size)}}
	resets, apart := r.IntN(8), r.IntN(8) // which end, if it is one
	var wg sync.WaitGroup
	for i, x := range ends {
		out, in := rand.New(rand.NewPCG(r.Uint64(), 1)), rand.New(rand.NewPCG(r.Uint64(), 2))
		mine, theirs := d[i], d[1-i]
		say := func(err error) {
			if err != nil && (resets > 1 || err != unix.ECONNRESET && err != unix.EPIPE && !errors.Is(err, errEarly)) {
				t.Errorf("%s, end %d: %v", name, i, err)
			}
		}
		most, last := theirs.total+1, mine.total
		if resets == i {
			most, last = out.IntN(most), out.IntN(last+1)
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			read := make(chan struct{})
			go func() {
				say(theirs.check(t, x, in, most))
				close(read)
			}()
			err := mine.send(t, x, out, 0, last/2)
			if apart == i {
				set(t, x, unix.SOL_TCP, unix.TCP_USER_TIMEOUT, 60000)
			}
			if err == nil {
				err = mine.send(t, x, out, last/2, last)
			}
			say(err)
			if resets == i {
				set(t, x, unix.SOL_SOCKET, unix.SO_LINGER, 1, 0)
			} else if err == nil {
				x.Shutdown(unix.SHUT_WR)
			}
			<-read
			x.Release(nil)
		}()
	}
	wg.Wait()
}
