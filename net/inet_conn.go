package net

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Linux's socket states (SS_*), for TCP: what connect(2) has been told.
const (
	ssUnconnected   = iota
	ssConnecting    // the result has not been told yet
	ssConnected     // also after the end of the connection
	ssDisconnecting // shut down after the connection failed, before anybody heard of it
)

// Connect implements Socket. See inet_stream_connect, ip4_datagram_connect.
func (x *inetSocket) Connect(_ *Caller, b []byte) (err error) {
	if len(b) < 2 {
		return unix.EINVAL
	}
	if familyOf(b) == unix.AF_UNSPEC {
		return x.disconnect()
	}
	if !x.isTCP() {
		defer func() {
			if err != nil {
				x.autobind()
			}
		}()
	} else {
		if done, err := x.connectAgain(); done {
			return err
		}
	}
	a, err := x.remote(b)
	if err == nil {
		err = x.mayReach(a.Addr)
	}
	if err != nil {
		return err
	}
	device := x.device()
	if a.NIC != 0 && needsScope(a.Addr) {
		x.setDevice(a.NIC)
	} else if l, _ := x.ep().GetLocalAddress(); a.NIC == 0 && (l.NIC == 0 || !x.isTCP()) {
		a.NIC = device // which netstack heeds in what comes, not in where this goes
	}
	x.s.fuses.client(x, plainAddr(a.Addr))
	connect := func() tcpip.Error { return x.ep().Connect(a) }
	var terr tcpip.Error
	if x.isTCP() {
		terr = x.connectFrom(a, connect)
	} else {
		terr = x.asReserved(connect)
		if _, no := terr.(*tcpip.ErrNetworkUnreachable); no && x.udp6() && isIPv4(a.Addr) {
			terr = x.toIPv4(connect)
		}
	}
	if _, started := terr.(*tcpip.ErrConnectStarted); terr != nil && !started {
		x.setDevice(device)
	}
	switch terr.(type) {
	case nil:
		x.bound.Store(true)
		return nil
	case *tcpip.ErrConnectStarted:
		x.opt.takeError()
		x.conn.Store(ssConnecting)
		x.flow.Store(x.s.acks.follow(x.ep()))
		x.bound.Store(true)
		x.settled()
		x.limitConnect()
		if x.toSelf.Load() {
			x.s.fuses.meet(x)
			x.settleConnect()
		}
		return unix.EINPROGRESS
	case *tcpip.ErrBadLocalAddress:
		return unix.EINVAL
	case *tcpip.ErrHostUnreachable:
		if x.s.noRoute(a.Addr) {
			return unix.ENETUNREACH
		}
	}
	return errno(terr)
}

// toIPv4 connects a UDP socket to an IPv4 address that an IPv6 connection, which made it an IPv6
// socket alone to netstack, has given its port.
func (x *inetSocket) toIPv4(connect func() tcpip.Error) tcpip.Error {
	l, err := x.ep().GetLocalAddress()
	if err != nil || x.local.Load() != nil {
		return &tcpip.ErrNetworkUnreachable{} // its address is the program's choice
	}
	if err := x.asReserved(x.ep().Disconnect); err != nil {
		return err
	}
	if now, err := x.ep().GetLocalAddress(); err != nil || now.Port == 0 {
		if err := x.ep().Bind(tcpip.FullAddress{Port: l.Port}); err != nil {
			return err
		}
	}
	return x.asReserved(connect)
}

// autobind gives a datagram socket a port, which a connect or a send leaves it with on Linux
// though it fails otherwise (inet_autobind).
func (x *inetSocket) autobind() {
	if x.typ == unix.SOCK_DGRAM && !x.bound.Load() && x.ep().Bind(tcpip.FullAddress{}) == nil {
		x.bound.Store(true)
	}
}

