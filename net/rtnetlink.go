package net

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// NETLINK_ROUTE: links, addresses, routes, neighbours and rules. See rtnetlink(7).

// attributes takes route attributes apart; what is behind a broken one is not seen.
func attributes(b []byte) map[uint16][]byte {
	a := map[uint16][]byte{}
	for len(b) >= 4 {
		n, t := int(binary.LittleEndian.Uint16(b)), binary.LittleEndian.Uint16(b[2:])
		if n < 4 || n > len(b) {
			break
		}
		a[t&^uint16(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER)] = b[4:n]
		b = b[min((n+3)&^3, len(b)):]
	}
	return a
}

// word is a 32-bit attribute, 0 without one.
func word(v []byte) uint32 {
	if len(v) < 4 {
		return 0
	}
	return binary.LittleEndian.Uint32(v)
}

// address is an address attribute of a family: false if there is none or it has another
// length.
func address(family byte, v []byte) (tcpip.Address, bool) {
	switch {
	case family == unix.AF_INET && len(v) == 4, family == unix.AF_INET6 && len(v) == 16:
		return tcpip.AddrFromSlice(v), true
	}
	return tcpip.Address{}, false
}

// route serves one request of NETLINK_ROUTE (rtnetlink_rcv_msg).
func (s *Stack) route(c *Caller, r *reply, typ, flags uint16, body []byte, dump bool) unix.Errno {
	if typ < unix.RTM_BASE || typ > unix.RTM_MAX {
		return unix.EOPNOTSUPP
	}
	if len(body) < 1 { // struct rtgenmsg
		return 0
	}
	family := int(body[0])
	if typ&3 != 2 && !c.capable(capNetAdmin) {
		return unix.EPERM
	}
	switch typ {
	case unix.RTM_GETLINK:
		return s.dumpLinks(r, body, dump)
	case unix.RTM_NEWLINK, unix.RTM_SETLINK:
		return s.changeLink(typ, flags, body)
	case unix.RTM_DELLINK:
		return s.deleteLink(body)
	case unix.RTM_GETADDR:
		if !dump {
			return unix.EOPNOTSUPP
		}
		return s.dumpAddrs(r, family, body)
	case unix.RTM_NEWADDR:
		return s.newAddr(flags, body)
	case unix.RTM_DELADDR:
		return s.deleteAddr(body)
	case unix.RTM_GETROUTE:
		if !dump {
			return s.getRoute(c, r, body)
		}
		return s.dumpRoutes(r, family, body)
	case unix.RTM_NEWROUTE:
		return s.newRoute(flags, body)
	case unix.RTM_DELROUTE:
		return s.deleteRoute(body)
	case unix.RTM_GETNEIGH:
		return s.dumpNeighbours(r, family, body, dump)
	case unix.RTM_NEWNEIGH:
		return s.newNeighbour(flags, body)
	case unix.RTM_DELNEIGH:
		return s.deleteNeighbour(body)
	case unix.RTM_GETRULE:
		if dump {
			s.dumpRules(r, family)
			return 0
		}
	case unix.RTM_GETQDISC:
		if dump {
			s.dumpQdiscs(r)
			return 0
		}
	case unix.RTM_GETTCLASS, unix.RTM_GETTFILTER:
		if dump {
			return 0
		}
	}
	return unix.EOPNOTSUPP
}

