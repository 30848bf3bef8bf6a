package task

import (
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// WaitArgs are what wait4 and waitid ask for.
type WaitArgs struct {
	// PID > 0: that child; -1: any; 0: the group Group or, if that is 0, the caller's.
	PID, Group int32
	// Child, if set, is the one meant (P_PIDFD); PID does not count.
	Child *Process
	// Options: WNOHANG, WEXITED, WSTOPPED, WCONTINUED, WNOWAIT, __WALL, __WCLONE,
	// __WNOTHREAD.
	Options int
}

// wNoThread is __WNOTHREAD, which x/sys/unix lacks: only children of the calling thread.
const wNoThread = 0x20000000

// WaitResult is a child that changed state; PID 0 with WNOHANG: none did.
type WaitResult struct {
	PID    int32
	UID    uint32
	Status uint32 // as wait4 has it
	Usage  Usage
	// Trapped: a ptrace-stop.
	Trapped bool
}

// Wait waits for a child. ECHILD: there is none to wait for. See wait4(2).
func (t *Thread) Wait(a WaitArgs) (WaitResult, error) {
	p := t.process
	e := &t.entry
	if t.entryUsed {
		e = new(waiter.Entry)
	} else {
		t.entryUsed = true
	}
	defer t.releaseEntry(e)
	e.Init(t, waiter.ReadableEvents)
	p.childEvents.EventRegister(e)
	defer p.childEvents.EventUnregister(e)
	for {
		r, found, err := t.collect(&a)
		if err != nil || found || a.Options&unix.WNOHANG != 0 {
			return r, err
		}
		if r := t.Block(hal.NoDeadline, wait.Interruptible); r != wait.Ready {
			// The signal may be the child's own, which comes before its wake-up.
			if res, found, err := t.collect(&a); err != nil || found {
				return res, err
			}
			return WaitResult{}, r.Err()
		}
	}
}

// collect looks once for a child to report: the oldest that has something to say.
func (t *Thread) collect(a *WaitArgs) (r WaitResult, found bool, err error) {
	k, p := t.k, t.process
	k.tree.Lock()
	defer k.tree.Unlock()
	c, one := p.children.first, a.PID > 0 || a.Child != nil
	if one {
		if c = a.Child; c == nil {
			c = k.procs[a.PID]
		}
		if c != nil && (c.parent != p || c.reaped) {
			c = nil
		}
	}
	err = unix.ECHILD
	for ; c != nil; c = c.siblings.next {
		if t.matches(c, a) {
			// A zombie is nobody to wait for where only stops count.
			if !c.zombie || a.Options&unix.WEXITED != 0 {
				err = nil
			}
			options := a.Options
			if l := c.tracedLeader; l != nil {
				own := l.pt.tracer.Load().process == p
				if own && l.traceReport(&r, options) {
					return r, true, nil
				}
				if own {
					options &^= unix.WSTOPPED // told as the tracee's stops
				} else if c.zombie {
					err, options = nil, 0 // its tracer's first
				}
			}
			if c.report(&r, options) {
				r.UID, r.Usage = c.uidLocked(), c.Usage()
				if c.zombie && a.Options&unix.WNOWAIT == 0 {
					p.addChildUsage(&r.Usage)
					p.io.add(&c.io)
					k.reap(c)
				}
				return r, true, nil
			}
		}
		if one {
			break
		}
	}
	if p.tracees > 0 {
		return t.collectTraced(a, err)
	}
	return r, false, err
}

// collectTraced is collect for the caller's tracees; err is what it came to so far. Called
// with tree held.
func (t *Thread) collectTraced(a *WaitArgs, err error) (r WaitResult, found bool, _ error) {
	for th := t.process.threads; th != nil; th = th.sibling {
		if th != t && a.Options&wNoThread != 0 {
			continue
		}
		for _, o := range th.pt.tracees {
			if !t.matchesTraced(o, a) {
				continue
			}
			zombie := o.pt.dead && (o.process.zombie || o.process.tracedLeader != o)
			if !zombie {
				err = nil
				if o.traceReport(&r, a.Options) {
					return r, true, nil
				}
			} else if a.Options&unix.WEXITED != 0 {
				return t.buryTraced(o, a.Options), true, nil
			}
		}
	}
	return r, false, err
}

// matchesTraced says whether the caller asked for a tracee. Called with tree held.
func (t *Thread) matchesTraced(o *Thread, a *WaitArgs) bool {
	switch {
	case a.Child != nil:
		return o == a.Child.tracedLeader
	case a.PID > 0:
		return o.TID() == a.PID
	}
	return a.PID < 0 || o.process.pgid == a.group(t)
}

// group is the process group that a thread asks for.
func (a *WaitArgs) group(t *Thread) int32 {
	if a.Group != 0 {
		return a.Group
	}
	return t.process.pgid
}

// traceReport fills r if a tracee is in a stop that has not been told. Called with tree
// held.
func (o *Thread) traceReport(r *WaitResult, options int) bool {
	p, x := o.process, &o.pt
	p.mu.Lock()
	defer p.mu.Unlock()
	if !x.stopped || x.listening || x.code == 0 {
		return false
	}
	*r = WaitResult{PID: o.TID(), UID: o.Creds().UID, Status: x.code<<8 | 0x7f, Trapped: true}
	if options&unix.WNOWAIT == 0 {
		x.code = 0
	}
	return true
}

// buryTraced reports a tracee that has ended and, unless WNOWAIT, lets it go: a process's
// parent hears of it now. Called with tree held.
func (t *Thread) buryTraced(o *Thread, options int) (r WaitResult) {
	p, k := o.process, t.k
	r = WaitResult{PID: o.TID(), UID: o.Creds().UID, Status: o.pt.status}
	if p.tracedLeader != o {
		if options&unix.WNOWAIT == 0 {
			o.unlink()
		}
		return r
	}
	r.Status, r.Usage = p.status, p.Usage()
	switch {
	case options&unix.WNOWAIT != 0:
	case p.parent == t.process:
		p.parent.addChildUsage(&r.Usage)
		p.parent.io.add(&p.io)
		k.reap(p)
	default:
		o.unlink()
		if p.parent == nil {
			k.reap(p)
		} else {
			k.passZombie(p)
		}
	}
	return r
}

// matches says whether the caller asked for c. Called with tree held.
func (t *Thread) matches(c *Process, a *WaitArgs) bool {
	if a.Options&wNoThread != 0 && c.forker != t {
		return false
	}
	clone := c.exitSignal != int32(unix.SIGCHLD)
	if a.Options&unix.WALL == 0 && clone != (a.Options&unix.WCLONE != 0) {
		return false
	}
	if a.PID > 0 || a.Child != nil {
		return true // collect has looked it up
	}
	return a.PID < 0 || c.pgid == a.group(t)
}

// report fills r if c has something to say. Called with tree held.
func (c *Process) report(r *WaitResult, options int) bool {
	keep := options&unix.WNOWAIT != 0
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.zombie && options&unix.WEXITED != 0:
		r.Status = c.status
	case !c.zombie && options&unix.WSTOPPED != 0 && c.stopReport != 0:
		r.Status = c.stopReport
		if !keep {
			c.stopReport = 0
		}
	case !c.zombie && options&unix.WCONTINUED != 0 && c.contReport:
		r.Status = 0xffff
		if !keep {
			c.contReport = false
		}
	default:
		return false
	}
	r.PID = c.pid
	return true
}

