package mm

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// Madvise gives advice on [addr, addr+n). EINVAL: unknown advice, unaligned, locked
// pages to be dropped, shared pages to be wiped; EACCES: MADV_REMOVE without shared
// write access; ENOMEM: the range has holes (the rest is done). See madvise(2).
//
// Huge page and KSM advice is accepted and has no effect, as on a Linux with both
// configured and nothing to merge; MADV_COLLAPSE is EINVAL. MADV_FREE drops the pages
// at once, COLD and PAGEOUT do nothing.
func (s *Space) Madvise(c wait.Context, addr hal.UserAddr, n uint64, advice int) error {
	if !knownAdvice(advice) || addr&hal.PageMask != 0 {
		return unix.EINVAL
	}
	a := uint64(addr)
	length := pageUp(n)
	end := a + length
	if n != 0 && length == 0 || end < a {
		return unix.EINVAL
	}
	if end == a {
		return nil
	}
	switch advice {
	case unix.MADV_POPULATE_READ, unix.MADV_POPULATE_WRITE:
		return s.advisePopulate(c, a, end, advice == unix.MADV_POPULATE_WRITE)
	case unix.MADV_WILLNEED:
		return s.adviseWillNeed(c, a, end)
	case unix.MADV_REMOVE:
		return s.adviseRemove(c, a, end)
	}
	s.mu.Lock()
	dead, err := s.advise(a, end, advice)
	s.mu.Unlock()
	s.bury(dead)
	return err
}

func knownAdvice(advice int) bool {
	switch advice {
	case unix.MADV_NORMAL, unix.MADV_RANDOM, unix.MADV_SEQUENTIAL, unix.MADV_WILLNEED, unix.MADV_DONTNEED,
		unix.MADV_DONTNEED_LOCKED, unix.MADV_FREE, unix.MADV_REMOVE, unix.MADV_DONTFORK, unix.MADV_DOFORK,
		unix.MADV_MERGEABLE, unix.MADV_UNMERGEABLE, unix.MADV_HUGEPAGE, unix.MADV_NOHUGEPAGE,
		unix.MADV_DONTDUMP, unix.MADV_DODUMP, unix.MADV_WIPEONFORK, unix.MADV_KEEPONFORK,
		unix.MADV_COLD, unix.MADV_PAGEOUT, unix.MADV_POPULATE_READ, unix.MADV_POPULATE_WRITE, unix.MADV_COLLAPSE:
		return true
	}
	return false
}

// advise is the advice that changes or empties mappings, mapping by mapping.
func (s *Space) advise(a, end uint64, advice int) (dead *vma, err error) {
	hole := false
	v := s.vmas.above(a)
	for a < end {
		if v == nil || v.start >= end {
			hole = true
			break
		}
		if v.start > a {
			hole = true
			a = v.start
		}
		to := min(v.end, end)
		set, clear, e := adviceFlags(v, advice)
		if e == nil {
			e = s.adviceDrop(v, a, to, advice)
		}
		if e == nil && v.flags != v.flags&^clear|set {
			if v, e = s.carve(v, a, to); e == nil {
				v.flags = v.flags&^clear | set
				v = s.merge(v, &dead)
			}
		}
		if e != nil {
			return dead, e
		}
		a = to
		v = s.vmas.above(a)
	}
	if hole {
		err = unix.ENOMEM
	}
	return dead, err
}

// adviceFlags is what an advice sets and clears in a mapping, or its error.
func adviceFlags(v *vma, advice int) (set, clear vmFlags, err error) {
	switch advice {
	case unix.MADV_NORMAL:
		clear = vmRandRead | vmSeqRead
	case unix.MADV_RANDOM:
		set, clear = vmRandRead, vmSeqRead
	case unix.MADV_SEQUENTIAL:
		set, clear = vmSeqRead, vmRandRead
	case unix.MADV_DONTFORK:
		set = vmDontFork
	case unix.MADV_DOFORK:
		clear = vmDontFork
	case unix.MADV_WIPEONFORK:
		if v.obj != nil || v.shared() {
			err = unix.EINVAL
		}
		set = vmWipeOnFork
	case unix.MADV_KEEPONFORK:
		clear = vmWipeOnFork
	case unix.MADV_DONTDUMP:
		set = vmDontDump
	case unix.MADV_DODUMP:
		if v.flags&vmSpecial != 0 {
			err = unix.EINVAL
		}
		clear = vmDontDump
	case unix.MADV_MERGEABLE:
		if !v.shared() && v.flags&vmSpecial == 0 {
			set = vmMergeable
		}
	case unix.MADV_UNMERGEABLE:
		clear = vmMergeable
	case unix.MADV_HUGEPAGE:
		set, clear = vmHuge, vmNoHuge
	case unix.MADV_NOHUGEPAGE:
		set, clear = vmNoHuge, vmHuge
	case unix.MADV_COLLAPSE:
		err = unix.EINVAL // nothing can be made huge
	case unix.MADV_FREE:
		if v.obj != nil || v.flags&vmLocked != 0 {
			err = unix.EINVAL
		}
	case unix.MADV_DONTNEED, unix.MADV_COLD, unix.MADV_PAGEOUT:
		if v.flags&(vmLocked|vmSpecial) != 0 {
			err = unix.EINVAL
		}
	case unix.MADV_DONTNEED_LOCKED:
		if v.flags&vmSpecial != 0 {
			err = unix.EINVAL
		}
	}
	return set, clear, err
}

