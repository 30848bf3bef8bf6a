package net

import (
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/raw"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// liteProtocol is UDP-Lite (RFC 3828), which netstack lacks: UDP's header with the length
// of what the checksum covers in place of the datagram's. Its endpoints are netstack's raw
// ones, which know addresses, routes and options, with ports of their own.
type liteProtocol struct {
	stack.TransportProtocol // UDP's, whose header is as long and has its ports where UDP-Lite's has
	ns                      *stack.Stack

	mu   sync.Mutex
	used map[litePort]int // endpoints
}

type litePort struct {
	net  tcpip.NetworkProtocolNumber
	port uint16
}

const liteNumber = tcpip.TransportProtocolNumber(unix.IPPROTO_UDPLITE)

func newLite(ns *stack.Stack) stack.TransportProtocol {
	return &liteProtocol{TransportProtocol: udp.NewProtocol(ns), ns: ns, used: map[litePort]int{}}
}

// Number implements stack.TransportProtocol.
func (*liteProtocol) Number() tcpip.TransportProtocolNumber { return liteNumber }

// Parse implements stack.TransportProtocol.
func (p *liteProtocol) Parse(pkt *stack.PacketBuffer) bool {
	ok := p.TransportProtocol.Parse(pkt)
	pkt.TransportProtocolNumber = liteNumber
	return ok
}

// NewRawEndpoint implements stack.TransportProtocol.
func (p *liteProtocol) NewRawEndpoint(net tcpip.NetworkProtocolNumber, q *waiter.Queue) (tcpip.Endpoint, tcpip.Error) {
	return raw.NewEndpoint(p.ns, net, liteNumber, q)
}

// NewEndpoint implements stack.TransportProtocol.
func (p *liteProtocol) NewEndpoint(net tcpip.NetworkProtocolNumber, q *waiter.Queue) (tcpip.Endpoint, tcpip.Error) {
	ep, err := p.NewRawEndpoint(net, q)
	if err != nil {
		return nil, err
	}
	if net != ipv4.ProtocolNumber {
		// The raw endpoint sums up what it sends and receives, as RFC 3542 3.1 has it.
		if err := ep.SetSockOptInt(tcpip.IPv6Checksum, liteSum); err != nil {
			ep.Close()
			return nil, err
		}
	}
	return &liteEndpoint{Endpoint: ep, p: p, net: net}, nil
}

// HandleUnknownDestinationPacket implements stack.TransportProtocol: what a raw endpoint
// has got is asked about too.
func (p *liteProtocol) HandleUnknownDestinationPacket(id stack.TransportEndpointID, pkt *stack.PacketBuffer) stack.UnknownDestinationPacketDisposition {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used[litePort{pkt.NetworkProtocolNumber, id.LocalPort}] > 0 {
		return stack.UnknownDestinationPacketHandled
	}
	return stack.UnknownDestinationPacketUnhandled
}

func (p *liteProtocol) use(k litePort, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used[k] += n; p.used[k] == 0 {
		delete(p.used, k)
	}
}

// The header: source and destination port, coverage, checksum.
const (
	liteHeader = 8
	liteSum    = 6
)

// liteEndpoint is a raw endpoint with ports. A raw one gets every packet of its protocol
// for its address: those for other ports are not let in (wants), and what was let in before
// the ports were others, or is damaged, is taken off when it comes to the queue's head.
type liteEndpoint struct {
	tcpip.Endpoint
	p   *liteProtocol
	net tcpip.NetworkProtocolNumber

	mu       sync.Mutex
	reserved *ports.Reservation // of the local port
	peer     tcpip.FullAddress  // Port is 0 where there is none
	down     tcpip.ShutdownFlags
	// ports are the local and the peer's port, for wants, which is called while this
	// endpoint sends to itself.
	ports atomic.Uint32
}

// setPorts is called with mu held when a port has changed.
func (e *liteEndpoint) setPorts() { e.ports.Store(uint32(e.port())<<16 | uint32(e.peer.Port)) }

// wants says whether a packet is for this endpoint's ports.
func (e *liteEndpoint) wants(pkt *stack.PacketBuffer) bool {
	h, ports := pkt.TransportHeader().Slice(), e.ports.Load()
	peer := uint16(ports)
	return len(h) >= liteHeader && binary.BigEndian.Uint16(h[2:]) == uint16(ports>>16) && (peer == 0 || binary.BigEndian.Uint16(h) == peer)
}

// reserve takes a port for an address, any if port is 0. Called with mu held.
func (e *liteEndpoint) reserve(a tcpip.Address, port uint16) tcpip.Error {
	o := e.SocketOptions()
	r := ports.Reservation{
		Networks: []tcpip.NetworkProtocolNumber{e.net}, Transport: liteNumber, Addr: a, Port: port,
		Flags:        ports.Flags{MostRecent: o.GetReuseAddress(), LoadBalanced: o.GetReusePort()},
		BindToDevice: tcpip.NICID(o.GetBindToDevice()),
	}
	got, err := e.p.ns.ReservePort(e.p.ns.SecureRNG(), r, nil)
	if err != nil {
		return err
	}
	r.Port = got
	e.reserved = &r
	e.setPorts()
	e.p.use(litePort{e.net, got}, 1)
	return nil
}

// release gives the port back. Called with mu held.
func (e *liteEndpoint) release() {
	if r := e.reserved; r != nil {
		e.reserved = nil
		e.setPorts()
		e.p.use(litePort{e.net, r.Port}, -1)
		e.p.ns.ReleasePort(*r)
	}
}

// port is the local one, 0 before there is one. Called with mu held.
func (e *liteEndpoint) port() uint16 {
	if e.reserved == nil {
		return 0
	}
	return e.reserved.Port
}

// Bind implements tcpip.Endpoint.
func (e *liteEndpoint) Bind(a tcpip.FullAddress) tcpip.Error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.reserved != nil {
		return &tcpip.ErrInvalidEndpointState{}
	}
	if many := a.Addr == header.IPv4Broadcast || header.IsV4MulticastAddress(a.Addr) || header.IsV6MulticastAddress(a.Addr); !many &&
		a.Addr.BitLen() != 0 && !a.Addr.Unspecified() && e.p.ns.CheckLocalAddress(a.NIC, e.net, a.Addr) == 0 {
		return &tcpip.ErrBadLocalAddress{} // before the port, as inet_bind has it
	}
	if err := e.reserve(a.Addr, a.Port); err != nil {
		return err
	}
	a.Port = 0
	err := e.Endpoint.Bind(a)
	if err != nil {
		e.release()
	}
	return err
}

