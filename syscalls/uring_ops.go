package syscalls

import (
	"cmp"
	"slices"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
)

// uringOp is one operation. do runs on the submitter's goroutine, through
// task.Thread.Attempt.
type uringOp struct {
	do func(r *ureq) (uintptr, error)
	// prep checks the submission; an error ends the call's taking of submissions, as in
	// Linux. It may be nil.
	prep        func(r *ureq) error
	waits       waiter.EventMask // for what EAGAIN of a non-blocking file waits
	file        bool             // fd is a file
	selects     bool             // may take a provided buffer
	ioprio      bool             // has a meaning for the ioprio field
	iopoll      bool             // possible on a ring that polls for completions
	linkTimeout bool
	worker      bool // waits in a worker
	writes      bool // to a file
	zc          bool // has two completions
	etime       bool // ETIME may count as success
}

// okay says whether a negative result does not break a link.
func (o *uringOp) okay(r *ureq, res int32) bool {
	return o.etime && res == -int32(unix.ETIME) && r.opf&timeoutEtimeSuccess != 0
}

var uringOps [49]uringOp

func init() {
	fileOp := func(f func(r *ureq) (uintptr, error)) uringOp { return uringOp{do: f, file: true} }
	pathOp := func(f func(r *ureq) (uintptr, error)) uringOp { return uringOp{do: f} }
	rw := func(waits waiter.EventMask, f func(r *ureq) (uintptr, error)) uringOp {
		return uringOp{do: f, file: true, selects: true, ioprio: true, iopoll: true, waits: waits}
	}
	msg := func(waits waiter.EventMask, f func(r *ureq) (uintptr, error)) uringOp {
		return uringOp{do: f, file: true, selects: true, ioprio: true, waits: waits}
	}
	uringOps = [...]uringOp{
		0:  {do: func(*ureq) (uintptr, error) { return 0, nil }, iopoll: true},
		1:  rw(readEvents, func(r *ureq) (uintptr, error) { return r.transfer(true, readOp) }),
		2:  rw(writeEvents, func(r *ureq) (uintptr, error) { return r.transfer(true, writeOp) }),
		3:  {do: uringFsync, prep: prepFsync, file: true},
		4:  rw(readEvents, func(r *ureq) (uintptr, error) { return r.fixed(readOp) }),
		5:  rw(writeEvents, func(r *ureq) (uintptr, error) { return r.fixed(writeOp) }),
		6:  {do: uringPoll, prep: prepPoll, file: true},
		7:  {do: uringPollRemove, prep: prepPollRemove},
		8:  fileOp(func(r *ureq) (uintptr, error) { return r.call(sysSyncFileRange, r.off, uint64(r.len), uint64(r.opf)) }),
		9:  msg(writeEvents, uringSendmsg),
		10: msg(readEvents, uringRecvmsg),
		11: {do: uringTimeout, prep: prepTimeout, etime: true},
		12: {do: uringTimeoutRemove, prep: prepTimeoutRemove},
		13: {do: uringAccept, prep: prepAccept, file: true, ioprio: true, waits: readEvents},
		14: {do: uringCancel, prep: prepCancel},
		15: {do: func(*ureq) (uintptr, error) { return 0, unix.EINVAL }, prep: prepLinkTimeout, linkTimeout: true},
		16: fileOp(uringConnect),
		17: fileOp(func(r *ureq) (uintptr, error) { return r.call(sysFallocate, uint64(r.len), r.off, r.addr) }),
		18: {prep: prepOpenat, do: func(r *ureq) (uintptr, error) {
			return r.open(func() (uintptr, error) {
				return r.plain(sysOpenat, uint64(r.fd), r.addr, uint64(r.opf), uint64(r.len))
			})
		}},
		19: {do: uringClose, prep: prepClose},
		20: {do: uringFilesUpdate, prep: prepFilesUpdate},
		21: pathOp(func(r *ureq) (uintptr, error) {
			return r.plain(sysStatx, uint64(r.fd), r.addr, uint64(r.opf), uint64(r.len), r.off)
		}),
		22: rw(readEvents, func(r *ureq) (uintptr, error) { return r.transfer(false, readOp) }),
		23: rw(writeEvents, func(r *ureq) (uintptr, error) { return r.transfer(false, writeOp) }),
		24: fileOp(func(r *ureq) (uintptr, error) { return r.call(sysFadvise64, r.off, uint64(r.len), uint64(r.opf)) }),
		25: pathOp(func(r *ureq) (uintptr, error) { return r.plain(sysMadvise, r.addr, uint64(r.len), uint64(r.opf)) }),
		26: msg(writeEvents, uringSend),
		27: msg(readEvents, uringRecv),
		28: {prep: prepOpenat2, do: func(r *ureq) (uintptr, error) {
			return r.open(func() (uintptr, error) {
				return r.plain(sysOpenat2, uint64(r.fd), r.addr, r.off, uint64(r.len))
			})
		}},
		29: pathOp(func(r *ureq) (uintptr, error) {
			return r.plain(sysEpollCtl, uint64(r.fd), uint64(r.len), r.off, r.addr)
		}),
		30: {do: uringSplice, file: true, worker: true},
		31: {do: uringProvideBuffers, prep: prepProvideBuffers},
		32: {do: uringRemoveBuffers, prep: prepRemoveBuffers},
		33: fileOp(func(r *ureq) (uintptr, error) { return 0, unix.EOPNOTSUPP }),
		34: fileOp(func(r *ureq) (uintptr, error) { return r.call(sysShutdown, uint64(r.len)) }),
		35: pathOp(func(r *ureq) (uintptr, error) {
			return r.plain(sysRenameat2, uint64(r.fd), r.addr, uint64(r.len), r.off, uint64(r.opf))
		}),
		36: pathOp(func(r *ureq) (uintptr, error) { return r.plain(sysUnlinkat, uint64(r.fd), r.addr, uint64(r.opf)) }),
		37: pathOp(func(r *ureq) (uintptr, error) { return r.plain(sysMkdirat, uint64(r.fd), r.addr, uint64(r.len)) }),
		38: pathOp(func(r *ureq) (uintptr, error) { return r.plain(sysSymlinkat, r.addr, uint64(r.fd), r.off) }),
		39: pathOp(func(r *ureq) (uintptr, error) {
			return r.plain(sysLinkat, uint64(r.fd), r.addr, uint64(r.len), r.off, uint64(r.opf))
		}),
		40: fileOp(uringMsgRing),
		41: fileOp(func(r *ureq) (uintptr, error) {
			return r.call(sysFsetxattr, r.addr, r.off, uint64(r.len), uint64(r.opf))
		}),
		42: pathOp(func(r *ureq) (uintptr, error) {
			return r.plain(sysSetxattr, r.addr3, r.addr, r.off, uint64(r.len), uint64(r.opf))
		}),
		43: fileOp(func(r *ureq) (uintptr, error) { return r.call(sysFgetxattr, r.addr, r.off, uint64(r.len)) }),
		44: pathOp(func(r *ureq) (uintptr, error) { return r.plain(sysGetxattr, r.addr3, r.addr, r.off, uint64(r.len)) }),
		45: {prep: prepSocket, do: func(r *ureq) (uintptr, error) {
			return r.open(func() (uintptr, error) { return r.plain(sysSocket, uint64(r.fd), r.off, uint64(r.len)) })
		}},
		46: fileOp(func(*ureq) (uintptr, error) { return 0, unix.EOPNOTSUPP }),
		47: msg(writeEvents, uringSend),
		48: msg(writeEvents, uringSendmsg),
	}
	for _, nr := range []int{2, 5, 23} {
		uringOps[nr].writes = true
	}
	uringOps[47].zc, uringOps[48].zc = true, true
}

