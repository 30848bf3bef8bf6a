package net

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
)

// inetSocket is an AF_INET or AF_INET6 socket over a netstack endpoint.
type inetSocket struct {
	base
	// cur is netstack's endpoint: another one after a connection has ended, since
	// netstack's cannot be used twice (renew).
	cur atomic.Pointer[tcpip.Endpoint]
	q   *waiter.Queue

	raw    bool        // counted in flows.raw
	fresh  atomic.Bool // counted in gate.fresh
	bound  atomic.Bool
	cost   int64 // charged to the budget here (not by the gate)
	closed atomic.Bool
	// Datagrams and packets not read, as rcvMem counts them, and who delivers one now.
	unread  atomic.Int64
	drops   atomic.Uint32 // datagrams that there was no room for
	arrival sync.Mutex
	// reading is held while netstack copies a datagram: one that is only looked at stays in its
	// queue, without a reference of the reader's.
	reading sync.Mutex

	flow atomic.Pointer[flow] // TCP, once it connects or is accepted

	mu       sync.Mutex
	returned []*inetSocket // connections that got no descriptor, oldest first

	// local is the address that bind asked for, for the next endpoint.
	local atomic.Pointer[tcpip.FullAddress]
	// reserved is the device, and one more, for which a datagram socket's port was reserved, where
	// the socket is bound to another meanwhile.
	reserved atomic.Int32
	anyPort  atomic.Pointer[ports.Reservation] // see holdAny
	accepted bool
	from     tcpip.FullAddress // of one that was accepted
	told     atomic.Bool       // somebody has heard of the error that ended the connection, or of why there is none
	backlog  atomic.Int32
	// icmpFilter is ICMP_FILTER: a bit for each type that a raw socket does not want.
	icmpFilter atomic.Uint32
	conn       atomic.Int32  // unconnected, connecting, connected
	down       atomic.Uint32 // SHUT_RD and SHUT_WR as bits 0 and 1
	eof        atomic.Bool   // the program has read that the peer's stream has ended

	sendMu sync.Mutex // corked, and options set for one datagram only
	corked *corked
	corks  atomic.Bool // corked is not nil

	groups groups

	recverr atomic.Uint32 // IP_RECVERR and IPV6_RECVERR, but of TCP
	errs    errorQueue
	zero    zeroCopies

	sent, taken atomic.Uint64 // bytes of a stream, for TCP_INFO

	// See fusion.go. ops counts the calls inside of the endpoint; while fusing is set none
	// begins.
	pair   atomic.Pointer[fusion]
	fused  atomic.Pointer[fused]
	ops    atomic.Int32
	fusing atomic.Bool
	toSelf atomic.Bool                               // counted in fuses.clients
	kernel bool                                      // the kernel's own, which knows its endpoint alone
	word   atomic.Pointer[stack.TransportEndpointID] // in fuses.waiting; written under fuses.mu
}

func (x *inetSocket) ep() tcpip.Endpoint { return *x.cur.Load() }

func (x *inetSocket) setEndpoint(ep tcpip.Endpoint) { x.cur.Store(&ep) }

