package net

import (
	"slices"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// unixMsg is a queued message, or a piece of a stream.
type unixMsg struct {
	v     *unixBytes // nil: empty
	from  []byte     // sender's address (datagrams)
	creds Ucred      // nobody's unless somebody asked for them
	files []*vfs.File
	user  uint32 // who pays for the files
	oob   bool   // the urgent byte
	cost  int64  // charged to the budget
	off   int    // bytes of v already read
	sent  *unixSent
	size  int64 // in sent
}

// nobody are the credentials of a message that has none: no process, overflowuid.
var nobody = Ucred{UID: 65534, GID: 65534}

func (m *unixMsg) len() int {
	if m.v == nil {
		return 0
	}
	return m.v.n - m.off
}

func (m *unixMsg) bytes() []byte {
	if m.v == nil {
		return nil
	}
	return m.v.b[m.off:m.v.n]
}

// free gives the bytes back; the files have been taken. No lock may be held.
func (m *unixMsg) free(s *Stack) {
	m.give(s)
	m.sent.tell()
}

// give gives the bytes back; the sender is to be told.
func (m *unixMsg) give(s *Stack) {
	m.v.release()
	m.v = nil
	s.cfg.Budget.Uncharge(m.cost)
	m.sent.size.Add(-m.size)
}

// drop frees a message that nobody read. No lock may be held: a file in it may be a
// socket.
func (m *unixMsg) drop(s *Stack) {
	if len(m.files) > 0 {
		f := &s.unix.flights
		f.mu.Lock()
		f.count(m.files, m.user, -1)
		f.mu.Unlock()
		for _, x := range m.files {
			x.DecRef()
		}
		m.files = nil
	}
	m.free(s)
}

// Write implements vfs.FileOps.
func (x *unixSocket) Write(c wait.Context, _ *vfs.File, src *mm.IOSeq, _ int64) (int, error) {
	caller := callerOf(c)
	return x.send(&caller, src, &SendMsg{})
}

// Send implements Socket: EINVAL for control messages that are not AF_UNIX's,
// ETOOMANYREFS, and those of the kind.
func (x *unixSocket) Send(c *Caller, src *mm.IOSeq, m *SendMsg) (int, error) {
	return x.send(c, src, m)
}

func (x *unixSocket) send(c *Caller, src *mm.IOSeq, m *SendMsg) (int, error) {
	if x.typ == unix.SOCK_SEQPACKET {
		if err := x.TakeError(); err != nil {
			return 0, err
		}
		if !x.isConnected() {
			return 0, unix.ENOTCONN
		}
	}
	if m.Control.Bad != nil {
		return 0, m.Control.Bad
	}
	if m.Flags&unix.MSG_OOB != 0 && (!x.stream() || src.Len() == 0) {
		return 0, unix.EOPNOTSUPP
	}
	peer, err := x.target(c, m, src.Len())
	if err != nil {
		looked := err != unix.EINVAL && err != unix.EPIPE && err != unix.ECONNRESET
		if x.dgram() && len(m.Name) > 0 && looked && unreadable(src) {
			err = unix.EFAULT // the message is read before its receiver is looked for
		}
		return 0, err
	}
	if len(m.Control.Files) > 0 {
		if err := x.s.unix.flights.mayFly(c, m.Control.MaxFiles); err != nil {
			return 0, err
		}
	}
	switch {
	case m.Flags&unix.MSG_OOB != 0:
		return x.sendOOB(c, peer, src, m)
	case x.stream():
		return x.sendStream(c, peer, src, m)
	}
	return x.sendMessage(c, peer, src, m)
}

// Defer implements Socket: the error is one of those that wait.
func (x *unixSocket) Defer(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.err = err
}

// TakeError implements Socket: the error that waits (sock_error).
func (x *unixSocket) TakeError() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	err := x.err
	x.err = nil
	return err
}

func (x *unixSocket) isConnected() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.connected
}

// unreadable says that a message cannot be read.
func unreadable(src *mm.IOSeq) bool {
	again, n := *src, src.Len()
	buf, put := scratch(n)
	defer put()
	k, err := again.CopyIn(buf)
	return err != nil || k < min(n, len(buf))
}

