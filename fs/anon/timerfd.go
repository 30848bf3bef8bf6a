package anon

import (
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/timer"
	"kiln/kernel/wait"
)

// TimerFD counts expirations. As in Linux, a periodic timer is armed again when it is
// read, so that a period of a nanosecond costs nothing while nobody looks. See
// timerfd_create(2).
type TimerFD struct {
	Base
	timers *timer.Queue
	wall   func() int64
	real   bool // CLOCK_REALTIME
	t      timer.Timer

	mu       sync.Mutex
	when     int64 // monotonic; 0: not armed
	interval int64
	ticks    uint64
}

// NewTimerFD makes one; clock has been checked, wall is CLOCK_REALTIME.
func NewTimerFD(q *timer.Queue, wall func() int64, clock int, flags uint32) *vfs.File {
	t := &TimerFD{timers: q, wall: wall, real: clock == unix.CLOCK_REALTIME || clock == unix.CLOCK_REALTIME_ALARM}
	t.t.Init(t.expired)
	return newFile(t, flags, "[timerfd]")
}

func (t *TimerFD) expired() {
	t.mu.Lock()
	ok := t.when != 0 && t.timers.Now() >= t.when && t.ticks == 0
	if ok {
		t.ticks = 1
	}
	t.mu.Unlock()
	if ok {
		t.Q.Notify(waiter.ReadableEvents)
	}
}

// forward adds the periods that have gone by. Called with mu held.
func (t *TimerFD) forward() {
	if t.when == 0 || t.interval == 0 || t.ticks == 0 {
		return
	}
	if now := t.timers.Now(); now >= t.when {
		n := (now-t.when)/t.interval + 1
		t.ticks += uint64(n) - 1
		t.when += n * t.interval
		t.timers.Arm(&t.t, t.when)
	}
}

// Read implements vfs.FileOps.
func (t *TimerFD) Read(_ wait.Context, _ *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	if dst.Len() < 8 {
		return 0, unix.EINVAL
	}
	t.mu.Lock()
	t.forward()
	n := t.ticks
	t.ticks = 0
	if n > 0 && t.interval == 0 {
		t.when = 0
	}
	t.mu.Unlock()
	if n == 0 {
		return 0, unix.EAGAIN
	}
	return putWord(dst, n)
}

// Readiness implements waiter.Waitable.
func (t *TimerFD) Readiness(mask waiter.EventMask) waiter.EventMask {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ticks > 0 {
		return mask & waiter.ReadableEvents
	}
	return 0
}

// Get is timerfd_gettime: nanoseconds until the next expiration, and the period.
func (t *TimerFD) Get() (left, interval int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.getLocked()
}

func (t *TimerFD) getLocked() (left, interval int64) {
	t.forward()
	if t.when != 0 {
		if left = t.when - t.timers.Now(); left <= 0 {
			left = 0
			if t.ticks == 0 {
				left = 1
			}
		}
	}
	return left, t.interval
}

// Set is timerfd_settime: value in nanoseconds (0 disarms), absolute or from now.
func (t *TimerFD) Set(value, interval int64, absolute bool) (oldLeft, oldInterval int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	oldLeft, oldInterval = t.getLocked()
	t.timers.Stop(&t.t)
	t.ticks, t.when, t.interval = 0, 0, interval
	if value == 0 {
		return
	}
	now := t.timers.Now()
	switch {
	case !absolute:
		if value = now + value; value < 0 {
			value = hal.NoDeadline
		}
	case t.real:
		value -= t.wall() - now
	}
	t.when = max(value, 1)
	t.timers.Arm(&t.t, t.when)
	return
}

// Release implements vfs.FileOps.
func (t *TimerFD) Release(*vfs.File) { t.timers.Stop(&t.t) }

// Ioctl: TFD_IOC_SET_TICKS is for checkpointing only.
func (t *TimerFD) Ioctl(wait.Context, *vfs.File, *mm.Space, uint32, uint64) (uintptr, error) {
	return 0, unix.ENOTTY
}
