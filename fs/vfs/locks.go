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
}

// lockTable is all locks of the machine; they are rare, and few at a time.
var lockTable struct {
	mu sync.Mutex
	m  map[any]*fileLocks
	// waits says on whom the owner of a POSIX lock waits, to find dead ends.
	waits map[any]any
	// n counts locks of any kind, so that close can skip the rest.
	n atomic.Int64
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
			t.m, t.waits = map[any]*fileLocks{}, map[any]any{}
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

// replace gives r.Owner the range r, splitting and joining what it had; with unlock it
// takes the range away.
func (l *fileLocks) replace(r RecordLock, unlock bool) error {
	if len(l.records) >= maxLocks {
		return unix.ENOLCK
	}
	out := make([]RecordLock, 0, len(l.records)+2)
	for _, o := range l.records {
		if o.Owner != r.Owner || o.End < r.Start || o.Start > r.End || unlock && (o.End == r.Start || o.Start == r.End) {
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
	if !unlock {
		// In order of Start among the owner's, behind those of others before it.
		at := len(out)
		for i := len(out) - 1; i >= 0; i-- {
			if out[i].Owner == r.Owner {
				if out[i].Start < r.Start {
					at = i + 1
					break
				}
				at = i
			}
		}
		out = slices.Insert(out, at, r)
	}
	lockTable.n.Add(int64(len(out) - len(l.records)))
	l.records = out
	return nil
}

// SetLock is F_SETLK and F_SETLKW (and the OFD forms): unlock takes the range away. With
// block it waits; EDEADLK if POSIX owners would wait for each other in a ring.
func (f *File) SetLock(c wait.Context, r RecordLock, unlock, block bool) error {
	key := f.lockKey()
	_, posix := r.Owner.(*FDTable)
	try := func(l *fileLocks) (any, error) {
		if !unlock {
			if o := conflict(l.records, &r); o != nil {
				return o.Owner, unix.EAGAIN
			}
		}
		return nil, l.replace(r, unlock)
	}
	return lockLoop(c, key, r.Owner, posix, block, try)
}

// Flock is flock(2) by process pid: how is LOCK_SH, LOCK_EX or LOCK_UN.
func (f *File) Flock(c wait.Context, pid int32, how int, block bool) error {
	r := RecordLock{PID: pid, End: 1<<63 - 1, Write: how == unix.LOCK_EX, Owner: f}
	try := func(l *fileLocks) (any, error) {
		had := -1
		for i := range l.flocks {
			if l.flocks[i].Owner == any(f) {
				had = i
			}
		}
		// Changing the kind drops the old lock first, as Linux does.
		if had >= 0 && (how == unix.LOCK_UN || l.flocks[had].Write != r.Write) {
			l.flocks = append(l.flocks[:had:had], l.flocks[had+1:]...)
			lockTable.n.Add(-1)
			had = -1
			l.q.Notify(waiter.EventIn)
		}
		if how == unix.LOCK_UN || had >= 0 {
			return nil, nil
		}
		if o := conflict(l.flocks, &r); o != nil {
			return o.Owner, unix.EAGAIN
		}
		l.flocks = append(l.flocks, r)
		lockTable.n.Add(1)
		return nil, nil
	}
	return lockLoop(c, f.lockKey(), f, false, block, try)
}

// lockLoop tries, and waits for locks to go, under the rules of the kind.
func lockLoop(c wait.Context, key, owner any, posix, block bool, try func(*fileLocks) (any, error)) error {
	t := &lockTable
	var e *waiter.Entry
	var reg *fileLocks
	defer func() {
		if e != nil {
			reg.q.EventUnregister(e)
			t.mu.Lock()
			reg.waiting--
			delete(t.waits, owner)
			reg.settle(key)
			t.mu.Unlock()
		}
	}()
	for {
		t.mu.Lock()
		l := locksOf(key, true)
		holder, err := try(l)
		if err != unix.EAGAIN || !block {
			l.q.Notify(waiter.EventIn)
			l.settle(key)
			t.mu.Unlock()
			return err
		}
		if posix {
			for o, n := holder, 0; o != nil && n < 1000; o, n = t.waits[o], n+1 {
				if o == owner {
					t.mu.Unlock()
					return unix.EDEADLK
				}
			}
			t.waits[owner] = holder
		}
		if e == nil {
			e, reg = new(waiter.Entry), l
			e.Init(c.Listener(), waiter.EventIn)
			l.q.EventRegister(e)
			l.waiting++
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
