package net

import (
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	vnet "kiln/drivers/virtio/net"
)

// Whatever arrives from the network is dropped or served: the bytes after the machine's
// own address, as one frame or two pieces.
func FuzzFrame(f *testing.F) {
	s, _, _, dy := twoStacks(f, testRAM, false)
	listen(f, s, in4(0, 0, 0, 0, 80), 16)
	u := sock(f, s, unix.AF_INET, unix.SOCK_DGRAM, 0)
	u.Bind(me, in4(0, 0, 0, 0, 53))
	mac := dy.peer.mac
	for _, seed := range [][]byte{frame(mac, 1, 80, header.TCPFlagSyn, nil), frame(mac, 1, 80, header.TCPFlagAck, pattern(99)), frame(mac, 2, 53, 0, pattern(40)),
		append(make([]byte, 12), 8, 6, 0, 1, 8, 0, 6, 4, 0, 1), append(make([]byte, 12), 0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 58, 255)} {
		f.Add(seed[6:], uint16(len(seed)/2), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint16, valid bool) {
		whole := append(append([]byte(nil), mac[:]...), b...)
		if len(whole) > 65535 {
			return
		}
		p := vnet.Packet{CsumValid: valid, Slices: [][]byte{whole}}
		if n := int(cut); n >= ethLen && n < len(whole) {
			p.Slices = [][]byte{whole[:n], whole[n:]}
		}
		dy.peer.recv(&p)
		if s.cfg.Budget.Used() > s.cfg.Budget.Limit() {
			t.Errorf("%d bytes of %d", s.cfg.Budget.Used(), s.cfg.Budget.Limit())
		}
	})
}

// An answer to DHCP of any bytes is taken or not.
func FuzzDHCP(f *testing.F) {
	s, _, _, dy := twoStacks(f, testRAM, false)
	c := newDHCP(s, s.first())
	b := frame(dy.peer.mac, 67, 68, 0, pattern(300))
	b[ethLen+9] = 17
	f.Add(b[6:])
	f.Fuzz(func(t *testing.T, b []byte) {
		c.tap(append(append([]byte(nil), dy.peer.mac[:]...), b...))
		if len(b) >= 8 {
			c.parse(b)
		}
		select {
		case <-c.frames:
		default:
		}
	})
}

// An ICMP error of any bytes is about a datagram or not.
func FuzzICMPError(f *testing.F) {
	four := append([]byte{0x45, 0, 0, 60, 0, 1, 0, 0, 64, 1, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1, 3, 3, 0, 0, 0, 0, 0, 0,
		0x45, 0, 0, 32, 0, 1, 0, 0, 1, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2}, pattern(12)...)
	six := append(append([]byte{2, 0, 0, 0, 0, 0, 5, 0, 0x60, 0, 0, 0, 0, 12, 17, 1}, make([]byte, 32)...), pattern(12)...)
	f.Add(four, false)
	f.Add(six, true)
	f.Fuzz(func(t *testing.T, b []byte, isSix bool) {
		e, q, ok := parseICMP(b, isSix)
		if ok && (e.errno == 0 || len(q.data) < 8 || len(q.packet) > len(b)) {
			t.Errorf("%+v %+v", e, q)
		}
	})
}
