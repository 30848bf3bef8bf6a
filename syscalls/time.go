package syscalls

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"kiln/fs/anon"
	"kiln/kernel/hal"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

var timeEntries = []Entry{
	{Nr: unix.SYS_CLOCK_GETTIME, Name: "clock_gettime", Func: sysClockGettime, Support: Full},
	{Nr: unix.SYS_CLOCK_GETRES, Name: "clock_getres", Func: sysClockGetres, Support: Full},
	{Nr: unix.SYS_CLOCK_SETTIME, Name: "clock_settime", Func: sysClockSettime, Support: Full},
	{Nr: unix.SYS_CLOCK_NANOSLEEP, Name: "clock_nanosleep", Func: sysClockNanosleep, Support: Full},
	{Nr: unix.SYS_NANOSLEEP, Name: "nanosleep", Func: sysNanosleep, Support: Full},
	{Nr: unix.SYS_GETTIMEOFDAY, Name: "gettimeofday", Func: sysGettimeofday, Support: Full},
	{Nr: unix.SYS_SETTIMEOFDAY, Name: "settimeofday", Func: sysSettimeofday, Support: Full},
	{Nr: unix.SYS_TIME, Name: "time", Func: sysTime, Support: Full},
	{Nr: unix.SYS_ADJTIMEX, Name: "adjtimex", Func: sysAdjtimex, Support: Partial, Note: "reads the state of an unsynchronised clock; changes are EPERM"},
	{Nr: unix.SYS_CLOCK_ADJTIME, Name: "clock_adjtime", Func: sysClockAdjtime, Support: Partial, Note: "as adjtimex, CLOCK_REALTIME only"},
}

const (
	second     = int64(1e9)
	jiffy      = int64(4e6)           // 250 Hz, as Debian's kernel
	maxSeconds = hal.NoDeadline / 1e9 // beyond it a time is "never"
)

// getTimespec reads a struct timespec: EFAULT; EINVAL for a negative or denormal one.
func getTimespec(t *task.Thread, addr hal.UserAddr) (ns int64, err error) {
	b := localOf(t).times[:16]
	if err := t.CopyIn(b, addr); err != nil {
		return 0, err
	}
	return timespec(b)
}

// getItimerspec reads a struct itimerspec: EFAULT; one of the two may be EINVAL.
func getItimerspec(t *task.Thread, addr hal.UserAddr) (interval, value int64, err, valueErr error) {
	b := localOf(t).times[:]
	if err := t.CopyIn(b, addr); err != nil {
		return 0, 0, err, err
	}
	interval, err = timespec(b)
	value, valueErr = timespec(b[16:])
	return interval, value, err, valueErr
}

// timespec is the time in a struct timespec; EINVAL for a negative or denormal one.
func timespec(b []byte) (ns int64, err error) {
	sec := int64(binary.LittleEndian.Uint64(b[:]))
	nsec := int64(binary.LittleEndian.Uint64(b[8:]))
	if sec < 0 || nsec < 0 || nsec >= second {
		return 0, unix.EINVAL
	}
	if sec >= maxSeconds {
		return hal.NoDeadline, nil
	}
	return sec*second + nsec, nil
}

// putTimespec writes ns as a struct timespec, putTimeval as a struct timeval.
func putTimespec(t *task.Thread, addr hal.UserAddr, ns int64) error {
	return putPair(t, addr, ns/second, ns%second)
}

func putPair(t *task.Thread, addr hal.UserAddr, a, c int64) error {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], uint64(a))
	binary.LittleEndian.PutUint64(b[8:], uint64(c))
	return t.CopyOut(addr, b[:])
}

// clock reads a clock in nanoseconds; EINVAL for an unknown one. Negative ids are the
// CPU-time clocks of other processes and threads: clock_getcpuclockid(3), Linux's
// include/linux/posix-timers.h.
func clock(t *task.Thread, id int32) (int64, error) {
	m := t.Kernel().M
	switch id {
	case unix.CLOCK_REALTIME, unix.CLOCK_REALTIME_ALARM, unix.CLOCK_TAI:
		return m.Walltime(), nil
	case unix.CLOCK_REALTIME_COARSE:
		return m.Walltime() / jiffy * jiffy, nil
	case unix.CLOCK_MONOTONIC, unix.CLOCK_MONOTONIC_RAW, unix.CLOCK_BOOTTIME, unix.CLOCK_BOOTTIME_ALARM:
		return m.Nanotime(), nil
	case unix.CLOCK_MONOTONIC_COARSE:
		return m.Nanotime() / jiffy * jiffy, nil
	case unix.CLOCK_PROCESS_CPUTIME_ID:
		return t.Process().CPUTime(), nil
	case unix.CLOCK_THREAD_CPUTIME_ID:
		return t.CPUTime(), nil
	}
	if id >= 0 || id&3 == 3 {
		return 0, unix.EINVAL
	}
	return cpuClock(t, id)
}

