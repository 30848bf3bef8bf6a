package task

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

const futexBuckets = 256

// futexBucket holds the waiters whose words hash to it, in the order they came, those of
// higher real-time priority first.
type futexBucket struct {
	mu         sync.Mutex
	head, tail *futexWaiter
	// waiters counts them and those who are about to be: see lockToWait.
	waiters atomic.Int32
}

// lockToWait locks the bucket for a thread that will look at its word and, if that is as
// it was, be linked. It is counted before it looks, so that whoever changes the word and
// finds nobody counted then need not lock: the thread will see the change.
func (b *futexBucket) lockToWait() {
	b.waiters.Add(1)
	b.mu.Lock()
}

func (b *futexBucket) unlockToWait() {
	b.mu.Unlock()
	b.waiters.Add(-1)
}

// futexWaiter is a thread in FUTEX_WAIT: part of Thread, so waiting allocates nothing
// (futex_waitv makes its own).
type futexWaiter struct {
	t          *Thread
	key        mm.FutexKey
	bitset     uint32
	pi         bool // waits to own the word
	requeue    bool // in FUTEX_WAIT_REQUEUE_PI, for pi is to be word key2
	key2       mm.FutexKey
	addr       hal.UserAddr                // of the word to own, for passOnDead
	owner      atomic.Int32                // who has that word
	lost       bool                        // woken because its owner ended and the word cannot be written
	prio       int32                       // of a real-time thread; the others are 0
	bucket     atomic.Pointer[futexBucket] // nil: woken or not waiting
	next, prev *futexWaiter
}

func (k *Kernel) futexIndex(key mm.FutexKey) int {
	h := key.Offset >> 2 * 0x9e3779b97f4a7c15
	return int(h >> 56)
}

// link and unlink are called with the bucket's mu held.
func (b *futexBucket) link(w *futexWaiter) {
	after := b.tail
	for after != nil && after.prio < w.prio {
		after = after.prev
	}
	w.prev = after
	if after == nil {
		w.next, b.head = b.head, w
	} else {
		w.next, after.next = after.next, w
	}
	if w.next == nil {
		b.tail = w
	} else {
		w.next.prev = w
	}
	b.waiters.Add(1)
	w.bucket.Store(b)
}

func (b *futexBucket) unlink(w *futexWaiter) {
	b.detach(w)
	w.bucket.Store(nil)
}

// detach is unlink for a waiter that goes to another bucket: link replaces w.bucket,
// so that it never looks woken in between.
func (b *futexBucket) detach(w *futexWaiter) {
	if w.prev == nil {
		b.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		b.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.next, w.prev = nil, nil
	b.waiters.Add(-1)
}

// wake wakes up to n waiters on key with a bit in common: EINVAL at one that a wake is
// not for (PI). Called with mu held.
func (b *futexBucket) wake(key mm.FutexKey, n int, bitset uint32) (woken int, err error) {
	for w := b.head; w != nil && woken < n; {
		next := w.next
		if w.key == key && (w.pi || w.requeue) {
			return woken, unix.EINVAL
		}
		if w.key == key && w.bitset&bitset != 0 {
			b.unlink(w)
			w.t.notify(fEvent)
			woken++
		}
		w = next
	}
	return woken, nil
}

func futexKey(t *Thread, addr hal.UserAddr, shared bool) (mm.FutexKey, error) {
	if addr&3 != 0 {
		return mm.FutexKey{}, unix.EINVAL
	}
	return t.space.FutexKey(t, addr, shared)
}

// FutexWait parks the thread while the word at addr is val, until a wake with a bit
// of bitset, or the absolute deadline (Nanotime). EAGAIN: the word is different;
// ETIMEDOUT; EFAULT; EINVAL: unaligned or no bit; a restart code for a signal. See futex(2).
func (t *Thread) FutexWait(addr hal.UserAddr, shared bool, val uint32, bitset uint32, deadline int64) error {
	if bitset == 0 {
		return unix.EINVAL
	}
	key, err := futexKey(t, addr, shared)
	if err != nil {
		return err
	}
	b := &t.k.futexes[t.k.futexIndex(key)]
	w := &t.futex
	for {
		b.lockToWait()
		v, ok := t.hw.Load32(addr)
		if !ok {
			b.unlockToWait()
			if _, err := t.space.Load32(t, addr); err != nil {
				return unix.EFAULT
			}
			continue
		}
		if v != val {
			b.unlockToWait()
			return unix.EAGAIN
		}
		w.t, w.key, w.bitset, w.prio = t, key, bitset, t.futexPrio()
		t.flags.And(^fEvent)
		b.link(w)
		b.unlockToWait()
		break
	}
	for {
		r := t.Block(deadline, wait.Interruptible)
		if w.bucket.Load() == nil {
			return nil
		}
		if r == wait.Ready {
			continue
		}
		if !w.cancel() {
			return nil // woken meanwhile
		}
		return r.Err()
	}
}

// cancel takes a waiter off its queue; false if a wake was first.
func (w *futexWaiter) cancel() bool {
	for {
		b := w.bucket.Load()
		if b == nil {
			return false
		}
		b.mu.Lock()
		if w.bucket.Load() == b { // it may have been requeued
			b.unlink(w)
			b.mu.Unlock()
			return true
		}
		b.mu.Unlock()
	}
}

// FutexWake wakes up to n waiters and returns how many it did.
func (t *Thread) FutexWake(addr hal.UserAddr, shared bool, n int, bitset uint32) (int, error) {
	if bitset == 0 {
		return 0, unix.EINVAL
	}
	key, err := futexKey(t, addr, shared)
	if err != nil {
		return 0, err
	}
	return t.k.futexWake(key, n, bitset)
}

func (k *Kernel) futexWake(key mm.FutexKey, n int, bitset uint32) (int, error) {
	b := &k.futexes[k.futexIndex(key)]
	// An addition, since the caller's change of the word is to come before the look
	// (lockToWait).
	if b.waiters.Add(0) == 0 {
		return 0, nil
	}
	return b.lockedWake(key, n, bitset)
}

func (b *futexBucket) lockedWake(key mm.FutexKey, n int, bitset uint32) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	woken, err := b.wake(key, max(n, 1), bitset)
	if err != nil {
		return 0, err
	}
	return woken, nil
}

