package vfs

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/kernel/wait"
)

// make creates the node that a walkParent walk found missing, with the checks of
// vfs_create and its kin; with held the caller is to drop it. EEXIST if somebody was
// faster.
func (ns *Namespace) make(l *Lookup, r *found, n NewNode, held bool) (Path, error) {
	if r.parent.Mount.ReadOnly() {
		return Path{}, unix.EROFS
	}
	if err := ns.confined(l, r.parent, makeRight(n.Mode)); err != nil {
		return Path{}, err
	}
	d := r.parent.Entry
	d.super.modify.Lock(l.C)
	defer d.super.modify.Unlock()
	if err := ns.mayCreate(l, r); err != nil {
		return Path{}, err
	}
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		// Device 0:0 is a whiteout, which anybody may make.
		if !l.Creds.Can(CapMknod) && !(n.Mode&unix.S_IFMT == unix.S_IFCHR && n.Rdev == 0) {
			return Path{}, unix.EPERM
		}
	}
	i, err := d.inode.Create(l.C, r.name, owned(l, d.inode, n))
	if err != nil {
		return Path{}, err
	}
	if held {
		i.IncRef() // while nobody can unlink it
	}
	k := d.born(r.name, i)
	tellName(l.C, d, i, r.name, unix.IN_CREATE, 0)
	return Path{r.parent.Mount, k}, nil
}

// mayCreate checks that r's name is free and that l may write in its directory. Called
// with modify held.
func (ns *Namespace) mayCreate(l *Lookup, r *found) error {
	d := r.parent.Entry
	if d.loc.Load().gone {
		return unix.ENOENT
	}
	k, err := d.child(l.C, r.name)
	if err != nil {
		return err
	}
	if k.inode != nil {
		return unix.EEXIST
	}
	if err := ns.permission(l, r.parent, MayWrite|MayExec); err != nil {
		return err
	}
	if d.depth >= maxDepth {
		return unix.ENAMETOOLONG
	}
	return nil
}

// owned fills in the owner of a new node (inode_init_owner), and what it inherits of dir's
// default ACL, in the absence of which the umask counts (posix_acl_create).
func owned(l *Lookup, dir Inode, n NewNode) NewNode {
	if l.Creds != nil {
		n.UID, n.GID = l.Creds.FSUID, l.Creds.FSGID
	}
	a, err := dir.Attr(l.C)
	if err == nil && a.Mode&unix.S_ISGID != 0 {
		n.GID = a.GID
		switch {
		case n.Mode&unix.S_IFMT == unix.S_IFDIR:
			n.Mode |= unix.S_ISGID
		case n.Mode&(unix.S_ISGID|0o010) == unix.S_ISGID|0o010 && l.Creds != nil && !l.Creds.InGroup(a.GID) && !l.Creds.Can(CapFsetid):
			// Nobody makes himself a program of a group that he is not in. The umask
			// comes later (mode_strip_sgid).
			n.Mode &^= unix.S_ISGID
		}
	}
	switch {
	case n.Mode&unix.S_IFMT == unix.S_IFLNK:
	case err == nil && a.ACLs != nil && a.ACLs.Default != nil:
		n.Mode, n.ACLs = a.ACLs.Default.inherit(n.Mode)
	default:
		n.Mode &^= l.umask()
	}
	return n
}

// special says that a path does not end in a name that can be made or removed.
func special(name string) bool { return name == "" || name == "." || name == ".." }

// create is the common part of mkdir, mknod, symlink and link.
func (ns *Namespace) create(l *Lookup, path string, n NewNode, link func(r *found) error) error {
	r, err := ns.walk(l, path, walkLast)
	if err != nil {
		return err
	}
	if special(r.name) {
		return unix.EEXIST
	}
	k, err := r.parent.Entry.child(l.C, r.name)
	if err != nil {
		return err
	}
	if k.inode != nil {
		return unix.EEXIST
	}
	if r.slash && n.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.ENOENT
	}
	if link != nil {
		return link(&r)
	}
	_, err = ns.make(l, &r, n, false)
	return err
}

// Mkdir makes a directory. See mkdir(2).
func (ns *Namespace) Mkdir(l Lookup, path string, mode uint32) error {
	return ns.create(&l, path, NewNode{Mode: unix.S_IFDIR | mode&0o1777}, nil)
}

