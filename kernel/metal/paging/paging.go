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
// Lock order: Space.mu is a leaf; callbacks run without it, so they may use the
// Space. No method blocks under it.
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
// paging structures; a large range means the whole lower half. tables says that tables
// will be freed: then no CPU may walk them any more, not even for nothing.
type Flusher interface {
	Flush(addr hal.UserAddr, pages int, tables bool)
}

// Space is one lower half. Root is its top table (CR3).
type Space struct {
	mu   sync.Mutex
	t    Tables
	f    Flusher
	Root uint64
	// The last leaf table and the entries that lead to it (up[0] points to the
	// leaf): faults and batches come in runs.
	lastBase hal.UserAddr
	last     *Table
	up       [3]*uint64
	forked   span        // lost its write permission to a child
	tables   int         // below the root
	retired  atomic.Bool // no TLB holds anything of it
}

// Init makes s an empty lower half whose top table is root (the upper half already
// filled in by the caller).
func (s *Space) Init(t Tables, f Flusher, root uint64) {
	*s = Space{t: t, f: f, Root: root, lastBase: ^hal.UserAddr(0)}
}

const (
	leafSpan = hal.UserAddr(entries) << hal.PageShift // bytes under one leaf table
	// An entry that points to a table counts the table's entries in bits that the
	// hardware ignores (62:52, SDM 3A table 4-19): an empty table is known at once.
	countOne  = 1 << 52
	countMask = 0x7ff << 52
	tableBits = Present | Writable | User | Accessed // the CPU never writes upper entries

	smallBatch = 16  // pages reported between two flushes, on the stack
	largeBatch = 512 // the same for larger ranges, in spares
)

func index(a hal.UserAddr, level uint) int { return int(a>>(hal.PageShift+9*level)) & (entries - 1) }

// path finds the tables above a down to the leaf; false with create unset if one is
// absent, skip being the span of its entry. Called with mu held.
func (s *Space) path(a hal.UserAddr, create bool) (ok bool, skip hal.UserAddr, err error) {
	base := a &^ (leafSpan - 1)
	if base == s.lastBase {
		return true, 0, nil
	}
	t := s.t.Table(s.Root)
	var up [4]*uint64
	for level := uint(3); level >= 1; level-- {
		e := &t[index(a, level)]
		if *e&Present == 0 {
			if !create {
				return false, 1 << (hal.PageShift + 9*level), nil
			}
			pa, err := s.t.Alloc()
			if err != nil {
				// Tables just made above it stay, empty, for a later Map there
				// or Destroy.
				return false, 0, err
			}
			s.tables++
			atomic.StoreUint64(e, pa|tableBits)
			if up[level] != nil {
				*up[level] += countOne
			}
		}
		up[level-1] = e
		t = s.t.Table(*e & addrMask)
	}
	s.lastBase, s.last, s.up = base, t, [3]*uint64(up[:3])
	return true, 0, nil
}

// forget drops the remembered path: a table on it is going away.
func (s *Space) forget() { s.lastBase, s.last = ^hal.UserAddr(0), nil }

// dropLeaf cuts the remembered leaf table out, and the tables above it that become
// empty, and chains them through their first words, which stay non-present for a
// CPU that still has an upper entry cached. Called with mu held.
func (s *Space) dropLeaf(chain uint64) uint64 {
	s.forget()
	for level := 0; level < 3; level++ {
		pa := *s.up[level] & addrMask
		s.t.Table(pa)[0] = chain
		chain = pa
		atomic.StoreUint64(s.up[level], 0)
		if level == 2 {
			break
		}
		if *s.up[level+1] -= countOne; *s.up[level+1]&countMask != 0 {
			break
		}
	}
	return chain
}

