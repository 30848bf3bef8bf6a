package vfs

import (
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// maxLocks bounds the record locks of one file: beyond it ENOLCK.
const maxLocks = 16384

// What locks are charged to the kernel-heap budget, in bytes: a file that has some, and each.
const (
	fileLocksCost = 256
	lockCost      = 96 // lists grow by more than one
)

// RecordLock is a range of a file that someone holds; End is one past, MaxInt64 for
// "to the end". Owner is the *FDTable for POSIX locks, the *File for OFD locks and flock.
type RecordLock struct {
	Start, End int64
	Write      bool
	Owner      any
	PID        int32
	Dev, Ino   uint64 // of the file, for those who list locks
}

// fileLocks are the locks on one inode: record locks in order of Start for each
// owner, and flock's.
type fileLocks struct {
	records []RecordLock
	flocks  []RecordLock
	q       waiter.Queue // notified when a lock goes
	waiting int
	charged int64
}

// lockTable is all locks of the machine; they are rare, and few at a time.
var lockTable struct {
	mu sync.Mutex
	m  map[any]*fileLocks
	// waits is what owners of POSIX locks wait for, to find rings: an owner has one for each
	// thread that waits.
	waits map[any][]*lockWait
	// n counts locks of any kind, so that close can skip the rest.
	n atomic.Int64
}

// lockWait is a range of a file that somebody waits for.
type lockWait struct {
	r *RecordLock
	l *fileLocks
}

// lockKey is what the locks of f hang on: its inode, or its object.
func (f *File) lockKey() any {
	if f.inode != nil {
		if k, ok := f.inode.(interface{ LockKey() any }); ok {
			return k.LockKey()
		}
		return f.inode
	}
	if k, ok := f.Ops.(interface{ LockKey() any }); ok {
		return k.LockKey()
	}
	return f
}

func locksOf(key any, create bool) *fileLocks {
	t := &lockTable
	l := t.m[key]
	if l == nil && create {
		if t.m == nil {
			t.m, t.waits = map[any]*fileLocks{}, map[any][]*lockWait{}
		}
		l = &fileLocks{}
		t.m[key] = l
	}
	return l
}

// settle forgets a file without locks or waiters. Called with lockTable.mu held.
func (l *fileLocks) settle(key any) {
	if len(l.records) == 0 && len(l.flocks) == 0 && l.waiting == 0 {
		delete(lockTable.m, key)
	}
}

func conflict(list []RecordLock, r *RecordLock) *RecordLock {
	for i := range list {
		o := &list[i]
		if o.Owner != r.Owner && (o.Write || r.Write) && o.Start < r.End && r.Start < o.End {
			return o
		}
	}
	return nil
}

// TestLock is F_GETLK: the first lock that stands in r's way, or false.
func (f *File) TestLock(r RecordLock) (RecordLock, bool) {
	lockTable.mu.Lock()
	defer lockTable.mu.Unlock()
	if l := locksOf(f.lockKey(), false); l != nil {
		if o := conflict(l.records, &r); o != nil {
			return *o, true
		}
	}
	return RecordLock{}, false
}

// charge pays for so many locks, or says false at the edge of the budget.
func (l *fileLocks) charge(locks int) bool {
	b := budget.Load()
	if b == nil {
		return true
	}
	cost := int64(0)
	if locks > 0 {
		cost = fileLocksCost + int64(locks)*lockCost
	}
	switch more := cost - l.charged; {
	case more < 0:
		b.Uncharge(-more)
	case more > 0 && !b.Charge(more):
		return false
	}
	l.charged = cost
	return true
}

// touches says whether o is of r's owner and overlaps r or, for a lock, adjoins it.
func (o *RecordLock) touches(r *RecordLock, unlock bool) bool {
	if unlock {
		return o.Owner == r.Owner && o.End > r.Start && o.Start < r.End
	}
	return o.Owner == r.Owner && o.End >= r.Start && o.Start <= r.End
}

// replace gives r.Owner the range r, splitting and joining what it had; with unlock it
// takes the range away. ENOLCK if that makes more locks than there may be.
func (l *fileLocks) replace(r RecordLock, unlock bool) error {
	out := l.records
	if slices.ContainsFunc(out, func(o RecordLock) bool { return o.touches(&r, unlock) }) {
		out = l.without(&r, unlock)
	}
	n := len(out)
	if !unlock {
		n++
	}
	if more := n > len(l.records); more && n > maxLocks || !l.charge(n+len(l.flocks)) {
		return unix.ENOLCK
	}
	lockTable.n.Add(int64(n - len(l.records)))
	if !unlock {
		out = slices.Insert(out, place(out, &r), r)
	}
	l.records = out
	return nil
}

// without is a copy of the locks without what r replaces; what a lock joins becomes r's.
func (l *fileLocks) without(r *RecordLock, unlock bool) []RecordLock {
	out := make([]RecordLock, 0, len(l.records)+2)
	for _, o := range l.records {
		if !o.touches(r, unlock) {
			out = append(out, o)
			continue
		}
		if !unlock && o.Write == r.Write {
			r.Start, r.End = min(r.Start, o.Start), max(r.End, o.End)
			continue
		}
		if o.Start < r.Start {
			a := o
			a.End = r.Start
			out = append(out, a)
		}
		if o.End > r.End {
			a := o
			a.Start = r.End
			out = append(out, a)
		}
	}
	return out
}

// place is where r belongs: in order of Start among its owner's, behind those of others
// before it.
func place(list []RecordLock, r *RecordLock) int {
	at := len(list)
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Owner == r.Owner {
			if list[i].Start < r.Start {
				return i + 1
			}
			at = i
		}
	}
	return at
}

