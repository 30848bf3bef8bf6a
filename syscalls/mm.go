package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/fs/mqueue"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/task"
	"kiln/net"
)

var mmEntries = []Entry{
	{Nr: unix.SYS_MMAP, Name: "mmap", Func: sysMmap, Support: Full},
	{Nr: unix.SYS_MUNMAP, Name: "munmap", Func: sysMunmap, Support: Full},
	{Nr: unix.SYS_MPROTECT, Name: "mprotect", Func: sysMprotect, Support: Full},
	{Nr: unix.SYS_REMAP_FILE_PAGES, Name: "remap_file_pages", Func: sysRemapFilePages, Support: Full},
	{Nr: unix.SYS_MREMAP, Name: "mremap", Func: sysMremap, Support: Full},
	{Nr: unix.SYS_BRK, Name: "brk", Func: sysBrk, Support: Full},
	{Nr: unix.SYS_MADVISE, Name: "madvise", Func: sysMadvise, Support: Partial,
		Note: "MADV_HWPOISON and MADV_SOFT_OFFLINE are EINVAL, as without CONFIG_MEMORY_FAILURE"},
	{Nr: unix.SYS_MSYNC, Name: "msync", Func: sysMsync, Support: Full},
	{Nr: unix.SYS_MINCORE, Name: "mincore", Func: sysMincore, Support: Full},
	{Nr: unix.SYS_MLOCK, Name: "mlock", Func: sysMlock, Support: Full},
	{Nr: unix.SYS_MLOCK2, Name: "mlock2", Func: sysMlock2, Support: Full},
	{Nr: unix.SYS_MUNLOCK, Name: "munlock", Func: sysMunlock, Support: Full},
	{Nr: unix.SYS_MLOCKALL, Name: "mlockall", Func: sysMlockall, Support: Full},
	{Nr: unix.SYS_MUNLOCKALL, Name: "munlockall", Func: sysMunlockall, Support: Full},
	{Nr: unix.SYS_PKEY_MPROTECT, Name: "pkey_mprotect", Func: sysPkeyMprotect, Support: Stub, Note: "no protection keys: only key -1"},
	{Nr: unix.SYS_PKEY_ALLOC, Name: "pkey_alloc", Func: sysPkeyAlloc, Support: Stub, Note: "ENOSPC, as on a CPU without protection keys"},
	{Nr: unix.SYS_PKEY_FREE, Name: "pkey_free", Func: sysPkeyFree, Support: Stub, Note: "EINVAL, as on a CPU without protection keys"},
}

// sysMmap maps memory. The descriptor's checks come here, everything else in
// mm.Space.Mmap. Errors before those: EINVAL (offset not page aligned), EBADF,
// EACCES (descriptor not readable; shared and writable without write access),
// ENODEV. See mmap(2).
func sysMmap(t *task.Thread, a *Args) (uintptr, error) {
	m := mm.MapArgs{
		Addr: hal.UserAddr(a[0]), Len: a[1], Prot: hal.Prot(a[2] & 7),
		Flags: int(uint32(a[3])), Offset: int64(a[5]),
	}
	if a[5]&hal.PageMask != 0 {
		return 0, unix.EINVAL
	}
	if m.Flags&unix.MAP_ANONYMOUS != 0 {
		m.Offset = 0
		addr, err := t.Space().Mmap(t, m)
		return uintptr(addr), err
	}
	f := t.FDs().Get(int32(a[4]))
	if f == nil {
		return 0, unix.EBADF
	}
	defer f.DecRef()
	if f.Flags()&unix.O_PATH != 0 {
		return 0, unix.EBADF
	}
	if m.Flags&unix.MAP_HUGETLB != 0 {
		return 0, unix.EINVAL
	}
	return mmapFile(t, f, &m)
}

