package net

import (
	"math"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"kiln/kernel/hal"
	"kiln/kernel/timer"
)

// clock is netstack's time: the machine's clocks and the kernel's one heap of
// deadlines, never Go timers.
type clock struct {
	m hal.Machine
	q *timer.Queue
}

var _ tcpip.Clock = (*clock)(nil)

// Now implements tcpip.Clock: CLOCK_REALTIME.
func (c *clock) Now() time.Time { return time.Unix(0, c.m.Walltime()) }

// NowMonotonic implements tcpip.Clock.
func (c *clock) NowMonotonic() tcpip.MonotonicTime {
	return tcpip.MonotonicTime{}.Add(time.Duration(c.m.Nanotime()))
}

// AfterFunc implements tcpip.Clock. f takes netstack's locks, so it runs in its own
// goroutine and not in the dispatch context of kernel/timer.
func (c *clock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	t := &clockTimer{q: c.q, f: f}
	t.t.Init(t.fire)
	t.Reset(d)
	return t
}

type clockTimer struct {
	q *timer.Queue
	t timer.Timer
	f func()
}

func (t *clockTimer) fire() { go t.f() }

// Stop implements tcpip.Timer.
func (t *clockTimer) Stop() bool { return t.q.Stop(&t.t) }

// Reset implements tcpip.Timer. A duration beyond the end of time never comes.
func (t *clockTimer) Reset(d time.Duration) {
	now := t.q.Now()
	when := now + max(int64(d), 0)
	if when < now {
		when = math.MaxInt64 - 1
	}
	t.q.Arm(&t.t, when)
}
