package net

import (
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/mm"
)

// give sends files over x, which gets references of its own.
func give(t *testing.T, x Socket, files ...*vfs.File) {
	t.Helper()
	for _, f := range files {
		f.IncRef()
	}
	q := mm.KernelIO([]byte("x"))
	if _, err := x.Send(me, &q, &SendMsg{Control: Control{Files: files, MaxFiles: 1024}}); err != nil {
		t.Fatal(err)
	}
}

// Sockets that only lead to each other are closed, and what they led to; those that can
// still be received are not.
func TestUnixCyclesInFlightAreCollected(t *testing.T) {
	s := newStack(t, testRAM)
	used, open := s.cfg.Budget.Used(), vfs.OpenFiles()
	inner, other := pair(t, s, unix.SOCK_STREAM)
	hostage := SocketFile(inner, 0, nil)
	for range 100 {
		a, b := pair(t, s, unix.SOCK_STREAM)
		c, d := pair(t, s, unix.SOCK_DGRAM)
		fa, fb, fc, fd := SocketFile(a, 0, nil), SocketFile(b, 0, nil), SocketFile(c, 0, nil), SocketFile(d, 0, nil)
		give(t, a, fd, hostage) // b's queue leads to d
		give(t, c, fb)          // and d's to b
		for _, f := range []*vfs.File{fa, fb, fc, fd} {
			f.DecRef()
		}
	}
	keepA, keepB := pair(t, s, unix.SOCK_STREAM)
	x, y := pair(t, s, unix.SOCK_STREAM)
	fx, fy := SocketFile(x, 0, nil), SocketFile(y, 0, nil)
	give(t, keepA, fy)
	give(t, x, fx) // y's queue leads to x, and y can be received from keepB
	fx.DecRef()
	fy.DecRef()
	hostage.DecRef()
	s.collect()
	if r := other.Readiness(waiter.EventHUp); r&waiter.EventHUp == 0 {
		t.Error("what the cycles led to is still open")
	}
	m := RecvMsg{WantControl: true}
	q := mm.KernelIO(make([]byte, 4))
	if _, err := keepB.Recv(me, &q, &m); err != nil || len(m.Control.Files) != 1 || m.Control.Files[0] != fy {
		t.Fatalf("%v, files %v", err, m.Control.Files)
	}
	fy.DecRef()
	for _, k := range []Socket{keepA, keepB, other} {
		k.Release(nil)
	}
	if f := &s.unix.flights; len(f.sockets) != 0 || len(f.byUser) != 0 {
		t.Errorf("in flight: %v, %v", f.sockets, f.byUser)
	}
	if u, o := s.cfg.Budget.Used(), vfs.OpenFiles(); u != used || o != open {
		t.Errorf("%d bytes charged and %d files open, %d and %d before", u, o, used, open)
	}
}
