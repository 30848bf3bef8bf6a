package syscalls

import (
	"strings"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/task"
)

// statxSync is AT_STATX_SYNC_TYPE: two bits that cannot both be set.
const statxSync = unix.AT_STATX_FORCE_SYNC | unix.AT_STATX_DONT_SYNC

// statxAttrs are the attributes that statx knows of every file; no file has the last two.
const statxAttrs = unix.STATX_ATTR_MOUNT_ROOT | unix.STATX_ATTR_AUTOMOUNT | unix.STATX_ATTR_DAX

// statSize is struct stat on x86-64.
const statSize = 144

// putStat encodes a (arch/x86/include/uapi/asm/stat.h).
func putStat(t *task.Thread, addr uint64, a *vfs.Attr) error {
	b := scratch(t, statSize)
	le.PutUint64(b[0:], a.Dev)
	le.PutUint64(b[8:], a.Ino)
	le.PutUint64(b[16:], uint64(a.Nlink))
	le.PutUint32(b[24:], a.Mode)
	le.PutUint32(b[28:], a.UID)
	le.PutUint32(b[32:], a.GID)
	le.PutUint64(b[40:], a.Rdev)
	le.PutUint64(b[48:], uint64(a.Size))
	le.PutUint64(b[56:], uint64(a.BlockSize))
	le.PutUint64(b[64:], uint64(a.Blocks))
	for i, ns := range [3]int64{a.Atime, a.Mtime, a.Ctime} {
		s, n := splitTime(ns)
		le.PutUint64(b[72+16*i:], uint64(s))
		le.PutUint64(b[80+16*i:], uint64(n))
	}
	return t.CopyOut(hal.UserAddr(addr), b)
}

// splitTime is seconds and nanoseconds, the latter never negative.
func splitTime(ns int64) (s, n int64) {
	s, n = ns/second, ns%second
	if n < 0 {
		s, n = s-1, n+second
	}
	return s, n
}

// sysStat, sysLstat, sysFstat: ENOENT, EACCES, EBADF, EFAULT, … See stat(2).
func sysStat(t *task.Thread, a *Args) (uintptr, error) {
	return statAt(t, atCWD, a[0], a[1], 0)
}
func sysLstat(t *task.Thread, a *Args) (uintptr, error) {
	return statAt(t, atCWD, a[0], a[1], unix.AT_SYMLINK_NOFOLLOW)
}
func sysFstat(t *task.Thread, a *Args) (uintptr, error) {
	at, err := attrOf(t, a[0])
	if err != nil {
		return 0, err
	}
	return 0, putStat(t, a[1], &at)
}

// sysNewfstatat: stat's, and EINVAL for flags. See fstatat(2).
func sysNewfstatat(t *task.Thread, a *Args) (uintptr, error) {
	return statAt(t, a[0], a[1], a[2], a[3])
}

// attrOf is fstat, also for O_PATH.
func attrOf(t *task.Thread, fd uint64) (vfs.Attr, error) {
	f, err := rawFile(t, fd)
	if err != nil {
		return vfs.Attr{}, err
	}
	defer f.DecRef()
	return attrsOf(t, f)
}

func attrsOf(t *task.Thread, f *vfs.File) (vfs.Attr, error) {
	if i := f.Inode(); i != nil {
		return i.Attr(t)
	}
	return f.Ops.Attr(t)
}

// lookAt is the attributes that fstatat and statx answer with, and what statx says of the
// place: its mount, and whether it is the mount's root.
func lookAt(t *task.Thread, dirfd, addr, flags uint64) (at vfs.Attr, mnt int, root bool, err error) {
	path, err := pathArg(t, addr, flags&unix.AT_EMPTY_PATH != 0)
	if err != nil {
		return at, 0, false, err
	}
	var p vfs.Path
	if path == "" && int32(dirfd) != unix.AT_FDCWD {
		f, err := rawFile(t, dirfd)
		if err != nil {
			return at, 0, false, err
		}
		defer f.DecRef()
		if at, err = attrsOf(t, f); err != nil {
			return at, 0, false, err
		}
		p = f.Path
	} else {
		l, f, err := where(t, dirfd, path)
		if err != nil {
			return at, 0, false, err
		}
		at, p, err = t.Kernel().NS.Stat(l, path, walkFlags(flags))
		done(f)
		if err != nil {
			return at, 0, false, err
		}
	}
	return at, p.MountID(), p.Valid() && p.Entry == p.Mount.Root, nil
}

