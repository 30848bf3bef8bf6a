package vfs

import (
	"sync"

	"golang.org/x/sys/unix"

	"kiln/kernel/wait"
)

// DeviceOpener opens a device node.
type DeviceOpener func(l Lookup, i Inode, flags uint32) (FileOps, error)

var devices struct {
	mu sync.RWMutex
	m  map[[2]uint64]DeviceOpener
}

// RegisterDevice makes char (S_IFCHR) or block (S_IFBLK) device rdev openable.
func RegisterDevice(kind uint32, rdev uint64, open DeviceOpener) {
	devices.mu.Lock()
	if devices.m == nil {
		devices.m = map[[2]uint64]DeviceOpener{}
	}
	devices.m[[2]uint64{uint64(kind), rdev}] = open
	devices.mu.Unlock()
}

// OpenDevice opens the device behind a node; ENXIO if there is none.
func OpenDevice(l Lookup, i Inode, kind uint32, rdev uint64, flags uint32) (FileOps, error) {
	devices.mu.RLock()
	open := devices.m[[2]uint64{uint64(kind & unix.S_IFMT), rdev}]
	devices.mu.RUnlock()
	if open == nil {
		return nil, unix.ENXIO
	}
	return open(l, i, flags)
}

// FIFO opens named pipes: fs/pipe sets it. key is the inode, so that all who open it
// meet in one pipe; it waits for the other end as fifo(7) says.
var FIFO func(c wait.Context, key Inode, flags uint32) (FileOps, error)
