package net

import "gvisor.dev/gvisor/pkg/waiter"

// Who found another socket without room, in its backlog or behind too many datagrams, waits
// for it on its own queue: it is in the other's list until there is room or one of the two is
// closed. A socket may wait in several places, since several threads may.

// unixWaits is one socket's part in that, guarded by namespace.waits.
type unixWaits struct {
	here map[*unixSocket]struct{} // who waits for room in this one
	at   map[*unixSocket]struct{} // in whose here it is itself
	over bool                     // closed: it waits nowhere any more
}

// waitCost is what one that waits in one place is charged, for the two entries.
const waitCost = 256

// wants notes that y waits for room in x: false if the budget does not allow it, and y will
// hear nothing. x.mu is held.
func (x *unixSocket) wants(y *unixSocket) bool {
	ns := &x.s.unix
	ns.waits.Lock()
	defer ns.waits.Unlock()
	if _, ok := x.waits.here[y]; ok || y.waits.over {
		return true
	}
	if !x.s.cfg.Budget.Charge(waitCost) {
		return false
	}
	if x.waits.here == nil {
		x.waits.here = make(map[*unixSocket]struct{})
	}
	if y.waits.at == nil {
		y.waits.at = make(map[*unixSocket]struct{})
	}
	x.waits.here[y], y.waits.at[x] = struct{}{}, struct{}{}
	x.waited.Store(true)
	return true
}

// roomy takes the list of those who wait for room in x. x.mu is held; the caller
// notifies them after.
func (x *unixSocket) roomy() map[*unixSocket]struct{} {
	if !x.waited.Load() {
		return nil
	}
	ns := &x.s.unix
	ns.waits.Lock()
	defer ns.waits.Unlock()
	b := x.waits.here
	x.waits.here = nil
	x.waited.Store(false)
	for y := range b {
		delete(y.waits.at, x)
	}
	x.s.cfg.Budget.Uncharge(waitCost * int64(len(b)))
	return b
}

// lets takes y out of the list of those who wait for room in x: false if it is not there.
func (x *unixSocket) lets(y *unixSocket) bool {
	ns := &x.s.unix
	ns.waits.Lock()
	defer ns.waits.Unlock()
	_, waits := x.waits.here[y]
	if waits {
		delete(x.waits.here, y)
		delete(y.waits.at, x)
		x.s.cfg.Budget.Uncharge(waitCost)
	}
	return waits
}

// waitsNoMore takes a socket that is closed out of all lists.
func (x *unixSocket) waitsNoMore() {
	ns := &x.s.unix
	ns.waits.Lock()
	defer ns.waits.Unlock()
	for y := range x.waits.at {
		delete(y.waits.here, x)
	}
	x.s.cfg.Budget.Uncharge(waitCost * int64(len(x.waits.at)))
	x.waits.at, x.waits.over = nil, true
}

func wake(b map[*unixSocket]struct{}) {
	for y := range b {
		y.q.Notify(waiter.WritableEvents)
	}
}
