package vfs

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Owner is who hears of a description by signal (F_SETOWN), with the user that said so.
type Owner struct {
	Type      int32 // F_OWNER_TID, F_OWNER_PID or F_OWNER_PGRP
	ID        int32 // 0: nobody
	UID, EUID uint32
	// Send sends them the file's signal (File.Signal) with a POLL_* code and descriptor.
	Send func(f *File, fd, code int32)
}

// Reasons for SIGIO (include/uapi/asm-generic/siginfo.h).
const (
	PollIn  = 1
	PollOut = 2
	PollMsg = 3
	PollErr = 4
	PollPri = 5
	PollHup = 6
)

// Asyncer is a FileOps that tells its owner by SIGIO when it becomes ready (O_ASYNC). Async
// gives the reason for what its queue was notified of, 0 for none.
type Asyncer interface {
	Async(mask waiter.EventMask) int32
}

// AsyncReason is Async of what can be read, written and hung up.
func AsyncReason(mask waiter.EventMask) int32 {
	switch {
	case mask&waiter.EventHUp != 0:
		return PollHup
	case mask&waiter.ReadableEvents != 0:
		return PollIn
	case mask&waiter.WritableEvents != 0:
		return PollOut
	case mask&waiter.EventPri != 0:
		return PollPri
	case mask&waiter.EventErr != 0:
		return PollErr
	}
	return 0
}

// async is the entry of a description with O_ASYNC in its object's queue.
type async struct {
	f     *File
	fd    int32
	entry waiter.Entry
}

// NotifyEvent implements waiter.EventListener.
func (a *async) NotifyEvent(mask waiter.EventMask) {
	if s, ok := a.f.Ops.(Asyncer); ok {
		if code := s.Async(mask); code != 0 {
			a.f.TellOwner(a.fd, code)
		}
	}
}

// TellOwner sends the owner, if there is one, the signal for a POLL_* reason.
func (f *File) TellOwner(fd, code int32) {
	if o := f.owner.Load(); o != nil && o.ID != 0 {
		o.Send(f, fd, code)
	}
}

// Owner is F_GETOWN; nil before the first F_SETOWN.
func (f *File) Owner() *Owner { return f.owner.Load() }

// SetOwner is F_SETOWN.
func (f *File) SetOwner(o *Owner) { f.owner.Store(o) }

// DefaultOwner is SetOwner unless there is one.
func (f *File) DefaultOwner(o *Owner) {
	for {
		old := f.owner.Load()
		if old != nil && old.ID != 0 || f.owner.CompareAndSwap(old, o) {
			return
		}
	}
}

// CanAsync says whether O_ASYNC means anything to f.
func (f *File) CanAsync() bool {
	_, ok := f.Ops.(Asyncer)
	return ok
}

// SetAsync sets and clears O_ASYNC by way of descriptor fd: from then on the owner hears
// of what happens. Nothing changes where it means nothing.
func (f *File) SetAsync(fd int32, on bool) {
	if !f.CanAsync() {
		return
	}
	f.watchMu.Lock()
	defer f.watchMu.Unlock()
	if old := f.async; old != nil {
		f.Ops.EventUnregister(&old.entry)
		f.async = nil
	}
	v := uint32(0)
	if on {
		v = unix.O_ASYNC
		a := &async{f: f, fd: fd}
		a.entry.Init(a, waiter.AllEvents)
		if f.Ops.EventRegister(&a.entry) == nil {
			f.async = a
		}
	}
	f.SetFlags(unix.O_ASYNC, v)
}

// dropAsync is SetAsync(false) at the end.
func (f *File) dropAsync() {
	if f.flags.Load()&unix.O_ASYNC == 0 {
		return
	}
	f.watchMu.Lock()
	a := f.async
	f.async = nil
	f.watchMu.Unlock()
	if a != nil {
		f.Ops.EventUnregister(&a.entry)
	}
}
