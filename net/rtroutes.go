package net

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// routeKey tells routes apart; routeInfo is what Linux knows of one beside that.
type routeKey struct {
	dst tcpip.Subnet
	gw  tcpip.Address
	nic tcpip.NICID
}

type routeInfo struct {
	protocol, scope byte
	metric          uint32
	src             tcpip.Address
	listed          bool // though it leads to the loopback
}

func keyOf(r tcpip.Route) routeKey { return routeKey{r.Destination, r.Gateway, r.NIC} }

// infoOf is what is known of a route; of one that no program made, what Linux would say
// (the kernel's own, or a router's advertisement).
func (s *Stack) infoOf(r tcpip.Route) routeInfo {
	s.mu.Lock()
	i, ok := s.routes[keyOf(r)]
	s.mu.Unlock()
	if ok {
		return i
	}
	i = routeInfo{protocol: unix.RTPROT_BOOT}
	six := r.Destination.ID().Len() == header.IPv6AddressSize
	if r.Gateway.Len() == 0 {
		i.protocol = unix.RTPROT_KERNEL
		if !six {
			i.scope = unix.RT_SCOPE_LINK
			if a, err := s.ns.GetMainNICAddress(r.NIC, header.IPv4ProtocolNumber); err == nil && r.Destination.Contains(a.Address) {
				i.src = a.Address
			}
		}
	}
	if six {
		i.metric = 256
		if r.Gateway.Len() != 0 {
			i.protocol, i.metric = unix.RTPROT_RA, 1024
		}
	}
	return i
}

// routeMessage is struct rtmsg with attributes.
func routeMessage(r tcpip.Route, i routeInfo) []byte {
	dst := r.Destination.ID()
	b := make([]byte, unix.SizeofRtMsg)
	b[0], b[1] = familyOfAddr(dst), byte(r.Destination.Prefix())
	b[4], b[5], b[6], b[7] = unix.RT_TABLE_MAIN, i.protocol, i.scope, unix.RTN_UNICAST
	b = attr(b, unix.RTA_TABLE, le32(unix.RT_TABLE_MAIN))
	if r.Destination.Prefix() != 0 {
		b = attr(b, unix.RTA_DST, dst.AsSlice())
	}
	if i.metric != 0 {
		b = attr(b, unix.RTA_PRIORITY, le32(i.metric))
	}
	if i.src.BitLen() != 0 {
		b = attr(b, unix.RTA_PREFSRC, i.src.AsSlice())
	}
	if r.Gateway.Len() != 0 {
		b = attr(b, unix.RTA_GATEWAY, r.Gateway.AsSlice())
	}
	return attr(b, unix.RTA_OIF, le32(uint32(r.NIC)))
}

// dumpRoutes serves RTM_GETROUTE: table main, and local when that is asked for or no
// table is.
func (s *Stack) dumpRoutes(r *reply, family int, req []byte) unix.Errno {
	table := byte(0)
	if r.x.strict && len(req) >= unix.SizeofRtMsg {
		table = req[4]
		if v := word(attributes(req[unix.SizeofRtMsg:])[unix.RTA_TABLE]); v != 0 {
			table = byte(min(v, 255))
		}
	}
	if table == 0 || table == unix.RT_TABLE_MAIN {
		for _, rt := range s.ns.GetRouteTable() {
			i := s.infoOf(rt)
			if family != 0 && family != int(familyOfAddr(rt.Destination.ID())) || rt.NIC == loopbackNIC && !i.listed {
				continue // the loopback's own are in table local
			}
			r.message(unix.RTM_NEWROUTE, routeMessage(rt, i))
		}
	}
	if table == 0 || table == unix.RT_TABLE_LOCAL {
		s.dumpLocal(r, family)
	}
	return 0
}

