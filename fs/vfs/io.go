package vfs

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// filePos is the position of a description. Its lock is held over the transfer, so
// that threads sharing a descriptor read disjoint parts (POSIX 2.9.7).
type filePos struct {
	SleepLock
	off int64
}

// Appender is a FileOps that writes at its end in one step (O_APPEND).
type Appender interface {
	Append(c wait.Context, f *File, src *mm.IOSeq) (off int64, n int, err error)
}

// Seeker is a FileOps with its own idea of lseek (directories, /proc files).
type Seeker interface {
	Seek(c wait.Context, f *File, cur, off int64, whence int) (int64, error)
}

// Unallocatable marks what fallocate is refused for before a limit is looked at.
type Unallocatable interface{ Unallocatable() }

// NoSeek marks streams whose lseek succeeds and does nothing, as that of eventfds and epoll
// sets does (noop_llseek).
type NoSeek interface{ NoSeek() }

// Still marks devices that reads and writes do not move in, though they have a position
// (/dev/zero).
type Still interface{ Still() }

// Unwritable marks FileOps without a write, whose error comes before those of sizes
// (FMODE_CAN_WRITE).
type Unwritable interface{ Unwritable() }

// Nowait marks FileOps for which RWF_NOWAIT is no error (FMODE_NOWAIT).
type Nowait interface{ Nowait() }

// Read is read(2) on the description: at its position, which it moves.
func (f *File) Read(c wait.Context, dst *mm.IOSeq) (int, error) {
	if listening() {
		if err := f.permission(c, unix.FAN_ACCESS_PERM); err != nil {
			return 0, err
		}
	}
	if f.stream {
		n, err := f.Ops.Read(c, f, dst, -1)
		if n > 0 && listening() {
			f.Accessed(c)
		}
		return n, err
	}
	f.pos.Lock(c)
	n, err := f.Ops.Read(c, f, dst, f.pos.off)
	if n > 0 && !f.still {
		f.pos.off += int64(n)
	}
	f.pos.Unlock()
	if n > 0 && listening() {
		f.Accessed(c)
	}
	return n, err
}

// Write is write(2).
func (f *File) Write(c wait.Context, src *mm.IOSeq) (int, error) {
	if f.stream {
		n, err := f.Ops.Write(c, f, src, -1)
		if n > 0 && listening() {
			f.Modified(c)
		}
		return n, err
	}
	f.pos.Lock(c)
	off, n, err := f.writeAt(c, src, f.pos.off)
	if n > 0 && !f.still {
		f.pos.off = off + int64(n)
	}
	f.pos.Unlock()
	if n > 0 && listening() {
		f.Modified(c)
	}
	return n, err
}

// writeAt writes at off, or at the end with O_APPEND, and returns where.
func (f *File) writeAt(c wait.Context, src *mm.IOSeq, off int64) (int64, int, error) {
	if f.Flags()&unix.O_APPEND != 0 {
		if a, ok := f.Ops.(Appender); ok {
			return a.Append(c, f, src)
		}
	}
	n, err := f.Ops.Write(c, f, src, off)
	return off, n, err
}

// WriteAt is pwrite(2); like Linux it appends under O_APPEND.
func (f *File) WriteAt(c wait.Context, src *mm.IOSeq, off int64) (int, error) {
	_, n, err := f.writeAt(c, src, off)
	if n > 0 && listening() {
		f.Modified(c)
	}
	return n, err
}

// Append is pwritev2 with RWF_APPEND, which means nothing where there is no end; with move
// the position follows.
func (f *File) Append(c wait.Context, src *mm.IOSeq, move bool) (int, error) {
	a, ok := f.Ops.(Appender)
	if !ok {
		n, err := f.Ops.Write(c, f, src, 0)
		return n, err
	}
	if move {
		f.pos.Lock(c)
		defer f.pos.Unlock()
	}
	off, n, err := a.Append(c, f, src)
	if move && n > 0 {
		f.pos.off = off + int64(n)
	}
	if n > 0 && listening() {
		f.Modified(c)
	}
	return n, err
}

// Allocate is fallocate.
func (f *File) Allocate(c wait.Context, mode uint32, off, length int64) error {
	err := f.Ops.Allocate(c, mode, off, length)
	if err == nil {
		f.Modified(c)
	}
	return err
}

// ReadAt is pread(2).
func (f *File) ReadAt(c wait.Context, dst *mm.IOSeq, off int64) (int, error) {
	if listening() {
		if err := f.permission(c, unix.FAN_ACCESS_PERM); err != nil {
			return 0, err
		}
	}
	n, err := f.Ops.Read(c, f, dst, off)
	if n > 0 && listening() {
		f.Accessed(c)
	}
	return n, err
}

// Pos is the position; it may be changing.
func (f *File) Pos(c wait.Context) int64 {
	f.pos.Lock(c)
	defer f.pos.Unlock()
	return f.pos.off
}

