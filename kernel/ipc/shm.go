package ipc

import (
	"fmt"
	"math/bits"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/task"
)

// Limits, flags and commands of shared memory (uapi/linux/shm.h).
const (
	shmMNI = 4096
	shmMax = 1<<64 - 1 - 1<<24 // SHMMAX and SHMALL

	shmHugeTLB   = 0o4000
	shmNoReserve = 0o10000 // shmget
	shmRdonly    = 0o10000 // shmat
	shmRnd       = 0o20000
	shmRemap     = 0o40000
	shmExec      = 0o100000
	shmDest      = 0o1000 // in shm_perm.mode
	shmLocked    = 0o2000

	ShmLock    = 11
	ShmUnlock  = 12
	ShmStat    = 13
	ShmInfo    = 14
	ShmStatAny = 15

	shmDev  = 1 // the device number of Linux' internal tmpfs
	shmName = "/SYSV"
	shmCost = 512
)

// shmTable are the segments of the system. Its locks are innermost: mappings come and go
// (shmSeg.attached, detached) under the locks of kernel/mm.
type shmTable struct {
	ids[*shmSeg]
	pages atomic.Int64 // of all segments
}

// shmSeg is a segment. size and obj never change.
type shmSeg struct {
	base
	size                uint64
	obj                 *mm.Object
	cpid, lpid          int32
	atime, dtime, ctime int64 // seconds
	nattch              uint64
}

func (g *shmSeg) pages() int64 { return int64((g.size + hal.PageMask) >> hal.PageShift) }

// Shmget finds or makes a segment: ENOENT, EEXIST, EINVAL (size), EACCES; for a new one
// EINVAL (size), ENOSPC (pages, number), ENOMEM, EINVAL (kind of huge page). See shmget(2).
func (n *Namespace) Shmget(t *task.Thread, key int32, size uint64, flags uint32) (int32, error) {
	s := &n.shm
	var made *shmSeg // to be let go without locks
	id, err := s.get(t, key, flags, func(g *shmSeg) error {
		if size > g.size {
			return unix.EINVAL
		}
		return nil
	}, func() (*shmSeg, error) { return n.newSeg(t, key, size, flags) }, func(g *shmSeg) { made = g })
	if made != nil {
		n.dropSeg(made)
	}
	return id, err
}

func (n *Namespace) newSeg(t *task.Thread, key int32, size uint64, flags uint32) (*shmSeg, error) {
	s := &n.shm
	if size == 0 || size > n.Limits.ShmMax.Load() {
		return nil, unix.EINVAL
	}
	pages := (size-1)>>hal.PageShift + 1
	total, carry := bits.Add64(pages, uint64(s.pages.Load()), 0)
	if pages<<hal.PageShift < size || carry != 0 || total > n.Limits.ShmAll.Load() {
		return nil, unix.ENOSPC
	}
	if flags&shmHugeTLB != 0 {
		switch flags >> 26 & 0x3f { // SHM_HUGE_SHIFT, log2 of the page's size
		case 0, 21, 30:
			return nil, unix.ENOMEM // there are no huge pages
		}
		return nil, unix.EINVAL
	}
	if flags&shmNoReserve == 0 && pages > n.mem.TotalPages() {
		return nil, unix.ENOMEM
	}
	if err := n.charge(shmCost); err != nil {
		return nil, err
	}
	s.pages.Add(int64(pages))
	return &shmSeg{base: base{perm: newPerm(t, key, flags)}, size: size, cpid: t.Process().PID(), ctime: n.now(),
		obj: mm.NewObject(n.mem, nil, int64(pages<<hal.PageShift))}, nil
}

// dropSeg lets a segment that is in no table go. No lock may be held.
func (n *Namespace) dropSeg(g *shmSeg) {
	n.shm.pages.Add(-g.pages())
	n.uncharge(shmCost)
	g.obj.DecRef()
}

// Shmat maps a segment. EINVAL: id, address, one that is in use without SHM_REMAP;
// EACCES; EIDRM; ENOMEM. See shmat(2).
func (n *Namespace) Shmat(t *task.Thread, id int32, addr uint64, flags uint32) (hal.UserAddr, error) {
	m := mm.MapArgs{Prot: hal.ProtRead, Flags: unix.MAP_SHARED}
	want := uint32(ownR)
	switch {
	case id < 0, addr == 0 && flags&shmRemap != 0:
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
		want |= ownW
	} else {
		m.MaxProt = hal.ProtRead | hal.ProtExec
	}
	if flags&shmExec != 0 {
		m.Prot |= hal.ProtExec
		want |= 0o111
	}
	g, err := n.shm.find(id)
	if err != nil {
		return 0, err
	}
	if !g.perm.allows(t.Creds(), want) {
		g.mu.Unlock()
		return 0, unix.EACCES
	}
	g.nattch++ // so that it stays until it is mapped
	g.obj.IncRef()
	key := g.perm.Key
	g.mu.Unlock()
	m.Addr, m.Len, m.Object = hal.UserAddr(addr), g.size, g.obj
	m.Name, m.Dev, m.Ino = fmt.Sprintf(shmName+"%08x (deleted)", uint32(key)), shmDev, uint64(id)
	m.Opened = func(pid int32) {
		g.mu.Lock()
		g.nattch++
		g.lpid, g.atime = pid, n.now()
		g.mu.Unlock()
	}
	m.Closed = func(pid int32) {
		g.mu.Lock()
		g.lpid, g.dtime = pid, n.now()
		g.mu.Unlock()
		n.unpin(g)
	}
	at, err := t.Space().Mmap(t, m)
	if err == unix.EEXIST {
		err = unix.EINVAL
	}
	n.unpin(g)
	g.obj.DecRef()
	return at, err
}

