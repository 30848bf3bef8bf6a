// Package mqueue is POSIX message queues: a file system with one directory of queues,
// which mq_open names without a path and which can be mounted (/dev/mqueue). See
// mq_overview(7).
//
//	fs := mqueue.New(mem)
//	ns.Register("mqueue", fs.Mountable())
//	f, err := fs.OpenQueue(t, "name", unix.O_CREAT|unix.O_RDWR, 0o600, nil)
//	err = mqueue.Of(f).Send(t, f, []byte("text"), 5, deadline)
//
// What a queue may hold counts against RLIMIT_MSGQUEUE of its maker's user; messages are
// charged to the kernel-heap budget as they come (ENOMEM).
//
// Locks: FS.mu, then queue.mu. Waiters are woken under queue.mu.
package mqueue

import (
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

// Limits (uapi/linux/mqueue.h, linux/ipc_namespace.h).
const (
	magic       = 0x19800202
	PrioMax     = 32768    // MQ_PRIO_MAX
	HardMsgMax  = 65536    // HARD_MSGMAX
	HardMsgSize = 16 << 20 // HARD_MSGSIZEMAX
	MinMsgSize  = 128      // MIN_MSGSIZEMAX
	fileSize    = 80       // FILENT_SIZE
	direntSize  = 20       // DIRENT_SIZE

	queueCost   = 768 // on the heap
	msgCost     = 112 // of a message beside its bytes
	waiterCost  = 160
	linuxMsg    = 48 // sizeof(struct msg_msg), for RLIMIT_MSGQUEUE
	linuxTreeNd = 48 // sizeof(struct posix_msg_tree_node)
)

// FS is all queues of the system.
type FS struct {
	mem *mm.Memory
	dev uint64

	// The sysctls of /proc/sys/fs/mqueue.
	QueuesMax, MsgMax, MsgSizeMax, MsgDefault, MsgSizeDefault atomic.Int64

	mu      sync.Mutex
	queues  map[string]*queue
	lastIno uint64
	count   int64            // queues that are there, unlinked ones too
	bytes   map[uint32]int64 // of RLIMIT_MSGQUEUE, by user
	mtime   int64
	attr    vfs.Attr // of the directory
}

// New makes it, empty.
func New(mem *mm.Memory) *FS {
	fs := &FS{mem: mem, dev: vfs.AllocDev(), queues: map[string]*queue{}, bytes: map[uint32]int64{}, lastIno: 1}
	fs.QueuesMax.Store(256)
	fs.MsgMax.Store(10)
	fs.MsgSizeMax.Store(8192)
	fs.MsgDefault.Store(10)
	fs.MsgSizeDefault.Store(8192)
	now := fs.now()
	fs.attr = vfs.Attr{Dev: fs.dev, Ino: 1, Mode: unix.S_IFDIR | unix.S_ISVTX | 0o777, Nlink: 2, BlockSize: hal.PageSize,
		Atime: now, Mtime: now, Ctime: now}
	return fs
}

// Mountable is the type for mount(2): every mount shows the same queues.
func (fs *FS) Mountable() vfs.FSType {
	return vfs.FSType{NoDev: true, New: func(_, _ string) (vfs.FileSystem, error) { return fs, nil }}
}

func (fs *FS) now() int64 { return fs.mem.M.Walltime() }

// Root, Type, Options, Sync and Statfs implement vfs.FileSystem.
func (fs *FS) Root() vfs.Inode         { return &dir{fs: fs} }
func (fs *FS) Type() string            { return "mqueue" }
func (fs *FS) Options() string         { return "" }
func (fs *FS) Sync(wait.Context) error { return nil }

func (fs *FS) Statfs(wait.Context) (vfs.Statfs, error) {
	return vfs.Statfs{Type: magic, BlockSize: hal.PageSize, NameLen: unix.NAME_MAX, NoID: true}, nil
}

// checkName is lookup_one_len: EACCES for a name that is none, ENAMETOOLONG.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == ".." || strings.ContainsRune(name, '/'):
		return unix.EACCES
	case len(name) > unix.NAME_MAX:
		return unix.ENAMETOOLONG
	}
	return nil
}

// OpenQueue is mq_open: EACCES, ENAMETOOLONG, ENOENT, EEXIST, EINVAL, and what making one
// can fail with; EAGAIN and EINTR where a lease is in the way. attr nil: the defaults.
func (fs *FS) OpenQueue(t *task.Thread, name string, flags, mode uint32, attr *Attr) (*vfs.File, error) {
	f, err := fs.open(t, name, flags, mode, attr)
	if err != nil {
		return nil, err
	}
	if err := f.CountAccess(t); err != nil {
		f.DecRef()
		return nil, err
	}
	return f, nil
}

