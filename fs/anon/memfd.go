package anon

import (
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// MemFD is a file in memory with seals. See memfd_create(2).
type MemFD struct {
	vfs.BaseInode
	vfs.WriteAccess
	ops  memOps
	mem  *mm.Memory
	obj  *mm.Object
	ino  uint64
	refs atomic.Int64
	time [3]atomic.Int64 // atime, mtime, ctime
	made int64           // when

	// change is held, as Linux's inode lock is, by who changes the content or the size, from
	// his look at the seals on, and by who adds seals: behind F_ADD_SEALS nobody is under way
	// that has not seen them.
	change mm.SleepLock

	mu       sync.Mutex
	seals    uint32        // changed under change too
	mapping  int           // shared mappings that are being made
	mode     atomic.Uint32 // changed under mu
	uid, gid uint32
	xattrs   vfs.XattrStore
	caps     atomic.Bool // xattrs has vfs.CapsXattr
	flags    vfs.FlagStore
}

// memOps is vfs.RegularOps with the seals in front.
type memOps struct {
	vfs.RegularOps
	vfs.Xattrs
	m *MemFD
}

const memfdCost = 512

// NewMemFD makes one; ENOMEM at the edge of the kernel-heap budget.
func NewMemFD(mem *mm.Memory, creds *vfs.Creds, name string, sealable bool) (*vfs.File, error) {
	if !mem.Budget().Charge(memfdCost) {
		return nil, unix.ENOMEM
	}
	m := &MemFD{mem: mem, obj: mm.NewObject(mem, nil, 0), ino: lastIno.Add(1) + 1, uid: creds.FSUID, gid: creds.FSGID}
	m.mode.Store(0o777)
	m.ops = memOps{vfs.RegularOps{I: m}, m, m}
	if !sealable {
		m.seals = unix.F_SEAL_SEAL
	}
	now := mem.M.Walltime()
	m.made = now
	for i := range m.time {
		m.time[i].Store(now)
	}
	m.refs.Store(1)
	f := vfs.NewFile(&m.ops, unix.O_RDWR|0x8000) // O_LARGEFILE
	f.Name = "/memfd:" + name + " (deleted)"
	return f, nil
}

// Data and Touched implement vfs.RegularInode.
func (m *MemFD) Data() *mm.Object { return m.obj }

// Touched implements vfs.RegularInode.
func (m *MemFD) Touched(write bool) {
	if write {
		now := m.mem.M.Walltime()
		m.time[1].Store(now)
		m.time[2].Store(now)
	}
}

// Privileged implements vfs.RegularInode.
func (m *MemFD) Privileged() bool {
	return m.mode.Load()&(unix.S_ISUID|unix.S_ISGID) != 0 || m.caps.Load()
}

// AllocatePages implements vfs.Allocator.
func (m *MemFD) AllocatePages(c wait.Context, off, n int64, keep bool) error {
	if n>>hal.PageShift > int64(m.mem.TotalPages()) {
		return unix.ENOSPC
	}
	return m.obj.Allocate(c, off, n, keep)
}

// IncRef and DecRef count descriptions.
func (m *MemFD) IncRef() { m.refs.Add(1) }

// DecRef drops one.
func (m *MemFD) DecRef() {
	if m.refs.Add(-1) == 0 {
		m.obj.DecRef()
		m.mem.Budget().Uncharge(memfdCost + m.xattrs.Size())
	}
}

// FileFlags implements vfs.FlagsInode.
func (o *memOps) FileFlags() (uint32, bool) { return o.m.flags.Get(), true }

// SetFileFlags implements vfs.FlagsInode.
func (o *memOps) SetFileFlags(flags uint32) error {
	err := o.m.flags.Set(flags)
	if err == nil {
		o.m.time[2].Store(o.m.mem.M.Walltime())
	}
	return err
}

// Magic is that of the tmpfs that it would be in.
func (*memOps) Magic() uint64 { return unix.TMPFS_MAGIC }

// Attr implements vfs.Inode.
func (m *MemFD) Attr(wait.Context) (vfs.Attr, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return vfs.Attr{Dev: dev(), Ino: m.ino, Mode: unix.S_IFREG | m.mode.Load(), UID: m.uid, GID: m.gid,
		Size: m.obj.Size(), Blocks: m.obj.Pages() * 8, BlockSize: hal.PageSize,
		Atime: m.time[0].Load(), Mtime: m.time[1].Load(), Ctime: m.time[2].Load(), Btime: m.made}, nil
}

// SetAttr implements vfs.Inode: F_SEAL_SHRINK and F_SEAL_GROW are EPERM.
func (m *MemFD) SetAttr(c wait.Context, a vfs.SetAttr) error {
	if a.SetSize {
		if err := m.resize(c, a.Size); err != nil {
			return err
		}
		m.ops.DropPrivileges(c)
	}
	cur, _ := m.Attr(c)
	if err := vfs.CheckSetAttr(&cur, &a); err != nil {
		return err
	}
	if a.KillPriv && m.caps.Load() {
		_ = m.RemoveXattr(c, vfs.CapsXattr) // a new owner's program has none
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if a.SetMode {
		m.mode.Store(a.Mode & 0o7777)
	}
	if a.SetUID {
		m.uid = a.UID
	}
	if a.SetGID {
		m.gid = a.GID
	}
	if a.SetAtime {
		m.time[0].Store(a.Atime)
	}
	if a.SetMtime {
		m.time[1].Store(a.Mtime)
	}
	return nil
}

func (m *MemFD) resize(c wait.Context, size int64) error {
	m.change.Lock(c)
	defer m.change.Unlock()
	if size < m.obj.Size() && m.seals&unix.F_SEAL_SHRINK != 0 || size > m.obj.Size() && m.seals&unix.F_SEAL_GROW != 0 {
		return unix.EPERM
	}
	if err := m.obj.TruncateCtx(c, size); err != nil {
		return err
	}
	m.Touched(true)
	return nil
}

const sealWrites = unix.F_SEAL_WRITE | unix.F_SEAL_FUTURE_WRITE

// mayWrite checks the seals for a write at off and cuts it where growing is sealed. Called
// with change held.
func (m *MemFD) mayWrite(src *mm.IOSeq, off int64) error {
	s := m.seals
	if s&sealWrites != 0 {
		return unix.EPERM
	}
	if size := m.obj.Size(); s&unix.F_SEAL_GROW != 0 && off > size-int64(src.Len()) {
		// Linux writes page by page and refuses the first piece that would grow the file.
		whole := size &^ hal.PageMask
		if off >= whole {
			return unix.EPERM
		}
		src.Limit(int(whole - off))
	}
	return nil
}

// Write implements vfs.FileOps.
func (o *memOps) Write(c wait.Context, f *vfs.File, src *mm.IOSeq, off int64) (int, error) {
	if src.Len() == 0 {
		return 0, nil
	}
	o.m.change.Lock(c)
	defer o.m.change.Unlock()
	if err := o.m.mayWrite(src, off); err != nil {
		if fault := src.FaultIn(false); fault != nil {
			err = fault // noticed first
		}
		return 0, err
	}
	return o.RegularOps.Write(c, f, src, off)
}

// Append implements vfs.Appender.
func (o *memOps) Append(c wait.Context, f *vfs.File, src *mm.IOSeq) (int64, int, error) {
	o.m.change.Lock(c)
	defer o.m.change.Unlock()
	if err := o.m.mayWrite(src, o.m.obj.Size()); err != nil {
		return 0, 0, err
	}
	return o.RegularOps.Append(c, f, src)
}

// Allocate implements vfs.FileOps.
func (o *memOps) Allocate(c wait.Context, mode uint32, off, n int64) error {
	o.m.change.Lock(c)
	defer o.m.change.Unlock()
	s := o.m.seals
	if mode&unix.FALLOC_FL_PUNCH_HOLE != 0 {
		if s&sealWrites != 0 {
			return unix.EPERM
		}
	} else if s&unix.F_SEAL_GROW != 0 && off+n > o.m.obj.Size() {
		return unix.EPERM
	}
	return o.RegularOps.Allocate(c, mode, off, n)
}

// BeginMap implements vfs.Mapper: a sealed file has no new writable shared mappings.
func (o *memOps) BeginMap(shared, write bool) (writable bool, err error) {
	o.m.mu.Lock()
	defer o.m.mu.Unlock()
	writable = !shared || o.m.seals&sealWrites == 0
	if write && !writable {
		return false, unix.EPERM
	}
	if shared {
		o.m.mapping++
	}
	return writable, nil
}

// EndMap implements vfs.Mapper.
func (o *memOps) EndMap(shared bool) {
	if shared {
		o.m.mu.Lock()
		o.m.mapping--
		o.m.mu.Unlock()
	}
}

// Seals is F_GET_SEALS; AddSeals F_ADD_SEALS.
func (o *memOps) Seals() uint32 {
	o.m.mu.Lock()
	defer o.m.mu.Unlock()
	return o.m.seals
}

// AddSeals implements Sealer: EPERM after F_SEAL_SEAL, EBUSY for F_SEAL_WRITE while a
// shared mapping can write.
func (o *memOps) AddSeals(c wait.Context, s uint32) error {
	const known = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | sealWrites
	if s&^known != 0 {
		return unix.EINVAL
	}
	o.m.change.Lock(c)
	defer o.m.change.Unlock()
	o.m.mu.Lock()
	defer o.m.mu.Unlock()
	if o.m.seals&unix.F_SEAL_SEAL != 0 {
		return unix.EPERM
	}
	if s&^o.m.seals&unix.F_SEAL_WRITE != 0 && (o.m.mapping > 0 || o.m.obj.WritableMapping()) {
		return unix.EBUSY
	}
	o.m.seals |= s
	return nil
}

// Writes implements vfs.Writable.
func (o *memOps) Writes() *vfs.WriteAccess { return o.m.Writes() }

// Reopen implements vfs.Reopener.
func (o *memOps) Reopen(vfs.Lookup, uint32) (vfs.FileOps, error) {
	o.m.IncRef()
	return o, nil
}

// Sealer is a FileOps with seals.
type Sealer interface {
	Seals() uint32
	AddSeals(c wait.Context, s uint32) error
}

// xattrOK is what the attributes of a tmpfs are on Linux 6.1.
func xattrOK(name string) bool { return !strings.HasPrefix(name, "user.") }

// GetXattr implements vfs.Xattrs.
func (m *MemFD) GetXattr(_ wait.Context, name string) ([]byte, error) {
	if !xattrOK(name) {
		return nil, unix.EOPNOTSUPP
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.xattrs.Get(name)
}

// SetXattr implements vfs.Xattrs.
func (m *MemFD) SetXattr(_ wait.Context, name string, value []byte, flags int) error {
	if !xattrOK(name) {
		return unix.EOPNOTSUPP
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.mem.Budget()
	if err := m.xattrs.Set(name, value, flags, b.Charge, b.Uncharge); err != nil {
		return err
	}
	if name == vfs.CapsXattr {
		m.caps.Store(true)
	}
	m.time[2].Store(m.mem.M.Walltime())
	return nil
}

// RemoveXattr implements vfs.Xattrs.
func (m *MemFD) RemoveXattr(_ wait.Context, name string) error {
	if !xattrOK(name) {
		return unix.EOPNOTSUPP
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.xattrs.Remove(name, m.mem.Budget().Uncharge); err != nil {
		return err
	}
	if name == vfs.CapsXattr {
		m.caps.Store(false)
	}
	m.time[2].Store(m.mem.M.Walltime())
	return nil
}

// ListXattr implements vfs.Xattrs.
func (m *MemFD) ListXattr(wait.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.xattrs.Names(), nil
}