// remote is the address that connect names; the any address is this host.
func (x *inetSocket) remote(b []byte) (a tcpip.FullAddress, err error) {
	if x.domain == unix.AF_INET6 && familyOf(b) == unix.AF_INET && !x.isTCP() {
		if x.ep().SocketOptions().GetV6Only() {
			return a, unix.EAFNOSUPPORT
		}
		a, err = parseAddr(unix.AF_INET, b)
	} else {
		a, err = parseAddr(int(x.domain), b)
	}
	if err != nil {
		return a, err
	}
	to, narrow := x.within(a.Addr)
	if narrow == nil {
		a.Addr = to
	}
	if a.Addr.Unspecified() {
		if a.Addr.Len() == 4 {
			a.Addr = tcpip.AddrFrom4([4]byte{127, 0, 0, 1})
		} else {
			a.Addr = header.IPv6Loopback
		}
	}
	if a.Addr.Len() != header.IPv6AddressSize {
		return a, nil
	}
	many := header.IsV6MulticastAddress(a.Addr)
	if many && x.isTCP() {
		return a, unix.ENETUNREACH
	}
	if a.NIC == 0 && x.device() == 0 && !x.isTCP() && !header.IsV4MappedAddress(a.Addr) {
		a.NIC = x.stickyIf()
	}
	if !needsScope(a.Addr) {
		if many && a.NIC == 0 && x.device() == 0 {
			a.NIC = x.many6()
		}
		return a, narrow
	}
	switch device := x.device(); {
	case a.NIC == 0 && device == 0 && many:
		a.NIC = x.manyIf6()
	case a.NIC == 0:
		a.NIC = device
	case device != 0 && a.NIC != device:
		return a, unix.EINVAL
	}
	if a.NIC == 0 {
		return a, unix.EINVAL // which link?
	}
	return a, narrow
}

// within is where a reaches for a datagram socket of IPv6 that has an IPv4 address of its own:
// EAFNOSUPPORT for an IPv6 address, but the any address is IPv4's then.
func (x *inetSocket) within(a tcpip.Address) (tcpip.Address, error) {
	if x.domain != unix.AF_INET6 || x.isTCP() || a.Len() != header.IPv6AddressSize || header.IsV4MappedAddress(a) {
		return a, nil
	}
	if l, err := x.ep().GetLocalAddress(); err != nil || plainAddr(l.Addr).Len() != header.IPv4AddressSize {
		return a, nil
	}
	if a.Unspecified() {
		return header.IPv4Any, nil
	}
	return a, unix.EAFNOSUPPORT
}

// device is the interface that the socket is bound to: SO_BINDTODEVICE, or the scope of an
// address that it was bound or connected to.
func (x *inetSocket) device() tcpip.NICID {
	return tcpip.NICID(x.ep().SocketOptions().GetBindToDevice())
}

// setDevice changes it, but not that of a datagram socket that has a port: netstack has the
// port reserved for the device, and gives it back for the one that the socket has then.
func (x *inetSocket) setDevice(nic tcpip.NICID) {
	if l, _ := x.ep().GetLocalAddress(); x.isTCP() || l.Port == 0 {
		x.ep().SocketOptions().SetBindToDevice(int32(nic))
	}
}

// bindToIndex is SO_BINDTODEVICE.
func (x *inetSocket) bindToIndex(n int32) error {
	o := x.ep().SocketOptions()
	old := o.GetBindToDevice()
	if err := errno(o.SetBindToDevice(n)); err != nil {
		return err
	}
	if l, _ := x.ep().GetLocalAddress(); !x.isTCP() && l.Port != 0 {
		x.reserved.CompareAndSwap(0, old+1)
	}
	return nil
}

// manyIf6 is IPV6_MULTICAST_IF.
func (x *inetSocket) manyIf6() tcpip.NICID {
	n, _ := x.opt.kept.load(unix.SOL_IPV6, unix.IPV6_MULTICAST_IF)
	return tcpip.NICID(n)
}

// stickyIf is the interface that the option IPV6_PKTINFO names, 0 for none.
func (x *inetSocket) stickyIf() tcpip.NICID {
	n, _ := x.opt.kept.load(unix.SOL_IPV6, unix.IPV6_PKTINFO)
	return tcpip.NICID(n)
}

// many6 is the interface that what goes to many hosts by IPv6 leaves by, unless something else
// says which.
func (x *inetSocket) many6() tcpip.NICID {
	if n := x.manyIf6(); n != 0 {
		return n
	}
	return x.s.many6()
}

// many6 is the first interface that has ff00::/8 in Linux's table local, which comes before the
// default route: that is up, not the loopback, and has an IPv6 address; 0 if there is none.
func (s *Stack) many6() tcpip.NICID {
	for _, i := range s.interfaces() {
		if s.hasMany6(i) {
			return i.id
		}
	}
	return 0
}