// ChildInfo is waitid's siginfo for a result.
func (r *WaitResult) ChildInfo() SignalInfo {
	i := SignalInfo{Signo: int32(unix.SIGCHLD), PID: r.PID, UID: r.UID}
	switch s := r.Status; {
	case s == 0xffff:
		i.Code, i.Status = cldContinued, int32(unix.SIGCONT)
	case s&0xff == 0x7f:
		i.Code, i.Status = cldStopped, int32(s>>8)
		if r.Trapped {
			i.Code = cldTrapped
		}
	default:
		i.Code, i.Status = endInfo(s)
	}
	return i
}

// tickNS is a clock tick (USER_HZ 100) in nanoseconds.
const tickNS = 10_000_000

// Usage is getrusage's answer; times in nanoseconds, MaxRSS in pages.
type Usage struct {
	User, System              int64
	MaxRSS                    int64
	MinFlt, MajFlt            uint64
	Voluntary, Involuntary    uint64
	ChildUser, ChildSystem    int64 // for times(2): of the same process's children
	childMinFlt, childMajFlt  uint64
	childVol, childInvol, rss uint64
}

// cpuSplit is what has been told of a thread's, or a process's, user and system time, in
// nanoseconds: neither runs back. mu is taken last.
type cpuSplit struct {
	mu        sync.Mutex
	user, sys int64
}