// Mknod makes a file, FIFO, socket or device; EPERM for devices without CAP_MKNOD,
// EINVAL for other types. See mknod(2).
func (ns *Namespace) Mknod(l Lookup, path string, mode uint32, rdev uint64) error {
	switch mode & unix.S_IFMT {
	case 0:
		mode |= unix.S_IFREG
	case unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK:
	case unix.S_IFCHR, unix.S_IFBLK:
	case unix.S_IFDIR:
		return unix.EPERM
	default:
		return unix.EINVAL
	}
	return ns.create(&l, path, NewNode{Mode: mode & (unix.S_IFMT | 0o7777), Rdev: rdev}, nil)
}

// MknodPath is Mknod that returns where the node stands (bind of AF_UNIX sockets).
func (ns *Namespace) MknodPath(l Lookup, path string, mode uint32) (Path, error) {
	r, err := ns.walk(&l, path, walkParent)
	if err != nil {
		return Path{}, err
	}
	if special(r.name) || r.path.Valid() {
		return Path{}, unix.EEXIST
	}
	// The umask counts here beside a default ACL (unix_bind_bsd).
	return ns.make(&l, &r, NewNode{Mode: mode &^ l.umask()}, false)
}

// Symlink makes a symbolic link. See symlink(2).
func (ns *Namespace) Symlink(l Lookup, target, path string) error {
	if target == "" {
		return unix.ENOENT
	}
	return ns.create(&l, path, NewNode{Mode: unix.S_IFLNK | 0o777, Target: target}, nil)
}

// Link gives from one more name. EPERM for directories, EXDEV across mounts. See link(2).
func (ns *Namespace) Link(from Lookup, old string, to Lookup, new string, flags int) error {
	w := 0
	if flags&unix.AT_SYMLINK_FOLLOW != 0 {
		w = WalkFollow
	}
	if flags&unix.AT_EMPTY_PATH != 0 {
		w |= WalkEmpty
		if old == "" && !from.Creds.Can(CapDACReadSearch) {
			return unix.ENOENT
		}
	}
	p, err := ns.Walk(from, old, w)
	if err == unix.ENXIO {
		err = unix.EXDEV // it is in a file system of its own
	}
	if err != nil {
		return err
	}
	if to.Wrong != nil {
		return to.Wrong
	}
	return ns.create(&to, new, NewNode{Mode: unix.S_IFREG}, func(r *found) error {
		if r.parent.Mount.ReadOnly() {
			return unix.EROFS
		}
		if p.Mount != r.parent.Mount {
			return unix.EXDEV
		}
		if err := mayLink(&to, p.Entry.inode); err != nil {
			return err
		}
		if err := ns.mayRefer(&to, p.Mount, p.Entry, r.parent.Entry, nil, false, false); err != nil {
			return err
		}
		d, i := r.parent.Entry, p.Entry.inode
		d.super.modify.Lock(to.C)
		defer d.super.modify.Unlock()
		if err := ns.mayCreate(&to, r); err != nil {
			return err
		}
		if isDir(i) {
			return unix.EPERM
		}
		if err := d.inode.Link(to.C, r.name, i); err != nil {
			return err
		}
		d.born(r.name, i)
		tellInode(to.C, d.super, i, unix.IN_ATTRIB)
		tellName(to.C, d, i, r.name, unix.IN_CREATE, 0)
		return nil
	})
}

// ProtectedHardlinks and ProtectedSymlinks are fs.protected_hardlinks and
// fs.protected_symlinks, which Debian's kernel has on.
var ProtectedHardlinks, ProtectedSymlinks atomic.Int64

func init() {
	ProtectedHardlinks.Store(1)
	ProtectedSymlinks.Store(1)
}

// mayLink is may_linkat: EPERM for a second name of a file that is not the caller's and
// that it might use to harm others: special, set-id, or not readable and writable to it.
func mayLink(l *Lookup, i Inode) error {
	if ProtectedHardlinks.Load() == 0 || l.Creds == nil {
		return nil
	}
	a, err := i.Attr(l.C)
	if err != nil || l.Creds.owns(&a) {
		return err
	}
	if a.Mode&unix.S_IFMT != unix.S_IFREG || a.Mode&unix.S_ISUID != 0 || a.Mode&(unix.S_ISGID|0o010) == unix.S_ISGID|0o010 ||
		l.Creds.Permission(&a, MayRead|MayWrite) != nil {
		return unix.EPERM
	}
	return nil
}

