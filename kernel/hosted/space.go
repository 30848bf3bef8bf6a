package hosted

import (
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

const (
	leafShift = 21
	leafPages = 1 << (leafShift - hal.PageShift)
)

// leaf is 2 MiB of the page table.
type leaf struct {
	n   int // present pages
	pte [leafPages]entry
}

// entry is one page. The stub's memory is a TLB over these entries: installed means
// that the host maps the frame there with exactly prot. A page that is present and
// not installed costs the program a fault that Enter serves by itself (fill).
type entry struct {
	frame     uint32
	prot      hal.Prot
	present   bool
	installed bool
	accessed  bool
	dirty     bool
	// stamp is the space's generation when the entry last changed.
	stamp uint64
}

func (e *entry) pte() hal.PTE {
	return hal.PTE{Frame: hal.PFN(e.frame), Prot: e.prot, Accessed: e.accessed, Dirty: e.dirty}
}

// AddressSpace is a page table in software and the stub process that caches it.
//
// Accessed and dirty bits are approximations on the safe side: a page that is
// installed counts as accessed, and as dirty where it is writable. Clearing them
// takes the page out of the stub, so that the next use sets them again.
type AddressSpace struct {
	m *Machine

	mu        sync.RWMutex
	leaves    map[uint64]*leaf
	keys      []uint64 // sorted
	pages     int
	gen       uint64
	stub      *stub
	destroyed bool
	// pending commands for the stub, run by sync before mu is released.
	pending []command
	last    struct {
		key uint64
		l   *leaf
	}

	tmu     sync.Mutex
	tracees map[int]*tracee // by the tracing thread
}

var _ hal.AddressSpace = (*AddressSpace)(nil)

// NewAddressSpace implements hal.Machine.
func (m *Machine) NewAddressSpace() (hal.AddressSpace, error) {
	s, err := newStub(int(m.frames.file.Fd()))
	if err != nil {
		return nil, err
	}
	as := &AddressSpace{m: m, leaves: map[uint64]*leaf{}, stub: s, tracees: map[int]*tracee{}}
	m.track(as, true)
	return as, nil
}

func (as *AddressSpace) alive() {
	if as.destroyed {
		panic("hosted: address space used after Destroy")
	}
}

// entry finds a page's entry; nil where there is no leaf. Called with mu held.
func (as *AddressSpace) entry(a hal.UserAddr) *entry {
	if a >= hal.UserTop {
		return nil
	}
	l := as.leaves[uint64(a)>>leafShift]
	if l == nil {
		return nil
	}
	return &l.pte[uint64(a)>>hal.PageShift%leafPages]
}

// leafFor finds or makes a leaf. Called with mu held for writing.
func (as *AddressSpace) leafFor(a hal.UserAddr) *leaf {
	k := uint64(a) >> leafShift
	if as.last.l != nil && as.last.key == k {
		return as.last.l
	}
	l := as.leaves[k]
	if l == nil {
		l = &leaf{}
		as.leaves[k] = l
		i, _ := slices.BinarySearch(as.keys, k)
		as.keys = slices.Insert(as.keys, i, k)
	}
	as.last.key, as.last.l = k, l
	return l
}

// inStub tells whether a range touches the stub's own pages.
func inStub(a hal.UserAddr, n uint64) bool {
	return a < stubEndAddr && uint64(a)+n > stubBase
}

// Map implements hal.AddressSpace. The few pages of the stub itself (stubBase)
// cannot be had: ErrNoMemory.
func (as *AddressSpace) Map(batch []hal.Mapping) error {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.alive()
	as.gen++
	for _, b := range batch {
		n := uint64(b.Pages) << hal.PageShift
		if b.Addr&hal.PageMask != 0 || b.Pages < 0 {
			panic(fmt.Sprintf("hosted: Map of %#x, %d pages", b.Addr, b.Pages))
		}
		if b.Addr >= hal.UserTop || n > uint64(hal.UserTop-b.Addr) {
			as.sync()
			return hal.ErrBadAddress
		}
		if inStub(b.Addr, n) {
			as.sync()
			return hal.ErrNoMemory
		}
		as.m.FrameRange(b.Frame, b.Pages)
		for i := 0; i < b.Pages; i++ {
			a := b.Addr + hal.UserAddr(i<<hal.PageShift)
			l := as.leafFor(a)
			e := &l.pte[uint64(a)>>hal.PageShift%leafPages]
			if !e.present {
				as.pages++
				l.n++
			} else if e.installed && b.Prot == hal.ProtNone {
				as.queueUnmap(a, 1)
			}
			*e = entry{frame: uint32(b.Frame) + uint32(i), prot: b.Prot, present: true, stamp: as.gen}
			as.markInstalled(e)
		}
		if b.Prot != hal.ProtNone {
			as.queueMap(b.Addr, b.Pages, b.Frame, b.Prot)
		}
	}
	as.sync()
	return nil
}

// markInstalled notes that the stub maps e, and what it can do unseen from now on.
func (as *AddressSpace) markInstalled(e *entry) {
	if e.prot == hal.ProtNone {
		return
	}
	e.installed, e.accessed = true, true
	e.dirty = e.dirty || e.prot&hal.ProtWrite != 0
}

func (as *AddressSpace) queueMap(a hal.UserAddr, n int, f hal.PFN, p hal.Prot) {
	off := uint64(f-firstPFN) << hal.PageShift
	if k := len(as.pending); k > 0 {
		c := &as.pending[k-1]
		if c.nr == unix.SYS_MMAP && c.a0+c.a1 == uint64(a) && c.a5+c.a1 == off && c.a2 == uint64(p) {
			c.a1 += uint64(n) << hal.PageShift
			return
		}
	}
	as.pending = append(as.pending, command{nr: unix.SYS_MMAP, a0: uint64(a), a1: uint64(n) << hal.PageShift,
		a2: uint64(p), a3: unix.MAP_SHARED | unix.MAP_FIXED, a4: framesFD, a5: off})
}

func (as *AddressSpace) queueUnmap(a hal.UserAddr, pages uint64) {
	n := pages << hal.PageShift
	if k := len(as.pending); k > 0 {
		c := &as.pending[k-1]
		if c.nr == unix.SYS_MUNMAP && c.a0+c.a1 == uint64(a) {
			c.a1 += n
			return
		}
	}
	as.pending = append(as.pending, command{nr: unix.SYS_MUNMAP, a0: uint64(a), a1: n})
}

// sync brings the stub up to date. Where the host refuses (it limits mappings to
// vm.max_map_count), everything leaves the stub and comes back fault by fault.
func (as *AddressSpace) sync() {
	if len(as.pending) == 0 {
		return
	}
	cmds := as.pending
	as.pending = as.pending[:0]
	if r, err := as.stub.run(cmds); err == nil && r < 0 { // if it died, Enter says so
		as.flush()
	}
}

func (as *AddressSpace) flush() {
	as.gen++
	for _, l := range as.leaves {
		for i := range l.pte {
			if l.pte[i].installed {
				l.pte[i].installed = false
				l.pte[i].stamp = as.gen
			}
		}
	}
	cmds := flushCommands()
	if r, err := as.stub.run(cmds); err == nil && r < 0 {
		panic(fmt.Sprintf("hosted: the host refuses to unmap: %v", unix.Errno(-r)))
	}
}

// each calls f for present pages of the range, in order, with mu held.
func (as *AddressSpace) each(addr hal.UserAddr, length uint64, f func(a hal.UserAddr, l *leaf, e *entry)) {
	if addr&hal.PageMask != 0 {
		panic(fmt.Sprintf("hosted: unaligned address %#x", addr))
	}
	if addr >= hal.UserTop {
		return
	}
	end := hal.UserTop
	if length < uint64(hal.UserTop-addr) {
		end = addr + hal.UserAddr(length)
	}
	i, _ := slices.BinarySearch(as.keys, uint64(addr)>>leafShift)
	for ; i < len(as.keys) && as.keys[i]<<leafShift < uint64(end); i++ {
		l := as.leaves[as.keys[i]]
		base := hal.UserAddr(as.keys[i] << leafShift)
		from, to := 0, leafPages
		if base < addr {
			from = int((addr - base) >> hal.PageShift)
		}
		if left := (uint64(end-base) + hal.PageMask) >> hal.PageShift; left < leafPages {
			to = int(left)
		}
		for j := from; j < to; j++ {
			if l.pte[j].present {
				f(base+hal.UserAddr(j<<hal.PageShift), l, &l.pte[j])
			}
		}
	}
}

// Protect implements hal.AddressSpace.
func (as *AddressSpace) Protect(addr hal.UserAddr, length uint64, p hal.Prot) {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.alive()
	as.gen++
	as.each(addr, length, func(a hal.UserAddr, _ *leaf, e *entry) {
		if e.prot == p {
			return
		}
		e.prot, e.stamp = p, as.gen
		if p != hal.ProtNone {
			as.queueMap(a, 1, hal.PFN(e.frame), p)
			as.markInstalled(e)
		} else if e.installed {
			as.queueUnmap(a, 1)
			e.installed = false
		}
	})
	as.sync()
}

type pageSeen struct {
	a hal.UserAddr
	p hal.PTE
}

// Unmap implements hal.AddressSpace; f runs without the lock.
func (as *AddressSpace) Unmap(addr hal.UserAddr, length uint64, f func(hal.UserAddr, hal.PTE)) {
	var out []pageSeen
	as.mu.Lock()
	as.alive()
	as.gen++
	first, last := hal.UserTop, hal.UserAddr(0)
	empty := false
	as.each(addr, length, func(a hal.UserAddr, l *leaf, e *entry) {
		if f != nil {
			out = append(out, pageSeen{a, e.pte()})
		}
		if e.installed {
			first, last = min(first, a), a
		}
		*e = entry{}
		l.n--
		empty = empty || l.n == 0
		as.pages--
	})
	if first <= last {
		// All of the range goes, so its holes may go too.
		if n := uint64(last-first)>>hal.PageShift + 1; inStub(first, n<<hal.PageShift) {
			as.queueUnmap(first, uint64(stubBase-first)>>hal.PageShift)
			as.queueUnmap(stubEndAddr, uint64(last+hal.PageSize-stubEndAddr)>>hal.PageShift)
		} else {
			as.queueUnmap(first, n)
		}
	}
	if empty {
		as.dropLeaves()
	}
	as.sync()
	as.mu.Unlock()
	for _, g := range out {
		f(g.a, g.p)
	}
}

func (as *AddressSpace) dropLeaves() {
	as.last.l = nil
	as.keys = slices.DeleteFunc(as.keys, func(k uint64) bool {
		if as.leaves[k].n > 0 {
			return false
		}
		delete(as.leaves, k)
		return true
	})
}

// Query implements hal.AddressSpace.
func (as *AddressSpace) Query(addr hal.UserAddr) (hal.PTE, bool) {
	as.mu.RLock()
	defer as.mu.RUnlock()
	if e := as.entry(addr); e != nil && e.present {
		return e.pte(), true
	}
	return hal.PTE{}, false
}

// Present implements hal.AddressSpace.
func (as *AddressSpace) Present(addr hal.UserAddr, pages int) (mask uint64) {
	as.mu.RLock()
	defer as.mu.RUnlock()
	as.each(addr, uint64(min(pages, 64))<<hal.PageShift, func(a hal.UserAddr, _ *leaf, _ *entry) {
		mask |= 1 << ((a - addr) >> hal.PageShift)
	})
	return mask
}

// Fork implements hal.AddressSpace. The child's stub faults its pages in.
func (as *AddressSpace) Fork(child hal.AddressSpace, addr hal.UserAddr, length uint64, keep func(hal.PFN) bool) error {
	c := child.(*AddressSpace)
	as.mu.Lock()
	defer as.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	as.alive()
	as.gen++
	c.gen++
	as.each(addr, length, func(a hal.UserAddr, _ *leaf, e *entry) {
		if !keep(hal.PFN(e.frame)) {
			return
		}
		if e.prot&hal.ProtWrite != 0 {
			e.prot, e.stamp = e.prot&^hal.ProtWrite, as.gen
			if e.installed {
				as.queueMap(a, 1, hal.PFN(e.frame), e.prot)
			}
		}
		l := c.leafFor(a)
		to := &l.pte[uint64(a)>>hal.PageShift%leafPages]
		if !to.present {
			c.pages++
			l.n++
		} else if to.installed {
			c.queueUnmap(a, 1)
		}
		*to = entry{frame: e.frame, prot: e.prot, present: true, stamp: c.gen}
	})
	as.sync()
	c.sync()
	return nil
}

// Settle implements hal.AddressSpace: Fork has done it.
func (as *AddressSpace) Settle() {}

// Walk implements hal.AddressSpace; f runs without the lock.
func (as *AddressSpace) Walk(addr hal.UserAddr, length uint64, clear bool, f func(hal.UserAddr, hal.PTE)) {
	var out []pageSeen
	as.mu.Lock()
	as.alive()
	as.gen++
	as.each(addr, length, func(a hal.UserAddr, _ *leaf, e *entry) {
		out = append(out, pageSeen{a, e.pte()})
		if clear && (e.accessed || e.dirty) {
			e.accessed, e.dirty = false, false
			if e.installed {
				e.installed, e.stamp = false, as.gen
				as.queueUnmap(a, 1)
			}
		}
	})
	as.sync()
	as.mu.Unlock()
	for _, s := range out {
		f(s.a, s.p)
	}
}

// fillAround is how many pages either way a TLB miss brings in, where they continue
// the frames of the page that missed.
const fillAround = 32

// fill installs the page at a and its neighbours. Called with mu held.
func (as *AddressSpace) fill(a hal.UserAddr, e *entry) {
	l := as.leaves[uint64(a)>>leafShift]
	i := int(uint64(a) >> hal.PageShift % leafPages)
	same := func(j int) bool {
		p := &l.pte[j]
		return p.present && !p.installed && p.prot == e.prot && int(p.frame)-int(e.frame) == j-i
	}
	from, to := i, i+1
	for from > 0 && i-from < fillAround && same(from-1) {
		from--
	}
	for to < leafPages && to-i < fillAround && same(to) {
		to++
	}
	as.gen++
	for j := from; j < to; j++ {
		l.pte[j].stamp = as.gen
		as.markInstalled(&l.pte[j])
	}
	as.queueMap(a-hal.UserAddr((i-from)<<hal.PageShift), to-from, hal.PFN(l.pte[from].frame), e.prot)
	as.sync()
}

// Retire implements hal.AddressSpace.
func (as *AddressSpace) Retire() {}

// Destroy implements hal.AddressSpace: the stub and all its threads end.
func (as *AddressSpace) Destroy() {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.alive()
	if as.pages != 0 {
		panic(fmt.Sprintf("hosted: Destroy of an address space with %d pages", as.pages))
	}
	as.end()
}

// end kills the stub. Called with mu held.
func (as *AddressSpace) end() {
	as.destroyed = true
	as.m.track(as, false)
	as.tmu.Lock()
	var tids []int
	for _, t := range as.tracees {
		tids = append(tids, t.tid)
	}
	clear(as.tracees)
	as.tmu.Unlock()
	as.stub.kill(tids)
}
