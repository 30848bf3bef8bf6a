package metal

import "math/bits"

// clock turns TSC readings into time (hal.TimeParams); the runtime reads it
// through vdsoClock.
type clock struct {
	magic      uint64
	tscBase    uint64
	monoBase   int64
	mult       uint64 // ns << 32 per tick
	realOffset int64
	hz         uint64
	lapicMult  uint64 // LAPIC timer ticks << 32 per ns
	deadline   bool   // TSC-deadline mode
	source     uint32
}

var clk = clock{magic: dataMagic}

// nanotime is CLOCK_MONOTONIC.
func nanotime() int64 {
	hi, lo := bits.Mul64(rdtsc()-clk.tscBase, clk.mult)
	return clk.monoBase + int64(hi<<32|lo>>32)
}

// Ports (IBM PC/AT): PIT, keyboard controller's port B, CMOS.
const (
	pitCh2, pitCmd, portB        = 0x42, 0x43, 0x61
	cmosIndex, cmosData          = 0x70, 0x71
	pitHz                 uint64 = 1193182
)

// startClock finds the TSC's rate: CPUID 15h, the hypervisor's leaf 40000010h,
// kvmclock's own factors, else a measurement against the ACPI PM timer or the
// PIT. It also measures the local APIC's timer unless it counts TSC ticks.
func startClock() {
	clk.tscBase = rdtsc()
	mapLAPIC()
	hz := uint64(0)
	if cpuInfo.maxLeaf >= 0x15 {
		if a, b, c, _ := cpuid(0x15, 0); a != 0 && b != 0 && c != 0 {
			hz = uint64(c) * uint64(b) / uint64(a)
			clk.source = 1
		}
	}
	bus := uint64(0)
	if hz == 0 && cpuInfo.hyper {
		if top, _, _, _ := cpuid(0x40000000, 0); top >= 0x40000010 {
			k, l, _, _ := cpuid(0x40000010, 0)
			hz, bus = uint64(k)*1000, uint64(l)*1000
			clk.source = 2
		}
	}
	if hz == 0 {
		hz = kvmclockHz()
	}
	lhz := bus
	if hz == 0 || lhz == 0 {
		mhz, mlhz := measure(hz)
		if hz == 0 {
			hz = mhz
		}
		lhz = mlhz
	}
	clk.hz = hz
	clk.mult = div128(1e9, hz)
	clk.lapicMult = div128(lhz, 1e9)
	clk.monoBase = 1 // never zero: the runtime takes zero for a broken clock
	initTimer()
	clk.realOffset = readRTC()*1e9 - nanotime()
}

// div128 is a<<32 / b.
func div128(a, b uint64) uint64 {
	q, _ := bits.Div64(a>>32, a<<32, b)
	return q
}

// kvmclockHz reads the TSC's rate from KVM's paravirtual clock (Linux
// Documentation/virt/kvm/x86/msr.rst: pvclock_vcpu_time_info).
func kvmclockHz() uint64 {
	if !cpuInfo.hyper {
		return 0
	}
	_, b, c, d := cpuid(0x40000000, 0)
	if b != 0x4b4d564b || c != 0x564b4d56 || d != 0x4d { // "KVMKVMKVM"
		return 0
	}
	feats, _, _, _ := cpuid(0x40000001, 0)
	if feats&(1<<3) == 0 {
		return 0
	}
	pa := allocZeroFrame()
	wrmsr(0x4b564d01, pa|1)
	p := phys(pa)
	mul, shift := uint64(load32(p+24)), int8(load8(p+28))
	wrmsr(0x4b564d01, 0)
	freeFrame(pa)
	if mul == 0 {
		return 0
	}
	clk.source = 3
	// ns = (tsc << shift) * mul >> 32
	hz, _ := bits.Div64(1e9>>32, 1e9<<32&(1<<64-1), mul)
	if shift < 0 {
		return hz << uint(-shift)
	}
	return hz >> uint(shift)
}

// ticker is a counter of known rate to measure against.
type ticker struct {
	port uint16 // PM timer, or 0 for the PIT
	hz   uint64
	mask uint32
}

func (t *ticker) read() uint32 {
	if t.port != 0 {
		return in32(t.port) & t.mask
	}
	out8(pitCmd, 0x80) // latch channel 2
	lo := uint32(in8(pitCh2))
	return ^(lo | uint32(in8(pitCh2))<<8) & 0xffff // it counts down
}

