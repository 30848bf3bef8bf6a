// Package timer is the one heap of deadlines behind everything that a program can
// see: sleeps, poll and futex time-outs, interval timers, timerfd, TCP. Go's own
// timers are good to a millisecond only, and fire when a P looks, so they serve
// housekeeping alone.
//
// Lock order: Queue.mu is a leaf. Expiry functions run without it.
package timer

import (
	"sync"

	"kiln/kernel/hal"
)

// Timer is one deadline. The zero value needs Init. It may be re-armed from its
// own function.
type Timer struct {
	f     func()
	index int // in the heap, -1 when not armed
}

// Init sets the function, called once for each expiry in dispatch context: it must
// not block.
func (t *Timer) Init(f func()) { t.f, t.index = f, -1 }

// Add is a+b, or hal.NoDeadline where that is beyond it.
func Add(a, b int64) int64 {
	if b > 0 && a > hal.NoDeadline-b {
		return hal.NoDeadline
	}
	return a + b
}

// Forward moves due past now by whole intervals and says by how many. An interval that leads
// beyond all time is never over.
func Forward(due *int64, interval, now int64) int64 {
	if now < *due {
		return 0
	}
	late := now - *due
	*due = Add(now-late%interval, interval)
	return late/interval + 1
}

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
	if t.index < 0 {
		t.index = len(q.h)
		q.h = append(q.h, entry{when, t})
	}
	q.h.place(t.index, entry{when, t})
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
	q.h.remove(t.index)
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
		t := q.h[0].t
		q.h.remove(0)
		q.mu.Unlock()
		t.f()
		q.mu.Lock()
	}
	q.program()
	q.mu.Unlock()
}

// timers is a heap with four children a node: half as deep as one with two, and the
// deadlines of a family lie together.
type timers []entry

type entry struct {
	when int64
	t    *Timer
}

func (h timers) put(i int, e entry) {
	h[i] = e
	e.t.index = i
}

// place puts e where it belongs, given that position i is free for it.
func (h timers) place(i int, e entry) {
	for i > 0 {
		up := (i - 1) / 4
		if h[up].when <= e.when {
			break
		}
		h.put(i, h[up])
		i = up
	}
	for {
		first := 4*i + 1
		if first >= len(h) {
			break
		}
		least := first
		for k := first + 1; k < min(first+4, len(h)); k++ {
			if h[k].when < h[least].when {
				least = k
			}
		}
		if h[least].when >= e.when {
			break
		}
		h.put(i, h[least])
		i = least
	}
	h.put(i, e)
}

// remove takes position i out.
func (h *timers) remove(i int) {
	old := *h
	n := len(old) - 1
	old[i].t.index = -1
	last := old[n]
	old[n] = entry{}
	*h = old[:n]
	if i < n {
		h.place(i, last)
	}
}
