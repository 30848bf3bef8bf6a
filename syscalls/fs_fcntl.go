package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/fs/anon"
	"kiln/fs/pipe"
	"kiln/fs/tmpfs"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/task"
)

// Commands and flags that x/sys/unix does not name.
const (
	largeFile     = 0x8000 // O_LARGEFILE
	fSetSig       = 10
	fGetSig       = 11
	fSetOwnEx     = 15
	fGetOwnEx     = 16
	fGetOwnerUIDs = 17
	fGetRWHint    = 1035
	fSetRWHint    = 1036
	settable      = unix.O_APPEND | unix.O_NONBLOCK | unix.O_DIRECT | unix.O_NOATIME
	flockSize     = 32
)

// sysFcntl: EBADF; EINVAL for an unknown command; O_PATH descriptors know only the
// commands on the descriptor itself. See fcntl(2).
func sysFcntl(t *task.Thread, a *Args) (uintptr, error) {
	cmd, arg := int(int32(a[1])), a[2]
	f, err := rawFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	fds := t.FDs()
	switch cmd {
	case unix.F_DUPFD, unix.F_DUPFD_CLOEXEC:
		if int32(arg) < 0 || uint64(uint32(arg)) >= t.Process().Limit(unix.RLIMIT_NOFILE) {
			return 0, unix.EINVAL
		}
		return dupFrom(t, a[0], int32(arg), cmd == unix.F_DUPFD_CLOEXEC)
	case unix.F_GETFD:
		on, ok := fds.CloseOnExec(int32(a[0]))
		if !ok {
			return 0, unix.EBADF
		}
		if on {
			return unix.FD_CLOEXEC, nil
		}
		return 0, nil
	case unix.F_SETFD:
		if !fds.SetCloseOnExec(int32(a[0]), arg&unix.FD_CLOEXEC != 0) {
			return 0, unix.EBADF
		}
		return 0, nil
	case unix.F_GETFL:
		fl := f.Flags()
		if f.Path.Valid() && fl&unix.O_PATH == 0 {
			fl |= largeFile
		}
		return uintptr(fl), nil
	}
	if f.Flags()&unix.O_PATH != 0 {
		return 0, unix.EBADF
	}
	return fcntlFile(t, f, int32(a[0]), cmd, arg)
}

// fcntlFile is the commands on the description and the object.
func fcntlFile(t *task.Thread, f *vfs.File, fd int32, cmd int, arg uint64) (uintptr, error) {
	switch cmd {
	case unix.F_SETFL:
		if uint32(arg)&unix.O_NOATIME&^f.Flags() != 0 {
			if at, err := f.Ops.Attr(t); err == nil && at.UID != t.Creds().FSUID && !t.Creds().Can(vfs.CapFowner) {
				return 0, unix.EPERM
			}
		}
		if uint32(arg)&unix.O_DIRECT != 0 && f.Undirect() {
			return 0, unix.EINVAL
		}
		f.SetAsync(fd, arg&unix.O_ASYNC != 0)
		f.SetFlags(settable, uint32(arg))
		return 0, nil
	case unix.F_GETLK, unix.F_SETLK, unix.F_SETLKW, unix.F_OFD_GETLK, unix.F_OFD_SETLK, unix.F_OFD_SETLKW:
		return recordLock(t, f, fd, cmd, arg)
	case unix.F_SETOWN:
		return 0, setOwn(t, f, int32(arg))
	case unix.F_GETOWN:
		return uintptr(getOwn(f)), nil
	case fSetOwnEx, fGetOwnEx, fGetOwnerUIDs:
		return ownerEx(t, f, cmd, arg)
	case fSetSig:
		if arg > 64 {
			return 0, unix.EINVAL
		}
		f.SetSignal(int32(arg))
		return 0, nil
	case fGetSig:
		return uintptr(f.Signal()), nil
	case unix.F_GETPIPE_SZ, unix.F_SETPIPE_SZ:
		p, ok := pipe.Of(f)
		if !ok {
			return 0, unix.EBADF
		}
		if cmd == unix.F_GETPIPE_SZ {
			return uintptr(p.Size()), nil
		}
		n, err := p.SetSize(arg, t.Creds())
		return uintptr(n), err
	case unix.F_ADD_SEALS, unix.F_GET_SEALS:
		s, ok := f.Ops.(anon.Sealer)
		const known = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_FUTURE_WRITE
		switch {
		case cmd == unix.F_ADD_SEALS && arg>>32 != 0: // whatever it is
			return 0, unix.EINVAL
		case ok:
		case cmd == unix.F_ADD_SEALS && !f.Writable():
			return 0, unix.EPERM
		case cmd == unix.F_ADD_SEALS && arg&^known != 0:
			return 0, unix.EINVAL
		default:
			return tmpfsSeals(f, cmd)
		}
		if cmd == unix.F_GET_SEALS {
			return uintptr(s.Seals()), nil
		}
		if !f.Writable() {
			return 0, unix.EPERM
		}
		return 0, s.AddSeals(t, uint32(arg))
	case unix.F_GETLEASE:
		return uintptr(f.Lease()), nil
	case unix.F_SETLEASE:
		return 0, setLease(t, f, fd, int32(arg))
	case unix.F_NOTIFY:
		return 0, f.Notify(fd, uint32(arg), newOwner(t, ownerProcess, t.Process().PID()))
	case fGetRWHint, fSetRWHint:
		return rwHint(t, f, cmd, arg)
	}
	return 0, unix.EINVAL
}

