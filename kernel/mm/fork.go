package mm

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

// forkBatch is how many page table entries Fork copies in one go.
const forkBatch = 256

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

func (s *Space) fork() (*Space, error) {
	n, err := NewSpace(s.mem)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	n.limits, n.mmapBase, n.brkStart, n.brkV = s.limits, s.mmapBase, s.brkStart, s.brkV
	for v := s.vmas.first(); v != nil && err == nil; v = v.next() {
		if v.flags&vmDontFork == 0 {
			err = s.forkVMA(n, v)
		}
	}
	s.mu.Unlock()
	if err != nil {
		n.DecUsers()
		return nil, err
	}
	return n, nil
}

func (s *Space) forkVMA(n *Space, v *vma) error {
	if !s.mem.budget.Charge(vmaCost) {
		return unix.ENOMEM
	}
	w := &vma{start: v.start, end: v.end, off: v.off, obj: v.obj, back: v.back,
		prot: v.prot, maxProt: v.maxProt, flags: v.flags &^ vmLocked}
	w.back.incRef()
	if w.obj != nil {
		w.obj.IncRef()
	}
	n.add(w)
	if v.shared() || v.flags&(vmWipeOnFork|vmSpecial) != 0 {
		return nil
	}
	return s.forkPages(n, v)
}

// forkPages shares v's private pages with n, read-only in both.
func (s *Space) forkPages(n *Space, v *vma) error {
	if o := v.obj; o != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
	}
	start := hal.UserAddr(v.start)
	if v.prot&hal.ProtWrite != 0 {
		s.HW.Protect(start, v.size(), v.pteProt(false))
	}
	buf := s.mem.forks.Get().(*[forkBatch]hal.Mapping)
	defer s.mem.forks.Put(buf)
	batch, pages := buf[:0], 0
	var err error
	flush := func() {
		if err == nil && len(batch) > 0 {
			if n.HW.Map(batch) != nil {
				n.undo(v, batch)
				err = unix.ENOMEM
			} else {
				n.rss.Add(int64(pages))
			}
		}
		batch, pages = buf[:0], 0
	}
	// A walk may hold the source's page table lock, so it only collects; the
	// address to go on from bounds what one walk collects.
	for at, end := start, hal.UserAddr(v.end); at < end && err == nil; {
		to := min(at+forkBatch<<hal.PageShift, end)
		s.HW.Walk(at, uint64(to-at), false, func(a hal.UserAddr, p hal.PTE) {
			if s.mem.kindOf(p.Frame) != KindAnon {
				return
			}
			s.mem.Ref(p.Frame)
			pages++
			prot := p.Prot &^ hal.ProtWrite
			if k := len(batch) - 1; k >= 0 {
				b := &batch[k]
				run := hal.UserAddr(b.Pages) << hal.PageShift
				if b.Addr+run == a && b.Frame+hal.PFN(b.Pages) == p.Frame && b.Prot == prot {
					b.Pages++
					return
				}
			}
			batch = append(batch, hal.Mapping{Addr: a, Frame: p.Frame, Pages: 1, Prot: prot})
		})
		flush()
		at = to
	}
	return err
}
