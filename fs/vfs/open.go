package vfs

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/wait"
)

// tmpfileFlag is __O_TMPFILE without O_DIRECTORY.
const tmpfileFlag = unix.O_TMPFILE &^ unix.O_DIRECTORY

// statusFlags are the open flags a description keeps.
const statusFlags = unix.O_ACCMODE | unix.O_APPEND | unix.O_NONBLOCK | unix.O_DSYNC | unix.O_SYNC |
	unix.O_ASYNC | unix.O_DIRECT | unix.O_NOATIME | unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | tmpfileFlag

// largeFile is O_LARGEFILE, which every open of a 64-bit program has. What has a place does
// without it (who shows the flags adds it).
const largeFile = 0x8000

// Open is openat2: flags are O_*, mode the creation mode before umask. It returns a
// description with one reference. See open(2).
func (ns *Namespace) Open(l Lookup, path string, flags uint32, mode uint32) (*File, error) {
	if flags&unix.O_PATH != 0 {
		flags &= unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_PATH | unix.O_CLOEXEC
	}
	if flags&tmpfileFlag != 0 {
		if flags&unix.O_DIRECTORY == 0 || flags&unix.O_ACCMODE == unix.O_RDONLY {
			return nil, unix.EINVAL
		}
		return ns.openTmpfile(l, path, flags, mode)
	}
	if flags&unix.O_CREAT != 0 {
		return ns.openCreate(l, path, flags, mode)
	}
	w := 0
	if flags&unix.O_NOFOLLOW == 0 {
		w = WalkFollow
	}
	for last := (*Dentry)(nil); ; {
		r, err := ns.walk(&l, path, w)
		if err != nil {
			return nil, err
		}
		if r.file != nil {
			return ns.reopen(l, r.file, flags)
		}
		f, err := ns.openAt(&l, r.path, flags)
		if err != errDead {
			return f, err
		}
		if err := again(&last, r.path.Entry); err != nil {
			return nil, err
		}
	}
}

// openCreate is Open with O_CREAT.
func (ns *Namespace) openCreate(l Lookup, path string, flags, mode uint32) (*File, error) {
	w := walkParent | walkCreate
	if flags&(unix.O_NOFOLLOW|unix.O_EXCL) == 0 {
		w |= WalkFollow
	}
	for last := (*Dentry)(nil); ; {
		r, err := ns.walk(&l, path, w)
		if err != nil {
			return nil, err
		}
		if r.file != nil {
			return ns.reopen(l, r.file, flags)
		}
		if r.path.Valid() {
			if flags&unix.O_EXCL != 0 {
				return nil, unix.EEXIST
			}
			f, err := ns.openAt(&l, r.path, flags)
			if err != errDead {
				return f, err
			}
			if err := again(&last, r.path.Entry); err != nil {
				return nil, err
			}
			continue
		}
		p, err := ns.make(&l, &r, NewNode{Mode: unix.S_IFREG | mode&0o7777}, true)
		switch {
		case err == unix.EEXIST && flags&unix.O_EXCL == 0:
			continue // somebody was faster
		case err != nil:
			return nil, err
		case flags&unix.O_DIRECTORY != 0:
			p.drop(l.C)
			return nil, unix.ENOTDIR
		}
		return ns.openHeld(&l, p, flags&^unix.O_TRUNC)
	}
}

// openAt opens what stands at p: errDead if it does no more.
func (ns *Namespace) openAt(l *Lookup, p Path, flags uint32) (*File, error) {
	if flags&unix.O_PATH == 0 {
		if err := ns.mayOpen(l, p, flags); err != nil {
			return nil, err
		}
	} else if flags&unix.O_DIRECTORY != 0 && !p.Entry.isDir() {
		return nil, unix.ENOTDIR
	}
	if !p.grab() {
		return nil, errDead
	}
	if flags&unix.O_PATH != 0 {
		return newHeld(pathOps{i: p.Entry.inode}, flags, p), nil
	}
	return ns.openHeld(l, p, flags)
}

