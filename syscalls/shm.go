package syscalls

import (
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/task"
)

var shmEntries = []Entry{
	{Nr: unix.SYS_SHMGET, Name: "shmget", Func: sysShmget, Support: Partial, Note: "no SHM_HUGETLB (EINVAL)"},
	{Nr: unix.SYS_SHMAT, Name: "shmat", Func: sysShmat, Support: Full},
	{Nr: unix.SYS_SHMDT, Name: "shmdt", Func: sysShmdt, Support: Full},
	{Nr: unix.SYS_SHMCTL, Name: "shmctl", Func: sysShmctl, Support: Partial,
		Note: "shm_nattch counts an attachment that fork copied once; memory is never swapped, so SHM_LOCK has nothing to do"},
}

// Flags and commands of System V shared memory (uapi/linux/ipc.h, shm.h).
const (
	ipcCreat   = 0o1000
	ipcExcl    = 0o2000
	shmHugeTLB = 0o4000
	shmRdonly  = 0o10000
	shmRnd     = 0o20000
	shmRemap   = 0o40000
	shmExec    = 0o100000
	shmDest    = 0o1000 // in shm_perm.mode
	shmLocked  = 0o2000

	ipcRmid    = 0
	ipcSet     = 1
	ipcStat    = 2
	ipcInfo    = 3
	shmLock    = 11
	shmUnlock  = 12
	shmStat    = 13
	shmInfo    = 14
	shmStatAny = 15

	shmMax   = 1<<64 - 1 - 1<<24 // SHMMAX and SHMALL
	shmSlots = 4096              // SHMMNI
	ipcSlot  = 1 << 15           // an id is sequence * ipcSlot + slot
	shmDev   = 1                 // the device number of Linux' internal tmpfs
	shmName  = "/SYSV"
)

// shmTable are the segments of the system. Its mu is innermost: mappings come and go
// (shmSeg.attached, detached) under the locks of kernel/mm.
type shmTable struct {
	mu    sync.Mutex
	segs  map[int32]*shmSeg // by slot
	seq   int32
	last  int32
	pages uint64 // of all segments
}

// shmSeg is a segment. Fields are under shmTable.mu, except those that never change.
type shmSeg struct {
	id, key              int32
	size                 uint64
	obj                  *mm.Object
	uid, gid, cuid, cgid uint32
	mode                 uint32
	cpid, lpid           int32
	atime, dtime, ctime  int64 // seconds
	nattch               uint64
}

func shmOf(t *task.Thread) *shmTable { return &t.Kernel().Syscalls.(*Dispatcher).shm }

func wallSeconds(t *task.Thread) int64 { return t.Kernel().M.Walltime() / second }

// allows is Linux' ipcperms: want has the bits of one of the three classes or of all.
func (g *shmSeg) allows(c *vfs.Creds, want uint32) bool {
	want = want>>6 | want>>3 | want
	mode := g.mode
	switch {
	case c.EUID == g.cuid || c.EUID == g.uid:
		mode >>= 6
	case inGroup(c, g.cgid) || inGroup(c, g.gid):
		mode >>= 3
	}
	return want&^mode&7 == 0 || c.Can(unix.CAP_IPC_OWNER)
}

func inGroup(c *vfs.Creds, gid uint32) bool {
	if c.EGID == gid {
		return true
	}
	for _, g := range c.Groups {
		if g == gid {
			return true
		}
	}
	return false
}

// find gives the segment of an id: EINVAL, EIDRM if the slot has another. Called with mu held.
func (s *shmTable) find(id int32) (*shmSeg, error) {
	if id < 0 {
		return nil, unix.EINVAL
	}
	g := s.segs[id%ipcSlot]
	switch {
	case g == nil:
		return nil, unix.EINVAL
	case g.id != id:
		return nil, unix.EIDRM
	}
	return g, nil
}

// drop forgets a segment that is marked and not attached. Called with mu held; the
// caller releases the object it gives, if any, without.
func (s *shmTable) drop(g *shmSeg) *mm.Object {
	if g.nattch > 0 || g.mode&shmDest == 0 || s.segs[g.id%ipcSlot] != g {
		return nil
	}
	delete(s.segs, g.id%ipcSlot)
	s.pages -= (g.size + hal.PageMask) >> hal.PageShift
	return g.obj
}

