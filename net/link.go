package net

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	vnet "kiln/drivers/virtio/net"
)

// Device is a network card, as drivers/virtio/net has it: frames are copied in Send
// and are only good during the receiver's call.
type Device interface {
	MAC() [6]byte
	MTU() int
	TxCsum() bool
	TSO4() bool
	TSO6() bool
	LinkUp() bool
	SetReceiver(f func(*vnet.Packet))
	Send(p *vnet.Packet) error
	Kick()
	OnWritable(f func())
}

const (
	ethLen = header.EthernetMinimumSize
	// txBacklog is how many packets wait in the kernel when the device's queue is
	// full: a third of Linux's txqueuelen, since one may be 64 KiB of segments.
	txBacklog = 256
	// gsoMax is the largest TCP packet handed to the device, headers included
	// (virtio 1.2 5.1.6.3.1 allows 65550 with the Ethernet header).
	gsoMax = 61440
)

// ethernet is netstack's view of a Device.
type ethernet struct {
	s   *Stack
	id  tcpip.NICID
	dev Device
	mac tcpip.LinkAddress
	mtu atomic.Uint32
	tso bool

	dispatcher atomic.Pointer[stack.NetworkDispatcher]
	// rxValid is what Capabilities says of the frame being delivered: netstack
	// asks once a frame, from the receiver's own call, whether its checksum has
	// been verified, and a card answers that per frame.
	rxValid atomic.Bool
	// tap, while set, sees every IPv4 frame first and may take it (DHCP).
	// promisc is how many packet sockets want frames for other hosts.
	promisc atomic.Int32
	tap     atomic.Pointer[func(frame []byte) bool]
	early   early

	mu      sync.Mutex
	backlog []*stack.PacketBuffer
	slices  [][]byte
	out     vnet.Packet

	rxPackets, rxBytes, rxDropped, txPackets, txBytes, txDropped atomic.Uint64
}

func newEthernet(s *Stack, id tcpip.NICID, dev Device) *ethernet {
	mac := dev.MAC()
	e := &ethernet{s: s, id: id, dev: dev, mac: tcpip.LinkAddress(mac[:])}
	e.mtu.Store(uint32(min(max(dev.MTU(), header.IPv6MinimumMTU), 65535)))
	e.tso = dev.TxCsum() && dev.TSO4() && dev.TSO6()
	dev.SetReceiver(e.receive)
	dev.OnWritable(e.drain)
	return e
}

// MTU implements stack.LinkEndpoint.
func (e *ethernet) MTU() uint32 { return e.mtu.Load() }

// SetMTU implements stack.LinkEndpoint.
func (e *ethernet) SetMTU(mtu uint32) { e.mtu.Store(min(mtu, uint32(e.dev.MTU()))) }

// MaxHeaderLength implements stack.LinkEndpoint.
func (e *ethernet) MaxHeaderLength() uint16 { return ethLen }

// LinkAddress implements stack.LinkEndpoint.
func (e *ethernet) LinkAddress() tcpip.LinkAddress { return e.mac }

// SetLinkAddress implements stack.LinkEndpoint: the card's address stays.
func (e *ethernet) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities implements stack.LinkEndpoint. Transmit checksums are left to the
// card only for TCP (through the GSO options, with a partial sum): netstack writes
// none at all for an endpoint with TX offload, which is wrong for fragments.
func (e *ethernet) Capabilities() stack.LinkEndpointCapabilities {
	c := stack.CapabilityResolutionRequired
	if e.rxValid.Load() {
		c |= stack.CapabilityRXChecksumOffload
	}
	return c
}

// GSOMaxSize and SupportedGSO implement stack.GSOEndpoint.
func (e *ethernet) GSOMaxSize() uint32 { return gsoMax }

// SupportedGSO implements stack.GSOEndpoint.
func (e *ethernet) SupportedGSO() stack.SupportedGSO {
	if e.tso {
		return stack.HostGSOSupported
	}
	return stack.GSONotSupported
}

