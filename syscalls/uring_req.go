package syscalls

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/uring"
	"kiln/fs/vfs"
	"kiln/kernel/task"
	"kiln/kernel/timer"
	"kiln/kernel/wait"
)

// Flags of a submission (IOSQE_*).
const (
	sqeFixedFile    = 1 << 0
	sqeDrain        = 1 << 1
	sqeLink         = 1 << 2
	sqeHardLink     = 1 << 3
	sqeAsync        = 1 << 4
	sqeBufferSelect = 1 << 5
	sqeSkipSuccess  = 1 << 6
	sqeKnown        = 1<<7 - 1
)

// Flags of a completion (IORING_CQE_F_*).
const (
	cqeBuffer       = 1 << 0
	cqeMore         = 1 << 1
	cqeSockNonempty = 1 << 2
	cqeNotif        = 1 << 3

	cqeBufferShift = 16
)

// ureq is one request. It runs on the goroutine of the thread that submitted it: at once,
// and again (task.Thread.AddWork) when the object that it would have to wait for has
// something. Timers and cancellations end it from elsewhere, under uringState.mu.
type ureq struct {
	u    *uringState
	t    *task.Thread
	sqe  [uring.SQESize]byte
	op   *uringOp
	next *ureq // linked behind
	// limit is the IORING_OP_LINK_TIMEOUT behind it.
	limit *ureq
	ns    int64 // a timeout's time
	io    uringIO
	more  bool // the socket has more to read
	begun bool // a connection that waits for the answer

	// The submission's words, by their most frequent names.
	flags       uint8
	ioprio      uint16
	fd          int32
	off, addr   uint64
	len, opf    uint32
	user        uint64
	bufIndex    uint16
	personality uint16
	file2       int32 // splice_fd_in, file_index
	addr3       uint64

	failed error // before it could run
	file   *vfs.File
	in     *vfs.File       // of a splice
	buf    *providedBuffer // taken from a group for this attempt

	// While it waits.
	entry    waiter.Entry
	on       waiter.Waitable
	notified atomic.Bool
	byRing   atomic.Bool // it has been notified of a completion (wait.RingWake)
	timer    timer.Timer
	fired    atomic.Bool // of a limit: the time is over
	target   uint64      // completions that end a timeout
	counted  bool
	short    bool // it moved less than it was asked to: links behind it fail

	cost int64 // what is charged for it

	// Under uringState.mu.
	nr            uint64 // the order in which requests came to wait
	pending, done bool
	inWorker      bool  // it waits where Linux has a worker wait (uringIO)
	timed         bool  // only a timer ends it
	ended         error // why it is to end
}

// charge takes n more bytes from the kernel-heap budget for the request, which uncharge gives
// back.
func (r *ureq) charge(n int64) bool {
	if !r.u.k.Mem.Budget().Charge(n) {
		return false
	}
	r.cost += n
	return true
}

func (r *ureq) uncharge() {
	r.u.k.Mem.Budget().Uncharge(r.cost)
	r.cost = 0
}

// parse reads the submission: EINVAL for operations, flags and personalities that are not
// known, EBADF.
func (r *ureq) parse() error {
	s := r.sqe[:]
	r.flags, r.ioprio, r.fd = s[1], le.Uint16(s[2:]), int32(le.Uint32(s[4:]))
	r.off, r.addr, r.len, r.opf = le.Uint64(s[8:]), le.Uint64(s[16:]), le.Uint32(s[24:]), le.Uint32(s[28:])
	r.user, r.bufIndex, r.personality = le.Uint64(s[32:]), le.Uint16(s[40:]), le.Uint16(s[42:])
	r.file2, r.addr3 = int32(le.Uint32(s[44:])), le.Uint64(s[48:])
	nr := s[0]
	if int(nr) >= len(uringOps) {
		return unix.EINVAL
	}
	r.op = &uringOps[nr]
	switch {
	case r.flags&sqeBufferSelect != 0 && !r.op.selects && r.flags&^uint8(sqeKnown) == 0:
		return unix.EOPNOTSUPP
	case r.flags&^uint8(sqeKnown) != 0,
		r.flags&(sqeDrain|sqeSkipSuccess) == sqeDrain|sqeSkipSuccess,
		r.ioprio != 0 && !r.op.ioprio,
		r.u.flags&setupIOPoll != 0 && !r.op.iopoll:
		return unix.EINVAL
	}
	if r.personality != 0 {
		r.u.mu.Lock()
		c := r.u.creds[r.personality]
		r.u.mu.Unlock()
		if c == nil {
			return unix.EINVAL
		}
	}
	if r.op.prep != nil {
		return r.op.prep(r)
	}
	return nil
}

