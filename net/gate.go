package net

import (
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"kiln/kernel/mm"
)

// Costs of objects on the Go heap, in bytes, from heap profiles: TestCostOfAConnection
// measures the first. On the machine 5,484 idle connections took 8.5 KB each of the
// kernel's memory, with their descriptors, epoll items and the collector's room.
const (
	connCost  = 6<<10 + 256 // a TCP endpoint with its sender, receiver and our socket
	sockCost  = 4 << 10     // any other socket
	frameCost = 1 << 10     // a received frame beside its bytes: PacketBuffer, segment, view
	// connFloor is what a connection may hold however little memory there is: the
	// least send buffer, and one small frame that is not read.
	connFloor = leastBuffer + frameCost
	// recountEvery bounds how often the endpoints are counted, nanoseconds.
	recountEvery = int64(time.Millisecond)
)

// rxMem counts the frames that came in and have not been released: in sockets'
// queues, out-of-order queues, fragments, packets that wait for ARP. Between soft and
// hard only small frames are let in, so that new requests and acknowledgements still
// pass when somebody does not read; beyond hard only those that carry next to nothing,
// which no queue keeps (rcvMem sees to it): a machine that answers neither ARP nor ACK
// would be gone for its peers. spare is the hard limit's share for connections, each of
// which may hold one small frame.
type rxMem struct {
	held, dropped atomic.Int64
	spare         atomic.Int64
	soft, hard    int64
	pool          sync.Pool
}

type rxSlot struct {
	m       *rxMem
	n       int64
	release func()
}

// smallFrame holds a request, tinyFrame an ARP packet, a SYN or an ACK with options.
const (
	smallFrame = 600
	tinyFrame  = 128
)

func (m *rxMem) init(soft, hard int64) {
	m.soft, m.hard = soft, hard
	m.pool.New = func() any {
		s := &rxSlot{m: m}
		s.release = func() {
			s.m.held.Add(-s.n)
			s.m.pool.Put(s)
		}
		return s
	}
}

// admit counts a frame of size bytes; nil: drop it.
func (m *rxMem) admit(size int) *rxSlot {
	n := int64(size) + frameCost
	limit := m.hard + m.spare.Load()
	if size > smallFrame {
		limit = m.soft
	}
	if m.held.Add(n) > limit && size > tinyFrame {
		m.held.Add(-n)
		m.dropped.Add(1)
		return nil
	}
	s := m.pool.Get().(*rxSlot)
	s.n = n
	return s
}

// rcvMem bounds what waits in sockets' receive queues for the program, wire and
// loopback alike (rxMem does not see packets that a socket sends to its own machine).
// Datagrams, and what raw and ping sockets get, are counted exactly; a stream's estimate
// grows with every segment and is replaced by the true sum when it reaches the limit.
type rcvMem struct {
	s           *Stack
	limit       int64
	dgram       atomic.Int64
	tcp         atomic.Int64
	squeeze     atomic.Bool
	dropped     atomic.Int64 // datagrams
	tcpDropped  atomic.Int64
	socks       sync.Map // stack.TransportEndpoint, of UDP or ping, to *inetSocket
	mu          sync.Mutex
	lastRecount int64
	counting    atomic.Bool // a goroutine is in recount
}

func (m *rcvMem) init(s *Stack, limit int64) { m.s, m.limit = s, limit }

// segment counts a TCP segment for ep; false: drop it. When there is far too much, a
// small one passes to a connection that has read all before it.
func (m *rcvMem) segment(ep stack.TransportEndpoint, payload int) bool {
	if payload == 0 {
		return true // nothing to queue; and a lost RST is not sent again
	}
	held := m.tcp.Add(int64(payload))
	if held > m.limit && m.counting.CompareAndSwap(false, true) {
		// Not here: on the loopback a segment arrives under its sender's endpoint lock,
		// and counting takes every endpoint's.
		go func() {
			m.recount()
			m.counting.Store(false)
		}()
	}
	if held > 2*m.limit || payload > smallFrame && m.squeeze.Load() {
		if payload <= smallFrame {
			if t, ok := ep.(*tcp.Endpoint); ok {
				if n, err := t.GetSockOptInt(tcpip.ReceiveQueueSizeOption); err == nil && n == 0 {
					return true
				}
			}
		}
		m.tcp.Add(-int64(payload))
		m.tcpDropped.Add(1)
		return false
	}
	return true
}

