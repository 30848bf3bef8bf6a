package net

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// ICMP sockets: SOCK_DGRAM for the groups of ping_group_range, SOCK_RAW with ICMP_FILTER.
// See icmp(7), raw(7).

// PingGroups is net.ipv4.ping_group_range; SetPingGroups changes it.
func (s *Stack) PingGroups() (lo, hi uint32) {
	v := s.pingGroups.Load()
	return uint32(v >> 32), uint32(v)
}

// SetPingGroups changes it.
func (s *Stack) SetPingGroups(lo, hi uint32) { s.pingGroups.Store(uint64(lo)<<32 | uint64(hi)) }

// mayPing says whether a group of the caller's may make ICMP sockets (ping_init_sock).
func (s *Stack) mayPing(c *Caller) bool {
	if c == nil || c.Creds == nil {
		return true
	}
	lo, hi := s.PingGroups()
	for _, g := range append([]uint32{c.Creds.EGID}, c.Creds.Groups...) {
		if lo <= g && g <= hi {
			return true
		}
	}
	return false
}

const icmpFilterOption = 1 // ICMP_FILTER, uapi/linux/icmp.h

func (x *inetSocket) isRawICMP() bool {
	return x.typ == unix.SOCK_RAW && x.domain == unix.AF_INET && x.pro == unix.IPPROTO_ICMP
}

// setRaw serves SOL_RAW: EOPNOTSUPP where the protocol is not ICMP.
func (x *inetSocket) setRaw(name int, v []byte) error {
	switch {
	case x.typ == unix.SOCK_RAW && x.domain == unix.AF_INET6 && name == unix.IPV6_CHECKSUM:
		return x.setChecksum(unix.SOL_RAW, v)
	case x.typ != unix.SOCK_RAW, name != icmpFilterOption:
		return unix.ENOPROTOOPT
	case !x.isRawICMP():
		return unix.EOPNOTSUPP
	}
	var b [4]byte
	copy(b[:], v)
	x.icmpFilter.Store(binary.LittleEndian.Uint32(b[:]))
	return nil
}

func (x *inetSocket) getRaw(name, room int) ([]byte, error) {
	switch {
	case x.typ != unix.SOCK_RAW:
		return nil, x.unknownLevel()
	case x.domain == unix.AF_INET6 && name == unix.IPV6_CHECKSUM:
		return x.getChecksum()
	case name != icmpFilterOption:
		return nil, unix.ENOPROTOOPT
	case !x.isRawICMP():
		return nil, unix.EOPNOTSUPP
	}
	return le32(x.icmpFilter.Load()), nil
}

// blocks says whether ICMP_FILTER keeps a packet from the socket (icmp_filter).
func (x *inetSocket) blocks(pkt *stack.PacketBuffer) bool {
	f, h := x.icmpFilter.Load(), pkt.TransportHeader().Slice()
	return f != 0 && len(h) >= header.ICMPv4MinimumSize && h[0] < 32 && f>>h[0]&1 != 0
}

const (
	solICMPv6     = 58 // SOL_ICMPV6
	icmp6Filter   = 1  // ICMPV6_FILTER, uapi/linux/icmpv6.h
	icmp6Checksum = 2  // where ICMPv6 has its sum
)

// setChecksum is IPV6_CHECKSUM, where in a packet its sum goes. ICMPv6's is fixed: RFC
// 3542 3.1 has it fail, and Linux only at its own level.
func (x *inetSocket) setChecksum(level int, v []byte) error {
	n, err := intArg(v)
	if err != nil {
		return err
	}
	if n > 0 && n&1 != 0 || x.pro == unix.IPPROTO_ICMPV6 && level == unix.SOL_IPV6 {
		return unix.EINVAL
	}
	if x.pro == unix.IPPROTO_ICMPV6 {
		x.opt.kept.store(unix.SOL_RAW, unix.IPV6_CHECKSUM, max(n, -1))
		return nil
	}
	return errno(x.ep().SetSockOptInt(tcpip.IPv6Checksum, int(max(n, -1))))
}

func (x *inetSocket) getChecksum() ([]byte, error) {
	if x.pro != unix.IPPROTO_ICMPV6 {
		return x.getInt(tcpip.IPv6Checksum)
	}
	if n, ok := x.opt.kept.load(unix.SOL_RAW, unix.IPV6_CHECKSUM); ok {
		return intVal(int(n)), nil
	}
	return intVal(icmp6Checksum), nil
}

func (x *inetSocket) isRawICMPv6() bool {
	return x.typ == unix.SOCK_RAW && x.domain == unix.AF_INET6 && x.pro == unix.IPPROTO_ICMPV6
}

// setICMPv6 serves SOL_ICMPV6 of raw sockets: the types that are not wanted.
func (x *inetSocket) setICMPv6(name int, v []byte) error {
	if !x.isRawICMPv6() || name != icmp6Filter {
		return unix.ENOPROTOOPT
	}
	var f tcpip.ICMPv6Filter
	if err := x.ep().GetSockOpt(&f); err != nil {
		return errno(err)
	}
	b := filter6Bytes(f)
	copy(b, v)
	for i := range f.DenyType {
		f.DenyType[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return errno(x.ep().SetSockOpt(&f))
}

func (x *inetSocket) getICMPv6(name int) ([]byte, error) {
	if !x.isRawICMPv6() {
		return nil, unix.EOPNOTSUPP
	}
	if name != icmp6Filter {
		return nil, unix.ENOPROTOOPT
	}
	var f tcpip.ICMPv6Filter
	if err := x.ep().GetSockOpt(&f); err != nil {
		return nil, errno(err)
	}
	return filter6Bytes(f), nil
}

func filter6Bytes(f tcpip.ICMPv6Filter) []byte {
	var b []byte
	for _, w := range f.DenyType {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}
