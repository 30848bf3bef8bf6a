package net

import (
	"cmp"
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
)

// NETLINK_SOCK_DIAG: what ss(8) asks. See sock_diag(7). Its filter programs
// (INET_DIAG_REQ_BYTECODE) are not run: ss applies its filter to what it gets, too.

// uapi/linux/sock_diag.h, inet_diag.h, unix_diag.h.
const (
	sockDiagByFamily = 20
	sockDestroy      = 21

	inetDiagReqSize = 56
	inetDiagMsgSize = 72
	unixDiagReqSize = 24

	inetDiagMemInfo   = 1
	inetDiagInfo      = 2
	inetDiagCong      = 4
	inetDiagTOS       = 5
	inetDiagSkMemInfo = 7
	inetDiagShutdown  = 8
	inetDiagSkV6Only  = 11

	unixDiagName     = 0
	unixDiagPeer     = 2
	unixDiagRQLen    = 4
	unixDiagShutdown = 6
	unixDiagUID      = 7

	udiagShowName  = 1
	udiagShowPeer  = 4
	udiagShowRQLen = 0x10
	udiagShowUID   = 0x40
)

// sockDiag serves one request: ENOENT for families and protocols without (ss then reads
// /proc), EOPNOTSUPP for SOCK_DESTROY.
func (s *Stack) sockDiag(c *Caller, r *reply, typ uint16, req []byte, dump bool) unix.Errno {
	if typ == sockDestroy {
		if !c.capable(capNetAdmin) {
			return unix.EPERM
		}
		return unix.EOPNOTSUPP
	}
	if typ != sockDiagByFamily || len(req) < 2 {
		return unix.EINVAL
	}
	switch req[0] {
	case unix.AF_INET, unix.AF_INET6:
		return s.inetDiag(r, req, dump)
	case unix.AF_UNIX:
		return s.unixDiag(r, req, dump)
	case unix.AF_NETLINK:
		return s.netlinkDiag(r, req, dump)
	case unix.AF_VSOCK:
		return s.vsockDiag(r, req, dump)
	}
	return unix.ENOENT
}

// inetDiag lists sockets of one family and protocol in the states of a mask; without
// dump the one of an address.
func (s *Stack) inetDiag(r *reply, req []byte, dump bool) unix.Errno {
	if len(req) < inetDiagReqSize {
		return unix.EINVAL
	}
	fam, proto, ext := int32(req[0]), int32(req[1]), req[2]
	states := binary.LittleEndian.Uint32(req[4:])
	switch proto {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP:
	case unix.IPPROTO_RAW:
		if len(req) >= 4 {
			proto = int32(req[3]) // sdiag_raw_protocol, 0 for all
		}
	default:
		return unix.ENOENT
	}
	raw := int32(req[1]) == unix.IPPROTO_RAW
	sport, dport := binary.BigEndian.Uint16(req[8:]), binary.BigEndian.Uint16(req[10:])
	var others []unowned
	if proto == unix.IPPROTO_TCP && !raw {
		others = s.unowned()
	}
	if !dump && !raw {
		return s.oneDiag(r, parseDiagKey(req), ext, others)
	}
	// wanted is whether one in a state, with these ports, is asked for.
	wanted := func(st byte, l, ra tcpip.FullAddress) bool {
		if !dump {
			return true
		}
		return states>>st&1 != 0 && (sport == 0 || l.Port == sport) && (dport == 0 || ra.Port == dport)
	}
	found := false
	for _, so := range s.list.all() {
		x, ok := so.(*inetSocket)
		if !ok || x.domain != fam || (x.typ == unix.SOCK_RAW) != raw || x.pro != proto && !(raw && proto == 0) {
			continue
		}
		st := x.diagState()
		l, _ := x.ep().GetLocalAddress()
		ra, _ := x.ep().GetRemoteAddress()
		if !wanted(st, l, ra) || dump && st == 7 && l.Port == 0 && !raw || st == 6 && x.isTCP() {
			continue
		}
		r.message(sockDiagByFamily, x.diagMessage(st, l, ra, ext, others))
		if found = true; !dump {
			return 0
		}
	}
	for i := range others {
		if u := &others[i]; u.family == int(fam) && wanted(u.state, u.local, u.remote) {
			r.message(sockDiagByFamily, u.diag())
			if found = true; !dump {
				return 0
			}
		}
	}
	if !found && !dump {
		return unix.ENOENT
	}
	return 0
}

