package vfs

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/kernel/wait"
)

// Event is something that happened to a node, in the terms of inotify(7).
type Event struct {
	// Mask is one of the IN_* events, with IN_ISDIR where a directory is its subject.
	Mask uint32
	// Cookie joins the two halves of a rename; 0 for others.
	Cookie uint32
	// Name is the entry of the marked directory that the event is about; "" for what
	// happened to the marked node itself.
	Name string
	// Unlinked says that the entry has lost its name (IN_EXCL_UNLINK).
	Unlinked bool
}

// Listener is told of the events on the nodes it has marked (inotify instances). Marked is
// called without locks of this package but for Super.modify, and must not block.
type Listener interface {
	Marked(m *Mark, e *Event)
}

// Mark is one listener's interest in one node. It keeps the node, not its bytes: an
// unlinked file's pages go although it is marked.
type Mark struct {
	Inode    Inode
	Listener Listener
	// ID is the listener's own (a watch descriptor).
	ID int32
	// Mask is the events that are wanted and the listener's flags.
	Mask atomic.Uint32
}

// marks are those of all nodes; few programs have any, and then few.
var marks struct {
	// n counts marks and groups, so that whoever would tell of an event can skip the rest.
	n      atomic.Int64
	cookie atomic.Uint32
	mu     sync.RWMutex
	m      map[Inode][]*Mark
	groups atomic.Pointer[[]Group] // nil or empty: none
}

// markAlways is what every mark hears of: its node's end ends the listener's interest.
const markAlways = unix.IN_DELETE_SELF | unix.IN_UNMOUNT

// AddMark makes m known; m.Inode and m.Listener must be set. A node has one mark of a
// listener at most, which is the listener's business.
func AddMark(m *Mark) {
	t := &marks
	t.mu.Lock()
	if t.m == nil {
		t.m = map[Inode][]*Mark{}
	}
	t.m[m.Inode] = append(t.m[m.Inode], m)
	t.n.Add(1)
	t.mu.Unlock()
}

// DropMark takes m away; false if that was done before.
func DropMark(m *Mark) bool {
	t := &marks
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.m[m.Inode]
	for i, x := range l {
		if x != m {
			continue
		}
		// A new list: somebody may be going through the old one.
		if l = append(append([]*Mark(nil), l[:i]...), l[i+1:]...); len(l) == 0 {
			delete(t.m, m.Inode)
		} else {
			t.m[m.Inode] = l
		}
		t.n.Add(-1)
		return true
	}
	return false
}

// listening says whether any event can matter to anybody.
func listening() bool { return marks.n.Load() != 0 }

// tell hands e to the marks of i that want it.
func tell(i Inode, e *Event) {
	t := &marks
	t.mu.RLock()
	l := t.m[i]
	t.mu.RUnlock()
	for _, m := range l {
		if e.Mask&(m.Mask.Load()|markAlways)&^unix.IN_ISDIR != 0 {
			m.Listener.Marked(m, e)
		}
	}
}

func isDirFlag(i Inode) uint32 {
	if isDir(i) {
		return unix.IN_ISDIR
	}
	return 0
}

// tellInode tells of what happened to a node, whatever its names (fsnotify_inode); by did it.
func tellInode(by any, s *Super, i Inode, mask uint32) {
	if listening() && i != nil {
		tell(i, &Event{Mask: mask | isDirFlag(i)})
		tellGroups(by, Happening{Mask: mask, Inode: i, Super: s})
	}
}

// tellName tells a directory of what happened to an entry (fsnotify_name). about is the
// entry's node.
func tellName(by any, dir *Dentry, about Inode, name string, mask, cookie uint32) {
	if listening() {
		tell(dir.inode, &Event{Mask: mask | isDirFlag(about), Cookie: cookie, Name: name})
		tellGroups(by, Happening{Mask: mask, Inode: about, Dir: dir.inode, Name: name, OfDir: true, Super: dir.super})
	}
}

// tellDentry tells the directory that d is in, and the node itself (fsnotify_dentry).
func tellDentry(by any, d *Dentry, mask uint32) {
	if d == nil || d.inode == nil || !listening() {
		return
	}
	tellMarks(d, mask)
	tellGroups(by, d.at(mask))
}

// tellMarks is tellDentry without the groups.
func tellMarks(d *Dentry, mask uint32) {
	mask |= isDirFlag(d.inode)
	if l := d.loc.Load(); l.parent != nil {
		tell(l.parent.inode, &Event{Mask: mask, Name: l.name, Unlinked: l.gone})
	}
	tell(d.inode, &Event{Mask: mask})
}

