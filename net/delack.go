package net

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Delayed acknowledgements. Netstack acknowledges every segment at once, so that a
// request costs two packets out: its acknowledgement, and the answer that carries the
// same number. Here the first is held back for a moment, as in Linux: on a
// connection that answers what it gets ("ping-pong"), for at most delackTime, for no
// more than one segment, and never when the peer may be waiting for it. The next
// packet of the connection takes its place (RFC 1122 4.2.3.2; net/ipv4/tcp_input.c,
// __tcp_ack_snd_check).
//
// Lock order: a netstack endpoint's lock, then acks.mu, a leaf.

const (
	// delackTime is TCP_DELACK_MIN.
	delackTime = int64(40 * time.Millisecond)
	// delackBytes is the most that is left unacknowledged: less than a full segment
	// of any link (the payload of IPv6's least MTU).
	delackBytes = header.IPv6MinimumMTU - header.IPv6MinimumSize - header.TCPMinimumSize
	// plainTCP is the longest header with no option but the timestamps: a longer one
	// carries SACK blocks, which are news.
	plainTCP = header.TCPMinimumSize + 12
)

// flow is what the way out knows of a TCP connection. Netstack hands it down with
// each packet, as the packet's owner. Its fields are under acks.mu.
type flow struct {
	pingpong bool // answers follow what is received
	ending   bool // a FIN or RST was sent: acknowledgements are at once
	queued   bool // in acks.queue
	acked    uint32
	heard    int64 // when the last acknowledgement without data was sent

	held   *stack.PacketBuffer
	ack    uint32 // its number
	due    int64
	route  *stack.Route
	params stack.NetworkHeaderParams
}

// KUID and KGID implement tcpip.PacketOwner, whose use that is: a filter by owner. There
// is none.
func (*flow) KUID() uint32 { return 0 }

// KGID implements tcpip.PacketOwner.
func (*flow) KGID() uint32 { return 0 }

// acks holds the flows whose acknowledgement waits.
type acks struct {
	c     *clock
	mu    sync.Mutex
	queue []*flow
	timer tcpip.Timer
	armed bool
}

// follow gives a connection its flow. Its packets before this call pass unchanged.
func (a *acks) follow(ep tcpip.Endpoint) *flow {
	t, ok := ep.(*tcp.Endpoint)
	if !ok {
		return nil
	}
	f := new(flow)
	t.LockUser()
	t.SetOwner(f)
	t.UnlockUser()
	return f
}

// hold looks at a packet on its way out; true: it is kept, and the caller's work done.
func (a *acks) hold(f *flow, r *stack.Route, params stack.NetworkHeaderParams, pkt *stack.PacketBuffer) bool {
	h := header.TCP(pkt.TransportHeader().Slice())
	flags, ack, size := h.Flags(), h.AckNumber(), pkt.Data().Size()
	a.mu.Lock()
	old := f.held
	f.held = nil
	news := ack - f.acked
	f.acked = ack
	keep := false
	switch {
	case flags&header.TCPFlagSyn != 0:
	case flags&(header.TCPFlagFin|header.TCPFlagRst) != 0:
		f.ending = true
	case size > 0:
		if !f.pingpong {
			f.pingpong = old != nil || f.heard != 0 && a.c.m.Nanotime()-f.heard < delackTime
		}
	case old == nil && f.pingpong && !f.ending && flags == header.TCPFlagAck &&
		news-1 < delackBytes && int(h.DataOffset()) <= plainTCP && h.WindowSize() != 0:
		// Not one that repeats a number: that is a probe's answer, a new window, or
		// asks for what was lost.
		keep = true
		f.acked = ack - news
		a.keep(f, r, params, pkt, ack)
	default:
		f.heard = a.c.m.Nanotime()
	}
	a.mu.Unlock()
	if old != nil {
		old.DecRef()
	}
	return keep
}

// keep puts a packet by. mu is held.
func (a *acks) keep(f *flow, r *stack.Route, params stack.NetworkHeaderParams, pkt *stack.PacketBuffer, ack uint32) {
	f.held, f.route, f.params, f.ack = pkt.IncRef(), r, params, ack
	f.due = a.c.m.Nanotime() + delackTime
	if !f.queued {
		f.queued = true
		a.queue = append(a.queue, f)
	}
	if !a.armed {
		a.armed = true
		if a.timer == nil {
			a.timer = a.c.AfterFunc(time.Duration(delackTime), a.expire)
		} else {
			a.timer.Reset(time.Duration(delackTime))
		}
	}
}

// expire sends what has waited long enough.
func (a *acks) expire() {
	var late []flow
	a.mu.Lock()
	now, next := a.c.m.Nanotime(), int64(0)
	kept := a.queue[:0]
	for _, f := range a.queue {
		switch {
		case f.held == nil:
			f.queued = false
		case f.due <= now:
			late = append(late, f.take())
			f.queued, f.heard = false, now
		default:
			kept = append(kept, f)
			if next == 0 || f.due < next {
				next = f.due
			}
		}
	}
	clear(a.queue[len(kept):])
	a.queue = kept
	if a.armed = len(kept) > 0; a.armed {
		a.timer.Reset(time.Duration(next - now))
	}
	a.mu.Unlock()
	for i := range late {
		late[i].send()
	}
}

// take is what to send of f: no answer came in time, so the next acknowledgement is not
// delayed. acks.mu is held.
func (f *flow) take() flow {
	out := *f
	f.held, f.route = nil, nil
	f.acked, f.pingpong = f.ack, false
	return out
}

// send sends a held packet on its way. Its endpoint may be gone meanwhile; the route
// refuses it then.
func (f *flow) send() {
	f.held.Owner = nil
	f.route.WritePacket(f.params, f.held)
	f.held.DecRef()
}

// quick is TCP_QUICKACK: on, nothing is held until the next answer; off, as if the
// connection were known to answer.
func (a *acks) quick(f *flow, on bool) {
	a.mu.Lock()
	var out flow
	if on && f.held != nil {
		out = f.take()
	}
	f.pingpong = !on
	a.mu.Unlock()
	if out.held != nil {
		out.send()
	}
}