func statAt(t *task.Thread, dirfd, addr, buf, flags uint64) (uintptr, error) {
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT|unix.AT_EMPTY_PATH|statxSync) != 0 {
		return 0, unix.EINVAL
	}
	at, _, _, err := lookAt(t, dirfd, addr, flags)
	if err != nil {
		return 0, err
	}
	return 0, putStat(t, buf, &at)
}

// sysStatx: EINVAL for flags, both sync kinds at once or the reserved mask bit. Every basic
// field is filled whatever the mask. See statx(2).
func sysStatx(t *task.Thread, a *Args) (uintptr, error) {
	flags := a[2]
	if a[3]&unix.STATX__RESERVED != 0 || flags&statxSync == statxSync ||
		flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT|unix.AT_EMPTY_PATH|statxSync) != 0 {
		return 0, unix.EINVAL
	}
	at, mnt, root, err := lookAt(t, a[0], a[1], flags)
	if err != nil {
		return 0, err
	}
	b := scratch(t, 256)
	got := uint32(unix.STATX_BASIC_STATS) | unix.STATX_MNT_ID
	if at.Btime != 0 && a[3]&unix.STATX_BTIME != 0 { // which file systems tell whom it interests
		got |= unix.STATX_BTIME
	}
	le.PutUint32(b[0:], got)
	le.PutUint32(b[4:], uint32(at.BlockSize))
	if root {
		le.PutUint64(b[8:], unix.STATX_ATTR_MOUNT_ROOT)
	}
	le.PutUint32(b[16:], at.Nlink)
	le.PutUint32(b[20:], at.UID)
	le.PutUint32(b[24:], at.GID)
	le.PutUint16(b[28:], uint16(at.Mode))
	le.PutUint64(b[32:], at.Ino)
	le.PutUint64(b[40:], uint64(at.Size))
	le.PutUint64(b[48:], uint64(at.Blocks))
	le.PutUint64(b[56:], statxAttrs)
	for i, ns := range [4]int64{at.Atime, at.Btime, at.Ctime, at.Mtime} {
		s, n := splitTime(ns)
		le.PutUint64(b[64+16*i:], uint64(s))
		le.PutUint32(b[72+16*i:], uint32(n))
	}
	le.PutUint32(b[128:], unix.Major(at.Rdev))
	le.PutUint32(b[132:], unix.Minor(at.Rdev))
	le.PutUint32(b[136:], unix.Major(at.Dev))
	le.PutUint32(b[140:], unix.Minor(at.Dev))
	le.PutUint64(b[144:], uint64(mnt))
	return 0, t.CopyOut(hal.UserAddr(a[4]), b)
}

// putStatfs encodes struct statfs (120 bytes).
func putStatfs(t *task.Thread, addr uint64, p vfs.Path) error {
	s, err := p.Mount.Super.FS.Statfs(t)
	if err != nil {
		return err
	}
	const valid = 0x20 // ST_VALID
	flags := p.Mount.Flags()
	st := uint64(valid)
	for _, f := range [...][2]uint64{{unix.MS_RDONLY, 1}, {unix.MS_NOSUID, 2}, {unix.MS_NODEV, 4}, {unix.MS_NOEXEC, 8},
		{unix.MS_NOATIME, 0x400}, {unix.MS_NODIRATIME, 0x800}, {unix.MS_RELATIME, 0x1000}} {
		if flags&f[0] != 0 {
			st |= f[1]
		}
	}
	id := p.Mount.Super.Dev
	if s.NoID {
		id = 0
	}
	var b [120]byte
	for i, v := range [...]uint64{uint64(s.Type), uint64(s.BlockSize), s.Blocks, s.Bfree, s.Bavail, s.Files, s.Ffree,
		id, uint64(s.NameLen), uint64(s.BlockSize), st} {
		le.PutUint64(b[8*i:], v)
	}
	return t.CopyOut(hal.UserAddr(addr), b[:])
}

