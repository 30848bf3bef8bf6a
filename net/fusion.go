package net

import (
	"math"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/mm"
)

// Fused connections: the bytes of a TCP connection whose two ends are sockets of this
// machine pass from the writer's call to the reader's without segments (Solaris calls it
// TCP fusion). Netstack's endpoints make the connection, keep its addresses, options and
// state, and end it; between they rest, and their sequence numbers do not move.
//
// Two rules keep the order of bytes. A pair is fused only while neither endpoint has a
// byte queued in any direction, and no call is inside of one (inetSocket.ops). And whatever
// makes an endpoint send again closes the lane first, so that who finds the lane empty and
// closed, in this order, goes on with what his endpoint says: bytes, the end of the stream,
// an error. Nothing is ever handed back.
//
// A pair comes apart for good, while its connection goes on in segments, when somebody
// wants to see those (packet sockets, raw sockets, a filter), an option asks for their
// treatment (TCP_CORK, TCP_USER_TIMEOUT), or the way between the two changes (an address
// or link goes).
//
// Locks: fusion.mu → fuses.mu; fusion.mu → an endpoint's own; lane.mu is a leaf.

// fuses is what a Stack knows of them.
type fuses struct {
	// clients counts the sockets that have connected to one of the machine's addresses:
	// while there is none, accept has nothing to look for.
	clients atomic.Int64

	mu sync.Mutex
	// waiting are ends whose other one has not been seen yet, by their addresses.
	waiting map[stack.TransportEndpointID]*inetSocket

	// held is the memory in lanes, in bytes, of which there may be limit.
	held  atomic.Int64
	limit int64
	// packets and bytes are what the loopback and the counters of TCP and IP have not seen.
	packets, bytes atomic.Uint64
}

// fusedHeaders is what a segment has of headers on the loopback: IPv4's, TCP's and a time stamp.
const fusedHeaders = 20 + 20 + 12

// fused is a socket's side of a fused pair.
type fused struct{ in, out *lane }

// fusion is two sockets that are each other's peers.
type fusion struct {
	s    *Stack
	ends [2]*inetSocket

	mu    sync.Mutex
	tries uint
	fused bool // has been
	over  bool // will not be any more
}

// connection is the addresses of a connected endpoint.
func (x *inetSocket) connection() (stack.TransportEndpointID, bool) { return addresses(x.ep()) }

// addresses are those of a TCP endpoint, its port alone if it is not connected.
func addresses(ep any) (id stack.TransportEndpointID, ok bool) {
	e, ok := ep.(*tcp.Endpoint)
	if !ok {
		return id, false
	}
	i, ok := e.Info().(*stack.TransportEndpointInfo)
	if !ok {
		return id, false
	}
	return i.ID, true
}

func reversed(id stack.TransportEndpointID) stack.TransportEndpointID {
	return stack.TransportEndpointID{LocalPort: id.RemotePort, LocalAddress: id.RemoteAddress,
		RemotePort: id.LocalPort, RemoteAddress: id.LocalAddress}
}

// client is told before a socket connects to a.
func (u *fuses) client(x *inetSocket, a tcpip.Address) {
	if x.isTCP() && !x.kernel && x.s.local(a) && x.toSelf.CompareAndSwap(false, true) {
		u.clients.Add(1)
	}
}

