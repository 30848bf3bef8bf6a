package net

import (
	"encoding/binary"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func leave(s *Stack) (took time.Duration, looks int, all bool) {
	start := time.Now()
	all = s.Leave(func() { looks++; time.Sleep(time.Millisecond) })
	return time.Since(start), looks, all
}

func TestNothingToLeaveTakesNoTime(t *testing.T) {
	x, y, _, _ := twoStacks(t, testRAM, false)
	srv, cli, l := connected(t, x, y, in4(10, 0, 0, 1, 0))
	a, b, m := connected(t, y, y, lo4()) // bytes for somebody on the machine itself stay here
	write(t, a, pattern(1000))
	for _, s := range []Socket{a, b, m} {
		s.Release(nil)
	}
	for end := time.Now().Add(5 * time.Second); y.leaving() != 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if _, looks, all := leave(y); looks != 0 || !all {
		t.Errorf("%d looks, all %v", looks, all)
	}
	for _, s := range []Socket{srv, cli, l} {
		s.Release(nil)
	}
}

// What was written before the close is with a peer that is slow to read.
func TestBytesOfAClosedConnectionLeave(t *testing.T) {
	x, y, _, _ := twoStacks(t, testRAM, false)
	srv, cli, l := connected(t, x, y, in4(10, 0, 0, 1, 0))
	defer l.Release(nil)
	set(t, srv, unix.SOL_SOCKET, unix.SO_RCVBUF, 8192)
	const size = 60000
	write(t, cli, pattern(size))
	cli.Release(nil)
	if y.leaving() == 0 {
		t.Fatal("nothing to wait for")
	}
	left := make(chan bool)
	go func() {
		_, looks, all := leave(y)
		left <- looks != 0 && all && y.leaving() == 0
	}()
	time.Sleep(300 * time.Millisecond)
	select {
	case <-left:
		t.Error("the machine ends before its bytes are read")
		return
	default:
	}
	readFull(t, srv, size)
	if !<-left {
		t.Error("not all left, or without a wait")
	}
	srv.Release(nil)
}

// A peer that is gone, or was never there, holds up the end for a second.
func TestADeafPeerIsNotWaitedForLong(t *testing.T) {
	for what, begin := range map[string]func(x, y *Stack, dy *pipeDev){
		"a peer that is gone": func(x, y *Stack, dy *pipeDev) {
			_, cli, _ := connected(t, x, y, in4(10, 0, 0, 1, 0))
			dy.mu.Lock()
			dy.lose = func([]byte) bool { return true }
			dy.mu.Unlock()
			write(t, cli, pattern(100))
			cli.Release(nil)
		},
		"a neighbour that does not answer": func(_, y *Stack, _ *pipeDev) {
			u := sock(t, y, unix.AF_INET, unix.SOCK_DGRAM, 0)
			if err := u.Connect(me, in4(10, 0, 0, 77, 9)); err != nil {
				t.Fatal(err)
			}
			write(t, u, []byte("hello"))
			u.Release(nil)
		},
	} {
		x, y, _, dy := twoStacks(t, testRAM, false)
		begin(x, y, dy)
		took, looks, all := leave(y)
		if all || looks == 0 || took < leaveStuck || took > 4*leaveStuck {
			t.Errorf("%s: all %v after %s", what, all, took)
		}
	}
}

// A card that is slow has all frames before the end.
func TestPacketsInTheCardLeave(t *testing.T) {
	x, y, _, dy := twoStacks(t, testRAM, false)
	in := sock(t, x, unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err := in.Bind(me, in4(10, 0, 0, 1, 0)); err != nil {
		t.Fatal(err)
	}
	to := in4(10, 0, 0, 1, portOf(t, in))
	out := sock(t, y, unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err := out.Connect(me, to); err != nil {
		t.Fatal(err)
	}
	dy.mu.Lock()
	dy.room = 2 // the rest waits in the kernel
	looked := make(chan struct{})
	dy.lose = func([]byte) bool { <-looked; return false }
	dy.mu.Unlock()
	const n = 50
	for i := range n {
		write(t, out, binary.BigEndian.AppendUint16(nil, uint16(i)))
	}
	out.Release(nil)
	looks := 0
	all := y.Leave(func() {
		if looks++; looks == 1 {
			close(looked)
		}
		time.Sleep(time.Millisecond)
	})
	if looks == 0 || !all {
		t.Errorf("%d looks, all %v", looks, all)
	}
	for i := range n {
		if b := readFull(t, in, 2); binary.BigEndian.Uint16(b) != uint16(i) {
			t.Fatalf("datagram %d is %x", i, b)
		}
	}
}

// A packet that waited for its neighbour's address is with the card, not on its way there.
func TestPacketsForANewNeighbourLeave(t *testing.T) {
	x, y, _, dy := twoStacks(t, testRAM, false)
	in := sock(t, x, unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err := in.Bind(me, in4(10, 0, 0, 1, 0)); err != nil {
		t.Fatal(err)
	}
	out := sock(t, y, unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err := out.Connect(me, in4(10, 0, 0, 1, portOf(t, in))); err != nil {
		t.Fatal(err)
	}
	var datagrams atomic.Int32
	dy.mu.Lock()
	dy.lose = func(f []byte) bool {
		if binary.BigEndian.Uint16(f[12:]) == unix.ETH_P_IP {
			datagrams.Add(1)
		}
		return false
	}
	dy.mu.Unlock()
	for i := range 300 {
		for _, e := range y.interfaces() {
			if e.eth != nil {
				y.ns.ClearNeighbors(e.id, header.IPv4ProtocolNumber)
			}
		}
		write(t, out, []byte{byte(i)})
		if !y.Leave(runtime.Gosched) {
			t.Fatal("not all left")
		}
		if n := datagrams.Load(); int(n) != i+1 {
			t.Fatalf("%d datagrams are with the card, of %d", n, i+1)
		}
	}
}
