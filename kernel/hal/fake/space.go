package fake

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"kiln/kernel/hal"
)

// OpKind names a recorded call.
type OpKind uint8

// Recorded calls.
const (
	OpMap OpKind = 1 + iota
	OpProtect
	OpUnmap
)

// Op is one call of Map (one a batch element), Protect or Unmap.
type Op struct {
	Kind  OpKind
	Addr  hal.UserAddr
	Len   uint64
	Frame hal.PFN
	Prot  hal.Prot
}

// maxOps bounds the record; older calls are dropped first.
const maxOps = 1 << 14

const (
	leafShift = 21
	leafPages = 512
)

type leaf struct {
	n   int
	pte [leafPages]entry
}

type entry struct {
	hal.PTE
	present bool
}

// AddressSpace is a page table in software.
type AddressSpace struct {
	m         *Machine
	mu        sync.Mutex
	leaves    map[uint64]*leaf
	keys      []uint64 // sorted
	pages     int
	ops       []Op
	retired   bool
	destroyed bool
}

var _ hal.AddressSpace = (*AddressSpace)(nil)

// NewAddressSpace implements hal.Machine.
func (m *Machine) NewAddressSpace() (hal.AddressSpace, error) {
	return &AddressSpace{m: m, leaves: map[uint64]*leaf{}}, nil
}

// Ops returns the recorded calls and forgets them.
func (as *AddressSpace) Ops() []Op {
	as.mu.Lock()
	defer as.mu.Unlock()
	o := as.ops
	as.ops = nil
	return o
}

// Pages counts present pages.
func (as *AddressSpace) Pages() int {
	as.mu.Lock()
	defer as.mu.Unlock()
	return as.pages
}

func (as *AddressSpace) record(o Op) {
	if len(as.ops) >= maxOps {
		as.ops = append(as.ops[:0], as.ops[maxOps/2:]...)
	}
	as.ops = append(as.ops, o)
}

func (as *AddressSpace) entry(a hal.UserAddr, create bool) *entry {
	if a >= hal.UserTop {
		return nil
	}
	k := uint64(a) >> leafShift
	l := as.leaves[k]
	if l == nil {
		if !create {
			return nil
		}
		l = &leaf{}
		as.leaves[k] = l
		i, _ := slices.BinarySearch(as.keys, k)
		as.keys = slices.Insert(as.keys, i, k)
	}
	return &l.pte[uint64(a)>>hal.PageShift%leafPages]
}

// Map implements hal.AddressSpace.
func (as *AddressSpace) Map(batch []hal.Mapping) error {
	if as.m.MapHook != nil {
		if err := as.m.MapHook(batch); err != nil {
			return err
		}
	}
	as.mu.Lock()
	defer as.mu.Unlock()
	as.alive()
	for _, b := range batch {
		n := uint64(b.Pages) << hal.PageShift
		if b.Addr&hal.PageMask != 0 || b.Pages < 0 {
			panic(fmt.Sprintf("fake: Map of %#x, %d pages", b.Addr, b.Pages))
		}
		if b.Addr >= hal.UserTop || n > uint64(hal.UserTop-b.Addr) {
			return hal.ErrBadAddress
		}
		as.m.FrameRange(b.Frame, b.Pages)
		as.record(Op{OpMap, b.Addr, n, b.Frame, b.Prot})
		for i := 0; i < b.Pages; i++ {
			e := as.entry(b.Addr+hal.UserAddr(i<<hal.PageShift), true)
			if !e.present {
				as.pages++
				as.leaves[uint64(b.Addr+hal.UserAddr(i<<hal.PageShift))>>leafShift].n++
			}
			*e = entry{hal.PTE{Frame: b.Frame + hal.PFN(i), Prot: b.Prot}, true}
		}
	}
	return nil
}

func (as *AddressSpace) alive() {
	if as.destroyed {
		panic("fake: address space used after Destroy")
	}
}