func (s *Stack) inetSocket(c *Caller, family, typ, protocol int) (Socket, error) {
	if protocol < 0 || protocol >= unix.IPPROTO_MPTCP+1 {
		return nil, unix.EINVAL
	}
	net := tcpip.NetworkProtocolNumber(ipv4.ProtocolNumber)
	icmpProto, icmpNr := tcpip.TransportProtocolNumber(icmp.ProtocolNumber4), unix.IPPROTO_ICMP
	if family == unix.AF_INET6 {
		net = ipv6.ProtocolNumber
		icmpProto, icmpNr = icmp.ProtocolNumber6, unix.IPPROTO_ICMPV6
	}
	var tr tcpip.TransportProtocolNumber
	raw := false
	switch typ {
	case unix.SOCK_STREAM:
		if protocol != 0 && protocol != unix.IPPROTO_TCP {
			return nil, unix.EPROTONOSUPPORT
		}
		tr, protocol = tcp.ProtocolNumber, unix.IPPROTO_TCP
	case unix.SOCK_DGRAM:
		switch protocol {
		case 0, unix.IPPROTO_UDP:
			tr, protocol = udp.ProtocolNumber, unix.IPPROTO_UDP
		case unix.IPPROTO_UDPLITE:
			tr = liteNumber
		case icmpNr:
			if !s.mayPing(c) {
				return nil, unix.EACCES
			}
			tr = icmpProto
		default:
			return nil, unix.EPROTONOSUPPORT
		}
	case unix.SOCK_RAW:
		if protocol == 0 {
			return nil, unix.EPROTONOSUPPORT
		}
		if !c.capable(capNetRaw) {
			return nil, unix.EPERM
		}
		tr, raw = tcpip.TransportProtocolNumber(protocol), true
	default:
		return nil, unix.ESOCKTNOSUPPORT
	}
	sock := &inetSocket{q: new(waiter.Queue)}
	sock.base = base{s: s, domain: int32(family), typ: int32(typ), pro: int32(protocol)}
	if tr == tcp.ProtocolNumber && !raw {
		if !s.gate.admit() {
			return nil, unix.ENOBUFS
		}
		sock.fresh.Store(true)
		s.gate.fresh.Add(1)
	} else if sock.cost = sockCost; !s.cfg.Budget.Charge(sock.cost) {
		return nil, unix.ENOBUFS
	}
	var ep tcpip.Endpoint
	var err tcpip.Error
	if raw {
		// A socket of IPPROTO_RAW sends packets with their headers and receives none.
		ep, err = s.ns.NewRawEndpoint(tr, net, sock.q, protocol != unix.IPPROTO_RAW)
	} else {
		ep, err = s.ns.NewEndpoint(tr, net, sock.q)
	}
	if err != nil {
		sock.settled()
		s.cfg.Budget.Uncharge(sock.cost)
		return nil, errno(err)
	}
	if raw && protocol != unix.IPPROTO_RAW || tr == liteNumber {
		ep = sock.gateRaw(ep, net, tr)
	}
	sock.setEndpoint(ep)
	sock.uid = c.ucred().UID
	if typ != unix.SOCK_STREAM {
		// SO_TIMESTAMP and the like are decided per message here.
		sock.ep().SocketOptions().SetReceivePacketInfo(false)
	}
	if te, ok := sock.ep().(stack.TransportEndpoint); ok && typ == unix.SOCK_DGRAM {
		s.rcv.socks.Store(te, sock)
	}
	if sock.raw = raw && tr == tcp.ProtocolNumber; sock.raw {
		s.flows.raw.Add(1)
		s.unfuse()
	}
	s.register(&sock.base, sock)
	return sock, nil
}

// settled says that netstack's tables know the endpoint now, or never will.
func (x *inetSocket) settled() {
	if x.fresh.CompareAndSwap(true, false) {
		x.s.gate.fresh.Add(-1)
	}
}

func (x *inetSocket) isTCP() bool { return x.typ == unix.SOCK_STREAM }

func (x *inetSocket) state() tcp.EndpointState { return tcp.EndpointState(x.ep().State()) }

// Readiness implements waiter.Waitable: netstack's answer, made Linux's
// (net/ipv4/tcp.c, tcp_poll).
func (x *inetSocket) Readiness(mask waiter.EventMask) waiter.EventMask {
	ask := mask | waiter.EventErr | waiter.EventHUp
	if mask&waiter.EventRdHUp != 0 {
		ask |= waiter.ReadableEvents // netstack looks for the peer's FIN only then
	}
	f := x.fused.Load()
	if f != nil {
		if r, ok := x.fusedReadiness(f, mask); ok {
			return x.withErrors(mask, r)
		}
	}
	r := x.ep().Readiness(ask)
	if f != nil {
		r = x.mixedReadiness(f, mask, r)
	}
	if x.isTCP() {
		switch x.state() {
		case tcp.StateInitial, tcp.StateBound:
			r = waiter.EventHUp | waiter.WritableEvents | x.shutEvents(0)
		case tcp.StateTimeWait:
			r = waiter.ReadableEvents | waiter.WritableEvents | waiter.EventHUp | waiter.EventRdHUp
		case tcp.StateClose, tcp.StateError:
			r = waiter.ReadableEvents | waiter.WritableEvents | waiter.EventHUp | waiter.EventRdHUp
			if x.broken() && !x.told.Load() {
				r |= waiter.EventErr
			}
		case tcp.StateEstablished:
			if low := int(x.opt.rcvlowat.Load()); low > 1 && r&waiter.ReadableEvents != 0 {
				if n, err := x.waiting(); err == nil && n < low {
					r &^= waiter.ReadableEvents
				}
			}
			r |= x.shutEvents(0)
		case tcp.StateFinWait1, tcp.StateFinWait2:
			r |= x.shutEvents(0)
		case tcp.StateCloseWait, tcp.StateClosing, tcp.StateLastAck:
			r |= x.shutEvents(1)
		case tcp.StateListen:
			if len(x.returned) > 0 { // racy on purpose: a listener's poller asks again
				r |= waiter.ReadableEvents
			}
		}
	}
	if x.typ == unix.SOCK_DGRAM {
		switch x.down.Load() {
		case 1:
			r |= waiter.ReadableEvents | waiter.EventRdHUp
		case 3:
			r |= waiter.ReadableEvents | waiter.EventRdHUp | waiter.EventHUp
		}
	}
	return x.withErrors(mask, r)
}

