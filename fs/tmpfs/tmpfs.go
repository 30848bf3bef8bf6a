// Package tmpfs is a file system in memory: all kinds of nodes, hard links, extended
// attributes, a limit in bytes and one in nodes.
//
//	fs, err := tmpfs.New(mem, "size=64m,mode=1777")
//	ns.MountFS(fs, "tmpfs", "/tmp", unix.MS_NOSUID|unix.MS_NODEV)
//
// A regular file's bytes are an mm.Object without a source; its pages are charged to the
// file system's size and go when the last name and the last open file are gone. Nodes and
// names are charged to the kernel-heap budget (ENOSPC at its edge).
//
// Locks: changes to the tree come under vfs's Super.modify. Inode.mu guards one node's
// attributes and, for a directory, its entries; two are held at a time never.
package tmpfs

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// What a node and a name are charged to the kernel-heap budget, in bytes.
const (
	inodeCost = 512
	nameCost  = 160
	// direntSize is what a name adds to a directory's st_size, as in Linux.
	direntSize = 20
)

// FS is one instance.
type FS struct {
	Mem *mm.Memory
	// UserXattrs allows user.* attributes, which tmpfs has since Linux 6.6 only.
	UserXattrs bool
	name       string
	dev        uint64
	optMu      sync.Mutex
	opts       shown
	root       *Inode

	held              *estate
	maxInodes, inodes atomic.Int64
	lastIno           atomic.Uint64
}

// New makes a file system; options are mount(8)'s size=, nr_blocks=, nr_inodes= (0: no
// limit), mode=, uid= and gid=. EINVAL for anything else.
func New(mem *mm.Memory, options string) (*FS, error) { return NewNamed(mem, "tmpfs", options) }

// NewNamed is New under another type name (devtmpfs).
func NewNamed(mem *mm.Memory, name, options string) (*FS, error) {
	fs := &FS{Mem: mem, name: name, dev: vfs.AllocDev(),
		held: &estate{mem: mem, objs: map[*mm.Object]struct{}{}}}
	half := int64(mem.TotalPages() / 2)
	fs.opts.limits = limits{half, max(half, 1024)}
	n, most := vfs.NewNode{Mode: unix.S_IFDIR | 0o1777}, fs.opts.limits
	for _, o := range strings.Split(options, ",") {
		if err := fs.option(o, &n, &most); err != nil {
			return nil, err
		}
	}
	fs.opts.mode, fs.opts.uid, fs.opts.gid = n.Mode&0o7777, n.UID, n.GID
	fs.limit(most)
	root, err := fs.newInode(n, nil)
	if err != nil {
		return nil, err
	}
	root.nlink = 2
	fs.root = root
	runtime.AddCleanup(fs, (*estate).settle, fs.held)
	return fs, nil
}

// shown is what Options is made of: the first root's mode and owner, and the limits that
// go without saying.
type shown struct {
	mode, uid, gid uint32
	limits
}

// limits are how many pages and nodes there may be; 0: any number.
type limits struct{ pages, inodes int64 }

// limit sets them, limits are those that are set.
func (fs *FS) limit(most limits) {
	fs.held.maxPages.Store(most.pages)
	fs.maxInodes.Store(most.inodes)
}

func (fs *FS) limits() limits { return limits{fs.held.maxPages.Load(), fs.maxInodes.Load()} }

// beyond says whether n is more than a limit allows.
func beyond(n, most int64) bool { return most != 0 && n > most }

// Options implements vfs.FileSystem (shmem_show_options).
func (fs *FS) Options() string {
	var b []byte
	most := fs.limits()
	if most.pages != fs.opts.pages {
		b = fmt.Appendf(b, ",size=%dk", most.pages<<(hal.PageShift-10))
	}
	if most.inodes != fs.opts.inodes {
		b = fmt.Appendf(b, ",nr_inodes=%d", most.inodes)
	}
	if fs.opts.mode != 0o1777 {
		b = fmt.Appendf(b, ",mode=%03o", fs.opts.mode)
	}
	if fs.opts.uid != 0 {
		b = fmt.Appendf(b, ",uid=%d", fs.opts.uid)
	}
	if fs.opts.gid != 0 {
		b = fmt.Appendf(b, ",gid=%d", fs.opts.gid)
	}
	return strings.TrimPrefix(string(b)+",inode64", ",")
}

