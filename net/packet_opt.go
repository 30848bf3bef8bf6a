package net

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	vnet "kiln/drivers/virtio/net"
	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// SetOption implements Socket.
func (x *packetSocket) SetOption(c *Caller, level, name int, v []byte) error {
	switch level {
	case unix.SOL_SOCKET:
		return x.setSocket(c, name, v)
	case unix.SOL_PACKET:
		return x.setPacket(c, name, v)
	}
	return unix.ENOPROTOOPT
}

func (x *packetSocket) setSocket(c *Caller, name int, v []byte) error {
	if name == unix.SO_BINDTODEVICE {
		return x.bindToDevice(x.s, c, cstring(v))
	}
	if err := x.setPlain(c, name, v, x.sizes()); err != errNotHere {
		return err
	}
	return notPlain(name)
}

func (x *packetSocket) sizes() queueSizes { return queueSizes{&x.mu, &x.sndbuf, &x.rcvbuf, 16 << 20} }

// Options that x/sys/unix has no name for, or that are longer than an int.
const (
	packetVnetHdr        = 15 // PACKET_VNET_HDR
	packetRolloverStats  = 21
	packetFanoutData     = 22
	packetIgnoreOutgoing = 23
)

// packetOptSize is how long the int of an option must be: exactly, or at least, four
// bytes; 0 for those that are no int.
func packetOptSize(name int) (exact, least int) {
	switch name {
	case unix.PACKET_AUXDATA, unix.PACKET_ORIGDEV, packetVnetHdr:
		return 0, 4
	case unix.PACKET_COPY_THRESH, unix.PACKET_VERSION, unix.PACKET_RESERVE, unix.PACKET_LOSS, unix.PACKET_TIMESTAMP,
		packetIgnoreOutgoing, unix.PACKET_TX_HAS_OFF, unix.PACKET_QDISC_BYPASS:
		return 4, 4
	}
	return 0, 0
}

// Unread is the error of an option whose value cannot be read: Linux looks at the name and
// the length first. nil: at nothing that speaks against it.
func (x *packetSocket) Unread(level, name, size int) error {
	if level != unix.SOL_PACKET {
		return unix.ENOPROTOOPT
	}
	exact, least := packetOptSize(name)
	switch {
	case name == packetVnetHdr && x.typ != unix.SOCK_RAW:
		return unix.EINVAL
	case least > 0 && (size < least || exact > 0 && size != exact):
		return unix.EINVAL
	case least > 0:
		return nil
	}
	switch name {
	case unix.PACKET_ADD_MEMBERSHIP, unix.PACKET_DROP_MEMBERSHIP:
		least = 16
	case unix.PACKET_RX_RING, unix.PACKET_TX_RING:
		return unix.EINVAL
	case unix.PACKET_FANOUT:
		if size != 4 && size != sizeFanoutArgs {
			return unix.EINVAL
		}
	case packetFanoutData:
		x.mu.Lock()
		g := x.fanout
		x.mu.Unlock()
		switch {
		case g == nil || g.kind != unix.PACKET_FANOUT_CBPF && g.kind != unix.PACKET_FANOUT_EBPF:
			return unix.EINVAL
		case g.kind == unix.PACKET_FANOUT_EBPF && x.opt.filterLock.Load():
			return unix.EPERM
		case g.kind == unix.PACKET_FANOUT_CBPF && size != sizeFprog, g.kind == unix.PACKET_FANOUT_EBPF && size != 4:
			return unix.EINVAL
		}
	default:
		return unix.ENOPROTOOPT
	}
	if size < least {
		return unix.EINVAL
	}
	return nil
}

// setPacket serves SOL_PACKET: EINVAL, ENODEV, EBUSY (there are rings), ENOPROTOOPT.
func (x *packetSocket) setPacket(c *Caller, name int, v []byte) error {
	switch name {
	case unix.PACKET_RX_RING, unix.PACKET_TX_RING:
		return x.setRing(name == unix.PACKET_TX_RING, v)
	case packetFanoutData:
		return x.fanoutData(c, v)
	}
	if err := x.Unread(unix.SOL_PACKET, name, len(v)); err != nil {
		return err
	}
	switch name {
	case unix.PACKET_ADD_MEMBERSHIP, unix.PACKET_DROP_MEMBERSHIP:
		return x.membership(name == unix.PACKET_ADD_MEMBERSHIP, v)
	case unix.PACKET_FANOUT:
		return x.joinFanout(v)
	}
	n, err := intArg(v)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.setPacketInt(name, n)
}