// freeChain frees what dropLeaf cut out. It has been flushed.
func (s *Space) freeChain(chain uint64) {
	for chain != 0 {
		next := s.t.Table(chain)[0]
		s.tables--
		s.t.Free(chain)
		chain = next
	}
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

func inside(a hal.UserAddr, pages int) bool {
	return pages >= 0 && a < hal.UserTop && uint64(pages) <= uint64(hal.UserTop-a)>>hal.PageShift && a&hal.PageMask == 0
}

// clip is the page-aligned part of a range that programs can map.
func clip(addr hal.UserAddr, length uint64) (start, end hal.UserAddr) {
	start, end = addr&^hal.PageMask, addr+hal.UserAddr(length)
	if end < addr || end > hal.UserTop {
		end = hal.UserTop
	}
	return start, (end + hal.PageMask) &^ hal.PageMask
}

// Map implements hal.AddressSpace.
func (s *Space) Map(batch []hal.Mapping) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range batch {
		m := &batch[i]
		if !inside(m.Addr, m.Pages) {
			return hal.ErrBadAddress
		}
		if err := s.mapRun(m); err != nil {
			return err
		}
	}
	return nil
}

func (s *Space) mapRun(m *hal.Mapping) (err error) {
	stale := false
	a, e := m.Addr, encode(uint64(m.Frame.Addr()), m.Prot)
	for left := m.Pages; left > 0; {
		if _, _, err = s.path(a, true); err != nil {
			break
		}
		i := index(a, 0)
		run := min(left, entries-i)
		fresh := uint64(0)
		for j := i; j < i+run; j++ {
			old := atomic.SwapUint64(&s.last[j], e)
			if !owned(old) {
				fresh += countOne
			}
			// Only what was present can be in a TLB (SDM 3A 4.10.2.3).
			stale = stale || old&Present != 0
			e += hal.PageSize
		}
		*s.up[0] += fresh
		a += hal.UserAddr(run) << hal.PageShift
		left -= run
	}
	if stale {
		s.f.Flush(m.Addr, m.Pages, false)
	}
	return err
}

// leafRun finds the next leaf table with entries of [a, end): entries [i, j) of
// s.last, for addresses from at. False at the end. Called with mu held.
func (s *Space) leafRun(a, end hal.UserAddr) (at hal.UserAddr, i, j int, ok bool) {
	for a < end {
		found, skip, _ := s.path(a, false)
		if found {
			i = index(a, 0)
			return a, i, i + int(min(leafSpan-a&(leafSpan-1), end-a)>>hal.PageShift), true
		}
		a = a&^(skip-1) + skip
	}
	return end, 0, 0, false
}

// span is what has to be flushed, added in address order.
type span struct {
	first, last hal.UserAddr
	any         bool
}

func (p *span) add(a hal.UserAddr) {
	if !p.any {
		p.first, p.any = a, true
	}
	p.last = a
}

// takesAway says whether an entry that replaces old, for the same frame, permits less: only
// then must old leave the TLBs. For want of what is added a CPU faults and drops its
// entry (SDM 3A 4.10.4.3).
func takesAway(old, e uint64) bool {
	return old&Present != 0 && (e&Present == 0 || old&^e&Writable != 0 || e&^old&NX != 0)
}

func (p *span) flush(f Flusher, tables bool) {
	if p.any {
		f.Flush(p.first, int((p.last-p.first)>>hal.PageShift)+1, tables)
	}
}

// Protect implements hal.AddressSpace.
func (s *Space) Protect(addr hal.UserAddr, length uint64, p hal.Prot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var stale span
	a, end := clip(addr, length)
	for {
		at, i, j, ok := s.leafRun(a, end)
		if !ok {
			break
		}
		for a = at; i < j; i++ {
			e := &s.last[i]
			for old := atomic.LoadUint64(e); owned(old); old = atomic.LoadUint64(e) {
				// The CPU may set accessed and dirty meanwhile.
				n := encode(old&addrMask, p)&^Accessed | old&(Accessed|Dirty)
				if atomic.CompareAndSwapUint64(e, old, n) {
					if takesAway(old, n) {
						stale.add(a)
					}
					break
				}
			}
			a += hal.PageSize
		}
	}
	stale.flush(s.f, false)
}

type removed struct {
	addr hal.UserAddr
	e    uint64
}

// spares are large batches that nobody uses. They are everybody's: a Space that lives for
// one command is too short-lived for one of its own.
var spares = sync.Pool{New: func() any { return new([largeBatch]removed) }}