// Attach implements stack.LinkEndpoint.
func (e *ethernet) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		e.dispatcher.Store(nil)
		return
	}
	e.dispatcher.Store(&d)
}

// IsAttached implements stack.LinkEndpoint.
func (e *ethernet) IsAttached() bool { return e.dispatcher.Load() != nil }

// Wait implements stack.LinkEndpoint.
func (*ethernet) Wait() {}

// ARPHardwareType implements stack.LinkEndpoint.
func (*ethernet) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// AddHeader implements stack.LinkEndpoint.
func (e *ethernet) AddHeader(pkt *stack.PacketBuffer) {
	src := pkt.EgressRoute.LocalLinkAddress
	if len(src) == 0 {
		src = e.mac
	}
	header.Ethernet(pkt.LinkHeader().Push(ethLen)).Encode(&header.EthernetFields{
		SrcAddr: src, DstAddr: pkt.EgressRoute.RemoteLinkAddress, Type: pkt.NetworkProtocolNumber,
	})
}

// ParseHeader implements stack.LinkEndpoint.
func (*ethernet) ParseHeader(pkt *stack.PacketBuffer) bool {
	_, ok := pkt.LinkHeader().Consume(ethLen)
	return ok
}

// Close and SetOnCloseAction implement stack.LinkEndpoint.
func (*ethernet) Close() {}

// SetOnCloseAction implements stack.LinkEndpoint.
func (*ethernet) SetOnCloseAction(func()) {}

// receive takes one frame from the driver: filter, count, copy, hand up.
func (e *ethernet) receive(p *vnet.Packet) {
	size := 0
	for _, s := range p.Slices {
		size += len(s)
	}
	d := e.dispatcher.Load()
	if d == nil || size < ethLen || len(p.Slices[0]) < ethLen {
		e.rxDropped.Add(1)
		return
	}
	first := p.Slices[0]
	kind, ok := e.classify(first)
	if e.s.taps.Load() != nil && (ok || e.promisc.Load() > 0) {
		e.show(p, kind, ok)
	}
	if !ok {
		return
	}
	e.s.clock.refresh()
	if kind == tcpip.PacketHost && len(p.Slices) == 1 && e.shortcut(p, first) {
		return
	}
	if tap := e.tap.Load(); tap != nil && len(p.Slices) == 1 && (*tap)(first) {
		return
	}
	if kind == tcpip.PacketHost && e.early.take(p, first, size) {
		return
	}
	slot := e.s.rx.admit(size)
	if slot == nil {
		e.rxDropped.Add(1)
		return
	}
	e.rxPackets.Add(1)
	e.rxBytes.Add(uint64(size))
	v := buffer.NewView(size)
	for _, s := range p.Slices {
		v.Write(s)
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v), OnRelease: slot.release})
	pkt.LinkHeader().Consume(ethLen)
	pkt.PktType = kind
	e.rxValid.Store(p.CsumValid)
	(*d).DeliverNetworkPacket(header.Ethernet(first).Type(), pkt)
	pkt.DecRef()
}

// show lets packet sockets see a received frame.
func (e *ethernet) show(p *vnet.Packet, kind tcpip.PacketType, ours bool) {
	if !ours {
		kind = tcpip.PacketOtherHost
	}
	status := uint32(0)
	if p.NeedsCsum {
		status = tpStatusCsumNotReady
	} else if p.CsumValid {
		status = tpStatusCsumValid
	}
	f := packetFrame{b: join(p.Slices), head: ethLen, hw: unix.ARPHRD_ETHER, nic: e.id, kind: kind, status: status}
	if p.NeedsCsum {
		f.vnet.needsCsum(p.CsumStart, p.CsumOffset)
	} else if p.CsumValid {
		f.vnet[0] = vnetDataValid
	}
	e.s.tap(f, nil)
}