// openHeld is openAt for what the caller holds and may open whatever its mode; the
// description takes the use over.
func (ns *Namespace) openHeld(l *Lookup, p Path, flags uint32) (*File, error) {
	i := p.Entry.inode
	access := uint8(holdsNothing)
	mode := flags & unix.O_ACCMODE // 3 reads and writes nothing
	if p.Entry.kind == unix.S_IFREG && (mode == unix.O_WRONLY || mode == unix.O_RDWR || flags&unix.O_TRUNC != 0) {
		if err := ns.startWriting(p.Mount, i); err != nil {
			p.drop(l.C)
			return nil, err
		}
		access = holdsWrite
	} else if p.Entry.kind == unix.S_IFREG && mode == unix.O_RDONLY {
		access = startReading(i)
	}
	ops, err := openInode(l, p.Entry, flags)
	if err != nil {
		drop := File{inode: i, access: access, Path: p}
		drop.dropAccess()
		p.drop(l.C)
		return nil, err
	}
	f := newHeld(ops, flags, p)
	f.access, f.silent = access, l.silent
	hears := listening()
	if hears || flags&(unix.O_DIRECT|unix.O_TRUNC) != 0 || leases.n.Load() != 0 || l.Creds != nil && l.Creds.Domain != nil {
		if err := ns.opened(f, l, flags); err != nil {
			f.silent = true // it was never open: nobody hears that it is closed
			f.DecRef()
			return nil, err
		}
	}
	if hears {
		f.told(l.C, unix.IN_OPEN)
	}
	return f, nil
}

// startReading counts who has i open for reading only, where somebody counts.
func startReading(i Inode) (access uint8) {
	w := writesOf(i)
	if w == nil {
		return holdsNothing
	}
	w.readers.Add(1)
	return holdsRead
}

// opened is what stands between a description and its use: landlock, permission, leases,
// O_TRUNC.
func (ns *Namespace) opened(f *File, l *Lookup, flags uint32) error {
	i, p, access := f.inode, f.Path, f.access
	if err := ns.confined(l, p, openRight(f, false)); err != nil {
		return err
	}
	if listening() {
		f.usedBy(l.C)
		if err := f.permission(l.C, unix.FAN_OPEN_PERM); err != nil {
			return err
		}
	}
	if flags&unix.O_DIRECT != 0 && f.Undirect() {
		return unix.EINVAL
	}
	if access != holdsNothing {
		if err := breakLeases(l.C, writesOf(i), access == holdsWrite, flags&unix.O_NONBLOCK != 0); err != nil {
			return err
		}
	}
	if flags&unix.O_TRUNC == 0 || p.Entry.kind != unix.S_IFREG {
		return nil
	}
	if err := i.SetAttr(l.C, truncateTo(i, l, 0)); err != nil {
		return err
	}
	tellDentry(l.C, p.Entry, unix.IN_MODIFY)
	if flags&unix.O_ACCMODE == unix.O_RDONLY {
		f.dropAccess() // it was opened for writing only to be cut
		f.access = startReading(i)
	}
	return nil
}

// truncateTo is the request for a new size; set-id bits go unless l may keep them.
func truncateTo(i Inode, l *Lookup, size int64) SetAttr {
	a := SetAttr{SetSize: true, Size: size}
	dropCaps(l.C, i)
	if l.Creds.Can(CapFsetid) {
		return a
	}
	if cur, err := i.Attr(l.C); err == nil && cur.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
		a.SetMode, a.Mode = true, withoutSetIDs(cur.Mode)
	}
	return a
}

// withoutSetIDs is a mode that lost its set-id bits; without group execution S_ISGID means
// something else.
func withoutSetIDs(mode uint32) uint32 {
	mode &^= unix.S_ISUID
	if mode&0o010 != 0 {
		mode &^= unix.S_ISGID
	}
	return mode
}

func openInode(l *Lookup, d *Dentry, flags uint32) (FileOps, error) {
	if d.opener != nil {
		return d.opener.OpenFile(*l, flags)
	}
	return d.inode.Open(l.C, flags)
}

// newAt makes the description of something with a place.
func newAt(ops FileOps, flags uint32, p Path) *File {
	p.Entry.inode.IncRef()
	return newHeld(ops, flags, p)
}

// newHeld is newAt that takes over a use of the inode.
func newHeld(ops FileOps, flags uint32, p Path) *File {
	f := NewFile(ops, flags&statusFlags)
	f.Path = p
	f.inode = p.Entry.inode
	p.Mount.uses.Add(1)
	if p.Mount.expiring.Load() {
		p.Mount.expiring.Store(false)
	}
	if p.Entry.kind == unix.S_IFCHR {
		_, f.still = ops.(Still)
	}
	return f
}

// mayOpen is Linux's may_open with its order of errors.
func (ns *Namespace) mayOpen(l *Lookup, p Path, flags uint32) error {
	kind := p.Entry.kind
	write := flags&unix.O_ACCMODE != unix.O_RDONLY || flags&unix.O_TRUNC != 0
	if flags&unix.O_CREAT != 0 && kind == unix.S_IFDIR {
		return unix.EISDIR
	}
	if flags&unix.O_DIRECTORY != 0 && kind != unix.S_IFDIR {
		return unix.ENOTDIR
	}
	mask := accessMask(flags)
	switch kind {
	case unix.S_IFLNK:
		return unix.ELOOP
	case unix.S_IFDIR:
		if write {
			return unix.EISDIR
		}
	case unix.S_IFBLK, unix.S_IFCHR:
		if p.Mount.Flags()&unix.MS_NODEV != 0 {
			return unix.EACCES
		}
	case unix.S_IFREG:
		if write && p.Mount.ReadOnly() {
			return unix.EROFS
		}
	}
	if mask == MayRead && flags&unix.O_NOATIME == 0 && l.Creds.Can(CapDACReadSearch) && kind != unix.S_IFSOCK {
		return nil // whatever the mode
	}
	a, err := p.Entry.inode.Attr(l.C)
	if err != nil {
		return err
	}
	if err := l.mayOpenNode(p.Entry.inode, &a, mask, flags); err != nil {
		return err
	}
	if kind == unix.S_IFSOCK {
		return unix.ENXIO
	}
	return nil
}

