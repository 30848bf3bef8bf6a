package wait

import (
	"slices"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/waiter"
)

type heard func(waiter.EventMask)

func (h heard) NotifyEvent(m waiter.EventMask) { h(m) }

// TestQueueTellsInOrder: those who listen for an event hear of it in the order in which
// they came, and nobody who has left, however often.
func TestQueueTellsInOrder(t *testing.T) {
	var q Queue
	var got []int
	e := make([]waiter.Entry, 4)
	for i := range e {
		mask := waiter.EventMask(waiter.EventIn)
		if i == 2 {
			mask = waiter.EventOut
		}
		e[i].Init(heard(func(waiter.EventMask) { got = append(got, i) }), mask)
	}
	tell := func(want ...int) {
		t.Helper()
		got = nil
		if q.Notify(waiter.EventIn); !slices.Equal(got, want) {
			t.Errorf("told %v, want %v", got, want)
		}
	}
	q.EventUnregister(&e[0]) // never was in
	tell()
	for i := range e {
		q.EventRegister(&e[i])
	}
	tell(0, 1, 3)
	q.EventUnregister(&e[1])
	q.EventUnregister(&e[1])
	tell(0, 3)
	q.EventUnregister(&e[0])
	tell(3)
	q.EventRegister(&e[0])
	tell(3, 0)
	for i := range e {
		q.EventUnregister(&e[i])
	}
	if tell(); q.Waiting() || q.first != nil || q.last != nil {
		t.Error("the queue is not empty")
	}
}

// TestQueueLosesNobody: whoever registers and then looks, or is told, sees each change.
func TestQueueLosesNobody(t *testing.T) {
	var q Queue
	var state sync.Map
	for i := range 2000 {
		c := make(chan struct{}, 1)
		var e waiter.Entry
		e.Init(heard(func(waiter.EventMask) {
			select {
			case c <- struct{}{}:
			default:
			}
		}), waiter.EventIn)
		go func() {
			state.Store(i, true)
			q.Notify(waiter.EventIn)
		}()
		q.EventRegister(&e)
		if _, ok := state.Load(i); !ok {
			<-c
		}
		q.EventUnregister(&e)
	}
}
