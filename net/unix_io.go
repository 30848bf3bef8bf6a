package net

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// unixMsg is a queued message, or a piece of a stream.
type unixMsg struct {
	v     *buffer.View // nil: empty
	from  []byte       // sender's address (datagrams)
	creds Ucred
	files []*vfs.File
	cost  int64 // charged to the budget
	off   int   // bytes of v already read
}

func (m *unixMsg) len() int {
	if m.v == nil {
		return 0
	}
	return m.v.Size() - m.off
}

func (m *unixMsg) bytes() []byte {
	if m.v == nil {
		return nil
	}
	return m.v.AsSlice()[m.off:]
}

// free gives the bytes back; the files have been taken.
func (m *unixMsg) free(s *Stack) {
	if m.v != nil {
		m.v.Release()
		m.v = nil
	}
	s.cfg.Budget.Uncharge(m.cost)
}

// drop frees a message that nobody read. No lock may be held: a file in it may be a
// socket.
func (m *unixMsg) drop(s *Stack) {
	s.unix.inFlight.Add(-int64(len(m.files)))
	for _, f := range m.files {
		f.DecRef()
	}
	m.files = nil
	m.free(s)
}

// pieceMax is the most that one write to a stream queues at a time.
const pieceMax = 64 << 10

// Write implements vfs.FileOps.
func (x *unixSocket) Write(c wait.Context, _ *vfs.File, src *mm.IOSeq, _ int64) (int, error) {
	return x.send(nil, src, &SendMsg{})
}

// Send implements Socket.
func (x *unixSocket) Send(c *Caller, src *mm.IOSeq, m *SendMsg) (int, error) {
	return x.send(c, src, m)
}

func (x *unixSocket) send(c *Caller, src *mm.IOSeq, m *SendMsg) (int, error) {
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	peer, err := x.target(c, m)
	if err != nil {
		return 0, err
	}
	if len(m.Control.Files) > 0 && x.s.unix.inFlight.Load()+int64(len(m.Control.Files)) > maxInFlight {
		return 0, unix.ETOOMANYREFS
	}
	if x.stream() {
		return x.sendStream(c, peer, src, m)
	}
	return x.sendMessage(c, peer, src, m)
}

// target is who gets a message.
func (x *unixSocket) target(c *Caller, m *SendMsg) (*unixSocket, error) {
	x.mu.Lock()
	peer, connected, shut, gone, err := x.peer, x.connected, x.sndShut, x.peerGone, x.err
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
		if shut || gone || peer == nil {
			return nil, unix.EPIPE
		}
		return peer, nil
	}
	if err != nil {
		x.mu.Lock()
		x.err = nil
		x.mu.Unlock()
		return nil, err
	}
	if shut {
		return nil, unix.EPIPE
	}
	if len(m.Name) > 0 {
		n, err := unixAddr(m.Name)
		if err != nil {
			return nil, err
		}
		if peer, err = x.find(c, n); err != nil {
			return nil, err
		}
		if peer.typ != x.typ {
			return nil, unix.EPROTOTYPE
		}
	}
	if peer == nil {
		return nil, unix.ENOTCONN
	}
	return peer, nil
}

// fill copies n bytes of src into a new message, charged to the budget.
func (x *unixSocket) fill(c *Caller, src *mm.IOSeq, n int, m *SendMsg) (unixMsg, error) {
	msg := unixMsg{cost: int64(n) + msgCost}
	if !x.s.cfg.Budget.Charge(msg.cost) {
		return msg, unix.ENOBUFS
	}
	msg.creds = x.made
	if c != nil {
		msg.creds = c.ucred()
	}
	if m.Control.HasCreds {
		msg.creds = m.Control.Creds
	}
	if n > 0 {
		msg.v = buffer.NewViewSize(n)
		if k, err := src.CopyIn(msg.v.AsSlice()); err != nil || k < n {
			msg.free(x.s)
			if err == nil {
				err = unix.EFAULT
			}
			return msg, err
		}
	}
	return msg, nil
}

// sendStream queues what fits. The room is looked at before the copy, which may
// fault, and a racing writer at worst goes over it by one piece.
func (x *unixSocket) sendStream(c *Caller, peer *unixSocket, src *mm.IOSeq, m *SendMsg) (int, error) {
	done := 0
	for src.Len() > 0 {
		peer.mu.Lock()
		room := x.sndbuf - peer.rxBytes
		peer.mu.Unlock()
		if room <= 0 {
			break
		}
		msg, err := x.fill(c, src, min(src.Len(), room, pieceMax), m)
		if err == unix.ENOBUFS && done == 0 && room < x.sndbuf {
			err = unix.EAGAIN // the reader frees some
		}
		if err != nil {
			if done > 0 {
				return done, nil
			}
			return 0, err
		}
		n := msg.len()
		if !x.deliver(peer, &msg, m) {
			msg.free(x.s)
			if done > 0 {
				return done, nil
			}
			return 0, unix.EPIPE
		}
		done += n
	}
	if done == 0 && src.Len() > 0 {
		return 0, unix.EAGAIN
	}
	return done, nil
}