// Unmap implements hal.AddressSpace: entries are cleared and flushed in batches, and
// only then reported, so that no TLB can reach a frame its owner frees.
func (s *Space) Unmap(addr hal.UserAddr, length uint64, f func(hal.UserAddr, hal.PTE)) {
	if s.retired.Load() {
		s.reap(addr, length, f)
		return
	}
	var small [smallBatch]removed
	buf := small[:]
	if length > smallBatch*hal.PageSize {
		spare := spares.Get().(*[largeBatch]removed)
		defer spares.Put(spare)
		buf = spare[:]
	}
	for a, end := clip(addr, length); a < end; {
		n, next := s.unmapBatch(buf, a, end)
		if f != nil {
			for i := range buf[:n] {
				f(buf[i].addr, decode(buf[i].e))
			}
		}
		a = next
	}
}

// unmapBatch clears pages until buf is full or the range ends; next is where to go
// on. Tables that become empty are freed.
func (s *Space) unmapBatch(buf []removed, a, end hal.UserAddr) (n int, next hal.UserAddr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var stale span
	chain := uint64(0)
	for n < len(buf) {
		at, i, j, ok := s.leafRun(a, end)
		if !ok {
			a = end
			break
		}
		stop := at + hal.UserAddr(j-i)<<hal.PageShift
		for a = at; i < j && n < len(buf); i++ {
			if s.last[i] == 0 { // as most are of a thread's stack
				k := skipEmpty(s.last[:j], i)
				a += hal.UserAddr(k-i) << hal.PageShift
				if i = k; i == j {
					break
				}
			}
			if owned(s.last[i]) {
				old := atomic.SwapUint64(&s.last[i], 0)
				buf[n] = removed{a, old}
				n++
				if old&Present != 0 {
					stale.add(a)
				}
				if *s.up[0] -= countOne; *s.up[0]&countMask == 0 {
					chain = s.dropLeaf(chain)
					a = stop
					break
				}
			}
			a += hal.PageSize
		}
	}
	if chain != 0 {
		// The processor caches upper entries too, and any INVLPG or CR3 load
		// drops all of those (SDM 3A 4.10.4.1).
		if !stale.any {
			stale.add(a &^ hal.PageMask)
		}
	}
	stale.flush(s.f, chain != 0)
	s.freeChain(chain)
	return n, a
}

// reap is Unmap where no TLB is to be thought of.
func (s *Space) reap(addr hal.UserAddr, length uint64, f func(hal.UserAddr, hal.PTE)) {
	for a, end := clip(addr, length); a < end; {
		a = s.reapTable(a, end, f)
	}
}

// reapTable reaps the next leaf table with entries of [a, end), and gives the address behind
// it. f is called with mu held: reclaim and truncation still look at what the space maps of
// files that mm has not yet come to.
func (s *Space) reapTable(a, end hal.UserAddr, f func(hal.UserAddr, hal.PTE)) hal.UserAddr {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, i, j, ok := s.leafRun(a, end)
	if !ok {
		return end
	}
	run, up, left := s.last[i:j], s.up[0], *s.up[0]&countMask
	for k := skipEmpty(run, 0); k < len(run); k = skipEmpty(run, k+1) {
		e := run[k]
		run[k] = 0
		if f != nil {
			f(at+hal.UserAddr(k)<<hal.PageShift, decode(e))
		}
		if left -= countOne; left == 0 {
			break
		}
	}
	*up = *up&^countMask | left
	if left == 0 {
		s.freeChain(s.dropLeaf(0))
	}
	return at + hal.UserAddr(j-i)<<hal.PageShift
}

// skipEmpty is the first of run's entries from k on that is owned, len(run) if none is. An
// entry that is not owned is 0, and most of a sparse table is.
func skipEmpty(run []uint64, k int) int {
	for k < len(run) && run[k] == 0 {
		if k+8 <= len(run) {
			if g := (*[8]uint64)(run[k:]); g[1]|g[2]|g[3]|g[4]|g[5]|g[6]|g[7] == 0 {
				k += 8
				continue
			}
		}
		k++
	}
	return k
}

// Retire implements hal.AddressSpace but for taking the space from the CPUs.
func (s *Space) Retire() {
	s.retired.Store(true)
}

