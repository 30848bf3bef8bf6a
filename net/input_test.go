package net

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	vnet "kiln/drivers/virtio/net"
)

func TestOnlyPlainSegmentsTakeTheShortWay(t *testing.T) {
	good := func() []byte {
		f := make([]byte, 60) // 54 bytes and Ethernet's padding
		binary.BigEndian.PutUint16(f[12:], uint16(header.IPv4ProtocolNumber))
		h := header.IPv4(f[ethLen:])
		h.Encode(&header.IPv4Fields{TotalLength: 40, TTL: 64, Protocol: unix.IPPROTO_TCP, Flags: header.IPv4FlagDontFragment,
			SrcAddr: tcpip.AddrFrom4([4]byte{10, 0, 0, 2}), DstAddr: tcpip.AddrFrom4([4]byte{10, 0, 0, 1})})
		h.SetChecksum(^h.CalculateChecksum())
		f[tcpAt+12] = 5 << 4
		return f
	}
	if n := plainSegment(good(), false); n != 54 {
		t.Fatalf("a plain segment: %d", n)
	}
	for name, spoil := range map[string]func(f []byte) []byte{
		"short":                  func(f []byte) []byte { return f[:53] },
		"IPv6":                   func(f []byte) []byte { f[12], f[13] = 0x86, 0xdd; return f },
		"UDP":                    func(f []byte) []byte { f[ethLen+9] = unix.IPPROTO_UDP; return f },
		"options":                func(f []byte) []byte { f[ethLen] = 0x46; return f },
		"version":                func(f []byte) []byte { f[ethLen] = 0x65; return f },
		"more fragments":         func(f []byte) []byte { f[ethLen+6] |= 0x20; return f },
		"a later fragment":       func(f []byte) []byte { f[ethLen+7] = 1; return f },
		"the reserved flag":      func(f []byte) []byte { f[ethLen+6] |= 0x80; return f },
		"longer than the frame":  func(f []byte) []byte { f[ethLen+3] = 47; return f },
		"shorter than a header":  func(f []byte) []byte { f[ethLen+3] = 39; return f },
		"a header past its end":  func(f []byte) []byte { f[tcpAt+12] = 6 << 4; return f },
		"a header of four words": func(f []byte) []byte { f[tcpAt+12] = 4 << 4; return f },
	} {
		if n := plainSegment(spoil(good()), true); n != 0 {
			t.Errorf("%s: %d", name, n)
		}
	}
	f := good()
	f[ethLen+8]--
	if plainSegment(f, false) != 0 || plainSegment(f, true) == 0 {
		t.Error("the header's sum is checked where the card did not")
	}
}

// tamper has every frame of a card changed on its way, once.
func tamper(d *pipeDev, change func(f []byte)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lose = func(f []byte) bool {
		if plainSegment(f, true) > 0 && change != nil {
			change(f)
			change = nil
		}
		return false
	}
}

func TestADamagedSegmentOfAKnownConnectionIsDropped(t *testing.T) {
	for name, at := range map[string]int{"IP header": ethLen + 8, "TCP header": tcpAt + 4, "data": 90} {
		t.Run(name, func(t *testing.T) {
			x, y, _, dy := twoStacks(t, testRAM, false)
			srv, cli, _ := connected(t, x, y, in4(10, 0, 0, 1, 0))
			exchange(t, srv, cli, 3)
			before := x.ns.Stats()
			tamper(dy, func(f []byte) { f[at] ^= 0x55 })
			want := pattern(100)
			if err := write(t, cli, want); err != nil {
				t.Fatal(err)
			}
			if got := readFull(t, srv, len(want)); string(got) != string(want) {
				t.Errorf("got % x", got)
			}
			after := x.ns.Stats()
			if after.TCP.ChecksumErrors.Value()+after.IP.MalformedPacketsReceived.Value() == 0 {
				t.Errorf("nothing was counted: %v, %v", before.TCP.ChecksumErrors, before.IP.MalformedPacketsReceived)
			}
		})
	}
}

