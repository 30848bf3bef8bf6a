package net

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A datagram socket's port is free when the socket has been closed, whatever it was bound and
// connected to meanwhile.
func TestPortsAreFreeAfterwards(t *testing.T) {
	s, _ := twoCards(t)
	s.SetPingGroups(0, 1<<30)
	device := func(n uint32) func(x Socket) error {
		return func(x Socket) error { return x.SetOption(me, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, le32(n)) }
	}
	bind := func(b []byte) func(x Socket) error { return func(x Socket) error { return x.Bind(me, b) } }
	connect := func(b []byte) func(x Socket) error { return func(x Socket) error { return x.Connect(me, b) } }
	disconnect := connect([]byte{unix.AF_UNSPEC, 0})
	for _, c := range []struct {
		what        string
		family, pro int
		do          []func(x Socket) error
	}{
		{"the device after bind", unix.AF_INET, 0, []func(x Socket) error{bind(in4(0, 0, 0, 0, 0)), device(3), connect(in4(10, 0, 1, 7, 9))}},
		{"the device after connect", unix.AF_INET, 0, []func(x Socket) error{connect(in4(10, 0, 1, 7, 9)), device(3), connect(in4(10, 0, 1, 8, 9))}},
		{"the device, disconnected", unix.AF_INET, 0, []func(x Socket) error{bind(in4(0, 0, 0, 0, 0)), device(3), connect(in4(10, 0, 1, 7, 9)), disconnect}},
		{"the device after connect, disconnected", unix.AF_INET, 0, []func(x Socket) error{connect(in4(10, 0, 1, 7, 9)), device(3), disconnect, connect(in4(10, 0, 1, 7, 9))}},
		{"a scope after bind", unix.AF_INET6, 0, []func(x Socket) error{bind(in6(t, "::", 0, 0)), connect(in6(t, "fe80::7", 9, 3))}},
		{"ping's device", unix.AF_INET, unix.IPPROTO_ICMP, []func(x Socket) error{bind(in4(0, 0, 0, 0, 0)), device(3)}},
		{"a peer", unix.AF_INET, 0, []func(x Socket) error{bind(in4(0, 0, 0, 0, 0)), connect(in4(10, 0, 1, 7, 9))}},
		{"a mapped peer, disconnected", unix.AF_INET6, 0, []func(x Socket) error{bind(in6(t, "::", 0, 0)), connect(in6(t, "::ffff:10.0.1.7", 9, 0)), disconnect}},
		{"a mapped peer, not bound", unix.AF_INET6, 0, []func(x Socket) error{connect(in6(t, "::ffff:10.0.1.7", 9, 0))}},
		{"a mapped peer and the device", unix.AF_INET6, 0, []func(x Socket) error{bind(in6(t, "::", 0, 0)), device(3), connect(in6(t, "::ffff:10.0.1.7", 9, 0))}},
		{"a mapped peer", unix.AF_INET6, 0, []func(x Socket) error{bind(in6(t, "::", 0, 0)), connect(in6(t, "::ffff:10.0.1.7", 9, 0))}},
	} {
		t.Run(c.what, func(t *testing.T) {
			endpoints := len(s.ns.RegisteredEndpoints())
			x := sock(t, s, c.family, unix.SOCK_DGRAM, c.pro)
			port := 0
			for _, f := range c.do {
				if err := f(x); err != nil {
					t.Fatal(err)
				}
				if port == 0 {
					port = portOf(t, x)
				}
			}
			ports := map[int]bool{port: true, portOf(t, x): true}
			x.Release(nil)
			if n := len(s.ns.RegisteredEndpoints()); n != endpoints {
				t.Errorf("%d endpoints stay", n-endpoints)
			}
			for p := range ports {
				y := sock(t, s, unix.AF_INET6, unix.SOCK_DGRAM, 0)
				if err := y.Bind(me, in6(t, "::", p, 0)); p != 0 && c.pro == 0 && err != nil {
					t.Error(err)
				}
				y.Release(nil)
			}
		})
	}
}

