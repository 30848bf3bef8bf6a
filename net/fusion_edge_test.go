package net

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
	"weak"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
)

// A read that comes short says that there is no more (epoll(7)), also where the rest came in
// segments.
func TestReadsGoOnFromALaneToTheSegmentsBehindIt(t *testing.T) {
	for _, how := range []int{0, unix.MSG_PEEK, unix.MSG_TRUNC} {
		s := newStack(t, testRAM)
		srv, cli := fusedPair(t, s)
		write(t, cli, []byte("lane "))
		cli.unfuse()
		write(t, cli, []byte("segment"))
		if err := await(t, srv, func() error {
			if !srv.holds() {
				return unix.EAGAIN
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		q := mm.KernelIO(b)
		n, err := srv.Recv(me, &q, &RecvMsg{Flags: how})
		if n != 12 || err != nil || how != unix.MSG_TRUNC && string(b[:n]) != "lane segment" {
			t.Errorf("flags %#x: %d bytes (%v)", how, n, err)
		}
		if now := must(srv.waiting()); now != left(how, 12) {
			t.Errorf("flags %#x: %d bytes are left", how, now)
		}
	}
}

// The bytes of one small write are together, whoever else writes and whichever pages are
// absent.
func TestWritesFromAbsentPagesAreNotMixed(t *testing.T) {
	s := newStack(t, testRAM)
	srv, cli := fusedPair(t, s)
	const half, records, rounds = 600, 6, 60 // as much as there is room for
	for range rounds {
		var wg sync.WaitGroup
		for id := byte(1); id <= 4; id++ {
			sp, at := userSpace(t, 2*records)
			wg.Go(func() {
				for i := range records { // the second half is a page that is not there, of zeroes
					a := at + hal.UserAddr(i*2*hal.PageSize+hal.PageSize-half)
					if _, err := sp.CopyOut(me.C, a, bytes.Repeat([]byte{id}, half)); err != nil {
						t.Error(err)
					}
					q := mm.UserIO(sp, me.C, a, 2*half)
					if n, err := cli.Write(me.C, nil, &q, -1); n != 2*half || err != nil {
						t.Errorf("wrote %d (%v)", n, err)
					}
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		for range 4 * records {
			b := readFull(t, srv, 2*half)
			if b[0] == 0 || !bytes.Equal(b[:half], bytes.Repeat(b[:1], half)) || !bytes.Equal(b[half:], make([]byte, half)) {
				t.Fatal("the bytes of two writes are mixed")
			}
		}
	}
	if n := s.fuses.held.Load(); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
	// A buffer that ends in nowhere gives what there was of it.
	sp, at := userSpace(t, 1)
	q := mm.UserIO(sp, me.C, at+hal.PageSize-10, 20)
	if n, err := cli.Write(me.C, nil, &q, -1); n != 10 || err != nil {
		t.Errorf("wrote %d (%v)", n, err)
	}
	readFull(t, srv, 10)
}

// A reader who waits for more than his window holds is told when it is full.
func TestAFullWindowIsReadableWhateverTheReaderWaitsFor(t *testing.T) {
	s := newStack(t, testRAM)
	srv, cli := fusedPair(t, s)
	set(t, srv, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096)
	set(t, cli, unix.SOL_SOCKET, unix.SO_SNDBUF, 8192)
	srv.opt.rcvlowat.Store(100_000)
	for total := 0; ; {
		q := mm.KernelIO(make([]byte, 1000))
		n, err := cli.Write(me.C, nil, &q, -1)
		if total += n; total < 4096 && srv.Readiness(waiter.ReadableEvents) != 0 {
			t.Fatalf("readable with %d bytes", total)
		}
		if err != nil {
			break
		}
	}
	if srv.Readiness(waiter.ReadableEvents) == 0 {
		t.Error("not readable, though nothing more can come")
	}
}

// The peer of a closed socket does not keep its memory, nor that of what it has read.
func TestPeersDoNotKeepClosedSockets(t *testing.T) {
	s := newStack(t, testRAM)
	srv, cli := fusedPair(t, s)
	write(t, srv, make([]byte, 10_000))
	gone := weak.Make(srv)
	srv.Shutdown(unix.SHUT_WR)
	srv.Release(nil)
	srv = nil
	for i := 0; gone.Value() != nil; i++ {
		if i == 100 {
			t.Fatal("it is still there")
		}
		runtime.GC()
		time.Sleep(10 * time.Millisecond)
	}
	readFull(t, cli, 10_000)
	if n := s.fuses.held.Load(); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}

// Who is told by edges alone, and takes a read that comes short for the last, gets every
// byte and the end, though the pair comes apart on the way.
func TestEdgesAndShortReadsLoseNoWakeUp(t *testing.T) {
	for i := range 60 {
		s := newStack(t, testRAM)
		srv, cli := fusedPair(t, s)
		r := rand.New(rand.NewPCG(uint64(i), 3))
		d := stream{i, 30 + r.IntN(300_000)}
		ends := i%2 == 0 // else what is sent last is all that is heard of
		e, ch := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventRdHUp | waiter.EventHUp | waiter.EventErr)
		srv.EventRegister(&e)
		go func() {
			if err := d.send(t, cli, r, 0, d.total-20); err != nil {
				t.Error(err)
			}
			if i%3 != 0 {
				set(t, cli, unix.SOL_TCP, unix.TCP_CORK, 1)
				set(t, cli, unix.SOL_TCP, unix.TCP_CORK, 0)
			}
			if err := d.send(t, cli, r, d.total-20, d.total); err != nil {
				t.Error(err)
			}
			if ends {
				cli.Shutdown(unix.SHUT_WR)
			}
		}()
		b := make([]byte, 1+pieceSizes[i%4])
		got, ended := 0, false
		for !ended {
			select {
			case <-ch:
			case <-time.After(10 * time.Second):
				t.Fatalf("connection %d: no edge behind byte %d of %d", i, got, d.total)
			}
			for {
				q := mm.KernelIO(b)
				n, err := srv.Read(me.C, nil, &q, -1)
				if err == unix.EAGAIN {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				for j := range n {
					if b[j] != d.at(got+j) {
						t.Fatalf("connection %d: byte %d differs", i, got+j)
					}
				}
				got += n
				if ended = n == 0 || !ends && got == d.total; ended || n < len(b) && srv.Readiness(waiter.EventRdHUp) == 0 {
					break
				}
			}
		}
		if got != d.total {
			t.Errorf("connection %d: %d of %d bytes", i, got, d.total)
		}
		srv.EventUnregister(&e)
		srv.Release(nil)
		cli.Release(nil)
	}
}
