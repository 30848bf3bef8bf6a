package vfs

import (
	"golang.org/x/sys/unix"
)

// Detached makes the mount of a file system that is in no tree yet (fsmount); Move puts it
// into one.
func (ns *Namespace) Detached(s *Super, source string, flags uint64) Path {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	m := ns.newMount(s, nil, source, flags)
	m.tree = []*Mount{m}
	return Path{m, m.Root}
}

// CloneTree makes a copy of the mount at p that begins there, with rec of those below it
// too, in no tree (open_tree with OPEN_TREE_CLONE): EINVAL for an unbindable one, ENOENT.
func (ns *Namespace) CloneTree(p Path, rec bool) (Path, error) {
	if !p.grab() {
		return Path{}, unix.ENOENT
	}
	defer p.drop(nil)
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if p.Mount.sealed || !p.Mount.attached {
		return Path{}, unix.EINVAL
	}
	tree := ns.copyTree(p.Mount, p.Entry, rec)
	if len(ns.list)+len(tree) > maxMounts {
		return Path{}, unix.ENOSPC
	}
	m := tree[0]
	m.tree = tree
	for _, o := range tree[1:] { // who comes from m finds them
		ns.mounts[o.at] = o
		o.at.Entry.pin(1)
	}
	return Path{m, m.Root}, nil
}

// dissolve takes apart what CloneTree and Detached made, unless it was attached. Called
// with mu held.
func (ns *Namespace) dissolve(m *Mount) (tree []*Mount) {
	tree, m.tree = m.tree, nil
	for i, o := range tree {
		if i > 0 && ns.mounts[o.at] == o {
			delete(ns.mounts, o.at)
			o.at.Entry.pin(-1)
		}
	}
	return tree
}

// treeOps is pathOps for a mount in no tree, which does not outlive the description.
type treeOps struct {
	pathOps
	ns *Namespace
	m  *Mount
}

func (t treeOps) Release(*File) {
	t.ns.mu.Lock()
	t.ns.dissolve(t.m)
	t.ns.mu.Unlock()
}

// OpenPath makes an O_PATH description of p.
func OpenPath(p Path) *File { return newAt(pathOps{i: p.Entry.inode}, unix.O_PATH, p) }

// OpenPathOf is OpenPath for what a path leads to, also where that has no place; walk is WalkFollow
// and WalkEmpty.
func (ns *Namespace) OpenPathOf(l Lookup, path string, walk int) (*File, error) {
	r, err := ns.walk(&l, path, walk)
	if err != nil {
		return nil, err
	}
	if r.file != nil {
		return ns.reopen(l, r.file, unix.O_PATH)
	}
	return OpenPath(r.path), nil
}

// OpenTree is OpenPath for what CloneTree or Detached has made, which goes with the
// description unless it is attached before.
func (ns *Namespace) OpenTree(p Path) *File {
	return newAt(treeOps{pathOps{i: p.Entry.inode}, ns, p.Mount}, unix.O_PATH, p)
}

// NewMounted makes a file system of a type, in no tree: ENODEV, and what the type says.
func (ns *Namespace) NewMounted(fstype, source, data string) (*Super, error) {
	return ns.newSuper(fstype, source, data)
}

// SetSuperFlags gives a file system that nobody uses yet its flags.
func (s *Super) SetSuperFlags(flags uint64) { s.flags.Store(flags & superFlags) }

// SuperFlags are the MS_* of the file system.
func (s *Super) SuperFlags() uint64 { return s.flags.Load() }

// IsMount says whether p is the root of a mount in the tree.
func (ns *Namespace) IsMount(p Path) bool { return ns.mountPoint(p) }

// PivotRoot makes the mount at next the caller's root and puts the old one on old. The
// errors are those of pivot_root(2), in Linux' order; the root of the whole tree cannot be
// replaced, like the root file system that Linux boots with. changed is told of both, for
// those who stand at the old root.
func (ns *Namespace) PivotRoot(l Lookup, next, old string, changed func(from, to Path)) error {
	if !l.Creds.Can(CapSysAdmin) || l.Creds != nil && l.Creds.Domain != nil {
		return unix.EPERM
	}
	n, err := ns.Walk(l, next, WalkFollow|WalkDir)
	if err != nil {
		return err
	}
	o, err := ns.Walk(l, old, WalkFollow|WalkDir)
	if err != nil {
		return err
	}
	root := l.root(ns)
	if err := ns.pivot(root, n, o); err != nil {
		return err
	}
	changed(root, n)
	return nil
}

func (ns *Namespace) pivot(root, n, o Path) error {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if o.Entry.loc.Load().gone {
		return unix.ENOENT
	}
	o = ns.top(o)
	r, m := root.Mount, n.Mount
	shared := func(x *Mount) bool { return x != nil && x.group != nil }
	switch {
	case shared(o.Mount), shared(m.at.Mount), shared(r.at.Mount), !r.attached, !m.attached:
		return unix.EINVAL
	case n.Entry.loc.Load().gone:
		return unix.ENOENT
	case m == r, o.Mount == r:
		return unix.EBUSY
	case root.Entry != r.Root, !r.at.Valid(), n.Entry != m.Root, !m.at.Valid():
		return unix.EINVAL
	case !reaches(o, n), !reaches(n, root):
		return unix.EINVAL
	}
	at := r.at
	ns.unput(m)
	ns.unput(r)
	ns.put(r, o)
	ns.put(m, at)
	return nil
}

// reaches says whether from stands below to. Called with mu held.
func reaches(from, to Path) bool {
	for from.Mount != to.Mount && from.Mount.at.Valid() {
		from = from.Mount.at
	}
	return from.Mount == to.Mount && beneath(from.Entry, to.Entry)
}

// Replace moves who stands at from, as root or as working directory, to to (pivot_root).
func (x *FSContext) Replace(from, to Path) {
	x.set(func(at *places) {
		if at.root == from {
			at.root = to
		}
		if at.cwd == from {
			at.cwd = to
		}
	})
}
