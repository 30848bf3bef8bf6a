package net

import (
	"encoding/binary"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	vnet "kiln/drivers/virtio/net"
)

// The short way in: a segment of a connection that netstack has delivered to before
// goes to its endpoint without a second look at addresses, filter tables and five maps
// (Linux's early demultiplexing, tcp_v4_early_demux).
//
// What netstack checked for the first segment holds for those with the same
// addresses and ports from the same card, until an address changes (Stack.forget);
// what is in the header of each is checked here. A frame that is anything but
// a plain segment of an established connection takes netstack's way.

// flowCache remembers, by addresses and ports, where segments went. Each place holds
// one connection.
type flowCache struct {
	places [flowPlaces]atomic.Pointer[flowEntry]
	// raw counts raw sockets that see TCP segments too: while there are any,
	// netstack's way is the only one.
	raw atomic.Int32
}

const flowPlaces = 256

// flowKey is a frame's bytes from the source address to the destination port.
type flowKey [12]byte

const (
	keyAt  = ethLen + 12 // the source address in an IPv4 header
	tcpAt  = ethLen + header.IPv4MinimumSize
	minTCP = tcpAt + header.TCPMinimumSize
)

type flowEntry struct {
	key flowKey
	nic *ethernet
	ep  *tcp.Endpoint
	id  stack.TransportEndpointID
}

func (k *flowKey) place() uint32 {
	a, p := binary.LittleEndian.Uint32(k[:4]), binary.LittleEndian.Uint32(k[8:])
	h := (a ^ p ^ p>>16) * 0x9e3779b1
	return h >> 24 // flowPlaces is 2^8
}

// remember keeps where a segment went.
func (c *flowCache) remember(e *ethernet, ep *tcp.Endpoint, id stack.TransportEndpointID) {
	if id.RemoteAddress.Len() != 4 || id.LocalAddress.Len() != 4 {
		return
	}
	var k flowKey
	src, dst := id.RemoteAddress.As4(), id.LocalAddress.As4()
	copy(k[:], src[:])
	copy(k[4:], dst[:])
	binary.BigEndian.PutUint16(k[8:], id.RemotePort)
	binary.BigEndian.PutUint16(k[10:], id.LocalPort)
	c.places[k.place()].Store(&flowEntry{k, e, ep, id})
}

// find is the entry for a frame that came through e, or nil.
func (c *flowCache) find(e *ethernet, frame []byte) *flowEntry {
	k := (*flowKey)(frame[keyAt:])
	p := &c.places[k.place()]
	f := p.Load()
	if f == nil || f.key != *k || f.nic != e {
		return nil
	}
	if tcp.EndpointState(f.ep.State()) != tcp.StateEstablished {
		p.CompareAndSwap(f, nil)
		return nil
	}
	return f
}

// sweep forgets the connections for which gone says so.
func (c *flowCache) sweep(gone func(*flowEntry) bool) {
	for i := range c.places {
		if f := c.places[i].Load(); f != nil && gone(f) {
			c.places[i].CompareAndSwap(f, nil)
		}
	}
}

// pathsChanged is called when a link or an address has gone: nothing that knows a short way
// may use it.
func (s *Stack) pathsChanged() {
	s.forgetFlows()
	s.unfuse()
}

// forgetFlows is called when an interface's addresses change.
func (s *Stack) forgetFlows() { s.flows.sweep(func(*flowEntry) bool { return true }) }

// forgetEnded lets go of the endpoints of connections that ended.
func (s *Stack) forgetEnded() {
	s.flows.sweep(func(f *flowEntry) bool { return tcp.EndpointState(f.ep.State()) != tcp.StateEstablished })
}

// plainSegment is the length of a frame, without padding, that holds a whole TCP
// segment with no IP options; 0 for all others.
func plainSegment(f []byte, csumValid bool) int {
	if len(f) < minTCP || f[12] != 8 || f[13] != 0 || f[ethLen] != header.IPv4Version<<4|header.IPv4MinimumSize/4 ||
		f[ethLen+9] != unix.IPPROTO_TCP {
		return 0
	}
	if frag := binary.BigEndian.Uint16(f[ethLen+6:]); frag&^(header.IPv4FlagDontFragment<<13) != 0 {
		return 0
	}
	n := ethLen + int(binary.BigEndian.Uint16(f[ethLen+2:]))
	data := tcpAt + int(f[tcpAt+12]>>4)*4
	if n > len(f) || data < minTCP || data > n {
		return 0
	}
	if !csumValid && !header.IPv4(f[ethLen:]).IsChecksumValid() {
		return 0
	}
	return n
}

// shortcut delivers a frame that needs no second look; false: it needs one.
func (e *ethernet) shortcut(p *vnet.Packet, frame []byte) bool {
	n := plainSegment(frame, p.CsumValid)
	if n == 0 || e.s.flows.raw.Load() != 0 {
		return false
	}
	f := e.s.flows.find(e, frame)
	if f == nil {
		return false
	}
	slot := e.s.rx.admit(len(frame))
	if slot == nil {
		e.rxDropped.Add(1)
		return true
	}
	pkt := segmentOf(frame[:n], slot)
	if pkt == nil {
		e.rxDropped.Add(1)
		return true
	}
	e.rxPackets.Add(1)
	e.rxBytes.Add(uint64(len(frame)))
	e.s.ipStats.PacketsReceived.Increment()
	e.s.ipStats.ValidPacketsReceived.Increment()
	e.s.ipStats.PacketsDelivered.Increment()
	pkt.NICID, pkt.PktType, pkt.RXChecksumValidated = e.id, tcpip.PacketHost, p.CsumValid
	e.s.tcp.segment(f.ep, f.id, pkt)
	pkt.DecRef()
	return true
}

// segmentOf copies a plain segment; nil if it is none any more. A frame lies in memory that its
// device can still write, so what was checked there is not what is copied: netstack takes a TCP
// header's length for granted.
func segmentOf(frame []byte, slot *rxSlot) *stack.PacketBuffer {
	v := buffer.NewViewWithData(frame[ethLen:])
	hdr := int(v.AsSlice()[tcpAt-ethLen+12]>>4) * 4
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v), OnRelease: slot.release})
	pkt.NetworkHeader().Consume(header.IPv4MinimumSize)
	if _, ok := pkt.TransportHeader().Consume(hdr); !ok || hdr < header.TCPMinimumSize {
		pkt.DecRef()
		return nil
	}
	pkt.NetworkProtocolNumber, pkt.TransportProtocolNumber = header.IPv4ProtocolNumber, header.TCPProtocolNumber
	return pkt
}
