package net

import (
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
)

// groupCost is what a membership takes on the heap: TestCostOfAMembership measures it.
const groupCost = 1 << 10

// mostGroups6 is how many structs ipv6_mc_socklist (56 bytes) a socket's memory for options
// (net.core.optmem_max) holds.
const mostGroups6 = (20480 - 1) / 56

// group is a multicast group at an interface.
type group struct {
	nic  tcpip.NICID
	addr tcpip.Address
}

// groups are a socket's memberships, which netstack has too, without a bound.
type groups struct {
	mu     sync.Mutex // held while netstack joins and leaves
	m      map[group]struct{}
	v4     int // of them of IPv4
	closed bool
}

// MaxMemberships is net.ipv4.igmp_max_memberships; SetMaxMemberships changes it.
func (s *Stack) MaxMemberships() int { return int(s.maxGroups.Load()) }

// SetMaxMemberships changes it.
func (s *Stack) SetMaxMemberships(n int) { s.maxGroups.Store(int32(n)) }

// groupNIC is the interface that a membership names or means, 0 if there is none.
func (s *Stack) groupNIC(m tcpip.MembershipOption, net tcpip.NetworkProtocolNumber) tcpip.NICID {
	switch {
	case m.NIC != 0:
		return m.NIC
	case !m.InterfaceAddr.Unspecified():
		return s.ns.CheckLocalAddress(0, net, m.InterfaceAddr)
	}
	if net == ipv6.ProtocolNumber {
		return s.many6()
	}
	r, err := s.ns.FindRoute(0, tcpip.Address{}, m.MulticastAddr, net, false)
	if err != nil {
		return 0
	}
	defer r.Release()
	return r.NICID()
}

// join adds or drops a membership (ip_mc_join_group, ipv6_sock_mc_join).
func (x *inetSocket) join(add bool, m tcpip.MembershipOption) error {
	net := tcpip.NetworkProtocolNumber(ipv4.ProtocolNumber)
	four := header.IsV4MulticastAddress(m.MulticastAddr)
	if !four {
		net = ipv6.ProtocolNumber
		if !header.IsV6MulticastAddress(m.MulticastAddr) {
			return unix.EINVAL
		}
	}
	g := group{x.s.groupNIC(m, net), m.MulticastAddr}
	l := &x.groups
	l.mu.Lock()
	defer l.mu.Unlock()
	_, member := l.m[g]
	switch {
	case !add && !member:
		return unix.EADDRNOTAVAIL
	case !add:
		x.ep().SetSockOpt(&tcpip.RemoveMembershipOption{NIC: g.nic, MulticastAddr: g.addr}) // fails if the interface has gone
		delete(l.m, g)
		if four {
			l.v4--
		}
		x.s.cfg.Budget.Uncharge(groupCost)
		return nil
	case member:
		return unix.EADDRINUSE
	case !four && len(l.m)-l.v4 >= mostGroups6:
		return unix.ENOMEM
	case !x.s.ns.HasNIC(g.nic):
		return unix.ENODEV
	case four && l.v4 >= x.s.MaxMemberships():
		return unix.ENOBUFS
	case l.closed || !x.s.cfg.Budget.Charge(groupCost):
		if four {
			return unix.ENOBUFS
		}
		return unix.ENOMEM
	}
	if err := x.ep().SetSockOpt(&tcpip.AddMembershipOption{NIC: g.nic, MulticastAddr: g.addr}); err != nil {
		x.s.cfg.Budget.Uncharge(groupCost)
		if _, gone := err.(*tcpip.ErrUnknownNICID); gone {
			return unix.ENODEV
		}
		return errno(err)
	}
	if l.m == nil {
		l.m = map[group]struct{}{}
	}
	l.m[g] = struct{}{}
	if four {
		l.v4++
	}
	return nil
}

// leaveGroups is for a socket that is closed, whose endpoint has left its groups.
func (x *inetSocket) leaveGroups() {
	l := &x.groups
	l.mu.Lock()
	defer l.mu.Unlock()
	x.s.cfg.Budget.Uncharge(int64(len(l.m)) * groupCost)
	l.m, l.v4, l.closed = nil, 0, true
}
