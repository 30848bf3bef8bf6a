package anon

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// Limits of inotify, /proc/sys/fs/inotify/*.
var (
	InotifyInstances = limitOf(128)     // of one user
	InotifyWatches   = limitOf(8192)    // of one user
	InotifyEvents    = limitOf(1 << 14) // queued in one instance
)

// AIOMax is fs.aio-max-nr, AIOUsed fs.aio-nr: the events that contexts of Linux AIO were
// made for (io_setup(2)).
var (
	AIOMax  = limitOf(1 << 16)
	AIOUsed atomic.Int64
)

func limitOf(n int64) *atomic.Int64 {
	v := new(atomic.Int64)
	v.Store(n)
	return v
}

// users counts what each user has.
var users struct {
	mu                 sync.Mutex
	instances, watches map[uint32]int64 // of inotify
	groups, fanMarks   map[uint32]int64 // of fanotify
}

// take counts one more of a user's, unless that would pass the limit.
func take(m *map[uint32]int64, uid uint32, limit int64) bool {
	users.mu.Lock()
	defer users.mu.Unlock()
	if *m == nil {
		*m = map[uint32]int64{}
	}
	if (*m)[uid] >= limit {
		return false
	}
	(*m)[uid]++
	return true
}

func giveBack(m *map[uint32]int64, uid uint32) {
	users.mu.Lock()
	defer users.mu.Unlock()
	if (*m)[uid]--; (*m)[uid] == 0 {
		delete(*m, uid)
	}
}

// What a watch and an event are charged to the kernel-heap budget, in bytes.
const (
	watchCost = 256
	eventCost = 96
)

// eventHead is struct inotify_event without the name; names are padded to a multiple of it.
const eventHead = 16

// eventFlags are the bits of a watch's mask that are not events.
const eventFlags = unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW | unix.IN_EXCL_UNLINK | unix.IN_MASK_CREATE | unix.IN_MASK_ADD |
	unix.IN_ISDIR | unix.IN_ONESHOT

// Inotify is one instance: watches on nodes, and a queue of what happened to them. See
// inotify(7).
type Inotify struct {
	Base
	uid    uint32
	most   int64 // events in the queue, the limit at the instance's birth
	budget *mm.Budget

	mu      sync.Mutex
	watches map[int32]*vfs.Mark
	byInode map[vfs.Inode]*vfs.Mark
	lastWD  int32
	queue   []queued
	closed  bool
}

type queued struct {
	wd           int32
	mask, cookie uint32
	name         string
}

func (q *queued) size() int {
	if q.name == "" {
		return eventHead
	}
	return eventHead + (len(q.name)+1+eventHead-1)&^(eventHead-1)
}

// NewInotify makes an instance of user uid's; flags are O_NONBLOCK or 0. EMFILE at the
// user's limit.
func NewInotify(b *mm.Budget, uid uint32, flags uint32) (*vfs.File, error) {
	if !take(&users.instances, uid, InotifyInstances.Load()) {
		return nil, unix.EMFILE
	}
	n := &Inotify{uid: uid, most: InotifyEvents.Load(), budget: b, watches: map[int32]*vfs.Mark{}, byInode: map[vfs.Inode]*vfs.Mark{}}
	f := newFile(n, flags, "inotify")
	f.SetFlags(unix.O_ACCMODE, unix.O_RDONLY)
	return f, nil
}

// Add watches i, or changes the watch that is there. EEXIST (IN_MASK_CREATE), ENOSPC at
// the user's limit, ENOMEM.
func (n *Inotify) Add(i vfs.Inode, mask uint32) (int32, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m := n.byInode[i]; m != nil {
		switch {
		case mask&unix.IN_MASK_CREATE != 0:
			return 0, unix.EEXIST
		case mask&unix.IN_MASK_ADD != 0:
			m.Mask.Or(mask &^ (unix.IN_MASK_ADD | unix.IN_ISDIR))
		default:
			m.Mask.Store(mask &^ unix.IN_ISDIR)
		}
		return m.ID, nil
	}
	if !take(&users.watches, n.uid, InotifyWatches.Load()) {
		return 0, unix.ENOSPC
	}
	if !n.budget.Charge(watchCost) {
		giveBack(&users.watches, n.uid)
		return 0, unix.ENOMEM
	}
	m := &vfs.Mark{Inode: i, Listener: n, ID: n.newWD()}
	m.Mask.Store(mask &^ (unix.IN_MASK_ADD | unix.IN_MASK_CREATE | unix.IN_ISDIR))
	n.watches[m.ID], n.byInode[i] = m, m
	vfs.AddMark(m)
	return m.ID, nil
}

// newWD is the next free number, as the kernel's cyclic idr gives it. Called with mu held.
func (n *Inotify) newWD() int32 {
	for {
		if n.lastWD++; n.lastWD <= 0 {
			n.lastWD = 1
		}
		if n.watches[n.lastWD] == nil {
			return n.lastWD
		}
	}
}

// Remove ends a watch: EINVAL if there is none.
func (n *Inotify) Remove(wd int32) error {
	n.mu.Lock()
	m := n.watches[wd]
	if m == nil {
		n.mu.Unlock()
		return unix.EINVAL
	}
	n.drop(m)
	n.mu.Unlock()
	n.Q.Notify(waiter.EventIn)
	return nil
}

// drop ends a watch and says so in the queue. Called with mu held.
func (n *Inotify) drop(m *vfs.Mark) {
	if !vfs.DropMark(m) {
		return
	}
	delete(n.watches, m.ID)
	delete(n.byInode, m.Inode)
	giveBack(&users.watches, n.uid)
	n.budget.Uncharge(watchCost)
	n.push(queued{wd: m.ID, mask: unix.IN_IGNORED})
}