// invalid is EINVAL if it is.
func invalid(bad bool) error {
	if bad {
		return unix.EINVAL
	}
	return nil
}

func prepFsync(r *ureq) error {
	return invalid(r.opf&^1 != 0 || r.addr != 0 || r.bufIndex != 0 || r.file2 != 0)
}

func uringFsync(r *ureq) (uintptr, error) {
	if r.opf != 0 {
		return r.call(sysFdatasync)
	}
	return r.call(sysFsync)
}

// Flags of IORING_OP_POLL_ADD and POLL_REMOVE (in len), ACCEPT, RECV and SEND (in ioprio).
const (
	pollMulti       = 1 << 0
	pollUpdateEv    = 1 << 1
	pollUpdateUser  = 1 << 2
	acceptMultishot = 1 << 0
	recvPollFirst   = 1 << 0
	recvMultishot   = 1 << 1
)

const pollAlways = waiter.EventErr | waiter.EventHUp

func prepPoll(r *ureq) error {
	return invalid(r.len&^pollMulti != 0 || r.bufIndex != 0 || r.off != 0 || r.addr != 0)
}

// uringPoll answers with the events that are there.
func uringPoll(r *ureq) (uintptr, error) {
	want := waiter.EventMask(r.opf)&waiter.AllEvents | pollAlways
	got := r.file.Ops.Readiness(want) & want
	if got == 0 || r.len&pollMulti != 0 && r.on == nil {
		return 0, &wouldWait{r.file.Ops, want}
	}
	if r.len&pollMulti == 0 || r.byRing.Load() { // of a completion it tells once (io_poll_wake)
		return uintptr(got), nil
	}
	r.u.post(r.user, int32(got), cqeMore)
	// What is there has been told; the next is told when it comes.
	return 0, &wouldWait{r.file.Ops, want}
}

