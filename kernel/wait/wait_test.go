package wait

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/hal"
)

func TestWakeUpBeforeBlockIsKept(t *testing.T) {
	c := Background()
	c.Listener().NotifyEvent(waiter.EventIn)
	c.Listener().NotifyEvent(waiter.EventIn) // counts once
	if r := c.Block(hal.NoDeadline, Uninterruptible); r != Ready {
		t.Errorf("%v", r)
	}
	woke := make(chan Result)
	go func() { woke <- c.Block(hal.NoDeadline, Uninterruptible) }()
	select {
	case <-woke:
		t.Error("two wake-ups before Block ended two of them")
	case <-time.After(20 * time.Millisecond):
	}
	c.Listener().NotifyEvent(waiter.EventIn)
	if r := <-woke; r != Ready {
		t.Errorf("%v", r)
	}
}

func TestQueueWakesItsEntries(t *testing.T) {
	var q waiter.Queue
	c := Background()
	var e waiter.Entry
	e.Init(c.Listener(), waiter.ReadableEvents)
	q.EventRegister(&e)
	defer q.EventUnregister(&e)
	ready := false
	go func() {
		time.Sleep(5 * time.Millisecond)
		ready = true
		q.Notify(waiter.ReadableEvents)
	}()
	c.Block(hal.NoDeadline, Interruptible)
	if !ready {
		t.Error("woken before the event")
	}
}

func TestResultsAreErrnos(t *testing.T) {
	for r, want := range map[Result]error{Ready: nil, Timeout: unix.ETIMEDOUT, Signal: ErrRestart, Kill: ErrRestart, Stop: ErrRestart} {
		if r.Err() != want {
			t.Errorf("%d: %v, want %v", r, r.Err(), want)
		}
	}
	if n := testing.AllocsPerRun(10, func() { sink = Signal.Err() }); n != 0 {
		t.Errorf("an interrupted call allocates %v times", n)
	}
}

var sink error
