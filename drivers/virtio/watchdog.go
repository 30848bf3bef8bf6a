package virtio

import (
	"sync"

	"kiln/kernel/timer"
)

// Watch intervals, in nanoseconds: after activity, when nothing happens, and for
// the second look at a suspect.
const (
	watchBusy    = 1e9
	watchIdle    = 10e9
	watchSuspect = 100e6
)

// Watchdog looks at rings from time to time, so that a lost interrupt or
// notification costs seconds and not the queue. One timer serves all queues; on an
// idle machine it fires every ten seconds. A nil Watchdog watches nothing.
type Watchdog struct {
	tq *timer.Queue
	t  timer.Timer
	// Log reports a rescue, once a queue.
	log func(string, ...any)

	mu      sync.Mutex
	watched []*watched
}

type watched struct {
	q    *Queue
	wake func()
	// State at the last look.
	activity, lastUsed uint32
	suspect, poked     bool
	reported           bool
}

// NewWatchdog makes a watchdog with a timer in tq.
func NewWatchdog(tq *timer.Queue, log func(string, ...any)) *Watchdog {
	w := &Watchdog{tq: tq, log: log}
	w.t.Init(w.look)
	return w
}

// Watch adds a queue; wake makes its driver look for finished requests.
func (w *Watchdog) Watch(q *Queue, wake func()) {
	if w == nil {
		return
	}
	w.mu.Lock()
	w.watched = append(w.watched, &watched{q: q, wake: wake})
	w.mu.Unlock()
	w.tq.Arm(&w.t, w.tq.Now()+watchBusy)
}

// look runs in dispatch context.
func (w *Watchdog) look() {
	next := int64(watchIdle)
	w.mu.Lock()
	list := w.watched
	w.mu.Unlock()
	for _, e := range list {
		if e.q.d.failed.Load() {
			continue
		}
		next = min(next, e.look(w))
	}
	w.tq.Arm(&w.t, w.tq.Now()+next)
}

// look returns the time until the next one.
func (e *watched) look(w *Watchdog) int64 {
	q := e.q
	activity, last := q.activity.Load(), q.lastUsed.Load()
	moved := activity != e.activity || last != e.lastUsed
	e.activity, e.lastUsed = activity, last
	switch {
	case q.Pending() && q.listening.Load():
		// Under load there is often something that the driver is about to
		// take. If it is still there at the second look, nobody told it.
		e.poked = false
		if !moved && e.suspect {
			q.d.rescues.Add(1)
			if !e.reported && w.log != nil {
				e.reported = true
				w.log("%v: finished requests were not announced by an interrupt; the watchdog found them", q)
			}
			e.suspect = false
			e.wake()
			return watchBusy
		}
		e.suspect = true
		return watchSuspect
	case moved:
		e.suspect, e.poked = false, false
		return watchBusy
	case q.InFlight() > 0 && !q.Pending() && !e.poked:
		// The device has requests and does not answer: perhaps it was not
		// told. Once is enough until something moves.
		e.suspect, e.poked = false, true
		q.d.T.Notify(q.index)
		return watchBusy
	}
	e.suspect = false
	return watchIdle
}