// Seek is lseek: ESPIPE for streams, EINVAL for a result below zero, ENXIO for
// SEEK_DATA and SEEK_HOLE beyond the end.
func (f *File) Seek(c wait.Context, off int64, whence int) (int64, error) {
	if _, ok := f.Ops.(NoSeek); ok {
		return 0, nil
	}
	if f.stream {
		return 0, unix.ESPIPE
	}
	f.pos.Lock(c)
	defer f.pos.Unlock()
	var err error
	if s, ok := f.Ops.(Seeker); ok {
		off, err = s.Seek(c, f, f.pos.off, off, whence)
	} else {
		off, err = f.seek(c, off, whence)
	}
	if err != nil {
		return 0, err
	}
	f.pos.off = off
	return off, nil
}

// seek is that of regular files.
func (f *File) seek(c wait.Context, off int64, whence int) (int64, error) {
	switch whence {
	case unix.SEEK_SET:
	case unix.SEEK_CUR:
		off += f.pos.off
	case unix.SEEK_END:
		a, err := f.Ops.Attr(c)
		if err != nil {
			return 0, err
		}
		off += a.Size
	case unix.SEEK_DATA, unix.SEEK_HOLE:
		o, err := f.Ops.Object(c)
		if err != nil || o == nil {
			return 0, unix.EINVAL
		}
		if off < 0 || off >= o.Size() {
			return 0, unix.ENXIO
		}
		if off = o.NextData(off, whence == unix.SEEK_HOLE); off < 0 {
			return 0, unix.ENXIO
		}
	default:
		return 0, unix.EINVAL
	}
	if off < 0 {
		return 0, unix.EINVAL
	}
	return off, nil
}

// Iterate is getdents: entries from the description's position on.
func (f *File) Iterate(c wait.Context, emit func(e Dirent) bool) error {
	if err := f.permission(c, unix.FAN_ACCESS_PERM); err != nil {
		return err
	}
	f.pos.Lock(c)
	defer f.pos.Unlock()
	if f.Path.Valid() && f.Path.IsDir() && f.Path.Entry.loc.Load().gone {
		return unix.ENOENT
	}
	err := f.Ops.Iterate(c, &f.pos.off, emit)
	f.Accessed(c)
	return err
}

// DirOps stands behind an open directory whose inode can list itself.
type DirOps struct {
	BaseOps
	I    Inode
	List func(c wait.Context, pos *int64, emit func(e Dirent) bool) error
}

func (d *DirOps) Attr(c wait.Context) (Attr, error)       { return d.I.Attr(c) }
func (d *DirOps) SetAttr(c wait.Context, a SetAttr) error { return d.I.SetAttr(c, a) }
func (d *DirOps) Seekable() bool                          { return true }
func (d *DirOps) Sync(wait.Context, bool) error           { return nil }
func (d *DirOps) Read(wait.Context, *File, *mm.IOSeq, int64) (int, error) {
	return 0, unix.EISDIR
}

// Iterate implements FileOps.
func (d *DirOps) Iterate(c wait.Context, pos *int64, emit func(e Dirent) bool) error {
	return d.List(c, pos, emit)
}

// Seek implements Seeker: any position that a Dirent gave.
func (d *DirOps) Seek(_ wait.Context, _ *File, cur, off int64, whence int) (int64, error) {
	switch whence {
	case unix.SEEK_SET:
	case unix.SEEK_CUR:
		off += cur
	default:
		return 0, unix.EINVAL
	}
	if off < 0 {
		return 0, unix.EINVAL
	}
	return off, nil
}

// RegularInode is what a regular file's inode offers to RegularOps.
type RegularInode interface {
	Inode
	// Data is the page cache; it does not change while the file is open.
	Data() *mm.Object
	// Touched records an access: the file was read or written.
	Touched(write bool)
	// Privileged says, at little cost, whether it has set-user-ID or set-group-ID bits
	// or capabilities, which a write takes away.
	Privileged() bool
}

// RegularOps is the description of a regular file over its page cache: read, write and
// mmap use the same frames. One serves all descriptions of an inode.
type RegularOps struct {
	BaseOps
	I RegularInode
}

func (r *RegularOps) Attr(c wait.Context) (Attr, error)       { return r.I.Attr(c) }
func (r *RegularOps) SetAttr(c wait.Context, a SetAttr) error { return r.I.SetAttr(c, a) }
func (r *RegularOps) Seekable() bool                          { return true }
func (r *RegularOps) Object(wait.Context) (*mm.Object, error) { return r.I.Data(), nil }
func (r *RegularOps) Sync(wait.Context, bool) error           { return nil }
func (r *RegularOps) Release(*File)                           { r.I.DecRef() }

// Read implements FileOps.
func (r *RegularOps) Read(c wait.Context, f *File, dst *mm.IOSeq, off int64) (int, error) {
	n, err := r.I.Data().ReadAt(c, dst, off)
	if n > 0 && f.leavesTime() {
		r.I.Touched(false)
	}
	return n, err
}

