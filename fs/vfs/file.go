// Package vfs is files as programs see them: open file descriptions, descriptor
// tables, path walking over mounted file systems.
//
// Objects never block: Read and Write answer EAGAIN and the system call layer
// waits (kernel/wait). Only storage blocks, Uninterruptible, through the Context
// that every call carries.
//
// A program's descriptor is a slot of an FDTable; behind it stands a File (an open
// file description) with a FileOps: what the object does. Files that have a place in
// the tree were opened from an Inode (a file system's node, inode.go) which a Dentry
// (a name, dentry.go) led to; Namespace walks paths over the mounts:
//
//	l := vfs.Lookup{C: t, FS: t.FS(), Creds: t.Creds()}
//	f, err := ns.Open(l, "/etc/passwd", unix.O_RDONLY, 0)
//	n, err := f.Ops.Read(t, f, &seq, 0)
//	f.DecRef()
//
// Dentries are a cache and nothing else: the file system owns the tree. Whoever needs a
// dentry points at it (open files, working directories, mounts, children point at
// parents), a directory points at its entries weakly, and a ring of recently used ones
// keeps the rest alive (a directory's pointers to those are strong, which is faster). So
// the garbage collector is the reference count, the cache is bounded by the ring, and no
// count can be wrong. What must be freed at once, the pages
// of an unlinked file, hangs on Inode.IncRef and DecRef, which open files hold (hold.go).
//
// Locks, outermost first:
//
//	Super.modify (sleeps)      changes to one file system's tree
//	  file-system locks        (sleep where they read storage)
//	    Namespace.mu           mounts
//	      Dentry.mu            the entries of one directory
//	        dcache.mu          the ring
//
// File.pos (sleeps) is outside all of these. FDTable.mu and lockTable.mu are leaves, and so
// is what an Inode counts its users under.
package vfs

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// FileOps is what stands behind an open file description: a regular file, a
// directory, a device, a pipe, a socket, an epoll set. Embed BaseOps for the calls
// that a kind does not have.
type FileOps interface {
	waiter.Waitable

	// Read and Write move data between the object and program memory. off is the
	// position for seekable files, -1 for streams. They return EAGAIN rather than
	// block, whatever the description's O_NONBLOCK says; n > 0 goes with nil.
	Read(c wait.Context, f *File, dst *mm.IOSeq, off int64) (int, error)
	Write(c wait.Context, f *File, src *mm.IOSeq, off int64) (int, error)

	// Attr is stat; SetAttr is chmod, chown, truncate and utimens by mask.
	Attr(c wait.Context) (Attr, error)
	SetAttr(c wait.Context, a SetAttr) error

	// Ioctl serves device and socket requests; arg is the raw third argument and
	// sp the caller's memory. ENOTTY if unknown. FIONBIO, FIOCLEX, FIONCLEX and
	// FIOASYNC are served above.
	Ioctl(c wait.Context, f *File, sp *mm.Space, req uint32, arg uint64) (uintptr, error)

	// Seekable says whether pread and lseek work (ESPIPE otherwise).
	Seekable() bool
	// Object is the page cache for mmap, nil with ENODEV where there is none.
	Object(c wait.Context) (*mm.Object, error)
	// Iterate gives directory entries from the position *pos on (opaque cookie),
	// until emit returns false; ENOTDIR.
	Iterate(c wait.Context, pos *int64, emit func(e Dirent) bool) error
	// Sync is fsync (data only: fdatasync); EINVAL where it makes no sense.
	Sync(c wait.Context, dataOnly bool) error
	// Allocate is fallocate.
	Allocate(c wait.Context, mode uint32, off, length int64) error
	// Timeouts are SO_RCVTIMEO and SO_SNDTIMEO: how long a read or write may block, in
	// nanoseconds, 0 for ever.
	Timeouts() (rcv, snd int64)
	// Flush is called at each close of a descriptor in the table it was in, Release when the last is gone.
	Flush(t *FDTable, f *File)
	Release(f *File)
}

// Attr is what statx wants. Mode holds the type bits too.
type Attr struct {
	Dev, Rdev           uint64
	Ino                 uint64
	Mode                uint32
	Nlink               uint32
	UID, GID            uint32
	Size                int64
	Blocks              int64 // of 512 bytes
	BlockSize           int64
	Atime, Mtime, Ctime int64 // nanoseconds since the epoch
	Btime               int64
	ACLs                *ACLs // nil: none
}

// SetAttr says which attributes to change.
type SetAttr struct {
	SetMode, SetUID, SetGID, SetSize, SetAtime, SetMtime bool
	KillPriv                                             bool // set-id bits go as chown makes them go
	Mode                                                 uint32
	UID, GID                                             uint32
	Size                                                 int64
	Atime, Mtime                                         int64
	Creds                                                *Creds // who asks; nil: the kernel
}

