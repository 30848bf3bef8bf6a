package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/task"
)

var timerEntries = []Entry{
	{Nr: unix.SYS_TIMER_CREATE, Name: "timer_create", Func: sysTimerCreate, Support: Partial,
		Note: "CPU-time clocks are the caller's own process's"},
	{Nr: unix.SYS_TIMER_SETTIME, Name: "timer_settime", Func: sysTimerSettime, Support: Full},
	{Nr: unix.SYS_TIMER_GETTIME, Name: "timer_gettime", Func: sysTimerGettime, Support: Full},
	{Nr: unix.SYS_TIMER_GETOVERRUN, Name: "timer_getoverrun", Func: sysTimerGetoverrun, Support: Full},
	{Nr: unix.SYS_TIMER_DELETE, Name: "timer_delete", Func: sysTimerDelete, Support: Full},
	{Nr: unix.SYS_SETITIMER, Name: "setitimer", Func: sysSetitimer, Support: Full},
	{Nr: unix.SYS_GETITIMER, Name: "getitimer", Func: sysGetitimer, Support: Full},
	{Nr: unix.SYS_ALARM, Name: "alarm", Func: sysAlarm, Support: Full},
}

// sysTimerCreate makes a timer (clock, sigevent, id): EFAULT (sigevent), EINVAL, EAGAIN,
// EFAULT (id). See timer_create(2).
func sysTimerCreate(t *task.Thread, a *Args) (uintptr, error) {
	c := task.TimerArgs{Clock: int32(a[0]), Signo: int32(unix.SIGALRM), ValueIsID: true}
	if a[1] != 0 {
		var b [64]byte // struct sigevent: value, signal, notification, thread
		if err := t.CopyIn(b[:], hal.UserAddr(a[1])); err != nil {
			return 0, err
		}
		c = task.TimerArgs{Clock: c.Clock, Value: le.Uint64(b[0:]), Signo: int32(le.Uint32(b[8:])),
			Notify: int32(le.Uint32(b[12:])), TID: int32(le.Uint32(b[16:]))}
	}
	late := c.Clock < 0 && isCPUClock(c.Clock) || c.Clock == unix.CLOCK_REALTIME_ALARM || c.Clock == unix.CLOCK_BOOTTIME_ALARM
	id, err := int32(0), timerClock(t, &c.Clock)
	if err == nil {
		id, err = t.CreateTimer(c)
	}
	if err != nil {
		if late { // these clocks are asked when the number has been told
			t.Process().SkipTimer()
			if _, good := t.SigEvent(&c); !good {
				return 0, unix.EINVAL
			}
			if bad := putU32(t, hal.UserAddr(a[2]), 0); bad != nil {
				err = bad
			}
		}
		return 0, err
	}
	if err := putU32(t, hal.UserAddr(a[2]), uint32(id)); err != nil {
		_ = t.Process().DeleteTimer(id)
		return 0, err
	}
	return 0, nil
}

// timerClock turns a clock into the one that a timer of it runs on: an alarm clock is as
// good as its sibling on a machine that never sleeps (EPERM without CAP_WAKE_ALARM), and
// the caller's CPU time has two names.
func timerClock(t *task.Thread, id *int32) error {
	switch who := ^(*id >> 3); {
	case *id == unix.CLOCK_REALTIME_ALARM, *id == unix.CLOCK_BOOTTIME_ALARM:
		if !t.Creds().Can(unix.CAP_WAKE_ALARM) {
			return unix.EPERM
		}
		if *id == unix.CLOCK_BOOTTIME_ALARM {
			*id = unix.CLOCK_BOOTTIME
		} else {
			*id = unix.CLOCK_REALTIME
		}
	case !isCPUClock(*id) || *id&3 != cpuClockSched:
	case *id&4 != 0 && (who == 0 || who == t.TID()):
		*id = unix.CLOCK_THREAD_CPUTIME_ID
	case *id&4 == 0 && (who == 0 || who == t.Process().PID()):
		*id = unix.CLOCK_PROCESS_CPUTIME_ID
	}
	return nil
}

// timerAbstime is TIMER_ABSTIME; other flags are ignored, as Linux does.
const timerAbstime = 1

