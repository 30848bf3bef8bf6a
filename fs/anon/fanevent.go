package anon

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

// Sizes of struct fanotify_event_metadata, of the record with a pidfd behind it, and of
// struct fanotify_event_info_fid with the head of its struct file_handle.
const (
	fanHead    = 24
	fanPidFD   = 8
	fanFIDHead = 20
)

// mergeDepth is how far back in the queue an event is looked for that a new one can be
// added to (FANOTIFY_MAX_MERGE_EVENTS).
const mergeDepth = 128

// fanReported are the bits of a mask that a program sees, beside FAN_ONDIR.
const fanReported = fanDirent | fanPerms | unix.FAN_ACCESS | unix.FAN_MODIFY | unix.FAN_CLOSE | unix.FAN_OPEN | unix.FAN_OPEN_EXEC |
	unix.FAN_ATTRIB | unix.FAN_MOVE_SELF | unix.FAN_DELETE_SELF | unix.FAN_FS_ERROR

// fanDirent are the events of entries, fanPerms those that wait for an answer.
const (
	fanDirent = unix.FAN_CREATE | unix.FAN_DELETE | unix.FAN_MOVE | unix.FAN_RENAME
	fanPerms  = unix.FAN_OPEN_PERM | unix.FAN_ACCESS_PERM | unix.FAN_OPEN_EXEC_PERM
)

// fanEvent is one event. The overflow has nothing but its mask.
type fanEvent struct {
	fanSubject
	mask uint32
	ask  *permission // of an event that waits for an answer
}

// fanSubject is what an event is about: those of one subject are merged.
type fanSubject struct {
	// path is the file in a group whose events have descriptors.
	path vfs.Path
	// The handles (vfs.Exporter) in the others: of the node, of the directory that it
	// stands in, and of where a rename put it; "" for what is not reported.
	node, dir, newDir string
	name, newName     string
	fsid              uint64
	pid               int32
	onDir, rename     bool
}

// cost is what the budget has for the event; an overflow's is nothing, so that it can
// always be said.
func (e *fanEvent) cost() int64 {
	if e.mask == unix.FAN_Q_OVERFLOW {
		return 0
	}
	return eventCost + int64(len(e.node)+len(e.dir)+len(e.newDir)+len(e.name)+len(e.newName))
}

// Marks by what they are on, as bits: which of a group's want an event.
const (
	onNode = 1 << iota
	onNewDir
	onSuper
	onOther
)

// wanted are the events of h that the group's marks ask for, and which marks (on…) they are.
// What a change makes forgotten is forgotten. Called with mu held.
func (g *Fanotify) wanted(h *vfs.Happening) (mask uint32, by int) {
	dir := h.Mask&unix.FAN_ONDIR != 0
	var want, ignored uint32
	see := func(o any, kind int, child bool) {
		m := g.marks[o]
		if m == nil || child && m.mask&unix.FAN_EVENT_ON_CHILD == 0 && m.ignored == 0 {
			return
		}
		if h.Mask&unix.FAN_MODIFY != 0 && !m.survives {
			m.ignored = 0
		}
		ignored |= m.ignores(dir, child)
		if dir && m.mask&unix.FAN_ONDIR == 0 || child && m.mask&unix.FAN_EVENT_ON_CHILD == 0 {
			return
		}
		want |= m.mask
		by |= kind
	}
	switch {
	case h.OfDir:
		see(h.Dir, onNode, false)
		if h.NewDir != nil {
			see(h.NewDir, onNewDir, false)
		}
	default:
		see(h.Inode, onNode, false)
		if h.Dir != nil {
			see(h.Dir, onOther, true)
		}
	}
	if h.Path.Valid() {
		see(h.Path.Mount, onOther, false)
	}
	see(h.Super, onSuper, false)
	return h.Mask & want &^ ignored & (fanReported | unix.FAN_ONDIR), by
}

// concerns says whether the group can report what h is about.
func (g *Fanotify) concerns(h *vfs.Happening) bool {
	switch fid := g.FIDMode(); {
	case fid == 0:
		if !h.Path.Valid() {
			return false
		}
		kind := h.Path.Entry.Kind()
		return kind == unix.S_IFREG || kind == unix.S_IFDIR
	case fid&unix.FAN_REPORT_FID == 0:
		return h.Dir != nil || h.Mask&unix.FAN_ONDIR != 0
	}
	return true
}

// event is what the group makes of h; false if that is nothing. Called with mu held.
func (g *Fanotify) event(h *vfs.Happening) (e fanEvent, ok bool) {
	mask, by := g.wanted(h)
	if g.closed || mask&fanReported == 0 || !g.concerns(h) {
		return e, false
	}
	e = fanEvent{mask: mask}
	e.pid = h.PID
	if g.flags&unix.FAN_REPORT_TID != 0 {
		e.pid = h.TID
	}
	if g.FIDMode() == 0 {
		e.path, e.mask = h.Path, mask&^unix.FAN_ONDIR
		return e, true
	}
	e.onDir, e.rename = mask&unix.FAN_ONDIR != 0, mask&unix.FAN_RENAME != 0
	e.fsid = h.Super.Dev
	return e, g.describe(&e, h, by)
}