// So is that of a TCP socket, after a connection and after the attempt at one.
func TestTCPsPortsAreFreeAfterwards(t *testing.T) {
	s := newStack(t, testRAM)
	l := listen(t, s, in6(t, "::", 0, 0), 8)
	lp := portOf(t, l)
	free := func(port int) (err error) {
		for range 500 { // a socket's end is a goroutine's business
			y := sock(t, s, unix.AF_INET6, unix.SOCK_STREAM, 0)
			err = y.Bind(me, in6(t, "::", port, 0))
			y.Release(nil)
			if err == nil {
				return nil
			}
			time.Sleep(10 * time.Millisecond)
		}
		return err
	}
	for _, c := range []struct {
		what   string
		family int
		reuse  int
		bind   []byte
		to     func(port int) []byte
	}{
		{"any", unix.AF_INET, 0, in4(0, 0, 0, 0, 0), func(p int) []byte { return in4(127, 0, 0, 1, p) }},
		{"any, and others may", unix.AF_INET, unix.SO_REUSEADDR, in4(0, 0, 0, 0, 0), func(p int) []byte { return in4(127, 0, 0, 1, p) }},
		{"any, and others do", unix.AF_INET, unix.SO_REUSEPORT, in4(0, 0, 0, 0, 0), func(p int) []byte { return in4(127, 0, 0, 1, p) }},
		{"one", unix.AF_INET, 0, in4(127, 0, 0, 1, 0), func(p int) []byte { return in4(127, 0, 0, 1, p) }},
		{"any of IPv6", unix.AF_INET6, 0, in6(t, "::", 0, 0), func(p int) []byte { return in6(t, "::1", p, 0) }},
		{"any, to IPv4", unix.AF_INET6, 0, in6(t, "::", 0, 0), func(p int) []byte { return in6(t, "::ffff:127.0.0.1", p, 0) }},
		{"any of IPv4, mapped", unix.AF_INET6, 0, in6(t, "::ffff:0.0.0.0", 0, 0), func(p int) []byte { return in6(t, "::ffff:127.0.0.1", p, 0) }},
	} {
		for _, refused := range []bool{false, true} {
			x := sock(t, s, c.family, unix.SOCK_STREAM, 0)
			if c.reuse != 0 {
				if err := x.SetOption(me, unix.SOL_SOCKET, c.reuse, le32(1)); err != nil {
					t.Fatal(err)
				}
			}
			x.SetOption(me, unix.SOL_SOCKET, unix.SO_LINGER, append(le32(1), le32(0)...))
			if err := x.Bind(me, c.bind); err != nil {
				t.Fatal(c.what, err)
			}
			port := portOf(t, x)
			to, want := c.to(lp), error(nil)
			if refused {
				to, want = c.to(9), unix.ECONNREFUSED
			}
			if err := x.Connect(me, to); err != unix.EINPROGRESS {
				t.Fatal(c.what, err)
			}
			if portOf(t, x) != port {
				t.Error(c.what, "connected from another port")
			}
			if err := await(t, x, x.ConnectResult); err != want {
				t.Fatal(c.what, err)
			}
			if !refused {
				accept(t, l).Release(nil)
			}
			x.Release(nil)
			if err := free(port); err != nil {
				t.Errorf("%s, refused %v: %v", c.what, refused, err)
			}
		}
	}
	// Where there is no way the socket is bound as before.
	x := sock(t, s, unix.AF_INET, unix.SOCK_STREAM, 0)
	if err := x.Bind(me, in4(0, 0, 0, 0, 0)); err != nil {
		t.Fatal(err)
	}
	port := portOf(t, x)
	if err := x.Connect(me, in4(192, 0, 2, 1, 9)); err != unix.ENETUNREACH {
		t.Fatal(err)
	}
	x.Release(nil)
	if err := free(port); err != nil {
		t.Error("without a way:", err)
	}
}

// Where a socket listens no other may be bound, whether it takes the same packets by an address or
// by all, by IPv4 or IPv6, though both say SO_REUSEADDR; with SO_REUSEPORT it may.
func TestNobodyIsBoundWhereSomebodyListens(t *testing.T) {
	s := newStack(t, testRAM)
	any4, lo4, any6, lo6, mapped := in4(0, 0, 0, 0, 0), in4(127, 0, 0, 1, 0), in6(t, "::", 0, 0), in6(t, "::1", 0, 0), in6(t, "::ffff:127.0.0.1", 0, 0)
	for _, c := range []struct {
		what         string
		first, other []byte
		only, port   uint32 // IPV6_V6ONLY of the other, SO_REUSEPORT
		want         error
	}{
		{"an address and any", lo4, any4, 0, 0, unix.EADDRINUSE},
		{"any and an address", any4, lo4, 0, 0, unix.EADDRINUSE},
		{"an address and both families", lo4, any6, 0, 0, unix.EADDRINUSE},
		{"both families and an address", any6, lo4, 0, 0, unix.EADDRINUSE},
		{"an address and IPv6", lo4, any6, 1, 0, nil},
		{"any and a mapped address", any4, mapped, 0, 0, unix.EADDRINUSE},
		{"addresses of two families", lo4, lo6, 0, 0, nil},
		{"an address and any of IPv6", lo6, any6, 1, 0, unix.EADDRINUSE},
		{"a shared port", lo4, any4, 0, 1, nil},
	} {
		x, y := sock(t, s, int(c.first[0]), unix.SOCK_STREAM, 0), sock(t, s, int(c.other[0]), unix.SOCK_STREAM, 0)
		for _, z := range []Socket{x, y} {
			set(t, z, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			set(t, z, unix.SOL_SOCKET, unix.SO_REUSEPORT, c.port)
		}
		if c.other[0] == unix.AF_INET6 {
			set(t, y, unix.SOL_IPV6, unix.IPV6_V6ONLY, c.only)
		}
		if err := x.Bind(me, c.first); err != nil {
			t.Fatal(c.what, err)
		}
		other := append([]byte(nil), c.other...)
		binary.BigEndian.PutUint16(other[2:], uint16(portOf(t, x)))
		if err := y.Bind(me, other); err != nil {
			t.Errorf("%s, before one listens: %v", c.what, err)
		}
		y.Release(nil)
		if err := x.Listen(me, 1); err != nil {
			t.Fatal(c.what, err)
		}
		y = sock(t, s, int(c.other[0]), unix.SOCK_STREAM, 0)
		set(t, y, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		set(t, y, unix.SOL_SOCKET, unix.SO_REUSEPORT, c.port)
		if c.other[0] == unix.AF_INET6 {
			set(t, y, unix.SOL_IPV6, unix.IPV6_V6ONLY, c.only)
		}
		if err := y.Bind(me, other); err != c.want {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
		x.Release(nil)
		y.Release(nil)
	}
}
