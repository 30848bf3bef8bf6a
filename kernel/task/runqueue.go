package task

import (
	"math/bits"

	"kiln/kernel/hal"
)

// The policy of the scheduler, without locks, clocks or goroutines: who runs where,
// and until when. Sched calls it with its mutex held and the time.
//
// Each CPU has a queue. Threads of the real-time policies (SCHED_FIFO, SCHED_RR) run
// first, in order of priority. The others share what is left by weight, as Linux's CFS
// does it: each has a virtual runtime that grows the slower the heavier it is, and the
// one that is furthest behind runs next. A virtual runtime is on the clock of one
// queue (runQueue.min) and is carried over when its thread moves to another.
//
// No thread waits beside a free CPU that it may run on: a thread that becomes ready
// takes one, and a CPU that runs out of threads takes one that waits elsewhere. What
// is left of imbalance, balance moves around.

// Scheduling policies (uapi/linux/sched.h).
const (
	SchedOther    int32 = 0
	SchedFIFO     int32 = 1
	SchedRR       int32 = 2
	SchedBatch    int32 = 3
	SchedIdle     int32 = 5
	SchedDeadline int32 = 6
)

// Times in nanoseconds.
const (
	// schedSlice is how long a thread runs while others of its kind wait.
	schedSlice = 3_000_000
	// wakeCredit is how far behind a thread that has slept may be at most: so much it
	// runs ahead of the others.
	wakeCredit = 3_000_000
	// wakeGran is how much further behind a woken thread must be to pre-empt.
	wakeGran = 1_000_000
	// minRun is what a thread gets before a woken one that is only a little further
	// behind pre-empts it.
	minRun = 300_000
	// RRInterval is Linux's RR_TIMESLICE, sched_rr_get_interval's answer.
	RRInterval = 100_000_000
	// rtPeriod and rtRuntime are Linux's sched_rt_period_us and sched_rt_runtime_us: so
	// much of a period real-time threads get while others wait.
	rtPeriod  = 1_000_000_000
	rtRuntime = 950_000_000
	// balanceEvery is how often a CPU that has threads waiting looks at the others.
	balanceEvery = 12_000_000
)

// nice0 is the weight of nice 0; idleWeight that of SCHED_IDLE.
const (
	nice0      = 1024
	idleWeight = 3
)

// niceWeights are the weights of nice -20 to 19: one step is a factor of 1.25, a tenth
// of the CPU for one of two (sched(7); the values are Linux's).
var niceWeights = [40]int64{
	88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916,
	9548, 7620, 6100, 4904, 3906, 3121, 2501, 1991, 1586, 1277,
	1024, 820, 655, 526, 423, 335, 272, 215, 172, 137,
	110, 87, 70, 56, 45, 36, 29, 23, 18, 15,
}

// entity is what the queues know of a thread.
type entity struct {
	t      *Thread // whose it is; the queues do not look
	mask   uint64  // CPUs it may run on
	policy int32
	prio   int32 // 1-99 of a real-time policy, else 0
	nice   int32
	reset  bool // SCHED_RESET_ON_FORK
	weight int64

	v      int64 // virtual runtime, on the clock of queue cpu
	cpu    int32 // where it runs, waits or ran last
	queued bool
	rest   int64 // SCHED_RR: what is left of its slice
	start  int64 // when it got the CPU
	since  int64 // up to when its time is charged
	moved  int64 // when balance last moved it
	push   int32 // balance wants it there at its next switch, plus 1

	index      int // in runQueue.fair
	next, prev *entity
}

func newEntity(t *Thread, mask uint64) entity {
	return entity{t: t, mask: mask, weight: nice0}
}

// set gives e a policy; it is not queued.
func (e *entity) set(policy, prio, nice int32) {
	e.policy, e.prio, e.nice = policy, prio, nice
	e.rest = RRInterval
	e.weight = niceWeights[nice+20]
	if policy == SchedIdle {
		e.weight = idleWeight
	}
}

