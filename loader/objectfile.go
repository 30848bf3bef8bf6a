package loader

import (
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// ObjectFile is a File over a page cache: all that an open regular file needs to be
// loaded. Pin and Unpin may be nil.
type ObjectFile struct {
	Cache    *mm.Object
	Name     string
	Dev, Ino uint64
	Pin      func()
	Unpin    func()
}

// ReadAt implements File.
func (f *ObjectFile) ReadAt(c wait.Context, b []byte, off int64) (int, error) {
	q := mm.KernelIO(b)
	return f.Cache.ReadAt(c, &q, off)
}

// Object implements File.
func (f *ObjectFile) Object() *mm.Object { return f.Cache }

// Path implements File.
func (f *ObjectFile) Path() string { return f.Name }

// Mapped implements File.
func (f *ObjectFile) Mapped() mm.Counted { return f }

// ID implements File.
func (f *ObjectFile) ID() (dev, ino uint64) { return f.Dev, f.Ino }

// IncRef implements File.
func (f *ObjectFile) IncRef() {
	if f.Pin != nil {
		f.Pin()
	}
}

// DecRef implements File.
func (f *ObjectFile) DecRef() {
	if f.Unpin != nil {
		f.Unpin()
	}
}
