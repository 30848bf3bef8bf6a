// Package task is processes, threads, signals, futexes and the loop that runs a
// thread: one goroutine each, in and out of hal.Machine.Enter.
//
// (owner: task helper) model, lock order, one use.
package task

import (
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/timer"
	"kiln/kernel/wait"
)

// Kernel is what all processes share.
type Kernel struct {
	M      hal.Machine
	Mem    *mm.Memory
	Timers *timer.Queue
	NS     *vfs.Namespace
	// Net is the network stack (*net.Stack); task does not look inside.
	Net any
	// Syscalls serves one system call: the registers are in t.Ctx. It sets RAX
	// through t.Return. (syscalls.Dispatcher)
	Syscalls Syscalls
	// Log writes a kernel message at a level ("error", "warn", "info", "debug").
	Log func(level, format string, args ...any)
	// OnInitExit is called when process 1 has ended; status as wait4 has it.
	OnInitExit func(status uint32)
	// (owner: task helper) pid table, scheduler, futex table, utsname, …
	kernelState
}

// Syscalls is the system call table as the thread loop sees it.
type Syscalls interface {
	Dispatch(t *Thread)
}

type kernelState struct{}

// Thread is one thread of a program, and the wait.Context of its goroutine.
type Thread struct {
	Ctx *hal.Ctx
	// (owner: task helper)
	k       *Kernel
	process *Process
}

// Process is a thread group.
type Process struct {
	// (owner: task helper) tgid, parent, children, threads, signal handlers, limits, exe, …
}

var _ wait.Context = (*Thread)(nil)

// Accessors for system calls. FDs, FS and Space are the thread's own view (clone
// shares or copies them); they are only changed by the thread itself.
func (t *Thread) Kernel() *Kernel       { return t.k }
func (t *Thread) Process() *Process     { return t.process }
func (t *Thread) TID() int32            { panic("task: not written yet") }
func (t *Thread) Space() *mm.Space      { panic("task: not written yet") }
func (t *Thread) FDs() *vfs.FDTable     { panic("task: not written yet") }
func (t *Thread) FS() *vfs.FSContext    { panic("task: not written yet") }
func (t *Thread) Creds() *vfs.Creds     { panic("task: not written yet") }
func (t *Thread) SetCreds(c *vfs.Creds) { panic("task: not written yet") }
func (t *Thread) Name() string          { panic("task: not written yet") } // comm
func (t *Thread) SetName(s string)      { panic("task: not written yet") }

// Lookup is the thread's path-walking context; dirfd's file must be held by the caller.
func (t *Thread) Lookup(at vfs.Path) vfs.Lookup {
	return vfs.Lookup{C: t, FS: t.FS(), Creds: t.Creds(), At: at}
}

// Listener and Block implement wait.Context: Block gives the CPU token back while
// the goroutine is parked.
func (t *Thread) Listener() waiter.EventListener { panic("task: not written yet") }
func (t *Thread) Block(deadline int64, kind wait.Kind) wait.Result {
	panic("task: not written yet")
}

// BlockOn waits for one object until it is ready for mask, the deadline passes or
// a signal comes: the loop that every blocking read, write, accept and connect
// needs. try is called first and after each wake-up; it returns EAGAIN to go on
// waiting. nonblock returns try's EAGAIN at once. On time-out the error is timeoutErr.
func (t *Thread) BlockOn(w waiter.Waitable, mask waiter.EventMask, nonblock bool, deadline int64, timeoutErr error, try func() (int, error)) (int, error) {
	panic("task: not written yet")
}

// Deadline turns a relative time-out in nanoseconds into Block's absolute one,
// saturating at hal.NoDeadline.
func (t *Thread) Deadline(ns int64) int64 { panic("task: not written yet") }

// CopyIn and CopyOut copy all of a fixed-size value or return EFAULT;
// CopyInPath is a path argument (PATH_MAX: ENAMETOOLONG; EFAULT).
func (t *Thread) CopyIn(dst []byte, src hal.UserAddr) error  { panic("task: not written yet") }
func (t *Thread) CopyOut(dst hal.UserAddr, src []byte) error { panic("task: not written yet") }
func (t *Thread) CopyInPath(src hal.UserAddr) (string, error) {
	panic("task: not written yet")
}

// Limit is a resource limit's soft value (RLIMIT_*).
func (p *Process) Limit(resource int) uint64 { panic("task: not written yet") }

// SendSignal queues a signal for the process (kill) or, on a Thread, for it alone
// (tgkill); info carries si_code, si_pid, si_addr…
func (p *Process) SendSignal(info SignalInfo) { panic("task: not written yet") }
func (t *Thread) SendSignal(info SignalInfo)  { panic("task: not written yet") }

// SignalInfo is the part of siginfo_t that a sender fills.
type SignalInfo struct {
	Signo, Code, Errno int32
	PID                int32
	UID                uint32
	Addr               uint64
	Value              uint64
	Status             int32
}

// InterruptedRestart* are in kernel/wait (ErrRestart and its kin).
