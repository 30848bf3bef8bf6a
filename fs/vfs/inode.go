package vfs

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/kernel/wait"
)

// Inode is a node of a file system. Embed BaseInode for the calls a kind does not
// have. Calls that change the tree come with Super.modify held; look-ups do not.
// Permissions, names ("." and ".." never come) and mount flags are checked above.
type Inode interface {
	Attr(c wait.Context) (Attr, error)
	SetAttr(c wait.Context, a SetAttr) error
	// IncRef and DecRef count the open files: an unlinked node lives until the last.
	IncRef()
	DecRef()

	// Open makes the FileOps of a description; its Release undoes it.
	Open(c wait.Context, flags uint32) (FileOps, error)
	// Readlink is a symbolic link's target; EINVAL for others.
	Readlink(c wait.Context) (string, error)

	// Lookup finds a name in a directory; ENOENT.
	Lookup(c wait.Context, name string) (Inode, error)
	// Create makes a node, EEXIST if the name is there.
	Create(c wait.Context, name string, n NewNode) (Inode, error)
	// Link gives target, of the same file system, one more name.
	Link(c wait.Context, name string, target Inode) error
	// Remove takes a name away; dir says that victim is a directory (ENOTEMPTY).
	Remove(c wait.Context, name string, victim Inode, dir bool) error
	// Rename moves src to newName in newDir, replacing dst (nil: nothing there);
	// with exchange the two change places.
	Rename(c wait.Context, oldName string, src Inode, newDir Inode, newName string, dst Inode, exchange bool) error
}

// NewNode says what Create makes. Mode holds the type bits; owned takes the umask away.
type NewNode struct {
	Mode     uint32
	ACLs     *ACLs // inherited; nil: none
	UID, GID uint32
	Rdev     uint64
	Target   string // of a symbolic link
	Nameless bool   // of Tmpfile: it will never get a name (O_EXCL)
}

// TmpfileCreator is an Inode of a directory that can make unnamed files (O_TMPFILE).
type TmpfileCreator interface {
	Tmpfile(c wait.Context, n NewNode) (Inode, error)
}

// WhiteoutRenamer is an Inode of a directory that can leave a whiteout where it renames
// from (RENAME_WHITEOUT). n says what kind of node; the new one is returned.
type WhiteoutRenamer interface {
	RenameWhiteout(c wait.Context, oldName string, src Inode, newDir Inode, newName string, dst Inode, n NewNode) (Inode, error)
}

// Uncached marks directories whose entries come and go by themselves (/proc): names are
// looked up each time.
type Uncached interface{ Uncached() bool }

// Anchored is an Inode in such a directory that keeps its entry: a name looked up again
// leads to the same one for as long as the inode lives, and not longer.
type Anchored interface {
	Anchor() *atomic.Pointer[Dentry]
}

// MagicLink is a link that leads to an object and not to a path (/proc/self/fd/3).
type MagicLink interface {
	// Follow gives the place; the zero Path and a file for what has no place.
	Follow(l Lookup) (Path, *File, error)
}

// FileOpener is an Inode whose Open needs the caller (/proc/self/fd/N of a pipe,
// /dev/tty). It takes precedence over Open.
type FileOpener interface {
	OpenFile(l Lookup, flags uint32) (FileOps, error)
}

// Xattrs is implemented by inodes with extended attributes.
type Xattrs interface {
	GetXattr(c wait.Context, name string) ([]byte, error)
	SetXattr(c wait.Context, name string, value []byte, flags int) error
	RemoveXattr(c wait.Context, name string) error
	ListXattr(c wait.Context) ([]string, error)
}

// FlagsInode is implemented by inodes, and by descriptions without one, that have flags of
// chattr(1): FS_NODUMP_FL and the others of uapi/linux/fs.h.
type FlagsInode interface {
	// FileFlags is what is set; false for a kind of file that has none.
	FileFlags() (uint32, bool)
	// SetFileFlags sets exactly these: EOPNOTSUPP for one that is not kept.
	SetFileFlags(flags uint32) error
}

// Flags that a FlagStore keeps: nodump means nothing here, noatime that reading leaves no
// trace. Append-only and immutable files are not there.
const (
	FlagNodump  = 0x40
	FlagNoatime = 0x80
)

// FlagStore keeps them in memory. The zero value has none.
type FlagStore struct{ v atomic.Uint32 }

// Get is what is set.
func (s *FlagStore) Get() uint32 { return s.v.Load() }

// Set implements FlagsInode's SetFileFlags.
func (s *FlagStore) Set(flags uint32) error {
	if flags&^(FlagNodump|FlagNoatime) != 0 {
		return unix.EOPNOTSUPP
	}
	s.v.Store(flags)
	return nil
}

// FileSystem is one mountable tree.
type FileSystem interface {
	Root() Inode
	Statfs(c wait.Context) (Statfs, error)
	// Type is the name in /proc/mounts.
	Type() string
	// Options are the mount's own options for /proc/mounts ("size=64k"), or "".
	Options() string
	Sync(c wait.Context) error
}

// Statfs is struct statfs without the fields nobody fills.
type Statfs struct {
	Type          int64
	BlockSize     int64
	Blocks        uint64
	Bfree, Bavail uint64
	Files, Ffree  uint64
	NameLen       int64
	NoID          bool // f_fsid is 0, as those of simple_statfs are
}

