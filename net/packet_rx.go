package net

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/waiter"

	vnet "kiln/drivers/virtio/net"
	"kiln/kernel/cbpf"
)

// vnetHdr is struct virtio_net_hdr (PACKET_VNET_HDR).
type vnetHdr [vnetHdrSize]byte

// vnetDataValid is VIRTIO_NET_HDR_F_DATA_VALID.
const vnetDataValid = 2

func (h *vnetHdr) needsCsum(start, at uint16) {
	h[0] = vnetNeedsCsum
	binary.LittleEndian.PutUint16(h[6:], start)
	binary.LittleEndian.PutUint16(h[8:], at)
}

// offloads says of a frame what is left to the card.
func (f *packetFrame) offloads(p *vnet.Packet) {
	if !p.NeedsCsum {
		return
	}
	f.status = tpStatusCsumNotReady
	f.vnet.needsCsum(p.CsumStart, p.CsumOffset)
	switch p.GSO {
	case vnet.GSOTCP4:
		f.vnet[1] = vnetGSOTCP4
	case vnet.GSOTCP6:
		f.vnet[1] = vnetGSOTCP6
	default:
		return
	}
	binary.LittleEndian.PutUint16(f.vnet[2:], p.HdrLen)
	binary.LittleEndian.PutUint16(f.vnet[4:], p.SegSize)
}

// frameTap is who is shown frames: a packet socket, or a group of them.
type frameTap interface {
	// see is shown a frame that from has sent, if a packet socket did.
	see(f *packetFrame, from *packetSocket)
}

// tap shows a frame to the packet sockets. The frame's bytes stay as they are.
func (s *Stack) tap(f packetFrame, from *packetSocket) {
	l := s.listTaps()
	if len(l) == 0 || len(f.b) < f.head {
		return
	}
	if f.head >= ethLen {
		f.proto = binary.BigEndian.Uint16(f.b[12:])
		copy(f.src[:], f.b[6:12])
	}
	f.whole, f.stamp = len(f.b), s.cfg.Machine.Walltime()
	for _, x := range l {
		x.see(&f, from)
	}
}

// packetHook says which frames a socket, or a group, is shown.
type packetHook struct {
	proto  uint16 // ETH_P_*, 0: nothing is received
	nic    tcpip.NICID
	silent bool // PACKET_IGNORE_OUTGOING
}

// wants says whether it is shown f. Those of one protocol do not see what goes out.
func (h *packetHook) wants(f *packetFrame) bool {
	out := f.kind == tcpip.PacketOutgoing
	switch {
	case h.proto == 0, h.nic != 0 && h.nic != f.nic:
		return false
	case h.proto == ethPAll:
		return !out || !h.silent
	}
	return h.proto == f.proto && !out
}

// see implements frameTap. What a socket sends itself it sees only as it comes in.
func (x *packetSocket) see(f *packetFrame, from *packetSocket) {
	if from == x && f.kind == tcpip.PacketOutgoing {
		return
	}
	x.mu.Lock()
	wants := x.hook.wants(f)
	x.mu.Unlock()
	if wants {
		x.receive(*f)
	}
}

// asSeen is a frame as a filter sees it.
func (f *packetFrame) asSeen(data []byte) *cbpf.Packet {
	return &cbpf.Packet{Data: data, Link: f.b, Net: f.b[f.head:], Proto: f.proto, Kind: packetKind(f.kind), Index: uint32(f.nic), HWType: f.hw}
}

// receive takes a frame that is wanted, if the filter lets it pass and there is room.
func (x *packetSocket) receive(f packetFrame) {
	all := f.b
	if x.typ == unix.SOCK_DGRAM {
		all = f.b[f.head:]
	}
	n := len(all)
	if p := x.filt.Load(); p != nil {
		var ok bool
		if n, ok = p.passes(f.asSeen(all)); !ok {
			return
		}
	}
	f.b, f.whole = all, len(all)
	x.mu.Lock()
	if !x.closed {
		if x.rxRing != nil {
			x.toRing(&f, n)
		} else {
			f.b = f.b[:n]
			x.enqueue(f)
		}
	}
	wake := x.wake
	x.wake = false
	x.mu.Unlock()
	if wake {
		x.q.Notify(waiter.ReadableEvents)
	}
}

