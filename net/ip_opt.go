package net

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// byteOrInt is an option that takes an int or a byte (ip_setsockopt).
func byteOrInt(v []byte) (int, error) {
	switch {
	case len(v) >= 4:
		return int(int32(binary.LittleEndian.Uint32(v))), nil
	case len(v) >= 1:
		return int(v[0]), nil
	}
	return 0, unix.EINVAL
}

func (x *inetSocket) setIP(c *Caller, name int, v []byte) error {
	o := x.ep().SocketOptions()
	if err := refusedIP(c, name, v); err != nil {
		return err
	}
	switch name {
	case unix.IP_ADD_MEMBERSHIP, unix.IP_DROP_MEMBERSHIP:
		return x.membership(name == unix.IP_ADD_MEMBERSHIP, v)
	case unix.IP_MULTICAST_IF:
		return x.multicastIf(v)
	case mcastJoinGroup, mcastLeaveGroup:
		return x.group(unix.AF_INET, name == mcastJoinGroup, v)
	case unix.IP_OPTIONS:
		return x.setOptions(v)
	}
	n, err := byteOrInt(v)
	if err != nil {
		// Nothing is 0, but to those that ask for a byte at least.
		switch name {
		case unix.IP_TTL, unix.IP_MULTICAST_TTL, unix.IP_MULTICAST_LOOP, unix.IP_UNICAST_IF, unix.IP_MULTICAST_ALL, unix.IP_FREEBIND,
			unix.IP_TRANSPARENT, unix.IP_MINTTL:
			return err
		}
	}
	on := n != 0
	switch name {
	case unix.IP_TOS:
		if old, err := x.ep().GetSockOptInt(tcpip.IPv4TOSOption); err != nil || old != n&0xff {
			x.opt.priority.Store(int32(tosPriority[n>>1&0xf]))
		}
		return errno(x.ep().SetSockOptInt(tcpip.IPv4TOSOption, n&0xff))
	case unix.IP_UNICAST_IF:
		return x.unicastIf(v)
	case unix.IP_TTL:
		if n != -1 && (n < 1 || n > 255) {
			return unix.EINVAL
		}
		if n == -1 {
			n = tcpip.UseDefaultIPv4TTL
		}
		return errno(x.ep().SetSockOptInt(tcpip.IPv4TTLOption, n))
	case unix.IP_MULTICAST_TTL:
		if n == -1 {
			n = 1
		}
		if n < 0 || n > 255 || x.isTCP() {
			return unix.EINVAL
		}
		return errno(x.ep().SetSockOptInt(tcpip.MulticastTTLOption, n))
	case unix.IP_MULTICAST_LOOP:
		o.SetMulticastLoop(on)
	case unix.IP_MTU_DISCOVER:
		return x.mtuDiscover(n)
	case unix.IP_RECVTOS:
		o.SetReceiveTOS(on)
	case unix.IP_RECVTTL:
		o.SetReceiveTTL(on)
	case unix.IP_PKTINFO:
		x.opt.pktinfo.Store(on)
		x.hearMapped()
	case unix.IP_RECVERR:
		if !x.isTCP() {
			x.setRecverr(recverr4, on)
			break
		}
		o.SetIPv4RecvError(on)
	case unix.IP_RECVORIGDSTADDR:
		o.SetReceiveOriginalDstAddress(on)
	case unix.IP_HDRINCL:
		if x.typ != unix.SOCK_RAW {
			return unix.ENOPROTOOPT
		}
		o.SetHeaderIncluded(on)
	case unix.IP_FREEBIND:
		x.opt.freebind.Store(on)
	case unix.IP_TRANSPARENT:
		if on && !c.capable(capNetRaw) && !c.capable(capNetAdmin) {
			return unix.EPERM
		}
		x.opt.transparent.Store(on)
	case unix.IP_NODEFRAG:
		if x.typ != unix.SOCK_RAW {
			return unix.ENOPROTOOPT
		}
	case unix.IP_ROUTER_ALERT:
		return unix.EINVAL // no router is here
	case unix.IP_RECVFRAGSIZE:
		if x.isTCP() {
			return unix.EINVAL
		}
		x.opt.kept.set(unix.SOL_IP, name, int32(n))
	default:
		known, err := x.opt.kept.set(unix.SOL_IP, name, int32(n))
		if !known {
			return unix.ENOPROTOOPT
		}
		return err
	}
	return nil
}

