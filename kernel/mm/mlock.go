package mm

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// Mlock keeps [addr, addr+n) in memory (there is no swap: it holds the page cache back
// from reclaim) and, unless onFault, brings it in. EPERM: the limit is 0; ENOMEM: over
// the limit, or holes; EINVAL: wraps; EAGAIN: no memory to bring it in. See mlock(2).
func (s *Space) Mlock(c wait.Context, addr hal.UserAddr, n uint64, onFault bool) error {
	a := uint64(addr) &^ hal.PageMask
	length := pageUp(n + uint64(addr)&hal.PageMask)
	end := a + length
	s.mu.Lock()
	var dead *vma
	err := func() error {
		limit := s.memLock(c)
		if limit == 0 {
			return unix.EPERM
		}
		if end >= a {
			more := int64(length>>hal.PageShift) - s.lockedIn(a, end)
			if uint64(s.locked+more) > limit>>hal.PageShift {
				return unix.ENOMEM
			}
		}
		return s.setLocked(a, end, true, &dead)
	}()
	s.mu.Unlock()
	s.bury(dead)
	if err != nil || onFault {
		return err
	}
	switch err := s.populate(c, a, end); err.(type) {
	case nil:
		return nil
	case *FaultError:
		return unix.ENOMEM
	}
	return unix.EAGAIN
}

// privileged is a thread that may lock as much as it likes (CAP_IPC_LOCK).
type privileged interface{ MayLock() bool }

// memLock is how many bytes the caller may lock: RLIMIT_MEMLOCK unless it is privileged.
// Called with the lock held.
func (s *Space) memLock(c wait.Context) uint64 {
	if p, ok := c.(privileged); ok && p.MayLock() {
		return noLimit
	}
	return s.limits.MemLock
}

// Munlock is Mlock's opposite.
func (s *Space) Munlock(addr hal.UserAddr, n uint64) error {
	a := uint64(addr) &^ hal.PageMask
	end := a + pageUp(n+uint64(addr)&hal.PageMask)
	s.mu.Lock()
	var dead *vma
	err := s.setLocked(a, end, false, &dead)
	s.mu.Unlock()
	s.bury(dead)
	return err
}

// lockedIn counts the locked pages in [a, end).
func (s *Space) lockedIn(a, end uint64) (n int64) {
	for v := s.vmas.above(a); v != nil && v.start < end; v = v.next() {
		if v.flags&vmLocked != 0 {
			n += int64((min(v.end, end) - max(v.start, a)) >> hal.PageShift)
		}
	}
	return n
}

// setLocked marks the mappings in [a, end), up to the first hole (ENOMEM).
func (s *Space) setLocked(a, end uint64, on bool, dead **vma) error {
	if end < a {
		return unix.EINVAL
	}
	for a < end {
		v := s.vmas.at(a)
		if v == nil {
			return unix.ENOMEM
		}
		to := min(v.end, end)
		if (v.flags&vmLocked != 0) != on && v.flags&vmSpecial == 0 {
			var err error
			if v, err = s.carve(v, a, to); err != nil {
				return err
			}
			s.account(v, -v.pages())
			v.flags ^= vmLocked
			s.account(v, v.pages())
			s.merge(v, dead)
		}
		a = to
	}
	return nil
}

// MlockAll is mlockall: current locks what is mapped, future what will be; onFault
// leaves the pages to come by themselves. EPERM: the limit is 0; ENOMEM: over it; EINTR: the
// thread is to die.
func (s *Space) MlockAll(c wait.Context, current, future, onFault bool) error {
	s.mu.Lock()
	limit := s.memLock(c)
	switch {
	case limit == 0:
		s.mu.Unlock()
		return unix.EPERM
	case current && uint64(s.total) > limit>>hal.PageShift:
		s.mu.Unlock()
		return unix.ENOMEM
	}
	s.lockAll, s.lockLazy = future, future && onFault
	var dead *vma
	var ranges [][2]uint64
	if current {
		dead = s.lockEach(true)
		for v := s.vmas.first(); v != nil; v = v.next() {
			ranges = append(ranges, [2]uint64{v.start, v.end})
		}
	}
	s.mu.Unlock()
	s.bury(dead)
	if onFault {
		return nil
	}
	return s.populateAll(c, ranges)
}

// populateAll is populate for many ranges, each as far as it goes, until memory is exhausted;
// EINTR when the thread is to die.
func (s *Space) populateAll(c wait.Context, ranges [][2]uint64) error {
	done := uint64(0)
	for _, r := range ranges {
		switch err := s.populate(c, r[0], r[1]); {
		case err == unix.EINTR || dying(c):
			return unix.EINTR
		case err == unix.ENOMEM: // after all patience: there is none for the next range either
			return nil
		}
		if done += r[1] - r[0]; done >= stride {
			done = 0
			if s.pause(c) {
				return unix.EINTR
			}
		}
	}
	return nil
}

// MunlockAll is munlockall.
func (s *Space) MunlockAll() {
	s.mu.Lock()
	s.lockAll, s.lockLazy = false, false
	dead := s.lockEach(false)
	s.mu.Unlock()
	s.bury(dead)
}

func (s *Space) lockEach(on bool) (dead *vma) {
	for v := s.vmas.first(); v != nil; v = v.next() {
		if (v.flags&vmLocked != 0) != on && v.flags&vmSpecial == 0 {
			s.account(v, -v.pages())
			v.flags ^= vmLocked
			s.account(v, v.pages())
			v = s.merge(v, &dead)
		}
	}
	return dead
}

// Mincore says of each page of [addr, addr+n) whether it is in memory, by f(index,
// resident), in order; f runs without locks. EINVAL: not aligned; ENOMEM: holes. An
// error of f ends it. Of a large range it lets others run from time to time; EINTR: the thread is
// to die. See mincore(2).
func (s *Space) Mincore(c wait.Context, addr hal.UserAddr, n uint64, f func(vec []byte) error) error {
	a := uint64(addr)
	if a&hal.PageMask != 0 {
		return unix.EINVAL
	}
	if a > userTop || n > userTop-a {
		return unix.ENOMEM
	}
	var vec [hal.PageSize]byte
	for end := a + pageUp(n); a < end; {
		pages := min((end-a)>>hal.PageShift, uint64(len(vec)))
		pages, err := s.resident(a, vec[:pages])
		if err != nil {
			return err
		}
		if err := f(vec[:pages]); err != nil {
			return err
		}
		a += pages << hal.PageShift
		if done := a - uint64(addr); done%(16*stride) == 0 && s.pause(c) {
			return unix.EINTR
		}
	}
	return nil
}

// resident fills vec as far as the mapping at a goes: ENOMEM if there is none. What lies
// before a hole is told.
func (s *Space) resident(a uint64, vec []byte) (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := s.find(a)
	if v == nil {
		return 0, unix.ENOMEM
	}
	vec = vec[:min(uint64(len(vec)), (v.end-a)>>hal.PageShift)]
	clear(vec)
	s.HW.Walk(hal.UserAddr(a), uint64(len(vec))<<hal.PageShift, false, func(at hal.UserAddr, _ hal.PTE) {
		vec[(uint64(at)-a)>>hal.PageShift] = 1
	})
	if o := v.obj; o != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		for i, idx := 0, v.index(a); i < len(vec); i++ {
			if _, st := o.peek(idx + int64(i)); st != 0 && st&slotBusy == 0 {
				vec[i] = 1
			}
		}
	}
	return uint64(len(vec)), nil
}