// mmapFile maps a file. What speaks against it is left to mm.Space.Mmap, which answers in
// Linux's order.
func mmapFile(t *task.Thread, f *vfs.File, m *mm.MapArgs) (uintptr, error) {
	shared := m.Flags&unix.MAP_TYPE != unix.MAP_PRIVATE
	m.MaxProt = protAll
	if shared && !f.Writable() {
		m.MaxProt &^= hal.ProtWrite
	}
	noexec := f.Path.Valid() && f.Path.Mount.Flags()&unix.MS_NOEXEC != 0 || mqueue.Of(f) != nil // SB_I_NOEXEC
	if noexec {
		m.MaxProt &^= hal.ProtExec
	}
	sock, isSock := f.Ops.(net.Socket)
	obj, err := f.Ops.Object(t)
	switch {
	case shared && m.Prot&hal.ProtWrite != 0 && !f.Writable(), !f.Readable():
		m.Denied = unix.EACCES
	case noexec && m.Prot&hal.ProtExec != 0:
		m.Denied = unix.EPERM
	case isSock:
		obj, m.Refused = mapSocket(t, sock, m)
	case err != nil:
		m.Denied = err
	}
	if m.Denied == nil && m.Refused == nil {
		if s, ok := f.Ops.(vfs.Mapper); ok {
			writable, err := s.BeginMap(shared, m.Prot&hal.ProtWrite != 0)
			if m.Denied = err; err == nil {
				defer s.EndMap(shared)
			}
			if err == nil && !writable {
				m.MaxProt &^= hal.ProtWrite
			}
		}
		if s, ok := f.Ops.(vfs.OffsetMapper); ok {
			off, err := s.MapOffset(int64(m.Offset), m.Len)
			if m.Refused = err; err == nil {
				m.Offset = off
			}
		}
	}
	if m.Denied != nil || m.Refused != nil {
		_, err := t.Space().Mmap(t, *m)
		if err == nil {
			err = unix.EINVAL // cannot be: it says at least what it was given
		}
		return 0, err
	}
	if obj == nil {
		// /dev/zero: anonymous memory by another name (mem(4)).
		m.Flags |= unix.MAP_ANONYMOUS
		m.Offset = 0
		addr, err := t.Space().Mmap(t, *m)
		return uintptr(addr), err
	}
	m.Object = obj
	if at, err := f.Ops.Attr(t); err == nil {
		m.Dev, m.Ino = at.Dev, at.Ino
	}
	m.File = f
	addr, err := t.Space().Mmap(t, *m)
	if isSock {
		obj.DecRef()
	}
	return uintptr(addr), err
}

const protAll = hal.ProtRead | hal.ProtWrite | hal.ProtExec

// mapSocket is mmap's answer of sockets: ENODEV, but TCP knows mappings without a page, to
// be read only, for TCP_ZEROCOPY_RECEIVE (EPERM otherwise), and AF_PACKET those of its
// rings (EINVAL).
func mapSocket(t *task.Thread, s net.Socket, m *mm.MapArgs) (*mm.Object, error) {
	switch {
	case s.Domain() == unix.AF_PACKET:
		p, ok := s.(interface {
			MapRing(off int64, length uint64) (*mm.Object, error)
		})
		if !ok {
			return nil, unix.EINVAL
		}
		return p.MapRing(int64(m.Offset), m.Len)
	case s.Domain() != unix.AF_INET && s.Domain() != unix.AF_INET6, s.Type() != unix.SOCK_STREAM:
		return nil, unix.ENODEV
	case m.Prot&(hal.ProtWrite|hal.ProtExec) != 0:
		return nil, unix.EPERM
	}
	m.MaxProt = hal.ProtRead
	return mm.NewObject(t.Kernel().Mem, nil, 0), nil
}

// sysMunmap removes mappings: EINVAL, ENOMEM (a split beyond the limit). See munmap(2).
func sysMunmap(t *task.Thread, a *Args) (uintptr, error) {
	return 0, t.Space().Munmap(hal.UserAddr(a[0]), a[1])
}

// sysMprotect changes protection: EINVAL (both directions, not aligned), 0 for no length,
// ENOMEM (wraps), EINVAL (unknown bits, a mapping that does not grow), ENOMEM, EACCES.
// PROT_GROWSUP is EINVAL: no mapping grows up on x86. See mprotect(2).
func sysMprotect(t *task.Thread, a *Args) (uintptr, error) {
	const grows = unix.PROT_GROWSDOWN | unix.PROT_GROWSUP
	addr, n, prot := a[0], a[1], a[2]&^grows
	switch end := addr + (n+hal.PageMask)&^hal.PageMask; {
	case a[2]&grows == grows, addr&hal.PageMask != 0:
		return 0, unix.EINVAL
	case n == 0:
		return 0, nil
	case end <= addr:
		return 0, unix.ENOMEM
	case prot&^(7|protSem) != 0:
		return 0, unix.EINVAL
	case a[2]&unix.PROT_GROWSUP != 0:
		if _, ok := t.Space().Find(hal.UserAddr(addr)); !ok {
			return 0, unix.ENOMEM
		}
		return 0, unix.EINVAL
	}
	if a[2]&unix.PROT_GROWSDOWN != 0 {
		return 0, t.Space().MprotectDown(hal.UserAddr(addr), n, hal.Prot(prot&7))
	}
	return 0, t.Space().Mprotect(hal.UserAddr(addr), n, hal.Prot(prot&7))
}