// meet looks for the other end of x's connection, or leaves word.
func (u *fuses) meet(x *inetSocket) {
	id, ok := x.connection()
	if !ok {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if x.closed.Load() {
		return
	}
	other := reversed(id)
	if y := u.waiting[other]; y != nil && y != x {
		switch y.state() {
		case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv, tcp.StateEstablished, tcp.StateCloseWait:
			delete(u.waiting, other)
			p := &fusion{s: x.s, ends: [2]*inetSocket{x, y}}
			x.pair.Store(p)
			y.pair.Store(p)
			y.word.Store(nil)
			return
		}
	}
	if u.waiting == nil {
		u.waiting = make(map[stack.TransportEndpointID]*inetSocket)
	}
	u.waiting[id] = x
	x.word.Store(&id)
}

// leave takes back x's word: its connection is over. unread says that there were bytes that
// nobody will read.
func (u *fuses) leave(x *inetSocket) (unread bool) {
	if x.word.Load() != nil || x.toSelf.Load() {
		u.mu.Lock()
		if w := x.word.Load(); w != nil {
			if u.waiting[*w] == x {
				delete(u.waiting, *w)
			}
			x.word.Store(nil)
		}
		u.mu.Unlock()
	}
	if x.toSelf.CompareAndSwap(true, false) {
		u.clients.Add(-1)
	}
	x.unfuse()
	f := x.fused.Load()
	if f == nil {
		return false
	}
	// Also where somebody else has begun to let the pair come apart, who would close them.
	f.out.close()
	f.in.close()
	unread = f.in.discard(math.MaxInt) > 0
	if l := x.ep().SocketOptions().GetLinger(); (unread || l.Enabled && l.Timeout == 0) && !x.followed(f) {
		f.out.cut()
	}
	f.leave()
	return unread
}

// followed says whether segments went behind what is in x's lane, to be read after it.
func (x *inetSocket) followed(f *fused) bool {
	e, ok := x.ep().(*tcp.Endpoint)
	y := f.out.reader.Load()
	return ok && sendQueue(e) != 0 || y != nil && y.holds()
}

// leave takes the socket out of its lanes.
func (f *fused) leave() {
	f.out.writer.Store(nil)
	f.in.reader.Store(nil)
}

// unfuse lets the pair of x come apart.
func (x *inetSocket) unfuse() {
	if p := x.pair.Load(); p != nil {
		p.end()
	}
}

// unfuse is inetSocket.unfuse for all.
func (s *Stack) unfuse() {
	if s.fuses.clients.Load() == 0 {
		return
	}
	for _, so := range s.list.all() {
		if x, ok := so.(*inetSocket); ok {
			x.unfuse()
		}
	}
}

func (p *fusion) end() {
	p.mu.Lock()
	was := p.fused
	p.over = true
	p.mu.Unlock()
	for _, x := range p.ends {
		x.pair.CompareAndSwap(p, nil)
		if f := x.fused.Load(); was && f != nil {
			f.out.close()
			f.in.close()
		}
	}
}

// try fuses the pair if it may.
func (p *fusion) try() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fused || p.over {
		return
	}
	// The queues of a busy connection are hardly ever empty: do not look at them each time.
	if p.tries++; p.tries > 16 && p.tries%64 != 0 {
		return
	}
	s, a, b := p.s, p.ends[0], p.ends[1]
	if s.taps.Load() != nil || s.flows.raw.Load() != 0 || s.loopbackDown() {
		return
	}
	a.fusing.Store(true)
	b.fusing.Store(true)
	if a.ops.Load() == 0 && b.ops.Load() == 0 && a.fusable() && b.fusable() {
		ab, ba := newLane(&s.fuses, a, b), newLane(&s.fuses, b, a)
		a.fused.Store(&fused{in: ba, out: ab})
		b.fused.Store(&fused{in: ab, out: ba})
		p.fused = true
	}
	a.fusing.Store(false)
	b.fusing.Store(false)
}

func (s *Stack) loopbackDown() bool {
	for _, i := range s.interfaces() {
		if i.lo != nil {
			return i.down.Load()
		}
	}
	return true
}

// enter begins a call inside of the endpoint, which leave ends. f is what the caller knows of
// the socket being fused; false: it is fused now, and the lane comes first.
func (x *inetSocket) enter(f *fused) bool {
	for {
		x.ops.Add(1)
		if !x.fusing.Load() {
			if x.fused.Load() == f {
				return true
			}
			x.ops.Add(-1)
			return false
		}
		x.ops.Add(-1)
		if p := x.pair.Load(); p != nil {
			p.mu.Lock() // until it is decided
			p.mu.Unlock()
		}
	}
}

func (x *inetSocket) leave() { x.ops.Add(-1) }

// fusable says whether x's side of a connection is at rest and asks for nothing that only
// segments give.
func (x *inetSocket) fusable() bool {
	e, ok := x.ep().(*tcp.Endpoint)
	if !ok || x.state() != tcp.StateEstablished || x.down.Load() != 0 || x.filt.Load() != nil || x.closed.Load() ||
		x.fused.Load() != nil || e.SocketOptions().GetCorkOption() || sendQueue(e) != 0 {
		return false
	}
	var patience tcpip.TCPUserTimeoutOption
	if err := e.GetSockOpt(&patience); err != nil || patience != 0 {
		return false
	}
	if n, err := e.GetSockOptInt(tcpip.ReceiveQueueSizeOption); err != nil || n != 0 {
		return false
	}
	id, ok := x.connection()
	return ok && x.s.local(id.LocalAddress)
}

// firstWrite is the lane's part of a write; false: the caller is inside of the endpoint,
// which he leaves.
func (x *inetSocket) firstWrite(src *mm.IOSeq) (n int, ok bool, err error) {
	for {
		f := x.fused.Load()
		if f == nil {
			if p := x.pair.Load(); p != nil {
				p.try()
				f = x.fused.Load()
			}
		}
		if f != nil {
			if n, ok, err = x.writeFused(f, src); ok {
				return n, true, err
			}
		}
		if x.enter(f) {
			return 0, false, nil
		}
	}
}

// firstRead is firstWrite's other direction; how is 0, MSG_PEEK or MSG_TRUNC. Of a lane that
// is closed n bytes may have been taken although ok is false: the rest is the endpoint's.
func (x *inetSocket) firstRead(dst *mm.IOSeq, how int) (n int, ok bool, err error) {
	for {
		f := x.fused.Load()
		if f != nil && n == 0 {
			if n, ok, err = x.readFused(f, dst, how); ok {
				return n, true, err
			}
			f = x.fused.Load()
		}
		if x.enter(f) {
			return n, false, nil
		}
	}
}

