package tmpfs

import (
	"slices"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/wait"
)

// Lookup implements vfs.Inode.
func (i *Inode) Lookup(_ wait.Context, name string) (vfs.Inode, error) {
	if i.kind != unix.S_IFDIR {
		return nil, unix.ENOTDIR
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if e := i.dir[name]; e != nil {
		return e.i, nil
	}
	return nil, unix.ENOENT
}

// enter puts a name into a directory; ENOSPC at the edge of the heap budget.
func (i *Inode) enter(name string, k *Inode) error {
	if !i.fs.held.charge(nameCost + int64(len(name))) {
		return unix.ENOSPC
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.dir[name] != nil {
		i.fs.held.uncharge(nameCost + int64(len(name)))
		return unix.EEXIST
	}
	i.insert(name, k)
	return nil
}

// insert is enter after the checks and the charge. Called with mu held.
func (i *Inode) insert(name string, k *Inode) {
	i.seq++
	e := &entry{name: strings.Clone(name), seq: i.seq, i: k}
	i.dir[e.name] = e
	i.order = append(i.order, e)
	i.changed()
}

// leave takes a name out. Called with mu held.
func (i *Inode) leave(e *entry) {
	delete(i.dir, e.name)
	e.i = nil
	i.holes++
	if i.holes > 32 && i.holes > len(i.order)/2 {
		live := i.order[:0:0]
		for _, o := range i.order {
			if o.i != nil {
				live = append(live, o)
			}
		}
		i.order, i.holes = live, 0
	}
	i.fs.held.uncharge(nameCost + int64(len(e.name)))
	i.changed()
}

func (i *Inode) changed() {
	t := i.fs.now()
	i.mtime.Store(t)
	i.ctime.Store(t)
}

// links adds to the link count and frees the node if that was all that kept it.
func (i *Inode) links(n int) {
	i.mu.Lock()
	i.nlink = uint32(int(i.nlink) + n)
	i.ctime.Store(i.fs.now())
	f := i.settle()
	i.mu.Unlock()
	f()
}

// Create implements vfs.Inode.
func (i *Inode) Create(_ wait.Context, name string, n vfs.NewNode) (vfs.Inode, error) {
	k, err := i.CreateWith(name, n, nil)
	if err != nil {
		return nil, err
	}
	return k, nil
}

// CreateWith is Create that calls before with the node while nobody can find it yet.
func (i *Inode) CreateWith(name string, n vfs.NewNode, before func(k *Inode)) (*Inode, error) {
	k, err := i.fs.newInode(n, i)
	if err != nil {
		return nil, err
	}
	if before != nil {
		before(k)
	}
	if err := i.enter(name, k); err != nil {
		k.links(-int(k.nlink))
		return nil, err
	}
	if k.kind == unix.S_IFDIR {
		i.links(1)
	}
	return k, nil
}

// Tmpfile implements vfs.TmpfileCreator: a node without a name, open once.
func (i *Inode) Tmpfile(_ wait.Context, n vfs.NewNode) (vfs.Inode, error) {
	k, err := i.fs.newInode(n, i)
	if err != nil {
		return nil, err
	}
	k.nlink, k.opens, k.linkable = 0, 1, !n.Nameless
	return k, nil
}

// Link implements vfs.Inode.
func (i *Inode) Link(_ wait.Context, name string, target vfs.Inode) error {
	k, ok := target.(*Inode)
	if !ok || k.fs != i.fs {
		return unix.EXDEV
	}
	k.mu.Lock()
	refused := k.dead || k.nlink == 0 && !k.linkable
	k.mu.Unlock()
	if refused { // unlinked for good: names do not come back (vfs_link)
		return unix.ENOENT
	}
	if err := i.enter(name, k); err != nil {
		return err
	}
	k.mu.Lock()
	k.linkable = false
	k.mu.Unlock()
	k.links(1)
	return nil
}

// empty says whether a directory has no entries.
func (i *Inode) empty() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.dir) == 0
}

// Remove implements vfs.Inode.
func (i *Inode) Remove(_ wait.Context, name string, victim vfs.Inode, dir bool) error {
	k := victim.(*Inode)
	if dir && !k.empty() {
		return unix.ENOTEMPTY
	}
	i.mu.Lock()
	e := i.dir[name]
	if e == nil || e.i != k {
		i.mu.Unlock()
		return unix.ENOENT
	}
	i.leave(e)
	i.mu.Unlock()
	i.removed(k)
	return nil
}

