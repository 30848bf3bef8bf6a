package task

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// PI futexes: the kernel passes the lock from owner to waiter, so it never looks free
// while somebody waits. Waiters of a higher real-time priority are served first, but the
// owner does not inherit it. See futex(2), "Priority-inheritance futexes".

// FutexLockPI takes the lock at addr: the word becomes the thread's TID. Errors:
// EAGAIN: it is taken (try); EDEADLK: the thread has it already, or its owner waits in a
// chain for one that the thread has; ESRCH: its owner does
// not exist; ETIMEDOUT; EFAULT; EINVAL: unaligned; a restart code.
func (t *Thread) FutexLockPI(addr hal.UserAddr, shared, try bool, deadline int64) error {
	key, err := futexKey(t, addr, shared)
	if err != nil {
		return err
	}
	b := &t.k.futexes[t.k.futexIndex(key)]
	w := &t.futex
	for {
		seen, owner := t.ownerOf(addr) // before the bucket: Kernel.tree is outside it
		if !try && owner != nil && owner != t && t.deadlocks(owner) {
			return unix.EDEADLK
		}
		b.mu.Lock()
		state, err := t.lockPIOnce(addr, seen, owner)
		if state == piMustWait && !try {
			w.t, w.key, w.bitset, w.pi, w.addr, w.prio = t, key, 0, true, addr, t.futexPrio()
			w.owner.Store(int32(seen))
			t.flags.And(^fEvent)
			b.link(w)
			t.k.piWaiters.Add(1)
			b.mu.Unlock()
			break
		}
		b.mu.Unlock()
		switch {
		case err != nil:
			return err
		case state == piTaken:
			return nil
		case state == piMustWait:
			return unix.EAGAIN
		}
		// The word was not at hand for writing, or changed: bring it in, look again.
		v, err := t.space.Load32(t, addr)
		if err == nil {
			_, err = t.space.CAS32(t, addr, v, v)
		}
		if err != nil {
			return unix.EFAULT
		}
	}
	defer w.endPI()
	for {
		r := t.Block(deadline, wait.Interruptible)
		if w.bucket.Load() == nil || r != wait.Ready && !w.cancel() {
			return w.outcome()
		}
		switch r {
		case wait.Ready:
		case wait.Timeout:
			return unix.ETIMEDOUT
		default:
			return wait.ErrRestartNoInt
		}
	}
}

// outcome is what a waiter for a PI word that has been taken off its queue returns: it has the
// word, but for EFAULT.
func (w *futexWaiter) outcome() error {
	if w.lost {
		w.lost = false
		return unix.EFAULT
	}
	return nil
}

// endPI is the end of a wait for a PI word.
func (w *futexWaiter) endPI() {
	w.pi = false
	w.owner.Store(0)
	w.t.k.piWaiters.Add(-1)
}

// deadlocks says whether o, who has what t wants, waits itself for a lock whose owner
// waits … for one that t has.
func (t *Thread) deadlocks(o *Thread) bool {
	const depth = 1024 // max_lock_depth
	for range depth {
		id := o.futex.owner.Load()
		if id == 0 {
			return false
		}
		if o = t.k.Thread(id); o == nil || o == t {
			return o == t
		}
	}
	return true
}

// Results of one look at a PI word.
const (
	piAgain = iota
	piTaken
	piMustWait
)

// lockPIOnce takes a free lock or marks a taken one as waited for. Called with the
// bucket's mu held.
func (t *Thread) lockPIOnce(addr hal.UserAddr, seen uint32, o *Thread) (int, error) {
	v, ok := t.hw.Load32(addr)
	if !ok {
		return piAgain, nil
	}
	owner, self := v&futexTIDMask, uint32(t.TID())
	switch {
	case owner == self:
		return 0, unix.EDEADLK
	case owner == 0:
		if prev, ok := t.hw.CAS32(addr, v, v&futexOwnerDied|self); !ok || prev != v {
			return piAgain, nil
		}
		return piTaken, nil
	}
	switch {
	case seen != owner:
		return piAgain, nil // it has changed hands meanwhile
	case o == nil, o.futexDead.Load():
		return 0, unix.ESRCH // gone, or it has passed on what it held and this was not among it
	}
	if v&futexWaiters == 0 {
		if prev, ok := t.hw.CAS32(addr, v, v|futexWaiters); !ok || prev != v {
			return piAgain, nil
		}
	}
	return piMustWait, nil
}