func (m *rcvMem) recount() {
	if !m.mu.TryLock() {
		return
	}
	defer m.mu.Unlock()
	now := m.s.cfg.Machine.Nanotime()
	if m.squeeze.Load() && now-m.lastRecount < recountEvery {
		return
	}
	m.lastRecount = now
	var sum int64
	for _, ep := range m.s.ns.RegisteredEndpoints() {
		if t, ok := ep.(*tcp.Endpoint); ok {
			if n, err := t.GetSockOptInt(tcpip.ReceiveQueueSizeOption); err == nil {
				sum += int64(n)
			}
		}
	}
	m.tcp.Store(sum)
	m.squeeze.Store(sum > m.limit/4*3)
}

// gate counts TCP endpoints against the kernel-heap budget: the program's sockets
// when they are made, a peer's when its SYN arrives. Netstack tells nobody when an
// endpoint is gone (TIME_WAIT, aborted handshakes, orphans), so endpoints are counted
// from its tables, when the estimate has grown and at most every recountEvery.
type gate struct {
	s      *Stack
	budget *mm.Budget
	max    int64
	maxTW  int64
	held   int64 // of queued bytes, charged to the budget; under mu
	est    atomic.Int64
	closes atomic.Int64
	fresh  atomic.Int64 // TCP sockets that netstack's tables do not hold yet
	shut   atomic.Int64 // SYNs dropped here
	// admitted - created are SYNs on their way to an endpoint: they wait in a
	// listener's queue, and a full one drops them, so the difference is forgotten
	// each second.
	admitted, created atomic.Int64
	since             atomic.Int64 // SYNs admitted since the last count

	mu      sync.Mutex
	last    int64
	shortTW bool
	timerMu sync.Mutex // leaf
	timer   tcpip.Timer
	ticking atomic.Bool
}

// Durations of TIME_WAIT: Linux's, and what is left of it when the table is full
// (Linux then has none at all: tcp_max_tw_buckets).
const (
	timeWait      = 60 * time.Second
	timeWaitShort = time.Millisecond
)

func (g *gate) init(s *Stack, b *mm.Budget) {
	g.s, g.budget = s, b
	g.max = max(b.Most()/(connCost+connFloor), 64)
	g.maxTW = max(b.Limit()/8/connCost, 16)
}

// admitTries is how often a program's socket looks for room, recountEvery apart: what
// was closed a moment ago is still in netstack's tables then.
const admitTries = 4

// admit takes room for one of the program's TCP sockets. When there seems to be none it
// waits for connections that are ending, as Linux reclaims memory before it says ENOBUFS.
func (g *gate) admit() bool {
	if g.try() {
		return true
	}
	for range admitTries {
		g.mu.Lock() // not TryLock: a count under way will do as well
		g.count(false)
		g.mu.Unlock()
		if g.try() {
			return true
		}
		done := make(chan struct{})
		g.s.clock.AfterFunc(time.Duration(recountEvery), func() { close(done) })
		<-done
	}
	return false
}

// admitSYN takes room for a peer's connection. It is called under netstack's table
// locks, where the tables cannot be counted (their read locks do not nest), so it asks
// for a count well before the estimate reaches the edge.
func (g *gate) admitSYN() bool {
	ok := g.try()
	if !ok || g.est.Load() > g.max/2 && g.since.Add(1) >= max(g.max/16, 8) {
		g.s.ask()
	}
	return ok
}

// ask has the counting goroutine look at netstack's tables soon.
func (s *Stack) ask() {
	select {
	case s.count <- struct{}{}:
	default:
	}
}

// counter is that goroutine.
func (s *Stack) counter() {
	for range s.count {
		s.gate.recount(false)
	}
}

func (g *gate) try() bool {
	if g.est.Add(1) <= g.max && g.budget.Charge(connCost) {
		g.admitted.Add(1)
		if !g.ticking.Load() {
			g.tick()
		}
		return true
	}
	g.est.Add(-1)
	return false
}

