package net

import (
	"encoding/binary"
	"fmt"
	stdnet "net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"kiln/kernel/mm"
)

// listener is a socket that hears what happens to links, addresses and routes.
func listener(t *testing.T, s *Stack) Socket {
	x := sock(t, s, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	for _, g := range []int{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE} {
		if err := x.SetOption(me, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, le32(uint32(g))); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

// heard is the next message, as "type address" or "type address by gateway", but for the links'
// own addresses, which come when they have been probed for.
func heard(t *testing.T, x Socket) string {
	t.Helper()
	for {
		if m := message(t, x); !strings.Contains(m, "address fe80:") {
			return m
		}
	}
}

func message(t *testing.T, x Socket) string {
	t.Helper()
	b := make([]byte, 4096)
	var n int
	if err := await(t, x, func() (err error) {
		q := mm.KernelIO(b)
		n, err = x.Recv(me, &q, &RecvMsg{})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	b = b[:n]
	typ, body := binary.LittleEndian.Uint16(b[4:]), b[unix.SizeofNlMsghdr:]
	show := func(v []byte) string { return tcpip.AddrFromSlice(v).String() }
	switch typ {
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		what := map[uint16]string{unix.RTM_NEWADDR: "address", unix.RTM_DELADDR: "no address"}[typ]
		return fmt.Sprintf("%s %s/%d", what, show(attributes(body[unix.SizeofIfAddrmsg:])[unix.IFA_ADDRESS]), body[1])
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		what := map[uint16]string{unix.RTM_NEWROUTE: "route", unix.RTM_DELROUTE: "no route"}[typ]
		a := attributes(body[unix.SizeofRtMsg:])
		if d, ok := a[unix.RTA_DST]; ok {
			what += " " + show(d)
		}
		what += fmt.Sprintf("/%d", body[1])
		if g, ok := a[unix.RTA_GATEWAY]; ok {
			what += " by " + show(g)
		}
		return what
	case unix.RTM_NEWLINK:
		return fmt.Sprintf("link %s running %v", cstring(attributes(body[unix.SizeofIfInfomsg:])[unix.IFLA_IFNAME]),
			binary.LittleEndian.Uint32(body[8:])&unix.IFF_RUNNING != 0)
	}
	return fmt.Sprint("message ", typ)
}

func hears(t *testing.T, x Socket, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := heard(t, x); got != w {
			t.Errorf("heard %q, want %q", got, w)
		}
	}
}

// Netlink's groups hear of what routers advertise, and of the addresses made of it.
func TestGroupsHearOfRouters(t *testing.T) {
	s, _ := twoCards(t)
	n, x := &ndp{s: s}, listener(t, s)
	net := tcpip.AddressWithPrefix{Address: addr6(t, "2001:db8::"), PrefixLen: 64}.Subnet()
	n.OnOffLinkRouteUpdated(3, header.IPv6EmptySubnet, addr6(t, "fe80::9"), 0)
	hears(t, x, "route/0 by fe80::9")
	n.OnOnLinkPrefixDiscovered(3, net)
	hears(t, x, "route 2001:db8::/64")
	d := n.OnAutoGenAddress(3, tcpip.AddressWithPrefix{Address: addr6(t, "2001:db8::5"), PrefixLen: 64})
	d.OnChanged(stack.AddressLifetimes{}, stack.AddressTentative)
	d.OnChanged(stack.AddressLifetimes{}, stack.AddressAssigned)
	hears(t, x, "address 2001:db8::5/64")
	d.OnRemoved(stack.AddressRemovalInvalidated)
	hears(t, x, "no address 2001:db8::5/64")
	n.OnOnLinkPrefixInvalidated(3, net)
	hears(t, x, "no route 2001:db8::/64")
	n.OnOffLinkRouteInvalidated(3, header.IPv6EmptySubnet, addr6(t, "fe80::9"))
	hears(t, x, "no route/0 by fe80::9")
	n.OnRecursiveDNSServerOption(3, []tcpip.Address{addr6(t, "fe80::53"), addr6(t, "2001:db8::53")}, time.Hour)
	n.OnRecursiveDNSServerOption(3, []tcpip.Address{addr6(t, "fe80::54")}, 0)
	idle(n)
	if got := s.ResolvConf(); got != "nameserver fe80::53%eth1\nnameserver 2001:db8::53\n" {
		t.Errorf("resolv.conf is %q", got)
	}
}

// idle waits until n has nothing to do.
func idle(n *ndp) {
	for {
		n.mu.Lock()
		working := n.working
		n.mu.Unlock()
		if !working {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// What a router said last is so: it may take a route back and give it again in one breath, and
// no more routes are kept than there is room for.
func TestWhatARouterSaidLastIsSo(t *testing.T) {
	s, _ := twoCards(t)
	n := &ndp{s: s}
	router := addr6(t, "fe80::9")
	has := func() bool {
		idle(n)
		return slices.ContainsFunc(s.ns.GetRouteTable(), func(r tcpip.Route) bool { return r.Gateway == router })
	}
	for range 200 {
		n.OnOffLinkRouteUpdated(2, header.IPv6EmptySubnet, router, 0)
		n.OnOffLinkRouteInvalidated(2, header.IPv6EmptySubnet, router)
		n.OnOffLinkRouteUpdated(2, header.IPv6EmptySubnet, router, 0)
		if !has() {
			t.Fatal("the route went")
		}
		n.OnOffLinkRouteInvalidated(2, header.IPv6EmptySubnet, router)
		n.OnOffLinkRouteUpdated(2, header.IPv6EmptySubnet, router, 0)
		n.OnOffLinkRouteInvalidated(2, header.IPv6EmptySubnet, router)
		if has() {
			t.Fatal("the route stays")
		}
	}
	// A route that was there before is nobody's to take away.
	n.OnOnLinkPrefixDiscovered(2, tcpip.AddressWithPrefix{Address: router, PrefixLen: 64}.Subnet())
	n.OnOnLinkPrefixInvalidated(2, tcpip.AddressWithPrefix{Address: router, PrefixLen: 64}.Subnet())
	idle(n)
	if !s.onLink(2, router) {
		t.Error("the address's own route went")
	}
	before := len(s.ns.GetRouteTable())
	for i := range 3 * maxAdvertised {
		a := addr6(t, "2001:db8::").As16()
		a[5] = byte(i)
		n.OnOnLinkPrefixDiscovered(2, tcpip.AddressWithPrefix{Address: tcpip.AddrFrom16(a), PrefixLen: 64}.Subnet())
	}
	idle(n)
	if got := len(s.ns.GetRouteTable()) - before; got != maxAdvertised {
		t.Errorf("%d routes", got)
	}
}

// Netlink's groups hear of what a DHCP server gives, and of what its end takes away.
func TestGroupsHearOfLeases(t *testing.T) {
	s := newStack(t, testRAM)
	a, _ := newPipe(false)
	if err := s.AddDevice("eth0", a); err != nil {
		t.Fatal(err)
	}
	lease := func(last byte) *dhcpv4.DHCPv4 {
		p, err := dhcpv4.New(dhcpv4.WithYourIP(stdnet.IPv4(10, 0, 2, last)), dhcpv4.WithRouter(stdnet.IPv4(10, 0, 2, 2)),
			dhcpv4.WithNetmask(stdnet.IPv4Mask(255, 255, 255, 0)), dhcpv4.WithLeaseTime(86400))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	c, x := newDHCP(s, s.first()), listener(t, s)
	c.bind(lease(15))
	hears(t, x, "address 10.0.2.15/24", "route 10.0.2.0/24", "route/0 by 10.0.2.2")
	c.bind(lease(16))
	hears(t, x, "no route 10.0.2.0/24", "no address 10.0.2.15/24", "address 10.0.2.16/24", "no route/0 by 10.0.2.2",
		"route 10.0.2.0/24", "route/0 by 10.0.2.2")
	c.unbind()
	hears(t, x, "no route 10.0.2.0/24", "no address 10.0.2.16/24", "no route/0 by 10.0.2.2")
	if n := len(s.routes); n != 0 {
		t.Errorf("%d routes are remembered", n)
	}
}

// cable is a card that says when its cable goes.
type cable struct {
	*pipeDev
	out  bool
	told func(up bool)
}

func (c *cable) LinkUp() bool           { return !c.out }
func (c *cable) OnLink(f func(up bool)) { c.told = f }

// Netlink's group of links hears when a cable is pulled.
func TestGroupsHearOfCables(t *testing.T) {
	s := newStack(t, testRAM)
	a, _ := newPipe(false)
	c := &cable{pipeDev: a}
	if err := s.AddDevice("eth0", c); err != nil {
		t.Fatal(err)
	}
	x := listener(t, s)
	c.out = true
	c.told(false)
	hears(t, x, "link eth0 running false")
	c.out = false
	c.told(true)
	hears(t, x, "link eth0 running true")
}

// The MTU on the way to an address is the one of the interface that leads there.
func TestPathMTUIsOfTheInterface(t *testing.T) {
	s, _ := twoCards(t)
	if e := s.setMTU(s.byName("eth1"), 1280); e != 0 {
		t.Fatal(e)
	}
	for _, c := range []struct {
		to   tcpip.FullAddress
		want int
	}{
		{tcpip.FullAddress{Addr: tcpip.AddrFrom4([4]byte{10, 0, 0, 7})}, 1500},
		{tcpip.FullAddress{Addr: tcpip.AddrFrom4([4]byte{10, 0, 1, 7})}, 1280},
		{tcpip.FullAddress{Addr: tcpip.AddrFrom4([4]byte{10, 0, 1, 1})}, 65535},
		{tcpip.FullAddress{Addr: addr6(t, "::ffff:10.0.1.7")}, 1280},
		{tcpip.FullAddress{Addr: addr6(t, "fe80::7"), NIC: 3}, 1280},
		{tcpip.FullAddress{Addr: addr6(t, "fe80::7"), NIC: 2}, 1500},
	} {
		if got := s.mtuTo(c.to); got != c.want {
			t.Errorf("to %v: %d, want %d", c.to, got, c.want)
		}
	}
}
