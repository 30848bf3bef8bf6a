package vfs

import (
	"bytes"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/kernel/wait"
)

// Mount is a mounted file system, or a part of one (bind).
type Mount struct {
	ID     int
	Super  *Super
	Root   *Dentry // what stands at the mount point
	Source string
	flags  atomic.Uint64 // MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, …

	// uses counts what keeps it busy: open files, working directories and roots; writers
	// the files that are open for writing.
	uses, writers atomic.Int64
	// expiring says that umount2 with MNT_EXPIRE has seen it, and nobody since.
	expiring atomic.Bool

	// Under Namespace.mu. at is the zero Path for the root and what is in no tree.
	at       Path
	attached bool
	group    *peers   // of a shared mount
	master   *peers   // of a slave
	sealed   bool     // unbindable
	tree     []*Mount // what is to be attached with it, itself first; of a mount in no tree
}

// superFlags are the flags that belong to the file system and not to one mount of it.
const superFlags = unix.MS_RDONLY | unix.MS_SYNCHRONOUS | unix.MS_DIRSYNC | unix.MS_MANDLOCK | unix.MS_LAZYTIME

// Flags are the MS_* of the mount; MS_RDONLY also if its file system is read-only.
func (m *Mount) Flags() uint64 { return m.flags.Load() | m.Super.flags.Load()&unix.MS_RDONLY }

// ReadOnly says whether the mount or its file system refuses writes.
func (m *Mount) ReadOnly() bool { return m.Flags()&unix.MS_RDONLY != 0 }

// keepsTimes says that reads leave no trace: MS_NOATIME, and what cannot be written.
func (m *Mount) keepsTimes() bool {
	return (m.flags.Load()|m.Super.flags.Load())&(unix.MS_NOATIME|unix.MS_RDONLY) != 0
}

const noSymFollow = 256 // MS_NOSYMFOLLOW

// mountFlags are the flags a mount keeps.
const mountFlags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC |
	unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME | noSymFollow

// Namespace is the tree of mounts.
type Namespace struct {
	mu        sync.RWMutex
	root      *Mount
	mounts    map[Path]*Mount // by mount point
	list      []*Mount        // in order of mounting
	nextID    int
	lastGroup int // of peers
	types     map[string]FSType
}

// FSType makes a file system for mount(2).
type FSType struct {
	// New makes an instance; data is the options string.
	New   func(source, data string) (FileSystem, error)
	NoDev bool // "nodev" in /proc/filesystems
	// Check says, if it is there, whether an option is good (fsconfig).
	Check func(key, value string) error
}

// Remounter is a FileSystem whose options a remount changes.
type Remounter interface{ Remount(options string) error }

// FDInfoer is a FileOps with lines of its own in /proc/PID/fdinfo.
type FDInfoer interface {
	FDInfo(c wait.Context, b *bytes.Buffer)
}

// maxMounts is fs.mount-max.
const maxMounts = 10000

// NewNamespace is a tree that begins with fs.
func NewNamespace(fs FileSystem, source string, flags uint64) *Namespace {
	ns := &Namespace{mounts: map[Path]*Mount{}, types: map[string]FSType{}, nextID: 20}
	ns.root = ns.newMount(NewSuper(fs), nil, source, flags)
	ns.list = []*Mount{ns.root}
	ns.root.attached = true
	return ns
}

// newMount shows s from root on, all of it if that is nil. A root that loses its last name
// lives until nobody can come by the mount any more.
func (ns *Namespace) newMount(s *Super, root *Dentry, source string, flags uint64) *Mount {
	if root == nil {
		root = s.root
	}
	m := &Mount{ID: ns.nextID, Super: s, Root: root, Source: source}
	if root != s.root {
		root.inode.IncRef()
		runtime.AddCleanup(m, func(root *Dentry) { Path{Entry: root}.drop(nil) }, root)
	}
	m.flags.Store(flags & mountFlags)
	ns.nextID++
	return m
}

// Register makes a file-system type known to mount(2) and /proc/filesystems.
func (ns *Namespace) Register(name string, t FSType) {
	ns.mu.Lock()
	ns.types[name] = t
	ns.mu.Unlock()
}

// Types calls f for each registered type.
func (ns *Namespace) Types(f func(name string, t FSType)) {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	for n, t := range ns.types {
		f(n, t)
	}
}

// Root is the root of the tree.
func (ns *Namespace) Root() Path { return ns.over(Path{ns.root, ns.root.Root}) }

// over is what is mounted on p, or p.
func (ns *Namespace) over(p Path) Path {
	for p.Entry.mounts.Load() > 0 {
		ns.mu.RLock()
		m := ns.mounts[p]
		ns.mu.RUnlock()
		if m == nil {
			break
		}
		if p = (Path{m, m.Root}); m.expiring.Load() {
			m.expiring.Store(false)
		}
	}
	return p
}

