package net

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// ndp turns what routers advertise (RFC 4861, 4862) into routes; netstack makes the
// addresses. Its functions are called under netstack's locks.
type ndp struct{ s *Stack }

var _ ipv6.NDPDispatcher = (*ndp)(nil)

// maxAdvertised bounds the routes and name servers that routers can make us keep.
const maxAdvertised = 16

// OnDuplicateAddressDetectionResult implements ipv6.NDPDispatcher.
func (n *ndp) OnDuplicateAddressDetectionResult(nic tcpip.NICID, a tcpip.Address, r stack.DADResult) {
	if _, dup := r.(*stack.DADDupAddrDetected); dup {
		go n.s.logf("warn", "%v is in use by another machine on interface %d", a, nic)
	}
}

// OnOffLinkRouteUpdated implements ipv6.NDPDispatcher.
func (n *ndp) OnOffLinkRouteUpdated(nic tcpip.NICID, dst tcpip.Subnet, router tcpip.Address, _ header.NDPRoutePreference) {
	n.add(tcpip.Route{Destination: dst, Gateway: router, NIC: nic})
}

// OnOffLinkRouteInvalidated implements ipv6.NDPDispatcher.
func (n *ndp) OnOffLinkRouteInvalidated(nic tcpip.NICID, dst tcpip.Subnet, router tcpip.Address) {
	n.remove(tcpip.Route{Destination: dst, Gateway: router, NIC: nic})
}

// OnOnLinkPrefixDiscovered implements ipv6.NDPDispatcher.
func (n *ndp) OnOnLinkPrefixDiscovered(nic tcpip.NICID, p tcpip.Subnet) {
	n.add(tcpip.Route{Destination: p, NIC: nic})
}

// OnOnLinkPrefixInvalidated implements ipv6.NDPDispatcher.
func (n *ndp) OnOnLinkPrefixInvalidated(nic tcpip.NICID, p tcpip.Subnet) {
	n.remove(tcpip.Route{Destination: p, NIC: nic})
}

// OnAutoGenAddress implements ipv6.NDPDispatcher.
func (n *ndp) OnAutoGenAddress(tcpip.NICID, tcpip.AddressWithPrefix) stack.AddressDispatcher {
	return nil
}

// OnAutoGenAddressDeprecated implements ipv6.NDPDispatcher.
func (n *ndp) OnAutoGenAddressDeprecated(tcpip.NICID, tcpip.AddressWithPrefix) {}

// OnAutoGenAddressInvalidated implements ipv6.NDPDispatcher.
func (n *ndp) OnAutoGenAddressInvalidated(tcpip.NICID, tcpip.AddressWithPrefix) {}

// OnRecursiveDNSServerOption implements ipv6.NDPDispatcher.
func (n *ndp) OnRecursiveDNSServerOption(_ tcpip.NICID, servers []tcpip.Address, _ time.Duration) {
	go func() {
		for _, a := range servers {
			n.s.addDNS(a.String())
		}
	}()
}

// OnDNSSearchListOption implements ipv6.NDPDispatcher: search lists from the network
// are not taken.
func (n *ndp) OnDNSSearchListOption(tcpip.NICID, []string, time.Duration) {}

// OnDHCPv6Configuration implements ipv6.NDPDispatcher: there is no DHCPv6 client.
func (n *ndp) OnDHCPv6Configuration(tcpip.NICID, ipv6.DHCPv6ConfigurationFromNDPRA) {}

// add and remove run beside netstack's locks: the route table has its own, but the
// order between the two is netstack's business.
func (n *ndp) add(r tcpip.Route) {
	go func() {
		have := 0
		for _, o := range n.s.ns.GetRouteTable() {
			if o.Equal(r) {
				return
			}
			if o.Destination.ID().Len() == 16 {
				have++
			}
		}
		if have < maxAdvertised {
			n.s.ns.AddRoute(r)
		}
	}()
}

func (n *ndp) remove(r tcpip.Route) {
	go n.s.ns.RemoveRoutes(func(o tcpip.Route) bool { return o.Equal(r) })
}
