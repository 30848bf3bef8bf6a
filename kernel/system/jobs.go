package system

import (
	"golang.org/x/sys/unix"

	"kiln/fs/devfs"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

// jobs tells the terminal of processes.
type jobs struct{ k *task.Kernel }

// Caller implements devfs.Jobs.
func (jobs) Caller(c wait.Context) devfs.Caller {
	if t, ok := c.(*task.Thread); ok {
		return caller{t}
	}
	return nil
}

// SessionOf implements devfs.Jobs: by the group's members, or by the process whose
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

// Signal implements devfs.Jobs.
func (j jobs) Signal(pgrp int32, sig unix.Signal) {
	for _, p := range j.k.Group(pgrp) {
		if p.State() != 'Z' {
			p.SendSignal(task.SignalInfo{Signo: int32(sig), Code: siKernel})
		}
	}
}

// Leave implements devfs.Jobs.
func (j jobs) Leave(sid int32) { j.k.DropTTY(sid) }

type caller struct{ t *task.Thread }

func (c caller) PID() int32                   { return c.t.Process().PID() }
func (c caller) PGID() int32                  { return c.t.Process().PGID() }
func (c caller) SID() int32                   { return c.t.Process().SID() }
func (c caller) HasTTY() bool                 { return c.t.Process().HasTTY() }
func (c caller) SetTTY(v bool)                { c.t.Process().SetTTY(v) }
func (c caller) Admin() bool                  { return c.t.Creds().Can(unix.CAP_SYS_ADMIN) }
func (c caller) Ignores(sig unix.Signal) bool { return c.t.Ignores(int32(sig)) }
func (c caller) Orphaned() bool               { return c.t.Process().Orphaned() }
