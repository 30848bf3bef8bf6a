package syscalls

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/anon"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

const (
	pollfdSize = 8
	// Events that x/sys/unix lacks (asm-generic/poll.h).
	pollRdNorm, pollRdBand, pollWrNorm, pollWrBand = 0x40, 0x80, 0x100, 0x200
	// pollItemCost is what one watched descriptor costs on the Go heap, in bytes, and
	// pollFree how much of that a call may use without asking the budget.
	pollItemCost = 128
	pollFree     = 64 << 10
)

// pollItem is one descriptor that a call watches.
type pollItem struct {
	f      *vfs.File
	own    waiter.Waitable // of a signalfd: the caller's own signals
	entry  waiter.Entry
	events uint32 // what was asked, POLLERR and POLLHUP included
	got    uint32
	fd     int32 // select: which descriptor, in which sets
	sets   uint8
}

// pollCall is the memory of one poll or select, kept for the next.
type pollCall struct {
	t       *task.Thread
	items   []pollItem
	raw     []byte
	charged int64
}

var pollCalls = sync.Pool{New: func() any { return new(pollCall) }}

// newPollCall has room for n items and raw bytes; ENOMEM beyond the budget.
func newPollCall(t *task.Thread, n, raw int) (*pollCall, error) {
	p := pollCalls.Get().(*pollCall)
	p.t = t
	if need := int64(n)*pollItemCost + int64(raw); need > pollFree {
		if !t.Kernel().Mem.Budget().Charge(need) {
			pollCalls.Put(p)
			return nil, unix.ENOMEM
		}
		p.charged = need
	}
	if cap(p.items) < n {
		p.items = make([]pollItem, 0, n)
	}
	if cap(p.raw) < raw {
		p.raw = make([]byte, raw)
	}
	p.items, p.raw = p.items[:0], p.raw[:raw]
	return p, nil
}

func (p *pollCall) free() {
	for i := range p.items {
		if f := p.items[i].f; f != nil {
			f.DecRef()
			p.items[i].f, p.items[i].own = nil, nil
		}
	}
	p.items = p.items[:0]
	if p.charged > 0 {
		p.t.Kernel().Mem.Budget().Uncharge(p.charged)
		p.charged, p.items, p.raw = 0, nil, nil
	}
	p.t = nil
	pollCalls.Put(p)
}

// add watches a descriptor; false if it is not open.
func (p *pollCall) add(fd int32, events uint32) bool {
	f := p.t.FDs().Get(fd)
	if f != nil && f.Flags()&unix.O_PATH != 0 {
		f.DecRef()
		f = nil
	}
	it := pollItem{f: f, events: events | unix.POLLERR | unix.POLLHUP}
	if f != nil {
		if s, ok := f.Ops.(*anon.SignalFD); ok {
			it.own = s.ForReader(p.t)
		}
	}
	p.items = append(p.items, it)
	return f != nil
}

func (it *pollItem) readiness(mask waiter.EventMask) waiter.EventMask {
	if it.own != nil {
		return it.own.Readiness(mask)
	}
	return it.f.Ops.Readiness(mask)
}

// look asks every file and returns how many items have something.
func (p *pollCall) look() (n int) {
	for i := range p.items {
		it := &p.items[i]
		if it.f != nil {
			it.got = uint32(it.readiness(waiter.EventMask(it.events)&waiter.AllEvents)) & it.events
		}
		if it.got != 0 {
			n++
		}
	}
	return n
}

// wait looks until something is ready or the deadline (absolute nanoseconds; not
// after now: look once) passes. A signal is ErrRestartNoHnd.
func (p *pollCall) wait(deadline int64) (int, error) {
	if n := p.look(); n > 0 || deadline <= p.t.Kernel().Timers.Now() {
		return n, nil
	}
	registered := 0
	defer func() { p.unregister(registered) }()
	for i := range p.items {
		it := &p.items[i]
		if it.f != nil {
			it.entry.Init(p.t.Listener(), waiter.EventMask(it.events)&waiter.AllEvents)
			err := error(nil)
			if it.own != nil {
				err = it.own.EventRegister(&it.entry)
			} else {
				err = it.f.Ops.EventRegister(&it.entry)
			}
			if err != nil {
				return 0, err
			}
		}
		registered++
	}
	for {
		if n := p.look(); n > 0 {
			return n, nil
		}
		switch p.t.Block(deadline, wait.Interruptible) {
		case wait.Ready:
		case wait.Timeout:
			return p.look(), nil
		default:
			if n := p.look(); n > 0 {
				return n, nil
			}
			return 0, wait.ErrRestartNoHnd
		}
	}
}

func (p *pollCall) unregister(n int) {
	for i := range p.items[:n] {
		if it := &p.items[i]; it.own != nil {
			it.own.EventUnregister(&it.entry)
		} else if it.f != nil {
			it.f.Ops.EventUnregister(&it.entry)
		}
	}
}