// adviceDrop empties part of a mapping where the advice says so: anonymous pages come
// back as zeroes, others from their object.
func (s *Space) adviceDrop(v *vma, a, to uint64, advice int) error {
	switch advice {
	case unix.MADV_DONTNEED, unix.MADV_DONTNEED_LOCKED, unix.MADV_FREE:
	default:
		return nil
	}
	s.notePeak()
	if o := v.obj; o != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
	}
	s.HW.Unmap(hal.UserAddr(a), to-a, func(at hal.UserAddr, p hal.PTE) {
		if p.Dirty && v.shared() {
			v.obj.markDirty(v.index(uint64(at)))
		}
		s.dropPTE(p)
	})
	return nil
}

// advisePopulate brings pages in. Errors are those of madvise(2): ENOMEM for a hole,
// EINVAL where the mapping does not allow the access, EFAULT beyond a file's end.
func (s *Space) advisePopulate(c wait.Context, a, end uint64, write bool) error {
	access := hal.ProtRead
	if write {
		access = hal.ProtWrite
	}
	legible := uint64(0) // up to where it may be read
	for start := a; a < end; a += hal.PageSize {
		if s.dies(c, a-start) {
			return unix.EINTR
		}
		if !write && a >= legible {
			// A mapping to be written is not refused a read by the CPU, but by check_vma_flags.
			s.mu.RLock()
			v := s.vmas.at(a)
			bad := v != nil && v.prot&hal.ProtRead == 0
			if v != nil {
				legible = v.end
			}
			s.mu.RUnlock()
			if bad {
				return unix.EINVAL
			}
		}
		err := s.HandleFault(c, hal.UserAddr(a), access)
		f, bad := err.(*FaultError)
		switch {
		case err == nil:
		case !bad:
			return err
		case f.Signal == int(unix.SIGBUS):
			return unix.EFAULT
		case f.Code == segvMapErr:
			return unix.ENOMEM
		default:
			return unix.EINVAL
		}
	}
	return nil
}

// objects collects what [a, end) shows, each object referenced, for work that must
// not hold the lock; hole says whether part of the range is not mapped.
func (s *Space) objects(a, end uint64, want func(*vma) error) (ps []piece, hole bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for v := s.vmas.above(a); v != nil && v.start < end; v = v.next() {
		hole = hole || v.start > a
		if err = want(v); err != nil {
			return ps, hole, err
		}
		lo, hi := max(a, v.start), min(end, v.end)
		if v.obj != nil {
			v.obj.IncRef()
			ps = append(ps, piece{v.obj, v.off + int64(lo-v.start), int64(hi - lo), v.shared()})
		}
		a = hi
	}
	return ps, hole || a < end, nil
}

// piece is a range of an object, in bytes.
type piece struct {
	o      *Object
	off, n int64
	shared bool
}

func (s *Space) adviseWillNeed(c wait.Context, a, end uint64) error {
	ps, hole, err := s.objects(a, end, func(*vma) error { return nil })
	for _, p := range ps {
		p.o.Prefetch(c, p.off, p.n)
		p.o.DecRef()
	}
	if err == nil && hole {
		err = unix.ENOMEM
	}
	return err
}

func (s *Space) adviseRemove(c wait.Context, a, end uint64) error {
	ps, hole, err := s.objects(a, end, func(v *vma) error {
		switch {
		case v.flags&vmLocked != 0, v.obj == nil:
			return unix.EINVAL
		case !v.shared() || v.maxProt&hal.ProtWrite == 0:
			return unix.EACCES
		}
		return nil
	})
	for _, p := range ps {
		if e := p.o.PunchHoleCtx(c, p.off, p.n); e != nil && err == nil {
			err = e
		}
		p.o.DecRef()
	}
	if err == nil && hole {
		err = unix.ENOMEM
	}
	return err
}

// Msync writes back what was changed through shared mappings. EINVAL: flags, not
// aligned; ENOMEM: holes (the rest is done); EBUSY: MS_INVALIDATE of locked pages. Only
// MS_SYNC waits. See msync(2).
func (s *Space) Msync(c wait.Context, addr hal.UserAddr, n uint64, flags int) error {
	const both = unix.MS_ASYNC | unix.MS_SYNC
	if flags&^(both|unix.MS_INVALIDATE) != 0 || addr&hal.PageMask != 0 || flags&both == both {
		return unix.EINVAL
	}
	a := uint64(addr)
	end := a + pageUp(n)
	if end < a {
		return unix.ENOMEM
	}
	if end == a {
		return nil
	}
	ps, hole, err := s.objects(a, end, func(v *vma) error {
		if flags&unix.MS_INVALIDATE != 0 && v.flags&vmLocked != 0 {
			return unix.EBUSY
		}
		return nil
	})
	for _, p := range ps {
		if err == nil && p.shared && flags&unix.MS_SYNC != 0 {
			err = p.o.Sync(c, p.off, p.n)
		}
		p.o.DecRef()
	}
	if err == nil && hole {
		err = unix.ENOMEM
	}
	return err
}
