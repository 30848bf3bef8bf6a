package vfs

import (
	"sync"

	"kiln/kernel/wait"
)

type filePos struct {
	sync.Mutex
	off int64
}

// Path is a place in the tree: a mount and an entry in it. The zero Path is nowhere.
// (owner: fs helper; entries are reference counted)
type Path struct {
	Mount *Mount
	Entry *Dentry
}

// Valid says whether p is somewhere.
func (p Path) Valid() bool { return p.Entry != nil }

// IncRef and DecRef pin the entry; both do nothing on the zero Path.
func (p Path) IncRef() {}
func (p Path) DecRef() {}

// Mount is a mounted file system; Dentry an entry of the tree. (owner: fs helper)
type Mount struct{}
type Dentry struct{}

// Namespace is the tree of mounts. (owner: fs helper)
type Namespace struct{}

// FSContext is a process's root, working directory and umask (CLONE_FS shares it).
type FSContext struct {
	mu    sync.Mutex
	root  Path
	cwd   Path
	umask uint32
}

// (owner: fs helper) the calls below are the contract for task, loader and syscalls;
// add what the *at family needs beside them: Mkdir, Mknod, Symlink, Link, Unlink,
// Rename, Readlink, Stat, Access, Chmod, Utimens, Statfs, Getcwd, Chdir, Chroot, Mount, …

// NewFSContext starts at the namespace's root with umask 022.
func NewFSContext(ns *Namespace) *FSContext  { panic("vfs: not written yet") }
func (x *FSContext) Fork() *FSContext        { panic("vfs: not written yet") }
func (x *FSContext) IncRef()                 { panic("vfs: not written yet") }
func (x *FSContext) DecRef()                 { panic("vfs: not written yet") }
func (x *FSContext) Umask(new uint32) uint32 { panic("vfs: not written yet") }
func (x *FSContext) Cwd() Path               { panic("vfs: not written yet") }
func (x *FSContext) Root() Path              { panic("vfs: not written yet") }

// Lookup is who asks and from where: every path operation takes one. At is the
// directory of an *at call, the zero Path for AT_FDCWD.
type Lookup struct {
	C     wait.Context
	FS    *FSContext
	Creds *Creds
	At    Path
}

// Open is openat2: flags are O_*, mode the creation mode before umask. It returns a
// description with one reference.
func (ns *Namespace) Open(l Lookup, path string, flags uint32, mode uint32) (*File, error) {
	panic("vfs: not written yet")
}

// OpenExec opens for execve: a regular file, executable, not on a noexec mount (EACCES).
func (ns *Namespace) OpenExec(l Lookup, path string) (*File, error) {
	panic("vfs: not written yet")
}

// Name is the absolute path of p as seen from root, with " (deleted)" as Linux has it.
func (ns *Namespace) Name(p Path, root Path) string { panic("vfs: not written yet") }