// leavesTime says whether reading f changes its access time.
func (f *File) leavesTime() bool {
	return f.Flags()&unix.O_NOATIME == 0 && (f.Path.Mount == nil || !f.Path.Mount.keepsTimes())
}

// Lend is mm.Object.Lend, and counts as a read.
func (r *RegularOps) Lend(c wait.Context, f *File, off int64, n int) (mm.Lent, bool, error) {
	if err := f.permission(c, unix.FAN_ACCESS_PERM); err != nil {
		return mm.Lent{}, false, err
	}
	l, ok, err := r.I.Data().Lend(c, off, n)
	if ok && f.leavesTime() {
		r.I.Touched(false)
	}
	if ok {
		f.Accessed(c)
	}
	return l, ok, err
}

// Write implements FileOps.
func (r *RegularOps) Write(c wait.Context, _ *File, src *mm.IOSeq, off int64) (int, error) {
	if src.Len() > 0 {
		r.DropPrivileges(c)
	}
	n, err := r.I.Data().WriteAt(c, src, off)
	if n > 0 {
		r.I.Touched(true)
	}
	return n, err
}

// CapsXattr is the attribute that holds a file's capabilities.
const CapsXattr = "security.capability"

// dropCaps takes a file's capabilities away.
func dropCaps(c wait.Context, i Inode) {
	if p, ok := i.(RegularInode); !ok || !p.Privileged() {
		return
	}
	if x, ok := i.(Xattrs); ok {
		_ = x.RemoveXattr(c, CapsXattr)
	}
}

// DropPrivileges takes them away before a write, as Linux' file_remove_privs does: the bits
// unless the writer has CAP_FSETID, the capabilities always.
func (r *RegularOps) DropPrivileges(c wait.Context) {
	if !r.I.Privileged() {
		return
	}
	dropCaps(c, r.I)
	who, ok := c.(interface{ Creds() *Creds })
	if !ok || who.Creds().Can(CapFsetid) {
		return
	}
	a, err := r.I.Attr(c)
	if err != nil {
		return
	}
	if mode := withoutSetIDs(a.Mode); mode != a.Mode {
		_ = r.I.SetAttr(c, SetAttr{SetMode: true, Mode: mode & 0o7777})
	}
}

// Append implements Appender.
func (r *RegularOps) Append(c wait.Context, _ *File, src *mm.IOSeq) (int64, int, error) {
	r.DropPrivileges(c)
	off, n, err := r.I.Data().Append(c, src)
	if n > 0 {
		r.I.Touched(true)
	}
	return off, n, err
}

// Allocator is a RegularInode whose pages fallocate makes, as tmpfs' do. For others space is
// promised by size alone.
type Allocator interface {
	AllocatePages(c wait.Context, off, length int64, keep bool) error
}

// Undirect marks inodes of files that cannot be opened with O_DIRECT.
type Undirect interface{ Undirect() }

// Undirect says that O_DIRECT is EINVAL for f.
func (f *File) Undirect() bool {
	if f.inode == nil {
		a, err := f.Ops.Attr(nil)
		return err != nil || a.Mode&unix.S_IFMT != unix.S_IFIFO
	}
	_, ok := f.inode.(Undirect)
	switch f.Path.Entry.kind {
	case unix.S_IFREG, unix.S_IFDIR:
		return ok
	case unix.S_IFCHR:
		return true
	}
	return false
}

// Allocate implements FileOps.
func (r *RegularOps) Allocate(c wait.Context, mode uint32, off, length int64) error {
	const keep, punch = unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE
	o := r.I.Data()
	end := off + length
	if mode&^(keep|punch) != 0 {
		return unix.EOPNOTSUPP
	}
	if mode&punch != 0 {
		if err := o.PunchHoleCtx(c, off, length); err != nil {
			return err
		}
		r.I.Touched(true)
		return nil
	}
	if a, ok := r.I.(Allocator); ok {
		return a.AllocatePages(c, off, length, mode&keep != 0)
	}
	if mode&keep == 0 && end > o.Size() {
		return r.I.SetAttr(c, SetAttr{SetSize: true, Size: end})
	}
	return nil
}

// Mapper is a FileOps that may refuse to be mapped (sealed memfds).
type Mapper interface {
	// BeginMap says whether a mapping may be made (EPERM), and whether it may ever be
	// written. EndMap follows once it stands or has failed.
	BeginMap(shared, write bool) (writable bool, err error)
	EndMap(shared bool)
}

// OffsetMapper is a FileOps whose offsets name regions rather than bytes of one object
// (io_uring).
type OffsetMapper interface {
	// MapOffset is the offset in the object: EINVAL for none, or more than there is.
	MapOffset(off int64, length uint64) (int64, error)
}
