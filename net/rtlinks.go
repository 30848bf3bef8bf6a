package net

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// linkOf is the interface that a struct ifinfomsg names by index or IFLA_IFNAME.
func (s *Stack) linkOf(req []byte) (*iface, map[uint16][]byte, unix.Errno) {
	if len(req) < unix.SizeofIfInfomsg {
		return nil, nil, unix.EINVAL
	}
	a := attributes(req[unix.SizeofIfInfomsg:])
	if n := int32(binary.LittleEndian.Uint32(req[4:])); n > 0 {
		if i := s.byIndex(tcpip.NICID(n)); i != nil {
			return i, a, 0
		}
		return nil, a, unix.ENODEV
	} else if n < 0 {
		return nil, a, unix.EINVAL
	}
	v, ok := a[unix.IFLA_IFNAME]
	if !ok {
		return nil, a, unix.EINVAL
	}
	if i := s.byName(cstring(v)); i != nil {
		return i, a, 0
	}
	return nil, a, unix.ENODEV
}

// changeLink is RTM_NEWLINK and RTM_SETLINK on a link that is there: EEXIST, ENODEV,
// EINVAL (MTU); EOPNOTSUPP for making one, another address of the card, another name.
func (s *Stack) changeLink(typ, flags uint16, req []byte) unix.Errno {
	i, a, e := s.linkOf(req)
	if e != 0 {
		if _, kind := a[unix.IFLA_LINKINFO]; kind && flags&unix.NLM_F_CREATE != 0 {
			return unix.EOPNOTSUPP // no kind of link can be made
		}
		return e
	}
	if typ == unix.RTM_NEWLINK && flags&unix.NLM_F_EXCL != 0 {
		return unix.EEXIST
	}
	if v, ok := a[unix.IFLA_IFNAME]; ok && cstring(v) != i.name {
		return unix.EOPNOTSUPP
	}
	if v, ok := a[unix.IFLA_ADDRESS]; ok && (i.eth == nil || string(v) != string(i.eth.mac)) {
		return unix.EOPNOTSUPP
	}
	for _, t := range []uint16{unix.IFLA_MASTER, unix.IFLA_NET_NS_FD, unix.IFLA_NET_NS_PID} {
		if _, ok := a[t]; ok {
			return unix.EOPNOTSUPP
		}
	}
	if v, ok := a[unix.IFLA_MTU]; ok {
		if e := s.setMTU(i, int(int32(word(v)))); e != 0 {
			return e
		}
	}
	if v, ok := a[unix.IFLA_TXQLEN]; ok {
		i.queue.Store(word(v) + 1)
	}
	want, mask := binary.LittleEndian.Uint32(req[8:]), binary.LittleEndian.Uint32(req[12:])
	if mask == 0 && want != 0 {
		mask = ^uint32(0)
	}
	s.setFlags(i, want, mask)
	s.linkChanged(i)
	return 0
}

func (s *Stack) linkChanged(i *iface) {
	b := s.linkMessage(i)
	binary.LittleEndian.PutUint32(b[12:], ^uint32(0)) // ifi_change
	s.notify(unix.RTNLGRP_LINK, unix.RTM_NEWLINK, b)
}

// deleteLink is RTM_DELLINK: cards and the loopback stay.
func (s *Stack) deleteLink(req []byte) unix.Errno {
	i, _, e := s.linkOf(req)
	if e != 0 {
		return e
	}
	if i.wire == nil {
		return unix.EOPNOTSUPP
	}
	s.tunMu.Lock()
	defer s.tunMu.Unlock()
	if s.byIndex(i.id) != i {
		return unix.ENODEV
	}
	i.wire.remove()
	return 0
}

// txqlen is how many packets wait, as the program set it.
func (i *iface) txqlen() uint32 {
	if n := i.queue.Load(); n != 0 {
		return n - 1
	}
	return 1000
}

