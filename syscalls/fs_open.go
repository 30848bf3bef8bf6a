package syscalls

import (
	"strings"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/task"
)

// sysOpen is openat from the working directory. See open(2).
func sysOpen(t *task.Thread, a *Args) (uintptr, error) {
	return open(t, atCWD, a[0], uint32(a[1]), uint32(a[2]), 0)
}

// sysOpenat: ENOENT, EACCES, EEXIST, ENOTDIR, EISDIR, ELOOP, ENAMETOOLONG, EMFILE, ENXIO,
// EROFS, … Unknown flags are ignored, as Linux does. See openat(2).
func sysOpenat(t *task.Thread, a *Args) (uintptr, error) {
	return open(t, a[0], a[1], uint32(a[2]), uint32(a[3]), 0)
}

// sysCreat is open with O_CREAT|O_WRONLY|O_TRUNC. See creat(2).
func sysCreat(t *task.Thread, a *Args) (uintptr, error) {
	return open(t, atCWD, a[0], unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC, uint32(a[1]), 0)
}

func open(t *task.Thread, dirfd, addr uint64, flags, mode uint32, resolve uint64) (uintptr, error) {
	if flags&unix.O_PATH == 0 {
		tmpfile := flags&unix.O_TMPFILE&^unix.O_DIRECTORY != 0
		if flags&(unix.O_CREAT|unix.O_DIRECTORY) == unix.O_CREAT|unix.O_DIRECTORY ||
			tmpfile && (flags&unix.O_DIRECTORY == 0 || flags&unix.O_ACCMODE == unix.O_RDONLY) {
			return 0, unix.EINVAL
		}
	}
	path, err := pathArg(t, addr, false)
	if err != nil {
		return 0, err
	}
	if full(t) {
		return 0, unix.EMFILE
	}
	from := path
	if resolve&unix.RESOLVE_IN_ROOT != 0 {
		from = strings.TrimLeft(path, "/") // the root is the descriptor
	}
	l, dir, err := where(t, dirfd, from)
	if err != nil {
		return 0, err
	}
	l.Resolve = resolve
	f, err := openAtOnce(t, l, path, flags)
	if f == nil && err == nil {
		f, err = t.Kernel().NS.Open(l, path, flags, mode)
	}
	done(dir)
	if err != nil {
		return 0, err
	}
	return installFD(t, f, flags&unix.O_CLOEXEC != 0)
}

// openAtOnce opens for io_uring as Linux tries at first: as with O_NONBLOCK, which the
// description does not keep. nil, nil: the open is one that may wait.
func openAtOnce(t *task.Thread, l vfs.Lookup, path string, flags uint32) (*vfs.File, error) {
	const worker = unix.O_CREAT | unix.O_TRUNC | unix.O_TMPFILE&^unix.O_DIRECTORY
	if !localOf(t).opens.atOnce || flags&(worker|unix.O_NONBLOCK) != 0 {
		return nil, nil
	}
	f, err := t.Kernel().NS.Open(l, path, flags|unix.O_NONBLOCK, 0)
	if err == unix.EAGAIN {
		return nil, nil
	}
	if err == nil {
		f.SetFlags(unix.O_NONBLOCK, 0)
	}
	return f, err
}

// resolveCached is RESOLVE_CACHED.
const resolveCached = 0x20

// openFlags are the flags that openat2 knows.
const openFlags = unix.O_ACCMODE | unix.O_CREAT | unix.O_EXCL | unix.O_NOCTTY | unix.O_TRUNC | unix.O_APPEND |
	unix.O_NONBLOCK | unix.O_SYNC | unix.O_DSYNC | unix.O_ASYNC | unix.O_DIRECT | 0x8000 | unix.O_DIRECTORY |
	unix.O_NOFOLLOW | unix.O_NOATIME | unix.O_CLOEXEC | unix.O_PATH | unix.O_TMPFILE