// target is who gets a message of size bytes. A stream that is to send nothing leaves the error that
// waits (sock_alloc_send_pskb is for the bytes).
func (x *unixSocket) target(c *Caller, m *SendMsg, size int) (*unixSocket, error) {
	x.mu.Lock()
	peer, connected, shut, gone, waits := x.peer, x.connected, x.sndShut, x.peerGone, x.err != nil
	x.mu.Unlock()
	if !x.dgram() {
		if len(m.Name) > 0 && x.stream() {
			if connected {
				return nil, unix.EISCONN
			}
			return nil, unix.EOPNOTSUPP
		}
		if !connected {
			return nil, unix.ENOTCONN
		}
		if !x.stream() && x.opt.passcred.Load() {
			if err := x.autobind(); err != nil {
				return nil, err
			}
		}
		if shut || gone || peer == nil {
			return nil, unix.EPIPE
		}
		if waits && (size > 0 || !x.stream()) {
			if err := x.TakeError(); err != nil {
				return nil, err
			}
		}
		return peer, nil
	}
	var to string
	if len(m.Name) > 0 {
		var bad error
		if to, bad = unixAddr(m.Name); bad != nil {
			return nil, bad
		}
	} else if peer == nil {
		return nil, unix.ENOTCONN
	}
	if x.opt.passcred.Load() {
		if err := x.autobind(); err != nil {
			return nil, err
		}
	}
	if err := x.TakeError(); err != nil {
		return nil, err
	}
	if shut {
		return nil, unix.EPIPE
	}
	if len(m.Name) > 0 {
		var err error
		if peer, err = x.find(c, to); err != nil {
			return nil, err
		}
		if peer.typ != x.typ {
			return nil, unix.EPROTOTYPE
		}
	}
	return peer, nil
}

// fill copies n bytes of src into a new message, charged to the budget and counted in the
// send buffer.
func (x *unixSocket) fill(c *Caller, src *mm.IOSeq, n int, m *SendMsg) (unixMsg, error) {
	_, held := unixPool(n)
	msg := unixMsg{cost: int64(held) + msgCost + flightCost*int64(len(m.Control.Files)), creds: nobody, sent: x.sent, size: x.skbSize(n)}
	if err := x.sent.charge(x.s.cfg.Budget, msg.cost); err != nil {
		return msg, err
	}
	x.sent.size.Add(msg.size)
	if c != nil && c.Creds != nil {
		msg.user = c.Creds.UID
	}
	if n > 0 {
		msg.v = newUnixBytes(n)
		if k, err := src.CopyIn(msg.bytes()); err != nil || k < n {
			msg.free(x.s)
			if err == nil {
				err = unix.EFAULT
			}
			return msg, err
		}
	}
	return msg, nil
}

// sign gives a message its credentials: those that were claimed, or the sender's where
// one of the two wants to know or nobody has accepted the receiver yet (maybe_add_creds).
// The receiver's mu is held.
func (x *unixSocket) sign(peer *unixSocket, msg *unixMsg, c *Caller, m *SendMsg) {
	switch {
	case m.Control.HasCreds:
		msg.creds = m.Control.Creds
	case x.opt.passcred.Load() || peer.opt.passcred.Load() || peer.embryo:
		if msg.creds = x.made; c != nil && c.Creds != nil {
			msg.creds = c.sender()
		}
	}
}

// sendStream queues what fits. The room is looked at before the copy, which may
// fault, and a racing writer at worst goes over it by one piece.
func (x *unixSocket) sendStream(c *Caller, peer *unixSocket, src *mm.IOSeq, m *SendMsg) (int, error) {
	done := 0
	for src.Len() > 0 {
		if x.sent.full() {
			break
		}
		msg, err := x.fill(c, src, x.sent.streamPiece(src.Len()), m)
		if err != nil {
			if done > 0 {
				return done, nil
			}
			return 0, err
		}
		n := msg.len()
		if err := x.deliver(c, peer, &msg, m); err != nil {
			msg.free(x.s)
			if done > 0 {
				return done, nil
			}
			return 0, err
		}
		done += n
	}
	if done == 0 && src.Len() > 0 {
		return 0, unix.EAGAIN
	}
	return done, nil
}