// diagState is the socket's state in Linux's numbers.
func (x *inetSocket) diagState() byte {
	if x.isTCP() {
		return linuxState(x.state())
	}
	if _, err := x.ep().GetRemoteAddress(); err == nil {
		return 1
	}
	return 7
}

// putDiagAddrs puts two addresses into a struct inet_diag_msg.
func putDiagAddrs(b []byte, family int, l, ra tcpip.FullAddress) {
	binary.BigEndian.PutUint16(b[4:], l.Port)
	binary.BigEndian.PutUint16(b[6:], ra.Port)
	put := func(to []byte, a tcpip.FullAddress) {
		if enc := encodeAddr(family, a); family == unix.AF_INET {
			copy(to, enc[4:8])
		} else if a.Addr.BitLen() != 0 {
			copy(to, enc[8:24])
		}
	}
	put(b[8:24], l)
	put(b[24:40], ra)
}

// diagMessage is struct inet_diag_msg with the attributes that ext asks for; others are the
// connections without a socket.
func (x *inetSocket) diagMessage(st byte, l, ra tcpip.FullAddress, ext byte, others []unowned) []byte {
	b := make([]byte, inetDiagMsgSize)
	le := binary.LittleEndian
	b[0], b[1] = byte(x.domain), st
	putDiagAddrs(b, int(x.domain), l, ra)
	le.PutUint32(b[40:], uint32(x.ep().SocketOptions().GetBindToDevice()))
	le.PutUint64(b[44:], x.ino) // the cookie
	rq, wq := x.queues(st, others)
	le.PutUint32(b[56:], rq)
	le.PutUint32(b[60:], wq)
	le.PutUint32(b[64:], x.uid)
	le.PutUint32(b[68:], uint32(x.ino))
	has := func(n int) bool { return ext>>(n-1)&1 != 0 }
	if x.isTCP() || x.typ != unix.SOCK_STREAM {
		b = attr(b, inetDiagShutdown, []byte{byte(x.down.Load())})
	}
	if has(inetDiagTOS) {
		if tos, err := x.ep().GetSockOptInt(tcpip.IPv4TOSOption); err == nil {
			b = attr(b, inetDiagTOS, []byte{byte(tos)})
		}
	}
	if x.domain == unix.AF_INET6 && (st == 10 || st == 7) {
		v := byte(0)
		if x.ep().SocketOptions().GetV6Only() {
			v = 1
		}
		b = attr(b, inetDiagSkV6Only, []byte{v})
	}
	mem := x.memInfo()
	if has(inetDiagMemInfo) {
		b = attr(b, inetDiagMemInfo, append(append(append(append([]byte(nil), mem[:4]...), mem[20:24]...), mem[16:20]...), mem[8:12]...))
	}
	if has(inetDiagSkMemInfo) {
		b = attr(b, inetDiagSkMemInfo, mem)
	}
	if x.isTCP() {
		if has(inetDiagInfo) {
			b = attr(b, inetDiagInfo, x.tcpInfo())
		}
		var cc tcpip.CongestionControlOption
		if has(inetDiagCong) && x.ep().GetSockOpt(&cc) == nil {
			b = attr(b, inetDiagCong, append([]byte(cc), 0))
		}
	}
	return b
}

// queues are a socket's receive and send queues in bytes; of a listener, the connections
// that wait, counted among others, and how many may.
func (x *inetSocket) queues(st byte, others []unowned) (rx, tx uint32) {
	if st == 10 {
		return uint32(x.acceptQueue(others)), uint32(x.backlog.Load())
	}
	rx = uint32(x.queued())
	if x.isTCP() && finReceived(st) && !x.eof.Load() {
		rx++
	}
	return rx, uint32(x.unsent())
}

// queued is what the receive queue holds: the bytes of a stream, or datagrams as they count
// in SO_RCVBUF (sk_rmem_alloc).
func (x *inetSocket) queued() int64 {
	if !x.isTCP() {
		return x.unread.Load()
	}
	n, err := x.waiting()
	if err != nil {
		return 0
	}
	return int64(n)
}

