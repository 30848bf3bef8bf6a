package task

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/mm"
)

// SetPGID is setpgid. EINVAL: a thread's number; ESRCH: not the caller or a child; EACCES:
// the child has exec'ed; EPERM: session leader, other session, no such group.
func (t *Thread) SetPGID(pid, pgid int32) error {
	k, own := t.k, t.process
	if pid == 0 {
		pid = own.pid
	}
	if pgid == 0 {
		pgid = pid
	}
	if pgid < 0 {
		return unix.EINVAL
	}
	k.tree.Lock()
	defer k.tree.Unlock()
	p := own
	if pid != own.pid {
		p = k.procs[pid]
		switch {
		case p == nil && k.threads[pid] != nil:
			return unix.EINVAL
		case p == nil || p.parent != own:
			return unix.ESRCH
		case p.sid != own.sid:
			return unix.EPERM
		case p.execed:
			return unix.EACCES
		}
	}
	if p.sid == p.pid {
		return unix.EPERM
	}
	if pgid != p.pid {
		ok := false
		for _, o := range k.procs {
			ok = ok || o.pgid == pgid && o.sid == own.sid
		}
		if !ok {
			return unix.EPERM
		}
	}
	k.countIn(p, -1)
	p.pgid = pgid
	k.countIn(p, 1)
	return nil
}

// SetSID is setsid: EPERM if the caller leads a group.
func (t *Thread) SetSID() (int32, error) {
	k, p := t.k, t.process
	k.tree.Lock()
	if k.groups[p.pid].group != 0 {
		k.tree.Unlock()
		return 0, unix.EPERM
	}
	k.countIn(p, -1)
	p.pgid, p.sid, p.tty, p.ttyOldGroup = p.pid, p.pid, nil, 0
	k.countIn(p, 1)
	k.tree.Unlock()
	t.tellSession()
	return p.pid, nil
}

// Together runs f while nobody is born, so that a signal for several processes reaches
// their children too: who is not in the list yet is refused by attach, because its parent
// has been told to end, or is born after the signal. f sends and does not wait.
func (k *Kernel) Together(f func()) {
	k.births.Lock()
	defer k.births.Unlock()
	f()
}

// Group lists the live processes of a group.
func (k *Kernel) Group(pgid int32) (out []*Process) {
	k.tree.RLock()
	defer k.tree.RUnlock()
	for _, p := range k.procs {
		if p.pgid == pgid {
			out = append(out, p)
		}
	}
	return out
}

// Terminal is a controlling terminal, as far as processes go.
type Terminal interface {
	Dev() uint64       // its device number
	Foreground() int32 // its foreground group, 0: none
}

// TTY is p's controlling terminal, nil if it has none; SetTTY changes it, and a group that
// was hung up on before is forgotten.
func (p *Process) TTY() Terminal { p.k.tree.RLock(); defer p.k.tree.RUnlock(); return p.tty }
func (p *Process) SetTTY(t Terminal) {
	p.k.tree.Lock()
	p.tty, p.ttyOldGroup = t, 0
	p.k.tree.Unlock()
}

// TTYOldGroup is the foreground group of a terminal that was hung up while p led its
// session: it is told when p ends.
func (p *Process) TTYOldGroup() int32 {
	p.k.tree.RLock()
	defer p.k.tree.RUnlock()
	return p.ttyOldGroup
}

// DropTTY takes the terminal from every process of a session.
func (k *Kernel) DropTTY(sid int32) {
	k.tree.Lock()
	defer k.tree.Unlock()
	for _, p := range k.procs {
		if p.sid == sid {
			p.tty = nil
		}
	}
}

// HangUpTTY takes terminal t from the processes of a session that have it. The leader, if
// it lives, remembers the foreground group and is returned.
func (k *Kernel) HangUpTTY(sid, group int32, t Terminal) (leader *Process) {
	k.tree.Lock()
	defer k.tree.Unlock()
	for _, p := range k.procs {
		if p.sid != sid {
			continue
		}
		if p.tty == t {
			p.tty = nil
		}
		if p.pid == sid && !p.zombie {
			p.ttyOldGroup, leader = group, p
		}
	}
	return leader
}

// Orphaned says whether nobody in p's session could continue its group (POSIX 3.264).
func (p *Process) Orphaned() bool { return p.k.orphaned(p) }

// Ignores says whether t has a signal blocked or ignored.
func (t *Thread) Ignores(sig int32) bool {
	return t.mask.Has(sig) || t.process.hand.get(sig).Handler == sigIgnore
}

// SetSubreaper and Subreaper are PR_SET_CHILD_SUBREAPER.
func (p *Process) SetSubreaper(on bool) { p.k.tree.Lock(); p.subreaper = on; p.k.tree.Unlock() }
func (p *Process) Subreaper() bool      { p.k.tree.RLock(); defer p.k.tree.RUnlock(); return p.subreaper }

// Ended says whether every thread of p has ended: what poll on a pidfd waits for
// (ExitEvents). Reaped says that its parent has waited for it, too.
func (p *Process) Ended() bool  { p.k.tree.RLock(); defer p.k.tree.RUnlock(); return p.zombie }
func (p *Process) Reaped() bool { p.k.tree.RLock(); defer p.k.tree.RUnlock(); return p.reaped }