func (s *Stack) hasMany6(i *iface) bool {
	return i.lo == nil && !i.down.Load() && slices.ContainsFunc(s.addresses(i.id), func(a tcpip.ProtocolAddress) bool {
		return a.AddressWithPrefix.Address.Len() == header.IPv6AddressSize
	})
}

// mayReach refuses what connect does before there is a packet: TCP to many hosts, UDP to
// all without SO_BROADCAST.
func (x *inetSocket) mayReach(a tcpip.Address) error {
	broadcast := a == header.IPv4Broadcast || a.Len() == 4 && x.s.subnetBroadcast(a)
	switch {
	case x.isTCP() && (broadcast || header.IsV4MulticastAddress(a)):
		return unix.ENETUNREACH
	case !x.isTCP() && broadcast && !x.ep().SocketOptions().GetBroadcast():
		return unix.EACCES
	}
	return nil
}

// subnetBroadcast says whether an address is the broadcast address of an interface's net.
func (s *Stack) subnetBroadcast(a tcpip.Address) bool {
	for _, i := range s.interfaces() {
		if s.ns.IsSubnetBroadcast(i.id, ipv4.ProtocolNumber, a) {
			return true
		}
	}
	return false
}

// connectAgain is connect on a TCP socket that listens, is connecting or has been
// connected; false: it may connect.
func (x *inetSocket) connectAgain() (bool, error) {
	st := x.state()
	switch x.conn.Load() {
	case ssConnected:
		return true, unix.EISCONN
	case ssDisconnecting:
		return true, unix.EINVAL
	case ssConnecting:
		switch st {
		case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
			return true, unix.EALREADY
		case tcp.StateError, tcp.StateInitial, tcp.StateBound, tcp.StateClose, tcp.StateTimeWait:
			return true, x.connectFailed()
		}
		x.connectDone()
		return true, nil
	}
	switch st {
	case tcp.StateListen:
		return true, unix.EISCONN
	case tcp.StateError, tcp.StateClose, tcp.StateTimeWait:
		if err := x.renew(); err != nil {
			return true, err
		}
	}
	return false, nil
}

// untold says that nobody has heard yet how the connection went.
func (x *inetSocket) untold() bool {
	st := x.conn.Load()
	return st == ssConnecting || st == ssDisconnecting
}

// pendingConnect says that the connection is neither made nor has it failed.
func (x *inetSocket) pendingConnect() bool {
	switch x.state() {
	case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
		return true
	}
	return false
}

// limitConnect ends an attempt to connect when TCP_SYNCNT or TCP_USER_TIMEOUT has it end: netstack
// sends as many SYNs as it pleases (two minutes).
func (x *inetSocket) limitConnect() {
	var patience tcpip.TCPUserTimeoutOption
	ep := x.ep()
	if err := ep.GetSockOpt(&patience); err != nil {
		return
	}
	repeats, _ := x.opt.kept.load(unix.SOL_TCP, unix.TCP_SYNCNT)
	d := connectLimit(int(repeats), time.Duration(patience))
	if d == 0 {
		return
	}
	t := x.s.clock.AfterFunc(d, func() {
		if x.ep() == ep && x.pendingConnect() {
			x.Defer(unix.ETIMEDOUT)
			x.told.Store(true) // netstack's own error
			ep.Abort()
			x.q.Notify(waiter.EventErr | waiter.EventHUp | waiter.ReadableEvents | waiter.WritableEvents)
		}
	})
	x.s.limits.Store(x, t)
	if x.opt.limited.Store(true); x.closed.Load() {
		x.unlimited()
	}
}

// connectLimit is how long an attempt lasts in which a SYN is repeated as often (0: as netstack
// does), the first time after a second and then after twice as long each time, or until the
// patience (0: any) is over, but for the first second (tcp_write_timeout). 0: for ever.
func connectLimit(repeats int, patience time.Duration) (d time.Duration) {
	const first, most = time.Second, 2 * time.Minute
	if repeats > 0 {
		for wait := first; repeats >= 0; repeats-- {
			d += wait
			wait = min(2*wait, most)
		}
	}
	if patience > 0 {
		if patience = max(patience, first); d == 0 || patience < d {
			d = patience
		}
	}
	return d
}

// unlimited is called when an attempt has ended.
func (x *inetSocket) unlimited() {
	if !x.opt.limited.CompareAndSwap(true, false) {
		return
	}
	if t, ok := x.s.limits.LoadAndDelete(x); ok {
		t.(tcpip.Timer).Stop()
	}
}

