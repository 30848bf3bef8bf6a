package mm

import "kiln/kernel/hal"

// link and unlink keep the list of the object's mappings. Called with mu held.
func (o *Object) link(v *vma) {
	v.onext, v.oprev = o.maps, nil
	if o.maps != nil {
		o.maps.oprev = v
	}
	o.maps = v
}

func (o *Object) unlink(v *vma) {
	if v.oprev != nil {
		v.oprev.onext = v.onext
	} else {
		o.maps = v.onext
	}
	if v.onext != nil {
		v.onext.oprev = v.oprev
	}
	v.onext, v.oprev = nil, nil
}

// WritableMapping says whether a shared mapping shows the object that writes, or may do so
// after mprotect.
func (o *Object) WritableMapping() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for v := o.maps; v != nil; v = v.onext {
		if v.shared() && v.maxProt&hal.ProtWrite != 0 {
			return true
		}
	}
	return false
}

// window is the address range where v shows pages [first, first+n), empty if none.
func (v *vma) window(first, n int64) (addr, length uint64) {
	base := v.off >> hal.PageShift
	lo, hi := max(first-base, 0), min(first+n-base, v.pages())
	if lo >= hi {
		return 0, 0
	}
	return v.start + uint64(lo)<<hal.PageShift, uint64(hi-lo) << hal.PageShift
}

// unmapPages takes pages [first, first+n) out of every mapping; private copies go too
// if copies is set (truncate), and stay otherwise (holes, reclaim). What the program
// wrote through a shared mapping is remembered in the slots. Called with mu held.
func (o *Object) unmapPages(first, n int64, copies bool) {
	for v := o.maps; v != nil; v = v.onext {
		addr, length := v.window(first, n)
		if length == 0 {
			continue
		}
		s := v.space
		if copies || v.shared() {
			s.HW.Unmap(hal.UserAddr(addr), length, func(a hal.UserAddr, p hal.PTE) {
				if p.Dirty && v.shared() {
					o.markDirty(v.index(uint64(a)))
				}
				s.dropPTE(p)
			})
			continue
		}
		var mine []hal.UserAddr
		s.HW.Walk(hal.UserAddr(addr), length, false, func(a hal.UserAddr, p hal.PTE) {
			if o.mem.kindOf(p.Frame) != KindAnon {
				mine = append(mine, a)
			}
		})
		for _, a := range mine {
			s.HW.Unmap(a, hal.PageSize, s.unref)
		}
	}
}

func (o *Object) markDirty(idx int64) {
	if p := o.pages.get(idx); p != nil && *p != 0 {
		*p = *p&^slotBlank | slotDirty
	}
}

// Mapped says whether a mapping shows the object.
func (o *Object) Mapped() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.maps != nil
}
