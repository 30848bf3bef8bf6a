package task

import (
	"fmt"
	"iter"
	"math/bits"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

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
	fPlace                      // the machine does not know yet where it must run
	fWork                       // somebody has work for its goroutine
	fBarrier                    // membarrier waits for it to pass here
	fSysExit                    // its tracer is to be told of the end of the system call
	fVictim                     // it is to end because of others, and is served no more

	// fEnd is what others end it by.
	fEnd = fKill | fVictim

	// boundaryWork is what sends a thread through exitToUser.
	boundaryWork = fSignal | fKill | fStop | fPreempt | fYield | fRseq | fSettle | fPlace | fWork | fBarrier | fSysExit
)

// States of a thread, written under Sched.mu, read without it.
const (
	stateBlocked int32 = iota // parked, waits for one of Thread.waits
	stateQueued               // would run, waits for a token
	stateRunning              // holds a token
	stateDead
)

// maxCPUs is how many CPUs programs run on: affinity masks are one word.
const maxCPUs = 64

// Sched hands out the right to run: one token a CPU. A thread holds one while it is in
// ring 3 or serves its own trap, and gives it back while it is parked, so that no
// more threads compete in the Go scheduler than there are CPUs and kernel goroutines
// (drivers, the network) are never behind a queue of programs. Who gets which token is
// runQueues' to say.
//
// Each CPU has a goroutine (work) that runs the holder of its token, and a thread is a
// coroutine of it: a switch from thread to thread is one or two direct switches of
// goroutines (leave), a fraction of what the Go scheduler takes to park one and find the
// other. mu is locked by the thread that leaves and unlocked when its successor is to be
// resumed, so nobody sees a thread that is ready and still on its way out. A thread that finds nobody to take
// over waits for its CPU's next token holder itself (cpu.idler), since it is likely to
// be that: a program of one thread costs no switch to the CPU's goroutine and back.
//
// A token's number is what programs see as the CPU. Which of the machine's CPUs runs
// the thread matters only if it may not run on all: then fPlace makes the boundary tell
// the machine.
type Sched struct {
	m      hal.Machine
	timers *timer.Queue

	mu   sync.Mutex
	rq   runQueues
	cpus []cpu
	all  uint64 // affinity mask of all

	withdraw hal.Withdrawer // nil: the machine is none
	idler    hal.Idler      // nil: the machine is none
	halter   *cpu           // whose idler waits in the machine, not on wake

	fibers   []*fiber // without a thread
	switches uint64
}

// cpu is what belongs to one token.
type cpu struct {
	s       *Sched
	q       *runQueue
	wake    chan struct{} // q.curr has been set
	started bool
	idler   *Thread     // waits on wake, on its own stack
	asleep  atomic.Bool // it waits in the machine, or is about to
	kicked  atomic.Bool // for the halter in place of a message on wake, who then is it no more
	tick    timer.Timer
	armed   int64 // when tick fires
	polled  int64 // when kernel goroutines last had a chance
}

func (s *Sched) init(m hal.Machine, q *timer.Queue) {
	s.m, s.timers = m, q
	s.idler, _ = m.(hal.Idler)
	s.withdraw, _ = m.(hal.Withdrawer)
	n := min(max(1, m.CPUs()), maxCPUs)
	s.rq.init(n)
	s.cpus, s.all = make([]cpu, n), ^uint64(0)>>(64-n)
	for i := range s.cpus {
		c := &s.cpus[i]
		c.s, c.q, c.wake, c.armed = s, &s.rq.q[i], make(chan struct{}, 1), hal.NoDeadline
		c.tick.Init(c.onTick)
	}
}

// NumCPU is the number of tokens.
func (s *Sched) NumCPU() int { return len(s.cpus) }

// Load is the threads running and waiting to run, and the switches so far.
func (s *Sched) Load() (running, queued int, switches uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.cpus) - bits.OnesCount64(s.rq.free), s.rq.nr, s.switches
}

// AllCPUs is the affinity mask of every CPU of the machine.
func (s *Sched) AllCPUs() uint64 { return s.all }

// ready makes t run or wait for a token. Called with mu held; t holds none.
func (s *Sched) ready(t *Thread, how arrival) {
	if t.idling {
		s.readyIdler(t)
		return
	}
	q, free, preempt := s.rq.add(&t.e, how)
	c := &s.cpus[q.cpu]
	if free {
		now := s.m.Nanotime()
		s.rq.take(q, &t.e, now)
		s.run(t, now)
		c.kick()
		return
	}
	t.state.Store(stateQueued)
	if preempt {
		s.preempt(q)
		return // the switch arms
	}
	c.arm()
}