func prepPollRemove(r *ureq) error {
	return invalid(r.bufIndex != 0 || r.file2 != 0 || r.len&^(pollUpdateEv|pollUpdateUser|pollMulti) != 0 || r.len == pollMulti)
}

// uringPollRemove ends or changes a poll by its user data.
func uringPollRemove(r *ureq) (uintptr, error) {
	q := r.u.find(func(q *ureq) bool { return q.user == r.addr && q.op == &uringOps[6] })
	if q == nil {
		return 0, unix.ENOENT
	}
	if how, events, user := r.len, r.opf, r.off; how&(pollUpdateEv|pollUpdateUser) != 0 {
		change := func() {
			if how&pollUpdateEv != 0 {
				q.opf, q.len = events, q.len&^pollMulti|how&pollMulti
			}
			if how&pollUpdateUser != 0 {
				q.user = user
			}
			q.unregister() // to look again with the new mask
			q.retry()
		}
		if q.t == r.t {
			change()
		} else if !q.t.AddWork(change) {
			return 0, unix.ENOENT
		}
		return 0, nil
	}
	if q.cancel(unix.ECANCELED) != nil {
		return 0, unix.EALREADY
	}
	return 0, nil
}

// find is a request that waits, the oldest of those that match.
func (u *uringState) find(match func(q *ureq) bool) *ureq {
	u.mu.Lock()
	defer u.mu.Unlock()
	var found *ureq
	for q := range u.inflight {
		if !q.done && q.ended == nil && match(q) && (found == nil || q.nr < found.nr) {
			found = q
		}
	}
	return found
}

// Flags of IORING_OP_ASYNC_CANCEL.
const (
	cancelAll     = 1 << 0
	cancelFD      = 1 << 1
	cancelAny     = 1 << 2
	cancelFDFixed = 1 << 3
)

func prepCancel(r *ureq) error {
	return invalid(r.off != 0 || r.len != 0 || r.file2 != 0 || r.opf&^uint32(cancelAll|cancelFD|cancelAny|cancelFDFixed) != 0 ||
		r.opf&cancelAny != 0 && r.opf&cancelFD != 0)
}

// uringCancel ends requests by user data or file: ENOENT, EALREADY; how many with
// IORING_ASYNC_CANCEL_ALL.
func uringCancel(r *ureq) (uintptr, error) {
	var f *vfs.File
	if r.opf&cancelFD != 0 {
		if f = r.lookup(r.fd, r.flags&sqeFixedFile != 0 || r.opf&cancelFDFixed != 0); f == nil {
			return 0, unix.EBADF
		}
		defer f.DecRef()
	}
	n := uintptr(0)
	for {
		q := r.u.find(func(q *ureq) bool {
			return r.opf&cancelAny != 0 || f != nil && q.file == f || f == nil && q.user == r.addr
		})
		if q == nil {
			break
		}
		running := q.cancel(unix.ECANCELED) == unix.EALREADY
		n++
		if r.opf&(cancelAll|cancelAny) == 0 {
			if running {
				return 0, unix.EALREADY
			}
			return 0, nil
		}
	}
	if n == 0 && r.opf&(cancelAll|cancelAny) == 0 {
		return 0, unix.ENOENT
	}
	return n, nil
}

