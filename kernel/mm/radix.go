package mm

import "kiln/kernel/hal"

// slot is one page of an Object: the frame number and its state; 0 is absent.
type slot uint64

// States of a slot.
const (
	slotPresent slot = 1 << iota
	// slotBusy: a read from the source is under way; the bytes are not valid yet.
	slotBusy
	// slotDirty: the frame differs from the source (mappings may add to it).
	slotDirty
	// slotUsed: looked at since the clock's hand last passed.
	slotUsed
	// slotAhead: reading this page starts the next read-ahead.
	slotAhead
	// slotBlank: fallocate made it, and nobody has written it; a hole to SEEK_DATA.
	slotBlank

	slotShift = 8
)

func (s slot) frame() hal.PFN { return hal.PFN(s >> slotShift) }

func makeSlot(f hal.PFN, state slot) slot { return slot(f)<<slotShift | slotPresent | state }

const (
	leafBits = 4
	leafSize = 1 << leafBits
	nodeBits = 5
	nodeSize = 1 << nodeBits
	leafCost = 192 // what a leaf, with its share of the nodes above, is charged
	nodeCost = 2*8*nodeSize + 16
)

// leaf holds 16 neighbouring pages.
type leaf struct {
	base int64
	used int
	s    [leafSize]slot
}

// node has 32 children: leaves at height 1, nodes above.
type node struct {
	used int
	kids [nodeSize]child
}

type child struct {
	up *node
	lf *leaf
}

func (c child) empty() bool { return c.up == nil && c.lf == nil }

// radix maps page index to slot. It grows in height with the largest index, keeps
// the last leaf at hand (sequential access costs one compare), and walks in order.
// Callers hold the object's lock.
type radix struct {
	height int // of root: 0 is a leaf
	root   child
	last   *leaf
	budget *Budget
}

// covers says whether idx lies under a root of height h.
func covers(h int, idx int64) bool {
	sh := leafBits + nodeBits*h
	return sh >= 63 || idx>>sh == 0
}

// kid is the child of a node of height h that idx belongs to.
func kid(h int, idx int64) int { return int(idx>>(leafBits+nodeBits*(h-1))) & (nodeSize - 1) }

// get is the slot of idx, nil where no leaf exists.
func (r *radix) get(idx int64) *slot {
	base := idx &^ (leafSize - 1)
	l := r.last
	if l == nil || l.base != base {
		if !covers(r.height, idx) {
			return nil
		}
		c := r.root
		for h := r.height; h > 0 && c.up != nil; h-- {
			c = c.up.kids[kid(h, idx)]
		}
		if l = c.lf; l == nil {
			return nil
		}
		r.last = l
	}
	return &l.s[idx&(leafSize-1)]
}

// state is the slot's value, 0 where there is none.
func (r *radix) state(idx int64) slot {
	if p := r.get(idx); p != nil {
		return *p
	}
	return 0
}

// set stores a present slot; false if the kernel-heap budget refuses a leaf.
func (r *radix) set(idx int64, v slot) bool {
	if p := r.get(idx); p != nil {
		if *p == 0 {
			r.last.used++
		}
		*p = v
		return true
	}
	cost := int64(leafCost)
	for h := r.height; !covers(h, idx); h++ {
		cost += nodeCost
	}
	cost += int64(r.height) * nodeCost // an upper bound on the missing path
	if !r.budget.Charge(cost) {
		return false
	}
	spent := int64(leafCost)
	for !covers(r.height, idx) {
		if !r.root.empty() {
			n := &node{used: 1}
			n.kids[0] = r.root
			r.root = child{up: n}
			spent += nodeCost
		}
		r.height++
	}
	at := &r.root
	for h := r.height; h > 0; h-- {
		if at.up == nil {
			at.up = new(node)
			spent += nodeCost
		}
		k := &at.up.kids[kid(h, idx)]
		if k.empty() {
			at.up.used++
		}
		at = k
	}
	l := &leaf{base: idx &^ (leafSize - 1), used: 1}
	l.s[idx&(leafSize-1)] = v
	at.lf = l
	r.last = l
	r.budget.Uncharge(cost - spent)
	return true
}

// clear removes idx and returns what was there.
func (r *radix) clear(idx int64) slot {
	p := r.get(idx)
	if p == nil || *p == 0 {
		return 0
	}
	v := *p
	*p = 0
	l := r.last
	if l.used--; l.used > 0 {
		return v
	}
	r.last = nil
	if prune(&r.root, r.height, idx, r.budget); r.root.empty() {
		r.height = 0
	}
	return v
}

// prune drops the empty leaf of idx and the nodes it leaves empty.
func prune(c *child, h int, idx int64, b *Budget) {
	if h == 0 {
		c.lf = nil
		b.Uncharge(leafCost)
		return
	}
	k := &c.up.kids[kid(h, idx)]
	if prune(k, h-1, idx, b); k.empty() {
		if c.up.used--; c.up.used == 0 {
			c.up = nil
			b.Uncharge(nodeCost)
		}
	}
}

// next is the first present index >= idx, -1 if there is none.
func (r *radix) next(idx int64) int64 {
	if !covers(r.height, idx) || r.root.empty() {
		return -1
	}
	return nextIn(r.root, r.height, 0, idx)
}

func nextIn(c child, h int, base, from int64) int64 {
	if h == 0 {
		for i := max(from-base, 0); i < leafSize; i++ {
			if c.lf.s[i] != 0 {
				return base + i
			}
		}
		return -1
	}
	width := int64(1) << (leafBits + nodeBits*(h-1))
	first := max(from-base, 0) / width
	for i := first; i < nodeSize; i++ {
		k := c.up.kids[i]
		if k.empty() {
			continue
		}
		if n := nextIn(k, h-1, base+i*width, from); n >= 0 {
			return n
		}
	}
	return -1
}