// sysTimerSettime arms or disarms a timer (id, flags, new, old): EINVAL (no new), EFAULT,
// EINVAL (times, id), EFAULT (old). See timer_settime(2).
func sysTimerSettime(t *task.Thread, a *Args) (uintptr, error) {
	if a[2] == 0 {
		return 0, unix.EINVAL
	}
	interval, value, err, err2 := getItimerspec(t, hal.UserAddr(a[2]))
	if err2 != nil {
		return 0, err2
	}
	if err != nil {
		return 0, err
	}
	left, old, err := t.Process().SetTimer(int32(a[0]), int32(a[1])&timerAbstime != 0, value, interval)
	if err != nil || a[3] == 0 {
		return 0, err
	}
	return 0, putTimer(t, hal.UserAddr(a[3]), old, left)
}

// putTimer writes struct itimerspec.
func putTimer(t *task.Thread, at hal.UserAddr, interval, value int64) error {
	if err := putTimespec(t, at, interval); err != nil {
		return err
	}
	return putTimespec(t, at+16, value)
}

// sysTimerGettime: EINVAL, EFAULT. See timer_gettime(2).
func sysTimerGettime(t *task.Thread, a *Args) (uintptr, error) {
	left, interval, err := t.Process().Timer(int32(a[0]))
	if err != nil {
		return 0, err
	}
	return 0, putTimer(t, hal.UserAddr(a[1]), interval, left)
}

// sysTimerGetoverrun and sysTimerDelete: EINVAL. See timer_getoverrun(2), timer_delete(2).
func sysTimerGetoverrun(t *task.Thread, a *Args) (uintptr, error) {
	n, err := t.Process().TimerOverrun(int32(a[0]))
	return uintptr(n), err
}

func sysTimerDelete(t *task.Thread, a *Args) (uintptr, error) {
	return 0, t.Process().DeleteTimer(int32(a[0]))
}

// sysSetitimer sets an interval timer (which, new, old); no new is 0. EFAULT (new),
// EINVAL (times, which), EFAULT (old). See setitimer(2).
func sysSetitimer(t *task.Thread, a *Args) (uintptr, error) {
	var b [32]byte
	if a[1] != 0 {
		if err := t.CopyIn(b[:], hal.UserAddr(a[1])); err != nil {
			return 0, err
		}
	}
	interval, ok := timeval(b[:])
	value, ok2 := timeval(b[16:])
	if !ok || !ok2 || uint32(a[0]) > 2 {
		return 0, unix.EINVAL
	}
	left, old := t.Process().SetITimer(int(uint32(a[0])), value, interval)
	if a[2] == 0 {
		return 0, nil
	}
	return 0, putITimer(t, hal.UserAddr(a[2]), old, left)
}

// timeval reads a strict struct timeval: false if it is negative or not normal.
func timeval(b []byte) (ns int64, ok bool) {
	sec, usec := int64(le.Uint64(b)), int64(le.Uint64(b[8:]))
	if sec < 0 || usec < 0 || usec >= 1e6 {
		return 0, false
	}
	if sec >= maxSeconds {
		return hal.NoDeadline, true
	}
	return sec*second + usec*1000, true
}

func putITimer(t *task.Thread, at hal.UserAddr, interval, value int64) error {
	if err := putPair(t, at, interval/second, interval%second/1000); err != nil {
		return err
	}
	return putPair(t, at+16, value/second, value%second/1000)
}

// sysGetitimer: EINVAL, EFAULT. See getitimer(2).
func sysGetitimer(t *task.Thread, a *Args) (uintptr, error) {
	if uint32(a[0]) > 2 {
		return 0, unix.EINVAL
	}
	left, interval := t.Process().ITimer(int(uint32(a[0])))
	return 0, putITimer(t, hal.UserAddr(a[1]), interval, left)
}

// sysAlarm sets the real-time interval timer and returns the seconds that were left,
// rounded, and at least 1 if it was armed. See alarm(2).
func sysAlarm(t *task.Thread, a *Args) (uintptr, error) {
	left, _ := t.Process().SetITimer(unix.ITIMER_REAL, int64(uint32(a[0]))*second, 0)
	sec := left / second
	if rest := left % second; sec == 0 && rest > 0 || rest >= second/2 {
		sec++
	}
	return uintptr(sec), nil
}
