package net

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	vnet "kiln/drivers/virtio/net"
	"kiln/kernel/image"
)

// lateStack is a stack with a card that has no address yet, and the other end of its
// cable: every frame that the card sends.
func lateStack(t *testing.T) (s *Stack, d *pipeDev, sent chan []byte) {
	s = newStack(t, testRAM)
	d, far := newPipe(false)
	sent = make(chan []byte, 64)
	far.recv = func(p *vnet.Packet) { sent <- append([]byte(nil), p.Slices[0]...) }
	if err := s.AddDevice("eth0", d); err != nil {
		t.Fatal(err)
	}
	d.pump()
	return s, d, sent
}

func configure(t *testing.T, s *Stack) {
	t.Helper()
	if err := s.Configure(image.Network{Mode: "static", Address: "10.0.0.1/24"}, ""); err != nil {
		t.Fatal(err)
	}
}

func TestANewAddressIsAnnounced(t *testing.T) {
	s, d, sent := lateStack(t)
	configure(t, s)
	end := time.After(10 * time.Second)
	for {
		select {
		case f := <-sent:
			if header.Ethernet(f).Type() != header.ARPProtocolNumber {
				continue
			}
			h := header.ARP(f[ethLen:])
			if !h.IsValid() || h.Op() != header.ARPRequest || !bytes.Equal(f[:6], []byte{255, 255, 255, 255, 255, 255}) ||
				!bytes.Equal(h.HardwareAddressSender(), d.mac[:]) ||
				!bytes.Equal(h.ProtocolAddressSender(), []byte{10, 0, 0, 1}) || !bytes.Equal(h.ProtocolAddressTarget(), []byte{10, 0, 0, 1}) {
				t.Errorf("not an announcement (RFC 5227 2.3): % x", f)
			}
			return
		case <-end:
			t.Fatal("no announcement")
		}
	}
}

func TestFramesBeforeTheAddressAreKeptWithinBoundsAndHandedUp(t *testing.T) {
	var e early
	frame := func(n int) *vnet.Packet {
		f := make([]byte, n)
		f[12], f[13] = 8, 0
		return &vnet.Packet{Slices: [][]byte{f[:40], f[40:]}, CsumValid: true}
	}
	take := func(n int) bool { p := frame(n); return e.take(p, p.Slices[0], n) }
	if take(earlyBytes + 1) {
		t.Error("a long frame was kept")
	}
	arp := frame(60)
	arp.Slices[0][13] = 6
	if e.take(arp, arp.Slices[0], 60) {
		t.Error("a frame that is not IPv4 was kept")
	}
	for i := range earlyFrames {
		if !take(60 + i) {
			t.Fatalf("frame %d was not kept", i)
		}
	}
	if take(60) {
		t.Error("one more than the bound was kept")
	}
	n := 0
	e.end(func(p *vnet.Packet) {
		if len(p.Slices) != 1 || len(p.Slices[0]) != 60+n || !p.CsumValid {
			t.Errorf("frame %d came back as %d slices of %d", n, len(p.Slices), len(p.Slices[0]))
		}
		n++
	})
	if n != earlyFrames {
		t.Errorf("%d frames handed up", n)
	}
	if take(60) {
		t.Error("a frame was kept after the end")
	}
}

// A datagram that comes before the address is delivered once it is there.
func TestADatagramBeforeTheAddressReachesItsSocket(t *testing.T) {
	s, d, _ := lateStack(t)
	u := sock(t, s, unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err := u.Bind(me, in4(0, 0, 0, 0, 9)); err != nil {
		t.Fatal(err)
	}
	x, y, _, dy := twoStacks(t, testRAM, false)
	_ = x
	var frame []byte
	got := make(chan struct{}, 1)
	dy.mu.Lock()
	dy.lose = func(f []byte) bool {
		if f[12] == 8 && f[13] == 0 && f[ethLen+9] == unix.IPPROTO_UDP && frame == nil {
			frame = append([]byte(nil), f...)
			got <- struct{}{}
		}
		return false
	}
	dy.mu.Unlock()
	c := sock(t, y, unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err := c.Connect(me, in4(10, 0, 0, 1, 9)); err != nil {
		t.Fatal(err)
	}
	if err := write(t, c, []byte("early")); err != nil {
		t.Fatal(err)
	}
	<-got
	d.recv(&vnet.Packet{Slices: [][]byte{frame}})
	configure(t, s)
	if b, err := read(t, u, 10); err != nil || string(b) != "early" {
		t.Errorf("%q, %v", b, err)
	}
}
