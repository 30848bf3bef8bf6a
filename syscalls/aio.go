package syscalls

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/anon"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

// aioEntries are the rows of Linux AIO.
var aioEntries = []Entry{
	{Nr: unix.SYS_IO_SETUP, Name: "io_setup", Func: sysIoSetup, Support: Full},
	{Nr: unix.SYS_IO_DESTROY, Name: "io_destroy", Func: sysIoDestroy, Support: Full},
	{Nr: unix.SYS_IO_SUBMIT, Name: "io_submit", Func: sysIoSubmit, Support: Full},
	{Nr: unix.SYS_IO_CANCEL, Name: "io_cancel", Func: sysIoCancel, Support: Full},
	{Nr: unix.SYS_IO_GETEVENTS, Name: "io_getevents", Func: sysIoGetevents, Support: Full},
	{Nr: unix.SYS_IO_PGETEVENTS, Name: "io_pgetevents", Func: sysIoPgetevents, Support: Full},
}

// Commands and flags of struct iocb (uapi/linux/aio_abi.h).
const (
	iocbPread   = 0
	iocbPwrite  = 1
	iocbFsync   = 2
	iocbFdsync  = 3
	iocbPoll    = 5
	iocbPreadv  = 7
	iocbPwritev = 8

	iocbFlagResfd  = 1
	iocbFlagIoprio = 2
	iocbSize       = 64
	ioEventSize    = 32
	// On the kernel-heap budget, in bytes: an event, and a poll that waits.
	aioEventCost = 64
	aioPollCost  = 256
)

// aioContexts are those of all programs, by what a program knows them by: the address of a
// mapping that lives as long as the context. libaio looks there for a ring that it may read
// by itself; this one has no magic number, so it asks the kernel.
var aioContexts struct {
	mu sync.Mutex
	m  map[aioKey]*aioContext
}

type aioKey struct {
	space *mm.Space
	at    uint64
}

// aioContext is one io_context_t. Reads and writes of files are done when they are
// submitted, as Linux does those that are not O_DIRECT; polls wait.
type aioContext struct {
	key    aioKey
	budget *mm.Budget
	nr     int64
	maps   atomic.Int64

	q      waiter.Queue
	mu     sync.Mutex // below aioContexts.mu; key is under it until the context is published
	events []ioEvent
	polls  map[*aioPoll]struct{}
	active int // submitted and not reaped
	dead   bool
}

type ioEvent struct {
	data, obj uint64
	res       int64
}

// aioPoll is an IOCB_CMD_POLL that waits.
type aioPoll struct {
	c      *aioContext
	f      *vfs.File
	mask   waiter.EventMask
	entry  waiter.Entry
	ev     ioEvent
	signal func()
	woken  bool // under aioWoken.mu: it is in the list
	next   *aioPoll
}

// aioWoken are the polls of all contexts that have been told of an event and not looked at
// since. One goroutine does that for all of them, while there are any: a notification may
// reach as many polls as there are.
var aioWoken struct {
	mu      sync.Mutex
	first   *aioPoll
	last    *aioPoll
	looking bool
}