// tosPriority is the SO_PRIORITY that IP_TOS brings (rt_tos2priority of net/ipv4/route.c).
var tosPriority = [16]byte{0, 1, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4}

// setOptions is IP_OPTIONS, of which only what says nothing is had: no operations, and what
// follows the end, which Linux clears. They are told, not sent.
func (x *inetSocket) setOptions(v []byte) error {
	const most = 40
	nops := 0
	for nops < len(v) && v[nops] == ipNop {
		nops++
	}
	if len(v) > most || nops < len(v) && v[nops] != 0 {
		return unix.EINVAL
	}
	x.opt.kept.store(unix.SOL_IP, unix.IP_OPTIONS, int32(len(v)+3)&^3)
	x.opt.kept.store(unix.SOL_IP, ipNops, int32(nops))
	return nil
}

// ipNop is IPOPT_NOP, ipNops where it is kept how many IP_OPTIONS has.
const (
	ipNop  = 1
	ipNops = -unix.IP_OPTIONS
)

// unicastIf is IP_UNICAST_IF and IPV6_UNICAST_IF: an interface's index in network order.
func (x *inetSocket) unicastIf(v []byte) error {
	if len(v) != 4 {
		return unix.EINVAL
	}
	if n := binary.BigEndian.Uint32(v); n != 0 && !x.s.ns.HasNIC(tcpip.NICID(n)) {
		return unix.EADDRNOTAVAIL
	} else if n != 0 && x.device() != 0 {
		return unix.EINVAL
	}
	x.opt.unicastIf.Store(binary.LittleEndian.Uint32(v))
	return nil
}

// MCAST_* of uapi/linux/in.h, in which struct group_req has the address at byte 8.
const (
	mcastJoinGroup  = 42
	mcastLeaveGroup = 45
	groupReqSize    = 136
)

// group serves the joins of RFC 3678 that name no source.
func (x *inetSocket) group(family int, add bool, v []byte) error {
	if len(v) < groupReqSize {
		return unix.EINVAL
	}
	if familyOf(v[8:]) != family {
		return unix.EINVAL
	}
	a, err := parseAddr(family, v[8:])
	if err != nil {
		return err
	}
	if x.isTCP() {
		return unix.EPROTO
	}
	return x.join(add, tcpip.MembershipOption{MulticastAddr: a.Addr, NIC: tcpip.NICID(binary.LittleEndian.Uint32(v))})
}

// mtuDiscover maps IP_PMTUDISC_*, whose numbers netstack's are.
func (x *inetSocket) mtuDiscover(n int) error {
	if n < unix.IP_PMTUDISC_DONT || n > unix.IP_PMTUDISC_OMIT {
		return unix.EINVAL
	}
	x.opt.kept.store(unix.SOL_IP, unix.IP_MTU_DISCOVER, int32(n))
	v := tcpip.PMTUDiscoveryWant
	switch n {
	case unix.IP_PMTUDISC_DONT, unix.IP_PMTUDISC_OMIT:
		v = tcpip.PMTUDiscoveryDont
	case unix.IP_PMTUDISC_DO:
		v = tcpip.PMTUDiscoveryDo
	case unix.IP_PMTUDISC_PROBE, unix.IP_PMTUDISC_INTERFACE:
		v = tcpip.PMTUDiscoveryProbe
	}
	if err := x.ep().SetSockOptInt(tcpip.MTUDiscoverOption, int(v)); err != nil {
		if _, no := err.(*tcpip.ErrNotSupported); no {
			return nil // netstack then never sets DF, and has no path to discover
		}
		return errno(err)
	}
	return nil
}

// membership serves struct ip_mreq and ip_mreqn.
func (x *inetSocket) membership(add bool, v []byte) error {
	if x.isTCP() {
		return unix.EPROTO
	}
	if len(v) < 8 {
		return unix.EINVAL
	}
	m := tcpip.MembershipOption{MulticastAddr: tcpip.AddrFrom4([4]byte(v[:4])), InterfaceAddr: tcpip.AddrFrom4([4]byte(v[4:8]))}
	if len(v) >= 12 {
		m.NIC = tcpip.NICID(binary.LittleEndian.Uint32(v[8:]))
	}
	if !add && !header.IsV4MulticastAddress(m.MulticastAddr) { // no such group is a member's
		if m.NIC == 0 && m.InterfaceAddr.Unspecified() && !m.MulticastAddr.Unspecified() && x.s.noRoute(m.MulticastAddr) {
			return unix.ENODEV
		}
		return unix.EADDRNOTAVAIL
	}
	return x.join(add, m)
}

