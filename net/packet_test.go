package net

import (
	"encoding/binary"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/bpf"

	"kiln/kernel/cbpf"
	"kiln/kernel/mm"
)

// FuzzPacketSend puts frames on the loopback as AF_PACKET and raw sockets may: nothing
// panics or stays charged, and who listens gets them back.
func FuzzPacketSend(f *testing.F) {
	ip4 := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0x7c, 0xcf, 127, 0, 0, 1, 127, 0, 0, 1, 0, 5, 30, 97, 0, 8, 0, 0}
	f.Add(uint16(0x800), ip4)
	f.Add(uint16(0x86dd), append([]byte{0x60, 0, 0, 0, 0, 8, 58, 64}, make([]byte, 40)...))
	f.Add(uint16(0x806), make([]byte, 28))
	f.Add(uint16(0), []byte{1})
	s := newStack(f, testRAM)
	f.Fuzz(func(t *testing.T, proto uint16, b []byte) {
		if len(b) > 60000 {
			return
		}
		before := s.cfg.Budget.Used()
		all := int(swap16(ethPAll))
		tx, err := s.Socket(me, unix.AF_PACKET, unix.SOCK_DGRAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		rx, err := s.Socket(me, unix.AF_PACKET, unix.SOCK_RAW, all)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := s.Socket(me, unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
		if err != nil {
			t.Fatal(err)
		}
		to := make([]byte, sizeLl)
		binary.LittleEndian.PutUint16(to, unix.AF_PACKET)
		binary.BigEndian.PutUint16(to[2:], proto)
		binary.LittleEndian.PutUint32(to[4:], uint32(loopbackNIC))
		to[11] = 6
		seq := mm.KernelIO(b)
		if n, err := tx.Send(me, &seq, &SendMsg{Name: to}); err != nil || n != len(b) {
			t.Fatalf("%d, %v", n, err)
		}
		var got [65600]byte
		in := mm.KernelIO(got[:])
		if n, err := rx.Recv(me, &in, &RecvMsg{WantControl: true}); err != nil || n != len(b)+ethLen || string(got[ethLen:n]) != string(b) {
			t.Errorf("%d of %d bytes came back, %v", n, len(b), err)
		}
		seq = mm.KernelIO(b)
		raw.Send(me, &seq, &SendMsg{Name: in4(127, 0, 0, 1, 0)})
		for _, x := range []Socket{tx, rx, raw} {
			x.Release(nil)
		}
		if now := s.cfg.Budget.Used(); now != before {
			t.Errorf("%d bytes stay charged", now-before)
		}
	})
}

// FuzzFilter runs programs that a program may attach: they end, and never pass more than
// there is.
func FuzzFilter(f *testing.F) {
	f.Add([]byte{0x28, 0, 0, 0, 12, 0, 0, 0, 0x15, 0, 0, 1, 0, 8, 0, 0, 6, 0, 0, 0, 255, 255, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 60))
	f.Add([]byte{0xb1, 0, 0, 0, 14, 0, 0, 0, 0x48, 0, 0, 0, 14, 0, 0, 0, 0x16, 0, 0, 0, 0, 0, 0, 0}, []byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, raw, packet []byte) {
		if len(raw) < cbpf.Size || len(raw) > cbpf.Size*bpf.MaxInstructions {
			return
		}
		insns, ok := cbpf.Parse(raw)
		if !ok {
			return
		}
		if _, err := bpf.Compile(insns, false); err != nil {
			return
		}
		p := &cbpf.Packet{Data: packet, Net: packet[min(14, len(packet)):], Link: packet, Index: 1}
		n, ok := (&filter{insns, raw}).passes(p)
		if n < 0 || n > len(packet) || !ok && n != 0 {
			t.Errorf("%d of %d bytes", n, len(packet))
		}
	})
}

func TestPacketSocketsSeeBothWaysOnACard(t *testing.T) {
	a, b, _, _ := twoStacks(t, testRAM, false)
	tap := sock(t, a, unix.AF_PACKET, unix.SOCK_RAW, int(swap16(ethPAll)))
	srv, cli, _ := connected(t, b, a, in4(10, 0, 0, 2, 0))
	write(t, cli, []byte("ping"))
	read(t, srv, 4)
	kinds := map[byte]int{}
	buf := make([]byte, 2000)
	for {
		in, m := mm.KernelIO(buf), RecvMsg{}
		if _, err := tap.Recv(me, &in, &m); err != nil {
			break
		}
		kinds[m.Name[10]]++
	}
	if kinds[unix.PACKET_OUTGOING] < 2 || kinds[unix.PACKET_HOST] < 1 {
		t.Errorf("frames by kind: %v", kinds)
	}
	tap.Release(nil)
	if a.taps.Load() != nil {
		t.Error("a closed packet socket is still shown frames")
	}
}

// What a filter cuts off a frame is neither charged nor kept.
func TestCutFramesAreNotKeptWhole(t *testing.T) {
	s := newStack(t, testRAM)
	a, err := s.Socket(me, unix.AF_PACKET, unix.SOCK_RAW, int(swap16(ethPAll)))
	if err != nil {
		t.Fatal(err)
	}
	x := a.(*packetSocket)
	f, ok := parseFilter([]byte{unix.BPF_RET, 0, 0, 0, 96, 0, 0, 0})
	if !ok {
		t.Fatal("the filter is refused")
	}
	x.setFilter(f)
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for range 1000 {
		s.testFrame(60000)
	}
	if held := heap() - before; len(x.rx) < 100 || held > int64(x.bytes) {
		t.Errorf("%d frames take %d bytes of the heap and %d of the receive buffer", len(x.rx), held, x.bytes)
	}
	var got [200]byte
	in := mm.KernelIO(got[:])
	if n, err := x.Recv(me, &in, &RecvMsg{}); n != 96 || err != nil || got[12] != 8 {
		t.Errorf("%d bytes: %x, %v", n, got[:n], err)
	}
	x.Release(nil)
}