// reopen opens what a magic link gave: a pipe, memfd or the like that has no place.
func (ns *Namespace) reopen(l Lookup, old *File, flags uint32) (*File, error) {
	defer old.DecRef()
	if flags&unix.O_EXCL != 0 && flags&unix.O_CREAT != 0 {
		return nil, unix.EEXIST
	}
	if flags&unix.O_DIRECTORY != 0 {
		return nil, unix.ENOTDIR
	}
	if flags&unix.O_PATH != 0 {
		p, ok := old.Ops.(pointerOps)
		if !ok {
			p.of = old
		}
		p.of.IncRef()
		f := NewFile(p, flags&statusFlags)
		f.Name = old.Name
		return f, nil
	}
	a, err := old.Ops.Attr(l.C)
	if err != nil {
		return nil, err
	}
	if err := l.mayOpenNode(old.Ops, &a, accessMask(flags), flags); err != nil {
		return nil, err
	}
	o, ok := old.Ops.(Reopener)
	if !ok {
		return nil, unix.ENXIO
	}
	ops, err := o.Reopen(l, flags)
	if err != nil {
		return nil, err
	}
	f := NewFile(ops, flags&statusFlags|largeFile)
	f.Name = old.Name
	if flags&unix.O_DIRECT != 0 && f.Undirect() {
		err = unix.EINVAL
	} else if err = f.CountAccess(l.C); err == nil && flags&unix.O_TRUNC != 0 && a.Mode&unix.S_IFMT == unix.S_IFREG {
		err = TruncateFile(l, f, 0)
	}
	if err != nil {
		f.DecRef()
		return nil, err
	}
	return f, nil
}

// accessMask is what an open with flags asks of a node's mode.
func accessMask(flags uint32) (mask uint32) {
	if flags&unix.O_ACCMODE != unix.O_WRONLY {
		mask = MayRead
	}
	if flags&unix.O_ACCMODE != unix.O_RDONLY || flags&unix.O_TRUNC != 0 {
		mask |= MayWrite
	}
	return mask
}

// mayOpenNode checks the mode and owner of an Inode or FileOps for an open with flags.
func (l *Lookup) mayOpenNode(node any, a *Attr, mask, flags uint32) error {
	if err := l.permitted(node, a, mask); err != nil {
		return err
	}
	if flags&unix.O_NOATIME != 0 && !l.Creds.owns(a) {
		return unix.EPERM
	}
	return nil
}

// Reopener is implemented by objects without a place that /proc/self/fd/N can open
// again (pipes, memfds).
type Reopener interface {
	Reopen(l Lookup, flags uint32) (FileOps, error)
}

// openTmpfile is Open with O_TMPFILE.
func (ns *Namespace) openTmpfile(l Lookup, path string, flags, mode uint32) (*File, error) {
	p, err := ns.Walk(l, path, WalkFollow|WalkDir)
	if err != nil {
		return nil, err
	}
	if p.Mount.ReadOnly() {
		return nil, unix.EROFS
	}
	if err := ns.permission(&l, p, MayWrite|MayExec); err != nil {
		return nil, err
	}
	d, ok := p.Entry.inode.(TmpfileCreator)
	if !ok {
		return nil, unix.EOPNOTSUPP
	}
	i, err := d.Tmpfile(l.C, owned(&l, p.Entry.inode, NewNode{Mode: unix.S_IFREG | mode&0o7777,
		Nameless: flags&unix.O_EXCL != 0}))
	if err != nil {
		return nil, err
	}
	ops, err := i.Open(l.C, flags)
	if err != nil {
		i.DecRef()
		return nil, err
	}
	k := newDentry(p.Entry.super, i, 0)
	k.loc.Store(&location{parent: p.Entry, name: "#" + itoa(inoOf(i)), gone: true})
	f := newAt(ops, flags, Path{p.Mount, k})
	if err := ns.confined(&l, f.Path, openRight(f, false)); err != nil {
		f.silent = true
		f.DecRef()
		i.DecRef()
		return nil, err
	}
	f.UsedBy(l.C)
	f.told(l.C, unix.IN_OPEN)
	err = ns.startWriting(p.Mount, i) // it is new: nobody runs it
	i.DecRef()
	if err != nil {
		f.DecRef()
		return nil, err
	}
	f.access = holdsWrite
	return f, nil
}

