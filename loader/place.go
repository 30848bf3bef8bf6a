package loader

import (
	"encoding/binary"

	"kiln/kernel/hal"
)

// Where things go (arch/x86/include/asm/elf.h, mm/mmap.c, fs/exec.c of Linux 6.1).
const (
	top = uint64(hal.UserTop)
	// pieBase is two thirds of the program's half: 0x555555554000.
	pieBase = top / 3 * 2 &^ hal.PageMask
	// mmapBits is vm.mmap_rnd_bits: bits of page number for PIE and mmap.
	mmapBits = 28
	// stackMask bounds the stack's random offset, in pages (16 GB).
	stackMask = 0x3fffff
	brkRange  = 0x02000000
	// stackSlack is mapped below the arguments from the start.
	stackSlack = 128 << 10
	stackGap   = 256 * hal.PageSize
	minGap     = 128 << 20
	maxGap     = top / 6 * 5
)

// random is the layout's dice; all zero under ADDR_NO_RANDOMIZE. One call of fill serves
// them all.
type random struct {
	fill func([]byte)
	off  bool
	left []byte
	buf  [64]byte
}

// take gives n random bytes, at most len(buf), until the next call.
func (r *random) take(n int) []byte {
	if len(r.left) < n {
		r.left = r.buf[:]
		r.fill(r.left)
	}
	b := r.left[:n]
	r.left = r.left[n:]
	return b
}

// bits gives a random number below 1<<n.
func (r *random) bits(n uint) uint64 {
	if r.off {
		return 0
	}
	return binary.LittleEndian.Uint64(r.take(8)) & (1<<n - 1)
}

// below gives a random number below n (the bias of the remainder is under 2^-32 for
// the ranges used here).
func (r *random) below(n uint64) uint64 {
	if r.off || n == 0 {
		return 0
	}
	return binary.LittleEndian.Uint64(r.take(8)) % n
}

// stackTop is one past the stack's last byte.
func (r *random) stackTop() uint64 { return top - r.below(stackMask+1)<<hal.PageShift }

// mmapBase is where the mmap area begins, going down.
func (r *random) mmapBase(stackLimit uint64) uint64 {
	pad := uint64(stackGap)
	if !r.off {
		pad += stackMask << hal.PageShift
	}
	gap := stackLimit
	if gap+pad > gap {
		gap += pad
	}
	gap = min(max(gap, minGap), maxGap)
	return pageUp(top - gap - r.bits(mmapBits)<<hal.PageShift)
}