// removed takes one name's worth of links from k.
func (i *Inode) removed(k *Inode) {
	if k.kind == unix.S_IFDIR {
		i.links(-1)
		k.links(-2)
		return
	}
	k.links(-1)
}

// Rename implements vfs.Inode.
func (i *Inode) Rename(_ wait.Context, oldName string, src vfs.Inode, newDir vfs.Inode, newName string, dst vfs.Inode, exchange bool) error {
	return i.rename(oldName, src, newDir, newName, dst, exchange, nil)
}

// RenameWhiteout implements vfs.WhiteoutRenamer.
func (i *Inode) RenameWhiteout(_ wait.Context, oldName string, src vfs.Inode, newDir vfs.Inode, newName string, dst vfs.Inode, n vfs.NewNode) (vfs.Inode, error) {
	w, err := i.fs.newInode(n, i)
	if err != nil {
		return nil, err
	}
	if !i.fs.held.charge(nameCost + int64(len(oldName))) {
		err = unix.ENOSPC
	} else if err = i.rename(oldName, src, newDir, newName, dst, false, w); err != nil {
		i.fs.held.uncharge(nameCost + int64(len(oldName)))
	}
	if err != nil {
		w.links(-1)
		return nil, err
	}
	return w, nil
}

// rename is Rename that leaves behind under the old name, whose cost is charged, if there is such a node.
func (i *Inode) rename(oldName string, src vfs.Inode, newDir vfs.Inode, newName string, dst vfs.Inode, exchange bool, behind *Inode) error {
	s := src.(*Inode)
	nd, ok := newDir.(*Inode)
	if !ok || nd.fs != i.fs {
		return unix.EXDEV
	}
	d, _ := dst.(*Inode)
	if exchange {
		i.point(oldName, d)
		nd.point(newName, s)
		i.moveDir(s, nd)
		nd.moveDir(d, i)
		return nil
	}
	if d != nil {
		if d.kind == unix.S_IFDIR && !d.empty() {
			return unix.ENOTEMPTY
		}
	}
	if i == nd {
		i.renameHere(oldName, newName, behind)
	} else if err := i.renameAway(oldName, nd, newName, s, behind); err != nil {
		return err
	}
	if d != nil {
		nd.removed(d)
	}
	s.ctime.Store(i.fs.now())
	i.moveDir(s, nd)
	return nil
}

// renameHere renames inside one directory. The entry keeps its place in readdir, so that
// a program that renames what it lists meets each file once.
func (i *Inode) renameHere(oldName, newName string, behind *Inode) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if o := i.dir[newName]; o != nil {
		i.leave(o)
	}
	e := i.dir[oldName]
	delete(i.dir, oldName)
	i.fs.held.uncharge(int64(len(oldName)) - int64(len(newName)))
	e.name = strings.Clone(newName)
	i.dir[e.name] = e
	if behind != nil {
		i.insert(oldName, behind)
	}
	i.changed()
}

// renameAway moves a name to another directory, over what is there.
func (i *Inode) renameAway(oldName string, nd *Inode, newName string, s, behind *Inode) error {
	if !i.fs.held.charge(nameCost + int64(len(newName))) {
		return unix.ENOSPC
	}
	nd.mu.Lock()
	if o := nd.dir[newName]; o != nil {
		nd.leave(o)
	}
	nd.insert(newName, s)
	nd.mu.Unlock()
	i.mu.Lock()
	if e := i.dir[oldName]; e != nil {
		i.leave(e)
	}
	if behind != nil {
		i.insert(oldName, behind)
	}
	i.mu.Unlock()
	return nil
}

// point makes an existing name lead to k.
func (i *Inode) point(name string, k *Inode) {
	i.mu.Lock()
	if e := i.dir[name]; e != nil {
		e.i = k
	}
	i.changed()
	i.mu.Unlock()
}

// moveDir moves the link that a directory's ".." is.
func (i *Inode) moveDir(k, to *Inode) {
	if k.kind == unix.S_IFDIR && i != to {
		i.links(-1)
		to.links(1)
	}
}

// newest is the cookie that stands for seq 0: cookies go up as seq goes down.
const newest = int64(1) << 56

// Mark is the cookie that what is created from now on stands behind.
func (i *Inode) Mark() int64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return newest - i.seq
}