// readyIdler makes a thread ready that waits on its stack for its CPU to be used: it goes
// on if that is still free and it may, or moves once it has left it.
func (s *Sched) readyIdler(t *Thread) {
	c := &s.cpus[t.e.cpu]
	if c.q.curr == nil && t.e.allowed(c.q.cpu) {
		if d := c.q.min - wakeCredit; t.e.v-d < 0 {
			t.e.v = d
		}
		now := s.m.Nanotime()
		s.rq.take(c.q, &t.e, now)
		t.idling, c.idler = false, nil
		s.run(t, now)
	} else {
		t.state.Store(stateQueued)
	}
	c.kick()
}

// run notes that t has a token.
func (s *Sched) run(t *Thread, now int64) {
	t.cpu.Store(t.e.cpu)
	if t.e.mask != s.all {
		t.flags.Or(fPlace)
	}
	t.base.Store(t.cpuTime.Load() - now)
	t.state.Store(stateRunning)
}

// kick lets whoever waits for the CPU look at it.
func (c *cpu) kick() {
	if !c.started {
		c.started = true
		go c.work()
		return
	}
	if s := c.s; s.halter == c {
		s.halter = nil
		c.kicked.Store(true)
		if c.asleep.Load() {
			s.idler.WakeIdle()
		}
		return
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// work is the CPU's goroutine: it runs the token's holder, which comes back with mu
// locked and its successor chosen.
func (c *cpu) work() {
	s := c.s
	s.mu.Lock()
	for {
		e := c.q.curr
		if e == nil {
			s.mu.Unlock()
			<-c.wake
			s.mu.Lock()
			continue
		}
		c.resume(e)
		if t := c.idler; t != nil {
			c.idlerGone(t)
		}
	}
}

// resume runs the token's holder until it leaves. Called with mu held, which is so again
// afterwards.
func (c *cpu) resume(e *entity) {
	// Threads that hand the CPU to each other never pass through the Go scheduler.
	poll := e.start-c.polled > pollEvery
	if poll {
		c.polled = e.start
	}
	c.s.mu.Unlock()
	if poll {
		runtime.Gosched()
	}
	e.t.fiber.resume()
}

// idlerGone ends the idling of a thread that has left the CPU. Called with mu held.
func (c *cpu) idlerGone(t *Thread) {
	c.idler, t.idling = nil, false
	if t.state.Load() == stateQueued {
		c.s.ready(t, woken)
	}
}

// pollEvery is how long kernel goroutines wait at most behind threads that switch all
// the time, in nanoseconds.
const pollEvery = 1_000_000

// switchTo chooses who gets the CPU that c's thread has just left. False: nobody.
// Called with mu held.
func (s *Sched) switchTo(c *cpu, now int64) bool {
	n := s.rq.next(c.q, now)
	if n == nil {
		return false
	}
	s.switches++
	s.run(n.t, now)
	if c.q.nr > 0 {
		c.arm()
	}
	return true
}

// charge adds the time since the last charge to the CPU time of q's thread. Called with
// mu held.
func (s *Sched) charge(q *runQueue, now int64) {
	t := q.curr.t
	if d := s.rq.charge(q, now); d > 0 {
		t.cpuTime.Add(d)
		t.process.cpuTime.Add(d)
	}
}

// settle charges p's threads for what they have run up to now, so that CPU times are whole and
// never run back: what is charged and what is not cannot be read at once without mu.
func (s *Sched) settle(p *Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.m.Nanotime()
	for i := range s.cpus {
		q := s.cpus[i].q
		if e := q.curr; e != nil && e.t.process == p && e.t.state.Load() == stateRunning {
			s.charge(q, now)
		}
	}
}

// block parks t until one of waits is set in its flags. It returns at once if one is.
func (s *Sched) block(t *Thread, waits uint32) {
	s.mu.Lock()
	t.waits = waits
	t.state.Store(stateBlocked)
	f := t.flags.Load()
	if f&waits != 0 {
		t.state.Store(stateRunning)
		s.mu.Unlock()
		return
	}
	if f&fPreempt != 0 {
		t.flags.And(^fPreempt) // room is made as it is
	}
	t.voluntary.Add(1)
	c := &s.cpus[t.e.cpu]
	now := s.m.Nanotime()
	s.charge(c.q, now)
	s.rq.leave(c.q)
	if s.switchTo(c, now) {
		t.leave()
	} else {
		s.idle(c, t)
	}
	t.switched(false)
}

// idle waits with a blocked thread's goroutine for the next holder of its CPU's token.
// Called with mu held.
func (s *Sched) idle(c *cpu, t *Thread) {
	c.idler, t.idling = t, true
	if s.idler == nil || s.halter != nil || s.rq.free != s.all {
		s.mu.Unlock()
		<-c.wake
	} else {
		s.halter = c
		s.mu.Unlock()
		if !s.halt(c) {
			<-c.wake
		}
	}
	if t.state.Load() == stateRunning {
		return
	}
	s.mu.Lock()
	if t.idling {
		t.leave()
		return
	}
	s.mu.Unlock() // it got the token after all
}

// halt waits in the machine, as long as it goes, for a message to c, the halter: the last
// thread to block, all CPUs being free, serves interrupts itself. False: none came, and it
// will come on wake. The next halter's messages may come while this one is on its way out:
// so each CPU has its own, and who is the halter no more without having left has been kicked.
func (s *Sched) halt(c *cpu) bool {
	for {
		r := hal.IdleLook
		c.asleep.Store(true)
		if !c.kicked.Load() {
			r = s.idler.Idle()
		}
		c.asleep.Store(false)
		if r == hal.IdleLook {
			s.m.Dispatch()
		}
		// What an interrupt has woken besides runs first: it is short.
		if r == hal.IdleBusy || s.idler.Others() {
			runtime.Gosched()
		}
		if c.kicked.Load() {
			break
		}
		s.mu.Lock()
		if s.halter != c {
			s.mu.Unlock()
			break
		}
		if r == hal.IdlePark || s.rq.free != s.all {
			s.halter = nil
			s.mu.Unlock()
			return false
		}
		s.mu.Unlock()
	}
	c.kicked.Store(false) // the next one comes when it is the halter again
	return true
}

// yield lets those who come before t run first; behind: t gives way to its equals too.
func (s *Sched) yield(t *Thread, behind bool) {
	s.mu.Lock()
	e := &t.e
	c := &s.cpus[e.cpu]
	q := c.q
	if q.nr == 0 && e.push == 0 && e.allowed(q.cpu) {
		s.mu.Unlock()
		return
	}
	// It goes elsewhere if it must, or if it need not wait there.
	stay := e.allowed(q.cpu) && e.push == 0 && s.rq.free&e.mask == 0
	now := s.m.Nanotime()
	s.charge(q, now)
	if stay {
		if behind && !s.rq.pass(q) {
			s.mu.Unlock()
			return
		}
		if behind || !s.rq.exchange(q, now) {
			s.rq.requeue(q, behind)
			s.rq.next(q, now)
		}
		if q.curr == e {
			c.arm()
			s.mu.Unlock()
			return
		}
		s.switches++
		t.state.Store(stateQueued)
		s.run(q.curr.t, now)
		c.arm()
	} else {
		to := e.push - 1
		s.rq.leave(q)
		s.switchTo(c, now)
		s.move(t, to)
	}
	t.involuntary.Add(1)
	t.leave()
	t.switched(true)
}

// move makes a thread that has left its CPU ready elsewhere: on CPU to, where balance
// wants it, if that is one and there is none free. Called with mu held.
func (s *Sched) move(t *Thread, to int32) {
	e := &t.e
	if to < 0 || !e.allowed(to) || s.rq.free&e.mask != 0 {
		s.ready(t, moved)
		return
	}
	q := &s.rq.q[to]
	s.rq.migrate(e, q)
	s.rq.enqueue(q, e, false)
	t.state.Store(stateQueued)
	s.cpus[to].arm()
}

// exit takes a thread out of scheduling for good; no Interrupt of its Ctx comes after.
// It keeps its token until its goroutine ends (done).
func (s *Sched) exit(t *Thread) {
	s.mu.Lock()
	s.charge(s.cpus[t.e.cpu].q, s.m.Nanotime())
	t.state.Store(stateDead)
	s.mu.Unlock()
}

// fiber is the coroutine that a thread lives on. It outlives the thread and serves
// another: that saves making one, and growing its stack again.
type fiber struct {
	t      *Thread
	resume func() (struct{}, bool) // runs t until it leaves
	pass   func(struct{}) bool     // for t: back to who resumed it
}

// maxFibers is how many are kept without a thread.
const maxFibers = 16

// start makes a new thread run.
func (s *Sched) start(t *Thread) {
	t.state.Store(stateBlocked)
	s.mu.Lock()
	if n := len(s.fibers) - 1; n >= 0 {
		t.fiber = s.fibers[n]
		s.fibers = s.fibers[:n]
	} else {
		t.fiber = s.newFiber()
	}
	t.fiber.t = t
	s.ready(t, born)
	s.mu.Unlock()
}

func (s *Sched) newFiber() *fiber {
	f := &fiber{}
	f.resume, _ = iter.Pull(func(pass func(struct{}) bool) {
		f.pass = pass
		defer f.crashed()
		for more := true; more; {
			f.t.run()
			if more = s.done(f); more {
				f.pass(struct{}{})
			}
		}
	})
	return f
}

// done passes on the token of a thread that has exited, and says whether its fiber is to
// wait for another; mu stays locked.
func (s *Sched) done(f *fiber) bool {
	s.mu.Lock()
	c := &s.cpus[f.t.e.cpu]
	now := s.m.Nanotime()
	s.rq.charge(c.q, now)
	s.rq.leave(c.q)
	s.switchTo(c, now)
	f.t = nil
	if len(s.fibers) >= maxFibers {
		return false
	}
	s.fibers = append(s.fibers, f)
	return true
}

// leave switches to who has the CPU now; it returns when t has a token again, without mu,
// which is held before. With several CPUs that goes through the CPU's goroutine, since t
// may come to run on another. With one, t resumes the other thread itself, and is under
// it until that leaves, and so on: a thread that is under others comes to run when those
// above have left. That takes one switch of goroutines for most of the switches there
// are, and no more than two on average.
func (t *Thread) leave() {
	s := &t.k.Sched
	if len(s.cpus) > 1 {
		t.fiber.pass(struct{}{})
		return
	}
	c := &s.cpus[0]
	if t.idling {
		c.idlerGone(t)
	}
	for {
		e := c.q.curr
		if e == &t.e {
			s.mu.Unlock()
			return
		}
		if e == nil || e.t.under {
			t.fiber.pass(struct{}{})
			return
		}
		t.under = true
		c.resume(e)
		t.under = false
	}
}

// crashed turns a panic of the kernel in a thread, which the CPU's goroutine would repeat
// with its own stack, into one that shows where it was.
func (f *fiber) crashed() {
	if r := recover(); r != nil {
		who := ""
		if t := f.t; t != nil {
			who = fmt.Sprintf(" in thread %d (%s)", t.TID(), t.Name())
		}
		text := fmt.Sprintf("%v%s\n%s", r, who, debug.Stack())
		go panic(text)
		select {}
	}
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
			s.ready(t, woken)
		}
	case stateRunning:
		if bits&boundaryWork != 0 {
			s.m.Interrupt(t.Ctx)
		}
	}
	s.mu.Unlock()
}