func (x *inetSocket) multicastIf(v []byte) error {
	if x.isTCP() {
		return unix.EINVAL
	}
	var o tcpip.MulticastInterfaceOption
	switch {
	case len(v) >= 12:
		o.InterfaceAddr = tcpip.AddrFrom4([4]byte(v[4:8]))
		o.NIC = tcpip.NICID(binary.LittleEndian.Uint32(v[8:]))
	case len(v) >= 8:
		o.InterfaceAddr = tcpip.AddrFrom4([4]byte(v[4:8]))
	case len(v) >= 4:
		o.InterfaceAddr = tcpip.AddrFrom4([4]byte(v[:4]))
	default:
		return unix.EINVAL
	}
	switch {
	case o.InterfaceAddr.Unspecified():
		o.InterfaceAddr = tcpip.Address{} // any interface, or the one that is named
	case o.NIC == 0 && (o.InterfaceAddr == header.IPv4Broadcast || !x.s.local(o.InterfaceAddr)):
		return unix.EADDRNOTAVAIL // whatever the socket is bound to
	}
	return errno(x.ep().SetSockOpt(&o))
}

func (x *inetSocket) getIP(name int) ([]byte, error) {
	o := x.ep().SocketOptions()
	switch name {
	case unix.IP_TOS:
		return x.getInt(tcpip.IPv4TOSOption)
	case unix.IP_TTL:
		n, err := x.ep().GetSockOptInt(tcpip.IPv4TTLOption)
		if n == tcpip.UseDefaultIPv4TTL {
			n = 64
		}
		return intVal(n), errno(err)
	case unix.IP_MULTICAST_TTL:
		return x.getInt(tcpip.MulticastTTLOption)
	case unix.IP_MULTICAST_LOOP:
		return boolVal(o.GetMulticastLoop()), nil
	case unix.IP_MULTICAST_IF:
		if x.isTCP() {
			return intVal(0), nil
		}
		var m tcpip.MulticastInterfaceOption
		if err := x.ep().GetSockOpt(&m); err != nil {
			return nil, errno(err)
		}
		b := make([]byte, 4)
		copy(b, m.InterfaceAddr.AsSlice())
		return b, nil
	case unix.IP_MTU_DISCOVER:
		if v, ok := x.opt.kept.load(unix.SOL_IP, unix.IP_MTU_DISCOVER); ok {
			return intVal(int(v)), nil
		}
		n, err := x.ep().GetSockOptInt(tcpip.MTUDiscoverOption)
		if err != nil {
			n = int(tcpip.PMTUDiscoveryWant)
		}
		// netstack's order is Want, Dont, Do, Probe; Linux's Dont, Want, Do, Probe.
		return intVal(map[int]int{0: 1, 1: 0, 2: 2, 3: 3}[n]), nil
	case unix.IP_RECVTOS:
		return boolVal(o.GetReceiveTOS()), nil
	case unix.IP_RECVTTL:
		return boolVal(o.GetReceiveTTL()), nil
	case unix.IP_PKTINFO:
		return boolVal(x.opt.pktinfo.Load()), nil
	case unix.IP_RECVERR:
		return boolVal(o.GetIPv4RecvError() || x.recverr.Load()&recverr4 != 0), nil
	case unix.IP_RECVORIGDSTADDR:
		return boolVal(o.GetReceiveOriginalDstAddress()), nil
	case unix.IP_HDRINCL:
		return boolVal(o.GetHeaderIncluded()), nil
	case unix.IP_FREEBIND:
		return boolVal(x.opt.freebind.Load()), nil
	case unix.IP_TRANSPARENT:
		return boolVal(x.opt.transparent.Load()), nil
	case unix.IP_OPTIONS:
		n, _ := x.opt.kept.load(unix.SOL_IP, unix.IP_OPTIONS)
		nops, _ := x.opt.kept.load(unix.SOL_IP, ipNops)
		return append(bytes.Repeat([]byte{ipNop}, int(nops)), make([]byte, max(0, n-nops))...), nil
	case unix.IP_PKTOPTIONS:
		if !x.isTCP() {
			return nil, unix.ENOPROTOOPT
		}
		return []byte{}, nil
	case unix.IP_UNICAST_IF:
		return le32(x.opt.unicastIf.Load()), nil
	case unix.IP_NODEFRAG:
		return intVal(0), nil
	case unix.IP_MSFILTER, mcastMsfilter:
		return nil, unix.EINVAL // the group that it would name is none
	case ipProtocol: // inet_num: a raw socket's protocol, else the port
		if x.typ == unix.SOCK_RAW {
			return intVal(int(x.pro)), nil
		}
		a, _ := x.ep().GetLocalAddress()
		return intVal(int(a.Port)), nil
	case unix.IP_MTU:
		if _, ok := x.lastPeer(); !ok {
			return nil, unix.ENOTCONN
		}
		return intVal(x.pathMTU()), nil
	}
	if v, ok := x.opt.kept.get(unix.SOL_IP, name); ok {
		if _, set := x.opt.kept.load(unix.SOL_IP, name); !set && name == unix.IP_MULTICAST_ALL && x.domain == unix.AF_INET6 {
			v = 0
		}
		return intVal(int(v)), nil
	}
	return nil, unix.ENOPROTOOPT
}