// setPacketInt sets an option that is an int. mu is held.
func (x *packetSocket) setPacketInt(name int, n int32) error {
	switch name { // what is wrong whether or not there are rings
	case unix.PACKET_VERSION:
		if n < tpacketV1 || n > tpacketV3 {
			return unix.EINVAL
		}
	case unix.PACKET_RESERVE:
		if n < 0 {
			return unix.EINVAL
		}
	case packetIgnoreOutgoing:
		if n < 0 || n > 1 {
			return unix.EINVAL
		}
		x.hook.silent = n == 1
		return nil
	}
	switch name { // what goes with rings
	case unix.PACKET_AUXDATA:
		x.auxdata = n != 0
		return nil
	case unix.PACKET_ORIGDEV:
		x.origdev = n != 0
		return nil
	case unix.PACKET_COPY_THRESH:
		x.copyThresh = n
		return nil
	case unix.PACKET_TIMESTAMP:
		x.timestamp = n
		return nil
	case unix.PACKET_QDISC_BYPASS:
		x.bypass = n != 0
		return nil
	case unix.PACKET_TX_HAS_OFF:
		if x.ring == nil {
			x.txHasOff = n != 0
		}
		return nil
	}
	if x.ring != nil {
		return unix.EBUSY
	}
	switch name {
	case unix.PACKET_VERSION:
		x.version = int(n)
	case unix.PACKET_RESERVE:
		x.reserve = uint32(n)
	case unix.PACKET_LOSS:
		x.loss = n != 0
	case packetVnetHdr:
		x.vnet = n != 0
	}
	return nil
}

// maxMembers bounds a socket's memberships.
const maxMembers = 64