// change is set for a thread that has run: what it is ahead or behind stays the same
// in time, and a real-time thread starts level with the others.
func (r *runQueues) change(e *entity, p SchedParam) {
	q := &r.q[e.cpu]
	running := q.curr == e
	ahead, weight := e.v-q.min, e.weight
	if e.rt() {
		ahead = 0
	} else if running {
		q.load -= weight
	}
	e.set(p.Policy, p.Priority, p.Nice)
	// One that has slept for days is as far behind as any sleeper; the rest would overflow.
	ahead = max(ahead, -scale(wakeCredit, e.weight, weight))
	e.v = q.min + scale(ahead, weight, e.weight)
	if running && !e.rt() {
		q.load += e.weight
	}
}

func (e *entity) rt() bool               { return e.prio > 0 }
func (e *entity) allowed(cpu int32) bool { return e.mask>>uint(cpu)&1 != 0 }
func (e *entity) before(o *entity) bool  { return e.v-o.v < 0 }
func (e *entity) virtual(ns int64) int64 { return scale(ns, nice0, e.weight) }
func (e *entity) realTime(v int64) int64 { return scale(v, e.weight, nice0) }
func scale(n, mul, div int64) int64 {
	if mul == div {
		return n
	}
	return n * mul / div
}

// runQueue is one CPU's.
type runQueue struct {
	cpu  int32
	curr *entity   // who has the CPU; nil: it is free
	fair []*entity // waiting, a heap by v
	rt   *entity   // waiting, a list by priority
	nr   int       // waiting
	load int64     // weights of fair, and of curr if it is one
	min  int64     // the clock: never back, not ahead of who is furthest behind

	check           int64 // when a woken thread may pre-empt curr
	rtStart, rtUsed int64 // real-time threads' share of the period
	balanced        int64
}

// runQueues are those of all CPUs.
type runQueues struct {
	q    []runQueue
	free uint64 // CPUs without a thread
	nr   int    // waiting on all
	turn int    // where balance looks first
}

func (r *runQueues) init(cpus int) {
	r.q = make([]runQueue, cpus)
	for i := range r.q {
		r.q[i].cpu = int32(i)
		r.q[i].check = hal.NoDeadline
	}
	r.free = ^uint64(0) >> (64 - cpus)
}

// arrival says how a thread became ready.
type arrival uint8

const (
	woken   arrival = iota // it slept
	born                   // it is new
	moved                  // it was pre-empted or had to leave its CPU
	lowered                // it waited with a higher priority: before its equals (POSIX, sched(7))
)

// place chooses the queue for e: the CPU it was on last if that is free, any free one,
// else the one where it has least before it.
func (r *runQueues) place(e *entity) *runQueue {
	if f := r.free & e.mask; f != 0 {
		if f>>uint(e.cpu)&1 == 0 {
			above := f &^ (1<<uint(e.cpu) - 1)
			if above == 0 {
				above = f
			}
			return &r.q[bits.TrailingZeros64(above)]
		}
		return &r.q[e.cpu]
	}
	if len(r.q) == 1 {
		return &r.q[0]
	}
	var best *runQueue
	least := int64(0)
	for i := range r.q {
		q := &r.q[(int(e.cpu)+i)%len(r.q)]
		if !e.allowed(q.cpu) {
			continue
		}
		if c := q.cost(e); best == nil || c < least {
			best, least = q, c
		}
	}
	return best
}

// cost says how much stands before e on a busy CPU.
func (q *runQueue) cost(e *entity) int64 {
	c := q.curr
	switch {
	case e.rt():
		return int64(c.prio)<<32 + int64(q.nr)
	case c.rt():
		return 1<<40 + q.load
	}
	return q.load
}

// add makes e ready. free: q's CPU is, and the caller gives it to e (take). Else e waits,
// due(q) may have changed, and preempt says that q's thread is to make room at once.
func (r *runQueues) add(e *entity, how arrival) (q *runQueue, free, preempt bool) {
	q = r.place(e)
	r.migrate(e, q)
	switch {
	case e.rt():
	case how == born:
		if d := q.min + schedSlice; e.v-d < 0 {
			e.v = d
		}
	case how == woken, how == lowered:
		if d := q.min - wakeCredit; e.v-d < 0 || e.v-q.min > 1<<62 {
			e.v = d
		}
	}
	if q.curr == nil {
		return q, true, false
	}
	r.enqueue(q, e, how == lowered)
	return q, false, how != moved && q.preempts(e)
}