// told is tellDentry for what by did to a file with a description of it.
func (f *File) told(by any, mask uint32) {
	if !listening() || !f.Path.Valid() || f.silent {
		return
	}
	tellMarks(f.Path.Entry, mask&^unix.FAN_OPEN_EXEC)
	if len(groups()) > 0 {
		h := f.Path.Entry.at(mask)
		h.Path = f.Path
		tellGroups(by, h)
	}
}

// Accessed tells that bytes of f were read. Those of a FIFO are nobody's business.
func (f *File) Accessed(c wait.Context) { f.moved(c, unix.IN_ACCESS) }

// Modified is Accessed for writes.
func (f *File) Modified(c wait.Context) { f.moved(c, unix.IN_MODIFY) }

func (f *File) moved(c wait.Context, mask uint32) {
	if listening() && f.Path.Valid() && f.Path.Entry.kind != unix.S_IFIFO {
		f.usedBy(c)
		f.told(c, mask)
	}
}

// closed tells that a description is gone.
func (f *File) closed() {
	by := f.lastDoer()
	switch {
	case f.flags.Load()&unix.O_PATH != 0:
	case f.Writable():
		f.told(by, unix.IN_CLOSE_WRITE)
	default:
		f.told(by, unix.IN_CLOSE_NOWRITE)
	}
}

// events are what a change of attributes is called (fsnotify_change).
func (a *SetAttr) events() uint32 {
	m := uint32(0)
	if a.SetUID || a.SetGID || a.SetMode || a.SetAtime && a.SetMtime {
		m |= unix.IN_ATTRIB
	} else if a.SetAtime {
		m |= unix.IN_ACCESS
	} else if a.SetMtime {
		m |= unix.IN_MODIFY
	}
	if a.SetSize {
		m |= unix.IN_MODIFY
	}
	return m
}

// Attributed tells that an extended attribute of what stands at p has changed.
func (p Path) Attributed(c wait.Context) {
	if p.Valid() {
		tellDentry(c, p.Entry, unix.IN_ATTRIB)
	}
}

// Forgettable is an Inode that knows when nothing leads to it any more: no name, no open
// file.
type Forgettable interface{ Forgotten() bool }

// forgotten tells the marks of a node that has gone for good, if it has.
func forgotten(by any, s *Super, i Inode) {
	if !listening() || i == nil {
		return
	}
	if f, ok := i.(Forgettable); ok && f.Forgotten() {
		tellInode(by, s, i, unix.IN_DELETE_SELF)
		nodeGone(i)
	}
}

// tellRemoved tells of a name that is gone (vfs_unlink, vfs_rmdir).
func tellRemoved(by any, dir *Dentry, victim Inode, name string) {
	if !listening() {
		return
	}
	if !isDir(victim) {
		tellInode(by, dir.super, victim, unix.IN_ATTRIB)
	}
	forgotten(by, dir.super, victim)
	tellName(by, dir, victim, name, unix.IN_DELETE, 0)
}

// tellMoved tells of a rename (fsnotify_move); over is what it replaced, or nil.
func tellMoved(by any, src Inode, from *Dentry, oldName string, to *Dentry, newName string, over Inode) {
	if !listening() {
		return
	}
	cookie := marks.cookie.Add(1)
	tellGroups(by, Happening{Mask: unix.FAN_RENAME, Inode: src, Dir: from.inode, Name: oldName, OfDir: true,
		NewDir: to.inode, NewName: newName, Super: from.super})
	tellName(by, from, src, oldName, unix.IN_MOVED_FROM, cookie)
	tellName(by, to, src, newName, unix.IN_MOVED_TO, cookie)
	if over != nil {
		tellInode(by, to.super, over, unix.IN_ATTRIB)
	}
	tellInode(by, from.super, src, unix.IN_MOVE_SELF)
	forgotten(by, to.super, over)
}

// tellUnmounted tells the marks on nodes of a file system that is being unmounted.
func tellUnmounted(s *Super) {
	if !listening() {
		return
	}
	superGone(s)
	var of []*Mark
	marks.mu.RLock()
	for i, l := range marks.m {
		if a, err := i.Attr(nil); err == nil && a.Dev == s.Dev {
			of = append(of, l...)
		}
	}
	marks.mu.RUnlock()
	for _, m := range of {
		m.Listener.Marked(m, &Event{Mask: unix.IN_UNMOUNT | isDirFlag(m.Inode)})
	}
}