func (s *Stack) mtu() uint32 {
	if i := s.first(); i != nil {
		return i.eth.MTU()
	}
	return 65536
}

func (x *inetSocket) setIPv6(c *Caller, name int, v []byte) error {
	o := x.ep().SocketOptions()
	if err := refusedIPv6(c, name, v); err != nil {
		return err
	}
	switch name {
	case mcastJoinGroup, mcastLeaveGroup:
		return x.group(unix.AF_INET6, name == mcastJoinGroup, v)
	case ipv6UnicastIf:
		return x.unicastIf(v)
	case unix.IPV6_HOPOPTS, unix.IPV6_RTHDRDSTOPTS, unix.IPV6_RTHDR, unix.IPV6_DSTOPTS:
		if len(v) == 0 {
			return nil // takes away what is not there
		}
	case unix.IPV6_PKTINFO: // the address in it is for IPV6_2292PKTOPTIONS alone
		nic := tcpip.NICID(binary.LittleEndian.Uint32(v[pktinfo6Size-4:]))
		if d := x.device(); nic != 0 && d != 0 && d != nic {
			return unix.EINVAL
		}
		x.opt.kept.store(unix.SOL_IPV6, name, int32(nic))
		return nil
	case unix.IPV6_ADD_MEMBERSHIP, unix.IPV6_DROP_MEMBERSHIP:
		if len(v) < sizeMreq6 {
			return unix.EINVAL
		}
		if x.isTCP() {
			return unix.EPROTO
		}
		return x.join(name == unix.IPV6_ADD_MEMBERSHIP, tcpip.MembershipOption{
			MulticastAddr: tcpip.AddrFrom16([16]byte(v[:16])), NIC: tcpip.NICID(binary.LittleEndian.Uint32(v[16:]))})
	}
	n32, err := intArg(v)
	if err != nil && !shortIsZero(name) {
		if !x.knowsIPv6(name) {
			err = unix.ENOPROTOOPT
		}
		return err
	}
	n, on := int(n32), n32 != 0
	switch name {
	case unix.IPV6_V6ONLY:
		// The port of a connection that failed was connect's choice, and is free again.
		if x.bound.Load() && !(x.isTCP() && x.isClosed() && x.local.Load() == nil) {
			return unix.EINVAL
		}
		o.SetV6Only(on)
	case unix.IPV6_UNICAST_HOPS:
		if n < -1 || n > 255 {
			return unix.EINVAL
		}
		return errno(x.ep().SetSockOptInt(tcpip.IPv6HopLimitOption, n))
	case unix.IPV6_MULTICAST_HOPS:
		if x.isTCP() {
			return unix.ENOPROTOOPT
		}
		if n < -1 || n > 255 {
			return unix.EINVAL
		}
		if n == -1 {
			n = 1
		}
		return errno(x.ep().SetSockOptInt(tcpip.MulticastTTLOption, n))
	case unix.IPV6_MULTICAST_LOOP:
		if n != 0 && n != 1 {
			return unix.EINVAL
		}
		o.SetMulticastLoop(on)
	case unix.IPV6_MULTICAST_IF:
		if x.isTCP() {
			return unix.ENOPROTOOPT
		}
		if n != 0 && !x.s.ns.HasNIC(tcpip.NICID(n)) {
			return unix.ENODEV
		}
		if d := x.device(); n != 0 && d != 0 && d != tcpip.NICID(n) {
			return unix.EINVAL
		}
		x.opt.kept.store(unix.SOL_IPV6, name, n32)
	case unix.IPV6_TCLASS:
		if n < -1 || n > 255 {
			return unix.EINVAL
		}
		return errno(x.ep().SetSockOptInt(tcpip.IPv6TrafficClassOption, max(n, 0)))
	case unix.IPV6_RECVTCLASS:
		o.SetReceiveTClass(on)
	case unix.IPV6_RECVPKTINFO:
		o.SetIPv6ReceivePacketInfo(on)
		x.opt.recvpktinfo.Store(on)
		x.hearMapped()
	case unix.IPV6_RECVHOPLIMIT:
		x.opt.hopLimit.Store(on)
		o.SetReceiveHopLimit(on || x.opt.oldHopLimit.Load())
	case unix.IPV6_2292HOPLIMIT:
		x.opt.oldHopLimit.Store(on)
		o.SetReceiveHopLimit(on || x.opt.hopLimit.Load())
	case unix.IPV6_RECVERR:
		if !x.isTCP() {
			x.setRecverr(recverr6, on)
			break
		}
		o.SetIPv6RecvError(on)
	case unix.IPV6_RECVORIGDSTADDR:
		o.SetReceiveOriginalDstAddress(on)
	case unix.IPV6_MTU_DISCOVER:
		return x.mtuDiscover(n)
	case unix.IPV6_FREEBIND:
		x.opt.freebind.Store(on)
	case unix.IPV6_CHECKSUM:
		if x.typ != unix.SOCK_RAW {
			return unix.ENOPROTOOPT
		}
		return x.setChecksum(unix.SOL_IPV6, v)
	case unix.IPV6_TRANSPARENT:
		return x.setIP(c, unix.IP_TRANSPARENT, v)
	case unix.IPV6_MTU:
		if n != 0 && n < header.IPv6MinimumMTU {
			return unix.EINVAL
		}
	case unix.IPV6_ADDR_PREFERENCES:
		return x.preferAddrs(n32)
	default:
		known, err := x.opt.kept.set(unix.SOL_IPV6, name, n32)
		if !known {
			return unix.ENOPROTOOPT
		}
		return err
	}
	return nil
}