// each calls f for present pages of the range, in order, with mu held.
func (as *AddressSpace) each(addr hal.UserAddr, length uint64, f func(a hal.UserAddr, l *leaf, e *entry)) {
	if addr&hal.PageMask != 0 {
		panic(fmt.Sprintf("fake: unaligned address %#x", addr))
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
		for j := range l.pte {
			a := hal.UserAddr(as.keys[i]<<leafShift + uint64(j)<<hal.PageShift)
			if a >= addr && a < end && l.pte[j].present {
				f(a, l, &l.pte[j])
			}
		}
	}
}

// Protect implements hal.AddressSpace.
func (as *AddressSpace) Protect(addr hal.UserAddr, length uint64, p hal.Prot) {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.alive()
	as.record(Op{Kind: OpProtect, Addr: addr, Len: length, Prot: p})
	as.each(addr, length, func(_ hal.UserAddr, _ *leaf, e *entry) { e.Prot = p })
}

// Unmap implements hal.AddressSpace; f runs without the lock.
func (as *AddressSpace) Unmap(addr hal.UserAddr, length uint64, f func(hal.UserAddr, hal.PTE)) {
	type gone struct {
		a hal.UserAddr
		p hal.PTE
	}
	var out []gone
	as.mu.Lock()
	as.alive()
	as.record(Op{Kind: OpUnmap, Addr: addr, Len: length})
	as.each(addr, length, func(a hal.UserAddr, l *leaf, e *entry) {
		if f != nil {
			out = append(out, gone{a, e.PTE})
		}
		*e = entry{}
		l.n--
		as.pages--
	})
	as.keys = slices.DeleteFunc(as.keys, func(k uint64) bool {
		if as.leaves[k].n > 0 {
			return false
		}
		delete(as.leaves, k)
		return true
	})
	as.mu.Unlock()
	for _, g := range out {
		f(g.a, g.p)
	}
}

// Query implements hal.AddressSpace.
func (as *AddressSpace) Query(addr hal.UserAddr) (hal.PTE, bool) {
	as.mu.Lock()
	defer as.mu.Unlock()
	if e := as.entry(addr, false); e != nil && e.present {
		return e.PTE, true
	}
	return hal.PTE{}, false
}

// Present implements hal.AddressSpace.
func (as *AddressSpace) Present(addr hal.UserAddr, pages int) (mask uint64) {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.each(addr, uint64(min(pages, 64))<<hal.PageShift, func(a hal.UserAddr, _ *leaf, _ *entry) {
		mask |= 1 << ((a - addr) >> hal.PageShift)
	})
	return mask
}

// Fork implements hal.AddressSpace. MapHook may refuse a page.
func (as *AddressSpace) Fork(child hal.AddressSpace, addr hal.UserAddr, length uint64, keep func(hal.PFN) bool) (err error) {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.alive()
	as.each(addr, length, func(a hal.UserAddr, _ *leaf, e *entry) {
		if err == nil && keep(e.Frame) {
			e.Prot &^= hal.ProtWrite
			err = child.Map([]hal.Mapping{{Addr: a, Frame: e.Frame, Pages: 1, Prot: e.Prot}})
		}
	})
	return err
}

// Settle implements hal.AddressSpace.
func (as *AddressSpace) Settle() {}

// Walk implements hal.AddressSpace; f runs without the lock.
func (as *AddressSpace) Walk(addr hal.UserAddr, length uint64, clear bool, f func(hal.UserAddr, hal.PTE)) {
	type seen struct {
		a hal.UserAddr
		p hal.PTE
	}
	var out []seen
	as.mu.Lock()
	as.alive()
	as.each(addr, length, func(a hal.UserAddr, _ *leaf, e *entry) {
		out = append(out, seen{a, e.PTE})
		if clear {
			e.Accessed, e.Dirty = false, false
		}
	})
	as.mu.Unlock()
	for _, s := range out {
		f(s.a, s.p)
	}
}

