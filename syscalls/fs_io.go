package syscalls

import (
	"math"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/anon"
	"kiln/fs/epoll"
	"kiln/fs/mqueue"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/task"
	"kiln/kernel/wait"
	"kiln/net"
)

const (
	readEvents  = waiter.ReadableEvents | waiter.EventErr | waiter.EventHUp | waiter.EventRdHUp
	writeEvents = waiter.WritableEvents | waiter.EventErr | waiter.EventHUp
)

// readFile reads at the file's position, waiting if the file is blocking.
func readFile(t *task.Thread, f *vfs.File, x *fsCall) (int, error) {
	n, err := f.Read(t, &x.seq)
	switch {
	case err != nil:
		if wait.Again(err) && !f.Nonblocking() {
			return readWait(t, f, x, 0)
		}
		return n, err
	case x.seq.Len() > 0:
		return readShort(t, f, x, n)
	}
	return n, nil
}

// readShort is the rest of readFile where there was less than was asked for.
//
//go:noinline
func readShort(t *task.Thread, f *vfs.File, x *fsCall, n int) (int, error) {
	if n > 0 && n < target(t, f, n+x.seq.Len()) && !f.Nonblocking() {
		return readWait(t, f, x, n)
	}
	return n, nil
}

// target is how many of want bytes a blocking read waits for, which is more than one of a
// socket with SO_RCVLOWAT alone. An Attempt takes what there is.
func target(t *task.Thread, f *vfs.File, want int) int {
	if s, ok := f.Ops.(net.Socket); ok && !t.Attempting() {
		return s.Target(want, 0)
	}
	return 1
}

// readWait is the rest of readFile for a file that has nothing to read, or a socket that has
// had n bytes and is to have more.
//
//go:noinline
func readWait(t *task.Thread, f *vfs.File, x *fsCall, n int) (int, error) {
	// It may be borrowed, and a wait runs work that may close it.
	f.IncRef()
	ns, _ := f.Ops.Timeouts()
	on := waiter.Waitable(f)
	if s, ok := f.Ops.(*anon.SignalFD); ok { // an interface's table would have to be looked up
		on = s.ForReader(t)
	}
	deadline := timeout(t, ns)
	for {
		k, err := t.BlockOn(on, readEvents, false, deadline, unix.EAGAIN, func() (int, error) { return f.Read(t, &x.seq) })
		if n += k; err != nil || k == 0 || x.seq.Len() == 0 || n >= target(t, f, n+x.seq.Len()) {
			if n > 0 && err != nil {
				untold(f.Ops, err)
				err = nil
			}
			f.DecRef()
			return n, interrupted(ns, err)
		}
	}
}

// writeFile writes at the file's position; a blocking stream takes everything, but for an
// Attempt. EPIPE raises SIGPIPE.
func writeFile(t *task.Thread, f *vfs.File, x *fsCall) (int, error) {
	if err := fileSizeLimit(t, f, &x.seq, -1); err != nil {
		return 0, err
	}
	n, err := f.Write(t, &x.seq)
	if err == nil && x.seq.Len() == 0 {
		return n, nil
	}
	return writeRest(t, f, x, n, err)
}

// writeRest is the rest of writeFile where not all has been written.
//
//go:noinline
func writeRest(t *task.Thread, f *vfs.File, x *fsCall, n int, err error) (int, error) {
	if !f.Nonblocking() && (err == unix.EAGAIN || err == nil && x.seq.Len() > 0 && !f.Seekable() && !t.Attempting()) {
		n, err = writeWait(t, f, x, n)
	}
	if err == unix.EPIPE && !x.quiet {
		brokenPipe(t, f)
	}
	return n, err
}

