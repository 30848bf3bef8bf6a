package syscalls

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/task"
	"kiln/net"
)

// maxRW is MAX_RW_COUNT: a longer transfer is cut, as Linux does.
const maxRW = 0x7ffff000

// maxIOV is UIO_MAXIOV.
const maxIOV = 1024

var le = binary.LittleEndian

// local is what a thread's calls need on the heap, since it goes through interfaces
// (task.Thread.Local), so that the usual call allocates nothing. It is the thread's own.
type local struct {
	b     [256]byte // structures on their way in or out
	times [32]byte  // struct timespec or itimerspec, for getTimespec alone
	call  fsCall
	opens opening
}

// opening is what io_uring wants of a call that opens a file for it.
type opening struct {
	direct bool      // the file is wanted, not a descriptor of it
	file   *vfs.File // the one that was opened so
	atOnce bool      // an open does not wait for the other end of a FIFO
}

// full is FDTable.Full for one more descriptor, unless none is wanted.
func full(t *task.Thread) bool { return !localOf(t).opens.direct && t.FDs().Full(1) }

func localOf(t *task.Thread) *local {
	if x, ok := t.Local.(*local); ok {
		return x
	}
	x := new(local)
	t.Local = x
	return x
}

// scratch is n zero bytes, at most 256, until the thread's next use.
func scratch(t *task.Thread, n int) []byte {
	b := localOf(t).b[:n]
	clear(b)
	return b
}

// fsCall is the memory side of a transfer.
type fsCall struct {
	seq  mm.IOSeq
	iov  [8]mm.IOVec
	raw  [8 * 16]byte
	busy bool
	// quiet: EPIPE does not signal.
	quiet bool
}

// newCall is the thread's fsCall, or one of its own for a call inside a call.
func newCall(t *task.Thread) *fsCall {
	x := &localOf(t).call
	if x.busy {
		x = new(fsCall)
	}
	x.busy = true
	return x
}

func (x *fsCall) free() { x.busy, x.quiet = false, false }

// fileOf is the open file behind fd, with a reference: EBADF, also for O_PATH.
func fileOf(t *task.Thread, fd uint64) (*vfs.File, error) {
	f := t.FDs().Get(int32(fd))
	if f == nil {
		return nil, unix.EBADF
	}
	if f.Flags()&unix.O_PATH != 0 {
		f.DecRef()
		return nil, unix.EBADF
	}
	return f, nil
}

// borrowFile is fileOf for a call that waits for nothing while it has the file
// (vfs.FDTable.Borrow).
func borrowFile(t *task.Thread, fd uint64) (f *vfs.File, counted bool, err error) {
	f, counted = t.FDs().Borrow(int32(fd))
	if f == nil {
		return nil, false, unix.EBADF
	}
	if f.Flags()&unix.O_PATH != 0 {
		release(f, counted)
		return nil, false, unix.EBADF
	}
	return f, counted, nil
}

// release ends what Borrow and borrowFile gave.
func release(f *vfs.File, counted bool) {
	if counted {
		f.DecRef()
	}
}

// rawFile is fileOf that lets O_PATH pass.
func rawFile(t *task.Thread, fd uint64) (*vfs.File, error) {
	if f := t.FDs().Get(int32(fd)); f != nil {
		return f, nil
	}
	return nil, unix.EBADF
}

// checkRange is access_ok: EFAULT. The length comes back cut to MAX_RW_COUNT.
func checkRange(addr, n uint64) (int, error) {
	if n > uint64(hal.UserTop) || addr > uint64(hal.UserTop)-n {
		return 0, unix.EFAULT
	}
	return int(min(n, maxRW)), nil
}

// one makes the sequence of a single range.
func (x *fsCall) one(t *task.Thread, addr, n uint64) error {
	size, err := checkRange(addr, n)
	if err == nil {
		x.seq.SetUser(t.Space(), t, hal.UserAddr(addr), size)
	}
	return err
}