// sysIoSetup: EFAULT, EINVAL (an id that is not 0, no events), EAGAIN (beyond
// fs.aio-max-nr), ENOMEM. See io_setup(2).
func sysIoSetup(t *task.Thread, a *Args) (uintptr, error) {
	old, err := getU64(t, hal.UserAddr(a[1]))
	nr := int64(uint32(a[0]))
	switch {
	case err != nil:
		return 0, err
	case old != 0 || nr == 0 || nr > 0x10000000/ioEventSize:
		return 0, unix.EINVAL
	case anon.AIOUsed.Add(nr) > anon.AIOMax.Load():
		anon.AIOUsed.Add(-nr)
		return 0, unix.EAGAIN
	}
	mem := t.Kernel().Mem
	c := &aioContext{budget: mem.Budget(), nr: nr, polls: map[*aioPoll]struct{}{}}
	if !c.budget.Charge(nr * aioEventCost) {
		anon.AIOUsed.Add(-nr)
		return 0, unix.ENOMEM
	}
	obj := mm.NewObject(mem, nil, hal.PageSize)
	at, err := t.Space().Mmap(t, mm.MapArgs{Len: hal.PageSize, Prot: hal.ProtRead | hal.ProtWrite, MaxProt: hal.ProtRead | hal.ProtWrite,
		Flags: unix.MAP_SHARED, Object: obj, Name: "/[aio] (deleted)", File: c})
	obj.DecRef()
	if err != nil {
		c.destroy()
		return 0, err
	}
	c.publish(aioKey{t.Space(), uint64(at)})
	if err := putU64(t, hal.UserAddr(a[1]), uint64(at)); err != nil {
		_ = t.Space().Munmap(at, hal.PageSize)
		return 0, err
	}
	return 0, nil
}

// publish makes c what key leads to, unless somebody has unmapped its ring already: nothing would
// ever take it out again.
func (c *aioContext) publish(key aioKey) {
	x := &aioContexts
	x.mu.Lock()
	defer x.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return
	}
	if x.m == nil {
		x.m = map[aioKey]*aioContext{}
	}
	c.key = key
	x.m[key] = c
}

// IncRef and DecRef implement mm.Counted: the context ends with the last mapping of its ring.
func (c *aioContext) IncRef() { c.maps.Add(1) }
func (c *aioContext) DecRef() {
	if c.maps.Add(-1) == 0 {
		c.destroy()
	}
}

// destroy ends the context: what is under way is cancelled, what was not reaped is gone. False:
// somebody else has.
func (c *aioContext) destroy() bool {
	c.mu.Lock()
	dead := c.dead
	c.dead = true
	key, polls := c.key, c.polls
	c.polls, c.events = nil, nil
	c.mu.Unlock()
	if dead {
		return false
	}
	for p := range polls {
		p.drop()
	}
	x := &aioContexts
	x.mu.Lock()
	if x.m[key] == c {
		delete(x.m, key)
	}
	x.mu.Unlock()
	c.budget.Uncharge(c.nr * aioEventCost)
	anon.AIOUsed.Add(-c.nr)
	c.q.Notify(waiter.EventIn)
	return true
}

// aioOf is a program's context: EINVAL.
func aioOf(t *task.Thread, id uint64) (*aioContext, error) {
	x := &aioContexts
	x.mu.Lock()
	defer x.mu.Unlock()
	if c := x.m[aioKey{t.Space(), id}]; c != nil {
		return c, nil
	}
	return nil, unix.EINVAL
}

// sysIoDestroy: EINVAL. See io_destroy(2).
func sysIoDestroy(t *task.Thread, a *Args) (uintptr, error) {
	c, err := aioOf(t, a[0])
	if err != nil {
		return 0, err
	}
	if !c.destroy() {
		return 0, unix.EINVAL // whoever was faster unmaps the ring; what is there now may be another's
	}
	return 0, t.Space().Munmap(hal.UserAddr(a[0]), hal.PageSize)
}

// sysIoSubmit starts the operations that an array of pointers leads to, and returns how
// many: EINVAL (number, context, operation, reserved fields), EFAULT, EBADF, EAGAIN (no
// room for the event). See io_submit(2).
func sysIoSubmit(t *task.Thread, a *Args) (uintptr, error) {
	n := int64(a[1])
	if n < 0 {
		return 0, unix.EINVAL
	}
	c, err := aioOf(t, a[0])
	if err != nil {
		return 0, err
	}
	for i := int64(0); i < min(n, c.nr); i++ {
		at, err := getU64(t, hal.UserAddr(a[2]+8*uint64(i)))
		if err == nil {
			err = c.submit(t, at)
		}
		if err != nil {
			if i > 0 {
				return uintptr(i), nil
			}
			return 0, err
		}
	}
	return uintptr(min(n, c.nr)), nil
}