// tick keeps the estimate from lagging for long after a burst.
func (g *gate) tick() {
	if g.ticking.Swap(true) {
		return
	}
	// Never mu: this runs under netstack's table locks, which a count waits for.
	g.timerMu.Lock()
	defer g.timerMu.Unlock()
	if g.timer == nil {
		g.timer = g.s.clock.AfterFunc(time.Second, g.ticked)
	} else {
		g.timer.Reset(time.Second)
	}
}

// ticked goes on while there is something on the budget that only a count takes off: queued
// bytes too, which may be of sockets that outlive the last connection.
func (g *gate) ticked() {
	g.recount(true)
	g.mu.Lock()
	held := g.held
	g.mu.Unlock()
	g.timerMu.Lock()
	defer g.timerMu.Unlock()
	if g.est.Load() > 0 || held != 0 {
		g.timer.Reset(time.Second)
	} else {
		g.ticking.Store(false)
	}
}

// closed is told of each close of a TCP socket, which soon is a TIME_WAIT.
func (g *gate) closed() {
	if g.closes.Add(1) >= max(g.maxTW/4, 8) {
		g.s.ask()
	}
}

func (g *gate) recount(always bool) {
	if g.mu.TryLock() {
		g.count(always)
		g.mu.Unlock()
	}
}

// count looks at netstack's tables, unless it did so less than recountEvery ago and
// always is false. Called with mu held.
func (g *gate) count(always bool) {
	now := g.s.cfg.Machine.Nanotime()
	if !always && now-g.last < recountEvery && g.last != 0 {
		return
	}
	g.last = now
	g.since.Store(0)
	g.s.forgetEnded()
	before := g.est.Load()
	closes := g.closes.Swap(0)
	pending := g.admitted.Load() - g.created.Load()
	if always || pending < 0 {
		g.admitted.Add(-pending)
	}
	n, tw := g.fresh.Load()+max(pending, 0), int64(0)
	for _, ep := range g.s.ns.RegisteredEndpoints() {
		if t, ok := ep.(*tcp.Endpoint); ok {
			n++
			if tcp.EndpointState(t.State()) == tcp.StateTimeWait {
				tw++
			}
		}
	}
	if n < before {
		g.est.Add(n - before)
		g.budget.Uncharge((before - n) * connCost)
	}
	g.chargeQueues(n)
	short := tw+closes > g.maxTW
	if short != g.shortTW && (short || tw < g.maxTW/2) {
		g.shortTW = short
		d := tcpip.TCPTimeWaitTimeoutOption(timeWait)
		if short {
			d = tcpip.TCPTimeWaitTimeoutOption(timeWaitShort)
		}
		g.s.ns.SetTransportProtocolOption(tcp.ProtocolNumber, &d)
	}
}

// chargeQueues puts what is queued in n connections on the budget, so that what else is
// charged there leaves it room. It is bounded by txMem, rxMem, rcvMem and fuses. Called with mu
// held.
func (g *gate) chargeQueues(n int64) {
	s := g.s
	s.tx.recount(true)
	s.rcv.recount() // its estimate only grows
	s.rx.spare.Store(n * (frameCost + smallFrame))
	held := s.tx.est.Load() + max(s.rx.held.Load(), s.rcv.tcp.Load()+s.rcv.dgram.Load()) + s.fuses.held.Load()
	g.budget.Force(held - g.held)
	g.held = held
}

// tcpProtocol is netstack's TCP with a gate before its door.
type tcpProtocol struct {
	stack.TransportProtocol
	s *Stack
	q queuer
}

type queuer interface {
	QueuePacket(ep stack.TransportEndpoint, id stack.TransportEndpointID, pkt *stack.PacketBuffer)
	SendBufferSize() tcpip.TCPSendBufferSizeRangeOption
}

func (s *Stack) newTCP(ns *stack.Stack) stack.TransportProtocol {
	p := tcp.NewProtocolCUBIC(ns)
	s.tcp = &tcpProtocol{p, s, p.(queuer)}
	return s.tcp
}