// edge waits for the counter to step and returns it with the TSC then, or false if
// it stands still.
func (t *ticker) edge() (n uint32, tsc uint64, ok bool) {
	v := t.read()
	for i := 0; i < 4096; i++ {
		if n = t.read(); n != v {
			return n, rdtsc(), true
		}
	}
	return 0, 0, false
}

// measure counts TSC and LAPIC timer ticks over 1 ms. With hz known only the
// LAPIC's are of interest, and the TSC is the reference.
func measure(hz uint64) (tscHz, lapicHz uint64) {
	lapicWrite(lapicDivide, 0xb) // by 1
	lapicWrite(lapicLVTTimer, 1<<16|vecTimer)
	if hz != 0 {
		lapicWrite(lapicInit, ^uint32(0))
		l0, t0 := lapicRead(lapicCount), rdtsc()
		for rdtsc()-t0 < hz/2000 {
		}
		t1, l1 := rdtsc(), lapicRead(lapicCount)
		lapicWrite(lapicInit, 0)
		return hz, muldiv(uint64(l0-l1), hz, t1-t0)
	}
	t := ticker{port: findPMTimer(), hz: 3579545, mask: 0xffffff}
	if t.port != 0 {
		if _, _, ok := t.edge(); !ok {
			t.port = 0
		}
	}
	if t.port == 0 {
		t = ticker{hz: pitHz, mask: 0xffff}
		out8(portB, in8(portB)&^2|1) // gate on, speaker off
		out8(pitCmd, 0xb4)           // channel 2, both bytes, mode 2
		out8(pitCh2, 0xff)
		out8(pitCh2, 0xff)
	}
	lapicWrite(lapicInit, ^uint32(0))
	n0, t0, ok := t.edge()
	if !ok {
		// No clock at all: guess, and say so in the source.
		clk.source = 9
		return 1e9, 1e9
	}
	l0 := lapicRead(lapicCount)
	want := uint32(t.hz / 1000)
	for (t.read()-n0)&t.mask < want {
	}
	n1, t1, _ := t.edge()
	l1 := lapicRead(lapicCount)
	lapicWrite(lapicInit, 0)
	dn := uint64((n1 - n0) & t.mask)
	clk.source = 4
	if t.port == 0 {
		clk.source = 5
	}
	return muldiv(t1-t0, t.hz, dn), muldiv(uint64(l0-l1), t.hz, dn)
}

func muldiv(a, b, c uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	if c == 0 || hi >= c {
		return 1e9
	}
	q, _ := bits.Div64(hi, lo, c)
	return q
}

// findPMTimer reads the PM timer's port from the FADT (ACPI 5.2.9, offset 76).
func findPMTimer() uint16 {
	if t := findTable(0x50434146); t != 0 { // "FACP"
		if p := load32(t + 76); p < 0x10000 {
			return uint16(p)
		}
	}
	return 0
}

// readRTC is the CMOS clock in seconds since 1970, UTC as virtual machines set it.
func readRTC() int64 {
	for i := 0; i < 100000 && cmos(0x0a)&0x80 != 0; i++ {
	}
	b := cmos(0x0b)
	s, mi, h := cmos(0), cmos(2), cmos(4)
	d, mo, y := cmos(7), cmos(8), cmos(9)
	pm := h&0x80 != 0
	h &= 0x7f
	if b&4 == 0 { // BCD
		s, mi, h, d, mo, y = bcd(s), bcd(mi), bcd(h), bcd(d), bcd(mo), bcd(y)
	}
	if b&2 == 0 { // 12-hour
		h %= 12
		if pm {
			h += 12
		}
	}
	if mo < 1 || mo > 12 || d < 1 || d > 31 {
		return 0
	}
	return civil(2000+int64(y), int64(mo), int64(d))*86400 + int64(h)*3600 + int64(mi)*60 + int64(s)
}

// civil is days since 1970-01-01 of a Gregorian date.
func civil(y, m, d int64) int64 {
	if m <= 2 {
		y--
		m += 12
	}
	return 365*y + y/4 - y/100 + y/400 + (153*(m-3)+2)/5 + d - 719469
}

func cmos(i uint8) uint8 {
	out8(cmosIndex, i)
	return in8(cmosData)
}

func bcd(v uint8) uint8 { return v>>4*10 + v&15 }

// mulShift is a*b >> 32.
func mulShift(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi<<32 | lo>>32
}
