package net

import (
	"encoding/binary"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// netlinkSocket is AF_NETLINK with NETLINK_ROUTE: dumps of links, addresses, routes
// and neighbours, which is what getifaddrs, getaddrinfo and ip(8) read. Requests that
// change anything get EOPNOTSUPP (EPERM without CAP_NET_ADMIN).
type netlinkSocket struct {
	base
	q waiter.Queue

	mu     sync.Mutex
	port   uint32
	groups uint32
	peer   uint32
	rx     [][]byte
	bytes  int
	over   bool // replies were dropped: ENOBUFS
	closed bool
}

// nlQueueMax bounds a socket's unread replies, in bytes.
const nlQueueMax = 212992

func (s *Stack) netlinkSocket(c *Caller, typ, protocol int) (Socket, error) {
	if typ != unix.SOCK_RAW && typ != unix.SOCK_DGRAM {
		return nil, unix.ESOCKTNOSUPPORT
	}
	if protocol != unix.NETLINK_ROUTE {
		return nil, unix.EPROTONOSUPPORT
	}
	if !s.cfg.Budget.Charge(sockCost) {
		return nil, unix.ENOBUFS
	}
	x := &netlinkSocket{}
	x.base = base{s: s, domain: unix.AF_NETLINK, typ: int32(typ), pro: int32(protocol)}
	s.register(&x.base, x)
	return x, nil
}

func nlAddr(port, groups uint32) []byte {
	b := make([]byte, sizeNl)
	binary.LittleEndian.PutUint16(b, unix.AF_NETLINK)
	binary.LittleEndian.PutUint32(b[4:], port)
	binary.LittleEndian.PutUint32(b[8:], groups)
	return b
}

// Bind implements Socket.
func (x *netlinkSocket) Bind(c *Caller, b []byte) error {
	if len(b) < sizeNl {
		return unix.EINVAL
	}
	if familyOf(b) != unix.AF_NETLINK {
		return unix.EINVAL
	}
	port, groups := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.port != 0 {
		if port != x.port {
			return unix.EINVAL
		}
		x.groups = groups
		return nil
	}
	x.groups = groups
	return x.name(c, port)
}

// name gives the socket its port: the process's number if it is free. mu is held.
func (x *netlinkSocket) name(c *Caller, port uint32) error {
	used := map[uint32]bool{}
	for _, o := range x.s.list.all() {
		if n, ok := o.(*netlinkSocket); ok && n != x {
			n.mu.Lock()
			used[n.port] = true
			n.mu.Unlock()
		}
	}
	if port != 0 {
		if used[port] {
			return unix.EADDRINUSE
		}
		x.port = port
		return nil
	}
	for port = uint32(c.PID); port == 0 || used[port]; {
		port = uint32(-4096 - int32(x.ino)&0xffff)
		if used[port] {
			return unix.EADDRINUSE
		}
	}
	x.port = port
	return nil
}

// Connect implements Socket.
func (x *netlinkSocket) Connect(c *Caller, b []byte) error {
	if len(b) < 2 {
		return unix.EINVAL
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if familyOf(b) == unix.AF_UNSPEC {
		x.peer = 0
		return nil
	}
	if familyOf(b) != unix.AF_NETLINK || len(b) < sizeNl {
		return unix.EINVAL
	}
	if x.peer = binary.LittleEndian.Uint32(b[4:]); x.peer != 0 {
		x.peer = 0
		return unix.ECONNREFUSED // nobody but the kernel listens
	}
	if x.port == 0 {
		return x.name(c, 0)
	}
	return nil
}

// Deliver queues b for the program to read, as the kernel's own message (mq_notify's
// cookie); what there is no room for is lost.
func (x *netlinkSocket) Deliver(b []byte) {
	x.mu.Lock()
	ok := !x.closed && x.bytes+len(b) <= nlQueueMax
	if ok {
		x.rx = append(x.rx, append([]byte(nil), b...))
		x.bytes += len(b)
	}
	x.mu.Unlock()
	if ok {
		x.q.Notify(waiter.ReadableEvents)
	}
}

// Shutdown implements Socket.
func (x *netlinkSocket) Shutdown(int) error { return unix.EOPNOTSUPP }

// SockName implements Socket.
func (x *netlinkSocket) SockName() ([]byte, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return nlAddr(x.port, x.groups), nil
}

// PeerName implements Socket.
func (x *netlinkSocket) PeerName() ([]byte, error) { return nlAddr(0, 0), nil }

// SetOption implements Socket.
func (x *netlinkSocket) SetOption(c *Caller, level, name int, v []byte) error {
	switch level {
	case unix.SOL_SOCKET:
		err := x.setCommon(c, name, v)
		if err == errNotHere {
			switch name {
			case unix.SO_SNDBUF, unix.SO_RCVBUF, unix.SO_SNDBUFFORCE, unix.SO_RCVBUFFORCE, unix.SO_REUSEADDR, unix.SO_ATTACH_FILTER:
				return nil
			}
			return unix.ENOPROTOOPT
		}
		return err
	case unix.SOL_NETLINK:
		if _, err := intArg(v); err != nil {
			return err
		}
		switch name {
		case unix.NETLINK_ADD_MEMBERSHIP, unix.NETLINK_DROP_MEMBERSHIP, unix.NETLINK_PKTINFO, unix.NETLINK_BROADCAST_ERROR,
			unix.NETLINK_NO_ENOBUFS, unix.NETLINK_CAP_ACK, unix.NETLINK_EXT_ACK, unix.NETLINK_GET_STRICT_CHK:
			return nil
		}
	}
	return unix.ENOPROTOOPT
}

// GetOption implements Socket.
func (x *netlinkSocket) GetOption(_ *Caller, level, name, n int) ([]byte, error) {
	if level == unix.SOL_SOCKET {
		if b := x.getCommon(name); b != nil {
			return b, nil
		}
		switch name {
		case unix.SO_SNDBUF, unix.SO_RCVBUF:
			return intVal(nlQueueMax), nil
		case unix.SO_ERROR, unix.SO_REUSEADDR, unix.SO_ACCEPTCONN:
			return intVal(0), nil
		}
	}
	return nil, unix.ENOPROTOOPT
}

// Readiness implements waiter.Waitable.
func (x *netlinkSocket) Readiness(mask waiter.EventMask) waiter.EventMask {
	r := waiter.EventMask(waiter.WritableEvents)
	x.mu.Lock()
	if len(x.rx) > 0 {
		r |= waiter.ReadableEvents
	}
	if x.over {
		r |= waiter.EventErr
	}
	x.mu.Unlock()
	return ready(mask, r)
}

// EventRegister implements waiter.Waitable.
func (x *netlinkSocket) EventRegister(e *waiter.Entry) error {
	x.q.EventRegister(e)
	return nil
}

// EventUnregister implements waiter.Waitable.
func (x *netlinkSocket) EventUnregister(e *waiter.Entry) { x.q.EventUnregister(e) }

// Release implements vfs.FileOps.
func (x *netlinkSocket) Release(*vfs.File) {
	x.mu.Lock()
	closed := x.closed
	x.closed, x.rx = true, nil
	x.mu.Unlock()
	if !closed {
		x.s.list.remove(x.ino)
		x.s.cfg.Budget.Uncharge(sockCost)
	}
}

// Read implements vfs.FileOps.
func (x *netlinkSocket) Read(_ wait.Context, _ *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	return x.Recv(nil, dst, &RecvMsg{})
}

// Write implements vfs.FileOps.
func (x *netlinkSocket) Write(_ wait.Context, _ *vfs.File, src *mm.IOSeq, _ int64) (int, error) {
	return x.Send(&Caller{}, src, &SendMsg{})
}

// Recv implements Socket.
func (x *netlinkSocket) Recv(_ *Caller, dst *mm.IOSeq, m *RecvMsg) (int, error) {
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	x.mu.Lock()
	if x.over {
		x.over = false
		x.mu.Unlock()
		return 0, unix.ENOBUFS
	}
	if len(x.rx) == 0 {
		x.mu.Unlock()
		return 0, unix.EAGAIN
	}
	b := x.rx[0]
	if m.Flags&unix.MSG_PEEK == 0 {
		x.rx = x.rx[1:]
		x.bytes -= len(b)
	}
	x.mu.Unlock()
	m.Full = len(b)
	m.setName(nlAddr(0, 0))
	if len(b) > dst.Len() {
		m.OutFlags |= unix.MSG_TRUNC
	}
	return dst.CopyOut(b)
}

// Send implements Socket: requests to the kernel, answered at once.
func (x *netlinkSocket) Send(c *Caller, src *mm.IOSeq, m *SendMsg) (int, error) {
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	if len(m.Name) > 0 {
		if len(m.Name) < sizeNl || familyOf(m.Name) != unix.AF_NETLINK {
			return 0, unix.EINVAL
		}
		if binary.LittleEndian.Uint32(m.Name[4:]) != 0 {
			return 0, unix.ECONNREFUSED
		}
	}
	size := src.Len()
	if size > nlQueueMax-32 {
		return 0, unix.EMSGSIZE
	}
	buf, put := scratch(min(size, 65536))
	defer put()
	if size > len(buf) {
		return 0, unix.EMSGSIZE
	}
	if n, err := src.CopyIn(buf); err != nil || n < size {
		return 0, unix.EFAULT
	}
	x.mu.Lock()
	if x.port == 0 {
		x.name(c, 0)
	}
	port := x.port
	x.mu.Unlock()
	for b := buf; len(b) >= unix.SizeofNlMsghdr; {
		n := int(binary.LittleEndian.Uint32(b))
		if n < unix.SizeofNlMsghdr || n > len(b) {
			break
		}
		x.request(c, b[:n], port)
		b = b[min((n+3)&^3, len(b)):]
	}
	return size, nil
}

// reply collects messages into datagrams of about a page.
type reply struct {
	x         *netlinkSocket
	seq, port uint32
	flags     uint16
	b         []byte
}

const nlDatagram = 3584

func (r *reply) flush() {
	if len(r.b) == 0 {
		return
	}
	x := r.x
	x.mu.Lock()
	if x.bytes+len(r.b) > nlQueueMax {
		x.over = true
	} else if !x.closed {
		x.rx = append(x.rx, r.b)
		x.bytes += len(r.b)
	}
	x.mu.Unlock()
	r.b = nil
	x.q.Notify(waiter.ReadableEvents)
}

// message adds one of a type with its fixed part and attributes.
func (r *reply) message(typ uint16, body []byte) {
	n := unix.SizeofNlMsghdr + len(body)
	if len(r.b)+n > nlDatagram {
		r.flush()
	}
	le := binary.LittleEndian
	r.b = le.AppendUint32(r.b, uint32(n))
	r.b = le.AppendUint16(r.b, typ)
	r.b = le.AppendUint16(r.b, r.flags)
	r.b = le.AppendUint32(r.b, r.seq)
	r.b = le.AppendUint32(r.b, r.port)
	r.b = append(r.b, body...)
	for len(r.b)&3 != 0 {
		r.b = append(r.b, 0)
	}
}

// attr appends a route attribute.
func attr(b []byte, typ uint16, data []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(4+len(data)))
	b = binary.LittleEndian.AppendUint16(b, typ)
	b = append(b, data...)
	for len(b)&3 != 0 {
		b = append(b, 0)
	}
	return b
}

// request serves one message (rtnetlink_rcv_msg, netlink_rcv_skb).
func (x *netlinkSocket) request(c *Caller, b []byte, port uint32) {
	le := binary.LittleEndian
	typ, flags, seq := le.Uint16(b[4:]), le.Uint16(b[6:]), le.Uint32(b[8:])
	if flags&unix.NLM_F_REQUEST == 0 || typ < 16 {
		if flags&unix.NLM_F_ACK != 0 {
			x.ack(b, 0, seq, port)
		}
		return
	}
	body := b[unix.SizeofNlMsghdr:]
	dump := flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP
	r := &reply{x: x, seq: seq, port: port}
	if dump {
		r.flags = unix.NLM_F_MULTI
	}
	family := 0
	if len(body) > 0 {
		family = int(body[0])
	}
	var err unix.Errno
	switch typ {
	case unix.RTM_GETLINK:
		err = x.s.dumpLinks(r, body, dump)
	case unix.RTM_GETADDR:
		if err = unix.EOPNOTSUPP; dump {
			err = x.s.dumpAddrs(r, family)
		}
	case unix.RTM_GETROUTE:
		if err = unix.EOPNOTSUPP; dump {
			err = x.s.dumpRoutes(r, family)
		}
	case unix.RTM_GETNEIGH, unix.RTM_GETRULE, unix.RTM_GETQDISC:
		if !dump {
			err = unix.EOPNOTSUPP
		}
	default:
		err = unix.EOPNOTSUPP
		if !c.capable(capNetAdmin) {
			err = unix.EPERM
		}
	}
	if err != 0 {
		x.ack(b, err, seq, port)
		return
	}
	if dump {
		r.message(unix.NLMSG_DONE, le32(0))
	}
	r.flush()
	if flags&unix.NLM_F_ACK != 0 && !dump {
		x.ack(b, 0, seq, port)
	}
}

// ack is NLMSG_ERROR with the request that it answers.
func (x *netlinkSocket) ack(req []byte, err unix.Errno, seq, port uint32) {
	r := &reply{x: x, seq: seq, port: port}
	body := le32(uint32(-int32(err)))
	if err == 0 {
		req = req[:unix.SizeofNlMsghdr]
	}
	r.message(unix.NLMSG_ERROR, append(body, req[:min(len(req), 1024)]...))
	r.flush()
}

// dumpLinks serves RTM_GETLINK: all, or the one that index or IFLA_IFNAME names.
func (s *Stack) dumpLinks(r *reply, req []byte, dump bool) unix.Errno {
	var index int32
	var name string
	if len(req) >= unix.SizeofIfInfomsg {
		index = int32(binary.LittleEndian.Uint32(req[4:]))
		for b := req[unix.SizeofIfInfomsg:]; len(b) >= 4; {
			n, t := int(binary.LittleEndian.Uint16(b)), binary.LittleEndian.Uint16(b[2:])
			if n < 4 || n > len(b) {
				break
			}
			if t == unix.IFLA_IFNAME {
				name = cstring(b[4:n])
			}
			b = b[min((n+3)&^3, len(b)):]
		}
	} else if !dump {
		return unix.EINVAL
	}
	found := false
	for _, i := range s.interfaces() {
		if !dump && (index != 0 && int32(i.id) != index || index == 0 && i.name != name) {
			continue
		}
		found = true
		r.message(unix.RTM_NEWLINK, s.linkMessage(i))
	}
	if !found && !dump {
		return unix.ENODEV
	}
	return 0
}

func (s *Stack) linkMessage(i *iface) []byte {
	le := binary.LittleEndian
	b := make([]byte, unix.SizeofIfInfomsg)
	st := s.linkState(i)
	le.PutUint16(b[2:], st.hwType)
	le.PutUint32(b[4:], uint32(i.id))
	le.PutUint32(b[8:], st.flags)
	b = attr(b, unix.IFLA_IFNAME, append([]byte(i.name), 0))
	b = attr(b, unix.IFLA_TXQLEN, le32(1000))
	oper := byte(6) // IF_OPER_UP
	if i.eth == nil {
		oper = 0
	} else if !i.eth.dev.LinkUp() {
		oper = 2
	}
	b = attr(b, unix.IFLA_OPERSTATE, []byte{oper})
	b = attr(b, unix.IFLA_LINKMODE, []byte{0})
	b = attr(b, unix.IFLA_MTU, le32(st.mtu))
	b = attr(b, unix.IFLA_GROUP, le32(0))
	b = attr(b, unix.IFLA_QDISC, []byte("noqueue\x00"))
	b = attr(b, unix.IFLA_ADDRESS, st.mac)
	bcast := []byte{255, 255, 255, 255, 255, 255}
	if i.eth == nil {
		bcast = make([]byte, 6)
	}
	b = attr(b, unix.IFLA_BROADCAST, bcast)
	c := s.counters(i)
	st64 := make([]byte, 24*8)
	for n, v := range []uint64{c.rxPackets, c.txPackets, c.rxBytes, c.txBytes, 0, 0, c.rxDropped, c.txDropped} {
		le.PutUint64(st64[n*8:], v)
	}
	return attr(b, unix.IFLA_STATS64, st64)
}

type linkState struct {
	flags  uint32
	hwType uint16
	mtu    uint32
	mac    []byte
}

func (s *Stack) linkState(i *iface) linkState {
	if i.eth == nil {
		return linkState{unix.IFF_UP | unix.IFF_LOOPBACK | unix.IFF_RUNNING | unix.IFF_LOWER_UP, unix.ARPHRD_LOOPBACK, 65536, make([]byte, 6)}
	}
	f := uint32(unix.IFF_UP | unix.IFF_BROADCAST | unix.IFF_MULTICAST)
	if i.eth.dev.LinkUp() {
		f |= unix.IFF_RUNNING | unix.IFF_LOWER_UP
	}
	return linkState{f, unix.ARPHRD_ETHER, i.eth.MTU(), []byte(i.eth.mac)}
}

// addresses are an interface's, in netstack's order, without the limited broadcast address,
// to which netstack listens on every interface and which Linux has on none.
func (s *Stack) addresses(nic tcpip.NICID) []tcpip.ProtocolAddress {
	return slices.DeleteFunc(s.ns.AllAddresses()[nic], func(a tcpip.ProtocolAddress) bool {
		return a.AddressWithPrefix.Address == header.IPv4Broadcast
	})
}

func scopeOf(a tcpip.Address) byte {
	switch {
	case a.Len() == 4 && header.IsV4LoopbackAddress(a), a == header.IPv6Loopback:
		return unix.RT_SCOPE_HOST
	case header.IsV6LinkLocalUnicastAddress(a):
		return unix.RT_SCOPE_LINK
	}
	return unix.RT_SCOPE_UNIVERSE
}

func familyOfAddr(a tcpip.Address) byte {
	if a.Len() == 4 {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func (s *Stack) dumpAddrs(r *reply, family int) unix.Errno {
	for _, i := range s.interfaces() {
		for _, pa := range s.addresses(i.id) {
			a := pa.AddressWithPrefix
			fam := familyOfAddr(a.Address)
			if family != 0 && family != int(fam) {
				continue
			}
			b := make([]byte, unix.SizeofIfAddrmsg)
			b[0], b[1], b[2], b[3] = fam, byte(a.PrefixLen), unix.IFA_F_PERMANENT, scopeOf(a.Address)
			binary.LittleEndian.PutUint32(b[4:], uint32(i.id))
			b = attr(b, unix.IFA_ADDRESS, a.Address.AsSlice())
			if fam == unix.AF_INET {
				b = attr(b, unix.IFA_LOCAL, a.Address.AsSlice())
				if i.eth != nil && a.PrefixLen < 31 {
					net := a.Subnet()
					bc := net.Broadcast()
					b = attr(b, unix.IFA_BROADCAST, bc.AsSlice())
				}
				b = attr(b, unix.IFA_LABEL, append([]byte(i.name), 0))
			}
			b = attr(b, unix.IFA_FLAGS, le32(unix.IFA_F_PERMANENT))
			forever := le32(^uint32(0))
			b = attr(b, unix.IFA_CACHEINFO, append(append(append([]byte(nil), forever...), forever...), make([]byte, 8)...))
			r.message(unix.RTM_NEWADDR, b)
		}
	}
	return 0
}

func (s *Stack) dumpRoutes(r *reply, family int) unix.Errno {
	for _, rt := range s.ns.GetRouteTable() {
		dst := rt.Destination.ID()
		fam := familyOfAddr(dst)
		if family != 0 && family != int(fam) || rt.NIC == loopbackNIC {
			continue // the loopback's are in table local, which is not asked for
		}
		b := make([]byte, unix.SizeofRtMsg)
		b[0], b[1] = fam, byte(rt.Destination.Prefix())
		b[4], b[5], b[7] = unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RTN_UNICAST
		gw := rt.Gateway.Len() != 0
		if !gw {
			b[5], b[6] = unix.RTPROT_KERNEL, unix.RT_SCOPE_LINK
		}
		b = attr(b, unix.RTA_TABLE, le32(unix.RT_TABLE_MAIN))
		if rt.Destination.Prefix() != 0 {
			b = attr(b, unix.RTA_DST, dst.AsSlice())
		}
		if gw {
			b = attr(b, unix.RTA_GATEWAY, rt.Gateway.AsSlice())
		}
		b = attr(b, unix.RTA_OIF, le32(uint32(rt.NIC)))
		r.message(unix.RTM_NEWROUTE, b)
	}
	return 0
}
