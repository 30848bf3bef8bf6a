package net

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"

	vnet "kiln/drivers/virtio/net"
	"kiln/kernel/mm"
)

// vlanExtra is VLAN_HLEN, which a frame may have over the interface's MTU until Linux looks
// whether it has a tag.
const vlanExtra = 4

// packetTarget is where a frame goes: the interface and, for SOCK_DGRAM, the rest of the
// link header.
type packetTarget struct {
	i     *iface
	proto uint16
	to    [6]byte
	blank bool // no address was given
	head  int  // of the interface's link header
	mtu   int
}

// target reads a destination, nil for what the socket is bound to: EINVAL, ENXIO, ENETDOWN.
func (x *packetSocket) target(name []byte) (t packetTarget, err error) {
	x.mu.Lock()
	nic := x.hook.nic
	t.proto = x.hook.proto
	x.mu.Unlock()
	if t.blank = name == nil; !t.blank {
		if len(name) < sizeLl || len(name) < int(name[11])+llAddrAt {
			return t, unix.EINVAL
		}
		t.proto, nic = binary.BigEndian.Uint16(name[2:]), tcpip.NICID(binary.LittleEndian.Uint32(name[4:]))
		copy(t.to[:], name[llAddrAt:])
	}
	if t.i = x.s.byIndex(nic); t.i == nil {
		return t, unix.ENXIO
	}
	if t.i.down.Load() {
		return t, unix.ENETDOWN
	}
	if t.i.eth != nil || t.i.lo != nil {
		t.head = ethLen
	}
	t.mtu = int(x.s.linkState(t.i).mtu)
	return t, nil
}

// frame makes room for a frame with size bytes of the program's, and says where they go.
func (x *packetSocket) frame(t *packetTarget, size int) (frame []byte, at int) {
	if x.typ == unix.SOCK_RAW || t.head == 0 {
		return make([]byte, size), 0
	}
	frame = append(make([]byte, 0, size+ethLen), t.to[:]...)
	frame = append(frame, x.s.linkState(t.i).mac...)
	frame = binary.BigEndian.AppendUint16(frame[:12], t.proto)
	return frame[:ethLen+size], ethLen
}

// Send implements Socket: EINVAL (address, a frame without its header), ENXIO (no
// interface), ENETDOWN, EMSGSIZE, ENOBUFS. With a ring it sends what is in that.
func (x *packetSocket) Send(_ *Caller, src *mm.IOSeq, m *SendMsg) (int, error) {
	m.Control.release()
	x.mu.Lock()
	ring, hdr := x.txRing != nil, x.vnet
	x.mu.Unlock()
	if ring {
		return x.sendRing(m)
	}
	t, err := x.target(m.Name)
	if err != nil {
		return 0, err
	}
	if m.Control.Bad != nil {
		return 0, m.Control.Bad
	}
	size, room, full := src.Len(), t.mtu, src.Len()
	var h vnetHdr
	if hdr {
		if size < vnetHdrSize {
			return 0, unix.EINVAL
		}
		if n, err := src.CopyIn(h[:]); err != nil || n < vnetHdrSize {
			return 0, unix.EFAULT
		}
		if size -= vnetHdrSize; !h.fits(size) {
			return 0, unix.EINVAL
		}
	}
	if x.typ == unix.SOCK_RAW {
		room += t.head
	}
	if h[1] == 0 && size > room || size > gsoMax+ethLen && h[1] != 0 {
		return 0, unix.EMSGSIZE
	}
	if t.blank && t.i.eth != nil && x.typ == unix.SOCK_DGRAM {
		return 0, unix.EINVAL // Ethernet wants to know where to
	}
	frame, at := x.frame(&t, size)
	if n, err := src.CopyIn(frame[at:]); err != nil || n < size {
		return 0, unix.EFAULT
	}
	if len(frame) < t.head {
		return 0, unix.EINVAL
	}
	if err := x.transmit(&t, frame, &h); err != nil {
		return 0, err
	}
	return full, nil
}

