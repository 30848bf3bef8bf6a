package syscalls

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/net"
)

// uringIO is where a transfer stands between two attempts: nothing is moved twice, and what
// describes the memory is read once, so that the program may use that for something else
// when the submission has been taken (IORING_FEAT_SUBMIT_STABLE).
type uringIO struct {
	known bool       // vec and msg are
	vec   []mm.IOVec // what is left
	left  int        // bytes in vec
	moved int
	msg   *uringMsg
}

// uringMsg is a message's header, and the address that it is to be sent, or connected, to.
type uringMsg struct {
	h    msghdr
	name [net.MaxSockaddr]byte
}

// size is what it keeps beside the request, in bytes; it does not grow.
func (x *uringIO) size() int64 {
	n := int64(len(x.vec)) * 16
	if x.msg != nil {
		n += 256
	}
	return n
}

// errGoOn is what an operation returns that has moved a part and wants to be tried again.
var errGoOn = &wouldWait{}

// resume is the memory of a transfer that has been tried before.
func (r *ureq) resume() mm.IOSeq {
	q := mm.UserIOV(r.t.Space(), r.t, r.io.vec)
	q.Limit(r.io.left)
	return q
}

// note says what has become of a transfer with q. n and err are what the call returned; whole
// says that a part is not enough. The result is the operation's.
func (r *ureq) note(q *mm.IOSeq, n int, err error, whole bool) (uintptr, error) {
	r.io.moved += n
	r.io.left = q.Len()
	switch {
	case r.t.WouldWait():
	case err == unix.EAGAIN && !r.never():
		err = &wouldWait{r.file.Ops, r.op.waits} // the file does not wait, but its requests do
	case err == nil && n > 0 && r.io.left > 0 && whole:
		err = errGoOn
	default:
		r.short = err != nil || whole && r.io.left > 0
		if r.io.moved > 0 {
			err = nil
		}
		return uintptr(r.io.moved), err
	}
	r.io.known, r.io.vec = true, q.Rest()
	return 0, err
}

// waitsInside says whether the file cannot be asked not to wait, so that Linux has a worker,
// another thread, do the transfer and wait.
func (r *ureq) waitsInside() bool {
	return !r.file.Nonblocking() && !r.file.Seekable() && !isSocket(r.file)
}

// worker says whether a request that waits does so in a worker. One that has not begun waits
// until it can.
func (r *ureq) worker() bool {
	return r.op.worker || r.op.writes && r.io.moved > 0
}

// transfer is read, write and their vectors: at a position, or with -1, and on streams, at
// the file's.
func (r *ureq) transfer(vec bool, op ioOp) (uintptr, error) {
	f := r.file
	if !allows(f, op) {
		return 0, unix.EBADF
	}
	if r.u.flags&setupIOPoll != 0 || r.opf&rwfNowait != 0 && !f.Seekable() || r.opf&^(rwfHipri|rwfDsync|rwfSync|rwfAppend|rwfNowait) != 0 {
		return 0, unix.EOPNOTSUPP
	}
	t, x := r.t, newCall(r.t)
	defer x.free()
	if r.io.known {
		x.seq = r.resume()
	} else if err := x.ranges(t, f, r.ranges(vec), vec, op); err != nil {
		return 0, err
	}
	stream := int64(r.off) == -1 || !f.Seekable()
	worker := r.waitsInside()
	// A worker has nobody to signal to.
	x.quiet = worker || r.flags&sqeAsync != 0
	n, err := 0, error(nil)
	switch {
	case x.seq.Len() == 0 && (vec || op == readOp && isSocket(f)): // does not come to the file
	case !stream && int64(r.off) < 0:
		err = unix.EINVAL
	case op == writeOp && r.opf&rwfAppend != 0 && f.Seekable():
		n, err = appendFile(t, f, x, stream)
	case stream && op == readOp:
		n, err = readFile(t, f, x)
	case stream:
		n, err = writeFile(t, f, x)
	default:
		n, err = x.at(t, f, op, int64(r.off))
	}
	n = max(n, 0)
	if n > 0 {
		err = nil
	}
	countIO(t, op, n)
	done, err := r.note(&x.seq, n, err, op == writeOp && worker && r.opf&rwfNowait == 0)
	r.short = r.short || r.io.left > 0
	return done, err
}

