package net

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/mm"
)

// ICMP errors about datagrams, for sockets with IP_RECVERR or IPV6_RECVERR: by these
// traceroute finds its way, resolvers learn that nobody listens, and QUIC how large a
// datagram may be. netstack tells a connected UDP socket of unreachable ports alone, and
// names the wrong sender; so the stack hears ICMP itself, with a raw endpoint for each
// version that is made when the first socket asks for errors.

// maxErrors is how many errors wait for a socket, maxErrorBytes what they hold of datagrams.
// Linux bounds them by SO_RCVBUF. They are charged to the network's budget.
const (
	maxErrors     = 128
	maxErrorBytes = 64 << 10
	errorCost     = 256
)

// heardAtOnce is how many messages are read under one lock.
const heardAtOnce = 64

// Bits of inetSocket.recverr.
const (
	recverr4 = 1
	recverr6 = 2
)

// Origins of struct sock_extended_err (uapi/linux/errqueue.h).
const (
	originLocal = 1
	originICMP  = 2
	originICMP6 = 3
)

// icmpError is an error in a socket's queue.
type icmpError struct {
	errno     unix.Errno
	origin    byte
	typ, code byte
	info      uint32 // the MTU, or where the header is wrong
	payload   []byte
	dst       tcpip.FullAddress
	offender  tcpip.FullAddress
}

// errorQueue is a datagram socket's errors, for MSG_ERRQUEUE.
type errorQueue struct {
	mu     sync.Mutex
	l      []icmpError
	bytes  int
	closed bool
	n      atomic.Int32 // their number, to look without the lock
}

func (e *icmpError) cost() int64 { return int64(len(e.payload)) + errorCost }

// addError queues an error; false: there is no room.
func (x *inetSocket) addError(e icmpError) bool {
	q := &x.errs
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || len(q.l) >= maxErrors || q.bytes+len(e.payload) > maxErrorBytes || !x.s.cfg.Budget.Charge(e.cost()) {
		return false
	}
	q.l, q.bytes = append(q.l, e), q.bytes+len(e.payload)
	q.n.Store(int32(len(q.l)))
	return true
}

// nextError gives the oldest error, and the errno of the next, 0 if there is none.
func (x *inetSocket) nextError() (e icmpError, next unix.Errno, ok bool) {
	q := &x.errs
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.l) == 0 {
		return e, 0, false
	}
	e = q.l[0]
	q.l, q.bytes = q.l[1:], q.bytes-len(e.payload)
	x.s.cfg.Budget.Uncharge(e.cost())
	q.n.Store(int32(len(q.l)))
	if len(q.l) > 0 && q.l[0].origin != originLocal {
		next = q.l[0].errno
	}
	return e, next, true
}

// dropErrors empties the queue, for good when the socket closes.
func (x *inetSocket) dropErrors(closed bool) {
	q := &x.errs
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.l {
		x.s.cfg.Budget.Uncharge(q.l[i].cost())
	}
	q.l, q.bytes, q.closed = nil, 0, q.closed || closed
	q.n.Store(0)
}

// icmpHearer hears the ICMP of one version.
type icmpHearer struct {
	s    *Stack
	six  bool
	ep   tcpip.Endpoint
	q    waiter.Queue
	e    waiter.Entry
	mu   sync.Mutex // one reads at a time: before Stack.hearMu and errorQueue.mu
	busy atomic.Bool
	// reading is how many read or are about to: what they have taken is in no queue yet.
	reading atomic.Int32
}

// setRecverr is IP_RECVERR or IPV6_RECVERR of a socket that is not of TCP.
func (x *inetSocket) setRecverr(bit uint32, on bool) {
	if !on {
		if x.recverr.And(^bit)&^bit == 0 {
			x.s.forgetErrors(x)
		}
		x.dropErrors(false)
		return
	}
	x.s.hearICMP()
	x.recverr.Or(bit)
	x.s.hearMu.Lock()
	defer x.s.hearMu.Unlock()
	if !x.closed.Load() {
		x.s.hearing[x] = struct{}{}
	}
}

// forgetErrors ends that a socket hears of errors.
func (s *Stack) forgetErrors(x *inetSocket) {
	s.hearMu.Lock()
	delete(s.hearing, x)
	s.hearMu.Unlock()
}

