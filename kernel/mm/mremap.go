package mm

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// mremap's flags (linux/mman.h).
const (
	mremapMayMove   = 1
	mremapFixed     = 2
	mremapDontUnmap = 4
)

// Mremap grows, shrinks or moves a mapping. EINVAL: flags, alignment, new length 0,
// overlap, old length 0 of a private mapping; EFAULT: no mapping, or the old range
// leaves it; EAGAIN: locked memory limit; ENOMEM: no room, limits. See mremap(2).
func (s *Space) Mremap(c wait.Context, old hal.UserAddr, oldLen, newLen uint64, flags int, newAddr hal.UserAddr) (hal.UserAddr, error) {
	switch {
	case flags&^(mremapMayMove|mremapFixed|mremapDontUnmap) != 0,
		flags&mremapFixed != 0 && flags&mremapMayMove == 0,
		flags&mremapDontUnmap != 0 && (flags&mremapMayMove == 0 || oldLen != newLen),
		old&hal.PageMask != 0:
		return 0, unix.EINVAL
	}
	oldLen, newLen = pageUp(oldLen), pageUp(newLen)
	if newLen == 0 {
		return 0, unix.EINVAL
	}
	r := remap{s: s, old: uint64(old), oldLen: oldLen, newLen: newLen, to: uint64(newAddr), flags: flags}
	s.mu.Lock()
	r.lockMax = s.memLock(c)
	at, err := r.run()
	s.mu.Unlock()
	s.bury(r.dead)
	if err != nil {
		return 0, err
	}
	if r.lock && newLen > oldLen {
		_ = s.populate(c, at+oldLen, at+newLen)
	}
	return hal.UserAddr(at), nil
}

// remap is one mremap under way, under Space.mu.
type remap struct {
	s                       *Space
	old, oldLen, newLen, to uint64
	flags                   int
	dead                    *vma
	lock                    bool
	lockMax                 uint64 // bytes that may be locked
}

func (r *remap) bury(d *vma) {
	for d != nil {
		next := d.onext
		d.onext, r.dead = r.dead, d
		d = next
	}
}

func (r *remap) run() (uint64, error) {
	s := r.s
	v := s.vmas.at(r.old)
	if v == nil {
		return 0, unix.EFAULT
	}
	if r.flags&(mremapFixed|mremapDontUnmap) != 0 {
		return r.fixed()
	}
	if r.oldLen >= r.newLen {
		return r.old, r.unmap(r.old+r.newLen, r.oldLen-r.newLen)
	}
	v, err := r.resizable()
	if err != nil {
		return 0, err
	}
	if r.old+r.oldLen == v.end && r.expandable(v) {
		n := int64((r.newLen - r.oldLen) >> hal.PageShift)
		s.account(v, n)
		s.resize(v, v.start, r.old+r.newLen)
		r.lock = v.flags&vmLocked != 0
		s.merge(v, &r.dead)
		return r.old, nil
	}
	if r.flags&mremapMayMove == 0 {
		return 0, unix.ENOMEM
	}
	to, err := s.place(&MapArgs{Len: r.newLen})
	if err != nil {
		return 0, err
	}
	return to, r.move(v, to)
}

// fixed is MREMAP_FIXED and MREMAP_DONTUNMAP (mremap_to in Linux).
func (r *remap) fixed() (uint64, error) {
	s := r.s
	switch {
	case r.to&hal.PageMask != 0, r.newLen > userTop, r.to > userTop-r.newLen,
		r.old+r.oldLen > r.to && r.to+r.newLen > r.old:
		return 0, unix.EINVAL
	case s.vmas.n+2 >= maxMaps-3:
		return 0, unix.ENOMEM
	}
	if r.flags&mremapFixed != 0 {
		if r.to < minAddr {
			return 0, unix.EPERM
		}
		if err := r.unmap(r.to, r.newLen); err != nil {
			return 0, err
		}
	}
	if r.oldLen > r.newLen {
		if err := r.unmap(r.old+r.newLen, r.oldLen-r.newLen); err != nil {
			return 0, err
		}
		r.oldLen = r.newLen
	}
	v, err := r.resizable()
	if err != nil {
		return 0, err
	}
	if r.flags&mremapDontUnmap != 0 && !s.mayExpand(int64(r.oldLen>>hal.PageShift), v.prot, v.flags) {
		return 0, unix.ENOMEM
	}
	to := r.to
	if r.flags&mremapFixed == 0 {
		if to, err = s.place(&MapArgs{Addr: hal.UserAddr(r.to), Len: r.newLen}); err != nil {
			return 0, err
		}
	}
	return to, r.move(v, to)
}

// unmap takes n bytes from start on away, as munmap does.
func (r *remap) unmap(start, n uint64) error {
	if n == 0 {
		return nil
	}
	if start > userTop || n > userTop-start {
		return unix.EINVAL
	}
	end := start + n
	if err := r.s.cut(start, end); err != nil {
		return err
	}
	r.bury(r.s.unmapRange(start, end))
	return nil
}

