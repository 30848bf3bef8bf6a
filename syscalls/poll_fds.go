package syscalls

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"kiln/fs/anon"
	"kiln/fs/pipe"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/task"
)

// sysPipe and sysPipe2: EINVAL (flags; O_NOTIFICATION_PIPE is EINVAL too, as without
// CONFIG_WATCH_QUEUE it would be ENOPKG), EMFILE, ENFILE, EFAULT. See pipe(2).
func sysPipe(t *task.Thread, a *Args) (uintptr, error) { return makePipe(t, a[0], 0) }

func sysPipe2(t *task.Thread, a *Args) (uintptr, error) { return makePipe(t, a[0], uint32(a[1])) }

func makePipe(t *task.Thread, at uint64, flags uint32) (uintptr, error) {
	if flags&^(unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_DIRECT) != 0 {
		return 0, unix.EINVAL
	}
	r, w, err := pipe.New(t.Kernel().Mem, flags, t.Creds())
	if err != nil {
		return 0, err
	}
	cloexec := flags&unix.O_CLOEXEC != 0
	rfd, err := installFile(t, r, cloexec)
	if err != nil {
		w.DecRef()
		return 0, err
	}
	wfd, err := installFile(t, w, cloexec)
	if err == nil {
		var b [8]byte
		binary.LittleEndian.PutUint32(b[:], uint32(rfd))
		binary.LittleEndian.PutUint32(b[4:], uint32(wfd))
		if err = t.CopyOut(hal.UserAddr(at), b[:]); err == nil {
			return 0, nil
		}
		t.FDs().Withdraw(int32(wfd), w)
	}
	t.FDs().Withdraw(int32(rfd), r)
	return 0, err
}

// sysEventfd and sysEventfd2: EINVAL (flags), EMFILE, ENFILE. See eventfd(2).
func sysEventfd(t *task.Thread, a *Args) (uintptr, error) {
	return installFile(t, anon.NewEventFD(uint32(a[0]), false, 0), false)
}

func sysEventfd2(t *task.Thread, a *Args) (uintptr, error) {
	flags := uint32(a[1])
	if flags&^(unix.EFD_CLOEXEC|unix.EFD_NONBLOCK|unix.EFD_SEMAPHORE) != 0 {
		return 0, unix.EINVAL
	}
	f := anon.NewEventFD(uint32(a[0]), flags&unix.EFD_SEMAPHORE != 0, flags&unix.EFD_NONBLOCK)
	return installFile(t, f, flags&unix.EFD_CLOEXEC != 0)
}

// capWakeAlarm is CAP_WAKE_ALARM, capBlockSuspend's neighbour.
const capWakeAlarm = 35

// sysTimerfdCreate: EINVAL (flags, clock), EPERM (an alarm clock without
// CAP_WAKE_ALARM). See timerfd_create(2).
func sysTimerfdCreate(t *task.Thread, a *Args) (uintptr, error) {
	id, flags := int(int32(a[0])), uint32(a[1])
	if flags&^(unix.TFD_CLOEXEC|unix.TFD_NONBLOCK) != 0 {
		return 0, unix.EINVAL
	}
	switch id {
	case unix.CLOCK_REALTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME:
	case unix.CLOCK_REALTIME_ALARM, unix.CLOCK_BOOTTIME_ALARM:
		if !t.Creds().Can(capWakeAlarm) {
			return 0, unix.EPERM
		}
	default:
		return 0, unix.EINVAL
	}
	k := t.Kernel()
	f := anon.NewTimerFD(k.Timers, k.M.Walltime, id, flags&unix.TFD_NONBLOCK)
	return installFile(t, f, flags&unix.TFD_CLOEXEC != 0)
}

// timerfd is the timer behind a descriptor with its file held: EBADF, EINVAL.
func timerfd(t *task.Thread, fd uint64) (*vfs.File, *anon.TimerFD, error) {
	f, err := pollFile(t, fd)
	if err != nil {
		return nil, nil, err
	}
	if x, ok := f.Ops.(*anon.TimerFD); ok {
		return f, x, nil
	}
	f.DecRef()
	return nil, nil, unix.EINVAL
}

