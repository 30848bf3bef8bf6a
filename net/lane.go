package net

import (
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/mm"
)

// lane is one direction of a fused connection: bytes that the writer's call has left and
// the reader's call takes. It holds what the reader's window and the writer's send buffer
// would hold in a connection of segments; the part beyond the window counts as the writer's
// unsent bytes.
type lane struct {
	u *fuses
	// Each is nil once its socket is closed, whose memory the other one must not keep.
	writer, reader atomic.Pointer[inetSocket]

	mu         sync.Mutex
	head, tail *piece
	// starved says that the writer found no room, and is to be told when there is some.
	starved bool
	// size is the bytes in the lane, closed that no more will come: both are written under
	// mu, closed behind the last byte.
	size   atomic.Int64
	closed atomic.Bool
	// writes counts what would have been segments.
	writes atomic.Uint64
}

// piece is bytes [r, w) of b.
type piece struct {
	next *piece
	b    []byte
	r, w int
	pool *sync.Pool
}

func newLane(u *fuses, writer, reader *inetSocket) *lane {
	l := &lane{u: u}
	l.writer.Store(writer)
	l.reader.Store(reader)
	return l
}

// tell notifies one of the lane's sockets.
func tell(x *atomic.Pointer[inetSocket], e waiter.EventMask) {
	if x := x.Load(); x != nil {
		x.q.Notify(e)
	}
}

// pieceCost is what a piece takes beside its bytes.
const pieceCost = 64

var piecePools = [...]struct {
	size int
	pool sync.Pool
}{{size: 2<<10 - pieceCost}, {size: 16 << 10}, {size: 64 << 10}}

// newPiece is one for n bytes, or as many as a piece can have.
func (u *fuses) newPiece(n int) *piece {
	i := 0
	for i < len(piecePools)-1 && piecePools[i].size < n {
		i++
	}
	p, _ := piecePools[i].pool.Get().(*piece)
	if p == nil {
		p = &piece{b: make([]byte, piecePools[i].size), pool: &piecePools[i].pool}
	}
	u.held.Add(int64(len(p.b) + pieceCost))
	return p
}

func (u *fuses) free(p *piece) {
	u.held.Add(-int64(len(p.b) + pieceCost))
	p.next, p.r, p.w = nil, 0, 0
	p.pool.Put(p)
}

// capacity is the writer's send buffer and the reader's window, in bytes. When memory for
// all lanes is short a lane gets what is left, and no less than the least buffer.
func (l *lane) capacity() (snd, win int64) {
	if x := l.writer.Load(); x != nil {
		snd = x.ep().SocketOptions().GetSendBufferSize()
	}
	if x := l.reader.Load(); x != nil {
		// Netstack's window, which keeps the other half for what frames cost.
		win = x.ep().SocketOptions().GetReceiveBufferSize() / 2
	}
	if left := max(l.u.limit-l.u.held.Load(), leastBuffer); snd+win > left {
		win = min(win, left/2)
		snd = left - win
	}
	return snd, win
}

// room is how much may be written now. mu is held.
func (l *lane) room() int {
	snd, win := l.capacity()
	n := snd + win - l.size.Load()
	if x := l.writer.Load(); n <= 0 && x != nil && !x.opt.sndBuf.Load() {
		// A send buffer that the program has not chosen grows with its use.
		o := x.ep().SocketOptions()
		_, most := o.SendBufferLimits()
		if more := min(2*snd, most); more > o.GetSendBufferSize() && l.u.held.Load()+more < l.u.limit/2 {
			o.SetSendBufferSize(more, false)
			n += more - snd
		}
	}
	return int(n)
}

// split is the lane's bytes as the reader's received and the writer's unsent ones.
func (l *lane) split() (received, unsent int) {
	n := l.size.Load()
	if n == 0 {
		return 0, 0
	}
	_, win := l.capacity()
	received = int(min(n, max(win, 0)))
	return received, int(n) - received
}

// writable says whether there is room; the writer will be told if there is none.
func (l *lane) writable() bool {
	l.mu.Lock()
	ok := l.room() > 0
	if !ok {
		l.starved = true
	}
	l.mu.Unlock()
	return ok
}