// migrate carries e's virtual runtime over to the clock of q.
func (r *runQueues) migrate(e *entity, q *runQueue) {
	if e.cpu != q.cpu {
		e.v += q.min - r.q[e.cpu].min
		e.cpu = q.cpu
	}
}

// take gives q's free CPU to e.
func (r *runQueues) take(q *runQueue, e *entity, now int64) {
	q.curr = e
	r.free &^= 1 << uint(q.cpu)
	e.start, e.since = now, now
	q.check = hal.NoDeadline
	if !e.rt() {
		q.load += e.weight
	}
}

// preempts says whether e, just queued, is to have the CPU at once, and notes when it
// may have it else.
func (q *runQueue) preempts(e *entity) bool {
	c := q.curr
	switch {
	case e.rt():
		return e.prio > c.prio && !(c.prio == 0 && q.throttled())
	case c.rt():
		return false
	case c.policy == SchedIdle:
		return e.policy != SchedIdle
	case e.policy == SchedIdle || e.policy == SchedBatch:
		return false
	}
	lead := e.v + e.virtual(wakeGran) - c.v // of c over e's time
	if lead < 0 {
		return true
	}
	if lead < schedSlice {
		q.check = min(q.check, max(c.since+c.realTime(lead)+1, c.start+minRun))
	}
	return false
}

// charge accounts curr's time up to now and returns what was not charged yet.
func (r *runQueues) charge(q *runQueue, now int64) int64 {
	e := q.curr
	d := now - e.since
	if d <= 0 {
		return 0
	}
	e.since = now
	if e.rt() {
		if now-q.rtStart >= rtPeriod {
			q.rtStart, q.rtUsed = now-d, 0
		}
		q.rtUsed += d
		if e.rest -= d; e.rest <= 0 && (q.rt == nil || q.rt.prio != e.prio) {
			e.rest = RRInterval
		}
		return d
	}
	e.v += e.virtual(d)
	low := e.v
	if len(q.fair) > 0 && q.fair[0].v-low < 0 {
		low = q.fair[0].v
	}
	if low-q.min > 0 {
		q.min = low
	}
	return d
}

// throttled says that real-time threads have used up their share of the period. It is
// as of the last charge.
func (q *runQueue) throttled() bool { return q.rtUsed >= rtRuntime }

// leave takes the CPU from curr, who blocks or ends.
func (r *runQueues) leave(q *runQueue) {
	e := q.curr
	if !e.rt() {
		q.load -= e.weight
	}
	e.push = 0
	q.curr = nil
	r.free |= 1 << uint(q.cpu)
}

// requeue makes curr wait for the CPU it has: behind its equals, or before them if it
// was pre-empted.
func (r *runQueues) requeue(q *runQueue, behind bool) {
	e := q.curr
	if e.rt() && e.rest <= 0 {
		e.rest = RRInterval
		behind = behind || e.policy == SchedRR
	}
	r.leave(q)
	r.enqueue(q, e, !behind)
}

// exchange is requeue, of a curr that was pre-empted, and next in the usual case: an
// ordinary thread takes the place of one that is not behind it. False: nothing was done.
func (r *runQueues) exchange(q *runQueue, now int64) bool {
	e := q.curr
	if e.rt() || q.rt != nil || len(q.fair) == 0 || e.before(q.fair[0]) {
		return false
	}
	f := q.fair[0]
	f.queued, e.queued, e.push = false, true, 0
	if len(q.fair) == 1 {
		q.fair[0], e.index = e, 0
	} else {
		q.down(0, e)
	}
	q.curr = f
	f.start, f.since = now, now
	q.check = hal.NoDeadline
	return true
}