// shortIsZero are options that take an argument of less than four bytes for 0.
func shortIsZero(name int) bool {
	return name == unix.IPV6_DONTFRAG || name == unix.IPV6_AUTOFLOWLABEL || name == unix.IPV6_RECVFRAGSIZE
}

// knowsIPv6 says whether an option of setIPv6 is one of this socket.
func (x *inetSocket) knowsIPv6(name int) bool {
	switch name {
	case unix.IPV6_MULTICAST_HOPS, unix.IPV6_MULTICAST_IF:
		return !x.isTCP()
	case unix.IPV6_CHECKSUM:
		return x.typ == unix.SOCK_RAW
	case unix.IPV6_V6ONLY, unix.IPV6_UNICAST_HOPS, unix.IPV6_MULTICAST_LOOP, unix.IPV6_TCLASS, unix.IPV6_RECVTCLASS, unix.IPV6_RECVPKTINFO,
		unix.IPV6_RECVHOPLIMIT, unix.IPV6_2292HOPLIMIT, unix.IPV6_RECVERR, unix.IPV6_RECVORIGDSTADDR, unix.IPV6_MTU_DISCOVER, unix.IPV6_FREEBIND, unix.IPV6_TRANSPARENT,
		unix.IPV6_MTU, unix.IPV6_ADDR_PREFERENCES, unix.IPV6_ROUTER_ALERT:
		return true
	}
	_, known := x.opt.kept.get(unix.SOL_IPV6, name)
	return known
}

