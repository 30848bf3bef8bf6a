package net

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/drivers/virtio/vsock"
	"kiln/fs/vfs"
)

// The packets of AF_VSOCK and what they do to a socket (virtio 1.2, 5.10.6;
// net/vmw_vsock/virtio_transport_common.c). A socket's packets are queued under its mutex
// (queue) and sent without it (flush), in order and by one thread at a time, since on the
// loopback sending one is receiving it: the other side's mutex is taken, and its answers
// are sent, within the call.

// vsockPacket is a packet with data of its own.
type vsockPacket struct {
	h     vsock.Header
	data  []byte
	cost  int64 // charged to the budget for data
	reply bool
	lost  bool // there was no memory for the data
}

// vsockTransport is a way to the other side.
type vsockTransport interface {
	localCID() uint32
	seqpacket() bool
	// most is how many bytes of data one packet takes.
	most() int
	send(p *vsockPacket)
}

// vsockLoop is the machine itself, VMADDR_CID_LOCAL.
type vsockLoop Stack

const vsockLoopMost = 64 << 10

func (*vsockLoop) localCID() uint32      { return vmCIDLocal }
func (*vsockLoop) seqpacket() bool       { return true }
func (*vsockLoop) most() int             { return vsockLoopMost }
func (l *vsockLoop) send(p *vsockPacket) { (*Stack)(l).vsockReceive(l, p) }

// header is a packet's from x to its peer, with its credit. mu is held.
func (x *vsockSocket) header(op uint16, flags uint32) vsock.Header {
	x.toldFwd = x.fwdCnt
	return vsock.Header{SrcCID: uint64(x.tr.localCID()), SrcPort: x.local.port, DstCID: uint64(x.remote.cid), DstPort: x.remote.port,
		Type: x.kind(), Op: op, Flags: flags, BufAlloc: x.bufAlloc, FwdCnt: x.fwdCnt}
}

// kind is the socket's type in packets.
func (x *vsockSocket) kind() uint16 {
	if x.stream() {
		return vsock.TypeStream
	}
	return vsock.TypeSeqpacket
}

// queue queues a packet without data for flush. mu is held.
func (x *vsockSocket) queue(op uint16, flags uint32) {
	if x.tr != nil {
		x.out = append(x.out, vsockPacket{h: x.header(op, flags)})
	}
}

// answer is queue for what answers a packet that came.
func (x *vsockSocket) answer(op uint16) {
	if x.tr != nil {
		x.out = append(x.out, vsockPacket{h: x.header(op, 0), reply: true})
	}
}

// flush sends what is queued, unless somebody else is at it. No lock is held.
func (x *vsockSocket) flush() {
	x.mu.Lock()
	if x.flushing {
		x.mu.Unlock()
		return
	}
	x.flushing = true
	for len(x.out) > 0 {
		out, tr := x.out, x.tr
		x.out = nil
		x.mu.Unlock()
		for i := range out {
			tr.send(&out[i])
		}
		x.mu.Lock()
	}
	x.flushing = false
	x.mu.Unlock()
}

// vsockReset answers a packet that no socket is for, unless it is a reset itself.
func (s *Stack) vsockReset(tr vsockTransport, h *vsock.Header) {
	if h.Op == vsock.OpReset {
		return
	}
	tr.send(&vsockPacket{reply: true, h: vsock.Header{SrcCID: h.DstCID, SrcPort: h.DstPort, DstCID: h.SrcCID, DstPort: h.SrcPort,
		Type: h.Type, Op: vsock.OpReset}})
}

// vsockReceive takes a packet from a transport; its data is p's until it is queued.
func (s *Stack) vsockReceive(tr vsockTransport, p *vsockPacket) {
	h := &p.h
	x := s.vsock.find(h)
	if x == nil || x.kind() != h.Type {
		s.vsockReset(tr, h)
		s.drop(p)
		return
	}
	x.mu.Lock()
	listening := x.state == vmListen
	if x.gone || x.done || !listening && x.tr != tr {
		x.mu.Unlock()
		s.vsockReset(tr, h)
		s.drop(p)
		return
	}
	var events waiter.EventMask
	reset := false
	if !listening {
		events = x.credit(h)
	}
	if x.local.cid != vmCIDAny && !listening {
		x.local.cid = uint32(h.DstCID) // it has changed if the device was reset
	}
	switch x.state {
	case vmListen:
		x.listened(tr, p)
		return
	case vmSynSent:
		events |= x.answered(h)
	case vmEstablished:
		events |= x.came(p)
	case vmClosing:
		if h.Op == vsock.OpReset {
			events |= x.end()
		}
	default:
		reset = true
	}
	over := x.closed && x.done
	x.mu.Unlock()
	if reset {
		s.vsockReset(tr, h)
	}
	s.drop(p)
	x.flush()
	if events != 0 {
		x.q.Notify(events)
	}
	if over {
		x.forget()
	}
}