// enqueue puts a frame into the queue that recvmsg reads. mu is held.
func (x *packetSocket) enqueue(f packetFrame) bool {
	cost := len(f.b) + frameExtra
	if x.bytes+cost > x.rcvbuf || !x.s.cfg.Budget.Charge(int64(cost)) {
		x.drops++
		return false
	}
	if cap(f.b)-len(f.b) > frameExtra/2 {
		f.b = bytes.Clone(f.b) // what the filter cuts off is not kept
	}
	x.packets++
	x.rx = append(x.rx, f)
	x.bytes += cost
	x.wake = true
	return true
}

// roomFor is what a socket has left: for its groups, and before a frame is put into a ring.
const (
	roomNone = iota
	roomLow
	roomNormal
)

// room says how much room there is (__packet_rcv_has_room). mu is held.
func (x *packetSocket) room(size int) int {
	r := x.rxRing
	if r == nil {
		switch left := x.rcvbuf - x.bytes - size - frameExtra; {
		case left > x.rcvbuf>>2:
			return roomNormal
		case left > 0:
			return roomLow
		}
		return roomNone
	}
	if k := r.blocks; k != nil {
		ours := func(i uint32) bool { return r.m.get32(k.block(i)+blockStatus) == tpStatusKernel }
		switch far := (k.active + k.r.blockNr>>2) % k.r.blockNr; {
		case ours(far):
			return roomNormal
		case ours(k.active):
			return roomLow
		}
		return roomNone
	}
	n := uint64(r.frameMax) + 1
	switch far := uint32((uint64(r.head) + n>>2) % n); {
	case r.is(r.frame(far), tpStatusKernel):
		return roomNormal
	case r.is(r.frame(r.head), tpStatusKernel):
		return roomLow
	}
	return roomNone
}

// toRing writes a frame of which n bytes pass into the ring (tpacket_rcv). mu is held.
func (x *packetSocket) toRing(f *packetFrame, n int) {
	r := x.rxRing
	if x.room(len(f.b)) == roomNone {
		x.drops++
		return
	}
	status := f.status | tpStatusUser
	mac, net := x.ringOffsets(f)
	hdr := x.vnet
	if net > 0xffff {
		x.drops++
		return
	}
	copied := false
	if k := r.blocks; k == nil {
		if mac+n > int(r.frameSize) {
			copied = x.copyThresh != 0 && x.bytes < x.rcvbuf
			if n = int(r.frameSize) - mac; n < 0 {
				n, hdr = 0, false
			}
		}
	} else if most := k.most(); mac+n > most {
		if n = most - mac; n < 0 {
			n, mac, hdr = 0, most, false
		}
	}
	at, ok := x.ringSlot(mac + n)
	if !ok {
		x.drops++
		x.wake = true
		return
	}
	if r.blocks == nil && x.drops > 0 {
		status |= tpStatusLosing
	}
	x.packets++
	if copied {
		x.packets--
		if x.enqueue(*f) {
			status |= tpStatusCopy
		} else {
			x.packets++
			x.drops--
		}
	}
	if x.opt.timestamp.Load() || x.opt.timestampNS.Load() {
		status |= tpStatusTSSoftware
	}
	if hdr {
		r.m.write(at+int64(mac)-vnetHdrSize, f.vnet[:])
	}
	r.m.write(at+int64(mac), f.b[:n])
	x.ringHeader(at, f, n, mac, net, status)
}

// ringOffsets is where in a frame of the ring the link and the network header go.
func (x *packetSocket) ringOffsets(f *packetFrame) (mac, net int) {
	hdrlen, reserve := x.rxRing.hdrlen, int(x.reserve)
	if x.typ == unix.SOCK_DGRAM {
		net = align(hdrlen, tpacketAlignment) + 16 + reserve
		return net, net
	}
	net = align(hdrlen+max(f.head, 16), tpacketAlignment) + reserve
	if x.vnet {
		net += vnetHdrSize
	}
	return net - f.head, net
}

// ringSlot is the place for a frame that takes size bytes with its header; false: none.
func (x *packetSocket) ringSlot(size int) (int64, bool) {
	r := x.rxRing
	if r.blocks != nil {
		return r.blocks.room(size)
	}
	at := r.frame(r.head)
	if !r.is(at, tpStatusKernel) {
		return 0, false
	}
	r.head = r.next(r.head)
	x.wake = true
	return at, true
}

