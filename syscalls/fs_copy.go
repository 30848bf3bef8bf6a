package syscalls

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"

	"kiln/fs/mqueue"
	"kiln/fs/pipe"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/task"
)

// copyBuf is what sendfile and its kin copy through.
type copyBuf struct {
	b   [64 << 10]byte
	seq mm.IOSeq
}

var copyBufs = sync.Pool{New: func() any { return new(copyBuf) }}

// copier moves bytes between two files in the kernel. Positions below zero are the files'
// own.
type copier struct {
	t             *task.Thread
	in, out       *vfs.File
	inPos, outPos int64
	wait          bool       // for in, where it has no position
	quiet         bool       // EPIPE does not signal
	held          *pipe.Pipe // out, where its room is held
	full          bool       // it ended because out has no room
}

// run moves up to n bytes.
func (x *copier) run(n uint64) (done int, err error) {
	left := int(min(n, maxRW))
	if l, ok := x.in.Ops.(*vfs.RegularOps); ok && x.inPos >= 0 {
		var more bool
		if done, more, err = x.lend(l, left); !more {
			return done, err
		}
		left -= done
	}
	buf := copyBufs.Get().(*copyBuf)
	defer copyBufs.Put(buf)
	if p, ok := pipe.Of(x.in); ok {
		return x.drain(p, buf, left)
	}
	for left > 0 {
		got, err := x.read(buf, min(left, len(buf.b)))
		if got == 0 || err != nil {
			return some(done, err)
		}
		buf.seq = mm.KernelIO(buf.b[:got])
		put, err := x.write(&buf.seq, got)
		done, left = done+put, left-put
		if x.inPos >= 0 {
			x.inPos += int64(put)
		}
		if put < got || err != nil {
			return some(done, err)
		}
		if x.inPos < 0 {
			return done, nil // a stream gives what it has
		}
	}
	return done, nil
}

// errNoRoom is what drainOnce returns where out takes nothing.
var errNoRoom = errors.New("no room")

// drain is run from a pipe: until it is empty. What out does not take stays in the pipe.
func (x *copier) drain(p *pipe.Pipe, buf *copyBuf, left int) (done int, err error) {
	for left > 0 {
		n, err := x.drainOnce(p, buf, left)
		if err == unix.EAGAIN && x.wait && done == 0 {
			n, err = x.t.BlockOn(x.in, readEvents, false, hal.NoDeadline, unix.EAGAIN, func() (int, error) { return x.drainOnce(p, buf, left) })
		}
		if err == errNoRoom && x.held != nil {
			return some(done, unix.ENOMEM) // the room is ours: it is memory that there is not
		}
		x.full = err == errNoRoom
		switch {
		case x.full && x.out.Nonblocking():
			return some(done, unix.EAGAIN)
		case x.full && done > 0 && x.t.Attempting():
			return done, nil
		case x.full:
			n, err = x.t.BlockOn(x.out, writeEvents, false, hal.NoDeadline, unix.EAGAIN, func() (int, error) {
				n, err := x.drainOnce(p, buf, left)
				switch err {
				case errNoRoom:
					err = unix.EAGAIN
				case unix.EAGAIN:
					err = nil // somebody else has emptied the pipe
				}
				return n, err
			})
		}
		if err == unix.EPIPE && !x.quiet {
			brokenPipe(x.t, x.out)
		}
		if err != nil || n == 0 && !x.full {
			return some(done, err)
		}
		done, left, x.full = done+n, left-n, false
	}
	return done, nil
}

// drainOnce moves a piece without waiting: EAGAIN from an empty pipe, errNoRoom.
func (x *copier) drainOnce(p *pipe.Pipe, buf *copyBuf, left int) (int, error) {
	got, err := p.Lend(buf.b[:min(left, len(buf.b))])
	if got == 0 || err != nil {
		return 0, err
	}
	buf.seq = mm.KernelIO(buf.b[:got])
	n, err := x.put(&buf.seq)
	n = max(n, 0)
	p.Return(n)
	switch {
	case n > 0:
		err = nil
	case err == unix.EAGAIN:
		err = errNoRoom
	}
	return n, err
}