func prepAccept(r *ureq) error {
	return invalid(r.len != 0 || r.bufIndex != 0 || r.ioprio&^acceptMultishot != 0 ||
		r.file2 != 0 && (r.opf&unix.SOCK_CLOEXEC != 0 || r.ioprio != 0 && r.file2 != fileIndexAlloc))
}

// What is no descriptor cannot be closed by exec.
func prepOpenat(r *ureq) error { return invalid(r.file2 != 0 && r.opf&unix.O_CLOEXEC != 0) }
func prepSocket(r *ureq) error { return invalid(r.file2 != 0 && r.off&unix.SOCK_CLOEXEC != 0) }

func prepOpenat2(r *ureq) error {
	if r.file2 == 0 {
		return nil
	}
	flags, err := getU64(r.t, hal.UserAddr(r.off))
	return invalid(err == nil && flags&unix.O_CLOEXEC != 0)
}

// uringAccept takes one connection, or with IORING_ACCEPT_MULTISHOT all that come.
func uringAccept(r *ureq) (uintptr, error) {
	for {
		fd, err := r.open(func() (uintptr, error) { return r.call(sysAccept4, r.addr, r.off, uint64(r.opf)) })
		if r.ioprio&acceptMultishot == 0 || err != nil || r.t.WouldWait() {
			return fd, err
		}
		r.u.post(r.user, int32(fd), cqeMore)
	}
}

// fileIndexAlloc is IORING_FILE_INDEX_ALLOC: any free place.
const fileIndexAlloc = -1

// open makes a call that opens a file: for a descriptor, or among the registered files if
// the submission asks for that.
func (r *ureq) open(call func() (uintptr, error)) (uintptr, error) {
	x := &localOf(r.t).opens
	was := *x // of an open that waits and has let this one run
	*x = opening{direct: r.file2 != 0, atOnce: r.flags&sqeAsync == 0}
	fd, err := call()
	f := x.file
	*x = was
	if f == nil {
		return fd, err
	}
	if r.file2 != fileIndexAlloc {
		return 0, r.u.setFile(r.file2-1, f)
	}
	slot := r.u.freeSlot()
	if slot < 0 {
		f.DecRef()
		return 0, unix.ENFILE
	}
	return uintptr(slot), r.u.setFile(slot, f)
}

func prepClose(r *ureq) error {
	if r.flags&sqeFixedFile != 0 {
		return unix.EBADF
	}
	return invalid(r.off|r.addr != 0 || r.len|r.opf != 0 || r.bufIndex != 0 || r.file2 != 0 && r.fd != 0)
}

func uringClose(r *ureq) (uintptr, error) {
	if r.file2 != 0 {
		return 0, r.u.dropFile(r.file2 - 1)
	}
	f := r.t.FDs().Get(r.fd)
	if f == nil {
		return 0, unix.EBADF
	}
	_, own := f.Ops.(*uringFile)
	f.DecRef()
	if own {
		return 0, unix.EBADF
	}
	return r.plain(sysClose, uint64(uint32(r.fd)))
}

func uringMsgRing(r *ureq) (uintptr, error) {
	x, ok := r.file.Ops.(*uringFile)
	if !ok {
		return 0, unix.EBADFD
	}
	if r.addr != 0 || r.opf != 0 || r.bufIndex != 0 {
		return 0, unix.EINVAL
	}
	if x.u.disabled.Load() {
		return 0, unix.EBADFD
	}
	x.u.post(r.off, int32(r.len), 0)
	return 0, nil
}

// Flags of IORING_OP_TIMEOUT and TIMEOUT_REMOVE.
const (
	timeoutAbs          = 1 << 0
	timeoutUpdate       = 1 << 1
	timeoutBoot         = 1 << 2
	timeoutReal         = 1 << 3
	timeoutLinkUpdate   = 1 << 4
	timeoutEtimeSuccess = 1 << 5
)

func prepTimeout(r *ureq) (err error) {
	const known = timeoutAbs | timeoutBoot | timeoutReal | timeoutEtimeSuccess
	if r.bufIndex != 0 || r.len != 1 || r.file2 != 0 || r.opf&^uint32(known) != 0 || r.opf&(timeoutBoot|timeoutReal) == timeoutBoot|timeoutReal {
		return unix.EINVAL
	}
	r.ns, err = getTimespec(r.t, hal.UserAddr(r.addr))
	return err
}

