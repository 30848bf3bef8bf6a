package mm

import (
	"sync"
	"sync/atomic"

	"kiln/kernel/hal"
)

// vmFlags are the properties of a mapping beside its protection.
type vmFlags uint16

const (
	vmShared vmFlags = 1 << iota
	vmGrowsDown
	vmLocked
	vmNoReserve
	vmDontFork
	vmWipeOnFork
	vmDontDump
	vmAccount // its pages are counted in Memory.committed
	vmRandRead
	vmSeqRead
	vmMergeable // MADV_MERGEABLE and its kin keep mappings apart, and nothing else
	vmHuge
	vmNoHuge
	vmSpecial // vvar, vdso: mremap and madvise leave it alone
)

// backing is what the pieces of one mapping have in common.
type backing struct {
	name     string
	dev, ino uint64
	refs     atomic.Int64 // VMAs, in all address spaces
	file     Counted      // MapArgs.File

	opened, closed func(owner int32) // of each VMA
}

func (b *backing) incRef(s *Space) {
	if b == nil {
		return
	}
	b.refs.Add(1)
	if b.opened != nil {
		b.opened(s.owner.Load())
	}
}

func (b *backing) decRef(s *Space) {
	if b == nil {
		return
	}
	if b.closed != nil {
		b.closed(s.owner.Load())
	}
	if b.refs.Add(-1) != 0 {
		return
	}
	s.mem.budget.Uncharge(backingCost)
	if b.file != nil {
		b.file.DecRef()
	}
}

// SetOwner notes which process the space is, for MapArgs.Opened and Closed, and for who sets
// its limits; Owner says.
func (s *Space) SetOwner(pid int32) { s.owner.Store(pid) }
func (s *Space) Owner() int32       { return s.owner.Load() }

// like says whether two mappings may merge as far as their backing goes.
func (b *backing) like(o *backing) bool {
	if b == o {
		return b == nil || b.closed == nil
	}
	return b != nil && o != nil && b.file == o.file && b.name == o.name && b.dev == o.dev && b.ino == o.ino
}

// vma is one mapping: [start, end) of a Space. It is a node of the space's treap, and
// of its object's list of mappings.
type vma struct {
	start, end uint64
	off        int64 // file offset of start, bytes
	obj        *Object
	back       *backing
	space      *Space

	prot, maxProt hal.Prot
	flags         vmFlags
	policy        Policy
	prio          uint32

	left, right, parent *vma
	gap, maxGap         uint64 // free bytes below start; the largest in the subtree

	uffd *Userfault // who fills absent pages in; nil: the kernel

	onext, oprev *vma // onext also links the dead
}

// spareVMAs are nodes that nobody uses: processes come and go with a dozen each.
var spareVMAs = sync.Pool{New: func() any { return new(vma) }}

// newVMA is a mapping like v.
func newVMA(v vma) *vma {
	n := spareVMAs.Get().(*vma)
	*n = v
	return n
}

// vmaCost and backingCost are what a mapping and its backing are charged to the kernel-heap
// budget.
const (
	vmaCost     = 160
	backingCost = 96
)

// stackGuardGap is kept free below a growing stack (256 pages, as in Linux).
const stackGuardGap = 256 * hal.PageSize

// minAddr is vm.mmap_min_addr.
const minAddr = 0x10000

func (v *vma) pages() int64 { return int64((v.end - v.start) >> hal.PageShift) }
func (v *vma) shared() bool { return v.flags&vmShared != 0 }
func (v *vma) size() uint64 { return v.end - v.start }
func (v *vma) index(a uint64) int64 { // page of the object at address a
	return (v.off + int64(a-v.start)) >> hal.PageShift
}

// lowEdge is where the mapping's claim begins: below a stack lies its guard.
func (v *vma) lowEdge() uint64 {
	if v.flags&vmGrowsDown == 0 {
		return v.start
	}
	if v.start < stackGuardGap {
		return 0
	}
	return v.start - stackGuardGap
}

// pteProt is the protection of a page of the mapping whose frame may be written in
// place (own) or must not.
func (v *vma) pteProt(own bool) hal.Prot {
	return tableProt(v.prot, own)
}

// tableProt is what the page table can say of a protection: what can be written or
// executed can be read, too (SDM 3A 4.6).
func tableProt(p hal.Prot, write bool) hal.Prot {
	if p != 0 {
		p |= hal.ProtRead
	}
	if !write {
		p &^= hal.ProtWrite
	}
	return p
}

// canMerge says whether next, which begins where v ends, could be one with it.
func (v *vma) canMerge(next *vma) bool {
	return v.end == next.start && v.prot == next.prot && v.maxProt == next.maxProt &&
		v.flags == next.flags && v.policy == next.policy && v.flags&vmSpecial == 0 && v.obj == next.obj &&
		(v.obj == nil || v.off+int64(v.size()) == next.off) && v.back.like(next.back) && v.uffd == next.uffd
}

// vmaTree is a treap of disjoint mappings in address order. Each node knows the free
// space below it and the largest such gap in its subtree, so that finding, placing
// and removing are logarithmic whatever a program does.
type vmaTree struct {
	root *vma
	n    int
	seed uint32
}

// above is the first mapping that ends above a.
func (t *vmaTree) above(a uint64) *vma {
	var best *vma
	for v := t.root; v != nil; {
		if v.end > a {
			best = v
			if v.start <= a {
				break
			}
			v = v.left
		} else {
			v = v.right
		}
	}
	return best
}

// at is the mapping that contains a, nil if none does.
func (t *vmaTree) at(a uint64) *vma {
	if v := t.above(a); v != nil && v.start <= a {
		return v
	}
	return nil
}