// classify says how a frame is addressed; false: to somebody else.
func (e *ethernet) classify(f []byte) (tcpip.PacketType, bool) {
	switch {
	case string(f[:6]) == string(e.mac):
		return tcpip.PacketHost, true
	case string(f[:6]) == string(header.EthernetBroadcastAddress):
		return tcpip.PacketBroadcast, true
	case f[0]&1 != 0:
		return tcpip.PacketMulticast, true
	}
	return 0, false
}

// WritePackets implements stack.LinkEndpoint. A full device queue is bridged by a
// short backlog; beyond it packets are dropped, as on a full qdisc.
func (e *ethernet) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	e.mu.Lock()
	sent := false
	for _, pkt := range pkts.AsSlice() {
		sent = e.enqueue(pkt) || sent
	}
	e.mu.Unlock()
	if sent {
		e.dev.Kick()
	}
	return pkts.Len(), nil
}

// enqueue gives a packet to the device or the backlog; true: the device has it. mu is
// held.
func (e *ethernet) enqueue(pkt *stack.PacketBuffer) bool {
	if len(e.backlog) == 0 && e.transmit(pkt) {
		return true
	}
	if len(e.backlog) >= txBacklog {
		e.txDropped.Add(1)
	} else {
		e.backlog = append(e.backlog, pkt.IncRef())
	}
	return false
}

// direct is the card's queueing discipline: none. Netstack's own makes a list on the
// heap for each packet.
type direct struct{ e *ethernet }

// WritePacket implements stack.QueueingDiscipline.
func (d direct) WritePacket(pkt *stack.PacketBuffer) tcpip.Error {
	d.e.mu.Lock()
	sent := d.e.enqueue(pkt)
	d.e.mu.Unlock()
	if sent {
		d.e.dev.Kick()
	}
	return nil
}

// Close implements stack.QueueingDiscipline.
func (direct) Close() {}

// transmit gives one packet to the device; false if its queue is full. mu is held.
func (e *ethernet) transmit(pkt *stack.PacketBuffer) bool {
	views, off := pkt.AsViewList()
	e.slices = e.slices[:0]
	for v := views.Front(); v != nil; v = v.Next() {
		b := v.AsSlice()
		if off >= len(b) {
			off -= len(b)
			continue
		}
		e.slices = append(e.slices, b[off:])
		off = 0
	}
	e.out = vnet.Packet{Slices: e.slices}
	if g := &pkt.GSOOptions; g.Type != stack.GSONone && g.NeedsCsum {
		e.out.NeedsCsum = true
		e.out.CsumStart = ethLen + g.L3HdrLen
		e.out.CsumOffset = g.CsumOffset
		if pkt.Data().Size() > int(g.MSS) {
			e.out.GSO = vnet.GSOTCP4
			if g.Type == stack.GSOTCPv6 {
				e.out.GSO = vnet.GSOTCP6
			}
			e.out.SegSize = g.MSS
			e.out.HdrLen = uint16(pkt.HeaderSize())
		}
	}
	switch err := e.dev.Send(&e.out); err {
	case nil:
		e.txPackets.Add(1)
		e.txBytes.Add(uint64(pkt.Size()))
		if e.s.taps.Load() != nil {
			e.showSent(&e.out, nil)
		}
	case vnet.ErrFull:
		return false
	default:
		e.txDropped.Add(1)
	}
	return true
}

// drain sends the backlog when the device has room again.
func (e *ethernet) drain() {
	e.mu.Lock()
	n := 0
	for n < len(e.backlog) && e.transmit(e.backlog[n]) {
		e.backlog[n].DecRef()
		e.backlog[n] = nil
		n++
	}
	e.backlog = append(e.backlog[:0], e.backlog[n:]...)
	e.mu.Unlock()
	if n > 0 {
		e.dev.Kick()
	}
}

