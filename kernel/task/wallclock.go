package task

import (
	"sync"
	"sync/atomic"

	"kiln/kernel/hal"
	"kiln/kernel/timer"
)

// Waits and timers are kept on the monotonic clock. Those that were asked for a time of the
// wall clock move when that is set (clock_settime(2)).

// wallClock is how far the wall clock has been set.
type wallClock struct {
	mu sync.RWMutex // held for writing while the clock is set
	// moved is by how many nanoseconds it was set forward in all.
	moved atomic.Int64
}

// wallWait is a thread's wait for a time of the wall clock.
type wallWait struct {
	on  atomic.Bool
	ref int64 // wallClock.moved when the deadline was reckoned; the thread's own
}

// WallDeadline turns a time of the wall clock, in nanoseconds, into Block's deadline, which
// moves with the clock until EndWall.
func (t *Thread) WallDeadline(ns int64) int64 {
	if ns == hal.NoDeadline {
		return ns
	}
	w := &t.k.wall
	w.mu.RLock()
	defer w.mu.RUnlock()
	t.wall.ref = w.moved.Load()
	t.wall.on.Store(true)
	return t.Deadline(max(0, ns-t.k.M.Walltime()))
}

// EndWall ends what WallDeadline began.
func (t *Thread) EndWall() { t.wall.on.Store(false) }

// wallMoved is a deadline of WallDeadline as the clock has been set since.
func (t *Thread) wallMoved(deadline int64) int64 {
	return timer.Add(deadline, t.wall.ref-t.k.wall.moved.Load())
}

// SetWalltime sets the wall clock, in nanoseconds since the epoch, and moves what waits for
// a time of it.
func (k *Kernel) SetWalltime(ns int64) {
	w := &k.wall
	w.mu.Lock()
	before := k.M.Walltime()
	k.M.SetWalltime(ns)
	w.moved.Add(ns - before)
	w.mu.Unlock()
	for _, p := range k.Processes() {
		p.mu.Lock()
		for _, pt := range p.posix.byID {
			pt.wallMoved()
		}
		for t := p.threads; t != nil; t = t.sibling {
			if t.wall.on.Load() {
				t.notify(fTimeout) // Block looks at its deadline again
			}
		}
		p.mu.Unlock()
	}
}

// onMonotonic is a time of the wall clock on the monotonic one. Called with Process.mu held.
func (pt *posixTimer) onMonotonic(ns int64) int64 {
	k := pt.p.k
	k.wall.mu.RLock()
	defer k.wall.mu.RUnlock()
	pt.ref = k.wall.moved.Load()
	return ns - (k.M.Walltime() - k.M.Nanotime())
}

// wallMoved moves a timer that was set to a time of the wall clock. Called with Process.mu
// held.
func (pt *posixTimer) wallMoved() {
	if !pt.wall || pt.due == 0 {
		return
	}
	moved := pt.p.k.wall.moved.Load()
	pt.due = max(timer.Add(pt.due, pt.ref-moved), 1)
	pt.ref = moved
	if !pt.waits {
		pt.p.k.Timers.Stop(&pt.timer)
		pt.arm(pt.now())
	}
}