// lock2 locks two buckets in order of index.
func (k *Kernel) lock2(i, j int) (a, b *futexBucket) {
	a, b = &k.futexes[i], &k.futexes[j]
	switch {
	case i == j:
		a.mu.Lock()
	case i < j:
		a.mu.Lock()
		b.mu.Lock()
	default:
		b.mu.Lock()
		a.mu.Lock()
	}
	return a, b
}

func unlock2(a, b *futexBucket) {
	a.mu.Unlock()
	if a != b {
		b.mu.Unlock()
	}
}

// FutexRequeue wakes up to nwake waiters of addr and moves up to nmove others to
// addr2. With cmp the word at addr must still be val (EAGAIN). It returns the number
// woken plus moved.
func (t *Thread) FutexRequeue(addr, addr2 hal.UserAddr, shared bool, nwake, nmove int, cmp bool, val uint32) (int, error) {
	if nwake < 0 || nmove < 0 {
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
	for {
		b1, b2 := t.k.lock2(t.k.futexIndex(k1), t.k.futexIndex(k2))
		if cmp {
			v, ok := t.hw.Load32(addr)
			if !ok || v != val {
				unlock2(b1, b2)
				if ok {
					return 0, unix.EAGAIN
				}
				if _, err := t.space.Load32(t, addr); err != nil {
					return 0, unix.EFAULT
				}
				continue
			}
		}
		n, err := b1.requeue(b2, k1, k2, nwake, nmove)
		unlock2(b1, b2)
		return n, err
	}
}

func (b *futexBucket) requeue(b2 *futexBucket, k1, k2 mm.FutexKey, nwake, nmove int) (n int, err error) {
	for w := b.head; w != nil && n < nwake+nmove; {
		next := w.next
		if w.key == k1 {
			if w.pi || w.requeue {
				return 0, unix.EINVAL // Linux' pairs: requeue with wait, PI with PI
			}
			if n < nwake {
				b.unlink(w)
				w.t.notify(fEvent)
			} else if k1 != k2 {
				b.detach(w)
				w.key = k2
				b2.link(w)
			}
			n++
		}
		w = next
	}
	return n, nil
}

// FutexWakeOp is FUTEX_WAKE_OP: it changes the word at addr2 by op, wakes n waiters of
// addr, and n2 of addr2 if the word's old value passes op's comparison. ENOSYS: op.
func (t *Thread) FutexWakeOp(addr, addr2 hal.UserAddr, shared bool, n, n2 int, op uint32) (int, error) {
	k1, err := futexKey(t, addr, shared)
	if err != nil {
		return 0, err
	}
	k2, err := futexKey(t, addr2, shared)
	if err != nil {
		return 0, err
	}
	old, err := t.futexOp(addr2, op)
	if err != nil {
		return 0, err
	}
	hit, err := futexCompare(op, old)
	if err != nil {
		return 0, err
	}
	b1, b2 := t.k.lock2(t.k.futexIndex(k1), t.k.futexIndex(k2))
	woken, err := b1.wake(k1, max(n, 1), ^uint32(0))
	if hit && err == nil {
		more := 0
		more, err = b2.wake(k2, max(n2, 1), ^uint32(0))
		woken += more
	}
	unlock2(b1, b2)
	if err != nil {
		return 0, err
	}
	return woken, nil
}

// futexOp applies op's operation (futex(2), FUTEX_OP) and returns the old value.
func (t *Thread) futexOp(addr hal.UserAddr, op uint32) (uint32, error) {
	arg := int32(op<<8) >> 20
	if op>>28&8 != 0 { // FUTEX_OP_ARG_SHIFT
		arg = 1 << (uint32(arg) & 31)
	}
	if op>>28&7 > 4 {
		return 0, unix.ENOSYS // before the word is looked at
	}
	for {
		old, err := t.space.Load32(t, addr)
		if err != nil {
			return 0, unix.EFAULT
		}
		v := old
		switch op >> 28 & 7 {
		case 0:
			v = uint32(arg)
		case 1:
			v += uint32(arg)
		case 2:
			v |= uint32(arg)
		case 3:
			v &^= uint32(arg)
		case 4:
			v ^= uint32(arg)
		}
		prev, err := t.space.CAS32(t, addr, old, v)
		if err != nil {
			return 0, unix.EFAULT
		}
		if prev == old {
			return old, nil
		}
	}
}

func futexCompare(op, old uint32) (bool, error) {
	arg, v := int32(op<<20)>>20, int32(old)
	switch op >> 24 & 15 {
	case 0:
		return v == arg, nil
	case 1:
		return v != arg, nil
	case 2:
		return v < arg, nil
	case 3:
		return v <= arg, nil
	case 4:
		return v > arg, nil
	case 5:
		return v >= arg, nil
	}
	return false, unix.ENOSYS
}

// Robust futex words and lists (uapi/linux/futex.h; the kernel's side is
// exit_robust_list).
const (
	futexWaiters   = 0x80000000
	futexOwnerDied = 0x40000000
	futexTIDMask   = 0x3fffffff
	robustLimit    = 2048
	// RobustHeadSize is sizeof(struct robust_list_head).
	RobustHeadSize = 24
)

// SetRobustList and RobustList are the head of the list of locks that the thread holds.
func (t *Thread) SetRobustList(a hal.UserAddr) { t.robust.Store(uint64(a)) }
func (t *Thread) RobustList() hal.UserAddr     { return hal.UserAddr(t.robust.Load()) }

// walkRobust marks every lock the thread still holds as its owner's having died, and
// wakes a waiter of each.
func (t *Thread) walkRobust() {
	list := t.RobustList()
	if list == 0 {
		return
	}
	var head [RobustHeadSize]byte
	if t.CopyIn(head[:], list) != nil {
		return
	}
	le := binary.LittleEndian
	entry, off := le.Uint64(head[0:]), le.Uint64(head[8:])
	pending := le.Uint64(head[16:])
	for n := 0; n < robustLimit && hal.UserAddr(entry&^1) != list; n++ {
		var next [8]byte
		err := t.CopyIn(next[:], hal.UserAddr(entry&^1))
		if entry&^1 != pending&^1 && !t.ownerDied(hal.UserAddr(entry&^1+off), entry&1 != 0, false) {
			return
		}
		if err != nil {
			return
		}
		entry = le.Uint64(next[:])
	}
	if pending&^1 != 0 {
		t.ownerDied(hal.UserAddr(pending&^1+off), pending&1 != 0, true)
	}
}

// ownerDied is Linux' handle_futex_death for one word.
func (t *Thread) ownerDied(addr hal.UserAddr, pi, pending bool) bool {
	if addr&3 != 0 || addr >= hal.UserTop {
		return false
	}
	for {
		v, err := t.space.Load32(t, addr)
		if err != nil {
			return false
		}
		if pending && !pi && v == 0 {
			// Unlocked, but the wake may not have been sent.
			_, _ = t.FutexWake(addr, true, 1, ^uint32(0))
			return true
		}
		if v&futexTIDMask != uint32(t.TID()) {
			return true
		}
		if pi {
			if t.piOwnerDied(addr, v) {
				return true
			}
			if _, err := t.space.CAS32(t, addr, v, v); err != nil {
				return false
			}
			continue
		}
		prev, err := t.space.CAS32(t, addr, v, v&futexWaiters|futexOwnerDied)
		if err != nil {
			return false
		}
		if prev != v {
			continue
		}
		if v&futexWaiters != 0 {
			_, _ = t.FutexWake(addr, true, 1, ^uint32(0))
		}
		return true
	}
}
