package anon

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

// Limits of fanotify, /proc/sys/fs/fanotify/*.
var (
	FanotifyGroups = limitOf(128)     // of one user
	FanotifyMarks  = limitOf(8192)    // of one user
	FanotifyEvents = limitOf(1 << 14) // queued in one group
)

// Sizes of struct fanotify_event_metadata and of the record with a pidfd behind it.
const (
	fanHead  = 24
	fanPidFD = 8
)

// fanFlags are the bits of a mask that are not events.
const fanFlags = unix.FAN_ONDIR | unix.FAN_EVENT_ON_CHILD

// mergeDepth is how far back in the queue an event is looked for that a new one can be
// added to (FANOTIFY_MAX_MERGE_EVENTS).
const mergeDepth = 128

// Fanotify is one group: marks on nodes, mounts and file systems, and a queue of what was
// done to them. See fanotify(7).
type Fanotify struct {
	Base
	uid           uint32
	flags, events uint32 // of fanotify_init
	most          int64
	budget        *mm.Budget
	ns            *vfs.Namespace

	mu     sync.Mutex
	marks  map[any]*fanMark // by vfs.Inode, *vfs.Mount or *vfs.Super
	queue  []fanEvent
	closed bool
}

type fanMark struct {
	mask, ignored uint32
	// survives says that the ignored mask outlasts a change of the file; strict that it
	// has flags of its own (FAN_MARK_IGNORE); evictable what FAN_MARK_EVICTABLE says.
	survives, strict, evictable bool
}

// fanEvent is one event; the overflow's path is not valid.
type fanEvent struct {
	path     vfs.Path
	mask     uint32
	pid, tid int32
	dir      bool
}

// NewFanotify makes a group of user uid's. EMFILE at the user's limit.
func NewFanotify(ns *vfs.Namespace, b *mm.Budget, uid, flags, events uint32) (*vfs.File, error) {
	limit := FanotifyGroups.Load()
	if !take(&users.groups, uid, limit) {
		return nil, unix.EMFILE
	}
	g := &Fanotify{uid: uid, flags: flags, events: events, most: FanotifyEvents.Load(), budget: b, ns: ns, marks: map[any]*fanMark{}}
	if flags&unix.FAN_UNLIMITED_QUEUE != 0 {
		g.most = 1 << 32
	}
	vfs.AddGroup(g)
	mode := uint32(0)
	if flags&unix.FAN_NONBLOCK != 0 {
		mode = unix.O_NONBLOCK
	}
	return newFile(g, mode, "[fanotify]"), nil
}

// Class is FAN_CLASS_*.
func (g *Fanotify) Class() uint32 { return g.flags & unix.FAN_ALL_CLASS_BITS }

// Mark adds mask to the mark on an object (a vfs.Inode, *vfs.Mount or *vfs.Super), making
// it if need be: EEXIST if it is of another kind, ENOSPC at the user's limit, ENOMEM.
func (g *Fanotify) Mark(object any, flags, mask uint32) error {
	ignore := flags & (unix.FAN_MARK_IGNORED_MASK | unix.FAN_MARK_IGNORE)
	evictable := flags&unix.FAN_MARK_EVICTABLE != 0
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.marks[object]
	if m == nil {
		if g.flags&unix.FAN_UNLIMITED_MARKS == 0 && !take(&users.fanMarks, g.uid, FanotifyMarks.Load()) {
			return unix.ENOSPC
		}
		if !g.budget.Charge(watchCost) {
			g.markGone()
			return unix.ENOMEM
		}
		m = &fanMark{evictable: evictable}
		g.marks[object] = m
	} else {
		switch {
		case evictable && !m.evictable:
			return unix.EEXIST
		case ignore != 0 && m.strict && ignore != unix.FAN_MARK_IGNORE:
			return unix.EEXIST
		case ignore == unix.FAN_MARK_IGNORE && flags&unix.FAN_MARK_IGNORED_SURV_MODIFY == 0 && m.survives:
			return unix.EEXIST
		}
		m.evictable = m.evictable && evictable
	}
	if ignore == 0 {
		m.mask |= mask
		return nil
	}
	m.ignored |= mask
	m.strict = m.strict || ignore == unix.FAN_MARK_IGNORE
	m.survives = m.survives || flags&unix.FAN_MARK_IGNORED_SURV_MODIFY != 0
	return nil
}

func (g *Fanotify) markGone() {
	if g.flags&unix.FAN_UNLIMITED_MARKS == 0 {
		giveBack(&users.fanMarks, g.uid)
	}
}

// Unmark takes mask away from a mark, and with its last event the mark: ENOENT if there is
// none. keep are flags that do not count as events.
func (g *Fanotify) Unmark(object any, flags, mask, keep uint32) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.marks[object]
	if m == nil {
		return unix.ENOENT
	}
	if flags&(unix.FAN_MARK_IGNORED_MASK|unix.FAN_MARK_IGNORE) != 0 {
		m.ignored &^= mask
	} else {
		m.mask &^= mask
	}
	if (m.mask|m.ignored)&^keep == 0 {
		g.drop(object)
	}
	return nil
}

