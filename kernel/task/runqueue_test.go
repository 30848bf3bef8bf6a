package task

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"testing"
)

// cpuSim drives the queues as Sched does, on a clock of its own: threads that run and
// never block, or that sleep now and then.
type cpuSim struct {
	r    runQueues
	now  int64
	got  map[*entity]int64
	late map[*entity]int64 // longest wait
	from map[*entity]int64 // waits since
}

func newSim(cpus int) *cpuSim {
	s := &cpuSim{now: 1e9, got: map[*entity]int64{}, late: map[*entity]int64{}, from: map[*entity]int64{}}
	s.r.init(cpus)
	return s
}

func (s *cpuSim) thread(policy, prio, nice int32, mask uint64) *entity {
	e := &entity{mask: mask & (1<<len(s.r.q) - 1)}
	e.set(policy, prio, nice)
	s.add(e, born)
	return e
}

func (s *cpuSim) add(e *entity, how arrival) {
	s.from[e] = s.now
	q, free, preempt := s.r.add(e, how)
	if free {
		s.take(q, e)
	} else if preempt {
		s.yield(q)
	}
}

func (s *cpuSim) take(q *runQueue, e *entity) {
	s.r.take(q, e, s.now)
	s.ran(e)
}

func (s *cpuSim) ran(e *entity) {
	if from, ok := s.from[e]; ok {
		s.late[e] = max(s.late[e], s.now-from)
		delete(s.from, e)
	}
}

func (s *cpuSim) charge(q *runQueue) { s.got[q.curr] += s.r.charge(q, s.now) }

// yield is Sched.yield of q's thread.
func (s *cpuSim) yield(q *runQueue) {
	e := q.curr
	s.charge(q)
	s.from[e] = s.now
	if e.push == 0 && e.allowed(q.cpu) && s.r.free&e.mask == 0 {
		s.r.requeue(q, false)
	} else {
		to := e.push - 1
		s.r.leave(q)
		if n := s.r.next(q, s.now); n != nil {
			s.ran(n)
		}
		if to >= 0 && e.allowed(to) && s.r.free&e.mask == 0 {
			s.r.migrate(e, &s.r.q[to])
			s.r.enqueue(&s.r.q[to], e, false)
		} else {
			s.add(e, moved)
		}
		return
	}
	s.ran(s.r.next(q, s.now))
}

// sleep blocks q's thread.
func (s *cpuSim) sleep(q *runQueue) *entity {
	e := q.curr
	s.charge(q)
	s.r.leave(q)
	if n := s.r.next(q, s.now); n != nil {
		s.ran(n)
	}
	return e
}

// run passes time; each step looks at who is due, as the ticks do.
func (s *cpuSim) run(t *testing.T, d int64) {
	t.Helper()
	const step = 100_000
	for end := s.now + d; s.now < end; {
		s.now += step
		for i := range s.r.q {
			q := &s.r.q[i]
			if q.curr == nil || q.nr == 0 || s.now < q.due() {
				continue
			}
			s.charge(q)
			if len(s.r.q) > 1 && s.now-q.balanced >= balanceEvery {
				q.balanced = s.now
				switch e, to := s.r.balance(s.now); {
				case e == nil:
				case e.push != 0:
					s.yield(&s.r.q[e.cpu])
				default:
					s.r.shift(e, to)
				}
			}
			if q.over(s.now) {
				s.yield(q)
			}
		}
		s.check(t)
	}
	for i := range s.r.q {
		if q := &s.r.q[i]; q.curr != nil {
			s.charge(q)
		}
	}
}

// check holds the queues to their invariants.
func (s *cpuSim) check(t *testing.T) {
	t.Helper()
	nr := 0
	for i := range s.r.q {
		q := &s.r.q[i]
		if (q.curr == nil) != (s.r.free>>i&1 != 0) {
			t.Fatalf("CPU %d: holder %v, free mask %b", i, q.curr, s.r.free)
		}
		load, n := int64(0), 0
		if c := q.curr; c != nil {
			if c.queued || !c.allowed(q.cpu) {
				t.Fatalf("CPU %d runs %+v", i, c)
			}
			if !c.rt() {
				load += c.weight
			}
		}
		each := func(e *entity) {
			n++
			if !e.queued || e.cpu != q.cpu || s.r.free&e.mask != 0 {
				t.Fatalf("CPU %d: %+v waits, free CPUs %b", i, e, s.r.free)
			}
		}
		for j, e := range q.fair {
			each(e)
			load += e.weight
			if e.index != j || j > 0 && e.before(q.fair[(j-1)/2]) {
				t.Fatalf("CPU %d: the heap is not one at %d", i, j)
			}
		}
		for e := q.rt; e != nil; e = e.next {
			each(e)
			if e.next != nil && (e.next.prio > e.prio || e.next.prev != e) {
				t.Fatalf("CPU %d: the real-time list is out of order", i)
			}
		}
		if load != q.load || n != q.nr {
			t.Fatalf("CPU %d: load %d, counted %d; %d wait, counted %d", i, q.load, load, q.nr, n)
		}
		nr += n
	}
	if nr != s.r.nr {
		t.Fatalf("%d wait, counted %d", s.r.nr, nr)
	}
}