// BaseInode answers as a node without that ability does.
type BaseInode struct{}

func (BaseInode) SetAttr(wait.Context, SetAttr) error                 { return unix.EPERM }
func (BaseInode) Privileged() bool                                    { return false }
func (BaseInode) IncRef()                                             {}
func (BaseInode) DecRef()                                             {}
func (BaseInode) Open(wait.Context, uint32) (FileOps, error)          { return nil, unix.ENXIO }
func (BaseInode) Readlink(wait.Context) (string, error)               { return "", unix.EINVAL }
func (BaseInode) Lookup(wait.Context, string) (Inode, error)          { return nil, unix.ENOTDIR }
func (BaseInode) Link(wait.Context, string, Inode) error              { return unix.EPERM }
func (BaseInode) Remove(wait.Context, string, Inode, bool) error      { return unix.EPERM }
func (BaseInode) Create(wait.Context, string, NewNode) (Inode, error) { return nil, unix.EPERM }
func (BaseInode) Rename(wait.Context, string, Inode, Inode, string, Inode, bool) error {
	return unix.EPERM
}

// Capabilities that file systems ask for (capabilities(7)).
const (
	CapChown         = 0
	CapDACOverride   = 1
	CapDACReadSearch = 2
	CapFowner        = 3
	CapFsetid        = 4
	CapSysResource   = 24
	CapSysAdmin      = 21
	CapSysChroot     = 18
	CapMknod         = 27
	CapLease         = 28
	CapAuditWrite    = 29
)

// Can says whether the effective set holds capability n.
func (c *Creds) Can(n uint) bool { return c == nil || c.Effective>>n&1 != 0 }

// InGroup says whether gid is the file-system group or a supplementary one.
func (c *Creds) InGroup(gid uint32) bool {
	if c.FSGID == gid {
		return true
	}
	for _, g := range c.Groups {
		if g == gid {
			return true
		}
	}
	return false
}

// Access modes, as access(2) has them.
const (
	MayExec  = 1
	MayWrite = 2
	MayRead  = 4
)

// Permission is generic_permission of Linux: EACCES unless creds may do mask to a node.
func (c *Creds) Permission(a *Attr, mask uint32) error {
	if c == nil {
		return nil
	}
	mode := a.Mode
	switch {
	case c.FSUID == a.UID:
		mode >>= 6
	case a.ACLs != nil && a.ACLs.Access != nil && mode&0o070 != 0:
		if a.ACLs.Access.permits(c, a.GID, mask) {
			return nil
		}
		mode = 0
	case c.InGroup(a.GID):
		mode >>= 3
	}
	if mode&7&mask == mask {
		return nil
	}
	if a.Mode&unix.S_IFMT == unix.S_IFDIR {
		if mask&MayWrite == 0 && c.Can(CapDACReadSearch) {
			return nil
		}
		if c.Can(CapDACOverride) {
			return nil
		}
		return unix.EACCES
	}
	if mask == MayRead && c.Can(CapDACReadSearch) {
		return nil
	}
	if (mask&MayExec == 0 || a.Mode&0o111 != 0) && c.Can(CapDACOverride) {
		return nil
	}
	return unix.EACCES
}

// owns says whether creds may do what only the owner may.
func (c *Creds) owns(a *Attr) bool { return c == nil || c.FSUID == a.UID || c.Can(CapFowner) }

// CheckSetAttr applies the rules of chmod, chown, utimensat and truncate to a request
// and adds what Linux changes along (set-id bits). File systems call it first in
// SetAttr, with the attributes the node has (setattr_prepare).
func CheckSetAttr(cur *Attr, a *SetAttr) error {
	c := a.Creds
	if c == nil {
		return nil
	}
	if a.SetUID && !(c.Can(CapChown) || c.FSUID == cur.UID && a.UID == cur.UID) {
		return unix.EPERM
	}
	if a.SetGID && !(c.Can(CapChown) || c.FSUID == cur.UID && (c.InGroup(a.GID) || a.GID == cur.GID)) {
		return unix.EPERM
	}
	if a.SetMode {
		if !c.owns(cur) {
			return unix.EPERM
		}
		gid := cur.GID
		if a.SetGID {
			gid = a.GID
		}
		if !c.InGroup(gid) && !c.Can(CapFsetid) {
			a.Mode &^= unix.S_ISGID
		}
	}
	if (a.SetUID || a.SetGID || a.KillPriv) && !a.SetMode && cur.Mode&unix.S_IFMT != unix.S_IFDIR {
		m := withoutSetIDs(cur.Mode)
		a.SetMode, a.Mode = m != cur.Mode, m
	}
	return nil
}

// Slot lets a stacking file system hang its own node on one below: the two live and die
// together.
type Slot struct {
	mu sync.Mutex
	v  any
}

// Get gives what hangs there, after make if there is nothing yet.
func (s *Slot) Get(make func() any) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.v == nil && make != nil {
		s.v = make()
	}
	return s.v
}

// Slotted is an Inode that others can stack on.
type Slotted interface {
	Inode
	Slot() *Slot
}