// deliver appends to the peer's queue, with the message's files the first time;
// false: the peer takes nothing any more.
func (x *unixSocket) deliver(peer *unixSocket, msg *unixMsg, m *SendMsg) bool {
	peer.mu.Lock()
	if peer.closed || peer.rcvShut {
		peer.mu.Unlock()
		return false
	}
	if len(m.Control.Files) > 0 {
		msg.files = m.Control.Files
		m.Control.Files = nil
		x.s.unix.inFlight.Add(int64(len(msg.files)))
	}
	peer.rx = append(peer.rx, *msg)
	peer.rxBytes += msg.len()
	peer.mu.Unlock()
	peer.q.Notify(waiter.ReadableEvents)
	return true
}

// sendMessage queues one datagram: EMSGSIZE, ECONNREFUSED, EAGAIN while the queue is
// full.
func (x *unixSocket) sendMessage(c *Caller, peer *unixSocket, src *mm.IOSeq, m *SendMsg) (int, error) {
	size := src.Len()
	if size > x.sndbuf-32 {
		return 0, unix.EMSGSIZE
	}
	peer.mu.Lock()
	switch {
	case peer.closed:
		peer.mu.Unlock()
		return 0, x.refused()
	case peer.rcvShut:
		peer.mu.Unlock()
		return 0, unix.EPIPE
	case len(peer.rx) > unixDgrams && x.dgram() && peer != x, peer.rxBytes > 0 && peer.rxBytes+size > peer.rcvbuf:
		peer.wants(x)
		peer.mu.Unlock()
		return 0, unix.EAGAIN
	}
	peer.mu.Unlock()
	msg, err := x.fill(c, src, size, m)
	if err != nil {
		return 0, err
	}
	x.mu.Lock()
	msg.from = x.name
	x.mu.Unlock()
	if !x.deliver(peer, &msg, m) {
		msg.free(x.s)
		return 0, x.refused()
	}
	return size, nil
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
		if gone && x.peer == peer {
			x.peer, x.peerName = nil, nil
		}
		x.mu.Unlock()
	}
	return unix.ECONNREFUSED
}

// Read implements vfs.FileOps.
func (x *unixSocket) Read(c wait.Context, _ *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	return x.recv(dst, &RecvMsg{})
}