// writeWait goes on with a write of which n bytes are done.
func writeWait(t *task.Thread, f *vfs.File, x *fsCall, n int) (int, error) {
	f.IncRef() // as in readWait
	defer f.DecRef()
	_, ns := f.Ops.Timeouts()
	deadline := timeout(t, ns)
	for {
		m, err := t.BlockOn(f, writeEvents, false, deadline, unix.EAGAIN, func() (int, error) { return f.Write(t, &x.seq) })
		n += m
		switch {
		case err != nil && n > 0:
			if err == unix.EPIPE && !x.quiet {
				brokenPipe(t, f)
			}
			untold(f.Ops, err)
			return n, nil
		case err != nil, x.seq.Len() == 0, m == 0, t.Attempting():
			return n, interrupted(ns, err)
		}
	}
}

// fileSizeLimit cuts a write to a regular file at RLIMIT_FSIZE; SIGXFSZ and EFBIG at the
// limit. off < 0 is the file's position.
func fileSizeLimit(t *task.Thread, f *vfs.File, q *mm.IOSeq, off int64) error {
	limit := t.Process().FileSizeLimit()
	if limit >= 1<<63-1 || q.Len() == 0 || !f.Seekable() {
		return nil
	}
	if _, ok := f.Ops.(vfs.Unwritable); ok {
		return nil // the write's own error comes first
	}
	a, err := f.Ops.Attr(t)
	if err != nil || a.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	switch {
	case f.Flags()&unix.O_APPEND != 0:
		off = a.Size
	case off < 0:
		off = f.Pos(t)
	}
	if uint64(off) >= limit {
		signalSelf(t, unix.SIGXFSZ)
		return unix.EFBIG
	}
	q.Limit(int(min(limit-uint64(off), maxRW)))
	return nil
}

// sysRead: EBADF, EFAULT, EAGAIN, EISDIR, EINTR, EIO. See read(2).
func sysRead(t *task.Thread, a *Args) (uintptr, error) {
	return transfer(t, a, false, readOp, 0)
}

// sysWrite: EBADF, EFAULT, EAGAIN, EPIPE, EFBIG, ENOSPC, EINTR. See write(2).
func sysWrite(t *task.Thread, a *Args) (uintptr, error) {
	return transfer(t, a, false, writeOp, 0)
}

func sysReadv(t *task.Thread, a *Args) (uintptr, error)  { return transfer(t, a, true, readOp, 0) }
func sysWritev(t *task.Thread, a *Args) (uintptr, error) { return transfer(t, a, true, writeOp, 0) }

type ioOp uint8

const (
	readOp ioOp = iota
	writeOp
)

func allows(f *vfs.File, op ioOp) bool {
	if op == readOp {
		return f.Readable()
	}
	return f.Writable()
}

// openFor is the file behind fd, open for the direction: EBADF.
func openFor(t *task.Thread, fd uint64, op ioOp) (*vfs.File, error) {
	f := t.FDs().Get(int32(fd))
	if f == nil {
		return nil, unix.EBADF
	}
	if !allows(f, op) {
		f.DecRef()
		return nil, unix.EBADF
	}
	return f, nil
}

// ranges sets seq to what a[1] and a[2] say, for a transfer with f, in Linux's order: EFAULT
// and EINVAL of vectors come before EBADF of a file that is not open for the direction (for
// single ranges the caller has looked at that), EINVAL of a file that knows no such transfer
// before EFAULT of a single range.
func (x *fsCall) ranges(t *task.Thread, f *vfs.File, a *Args, vec bool, op ioOp) error {
	var err error
	if !vec {
		err = x.one(t, a[1], a[2])
	} else if err = x.many(t, a[1], a[2]); err != nil {
		return err
	} else if !allows(f, op) {
		return unix.EBADF
	}
	if (err != nil || x.seq.Len() == 0) && !transfers(f, op) {
		return unix.EINVAL
	}
	return err
}

// transfers says whether a file knows reads or writes at all (FMODE_CAN_READ,
// FMODE_CAN_WRITE).
func transfers(f *vfs.File, op ioOp) bool {
	switch f.Ops.(type) {
	case *epoll.Set, *anon.PidFD:
		return false
	case *anon.SignalFD, *anon.TimerFD, *anon.Inotify, *anon.FSContext:
		return op == readOp
	}
	return op == readOp || mqueue.Of(f) == nil
}

