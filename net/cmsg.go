package net

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// sendControl puts a datagram's control messages in netstack's form: EINVAL for
// unknown or short ones (ip_cmsg_send, ip6_datagram_send_ctl).
func sendControl(c *Control, out *tcpip.SendableControlMessages) error {
	for _, m := range c.Msgs {
		switch {
		case m.Level == unix.SOL_SOCKET:
			// SO_MARK, SO_TXTIME …: hints of __sock_cmsg_send.
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
			if len(m.Data) != 4 && len(m.Data) != 1 {
				return unix.EINVAL
			}
		case m.Level == unix.SOL_IP && m.Type == unix.IP_PKTINFO:
			// The source address of an unbound socket: netstack routes by the
			// destination, which on a machine with one address is the same.
			if len(m.Data) < 12 {
				return unix.EINVAL
			}
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
				continue
			}
			out.HasIPv6PacketInfo = true
			out.IPv6PacketInfo = tcpip.IPv6PacketInfo{NIC: tcpip.NICID(binary.LittleEndian.Uint32(m.Data[16:])), Addr: a}
		case m.Level == unix.SOL_IPV6 && m.Type == unix.IPV6_TCLASS:
			if len(m.Data) != 4 {
				return unix.EINVAL
			}
		case m.Level == unix.SOL_UDP && m.Type == unix.UDP_SEGMENT:
			return unix.EINVAL // no segmentation offload for datagrams
		case m.Level == unix.SOL_IP, m.Level == unix.SOL_IPV6:
			return unix.EINVAL
		}
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
			add(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, binary.LittleEndian.AppendUint64(b, uint64(ns%1e9)))
		case x.opt.timestamp.Load():
			add(unix.SOL_SOCKET, unix.SO_TIMESTAMP, timevalBytes(ns))
		}
	}
	if in.HasIPPacketInfo {
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
	if in.HasHopLimit {
		add(unix.SOL_IPV6, unix.IPV6_HOPLIMIT, le32(uint32(in.HopLimit)))
	}
	if in.HasTClass {
		add(unix.SOL_IPV6, unix.IPV6_TCLASS, le32(in.TClass))
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
