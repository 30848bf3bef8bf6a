package vfs

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/kernel/wait"
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

// writesOf is the count of a node, or of the object of a description; nil where there is none.
func writesOf(node any) *WriteAccess {
	if w, ok := node.(Writable); ok {
		return w.Writes()
	}
	return nil
}

// writes is the count of the regular file that f is of: that of its inode, or of its object
// where it has no place (memfds, queues of mq_open).
func (f *File) writes() *WriteAccess {
	switch {
	case f.inode == nil:
		return writesOf(f.Ops)
	case f.Path.Entry.kind != unix.S_IFREG:
		return nil
	}
	return writesOf(f.inode)
}

// CountAccess does for a description without a place what opening a file with one does: it
// counts among who has the object open, if that is Writable, and breaks leases in its way.
// EAGAIN, EINTR: the caller drops f.
func (f *File) CountAccess(c wait.Context) error {
	w := writesOf(f.Ops)
	switch {
	case w == nil:
		return nil
	case f.Writable():
		w.n.Add(1)
		f.access = holdsWrite
	case f.Readable():
		w.readers.Add(1)
		f.access = holdsRead
	default:
		return nil
	}
	return breakLeases(c, w, f.access == holdsWrite, f.Nonblocking())
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
		if f.inode == nil {
			f.writes().n.Add(-1)
			break
		}
		putWrite(f.inode)
		f.Path.Mount.writers.Add(-1)
	case holdsText:
		allowWrite(f.inode)
	case holdsRead:
		f.writes().readers.Add(-1)
	}
}