// under is the place that the root of p's mount covers; false at the very top.
func (ns *Namespace) under(p Path) (Path, bool) {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	return p.Mount.at, p.Mount.at.Valid()
}

// MountFS puts a new file system on a path (boot: no checks but the place's).
func (ns *Namespace) MountFS(fs FileSystem, source, target string, flags uint64) error {
	p, err := ns.Walk(Lookup{FS: nil}, target, WalkFollow|WalkDir)
	if err != nil {
		return err
	}
	return ns.mountSuper(NewSuper(fs), source, p, flags)
}

// mountSuper attaches a super to p.
func (ns *Namespace) mountSuper(s *Super, source string, p Path, flags uint64) error {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	return ns.attach([]*Mount{ns.newMount(s, nil, source, flags)}, p)
}

// propagation are the flags that change how mounts propagate.
const propagation = unix.MS_SHARED | unix.MS_PRIVATE | unix.MS_SLAVE | unix.MS_UNBINDABLE

// Mount is mount(2), in the order of Linux' path_mount: EPERM without CAP_SYS_ADMIN, ENODEV
// for an unknown type.
func (ns *Namespace) Mount(l Lookup, source, target, fstype string, flags uint64, data string) error {
	if flags&unix.MS_MGC_MSK == unix.MS_MGC_VAL {
		flags &^= unix.MS_MGC_MSK
	}
	p, err := ns.Walk(l, target, WalkFollow)
	if err != nil {
		return err
	}
	if !l.Creds.Can(CapSysAdmin) || l.Creds != nil && l.Creds.Domain != nil {
		return unix.EPERM
	}
	switch {
	case flags&(unix.MS_REMOUNT|unix.MS_BIND) == unix.MS_REMOUNT|unix.MS_BIND:
		return ns.Reconfigure(p, keepAtime(flags, p.Mount)&mountFlags, mountFlags, false)
	case flags&unix.MS_REMOUNT != 0:
		return ns.remount(p, flags, data)
	case flags&unix.MS_BIND != 0:
		return ns.bind(l, source, p, flags&unix.MS_REC != 0)
	case flags&propagation != 0:
		return ns.Propagate(p, flags)
	case flags&unix.MS_MOVE != 0:
		if source == "" {
			return unix.EINVAL
		}
		from, err := ns.Walk(l, source, WalkFollow)
		if err != nil {
			return err
		}
		return ns.Move(from, p)
	}
	s, err := ns.newSuper(fstype, source, data)
	if err != nil {
		return err
	}
	if !isDir(p.Entry.inode) {
		return unix.ENOTDIR
	}
	s.flags.Store(flags & superFlags)
	return ns.mountSuper(s, source, p, atimeFlags(flags))
}

// newSuper makes a file system: EINVAL without a type, ENODEV for one that nobody knows.
func (ns *Namespace) newSuper(fstype, source, data string) (*Super, error) {
	if fstype == "" {
		return nil, unix.EINVAL
	}
	t, ok := ns.Type(fstype)
	if !ok {
		return nil, unix.ENODEV
	}
	fs, err := t.New(source, data)
	if err != nil {
		return nil, err
	}
	return NewSuper(fs), nil
}

// Type finds a file-system type that can be mounted.
func (ns *Namespace) Type(name string) (FSType, bool) {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	t, ok := ns.types[name]
	return t, ok && t.New != nil
}

// keepAtime adds what a mount has of atime flags if flags say nothing of them.
func keepAtime(flags uint64, m *Mount) uint64 {
	const atimes = unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME
	if flags&(atimes|unix.MS_STRICTATIME) == 0 {
		return flags | m.flags.Load()&atimes
	}
	return atimeFlags(flags)
}

// remount changes a file system's options and flags, and those of the mount at p. EBUSY
// for MS_RDONLY while a file is open for writing.
func (ns *Namespace) remount(p Path, flags uint64, data string) error {
	if !ns.mountPoint(p) {
		return unix.EINVAL
	}
	if err := ns.ReconfigureSuper(p.Mount.Super, flags, data); err != nil {
		return err
	}
	p.Mount.flags.Store(keepAtime(flags, p.Mount) & mountFlags)
	return nil
}

