package vfs

import (
	"slices"

	"golang.org/x/sys/unix"

	"kiln/kernel/wait"
)

// Happening is what was done to a file or to an entry of a directory, with all that
// fanotify(7) tells of it.
type Happening struct {
	// Mask is FAN_*, with FAN_ONDIR where a directory is its subject.
	Mask uint32
	// Path is the open file that something was done with, by the mount that it was opened
	// through; the zero Path for what is not done by a descriptor.
	Path Path
	// Inode is what it is about. Dir and Name are the entry that it stands at or, with OfDir,
	// that was made, removed or moved: then Dir is whose event it is. Dir is nil for the root
	// of a file system and for what happens to a node whatever its names.
	Inode, Dir Inode
	Name       string
	OfDir      bool
	// NewDir and NewName are where it is after a rename (FAN_RENAME).
	NewDir  Inode
	NewName string
	Super   *Super
	// PID and TID are whose doing it was, 0 for the kernel's.
	PID, TID int32
}

// Group is told of everything that is done to files, and finds out itself what matters to
// it (a fanotify group).
type Group interface {
	// Happened tells of h. It is called with Super.modify held, and must not block.
	Happened(h *Happening)
	// Permit asks whether h may be done, without locks, and waits for the answer: EPERM, or
	// an error of the wait.
	Permit(c wait.Context, h *Happening) error
	// Rank says in which order groups are asked, the highest first.
	Rank() int
	// Gone says that a node is no more, or with nil a mount or a file system.
	Gone(i Inode, m *Mount, s *Super)
}

// AddGroup makes g hear; DropGroup ends that.
func AddGroup(g Group) {
	changeGroups(1, func(l []Group) []Group {
		l = append(slices.Clone(l), g)
		slices.SortStableFunc(l, func(a, b Group) int { return b.Rank() - a.Rank() })
		return l
	})
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
	l := change(groups())
	marks.groups.Store(&l)
	marks.n.Add(n) // who listens to groups alone must be heard of, too
}

func groups() []Group {
	if p := marks.groups.Load(); p != nil {
		return *p
	}
	return nil
}

// doer is a context that acts for a program (task.Thread), or the memory of one.
type doer interface {
	PID() int32
	TID() int32
}

// lastDoer is who used a description last, as far as that was noted.
type lastDoer struct{ pid, tid int32 }

func (d lastDoer) PID() int32 { return d.pid }
func (d lastDoer) TID() int32 { return d.tid }

func (f *File) lastDoer() lastDoer { return lastDoer{f.pid.Load(), f.tid.Load()} }

// UsedBy notes who is about to let go of the description, while somebody listens: the last
// reference may be dropped where nobody knows any more.
func (f *File) UsedBy(c wait.Context) {
	if listening() {
		f.usedBy(c)
	}
}

func (f *File) usedBy(c wait.Context) {
	if d, ok := c.(doer); ok {
		f.pid.Store(d.PID())
		f.tid.Store(d.TID())
	}
}

// tellGroups tells the groups of h, which by (a doer, or nobody who can be named) did.
func tellGroups(by any, h Happening) {
	for _, g := range groups() {
		g.Happened(h.of(by))
	}
}

// of fills in what follows from the rest.
func (h *Happening) of(by any) *Happening {
	if d, ok := by.(doer); ok {
		h.PID, h.TID = d.PID(), d.TID()
	}
	h.Mask |= isDirFlag(h.Inode)
	return h
}

// at is something that is done to what stands at d.
func (d *Dentry) at(mask uint32) Happening {
	h := Happening{Mask: mask, Inode: d.inode, Super: d.super}
	if l := d.loc.Load(); l.parent != nil {
		h.Dir, h.Name = l.parent.inode, l.name
	}
	return h
}

// permission asks the groups that want to be asked whether f may be used; mask is
// FAN_OPEN_PERM, FAN_OPEN_EXEC_PERM or FAN_ACCESS_PERM. EPERM.
func (f *File) permission(c wait.Context, mask uint32) error {
	l := groups()
	if len(l) == 0 || f.silent || !f.Path.Valid() {
		return nil
	}
	if _, ok := c.(doer); !ok {
		return nil // the kernel's own
	}
	h := f.Path.Entry.at(mask)
	h.Path = f.Path
	h.of(c)
	for _, g := range l {
		if err := g.Permit(c, &h); err != nil {
			return err
		}
	}
	return nil
}

// nodeGone, mountGone and superGone tell the groups of an end.
func nodeGone(i Inode) {
	for _, g := range groups() {
		g.Gone(i, nil, nil)
	}
}

func mountGone(m *Mount) {
	for _, g := range groups() {
		g.Gone(nil, m, nil)
	}
}

func superGone(s *Super) {
	for _, g := range groups() {
		g.Gone(nil, nil, s)
	}
}

// Hold keeps the node and the mount of a place in use, Release gives them up.
func (p Path) Hold() {
	p.Entry.inode.IncRef()
	p.Mount.uses.Add(1)
}

// Release undoes Hold.
func (p Path) Release() {
	p.drop(nil)
	p.Mount.uses.Add(-1)
}

// OpenSilently opens what stands at p, whatever its mode: nobody is told of it nor of what
// is done with the description (FMODE_NONOTIFY). EROFS, and what the file system says.
func (ns *Namespace) OpenSilently(l Lookup, p Path, flags uint32) (*File, error) {
	l.silent = true
	if !p.grab() {
		return nil, unix.ENOENT
	}
	return ns.openHeld(&l, p, flags&^unix.O_TRUNC)
}
