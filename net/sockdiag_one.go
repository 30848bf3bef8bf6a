package net

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A request of NETLINK_SOCK_DIAG for one socket of TCP or UDP: the one to which a packet between
// two addresses would go (inet_diag_find_one_icsk, udp_dump_one).

// diagKey is struct inet_diag_sockid.
type diagKey struct {
	proto         int32
	local, remote tcpip.FullAddress // IPv4's of 4 bytes, the any address empty
	six           bool
	nic           int32
	cookie        [8]byte
}

// noCookie is INET_DIAG_NOCOOKIE twice.
var noCookie = [8]byte{255, 255, 255, 255, 255, 255, 255, 255}

// parseDiagKey takes struct inet_diag_req_v2 apart. In UDP's requests source and destination
// are swapped "for historical reasons".
func parseDiagKey(req []byte) diagKey {
	side := func(port, addr []byte) tcpip.FullAddress {
		a := tcpip.FullAddress{Port: binary.BigEndian.Uint16(port)}
		if req[0] == unix.AF_INET {
			a.Addr = tcpip.AddrFrom4([4]byte(addr))
		} else {
			a.Addr = tcpip.AddrFrom16([16]byte(addr))
		}
		a.Addr = plainAddr(a.Addr)
		return a
	}
	k := diagKey{proto: int32(req[1]), six: req[0] == unix.AF_INET6, local: side(req[8:], req[12:]), remote: side(req[10:], req[28:]),
		nic: int32(binary.LittleEndian.Uint32(req[44:])), cookie: [8]byte(req[48:])}
	if k.proto == unix.IPPROTO_UDP {
		k.local, k.remote = k.remote, k.local
	}
	if k.local.Addr.Len() == 4 || k.remote.Addr.Len() == 4 {
		k.six = false
	}
	return k
}

// plainAddr is an address without IPv6's form of an IPv4 one; the any address is empty.
func plainAddr(a tcpip.Address) tcpip.Address {
	if header.IsV4MappedAddress(a) {
		v6 := a.As16()
		a = tcpip.AddrFrom4([4]byte(v6[12:]))
	}
	if a.Unspecified() {
		return tcpip.Address{}
	}
	return a
}

// fits says how well a socket between two addresses is what the key asks for, 0 for not at
// all: a connection before one that takes what comes to an address, and that before one that
// takes what comes to any.
func (k *diagKey) fits(l, ra tcpip.FullAddress, connected bool) int {
	l.Addr, ra.Addr = plainAddr(l.Addr), plainAddr(ra.Addr)
	if l.Port != k.local.Port || l.Addr.BitLen() != 0 && l.Addr != k.local.Addr {
		return 0
	}
	if connected {
		if ra.Port != k.remote.Port || ra.Addr != k.remote.Addr {
			return 0
		}
		return 3
	}
	if l.Addr.BitLen() != 0 {
		return 2
	}
	return 1
}

// takes says whether the socket, bound to any address, takes packets of the key's version and
// interface.
func (k *diagKey) takes(x *inetSocket) bool {
	if d := x.device(); d != 0 && int32(d) != k.nic {
		return false
	}
	if x.domain == unix.AF_INET {
		return !k.six
	}
	return k.six || !x.ep().SocketOptions().GetV6Only()
}

// oneDiag answers with that socket: ENOENT, ESTALE for another cookie (which of TCP is ENOENT).
func (s *Stack) oneDiag(r *reply, k diagKey, ext byte, others []unowned) unix.Errno {
	var best *inetSocket
	most := 0
	for _, so := range s.list.all() {
		x, ok := so.(*inetSocket)
		if !ok || x.pro != k.proto || x.typ == unix.SOCK_RAW || !k.takes(x) {
			continue
		}
		l, _ := x.ep().GetLocalAddress()
		ra, _ := x.ep().GetRemoteAddress()
		st := x.diagState()
		if l.Port == 0 || x.isTCP() && (st == 7 || st == 6) {
			continue
		}
		if n := k.fits(l, ra, st != 10 && st != 7); n > most {
			best, most = x, n
		}
	}
	for i := range others {
		if u := &others[i]; most < 3 && k.fits(u.local, u.remote, true) == 3 {
			if k.cookie != noCookie && k.cookie != [8]byte{} {
				return unix.ENOENT
			}
			r.message(sockDiagByFamily, u.diag())
			return 0
		}
	}
	if best == nil {
		return unix.ENOENT
	}
	var cookie [8]byte
	binary.LittleEndian.PutUint64(cookie[:], best.ino)
	if k.cookie != noCookie && k.cookie != cookie {
		if k.proto == unix.IPPROTO_UDP {
			return unix.ESTALE
		}
		return unix.ENOENT
	}
	l, _ := best.ep().GetLocalAddress()
	ra, _ := best.ep().GetRemoteAddress()
	r.message(sockDiagByFamily, best.diagMessage(best.diagState(), l, ra, ext, others))
	return 0
}