// Offloads in struct virtio_net_hdr (VIRTIO_NET_HDR_GSO_*).
const (
	vnetGSOTCP4 = 1
	vnetGSOTCP6 = 4
	vnetGSOECN  = 0x80
)

// fits says whether a header can be one of a frame of n bytes (__packet_snd_vnet_parse).
func (h *vnetHdr) fits(n int) bool {
	le := binary.LittleEndian
	if end := int(le.Uint16(h[6:])) + int(le.Uint16(h[8:])) + 2; h[0]&vnetNeedsCsum != 0 && end > int(le.Uint16(h[2:])) {
		le.PutUint16(h[2:], uint16(end))
	}
	return int(le.Uint16(h[2:])) <= n
}

// apply says in p what a header asks for: EINVAL. What is to be cut needs its checksum made
// (virtio_net_hdr_to_skb).
func (h *vnetHdr) apply(frame []byte, p *vnet.Packet) error {
	le := binary.LittleEndian
	if gso := h[1] &^ vnetGSOECN; h[1] != 0 {
		p.GSO = vnet.GSOTCP4
		if gso == vnetGSOTCP6 {
			p.GSO = vnet.GSOTCP6
		}
		if p.HdrLen, p.SegSize = le.Uint16(h[2:]), le.Uint16(h[4:]); gso != vnetGSOTCP4 && gso != vnetGSOTCP6 || p.SegSize == 0 || h[0]&vnetNeedsCsum == 0 {
			return unix.EINVAL
		}
	}
	if h[0]&vnetNeedsCsum == 0 {
		return nil
	}
	start, at := int(le.Uint16(h[6:])), int(le.Uint16(h[8:]))
	if start+at+2 > len(frame) {
		return unix.EINVAL
	}
	p.NeedsCsum, p.CsumStart, p.CsumOffset = true, uint16(start), uint16(at)
	return nil
}

// transmit sends a frame, with the interface's link header if it has one: EINVAL, ENOBUFS.
func (x *packetSocket) transmit(t *packetTarget, frame []byte, h *vnetHdr) error {
	p := vnet.Packet{}
	if err := h.apply(frame, &p); err != nil {
		return err
	}
	x.mu.Lock()
	hidden := x.bypass
	x.mu.Unlock()
	switch i := t.i; {
	case i.eth != nil:
		if p.GSO != vnet.GSONone && !i.eth.tso {
			return unix.EINVAL
		}
		if p.NeedsCsum && p.GSO == vnet.GSONone { // no card is needed for that
			putChecksum(frame[p.CsumStart:], int(p.CsumOffset))
			p.NeedsCsum = false
		}
		p.Slices = [][]byte{frame}
		if i.eth.sendPacket(&p, x, hidden) != nil {
			return unix.ENOBUFS
		}
	case i.lo != nil:
		i.lo.inject(frame, &p, x, hidden)
	default:
		if p.NeedsCsum {
			putChecksum(frame[p.CsumStart:], int(p.CsumOffset))
		}
		if !i.wire.send(frame, t.proto, flowOf(frame)) {
			return unix.ENOBUFS
		}
	}
	return nil
}

