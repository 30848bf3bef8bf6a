package core

// MaxOrder is the largest block: 1<<MaxOrder pages (4 MiB).
const MaxOrder = 10

const (
	pageOther   = 0    // allocated, inside a block, or being handed in
	pageFree    = 0x80 // head of a free block, order in the low bits
	pageForeign = 0x7f // not the allocator's
)

// Buddy is a binary buddy allocator of page frames [base, base+len(state)).
// State costs a byte a page and links eight, which need no initial value.
type Buddy struct {
	base        uint64
	state       []uint8
	next, prev  []uint32
	head        [MaxOrder + 1]uint32
	Free, Total uint64
}

// Init makes an empty allocator; the slices have a page's worth each, state is
// overwritten.
func (b *Buddy) Init(base uint64, state []uint8, next, prev []uint32) {
	b.base, b.state, b.next, b.prev = base, state, next, prev
	for i := range b.head {
		b.head[i] = None
	}
	for i := range state {
		state[i] = pageForeign
	}
}

// Bounds are the first and one past the last frame number.
func (b *Buddy) Bounds() (first, end uint64) { return b.base, b.base + uint64(len(b.state)) }

// AddRange hands frames [start, end) to the allocator.
func (b *Buddy) AddRange(start, end uint64) {
	first, last := b.Bounds()
	start, end = max(start, first), min(end, last)
	for start < end {
		i := uint32(start - b.base)
		o := uint32(MaxOrder)
		for o > 0 && ((start&(1<<o-1)) != 0 || start+1<<o > end) {
			o--
		}
		for j := i; j < i+1<<o; j++ {
			b.state[j] = pageOther
		}
		b.push(i, o)
		b.Free += 1 << o
		b.Total += 1 << o
		start += 1 << o
	}
}

func (b *Buddy) push(i, o uint32) {
	h := b.head[o]
	b.state[i] = pageFree | uint8(o)
	b.next[i], b.prev[i] = h, None
	if h != None {
		b.prev[h] = i
	}
	b.head[o] = i
}

func (b *Buddy) remove(i, o uint32) {
	n, p := b.next[i], b.prev[i]
	if p == None {
		b.head[o] = n
	} else {
		b.next[p] = n
	}
	if n != None {
		b.prev[n] = p
	}
	b.state[i] = pageOther
}

// Alloc takes 1<<order frames, aligned to their size.
func (b *Buddy) Alloc(order uint) (pfn uint64, ok bool) {
	if order > MaxOrder {
		return 0, false
	}
	o := uint32(order)
	for o <= MaxOrder && b.head[o] == None {
		o++
	}
	if o > MaxOrder {
		return 0, false
	}
	i := b.head[o]
	b.remove(i, o)
	for o > uint32(order) {
		o--
		b.push(i+1<<o, o)
	}
	b.Free -= 1 << order
	return b.base + uint64(i), true
}

// Release gives 1<<order frames back. It is false, and nothing is done, for frames
// that are not the allocator's, misaligned or visibly free already.
func (b *Buddy) Release(pfn uint64, order uint) bool {
	first, end := b.Bounds()
	if order > MaxOrder || pfn < first || pfn+1<<order > end || pfn&(1<<order-1) != 0 {
		return false
	}
	i, o := uint32(pfn-first), uint32(order)
	if b.state[i] != pageOther {
		return false
	}
	for k := o + 1; k <= MaxOrder; k++ { // inside a larger free block?
		if s := b.state[i&^(1<<k-1)]; s&pageFree != 0 && uint32(s&^pageFree) >= k {
			return false
		}
	}
	b.Free += 1 << o
	for o < MaxOrder {
		// base is a multiple of the largest block, so indexes pair as frames do.
		j := i ^ 1<<o
		if uint64(j) >= uint64(len(b.state)) || b.state[j] != pageFree|uint8(o) {
			break
		}
		b.remove(j, o)
		i &^= 1 << o
		o++
	}
	b.push(i, o)
	return true
}
