package task

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
)

// Exit ends the calling thread at its boundary with the status of exit(2).
func (t *Thread) Exit(code uint32) {
	t.exitCode = code & 0xff << 8
	t.flags.Or(fKill)
}

// ExitGroup ends the process with a wait status: code<<8, or a signal's number. The
// first status counts.
func (t *Thread) ExitGroup(status uint32) {
	p := t.process
	p.mu.Lock()
	p.beginExit(status)
	p.mu.Unlock()
	t.flags.Or(fEnd)
}

// finish is the last thing a thread's goroutine does: it gives back what it holds, and
// the last thread ends the process. See exit(2), set_tid_address(2).
func (t *Thread) finish() {
	p, k := t.process, t.k
	t.holdForCore()
	t.exitEvent()
	t.endWork()
	t.trackRSS()
	p.mu.Lock()
	p.leaving++
	ends := p.leaving == p.live
	p.mu.Unlock()
	t.tellExited(ends)
	t.releaseFutexes()
	t.dropSemUndo()
	p.mu.Lock()
	p.leaving--
	t.exiting = true
	if p.dumper != nil {
		p.dumper.notify(fEvent)
	}
	if move := p.pending.set &^ t.mask; move != 0 && p.live > 1 {
		p.retarget(t, move)
	}
	p.live--
	last := p.live == 0
	if last {
		// From here on nobody can join: fork by a thread of p needs a live one.
		if !p.exitFlag {
			p.exitFlag, p.exitCode = true, t.exitCode // the last one's counts
		}
		p.stopTimers()
		p.hand.refs.Add(-1)
	}
	t.pending.flush(k, ^SigSet(0))
	p.mu.Unlock()

	if fds := t.fds.Swap(nil); fds != nil {
		fds.UsedBy(t)
		fds.DecRef()
	}
	t.dropFS(nil)
	t.releaseVfork()
	space := t.space
	if last {
		if img := p.image.Swap(nil); img != nil && img.Exe != nil {
			img.Exe.DecRef()
		}
	}
	k.Sched.exit(t)
	p.deadSys.Add(t.sysTime.Load())
	p.deadMinFlt.Add(t.minFlt.Load())
	p.io.add(&t.io)
	t.Local, t.fpBuf, t.work.local = nil, nil, nil
	p.deadMajFlt.Add(t.majFlt.Load())
	p.deadVol.Add(t.voluntary.Load())
	p.deadInvol.Add(t.involuntary.Load())
	if last {
		space.DecUsers()
		k.processEnded(p, t)
		k.M.FreeCtx(t.Ctx)
	} else {
		k.threadEnded(p, t)
		k.dropThread(t)
	}
}

// trackRSS keeps the largest resident size, for getrusage.
func (t *Thread) trackRSS() {
	if n := t.space.Peak(); n > t.process.maxRSS.Load() {
		t.process.maxRSS.Store(n)
	}
}

// unlinkThread takes t out of the process's list. Called with p.mu held.
func (p *Process) unlinkThread(t *Thread) {
	for at := &p.threads; *at != nil; at = &(*at).sibling {
		if *at == t {
			*at = t.sibling
			break
		}
	}
	t.sibling = nil
	p.nthreads--
	if t.pt.inStop {
		t.pt.inStop = false
		p.stopped--
	}
	if p.leader == t && p.execing == nil {
		p.leader = p.threads
	}
}