// enough says whether the reader has low bytes, or as many as his window holds: more will not
// come then.
func (l *lane) enough(low int) bool {
	n := l.size.Load()
	if n >= int64(low) {
		return true
	}
	_, win := l.capacity()
	return n > 0 && n >= win
}

// aloud is the most that a write copies under mu.
const aloud = 4 << 10

// write appends what there is room for, in one piece even beside other writers; false: the
// lane is closed, and nothing was taken.
func (l *lane) write(src *mm.IOSeq) (done int, ok bool, err error) {
	l.mu.Lock()
	if l.closed.Load() {
		l.mu.Unlock()
		return 0, false, nil
	}
	room := l.room()
	if room < src.Len() {
		l.starved = true
	}
	n := min(room, src.Len())
	if n > 0 && n <= aloud {
		before, tail, w := *src, l.tail, 0
		if tail != nil {
			w = tail.w
		}
		if done, err = l.put(src, n); err != nil {
			l.drop(tail, w)
			*src, done = before, 0
		}
		l.size.Add(int64(done))
	}
	l.mu.Unlock()
	if n > aloud || err != nil {
		if done, err = l.writeMuch(src, n); err == errClosedLane {
			return 0, false, nil
		}
	}
	if done > 0 {
		l.wrote(done)
		err = nil
	}
	return done, true, err
}

// drop takes back what was put behind byte w of tail. mu is held.
func (l *lane) drop(tail *piece, w int) {
	rest := l.head
	if tail != nil {
		tail.w = w
		rest, tail.next = tail.next, nil
	} else {
		l.head = nil
	}
	l.tail = tail
	l.freeAll(rest)
}

func (l *lane) freeAll(p *piece) {
	for p != nil {
		next := p.next
		l.u.free(p)
		p = next
	}
}

// errClosedLane never leaves write.
var errClosedLane = errors.New("net: the lane was closed meanwhile")

// wrote counts a write and tells the reader.
func (l *lane) wrote(n int) {
	l.writes.Add(1)
	l.u.packets.Add(1)
	l.u.bytes.Add(uint64(n))
	tell(&l.reader, waiter.ReadableEvents)
}

// put appends n bytes of src with copies that do not fault. mu is held.
func (l *lane) put(src *mm.IOSeq, n int) (done int, err error) {
	for done < n {
		t := l.tail
		if t == nil || t.w == len(t.b) {
			// Where much waits already, more will.
			t = l.u.newPiece(max(n-done, min(int(l.size.Load()), 16<<10)))
			l.link(t, t)
		}
		b := t.b[t.w:min(len(t.b), t.w+n-done)]
		k := len(b)
		if !src.Take(b) {
			k, err = src.CopyInNoFault(b)
		}
		t.w += k
		done += k
		if err != nil || k == 0 {
			break
		}
	}
	return done, err
}

// link appends pieces. mu is held.
func (l *lane) link(first, last *piece) {
	if l.tail == nil {
		l.head = first
	} else {
		l.tail.next = first
	}
	l.tail = last
}

// writeMuch copies n bytes without mu, so that the reader goes on meanwhile, and appends
// them: errClosedLane, and nothing has been taken. A writer beside it may have used the room:
// the lane is over-full then by one write.
func (l *lane) writeMuch(src *mm.IOSeq, n int) (done int, err error) {
	before := *src
	var first, last *piece
	for done < n {
		p := l.u.newPiece(n - done)
		var k int
		k, err = src.CopyIn(p.b[:min(len(p.b), n-done)])
		if k == 0 {
			l.u.free(p)
			break
		}
		p.w = k
		done += k
		if first == nil {
			first = p
		} else {
			last.next = p
		}
		last = p
		if err != nil {
			break
		}
	}
	if done == 0 {
		return 0, err
	}
	l.mu.Lock()
	if l.closed.Load() {
		l.mu.Unlock()
		l.freeAll(first)
		*src = before
		return 0, errClosedLane
	}
	l.link(first, last)
	l.size.Add(int64(done))
	l.mu.Unlock()
	return done, err
}

