package net

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
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
		return nil, unix.EOPNOTSUPP
	case name != icmpFilterOption:
		return nil, unix.ENOPROTOOPT
	case !x.isRawICMP():
		return nil, unix.EOPNOTSUPP
	}
	return le32(x.icmpFilter.Load()), nil
}

// dropBlocked takes away messages at the head of the queue of whose types ICMP_FILTER
// wants none.
func (x *inetSocket) dropBlocked() {
	var b [header.IPv4MaximumHeaderSize + 1]byte
	for {
		w := capWriter{b: b[:]}
		if _, err := x.ep().Read(&w, tcpip.ReadOptions{Peek: true}); err != nil || w.n < header.IPv4MinimumSize {
			return
		}
		at := int(b[0]&0xf) * 4
		if at >= w.n || b[at] >= 32 || x.icmpFilter.Load()>>b[at]&1 == 0 {
			return
		}
		w.n = 0
		x.ep().Read(&w, tcpip.ReadOptions{})
	}
}