// open is OpenQueue before the lease.
func (fs *FS) open(t *task.Thread, name string, flags, mode uint32, attr *Attr) (*vfs.File, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	c := t.Creds()
	fs.mu.Lock()
	defer fs.mu.Unlock()
	dirAttr := fs.attr
	if err := c.Permission(&dirAttr, vfs.MayExec); err != nil {
		return nil, err
	}
	q := fs.queues[name]
	switch {
	case q == nil && flags&unix.O_CREAT == 0:
		return nil, unix.ENOENT
	case q == nil:
		if err := c.Permission(&dirAttr, vfs.MayWrite|vfs.MayExec); err != nil {
			return nil, err
		}
		n := vfs.NewNode{Mode: unix.S_IFREG | mode&0o7777&^t.FS().Mask(), UID: c.FSUID, GID: c.FSGID}
		var err error
		if q, err = fs.create(t, name, n, attr); err != nil {
			return nil, err
		}
	case flags&(unix.O_CREAT|unix.O_EXCL) == unix.O_CREAT|unix.O_EXCL:
		return nil, unix.EEXIST
	case flags&unix.O_ACCMODE == unix.O_ACCMODE:
		return nil, unix.EINVAL
	default:
		a := q.attrs()
		if err := c.Permission(&a, access(flags)); err != nil {
			return nil, err
		}
	}
	q.refs++
	f := vfs.NewFile(&handle{q: q}, flags&(unix.O_ACCMODE|unix.O_NONBLOCK))
	f.Name = "/" + name
	return f, nil
}

func access(flags uint32) uint32 {
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		return vfs.MayRead
	case unix.O_WRONLY:
		return vfs.MayWrite
	}
	return vfs.MayRead | vfs.MayWrite
}

// Unlink is mq_unlink: EACCES, ENAMETOOLONG, ENOENT, EPERM.
func (fs *FS) Unlink(t *task.Thread, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	c := t.Creds()
	fs.mu.Lock()
	defer fs.mu.Unlock()
	q := fs.queues[name]
	if q == nil {
		return unix.ENOENT
	}
	if err := c.Permission(&fs.attr, vfs.MayWrite|vfs.MayExec); err != nil {
		return err
	}
	if a := q.attrs(); fs.attr.Mode&unix.S_ISVTX != 0 && c.FSUID != a.UID && c.FSUID != fs.attr.UID && !c.Can(vfs.CapFowner) {
		return unix.EPERM
	}
	fs.unlink(name, q)
	return nil
}

// unlink is called with mu held.
func (fs *FS) unlink(name string, q *queue) {
	delete(fs.queues, name)
	now := fs.now()
	fs.attr.Mtime, fs.attr.Ctime = now, now
	fs.attr.Size -= direntSize
	q.mu.Lock()
	q.attr.Nlink, q.attr.Ctime = 0, now
	q.mu.Unlock()
	fs.dropRef(q)
}

// dropRef frees a queue that has neither a name nor a file. Called with mu held.
func (fs *FS) dropRef(q *queue) {
	if q.refs--; q.refs > 0 {
		return
	}
	fs.count--
	if fs.bytes[q.payer] -= q.reserved; fs.bytes[q.payer] == 0 {
		delete(fs.bytes, q.payer)
	}
	b := fs.mem.Budget()
	b.Uncharge(queueCost)
	q.mu.Lock()
	for _, m := range q.msgs {
		b.Uncharge(m.cost())
	}
	q.msgs = nil
	q.mu.Unlock()
}

