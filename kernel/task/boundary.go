package task

import (
	"runtime"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// run is the life of a thread's goroutine. What is latched meanwhile makes Enter return at
// once, so that a call which has nothing to do at the boundary costs one test here.
func (t *Thread) run() {
	k := t.k
	t.switched(false) // a child's rseq shows its parent's CPU
	// A thread may have been told to end before it ran at all.
	for t.flags.Load()&boundaryWork == 0 || t.exitToUser() {
		k.M.Enter(t.Ctx, t.hw)
		if kind := t.Ctx.Exit.Kind; kind != hal.ExitSyscall {
			t.trapped(kind)
		} else if t.sysLeft--; t.sysLeft != 0 {
			k.Syscalls.Dispatch(t)
		} else {
			t.sampledCall()
		}
	}
	t.finish()
}

// trapped serves what ended ring 3 and was no system call.
func (t *Thread) trapped(kind hal.ExitKind) {
	switch kind {
	case hal.ExitException:
		t.exception()
	case hal.ExitRefused:
		p := t.process
		t.k.Log("error", "the host has no thread left to run process %d (%s) in: killed", p.pid, p.commName())
		p.SendSignal(SignalInfo{Signo: int32(unix.SIGKILL), Code: SIKernel})
	case hal.ExitInterrupt:
		if m := t.k.M; m.Pending() {
			m.Dispatch()
			runtime.Gosched()
		}
	}
}

// sampleEvery is how many system calls share one measurement of their CPU time, on
// average: two clock readings at each would cost more than getpid does. The distance
// varies, so that a program which makes its calls in turn is not measured at one of them.
const sampleEvery = 32

func (t *Thread) sampledCall() {
	before := t.ownTime()
	t.k.Syscalls.Dispatch(t)
	t.sysTime.Add((t.ownTime() - before) * sampleEvery)
	t.sysRand = t.sysRand*1664525 + 1013904223
	t.sysLeft = 1 + t.sysRand>>16%(2*sampleEvery-1)
}

// exitToUser is the one place between serving a trap and ring 3. In this order: the
// end of the thread, stops, signals with system call restart, latched interrupts, the
// slice, rseq. It returns false when the thread is to end.
func (t *Thread) exitToUser() bool {
	for {
		f := t.flags.Load()
		if f&fKill != 0 {
			return false
		}
		if f&fSysExit != 0 {
			t.flags.And(^fSysExit)
			t.syscallExit()
			continue
		}
		if f&fWork != 0 {
			t.flags.And(^fWork)
			t.runWork()
			continue
		}
		if f&(fStop|fSignal|fSettle) != 0 {
			if !t.serveSignals() {
				return false
			}
			continue
		}
		pending := t.k.M.Pending()
		if f&boundaryWork == 0 && !pending {
			return true
		}
		if pending {
			t.k.M.Dispatch()
		}
		if pending || f&fYield != 0 {
			t.flags.And(^fYield)
			runtime.Gosched()
		}
		if f&fBarrier != 0 {
			t.flags.And(^fBarrier)
		}
		if f&fPreempt != 0 {
			if w := t.k.Sched.withdraw; w != nil {
				w.Withdraw(t.Ctx) // of this; the flags are read again below
			}
			t.flags.And(^fPreempt)
			t.k.Sched.yield(t, false)
		}
		if f&fPlace != 0 {
			t.placed()
		}
		if f&fRseq != 0 {
			t.fixRseq()
		}
	}
}

// serveSignals stops the thread if its process is stopped, takes pending signals one
// by one, and settles the restart of an interrupted system call. False: the thread is
// to end.
func (t *Thread) serveSignals() bool {
	p := t.process
	info, act := &t.sigInfo, &t.sigAct
	for {
		p.mu.Lock()
		switch {
		case p.exitFlag || p.execing != nil && p.execing != t:
			p.mu.Unlock()
			t.notify(fEnd)
			return false
		case p.contTell != 0:
			p.tellCont()
			p.mu.Unlock()
			continue
		case t.pt.trapStop || t.pt.trapNotify:
			t.trapHere(p) // unlocks
			continue
		case p.stopSig != 0 && !t.Traced():
			p.stopHere(t) // unlocks
			continue
		case p.stopSig != 0 && !t.pt.inStop:
			p.tracedStop(t) // unlocks
			continue
		}
		t.flags.And(^(fStop | fSettle))
		if !t.dequeue(^t.mask, info) {
			t.recalc()
			p.mu.Unlock()
			t.noHandler()
			return true
		}
		if t.Traced() {
			p.mu.Unlock()
			if !t.signalStop(info) {
				continue
			}
			p.mu.Lock()
		}
		*act = p.takeAction(info.Signo)
		p.mu.Unlock()
		switch {
		case act.Handler == sigIgnore:
		case act.Handler != sigDefault:
			t.deliver(info, act)
			return true // fSignal says whether there are more that the new mask lets through
		default:
			if !t.defaultAction(info) {
				return false
			}
		}
	}
}

// takeAction reads the action for a signal about to be delivered and resets a
// one-shot one.
func (p *Process) takeAction(sig int32) SigAction {
	h := p.hand
	h.mu.Lock()
	a := h.actions[sig-1]
	if a.Flags&SAResetHand != 0 && a.Handler > sigIgnore {
		h.actions[sig-1].Handler = sigDefault
	}
	h.mu.Unlock()
	return a
}

// defaultAction does what an unhandled signal does. False: the process ends.
func (t *Thread) defaultAction(info *SignalInfo) bool {
	sig := info.Signo
	switch {
	case sigIgnores.Has(sig):
		return true
	case sigStops.Has(sig):
		t.startStop(sig)
		return true
	}
	if sigCores.Has(sig) {
		t.reportDeath(info)
		t.tellDumped()
		t.dumpCore(info)
	}
	t.ExitGroup(uint32(sig) & 0x7f)
	return false
}

// noHandler ends a system call that no handler interrupted: it runs again, through
// restart_syscall where it must go on rather than start over.
func (t *Thread) noHandler() {
	r := &t.Ctx.Regs
	switch t.restart {
	case 0:
	case wait.ErrRestartBlock:
		r.RAX = unix.SYS_RESTART_SYSCALL
		r.RIP -= 2
	default:
		r.RAX = r.OrigRAX
		r.RIP -= 2
	}
	t.restart = 0
	if t.restore {
		t.restore = false
		t.SetMask(t.savedMask)
	}
}

// interrupted ends a system call that a handler interrupts: EINTR, or once more after
// the handler.
func (t *Thread) interrupted(act *SigAction) {
	r := &t.Ctx.Regs
	switch t.restart {
	case 0:
		return
	case wait.ErrRestartNoInt:
		r.RAX = r.OrigRAX
		r.RIP -= 2
	case wait.ErrRestart:
		if act.Flags&SARestart != 0 {
			r.RAX = r.OrigRAX
			r.RIP -= 2
			break
		}
		fallthrough
	default:
		r.RAX = ^uint64(unix.EINTR) + 1
	}
	t.restart = 0
}

// SetRestart leaves what restart_syscall will run, and returns the code that asks for
// it. The function runs on the thread, in place of the call.
func (t *Thread) SetRestart(f func(t *Thread) (uintptr, error)) error {
	t.restartFn = f
	return wait.ErrRestartBlock
}

// Restart is restart_syscall: EINTR if there is nothing to go on with.
func (t *Thread) Restart() (uintptr, error) {
	f := t.restartFn
	if f == nil {
		return 0, unix.EINTR
	}
	t.restartFn = nil
	return f(t)
}

// startStop begins a group stop, by a signal that t has taken: every thread parks at its
// boundary.
func (t *Thread) startStop(sig int32) {
	p := t.process
	if sig != int32(unix.SIGSTOP) && p.k.orphaned(p) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exitFlag || p.stopSig != 0 || !t.stopTaken {
		return
	}
	p.stopSig = sig
	for o := p.threads; o != nil; o = o.sibling {
		o.notify(fStop)
	}
}

// stopHere parks t until the stop is over. The last thread to stop tells the parent.
// Called with mu held, returns without.
func (p *Process) stopHere(t *Thread) {
	counted := t.pt.inStop // a tracer has let go of it
	if !counted {
		p.stopped++
	}
	t.pt.inStop, t.parked = false, true
	last := p.stopped == p.nthreads && !counted
	sig := p.stopSig
	t.flags.And(^(fStop | fEvent))
	if last {
		p.setStopped()
	}
	p.mu.Unlock()
	if last {
		p.k.jobControl(p, cldStopped, sig)
	}
	for {
		t.k.Sched.block(t, fEvent|fKill)
		p.mu.Lock()
		if p.stopSig == 0 || t.flags.Load()&fKill != 0 {
			break
		}
		if t.pt.trapStop { // it stays stopped, for a tracer
			t.pt.inStop, t.parked = true, false
			p.mu.Unlock()
			return
		}
		t.flags.And(^fEvent)
		p.mu.Unlock()
	}
	p.stopped--
	t.parked = false
	p.mu.Unlock()
}

// setStopped leaves what wait is to report: every thread has stopped. Called with mu held.
func (p *Process) setStopped() {
	p.stopReport, p.contReport = uint32(p.stopSig)<<8|0x7f, false
}

// tellCont tells the parent of a SIGCONT that ended a stop, or one that was being entered: the first thread on its way
// does it, since whoever sends a signal cannot (locks). Called with mu held, releases it
// meanwhile.
func (p *Process) tellCont() {
	code, status := p.contTell, int32(unix.SIGCONT)
	if code == cldStopped {
		status = 0 // no signal stops it any more
	}
	p.contTell = 0
	p.mu.Unlock()
	p.k.jobControl(p, code, status)
	p.mu.Lock()
}

// resume ends a group stop, by SIGCONT (cont) or by the end of the process. Called with mu
// held.
func (p *Process) resume(cont bool) {
	if p.stopSig == 0 {
		return
	}
	if cont && p.nthreads > 0 {
		p.stopReport, p.contReport, p.contTell = 0, true, cldContinued
		if p.stopped < p.nthreads {
			p.contTell = cldStopped // one was late: the parent has not heard of the stop yet
		}
	}
	p.stopSig = 0
	for t := p.threads; t != nil; t = t.sibling {
		if t.pt.inStop {
			t.pt.inStop = false
			p.stopped--
		}
		t.flags.And(^fStop)
		if t.pt.trapStop || t.pt.trapNotify {
			t.flags.Or(fStop)
		}
		t.notify(fEvent)
	}
}