// mayFollow is may_follow_link: EACCES for another's link in a directory where anybody may
// put one (/tmp), unless the directory's owner did.
func mayFollow(l *Lookup, dir, link Inode) error {
	if ProtectedSymlinks.Load() == 0 || l.Creds == nil {
		return nil
	}
	d, err := dir.Attr(l.C)
	if err != nil || d.Mode&(unix.S_ISVTX|0o002) != unix.S_ISVTX|0o002 {
		return err
	}
	a, err := link.Attr(l.C)
	if err != nil || a.UID == l.Creds.FSUID || a.UID == d.UID {
		return err
	}
	return unix.EACCES
}

// mayDelete is Linux's may_delete: EACCES, EPERM (sticky), ENOTDIR, EISDIR.
func (ns *Namespace) mayDelete(l *Lookup, dir Path, victim Inode, wantDir bool) error {
	if err := ns.permission(l, dir, MayWrite|MayExec); err != nil {
		return err
	}
	if l.Creds != nil {
		d, err := dir.Entry.inode.Attr(l.C)
		if err != nil {
			return err
		}
		if d.Mode&unix.S_ISVTX != 0 && !l.Creds.Can(CapFowner) && d.UID != l.Creds.FSUID {
			v, err := victim.Attr(l.C)
			if err != nil {
				return err
			}
			if v.UID != l.Creds.FSUID {
				return unix.EPERM
			}
		}
	}
	switch {
	case wantDir && !isDir(victim):
		return unix.ENOTDIR
	case !wantDir && isDir(victim):
		return unix.EISDIR
	}
	return nil
}

// Unlink removes a name; with rmdir an empty directory. See unlink(2), rmdir(2).
func (ns *Namespace) Unlink(l Lookup, path string, rmdir bool) error {
	r, err := ns.walk(&l, path, walkLast)
	if err != nil {
		return err
	}
	if special(r.name) {
		switch {
		case !rmdir:
			return unix.EISDIR
		case r.name == ".":
			return unix.EINVAL
		case r.name == "..":
			return unix.ENOTEMPTY
		}
		return unix.EBUSY
	}
	if r.parent.Mount.ReadOnly() {
		return unix.EROFS
	}
	d := r.parent.Entry
	d.super.modify.Lock(l.C)
	defer d.super.modify.Unlock()
	k, err := d.child(l.C, r.name)
	if err != nil {
		return err
	}
	if k.inode == nil {
		return unix.ENOENT
	}
	if r.slash && !rmdir {
		if isDir(k.inode) {
			return unix.EISDIR
		}
		return unix.ENOTDIR
	}
	right := uint16(unix.LANDLOCK_ACCESS_FS_REMOVE_FILE)
	if rmdir {
		right = unix.LANDLOCK_ACCESS_FS_REMOVE_DIR
	}
	if err := ns.confined(&l, r.parent, right); err != nil {
		return err
	}
	if err := ns.mayDelete(&l, r.parent, k.inode, rmdir); err != nil {
		return err
	}
	if k.mounts.Load() > 0 {
		return unix.EBUSY
	}
	k.inode.IncRef() // it outlives its entry
	err = d.inode.Remove(l.C, r.name, k.inode, rmdir)
	if err == nil {
		d.died(k)
	}
	k.inode.DecRef()
	if err != nil {
		return err
	}
	tellRemoved(l.C, d, k.inode, r.name)
	return nil
}

// Rename is renameat2. See rename(2).
func (ns *Namespace) Rename(from Lookup, old string, to Lookup, new string, flags uint) error {
	const known = unix.RENAME_NOREPLACE | unix.RENAME_EXCHANGE | unix.RENAME_WHITEOUT
	if flags&^known != 0 || flags&unix.RENAME_EXCHANGE != 0 && flags != unix.RENAME_EXCHANGE {
		return unix.EINVAL
	}
	a, err := ns.walk(&from, old, walkLast)
	if err != nil {
		return err
	}
	if to.Wrong != nil {
		return to.Wrong
	}
	b, err := ns.walk(&to, new, walkLast)
	if err != nil {
		return err
	}
	if a.parent.Mount != b.parent.Mount {
		return unix.EXDEV
	}
	if special(a.name) {
		return unix.EBUSY
	}
	if special(b.name) {
		if flags&unix.RENAME_NOREPLACE != 0 {
			return unix.EEXIST
		}
		return unix.EBUSY
	}
	if a.parent.Mount.ReadOnly() {
		return unix.EROFS
	}
	s := a.parent.Entry.super
	s.modify.Lock(from.C)
	defer s.modify.Unlock()
	return ns.rename(&from, &a, &b, flags)
}