// push queues an event, unless it says what the last one says. Called with mu held.
func (n *Inotify) push(q queued) {
	if n.closed {
		return
	}
	if l := len(n.queue); l > 0 {
		last := &n.queue[l-1]
		if last.wd == q.wd && last.mask == q.mask && last.name == q.name && q.mask&unix.IN_IGNORED == 0 {
			return
		}
		if last.mask == unix.IN_Q_OVERFLOW {
			return
		}
	}
	if int64(len(n.queue)) >= n.most || !n.budget.Charge(q.cost()) {
		q = queued{wd: -1, mask: unix.IN_Q_OVERFLOW}
	}
	n.queue = append(n.queue, q)
}

// cost is what the budget has for the event; that of an overflow is nothing, so that it
// can always be said.
func (q *queued) cost() int64 {
	if q.mask == unix.IN_Q_OVERFLOW {
		return 0
	}
	return eventCost + int64(len(q.name))
}

// Marked implements vfs.Listener.
func (n *Inotify) Marked(m *vfs.Mark, e *vfs.Event) {
	n.mu.Lock()
	if n.watches[m.ID] != m {
		n.mu.Unlock()
		return // ended meanwhile
	}
	want := m.Mask.Load()
	ended := e.Mask&(unix.IN_DELETE_SELF|unix.IN_UNMOUNT) != 0 && e.Name == ""
	if e.Name != "" && e.Unlinked && want&unix.IN_EXCL_UNLINK != 0 {
		n.mu.Unlock()
		return
	}
	if wanted := e.Mask & (want | unix.IN_UNMOUNT) &^ eventFlags; wanted != 0 {
		mask := e.Mask
		if mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF) != 0 {
			mask &^= unix.IN_ISDIR // as Linux has it
		}
		n.push(queued{wd: m.ID, mask: mask, cookie: e.Cookie, name: e.Name})
		ended = ended || want&unix.IN_ONESHOT != 0
	}
	if ended {
		n.drop(m)
	}
	n.mu.Unlock()
	n.Q.Notify(waiter.EventIn)
}

// Read implements vfs.FileOps: whole events, as many as fit; EINVAL if the first does not,
// EAGAIN if there is none.
func (n *Inotify) Read(_ wait.Context, _ *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	done := 0
	for {
		n.mu.Lock()
		if len(n.queue) == 0 {
			n.mu.Unlock()
			if done == 0 {
				return 0, unix.EAGAIN
			}
			return done, nil
		}
		q := n.queue[0]
		size := q.size()
		if size > dst.Len() {
			n.mu.Unlock()
			if done == 0 {
				return 0, unix.EINVAL
			}
			return done, nil
		}
		if n.queue = n.queue[1:]; len(n.queue) == 0 {
			n.queue = nil
		}
		n.budget.Uncharge(q.cost())
		n.mu.Unlock()
		if _, err := dst.CopyOut(q.bytes()); err != nil {
			if done == 0 {
				return 0, err
			}
			return done, nil
		}
		done += size
	}
}

// bytes is the event as struct inotify_event.
func (q *queued) bytes() []byte {
	b := make([]byte, q.size())
	binary.LittleEndian.PutUint32(b, uint32(q.wd))
	binary.LittleEndian.PutUint32(b[4:], q.mask)
	binary.LittleEndian.PutUint32(b[8:], q.cookie)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(b)-eventHead))
	copy(b[eventHead:], q.name)
	return b
}

// Write implements vfs.FileOps: EBADF, the descriptor is for reading.
func (n *Inotify) Write(wait.Context, *vfs.File, *mm.IOSeq, int64) (int, error) {
	return 0, unix.EBADF
}

// Readiness implements waiter.Waitable.
func (n *Inotify) Readiness(mask waiter.EventMask) waiter.EventMask {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.queue) > 0 {
		return mask & waiter.ReadableEvents
	}
	return 0
}

// Ioctl implements vfs.FileOps: FIONREAD is the bytes that are queued.
func (n *Inotify) Ioctl(c wait.Context, _ *vfs.File, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	if req != unix.TIOCINQ {
		return 0, unix.ENOTTY
	}
	n.mu.Lock()
	total := 0
	for i := range n.queue {
		total += n.queue[i].size()
	}
	n.mu.Unlock()
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], uint32(total))
	_, err := sp.CopyOut(c, hal.UserAddr(arg), b[:])
	return 0, err
}

// Async implements vfs.Asyncer.
func (n *Inotify) Async(mask waiter.EventMask) int32 { return vfs.AsyncReason(mask) }

// Watches are the instance's, in no order, for /proc/PID/fdinfo.
func (n *Inotify) Watches() []*vfs.Mark {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := make([]*vfs.Mark, 0, len(n.watches))
	for _, m := range n.watches {
		l = append(l, m)
	}
	return l
}

// FDInfo implements vfs.FDInfoer.
func (n *Inotify) FDInfo(c wait.Context, b *bytes.Buffer) {
	for _, m := range n.Watches() {
		if a, err := m.Inode.Attr(c); err == nil {
			fmt.Fprintf(b, "inotify wd:%x ino:%x sdev:%x mask:%x ignored_mask:0 \n", m.ID, a.Ino, a.Dev, m.Mask.Load())
		}
	}
}

// Release implements vfs.FileOps.
func (n *Inotify) Release(*vfs.File) {
	n.mu.Lock()
	n.closed = true
	for _, m := range n.watches {
		n.drop(m)
	}
	for i := range n.queue {
		n.budget.Uncharge(n.queue[i].cost())
	}
	n.queue = nil
	n.mu.Unlock()
	giveBack(&users.instances, n.uid)
}