// What a CPU-time clock counts is in its two low bits (CPUCLOCK_PROF, VIRT, SCHED); 3 is a
// descriptor's clock.
const cpuClockSched = 2

// isCPUClock says whether an id is that of a process's or thread's CPU time, valid or not.
func isCPUClock(id int32) bool { return id < 0 && id&7 != 3 }

func cpuClock(t *task.Thread, id int32) (int64, error) {
	who := ^(id >> 3)
	if id&4 != 0 { // a thread of the caller's process
		if who == 0 {
			return t.CPUTime(), nil
		}
		o := t.Kernel().Thread(who)
		if o == nil || o.Process() != t.Process() {
			return 0, unix.EINVAL
		}
		return o.CPUTime(), nil
	}
	if who == 0 {
		return t.Process().CPUTime(), nil
	}
	p := t.Kernel().Process(who)
	if p == nil {
		return 0, unix.EINVAL
	}
	return p.CPUTime(), nil
}

// sysClockGettime reads a clock: EINVAL, EFAULT. See clock_gettime(2).
func sysClockGettime(t *task.Thread, a *Args) (uintptr, error) {
	ns, err := clock(t, int32(a[0]))
	if err != nil {
		return 0, err
	}
	return 0, putTimespec(t, hal.UserAddr(a[1]), ns)
}

// sysClockGetres gives a clock's resolution: 1 ns, a jiffy for the coarse ones.
func sysClockGetres(t *task.Thread, a *Args) (uintptr, error) {
	id := int32(a[0])
	if _, err := clock(t, id); err != nil {
		return 0, err
	}
	if a[1] == 0 {
		return 0, nil
	}
	res := int64(1)
	if id == unix.CLOCK_REALTIME_COARSE || id == unix.CLOCK_MONOTONIC_COARSE || id < 0 && id&3 != cpuClockSched {
		res = jiffy
	}
	return 0, putTimespec(t, hal.UserAddr(a[1]), res)
}

// sysClockSettime sets CLOCK_REALTIME: EINVAL (another clock), EFAULT, EINVAL, EPERM. CPU-time
// clocks are EPERM.
// See clock_settime(2).
func sysClockSettime(t *task.Thread, a *Args) (uintptr, error) {
	id := int32(a[0])
	if id != unix.CLOCK_REALTIME && !isCPUClock(id) {
		return 0, unix.EINVAL
	}
	ns, err := getTimespec(t, hal.UserAddr(a[1]))
	switch {
	case id < 0 && err != unix.EFAULT: // the time does not matter
		if _, err := clock(t, id); err != nil {
			return 0, err
		}
		return 0, unix.EPERM
	case err != nil:
		return 0, err
	}
	return 0, setTime(t, ns)
}

func setTime(t *task.Thread, ns int64) error {
	if t.Creds().Effective&(1<<unix.CAP_SYS_TIME) == 0 {
		return unix.EPERM
	}
	k := t.Kernel()
	if ns < k.M.Nanotime() || ns == hal.NoDeadline {
		return unix.EINVAL // before the machine was started, or past the end of time
	}
	k.SetWalltime(ns)
	anon.ClockWasSet()
	if k.OnTimeChange != nil {
		k.OnTimeChange()
	}
	return nil
}

// sysNanosleep sleeps for a time. An interrupted sleep writes what remains and goes
// on through restart_syscall if no handler ran. EFAULT, EINVAL. See nanosleep(2).
func sysNanosleep(t *task.Thread, a *Args) (uintptr, error) {
	ns, err := getTimespec(t, hal.UserAddr(a[0]))
	if err != nil {
		return 0, err
	}
	return sleepUntil(t, t.Deadline(ns), hal.UserAddr(a[1]))
}

