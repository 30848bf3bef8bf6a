// Package mm is memory as programs see it: address spaces, the page cache and the
// copies between kernel and program.
//
// A Space is a set of mappings (VMAs) over a hal.AddressSpace, which is the only
// store of what stands in the page table. A mapping is anonymous or shows an Object:
// the page cache of a file, or memory that is shared. Pages come one fault at a time:
//
//	m.Enter(ctx, space.HW)                    // traps with a page fault
//	err := space.HandleFault(c, addr, access) // finds the mapping and the frame, maps
//
// Frames are counted in Memory: one reference for the page cache, one for each page
// table entry, one for whoever copies. A private page may be written in place if its
// count is one and it is anonymous; else the writer gets a copy.
//
// Locks, outermost first:
//
//	Object.writers (sleeps)     writers of one file
//	  Space.mu (RW)             the set of mappings; faults hold it for reading
//	    Space.stripe[i]         anonymous pages of a 2 MB region; fault scratch
//	      Object.mu             pages of one object, its list of mappings
//	        reclaimer.mu        the clock's ring
//	          hal               page tables, frame allocator
//
// Space.mu and everything below it are never held while something blocks: a fault
// that needs the disk or memory drops them, waits, and starts over. Reclaim runs under
// no lock of its caller's and takes Object.mu by trying. Program memory is copied
// under none of them.
package mm

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

const (
	// maxMaps is vm.max_map_count.
	maxMaps = 65530
	// userTop is hal.UserTop as the arithmetic here wants it.
	userTop    = uint64(hal.UserTop)
	numStripes = 4
	// faultAround is the most pages that one fault maps.
	faultAround = 16
)

// Space is a process's address space: its mappings (VMAs) over a hal.AddressSpace.
type Space struct {
	HW  hal.AddressSpace
	mem *Memory

	users atomic.Int32
	peak  atomic.Int64 // the most pages resident, as far as notePeak has looked
	owner atomic.Int32

	mu     sync.RWMutex
	vmas   vmaTree
	hit    atomic.Pointer[vma] // the mapping of the last fault
	limits Limits
	// Sizes in pages, under mu.
	total, data, stack, locked int64
	lockAll                    bool // mlockall(MCL_FUTURE)
	lockLazy                   bool // with MCL_ONFAULT

	mmapBase       uint64 // top-down allocation starts below it
	brkStart, brkV uint64

	rss    atomic.Int64 // pages present, the shared zero page aside
	stripe [numStripes]stripe
	unref  func(hal.UserAddr, hal.PTE) // Unmap's call-back, made once
}

// stripe serialises faults of one region and lends them scratch space.
type stripe struct {
	mu    sync.Mutex
	batch [faultAround]hal.Mapping
	// last and run recognise a program that touches fresh memory in order.
	last uint64
	run  int
}

// NewSpace makes an empty one. IncUsers/DecUsers count the processes in it
// (CLONE_VM, vfork); the last DecUsers unmaps everything.
func NewSpace(mem *Memory) (*Space, error) {
	if !mem.budget.Charge(spaceCost) {
		return nil, unix.ENOMEM
	}
	hw, err := mem.M.NewAddressSpace()
	if err != nil && mem.reclaimSome() {
		hw, err = mem.M.NewAddressSpace()
	}
	if err != nil {
		mem.budget.Uncharge(spaceCost)
		return nil, unix.ENOMEM
	}
	s := &Space{HW: hw, mem: mem, mmapBase: userTop}
	s.users.Store(1)
	s.limits = Limits{AS: noLimit, Data: noLimit, Stack: 8 << 20, MemLock: 8 << 20}
	s.unref = func(_ hal.UserAddr, p hal.PTE) { s.dropPTE(p) }
	return s, nil
}

// spaceCost is what a Space is charged to the kernel-heap budget.
const spaceCost = 4096

// Memory is the machine's memory that the space takes its frames from.
func (s *Space) Memory() *Memory { return s.mem }

// IncUsers counts one more process in the space.
func (s *Space) IncUsers() { s.users.Add(1) }

// Shared says whether more than one process is in the space.
func (s *Space) Shared() bool { return s.users.Load() > 1 }

