package net

import (
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	vnet "kiln/drivers/virtio/net"
)

// early keeps the first frames that reach an interface before it has an IPv4 address,
// and hands them up once it has one. A neighbour that knows our hardware address from
// the DHCP request may send at once what it held for us; without this the first
// connection to a machine that boots is answered by its sender's time-out, seconds
// later, instead of by us.
type early struct {
	over atomic.Bool
	mu   sync.Mutex
	held []vnet.Packet
}

// The bounds of what is kept: frames, and bytes of each.
const (
	earlyFrames = 32
	earlyBytes  = 2048
)

// take keeps a copy of an IPv4 frame to us; false: it is to be handed up now.
func (e *early) take(p *vnet.Packet, first []byte, size int) bool {
	if e.over.Load() || header.Ethernet(first).Type() != header.IPv4ProtocolNumber {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over.Load() || len(e.held) == earlyFrames || size > earlyBytes {
		return false
	}
	b := make([]byte, 0, size)
	for _, s := range p.Slices {
		b = append(b, s...)
	}
	q := *p
	q.Slices = [][]byte{b}
	e.held = append(e.held, q)
	return true
}

// end hands up what was kept; from then on nothing is.
func (e *early) end(deliver func(*vnet.Packet)) {
	e.mu.Lock()
	held := e.held
	e.held = nil
	e.over.Store(true)
	e.mu.Unlock()
	for i := range held {
		deliver(&held[i])
	}
}
