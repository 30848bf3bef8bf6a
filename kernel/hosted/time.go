package hosted

import (
	"math/bits"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

// clock is the machine's time. Where the host's TSC runs at one rate, Nanotime is
// computed from it with the parameters that the vDSO gets, so that the two agree
// to the tick; else it is the host's monotonic clock.
type clock struct {
	m     *Machine
	tsc   bool
	tscHz uint64
	base  uint64 // TSC at start
	mult  uint64 // nanoseconds << 32 a tick
	start time.Time

	mu       sync.Mutex
	real     int64 // Walltime - Nanotime
	deadline int64
	f        func()
	timer    *time.Timer
	stopped  bool
}

// startNanos is Nanotime when a machine is made: a booted machine's clock is not at 0.
const startNanos = 50e6

// tscRate is the host's TSC frequency in Hz, 0 if it is not constant; measured once.
var tscRate = sync.OnceValue(func() uint64 {
	b, _ := os.ReadFile("/proc/cpuinfo")
	if s := string(b); !strings.Contains(s, "constant_tsc") || !strings.Contains(s, "nonstop_tsc") {
		return 0
	}
	for range 4 {
		a := sharpest(rawNanos, rdtsc)
		time.Sleep(20 * time.Millisecond)
		if hz := rateBetween(a, sharpest(rawNanos, rdtsc)); hz != 0 {
			return hz
		}
	}
	return 0 // the host has no time for us: its own clock is to be used
})

// moment is a reading of the host's clock, with the TSC before and after it. The host may take
// the processor away in between.
type moment struct {
	ns     int64
	c0, c1 uint64
}

// sharpest is the best known of a few moments.
func sharpest(nanos func() int64, tsc func() uint64) (best moment) {
	for i := range 16 {
		c0 := tsc()
		m := moment{ns: nanos(), c0: c0, c1: tsc()}
		if i == 0 || m.c1-m.c0 < best.c1-best.c0 {
			best = m
		}
	}
	return best
}

// rateBetween is the TSC's rate in Hz from two moments, 0 unless it is known to a thousandth.
func rateBetween(a, b moment) uint64 {
	w0, w1 := (a.c1-a.c0)/2, (b.c1-b.c0)/2
	ticks, ns := b.c0+w1-(a.c0+w0), uint64(b.ns-a.ns)
	hi, lo := bits.Mul64(ticks, 1e9)
	if w0+w1 > ticks/1000 || hi >= ns {
		return 0
	}
	hz, _ := bits.Div64(hi, lo, ns)
	return hz
}

func rdtsc() uint64

func rawNanos() int64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

func (c *clock) init(m *Machine) {
	c.m = m
	c.deadline = hal.NoDeadline
	c.tscHz = tscRate()
	c.start = time.Now()
	if c.tscHz > 0 {
		c.tsc = true
		c.base = rdtsc()
		c.mult, _ = bits.Div64(1e9>>32, 1e9<<32&(1<<64-1), c.tscHz)
	}
	c.real = time.Now().UnixNano() - c.now()
}

func (c *clock) now() int64 {
	if !c.tsc {
		return startNanos + int64(time.Since(c.start))
	}
	hi, lo := bits.Mul64(rdtsc()-c.base, c.mult)
	return startNanos + int64(hi<<32|lo>>32)
}

// Nanotime implements hal.Machine.
func (m *Machine) Nanotime() int64 { return m.clock.now() }

// Walltime implements hal.Machine.
func (m *Machine) Walltime() int64 {
	m.clock.mu.Lock()
	defer m.clock.mu.Unlock()
	return m.clock.now() + m.clock.real
}

// SetWalltime implements hal.Machine: for this machine only.
func (m *Machine) SetWalltime(ns int64) {
	m.clock.mu.Lock()
	m.clock.real = ns - m.clock.now()
	m.clock.mu.Unlock()
}

// TimeParams implements hal.Machine.
func (m *Machine) TimeParams() hal.TimeParams {
	m.clock.mu.Lock()
	defer m.clock.mu.Unlock()
	return hal.TimeParams{UsableTSC: m.clock.tsc, TSCBase: m.clock.base, MonoBase: startNanos,
		Mult: m.clock.mult, RealOffset: m.clock.real}
}

// OnDeadline implements hal.Machine.
func (m *Machine) OnDeadline(f func()) {
	m.clock.mu.Lock()
	m.clock.f = f
	m.clock.mu.Unlock()
}

// SetDeadline implements hal.Machine. The function runs in a goroutine of the
// host's timer: other threads go on meanwhile, so no Enter has to return for it.
func (m *Machine) SetDeadline(ns int64) {
	c := &m.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = ns
	c.arm()
}

// arm starts the timer for the deadline. Called with mu held.
func (c *clock) arm() {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if c.deadline == hal.NoDeadline || c.stopped {
		return
	}
	c.timer = time.AfterFunc(time.Duration(max(0, c.deadline-c.now())), c.expire)
}

func (c *clock) expire() {
	c.mu.Lock()
	if c.stopped || c.deadline == hal.NoDeadline {
		c.mu.Unlock()
		return
	}
	if c.now() < c.deadline {
		c.arm() // re-armed, or the host's clock and the TSC differ a little
		c.mu.Unlock()
		return
	}
	c.deadline = hal.NoDeadline
	f := c.f
	c.mu.Unlock()
	if f != nil {
		f()
	}
}

func (c *clock) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	c.arm()
}

// Dispatch implements hal.Machine: nothing is ever latched, functions run at once
// in goroutines of their own.
func (m *Machine) Dispatch() {}

// Pending implements hal.Machine.
func (m *Machine) Pending() bool { return false }
