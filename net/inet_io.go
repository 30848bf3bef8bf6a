package net

import (
	"encoding/binary"
	"io"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// seqWriter is program memory as an io.Writer under netstack's locks: copies never
// fault, and a page that is absent ends the read early.
type seqWriter struct {
	seq   *mm.IOSeq
	fault bool
}

func (w *seqWriter) Write(b []byte) (int, error) {
	n, err := w.seq.CopyOutNoFault(b)
	if n < len(b) {
		w.fault = err == mm.ErrFault
		return n, io.ErrShortWrite
	}
	return n, nil
}

// seqReader is program memory as netstack's Payloader. TCP reads it without locks
// (readFromPayloader), so it may fault.
type seqReader struct {
	seq *mm.IOSeq
	err error
}

func (r *seqReader) Len() int { return r.seq.Len() }

func (r *seqReader) Read(b []byte) (int, error) {
	n, err := r.seq.CopyIn(b)
	if err != nil {
		r.err = err
		return n, err
	}
	if n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// bytesReader is a kernel buffer as a Payloader.
type bytesReader struct{ b []byte }

func (r *bytesReader) Len() int { return len(r.b) }

func (r *bytesReader) Read(b []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.b)
	r.b = r.b[n:]
	return n, nil
}

// capWriter fills a kernel buffer and drops the rest of the datagram.
type capWriter struct {
	b []byte
	n int
}

func (w *capWriter) Write(b []byte) (int, error) {
	w.n += copy(w.b[w.n:], b)
	return len(b), nil
}

var (
	writerPool = sync.Pool{New: func() any { return new(seqWriter) }}
	readerPool = sync.Pool{New: func() any { return new(seqReader) }}
	smallPool  = sync.Pool{New: func() any { return new([2048]byte) }}
	largePool  = sync.Pool{New: func() any { return new([65536]byte) }}
)

// scratch is a kernel buffer of n bytes (at most 64 KiB) and the way to return it.
func scratch(n int) (b []byte, put func()) {
	if n <= 2048 {
		p := smallPool.Get().(*[2048]byte)
		return p[:n], func() { smallPool.Put(p) }
	}
	p := largePool.Get().(*[65536]byte)
	return p[:min(n, len(p))], func() { largePool.Put(p) }
}

// Read implements vfs.FileOps.
func (x *inetSocket) Read(c wait.Context, f *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	if x.isTCP() {
		return x.readStream(dst)
	}
	return x.readDatagram(dst, nil, f != nil && f.Nonblocking())
}

// Write implements vfs.FileOps.
func (x *inetSocket) Write(c wait.Context, _ *vfs.File, src *mm.IOSeq, _ int64) (int, error) {
	if x.isTCP() {
		return x.writeStream(src, 0)
	}
	return x.writeDatagram(nil, src, nil)
}

// readStream copies received bytes straight from netstack's segments.
func (x *inetSocket) readStream(dst *mm.IOSeq) (int, error) {
	if dst.Len() == 0 {
		return 0, nil
	}
	first, ok, err := x.firstRead(dst, 0)
	if ok {
		return first, x.instead(err)
	}
	defer x.leave()
	w := writerPool.Get().(*seqWriter)
	done := 0
	for {
		w.seq, w.fault = dst, false
		res, terr := x.ep().Read(w, tcpip.ReadOptions{})
		done += res.Count
		if terr != nil && !w.fault {
			if _, end := terr.(*tcpip.ErrClosedForReceive); end {
				x.eof.Store(true)
			}
			err = x.readError(terr)
			break
		}
		if !w.fault {
			break
		}
		if err = dst.FaultIn(true); err != nil {
			break
		}
	}
	w.seq = nil
	writerPool.Put(w)
	if done > 0 {
		x.taken.Add(uint64(done))
		// Small reads never grow the window; the accounting takes the
		// endpoint's lock once more.
		if done >= 2048 {
			x.moderate(done)
		}
	}
	if done += first; done > 0 {
		x.Untold(err)
		return done, nil
	}
	return 0, err
}

// moderate lets netstack grow the receive buffer after a read of n bytes, and sees to it that
// the peer hears of a window that this opens. Netstack compares the window with the one
// before as if the buffer had its old size still: where some bytes are unread that says
// nothing, and the reads that follow find the window open already. The peer, who has been
// told of a window of zero, would go on when his next probe is answered, 200 ms later at best.
func (x *inetSocket) moderate(n int) {
	before := x.ep().SocketOptions().GetReceiveBufferSize()
	x.ep().ModerateRecvBuf(n)
	after := x.ep().SocketOptions().GetReceiveBufferSize()
	e, ok := x.ep().(*tcp.Endpoint)
	if !ok || after <= before {
		return
	}
	// What SO_RCVBUF does, which gets this right.
	if _, inform := e.OnSetReceiveBufferSize(after, before); inform != nil {
		inform()
	}
	e.LockUser()
	e.RcvAutoParams.Disabled = x.opt.rcvBuf.Load() // set beside us, it comes after us, or is seen here
	e.UnlockUser()
}

func (x *inetSocket) readError(err tcpip.Error) error {
	if x.isTCP() && !x.heardFIN() {
		if told := x.opt.takeError(); told != nil {
			return told
		}
	}
	switch err.(type) {
	case *tcpip.ErrClosedForReceive:
		return nil
	case *tcpip.ErrWouldBlock:
		if x.isTCP() && x.down.Load()&1 != 0 {
			return nil // nothing more is waited for
		}
	case *tcpip.ErrNotConnected:
		if x.isTCP() && (x.state() == tcp.StateTimeWait || x.down.Load()&1 != 0 && x.state() != tcp.StateListen) {
			return nil
		}
	case *tcpip.ErrBadBuffer:
		return nil // the sequence was full
	}
	if x.isTCP() && x.state() == tcp.StateError {
		x.told.Store(true)
	}
	return errno(err)
}

// Untold is told of the error of a call that has bytes to tell of instead. That of a connection
// waits for the next call, and shows in poll (tcp_recvmsg_locked, tcp_sendmsg_locked): a stream
// that was reset shall not look like one that has come to its end.
func (x *inetSocket) Untold(err error) {
	switch err {
	case unix.ECONNRESET, unix.ETIMEDOUT, unix.EHOSTUNREACH, unix.ENETUNREACH:
		if x.isTCP() {
			x.Defer(err)
		}
	}
}

// instead is the error that waits where a read would have to.
func (x *inetSocket) instead(err error) error {
	if err == unix.EAGAIN {
		if told := x.opt.takeError(); told != nil {
			return told
		}
	}
	return err
}

// heardFIN says that the peer has sent its last: its end is read before any error (SOCK_DONE).
func (x *inetSocket) heardFIN() bool {
	switch x.state() {
	case tcp.StateCloseWait, tcp.StateLastAck, tcp.StateClosing, tcp.StateTimeWait:
		return true
	}
	return false
}

// unmade is the error of a write to a connection that could not be made, which connect has not
// told yet: what went wrong, once, then EPIPE.
func (x *inetSocket) unmade() error {
	if err := x.opt.takeError(); err != nil {
		return err
	}
	terr := x.ep().LastError()
	if terr == nil || x.told.Swap(true) {
		return unix.EPIPE
	}
	return errno(terr)
}

// writeStream queues what fits.
func (x *inetSocket) writeStream(src *mm.IOSeq, flags int) (int, error) {
	if x.untold() && x.state() == tcp.StateError {
		return 0, x.unmade()
	}
	if err := x.opt.takeError(); err != nil {
		return 0, err
	}
	if src.Len() == 0 {
		switch x.state() {
		case tcp.StateInitial, tcp.StateBound, tcp.StateListen:
			return 0, unix.EPIPE
		case tcp.StateClose, tcp.StateError:
			return 0, x.sendClosed()
		case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
			return 0, unix.EAGAIN
		}
		if x.down.Load()&2 != 0 {
			return 0, unix.EPIPE
		}
		return 0, nil
	}
	if n, ok, err := x.firstWrite(src); ok {
		return n, err
	}
	defer x.leave()
	if o, share := x.ep().SocketOptions(), x.s.tx.share(); o.GetSendBufferSize() > share {
		o.SetSendBufferSize(share, true)
	}
	var m *meeting
	if x.state() == tcp.StateCloseWait { // who has closed resets what comes then
		m = x.s.meet(x.ep())
	}
	r := readerPool.Get().(*seqReader)
	r.seq, r.err = src, nil
	n, terr := x.ep().Write(r, tcpip.WriteOptions{More: flags&unix.MSG_MORE != 0, EndOfRecord: flags&unix.MSG_EOR != 0})
	fault := r.err
	r.seq = nil
	readerPool.Put(r)
	if n > 0 {
		x.s.tx.wrote(int(n))
		x.sent.Add(uint64(n))
		m.settle()
		return int(n), nil
	}
	if fault != nil {
		return 0, fault
	}
	if terr == nil {
		return 0, unix.EAGAIN
	}
	if err := x.opt.takeError(); err != nil {
		return 0, err
	}
	if _, closed := terr.(*tcpip.ErrClosedForSend); closed {
		return 0, x.sendClosed()
	}
	return 0, errno(terr)
}

// sendClosed is what a write hears that no data may follow: why, once, then EPIPE (sk_stream_error).
func (x *inetSocket) sendClosed() error {
	if told := x.ep().LastError(); told != nil && !x.told.Swap(true) {
		return errno(told)
	}
	return unix.EPIPE
}

// Recv implements Socket.
func (x *inetSocket) Recv(_ *Caller, dst *mm.IOSeq, m *RecvMsg) (int, error) {
	if m.Flags&unix.MSG_ERRQUEUE != 0 {
		n, err := x.recvError(dst, m)
		if err == unix.EAGAIN && x.zerocopyError(m) {
			return 0, nil
		}
		return n, err
	}
	if !x.isTCP() {
		return x.readDatagram(dst, m, m.Nonblock)
	}
	if m.Flags&unix.MSG_OOB != 0 {
		if x.state() == tcp.StateListen {
			return 0, unix.ENOTCONN
		}
		return 0, unix.EINVAL
	}
	switch {
	case m.Flags&unix.MSG_PEEK != 0, dst.Len() == 0: // to receive nothing waits for something
		return x.peekStream(dst, m.Flags&unix.MSG_TRUNC)
	case m.Flags&unix.MSG_TRUNC != 0:
		return x.discardStream(dst)
	}
	n, err := x.readStream(dst)
	if n > 0 && m.WantControl && x.opt.inq.Load() {
		q, _ := x.waiting()
		m.Control.Msgs = append(m.Control.Msgs[:0], Cmsg{unix.SOL_TCP, unix.TCP_INQ, le32(uint32(q))})
	}
	return n, err
}

// mostPeek is how many bytes peekStream sees.
const mostPeek = 64 << 10

// Target implements Socket. What a peek waits for must fit the window, half of the buffer,
// less what its sender keeps back until there is room for a segment.
func (x *inetSocket) Target(n, flags int) int {
	if flags&unix.MSG_PEEK != 0 && x.isTCP() {
		n = min(n, mostPeek, int(x.ep().SocketOptions().GetReceiveBufferSize())*3/8)
	}
	return x.base.Target(n, flags)
}

// peekStream copies through a kernel buffer: a second try would start over. With MSG_TRUNC it
// only counts what it would copy.
func (x *inetSocket) peekStream(dst *mm.IOSeq, trunc int) (int, error) {
	first, ok, err := x.firstRead(dst, unix.MSG_PEEK|trunc)
	if ok {
		return first, err
	}
	defer x.leave()
	buf, put := scratch(min(dst.Len(), mostPeek))
	defer put()
	w := tcpip.SliceWriter(buf)
	res, terr := x.ep().Read(&w, tcpip.ReadOptions{Peek: true})
	n := 0
	if terr != nil {
		err = x.readError(terr)
	} else if trunc != 0 {
		n, _ = x.ep().GetSockOptInt(tcpip.ReceiveQueueSizeOption)
		n = min(n, dst.Len())
		dst.Skip(n)
	} else {
		n, err = dst.CopyOut(buf[:res.Count])
	}
	if n += first; n > 0 {
		return n, nil
	}
	return 0, err
}

// discardStream is MSG_TRUNC on a stream: bytes are taken and dropped (tcp(7)).
func (x *inetSocket) discardStream(dst *mm.IOSeq) (int, error) {
	done, ok, err := x.firstRead(dst, unix.MSG_TRUNC)
	if ok {
		return done, err
	}
	defer x.leave()
	for dst.Len() > 0 {
		buf, put := scratch(min(dst.Len(), 65536))
		w := tcpip.SliceWriter(buf)
		res, terr := x.ep().Read(&w, tcpip.ReadOptions{})
		put()
		if terr != nil {
			if done > 0 {
				break
			}
			return 0, x.readError(terr)
		}
		done += res.Count
		dst.Skip(res.Count)
		if res.Count == 0 {
			break
		}
	}
	return done, nil
}

// Send implements Socket.
func (x *inetSocket) Send(c *Caller, src *mm.IOSeq, m *SendMsg) (int, error) {
	m.Control.release() // SCM_RIGHTS means nothing here
	if !x.isTCP() {
		n, err := 0, error(unix.EOPNOTSUPP)
		if m.Flags&unix.MSG_OOB == 0 || x.pro == unix.IPPROTO_UDP && x.domain == unix.AF_INET6 {
			n, err = x.writeDatagram(c, src, m)
		}
		if err != nil {
			x.autobind()
		}
		if m.Flags&unix.MSG_ZEROCOPY != 0 {
			x.zerocopied(n, m)
		}
		return n, err
	}
	if st := x.state(); m.Flags&unix.MSG_OOB != 0 && (st == tcp.StateEstablished || st == tcp.StateCloseWait) && x.down.Load()&2 == 0 {
		return 0, unix.EOPNOTSUPP
	}
	if m.Flags&unix.MSG_FASTOPEN != 0 {
		if err := x.fastOpen(c, m.Name); err != nil {
			return 0, err
		}
	}
	if st := x.state(); (m.Control.Bad != nil || len(m.Control.Msgs) > 0) && (st == tcp.StateEstablished || st == tcp.StateCloseWait) && x.down.Load()&2 == 0 {
		if err := x.streamControl(c, &m.Control); err != nil {
			return 0, err
		}
	}
	n, err := x.writeStream(src, m.Flags)
	if m.Flags&unix.MSG_ZEROCOPY != 0 {
		x.zerocopied(n, m)
	}
	return n, err
}

// streamControl checks a stream's control messages, which mean nothing here: EINVAL for one of
// SOL_SOCKET that is wrong (tcp_sendmsg_locked).
func (x *inetSocket) streamControl(c *Caller, l *Control) error {
	if l.Bad != nil {
		return l.Bad
	}
	for _, m := range l.Msgs {
		if m.Level != unix.SOL_SOCKET {
			continue
		}
		var out tcpip.SendableControlMessages
		if m.Type == unix.SO_MARK && !c.mayMark() || x.sendMessage(m, &out, new(oneTime)) != nil {
			return unix.EINVAL
		}
	}
	return nil
}

// fastOpen connects for MSG_FASTOPEN: without a cookie Linux makes an ordinary connection, then
// sends (tcp_sendmsg_fastopen).
func (x *inetSocket) fastOpen(c *Caller, name []byte) error {
	switch {
	case name == nil:
		if again, err := x.connectAgain(); again {
			return err
		}
		return unix.EINVAL
	case len(name) >= 2 && familyOf(name) == unix.AF_UNSPEC:
		return unix.EOPNOTSUPP
	}
	return x.Connect(c, name)
}

// recvError is MSG_ERRQUEUE: the next queued error with the datagram that made it.
func (x *inetSocket) recvError(dst *mm.IOSeq, m *RecvMsg) (int, error) {
	if !x.isTCP() {
		return x.recvDatagramError(dst, m)
	}
	e := x.ep().SocketOptions().DequeueErr()
	if e == nil {
		return 0, unix.EAGAIN
	}
	defer e.Payload.Release()
	if x.ep().SocketOptions().PeekErr() == nil {
		x.ep().LastError() // it is told with the last of the queue
	}
	q := icmpError{origin: byte(e.Cause.Origin()), typ: e.Cause.Type(), code: e.Cause.Code(), info: e.Cause.Info(),
		payload: e.Payload.AsSlice(), dst: e.Dst, offender: e.Offender}
	q.errno, _ = errno(e.Err).(unix.Errno)
	return x.giveError(&q, dst, m)
}

func le32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

var _ waiter.Waitable = (*inetSocket)(nil)