// lendMost is the longest piece that one write takes from a file's pages.
const lendMost = 64 << 10

// lend is run for a file whose bytes the other side can take from where they lie; more
// says that it stopped where they must be copied.
func (x *copier) lend(in *vfs.RegularOps, left int) (done int, more bool, err error) {
	call := newCall(x.t)
	defer call.free()
	for left > 0 {
		piece, ok, err := in.Lend(x.t, x.in, x.inPos, min(left, lendMost))
		if err != nil {
			done, err = some(done, err)
			return done, false, err
		}
		if !ok {
			return done, true, nil
		}
		n := len(piece.Bytes)
		call.seq = mm.KernelIO(piece.Bytes)
		put, err := x.write(&call.seq, n)
		call.seq = mm.IOSeq{}
		piece.Return()
		done, left = done+put, left-put
		x.inPos += int64(put)
		if put < n || err != nil {
			done, err = some(done, err)
			return done, false, err
		}
	}
	return done, false, nil
}

func some(done int, err error) (int, error) {
	if done > 0 {
		return done, nil
	}
	return 0, err
}

func (x *copier) read(buf *copyBuf, n int) (int, error) {
	buf.seq = mm.KernelIO(buf.b[:n])
	if x.inPos >= 0 {
		return x.in.ReadAt(x.t, &buf.seq, x.inPos)
	}
	m, err := x.in.Read(x.t, &buf.seq)
	if err == unix.EAGAIN && x.wait {
		m, err = x.t.BlockOn(x.in, readEvents, false, hal.NoDeadline, unix.EAGAIN, func() (int, error) { return x.in.Read(x.t, &buf.seq) })
	}
	return m, err
}

// put writes what out takes of seq at once.
func (x *copier) put(seq *mm.IOSeq) (int, error) {
	if x.outPos >= 0 {
		if err := fileSizeLimit(x.t, x.out, seq, x.outPos); err != nil {
			return 0, err
		}
		m, err := x.out.WriteAt(x.t, seq, x.outPos)
		x.outPos += int64(max(m, 0))
		return m, err
	}
	if err := fileSizeLimit(x.t, x.out, seq, -1); err != nil {
		return 0, err
	}
	if x.held != nil {
		return x.held.Fill(x.out, seq)
	}
	return x.out.Write(x.t, seq)
}

// write writes seq, n bytes.
func (x *copier) write(seq *mm.IOSeq, n int) (int, error) {
	m, err := x.put(seq)
	m = max(m, 0)
	for (err == unix.EAGAIN || err == nil && m < n && !x.t.Attempting()) && x.held == nil && x.outPos < 0 && !x.out.Nonblocking() && !x.out.Seekable() {
		var k int
		k, err = x.t.BlockOn(x.out, writeEvents, false, hal.NoDeadline, unix.EAGAIN, func() (int, error) { return x.out.Write(x.t, seq) })
		if m += max(k, 0); err != nil || k == 0 || x.t.Attempting() {
			break
		}
	}
	if err == unix.EPIPE && !x.quiet {
		brokenPipe(x.t, x.out)
	}
	return some(m, err)
}

// offsetArg reads an off_t through a pointer; -1 for a null one.
func offsetArg(t *task.Thread, addr uint64) (int64, error) {
	if addr == 0 {
		return -1, nil
	}
	v, err := getU64(t, hal.UserAddr(addr))
	if err != nil {
		return 0, err
	}
	off := int64(v)
	if off < 0 {
		return 0, unix.EINVAL
	}
	return off, nil
}

// putOffset stores where a transfer ended: in the program's variable or in the file.
func putOffset(t *task.Thread, f *vfs.File, addr uint64, off int64) error {
	if addr == 0 {
		_, err := f.Seek(t, off, unix.SEEK_SET)
		return err
	}
	return putU64(t, hal.UserAddr(addr), uint64(off))
}