// Remount implements vfs.Remounter: other limits, EINVAL for less than is used, for a limit
// where there was none, and for what New does not know. Mode and owner stay.
func (fs *FS) Remount(options string) error {
	fs.optMu.Lock()
	defer fs.optMu.Unlock()
	var n vfs.NewNode
	old := fs.limits()
	most := old
	for _, o := range strings.Split(options, ",") {
		if err := fs.option(o, &n, &most); err != nil {
			return err
		}
	}
	late := func(old, most, used int64) bool { return most != old && (old == 0 || beyond(used, most)) }
	if late(old.pages, most.pages, fs.held.pages.Load()) || late(old.inodes, most.inodes, fs.inodes.Load()) {
		return unix.EINVAL
	}
	fs.limit(most)
	return nil
}

// Check says whether an option of New is good: EINVAL.
func Check(key, value string) error {
	ok := false
	switch key {
	case "size":
		if p, is := strings.CutSuffix(value, "%"); is {
			_, err := strconv.ParseUint(p, 10, 31)
			ok = err == nil
		} else {
			_, ok = parseSize(value)
		}
	case "nr_blocks", "nr_inodes":
		_, ok = parseSize(value)
	case "mode":
		_, err := strconv.ParseUint(value, 8, 32)
		ok = err == nil
	case "uid", "gid":
		_, err := strconv.ParseUint(value, 10, 32)
		ok = err == nil
	case "huge", "mpol", "inode32", "inode64":
		ok = true
	}
	if !ok {
		return unix.EINVAL
	}
	return nil
}

func (fs *FS) option(o string, n *vfs.NewNode, most *limits) error {
	key, val, _ := strings.Cut(o, "=")
	switch key {
	case "":
		return nil
	case "size":
		if p, ok := strings.CutSuffix(val, "%"); ok {
			pc, err := strconv.ParseInt(p, 10, 32)
			if err != nil || pc < 0 {
				return unix.EINVAL
			}
			most.pages = int64(fs.Mem.TotalPages()) * pc / 100
			return nil
		}
		b, ok := parseSize(val)
		if !ok {
			return unix.EINVAL
		}
		most.pages = (b + hal.PageMask) >> hal.PageShift
	case "nr_blocks", "nr_inodes":
		b, ok := parseSize(val)
		if !ok {
			return unix.EINVAL
		}
		if key == "nr_blocks" {
			most.pages = b
		} else {
			most.inodes = b
		}
	case "mode":
		m, err := strconv.ParseUint(val, 8, 32)
		if err != nil {
			return unix.EINVAL
		}
		n.Mode = unix.S_IFDIR | uint32(m)&0o7777
	case "uid", "gid":
		id, err := strconv.ParseUint(val, 10, 32)
		if err != nil {
			return unix.EINVAL
		}
		if key == "uid" {
			n.UID = uint32(id)
		} else {
			n.GID = uint32(id)
		}
	case "huge", "mpol", "inode32", "inode64":
		// Large pages and nodes of memory are not there, and all inode numbers fit.
	default:
		return unix.EINVAL
	}
	return nil
}

// parseSize reads a number with k, m or g behind it.
func parseSize(s string) (int64, bool) {
	shift := 0
	if s != "" {
		switch s[len(s)-1] | 0x20 {
		case 'k':
			shift = 10
		case 'm':
			shift = 20
		case 'g':
			shift = 30
		}
		if shift > 0 {
			s = s[:len(s)-1]
		}
	}
	n, err := strconv.ParseInt(s, 0, 64)
	return n << shift, err == nil && n >= 0 && n < 1<<(62-shift)
}

// Root, Type and Sync implement vfs.FileSystem.
func (fs *FS) Root() vfs.Inode         { return fs.root }
func (fs *FS) Type() string            { return fs.name }
func (fs *FS) Sync(wait.Context) error { return nil }

// Statfs implements vfs.FileSystem. Without a limit there is nothing to say (shmem_statfs).
func (fs *FS) Statfs(wait.Context) (vfs.Statfs, error) {
	most := fs.limits()
	free := uint64(max(most.pages-fs.held.pages.Load(), 0))
	return vfs.Statfs{Type: unix.TMPFS_MAGIC, BlockSize: hal.PageSize, Blocks: uint64(most.pages), Bfree: free,
		Bavail: free, Files: uint64(most.inodes), Ffree: uint64(max(most.inodes-fs.inodes.Load(), 0)),
		NameLen: unix.NAME_MAX}, nil
}

func (fs *FS) now() int64 { return fs.Mem.M.Walltime() }