// SetLock is F_SETLK and F_SETLKW (and the OFD forms): unlock takes the range away. With
// block it waits; EDEADLK if POSIX owners would wait for each other in a ring.
func (f *File) SetLock(c wait.Context, r RecordLock, unlock, block bool) error {
	key := f.lockKey()
	var w *lockWait
	if _, posix := r.Owner.(*FDTable); posix && block {
		w = &lockWait{r: &r}
	}
	return lockLoop(c, key, w, block, func(l *fileLocks) error {
		if !unlock && conflict(l.records, &r) != nil {
			return unix.EAGAIN
		}
		return l.replace(r, unlock)
	})
}

// Flock is flock(2) by process pid: how is LOCK_SH, LOCK_EX or LOCK_UN.
func (f *File) Flock(c wait.Context, pid int32, how int, block bool) error {
	r := RecordLock{PID: pid, End: 1<<63 - 1, Write: how == unix.LOCK_EX, Owner: f}
	return lockLoop(c, f.lockKey(), nil, block, func(l *fileLocks) error {
		had := -1
		for i := range l.flocks {
			if l.flocks[i].Owner == any(f) {
				had = i
			}
		}
		// Changing the kind drops the old lock first, as Linux does.
		if had >= 0 && (how == unix.LOCK_UN || l.flocks[had].Write != r.Write) {
			l.flocks = append(l.flocks[:had:had], l.flocks[had+1:]...)
			l.charge(len(l.records) + len(l.flocks))
			lockTable.n.Add(-1)
			had = -1
			l.q.Notify(waiter.EventIn)
		}
		if how == unix.LOCK_UN || had >= 0 {
			return nil
		}
		if conflict(l.flocks, &r) != nil {
			return unix.EAGAIN
		}
		if !l.charge(len(l.records) + len(l.flocks) + 1) {
			return unix.ENOLCK
		}
		l.flocks = append(l.flocks, r)
		lockTable.n.Add(1)
		return nil
	})
}

// maxRing is how many owners a ring may have that is found.
const maxRing = 1000

// deadlock says whether w would wait for what the owner to holds, or for one that waits for
// that, and so on. seen are the owners that were looked at.
func (w *lockWait) deadlock(to any, seen map[any]bool) bool {
	for i := range w.l.records {
		o := &w.l.records[i]
		if o.Owner == w.r.Owner || !(o.Write || w.r.Write) || o.Start >= w.r.End || w.r.Start >= o.End {
			continue
		}
		if o.Owner == to {
			return true
		}
		if seen[o.Owner] || len(seen) >= maxRing {
			continue
		}
		seen[o.Owner] = true
		for _, next := range lockTable.waits[o.Owner] {
			if next.deadlock(to, seen) {
				return true
			}
		}
	}
	return false
}