// threadEnded removes one thread of several. Its number is free again, except the
// leader's, which is the process's.
func (k *Kernel) threadEnded(p *Process, t *Thread) {
	k.tree.Lock()
	t.dropTracees()
	p.mu.Lock()
	if k.threads[t.TID()] == t {
		delete(k.threads, t.TID())
	}
	p.unlinkThread(t)
	heir := p.threads
	status := t.exitCode
	if p.exitFlag {
		status = p.exitCode
	}
	p.mu.Unlock()
	traced := k.tracedThreadEnded(t, status)
	for c := p.children.first; c != nil; c = c.siblings.next {
		if c.forker == t {
			c.parentDied(p)
			c.forker = heir
		}
	}
	p.mu.Lock()
	exec := p.execing
	stopDone := p.stopSig != 0 && p.nthreads > 0 && p.stopped == p.nthreads
	sig := p.stopSig
	if stopDone {
		p.setStopped()
	}
	p.mu.Unlock()
	k.tree.Unlock()
	if traced != nil {
		traced.childEvents.Notify(waiter.ReadableEvents)
	}
	if exec != nil {
		exec.notify(fEvent)
	}
	if stopDone {
		k.jobControl(p, cldStopped, sig)
	}
}

// processEnded makes p a zombie, gives its children to init (or a subreaper) and tells
// the parent.
func (k *Kernel) processEnded(p *Process, t *Thread) {
	if k.OnLeaderExit != nil && p != k.init && p.SID() == p.pid {
		k.OnLeaderExit(p)
	}
	k.tree.Lock()
	t.dropTracees()
	p.mu.Lock()
	if k.threads[t.TID()] == t {
		delete(k.threads, t.TID())
	}
	p.unlinkThread(t)
	p.leader, p.corpse = nil, t
	p.last = t.Creds()
	p.pending.flush(k, ^SigSet(0))
	p.status = p.exitCode
	p.hand = &noHand
	p.mu.Unlock()
	p.zombie = true
	k.zombies++
	k.ended++
	isInit := p == k.init
	heir := k.heir(p)
	for c := p.children.first; c != nil; c = p.children.first {
		p.children.remove(c)
		c.parentDied(p)
		k.adopt(c, heir)
		if c.pgid != p.pgid && c.sid == p.sid {
			k.hangUpOrphans(c.pgid, c.sid)
		}
	}
	parent := p.parent
	if parent != nil && parent.pgid != p.pgid && parent.sid == p.sid {
		k.hangUpOrphans(p.pgid, p.sid)
	}
	traced := k.tracedThreadEnded(t, p.status)
	if tr := k.tracedZombie(p); tr != nil {
		traced = tr // the parent hears of it when the tracer has
	} else if parent == nil || k.tellParent(p, parent) {
		k.reap(p)
	}
	status := p.status
	gone := p.unit != nil && p.unit.leave()
	k.tree.Unlock()
	p.ExitEvents.Notify(waiter.ReadableEvents)
	if parent != nil {
		parent.childEvents.Notify(waiter.ReadableEvents)
	}
	if traced != nil {
		traced.childEvents.Notify(waiter.ReadableEvents)
	}
	if p.onEnd != nil {
		p.onEnd(status)
	}
	if gone {
		p.unit.gone()
	}
	if isInit {
		k.initEnded(status)
	}
}

// initEnded kills what is left, as the end of a PID namespace does, and tells the owner.
func (k *Kernel) initEnded(status uint32) {
	for _, p := range k.Processes() {
		if p.State() != 'Z' {
			p.SendSignal(SignalInfo{Signo: int32(unix.SIGKILL), Code: SIKernel})
		}
	}
	if k.OnInitExit != nil {
		k.OnInitExit(status)
	}
}

// parentDied sends the signals asked for by PR_SET_PDEATHSIG: the thread of parent that
// forked p has ended. Called with tree held.
func (p *Process) parentDied(parent *Process) {
	uid := parent.uidLocked()
	p.mu.Lock()
	defer p.mu.Unlock()
	for t := p.threads; t != nil; t = t.sibling {
		if t.pdeathsig != 0 {
			_ = p.sendLocked(nil, SignalInfo{Signo: t.pdeathsig, Code: SIUser, PID: parent.pid, UID: uid})
		}
	}
}