// sysClockNanosleep sleeps on a clock, TIMER_ABSTIME until a time. EINVAL (clock),
// EOPNOTSUPP (a clock without timers, the caller's own CPU time), EFAULT, EINVAL. See
// clock_nanosleep(2).
func sysClockNanosleep(t *task.Thread, a *Args) (uintptr, error) {
	id := int32(a[0])
	switch id {
	case unix.CLOCK_REALTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME, unix.CLOCK_TAI,
		unix.CLOCK_REALTIME_ALARM, unix.CLOCK_BOOTTIME_ALARM:
	case unix.CLOCK_PROCESS_CPUTIME_ID:
		id = ^0<<3 | cpuClockSched
	default:
		if isCPUClock(id) {
			break
		}
		if _, err := clock(t, id); err != nil {
			return 0, err
		}
		return 0, unix.EOPNOTSUPP
	}
	ns, err := getTimespec(t, hal.UserAddr(a[2]))
	if err != nil {
		return 0, err
	}
	if (id == unix.CLOCK_REALTIME_ALARM || id == unix.CLOCK_BOOTTIME_ALARM) && !t.Creds().Can(unix.CAP_WAKE_ALARM) {
		return 0, unix.EPERM
	}
	if id < 0 {
		return sleepOnCPU(t, id, ns, a[1]&unix.TIMER_ABSTIME != 0, hal.UserAddr(a[3]))
	}
	if a[1]&unix.TIMER_ABSTIME == 0 {
		return sleepUntil(t, t.Deadline(ns), hal.UserAddr(a[3]))
	}
	deadline := ns // the monotonic clocks are one
	if id != unix.CLOCK_MONOTONIC && id != unix.CLOCK_BOOTTIME && id != unix.CLOCK_BOOTTIME_ALARM {
		deadline = t.WallDeadline(ns)
		defer t.EndWall()
	}
	if t.Kernel().M.Nanotime() < deadline && t.Sleep(deadline) != wait.Timeout {
		return 0, wait.ErrRestartNoHnd
	}
	return 0, nil
}

// cpuSleepStep is how often a sleep on CPU time looks at least: a jiffy, as Linux looks.
const cpuSleepStep = jiffy

// sleepOnCPU sleeps until a process, or another thread of the caller's, has used ns of CPU
// time, or its clock shows ns. EINVAL: no such clock, or the caller's own.
func sleepOnCPU(t *task.Thread, id int32, ns int64, absolute bool, rem hal.UserAddr) (uintptr, error) {
	who := ^(id >> 3)
	if id&4 != 0 && (who == 0 || who == t.TID()) {
		return 0, unix.EINVAL
	}
	now, err := clock(t, id)
	if err != nil {
		return 0, err
	}
	if !absolute {
		ns += min(now, hal.NoDeadline-ns)
	}
	return cpuSleep(t, id, ns, absolute, rem)
}

func cpuSleep(t *task.Thread, id int32, until int64, absolute bool, rem hal.UserAddr) (uintptr, error) {
	cpus := int64(t.Kernel().M.CPUs())
	for {
		now, err := clock(t, id)
		if err != nil {
			return 0, err
		}
		if now >= until {
			return 0, nil
		}
		// It cannot be there before each CPU has worked for it all the time.
		if t.Sleep(t.Deadline(max((until-now)/cpus, cpuSleepStep))) == wait.Timeout {
			continue
		}
		if absolute {
			return 0, wait.ErrRestartNoHnd
		}
		if now, err = clock(t, id); err != nil || now >= until {
			return 0, err
		}
		if rem != 0 {
			if err := putTimespec(t, rem, until-now); err != nil {
				return 0, err
			}
		}
		return 0, t.SetRestart(func(t *task.Thread) (uintptr, error) { return cpuSleep(t, id, until, absolute, rem) })
	}
}

// sleepUntil sleeps on CLOCK_MONOTONIC; rem, if not 0, gets what remains.
func sleepUntil(t *task.Thread, deadline int64, rem hal.UserAddr) (uintptr, error) {
	if r := t.Sleep(deadline); r == wait.Timeout {
		return 0, nil
	}
	left := deadline - t.Kernel().M.Nanotime()
	if left <= 0 {
		return 0, nil
	}
	if rem != 0 {
		if err := putTimespec(t, rem, left); err != nil {
			return 0, err
		}
	}
	return 0, t.SetRestart(func(t *task.Thread) (uintptr, error) { return sleepUntil(t, deadline, rem) })
}

