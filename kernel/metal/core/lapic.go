package core

import "math/bits"

// LAPICWrite is one write to a local APIC: a word of its page (xAPIC, SDM 3A 11.4.1) or a
// model-specific register (x2APIC, 11.12.1).
type LAPICWrite struct {
	MSR bool
	// At is the offset in the page, or the MSR's number.
	At    uint32
	Value uint64
}

// Registers of the local APIC that are not the same in both modes, as offsets in the
// page.
const (
	LAPICICRLow  = 0x300
	LAPICICRHigh = 0x310
)

// LAPICMSR is the MSR of the register at an offset of the page.
func LAPICMSR(off uint32) uint32 { return 0x800 + off>>4 }

// LAPICReg is the write of a register.
func LAPICReg(x2 bool, off, v uint32) LAPICWrite {
	if x2 {
		return LAPICWrite{true, LAPICMSR(off), uint64(v)}
	}
	return LAPICWrite{false, off, uint64(v)}
}

// LAPICCommand are the writes that send an interprocessor interrupt, n of them: in
// x2APIC mode the command register is one of 64 bits with 32 for the destination, and
// has no busy bit to wait for (11.12.9).
func LAPICCommand(x2 bool, dest, low uint32) (w [2]LAPICWrite, n int) {
	if x2 {
		w[0] = LAPICWrite{true, LAPICMSR(LAPICICRLow), uint64(dest)<<32 | uint64(low)}
		return w, 1
	}
	w[0] = LAPICWrite{false, LAPICICRHigh, uint64(dest << 24)}
	w[1] = LAPICWrite{false, LAPICICRLow, uint64(low)}
	return w, 2
}

// LAPICID is the id that a read of the id register means.
func LAPICID(x2 bool, v uint32) uint32 {
	if x2 {
		return v
	}
	return v >> 24
}

// TSCDeadline is what IA32_TSC_DEADLINE must be for the timer to fire ns nanoseconds
// (more than none) after the TSC, which counts hz a second, was now (11.5.4.1). A
// deadline beyond a thousand seconds comes early; 0, which would disarm, is never given.
func TSCDeadline(now, hz uint64, ns int64) uint64 {
	hi, lo := bits.Mul64(uint64(min(ns, 1e12)), hz)
	q := ^uint64(0)
	if hi < 1e9 {
		q, _ = bits.Div64(hi, lo, 1e9)
	}
	return max(now+q, 1)
}