// preempt asks q's thread to make room. Called with mu held.
func (s *Sched) preempt(q *runQueue) {
	t := q.curr.t
	if t.state.Load() != stateRunning {
		return // it ends
	}
	t.flags.Or(fPreempt)
	s.m.Interrupt(t.Ctx)
}

// arm sees to it that the CPU's thread is looked at when it is due. Called with mu held.
func (c *cpu) arm() {
	if d := c.q.due(); d < c.armed {
		c.armed = d
		c.s.timers.Arm(&c.tick, d)
	}
}

// onTick is the end of a slice: whoever runs makes room for those who wait if it is
// time.
func (c *cpu) onTick() {
	s, q := c.s, c.q
	s.mu.Lock()
	defer s.mu.Unlock()
	c.armed = hal.NoDeadline
	if q.curr == nil || q.nr == 0 {
		return
	}
	now := s.m.Nanotime()
	s.charge(q, now)
	if len(s.cpus) > 1 && now-q.balanced >= balanceEvery {
		q.balanced = now
		s.balance(now)
	}
	if q.over(now) {
		s.preempt(q)
		return // the switch arms
	}
	c.arm()
}

// balance moves a thread from a busy CPU to another. Called with mu held.
func (s *Sched) balance(now int64) {
	e, to := s.rq.balance(now)
	switch {
	case e == nil:
	case e.push != 0:
		s.preempt(&s.rq.q[e.cpu])
	default:
		s.rq.shift(e, to)
		s.cpus[to.cpu].arm()
	}
}