// mayGo says whether the peer takes a message now: EPERM, ECONNREFUSED, EPIPE, EAGAIN, ENOBUFS.
func (x *unixSocket) mayGo(peer *unixSocket) error {
	peer.mu.Lock()
	defer peer.mu.Unlock()
	switch {
	case x.dgram() && !peer.takes(x):
		return unix.EPERM
	case peer.closed:
		return unix.ECONNREFUSED
	case peer.rcvShut:
		return unix.EPIPE
	case peer.crowded(x) && !peer.wants(x):
		return unix.ENOBUFS
	case peer.crowded(x):
		return unix.EAGAIN
	}
	return nil
}

// deliver appends to the peer's queue, with the message's files the first time: EPIPE
// if the peer takes nothing any more.
func (x *unixSocket) deliver(c *Caller, peer *unixSocket, msg *unixMsg, m *SendMsg) error {
	files := m.Control.Files
	if len(files) > 0 {
		f := &x.s.unix.flights
		f.mu.Lock()
		defer f.mu.Unlock()
	}
	peer.mu.Lock()
	if peer.closed || peer.rcvShut {
		peer.mu.Unlock()
		return unix.EPIPE
	}
	x.sign(peer, msg, c, m)
	if len(files) > 0 {
		msg.files = files
		m.Control.Files = nil
		x.s.unix.flights.count(files, msg.user, 1)
		peer.withFiles++
	}
	if msg.oob {
		if i := peer.urgent(); i >= 0 {
			peer.rx[i].oob = false // the older one becomes an ordinary byte
		}
	}
	peer.push(msg)
	peer.mu.Unlock()
	peer.q.Notify(waiter.ReadableEvents)
	return nil
}

// push appends a message to the queue. mu is held.
func (x *unixSocket) push(m *unixMsg) {
	if len(x.rx) == 0 {
		if x.room == nil {
			x.room = make([]unixMsg, 0, 2)
		}
		x.rx = x.room
	}
	grown := len(x.rx) == cap(x.rx)
	x.rx = append(x.rx, *m)
	if grown {
		clear(x.room[:cap(x.room)])
	}
	x.rxBytes += m.len()
}

// shift takes the first message off the queue. mu is held.
func (x *unixSocket) shift() {
	x.rx[0] = unixMsg{}
	if x.rx = x.rx[1:]; len(x.rx) == 0 {
		x.rx = nil
	}
}

// sendMessage queues one datagram: EMSGSIZE, ECONNREFUSED, EAGAIN while the queue is
// full.
func (x *unixSocket) sendMessage(c *Caller, peer *unixSocket, src *mm.IOSeq, m *SendMsg) (int, error) {
	size := src.Len()
	switch {
	case int64(size) > x.sent.most.Load()-32:
		return 0, unix.EMSGSIZE
	case x.sent.full():
		return 0, unix.EAGAIN
	}
	passes, err := x.sifted(c, peer, src, m)
	if err != nil {
		return 0, err
	}
	if passes < 0 {
		return size, nil
	}
	switch err := x.mayGo(peer); {
	case err == nil:
	case unreadable(src):
		return 0, unix.EFAULT // the message is read before its receiver is looked at
	case err == unix.ECONNREFUSED:
		return 0, x.refused()
	default:
		return 0, err
	}
	msg, err := x.fill(c, src, size, m)
	if err != nil {
		return 0, err
	}
	if passes < size && msg.v != nil {
		msg.v.n = passes
	}
	x.mu.Lock()
	msg.from = x.name
	x.mu.Unlock()
	if err := x.deliver(c, peer, &msg, m); err != nil {
		msg.free(x.s)
		return 0, x.refused()
	}
	return size, nil
}