// Inode is one node.
type Inode struct {
	vfs.BaseInode
	vfs.WriteAccess
	fs                  *FS
	ino                 uint64
	kind                uint32
	rdev                uint64
	btime               int64
	atime, mtime, ctime atomic.Int64
	mode                atomic.Uint32 // permission bits; changed under mu
	ops                 vfs.RegularOps
	slot                vfs.Slot

	mu       sync.Mutex
	uid, gid uint32
	nlink    uint32
	opens    int
	dead     bool // nlink and opens have both been 0: its pages are gone
	linkable bool // made by O_TMPFILE: may get its first name
	flags    vfs.FlagStore
	obj      *mm.Object
	target   string
	xattrs   vfs.XattrStore
	acls     *vfs.ACLs   // nil: none
	caps     atomic.Bool // xattrs has vfs.CapsXattr

	dir   map[string]*entry
	order []*entry // by seq; removed ones have no inode until compacted
	holes int
	seq   int64
}

// entry is one name; seq is its place in readdir.
type entry struct {
	name string
	seq  int64
	i    *Inode
}

// newInode makes a node of directory dir, whose flags it has, or the root for nil.
func (fs *FS) newInode(n vfs.NewNode, dir *Inode) (*Inode, error) {
	if beyond(fs.inodes.Add(1), fs.maxInodes.Load()) || !fs.held.charge(inodeCost+int64(len(n.Target))+n.ACLs.Size()) {
		fs.inodes.Add(-1)
		return nil, unix.ENOSPC
	}
	i := &Inode{fs: fs, ino: fs.lastIno.Add(1), kind: n.Mode & unix.S_IFMT, rdev: n.Rdev,
		uid: n.UID, gid: n.GID, nlink: 1, target: n.Target, acls: n.ACLs, btime: fs.now()}
	i.mode.Store(n.Mode & 0o7777)
	if dir != nil {
		_ = i.flags.Set(dir.flags.Get())
	}
	i.atime.Store(i.btime)
	i.mtime.Store(i.btime)
	i.ctime.Store(i.btime)
	switch i.kind {
	case unix.S_IFREG:
		i.obj = fs.held.newObject()
		i.ops.I = i
	case unix.S_IFDIR:
		i.dir = map[string]*entry{}
		i.nlink = 2
	}
	return i, nil
}

// settle frees what an unreachable node holds. Called with mu held; the caller calls the
// returned function without it.
func (i *Inode) settle() func() {
	if i.nlink > 0 || i.opens > 0 || i.dead {
		return func() {}
	}
	i.dead = true
	return func() {
		if i.obj != nil {
			i.fs.held.drop(i.obj)
		}
		i.fs.inodes.Add(-1)
		i.fs.held.uncharge(inodeCost + int64(len(i.target)) + i.xattrs.Size() + i.acls.Size())
	}
}

// Slot implements vfs.Slotted.
func (i *Inode) Slot() *vfs.Slot { return &i.slot }

// Type is the S_IFMT bits.
func (i *Inode) Type() uint32 { return i.kind }

// Ino is the inode number, for overlays.
func (i *Inode) Ino() uint64 { return i.ino }

// Data and Touched implement vfs.RegularInode.
func (i *Inode) Data() *mm.Object { return i.obj }

// AllocatePages implements vfs.Allocator: ENOSPC beyond the size of the file system.
func (i *Inode) AllocatePages(c wait.Context, off, n int64, keep bool) error {
	if beyond((off+n+hal.PageMask)>>hal.PageShift-off>>hal.PageShift, i.fs.held.maxPages.Load()) {
		return unix.ENOSPC
	}
	err := i.obj.Allocate(c, off, n, keep)
	if err == nil {
		i.ctime.Store(i.fs.now())
	}
	return err
}

// Undirect implements vfs.Undirect: pages in memory have no other place to be read from.
func (i *Inode) Undirect() {}

// Touched keeps the times: those of reads as relatime does.
func (i *Inode) Touched(write bool) {
	if write {
		t := i.fs.now()
		i.mtime.Store(t)
		i.ctime.Store(t)
		return
	}
	if i.flags.Get()&vfs.FlagNoatime != 0 {
		return
	}
	if a := i.atime.Load(); a <= i.mtime.Load() || a <= i.ctime.Load() {
		i.atime.Store(i.fs.now())
	}
}

// Privileged implements vfs.RegularInode.
func (i *Inode) Privileged() bool {
	return i.mode.Load()&(unix.S_ISUID|unix.S_ISGID) != 0 || i.caps.Load()
}

