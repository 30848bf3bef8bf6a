package task

import (
	"sync"

	"kiln/kernel/hal"
	"kiln/kernel/timer"
)

// Bits of Thread.flags: why a thread should stop what it does. One word, so that the
// way back to the program tests everything at once.
const (
	fEvent   uint32 = 1 << iota // something it listens to has happened
	fTimeout                    // its Block deadline has passed
	fSignal                     // a signal may be deliverable
	fKill                       // it is to end: exit, exit_group, exec of a sibling, fatal signal
	fStop                       // the process is stopping
	fPreempt                    // its slice is over
	fYield                      // kernel goroutines should run before it goes on
	fRseq                       // rseq's memory wants a look
	fSettle                     // a restart code or a temporary signal mask is to be settled

	// boundaryWork is what sends a thread through exitToUser.
	boundaryWork = fSignal | fKill | fStop | fPreempt | fYield | fRseq | fSettle
)

// States of a thread, written under Sched.mu, read without it.
const (
	stateBlocked int32 = iota // parked, waits for one of Thread.waits
	stateQueued               // would run, waits for a token
	stateRunning              // holds a token
	stateDead
)

// slice is how long a thread runs while others wait, in nanoseconds.
const slice = 3_000_000

// minSlice is the least that is left to whoever runs when another becomes ready.
const minSlice = 300_000

// Sched hands out the right to run: one token a CPU. A thread holds one while it is in
// ring 3 or serves its own trap, and gives it back while it is parked, so that no
// more threads compete in the Go scheduler than there are CPUs and kernel goroutines
// (drivers, the network) are never behind a queue of programs.
//
// This version is first come, first served within an affinity mask; a timer ends the
// slice of whoever runs while others wait. Weights are kept for getpriority and
// sched_getattr.
type Sched struct {
	m      hal.Machine
	timers *timer.Queue

	mu         sync.Mutex
	run        []*Thread // token holders by CPU, nil: the token is free
	head, tail *Thread   // waiting for a token, through Thread.qnext
	queued     int
	sliceTimer timer.Timer
	sliceArmed bool

	switches uint64
}

func (s *Sched) init(m hal.Machine, q *timer.Queue) {
	s.m, s.timers = m, q
	s.run = make([]*Thread, max(1, m.CPUs()))
	s.sliceTimer.Init(s.endSlice)
}

// NumCPU is the number of tokens.
func (s *Sched) NumCPU() int { return len(s.run) }

// Load is the threads running and waiting to run, and the switches so far.
func (s *Sched) Load() (running, queued int, switches uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.run {
		if t != nil {
			running++
		}
	}
	return running, s.queued, s.switches
}

// AllCPUs is the affinity mask of every CPU of the machine.
func (s *Sched) AllCPUs() uint64 {
	if n := len(s.run); n < 64 {
		return 1<<n - 1
	}
	return ^uint64(0)
}

// ready gives t a token or queues it. Called with mu held; t holds none.
func (s *Sched) ready(t *Thread) {
	for cpu, holder := range s.run {
		if holder == nil && t.affinity&(1<<(cpu&63)) != 0 {
			s.give(t, cpu)
			return
		}
	}
	t.state.Store(stateQueued)
	t.qnext = nil
	if s.tail == nil {
		s.head = t
	} else {
		s.tail.qnext = t
	}
	s.tail = t
	s.queued++
	if !s.sliceArmed {
		s.sliceArmed = true
		s.timers.Arm(&s.sliceTimer, s.sliceEnd())
	}
}

// sliceEnd is when somebody must make room: one who has run long enough already does
// so almost at once, so that a thread woken by a packet does not wait behind a busy one.
func (s *Sched) sliceEnd() int64 {
	now := s.timers.Now()
	first := now
	for _, t := range s.run {
		if t != nil {
			first = min(first, t.since.Load())
		}
	}
	return max(first+slice, now+minSlice)
}

// give hands the token of cpu to t and lets its goroutine go.
func (s *Sched) give(t *Thread, cpu int) {
	s.run[cpu] = t
	s.switches++
	t.cpu.Store(int32(cpu))
	t.state.Store(stateRunning)
	t.park <- struct{}{}
}