// dumpLocal lists table local: what is delivered here.
func (s *Stack) dumpLocal(r *reply, family int) {
	one := func(i *iface, kind byte, a tcpip.Address, bits int, src tcpip.Address) {
		b := make([]byte, unix.SizeofRtMsg)
		b[0], b[1] = familyOfAddr(a), byte(bits)
		b[4], b[5], b[6], b[7] = unix.RT_TABLE_LOCAL, unix.RTPROT_KERNEL, unix.RT_SCOPE_HOST, kind
		if a.Len() == header.IPv6AddressSize {
			b[6] = unix.RT_SCOPE_UNIVERSE
		} else if kind == unix.RTN_BROADCAST {
			b[6] = unix.RT_SCOPE_LINK
		}
		b = attr(b, unix.RTA_TABLE, le32(unix.RT_TABLE_LOCAL))
		b = attr(b, unix.RTA_DST, a.AsSlice())
		if a.Len() == header.IPv4AddressSize {
			b = attr(b, unix.RTA_PREFSRC, src.AsSlice())
		} else {
			b = attr(b, unix.RTA_PRIORITY, le32(0))
		}
		r.message(unix.RTM_NEWROUTE, attr(b, unix.RTA_OIF, le32(uint32(i.id))))
	}
	for _, i := range s.interfaces() {
		for _, pa := range s.addresses(i.id) {
			a := pa.AddressWithPrefix
			if family != 0 && family != int(familyOfAddr(a.Address)) {
				continue
			}
			net := a.Subnet()
			if i.lo != nil && a.Address.Len() == header.IPv4AddressSize && a.PrefixLen < 32 {
				one(i, unix.RTN_LOCAL, net.ID(), a.PrefixLen, a.Address)
			}
			one(i, unix.RTN_LOCAL, a.Address, a.Address.BitLen(), a.Address)
			if a.Address.Len() == header.IPv4AddressSize && a.PrefixLen < 31 {
				one(i, unix.RTN_BROADCAST, net.Broadcast(), 32, a.Address)
			}
		}
	}
}

// Flags of a route in Linux's cache (RTCF_*), which RTM_GETROUTE of IPv4 shows.
const (
	rtcfLocal     = 1 << 31
	rtcfMulticast = 1 << 29
	rtcfBroadcast = 1 << 28
)

// getRoute is RTM_GETROUTE for one address: which way a packet to it would go
// (inet_rtm_getroute, inet6_rtm_getroute). All attributes of Linux in its order: nmap reads
// them with a length that is too short.
func (s *Stack) getRoute(c *Caller, r *reply, req []byte) unix.Errno {
	if len(req) < unix.SizeofRtMsg {
		return unix.EINVAL
	}
	a := attributes(req[unix.SizeofRtMsg:])
	dst, ok := address(req[0], a[unix.RTA_DST])
	if !ok {
		return unix.EINVAL
	}
	src, from := address(req[0], a[unix.RTA_SRC])
	oif := tcpip.NICID(word(a[unix.RTA_OIF]))
	if oif == 0 && header.IsV6MulticastAddress(dst) {
		oif = s.many6()
	}
	rt, err := s.ns.FindRoute(oif, src, dst, protoOf(dst), false)
	if err != nil {
		return unix.ENETUNREACH
	}
	defer rt.Release()
	w := way{dst: dst, src: rt.LocalAddress(), asked: from, nic: rt.NICID(), gateway: rt.NextHop(), uid: c.sender().UID}
	if w.gateway == dst {
		w.gateway = tcpip.Address{}
	}
	w.kind, w.table = unix.RTN_UNICAST, unix.RT_TABLE_MAIN
	switch {
	case s.local(dst):
		w.kind, w.flags, w.nic = unix.RTN_LOCAL, rtcfLocal, loopbackNIC
		if !from {
			w.src = s.ownOf(dst)
		}
	case rt.IsOutboundBroadcast():
		w.kind, w.flags = unix.RTN_BROADCAST, rtcfBroadcast
	case header.IsV4MulticastAddress(dst), header.IsV6MulticastAddress(dst):
		w.kind, w.flags = unix.RTN_MULTICAST, rtcfMulticast
	}
	if w.kind != unix.RTN_UNICAST && dst.Len() == header.IPv6AddressSize {
		w.table = unix.RT_TABLE_LOCAL // that of IPv4 is merged with main where there are no rules
	}
	if dst.Len() == header.IPv6AddressSize {
		r.message(unix.RTM_NEWROUTE, w.message6(s))
	} else {
		r.message(unix.RTM_NEWROUTE, w.message4())
	}
	return 0
}

// ownOf is the address of this machine that dst stands for: itself, or whose network it is in.
func (s *Stack) ownOf(dst tcpip.Address) tcpip.Address {
	own := dst
	for _, i := range s.interfaces() {
		for _, pa := range s.addresses(i.id) {
			a := pa.AddressWithPrefix
			if a.Address == dst {
				return dst
			}
			if n := a.Subnet(); a.Address.Len() == dst.Len() && n.Contains(dst) {
				own = a.Address
			}
		}
	}
	return own
}

// way is how a packet would go.
type way struct {
	dst, src, gateway tcpip.Address
	asked             bool // the request named src
	nic               tcpip.NICID
	kind, table       byte
	flags, uid        uint32
}

// rtaCacheInfo is struct rta_cacheinfo, all of whose counters are zero but that of users.
var rtaCacheInfo = append(le32(1), make([]byte, 28)...)

