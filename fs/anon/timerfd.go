package anon

import (
	"bytes"
	"encoding/binary"
	"fmt"
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
// read or asked, so that a period of a nanosecond costs nothing while nobody looks. See
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
	expired  bool  // the timer has run out and is not armed again
	absolute int64 // the time on the wall clock it stands for; 0: none
	cancel   bool  // TFD_TIMER_CANCEL_ON_SET
	canceled bool
}

// FDInfo implements vfs.FDInfoer.
func (t *TimerFD) FDInfo(_ wait.Context, b *bytes.Buffer) {
	clock := 1
	if t.real {
		clock = 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	left := int64(0)
	if t.when != 0 && !t.expired {
		left = max(t.when-t.timers.Now(), 0)
	}
	fmt.Fprintf(b, "clockid: %d\nticks: %d\nsettime flags: 0%o\nit_value: (%d, %d)\nit_interval: (%d, %d)\n", clock, t.ticks, 0,
		left/1e9, left%1e9, t.interval/1e9, t.interval%1e9)
}

// wallTimers are those that a new wall-clock time moves.
var wallTimers struct {
	mu sync.Mutex
	m  map[*TimerFD]struct{}
}

// ClockWasSet tells timers on CLOCK_REALTIME that it jumped.
func ClockWasSet() {
	wallTimers.mu.Lock()
	list := make([]*TimerFD, 0, len(wallTimers.m))
	for t := range wallTimers.m {
		list = append(list, t)
	}
	wallTimers.mu.Unlock()
	for _, t := range list {
		t.clockSet()
	}
}

func (t *TimerFD) clockSet() {
	t.mu.Lock()
	if t.when != 0 && t.absolute != 0 && !t.expired {
		t.when = t.fromWall(t.absolute)
		t.timers.Arm(&t.t, t.when)
	}
	wake := t.cancel
	t.canceled = t.canceled || wake
	t.mu.Unlock()
	if wake {
		t.Q.Notify(waiter.EventIn)
	}
}

// fromWall is the moment of the monotonic clock at which the wall clock shows v.
func (t *TimerFD) fromWall(v int64) int64 {
	return max(v-(t.wall()-t.timers.Now()), 1)
}

// NewTimerFD makes one; clock has been checked, wall is CLOCK_REALTIME.
func NewTimerFD(q *timer.Queue, wall func() int64, clock int, flags uint32) *vfs.File {
	t := &TimerFD{timers: q, wall: wall, real: clock == unix.CLOCK_REALTIME || clock == unix.CLOCK_REALTIME_ALARM}
	t.t.Init(t.ranOut)
	return newFile(t, flags, "[timerfd]")
}

func (t *TimerFD) ranOut() {
	t.mu.Lock()
	ok := t.when != 0 && !t.expired && t.timers.Now() >= t.when
	if ok {
		t.expired = true
		t.ticks++
	}
	t.mu.Unlock()
	if ok {
		t.Q.Notify(waiter.EventIn)
	}
}

// forward adds the periods that have gone by and arms the next. Called with mu held.
func (t *TimerFD) forward() {
	if !t.expired || t.interval == 0 {
		return
	}
	t.expired = false
	missed := timer.Forward(&t.when, t.interval, max(t.timers.Now(), t.when)) - 1
	t.ticks += uint64(missed)
	if t.absolute != 0 {
		t.absolute = timer.Add(timer.Add(t.absolute, missed*t.interval), t.interval)
	}
	t.timers.Arm(&t.t, t.when)
}

// Read implements vfs.FileOps: the expirations since the last read; EINVAL for less than 8
// bytes, EAGAIN, ECANCELED once after the clock was set.
func (t *TimerFD) Read(_ wait.Context, _ *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	if dst.Len() < 8 {
		return 0, unix.EINVAL
	}
	t.mu.Lock()
	if t.canceled {
		t.canceled, t.ticks = false, 0
		t.mu.Unlock()
		return 0, unix.ECANCELED
	}
	n := t.ticks
	if n > 0 {
		t.forward()
		n, t.ticks = t.ticks, 0
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
	if t.ticks > 0 || t.canceled {
		return mask & waiter.EventIn
	}
	return 0
}

// Get is timerfd_gettime: nanoseconds until the next expiration, and the period.
func (t *TimerFD) Get() (left, interval int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.get()
}

func (t *TimerFD) get() (left, interval int64) {
	t.forward()
	if t.when != 0 && !t.expired {
		left = max(t.when-t.timers.Now(), 1)
	}
	return left, t.interval
}

// Set is timerfd_settime: value in nanoseconds (0 disarms), from now or, with
// TFD_TIMER_ABSTIME, on the clock.
func (t *TimerFD) Set(value, interval int64, flags uint32) (oldLeft, oldInterval int64) {
	absolute := flags&unix.TFD_TIMER_ABSTIME != 0
	t.mu.Lock()
	oldLeft, oldInterval = t.get()
	t.timers.Stop(&t.t)
	t.ticks, t.when, t.interval, t.absolute = 0, 0, interval, 0
	t.expired, t.canceled = false, false
	t.cancel = t.real && absolute && flags&unix.TFD_TIMER_CANCEL_ON_SET != 0
	if value != 0 {
		switch {
		case absolute && t.real:
			t.absolute = value
			t.when = t.fromWall(value)
		case absolute:
			t.when = value
		default:
			t.when = timer.Add(t.timers.Now(), value)
		}
		t.timers.Arm(&t.t, t.when)
	}
	listed := t.absolute != 0 || t.cancel
	t.mu.Unlock()
	t.list(listed)
	return oldLeft, oldInterval
}

// list adds the timer to wallTimers or takes it out.
func (t *TimerFD) list(on bool) {
	if !t.real {
		return
	}
	wallTimers.mu.Lock()
	if on {
		if wallTimers.m == nil {
			wallTimers.m = map[*TimerFD]struct{}{}
		}
		wallTimers.m[t] = struct{}{}
	} else {
		delete(wallTimers.m, t)
	}
	wallTimers.mu.Unlock()
}

// Release implements vfs.FileOps.
func (t *TimerFD) Release(*vfs.File) {
	t.mu.Lock()
	t.when, t.absolute, t.cancel = 0, 0, false
	t.timers.Stop(&t.t)
	t.mu.Unlock()
	t.list(false)
}

// setTicks is TFD_IOC_SET_TICKS.
const setTicks = 0x40085400

// Ioctl implements vfs.FileOps. TFD_IOC_SET_TICKS: EFAULT, EINVAL for none, ECANCELED.
func (t *TimerFD) Ioctl(c wait.Context, _ *vfs.File, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	if req != setTicks {
		return 0, unix.ENOTTY
	}
	var b [8]byte
	if _, err := sp.CopyIn(c, b[:], hal.UserAddr(arg)); err != nil {
		return 0, err
	}
	n := binary.LittleEndian.Uint64(b[:])
	if n == 0 {
		return 0, unix.EINVAL
	}
	t.mu.Lock()
	canceled := t.canceled
	if t.canceled = false; !canceled {
		t.ticks = n
	}
	t.mu.Unlock()
	if canceled {
		return 0, unix.ECANCELED
	}
	t.Q.Notify(waiter.EventIn)
	return 0, nil
}
