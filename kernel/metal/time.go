package metal

import (
	"math/bits"
	"sync/atomic"
	"unsafe"

	"kiln/kernel/metal/core"
)

// clock turns TSC readings into time (hal.TimeParams); the runtime reads it
// through vdsoClock. rates are written once each and only the last is used, so that a
// reader never meets half a change; cur is its byte offset.
type clock struct {
	magic      uint64
	cur        uint64
	rates      [maxRates]clockRate
	realOffset int64
	hz         uint64
	lapicMult  uint64 // LAPIC timer ticks << 32 per ns
	deadline   bool   // TSC-deadline mode
	source     uint32
	// A measured rate becomes better with time: the counter, and where it stood first.
	tick    ticker
	tickN   uint32
	used    uint32 // rates in use
	shared  uint32 // programs know the rate
	_       uint32
	tickTSC uint64
	window  uint64 // TSC ticks over which hz was measured
	last    int64  // the latest time that slowClock gave
	unsync  uint32 // the CPUs' TSCs differ
}

// clockRate is mono = monoBase + (tsc-tscBase) * mult >> 32.
type clockRate struct {
	tscBase  uint64
	monoBase int64
	mult     uint64
}

const maxRates = 8

var clk = clock{magic: dataMagic}

func (c *clock) rate() *clockRate {
	return (*clockRate)(ptr(addrOf(unsafe.Pointer(&c.rates)) + atomic.LoadUint64(&c.cur)))
}

// nanotime is CLOCK_MONOTONIC. The rate is chosen before the TSC is read: a reading
// may be later than a change, never earlier.
func nanotime() int64