// message4 is what rt_fill_info sends.
func (w *way) message4() []byte {
	b := make([]byte, unix.SizeofRtMsg)
	b[0], b[1], b[4], b[7] = unix.AF_INET, 32, w.table, w.kind
	binary.LittleEndian.PutUint32(b[8:], unix.RTM_F_CLONED|w.flags)
	b = attr(b, unix.RTA_TABLE, le32(uint32(w.table)))
	b = attr(b, unix.RTA_DST, w.dst.AsSlice())
	if w.asked {
		b[2] = 32
		b = attr(b, unix.RTA_SRC, w.src.AsSlice())
	}
	b = attr(b, unix.RTA_OIF, le32(uint32(w.nic)))
	if !w.asked {
		b = attr(b, unix.RTA_PREFSRC, w.src.AsSlice())
	}
	if w.gateway.Len() != 0 {
		b = attr(b, unix.RTA_GATEWAY, w.gateway.AsSlice())
	}
	b = attr(b, unix.RTA_UID, le32(w.uid))
	return attr(b, unix.RTA_CACHEINFO, rtaCacheInfo)
}

// message6 is what rt6_fill_node sends of the entry that leads there.
func (w *way) message6(s *Stack) []byte {
	const rtaPref = 20 // linux/rtnetlink.h
	b := make([]byte, unix.SizeofRtMsg)
	b[0], b[1], b[2], b[4], b[7] = unix.AF_INET6, 128, 128, w.table, w.kind
	i := routeInfo{protocol: unix.RTPROT_KERNEL}
	if w.kind == unix.RTN_UNICAST {
		for _, rt := range s.ns.GetRouteTable() {
			if rt.NIC == w.nic && rt.Destination.Contains(w.dst) {
				i = s.infoOf(rt)
				break
			}
		}
	}
	b[5] = i.protocol
	b = attr(b, unix.RTA_TABLE, le32(uint32(w.table)))
	b = attr(b, unix.RTA_DST, w.dst.AsSlice())
	if w.asked {
		b = attr(b, unix.RTA_SRC, w.src.AsSlice())
	} else {
		b = attr(b, unix.RTA_SRC, make([]byte, header.IPv6AddressSize))
	}
	b = attr(b, unix.RTA_PREFSRC, w.src.AsSlice())
	b = attr(b, unix.RTA_PRIORITY, le32(i.metric))
	if w.gateway.Len() != 0 {
		b = attr(b, unix.RTA_GATEWAY, w.gateway.AsSlice())
	}
	b = attr(b, unix.RTA_OIF, le32(uint32(w.nic)))
	b = attr(b, unix.RTA_CACHEINFO, rtaCacheInfo)
	return attr(b, rtaPref, []byte{0})
}

// routeRequest is struct rtmsg of a change: which route it is about.
type routeRequest struct {
	tcpip.Route
	routeInfo
	oif bool
	gw  bool
}

// parseRoute: EINVAL, EAFNOSUPPORT, ENODEV (no such interface), EOPNOTSUPP for routes
// that lead nowhere (blackhole, unreachable), several next hops, and other tables.
func (s *Stack) parseRoute(req []byte) (q routeRequest, e unix.Errno) {
	if len(req) < unix.SizeofRtMsg {
		return q, unix.EINVAL
	}
	fam, bits := req[0], int(req[1])
	most := 32
	switch fam {
	case unix.AF_INET:
	case unix.AF_INET6:
		most = 128
	default:
		return q, unix.EOPNOTSUPP
	}
	if bits > most {
		return q, unix.EINVAL
	}
	a := attributes(req[unix.SizeofRtMsg:])
	table := uint32(req[4])
	if v := word(a[unix.RTA_TABLE]); v != 0 {
		table = v
	}
	_, multi := a[unix.RTA_MULTIPATH]
	if table != unix.RT_TABLE_MAIN && table != 0 || multi || req[7] != unix.RTN_UNICAST && req[7] != 0 {
		return q, unix.EOPNOTSUPP
	}
	dst := tcpip.AddrFromSlice(make([]byte, most/8))
	if v, ok := a[unix.RTA_DST]; ok {
		if dst, ok = address(fam, v); !ok {
			return q, unix.EINVAL
		}
	}
	q.Destination = tcpip.AddressWithPrefix{Address: dst, PrefixLen: bits}.Subnet()
	if q.Destination.ID() != dst {
		return q, unix.EINVAL // bits behind the prefix
	}
	if v, ok := a[unix.RTA_GATEWAY]; ok {
		if q.Gateway, q.gw = address(fam, v); !q.gw {
			return q, unix.EINVAL
		}
	}
	if v, ok := a[unix.RTA_PREFSRC]; ok {
		if q.src, ok = address(fam, v); !ok {
			return q, unix.EINVAL
		}
	}
	q.metric = word(a[unix.RTA_PRIORITY])
	if fam == unix.AF_INET6 && q.metric == 0 {
		q.metric = 1024 // IP6_RT_PRIO_USER
	}
	q.protocol, q.scope, q.listed = req[5], req[6], true
	if n := word(a[unix.RTA_OIF]); n != 0 {
		if !s.ns.HasNIC(tcpip.NICID(n)) {
			return q, unix.ENODEV
		}
		q.NIC, q.oif = tcpip.NICID(n), true
	}
	return q, 0
}

