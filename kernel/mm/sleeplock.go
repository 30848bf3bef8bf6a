package mm

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// SleepLock may be held over storage I/O and over copies that fault. Whoever waits
// for it does so in Context.Block, which gives the CPU token back; a sync.Mutex held
// over Block would deadlock a machine with one token. The zero value is unlocked.
type SleepLock struct {
	state atomic.Int32 // 0 free, 1 held, 2 held and waited for
	q     waiter.Queue
}

// TryLock takes the lock if it is free.
func (l *SleepLock) TryLock() bool { return l.state.CompareAndSwap(0, 1) }

// Lock takes it, waiting Uninterruptible. A nil c stands for a kernel goroutine.
func (l *SleepLock) Lock(c wait.Context) { l.LockAs(c, wait.Uninterruptible) }

// LockAs takes it unless something ends the wait first that may, by kind: Ready says that
// the caller has it.
func (l *SleepLock) LockAs(c wait.Context, kind wait.Kind) wait.Result {
	if l.TryLock() {
		return wait.Ready
	}
	c = orBackground(c)
	e := new(waiter.Entry)
	e.Init(c.Listener(), waiter.EventOut)
	l.q.EventRegister(e)
	r := wait.Ready
	for r == wait.Ready && l.state.Swap(2) != 0 {
		r = c.Block(hal.NoDeadline, kind)
	}
	l.q.EventUnregister(e)
	// Block may have eaten a wake-up meant for a wait further up the stack.
	c.Listener().NotifyEvent(0)
	return r
}

// Unlock gives it back and wakes who waits.
func (l *SleepLock) Unlock() {
	if l.state.Swap(0) == 2 {
		l.q.Notify(waiter.EventOut)
	}
}

// blockUntil waits on q until done says true. It leaves a wake-up behind: Block may
// have eaten one that was meant for a wait further up the caller's stack.
func blockUntil(c wait.Context, q *waiter.Queue, done func() bool) {
	c = orBackground(c)
	var e waiter.Entry
	e.Init(c.Listener(), waiter.EventOut)
	q.EventRegister(&e)
	for !done() {
		c.Block(hal.NoDeadline, wait.Uninterruptible)
	}
	q.EventUnregister(&e)
	c.Listener().NotifyEvent(0)
}

// orBackground stands in for a caller without a context (kernel start-up, tests).
func orBackground(c wait.Context) wait.Context {
	if c == nil {
		return wait.Background()
	}
	return c
}