// Dirent is one directory entry; Next is the cookie that continues after it.
type Dirent struct {
	Name string
	Ino  uint64
	Type uint8 // DT_*
	Next int64
}

// File is an open file description (POSIX 3.258): what dup and fork share.
type File struct {
	Ops FileOps
	// Path is where it was opened, for /proc/self/fd and *at; the zero Path for
	// pipes, sockets and the like, which have Name ("socket:[12]").
	Path Path
	Name string

	flags  atomic.Uint32 // O_ACCMODE | O_APPEND | O_NONBLOCK | …
	tid    atomic.Int32  // with pid
	refs   atomic.Int64
	pos    filePos
	owner  atomic.Pointer[Owner] // F_SETOWN
	sig    atomic.Int32          // F_SETSIG
	hint   atomic.Uint32         // F_SET_RW_HINT
	inode  Inode                 // of Path.Entry, with a use held; nil without a Path
	access uint8                 // holdsWrite, holdsText
	still  bool                  // Ops is Still
	stream bool                  // Ops is not Seekable
	silent bool                  // nobody is told what it is used for
	pid    atomic.Int32          // whose process used it last, noted while somebody listens

	watchMu  sync.Mutex
	watchers []Watcher
	async    *async // under watchMu
	notify   atomic.Pointer[dnotify]
}

// Watcher is told, without locks, when the last reference to a file that it watches
// goes (epoll sets).
type Watcher interface{ FileReleased(f *File) }

// Watch adds w; Unwatch removes it.
func (f *File) Watch(w Watcher) {
	f.watchMu.Lock()
	f.watchers = append(f.watchers, w)
	f.watchMu.Unlock()
}

// Unwatch removes w.
func (f *File) Unwatch(w Watcher) {
	f.watchMu.Lock()
	for i, x := range f.watchers {
		if x == w {
			n := len(f.watchers) - 1
			f.watchers[i] = f.watchers[n]
			f.watchers[n] = nil
			f.watchers = f.watchers[:n]
			break
		}
	}
	f.watchMu.Unlock()
}

// Signal and SetSignal are F_GETSIG and F_SETSIG.
func (f *File) Signal() int32     { return f.sig.Load() }
func (f *File) SetSignal(n int32) { f.sig.Store(n) }

// Hint and SetHint are F_GET_RW_HINT and F_SET_RW_HINT.
func (f *File) Hint() uint64     { return uint64(f.hint.Load()) }
func (f *File) SetHint(h uint64) { f.hint.Store(uint32(h)) }

// Inode is what the description was opened on, nil for pipes, sockets and the like.
func (f *File) Inode() Inode { return f.inode }

// openFiles counts descriptions; maxFiles is fs.file-max.
var openFiles, maxFiles atomic.Int64

func init() { maxFiles.Store(1 << 20) }

// SetMaxFiles sets how many descriptions there may be in all (fs.file-max).
func SetMaxFiles(n int64) { maxFiles.Store(n) }

// OpenFiles and MaxFiles are /proc/sys/fs/file-nr.
func OpenFiles() int64   { return openFiles.Load() }
func MaxFiles() int64    { return maxFiles.Load() }
func tooManyFiles() bool { return openFiles.Load() > maxFiles.Load() }

// NewFile makes a description with one reference.
func NewFile(ops FileOps, flags uint32) *File {
	f := &File{Ops: ops, stream: !ops.Seekable()}
	f.flags.Store(flags)
	f.refs.Store(1)
	openFiles.Add(1)
	return f
}

// Readiness, EventRegister and EventUnregister implement waiter.Waitable: those of Ops, for
// which the run-time would have to look up the table of methods.
func (f *File) Readiness(mask waiter.EventMask) waiter.EventMask { return f.Ops.Readiness(mask) }
func (f *File) EventRegister(e *waiter.Entry) error              { return f.Ops.EventRegister(e) }
func (f *File) EventUnregister(e *waiter.Entry)                  { f.Ops.EventUnregister(e) }

// Seekable says whether pread and lseek work: that of Ops, which never changes.
func (f *File) Seekable() bool { return !f.stream }

// Flags are the status flags and access mode; SetFlags replaces those in mask.
func (f *File) Flags() uint32 { return f.flags.Load() }
func (f *File) SetFlags(mask, v uint32) {
	for {
		old := f.flags.Load()
		if f.flags.CompareAndSwap(old, old&^mask|v&mask) {
			return
		}
	}
}

// Nonblocking says whether O_NONBLOCK is set.
func (f *File) Nonblocking() bool { return f.flags.Load()&unix.O_NONBLOCK != 0 }

