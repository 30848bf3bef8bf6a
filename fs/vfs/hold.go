package vfs

import (
	"errors"

	"golang.org/x/sys/unix"
)

// A look-up pins nothing: between it and the use of what it found, somebody may unlink the
// file or rename another over it, and with its last name and its last user a regular file's
// bytes go. So who uses them holds the node first, and where that comes too late the walk
// runs again, which finds what the name leads to by now.
//
// That ends because an entry goes before its node: who takes a name away holds the node
// until no look-up finds it there any more (Unlink, rename). What is found dead lies
// behind a change that is complete.

// errDead says that a node died between the look-up and its use.
var errDead = errors.New("vfs: a node died before it was used")

// dead says whether d leads to a regular file that has died. The answer is final, and no
// stays true for as long as the node is held.
func (d *Dentry) dead() bool {
	if d.kind != unix.S_IFREG || !d.loc.Load().gone {
		return false
	}
	f, ok := d.inode.(Forgettable)
	return ok && f.Forgotten()
}

// grab keeps what stands at p alive until drop; false if it is dead already.
func (p Path) grab() bool {
	p.Entry.inode.IncRef()
	if !p.Entry.dead() {
		return true
	}
	p.Entry.inode.DecRef()
	return false
}

// drop is grab's opposite. It may be the node's end; by had used it.
func (p Path) drop(by any) {
	p.Entry.inode.DecRef()
	forgotten(by, p.Entry.super, p.Entry.inode)
}

// again is nil if a walk that found the dead d is to run once more. *last is what the walk
// before found: a dead entry that is found twice is all that there is (ENOENT).
func again(last **Dentry, d *Dentry) error {
	if d == *last {
		return unix.ENOENT
	}
	*last = d
	return nil
}

// Held is Walk for who changes what it finds: the node lives until done is called.
func (ns *Namespace) Held(l Lookup, path string, flags int) (p Path, done func(), err error) {
	for last := (*Dentry)(nil); ; {
		p, err := ns.Walk(l, path, flags)
		if err != nil {
			return Path{}, nil, err
		}
		if p.grab() {
			return p, func() { p.drop(l.C) }, nil
		}
		if err := again(&last, p.Entry); err != nil {
			return Path{}, nil, err
		}
	}
}
