package vfs

import (
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// peers is a group of shared mounts (mount_namespaces(7)): what is mounted on one of them
// is mounted on all, and on the slaves of the group.
type peers struct{ id int }

// newPeers makes a group with the lowest free number. Called with mu held.
func (ns *Namespace) newPeers() *peers {
	used := map[int]bool{}
	for _, m := range ns.list {
		for _, g := range []*peers{m.group, m.master} {
			if g != nil {
				used[g.id] = true
			}
		}
	}
	ns.lastGroup++
	for used[ns.lastGroup] {
		ns.lastGroup++
	}
	return &peers{ns.lastGroup}
}

// mountPoint says whether p is the root of a mount in the tree.
func (ns *Namespace) mountPoint(p Path) bool {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	return p.Entry == p.Mount.Root && p.Mount.attached
}

// children are the mounts on m. Called with mu held.
func (ns *Namespace) children(m *Mount) []*Mount {
	var out []*Mount
	for _, o := range ns.list {
		if o.at.Mount == m {
			out = append(out, o)
		}
	}
	return out
}

// subtree is m and, with rec, all that is mounted below it, parents first. Called with mu
// held.
func (ns *Namespace) subtree(m *Mount, rec bool) []*Mount {
	list := []*Mount{m}
	for i := 0; rec && i < len(list); i++ {
		list = append(list, ns.children(list[i])...)
	}
	return list
}

// beneath says whether d is root or below it.
func beneath(d, root *Dentry) bool {
	for ; d != nil; d = d.loc.Load().parent {
		if d == root {
			return true
		}
	}
	return false
}

// copyTree clones m, cut off at root, and with rec what is mounted below root, but for
// what is unbindable: parents first, in no tree yet. Called with mu held.
func (ns *Namespace) copyTree(m *Mount, root *Dentry, rec bool) []*Mount {
	clones := map[*Mount]*Mount{}
	var list []*Mount
	for _, o := range ns.subtree(m, rec) {
		from, up := root, clones[o.at.Mount]
		if o != m {
			if up == nil || o.sealed || o.at.Mount == m && !beneath(o.at.Entry, root) {
				continue
			}
			from = o.Root
		}
		c := ns.newMount(o.Super, from, o.Source, o.flags.Load())
		c.group, c.master = o.group, o.master
		if o != m {
			c.at = Path{up, o.at.Entry}
		}
		clones[o] = c
		list = append(list, c)
	}
	return list
}

// top is where a mount on p goes: on what is mounted there already. Called with mu held.
func (ns *Namespace) top(p Path) Path {
	for m := ns.mounts[p]; m != nil; m = ns.mounts[p] {
		p = Path{m, m.Root}
	}
	return p
}

// put enters a mount whose place is known into the tree. Called with mu held.
func (ns *Namespace) put(m *Mount, at Path) {
	m.at, m.attached = at, true
	ns.mounts[at] = m
	ns.list = append(ns.list, m)
	at.Entry.pin(1)
}

// attach puts a tree of mounts, parents first, on p, and copies of it wherever p's mount
// propagates to. ENOSPC at fs.mount-max, ENOENT if p has lost its name, ENOTDIR. Called
// with mu held.
func (ns *Namespace) attach(tree []*Mount, p Path) error {
	if p.Entry.loc.Load().gone {
		return unix.ENOENT
	}
	if !p.Mount.attached {
		return unix.EINVAL
	}
	if isDir(tree[0].Root.inode) != isDir(p.Entry.inode) {
		return unix.ENOTDIR
	}
	p = ns.top(p)
	to := ns.receivers(p)
	if len(ns.list)+len(tree)*(len(to)+1) > maxMounts {
		return unix.ENOSPC
	}
	if p.Mount.group != nil {
		for _, m := range tree {
			if m.group == nil {
				m.group = ns.newPeers()
			}
			m.sealed = false
			ns.reserve(m)
		}
	}
	copies := make([][]*Mount, len(to))
	for i, r := range to {
		copies[i] = ns.cloneFor(tree, p.Mount, r)
	}
	ns.putTree(tree, p)
	for i, r := range to {
		ns.putTree(copies[i], ns.top(Path{r, p.Entry}))
	}
	return nil
}

// reserve keeps the number of m's group from being given out before m is in the list.
func (ns *Namespace) reserve(m *Mount) { ns.lastGroup = max(ns.lastGroup, m.group.id) }

func (ns *Namespace) putTree(tree []*Mount, p Path) {
	for i, m := range tree {
		if i == 0 {
			ns.put(m, p)
		} else {
			ns.put(m, m.at)
		}
	}
}

// cloneFor copies a tree that is being mounted on from, for r, a mount that hears of it: a
// peer's copy is a peer, a slave's a slave.
func (ns *Namespace) cloneFor(tree []*Mount, from, r *Mount) []*Mount {
	clones := map[*Mount]*Mount{}
	var list []*Mount
	for i, o := range tree {
		c := ns.newMount(o.Super, o.Root, o.Source, o.flags.Load())
		if r.group == from.group {
			c.group = o.group
		} else {
			c.master = o.group
			if r.group != nil {
				c.group = ns.newPeers()
			}
		}
		if i > 0 {
			c.at = Path{clones[o.at.Mount], o.at.Entry}
		}
		clones[o] = c
		list = append(list, c)
	}
	return list
}

// receivers are the other mounts that hear of what happens at p: peers of its mount, and
// slaves, slaves' peers and so on, as far as they show p. Called with mu held.
func (ns *Namespace) receivers(p Path) []*Mount {
	if p.Mount.group == nil {
		return nil
	}
	var out []*Mount
	var walk func(g *peers)
	walk = func(g *peers) {
		for _, o := range ns.list {
			if o == p.Mount || o.group != g && o.master != g || slices.Contains(out, o) {
				continue
			}
			out = append(out, o)
			if o.group != nil && o.group != g {
				walk(o.group)
			}
		}
	}
	walk(p.Mount.group)
	return slices.DeleteFunc(out, func(m *Mount) bool { return !beneath(p.Entry, m.Root) })
}

// bind is mount(2) with MS_BIND: EINVAL without a source, and for an unbindable one.
func (ns *Namespace) bind(l Lookup, source string, p Path, rec bool) error {
	if source == "" {
		return unix.EINVAL
	}
	from, done, err := ns.Held(l, source, WalkFollow)
	if err != nil {
		return err
	}
	defer done()
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if from.Mount.sealed || !from.Mount.attached {
		return unix.EINVAL
	}
	return ns.attach(ns.copyTree(from.Mount, from.Entry, rec), p)
}

// Propagate is mount(2) with MS_SHARED, MS_PRIVATE, MS_SLAVE or MS_UNBINDABLE, and with
// MS_REC for all below: EINVAL for more than one of them, and for what is not the root of a
// mount.
func (ns *Namespace) Propagate(p Path, flags uint64) error {
	kind := flags &^ (unix.MS_REC | unix.MS_SILENT)
	if kind&(kind-1) != 0 || kind&propagation == 0 || !ns.mountPoint(p) {
		return unix.EINVAL
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	for _, m := range ns.subtree(p.Mount, flags&unix.MS_REC != 0) {
		switch kind {
		case unix.MS_SHARED:
			if m.sealed = false; m.group == nil {
				m.group = ns.newPeers()
			}
			continue
		case unix.MS_SLAVE:
			old := m.group
			if old == nil {
				continue
			}
			ns.leave(m)
			if slices.ContainsFunc(ns.list, func(o *Mount) bool { return o.group == old }) {
				m.master = old
			}
			continue
		}
		ns.leave(m)
		m.master = nil
		m.sealed = kind == unix.MS_UNBINDABLE
	}
	return nil
}

// leave takes m out of its group; with the last, the group's slaves become those of its
// own master. Called with mu held.
func (ns *Namespace) leave(m *Mount) {
	old := m.group
	m.group = nil
	if old == nil || slices.ContainsFunc(ns.list, func(o *Mount) bool { return o.group == old }) {
		return
	}
	for _, o := range ns.list {
		if o.master == old {
			o.master = m.master
		}
	}
}

// Move is mount(2) with MS_MOVE, and move_mount: from's mount gets the place to. EINVAL for
// what is not a mount, the root, below something shared, or of another kind; ELOOP into itself.
// A mount that is in no tree is attached.
func (ns *Namespace) Move(from, to Path) error {
	if from.Entry != from.Mount.Root {
		return unix.EINVAL
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	m := from.Mount
	if !to.Mount.attached || isDir(m.Root.inode) != isDir(to.Entry.inode) {
		return unix.EINVAL
	}
	if !m.attached {
		tree := ns.dissolve(m)
		if tree == nil {
			return unix.EINVAL
		}
		err := ns.attach(tree, to)
		if err != nil {
			for _, o := range tree[1:] {
				ns.mounts[o.at] = o
				o.at.Entry.pin(1)
			}
			m.tree = tree
		}
		return err
	}
	tree := ns.subtree(m, true)
	if !m.at.Valid() || m.at.Mount.group != nil {
		return unix.EINVAL
	}
	if to.Mount.group != nil && slices.ContainsFunc(tree, func(o *Mount) bool { return o.sealed }) {
		return unix.EINVAL
	}
	for o := to.Mount; o != nil; o = o.at.Mount {
		if o == m {
			return unix.ELOOP
		}
	}
	if to.Entry.loc.Load().gone {
		return unix.ENOENT
	}
	old := m.at
	places := map[*Mount]Path{}
	for _, o := range tree {
		places[o] = o.at
		ns.unput(o)
	}
	for _, o := range tree {
		o.at = places[o]
	}
	if err := ns.attach(tree, to); err != nil {
		for _, o := range tree {
			o.at = places[o]
		}
		ns.putTree(tree, old)
		return err
	}
	return nil
}

// unput is put's opposite. Called with mu held.
func (ns *Namespace) unput(m *Mount) {
	if ns.mounts[m.at] == m {
		delete(ns.mounts, m.at)
	}
	m.at.Entry.pin(-1)
	m.at, m.attached = Path{}, false
	for i, o := range ns.list {
		if o == m {
			ns.list = append(ns.list[:i:i], ns.list[i+1:]...)
			break
		}
	}
}

// Umount is umount2, in Linux' order of errors: EPERM, EINVAL if target is not the root of
// a mount, EBUSY while it is used or something is mounted on it and MNT_DETACH is not given,
// EAGAIN for the first of two with MNT_EXPIRE.
func (ns *Namespace) Umount(l Lookup, target string, flags int) error {
	w := WalkFollow
	if flags&unix.UMOUNT_NOFOLLOW != 0 {
		w = 0
	}
	var marked []*Mount
	if flags&unix.MNT_EXPIRE != 0 {
		marked = ns.expiring() // before this walk wipes a mark
	}
	r, err := ns.walk(&l, target, w)
	if err != nil {
		return err
	}
	if r.file != nil {
		r.file.DecRef()
		return unix.EINVAL
	}
	if !l.Creds.Can(CapSysAdmin) || l.Creds != nil && l.Creds.Domain != nil {
		return unix.EPERM
	}
	p := ns.over(r.path)
	if !ns.mountPoint(p) {
		return unix.EINVAL
	}
	if flags&unix.MNT_EXPIRE != 0 {
		if p.Mount == l.root(ns).Mount || flags&(unix.MNT_FORCE|unix.MNT_DETACH) != 0 {
			return unix.EINVAL
		}
		if p.Mount.uses.Load() > 0 {
			return unix.EBUSY
		}
		if !slices.Contains(marked, p.Mount) {
			p.Mount.expiring.Store(true)
			return unix.EAGAIN
		}
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

// expiring are the mounts that MNT_EXPIRE has marked.
func (ns *Namespace) expiring() (out []*Mount) {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	for _, m := range ns.list {
		if m.expiring.Load() {
			out = append(out, m)
		}
	}
	return out
}

func (ns *Namespace) umount(m *Mount, lazy bool) error {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if !m.at.Valid() {
		return unix.EBUSY // the root, or taken away meanwhile
	}
	if !lazy && (m.uses.Load() > 0 || len(ns.children(m)) > 0) {
		return unix.EBUSY
	}
	at := m.at
	for _, r := range ns.receivers(at) {
		// A copy that this one's mounting left there.
		c := ns.mounts[Path{r, at.Entry}]
		if c != nil && c.Super == m.Super && c.Root == m.Root && (lazy || c.uses.Load() == 0 && len(ns.children(c)) == 0) {
			ns.detach(c)
		}
	}
	ns.detach(m)
	return nil
}

// detach takes m and what is mounted on it out of the tree. Called with mu held.
func (ns *Namespace) detach(m *Mount) {
	for _, o := range ns.children(m) {
		ns.detach(o)
	}
	if m.at.Valid() {
		ns.unput(m)
	}
	ns.leave(m)
	m.master = nil
	if listening() {
		mountGone(m)
	}
	ns.left(m.Super)
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
