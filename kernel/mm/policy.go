package mm

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

// Policy is a memory policy (set_mempolicy(2)): the mode in the low byte, its flags as
// MPOL_F_* has them above. There is one memory node, so that a mode that names nodes names
// node 0, and a policy has no effect; 0 is the default one.
type Policy uint16

// Modes that the memory manager tells apart, and flags (uapi/linux/mempolicy.h).
const (
	PolicyBind          = 2
	PolicyLocal         = 4
	PolicyPreferredMany = 5

	PolicyStatic   = 1 << 15
	PolicyRelative = 1 << 14
)

// policyNames are the modes in /proc/PID/numa_maps.
var policyNames = [...]string{"default", "prefer", "bind", "interleave", "local", "prefer (many)"}

// String is the policy as numa_maps shows it (mpol_to_str), with its node where it names one.
func (p Policy) String() string {
	m := p & 0xff
	s := policyNames[m]
	switch {
	case p&PolicyStatic != 0:
		s += "=static"
	case p&PolicyRelative != 0:
		s += "=relative"
	}
	if m != 0 && m != PolicyLocal {
		s += ":0"
	}
	return s
}

// SetPolicy gives the mappings of [addr, addr+n) a policy. EFAULT: holes, unless it is the
// default policy and something is mapped; ENOMEM. See mbind(2).
func (s *Space) SetPolicy(addr hal.UserAddr, n uint64, p Policy) error {
	a := uint64(addr)
	end := a + n
	s.mu.Lock()
	var dead *vma
	err := s.setPolicy(a, end, p, &dead)
	s.mu.Unlock()
	s.bury(dead)
	return err
}

func (s *Space) setPolicy(a, end uint64, p Policy, dead **vma) error {
	if p != 0 && s.covered(a, end) != int64((end-a)>>hal.PageShift) || s.covered(a, end) == 0 {
		return unix.EFAULT
	}
	for v := s.vmas.above(a); a < end && v != nil && v.start < end; v = s.vmas.above(a) {
		to := min(v.end, end)
		if v.policy != p {
			var err error
			if v, err = s.carve(v, max(a, v.start), to); err != nil {
				return err
			}
			v.policy = p
			s.merge(v, dead)
		}
		a = to
	}
	return nil
}

// PolicyAt is the policy of the mapping at addr; false if there is none.
func (s *Space) PolicyAt(addr hal.UserAddr) (Policy, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := s.vmas.at(uint64(addr))
	if v == nil {
		return 0, false
	}
	return v.policy, true
}

// HomeNode checks what set_mempolicy_home_node does of [addr, addr+n): ENOENT where a
// mapping has no policy of its own, EOPNOTSUPP for one that names no preferred nodes.
func (s *Space) HomeNode(addr hal.UserAddr, n uint64) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	err := error(unix.ENOENT)
	for v := s.vmas.above(uint64(addr)); v != nil && v.start < uint64(addr)+n; v = v.next() {
		switch v.policy & 0xff {
		case 0:
		case PolicyBind, PolicyPreferredMany:
			err = nil
		default:
			return unix.EOPNOTSUPP
		}
	}
	return err
}

// NodeOf is the memory node of the page at addr, which is 0. EFAULT: nothing is mapped,
// or anonymous memory that was not written; ENOENT: a file's page that is not mapped yet.
func (s *Space) NodeOf(addr hal.UserAddr) (int, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := s.vmas.at(uint64(addr))
	if v == nil {
		return 0, unix.EFAULT
	}
	pte, ok := s.HW.Query(addr &^ hal.PageMask)
	switch {
	case !ok && v.obj != nil:
		return 0, unix.ENOENT
	case !ok || pte.Frame == s.mem.zero:
		return 0, unix.EFAULT
	}
	return 0, nil
}

// RemapFile is remap_file_pages: [addr, addr+n) of a shared mapping shows the object from
// page pgoff on. EINVAL: no length, wraps, or not within one shared mapping. EOVERFLOW: beyond
// what a file can have.
func (s *Space) RemapFile(addr hal.UserAddr, n, pgoff uint64) error {
	a, n := uint64(addr)&^uint64(hal.PageMask), n&^uint64(hal.PageMask)
	end := a + n
	if end <= a || pgoff+n>>hal.PageShift < pgoff {
		return unix.EINVAL
	}
	s.mu.Lock()
	v := s.vmas.at(a)
	if v == nil || !v.shared() || v.obj == nil || v.flags&vmSpecial != 0 || end > v.end {
		s.mu.Unlock()
		return unix.EINVAL
	}
	if pgoff > (1<<63-1-n)>>hal.PageShift {
		s.mu.Unlock()
		return unix.EOVERFLOW
	}
	var dead *vma
	v, err := s.carve(v, a, end)
	if err == nil {
		o := v.obj
		o.IncRef() // it has no other mapping, perhaps
		back := v.back
		back.incRef(s)
		w := vma{start: a, end: end, off: int64(pgoff << hal.PageShift), obj: o, back: back,
			prot: v.prot, maxProt: v.maxProt, flags: v.flags, policy: v.policy}
		if s.mem.budget.Charge(vmaCost) {
			dead = s.unmapRange(a, end)
			x := newVMA(w)
			s.add(x)
			s.merge(x, &dead)
		} else {
			back.decRef(s)
			o.DecRef()
			err = unix.ENOMEM
		}
	}
	s.mu.Unlock()
	s.bury(dead)
	return err
}