// Present implements hal.AddressSpace.
func (s *Space) Present(addr hal.UserAddr, pages int) (mask uint64) {
	s.mu.Lock()
	a, end := clip(addr, uint64(min(pages, 64))<<hal.PageShift)
	for first := a; a < end; {
		at, i, j, ok := s.leafRun(a, end)
		if !ok {
			break
		}
		bit := uint64(1) << ((at - first) >> hal.PageShift)
		for k := range s.last[i:j] {
			if owned(atomic.LoadUint64(&s.last[i+k])) {
				mask |= bit
			}
			bit <<= 1
		}
		a = at + hal.UserAddr(j-i)<<hal.PageShift
	}
	s.mu.Unlock()
	return mask
}

// Fork is hal.AddressSpace's: pages go over table by table. What is write-protected at once
// but flushed later (Settle) does no harm: until then nobody runs in the child.
func (s *Space) Fork(child *Space, addr hal.UserAddr, length uint64, keep func(hal.PFN) bool) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	child.mu.Lock()
	defer child.mu.Unlock()
	for a, end := clip(addr, length); err == nil; {
		at, i, j, ok := s.leafRun(a, end)
		if !ok {
			break
		}
		a = at + hal.UserAddr(j-i)<<hal.PageShift
		err = s.forkRun(child, at, i, j, keep)
	}
	return err
}

// Settle implements hal.AddressSpace.
func (s *Space) Settle() {
	s.mu.Lock()
	s.forked.flush(s.f, false)
	s.forked = span{}
	s.mu.Unlock()
}

// forkRun is Fork within one leaf table. Called with both mu held.
func (s *Space) forkRun(child *Space, at hal.UserAddr, i, j int, keep func(hal.PFN) bool) error {
	from, base, to := s.last[i:j], i, (*Table)(nil)
	for k := skipEmpty(from, 0); k < len(from); k = skipEmpty(from, k+1) {
		e := atomic.LoadUint64(&from[k])
		if !keep(hal.PFN(e & addrMask >> hal.PageShift)) {
			continue
		}
		a := at + hal.UserAddr(k)<<hal.PageShift
		if to == nil {
			if _, _, err := child.path(a, true); err != nil {
				return err
			}
			to = child.last
		}
		if e&Writable != 0 {
			// The CPU may set accessed and dirty meanwhile.
			atomic.AndUint64(&from[k], ^uint64(Writable))
			s.forked.add(a)
		}
		c := &to[(base+k)%entries]
		if !owned(*c) {
			*child.up[0] += countOne
		}
		*c = e&^(Writable|Dirty) | Accessed
	}
	return nil
}

// Query implements hal.AddressSpace.
func (s *Space) Query(addr hal.UserAddr) (hal.PTE, bool) {
	if addr >= hal.UserTop {
		return hal.PTE{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ok, _, _ := s.path(addr, false); !ok {
		return hal.PTE{}, false
	}
	e := atomic.LoadUint64(&s.last[index(addr, 0)])
	return decode(e), owned(e)
}

// Walk implements hal.AddressSpace.
func (s *Space) Walk(addr hal.UserAddr, length uint64, clear bool, f func(hal.UserAddr, hal.PTE)) {
	var small [smallBatch]removed
	buf := small[:]
	if length > smallBatch*hal.PageSize {
		spare := spares.Get().(*[largeBatch]removed)
		defer spares.Put(spare)
		buf = spare[:]
	}
	for a, end := clip(addr, length); a < end; {
		n, next := s.walkBatch(buf, a, end, clear)
		for i := range buf[:n] {
			f(buf[i].addr, decode(buf[i].e))
		}
		a = next
	}
}

func (s *Space) walkBatch(buf []removed, a, end hal.UserAddr, clear bool) (n int, next hal.UserAddr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var stale span
	for n < len(buf) {
		at, i, j, ok := s.leafRun(a, end)
		if !ok {
			a = end
			break
		}
		for a = at; i < j && n < len(buf); i++ {
			old := atomic.LoadUint64(&s.last[i])
			if owned(old) {
				if clear && old&(Accessed|Dirty) != 0 {
					old = atomic.AndUint64(&s.last[i], ^uint64(Accessed|Dirty))
					stale.add(a)
				}
				buf[n] = removed{a, old}
				n++
			}
			a += hal.PageSize
		}
	}
	stale.flush(s.f, false)
	return n, a
}

// Destroy frees every table of the lower half but the root, which is the caller's.
func (s *Space) Destroy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget()
	if s.tables == 0 {
		return
	}
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