// sifted is how many bytes of a message the peer's filter lets pass, -1: it is tossed, and
// the sender hears nothing of that. Linux asks before it looks at who may send and whether
// there is room, so src is read from a copy and may be read again.
func (x *unixSocket) sifted(c *Caller, peer *unixSocket, src *mm.IOSeq, m *SendMsg) (int, error) {
	if peer.filt.Load() == nil {
		return src.Len(), nil
	}
	// Not as a message of x's, whose end would tell who waits for room, perhaps this caller.
	size := src.Len()
	if !x.s.cfg.Budget.Charge(int64(size)) {
		return 0, unix.ENOBUFS
	}
	defer x.s.cfg.Budget.Uncharge(int64(size))
	again, b := *src, make([]byte, size)
	if k, err := again.CopyIn(b); err != nil {
		return 0, err
	} else if k < size {
		return 0, unix.EFAULT
	}
	n, ok := peer.sift(b)
	if !ok {
		*src = again
		m.Control.release()
		return -1, nil
	}
	return n, nil
}

// takes says whether x, a datagram socket, takes messages of from: one that is connected
// takes only its peer's (unix_may_send). mu is held.
func (x *unixSocket) takes(from *unixSocket) bool { return x.peer == nil || x.peer == from }

// crowded says whether a datagram of from has to wait behind max_dgram_qlen others, where the
// two are not each other's. mu is held.
func (x *unixSocket) crowded(from *unixSocket) bool {
	return x.dgram() && x != from && x.peer != from && len(x.rx) > unixDgrams
}

// refused forgets a datagram peer that is gone.
func (x *unixSocket) refused() error {
	if !x.dgram() {
		return unix.EPIPE
	}
	x.mu.Lock()
	peer := x.peer
	x.mu.Unlock()
	if peer != nil {
		peer.mu.Lock()
		gone := peer.closed
		peer.mu.Unlock()
		x.mu.Lock()
		if gone = gone && x.peer == peer; gone {
			x.peer, x.peerName = nil, nil
		}
		x.mu.Unlock()
		if gone {
			x.parted(peer)
		}
	}
	return unix.ECONNREFUSED
}

// Read implements vfs.FileOps.
func (x *unixSocket) Read(c wait.Context, f *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	return x.recv(dst, &RecvMsg{Nonblock: f != nil && f.Nonblocking()})
}

// Recv implements Socket.
func (x *unixSocket) Recv(_ *Caller, dst *mm.IOSeq, m *RecvMsg) (int, error) {
	if m.Flags&unix.MSG_OOB != 0 && (x.typ != unix.SOCK_SEQPACKET || x.isConnected()) {
		return x.recvOOB(dst, m)
	}
	return x.recv(dst, m) // MSG_ERRQUEUE means nothing here
}

func (x *unixSocket) recv(dst *mm.IOSeq, m *RecvMsg) (int, error) {
	x.mu.Lock()
	connected := x.connected
	x.mu.Unlock()
	if x.stream() {
		if !connected {
			return 0, unix.EINVAL
		}
		return x.recvStream(dst, m)
	}
	if !connected && !x.dgram() {
		return 0, unix.ENOTCONN
	}
	return x.recvMessage(dst, m)
}

// lockRx takes mu, and before it the lock of descriptors in flight if there are any in
// the queue; unlockRx gives both back.
func (x *unixSocket) lockRx() (flying bool) {
	x.mu.Lock()
	if x.withFiles == 0 {
		return false
	}
	x.mu.Unlock()
	x.s.unix.flights.mu.Lock()
	x.mu.Lock()
	return true
}

func (x *unixSocket) unlockRx(flying bool) {
	x.mu.Unlock()
	if flying {
		x.s.unix.flights.mu.Unlock()
	}
}

// empty is the answer of a queue without messages. mu is held.
func (x *unixSocket) empty() error {
	if x.err != nil {
		err := x.err
		x.err = nil
		return err
	}
	if x.rcvShut {
		return nil
	}
	return unix.EAGAIN
}