const sec = int64(1e9)

// near fails unless got is within percent of want.
func near(t *testing.T, what string, got, want int64, percent int64) {
	t.Helper()
	if d := max(got-want, want-got); d*100 > want*percent {
		t.Errorf("%s: %d ms, want %d ms", what, got/1e6, want/1e6)
	}
}

func TestWeightsShareOneCPU(t *testing.T) {
	s := newSim(1)
	a, b := s.thread(SchedOther, 0, 0, 1), s.thread(SchedOther, 0, 5, 1)
	s.run(t, 10e9)
	near(t, "nice 0 (1024)", s.got[a], sec*10*1024/1359, 2)
	near(t, "nice 5 (335)", s.got[b], sec*10*335/1359, 2)
	if w := max(s.late[a], s.late[b]); w > 15e6 {
		t.Errorf("one of two waited for %d ms", w/1e6)
	}
}

func TestNobodyStarves(t *testing.T) {
	s := newSim(2)
	var all []*entity
	for n := int32(-20); n < 20; n += 3 {
		all = append(all, s.thread(SchedOther, 0, n, 3))
	}
	idle := s.thread(SchedIdle, 0, 0, 3)
	s.run(t, 60e9)
	for i, e := range append(all, idle) {
		if s.got[e] == 0 {
			t.Errorf("thread %d (weight %d) never ran in a minute", i, e.weight)
		}
	}
}

func TestEqualThreadsTakeTurnsOnFewerCPUs(t *testing.T) {
	for _, c := range []struct{ cpus, threads int }{{2, 3}, {4, 5}, {4, 7}, {3, 3}} {
		t.Run(fmt.Sprint(c.threads, " on ", c.cpus), func(t *testing.T) {
			s := newSim(c.cpus)
			var all []*entity
			for range c.threads {
				all = append(all, s.thread(SchedOther, 0, 0, ^uint64(0)))
			}
			s.run(t, 20e9)
			for i, e := range all {
				near(t, fmt.Sprint("thread ", i), s.got[e], sec*20*int64(c.cpus)/int64(c.threads), 10)
			}
		})
	}
}

func TestAffinityHoldsAndIsFair(t *testing.T) {
	s := newSim(2)
	a, b := s.thread(SchedOther, 0, 0, 2), s.thread(SchedOther, 0, 5, 2)
	var on0 []*entity
	for range 6 {
		on0 = append(on0, s.thread(SchedOther, 0, 0, 1))
	}
	s.run(t, 10e9)
	near(t, "1024 of the second CPU", s.got[a], sec*10*1024/1359, 3)
	near(t, "335 of the second CPU", s.got[b], sec*10*335/1359, 3)
	for _, e := range on0 {
		near(t, "a sixth of the first CPU", s.got[e], sec*10/6, 3)
	}
	// A newcomer does not own the queue whose clock is behind another's.
	c := s.thread(SchedOther, 0, 0, 2)
	before := s.got[a]
	s.run(t, 2e9)
	near(t, "after a third came", s.got[a]-before, sec*2*1024/2383, 5)
	near(t, "the third", s.got[c], sec*2*1024/2383, 5)
}