// unpin counts one attachment less; a segment that is marked goes with the last.
func (n *Namespace) unpin(g *shmSeg) {
	n.shm.mu.Lock()
	g.mu.Lock()
	g.nattch--
	gone := n.unlinkSeg(g)
	g.mu.Unlock()
	n.shm.mu.Unlock()
	if gone {
		n.dropSeg(g)
	}
}

// unlinkSeg takes a segment out of the table if it is marked and not attached. Called
// with the table's and its own lock held.
func (n *Namespace) unlinkSeg(g *shmSeg) bool {
	if g.nattch > 0 || g.removed || g.perm.Mode&shmDest == 0 && !n.Limits.ShmRmidForced.Load() {
		return false
	}
	n.shm.unlink(g)
	return true
}

// ForceRmid destroys the segments that nobody has attached (sysctl shm_rmid_forced).
func (n *Namespace) ForceRmid() {
	var gone []*shmSeg
	n.shm.mu.Lock()
	for _, g := range n.shm.slots {
		g.mu.Lock()
		if n.unlinkSeg(g) {
			gone = append(gone, g)
		}
		g.mu.Unlock()
	}
	n.shm.mu.Unlock()
	for _, g := range gone {
		n.dropSeg(g)
	}
}

// Shmdt unmaps what is left of the segment that shmat mapped at an address: EINVAL if
// there is none. See shmdt(2).
func (n *Namespace) Shmdt(t *task.Thread, addr hal.UserAddr) error {
	ino, found := uint64(0), false
	if addr&hal.PageMask != 0 {
		return unix.EINVAL
	}
	for _, v := range t.Space().Maps(false) {
		if !v.Object || v.Dev != shmDev || !strings.HasPrefix(v.Name, shmName) ||
			v.Start < addr || v.Start-addr != hal.UserAddr(v.Offset) || found && v.Ino != ino {
			continue
		}
		ino, found = v.Ino, true
		if err := t.Space().Munmap(v.Start, uint64(v.End-v.Start)); err != nil {
			return err
		}
	}
	if !found {
		return unix.EINVAL
	}
	return nil
}

// ShmDS is struct shmid64_ds with what /proc/sysvipc/shm shows beside it; times are seconds.
type ShmDS struct {
	Perm                Perm
	Size                uint64
	Atime, Dtime, Ctime int64
	Cpid, Lpid          int32
	Nattch              uint64
	RSS                 uint64 // bytes
}

func (g *shmSeg) ds() ShmDS {
	return ShmDS{g.perm, g.size, g.atime, g.dtime, g.ctime, g.cpid, g.lpid, g.nattch, uint64(g.obj.Pages()) << hal.PageShift}
}

// ShmStat serves IPC_STAT, SHM_STAT and SHM_STAT_ANY: EINVAL, EACCES, EIDRM.
func (n *Namespace) ShmStat(t *task.Thread, id, cmd int32) (ShmDS, error) {
	g, err := n.shm.findRead(t, id, cmd != Stat, cmd == ShmStatAny)
	if err != nil {
		return ShmDS{}, err
	}
	defer g.mu.Unlock()
	return g.ds(), nil
}

// Shms lists all segments for /proc/sysvipc/shm.
func (n *Namespace) Shms() (out []ShmDS) {
	n.shm.each(func(g *shmSeg) { out = append(out, g.ds()) })
	return out
}

// ShmTotals are for IPC_INFO and SHM_INFO: the highest slot, segments, pages, and pages
// that are there.
func (n *Namespace) ShmTotals() (top, used int32, pages, rss uint64) {
	top, used = n.shm.top()
	n.shm.each(func(g *shmSeg) { rss += uint64(g.obj.Pages()) })
	return top, used, uint64(n.shm.pages.Load()), rss
}

// ShmSet is IPC_SET: EINVAL, EPERM.
func (n *Namespace) ShmSet(t *task.Thread, id int32, uid, gid, mode uint32) error {
	g, err := n.shm.change(t, id)
	if err != nil {
		return err
	}
	defer g.mu.Unlock()
	if err := g.perm.update(uid, gid, mode); err != nil {
		return err
	}
	g.ctime = n.now()
	return nil
}

// ShmRemove is IPC_RMID: EINVAL, EPERM. A segment that is attached goes later.
func (n *Namespace) ShmRemove(t *task.Thread, id int32) error {
	g, err := n.shm.change(t, id)
	if err != nil {
		return err
	}
	g.nattch++ // so that it stays until the table is locked
	g.perm.Mode |= shmDest
	g.mu.Unlock()
	n.shm.mu.Lock()
	g.mu.Lock()
	n.shm.hide(&g.base)
	g.mu.Unlock()
	n.shm.mu.Unlock()
	n.unpin(g)
	return nil
}

// ShmSetLocked is SHM_LOCK and SHM_UNLOCK: EINVAL, EPERM. Memory is never swapped, so the
// mark is all there is to it.
func (n *Namespace) ShmSetLocked(t *task.Thread, id int32, on bool) error {
	g, err := n.shm.find(id)
	if err != nil {
		return err
	}
	defer g.mu.Unlock()
	if c := t.Creds(); !c.Can(unix.CAP_IPC_LOCK) {
		if c.EUID != g.perm.CUID && c.EUID != g.perm.UID || on && t.Process().Limit(task.RlimitMemlock) == 0 {
			return unix.EPERM
		}
	}
	g.perm.Mode &^= shmLocked
	if on {
		g.perm.Mode |= shmLocked
	}
	return nil
}