// next gives the free CPU to who comes next: of its own queue, or of another's. nil:
// there is nobody.
func (r *runQueues) next(q *runQueue, now int64) *entity {
	if q.rtUsed > 0 && now-q.rtStart >= rtPeriod {
		q.rtStart, q.rtUsed = now, 0
	}
	var e *entity
	switch {
	case q.rt != nil && !(q.throttled() && len(q.fair) > 0):
		e = q.rt
	case len(q.fair) > 0:
		e = q.fair[0]
	case r.nr > 0:
		if e = r.steal(q); e == nil {
			return nil
		}
		r.dequeue(e)
		r.migrate(e, q)
		r.take(q, e, now)
		return e
	default:
		return nil
	}
	r.dequeue(e)
	r.take(q, e, now)
	return e
}

// steal finds a thread that waits elsewhere and may run here.
func (r *runQueues) steal(q *runQueue) (best *entity) {
	for i := 1; i < len(r.q); i++ {
		o := &r.q[(int(q.cpu)+i)%len(r.q)]
		for e := o.rt; e != nil; e = e.next {
			if e.allowed(q.cpu) {
				if best == nil || e.prio > best.prio {
					best = e
				}
				break
			}
		}
		if best != nil && best.rt() {
			continue
		}
		if e := o.first(q.cpu); e != nil && (best == nil || e.v-o.min < best.v-r.q[best.cpu].min) {
			best = e
		}
	}
	return best
}

// first is the thread furthest behind that may run on cpu.
func (q *runQueue) first(cpu int32) (best *entity) {
	for i, e := range q.fair {
		if e.allowed(cpu) && (best == nil || e.before(best)) {
			if best = e; i == 0 {
				break
			}
		}
	}
	return best
}

// due is when curr is to be looked at again because others wait.
func (q *runQueue) due() int64 {
	c := q.curr
	if c == nil || q.nr == 0 {
		return hal.NoDeadline
	}
	if c.rt() {
		d := hal.NoDeadline
		if len(q.fair) > 0 {
			d = c.since + max(0, rtRuntime-q.rtUsed)
			if now := c.since; now-q.rtStart >= rtPeriod {
				d = now + rtRuntime
			}
		}
		if c.policy == SchedRR && q.rt != nil && q.rt.prio == c.prio {
			d = min(d, c.since+max(0, c.rest))
		}
		return d
	}
	d := hal.NoDeadline
	if len(q.fair) > 0 {
		d = c.start + schedSlice
		if ahead := q.fair[0].v - c.v; ahead > 0 {
			d = max(d, c.since+c.realTime(ahead)+1)
		}
	}
	if q.rt != nil { // waits for the end of the period
		d = min(d, q.rtStart+rtPeriod)
	}
	return min(d, q.check)
}

// over says whether curr, charged up to now, is to make room.
func (q *runQueue) over(now int64) bool {
	c := q.curr
	if c == nil || q.nr == 0 {
		return false
	}
	if c.rt() {
		return q.rt != nil && (q.rt.prio > c.prio || q.rt.prio == c.prio && c.policy == SchedRR && c.rest <= 0) ||
			len(q.fair) > 0 && q.throttled()
	}
	if q.rt != nil && (!q.throttled() || now-q.rtStart >= rtPeriod) {
		return true
	}
	if len(q.fair) == 0 {
		return false
	}
	f := q.fair[0]
	if now-c.start >= schedSlice && f.v-c.v <= 0 {
		return true
	}
	if now >= q.check {
		q.check = hal.NoDeadline
		return f.v+f.virtual(wakeGran)-c.v <= 0
	}
	return false
}

// pass is sched_yield: curr goes behind its equals, if there are any who wait.
func (r *runQueues) pass(q *runQueue) bool {
	c := q.curr
	if c.rt() {
		return q.rt != nil && q.rt.prio >= c.prio
	}
	if q.rt != nil && !q.throttled() {
		return true
	}
	if len(q.fair) == 0 {
		return false
	}
	f := q.fair[0]
	if f.policy == SchedIdle && c.policy != SchedIdle {
		return false
	}
	if c.v-f.v <= 0 {
		c.v = f.v + 1
	}
	return true
}