// sendFrame sends a frame of our own (DHCP).
func (e *ethernet) sendFrame(f []byte) error {
	return e.sendPacket(&vnet.Packet{Slices: [][]byte{f}}, nil, false)
}

// sendPacket sends a frame that lies in one piece and does not come from netstack. Packet
// sockets see it, but for from, unless it is hidden.
func (e *ethernet) sendPacket(p *vnet.Packet, from *packetSocket, hidden bool) error {
	e.mu.Lock()
	err := e.dev.Send(p)
	e.mu.Unlock()
	if err != nil {
		return err
	}
	e.txPackets.Add(1)
	e.txBytes.Add(uint64(len(p.Slices[0])))
	e.dev.Kick()
	if e.s.taps.Load() != nil && !hidden {
		e.showSent(p, from)
	}
	return nil
}

// showSent lets packet sockets see a frame that goes out.
func (e *ethernet) showSent(p *vnet.Packet, from *packetSocket) {
	f := packetFrame{b: join(p.Slices), head: ethLen, hw: unix.ARPHRD_ETHER, nic: e.id, kind: tcpip.PacketOutgoing}
	f.offloads(p)
	e.s.tap(f, from)
}

// loopback turns packets around, counted as received memory like any others.
type loopback struct {
	s          *Stack
	mtu        atomic.Uint32
	dispatcher atomic.Pointer[stack.NetworkDispatcher]

	packets, bytes, dropped atomic.Uint64
}

// MTU implements stack.LinkEndpoint.
func (l *loopback) MTU() uint32 { return l.mtu.Load() }

// SetMTU implements stack.LinkEndpoint.
func (l *loopback) SetMTU(mtu uint32) { l.mtu.Store(mtu) }

// MaxHeaderLength implements stack.LinkEndpoint.
func (*loopback) MaxHeaderLength() uint16 { return 0 }

// LinkAddress implements stack.LinkEndpoint.
func (*loopback) LinkAddress() tcpip.LinkAddress { return "" }

// SetLinkAddress implements stack.LinkEndpoint.
func (*loopback) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities implements stack.LinkEndpoint: nothing can be damaged on the way.
func (*loopback) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload | stack.CapabilityTXChecksumOffload | stack.CapabilityLoopback
}

// Attach implements stack.LinkEndpoint.
func (l *loopback) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		l.dispatcher.Store(nil)
		return
	}
	l.dispatcher.Store(&d)
}

// IsAttached implements stack.LinkEndpoint.
func (l *loopback) IsAttached() bool { return l.dispatcher.Load() != nil }

// Wait implements stack.LinkEndpoint.
func (*loopback) Wait() {}

// ARPHardwareType implements stack.LinkEndpoint.
func (*loopback) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareLoopback }

// AddHeader implements stack.LinkEndpoint.
func (*loopback) AddHeader(*stack.PacketBuffer) {}

// ParseHeader implements stack.LinkEndpoint.
func (*loopback) ParseHeader(*stack.PacketBuffer) bool { return true }

// Close implements stack.LinkEndpoint.
func (*loopback) Close() {}

// SetOnCloseAction implements stack.LinkEndpoint.
func (*loopback) SetOnCloseAction(func()) {}

// WritePackets implements stack.LinkEndpoint.
func (l *loopback) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	d := l.dispatcher.Load()
	l.s.clock.refresh()
	for _, pkt := range pkts.AsSlice() {
		size := pkt.Size()
		var slot *rxSlot
		if d != nil {
			slot = l.s.rx.admit(size)
		}
		if slot == nil {
			l.dropped.Add(1)
			continue
		}
		l.packets.Add(1)
		l.bytes.Add(uint64(size))
		l.show(pkt)
		in := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: pkt.ToBuffer(), OnRelease: slot.release})
		(*d).DeliverNetworkPacket(pkt.NetworkProtocolNumber, in)
		in.DecRef()
	}
	return pkts.Len(), nil
}