// hearMapped lets an IPv6 socket hear where IPv4's datagrams went, if it wants to know
// in either way.
func (x *inetSocket) hearMapped() {
	x.ep().SocketOptions().SetReceivePacketInfo(x.opt.pktinfo.Load() || x.opt.recvpktinfo.Load())
}

func (x *inetSocket) getIPv6(name, room int) ([]byte, error) {
	if b, err, known := x.refusedGet6(name, room); known {
		return b, err
	}
	o := x.ep().SocketOptions()
	switch name {
	case unix.IPV6_V6ONLY:
		return boolVal(o.GetV6Only()), nil
	case unix.IPV6_UNICAST_HOPS:
		n, err := x.ep().GetSockOptInt(tcpip.IPv6HopLimitOption)
		if n < 0 {
			n = 64
		}
		return intVal(n), errno(err)
	case unix.IPV6_MULTICAST_HOPS:
		return x.getInt(tcpip.MulticastTTLOption)
	case unix.IPV6_MULTICAST_LOOP:
		return boolVal(o.GetMulticastLoop()), nil
	case unix.IPV6_TCLASS:
		return x.getInt(tcpip.IPv6TrafficClassOption)
	case unix.IPV6_RECVTCLASS:
		return boolVal(o.GetReceiveTClass()), nil
	case unix.IPV6_RECVPKTINFO:
		return boolVal(o.GetIPv6ReceivePacketInfo()), nil
	case unix.IPV6_RECVHOPLIMIT:
		return boolVal(x.opt.hopLimit.Load()), nil
	case unix.IPV6_2292HOPLIMIT:
		return boolVal(x.opt.oldHopLimit.Load()), nil
	case unix.IPV6_RECVERR:
		return boolVal(o.GetIPv6RecvError() || x.recverr.Load()&recverr6 != 0), nil
	case unix.IPV6_RECVORIGDSTADDR:
		return boolVal(o.GetReceiveOriginalDstAddress()), nil
	case unix.IPV6_MTU_DISCOVER:
		return x.getIP(unix.IP_MTU_DISCOVER)
	case unix.IPV6_MTU:
		return x.getIP(unix.IP_MTU)
	case unix.IPV6_TRANSPARENT:
		return boolVal(x.opt.transparent.Load()), nil
	case ipv6UnicastIf:
		return le32(x.opt.unicastIf.Load()), nil
	case unix.IPV6_MULTICAST_IF:
		n, _ := x.opt.kept.load(unix.SOL_IPV6, name)
		return intVal(int(n)), nil
	case unix.IPV6_ADDR_PREFERENCES:
		if n, ok := x.opt.kept.load(unix.SOL_IPV6, name); ok {
			return intVal(int(n)), nil
		}
		return intVal(preferUsual | preferHome), nil
	case unix.IPV6_FREEBIND:
		return boolVal(x.opt.freebind.Load()), nil
	}
	if v, ok := x.opt.kept.get(unix.SOL_IPV6, name); ok {
		return intVal(int(v)), nil
	}
	return nil, unix.ENOPROTOOPT
}

// Values of IPV6_ADDR_PREFERENCES (IPV6_PREFER_SRC_*, uapi/linux/in6.h).
const (
	preferTemporary = 1
	preferPublic    = 2
	preferCareOf    = 4
	preferCGA       = 8
	preferUsual     = 0x100 // PUBTMP_DEFAULT
	preferHome      = 0x400
	preferNonCGA    = 0x800
)

// preferAddrs is IPV6_ADDR_PREFERENCES: of each choice that v names, one (EINVAL). It is told,
// and has no effect: no address here is temporary, or another's home.
func (x *inetSocket) preferAddrs(v int32) error {
	now, ok := x.opt.kept.load(unix.SOL_IPV6, unix.IPV6_ADDR_PREFERENCES)
	if !ok {
		now = preferUsual | preferHome
	}
	for _, choice := range []int32{preferTemporary | preferPublic | preferUsual, preferCareOf | preferHome, preferCGA | preferNonCGA} {
		switch one := v & choice; {
		case one&(one-1) != 0:
			return unix.EINVAL
		case one != 0 && choice&preferCGA == 0: // which is checked, and never told
			now = now&^choice | one
		}
	}
	x.opt.kept.store(unix.SOL_IPV6, unix.IPV6_ADDR_PREFERENCES, now)
	return nil
}
