package net

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

const ifreqSize = 40

// Ioctl implements vfs.FileOps. See tcp(7), udp(7), netdevice(7).
func (x *inetSocket) Ioctl(c wait.Context, f *vfs.File, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	switch req {
	case fionread:
		if x.isTCP() && x.state() == tcp.StateListen {
			return 0, unix.EINVAL
		}
		n, err := x.waiting()
		if err != nil {
			return 0, errno(err)
		}
		return 0, putInt(c, sp, arg, n)
	case unix.TIOCOUTQ, siocOutqNSD:
		if x.isTCP() && x.state() == tcp.StateListen {
			return 0, unix.EINVAL
		}
		n := 0 // datagrams leave at once; what is sent and what is not, netstack does not tell apart
		if x.isTCP() && req == unix.TIOCOUTQ {
			n = x.unsent()
		}
		return 0, putInt(c, sp, arg, n)
	case unix.SIOCATMARK:
		if !x.isTCP() {
			return 0, unix.ENOTTY
		}
		return 0, putInt(c, sp, arg, 0)
	case siocGStamp, siocGStampNS:
		ns := x.opt.stamp.Load()
		if ns == 0 {
			return 0, unix.ENOENT
		}
		b := timevalBytes(ns)
		if req == siocGStampNS {
			binary.LittleEndian.PutUint64(b[8:], uint64(ns%1e9))
		}
		_, err := sp.CopyOut(c, hal.UserAddr(arg), b)
		return 0, err
	}
	return x.s.ioctl(c, sp, x.domain, req, arg)
}

// <asm/sockios.h>.
const (
	siocGStamp   = 0x8906
	siocGStampNS = 0x8907
	fionread     = 0x541b // TIOCINQ, <asm/ioctls.h>
	siocOutqNSD  = 0x894b // <linux/sockios.h>
	siocUnixFile = 0x89e0 // SIOCUNIXFILE, <linux/un.h>: the file of a socket's name
)

// Ioctl implements vfs.FileOps.
func (x *unixSocket) Ioctl(c wait.Context, _ *vfs.File, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	switch req {
	case fionread:
		x.mu.Lock()
		n := x.rxBytes
		if x.dgram() && len(x.rx) > 0 {
			n = x.rx[0].len()
		}
		listening := x.listening
		x.mu.Unlock()
		if listening {
			return 0, unix.EINVAL
		}
		return 0, putInt(c, sp, arg, n)
	case unix.TIOCOUTQ:
		return 0, putInt(c, sp, arg, int(x.sent.size.Load()))
	case unix.SIOCATMARK:
		if !x.stream() {
			return 0, unix.EOPNOTSUPP
		}
		x.mu.Lock()
		n := 0
		if x.atMark() {
			n = 1
		}
		x.mu.Unlock()
		return 0, putInt(c, sp, arg, n)
	case siocUnixFile:
		if !mayAdmin(c) {
			return 0, unix.EPERM
		}
		return 0, unix.ENOTTY
	}
	return x.s.ioctl(c, sp, x.domain, req, arg)
}

// Ioctl implements vfs.FileOps.
func (x *netlinkSocket) Ioctl(c wait.Context, _ *vfs.File, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	return x.s.ioctl(c, sp, x.domain, req, arg)
}

func putInt(c wait.Context, sp *mm.Space, arg uint64, n int) error {
	_, err := sp.CopyOut(c, hal.UserAddr(arg), intVal(n))
	return err
}

// ofIPv4 says whether only sockets of IPv4, and packet sockets for them, know a request.
func ofIPv4(req uint32) bool {
	switch req {
	case unix.SIOCGIFADDR, unix.SIOCGIFDSTADDR, unix.SIOCGIFBRDADDR, unix.SIOCGIFNETMASK, unix.SIOCSIFADDR, unix.SIOCSIFDSTADDR, unix.SIOCSIFBRDADDR,
		unix.SIOCSIFNETMASK, unix.SIOCADDRT, unix.SIOCDELRT, unix.SIOCGARP, unix.SIOCSARP, unix.SIOCDARP:
		return true
	}
	return false
}

