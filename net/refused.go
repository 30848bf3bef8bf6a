package net

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Options that Linux knows and that this stack has not: what Linux says of arguments that
// cannot be right comes before ENOPROTOOPT, so that a program which asks wrongly learns that.

// Numbers of uapi/linux/in.h and in6.h that x/sys/unix lacks.
const (
	mcastMsfilter = 48
	ipProtocol    = 52

	ipv6Flowinfo     = 11
	ipv6FlowlabelMgr = 32
	ipv6FlowinfoSend = 33

	mreqSize           = 8       // struct ip_mreq
	sourceReqSize      = 12      // struct ip_mreq_source
	groupSourceReqSize = 264     // struct group_source_req
	msfilterSize       = 16      // struct ip_msfilter without sources
	groupFilterSize    = 144     // struct group_filter without sources
	flowlabelReqSize   = 32      // struct in6_flowlabel_req
	pktinfo6Size       = 20      // struct in6_pktinfo
	mtuInfoSize        = 32      // struct ip6_mtuinfo
	mostExtension      = 8 * 255 // bytes of an extension header
)

// refusedIP is the error of one of SOL_IP's; nil: it is another option.
func refusedIP(c *Caller, name int, v []byte) error {
	n, wrong := len(v), false
	switch name {
	case unix.IP_IPSEC_POLICY, unix.IP_XFRM_POLICY:
		if !c.capable(capNetAdmin) {
			return unix.EPERM
		}
		return unix.EINVAL
	case unix.IP_UNBLOCK_SOURCE, unix.IP_BLOCK_SOURCE, unix.IP_ADD_SOURCE_MEMBERSHIP, unix.IP_DROP_SOURCE_MEMBERSHIP:
		wrong = n != sourceReqSize
	case unix.IP_MSFILTER:
		wrong = n < msfilterSize || v[0]>>4 != 0xe // of a multicast address
	case unix.MCAST_BLOCK_SOURCE, unix.MCAST_UNBLOCK_SOURCE, unix.MCAST_JOIN_SOURCE_GROUP, unix.MCAST_LEAVE_SOURCE_GROUP:
		wrong = n < groupSourceReqSize
	case mcastMsfilter:
		wrong = n < groupFilterSize
	}
	if wrong {
		return unix.EINVAL
	}
	return nil
}

// Unread is the error of an option about groups of SOL_IP whose value cannot be read: Linux looks
// at the length first. nil: at nothing that speaks against it.
func (x *inetSocket) Unread(_, name, size int) error {
	wrong := false
	switch name {
	case unix.IP_ADD_MEMBERSHIP, unix.IP_DROP_MEMBERSHIP:
		if x.isTCP() {
			return unix.EPROTO
		}
		wrong = size < mreqSize
	case mcastJoinGroup, mcastLeaveGroup:
		wrong = size < groupReqSize
	case unix.IP_MSFILTER:
		wrong = size < msfilterSize
	default:
		return refusedIP(nil, name, make([]byte, size))
	}
	if wrong {
		return unix.EINVAL
	}
	return nil
}

// refusedIPv6 is refusedIP for SOL_IPV6.
func refusedIPv6(c *Caller, name int, v []byte) error {
	n, wrong := len(v), false
	switch name {
	case unix.IPV6_ADDRFORM, unix.IPV6_IPSEC_POLICY, unix.IPV6_XFRM_POLICY:
		if name != unix.IPV6_ADDRFORM && !c.capable(capNetAdmin) {
			return unix.EPERM
		}
		return unix.EINVAL
	case unix.IPV6_JOIN_ANYCAST, unix.IPV6_LEAVE_ANYCAST:
		switch {
		case n < sizeMreq6:
			return unix.EINVAL
		case name == unix.IPV6_LEAVE_ANYCAST:
			return unix.ENOENT
		case !c.capable(capNetAdmin):
			return unix.EPERM
		}
		return unix.EADDRNOTAVAIL
	case ipv6FlowlabelMgr:
		wrong = n < flowlabelReqSize
	case unix.MCAST_BLOCK_SOURCE, unix.MCAST_UNBLOCK_SOURCE, unix.MCAST_JOIN_SOURCE_GROUP, unix.MCAST_LEAVE_SOURCE_GROUP, mcastMsfilter:
		return refusedIP(c, name, v)
	case unix.IPV6_PKTINFO:
		wrong = n < pktinfo6Size
	case unix.IPV6_HOPOPTS, unix.IPV6_RTHDRDSTOPTS, unix.IPV6_RTHDR, unix.IPV6_DSTOPTS:
		if name != unix.IPV6_RTHDR && !c.capable(capNetRaw) {
			return unix.EPERM
		}
		wrong = n != 0 && (n < 2 || n&7 != 0 || n > mostExtension) ||
			name == unix.IPV6_RTHDR && n != 0 && v[2] != rthdrMIP6 && v[2] != rthdrSegments
	}
	if wrong {
		return unix.EINVAL
	}
	return nil
}

// sizeMreq6 is the size of struct ipv6_mreq.
const sizeMreq6 = 20

// Types of routing header that Linux sends (rfc6275, rfc8754).
const (
	rthdrMIP6     = 2
	rthdrSegments = 4
)

// refusedGet6 answers getsockopt of SOL_IPV6 for what is never set; room is the caller's.
func (x *inetSocket) refusedGet6(name, room int) (b []byte, err error, known bool) {
	_, off := x.ep().GetRemoteAddress()
	_, had := x.lastPeer()
	switch name {
	case unix.IPV6_ADDRFORM:
		if off != nil || x.isTCP() && x.state() != tcp.StateEstablished {
			return nil, unix.ENOTCONN, true
		}
		return intVal(unix.AF_INET6), nil, true
	case unix.IPV6_2292PKTOPTIONS:
		return []byte{}, nil, x.isTCP()
	case unix.IPV6_HOPOPTS, unix.IPV6_RTHDRDSTOPTS, unix.IPV6_RTHDR, unix.IPV6_DSTOPTS:
		return []byte{}, nil, true
	case ipv6FlowlabelMgr:
		if room < flowlabelReqSize {
			return nil, unix.EINVAL, true
		}
		return nil, unix.ENOENT, true
	case mcastMsfilter:
		if room < groupFilterSize {
			return nil, unix.EINVAL, true
		}
		return nil, unix.EADDRNOTAVAIL, true
	case unix.IPV6_PATHMTU:
		switch {
		case room < mtuInfoSize:
			return nil, unix.EINVAL, true
		case !had:
			return nil, unix.ENOTCONN, true
		}
		b = make([]byte, mtuInfoSize)
		binary.LittleEndian.PutUint32(b[28:], uint32(x.pathMTU()))
		return b, nil, true
	}
	return nil, nil, false
}