// sysOpenat2: open's, and EINVAL for unknown flags or a mode without O_CREAT, E2BIG for a
// newer structure, EXDEV and ELOOP by RESOLVE_*, EAGAIN for RESOLVE_CACHED where something would change; look-ups are taken
// for cached. See openat2(2).
func sysOpenat2(t *task.Thread, a *Args) (uintptr, error) {
	var how [24]byte
	if a[3] < uint64(len(how)) {
		return 0, unix.EINVAL
	}
	if err := copyStruct(t, how[:], a[2], a[3]); err != nil {
		return 0, err
	}
	flags, mode, resolve := le.Uint64(how[:]), le.Uint64(how[8:]), le.Uint64(how[16:])
	const known = unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH | unix.RESOLVE_IN_ROOT | resolveCached
	makes := flags&unix.O_CREAT != 0 || flags&unix.O_TMPFILE == unix.O_TMPFILE
	switch {
	case flags&^openFlags != 0, resolve&^known != 0, mode&^0o7777 != 0, mode != 0 && !makes,
		resolve&unix.RESOLVE_BENEATH != 0 && resolve&unix.RESOLVE_IN_ROOT != 0,
		flags&unix.O_PATH != 0 && flags&^(unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC) != 0:
		return 0, unix.EINVAL
	case resolve&resolveCached != 0 && (makes || flags&unix.O_TRUNC != 0):
		return 0, unix.EAGAIN
	}
	fd, err := open(t, a[0], a[1], uint32(flags), uint32(mode), resolve)
	if resolve&resolveCached != 0 && (err == unix.ENOENT || err == unix.ENAMETOOLONG || err == unix.ENOTDIR) {
		// That there is no such name is cached by no file system in memory. A last part that
		// is no directory is there.
		p, bad := pathArg(t, a[1], false)
		if bad == nil && err == unix.ENOTDIR && notBelow(t, a[0], p) {
			return 0, err
		}
		if last := flags&unix.O_DIRECTORY != 0 || strings.HasSuffix(p, "/"); bad == nil && (err != unix.ENOTDIR || !last) {
			err = unix.EAGAIN
		}
	}
	return fd, err
}

// notBelow says that the path begins at a descriptor that is no directory's.
func notBelow(t *task.Thread, fd uint64, path string) bool {
	if strings.HasPrefix(path, "/") || int32(fd) == unix.AT_FDCWD {
		return false
	}
	f, err := fileOf(t, fd)
	if err != nil {
		return false
	}
	defer f.DecRef()
	return !f.Path.Valid() || !f.Path.IsDir()
}

// copyStruct is copy_struct_from_user: bytes beyond what is known must be zero (E2BIG).
func copyStruct(t *task.Thread, b []byte, addr, size uint64) error {
	if size > hal.PageSize {
		return unix.E2BIG
	}
	if err := t.CopyIn(b[:min(size, uint64(len(b)))], hal.UserAddr(addr)); err != nil {
		return err
	}
	if size > uint64(len(b)) {
		rest := make([]byte, size-uint64(len(b)))
		if err := t.CopyIn(rest, hal.UserAddr(addr)+hal.UserAddr(len(b))); err != nil {
			return err
		}
		for _, c := range rest {
			if c != 0 {
				return unix.E2BIG
			}
		}
	}
	return nil
}

// sysClose: EBADF. See close(2).
func sysClose(t *task.Thread, a *Args) (uintptr, error) {
	f := t.FDs().Remove(int32(a[0]))
	if f == nil {
		return 0, unix.EBADF
	}
	t.FDs().CloseBy(t, f)
	return 0, nil
}

// sysCloseRange: EINVAL for flags or first > last. CLOSE_RANGE_UNSHARE is not there. See
// close_range(2).
func sysCloseRange(t *task.Thread, a *Args) (uintptr, error) {
	first, last, flags := uint32(a[0]), uint32(a[1]), uint32(a[2])
	if flags&^(unix.CLOSE_RANGE_CLOEXEC|unix.CLOSE_RANGE_UNSHARE) != 0 || first > last {
		return 0, unix.EINVAL
	}
	if flags&unix.CLOSE_RANGE_UNSHARE != 0 && t.FDs().Shared() {
		return 0, unix.EINVAL
	}
	t.FDs().CloseRange(first, last, flags&unix.CLOSE_RANGE_CLOEXEC != 0)
	return 0, nil
}

