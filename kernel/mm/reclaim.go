package mm

import (
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

const (
	// reclaimBatch is how many pages a caller that found no memory asks for.
	reclaimBatch = 32
	// scanSlice is how many pages the hand passes under one hold of Object.mu.
	scanSlice = 256
	// heapWait is how long the kernel's heap gets to shrink, once it has eaten half of
	// the reserve, before a program ends for it; killWait how long that one gets to go
	// before the next.
	heapWait = 50 * time.Millisecond
	killWait = 250 * time.Millisecond
)

// reclaimer takes clean page-cache frames back, second chance: a hand goes round the
// objects that have a source, and round the pages of each. A page that was used since
// the last visit, through read or through a mapping, is passed over once.
type reclaimer struct {
	mem *Memory

	mu   sync.Mutex // the ring
	hand *Object
	n    int

	scan     sync.Mutex // one scan at a time; guards the fields below
	victims  int64
	accessed bool
	locked   bool
	look     func(hal.UserAddr, hal.PTE) // Walk's call-back, made once
	object   *Object                     // what look and take work on
	page     int64
	mapping  *vma
	take     func(hal.UserAddr, hal.PTE)

	// filling counts the reads under way, fills those that have ended; filled is
	// notified at each. Pages that are being read cannot be taken back, but soon can.
	filling, fills atomic.Int64
	filled         waiter.Queue

	pressure atomic.Bool
	running  atomic.Bool
	calls    atomic.Uint64 // of wake
	goal     atomic.Uint64 // free pages that somebody asked for (wakeFor)
	shrinkMu sync.Mutex
	shrink   []func() int64
	// Reclaimed and Scanned count pages, for /proc/vmstat.
	Reclaimed, Scanned atomic.Int64
}

func (r *reclaimer) init(mem *Memory) {
	r.mem = mem
	r.look = func(_ hal.UserAddr, p hal.PTE) {
		r.accessed = r.accessed || p.Accessed
		if p.Dirty && r.mapping.shared() {
			r.object.markDirty(r.page)
		}
	}
	r.take = func(a hal.UserAddr, p hal.PTE) {
		r.look(a, p)
		r.mapping.space.dropPTE(p)
	}
}

// AddShrinker registers a cache of pages outside this package (a file system's
// buffers). f drops what it can without blocking and returns the frames it freed.
func (mem *Memory) AddShrinker(f func() int64) {
	mem.reclaim.shrinkMu.Lock()
	mem.reclaim.shrink = append(mem.reclaim.shrink, f)
	mem.reclaim.shrinkMu.Unlock()
}

// tight says that free memory fell below the low watermark and has not recovered.
func (mem *Memory) tight() bool {
	if !mem.reclaim.pressure.Load() {
		return false
	}
	if st := mem.M.MemStats(); st.FreePages >= 2*st.LowWatermark {
		mem.reclaim.pressure.Store(false)
		return false
	}
	return true
}

// wake is the machine's pressure call-back: reclaim goes on in the background until
// there is twice the low watermark, or nothing more to take.
func (r *reclaimer) wake() {
	r.pressure.Store(true)
	r.calls.Add(1)
	if r.running.CompareAndSwap(false, true) {
		go r.background()
	}
}

// wakeFor has reclaim go on until there are free pages, if there is that much to take.
// It may be called under any lock.
func (r *reclaimer) wakeFor(free uint64) {
	r.goal.Store(free)
	r.calls.Add(1)
	if r.running.CompareAndSwap(false, true) {
		go r.background()
	}
}

func (r *reclaimer) background() {
	for {
		seen := r.calls.Load()
		for r.balance() {
		}
		r.running.Store(false)
		// A call that came in between found running set.
		if r.calls.Load() == seen || !r.running.CompareAndSwap(false, true) {
			return
		}
	}
}

// balance frees what is wanted, or does what is left to do when there is nothing to
// free; false when there is no more to do until the next call.
func (r *reclaimer) balance() bool {
	st := r.mem.M.MemStats()
	goal := r.goal.Load()
	if st.FreePages >= 2*st.LowWatermark {
		r.pressure.Store(false)
		if st.FreePages >= goal {
			return false
		}
	}
	if r.pages(int64(max(2*st.LowWatermark, goal)-st.FreePages)) > 0 {
		return true
	}
	r.goal.CompareAndSwap(goal, 0) // it is not to be had
	return r.starved()
}

// starved deals with the one shortage that no program's fault reports: nothing can be
// reclaimed and the kernel's own heap has eaten half of the reserve that programs
// cannot touch. The heap cannot be told that there is no memory, it would end in a
// panic; so a program ends. False if things are not that bad.
func (r *reclaimer) starved() bool {
	st := r.mem.M.MemStats()
	if st.FreePages >= st.Reserve/2 {
		return false
	}
	if st.FreePages >= st.Reserve/4 {
		time.Sleep(heapWait) // the machine has its heap collected meanwhile
		if st = r.mem.M.MemStats(); st.FreePages >= st.Reserve/2 {
			return true
		}
	}
	r.mem.outOfMemory(nil)
	time.Sleep(killWait)
	return true
}

// reclaimSome frees a few frames for a caller that holds no lock of this package; false
// if there was nothing to free. What somebody else's scan freed while this one waited
// for it counts: he may have taken all there was.
func (mem *Memory) reclaimSome() bool {
	before := mem.reclaim.Reclaimed.Load()
	return mem.reclaim.pages(reclaimBatch) > 0 || mem.reclaim.Reclaimed.Load() != before
}

// reclaimOrWait is reclaimSome for a caller who may block: where there is nothing to take
// but pages that are being read, it waits for a read to end. False: memory is exhausted.
// The caller has no read of its own under way. For one that is to die nothing is looked for.
func (mem *Memory) reclaimOrWait(c wait.Context) bool {
	if dying(c) {
		return false
	}
	r := &mem.reclaim
	seen := r.fills.Load()
	if mem.reclaimSome() {
		return true
	}
	if r.fills.Load() == seen && r.filling.Load() == 0 {
		return false
	}
	blockUntil(c, &r.filled, func() bool { return r.fills.Load() != seen || r.filling.Load() == 0 })
	return r.fills.Load() != seen
}

// endFill ends what was counted in filling; read says that pages were read, and not that
// there was no memory for any.
func (r *reclaimer) endFill(read bool) {
	if read {
		r.fills.Add(1)
	}
	r.filling.Add(-1)
	r.filled.Notify(waiter.EventOut)
}

// pages frees about want frames and returns how many it did.
func (r *reclaimer) pages(want int64) int64 {
	r.scan.Lock()
	defer r.scan.Unlock()
	r.victims = 0
	r.shrinkOthers()
	// Two rounds clear every use mark; a third takes what is left.
	r.mu.Lock()
	left := 3 * r.n
	r.mu.Unlock()
	for ; r.victims < want && left > 0; left-- {
		o := r.nextObject()
		if o == nil {
			break
		}
		for more := true; more && r.victims < want; {
			more = r.sweep(o, want)
		}
		o.DecRef()
	}
	r.Reclaimed.Add(r.victims)
	return r.victims
}

func (r *reclaimer) shrinkOthers() {
	r.shrinkMu.Lock()
	fs := r.shrink
	r.shrinkMu.Unlock()
	for _, f := range fs {
		r.victims += f()
	}
}

// nextObject moves the hand and returns the object under it, referenced.
func (r *reclaimer) nextObject() *Object {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := 0; i < r.n; i++ {
		o := r.hand
		r.hand = o.ringNext
		if o.tryIncRef() {
			return o
		}
	}
	return nil
}

// sweep passes the hand over some pages of o; false when it has come round.
func (r *reclaimer) sweep(o *Object, want int64) (more bool) {
	// Whoever holds mu neither reclaims nor sleeps. To pass a busy object over would
	// spend one of pages' rounds, and call memory exhausted that is not.
	o.mu.Lock()
	defer o.mu.Unlock()
	r.object = o
	for i := 0; i < scanSlice && r.victims < want; i++ {
		idx := o.pages.next(o.hand)
		if idx < 0 {
			o.hand = 0
			return false
		}
		o.hand = idx + 1
		r.Scanned.Add(1)
		r.consider(o, idx)
	}
	return true
}

// consider frees page idx of o unless it is busy, dirty, held or used lately.
func (r *reclaimer) consider(o *Object, idx int64) {
	p := o.pages.get(idx)
	f := p.frame()
	r.locked = false
	if *p&(slotBusy|slotDirty) != 0 || r.mem.kindOf(f) != KindCache {
		return
	}
	used := *p&slotUsed != 0
	*p &^= slotUsed
	r.page = idx
	if r.mem.refsOf(f) > 1 {
		r.accessed = false
		r.eachMapping(o, idx, func(s *Space, a hal.UserAddr) {
			s.HW.Walk(a, hal.PageSize, true, r.look)
		})
		used = used || r.accessed || r.locked
	}
	if used || *p&slotDirty != 0 {
		return
	}
	if r.mem.refsOf(f) > 1 {
		r.eachMapping(o, idx, func(s *Space, a hal.UserAddr) {
			if pte, ok := s.HW.Query(a); ok && pte.Frame == f {
				s.HW.Unmap(a, hal.PageSize, r.take)
			}
		})
	}
	if r.mem.refsOf(f) == 1 && *p&slotDirty == 0 {
		o.remove(idx)
		r.victims++
	}
}

func (r *reclaimer) eachMapping(o *Object, idx int64, f func(s *Space, a hal.UserAddr)) {
	for v := o.maps; v != nil; v = v.onext {
		if addr, n := v.window(idx, 1); n != 0 {
			r.mapping = v
			r.locked = r.locked || v.flags&vmLocked != 0
			f(v.space, hal.UserAddr(addr))
		}
	}
}

// add and remove keep the ring of objects whose pages may be taken. add is called with
// Object.mu held, remove without.
func (r *reclaimer) add(o *Object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o.ringNext != nil {
		return
	}
	r.n++
	if r.hand == nil {
		o.ringNext, o.ringPrev = o, o
		r.hand = o
		return
	}
	h := r.hand
	o.ringNext, o.ringPrev = h, h.ringPrev
	h.ringPrev.ringNext, h.ringPrev = o, o
}

func (r *reclaimer) remove(o *Object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o.ringNext == nil {
		return
	}
	r.n--
	if r.n == 0 {
		r.hand = nil
	} else {
		if r.hand == o {
			r.hand = o.ringNext
		}
		o.ringPrev.ringNext, o.ringNext.ringPrev = o.ringNext, o.ringPrev
	}
	o.ringNext, o.ringPrev = nil, nil
}

// Reclaim frees up to n clean pages and returns how many it did (drop_caches, tests).
// Called without locks.
func (mem *Memory) Reclaim(n int64) int64 { return mem.reclaim.pages(n) }
