package mm

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

// Fork is a copy-on-write copy, for fork(2). ENOMEM if page tables or mappings
// cannot be had. Only private pages are copied: what comes from an object, the child
// faults in.
func (s *Space) Fork() (*Space, error) {
	for {
		n, err := s.fork()
		if err != unix.ENOMEM || !s.mem.reclaimSome() {
			return n, err
		}
	}
}

// sharing is the pages of one fork.
type sharing struct {
	mem   *Memory
	pages int64
	last  hal.PFN
}

// keep takes a reference on a private page; what comes from an object stays behind.
func (k *sharing) keep(f hal.PFN) bool {
	fr := &k.mem.frames[f]
	if Kind(fr.kind.Load()) != KindAnon {
		return false
	}
	fr.refs.Add(1)
	k.pages++
	k.last = f
	return true
}

func (s *Space) fork() (*Space, error) {
	n, err := NewSpace(s.mem)
	if err != nil {
		return nil, err
	}
	k := sharing{mem: s.mem}
	keep := k.keep
	s.mu.Lock()
	n.limits, n.mmapBase, n.brkStart, n.brkV = s.limits, s.mmapBase, s.brkStart, s.brkV
	for v := s.vmas.first(); v != nil && err == nil; v = v.next() {
		if v.flags&vmDontFork != 0 {
			continue
		}
		if err = s.forkVMA(n, v, keep); err == hal.ErrNoMemory {
			s.mem.Unref(k.last) // it found no place
			k.pages--
			err = unix.ENOMEM
		}
	}
	s.HW.Settle()
	n.rss.Store(k.pages)
	s.mu.Unlock()
	if err != nil {
		n.DecUsers()
		return nil, err
	}
	return n, nil
}

// forkVMA gives n the mapping v and those of its pages that keep accepts.
func (s *Space) forkVMA(n *Space, v *vma, keep func(hal.PFN) bool) error {
	if !s.mem.budget.Charge(vmaCost) {
		return unix.ENOMEM
	}
	w := newVMA(vma{start: v.start, end: v.end, off: v.off, obj: v.obj, back: v.back,
		prot: v.prot, maxProt: v.maxProt, flags: v.flags &^ vmLocked, policy: v.policy})
	w.back.incRef(s)
	if w.obj != nil {
		w.obj.IncRef()
	}
	n.add(w)
	if v.shared() || v.flags&(vmWipeOnFork|vmSpecial) != 0 {
		return nil
	}
	if o := v.obj; o != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
	}
	return s.HW.Fork(n.HW, hal.UserAddr(v.start), v.size(), keep)
}