// sysStatfs, sysFstatfs: ENOENT, EBADF, EFAULT, … See statfs(2).
func sysStatfs(t *task.Thread, a *Args) (uintptr, error) {
	return withPath(t, atCWD, a[0], false, func(l vfs.Lookup, path string) error {
		p, err := t.Kernel().NS.Walk(l, path, vfs.WalkFollow)
		if err != nil {
			return err
		}
		return putStatfs(t, a[1], p)
	})
}

func sysFstatfs(t *task.Thread, a *Args) (uintptr, error) {
	f, err := rawFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if f.Path.Valid() {
		return 0, putStatfs(t, a[1], f.Path)
	}
	var b [120]byte
	magic := uint64(unix.ANON_INODE_FS_MAGIC)
	own, ok := f.Ops.(interface{ Magic() uint64 })
	switch {
	case ok:
		magic = own.Magic()
	case strings.HasPrefix(f.Name, "pipe:"):
		magic = unix.PIPEFS_MAGIC
	case strings.HasPrefix(f.Name, "socket:"):
		magic = unix.SOCKFS_MAGIC
	}
	le.PutUint64(b[0:], magic)
	le.PutUint64(b[8:], hal.PageSize)
	le.PutUint64(b[64:], unix.NAME_MAX)
	le.PutUint64(b[72:], hal.PageSize)
	return 0, t.CopyOut(hal.UserAddr(a[1]), b[:])
}

// sysAccess, sysFaccessat, sysFaccessat2: EINVAL for a mode or flags, EACCES, EROFS, … The
// real ids count unless AT_EACCESS. See access(2).
func sysAccess(t *task.Thread, a *Args) (uintptr, error) { return access(t, atCWD, a[0], a[1], 0) }
func sysFaccessat(t *task.Thread, a *Args) (uintptr, error) {
	return access(t, a[0], a[1], a[2], 0)
}
func sysFaccessat2(t *task.Thread, a *Args) (uintptr, error) {
	return access(t, a[0], a[1], a[2], a[3])
}

func access(t *task.Thread, dirfd, addr, mode, flags uint64) (uintptr, error) {
	if uint32(mode)&^7 != 0 || flags&^(unix.AT_EACCESS|unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return 0, unix.EINVAL
	}
	path, err := pathArg(t, addr, flags&unix.AT_EMPTY_PATH != 0)
	if err != nil {
		return 0, err
	}
	l, f, err := where(t, dirfd, path)
	if err != nil {
		return 0, err
	}
	if c := l.Creds; flags&unix.AT_EACCESS == 0 && (c.FSUID != c.UID || c.FSGID != c.GID || c.UID != 0) {
		r := *c
		r.FSUID, r.FSGID = c.UID, c.GID
		r.Effective = 0
		if c.UID == 0 {
			r.Effective = c.Permitted
		}
		l.Creds = &r
	}
	err = t.Kernel().NS.Access(l, path, walkFlags(flags), uint32(mode))
	done(f)
	return 0, err
}

// sysReadlink, sysReadlinkat: EINVAL for a bad size or what is not a link. The result is
// cut, not terminated. See readlink(2).
func sysReadlink(t *task.Thread, a *Args) (uintptr, error) {
	return readlink(t, atCWD, a[0], a[1], a[2])
}
func sysReadlinkat(t *task.Thread, a *Args) (uintptr, error) {
	return readlink(t, a[0], a[1], a[2], a[3])
}

func readlink(t *task.Thread, dirfd, addr, buf, size uint64) (uintptr, error) {
	if int32(size) <= 0 {
		return 0, unix.EINVAL
	}
	var target string
	if int32(dirfd) != unix.AT_FDCWD {
		if p, err := pathArg(t, addr, true); err == nil && p == "" {
			f, err := rawFile(t, dirfd)
			if err != nil {
				return 0, err
			}
			named := f.Path.Valid()
			f.DecRef()
			if !named {
				return 0, unix.ENOENT // what it is does not matter
			}
		}
	}
	if _, err := withPath(t, dirfd, addr, true, func(l vfs.Lookup, path string) (err error) {
		if path == "" && !l.At.Valid() {
			return unix.ENOENT
		}
		target, err = t.Kernel().NS.Readlink(l, path)
		return err
	}); err != nil {
		return 0, err
	}
	n := min(len(target), int(int32(size)))
	return uintptr(n), t.CopyOut(hal.UserAddr(buf), []byte(target[:n]))
}