// unixDiag lists AF_UNIX sockets; without dump the one of an inode number.
func (s *Stack) unixDiag(r *reply, req []byte, dump bool) unix.Errno {
	if len(req) < unixDiagReqSize {
		return unix.EINVAL
	}
	le := binary.LittleEndian
	states, ino, show := le.Uint32(req[4:]), le.Uint32(req[8:]), le.Uint32(req[12:])
	found := false
	for _, so := range s.list.all() {
		x, ok := so.(*unixSocket)
		if !ok || !dump && uint32(x.ino) != ino {
			continue
		}
		b, st := x.diagMessage(show)
		if dump && states>>st&1 == 0 {
			continue
		}
		r.message(sockDiagByFamily, b)
		if found = true; !dump {
			return 0
		}
	}
	if !found && !dump {
		return unix.ENOENT
	}
	return 0
}

// diagMessage is struct unix_diag_msg with the attributes that show asks for.
func (x *unixSocket) diagMessage(show uint32) ([]byte, byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	st := byte(7)
	switch {
	case x.listening:
		st = 10
	case x.connected:
		st = 1
	}
	le := binary.LittleEndian
	b := make([]byte, 16)
	b[0], b[1], b[2] = unix.AF_UNIX, byte(x.typ), st
	le.PutUint32(b[4:], uint32(x.ino))
	le.PutUint64(b[8:], x.ino)
	if show&udiagShowName != 0 && len(x.name) > 2 {
		b = attr(b, unixDiagName, x.name[2:])
	}
	if show&udiagShowPeer != 0 && x.peer != nil {
		b = attr(b, unixDiagPeer, le32(uint32(x.peer.ino)))
	}
	if show&udiagShowRQLen != 0 {
		q := append(le32(uint32(x.rxBytes)), le32(uint32(x.sent.size.Load()))...)
		if x.listening {
			q = append(le32(uint32(len(x.pending))), le32(uint32(x.backlog))...)
		}
		b = attr(b, unixDiagRQLen, q)
	}
	if show&udiagShowUID != 0 {
		b = attr(b, unixDiagUID, le32(x.made.UID))
	}
	down := byte(0)
	if x.rcvShut {
		down |= 1
	}
	if x.sndShut {
		down |= 2
	}
	return attr(b, unixDiagShutdown, []byte{down}), st
}

// uapi/linux/netlink_diag.h.
const (
	netlinkDiagReqSize = 20
	ndiagProtoAll      = 255

	netlinkDiagMemInfo = 0
	netlinkDiagGroups  = 1

	ndiagShowMemInfo = 1
	ndiagShowGroups  = 2
)

// netlinkDiag lists AF_NETLINK sockets of one protocol or of all: strace asks it which a
// descriptor's is. EOPNOTSUPP for anything but a dump.
func (s *Stack) netlinkDiag(r *reply, req []byte, dump bool) unix.Errno {
	if len(req) < netlinkDiagReqSize {
		return unix.EINVAL
	}
	if !dump {
		return unix.EOPNOTSUPP
	}
	le := binary.LittleEndian
	show := le.Uint32(req[8:])
	for _, x := range s.netlinkSockets() {
		if int32(req[1]) != x.pro && req[1] != ndiagProtoAll {
			continue
		}
		x.mu.Lock()
		groups, queued := x.groups, x.bytes
		x.mu.Unlock()
		b := make([]byte, 28)
		b[0], b[1], b[2], b[3] = unix.AF_NETLINK, byte(x.typ), byte(x.pro), 7
		le.PutUint32(b[4:], x.port.Load())
		le.PutUint32(b[16:], uint32(x.ino))
		le.PutUint64(b[20:], x.ino)
		if show&ndiagShowGroups != 0 && groups != 0 {
			b = attr(b, netlinkDiagGroups, le.AppendUint64(nil, groups))
		}
		if show&ndiagShowMemInfo != 0 {
			m := make([]byte, 36) // SK_MEMINFO_*
			le.PutUint32(m, uint32(queued))
			le.PutUint32(m[4:], nlQueue)
			le.PutUint32(m[12:], nlQueue)
			b = attr(b, netlinkDiagMemInfo, m)
		}
		r.message(sockDiagByFamily, b)
	}
	return 0
}

// netlinkSockets are all, the oldest first.
func (s *Stack) netlinkSockets() (l []*netlinkSocket) {
	for _, o := range s.list.all() {
		if x, ok := o.(*netlinkSocket); ok {
			l = append(l, x)
		}
	}
	slices.SortFunc(l, func(a, b *netlinkSocket) int { return cmp.Compare(a.ino, b.ino) })
	return l
}
