package vfs

import (
	"bytes"
	"runtime"
	"strings"
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

	// Under Namespace.mu; at is the zero Path for the root and after umount.
	at Path
}

// Flags are the MS_* of the mount.
func (m *Mount) Flags() uint64 { return m.flags.Load() }

// ReadOnly says whether the mount refuses writes.
func (m *Mount) ReadOnly() bool { return m.flags.Load()&unix.MS_RDONLY != 0 }

// mountFlags are the flags a mount keeps.
const mountFlags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC |
	unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME | unix.MS_STRICTATIME | unix.MS_SYNCHRONOUS

// Namespace is the tree of mounts.
type Namespace struct {
	mu     sync.RWMutex
	root   *Mount
	mounts map[Path]*Mount // by mount point
	list   []*Mount        // in order of mounting
	nextID int
	types  map[string]FSType
}

// FSType makes a file system for mount(2).
type FSType struct {
	// New makes an instance; data is the options string.
	New   func(source, data string) (FileSystem, error)
	NoDev bool // "nodev" in /proc/filesystems
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
	ns.root = ns.newMount(NewSuper(fs), source, flags)
	ns.list = []*Mount{ns.root}
	return ns
}

func (ns *Namespace) newMount(s *Super, source string, flags uint64) *Mount {
	m := &Mount{ID: ns.nextID, Super: s, Root: s.root, Source: source}
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
		p = Path{m, m.Root}
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
	return ns.mountSuper(NewSuper(fs), nil, source, p, flags)
}

// mountSuper attaches a super, or the part of it at root, to p.
func (ns *Namespace) mountSuper(s *Super, root *Dentry, source string, p Path, flags uint64) error {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if len(ns.list) >= maxMounts {
		return unix.ENOSPC
	}
	if p.Entry.loc.Load().gone {
		return unix.ENOENT
	}
	for ns.mounts[p] != nil {
		m := ns.mounts[p]
		p = Path{m, m.Root}
	}
	m := ns.newMount(s, source, flags)
	if root != nil {
		m.Root = root
	}
	m.at = p
	ns.mounts[p] = m
	ns.list = append(ns.list, m)
	p.Entry.pin(1)
	return nil
}