// IncRef and DecRef count open files.
func (i *Inode) IncRef() {
	i.mu.Lock()
	i.opens++
	i.mu.Unlock()
}

// DecRef drops one.
func (i *Inode) DecRef() {
	i.mu.Lock()
	i.opens--
	f := i.settle()
	i.mu.Unlock()
	f()
}

// Forgotten implements vfs.Forgettable.
func (i *Inode) Forgotten() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.dead
}

// Attr implements vfs.Inode.
func (i *Inode) Attr(wait.Context) (vfs.Attr, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.attrLocked(), nil
}

func (i *Inode) attrLocked() vfs.Attr {
	a := vfs.Attr{Dev: i.fs.dev, Rdev: i.rdev, Ino: i.ino, Mode: i.kind | i.mode.Load(), Nlink: i.nlink,
		UID: i.uid, GID: i.gid, BlockSize: hal.PageSize, Atime: i.atime.Load(), Mtime: i.mtime.Load(),
		Ctime: i.ctime.Load(), Btime: i.btime, ACLs: i.acls}
	switch i.kind {
	case unix.S_IFREG:
		if !i.dead {
			a.Size, a.Blocks = i.obj.Size(), i.obj.Pages()*8
		}
	case unix.S_IFDIR:
		a.Size = int64(len(i.dir)+2) * direntSize
	case unix.S_IFLNK:
		a.Size = int64(len(i.target))
	}
	return a
}

// SetAttr implements vfs.Inode.
func (i *Inode) SetAttr(c wait.Context, a vfs.SetAttr) error {
	now := i.fs.now()
	i.mu.Lock()
	cur := i.attrLocked()
	if err := vfs.CheckSetAttr(&cur, &a); err != nil {
		i.mu.Unlock()
		return err
	}
	if a.SetMode {
		i.mode.Store(a.Mode & 0o7777)
		if l := i.acls.List(false); l != nil {
			i.acls = i.acls.With(false, l.Chmod(a.Mode))
		}
	}
	if a.SetUID {
		i.uid = a.UID
	}
	if a.SetGID {
		i.gid = a.GID
	}
	i.ctime.Store(now)
	i.mu.Unlock()
	if a.SetAtime {
		i.atime.Store(a.Atime)
	}
	if a.SetMtime {
		i.mtime.Store(a.Mtime)
	}
	if a.SetSize {
		if i.obj == nil {
			return unix.EINVAL
		}
		// The size changes under the writers' lock, which sleeps; an open or a
		// name of the caller's keeps the object.
		if err := i.obj.TruncateCtx(c, a.Size); err != nil {
			return err
		}
		i.mtime.Store(now)
	}
	return nil
}

// OpenFile implements vfs.FileOpener.
func (i *Inode) OpenFile(l vfs.Lookup, flags uint32) (vfs.FileOps, error) {
	switch i.kind {
	case unix.S_IFCHR, unix.S_IFBLK:
		return vfs.OpenDevice(l, i, i.kind, i.rdev, flags)
	}
	return i.Open(l.C, flags)
}

// Open implements vfs.Inode.
func (i *Inode) Open(c wait.Context, flags uint32) (vfs.FileOps, error) {
	switch i.kind {
	case unix.S_IFREG:
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.dead {
			return nil, unix.ENOENT
		}
		i.opens++
		return &i.ops, nil
	case unix.S_IFDIR:
		return &vfs.DirOps{I: i, List: i.list}, nil
	case unix.S_IFIFO:
		if vfs.FIFO != nil {
			return vfs.FIFO(c, i, flags)
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		return vfs.OpenDevice(vfs.Lookup{C: c}, i, i.kind, i.rdev, flags)
	}
	return nil, unix.ENXIO
}

// FileFlags implements vfs.FlagsInode.
func (i *Inode) FileFlags() (uint32, bool) {
	return i.flags.Get(), i.kind == unix.S_IFREG || i.kind == unix.S_IFDIR
}

// SetFileFlags implements vfs.FlagsInode.
func (i *Inode) SetFileFlags(flags uint32) error {
	err := i.flags.Set(flags)
	if err == nil {
		i.ctime.Store(i.fs.now())
	}
	return err
}

// Readlink implements vfs.Inode.
func (i *Inode) Readlink(wait.Context) (string, error) {
	if i.kind != unix.S_IFLNK {
		return "", unix.EINVAL
	}
	return i.target, nil
}

var _ vfs.RegularInode = (*Inode)(nil)