// Recv implements Socket.
func (x *unixSocket) Recv(_ *Caller, dst *mm.IOSeq, m *RecvMsg) (int, error) {
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	if m.Flags&unix.MSG_ERRQUEUE != 0 {
		return 0, unix.EAGAIN
	}
	return x.recv(dst, m)
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
// absent is brought in without it. Bytes of different senders' credentials or on the
// two sides of a descriptor are not joined.
func (x *unixSocket) recvStream(dst *mm.IOSeq, m *RecvMsg) (int, error) {
	if dst.Len() == 0 {
		return 0, nil
	}
	peek := m.Flags&unix.MSG_PEEK != 0
	done := 0
	for {
		x.mu.Lock()
		if len(x.rx) == 0 && done == 0 {
			err := x.empty()
			x.mu.Unlock()
			return 0, err
		}
		before := x.rxBytes
		n, stop, fault, freed := x.take(dst, m, peek, done)
		after, peer := x.rxBytes, x.peer
		x.mu.Unlock()
		for i := range freed {
			freed[i].free(x.s)
		}
		done += n
		if peer != nil && before > after {
			peer.mu.Lock()
			limit := peer.sndbuf
			peer.mu.Unlock()
			if before >= limit/4*3 && after < limit/4*3 {
				peer.q.Notify(waiter.WritableEvents)
			}
		}
		if !fault || stop {
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

// take copies from the front of the queue. skip bytes were copied by an earlier round
// of a peek. mu is held.
func (x *unixSocket) take(dst *mm.IOSeq, m *RecvMsg, peek bool, skip int) (n int, stop, fault bool, freed []unixMsg) {
	if !peek {
		skip = 0
	}
	i := 0
	for i < len(x.rx) && dst.Len() > 0 {
		msg := &x.rx[i]
		if n+skip > 0 && len(msg.files) > 0 && (i > 0 || msg.off == 0) {
			return n, true, false, freed
		}
		if skip >= msg.len() && skip > 0 {
			skip -= msg.len()
			i++
			continue
		}
		b := msg.bytes()[skip:]
		k, err := dst.CopyOutNoFault(b)
		n += k
		skip = 0
		x.control(msg, m, peek)
		if !peek {
			msg.off += k
			x.rxBytes -= k
			if msg.len() == 0 {
				freed = append(freed, *msg)
				*msg = unixMsg{}
				x.rx = x.rx[1:]
				i--
			}
		}
		if err == mm.ErrFault {
			return n, false, true, freed
		}
		i++
	}
	if len(x.rx) == 0 {
		x.rx = nil
	}
	return n, false, false, freed
}

// control hands a message's descriptors and credentials to the receive, once. mu is
// held, so files that nobody wants are released by a goroutine.
func (x *unixSocket) control(msg *unixMsg, m *RecvMsg, peek bool) {
	if x.opt.passcred.Load() {
		m.Control.Creds, m.Control.HasCreds = msg.creds, true
	}
	if len(msg.files) == 0 {
		return
	}
	if peek {
		if m.WantControl && m.Control.Files == nil {
			for _, f := range msg.files {
				f.IncRef()
			}
			m.Control.Files = append([]*vfs.File(nil), msg.files...)
		}
		return
	}
	x.s.unix.inFlight.Add(-int64(len(msg.files)))
	files := msg.files
	msg.files = nil
	if m.WantControl {
		m.Control.Files = append(m.Control.Files, files...)
		return
	}
	m.OutFlags |= unix.MSG_CTRUNC
	go (&Control{Files: files}).release()
}

// recvMessage takes one message whole; what does not fit is cut.
func (x *unixSocket) recvMessage(dst *mm.IOSeq, m *RecvMsg) (int, error) {
	x.mu.Lock()
	if len(x.rx) == 0 {
		err := x.empty()
		x.mu.Unlock()
		return 0, err
	}
	peek := m.Flags&unix.MSG_PEEK != 0
	msg := x.rx[0]
	x.control(&msg, m, peek)
	var b map[*unixSocket]struct{}
	if peek {
		if msg.v != nil {
			msg.v = msg.v.Clone()
		}
	} else {
		x.rx[0] = unixMsg{}
		x.rx = x.rx[1:]
		x.rxBytes -= msg.len()
		if len(x.rx) == 0 {
			x.rx = nil
		}
		b = x.roomy()
	}
	peer := x.peer
	x.mu.Unlock()
	wake(b)
	if !x.dgram() && peer != nil {
		peer.q.Notify(waiter.WritableEvents)
	}
	m.Full = msg.len()
	m.setName(msg.from)
	if m.Full > dst.Len() {
		m.OutFlags |= unix.MSG_TRUNC
	}
	if x.typ == unix.SOCK_SEQPACKET {
		m.OutFlags |= unix.MSG_EOR
	}
	n, err := dst.CopyOut(msg.bytes())
	if peek {
		if msg.v != nil {
			msg.v.Release()
		}
	} else {
		msg.free(x.s)
	}
	if err != nil {
		return 0, err
	}
	return n, nil
}

// SetOption implements Socket.
func (x *unixSocket) SetOption(c *Caller, level, name int, v []byte) error {
	if level != unix.SOL_SOCKET {
		return unix.EOPNOTSUPP
	}
	if name == unix.SO_LINGER {
		if len(v) < 8 {
			return unix.EINVAL
		}
		return nil
	}
	err := x.setCommon(c, name, v)
	if err != errNotHere {
		return err
	}
	n, _ := intArg(v)
	switch name {
	case unix.SO_SNDBUF, unix.SO_SNDBUFFORCE:
		x.mu.Lock()
		x.sndbuf = int(clampBuf(n, 4608, 2*unixBuf))
		x.mu.Unlock()
	case unix.SO_RCVBUF, unix.SO_RCVBUFFORCE:
		x.mu.Lock()
		x.rcvbuf = int(clampBuf(n, 2304, 2*unixBuf))
		x.mu.Unlock()
	case unix.SO_REUSEADDR, unix.SO_REUSEPORT, unix.SO_KEEPALIVE, unix.SO_BROADCAST, unix.SO_NO_CHECK:
	case unix.SO_PEEK_OFF:
		x.opt.peekOff.Store(n)
	default:
		return unix.ENOPROTOOPT
	}
	return nil
}

// GetOption implements Socket.
func (x *unixSocket) GetOption(_ *Caller, level, name, n int) ([]byte, error) {
	if level != unix.SOL_SOCKET {
		return nil, unix.EOPNOTSUPP
	}
	if b := x.getCommon(name); b != nil {
		return b, nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch name {
	case unix.SO_ERROR:
		e, _ := x.err.(unix.Errno)
		x.err = nil
		return intVal(int(e)), nil
	case unix.SO_SNDBUF:
		return intVal(x.sndbuf), nil
	case unix.SO_RCVBUF:
		return intVal(x.rcvbuf), nil
	case unix.SO_ACCEPTCONN:
		return boolVal(x.listening), nil
	case unix.SO_PEERCRED:
		u := x.peerCreds
		if !x.connected {
			u = Ucred{UID: ^uint32(0), GID: ^uint32(0)}
		}
		return append(append(le32(uint32(u.PID)), le32(u.UID)...), le32(u.GID)...), nil
	case unix.SO_LINGER:
		return make([]byte, 8), nil
	case unix.SO_REUSEADDR, unix.SO_REUSEPORT, unix.SO_KEEPALIVE, unix.SO_BROADCAST, unix.SO_NO_CHECK:
		return intVal(0), nil
	case unix.SO_PEEK_OFF:
		return intVal(-1), nil
	}
	return nil, unix.ENOPROTOOPT
}
