// Package overlay makes an immutable tree writable: what programs change lives in a
// tmpfs over it.
//
//	root := overlay.New(upper, lower)     // *tmpfs.FS over an erofs
//	ns := vfs.NewNamespace(root, "root", 0)
//
// A node shows its upper half if it has one, else its lower. The first change copies a
// file up (its directories first). Unlike Linux, nothing of this has to survive a reboot,
// so the state is in Go and not in the upper tree: a directory keeps the set of lower
// names that are hidden (whiteouts), and a node keeps its lower half when it is renamed,
// so renaming a directory of the image works. The invariant behind readdir: a name that
// is in the lower directory and not hidden leads to that lower node, copied up or not.
//
// Overlay nodes hang on the Slot of the node below them (upper if there is one), so they
// live as long as it does. Files with several names in the image have a node for each
// name; a copy-up parts them, as in Linux.
//
// Locks: Super.modify (vfs) < Inode.up of a parent < Inode.up of a child < tmpfs, erofs;
// Inode.mu is a leaf.
package overlay

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/fs/tmpfs"
	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// superMagic is OVERLAYFS_SUPER_MAGIC.
const superMagic = 0x794c7630

// upperIno is added to the upper nodes' numbers, which would meet the image's.
const upperIno = 1 << 41

// FS is one overlay.
type FS struct {
	upper *tmpfs.FS
	lower vfs.FileSystem
	dev   uint64
	root  *Inode
}

// New stacks upper, which must be empty, over lower, whose inodes must be vfs.Slotted.
func New(upper *tmpfs.FS, lower vfs.FileSystem) *FS {
	upper.UserXattrs = true
	fs := &FS{upper: upper, lower: lower, dev: vfs.AllocDev()}
	low := lower.Root().(vfs.Slotted)
	up := upper.Root().(*tmpfs.Inode)
	fs.root = &Inode{fs: fs, kind: unix.S_IFDIR, lower: low}
	fs.root.upper.Store(up)
	fs.root.ino = inoOf(low)
	copyAttr(nil, low, up)
	return fs
}

// Root, Type, Options, Sync and Statfs implement vfs.FileSystem.
func (fs *FS) Root() vfs.Inode         { return fs.root }
func (fs *FS) Type() string            { return "overlay" }
func (fs *FS) Options() string         { return "" }
func (fs *FS) Sync(wait.Context) error { return nil }

// Statfs implements vfs.FileSystem: the room is the upper's.
func (fs *FS) Statfs(c wait.Context) (vfs.Statfs, error) {
	s, err := fs.upper.Statfs(c)
	s.Type = superMagic
	return s, err
}

// Inode is one node.
type Inode struct {
	vfs.WriteAccess
	fs    *FS
	kind  uint32
	ino   uint64
	lower vfs.Slotted      // nil: made here
	file  vfs.RegularInode // lower, if it is a regular file
	upper atomic.Pointer[tmpfs.Inode]
	up    vfs.SleepLock // copy-up
	ops   vfs.RegularOps

	mu     sync.Mutex
	parent *Inode // where copy-up puts it, with name
	name   string
	gone   atomic.Bool // unlinked before it was copied up
	opens  int
	hidden map[string]struct{} // lower names that are not there any more
}

func inoOf(i vfs.Inode) uint64 {
	a, _ := i.Attr(nil)
	return a.Ino
}

// fromUpper is the node of an upper one.
func (fs *FS) fromUpper(u *tmpfs.Inode) *Inode {
	return u.Slot().Get(func() any {
		i := &Inode{fs: fs, kind: u.Type(), ino: u.Ino() + upperIno}
		i.ops.I = i
		i.upper.Store(u)
		return i
	}).(*Inode)
}

// fromLower is the node of a lower one that d has under name.
func (fs *FS) fromLower(c wait.Context, l vfs.Slotted, d *Inode, name string) (*Inode, error) {
	a, err := l.Attr(c)
	if err != nil {
		return nil, err
	}
	make := func() any {
		i := &Inode{fs: fs, kind: a.Mode & unix.S_IFMT, ino: a.Ino, lower: l, parent: d, name: name}
		i.file, _ = l.(vfs.RegularInode)
		i.ops.I = i
		return i
	}
	if a.Nlink > 1 && a.Mode&unix.S_IFMT != unix.S_IFDIR {
		return make().(*Inode), nil
	}
	return l.Slot().Get(make).(*Inode), nil
}

// real is the half that is shown.
func (i *Inode) real() vfs.Inode {
	if u := i.upper.Load(); u != nil {
		return u
	}
	return i.lower
}

// Type is the S_IFMT bits.
func (i *Inode) Type() uint32 { return i.kind }

// Attr implements vfs.Inode.
func (i *Inode) Attr(c wait.Context) (vfs.Attr, error) {
	a, err := i.real().Attr(c)
	a.Dev, a.Ino = i.fs.dev, i.ino
	switch merged := i.upper.Load() != nil; {
	case !merged && i.gone.Load():
		a.Nlink = 0
	case merged && i.lower != nil && i.kind == unix.S_IFDIR && a.Nlink > 0:
		// The upper half counts only what it has itself of the subdirectories that show; a
		// number that cannot be theirs is not taken for it (ovl_getattr).
		a.Nlink = 1
	}
	return a, err
}

