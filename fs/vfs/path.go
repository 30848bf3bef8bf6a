package vfs

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/kernel/wait"
)

// Path is a place in the tree: a mount and an entry in it. The zero Path is nowhere.
type Path struct {
	Mount *Mount
	Entry *Dentry
}

// Valid says whether p is somewhere.
func (p Path) Valid() bool { return p.Entry != nil }

// IsDir says whether a directory stands there.
func (p Path) IsDir() bool { return p.Entry.isDir() }

// Inode is the node that stands there.
func (p Path) Inode() Inode { return p.Entry.inode }

// FSContext is a process's root, working directory and umask (CLONE_FS shares it). Every
// walk reads the two places, which are replaced as one, without a lock.
type FSContext struct {
	at    atomic.Pointer[places]
	umask atomic.Uint32
	refs  atomic.Int64
}

type places struct{ root, cwd Path }

// use counts the two as users of their mounts, which keeps those from being unmounted.
func (at *places) use(n int64) {
	at.root.Mount.uses.Add(n)
	at.cwd.Mount.uses.Add(n)
}

// NewFSContext starts at the namespace's root with umask 022.
func NewFSContext(ns *Namespace) *FSContext {
	x := &FSContext{}
	at := &places{ns.Root(), ns.Root()}
	at.use(1)
	x.at.Store(at)
	x.umask.Store(0o022)
	x.refs.Store(1)
	return x
}

// Fork is a copy (clone without CLONE_FS).
func (x *FSContext) Fork() *FSContext {
	n := &FSContext{}
	at := x.at.Load()
	for at.use(1); x.at.Load() != at; at.use(1) {
		at.use(-1) // somebody who shares x has moved
		at = x.at.Load()
	}
	n.at.Store(at)
	n.umask.Store(x.umask.Load())
	n.refs.Store(1)
	return n
}

// execing marks refs while a task that has x to itself is in execve.
const execing = 1 << 62