// resizable tests what Linux' vma_to_resize does.
func (r *remap) resizable() (*vma, error) {
	s := r.s
	v := s.vmas.at(r.old)
	switch {
	case v == nil:
		return nil, unix.EFAULT
	case r.oldLen == 0 && !v.shared():
		return nil, unix.EINVAL
	case r.flags&mremapDontUnmap != 0 && v.flags&vmSpecial != 0:
		return nil, unix.EINVAL
	case r.oldLen > v.end-r.old:
		return nil, unix.EFAULT
	case r.newLen == r.oldLen:
		return v, nil
	}
	n := int64((r.newLen - r.oldLen) >> hal.PageShift)
	off := v.off + int64(r.old-v.start)
	switch {
	case r.newLen > userTop:
		return nil, unix.ENOMEM
	case off+int64(r.newLen) < off:
		return nil, unix.EINVAL
	case v.flags&vmSpecial != 0:
		return nil, unix.EFAULT
	case v.flags&vmLocked != 0 && uint64(s.locked+n) > r.lockMax>>hal.PageShift:
		return nil, unix.EAGAIN
	case !s.mayExpand(n, v.prot, v.flags):
		return nil, unix.ENOMEM
	case v.flags&vmAccount != 0 && !s.mem.enough(n):
		return nil, unix.ENOMEM
	}
	return v, nil
}

func (r *remap) expandable(v *vma) bool {
	end := r.old + r.newLen
	if end < r.old || end > userTop {
		return false
	}
	n := v.next()
	return n == nil || end <= n.lowEdge()
}

// move makes a mapping like v's part at r.old stand at to, with its pages.
func (r *remap) move(v *vma, to uint64) error {
	s := r.s
	if s.vmas.n >= maxMaps-3 || !s.mem.budget.Charge(vmaCost) {
		return unix.ENOMEM
	}
	var err error
	if r.oldLen > 0 {
		if v, err = s.carve(v, r.old, r.old+r.oldLen); err != nil {
			s.mem.budget.Uncharge(vmaCost)
			return err
		}
	}
	w := newVMA(vma{start: to, end: to + r.newLen, off: v.off + int64(r.old-v.start), obj: v.obj, back: v.back,
		prot: v.prot, maxProt: v.maxProt, flags: v.flags, policy: v.policy})
	w.back.incRef(s)
	if w.obj != nil {
		w.obj.IncRef()
	}
	s.add(w)
	r.lock = w.flags&vmLocked != 0
	if r.oldLen > 0 {
		if err = s.movePages(v, w, r.oldLen); err != nil {
			r.bury(s.unmapRange(w.start, w.end))
			return err
		}
		if r.flags&mremapDontUnmap != 0 {
			n := v.pages()
			s.account(v, -n)
			v.flags &^= vmLocked
			s.account(v, n)
			s.merge(v, &r.dead)
		} else {
			r.bury(s.unmapRange(v.start, v.end))
		}
	}
	s.merge(w, &r.dead)
	return nil
}

// moveBatch is how many bytes move in one go, moveStride how many are looked through for pages
// at a time: a mapping may be half of what a program has, with a page here and there.
const (
	moveBatch  = 256 << hal.PageShift
	moveStride = 1 << 30
)

// movePages takes the pages of the first n bytes of v to the same place in w. If page
// tables cannot be had, it brings back what it moved: ENOMEM.
func (s *Space) movePages(v, w *vma, n uint64) error {
	if o := v.obj; o != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
	}
	if s.eachRun(v.start, n, func(at, k uint64) bool { return s.shift(v, at, at-v.start+w.start, k) }) {
		return nil
	}
	s.eachRun(w.start, n, func(at, k uint64) bool {
		s.shift(w, at, at-w.start+v.start, k)
		return true
	})
	return unix.ENOMEM
}

// eachRun calls f with pieces of [start, start+n) that hold all its pages, in order, until f
// says false.
func (s *Space) eachRun(start, n uint64, f func(at, n uint64) bool) bool {
	for at, end := start, start+n; at < end; at += moveStride {
		lo, hi := uint64(0), uint64(0)
		s.HW.Walk(hal.UserAddr(at), min(moveStride, end-at), false, func(a hal.UserAddr, _ hal.PTE) {
			if hi == 0 {
				lo = uint64(a)
			}
			hi = uint64(a) + hal.PageSize
		})
		for ; lo < hi; lo += moveBatch {
			if !f(lo, min(moveBatch, hi-lo)) {
				return false
			}
		}
	}
	return true
}

// shift moves the pages of [from, from+n) to to. If that fails some may be at either
// place, none is lost: what cannot be put anywhere was dropped only when even the
// old page tables are gone, which cannot be had again.
func (s *Space) shift(v *vma, from, to, n uint64) bool {
	var batch []hal.Mapping
	s.HW.Unmap(hal.UserAddr(from), n, func(a hal.UserAddr, p hal.PTE) {
		if p.Dirty && v.shared() {
			v.obj.markDirty(v.index(uint64(a)))
		}
		batch = append(batch, hal.Mapping{Addr: a, Frame: p.Frame, Pages: 1, Prot: p.Prot})
	})
	if len(batch) == 0 {
		return true
	}
	for i := range batch {
		batch[i].Addr += hal.UserAddr(to - from)
	}
	if s.HW.Map(batch) == nil {
		return true
	}
	s.HW.Unmap(hal.UserAddr(to), n, nil)
	for i := range batch {
		batch[i].Addr -= hal.UserAddr(to - from)
	}
	if s.HW.Map(batch) != nil {
		s.HW.Unmap(hal.UserAddr(from), n, nil)
		for _, m := range batch {
			s.dropPTE(hal.PTE{Frame: m.Frame})
		}
	}
	return false
}