// broken says that an error has ended the connection. One that the peer had finished before netstack
// ends without (StateClose), but only a reset does that before this side has finished, too: EPIPE.
func (x *inetSocket) broken() bool {
	st := x.state()
	return st == tcp.StateError || st == tcp.StateClose && x.down.Load()&2 == 0
}

// withErrors is what of r is reported to mask.
func (x *inetSocket) withErrors(mask, r waiter.EventMask) waiter.EventMask {
	if mask&(waiter.ReadableEvents|waiter.EventErr) != 0 && x.hasQueuedError() || x.opt.pending.Load() != 0 {
		r |= waiter.EventErr
	}
	return ready(mask, r)
}

// shutEvents are the events of what is shut down, as tcp_poll has them: here, and, with
// finished 1, by the peer's FIN. netstack tells neither once both directions are.
func (x *inetSocket) shutEvents(finished uint32) (r waiter.EventMask) {
	down := x.down.Load() | finished
	if down&1 != 0 {
		r = waiter.ReadableEvents | waiter.EventRdHUp
	}
	if down == 3 {
		r |= waiter.EventHUp
	}
	return r
}

func (x *inetSocket) hasQueuedError() bool {
	if x.zero.untold.Load() {
		return true
	}
	if !x.isTCP() {
		x.hearErrors()
		return x.errs.n.Load() != 0
	}
	o := x.ep().SocketOptions()
	return (o.GetIPv4RecvError() || o.GetIPv6RecvError()) && o.PeekErr() != nil
}

// EndsAsReadable tells epoll that netstack announces a peer's FIN as readable events
// alone.
func (x *inetSocket) EndsAsReadable() {}

// EventRegister implements waiter.Waitable.
func (x *inetSocket) EventRegister(e *waiter.Entry) error {
	x.q.EventRegister(e)
	if m := e.Mask(); m&waiter.EventRdHUp != 0 {
		e.SetQueuedMask(x.q, m|waiter.ReadableEvents) // a FIN is announced as these
	}
	return nil
}

// EventUnregister implements waiter.Waitable.
func (x *inetSocket) EventUnregister(e *waiter.Entry) { x.q.EventUnregister(e) }

// Bind implements Socket. See inet_bind, inet6_bind.
func (x *inetSocket) Bind(c *Caller, b []byte) error {
	if x.domain == unix.AF_INET && len(b) >= sizeIn && familyOf(b) == unix.AF_UNSPEC &&
		b[4]|b[5]|b[6]|b[7] == 0 {
		// Old programs leave the family out with INADDR_ANY.
		b = append([]byte{unix.AF_INET, 0}, b[2:]...)
	}
	a, err := parseAddr(int(x.domain), b)
	if err != nil {
		return err
	}
	if err := x.loosen(); err != nil {
		return err
	}
	if x.typ != unix.SOCK_RAW {
		switch privileged := a.Port != 0 && a.Port < 1024 && !c.capable(capNetBindService); {
		case !privileged && !x.bound.Load():
		case x.domain == unix.AF_INET && x.elsewhere(a.Addr): // this is looked at first
			return unix.EADDRNOTAVAIL
		case x.domain == unix.AF_INET6 && x.isTCP() && header.IsV6MulticastAddress(a.Addr):
			return unix.EINVAL
		case privileged:
			return unix.EACCES
		default:
			return unix.EINVAL
		}
	}
	device := x.device()
	if a.NIC == 0 && needsScope(a.Addr) {
		a.NIC = device
	}
	if err := x.mayBind(a); err != nil {
		return err
	}
	if a.NIC != 0 {
		x.setDevice(a.NIC)
	}
	if terr := x.ep().Bind(netAddr(a)); terr != nil {
		x.setDevice(device)
		if _, local := terr.(*tcpip.ErrBadLocalAddress); local && x.opt.freebind.Load() {
			return unix.EOPNOTSUPP
		}
		if _, full := terr.(*tcpip.ErrNoPortAvailable); full {
			return unix.EADDRINUSE
		}
		return errno(terr)
	}
	x.bound.Store(true)
	x.local.Store(&a)
	x.holdAny(x.ep(), a)
	if a.Addr.Len() == header.IPv6AddressSize && !a.Addr.Unspecified() && !header.IsV4MappedAddress(a.Addr) {
		x.ep().SocketOptions().SetV6Only(true) // sk_ipv6only (__inet6_bind)
	}
	return nil
}