// release takes t's token away and gives it to the first who may have it. Called with
// mu held.
func (s *Sched) release(t *Thread) {
	cpu := int(t.cpu.Load())
	s.run[cpu] = nil
	var prev *Thread
	for n := s.head; n != nil; prev, n = n, n.qnext {
		if n.affinity&(1<<(cpu&63)) == 0 {
			continue
		}
		if prev == nil {
			s.head = n.qnext
		} else {
			prev.qnext = n.qnext
		}
		if s.tail == n {
			s.tail = prev
		}
		n.qnext = nil
		s.queued--
		s.give(n, cpu)
		return
	}
}

// block parks t until one of waits is set in its flags. It returns at once if one is.
func (s *Sched) block(t *Thread, waits uint32) {
	t.chargeCPU()
	s.mu.Lock()
	t.waits = waits
	t.state.Store(stateBlocked)
	if t.flags.Load()&waits != 0 {
		t.state.Store(stateRunning)
		s.mu.Unlock()
		return
	}
	t.voluntary.Add(1)
	s.release(t)
	s.mu.Unlock()
	<-t.park
	t.since.Store(s.m.Nanotime())
	t.switched(false)
}

// yield lets those who wait run first.
func (s *Sched) yield(t *Thread) {
	s.mu.Lock()
	if s.head == nil && t.affinity&(1<<(uint(t.cpu.Load())&63)) != 0 {
		s.mu.Unlock()
		return
	}
	t.chargeCPU()
	t.involuntary.Add(1)
	s.release(t)
	s.ready(t)
	s.mu.Unlock()
	<-t.park
	t.since.Store(s.m.Nanotime())
	t.switched(true)
}

// exit takes a thread out of scheduling for good; no Interrupt of its Ctx comes after.
func (s *Sched) exit(t *Thread) {
	t.chargeCPU()
	s.mu.Lock()
	t.state.Store(stateDead)
	s.release(t)
	s.mu.Unlock()
}

// start makes a new thread's goroutine runnable.
func (s *Sched) start(t *Thread) {
	s.mu.Lock()
	s.ready(t)
	s.mu.Unlock()
}

// notify sets bits in t's flags and sees to it that t notices: a parked thread that
// waits for one of them is made ready, one in ring 3 is called out if the bits are the
// boundary's. It may be called from anywhere, dispatch context included.
//
// The order of the two atomics matters: bits first, then the state. block does it the
// other way round, so one of the two sees the other.
func (t *Thread) notify(bits uint32) {
	t.flags.Or(bits)
	switch t.state.Load() {
	case stateQueued, stateDead:
		return
	case stateRunning:
		if bits&boundaryWork == 0 {
			return
		}
	}
	s := &t.k.Sched
	s.mu.Lock()
	switch t.state.Load() {
	case stateBlocked:
		if t.flags.Load()&t.waits != 0 {
			s.ready(t)
		}
	case stateRunning:
		if bits&boundaryWork != 0 {
			s.m.Interrupt(t.Ctx)
		}
	}
	s.mu.Unlock()
}

// endSlice is the slice timer: whoever runs makes room for those who wait.
func (s *Sched) endSlice() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sliceArmed = false
	if s.head == nil {
		return
	}
	for _, t := range s.run {
		if t != nil {
			t.flags.Or(fPreempt)
			s.m.Interrupt(t.Ctx)
		}
	}
	s.sliceArmed = true
	s.timers.Arm(&s.sliceTimer, s.timers.Now()+slice)
}

// SetAffinity sets the CPUs the thread may run on and takes effect at its next
// boundary. The mask has been cut to existing CPUs and is not empty.
func (t *Thread) SetAffinity(mask uint64) {
	s := &t.k.Sched
	s.mu.Lock()
	t.affinity = mask
	s.mu.Unlock()
	t.notify(fPreempt)
}

// Affinity is the CPUs the thread may run on.
func (t *Thread) Affinity() uint64 {
	t.k.Sched.mu.Lock()
	defer t.k.Sched.mu.Unlock()
	return t.affinity
}

// CPU is the one whose token the thread holds or held last.
func (t *Thread) CPU() int { return int(t.cpu.Load()) }

// Yield is sched_yield.
func (t *Thread) Yield() { t.k.Sched.yield(t) }

// Resched asks for kernel goroutines to run once before the thread returns to the
// program: for calls that left work to one.
func (t *Thread) Resched() { t.flags.Or(fYield) }

// chargeCPU adds the time since the thread got its token to its CPU time.
func (t *Thread) chargeCPU() {
	now := t.k.M.Nanotime()
	n := now - t.since.Swap(now)
	t.cpuTime.Add(n)
	t.process.cpuTime.Add(n)
}