// ranges are the arguments that say where a transfer's memory is.
func (r *ureq) ranges(vec bool) *Args {
	addr, length := r.addr, uint64(r.len)
	if r.buf != nil && !vec {
		addr, length = r.buf.addr, r.room()
	}
	return &Args{1: addr, 2: length}
}

// room is how much goes into the buffer that was chosen.
func (r *ureq) room() uint64 {
	if r.len == 0 {
		return uint64(r.buf.len)
	}
	return uint64(min(r.len, r.buf.len))
}

// fixed is transfer with a registered buffer: EFAULT for what does not lie in it.
func (r *ureq) fixed(op ioOp) (uintptr, error) {
	r.u.mu.Lock()
	in := int(r.bufIndex) < len(r.u.buffers)
	var b uringBuffer
	if in {
		b = r.u.buffers[r.bufIndex]
	}
	r.u.mu.Unlock()
	if !r.io.known && (!in || b.base == 0 || r.addr < b.base || r.addr+uint64(r.len) > b.base+b.len || r.addr+uint64(r.len) < r.addr) {
		return 0, unix.EFAULT
	}
	return r.transfer(false, op)
}

// address is an address of the program's, which is read once.
func (r *ureq) address(n *netCall, at, length uint64) ([]byte, error) {
	if r.io.msg == nil {
		b, err := sockaddrIn(r.t, &n.name, at, length)
		if err != nil {
			return nil, err
		}
		r.io.msg = &uringMsg{msghdr{nameLen: int32(len(b))}, n.name}
	}
	n.name = r.io.msg.name
	return n.name[:r.io.msg.h.nameLen], nil
}

// socketCall begins a call on the request's socket: ENOTSOCK.
func (r *ureq) socketCall() (*netCall, error) {
	s, err := net.FromFile(r.file)
	if err != nil {
		return nil, err
	}
	n := newNetCall(r.t)
	n.file, n.sock = r.file, s
	r.file.IncRef()
	return n, nil
}

// bufferCall is socketCall with the request's one buffer: EFAULT, before ENOTSOCK.
func (r *ureq) bufferCall() (*netCall, error) {
	a := r.ranges(false)
	size, err := userRange(a[1], a[2])
	if err != nil {
		return nil, err
	}
	n, err := r.socketCall()
	switch {
	case err != nil:
		return nil, err
	case r.io.known:
		n.seq = r.resume()
	default:
		n.seq = mm.UserIO(r.t.Space(), r.t, hal.UserAddr(a[1]), size)
	}
	return n, nil
}

// waitsForAll says whether a socket's transfer goes on until it has moved everything
// (io_net_retry).
func (r *ureq) waitsForAll(s net.Socket) bool {
	return r.opf&unix.MSG_WAITALL != 0 && (s.Type() == unix.SOCK_STREAM || s.Type() == unix.SOCK_SEQPACKET)
}

// uringSend is send, and the one without copies sendto. Neither signals SIGPIPE.
func uringSend(r *ureq) (uintptr, error) {
	n, err := r.bufferCall()
	if err != nil {
		return 0, err
	}
	defer n.free()
	n.send.Flags = int(int32(r.opf)) | unix.MSG_NOSIGNAL
	if r.op.zc && r.off != 0 {
		if n.send.Name, err = r.address(n, r.off, uint64(uint16(r.file2))); err != nil {
			return 0, err
		}
		n.paths(r.t)
	}
	done, err := transmit(r.t, n)
	return r.note(&n.seq, done, err, r.waitsForAll(n.sock))
}

func uringSendmsg(r *ureq) (uintptr, error) {
	n, err := r.socketCall()
	if err != nil {
		return 0, err
	}
	defer n.free()
	h, err := r.header(n, true)
	if err != nil {
		return 0, err
	}
	if r.io.moved > 0 {
		h.controlLen = 0 // it went with the first byte
	}
	done, err := n.sendmsg(r.t, &h, int(int32(r.opf))|unix.MSG_NOSIGNAL)
	res, err := r.note(&n.seq, done, err, r.waitsForAll(n.sock))
	r.keep(n, &h)
	return res, err
}

