package net

import (
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/mm"
)

// Costs of objects on the Go heap, in bytes, rounded up from heap profiles
// (TestCostOfAConnection measures the first).
const (
	connCost  = 8 << 10 // a TCP endpoint with its sender, receiver and our socket
	sockCost  = 4 << 10 // any other socket
	frameCost = 1 << 10 // a received frame beside its bytes: PacketBuffer, segment, view
	// recountEvery bounds how often the endpoints are counted, nanoseconds.
	recountEvery = int64(10 * time.Millisecond)
)

// rxMem counts the frames that came in and have not been released: in sockets'
// queues, out-of-order queues, fragments, packets that wait for ARP. Between soft and
// hard only small frames are let in, so that new requests and acknowledgements still
// pass when somebody does not read.
type rxMem struct {
	held, dropped atomic.Int64
	soft, hard    int64
	pool          sync.Pool
}

type rxSlot struct {
	m       *rxMem
	n       int64
	release func()
}

const smallFrame = 600

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
	limit := m.hard
	if size > smallFrame {
		limit = m.soft
	}
	if m.held.Add(n) > limit {
		m.held.Add(-n)
		m.dropped.Add(1)
		return nil
	}
	s := m.pool.Get().(*rxSlot)
	s.n = n
	return s
}

// txMem bounds the bytes queued in TCP send buffers. Writes add to an estimate that
// acknowledgements do not lower; when it reaches the limit the real sum is taken. If
// that is too high too, every socket that writes has its send buffer cut to a fair
// share, and netstack's own flow control does the rest.
type txMem struct {
	s     *Stack
	limit int64
	est   atomic.Int64
	share atomic.Int64 // 0: no pressure
	mu    sync.Mutex
	last  int64
}

func (m *txMem) init(s *Stack, limit int64) { m.s, m.limit = s, limit }

// wrote adds n queued bytes and returns the send buffer size that the writer must
// go down to, 0 for none.
func (m *txMem) wrote(n int) int64 {
	if m.est.Add(int64(n)) > m.limit {
		m.recount()
	}
	return m.share.Load()
}

func (m *txMem) recount() {
	if !m.mu.TryLock() {
		return
	}
	defer m.mu.Unlock()
	now := m.s.cfg.Machine.Nanotime()
	if m.share.Load() != 0 && now-m.last < recountEvery {
		return
	}
	m.last = now
	var sum, senders int64
	for _, ep := range m.s.ns.RegisteredEndpoints() {
		if t, ok := ep.(*tcp.Endpoint); ok {
			if n, err := t.GetSockOptInt(tcpip.SendQueueSizeOption); err == nil && n > 0 {
				sum += int64(n)
				senders++
			}
		}
	}
	m.est.Store(sum)
	switch {
	case sum > m.limit/2:
		m.share.Store(max(m.limit/(2*senders), 4<<10))
	case sum < m.limit/4:
		m.share.Store(0)
	}
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
	est    atomic.Int64
	closes atomic.Int64
	fresh  atomic.Int64 // TCP sockets that netstack's tables do not hold yet
	shut   atomic.Int64 // SYNs dropped here

	mu      sync.Mutex
	last    int64
	shortTW bool
	timer   tcpip.Timer
	ticking bool
}

// Durations of TIME_WAIT: Linux's, and what is left of it when the table is full
// (Linux then has none at all: tcp_max_tw_buckets).
const (
	timeWait      = 60 * time.Second
	timeWaitShort = 10 * time.Millisecond
)

func (g *gate) init(s *Stack, b *mm.Budget) {
	g.s, g.budget = s, b
	g.max = max(b.Limit()*5/8/connCost, 64)
	g.maxTW = max(g.max/4, 16)
}

// admit takes room for one TCP endpoint.
func (g *gate) admit() bool {
	if g.try() {
		return true
	}
	g.recount(false)
	return g.try()
}

func (g *gate) try() bool {
	if g.est.Add(1) <= g.max && g.budget.Charge(connCost) {
		if !g.ticking {
			g.tick()
		}
		return true
	}
	g.est.Add(-1)
	return false
}

// tick keeps the estimate from lagging for long after a burst.
func (g *gate) tick() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ticking {
		return
	}
	g.ticking = true
	if g.timer == nil {
		g.timer = g.s.clock.AfterFunc(time.Second, g.ticked)
	} else {
		g.timer.Reset(time.Second)
	}
}

func (g *gate) ticked() {
	g.recount(true)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ticking = g.est.Load() > 0; g.ticking {
		g.timer.Reset(time.Second)
	}
}

// closed is told of each close of a TCP socket, which soon is a TIME_WAIT.
func (g *gate) closed() {
	if g.closes.Add(1) >= max(g.maxTW/4, 8) {
		g.recount(false)
	}
}

func (g *gate) recount(always bool) {
	if !g.mu.TryLock() {
		return
	}
	defer g.mu.Unlock()
	now := g.s.cfg.Machine.Nanotime()
	if !always && now-g.last < recountEvery && g.last != 0 {
		return
	}
	g.last = now
	before := g.est.Load()
	closes := g.closes.Swap(0)
	n, tw := g.fresh.Load(), int64(0)
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
	return &tcpProtocol{p, s, p.(queuer)}
}

// QueuePacket drops a SYN to a listener when there is no room for a connection; the
// peer tries again.
func (p *tcpProtocol) QueuePacket(ep stack.TransportEndpoint, id stack.TransportEndpointID, pkt *stack.PacketBuffer) {
	if h := header.TCP(pkt.TransportHeader().Slice()); len(h) >= header.TCPMinimumSize &&
		h.Flags()&(header.TCPFlagSyn|header.TCPFlagAck|header.TCPFlagRst) == header.TCPFlagSyn {
		if t, ok := ep.(*tcp.Endpoint); ok && tcp.EndpointState(t.State()) == tcp.StateListen && !p.s.gate.admit() {
			p.s.gate.shut.Add(1)
			return
		}
	}
	p.q.QueuePacket(ep, id, pkt)
}

// SendBufferSize implements stack.SendBufSizeProto.
func (p *tcpProtocol) SendBufferSize() tcpip.TCPSendBufferSizeRangeOption {
	return p.q.SendBufferSize()
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

var _ waiter.Waitable = (*inetSocket)(nil)
