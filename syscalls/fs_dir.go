package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/task"
)

// sysGetdents64: EBADF, ENOTDIR, EINVAL if the buffer is too small for one entry, EFAULT,
// ENOENT for a removed directory. See getdents64(2).
func sysGetdents64(t *task.Thread, a *Args) (uintptr, error) {
	return getdents(t, a, func(b []byte, e *vfs.Dirent) int {
		// struct linux_dirent64: ino, off, reclen, type, name.
		n := (19 + len(e.Name) + 1 + 7) &^ 7
		if n <= len(b) {
			b[18] = e.Type
			b[19+copy(b[19:n], e.Name)] = 0
		}
		return n
	})
}

// sysGetdents is the old form: the type is the last byte of the record.
func sysGetdents(t *task.Thread, a *Args) (uintptr, error) {
	return getdents(t, a, func(b []byte, e *vfs.Dirent) int {
		n := (18 + len(e.Name) + 2 + 7) &^ 7
		if n <= len(b) {
			b[18+copy(b[18:n], e.Name)] = 0
			b[n-1] = e.Type
		}
		return n
	})
}

func getdents(t *task.Thread, a *Args, encode func(b []byte, e *vfs.Dirent) int) (uintptr, error) {
	f, err := fileOf(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	room, done := int(uint32(a[2])), 0
	var fail error
	var b [512]byte
	err = f.Iterate(t, func(e vfs.Dirent) bool {
		clear(b[:])
		n := encode(b[:], &e)
		if n > room-done || n > len(b) {
			fail = unix.EINVAL
			return false
		}
		le.PutUint64(b[0:], e.Ino)
		le.PutUint64(b[8:], uint64(e.Next))
		le.PutUint16(b[16:], uint16(n))
		if fail = t.CopyOut(hal.UserAddr(a[1])+hal.UserAddr(done), b[:n]); fail != nil {
			return false
		}
		done += n
		return true
	})
	if done > 0 {
		return uintptr(done), nil
	}
	if err == nil {
		err = fail
	}
	return 0, err
}

// sysMkdir, sysMkdirat: EEXIST, ENOENT, EACCES, ENOSPC, EROFS, … See mkdir(2).
func sysMkdir(t *task.Thread, a *Args) (uintptr, error) { return mkdir(t, atCWD, a[0], a[1]) }
func sysMkdirat(t *task.Thread, a *Args) (uintptr, error) {
	return mkdir(t, a[0], a[1], a[2])
}

func mkdir(t *task.Thread, dirfd, path, mode uint64) (uintptr, error) {
	return withPath(t, dirfd, path, false, func(l vfs.Lookup, p string) error {
		return t.Kernel().NS.Mkdir(l, p, uint32(mode))
	})
}

// sysMknod, sysMknodat: EINVAL for a type, EPERM for devices without CAP_MKNOD, EEXIST. See
// mknod(2).
func sysMknod(t *task.Thread, a *Args) (uintptr, error) {
	return mknod(t, atCWD, a[0], a[1], a[2])
}
func sysMknodat(t *task.Thread, a *Args) (uintptr, error) {
	return mknod(t, a[0], a[1], a[2], a[3])
}

func mknod(t *task.Thread, dirfd, path, mode, dev uint64) (uintptr, error) {
	switch mode & unix.S_IFMT { // before the path is looked at
	case 0, unix.S_IFREG, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
	case unix.S_IFDIR:
		return 0, unix.EPERM
	default:
		return 0, unix.EINVAL
	}
	return withPath(t, dirfd, path, false, func(l vfs.Lookup, p string) error {
		return t.Kernel().NS.Mknod(l, p, uint32(mode), uint64(uint32(dev)))
	})
}

// sysRmdir, sysUnlink, sysUnlinkat: ENOENT, ENOTEMPTY, EBUSY, EISDIR, ENOTDIR, EPERM, EROFS,
// EINVAL for flags or ".". See unlink(2), rmdir(2).
func sysRmdir(t *task.Thread, a *Args) (uintptr, error)  { return unlink(t, atCWD, a[0], true) }
func sysUnlink(t *task.Thread, a *Args) (uintptr, error) { return unlink(t, atCWD, a[0], false) }
func sysUnlinkat(t *task.Thread, a *Args) (uintptr, error) {
	if a[2]&^unix.AT_REMOVEDIR != 0 {
		return 0, unix.EINVAL
	}
	return unlink(t, a[0], a[1], a[2] != 0)
}

func unlink(t *task.Thread, dirfd, path uint64, dir bool) (uintptr, error) {
	return withPath(t, dirfd, path, false, func(l vfs.Lookup, p string) error {
		return t.Kernel().NS.Unlink(l, p, dir)
	})
}

// sysSymlink, sysSymlinkat: ENOENT for an empty target, EEXIST, … See symlink(2).
func sysSymlink(t *task.Thread, a *Args) (uintptr, error) {
	return symlink(t, a[0], atCWD, a[1])
}
func sysSymlinkat(t *task.Thread, a *Args) (uintptr, error) {
	return symlink(t, a[0], a[1], a[2])
}

func symlink(t *task.Thread, target, dirfd, path uint64) (uintptr, error) {
	s, err := pathArg(t, target, false)
	if err != nil {
		return 0, err
	}
	return withPath(t, dirfd, path, false, func(l vfs.Lookup, p string) error {
		return t.Kernel().NS.Symlink(l, s, p)
	})
}

// two copies two paths and calls do with where each starts. What is wrong with the second is
// in l2, to be told when the first one has been walked.
func two(t *task.Thread, fd1, p1, fd2, p2 uint64, empty bool, do func(l1 vfs.Lookup, s1 string, l2 vfs.Lookup, s2 string) error) (uintptr, error) {
	return withPath(t, fd1, p1, empty, func(l1 vfs.Lookup, s1 string) error {
		var l2 vfs.Lookup
		var f *vfs.File
		s2, err := pathArg(t, p2, false)
		if err == nil {
			l2, f, err = where(t, fd2, s2)
		}
		if err != nil {
			l2.Wrong = err
		}
		err = do(l1, s1, l2, s2)
		done(f)
		return err
	})
}

// sysLink, sysLinkat: EEXIST, EXDEV, EPERM for directories, EINVAL for flags. See link(2).
func sysLink(t *task.Thread, a *Args) (uintptr, error) {
	return link(t, atCWD, a[0], atCWD, a[1], 0)
}
func sysLinkat(t *task.Thread, a *Args) (uintptr, error) {
	if a[4]&^(unix.AT_SYMLINK_FOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return 0, unix.EINVAL
	}
	return link(t, a[0], a[1], a[2], a[3], int(a[4]))
}

func link(t *task.Thread, fd1, p1, fd2, p2 uint64, flags int) (uintptr, error) {
	if flags&unix.AT_EMPTY_PATH != 0 && !t.Creds().Can(unix.CAP_DAC_READ_SEARCH) {
		return 0, unix.ENOENT // whatever the path
	}
	return two(t, fd1, p1, fd2, p2, flags&unix.AT_EMPTY_PATH != 0, func(l1 vfs.Lookup, s1 string, l2 vfs.Lookup, s2 string) error {
		return t.Kernel().NS.Link(l1, s1, l2, s2, flags)
	})
}

// sysRename, sysRenameat, sysRenameat2: EXDEV, ENOENT, ENOTEMPTY, EINVAL, EISDIR, ENOTDIR,
// EBUSY, EEXIST; RENAME_WHITEOUT on a tmpfs only, as Linux has it. See rename(2).
func sysRename(t *task.Thread, a *Args) (uintptr, error) {
	return rename(t, atCWD, a[0], atCWD, a[1], 0)
}
func sysRenameat(t *task.Thread, a *Args) (uintptr, error) {
	return rename(t, a[0], a[1], a[2], a[3], 0)
}
func sysRenameat2(t *task.Thread, a *Args) (uintptr, error) {
	const known = unix.RENAME_NOREPLACE | unix.RENAME_EXCHANGE | unix.RENAME_WHITEOUT
	flags := uint(uint32(a[4]))
	if flags&^known != 0 || flags&unix.RENAME_EXCHANGE != 0 && flags != unix.RENAME_EXCHANGE {
		return 0, unix.EINVAL // before the paths are looked at
	}
	return rename(t, a[0], a[1], a[2], a[3], flags)
}

func rename(t *task.Thread, fd1, p1, fd2, p2 uint64, flags uint) (uintptr, error) {
	return two(t, fd1, p1, fd2, p2, false, func(l1 vfs.Lookup, s1 string, l2 vfs.Lookup, s2 string) error {
		return t.Kernel().NS.Rename(l1, s1, l2, s2, flags)
	})
}
