package net

import (
	"encoding/binary"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Memberships are charged, and given back with the socket.
func TestCostOfAMembership(t *testing.T) {
	s, _, _, _ := twoStacks(t, testRAM, false)
	s.SetMaxMemberships(1 << 20)
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for _, c := range []struct {
		family, level, opt int
		n                  int
		req                func(i int) []byte
	}{
		{unix.AF_INET, unix.SOL_IP, unix.IP_ADD_MEMBERSHIP, 2000, func(i int) []byte {
			return append(binary.BigEndian.AppendUint32(nil, 0xe1000000+uint32(i)), 10, 0, 0, 1)
		}},
		{unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_ADD_MEMBERSHIP, mostGroups6, func(i int) []byte {
			return append([]byte{0: 0xff, 1: 2, 14: byte(i >> 8), 15: byte(i)}, 2, 0, 0, 0)
		}},
	} {
		x := sock(t, s, c.family, unix.SOCK_DGRAM, 0)
		before, charged := heap(), s.cfg.Budget.Used()
		for i := range c.n {
			if err := x.SetOption(me, c.level, c.opt, c.req(i)); err != nil {
				t.Fatalf("join %d: %v", i, err)
			}
		}
		each := (heap() - before) / uint64(c.n)
		t.Logf("%d bytes of heap a membership", each)
		if got := s.cfg.Budget.Used() - charged; got != int64(c.n)*groupCost || each > groupCost {
			t.Errorf("%d bytes a membership, and %d charged for %d", each, got, c.n)
		}
		x.Release(nil)
		if got := s.cfg.Budget.Used() - charged; got != -sockCost {
			t.Errorf("%d bytes more than before are charged after the close", got+sockCost)
		}
	}
}

// At the budget's edge a socket joins nothing more.
func TestMembershipsStopAtTheBudget(t *testing.T) {
	s := newStack(t, testRAM)
	x := sock(t, s, unix.AF_INET, unix.SOCK_DGRAM, 0)
	s.cfg.Budget.Force(s.cfg.Budget.Most())
	if err := x.SetOption(me, unix.SOL_IP, unix.IP_ADD_MEMBERSHIP, []byte{225, 1, 2, 3, 127, 0, 0, 1}); err != unix.ENOBUFS {
		t.Error(err)
	}
}