// of divides precise CPU time by the system time that was measured, as Linux' cputime_adjust
// does with ticks. That is reckoned from samples: a long call among them makes it too large, all
// of the total perhaps, until others have made up for it.
func (c *cpuSplit) of(total, sys int64) (int64, int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if total > c.user+c.sys {
		sys = min(max(sys, c.sys), total-c.user)
		c.user, c.sys = total-sys, sys
	}
	return c.user, c.sys
}

// Usage of the whole process so far.
func (p *Process) Usage() Usage {
	u := Usage{MinFlt: p.deadMinFlt.Load(), MajFlt: p.deadMajFlt.Load(), Voluntary: p.deadVol.Load(), Involuntary: p.deadInvol.Load(),
		MaxRSS: p.maxRSS.Load()}
	sys := p.deadSys.Load()
	for _, t := range p.Threads() {
		sys += t.sysTime.Load()
		u.MinFlt += t.minFlt.Load()
		u.MajFlt += t.majFlt.Load()
		u.Voluntary += t.voluntary.Load()
		u.Involuntary += t.involuntary.Load()
	}
	u.User, u.System = p.split.of(p.CPUTime(), sys)
	if s := p.Space(); s != nil {
		u.MaxRSS = max(u.MaxRSS, s.Peak())
	}
	u.ChildUser, u.ChildSystem = p.childUser.Load(), p.childSys.Load()
	u.childMinFlt, u.childMajFlt = p.childMinFlt.Load(), p.childMajFlt.Load()
	u.childVol, u.childInvol, u.rss = p.childVol.Load(), p.childInvol.Load(), p.childMaxRSS.Load()
	return u
}

// ChildUsage is RUSAGE_CHILDREN.
func (p *Process) ChildUsage() Usage {
	return Usage{User: p.childUser.Load(), System: p.childSys.Load(), MaxRSS: int64(p.childMaxRSS.Load()),
		MinFlt: p.childMinFlt.Load(), MajFlt: p.childMajFlt.Load(), Voluntary: p.childVol.Load(), Involuntary: p.childInvol.Load()}
}

// Both is RUSAGE_BOTH of Linux: the process's own and that of the children it waited
// for, which is what wait4 tells.
func (u *Usage) Both() *Usage {
	b := *u
	b.User += u.ChildUser
	b.System += u.ChildSystem
	b.MinFlt += u.childMinFlt
	b.MajFlt += u.childMajFlt
	b.Voluntary += u.childVol
	b.Involuntary += u.childInvol
	b.MaxRSS = max(b.MaxRSS, int64(u.rss))
	return &b
}

// Usage of one thread.
func (t *Thread) Usage() Usage {
	u := Usage{MinFlt: t.minFlt.Load(), MajFlt: t.majFlt.Load(), Voluntary: t.voluntary.Load(), Involuntary: t.involuntary.Load(),
		MaxRSS: max(t.process.maxRSS.Load(), t.space.Peak())}
	u.User, u.System = t.split.of(t.CPUTime(), t.sysTime.Load())
	return u
}

func (p *Process) addChildUsage(u *Usage) {
	p.childUser.Add(u.User + u.ChildUser)
	p.childSys.Add(u.System + u.ChildSystem)
	p.childMinFlt.Add(u.MinFlt + u.childMinFlt)
	p.childMajFlt.Add(u.MajFlt + u.childMajFlt)
	p.childVol.Add(u.Voluntary + u.childVol)
	p.childInvol.Add(u.Involuntary + u.childInvol)
	for {
		old := p.childMaxRSS.Load()
		if n := max(uint64(u.MaxRSS), u.rss, old); n == old || p.childMaxRSS.CompareAndSwap(old, n) {
			return
		}
	}
}

// ownTime is the CPU time of the calling thread t. To charge it moves cpuTime on but leaves
// base: no lock is needed.
func (t *Thread) ownTime() int64 { return t.base.Load() + t.k.M.Nanotime() }

// CPUTime is the thread's, in nanoseconds.
func (t *Thread) CPUTime() int64 {
	t.k.Sched.settle(t.process)
	return t.cpuTime.Load()
}

// CPUTime is the whole process's, in nanoseconds.
func (p *Process) CPUTime() int64 {
	p.k.Sched.settle(p)
	return p.cpuTime.Load()
}

// StartTime is when it began, in Nanotime.
func (p *Process) StartTime() int64 { return p.startTime }
func (t *Thread) StartTime() int64  { return t.startTime }