// start runs a chain whose head r is.
func (r *ureq) start() {
	u := r.u
	for c := r; c.next != nil && c.op != nil; c = c.next {
		if n := c.next; n.op != nil && n.op.linkTimeout && n.failed == nil {
			c.limit, c.next, n.next = n, n.next, nil
			if c.next == nil {
				break
			}
		}
	}
	if r.failed != nil {
		r.failAll(r.failed)
		return
	}
	u.mu.Lock()
	wait := len(u.drained) > 0 || r.flags&sqeDrain != 0 && len(u.inflight) > 0
	if wait {
		u.drained = append(u.drained, r)
	}
	u.mu.Unlock()
	if !wait {
		r.run()
	}
}

// run runs r and what is linked behind it, as far as that goes without waiting. On r's
// thread's goroutine.
func (r *ureq) run() {
	for r != nil {
		r = r.step()
	}
}

// step makes one attempt. It returns the next request to run.
func (r *ureq) step() *ureq {
	for {
		r.u.mu.Lock()
		ended := r.ended
		r.u.mu.Unlock()
		if ended != nil {
			return r.finish(errnoResult(ended), 0)
		}
		res, cflags, on, mask := r.attempt()
		switch {
		case on == nil && r.pendingTimer():
			return nil
		case on == nil:
			return r.finish(res, cflags)
		case on == r.on:
			r.u.mu.Lock()
			r.inWorker = r.worker()
			r.u.mu.Unlock()
			return nil // registered, and nothing there
		}
		r.unregister()
		if !r.pend() {
			return r.finish(-int32(unix.ENOMEM), 0)
		}
		r.on = on
		r.entry.Init(r, mask|wait.RingWake)
		if err := on.EventRegister(&r.entry); err != nil {
			r.on = nil
			return r.finish(errnoResult(err), 0)
		}
		// Once more: what came before the registration told nobody.
	}
}

// attempt does the operation, unless it would wait: then on and mask say for what.
func (r *ureq) attempt() (res int32, cflags uint32, on waiter.Waitable, mask waiter.EventMask) {
	if r.op.file && r.file == nil {
		if r.file = r.lookup(r.fd, r.flags&sqeFixedFile != 0); r.file == nil {
			return -int32(unix.EBADF), 0, nil, 0
		}
	}
	if r.personality != 0 {
		own := r.t.Creds()
		r.u.mu.Lock()
		c := r.u.creds[r.personality]
		r.u.mu.Unlock()
		if c != nil {
			if own.NoNewPrivs != c.NoNewPrivs { // which is the thread's, whoever it acts as
				n := *c
				n.NoNewPrivs, c = own.NoNewPrivs, &n
			}
			r.t.SetCreds(c)
			defer r.t.SetCreds(own)
		}
	}
	if r.flags&sqeBufferSelect != 0 && r.buf == nil {
		if r.buf = r.u.takeBuffer(r.bufIndex); r.buf == nil {
			return -int32(unix.ENOBUFS), 0, nil, 0
		}
	}
	v, err, on, mask := r.t.Attempt(func() (uintptr, error) { return r.op.do(r) })
	for err == errGoOn {
		v, err, on, mask = r.t.Attempt(func() (uintptr, error) { return r.op.do(r) })
	}
	if w, ok := err.(*wouldWait); ok {
		on, mask = w.on, w.mask
	}
	if err == unix.EAGAIN && on == nil && r.op.waits != 0 && !r.never() {
		on, mask = r.file.Ops, r.op.waits // the file does not wait, but its requests do
	}
	if on != nil {
		if r.buf != nil && r.io.moved == 0 {
			r.u.giveBuffer(r.bufIndex, r.buf)
			r.buf, r.io.known = nil, false // the next time it may be another
		}
		return 0, 0, on, mask
	}
	if err != nil {
		res = errnoResult(err)
	} else {
		res = int32(v)
	}
	if r.more {
		cflags |= cqeSockNonempty
	}
	return res, cflags | r.endBuffer(res), nil, 0
}

// endBuffer is what a completion says of the buffer that was chosen: it is the program's, or
// goes back if nothing came of it.
func (r *ureq) endBuffer(res int32) (cflags uint32) {
	b := r.buf
	r.buf = nil
	switch {
	case b == nil:
	case res >= 0:
		cflags = cqeBuffer | uint32(b.id)<<cqeBufferShift
	default:
		r.u.giveBuffer(r.bufIndex, b)
	}
	return cflags
}