// sysGettimeofday gives the wall clock in microseconds and a time zone of UTC.
func sysGettimeofday(t *task.Thread, a *Args) (uintptr, error) {
	if a[0] != 0 {
		ns := t.Kernel().M.Walltime()
		if err := putPair(t, hal.UserAddr(a[0]), ns/second, ns%second/1000); err != nil {
			return 0, err
		}
	}
	if a[1] != 0 {
		var tz [8]byte
		return 0, t.CopyOut(hal.UserAddr(a[1]), tz[:])
	}
	return 0, nil
}

// sysSettimeofday sets the wall clock; a time zone is accepted only as UTC.
func sysSettimeofday(t *task.Thread, a *Args) (uintptr, error) {
	var tv [16]byte
	if a[0] != 0 {
		if err := t.CopyIn(tv[:], hal.UserAddr(a[0])); err != nil {
			return 0, err
		}
	}
	if a[1] != 0 {
		var tz [8]byte
		if err := t.CopyIn(tz[:], hal.UserAddr(a[1])); err != nil {
			return 0, err
		}
		if tz != [8]byte{} {
			return 0, unix.EINVAL
		}
	}
	if a[0] == 0 {
		if !t.Creds().Can(unix.CAP_SYS_TIME) {
			return 0, unix.EPERM
		}
		return 0, nil
	}
	sec, usec := int64(binary.LittleEndian.Uint64(tv[:])), int64(binary.LittleEndian.Uint64(tv[8:]))
	if sec < 0 || sec >= maxSeconds || usec < 0 || usec >= 1e6 {
		return 0, unix.EINVAL
	}
	return 0, setTime(t, sec*second+usec*1000)
}

// sysTime gives the wall clock in seconds. See time(2).
func sysTime(t *task.Thread, a *Args) (uintptr, error) {
	sec := t.Kernel().M.Walltime() / second
	if a[0] != 0 {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], uint64(sec))
		if err := t.CopyOut(hal.UserAddr(a[0]), b[:]); err != nil {
			return 0, err
		}
	}
	return uintptr(sec), nil
}

// adjOffsetSSRead is ADJ_OFFSET_SS_READ: what is left of adjtime's offset, which is 0.
const adjOffsetSSRead = 0xa001

// timexSize is sizeof(struct timex); offsets below are into it (adjtimex(2)).
const timexSize = 208

// sysAdjtimex reads the clock's discipline: there is none, so it is unsynchronised
// (TIME_ERROR, as Linux without a time daemon). Changing it is EPERM.
func sysAdjtimex(t *task.Thread, a *Args) (uintptr, error) {
	var b [timexSize]byte
	addr := hal.UserAddr(a[0])
	if err := t.CopyIn(b[:], addr); err != nil {
		return 0, err
	}
	le := binary.LittleEndian
	if m := le.Uint32(b[:]); m != 0 && m != adjOffsetSSRead {
		return 0, unix.EPERM
	}
	b = [timexSize]byte{}
	le.PutUint64(b[24:], 16000000) // maxerror, microseconds
	le.PutUint64(b[32:], 16000000) // esterror
	le.PutUint32(b[40:], unix.STA_UNSYNC)
	le.PutUint64(b[48:], 2) // constant
	le.PutUint64(b[56:], 1) // precision
	le.PutUint64(b[64:], 32768000)
	now := t.Kernel().M.Walltime()
	le.PutUint64(b[72:], uint64(now/second))
	le.PutUint64(b[80:], uint64(now%second/1000))
	le.PutUint64(b[88:], 10000) // tick, microseconds at USER_HZ
	if err := t.CopyOut(addr, b[:]); err != nil {
		return 0, err
	}
	return unix.TIME_ERROR, nil
}

func sysClockAdjtime(t *task.Thread, a *Args) (uintptr, error) {
	if id := int32(a[0]); id != unix.CLOCK_REALTIME {
		var b [timexSize]byte
		if err := t.CopyIn(b[:], hal.UserAddr(a[1])); err != nil {
			return 0, err // before the clock is looked at
		}
		if _, err := clock(t, id); err != nil && !isCPUClock(id) {
			return 0, err
		}
		return 0, unix.EOPNOTSUPP
	}
	return sysAdjtimex(t, &Args{a[1]})
}
