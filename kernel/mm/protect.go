package mm

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

// Mprotect changes the protection of [addr, addr+n). EINVAL: unaligned; ENOMEM: the
// range wraps or has a hole (what lies before the hole is changed, as in Linux), too
// many mappings, or overcommit; EACCES: beyond what the file allows. See mprotect(2).
func (s *Space) Mprotect(addr hal.UserAddr, n uint64, p hal.Prot) error {
	return s.protect(addr, n, p, false)
}

// MprotectDown is Mprotect with PROT_GROWSDOWN: the change begins where the growing mapping
// does. EINVAL: one that does not grow; ENOMEM: none in the range.
func (s *Space) MprotectDown(addr hal.UserAddr, n uint64, p hal.Prot) error {
	return s.protect(addr, n, p, true)
}

func (s *Space) protect(addr hal.UserAddr, n uint64, p hal.Prot, down bool) error {
	a := uint64(addr)
	if a&hal.PageMask != 0 {
		return unix.EINVAL
	}
	if n == 0 {
		return nil
	}
	end := a + pageUp(n)
	if end <= a {
		return unix.ENOMEM
	}
	s.mu.Lock()
	if down {
		v := s.vmas.above(a)
		switch {
		case v == nil || v.start >= end:
			s.mu.Unlock()
			return unix.ENOMEM
		case v.flags&vmGrowsDown == 0:
			s.mu.Unlock()
			return unix.EINVAL
		}
		a = v.start
	}
	dead, err := s.mprotect(a, end, p)
	s.mu.Unlock()
	s.bury(dead)
	return err
}

func (s *Space) mprotect(a, end uint64, p hal.Prot) (dead *vma, err error) {
	for a < end {
		v := s.vmas.at(a)
		if v == nil {
			return dead, unix.ENOMEM
		}
		to := min(v.end, end)
		if p&^v.maxProt != 0 {
			return dead, unix.EACCES
		}
		if v.prot != p {
			if v, err = s.carve(v, a, to); err != nil {
				return dead, err
			}
			if err = s.reprotect(v, p); err != nil {
				return dead, err
			}
			s.merge(v, &dead)
		}
		a = to
	}
	return dead, nil
}

// carve makes [start, end) of v a mapping of its own and returns it.
func (s *Space) carve(v *vma, start, end uint64) (*vma, error) {
	var err error
	if v.start < start {
		if v, err = s.split(v, start); err != nil {
			return nil, err
		}
	}
	if end < v.end {
		if _, err = s.split(v, end); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// reprotect gives a whole mapping another protection.
func (s *Space) reprotect(v *vma, p hal.Prot) error {
	n := v.pages()
	f := v.flags
	if accountable(p, f) && f&vmAccount == 0 {
		if !s.mem.enough(n) {
			return unix.ENOMEM
		}
		f |= vmAccount
	}
	if isData(p, f) && !isData(v.prot, v.flags) && uint64(s.data+n) > s.limits.Data>>hal.PageShift {
		return unix.ENOMEM
	}
	s.account(v, -n)
	v.prot, v.flags = p, f
	s.account(v, n)
	if o := v.obj; o != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
	}
	start := hal.UserAddr(v.start)
	if p&hal.ProtWrite == 0 || v.shared() && v.obj.src == nil {
		s.HW.Protect(start, v.size(), tableProt(p, true))
		return nil
	}
	// Pages that others share stay read-only until somebody writes.
	s.HW.Protect(start, v.size(), tableProt(p, false))
	var runs []hal.Mapping
	s.HW.Walk(start, v.size(), false, func(a hal.UserAddr, pte hal.PTE) {
		if !s.mem.writable(v, pte.Frame) {
			return
		}
		if n := len(runs); n > 0 && runs[n-1].Addr+hal.UserAddr(runs[n-1].Pages)<<hal.PageShift == a {
			runs[n-1].Pages++
		} else {
			runs = append(runs, hal.Mapping{Addr: a, Pages: 1})
		}
	})
	for _, r := range runs {
		s.HW.Protect(r.Addr, uint64(r.Pages)<<hal.PageShift, tableProt(p, true))
	}
	return nil
}