// UnshareFiles and UnshareFS give the thread a table and a context of its own.
func (t *Thread) UnshareFiles() {
	if old := t.FDs(); old.Shared() {
		t.fds.Store(old.Fork())
		old.DecRef()
	}
}

// UnshareFS is UnshareFiles for root, working directory and umask.
func (t *Thread) UnshareFS() {
	if old := t.FS(); old.Shared() {
		t.dropFS(old.Fork())
	}
}

// UnshareSemUndo pays what the thread owes to semaphores, as its end would.
func (t *Thread) UnshareSemUndo() { t.dropSemUndo() }

// SharesSignals says whether another process shares the signal handlers.
func (t *Thread) SharesSignals() bool {
	t.process.mu.Lock()
	defer t.process.mu.Unlock()
	return t.process.hand.refs.Load() > 1
}

// SameSignals says whether two threads share them (kcmp).
func (t *Thread) SignalHand() any {
	t.process.mu.Lock()
	defer t.process.mu.Unlock()
	return t.process.hand
}

// Dumpable, OOMAdj and Personality are plain attributes of a process.
func (p *Process) Dumpable() int32         { return p.dumpable.Load() }
func (p *Process) SetDumpable(v int32)     { p.dumpable.Store(v) }
func (p *Process) OOMAdj() int32           { return p.oomAdj.Load() }
func (p *Process) Personality() uint32     { return p.personality.Load() }
func (p *Process) SetPersonality(v uint32) { p.personality.Store(v) }

// Attributes of a process that are a bit each (prctl): kept by fork and exec.
const (
	AttrNoTHP = 1 << iota
)

// Attr and SetAttr read and change one.
func (p *Process) Attr(bit uint32) bool { return p.attrs.Load()&bit != 0 }

// SetAttr sets or clears a bit.
func (p *Process) SetAttr(bit uint32, on bool) {
	if on {
		p.attrs.Or(bit)
	} else {
		p.attrs.And(^bit)
	}
}

// MCEPolicy and Flusher are PR_MCE_KILL's and PR_SET_IO_FLUSHER's values; the thread's own.
func (t *Thread) MCEPolicy() int32     { return 2 - t.mcePolicy }
func (t *Thread) SetMCEPolicy(v int32) { t.mcePolicy = 2 - v }
func (t *Thread) Flusher() bool        { return t.flusher }
func (t *Thread) SetFlusher(on bool)   { t.flusher = on }

// Policy and SetPolicy are the thread's own memory policy (set_mempolicy).
func (t *Thread) Policy() mm.Policy     { return t.policy }
func (t *Thread) SetPolicy(v mm.Policy) { t.policy = v }

// MayLock says whether the thread may lock more memory than RLIMIT_MEMLOCK (CAP_IPC_LOCK).
func (t *Thread) MayLock() bool { return t.Creds().Can(unix.CAP_IPC_LOCK) }

// PDeathSig is PR_SET_PDEATHSIG's signal.
func (t *Thread) PDeathSig() int32 {
	t.process.mu.Lock()
	defer t.process.mu.Unlock()
	return t.pdeathsig
}

// SetPDeathSig replaces it; 0: none.
func (t *Thread) SetPDeathSig(sig int32) {
	t.process.mu.Lock()
	t.pdeathsig = sig
	t.process.mu.Unlock()
}

// TimerSlack is PR_SET_TIMERSLACK's value: kept, timers are exact.
func (t *Thread) TimerSlack() uint64 { return t.timerSlack }

// SetTimerSlack sets it; 0 is what the thread began with.
func (t *Thread) SetTimerSlack(n uint64) {
	if n == 0 {
		n = t.firstSlack
	}
	t.timerSlack = n
}

// IOPrio and SetIOPrio are ioprio_set's value: kept for ioprio_get, as disks serve requests
// in order.
func (t *Thread) IOPrio() uint16     { return uint16(t.ioprio.Load()) }
func (t *Thread) SetIOPrio(v uint16) { t.ioprio.Store(uint32(v)) }

// SigTimedWait takes a pending signal of set, or waits for one until the deadline.
// EAGAIN: none came; EINTR: another signal did. See sigtimedwait(2).
func (t *Thread) SigTimedWait(set SigSet, deadline int64) (SignalInfo, error) {
	p := t.process
	set &^= sigUnmaskable
	var info SignalInfo
	p.mu.Lock()
	if ok := t.dequeue(set, &info); ok || deadline == 0 {
		t.recalc()
		p.mu.Unlock()
		if !ok {
			return info, unix.EAGAIN
		}
		return info, nil
	}
	// While it waits the signals count as unblocked, so that senders wake it; they
	// stay blocked for their default actions (Linux' real_blocked).
	t.waitingIn = set
	old := t.mask
	t.mask &^= set
	t.recalc()
	p.mu.Unlock()
	r := t.Sleep(deadline)
	p.mu.Lock()
	t.waitingIn = 0
	t.mask = old
	ok := t.dequeue(set, &info)
	if move := p.pending.set & set & old; move != 0 && p.nthreads > 1 {
		p.retarget(t, move) // what came to t because it waited
	}
	t.recalc()
	p.mu.Unlock()
	switch {
	case ok:
		return info, nil
	case r.Err() == unix.ETIMEDOUT:
		return info, unix.EAGAIN
	}
	return info, unix.EINTR
}
