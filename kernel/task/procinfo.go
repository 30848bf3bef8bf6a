package task

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/mm"
)

// What /proc shows of processes and nobody else asks for.

// ioCounts are /proc/PID/io's figures: bytes and calls of read(2), write(2) and their kin.
type ioCounts struct{ rchar, wchar, syscr, syscw atomic.Uint64 }

// IOCounts is a copy of them.
type IOCounts struct{ ReadBytes, WrittenBytes, Reads, Writes uint64 }

// CountRead and CountWrite note a call of the thread that moved n bytes, or failed with
// n <= 0. Only the thread itself calls them, so plain stores would do but for those who look.
func (t *Thread) CountRead(n int) {
	t.io.syscr.Store(t.io.syscr.Load() + 1)
	if n > 0 {
		t.io.rchar.Store(t.io.rchar.Load() + uint64(n))
	}
}

// CountWrite is CountRead for writes.
func (t *Thread) CountWrite(n int) {
	t.io.syscw.Store(t.io.syscw.Load() + 1)
	if n > 0 {
		t.io.wchar.Store(t.io.wchar.Load() + uint64(n))
	}
}

func (c *ioCounts) add(o *ioCounts) {
	c.rchar.Add(o.rchar.Load())
	c.wchar.Add(o.wchar.Load())
	c.syscr.Add(o.syscr.Load())
	c.syscw.Add(o.syscw.Load())
}

func (c *ioCounts) read() IOCounts {
	return IOCounts{c.rchar.Load(), c.wchar.Load(), c.syscr.Load(), c.syscw.Load()}
}

// IO is the thread's counts; the process's are those of all its threads, the ended ones
// and the children it has waited for among them.
func (t *Thread) IO() IOCounts { return t.io.read() }

// IO is the process's.
func (p *Process) IO() IOCounts {
	n := p.io.read()
	for _, t := range p.Threads() {
		o := t.IO()
		n.ReadBytes, n.WrittenBytes, n.Reads, n.Writes = n.ReadBytes+o.ReadBytes, n.WrittenBytes+o.WrittenBytes, n.Reads+o.Reads, n.Writes+o.Writes
	}
	return n
}

// Corpse is the last thread of a zombie, which has its name and credentials still; nil
// while the process lives.
func (p *Process) Corpse() *Thread { p.mu.Lock(); defer p.mu.Unlock(); return p.corpse }

// Asleep is what a blocked thread was doing: the system call's number, -1 outside of one,
// its arguments, and the program's stack pointer and program counter. False: it is not
// blocked.
func (t *Thread) Asleep() (nr int64, args [6]uint64, sp, pc uint64, ok bool) {
	s := &t.k.Sched
	s.mu.Lock() // it does not go on before its state is changed under the lock
	defer s.mu.Unlock()
	if t.state.Load() != stateBlocked {
		return 0, args, 0, 0, false
	}
	r := &t.Ctx.Regs
	return int64(r.OrigRAX), t.SysArgs, r.RSP, r.RIP, true
}

// Children are the PIDs of p's children.
func (p *Process) Children() (pids []int32) {
	p.k.tree.RLock()
	defer p.k.tree.RUnlock()
	for c := p.children.first; c != nil; c = c.siblings.next {
		pids = append(pids, c.pid)
	}
	return pids
}

// CoreFilter is coredump_filter: kept, and inherited.
func (p *Process) CoreFilter() uint32     { return p.coreFilter.Load() }
func (p *Process) SetCoreFilter(v uint32) { p.coreFilter.Store(v) }

// defaultCoreFilter is MMF_DUMP_FILTER_DEFAULT with ELF headers.
const defaultCoreFilter = 0x33

// TimerInfo is a timer of timer_create for /proc/PID/timers.
type TimerInfo struct {
	ID, Signo, Notify, Clock int32
	Value                    uint64
	TID                      int32 // whom it signals, 0: the process
}

// PosixTimers lists them.
func (p *Process) PosixTimers() (out []TimerInfo) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.posix.byID {
		i := TimerInfo{ID: x.id, Signo: x.signo, Notify: x.notify, Clock: x.clock, Value: x.value}
		if x.to != nil {
			i.TID = x.to.TID()
		}
		out = append(out, i)
	}
	return out
}

// MayLook is ptrace_may_access(PTRACE_MODE_READ_FSCREDS): whether t may see what is not
// everybody's of a process: its own, or one whose ids are all t's file-system ids, whose
// capabilities t has and that may be dumped; or any with CAP_SYS_PTRACE.
func (t *Thread) MayLook(p *Process, x *vfs.Creds) bool {
	if p == t.process {
		return true
	}
	c := t.Creds()
	if x != nil && !x.Domain.Within(c.Domain) {
		return false
	}
	if c.Can(unix.CAP_SYS_PTRACE) {
		return true
	}
	return p.Dumpable() == 1 && x.Permitted&^c.Permitted == 0 &&
		c.FSUID == x.UID && c.FSUID == x.EUID && c.FSUID == x.SUID && c.FSGID == x.GID && c.FSGID == x.EGID && c.FSGID == x.SGID
}

// MapName is the name of a mapping as seen from root.
func MapName(ns *vfs.Namespace, v *mm.VMA, root vfs.Path) string {
	if f, ok := v.File.(*vfs.File); ok {
		return ns.FileName(f, root)
	}
	return v.Name
}

// nameOf is MapName for the thread's own mappings.
func (t *Thread) nameOf(v *mm.VMA) string {
	fs := t.FS()
	if fs == nil {
		return v.Name
	}
	return MapName(t.k.NS, v, fs.Root())
}

// QueuedSignals is how many signals wait for the
// processes of all users.
func (k *Kernel) QueuedSignals() int64 { return k.sigQueued.Load() }
