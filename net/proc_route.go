package net

import (
	"bytes"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// /proc/net/arp, route and ipv6_route.

// procRoute lists IPv4's table main (fib_route_seq_show).
func (s *Stack) procRoute(b *bytes.Buffer) {
	fmt.Fprintf(b, "%-127s\n", "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT")
	hex := func(a tcpip.Address) string {
		v := v4bytes(a)
		return fmt.Sprintf("%02X%02X%02X%02X", v[3], v[2], v[1], v[0])
	}
	for _, r := range s.ns.GetRouteTable() {
		i := s.infoOf(r)
		if r.Destination.ID().Len() != 4 || r.NIC == loopbackNIC && !i.listed { // those are in table local
			continue
		}
		flags := unix.RTF_UP
		if r.Gateway.Len() != 0 {
			flags |= unix.RTF_GATEWAY
		}
		if r.Destination.Prefix() == 32 {
			flags |= unix.RTF_HOST
		}
		m := r.Destination.Mask()
		line := fmt.Sprintf("%s\t%s\t%s\t%04X\t0\t0\t%d\t%s\t0\t0\t0", s.ifaceName(r.NIC), hex(r.Destination.ID()), hex(r.Gateway), flags,
			int32(i.metric), hex(tcpip.AddrFrom4Slice(m.AsSlice())))
		fmt.Fprintf(b, "%-127s\n", line)
	}
}

// procRoute6 lists IPv6's tables main and local (ipv6_route_native_seq_show).
func (s *Stack) procRoute6(b *bytes.Buffer) {
	const none = "00000000000000000000000000000000"
	line := func(dst tcpip.Address, bits int, gw tcpip.Address, metric, flags uint32, dev string) {
		to := none
		if gw.Len() != 0 {
			to = fmt.Sprintf("%x", gw.AsSlice())
		}
		fmt.Fprintf(b, "%x %02x %s 00 %s %08x %08x %08x %08x %8s\n", dst.AsSlice(), bits, none, to, metric, 1, 0, flags, dev)
	}
	any := tcpip.AddrFrom16([16]byte{})
	for _, r := range s.ns.GetRouteTable() {
		i := s.infoOf(r)
		if r.Destination.ID().Len() != 16 || r.NIC == loopbackNIC && !i.listed {
			continue
		}
		flags := uint32(unix.RTF_UP)
		if r.Gateway.Len() != 0 {
			flags |= unix.RTF_GATEWAY
		}
		if i.protocol == unix.RTPROT_RA {
			flags |= unix.RTF_ADDRCONF
			if r.Gateway.Len() != 0 {
				flags |= unix.RTF_DEFAULT
			}
		}
		line(r.Destination.ID(), r.Destination.Prefix(), r.Gateway, i.metric, flags, s.ifaceName(r.NIC))
	}
	line(any, 0, tcpip.Address{}, ^uint32(0), unix.RTF_REJECT|unix.RTF_NONEXTHOP, "lo")
	for _, i := range s.interfaces() {
		if i.down.Load() {
			continue
		}
		for _, pa := range s.addresses(i.id) {
			if a := pa.AddressWithPrefix.Address; a.Len() == 16 {
				line(a, 128, tcpip.Address{}, 0, unix.RTF_UP|unix.RTF_NONEXTHOP|unix.RTF_LOCAL, i.name)
			}
		}
		if s.hasMany6(i) {
			line(tcpip.AddrFrom16([16]byte{0xff}), 8, tcpip.Address{}, 256, unix.RTF_UP, i.name)
		}
	}
}

// procARP lists IPv4's neighbours (arp_format_neigh_entry); those of whom nothing is known have
// no flags and a link address of zeros.
func (s *Stack) procARP(b *bytes.Buffer) {
	b.WriteString("IP address       HW type     Flags       HW address            Mask     Device\n")
	for _, i := range s.interfaces() {
		if i.eth == nil {
			continue
		}
		for _, n := range s.neighbours(i, false) {
			mac := n.LinkAddr.String()
			if len(n.LinkAddr) == 0 {
				mac = strings.Repeat(":00", 6)[1:]
			}
			fmt.Fprintf(b, "%-16s 0x%-10x0x%-10x%-17s     *        %s\n", n.Addr, unix.ARPHRD_ETHER, arpFlags(n), mac, i.name)
		}
	}
}

// ATF_COM, ATF_PERM and ATF_PUBL (uapi/linux/if_arp.h).
const (
	arpComplete  = 2
	arpPermanent = 4
	arpPublic    = 8
)

// arpFlags is arp_state_to_flags.
func arpFlags(n stack.NeighborEntry) uint32 {
	switch nudState(n.State) {
	case unix.NUD_PERMANENT:
		return arpPermanent | arpComplete
	case unix.NUD_INCOMPLETE, unix.NUD_FAILED:
		return 0
	}
	return arpComplete
}