// setRate makes hz the TSC's rate from now on; time goes on where it is.
func (c *clock) setRate(hz uint64) {
	n := &c.rates[c.used%maxRates]
	n.tscBase = rdtsc()
	n.monoBase = 1 // never zero: the runtime takes zero for a broken clock
	if c.used > 0 {
		o := c.rate()
		hi, lo := bits.Mul64(n.tscBase-o.tscBase, o.mult)
		n.monoBase = o.monoBase + int64(hi<<32|lo>>32)
	}
	n.mult = div128(1e9, hz)
	c.hz = hz
	atomic.StoreUint64(&c.cur, uint64(c.used%maxRates)*uint64(unsafe.Sizeof(*n)))
	c.used++
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
	clk.setRate(hz)
	if cmdlineHas("tsc=unstable") {
		clk.unsync = 1 // Linux's word for a TSC that is not to be relied on
	}
	clk.lapicMult = div128(lhz, 1e9)
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

// read is the counter, and the TSC before and after the moment it was taken.
func (t *ticker) read() (n uint32, t0, t1 uint64) {
	if t.port != 0 {
		t0 = rdtsc()
		n = in32(t.port) & t.mask
		return n, t0, rdtsc()
	}
	t0 = rdtsc()
	out8(pitCmd, 0x80) // latch channel 2
	t1 = rdtsc()
	lo := uint32(in8(pitCh2))
	return ^(lo | uint32(in8(pitCh2))<<8) & 0xffff, t0, t1 // it counts down
}

// sample finds the TSC at a step of the counter: of a few steps the one that is known
// best, since a hypervisor may take the CPU away at any time. False if it stands still.
func (t *ticker) sample() (n uint32, tsc uint64, ok bool) {
	best := ^uint64(0)
	last, from, _ := t.read()
	for i, steps := 0, 0; i < 4096 && steps < 5; i++ {
		v, t0, t1 := t.read()
		if v != last {
			steps++
			if w := t1 - from; w < best {
				best, n, tsc, ok = w, v, from+w/2, true
			}
		}
		last, from = v, t0
	}
	return n, tsc, ok
}

// slowLAPIC is the rate of a timer that could not be measured: one that is too low makes
// deadlines come early, which is looked at, and one too high late.
const slowLAPIC = 10e6

// measure counts LAPIC timer ticks against the TSC, and the TSC's against a counter of known
// rate in the same half millisecond unless hz is known. The host may take the processor away
// meanwhile: what it does within the time counts for both, and what it does at the ends makes
// a measurement that is repeated.
func measure(hz uint64) (tscHz, lapicHz uint64) {
	lapicWrite(lapicDivide, 0xb) // by 1
	lapicWrite(lapicLVTTimer, 1<<16|vecTimer)
	for range 8 {
		lapicWrite(lapicInit, ^uint32(0))
		a := core.Sharpest(readLAPIC)
		if hz == 0 {
			hz = measureTSC()
		} else {
			for rdtsc()-a.T1 < hz/2000 {
			}
		}
		b := core.Sharpest(readLAPIC)
		lapicWrite(lapicInit, 0)
		rate, good := core.DownRate(a, b, hz)
		if rate != 0 {
			lapicHz = rate
		}
		if good {
			break
		}
	}
	if lapicHz == 0 {
		lapicHz = slowLAPIC
	}
	return hz, lapicHz
}

func readLAPIC() core.Reading {
	t := rdtsc()
	n := lapicRead(lapicCount)
	return core.Reading{N: n, T0: t, T1: rdtsc()}
}

// measureTSC counts TSC ticks over half a millisecond.
func measureTSC() uint64 {
	t := ticker{port: findPMTimer(), hz: 3579545, mask: 0xffffff}
	ok := false
	if t.port != 0 {
		clk.tickN, clk.tickTSC, ok = t.sample()
		clk.source = 4
	}
	if !ok {
		t = ticker{hz: pitHz, mask: 0xffff}
		out8(portB, in8(portB)&^2|1) // gate on, speaker off
		out8(pitCmd, 0xb4)           // channel 2, both bytes, mode 2
		out8(pitCh2, 0xff)
		out8(pitCh2, 0xff)
		clk.tickN, clk.tickTSC, ok = t.sample()
		clk.source = 5
	}
	if !ok {
		clk.source = 9 // no clock at all: guess
		return 1e9
	}
	clk.tick = t
	want := uint32(t.hz / 2000)
	for {
		if n, _, _ := t.read(); (n-clk.tickN)&t.mask >= want {
			break
		}
	}
	n, tsc, _ := t.sample()
	clk.window = tsc - clk.tickTSC
	return muldiv(clk.window, t.hz, uint64((n-clk.tickN)&t.mask))
}

// refineClock measures again, from the first reading to now, if that is four times
// longer than the last time. Interrupts do it until programs are told the rate; from
// then on it is done when the kernel is about to tell them (Machine.TimeParams), so
// that the two change together.
func refineClock() {
	t := &clk.tick
	if t.hz == 0 || clk.used >= maxRates || rdtsc()-clk.tickTSC < 4*clk.window {
		return
	}
	n, tsc, ok := t.sample()
	if !ok {
		return
	}
	span, period := tsc-clk.tickTSC, uint64(t.mask)+1
	if span/clk.window > period/32 {
		// The counter has turned over too often to know how often: begin anew.
		clk.tickN, clk.tickTSC = n, tsc
		return
	}
	ticks := unwrap(muldiv(span, t.hz, clk.hz), uint64(n-clk.tickN), period)
	hz := muldiv(span, t.hz, ticks)
	if d := int64(hz - clk.hz); d > int64(clk.hz/64) || -d > int64(clk.hz/64) {
		clk.tickN, clk.tickTSC = n, tsc // one of the two stood still for a while
		return
	}
	clk.window = span
	clk.lapicMult = muldiv(clk.lapicMult, hz, clk.hz) // it was measured against the TSC
	clk.setRate(hz)
}

// unwrap is the number nearest to guess that a counter of the given period shows as n.
func unwrap(guess, n, period uint64) uint64 {
	d := (n - guess) & (period - 1) // how far n is ahead
	if d < period/2 || guess < period-d {
		return guess + d
	}
	return guess - (period - d)
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
