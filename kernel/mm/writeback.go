package mm

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// Sync writes the dirty pages of [off, off+n) back to the source and waits; an object
// without one has nothing to do. What mappings wrote is found by their dirty bits.
func (o *Object) Sync(c wait.Context, off, n int64) error {
	if o.src == nil || n <= 0 || o.resident.Load() == 0 {
		return nil
	}
	first := off >> hal.PageShift
	last := min(off+n-1, maxFilePages<<hal.PageShift) >> hal.PageShift
	o.mu.Lock()
	o.gatherDirty(first, last+1-first)
	o.mu.Unlock()
	var failed error
	buf := o.mem.spare.Get().(*[maxReadAhead]hal.PFN)
	defer o.mem.spare.Put(buf)
	for idx := first; idx <= last; {
		o.mu.Lock()
		at, k := o.dirtyRun(idx, last, buf[:])
		o.mu.Unlock()
		if k == 0 {
			break
		}
		err := o.src.WritePages(orBackground(c), at, buf[:k])
		if err == unix.EROFS && o.readOnlySource() {
			err = nil
		}
		o.mu.Lock()
		if err == nil {
			o.srcEnd.Store(max(o.srcEnd.Load(), min(at+int64(k), pagesFor(o.size.Load()))))
		}
		for i, f := range buf[:k] {
			if p := o.pages.get(at + int64(i)); err != nil && p != nil && p.frame() == f {
				*p |= slotDirty
			}
		}
		o.mu.Unlock()
		for _, f := range buf[:k] {
			o.mem.Unref(f)
		}
		if err != nil && failed == nil {
			failed = err
		}
		idx = at + int64(k)
	}
	return failed
}

// SyncAll is Sync of the whole file.
func (o *Object) SyncAll(c wait.Context) error {
	return o.Sync(c, 0, maxFilePages<<hal.PageShift)
}

// gatherDirty moves the dirty bits of shared mappings to the slots. Called with mu held.
func (o *Object) gatherDirty(first, n int64) {
	for v := o.maps; v != nil; v = v.onext {
		addr, length := v.window(first, n)
		if length == 0 || !v.shared() || v.maxProt&hal.ProtWrite == 0 {
			continue
		}
		v.space.HW.Walk(hal.UserAddr(addr), length, true, func(a hal.UserAddr, p hal.PTE) {
			if p.Dirty {
				o.markDirty(v.index(uint64(a)))
			}
		})
	}
}

// dirtyRun finds the next dirty pages in a row, marks them clean and references
// their frames. Called with mu held.
func (o *Object) dirtyRun(from, last int64, frames []hal.PFN) (at int64, n int) {
	idx := o.pages.next(from)
	for idx >= 0 && idx <= last && o.pages.state(idx)&slotDirty == 0 {
		idx = o.pages.next(idx + 1)
	}
	if idx < 0 || idx > last {
		return 0, 0
	}
	for n < len(frames) && idx+int64(n) <= last {
		p := o.pages.get(idx + int64(n))
		if p == nil || *p&slotDirty == 0 {
			break
		}
		*p &^= slotDirty
		frames[n] = p.frame()
		o.mem.Ref(frames[n])
		n++
	}
	return idx, n
}

// readOnlySource says that the object's pages are private to it (a copied-up image
// file): they live until the object dies.
func (o *Object) readOnlySource() bool {
	_, n := o.src.ImageRun(0, 1)
	return n > 0
}

// Prefetch reads [off, off+n) into the cache (readahead, MADV_WILLNEED,
// POSIX_FADV_WILLNEED), at most 2 MB; errors show at the access.
func (o *Object) Prefetch(c wait.Context, off, n int64) {
	if o.src == nil || n <= 0 || off < 0 {
		return
	}
	first := off >> hal.PageShift
	end := min(pagesFor(min(off+n, o.Size())), first+512)
	for idx := first; idx < end; idx++ {
		if o.mem.tight() {
			return
		}
		o.mu.Lock()
		_, st := o.peek(idx)
		o.mu.Unlock()
		if st == 0 && o.fill(c, idx, int(end-idx), false) != nil {
			return
		}
	}
}

// DropClean lets go of clean pages of [off, off+n) that nobody maps
// (POSIX_FADV_DONTNEED).
func (o *Object) DropClean(off, n int64) {
	if o.src == nil || n <= 0 || off < 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	last := (off + n - 1) >> hal.PageShift
	for i := o.pages.next(off >> hal.PageShift); i >= 0 && i <= last; i = o.pages.next(i + 1) {
		st := o.pages.state(i)
		if st&(slotBusy|slotDirty) == 0 && o.mem.refsOf(st.frame()) == 1 {
			o.remove(i)
		}
	}
}