// Connect implements tcpip.Endpoint.
func (e *liteEndpoint) Connect(a tcpip.FullAddress) tcpip.Error {
	e.mu.Lock()
	defer e.mu.Unlock()
	to := a
	to.Port = 0
	if err := e.Endpoint.Connect(to); err != nil {
		return err
	}
	e.peer = a
	e.setPorts()
	if e.reserved != nil {
		return nil
	}
	l, err := e.Endpoint.GetLocalAddress()
	if err != nil {
		return err
	}
	return e.reserve(l.Addr, 0)
}

// Close implements tcpip.Endpoint.
func (e *liteEndpoint) Close() {
	e.Endpoint.Close()
	e.mu.Lock()
	e.release()
	e.mu.Unlock()
}

// Abort implements tcpip.Endpoint.
func (e *liteEndpoint) Abort() { e.Close() }

// Shutdown implements tcpip.Endpoint.
func (e *liteEndpoint) Shutdown(f tcpip.ShutdownFlags) tcpip.Error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.peer.Port == 0 {
		return &tcpip.ErrNotConnected{}
	}
	e.down |= f
	return nil
}

// GetLocalAddress implements tcpip.Endpoint.
func (e *liteEndpoint) GetLocalAddress() (tcpip.FullAddress, tcpip.Error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a, err := e.Endpoint.GetLocalAddress()
	a.Port = e.port()
	return a, err
}

// GetRemoteAddress implements tcpip.Endpoint.
func (e *liteEndpoint) GetRemoteAddress() (tcpip.FullAddress, tcpip.Error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.peer.Port == 0 {
		return tcpip.FullAddress{}, &tcpip.ErrNotConnected{}
	}
	return e.peer, nil
}