// elsewhere says that an IPv4 address is neither this machine's nor many hosts', and that the
// socket may not have such (inet_addr_valid_or_nonlocal).
func (x *inetSocket) elsewhere(a tcpip.Address) bool {
	return !a.Unspecified() && !x.s.local(a) && !header.IsV4MulticastAddress(a) && a != header.IPv4Broadcast && !x.s.subnetBroadcast(a) &&
		!x.opt.freebind.Load() && !x.opt.transparent.Load()
}

// mayBind is what Linux checks of an address before the port.
func (x *inetSocket) mayBind(a tcpip.FullAddress) error {
	if x.domain == unix.AF_INET6 {
		switch {
		case header.IsV4MappedAddress(a.Addr) && x.ep().SocketOptions().GetV6Only():
			return unix.EINVAL
		case header.IsV6MulticastAddress(a.Addr) && x.isTCP():
			return unix.EINVAL
		case needsScope(a.Addr):
			if a.NIC == 0 {
				return unix.EINVAL
			}
			if !x.s.ns.HasNIC(a.NIC) {
				return unix.ENODEV
			}
		}
	} else if x.isTCP() && header.IsV4MulticastAddress(a.Addr) {
		return unix.EADDRNOTAVAIL
	}
	if x.isTCP() && x.ep().SocketOptions().GetReuseAddress() {
		// Where somebody listens SO_REUSEADDR means nothing (inet_csk_bind_conflict).
		if err := x.mayShare(a, func(o *inetSocket) bool { return o.state() != tcp.StateListen || x.uid == o.uid && x.reusesPort(o) }); err != nil {
			return err
		}
	}
	if !x.ep().SocketOptions().GetReusePort() {
		return nil
	}
	return x.mayShare(a, func(o *inetSocket) bool { return o.uid == x.uid || !o.ep().SocketOptions().GetReusePort() })
}

// reusesPort says that both want to share a port (SO_REUSEPORT).
func (x *inetSocket) reusesPort(o *inetSocket) bool {
	return x.ep().SocketOptions().GetReusePort() && o.ep().SocketOptions().GetReusePort()
}

// Listen implements Socket.
func (x *inetSocket) Listen(_ *Caller, backlog int) error {
	if !x.isTCP() {
		return unix.EOPNOTSUPP
	}
	if x.conn.Load() != ssUnconnected {
		return unix.EINVAL // also after the connection's end
	}
	// A negative backlog is the largest, as an unsigned comparison makes it.
	if most := int(x.s.somaxconn.Load()); backlog < 0 || backlog > most {
		backlog = most
	}
	if x.state() == tcp.StateInitial {
		if err := x.ep().Bind(tcpip.FullAddress{}); err != nil {
			return errno(err)
		}
		x.bound.Store(true)
	}
	if la, err := x.ep().GetLocalAddress(); err == nil && x.state() == tcp.StateBound && x.ep().SocketOptions().GetReuseAddress() {
		// SO_REUSEADDR lets two sockets have the address, but one listen there.
		if err := x.mayShare(la, func(o *inetSocket) bool { return o.state() != tcp.StateListen || x.reusesPort(o) }); err != nil {
			return err
		}
	}
	x.backlog.Store(int32(backlog))
	// Linux takes backlog+1 connections.
	if err := x.ep().Listen(backlog + 1); err != nil {
		return errno(err)
	}
	x.settled()
	return nil
}

