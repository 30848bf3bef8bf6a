package net

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// The ioctls of AF_INET6 sockets by which ifconfig and route change addresses and routes
// (inet6_ioctl), as the netlink requests that they stand for.

const (
	in6IfreqSize = 24 // struct in6_ifreq
	in6RtmsgSize = 80 // struct in6_rtmsg
)

// ioctl6 is errNotHere for what is not IPv6's own.
func (s *Stack) ioctl6(c wait.Context, sp *mm.Space, req uint32, arg uint64) error {
	var b [in6RtmsgSize]byte
	n := in6RtmsgSize
	switch req {
	case unix.SIOCADDRT, unix.SIOCDELRT:
	case unix.SIOCSIFDSTADDR: // of a tunnel through IPv4, and there are none
		n = in6IfreqSize
	case unix.SIOCSIFADDR, unix.SIOCDIFADDR:
		n = in6IfreqSize
		if !mayAdmin(c) {
			return unix.EPERM
		}
	default:
		return errNotHere
	}
	if _, err := sp.CopyIn(c, b[:n], hal.UserAddr(arg)); err != nil {
		return err
	}
	if req == unix.SIOCSIFDSTADDR {
		return unix.ENODEV
	}
	if !mayAdmin(c) {
		return unix.EPERM
	}
	e := unix.Errno(0)
	switch req {
	case unix.SIOCADDRT:
		e = s.newRoute(unix.NLM_F_CREATE|unix.NLM_F_EXCL, route6Request(b[:], unix.RTPROT_BOOT))
	case unix.SIOCDELRT:
		e = s.deleteRoute(route6Request(b[:], 0))
	case unix.SIOCSIFADDR:
		if e = addr6Length(b[:]); e == 0 {
			e = s.newAddr(unix.NLM_F_CREATE|unix.NLM_F_EXCL, addr6Request(b[:]))
		}
	case unix.SIOCDIFADDR:
		if e = addr6Length(b[:]); e == 0 {
			e = s.deleteAddr(addr6Request(b[:]))
		}
	}
	if e != 0 {
		return e
	}
	return nil
}

// addr6Length refuses a prefix that is too long, whose length has 32 bits.
func addr6Length(b []byte) unix.Errno {
	if binary.LittleEndian.Uint32(b[16:]) > 128 {
		return unix.EINVAL
	}
	return 0
}

// addr6Request is struct in6_ifreq as struct ifaddrmsg with attributes.
func addr6Request(b []byte) []byte {
	m := make([]byte, unix.SizeofIfAddrmsg)
	m[0], m[1] = unix.AF_INET6, b[16]
	copy(m[4:], b[20:24])
	return attr(m, unix.IFA_LOCAL, b[:16])
}

// route6Request is struct in6_rtmsg as struct rtmsg with attributes.
func route6Request(b []byte, protocol byte) []byte {
	le := binary.LittleEndian
	m := make([]byte, unix.SizeofRtMsg)
	m[0], m[1], m[4], m[5], m[7] = unix.AF_INET6, byte(min(le.Uint16(b[52:]), 255)), unix.RT_TABLE_MAIN, protocol, unix.RTN_UNICAST
	m = attr(m, unix.RTA_DST, b[:16])
	if le.Uint32(b[72:])&unix.RTF_GATEWAY != 0 {
		m = attr(m, unix.RTA_GATEWAY, b[32:48])
	}
	if metric := le.Uint32(b[56:]); metric != 0 {
		m = attr(m, unix.RTA_PRIORITY, le32(metric))
	}
	if index := le.Uint32(b[76:]); index != 0 {
		m = attr(m, unix.RTA_OIF, le32(index))
	}
	return m
}