// sysDup: EBADF, EMFILE. See dup(2).
func sysDup(t *task.Thread, a *Args) (uintptr, error) { return dupFrom(t, a[0], 0, false) }

func dupFrom(t *task.Thread, fd uint64, min int32, cloexec bool) (uintptr, error) {
	f, err := rawFile(t, fd)
	if err != nil {
		return 0, err
	}
	n, err := t.FDs().Install(f, min, cloexec)
	if err != nil {
		f.DecRef()
		return 0, err
	}
	return uintptr(n), nil
}

// sysDup2: EBADF. dup2 to itself only checks. See dup2(2).
func sysDup2(t *task.Thread, a *Args) (uintptr, error) {
	if int32(a[0]) == int32(a[1]) {
		f, err := rawFile(t, a[0])
		if err != nil {
			return 0, err
		}
		f.DecRef()
		return uintptr(int32(a[0])), nil
	}
	return dupTo(t, a[0], a[1], false)
}

// sysDup3: EINVAL for equal descriptors or flags, EBADF. See dup3(2).
func sysDup3(t *task.Thread, a *Args) (uintptr, error) {
	if a[2]&^unix.O_CLOEXEC != 0 || int32(a[0]) == int32(a[1]) {
		return 0, unix.EINVAL
	}
	return dupTo(t, a[0], a[1], a[2] != 0)
}

func dupTo(t *task.Thread, from, to uint64, cloexec bool) (uintptr, error) {
	f, err := rawFile(t, from)
	if err != nil {
		return 0, err
	}
	old, err := t.FDs().InstallAt(f, int32(to), cloexec)
	if err != nil {
		f.DecRef()
		return 0, err
	}
	if old != nil {
		t.FDs().Close(old)
	}
	return uintptr(int32(to)), nil
}

// sysUmask replaces the creation mask. See umask(2).
func sysUmask(t *task.Thread, a *Args) (uintptr, error) {
	return uintptr(t.FS().Umask(uint32(a[0]))), nil
}

// sysGetcwd: ERANGE, ENOENT for a deleted directory, EFAULT. See getcwd(2).
func sysGetcwd(t *task.Thread, a *Args) (uintptr, error) {
	cwd, root := t.FS().Cwd(), t.FS().Root()
	ns := t.Kernel().NS
	below, gone := ns.Reachable(cwd, root)
	if gone {
		return 0, unix.ENOENT
	}
	s := ns.Name(cwd, root)
	if !below {
		s = "(unreachable)" + s
	}
	if uint64(len(s)+1) > a[1] {
		return 0, unix.ERANGE
	}
	return uintptr(len(s) + 1), t.CopyOut(hal.UserAddr(a[0]), append([]byte(s), 0))
}

// sysChdir: ENOENT, ENOTDIR, EACCES, ELOOP, … See chdir(2).
func sysChdir(t *task.Thread, a *Args) (uintptr, error) {
	return withPath(t, atCWD, a[0], false, func(l vfs.Lookup, path string) error {
		p, err := t.Kernel().NS.Walk(l, path, vfs.WalkFollow|vfs.WalkDir)
		if err != nil {
			return err
		}
		return t.Kernel().NS.Chdir(l, p)
	})
}

// sysFchdir: EBADF, ENOTDIR, EACCES. See fchdir(2).
func sysFchdir(t *task.Thread, a *Args) (uintptr, error) {
	f, err := rawFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if !f.Path.Valid() {
		return 0, unix.ENOTDIR
	}
	return 0, t.Kernel().NS.Chdir(t.Lookup(vfs.Path{}), f.Path)
}

// sysChroot: chdir's, and EPERM without CAP_SYS_CHROOT. See chroot(2).
func sysChroot(t *task.Thread, a *Args) (uintptr, error) {
	return withPath(t, atCWD, a[0], false, t.Kernel().NS.Chroot)
}
