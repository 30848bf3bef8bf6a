package mm

import (
	"sync"
	"sync/atomic"

	"kiln/kernel/hal"
)

// Budget bounds what a program or peer can make the kernel keep on the Go heap.
// Charges are in bytes, what an object is seen to take of a heap profile. A refused
// charge becomes ENOMEM, ENOBUFS, EAGAIN or a dropped packet at the edge that made it.
//
// Two parts. The first, a sixteenth of RAM, is always there: the machine keeps frames
// for it that programs cannot have. Beyond it the limit grows in steps, up to half of
// RAM, as long as frames are free: each step takes them, with what the collector needs
// beside live bytes, from what programs may use (hal.Machine.GrowHeap), and gives them
// back when the charges have gone. So a small machine holds thousands of connections or
// threads while its program is small, and the edge is where memory ends.
//
// The zero Budget refuses everything; SetLimit gives it a limit that does not move.
type Budget struct {
	used, limit, refused atomic.Int64

	mu    sync.Mutex // a leaf: held over the machine's calls alone
	mem   *Memory
	fixed atomic.Bool // the limit does not move
	first int64
	most  int64
	step  int64
	keep  int64 // bytes that a step leaves to programs
}

// budgetFor is the first part for a machine of ram bytes: half of the Go heap's own
// limit (DESIGN 2), so that live data at the limit still leaves the collector room.
func budgetFor(ram uint64) int64 {
	return max(int64(ram/16), 4<<20)
}

// garbage is what the heap takes for each byte charged, in halves: live bytes and half
// of that for what has died since the last collection and for what lies free in spans.
const garbage = 3

func (b *Budget) init(mem *Memory, ram uint64) {
	b.mem, b.first = mem, budgetFor(ram)
	b.most = max(b.first, int64(ram/2))
	b.step = min(max(int64(ram/256), 256<<10), 16<<20)
	b.keep = int64(ram / 16)
	b.limit.Store(b.first)
}

// SetLimit makes the limit n bytes, whatever is free.
func (b *Budget) SetLimit(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.fixed.Swap(true) && b.mem != nil {
		b.mem.M.GrowHeap(0)
	}
	b.limit.Store(n)
}

// Charge takes n bytes, or says false. It does not block and may be called under any
// lock.
func (b *Budget) Charge(n int64) bool {
	if u := b.used.Add(n); u > b.limit.Load() && n > 0 && !b.grow(u) {
		b.used.Add(-n)
		b.refused.Add(1)
		return false
	}
	return true
}

// Force takes n bytes whether or not there is room: of what is there already, and
// bounded in another way. Charges are refused until it fits.
func (b *Budget) Force(n int64) {
	if u := b.used.Add(n); n > 0 && u > b.limit.Load() {
		b.grow(u)
	} else if n < 0 {
		b.Uncharge(0)
	}
}

// Uncharge gives them back.
func (b *Budget) Uncharge(n int64) {
	if u := b.used.Add(-n); u < b.limit.Load()-3*b.step && b.limit.Load() > b.first {
		b.shrink()
	}
}

// grow raises the limit to hold used bytes.
func (b *Budget) grow(used int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.limit.Load()
	if used <= now {
		return true
	}
	if b.mem == nil || b.fixed.Load() || used > b.most {
		return false
	}
	want := min(now+(used-now+b.step-1)/b.step*b.step, b.most)
	extra := (want - now) * garbage / 2
	st := b.mem.M.MemStats()
	// Room for the next step too, or reclaim begins to make it.
	need := int64(st.Reserve) + (extra+b.keep)>>hal.PageShift
	if free := int64(st.FreePages); free < need+b.step*garbage/2>>hal.PageShift {
		b.mem.reclaim.wakeFor(uint64(need + 2*b.step*garbage/2>>hal.PageShift))
		if free < need {
			return false
		}
	}
	b.set(want)
	return true
}

// shrink lowers the limit to a step or two above what is used.
func (b *Budget) shrink() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mem == nil || b.fixed.Load() {
		return
	}
	over := max(b.used.Load()-b.first, 0)
	if want := b.first + (over/b.step+1)*b.step; over == 0 {
		b.set(b.first)
	} else if want < b.limit.Load() {
		b.set(want)
	}
}

// set is called with mu held.
func (b *Budget) set(limit int64) {
	if limit == b.limit.Load() {
		return
	}
	b.limit.Store(limit)
	b.mem.M.GrowHeap(uint64((limit - b.first) * garbage / 2))
}

// Used, Limit and Refused are for /proc and reports.
func (b *Budget) Used() int64    { return b.used.Load() }
func (b *Budget) Limit() int64   { return b.limit.Load() }
func (b *Budget) Refused() int64 { return b.refused.Load() }

// Most is what the limit may grow to.
func (b *Budget) Most() int64 { return max(b.most, b.limit.Load()) }
