package net

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"kiln/net/tcpin"
)

// On Linux a segment to the machine itself is taken by its receiver before the call that
// sent it returns: the loopback's softirq runs under it. So a program may count on it that
// what it has connected to has the connection to accept, the first one first, that the other
// end of what it shut down or closed is at its end, and that who has closed has refused what
// was written to him before more is. Netstack leaves segments to goroutines that run a moment
// later, on another CPU. After connect, shutdown, close and such a write the caller does here
// what those would (net/tcpin). Other bytes need none of it: those of fused connections pass
// within the call (fusion.go).

// withItself says that a connection's ends are both on this machine.
func withItself(id stack.TransportEndpointID) bool {
	a := id.RemoteAddress
	return a == id.LocalAddress || a == header.IPv6Loopback || a.Len() == header.IPv4AddressSize && header.IsV4LoopbackAddress(a)
}

// meeting is a TCP endpoint and those of this machine that it is connected to. They are looked
// up before a call that may end the connection: netstack's tables forget an endpoint that was
// reset before it says that it was.
type meeting struct {
	s       *Stack
	id      stack.TransportEndpointID
	self    *tcp.Endpoint
	peer    *tcp.Endpoint   // nil: whoever is at the other address
	clients []*tcp.Endpoint // of a listener, in its queue or before
}

// meet looks at an endpoint before a call; nil if nobody of this machine will hear of what the
// call does.
func (s *Stack) meet(e tcpip.Endpoint) *meeting {
	id, ok := addresses(e)
	if !ok {
		return nil
	}
	m := &meeting{s: s, id: id, self: e.(*tcp.Endpoint)}
	if id.RemotePort != 0 {
		if !withItself(id) {
			return nil
		}
		m.peer = s.endpointAt(reversed(id))
		return m
	}
	if tcp.EndpointState(m.self.State()) != tcp.StateListen || s.fuses.clients.Load() == 0 {
		return nil
	}
	for _, e := range s.ns.RegisteredEndpoints() {
		if to, ok := addresses(e); ok && to.RemotePort == id.LocalPort && withItself(to) {
			m.clients = append(m.clients, e.(*tcp.Endpoint))
		}
	}
	return m
}

// settleTurns bounds the turns of settle: a handshake and an end take three at most, and others,
// who send on the connection meanwhile, shall not keep the caller.
const settleTurns = 16

// settle has all of them take what is in their queues, until those are empty and nobody else is
// about what was there: two turns in a row, since a segment of the last one may be with a
// processor, and its answer with another. The caller holds no lock.
func (m *meeting) settle() {
	if m == nil {
		return
	}
	quiet := 0
	for range settleTurns {
		took := false
		for _, ep := range m.clients {
			took = takeOrWait(ep) || took
		}
		if m.id.RemotePort != 0 {
			peer := m.peer
			if peer == nil {
				peer = m.s.endpointAt(reversed(m.id))
			}
			took = takeOrWait(peer)
			took = takeOrWait(m.self) || took
		}
		if quiet++; took {
			quiet = 0
		}
		if quiet == 2 {
			return
		}
	}
}

// takeOrWait is tcpin.Take, or the wait for who does it.
func takeOrWait(ep *tcp.Endpoint) (took bool) {
	if ep != nil {
		took = tcpin.Take(ep)
		ep.GetRemoteAddress() // for its lock
	}
	return took
}

// settleConnect is settle for a connection that a socket has begun to make.
func (x *inetSocket) settleConnect() {
	if id, ok := x.connection(); ok && withItself(id) {
		m := meeting{s: x.s, id: id, self: x.ep().(*tcp.Endpoint)} // the peer comes to be
		m.settle()
	}
}

// endpointAt is the endpoint that a segment to these addresses goes to, nil if there is none.
func (s *Stack) endpointAt(id stack.TransportEndpointID) *tcp.Endpoint {
	net := protoOf(id.LocalAddress)
	nic := s.ns.CheckLocalAddress(0, net, id.LocalAddress)
	ep, _ := s.ns.FindTransportEndpoint(net, tcp.ProtocolNumber, id, nic).(*tcp.Endpoint)
	return ep
}