// sysPoll waits for events on descriptors: EINVAL (more than RLIMIT_NOFILE), EFAULT,
// ENOMEM. The time-out is in milliseconds, negative for none. See poll(2).
func sysPoll(t *task.Thread, a *Args) (uintptr, error) {
	ms := int32(a[2])
	deadline := hal.NoDeadline
	if ms >= 0 {
		deadline = t.Deadline(int64(ms) * 1e6)
	}
	return pollUntil(t, a[0], uint32(a[1]), deadline)
}

func pollUntil(t *task.Thread, fds uint64, n uint32, deadline int64) (uintptr, error) {
	done, err := doPoll(t, fds, n, deadline)
	if err == wait.ErrRestartNoHnd {
		err = t.SetRestart(func(t *task.Thread) (uintptr, error) { return pollUntil(t, fds, n, deadline) })
	}
	return done, err
}

func doPoll(t *task.Thread, fds uint64, n uint32, deadline int64) (uintptr, error) {
	if uint64(n) > t.Process().Limit(task.RlimitNofile) {
		return 0, unix.EINVAL
	}
	p, err := newPollCall(t, int(n), int(n)*pollfdSize)
	if err != nil {
		return 0, err
	}
	defer p.free()
	if n > 0 {
		if err := t.CopyIn(p.raw, hal.UserAddr(fds)); err != nil {
			return 0, err
		}
	}
	for i := range int(n) {
		b := p.raw[i*pollfdSize:]
		fd := int32(binary.LittleEndian.Uint32(b))
		if fd < 0 {
			p.items = append(p.items, pollItem{})
		} else if !p.add(fd, uint32(binary.LittleEndian.Uint16(b[4:]))) {
			p.items[i].got = unix.POLLNVAL
		}
	}
	ready, err := p.wait(deadline)
	for i := range p.items {
		binary.LittleEndian.PutUint16(p.raw[i*pollfdSize+6:], uint16(p.items[i].got))
	}
	if n > 0 {
		if cerr := t.CopyOut(hal.UserAddr(fds), p.raw); cerr != nil {
			return 0, cerr
		}
	} else if hal.UserAddr(fds) > hal.UserTop {
		return 0, unix.EFAULT // also for none
	}
	return uintptr(ready), err
}

// sysPpoll is poll with a time-out in nanoseconds, which it updates, and a signal mask
// for the time of the wait: EFAULT, EINVAL (time, size of the mask). See ppoll(2).
func sysPpoll(t *task.Thread, a *Args) (uintptr, error) {
	deadline, zero, err := deadlineAt(t, a[2])
	if err != nil {
		return 0, err
	}
	if err := userSigmask(t, a[3], a[4]); err != nil {
		return 0, err
	}
	n, err := doPoll(t, a[0], uint32(a[1]), deadline)
	return n, pollFinish(t, a[2], deadline, zero, false, err)
}

// deadlineAt reads a relative struct timespec; address 0 is no deadline. zero says that
// it is 0, which is not updated.
func deadlineAt(t *task.Thread, addr uint64) (deadline int64, zero bool, err error) {
	if addr == 0 {
		return hal.NoDeadline, true, nil
	}
	ns, err := getTimespec(t, hal.UserAddr(addr))
	if err != nil {
		return 0, false, err
	}
	return t.Deadline(ns), ns == 0, nil
}

// userSigmask puts a temporary signal mask in force: EINVAL for its size, EFAULT.
func userSigmask(t *task.Thread, addr, size uint64) error {
	if addr == 0 {
		return nil
	}
	if size != 8 {
		return unix.EINVAL
	}
	var b [8]byte
	if err := t.CopyIn(b[:], hal.UserAddr(addr)); err != nil {
		return err
	}
	t.SetUserSigmask(task.SigSet(binary.LittleEndian.Uint64(b[:])))
	return nil
}

// pollFinish restores the signal mask and writes the time that is left, as a timespec
// or a timeval. Where it cannot be written, an interrupted call does not
// restart (Linux's poll_select_finish).
func pollFinish(t *task.Thread, addr uint64, deadline int64, zero, timeval bool, err error) error {
	t.RestoreSigmask(err == wait.ErrRestartNoHnd)
	if addr == 0 || zero {
		return err
	}
	left := max(deadline-t.Kernel().M.Nanotime(), 0)
	var werr error
	switch {
	case deadline == hal.NoDeadline: // so far away that it does not move
	case timeval:
		werr = putPair(t, hal.UserAddr(addr), left/second, left%second/1000)
	default:
		werr = putTimespec(t, hal.UserAddr(addr), left)
	}
	if werr != nil && err == wait.ErrRestartNoHnd {
		return unix.EINTR
	}
	return err
}

// selectIn, selectOut and selectEx are the poll events behind the three sets
// (POLLIN_SET and its kin in fs/select.c).
const (
	selectIn  = pollRdNorm | pollRdBand | unix.POLLIN | unix.POLLHUP | unix.POLLERR
	selectOut = pollWrBand | pollWrNorm | unix.POLLOUT | unix.POLLERR
	selectEx  = unix.POLLPRI
)

var selectSets = [3]uint32{selectIn, selectOut, selectEx}