// never says whether the submission itself does not want to wait.
func (r *ureq) never() bool {
	if r.op.iopoll {
		return r.opf&rwfNowait != 0
	}
	return r.opf&unix.MSG_DONTWAIT != 0
}

// wouldWait is what an operation returns that waits for an object by itself.
type wouldWait struct {
	on   waiter.Waitable
	mask waiter.EventMask
}

func (*wouldWait) Error() string { return "would wait" }

// errnoResult is minus the errno of an error; a call that a signal would interrupt is EINTR.
func errnoResult(err error) int32 {
	e, ok := err.(unix.Errno)
	switch {
	case !ok:
		e = unix.EIO
	case e >= wait.ErrRestart && e <= wait.ErrRestartBlock:
		e = unix.EINTR
	}
	return -int32(e)
}

// lookup is the file behind a descriptor or a registered number, with a reference.
func (r *ureq) lookup(fd int32, fixed bool) *vfs.File {
	if !fixed {
		return r.t.FDs().Get(fd)
	}
	r.u.mu.Lock()
	defer r.u.mu.Unlock()
	if fd < 0 || int(fd) >= len(r.u.files) || r.u.files[fd] == nil {
		return nil
	}
	f := r.u.files[fd]
	f.IncRef()
	return f
}

// call runs a system call on the request's file, which it finds under a lent number.
func (r *ureq) call(f Func, args ...uint64) (uintptr, error) {
	var a Args
	copy(a[1:], args)
	fds := r.t.FDs()
	n := fds.Lend(r.file)
	defer fds.TakeBack(n)
	a[0] = uint64(n)
	return f(r.t, &a)
}

// plain runs a system call with the arguments as they are.
func (r *ureq) plain(f Func, args ...uint64) (uintptr, error) {
	var a Args
	copy(a[:], args)
	return f(r.t, &a)
}

// NotifyEvent implements waiter.EventListener: the request is tried again.
func (r *ureq) NotifyEvent(m waiter.EventMask) {
	if m&^wait.RingWake == 0 {
		return
	}
	if m&wait.RingWake != 0 {
		r.byRing.Store(true)
	}
	if r.notified.Swap(true) {
		return
	}
	if !r.t.AddWork(r.retry) {
		go r.abandon()
	}
}

func (r *ureq) retry() {
	r.notified.Store(false)
	r.u.mu.Lock()
	done := r.done
	r.u.mu.Unlock()
	if !done {
		r.run()
	}
}

// abandon ends a request whose thread has ended.
func (r *ureq) abandon() { r.failRest(r.finish(-int32(unix.ECANCELED), 0)) }

// failRest cancels what would run next.
func (r *ureq) failRest(next *ureq) {
	if next != nil {
		next.failAll(unix.ECANCELED)
	}
}

// failAll completes r with err and what is linked behind it with its own error, or
// ECANCELED.
func (r *ureq) failAll(err error) {
	for c := r; c != nil; c = c.next {
		e := err
		if c != r {
			if e = c.failed; e == nil {
				e = unix.ECANCELED
			}
		}
		c.u.post(c.user, errnoResult(e), 0)
		c.uncharge()
		if c.limit != nil {
			c.u.post(c.limit.user, -int32(unix.ECANCELED), 0)
			c.limit.uncharge()
		}
	}
	r.u.ended()
}

// pend notes that the request waits; false if what it keeps meanwhile is beyond the kernel-heap
// budget.
func (r *ureq) pend() bool {
	u := r.u
	u.mu.Lock()
	defer u.mu.Unlock()
	r.inWorker = r.worker()
	if r.pending {
		return true
	}
	if n := r.io.size(); n > 0 && !r.charge(n) {
		return false
	}
	r.wait()
	if r.limit != nil {
		r.limit.startLimit(r)
	}
	return true
}

// wait notes that r waits. Called with mu held.
func (r *ureq) wait() {
	r.pending = true
	r.u.inflight[r] = struct{}{}
	r.u.lastNr++
	r.nr = r.u.lastNr
}

// waitsForRing says whether its file is a ring.
func (r *ureq) waitsForRing() bool {
	if r.file == nil {
		return false
	}
	_, ok := r.file.Ops.(*uringFile)
	return ok
}

func (r *ureq) unregister() {
	if r.on != nil {
		r.on.EventUnregister(&r.entry)
		r.on = nil
	}
}