// dumpLinks serves RTM_GETLINK: all, or the one that index or IFLA_IFNAME names.
func (s *Stack) dumpLinks(r *reply, req []byte, dump bool) unix.Errno {
	var index int32
	var name string
	if len(req) >= unix.SizeofIfInfomsg {
		index = int32(binary.LittleEndian.Uint32(req[4:]))
		a := attributes(req[unix.SizeofIfInfomsg:])
		if v, ok := a[unix.IFLA_IFNAME]; ok {
			name = cstring(v)
		}
		if v, ok := a[unix.IFLA_ALT_IFNAME]; ok {
			name = cstring(v)
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
	b = attr(b, unix.IFLA_TXQLEN, le32(i.txqlen()))
	oper := byte(6) // IF_OPER_UP
	if st.flags&unix.IFF_UP == 0 || i.eth != nil && !i.eth.dev.LinkUp() {
		oper = 2 // IF_OPER_DOWN
	} else if i.lo != nil || i.wire != nil {
		oper = 0 // IF_OPER_UNKNOWN
		if i.wire != nil && !i.wire.carrier() {
			oper = 2
		}
	}
	b = attr(b, unix.IFLA_OPERSTATE, []byte{oper})
	b = attr(b, unix.IFLA_LINKMODE, []byte{0})
	b = attr(b, unix.IFLA_MTU, le32(st.mtu))
	b = attr(b, unix.IFLA_GROUP, le32(0))
	b = attr(b, unix.IFLA_QDISC, []byte("noqueue\x00"))
	if st.mac != nil {
		b = attr(b, unix.IFLA_ADDRESS, st.mac)
		bcast := []byte{255, 255, 255, 255, 255, 255}
		if i.eth == nil {
			bcast = make([]byte, 6)
		}
		b = attr(b, unix.IFLA_BROADCAST, bcast)
	}
	if i.wire != nil {
		b = attr(b, unix.IFLA_LINKINFO, attr(nil, unix.IFLA_INFO_KIND, []byte("tun\x00")))
	}
	c := s.counters(i)
	st64 := make([]byte, 25*8) // struct rtnl_link_stats64
	for n, v := range []uint64{c.rxPackets, c.txPackets, c.rxBytes, c.txBytes, 0, 0, c.rxDropped, c.txDropped} {
		le.PutUint64(st64[n*8:], v)
	}
	st32 := make([]byte, 25*4) // the same with smaller counters
	for n := range 25 {
		le.PutUint32(st32[n*4:], uint32(le.Uint64(st64[n*8:])))
	}
	b = attr(b, unix.IFLA_NUM_TX_QUEUES, le32(1))
	b = attr(b, unix.IFLA_NUM_RX_QUEUES, le32(1))
	b = attr(b, unix.IFLA_CARRIER, []byte{byte(st.flags >> 6 & 1)}) // IFF_RUNNING
	b = attr(b, unix.IFLA_STATS64, st64)
	return attr(b, unix.IFLA_STATS, st32)
}

// dumpQdiscs lists the queueing disciplines (struct tcmsg): a link that was brought up has
// "noqueue", as packets go to the device at once.
func (s *Stack) dumpQdiscs(r *reply) {
	const (
		root                              = 0xffffffff // TC_H_ROOT
		kind, stats, stats2, hwOffload    = 1, 3, 7, 12
		statsBasic, statsQueue, statsSize = 1, 3, 40
	)
	for _, i := range s.interfaces() {
		if s.linkState(i).flags&unix.IFF_UP == 0 {
			continue
		}
		b := make([]byte, 20)
		binary.LittleEndian.PutUint32(b[4:], uint32(i.id))
		binary.LittleEndian.PutUint32(b[12:], root)
		binary.LittleEndian.PutUint32(b[16:], 2) // uses
		b = attr(b, kind, []byte("noqueue\x00"))
		b = attr(b, hwOffload, []byte{0})
		b = attr(b, stats2, attr(attr(nil, statsBasic, make([]byte, 16)), statsQueue, make([]byte, 20)))
		r.message(unix.RTM_NEWQDISC, attr(b, stats, make([]byte, statsSize)))
	}
}

type linkState struct {
	flags  uint32
	hwType uint16
	mtu    uint32
	mac    []byte
}

func (s *Stack) linkState(i *iface) linkState {
	if i.wire != nil {
		return i.wire.linkState()
	}
	if i.down.Load() {
		f := uint32(unix.IFF_BROADCAST) | i.soft.Load()
		if i.eth == nil {
			return linkState{unix.IFF_LOOPBACK | i.soft.Load(), unix.ARPHRD_LOOPBACK, i.lo.MTU(), make([]byte, 6)}
		}
		return linkState{f, unix.ARPHRD_ETHER, i.eth.MTU(), []byte(i.eth.mac)}
	}
	if i.eth == nil {
		return linkState{unix.IFF_UP | unix.IFF_LOOPBACK | unix.IFF_RUNNING | unix.IFF_LOWER_UP | i.soft.Load(), unix.ARPHRD_LOOPBACK, i.lo.MTU(), make([]byte, 6)}
	}
	f := unix.IFF_UP | unix.IFF_BROADCAST | i.soft.Load()
	if i.eth.dev.LinkUp() {
		f |= unix.IFF_RUNNING | unix.IFF_LOWER_UP
	}
	return linkState{f, unix.ARPHRD_ETHER, i.eth.MTU(), []byte(i.eth.mac)}
}

// addresses are an interface's: IPv4's first, and of them the one that it speaks from by
// itself; without the limited broadcast address, to which netstack listens on every
// interface and which Linux has on none. (netstack keeps them in no order.)
func (s *Stack) addresses(nic tcpip.NICID) []tcpip.ProtocolAddress {
	l := slices.DeleteFunc(s.ns.AllAddresses()[nic], func(a tcpip.ProtocolAddress) bool {
		return a.AddressWithPrefix.Address == header.IPv4Broadcast
	})
	if len(l) < 2 {
		return l
	}
	main, _ := s.mainV4(nic)
	rank := func(a tcpip.Address) int {
		if a == main.Address {
			return 0
		}
		return a.Len()
	}
	slices.SortFunc(l, func(p, q tcpip.ProtocolAddress) int {
		a, b := p.AddressWithPrefix.Address, q.AddressWithPrefix.Address
		return cmp.Or(cmp.Compare(rank(a), rank(b)), bytes.Compare(a.AsSlice(), b.AsSlice()))
	})
	return l
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

func (s *Stack) dumpAddrs(r *reply, family int, req []byte) unix.Errno {
	only := uint32(0)
	if r.x.strict && len(req) >= unix.SizeofIfAddrmsg {
		only = binary.LittleEndian.Uint32(req[4:])
	}
	for _, i := range s.interfaces() {
		for _, pa := range s.addresses(i.id) {
			if family != 0 && family != int(familyOfAddr(pa.AddressWithPrefix.Address)) || only != 0 && only != uint32(i.id) {
				continue
			}
			r.message(unix.RTM_NEWADDR, s.addrMessage(i, pa.AddressWithPrefix))
		}
	}
	return 0
}

// addrMessage is struct ifaddrmsg with attributes.
func (s *Stack) addrMessage(i *iface, a tcpip.AddressWithPrefix) []byte {
	fam := familyOfAddr(a.Address)
	b := make([]byte, unix.SizeofIfAddrmsg)
	b[0], b[1], b[2], b[3] = fam, byte(a.PrefixLen), unix.IFA_F_PERMANENT, scopeOf(a.Address)
	binary.LittleEndian.PutUint32(b[4:], uint32(i.id))
	peer, other := s.peerOf(i, a.Address)
	if !other {
		peer = a
	}
	b[1] = byte(peer.PrefixLen)
	b = attr(b, unix.IFA_ADDRESS, peer.Address.AsSlice())
	if fam == unix.AF_INET || other {
		b = attr(b, unix.IFA_LOCAL, a.Address.AsSlice())
	}
	if fam == unix.AF_INET {
		if i.eth != nil && !other && a.PrefixLen < 31 {
			net := a.Subnet()
			bc := net.Broadcast()
			b = attr(b, unix.IFA_BROADCAST, bc.AsSlice())
		}
		b = attr(b, unix.IFA_LABEL, append([]byte(s.labelOf(i, a.Address)), 0))
	}
	b = attr(b, unix.IFA_FLAGS, le32(unix.IFA_F_PERMANENT))
	forever := le32(^uint32(0))
	return attr(b, unix.IFA_CACHEINFO, append(append(append([]byte(nil), forever...), forever...), make([]byte, 8)...))
}
