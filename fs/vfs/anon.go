package vfs

import (
	"sync"

	"golang.org/x/sys/unix"
)

// anonDev is the device of the one inode behind eventfds, epoll sets and the like.
var anonDev = sync.OnceValue(AllocDev)

// AnonAttr is fstat's answer for descriptors that have no inode of their own: Linux
// gives all of them one without a type (fs/anon_inodes.c).
func AnonAttr() Attr {
	return Attr{Dev: anonDev(), Ino: 1, Mode: 0o600, Nlink: 1, BlockSize: 4096}
}

// AnonSetAttr is fchmod and the like of one. What Linux would change is changed for all of
// them alike, and for root alone: here it is not kept.
func AnonSetAttr(a SetAttr) error {
	if a.SetSize {
		return unix.EINVAL
	}
	cur := AnonAttr()
	return CheckSetAttr(&cur, &a)
}

// Owned is what chmod and chown change of a node that is in no file system: a pipe's, a
// socket's.
type Owned struct {
	mu             sync.Mutex
	mode, uid, gid uint32
}

// Own says who has made it, and its mode without the type.
func (o *Owned) Own(c *Creds, mode uint32) {
	o.mu.Lock()
	o.mode = mode
	if c != nil {
		o.uid, o.gid = c.FSUID, c.FSGID
	}
	o.mu.Unlock()
}

// Fill puts owner and mode into a's.
func (o *Owned) Fill(a *Attr) {
	o.mu.Lock()
	a.Mode = a.Mode&unix.S_IFMT | o.mode
	a.UID, a.GID = o.uid, o.gid
	o.mu.Unlock()
}

// Change is SetAttr of a node whose attributes are cur: EPERM, EINVAL for a size.
func (o *Owned) Change(cur Attr, a SetAttr) error {
	if a.SetSize {
		return unix.EINVAL
	}
	if err := CheckSetAttr(&cur, &a); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if a.SetMode {
		o.mode = a.Mode & 0o7777
	}
	if a.SetUID {
		o.uid = a.UID
	}
	if a.SetGID {
		o.gid = a.GID
	}
	return nil
}

// Mask is the umask, unchanged.
func (x *FSContext) Mask() uint32 { return x.umask.Load() }