// SetAffinity sets the CPUs the thread may run on and takes effect at its next
// boundary. The mask has been cut to existing CPUs and is not empty.
func (t *Thread) SetAffinity(mask uint64) {
	s := &t.k.Sched
	s.mu.Lock()
	e := &t.e
	e.mask = mask
	if e.queued {
		s.rq.dequeue(e)
		s.ready(t, moved)
	}
	work := fPlace
	if !e.allowed(e.cpu) {
		work |= fPreempt
	}
	s.mu.Unlock()
	t.notify(work)
}

// placed tells the machine where the thread must run, if anywhere.
func (t *Thread) placed() {
	t.flags.And(^fPlace)
	s := &t.k.Sched
	s.mu.Lock()
	cpu := -1
	if t.e.mask != s.all {
		cpu = int(t.e.cpu)
	}
	s.mu.Unlock()
	s.m.SetCPU(t.Ctx, cpu)
}

// Affinity is the CPUs the thread may run on.
func (t *Thread) Affinity() uint64 {
	t.k.Sched.mu.Lock()
	defer t.k.Sched.mu.Unlock()
	return t.e.mask
}

// CPU is the one whose token the thread holds or held last.
func (t *Thread) CPU() int { return int(t.cpu.Load()) }

// Yield is sched_yield.
func (t *Thread) Yield() { t.k.Sched.yield(t, true) }

