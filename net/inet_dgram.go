package net

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"kiln/kernel/mm"
)

// maxDatagram is the largest payload any datagram socket takes (IPv4's length field).
const maxDatagram = 65535

func (x *inetSocket) writeDatagram(c *Caller, src *mm.IOSeq, m *SendMsg) (int, error) {
	size := src.Len()
	if size > maxDatagram && !x.udp6() { // which looks at it later
		return 0, unix.EMSGSIZE
	}
	var to tcpip.FullAddress
	opts, once, err := x.addressed(c, m, size, &to)
	if err == nil {
		if err = x.datagramError(); err != nil && x.noWay(&opts) {
			x.Defer(err)
			err = unix.ENETUNREACH
		}
	}
	if err != nil {
		return 0, err
	}
	buf, put := scratch(size)
	defer put()
	shut := x.down.Load()&2 != 0 // perhaps before it was connected
	if !shut {
		n, fault := src.CopyIn(buf)
		if err = fault; err == nil && n < size {
			err = unix.EFAULT
		}
	}
	switch {
	case !shut && err == nil:
	case x.noWay(&opts):
		return 0, unix.ENETUNREACH
	case shut:
		return 0, unix.EPIPE
	default:
		if told := x.ep().LastError(); told != nil {
			return 0, errno(told) // what waits comes before the message is looked at (sock_alloc_send_skb)
		}
		return 0, err
	}
	more := x.pro == unix.IPPROTO_UDP && x.typ == unix.SOCK_DGRAM && (x.opt.cork.Load() || m != nil && m.Flags&unix.MSG_MORE != 0)
	if more || x.hasCorked() {
		if told := x.ep().LastError(); told != nil {
			return 0, errno(told)
		}
		if err := x.part(buf, opts, more); err != nil {
			return 0, err
		}
		return size, nil
	}
	n, terr := x.writeOnce(buf, opts, once)
	if _, no := terr.(*tcpip.ErrNetworkUnreachable); no && opts.To != nil && x.udp6() && isIPv4(to.Addr) {
		n, terr = x.byIPv4(buf, to)
	}
	if terr != nil {
		if _, unreachable := terr.(*tcpip.ErrHostUnreachable); unreachable && opts.To != nil && x.s.noRoute(to.Addr) {
			return 0, unix.ENETUNREACH
		}
		if _, refused := terr.(*tcpip.ErrConnectionRefused); refused && x.noWay(&opts) {
			x.putBack(terr)
			return 0, unix.ENETUNREACH
		}
		if _, long := terr.(*tcpip.ErrMessageTooLong); long {
			x.tooLong(to)
		}
		return 0, errno(terr)
	}
	x.bound.Store(true)
	return int(n), nil
}

// noWay says that there is no route to where a call names: ENETUNREACH, before an error that waits
// is told, which goes on waiting (ip_route_output_flow, sock_alloc_send_skb).
func (x *inetSocket) noWay(opts *tcpip.WriteOptions) bool {
	return opts.To != nil && x.s.noRoute(plainAddr(opts.To.Addr))
}

// putBack has netstack tell an error once more.
func (x *inetSocket) putBack(err tcpip.Error) {
	if l, ok := x.ep().(interface{ UpdateLastError(tcpip.Error) }); ok {
		l.UpdateLastError(err)
	}
}

// udp6 says that udpv6_sendmsg serves the socket.
func (x *inetSocket) udp6() bool { return x.pro == unix.IPPROTO_UDP && x.domain == unix.AF_INET6 }

