package net

import (
	"encoding/binary"
	"io"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport"
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
		return first, err
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
	switch err.(type) {
	case *tcpip.ErrClosedForReceive:
		return nil
	case *tcpip.ErrNotConnected:
		if x.isTCP() && x.state() == tcp.StateTimeWait {
			return nil
		}
	case *tcpip.ErrBadBuffer:
		return nil // the sequence was full
	}
	return errno(err)
}

// writeStream queues what fits.
func (x *inetSocket) writeStream(src *mm.IOSeq, flags int) (int, error) {
	if src.Len() == 0 {
		switch x.state() {
		case tcp.StateInitial, tcp.StateBound, tcp.StateListen:
			return 0, unix.EPIPE
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
	r := readerPool.Get().(*seqReader)
	r.seq, r.err = src, nil
	n, terr := x.ep().Write(r, tcpip.WriteOptions{More: flags&unix.MSG_MORE != 0, EndOfRecord: flags&unix.MSG_EOR != 0})
	fault := r.err
	r.seq = nil
	readerPool.Put(r)
	if n > 0 {
		x.s.tx.wrote(int(n))
		x.sent.Add(uint64(n))
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
	return 0, errno(terr)
}

// maxDatagram is the largest payload any datagram socket takes (IPv4's length field).
const maxDatagram = 65535

func (x *inetSocket) writeDatagram(c *Caller, src *mm.IOSeq, m *SendMsg) (int, error) {
	size := src.Len()
	if size > maxDatagram {
		return 0, unix.EMSGSIZE
	}
	if err := x.datagramError(); err != nil {
		return 0, err
	}
	var opts tcpip.WriteOptions
	var to tcpip.FullAddress
	once := oneTime{tos: -1, tclass: -1, segment: int(x.opt.segment.Load())}
	more := x.pro == unix.IPPROTO_UDP && x.typ == unix.SOCK_DGRAM && (x.opt.cork.Load() || m != nil && m.Flags&unix.MSG_MORE != 0)
	if m != nil {
		// udpv6_sendmsg takes an address of no family for none.
		if m.Name != nil && !(x.pro == unix.IPPROTO_UDP && x.domain == unix.AF_INET6 && len(m.Name) >= 2 && familyOf(m.Name) == unix.AF_UNSPEC) {
			a, err := x.destination(m.Name)
			if err != nil {
				return 0, err
			}
			to = a
			opts.To = &to
		}
	}
	// Before the control messages are looked at (udp_sendmsg), and by the first part.
	if x.pro == unix.IPPROTO_UDP && x.typ == unix.SOCK_DGRAM && opts.To == nil && !x.hasCorked() &&
		x.ep().State() != uint32(transport.DatagramEndpointStateConnected) {
		return 0, unix.EDESTADDRREQ
	}
	if m != nil {
		var err error
		if once, err = x.sendControl(c, &m.Control, &opts.ControlMessages); err != nil {
			return 0, err
		}
		named := opts.To != nil
		if !named && once.oif != 0 {
			to, _ = x.ep().GetRemoteAddress()
		}
		if to.Addr.BitLen() != 0 {
			if nic := x.outgoing(to, named, &opts.ControlMessages, &once); nic != 0 {
				to.NIC, opts.To = nic, &to
			}
		}
	}
	buf, put := scratch(size)
	defer put()
	if n, err := src.CopyIn(buf); err != nil || n < size {
		if err == nil {
			err = unix.EFAULT
		}
		return 0, err
	}
	if more || x.hasCorked() {
		if err := x.part(buf, opts, more); err != nil {
			return 0, err
		}
		return size, nil
	}
	n, terr := x.writeOnce(buf, opts, once)
	if terr != nil {
		if _, unreachable := terr.(*tcpip.ErrHostUnreachable); unreachable && opts.To != nil && x.s.noRoute(to.Addr) {
			return 0, unix.ENETUNREACH
		}
		if _, long := terr.(*tcpip.ErrMessageTooLong); long {
			x.tooLong(to)
		}
		return 0, errno(terr)
	}
	x.bound.Store(true)
	return int(n), nil
}

// writeOnce sends a datagram, or several by segments, with what is asked for it alone.
func (x *inetSocket) writeOnce(b []byte, opts tcpip.WriteOptions, once oneTime) (int64, tcpip.Error) {
	for _, o := range []struct {
		opt tcpip.SockOptInt
		v   int
	}{{tcpip.IPv4TOSOption, once.tos}, {tcpip.IPv6TrafficClassOption, once.tclass}} {
		if o.v < 0 {
			continue
		}
		x.sendMu.Lock()
		defer x.sendMu.Unlock()
		old, err := x.ep().GetSockOptInt(o.opt)
		if err == nil {
			x.ep().SetSockOptInt(o.opt, o.v)
			defer x.ep().SetSockOptInt(o.opt, old)
		}
		break
	}
	if once.segment > 0 && len(b) > once.segment && x.pro == unix.IPPROTO_UDP {
		return int64(len(b)), x.sendSegments(b, once.segment, opts)
	}
	return x.ep().Write(&bytesReader{b}, opts)
}

// destination is the address of a datagram: an IPv6 socket may name an IPv4 one.
func (x *inetSocket) destination(b []byte) (tcpip.FullAddress, error) {
	fam := int(x.domain)
	if fam == unix.AF_INET6 && familyOf(b) == unix.AF_INET {
		fam = unix.AF_INET
	} else if familyOf(b) == unix.AF_UNSPEC && fam == unix.AF_INET && len(b) >= sizeIn {
		b = append([]byte{unix.AF_INET, 0}, b[2:]...)
	}
	a, err := parseAddr(fam, b)
	if err != nil {
		return a, err
	}
	if a.Port == 0 && x.typ == unix.SOCK_DGRAM && (x.pro == unix.IPPROTO_UDP || x.pro == unix.IPPROTO_UDPLITE) {
		return a, unix.EINVAL
	}
	if a.Addr.Unspecified() {
		if a.Addr.Len() == 4 {
			a.Addr = tcpip.AddrFrom4([4]byte{127, 0, 0, 1})
		} else {
			a.Addr = tcpip.AddrFrom16([16]byte{15: 1})
		}
	}
	return a, nil
}

// readDatagram takes one datagram through a kernel buffer: a page fault must not
// lose it half-way.
func (x *inetSocket) readDatagram(dst *mm.IOSeq, m *RecvMsg, nonblock bool) (int, error) {
	flags := 0
	if m != nil {
		flags = m.Flags
	}
	if err := x.datagramError(); err != nil {
		return 0, err
	}
	buf, put := scratch(dst.Len())
	defer put()
	w := capWriter{b: buf}
	x.reading.Lock()
	res, terr := x.ep().Read(&w, tcpip.ReadOptions{Peek: flags&unix.MSG_PEEK != 0, NeedRemoteAddr: m != nil})
	x.reading.Unlock()
	if _, shut := terr.(*tcpip.ErrClosedForReceive); shut && nonblock {
		return 0, unix.EAGAIN // only who would wait hears that nothing comes any more
	}
	if terr != nil {
		return 0, x.readError(terr)
	}
	if _, ok := x.ep().(stack.TransportEndpoint); ok && flags&unix.MSG_PEEK == 0 { // for raw ones see rawGate
		x.s.rcv.taken(x, res.Total)
	}
	x.opt.stamp.Store(res.ControlMessages.Timestamp.UnixNano())
	n, err := dst.CopyOut(buf[:w.n])
	if err != nil {
		return 0, err
	}
	if m != nil {
		m.Full = res.Total
		if res.Total > w.n {
			m.OutFlags |= unix.MSG_TRUNC
		}
		m.setName(encodeAddr(int(x.domain), res.RemoteAddr))
		if m.WantControl {
			x.recvControl(&res.ControlMessages, &m.Control)
		}
	}
	return n, nil
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
		if m.Flags&unix.MSG_OOB != 0 {
			return 0, unix.EOPNOTSUPP
		}
		n, err := x.writeDatagram(c, src, m)
		if m.Flags&unix.MSG_ZEROCOPY != 0 {
			x.zerocopied(n, m)
		}
		return n, err
	}
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	if m.Flags&unix.MSG_FASTOPEN != 0 {
		// Without a cookie Linux makes an ordinary connection, then sends.
		switch x.state() {
		case tcp.StateInitial, tcp.StateBound:
			if len(m.Name) == 0 {
				return 0, unix.EINVAL
			}
			if err := x.Connect(c, m.Name); err != nil {
				return 0, err
			}
		}
	}
	if st := x.state(); m.Control.Bad != nil && (st == tcp.StateEstablished || st == tcp.StateCloseWait) && x.down.Load()&2 == 0 {
		return 0, m.Control.Bad
	}
	n, err := x.writeStream(src, m.Flags)
	if m.Flags&unix.MSG_ZEROCOPY != 0 {
		x.zerocopied(n, m)
	}
	return n, err
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