// SetAttr implements vfs.Inode: a request that is not allowed copies nothing.
func (i *Inode) SetAttr(c wait.Context, a vfs.SetAttr) error {
	if i.upper.Load() == nil {
		cur, err := i.Attr(c)
		if err != nil {
			return err
		}
		try := a
		if err := vfs.CheckSetAttr(&cur, &try); err != nil {
			return err
		}
		size := cur.Size
		if a.SetSize {
			if i.kind != unix.S_IFREG {
				return unix.EINVAL
			}
			size = min(size, a.Size)
		}
		if err := i.copyUp(c, size); err != nil {
			return err
		}
	}
	return i.upper.Load().SetAttr(c, a)
}

// IncRef and DecRef count open files; the upper half knows only whether there are any.
func (i *Inode) IncRef() {
	i.mu.Lock()
	i.opens++
	if u := i.upper.Load(); u != nil && i.opens == 1 {
		u.IncRef()
	}
	i.mu.Unlock()
}

// DecRef drops one.
func (i *Inode) DecRef() {
	i.mu.Lock()
	i.opens--
	if u := i.upper.Load(); u != nil && i.opens == 0 {
		u.DecRef()
	}
	i.mu.Unlock()
}

// Forgotten implements vfs.Forgettable.
func (i *Inode) Forgotten() bool {
	if u := i.upper.Load(); u != nil {
		return u.Forgotten()
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.gone.Load() && i.opens == 0
}

// Data and Touched implement vfs.RegularInode. A file that is open for reading shows the
// upper bytes once it is copied up.
func (i *Inode) Data() *mm.Object {
	if u := i.upper.Load(); u != nil {
		return u.Data()
	}
	return i.file.Data()
}

// Touched implements vfs.RegularInode.
func (i *Inode) Touched(write bool) {
	if u := i.upper.Load(); u != nil {
		u.Touched(write)
	}
}

// Privileged implements vfs.RegularInode: what is written is the upper half.
func (i *Inode) Privileged() bool {
	u := i.upper.Load()
	return u != nil && u.Privileged()
}

// OpenFile implements vfs.FileOpener.
func (i *Inode) OpenFile(l vfs.Lookup, flags uint32) (vfs.FileOps, error) {
	switch i.kind {
	case unix.S_IFCHR, unix.S_IFBLK:
		a, err := i.real().Attr(l.C)
		if err != nil {
			return nil, err
		}
		return vfs.OpenDevice(l, i, i.kind, a.Rdev, flags)
	}
	return i.Open(l.C, flags)
}

// Open implements vfs.Inode. Opening for writing copies up.
func (i *Inode) Open(c wait.Context, flags uint32) (vfs.FileOps, error) {
	switch i.kind {
	case unix.S_IFREG:
		if flags&(unix.O_ACCMODE|unix.O_TRUNC) != 0 {
			size := int64(1<<63 - 1)
			if flags&unix.O_TRUNC != 0 {
				size = 0
			}
			if err := i.copyUp(c, size); err != nil {
				return nil, err
			}
		}
		i.IncRef()
		return &i.ops, nil
	case unix.S_IFDIR:
		var m int64
		return &vfs.DirOps{I: i, List: func(c wait.Context, pos *int64, emit func(e vfs.Dirent) bool) error {
			return i.list(c, &m, pos, emit)
		}}, nil
	case unix.S_IFIFO:
		if vfs.FIFO != nil {
			return vfs.FIFO(c, i, flags)
		}
	}
	return nil, unix.ENXIO
}

// Readlink implements vfs.Inode.
func (i *Inode) Readlink(c wait.Context) (string, error) { return i.real().Readlink(c) }

// copyUp gives i an upper half with at most size bytes of its contents.
func (i *Inode) copyUp(c wait.Context, size int64) error {
	if i.upper.Load() != nil {
		return nil
	}
	// Parents first, without recursion: a path may be deep.
	i.mu.Lock()
	parent, gone := i.parent, i.gone.Load()
	i.mu.Unlock()
	if !gone {
		var chain []*Inode
		for p := parent; p != nil && p.upper.Load() == nil; {
			chain = append(chain, p)
			p.mu.Lock()
			p, gone = p.parent, gone || p.gone.Load()
			chain[len(chain)-1].mu.Unlock()
		}
		for k := len(chain) - 1; k >= 0 && !gone; k-- {
			if err := chain[k].copyOne(c, 0); err != nil {
				return err
			}
		}
	}
	return i.copyOne(c, size)
}

// copyOne is copyUp for a node whose parent has an upper half.
func (i *Inode) copyOne(c wait.Context, size int64) error {
	i.up.Lock(c)
	defer i.up.Unlock()
	if i.upper.Load() != nil {
		return nil
	}
	a, err := i.lower.Attr(c)
	if err != nil {
		return err
	}
	i.mu.Lock()
	parent, name, gone := i.parent, i.name, i.gone.Load()
	i.mu.Unlock()
	var dir *tmpfs.Inode
	if parent != nil {
		dir = parent.upper.Load()
	}
	if dir == nil {
		dir, gone = i.fs.root.upper.Load(), true
	}
	n := vfs.NewNode{Mode: a.Mode, UID: a.UID, GID: a.GID, Rdev: a.Rdev}
	if i.kind == unix.S_IFLNK {
		if n.Target, err = i.lower.Readlink(c); err != nil {
			return err
		}
	}
	if i.kind != unix.S_IFREG {
		if gone {
			return unix.ENOENT
		}
		u, err := dir.CreateWith(name, n, func(u *tmpfs.Inode) {
			u.Slot().Get(func() any { return i })
			setTimes(c, u, &a)
		})
		if err == nil {
			i.settle(u)
		}
		return err
	}
	t, err := dir.Tmpfile(c, n)
	if err != nil {
		return err
	}
	u := t.(*tmpfs.Inode)
	defer u.DecRef()
	if err := copyData(c, i.lower.(vfs.RegularInode).Data(), u.Data(), min(size, a.Size)); err != nil {
		return err
	}
	u.Slot().Get(func() any { return i })
	setTimes(c, u, &a)
	if !gone {
		if err := dir.Link(c, name, u); err != nil {
			return err
		}
	}
	i.settle(u)
	return nil
}

// settle publishes the upper half.
func (i *Inode) settle(u *tmpfs.Inode) {
	i.mu.Lock()
	if i.opens > 0 {
		u.IncRef()
	}
	i.upper.Store(u)
	i.mu.Unlock()
}

func copyAttr(c wait.Context, from vfs.Inode, to *tmpfs.Inode) {
	a, err := from.Attr(c)
	if err != nil {
		return
	}
	_ = to.SetAttr(c, vfs.SetAttr{SetMode: true, Mode: a.Mode, SetUID: true, UID: a.UID, SetGID: true, GID: a.GID})
	setTimes(c, to, &a)
}

func setTimes(c wait.Context, u *tmpfs.Inode, a *vfs.Attr) {
	_ = u.SetAttr(c, vfs.SetAttr{SetAtime: true, Atime: a.Atime, SetMtime: true, Mtime: a.Mtime})
}

// copyData copies the first size bytes.
func copyData(c wait.Context, from, to *mm.Object, size int64) error {
	buf := make([]byte, min(size, 64<<10))
	for off := int64(0); off < size; {
		b := buf[:min(size-off, int64(len(buf)))]
		q := mm.KernelIO(b)
		n, err := from.ReadAt(c, &q, off)
		if err != nil {
			return err
		}
		if n == 0 {
			return unix.EIO
		}
		w := mm.KernelIO(b[:n])
		m, err := to.WriteAt(c, &w, off)
		if err != nil {
			return err
		}
		if m < n {
			return unix.ENOSPC
		}
		off += int64(n)
	}
	return nil
}

// xattrs of the upper half; the image has none.
func (i *Inode) GetXattr(c wait.Context, name string) ([]byte, error) {
	if u := i.upper.Load(); u != nil {
		return u.GetXattr(c, name)
	}
	return nil, unix.ENODATA
}

// SetXattr implements vfs.Xattrs.
func (i *Inode) SetXattr(c wait.Context, name string, value []byte, flags int) error {
	if i.upper.Load() == nil && flags&unix.XATTR_REPLACE != 0 {
		return unix.ENODATA
	}
	if err := i.copyUp(c, 1<<63-1); err != nil {
		return err
	}
	return i.upper.Load().SetXattr(c, name, value, flags)
}

// RemoveXattr implements vfs.Xattrs.
func (i *Inode) RemoveXattr(c wait.Context, name string) error {
	if u := i.upper.Load(); u != nil {
		return u.RemoveXattr(c, name)
	}
	return unix.ENODATA
}

// ListXattr implements vfs.Xattrs.
func (i *Inode) ListXattr(c wait.Context) ([]string, error) {
	if u := i.upper.Load(); u != nil {
		return u.ListXattr(c)
	}
	return nil, nil
}

// SetACL implements vfs.ACLHolder: a request that is not allowed copies nothing.
func (i *Inode) SetACL(c wait.Context, creds *vfs.Creds, def bool, l vfs.ACL) error {
	if i.upper.Load() == nil {
		cur, err := i.Attr(c)
		if err != nil {
			return err
		}
		if done, err := vfs.CheckSetACL(&cur, creds, def, l); done || err != nil {
			return err
		}
		if err := i.copyUp(c, 1<<63-1); err != nil {
			return err
		}
	}
	return i.upper.Load().SetACL(c, creds, def, l)
}

var (
	_ vfs.RegularInode   = (*Inode)(nil)
	_ vfs.TmpfileCreator = (*Inode)(nil)
	_ vfs.Xattrs         = (*Inode)(nil)
)
