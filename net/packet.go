package net

import (
	"encoding/binary"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// packetSocket is AF_PACKET: frames as they come and go (SOCK_RAW), or what is in them
// (SOCK_DGRAM). There are no rings (PACKET_RX_RING). See packet(7).
type packetSocket struct {
	base
	q waiter.Queue

	mu      sync.Mutex
	proto   uint16 // ETH_P_*, 0: nothing is received
	nic     tcpip.NICID
	rx      []packetFrame
	bytes   int
	rcvbuf  int
	sndbuf  int
	packets uint32 // since PACKET_STATISTICS was read
	drops   uint32
	filter  *filter
	members []packetMember
	auxdata bool
	origdev bool
	err     error
	closed  bool
}

// packetFrame is one received frame. head is how long its link header is.
type packetFrame struct {
	b      []byte
	head   int
	whole  int // before the filter cut it
	proto  uint16
	nic    tcpip.NICID
	kind   tcpip.PacketType
	src    [6]byte
	stamp  int64
	status uint32 // TP_STATUS_*
}

// packetMember is one PACKET_ADD_MEMBERSHIP.
type packetMember struct {
	nic  tcpip.NICID
	kind uint16
	addr [8]byte
}

const (
	sizeLl     = 20 // struct sockaddr_ll
	llAddrAt   = 12
	ethPAll    = 3 // ETH_P_ALL
	packetBuf  = 212992
	frameExtra = 512 // what a frame takes of the receive buffer beside its bytes

	// Statuses of struct tpacket_auxdata.
	tpStatusUser         = 1
	tpStatusCsumNotReady = 8
	tpStatusCsumValid    = 128
)

func (s *Stack) packetSocket(c *Caller, typ, protocol int) (Socket, error) {
	if !c.capable(capNetRaw) {
		return nil, unix.EPERM
	}
	if typ != unix.SOCK_RAW && typ != unix.SOCK_DGRAM {
		return nil, unix.ESOCKTNOSUPPORT
	}
	if !s.cfg.Budget.Charge(sockCost) {
		return nil, unix.ENOBUFS
	}
	x := &packetSocket{proto: swap16(uint16(protocol)), rcvbuf: packetBuf, sndbuf: packetBuf}
	x.base = base{s: s, domain: unix.AF_PACKET, typ: int32(typ), pro: int32(protocol), uid: c.ucred().UID}
	s.register(&x.base, x)
	s.tapMu.Lock()
	s.setTaps(append(slices.Clone(s.listTaps()), x))
	s.tapMu.Unlock()
	return x, nil
}

func swap16(v uint16) uint16 { return v<<8 | v>>8 }

func (s *Stack) listTaps() []*packetSocket {
	if p := s.taps.Load(); p != nil {
		return *p
	}
	return nil
}

// setTaps replaces the list of packet sockets, which is nil while there are none: one
// load is what they cost then. tapMu is held.
func (s *Stack) setTaps(l []*packetSocket) {
	if len(l) == 0 {
		s.taps.Store(nil)
		return
	}
	s.taps.Store(&l)
	s.unfuse()
}

// tap shows a frame, in pieces, to the packet sockets. Those of one protocol do not see
// what goes out. head is the length of the link header in it.
func (s *Stack) tap(nic tcpip.NICID, pieces [][]byte, head int, kind tcpip.PacketType, status uint32) {
	l := s.listTaps()
	if len(l) == 0 {
		return
	}
	var b []byte
	for _, p := range pieces {
		b = append(b, p...)
	}
	if len(b) < head || head < ethLen {
		return
	}
	f := packetFrame{b: b, head: head, whole: len(b), proto: binary.BigEndian.Uint16(b[12:]), nic: nic, kind: kind,
		stamp: s.cfg.Machine.Walltime(), status: status}
	copy(f.src[:], b[6:12])
	for _, x := range l {
		x.deliver(f)
	}
}

// deliver queues a frame, unless it is not wanted or there is no room.
func (x *packetSocket) deliver(f packetFrame) {
	x.mu.Lock()
	all := x.proto == ethPAll
	if x.closed || x.nic != 0 && x.nic != f.nic || !all && (x.proto != f.proto || f.kind == tcpip.PacketOutgoing) || x.proto == 0 {
		x.mu.Unlock()
		return
	}
	if x.typ == unix.SOCK_DGRAM {
		f.b, f.whole = f.b[f.head:], f.whole-f.head
	}
	if x.filter != nil {
		n := x.filter.passes(f.b)
		if n == 0 {
			x.mu.Unlock()
			return
		}
		f.b = f.b[:n]
	}
	x.packets++
	ok := x.bytes+len(f.b)+frameExtra <= x.rcvbuf && x.s.cfg.Budget.Charge(int64(len(f.b)+frameExtra))
	if ok {
		x.rx = append(x.rx, f)
		x.bytes += len(f.b) + frameExtra
	} else {
		x.drops++
	}
	x.mu.Unlock()
	if ok {
		x.q.Notify(waiter.ReadableEvents)
	}
}

// Bind implements Socket: to an interface and a protocol. EINVAL, ENODEV.
func (x *packetSocket) Bind(_ *Caller, b []byte) error {
	if len(b) < sizeLl || familyOf(b) != unix.AF_PACKET {
		return unix.EINVAL
	}
	proto, nic := binary.BigEndian.Uint16(b[2:]), tcpip.NICID(binary.LittleEndian.Uint32(b[4:]))
	i := x.s.byIndex(nic)
	if nic != 0 && i == nil {
		return unix.ENODEV
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if proto != 0 {
		x.proto = proto
	}
	x.nic = nic
	if i != nil && i.down.Load() {
		x.err = unix.ENETDOWN
	}
	return nil
}

// Connect implements Socket.
func (x *packetSocket) Connect(*Caller, []byte) error { return unix.EOPNOTSUPP }

// Shutdown implements Socket.
func (x *packetSocket) Shutdown(int) error { return unix.EOPNOTSUPP }

// PeerName implements Socket.
func (x *packetSocket) PeerName() ([]byte, error) { return nil, unix.EOPNOTSUPP }

// SockName implements Socket: as long as the link's addresses are.
func (x *packetSocket) SockName() ([]byte, error) {
	x.mu.Lock()
	proto, nic := x.proto, x.nic
	x.mu.Unlock()
	b := make([]byte, llAddrAt, sizeLl)
	binary.LittleEndian.PutUint16(b, unix.AF_PACKET)
	binary.BigEndian.PutUint16(b[2:], proto)
	binary.LittleEndian.PutUint32(b[4:], uint32(nic))
	if i := x.s.byIndex(nic); i != nil {
		l := x.s.linkState(i)
		binary.LittleEndian.PutUint16(b[8:], l.hwType)
		b[11] = byte(len(l.mac))
		b = append(b, l.mac...)
	}
	return b, nil
}

// packetKind is sll_pkttype.
func packetKind(k tcpip.PacketType) byte {
	switch k {
	case tcpip.PacketBroadcast:
		return unix.PACKET_BROADCAST
	case tcpip.PacketMulticast:
		return unix.PACKET_MULTICAST
	case tcpip.PacketOtherHost:
		return unix.PACKET_OTHERHOST
	case tcpip.PacketOutgoing:
		return unix.PACKET_OUTGOING
	}
	return unix.PACKET_HOST
}

// Read implements vfs.FileOps.
func (x *packetSocket) Read(_ wait.Context, _ *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	return x.Recv(nil, dst, &RecvMsg{})
}

// Write implements vfs.FileOps.
func (x *packetSocket) Write(_ wait.Context, _ *vfs.File, src *mm.IOSeq, _ int64) (int, error) {
	return x.Send(nil, src, &SendMsg{})
}

// Recv implements Socket.
func (x *packetSocket) Recv(_ *Caller, dst *mm.IOSeq, m *RecvMsg) (int, error) {
	if m.Flags&^(unix.MSG_PEEK|unix.MSG_DONTWAIT|unix.MSG_TRUNC|unix.MSG_ERRQUEUE) != 0 {
		return 0, unix.EINVAL
	}
	x.mu.Lock()
	if err := x.err; err != nil {
		x.err = nil
		x.mu.Unlock()
		return 0, err
	}
	if len(x.rx) == 0 || m.Flags&unix.MSG_ERRQUEUE != 0 {
		x.mu.Unlock()
		return 0, unix.EAGAIN
	}
	f := x.rx[0]
	if m.Flags&unix.MSG_PEEK == 0 {
		x.rx[0] = packetFrame{}
		x.rx = x.rx[1:]
		x.bytes -= len(f.b) + frameExtra
		x.s.cfg.Budget.Uncharge(int64(len(f.b) + frameExtra))
	}
	aux := x.auxdata
	x.mu.Unlock()
	m.Full = len(f.b)
	if len(f.b) > dst.Len() {
		m.OutFlags |= unix.MSG_TRUNC
	}
	x.opt.stamp.Store(f.stamp)
	x.name(m, f)
	if m.WantControl {
		x.control(m, f, aux)
	}
	return dst.CopyOut(f.b[:min(len(f.b), dst.Len())])
}

func (x *packetSocket) name(m *RecvMsg, f packetFrame) {
	b := make([]byte, sizeLl)
	binary.LittleEndian.PutUint16(b, unix.AF_PACKET)
	binary.BigEndian.PutUint16(b[2:], f.proto)
	binary.LittleEndian.PutUint32(b[4:], uint32(f.nic))
	binary.LittleEndian.PutUint16(b[8:], unix.ARPHRD_ETHER)
	if i := x.s.byIndex(f.nic); i != nil {
		binary.LittleEndian.PutUint16(b[8:], x.s.linkState(i).hwType)
	}
	b[10], b[11] = packetKind(f.kind), 6
	copy(b[llAddrAt:], f.src[:])
	m.setName(b)
}

func (x *packetSocket) control(m *RecvMsg, f packetFrame, aux bool) {
	switch {
	case x.opt.timestampNS.Load():
		b := binary.LittleEndian.AppendUint64(nil, uint64(f.stamp/1e9))
		b = binary.LittleEndian.AppendUint64(b, uint64(f.stamp%1e9))
		m.Control.Msgs = append(m.Control.Msgs, Cmsg{unix.SOL_SOCKET, x.opt.stampType(unix.SO_TIMESTAMPNS, unix.SO_TIMESTAMPNS_NEW), b})
	case x.opt.timestamp.Load():
		m.Control.Msgs = append(m.Control.Msgs, Cmsg{unix.SOL_SOCKET, x.opt.stampType(unix.SO_TIMESTAMP, unix.SO_TIMESTAMP_NEW), timevalBytes(f.stamp)})
	}
	if aux { // struct tpacket_auxdata
		b := make([]byte, 20)
		binary.LittleEndian.PutUint32(b, f.status|tpStatusUser)
		binary.LittleEndian.PutUint32(b[4:], uint32(f.whole))
		binary.LittleEndian.PutUint32(b[8:], uint32(len(f.b)))
		if x.typ == unix.SOCK_RAW {
			binary.LittleEndian.PutUint16(b[14:], uint16(f.head))
		}
		m.Control.Msgs = append(m.Control.Msgs, Cmsg{unix.SOL_PACKET, unix.PACKET_AUXDATA, b})
	}
}

// Send implements Socket: EINVAL (address, a frame without its header), ENXIO (no
// interface), ENETDOWN, EMSGSIZE, ENOBUFS.
func (x *packetSocket) Send(_ *Caller, src *mm.IOSeq, m *SendMsg) (int, error) {
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EINVAL
	}
	m.Control.release()
	if m.Control.Bad != nil {
		return 0, m.Control.Bad
	}
	x.mu.Lock()
	proto, nic := x.proto, x.nic
	x.mu.Unlock()
	var to [6]byte
	if m.Name != nil {
		if len(m.Name) < llAddrAt {
			return 0, unix.EINVAL
		}
		halen := int(m.Name[11])
		if len(m.Name) < halen+llAddrAt {
			return 0, unix.EINVAL
		}
		proto, nic = binary.BigEndian.Uint16(m.Name[2:]), tcpip.NICID(binary.LittleEndian.Uint32(m.Name[4:]))
		if halen > 8 || x.typ == unix.SOCK_DGRAM && halen < 6 {
			return 0, unix.EINVAL
		}
		copy(to[:], m.Name[llAddrAt:])
	}
	i := x.s.byIndex(nic)
	if i == nil {
		return 0, unix.ENXIO
	}
	if i.down.Load() {
		return 0, unix.ENETDOWN
	}
	size, room := src.Len(), int(x.s.linkState(i).mtu)
	if x.typ == unix.SOCK_RAW {
		room += ethLen
	}
	if size > room {
		return 0, unix.EMSGSIZE
	}
	frame := make([]byte, 0, size+ethLen)
	if x.typ == unix.SOCK_DGRAM {
		frame = append(append(frame, to[:]...), x.s.linkState(i).mac...)
		frame = binary.BigEndian.AppendUint16(frame, proto)
	}
	at := len(frame)
	frame = frame[:at+size]
	if n, err := src.CopyIn(frame[at:]); err != nil || n < size {
		return 0, unix.EFAULT
	}
	if len(frame) < ethLen {
		return 0, unix.EINVAL
	}
	switch {
	case i.eth != nil:
		if err := i.eth.sendFrame(frame); err != nil {
			return 0, unix.ENOBUFS
		}
	case i.lo != nil:
		i.lo.inject(frame)
	default: // TUN has no link header
		ip := frame[ethLen:]
		if !i.wire.send(ip, proto, flowOf(ip)) {
			return 0, unix.ENOBUFS
		}
	}
	return size, nil
}

// Readiness implements waiter.Waitable.
func (x *packetSocket) Readiness(mask waiter.EventMask) waiter.EventMask {
	r := waiter.EventMask(waiter.WritableEvents)
	x.mu.Lock()
	if len(x.rx) > 0 {
		r |= waiter.ReadableEvents
	}
	if x.err != nil {
		r |= waiter.EventErr
	}
	x.mu.Unlock()
	return ready(mask, r)
}

// EventRegister implements waiter.Waitable.
func (x *packetSocket) EventRegister(e *waiter.Entry) error {
	x.q.EventRegister(e)
	return nil
}

// EventUnregister implements waiter.Waitable.
func (x *packetSocket) EventUnregister(e *waiter.Entry) { x.q.EventUnregister(e) }

// Release implements vfs.FileOps.
func (x *packetSocket) Release(*vfs.File) {
	x.mu.Lock()
	closed, held, members := x.closed, x.bytes, x.members
	x.closed, x.rx, x.bytes, x.members = true, nil, 0, nil
	x.mu.Unlock()
	if closed {
		return
	}
	x.s.tapMu.Lock()
	x.s.setTaps(slices.DeleteFunc(slices.Clone(x.s.listTaps()), func(o *packetSocket) bool { return o == x }))
	x.s.tapMu.Unlock()
	for _, m := range members {
		x.promiscuous(m, -1)
	}
	x.s.list.remove(x.ino)
	x.s.cfg.Budget.Uncharge(sockCost + int64(held))
}

// promiscuous counts a membership that wants frames for others, too.
func (x *packetSocket) promiscuous(m packetMember, n int32) {
	if i := x.s.byIndex(m.nic); i != nil && i.eth != nil && m.kind == unix.PACKET_MR_PROMISC {
		i.eth.promisc.Add(n)
	}
}