// Rest lets others run whose turn it is, in the middle of a call that takes long, and says whether
// the call is to come to its end: a signal waits.
func (t *Thread) Rest() bool {
	if t.flags.Load()&fPreempt != 0 {
		t.flags.And(^fPreempt)
		t.k.Sched.yield(t, false)
	}
	return t.SignalPending()
}

// Resched asks for kernel goroutines to run once before the thread returns to the
// program: for calls that left work to one.
func (t *Thread) Resched() { t.flags.Or(fYield) }

// SchedParam is what sched_setattr sets.
type SchedParam struct {
	Policy, Priority, Nice int32
	ResetOnFork            bool
}

// SchedParam is how the thread is scheduled.
func (t *Thread) SchedParam() SchedParam {
	s := &t.k.Sched
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &t.e
	return SchedParam{e.policy, e.prio, e.nice, e.reset}
}

// SetSched lets f change how the thread is scheduled. The values must go together: a
// priority of 1 to 99 with SCHED_FIFO and SCHED_RR, else 0, and a nice value of -20 to
// 19. f runs under the scheduler's lock.
func (t *Thread) SetSched(f func(p *SchedParam)) {
	s := &t.k.Sched
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &t.e
	old := SchedParam{e.policy, e.prio, e.nice, e.reset}
	p := old
	f(&p)
	t.rtprio.Store(p.Priority)
	if e.reset = p.ResetOnFork; p.Policy == old.Policy && p.Priority == old.Priority && p.Nice == old.Nice {
		return
	}
	c := &s.cpus[e.cpu]
	switch {
	case e.queued:
		s.rq.dequeue(e)
		s.rq.change(e, p)
		how := woken
		if p.Priority > 0 && p.Priority < old.Priority {
			how = lowered
		}
		s.ready(t, how)
	case c.q.curr == e:
		s.charge(c.q, s.m.Nanotime())
		s.rq.change(e, p)
		if c.q.nr > 0 {
			s.preempt(c.q) // yield finds out whether it is still first
		}
	default:
		s.rq.change(e, p)
	}
}

// inherit gives a new thread its parent's scheduling, or the default where that asks for
// it (SCHED_RESET_ON_FORK).
func (t *Thread) inherit(parent *Thread) {
	s := &t.k.Sched
	s.mu.Lock()
	p := &parent.e
	t.e.mask, t.e.cpu, t.e.v = p.mask, p.cpu, p.v
	switch {
	case !p.reset:
		t.e.set(p.policy, p.prio, p.nice)
	case p.rt():
		t.e.set(SchedOther, 0, 0)
	default:
		t.e.set(p.policy, 0, max(0, p.nice))
	}
	t.rtprio.Store(t.e.prio)
	s.mu.Unlock()
}