// FutexUnlockPI gives the lock at addr to the first who waits, or frees it. EPERM: it is
// not the thread's.
func (t *Thread) FutexUnlockPI(addr hal.UserAddr, shared bool) error {
	key, err := futexKey(t, addr, shared)
	if err != nil {
		return err
	}
	b := &t.k.futexes[t.k.futexIndex(key)]
	for {
		v, err := t.space.Load32(t, addr)
		if err != nil {
			return unix.EFAULT
		}
		if v&futexTIDMask != uint32(t.TID()) {
			return unix.EPERM
		}
		b.mu.Lock()
		done := b.passOn(t.hw, addr, key, v, 0)
		b.mu.Unlock()
		if done {
			return nil
		}
		if _, err := t.space.CAS32(t, addr, v, v); err != nil {
			return unix.EFAULT
		}
	}
}

// passOn changes the word from v to the next owner, with extra bits; free if nobody
// waits. Called with mu held.
func (b *futexBucket) passOn(hw hal.AddressSpace, addr hal.UserAddr, key mm.FutexKey, v, extra uint32) bool {
	next := b.head
	for next != nil && (!next.pi || next.key != key) {
		next = next.next
	}
	to := extra
	if next != nil {
		to |= futexWaiters | uint32(next.t.TID()) // so that it comes back here to unlock
	}
	if prev, ok := hw.CAS32(addr, v, to); !ok || prev != v {
		return false
	}
	if next != nil {
		for w := next.next; w != nil; w = w.next {
			if w.pi && w.key == key {
				w.owner.Store(next.t.TID())
			}
		}
		// It waits no more, though it has not run yet: who looked for a deadlock
		// would find it waiting for the one who passed the lock on.
		next.owner.Store(0)
		b.unlink(next)
		next.t.notify(fEvent)
	}
	return true
}

// passOnDead hands the PI locks of a thread that ends to those who wait for them, with
// FUTEX_OWNER_DIED set (Linux' exit_pi_state_list). A word that is not at hand for writing
// (a fork has made its page read-only) is brought in, without the lock.
func (t *Thread) passOnDead() {
	t.futexDead.Store(true)
	if t.k.piWaiters.Load() == 0 {
		return
	}
	for i := range t.k.futexes {
		b := &t.k.futexes[i]
		for s, addr := b.passOnOf(t); s != nil; s, addr = b.passOnOf(t) {
			v, err := s.Load32(t, addr)
			if err == nil {
				_, err = s.CAS32(t, addr, v, v)
			}
			if err != nil {
				b.lose(s, addr)
			}
			s.DecUsers()
		}
	}
}

// passOnOf hands t's words of the bucket over until one cannot be written: then that is the
// word's place, with a user of the space counted.
func (b *futexBucket) passOnOf(t *Thread) (*mm.Space, hal.UserAddr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for w := b.head; w != nil; {
		next := w.next
		if w.pi {
			v, ok := w.t.hw.Load32(w.addr)
			switch id := t.TID(); {
			case ok && v&futexTIDMask != uint32(id), !ok && w.owner.Load() != id: // another's
			case ok && b.passOn(w.t.hw, w.addr, w.key, v, futexOwnerDied):
				next = b.head // the list has changed
			case w.t.space.TryIncUsers():
				return w.t.space, w.addr
			}
		}
		w = next
	}
	return nil, 0
}

// lose wakes those who wait to own a word that cannot be written.
func (b *futexBucket) lose(s *mm.Space, addr hal.UserAddr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for w := b.head; w != nil; {
		next := w.next
		if w.pi && w.t.space == s && w.addr == addr {
			w.lost = true
			b.unlink(w)
			w.t.notify(fEvent)
		}
		w = next
	}
}

// ownerOf is the owner that the word at addr names, and the thread if there is one.
func (t *Thread) ownerOf(addr hal.UserAddr) (tid uint32, o *Thread) {
	v, err := t.space.Load32(t, addr)
	if err != nil {
		return 0, nil
	}
	tid = v & futexTIDMask
	return tid, t.k.Thread(int32(tid))
}

// piOwnerDied is ownerDied's step for a PI word that holds v; false: look again. Who waits
// for it may do so by FUTEX_PRIVATE_FLAG or without.
func (t *Thread) piOwnerDied(addr hal.UserAddr, v uint32) bool {
	key, err := futexKey(t, addr, true)
	if err != nil {
		return true
	}
	own, err := futexKey(t, addr, false)
	if err != nil {
		return true
	}
	b, private := t.k.lock2(t.k.futexIndex(key), t.k.futexIndex(own))
	defer unlock2(b, private)
	if w := private.first(own); w != nil && w.pi {
		return private.passOn(t.hw, addr, own, v, futexOwnerDied)
	}
	return b.passOn(t.hw, addr, key, v, futexOwnerDied)
}