// sysTimerfdSettime: EFAULT, EINVAL (flags, times), EBADF, EINVAL (not a timerfd). See
// timerfd_settime(2).
func sysTimerfdSettime(t *task.Thread, a *Args) (uintptr, error) {
	interval, value, err, verr := getItimerspec(t, hal.UserAddr(a[2]))
	if err == unix.EFAULT {
		return 0, err
	}
	if err != nil || verr != nil || uint32(a[1])&^(unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET) != 0 {
		return 0, unix.EINVAL
	}
	f, x, err := timerfd(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	left, period := x.Set(value, interval, uint32(a[1]))
	if a[3] == 0 {
		return 0, nil
	}
	return 0, putItimerspec(t, a[3], left, period)
}

// sysTimerfdGettime: EBADF, EINVAL, EFAULT. See timerfd_gettime(2).
func sysTimerfdGettime(t *task.Thread, a *Args) (uintptr, error) {
	f, x, err := timerfd(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	left, period := x.Get()
	return 0, putItimerspec(t, a[1], left, period)
}

// putItimerspec writes a struct itimerspec: the period, then what is left.
func putItimerspec(t *task.Thread, addr uint64, left, period int64) error {
	if err := putTimespec(t, hal.UserAddr(addr), period); err != nil {
		return err
	}
	return putTimespec(t, hal.UserAddr(addr+16), left)
}

// sysSignalfd and sysSignalfd4 make a descriptor for signals, or change the set of one:
// EINVAL (flags, size of the mask), EFAULT, EBADF, EINVAL (not a signalfd). See
// signalfd(2).
func sysSignalfd(t *task.Thread, a *Args) (uintptr, error) { return signalfd(t, a, 0) }

func sysSignalfd4(t *task.Thread, a *Args) (uintptr, error) { return signalfd(t, a, uint32(a[3])) }

func signalfd(t *task.Thread, a *Args, flags uint32) (uintptr, error) {
	if a[2] != 8 {
		return 0, unix.EINVAL
	}
	var b [8]byte
	if err := t.CopyIn(b[:], hal.UserAddr(a[1])); err != nil {
		return 0, err
	}
	if flags&^(unix.SFD_CLOEXEC|unix.SFD_NONBLOCK) != 0 {
		return 0, unix.EINVAL
	}
	set := task.SigSet(binary.LittleEndian.Uint64(b[:]))
	set &^= task.Set(int32(unix.SIGKILL)) | task.Set(int32(unix.SIGSTOP))
	if int32(a[0]) == -1 {
		f, err := anon.NewSignalFD(t, set, flags&unix.SFD_NONBLOCK)
		if err != nil {
			return 0, err
		}
		return installFile(t, f, flags&unix.SFD_CLOEXEC != 0)
	}
	f, err := pollFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	s, ok := f.Ops.(*anon.SignalFD)
	if !ok {
		return 0, unix.EINVAL
	}
	s.SetMask(t.Process(), set)
	return uintptr(int32(a[0])), nil
}

// memfdNameMax is the longest name of a memfd (NAME_MAX less "memfd:").
const memfdNameMax = unix.NAME_MAX - len("memfd:")

// sysMemfdCreate: EINVAL (flags, a name that is too long), EFAULT, EMFILE, ENFILE,
// ENOMEM. Huge pages there are none: EINVAL for MFD_HUGETLB, as where the file system is
// missing. See memfd_create(2).
func sysMemfdCreate(t *task.Thread, a *Args) (uintptr, error) {
	flags := uint32(a[1])
	if flags&^(unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING) != 0 {
		return 0, unix.EINVAL
	}
	name, err := t.Space().CopyInString(t, hal.UserAddr(a[0]), memfdNameMax+1)
	switch {
	case err == unix.ENAMETOOLONG:
		return 0, unix.EINVAL
	case err != nil:
		return 0, unix.EFAULT
	}
	f, err := anon.NewMemFD(t.Kernel().Mem, t.Creds(), name, flags&unix.MFD_ALLOW_SEALING != 0)
	if err != nil {
		return 0, err
	}
	return installFile(t, f, flags&unix.MFD_CLOEXEC != 0)
}