// rename is the part of Rename that runs with modify held.
func (ns *Namespace) rename(l *Lookup, a, b *found, flags uint) error {
	exchange := flags&unix.RENAME_EXCHANGE != 0
	src, err := a.parent.Entry.child(l.C, a.name)
	if err != nil {
		return err
	}
	if src.inode == nil {
		return unix.ENOENT
	}
	dst, err := b.parent.Entry.child(l.C, b.name)
	switch {
	case err != nil:
		return err
	case flags&unix.RENAME_NOREPLACE != 0 && dst.inode != nil:
		return unix.EEXIST
	case exchange && dst.inode == nil:
		return unix.ENOENT
	case exchange && b.slash && !isDir(dst.inode):
		return unix.ENOTDIR
	case !isDir(src.inode) && (a.slash || b.slash && !exchange):
		return unix.ENOTDIR
	case b.parent.Entry.within(src):
		return unix.EINVAL
	case dst.inode != nil && a.parent.Entry.within(dst):
		if exchange {
			return unix.EINVAL
		}
		return unix.ENOTEMPTY
	}
	if err := ns.mayRefer(l, a.parent.Mount, src, b.parent.Entry, dst, true, exchange); err != nil {
		return err
	}
	if dst.inode == src.inode {
		return nil
	}
	if err := ns.mayRename(l, a, b, src, dst, exchange); err != nil {
		return err
	}
	if b.parent.Entry.depth >= maxDepth {
		return unix.ENAMETOOLONG
	}
	victim := dst.inode
	if exchange {
		victim = nil
	}
	if victim != nil {
		victim.IncRef() // it outlives its entry
	}
	var whiteout Inode
	if flags&unix.RENAME_WHITEOUT != 0 {
		whiteout, err = renameWhiteout(l, a, b, src.inode, dst.inode)
	} else {
		err = a.parent.Entry.inode.Rename(l.C, a.name, src.inode, b.parent.Entry.inode, b.name, dst.inode, exchange)
	}
	if dst.inode == nil {
		dst = nil
	}
	from, to := a.parent.Entry, b.parent.Entry
	if err == nil {
		moved(src, to, b.name, dst, exchange)
	}
	if victim != nil {
		victim.DecRef()
	}
	if err != nil {
		return err
	}
	if whiteout != nil {
		from.born(a.name, whiteout)
	}
	switch {
	case exchange:
		tellMoved(l.C, src.inode, from, a.name, to, b.name, nil)
		tellMoved(l.C, dst.inode, to, b.name, from, a.name, nil)
	case dst != nil:
		tellMoved(l.C, src.inode, from, a.name, to, b.name, dst.inode)
	default:
		tellMoved(l.C, src.inode, from, a.name, to, b.name, nil)
	}
	return nil
}

// renameWhiteout renames src to b and leaves a whiteout at a, of which nobody is told.
func renameWhiteout(l *Lookup, a, b *found, src, dst Inode) (Inode, error) {
	dir := a.parent.Entry.inode
	w, ok := dir.(WhiteoutRenamer)
	if !ok {
		return nil, unix.EINVAL
	}
	return w.RenameWhiteout(l.C, a.name, src, b.parent.Entry.inode, b.name, dst, owned(l, dir, NewNode{Mode: unix.S_IFCHR}))
}