// setMTU: EINVAL outside what the link takes.
func (s *Stack) setMTU(i *iface, mtu int) unix.Errno {
	most := 65536
	if i.eth != nil {
		most = i.eth.dev.MTU()
	} else if i.wire != nil {
		most = 65535
	}
	if mtu < 68 || mtu > most {
		return unix.EINVAL
	}
	if err := s.ns.SetNICMTU(i.id, uint32(mtu)); err != nil {
		return unix.EINVAL
	}
	if i.lo != nil {
		i.lo.SetMTU(uint32(mtu))
	} else if i.eth == nil {
		i.wire.tun.SetMTU(uint32(mtu))
	}
	return 0
}

// softFlags are those of dev_change_flags that the interface only keeps.
const softFlags = unix.IFF_DEBUG | unix.IFF_NOTRAILERS | unix.IFF_NOARP | unix.IFF_DYNAMIC | unix.IFF_MULTICAST |
	unix.IFF_PORTSEL | unix.IFF_AUTOMEDIA | unix.IFF_ALLMULTI | unix.IFF_PROMISC

// setFlags changes the flags in mask to those of want.
func (s *Stack) setFlags(i *iface, want, mask uint32) {
	m := mask & softFlags
	i.soft.Store(i.soft.Load()&^m | want&m)
	if mask&unix.IFF_UP != 0 {
		s.setUp(i, want&unix.IFF_UP != 0)
	}
}

// setUp brings a link up or down. With it go its routes, and come those of its addresses.
func (s *Stack) setUp(i *iface, up bool) {
	if i.down.Load() == !up {
		return
	}
	i.down.Store(!up)
	if !up {
		s.ns.DisableNIC(i.id)
		if i.id != loopbackNIC {
			s.removeRoutes(func(r tcpip.Route) bool { return r.NIC == i.id })
		}
		s.pathsChanged()
		return
	}
	s.ns.EnableNIC(i.id)
	if i.wire != nil {
		i.wire.writable()
	}
	for _, pa := range s.addresses(i.id) {
		s.connectedRoute(i, pa.AddressWithPrefix, true)
	}
}

// connectedRoute makes or removes the route to the net of an address.
func (s *Stack) connectedRoute(i *iface, a tcpip.AddressWithPrefix, add bool) {
	net, peer := s.peerOf(i, a.Address)
	if !peer {
		net = a
	}
	if !peer && a.PrefixLen == a.Address.BitLen() || i.down.Load() {
		return
	}
	r := tcpip.Route{Destination: net.Subnet(), NIC: i.id}
	if !add {
		for _, o := range s.addresses(i.id) {
			if o := o.AddressWithPrefix; o.Address != a.Address && o.Subnet() == r.Destination {
				return // another address is in that net
			}
		}
	}
	if i.lo != nil {
		// The whole net is this machine; on Linux it is in table local.
		s.ns.RemoveRoutes(func(o tcpip.Route) bool { return keyOf(o) == keyOf(r) })
		if add {
			s.ns.AddRoute(r)
		}
		return
	}
	r.SourceHint = a.Address
	info := routeInfo{protocol: unix.RTPROT_KERNEL, scope: unix.RT_SCOPE_LINK, src: a.Address}
	if a.Address.Len() == header.IPv6AddressSize {
		info = routeInfo{protocol: unix.RTPROT_KERNEL, metric: 256}
	}
	if add {
		s.insertRoute(r, info)
		return
	}
	s.removeRoutes(func(o tcpip.Route) bool { return keyOf(o) == keyOf(r) })
}

// peerOf is the other end of an address, with the prefix that leads to it.
func (s *Stack) peerOf(i *iface, a tcpip.Address) (tcpip.AddressWithPrefix, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := i.peers[a]
	return p, ok
}

// setPeer gives an address another end; one with an empty address takes it away.
func (s *Stack) setPeer(i *iface, a tcpip.Address, peer tcpip.AddressWithPrefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if peer.Address.Len() == 0 {
		delete(i.peers, a)
		return
	}
	if i.peers == nil {
		i.peers = map[tcpip.Address]tcpip.AddressWithPrefix{}
	}
	i.peers[a] = peer
}

// labelOf is an IPv4 address's label, by default the interface's name.
func (s *Stack) labelOf(i *iface, a tcpip.Address) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, ok := i.labels[a]; ok {
		return l
	}
	return i.name
}

