package task

import (
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// What a tracer asks for and is told (uapi/linux/ptrace.h).
const (
	TraceSysGood   = 1 << 0
	TraceFork      = 1 << EventFork
	TraceVfork     = 1 << EventVfork
	TraceClone     = 1 << EventClone
	TraceExec      = 1 << EventExec
	TraceVforkDone = 1 << EventVforkDone
	TraceExit      = 1 << EventExit
	TraceSeccomp   = 1 << EventSeccomp
	TraceExitKill  = 1 << 20

	EventFork      = 1
	EventVfork     = 2
	EventClone     = 3
	EventExec      = 4
	EventVforkDone = 5
	EventExit      = 6
	EventSeccomp   = 7
	EventStop      = 128

	msgSyscallEntry = 1
	msgSyscallExit  = 2

	cldTrapped = 4
)

// tracing is what a thread has of ptrace, as a tracee and as a tracer. A ptrace-stop is
// the tracee's goroutine parked in ptraceStop; a request holds it there (frozen) even
// against SIGKILL, so that its registers are nobody else's meanwhile.
type tracing struct {
	// Under Kernel.tree; tracer may be read without.
	tracer  atomic.Pointer[Thread]
	tracees []*Thread
	dead    bool // ended, and kept for its tracer to wait for
	status  uint32
	charged bool // dead, and paid for
	gone    bool // a tracer that has ended
	capable bool // the tracer had CAP_SYS_PTRACE

	// Under the tracee's Process.mu.
	opts       uint32
	seized     bool
	stopped    bool
	frozen     bool
	listening  bool
	trapStop   bool   // it is to stop: PTRACE_INTERRUPT, or to be stopped for its new tracer
	trapNotify bool   // a seized one is to tell of a SIGCONT
	inStop     bool   // it takes part in the group stop, though it may run
	dying      bool   // in PTRACE_EVENT_EXIT's stop, which fKill does not end
	killed     bool   // SIGKILL came while dying
	inCall     bool   // the stop is inside of a system call, which has an end to tell of
	code       uint32 // what wait reports, 0: it has
	resume     bool
	inject     int32
	info       *SignalInfo
	message    uint64

	// The tracee's own, or its tracer's while it is stopped.
	forcedTF bool
	debug    [8]uint64
}

// Traced says whether somebody traces the thread.
func (t *Thread) Traced() bool { return t.pt.tracer.Load() != nil }

// TracerTID is the number of the thread that traces t, 0 if none does.
func (t *Thread) TracerTID() int32 {
	if tr := t.pt.tracer.Load(); tr != nil {
		return tr.TID()
	}
	return 0
}

// TracedUnsafely says whether a tracer without CAP_SYS_PTRACE watches: execve then gives
// no privileges (LSM_UNSAFE_PTRACE).
func (t *Thread) TracedUnsafely() bool {
	if !t.Traced() {
		return false
	}
	t.k.tree.RLock()
	defer t.k.tree.RUnlock()
	return t.Traced() && !t.pt.capable
}

// link makes tr the tracer of t. Called with tree held.
func (t *Thread) link(tr *Thread) {
	if tr.pt.gone {
		return
	}
	t.pt.tracer.Store(tr)
	t.pt.capable = tr.Creds().Can(unix.CAP_SYS_PTRACE)
	tr.pt.tracees = append(tr.pt.tracees, t)
	tr.process.tracees++
	if t.TID() == t.process.pid {
		t.process.tracedLeader = t
	}
}

// unlink undoes link. Called with tree held.
func (t *Thread) unlink() {
	tr := t.pt.tracer.Load()
	if tr == nil {
		return
	}
	if i := slices.Index(tr.pt.tracees, t); i >= 0 {
		tr.pt.tracees = slices.Delete(tr.pt.tracees, i, i+1)
	}
	tr.process.tracees--
	if t.pt.charged {
		t.pt.charged = false
		t.k.uncharge(threadCost)
	}
	t.pt.tracer.Store(nil)
	if t.process.tracedLeader == t {
		t.process.tracedLeader = nil
	}
}

// TraceMe makes the thread that forked the caller's process its tracer: EPERM if it has
// one, or the other may not.
func (t *Thread) TraceMe() error {
	k := t.k
	k.tree.Lock()
	defer k.tree.Unlock()
	if t.Traced() {
		return unix.EPERM
	}
	tr := t.process.forker
	if tr == nil {
		return unix.EPERM // the kernel itself
	}
	c := tr.Creds()
	if t.Creds().Permitted&^c.Permitted != 0 && !c.Can(unix.CAP_SYS_PTRACE) || !t.Creds().Domain.Within(c.Domain) {
		return unix.EPERM
	}
	t.link(tr)
	t.process.mu.Lock()
	t.pt.opts, t.pt.seized = 0, false
	t.process.mu.Unlock()
	return nil
}

// Attach makes the caller the tracer of o: EPERM for a thread of its own process, one that
// may does not let it trace, has a tracer or has ended. Who execs is who it will be before it
// gets a tracer; the wait for that may be interrupted, since o may itself wait there for a
// thread that the caller holds (ERESTARTNOINTR, as in Linux).
func (t *Thread) Attach(o *Thread, seize bool, opts uint32, may func() bool) error {
	k, p := t.k, o.process
	if p == t.process {
		return unix.EPERM
	}
	if p.execGuard.LockAs(t, wait.Interruptible) != wait.Ready {
		return wait.ErrRestartNoInt
	}
	defer p.execGuard.Unlock()
	if !may() {
		return unix.EPERM
	}
	k.tree.Lock()
	if o.Traced() || k.threads[o.TID()] != o || p.supervise != nil {
		k.tree.Unlock()
		return unix.EPERM
	}
	p.mu.Lock()
	if o.exiting {
		p.mu.Unlock()
		k.tree.Unlock()
		return unix.EPERM
	}
	x := &o.pt
	o.link(t)
	x.opts, x.seized = opts, seize
	x.trapNotify = false
	if !seize {
		_ = p.sendLocked(o, SignalInfo{Signo: int32(unix.SIGSTOP), Code: SIKernel})
	}
	if o.parked {
		// From stopped to traced.
		x.trapStop = true
		o.notify(fStop | fEvent)
	}
	p.mu.Unlock()
	k.tree.Unlock()
	o.tellTraced(t)
	return nil
}

// Tracee finds the thread that a request is about and holds it in its stop until release.
// ESRCH: none, not the caller's, or (unless running will do) not in a ptrace-stop.
func (t *Thread) Tracee(tid int32, running bool) (o *Thread, release func(), err error) {
	if o = t.k.Thread(tid); o == nil {
		return nil, nil, unix.ESRCH
	}
	p := o.process
	p.mu.Lock()
	defer p.mu.Unlock()
	if o.pt.tracer.Load() != t {
		return nil, nil, unix.ESRCH
	}
	if running {
		return o, func() {}, nil
	}
	if !o.pt.stopped || o.pt.listening || o.pt.resume || o.pt.killed || !o.pt.dying && o.flags.Load()&fKill != 0 {
		return nil, nil, unix.ESRCH
	}
	o.pt.frozen = true
	return o, o.thaw, nil
}

func (o *Thread) thaw() {
	p := o.process
	p.mu.Lock()
	o.pt.frozen = false
	p.mu.Unlock()
	o.notify(fEvent)
}

// wake lets a stopped tracee go on. Called with Process.mu held.
func (x *tracing) wake(o *Thread) {
	if x.stopped {
		x.resume = true
		o.notify(fEvent)
	}
}

// Resume lets a frozen tracee go on with a signal, as PTRACE_CONT and its kin do; how is
// hooks for it.
func (o *Thread) Resume(sig int32, how uint32) {
	p, x := o.process, &o.pt
	p.mu.Lock()
	defer p.mu.Unlock()
	o.setHow(how)
	if x.inCall && how&(HookSyscall|HookStep) != 0 {
		o.flags.Or(fSysExit)
	}
	x.inject, x.code = sig, 0
	x.wake(o)
}

// setHow notes what of a tracee's calls and instructions is of interest.
func (o *Thread) setHow(how uint32) {
	for {
		old := o.hooks.Load()
		if o.hooks.CompareAndSwap(old, old&^hookPtrace|how) {
			break
		}
	}
	x := &o.pt
	if how&HookStep != 0 {
		if o.Ctx.RFLAGS&flagTF == 0 {
			o.Ctx.RFLAGS |= flagTF
			x.forcedTF = true
		}
		return
	}
	o.clearStep()
}

// clearStep ends single steps: true if there were any.
func (o *Thread) clearStep() bool {
	was := o.pt.forcedTF
	if was {
		o.Ctx.RFLAGS &^= flagTF
		o.pt.forcedTF = false
	}
	return was
}

// Detach ends tracing of a frozen tracee, which goes on with a signal.
func (o *Thread) Detach(sig int32) {
	k := o.k
	k.tree.Lock()
	o.pt.inject = sig
	o.detach()
	k.tree.Unlock()
	o.tellTraced(nil)
}

// detach unlinks o, dead or alive. Called with tree held.
func (o *Thread) detach() {
	k, p, x := o.k, o.process, &o.pt
	leader, tr := p.tracedLeader == o, x.tracer.Load()
	o.unlink()
	if x.dead {
		if leader && p.zombie && p.parent != nil && tr.process != p.parent {
			k.passZombie(p)
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	x.opts, x.seized, x.trapStop, x.trapNotify, x.listening, x.code = 0, false, false, false, false, 0
	if x.stopped {
		o.setHow(0)
		x.wake(o)
	} else {
		o.hooks.And(^hookPtrace)
	}
	if p.stopSig != 0 {
		o.notify(fStop) // back into the group stop
	}
}

// passZombie tells the parent of a zombie that a tracer has let go. Called with tree held.
func (k *Kernel) passZombie(p *Process) {
	parent := p.parent
	if k.tellParent(p, parent) {
		k.reap(p)
	}
	parent.childEvents.Notify(waiter.ReadableEvents)
}

// dropTracees is the end of a tracer (exit_ptrace). Called with tree held.
func (t *Thread) dropTracees() {
	t.pt.gone = true
	for len(t.pt.tracees) > 0 {
		o := t.pt.tracees[0]
		o.process.mu.Lock()
		kill := o.pt.opts&TraceExitKill != 0
		o.pt.inject = 0
		o.process.mu.Unlock()
		if kill && !o.pt.dead {
			o.process.SendSignal(SignalInfo{Signo: int32(unix.SIGKILL), Code: SIKernel})
		}
		o.detach()
	}
}

// tracedThreadEnded keeps a traced thread that has ended for its tracer to wait for; a
// leader is its process's zombie, later. It returns whom to wake. Called with tree held.
func (k *Kernel) tracedThreadEnded(t *Thread, status uint32) *Process {
	tr := t.pt.tracer.Load()
	if tr == nil {
		return nil
	}
	t.pt.dead, t.pt.status = true, status
	if t == t.process.tracedLeader {
		return nil
	}
	// A record for each thread that nobody waits for is not free.
	t.pt.charged = k.charge(threadCost)
	info := SignalInfo{Signo: int32(unix.SIGCHLD), PID: t.TID(), UID: t.Creds().UID}
	info.Code, info.Status = endInfo(status)
	if k.tellOf(info, tr.process) || !t.pt.charged {
		t.unlink()
	}
	return tr.process
}

// tracedZombie is for the end of a process whose leader is traced by another than its
// parent: the tracer's process, which is told first; nil: the parent is to be told. Called
// with tree held.
func (k *Kernel) tracedZombie(p *Process) *Process {
	l := p.tracedLeader
	if l == nil {
		return nil
	}
	l.pt.dead = true
	tp := l.pt.tracer.Load().process
	if tp == p.parent {
		return nil
	}
	info := p.childInfo()
	if k.tellOf(info, tp) {
		l.unlink()
		return nil
	}
	return tp
}

// tellOf sends a tracer the SIGCHLD of a tracee's end and says whether it will not wait.
func (k *Kernel) tellOf(info SignalInfo, tp *Process) (forget bool) {
	a := tp.action(int32(unix.SIGCHLD))
	if a.Handler == sigIgnore {
		return true
	}
	tp.SendSignal(info)
	return a.Flags&SANoCldWait != 0
}

// stopArgs are one ptrace-stop: what wait reports, why (cldTrapped, cldStopped), the
// siginfo for PTRACE_GETSIGINFO (nil: a group stop), PTRACE_GETEVENTMSG's message.
type stopArgs struct {
	code    uint32
	why     int32
	info    *SignalInfo
	message uint64
	inCall  bool
	dying   bool
	event   bool // PTRACE_EVENT_STOP: the signal in code and info is the group stop's, else SIGTRAP
}

// ptraceStop parks the thread until its tracer lets it go on; sig is the signal that it
// injects. False: there is no tracer, or the thread is to end.
func (t *Thread) ptraceStop(a stopArgs) (sig int32, ok bool) {
	p, x := t.process, &t.pt
	p.mu.Lock()
	tr := x.tracer.Load()
	if tr == nil || !a.dying && t.flags.Load()&fKill != 0 {
		p.mu.Unlock()
		return 0, false
	}
	x.trapStop = false
	if a.event {
		// In one with the end of trapNotify: a SIGCONT is told of by this stop or by the next.
		sig := p.stopSig
		if sig == 0 {
			sig = int32(unix.SIGTRAP)
		}
		a.code = uint32(sig) | EventStop<<8
		a.info.Signo, a.info.Code = sig, int32(a.code)
		x.trapNotify = false
	}
	if t.Ctx.Exit.Kind == hal.ExitInterrupt || t.Ctx.Exit.Kind == hal.ExitException {
		t.Ctx.OrigRAX = ^uint64(0)
	}
	x.stopped, x.resume, x.listening, x.killed = true, false, false, false
	x.code, x.info, x.message, x.inject = a.code, a.info, a.message, 0
	x.inCall, x.dying = a.inCall, a.dying
	t.flags.And(^fEvent)
	p.mu.Unlock()
	t.tellTracer(tr, a.why, int32(a.code&0x7f))
	for {
		p.mu.Lock()
		kill := x.killed || !a.dying && t.flags.Load()&fKill != 0
		if (x.resume || kill) && !x.frozen {
			break
		}
		t.flags.And(^fEvent)
		p.mu.Unlock()
		waits := fEvent
		if !kill && !a.dying {
			waits |= fKill
		}
		t.k.Sched.block(t, waits)
	}
	x.stopped, x.resume, x.listening, x.inCall, x.dying = false, false, false, false, false
	x.code, x.info = 0, nil
	sig, x.inject = x.inject, 0
	t.recalc()
	p.mu.Unlock()
	t.checkRIP() // the tracer may have set it
	return sig, true
}

// tellTracer sends SIGCHLD and wakes wait.
func (t *Thread) tellTracer(tr *Thread, why, status int32) {
	tp := tr.process
	if a := tp.action(int32(unix.SIGCHLD)); a.Handler != sigIgnore && a.Flags&SANoCldStop == 0 {
		u := t.Usage()
		tp.SendSignal(SignalInfo{Signo: int32(unix.SIGCHLD), Code: why, PID: t.TID(), UID: t.Creds().UID, Status: status,
			UTime: u.User / tickNS, STime: u.System / tickNS})
	}
	tp.childEvents.Notify(waiter.ReadableEvents)
}

// notifyInfo is the siginfo of stops that are no signal's.
func (t *Thread) notifyInfo(signo int32, code uint32) *SignalInfo {
	pid, uid := t.TID(), t.Creds().UID
	// Some of the codes are those of faults, which have an address at this place.
	return &SignalInfo{Signo: signo, Code: int32(code), PID: pid, UID: uid, Addr: uint64(uid)<<32 | uint64(uint32(pid))}
}

// wantsEvent says whether the thread's tracer asked for an event.
func (t *Thread) wantsEvent(event uint32) bool {
	if !t.Traced() {
		return false
	}
	t.process.mu.Lock()
	defer t.process.mu.Unlock()
	return t.pt.opts>>event&1 != 0
}

// ptraceEvent stops for an event of a system call that the tracer asked for.
func (t *Thread) ptraceEvent(event uint32, message uint64) {
	if t.wantsEvent(event) {
		code := uint32(unix.SIGTRAP) | event<<8
		t.ptraceStop(stopArgs{code: code, why: cldTrapped, info: t.notifyInfo(int32(unix.SIGTRAP), code), message: message, inCall: true})
	}
}

// exitEvent is PTRACE_EVENT_EXIT, before the thread gives anything back.
func (t *Thread) exitEvent() {
	if !t.wantsEvent(EventExit) {
		return
	}
	p := t.process
	p.mu.Lock()
	status := t.exitCode
	if p.exitFlag {
		status = p.exitCode
	}
	p.mu.Unlock()
	code := uint32(unix.SIGTRAP) | EventExit<<8
	t.ptraceStop(stopArgs{code: code, why: cldTrapped, info: t.notifyInfo(int32(unix.SIGTRAP), code), message: uint64(status), dying: true})
}

// TraceExec tells of an execve that went through; was is the caller's number before. A
// tracer that did not ask for the event gets SIGTRAP, as it always did, unless it seized.
func (t *Thread) TraceExec(was int32) {
	if !t.Traced() {
		return
	}
	if t.wantsEvent(EventExec) {
		t.ptraceEvent(EventExec, uint64(was))
		return
	}
	t.process.mu.Lock()
	seized := t.pt.seized
	t.process.mu.Unlock()
	if !seized && t.Traced() {
		t.SendSignal(SignalInfo{Signo: int32(unix.SIGTRAP), Code: SIUser, PID: t.process.pid, UID: t.Creds().UID, Sender: t})
	}
}

// traceChild makes a new thread a tracee of the caller's tracer where the tracer asked for
// it (or CLONE_PTRACE did), and says which event the caller will tell. Called with tree
// held, before the child runs.
func (t *Thread) traceChild(n *Thread, a *CloneArgs) (event uint32) {
	tr := t.pt.tracer.Load()
	if tr == nil {
		return 0
	}
	t.process.mu.Lock()
	opts, seized := t.pt.opts, t.pt.seized
	t.process.mu.Unlock()
	if a.Flags&unix.CLONE_UNTRACED == 0 {
		switch {
		case a.Flags&unix.CLONE_VFORK != 0:
			event = EventVfork
		case a.ExitSignal != int32(unix.SIGCHLD):
			event = EventClone
		default:
			event = EventFork
		}
		if opts>>event&1 == 0 {
			event = 0
		}
	}
	if event == 0 && a.Flags&unix.CLONE_PTRACE == 0 {
		return 0
	}
	n.link(tr)
	n.pt.capable = t.pt.capable
	p := n.process
	p.mu.Lock()
	defer p.mu.Unlock()
	n.pt.opts, n.pt.seized = opts, seized
	if seized {
		n.pt.trapStop = true
		n.flags.Or(fStop)
	} else if p.enqueue(&n.pending, SignalInfo{Signo: int32(unix.SIGSTOP), Code: SIUser, force: true}) == nil {
		n.flags.Or(fSignal)
	}
	return event
}

// signalStop is the signal-delivery-stop: what the tracer makes of a signal that is about
// to be delivered. False: nothing of it is left.
func (t *Thread) signalStop(info *SignalInfo) bool {
	tr := t.pt.tracer.Load()
	if tr == nil || info.Signo == int32(unix.SIGKILL) {
		return true
	}
	c := *info
	sig, ok := t.ptraceStop(stopArgs{code: uint32(info.Signo), why: cldTrapped, info: &c})
	if !ok {
		return true
	}
	if sig == 0 {
		return false
	}
	p := t.process
	if sig == c.Signo {
		*info = c // PTRACE_SETSIGINFO
	} else {
		*info = SignalInfo{Signo: sig, Code: SIUser, PID: tr.process.pid, UID: tr.Creds().UID}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.mask.Has(sig) {
		_ = p.enqueue(&t.pending, *info)
		return false
	}
	return true
}

// trapHere serves trapStop and trapNotify: PTRACE_INTERRUPT, the start of a seized thread,
// a group stop's end; or the stop of a thread that was stopped when it was attached to.
// Called with mu held, returns without.
func (t *Thread) trapHere(p *Process) {
	x := &t.pt
	if !t.Traced() {
		x.trapStop, x.trapNotify = false, false
		p.mu.Unlock()
		return
	}
	if x.seized {
		p.mu.Unlock()
		t.eventStop()
		return
	}
	sig := p.stopSig
	x.trapStop, x.trapNotify = false, false
	p.mu.Unlock()
	if sig != 0 {
		t.ptraceStop(stopArgs{code: uint32(sig), why: cldStopped})
	}
}

// eventStop is PTRACE_EVENT_STOP.
func (t *Thread) eventStop() {
	t.ptraceStop(stopArgs{event: true, why: cldStopped, info: t.notifyInfo(0, 0)})
}

// tracedStop is a traced thread's part in a group stop. Called with mu held, returns without.
func (p *Process) tracedStop(t *Thread) {
	p.stopped++
	t.pt.inStop = true
	last := p.stopped == p.nthreads
	sig, seized := p.stopSig, t.pt.seized
	if last {
		p.setStopped()
	}
	tr := t.pt.tracer.Load()
	p.mu.Unlock()
	if last && p.tracedElsewhere(tr) {
		p.k.jobControl(p, cldStopped, sig)
	}
	if seized {
		t.eventStop()
		return
	}
	t.ptraceStop(stopArgs{code: uint32(sig), why: cldStopped})
}

// tracedElsewhere says whether tr is not of the parent's own process (ptrace_reparented).
func (p *Process) tracedElsewhere(tr *Thread) bool {
	p.k.tree.RLock()
	defer p.k.tree.RUnlock()
	return tr == nil || p.parent != tr.process
}

// continued is SIGCONT for tracees: a seized one tells of it. Called with mu held.
func (p *Process) continued() {
	for t := p.threads; t != nil; t = t.sibling {
		if x := &t.pt; x.seized && t.Traced() {
			x.trapNotify = true
			if x.listening {
				x.resume = true
				t.notify(fEvent)
			}
			t.notify(fStop)
		}
	}
}

// killStopped lets SIGKILL end the stop of threads that are ending anyway. Called with mu
// held.
func (p *Process) killStopped() {
	for t := p.threads; t != nil; t = t.sibling {
		if t.pt.dying {
			t.pt.killed = true
			t.notify(fEvent)
		}
	}
}