// membership serves struct packet_mreq.
func (x *packetSocket) membership(add bool, v []byte) error {
	if len(v) < 16 {
		return unix.EINVAL
	}
	m := packetMember{nic: tcpip.NICID(binary.LittleEndian.Uint32(v)), kind: binary.LittleEndian.Uint16(v[4:]), addr: [8]byte(v[8:16])}
	if len(v) < int(binary.LittleEndian.Uint16(v[6:]))+8 {
		return unix.EINVAL
	}
	if add && x.s.byIndex(m.nic) == nil {
		return unix.ENODEV
	}
	if m.kind > unix.PACKET_MR_UNICAST {
		return unix.EINVAL
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if add {
		if len(x.members) >= maxMembers {
			return unix.ENOBUFS
		}
		x.members = append(x.members, m)
		x.promiscuous(m, 1)
		return nil
	}
	at := slices.Index(x.members, m)
	if at < 0 {
		return nil // it wants what it has
	}
	x.members = slices.Delete(x.members, at, at+1)
	x.promiscuous(m, -1)
	return nil
}

// GetOption implements Socket.
func (x *packetSocket) GetOption(c *Caller, level, name, n int) ([]byte, error) {
	switch level {
	case unix.SOL_SOCKET:
		if name == unix.SO_GET_FILTER {
			return x.getFilter(n)
		}
		if b := x.getPlain(name, x.sizes()); b != nil {
			return b, nil
		}
		if b, err, ok := getAny(x, name, n); ok {
			return b, err
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		switch name {
		case unix.SO_ERROR:
			return soError(&x.err), nil
		case unix.SO_ACCEPTCONN:
			return intVal(0), nil
		}
		return x.getNobody(x.s, name, n, x.sizes().held())
	case unix.SOL_PACKET:
		return x.getPacket(c, name, n)
	}
	return nil, unix.ENOPROTOOPT
}

// getPacket serves SOL_PACKET. PACKET_HDRLEN asks with the value: EINVAL, EFAULT.
func (x *packetSocket) getPacket(c *Caller, name, room int) ([]byte, error) {
	if name == unix.PACKET_HDRLEN {
		var b [4]byte
		if room < len(b) {
			return nil, unix.EINVAL
		}
		if _, err := c.Space.CopyIn(c.C, b[:], c.OptVal); err != nil {
			return nil, err
		}
		v := binary.LittleEndian.Uint32(b[:])
		if v > tpacketV3 {
			return nil, unix.EINVAL
		}
		return intVal(tpacketHeaderSize[v]), nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	flags := map[int]bool{
		unix.PACKET_AUXDATA: x.auxdata, unix.PACKET_ORIGDEV: x.origdev, packetVnetHdr: x.vnet, unix.PACKET_LOSS: x.loss,
		packetIgnoreOutgoing: x.hook.silent, unix.PACKET_TX_HAS_OFF: x.txHasOff, unix.PACKET_QDISC_BYPASS: x.bypass,
	}
	if on, ok := flags[name]; ok {
		return boolVal(on), nil
	}
	switch name {
	case unix.PACKET_STATISTICS:
		return x.statistics(), nil
	case unix.PACKET_VERSION:
		return intVal(x.version), nil
	case unix.PACKET_RESERVE:
		return intVal(int(x.reserve)), nil
	case unix.PACKET_TIMESTAMP:
		return intVal(int(x.timestamp)), nil
	case unix.PACKET_FANOUT:
		return intVal(x.fanout.value()), nil
	case packetRolloverStats: // struct tpacket_rollover_stats
		r := x.rollover
		if r == nil {
			return nil, unix.EINVAL
		}
		b := binary.LittleEndian.AppendUint64(nil, r.all)
		b = binary.LittleEndian.AppendUint64(b, r.huge)
		return binary.LittleEndian.AppendUint64(b, r.failed), nil
	}
	return nil, unix.ENOPROTOOPT
}

// statistics is struct tpacket_stats, or tpacket_stats_v3, since it was asked for last. mu
// is held.
func (x *packetSocket) statistics() []byte {
	b := append(le32(x.packets+x.drops), le32(x.drops)...)
	x.packets, x.drops = 0, 0
	if x.version == tpacketV3 {
		freezes := uint32(0)
		if x.rxRing != nil && x.rxRing.blocks != nil {
			freezes, x.rxRing.blocks.freezes = x.rxRing.blocks.freezes, 0
		}
		b = append(b, le32(freezes)...)
	}
	return b
}

// Ioctl implements vfs.FileOps.
func (x *packetSocket) Ioctl(c wait.Context, _ *vfs.File, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	switch req {
	case fionread:
		x.mu.Lock()
		n := 0
		if len(x.rx) > 0 {
			n = len(x.rx[0].b)
		}
		x.mu.Unlock()
		return 0, putInt(c, sp, arg, n)
	case unix.TIOCOUTQ:
		return 0, putInt(c, sp, arg, 0)
	}
	return x.s.ioctl(c, sp, x.domain, req, arg)
}

// show lets packet sockets see a packet on its way through the loopback, with Ethernet's
// header and addresses of zeros: going out, then coming in. Like Linux's it has no checksum.
func (l *loopback) show(pkt *stack.PacketBuffer) {
	if l.s.taps.Load() == nil {
		return
	}
	b := make([]byte, ethLen, ethLen+pkt.Size())
	binary.BigEndian.PutUint16(b[12:], uint16(pkt.NetworkProtocolNumber))
	for _, p := range pkt.AsSlices() {
		b = append(b, p...)
	}
	f := packetFrame{b: b}
	if start, at, ok := partialSum(b[ethLen:]); ok {
		f.status = tpStatusCsumNotReady
		f.vnet.needsCsum(uint16(ethLen+start), uint16(at))
	}
	l.bothWays(f, nil, false)
}

// bothWays shows a frame as it goes out, unless that is hidden, and as it comes in.
func (l *loopback) bothWays(f packetFrame, from *packetSocket, hidden bool) {
	f.head, f.hw, f.nic, f.kind = ethLen, unix.ARPHRD_LOOPBACK, loopbackNIC, tcpip.PacketOutgoing
	if !hidden {
		l.s.tap(f, from)
	}
	f.kind = tcpip.PacketHost
	l.s.tap(f, from)
}

// inject turns a packet socket's frame around.
func (l *loopback) inject(frame []byte, p *vnet.Packet, from *packetSocket, hidden bool) {
	f := packetFrame{b: frame}
	f.offloads(p)
	l.bothWays(f, from, hidden)
	d := l.dispatcher.Load()
	if d == nil {
		return
	}
	slot := l.s.rx.admit(len(frame))
	if slot == nil {
		l.dropped.Add(1)
		return
	}
	in := stack.NewPacketBuffer(stack.PacketBufferOptions{
		Payload: buffer.MakeWithData(frame[ethLen:]), OnRelease: slot.release})
	(*d).DeliverNetworkPacket(tcpip.NetworkProtocolNumber(binary.BigEndian.Uint16(frame[12:])), in)
	in.DecRef()
}
