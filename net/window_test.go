package net

import (
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal/fake"
	"kiln/kernel/mm"
	"kiln/kernel/timer"
)

// noTimers is a machine on which time goes by and no timer expires.
type noTimers struct {
	*fake.Machine
	reads atomic.Int64
}

func (m *noTimers) Nanotime() int64 { return m.Machine.Nanotime() + m.reads.Add(10_000) }

// A window that opens while the receive buffer grows is told of: the stream goes on without
// a probe.
func TestAWindowThatOpensAsTheBufferGrowsIsTold(t *testing.T) {
	m := &noTimers{Machine: fake.New(16)}
	s, err := New(Config{Machine: m, Timers: timer.NewQueue(m), RAM: testRAM, Hostname: "host", Log: func(string, string, ...any) {}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.ns.Close)
	grown := 0
	for range 20 {
		a, b, l := connected(t, s, s, lo4())
		set(t, b, unix.SOL_TCP, unix.TCP_USER_TIMEOUT, 10000) // in segments, please
		srv, cli := a.(*inetSocket), b.(*inetSocket)
		before := srv.ep().SocketOptions().GetReceiveBufferSize()
		out := make([]byte, 4096)
		fill := func() {
			for {
				q := mm.KernelIO(out)
				if n, err := cli.Write(me.C, nil, &q, -1); n == 0 || err != nil {
					return
				}
			}
		}
		in, got := make([]byte, 8192), 0
		for range 100 {
			fill()
			q := mm.KernelIO(in)
			n, err := srv.Read(me.C, nil, &q, -1)
			for end := time.Now().Add(5 * time.Second); err == unix.EAGAIN; n, err = srv.Read(me.C, nil, &q, -1) {
				if time.Now().After(end) {
					t.Fatalf("read %d bytes, then nothing, with %d unsent", got, cli.unsent())
				}
				fill()
				time.Sleep(100 * time.Microsecond)
			}
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
		if srv.fused.Load() != nil {
			t.Fatal("fused")
		}
		if srv.ep().SocketOptions().GetReceiveBufferSize() != before {
			grown++
		}
		for _, x := range []Socket{a, b, l} {
			x.Release(nil)
		}
	}
	// It grows with the time that bytes take, which is up to the host.
	if grown < 10 {
		t.Errorf("%d of 20 buffers grew", grown)
	}
}