// connectDone says to netstack that the program knows of its connection.
func (x *inetSocket) connectDone() {
	x.unlimited()
	if ra, err := x.ep().GetRemoteAddress(); err == nil {
		x.ep().Connect(ra)
	}
	x.conn.Store(ssConnected)
}

// connectFailed takes the error and makes the socket as before; ECONNABORTED when
// somebody else had the error (SO_ERROR).
func (x *inetSocket) connectFailed() error {
	err := error(unix.ECONNABORTED)
	if deferred := x.opt.takeError(); deferred != nil {
		err = deferred
	} else if terr := x.ep().LastError(); terr != nil && !x.told.Load() {
		err = errno(terr)
	}
	x.conn.Store(ssUnconnected)
	x.renew()
	return err
}

// loosen lets a socket whose connection has failed be bound, before anybody has heard of the
// failure, which is kept: its port was connect's choice and went with the attempt.
func (x *inetSocket) loosen() error {
	if !x.isTCP() || !x.untold() || x.local.Load() != nil {
		return nil
	}
	switch x.state() {
	case tcp.StateError, tcp.StateClose, tcp.StateInitial, tcp.StateBound:
	default:
		return nil
	}
	err := error(nil)
	if terr := x.ep().LastError(); terr != nil && !x.told.Load() {
		err = errno(terr)
	}
	if failed := x.renew(); failed != nil {
		return failed
	}
	if err != nil {
		x.Defer(err)
	}
	x.down.Store(3) // as tcp_done leaves it
	return nil
}

// noRoute says that no route covers the address: Linux's ENETUNREACH.
func (s *Stack) noRoute(a tcpip.Address) bool {
	for _, r := range s.ns.GetRouteTable() {
		if r.Destination.Contains(a) {
			return false
		}
	}
	return true
}

// disconnect is connect to AF_UNSPEC (tcp_disconnect, __udp_disconnect).
func (x *inetSocket) disconnect() error {
	if !x.isTCP() {
		x.ofBoth()
		err := errno(x.asReserved(x.ep().Disconnect))
		if l, _ := x.ep().GetLocalAddress(); l.Port == 0 {
			x.reserved.Store(0)
		}
		if err == nil {
			x.setDevice(0)
		}
		if err == nil && x.local.Load() == nil {
			// The port was connect's choice and goes with the connection.
			x.bound.Store(false)
		}
		return err
	}
	switch x.state() {
	case tcp.StateInitial, tcp.StateBound:
		return nil
	}
	x.conn.Store(ssUnconnected)
	reset := false
	switch x.state() { // tcp_need_reset
	case tcp.StateEstablished, tcp.StateCloseWait, tcp.StateFinWait1, tcp.StateFinWait2, tcp.StateSynRecv, tcp.StateSynSent:
		reset = true
	}
	m := x.s.meet(x.ep())
	if reset {
		x.Defer(unix.ECONNRESET) // before who polls is told to look
	}
	err := x.renew()
	if err != nil {
		x.opt.takeError()
	}
	m.settle()
	return err
}

// renew gives a TCP socket an endpoint that has never been connected, with the options
// and the bound address of the old one, which is reset.
func (x *inetSocket) renew() error {
	if x.closed.Load() {
		return unix.EBADF
	}
	if x.fresh.CompareAndSwap(false, true) {
		if !x.s.gate.admit() {
			x.fresh.Store(false)
			return unix.ENOBUFS
		}
		x.s.gate.fresh.Add(1)
	}
	net := tcpip.NetworkProtocolNumber(ipv4.ProtocolNumber)
	if x.domain == unix.AF_INET6 {
		net = ipv6.ProtocolNumber
	}
	ep, terr := x.s.ns.NewEndpoint(tcp.ProtocolNumber, net, x.q)
	if terr != nil {
		return errno(terr)
	}
	x.unlimited()
	x.s.fuses.leave(x)
	x.fused.Store(nil)
	x.mu.Lock()
	defer x.mu.Unlock()
	old := x.ep()
	ep.SocketOptions().SetV6Only(old.SocketOptions().GetV6Only())
	if dev := old.SocketOptions().GetBindToDevice(); dev != 0 {
		ep.SocketOptions().SetBindToDevice(dev)
	}
	x.clone(old, ep)
	old.Abort()
	old.Close()
	x.flow.Store(nil)
	x.bound.Store(false)
	x.down.Store(0)
	x.told.Store(false)
	if a := x.local.Load(); a != nil {
		if ep.Bind(netAddr(*a)) == nil {
			x.bound.Store(true)
			x.holdAny(ep, *a)
		}
	}
	x.setEndpoint(ep)
	x.q.Notify(waiter.EventHUp | waiter.WritableEvents)
	return nil
}

