package timer

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
)

func TestTimersExpireInOrderAtTheirTime(t *testing.T) {
	m := fake.New(8)
	q := NewQueue(m)
	rng := rand.New(rand.NewPCG(1, 1))
	now := q.Now()
	var got, want []int64
	timers := make([]Timer, 200)
	for i := range timers {
		when := now + 1 + rng.Int64N(1000)
		want = append(want, when)
		timers[i].Init(func() {
			if q.Now() < when {
				t.Errorf("timer of %d fired at %d", when, q.Now())
			}
			got = append(got, when)
		})
		q.Arm(&timers[i], when)
	}
	slices.Sort(want)
	for i := int64(1); i <= 10; i++ {
		m.Advance(100)
		n, _ := slices.BinarySearch(want, now+100*i+1)
		if len(got) != n {
			t.Fatalf("%d fired by %d, want %d", len(got), 100*i, n)
		}
	}
	if !slices.Equal(got, want) {
		t.Error("out of order")
	}
}

func TestStopAndRearm(t *testing.T) {
	m := fake.New(8)
	q := NewQueue(m)
	now := q.Now()
	fired := map[string]int64{}
	add := func(name string, when int64) *Timer {
		tm := new(Timer)
		tm.Init(func() { fired[name] = q.Now() })
		q.Arm(tm, when)
		return tm
	}
	a := add("a", now+10)
	b := add("b", now+20)
	c := add("c", now+30)
	if !q.Stop(a) || q.Stop(a) {
		t.Error("Stop does not say whether the timer was armed")
	}
	q.Arm(b, now+40) // later
	q.Arm(c, now+5)  // earlier
	m.Advance(5)
	if fired["c"] != now+5 {
		t.Errorf("moved to an earlier time: %v", fired)
	}
	m.Advance(30)
	if len(fired) != 1 {
		t.Errorf("too early: %v", fired)
	}
	m.Advance(5)
	if fired["b"] != now+40 || len(fired) != 2 {
		t.Errorf("%v", fired)
	}
	if q.Stop(b) {
		t.Error("Stop of an expired timer")
	}
	// A time that has passed fires at once.
	a.Init(func() { fired["a"] = q.Now() })
	q.Arm(a, now)
	m.Advance(0)
	if fired["a"] == 0 {
		t.Error("a deadline in the past never fires")
	}
}

func TestPeriodicTimerRearmsItself(t *testing.T) {
	m := fake.New(8)
	q := NewQueue(m)
	n := 0
	next := q.Now()
	var tm Timer
	tm.Init(func() {
		n++
		next += 10
		q.Arm(&tm, next)
	})
	next += 10
	q.Arm(&tm, next)
	for range 20 {
		m.Advance(5)
	}
	if n != 10 {
		t.Errorf("%d ticks in 100 ns of 10", n)
	}
}

// onlySetDeadline counts the writes to the machine's register.
type counting struct {
	hal.Machine
	n int
}

func (c *counting) SetDeadline(ns int64) { c.n++; c.Machine.SetDeadline(ns) }

func TestOnlyAnEarlierDeadlineTouchesTheMachine(t *testing.T) {
	m := &counting{Machine: fake.New(8)}
	q := NewQueue(m)
	base := q.Now()
	ts := make([]Timer, 100)
	for i := range ts {
		ts[i].Init(func() {})
		q.Arm(&ts[i], base+1000+int64(i))
	}
	if m.n != 1 {
		t.Errorf("%d writes for 100 timers, each later than the first", m.n)
	}
	for i := range ts {
		q.Stop(&ts[i])
	}
	if m.n != 1 {
		t.Errorf("stopping wrote the register: %d", m.n)
	}
}

func TestConcurrentUse(t *testing.T) {
	m := fake.New(8)
	q := NewQueue(m)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var mu sync.Mutex
			n := 0
			ts := make([]Timer, 10)
			for i := range ts {
				ts[i].Init(func() { mu.Lock(); n++; mu.Unlock() })
			}
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				q.Arm(&ts[i%10], q.Now()+int64(i%50))
				if i%3 == 0 {
					q.Stop(&ts[(i+5)%10])
				}
			}
		}()
	}
	for range 200 {
		m.Advance(time.Duration(20))
	}
	close(stop)
	wg.Wait()
	for range 5 {
		m.Advance(100)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.h) != 0 {
		t.Errorf("%d timers left", len(q.h))
	}
}

func TestHeapKeepsItsOrder(t *testing.T) {
	q := NewQueue(fake.New(16))
	r := rand.New(rand.NewPCG(1, 2))
	ts := make([]Timer, 100)
	armed := 0
	for i := range ts {
		ts[i].Init(func() {})
	}
	for range 20000 {
		tm := &ts[r.IntN(len(ts))]
		if r.IntN(3) == 0 {
			if q.Stop(tm) {
				armed--
			}
		} else {
			if tm.index < 0 {
				armed++
			}
			q.Arm(tm, 1<<40+r.Int64N(50))
		}
		if len(q.h) != armed {
			t.Fatalf("%d in the heap, %d armed", len(q.h), armed)
		}
		for i, e := range q.h {
			if e.t.index != i || i > 0 && q.h[(i-1)/4].when > e.when {
				t.Fatalf("position %d of %d is wrong", i, len(q.h))
			}
		}
	}
}
