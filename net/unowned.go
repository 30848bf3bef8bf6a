package net

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A TCP connection outlives its socket (FIN_WAIT, LAST_ACK, TIME_WAIT) and is there before it
// has one (SYN_RECV, or established and not yet accepted). /proc/net and ss show them, too.

// unowned is a TCP connection that belongs to no socket.
type unowned struct {
	family        int // unix.AF_INET, AF_INET6
	state         byte
	local, remote tcpip.FullAddress
	rx, tx        int // bytes that wait to be read, and that the peer has not acknowledged
}

// unaccepted is whether a listener's accept queue holds it.
func (u *unowned) unaccepted() bool { return u.state == 1 || u.state == 8 }

// orphan is whether it belonged to a socket that has been closed, TIME_WAIT aside.
func (u *unowned) orphan() bool {
	return u.state == 4 || u.state == 5 || u.state == 9 || u.state == 11
}

// finReceived is whether the peer has said that its stream has ended.
func finReceived(state byte) bool { return state == 8 || state == 9 || state == 11 }

// unowned lists netstack's TCP connections without a socket.
func (s *Stack) unowned() []unowned {
	owned := map[tcpip.Endpoint]bool{}
	for _, so := range s.list.all() {
		if x, ok := so.(*inetSocket); ok && x.isTCP() {
			owned[x.ep()] = x.state() != tcp.StateTimeWait // in Linux that is not the socket, which is closed
		}
	}
	var l []unowned
	for _, te := range s.ns.RegisteredEndpoints() {
		e, ok := te.(*tcp.Endpoint)
		if !ok || owned[e] {
			continue
		}
		u := unowned{family: unix.AF_INET6, state: linuxState(tcp.EndpointState(e.State()))}
		info, ok := e.Info().(*stack.TransportEndpointInfo)
		// One in another state is on its way to a socket, or gone.
		if !ok || !(u.unaccepted() || u.orphan() || u.state == 3 || u.state == 6) {
			continue
		}
		if info.NetProto == ipv4.ProtocolNumber {
			u.family = unix.AF_INET
		}
		u.local = tcpip.FullAddress{Addr: info.ID.LocalAddress, Port: info.ID.LocalPort}
		u.remote = tcpip.FullAddress{Addr: info.ID.RemoteAddress, Port: info.ID.RemotePort}
		if u.state != 6 {
			u.rx, _ = e.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
			u.tx = int(sendQueue(e))
			if finReceived(u.state) {
				u.rx++ // the end counts as a byte until it is read
			}
		}
		l = append(l, u)
	}
	return l
}

// acceptQueue is how many of l wait in the accept queue of a listener. netstack does not say
// to which of several listeners on a port (SO_REUSEPORT) one has come: each shows all.
func (x *inetSocket) acceptQueue(l []unowned) (n int) {
	at, _ := x.ep().GetLocalAddress()
	for i := range l {
		if u := &l[i]; u.unaccepted() && u.local.Port == at.Port && u.family == int(x.domain) &&
			(at.Addr.BitLen() == 0 || at.Addr.Unspecified() || at.Addr == u.local.Addr) {
			n++
		}
	}
	return n
}

// proc is its line of /proc/net/tcp, without the number.
func (u *unowned) proc() string {
	at := procAddr(u.family, u.local) + " " + procAddr(u.family, u.remote)
	switch {
	case u.state == 6:
		return at + " 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0000000000000000"
	case u.state == 3:
		return at + " 03 00000000:00000000 01:00000000 00000000     0        0 0 0 0000000000000000"
	}
	return fmt.Sprintf("%s %02X %08X:%08X 00:00000000 00000000     0        0 0 1 0000000000000000 20 4 0 10 -1", at, u.state, u.tx, u.rx)
}

// diag is its struct inet_diag_msg, which has no attributes.
func (u *unowned) diag() []byte {
	b := make([]byte, inetDiagMsgSize)
	putDiagAddrs(b, u.family, u.local, u.remote)
	b[0], b[1] = byte(u.family), u.state
	if u.state == 6 {
		b[2] = 3 // idiag_timer: that of TIME_WAIT
	}
	binary.LittleEndian.PutUint32(b[56:], uint32(u.rx))
	binary.LittleEndian.PutUint32(b[60:], uint32(u.tx))
	return b
}
