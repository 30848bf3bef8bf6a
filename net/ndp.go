package net

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// ndp turns what routers advertise (RFC 4861, 4862) into routes; netstack makes the addresses.
// Its functions are called under netstack's locks: they note what is so, and a goroutine beside
// the locks makes the route table agree and tells who listens to netlink groups. What is noted
// last counts, in whatever order the rest was looked at; netstack bounds how much there is.
type ndp struct {
	s *Stack

	mu      sync.Mutex // innermost
	working bool
	routes  map[routeKey]tcpip.Route // that routers advertise
	addrs   map[ndpAddr]bool         // that have come or, false, gone, and are not told of
	servers []tcpip.FullAddress      // not told of

	made map[routeKey]bool // of routes; false: there was such a one already. The goroutine's
}

type ndpAddr struct {
	nic  tcpip.NICID
	addr tcpip.AddressWithPrefix
}

var _ ipv6.NDPDispatcher = (*ndp)(nil)

// maxAdvertised bounds the routes that routers can make us keep, and the name servers that wait
// for a place.
const maxAdvertised = 16

// OnDuplicateAddressDetectionResult implements ipv6.NDPDispatcher.
func (n *ndp) OnDuplicateAddressDetectionResult(nic tcpip.NICID, a tcpip.Address, r stack.DADResult) {
	if _, dup := r.(*stack.DADDupAddrDetected); dup {
		go n.s.logf("warn", "%v is in use by another machine on interface %d", a, nic)
	}
}

// OnOffLinkRouteUpdated implements ipv6.NDPDispatcher.
func (n *ndp) OnOffLinkRouteUpdated(nic tcpip.NICID, dst tcpip.Subnet, router tcpip.Address, _ header.NDPRoutePreference) {
	n.note(tcpip.Route{Destination: dst, Gateway: router, NIC: nic}, true)
}

// OnOffLinkRouteInvalidated implements ipv6.NDPDispatcher.
func (n *ndp) OnOffLinkRouteInvalidated(nic tcpip.NICID, dst tcpip.Subnet, router tcpip.Address) {
	n.note(tcpip.Route{Destination: dst, Gateway: router, NIC: nic}, false)
}

// OnOnLinkPrefixDiscovered implements ipv6.NDPDispatcher.
func (n *ndp) OnOnLinkPrefixDiscovered(nic tcpip.NICID, p tcpip.Subnet) {
	n.note(tcpip.Route{Destination: p, NIC: nic}, true)
}

// OnOnLinkPrefixInvalidated implements ipv6.NDPDispatcher.
func (n *ndp) OnOnLinkPrefixInvalidated(nic tcpip.NICID, p tcpip.Subnet) {
	n.note(tcpip.Route{Destination: p, NIC: nic}, false)
}

// OnAutoGenAddress implements ipv6.NDPDispatcher.
func (n *ndp) OnAutoGenAddress(nic tcpip.NICID, a tcpip.AddressWithPrefix) stack.AddressDispatcher {
	return &ndpAddress{n, ndpAddr{nic, a}}
}

// ndpAddress is told what becomes of an address that netstack has made.
type ndpAddress struct {
	n *ndp
	a ndpAddr
}

// OnChanged implements stack.AddressDispatcher.
func (d *ndpAddress) OnChanged(_ stack.AddressLifetimes, st stack.AddressAssignmentState) {
	if st == stack.AddressAssigned {
		d.n.noteAddress(d.a, true)
	}
}

// OnRemoved implements stack.AddressDispatcher.
func (d *ndpAddress) OnRemoved(stack.AddressRemovalReason) { d.n.noteAddress(d.a, false) }

// OnAutoGenAddressDeprecated implements ipv6.NDPDispatcher.
func (n *ndp) OnAutoGenAddressDeprecated(tcpip.NICID, tcpip.AddressWithPrefix) {}

// OnAutoGenAddressInvalidated implements ipv6.NDPDispatcher.
func (n *ndp) OnAutoGenAddressInvalidated(tcpip.NICID, tcpip.AddressWithPrefix) {}

