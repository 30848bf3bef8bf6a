package net

import (
	"math"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// truesize is what a datagram takes of its socket's receive buffer beside its bytes,
// as Linux counts a small one.
const truesize = 768

// queue hands a packet to a UDP or ping endpoint, whose program will read size bytes of it.
func (m *rcvMem) queue(ep stack.TransportEndpoint, id stack.TransportEndpointID, pkt *stack.PacketBuffer, size int) {
	if v, ok := m.socks.Load(ep); ok {
		m.deliver(v.(*inetSocket), ep.(tcpip.Endpoint), size, func() { ep.HandlePacket(id, pkt) })
	} else {
		ep.HandlePacket(id, pkt)
	}
}

// deliver counts a datagram that hand gives to x's endpoint, or drops it when the socket
// has too many unread ones or all sockets together have. It is counted before anybody can
// read it, and not any more if netstack has not queued it.
func (m *rcvMem) deliver(x *inetSocket, ep tcpip.Endpoint, size int, hand func()) {
	st, ok := ep.Stats().(*tcpip.TransportEndpointStats)
	if !ok {
		return
	}
	x.arrival.Lock()
	defer x.arrival.Unlock()
	held := x.unread.Load()
	if held > 0 && held+int64(size) > ep.SocketOptions().GetReceiveBufferSize() || m.dgram.Load()+int64(size) > m.limit {
		m.dropped.Add(1)
		x.drops.Add(1)
		return
	}
	x.unread.Add(int64(size + truesize))
	m.dgram.Add(int64(size + truesize))
	// netstack counts some datagrams as received that it then has no place for.
	got, closed, full := &st.PacketsReceived, &st.ReceiveErrors.ClosedReceiver, &st.ReceiveErrors.ReceiveBufferOverflow
	before, lost := got.Value(), full.Value()
	failed := closed.Value() + lost
	hand()
	if got.Value() == before || closed.Value()+full.Value() != failed {
		m.taken(x, size)
		if full.Value() != lost {
			x.drops.Add(1)
		}
	}
}

// taken is told of a datagram that has left x's queue. It never takes off more than is
// counted: the socket may have been closed meanwhile.
func (m *rcvMem) taken(x *inetSocket, size int) { m.uncount(x, int64(size+truesize)) }

// forget takes all off that a closed socket had.
func (m *rcvMem) forget(x *inetSocket) { m.uncount(x, math.MaxInt64) }

func (m *rcvMem) uncount(x *inetSocket, n int64) {
	for {
		held := x.unread.Load()
		if x.unread.CompareAndSwap(held, held-min(n, held)) {
			m.dgram.Add(-min(n, held))
			return
		}
	}
}