// create makes a queue (mqueue_create_attr, mqueue_get_inode): ENOSPC, EINVAL, EOVERFLOW,
// EMFILE, ENOMEM. Called with mu held.
func (fs *FS) create(t *task.Thread, name string, n vfs.NewNode, attr *Attr) (*queue, error) {
	most, size := min(fs.MsgMax.Load(), fs.MsgDefault.Load()), min(fs.MsgSizeMax.Load(), fs.MsgSizeDefault.Load())
	priv := t == nil || t.Creds().Can(vfs.CapSysResource)
	if fs.count >= fs.QueuesMax.Load() && !priv {
		return nil, unix.ENOSPC
	}
	if attr != nil {
		most, size = attr.MaxMsg, attr.MsgSize
	}
	mostMax, sizeMax := fs.MsgMax.Load(), fs.MsgSizeMax.Load()
	if priv {
		mostMax, sizeMax = HardMsgMax, HardMsgSize
	}
	if most <= 0 || size <= 0 || most > mostMax || size > sizeMax {
		return nil, unix.EINVAL
	}
	reserved := most*size + most*linuxMsg + min(most, PrioMax)*linuxTreeNd
	payer := uint32(0)
	if t != nil {
		payer = t.Creds().UID
		if uint64(fs.bytes[payer]+reserved) > t.Process().Limit(task.RlimitMsgqueue) {
			return nil, unix.EMFILE
		}
	}
	if !fs.mem.Budget().Charge(queueCost) {
		return nil, unix.ENOMEM
	}
	fs.bytes[payer] += reserved
	fs.count++
	fs.lastIno++
	now := fs.now()
	q := &queue{fs: fs, maxMsg: most, msgSize: size, refs: 1, payer: payer, reserved: reserved,
		attr: vfs.Attr{Dev: fs.dev, Ino: fs.lastIno, Mode: n.Mode, Nlink: 1, UID: n.UID, GID: n.GID, Size: fileSize,
			BlockSize: hal.PageSize, Atime: now, Mtime: now, Ctime: now}}
	fs.queues[name] = q
	fs.attr.Size += direntSize
	fs.attr.Mtime, fs.attr.Ctime = now, now
	return q, nil
}

// dir is the one directory. Names are looked up each time, since mq_open and mq_unlink do
// not come by the mounts.
type dir struct {
	vfs.BaseInode
	fs *FS
}

// Uncached implements vfs.Uncached.
func (d *dir) Uncached() bool { return true }

// Attr and SetAttr implement vfs.Inode.
func (d *dir) Attr(wait.Context) (vfs.Attr, error) {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	return d.fs.attr, nil
}

func (d *dir) SetAttr(_ wait.Context, a vfs.SetAttr) error {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	return setAttr(&d.fs.attr, a, d.fs.now())
}

func setAttr(cur *vfs.Attr, a vfs.SetAttr, now int64) error {
	if err := vfs.CheckSetAttr(cur, &a); err != nil {
		return err
	}
	if a.SetMode {
		cur.Mode = cur.Mode&unix.S_IFMT | a.Mode&^unix.S_IFMT
	}
	if a.SetUID {
		cur.UID = a.UID
	}
	if a.SetGID {
		cur.GID = a.GID
	}
	if a.SetAtime {
		cur.Atime = a.Atime
	}
	if a.SetMtime {
		cur.Mtime = a.Mtime
	}
	if a.SetSize {
		cur.Size = a.Size // shown, and nothing else (simple_setattr)
	}
	cur.Ctime = now
	return nil
}

// Lookup implements vfs.Inode.
func (d *dir) Lookup(_ wait.Context, name string) (vfs.Inode, error) {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	if q := d.fs.queues[name]; q != nil {
		return q, nil
	}
	return nil, unix.ENOENT
}

// Create implements vfs.Inode: regular files alone, queues with the default attributes.
func (d *dir) Create(c wait.Context, name string, n vfs.NewNode) (vfs.Inode, error) {
	if n.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unix.EPERM
	}
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	if d.fs.queues[name] != nil {
		return nil, unix.EEXIST
	}
	t, _ := c.(*task.Thread)
	q, err := d.fs.create(t, name, n, nil)
	if err != nil {
		return nil, err
	}
	return q, nil
}

// Remove implements vfs.Inode.
func (d *dir) Remove(_ wait.Context, name string, victim vfs.Inode, _ bool) error {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	q := d.fs.queues[name]
	if q == nil || q != victim {
		return unix.ENOENT
	}
	d.fs.unlink(name, q)
	return nil
}

// Open implements vfs.Inode.
func (d *dir) Open(wait.Context, uint32) (vfs.FileOps, error) {
	return &vfs.DirOps{I: d, List: d.list}, nil
}

func (d *dir) list(_ wait.Context, pos *int64, emit func(e vfs.Dirent) bool) error {
	d.fs.mu.Lock()
	all := []vfs.Dirent{{Name: ".", Ino: 1, Type: unix.DT_DIR, Next: 1}, {Name: "..", Ino: 1, Type: unix.DT_DIR, Next: 2}}
	for name, q := range d.fs.queues {
		all = append(all, vfs.Dirent{Name: name, Ino: q.attr.Ino, Type: unix.DT_REG, Next: int64(q.attr.Ino) + 2})
	}
	d.fs.mu.Unlock()
	sort.Slice(all, func(i, k int) bool { return all[i].Next < all[k].Next })
	for _, e := range all {
		if e.Next > *pos {
			if !emit(e) {
				return nil
			}
			*pos = e.Next
		}
	}
	return nil
}
