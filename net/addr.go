package net

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Sizes of socket addresses, in bytes (<netinet/in.h>, <sys/un.h>).
const (
	sizeIn      = 16
	sizeIn6     = 28
	minIn6      = 24 // SIN6_LEN_RFC2133: without the scope
	sizeUn      = 110
	sizeNl      = 12
	MaxSockaddr = 128 // struct sockaddr_storage
)

func familyOf(b []byte) int {
	if len(b) < 2 {
		return -1
	}
	return int(binary.LittleEndian.Uint16(b))
}

// needsScope says whether an address means something on one link alone, so that sin6_scope_id
// counts (__ipv6_addr_needs_scope_id).
func needsScope(a tcpip.Address) bool {
	if !header.IsV6MulticastAddress(a) {
		return header.IsV6LinkLocalUnicastAddress(a)
	}
	scope := a.As16()[1] & 15
	return scope == interfaceLocal || scope == linkLocal
}

// Scopes of multicast addresses (RFC 4291 2.7).
const (
	interfaceLocal = 1
	linkLocal      = 2
)

// parseAddr decodes a sockaddr for a socket of the family. The caller has dealt with
// AF_UNSPEC.
func parseAddr(family int, b []byte) (tcpip.FullAddress, error) {
	var a tcpip.FullAddress
	need := sizeIn
	if family == unix.AF_INET6 {
		need = minIn6
	}
	// The length is checked first for the socket's own family, as inet_bind and
	// tcp_v6_connect do.
	if len(b) < need {
		return a, unix.EINVAL
	}
	if familyOf(b) != family {
		return a, unix.EAFNOSUPPORT
	}
	a.Port = binary.BigEndian.Uint16(b[2:])
	if family == unix.AF_INET {
		a.Addr = tcpip.AddrFrom4([4]byte(b[4:8]))
		return a, nil
	}
	a.Addr = tcpip.AddrFrom16([16]byte(b[8:24]))
	if len(b) >= sizeIn6 && needsScope(a.Addr) {
		a.NIC = tcpip.NICID(binary.LittleEndian.Uint32(b[24:]))
	}
	return a, nil
}

// netAddr is a for netstack: the any address is the empty one.
func netAddr(a tcpip.FullAddress) tcpip.FullAddress {
	if a.Addr.Unspecified() {
		a.Addr = tcpip.Address{}
	}
	return a
}

// encodeAddr is the sockaddr of a for a socket of the family: IPv4 peers of an IPv6
// socket are mapped addresses.
func encodeAddr(family int, a tcpip.FullAddress) []byte {
	if family == unix.AF_INET {
		b := make([]byte, sizeIn)
		binary.LittleEndian.PutUint16(b, unix.AF_INET)
		binary.BigEndian.PutUint16(b[2:], a.Port)
		if a.Addr.Len() == 4 {
			v4 := a.Addr.As4()
			copy(b[4:], v4[:])
		}
		return b
	}
	b := make([]byte, sizeIn6)
	binary.LittleEndian.PutUint16(b, unix.AF_INET6)
	binary.BigEndian.PutUint16(b[2:], a.Port)
	switch a.Addr.Len() {
	case 4:
		b[18], b[19] = 0xff, 0xff
		v4 := a.Addr.As4()
		copy(b[20:], v4[:])
	case 16:
		v6 := a.Addr.As16()
		copy(b[8:], v6[:])
		if needsScope(a.Addr) {
			binary.LittleEndian.PutUint32(b[24:], uint32(a.NIC))
		}
	}
	return b
}