// clone copies the options that a connection has from its listener on Linux (sk_clone),
// and a socket keeps when it is used again.
func (x *inetSocket) clone(old, ep tcpip.Endpoint) {
	from, to := old.SocketOptions(), ep.SocketOptions()
	to.SetReuseAddress(from.GetReuseAddress())
	if from.GetReusePort() {
		to.SetReusePort(true)
	}
	if !x.opt.tuned.Load() {
		return
	}
	to.SetKeepAlive(from.GetKeepAlive())
	to.SetDelayOption(from.GetDelayOption())
	to.SetCorkOption(from.GetCorkOption())
	to.SetQuickAck(from.GetQuickAck())
	to.SetLinger(from.GetLinger())
	to.SetMark(from.GetMark())
	to.SetReceiveTOS(from.GetReceiveTOS())
	to.SetReceiveTTL(from.GetReceiveTTL())
	to.SetIPv4RecvError(from.GetIPv4RecvError())
	to.SetIPv6RecvError(from.GetIPv6RecvError())
	if x.opt.sndBuf.Load() {
		to.SetSendBufferSize(from.GetSendBufferSize(), true)
	}
	if x.opt.rcvBuf.Load() {
		to.SetReceiveBufferSize(from.GetReceiveBufferSize(), true)
	}
	for _, o := range []tcpip.SockOptInt{tcpip.IPv4TOSOption, tcpip.IPv4TTLOption, tcpip.IPv6HopLimitOption,
		tcpip.KeepaliveCountOption, tcpip.TCPSynCountOption, tcpip.MTUDiscoverOption} {
		if v, err := old.GetSockOptInt(o); err == nil {
			ep.SetSockOptInt(o, v)
		}
	}
	var idle tcpip.KeepaliveIdleOption
	var interval tcpip.KeepaliveIntervalOption
	var user tcpip.TCPUserTimeoutOption
	var deferred tcpip.TCPDeferAcceptOption
	var linger tcpip.TCPLingerTimeoutOption
	var cc tcpip.CongestionControlOption
	for _, o := range []interface {
		tcpip.GettableSocketOption
		tcpip.SettableSocketOption
	}{&idle, &interval, &user, &deferred, &linger, &cc} {
		if old.GetSockOpt(o) == nil {
			ep.SetSockOpt(o)
		}
	}
	if n := x.opt.userMSS.Load(); n != 0 {
		ep.SetSockOptInt(tcpip.MaxSegOption, int(n))
	}
	if n := x.opt.windowClamp.Load(); n != 0 {
		ep.SetSockOptInt(tcpip.TCPWindowClampOption, int(n))
	}
}

// ConnectResult implements Socket.
func (x *inetSocket) ConnectResult() error {
	switch st := x.state(); st {
	case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
		return unix.EAGAIN
	case tcp.StateError, tcp.StateClose, tcp.StateInitial, tcp.StateBound:
		if x.conn.Load() == ssConnecting {
			return x.connectFailed()
		}
		return nil
	}
	x.connectDone()
	return nil
}

