package vfs

import (
	"sync"
)

// anonDev is the device of the one inode behind eventfds, epoll sets and the like.
var anonDev = sync.OnceValue(AllocDev)

// AnonAttr is fstat's answer for descriptors that have no inode of their own: Linux
// gives all of them one without a type (fs/anon_inodes.c).
func AnonAttr() Attr {
	return Attr{Dev: anonDev(), Ino: 1, Mode: 0o600, Nlink: 1, BlockSize: 4096}
}

// Mask is the umask, unchanged.
func (x *FSContext) Mask() uint32 { return x.umask.Load() }