// sysSendfile: EFAULT, EBADF (input), ESPIPE, EINVAL (offset), EBADF (output), EINVAL (input
// not seekable, output in append mode), EAGAIN, EPIPE. See sendfile(2).
func sysSendfile(t *task.Thread, a *Args) (uintptr, error) {
	pos, err := offsetArg(t, a[2])
	if err != nil && err != unix.EINVAL {
		return 0, err
	}
	in, bad := openFor(t, a[1], readOp)
	if bad != nil {
		return 0, bad
	}
	defer in.DecRef()
	if a[2] != 0 && !in.Seekable() {
		return 0, unix.ESPIPE
	}
	if err != nil { // a negative offset
		return 0, err
	}
	if int64(a[3]) < 0 {
		return 0, unix.EINVAL
	}
	out, err := openFor(t, a[0], writeOp)
	if err != nil {
		return 0, err
	}
	defer out.DecRef()
	_, toPipe := pipe.Of(out)
	if !toPipe && out.Flags()&unix.O_APPEND != 0 {
		return 0, unix.EINVAL
	}
	if !in.Seekable() {
		return sendStream(t, in, out, a[3], toPipe)
	}
	if pos < 0 {
		pos = in.Pos(t)
	}
	if !toPipe && a[3] == 0 {
		return 0, nil
	}
	if !givesBytes(in) {
		return 0, givesNothing(t, out)
	}
	if !takesBytes(out) { // who is only asked when there is something
		if at, err := in.Ops.Attr(t); err == nil && at.Mode&unix.S_IFMT == unix.S_IFREG && pos >= at.Size {
			return 0, putOffset(t, in, a[2], pos)
		}
		return 0, unix.EINVAL
	}
	x := copier{t: t, in: in, out: out, inPos: pos, outPos: -1}
	n, err := x.run(a[3])
	if err != nil {
		return 0, err
	}
	return uintptr(n), putOffset(t, in, a[2], x.inPos)
}

// sendStream is sendfile from what has no position: from a socket into a pipe it is a
// splice, else EINVAL, but for no bytes of what lets itself be sought (anonymous inodes).
func sendStream(t *task.Thread, in, out *vfs.File, n uint64, toPipe bool) (uintptr, error) {
	if _, ok := in.Ops.(vfs.NoSeek); ok && !toPipe && n == 0 {
		return 0, nil
	}
	if !toPipe || !isSocket(in) {
		return 0, givesNothing(t, out)
	}
	x := copier{t: t, in: in, out: out, inPos: -1, outPos: -1, wait: !in.Nonblocking() && !out.Nonblocking()}
	done, err := x.splice(n)
	return uintptr(done), err
}

// givesNothing is sendfile from what has no bytes to give: EINVAL. It is asked once a pipe has
// room (splice_file_to_pipe): EPIPE, EAGAIN, EINTR come first.
func givesNothing(t *task.Thread, out *vfs.File) error {
	if q, ok := pipe.Of(out); ok {
		_, err := t.BlockOn(out, writeEvents, out.Nonblocking(), hal.NoDeadline, unix.EAGAIN, q.Room)
		if err == unix.EPIPE {
			signalSelf(t, unix.SIGPIPE)
		}
		if err != nil {
			return err
		}
	}
	return unix.EINVAL
}