// Mount is mount(2) for new file systems, bind mounts and remounts. EPERM without
// CAP_SYS_ADMIN, ENODEV for an unknown type.
func (ns *Namespace) Mount(l Lookup, source, target, fstype string, flags uint64, data string) error {
	if flags&unix.MS_MGC_MSK == unix.MS_MGC_VAL {
		flags &^= unix.MS_MGC_MSK
	}
	p, err := ns.Walk(l, target, WalkFollow)
	if err != nil {
		return err
	}
	if !l.Creds.Can(CapSysAdmin) {
		return unix.EPERM
	}
	switch {
	case flags&unix.MS_REMOUNT != 0:
		if p.Entry != p.Mount.Root {
			return unix.EINVAL
		}
		if r, ok := p.Mount.Super.FS.(Remounter); ok {
			if err := r.Remount(data); err != nil {
				return err
			}
		}
		const atimes = unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME
		if flags&(atimes|unix.MS_STRICTATIME) == 0 {
			flags |= p.Mount.Flags() & atimes // what is not said stays
		}
		p.Mount.flags.Store(atimeFlags(flags) & mountFlags)
		return nil
	case flags&unix.MS_BIND != 0:
		if source == "" {
			return unix.EINVAL
		}
		from, err := ns.Walk(l, source, WalkFollow)
		if err != nil {
			return err
		}
		if isDir(from.Entry.inode) != isDir(p.Entry.inode) {
			return unix.ENOTDIR
		}
		return ns.mountSuper(from.Mount.Super, from.Entry, from.Mount.Source, p, from.Mount.Flags())
	case flags&(unix.MS_SHARED|unix.MS_PRIVATE|unix.MS_SLAVE|unix.MS_UNBINDABLE) != 0:
		if p.Entry != p.Mount.Root || flags&unix.MS_SHARED != 0 {
			return unix.EINVAL
		}
		return nil // there is one namespace: every mount is private already
	case flags&unix.MS_MOVE != 0:
		return unix.EINVAL
	}
	if !isDir(p.Entry.inode) {
		return unix.ENOTDIR
	}
	ns.mu.RLock()
	t, ok := ns.types[fstype]
	ns.mu.RUnlock()
	if fstype == "" {
		return unix.EINVAL
	}
	if !ok || t.New == nil {
		return unix.ENODEV
	}
	fs, err := t.New(source, data)
	if err != nil {
		return err
	}
	return ns.mountSuper(NewSuper(fs), nil, source, p, atimeFlags(flags))
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

// Umount is umount2: EINVAL if target is not a mount point, EBUSY if something is
// mounted below and MNT_DETACH is not given.
func (ns *Namespace) Umount(l Lookup, target string, flags int) error {
	w := WalkFollow
	if flags&unix.UMOUNT_NOFOLLOW != 0 {
		w = 0
	}
	p, err := ns.Walk(l, target, w)
	if err != nil {
		return err
	}
	if !l.Creds.Can(CapSysAdmin) {
		return unix.EPERM
	}
	if p.Entry != p.Mount.Root {
		return unix.EINVAL
	}
	if flags&unix.MNT_EXPIRE != 0 {
		return unix.EAGAIN
	}
	if err := ns.umount(p.Mount, flags&unix.MNT_DETACH != 0); err != nil {
		return err
	}
	// What nobody uses any more is the collector's to find: a file system that holds
	// more than Go memory gives it back then (tmpfs). The one who unmounts does it to
	// have the memory.
	go runtime.GC()
	return nil
}

func (ns *Namespace) umount(m *Mount, lazy bool) error {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if !m.at.Valid() {
		return unix.EBUSY // the root, or taken away meanwhile
	}
	for _, o := range ns.list {
		if o.at.Mount == m && !lazy {
			return unix.EBUSY
		}
	}
	ns.detach(m)
	return nil
}

// detach takes m and what is mounted on it out of the tree. Called with mu held.
func (ns *Namespace) detach(m *Mount) {
	for _, o := range append([]*Mount(nil), ns.list...) {
		if o.at.Mount == m {
			ns.detach(o)
		}
	}
	defer ns.left(m.Super)
	delete(ns.mounts, m.at)
	m.at.Entry.pin(-1)
	m.at = Path{}
	for i, o := range ns.list {
		if o == m {
			ns.list = append(ns.list[:i:i], ns.list[i+1:]...)
			break
		}
	}
}

// left lets go of a file system that has lost a mount. Called with mu held.
func (ns *Namespace) left(s *Super) {
	cache.forget(s)
	for _, o := range ns.list {
		if o.Super == s {
			return
		}
	}
	tellUnmounted(s)
}

// MountInfo is one line of /proc/self/mountinfo.
type MountInfo struct {
	ID, Parent         int
	Dev                uint64
	Root, Point        string
	Flags              uint64
	Type, Source, Opts string
}

// MountList describes the mounts as seen from root.
func (ns *Namespace) MountList(root Path) []MountInfo {
	ns.mu.RLock()
	list := append([]*Mount(nil), ns.list...)
	ats := make([]Path, len(list))
	for i, m := range list {
		ats[i] = m.at
	}
	ns.mu.RUnlock()
	out := make([]MountInfo, 0, len(list))
	for i, m := range list {
		e := MountInfo{ID: m.ID, Parent: 1, Dev: m.Super.Dev, Root: "/", Point: "/", Flags: m.Flags(),
			Type: m.Super.FS.Type(), Source: m.Source, Opts: m.Super.FS.Options()}
		if m.Root != m.Super.root {
			e.Root = entryName(m.Root)
		}
		if ats[i].Valid() {
			e.Parent = ats[i].Mount.ID
			e.Point = ns.Name(Path{m, m.Root}, root)
		}
		out = append(out, e)
	}
	return out
}

// entryName is a dentry's path inside its file system.
func entryName(d *Dentry) string {
	s := ""
	for l := d.loc.Load(); l.parent != nil; l = l.parent.loc.Load() {
		s = "/" + l.name + s
	}
	if s == "" {
		return "/"
	}
	return s
}

// FlagString is the options of /proc/mounts.
func FlagString(flags uint64) string {
	o := []string{"rw"}
	if flags&unix.MS_RDONLY != 0 {
		o[0] = "ro"
	}
	for _, f := range []struct {
		bit  uint64
		name string
	}{{unix.MS_NOSUID, "nosuid"}, {unix.MS_NODEV, "nodev"}, {unix.MS_NOEXEC, "noexec"},
		{unix.MS_NOATIME, "noatime"}, {unix.MS_NODIRATIME, "nodiratime"}, {unix.MS_RELATIME, "relatime"}} {
		if flags&f.bit != 0 {
			o = append(o, f.name)
		}
	}
	return strings.Join(o, ",")
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

// Name is the absolute path of p as seen from root, with " (deleted)" as Linux has it.
// Beyond root it is the path from the top of the tree.
func (ns *Namespace) Name(p Path, root Path) string {
	if !p.Valid() {
		return ""
	}
	gone := false
	var parts []string
	n := 0
	for p != root {
		if p.Entry == p.Mount.Root {
			at, ok := ns.under(p)
			if !ok {
				break
			}
			p = at
			continue
		}
		l := p.Entry.loc.Load()
		gone = gone || l.gone
		parts = append(parts, l.name)
		n += len(l.name) + 1
		p.Entry = l.parent
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

// Reachable says whether p is below root and not deleted (getcwd).
func (ns *Namespace) Reachable(p Path, root Path) (below, gone bool) {
	for p != root {
		if p.Entry == p.Mount.Root {
			at, ok := ns.under(p)
			if !ok {
				return false, gone
			}
			p = at
			continue
		}
		l := p.Entry.loc.Load()
		gone = gone || l.gone
		p.Entry = l.parent
	}
	return true, gone
}
