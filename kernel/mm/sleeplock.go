package mm

import (
	"sync"

	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// sleepLock is a lock that may be held over blocking I/O and faulting copies:
// whoever waits for it does so in Context.Block, which gives the CPU token back. A
// sync.Mutex held over Block would deadlock a machine with one token.
type sleepLock struct {
	mu   sync.Mutex
	held bool
	q    waiter.Queue
}

func (l *sleepLock) tryLock() bool {
	l.mu.Lock()
	ok := !l.held
	l.held = true
	l.mu.Unlock()
	return ok
}

func (l *sleepLock) lock(c wait.Context) {
	if !l.tryLock() {
		blockUntil(c, &l.q, l.tryLock)
	}
}

func (l *sleepLock) unlock() {
	l.mu.Lock()
	l.held = false
	l.mu.Unlock()
	l.q.Notify(waiter.EventOut)
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