// drop ends a mark. Called with mu held.
func (g *Fanotify) drop(object any) {
	delete(g.marks, object)
	g.budget.Uncharge(watchCost)
	g.markGone()
}

// FlushMarks takes away all marks of a kind: FAN_MARK_INODE, FAN_MARK_MOUNT, FAN_MARK_FILESYSTEM.
func (g *Fanotify) FlushMarks(kind uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for o := range g.marks {
		k := uint32(unix.FAN_MARK_INODE)
		switch o.(type) {
		case *vfs.Mount:
			k = unix.FAN_MARK_MOUNT
		case *vfs.Super:
			k = unix.FAN_MARK_FILESYSTEM
		}
		if k == kind {
			g.drop(o)
		}
	}
}

// ignores are the events that a mark lets nobody hear of; child says that it is on the
// directory that the node stands in.
func (m *fanMark) ignores(dir, child bool) uint32 {
	flags := m.ignored
	if !m.strict { // those of the mask count
		flags = m.ignored&^fanFlags | unix.FAN_ONDIR | m.mask&unix.FAN_EVENT_ON_CHILD
	}
	if dir && flags&unix.FAN_ONDIR == 0 || child && flags&unix.FAN_EVENT_ON_CHILD == 0 {
		return 0
	}
	return m.ignored &^ fanFlags
}

// Happened implements vfs.Group.
func (g *Fanotify) Happened(h *vfs.Happening) {
	g.mu.Lock()
	dir := h.Mask&unix.IN_ISDIR != 0
	var want, ignored uint32
	see := func(m *fanMark, child bool) {
		if m == nil || child && m.mask&unix.FAN_EVENT_ON_CHILD == 0 && m.ignored == 0 {
			return
		}
		if h.Mask&unix.IN_MODIFY != 0 && !m.survives {
			m.ignored = 0
		}
		ignored |= m.ignores(dir, child)
		if dir && m.mask&unix.FAN_ONDIR == 0 || child && m.mask&unix.FAN_EVENT_ON_CHILD == 0 {
			return
		}
		want |= m.mask
	}
	see(g.marks[h.Path.Entry.Inode()], false)
	if h.Parent != nil {
		see(g.marks[h.Parent], true)
	}
	see(g.marks[h.Path.Mount], false)
	see(g.marks[h.Path.Mount.Super], false)
	mask := h.Mask & want &^ ignored &^ fanFlags
	if mask == 0 || g.closed || !g.push(fanEvent{path: h.Path, mask: mask, pid: h.PID, tid: h.TID, dir: dir}) {
		g.mu.Unlock()
		return
	}
	g.mu.Unlock()
	g.Q.Notify(waiter.EventIn)
}

// push queues an event, or adds it to one of the same process about the same file; false
// if the queue has overflown before. Called with mu held.
func (g *Fanotify) push(e fanEvent) bool {
	if g.flags&unix.FAN_REPORT_TID != 0 {
		e.pid = e.tid
	}
	for i := len(g.queue) - 1; i >= max(0, len(g.queue)-mergeDepth); i-- {
		if o := &g.queue[i]; o.path == e.path && o.pid == e.pid && o.dir == e.dir {
			o.mask |= e.mask
			return true
		}
	}
	if n := len(g.queue); n > 0 && !g.queue[n-1].path.Valid() {
		return false
	}
	if int64(len(g.queue)) >= g.most || !g.budget.Charge(eventCost) {
		g.queue = append(g.queue, fanEvent{mask: unix.FAN_Q_OVERFLOW})
		return true
	}
	e.path.Hold()
	g.queue = append(g.queue, e)
	return true
}

// gone gives up what a queued event holds.
func (g *Fanotify) gone(e *fanEvent) {
	if e.path.Valid() {
		e.path.Release()
		g.budget.Uncharge(eventCost)
	}
}

func (g *Fanotify) size() int {
	if g.flags&unix.FAN_REPORT_PIDFD != 0 {
		return fanHead + fanPidFD
	}
	return fanHead
}

// Read implements vfs.FileOps: whole events, as many as fit, each with a new descriptor of
// its file; EINVAL if the first does not fit, EAGAIN if there is none, and what opening the
// first one's file says.
func (g *Fanotify) Read(c wait.Context, _ *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	done, size := 0, g.size()
	for {
		g.mu.Lock()
		var err error
		switch {
		case len(g.queue) == 0:
			err = unix.EAGAIN
		case size > dst.Len():
			err = unix.EINVAL
		}
		if err != nil {
			g.mu.Unlock()
			if done > 0 {
				err = nil
			}
			return done, err
		}
		e := g.queue[0]
		if g.queue = g.queue[1:]; len(g.queue) == 0 {
			g.queue = nil
		}
		g.mu.Unlock()
		err = g.report(c, dst, &e)
		g.gone(&e)
		if err != nil {
			if done > 0 {
				err = nil
			}
			return done, err
		}
		done += size
	}
}