// describe fills in handles and names as the group's flags ask (fanotify_alloc_event).
func (g *Fanotify) describe(e *fanEvent, h *vfs.Happening, by int) bool {
	fid := g.FIDMode()
	of := func(i vfs.Inode) string { return string(h.Super.Handle(i)) }
	target := h.OfDir && fid&unix.FAN_REPORT_TARGET_FID != 0
	node := h.Inode
	if h.OfDir && !target {
		node = h.Dir
	}
	dir := h.Dir
	if !h.OfDir && h.Mask&unix.FAN_ONDIR != 0 {
		dir = h.Inode
	}
	if fid&unix.FAN_REPORT_DIR_FID == 0 || dir == nil {
		e.node = of(node)
		return e.node != ""
	}
	var child vfs.Inode
	if (target || !h.OfDir && fid&unix.FAN_REPORT_FID != 0 && !e.onDir) && node != dir {
		child = node
	}
	named := fid&unix.FAN_REPORT_NAME != 0 && (h.OfDir || !e.onDir) && h.Name != ""
	switch {
	case e.rename:
		if by&(onNode|onSuper) != 0 {
			e.dir, e.name = of(dir), h.Name
		}
		if by&(onNewDir|onSuper) != 0 {
			e.newDir, e.newName = of(h.NewDir), h.NewName
		}
	case named:
		e.dir, e.name = of(dir), h.Name
	case child != nil:
		e.dir = of(dir)
	default:
		e.node = of(dir)
	}
	if child != nil {
		e.node = of(child)
	}
	return e.node != "" || e.dir != "" || e.newDir != ""
}

// Happened implements vfs.Group.
func (g *Fanotify) Happened(h *vfs.Happening) {
	g.mu.Lock()
	e, ok := g.event(h)
	ok = ok && g.push(&e)
	g.mu.Unlock()
	if ok {
		g.Q.Notify(waiter.EventIn)
	}
}

// push queues an event, or adds it to one about the same; an overflow in its place if there
// is no room. False if the queue says that already. Called with mu held.
func (g *Fanotify) push(e *fanEvent) bool {
	for i := len(g.queue) - 1; i >= max(0, len(g.queue)-mergeDepth) && e.ask == nil; i-- {
		if o := &g.queue[i]; o.ask == nil && o.mask != unix.FAN_Q_OVERFLOW && o.fanSubject == e.fanSubject {
			o.mask |= e.mask
			return true
		}
	}
	if n := len(g.queue); n > 0 && g.queue[n-1].mask == unix.FAN_Q_OVERFLOW {
		return false
	}
	if int64(len(g.queue)) >= g.most || !g.budget.Charge(e.cost()) {
		g.queue = append(g.queue, fanEvent{mask: unix.FAN_Q_OVERFLOW})
		return true
	}
	if e.path.Valid() {
		e.path.Hold()
	}
	g.queue = append(g.queue, *e)
	return true
}

// gone gives up what a queued event holds; the cost of a permission is given back by who
// asked for it.
func (g *Fanotify) gone(e *fanEvent) {
	if e.path.Valid() {
		e.path.Release()
	}
	if e.ask == nil {
		g.budget.Uncharge(e.cost())
	}
}

// Read implements vfs.FileOps: whole events, as many as fit, each with a new descriptor of
// its file or with handles; EINVAL if the first does not fit, EAGAIN if there is none, and
// what opening the first one's file says. Who waits for an event's answer has it when the
// event cannot be read: FAN_DENY.
func (g *Fanotify) Read(c wait.Context, _ *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	t, ok := c.(*task.Thread)
	if !ok {
		return 0, unix.EINVAL
	}
	done := 0
	for {
		e, err := g.take(dst.Len())
		n := 0
		if err == nil {
			if n, err = g.report(t, dst, &e); err != nil && e.ask != nil {
				g.answer(e.ask, true)
			}
			g.gone(&e)
		}
		if err != nil {
			if done > 0 && err != unix.EFAULT {
				err = nil
			}
			return done, err
		}
		done += n
	}
}

// take takes the first event off the queue: EAGAIN, EINVAL if it takes more room.
func (g *Fanotify) take(room int) (e fanEvent, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) == 0 {
		return e, unix.EAGAIN
	}
	e = g.queue[0]
	if g.size(&e) > room {
		return fanEvent{}, unix.EINVAL
	}
	g.queue[0] = fanEvent{}
	if g.queue = g.queue[1:]; len(g.queue) == 0 {
		g.queue = nil
	}
	if e.ask != nil {
		e.ask.state = permReported
	}
	return e, nil
}