// concerned are the sockets that want an error about a datagram.
func (s *Stack) concerned(q *quoted, six bool) (l []*inetSocket) {
	s.hearMu.Lock()
	defer s.hearMu.Unlock()
	for x := range s.hearing {
		if x.concerns(q, six) {
			l = append(l, x)
		}
	}
	return l
}

// hearICMP begins to hear ICMP. Without memory for that there are no errors.
func (s *Stack) hearICMP() {
	s.icmpOnce.Do(func() {
		s.hearMu.Lock()
		s.hearing = map[*inetSocket]struct{}{}
		s.hearMu.Unlock()
		var l []*icmpHearer
		for _, six := range []bool{false, true} {
			h := &icmpHearer{s: s, six: six}
			tr, net := tcpip.TransportProtocolNumber(header.ICMPv4ProtocolNumber), tcpip.NetworkProtocolNumber(header.IPv4ProtocolNumber)
			if six {
				tr, net = header.ICMPv6ProtocolNumber, header.IPv6ProtocolNumber
			}
			ep, err := s.ns.NewRawEndpoint(tr, net, &h.q, true)
			if err != nil {
				s.cfg.Log("warn", "net: errors by ICMP are not heard: %v", err)
				continue
			}
			h.ep = ep
			h.e.Init(h, waiter.ReadableEvents)
			h.q.EventRegister(&h.e)
			l = append(l, h)
		}
		s.icmpHearers.Store(&l)
	})
}

// NotifyEvent implements waiter.EventListener. It is called while a packet is delivered.
func (h *icmpHearer) NotifyEvent(waiter.EventMask) {
	if !h.busy.Swap(true) {
		go func() {
			for more := true; more; {
				var told []*inetSocket
				told, more = h.drain(true)
				for _, x := range told {
					x.q.Notify(waiter.EventErr)
				}
			}
		}()
	}
}

// hearErrors makes errors that have arrived visible, for who is about to look. It may be called
// with locks that waiters take.
func (x *inetSocket) hearErrors() {
	if x.recverr.Load() == 0 {
		return
	}
	l := x.s.icmpHearers.Load()
	if l == nil {
		return
	}
	for _, h := range *l {
		if h.ep.Readiness(waiter.ReadableEvents) == 0 && h.reading.Load() == 0 {
			continue
		}
		if told, _ := h.drain(false); len(told) > 0 {
			go func() {
				for _, x := range told {
					x.q.Notify(waiter.EventErr)
				}
			}()
		}
	}
}

// datagramError is the error that the next call tells of a socket with IP_RECVERR: nil.
func (x *inetSocket) datagramError() error {
	if x.recverr.Load() == 0 {
		return nil
	}
	x.hearErrors()
	err := x.opt.takeError()
	if err != nil {
		x.ep().LastError() // netstack's, of the same message
	}
	return err
}

