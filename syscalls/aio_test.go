package syscalls

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/anon"
	"kiln/kernel/hal/fake"
	"kiln/kernel/mm"
)

// goroutineCount notes, in its place of a queue, how many goroutines there are.
type goroutineCount struct{ n int }

func (g *goroutineCount) NotifyEvent(waiter.EventMask) { g.n = runtime.NumGoroutine() }

// One event for thousands of polls of Linux AIO does not start a goroutine for each, and
// what waits is charged.
func TestPollsOfAIOAreLookedAtByOne(t *testing.T) {
	const n = 3000
	b := mm.NewMemory(fake.New(1024)).Budget()
	used := b.Used()
	c := &aioContext{budget: b, nr: n, polls: map[*aioPoll]struct{}{}}
	b.Charge(n * aioEventCost)
	anon.AIOUsed.Add(n)
	f := anon.NewEventFD(0, false, 0)
	for i := range uint64(n) {
		if err := c.poll(f, &iocb{buf: unix.POLLIN}, ioEvent{data: i}, func() {}); err != nil {
			t.Fatal(i, err)
		}
	}
	if cost := b.Used() - used; cost < n*(aioEventCost+aioPollCost) {
		t.Errorf("%d polls cost %d", n, cost)
	}
	var g goroutineCount // behind the polls
	var e waiter.Entry
	e.Init(&g, waiter.EventIn)
	if err := f.Ops.EventRegister(&e); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	f.Ops.(*anon.EventFD).Add(1)
	if g.n > before+5 {
		t.Errorf("%d goroutines, %d before", g.n, before)
	}
	f.Ops.EventUnregister(&e)
	waiting := func() (polls, events int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.polls), len(c.events)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		polls, events := waiting()
		if polls == 0 && events == n {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d polls wait, %d events", polls, events)
		}
	}
	c.destroy()
	if now := b.Used(); now != used {
		t.Errorf("%d bytes are charged, %d before", now, used)
	}
	f.DecRef()
}

// A poll is refused where there is no memory for it, and one that waits goes with its context.
func TestPollsOfAIOEndWithTheirContext(t *testing.T) {
	b := mm.NewMemory(fake.New(1024)).Budget()
	used := b.Used()
	c := &aioContext{budget: b, nr: 1, polls: map[*aioPoll]struct{}{}}
	b.Charge(aioEventCost)
	anon.AIOUsed.Add(1)
	f := anon.NewEventFD(0, false, 0)
	poll := func() error { return c.poll(f, &iocb{buf: unix.POLLIN}, ioEvent{}, func() {}) }
	if err := poll(); err != nil {
		t.Fatal(err)
	}
	b.SetLimit(b.Used() + aioPollCost - 1)
	if err := poll(); err != unix.EAGAIN {
		t.Errorf("over the budget: %v", err)
	}
	c.destroy()
	if now := b.Used(); now != used {
		t.Errorf("%d bytes are charged, %d before", now, used)
	}
	if err := poll(); err != unix.EINVAL {
		t.Errorf("after the context's end: %v", err)
	}
	if f.Ops.(*anon.EventFD).Q.Waiting() {
		t.Error("a poll is registered that nobody knows")
	}
	f.DecRef()
}

// A context whose ring somebody unmapped before its maker could name it is found by nobody, and
// not kept; of two that end one only the first does.
func TestAContextOfAIOThatHasEndedIsNotNamed(t *testing.T) {
	b := mm.NewMemory(fake.New(1024)).Budget()
	c := &aioContext{budget: b, nr: 1, polls: map[*aioPoll]struct{}{}}
	b.Charge(aioEventCost)
	anon.AIOUsed.Add(1)
	c.IncRef()
	c.DecRef() // munmap
	key := aioKey{nil, 0x1000}
	c.publish(key)
	if aioContexts.m[key] != nil {
		t.Error("it is kept for ever")
	}
	if c.destroy() {
		t.Error("it ended twice")
	}
}