// header is a message's header, and the memory, from the program or from an attempt before.
func (r *ureq) header(n *netCall, out bool) (h msghdr, err error) {
	if r.io.msg != nil {
		n.name, n.seq = r.io.msg.name, r.resume()
		return r.io.msg.h, nil
	}
	if out {
		h, err = n.outgoing(r.t, r.addr)
	} else if h, err = n.header(r.t, r.addr); err == nil {
		err = n.ranges(r.t, &h)
	}
	return h, err
}

// keep keeps a message's header for the next attempt, if there is one.
func (r *ureq) keep(n *netCall, h *msghdr) {
	if r.io.known && r.io.msg == nil {
		r.io.msg = &uringMsg{*h, n.name}
	}
}

// uringConnect connects. One that had to wait may find its connection made.
func uringConnect(r *ureq) (uintptr, error) {
	n := newNetCall(r.t)
	defer n.free()
	addr, err := r.address(n, r.addr, r.off) // looked at before what the file is
	if err != nil {
		return 0, err
	}
	if n.sock, err = net.FromFile(r.file); err != nil {
		return 0, err
	}
	n.file = r.file
	r.file.IncRef()
	err = n.connect(r.t, addr)
	if err == unix.EISCONN && r.begun {
		return 0, nil
	}
	r.begun = r.t.WouldWait()
	return 0, err
}

func uringRecv(r *ureq) (uintptr, error) {
	if r.ioprio&^(recvPollFirst|recvMultishot) != 0 {
		return 0, unix.EINVAL
	}
	n, err := r.bufferCall()
	if err != nil {
		return 0, err
	}
	defer n.free()
	n.recv.Flags = int(int32(r.opf))
	done, err := receive(r.t, n)
	if n.recv.Flags&unix.MSG_TRUNC != 0 && n.recv.Full > done {
		done = n.recv.Full
	}
	return r.received(n, done, err, r.waitsForAll(n.sock))
}

func uringRecvmsg(r *ureq) (uintptr, error) {
	n, err := r.socketCall()
	if err != nil {
		return 0, err
	}
	defer n.free()
	h, err := r.header(n, false)
	if err != nil {
		return 0, err
	}
	whole := r.waitsForAll(n.sock) && h.controlLen == 0 // what came beside the first bytes is told once
	done, err := n.recvmsg(r.t, &h, r.addr, int(int32(r.opf)))
	res, err := r.received(n, done, err, whole)
	r.keep(n, &h)
	return res, err
}

// received is the result of a receive, which goes on if it is to be whole. TCP tells whether
// there is more, or its end, to read at once.
func (r *ureq) received(n *netCall, done int, err error, whole bool) (uintptr, error) {
	res, err := r.note(&n.seq, done, err, whole)
	r.more = err == nil && !r.t.WouldWait() && n.sock.Protocol() == unix.IPPROTO_TCP && n.sock.Readiness(waiter.ReadableEvents) != 0
	return res, err
}

// uringSplice moves bytes to the request's file. Linux has a worker do that, which waits where
// splice does.
func uringSplice(r *ureq) (uintptr, error) {
	const fixedIn = 1 << 31
	if r.in == nil {
		if r.in = r.lookup(r.file2, r.opf&fixedIn != 0); r.in == nil {
			return 0, unix.EBADF
		}
	}
	in := r.in
	if !in.Readable() || !r.file.Writable() {
		return 0, unix.EBADF
	}
	x := copier{t: r.t, in: in, out: r.file, inPos: int64(r.addr), outPos: int64(r.off), quiet: true}
	x.wait = r.opf&spliceNonblock == 0 && !in.Nonblocking() && r.io.moved == 0
	if err := mayBeSpliced(in, r.file, x.inPos >= 0, x.outPos >= 0); err != nil {
		return 0, err
	}
	n, err := x.splice(uint64(r.len) - uint64(r.io.moved))
	r.io.moved += max(n, 0)
	switch {
	case r.t.WouldWait():
		return 0, err
	case x.full && !r.file.Nonblocking():
		return 0, errGoOn
	}
	r.short = r.io.moved < int(r.len)
	if r.io.moved > 0 {
		err = nil
	}
	return uintptr(r.io.moved), err
}