// many reads an iovec array (import_iovec): EINVAL for a bad count or lengths, EFAULT.
func (x *fsCall) many(t *task.Thread, addr, count uint64) error {
	n := int(int32(count))
	if count > maxIOV {
		return unix.EINVAL
	}
	raw, iov := x.raw[:], x.iov[:]
	if n > len(iov) {
		raw, iov = make([]byte, 16*n), make([]mm.IOVec, n)
	}
	raw, iov = raw[:16*n], iov[:n]
	if err := t.CopyIn(raw, hal.UserAddr(addr)); err != nil {
		return err
	}
	total := uint64(0)
	for i := range iov {
		base, l := le.Uint64(raw[16*i:]), le.Uint64(raw[16*i+8:])
		if int64(l) < 0 {
			return unix.EINVAL
		}
		if _, err := checkRange(base, l); err != nil {
			return err
		}
		l = min(l, maxRW-total)
		total += l
		iov[i] = mm.IOVec{Base: hal.UserAddr(base), Len: l}
	}
	x.seq = mm.UserIOV(t.Space(), t, iov)
	return nil
}

// pathArg copies a path; "" is ENOENT unless empty paths are allowed.
func pathArg(t *task.Thread, addr uint64, empty bool) (string, error) {
	p, err := t.CopyInPath(hal.UserAddr(addr))
	if err == nil && p == "" && !empty {
		err = unix.ENOENT
	}
	return p, err
}

// where is the starting place of an *at call. The returned file, if any, is to be
// released by the caller after the walk.
func where(t *task.Thread, dirfd uint64, path string) (vfs.Lookup, *vfs.File, error) {
	if path != "" && path[0] == '/' || int32(dirfd) == unix.AT_FDCWD {
		return t.Lookup(vfs.Path{}), nil, nil
	}
	f, err := rawFile(t, dirfd)
	if err != nil {
		return vfs.Lookup{}, nil, err
	}
	l := t.Lookup(f.Path)
	if !f.Path.Valid() {
		if path != "" {
			f.DecRef()
			return vfs.Lookup{}, nil, unix.ENOTDIR
		}
		l.AtFile = f
	}
	return l, f, nil
}

func done(f *vfs.File) {
	if f != nil {
		f.DecRef()
	}
}

// withPath copies a path, finds where it starts and calls do.
func withPath(t *task.Thread, dirfd, addr uint64, empty bool, do func(l vfs.Lookup, path string) error) (uintptr, error) {
	path, err := pathArg(t, addr, empty)
	if err != nil {
		return 0, err
	}
	l, f, err := where(t, dirfd, path)
	if err != nil {
		return 0, err
	}
	err = do(l, path)
	done(f)
	return 0, err
}

// atCWD is AT_FDCWD as an argument.
const atCWD = uint64(0xffffffffffffff9c)

// walkFlags turns AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH into a walk's.
func walkFlags(flags uint64) int {
	w := vfs.WalkFollow
	if flags&unix.AT_SYMLINK_NOFOLLOW != 0 {
		w = 0
	}
	if flags&unix.AT_EMPTY_PATH != 0 {
		w |= vfs.WalkEmpty
	}
	return w
}

// installFD puts a new file into the table; on failure the file is closed.
func installFD(t *task.Thread, f *vfs.File, cloexec bool) (uintptr, error) {
	fd, err := tryInstall(t, f, cloexec)
	if err != nil {
		f.DecRef()
	}
	return fd, err
}

// tryInstall is installFD that leaves the file alone on failure.
func tryInstall(t *task.Thread, f *vfs.File, cloexec bool) (uintptr, error) {
	if o := &localOf(t).opens; o.direct && o.file == nil {
		o.file = f
		return 0, nil
	}
	fd, err := t.FDs().Install(f, 0, cloexec)
	if err != nil {
		return 0, err
	}
	return uintptr(fd), nil
}

// brokenPipe tells the thread that what it wrote to has no reader.
func brokenPipe(t *task.Thread, f *vfs.File) {
	if s, ok := f.Ops.(net.Socket); !ok || signalsPipe(s) {
		signalSelf(t, unix.SIGPIPE)
	}
}

// signalsPipe says whether EPIPE of a socket comes with SIGPIPE: of streams alone, and not of
// those of AF_VSOCK.
func signalsPipe(s net.Socket) bool {
	return s.Type() == unix.SOCK_STREAM && s.Domain() != unix.AF_VSOCK
}

// signalSelf sends a signal as the kernel does for what the thread itself did.
func signalSelf(t *task.Thread, s unix.Signal) {
	t.SendSignal(task.SignalInfo{Signo: int32(s), PID: t.Process().PID(), UID: t.Creds().UID})
}