// recvStream copies queued bytes under the lock without faulting; a page that is
// absent is brought in without it. Bytes of different senders' credentials are not
// joined where they are asked for, nor anything with what follows a descriptor.
func (x *unixSocket) recvStream(dst *mm.IOSeq, m *RecvMsg) (int, error) {
	if dst.Len() == 0 {
		// recv of nothing waits for something, and leaves it; a peek goes on up to an urgent byte,
		// and waits there.
		x.mu.Lock()
		defer x.mu.Unlock()
		urgent := func(m unixMsg) bool { return m.oob && !x.opt.oobinline.Load() }
		peek := m.Flags&unix.MSG_PEEK != 0
		if n := len(x.rx); n == 0 || urgent(x.rx[0]) && n == 1 || peek && slices.ContainsFunc(x.rx, urgent) {
			return 0, x.empty()
		}
		return 0, nil
	}
	// A receive that goes on joins no other sender's bytes to those that it has.
	t := taking{peek: m.Flags&unix.MSG_PEEK != 0, signed: m.Control.HasCreds, from: m.Control.Creds}
	done := 0
	for {
		fly := x.lockRx()
		n, fault := x.take(dst, m, &t, done)
		if n == 0 && done == 0 && !fault {
			err := error(nil)
			if !t.stop {
				err = x.empty()
			}
			x.unlockRx(fly)
			t.release(x.s)
			return 0, err
		}
		x.peeked(n, t.peek)
		x.unlockRx(fly)
		t.release(x.s)
		done += n
		if !fault || t.stop {
			return done, nil
		}
		if err := dst.FaultIn(true); err != nil {
			if done > 0 {
				return done, nil
			}
			return 0, err
		}
	}
}

// peeked moves the offset of SO_PEEK_OFF. mu is held.
func (x *unixSocket) peeked(n int, peek bool) {
	off := x.opt.peekOff.Load()
	switch {
	case off < 0:
	case peek:
		x.opt.peekOff.Store(off + int32(n))
	default:
		x.opt.peekOff.Store(max(off-int32(n), 0))
	}
}

// taking is one receive from a stream.
type taking struct {
	peek   bool
	stop   bool // nothing may be joined to what there is
	fds    bool // descriptors came with it
	signed bool // from has whose bytes they are
	from   Ucred
	freed  []unixMsg   // with descriptors
	unread []*vfs.File // that the caller has no room for
	sent   *unixSent   // who sent what was freed: a stream has one sender
}

// release lets go of what was taken out of the queue. No lock may be held.
func (t *taking) release(s *Stack) {
	if t.sent != nil {
		t.sent.tell()
		t.sent = nil
	}
	if t.freed == nil && t.unread == nil {
		return
	}
	for i := range t.freed {
		t.freed[i].drop(s)
	}
	(&Control{Files: t.unread}).release()
	t.freed, t.unread = nil, nil
}

// free frees a message that is in no queue any more: at once if nothing in it needs that
// no lock is held.
func (t *taking) free(s *Stack, m unixMsg) {
	if len(m.files) > 0 {
		t.freed = append(t.freed, m)
		return
	}
	m.give(s)
	t.sent = m.sent
}

// take copies from the front of the queue. done bytes were copied by an earlier round,
// which a peek has to skip, as it has to what SO_PEEK_OFF says. mu is held.
func (x *unixSocket) take(dst *mm.IOSeq, m *RecvMsg, t *taking, done int) (n int, fault bool) {
	skip := 0
	if t.peek {
		if skip = int(x.opt.peekOff.Load()); skip < 0 {
			skip = done
		}
	}
	for i := 0; i < len(x.rx) && dst.Len() > 0 && !t.stop; {
		msg := &x.rx[i]
		if msg.oob {
			switch inline := x.opt.oobinline.Load(); {
			case n+done > 0:
				t.stop = true
				return n, false
			case t.peek && !inline:
				i++
				continue
			case !t.peek && inline:
				msg.oob = false
			case !t.peek:
				t.free(x.s, x.remove(i))
				continue
			}
		}
		if skip > 0 && skip >= msg.len() {
			skip -= msg.len()
			i++
			continue
		}
		if x.opt.passcred.Load() {
			if t.signed && t.from != msg.creds {
				t.stop = true
				return n, false
			}
			t.signed, t.from = true, msg.creds
			m.Control.Creds, m.Control.HasCreds = msg.creds, true
		}
		k, err := dst.CopyOutNoFault(msg.bytes()[skip:])
		if name := msg.sent.name.Load(); name != nil && n+done == 0 && k > 0 {
			m.setName(*name)
		}
		n += k
		skip = 0
		if k > 0 && len(msg.files) > 0 {
			t.fds = true
			t.unread = append(t.unread, x.files(msg, m, t.peek)...)
		}
		if t.peek {
			i++
			t.stop = t.fds && err == nil
		} else {
			msg.off += k
			x.rxBytes -= k
			if msg.len() == 0 {
				t.free(x.s, *msg)
				x.shift()
				t.stop = t.fds
			}
		}
		if err == mm.ErrFault {
			return n, true
		}
	}
	return n, false
}

