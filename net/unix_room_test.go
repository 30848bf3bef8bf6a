package net

import (
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/mm"
)

// A writer whom the budget refuses while something of its is queued waits for its reader, and
// is told however little that was; poll(2) says the same.
func TestUnixWritersThatTheBudgetRefusesAreWoken(t *testing.T) {
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET, unix.SOCK_DGRAM} {
		s := newStack(t, 64<<20)
		a, b := pair(t, s, typ)
		e, ch := waiter.NewChannelEntry(waiter.WritableEvents)
		a.EventRegister(&e)
		send := func() error {
			q := mm.KernelIO(make([]byte, 32<<10))
			_, err := a.Write(me.C, nil, &q, -1)
			return err
		}
		if err := send(); err != nil {
			t.Fatal(err)
		}
		budget := s.cfg.Budget
		var used int64
		for budget.Charge(1 << 10) {
			used += 1 << 10
		}
		if err := send(); err != unix.EAGAIN {
			t.Errorf("type %d: %v", typ, err)
		}
		if a.Readiness(waiter.WritableEvents) != 0 {
			t.Errorf("type %d: writable, and is not", typ)
		}
		if _, err := read(t, b, 64<<10); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ch:
		default:
			t.Errorf("type %d: the writer sleeps on", typ)
		}
		if a.Readiness(waiter.WritableEvents) == 0 {
			t.Errorf("type %d: not writable, and is", typ)
		}
		if err := send(); err != nil {
			t.Errorf("type %d: %v", typ, err)
		}
		read(t, b, 64<<10)
		for budget.Charge(1 << 10) {
			used += 1 << 10
		}
		if err := send(); err != unix.ENOBUFS { // nobody would wake it
			t.Errorf("type %d: %v", typ, err)
		}
		budget.Uncharge(used)
		a.Release(nil)
		b.Release(nil)
		if n := budget.Used(); n != 0 {
			t.Errorf("type %d: %d bytes stay charged", typ, n)
		}
	}
}

// A larger SO_SNDBUF wakes who waits for room.
func TestUnixLargerBufferWakesTheWriter(t *testing.T) {
	s := newStack(t, testRAM)
	a, _ := pair(t, s, unix.SOCK_STREAM)
	q := mm.KernelIO(make([]byte, 1<<20))
	if n, err := a.Write(me.C, nil, &q, -1); n != 6*unixPiece || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	e, ch := waiter.NewChannelEntry(waiter.WritableEvents)
	a.EventRegister(&e)
	if _, err := a.Write(me.C, nil, &q, -1); err != unix.EAGAIN {
		t.Error(err)
	}
	if err := a.SetOption(me, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, le32(1<<20)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ch:
	default:
		t.Error("the writer sleeps on")
	}
	if n, err := a.Write(me.C, nil, &q, -1); n == 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// What is sent and not read counts until it is, and on a sender that is closed nobody calls.
func TestUnixSenderMayGoFirst(t *testing.T) {
	s := newStack(t, testRAM)
	a, b := pair(t, s, unix.SOCK_DGRAM)
	sent := a.(*unixSocket).sent
	for range 3 {
		write(t, a, make([]byte, 1000))
	}
	if n := sent.size.Load(); n != 3*2304 {
		t.Errorf("%d bytes are counted", n)
	}
	a.Release(nil)
	read(t, b, 1000)
	if n := sent.size.Load(); n != 2*2304 {
		t.Errorf("%d bytes are counted", n)
	}
	b.Release(nil)
	if n := sent.size.Load(); n != 0 {
		t.Errorf("%d bytes are counted", n)
	}
	if n := s.cfg.Budget.Used(); n != 0 {
		t.Errorf("%d bytes stay charged", n)
	}
}

func TestUnixBytesComeInTheirSize(t *testing.T) {
	for n, want := range map[int]int{1: 64, 64: 64, 65: 128, 32768: 32768, 32769: unixPiece, unixPiece: unixPiece, unixPiece + 1: 65536, 65536: 65536, 65537: 65537} {
		p, held := unixPool(n)
		v := newUnixBytes(n)
		if q, _ := unixPool(len(v.b)); held != want || len(v.b) != want || p != q {
			t.Errorf("%d bytes: %d, %d", n, held, len(v.b))
		}
		v.release()
	}
}