// tmpfsSeals answers for an ordinary file of a tmpfs, which is sealed against seals.
func tmpfsSeals(f *vfs.File, cmd int) (uintptr, error) {
	i, ok := f.Inode().(*tmpfs.Inode)
	switch {
	case !ok || i.Type() != unix.S_IFREG:
		return 0, unix.EINVAL
	case cmd == unix.F_GET_SEALS:
		return unix.F_SEAL_SEAL, nil
	}
	return 0, unix.EPERM
}

// recordLock is fcntl's advisory locks: EINVAL, EOVERFLOW, EBADF for the wrong access mode,
// EAGAIN, EDEADLK, ENOLCK.
func recordLock(t *task.Thread, f *vfs.File, fd int32, cmd int, arg uint64) (uintptr, error) {
	var b [flockSize]byte
	if err := t.CopyIn(b[:], hal.UserAddr(arg)); err != nil {
		return 0, err
	}
	ofd := cmd == unix.F_OFD_GETLK || cmd == unix.F_OFD_SETLK || cmd == unix.F_OFD_SETLKW
	if ofd && le.Uint32(b[24:]) != 0 {
		return 0, unix.EINVAL
	}
	r, err := lockRange(t, f, b[:])
	if err != nil {
		return 0, err
	}
	fds := t.FDs()
	r.PID, r.Owner = t.Process().PID(), fds
	if ofd {
		r.PID, r.Owner = -1, f
	}
	kind := int16(le.Uint16(b[0:]))
	r.Write = kind == unix.F_WRLCK
	if kind != unix.F_RDLCK && kind != unix.F_WRLCK && kind != unix.F_UNLCK {
		return 0, unix.EINVAL
	}
	if cmd == unix.F_GETLK || cmd == unix.F_OFD_GETLK {
		if kind == unix.F_UNLCK {
			return 0, unix.EINVAL
		}
		return 0, getLock(t, f, arg, b[:], r)
	}
	if kind == unix.F_RDLCK && !f.Readable() || kind == unix.F_WRLCK && !f.Writable() {
		return 0, unix.EBADF
	}
	unlock := kind == unix.F_UNLCK
	err = f.SetLock(t, r, unlock, cmd == unix.F_SETLKW || cmd == unix.F_OFD_SETLKW)
	if err != nil || unlock || ofd {
		return 0, err
	}
	// The descriptor may have been closed meanwhile, which drops the locks that there are: this
	// one came after, and nothing would ever drop it.
	g := fds.Get(fd)
	done(g)
	if g != f {
		_ = f.SetLock(t, r, true, false)
		return 0, unix.EBADF
	}
	return 0, nil
}

func getLock(t *task.Thread, f *vfs.File, arg uint64, b []byte, r vfs.RecordLock) error {
	o, ok := f.TestLock(r)
	if !ok {
		le.PutUint16(b[0:], unix.F_UNLCK)
		return t.CopyOut(hal.UserAddr(arg), b)
	}
	le.PutUint16(b[0:], unix.F_RDLCK)
	if o.Write {
		le.PutUint16(b[0:], unix.F_WRLCK)
	}
	le.PutUint16(b[2:], unix.SEEK_SET)
	le.PutUint64(b[8:], uint64(o.Start))
	n := o.End - o.Start
	if o.End == 1<<63-1 {
		n = 0
	}
	le.PutUint64(b[16:], uint64(n))
	le.PutUint32(b[24:], uint32(o.PID))
	return t.CopyOut(hal.UserAddr(arg), b)
}

// lockRange reads whence, start and length of a struct flock.
func lockRange(t *task.Thread, f *vfs.File, b []byte) (r vfs.RecordLock, err error) {
	start, n := int64(le.Uint64(b[8:])), int64(le.Uint64(b[16:]))
	base := int64(0)
	switch int16(le.Uint16(b[2:])) {
	case unix.SEEK_SET:
	case unix.SEEK_CUR:
		base = f.Pos(t)
	case unix.SEEK_END:
		a, err := f.Ops.Attr(t)
		if err != nil {
			return r, err
		}
		base = a.Size
	default:
		return r, unix.EINVAL
	}
	if start > 1<<63-1-base {
		return r, unix.EOVERFLOW
	}
	if start += base; start < 0 {
		return r, unix.EINVAL
	}
	r.Start, r.End = start, 1<<63-1
	switch {
	case n > 0:
		if n-1 > 1<<63-1-start {
			return r, unix.EOVERFLOW
		}
		if n < 1<<63-1-start {
			r.End = start + n
		}
	case n < 0:
		if start+n < 0 {
			return r, unix.EINVAL
		}
		r.Start, r.End = start+n, start
	}
	return r, nil
}

// sysFlock: EBADF, EINVAL, EWOULDBLOCK, EINTR. See flock(2).
func sysFlock(t *task.Thread, a *Args) (uintptr, error) {
	const mandatory = 32 // LOCK_MAND: not there since Linux 5.15, and no error
	if a[1]&mandatory != 0 {
		return 0, nil
	}
	how := int(int32(a[1])) &^ unix.LOCK_NB
	if how != unix.LOCK_SH && how != unix.LOCK_EX && how != unix.LOCK_UN {
		return 0, unix.EINVAL
	}
	f, err := fileOf(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if how != unix.LOCK_UN && !f.Readable() && !f.Writable() {
		return 0, unix.EBADF
	}
	return 0, f.Flock(t, t.Process().PID(), how, a[1]&unix.LOCK_NB == 0)
}
