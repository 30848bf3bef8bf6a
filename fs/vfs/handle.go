package vfs

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/wait"
)

// Exporter is a FileSystem whose nodes have handles that outlast their names
// (name_to_handle_at).
type Exporter interface {
	// Handle is the bytes that lead to i again.
	Handle(i Inode) []byte
	// Find gives the names that lead from the root to the node of a handle; false if it
	// has none any more.
	Find(handle []byte) (names []string, ok bool)
}

// HandleType is that of all handles (FILEID_INO32_GEN).
const HandleType = 1

// Handle is the handle of what stands at p: EOPNOTSUPP where the file system has none.
func (p Path) Handle() ([]byte, error) {
	h := p.Mount.Super.Handle(p.Entry.inode)
	if h == nil {
		return nil, unix.EOPNOTSUPP
	}
	return h, nil
}

// Handle is that of a node of s, nil where there is none.
func (s *Super) Handle(i Inode) []byte {
	if x, ok := s.FS.(Exporter); ok && i != nil {
		return x.Handle(i)
	}
	return nil
}

// OpenHandle opens what a handle of at's file system leads to: ESTALE, and what open(2)
// says.
func (ns *Namespace) OpenHandle(l Lookup, at Path, handle []byte, flags uint32) (*File, error) {
	x, ok := at.Mount.Super.FS.(Exporter)
	if !ok {
		return nil, unix.ESTALE
	}
	names, ok := x.Find(handle)
	if !ok {
		return nil, unix.ESTALE
	}
	d, err := at.Mount.Super.root.descend(l.C, names)
	if err != nil {
		return nil, err
	}
	f, err := ns.openAt(&l, Path{at.Mount, d}, flags)
	if err == errDead {
		err = unix.ESTALE
	}
	return f, err
}

// descend follows names below d, without regard to mounts: ESTALE where one has gone
// meanwhile.
func (d *Dentry) descend(c wait.Context, names []string) (*Dentry, error) {
	for _, n := range names {
		k, err := d.child(c, n)
		if err != nil {
			return nil, err
		}
		if d = k; d.inode == nil {
			return nil, unix.ESTALE
		}
	}
	return d, nil
}

// MountedOn is a mounted file system with device number dev, nil if there is none.
func (ns *Namespace) MountedOn(dev uint64) FileSystem {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	for _, m := range ns.list {
		if m.Super.Dev == dev {
			return m.Super.FS
		}
	}
	return nil
}