func isSocket(f *vfs.File) bool {
	_, ok := f.Ops.(net.Socket)
	return ok
}

// transfer is read, write, readv and writev.
func transfer(t *task.Thread, a *Args, vec bool, op ioOp, flags uint64) (uintptr, error) {
	f, counted := t.FDs().Borrow(int32(a[0]))
	if f == nil {
		return 0, unix.EBADF
	}
	if !allows(f, op) && (!vec || f.Flags()&unix.O_PATH != 0) {
		release(f, counted)
		return 0, unix.EBADF
	}
	x := newCall(t)
	var err error
	if vec || x.one(t, a[1], a[2]) != nil || x.seq.Len() == 0 { // mostly not
		err = x.ranges(t, f, a, vec, op)
	}
	if err == nil && flags != 0 {
		err = rwFlags(f, x, op, flags)
	}
	n := 0
	switch {
	case err != nil, x.seq.Len() == 0 && (vec || op == readOp && isSocket(f)): // does not come to the file
	case flags&rwfAppend != 0 && op == writeOp && f.Seekable():
		n, err = appendFile(t, f, x, true)
	case vec && (op == writeOp && isEvent(f) || op == readOp && oneByOne(f) && !f.Path.Valid()):
		n, err = each(t, f, a, op)
	case op == readOp && flags&rwfNowait != 0:
		n, err = f.Read(t, &x.seq)
	case op == readOp:
		n, err = readFile(t, f, x)
	default:
		n, err = writeFile(t, f, x)
	}
	x.free()
	emptyVector(t, f, vec, op, n, err)
	release(f, counted)
	countIO(t, op, n)
	if n > 0 {
		return uintptr(n), nil
	}
	return 0, err
}

// emptyVector tells that a vector which read nothing, at the end of a file too, has accessed the
// file, as a plain read has not (do_iter_read).
func emptyVector(t *task.Thread, f *vfs.File, vec bool, op ioOp, n int, err error) {
	if vec && op == readOp && n == 0 && err == nil {
		f.Accessed(t)
	}
}

func isEvent(f *vfs.File) bool {
	_, ok := f.Ops.(*anon.EventFD)
	return ok
}

// each is readv or writev of what Linux 6.1 reads or writes range by range, until one is short
// (do_loop_readv_writev).
func each(t *task.Thread, f *vfs.File, a *Args, op ioOp) (n int, err error) {
	for i := range a[2] {
		var v [16]byte
		if err = t.CopyIn(v[:], hal.UserAddr(a[1]+16*i)); err != nil {
			break
		}
		size, m := le.Uint64(v[8:]), 0
		x := newCall(t)
		if err = x.one(t, le.Uint64(v[:]), size); err == nil && op == readOp {
			m, err = readFile(t, f, x)
		} else if err == nil {
			m, err = writeFile(t, f, x)
		}
		x.free()
		if n += m; err != nil || uint64(m) != size {
			break
		}
	}
	return n, err
}

// countIO is /proc/PID/io's add_rchar and its kin.
func countIO(t *task.Thread, op ioOp, n int) {
	if op == readOp {
		t.CountRead(n)
	} else {
		t.CountWrite(n)
	}
}

// sysPread64: read's, EINVAL for a negative offset, ESPIPE. See pread(2).
func sysPread64(t *task.Thread, a *Args) (uintptr, error) { return transferAt(t, a, false, readOp, 0) }

func sysPwrite64(t *task.Thread, a *Args) (uintptr, error) {
	return transferAt(t, a, false, writeOp, 0)
}
func sysPreadv(t *task.Thread, a *Args) (uintptr, error)  { return transferAt(t, a, true, readOp, 0) }
func sysPwritev(t *task.Thread, a *Args) (uintptr, error) { return transferAt(t, a, true, writeOp, 0) }

// Flags of preadv2 and pwritev2.
const (
	rwfHipri  = 1
	rwfDsync  = 2
	rwfSync   = 4
	rwfNowait = 8
	rwfAppend = 16
)