// setLabel gives an address a label; the interface's name takes it away.
func (s *Stack) setLabel(i *iface, a tcpip.Address, label string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if label == i.name {
		delete(i.labels, a)
		return
	}
	if i.labels == nil {
		i.labels = map[tcpip.Address]string{}
	}
	i.labels[a] = label
}

// parseIfAddr takes struct ifaddrmsg apart: EINVAL, ENODEV, EOPNOTSUPP. An address with
// another end (peer) stands alone: the prefix is the peer's.
func (s *Stack) parseIfAddr(req []byte) (i *iface, a, peer tcpip.AddressWithPrefix, e unix.Errno) {
	if len(req) < unix.SizeofIfAddrmsg {
		return nil, a, peer, unix.EINVAL
	}
	at := attributes(req[unix.SizeofIfAddrmsg:])
	fam := req[0]
	if fam != unix.AF_INET && fam != unix.AF_INET6 {
		return nil, a, peer, unix.EOPNOTSUPP
	}
	v, ok := at[unix.IFA_LOCAL]
	if !ok {
		if v, ok = at[unix.IFA_ADDRESS]; !ok {
			return nil, a, peer, unix.EINVAL
		}
	}
	if a.Address, ok = address(fam, v); !ok {
		return nil, a, peer, unix.EINVAL
	}
	if a.PrefixLen = int(req[1]); a.PrefixLen > a.Address.BitLen() {
		return nil, a, peer, unix.EINVAL
	}
	if v, ok := at[unix.IFA_ADDRESS]; ok {
		other, ok := address(fam, v)
		if !ok {
			return nil, a, peer, unix.EINVAL
		}
		if other != a.Address {
			peer = tcpip.AddressWithPrefix{Address: other, PrefixLen: a.PrefixLen}
			a.PrefixLen = a.Address.BitLen()
		}
	}
	if i = s.byIndex(tcpip.NICID(binary.LittleEndian.Uint32(req[4:]))); i == nil {
		return nil, a, peer, unix.ENODEV
	}
	return i, a, peer, 0
}

// has says whether an interface has an address.
func (s *Stack) has(i *iface, a tcpip.Address) (tcpip.AddressWithPrefix, bool) {
	for _, pa := range s.addresses(i.id) {
		if pa.AddressWithPrefix.Address == a {
			return pa.AddressWithPrefix, true
		}
	}
	return tcpip.AddressWithPrefix{}, false
}

// maxAddrs bounds the addresses of an interface.
const maxAddrs = 1024

// newAddr is RTM_NEWADDR: EEXIST, EADDRNOTAVAIL (of many), ENOBUFS.
func (s *Stack) newAddr(flags uint16, req []byte) unix.Errno {
	i, a, peer, e := s.parseIfAddr(req)
	if e != 0 {
		return e
	}
	if header.IsV6MulticastAddress(a.Address) || a.Address.Unspecified() {
		return unix.EADDRNOTAVAIL
	}
	if old, ok := s.has(i, a.Address); ok {
		if flags&unix.NLM_F_EXCL != 0 || flags&unix.NLM_F_REPLACE == 0 {
			return unix.EEXIST
		}
		if p, _ := s.peerOf(i, a.Address); old == a && p == peer {
			return 0
		}
		s.dropAddr(i, old)
	}
	if len(s.addresses(i.id)) >= maxAddrs {
		return unix.ENOBUFS
	}
	s.setPeer(i, a.Address, peer)
	if v, ok := attributes(req[unix.SizeofIfAddrmsg:])[unix.IFA_LABEL]; ok && a.Address.Len() == 4 {
		s.setLabel(i, a.Address, cstring(v[:min(len(v), unix.IFNAMSIZ-1)]))
	}
	return s.putAddr(i, a, flagsOf(req)&unix.IFA_F_NOPREFIXROUTE == 0)
}

func flagsOf(req []byte) uint32 {
	if v, ok := attributes(req[unix.SizeofIfAddrmsg:])[unix.IFA_FLAGS]; ok {
		return word(v)
	}
	return uint32(req[2])
}

// putAddr gives an interface an address and, with route, the way to its net.
func (s *Stack) putAddr(i *iface, a tcpip.AddressWithPrefix, route bool) unix.Errno {
	if err := s.addAddress(i.id, a.Address, a.PrefixLen); err != nil {
		return unix.EADDRNOTAVAIL
	}
	if route {
		s.connectedRoute(i, a, true)
	}
	s.announce(i, a.Address)
	return 0
}

