package net

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// netlinkSocket is AF_NETLINK with NETLINK_ROUTE (rtnetlink.go), which ip(8), getifaddrs and
// getaddrinfo speak, NETLINK_SOCK_DIAG (sockdiag.go), which ss(8) speaks, NETLINK_GENERIC
// (genl.go) with taskstats, NETLINK_CONNECTOR (connector.go) with process events, or
// NETLINK_KOBJECT_UEVENT, on which libudev waits for devices that come and go: none do, but a
// privileged program may announce some.
type netlinkSocket struct {
	base
	q waiter.Queue

	port   atomic.Uint32 // given once, under Stack.nlPorts
	opener *vfs.Creds    // who made it

	mu     sync.Mutex
	groups uint64 // bit n-1: group n
	// peer is the group that connect chose, 0 for none: that of messages without an address.
	peer   int
	sndbuf int
	rcvbuf int
	rx     []nlMessage
	bytes  int // their cost
	// dumping is set from the request for a dump until its end is in rx; rest are the
	// datagrams that are not.
	dumping bool
	rest    []nlMessage
	capAck  bool // NETLINK_CAP_ACK
	grouped bool // it has asked for groups, or to be without one
	strict  bool // NETLINK_GET_STRICT_CHK
	pktIn   bool // NETLINK_PKTINFO
	quiet   bool // NETLINK_NO_ENOBUFS
	over    bool // messages were dropped: ENOBUFS
	drops   uint32
	closed  bool
}

// nlGroups is how many groups there are at most: RTNLGRP_MAX of Linux 6.1, rounded up.
const nlGroups = 64

// nlQueue is net.core.rmem_default: the bound of a socket's unread replies, as they cost,
// until SO_RCVBUF sets another.
const nlQueue = 212992

