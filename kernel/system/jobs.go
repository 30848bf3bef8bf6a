package system

import (
	"golang.org/x/sys/unix"

	"kiln/fs/tty"
	"kiln/fs/vfs"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

// jobs tells the terminal of processes.
type jobs struct{ k *task.Kernel }

// Caller implements tty.Jobs.
func (jobs) Caller(c wait.Context) tty.Caller {
	if t, ok := c.(*task.Thread); ok {
		return caller{t}
	}
	return nil
}

// SessionOf implements tty.Jobs: by the group's members, or by the process whose
// number it is, as session_of_pgrp does.
func (j jobs) SessionOf(pgrp int32) int32 {
	for _, p := range j.k.Group(pgrp) {
		return p.SID()
	}
	if p := j.k.Process(pgrp); p != nil {
		return p.SID()
	}
	return 0
}

const siKernel = 0x80 // SI_KERNEL (siginfo.h)

// Signal implements tty.Jobs.
func (j jobs) Signal(pgrp int32, sig unix.Signal) {
	j.k.Together(func() {
		for _, p := range j.k.Group(pgrp) {
			if p.State() != 'Z' {
				p.SendSignal(task.SignalInfo{Signo: int32(sig), Code: siKernel})
			}
		}
	})
}

// Leave implements tty.Jobs.
func (j jobs) Leave(sid int32) { j.k.DropTTY(sid) }

// HangUp implements tty.Jobs.
func (j jobs) HangUp(sid, pgrp int32, t *tty.TTY) {
	if p := j.k.HangUpTTY(sid, pgrp, t); p != nil {
		for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGCONT} {
			p.SendSignal(task.SignalInfo{Signo: int32(sig), Code: siKernel})
		}
	}
}

// leaderEnded tells the terminal of a session whose leader has ended, or, if that was
// hung up before, its last foreground group.
func (j jobs) leaderEnded(p *task.Process) {
	if t, ok := p.TTY().(*tty.TTY); ok {
		t.LeaderEnded(p.PID())
	} else if group := p.TTYOldGroup(); group > 0 {
		j.Signal(group, unix.SIGHUP)
		j.Signal(group, unix.SIGCONT)
	}
}

type caller struct{ t *task.Thread }

func (c caller) PID() int32  { return c.t.Process().PID() }
func (c caller) PGID() int32 { return c.t.Process().PGID() }
func (c caller) SID() int32  { return c.t.Process().SID() }
func (c caller) TTY() *tty.TTY {
	t, _ := c.t.Process().TTY().(*tty.TTY)
	return t
}
func (c caller) SetTTY(t *tty.TTY) {
	if t == nil {
		c.t.Process().SetTTY(nil)
	} else {
		c.t.Process().SetTTY(t)
	}
}
func (c caller) Can(capability int) bool      { return c.t.Creds().Can(uint(capability)) }
func (c caller) Ignores(sig unix.Signal) bool { return c.t.Ignores(int32(sig)) }
func (c caller) Orphaned() bool               { return c.t.Process().Orphaned() }
func (c caller) Install(f *vfs.File, cloexec bool) (int32, error) {
	return c.t.FDs().Install(f, 0, cloexec)
}