// mayRename is the permission half of vfs_rename.
func (ns *Namespace) mayRename(l *Lookup, a, b *found, src, dst *Dentry, exchange bool) error {
	srcDir := isDir(src.inode)
	if err := ns.mayDelete(l, a.parent, src.inode, srcDir); err != nil {
		return err
	}
	switch {
	case dst.inode == nil:
		if b.parent.Entry.loc.Load().gone {
			return unix.ENOENT
		}
		if err := ns.permission(l, b.parent, MayWrite|MayExec); err != nil {
			return err
		}
	case exchange:
		if err := ns.mayDelete(l, b.parent, dst.inode, isDir(dst.inode)); err != nil {
			return err
		}
	default:
		if err := ns.mayDelete(l, b.parent, dst.inode, srcDir); err != nil {
			return err
		}
	}
	if a.parent.Entry != b.parent.Entry {
		// Its ".." changes.
		if srcDir {
			if err := ns.permission(l, Path{a.parent.Mount, src}, MayWrite); err != nil {
				return err
			}
		}
		if exchange && isDir(dst.inode) {
			if err := ns.permission(l, Path{b.parent.Mount, dst}, MayWrite); err != nil {
				return err
			}
		}
	}
	if src.mounts.Load() > 0 || dst.mounts.Load() > 0 {
		return unix.EBUSY
	}
	return nil
}

// Stat gives the attributes of a place; walk is WalkFollow and WalkEmpty.
func (ns *Namespace) Stat(l Lookup, path string, walk int) (Attr, Path, error) {
	for last := (*Dentry)(nil); ; {
		r, err := ns.walk(&l, path, walk)
		if err != nil {
			return Attr{}, Path{}, err
		}
		if r.file != nil {
			defer r.file.DecRef()
			a, err := r.file.Ops.Attr(l.C)
			return a, Path{}, err
		}
		a, err := r.path.Entry.inode.Attr(l.C)
		if err != nil || !r.path.Entry.dead() || again(&last, r.path.Entry) != nil {
			return a, r.path, err
		}
	}
}

// SetAttr changes attributes by path (chmod, chown, utimensat, truncate).
func (ns *Namespace) SetAttr(l Lookup, path string, walk int, a SetAttr) error {
	r, err := ns.walk(&l, path, walk)
	if err != nil {
		return err
	}
	a.Creds = l.Creds
	if r.file != nil {
		defer r.file.DecRef()
		return r.file.Ops.SetAttr(l.C, a)
	}
	return ns.SetAttrAt(l, r.path, a)
}

// setAttr changes attributes of an entry's node and tells of it.
func (d *Dentry) setAttr(c wait.Context, a SetAttr) error {
	err := d.inode.SetAttr(c, a)
	if m := a.events(); err == nil && m != 0 && listening() {
		tellDentry(c, d, m)
	}
	return err
}

// SetAttrAt is SetAttr for a place already found.
func (ns *Namespace) SetAttrAt(l Lookup, p Path, a SetAttr) error {
	if p.Mount.ReadOnly() {
		return unix.EROFS
	}
	a.Creds = l.Creds
	if a.SetMode && isLink(p.Entry.inode) {
		return unix.EOPNOTSUPP
	}
	err := p.Entry.setAttr(l.C, a)
	if x, ok := p.Entry.inode.(Xattrs); ok && err == nil && (a.SetUID || a.SetGID) {
		_ = x.RemoveXattr(l.C, CapsXattr) // a new owner's program has none
	}
	return err
}

// Truncate is truncate(2): EISDIR, EINVAL for what is not a regular file, ETXTBSY.
func (ns *Namespace) Truncate(l Lookup, path string, size int64, allowed func() error) error {
	p, done, err := ns.Held(l, path, WalkFollow)
	if err == unix.ENXIO {
		return ns.truncateFile(l, path, size, allowed)
	}
	if err != nil {
		return err
	}
	defer done()
	switch p.Entry.kind {
	case unix.S_IFDIR:
		return unix.EISDIR
	case unix.S_IFREG:
	default:
		return unix.EINVAL
	}
	if p.Mount.ReadOnly() {
		return unix.EROFS
	}
	if err := ns.permission(&l, p, MayWrite); err != nil {
		return err
	}
	i := p.Entry.inode
	if err := getWrite(i); err != nil {
		return err
	}
	defer putWrite(i)
	if err := breakLeases(l.C, writesOf(i), true, false); err != nil {
		return err
	}
	if err := allowed(); err != nil {
		return err
	}
	return p.Entry.setAttr(l.C, truncateTo(i, &l, size))
}