// find lists the routes that a request is about.
func (s *Stack) findRoutes(q routeRequest) (l []tcpip.Route) {
	for _, r := range s.ns.GetRouteTable() {
		i := s.infoOf(r)
		if r.Destination != q.Destination || q.oif && r.NIC != q.NIC || q.gw && r.Gateway != q.Gateway ||
			r.NIC == loopbackNIC && !i.listed {
			continue
		}
		l = append(l, r)
	}
	return l
}

// newRoute is RTM_NEWROUTE: EEXIST, ENOENT (a change of none), ENETUNREACH (a gateway
// that is not on the link), ENETDOWN.
func (s *Stack) newRoute(flags uint16, req []byte) unix.Errno {
	q, e := s.parseRoute(req)
	if e != 0 {
		return e
	}
	if q.gw && q.Gateway.Unspecified() {
		q.gw, q.Gateway = false, tcpip.Address{}
	}
	if !q.oif {
		if !q.gw {
			return unix.ENODEV
		}
		nic, ok := s.linkTo(q.Gateway)
		if !ok {
			return unix.ENETUNREACH
		}
		q.NIC = nic
	}
	if q.gw && !s.onLink(q.NIC, q.Gateway) && req[8]&unix.RTNH_F_ONLINK == 0 && !header.IsV6LinkLocalUnicastAddress(q.Gateway) {
		return unix.ENETUNREACH
	}
	if i := s.byIndex(q.NIC); i == nil || i.down.Load() {
		return unix.ENETDOWN
	}
	if q.src.BitLen() != 0 && !s.local(q.src) {
		return unix.EINVAL
	}
	for _, r := range s.ns.GetRouteTable() {
		if i := s.infoOf(r); keyOf(r) == keyOf(q.Route) && i.metric != q.metric && i.listed {
			return unix.EOPNOTSUPP // netstack's table tells routes apart by the rest only
		}
	}
	same := func(r tcpip.Route) bool { return r.Destination == q.Destination && s.infoOf(r).metric == q.metric }
	old := false
	for _, r := range s.ns.GetRouteTable() {
		old = old || same(r) && (r.NIC != loopbackNIC || s.infoOf(r).listed)
	}
	switch {
	case old && flags&unix.NLM_F_EXCL != 0:
		return unix.EEXIST
	case old && flags&unix.NLM_F_REPLACE != 0:
		s.mu.Lock()
		i, ok := s.routes[keyOf(q.Route)]
		s.mu.Unlock()
		if ok && i == q.routeInfo {
			return 0
		}
		s.ns.RemoveRoutes(same) // only the new one is told of
	case !old && flags&unix.NLM_F_CREATE == 0:
		return unix.ENOENT
	}
	if len(s.ns.GetRouteTable()) >= maxRoutes {
		return unix.ENOBUFS
	}
	if q.SourceHint = q.src; q.gw && q.src.BitLen() == 0 {
		// The address that is in the gateway's net, as Linux chooses (fib_info_update_nhc_saddr).
		for _, pa := range s.addresses(q.NIC) {
			if net := pa.AddressWithPrefix.Subnet(); net.Contains(q.Gateway) {
				q.SourceHint = pa.AddressWithPrefix.Address
				break
			}
		}
	}
	s.insertRoute(q.Route, q.routeInfo)
	return 0
}

// maxRoutes bounds the table, which is searched from its start for each connection.
const maxRoutes = 1024

