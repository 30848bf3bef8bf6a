package net

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"
)

// bare is a connection to addr, whose connect has just returned.
func bare(t *testing.T, s *Stack, addr []byte) Socket {
	t.Helper()
	c := sock(t, s, familyOf(addr), unix.SOCK_STREAM, 0)
	if err := c.Connect(me, addr); err != unix.EINPROGRESS {
		t.Fatalf("connect: %v", err)
	}
	return c
}

// What a call sends to this machine itself is taken when it returns.
func TestSegmentsToTheMachineItselfAreTakenWithinTheCall(t *testing.T) {
	s, _, _, _ := twoStacks(t, testRAM, false)
	for _, addr := range [][]byte{lo4(), in4(127, 1, 2, 3, 0), in6(t, "::1", 0, 0), in4(10, 0, 0, 1, 0)} {
		l := listen(t, s, addr, 2)
		binary.BigEndian.PutUint16(addr[2:], uint16(portOf(t, l)))
		for i := range 300 {
			c, d := bare(t, s, addr), bare(t, s, addr)
			for _, x := range []Socket{c, d} {
				if err := x.ConnectResult(); err != nil {
					t.Fatalf("%v: connecting: %v", addr, err)
				}
				y, err := l.Accept(me)
				if err != nil {
					t.Fatalf("%v: accept: %v", addr, err)
				}
				if from, to := y.(*inetSocket), x.(*inetSocket); from.from.Port != uint16(portOf(t, to)) {
					t.Fatalf("%v: accepted out of order", addr)
				}
				if y.Readiness(waiter.ReadableEvents) != 0 {
					t.Fatalf("%v: readable", addr)
				}
				switch i % 3 {
				case 0:
					x.Shutdown(unix.SHUT_WR)
				case 2:
					lg := make([]byte, 8)
					lg[0] = 1
					if err := x.SetOption(me, unix.SOL_SOCKET, unix.SO_LINGER, lg); err != nil {
						t.Fatal(err)
					}
					fallthrough
				case 1:
					x.Release(nil)
				}
				if y.Readiness(waiter.ReadableEvents) == 0 {
					t.Fatalf("%v, %d: not at its end", addr, i%3)
				}
				y.Release(nil)
				if i%3 == 0 {
					x.Release(nil)
				}
			}
		}
		// A listener that ends resets who was not accepted; then nobody may connect.
		c := bare(t, s, addr)
		l.Release(nil)
		if r := c.Readiness(waiter.EventHUp | waiter.EventErr); r == 0 {
			t.Errorf("%v: not reset with the listener", addr)
		}
		c.Release(nil)
		c = bare(t, s, addr)
		if err := c.ConnectResult(); err != unix.ECONNREFUSED {
			t.Errorf("%v: %v without a listener", addr, err)
		}
		c.Release(nil)
	}
}

// A full accept queue holds up nobody: connect goes on, and the connection waits.
func TestConnectToAFullQueueReturns(t *testing.T) {
	s := newStack(t, testRAM)
	addr := lo4()
	l := listen(t, s, addr, 0)
	binary.BigEndian.PutUint16(addr[2:], uint16(portOf(t, l)))
	first, second := bare(t, s, addr), bare(t, s, addr)
	if err := first.ConnectResult(); err != nil {
		t.Error(err)
	}
	if err := second.ConnectResult(); err != unix.EAGAIN {
		t.Error("beyond the queue:", err)
	}
	for _, x := range []Socket{first, second, l} {
		x.Release(nil)
	}
}
