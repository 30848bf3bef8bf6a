package net

import (
	"math"
	"sync"
	"sync/atomic"
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

	// The last reading in netstack's form, which is dear to make: it can be had only
	// by adding to the zero time, 220 instructions of package time, and a request
	// reads the clock 22 times. It is good until something happens (refresh) or for
	// keepReading, as Linux's TCP keeps one reading for what it does about a packet
	// (tcp_mstamp_refresh).
	mu    sync.Mutex
	stale atomic.Bool
	at    int64
	mono  tcpip.MonotonicTime

	// atOnce is how many functions were to run at once and have not ended: packets whose
	// neighbour has been found are sent by one.
	atOnce atomic.Int64
}

// keepReading is how old a reading of the monotonic clock may be, nanoseconds. A round
// trip seems longer by at most that; it never seems to take no time, since what ends
// it is an event.
const keepReading = 100_000

// refresh has the next reading be a new one: a packet came in, or a timer expired.
func (c *clock) refresh() { c.stale.Store(true) }

var _ tcpip.Clock = (*clock)(nil)

// Now implements tcpip.Clock: CLOCK_REALTIME.
func (c *clock) Now() time.Time { return time.Unix(0, c.m.Walltime()) }

// NowMonotonic implements tcpip.Clock.
func (c *clock) NowMonotonic() tcpip.MonotonicTime {
	c.mu.Lock()
	now := c.m.Nanotime()
	if now-c.at >= keepReading || c.stale.Load() {
		c.stale.Store(false)
		c.at, c.mono = now, tcpip.MonotonicTime{}.Add(time.Duration(now))
	}
	t := c.mono
	c.mu.Unlock()
	return t
}

// AfterFunc implements tcpip.Clock. f takes netstack's locks, so it runs in its own
// goroutine and not in the dispatch context of kernel/timer.
func (c *clock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	t := &clockTimer{c: c, f: f}
	t.t.Init(t.fire)
	if d > 0 {
		t.Reset(d)
		return t
	}
	c.atOnce.Add(1)
	go func() {
		defer c.atOnce.Add(-1)
		f()
	}()
	return t
}

type clockTimer struct {
	c *clock
	t timer.Timer
	f func()
}

func (t *clockTimer) fire() {
	t.c.refresh()
	go t.f()
}

// Stop implements tcpip.Timer.
func (t *clockTimer) Stop() bool { return t.c.q.Stop(&t.t) }

// Reset implements tcpip.Timer. A duration beyond the end of time never comes.
func (t *clockTimer) Reset(d time.Duration) {
	now := t.c.q.Now()
	when := now + max(int64(d), 0)
	if when < now {
		when = math.MaxInt64 - 1
	}
	t.c.q.Arm(&t.t, when)
}
