package net

import (
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
)

// Linux looks for no routers on the loopback: who reads ICMPv6 there would see it.
func TestNoRouterIsSoughtOnTheLoopback(t *testing.T) {
	s := newStack(t, 64<<20)
	e, err := s.ns.GetNetworkEndpoint(loopbackNIC, ipv6.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	n, ok := e.(*ipv6Endpoint).ipv6Methods.(ipv6.NDPEndpoint)
	if !ok {
		t.Fatal("no NDP on the loopback's endpoint")
	}
	if c := n.NDPConfigurations(); c.MaxRtrSolicitations != 0 {
		t.Errorf("%d solicitations", c.MaxRtrSolicitations)
	}
}