// Readiness implements tcpip.Endpoint.
func (e *liteEndpoint) Readiness(mask waiter.EventMask) waiter.EventMask {
	e.mu.Lock()
	defer e.mu.Unlock()
	if mask&waiter.ReadableEvents != 0 {
		e.front()
	}
	return e.Endpoint.Readiness(mask)
}

// GetSockOptInt implements tcpip.Endpoint.
func (e *liteEndpoint) GetSockOptInt(o tcpip.SockOptInt) (int, tcpip.Error) {
	if o != tcpip.ReceiveQueueSizeOption {
		return e.Endpoint.GetSockOptInt(o)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.front()
	if l.payload == 0 {
		return 0, nil
	}
	n, err := e.Endpoint.GetSockOptInt(o)
	return n - l.payload, err
}

// Read implements tcpip.Endpoint.
func (e *liteEndpoint) Read(dst io.Writer, o tcpip.ReadOptions) (tcpip.ReadResult, tcpip.Error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.front()
	if l.payload == 0 { // not asked for again: a packet that has just come would be given with its headers
		if e.down&tcpip.ShutdownRead != 0 {
			return tcpip.ReadResult{}, &tcpip.ErrClosedForReceive{}
		}
		return tcpip.ReadResult{}, &tcpip.ErrWouldBlock{}
	}
	w := &tailWriter{dst, l.payload}
	res, err := e.Endpoint.Read(w, o)
	res.Total = max(res.Total-l.payload, 0)
	res.Count = max(res.Count-l.payload, 0)
	res.RemoteAddr.Port = l.source
	return res, err
}

// Write implements tcpip.Endpoint.
func (e *liteEndpoint) Write(p tcpip.Payloader, o tcpip.WriteOptions) (int64, tcpip.Error) {
	n := p.Len()
	if n > header.UDPMaximumPacketSize-liteHeader {
		return 0, &tcpip.ErrMessageTooLong{}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down&tcpip.ShutdownWrite != 0 {
		return 0, &tcpip.ErrClosedForSend{}
	}
	to := e.peer
	if o.To != nil {
		to = *o.To
		raw := to
		raw.Port = 0
		o.To = &raw
	}
	if to.Port == 0 {
		return 0, &tcpip.ErrDestinationRequired{}
	}
	if e.reserved == nil {
		if err := e.reserve(tcpip.Address{}, 0); err != nil {
			return 0, err
		}
	}
	b, put := scratch(liteHeader + n)
	defer put()
	if got, err := io.ReadFull(p, b[liteHeader:]); err != nil || got < n {
		return 0, &tcpip.ErrBadBuffer{}
	}
	binary.BigEndian.PutUint16(b, e.port())
	binary.BigEndian.PutUint16(b[2:], to.Port)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b))) // all is covered
	binary.BigEndian.PutUint16(b[liteSum:], 0)
	if e.net == ipv4.ProtocolNumber {
		from, err := e.source(to)
		if err != nil {
			return 0, err
		}
		sum := checksum.Checksum(b, header.PseudoHeaderChecksum(liteNumber, from, to.Addr, uint16(len(b))))
		if sum != 0xffff {
			sum = ^sum // 0 would be none, which UDP-Lite does not have
		}
		binary.BigEndian.PutUint16(b[liteSum:], sum)
	}
	if _, err := e.Endpoint.Write(&bytesReader{b}, o); err != nil {
		return 0, err
	}
	return int64(n), nil
}

// source is the address that a datagram will have as its sender's.
func (e *liteEndpoint) source(to tcpip.FullAddress) (tcpip.Address, tcpip.Error) {
	l, err := e.Endpoint.GetLocalAddress()
	if err != nil {
		return l.Addr, err
	}
	nic := to.NIC
	if d := e.SocketOptions().GetBindToDevice(); d != 0 {
		nic = tcpip.NICID(d)
	}
	if l.Addr.BitLen() != 0 && !l.Addr.Unspecified() {
		return l.Addr, nil
	}
	r, err := e.p.ns.FindRoute(nic, tcpip.Address{}, to.Addr, e.net, e.SocketOptions().GetMulticastLoop())
	if err != nil {
		return l.Addr, err
	}
	defer r.Release()
	return r.LocalAddress(), nil
}