// TryIncUsers is IncUsers unless the last process has left: for those who look at another
// process's space (/proc).
func (s *Space) TryIncUsers() bool {
	for {
		n := s.users.Load()
		if n <= 0 {
			return false
		}
		if s.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// DecUsers is its opposite.
func (s *Space) DecUsers() {
	switch n := s.users.Add(-1); {
	case n < 0:
		panic("mm: Space released twice")
	case n > 0:
		return
	}
	s.HW.Retire()
	s.mu.Lock()
	dead := s.unmapAll()
	s.mu.Unlock()
	s.bury(dead)
	s.HW.Destroy()
	s.mem.budget.Uncharge(spaceCost)
}

// dropPTE lets go of a page that left the page table.
func (s *Space) dropPTE(p hal.PTE) {
	if p.Frame == s.mem.zero {
		return
	}
	s.rss.Add(-1)
	s.mem.Unref(p.Frame)
}

// SetMmapBase places the top of the mmap area (loader; page aligned).
func (s *Space) SetMmapBase(a hal.UserAddr) {
	s.mu.Lock()
	s.mmapBase = min(uint64(a), userTop) &^ hal.PageMask
	s.mu.Unlock()
}

// Limits are the resource limits mm enforces (bytes; max uint64: none). The number of
// mappings is bounded by vm.max_map_count (65530). DataMax is RLIMIT_DATA's hard value,
// which counts where the soft one is 0 (may_expand_vm of Linux, for old programs).
type Limits struct{ AS, Data, Stack, MemLock, DataMax uint64 }

const noLimit = ^uint64(0)

// SetLimits replaces them.
func (s *Space) SetLimits(l Limits) {
	s.mu.Lock()
	s.limits = l
	s.mu.Unlock()
}

// find is the mapping at a, nil if none. Called with mu held (reading is enough).
func (s *Space) find(a uint64) *vma {
	if v := s.hit.Load(); v != nil && v.start <= a && a < v.end {
		return v
	}
	v := s.vmas.at(a)
	if v != nil {
		s.hit.Store(v)
	}
	return v
}

// account adds n pages of v's kind to the space's sizes. Called with mu held.
func (s *Space) account(v *vma, n int64) {
	s.total += n
	switch {
	case v.flags&vmGrowsDown != 0:
		s.stack += n
	case isData(v.prot, v.flags):
		s.data += n
	}
	if v.flags&vmLocked != 0 {
		s.locked += n
	}
	if v.flags&vmAccount != 0 {
		s.mem.committed.Add(n)
	}
}

// isData is what RLIMIT_DATA counts: private, writable, not a stack.
func isData(p hal.Prot, f vmFlags) bool {
	return p&hal.ProtWrite != 0 && f&(vmShared|vmGrowsDown) == 0
}

// mayExpand is RLIMIT_AS and RLIMIT_DATA for n more pages.
func (s *Space) mayExpand(n int64, p hal.Prot, f vmFlags) bool {
	if uint64(s.total+n) > s.limits.AS>>hal.PageShift {
		return false
	}
	limit := s.limits.Data
	if limit == 0 {
		limit = s.limits.DataMax
	}
	return !isData(p, f) || uint64(s.data+n) <= limit>>hal.PageShift
}

// add puts a new mapping in place; obj and back references become the space's, and
// the caller has charged vmaCost. Called with mu held for writing.
func (s *Space) add(v *vma) {
	v.space = s
	if o := v.obj; o != nil {
		o.mu.Lock()
		o.link(v)
		o.mu.Unlock()
	}
	s.vmas.insert(v)
	s.account(v, v.pages())
}

// drop takes a mapping out of the space and puts it on the list of the dead. Its
// pages are the caller's business. Called with mu held for writing.
func (s *Space) drop(v *vma, dead **vma) {
	if s.hit.Load() == v {
		s.hit.Store(nil)
	}
	s.account(v, -v.pages())
	s.vmas.remove(v)
	v.die(dead)
}

// die takes v from its object's list and puts it on that of the dead.
func (v *vma) die(dead **vma) {
	if o := v.obj; o != nil {
		o.mu.Lock()
		o.unlink(v)
		o.mu.Unlock()
	}
	v.onext = *dead
	*dead = v
}

// bury lets go of what dead mappings held. Called without locks: the last reference
// to a file may do anything.
func (s *Space) bury(dead *vma) {
	for v := dead; v != nil; {
		next := v.onext
		if v.obj != nil {
			v.obj.DecRef()
		}
		v.back.decRef(s)
		s.mem.budget.Uncharge(vmaCost)
		*v = vma{}
		spareVMAs.Put(v)
		v = next
	}
}

// resize moves a mapping's ends without changing its order among the others. Pages
// and accounts are the caller's business.
func (s *Space) resize(v *vma, start, end uint64) {
	if o := v.obj; o != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
	}
	v.off += int64(start - v.start)
	v.start, v.end = start, end
	s.vmas.moved(v)
}

// split cuts v at address a inside it and returns the upper part.
func (s *Space) split(v *vma, a uint64) (*vma, error) {
	if s.vmas.n >= maxMaps || !s.mem.budget.Charge(vmaCost) {
		return nil, unix.ENOMEM
	}
	n := newVMA(vma{start: a, end: v.end, off: v.off + int64(a-v.start), obj: v.obj, back: v.back,
		space: s, prot: v.prot, maxProt: v.maxProt, flags: v.flags, policy: v.policy, uffd: v.uffd})
	n.back.incRef(s)
	if o := v.obj; o != nil {
		o.IncRef()
		o.mu.Lock()
		defer o.mu.Unlock()
		o.link(n)
	}
	v.end = a
	s.vmas.moved(v)
	s.vmas.insert(n)
	return n, nil
}

// merge joins v with its neighbours where they are alike and returns the result.
func (s *Space) merge(v *vma, dead **vma) *vma {
	if n := v.next(); n != nil && v.canMerge(n) {
		s.join(v, n, dead)
	}
	if p := v.prev(); p != nil && p.canMerge(v) {
		s.join(p, v, dead)
		return p
	}
	return v
}

// join lets lower swallow upper. lower grows first: at no moment is a page outside
// every mapping that Truncate looks at.
func (s *Space) join(lower, upper *vma, dead **vma) {
	s.account(lower, upper.pages())
	s.resize(lower, lower.start, upper.end)
	s.drop(upper, dead)
}