// sendRing sends the frames of the ring that the program has marked, until the next is not
// (tpacket_snd). A frame that cannot be sent ends that, or is passed over (PACKET_LOSS):
// EINVAL, EMSGSIZE.
func (x *packetSocket) sendRing(m *SendMsg) (int, error) {
	x.txMu.Lock()
	defer x.txMu.Unlock()
	r := x.txRing
	if r == nil {
		return 0, unix.EBUSY
	}
	t, err := x.target(m.Name)
	if err != nil {
		return 0, err
	}
	if m.Control.Bad != nil {
		return 0, m.Control.Bad
	}
	x.mu.Lock()
	o := ringSend{t: &t, loss: x.loss, hasOff: x.txHasOff, vnet: x.vnet, reserve: t.head}
	x.mu.Unlock()
	if x.typ == unix.SOCK_DGRAM {
		o.reserve = 0
	}
	o.most = int(r.frameSize) - (r.hdrlen - sizeLl)
	if line := t.mtu + o.reserve + vlanExtra; o.most > line && !o.vnet {
		o.most = line
	}
	// A program on another CPU could mark frames for ever; one turn of the ring is enough,
	// since it is asked for more by the next call.
	sum := 0
	for left := uint64(r.frameMax) + 1; left > 0; left-- {
		at := r.frame(r.head)
		if !r.is(at, tpStatusSendRequest) {
			break
		}
		n, err := x.sendFrame(r, at, &o)
		switch {
		case err == nil:
			r.set(at, tpStatusKernel)
			sum += n
		case o.loss:
			r.set(at, tpStatusKernel)
		default:
			r.set(at, tpStatusWrongFormat)
			return 0, err
		}
		x.mu.Lock()
		r.head = r.next(r.head)
		x.mu.Unlock()
	}
	x.q.Notify(waiter.WritableEvents)
	return sum, nil
}

// ringSend is what is the same for all frames of a call.
type ringSend struct {
	t                  *packetTarget
	loss, hasOff, vnet bool
	reserve, most      int
}

// sendFrame sends the frame of the ring at an offset, and says how long it was.
func (x *packetSocket) sendFrame(r *packetRing, at int64, o *ringSend) (int, error) {
	n, off, err := x.parseFrame(r, at, o)
	if err != nil {
		return 0, err
	}
	var h vnetHdr
	if o.vnet {
		if n < vnetHdrSize {
			return 0, unix.EINVAL
		}
		r.m.read(h[:], at+int64(off))
		off += vnetHdrSize
		if n -= vnetHdrSize; !h.fits(n) {
			return 0, unix.EINVAL
		}
	}
	frame, head := x.frame(o.t, n)
	r.m.read(frame[head:], at+int64(off))
	switch {
	case len(frame) < o.t.head, o.t.blank && o.t.i.eth != nil && x.typ == unix.SOCK_DGRAM:
		return 0, unix.EINVAL
	case n > o.t.mtu+o.reserve && !o.vnet, n > gsoMax+ethLen:
		return 0, unix.EMSGSIZE
	}
	r.set(at, tpStatusSending)
	if err := x.transmit(o.t, frame, &h); err == unix.EINVAL {
		return 0, err
	}
	return n, nil // a frame that the card drops has been sent
}

// parseFrame reads a frame's header: its length, and where the bytes are (tpacket_parse_header).
func (x *packetSocket) parseFrame(r *packetRing, at int64, o *ringSend) (n, off int, err error) {
	var h [maxTpacketHeaderSize]byte
	le := binary.LittleEndian
	r.m.read(h[:tpacketHeaderSize[r.version]], at)
	lenAt, macAt := 4, 12
	switch r.version {
	case tpacketV1:
		lenAt, macAt = 8, 16
	case tpacketV3:
		if le.Uint32(h[:]) != 0 {
			return 0, 0, unix.EINVAL // frames of any length cannot be sent
		}
		lenAt, macAt = 16, 24
	}
	n = int(int32(le.Uint32(h[lenAt:])))
	switch {
	case n > o.most:
		return 0, 0, unix.EMSGSIZE
	case n < 0: // Linux takes it for an error's number
		if n > -4096 {
			return 0, 0, unix.Errno(-n)
		}
		return 0, 0, unix.EINVAL
	}
	off = r.hdrlen - sizeLl
	if o.hasOff {
		least, most := off, int(r.frameSize)-n
		if x.typ == unix.SOCK_DGRAM {
			macAt += 2
		}
		if off = int(le.Uint16(h[macAt:])); off < least || off > most {
			return 0, 0, unix.EINVAL
		}
	}
	return n, off, nil
}