// sysPreadv2: preadv's; an offset of -1 is the file's position; EOPNOTSUPP for flags that
// are unknown, and for RWF_NOWAIT where the file cannot promise not to wait, unless there is
// nothing to transfer. RWF_APPEND means nothing to a read. See preadv2(2).
func sysPreadv2(t *task.Thread, a *Args) (uintptr, error) {
	if int64(a[3]) == -1 {
		return transfer(t, a, true, readOp, a[5])
	}
	return transferAt(t, a, true, readOp, a[5])
}

func sysPwritev2(t *task.Thread, a *Args) (uintptr, error) {
	if int64(a[3]) == -1 {
		return transfer(t, a, true, writeOp, a[5])
	}
	return transferAt(t, a, true, writeOp, a[5])
}

// rwFlags checks the RWF_* flags of a transfer (kiocb_set_rw_flags).
func rwFlags(f *vfs.File, x *fsCall, op ioOp, flags uint64) error {
	switch {
	case x.seq.Len() == 0:
		return nil
	case !transfers(f, op):
		return unix.EINVAL
	}
	if flags&^(rwfHipri|rwfDsync|rwfSync|rwfNowait|rwfAppend) != 0 {
		return unix.EOPNOTSUPP
	}
	if flags&^rwfHipri != 0 && (oneByOne(f) || isEvent(f) && op == writeOp) {
		return unix.EOPNOTSUPP
	}
	if flags&rwfNowait != 0 {
		if _, ok := f.Ops.(vfs.Nowait); !ok && !(isEvent(f) && op == readOp) {
			return unix.EOPNOTSUPP
		}
	}
	return nil
}

// oneByOne says whether Linux reads a file by read alone, range by range, so that it knows no
// flags (do_loop_readv_writev).
func oneByOne(f *vfs.File) bool {
	switch f.Ops.(type) {
	case *anon.SignalFD, *anon.TimerFD, *anon.Inotify, *anon.FSContext:
		return true
	}
	if mqueue.Of(f) != nil {
		return true
	}
	return f.Path.Valid() && f.Path.IsDir()
}

// appendFile is a write with RWF_APPEND.
func appendFile(t *task.Thread, f *vfs.File, x *fsCall, move bool) (int, error) {
	at, err := f.Ops.Attr(t)
	if err == nil {
		err = fileSizeLimit(t, f, &x.seq, at.Size)
	}
	if err != nil {
		return 0, err
	}
	return f.Append(t, &x.seq, move)
}

// transferAt is pread, pwrite and their vectors.
func transferAt(t *task.Thread, a *Args, vec bool, op ioOp, flags uint64) (uintptr, error) {
	if int64(a[3]) < 0 {
		return 0, unix.EINVAL
	}
	f, counted, err := borrowFile(t, a[0])
	if err != nil {
		return 0, err
	}
	n := 0
	switch {
	case !f.Seekable():
		err = unix.ESPIPE
	case !vec && !allows(f, op):
		err = unix.EBADF
	default:
		x := newCall(t)
		n, err = x.transferAt(t, f, a, vec, op, flags)
		x.free()
		emptyVector(t, f, vec, op, n, err)
	}
	release(f, counted)
	if n > 0 {
		return uintptr(n), nil
	}
	return 0, err
}

func (x *fsCall) transferAt(t *task.Thread, f *vfs.File, a *Args, vec bool, op ioOp, flags uint64) (n int, err error) {
	if vec || x.one(t, a[1], a[2]) != nil || x.seq.Len() == 0 { // mostly not
		err = x.ranges(t, f, a, vec, op)
	}
	if err == nil && flags != 0 {
		err = rwFlags(f, x, op, flags)
	}
	if err != nil || vec && x.seq.Len() == 0 {
		return 0, err
	}
	off := int64(a[3])
	if op == writeOp && flags&rwfAppend != 0 {
		n, err = appendFile(t, f, x, false)
	} else {
		n, err = x.at(t, f, op, off)
	}
	countIO(t, op, n)
	return n, err
}