// sysSelect: EINVAL (n, time), EFAULT, EBADF, ENOMEM. The time that is left is
// written back. See select(2).
func sysSelect(t *task.Thread, a *Args) (uintptr, error) {
	deadline, zero := hal.NoDeadline, true
	if a[4] != 0 {
		ns, err := getTimeval(t, a[4])
		if err != nil {
			return 0, err
		}
		deadline, zero = t.Deadline(ns), ns == 0
	}
	n, err := doSelect(t, int32(a[0]), a[1], a[2], a[3], deadline)
	return n, pollFinish(t, a[4], deadline, zero, true, err)
}

// getTimeval reads a struct timeval as select does: microseconds beyond a second
// carry over; EINVAL for negative ones.
func getTimeval(t *task.Thread, addr uint64) (ns int64, err error) {
	var b [16]byte
	if err := t.CopyIn(b[:], hal.UserAddr(addr)); err != nil {
		return 0, err
	}
	sec, usec := int64(binary.LittleEndian.Uint64(b[:])), int64(binary.LittleEndian.Uint64(b[8:]))
	carry := usec / 1e6
	if sec < 0 || usec < 0 {
		return 0, unix.EINVAL
	}
	if sec >= maxSeconds || carry >= maxSeconds-sec {
		return hal.NoDeadline, nil
	}
	return (sec+carry)*second + usec%1e6*1000, nil
}

// sysPselect6 is select with nanoseconds and a signal mask: the last argument points at
// the mask's address and its size. See pselect(2).
func sysPselect6(t *task.Thread, a *Args) (uintptr, error) {
	var mask, size uint64
	if a[5] != 0 {
		var b [16]byte
		if err := t.CopyIn(b[:], hal.UserAddr(a[5])); err != nil {
			return 0, err
		}
		mask, size = binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:])
	}
	deadline, zero, err := deadlineAt(t, a[4])
	if err != nil {
		return 0, err
	}
	if err := userSigmask(t, mask, size); err != nil {
		return 0, err
	}
	n, err := doSelect(t, int32(a[0]), a[1], a[2], a[3], deadline)
	return n, pollFinish(t, a[4], deadline, zero, false, err)
}

// doSelect is core_sys_select: bit maps of 64-bit words for n descriptors, read,
// write and exceptional. n is cut to what the descriptor table holds.
func doSelect(t *task.Thread, n int32, in, out, ex uint64, deadline int64) (uintptr, error) {
	if n < 0 {
		return 0, unix.EINVAL
	}
	n = min(n, int32(t.FDs().Size()))
	size := int(n+63) / 64 * 8
	sets := [3]uint64{in, out, ex}
	p, err := newPollCall(t, 0, 3*size)
	if err != nil {
		return 0, err
	}
	defer p.free()
	for k, at := range sets {
		m := p.raw[k*size : (k+1)*size]
		clear(m)
		if at != 0 && size > 0 {
			if err := t.CopyIn(m, hal.UserAddr(at)); err != nil {
				return 0, err
			}
		}
	}
	if err := p.watchSets(int(n), size); err != nil {
		return 0, err
	}
	if _, err := p.wait(deadline); err != nil {
		return 0, err // the sets stay as they are
	}
	clear(p.raw)
	count := 0
	for i := range p.items {
		it := &p.items[i]
		for k, events := range selectSets {
			if it.sets>>k&1 != 0 && it.got&events != 0 {
				p.raw[k*size+int(it.fd)/8] |= 1 << (it.fd % 8)
				count++
			}
		}
	}
	for k, at := range sets {
		if at != 0 && size > 0 {
			if err := t.CopyOut(hal.UserAddr(at), p.raw[k*size:(k+1)*size]); err != nil {
				return 0, err
			}
		}
	}
	return uintptr(count), nil
}

// watchSets watches the descriptors named in the three sets: EBADF for one that is not
// open.
func (p *pollCall) watchSets(n, size int) error {
	for fd := range n {
		var sets uint8
		var events uint32
		for k, e := range selectSets {
			if p.raw[k*size+fd/8]>>(fd%8)&1 != 0 {
				sets |= 1 << k
				events |= e
			}
		}
		if sets == 0 {
			continue
		}
		if len(p.items) == cap(p.items) {
			if err := p.more(); err != nil {
				return err
			}
		}
		open := p.add(int32(fd), events)
		it := &p.items[len(p.items)-1]
		if !open {
			if f := p.t.FDs().Get(int32(fd)); f == nil {
				return unix.EBADF
			} else { // O_PATH: EPOLLNVAL, which is of each set
				f.DecRef()
				it.got = events
			}
		}
		// Only what the sets ask for counts.
		it.events, it.fd, it.sets = events, int32(fd), sets
	}
	return nil
}

// more makes room for items before any of them is registered.
func (p *pollCall) more() error {
	n := max(2*cap(p.items), 16)
	if need := int64(n) * pollItemCost; need > pollFree {
		if !p.t.Kernel().Mem.Budget().Charge(need) {
			return unix.ENOMEM
		}
		p.charged += need
	}
	items := make([]pollItem, len(p.items), n)
	copy(items, p.items)
	p.items = items
	return nil
}
