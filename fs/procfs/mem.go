package procfs

import (
	"golang.org/x/sys/unix"

	"kiln/fs/pseudo"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// tracer is the number of who traces the thread, 0: nobody.
func (e *entry) tracer() int32 {
	if t := e.t; t != nil {
		return t.TracerTID()
	}
	if t := e.someone(); t != nil {
		return t.TracerTID()
	}
	return 0
}

// memFile is /proc/PID/mem: the program's memory by address, also what it may not write
// itself, for who may trace it.
type memFile struct {
	*pseudo.File
	e *entry
}

func (e *entry) memFile() vfs.Inode {
	n := e.f.NewFile(0o600, e.ino(inoMem), nil, nil)
	n.SetOwner(e.owner)
	return &memFile{n, e}
}

// Open implements vfs.Inode: EACCES. The memory stays that of the program that runs now.
func (m *memFile) Open(c wait.Context, _ uint32) (vfs.FileOps, error) {
	s, err := m.e.lookAtSpace(c)
	if err != nil {
		return nil, err
	}
	return &openMem{f: m, s: s}, nil
}

// openMem is one description. It does not keep the memory: once nobody else uses it, reads
// and writes do nothing.
type openMem struct {
	vfs.BaseOps
	f *memFile
	s *mm.Space
}

func (o *openMem) Attr(c wait.Context) (vfs.Attr, error)       { return o.f.Attr(c) }
func (o *openMem) SetAttr(c wait.Context, a vfs.SetAttr) error { return o.f.SetAttr(c, a) }
func (o *openMem) Seekable() bool                              { return true }

// Seek implements vfs.Seeker: any address is a position; there is no end.
func (o *openMem) Seek(_ wait.Context, _ *vfs.File, cur, off int64, whence int) (int64, error) {
	switch whence {
	case unix.SEEK_SET:
		return off, nil
	case unix.SEEK_CUR:
		return cur + off, nil
	}
	return 0, unix.EINVAL
}

// move copies up to a buffer's worth at a time with one; EIO where the first byte of the
// program cannot be had.
func (o *openMem) move(n int, off int64, one func(b []byte, at hal.UserAddr) (int, error)) (int, error) {
	if o.s == nil || !o.s.TryIncUsers() {
		return 0, nil
	}
	defer o.s.DecUsers()
	done := 0
	buf := make([]byte, min(n, 16*hal.PageSize))
	for done < n {
		m, err := one(buf[:min(len(buf), n-done)], hal.UserAddr(off)+hal.UserAddr(done))
		done += m
		if err != nil {
			if done > 0 {
				break
			}
			return 0, err
		}
	}
	return done, nil
}

// Read implements vfs.FileOps.
func (o *openMem) Read(c wait.Context, _ *vfs.File, dst *mm.IOSeq, off int64) (int, error) {
	return o.move(dst.Len(), off, func(b []byte, at hal.UserAddr) (int, error) {
		n, err := o.s.Peek(c, b, at)
		if n == 0 {
			return 0, unix.EIO
		}
		m, err2 := dst.CopyOut(b[:n])
		if err2 != nil {
			return m, err2
		}
		return m, err
	})
}

// Write implements vfs.FileOps.
func (o *openMem) Write(c wait.Context, _ *vfs.File, src *mm.IOSeq, off int64) (int, error) {
	return o.move(src.Len(), off, func(b []byte, at hal.UserAddr) (int, error) {
		n, err := src.CopyIn(b)
		if n == 0 {
			return 0, err
		}
		m, err2 := o.s.Poke(c, at, b[:n])
		if err2 != nil {
			if m == 0 {
				err2 = unix.EIO
			}
			return m, err2
		}
		return m, err
	})
}