func inoOf(i Inode) uint64 {
	a, _ := i.Attr(nil)
	return a.Ino
}

func itoa(n uint64) string {
	var b [20]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return string(b[i:])
		}
	}
}

// OpenExec opens for execve: a regular file, executable, not on a noexec mount (EACCES),
// not open for writing (ETXTBSY). Until the description's end it cannot be written.
func (ns *Namespace) OpenExec(l Lookup, path string) (*File, error) {
	return ns.OpenExecAt(l, path, WalkFollow)
}

// OpenExecAt is OpenExec with WalkFollow and WalkEmpty as execveat's flags ask; ELOOP
// for a link that is not to be followed.
func (ns *Namespace) OpenExecAt(l Lookup, path string, walk int) (*File, error) {
	for last := (*Dentry)(nil); ; {
		r, err := ns.walk(&l, path, walk)
		if err != nil {
			return nil, err
		}
		if r.file != nil { // /proc/PID/fd/N of what has no place
			defer r.file.DecRef()
			return l.OpenExecFile(r.file)
		}
		f, err := ns.openExec(&l, r.path)
		if err != errDead {
			return f, err
		}
		if err := again(&last, r.path.Entry); err != nil {
			return nil, err
		}
	}
}

// OpenExecFile is OpenExec for a description without a place (memfd_create): EACCES unless it
// is of a regular file that is executable.
func (l *Lookup) OpenExecFile(f *File) (*File, error) {
	a, err := f.Ops.Attr(l.C)
	if err != nil {
		return nil, err
	}
	if a.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unix.EACCES
	}
	if err := l.permitted(f.Ops, &a, MayExec); err != nil {
		return nil, err
	}
	if o, ok := f.Ops.(pointerOps); ok { // O_PATH
		f = o.of
	}
	f.IncRef()
	return f, nil
}

// openExec is OpenExec for what stands at p: errDead if it does no more.
func (ns *Namespace) openExec(l *Lookup, p Path) (*File, error) {
	switch p.Entry.kind {
	case unix.S_IFREG:
	case unix.S_IFLNK:
		return nil, unix.ELOOP
	default:
		return nil, unix.EACCES
	}
	if p.Mount.Flags()&unix.MS_NOEXEC != 0 {
		return nil, unix.EACCES
	}
	if err := ns.permission(l, p, MayExec); err != nil {
		return nil, err
	}
	if !p.grab() {
		return nil, errDead
	}
	if err := denyWrite(p.Entry.inode); err != nil {
		p.drop(l.C)
		return nil, err
	}
	ops, err := openInode(l, p.Entry, unix.O_RDONLY)
	if err != nil {
		allowWrite(p.Entry.inode)
		p.drop(l.C)
		return nil, err
	}
	f := newHeld(ops, unix.O_RDONLY, p)
	f.access = holdsText
	if err := ns.confined(l, p, openRight(f, true)); err != nil {
		f.silent = true
		f.DecRef()
		return nil, err
	}
	f.UsedBy(l.C)
	for _, ask := range [...]uint32{unix.FAN_OPEN_EXEC_PERM, unix.FAN_OPEN_PERM} {
		if err := f.permission(l.C, ask); err != nil {
			f.silent = true
			f.DecRef()
			return nil, err
		}
	}
	f.told(l.C, unix.IN_OPEN|unix.FAN_OPEN_EXEC)
	return f, nil
}

// pathOps stands behind O_PATH descriptors: fstat works, nothing else does.
type pathOps struct {
	BaseOps
	i Inode
}

func (p pathOps) Attr(c wait.Context) (Attr, error)   { return p.i.Attr(c) }
func (p pathOps) SetAttr(wait.Context, SetAttr) error { return unix.EBADF }

// pointerOps is pathOps for what has no place. It keeps the description that it leads to.
type pointerOps struct {
	BaseOps
	of *File
}

func (p pointerOps) Attr(c wait.Context) (Attr, error)       { return p.of.Ops.Attr(c) }
func (p pointerOps) SetAttr(c wait.Context, a SetAttr) error { return p.of.Ops.SetAttr(c, a) }
func (p pointerOps) Release(*File)                           { p.of.DecRef() }

// Reopen implements Reopener.
func (p pointerOps) Reopen(l Lookup, flags uint32) (FileOps, error) {
	if o, ok := p.of.Ops.(Reopener); ok {
		return o.Reopen(l, flags)
	}
	return nil, unix.ENXIO
}