func TestReadyThreadTakesItsLastCPUOrAnyFree(t *testing.T) {
	s := newSim(4)
	var es []*entity
	for i := range 4 {
		e := s.thread(SchedOther, 0, 0, 15)
		if int(e.cpu) != i {
			t.Fatalf("thread %d is on CPU %d", i, e.cpu)
		}
		es = append(es, e)
	}
	s.run(t, 1e6)
	s.sleep(&s.r.q[2])
	s.sleep(&s.r.q[1])
	s.add(es[2], woken)
	if es[2].cpu != 2 {
		t.Errorf("it left its free CPU for %d", es[2].cpu)
	}
	s.sleep(&s.r.q[3])
	e := s.thread(SchedOther, 0, 0, 1<<0|1<<3)
	if e.cpu != 3 || s.r.q[3].curr != e {
		t.Errorf("CPU 3 is free, it is on %d", e.cpu)
	}
	s.check(t)
}

func TestIdleCPUTakesWhoWaitsElsewhere(t *testing.T) {
	s := newSim(2)
	a, b := s.thread(SchedOther, 0, 0, 3), s.thread(SchedOther, 0, 0, 3)
	c, d := s.thread(SchedOther, 0, 0, 1), s.thread(SchedOther, 0, 0, 3)
	_ = a
	s.sleep(&s.r.q[b.cpu])
	if got := s.r.q[b.cpu].curr; got != d {
		t.Errorf("the free CPU runs %p, want %p (the other may not: %p)", got, d, c)
	}
	s.check(t)
}

func TestRealTimePreempts(t *testing.T) {
	s := newSim(1)
	hog := s.thread(SchedOther, 0, -20, 1)
	s.run(t, 1e6)
	low := s.thread(SchedFIFO, 10, 0, 1)
	if s.r.q[0].curr != low {
		t.Fatal("SCHED_FIFO did not pre-empt")
	}
	high := s.thread(SchedRR, 50, 0, 1)
	if s.r.q[0].curr != high {
		t.Fatal("the higher priority did not pre-empt")
	}
	same := s.thread(SchedRR, 50, 0, 1)
	s.run(t, 400e6)
	near(t, "one of two in turn", s.got[high], 200e6, 5)
	near(t, "the other", s.got[same], 200e6, 5)
	if s.got[low] != 0 {
		t.Errorf("the lower priority ran for %d ns", s.got[low])
	}
	s.run(t, 2600e6)
	// sched_rt_runtime_us: the rest of each second is the others'.
	near(t, "the fair one", s.got[hog], 1e6+150e6, 10)
	_ = low
}

func TestFIFORunsUntilItSleeps(t *testing.T) {
	s := newSim(1)
	a, b := s.thread(SchedFIFO, 7, 0, 1), s.thread(SchedFIFO, 7, 0, 1)
	s.run(t, 500e6)
	if s.got[a] != 500e6 || s.got[b] != 0 {
		t.Errorf("%d and %d", s.got[a], s.got[b])
	}
	if !s.r.pass(&s.r.q[0]) {
		t.Error("sched_yield sees nobody")
	}
	s.sleep(&s.r.q[0])
	if s.r.q[0].curr != b {
		t.Error("the second does not follow")
	}
}

func TestSleeperPreemptsHog(t *testing.T) {
	for _, policy := range []int32{SchedOther, SchedBatch, SchedIdle} {
		s := newSim(1)
		inter := s.thread(SchedOther, 0, 0, 1)
		s.sleep(&s.r.q[0])
		s.thread(policy, 0, 0, 1)
		var wait int64
		for range 200 {
			s.run(t, 5e6)
			delete(s.late, inter)
			s.add(inter, woken)
			s.run(t, 1e6)
			wait = max(wait, s.late[inter])
			for s.r.q[0].curr != inter {
				s.run(t, 1e5)
			}
			s.sleep(&s.r.q[0])
		}
		if wait > 400_000 {
			t.Errorf("policy %d: the woken thread waited for %d us", policy, wait/1000)
		}
	}
}

func TestBatchAndIdleDoNotPreempt(t *testing.T) {
	for _, policy := range []int32{SchedBatch, SchedIdle} {
		s := newSim(1)
		e := s.thread(policy, 0, 0, 1)
		s.run(t, 1e6)
		s.sleep(&s.r.q[0])
		hog := s.thread(SchedOther, 0, 0, 1)
		s.run(t, 50e6)
		s.add(e, woken)
		if s.r.q[0].curr != hog {
			t.Errorf("policy %d pre-empted at once", policy)
		}
	}
}

func TestYieldPasses(t *testing.T) {
	s := newSim(1)
	a, b := s.thread(SchedOther, 0, 0, 1), s.thread(SchedOther, 0, 0, 1)
	q := &s.r.q[0]
	for range 10 {
		was := q.curr
		if !s.r.pass(q) {
			t.Fatal("nobody to yield to")
		}
		s.yield(q)
		if q.curr == was {
			t.Fatal("sched_yield kept the CPU")
		}
	}
	_, _ = a, b
}