// finish completes the request and returns what is to run next: linked requests run if it
// did what it should, else they are cancelled.
func (r *ureq) finish(res int32, cflags uint32) *ureq {
	u := r.u
	u.mu.Lock()
	if r.done {
		u.mu.Unlock()
		return nil
	}
	r.done = true
	u.dropTimeout(r)
	timed, worker := r.timed, r.inWorker
	// A timeout that ends by itself does not bring others nearer their ends (cq_timeouts in Linux).
	counts := !timed || r.op.linkTimeout || r.ended != nil
	u.mu.Unlock()
	if res < 0 && r.io.moved > 0 { // cancelled in the middle
		res, r.short = int32(r.io.moved), true
	}
	cflags |= r.endBuffer(res)
	r.unregister()
	if timed {
		u.k.Timers.Stop(&r.timer)
	}
	for _, f := range []**vfs.File{&r.file, &r.in} {
		if *f != nil {
			(*f).DecRef()
			*f = nil
		}
	}
	if r.op.zc { // the second says that the memory is free again
		u.post(r.user, res, cflags|cqeMore)
		u.post(r.user, 0, cqeNotif)
	} else if r.flags&sqeSkipSuccess == 0 || res < 0 {
		u.add(r.user, res, cflags, counts)
	}
	if r.limit != nil {
		r.limit.endLimit(worker)
	}
	failed := (res < 0 && !r.op.okay(r, res)) || r.short
	next := r.next
	if next != nil && failed && r.flags&sqeHardLink == 0 {
		next.failAll(unix.ECANCELED)
		next = nil
	}
	// Only now: the rings live as long as something is in flight, or a call holds them.
	u.mu.Lock()
	if r.pending {
		delete(u.inflight, r)
	}
	r.uncharge()
	u.mu.Unlock()
	u.ended()
	return next
}

// end finishes a request from another goroutine than its thread's.
func (r *ureq) end(res int32) {
	next := r.finish(res, 0)
	if next == nil {
		return
	}
	if !next.t.AddWork(next.run) {
		next.failAll(unix.ECANCELED)
	}
}

// cancel asks a request that waits to end with err; a worker would be interrupted. ENOENT: it
// is done already; EALREADY: it ends, but was in a worker.
func (r *ureq) cancel(err error) error {
	u := r.u
	u.mu.Lock()
	if r.done || r.ended != nil {
		u.mu.Unlock()
		return unix.ENOENT
	}
	timed, worker := r.timed, r.inWorker
	if worker {
		err = unix.EINTR
	}
	r.ended = err
	u.mu.Unlock()
	if timed || !r.t.AddWork(r.retry) {
		r.end(errnoResult(err))
	}
	if worker {
		return unix.EALREADY
	}
	return nil
}

// post adds a completion and ends timeouts that count them.
func (u *uringState) post(user uint64, res int32, cflags uint32) { u.add(user, res, cflags, true) }

// add is post; counts says whether timeouts count it.
func (u *uringState) add(user uint64, res int32, cflags uint32, counts bool) {
	u.mu.Lock()
	ring := u.ring
	if counts {
		u.posted++
	}
	u.posting.Add(1)
	u.mu.Unlock()
	if ring != nil {
		ring.Post(uring.CQE{UserData: user, Res: res, Flags: cflags})
	}
	u.posting.Add(-1) // whoever posts settles later, in ended
	if counts {
		u.expire()
	}
}

// expire ends the timeouts that have seen their completions. What one of them ends posts
// completions in turn: those are seen to here, and not deeper on the stack.
func (u *uringState) expire() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.expiring {
		return
	}
	u.expiring = true
	for len(u.timeouts) > 0 && u.timeouts[0].target <= u.posted {
		r := u.timeouts[0]
		u.mu.Unlock()
		r.end(0)
		u.mu.Lock()
	}
	u.expiring = false
}

// ended sees to what waited for all before it, once nothing is in flight.
func (u *uringState) ended() {
	r := u.undrain(false)
	if r != nil && !r.t.AddWork(func() { u.runDrained(r) }) {
		r.failAll(unix.ECANCELED)
	}
	u.settle()
}

// undrain takes the first that waited, if it may run: one that drains when nothing is in
// flight, another also right behind one that has just run.
func (u *uringState) undrain(behind bool) *ureq {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.drained) == 0 {
		return nil
	}
	r := u.drained[0]
	if len(u.inflight) > 0 && (!behind || r.flags&sqeDrain != 0) {
		return nil
	}
	u.drained = u.drained[1:]
	return r
}

// runDrained runs r and what may run behind it. On r's thread's goroutine.
func (u *uringState) runDrained(r *ureq) {
	for r != nil {
		r.run()
		r = u.undrain(true)
	}
}