func (t *vmaTree) first() *vma {
	v := t.root
	for v != nil && v.left != nil {
		v = v.left
	}
	return v
}

func (t *vmaTree) lastOne() *vma {
	v := t.root
	for v != nil && v.right != nil {
		v = v.right
	}
	return v
}

func (v *vma) next() *vma {
	if v.right != nil {
		for v = v.right; v.left != nil; v = v.left {
		}
		return v
	}
	for v.parent != nil && v.parent.right == v {
		v = v.parent
	}
	return v.parent
}

func (v *vma) prev() *vma {
	if v.left != nil {
		for v = v.left; v.right != nil; v = v.right {
		}
		return v
	}
	for v.parent != nil && v.parent.left == v {
		v = v.parent
	}
	return v.parent
}

// pull recomputes the subtree's largest gap.
func (v *vma) pull() {
	m := v.gap
	if v.left != nil {
		m = max(m, v.left.maxGap)
	}
	if v.right != nil {
		m = max(m, v.right.maxGap)
	}
	v.maxGap = m
}

// regap recomputes v's gap after it or its neighbour below moved.
func (t *vmaTree) regap(v *vma) {
	if v == nil {
		return
	}
	var below uint64
	if p := v.prev(); p != nil {
		below = p.end
	}
	v.gap = 0
	if e := v.lowEdge(); e > below {
		v.gap = e - below
	}
	for ; v != nil; v = v.parent {
		was := v.maxGap
		if v.pull(); v.maxGap == was {
			break // nothing changes above
		}
	}
}

// moved is called after v.start, v.end or its growth flag changed.
func (t *vmaTree) moved(v *vma) {
	t.regap(v)
	t.regap(v.next())
}

// replace puts n where v hangs.
func (t *vmaTree) replace(v, n *vma) {
	switch p := v.parent; {
	case p == nil:
		t.root = n
	case p.left == v:
		p.left = n
	default:
		p.right = n
	}
	if n != nil {
		n.parent = v.parent
	}
}

// rotateUp lifts v over its parent.
func (t *vmaTree) rotateUp(v *vma) {
	p := v.parent
	t.replace(p, v)
	if p.left == v {
		p.left = v.right
		if p.left != nil {
			p.left.parent = p
		}
		v.right = p
	} else {
		p.right = v.left
		if p.right != nil {
			p.right.parent = p
		}
		v.left = p
	}
	p.parent = v
	p.pull()
	v.pull()
}

func (t *vmaTree) insert(v *vma) {
	t.seed = t.seed*1664525 + 1013904223
	v.prio = t.seed ^ t.seed>>15
	v.left, v.right, v.parent = nil, nil, nil
	v.gap, v.maxGap = 0, 0 // as the nodes above know it
	at := &t.root
	var parent *vma
	for *at != nil {
		parent = *at
		if v.start < parent.start {
			at = &parent.left
		} else {
			at = &parent.right
		}
	}
	*at, v.parent = v, parent
	for v.parent != nil && v.parent.prio < v.prio {
		t.rotateUp(v)
	}
	t.n++
	t.moved(v)
}

func (t *vmaTree) remove(v *vma) {
	next := v.next()
	for v.left != nil || v.right != nil {
		up := v.left
		if up == nil || v.right != nil && v.right.prio > up.prio {
			up = v.right
		}
		t.rotateUp(up)
	}
	p := v.parent
	t.replace(v, nil)
	v.parent = nil
	t.n--
	for ; p != nil; p = p.parent {
		p.pull()
	}
	t.regap(next)
}

// highest finds the highest n free bytes in [low, high) and returns their start.
func (t *vmaTree) highest(n, low, high uint64) (uint64, bool) {
	if high < n || high-n < low {
		return 0, false
	}
	top := uint64(0)
	if v := t.lastOne(); v != nil {
		top = v.end
	}
	if a := max(top, low); a <= high-n {
		return high - n, true
	}
	return highestIn(t.root, n, low, high)
}

func highestIn(v *vma, n, low, high uint64) (uint64, bool) {
	if v == nil || v.maxGap < n {
		return 0, false
	}
	edge := v.lowEdge()
	below := edge - min(v.gap, edge)
	if v.end < high {
		if a, ok := highestIn(v.right, n, low, high); ok {
			return a, true
		}
	}
	if v.gap >= n {
		if lo, hi := max(below, low), min(edge, high); hi >= n && hi-n >= lo {
			return hi - n, true
		}
	}
	if v.start > low {
		return highestIn(v.left, n, low, high)
	}
	return 0, false
}

// lowest finds the lowest n free bytes in [low, high).
func (t *vmaTree) lowest(n, low, high uint64) (uint64, bool) {
	if high < n || high-n < low {
		return 0, false
	}
	if a, ok := lowestIn(t.root, n, low, high); ok {
		return a, true
	}
	if v := t.lastOne(); v != nil {
		low = max(low, v.end)
	}
	return low, low <= high-n
}

func lowestIn(v *vma, n, low, high uint64) (uint64, bool) {
	if v == nil || v.maxGap < n {
		return 0, false
	}
	edge := v.lowEdge()
	below := edge - min(v.gap, edge)
	if v.start > low {
		if a, ok := lowestIn(v.left, n, low, high); ok {
			return a, true
		}
	}
	if v.gap >= n {
		if lo, hi := max(below, low), min(edge, high); hi >= n && hi-n >= lo {
			return lo, true
		}
	}
	if v.end < high {
		return lowestIn(v.right, n, low, high)
	}
	return 0, false
}
