// Package paging is the program's half of an x86-64 page table: 4 levels, 4 KiB
// pages (SDM 3A 4.5). It is plain Go over an interface that hands out tables, so
// that the host tests it against a model; kernel/metal gives it real frames, and
// the hardware walks what it writes.
//
// Entries are read and written as whole words, with atomic operations where the
// CPU may set accessed and dirty bits at the same time.
//
// A page whose protection is ProtNone keeps its frame: the entry is not present
// for the CPU and carries bit 9 (ignored by hardware, SDM 3A table 4-20) to say
// that software still owns it.
//
// Lock order: Space.mu is a leaf. It is a spinning mutex of the Go runtime's: no
// method blocks under it.
package paging

import (
	"sync"
	"sync/atomic"

	"kiln/kernel/hal"
)

// Entry bits.
const (
	Present  = 1 << 0
	Writable = 1 << 1
	User     = 1 << 2
	Accessed = 1 << 5
	Dirty    = 1 << 6
	None     = 1 << 9 // ours: a page without access
	readable = 1 << 10
	NX       = 1 << 63

	addrMask = 0x000ffffffffff000
	entries  = 512
)

// Table is one page of a page table.
type Table = [entries]uint64

// Tables gives and takes pages for tables and finds their bytes.
type Tables interface {
	// Alloc gives a zeroed table's physical address.
	Alloc() (uint64, error)
	Free(pa uint64)
	Table(pa uint64) *Table
}

// Flusher invalidates a range in every TLB that may hold it, and the caches of
// paging structures; a large range means the whole lower half.
type Flusher interface {
	Flush(addr hal.UserAddr, pages int)
}

// Space is one lower half. Root is its top table (CR3).
type Space struct {
	mu   sync.Mutex
	t    Tables
	f    Flusher
	Root uint64
	// last remembers the last leaf table: faults and batches come in runs.
	lastBase hal.UserAddr
	last     *Table
}

// New makes an empty lower half whose top table is root (the upper half already
// filled in by the caller).
func New(t Tables, f Flusher, root uint64) *Space {
	return &Space{t: t, f: f, Root: root, lastBase: ^hal.UserAddr(0)}
}

const (
	leafSpan = hal.UserAddr(entries) << hal.PageShift // bytes under one leaf table
	batchMax = 256                                    // pages reported between two flushes
)

func index(a hal.UserAddr, level uint) int { return int(a>>(hal.PageShift+9*level)) & (entries - 1) }

// leaf finds the leaf table for a; nil if it is absent and create is false.
// Called with mu held.
func (s *Space) leaf(a hal.UserAddr, create bool) (*Table, error) {
	base := a &^ (leafSpan - 1)
	if base == s.lastBase {
		return s.last, nil
	}
	t := s.t.Table(s.Root)
	for level := uint(3); level >= 1; level-- {
		e := &t[index(a, level)]
		if *e&Present == 0 {
			if !create {
				return nil, nil
			}
			pa, err := s.t.Alloc()
			if err != nil {
				return nil, err
			}
			atomic.StoreUint64(e, pa|Present|Writable|User)
		}
		t = s.t.Table(*e & addrMask)
	}
	s.lastBase, s.last = base, t
	return t, nil
}

func encode(pa uint64, p hal.Prot) uint64 {
	e := pa | User | Accessed
	if p == hal.ProtNone {
		return e | None | NX
	}
	e |= Present
	if p&hal.ProtRead != 0 {
		e |= readable
	}
	if p&hal.ProtWrite != 0 {
		e |= Writable
	}
	if p&hal.ProtExec == 0 {
		e |= NX
	}
	return e
}

func decode(e uint64) hal.PTE {
	pte := hal.PTE{
		Frame:    hal.PFN(e & addrMask >> hal.PageShift),
		Accessed: e&Accessed != 0,
		Dirty:    e&Dirty != 0,
	}
	if e&Present != 0 {
		if e&readable != 0 {
			pte.Prot |= hal.ProtRead
		}
		if e&Writable != 0 {
			pte.Prot |= hal.ProtWrite
		}
		if e&NX == 0 {
			pte.Prot |= hal.ProtExec
		}
	}
	return pte
}

func owned(e uint64) bool { return e&(Present|None) != 0 }

func inside(a hal.UserAddr, length uint64) bool {
	return a < hal.UserTop && length <= uint64(hal.UserTop-a) && a&hal.PageMask == 0
}