// forget takes w out of what its owner waits for. Called with lockTable.mu held.
func (w *lockWait) forget() {
	t := &lockTable
	owner := w.r.Owner
	if i := slices.Index(t.waits[owner], w); i >= 0 {
		t.waits[owner] = slices.Delete(t.waits[owner], i, i+1)
	}
	if len(t.waits[owner]) == 0 {
		delete(t.waits, owner)
	}
}

// lockLoop tries, and waits for locks to go. w is the wait of a POSIX owner, whom nobody may
// wait for who waits for it.
func lockLoop(c wait.Context, key any, w *lockWait, block bool, try func(*fileLocks) error) error {
	t := &lockTable
	var e *waiter.Entry
	var reg *fileLocks
	defer func() {
		if e != nil {
			reg.q.EventUnregister(e)
			t.mu.Lock()
			reg.waiting--
			if w != nil {
				w.forget()
			}
			reg.settle(key)
			t.mu.Unlock()
		}
	}()
	for {
		t.mu.Lock()
		l := locksOf(key, true)
		err := try(l)
		if err == unix.EAGAIN && block && w != nil {
			w.l = l
			if w.deadlock(w.r.Owner, map[any]bool{}) {
				err = unix.EDEADLK
			}
		}
		if err != unix.EAGAIN || !block {
			l.q.Notify(waiter.EventIn)
			l.settle(key)
			t.mu.Unlock()
			return err
		}
		if e == nil {
			e, reg = new(waiter.Entry), l
			e.Init(c.Listener(), waiter.EventIn)
			l.q.EventRegister(e)
			l.waiting++
			if w != nil {
				t.waits[w.r.Owner] = append(t.waits[w.r.Owner], w)
			}
			t.mu.Unlock()
			continue
		}
		t.mu.Unlock()
		if r := c.Block(hal.NoDeadline, wait.Interruptible); r != wait.Ready {
			return r.Err()
		}
	}
}

// OFD says whether r belongs to a description and not to a process.
func (r *RecordLock) OFD() bool {
	_, ok := r.Owner.(*File)
	return ok
}

// dropPosixLocks is close(2)'s effect on the record locks of a process.
func (f *File) dropPosixLocks(t *FDTable) { f.dropLocks(t) }

// dropFileLocks is what the last close does: OFD locks and flock go.
func (f *File) dropFileLocks() { f.dropLocks(f) }

func (f *File) dropLocks(owner any) {
	if lockTable.n.Load() == 0 {
		return
	}
	lockTable.mu.Lock()
	defer lockTable.mu.Unlock()
	key := f.lockKey()
	l := locksOf(key, false)
	if l == nil {
		return
	}
	drop := func(list []RecordLock) []RecordLock {
		out := list[:0]
		for _, o := range list {
			if o.Owner != owner {
				out = append(out, o)
			}
		}
		clear(list[len(out):])
		lockTable.n.Add(int64(len(out) - len(list)))
		return out
	}
	l.records, l.flocks = drop(l.records), drop(l.flocks)
	l.charge(len(l.records) + len(l.flocks))
	l.q.Notify(waiter.EventIn)
	l.settle(key)
}

// Locks calls fn for each record lock and flock, for /proc/locks.
func Locks(fn func(flock bool, r RecordLock)) { listLocks(nil, fn) }

// Locks lists those on f.
func (f *File) Locks(fn func(flock bool, r RecordLock)) { listLocks(f.lockKey(), fn) }

// listLocks lists the locks on a file, or all. fn runs without the table's lock.
func listLocks(only any, fn func(flock bool, r RecordLock)) {
	type entry struct {
		key   any
		flock bool
		r     RecordLock
	}
	var list []entry
	lockTable.mu.Lock()
	for key, l := range lockTable.m {
		if only != nil && key != only {
			continue
		}
		for _, r := range l.flocks {
			list = append(list, entry{key, true, r})
		}
		for _, r := range l.records {
			list = append(list, entry{key, false, r})
		}
	}
	lockTable.mu.Unlock()
	for _, e := range list {
		if i, ok := e.key.(Inode); ok {
			if a, err := i.Attr(wait.Background()); err == nil {
				e.r.Dev, e.r.Ino = a.Dev, a.Ino
			}
		}
		fn(e.flock, e.r)
	}
}
