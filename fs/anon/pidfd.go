package anon

import (
	"bytes"
	"fmt"

	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

// PidFD stands for a process, whose number may go to another one meanwhile. It is readable
// once every thread has ended. See pidfd_open(2).
type PidFD struct {
	vfs.BaseOps
	p *task.Process
}

// Attr implements vfs.FileOps.
func (f *PidFD) Attr(wait.Context) (vfs.Attr, error) { return vfs.AnonAttr(), nil }

// SetAttr implements vfs.FileOps.
func (f *PidFD) SetAttr(_ wait.Context, a vfs.SetAttr) error {
	return vfs.AnonSetAttr(a)
}

// NewPidFD makes one; flags are O_NONBLOCK or 0. ENOMEM: the kernel's budget is used up.
func NewPidFD(p *task.Process, flags uint32) (*vfs.File, error) {
	if err := p.Keep(); err != nil {
		return nil, err
	}
	return newFile(&PidFD{p: p}, flags, "[pidfd]"), nil
}

// Release implements vfs.FileOps.
func (f *PidFD) Release(*vfs.File) { f.p.Drop() }

// Process is the one it stands for.
func (f *PidFD) Process() *task.Process { return f.p }

// Readiness implements waiter.Waitable.
func (f *PidFD) Readiness(mask waiter.EventMask) waiter.EventMask {
	if f.p.Ended() {
		return mask & waiter.ReadableEvents
	}
	return 0
}

// EventRegister and EventUnregister implement waiter.Waitable.
func (f *PidFD) EventRegister(e *waiter.Entry) error { f.p.ExitEvents.EventRegister(e); return nil }

// EventUnregister implements waiter.Waitable.
func (f *PidFD) EventUnregister(e *waiter.Entry) { f.p.ExitEvents.EventUnregister(e) }

// FDInfo adds the process's number to /proc/self/fdinfo, -1 once it has been waited for.
func (f *PidFD) FDInfo(_ wait.Context, b *bytes.Buffer) {
	pid := f.p.PID()
	if f.p.Reaped() {
		pid = -1
	}
	fmt.Fprintf(b, "Pid:\t%d\nNSpid:\t%d\n", pid, pid)
}