// Anything goes: the invariants hold, and everybody runs in the end.
func TestQueuesUnderRandomEvents(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 14))
	for round := range 10 {
		cpus := 1 + rng.IntN(5)
		s := newSim(cpus)
		all := uint64(1)<<cpus - 1
		var es, asleep []*entity
		policies := []int32{SchedOther, SchedOther, SchedBatch, SchedIdle, SchedFIFO, SchedRR}
		mask := func() uint64 {
			if m := rng.Uint64() & all; m != 0 {
				return m
			}
			return all
		}
		param := func() (int32, int32, int32) {
			p := policies[rng.IntN(len(policies))]
			if p == SchedFIFO || p == SchedRR {
				return p, 1 + rng.Int32N(99), 0
			}
			return p, 0, rng.Int32N(40) - 20
		}
		for range 2000 {
			q := &s.r.q[rng.IntN(cpus)]
			switch k := rng.IntN(12); {
			case k == 0 && len(es) < 40:
				p, prio, nice := param()
				es = append(es, s.thread(p, prio, nice, mask()))
			case k < 3 && q.curr != nil:
				asleep = append(asleep, s.sleep(q))
			case k < 5 && len(asleep) > 0:
				i := rng.IntN(len(asleep))
				s.add(asleep[i], woken)
				asleep = append(asleep[:i], asleep[i+1:]...)
			case k == 5 && q.curr != nil:
				if s.r.pass(q) {
					s.yield(q)
				}
			case k == 6 && len(es) > 0:
				s.affinity(es[rng.IntN(len(es))], mask())
			case k == 7 && len(es) > 0:
				s.policy(es[rng.IntN(len(es))], SchedParam{})
				p, prio, nice := param()
				s.policy(es[rng.IntN(len(es))], SchedParam{Policy: p, Priority: prio, Nice: nice})
			default:
				s.run(t, rng.Int64N(8e6))
			}
			s.check(t)
		}
		for _, e := range asleep {
			s.add(e, woken)
		}
		for _, e := range es {
			s.policy(e, SchedParam{Nice: rng.Int32N(20)})
			s.got[e] = 0
		}
		s.run(t, 60e9)
		for i, e := range es {
			if s.got[e] == 0 {
				t.Fatalf("round %d: thread %d of %d, weight %d, mask %b of %d CPUs, never ran in a minute", round, i, len(es), e.weight, e.mask, bits.OnesCount64(all))
			}
		}
	}
}

// affinity and policy are Thread.SetAffinity and SetSched.
func (s *cpuSim) affinity(e *entity, mask uint64) {
	e.mask = mask
	q := &s.r.q[e.cpu]
	switch {
	case e.queued:
		s.r.dequeue(e)
		s.add(e, moved)
	case q.curr == e && !e.allowed(e.cpu):
		s.yield(q)
	}
}

func (s *cpuSim) policy(e *entity, p SchedParam) {
	q := &s.r.q[e.cpu]
	switch {
	case e.queued:
		s.r.dequeue(e)
		s.r.change(e, p)
		s.add(e, woken)
	case q.curr == e:
		s.charge(q)
		s.r.change(e, p)
		if q.nr > 0 {
			s.yield(q)
		}
	default:
		s.r.change(e, p)
	}
}

// TestRenicedSleeperIsNotSentIntoTheFuture: a thread whose nice value changes after a sleep of
// any length is behind the others, by no more than a sleeper may be.
func TestRenicedSleeperIsNotSentIntoTheFuture(t *testing.T) {
	for slept := int64(1); slept < 1<<60; slept *= 3 {
		for _, from := range []int32{-20, 0, 19} {
			for _, to := range []int32{-20, 0, 19} {
				var r runQueues
				r.init(1)
				e := newEntity(nil, 1)
				e.set(SchedOther, 0, from)
				q := &r.q[0]
				q.min = slept // and e.v is 0
				r.change(&e, SchedParam{Policy: SchedOther, Nice: to})
				if ahead := e.v - q.min; ahead > 0 || ahead < -wakeCredit {
					t.Fatalf("asleep for %d, nice %d to %d: ahead by %d", slept, from, to, ahead)
				}
			}
		}
	}
}