// QueuePacket drops a SYN to a listener when there is no room for a connection; the
// peer tries again.
func (p *tcpProtocol) QueuePacket(ep stack.TransportEndpoint, id stack.TransportEndpointID, pkt *stack.PacketBuffer) {
	h := header.TCP(pkt.TransportHeader().Slice())
	if len(h) < header.TCPMinimumSize {
		return
	}
	if t, ok := ep.(*tcp.Endpoint); ok {
		switch tcp.EndpointState(t.State()) {
		case tcp.StateListen:
			if h.Flags()&(header.TCPFlagSyn|header.TCPFlagAck|header.TCPFlagRst) != header.TCPFlagSyn {
				break
			}
			if h.Flags()&header.TCPFlagFin != 0 { // a scan, which Linux does not answer either
				return
			}
			if !p.s.gate.admitSYN() {
				p.s.gate.shut.Add(1)
				return
			}
		case tcp.StateEstablished:
			if e := p.s.card(pkt.NICID); e != nil {
				p.s.flows.remember(e, t, id)
			}
		}
	}
	p.segment(ep, id, pkt)
}

// segment hands a segment to netstack's endpoint, unless memory for it is short.
func (p *tcpProtocol) segment(ep stack.TransportEndpoint, id stack.TransportEndpointID, pkt *stack.PacketBuffer) {
	if n := pkt.Data().Size(); n > 0 && !p.s.rcv.segment(ep, n) {
		return
	}
	if pkt, _ = p.s.filtered(ep, pkt); pkt == nil {
		return
	}
	p.q.QueuePacket(ep, id, pkt)
}

// Option implements stack.TransportProtocol. Every new endpoint, a peer's too, asks
// once for the SYN retries: that is how endpoints are counted as they are made.
func (p *tcpProtocol) Option(o tcpip.GettableTransportProtocolOption) tcpip.Error {
	if _, ok := o.(*tcpip.TCPSynRetriesOption); ok {
		p.s.gate.created.Add(1)
	}
	return p.TransportProtocol.Option(o)
}

// SendBufferSize implements stack.SendBufSizeProto.
func (p *tcpProtocol) SendBufferSize() tcpip.TCPSendBufferSizeRangeOption {
	return p.q.SendBufferSize()
}

// udpProtocol is netstack's UDP with the same gate.
type udpProtocol struct {
	stack.TransportProtocol
	s *Stack
}

func (s *Stack) newUDP(ns *stack.Stack) stack.TransportProtocol {
	return &udpProtocol{udp.NewProtocol(ns), s}
}

// QueuePacket hands a datagram to its socket, if there is room for it.
func (p *udpProtocol) QueuePacket(ep stack.TransportEndpoint, id stack.TransportEndpointID, pkt *stack.PacketBuffer) {
	pkt, shorter := p.s.filtered(ep, pkt)
	if pkt == nil {
		return
	}
	p.s.rcv.queue(ep, id, pkt, pkt.Data().Size())
	if shorter {
		pkt.DecRef()
	}
}

// Parse implements stack.TransportProtocol. What an IP packet has behind a datagram is none of it
// (udp_rcv trims it off): netstack would hand it to the program, or find the checksum wrong.
func (p *udpProtocol) Parse(pkt *stack.PacketBuffer) bool {
	if !p.TransportProtocol.Parse(pkt) {
		return false
	}
	n := int(header.UDP(pkt.TransportHeader().Slice()).Length()) - header.UDPMinimumSize
	if n >= 0 && n < pkt.Data().Size() {
		pkt.Data().CapLength(n)
	}
	return true
}

// sockList knows the live sockets, for /proc/net.
type sockList struct {
	mu sync.Mutex
	m  map[uint64]Socket
}

func (l *sockList) add(ino uint64, s Socket) {
	l.mu.Lock()
	if l.m == nil {
		l.m = make(map[uint64]Socket)
	}
	l.m[ino] = s
	l.mu.Unlock()
}

func (l *sockList) remove(ino uint64) {
	l.mu.Lock()
	delete(l.m, ino)
	l.mu.Unlock()
}

func (l *sockList) all() []Socket {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Socket, 0, len(l.m))
	for _, s := range l.m {
		out = append(out, s)
	}
	return out
}
