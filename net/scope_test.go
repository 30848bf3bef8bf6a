package net

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"kiln/kernel/mm"
)

// in6 is a struct sockaddr_in6.
func in6(t *testing.T, a string, port, scope int) []byte {
	t.Helper()
	b := make([]byte, sizeIn6)
	b[0] = unix.AF_INET6
	binary.BigEndian.PutUint16(b[2:], uint16(port))
	copy(b[8:], bytes6(t, a))
	binary.LittleEndian.PutUint32(b[24:], uint32(scope))
	return b
}

// twoCards is a stack with eth0 and eth1, 10.0.0.1/24 and 10.0.1.1/24, fe80::1 on both, and
// what they send.
func twoCards(t *testing.T) (s *Stack, out map[string]chan []byte) {
	s = newStack(t, testRAM)
	out = map[string]chan []byte{}
	for n, name := range []string{"eth0", "eth1"} {
		a, b := newPipe(false)
		a.mac[5] += byte(2 * n)
		frames := make(chan []byte, 100)
		out[name] = frames
		if err := s.AddDevice(name, a); err != nil {
			t.Fatal(err)
		}
		a.pump()
		b.recv = nil
		a.lose = func(f []byte) bool {
			if bytes.Contains(f, []byte("which")) {
				frames <- append([]byte(nil), f...)
			}
			return true
		}
		i := s.byName(name)
		if e := s.putAddr(i, tcpip.AddressWithPrefix{Address: addr6(t, "fe80::1"), PrefixLen: 64}, true); e != 0 {
			t.Fatal(e)
		}
		if e := s.putAddr(i, tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4([4]byte{10, 0, byte(n), 1}), PrefixLen: 24}, true); e != 0 {
			t.Fatal(e)
		}
		for _, a := range []tcpip.Address{addr6(t, "fe80::7"), tcpip.AddrFrom4([4]byte{10, 0, byte(n), 7})} {
			if err := s.ns.AddStaticNeighbor(i.id, protoOf(a), a, "\x02\x00\x00\x00\x00\x07"); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s, out
}

// Which card a datagram leaves by is what the scope, the message, the socket's options say, in
// this order; what goes to many hosts by IPv6 needs no route.
func TestWhichCardADatagramLeavesBy(t *testing.T) {
	s, out := twoCards(t)
	word := func(v uint32) []byte { return le32(v) }
	be := func(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
	info6 := func(a string, n uint32) Cmsg {
		return Cmsg{unix.SOL_IPV6, unix.IPV6_PKTINFO, append(bytes6(t, a), le32(n)...)}
	}
	info4 := Cmsg{unix.SOL_IP, unix.IP_PKTINFO, append(le32(3), make([]byte, 8)...)}
	type option struct {
		level, name int
		v           []byte
	}
	for _, c := range []struct {
		what    string
		family  int
		opt     option
		connect []byte
		to      []byte
		msg     []Cmsg
		card    string
		err     error
	}{
		{"the scope", unix.AF_INET6, option{}, nil, in6(t, "ff02::fb", 9, 3), nil, "eth1", nil},
		{"the scope, of the interface", unix.AF_INET6, option{}, nil, in6(t, "ff01::fb", 9, 3), nil, "eth1", nil},
		{"the first", unix.AF_INET6, option{}, nil, in6(t, "ff02::fb", 9, 0), nil, "eth0", nil},
		{"of the site, which has no scope", unix.AF_INET6, option{}, nil, in6(t, "ff05::fb", 9, 3), nil, "eth0", nil},
		{"IPV6_MULTICAST_IF", unix.AF_INET6, option{unix.SOL_IPV6, unix.IPV6_MULTICAST_IF, word(3)}, nil, in6(t, "ff02::fb", 9, 0), nil, "eth1", nil},
		{"IPV6_MULTICAST_IF when it connects", unix.AF_INET6, option{unix.SOL_IPV6, unix.IPV6_MULTICAST_IF, word(3)}, in6(t, "ff02::fb", 9, 0), nil, nil, "eth1", nil},
		{"the scope when it connects", unix.AF_INET6, option{}, in6(t, "ff02::fb", 9, 3), nil, nil, "eth1", nil},
		{"no scope when it connects", unix.AF_INET6, option{}, in6(t, "ff02::fb", 9, 0), nil, nil, "", unix.EINVAL},
		{"the device when it connects", unix.AF_INET6, option{unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, word(3)}, in6(t, "ff02::fb", 9, 0), nil, nil, "eth1", nil},
		{"the device when it connects by IPv4", unix.AF_INET, option{unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, word(3)}, in4(224, 0, 0, 251, 9), nil, nil, "eth1", nil},
		{"IPV6_PKTINFO", unix.AF_INET6, option{}, nil, in6(t, "ff02::fb", 9, 0), []Cmsg{info6("::", 3)}, "eth1", nil},
		{"IPV6_PKTINFO, to one", unix.AF_INET6, option{}, nil, in6(t, "fe80::7", 9, 0), []Cmsg{info6("::", 3)}, "eth1", nil},
		{"IPV6_PKTINFO, not ours", unix.AF_INET6, option{}, nil, in6(t, "ff02::fb", 9, 0), []Cmsg{info6("2001:db8::99", 3)}, "", unix.EINVAL},
		{"IPV6_PKTINFO, another device", unix.AF_INET6, option{unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, word(2)}, nil, in6(t, "ff02::fb", 9, 0), []Cmsg{info6("::", 3)}, "", unix.EINVAL},
		{"IPV6_UNICAST_IF", unix.AF_INET6, option{unix.SOL_IPV6, ipv6UnicastIf, be(3)}, nil, in6(t, "fe80::7", 9, 0), nil, "eth1", nil},
		{"IP_PKTINFO", unix.AF_INET, option{unix.SOL_SOCKET, unix.SO_BROADCAST, word(1)}, nil, in4(255, 255, 255, 255, 9), []Cmsg{info4}, "eth1", nil},
		{"IP_PKTINFO, from an address of the other", unix.AF_INET, option{unix.SOL_IP, unix.IP_MULTICAST_IF, []byte{10, 0, 0, 1}}, in4(224, 0, 0, 251, 9), nil, []Cmsg{info4}, "eth0", nil},
		{"IP_UNICAST_IF", unix.AF_INET, option{unix.SOL_IP, unix.IP_UNICAST_IF, be(3)}, nil, in4(10, 0, 1, 7, 9), nil, "eth1", nil},
	} {
		t.Run(c.what, func(t *testing.T) {
			x := sock(t, s, c.family, unix.SOCK_DGRAM, 0)
			defer x.Release(nil)
			if c.opt.v != nil {
				if err := x.SetOption(me, c.opt.level, c.opt.name, c.opt.v); err != nil {
					t.Fatal(err)
				}
			}
			var err error
			if c.connect != nil {
				err = x.Connect(me, c.connect)
			}
			if err == nil {
				q := mm.KernelIO([]byte("which"))
				_, err = x.Send(me, &q, &SendMsg{Name: c.to, Control: Control{Msgs: c.msg}})
			}
			if err != c.err {
				t.Fatalf("%v, want %v", err, c.err)
			}
			other := map[string]string{"eth0": "eth1", "eth1": "eth0"}[c.card]
			if c.card != "" {
				<-out[c.card]
				if n := len(out[other]); n != 0 {
					t.Errorf("%d frames by %s", n, other)
				}
			}
		})
	}
	// Groups without an interface are joined at the first.
	x := sock(t, s, unix.AF_INET6, unix.SOCK_DGRAM, 0)
	if err := x.SetOption(me, unix.SOL_IPV6, unix.IPV6_ADD_MEMBERSHIP, append(bytes6(t, "ff02::fb"), le32(0)...)); err != nil {
		t.Error(err)
	}
	if _, ok := x.(*inetSocket).groups.m[group{2, addr6(t, "ff02::fb")}]; !ok {
		t.Error("joined elsewhere")
	}
}

// An address of one link binds a socket to that link, and the socket knows it.
func TestALinksAddressBindsToTheLink(t *testing.T) {
	s, _ := twoCards(t)
	device := func(x Socket) int {
		b, err := x.GetOption(me, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, 4)
		if err != nil {
			t.Fatal(err)
		}
		return int(binary.LittleEndian.Uint32(b))
	}
	for _, typ := range []int{unix.SOCK_DGRAM, unix.SOCK_STREAM} {
		x := sock(t, s, unix.AF_INET6, typ, 0)
		if err := x.Bind(me, in6(t, "fe80::1", 0, 0)); err != unix.EINVAL {
			t.Error("without a link:", err)
		}
		if err := x.Bind(me, in6(t, "fe80::2", 0, 3)); err != unix.EADDRNOTAVAIL || device(x) != 0 {
			t.Error("another's address:", err, device(x))
		}
		if err := x.Bind(me, in6(t, "fe80::1", 0, 3)); err != nil || device(x) != 3 {
			t.Error("with one:", err, device(x))
		}
		if err := x.Connect(me, in6(t, "fe80::7", 9, 2)); err != unix.EINVAL {
			t.Error("to another link:", err)
		}
		if err := x.Connect(me, in6(t, "fe80::7", 9, 0)); err != nil && err != unix.EINPROGRESS {
			t.Error("to the same:", err)
		}
		x.Release(nil)
		x = sock(t, s, unix.AF_INET6, typ, 0)
		if err := x.SetOption(me, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, le32(3)); err != nil {
			t.Fatal(err)
		}
		if err := x.Bind(me, in6(t, "fe80::1", 0, 0)); err != nil {
			t.Error("by the device:", err)
		}
		x.Release(nil)
	}
	// Where connect chose the link, disconnect forgets it, and the port is free again.
	x := sock(t, s, unix.AF_INET6, unix.SOCK_DGRAM, 0)
	if err := x.Connect(me, in6(t, "fe80::7", 9, 3)); err != nil || device(x) != 3 {
		t.Error("connect:", err, device(x))
	}
	port := portOf(t, x)
	if err := x.Connect(me, []byte{unix.AF_UNSPEC, 0}); err != nil || device(x) != 0 {
		t.Error("disconnect:", err, device(x))
	}
	y := sock(t, s, unix.AF_INET6, unix.SOCK_DGRAM, 0)
	if err := y.Bind(me, in6(t, "::", port, 0)); err != nil {
		t.Error("the port:", err)
	}
	x.Release(nil)
	y.Release(nil)
}

func addr6(t *testing.T, a string) tcpip.Address {
	t.Helper()
	p, err := netip.ParseAddr(a)
	if err != nil {
		t.Fatal(err)
	}
	return tcpip.AddrFrom16(p.As16())
}

func bytes6(t *testing.T, a string) []byte {
	b := addr6(t, a).As16()
	return b[:]
}

// A UDP socket that is connected by IPv6 sends to an IPv4 address from its port.
func TestConnectedByIPv6SendsByIPv4(t *testing.T) {
	s := newStack(t, testRAM)
	six, four, x := sock(t, s, unix.AF_INET6, unix.SOCK_DGRAM, 0), sock(t, s, unix.AF_INET, unix.SOCK_DGRAM, 0), sock(t, s, unix.AF_INET6, unix.SOCK_DGRAM, 0)
	for _, err := range []error{six.Bind(me, in6(t, "::1", 0, 0)), four.Bind(me, in4(127, 0, 0, 1, 0)), x.Connect(me, in6(t, "::1", portOf(t, six), 0))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range [][]byte{in4(127, 0, 0, 1, portOf(t, four)), in6(t, "::ffff:127.0.0.1", portOf(t, four), 0)} {
		q := mm.KernelIO([]byte("datagram"))
		if n, err := x.Send(me, &q, &SendMsg{Name: name}); n != 8 || err != nil {
			t.Fatalf("sendto %v: %d, %v", name, n, err)
		}
		buf, m := make([]byte, 100), RecvMsg{}
		if err := await(t, four, func() error {
			d := mm.KernelIO(buf)
			_, err := four.Recv(me, &d, &m)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if want := in4(127, 0, 0, 1, portOf(t, x)); m.Full != 8 || string(buf[:8]) != "datagram" || !bytes.Equal(m.Name[:8], want[:8]) {
			t.Errorf("%d bytes, %q from %v, not %v", m.Full, buf[:8], m.Name[:8], want[:8])
		}
	}
	q := mm.KernelIO([]byte("x"))
	if _, err := x.Send(me, &q, &SendMsg{Name: in4(127, 255, 255, 255, 9)}); err != unix.EACCES {
		t.Errorf("to all without SO_BROADCAST: %v", err)
	}
}
