package net

import (
	"encoding/binary"
	"math/bits"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// The ioctls by which ifconfig, route and arp change what ip(8) changes by netlink, for
// IPv4. See netdevice(7), arp(7); for IPv6 see ioctl6.go.

const (
	rtentrySize = 120 // struct rtentry
	arpreqSize  = 68  // struct arpreq
)

// mayAdmin says whether a thread has CAP_NET_ADMIN.
func mayAdmin(c wait.Context) bool {
	caller := callerOf(c)
	return caller.capable(capNetAdmin)
}

func (s *Stack) ioctlChange(c wait.Context, sp *mm.Space, req uint32, arg uint64) error {
	switch req {
	case unix.SIOCADDRT, unix.SIOCDELRT:
		return s.ioctlRoute(c, sp, req, arg)
	case unix.SIOCSARP, unix.SIOCDARP:
		return s.ioctlARP(c, sp, req, arg)
	}
	var b [ifreqSize]byte
	if _, err := sp.CopyIn(c, b[:], hal.UserAddr(arg)); err != nil {
		return err
	}
	name := cstring(b[:unix.IFNAMSIZ])
	dev, _, _ := strings.Cut(name, ":")
	i := s.byName(dev)
	if i == nil {
		return unix.ENODEV
	}
	if e := s.setIfreq(i, req, name, b[unix.IFNAMSIZ:]); e != 0 {
		return e
	}
	return nil
}

// setIfreq applies the union v of struct ifreq to an interface, or to the address with the
// label name.
func (s *Stack) setIfreq(i *iface, req uint32, name string, v []byte) unix.Errno {
	main, named := s.labelled(i, name)
	switch req {
	case unix.SIOCSIFFLAGS:
		if name != i.name {
			if !named {
				return unix.EADDRNOTAVAIL
			}
			if binary.LittleEndian.Uint16(v)&unix.IFF_UP == 0 {
				s.dropAddr(i, main)
			}
			return 0
		}
		s.setFlags(i, uint32(binary.LittleEndian.Uint16(v)), 0xffff)
		s.linkChanged(i)
		return 0
	case unix.SIOCSIFMTU:
		e := s.setMTU(i, int(int32(word(v))))
		if e == 0 {
			s.linkChanged(i)
		}
		return e
	case unix.SIOCSIFTXQLEN:
		if int32(word(v)) < 0 {
			return unix.EINVAL
		}
		i.queue.Store(word(v) + 1)
		return 0
	case unix.SIOCSIFHWADDR:
		if i.eth == nil || string(v[2:8]) != string(i.eth.mac) {
			return unix.EOPNOTSUPP
		}
		return 0
	}
	a, err := parseAddr(unix.AF_INET, v[:sizeIn])
	if err != nil {
		return unix.EINVAL
	}
	switch req {
	case unix.SIOCSIFADDR:
		if named {
			s.dropAddr(i, main)
		}
		if a.Addr.Unspecified() {
			return 0
		}
		n := classBits(a.Addr.As4()[0])
		if s.linkState(i).flags&unix.IFF_POINTOPOINT != 0 {
			n = 32
		}
		if i.down.Load() {
			s.setUp(i, true) // an address brings the interface up
			s.linkChanged(i)
		}
		if _, ok := s.has(i, a.Addr); !ok {
			s.setLabel(i, a.Addr, name)
		}
		return s.putAddr(i, tcpip.AddressWithPrefix{Address: a.Addr, PrefixLen: n}, true)
	case unix.SIOCSIFNETMASK:
		if !named {
			return unix.EADDRNOTAVAIL
		}
		n, ok := prefixOf(a.Addr)
		if !ok {
			return unix.EINVAL
		}
		if peer, ok := s.peerOf(i, main.Address); ok {
			s.connectedRoute(i, main, false)
			s.setPeer(i, main.Address, tcpip.AddressWithPrefix{Address: peer.Address, PrefixLen: n})
			s.connectedRoute(i, main, true)
			return 0
		}
		if n == main.PrefixLen {
			return 0
		}
		s.dropAddr(i, main)
		s.setLabel(i, main.Address, name)
		main.PrefixLen = n
		return s.putAddr(i, main, true)
	}
	if req == unix.SIOCSIFDSTADDR {
		if !named {
			return unix.EADDRNOTAVAIL
		}
		s.dropAddr(i, main)
		s.setLabel(i, main.Address, name)
		s.setPeer(i, main.Address, tcpip.AddressWithPrefix{Address: a.Addr, PrefixLen: 32})
		return s.putAddr(i, tcpip.AddressWithPrefix{Address: main.Address, PrefixLen: 32}, true)
	}
	// SIOCSIFBRDADDR: the last address of the net is the only one.
	if !named {
		return unix.EADDRNOTAVAIL
	}
	if net := main.Subnet(); net.Broadcast() != a.Addr {
		return unix.EOPNOTSUPP
	}
	return 0
}

// classBits is the length of the netmask of an address's class.
func classBits(first byte) int {
	switch {
	case first < 128:
		return 8
	case first < 192:
		return 16
	}
	return 24
}

// prefixOf is the length of a netmask; false if it has holes.
func prefixOf(mask tcpip.Address) (int, bool) {
	b := mask.As4()
	m := binary.BigEndian.Uint32(b[:])
	n := bits.LeadingZeros32(^m)
	return n, m<<n == 0
}

// ioctlRoute serves SIOCADDRT and SIOCDELRT.
func (s *Stack) ioctlRoute(c wait.Context, sp *mm.Space, req uint32, arg uint64) error {
	var b [rtentrySize]byte
	if _, err := sp.CopyIn(c, b[:], hal.UserAddr(arg)); err != nil {
		return err
	}
	le := binary.LittleEndian
	flags, metric, dev := le.Uint16(b[56:]), int(int16(le.Uint16(b[80:]))), le.Uint64(b[88:])
	if familyOf(b[8:]) != unix.AF_INET {
		return unix.EAFNOSUPPORT
	}
	m := make([]byte, unix.SizeofRtMsg)
	m[0], m[1], m[4], m[5], m[7] = unix.AF_INET, 32, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RTN_UNICAST
	if flags&unix.RTF_HOST == 0 {
		n, ok := prefixOf(tcpip.AddrFrom4([4]byte(b[44:48])))
		if !ok || familyOf(b[40:]) != unix.AF_INET && familyOf(b[40:]) != unix.AF_UNSPEC {
			return unix.EINVAL
		}
		m[1] = byte(n)
	}
	m = attr(m, unix.RTA_DST, b[12:16])
	if flags&unix.RTF_GATEWAY != 0 {
		m = attr(m, unix.RTA_GATEWAY, b[28:32])
	} else {
		m[6] = unix.RT_SCOPE_LINK
	}
	if metric > 0 {
		m = attr(m, unix.RTA_PRIORITY, le32(uint32(metric-1)))
	}
	if dev != 0 {
		var name [unix.IFNAMSIZ]byte
		if n, err := sp.CopyIn(c, name[:], hal.UserAddr(dev)); err != nil && n == 0 {
			return err
		}
		i := s.byName(cstring(name[:]))
		if i == nil {
			return unix.ENODEV
		}
		m = attr(m, unix.RTA_OIF, le32(uint32(i.id)))
	}
	e := unix.Errno(0)
	if req == unix.SIOCADDRT {
		e = s.newRoute(unix.NLM_F_CREATE|unix.NLM_F_EXCL, m)
	} else {
		m[5] = 0
		e = s.deleteRoute(m)
	}
	if e != 0 {
		return e
	}
	return nil
}

// ioctlARP serves SIOCGARP, SIOCSARP and SIOCDARP: ENXIO for no entry.
func (s *Stack) ioctlARP(c wait.Context, sp *mm.Space, req uint32, arg uint64) error {
	var b [arpreqSize]byte
	if _, err := sp.CopyIn(c, b[:], hal.UserAddr(arg)); err != nil {
		return err
	}
	if familyOf(b[:]) != unix.AF_INET {
		return unix.EPFNOSUPPORT
	}
	dst := tcpip.AddrFrom4([4]byte(b[4:8]))
	var i *iface
	if name := cstring(b[52:68]); name != "" {
		if i = s.byName(name); i == nil {
			return unix.ENODEV
		}
	} else if nic, ok := s.linkTo(dst); ok {
		i = s.byIndex(nic)
	}
	if i == nil || i.eth == nil {
		return unix.ENXIO
	}
	le := binary.LittleEndian
	switch req {
	case unix.SIOCSARP:
		if le.Uint32(b[32:])&arpPublic != 0 {
			return unix.EOPNOTSUPP // nobody is answered for
		}
		if e := s.keepNeighbour(i, dst, tcpip.LinkAddress(b[18:24])); e != 0 {
			return e
		}
		return nil
	case unix.SIOCDARP:
		if s.dropNeighbour(i, dst) != 0 {
			return unix.ENXIO
		}
		return nil
	}
	for _, n := range s.neighbours(i, false) {
		if n.Addr != dst {
			continue
		}
		if len(n.LinkAddr) == 6 {
			copy(b[18:24], n.LinkAddr)
		}
		le.PutUint16(b[16:], unix.ARPHRD_ETHER)
		le.PutUint32(b[32:], arpFlags(n))
		copy(b[52:68], i.name)
		_, err := sp.CopyOut(c, hal.UserAddr(arg), b[:])
		return err
	}
	return unix.ENXIO
}