// setAttr is the common part of chmod, chown and utimensat by path.
func setAttr(t *task.Thread, dirfd, addr, flags uint64, a vfs.SetAttr) (uintptr, error) {
	return withPath(t, dirfd, addr, flags&unix.AT_EMPTY_PATH != 0, func(l vfs.Lookup, path string) error {
		return t.Kernel().NS.SetAttr(l, path, walkFlags(flags), a)
	})
}

// setAttrFD is the same by descriptor.
func setAttrFD(t *task.Thread, fd uint64, a vfs.SetAttr) (uintptr, error) {
	f, err := fileOf(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if f.Path.Valid() {
		return 0, t.Kernel().NS.SetAttrAt(t.Lookup(vfs.Path{}), f.Path, a)
	}
	a.Creds = t.Creds()
	return 0, f.Ops.SetAttr(t, a)
}

func modeAttr(mode uint64) vfs.SetAttr {
	return vfs.SetAttr{SetMode: true, Mode: uint32(mode) & 0o7777}
}

// sysChmod, sysFchmod, sysFchmodat: EPERM unless the owner, EROFS, … See chmod(2).
func sysChmod(t *task.Thread, a *Args) (uintptr, error) {
	return setAttr(t, atCWD, a[0], 0, modeAttr(a[1]))
}
func sysFchmod(t *task.Thread, a *Args) (uintptr, error) { return setAttrFD(t, a[0], modeAttr(a[1])) }
func sysFchmodat(t *task.Thread, a *Args) (uintptr, error) {
	return setAttr(t, a[0], a[1], 0, modeAttr(a[2]))
}

// ownAttr is chown's request; -1 leaves an id alone.
func ownAttr(uid, gid uint64) vfs.SetAttr {
	return vfs.SetAttr{SetUID: uint32(uid) != ^uint32(0), UID: uint32(uid), SetGID: uint32(gid) != ^uint32(0), GID: uint32(gid), KillPriv: true}
}

// sysChown and its kin: EPERM, EROFS, EINVAL for flags. See chown(2).
func sysChown(t *task.Thread, a *Args) (uintptr, error) {
	return setAttr(t, atCWD, a[0], 0, ownAttr(a[1], a[2]))
}
func sysLchown(t *task.Thread, a *Args) (uintptr, error) {
	return setAttr(t, atCWD, a[0], unix.AT_SYMLINK_NOFOLLOW, ownAttr(a[1], a[2]))
}
func sysFchown(t *task.Thread, a *Args) (uintptr, error) {
	return setAttrFD(t, a[0], ownAttr(a[1], a[2]))
}
func sysFchownat(t *task.Thread, a *Args) (uintptr, error) {
	if a[4]&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return 0, unix.EINVAL
	}
	return setAttr(t, a[0], a[1], a[4], ownAttr(a[2], a[3]))
}

