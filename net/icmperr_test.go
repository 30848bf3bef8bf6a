package net

import (
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/waiter"

	vnet "kiln/drivers/virtio/net"
	"kiln/kernel/mm"
)

// icmpFrame is an ICMP error from 10.0.0.9 to 10.0.0.1, about a UDP datagram of that one's port.
func icmpFrame(mac [6]byte, typ, code byte, port uint16, quoted int) []byte {
	f := make([]byte, ethLen+20+8+20+8+quoted)
	copy(f, mac[:])
	copy(f[6:], []byte{2, 0, 0, 0, 0, 9})
	f[12], f[13] = 8, 0
	here, there := tcpip.AddrFrom4([4]byte{10, 0, 0, 1}), tcpip.AddrFrom4([4]byte{10, 0, 0, 9})
	ip := header.IPv4(f[ethLen:])
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(f) - ethLen), TTL: 64, Protocol: unix.IPPROTO_ICMP, SrcAddr: there, DstAddr: here})
	ip.SetChecksum(^ip.CalculateChecksum())
	m := f[ethLen+20:]
	m[0], m[1] = typ, code
	inner := header.IPv4(m[8:])
	inner.Encode(&header.IPv4Fields{TotalLength: uint16(28 + quoted), TTL: 1, Protocol: unix.IPPROTO_UDP, SrcAddr: here, DstAddr: there})
	inner.SetChecksum(^inner.CalculateChecksum())
	binary.BigEndian.PutUint16(m[28:], port)
	binary.BigEndian.PutUint16(m[30:], 9)
	binary.BigEndian.PutUint16(m[2:], ^checksum.Checksum(m, 0))
	return f
}

// Errors that anybody may send fill neither memory nor the machine with goroutines, and the
// queue gives back what it was charged.
func TestFloodOfICMPErrorsIsBounded(t *testing.T) {
	s, _, _, dy := twoStacks(t, testRAM, false)
	u := sock(t, s, unix.AF_INET, unix.SOCK_DGRAM, 0).(*inetSocket)
	if err := u.Bind(me, in4(0, 0, 0, 0, 5353)); err != nil {
		t.Fatal(err)
	}
	if err := u.SetOption(me, unix.SOL_IP, unix.IP_RECVERR, le32(1)); err != nil {
		t.Fatal(err)
	}
	used, running := s.cfg.Budget.Used(), runtime.NumGoroutine()
	most := 0
	for i := range 5000 {
		quoted := 1000
		if i%2 == 0 {
			quoted = 10
		}
		dy.peer.recv(&vnet.Packet{CsumValid: true, Slices: [][]byte{icmpFrame(dy.peer.mac, 11, 0, 5353, quoted)}})
		most = max(most, runtime.NumGoroutine()-running)
	}
	if most > 50 {
		t.Errorf("%d goroutines more", most)
	}
	for end := time.Now().Add(10 * time.Second); u.errs.n.Load() == 0; time.Sleep(time.Millisecond) {
		if u.hearErrors(); time.Now().After(end) {
			t.Fatal("no error has come")
		}
	}
	u.errs.mu.Lock()
	n, bytes := len(u.errs.l), u.errs.bytes
	u.errs.mu.Unlock()
	if n > maxErrors || bytes > maxErrorBytes || s.cfg.Budget.Used() <= used {
		t.Errorf("%d errors with %d bytes, %d charged", n, bytes, s.cfg.Budget.Used()-used)
	}
	e, _, ok := u.nextError()
	if !ok || e.errno != unix.EHOSTUNREACH || e.offender.Addr != tcpip.AddrFrom4([4]byte{10, 0, 0, 9}) || e.dst.Port != 9 {
		t.Errorf("%+v", e)
	}
	u.Release(nil)
	dy.peer.recv(&vnet.Packet{CsumValid: true, Slices: [][]byte{icmpFrame(dy.peer.mac, 11, 0, 5353, 10)}})
	s.hearMu.Lock()
	if n := len(s.hearing); n != 0 {
		t.Errorf("%d sockets hear behind the end", n)
	}
	s.hearMu.Unlock()
	for end := time.Now().Add(10 * time.Second); s.cfg.Budget.Used() > used; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d bytes are charged behind the socket's end", s.cfg.Budget.Used()-used)
		}
	}
}

// That there is no way to an address comes before an error that waits, which is told later.
func TestNoRouteIsToldBeforeAnErrorThatWaits(t *testing.T) {
	for _, recverr := range []uint32{0, 1} {
		s := newStack(t, testRAM)
		u := sock(t, s, unix.AF_INET, unix.SOCK_DGRAM, 0)
		set(t, u, unix.SOL_IP, unix.IP_RECVERR, recverr)
		if err := u.Connect(me, in4(127, 0, 0, 1, 9)); err != nil {
			t.Fatal(err)
		}
		if err := write(t, u, []byte("x")); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(10 * time.Second); u.Readiness(waiter.EventErr)&waiter.EventErr == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("it is not refused")
			}
		}
		q := mm.KernelIO([]byte("x"))
		if _, err := u.Send(me, &q, &SendMsg{Name: in4(203, 0, 113, 1, 9)}); err != unix.ENETUNREACH {
			t.Errorf("recverr %d: a send without a way says %v", recverr, err)
		}
		if b, err := u.GetOption(me, unix.SOL_SOCKET, unix.SO_ERROR, 4); err != nil || b[0] != byte(unix.ECONNREFUSED) {
			t.Errorf("recverr %d: then SO_ERROR is %v, %v", recverr, b, err)
		}
	}
}