func addrGroup(a tcpip.Address) int {
	if a.Len() == header.IPv6AddressSize {
		return unix.RTNLGRP_IPV6_IFADDR
	}
	return unix.RTNLGRP_IPV4_IFADDR
}

// deleteAddr is RTM_DELADDR: EADDRNOTAVAIL.
func (s *Stack) deleteAddr(req []byte) unix.Errno {
	i, a, peer, e := s.parseIfAddr(req)
	if e != 0 {
		return e
	}
	old, ok := s.has(i, a.Address)
	p, _ := s.peerOf(i, a.Address)
	if !ok || p != peer || a.PrefixLen != old.PrefixLen && a.PrefixLen != 0 {
		return unix.EADDRNOTAVAIL
	}
	if v, ok := attributes(req[unix.SizeofIfAddrmsg:])[unix.IFA_LABEL]; ok && a.Address.Len() == 4 && cstring(v) != s.labelOf(i, a.Address) {
		return unix.EADDRNOTAVAIL
	}
	s.dropAddr(i, old)
	return 0
}

func (s *Stack) dropAddr(i *iface, a tcpip.AddressWithPrefix) {
	s.ns.RemoveAddress(i.id, a.Address)
	s.pathsChanged()
	s.connectedRoute(i, a, false)
	s.notify(addrGroup(a.Address), unix.RTM_DELADDR, s.addrMessage(i, a))
	s.setPeer(i, a.Address, tcpip.AddressWithPrefix{})
	s.setLabel(i, a.Address, i.name)
}

// neighbours are an interface's of one version.
func (s *Stack) neighbours(i *iface, six bool) []stack.NeighborEntry {
	proto := ipv4.ProtocolNumber
	if six {
		proto = ipv6.ProtocolNumber
	}
	l, err := s.ns.Neighbors(i.id, proto)
	if err != nil {
		return nil
	}
	return l
}

// nudState is a neighbour's state in Linux's bits (uapi/linux/neighbour.h).
func nudState(n stack.NeighborState) uint16 {
	switch n {
	case stack.Incomplete:
		return unix.NUD_INCOMPLETE
	case stack.Reachable:
		return unix.NUD_REACHABLE
	case stack.Delay:
		return unix.NUD_DELAY
	case stack.Probe:
		return unix.NUD_PROBE
	case stack.Static:
		return unix.NUD_PERMANENT
	case stack.Unreachable:
		return unix.NUD_FAILED
	}
	return unix.NUD_STALE
}

func neighbourMessage(i *iface, n stack.NeighborEntry) []byte {
	b := make([]byte, unix.SizeofNdMsg)
	b[0], b[11] = familyOfAddr(n.Addr), unix.RTN_UNICAST
	binary.LittleEndian.PutUint32(b[4:], uint32(i.id))
	binary.LittleEndian.PutUint16(b[8:], nudState(n.State))
	b = attr(b, unix.NDA_DST, n.Addr.AsSlice())
	if len(n.LinkAddr) > 0 {
		b = attr(b, unix.NDA_LLADDR, []byte(n.LinkAddr))
	}
	b = attr(b, unix.NDA_PROBES, le32(0))
	return attr(b, unix.NDA_CACHEINFO, make([]byte, 16))
}

// dumpNeighbours serves RTM_GETNEIGH: all of a family, of one interface with
// NDA_IFINDEX, or one.
func (s *Stack) dumpNeighbours(r *reply, family int, req []byte, dump bool) unix.Errno {
	var only uint32
	var dst tcpip.Address
	if len(req) >= unix.SizeofNdMsg {
		a := attributes(req[unix.SizeofNdMsg:])
		if only = word(a[unix.NDA_IFINDEX]); !dump {
			ok := false
			only = binary.LittleEndian.Uint32(req[4:])
			if dst, ok = address(req[0], a[unix.NDA_DST]); !ok {
				return unix.EINVAL
			}
		}
	} else if !dump {
		return unix.EINVAL
	}
	found := false
	for _, i := range s.interfaces() {
		if i.eth == nil || only != 0 && only != uint32(i.id) {
			continue
		}
		for _, six := range []bool{false, true} {
			if six && family == unix.AF_INET || !six && family == unix.AF_INET6 {
				continue
			}
			for _, n := range s.neighbours(i, six) {
				if dump || n.Addr == dst {
					r.message(unix.RTM_NEWNEIGH, neighbourMessage(i, n))
					found = true
				}
			}
		}
	}
	if !found && !dump {
		return unix.ENOENT
	}
	return 0
}