// Shutdown implements Socket.
func (x *inetSocket) Shutdown(how int) error {
	var f tcpip.ShutdownFlags
	switch how {
	case unix.SHUT_RD:
		f = tcpip.ShutdownRead
	case unix.SHUT_WR:
		f = tcpip.ShutdownWrite
	case unix.SHUT_RDWR:
		f = tcpip.ShutdownRead | tcpip.ShutdownWrite
	default:
		return unix.EINVAL
	}
	m := x.s.meet(x.ep())
	if x.isTCP() {
		switch x.state() {
		case tcp.StateInitial, tcp.StateBound:
			x.down.Or(uint32(how) + 1) // and polling shows it
			x.q.Notify(waiter.EventHUp | waiter.ReadableEvents | waiter.EventRdHUp)
			return unix.ENOTCONN
		case tcp.StateClose, tcp.StateError, tcp.StateTimeWait:
			if x.conn.Load() == ssConnecting {
				x.conn.Store(ssDisconnecting)
			}
			return unix.ENOTCONN
		case tcp.StateListen:
			if f&tcpip.ShutdownRead == 0 {
				return nil
			}
			// It listens no more, and those who wait in accept hear of it.
			err := x.renew()
			x.q.Notify(waiter.EventHUp | waiter.ReadableEvents)
			m.settle()
			return err
		}
	}
	if x.isTCP() && x.conn.Load() == ssConnecting && !x.pendingConnect() {
		x.connectDone() // that it was made need not be asked any more
	}
	x.shutdownFused(uint32(how) + 1)
	if f&tcpip.ShutdownWrite != 0 {
		x.push()
	}
	if x.isTCP() && !x.pendingConnect() {
		f = x.shutNow(f, uint32(how)+1)
	}
	err := x.ep().Shutdown(f)
	x.down.Or(uint32(how) + 1)
	x.q.Notify(waiter.EventHUp | waiter.ReadableEvents | waiter.WritableEvents | waiter.EventRdHUp)
	m.settle()
	return errno(err)
}

// shutNow is what netstack is told of f, a connection's directions that are shut. One that is shut
// both ways with bytes unread it would reset, and what was written would be lost; on Linux those
// are read all the same, and a reader finds the end behind them (readError).
func (x *inetSocket) shutNow(f tcpip.ShutdownFlags, how uint32) tcpip.ShutdownFlags {
	f &^= tcpip.ShutdownRead
	if x.down.Load()|how == 3 && !x.holds() {
		f |= tcpip.ShutdownRead // what still comes is answered with a reset
	}
	return f
}

// push sends what TCP_CORK or Nagle's algorithm holds back: no more data follows, so
// Linux sends it at once too (tcp_send_fin). netstack would keep it for 200 ms.
func (x *inetSocket) push() {
	if !x.isTCP() {
		return
	}
	o := x.ep().SocketOptions()
	if o.GetDelayOption() {
		x.opt.kept.store(unix.SOL_TCP, unix.TCP_NODELAY, 0) // as the program has it
		o.SetDelayOption(false)
	}
	if o.GetCorkOption() {
		x.opt.kept.store(unix.SOL_TCP, unix.TCP_CORK, 1)
		o.SetCorkOption(false)
	}
}

// inherit is what an accepted connection has from its listener.
func (x *inetSocket) inherit(l *inetSocket) {
	x.opt.inherit(&l.opt)
	x.opt.sndBuf.Store(l.opt.sndBuf.Load())
	x.accepted = true
	x.conn.Store(ssConnected)
	l.clone(l.ep(), x.ep())
}

// takes is what a bound address takes in: packets of IPv4, of IPv6, or both; any, to whatever
// address.
func (x *inetSocket) takes(a tcpip.FullAddress) (four, six, any bool) {
	plain := plainAddr(a.Addr)
	any = plain.BitLen() == 0 || plain.Unspecified()
	switch {
	case x.domain == unix.AF_INET || header.IsV4MappedAddress(a.Addr) || plain.Len() == header.IPv4AddressSize:
		return true, false, any
	case any:
		return !x.ep().SocketOptions().GetV6Only(), true, true
	}
	return false, true, false
}

// overlaps says whether x at a and o at b, bound addresses, take the same packets
// (inet_rcv_saddr_equal).
func (x *inetSocket) overlaps(a tcpip.FullAddress, o *inetSocket, b tcpip.FullAddress) bool {
	if a.Port != b.Port {
		return false
	}
	if d, e := x.device(), o.device(); d != 0 && e != 0 && d != e {
		return false
	}
	four, six, any := x.takes(a)
	four2, six2, any2 := o.takes(b)
	return (four && four2 || six && six2) && (any || any2 || plainAddr(a.Addr) == plainAddr(b.Addr))
}

// mayShare refuses a bind beside a socket of the same protocol for which f says no.
func (x *inetSocket) mayShare(a tcpip.FullAddress, f func(o *inetSocket) bool) error {
	if a.Port == 0 {
		return nil
	}
	for _, s := range x.s.list.all() {
		o, ok := s.(*inetSocket)
		if !ok || o == x || o.pro != x.pro || o.typ != x.typ || !o.bound.Load() {
			continue
		}
		if la, err := o.ep().GetLocalAddress(); err == nil && x.overlaps(a, o, la) && !f(o) {
			return unix.EADDRINUSE
		}
	}
	return nil
}