func (s *Stack) netlinkSocket(c *Caller, typ, protocol int) (Socket, error) {
	if typ != unix.SOCK_RAW && typ != unix.SOCK_DGRAM {
		return nil, unix.ESOCKTNOSUPPORT
	}
	switch protocol {
	case unix.NETLINK_ROUTE, unix.NETLINK_SOCK_DIAG, unix.NETLINK_GENERIC, unix.NETLINK_CONNECTOR, unix.NETLINK_KOBJECT_UEVENT:
	default:
		return nil, unix.EPROTONOSUPPORT
	}
	if !s.cfg.Budget.Charge(sockCost) {
		return nil, unix.ENOBUFS
	}
	x := &netlinkSocket{opener: c.Creds, sndbuf: nlQueue, rcvbuf: nlQueue}
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
	port, groups := binary.LittleEndian.Uint32(b[4:]), uint64(binary.LittleEndian.Uint32(b[8:]))
	if groups != 0 && !x.mayListen(c) {
		return unix.EPERM
	}
	if had, err := x.name(c, port); err != nil {
		return err
	} else if had != port && had != 0 {
		return unix.EINVAL
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.groups = x.groups&^0xffffffff | groups
	x.grouped = x.grouped || groups != 0
	return nil
}

// mayListen says whether the caller may join groups: anybody, but for process events.
func (x *netlinkSocket) mayListen(c *Caller) bool {
	return x.pro != unix.NETLINK_CONNECTOR || c.capable(capNetAdmin)
}

// name gives a socket that has no port the one that is asked for, or for 0 the process's
// number if it is free, and says which port the socket had before.
func (x *netlinkSocket) name(c *Caller, port uint32) (had uint32, err error) {
	if had = x.port.Load(); had != 0 {
		return had, nil
	}
	// Not under mu of x: two sockets would each wait for what the other holds.
	x.s.nlPorts.Lock()
	defer x.s.nlPorts.Unlock()
	if had = x.port.Load(); had != 0 {
		return had, nil
	}
	used := map[uint32]bool{}
	for _, o := range x.s.list.all() {
		if n, ok := o.(*netlinkSocket); ok && n != x && n.pro == x.pro {
			used[n.port.Load()] = true
		}
	}
	if port == 0 { // netlink_autobind
		if port = uint32(c.PID); port == 0 || used[port] {
			for port = uint32(-4097 - int32(x.ino)&0xffff); used[port]; port-- {
			}
		}
	}
	if used[port] {
		return 0, unix.EADDRINUSE
	}
	x.port.Store(port)
	return 0, nil
}

// Connect implements Socket.
func (x *netlinkSocket) Connect(c *Caller, b []byte) error {
	if len(b) < 2 {
		return unix.EINVAL
	}
	if familyOf(b) == unix.AF_UNSPEC {
		x.connectTo(0)
		return nil
	}
	group, err := x.target(c, b)
	if err != nil {
		return err
	}
	if _, err := x.name(c, 0); err != nil {
		return err
	}
	x.connectTo(group)
	return nil
}

func (x *netlinkSocket) connectTo(group int) {
	x.mu.Lock()
	x.peer = group
	x.mu.Unlock()
}

// target is the group that an address names, the first if there are several, 0 for none:
// EINVAL, EPERM, ECONNREFUSED for another socket's port.
func (x *netlinkSocket) target(c *Caller, b []byte) (int, error) {
	if len(b) < sizeNl || familyOf(b) != unix.AF_NETLINK {
		return 0, unix.EINVAL
	}
	port, groups := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	if port|groups != 0 && !x.speaker(c).capable(capNetAdmin) {
		return 0, unix.EPERM
	}
	if port != 0 {
		return 0, unix.ECONNREFUSED // nobody but the kernel has a port to be spoken to
	}
	if groups == 0 {
		return 0, nil
	}
	return bits.TrailingZeros32(groups) + 1, nil
}

// speaker is the caller as one who sends by the socket of somebody else, perhaps.
func (x *netlinkSocket) speaker(c *Caller) *Caller {
	asks := *c
	asks.opener = x.opener
	return &asks
}

// Shutdown implements Socket.
func (x *netlinkSocket) Shutdown(int) error { return unix.EOPNOTSUPP }

// SockName implements Socket.
func (x *netlinkSocket) SockName() ([]byte, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return nlAddr(x.port.Load(), uint32(x.groups)), nil
}

// PeerName implements Socket.
func (x *netlinkSocket) PeerName() ([]byte, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return nlAddr(0, groupMask(x.peer)), nil
}

// groupMask is nl_groups of an address in a group.
func groupMask(group int) uint32 {
	if group < 1 || group > 32 {
		return 0
	}
	return 1 << (group - 1)
}

// SetOption implements Socket.
func (x *netlinkSocket) SetOption(c *Caller, level, name int, v []byte) error {
	switch level {
	case unix.SOL_SOCKET:
		if name == unix.SO_BINDTODEVICE {
			return x.bindToDevice(x.s, c, cstring(v))
		}
		if err := x.setPlain(c, name, v, x.sizes()); err != errNotHere {
			return err
		}
		return notPlain(name)
	case unix.SOL_NETLINK:
		return x.setNetlink(c, name, v)
	}
	return unix.ENOPROTOOPT
}

func (x *netlinkSocket) sizes() queueSizes {
	return queueSizes{&x.mu, &x.sndbuf, &x.rcvbuf, 2 * nlQueue}
}

func (x *netlinkSocket) setNetlink(c *Caller, name int, v []byte) error {
	n, err := intArg(v)
	if err != nil {
		n = 0 // what is short is nothing
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch name {
	case unix.NETLINK_ADD_MEMBERSHIP, unix.NETLINK_DROP_MEMBERSHIP:
		if !x.mayListen(c) {
			return unix.EPERM
		}
		if n < 1 || n > nlGroups {
			return unix.EINVAL
		}
		x.grouped = true
		if bit := uint64(1) << (n - 1); name == unix.NETLINK_ADD_MEMBERSHIP {
			x.groups |= bit
		} else {
			x.groups &^= bit
		}
	case unix.NETLINK_CAP_ACK:
		x.capAck = n != 0
	case unix.NETLINK_GET_STRICT_CHK:
		x.strict = n != 0
	case unix.NETLINK_PKTINFO:
		x.pktIn = n != 0
	case unix.NETLINK_NO_ENOBUFS:
		if x.quiet = n != 0; x.quiet {
			x.over = false
		}
	case unix.NETLINK_BROADCAST_ERROR, unix.NETLINK_EXT_ACK:
		// Kept without effect: there is nothing more to say about an error.
		x.opt.kept.store(unix.SOL_NETLINK, name, truth.of(n))
	case unix.NETLINK_LISTEN_ALL_NSID: // there is one network namespace
		if !c.capable(capNetBroadcast) {
			return unix.EPERM
		}
	default:
		return unix.ENOPROTOOPT
	}
	return nil
}

func (x *netlinkSocket) getNetlink(name int) ([]byte, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch name {
	case unix.NETLINK_CAP_ACK:
		return boolVal(x.capAck), nil
	case unix.NETLINK_GET_STRICT_CHK:
		return boolVal(x.strict), nil
	case unix.NETLINK_PKTINFO:
		return boolVal(x.pktIn), nil
	case unix.NETLINK_NO_ENOBUFS:
		return boolVal(x.quiet), nil
	case unix.NETLINK_BROADCAST_ERROR, unix.NETLINK_EXT_ACK:
		n, _ := x.opt.kept.load(unix.SOL_NETLINK, name)
		return intVal(int(n)), nil
	case unix.NETLINK_LIST_MEMBERSHIPS:
		if !x.grouped {
			return []byte{}, nil
		}
		return binary.LittleEndian.AppendUint64(nil, x.groups), nil
	}
	return nil, unix.ENOPROTOOPT
}

// GetOption implements Socket.
func (x *netlinkSocket) GetOption(_ *Caller, level, name, n int) ([]byte, error) {
	if level == unix.SOL_SOCKET {
		if b := x.getPlain(name, x.sizes()); b != nil {
			return b, nil
		}
		if b, err, ok := getAny(x, name, n); ok {
			return b, err
		}
		switch name {
		case unix.SO_ERROR, unix.SO_ACCEPTCONN:
			return intVal(0), nil
		case unix.SO_GET_FILTER:
			return x.getFilter(n)
		}
		return x.getNobody(x.s, name, n, x.sizes())
	}
	if level == unix.SOL_NETLINK {
		b, err := x.getNetlink(name)
		if err == nil && n < len(b) && name != unix.NETLINK_LIST_MEMBERSHIPS {
			return nil, unix.EINVAL
		}
		return b, err
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
	x.closed = true
	x.uncharge(x.rx)
	x.uncharge(x.rest)
	x.rx, x.rest = nil, nil
	x.mu.Unlock()
	x.setFilter(nil)
	if !closed {
		if x.pro == unix.NETLINK_GENERIC {
			x.s.tasks.forget(x)
		}
		x.s.list.remove(x.ino)
		x.s.cfg.Budget.Uncharge(sockCost)
	}
}

// Read implements vfs.FileOps.
func (x *netlinkSocket) Read(_ wait.Context, _ *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	return x.Recv(nil, dst, &RecvMsg{})
}

// Write implements vfs.FileOps.
func (x *netlinkSocket) Write(c wait.Context, _ *vfs.File, src *mm.IOSeq, _ int64) (int, error) {
	caller := callerOf(c)
	return x.Send(&caller, src, &SendMsg{})
}

// Send implements Socket: requests to the kernel, answered at once, and before that what those
// hear who listen to a group that the program names.
func (x *netlinkSocket) Send(c *Caller, src *mm.IOSeq, m *SendMsg) (int, error) {
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	size := src.Len()
	if size == 0 {
		return 0, unix.ENODATA
	}
	if m.Control.Bad != nil {
		return 0, m.Control.Bad
	}
	x.mu.Lock()
	group, room := x.peer, x.sndbuf-32
	x.mu.Unlock()
	if len(m.Name) > 0 {
		var err error
		if group, err = x.target(c, m.Name); err != nil {
			return 0, err
		}
	}
	if size > room {
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
	if _, err := x.name(c, 0); err != nil {
		return 0, err
	}
	port, creds := x.port.Load(), c.sender()
	if m.Control.HasCreds {
		creds = m.Control.Creds
	}
	c = x.speaker(c)
	if group != 0 {
		x.s.broadcast(x.pro, nlMessage{b: bytes.Clone(buf), group: group, port: port, creds: creds}, x)
	}
	if x.pro == unix.NETLINK_CONNECTOR {
		x.s.connector(c, buf)
		return size, nil
	}
	for b := buf; len(b) >= unix.SizeofNlMsghdr; {
		n := int(binary.LittleEndian.Uint32(b))
		if n < unix.SizeofNlMsghdr || n > len(b) {
			break
		}
		x.request(c, b[:n], port, creds)
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
	dump      *nlDump // nil: the datagrams are queued at once
}

const nlDatagram = 3584

func (r *reply) flush() {
	if len(r.b) == 0 {
		return
	}
	b := r.b
	r.b = nil
	if r.dump != nil {
		r.dump.add(r.x, b)
	} else {
		r.x.post(nlMessage{b: b})
	}
}

// message adds one of a type with its fixed part and attributes.
func (r *reply) message(typ uint16, body []byte) {
	n := unix.SizeofNlMsghdr + len(body)
	if len(r.b)+n > nlDatagram {
		r.flush()
	}
	r.append(typ, body)
}

func (r *reply) append(typ uint16, body []byte) {
	n := unix.SizeofNlMsghdr + len(body)
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

// request serves one message (netlink_rcv_skb).
func (x *netlinkSocket) request(c *Caller, b []byte, port uint32, creds Ucred) {
	le := binary.LittleEndian
	typ, flags, seq := le.Uint16(b[4:]), le.Uint16(b[6:]), le.Uint32(b[8:])
	if flags&unix.NLM_F_REQUEST == 0 || typ < unix.NLMSG_MIN_TYPE {
		if flags&unix.NLM_F_ACK != 0 {
			x.ack(b, 0, seq, port)
		}
		return
	}
	body := b[unix.SizeofNlMsghdr:]
	r := &reply{x: x, seq: seq, port: port}
	dump := flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP
	switch x.pro {
	case unix.NETLINK_KOBJECT_UEVENT:
		dump = false
	case unix.NETLINK_ROUTE: // only the third kind of each four, RTM_GET…, is dumped
		dump = dump && typ&3 == 2
	}
	if dump {
		if !x.beginDump() {
			x.ack(b, unix.EBUSY, seq, port)
			return
		}
		r.flags, r.dump = unix.NLM_F_MULTI, new(nlDump)
	}
	var err unix.Errno
	switch x.pro {
	case unix.NETLINK_GENERIC:
		err = x.s.generic(c, r, typ, body, dump)
	case unix.NETLINK_KOBJECT_UEVENT:
		err = x.s.uevent(c, body, creds)
	case unix.NETLINK_SOCK_DIAG:
		err = x.s.sockDiag(c, r, typ, body, dump)
	default:
		err = x.s.route(c, r, typ, flags, body, dump)
	}
	if dump {
		err = x.endDump(r, err)
	} else if err == 0 {
		r.flush()
	}
	if err != 0 || flags&unix.NLM_F_ACK != 0 && !dump {
		x.ack(b, err, seq, port)
	}
}

// maxUevent bounds a device's announcement (UEVENT_BUFFER_SIZE).
const maxUevent = 2048

// uevent sends a program's announcement of a device to those who listen, as the kernel's, but
// with the program's credentials: EPERM. See uevent_net_rcv_skb.
func (s *Stack) uevent(c *Caller, body []byte, creds Ucred) unix.Errno {
	if !c.capable(capSysAdmin) {
		return unix.EPERM
	}
	seq := fmt.Appendf(nil, "SEQNUM=%d\x00", s.uevents.Add(1))
	if unix.SizeofNlMsghdr+len(body)+len(seq) > maxUevent {
		return unix.EINVAL
	}
	s.broadcast(unix.NETLINK_KOBJECT_UEVENT, nlMessage{b: append(bytes.Clone(body), seq...), group: 1, creds: creds}, nil)
	return 0
}

// notify tells those who listen to a group of NETLINK_ROUTE.
func (s *Stack) notify(group int, typ uint16, body []byte) {
	var r reply
	r.append(typ, body)
	s.broadcast(unix.NETLINK_ROUTE, nlMessage{b: r.b, group: group}, nil)
}

// broadcast sends m to those who listen to its group of a protocol, but not to who sent it.
func (s *Stack) broadcast(protocol int32, m nlMessage, sender *netlinkSocket) {
	for _, o := range s.list.all() {
		if x, ok := o.(*netlinkSocket); ok && x.pro == protocol && x != sender {
			x.post(m)
		}
	}
}

// ack is NLMSG_ERROR with the request that it answers.
func (x *netlinkSocket) ack(req []byte, err unix.Errno, seq, port uint32) {
	r := &reply{x: x, seq: seq, port: port}
	body := le32(uint32(-int32(err)))
	x.mu.Lock()
	short := err == 0 || x.capAck
	x.mu.Unlock()
	if short {
		r.flags = unix.NLM_F_CAPPED
		req = req[:unix.SizeofNlMsghdr]
	}
	r.message(unix.NLMSG_ERROR, append(body, req[:min(len(req), 1024)]...))
	r.flush()
}