// sysRemapFilePages maps another part of a shared file over pages of its mapping (start,
// size, 0, page of the file, flags), as Linux does since 4.0: with a mapping of its own.
// EINVAL: a protection, no length, wraps, or not within one shared mapping. See
// remap_file_pages(2).
func sysRemapFilePages(t *task.Thread, a *Args) (uintptr, error) {
	if a[2] != 0 {
		return 0, unix.EINVAL
	}
	return 0, t.Space().RemapFile(hal.UserAddr(a[0]), a[1], a[3])
}

// sysMremap resizes or moves a mapping. See mremap(2).
func sysMremap(t *task.Thread, a *Args) (uintptr, error) {
	addr, err := t.Space().Mremap(t, hal.UserAddr(a[0]), a[1], a[2], int(uint32(a[3])), hal.UserAddr(a[4]))
	return uintptr(addr), err
}

// sysBrk sets the break and returns the one in force; it has no errors. See brk(2).
func sysBrk(t *task.Thread, a *Args) (uintptr, error) {
	return uintptr(t.Space().Brk(t, hal.UserAddr(a[0]))), nil
}

// sysMadvise gives advice about a range. See madvise(2).
func sysMadvise(t *task.Thread, a *Args) (uintptr, error) {
	return 0, t.Space().Madvise(t, hal.UserAddr(a[0]), a[1], int(int32(a[2])))
}

// sysMsync writes mappings back. See msync(2).
func sysMsync(t *task.Thread, a *Args) (uintptr, error) {
	return 0, t.Space().Msync(t, hal.UserAddr(a[0]), a[1], int(int32(a[2])))
}

// sysMincore says which pages are in memory: EINVAL, ENOMEM, EFAULT. See mincore(2).
func sysMincore(t *task.Thread, a *Args) (uintptr, error) {
	if a[0]&hal.PageMask != 0 {
		return 0, unix.EINVAL
	}
	if _, err := checkRange(a[0], a[1]); err != nil {
		return 0, unix.ENOMEM
	}
	at := hal.UserAddr(a[2])
	if _, err := checkRange(a[2], (a[1]+hal.PageMask)>>hal.PageShift); err != nil {
		return 0, err
	}
	return 0, t.Space().Mincore(t, hal.UserAddr(a[0]), a[1], func(vec []byte) error {
		err := t.CopyOut(at, vec)
		at += hal.UserAddr(len(vec))
		return err
	})
}

// sysMlock, sysMlock2, sysMunlock, sysMlockall and sysMunlockall keep memory
// resident. See mlock(2).
func sysMlock(t *task.Thread, a *Args) (uintptr, error) {
	return 0, t.Space().Mlock(t, hal.UserAddr(a[0]), a[1], false)
}

func sysMlock2(t *task.Thread, a *Args) (uintptr, error) {
	if a[2]&^unix.MLOCK_ONFAULT != 0 {
		return 0, unix.EINVAL
	}
	return 0, t.Space().Mlock(t, hal.UserAddr(a[0]), a[1], a[2] != 0)
}

func sysMunlock(t *task.Thread, a *Args) (uintptr, error) {
	return 0, t.Space().Munlock(hal.UserAddr(a[0]), a[1])
}

func sysMlockall(t *task.Thread, a *Args) (uintptr, error) {
	f := a[0]
	if f == 0 || f&^(unix.MCL_CURRENT|unix.MCL_FUTURE|unix.MCL_ONFAULT) != 0 || f == unix.MCL_ONFAULT {
		return 0, unix.EINVAL
	}
	return 0, t.Space().MlockAll(t, f&unix.MCL_CURRENT != 0, f&unix.MCL_FUTURE != 0, f&unix.MCL_ONFAULT != 0)
}

func sysMunlockall(t *task.Thread, _ *Args) (uintptr, error) {
	t.Space().MunlockAll()
	return 0, nil
}

// sysPkeyMprotect, sysPkeyAlloc and sysPkeyFree answer as Linux does on a CPU
// without protection keys (pkeys(7)).
func sysPkeyMprotect(t *task.Thread, a *Args) (uintptr, error) {
	if int32(a[3]) != -1 {
		return 0, unix.EINVAL
	}
	return sysMprotect(t, a)
}

func sysPkeyAlloc(_ *task.Thread, a *Args) (uintptr, error) {
	if a[0] != 0 || a[1]&^3 != 0 {
		return 0, unix.EINVAL
	}
	return 0, unix.ENOSPC
}

func sysPkeyFree(*task.Thread, *Args) (uintptr, error) { return 0, unix.EINVAL }