// sysCopyFileRange, in Linux' order: EBADF, EFAULT, EINVAL (flags), EISDIR, EINVAL for what
// is not a regular file, EBADF (access modes, O_APPEND), EXDEV between file systems,
// EOVERFLOW, EINVAL for overlapping ranges. See copy_file_range(2).
func sysCopyFileRange(t *task.Thread, a *Args) (uintptr, error) {
	in, err := fileOf(t, a[0])
	if err != nil {
		return 0, err
	}
	defer in.DecRef()
	out, err := fileOf(t, a[2])
	if err != nil {
		return 0, err
	}
	defer out.DecRef()
	x := copier{t: t, in: in, out: out}
	if x.inPos, err = copyOffset(t, in, a[1]); err != nil {
		return 0, err
	}
	if x.outPos, err = copyOffset(t, out, a[3]); err != nil {
		return 0, err
	}
	if a[5] != 0 {
		return 0, unix.EINVAL
	}
	var at [2]vfs.Attr
	for i, f := range [2]*vfs.File{in, out} {
		if at[i], err = f.Ops.Attr(t); err != nil {
			return 0, err
		}
	}
	switch ft := [2]uint32{at[0].Mode & unix.S_IFMT, at[1].Mode & unix.S_IFMT}; {
	case ft[0] == unix.S_IFDIR, ft[1] == unix.S_IFDIR:
		return 0, unix.EISDIR
	case ft[0] != unix.S_IFREG, ft[1] != unix.S_IFREG:
		return 0, unix.EINVAL
	case !in.Readable(), !out.Writable(), out.Flags()&unix.O_APPEND != 0:
		return 0, unix.EBADF
	case superOf(in) != superOf(out):
		return 0, unix.EXDEV
	}
	for _, pos := range [2]int64{x.inPos, x.outPos} {
		if uint64(pos)+a[4] < uint64(pos) {
			return 0, unix.EOVERFLOW
		}
		if pos < 0 || pos+int64(min(a[4], maxRW)) < 0 {
			return 0, unix.EINVAL
		}
	}
	// What is beyond the end is not there to overlap.
	n := min(int64(min(a[4], maxRW)), max(at[0].Size-x.inPos, 0))
	if at[0].Dev == at[1].Dev && at[0].Ino == at[1].Ino && x.inPos < x.outPos+n && x.outPos < x.inPos+n {
		return 0, unix.EINVAL
	}
	moved, err := x.run(uint64(n))
	if err != nil {
		return 0, err
	}
	if moved == 0 {
		return 0, nil
	}
	if err := putOffset(t, in, a[1], x.inPos); err != nil {
		return 0, err
	}
	return uintptr(moved), putOffset(t, out, a[3], x.outPos)
}

// superOf is the file system of a regular file, nil for memfds', which have one of their own.
func superOf(f *vfs.File) *vfs.Super {
	if f.Path.Mount == nil {
		return nil
	}
	return f.Path.Mount.Super
}

// copyOffset is where a side of copy_file_range starts: through a pointer, or the file's
// position.
func copyOffset(t *task.Thread, f *vfs.File, addr uint64) (int64, error) {
	if addr == 0 {
		return f.Pos(t), nil
	}
	v, err := getU64(t, hal.UserAddr(addr))
	return int64(v), err
}

// Flags of splice.
const spliceFlags = 0xf

const spliceNonblock = 2

// sysSplice: EINVAL unless one side is a pipe, or for the same pipe twice; ESPIPE for an
// offset on a pipe; EBADF. The bytes are copied; what the other side of a pipe does not take
// stays in it. See splice(2).
func sysSplice(t *task.Thread, a *Args) (uintptr, error) {
	if a[4] == 0 {
		return 0, nil
	}
	if a[5]&^spliceFlags != 0 {
		return 0, unix.EINVAL
	}
	in, err := fileOf(t, a[0])
	if err != nil {
		return 0, err
	}
	defer in.DecRef()
	out, err := fileOf(t, a[2])
	if err != nil {
		return 0, err
	}
	defer out.DecRef()
	if offPipe(in, a[1] != 0) || offPipe(out, a[3] != 0) {
		return 0, unix.ESPIPE
	}
	nonblock := a[5]&spliceNonblock != 0
	x := copier{t: t, in: in, out: out, inPos: -1, outPos: -1, wait: !nonblock && !in.Nonblocking()}
	if x.inPos, err = offsetArg(t, a[1]); err == nil {
		x.outPos, err = offsetArg(t, a[3])
	}
	if err != unix.EFAULT && (!in.Readable() || !out.Writable()) {
		err = unix.EBADF
	}
	if err != nil {
		return 0, err
	}
	if err := mayBeSpliced(in, out, a[1] != 0, a[3] != 0); err != nil {
		return 0, err
	}
	n, err := x.splice(a[4])
	if err != nil {
		return 0, err
	}
	if x.inPos >= 0 {
		err = putOffset(t, in, a[1], x.inPos)
	}
	if x.outPos >= 0 && err == nil {
		err = putOffset(t, out, a[3], x.outPos)
	}
	return uintptr(n), err
}