// Map implements hal.AddressSpace.
func (s *Space) Map(batch []hal.Mapping) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range batch {
		m := &batch[i]
		if !inside(m.Addr, uint64(m.Pages)<<hal.PageShift) {
			return hal.ErrBadAddress
		}
		if err := s.mapRun(m); err != nil {
			return err
		}
	}
	return nil
}

func (s *Space) mapRun(m *hal.Mapping) error {
	stale := 0
	a, pa := m.Addr, uint64(m.Frame.Addr())
	for n := 0; n < m.Pages; n++ {
		t, err := s.leaf(a, true)
		if err != nil {
			return err
		}
		// Only what was present can be in a TLB (SDM 3A 4.10.2.3).
		if atomic.SwapUint64(&t[index(a, 0)], encode(pa, m.Prot))&Present != 0 {
			stale++
		}
		a, pa = a+hal.PageSize, pa+hal.PageSize
	}
	if stale > 0 {
		s.f.Flush(m.Addr, m.Pages)
	}
	return nil
}

// each calls f for every owned entry of the range, skipping absent tables whole.
// Called with mu held.
func (s *Space) each(a hal.UserAddr, length uint64, f func(a hal.UserAddr, e *uint64) bool) {
	end := a + hal.UserAddr(length)
	if end > hal.UserTop || end < a {
		end = hal.UserTop
	}
	for a < end {
		t, skip := s.find(a)
		if t == nil {
			a = (a &^ (skip - 1)) + skip
			continue
		}
		stop := min((a&^(leafSpan-1))+leafSpan, end)
		for ; a < stop; a += hal.PageSize {
			if e := &t[index(a, 0)]; owned(*e) && !f(a, e) {
				return
			}
		}
	}
}

// find is leaf without creating; skip is the span of the absent entry.
func (s *Space) find(a hal.UserAddr) (t *Table, skip hal.UserAddr) {
	base := a &^ (leafSpan - 1)
	if base == s.lastBase {
		return s.last, 0
	}
	t = s.t.Table(s.Root)
	for level := uint(3); level >= 1; level-- {
		e := t[index(a, level)]
		if e&Present == 0 {
			return nil, 1 << (hal.PageShift + 9*level)
		}
		t = s.t.Table(e & addrMask)
	}
	s.lastBase, s.last = base, t
	return t, 0
}

// update swaps an entry for f(old) against the CPU's own accessed and dirty writes.
func update(e *uint64, f func(uint64) uint64) (old uint64) {
	for {
		old = atomic.LoadUint64(e)
		if atomic.CompareAndSwapUint64(e, old, f(old)) {
			return old
		}
	}
}

// Protect implements hal.AddressSpace.
func (s *Space) Protect(addr hal.UserAddr, length uint64, p hal.Prot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	first, last := addr, addr
	s.each(addr, length, func(a hal.UserAddr, e *uint64) bool {
		old := update(e, func(old uint64) uint64 { return encode(old&addrMask, p) | old&(Accessed|Dirty) })
		if old&Present != 0 {
			if n == 0 {
				first = a
			}
			last = a
			n++
		}
		return true
	})
	if n > 0 {
		s.f.Flush(first, int((last-first)>>hal.PageShift)+1)
	}
}

type removed struct {
	addr hal.UserAddr
	e    uint64
}

// Unmap implements hal.AddressSpace: entries are cleared and flushed in batches, and
// only then reported, so that no TLB can reach a frame its owner frees.
func (s *Space) Unmap(addr hal.UserAddr, length uint64, f func(hal.UserAddr, hal.PTE)) {
	if length == 0 {
		return
	}
	end := addr + hal.UserAddr(length)
	var buf [batchMax]removed
	for addr < end {
		n, next := s.unmapBatch(&buf, addr, end)
		if f != nil {
			for i := range buf[:n] {
				f(buf[i].addr, decode(buf[i].e))
			}
		}
		addr = next
	}
	s.prune(end-hal.UserAddr(length), end)
}

func (s *Space) unmapBatch(buf *[batchMax]removed, addr, end hal.UserAddr) (n int, next hal.UserAddr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next = end
	flush := false
	s.each(addr, uint64(end-addr), func(a hal.UserAddr, e *uint64) bool {
		if n == len(buf) {
			next = a
			return false
		}
		old := atomic.SwapUint64(e, 0)
		buf[n] = removed{a, old}
		n++
		flush = flush || old&Present != 0
		return true
	})
	if flush {
		s.f.Flush(buf[0].addr, int((buf[n-1].addr-buf[0].addr)>>hal.PageShift)+1)
	}
	return n, next
}