// drop frees a packet's data, if nobody has taken it.
func (s *Stack) drop(p *vsockPacket) {
	if p.cost != 0 {
		s.cfg.Budget.Uncharge(p.cost)
		p.cost, p.data = 0, nil
	}
}

// credit takes over what a packet says of the other side's buffer. mu is held.
func (x *vsockSocket) credit(h *vsock.Header) waiter.EventMask {
	x.peerAlloc, x.peerFwd = h.BufAlloc, h.FwdCnt
	if x.writable() {
		x.asked = false
		return waiter.WritableEvents
	}
	return 0
}

// txMost is how much may be on the way at a time: the other side cannot make this one keep
// more than its own buffer. mu is held.
func (x *vsockSocket) txMost() int { return int(min(x.peerAlloc, x.bufAlloc)) }

// space is how much may be sent now. mu is held.
func (x *vsockSocket) space() int {
	return max(x.txMost()-int(x.txCnt-x.peerFwd), 0)
}

// writable says whether a send would go on: there is room for the message that waits, or
// there never will be. mu is held.
func (x *vsockSocket) writable() bool {
	n := x.space()
	return n > 0 && (n >= x.need || x.need > x.txMost())
}

// listened serves a packet to a listener, whose mutex it gives back.
func (l *vsockSocket) listened(tr vsockTransport, p *vsockPacket) {
	s, h := l.s, &p.h
	full := h.Op != vsock.OpRequest || len(l.pending) > l.backlog || l.closed
	var y *vsockSocket
	if !full {
		y, _ = s.newVsock(int(l.typ))
	}
	if y == nil {
		l.mu.Unlock()
		s.vsockReset(tr, h)
		s.drop(p)
		return
	}
	y.uid = l.uid
	y.opt.inherit(&l.opt)
	y.bufSize, y.bufMin, y.bufMax, y.connectTimeout = min(l.bufSize, 1<<32-1), l.bufMin, l.bufMax, l.connectTimeout
	y.bufAlloc, y.peerAlloc, y.peerFwd = uint32(y.bufSize), h.BufAlloc, h.FwdCnt
	y.state, y.tr, y.bound = vmEstablished, tr, true
	y.local = vmAddr{cid: uint32(h.DstCID), port: h.DstPort}
	y.remote = vmAddr{cid: uint32(h.SrcCID), port: h.SrcPort}
	if !y.join() {
		l.mu.Unlock()
		s.cfg.Budget.Uncharge(sockCost)
		s.vsockReset(tr, h)
		s.drop(p)
		return
	}
	s.register(&y.base, y)
	y.answer(vsock.OpResponse)
	l.pending = append(l.pending, y)
	l.mu.Unlock()
	s.drop(p)
	y.flush()
	l.q.Notify(waiter.ReadableEvents)
}

// join enters the connection among those that packets find; false if there is one already
// of the same addresses. mu is held, or nobody knows x yet.
func (x *vsockSocket) join() bool {
	t := &x.s.vsock
	t.mu.Lock()
	defer t.mu.Unlock()
	k := vmKey{x.remote.cid, x.remote.port, x.local.port}
	if t.connected[k] != nil {
		return false
	}
	if t.connected == nil {
		t.connected = make(map[vmKey]*vsockSocket)
	}
	t.connected[k] = x
	x.key, x.hasKey = k, true
	return true
}

// answered serves the answer to a request. mu is held.
func (x *vsockSocket) answered(h *vsock.Header) waiter.EventMask {
	err := unix.Errno(unix.EPROTO)
	switch h.Op {
	case vsock.OpInvalid:
		return 0
	case vsock.OpResponse:
		if x.join() {
			x.state, x.stage = vmEstablished, vmConnected
			return vmAll
		}
	case vsock.OpReset:
		err = unix.ECONNRESET
	}
	if h.Op != vsock.OpReset {
		x.answer(vsock.OpReset)
	}
	x.state, x.err = vmClose, err
	return vmAll
}

