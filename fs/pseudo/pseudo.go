// Package pseudo is what /proc and /sys are made of: directories, files whose contents a
// function writes, and links.
//
//	fs := pseudo.New(mem, "sysfs", pseudo.SysfsMagic)
//	cpu := fs.Root().Mkdir("devices/system/cpu")
//	cpu.Text("online", func(b *bytes.Buffer) { b.WriteString("0-3\n") })
//	ns.MountFS(fs, "sysfs", "/sys", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC)
//
// A file is a snapshot, taken when it is read at offset 0 and kept, charged to the
// kernel-heap budget, until the reader has seen its end or closes it: so a reader that
// goes through it in pieces sees one consistent text.
//
// A Dir's fixed entries are made before it is mounted and never change; entries that come
// and go are served by its Dynamic part. A directory of which there are many (a process's)
// shares a Layout, which makes entries when they are looked up. Locks: opened.mu, a leaf but for the function
// that writes the contents, which runs without it.
package pseudo

import (
	"bytes"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// Magic numbers of statfs (linux/magic.h).
const (
	ProcMagic  = 0x9fa0
	SysfsMagic = 0x62656572
)

// maxStore bounds what one write to a file hands to its Store.
const maxStore = hal.PageSize

// FS is one tree.
type FS struct {
	mem     *mm.Memory
	typ     string
	magic   int64
	dev     uint64
	root    *Dir
	born    int64
	lastIno atomic.Uint64
}

// New makes an empty tree.
func New(mem *mm.Memory, typ string, magic int64) *FS {
	fs := &FS{mem: mem, typ: typ, magic: magic, dev: vfs.AllocDev(), born: mem.M.Walltime()}
	fs.root = fs.NewDir(0)
	return fs
}

// Root is the root directory; TopDir the same for building.
func (fs *FS) Root() vfs.Inode         { return fs.root }
func (fs *FS) TopDir() *Dir            { return fs.root }
func (fs *FS) Type() string            { return fs.typ }
func (fs *FS) Options() string         { return "" }
func (fs *FS) Sync(wait.Context) error { return nil }

// Statfs implements vfs.FileSystem.
func (fs *FS) Statfs(wait.Context) (vfs.Statfs, error) {
	return vfs.Statfs{Type: fs.magic, BlockSize: hal.PageSize, NameLen: unix.NAME_MAX, NoID: true}, nil
}

// node is what all kinds share.
type node struct {
	vfs.BaseInode
	fs   *FS
	ino  uint64
	mode uint32 // with type
	// Owner, if set, says who owns the node (a process's files).
	owner func() (uid, gid uint32)
	entry atomic.Pointer[vfs.Dentry]
}

// Anchor implements vfs.Anchored.
func (n *node) Anchor() *atomic.Pointer[vfs.Dentry] { return &n.entry }

func (fs *FS) node(mode uint32, ino uint64) node {
	if ino == 0 {
		ino = fs.lastIno.Add(1)
	}
	return node{fs: fs, ino: ino, mode: mode}
}

// Type is the S_IFMT bits.
func (n *node) Type() uint32 { return n.mode & unix.S_IFMT }

// SetOwner makes f say who owns the node.
func (n *node) SetOwner(f func() (uid, gid uint32)) { n.owner = f }

// Attr implements vfs.Inode.
func (n *node) Attr(wait.Context) (vfs.Attr, error) {
	a := vfs.Attr{Dev: n.fs.dev, Ino: n.ino, Mode: n.mode, Nlink: 1, BlockSize: 1024,
		Atime: n.fs.born, Mtime: n.fs.born, Ctime: n.fs.born}
	if n.owner != nil {
		a.UID, a.GID = n.owner()
	}
	return a, nil
}

// SetAttr implements vfs.Inode: open with O_TRUNC and a touch succeed, the rest is EPERM.
func (n *node) SetAttr(_ wait.Context, a vfs.SetAttr) error {
	if a.SetMode || a.SetUID || a.SetGID {
		return unix.EPERM
	}
	return nil
}

// Dynamic serves entries of a directory that come and go.
type Dynamic interface {
	// Lookup finds an entry; ENOENT.
	Lookup(c wait.Context, name string) (vfs.Inode, error)
	// Names calls emit for each entry after the one with cookie pos (0: from the
	// start) in ascending order of cookies, which are positive, until it returns false.
	Names(c wait.Context, pos int64, emit func(name string, typ uint8, ino uint64, cookie int64) bool) error
}

// Counter is a Dynamic that knows how many directories it has, which count as links: by them
// programs learn how many threads they have (/proc/self/task).
type Counter interface{ Dirs() int }

// Dir is a directory.
type Dir struct {
	node
	// Tag is the owner's: what the directory stands for.
	Tag   any
	names []string
	kids  map[string]vfs.Inode
	dyn   Dynamic
	guard Guard
	lets  func(c wait.Context) bool
}

// Tagged gives the Tag.
func (d *Dir) Tagged() any { return d.Tag }

// Guard says who may look into a node: it is asked when that is opened or, for a
// directory, searched.
type Guard func(c wait.Context) error

// SetGuard makes g decide who may look into the directory; SetMode replaces the
// permission bits.
func (d *Dir) SetGuard(g Guard)    { d.guard = g }
func (d *Dir) SetMode(perm uint32) { d.mode = unix.S_IFDIR | perm }

// SetLenient makes f say who is let in whatever the mode.
func (d *Dir) SetLenient(f func(c wait.Context) bool) { d.lets = f }

// Lets implements vfs.Lenient.
func (d *Dir) Lets(c wait.Context) bool { return d.lets != nil && d.lets(c) }

// NewDir makes a directory that stands nowhere yet; ino 0: a new number.
func (fs *FS) NewDir(ino uint64) *Dir {
	return &Dir{node: fs.node(unix.S_IFDIR|0o555, ino)}
}

// Layout is the entries that many directories have in common.
type Layout struct {
	names []string
	index map[string]int
	dirs  uint32
}

// NewLayout makes one of names in the order in which they are listed; those of
// directories end in a slash.
func NewLayout(names ...string) *Layout {
	l := &Layout{index: map[string]int{}}
	for i, n := range names {
		n, dir := strings.CutSuffix(n, "/")
		if dir {
			l.dirs++
		}
		l.names = append(l.names, n)
		l.index[n] = i
	}
	return l
}

// laid is the Dynamic of a directory with a Layout.
type laid struct {
	*Layout
	make func(i int) vfs.Inode
}

// SetLayout gives the directory l's entries; make makes number i each time it is asked for.
func (d *Dir) SetLayout(l *Layout, make func(i int) vfs.Inode) { d.dyn = laid{l, make} }

// Lookup implements Dynamic.
func (l laid) Lookup(_ wait.Context, name string) (vfs.Inode, error) {
	if i, ok := l.index[name]; ok {
		return l.make(i), nil
	}
	return nil, unix.ENOENT
}

// Names implements Dynamic.
func (l laid) Names(c wait.Context, pos int64, emit func(string, uint8, uint64, int64) bool) error {
	for i := int(pos); i < len(l.names); i++ {
		a, err := l.make(i).Attr(c)
		if err != nil {
			return err
		}
		if !emit(l.names[i], uint8(a.Mode&unix.S_IFMT>>12), a.Ino, int64(i)+1) {
			break
		}
	}
	return nil
}

// SetDynamic adds entries that come and go.
func (d *Dir) SetDynamic(dyn Dynamic) { d.dyn = dyn }

// Uncached implements vfs.Uncached.
func (d *Dir) Uncached() bool { return d.dyn != nil }

// Add puts a node into the directory.
func (d *Dir) Add(name string, i vfs.Inode) {
	if d.kids == nil {
		d.kids = map[string]vfs.Inode{}
	}
	if d.kids[name] == nil {
		d.names = append(d.names, name)
	}
	d.kids[name] = i
}

// Mkdir gives the directory at a path below d, making what is missing.
func (d *Dir) Mkdir(path string) *Dir {
	for _, name := range strings.Split(path, "/") {
		k, ok := d.kids[name].(*Dir)
		if !ok {
			k = d.fs.NewDir(0)
			d.Add(name, k)
		}
		d = k
	}
	return d
}

// Text adds a read-only file.
func (d *Dir) Text(name string, show func(b *bytes.Buffer)) {
	d.Add(name, d.fs.NewFile(0o444, 0, func(_ wait.Context, b *bytes.Buffer) error { show(b); return nil }, nil))
}

// Const adds a read-only file that never changes.
func (d *Dir) Const(name, text string) { d.Text(name, func(b *bytes.Buffer) { b.WriteString(text) }) }

// Symlink adds a link.
func (d *Dir) Symlink(name, target string) {
	d.Add(name, &SymLink{node: d.fs.node(unix.S_IFLNK|0o777, 0), target: func(wait.Context) (string, error) { return target, nil }})
}

// Attr implements vfs.Inode.
func (d *Dir) Attr(c wait.Context) (vfs.Attr, error) {
	a, err := d.node.Attr(c)
	a.Nlink = 2
	switch l := d.dyn.(type) {
	case laid:
		a.Nlink += l.dirs
	case Counter:
		a.Nlink += uint32(l.Dirs())
	}
	for _, k := range d.kids {
		if _, ok := k.(*Dir); ok {
			a.Nlink++
		}
	}
	return a, err
}

// Lookup implements vfs.Inode.
func (d *Dir) Lookup(c wait.Context, name string) (vfs.Inode, error) {
	if d.guard != nil {
		if err := d.guard(c); err != nil {
			return nil, err
		}
	}
	if k := d.kids[name]; k != nil {
		return k, nil
	}
	if d.dyn != nil {
		return d.dyn.Lookup(c, name)
	}
	return nil, unix.ENOENT
}

// Open implements vfs.Inode.
func (d *Dir) Open(c wait.Context, _ uint32) (vfs.FileOps, error) {
	if d.guard != nil {
		if err := d.guard(c); err != nil {
			return nil, err
		}
	}
	return &vfs.DirOps{I: d, List: d.list}, nil
}

// Create, Link and Remove: the tree is the kernel's.
func (d *Dir) Create(wait.Context, string, vfs.NewNode) (vfs.Inode, error) {
	return nil, unix.EACCES
}

// list gives ".", "..", the fixed entries, then the others. Cookies: 1, 2, 3 + index of
// the fixed ones, then those of the dynamic part on top.
func (d *Dir) list(c wait.Context, pos *int64, emit func(e vfs.Dirent) bool) error {
	for *pos < int64(2+len(d.names)) {
		e := vfs.Dirent{Name: ".", Ino: d.ino, Type: unix.DT_DIR, Next: *pos + 1}
		switch n := int(*pos); {
		case n == 1:
			e.Name = ".."
		case n > 1:
			e.Name = d.names[n-2]
			if a, err := d.kids[e.Name].Attr(c); err == nil {
				e.Ino, e.Type = a.Ino, uint8(a.Mode&unix.S_IFMT>>12)
			}
		}
		if !emit(e) {
			return nil
		}
		*pos++
	}
	if d.dyn == nil {
		return nil
	}
	base := int64(2 + len(d.names))
	return d.dyn.Names(c, *pos-base, func(name string, typ uint8, ino uint64, cookie int64) bool {
		if !emit(vfs.Dirent{Name: name, Ino: ino, Type: typ, Next: base + cookie}) {
			return false
		}
		*pos = base + cookie
		return true
	})
}

// SortedNames is a Names for entries that are known all at once; cookies go by the
// number that cookie gives for a name.
func SortedNames(list []Entry, pos int64, emit func(name string, typ uint8, ino uint64, cookie int64) bool) {
	sort.Slice(list, func(i, k int) bool { return list[i].Cookie < list[k].Cookie })
	for _, e := range list {
		if e.Cookie > pos && !emit(e.Name, e.Type, e.Ino, e.Cookie) {
			return
		}
	}
}

// Entry is one of SortedNames.
type Entry struct {
	Name   string
	Type   uint8
	Ino    uint64
	Cookie int64
}

// SymLink is a symbolic link.
type SymLink struct {
	node
	target func(c wait.Context) (string, error)
}

// NewLink makes a link whose target is computed.
func (fs *FS) NewLink(ino uint64, target func(c wait.Context) (string, error)) *SymLink {
	return &SymLink{node: fs.node(unix.S_IFLNK|0o777, ino), target: target}
}

// Readlink implements vfs.Inode.
func (l *SymLink) Readlink(c wait.Context) (string, error) { return l.target(c) }

// Magic is a link that leads to an object (vfs.MagicLink).
type Magic struct {
	SymLink
	follow func(l vfs.Lookup) (vfs.Path, *vfs.File, error)
}

// NewMagic makes one; target serves readlink where follow gives no place.
func (fs *FS) NewMagic(ino uint64, target func(c wait.Context) (string, error), follow func(l vfs.Lookup) (vfs.Path, *vfs.File, error)) *Magic {
	return &Magic{SymLink: SymLink{node: fs.node(unix.S_IFLNK|0o777, ino), target: target}, follow: follow}
}

// SetMode replaces the permission bits (/proc/self/fd/N shows the access mode).
func (l *SymLink) SetMode(perm uint32) { l.mode = unix.S_IFLNK | perm }

// Follow implements vfs.MagicLink.
func (m *Magic) Follow(l vfs.Lookup) (vfs.Path, *vfs.File, error) { return m.follow(l) }

// Show writes a file's contents; Store takes what one write brought.
type (
	Show  func(c wait.Context, b *bytes.Buffer) error
	Store func(c wait.Context, data []byte) error
)

// File is a file.
type File struct {
	node
	show  Show
	store Store
	guard Guard
	open  func(c wait.Context) (Show, error)
	// events, if set, makes the file pollable (/proc/mounts).
	events *waiter.Queue
}

// NewFile makes a file with permission bits; a nil store refuses writes with EIO, as
// Linux does for files without a handler, a nil show reads.
func (fs *FS) NewFile(perm uint32, ino uint64, show Show, store Store) *File {
	return &File{node: fs.node(unix.S_IFREG|perm, ino), show: show, store: store}
}

// SetGuard makes g decide who may open the file.
func (f *File) SetGuard(g Guard) { f.guard = g }

// SetOpen makes f decide who may open the file and what that description shows.
func (f *File) SetOpen(open func(c wait.Context) (Show, error)) { f.open = open }

// Open implements vfs.Inode.
func (f *File) Open(c wait.Context, _ uint32) (vfs.FileOps, error) {
	if f.guard != nil {
		if err := f.guard(c); err != nil {
			return nil, err
		}
	}
	show := f.show
	if f.open != nil {
		var err error
		if show, err = f.open(c); err != nil {
			return nil, err
		}
	}
	return &opened{f: f, show: show}, nil
}

// opened is one description of a file.
type opened struct {
	vfs.BaseOps
	f    *File
	show Show

	mu      sync.Mutex
	text    []byte
	have    bool
	charged int64
}

func (o *opened) Attr(c wait.Context) (vfs.Attr, error)       { return o.f.Attr(c) }
func (o *opened) SetAttr(c wait.Context, a vfs.SetAttr) error { return o.f.SetAttr(c, a) }
func (o *opened) Seekable() bool                              { return true }

// snapshot writes the contents anew.
func (o *opened) snapshot(c wait.Context) ([]byte, error) {
	var b bytes.Buffer
	if err := o.show(c, &b); err != nil {
		return nil, err
	}
	n := int64(b.Cap())
	if !o.f.fs.mem.Budget().Charge(n) {
		return nil, unix.ENOMEM
	}
	o.mu.Lock()
	old := o.charged
	o.text, o.have, o.charged = b.Bytes(), true, n
	o.mu.Unlock()
	o.f.fs.mem.Budget().Uncharge(old)
	return b.Bytes(), nil
}

func (o *opened) drop() {
	o.mu.Lock()
	n := o.charged
	o.text, o.have, o.charged = nil, false, 0
	o.mu.Unlock()
	o.f.fs.mem.Budget().Uncharge(n)
}

// Read implements vfs.FileOps.
func (o *opened) Read(c wait.Context, _ *vfs.File, dst *mm.IOSeq, off int64) (int, error) {
	if o.show == nil {
		return 0, unix.EIO
	}
	o.mu.Lock()
	text, have := o.text, o.have
	o.mu.Unlock()
	if !have || off == 0 {
		var err error
		if text, err = o.snapshot(c); err != nil {
			return 0, err
		}
	}
	if off < 0 || off >= int64(len(text)) {
		return 0, nil // the snapshot stays for a reader that seeks back; Release drops it
	}
	return dst.CopyOut(text[off:])
}

// Write implements vfs.FileOps: one write is one value.
func (o *opened) Write(c wait.Context, _ *vfs.File, src *mm.IOSeq, _ int64) (int, error) {
	if o.f.store == nil {
		return 0, unix.EIO
	}
	b := make([]byte, min(src.Len(), maxStore))
	n, err := src.CopyIn(b)
	if err != nil {
		return 0, err
	}
	if err := o.f.store(c, b[:n]); err != nil {
		return 0, err
	}
	return n, nil
}

// Release implements vfs.FileOps.
func (o *opened) Release(*vfs.File) { o.drop() }
