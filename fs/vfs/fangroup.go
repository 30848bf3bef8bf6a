package vfs

import (
	"slices"

	"golang.org/x/sys/unix"

	"kiln/kernel/wait"
)

// Happening is what was done to an open file, with all that fanotify(7) tells of it.
type Happening struct {
	// Mask is IN_ACCESS, IN_MODIFY, IN_OPEN, IN_CLOSE_*, EventOpenExec, with IN_ISDIR.
	Mask uint32
	// Path is the file, by the mount that it was opened through; Parent the directory
	// that it stands in, nil for the root of a file system.
	Path   Path
	Parent Inode
	// PID and TID are whose doing it was, 0 for the kernel's.
	PID, TID int32
}

// EventOpenExec goes with IN_OPEN of a file that is opened to be executed (FAN_OPEN_EXEC).
const EventOpenExec = 0x1000

// Group is told of everything that is done to open files that have a path, and finds out
// itself what matters to it (a fanotify group). It must not block.
type Group interface{ Happened(h *Happening) }

// AddGroup makes g hear; DropGroup ends that.
func AddGroup(g Group) {
	changeGroups(1, func(l []Group) []Group { return append(slices.Clone(l), g) })
}

// DropGroup undoes AddGroup.
func DropGroup(g Group) {
	changeGroups(-1, func(l []Group) []Group {
		return slices.DeleteFunc(slices.Clone(l), func(x Group) bool { return x == g })
	})
}

func changeGroups(n int64, change func([]Group) []Group) {
	marks.mu.Lock()
	defer marks.mu.Unlock()
	var old []Group
	if p := marks.groups.Load(); p != nil {
		old = *p
	}
	l := change(old)
	marks.groups.Store(&l)
	marks.n.Add(n) // who listens to groups alone must be heard of, too
}

// doer is a context that acts for a program (task.Thread).
type doer interface {
	PID() int32
	TID() int32
}

// by notes who uses the description, while somebody listens: events say whose doing they
// are, and the last reference may be dropped where nobody knows any more.
func (f *File) by(c wait.Context) {
	if !listening() {
		return
	}
	if d, ok := c.(doer); ok {
		f.doer.Store(int64(d.PID())<<32 | int64(uint32(d.TID())))
	}
}

// tellGroups tells the groups what was done with the description.
func (f *File) tellGroups(mask uint32) {
	l := marks.groups.Load()
	if l == nil || len(*l) == 0 {
		return
	}
	who := f.doer.Load()
	h := &Happening{Mask: mask | isDirFlag(f.Path.Entry.inode), Path: f.Path, PID: int32(who >> 32), TID: int32(who)}
	if at := f.Path.Entry.loc.Load(); at.parent != nil {
		h.Parent = at.parent.inode
	}
	for _, g := range *l {
		g.Happened(h)
	}
}

// Hold keeps the node and the mount of a place in use, Release gives them up.
func (p Path) Hold() {
	p.Entry.inode.IncRef()
	p.Mount.uses.Add(1)
}

// Release undoes Hold.
func (p Path) Release() {
	p.Entry.inode.DecRef()
	forgotten(p.Entry.inode)
	p.Mount.uses.Add(-1)
}

// OpenSilently opens what stands at p, whatever its mode: nobody is told of it nor of what
// is done with the description (FMODE_NONOTIFY). EROFS, and what the file system says.
func (ns *Namespace) OpenSilently(l Lookup, p Path, flags uint32) (*File, error) {
	l.silent = true
	return ns.openAt(&l, p, flags&^unix.O_TRUNC, true)
}