// ioctl serves the SIOCGIF* family: ENODEV for an unknown interface, EADDRNOTAVAIL
// for one without an address, EPERM for changes, ENOTTY for the rest.
func (s *Stack) ioctl(c wait.Context, sp *mm.Space, family int32, req uint32, arg uint64) (uintptr, error) {
	if family == unix.AF_INET6 {
		if err := s.ioctl6(c, sp, req, arg); err != errNotHere {
			return 0, err
		}
	}
	if ofIPv4(req) && family != unix.AF_INET && family != unix.AF_PACKET {
		return 0, s.refuse(c, sp, family, req, arg)
	}
	switch req {
	case unix.SIOCGIFCONF:
		return 0, s.ifconf(c, sp, arg)
	case unix.SIOCGIFNAME, unix.SIOCGIFFLAGS, unix.SIOCGIFADDR, unix.SIOCGIFDSTADDR, unix.SIOCGIFBRDADDR, unix.SIOCGIFNETMASK,
		unix.SIOCGIFMTU, unix.SIOCGIFHWADDR, unix.SIOCGIFINDEX, unix.SIOCGIFMETRIC, unix.SIOCGIFTXQLEN, unix.SIOCGIFMAP:
	case unix.SIOCSIFFLAGS, unix.SIOCSIFADDR, unix.SIOCSIFNETMASK, unix.SIOCSIFBRDADDR, unix.SIOCSIFDSTADDR, unix.SIOCSIFMTU, unix.SIOCSIFHWADDR,
		unix.SIOCSIFTXQLEN, unix.SIOCADDRT, unix.SIOCDELRT, unix.SIOCSARP, unix.SIOCDARP:
		if !mayAdmin(c) {
			return 0, unix.EPERM
		}
		return 0, s.ioctlChange(c, sp, req, arg)
	case unix.SIOCGARP:
		return 0, s.ioctlARP(c, sp, req, arg)
	case unix.SIOCETHTOOL:
		return 0, s.ethtool(c, sp, arg)
	default:
		return 0, s.refuse(c, sp, family, req, arg)
	}
	var b [ifreqSize]byte
	if _, err := sp.CopyIn(c, b[:], hal.UserAddr(arg)); err != nil {
		return 0, err
	}
	name := cstring(b[:unix.IFNAMSIZ])
	dev, _, _ := strings.Cut(name, ":")
	i := s.byName(dev)
	if req == unix.SIOCGIFNAME {
		i = nil
		for _, o := range s.interfaces() {
			if uint32(o.id) == binary.LittleEndian.Uint32(b[16:]) {
				i = o
			}
		}
	}
	if i == nil {
		return 0, unix.ENODEV
	}
	v := b[unix.IFNAMSIZ:]
	clear(v)
	if err := s.ifreq(i, req, name, b[:], v); err != nil {
		return 0, err
	}
	_, err := sp.CopyOut(c, hal.UserAddr(arg), b[:])
	return 0, err
}

// ifreq fills struct ifreq's union v for one interface; name may be an address's label.
func (s *Stack) ifreq(i *iface, req uint32, name string, b, v []byte) error {
	le := binary.LittleEndian
	st := s.linkState(i)
	switch req {
	case unix.SIOCGIFNAME:
		le.PutUint32(v, uint32(i.id))
		clear(b[:unix.IFNAMSIZ])
		copy(b, i.name)
	case unix.SIOCGIFINDEX:
		le.PutUint32(v, uint32(i.id))
	case unix.SIOCGIFFLAGS:
		le.PutUint16(v, uint16(st.flags))
	case unix.SIOCGIFMTU:
		le.PutUint32(v, st.mtu)
	case unix.SIOCGIFTXQLEN:
		le.PutUint32(v, i.txqlen())
	case unix.SIOCGIFMETRIC, unix.SIOCGIFMAP:
	case unix.SIOCGIFHWADDR:
		le.PutUint16(v, st.hwType)
		copy(v[2:], st.mac)
	default:
		a, ok := s.labelled(i, name)
		if !ok {
			return unix.EADDRNOTAVAIL
		}
		net := a.Subnet()
		addr := a.Address
		peer, other := s.peerOf(i, addr)
		if other {
			net = peer.Subnet()
		}
		switch req {
		case unix.SIOCGIFDSTADDR:
			if other {
				addr = peer.Address
			}
		case unix.SIOCGIFNETMASK:
			m := net.Mask()
			addr = tcpip.AddrFrom4Slice(m.AsSlice())
		case unix.SIOCGIFBRDADDR:
			addr = net.Broadcast()
			if i.eth == nil || other {
				addr = tcpip.AddrFrom4([4]byte{})
			}
		}
		copy(v, encodeAddr(unix.AF_INET, tcpip.FullAddress{Addr: addr}))
	}
	return nil
}

func (s *Stack) mainV4(nic tcpip.NICID) (tcpip.AddressWithPrefix, bool) {
	a, err := s.ns.GetMainNICAddress(nic, header.IPv4ProtocolNumber)
	return a, err == nil && a.Address.Len() == 4
}

// labelled is the first IPv4 address of an interface with a label: its name, for those that
// were given none.
func (s *Stack) labelled(i *iface, label string) (tcpip.AddressWithPrefix, bool) {
	for _, a := range s.addresses(i.id) {
		if a := a.AddressWithPrefix; a.Address.Len() == 4 && s.labelOf(i, a.Address) == label {
			return a, true
		}
	}
	return tcpip.AddressWithPrefix{}, false
}

// ifconf lists the IPv4 addresses by their labels.
func (s *Stack) ifconf(c wait.Context, sp *mm.Space, arg uint64) error {
	var h [16]byte
	if _, err := sp.CopyIn(c, h[:], hal.UserAddr(arg)); err != nil {
		return err
	}
	room, to := int(int32(binary.LittleEndian.Uint32(h[:]))), binary.LittleEndian.Uint64(h[8:])
	n := 0
	for _, i := range s.interfaces() {
		for _, pa := range s.addresses(i.id) {
			a := pa.AddressWithPrefix.Address
			if a.Len() != 4 {
				continue
			}
			if to == 0 {
				n += ifreqSize // how much room it would take
				continue
			}
			if n+ifreqSize > room {
				break
			}
			var b [ifreqSize]byte
			copy(b[:unix.IFNAMSIZ-1], s.labelOf(i, a))
			copy(b[unix.IFNAMSIZ:], encodeAddr(unix.AF_INET, tcpip.FullAddress{Addr: a}))
			if _, err := sp.CopyOut(c, hal.UserAddr(to+uint64(n)), b[:]); err != nil {
				return err
			}
			n += ifreqSize
		}
	}
	binary.LittleEndian.PutUint32(h[:], uint32(n))
	_, err := sp.CopyOut(c, hal.UserAddr(arg), h[:4])
	return err
}