// givesBytes says whether f can be the source of splice and sendfile: not directories, what
// hands out records, nor the devices that make bytes up.
func givesBytes(f *vfs.File) bool {
	if _, ok := f.Ops.(vfs.Nowait); ok {
		return false
	}
	return takesBytes(f) && mqueue.Of(f) == nil
}

// takesBytes is givesBytes for the other side.
func takesBytes(f *vfs.File) bool {
	if _, ok := f.Ops.(vfs.NoSeek); ok {
		return false
	}
	return f.Inode() == nil || !f.Path.IsDir()
}

// offPipe says that an offset is given for a pipe.
func offPipe(f *vfs.File, off bool) bool {
	_, is := pipe.Of(f)
	return is && off
}

// mayBeSpliced are splice's checks of its two sides and of whether they have offsets.
func mayBeSpliced(in, out *vfs.File, inOff, outOff bool) error {
	p, fromPipe := pipe.Of(in)
	q, toPipe := pipe.Of(out)
	switch {
	case offPipe(in, inOff), offPipe(out, outOff):
		return unix.ESPIPE
	case !fromPipe && !toPipe, p != nil && p == q:
		return unix.EINVAL
	case out.Flags()&unix.O_APPEND != 0 && !toPipe:
		return unix.EINVAL
	case inOff && !in.Seekable(), outOff && !out.Seekable():
		return unix.EINVAL
	case !givesBytes(in), !takesBytes(out):
		return unix.EINVAL
	}
	return nil
}

// splice is run for what mayBeSpliced.
func (x *copier) splice(n uint64) (int, error) {
	if _, fromPipe := pipe.Of(x.in); !fromPipe && x.inPos < 0 && x.in.Seekable() {
		x.inPos = x.in.Pos(x.t)
	}
	if q, toPipe := pipe.Of(x.out); toPipe {
		return x.fill(q, n)
	}
	return x.run(n)
}

// errNothing is what fill's tries return where in has nothing.
var errNothing = errors.New("nothing there")

// fill is run into a pipe. What has been read of a stream cannot be put back: first there must
// be room, which is held meanwhile, but not while anything is waited for.
func (x *copier) fill(q *pipe.Pipe, n uint64) (int, error) {
	wait := x.wait
	x.wait, x.held = false, q
	once := func(noRoom, nothing error) (int, error) {
		room, err := q.Hold()
		switch err {
		case nil:
		case unix.EAGAIN:
			return 0, noRoom
		default:
			if err == unix.EPIPE && !x.quiet {
				signalSelf(x.t, unix.SIGPIPE)
			}
			return 0, err
		}
		done, err := x.run(min(n, uint64(room)))
		q.Release()
		if err == unix.EAGAIN {
			err = nothing
		}
		return done, err
	}
	for {
		done, err := once(errNoRoom, errNothing)
		switch {
		case !wait && (err == errNoRoom || err == errNothing), err == errNoRoom && x.out.Nonblocking():
			return 0, unix.EAGAIN
		case err == errNoRoom:
			done, err = x.t.BlockOn(x.out, writeEvents, false, hal.NoDeadline, unix.EAGAIN, func() (int, error) { return once(unix.EAGAIN, errNothing) })
		case err == errNothing:
			done, err = x.t.BlockOn(x.in, readEvents, false, hal.NoDeadline, unix.EAGAIN, func() (int, error) { return once(errNoRoom, unix.EAGAIN) })
		}
		if err != errNoRoom && err != errNothing {
			return done, err
		}
	}
}

