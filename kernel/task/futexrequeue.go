package task

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// futexPrio is what waiters are ordered by: a real-time priority, 0 for all others.
func (t *Thread) futexPrio() int32 { return t.rtprio.Load() }

// FutexWaitRequeuePI waits at addr, as FutexWait does, to be moved by FutexCmpRequeuePI
// to the PI word at addr2, and returns when it owns that. EINVAL: the two are one; EAGAIN:
// the word is different, or a signal came after the move; ETIMEDOUT; EFAULT; a restart code.
func (t *Thread) FutexWaitRequeuePI(addr, addr2 hal.UserAddr, shared bool, val, bitset uint32, deadline int64) error {
	if addr == addr2 || bitset == 0 {
		return unix.EINVAL
	}
	key2, err := futexKey(t, addr2, shared)
	if err != nil {
		return err
	}
	key, err := futexKey(t, addr, shared)
	if err != nil {
		return err
	}
	if key == key2 {
		return unix.EINVAL
	}
	w := &t.futex
	b := &t.k.futexes[t.k.futexIndex(key)]
	for {
		b.lockToWait()
		v, ok := t.hw.Load32(addr)
		if ok {
			if v != val {
				b.unlockToWait()
				return unix.EAGAIN
			}
			break
		}
		b.unlockToWait()
		if _, err := t.space.Load32(t, addr); err != nil {
			return unix.EFAULT
		}
	}
	w.t, w.key, w.bitset, w.prio, w.requeue, w.key2, w.addr = t, key, bitset, t.futexPrio(), true, key2, addr2
	t.flags.And(^fEvent)
	b.link(w)
	t.k.piWaiters.Add(1)
	b.unlockToWait()
	defer func() { w.requeue = false; w.endPI() }()
	for {
		r := t.Block(deadline, wait.Interruptible)
		if w.bucket.Load() == nil || r != wait.Ready && !w.cancel() {
			return w.outcome()
		}
		switch {
		case r == wait.Ready:
		case r == wait.Timeout:
			return unix.ETIMEDOUT
		case w.pi: // moved already: the call cannot be run again
			return unix.EAGAIN
		default:
			return wait.ErrRestartNoInt
		}
	}
}

// FutexCmpRequeuePI takes the PI word at addr2 for the first who waits at addr in
// FutexWaitRequeuePI, if it is free, and moves up to nmove others, who wait for it then.
// It returns how many it moved and woke. Errors: EINVAL: nwake is not 1, the words are
// one, waiters of another kind; EAGAIN: the word at addr is not val; those of a PI lock.
func (t *Thread) FutexCmpRequeuePI(addr, addr2 hal.UserAddr, shared bool, nwake, nmove int, val uint32) (int, error) {
	if nwake < 0 || nmove < 0 || addr == addr2 || nwake != 1 {
		return 0, unix.EINVAL
	}
	k1, err := futexKey(t, addr, shared)
	if err != nil {
		return 0, err
	}
	k2, err := futexKey(t, addr2, shared)
	if err != nil {
		return 0, err
	}
	if k1 == k2 {
		return 0, unix.EINVAL
	}
	for {
		seen, owner := t.ownerOf(addr2)
		b1, b2 := t.k.lock2(t.k.futexIndex(k1), t.k.futexIndex(k2))
		n, again, err := t.requeuePI(b1, b2, k1, k2, addr, addr2, nmove, val, seen, owner)
		unlock2(b1, b2)
		if !again {
			return n, err
		}
		if _, err := t.space.Load32(t, addr); err != nil {
			return 0, unix.EFAULT
		}
		v, err := t.space.Load32(t, addr2)
		if err == nil {
			_, err = t.space.CAS32(t, addr2, v, v)
		}
		if err != nil {
			return 0, unix.EFAULT
		}
	}
}

