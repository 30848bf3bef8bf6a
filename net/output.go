package net

import (
	"encoding/binary"
	"math"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Netstack's IP endpoints with a shorter way out: TCP's acknowledgements may wait
// (delack.go), and a TCP packet over IPv4 that needs neither fragments nor options
// gets its header here. Netstack's own way asks filter tables that nobody can fill
// five times for it, and looks the card's name up each time.

// ipv4Endpoint has every method that netstack looks for in one.
type ipv4Endpoint struct {
	ipv4Methods
	s   *Stack
	nic stack.NetworkInterface
}

type ipv4Methods interface {
	stack.NetworkEndpoint
	stack.AddressableEndpoint
	stack.GroupAddressableEndpoint
	stack.ForwardingNetworkEndpoint
	stack.MulticastForwardingNetworkEndpoint
	stack.LinkResolvableNetworkEndpoint
	ipv4.IGMPEndpoint
}

type ipv4Protocol struct {
	ipv4ProtocolMethods
	s *Stack
}

type ipv4ProtocolMethods interface {
	stack.NetworkProtocol
	stack.MulticastForwardingNetworkProtocol
	stack.RejectIPv4WithHandler
}

func (s *Stack) newIPv4(ns *stack.Stack) stack.NetworkProtocol {
	return &ipv4Protocol{ipv4.NewProtocol(ns).(ipv4ProtocolMethods), s}
}

// NewEndpoint implements stack.NetworkProtocol.
func (p *ipv4Protocol) NewEndpoint(nic stack.NetworkInterface, d stack.TransportDispatcher) stack.NetworkEndpoint {
	return &ipv4Endpoint{p.ipv4ProtocolMethods.NewEndpoint(nic, d).(ipv4Methods), p.s, nic}
}

// WritePacket implements stack.NetworkEndpoint.
func (e *ipv4Endpoint) WritePacket(r *stack.Route, params stack.NetworkHeaderParams, pkt *stack.PacketBuffer) tcpip.Error {
	if params.Protocol != header.TCPProtocolNumber {
		return e.ipv4Methods.WritePacket(r, params, pkt)
	}
	e.s.clock.refresh()
	if f, ok := pkt.Owner.(*flow); ok && e.s.acks.hold(f, r, params, pkt) {
		return nil
	}
	size := header.IPv4MinimumSize + pkt.Size()
	if r.Loop() != stack.PacketOut || !params.DF || params.ExperimentOptionValue != 0 || size > math.MaxUint16 ||
		pkt.GSOOptions.Type == stack.GSONone && uint32(size) > e.nic.MTU() {
		return e.ipv4Methods.WritePacket(r, params, pkt)
	}
	src, dst := r.LocalAddress().As4(), r.RemoteAddress().As4()
	h := header.IPv4(pkt.NetworkHeader().Push(header.IPv4MinimumSize))
	// RFC 791 3.1. A datagram that is never cut needs no identification (RFC 6864 4.1).
	h[0], h[1] = header.IPv4Version<<4|header.IPv4MinimumSize/4, params.TOS
	binary.BigEndian.PutUint16(h[2:], uint16(size))
	binary.BigEndian.PutUint32(h[4:], header.IPv4FlagDontFragment<<13)
	h[8], h[9], h[10], h[11] = params.TTL, uint8(params.Protocol), 0, 0
	copy(h[12:], src[:])
	copy(h[16:], dst[:])
	h.SetChecksum(^h.CalculateChecksum())
	pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
	if err := e.nic.WritePacket(r, pkt); err != nil {
		e.s.ipStats.OutgoingPacketErrors.Increment()
		return err
	}
	e.s.ipStats.PacketsSent.Increment()
	return nil
}

// ipv6Endpoint is the same for IPv6; only the delay of acknowledgements is its own.
type ipv6Endpoint struct {
	ipv6Methods
	s *Stack
}

type ipv6Methods interface {
	stack.NetworkEndpoint
	stack.AddressableEndpoint
	stack.GroupAddressableEndpoint
	stack.ForwardingNetworkEndpoint
	stack.MulticastForwardingNetworkEndpoint
	stack.LinkResolvableNetworkEndpoint
	stack.LinkAddressResolver
	stack.DuplicateAddressDetector
	stack.NDPEndpoint
	ipv6.NDPEndpoint
	ipv6.MLDEndpoint
}

type ipv6Protocol struct {
	ipv6ProtocolMethods
	s *Stack
}

type ipv6ProtocolMethods interface {
	stack.NetworkProtocol
	stack.MulticastForwardingNetworkProtocol
	stack.RejectIPv6WithHandler
}

func (s *Stack) newIPv6(ns *stack.Stack) stack.NetworkProtocol {
	p := ipv6.NewProtocolWithOptions(ipv6.Options{
		AutoGenLinkLocal: true,
		NDPConfigs:       ipv6.DefaultNDPConfigurations(),
		NDPDisp:          &ndp{s: s},
	})(ns)
	return &ipv6Protocol{p.(ipv6ProtocolMethods), s}
}

// NewEndpoint implements stack.NetworkProtocol.
func (p *ipv6Protocol) NewEndpoint(nic stack.NetworkInterface, d stack.TransportDispatcher) stack.NetworkEndpoint {
	e := p.ipv6ProtocolMethods.NewEndpoint(nic, d)
	if n, ok := e.(ipv6.NDPEndpoint); ok && nic.IsLoopback() {
		// Netstack looks for routers on the loopback too, where raw sockets would see it.
		c := n.NDPConfigurations()
		c.MaxRtrSolicitations = 0
		n.SetNDPConfigurations(c)
	}
	return &ipv6Endpoint{e.(ipv6Methods), p.s}
}

// WritePacket implements stack.NetworkEndpoint.
func (e *ipv6Endpoint) WritePacket(r *stack.Route, params stack.NetworkHeaderParams, pkt *stack.PacketBuffer) tcpip.Error {
	if params.Protocol == header.TCPProtocolNumber {
		e.s.clock.refresh()
		if f, ok := pkt.Owner.(*flow); ok && e.s.acks.hold(f, r, params, pkt) {
			return nil
		}
	}
	return e.ipv6Methods.WritePacket(r, params, pkt)
}