// report copies one event out.
func (g *Fanotify) report(c wait.Context, dst *mm.IOSeq, e *fanEvent) error {
	t, ok := c.(*task.Thread)
	if !ok {
		return unix.EINVAL
	}
	fd, pidfd := int32(unix.FAN_NOFD), int32(unix.FAN_NOPIDFD)
	fds := t.FDs()
	undo := func() {
		for _, n := range []int32{fd, pidfd} {
			if f := fds.Remove(n); n >= 0 && f != nil {
				fds.Close(f)
			}
		}
	}
	cloexec := g.events&unix.O_CLOEXEC != 0
	if e.path.Valid() {
		f, err := g.ns.OpenSilently(vfs.Lookup{C: c, FS: t.FS(), Creds: t.Creds()}, e.path, g.events&^unix.O_CLOEXEC)
		if err != nil {
			return err
		}
		if fd, err = fds.Install(f, 0, cloexec); err != nil {
			f.DecRef()
			return err
		}
	}
	if p := t.Kernel().Process(e.pid); g.flags&unix.FAN_REPORT_PIDFD != 0 && p != nil && e.pid != 0 {
		f := NewPidFD(p, 0)
		n, err := fds.Install(f, 0, cloexec)
		if err != nil {
			f.DecRef()
			n = unix.FAN_EPIDFD
		}
		pidfd = n
	}
	le := binary.LittleEndian
	b := make([]byte, g.size())
	le.PutUint32(b, uint32(len(b)))
	b[4] = unix.FANOTIFY_METADATA_VERSION
	le.PutUint16(b[6:], fanHead)
	le.PutUint64(b[8:], uint64(e.mask))
	le.PutUint32(b[16:], uint32(fd))
	le.PutUint32(b[20:], uint32(e.pid))
	if len(b) > fanHead {
		b[fanHead] = unix.FAN_EVENT_INFO_TYPE_PIDFD
		le.PutUint16(b[fanHead+2:], fanPidFD)
		le.PutUint32(b[fanHead+4:], uint32(pidfd))
	}
	if _, err := dst.CopyOut(b); err != nil {
		undo()
		return err
	}
	return nil
}

// Write implements vfs.FileOps: EINVAL, as no event waits for an answer.
func (g *Fanotify) Write(wait.Context, *vfs.File, *mm.IOSeq, int64) (int, error) {
	return 0, unix.EINVAL
}

// Readiness implements waiter.Waitable.
func (g *Fanotify) Readiness(mask waiter.EventMask) waiter.EventMask {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) > 0 {
		return mask & waiter.ReadableEvents
	}
	return 0
}

// Ioctl implements vfs.FileOps: FIONREAD is the bytes that are queued, without pidfds.
func (g *Fanotify) Ioctl(c wait.Context, _ *vfs.File, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	if req != unix.TIOCINQ {
		return 0, unix.ENOTTY
	}
	g.mu.Lock()
	n := len(g.queue) * fanHead
	g.mu.Unlock()
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], uint32(n))
	_, err := sp.CopyOut(c, hal.UserAddr(arg), b[:])
	return 0, err
}

// Async implements vfs.Asyncer.
func (g *Fanotify) Async(mask waiter.EventMask) int32 { return vfs.AsyncReason(mask) }

// FDInfo implements vfs.FDInfoer.
func (g *Fanotify) FDInfo(c wait.Context, b *bytes.Buffer) {
	fmt.Fprintf(b, "fanotify flags:%x event-flags:%x\n", g.flags, g.events)
	g.mu.Lock()
	list := make(map[any]fanMark, len(g.marks))
	for o, m := range g.marks {
		list[o] = *m
	}
	g.mu.Unlock()
	for o, m := range list {
		flags := uint32(0)
		if m.survives {
			flags |= unix.FAN_MARK_IGNORED_SURV_MODIFY
		}
		if m.evictable {
			flags |= unix.FAN_MARK_EVICTABLE
		}
		switch o := o.(type) {
		case *vfs.Mount:
			fmt.Fprintf(b, "fanotify mnt_id:%x ", o.ID)
		case *vfs.Super:
			fmt.Fprintf(b, "fanotify sdev:%x ", o.Dev)
		case vfs.Inode:
			a, err := o.Attr(c)
			if err != nil {
				continue
			}
			fmt.Fprintf(b, "fanotify ino:%x sdev:%x ", a.Ino, a.Dev)
		}
		fmt.Fprintf(b, "mflags:%x mask:%x ignored_mask:%x \n", flags, m.mask, m.ignored)
	}
}

// Release implements vfs.FileOps.
func (g *Fanotify) Release(*vfs.File) {
	vfs.DropGroup(g)
	g.mu.Lock()
	g.closed = true
	for o := range g.marks {
		g.drop(o)
	}
	queue := g.queue
	g.queue = nil
	g.mu.Unlock()
	for i := range queue {
		g.gone(&queue[i])
	}
	giveBack(&users.groups, g.uid)
}
