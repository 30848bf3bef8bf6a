package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

var futexEntries = []Entry{
	{Nr: unix.SYS_FUTEX, Name: "futex", Func: sysFutex, Support: Partial,
		Note: "PI locks go to the waiter of the highest real-time priority, which their owner does not inherit"},
	{Nr: sysFutexWaitvNr, Name: "futex_waitv", Func: sysFutexWaitv, Support: Full},
	{Nr: unix.SYS_SET_ROBUST_LIST, Name: "set_robust_list", Func: sysSetRobustList, Support: Full},
	{Nr: unix.SYS_GET_ROBUST_LIST, Name: "get_robust_list", Func: sysGetRobustList, Support: Full},
	{Nr: unix.SYS_RSEQ, Name: "rseq", Func: sysRseq, Support: Full},
}

// Futex operations (uapi/linux/futex.h).
const (
	futexWait         = 0
	futexWake         = 1
	futexRequeue      = 3
	futexCmpRequeue   = 4
	futexWakeOp       = 5
	futexLockPI       = 6
	futexUnlockPI     = 7
	futexTrylockPI    = 8
	futexWaitBitset   = 9
	futexWakeBitset   = 10
	futexPrivate      = 128
	futexRealtime     = 256
	futexMatchAny     = 0xffffffff
	futexLockPI2      = 13
	futexWaitRequeue  = 11
	futexCmpRequeuePI = 12

	sysFutexWaitvNr = 449
	futexSize32     = 2  // FUTEX_32
	futexvSize      = 24 // struct futex_waitv
)

// futexOwner is the thread in the word of a PI lock (FUTEX_TID_MASK).
const futexOwner = 0x3fffffff

// sysFutex serves (uaddr, op, val, timeout, uaddr2, val3). FUTEX_WAIT takes a relative
// time, the others an absolute one, FUTEX_LOCK_PI of the wall clock. ENOSYS: operation, FUTEX_CLOCK_REALTIME with
// one that has no clock; EFAULT, EINVAL: time, address; EAGAIN; ETIMEDOUT; EINTR. See
// futex(2).
func sysFutex(t *task.Thread, a *Args) (uintptr, error) {
	op := uint32(a[1])
	if op&^futexPrivate == futexWake { // at once: who unlocks a word wants it as cheap as can be
		n, err := t.FutexWake(hal.UserAddr(a[0]), op&futexPrivate == 0, int(int32(a[2])), futexMatchAny)
		return uintptr(n), err
	}
	cmd, shared := op&^(futexPrivate|futexRealtime), op&futexPrivate == 0
	addr, addr2 := hal.UserAddr(a[0]), hal.UserAddr(a[4])
	val, val3 := uint32(a[2]), uint32(a[5])
	deadline, wall := int64(hal.NoDeadline), int64(0)
	switch cmd {
	case futexWait, futexWaitBitset, futexLockPI, futexLockPI2, futexWaitRequeue:
		if a[3] == 0 {
			break
		}
		ns, err := getTimespec(t, hal.UserAddr(a[3]))
		if err != nil {
			return 0, err
		}
		switch {
		case cmd == futexWait:
			deadline = t.Deadline(ns)
		case op&futexRealtime != 0 || cmd == futexLockPI:
			deadline, wall = t.WallDeadline(ns), ns
			defer t.EndWall()
		default:
			deadline = ns
		}
	}
	if op&futexRealtime != 0 && cmd != futexWaitBitset && cmd != futexWaitRequeue && cmd != futexLockPI2 {
		return 0, unix.ENOSYS
	}
	var n int
	var err error
	switch cmd {
	case futexWait:
		return 0, futexRestart(t, addr, shared, val, futexMatchAny, deadline, 0)
	case futexWaitBitset:
		return 0, futexRestart(t, addr, shared, val, val3, deadline, wall)
	case futexWakeBitset:
		n, err = t.FutexWake(addr, shared, int(int32(val)), val3)
	case futexRequeue:
		n, err = t.FutexRequeue(addr, addr2, shared, int(int32(val)), int(int32(a[3])), false, 0)
	case futexCmpRequeue:
		n, err = t.FutexRequeue(addr, addr2, shared, int(int32(val)), int(int32(a[3])), true, val3)
	case futexWakeOp:
		n, err = t.FutexWakeOp(addr, addr2, shared, int(int32(val)), int(int32(a[3])), val3)
	case futexLockPI, futexLockPI2:
		err = t.FutexLockPI(addr, shared, false, deadline)
	case futexTrylockPI:
		err = t.FutexLockPI(addr, shared, true, hal.NoDeadline)
	case futexUnlockPI:
		// Whose it is counts before where it is.
		var v uint32
		if v, err = getU32(t, addr); err == nil {
			if err = unix.EPERM; v&futexOwner == uint32(t.TID()) {
				err = t.FutexUnlockPI(addr, shared)
			}
		}
	case futexWaitRequeue:
		err = t.FutexWaitRequeuePI(addr, addr2, shared, val, futexMatchAny, deadline)
	case futexCmpRequeuePI:
		n, err = t.FutexCmpRequeuePI(addr, addr2, shared, int(int32(val)), int(int32(a[3])), val3)
	default:
		return 0, unix.ENOSYS
	}
	return uintptr(n), err
}

