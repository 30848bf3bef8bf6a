package task

import (
	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
)

// Supervision is what the kernel itself does as process 1 where several programs are to
// run: it is their parent, orphans are its children, and both are reaped as they end. It
// has no thread and no memory, and only the signals that ask for an end reach it.
type Supervision struct {
	// Signal is told of SIGTERM and SIGINT to process 1.
	Signal func(sig int32)
}

// Supervise makes process 1 of the kernel itself, before any Start.
func (k *Kernel) Supervise(s Supervision) *Process {
	p := &Process{k: k, hand: newSigHand(), last: vfs.RootCreds(),
		limits: defaultLimits(k.MaxThreads() / 2), startTime: k.M.Nanotime(), supervise: &s}
	p.user.Store(k.userOf(0))
	p.init()
	// So tellParent lets its children go at once.
	p.hand.actions[int32(unix.SIGCHLD)-1].Handler = sigIgnore
	k.tree.Lock()
	p.pid = k.allocPID()
	p.pgid, p.sid = p.pid, p.pid
	k.enter(p)
	k.init = p
	k.tree.Unlock()
	return p
}

// Supervises says whether p is the kernel itself.
func (p *Process) Supervises() bool { return p.supervise != nil }

// signalSupervisor takes a signal to process 1. As Linux's init, it gets only those
// that it asked for.
func (p *Process) signalSupervisor(sig int32) {
	if f := p.supervise.Signal; f != nil && (sig == int32(unix.SIGTERM) || sig == int32(unix.SIGINT)) {
		f(sig)
	}
}

// Unit is a program with all that descends from it, wherever its processes went in the
// tree of parents: what is started with StartArgs.Unit and every child of a member.
type Unit struct {
	gone func()
	// Under Kernel.tree.
	members int
	closed  bool // no member may be born
}

// NewUnit makes one; gone is called, once, when it was killed and its last member has
// ended. It must not block.
func NewUnit(gone func()) *Unit { return &Unit{gone: gone} }

// KillUnit ends every member and lets none be born.
func (k *Kernel) KillUnit(u *Unit) {
	k.tree.Lock()
	first := !u.closed
	u.closed = true
	var to []*Process
	for _, p := range k.procs {
		if p.unit == u && !p.zombie {
			to = append(to, p)
		}
	}
	empty := first && u.members == 0
	k.tree.Unlock()
	for _, p := range to {
		p.SendSignal(SignalInfo{Signo: int32(unix.SIGKILL), Code: SIKernel})
	}
	if empty {
		u.gone()
	}
}

// leave takes an ended process out of its unit and says whether that was the last of a
// unit that is killed. Called with tree held.
func (u *Unit) leave() bool {
	u.members--
	return u.members == 0 && u.closed
}

// SignalPID sends a signal of the kernel's to a process; false if it does not live.
func (k *Kernel) SignalPID(pid, sig int32) bool {
	p := k.Process(pid)
	if p == nil || p.State() == 'Z' {
		return false
	}
	p.SendSignal(SignalInfo{Signo: sig, Code: SIKernel})
	return true
}