// at transfers at a position.
func (x *fsCall) at(t *task.Thread, f *vfs.File, op ioOp, off int64) (int, error) {
	if op == readOp {
		return f.ReadAt(t, &x.seq, off)
	}
	if err := fileSizeLimit(t, f, &x.seq, off); err != nil {
		return 0, err
	}
	return f.WriteAt(t, &x.seq, off)
}

// sysLseek: EBADF, EINVAL, ESPIPE, ENXIO. See lseek(2).
func sysLseek(t *task.Thread, a *Args) (uintptr, error) {
	f, err := fileOf(t, a[0])
	if err != nil {
		return 0, err
	}
	off, err := int64(0), error(unix.EINVAL)
	if uint32(a[2]) <= unix.SEEK_HOLE {
		off, err = f.Seek(t, int64(a[1]), int(uint32(a[2])))
	}
	f.DecRef()
	return uintptr(off), err
}

// sysFsync, sysFdatasync: EBADF, EINVAL for what cannot be synchronised. See fsync(2).
func sysFsync(t *task.Thread, a *Args) (uintptr, error)     { return syncFile(t, a[0], false) }
func sysFdatasync(t *task.Thread, a *Args) (uintptr, error) { return syncFile(t, a[0], true) }

func syncFile(t *task.Thread, fd uint64, dataOnly bool) (uintptr, error) {
	f, err := fileOf(t, fd)
	if err != nil {
		return 0, err
	}
	err = f.Ops.Sync(t, dataOnly)
	f.DecRef()
	return 0, err
}

// sysSync flushes every mounted file system. See sync(2).
func sysSync(t *task.Thread, _ *Args) (uintptr, error) {
	t.Kernel().NS.SyncAll(t.Lookup(vfs.Path{}))
	return 0, nil
}

// sysSyncfs: EBADF. See syncfs(2).
func sysSyncfs(t *task.Thread, a *Args) (uintptr, error) {
	f, err := fileOf(t, a[0])
	if err != nil {
		return 0, err
	}
	if f.Path.Valid() {
		err = f.Path.Mount.Super.FS.Sync(t)
	}
	f.DecRef()
	return 0, err
}

// sysSyncFileRange: EINVAL for flags or offsets, EBADF, ESPIPE. Pages are written by
// fsync here, so a hint has nothing to do. See sync_file_range(2).
func sysSyncFileRange(t *task.Thread, a *Args) (uintptr, error) {
	f, err := fileOf(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	off, n := int64(a[1]), int64(a[2])
	if a[3]&^7 != 0 || off < 0 || n < 0 || off+n < 0 {
		return 0, unix.EINVAL
	}
	at, err := f.Ops.Attr(t)
	if err != nil {
		return 0, err
	}
	switch at.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFBLK, unix.S_IFDIR, unix.S_IFLNK:
		return 0, nil
	}
	return 0, unix.ESPIPE
}

// allocateMode says whether the modes of fallocate that are asked for go together.
func allocateMode(mode uint32) error {
	const (
		keep, punch, collapse = unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_COLLAPSE_RANGE
		zero, insert, unshare = unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_INSERT_RANGE, unix.FALLOC_FL_UNSHARE_RANGE
	)
	switch {
	case mode&^(keep|punch|collapse|zero|insert|unshare) != 0, mode&(punch|zero) == punch|zero, mode&punch != 0 && mode&keep == 0:
		return unix.EOPNOTSUPP
	case mode&collapse != 0 && mode != collapse, mode&insert != 0 && mode != insert, mode&unshare != 0 && mode&^(unshare|keep) != 0:
		return unix.EINVAL
	}
	return nil
}