// list implements vfs.DirOps.List. Cookie 0 is ".", 1 "..", 2 the newest entry; then
// come the older ones. What is created while a program reads stands behind it, so a
// loop that makes a file for each one it finds ends, as on Linux.
func (i *Inode) list(_ wait.Context, pos *int64, emit func(e vfs.Dirent) bool) error {
	i.Touched(false)
	for *pos < 2 {
		name := "."
		if *pos == 1 {
			name = ".."
		}
		// The number of ".." is that of the directory itself at the top; readers
		// take it from stat("..").
		if !emit(vfs.Dirent{Name: name, Ino: i.ino, Type: unix.DT_DIR, Next: *pos + 1}) {
			return nil
		}
		*pos++
	}
	for {
		i.mu.Lock()
		most := i.upTo(*pos)
		n := sort.Search(len(i.order), func(k int) bool { return i.order[k].seq > most }) - 1
		for n >= 0 && i.order[n].i == nil {
			n--
		}
		if n < 0 {
			i.mu.Unlock()
			return nil
		}
		e := i.order[n]
		d := vfs.Dirent{Name: e.name, Ino: e.i.ino, Type: uint8(e.i.kind >> 12), Next: newest - e.seq + 1}
		i.mu.Unlock()
		if !emit(d) {
			return nil
		}
		*pos = d.Next
	}
}

// upTo is the highest seq that is listed from a cookie on, below zero behind the last one. A
// number that no cookie is counts entries, as Linux's do. Called with mu held.
func (i *Inode) upTo(cookie int64) int64 {
	switch {
	case cookie == 2:
		return newest
	case cookie > newest/2:
		return newest - cookie
	}
	skip := cookie - 2
	for _, e := range slices.Backward(i.order) {
		if e.i == nil {
			continue
		}
		if skip == 0 {
			return e.seq
		}
		skip--
	}
	return -1
}

// xattrOK: trusted.* and security.* are kept in memory, user.* where the file system is to.
func (i *Inode) xattrOK(name string) bool {
	return i.fs.UserXattrs || !strings.HasPrefix(name, "user.")
}

// GetXattr implements vfs.Xattrs.
func (i *Inode) GetXattr(_ wait.Context, name string) ([]byte, error) {
	if !i.xattrOK(name) {
		return nil, unix.EOPNOTSUPP
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.xattrs.Get(name)
}

// SetXattr implements vfs.Xattrs.
func (i *Inode) SetXattr(_ wait.Context, name string, value []byte, flags int) error {
	if !i.xattrOK(name) {
		return unix.EOPNOTSUPP
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.dead { // a working directory that was removed: what it holds has been given back
		return unix.ENOENT
	}
	if err := i.xattrs.Set(name, value, flags, i.fs.held.charge, i.fs.held.uncharge); err != nil {
		return err
	}
	if name == vfs.CapsXattr {
		i.caps.Store(true)
	}
	i.ctime.Store(i.fs.now())
	return nil
}

// RemoveXattr implements vfs.Xattrs.
func (i *Inode) RemoveXattr(_ wait.Context, name string) error {
	if !i.xattrOK(name) {
		return unix.EOPNOTSUPP
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.dead {
		return unix.ENOENT
	}
	if err := i.xattrs.Remove(name, i.fs.held.uncharge); err != nil {
		return err
	}
	if name == vfs.CapsXattr {
		i.caps.Store(false)
	}
	i.ctime.Store(i.fs.now())
	return nil
}

// ListXattr implements vfs.Xattrs.
func (i *Inode) ListXattr(wait.Context) ([]string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append(i.acls.Xattrs(), i.xattrs.Names()...), nil
}

// SetACL implements vfs.ACLHolder.
func (i *Inode) SetACL(_ wait.Context, creds *vfs.Creds, def bool, l vfs.ACL) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	cur := i.attrLocked()
	done, err := vfs.CheckSetACL(&cur, creds, def, l)
	if done || err != nil {
		return err
	}
	if i.dead {
		return unix.ENOENT
	}
	mode := cur.Mode
	if !def {
		mode, l = l.Update(&cur, creds)
	}
	now := i.acls.With(def, l)
	if more := now.Size() - i.acls.Size(); more > 0 && !i.fs.held.charge(more) {
		return unix.ENOSPC
	} else if more < 0 {
		i.fs.held.uncharge(-more)
	}
	i.acls = now
	i.mode.Store(mode & 0o7777)
	i.ctime.Store(i.fs.now())
	return nil
}