// sysFutexWaitv waits on several words (array of struct futex_waitv, how many, flags, time,
// clock): EINVAL (flags, number, clock), EFAULT, EINVAL (time, an element), and those of
// task.FutexWaitv. The time is absolute. See futex2 in the kernel's documentation.
func sysFutexWaitv(t *task.Thread, a *Args) (uintptr, error) {
	n := uint32(a[1])
	if uint32(a[2]) != 0 || n == 0 || n > task.MaxFutexWords || a[0] == 0 {
		return 0, unix.EINVAL
	}
	deadline := int64(hal.NoDeadline)
	if a[3] != 0 {
		clock := int32(a[4])
		if clock != unix.CLOCK_REALTIME && clock != unix.CLOCK_MONOTONIC {
			return 0, unix.EINVAL
		}
		ns, err := getTimespec(t, hal.UserAddr(a[3]))
		if err != nil {
			return 0, err
		}
		deadline = ns
		if clock == unix.CLOCK_REALTIME {
			deadline = t.WallDeadline(ns)
			defer t.EndWall()
		}
	}
	words := make([]task.FutexWord, n)
	for i := range words {
		b := scratch(t, futexvSize) // u64 val, uaddr; u32 flags, reserved
		if err := t.CopyIn(b, hal.UserAddr(a[0]+uint64(i)*futexvSize)); err != nil {
			return 0, err
		}
		flags := le.Uint32(b[16:])
		if flags&^(futexSize32|futexPrivate) != 0 || le.Uint32(b[20:]) != 0 || flags&futexSize32 == 0 {
			return 0, unix.EINVAL
		}
		words[i] = task.FutexWord{Addr: hal.UserAddr(le.Uint64(b[8:])), Val: uint32(le.Uint64(b)), Shared: flags&futexPrivate == 0}
	}
	i, err := t.FutexWaitv(words, deadline)
	return uintptr(i), err
}

// futexRestart waits; a signal without a handler lets a wait with a time-out go on to
// the same deadline, as Linux' futex_wait_restart does. wall is a deadline's time of the
// wall clock, 0 for the other.
func futexRestart(t *task.Thread, addr hal.UserAddr, shared bool, val, bitset uint32, deadline, wall int64) error {
	err := t.FutexWait(addr, shared, val, bitset, deadline)
	if err != wait.ErrRestart || deadline == hal.NoDeadline {
		return err
	}
	return t.SetRestart(func(t *task.Thread) (uintptr, error) {
		if wall != 0 {
			deadline = t.WallDeadline(wall)
			defer t.EndWall()
		}
		return 0, futexRestart(t, addr, shared, val, bitset, deadline, wall)
	})
}

// sysSetRobustList: EINVAL for another size of the head. See set_robust_list(2).
func sysSetRobustList(t *task.Thread, a *Args) (uintptr, error) {
	if a[1] != task.RobustHeadSize {
		return 0, unix.EINVAL
	}
	t.SetRobustList(hal.UserAddr(a[0]))
	return 0, nil
}

// sysGetRobustList gives the caller's list, or that of a thread of its process: ESRCH;
// EPERM for one of another process; EFAULT. See get_robust_list(2).
func sysGetRobustList(t *task.Thread, a *Args) (uintptr, error) {
	o, err := findThread(t, int32(a[0]))
	if err != nil {
		return 0, err
	}
	if o.Process() != t.Process() && !sameUser(t, o.Creds()) && !t.Creds().Can(unix.CAP_SYS_PTRACE) {
		return 0, unix.EPERM
	}
	if err := putU64(t, hal.UserAddr(a[2]), task.RobustHeadSize); err != nil {
		return 0, err
	}
	return 0, putU64(t, hal.UserAddr(a[1]), uint64(o.RobustList()))
}

// sysRseq registers the area of restartable sequences: EINVAL, EBUSY, EPERM, EFAULT.
// See rseq(2).
func sysRseq(t *task.Thread, a *Args) (uintptr, error) {
	return 0, t.Rseq(hal.UserAddr(a[0]), uint32(a[1]), int32(a[2]), uint32(a[3]))
}
