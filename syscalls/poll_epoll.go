package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/fs/epoll"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

// sysEpollCreate: EINVAL unless the size, which means nothing, is positive. See
// epoll_create(2).
func sysEpollCreate(t *task.Thread, a *Args) (uintptr, error) {
	if int32(a[0]) <= 0 {
		return 0, unix.EINVAL
	}
	return epollCreate(t, false)
}

// sysEpollCreate1: EINVAL (flags), EMFILE, ENFILE, ENOMEM. See epoll_create1(2).
func sysEpollCreate1(t *task.Thread, a *Args) (uintptr, error) {
	if uint32(a[0])&^unix.EPOLL_CLOEXEC != 0 {
		return 0, unix.EINVAL
	}
	return epollCreate(t, a[0]&unix.EPOLL_CLOEXEC != 0)
}

func epollCreate(t *task.Thread, cloexec bool) (uintptr, error) {
	f := epoll.New(t.Kernel().Mem)
	if f == nil {
		return 0, unix.ENOMEM
	}
	return installFile(t, f, cloexec)
}

// installFile gives f the lowest free descriptor, or drops it.
func installFile(t *task.Thread, f *vfs.File, cloexec bool) (uintptr, error) {
	fd, err := t.FDs().Install(f, 0, cloexec)
	if err != nil {
		f.DecRef()
		return 0, err
	}
	return uintptr(fd), nil
}

// pollFile is the file behind a descriptor with a reference; an O_PATH descriptor does
// not count (fdget).
func pollFile(t *task.Thread, fd uint64) (*vfs.File, error) {
	f := t.FDs().Get(int32(fd))
	if f == nil {
		return nil, unix.EBADF
	}
	if f.Flags()&unix.O_PATH != 0 {
		f.DecRef()
		return nil, unix.EBADF
	}
	return f, nil
}

// sysEpollCtl: EFAULT (the event, if the operation has one), EBADF, EPERM (the file cannot
// be polled), EINVAL, ELOOP, EEXIST, ENOENT, ENOMEM. See epoll_ctl(2).
func sysEpollCtl(t *task.Thread, a *Args) (uintptr, error) {
	op := int(int32(a[1]))
	var events uint32
	var data uint64
	if op != unix.EPOLL_CTL_DEL {
		s := scratch(t, epoll.EventSize)
		if err := t.CopyIn(s, hal.UserAddr(a[3])); err != nil {
			return 0, err
		}
		events, data = le.Uint32(s), le.Uint64(s[4:])
	}
	ef, err := pollFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer ef.DecRef()
	f, err := pollFile(t, a[2])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if !epoll.Pollable(t, f) {
		return 0, unix.EPERM
	}
	set := epoll.Of(ef)
	if set == nil {
		return 0, unix.EINVAL
	}
	return 0, set.Ctl(t, op, int32(a[2]), f, events, data)
}

// sysEpollWait reports ready descriptors; the time-out is in milliseconds, negative for
// none. EINVAL (maxevents), EFAULT, EBADF, EINVAL (not an epoll set), EINTR. See
// epoll_wait(2).
func sysEpollWait(t *task.Thread, a *Args) (uintptr, error) {
	return epollWait(t, a, epollDeadline)
}

func epollDeadline(t *task.Thread, a *Args) int64 {
	switch ms := int32(a[3]); {
	case ms < 0:
		return hal.NoDeadline
	case ms == 0:
		return 0
	default:
		return t.Deadline(int64(ms) * 1e6)
	}
}

// sysEpollPwait is epoll_wait with a signal mask for the time of the wait: EINVAL (its
// size), EFAULT first. See epoll_pwait(2).
func sysEpollPwait(t *task.Thread, a *Args) (uintptr, error) {
	if err := userSigmask(t, a[4], a[5]); err != nil {
		return 0, err
	}
	n, err := epollWait(t, a, epollDeadline)
	t.RestoreSigmask(err == unix.EINTR)
	return n, err
}

// sysEpollPwait2 takes the time-out as a struct timespec. See epoll_pwait2(2).
func sysEpollPwait2(t *task.Thread, a *Args) (uintptr, error) {
	deadline, zero, err := deadlineAt(t, a[3])
	if err != nil {
		return 0, err
	}
	if zero && a[3] != 0 {
		deadline = 0
	}
	if err := userSigmask(t, a[4], a[5]); err != nil {
		return 0, err
	}
	n, err := epollWait(t, a, func(*task.Thread, *Args) int64 { return deadline })
	t.RestoreSigmask(err == unix.EINTR)
	return n, err
}

// epollWait waits until the given time of CLOCK_MONOTONIC, which is only asked for when
// nothing is ready.
func epollWait(t *task.Thread, a *Args, until func(*task.Thread, *Args) int64) (uintptr, error) {
	most := uint64(uint32(a[2]))
	if most-1 >= epoll.MaxEvents { // or is 0, or negative
		return 0, unix.EINVAL
	}
	if a[1] > uint64(hal.UserTop)-most*epoll.EventSize {
		return 0, unix.EFAULT
	}
	f, counted := t.FDs().Sole(int32(a[0])), false
	if f == nil {
		if f, counted = t.FDs().Get(int32(a[0])), true; f == nil {
			return 0, unix.EBADF
		}
	}
	set := epoll.Of(f)
	if set == nil { // or O_PATH, behind which there is never one
		err := error(unix.EINVAL)
		if f.Flags()&unix.O_PATH != 0 {
			err = unix.EBADF
		}
		release(f, counted)
		return 0, err
	}
	n, more := set.Look(t.Space().HW, hal.UserAddr(a[1]), int(most))
	var err error
	if n == 0 || more {
		n, err = epollSlow(t, set, f, a, n, more, until)
	}
	release(f, counted)
	return uintptr(n), err
}

// epollSlow goes on after a look that found n events: more of them, or it waits.
func epollSlow(t *task.Thread, set *epoll.Set, f *vfs.File, a *Args, n int, more bool, until func(*task.Thread, *Args) int64) (int, error) {
	deadline := until(t, a)
	if n == 0 && !more && deadline <= 0 {
		return 0, nil
	}
	x := newCall(t)
	defer x.free()
	most := int(int32(a[2]))
	x.seq.SetUser(t.Space(), t, hal.UserAddr(a[1])+hal.UserAddr(n)*epoll.EventSize, (most-n)*epoll.EventSize)
	if more {
		m, err := set.More(&x.seq, most-n)
		if n > 0 {
			err = nil
		}
		if n += m; n > 0 || err != nil || deadline <= 0 {
			return n, err
		}
	}
	f.IncRef() // it is borrowed
	n, err := set.Wait(t, &x.seq, most, deadline)
	f.DecRef()
	return n, err
}

var _ wait.Context = (*task.Thread)(nil)
