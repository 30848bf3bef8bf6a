package net

import (
	"hash/maphash"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	vnet "kiln/drivers/virtio/net"
)

// tunDevice is an interface made by TUNSETIFF.
type tunDevice struct {
	s *Stack
	i *iface
	// One of the two: what netstack sees.
	tun *tunLink
	tap *tapCard

	mu     sync.Mutex
	flags  uint16 // IFF_TUN or IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE, IFF_PERSIST …
	files  []*tunFile
	owner  int64 // -1: nobody's
	group  int64
	vnet   int // bytes of struct virtio_net_hdr
	little bool
	hwType uint16 // TUNSETLINK
	seed   maphash.Seed
}

// mode is what a read and a write put before the packet.
func (d *tunDevice) mode() (flags uint16, vnet int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.flags, d.vnet
}

// carrier says whether a file is attached.
func (d *tunDevice) carrier() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.files) > 0
}

// send gives a packet to the queue of its flow; false: it is dropped.
func (d *tunDevice) send(b []byte, proto uint16, flow []byte) bool {
	d.mu.Lock()
	var f *tunFile
	if n := uint64(len(d.files)); n == 1 {
		f = d.files[0]
	} else if n > 1 {
		f = d.files[maphash.Bytes(d.seed, flow)%n]
	}
	d.mu.Unlock()
	return f != nil && f.put(b, proto)
}

// flowOf is the part of an IP packet that is the same for all of a flow: the addresses, and
// the ports where they follow at once.
func flowOf(ip []byte) []byte {
	switch {
	case len(ip) >= 24 && ip[0] == 0x45:
		return ip[12:24]
	case len(ip) >= 44 && ip[0]>>4 == 6:
		return ip[8:44]
	}
	return nil
}

// join copies pieces into one.
func join(pieces [][]byte) []byte {
	n := 0
	for _, p := range pieces {
		n += len(p)
	}
	b := make([]byte, 0, n)
	for _, p := range pieces {
		b = append(b, p...)
	}
	return b
}

// tunLink is netstack's view of a TUN interface: IP packets without a link header.
type tunLink struct {
	loopback // its dispatcher, MTU and counters
	d        *tunDevice
}

// Capabilities implements stack.LinkEndpoint: none, so that sums are made and looked at.
func (*tunLink) Capabilities() stack.LinkEndpointCapabilities { return 0 }

// ARPHardwareType implements stack.LinkEndpoint.
func (*tunLink) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// WritePackets implements stack.LinkEndpoint.
func (l *tunLink) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for _, pkt := range pkts.AsSlice() {
		b := join(pkt.AsSlices())
		if !l.d.send(b, uint16(pkt.NetworkProtocolNumber), flowOf(b)) {
			l.dropped.Add(1)
		}
		if l.s.taps.Load() != nil {
			l.show(b, uint16(pkt.NetworkProtocolNumber), tcpip.PacketOutgoing)
		}
	}
	return pkts.Len(), nil
}

// show lets packet sockets see a packet, which has no link header.
func (l *tunLink) show(b []byte, proto uint16, kind tcpip.PacketType) {
	l.s.tap(packetFrame{b: b, proto: proto, hw: unix.ARPHRD_NONE, nic: l.d.i.id, kind: kind}, nil)
}

// deliver hands netstack a packet that the program has written.
func (l *tunLink) deliver(b []byte, proto uint16) {
	d := l.dispatcher.Load()
	slot := l.s.rx.admit(len(b))
	if d == nil || slot == nil {
		if slot != nil {
			slot.release()
		}
		l.dropped.Add(1)
		return
	}
	l.s.clock.refresh()
	if l.s.taps.Load() != nil {
		l.show(b, proto, tcpip.PacketHost)
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b), OnRelease: slot.release})
	(*d).DeliverNetworkPacket(tcpip.NetworkProtocolNumber(proto), pkt)
	pkt.DecRef()
}

// tapCard is a TAP interface as a network card.
type tapCard struct {
	d       *tunDevice
	mac     [6]byte
	mu      sync.Mutex // of what is received: one frame at a time
	receive func(*vnet.Packet)
}

// MAC, MTU, TxCsum, TSO4, TSO6, LinkUp, SetReceiver, Send, Kick and OnWritable implement Device.
func (t *tapCard) MAC() [6]byte { return t.mac }

// MTU implements Device: the most that can be set.
func (t *tapCard) MTU() int { return 65535 - ethLen }

// TxCsum implements Device.
func (*tapCard) TxCsum() bool { return false }

// TSO4 implements Device.
func (*tapCard) TSO4() bool { return false }

// TSO6 implements Device.
func (*tapCard) TSO6() bool { return false }

// LinkUp implements Device.
func (t *tapCard) LinkUp() bool { return t.d.carrier() }

// SetReceiver implements Device.
func (t *tapCard) SetReceiver(f func(*vnet.Packet)) { t.receive = f }

// Send implements Device: a queue that is full drops, as on Linux.
func (t *tapCard) Send(p *vnet.Packet) error {
	b := join(p.Slices)
	if !t.d.send(b, uint16(header.Ethernet(b).Type()), flowOf(b[ethLen:])) {
		return unix.ENOBUFS
	}
	return nil
}

// Kick implements Device.
func (*tapCard) Kick() {}

// OnWritable implements Device.
func (*tapCard) OnWritable(func()) {}

func (t *tapCard) deliver(b []byte, summed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.receive(&vnet.Packet{Slices: [][]byte{b}, CsumValid: summed})
}
