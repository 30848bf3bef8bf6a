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
// (SOCK_DGRAM), by recvmsg and sendmsg or through rings (packet_ring.go). See packet(7).
//
// Locks: txMu (sending from the ring, changing rings), then mu. The rings change under
// both. mu is taken where netstack sends and receives, so nothing is sent under it.
type packetSocket struct {
	base
	q waiter.Queue

	txMu sync.Mutex

	mu      sync.Mutex
	hook    packetHook
	rx      []packetFrame
	bytes   int
	rcvbuf  int
	sndbuf  int
	packets uint32 // received since PACKET_STATISTICS was read
	drops   uint32
	members []packetMember
	err     error
	closed  bool
	wake    bool // there is news for who waits, to be told without mu

	auxdata, origdev, vnet, loss, txHasOff, bypass bool
	version                                        int // of the rings' headers
	reserve                                        uint32
	copyThresh, timestamp                          int32

	ring           *ringMem // of both rings
	rxRing, txRing *packetRing

	fanout   *fanoutGroup
	rollover *rollover
	pressure bool
}

// packetFrame is one frame on its way. head is how long its link header is.
type packetFrame struct {
	b      []byte
	head   int
	whole  int // before the filter cut it
	proto  uint16
	hw     uint16 // ARPHRD_* of the interface
	nic    tcpip.NICID
	kind   tcpip.PacketType
	src    [6]byte
	stamp  int64
	status uint32 // TP_STATUS_*
	vnet   vnetHdr
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
	x := &packetSocket{hook: packetHook{proto: swap16(uint16(protocol))}, rcvbuf: packetBuf, sndbuf: packetBuf}
	x.base = base{s: s, domain: unix.AF_PACKET, typ: int32(typ), pro: int32(protocol), uid: c.ucred().UID}
	s.register(&x.base, x)
	s.addTap(x)
	return x, nil
}

func swap16(v uint16) uint16 { return v<<8 | v>>8 }

func (s *Stack) listTaps() []frameTap {
	if p := s.taps.Load(); p != nil {
		return *p
	}
	return nil
}

func (s *Stack) addTap(t frameTap) {
	s.tapMu.Lock()
	s.setTaps(append(slices.Clone(s.listTaps()), t))
	s.tapMu.Unlock()
}

func (s *Stack) removeTap(t frameTap) {
	s.tapMu.Lock()
	s.setTaps(slices.DeleteFunc(slices.Clone(s.listTaps()), func(o frameTap) bool { return o == t }))
	s.tapMu.Unlock()
}

// setTaps replaces the list of packet sockets, which is nil while there are none: one
// load is what they cost then. tapMu is held.
func (s *Stack) setTaps(l []frameTap) {
	if len(l) == 0 {
		s.taps.Store(nil)
		return
	}
	s.taps.Store(&l)
	s.unfuse()
}

// Bind implements Socket: to an interface and a protocol. EINVAL, ENODEV.
func (x *packetSocket) Bind(_ *Caller, b []byte) error {
	if len(b) < sizeLl || familyOf(b) != unix.AF_PACKET {
		return unix.EINVAL
	}
	proto, nic := binary.BigEndian.Uint16(b[2:]), tcpip.NICID(binary.LittleEndian.Uint32(b[4:]))
	x.mu.Lock()
	grouped := x.fanout != nil
	x.mu.Unlock()
	if grouped {
		return unix.EINVAL
	}
	i := x.s.byIndex(nic)
	if nic != 0 && i == nil {
		return unix.ENODEV
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if proto != 0 {
		x.hook.proto = proto
	}
	x.hook.nic = nic
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
	proto, nic := x.hook.proto, x.hook.nic
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
	aux, vnet := x.auxdata, x.vnet
	x.eased()
	x.mu.Unlock()
	x.opt.stamp.Store(f.stamp)
	m.setName(f.address())
	if m.WantControl {
		x.control(m, f, aux)
	}
	head := 0
	if vnet { // before the frame, which recvmsg counts without it
		if dst.Len() < vnetHdrSize {
			return 0, unix.EINVAL
		}
		if _, err := dst.CopyOut(f.vnet[:]); err != nil {
			return 0, err
		}
		head = vnetHdrSize
	}
	m.Full = head + len(f.b)
	if len(f.b) > dst.Len() {
		m.OutFlags |= unix.MSG_TRUNC
	}
	n, err := dst.CopyOut(f.b[:min(len(f.b), dst.Len())])
	return head + n, err
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

// Readiness implements waiter.Waitable.
func (x *packetSocket) Readiness(mask waiter.EventMask) waiter.EventMask {
	r := waiter.EventMask(waiter.WritableEvents)
	x.mu.Lock()
	if len(x.rx) > 0 || x.rxRing != nil && x.rxRing.ringReady() {
		r |= waiter.ReadableEvents
	}
	x.eased()
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
	x.leaveFanout()
	x.txMu.Lock()
	x.mu.Lock()
	closed, held, members, ring := x.closed, x.bytes, x.members, x.ring
	x.closed, x.rx, x.bytes, x.members = true, nil, 0, nil
	if x.rxRing != nil && x.rxRing.blocks != nil {
		x.rxRing.blocks.stop()
	}
	x.ring, x.rxRing, x.txRing = nil, nil, nil
	x.mu.Unlock()
	x.txMu.Unlock()
	if closed {
		return
	}
	ring.free()
	x.s.removeTap(x)
	for _, m := range members {
		x.promiscuous(m, -1)
	}
	x.setFilter(nil)
	x.s.list.remove(x.ino)
	x.s.cfg.Budget.Uncharge(sockCost + int64(held))
}

// promiscuous counts a membership that wants frames for others, too.
func (x *packetSocket) promiscuous(m packetMember, n int32) {
	if i := x.s.byIndex(m.nic); i != nil && i.eth != nil && m.kind == unix.PACKET_MR_PROMISC {
		i.eth.promisc.Add(n)
	}
}
