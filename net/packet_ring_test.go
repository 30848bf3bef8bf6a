package net

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
	"kiln/kernel/mm"
)

// ringStack is a stack with memory for rings, all of which is back at the end.
func ringStack(t testing.TB, frames int) *Stack {
	s := newStack(t, testRAM)
	mem := mm.NewMemory(fake.New(frames))
	s.cfg.Mem, s.cfg.Budget = mem, mem.Budget()
	used := mem.Budget().Used()
	t.Cleanup(func() {
		if n := mem.Count(mm.KindShmem); n != 0 {
			t.Errorf("%d frames of rings are left", n)
		}
		if now := mem.Budget().Used(); now != used {
			t.Errorf("%d bytes stay charged", now-used)
		}
	})
	return s
}

func words(v ...uint32) (b []byte) {
	for _, w := range v {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

func ringSocket(t testing.TB, s *Stack, version int) *packetSocket {
	x, err := s.Socket(me, unix.AF_PACKET, unix.SOCK_RAW, int(swap16(ethPAll)))
	if err != nil {
		t.Fatal(err)
	}
	if err := x.SetOption(me, unix.SOL_PACKET, unix.PACKET_VERSION, words(uint32(version))); err != nil {
		t.Fatal(err)
	}
	return x.(*packetSocket)
}

func (s *Stack) testFrame(n int) {
	b := make([]byte, ethLen+n)
	binary.BigEndian.PutUint16(b[12:], unix.ETH_P_IP)
	s.tap(packetFrame{b: b, head: ethLen, hw: unix.ARPHRD_ETHER, nic: loopbackNIC}, nil)
}

func TestRingsGoBackToTheBudgetAndAreRefusedAtItsEdge(t *testing.T) {
	s := ringStack(t, 4096)
	for version := range 3 {
		x := ringSocket(t, s, version)
		if err := x.SetOption(me, unix.SOL_PACKET, unix.PACKET_RX_RING, words(4096, 1<<20, 2048, 2<<20, 0, 0, 0)); err != unix.ENOMEM {
			t.Errorf("a ring larger than memory: %v", err)
		}
		for _, opt := range []int{unix.PACKET_RX_RING, unix.PACKET_TX_RING} {
			if err := x.SetOption(me, unix.SOL_PACKET, opt, words(4096, 16, 2048, 32, 0, 0, 0)); err != nil {
				t.Fatal(err)
			}
		}
		if x.ring.size != 32*hal.PageSize {
			t.Errorf("%d bytes for both rings", x.ring.size)
		}
		s.testFrame(100)
		if version == tpacketV1 {
			if err := x.SetOption(me, unix.SOL_PACKET, unix.PACKET_RX_RING, words(0, 0, 0, 0)); err != nil {
				t.Fatal(err)
			}
		}
		x.Release(nil)
		x.Release(nil)
	}
}

// What one ring holds is there still when the other is made or taken away.
func TestTheOtherRingKeepsWhatItHolds(t *testing.T) {
	s := ringStack(t, 1024)
	x := ringSocket(t, s, tpacketV2)
	defer x.Release(nil)
	x.SetOption(me, unix.SOL_PACKET, unix.PACKET_TX_RING, words(4096, 2, 2048, 4))
	x.txRing.m.put32(x.txRing.frame(3)+64, 0x12345678)
	x.SetOption(me, unix.SOL_PACKET, unix.PACKET_RX_RING, words(8192, 1, 2048, 4))
	if v := x.txRing.m.get32(x.txRing.frame(3) + 64); v != 0x12345678 || x.txRing.base != 8192 {
		t.Errorf("%#x at %d", v, x.txRing.base)
	}
	x.SetOption(me, unix.SOL_PACKET, unix.PACKET_RX_RING, words(0, 0, 0, 0))
	if v := x.txRing.m.get32(x.txRing.frame(3) + 64); v != 0x12345678 || x.txRing.base != 0 {
		t.Errorf("%#x at %d", v, x.txRing.base)
	}
}

// A program may write whatever it likes into a ring, at any time, and ask for whatever it
// likes.
func TestHostileRings(t *testing.T) {
	s := ringStack(t, 4096)
	r := rand.New(rand.NewPCG(7, 7))
	to := make([]byte, sizeLl)
	binary.LittleEndian.PutUint32(to[4:], uint32(loopbackNIC))
	for round := range 60 {
		version := round % 3
		x := ringSocket(t, s, version)
		x.SetOption(me, unix.SOL_PACKET, unix.PACKET_RESERVE, words(uint32(r.IntN(3000))))
		x.SetOption(me, unix.SOL_PACKET, packetVnetHdr, words(uint32(r.IntN(2))))
		x.SetOption(me, unix.SOL_PACKET, unix.PACKET_LOSS, words(uint32(r.IntN(2))))
		x.SetOption(me, unix.SOL_PACKET, unix.PACKET_TX_HAS_OFF, words(uint32(r.IntN(2))))
		size, frame := uint32(4096<<r.IntN(3)), uint32(16*(4+r.IntN(200)))
		x.SetOption(me, unix.SOL_PACKET, unix.PACKET_RX_RING, words(size, 3, frame, size/frame*3, 1, uint32(r.IntN(900)), 1))
		x.SetOption(me, unix.SOL_PACKET, unix.PACKET_TX_RING, words(size, 2, frame, size/frame*2, 0, 0, 0))
		for range 200 {
			if x.ring != nil {
				for range 40 {
					v := r.Uint32()
					if r.IntN(2) == 0 {
						v = uint32(r.IntN(5))
					}
					x.mu.Lock()
					x.ring.put32(int64(r.IntN(int(x.ring.size/4)))*4, v)
					x.mu.Unlock()
				}
			}
			s.testFrame(r.IntN(9000))
			x.Readiness(waiter.ReadableEvents | waiter.WritableEvents)
			seq := mm.KernelIO(nil)
			x.Send(me, &seq, &SendMsg{Name: to})
		}
		x.Release(nil)
	}
}

// Frames come from everywhere while rings are made and taken away and sockets join groups
// and go: with -race.
func TestRingsWhileFramesCome(t *testing.T) {
	s := ringStack(t, 8192)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					s.testFrame(200)
				}
			}
		})
	}
	var work sync.WaitGroup
	for i := range 3 {
		work.Go(func() {
			for n := range 150 {
				x := ringSocket(t, s, (i+n)%3)
				x.SetOption(me, unix.SOL_PACKET, unix.PACKET_RX_RING, words(4096, 4, 2048, 8, 1, 0, 0))
				x.SetOption(me, unix.SOL_PACKET, unix.PACKET_FANOUT, words(9|uint32([]int{unix.PACKET_FANOUT_LB, unix.PACKET_FANOUT_ROLLOVER}[n&1])<<16))
				x.GetOption(me, unix.SOL_PACKET, unix.PACKET_STATISTICS, 12)
				x.Readiness(1)
				x.SetOption(me, unix.SOL_PACKET, unix.PACKET_RX_RING, words(0, 0, 0, 0, 0, 0, 0))
				x.Release(nil)
			}
		})
	}
	work.Wait()
	close(stop)
	wg.Wait()
	if s.taps.Load() != nil || len(s.fanouts) != 0 {
		t.Error("somebody is shown frames still")
	}
}