// neighbourOf takes struct ndmsg apart.
func (s *Stack) neighbourOf(req []byte) (i *iface, dst tcpip.Address, a map[uint16][]byte, e unix.Errno) {
	if len(req) < unix.SizeofNdMsg {
		return nil, dst, nil, unix.EINVAL
	}
	a = attributes(req[unix.SizeofNdMsg:])
	ok := false
	if dst, ok = address(req[0], a[unix.NDA_DST]); !ok {
		return nil, dst, a, unix.EINVAL
	}
	if i = s.byIndex(tcpip.NICID(binary.LittleEndian.Uint32(req[4:]))); i == nil {
		return nil, dst, a, unix.ENODEV
	}
	return i, dst, a, 0
}

// maxNeighbours bounds static entries, which nobody else removes.
const maxNeighbours = 1024

// newNeighbour is RTM_NEWNEIGH: a permanent entry. EEXIST, ENOENT, EOPNOTSUPP for other
// states and for links without neighbours.
func (s *Stack) newNeighbour(flags uint16, req []byte) unix.Errno {
	i, dst, a, e := s.neighbourOf(req)
	if e != 0 {
		return e
	}
	mac := a[unix.NDA_LLADDR]
	if len(mac) != 6 {
		return unix.EINVAL
	}
	if i.eth == nil || binary.LittleEndian.Uint16(req[8:])&unix.NUD_PERMANENT == 0 {
		return unix.EOPNOTSUPP
	}
	l := s.neighbours(i, dst.Len() == header.IPv6AddressSize)
	old := false
	for _, n := range l {
		old = old || n.Addr == dst
	}
	switch {
	case old && flags&unix.NLM_F_EXCL != 0:
		return unix.EEXIST
	case !old && flags&unix.NLM_F_CREATE == 0:
		return unix.ENOENT
	}
	return s.keepNeighbour(i, dst, tcpip.LinkAddress(mac))
}

// keepNeighbour makes a permanent entry: ENOBUFS for one of many, EINVAL.
func (s *Stack) keepNeighbour(i *iface, dst tcpip.Address, mac tcpip.LinkAddress) unix.Errno {
	l := s.neighbours(i, dst.Len() == header.IPv6AddressSize)
	if len(l) >= maxNeighbours && !slices.ContainsFunc(l, func(n stack.NeighborEntry) bool { return n.Addr == dst }) {
		return unix.ENOBUFS
	}
	if s.ns.AddStaticNeighbor(i.id, protoOf(dst), dst, mac) != nil {
		return unix.EINVAL
	}
	n := stack.NeighborEntry{Addr: dst, LinkAddr: mac, State: stack.Static}
	s.notify(unix.RTNLGRP_NEIGH, unix.RTM_NEWNEIGH, neighbourMessage(i, n))
	return 0
}

// deleteNeighbour is RTM_DELNEIGH: ENOENT.
func (s *Stack) deleteNeighbour(req []byte) unix.Errno {
	i, dst, _, e := s.neighbourOf(req)
	if e != 0 {
		return e
	}
	return s.dropNeighbour(i, dst)
}

// dropNeighbour takes an entry away: ENOENT.
func (s *Stack) dropNeighbour(i *iface, dst tcpip.Address) unix.Errno {
	if s.ns.RemoveNeighbor(i.id, protoOf(dst), dst) != nil {
		return unix.ENOENT
	}
	n := stack.NeighborEntry{Addr: dst, State: stack.Unreachable}
	s.notify(unix.RTNLGRP_NEIGH, unix.RTM_DELNEIGH, neighbourMessage(i, n))
	return 0
}
