package wait

import (
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/waiter"
)

// Queue is a waiter.Queue that knows how many wait, so that to notify nobody is one load:
// whoever registers looks at the object afterwards, whoever notifies has changed it
// before, and so one of the two sees the other. Its lock is held over the listeners'
// calls, which therefore must not come back to it; it is half as long a way as
// waiter.Queue's, on which readers may meet.
type Queue struct {
	n           atomic.Int32
	mu          sync.Mutex
	first, last *waiter.Entry
}

// EventRegister puts e at the end.
func (q *Queue) EventRegister(e *waiter.Entry) {
	q.n.Add(1)
	q.mu.Lock()
	e.SetNext(nil)
	e.SetPrev(q.last)
	if q.last != nil {
		q.last.SetNext(e)
	} else {
		q.first = e
	}
	q.last = e
	q.mu.Unlock()
}

// EventUnregister takes e out, if it is in. No call of its listener is under way, or will
// come, when it returns.
func (q *Queue) EventUnregister(e *waiter.Entry) {
	q.mu.Lock()
	p, n := e.Prev(), e.Next()
	switch {
	case p != nil:
		p.SetNext(n)
	case q.first == e:
		q.first = n
	default:
		q.mu.Unlock()
		return
	}
	if n != nil {
		n.SetPrev(p)
	} else {
		q.last = p
	}
	e.SetNext(nil)
	e.SetPrev(nil)
	q.mu.Unlock()
	q.n.Add(-1)
}

// Waiting says whether anybody is registered.
func (q *Queue) Waiting() bool { return q.n.Load() != 0 }

// Notify tells those who listen for one of the events, in their order.
func (q *Queue) Notify(mask waiter.EventMask) {
	if q.n.Load() != 0 {
		q.notify(mask)
	}
}

func (q *Queue) notify(mask waiter.EventMask) {
	q.mu.Lock()
	for e := q.first; e != nil; e = e.Next() {
		e.NotifyEvent(mask)
	}
	q.mu.Unlock()
}
