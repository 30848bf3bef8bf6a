package net

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"kiln/kernel/mm"
)

// A neighbour of whom nothing is known is shown as such, and so is one that stays.
func TestARPShowsWhatIsKnown(t *testing.T) {
	x, _, _, _ := twoStacks(t, testRAM, false)
	u := sock(t, x, unix.AF_INET, unix.SOCK_DGRAM, 0)
	q := mm.KernelIO([]byte("x"))
	if _, err := u.Send(me, &q, &SendMsg{Name: in4(10, 0, 0, 77, 9)}); err != nil {
		t.Fatal(err)
	}
	kept := tcpip.AddrFrom4([4]byte{10, 0, 0, 78})
	if err := x.ns.AddStaticNeighbor(x.first().id, header.IPv4ProtocolNumber, kept, "\x02\x00\x00\x00\x00\x78"); err != nil {
		t.Fatal(err)
	}
	b, _ := x.ProcFile("arp")
	for _, want := range []string{
		"10.0.0.77        0x1         0x0         00:00:00:00:00:00     *        eth0\n",
		"10.0.0.78        0x1         0x6         02:00:00:00:00:78     *        eth0\n",
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %q in\n%s", want, b)
		}
	}
}

// Permanent neighbours are bounded, by whatever way they are made, and groups hear of each.
func TestPermanentNeighboursAreBounded(t *testing.T) {
	s, _ := twoCards(t)
	i := s.byName("eth0")
	x := sock(t, s, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err := x.SetOption(me, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, le32(unix.RTNLGRP_NEIGH)); err != nil {
		t.Fatal(err)
	}
	if err := x.SetOption(me, unix.SOL_NETLINK, unix.NETLINK_NO_ENOBUFS, le32(1)); err != nil {
		t.Fatal(err)
	}
	keep := func(n int) unix.Errno {
		return s.keepNeighbour(i, tcpip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}), "\x02\x00\x00\x00\x00\x01")
	}
	n := 0
	for n <= maxNeighbours && keep(n) == 0 {
		n++
	}
	if n == 0 || n > maxNeighbours || keep(n) != unix.ENOBUFS {
		t.Errorf("%d neighbours", n)
	}
	if e := keep(0); e != 0 {
		t.Error("one that is there:", e)
	}
	if got := message(t, x); got != fmt.Sprint("message ", unix.RTM_NEWNEIGH) {
		t.Error("heard", got)
	}
	if e := s.dropNeighbour(i, tcpip.AddrFrom4([4]byte{10, 1, 0, 0})); e != 0 || keep(n) != 0 {
		t.Error("no room for one that went:", e)
	}
}

// IPv6's routes are in ipv6_route: those by a router, those to the link, and what is here.
func TestRoute6(t *testing.T) {
	x, _, _, _ := twoStacks(t, testRAM, false)
	i := x.first()
	a := tcpip.AddressWithPrefix{Address: tcpip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: 5}), PrefixLen: 64}
	if e := x.putAddr(i, a, true); e != 0 {
		t.Fatal(e)
	}
	x.insertRoute(tcpip.Route{Destination: header.IPv6EmptySubnet, Gateway: tcpip.AddrFrom16([16]byte{0xfe, 0x80, 15: 9}), NIC: i.id},
		routeInfo{protocol: unix.RTPROT_BOOT, metric: 1024, listed: true})
	b, _ := x.ProcFile("ipv6_route")
	zero := strings.Repeat("0", 32)
	for _, want := range []string{
		zero + " 00 " + zero + " 00 fe800000000000000000000000000009 00000400 00000001 00000000 00000003     eth0\n",
		"20010db8000000000000000000000000 40 " + zero + " 00 " + zero + " 00000100 00000001 00000000 00000001     eth0\n",
		"20010db8000000000000000000000005 80 " + zero + " 00 " + zero + " 00000000 00000001 00000000 80200001     eth0\n",
		"ff000000000000000000000000000000 08 " + zero + " 00 " + zero + " 00000100 00000001 00000000 00000001     eth0\n",
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %q in\n%s", want, b)
		}
	}
}
