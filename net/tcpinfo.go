package net

import (
	"encoding/binary"
	"math"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// linuxState is netstack's TCP state in Linux's numbers (include/net/tcp_states.h).
func linuxState(s tcp.EndpointState) byte {
	switch s {
	case tcp.StateEstablished:
		return 1
	case tcp.StateConnecting, tcp.StateSynSent:
		return 2
	case tcp.StateSynRecv:
		return 3
	case tcp.StateFinWait1:
		return 4
	case tcp.StateFinWait2:
		return 5
	case tcp.StateTimeWait:
		return 6
	case tcp.StateCloseWait:
		return 8
	case tcp.StateLastAck:
		return 9
	case tcp.StateListen:
		return 10
	case tcp.StateClosing:
		return 11
	}
	return linuxClose
}

// linuxClose is TCP_CLOSE.
const linuxClose = 7

// tcpInfo is struct tcp_info as of Linux 6.1 (232 bytes). What netstack does not count is
// zero: tcpi_retrans, lost, sacked, reordering, busy times, tcpi_last_*.
func (x *inetSocket) tcpInfo() []byte {
	b := make([]byte, 232)
	le := binary.LittleEndian
	st := x.state()
	if b[0] = linuxState(st); st == tcp.StateTimeWait {
		b[0] = linuxClose // on Linux a small socket of its own is in TIME_WAIT
	}
	le.PutUint32(b[88:], 3) // reordering
	switch st {
	case tcp.StateInitial, tcp.StateBound, tcp.StateListen, tcp.StateError, tcp.StateClose:
		le.PutUint32(b[8:], uint32(time.Second/time.Microsecond))
		le.PutUint32(b[16:], tcpDefaultMSS)
		le.PutUint32(b[72:], 250000)
		le.PutUint32(b[76:], math.MaxInt32)
		le.PutUint32(b[80:], 10) // TCP_INIT_CWND
		return b
	}
	var i tcpip.TCPInfoOption
	x.ep().GetSockOpt(&i)
	b[1] = byte(i.CcState)
	const timestamps, sack, wscale = 1, 2, 4
	b[5] = timestamps | sack | wscale // what netstack offers, and every peer of today takes
	mtu := x.pathMTU()
	mss, adv := x.segmentSizes(mtu)
	le.PutUint32(b[8:], uint32(i.RTO/time.Microsecond))
	le.PutUint32(b[12:], 40000) // ato
	le.PutUint32(b[16:], uint32(mss))
	le.PutUint32(b[20:], uint32(mss))
	le.PutUint32(b[60:], uint32(mtu))
	le.PutUint32(b[64:], uint32(x.ep().SocketOptions().GetReceiveBufferSize()/2)) // rcv_ssthresh
	le.PutUint32(b[68:], uint32(max(i.RTT/time.Microsecond, 1)))
	le.PutUint32(b[72:], uint32(max(i.RTTVar/time.Microsecond, 1)))
	le.PutUint32(b[76:], min(i.SndSsthresh, math.MaxInt32))
	le.PutUint32(b[80:], i.SndCwnd)
	le.PutUint32(b[84:], uint32(adv))
	if i.ReorderSeen {
		le.PutUint32(b[88:], 4)
	}
	le.PutUint32(b[96:], uint32(x.ep().SocketOptions().GetReceiveBufferSize()/2)) // rcv_space
	queued := uint64(x.unsent())
	unread, _ := x.waiting()
	sent, got := x.sent.Load(), x.taken.Load()+uint64(max(unread, 0))
	acked := sent - min(queued, sent)
	syn := uint64(1) // the SYN is acknowledged, too, on the side that sent it first
	if x.accepted {
		syn = 0
	}
	le.PutUint64(b[120:], acked+syn)
	le.PutUint64(b[128:], got)
	if st, ok := x.ep().Stats().(*tcp.Stats); ok {
		out, in := st.SegmentsSent.Value(), st.SegmentsReceived.Value()
		if f := x.fused.Load(); f != nil {
			out, in = out+f.out.writes.Load(), in+f.in.writes.Load()
		}
		le.PutUint32(b[100:], uint32(st.SendErrors.Retransmits.Value()))
		le.PutUint32(b[136:], uint32(out))
		le.PutUint32(b[140:], uint32(in))
		// Segments with data are not counted apart: at most all, at least as many as
		// the bytes fill.
		le.PutUint32(b[152:], uint32(min(in, fills(got, uint64(mss)))))
		le.PutUint32(b[156:], uint32(min(out, fills(sent, uint64(mss)))))
	}
	le.PutUint64(b[200:], sent)
	le.PutUint32(b[228:], uint32(x.ep().SocketOptions().GetSendBufferSize())) // snd_wnd, at most
	return b
}

// segmentSizes are the largest segments of a connection over a path, and what it tells its peer
// that it takes.
func (x *inetSocket) segmentSizes(mtu int) (mss, adv int) {
	mss, _ = x.ep().GetSockOptInt(tcpip.MaxSegOption)
	adv = mtu - header.IPv4MinimumSize - header.TCPMinimumSize
	if x.domain == unix.AF_INET6 {
		adv = mtu - header.IPv6MinimumSize - header.TCPMinimumSize
	}
	if mss <= tcpDefaultMSS && adv > tcpDefaultMSS {
		mss = adv // netstack answers the program's own limit
	}
	return mss, adv
}

// tcpDefaultMSS is TCP_MSS_DEFAULT: that of no path.
const tcpDefaultMSS = 536

func fills(n, mss uint64) uint64 { return (n + mss - 1) / max(mss, 1) }

// pathMTU is the MTU of the interface towards the peer, as Linux gives it.
func (x *inetSocket) pathMTU() int {
	ra, ok := x.lastPeer()
	if !ok {
		return int(x.s.mtu())
	}
	if ra.NIC == 0 {
		ra.NIC = x.device()
	}
	return x.s.mtuTo(ra)
}

// mtuTo is the MTU on the way to an address; IPv4's packets end at 65535 bytes.
func (s *Stack) mtuTo(to tcpip.FullAddress) int {
	a := plainAddr(to.Addr)
	mtu := int(s.mtu())
	if s.local(a) {
		mtu = 65536
	} else if r, err := s.ns.FindRoute(to.NIC, tcpip.Address{}, a, protoOf(a), false); err == nil {
		if i := s.byIndex(r.NICID()); i != nil {
			mtu = int(s.linkState(i).mtu)
		}
		r.Release()
	}
	if a.Len() == header.IPv4AddressSize {
		mtu = min(mtu, 65535)
	}
	return mtu
}

// local says whether an address is this machine's.
func (s *Stack) local(a tcpip.Address) bool {
	return a == header.IPv6Loopback || a.Len() == 4 && header.IsV4LoopbackAddress(a) || s.ns.CheckLocalAddress(0, protoOf(a), a) != 0
}

// synackTime rounds TCP_DEFER_ACCEPT to what so many SYN-ACKs take (secs_to_retrans,
// retrans_to_secs): 1, 3, 7, … seconds.
func synackTime(sec int32) int32 {
	if sec == 0 {
		return 0
	}
	period, timeout := int32(1), int32(1)
	for sec > period {
		timeout = min(timeout*2, 120) // TCP_RTO_MAX
		period += timeout
	}
	return period
}

// memInfoSize is the size of SO_MEMINFO's SK_MEMINFO_VARS words.
const memInfoSize = 36

// memInfo is SO_MEMINFO.
func (x *inetSocket) memInfo() []byte {
	o := x.ep().SocketOptions()
	b := make([]byte, memInfoSize)
	le := binary.LittleEndian
	le.PutUint32(b[0:], uint32(x.queued()))
	le.PutUint32(b[4:], uint32(o.GetReceiveBufferSize()))
	le.PutUint32(b[8:], uint32(x.unsent()))
	le.PutUint32(b[12:], uint32(o.GetSendBufferSize()))
	le.PutUint32(b[32:], x.drops.Load())
	return b
}
