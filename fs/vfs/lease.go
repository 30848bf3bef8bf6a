package vfs

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/wait"
)

// LeaseBreakTime is fs.lease-break-time in seconds: how long the holder of a lease has to
// give it up.
var LeaseBreakTime atomic.Int64

func init() { LeaseBreakTime.Store(45) }

// lease is F_SETLEASE's: its holder hears before somebody opens the file in a way that
// conflicts, who waits meanwhile.
type lease struct {
	f      *File
	fd     int32
	kind   int32 // F_RDLCK or F_WRLCK
	target int32 // what it is being broken to, kind if it is not
	until  int64 // of a break, nanoseconds of the monotonic clock
}

// leases are those of all inodes; they are rare.
var leases struct {
	// n counts them, so that open can skip the rest.
	n  atomic.Int64
	mu sync.Mutex
	m  map[*WriteAccess][]*lease
	q  waiter.Queue // notified when one changes
}

func leaseOf(f *File) *lease {
	for _, l := range leases.m[f.writes()] {
		if l.f == f {
			return l
		}
	}
	return nil
}

// Lease is F_GETLEASE: F_RDLCK, F_WRLCK or F_UNLCK; of one that is being broken what it is
// to become.
func (f *File) Lease() int32 {
	if leases.n.Load() == 0 {
		return unix.F_UNLCK
	}
	leases.mu.Lock()
	defer leases.mu.Unlock()
	if l := leaseOf(f); l != nil {
		return l.target
	}
	return unix.F_UNLCK
}

// SetLease is F_SETLEASE by way of descriptor fd: EINVAL for what is not a regular file,
// EAGAIN while others have the file open in a way that conflicts, or if there is nothing
// to give up.
func (f *File) SetLease(fd, kind int32, owner *Owner) error {
	if f.writes() == nil {
		return unix.EINVAL
	}
	leases.mu.Lock()
	l := leaseOf(f)
	err := error(nil)
	switch {
	case kind == unix.F_UNLCK && l == nil:
		err = unix.EAGAIN
	case kind == unix.F_UNLCK:
		dropLease(l)
	default:
		err = f.takeLease(l, fd, kind)
	}
	leases.mu.Unlock()
	if err == nil {
		if kind != unix.F_UNLCK {
			f.DefaultOwner(owner)
		}
		leases.q.Notify(waiter.EventIn)
	}
	return err
}

// takeLease makes or changes f's lease, l or nil. Called with leases.mu held.
func (f *File) takeLease(l *lease, fd, kind int32) error {
	w := f.writes()
	mine, reading := int32(0), int32(0)
	if f.Writable() { // whether it counts or not: a memfd as it was made does not
		mine = 1
	} else if f.Readable() {
		reading = 1
	}
	if kind == unix.F_RDLCK && w.n.Load() > 0 || kind == unix.F_WRLCK && (w.n.Load() != mine || w.readers.Load() != reading) {
		return unix.EAGAIN
	}
	for _, o := range leases.m[w] {
		if o.f != f && (kind == unix.F_WRLCK || o.target == unix.F_UNLCK) {
			return unix.EAGAIN
		}
	}
	if l != nil {
		l.kind, l.target = kind, kind
		return nil
	}
	if leases.m == nil {
		leases.m = map[*WriteAccess][]*lease{}
	}
	leases.m[w] = append(leases.m[w], &lease{f: f, fd: fd, kind: kind, target: kind})
	leases.n.Add(1)
	return nil
}

// dropLease ends a lease. Called with leases.mu held.
func dropLease(l *lease) {
	w := l.f.writes()
	list := leases.m[w]
	for i, o := range list {
		if o == l {
			if list = append(list[:i:i], list[i+1:]...); len(list) == 0 {
				delete(leases.m, w)
			} else {
				leases.m[w] = list
			}
			leases.n.Add(-1)
			return
		}
	}
}

// dropLeases ends what a description holds, at its end.
func (f *File) dropLeases() {
	if leases.n.Load() == 0 {
		return
	}
	leases.mu.Lock()
	l := leaseOf(f)
	if l != nil {
		dropLease(l)
	}
	leases.mu.Unlock()
	if l != nil {
		leases.q.Notify(waiter.EventIn)
	}
}

// breakLeases is what opening the file that w counts (nil: none) does, for writing or not: holders of leases in the way are
// told and waited for, until fs.lease-break-time is over. EAGAIN for whoever does not
// wait, EINTR.
func breakLeases(c wait.Context, w *WriteAccess, write, nonblock bool) error {
	if leases.n.Load() == 0 || w == nil {
		return nil
	}
	var e waiter.Entry
	e.Init(c.Listener(), waiter.EventIn)
	leases.q.EventRegister(&e)
	defer leases.q.EventUnregister(&e)
	for {
		until, tell := startBreak(w, write)
		for _, l := range tell {
			l.f.TellOwner(l.fd, PollMsg)
		}
		if until == 0 {
			return nil
		}
		if nonblock {
			return unix.EAGAIN
		}
		if r := c.Block(until, wait.Interruptible); r != wait.Ready && r != wait.Timeout {
			return r.Err()
		}
	}
}

// startBreak finds the leases in the way: until when they may stand, 0 for none, and whom
// to tell. What is overdue is taken away.
func startBreak(w *WriteAccess, write bool) (until int64, tell []*lease) {
	leases.mu.Lock()
	defer leases.mu.Unlock()
	now := int64(0)
	if m := clock.Load(); m != nil {
		now = m.M.Nanotime()
	}
	for _, l := range append([]*lease(nil), leases.m[w]...) {
		if !write && l.kind != unix.F_WRLCK {
			continue
		}
		if l.target != l.kind && now >= l.until {
			if l.kind = l.target; l.kind == unix.F_UNLCK {
				dropLease(l)
			}
			if l.kind != unix.F_WRLCK && !write || l.kind == unix.F_UNLCK {
				continue
			}
		}
		to := int32(unix.F_RDLCK)
		if write {
			to = unix.F_UNLCK
		}
		if l.target != unix.F_UNLCK && l.target != to {
			if l.target == l.kind {
				l.until = now + LeaseBreakTime.Load()*int64(time.Second)
			}
			l.target = to
			tell = append(tell, l)
		}
		until = max(until, l.until)
	}
	return until, tell
}