// iocb is struct iocb.
type iocb struct {
	data          uint64
	rwFlags       uint32
	op            uint16
	fd            uint32
	buf, n, off   uint64
	flags, resfd  uint32
	at, reserved2 uint64
}

func (c *aioContext) submit(t *task.Thread, at uint64) error {
	var b [iocbSize]byte
	if err := t.CopyIn(b[:], hal.UserAddr(at)); err != nil {
		return err
	}
	o := iocb{data: le.Uint64(b[0:]), rwFlags: le.Uint32(b[12:]), op: le.Uint16(b[16:]), fd: le.Uint32(b[20:]), buf: le.Uint64(b[24:]),
		n: le.Uint64(b[32:]), off: le.Uint64(b[40:]), reserved2: le.Uint64(b[48:]), flags: le.Uint32(b[56:]), resfd: le.Uint32(b[60:]), at: at}
	if o.reserved2 != 0 || int64(o.n) < 0 {
		return unix.EINVAL
	}
	c.mu.Lock()
	full := int64(c.active) >= c.nr
	if !full {
		c.active++
	}
	c.mu.Unlock()
	if full {
		return unix.EAGAIN
	}
	err := c.begin(t, &o)
	if err != nil {
		c.mu.Lock()
		c.active--
		c.mu.Unlock()
	}
	return err
}

// begin does the operation, or arms it.
func (c *aioContext) begin(t *task.Thread, o *iocb) error {
	f := t.FDs().Get(int32(o.fd))
	if f == nil || f.Flags()&unix.O_PATH != 0 {
		if f != nil {
			f.DecRef()
		}
		return unix.EBADF
	}
	defer f.DecRef()
	signal := func() {}
	if o.flags&iocbFlagResfd != 0 {
		e := t.FDs().Get(int32(o.resfd))
		if e == nil {
			return unix.EBADF
		}
		defer e.DecRef()
		counter, ok := e.Ops.(*anon.EventFD)
		if !ok {
			return unix.EINVAL
		}
		signal = func() { counter.Add(1) }
	}
	// The key that io_cancel asks for.
	if err := putU32(t, hal.UserAddr(o.at+8), 0); err != nil {
		return err
	}
	ev := ioEvent{data: o.data, obj: o.at}
	if o.op == iocbPoll {
		return c.poll(f, o, ev, signal)
	}
	n, err := aioTransfer(t, f, o)
	switch err {
	case errAIO, unix.EISDIR:
		return unix.EINVAL
	case unix.EBADF, unix.EOPNOTSUPP:
		return err
	}
	if ev.res = int64(n); err != nil {
		ev.res = int64(errnoResult(err))
	}
	c.complete(ev, signal)
	return nil
}

// errAIO says that an operation is refused rather than failed.
const errAIO = unix.Errno(0xfff)

func aioTransfer(t *task.Thread, f *vfs.File, o *iocb) (uintptr, error) {
	vec, op := o.op == iocbPreadv || o.op == iocbPwritev, readOp
	switch o.op {
	case iocbPread, iocbPreadv:
	case iocbPwrite, iocbPwritev:
		op = writeOp
	case iocbFsync, iocbFdsync:
		if o.buf|o.off|o.n != 0 || o.rwFlags != 0 {
			return 0, errAIO
		}
		if err := f.Ops.Sync(t, o.op == iocbFdsync); err == unix.EINVAL {
			return 0, errAIO
		} else {
			return 0, err
		}
	default:
		return 0, errAIO
	}
	if op == readOp && !f.Readable() || op == writeOp && !f.Writable() {
		return 0, unix.EBADF
	}
	if o.rwFlags&^(rwfHipri|rwfDsync|rwfSync|rwfAppend|rwfNowait) != 0 {
		return 0, unix.EOPNOTSUPP
	}
	a := Args{uint64(o.fd), o.buf, o.n, o.off}
	if !f.Seekable() {
		return transfer(t, &a, vec, op, 0)
	}
	if int64(o.off) < 0 {
		return 0, errAIO
	}
	return transferAt(t, &a, vec, op, uint64(o.rwFlags&rwfAppend))
}

