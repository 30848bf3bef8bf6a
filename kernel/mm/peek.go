package mm

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// Peek and Poke are a tracer's access to a program's memory (FOLL_FORCE): protection does
// not count, except that what is written must be writable or private, of which the program
// then gets its own copy. They copy all or return EFAULT with the bytes done.
func (s *Space) Peek(c wait.Context, dst []byte, src hal.UserAddr) (int, error) {
	n, err := s.CopyIn(c, dst, src)
	for err == unix.EFAULT && n < len(dst) {
		at := src + hal.UserAddr(n)
		part := dst[n:min(len(dst), n+hal.PageSize-int(at&hal.PageMask))]
		if err = s.force(c, at, false, func(b []byte) { copy(part, b) }); err != nil {
			return n, err
		}
		n += len(part)
		var m int
		m, err = s.CopyIn(c, dst[n:], src+hal.UserAddr(n))
		n += m
	}
	return n, err
}

// Poke is Peek's other direction.
func (s *Space) Poke(c wait.Context, dst hal.UserAddr, src []byte) (int, error) {
	n, err := s.CopyOut(c, dst, src)
	for err == unix.EFAULT && n < len(src) {
		at := dst + hal.UserAddr(n)
		part := src[n:min(len(src), n+hal.PageSize-int(at&hal.PageMask))]
		if err = s.force(c, at, true, func(b []byte) { copy(b, part) }); err != nil {
			return n, err
		}
		n += len(part)
		var m int
		m, err = s.CopyOut(c, dst+hal.UserAddr(n), src[n:])
		n += m
	}
	return n, err
}

// force calls use with the bytes from addr to the end of its page, under locks.
func (s *Space) force(c wait.Context, addr hal.UserAddr, write bool, use func(b []byte)) error {
	if addr >= hal.UserTop {
		return unix.EFAULT
	}
	for {
		v, obj, idx := s.tryForce(uint64(addr), write, use)
		switch v {
		case served:
			return nil
		case wantMem:
			if !s.mem.reclaimOrWait(c) {
				return unix.EFAULT
			}
		case wantPage:
			f, err := obj.Page(c, idx)
			obj.DecRef()
			if err != nil {
				return unix.EFAULT
			}
			defer s.mem.Unref(f) // so that it is there at the next try
		default:
			return unix.EFAULT
		}
	}
}

// tryForce is one try; as tryFault it names the page that must be read first.
func (s *Space) tryForce(a uint64, write bool, use func(b []byte)) (verdict, *Object, int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := s.find(a)
	if v == nil || write && (v.shared() || v.maxProt&hal.ProtWrite == 0) {
		return badProt, nil, 0
	}
	page := a &^ hal.PageMask
	st := &s.stripe[page>>21%numStripes]
	st.mu.Lock()
	defer st.mu.Unlock()
	if v.obj != nil {
		// Truncation and reclaim take pages, copies too, from the table with the object
		// held alone: the page is used before they can.
		v.obj.mu.Lock()
		defer v.obj.mu.Unlock()
	}
	pte, ok := s.HW.Query(hal.UserAddr(page))
	if !ok {
		r, obj, idx := served, (*Object)(nil), int64(0)
		if v.obj == nil {
			r = s.faultAnon(v, st, page, hal.ProtRead)
		} else {
			r, obj, idx = s.faultObject(v, st, page, hal.ProtRead)
		}
		if r != served {
			return r, obj, idx
		}
		if pte, ok = s.HW.Query(hal.UserAddr(page)); !ok {
			return badMap, nil, 0
		}
	}
	if write && !s.mem.exclusive(pte.Frame) {
		if r := s.breakCopy(v, st, page, pte.Frame, true); r != served {
			return r, nil, 0
		}
		pte, _ = s.HW.Query(hal.UserAddr(page))
	}
	use(s.mem.Bytes(pte.Frame)[a&hal.PageMask:])
	return served, nil, 0
}

// NextDumped is the first page of [addr, end) that a core file must hold the bytes of, end if
// there is none: what is absent from private memory without a file, or from shared memory, is zero,
// and behind a file's end there is nothing. It may stop short of that page, behind addr.
func (s *Space) NextDumped(addr, end hal.UserAddr) hal.UserAddr {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := s.find(uint64(addr))
	if v == nil {
		return end
	}
	end = min(end, hal.UserAddr(v.end))
	if v.obj != nil {
		return v.nextInObject(addr, end)
	}
	for n := hal.UserAddr(hal.PageSize); addr < end; n = min(2*n, moveStride) {
		n = min(n, end-addr)
		found := end
		s.HW.Walk(addr, uint64(n), false, func(a hal.UserAddr, p hal.PTE) {
			if found == end && p.Frame != s.mem.zero {
				found = a
			}
		})
		if found != end {
			return found
		}
		addr += n
	}
	return end
}

func (v *vma) nextInObject(addr, end hal.UserAddr) hal.UserAddr {
	o, idx := v.obj, v.index(uint64(addr))
	o.mu.Lock()
	defer o.mu.Unlock()
	next := idx
	if v.shared() && o.src == nil {
		next = o.pages.next(idx)
	}
	if next < 0 || next >= pagesFor(o.size.Load()) {
		return end
	}
	return min(addr+hal.UserAddr(next-idx)<<hal.PageShift, end)
}