// sysTee copies from a pipe to another without taking what is there (in, out, length,
// flags): EINVAL (flags, what is not two pipes), EBADF, EAGAIN, EPIPE, EINTR. See tee(2).
func sysTee(t *task.Thread, a *Args) (uintptr, error) {
	if a[3]&^spliceFlags != 0 {
		return 0, unix.EINVAL
	}
	if a[2] == 0 {
		return 0, nil
	}
	in, err := fileOf(t, a[0])
	if err != nil {
		return 0, err
	}
	defer in.DecRef()
	out, err := fileOf(t, a[1])
	if err != nil {
		return 0, err
	}
	defer out.DecRef()
	p, ok := pipe.Of(in)
	q, ok2 := pipe.Of(out)
	switch {
	case !in.Readable() || !out.Writable():
		return 0, unix.EBADF
	case !ok || !ok2 || p == q:
		return 0, unix.EINVAL
	}
	nonblock := a[3]&spliceNonblock != 0 || in.Nonblocking() || out.Nonblocking()
	buf := copyBufs.Get().(*copyBuf)
	defer copyBufs.Put(buf)
	b := buf.b[:min(a[2], uint64(len(buf.b)))]
	if _, err = t.BlockOn(in, readEvents, nonblock, hal.NoDeadline, unix.EAGAIN, func() (int, error) { return p.Peek(b[:1]) }); err != nil {
		return 0, err
	}
	room, err := t.BlockOn(out, writeEvents, nonblock, hal.NoDeadline, unix.EAGAIN, q.Room)
	if err == nil {
		var n int
		if n, err = p.Peek(b[:min(room, len(b))]); err == nil && n > 0 {
			buf.seq = mm.KernelIO(b[:n])
			n, err = out.Write(t, &buf.seq)
		}
		room = n
	}
	if err == unix.EPIPE {
		signalSelf(t, unix.SIGPIPE)
	}
	if err != nil {
		return 0, err
	}
	return uintptr(room), nil
}

// sysVmsplice is a writev to a pipe of what fits, or a readv from one: pages are copied,
// never given. Whether it waits is SPLICE_F_NONBLOCK's alone to say, not O_NONBLOCK's. EINVAL
// (flags), EBADF, EFAULT and EINVAL (vectors), EBADF for what is not a pipe, unless there is
// nothing to move. See vmsplice(2).
func sysVmsplice(t *task.Thread, a *Args) (uintptr, error) {
	if a[3]&^spliceFlags != 0 {
		return 0, unix.EINVAL
	}
	f, err := fileOf(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if !f.Writable() && !f.Readable() {
		return 0, unix.EBADF
	}
	x := newCall(t)
	defer x.free()
	if err := x.many(t, a[1], a[2]); err != nil || x.seq.Len() == 0 {
		return 0, err
	}
	p, ok := pipe.Of(f)
	if !ok {
		return 0, unix.EBADF
	}
	nonblock, n := a[3]&spliceNonblock != 0, 0
	if !f.Writable() {
		n, err = t.BlockOn(f, readEvents, nonblock, hal.NoDeadline, unix.EAGAIN, func() (int, error) { return f.Read(t, &x.seq) })
	} else if _, err = t.BlockOn(f, writeEvents, nonblock, hal.NoDeadline, unix.EAGAIN, p.Room); err == nil { // a page of its own
		n, err = f.Write(t, &x.seq)
	}
	if err == unix.EPIPE {
		signalSelf(t, unix.SIGPIPE)
	}
	if n > 0 {
		err = nil
	}
	return uintptr(max(n, 0)), err
}