// hangUpOrphans is kill_orphaned_pgrp: a group that has lost the last parent who could
// continue it, and has stopped members, gets SIGHUP and SIGCONT. Called with tree held.
func (k *Kernel) hangUpOrphans(pgid, sid int32) {
	stopped := false
	for _, m := range k.procs {
		if m.pgid != pgid || m.zombie {
			continue
		}
		if up := m.parent; up != nil && up.pgid != pgid && up.sid == sid {
			return
		}
		m.mu.Lock()
		stopped = stopped || m.stopSig != 0 && m.stopped > 0 && m.stopped == m.nthreads
		m.mu.Unlock()
	}
	if !stopped {
		return
	}
	for _, m := range k.procs {
		if m.pgid == pgid {
			m.SendSignal(SignalInfo{Signo: int32(unix.SIGHUP), Code: SIKernel})
			m.SendSignal(SignalInfo{Signo: int32(unix.SIGCONT), Code: SIKernel})
		}
	}
}

// creds are those of the leader or, once p is a zombie, of its last thread; nil in between.
func (p *Process) creds() *vfs.Creds {
	p.mu.Lock()
	l := p.leader
	p.mu.Unlock()
	if l != nil {
		return l.Creds()
	}
	return p.last
}

// uidLocked is the real user id that siginfo has of p. Called with tree held.
func (p *Process) uidLocked() uint32 {
	if c := p.creds(); c != nil {
		return c.UID
	}
	return 0
}

// Creds are the process's, of a zombie those of its last thread.
func (p *Process) Creds() *vfs.Creds {
	p.k.tree.RLock()
	defer p.k.tree.RUnlock()
	return p.creds()
}

// heir is who gets p's children. Called with tree held.
func (k *Kernel) heir(p *Process) *Process {
	for a := p.parent; a != nil; a = a.parent {
		if a.subreaper && !a.zombie {
			return a
		}
	}
	if k.init != nil && k.init != p && !k.init.zombie {
		return k.init
	}
	return nil
}

// adopt gives c to heir; a zombie that nobody will wait for goes. Called with tree held.
func (k *Kernel) adopt(c, heir *Process) {
	c.parent, c.forker = heir, nil
	if heir == nil {
		if c.zombie {
			k.reap(c)
		}
		return
	}
	heir.mu.Lock()
	c.forker = heir.leader
	heir.mu.Unlock()
	heir.children.add(c)
	c.exitSignal = int32(unix.SIGCHLD)
	if c.zombie && k.tellParent(c, heir) {
		k.reap(c)
	}
	heir.childEvents.Notify(waiter.ReadableEvents)
}

// tellParent sends the exit signal, SIGCHLD to a parent that has become another program, and
// says whether the zombie goes at once: the parent ignores SIGCHLD or has SA_NOCLDWAIT. Called
// with tree held.
func (k *Kernel) tellParent(p, parent *Process) (reap bool) {
	sig := p.exitSignal
	if sig != int32(unix.SIGCHLD) && p.bornOf != parent.program() {
		sig = int32(unix.SIGCHLD)
	}
	if sig == 0 {
		return false
	}
	info := p.childInfo()
	info.Signo = sig
	if sig != int32(unix.SIGCHLD) {
		info.Value = uint64(uint32(info.Status)) // it lies there
	}
	if sig == int32(unix.SIGCHLD) {
		a := parent.action(int32(unix.SIGCHLD))
		reap = a.Handler == sigIgnore || a.Flags&SANoCldWait != 0
		if a.Handler == sigIgnore {
			return true
		}
	}
	parent.SendSignal(info)
	return reap
}

// childInfo is SIGCHLD's siginfo for an ended process.
func (p *Process) childInfo() SignalInfo {
	u := p.Usage()
	info := SignalInfo{Signo: int32(unix.SIGCHLD), PID: p.pid, UID: p.uidLocked(), UTime: u.User / tickNS, STime: u.System / tickNS}
	info.Code, info.Status = endInfo(p.status)
	return info
}

