package net

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Bounds of Leave: without progress, and in all.
const (
	leaveStuck = time.Second
	leaveMost  = 10 * time.Second
)

// Leave waits, before the machine ends, until what its programs have sent is with those that
// it was sent to, or on the wire: a program that writes its result, closes the connection and
// ends has delivered it. look lets time pass. False: a peer did not take it in time.
func (s *Stack) Leave(look func()) bool {
	now := func() time.Duration { return time.Duration(s.cfg.Machine.Nanotime()) }
	start := now()
	progress, least := start, s.leaving()
	for n := least; n > 0; n = s.leaving() {
		t := now()
		if n < least {
			progress, least = t, n
		}
		if t-progress > leaveStuck || t-start > leaveMost {
			return false
		}
		look()
	}
	return true
}

// leaving is how much there is to wait for, in bytes and packets.
func (s *Stack) leaving() (n int64) {
	// In the order of a packet's way: from the neighbour that is looked for to a function of
	// netstack's, and from there to the card.
	cards := false
	for _, i := range s.interfaces() {
		if i.eth != nil {
			cards = true
			n += s.resolving(i)
		}
	}
	n += s.clock.atOnce.Load()
	for _, i := range s.interfaces() {
		if i.eth != nil {
			n += i.eth.leaving()
		}
	}
	if v := s.vsock.dev.Load(); v != nil && !sent(v.dev) {
		n++
	}
	if !cards {
		return n
	}
	for _, e := range s.ns.RegisteredEndpoints() {
		ep, ok := e.(*tcp.Endpoint)
		if !ok {
			continue
		}
		var left int64
		switch tcp.EndpointState(ep.State()) {
		case tcp.StateEstablished, tcp.StateCloseWait: // also of a closed one, until its FIN is sent
		case tcp.StateFinWait1, tcp.StateClosing, tcp.StateLastAck:
			left = 1 // the FIN
		default:
			continue
		}
		if left += sendQueue(ep); left == 0 {
			continue
		}
		if id, ok := addresses(ep); ok && !withItself(id) {
			n += left
		}
	}
	return n
}

// leaving is how many packets wait for the card, or in it.
func (e *ethernet) leaving() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := int64(len(e.backlog))
	if !sent(e.dev) {
		n++
	}
	return n
}

// resolving is how many neighbours are asked for their address, for packets that wait for it.
func (s *Stack) resolving(i *iface) (n int64) {
	for _, proto := range [...]tcpip.NetworkProtocolNumber{header.IPv4ProtocolNumber, header.IPv6ProtocolNumber} {
		l, _ := s.ns.Neighbors(i.id, proto)
		for _, e := range l {
			if e.State == stack.Incomplete {
				n++
			}
		}
	}
	return n
}

// sent asks a device whether it has sent all that it was given; one that cannot tell has.
func sent(dev any) bool {
	d, ok := dev.(interface{ Sent() bool })
	return !ok || d.Sent()
}