// poll completes when one of the events has come: EINVAL for fields that are not its own.
func (c *aioContext) poll(f *vfs.File, o *iocb, ev ioEvent, signal func()) error {
	if o.buf>>16 != 0 || o.n != 0 || o.off != 0 || o.rwFlags != 0 {
		return unix.EINVAL
	}
	if !c.budget.Charge(aioPollCost) {
		return unix.EAGAIN
	}
	p := &aioPoll{c: c, f: f, mask: waiter.EventMask(o.buf)&waiter.AllEvents | pollAlways, ev: ev, signal: signal}
	f.IncRef()
	p.entry.Init(p, p.mask)
	if err := f.Ops.EventRegister(&p.entry); err != nil {
		f.DecRef()
		c.budget.Uncharge(aioPollCost)
		return err
	}
	c.mu.Lock()
	dead := c.dead
	if !dead {
		c.polls[p] = struct{}{}
	}
	c.mu.Unlock()
	if dead {
		p.drop()
		return unix.EINVAL
	}
	p.look()
	return nil
}

// NotifyEvent implements waiter.EventListener: the queue is locked, so somebody else looks.
func (p *aioPoll) NotifyEvent(waiter.EventMask) {
	w := &aioWoken
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.woken {
		return
	}
	p.woken = true
	if w.last == nil {
		w.first = p
	} else {
		w.last.next = p
	}
	w.last = p
	if !w.looking {
		w.looking = true
		go lookAtWoken()
	}
}

// lookAtWoken looks at what is in the list until nothing is.
func lookAtWoken() {
	w := &aioWoken
	for {
		w.mu.Lock()
		p := w.first
		if p == nil {
			w.looking = false
			w.mu.Unlock()
			return
		}
		if w.first = p.next; w.first == nil {
			w.last = nil
		}
		p.next, p.woken = nil, false
		w.mu.Unlock()
		p.look()
	}
}

// look completes the poll if an event has come. It may have ended meanwhile, and its file
// with it.
func (p *aioPoll) look() {
	p.c.mu.Lock()
	_, waits := p.c.polls[p]
	if waits {
		p.f.IncRef()
	}
	p.c.mu.Unlock()
	if !waits {
		return
	}
	got := p.f.Ops.Readiness(p.mask) & p.mask
	if got != 0 && p.c.forget(p) {
		p.ev.res = int64(got)
		p.end()
	}
	p.f.DecRef()
}

// end completes a poll that is forgotten.
func (p *aioPoll) end() {
	p.drop()
	p.c.complete(p.ev, p.signal)
}

// drop gives back what a poll has that is not in its context's list.
func (p *aioPoll) drop() {
	p.f.Ops.EventUnregister(&p.entry)
	p.f.DecRef()
	p.c.budget.Uncharge(aioPollCost)
}

// forget takes p out; false if somebody has done so before.
func (c *aioContext) forget(p *aioPoll) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.polls[p]
	delete(c.polls, p)
	return ok
}

func (c *aioContext) complete(ev ioEvent, signal func()) {
	c.mu.Lock()
	if !c.dead {
		c.events = append(c.events, ev)
	}
	c.mu.Unlock()
	signal()
	c.q.Notify(waiter.EventIn)
}

