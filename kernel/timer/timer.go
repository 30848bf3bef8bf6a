// Package timer is the one heap of deadlines behind everything that a program can
// see: sleeps, poll and futex time-outs, interval timers, timerfd, TCP. Go's own
// timers are good to a millisecond only, and fire when a P looks, so they serve
// housekeeping alone.
//
// Lock order: Queue.mu is a leaf. Expiry functions run without it.
package timer

import (
	"container/heap"
	"sync"

	"kiln/kernel/hal"
)

// Timer is one deadline. The zero value needs Init. It may be re-armed from its
// own function.
type Timer struct {
	f     func()
	when  int64
	index int // in the heap, -1 when not armed
}

// Init sets the function, called once for each expiry in dispatch context: it must
// not block.
func (t *Timer) Init(f func()) { t.f, t.index = f, -1 }

// Queue orders the deadlines of one machine.
type Queue struct {
	m  hal.Machine
	mu sync.Mutex
	h  timers
	// armed is the deadline that the machine has now, so that only a change of
	// the earliest one touches the hardware.
	armed int64
}

// NewQueue takes over m's deadline.
func NewQueue(m hal.Machine) *Queue {
	q := &Queue{m: m, armed: hal.NoDeadline}
	m.OnDeadline(q.expire)
	return q
}

// Now is the clock that the deadlines are on (CLOCK_MONOTONIC, nanoseconds).
func (q *Queue) Now() int64 { return q.m.Nanotime() }

// Arm sets t to expire at when, replacing an earlier deadline.
func (q *Queue) Arm(t *Timer, when int64) {
	q.mu.Lock()
	t.when = when
	if t.index >= 0 {
		heap.Fix(&q.h, t.index)
	} else {
		heap.Push(&q.h, t)
	}
	q.program()
	q.mu.Unlock()
}

// Stop disarms t and says whether it was armed. Its function may be running, or
// about to run, when Stop returns false.
func (q *Queue) Stop(t *Timer) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.index < 0 {
		return false
	}
	heap.Remove(&q.h, t.index)
	// The machine's deadline is left as it is: an early expiry finds nothing
	// due and programs the next one, which is cheaper than a register write on
	// every time-out that did not happen.
	return true
}

// program arms the machine with the earliest deadline if it is earlier than what
// is armed. Called with mu held.
func (q *Queue) program() {
	if len(q.h) > 0 && q.h[0].when < q.armed {
		q.armed = q.h[0].when
		q.m.SetDeadline(q.armed)
	}
}

func (q *Queue) expire() {
	q.mu.Lock()
	q.armed = hal.NoDeadline
	now := q.m.Nanotime()
	for len(q.h) > 0 && q.h[0].when <= now {
		t := heap.Pop(&q.h).(*Timer)
		q.mu.Unlock()
		t.f()
		q.mu.Lock()
	}
	q.program()
	q.mu.Unlock()
}

type timers []*Timer

func (h timers) Len() int           { return len(h) }
func (h timers) Less(i, j int) bool { return h[i].when < h[j].when }
func (h timers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *timers) Push(x any) {
	t := x.(*Timer)
	t.index = len(*h)
	*h = append(*h, t)
}
func (h *timers) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
