package net

import (
	"golang.org/x/sys/unix"

	"kiln/drivers/virtio/vsock"
	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// vsockQueue is what a socket has received: bytes in chunks, and for sockets of packets
// where messages end. Its owner's mutex guards it.
type vsockQueue struct {
	budget *mm.Budget
	chunks []vsockChunk
	bytes  int
	in     uint64 // bytes that ever came
	out    uint64 // and went
	ends   []vsockEnd
}

type vsockChunk struct {
	b    []byte
	off  int
	cost int64
}

// vsockEnd is the end of a message: the number of bytes that had come with it.
type vsockEnd struct {
	at     uint64
	record bool
}

const (
	vsockSmall   = 128 // data that is copied to what came before it (GOOD_COPY_LEN)
	vsockChunkTo = 1024
	vsockEndCost = 32
	vsockEndsMin = 1024
)

// push queues a packet's data, with what was charged for it: false if it is more than
// limit, or there is no memory.
func (q *vsockQueue) push(p *vsockPacket, limit int, messages bool) bool {
	n := len(p.data)
	if q.bytes+n > limit {
		return false
	}
	end := messages && p.h.Flags&vsock.EndOfMessage != 0
	if end && (len(q.ends) >= max(limit, vsockEndsMin) || !q.budget.Charge(vsockEndCost)) {
		return false
	}
	if n > 0 {
		q.append(p)
		q.bytes += n
		q.in += uint64(n)
	}
	if end {
		q.ends = append(q.ends, vsockEnd{q.in, p.h.Flags&vsock.EndOfRecord != 0})
	}
	return true
}

// append takes a packet's data over; small pieces share a chunk.
func (q *vsockQueue) append(p *vsockPacket) {
	if n := len(p.data); n <= vsockSmall && len(q.chunks) > 0 {
		last := &q.chunks[len(q.chunks)-1]
		if cap(last.b)-len(last.b) >= n {
			last.b = append(last.b, p.data...)
			return // p is dropped with its charge
		}
		if len(last.b) <= vsockSmall || cap(last.b) == vsockChunkTo {
			if q.budget.Charge(vsockChunkTo + msgCost) {
				b := append(make([]byte, 0, vsockChunkTo), p.data...)
				q.chunks = append(q.chunks, vsockChunk{b: b, cost: vsockChunkTo + msgCost})
				return
			}
		}
	}
	q.chunks = append(q.chunks, vsockChunk{b: p.data[:len(p.data):len(p.data)], cost: p.cost})
	p.data, p.cost = nil, 0
}

// ready says whether a receive would find something: so many bytes, or a message.
func (q *vsockQueue) ready(stream bool, lowat int) bool {
	if stream {
		return q.bytes >= lowat
	}
	return len(q.ends) > 0
}

// advance lets go of n bytes.
func (q *vsockQueue) advance(n int) {
	q.bytes -= n
	q.out += uint64(n)
	for n > 0 {
		c := &q.chunks[0]
		k := min(n, len(c.b)-c.off)
		c.off += k
		if n -= k; c.off == len(c.b) {
			q.budget.Uncharge(c.cost)
			*c = vsockChunk{}
			if q.chunks = q.chunks[1:]; len(q.chunks) == 0 {
				q.chunks = nil
			}
		}
	}
}

// message takes the first message out: its bytes, which stay charged with cost.
func (q *vsockQueue) message() (b [][]byte, n int, cost int64, record bool) {
	e := q.ends[0]
	if q.ends = q.ends[1:]; len(q.ends) == 0 {
		q.ends = nil
	}
	q.budget.Uncharge(vsockEndCost)
	n = int(e.at - q.out)
	q.bytes -= n
	q.out = e.at
	for left := n; left > 0; {
		c := &q.chunks[0]
		k := min(left, len(c.b)-c.off)
		b = append(b, c.b[c.off:c.off+k])
		c.off += k
		if left -= k; c.off == len(c.b) {
			cost += c.cost
			*c = vsockChunk{}
			if q.chunks = q.chunks[1:]; len(q.chunks) == 0 {
				q.chunks = nil
			}
		}
	}
	return b, n, cost, e.record
}

// clear drops everything.
func (q *vsockQueue) clear() {
	for _, c := range q.chunks {
		q.budget.Uncharge(c.cost)
	}
	q.budget.Uncharge(vsockEndCost * int64(len(q.ends)))
	q.chunks, q.ends, q.bytes, q.out = nil, nil, 0, q.in
}

// Write implements vfs.FileOps.
func (x *vsockSocket) Write(_ wait.Context, _ *vfs.File, src *mm.IOSeq, _ int64) (int, error) {
	return x.Send(nil, src, &SendMsg{})
}

// Send implements Socket. See vsock_connectible_sendmsg: EOPNOTSUPP and EISCONN for a
// destination, EPIPE, ENOTCONN; control messages mean nothing.
func (x *vsockSocket) Send(_ *Caller, src *mm.IOSeq, m *SendMsg) (int, error) {
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	x.mu.Lock()
	err := x.maySend(len(m.Name) > 0)
	x.mu.Unlock()
	if err != nil || src.Len() == 0 {
		return 0, err
	}
	if !x.stream() {
		return x.sendMessage(src, m)
	}
	done := 0
	for src.Len() > 0 {
		n, err := x.sendSome(src)
		if done += n; err != nil {
			if done > 0 {
				err = nil
			}
			return done, err
		}
	}
	return done, nil
}

// maySend says why nothing can be sent. mu is held.
func (x *vsockSocket) maySend(named bool) error {
	switch {
	case named && x.state == vmEstablished:
		return unix.EISCONN
	case named:
		return unix.EOPNOTSUPP
	case x.shut&vmShutSnd != 0 || x.peerShut&vmShutRcv != 0:
		return unix.EPIPE
	case x.tr == nil || x.state != vmEstablished || !x.bound:
		return unix.ENOTCONN
	}
	return nil
}

// reserve takes credit for n bytes, or for part of them if some is true: EAGAIN, and what
// ends the connection. The packets' size is most.
func (x *vsockSocket) reserve(n int, some bool) (got, most int, err error) {
	x.mu.Lock()
	space := x.space()
	if space < n && !(some && space > 0) {
		if err = x.err; err == nil {
			if err = x.maySend(false); err == nil {
				err = unix.EAGAIN
				if x.need = n; some {
					x.need = 1
				}
				x.askCredit()
			}
		}
		x.mu.Unlock()
		x.flush()
		return 0, 0, err
	}
	defer x.mu.Unlock()
	if x.err != nil {
		return 0, 0, x.err
	}
	if err := x.maySend(false); err != nil {
		return 0, 0, err
	}
	got, most = min(n, space), x.tr.most()
	if some {
		got = min(got, most)
	}
	x.need = 0
	x.txCnt += uint32(got)
	return got, most, nil
}

// askCredit asks a device's other side how much it has room for, once (5.10.6.3.1); the
// loopback needs no asking. mu is held.
func (x *vsockSocket) askCredit() {
	if _, card := x.tr.(*vsockCard); card && !x.asked {
		x.asked = true
		x.queue(vsock.OpCreditRequest, 0)
	}
}

// refund gives credit back for what was not sent.
func (x *vsockSocket) refund(n int) {
	x.mu.Lock()
	x.txCnt -= uint32(n)
	x.mu.Unlock()
}

// copyIn makes a packet of n bytes of src: ENOMEM also for what cannot be read, as there.
func (x *vsockSocket) copyIn(src *mm.IOSeq, n int) (vsockPacket, error) {
	p := vsockPacket{cost: int64(n) + msgCost}
	if !x.s.cfg.Budget.Charge(p.cost) {
		return p, unix.ENOMEM
	}
	p.data = make([]byte, n)
	if k, err := src.CopyIn(p.data); err != nil || k < n {
		x.s.drop(&p)
		return p, unix.ENOMEM
	}
	return p, nil
}

// enqueue queues data that credit was taken for, and sends it: EPIPE if the connection has
// ended meanwhile.
func (x *vsockSocket) enqueue(ps []vsockPacket, flags uint32) error {
	x.mu.Lock()
	if x.state != vmEstablished || x.closed {
		for i := range ps {
			x.txCnt -= uint32(len(ps[i].data))
			x.s.drop(&ps[i])
		}
		x.mu.Unlock()
		return unix.EPIPE
	}
	for i := range ps {
		ps[i].h = x.header(vsock.OpData, 0)
		ps[i].h.Len = uint32(len(ps[i].data))
	}
	ps[len(ps)-1].h.Flags = flags
	x.out = append(x.out, ps...)
	x.mu.Unlock()
	x.flush()
	return nil
}

// sendSome sends a packet of a stream.
func (x *vsockSocket) sendSome(src *mm.IOSeq) (int, error) {
	n, _, err := x.reserve(src.Len(), true)
	if err != nil {
		return 0, err
	}
	p, err := x.copyIn(src, n)
	if err != nil {
		x.refund(n)
		return 0, err
	}
	return n, x.enqueue([]vsockPacket{p}, 0)
}

// sendMessage sends a message, all of it or nothing: Linux sends what there is credit for,
// also where it then answers EAGAIN, and the message is spoilt.
func (x *vsockSocket) sendMessage(src *mm.IOSeq, m *SendMsg) (int, error) {
	size := src.Len()
	x.mu.Lock()
	most := x.txMost()
	x.mu.Unlock()
	if size > most {
		return 0, unix.ENOMEM // where EMSGSIZE was meant
	}
	n, most, err := x.reserve(size, false)
	if err != nil {
		return 0, err
	}
	var ps []vsockPacket
	for left := n; left > 0; {
		p, err := x.copyIn(src, min(left, most))
		if err != nil {
			for i := range ps {
				x.s.drop(&ps[i])
			}
			x.refund(n)
			return 0, err
		}
		left -= len(p.data)
		ps = append(ps, p)
	}
	flags := uint32(vsock.EndOfMessage)
	if m.Flags&unix.MSG_EOR != 0 {
		flags |= vsock.EndOfRecord
	}
	if err := x.enqueue(ps, flags); err != nil {
		return 0, err
	}
	return n, nil
}

// Read implements vfs.FileOps.
func (x *vsockSocket) Read(_ wait.Context, f *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	return x.Recv(nil, dst, &RecvMsg{Nonblock: f != nil && f.Nonblocking()})
}

// Recv implements Socket. See vsock_connectible_recvmsg.
func (x *vsockSocket) Recv(_ *Caller, dst *mm.IOSeq, m *RecvMsg) (int, error) {
	if m.Flags&unix.MSG_ERRQUEUE != 0 {
		return 0, unix.EAGAIN
	}
	x.mu.Lock()
	err, done, connected, shut := error(nil), x.done, x.tr != nil && x.state == vmEstablished, x.shut&vmShutRcv != 0
	x.mu.Unlock()
	switch {
	case !connected && !done:
		err = unix.ENOTCONN
	case !connected:
		return 0, nil
	case m.Flags&unix.MSG_OOB != 0:
		err = unix.EOPNOTSUPP
	}
	if err != nil || shut || dst.Len() == 0 {
		return 0, err
	}
	if x.stream() {
		return x.recvStream(dst, m)
	}
	return x.recvMessage(dst, m)
}

// enough is how many bytes a receive waits for: ENOMEM for more than the buffer holds. The
// other side may be unable to have so many on the way. mu is held.
func (x *vsockSocket) enough(n int, m *RecvMsg) (int, error) {
	target := min(x.lowat(), n)
	if m.Flags&unix.MSG_WAITALL != 0 {
		target = n
	}
	if uint64(target) >= x.bufSize {
		return 0, unix.ENOMEM
	}
	if m.Flags&(unix.MSG_WAITALL|unix.MSG_PEEK) != 0 || m.Nonblock {
		return 1, nil // the caller asks again for the rest
	}
	return max(min(target, int(x.peerAlloc)), 1), nil
}

// nothing is the answer of an empty queue. mu is held.
func (x *vsockSocket) nothing() error {
	switch {
	case x.err != nil:
		return x.err
	case x.shut&vmShutRcv != 0 || x.peerShut&vmShutSnd != 0:
		return nil
	}
	return unix.EAGAIN
}

// recvStream copies queued bytes under the lock without faulting; a page that is absent is
// brought in without it.
func (x *vsockSocket) recvStream(dst *mm.IOSeq, m *RecvMsg) (int, error) {
	peek, done := m.Flags&unix.MSG_PEEK != 0, 0
	for {
		x.mu.Lock()
		target, err := x.enough(dst.Len(), m)
		if err != nil && done == 0 {
			x.mu.Unlock()
			return 0, err
		}
		if ended := x.nothing() != unix.EAGAIN; done == 0 && (x.rx.bytes == 0 || x.rx.bytes < target && !ended) {
			err := x.nothing()
			x.mu.Unlock()
			return 0, err
		}
		skip := 0
		if peek {
			skip = done
		}
		n, fault := x.rx.copyOut(dst, skip)
		done += n
		if !peek {
			x.read(n)
		}
		x.mu.Unlock()
		x.flush()
		if !fault {
			return done, nil
		}
		if dst.FaultIn(true) != nil {
			if done > 0 {
				return done, nil
			}
			return 0, unix.ENOMEM // as there
		}
	}
}

// copyOut copies from the queue, without what it begins with up to skip, as far as there
// are pages.
func (q *vsockQueue) copyOut(dst *mm.IOSeq, skip int) (n int, fault bool) {
	for i := 0; i < len(q.chunks) && dst.Len() > 0; i++ {
		b := q.chunks[i].b[q.chunks[i].off:]
		if skip >= len(b) {
			skip -= len(b)
			continue
		}
		k, err := dst.CopyOutNoFault(b[skip:])
		skip = 0
		n += k
		if err != nil {
			return n, true
		}
	}
	return n, false
}

// read lets go of n bytes that were read, and tells the other side if that has little room
// left or the reader waits for it. mu is held; flush follows.
func (x *vsockSocket) read(n int) {
	x.rx.advance(n)
	x.fwdCnt += uint32(n)
	if unheard := x.fwdCnt - x.toldFwd; unheard > 0 && (int64(x.bufAlloc)-int64(unheard) < vsockLoopMost || x.rx.bytes < x.lowat()) {
		x.queue(vsock.OpCreditUpdate, 0)
	}
}

// recvMessage takes one message whole; what does not fit is cut, and what cannot be copied
// is lost, as there.
func (x *vsockSocket) recvMessage(dst *mm.IOSeq, m *RecvMsg) (int, error) {
	x.mu.Lock()
	if len(x.rx.ends) == 0 {
		err := x.nothing()
		x.mu.Unlock()
		return 0, err
	}
	if m.Flags&unix.MSG_PEEK != 0 {
		x.mu.Unlock()
		return 0, unix.ENOMEM // there is no peeking; EOPNOTSUPP was meant
	}
	parts, size, cost, record := x.rx.message()
	x.fwdCnt += uint32(size)
	x.queue(vsock.OpCreditUpdate, 0)
	err := x.err
	x.mu.Unlock()
	x.flush()
	defer x.s.cfg.Budget.Uncharge(cost)
	if err != nil {
		return 0, err
	}
	done := 0
	for _, b := range parts {
		n, err := dst.CopyOut(b)
		done += n
		if err != nil {
			return 0, unix.ENOMEM
		}
		if n < len(b) {
			break
		}
	}
	m.Full = size
	if size > done {
		m.OutFlags |= unix.MSG_TRUNC
	}
	if record {
		m.OutFlags |= unix.MSG_EOR
	}
	return done, nil
}