// reap forgets a zombie; a descriptor may keep the Process. Called with tree held.
func (k *Kernel) reap(p *Process) {
	p.reaped = true
	p.mu.Lock()
	t := p.corpse
	p.corpse = nil
	p.mu.Unlock()
	k.zombies--
	k.refundThread(t)
	if l := p.tracedLeader; l != nil {
		l.unlink()
	}
	if k.procs[p.pid] == p {
		delete(k.procs, p.pid)
		k.countIn(p, -1)
	}
	if p.parent != nil {
		p.parent.children.remove(p)
	}
	// A descriptor's Process is not to keep them.
	p.parent, p.forker = nil, nil
}

// jobControl tells the parent that p has stopped (code cldStopped) or goes on. What wait
// reports is in stopReport and contReport already.
func (k *Kernel) jobControl(p *Process, code, status int32) {
	k.tree.RLock()
	parent := p.parent
	uid := p.uidLocked()
	k.tree.RUnlock()
	if parent == nil {
		return
	}
	if a := parent.action(int32(unix.SIGCHLD)); a.Handler != sigIgnore && a.Flags&SANoCldStop == 0 {
		u := p.Usage()
		parent.SendSignal(SignalInfo{Signo: int32(unix.SIGCHLD), Code: code, PID: p.pid, UID: uid, Status: status,
			UTime: u.User / tickNS, STime: u.System / tickNS})
	}
	parent.childEvents.Notify(waiter.ReadableEvents)
}

// action is what p does on a signal.
func (p *Process) action(sig int32) SigAction {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hand.get(sig)
}

// orphaned says that nobody in p's session could continue a stopped group (POSIX
// 3.264), so that terminal stops are ignored.
func (k *Kernel) orphaned(p *Process) bool {
	k.tree.RLock()
	defer k.tree.RUnlock()
	for _, m := range k.procs {
		if m.pgid == p.pgid && !m.zombie && m.parent != nil && m.parent.pgid != p.pgid && m.parent.sid == p.sid {
			return false
		}
	}
	return true
}

// releaseFutexes is mm_release: the robust list and the word that joiners wait for.
func (t *Thread) releaseFutexes() {
	t.walkRobust()
	t.passOnDead()
	if t.clearTID != 0 && t.space != nil && t.process.spaceShared(t) {
		var zero [4]byte
		if t.CopyOut(t.clearTID, zero[:]) == nil {
			_, _ = t.FutexWake(t.clearTID, true, 1, ^uint32(0))
		}
	}
	t.clearTID = 0
	t.robust.Store(0)
}

// spaceShared says whether anyone else could look at t's memory.
func (p *Process) spaceShared(t *Thread) bool {
	return p.NumThreads() > 1 || t.space.Shared()
}

// ClearTID is the address that SetClearTID set.
func (t *Thread) ClearTID() hal.UserAddr { return t.clearTID }

// SetClearTID is set_tid_address.
func (t *Thread) SetClearTID(a hal.UserAddr) { t.clearTID = a }

// KillSiblings ends every other thread of the process and waits until they are gone
// (execve). EAGAIN: another thread does the same, or the process is ending.
func (t *Thread) KillSiblings() error {
	p, k := t.process, t.k
	p.mu.Lock()
	if p.exitFlag || p.execing != nil {
		p.mu.Unlock()
		return unix.EAGAIN
	}
	p.execing = t
	for o := p.threads; o != nil; o = o.sibling {
		if o != t {
			o.notify(fEnd)
		}
	}
	for p.nthreads > 1 {
		p.mu.Unlock()
		k.Sched.block(t, fEvent)
		t.flags.And(^fEvent)
		p.mu.Lock()
	}
	p.leader, p.execing = t, nil
	p.mu.Unlock()
	k.tree.Lock()
	if l := p.tracedLeader; l != nil && l != t {
		l.unlink() // the old leader goes without a word
	}
	if t.Traced() {
		p.tracedLeader = t
	}
	if tid := t.TID(); tid != p.pid {
		delete(k.threads, tid)
		t.tid.Store(p.pid)
		k.threads[p.pid] = t
	}
	k.tree.Unlock()
	return nil
}