// sysFallocate: EBADF, EINVAL, EFBIG, ENODEV, ESPIPE, EOPNOTSUPP, ENOSPC. See
// fallocate(2).
func sysFallocate(t *task.Thread, a *Args) (uintptr, error) {
	f, err := fileOf(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return 0, allocate(t, f, uint32(a[1]), int64(a[2]), int64(a[3]))
}

// allocate is fallocate of an open file.
func allocate(t *task.Thread, f *vfs.File, mode uint32, off, n int64) error {
	if off < 0 || n <= 0 {
		return unix.EINVAL
	}
	if err := allocateMode(mode); err != nil {
		return err
	}
	if !f.Writable() {
		return unix.EBADF
	}
	at, err := f.Ops.Attr(t)
	if err != nil {
		return err
	}
	switch at.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFIFO:
		return unix.ESPIPE
	case unix.S_IFDIR:
		return unix.EISDIR
	default:
		return unix.ENODEV
	}
	if off+n < 0 {
		return unix.EFBIG
	}
	if _, no := f.Ops.(vfs.Unallocatable); no {
		return unix.EOPNOTSUPP
	}
	// The file system knows these modes, and looks at the limit where the file would grow.
	if mode&^unix.FALLOC_FL_KEEP_SIZE == 0 && off+n > at.Size && uint64(off+n) > t.Process().Limit(unix.RLIMIT_FSIZE) {
		signalSelf(t, unix.SIGXFSZ)
		return unix.EFBIG
	}
	return f.Allocate(t, mode, off, n)
}

// sysFadvise64: EBADF, ESPIPE for pipes, EINVAL for a length or advice. The cache decides
// by itself. See posix_fadvise(2).
func sysFadvise64(t *task.Thread, a *Args) (uintptr, error) {
	f, err := fileOf(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if at, err := f.Ops.Attr(t); err == nil && at.Mode&unix.S_IFMT == unix.S_IFIFO {
		return 0, unix.ESPIPE
	}
	if int64(a[2]) < 0 || a[3] > 5 {
		return 0, unix.EINVAL
	}
	return 0, nil
}

// sysReadahead: EBADF, EINVAL for what is neither a regular file nor a block device, and for
// a negative length. The cache decides by itself. See readahead(2).
func sysReadahead(t *task.Thread, a *Args) (uintptr, error) {
	f, err := openFor(t, a[0], readOp)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	at, err := f.Ops.Attr(t)
	if k := at.Mode & unix.S_IFMT; err != nil || k != unix.S_IFREG && k != unix.S_IFBLK || int64(a[2]) < 0 {
		return 0, unix.EINVAL
	}
	return 0, nil
}

// sysTruncate: EINVAL, EFBIG, and what a path gives. See truncate(2).
func sysTruncate(t *task.Thread, a *Args) (uintptr, error) {
	size := int64(a[1])
	if size < 0 {
		return 0, unix.EINVAL
	}
	return withPath(t, atCWD, a[0], false, func(l vfs.Lookup, path string) error {
		return t.Kernel().NS.Truncate(l, path, size, func() error { return truncateLimit(t, size) })
	})
}

func truncateLimit(t *task.Thread, size int64) error {
	if uint64(size) > t.Process().Limit(unix.RLIMIT_FSIZE) {
		signalSelf(t, unix.SIGXFSZ)
		return unix.EFBIG
	}
	return nil
}

// sysFtruncate: EINVAL for a negative size, a file not open for writing or not regular;
// EBADF, EPERM (seals). See ftruncate(2).
func sysFtruncate(t *task.Thread, a *Args) (uintptr, error) {
	size := int64(a[1])
	if size < 0 {
		return 0, unix.EINVAL
	}
	f, err := fileOf(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	at, err := f.Ops.Attr(t)
	if err != nil || at.Mode&unix.S_IFMT != unix.S_IFREG || !f.Writable() ||
		size > math.MaxInt32 && mqueue.Of(f) != nil { // opened without O_LARGEFILE
		return 0, unix.EINVAL
	}
	if err := truncateLimit(t, size); err != nil {
		return 0, err
	}
	return 0, vfs.TruncateFile(t.Lookup(vfs.Path{}), f, size)
}
