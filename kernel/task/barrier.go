package task

import "runtime"

// RegisterBarrier notes a MEMBARRIER_CMD_REGISTER_PRIVATE_* command, for the memory of p;
// Barriers are those noted. fork keeps them, exec forgets them.
func (p *Process) RegisterBarrier(cmd uint32) { p.barriers.Or(cmd) }

// Barriers are the commands registered.
func (p *Process) Barriers() uint32 { return p.barriers.Load() }

// Barrier makes every other thread that runs at this moment, of t's memory only or of any
// (own false), pass a full memory barrier before it returns. cpu >= 0 means the thread on
// that CPU alone.
//
// A thread that does not run has passed one when it gave its CPU away, and passes another
// before it runs. One that runs is called to its boundary, where it clears fBarrier: that
// atomic operation is the barrier, and so is the interrupt that brought it there. One that
// serves a call in the kernel gets there when the call ends or blocks.
func (t *Thread) Barrier(own bool, cpu int) {
	k := t.k
	if k.Sched.NumCPU() == 1 {
		return // nobody else runs
	}
	var wait []*Thread
	k.tree.RLock()
	for _, o := range k.threads {
		if o == t || o.state.Load() != stateRunning || own && o.process.Space() != t.space || cpu >= 0 && o.CPU() != cpu {
			continue
		}
		wait = append(wait, o)
	}
	k.tree.RUnlock()
	for _, o := range wait {
		o.notify(fBarrier | fRseq)
	}
	for _, o := range wait {
		for o.flags.Load()&fBarrier != 0 && o.state.Load() == stateRunning && t.flags.Load()&fKill == 0 {
			t.flags.And(^fBarrier) // it may be waiting for this thread's
			runtime.Gosched()
		}
	}
}

// Dying says whether the process has been told to end.
func (p *Process) Dying() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exitFlag
}