func prepLinkTimeout(r *ureq) error {
	if r.off != 0 {
		return unix.EINVAL
	}
	return prepTimeout(r)
}

// when makes a deadline of what a timeout's timespec and flags say.
func (r *ureq) when(ns int64, flags uint32) int64 {
	switch {
	case flags&timeoutAbs == 0:
		return r.t.Deadline(ns)
	case flags&timeoutReal != 0:
		return ns - (r.u.k.M.Walltime() - r.u.k.Timers.Now())
	}
	return ns
}

// uringTimeout waits for a time or for a number of completions: ETIME or 0.
func uringTimeout(r *ureq) (uintptr, error) {
	if !r.pend() {
		return 0, unix.ENOMEM
	}
	u := r.u
	u.mu.Lock()
	if n := uint32(r.off); n != 0 {
		r.counted, r.target = true, u.posted+uint64(n)
		u.timeouts = slices.Insert(u.timeouts, u.placeOf(r.target+1), r)
	}
	r.timed = true
	r.timer.Init(func() { r.end(-int32(unix.ETIME)) })
	u.mu.Unlock()
	u.k.Timers.Arm(&r.timer, r.when(r.ns, r.opf))
	return 0, nil
}

// pendingTimer says whether only a timer ends the request.
func (r *ureq) pendingTimer() bool {
	r.u.mu.Lock()
	defer r.u.mu.Unlock()
	return r.timed
}

// placeOf is where the timeouts begin that wait for target completions or more. Called with mu
// held.
func (u *uringState) placeOf(target uint64) int {
	i, _ := slices.BinarySearchFunc(u.timeouts, target, func(r *ureq, n uint64) int { return cmp.Compare(r.target, n) })
	return i
}

// dropTimeout forgets a timeout that counts. Called with mu held.
func (u *uringState) dropTimeout(r *ureq) {
	if !r.counted {
		return
	}
	i := u.placeOf(r.target)
	for u.timeouts[i] != r {
		i++
	}
	if r.counted = false; i == 0 { // as most are
		u.timeouts[0] = nil
		u.timeouts = u.timeouts[1:]
		return
	}
	u.timeouts = slices.Delete(u.timeouts, i, i+1)
}

func prepTimeoutRemove(r *ureq) (err error) {
	const known = timeoutAbs | timeoutUpdate | timeoutBoot | timeoutReal | timeoutLinkUpdate
	if r.bufIndex != 0 || r.len != 0 || r.file2 != 0 || r.opf&^uint32(known) != 0 || r.opf&(timeoutUpdate|timeoutLinkUpdate) == 0 && r.opf != 0 {
		return unix.EINVAL
	}
	if r.opf != 0 {
		r.ns, err = getTimespec(r.t, hal.UserAddr(r.off))
	}
	return err
}

// uringTimeoutRemove ends a timeout, or changes its time: ENOENT.
func uringTimeoutRemove(r *ureq) (uintptr, error) {
	q := r.u.find(func(q *ureq) bool {
		return q.user == r.addr && q.timed && q.op.linkTimeout == (r.opf&timeoutLinkUpdate != 0)
	})
	if q == nil {
		return 0, unix.ENOENT
	}
	if r.opf != 0 {
		r.u.k.Timers.Arm(&q.timer, r.when(r.ns, r.opf))
		return 0, nil
	}
	q.cancel(unix.ECANCELED)
	return 0, nil
}

// startLimit begins the time that q has: then it is cancelled. Called with mu held.
func (r *ureq) startLimit(q *ureq) {
	r.timed = true
	r.wait()
	r.timer.Init(func() {
		// Whoever ends q ends r, too (endLimit).
		r.fired.Store(true)
		q.cancel(unix.ECANCELED)
	})
	r.u.k.Timers.Arm(&r.timer, r.when(r.ns, r.opf))
}

// endLimit ends r with its request: ETIME if that was too slow, ENOENT if it was too slow in a
// worker, where Linux does not look.
func (r *ureq) endLimit(worker bool) {
	switch {
	case !r.fired.Load():
		r.end(-int32(unix.ECANCELED))
	case worker:
		r.end(-int32(unix.ENOENT))
	default:
		r.end(-int32(unix.ETIME))
	}
}