// Readable and Writable go by the access mode; O_PATH and mode 3 allow neither.
func (f *File) Readable() bool {
	fl := f.flags.Load() & (unix.O_PATH | unix.O_ACCMODE)
	return fl == unix.O_RDONLY || fl == unix.O_RDWR
}
func (f *File) Writable() bool {
	fl := f.flags.Load() & (unix.O_PATH | unix.O_ACCMODE)
	return fl == unix.O_WRONLY || fl == unix.O_RDWR
}

// IncRef and DecRef count descriptors and calls in flight; the last DecRef releases.
func (f *File) IncRef() { f.refs.Add(1) }

// Refs is the count, for the collector of AF_UNIX.
func (f *File) Refs() int64 { return f.refs.Load() }

// TryIncRef is IncRef unless the file is dying: for who has found it where its owner may have
// let go of it meanwhile.
func (f *File) TryIncRef() bool {
	for {
		n := f.refs.Load()
		if n <= 0 {
			return false
		}
		if f.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// DecRef drops a reference.
func (f *File) DecRef() {
	switch n := f.refs.Add(-1); {
	case n == 0:
		f.release()
	case n < 0:
		panic("vfs: File released twice")
	}
}

// Forget ends a description that nobody has seen and leaves its object, which gets another one:
// an accepted connection for which there was no descriptor.
func (f *File) Forget() {
	if f.refs.Add(-1) != 0 {
		panic("vfs: a File that is shared was forgotten")
	}
	openFiles.Add(-1)
}

func (f *File) release() {
	openFiles.Add(-1)
	f.watchMu.Lock()
	ws := f.watchers
	f.watchers = nil
	f.watchMu.Unlock()
	for _, w := range ws {
		w.FileReleased(f)
	}
	if listening() {
		f.closed()
	}
	f.dropFileLocks()
	f.dropAsync()
	if f.notify.Load() != nil {
		f.dropNotify()
	}
	f.dropLeases()
	f.Ops.Release(f)
	f.dropAccess()
	if f.inode != nil {
		f.inode.DecRef()
		if listening() {
			forgotten(f.lastDoer(), f.Path.Entry.super, f.inode)
		}
	}
	if f.Path.Valid() {
		f.Path.Mount.uses.Add(-1)
	}
}

// BaseOps answers every FileOps call as an object without that ability does.
// Waitable is that of a regular file: always ready.
type BaseOps struct{}

func (BaseOps) Readiness(mask waiter.EventMask) waiter.EventMask {
	return mask & (waiter.ReadableEvents | waiter.WritableEvents)
}
func (BaseOps) EventRegister(*waiter.Entry) error { return nil }
func (BaseOps) EventUnregister(*waiter.Entry)     {}
func (BaseOps) Read(wait.Context, *File, *mm.IOSeq, int64) (int, error) {
	return 0, unix.EINVAL
}
func (BaseOps) Write(wait.Context, *File, *mm.IOSeq, int64) (int, error) {
	return 0, unix.EINVAL
}
func (BaseOps) Timeouts() (rcv, snd int64)          { return 0, 0 }
func (BaseOps) SetAttr(wait.Context, SetAttr) error { return unix.EPERM }
func (BaseOps) Ioctl(wait.Context, *File, *mm.Space, uint32, uint64) (uintptr, error) {
	return 0, unix.ENOTTY
}
func (BaseOps) Seekable() bool                          { return false }
func (BaseOps) Object(wait.Context) (*mm.Object, error) { return nil, unix.ENODEV }
func (BaseOps) Iterate(wait.Context, *int64, func(Dirent) bool) error {
	return unix.ENOTDIR
}
func (BaseOps) Sync(wait.Context, bool) error                     { return unix.EINVAL }
func (BaseOps) Allocate(wait.Context, uint32, int64, int64) error { return unix.ENODEV }
func (BaseOps) Flush(*FDTable, *File)                             {}
func (BaseOps) Release(*File)                                     {}

// Creds are who a thread acts as. Immutable once published.
type Creds struct {
	UID, EUID, SUID, FSUID uint32
	GID, EGID, SGID, FSGID uint32
	Groups                 []uint32
	// Capability sets (capabilities(7)).
	Permitted, Effective, Inheritable, Bounding, Ambient uint64
	KeepCaps, NoNewPrivs                                 bool
	Securebits                                           uint32
	// Domain is what landlock confines to, nil if nothing does.
	Domain *Domain
}

// WithNoNewPrivs is a copy that has no_new_privs.
func (c *Creds) WithNoNewPrivs() *Creds {
	n := *c
	n.NoNewPrivs = true
	return &n
}

// RootCreds is uid 0 with every capability.
func RootCreds() *Creds {
	const all = 1<<41 - 1
	return &Creds{Permitted: all, Effective: all, Bounding: all}
}