// Share counts one more task that shares it: not while one is in execve (BeginExec).
func (x *FSContext) Share() bool {
	for {
		n := x.refs.Load()
		if n&execing != 0 {
			return false
		}
		if x.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// BeginExec keeps it with the n tasks that share it, until EndExec; false: they are not n any
// more. Nobody who is not to have a program's privileges chooses its root and working directory.
func (x *FSContext) BeginExec(n int64) bool { return x.refs.CompareAndSwap(n, n|execing) }

// EndExec undoes BeginExec.
func (x *FSContext) EndExec() { x.refs.And(^int64(execing)) }

// DecRef counts one less.
func (x *FSContext) DecRef() {
	if x.refs.Add(-1) == 0 {
		x.at.Load().use(-1)
	}
}

// Users is their number; Shared says that there is more than one.
func (x *FSContext) Users() int64 { return x.refs.Load() &^ execing }

// Shared says whether more than one task uses it.
func (x *FSContext) Shared() bool { return x.Users() > 1 }

// Umask replaces the mask and returns the old one.
func (x *FSContext) Umask(new uint32) uint32 { return x.umask.Swap(new & 0o777) }

// Cwd and Root are the working directory and the root.
func (x *FSContext) Cwd() Path { return x.at.Load().cwd }

// Root is where absolute paths start.
func (x *FSContext) Root() Path { return x.at.Load().root }

// SetCwd and SetRoot are chdir and chroot after the checks.
func (x *FSContext) SetCwd(p Path) { x.set(func(at *places) { at.cwd = p }) }

// SetRoot replaces the root.
func (x *FSContext) SetRoot(p Path) { x.set(func(at *places) { at.root = p }) }

func (x *FSContext) set(change func(at *places)) {
	for {
		old := x.at.Load()
		n := *old
		change(&n)
		n.use(1)
		if x.at.CompareAndSwap(old, &n) {
			old.use(-1)
			return
		}
		n.use(-1)
	}
}

// Lookup is who asks and from where: every path operation takes one. At is the
// directory of an *at call, the zero Path for AT_FDCWD. Without FS the walk starts at
// the root of the tree; without Creds it may do everything (the kernel itself).
type Lookup struct {
	C     wait.Context
	FS    *FSContext
	Creds *Creds
	At    Path
	// AtFile is what an empty path is where no At is: a description without a place.
	AtFile *File
	// Resolve is openat2's RESOLVE_*.
	Resolve uint64
	silent  bool // OpenSilently
	// Wrong is what is wrong with the path or the directory of the second of two paths.
	Wrong error
}

// root is where absolute paths start.
func (l *Lookup) root(ns *Namespace) Path {
	if l.FS == nil {
		return ns.Root()
	}
	return l.FS.Root()
}

// start is where relative paths start.
func (l *Lookup) start(ns *Namespace) Path {
	switch {
	case l.At.Valid():
		return l.At
	case l.FS == nil:
		return ns.Root()
	}
	return l.FS.Cwd()
}

func (l *Lookup) umask() uint32 {
	if l.FS == nil {
		return 0
	}
	return l.FS.umask.Load()
}

// maxSymlinks is MAXSYMLINKS: the 41st link is ELOOP.
const maxSymlinks = 40

// Ways to walk.
const (
	// WalkFollow follows a symbolic link in the last place.
	WalkFollow = 1 << iota
	// WalkDir asks for a directory (ENOTDIR).
	WalkDir
	// WalkEmpty lets "" be the starting place (AT_EMPTY_PATH).
	WalkEmpty
	// walkParent is content with a last component that does not exist.
	walkParent
	// walkLast stops before the last component: it is not looked up.
	walkLast
	// walkCreate refuses slashes behind the last component (O_CREAT: EISDIR).
	walkCreate
)

// found is where a walk ended.
type found struct {
	path   Path   // zero if the last component does not exist
	parent Path   // the directory of the last component
	name   string // the last component; "", ".", ".." if the path ends in one
	slash  bool   // slashes behind it
	file   *File  // a magic link to something without a place; a reference is held
}

// Walk finds a place. The errors are those of path_resolution(7), and ENXIO for what has none.
func (ns *Namespace) Walk(l Lookup, path string, flags int) (Path, error) {
	r, err := ns.walk(&l, path, flags)
	if err != nil {
		return Path{}, err
	}
	if r.file != nil {
		r.file.DecRef()
		return Path{}, unix.ENXIO
	}
	if flags&WalkDir != 0 && !r.path.Entry.isDir() {
		return Path{}, unix.ENOTDIR
	}
	return r.path, nil
}

func (d *Dentry) isDir() bool  { return d.kind == unix.S_IFDIR }
func (d *Dentry) isLink() bool { return d.kind == unix.S_IFLNK }

func isDir(i Inode) bool  { return typeOf(i) == unix.S_IFDIR }
func isLink(i Inode) bool { return typeOf(i) == unix.S_IFLNK }

// typeOf is the S_IFMT bits of a node, 0 for none.
func typeOf(i Inode) uint32 {
	if i == nil {
		return 0
	}
	if k, ok := i.(interface{ Type() uint32 }); ok {
		return k.Type()
	}
	a, err := i.Attr(nil)
	if err != nil {
		return 0
	}
	return a.Mode & unix.S_IFMT
}

// walk is the resolver. It keeps what is left of the path in rest: a link's target goes
// in front of it.
func (ns *Namespace) walk(l *Lookup, path string, flags int) (r found, err error) {
	if path == "" {
		if flags&WalkEmpty == 0 {
			return r, unix.ENOENT
		}
		if r.file = l.AtFile; r.file != nil {
			r.file.IncRef()
			return r, nil
		}
		r.path = l.start(ns)
		return r, nil
	}
	if len(path) >= unix.PathMax {
		return r, unix.ENAMETOOLONG
	}
	root, cur := l.root(ns), Path{}
	if path[0] != '/' || l.Resolve&(unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT) != 0 {
		cur = l.start(ns)
		if l.Resolve&(unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT) != 0 {
			root = cur
		}
		if path[0] == '/' && l.Resolve&unix.RESOLVE_BENEATH != 0 {
			return r, unix.EXDEV
		}
	} else {
		cur = root
	}
	links := 0
	free := l.Creds == nil || l.Creds.Can(CapDACReadSearch)
	for rest := path; ; {
		var name string
		var slash bool
		name, rest, slash = split(rest)
		if name == "" { // the path was "/"
			return found{path: cur, parent: cur, slash: slash}, nil
		}
		last := rest == ""
		if !cur.Entry.isDir() {
			return r, unix.ENOTDIR
		}
		if !free {
			if err := ns.permission(l, cur, MayExec); err != nil {
				return r, err
			}
		}
		if last && flags&(walkLast|walkCreate) != 0 {
			if flags&walkLast != 0 {
				return found{parent: cur, name: name, slash: slash}, nil
			}
			if slash && !special(name) {
				return r, unix.EISDIR
			}
		}
		var next Path
		if k := cur.Entry.fast(name); k != nil && k.mounts.Load() == 0 {
			next = Path{cur.Mount, k}
		} else {
			var err error
			if next, err = ns.step(l, cur, root, name); err != nil {
				return r, err
			}
		}
		if next.Entry.inode == nil {
			if last && flags&walkParent != 0 {
				return found{parent: cur, name: name, slash: slash}, nil
			}
			return r, unix.ENOENT
		}
		if l.Resolve&unix.RESOLVE_NO_XDEV != 0 && next.Mount != cur.Mount {
			return r, unix.EXDEV
		}
		if next.Entry.isLink() && (!last || slash || flags&WalkFollow != 0) {
			if links++; links > maxSymlinks || l.Resolve&unix.RESOLVE_NO_SYMLINKS != 0 || next.Mount.flags.Load()&noSymFollow != 0 {
				return r, unix.ELOOP
			}
			if last {
				if err := mayFollow(l, cur.Entry.inode, next.Entry.inode); err != nil {
					return r, err
				}
			}
			target, jump, file, err := ns.follow(l, next)
			if err != nil {
				return r, err
			}
			// Neither a place that a link jumps to nor the root is elsewhere (nd_jump_link,
			// nd_jump_root); what has no place is.
			if l.Resolve&unix.RESOLVE_NO_XDEV != 0 && (file != nil || jump.Valid() && jump.Mount != cur.Mount ||
				!jump.Valid() && target[0] == '/' && root.Mount != cur.Mount) {
				if file != nil {
					file.DecRef()
				}
				return r, unix.EXDEV
			}
			switch {
			case file != nil:
				if !last {
					file.DecRef()
					return r, unix.ENOTDIR
				}
				return found{parent: cur, name: name, slash: slash, file: file}, nil
			case jump.Valid():
				next = jump
			default:
				if target[0] == '/' {
					if l.Resolve&unix.RESOLVE_BENEATH != 0 {
						return r, unix.EXDEV
					}
					cur = root
				}
				switch {
				case !last:
					rest = target + "/" + rest
				case slash:
					rest = target + "/"
				default:
					rest = target
				}
				continue
			}
		}
		if last {
			if slash && flags&walkParent == 0 && !next.Entry.isDir() {
				return r, unix.ENOTDIR
			}
			return found{path: next, parent: cur, name: name, slash: slash}, nil
		}
		cur = next
	}
}

// split takes the first component off a path; slash says that only slashes followed.
func split(s string) (name, rest string, slash bool) {
	i := 0
	for i < len(s) && s[i] == '/' {
		i++
	}
	s = s[i:]
	for i = 0; i < len(s) && s[i] != '/'; i++ {
	}
	name, rest = s[:i], s[i:]
	for i = 0; i < len(rest) && rest[i] == '/'; i++ {
	}
	return name, rest[i:], i > 0 && i == len(rest)
}

// searchable is ENOTDIR or EACCES unless l may look names up in p.
func (ns *Namespace) searchable(l *Lookup, p Path) error {
	if !p.Entry.isDir() {
		return unix.ENOTDIR
	}
	if l.Creds == nil || l.Creds.Can(CapDACReadSearch) {
		return nil
	}
	return ns.permission(l, p, MayExec)
}

// permission checks the mode of what stands at p.
func (ns *Namespace) permission(l *Lookup, p Path, mask uint32) error {
	if l.Creds == nil {
		return nil
	}
	a, err := p.Entry.inode.Attr(l.C)
	if err != nil {
		return err
	}
	return l.permitted(p.Entry.inode, &a, mask)
}

// Lenient is a node that lets some in whatever its mode says (/proc/PID/fd its own process).
type Lenient interface{ Lets(c wait.Context) bool }

// permitted checks the mode of an Inode or FileOps with attributes a.
func (l *Lookup) permitted(node any, a *Attr, mask uint32) error {
	err := l.Creds.Permission(a, mask)
	if err != nil {
		if n, ok := node.(Lenient); ok && n.Lets(l.C) {
			return nil
		}
	}
	return err
}

// step goes from directory cur to name; the entry may be negative.
func (ns *Namespace) step(l *Lookup, cur, root Path, name string) (Path, error) {
	if name[0] == '.' {
		switch name {
		case ".":
			return cur, nil
		case "..":
			return ns.up(l, cur, root)
		}
	}
	k, err := cur.Entry.child(l.C, name)
	if err != nil {
		return Path{}, err
	}
	return ns.over(Path{cur.Mount, k}), nil
}

// up is "..".
func (ns *Namespace) up(l *Lookup, cur, root Path) (Path, error) {
	if cur != root {
		return ns.parent(cur, root)
	}
	if l.Resolve&unix.RESOLVE_BENEATH != 0 {
		return cur, unix.EXDEV
	}
	return cur, nil
}

// parent is "..": never above root, out of a mount where it has one. ENOENT where a
// directory has escaped from what its mount shows: nobody gets at the rest by it
// (path_connected).
func (ns *Namespace) parent(cur, root Path) (Path, error) {
	for cur.Entry == cur.Mount.Root {
		at, ok := ns.under(cur)
		if cur == root || !ok {
			return cur, nil
		}
		cur = at
	}
	if cur == root {
		return cur, nil
	}
	if up := cur.Entry.loc.Load().parent; up != nil {
		cur.Entry = up
	}
	if m := cur.Mount; m.Root != m.Super.root && !beneath(cur.Entry, m.Root) {
		return Path{}, unix.ENOENT
	}
	return ns.over(cur), nil
}

// follow reads a link: a target to walk, a place, or a file without one.
func (ns *Namespace) follow(l *Lookup, p Path) (target string, jump Path, file *File, err error) {
	i := p.Entry.inode
	if m, ok := i.(MagicLink); ok {
		if l.Resolve&(unix.RESOLVE_NO_MAGICLINKS|unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT) != 0 {
			if l.Resolve&unix.RESOLVE_NO_MAGICLINKS != 0 {
				return "", Path{}, nil, unix.ELOOP
			}
			return "", Path{}, nil, unix.EXDEV
		}
		jump, file, err = m.Follow(*l)
		if err != nil || jump.Valid() || file != nil {
			return "", jump, file, err
		}
	}
	target, err = i.Readlink(l.C)
	if err == nil && target == "" {
		err = unix.ENOENT
	}
	return target, Path{}, nil, err
}