// drain reads what has come, some of it at a time, and gives the sockets that got an error.
// The one who was started for that is not busy once nobody else reads.
func (h *icmpHearer) drain(started bool) (told []*inetSocket, more bool) {
	h.reading.Add(1)
	defer h.reading.Add(-1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if started {
		h.busy.Store(false)
	}
	buf, put := scratch(65536)
	defer put()
	for range heardAtOnce {
		w := capWriter{b: buf}
		res, err := h.ep.Read(&w, tcpip.ReadOptions{NeedRemoteAddr: true})
		if err != nil {
			return told, false
		}
		e, q, ok := parseICMP(buf[:w.n], h.six)
		if !ok {
			continue
		}
		e.offender.Addr = res.RemoteAddr.Addr
		for _, x := range h.s.concerned(&q, h.six) {
			mine := e
			mine.payload = append([]byte(nil), q.payload(x)...)
			if x.addError(mine) {
				x.Defer(e.errno)
				told = append(told, x)
			}
		}
	}
	return told, true
}

// quoted is the datagram that an ICMP error is about, of which it holds the beginning.
type quoted struct {
	proto        uint8
	src, dst     tcpip.Address
	sport, dport uint16
	ident        uint16
	packet, data []byte // from the IP header on, and from the transport header on
}

// payload is what a socket gets of it.
func (q *quoted) payload(x *inetSocket) []byte {
	switch {
	case x.typ == unix.SOCK_RAW && x.ep().SocketOptions().GetHeaderIncluded():
		return q.packet
	case x.typ == unix.SOCK_RAW, len(q.data) < 8:
		return q.data
	}
	return q.data[8:] // the headers of UDP and of an echo
}

// concerns is whether a socket sent it and wants its error.
func (x *inetSocket) concerns(q *quoted, six bool) bool {
	bit, echo := uint32(recverr4), uint8(unix.IPPROTO_ICMP)
	if six {
		bit, echo = recverr6, unix.IPPROTO_ICMPV6
	}
	if x.isTCP() || x.recverr.Load()&bit == 0 || six && x.domain != unix.AF_INET6 {
		return false
	}
	l, _ := x.ep().GetLocalAddress()
	if l.Addr.BitLen() != 0 && !l.Addr.Unspecified() && l.Addr != q.src {
		return false
	}
	r, err := x.ep().GetRemoteAddress()
	connected := err == nil
	if connected && r.Addr != q.dst {
		return false
	}
	switch {
	case x.typ == unix.SOCK_RAW:
		return uint8(x.pro) == q.proto
	case q.proto == unix.IPPROTO_UDP, q.proto == unix.IPPROTO_UDPLITE:
		return uint8(x.pro) == q.proto && l.Port == q.sport && (!connected || r.Port == q.dport)
	}
	return q.proto == echo && uint8(x.pro) == echo && l.Port == q.ident
}

// parseICMP reads an error message: with its IP header, or of version 6 without.
func parseICMP(b []byte, six bool) (e icmpError, q quoted, ok bool) {
	if !six {
		if len(b) < header.IPv4MinimumSize || int(b[0]&15)*4 > len(b) {
			return e, q, false
		}
		b = b[int(b[0]&15)*4:]
	}
	const icmpHeader = 8
	if len(b) < icmpHeader {
		return e, q, false
	}
	e.typ, e.code = b[0], b[1]
	rest := binary.BigEndian.Uint32(b[4:])
	if !six {
		e.origin = originICMP
		e.errno, e.info = error4(e.typ, e.code, rest)
	} else {
		e.origin = originICMP6
		e.errno, e.info = error6(e.typ, e.code, rest)
	}
	if e.errno == 0 {
		return e, q, false
	}
	q.packet = b[icmpHeader:]
	if !six {
		if len(q.packet) < header.IPv4MinimumSize || q.packet[0]>>4 != 4 {
			return e, q, false
		}
		h := header.IPv4(q.packet)
		n := int(h.HeaderLength())
		if n < header.IPv4MinimumSize || n > len(q.packet) {
			return e, q, false
		}
		q.proto, q.src, q.dst, q.data = h.Protocol(), h.SourceAddress(), h.DestinationAddress(), q.packet[n:]
	} else {
		if len(q.packet) < header.IPv6MinimumSize || q.packet[0]>>4 != 6 {
			return e, q, false
		}
		h := header.IPv6(q.packet)
		q.proto, q.src, q.dst, q.data = h.NextHeader(), h.SourceAddress(), h.DestinationAddress(), q.packet[header.IPv6MinimumSize:]
	}
	if len(q.data) < 8 {
		return e, q, false
	}
	q.sport, q.dport, q.ident = binary.BigEndian.Uint16(q.data), binary.BigEndian.Uint16(q.data[2:]), binary.BigEndian.Uint16(q.data[4:])
	e.dst = tcpip.FullAddress{Addr: q.dst}
	if q.proto == unix.IPPROTO_UDP || q.proto == unix.IPPROTO_UDPLITE {
		e.dst.Port = q.dport
	}
	return e, q, true
}

// unreachable4 and unreachable6 are Linux's errors for the codes of an unreachable
// destination (icmp_err_convert, tab_unreach).
var (
	unreachable4 = []unix.Errno{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENOPROTOOPT, unix.ECONNREFUSED, unix.EMSGSIZE, unix.EOPNOTSUPP,
		unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENONET, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTUNREACH,
		unix.EHOSTUNREACH, unix.EHOSTUNREACH, unix.EHOSTUNREACH}
	unreachable6 = []unix.Errno{unix.ENETUNREACH, unix.EACCES, unix.EHOSTUNREACH, unix.EHOSTUNREACH, unix.ECONNREFUSED, unix.EACCES, unix.EACCES}
)

// error4 is the errno of an ICMP message and what it adds; 0: it is no error. rest is its
// second word.
func error4(typ, code byte, rest uint32) (unix.Errno, uint32) {
	switch header.ICMPv4Type(typ) {
	case header.ICMPv4DstUnreachable:
		if int(code) >= len(unreachable4) {
			return 0, 0 // icmp_unreach drops it
		}
		if header.ICMPv4Code(code) == header.ICMPv4FragmentationNeeded {
			return unix.EMSGSIZE, rest & 0xffff
		}
		return unreachable4[code], 0
	case header.ICMPv4TimeExceeded:
		if code != 0 {
			return 0, 0 // pieces of a datagram that did not all come
		}
		return unix.EHOSTUNREACH, 0
	case header.ICMPv4ParamProblem:
		return unix.EPROTO, rest >> 24
	}
	return 0, 0
}

// error6 is error4 for version 6 (icmpv6_err_convert).
func error6(typ, code byte, rest uint32) (unix.Errno, uint32) {
	switch header.ICMPv6Type(typ) {
	case header.ICMPv6DstUnreachable:
		if int(code) < len(unreachable6) {
			return unreachable6[code], 0
		}
		return unix.EPROTO, 0
	case header.ICMPv6PacketTooBig:
		return unix.EMSGSIZE, rest
	case header.ICMPv6TimeExceeded:
		return unix.EHOSTUNREACH, 0
	case header.ICMPv6ParamProblem:
		return unix.EPROTO, rest
	}
	return 0, 0
}

// recvDatagramError is MSG_ERRQUEUE of a socket that is not of TCP: EAGAIN.
func (x *inetSocket) recvDatagramError(dst *mm.IOSeq, m *RecvMsg) (int, error) {
	x.hearErrors()
	e, next, ok := x.nextError()
	if !ok {
		return 0, unix.EAGAIN
	}
	x.ep().LastError() // netstack's is among the queue's
	x.opt.pending.Store(int32(next))
	return x.giveError(&e, dst, m)
}

// giveError hands an error out: the datagram that made it, whom that was for, and struct
// sock_extended_err with the offender's address (ip(7), IP_RECVERR).
func (x *inetSocket) giveError(e *icmpError, dst *mm.IOSeq, m *RecvMsg) (int, error) {
	m.OutFlags |= unix.MSG_ERRQUEUE
	payload := e.payload
	if len(payload) > dst.Len() {
		m.OutFlags |= unix.MSG_TRUNC
		payload = payload[:dst.Len()]
	}
	n, err := dst.CopyOut(payload)
	if err != nil {
		return 0, err
	}
	m.Full = len(e.payload)
	m.setName(encodeAddr(int(x.domain), e.dst))
	if !m.WantControl {
		return n, nil
	}
	b := make([]byte, 16, 16+sizeIn6)
	binary.LittleEndian.PutUint32(b, uint32(e.errno))
	b[4], b[5], b[6] = e.origin, e.typ, e.code
	binary.LittleEndian.PutUint32(b[8:], e.info)
	offender := encodeAddr(int(x.domain), e.offender)
	if e.origin == originLocal {
		clear(offender) // nobody else's fault
	}
	cm := Cmsg{unix.SOL_IP, unix.IP_RECVERR, append(b, offender...)}
	if x.domain == unix.AF_INET6 { // about a datagram of IPv4 too
		cm.Level, cm.Type = unix.SOL_IPV6, unix.IPV6_RECVERR
	}
	m.Control.Msgs = append(m.Control.Msgs, cm)
	return n, nil
}

// tooLong keeps the error of a datagram that is longer than the path takes, for a socket that
// does not let it be cut (ip_local_error).
func (x *inetSocket) tooLong(to tcpip.FullAddress) {
	if x.recverr.Load() == 0 || x.isTCP() {
		return
	}
	if to.Addr.BitLen() == 0 {
		to, _ = x.ep().GetRemoteAddress()
	}
	if x.addError(icmpError{errno: unix.EMSGSIZE, origin: originLocal, info: uint32(x.s.mtuTo(to)), dst: to}) {
		x.q.Notify(waiter.EventErr)
	}
}
