package core

import "math/bits"

// Reading is a counter's value with the TSC right before and after it was read. A host may
// take the processor away between the two, for milliseconds.
type Reading struct {
	N      uint32
	T0, T1 uint64
}

// Moment is when the counter was read, as far as is known.
func (r Reading) Moment() uint64 { return r.T0 + (r.T1-r.T0)/2 }

// Sharpest reads a counter a few times and gives the reading whose moment is known best.
func Sharpest(read func() Reading) Reading {
	best := read()
	for range 4 {
		if r := read(); r.T1-r.T0 < best.T1-best.T0 {
			best = r
		}
	}
	return best
}

// DownRate is the rate in Hz of a counter that counts down to 0, from two readings of it, hz
// being the TSC's. It is no good unless the moments are known well enough, or if the counter
// may have stood at 0 for a while.
func DownRate(a, b Reading, hz uint64) (rate uint64, good bool) {
	span, doubt := b.Moment()-a.Moment(), (a.T1-a.T0)/2+(b.T1-b.T0)/2
	hi, lo := bits.Mul64(uint64(a.N-b.N), hz)
	if hi >= span {
		return 0, false
	}
	rate, _ = bits.Div64(hi, lo, span)
	return rate, rate != 0 && b.N != 0 && doubt < span/16
}
