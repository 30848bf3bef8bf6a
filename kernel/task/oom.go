package task

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// oomScoreMin in /proc/pid/oom_score_adj exempts a process.
const oomScoreMin = -1000

// badness is Linux' oom_badness: the pages that the end of p would give back, resident ones
// and page tables, moved by oom_score_adj in thousandths of memory. ok is false for a
// process that is not to be chosen: it has no memory, is exempt, or lends its parent's
// (vfork).
func (k *Kernel) badness(p *Process) (n int64, ok bool) {
	s := p.Space()
	adj := int64(p.oomAdj.Load())
	if s == nil || adj <= oomScoreMin || p.borrowsSpace() {
		return 0, false
	}
	return s.Resident() + s.TablePages() + adj*(int64(k.Mem.TotalPages())/1000), true
}

// AdjustOOM sets oom_score_adj, -1000 to 1000. Who has no privilege may not go below what
// was last set with it: false.
func (p *Process) AdjustOOM(v int32, privileged bool) bool {
	if privileged {
		p.oomMin.Store(v)
	} else if v < p.oomMin.Load() {
		return false
	}
	p.oomAdj.Store(v)
	return true
}

// borrowsSpace says whether p runs in the memory of a parent that waits for it.
func (p *Process) borrowsSpace() bool { l := p.Leader(); return l != nil && l.inVfork.Load() }

// OOMScore is /proc/pid/oom_score: 0 to 2000, where 667 is a process without memory and
// without adjustment.
func (p *Process) OOMScore() int64 {
	n, ok := p.k.badness(p)
	if !ok {
		return 0
	}
	return max(0, (1000+n*1000/int64(p.k.Mem.TotalPages()))*2/3)
}

// Dying implements mm.Starving. Who ends by itself has words to write yet, on which others wait
// (releaseFutexes), and memory for them as anybody else.
func (t *Thread) Dying() bool { return t.flags.Load()&fVictim != 0 }

// OutOfMemory implements mm.Starving.
func (t *Thread) OutOfMemory() bool {
	if t.Dying() {
		return false
	}
	kind := wait.Killable
	if t.flags.Load()&fKill != 0 { // it ends by itself
		kind = wait.Uninterruptible
	}
	// The more there are, the less often each looks again, or they do nothing else.
	n := t.k.starving.Add(1)
	defer t.k.starving.Add(-1)
	return t.Block(t.Deadline(oomPause*int64(n/2+1)), kind) != wait.Kill
}

// oomPause is how long a thread that found no memory waits for the victim, in nanoseconds.
const oomPause = 1_000_000

// oomSlack is how many pages beyond the reserve, which programs cannot have, say that
// memory is there again.
const oomSlack = 64

// heldAtExit says whether a tracer holds a thread of p at its end (PTRACE_EVENT_EXIT), for as
// long as it likes.
func (p *Process) heldAtExit() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for t := p.threads; t != nil; t = t.sibling {
		if x := &t.pt; x.stopped && x.dying && !x.killed {
			return true
		}
	}
	return false
}

// endDump has p write no more of a core file.
func (p *Process) endDump() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dumper != nil {
		p.dumper.notify(fEnd)
	}
}

// hurry lets a process that ends run before all that have no real-time priority: many that find
// no memory, and look again and again, keep each other and it from the processors, and it for
// seconds if it has used more of them than those that slept.
func (p *Process) hurry() {
	if p.hurried.Swap(true) {
		return
	}
	for _, t := range p.Threads() {
		t.SetSched(func(q *SchedParam) {
			if q.Priority == 0 {
				q.Policy, q.Priority = SchedFIFO, 1
			}
		})
	}
}

// oomKill ends the process that Linux would choose, with a line that names it, and those
// who share its memory. Process 1 is chosen when there is nobody else. While one is dying
// already it does no more than hurry it, unless a tracer holds it: that one's memory is about to
// come back. Nor does it when one has ended since the last choice and its memory is there, which
// the caller has not seen: it found none before (as Linux's __alloc_pages_may_oom looks once
// more).
func (k *Kernel) oomKill(*mm.Space) {
	if !k.oom.TryLock() {
		return // another thread is choosing
	}
	defer k.oom.Unlock()
	var victim *Process
	var most int64
	k.tree.RLock()
	for _, p := range k.procs {
		if p.zombie {
			continue
		}
		// Who ends has no Space any more while its memory is freed.
		if p.Dying() {
			if p.heldAtExit() {
				continue
			}
			k.tree.RUnlock()
			p.endDump()
			p.hurry()
			return
		}
		n, ok := k.badness(p)
		if !ok || p == k.init {
			continue
		}
		if victim == nil || n > most || n == most && p.pid > victim.pid {
			victim, most = p, n
		}
	}
	if victim == nil && k.init != nil && !k.init.zombie {
		if _, ok := k.badness(k.init); ok {
			victim = k.init
		}
	}
	ended := k.ended
	k.tree.RUnlock()
	if victim == nil {
		return
	}
	st, resident := k.M.MemStats(), int64(0)
	if ended != k.oomEnded {
		k.oomEnded = ended
		if st.FreePages >= st.Reserve+oomSlack {
			return
		}
	}
	s := victim.Space()
	if s != nil {
		resident = s.Resident()
	}
	k.Log("error", "out of memory: killed process %d (%s), %d MB resident, oom_score_adj %d; %d of %d MB free. Give the machine more memory.",
		victim.pid, victim.commName(), resident>>8, victim.OOMAdj(), st.FreePages>>8, st.TotalPages>>8)
	kill := SignalInfo{Signo: int32(unix.SIGKILL), Code: SIKernel}
	victim.SendSignal(kill)
	victim.hurry()
	for _, p := range k.Processes() {
		if p != victim && p != k.init && s != nil && p.Space() == s && p.OOMAdj() > oomScoreMin {
			p.SendSignal(kill)
			p.hurry()
		}
	}
}