// addressed is where a datagram of size bytes goes, to if the call names it, and what it asks
// for besides, with the checks that come before its bytes are looked at.
func (x *inetSocket) addressed(c *Caller, m *SendMsg, size int, to *tcpip.FullAddress) (opts tcpip.WriteOptions, once oneTime, err error) {
	none := false
	once = oneTime{tos: -1, tclass: -1, segment: int(x.opt.segment.Load())}
	if m != nil && m.Name != nil {
		// udpv6_sendmsg takes an address of no family for none.
		if none = x.udp6() && len(m.Name) >= 2 && familyOf(m.Name) == unix.AF_UNSPEC; !none {
			if *to, err = x.destination(m.Name); err != nil {
				return opts, once, err
			}
			opts.To = to
		}
	}
	// Before the control messages are looked at (udp_sendmsg), and by the first part.
	if x.pro == unix.IPPROTO_UDP && x.typ == unix.SOCK_DGRAM && opts.To == nil && !x.hasCorked() &&
		x.ep().State() != uint32(transport.DatagramEndpointStateConnected) {
		return opts, once, unix.EDESTADDRREQ
	}
	if size > maxDatagram {
		return opts, once, unix.EMSGSIZE
	}
	six, astray := x.domain == unix.AF_INET6, false
	if x.udp6() {
		ra, off := *to, error(nil)
		if opts.To == nil {
			ra, off = x.remoteAddress()
		}
		mapped := off == nil && isIPv4(ra.Addr)
		astray = mapped && none // it goes by IPv6, which has no way there
		six = !mapped || none
		switch {
		case six: // by udpv6_sendmsg, else by udp_sendmsg
		case m != nil && m.Flags&unix.MSG_OOB != 0:
			return opts, once, unix.EOPNOTSUPP
		case ra.Port == 0 && x.typ == unix.SOCK_DGRAM:
			return opts, once, unix.EINVAL
		}
	}
	if m == nil {
		return opts, once, nil
	}
	if once, err = x.sendControl(c, &m.Control, six, &opts.ControlMessages); err == nil && astray {
		err = unix.ENETUNREACH
	}
	if err != nil {
		return opts, once, err
	}
	named := opts.To != nil
	if !named && once.oif != 0 {
		*to, _ = x.ep().GetRemoteAddress()
	}
	if to.Addr.BitLen() != 0 {
		if nic := x.outgoing(*to, named, &opts.ControlMessages, &once); nic != 0 {
			to.NIC, opts.To = nic, to
		}
	}
	if named && header.IsV6MulticastAddress(to.Addr) {
		if i := x.s.byIndex(to.NIC); i != nil && !x.s.hasMany6(i) {
			return opts, once, unix.ENETUNREACH // the loopback has no ff00::/8
		}
	}
	return opts, once, nil
}

// remoteAddress is whom the socket is connected to.
func (x *inetSocket) remoteAddress() (tcpip.FullAddress, error) {
	a, terr := x.ep().GetRemoteAddress()
	if terr == nil {
		return a, nil
	}
	// netstack says that a peer without a port is none.
	if i, ok := x.ep().Info().(*stack.TransportEndpointInfo); ok && x.ep().State() == uint32(transport.DatagramEndpointStateConnected) {
		return tcpip.FullAddress{Addr: i.ID.RemoteAddress, Port: i.ID.RemotePort}, nil
	}
	return a, errno(terr)
}

// isIPv4 says that an address is one of IPv4, or stands for one.
func isIPv4(a tcpip.Address) bool {
	return a.Len() == header.IPv4AddressSize || header.IsV4MappedAddress(a)
}

// byIPv4 sends a datagram to an IPv4 address for an IPv6 socket that has, by its connection, an
// IPv6 address of its own: it goes out by the socket's port, as on Linux, and no answer comes in.
func (x *inetSocket) byIPv4(b []byte, to tcpip.FullAddress) (int64, tcpip.Error) {
	l, err := x.ep().GetLocalAddress()
	if err != nil {
		return 0, err
	}
	r, err := x.s.ns.FindRoute(to.NIC, tcpip.Address{}, plainAddr(to.Addr), ipv4.ProtocolNumber, false)
	if err != nil {
		return 0, err
	}
	defer r.Release()
	if r.IsOutboundBroadcast() && !x.ep().SocketOptions().GetBroadcast() {
		return 0, &tcpip.ErrBroadcastDisabled{}
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: header.UDPMinimumSize + int(r.MaxHeaderLength()), Payload: buffer.MakeWithData(b)})
	defer pkt.DecRef()
	pkt.TransportProtocolNumber = udp.ProtocolNumber
	size := header.UDPMinimumSize + len(b)
	h := header.UDP(pkt.TransportHeader().Push(header.UDPMinimumSize))
	h.Encode(&header.UDPFields{SrcPort: l.Port, DstPort: to.Port, Length: uint16(size)})
	sum := checksum.Combine(r.PseudoHeaderChecksum(udp.ProtocolNumber, uint16(size)), checksum.Checksum(b, 0))
	h.SetChecksum(^h.CalculateChecksum(sum))
	err = r.WritePacket(stack.NetworkHeaderParams{Protocol: udp.ProtocolNumber, TTL: r.DefaultTTL()}, pkt)
	return int64(len(b)), err
}

