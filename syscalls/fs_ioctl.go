package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/task"
)

// Requests of ioctl(2) for every file: include/uapi/asm-generic/ioctls.h, sockios.h, fs.h,
// fiemap.h, falloc.h.
const (
	fionread    = 0x541b
	fionbio     = 0x5421
	fionclex    = 0x5450
	fioclex     = 0x5451
	fioasync    = 0x5452
	fioqsize    = 0x5460
	fibmap      = 1
	figetbsz    = 2
	fioSetOwn   = 0x8901
	siocSetPgrp = 0x8902
	fioGetOwn   = 0x8903
	siocGetPgrp = 0x8904
	fifreeze    = 0xc0045877
	fithaw      = 0xc0045878
	fiemap      = 0xc020660b
	ficlone     = 0x40049409
	fisclonerng = 0x4020940d
	fidedupe    = 0xc0189436
	getFlags    = 0x80086601
	setFlags    = 0x40086602
	getFsxattr  = 0x801c581f
	setFsxattr  = 0x401c5820
	resvsp      = 0x40305828
	unresvsp    = 0x40305829
	resvsp64    = 0x4030582a
	unresvsp64  = 0x4030582b
	zeroRange   = 0x40305839
)

// sysIoctl: EBADF, ENOTTY, EFAULT. Requests about the descriptor are served here, the rest
// by the object. See ioctl(2).
func sysIoctl(t *task.Thread, a *Args) (uintptr, error) {
	f, err := fileOf(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	req, arg := uint32(a[1]), a[2]
	switch req {
	case fioclex, fionclex:
		t.FDs().SetCloseOnExec(int32(a[0]), req == fioclex)
		return 0, nil
	case fionbio, fioasync:
		v, err := getU32(t, hal.UserAddr(arg))
		if err != nil {
			return 0, err
		}
		if req == fionbio {
			bit := uint32(0)
			if v != 0 {
				bit = unix.O_NONBLOCK
			}
			f.SetFlags(unix.O_NONBLOCK, bit)
			return 0, nil
		}
		if on := v != 0; on != (f.Flags()&unix.O_ASYNC != 0) {
			if !f.CanAsync() {
				return 0, unix.ENOTTY
			}
			f.SetAsync(int32(a[0]), on)
		}
		return 0, nil
	case fioSetOwn, siocSetPgrp, fioGetOwn, siocGetPgrp:
		if at, err := f.Ops.Attr(t); err == nil && at.Mode&unix.S_IFMT == unix.S_IFSOCK {
			return socketOwner(t, f, req, arg)
		}
	case fifreeze, fithaw: // no file system here can be frozen
		if !t.Creds().Can(unix.CAP_SYS_ADMIN) {
			return 0, unix.EPERM
		}
		return 0, unix.EOPNOTSUPP
	case fiemap: // nor says where its blocks are
		return 0, unix.EOPNOTSUPP
	case ficlone, fisclonerng:
		return 0, cloneFile(t, f, req, arg)
	case fidedupe:
		return 0, dedupeFile(t, f, hal.UserAddr(arg))
	case getFlags, setFlags, getFsxattr, setFsxattr:
		return 0, fileFlags(t, f, req, hal.UserAddr(arg))
	case fionread, fibmap, resvsp, resvsp64, unresvsp, unresvsp64, zeroRange:
		if at, err := f.Ops.Attr(t); err == nil && at.Mode&unix.S_IFMT == unix.S_IFREG {
			return 0, regularIoctl(t, f, &at, req, hal.UserAddr(arg))
		}
	case fioqsize:
		if at, err := f.Ops.Attr(t); err == nil {
			switch at.Mode & unix.S_IFMT {
			case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK:
				return 0, putU64(t, hal.UserAddr(arg), uint64(at.Blocks)*512)
			}
		}
		return 0, unix.ENOTTY
	case figetbsz: // of the file system: that of what has no name, too
		n := uint32(hal.PageSize)
		if at, err := f.Ops.Attr(t); err == nil && at.Mode&unix.S_IFMT == unix.S_IFREG {
			n = uint32(at.BlockSize)
		}
		return 0, putU32(t, hal.UserAddr(arg), n)
	}
	return f.Ops.Ioctl(t, f, t.Space(), req, arg)
}

// regularIoctl serves what regular files alone know.
func regularIoctl(t *task.Thread, f *vfs.File, at *vfs.Attr, req uint32, arg hal.UserAddr) error {
	switch req {
	case fionread:
		return putU32(t, arg, uint32(at.Size-f.Pos(t)))
	case fibmap:
		return blockOf(t, arg)
	}
	return reserve(t, f, req, arg)
}

// blockOf is FIBMAP: EPERM, EFAULT, EINVAL, since no file system here says where its blocks are,
// as tmpfs and overlayfs do not.
func blockOf(t *task.Thread, at hal.UserAddr) error {
	if !t.Creds().Can(unix.CAP_SYS_RAWIO) {
		return unix.EPERM
	}
	n, err := getU32(t, at)
	if err == nil && int32(n) >= 0 {
		err = putU32(t, at, 0)
	}
	if err != nil {
		return err
	}
	return unix.EINVAL
}

// socketOwner is FIOSETOWN, SIOCSPGRP and what reads it back.
func socketOwner(t *task.Thread, f *vfs.File, req uint32, arg uint64) (uintptr, error) {
	if req == fioGetOwn || req == siocGetPgrp {
		return 0, putU32(t, hal.UserAddr(arg), uint32(getOwn(f)))
	}
	id, err := getU32(t, hal.UserAddr(arg))
	if err != nil {
		return 0, err
	}
	return 0, setOwn(t, f, int32(id))
}

// cloneFile is FICLONE and FICLONERANGE: no file system here shares blocks (EOPNOTSUPP), and
// who asks hears of what is wrong with the files first. See ioctl_ficlone(2).
func cloneFile(t *task.Thread, f *vfs.File, req uint32, arg uint64) error {
	fd := arg
	if req == fisclonerng {
		var b [32]byte // struct file_clone_range
		if err := t.CopyIn(b[:], hal.UserAddr(arg)); err != nil {
			return err
		}
		fd = le.Uint64(b[:])
	}
	from, err := fileOf(t, fd)
	if err != nil {
		return err
	}
	defer from.DecRef()
	src, err := from.Ops.Attr(t)
	if err != nil {
		return err
	}
	dst, err := f.Ops.Attr(t)
	if err != nil {
		return err
	}
	switch s, d := src.Mode&unix.S_IFMT, dst.Mode&unix.S_IFMT; {
	case src.Dev != dst.Dev:
		return unix.EXDEV
	case s == unix.S_IFDIR || d == unix.S_IFDIR:
		return unix.EISDIR
	case s != unix.S_IFREG || d != unix.S_IFREG:
		return unix.EINVAL
	case !from.Readable() || !f.Writable() || f.Flags()&unix.O_APPEND != 0:
		return unix.EBADF
	}
	return unix.EOPNOTSUPP
}

// dedupeFile is FIDEDUPERANGE, with the same end: EFAULT, ENOMEM, EINVAL, EISDIR, EOPNOTSUPP. See
// ioctl_fideduperange(2).
func dedupeFile(t *task.Thread, f *vfs.File, at hal.UserAddr) error {
	const head, each = 24, 32 // struct file_dedupe_range, file_dedupe_range_info
	var b [head]byte
	if err := t.CopyIn(b[16:18], at+16); err != nil {
		return err
	}
	n := int(le.Uint16(b[16:]))
	if head+n*each > hal.PageSize {
		return unix.ENOMEM
	}
	if err := t.CopyIn(b[:], at); err != nil {
		return err
	}
	if err := t.CopyIn(make([]byte, n*each), at+head); err != nil {
		return err
	}
	a, err := f.Ops.Attr(t)
	if err != nil {
		return err
	}
	off, size := le.Uint64(b[:]), le.Uint64(b[8:])
	switch kind := a.Mode & unix.S_IFMT; {
	case !f.Readable(), le.Uint16(b[18:]) != 0, le.Uint32(b[20:]) != 0, int64(off+size) < int64(off):
		return unix.EINVAL
	case kind == unix.S_IFDIR:
		return unix.EISDIR
	case kind != unix.S_IFREG:
		return unix.EINVAL
	}
	return unix.EOPNOTSUPP
}

// reserve is the fallocate(2) of XFS's requests: EFAULT, EINVAL (whence), and its errors.
func reserve(t *task.Thread, f *vfs.File, req uint32, arg hal.UserAddr) error {
	var b [48]byte // struct space_resv
	if err := t.CopyIn(b[:], arg); err != nil {
		return err
	}
	start, n := int64(le.Uint64(b[8:])), int64(le.Uint64(b[16:]))
	switch int16(le.Uint16(b[2:])) {
	case unix.SEEK_SET:
	case unix.SEEK_CUR:
		start += f.Pos(t)
	case unix.SEEK_END:
		a, err := f.Ops.Attr(t)
		if err != nil {
			return err
		}
		start += a.Size
	default:
		return unix.EINVAL
	}
	mode := uint32(unix.FALLOC_FL_KEEP_SIZE)
	switch req {
	case unresvsp, unresvsp64:
		mode |= unix.FALLOC_FL_PUNCH_HOLE
	case zeroRange:
		mode |= unix.FALLOC_FL_ZERO_RANGE
	}
	return allocate(t, f, mode, start, n)
}

// Flags that FS_IOC_FSSETXATTR and FS_IOC_SETFLAGS both have, by their bits (fileattr_fill_xflags).
var xflags = [...]struct{ x, f uint32 }{
	{0x8, fsImmutableFlag}, {0x10, fsAppendFlag}, {0x20, fsSyncFlag}, {0x40, vfs.FlagNoatime}, {0x80, vfs.FlagNodump},
	{0x200, fsProjectFlag}, {0x8000, fsDAXFlag},
}

// Flags of a file that x/sys/unix lacks (uapi/linux/fs.h).
const (
	fsSyncFlag      = 0x8
	fsImmutableFlag = 0x10
	fsAppendFlag    = 0x20
	fsDAXFlag       = 0x2000000
	fsProjectFlag   = 0x20000000
)

// fsxattrSize is struct fsxattr.
const fsxattrSize = 28

// noFlags refuses them for a file that has none: ENOTTY, and EFAULT for what cannot be read.
func noFlags(t *task.Thread, req uint32, arg hal.UserAddr) error {
	var b [fsxattrSize]byte
	n := 0 // what is read of it
	switch req {
	case setFlags:
		n = 4
	case setFsxattr:
		n = len(b)
	}
	if n > 0 {
		if err := t.CopyIn(b[:n], arg); err != nil {
			return err
		}
	}
	return unix.ENOTTY
}

// fileFlags is FS_IOC_GETFLAGS, FS_IOC_SETFLAGS and the same in struct fsxattr (chattr(1)): EFAULT,
// EROFS, EPERM unless the owner, and for who may not make a file immutable, EOPNOTSUPP for flags
// that the file system has not. See ioctl_iflags(2), ioctl_xfs_fsgetxattr(2).
func fileFlags(t *task.Thread, f *vfs.File, req uint32, arg hal.UserAddr) error {
	i, ok := f.Inode().(vfs.FlagsInode)
	if !ok {
		i, ok = f.Ops.(vfs.FlagsInode)
	}
	var now uint32
	if ok {
		now, ok = i.FileFlags()
	}
	if !ok {
		return noFlags(t, req, arg)
	}
	switch req {
	case getFlags:
		return putU32(t, arg, now)
	case getFsxattr:
		var b [fsxattrSize]byte
		for _, x := range xflags {
			if now&x.f != 0 {
				le.PutUint32(b[:], le.Uint32(b[:])|x.x)
			}
		}
		return t.CopyOut(arg, b[:])
	}
	var flags uint32
	other := false // something that struct fsxattr has alone
	if req == setFlags {
		v, err := getU32(t, arg)
		if err != nil {
			return err
		}
		flags = v
	} else {
		var b [fsxattrSize]byte
		if err := t.CopyIn(b[:], arg); err != nil {
			return err
		}
		v := le.Uint32(b[:])
		for _, x := range xflags {
			if v&x.x != 0 {
				v, flags = v&^x.x, flags|x.f
			}
		}
		other = v|le.Uint32(b[4:])|le.Uint32(b[12:])|le.Uint32(b[16:]) != 0
	}
	at, err := f.Ops.Attr(t)
	c := t.Creds()
	switch {
	case err != nil:
		return err
	case f.Path.Valid() && f.Path.ReadOnly():
		return unix.EROFS
	case c.FSUID != at.UID && !c.Can(vfs.CapFowner),
		(flags^now)&(fsAppendFlag|fsImmutableFlag) != 0 && !c.Can(unix.CAP_LINUX_IMMUTABLE):
		return unix.EPERM
	case other:
		return unix.EOPNOTSUPP
	}
	return i.SetFileFlags(flags)
}
