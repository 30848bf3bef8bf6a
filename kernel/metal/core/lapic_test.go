package core

import (
	"math"
	"testing"
)

// lapicModel is a local APIC as the SDM has it, as far as it can be written wrongly.
type lapicModel struct {
	t    *testing.T
	x2   bool
	high uint32 // xAPIC: the destination as it stands
	regs map[uint32]uint64
	sent []sentIPI
}

type sentIPI struct{ dest, low uint32 }

// offsets that exist and may be written (SDM 3A table 11-1 and 11-6).
var writable = map[uint32]bool{0x80: true, 0xb0: true, 0xf0: true, 0x280: true, 0x300: true, 0x310: true, 0x320: true,
	0x330: true, 0x340: true, 0x350: true, 0x360: true, 0x370: true, 0x380: true, 0x3e0: true}

func (m *lapicModel) write(w LAPICWrite) {
	m.t.Helper()
	if w.MSR != m.x2 {
		m.t.Fatalf("%+v in the other mode", w)
	}
	off := w.At
	if m.x2 {
		if w.At < 0x800 || w.At > 0x8ff {
			m.t.Fatalf("MSR %#x is none of the local APIC's", w.At)
		}
		off = (w.At - 0x800) << 4
		if off == 0x310 {
			m.t.Fatal("#GP: there is no high word of the command register in x2APIC mode")
		}
		if off == 0xb0 && w.Value != 0 {
			m.t.Fatal("#GP: EOI takes 0 only")
		}
		if off != 0x300 && w.Value>>32 != 0 {
			m.t.Fatalf("#GP: reserved bits of %#x", w.At)
		}
	} else if off&15 != 0 || off > 0x3f0 || w.Value>>32 != 0 {
		m.t.Fatalf("%+v is no access to a register", w)
	}
	if !writable[off] {
		m.t.Fatalf("register %#x may not be written", off)
	}
	switch {
	case off == 0x310:
		m.high = uint32(w.Value)
	case off == 0x300 && m.x2:
		m.sent = append(m.sent, sentIPI{uint32(w.Value >> 32), uint32(w.Value)})
	case off == 0x300:
		m.sent = append(m.sent, sentIPI{m.high >> 24, uint32(w.Value)})
	default:
		m.regs[off] = w.Value
	}
}

func TestLocalAPICInBothModes(t *testing.T) {
	for _, x2 := range []bool{false, true} {
		m := &lapicModel{t: t, x2: x2, regs: map[uint32]uint64{}}
		for _, off := range []uint32{0x80, 0xf0, 0x320, 0x350, 0x360, 0x370, 0x380, 0x3e0} {
			m.write(LAPICReg(x2, off, 0x1234))
			if m.regs[off] != 0x1234 {
				t.Errorf("x2 %v: register %#x holds %#x", x2, off, m.regs[off])
			}
		}
		m.write(LAPICReg(x2, 0xb0, 0)) // EOI
		dests := []uint32{0, 1, 254}
		if x2 {
			dests = append(dests, 256, 70000, 0xfffffffe)
		}
		for _, d := range dests {
			for _, low := range []uint32{1<<14 | 0xee, 1<<14 | 4<<8, 1<<14 | 5<<8, 1<<14 | 6<<8 | 8} {
				m.sent = nil
				w, n := LAPICCommand(x2, d, low)
				for i := range n {
					m.write(w[i])
				}
				if len(m.sent) != 1 || m.sent[0] != (sentIPI{d, low}) {
					t.Errorf("x2 %v: command %#x to %d sent %+v", x2, low, d, m.sent)
				}
			}
			read := d
			if !x2 {
				read = d << 24
			}
			if got := LAPICID(x2, read); got != d {
				t.Errorf("x2 %v: id %d read as %d", x2, d, got)
			}
		}
	}
}

func TestTSCDeadline(t *testing.T) {
	for _, c := range []struct {
		now, hz uint64
		ns      int64
		want    uint64
	}{
		{0, 1e9, 1000, 1000},
		{5, 3e9, 1000, 3005},
		{1 << 40, 2_400_000_000, 1_000_000, 1<<40 + 2_400_000},
		{100, 1e9, math.MaxInt64, 100 + 1e12}, // comes early, and is set again
		{^uint64(0) - 999, 1e9, 1000, 1},      // never the 0 that disarms
	} {
		if got := TSCDeadline(c.now, c.hz, c.ns); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