// balance evens out what placing and stealing leave: of two CPUs with a different
// load one thread goes from the busier to the other if that makes nothing worse. So
// three equal threads take turns on two CPUs. e is the thread that is to go to q; it
// waits, or has the CPU (then push is set).
func (r *runQueues) balance(now int64) (e *entity, to *runQueue) {
	var from *runQueue
	n := len(r.q)
	for i := range r.q {
		q := &r.q[(r.turn+i)%n]
		if q.nr > 0 && (from == nil || q.load > from.load) {
			from = q
		}
	}
	if from == nil {
		return nil, nil
	}
	for i := 1; i < n; i++ {
		q := &r.q[(int(from.cpu)+i)%n]
		if q.curr == nil || q.curr.rt() || to != nil && q.load >= to.load {
			continue
		}
		if m := r.mover(from, q); m != nil {
			e, to = m, q
		}
	}
	if e != nil {
		e.moved, r.turn = now, int(from.cpu)+1
		if from.curr == e {
			e.push = to.cpu + 1
		}
	}
	return e, to
}

// mover is the thread of from that has stayed longest and may go to q.
func (r *runQueues) mover(from, q *runQueue) (best *entity) {
	fits := func(e *entity) bool {
		return e.allowed(q.cpu) && q.load+e.weight <= from.load && (best == nil || e.moved < best.moved)
	}
	for _, e := range from.fair {
		if fits(e) {
			best = e
		}
	}
	if c := from.curr; c != nil && !c.rt() && len(from.fair) > 0 && fits(c) {
		best = c
	}
	return best
}

// shift moves a waiting thread to another queue.
func (r *runQueues) shift(e *entity, to *runQueue) {
	r.dequeue(e)
	r.migrate(e, to)
	r.enqueue(to, e, false)
}

// enqueue and dequeue keep the two orders.
func (r *runQueues) enqueue(q *runQueue, e *entity, first bool) {
	e.queued, e.cpu = true, q.cpu
	q.nr++
	r.nr++
	if e.rt() {
		at, prev := q.rt, (*entity)(nil)
		for at != nil && (at.prio > e.prio || at.prio == e.prio && !first) {
			at, prev = at.next, at
		}
		e.next, e.prev = at, prev
		if at != nil {
			at.prev = e
		}
		if prev != nil {
			prev.next = e
		} else {
			q.rt = e
		}
		return
	}
	q.load += e.weight
	q.fair = append(q.fair, e)
	q.up(len(q.fair)-1, e)
}

func (r *runQueues) dequeue(e *entity) {
	q := &r.q[e.cpu]
	e.queued = false
	q.nr--
	r.nr--
	if e.rt() {
		if e.prev != nil {
			e.prev.next = e.next
		} else {
			q.rt = e.next
		}
		if e.next != nil {
			e.next.prev = e.prev
		}
		e.next, e.prev = nil, nil
		return
	}
	q.load -= e.weight
	n := len(q.fair) - 1
	last := q.fair[n]
	q.fair[n] = nil
	q.fair = q.fair[:n]
	if last != e {
		q.down(e.index, last)
		q.up(last.index, last)
	}
}

func (q *runQueue) up(i int, e *entity) {
	for i > 0 {
		p := (i - 1) / 2
		if !e.before(q.fair[p]) {
			break
		}
		q.fair[i] = q.fair[p]
		q.fair[i].index = i
		i = p
	}
	q.fair[i] = e
	e.index = i
}

func (q *runQueue) down(i int, e *entity) {
	for {
		c := 2*i + 1
		if c >= len(q.fair) {
			break
		}
		if c+1 < len(q.fair) && q.fair[c+1].before(q.fair[c]) {
			c++
		}
		if !q.fair[c].before(e) {
			break
		}
		q.fair[i] = q.fair[c]
		q.fair[i].index = i
		i = c
	}
	q.fair[i] = e
	e.index = i
}
