package net

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// netstack reserves a port that a socket is bound to, and gives it back for another key where
// the socket has been connected, so that it is never free again. What it gives back is made the
// same as what it has reserved here.

// holdAny notes what netstack has reserved for a TCP endpoint that was bound to any address: it
// will be given back for the address that the endpoint connects from.
func (x *inetSocket) holdAny(ep tcpip.Endpoint, a tcpip.FullAddress) {
	x.anyPort.Store(nil)
	if !x.isTCP() || plainAddr(a.Addr).BitLen() != 0 {
		return
	}
	l, err := ep.GetLocalAddress()
	if err != nil {
		return
	}
	o := ep.SocketOptions()
	nets := []tcpip.NetworkProtocolNumber{ipv4.ProtocolNumber}
	if x.domain == unix.AF_INET6 && !header.IsV4MappedAddress(a.Addr) {
		if nets[0] = ipv6.ProtocolNumber; !o.GetV6Only() {
			nets = append(nets, ipv4.ProtocolNumber)
		}
	}
	x.anyPort.Store(&ports.Reservation{Networks: nets, Transport: tcp.ProtocolNumber, Port: l.Port, BindToDevice: x.device(),
		Flags: ports.Flags{TupleOnly: o.GetReuseAddress(), LoadBalanced: o.GetReusePort()}})
}

// connectFrom runs connect, which gives a TCP endpoint that was bound to any address the one of
// the route to a; the port is reserved for that one first, as a reset may end all this at once.
func (x *inetSocket) connectFrom(a tcpip.FullAddress, connect func() tcpip.Error) tcpip.Error {
	held := x.anyPort.Load()
	if held == nil {
		return connect()
	}
	to := plainAddr(a.Addr)
	r, err := x.s.ns.FindRoute(a.NIC, tcpip.Address{}, to, protoOf(to), false)
	if err != nil || !x.anyPort.CompareAndSwap(held, nil) {
		if err == nil {
			r.Release()
		}
		return connect()
	}
	own := *held
	own.Addr, own.Networks = r.LocalAddress(), []tcpip.NetworkProtocolNumber{protoOf(to)}
	r.Release()
	move := func(from, to ports.Reservation) {
		x.s.ns.ReleasePort(from)
		x.s.ns.ReservePort(x.s.ns.SecureRNG(), to, nil)
	}
	move(*held, own)
	terr := connect()
	if l, _ := x.ep().GetLocalAddress(); l.Addr.BitLen() == 0 { // it did not come so far
		move(own, *held)
		x.anyPort.Store(held)
	}
	return terr
}

// asReserved runs f, in which netstack registers a datagram socket's port for the device that the
// socket is bound to, or gives it back: that must be the one for which the port was reserved.
func (x *inetSocket) asReserved(f func() tcpip.Error) tcpip.Error {
	n := x.reserved.Load()
	if n == 0 {
		return f()
	}
	o := x.ep().SocketOptions()
	now := o.GetBindToDevice()
	o.SetBindToDevice(n - 1)
	defer o.SetBindToDevice(now)
	return f()
}

// ofBoth is called before the port of a UDP socket is given back. Once it is connected to an
// IPv4 peer, netstack forgets that an IPv6 socket's port is reserved for IPv6, too; connecting
// it to an IPv6 one, which fails where it was not bound before, is a reminder.
func (x *inetSocket) ofBoth() {
	if x.domain != unix.AF_INET6 || x.typ != unix.SOCK_DGRAM || x.pro != unix.IPPROTO_UDP {
		return
	}
	if ra, err := x.ep().GetRemoteAddress(); err == nil && plainAddr(ra.Addr).Len() == header.IPv4AddressSize {
		x.asReserved(func() tcpip.Error { return x.ep().Connect(tcpip.FullAddress{Addr: header.IPv6Loopback, Port: ra.Port}) })
	}
}