// files hands a message's descriptors to the receive, once; those that there is no room
// for come back, to be released without locks. mu and, if there are any, flights.mu are
// held.
func (x *unixSocket) files(msg *unixMsg, m *RecvMsg, peek bool) (unread []*vfs.File) {
	if len(msg.files) == 0 {
		return nil
	}
	if peek {
		if m.WantControl && m.Control.Files == nil {
			for _, f := range msg.files {
				f.IncRef()
			}
			m.Control.Files = append([]*vfs.File(nil), msg.files...)
		}
		return nil
	}
	x.s.unix.flights.count(msg.files, msg.user, -1)
	files := msg.files
	msg.files = nil
	x.withFiles--
	if m.WantControl {
		m.Control.Files = append(m.Control.Files, files...)
		return nil
	}
	m.OutFlags |= unix.MSG_CTRUNC
	return files
}

// recvMessage takes one message whole; what does not fit is cut.
func (x *unixSocket) recvMessage(dst *mm.IOSeq, m *RecvMsg) (int, error) {
	peek := m.Flags&unix.MSG_PEEK != 0
	fly := x.lockRx()
	if err := x.err; err != nil { // also before a message
		x.err = nil
		x.unlockRx(fly)
		return 0, err
	}
	i, skip := x.peekAt(peek)
	if i >= len(x.rx) {
		err := x.empty()
		if err == nil && x.dgram() && m.Nonblock {
			err = unix.EAGAIN // only who waits hears of the end
		}
		x.unlockRx(fly)
		return 0, err
	}
	msg := x.rx[i]
	if x.opt.passcred.Load() {
		m.Control.Creds, m.Control.HasCreds = msg.creds, true
	}
	unread := x.files(&msg, m, peek)
	var b map[*unixSocket]struct{}
	size := msg.len() - skip
	if peek {
		if msg.v != nil {
			msg.v.refs.Add(1)
		}
		x.peeked(min(size, dst.Len()), true)
	} else {
		x.shift()
		x.rxBytes -= msg.len()
		x.peeked(msg.len(), false)
		b = x.roomy()
	}
	x.unlockRx(fly)
	(&Control{Files: unread}).release()
	wake(b)
	m.Full = size
	m.setName(msg.from)
	if size > dst.Len() {
		m.OutFlags |= unix.MSG_TRUNC
	}
	n, err := dst.CopyOut(msg.bytes()[skip:])
	if peek {
		msg.v.release()
	} else {
		msg.free(x.s)
	}
	if err != nil {
		m.Control.release() // nobody hears of the descriptors
		return 0, err
	}
	return n, nil
}

// peekAt is the message that a receive is about, and how much of it a peek leaves out
// (SO_PEEK_OFF). mu is held.
func (x *unixSocket) peekAt(peek bool) (i, skip int) {
	if skip = int(x.opt.peekOff.Load()); !peek || skip < 0 {
		return 0, 0
	}
	for i < len(x.rx) && skip > 0 && skip >= x.rx[i].len() {
		skip -= x.rx[i].len()
		i++
	}
	return i, skip
}