// handles are the records of an event's handles in their order.
func (g *Fanotify) handles(e *fanEvent, emit func(kind uint8, handle, name string)) {
	fid := g.FIDMode()
	first := true
	if e.dir != "" {
		kind := uint8(unix.FAN_EVENT_INFO_TYPE_DFID)
		switch {
		case e.rename:
			kind = unix.FAN_EVENT_INFO_TYPE_OLD_DFID_NAME
		case e.name != "":
			kind = unix.FAN_EVENT_INFO_TYPE_DFID_NAME
		}
		emit(kind, e.dir, e.name)
		first = false
	}
	if e.newDir != "" {
		emit(unix.FAN_EVENT_INFO_TYPE_NEW_DFID_NAME, e.newDir, e.newName)
		first = false
	}
	if e.node == "" {
		return
	}
	switch {
	case fid == unix.FAN_REPORT_FID || !first:
		emit(unix.FAN_EVENT_INFO_TYPE_FID, e.node, "")
	case fid&unix.FAN_REPORT_NAME != 0 && e.onDir:
		emit(unix.FAN_EVENT_INFO_TYPE_DFID_NAME, e.node, ".")
	case e.mask&fanDirent != 0 || e.onDir:
		emit(unix.FAN_EVENT_INFO_TYPE_DFID, e.node, "")
	default:
		emit(unix.FAN_EVENT_INFO_TYPE_FID, e.node, "")
	}
}

// fidSize is the length of a record with a handle, a multiple of 4.
func fidSize(handle, name string) int {
	n := fanFIDHead + len(handle)
	if name != "" {
		n += len(name) + 1
	}
	return (n + 3) &^ 3
}

func (g *Fanotify) size(e *fanEvent) int {
	n := fanHead
	g.handles(e, func(_ uint8, handle, name string) { n += fidSize(handle, name) })
	if g.flags&unix.FAN_REPORT_PIDFD != 0 {
		n += fanPidFD
	}
	return n
}

// report copies one event out, with the descriptors that it brings, and returns its length.
func (g *Fanotify) report(t *task.Thread, dst *mm.IOSeq, e *fanEvent) (int, error) {
	fd, pidfd := int32(unix.FAN_NOFD), int32(unix.FAN_NOPIDFD)
	fds := t.FDs()
	cloexec := g.events&unix.O_CLOEXEC != 0
	if e.path.Valid() {
		f, err := g.ns.OpenSilently(vfs.Lookup{C: t, FS: t.FS(), Creds: t.Creds()}, e.path, g.events&^unix.O_CLOEXEC)
		if err != nil {
			return 0, err
		}
		if fd, err = fds.Install(f, 0, cloexec); err != nil {
			f.DecRef()
			return 0, err
		}
	}
	pid := e.pid
	if g.unprivileged && pid != t.PID() {
		pid = 0
	}
	if g.flags&unix.FAN_REPORT_PIDFD != 0 && pid != 0 {
		if p := t.Kernel().Process(pid); p != nil {
			pidfd = unix.FAN_EPIDFD
			if f, err := NewPidFD(p, 0); err == nil {
				if n, err := fds.Install(f, 0, cloexec); err == nil {
					pidfd = n
				} else {
					f.DecRef()
				}
			}
		}
	}
	b := g.encode(e, fd, pid, pidfd)
	if e.ask != nil {
		g.reported(e.ask, fd)
	}
	if _, err := dst.CopyOut(b); err != nil {
		for _, n := range [...]int32{fd, pidfd} {
			if n >= 0 {
				if f := fds.Remove(n); f != nil {
					fds.Close(f)
				}
			}
		}
		return 0, err
	}
	return len(b), nil
}

// encode is struct fanotify_event_metadata with the records behind it.
func (g *Fanotify) encode(e *fanEvent, fd, pid, pidfd int32) []byte {
	le := binary.LittleEndian
	b := make([]byte, fanHead, g.size(e))
	le.PutUint32(b, uint32(cap(b)))
	b[4] = unix.FANOTIFY_METADATA_VERSION
	le.PutUint16(b[6:], fanHead)
	le.PutUint64(b[8:], uint64(e.mask))
	le.PutUint32(b[16:], uint32(fd))
	le.PutUint32(b[20:], uint32(pid))
	g.handles(e, func(kind uint8, handle, name string) {
		at, n := len(b), fidSize(handle, name)
		b = append(b, kind, 0, byte(n), byte(n>>8))
		b = le.AppendUint64(b, e.fsid)
		b = le.AppendUint32(b, uint32(len(handle)))
		b = le.AppendUint32(b, vfs.HandleType)
		b = append(append(b, handle...), name...)
		b = b[:at+n] // zeros: the end of the name, and to a multiple of 4
	})
	if g.flags&unix.FAN_REPORT_PIDFD != 0 {
		b = append(b, unix.FAN_EVENT_INFO_TYPE_PIDFD, 0, fanPidFD, 0)
		b = le.AppendUint32(b, uint32(pidfd))
	}
	return b
}