// insertRoute adds a route behind those of its length with smaller metrics.
func (s *Stack) insertRoute(r tcpip.Route, i routeInfo) {
	s.rtMu.Lock()
	defer s.rtMu.Unlock()
	s.mu.Lock()
	if s.routes == nil {
		s.routes = make(map[routeKey]routeInfo)
	}
	s.routes[keyOf(r)] = i
	s.mu.Unlock()
	var behind []tcpip.Route
	for _, o := range s.ns.GetRouteTable() {
		if o.Destination == r.Destination && s.infoOf(o).metric > i.metric {
			behind = append(behind, o)
		}
	}
	s.ns.RemoveRoutes(func(o tcpip.Route) bool {
		return o.Destination == r.Destination && (keyOf(o) == keyOf(r) || s.infoOf(o).metric > i.metric)
	})
	s.ns.AddRoute(r)
	for _, o := range behind {
		s.ns.AddRoute(o)
	}
	s.notify(routeGroup(r), unix.RTM_NEWROUTE, routeMessage(r, i))
}

func routeGroup(r tcpip.Route) int {
	if r.Destination.ID().Len() == header.IPv6AddressSize {
		return unix.RTNLGRP_IPV6_ROUTE
	}
	return unix.RTNLGRP_IPV4_ROUTE
}

// removeRoutes takes routes away, and says so.
func (s *Stack) removeRoutes(match func(tcpip.Route) bool) int {
	s.rtMu.Lock()
	defer s.rtMu.Unlock()
	var gone []tcpip.Route
	for _, r := range s.ns.GetRouteTable() {
		if match(r) {
			gone = append(gone, r)
		}
	}
	for _, r := range gone {
		i := s.infoOf(r)
		s.ns.RemoveRoutes(func(o tcpip.Route) bool { return keyOf(o) == keyOf(r) })
		s.mu.Lock()
		delete(s.routes, keyOf(r))
		s.mu.Unlock()
		if r.NIC != loopbackNIC || i.listed {
			s.notify(routeGroup(r), unix.RTM_DELROUTE, routeMessage(r, i))
		}
	}
	return len(gone)
}

// deleteRoute is RTM_DELROUTE: ESRCH.
func (s *Stack) deleteRoute(req []byte) unix.Errno {
	q, e := s.parseRoute(req)
	if e != 0 {
		return e
	}
	_, metric := attributes(req[unix.SizeofRtMsg:])[unix.RTA_PRIORITY]
	for _, r := range s.findRoutes(q) {
		i := s.infoOf(r)
		if metric && i.metric != q.metric || q.protocol != 0 && i.protocol != q.protocol {
			continue
		}
		s.removeRoutes(func(o tcpip.Route) bool { return keyOf(o) == keyOf(r) })
		return 0
	}
	return unix.ESRCH
}

// onLink says whether an address is a neighbour on an interface.
func (s *Stack) onLink(nic tcpip.NICID, a tcpip.Address) bool {
	for _, r := range s.ns.GetRouteTable() {
		if r.NIC == nic && r.Gateway.Len() == 0 && r.Destination.Contains(a) && (r.NIC != loopbackNIC || s.infoOf(r).listed) {
			return true
		}
	}
	return false
}

func (s *Stack) linkTo(a tcpip.Address) (tcpip.NICID, bool) {
	for _, i := range s.interfaces() {
		if s.onLink(i.id, a) {
			return i.id, true
		}
	}
	return 0, false
}

// byIndex is the interface of a number, nil if there is none.
func (s *Stack) byIndex(id tcpip.NICID) *iface {
	for _, i := range s.interfaces() {
		if i.id == id {
			return i
		}
	}
	return nil
}

// dumpRules serves RTM_GETRULE: the rules that every Linux starts with. Others cannot
// be made.
func (s *Stack) dumpRules(r *reply, family int) {
	one := func(fam byte, priority uint32, table byte) {
		b := make([]byte, unix.SizeofRtMsg) // struct fib_rule_hdr
		b[0], b[4], b[7] = fam, table, unix.FR_ACT_TO_TBL
		b = attr(b, unix.FRA_TABLE, le32(uint32(table)))
		b = attr(b, unix.FRA_SUPPRESS_PREFIXLEN, le32(^uint32(0)))
		b = attr(b, unix.FRA_PROTOCOL, []byte{unix.RTPROT_KERNEL})
		if priority != 0 {
			b = attr(b, unix.FRA_PRIORITY, le32(priority))
		}
		r.message(unix.RTM_NEWRULE, b)
	}
	if family == 0 || family == unix.AF_INET {
		one(unix.AF_INET, 0, unix.RT_TABLE_LOCAL)
		one(unix.AF_INET, 32766, unix.RT_TABLE_MAIN)
		one(unix.AF_INET, 32767, unix.RT_TABLE_DEFAULT)
	}
	if family == 0 || family == unix.AF_INET6 {
		one(unix.AF_INET6, 0, unix.RT_TABLE_LOCAL)
		one(unix.AF_INET6, 32766, unix.RT_TABLE_MAIN)
	}
}