// Accept implements Socket.
func (x *inetSocket) Accept(*Caller) (Socket, error) {
	if !x.isTCP() {
		return nil, unix.EOPNOTSUPP
	}
	x.mu.Lock()
	if len(x.returned) > 0 {
		n := x.returned[0]
		x.returned = x.returned[1:]
		x.mu.Unlock()
		return n, nil
	}
	x.mu.Unlock()
	var from tcpip.FullAddress
	ep, q, err := x.ep().Accept(&from)
	if err != nil {
		return nil, errno(err)
	}
	n := &inetSocket{q: q, from: from}
	n.setEndpoint(ep)
	n.base = base{s: x.s, domain: x.domain, typ: x.typ, pro: x.pro, uid: x.uid}
	n.inherit(x)
	n.flow.Store(x.s.acks.follow(ep))
	n.bound.Store(true)
	x.s.register(&n.base, n)
	if x.s.fuses.clients.Load() != 0 {
		x.s.fuses.meet(n)
	}
	return n, nil
}

// Unaccept implements Socket.
func (x *inetSocket) Unaccept(s Socket) {
	n := s.(*inetSocket)
	x.mu.Lock()
	gone := x.closed.Load()
	if !gone {
		x.returned = append(x.returned, n)
	}
	x.mu.Unlock()
	if gone {
		n.Release(nil)
		return
	}
	x.q.Notify(waiter.ReadableEvents)
}

// SockName implements Socket.
func (x *inetSocket) SockName() ([]byte, error) {
	a, err := x.ep().GetLocalAddress()
	if err != nil {
		return nil, errno(err)
	}
	return encodeAddr(int(x.domain), a), nil
}

// PeerName implements Socket.
func (x *inetSocket) PeerName() ([]byte, error) {
	if x.isTCP() {
		switch x.state() {
		case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv, tcp.StateListen:
			return nil, unix.ENOTCONN
		}
	}
	a, err := x.ep().GetRemoteAddress()
	if err != nil {
		return nil, unix.ENOTCONN
	}
	return encodeAddr(int(x.domain), a), nil
}

// lastPeer is whom the socket is connected to or, of TCP, has tried to: no more than that is
// forgotten when a connection ends (inet_dport, sk_dst_cache).
func (x *inetSocket) lastPeer() (tcpip.FullAddress, bool) {
	a, err := x.ep().GetRemoteAddress()
	if err == nil {
		return a, true
	}
	i, ok := x.ep().Info().(*stack.TransportEndpointInfo)
	if !ok || !x.isTCP() || i.ID.RemotePort == 0 || x.state() == tcp.StateListen {
		return a, false
	}
	return tcpip.FullAddress{Addr: i.ID.RemoteAddress, Port: i.ID.RemotePort}, true
}

// lastPeerName is lastPeer for SO_PEERNAME, which getpeername(2) does not tell: nil if there is none.
func (x *inetSocket) lastPeerName() []byte {
	if a, ok := x.lastPeer(); ok {
		return encodeAddr(int(x.domain), a)
	}
	return nil
}

// AcceptedFrom is the peer's address for accept(2), also of a connection that was reset before
// it was accepted (inet_getname).
func (x *inetSocket) AcceptedFrom() []byte { return encodeAddr(int(x.domain), x.from) }

// Release implements vfs.FileOps: the last descriptor is gone.
func (x *inetSocket) Release(*vfs.File) {
	if x.closed.Swap(true) {
		return
	}
	x.s.list.remove(x.ino)
	x.unlimited()
	x.mu.Lock()
	returned := x.returned
	x.returned = nil
	x.mu.Unlock()
	for _, n := range returned {
		n.ep().Abort()
		n.Release(nil)
	}
	m := x.s.meet(x.ep())
	unread := x.isTCP() && x.s.fuses.leave(x)
	x.push()
	x.setFilter(nil)
	x.dropCorked()
	if !x.isTCP() {
		if x.recverr.Load() != 0 {
			x.s.forgetErrors(x)
		}
		x.dropErrors(true)
	}
	if unread && x.state() != tcp.StateTimeWait {
		x.ep().Abort() // as netstack does with what its own queue holds
	}
	x.ofBoth()
	x.asReserved(func() tcpip.Error { x.ep().Close(); return nil })
	if !x.isTCP() {
		if te, ok := x.ep().(stack.TransportEndpoint); ok {
			x.s.rcv.socks.Delete(te)
		}
		x.s.rcv.forget(x)
		x.leaveGroups()
	}
	if x.raw {
		x.s.flows.raw.Add(-1)
	}
	x.settled()
	x.s.cfg.Budget.Uncharge(x.cost)
	if x.isTCP() {
		x.s.gate.closed()
		m.settle()
	}
}
