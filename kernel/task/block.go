package task

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// blockWaits are the flags that end a wait of each kind.
var blockWaits = [...]uint32{
	wait.Interruptible:   fEvent | fTimeout | fSignal | fKill | fStop | fWork,
	wait.Killable:        fEvent | fTimeout | fKill,
	wait.Uninterruptible: fEvent | fTimeout,
}

// Listener implements wait.Context.
func (t *Thread) Listener() waiter.EventListener { return t }

// NotifyEvent implements waiter.EventListener: it wakes the thread.
func (t *Thread) NotifyEvent(waiter.EventMask) { t.notify(fEvent) }

// Block implements wait.Context. The CPU token goes back while the thread is parked.
// It allocates nothing.
func (t *Thread) Block(deadline int64, kind wait.Kind) wait.Result {
	waits := blockWaits[kind]
	armed := false
	for {
		f := t.flags.Load() & waits
		switch {
		case f == 0:
		case f&fKill != 0:
			return t.unblock(armed, wait.Kill)
		case f&fEvent != 0:
			t.flags.And(^fEvent)
			return t.unblock(armed, wait.Ready)
		case f&fWork != 0:
			// Its own, in the middle of a wait: to the waiting code a wake-up for nothing.
			t.flags.And(^fWork)
			t.runWork()
			return t.unblock(armed, wait.Ready)
		case f&fSignal != 0:
			return t.unblock(armed, wait.Signal)
		case f&fStop != 0:
			return t.unblock(armed, wait.Stop)
		default: // a time-out, perhaps of an earlier Block
			t.flags.And(^fTimeout)
		}
		if deadline != hal.NoDeadline {
			at := deadline
			if t.wall.on.Load() {
				at = t.wallMoved(at)
			}
			if t.k.M.Nanotime() >= at {
				return t.unblock(armed, wait.Timeout)
			}
			t.k.Timers.Arm(&t.timer, at)
			armed = true
		}
		t.k.Sched.block(t, waits)
	}
}

func (t *Thread) unblock(armed bool, r wait.Result) wait.Result {
	if armed {
		t.k.Timers.Stop(&t.timer)
		t.flags.And(^fTimeout)
	}
	return r
}

// BlockOn waits for one object until it is ready for mask, the deadline passes or
// a signal comes: the loop that every blocking read, write, accept and connect
// needs once a first try has said EAGAIN. try is called when the thread listens and
// after each wake-up; it returns EAGAIN to go on waiting. nonblock returns its
// EAGAIN. On time-out the error is timeoutErr.
func (t *Thread) BlockOn(w waiter.Waitable, mask waiter.EventMask, nonblock bool, deadline int64, timeoutErr error, try func() (int, error)) (int, error) {
	if nonblock {
		return try()
	}
	if t.attempt != nil {
		n, err := try()
		if err == unix.EAGAIN {
			*t.attempt = wouldWait{w, mask}
		}
		return n, err
	}
	e := &t.entry
	if t.entryUsed { // a wait inside a wait: rare enough to allocate
		e = new(waiter.Entry)
	} else {
		t.entryUsed = true
	}
	e.Init(t, mask)
	if err := w.EventRegister(e); err != nil {
		t.releaseEntry(e)
		return 0, err
	}
	var n int
	var err error
	for {
		if n, err = try(); !wait.Again(err) {
			break
		}
		if r := t.Block(deadline, wait.Interruptible); r != wait.Ready {
			n, err = 0, r.Err()
			if r == wait.Timeout {
				err = timeoutErr
			}
			break
		}
	}
	w.EventUnregister(e)
	t.releaseEntry(e)
	return n, err
}

func (t *Thread) releaseEntry(e *waiter.Entry) {
	if e == &t.entry {
		t.entryUsed = false
	}
}

// Sleep blocks until the deadline; the result is Timeout when it was reached.
func (t *Thread) Sleep(deadline int64) wait.Result {
	for {
		if r := t.Block(deadline, wait.Interruptible); r != wait.Ready {
			return r
		}
	}
}

// Deadline turns a relative time-out in nanoseconds into Block's absolute one,
// saturating at hal.NoDeadline.
func (t *Thread) Deadline(ns int64) int64 {
	now := t.k.M.Nanotime()
	if ns >= hal.NoDeadline-now {
		return hal.NoDeadline
	}
	return now + ns
}

// SignalPending says whether a signal, a stop or the end is waiting for the thread.
func (t *Thread) SignalPending() bool { return t.flags.Load()&(fSignal|fKill|fStop) != 0 }

// CopyIn copies all of dst from the program or returns EFAULT.
func (t *Thread) CopyIn(dst []byte, src hal.UserAddr) error {
	_, err := t.space.CopyIn(t, dst, src)
	if err != nil {
		return unix.EFAULT
	}
	return nil
}

// CopyOut copies all of src to the program or returns EFAULT.
func (t *Thread) CopyOut(dst hal.UserAddr, src []byte) error {
	_, err := t.space.CopyOut(t, dst, src)
	if err != nil {
		return unix.EFAULT
	}
	return nil
}

// pathNames are the paths a thread has used lately, so that using one again needs no new
// string: programs ask for the same few names over and over.
type pathNames struct {
	buf  [64]byte
	seen [8]string
}

// CopyInPath is a path argument: ENAMETOOLONG beyond PATH_MAX, EFAULT.
func (t *Thread) CopyInPath(src hal.UserAddr) (string, error) {
	p := &t.paths
	n, whole, err := t.space.CopyInShort(t, src, p.buf[:])
	if !whole || err != nil {
		return t.space.CopyInString(t, src, unix.PathMax)
	}
	b := p.buf[:n]
	if n == 0 {
		return "", nil
	}
	s := &p.seen[(n+int(b[n-1])+int(b[n/2]))%len(p.seen)]
	if *s != string(b) {
		*s = string(b)
	}
	return *s, nil
}