// known says whether x takes the segments of a connection by the short way.
func known(x *Stack) (n int) {
	x.flows.sweep(func(*flowEntry) bool { n++; return false })
	return n
}

func TestConnectionsAreForgottenWhenTheyEndOrAddressesChange(t *testing.T) {
	x, y, _, _ := twoStacks(t, testRAM, true)
	srv, cli, _ := connected(t, x, y, in4(10, 0, 0, 1, 0))
	exchange(t, srv, cli, 2)
	if known(x) != 1 || known(y) != 1 {
		t.Fatalf("known: %d and %d", known(x), known(y))
	}
	if err := x.addAddress(2, tcpip.AddrFrom4([4]byte{10, 0, 0, 7}), 24); err != nil {
		t.Fatal(err)
	}
	if known(x) != 0 {
		t.Error("still known after an address was added")
	}
	exchange(t, srv, cli, 1)
	cli.Release(nil)
	read(t, srv, 1)
	srv.Release(nil)
	for deadline := time.Now().Add(10 * time.Second); known(x)+known(y) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("known long after the end")
		}
	}
}

func TestARawSocketSeesTheSegmentsOfAKnownConnection(t *testing.T) {
	x, y, _, _ := twoStacks(t, testRAM, true)
	srv, cli, _ := connected(t, x, y, in4(10, 0, 0, 1, 0))
	exchange(t, srv, cli, 3)
	r := sock(t, x, unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP)
	if err := write(t, cli, []byte("seen by both")); err != nil {
		t.Fatal(err)
	}
	readFull(t, srv, 12)
	if b, err := read(t, r, 200); err != nil || len(b) < 52 || string(b[len(b)-12:]) != "seen by both" {
		t.Errorf("%q, %v", b, err)
	}
	r.Release(nil)
	if n := x.flows.raw.Load(); n != 0 {
		t.Errorf("%d raw sockets after the last was closed", n)
	}
}

// A frame for another card's address is not taken by the connection's card, and one
// that came through another card is not the connection's.
func TestTheShortWayIsOneCardsOwn(t *testing.T) {
	x, y, dx, dy := twoStacks(t, testRAM, true)
	srv, cli, _ := connected(t, x, y, in4(10, 0, 0, 1, 0))
	exchange(t, srv, cli, 2)
	var frame []byte
	dy.mu.Lock()
	dy.lose = func(f []byte) bool { frame = append([]byte(nil), f...); return false }
	dy.mu.Unlock()
	exchange(t, srv, cli, 1)
	dy.mu.Lock()
	defer dy.mu.Unlock()
	if x.flows.find(x.card(2), frame) == nil {
		t.Fatal("its own card does not know it")
	}
	if x.flows.find(&ethernet{}, frame) != nil {
		t.Error("another card knows it")
	}
	before := x.ipStats.PacketsReceived.Value()
	frame[0] ^= 4
	dx.recv(&vnet.Packet{Slices: [][]byte{frame}, CsumValid: true})
	if x.ipStats.PacketsReceived.Value() != before {
		t.Error("a frame to another station was taken")
	}
}

// A card that changes a frame after it was looked at gets nothing but that frame dropped.
func TestASegmentThatItsCardChangesIsLookedAtAgain(t *testing.T) {
	s := newStack(t, testRAM)
	f := frame([6]byte{}, 1, 2, header.TCPFlagAck, []byte("data"))
	n := plainSegment(f, true)
	if n != len(f) {
		t.Fatalf("a plain segment of %d bytes has %d", len(f), n)
	}
	for offset, good := range map[byte]bool{0: false, 4: false, 5: true, 6: true, 7: false, 15: false} {
		f[tcpAt+12] = offset << 4
		pkt := segmentOf(f[:n], s.rx.admit(n))
		if (pkt != nil) != good {
			t.Errorf("with a header of %d words it is %v", offset, pkt)
		}
		if pkt != nil {
			pkt.DecRef()
		}
	}
	if held := s.rx.held.Load(); held != 0 {
		t.Errorf("%d bytes are held", held)
	}
}
