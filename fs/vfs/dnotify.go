package vfs

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// dnotify is F_NOTIFY's: a description of a directory whose owner hears by signal of what
// happens to it and its entries. See fcntl(2).
type dnotify struct {
	f    *File
	fd   int32
	mark *Mark
}

// Events of F_NOTIFY (include/uapi/linux/fcntl.h).
const (
	dnAccess = 1 << iota
	dnModify
	dnCreate
	dnDelete
	dnRename
	dnAttrib
	dnMultishot = 1 << 31
)

// dnEvents are the events of inotify that DN_* stand for.
var dnEvents = []struct{ dn, in uint32 }{
	{dnAccess, unix.IN_ACCESS}, {dnModify, unix.IN_MODIFY}, {dnCreate, unix.IN_CREATE | unix.IN_MOVED_TO},
	{dnDelete, unix.IN_DELETE | unix.IN_MOVED_FROM}, {dnRename, unix.IN_MOVED_FROM | unix.IN_MOVED_TO},
	{dnAttrib, unix.IN_ATTRIB},
}

// DirNotifyEnable is fs.dir-notify-enable: with 0 F_NOTIFY is EINVAL.
var DirNotifyEnable atomic.Int64

func init() { DirNotifyEnable.Store(1) }

// Notify is F_NOTIFY by way of descriptor fd: EINVAL, ENOTDIR. Events add up; without any it ends.
func (f *File) Notify(fd int32, events uint32, owner *Owner) error {
	if DirNotifyEnable.Load() == 0 {
		return unix.EINVAL
	}
	if events&^dnMultishot == 0 {
		f.dropNotify()
		return nil
	}
	if f.inode == nil || !f.Path.Entry.isDir() {
		return unix.ENOTDIR
	}
	mask := events & dnMultishot
	for _, e := range dnEvents {
		if events&e.dn != 0 {
			mask |= e.in
		}
	}
	f.DefaultOwner(owner)
	f.watchMu.Lock()
	defer f.watchMu.Unlock()
	d := f.notify.Load()
	if d == nil {
		d = &dnotify{f: f, fd: fd}
		d.mark = &Mark{Inode: f.inode, Listener: d}
		d.mark.Mask.Store(mask)
		f.notify.Store(d)
		AddMark(d.mark)
		return nil
	}
	d.mark.Mask.Or(mask)
	return nil
}

// Marked implements Listener.
func (d *dnotify) Marked(m *Mark, e *Event) {
	const events = unix.IN_ACCESS | unix.IN_MODIFY | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_ATTRIB
	want := m.Mask.Load()
	if e.Mask&want&events == 0 {
		return
	}
	d.f.TellOwner(d.fd, PollMsg)
	if want&dnMultishot == 0 && DropMark(m) {
		d.f.notify.CompareAndSwap(d, nil)
	}
}

// dropNotify ends it: a descriptor of the file is closed.
func (f *File) dropNotify() {
	f.watchMu.Lock()
	d := f.notify.Swap(nil)
	f.watchMu.Unlock()
	if d != nil {
		DropMark(d.mark)
	}
}