// prune frees tables that lie wholly in [start, end) and are empty. A large
// unmap would otherwise leave its tables behind for the life of the process.
func (s *Space) prune(start, end hal.UserAddr) {
	if end-start < leafSpan {
		return
	}
	if end == hal.UserTop {
		end += hal.PageSize // the last page is never mapped, so its table counts as whole
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastBase, s.last = ^hal.UserAddr(0), nil
	var dead []uint64
	s.pruneTable(s.Root, 3, 0, start, end, &dead)
	if len(dead) > 0 {
		// Paging-structure caches hold the upper entries (SDM 3A 4.10.3): all
		// must go before a table is used for something else.
		s.f.Flush(start, int((end-start)>>hal.PageShift))
		for _, pa := range dead {
			s.t.Free(pa)
		}
	}
}

func (s *Space) pruneTable(pa uint64, level uint, base, start, end hal.UserAddr, dead *[]uint64) {
	t := s.t.Table(pa)
	span := hal.UserAddr(1) << (hal.PageShift + 9*level)
	top := entries
	if level == 3 {
		top = entries / 2
	}
	for i := range top {
		lo := base + hal.UserAddr(i)*span
		e := t[i]
		if e&Present == 0 || lo+span <= start || lo >= end {
			continue
		}
		child := e & addrMask
		if level > 1 {
			s.pruneTable(child, level-1, lo, start, end, dead)
		}
		if lo >= start && lo+span <= end && empty(s.t.Table(child)) {
			atomic.StoreUint64(&t[i], 0)
			*dead = append(*dead, child)
		}
	}
}

func empty(t *Table) bool {
	for _, e := range t {
		if e != 0 {
			return false
		}
	}
	return true
}

// Query implements hal.AddressSpace.
func (s *Space) Query(addr hal.UserAddr) (hal.PTE, bool) {
	if addr >= hal.UserTop {
		return hal.PTE{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, _ := s.find(addr)
	if t == nil {
		return hal.PTE{}, false
	}
	e := atomic.LoadUint64(&t[index(addr, 0)])
	return decode(e), owned(e)
}

// Walk implements hal.AddressSpace.
func (s *Space) Walk(addr hal.UserAddr, length uint64, clear bool, f func(hal.UserAddr, hal.PTE)) {
	var buf [batchMax]removed
	end := addr + hal.UserAddr(length)
	for addr < end {
		n, next := s.walkBatch(&buf, addr, end, clear)
		for i := range buf[:n] {
			f(buf[i].addr, decode(buf[i].e))
		}
		addr = next
	}
}

func (s *Space) walkBatch(buf *[batchMax]removed, addr, end hal.UserAddr, clear bool) (n int, next hal.UserAddr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next = end
	changed := false
	s.each(addr, uint64(end-addr), func(a hal.UserAddr, e *uint64) bool {
		if n == len(buf) {
			next = a
			return false
		}
		old := atomic.LoadUint64(e)
		if clear && old&(Accessed|Dirty) != 0 {
			old = update(e, func(o uint64) uint64 { return o &^ (Accessed | Dirty) })
			changed = true
		}
		buf[n] = removed{a, old}
		n++
		return true
	})
	if changed {
		s.f.Flush(buf[0].addr, int((buf[n-1].addr-buf[0].addr)>>hal.PageShift)+1)
	}
	return n, next
}

// Frame finds the frame behind addr for an access by software: the walk that a copy
// to a space that no CPU runs in needs. ok is false where a ring-3 access would fault.
func (s *Space) Frame(addr hal.UserAddr, write bool) (hal.PFN, bool) {
	if addr >= hal.UserTop {
		return 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, _ := s.find(addr)
	if t == nil {
		return 0, false
	}
	e := &t[index(addr, 0)]
	v := atomic.LoadUint64(e)
	if v&Present == 0 || write && v&Writable == 0 {
		return 0, false
	}
	set := uint64(Accessed)
	if write {
		set |= Dirty
	}
	if v&set != set {
		update(e, func(o uint64) uint64 { return o | set })
	}
	return hal.PFN(v & addrMask >> hal.PageShift), true
}

// Destroy frees every table of the lower half but the root, which is the caller's.
func (s *Space) Destroy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastBase, s.last = ^hal.UserAddr(0), nil
	root := s.t.Table(s.Root)
	for i := range entries / 2 {
		if e := root[i]; e&Present != 0 {
			root[i] = 0
			s.free(e&addrMask, 2)
		}
	}
}

func (s *Space) free(pa uint64, level uint) {
	if level > 0 {
		for _, e := range s.t.Table(pa) {
			if e&Present != 0 {
				s.free(e&addrMask, level-1)
			}
		}
	}
	s.t.Free(pa)
}
