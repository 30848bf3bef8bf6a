package net

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// litePacketOf is an IPv4 packet with a UDP-Lite datagram whose checksum covers some bytes.
func litePacketOf(payload []byte, coverage int) []byte {
	b := make([]byte, header.IPv4MinimumSize+liteHeader, header.IPv4MinimumSize+liteHeader+len(payload))
	b = append(b, payload...)
	from, to := tcpip.AddrFrom4([4]byte{10, 0, 0, 1}), tcpip.AddrFrom4([4]byte{10, 0, 0, 2})
	header.IPv4(b).Encode(&header.IPv4Fields{TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(liteNumber), SrcAddr: from, DstAddr: to})
	u := b[header.IPv4MinimumSize:]
	binary.BigEndian.PutUint16(u, 1000)
	binary.BigEndian.PutUint16(u[2:], 2000)
	binary.BigEndian.PutUint16(u[4:], uint16(coverage))
	n := coverage
	if n == 0 {
		n = len(u)
	}
	sum := checksum.Checksum(u[:n], header.PseudoHeaderChecksum(liteNumber, from, to, uint16(len(u))))
	binary.BigEndian.PutUint16(u[liteSum:], ^sum)
	return b
}

// A datagram's checksum covers what its header says, however it lies in views.
func TestUDPLiteChecksumCoversWhatTheHeaderSays(t *testing.T) {
	payload := make([]byte, 301)
	for i := range payload {
		payload[i] = byte(rand.Uint32())
	}
	whole := liteHeader + len(payload)
	for _, c := range []struct{ coverage, flip, size int }{
		{0, -1, 0}, {whole, -1, 0}, {whole, 300, 0}, {0, 7, 0}, {liteHeader, 0, 0}, {liteHeader, -1, 0}, {liteHeader + 101, 100, 0}, {liteHeader + 101, 101, 0},
		{whole + 1, -1, -1}, {7, -1, -1},
	} {
		for range 200 {
			coverage := c.coverage
			if c.size < 0 { // a length that cannot be, with a checksum that would be right
				coverage = whole
			}
			b := litePacketOf(payload, coverage)
			if c.size < 0 {
				binary.BigEndian.PutUint16(b[header.IPv4MinimumSize+4:], uint16(c.coverage))
			}
			want := c.size == 0
			if c.flip >= 0 {
				b[header.IPv4MinimumSize+liteHeader+c.flip] ^= 4
				want = c.coverage != 0 && liteHeader+c.flip >= c.coverage
			}
			w := headWriter{v4: true}
			for rest := b; len(rest) > 0; {
				n := 1 + rand.IntN(len(rest))
				w.Write(rest[:n])
				rest = rest[n:]
			}
			if got := w.valid(len(b)); got != want {
				t.Fatalf("%+v: valid is %v", c, got)
			}
			if h := w.b[w.at():]; want && binary.BigEndian.Uint16(h[2:]) != 2000 {
				t.Fatalf("the port is %d", binary.BigEndian.Uint16(h[2:]))
			}
		}
	}
}