// ReconfigureSuper gives a file system other options and flags.
func (ns *Namespace) ReconfigureSuper(s *Super, flags uint64, data string) error {
	if r, ok := s.FS.(Remounter); ok {
		if err := r.Remount(data); err != nil {
			return err
		}
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	old := s.flags.Load()
	if flags&unix.MS_RDONLY != 0 && old&unix.MS_RDONLY == 0 {
		s.flags.Store(old | unix.MS_RDONLY) // then look: see startWriting
		for _, m := range ns.list {
			if m.Super == s && m.writers.Load() > 0 {
				s.flags.Store(old)
				return unix.EBUSY
			}
		}
	}
	const changeable = superFlags &^ unix.MS_DIRSYNC // MS_RMT_MASK
	s.flags.Store(old&^changeable | flags&changeable)
	return nil
}

// Reconfigure gives the mount whose root p is, with rec those below it too, the flags of
// mask that set holds: all or, on an error (EINVAL, EBUSY), none.
func (ns *Namespace) Reconfigure(p Path, set, mask uint64, rec bool) error {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if p.Entry != p.Mount.Root || !p.Mount.attached && p.Mount.tree == nil {
		return unix.EINVAL
	}
	list := ns.subtree(p.Mount, rec)
	if set&mask&unix.MS_RDONLY != 0 {
		var shut []*Mount
		for _, m := range list {
			old := m.flags.Load()
			if old&unix.MS_RDONLY != 0 {
				continue
			}
			m.flags.Store(old | unix.MS_RDONLY) // then look: see startWriting
			if shut = append(shut, m); m.writers.Load() > 0 {
				for _, m := range shut {
					m.flags.Store(m.flags.Load() &^ unix.MS_RDONLY)
				}
				return unix.EBUSY
			}
		}
	}
	for _, m := range list {
		m.flags.Store(m.flags.Load()&^mask | set&mask)
	}
	return nil
}

// atimeFlags makes relatime what it is unless something else is said (do_mount).
func atimeFlags(flags uint64) uint64 {
	if flags&unix.MS_NOATIME == 0 {
		flags |= unix.MS_RELATIME
	}
	if flags&unix.MS_STRICTATIME != 0 {
		flags &^= unix.MS_RELATIME | unix.MS_NOATIME
	}
	return flags
}

// MountOf is where a file system is mounted: its root there.
func (ns *Namespace) MountOf(fs FileSystem) (Path, bool) {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	for _, m := range ns.list {
		if m.Super.FS == fs && m.Root == m.Super.root {
			return Path{m, m.Root}, true
		}
	}
	return Path{}, false
}

// SyncAll flushes every file system (sync).
func (ns *Namespace) SyncAll(l Lookup) {
	ns.mu.RLock()
	list := append([]*Mount(nil), ns.list...)
	ns.mu.RUnlock()
	for _, m := range list {
		_ = m.Super.FS.Sync(l.C)
	}
}

// summit is where a way up ends.
type summit int

const (
	atRoot  summit = iota // where it was to lead
	atTop                 // the top of the tree, or a mount in no tree
	escaped               // the root of the file system, beside the part of it that the mount shows
)

// climb goes up from p until it meets root, through mounts, and shows visit where each entry
// stands (prepend_path). A directory that was moved out of what its mount shows, or that a
// handle found there, has escaped: above it are directories that the mount must not show.
func (ns *Namespace) climb(p, root Path, visit func(l *location)) summit {
	for p != root {
		if p.Entry == p.Mount.Root {
			at, ok := ns.under(p)
			if !ok {
				return atTop
			}
			p = at
			continue
		}
		l := p.Entry.loc.Load()
		if l.parent == nil {
			return escaped
		}
		visit(l)
		p.Entry = l.parent
	}
	return atRoot
}

// Name is the absolute path of p as seen from root, with " (deleted)" as Linux has it.
// Beyond root it is the path from the top of the tree, "/" for what has escaped its mount.
func (ns *Namespace) Name(p Path, root Path) string {
	if !p.Valid() {
		return ""
	}
	gone := false
	var parts []string
	n := 0
	end := ns.climb(p, root, func(l *location) {
		gone = gone || l.gone
		parts = append(parts, l.name)
		n += len(l.name) + 1
	})
	if end == escaped {
		parts = nil
	}
	b := make([]byte, 0, n+10)
	for i := len(parts) - 1; i >= 0; i-- {
		b = append(append(b, '/'), parts[i]...)
	}
	if len(b) == 0 {
		b = append(b, '/')
	}
	if gone {
		b = append(b, " (deleted)"...)
	}
	return string(b)
}

// FileName is the name of an open file as seen from root: its place now, if it has one.
func (ns *Namespace) FileName(f *File, root Path) string {
	if !f.Path.Valid() {
		return f.Name
	}
	return ns.Name(f.Path, root)
}

// Reachable says whether p is below root and not deleted (getcwd).
func (ns *Namespace) Reachable(p Path, root Path) (below, gone bool) {
	end := ns.climb(p, root, func(l *location) { gone = gone || l.gone })
	return end == atRoot, gone
}