// requeuePI is one try; again: a word was not at hand, or changed. Called with both
// buckets' mu held.
func (t *Thread) requeuePI(b1, b2 *futexBucket, k1, k2 mm.FutexKey, addr, addr2 hal.UserAddr, nmove int, val, seen uint32, owner *Thread) (n int, again bool, err error) {
	if v, ok := t.hw.Load32(addr); !ok {
		return 0, true, nil
	} else if v != val {
		return 0, false, unix.EAGAIN
	}
	first := b1.first(k1)
	if first == nil {
		return 0, false, nil
	}
	if !first.requeue || first.key2 != k2 {
		return 0, false, unix.EINVAL
	}
	v, ok := t.hw.Load32(addr2)
	if !ok {
		return 0, true, nil
	}
	tid := v & futexTIDMask
	switch {
	case tid == 0:
		to := v&futexOwnerDied | uint32(first.t.TID())
		if nmove > 0 && b1.another(first) {
			to |= futexWaiters
		}
		if prev, ok := t.hw.CAS32(addr2, v, to); !ok || prev != v {
			return 0, true, nil
		}
		b1.unlink(first)
		first.t.notify(fEvent)
		n, tid = 1, uint32(first.t.TID())
	case tid == uint32(first.t.TID()):
		return 0, false, unix.EDEADLK
	case tid != seen:
		return 0, true, nil
	case owner == nil || owner.futexDead.Load():
		return 0, false, unix.ESRCH
	default:
		if prev, ok := t.hw.CAS32(addr2, v, v|futexWaiters); !ok || prev != v {
			return 0, true, nil
		}
	}
	for w := b1.head; w != nil && n < nmove+1; {
		next := w.next
		if w.key == k1 {
			if !w.requeue || w.key2 != k2 {
				return n, false, unix.EINVAL
			}
			b1.detach(w)
			w.key, w.bitset, w.pi, w.requeue = k2, 0, true, false
			w.owner.Store(int32(tid))
			b2.link(w)
			n++
		}
		w = next
	}
	return n, false, nil
}

// first is the first waiter on key; another says whether one waits on the same after w.
func (b *futexBucket) first(key mm.FutexKey) *futexWaiter {
	for w := b.head; w != nil; w = w.next {
		if w.key == key {
			return w
		}
	}
	return nil
}

func (b *futexBucket) another(w *futexWaiter) bool {
	for o := w.next; o != nil; o = o.next {
		if o.key == w.key {
			return true
		}
	}
	return false
}

// FutexWord is one element of futex_waitv.
type FutexWord struct {
	Addr   hal.UserAddr
	Val    uint32
	Shared bool
}

// MaxFutexWords is FUTEX_WAITV_MAX.
const MaxFutexWords = 128

// futexWaiterCost is what a waiter of futex_waitv is charged.
const futexWaiterCost = 128

// FutexWaitv waits on several words at once and gives the index of one that was woken.
// EAGAIN: a word is different; EINVAL, EFAULT; ENOMEM; ETIMEDOUT; a restart code.
func (t *Thread) FutexWaitv(words []FutexWord, deadline int64) (int, error) {
	cost := int64(len(words)) * futexWaiterCost
	if !t.k.charge(cost) {
		return 0, unix.ENOMEM
	}
	defer t.k.uncharge(cost)
	ws := make([]futexWaiter, len(words))
	for i := range words {
		key, err := futexKey(t, words[i].Addr, words[i].Shared)
		if err != nil {
			return 0, err
		}
		ws[i].t, ws[i].key, ws[i].bitset, ws[i].prio = t, key, ^uint32(0), t.futexPrio()
	}
	t.flags.And(^fEvent)
	for i := 0; i < len(ws); i++ {
		w := &ws[i]
		b := &t.k.futexes[t.k.futexIndex(w.key)]
		b.lockToWait()
		v, ok := t.hw.Load32(words[i].Addr)
		if ok && v == words[i].Val {
			b.link(w)
			b.unlockToWait()
			continue
		}
		b.unlockToWait()
		if woken := cancelAll(ws[:i]); woken >= 0 {
			return woken, nil
		}
		if ok {
			return 0, unix.EAGAIN
		}
		if _, err := t.space.Load32(t, words[i].Addr); err != nil {
			return 0, unix.EFAULT
		}
		i = -1 // from the start, now that the word is there
	}
	for {
		r := t.Block(deadline, wait.Interruptible)
		woken := -1
		if r != wait.Ready {
			woken = cancelAll(ws)
		} else if anyWoken(ws) {
			woken = cancelAll(ws)
		} else {
			continue
		}
		if woken >= 0 {
			return woken, nil
		}
		return 0, r.Err()
	}
}

func anyWoken(ws []futexWaiter) bool {
	for i := range ws {
		if ws[i].bucket.Load() == nil {
			return true
		}
	}
	return false
}

// cancelAll takes the waiters off their queues and gives the last that was woken, -1 if
// none was.
func cancelAll(ws []futexWaiter) int {
	woken := -1
	for i := range ws {
		if !ws[i].cancel() {
			woken = i
		}
	}
	return woken
}
