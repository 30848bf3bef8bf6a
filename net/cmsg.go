package net

import (
	"encoding/binary"
	"math/bits"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// oneTime is what control messages ask for one datagram and netstack knows for sockets
// only.
type oneTime struct {
	tos, tclass int // -1: as the socket has it
	segment     int
	oif         tcpip.NICID // of IP_PKTINFO
}

// sendControl puts a datagram's control messages in netstack's form: EINVAL for
// unknown or short ones (__sock_cmsg_send, ip_cmsg_send, ip6_datagram_send_ctl).
// six says that the datagram is one of IPv6, for which IPv4's messages mean nothing, and the
// other way round but for IPV6_PKTINFO.
func (x *inetSocket) sendControl(c *Caller, l *Control, six bool, out *tcpip.SendableControlMessages) (oneTime, error) {
	once := oneTime{tos: -1, tclass: -1, segment: int(x.opt.segment.Load())}
	if l.Bad != nil {
		return once, l.Bad
	}
	for _, m := range l.Msgs {
		if m.Level == unix.SOL_SOCKET && m.Type == unix.SO_MARK && !c.mayMark() {
			return once, unix.EPERM
		}
		mapped := !six && x.domain == unix.AF_INET6 && m.Type == unix.IPV6_PKTINFO
		if m.Level == unix.SOL_IP && six || m.Level == unix.SOL_IPV6 && !six && !mapped {
			continue
		}
		if mapped && m.Level == unix.SOL_IPV6 && len(m.Data) >= 20 && !header.IsV4MappedAddress(tcpip.AddrFrom16([16]byte(m.Data[:16]))) {
			return once, unix.EINVAL
		}
		if err := x.sendMessage(m, out, &once); err != nil {
			return once, err
		}
	}
	return once, nil
}

func (x *inetSocket) sendMessage(m Cmsg, out *tcpip.SendableControlMessages, once *oneTime) error {
	switch {
	case m.Level == unix.SOL_SOCKET:
		switch m.Type {
		case unix.SO_MARK, unix.SO_TIMESTAMPING, unix.SO_TIMESTAMPING_NEW:
			if len(m.Data) != 4 {
				return unix.EINVAL
			}
		case soTxtime:
			if _, on := x.opt.kept.load(unix.SOL_SOCKET, soTxtime); !on || len(m.Data) != 8 {
				return unix.EINVAL
			}
		default:
			return unix.EINVAL
		}
	case m.Level == unix.SOL_IP && m.Type == unix.IP_TTL:
		if len(m.Data) < 4 {
			return unix.EINVAL
		}
		v := int32(binary.LittleEndian.Uint32(m.Data))
		if v < 1 || v > 255 {
			return unix.EINVAL
		}
		out.HasTTL, out.TTL = true, uint8(v)
	case m.Level == unix.SOL_IP && m.Type == unix.IP_TOS:
		v, err := byteOrInt(m.Data)
		if err != nil || len(m.Data) != 4 && len(m.Data) != 1 || v < 0 || v > 255 {
			return unix.EINVAL
		}
		once.tos = v
	case m.Level == unix.SOL_IP && m.Type == unix.IP_PKTINFO:
		return x.sendPacketInfo(m.Data, once)
	case m.Level == unix.SOL_IPV6 && m.Type == unix.IPV6_HOPLIMIT:
		if len(m.Data) != 4 {
			return unix.EINVAL
		}
		v := int32(binary.LittleEndian.Uint32(m.Data))
		if v < -1 || v > 255 {
			return unix.EINVAL
		}
		if v >= 0 {
			out.HasHopLimit, out.HopLimit = true, uint8(v)
		}
	case m.Level == unix.SOL_IPV6 && m.Type == unix.IPV6_PKTINFO:
		if len(m.Data) < 20 {
			return unix.EINVAL
		}
		a := tcpip.AddrFrom16([16]byte(m.Data[:16]))
		if header.IsV4MappedAddress(a) {
			return nil
		}
		nic := tcpip.NICID(binary.LittleEndian.Uint32(m.Data[16:]))
		if d := x.device(); nic != 0 && d != 0 && d != nic {
			return unix.EINVAL
		}
		if nic != 0 && !x.s.ns.HasNIC(nic) {
			return unix.ENODEV
		}
		if a.Unspecified() {
			a = tcpip.Address{} // of the socket's, or the route's
		} else if !x.s.local(a) {
			return unix.EINVAL
		}
		out.HasIPv6PacketInfo = true
		out.IPv6PacketInfo = tcpip.IPv6PacketInfo{NIC: nic, Addr: a}
	case m.Level == unix.SOL_IPV6 && m.Type == unix.IPV6_TCLASS:
		if len(m.Data) != 4 {
			return unix.EINVAL
		}
		v := int32(binary.LittleEndian.Uint32(m.Data))
		if v < -1 || v > 255 {
			return unix.EINVAL
		}
		once.tclass = int(v)
	case m.Level == unix.SOL_IPV6 && m.Type == unix.IPV6_DONTFRAG:
		if len(m.Data) != 4 || binary.LittleEndian.Uint32(m.Data) > 1 {
			return unix.EINVAL
		}
	case m.Level == unix.SOL_UDP:
		if m.Type != udpSegment || len(m.Data) != 2 {
			return unix.EINVAL
		}
		once.segment = int(binary.LittleEndian.Uint16(m.Data))
	case m.Level == unix.SOL_IP, m.Level == unix.SOL_IPV6 && x.domain == unix.AF_INET6:
		return unix.EINVAL
	}
	return nil
}

// outgoing is the interface that a datagram to an address (4 bytes, also where it is mapped) has
// to leave by, 0 for the route's choice (udp_sendmsg, udpv6_sendmsg). named says that the
// program named the address in this call.
func (x *inetSocket) outgoing(to tcpip.FullAddress, named bool, c *tcpip.SendableControlMessages, once *oneTime) tcpip.NICID {
	six := to.Addr.Len() == header.IPv6AddressSize && !header.IsV4MappedAddress(to.Addr)
	switch {
	case !six && once.oif != 0:
		l, _ := x.ep().GetLocalAddress()
		i := x.s.byIndex(once.oif)
		if any := l.Addr.BitLen() == 0 || l.Addr.Unspecified(); !any && i != nil {
			if _, its := x.s.has(i, l.Addr); !its {
				return 0 // netstack sends nothing from an address of another interface
			}
		}
		return once.oif
	case !named || to.NIC != 0 || x.device() != 0 || six && c.HasIPv6PacketInfo && c.IPv6PacketInfo.NIC != 0:
		return 0
	case six && x.stickyIf() != 0:
		return x.stickyIf()
	case six && header.IsV6MulticastAddress(to.Addr):
		return x.many6()
	case header.IsV4MulticastAddress(to.Addr):
		return 0 // IP_MULTICAST_IF is netstack's
	}
	return tcpip.NICID(bits.ReverseBytes32(x.opt.unicastIf.Load()))
}

// sendPacketInfo checks IP_PKTINFO: EINVAL, ENODEV, ENETUNREACH for a source that is not
// this machine's. netstack takes the source from the route: of several addresses, the
// one that is asked for may not be the one that is used.
func (x *inetSocket) sendPacketInfo(b []byte, once *oneTime) error {
	if len(b) != 12 {
		return unix.EINVAL
	}
	if once.oif = tcpip.NICID(binary.LittleEndian.Uint32(b)); once.oif != 0 && !x.s.ns.HasNIC(once.oif) {
		return unix.ENODEV
	}
	if a := tcpip.AddrFrom4([4]byte(b[4:8])); !a.Unspecified() && !x.s.local(a) {
		return unix.ENETUNREACH
	}
	return nil
}

// recvControl puts what netstack knows of a datagram into control messages, in the
// order Linux emits them.
func (x *inetSocket) recvControl(in *tcpip.ReceivableControlMessages, c *Control) {
	add := func(level, typ int32, data []byte) { c.Msgs = append(c.Msgs, Cmsg{level, typ, data}) }
	if in.HasTimestamp {
		ns := in.Timestamp.UnixNano()
		switch {
		case x.opt.timestampNS.Load():
			b := binary.LittleEndian.AppendUint64(nil, uint64(ns/1e9))
			add(unix.SOL_SOCKET, x.opt.stampType(unix.SO_TIMESTAMPNS, unix.SO_TIMESTAMPNS_NEW), binary.LittleEndian.AppendUint64(b, uint64(ns%1e9)))
		case x.opt.timestamp.Load():
			add(unix.SOL_SOCKET, x.opt.stampType(unix.SO_TIMESTAMP, unix.SO_TIMESTAMP_NEW), timevalBytes(ns))
		}
	}
	if in.HasIPPacketInfo && x.opt.recvpktinfo.Load() {
		b := append(make([]byte, 10, 20), 0xff, 0xff)
		b = append(b, v4bytes(in.PacketInfo.DestinationAddr)...)
		add(unix.SOL_IPV6, unix.IPV6_PKTINFO, append(b, le32(uint32(in.PacketInfo.NIC))...))
	}
	if in.HasIPPacketInfo && x.opt.pktinfo.Load() {
		b := le32(uint32(in.PacketInfo.NIC))
		b = append(append(b, v4bytes(in.PacketInfo.LocalAddr)...), v4bytes(in.PacketInfo.DestinationAddr)...)
		add(unix.SOL_IP, unix.IP_PKTINFO, b)
	}
	if in.HasTTL {
		add(unix.SOL_IP, unix.IP_TTL, le32(uint32(in.TTL)))
	}
	if in.HasTOS {
		add(unix.SOL_IP, unix.IP_TOS, []byte{in.TOS})
	}
	if in.HasOriginalDstAddress {
		level, typ := int32(unix.SOL_IP), int32(unix.IP_ORIGDSTADDR)
		if x.domain == unix.AF_INET6 {
			level, typ = unix.SOL_IPV6, unix.IPV6_ORIGDSTADDR
		}
		add(level, typ, encodeAddr(int(x.domain), in.OriginalDstAddress))
	}
	if in.HasIPv6PacketInfo {
		a := in.IPv6PacketInfo.Addr
		var b []byte
		if a.Len() == 4 {
			v4 := a.As4()
			b = append(append(make([]byte, 10), 0xff, 0xff), v4[:]...)
		} else {
			v6 := a.As16()
			b = append(b, v6[:]...)
		}
		add(unix.SOL_IPV6, unix.IPV6_PKTINFO, append(b, le32(uint32(in.IPv6PacketInfo.NIC))...))
	}
	if in.HasHopLimit && x.opt.hopLimit.Load() {
		add(unix.SOL_IPV6, unix.IPV6_HOPLIMIT, le32(uint32(in.HopLimit)))
	}
	if in.HasTClass {
		add(unix.SOL_IPV6, unix.IPV6_TCLASS, le32(in.TClass))
	}
	if in.HasHopLimit && x.opt.oldHopLimit.Load() {
		add(unix.SOL_IPV6, unix.IPV6_2292HOPLIMIT, le32(uint32(in.HopLimit)))
	}
}

func v4bytes(a tcpip.Address) []byte {
	b := make([]byte, 4)
	if a.Len() == 4 {
		v := a.As4()
		copy(b, v[:])
	}
	return b
}

// stampType is the type of a timestamp's message: as the option that asked for it.
func (o *sockOpts) stampType(old, new int32) int32 {
	if o.stampNew.Load() {
		return new
	}
	return old
}