// take is what readFused does with bytes.
func (l *lane) take(dst *mm.IOSeq, how int) (int, error) {
	switch how {
	case unix.MSG_PEEK:
		// Through a kernel buffer: a second try would start over.
		buf, put := scratch(dst.Len())
		defer put()
		return dst.CopyOut(buf[:l.peek(buf)])
	case unix.MSG_PEEK | unix.MSG_TRUNC:
		n := int(min(l.size.Load(), int64(dst.Len())))
		dst.Skip(n)
		return n, nil
	case unix.MSG_TRUNC:
		n := l.discard(dst.Len())
		dst.Skip(n)
		return n, nil
	}
	return l.read(dst)
}

// read takes bytes; 0: there are none, or the error of a bad address.
func (l *lane) read(dst *mm.IOSeq) (done int, err error) {
	for {
		fault := false
		l.mu.Lock()
		k := 0
		for h := l.head; h != nil && dst.Len() > 0; h = l.head {
			b := h.b[h.r:min(h.w, h.r+dst.Len())]
			n := len(b)
			if !dst.Put(b) {
				n, err = dst.CopyOutNoFault(b)
			}
			k += n
			if h.r += n; err != nil {
				fault = true
				break
			}
			l.shift()
		}
		wake := l.took(k)
		l.mu.Unlock()
		done += k
		if wake {
			tell(&l.writer, waiter.WritableEvents)
		}
		if !fault {
			return done, nil
		}
		if err = dst.FaultIn(true); err != nil {
			if done > 0 {
				err = nil
			}
			return done, err
		}
	}
}

// shift frees the first piece if it has been read. mu is held.
func (l *lane) shift() {
	h := l.head
	if h.r < h.w {
		return
	}
	if l.head = h.next; l.head == nil {
		l.tail = nil
	}
	l.u.free(h)
}

// took counts n bytes off; true: tell the writer. mu is held.
func (l *lane) took(n int) bool {
	if n > 0 {
		l.size.Add(-int64(n))
	}
	return l.starved && l.relieved()
}

// relieved says, once, that half of the send buffer is free again, as Linux and netstack
// wait for before they wake a writer. mu is held.
func (l *lane) relieved() bool {
	snd, win := l.capacity()
	if !l.closed.Load() && snd+win-l.size.Load() < max(snd/2, 1) {
		return false
	}
	l.starved = false
	return true
}

// resized wakes the writer if there is room since a buffer has grown.
func (l *lane) resized() {
	l.mu.Lock()
	wake := l.starved && l.relieved()
	l.mu.Unlock()
	if wake {
		tell(&l.writer, waiter.WritableEvents)
	}
}

// peek copies the first bytes to b and leaves them.
func (l *lane) peek(b []byte) (n int) {
	l.mu.Lock()
	for h := l.head; h != nil && n < len(b); h = h.next {
		n += copy(b[n:], h.b[h.r:h.w])
	}
	l.mu.Unlock()
	return n
}

// discard drops up to n bytes from the front and says how many.
func (l *lane) discard(n int) (done int) {
	l.mu.Lock()
	for h := l.head; h != nil && done < n; h = l.head {
		k := min(h.w-h.r, n-done)
		h.r += k
		done += k
		l.shift()
	}
	wake := l.took(done)
	l.mu.Unlock()
	if wake {
		tell(&l.writer, waiter.WritableEvents)
	}
	return done
}

// close ends the writing; a writer who waits for room hears of it.
func (l *lane) close() {
	l.mu.Lock()
	l.closed.Store(true)
	wake := l.starved
	l.starved = false
	l.mu.Unlock()
	if wake {
		tell(&l.writer, waiter.WritableEvents)
	}
}

// cut drops what a reset leaves unsent: the bytes beyond the reader's window. The lane is
// closed.
func (l *lane) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	keep, over := l.split()
	if over == 0 {
		return
	}
	l.size.Store(int64(keep))
	for h := l.head; h != nil; h = h.next {
		if n := h.w - h.r; n < keep {
			keep -= n
			continue
		}
		h.w = h.r + keep
		rest := h.next
		h.next, l.tail = nil, h
		l.freeAll(rest)
		return
	}
}
