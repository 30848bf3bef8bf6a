package net

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

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
		return x.setPacket(name, v)
	}
	return unix.ENOPROTOOPT
}

func (x *packetSocket) setSocket(c *Caller, name int, v []byte) error {
	switch name {
	case unix.SO_ATTACH_FILTER:
		f, err := readFilter(c, v)
		if err == nil && x.opt.filterLock.Load() {
			err = unix.EPERM
		}
		if err == nil {
			x.mu.Lock()
			x.filter = f
			x.mu.Unlock()
		}
		return err
	case unix.SO_DETACH_FILTER:
		x.mu.Lock()
		defer x.mu.Unlock()
		switch {
		case x.opt.filterLock.Load():
			return unix.EPERM
		case x.filter == nil:
			return unix.ENOENT
		}
		x.filter = nil
		return nil
	}
	if err := x.setPlain(c, name, v, x.sizes()); err != errNotHere {
		return err
	}
	return notPlain(name)
}

func (x *packetSocket) sizes() queueSizes { return queueSizes{&x.mu, &x.sndbuf, &x.rcvbuf, 16 << 20} }

// setPacket serves SOL_PACKET: EINVAL, ENODEV, ENOPROTOOPT for rings and fan-out.
func (x *packetSocket) setPacket(name int, v []byte) error {
	switch name {
	case unix.PACKET_ADD_MEMBERSHIP, unix.PACKET_DROP_MEMBERSHIP:
		return x.membership(name == unix.PACKET_ADD_MEMBERSHIP, v)
	}
	n, err := intArg(v)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch name {
	case unix.PACKET_AUXDATA:
		x.auxdata = n != 0
	case unix.PACKET_ORIGDEV:
		x.origdev = n != 0
	default:
		return unix.ENOPROTOOPT
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
	if binary.LittleEndian.Uint16(v[6:]) > 8 {
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
func (x *packetSocket) GetOption(_ *Caller, level, name, n int) ([]byte, error) {
	switch level {
	case unix.SOL_SOCKET:
		if b := x.getPlain(name, x.sizes()); b != nil {
			return b, nil
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		switch name {
		case unix.SO_ERROR:
			e, _ := x.err.(unix.Errno)
			x.err = nil
			return intVal(int(e)), nil
		case unix.SO_ACCEPTCONN:
			return intVal(0), nil
		case unix.SO_COOKIE:
			return binary.LittleEndian.AppendUint64(nil, x.ino), nil
		}
		return nil, notPlain(name)
	case unix.SOL_PACKET:
		x.mu.Lock()
		defer x.mu.Unlock()
		switch name {
		case unix.PACKET_STATISTICS: // struct tpacket_stats
			b := append(le32(x.packets), le32(x.drops)...)
			x.packets, x.drops = 0, 0
			return b, nil
		case unix.PACKET_AUXDATA:
			return boolVal(x.auxdata), nil
		case unix.PACKET_ORIGDEV:
			return boolVal(x.origdev), nil
		}
	}
	return nil, unix.ENOPROTOOPT
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
	return x.s.ioctl(c, sp, req, arg)
}

// loopbackHeader is what stands before a packet of the loopback, which has no link
// header in netstack: Ethernet's, with addresses of zeros.
func loopbackHeader(proto tcpip.NetworkProtocolNumber) []byte {
	b := make([]byte, ethLen)
	binary.BigEndian.PutUint16(b[12:], uint16(proto))
	return b
}

// show lets packet sockets see a packet on its way through the loopback: going out, then
// coming in.
func (l *loopback) show(pkt *stack.PacketBuffer) {
	if l.s.taps.Load() == nil {
		return
	}
	pieces := append([][]byte{loopbackHeader(pkt.NetworkProtocolNumber)}, pkt.AsSlices()...)
	l.s.tap(loopbackNIC, pieces, ethLen, tcpip.PacketOutgoing, 0)
	l.s.tap(loopbackNIC, pieces, ethLen, tcpip.PacketHost, tpStatusCsumValid)
}

// inject turns a packet socket's frame around.
func (l *loopback) inject(frame []byte) {
	l.s.tap(loopbackNIC, [][]byte{frame}, ethLen, tcpip.PacketOutgoing, 0)
	l.s.tap(loopbackNIC, [][]byte{frame}, ethLen, tcpip.PacketHost, 0)
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