// came serves a packet of a connection. mu is held.
func (x *vsockSocket) came(p *vsockPacket) waiter.EventMask {
	switch p.h.Op {
	case vsock.OpData:
		return x.data(p)
	case vsock.OpCreditRequest:
		x.answer(vsock.OpCreditUpdate)
	case vsock.OpShutdown:
		x.peerShut |= p.h.Flags & vmShutBoth
		if x.peerShut == vmShutBoth {
			if x.rx.bytes == 0 {
				x.queue(vsock.OpReset, 0)
				x.end()
			}
			x.leave() // the other side's port may come again
			return vmAll
		}
		if p.h.Flags != 0 {
			return vmAll
		}
	case vsock.OpReset:
		return x.end()
	}
	return 0
}

// data queues what came. Where there is no room, which the other side knew, the connection
// ends. mu is held.
func (x *vsockSocket) data(p *vsockPacket) waiter.EventMask {
	if x.closed {
		return 0 // nobody will read it
	}
	if p.lost || !x.rx.push(p, int(x.bufAlloc), !x.stream()) {
		x.answer(vsock.OpReset)
		x.end()
		x.err = unix.ENOBUFS
		x.leave()
		return vmAll
	}
	if x.rx.ready(x.stream(), x.lowat()) {
		return waiter.ReadableEvents
	}
	return 0
}

// end is virtio_transport_do_close: nothing will come any more. mu is held.
func (x *vsockSocket) end() waiter.EventMask {
	x.done, x.peerShut = true, vmShutBoth
	if x.rx.bytes == 0 {
		x.state = vmClosing
	}
	return vmAll
}

// leave takes the connection out of its table, and one that is closed gives up its name.
// mu is held.
func (x *vsockSocket) leave() {
	t := &x.s.vsock
	t.mu.Lock()
	defer t.mu.Unlock()
	if x.hasKey {
		delete(t.connected, x.key)
		x.hasKey = false
	}
	if !x.closed {
		return
	}
	bs := t.bound[x.local.port]
	for i, b := range bs {
		if b.x == x {
			if bs = append(bs[:i:i], bs[i+1:]...); len(bs) == 0 {
				delete(t.bound, x.local.port)
			} else {
				t.bound[x.local.port] = bs
			}
			break
		}
	}
}

// Release implements vfs.FileOps. See virtio_transport_release: the other side is told, and
// until it has agreed, or for eight seconds, the address is taken.
func (x *vsockSocket) Release(*vfs.File) {
	x.setFilter(nil)
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		return
	}
	x.closed = true
	x.rx.clear()
	wait := false
	if x.tr != nil && (x.state == vmEstablished || x.state == vmClosing) {
		switch {
		case x.peerShut == vmShutBoth:
			x.queue(vsock.OpReset, 0)
		case x.done:
		default:
			if x.shut != vmShutBoth {
				x.queue(vsock.OpShutdown, vmShutBoth)
			}
			wait = true
		}
	}
	x.shut = vmShutBoth
	x.s.cfg.Timers.Stop(&x.connectTimer)
	pending := x.pending
	x.pending = nil
	if wait {
		x.s.cfg.Timers.Arm(&x.closeTimer, x.s.cfg.Timers.Now()+vmCloseTimeout)
	}
	x.mu.Unlock()
	x.s.list.remove(x.ino)
	x.flush()
	for _, y := range pending {
		y.Release(nil)
	}
	x.mu.Lock()
	over := !wait || x.done
	x.mu.Unlock()
	if over {
		x.forget()
	}
	x.q.Notify(waiter.EventHUp)
}

// forget ends a socket that is closed: its address is free.
func (x *vsockSocket) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.gone {
		return
	}
	x.gone, x.done = true, true
	x.s.cfg.Timers.Stop(&x.closeTimer)
	x.leave()
	x.rx.clear()
	x.s.cfg.Budget.Uncharge(sockCost)
}

func (x *vsockSocket) closeTimedOut() {
	x.mu.Lock()
	if !x.gone && !x.done {
		x.queue(vsock.OpReset, 0)
		x.end()
	}
	x.mu.Unlock()
	x.flush()
	x.forget()
}
