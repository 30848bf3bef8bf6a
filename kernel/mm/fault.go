package mm

import (
	"math/bits"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// FaultError is an access that the program may not make: the signal Linux sends.
type FaultError struct {
	Signal int // SIGSEGV or SIGBUS
	Code   int // SEGV_MAPERR, SEGV_ACCERR, BUS_ADRERR
	Addr   hal.UserAddr
}

func (e *FaultError) Error() string { return "bad access to program memory" }

// si_code values of SIGSEGV and SIGBUS (sigaction(2)).
const (
	segvMapErr = 1
	segvAccErr = 2
	busAdrErr  = 2
)

// verdict is what a try at a fault came to.
type verdict uint8

const (
	served   verdict = iota
	badMap           // SIGSEGV, no mapping
	badProt          // SIGSEGV, not allowed
	badBus           // SIGBUS, beyond the end of the file
	wantPage         // the object must read the page first
	wantMem          // out of frames: reclaim and try again
	wantGrow         // below a stack
	wantUser         // a program fills the page in (userfaultfd)
)

// HandleFault serves a page fault. nil: resolved, run again. *FaultError: send the
// signal. ENOMEM: the machine is out of memory (OOM kill). It may block.
//
// The usual fault allocates nothing on the Go heap.
func (s *Space) HandleFault(c wait.Context, addr hal.UserAddr, access hal.Prot) error {
	return s.handleFault(c, addr, access, false)
}

// HandleUserFault is HandleFault for a fault in ring 3, where a signal may end the wait for
// a page that a program fills in.
func (s *Space) HandleUserFault(c wait.Context, addr hal.UserAddr, access hal.Prot) error {
	return s.handleFault(c, addr, access, true)
}

func (s *Space) handleFault(c wait.Context, addr hal.UserAddr, access hal.Prot, user bool) error {
	if addr >= hal.UserTop {
		return &FaultError{int(unix.SIGSEGV), segvMapErr, addr}
	}
	a := uint64(addr)
	v, obj, idx := s.tryFault(a, access)
	if v == served {
		return nil
	}
	return s.slowFault(c, a, access, user, v, obj, idx)
}

// exhausted has a victim chosen, unless c is one, and is ENOMEM.
func (s *Space) exhausted(c wait.Context) error {
	if !dying(c) {
		s.mem.outOfMemory(s)
	}
	return unix.ENOMEM
}

// slowFault goes on with a fault that needs more than locks.
func (s *Space) slowFault(c wait.Context, a uint64, access hal.Prot, user bool, v verdict, obj *Object, idx int64) error {
	var pinned hal.PFN
	hold := false
	defer func() {
		if hold {
			s.mem.Unref(pinned)
		}
	}()
	for {
		switch v {
		case served:
			return nil
		case badMap:
			return &FaultError{int(unix.SIGSEGV), segvMapErr, hal.UserAddr(a)}
		case badProt:
			return &FaultError{int(unix.SIGSEGV), segvAccErr, hal.UserAddr(a)}
		case badBus:
			return &FaultError{int(unix.SIGBUS), busAdrErr, hal.UserAddr(a)}
		case wantGrow:
			if !s.growStack(c, a) {
				return &FaultError{int(unix.SIGSEGV), segvMapErr, hal.UserAddr(a)}
			}
		case wantUser:
			if err := s.userFault(c, a, access, user); err != nil || user {
				return err
			}
		case wantMem:
			if !s.mem.reclaimOrWait(c) {
				return s.exhausted(c)
			}
		case wantPage:
			// The page stays pinned until it is mapped, so that reclaim cannot
			// take it away again and again.
			if hold {
				s.mem.Unref(pinned)
				hold = false
			}
			f, err := obj.Page(c, idx)
			obj.DecRef()
			switch err {
			case nil:
				pinned, hold = f, true
			case unix.ENOMEM:
				return s.exhausted(c)
			default:
				return &FaultError{int(unix.SIGBUS), busAdrErr, hal.UserAddr(a)}
			}
		}
		v, obj, idx = s.tryFault(a, access)
	}
}

// tryFault serves the fault if that takes neither I/O nor reclaim. For wantPage it
// returns the object, referenced, and the page.
func (s *Space) tryFault(a uint64, access hal.Prot) (verdict, *Object, int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := s.find(a)
	if v == nil {
		if n := s.vmas.above(a); n != nil && n.flags&vmGrowsDown != 0 {
			return wantGrow, nil, 0
		}
		return badMap, nil, 0
	}
	if access&^v.prot != 0 && !(access == hal.ProtRead && v.prot != 0) {
		return badProt, nil, 0
	}
	a &^= hal.PageMask
	st := &s.stripe[a>>21%numStripes]
	st.mu.Lock()
	defer st.mu.Unlock()
	if v.obj == nil {
		return s.faultAnon(v, st, a, access), nil, 0
	}
	v.obj.mu.Lock()
	defer v.obj.mu.Unlock()
	return s.faultObject(v, st, a, access)
}

// faultAnon serves private memory without a file. Called with the stripe held.
func (s *Space) faultAnon(v *vma, st *stripe, a uint64, access hal.Prot) verdict {
	if pte, ok := s.HW.Query(hal.UserAddr(a)); ok {
		return s.faultPresent(v, st, a, access, pte)
	}
	if v.uffd != nil {
		return wantUser
	}
	if access&hal.ProtWrite == 0 && s.mem.zero != 0 {
		return s.mapOne(st, a, s.mem.zero, v.pteProt(false))
	}
	n := s.freshRun(v, st, a)
	got := 0
	for ; got < n; got++ {
		f, ok := s.mem.tryAlloc(KindAnon, true)
		if !ok {
			break
		}
		st.batch[got] = hal.Mapping{Addr: hal.UserAddr(a + uint64(got)<<hal.PageShift), Frame: f, Pages: 1, Prot: v.prot}
	}
	if got == 0 {
		return wantMem
	}
	if s.HW.Map(st.batch[:got]) != nil {
		return s.undo(v, st.batch[:got])
	}
	s.rss.Add(int64(got))
	st.last = a + uint64(got-1)<<hal.PageShift
	return served
}

// undo takes back a batch of fresh pages that could not be mapped whole.
func (s *Space) undo(v *vma, batch []hal.Mapping) verdict {
	for i := range batch {
		m := &batch[i]
		for p := 0; p < m.Pages; p++ {
			at := m.Addr + hal.UserAddr(p)<<hal.PageShift
			if pte, ok := s.HW.Query(at); ok && pte.Frame == m.Frame+hal.PFN(p) {
				s.HW.Unmap(at, hal.PageSize, nil)
			}
			s.mem.Unref(m.Frame + hal.PFN(p))
		}
	}
	return wantMem
}

// freshRun says how many absent pages from a on to back at once: one, or up to 16
// for a program that touches its memory in order while there is plenty.
func (s *Space) freshRun(v *vma, st *stripe, a uint64) int {
	if a != st.last+hal.PageSize {
		st.run = 1
		return 1
	}
	st.run = min(st.run*2, faultAround)
	if s.mem.tight() {
		st.run = 1
	}
	n := 1
	for ; n < st.run; n++ {
		next := a + uint64(n)<<hal.PageShift
		// The run stays in the stripe's 2 MB region.
		if next >= v.end || next&(1<<21-1) == 0 {
			break
		}
		if _, ok := s.HW.Query(hal.UserAddr(next)); ok {
			break
		}
	}
	return n
}

// mapOne installs one page that needs no reference.
func (s *Space) mapOne(st *stripe, a uint64, f hal.PFN, p hal.Prot) verdict {
	st.batch[0] = hal.Mapping{Addr: hal.UserAddr(a), Frame: f, Pages: 1, Prot: p}
	if s.HW.Map(st.batch[:1]) != nil {
		return wantMem
	}
	return served
}

// faultPresent serves a fault on a page that is there: another thread was quicker, the
// page was made inaccessible for a while, or a write wants a private copy. Called with
// the stripe and, for a file, the object held.
func (s *Space) faultPresent(v *vma, st *stripe, a uint64, access hal.Prot, pte hal.PTE) verdict {
	if access&^pte.Prot == 0 || access == hal.ProtRead && pte.Prot != 0 {
		return served
	}
	own := s.mem.writable(v, pte.Frame)
	if access&hal.ProtWrite == 0 || own {
		s.HW.Protect(hal.UserAddr(a), hal.PageSize, v.pteProt(own))
		return served
	}
	return s.breakCopy(v, st, a, pte.Frame, true)
}

// writable says whether a frame that stands in v may be written there.
func (mem *Memory) writable(v *vma, f hal.PFN) bool {
	if v.shared() {
		return mem.kindOf(f) != KindImage
	}
	return mem.exclusive(f)
}

// exclusive says whether a private page may be written in place. Called with the
// stripe held: a count of one cannot grow without it (Fork excludes faults).
func (mem *Memory) exclusive(f hal.PFN) bool {
	return mem.kindOf(f) == KindAnon && mem.refsOf(f) == 1
}

// breakCopy gives the program its own copy of from at a; mapped says that from stands
// there now.
func (s *Space) breakCopy(v *vma, st *stripe, a uint64, from hal.PFN, mapped bool) verdict {
	zero := from == s.mem.zero
	f, ok := s.mem.tryAlloc(KindAnon, zero)
	if !ok {
		return wantMem
	}
	if !zero {
		copy(s.mem.Bytes(f), s.mem.Bytes(from))
	}
	if r := s.mapOne(st, a, f, v.prot); r != served {
		s.mem.Unref(f)
		return r
	}
	s.rss.Add(1)
	if mapped {
		s.dropPTE(hal.PTE{Frame: from})
	}
	return served
}

// faultObject serves a mapping of an object. Called with the stripe and the object held.
func (s *Space) faultObject(v *vma, st *stripe, a uint64, access hal.Prot) (verdict, *Object, int64) {
	o := v.obj
	idx := v.index(a)
	if idx >= pagesFor(o.size.Load()) {
		return badBus, nil, 0
	}
	write := access&hal.ProtWrite != 0
	if pte, ok := s.HW.Query(hal.UserAddr(a)); ok {
		if write && v.shared() {
			if s.mem.kindOf(pte.Frame) == KindImage {
				return s.wantOwn(o, idx)
			}
			o.markDirty(idx)
		}
		return s.faultPresent(v, st, a, access, pte), nil, 0
	}
	f, state := o.lookup(idx)
	switch {
	case state == 0 && idx >= o.srcEnd.Load():
		if r := o.addZero(idx); r != served {
			return r, nil, 0
		}
		f, _ = o.lookup(idx)
	case state == 0 || state&(slotBusy|slotAhead) != 0:
		o.IncRef()
		return wantPage, o, idx
	}
	if write {
		if !v.shared() {
			return s.breakCopy(v, st, a, f, false), nil, 0
		}
		if s.mem.kindOf(f) == KindImage {
			return s.wantOwn(o, idx)
		}
		o.markDirty(idx)
	}
	return s.mapAround(v, st, a, idx, f, write), nil, 0
}

// wantOwn makes a page of the image the object's own before a shared mapping writes
// it. Called with the object held.
func (s *Space) wantOwn(o *Object, idx int64) (verdict, *Object, int64) {
	from, st := o.lookup(idx)
	if st == 0 || s.mem.kindOf(from) != KindImage {
		return served, nil, 0 // it has one: the program faults again
	}
	f, ok := s.mem.tryAlloc(o.kind(), false)
	if !ok {
		return wantMem, nil, 0
	}
	copy(s.mem.Bytes(f), s.mem.Bytes(from))
	if o.insert(idx, f, slotUsed|slotDirty) != nil {
		s.mem.Unref(f)
		return badBus, nil, 0
	}
	o.unmapPages(idx, 1, false)
	return served, nil, 0
}

// addZero gives a page that the source does not have. Called with mu held.
func (o *Object) addZero(idx int64) verdict {
	f, ok := o.mem.tryAlloc(o.kind(), true)
	if !ok {
		return wantMem
	}
	switch o.insert(idx, f, slotUsed) {
	case nil:
		return served
	case unix.ENOMEM:
		o.mem.Unref(f)
		return wantMem
	}
	o.mem.Unref(f)
	return badBus // Linux: a full tmpfs is SIGBUS
}

// mapAround maps page idx at a, and with it those of its aligned neighbours that are
// cached and absent from the page table, in one batch: 16 pages, or 64 where the file lies
// in the image, whose frames cost nothing to share. Called with the object held.
func (s *Space) mapAround(v *vma, st *stripe, a uint64, idx int64, f hal.PFN, write bool) verdict {
	around := uint64(faultAround)
	if s.mem.kindOf(f) == KindImage && v.obj.resident.Load() == 0 {
		around = imageAround
	}
	b := mapBatch{st: st, v: v, s: s}
	if write || v.flags&vmRandRead != 0 {
		b.page(a, f)
	} else {
		lo, hi := v.around(a, around)
		near, _ := v.around(a, faultAround)
		b.window(lo, hi, near, idx-int64((a-lo)>>hal.PageShift))
	}
	if s.HW.Map(st.batch[:b.n]) != nil {
		return s.undo(v, st.batch[:b.n])
	}
	s.rss.Add(int64(b.pages))
	return served
}

// imageAround is the most pages of the image that one fault maps.
const imageAround = 64

// mapBatch collects pages of v's object that one Map will install.
type mapBatch struct {
	s        *Space
	st       *stripe
	v        *vma
	n, pages int
}

// around is the part of the mapping in the aligned window of n pages that holds a.
func (v *vma) around(a uint64, n uint64) (lo, hi uint64) {
	w := n << hal.PageShift
	return max(a&^(w-1), v.start), min(a&^(w-1)+w, v.end)
}

// window adds the absent pages of [lo, hi), of which the first is page idx. Those from
// near on come first: the page that is wanted is among the next faultAround, for which
// there is always room.
func (b *mapBatch) window(lo, hi, near uint64, idx int64) {
	n := int(min(int64(hi-lo)>>hal.PageShift, pagesFor(b.v.obj.size.Load())-idx))
	present := b.s.HW.Present(hal.UserAddr(lo), n)
	first := int((near - lo) >> hal.PageShift)
	b.scan(lo, idx, present, first, n)
	b.scan(lo, idx, present, 0, first)
}

// scan adds the absent pages i to end of the window while there is room.
func (b *mapBatch) scan(lo uint64, idx int64, present uint64, i, end int) {
	o := b.v.obj
	image := o.resident.Load() == 0
	for i < end && b.n < len(b.st.batch) {
		at, k := lo+uint64(i)<<hal.PageShift, 1
		switch {
		case present>>i&1 != 0:
		case image:
			var f hal.PFN
			if f, k = o.imageRun(idx+int64(i), min(bits.TrailingZeros64(present>>i), end-i)); k > 0 {
				b.add(at, f, k, true)
			}
			k = max(k, 1)
		default:
			if f, state := o.peek(idx + int64(i)); state != 0 && state&(slotBusy|slotAhead) == 0 {
				b.page(at, f)
			}
		}
		i += k
	}
}

// page adds one page.
func (b *mapBatch) page(at uint64, f hal.PFN) {
	b.add(at, f, 1, b.s.mem.kindOf(f) == KindImage)
}

// add adds pages that lie in consecutive frames.
func (b *mapBatch) add(at uint64, f hal.PFN, pages int, image bool) {
	prot := b.v.prot
	if !b.v.shared() || image {
		prot &^= hal.ProtWrite
	}
	if !image {
		b.s.mem.Ref(f)
	}
	b.pages += pages
	if b.n > 0 {
		if m := &b.st.batch[b.n-1]; m.Addr+hal.UserAddr(m.Pages)<<hal.PageShift == hal.UserAddr(at) &&
			m.Frame+hal.PFN(m.Pages) == f && m.Prot == prot {
			m.Pages += pages
			return
		}
	}
	b.st.batch[b.n] = hal.Mapping{Addr: hal.UserAddr(at), Frame: f, Pages: pages, Prot: prot}
	b.n++
}

// peek is lookup without a mark for the clock: nobody asked for this page.
func (o *Object) peek(idx int64) (hal.PFN, slot) {
	if o.resident.Load() != 0 {
		if st := o.pages.state(idx); st != 0 {
			return st.frame(), st
		}
	}
	if f, ok := o.imageFrame(idx); ok {
		return f, slotPresent
	}
	return 0, 0
}

// growStack lowers the stack above a to a's page if the limits and the guard gap
// allow. See expand_stack in Linux' mm/mmap.c for the order of tests.
func (s *Space) growStack(c wait.Context, a uint64) bool {
	a &^= hal.PageMask
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.vmas.above(a)
	if v == nil || v.start <= a {
		return v != nil // another thread was quicker
	}
	if v.flags&vmGrowsDown == 0 || a < minAddr {
		return false
	}
	if p := v.prev(); p != nil && p.flags&vmGrowsDown == 0 && p.prot != 0 && a-p.end < stackGuardGap {
		return false
	}
	n := int64((v.start - a) >> hal.PageShift)
	switch {
	case !s.mayExpand(n, v.prot, v.flags), v.end-a > s.limits.Stack, !s.mem.enough(n):
		return false
	case v.flags&vmLocked != 0 && uint64(s.locked+n) > s.memLock(c)>>hal.PageShift:
		return false
	}
	s.account(v, n)
	s.resize(v, a, v.end)
	return true
}