// setTimes applies times: nil is now, which whoever may write may set; other times are the
// owner's alone (utimes_common).
func setTimes(t *task.Thread, dirfd, addr, flags uint64, tm *[2]int64, wrong bool) (uintptr, error) {
	const now, omit = -1, -2
	wall := t.Kernel().M.Walltime()
	a := vfs.SetAttr{SetAtime: true, SetMtime: true, Atime: wall, Mtime: wall}
	touch := tm == nil || tm[0] == now && tm[1] == now
	if tm != nil {
		if tm[0] == omit && tm[1] == omit {
			return 0, nil
		}
		a.SetAtime, a.SetMtime = tm[0] != omit, tm[1] != omit
		if tm[0] != now {
			a.Atime = tm[0]
		}
		if tm[1] != now {
			a.Mtime = tm[1]
		}
	}
	may := func(at vfs.Attr, err error) error {
		c := t.Creds()
		switch {
		case wrong:
			return unix.EINVAL
		case err != nil || c.FSUID == at.UID || c.Can(vfs.CapFowner):
			return err
		case !touch:
			return unix.EPERM
		}
		return c.Permission(&at, vfs.MayWrite)
	}
	apply := func(l vfs.Lookup, p vfs.Path) error {
		if err := may(p.Inode().Attr(t)); err != nil {
			return err
		}
		return t.Kernel().NS.SetAttrAt(l, p, a)
	}
	bare := func(f *vfs.File) error {
		if err := may(f.Ops.Attr(t)); err != nil {
			return err
		}
		return f.Ops.SetAttr(t, a)
	}
	if addr == 0 && int32(dirfd) != unix.AT_FDCWD {
		if flags != 0 {
			return 0, unix.EINVAL // do_utimes_fd
		}
		f, err := fileOf(t, dirfd)
		if err != nil {
			return 0, err
		}
		defer f.DecRef()
		if !f.Path.Valid() {
			return 0, bare(f)
		}
		return 0, apply(t.Lookup(vfs.Path{}), f.Path)
	}
	return withPath(t, dirfd, addr, flags&unix.AT_EMPTY_PATH != 0, func(l vfs.Lookup, path string) error {
		if l.AtFile != nil {
			return bare(l.AtFile)
		}
		p, err := t.Kernel().NS.Walk(l, path, walkFlags(flags))
		if err != nil {
			return err
		}
		return apply(l, p)
	})
}

// sysUtimensat: EFAULT, EINVAL for nanoseconds or flags, EPERM, EACCES. See utimensat(2).
func sysUtimensat(t *task.Thread, a *Args) (uintptr, error) {
	var tm *[2]int64
	wrong := false
	if a[2] != 0 {
		var b [32]byte
		if err := t.CopyIn(b[:], hal.UserAddr(a[2])); err != nil {
			return 0, err
		}
		tm = new([2]int64)
		for i := range tm {
			s, n := int64(le.Uint64(b[16*i:])), int64(le.Uint64(b[16*i+8:]))
			switch {
			case n == unix.UTIME_NOW:
				tm[i] = -1
			case n == unix.UTIME_OMIT:
				tm[i] = -2
			case n < 0 || n >= second: // noticed once the file is found
				wrong = true
			default:
				tm[i] = clampTime(s, n)
			}
		}
	}
	omit := tm != nil && tm[0] == -2 && tm[1] == -2
	if a[3]&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 && !omit {
		return 0, unix.EINVAL
	}
	return setTimes(t, a[0], a[1], a[3], tm, wrong)
}

// clampTime is a time stamp in nanoseconds, kept off the two special values.
func clampTime(s, n int64) int64 {
	s = min(max(s, -maxSeconds+1), maxSeconds-1)
	if ns := s*second + n; ns != -1 && ns != -2 {
		return ns
	}
	return -3
}

// sysUtimes, sysFutimesat: EINVAL for microseconds. See utimes(2).
func sysUtimes(t *task.Thread, a *Args) (uintptr, error) { return utimes(t, atCWD, a[0], a[1]) }
func sysFutimesat(t *task.Thread, a *Args) (uintptr, error) {
	return utimes(t, a[0], a[1], a[2])
}

func utimes(t *task.Thread, dirfd, path, times uint64) (uintptr, error) {
	var tm *[2]int64
	if times != 0 {
		var b [32]byte
		if err := t.CopyIn(b[:], hal.UserAddr(times)); err != nil {
			return 0, err
		}
		tm = new([2]int64)
		for i := range tm {
			us := int64(le.Uint64(b[16*i+8:]))
			if us < 0 || us >= 1e6 {
				return 0, unix.EINVAL
			}
			tm[i] = clampTime(int64(le.Uint64(b[16*i:])), us*1000)
		}
	}
	return setTimes(t, dirfd, path, 0, tm, false)
}

// sysUtime: EFAULT, EPERM, … See utime(2).
func sysUtime(t *task.Thread, a *Args) (uintptr, error) {
	var tm *[2]int64
	if a[1] != 0 {
		var b [16]byte
		if err := t.CopyIn(b[:], hal.UserAddr(a[1])); err != nil {
			return 0, err
		}
		tm = &[2]int64{clampTime(int64(le.Uint64(b[0:])), 0), clampTime(int64(le.Uint64(b[8:])), 0)}
	}
	return setTimes(t, atCWD, a[0], 0, tm, false)
}
