package net

import (
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"kiln/kernel/mm"
)

// What waits in raw, ping and UDP-Lite sockets is bounded and counted, empty packets too, and
// off the count when it is read, dropped by the stack, or its socket closed.
func TestUnreadPacketsOfEveryKindOfDatagramSocketAreBounded(t *testing.T) {
	lo6 := encodeAddr(unix.AF_INET6, tcpip.FullAddress{Addr: tcpip.AddrFrom16([16]byte{15: 1})})
	echo4, echo6 := []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}, []byte{128, 0, 0, 0, 0, 0, 0, 0}
	for _, c := range []struct {
		name             string
		family, typ, pro int
		out              [2]int // of the sending socket
		msg              []byte
		bind, to         []byte
	}{
		{"empty IPv6 to a raw UDP socket", unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_UDP,
			[2]int{unix.SOCK_RAW, unix.IPPROTO_UDP}, nil, nil, lo6},
		{"raw ICMP", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP,
			[2]int{unix.SOCK_RAW, unix.IPPROTO_ICMP}, echo4, nil, in4(127, 0, 0, 1, 0)},
		{"raw ICMPv6", unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6,
			[2]int{unix.SOCK_RAW, unix.IPPROTO_ICMPV6}, echo6, nil, lo6},
		{"ping", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP, [2]int{}, echo4, nil, in4(127, 0, 0, 1, 0)},
		{"ping of IPv6", unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_ICMPV6, [2]int{}, echo6, nil, lo6},
		{"UDP-Lite", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE,
			[2]int{unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE}, []byte("x"), in4(127, 0, 0, 1, 900), in4(127, 0, 0, 1, 900)},
		{"UDP", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP, [2]int{}, nil, in4(127, 0, 0, 1, 900), in4(127, 0, 0, 1, 900)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStack(t, 64<<20)
			s.SetPingGroups(0, 1<<30)
			m := &s.rcv
			r := sock(t, s, c.family, c.typ, c.pro)
			if c.bind != nil {
				if err := r.Bind(me, c.bind); err != nil {
					t.Fatal(err)
				}
			}
			w := r
			if c.out[0] != 0 && c.bind != nil {
				w = sock(t, s, c.family, c.out[0], c.out[1])
			}
			send := func() {
				q := mm.KernelIO(append([]byte(nil), c.msg...))
				if _, err := w.Send(me, &q, &SendMsg{Name: c.to}); err != nil {
					t.Fatal(err)
				}
			}
			drain := func(flags int) (n int) {
				for {
					q := mm.KernelIO(make([]byte, 100))
					if _, err := r.Recv(me, &q, &RecvMsg{Flags: flags, Nonblock: true}); err != nil {
						if err != unix.EAGAIN {
							t.Fatal(err)
						}
						return n
					}
					n++
				}
			}
			for range 3000 {
				send()
			}
			room := r.(*inetSocket).ep().SocketOptions().GetReceiveBufferSize()
			if held := m.dgram.Load(); held < room/2 || held > room+2*truesize {
				t.Errorf("%d bytes are counted of a receive buffer of %d", held, room)
			}
			if n := drain(0); n == 0 || int64(n)*truesize > room+truesize {
				t.Errorf("%d packets were queued", n)
			}
			if held := m.dgram.Load(); held != 0 {
				t.Errorf("%d bytes are counted when all is read", held)
			}
			send()
			q := mm.KernelIO(make([]byte, 100))
			if _, err := r.Recv(me, &q, &RecvMsg{Flags: unix.MSG_PEEK, Nonblock: true}); err != nil || m.dgram.Load() == 0 {
				t.Errorf("%d bytes are counted after a peek: %v", m.dgram.Load(), err)
			}
			r.Release(nil)
			if held := m.dgram.Load(); held != 0 {
				t.Errorf("%d bytes are counted after the close", held)
			}
		})
	}
}

// A datagram that netstack receives and does not queue is not counted: a socket that is shut
// down, or bound to another address.
func TestWhatIsNotQueuedIsNotCounted(t *testing.T) {
	s := newStack(t, 64<<20)
	u := sock(t, s, unix.AF_INET, unix.SOCK_DGRAM, 0)
	addr := in4(127, 0, 0, 1, 900)
	if err := u.Bind(me, addr); err != nil {
		t.Fatal(err)
	}
	if err := u.Connect(me, addr); err != nil {
		t.Fatal(err)
	}
	if err := u.Shutdown(unix.SHUT_RD); err != nil {
		t.Fatal(err)
	}
	r := sock(t, s, unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP)
	if err := r.Bind(me, in4(127, 0, 0, 2, 0)); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		q := mm.KernelIO([]byte("x"))
		if _, err := u.Send(me, &q, &SendMsg{}); err != nil {
			t.Fatal(err)
		}
	}
	if held := s.rcv.dgram.Load(); held != 0 {
		t.Errorf("%d bytes are counted", held)
	}
}

// ICMP_FILTER keeps messages out of the queue, not just from the program.
func TestICMPFilterTakesNoRoom(t *testing.T) {
	s := newStack(t, 64<<20)
	r := sock(t, s, unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	if err := r.SetOption(me, unix.SOL_RAW, icmpFilterOption, []byte{1 << 0, 1, 0, 0}); err != nil { // echoes and replies
		t.Fatal(err)
	}
	q := mm.KernelIO([]byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0})
	if _, err := r.Send(me, &q, &SendMsg{Name: in4(127, 0, 0, 1, 0)}); err != nil {
		t.Fatal(err)
	}
	if held := s.rcv.dgram.Load(); held != 0 {
		t.Errorf("%d bytes are counted", held)
	}
}