// writeOnce sends a datagram, or several by segments, with what is asked for it alone.
func (x *inetSocket) writeOnce(b []byte, opts tcpip.WriteOptions, once oneTime) (int64, tcpip.Error) {
	for _, o := range []struct {
		opt tcpip.SockOptInt
		v   int
	}{{tcpip.IPv4TOSOption, once.tos}, {tcpip.IPv6TrafficClassOption, once.tclass}} {
		if o.v < 0 {
			continue
		}
		x.sendMu.Lock()
		defer x.sendMu.Unlock()
		old, err := x.ep().GetSockOptInt(o.opt)
		if err == nil {
			x.ep().SetSockOptInt(o.opt, o.v)
			defer x.ep().SetSockOptInt(o.opt, old)
		}
		break
	}
	if once.segment > 0 && len(b) > once.segment && x.pro == unix.IPPROTO_UDP {
		return int64(len(b)), x.sendSegments(b, once.segment, opts)
	}
	return x.ep().Write(&bytesReader{b}, opts)
}

// destination is the address of a datagram: an IPv6 socket may name an IPv4 one.
func (x *inetSocket) destination(b []byte) (tcpip.FullAddress, error) {
	fam := int(x.domain)
	if fam == unix.AF_INET6 && len(b) >= 2 && familyOf(b) == unix.AF_INET {
		if x.udp6() && x.ep().SocketOptions().GetV6Only() {
			return tcpip.FullAddress{}, unix.ENETUNREACH // before its length is looked at
		}
		fam = unix.AF_INET
	} else if familyOf(b) == unix.AF_UNSPEC && fam == unix.AF_INET && len(b) >= sizeIn {
		b = append([]byte{unix.AF_INET, 0}, b[2:]...)
	}
	a, err := parseAddr(fam, b)
	if err == nil && x.domain == unix.AF_INET6 && isIPv4(a.Addr) && x.ep().SocketOptions().GetV6Only() {
		err = unix.ENETUNREACH
	}
	if err == unix.EAFNOSUPPORT && x.domain == unix.AF_INET6 && x.pro == unix.IPPROTO_UDP {
		err = unix.EINVAL // udpv6_sendmsg
	}
	if err != nil {
		return a, err
	}
	if a.Port == 0 && x.typ == unix.SOCK_DGRAM && (x.pro == unix.IPPROTO_UDP || x.pro == unix.IPPROTO_UDPLITE) {
		return a, unix.EINVAL
	}
	if a.Addr, err = x.within(a.Addr); err != nil {
		return a, err
	}
	if a.Addr.Unspecified() {
		if a.Addr.Len() == 4 {
			a.Addr = tcpip.AddrFrom4([4]byte{127, 0, 0, 1})
		} else {
			a.Addr = tcpip.AddrFrom16([16]byte{15: 1})
		}
	}
	return a, nil
}

// readDatagram takes one datagram through a kernel buffer: a page fault must not
// lose it half-way.
func (x *inetSocket) readDatagram(dst *mm.IOSeq, m *RecvMsg, nonblock bool) (int, error) {
	flags := 0
	if m != nil {
		flags = m.Flags
	}
	if err := x.datagramError(); err != nil {
		return 0, err
	}
	buf, put := scratch(dst.Len())
	defer put()
	w := capWriter{b: buf}
	x.reading.Lock()
	res, terr := x.ep().Read(&w, tcpip.ReadOptions{Peek: flags&unix.MSG_PEEK != 0, NeedRemoteAddr: m != nil})
	x.reading.Unlock()
	if _, shut := terr.(*tcpip.ErrClosedForReceive); shut && nonblock {
		return 0, unix.EAGAIN // only who would wait hears that nothing comes any more
	}
	if terr != nil {
		return 0, x.readError(terr)
	}
	if _, ok := x.ep().(stack.TransportEndpoint); ok && flags&unix.MSG_PEEK == 0 { // for raw ones see rawGate
		x.s.rcv.taken(x, res.Total)
	}
	x.opt.stamp.Store(res.ControlMessages.Timestamp.UnixNano())
	n, err := dst.CopyOut(buf[:w.n])
	if err != nil {
		return 0, err
	}
	if m != nil {
		m.Full = res.Total
		if res.Total > w.n {
			m.OutFlags |= unix.MSG_TRUNC
		}
		m.setName(encodeAddr(int(x.domain), res.RemoteAddr))
		if m.WantControl {
			x.recvControl(&res.ControlMessages, &m.Control)
		}
	}
	return n, nil
}