// litePacket is what is known of the packet at the queue's head.
type litePacket struct {
	source  uint16
	payload int // where it begins; 0: there is no packet
}

// front drops what is not for this endpoint, or damaged, from the queue's head. Called
// with mu held.
func (e *liteEndpoint) front() litePacket {
	for {
		w := headWriter{v4: e.net == ipv4.ProtocolNumber}
		res, err := e.Endpoint.Read(&w, tcpip.ReadOptions{Peek: true, NeedRemoteAddr: true})
		if err != nil && w.n == 0 {
			return litePacket{}
		}
		if at := w.at(); w.valid(res.Total) {
			h := w.b[at:]
			source := binary.BigEndian.Uint16(h)
			if binary.BigEndian.Uint16(h[2:]) == e.port() && (e.peer.Port == 0 || source == e.peer.Port) {
				return litePacket{source, at + liteHeader}
			}
		}
		e.Endpoint.Read(io.Discard, tcpip.ReadOptions{})
	}
}

// headWriter keeps the headers of a packet and sums up the bytes that its checksum covers.
type headWriter struct {
	v4  bool // with IPv4's header in front
	b   [header.IPv4MaximumHeaderSize + liteHeader]byte
	n   int // bytes seen
	sum uint16
	odd bool
}

// at is where UDP-Lite's header begins.
func (w *headWriter) at() int {
	if !w.v4 {
		return 0
	}
	return int(w.b[0]&0xf) * 4
}

// covered is how many bytes of size the checksum is about: -1 if that is wrong.
func (w *headWriter) covered(size int) int {
	switch c := int(binary.BigEndian.Uint16(w.b[w.at()+4:])); {
	case c == 0:
		return size
	case c < liteHeader || c > size:
		return -1
	default:
		return c
	}
}

// Write implements io.Writer. The headers come in one piece each.
func (w *headWriter) Write(b []byte) (int, error) {
	start := w.n
	if start < len(w.b) {
		copy(w.b[start:], b)
	}
	w.n += len(b)
	if !w.v4 || w.n < w.at()+liteHeader {
		return len(b), nil
	}
	// What of b is covered, by position in UDP-Lite's packet.
	from, end := start-w.at(), w.n-w.at()
	if from < liteHeader { // all headers are in w.b
		w.sum, w.odd = checksum.Checksum(w.b[w.at():w.at()+liteHeader], 0), false
		from = liteHeader
	}
	most := int(binary.BigEndian.Uint16(w.b[w.at()+4:]))
	if most == 0 {
		most = end
	}
	if end = min(end, most); from >= end {
		return len(b), nil
	}
	part := b[len(b)-(w.n-w.at()-from):]
	part = part[:end-from]
	if s := checksum.Checksum(part, 0); w.odd {
		w.sum = checksum.Combine(w.sum, s<<8|s>>8)
	} else {
		w.sum = checksum.Combine(w.sum, s)
	}
	w.odd = w.odd != (len(part)%2 == 1)
	return len(b), nil
}

// valid says whether a packet of so many bytes is whole. Over IPv6 the raw endpoint has
// looked at the checksum.
func (w *headWriter) valid(total int) bool {
	at := w.at()
	if w.n != total || total < at+liteHeader || w.covered(total-at) < 0 {
		return false
	}
	if !w.v4 {
		return true
	}
	if at < header.IPv4MinimumSize {
		return false
	}
	ip := header.IPv4(w.b[:at])
	pseudo := header.PseudoHeaderChecksum(liteNumber, ip.SourceAddress(), ip.DestinationAddress(), uint16(total-at))
	return checksum.Combine(w.sum, pseudo) == 0xffff
}

// tailWriter leaves the first bytes out.
type tailWriter struct {
	w    io.Writer
	skip int
}

func (t *tailWriter) Write(b []byte) (int, error) {
	k := min(t.skip, len(b))
	t.skip -= k
	if k == len(b) {
		return k, nil
	}
	n, err := t.w.Write(b[k:])
	return k + n, err
}
