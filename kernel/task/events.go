package task

import (
	"encoding/binary"

	"kiln/fs/vfs"
)

// What happened to a process, as linux/cn_proc.h numbers it (PROC_EVENT_*).
const (
	EventNone     = 0
	eventForked   = 1
	eventExeced   = 2
	eventUID      = 4
	eventGID      = 0x40
	eventSID      = 0x80
	eventTraced   = 0x100
	eventRenamed  = 0x200
	eventDumped   = 0x40000000
	eventExited   = 0x80000000
	eventDataSize = 24
)

// ProcEvent is one of these, with its event_data.
type ProcEvent struct {
	What, CPU uint32
	Data      [eventDataSize]byte
}

// Observers hear of processes; a nil one is not called. They must not block.
type Observers struct {
	// Event is told of each event (the connector of net).
	Event func(ProcEvent)
	// Exit is told of each thread that ends, with its statistics, and with those of its
	// process if that ends and had several threads (taskstats).
	Exit func(t *Thread, stats, group []byte)
}

// Observe replaces the observers; nil: nobody listens.
func (k *Kernel) Observe(o *Observers) { k.observers.Store(o) }

// tell sends an event of numbers; data is called only if somebody listens.
func (t *Thread) tell(what uint32, data func() []uint32) {
	o := t.k.observers.Load()
	if o == nil || o.Event == nil {
		return
	}
	e := ProcEvent{What: what, CPU: uint32(t.CPU())}
	for i, v := range data() {
		binary.LittleEndian.PutUint32(e.Data[4*i:], v)
	}
	o.Event(e)
}

// ids are a thread's number and its process's.
func (t *Thread) ids() (tid, pid uint32) { return uint32(t.TID()), uint32(t.process.pid) }

// forkedBy are the numbers of who made the thread's process, 0 if there is nobody.
func (t *Thread) forkedBy() (tid, pid uint32) {
	t.k.tree.RLock()
	defer t.k.tree.RUnlock()
	p := t.process
	if p.forker != nil {
		return p.forker.ids()
	}
	if p.parent != nil {
		return uint32(p.parent.pid), uint32(p.parent.pid)
	}
	return 0, 0
}

// tellForked tells of the child n, before it runs.
func (t *Thread) tellForked(n *Thread) {
	t.tell(eventForked, func() []uint32 {
		tid, pid := n.ids()
		ptid, ppid := n.forkedBy()
		return []uint32{ptid, ppid, tid, pid}
	})
}

// TellExec tells that the thread runs a new program.
func (t *Thread) TellExec() {
	t.tell(eventExeced, func() []uint32 {
		tid, pid := t.ids()
		return []uint32{tid, pid}
	})
}

// TellCreds tells of user and group ids that have changed (commit_creds).
func (t *Thread) TellCreds(old, c *vfs.Creds) {
	tid, pid := t.ids()
	if c.UID != old.UID || c.EUID != old.EUID || c.SUID != old.SUID || c.FSUID != old.FSUID {
		t.tell(eventUID, func() []uint32 { return []uint32{tid, pid, c.UID, c.EUID} })
	}
	if c.GID != old.GID || c.EGID != old.EGID || c.SGID != old.SGID || c.FSGID != old.FSGID {
		t.tell(eventGID, func() []uint32 { return []uint32{tid, pid, c.GID, c.EGID} })
	}
}

// tellSession tells of setsid.
func (t *Thread) tellSession() {
	pid := uint32(t.process.pid)
	t.tell(eventSID, func() []uint32 { return []uint32{pid, pid} })
}

// tellTraced tells that t traces o from now on, or with nil that nobody does.
func (o *Thread) tellTraced(t *Thread) {
	o.tell(eventTraced, func() []uint32 {
		tid, pid := o.ids()
		var by, byPID uint32
		if t != nil {
			by, byPID = t.ids()
		}
		return []uint32{tid, pid, by, byPID}
	})
}

// Rename is SetName by a program, which is told of.
func (t *Thread) Rename(name string) {
	t.SetName(name)
	t.tell(eventRenamed, func() []uint32 {
		tid, pid := t.ids()
		var comm [16]byte
		copy(comm[:15], t.Name())
		d := []uint32{tid, pid}
		for i := 0; i < len(comm); i += 4 {
			d = append(d, binary.LittleEndian.Uint32(comm[i:]))
		}
		return d
	})
}

// tellDumped tells of a signal that dumps core.
func (t *Thread) tellDumped() {
	t.tell(eventDumped, func() []uint32 {
		tid, pid := t.ids()
		ptid, ppid := t.forkedBy()
		return []uint32{tid, pid, ptid, ppid}
	})
}

// tellExited tells of the end of a thread, before anybody else hears of it: its parent, or
// who waits for its number to be cleared. last says that its process ends.
func (t *Thread) tellExited(last bool) {
	o := t.k.observers.Load()
	if o == nil {
		return
	}
	t.tell(eventExited, func() []uint32 {
		tid, pid := t.ids()
		sig, ptid, ppid := uint32(0xffffffff), uint32(0), uint32(0) // of a thread that is not the leader
		if tid == pid {
			sig = uint32(t.process.exitSignal)
			ptid, ppid = t.forkedBy()
		}
		return []uint32{tid, pid, t.exitStatus(), sig, ptid, ppid}
	})
	if o.Exit != nil {
		var group []byte
		if last && t.process.Threaded() {
			group = t.process.GroupStats()
		}
		stats := t.TaskStats()
		if stats[tsFlag] |= acctExit(last); t.TID() == t.process.pid {
			binary.LittleEndian.PutUint32(stats[tsExitCode:], t.exitStatus())
		}
		o.Exit(t, stats, group)
	}
}

// exitStatus is what wait tells of the end of a thread that is ending.
func (t *Thread) exitStatus() uint32 {
	p := t.process
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exitFlag {
		return p.exitCode
	}
	return t.exitCode
}

// acctExit is the accounting flag of a process that ends.
func acctExit(last bool) byte {
	if last {
		return acctGroup
	}
	return 0
}