// writeFused is writeStream of a fused socket; false: its endpoint writes.
func (x *inetSocket) writeFused(f *fused, src *mm.IOSeq) (int, bool, error) {
	switch x.state() {
	case tcp.StateEstablished, tcp.StateCloseWait:
	default:
		f.out.close()
		return 0, false, nil
	}
	n, ok, err := f.out.write(src)
	if !ok {
		return 0, false, nil
	}
	if n > 0 {
		x.sent.Add(uint64(n))
	} else if err == nil {
		err = unix.EAGAIN
	}
	return n, true, err
}

// readFused takes from the lane, how is of 0, MSG_PEEK and MSG_TRUNC; false: the endpoint has
// what comes next.
func (x *inetSocket) readFused(f *fused, dst *mm.IOSeq, how int) (int, bool, error) {
	for {
		if f.in.size.Load() > 0 {
			n, err := f.in.take(dst, how)
			if n > 0 || err != nil || dst.Len() == 0 {
				if how&unix.MSG_PEEK == 0 {
					x.taken.Add(uint64(max(n, 0)))
				}
				// A read that comes short means that there is no more (epoll(7)).
				on := err == nil && dst.Len() > 0 && f.in.closed.Load() && f.in.size.Load() == int64(left(how, n)) && x.holds()
				return n, !on, err
			}
		}
		if f.in.closed.Load() {
			if f.in.size.Load() > 0 {
				continue // written before it was closed
			}
			if f.out.closed.Load() && f.out.size.Load() == 0 {
				f.leave() // it has served
				x.fused.CompareAndSwap(f, nil)
			}
			return 0, false, nil
		}
		switch x.state() {
		case tcp.StateEstablished, tcp.StateFinWait1, tcp.StateFinWait2:
			if x.down.Load()&1 != 0 {
				return 0, true, nil
			}
			return 0, true, unix.EAGAIN
		}
		f.in.close() // the connection has been reset
	}
}

// holds says whether the endpoint has bytes to read.
func (x *inetSocket) holds() bool {
	n, err := x.ep().GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	return err == nil && n > 0
}

// left is what of n bytes stays where it was.
func left(how, n int) int {
	if how&unix.MSG_PEEK != 0 {
		return n
	}
	return 0
}

// waiting is the bytes of a stream, or of the next datagram, that the program may read.
func (x *inetSocket) waiting() (int, tcpip.Error) {
	n, err := x.ep().GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	if f := x.fused.Load(); f != nil && err == nil {
		in, _ := f.in.split()
		n += in
	}
	return n, err
}

// unsent is the bytes of a stream that the peer has not acknowledged.
func (x *inetSocket) unsent() int {
	n := 0
	if e, ok := x.ep().(*tcp.Endpoint); ok {
		n = int(sendQueue(e))
	}
	if f := x.fused.Load(); f != nil {
		_, out := f.out.split()
		n += out
	}
	return n
}

// shutdownFused closes the lane before netstack sends a FIN; how is bits as in down.
func (x *inetSocket) shutdownFused(how uint32) {
	if p := x.pair.Load(); p != nil {
		p.mu.Lock()
		was := p.fused
		p.over = p.over || !was
		p.mu.Unlock()
		if !was || x.down.Load()|how == 3 {
			p.end() // netstack answers what still comes then with a reset
		}
	}
	if f := x.fused.Load(); f != nil && how&2 != 0 {
		f.out.close()
	}
}

// fusedReadiness is the readiness of a connection that is fused both ways; false: the
// endpoint is to be asked.
func (x *inetSocket) fusedReadiness(f *fused, mask waiter.EventMask) (r waiter.EventMask, ok bool) {
	if x.state() != tcp.StateEstablished || x.down.Load() != 0 || f.in.closed.Load() || f.out.closed.Load() {
		return 0, false
	}
	if mask&waiter.ReadableEvents != 0 && f.in.enough(int(max(x.opt.rcvlowat.Load(), 1))) {
		r = waiter.ReadableEvents
	}
	if mask&waiter.WritableEvents != 0 && f.out.writable() {
		r |= waiter.WritableEvents
	}
	return r, true
}

// mixedReadiness adds the lanes to what the endpoint says.
func (x *inetSocket) mixedReadiness(f *fused, mask, r waiter.EventMask) waiter.EventMask {
	if f.in.size.Load() > 0 {
		r |= waiter.ReadableEvents
	}
	switch x.state() {
	case tcp.StateEstablished, tcp.StateCloseWait:
		if mask&waiter.WritableEvents != 0 && !f.out.closed.Load() && !f.out.writable() {
			r &^= waiter.WritableEvents
		}
	}
	return r
}
