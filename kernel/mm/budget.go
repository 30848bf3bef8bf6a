package mm

import "sync/atomic"

// Budget bounds what a program or peer can make the kernel keep on the Go heap.
// Charges are in bytes. A refused charge becomes ENOMEM, ENOBUFS, ENFILE or a
// dropped packet at the edge that made it.
type Budget struct {
	used, limit, refused atomic.Int64
}

// budgetFor is the default limit: a sixteenth of RAM, half of the Go heap's own
// limit (DESIGN 2), so that live data at the limit still leaves the collector room.
func budgetFor(ram uint64) int64 {
	return max(int64(ram/16), 4<<20)
}

// SetLimit replaces the limit (bytes).
func (b *Budget) SetLimit(n int64) { b.limit.Store(n) }

// Charge takes n bytes, or says false.
func (b *Budget) Charge(n int64) bool {
	if b.used.Add(n) > b.limit.Load() {
		b.used.Add(-n)
		b.refused.Add(1)
		return false
	}
	return true
}

// Uncharge gives them back.
func (b *Budget) Uncharge(n int64) { b.used.Add(-n) }

// Used, Limit and Refused are for /proc and reports.
func (b *Budget) Used() int64    { return b.used.Load() }
func (b *Budget) Limit() int64   { return b.limit.Load() }
func (b *Budget) Refused() int64 { return b.refused.Load() }