// ringHeader writes a frame's header, its address and at last its status.
func (x *packetSocket) ringHeader(at int64, f *packetFrame, n, mac, net int, status uint32) {
	r, le := x.rxRing, binary.LittleEndian
	var h [maxTpacketHeaderSize]byte
	size := tpacketHeaderSize[r.version]
	sec, ns := uint32(f.stamp/1e9), uint32(f.stamp%1e9)
	switch r.version {
	case tpacketV3: // tp_next_offset has been written
		le.PutUint32(h[4:], sec)
		le.PutUint32(h[8:], ns)
		le.PutUint32(h[12:], uint32(n))
		le.PutUint32(h[16:], uint32(f.whole))
		le.PutUint32(h[20:], status)
		le.PutUint16(h[24:], uint16(mac))
		le.PutUint16(h[26:], uint16(net))
		r.m.write(at+4, h[4:size])
		r.blocks.stamp = f.stamp
	case tpacketV2:
		le.PutUint32(h[4:], uint32(f.whole))
		le.PutUint32(h[8:], uint32(n))
		le.PutUint16(h[12:], uint16(mac))
		le.PutUint16(h[14:], uint16(net))
		le.PutUint32(h[16:], sec)
		le.PutUint32(h[20:], ns)
		r.m.write(at+4, h[4:size])
	default:
		le.PutUint32(h[8:], uint32(f.whole))
		le.PutUint32(h[12:], uint32(n))
		le.PutUint16(h[16:], uint16(mac))
		le.PutUint16(h[18:], uint16(net))
		le.PutUint32(h[20:], sec)
		le.PutUint32(h[24:], ns/1000)
		r.m.write(at+8, h[8:size])
	}
	r.m.write(at+int64(size), f.address())
	if r.version != tpacketV3 {
		r.set(at, status)
	}
}

// ringReady says whether poll finds something in the receiving ring: what was filled last
// has not been given back. mu is held.
func (r *packetRing) ringReady() bool {
	if k := r.blocks; k != nil {
		last := k.active
		if last == 0 {
			last = k.r.blockNr
		}
		return r.m.get32(k.block(last-1)+blockStatus) != tpStatusKernel
	}
	return !r.is(r.frame(r.previous(r.head)), tpStatusKernel)
}

// address is the frame's struct sockaddr_ll.
func (f *packetFrame) address() []byte {
	b := make([]byte, sizeLl)
	binary.LittleEndian.PutUint16(b, unix.AF_PACKET)
	binary.BigEndian.PutUint16(b[2:], f.proto)
	binary.LittleEndian.PutUint32(b[4:], uint32(f.nic))
	binary.LittleEndian.PutUint16(b[8:], f.hw)
	b[10] = packetKind(f.kind)
	if f.head >= ethLen {
		b[11] = 6
		copy(b[llAddrAt:], f.src[:])
	}
	return b
}

// partialSum makes a packet that netstack left without its TCP or UDP checksum look as one
// of Linux's does that leaves it to the card: the field has the pseudo-header's sum. It
// says where the sum begins and goes; false: nothing is left to do.
func partialSum(ip []byte) (start, at int, ok bool) {
	var proto byte
	var src, dst tcpip.Address
	switch {
	case len(ip) >= header.IPv4MinimumSize && ip[0]>>4 == 4:
		h := header.IPv4(ip)
		start, proto, src, dst = int(h.HeaderLength()), h.Protocol(), h.SourceAddress(), h.DestinationAddress()
		if h.More() || h.FragmentOffset() != 0 {
			return 0, 0, false
		}
	case len(ip) >= header.IPv6MinimumSize && ip[0]>>4 == 6:
		h := header.IPv6(ip)
		start, proto, src, dst = header.IPv6MinimumSize, h.NextHeader(), h.SourceAddress(), h.DestinationAddress()
	default:
		return 0, 0, false
	}
	switch proto {
	case unix.IPPROTO_TCP:
		at = header.TCPChecksumOffset
	case unix.IPPROTO_UDP:
		at = 6
	default:
		return 0, 0, false
	}
	if start+at+2 > len(ip) || ip[start+at] != 0 || ip[start+at+1] != 0 {
		return 0, 0, false
	}
	sum := header.PseudoHeaderChecksum(tcpip.TransportProtocolNumber(proto), src, dst, uint16(len(ip)-start))
	binary.BigEndian.PutUint16(ip[start+at:], sum)
	return start, at, true
}
