package vfs

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// WriteAccess keeps writers away from the text of running programs and programs away
// from files that are being written (Linux' i_writecount). Embed one in a regular file's
// inode.
type WriteAccess struct {
	n       atomic.Int32 // > 0: writers, < 0: users as a text
	readers atomic.Int32 // who has it open for reading only
}

// Writes gives the count of an inode that embeds one.
func (w *WriteAccess) Writes() *WriteAccess { return w }

// Writable is an Inode that can be written and executed.
type Writable interface{ Writes() *WriteAccess }

// Written says whether somebody has it open for writing.
func (w *WriteAccess) Written() bool { return w.n.Load() > 0 }

// add moves the count by d unless it stands on the other side of zero.
func (w *WriteAccess) add(d int32) bool {
	for {
		n := w.n.Load()
		if n*d < 0 {
			return false
		}
		if w.n.CompareAndSwap(n, n+d) {
			return true
		}
	}
}

// getWrite makes the caller a writer of i: ETXTBSY while it is a running program's text.
// putWrite is its opposite.
func getWrite(i Inode) error {
	if w, ok := i.(Writable); ok && !w.Writes().add(1) {
		return unix.ETXTBSY
	}
	return nil
}

func putWrite(i Inode) {
	if w, ok := i.(Writable); ok {
		w.Writes().n.Add(-1)
	}
}

// denyWrite makes i a text: ETXTBSY while somebody has it open for writing. allowWrite
// is its opposite.
func denyWrite(i Inode) error {
	if w, ok := i.(Writable); ok && !w.Writes().add(-1) {
		return unix.ETXTBSY
	}
	return nil
}

func allowWrite(i Inode) {
	if w, ok := i.(Writable); ok {
		w.Writes().n.Add(1)
	}
}

// startWriting is getWrite for a file of a mount, which counts it. EROFS: a remount that
// makes the mount read-only either sees the count or is seen here.
func (ns *Namespace) startWriting(m *Mount, i Inode) error {
	if err := getWrite(i); err != nil {
		return err
	}
	m.writers.Add(1)
	if !m.ReadOnly() {
		return nil
	}
	// It may be a remount under way that finds somebody else writing.
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	if !m.ReadOnly() {
		return nil
	}
	m.writers.Add(-1)
	putWrite(i)
	return unix.EROFS
}

// What a description holds of its inode's WriteAccess until its end.
const (
	holdsNothing = iota
	holdsWrite
	holdsText
	holdsRead
)

// dropAccess gives it back.
func (f *File) dropAccess() {
	switch f.access {
	case holdsWrite:
		putWrite(f.inode)
		f.Path.Mount.writers.Add(-1)
	case holdsText:
		allowWrite(f.inode)
	case holdsRead:
		f.inode.(Writable).Writes().readers.Add(-1)
	}
}