// truncateFile is Truncate for a path to what has no place (/proc/self/fd/N of a memfd).
func (ns *Namespace) truncateFile(l Lookup, path string, size int64, allowed func() error) error {
	r, err := ns.walk(&l, path, WalkFollow)
	if err != nil {
		return err
	}
	if r.file == nil {
		return unix.ENOENT // it led elsewhere a moment ago
	}
	defer r.file.DecRef()
	a, err := r.file.Ops.Attr(l.C)
	switch {
	case err != nil:
		return err
	case a.Mode&unix.S_IFMT != unix.S_IFREG:
		return unix.EINVAL
	}
	if err := l.permitted(r.file.Ops, &a, MayWrite); err != nil {
		return err
	}
	if err := breakLeases(l.C, r.file.writes(), true, false); err != nil {
		return err
	}
	if err := allowed(); err != nil {
		return err
	}
	return TruncateFile(l, r.file, size)
}

// TruncateFile is ftruncate after the checks of the descriptor.
func TruncateFile(l Lookup, f *File, size int64) error {
	if f.inode != nil {
		return f.Path.Entry.setAttr(l.C, truncateTo(f.inode, &l, size))
	}
	return f.Ops.SetAttr(l.C, SetAttr{SetSize: true, Size: size})
}

// Access is faccessat: the answer for creds in l (the caller puts the real ids there).
func (ns *Namespace) Access(l Lookup, path string, walk int, mask uint32) error {
	r, err := ns.walk(&l, path, walk)
	if err != nil {
		return err
	}
	if r.file != nil {
		defer r.file.DecRef()
		a, err := r.file.Ops.Attr(l.C)
		if err != nil {
			return err
		}
		return l.Creds.Permission(&a, mask)
	}
	return ns.AccessAt(l, r.path, mask)
}

// AccessAt is Access for a place already found.
func (ns *Namespace) AccessAt(l Lookup, p Path, mask uint32) error {
	kind := typeOf(p.Entry.inode)
	if mask&MayExec != 0 && kind == unix.S_IFREG && p.Mount.Flags()&unix.MS_NOEXEC != 0 {
		return unix.EACCES
	}
	if err := ns.permission(&l, p, mask); err != nil {
		return err
	}
	if mask&MayWrite != 0 && p.Mount.ReadOnly() && (kind == unix.S_IFREG || kind == unix.S_IFDIR || kind == unix.S_IFLNK) {
		return unix.EROFS
	}
	return nil
}

// Readlink gives a link's target; EINVAL for others. See readlink(2).
func (ns *Namespace) Readlink(l Lookup, path string) (string, error) {
	p, err := ns.Walk(l, path, WalkEmpty)
	if err != nil {
		return "", err
	}
	i := p.Entry.inode
	if !isLink(i) {
		if path == "" {
			return "", unix.ENOENT
		}
		return "", unix.EINVAL
	}
	if m, ok := i.(MagicLink); ok {
		jump, file, err := m.Follow(l)
		if err != nil {
			return "", err
		}
		if file != nil {
			defer file.DecRef()
			return file.Name, nil
		}
		if jump.Valid() {
			return ns.Name(jump, l.root(ns)), nil
		}
	}
	return i.Readlink(l.C)
}

// Chdir changes the working directory to p after the checks (ENOTDIR, EACCES).
func (ns *Namespace) Chdir(l Lookup, p Path) error {
	if err := ns.searchable(&l, p); err != nil {
		return err
	}
	if err := ns.permission(&l, p, MayExec); err != nil {
		return err
	}
	l.FS.SetCwd(p)
	return nil
}

// Chroot changes the root; EPERM without CAP_SYS_CHROOT.
func (ns *Namespace) Chroot(l Lookup, path string) error {
	p, err := ns.Walk(l, path, WalkFollow|WalkDir)
	if err != nil {
		return err
	}
	if err := ns.permission(&l, p, MayExec); err != nil {
		return err
	}
	if !l.Creds.Can(CapSysChroot) {
		return unix.EPERM
	}
	l.FS.SetRoot(p)
	return nil
}

// internalMount is the mount that what has no place is on: one that no list shows.
const internalMount = 15

// MountID is the number of p's mount.
func (p Path) MountID() int {
	if p.Mount == nil {
		return internalMount
	}
	return p.Mount.ID
}

// ReadOnly says whether nothing can be changed at p.
func (p Path) ReadOnly() bool { return p.Mount.ReadOnly() }