// sysIoCancel: EFAULT, EINVAL (key, context, nothing to cancel), EINPROGRESS once it is
// cancelled: its event comes. See io_cancel(2).
func sysIoCancel(t *task.Thread, a *Args) (uintptr, error) {
	key, err := getU32(t, hal.UserAddr(a[1]+8))
	if err != nil {
		return 0, err
	}
	if key != 0 {
		return 0, unix.EINVAL
	}
	c, err := aioOf(t, a[0])
	if err != nil {
		return 0, err
	}
	var found *aioPoll
	c.mu.Lock()
	for p := range c.polls {
		if p.ev.obj == a[1] {
			found = p
			delete(c.polls, p)
			break
		}
	}
	c.mu.Unlock()
	if found == nil {
		return 0, unix.EINVAL
	}
	found.end()
	return 0, unix.EINPROGRESS
}

// sysIoGetevents: EINVAL (numbers, context), EFAULT, EINTR. See io_getevents(2).
func sysIoGetevents(t *task.Thread, a *Args) (uintptr, error) {
	deadline, err := aioDeadline(t, a[4])
	if err != nil {
		return 0, err
	}
	return aioWait(t, a, deadline)
}

// sysIoPgetevents is io_getevents under a signal mask. See io_getevents(2).
func sysIoPgetevents(t *task.Thread, a *Args) (uintptr, error) {
	deadline, err := aioDeadline(t, a[4])
	if err != nil {
		return 0, err
	}
	if a[5] != 0 {
		var s [16]byte
		if err := t.CopyIn(s[:], hal.UserAddr(a[5])); err != nil {
			return 0, err
		}
		if mask := le.Uint64(s[:]); mask != 0 {
			if err := userSigmask(t, mask, le.Uint64(s[8:])); err != nil {
				return 0, err
			}
			n, err := aioWait(t, a, deadline)
			t.RestoreSigmask(err == unix.EINTR)
			return n, err
		}
	}
	return aioWait(t, a, deadline)
}

// aioDeadline reads a relative time-out: EFAULT.
func aioDeadline(t *task.Thread, at uint64) (int64, error) {
	if at == 0 {
		return hal.NoDeadline, nil
	}
	ns, err := getTimespec(t, hal.UserAddr(at))
	if err == unix.EFAULT {
		return 0, err
	}
	return t.Deadline(ns), nil
}

func aioWait(t *task.Thread, a *Args, deadline int64) (uintptr, error) {
	c, err := aioOf(t, a[0])
	if err != nil {
		return 0, err
	}
	least, most := int64(a[1]), int64(a[2])
	if least < 0 || least > most {
		return 0, unix.EINVAL
	}
	var e waiter.Entry
	e.Init(t.Listener(), waiter.EventIn)
	c.q.EventRegister(&e)
	defer c.q.EventUnregister(&e)
	done := int64(0)
	for {
		n, err := c.reap(t, a[3]+uint64(done)*ioEventSize, most-done)
		if done += n; err != nil && done == 0 {
			return 0, err
		}
		if err != nil || done >= least {
			return uintptr(done), nil
		}
		switch t.Block(deadline, wait.Interruptible) {
		case wait.Ready:
		case wait.Timeout:
			return uintptr(done), nil
		default:
			if done > 0 {
				return uintptr(done), nil
			}
			return 0, unix.EINTR
		}
	}
}

// reap copies out up to most events.
func (c *aioContext) reap(t *task.Thread, at uint64, most int64) (n int64, err error) {
	for n < most {
		c.mu.Lock()
		if len(c.events) == 0 {
			dead := c.dead
			c.mu.Unlock()
			if dead && n == 0 {
				err = unix.EINVAL
			}
			return n, err
		}
		ev := c.events[0]
		c.events = c.events[1:]
		c.active--
		c.mu.Unlock()
		var b [ioEventSize]byte
		le.PutUint64(b[0:], ev.data)
		le.PutUint64(b[8:], ev.obj)
		le.PutUint64(b[16:], uint64(ev.res))
		if err := t.CopyOut(hal.UserAddr(at+uint64(n)*ioEventSize), b[:]); err != nil {
			c.mu.Lock()
			c.events = append([]ioEvent{ev}, c.events...)
			c.active++
			c.mu.Unlock()
			return n, err
		}
		n++
	}
	return n, nil
}