// OnRecursiveDNSServerOption implements ipv6.NDPDispatcher. A server with an address of the link
// is named with it, as resolv.conf(5) has it.
func (n *ndp) OnRecursiveDNSServerOption(nic tcpip.NICID, servers []tcpip.Address, life time.Duration) {
	if life == 0 {
		return // not to be used any more
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range servers {
		if len(n.servers) < maxAdvertised {
			n.servers = append(n.servers, tcpip.FullAddress{NIC: nic, Addr: a})
		}
	}
	n.work()
}

// OnDNSSearchListOption implements ipv6.NDPDispatcher: search lists from the network
// are not taken.
func (n *ndp) OnDNSSearchListOption(tcpip.NICID, []string, time.Duration) {}

// OnDHCPv6Configuration implements ipv6.NDPDispatcher: there is no DHCPv6 client.
func (n *ndp) OnDHCPv6Configuration(tcpip.NICID, ipv6.DHCPv6ConfigurationFromNDPRA) {}

// note says that a router advertises a route, or does not any more.
func (n *ndp) note(r tcpip.Route, there bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !there {
		delete(n.routes, keyOf(r))
	} else {
		if n.routes == nil {
			n.routes = map[routeKey]tcpip.Route{}
		}
		n.routes[keyOf(r)] = r
	}
	n.work()
}

func (n *ndp) noteAddress(a ndpAddr, there bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.addrs == nil {
		n.addrs = map[ndpAddr]bool{}
	}
	if len(n.addrs) < maxUntold {
		n.addrs[a] = there
	}
	n.work()
}

// maxUntold bounds the addresses that listeners have not been told of yet.
const maxUntold = 1024

// work has the goroutine look at what has been noted. Called with mu held.
func (n *ndp) work() {
	if !n.working {
		n.working = true
		go n.agree()
	}
}

// agree makes routes, addresses and name servers known as they are noted, until nothing new is.
func (n *ndp) agree() {
	for {
		n.mu.Lock()
		var add, gone []tcpip.Route
		for k := range n.made {
			if _, ok := n.routes[k]; !ok {
				gone = append(gone, tcpip.Route{Destination: k.dst, Gateway: k.gw, NIC: k.nic})
			}
		}
		for k, r := range n.routes {
			if _, ok := n.made[k]; !ok && len(n.made)-len(gone)+len(add) < maxAdvertised {
				add = append(add, r)
			}
		}
		addrs, servers := n.addrs, n.servers
		n.addrs, n.servers = nil, nil
		if n.working = len(add)+len(gone)+len(addrs)+len(servers) > 0; !n.working {
			n.mu.Unlock()
			return
		}
		n.mu.Unlock()
		if n.made == nil {
			n.made = map[routeKey]bool{}
		}
		for _, r := range gone {
			if n.made[keyOf(r)] {
				n.s.removeRoutes(sameRoute(r))
			}
			delete(n.made, keyOf(r))
		}
		for _, r := range add {
			own := !slices.ContainsFunc(n.s.ns.GetRouteTable(), sameRoute(r))
			if n.made[keyOf(r)] = own; own {
				n.s.insertRoute(r, n.s.infoOf(r))
			}
		}
		for a, there := range addrs {
			n.s.addressNoted(a, there)
		}
		for _, a := range servers {
			name := a.Addr.String()
			if header.IsV6LinkLocalUnicastAddress(a.Addr) {
				name += "%" + n.s.ifaceName(a.NIC)
			}
			n.s.addDNS(name)
		}
	}
}

func sameRoute(r tcpip.Route) func(tcpip.Route) bool {
	return func(o tcpip.Route) bool { return keyOf(o) == keyOf(r) }
}

// addressNoted tells who listens of an address that netstack has made or taken away.
func (s *Stack) addressNoted(a ndpAddr, there bool) {
	i := s.byIndex(a.nic)
	if i == nil {
		return // the interface has gone, and that was told
	}
	typ := uint16(unix.RTM_DELADDR)
	if there {
		typ = unix.RTM_NEWADDR
		s.forgetFlows()
	} else {
		s.pathsChanged()
	}
	s.notify(addrGroup(a.addr.Address), typ, s.addrMessage(i, a.addr))
}
