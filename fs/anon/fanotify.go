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
	"kiln/kernel/wait"
)

// Limits of fanotify, /proc/sys/fs/fanotify/*.
var (
	FanotifyGroups = limitOf(128)     // of one user
	FanotifyMarks  = limitOf(8192)    // of one user
	FanotifyEvents = limitOf(1 << 14) // queued in one group
)

// fanFlags are the bits of a mask that are not events.
const fanFlags = unix.FAN_ONDIR | unix.FAN_EVENT_ON_CHILD

// Fanotify is one group: marks on nodes, mounts and file systems, and a queue of what was
// done to them. See fanotify(7).
type Fanotify struct {
	Base
	uid           uint32
	flags, events uint32 // of fanotify_init
	most          int64
	budget        *mm.Budget
	ns            *vfs.Namespace

	unprivileged bool // made without CAP_SYS_ADMIN

	mu     sync.Mutex
	marks  map[any]*fanMark // by vfs.Inode, *vfs.Mount or *vfs.Super
	queue  []fanEvent
	asked  []*permission // read, and not answered
	closed bool
}

type fanMark struct {
	mask, ignored uint32
	// survives says that the ignored mask outlasts a change of the file; strict that it
	// has flags of its own (FAN_MARK_IGNORE); evictable what FAN_MARK_EVICTABLE says.
	survives, strict, evictable bool
}

// NewFanotify makes a group of a user's. EMFILE at the user's limit.
func NewFanotify(ns *vfs.Namespace, b *mm.Budget, who *vfs.Creds, flags, events uint32) (*vfs.File, error) {
	uid := who.EUID
	if !take(&users.groups, uid, FanotifyGroups.Load()) {
		return nil, unix.EMFILE
	}
	g := &Fanotify{uid: uid, flags: flags, events: events, most: FanotifyEvents.Load(), budget: b, ns: ns,
		unprivileged: !who.Can(vfs.CapSysAdmin), marks: map[any]*fanMark{}}
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

// fidModes are the flags of fanotify_init that ask for handles in place of descriptors.
const fidModes = unix.FAN_REPORT_FID | unix.FAN_REPORT_DIR_FID | unix.FAN_REPORT_NAME | unix.FAN_REPORT_TARGET_FID

// Class is FAN_CLASS_*, FIDMode what the group asks for of handles.
func (g *Fanotify) Class() uint32   { return g.flags & unix.FAN_ALL_CLASS_BITS }
func (g *Fanotify) FIDMode() uint32 { return g.flags & fidModes }

// Unprivileged says that the group was made without CAP_SYS_ADMIN.
func (g *Fanotify) Unprivileged() bool { return g.unprivileged }

// Rank implements vfs.Group: those that may change the file come first.
func (g *Fanotify) Rank() int { return int(g.Class()) }

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

// Readiness implements waiter.Waitable.
func (g *Fanotify) Readiness(mask waiter.EventMask) waiter.EventMask {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) > 0 {
		return mask & waiter.ReadableEvents
	}
	return 0
}

// Ioctl implements vfs.FileOps: FIONREAD is the bytes that are queued.
func (g *Fanotify) Ioctl(c wait.Context, _ *vfs.File, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	if req != unix.TIOCINQ {
		return 0, unix.ENOTTY
	}
	g.mu.Lock()
	n := 0
	for i := range g.queue {
		n += g.size(&g.queue[i])
	}
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

// Gone implements vfs.Group: the marks on what is no more go.
func (g *Fanotify) Gone(i vfs.Inode, m *vfs.Mount, s *vfs.Super) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for o := range g.marks {
		gone := false
		switch o := o.(type) {
		case *vfs.Mount:
			gone = o == m || s != nil && o.Super == s
		case *vfs.Super:
			gone = o == s
		case vfs.Inode:
			if gone = o == i; s != nil {
				a, err := o.Attr(nil)
				gone = err == nil && a.Dev == s.Dev
			}
		}
		if gone {
			g.drop(o)
		}
	}
}

// Release implements vfs.FileOps: whoever waits for an answer may go on.
func (g *Fanotify) Release(*vfs.File) {
	vfs.DropGroup(g)
	g.mu.Lock()
	g.closed = true
	for o := range g.marks {
		g.drop(o)
	}
	queue, asked := g.queue, g.asked
	g.queue, g.asked = nil, nil
	for i := range queue {
		if p := queue[i].ask; p != nil {
			asked = append(asked, p)
		}
	}
	for _, p := range asked {
		g.end(p, false)
	}
	g.mu.Unlock()
	for i := range queue {
		g.gone(&queue[i])
	}
	for _, p := range asked {
		p.q.Notify(waiter.EventIn)
	}
	giveBack(&users.groups, g.uid)
}
