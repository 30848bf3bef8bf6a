package mm

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// SetBrkStart places the break (loader).
func (s *Space) SetBrkStart(addr hal.UserAddr) {
	s.mu.Lock()
	s.brkStart, s.brkV = uint64(addr), uint64(addr)
	s.mu.Unlock()
}

// BrkRange is where the heap begins and ends.
func (s *Space) BrkRange() (start, end hal.UserAddr) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return hal.UserAddr(s.brkStart), hal.UserAddr(s.brkV)
}

// Brk sets the break and returns the one in force, which is the old one if the new is
// below the start, over RLIMIT_DATA, RLIMIT_AS or RLIMIT_MEMLOCK, or runs into a mapping. See brk(2).
func (s *Space) Brk(c wait.Context, addr hal.UserAddr) hal.UserAddr {
	s.mu.Lock()
	old := s.brkV
	dead := s.brk(c, uint64(addr))
	now := s.brkV
	lock := s.lockAll && !s.lockLazy
	s.mu.Unlock()
	s.bury(dead)
	if lock && now > old {
		_ = s.populate(c, pageUp(old), pageUp(now))
	}
	return hal.UserAddr(now)
}

func (s *Space) brk(c wait.Context, to uint64) (dead *vma) {
	if to < s.brkStart || s.brkStart == 0 || to > userTop-hal.PageSize {
		return nil
	}
	if to-s.brkStart > s.limits.Data {
		return nil
	}
	from, end := pageUp(s.brkV), pageUp(to)
	switch {
	case end < from:
		if s.cut(end, from) != nil {
			return nil
		}
		dead = s.unmapRange(end, from)
	case end > from:
		if n := s.vmas.above(from); n != nil && end+hal.PageSize > n.lowEdge() {
			return nil
		}
		v := &vma{start: from, end: end, prot: hal.ProtRead | hal.ProtWrite, maxProt: protAll, flags: vmAccount}
		if s.lockAll {
			if uint64(s.locked+v.pages()) > s.memLock(c)>>hal.PageShift {
				return nil
			}
			v.flags |= vmLocked
		}
		if s.vmas.n > maxMaps || !s.mayExpand(v.pages(), v.prot, v.flags) || v.flags&vmAccount != 0 && !s.mem.enough(v.pages()) || !s.mem.budget.Charge(vmaCost) {
			return nil
		}
		s.add(v)
		s.merge(v, &dead)
	}
	s.brkV = to
	return dead
}

// FutexKey identifies the word behind addr across processes: private memory by
// space, shared by object and offset.
type FutexKey struct {
	Owner  any // *Space or *Object
	Offset uint64
}

// FutexKey returns the key; shared says the op had no FUTEX_PRIVATE_FLAG. EFAULT if
// unmapped. A private operation does not look at the mapping, as in Linux.
func (s *Space) FutexKey(c wait.Context, addr hal.UserAddr, shared bool) (FutexKey, error) {
	if addr >= hal.UserTop {
		return FutexKey{}, unix.EFAULT
	}
	if !shared {
		return FutexKey{s, uint64(addr)}, nil
	}
	return s.sharedFutexKey(addr)
}

func (s *Space) sharedFutexKey(addr hal.UserAddr) (FutexKey, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := s.find(uint64(addr))
	switch {
	case v == nil, v.prot == 0:
		return FutexKey{}, unix.EFAULT
	case v.shared():
		return FutexKey{v.obj, uint64(v.off) + uint64(addr) - v.start}, nil
	}
	// Not the word that private operations name (FUT_OFF_MMSHARED).
	return FutexKey{s, uint64(addr) | 1}, nil
}