// sysShmget finds or makes a segment (key, size, flags). ENOENT, EEXIST, EINVAL (size),
// EACCES; for a new one EINVAL (size), ENOSPC (number, pages), ENOMEM. See shmget(2).
func sysShmget(t *task.Thread, a *Args) (uintptr, error) {
	key, size, flags := int32(a[0]), a[1], uint32(a[2])
	s := shmOf(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if key != 0 { // IPC_PRIVATE
		for _, g := range s.segs {
			if g.key != key {
				continue
			}
			switch {
			case flags&ipcCreat != 0 && flags&ipcExcl != 0:
				return 0, unix.EEXIST
			case size > g.size:
				return 0, unix.EINVAL
			case !g.allows(t.Creds(), flags):
				return 0, unix.EACCES
			}
			return uintptr(g.id), nil
		}
		if flags&ipcCreat == 0 {
			return 0, unix.ENOENT
		}
	}
	return s.create(t, key, size, flags)
}

func (s *shmTable) create(t *task.Thread, key int32, size uint64, flags uint32) (uintptr, error) {
	if size == 0 || size > shmMax || flags&shmHugeTLB != 0 {
		return 0, unix.EINVAL
	}
	pages := (size-1)>>hal.PageShift + 1
	mem := t.Space().Memory()
	switch {
	case len(s.segs) >= shmSlots:
		return 0, unix.ENOSPC
	case pages+s.pages > mem.TotalPages():
		return 0, unix.ENOMEM
	}
	slot := (s.last + 1) % shmSlots
	if s.segs == nil {
		s.segs, slot = map[int32]*shmSeg{}, 0
	}
	for s.segs[slot] != nil {
		slot = (slot + 1) % shmSlots
	}
	if slot < s.last {
		s.seq = (s.seq + 1) & 0xffff // ids are not used again soon
	}
	s.last = slot
	c := t.Creds()
	g := &shmSeg{id: s.seq*ipcSlot + slot, key: key, size: size, mode: flags & 0o777, uid: c.EUID, gid: c.EGID,
		cuid: c.EUID, cgid: c.EGID, cpid: t.Process().PID(), ctime: wallSeconds(t), obj: mm.NewObject(mem, nil, int64(pages<<hal.PageShift))}
	s.segs[slot] = g
	s.pages += pages
	return uintptr(g.id), nil
}

// sysShmat maps a segment (id, address, flags). EINVAL: id, address, one that is in use
// without SHM_REMAP; EIDRM; EACCES; ENOMEM. See shmat(2).
func sysShmat(t *task.Thread, a *Args) (uintptr, error) {
	addr, flags := a[1], uint32(a[2])
	m := mm.MapArgs{Prot: hal.ProtRead, Flags: unix.MAP_SHARED}
	want := uint32(0o444)
	switch {
	case int32(a[0]) < 0, addr == 0 && flags&shmRemap != 0:
		return 0, unix.EINVAL
	case addr&hal.PageMask != 0:
		addr &^= hal.PageMask
		if flags&shmRnd == 0 || addr == 0 && flags&shmRemap != 0 {
			return 0, unix.EINVAL
		}
	}
	if addr != 0 {
		m.Flags |= unix.MAP_FIXED_NOREPLACE
		if flags&shmRemap != 0 {
			m.Flags = unix.MAP_SHARED | unix.MAP_FIXED
		}
	}
	if flags&shmRdonly == 0 {
		m.Prot |= hal.ProtWrite
		want |= 0o222
	} else {
		m.MaxProt = hal.ProtRead | hal.ProtExec
	}
	if flags&shmExec != 0 {
		m.Prot |= hal.ProtExec
		want |= 0o111
	}
	s := shmOf(t)
	s.mu.Lock()
	g, err := s.find(int32(a[0]))
	if err == nil && !g.allows(t.Creds(), want) {
		err = unix.EACCES
	}
	if err != nil {
		s.mu.Unlock()
		return 0, err
	}
	g.nattch++ // so that it stays until it is mapped
	g.obj.IncRef()
	s.mu.Unlock()
	pid, k := t.Process().PID(), t.Kernel()
	m.Addr, m.Len, m.Object = hal.UserAddr(addr), g.size, g.obj
	m.Name, m.Dev, m.Ino = fmt.Sprintf(shmName+"%08x (deleted)", uint32(g.key)), shmDev, uint64(g.id)
	m.Keep = func() { s.attached(g, pid, k.M.Walltime()/second) }
	m.Release = func() { s.detached(g, pid, k.M.Walltime()/second) }
	at, err := t.Space().Mmap(t, m)
	if err == unix.EEXIST {
		err = unix.EINVAL
	}
	s.unpin(g)
	g.obj.DecRef()
	return uintptr(at), err
}

// attached and detached are told by kernel/mm when a mapping comes and goes.
func (s *shmTable) attached(g *shmSeg, pid int32, now int64) {
	s.mu.Lock()
	g.nattch++
	g.lpid, g.atime = pid, now
	s.mu.Unlock()
}

func (s *shmTable) detached(g *shmSeg, pid int32, now int64) {
	s.mu.Lock()
	g.lpid, g.dtime = pid, now
	s.mu.Unlock()
	s.unpin(g)
}

func (s *shmTable) unpin(g *shmSeg) {
	s.mu.Lock()
	g.nattch--
	obj := s.drop(g)
	s.mu.Unlock()
	if obj != nil {
		obj.DecRef()
	}
}

// sysShmdt unmaps what is left of the segment that shmat mapped at an address: EINVAL if
// there is none. See shmdt(2).
func sysShmdt(t *task.Thread, a *Args) (uintptr, error) {
	addr := hal.UserAddr(a[0])
	ino, found := uint64(0), false
	if addr&hal.PageMask != 0 {
		return 0, unix.EINVAL
	}
	for _, v := range t.Space().Maps(false) {
		if !v.Object || v.Dev != shmDev || !strings.HasPrefix(v.Name, shmName) ||
			v.Start < addr || v.Start-addr != hal.UserAddr(v.Offset) || found && v.Ino != ino {
			continue
		}
		ino, found = v.Ino, true
		if err := t.Space().Munmap(v.Start, uint64(v.End-v.Start)); err != nil {
			return 0, err
		}
	}
	if !found {
		return 0, unix.EINVAL
	}
	return 0, nil
}

// sysShmctl reads and changes segments (id, command, buffer). EINVAL: id, command;
// EIDRM; EACCES (reading); EPERM (changing, locking); EFAULT. See shmctl(2).
func sysShmctl(t *task.Thread, a *Args) (uintptr, error) {
	id, cmd, at := int32(a[0]), int32(a[1]), hal.UserAddr(a[2])
	if id < 0 {
		return 0, unix.EINVAL
	}
	s := shmOf(t)
	switch cmd {
	case ipcInfo, shmInfo:
		b, top := s.limits(cmd)
		return uintptr(top), t.CopyOut(at, b)
	case ipcStat, shmStat, shmStatAny:
		b, full, err := s.stat(t, id, cmd)
		if err != nil {
			return 0, err
		}
		return uintptr(full), t.CopyOut(at, b)
	case ipcSet:
		var b [24]byte // shm_perm as far as mode
		if err := t.CopyIn(b[:], at); err != nil {
			return 0, err
		}
		return 0, s.change(t, id, func(g *shmSeg) error {
			uid, gid := le.Uint32(b[4:]), le.Uint32(b[8:])
			if uid == keep || gid == keep {
				return unix.EINVAL
			}
			g.uid, g.gid, g.ctime = uid, gid, wallSeconds(t)
			g.mode = g.mode&^0o777 | le.Uint32(b[20:])&0o777
			return nil
		})
	case ipcRmid:
		return 0, s.change(t, id, func(g *shmSeg) error {
			g.mode |= shmDest
			g.key = 0 // nobody finds it again
			return nil
		})
	case shmLock, shmUnlock:
		return 0, s.lock(t, id, cmd == shmLock)
	}
	return 0, unix.EINVAL
}

// change applies f for the owner, the creator or CAP_SYS_ADMIN: EPERM.
func (s *shmTable) change(t *task.Thread, id int32, f func(g *shmSeg) error) error {
	s.mu.Lock()
	g, err := s.find(id)
	if c := t.Creds(); err == nil && c.EUID != g.cuid && c.EUID != g.uid && !c.Can(unix.CAP_SYS_ADMIN) {
		err = unix.EPERM
	}
	if err == nil {
		err = f(g)
	}
	var obj *mm.Object
	if err == nil {
		obj = s.drop(g)
	}
	s.mu.Unlock()
	if obj != nil {
		obj.DecRef()
	}
	return err
}

func (s *shmTable) lock(t *task.Thread, id int32, on bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.find(id)
	if err != nil {
		return err
	}
	if c := t.Creds(); !c.Can(unix.CAP_IPC_LOCK) {
		if c.EUID != g.cuid && c.EUID != g.uid || on && t.Process().Limit(task.RlimitMemlock) == 0 {
			return unix.EPERM
		}
	}
	g.mode &^= shmLocked
	if on {
		g.mode |= shmLocked
	}
	return nil
}

// stat makes struct shmid64_ds; SHM_STAT names a slot and gets the id.
func (s *shmTable) stat(t *task.Thread, id, cmd int32) (b []byte, full int32, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var g *shmSeg
	if cmd == ipcStat {
		g, err = s.find(id)
	} else if g = s.segs[id]; g == nil {
		err = unix.EINVAL
	} else {
		full = g.id
	}
	if err != nil {
		return nil, 0, err
	}
	if cmd != shmStatAny && !g.allows(t.Creds(), 0o444) {
		return nil, 0, unix.EACCES
	}
	b = make([]byte, 112)
	for i, v := range [...]uint32{uint32(g.key), g.uid, g.gid, g.cuid, g.cgid, g.mode, uint32(g.id / ipcSlot)} {
		le.PutUint32(b[i*4:], v)
	}
	for i, v := range [...]uint64{g.size, uint64(g.atime), uint64(g.dtime), uint64(g.ctime),
		uint64(uint32(g.cpid)) | uint64(uint32(g.lpid))<<32, g.nattch} {
		le.PutUint64(b[48+i*8:], v)
	}
	return b, full, nil
}

// limits makes struct shminfo64 or struct shm_info, and gives the highest slot in use.
func (s *shmTable) limits(cmd int32) (b []byte, top int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rss := uint64(0)
	for slot, g := range s.segs {
		top = max(top, slot)
		rss += uint64(g.obj.Pages())
	}
	if cmd == ipcInfo {
		b = make([]byte, 72)
		for i, v := range [...]uint64{shmMax, 1, shmSlots, shmSlots, shmMax} {
			le.PutUint64(b[i*8:], v)
		}
		return b, top
	}
	b = make([]byte, 48)
	le.PutUint32(b, uint32(len(s.segs)))
	le.PutUint64(b[8:], s.pages)
	le.PutUint64(b[16:], rss)
	return b, top
}