// access gives the bytes of a page from addr on, nil where a ring-3 access would
// fault. Called with mu held.
func (as *AddressSpace) access(addr hal.UserAddr, write bool) []byte {
	e := as.entry(addr, false)
	if e == nil || !e.present || e.Prot == hal.ProtNone || write && e.Prot&hal.ProtWrite == 0 {
		return nil
	}
	e.Accessed = true
	e.Dirty = e.Dirty || write
	return as.m.Frame(e.Frame)[addr&hal.PageMask:]
}

// copy runs f over the pieces of [addr, addr+n).
func (as *AddressSpace) copy(addr hal.UserAddr, n int, write bool, f func(piece []byte, done int)) (int, hal.UserAddr) {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.alive()
	done := 0
	for done < n {
		a := addr + hal.UserAddr(done)
		b := as.access(a, write)
		if b == nil {
			return done, a
		}
		b = b[:min(len(b), n-done)]
		f(b, done)
		done += len(b)
	}
	return done, 0
}

// CopyIn implements hal.AddressSpace.
func (as *AddressSpace) CopyIn(dst []byte, src hal.UserAddr) (int, hal.UserAddr) {
	return as.copy(src, len(dst), false, func(b []byte, done int) { copy(dst[done:], b) })
}

// CopyOut implements hal.AddressSpace.
func (as *AddressSpace) CopyOut(dst hal.UserAddr, src []byte) (int, hal.UserAddr) {
	return as.copy(dst, len(src), true, func(b []byte, done int) { copy(b, src[done:]) })
}

// Zero implements hal.AddressSpace.
func (as *AddressSpace) Zero(dst hal.UserAddr, n int) (int, hal.UserAddr) {
	return as.copy(dst, n, true, func(b []byte, _ int) { clear(b) })
}

// word finds an aligned word for an atomic access. Called with mu held.
func (as *AddressSpace) word(addr hal.UserAddr, write bool) *uint32 {
	if addr&3 != 0 {
		panic(fmt.Sprintf("fake: atomic access to unaligned %#x", addr))
	}
	b := as.access(addr, write)
	if b == nil {
		return nil
	}
	return (*uint32)(unsafe.Pointer(&b[0]))
}

// Load32 implements hal.AddressSpace.
func (as *AddressSpace) Load32(addr hal.UserAddr) (uint32, bool) {
	as.mu.Lock()
	defer as.mu.Unlock()
	p := as.word(addr, false)
	if p == nil {
		return 0, false
	}
	return atomic.LoadUint32(p), true
}

// CAS32 implements hal.AddressSpace.
func (as *AddressSpace) CAS32(addr hal.UserAddr, old, new uint32) (uint32, bool) {
	as.mu.Lock()
	defer as.mu.Unlock()
	p := as.word(addr, true)
	if p == nil {
		return 0, false
	}
	for {
		v := atomic.LoadUint32(p)
		if v != old || atomic.CompareAndSwapUint32(p, old, new) {
			return v, true
		}
	}
}

// Xchg32 implements hal.AddressSpace.
func (as *AddressSpace) Xchg32(addr hal.UserAddr, new uint32) (uint32, bool) {
	as.mu.Lock()
	defer as.mu.Unlock()
	p := as.word(addr, true)
	if p == nil {
		return 0, false
	}
	return atomic.SwapUint32(p, new), true
}

// Retire implements hal.AddressSpace.
func (as *AddressSpace) Retire() {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.alive()
	as.retired = true
}

// Destroy implements hal.AddressSpace.
func (as *AddressSpace) Destroy() {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.alive()
	if !as.retired {
		panic("fake: Destroy of an address space that is in use")
	}
	if as.pages != 0 {
		panic(fmt.Sprintf("fake: Destroy of an address space with %d pages", as.pages))
	}
	as.destroyed = true
}
