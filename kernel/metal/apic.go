package metal

import "kiln/kernel/metal/core"

// Local APIC registers (SDM 3A table 11-1), memory-mapped (xAPIC).
const (
	lapicID       = 0x20
	lapicTPR      = 0x80
	lapicEOI      = 0xb0
	lapicSVR      = 0xf0
	lapicICRLow   = core.LAPICICRLow
	lapicLVTTimer = 0x320
	lapicLINT0    = 0x350
	lapicLINT1    = 0x360
	lapicLVTError = 0x370
	lapicInit     = 0x380
	lapicCount    = 0x390
	lapicDivide   = 0x3e0
)

// Interrupt command register, low word (SDM 3A 11.6.1): delivery modes, with the level
// that is to be asserted.
const (
	icrFixed = 1 << 14
	icrNMI   = 1<<14 | 4<<8
	icrInit  = 1<<14 | 5<<8
	icrStart = 1<<14 | 6<<8
	icrBusy  = 1 << 12
)

// lapicMode says that the local APICs are in x2APIC mode: where firmware left them so, or
// where an id does not fit otherwise.
var lapicMode = lapicModeWord{magic: dataMagic}

type lapicModeWord struct{ magic, x2 uint32 }

// Bits of msrAPICBase (SDM 3A 11.12.1).
const (
	apicEnable = 1 << 11
	apicX2     = 1 << 10
)

func lapicRead(r uint64) uint32 {
	if lapicMode.x2 != 0 {
		return uint32(rdmsr(core.LAPICMSR(uint32(r))))
	}
	return load32(base.lapic + r)
}

func lapicWrite(r uint64, v uint32) {
	if lapicMode.x2 == 0 {
		store32(base.lapic+r, v) // as LAPICReg has it; in line
		return
	}
	lapicWriteX2(r, v)
}

func lapicWriteX2(r uint64, v uint32) { lapicDo(core.LAPICReg(true, uint32(r), v)) }

func lapicDo(w core.LAPICWrite) {
	if w.MSR {
		wrmsr(w.At, w.Value)
	} else {
		store32(base.lapic+uint64(w.At), uint32(w.Value))
	}
}

func eoi() { lapicWrite(lapicEOI, 0) }

// mapLAPIC maps and enables the local APIC and silences the 8259s.
func mapLAPIC() {
	v := rdmsr(msrAPICBase)
	wrmsr(msrAPICBase, v|apicEnable)
	if v&apicX2 != 0 {
		lapicMode.x2 = 1
	}
	if base.lapic == 0 {
		base.lapic = mapDevice(v&pteAddr, 4096, 0)
	}
	out8(0x21, 0xff)
	out8(0xa1, 0xff)
	enableLAPIC(curCPU())
}

// enableLAPIC sets this CPU's local APIC up but for the timer.
func enableLAPIC(c *CPU) {
	lapicWrite(lapicSVR, 1<<8|vecSpurious)
	lapicWrite(lapicTPR, 0)
	lapicWrite(lapicLINT0, 1<<16)
	lapicWrite(lapicLINT1, 4<<8) // NMI
	lapicWrite(lapicLVTError, 1<<16)
	c.apicID = core.LAPICID(lapicMode.x2 != 0, lapicRead(lapicID))
}

// initTimer sets the one-shot mode: TSC-deadline where there is one.
func initTimer() {
	if cpuInfo.deadline {
		clk.deadline = true
		lapicWrite(lapicLVTTimer, 2<<17|vecTimer)
		return
	}
	lapicWrite(lapicDivide, 0xb)
	lapicWrite(lapicLVTTimer, vecTimer)
}

// setTimer makes the timer vector fire in ns nanoseconds.
func setTimer(ns int64) {
	ns = max(ns, 1000)
	if clk.deadline {
		wrmsr(msrTSCDeadline, core.TSCDeadline(rdtsc(), clk.hz, ns))
		return
	}
	n := mulShift(uint64(min(ns, 1e9)), clk.lapicMult)
	lapicWrite(lapicInit, uint32(min(max(n, 1), 1<<32-1)))
}

// sendIPI raises a vector on another CPU.
func sendIPI(apicID uint32, vec uint8) { command(apicID, icrFixed|uint32(vec)) }

// command writes the interrupt command register once the last command has gone.
func command(apicID, low uint32) {
	x2 := lapicMode.x2 != 0
	for i := 0; i < 100000 && !x2 && lapicRead(lapicICRLow)&icrBusy != 0; i++ {
		pause()
	}
	w, n := core.LAPICCommand(x2, apicID, low)
	lapicDo(w[0])
	if n == 2 {
		lapicDo(w[1])
	}
}

// mapDevice maps physical [pa, pa+n) into the device window: uncached, or as flags
// say. It returns the virtual address of pa, 0 without memory for tables.
func mapDevice(pa, n, flags uint64) uint64 {
	if flags == 0 {
		flags = ptePCD | ptePWT | pteW
	}
	off := pa & (pageSize - 1)
	va := base.mmio
	if va+pageUp(n+off)+pageSize > slotAddr(448)+slotSize {
		return 0
	}
	for o := uint64(0); o < n+off; o += pageSize {
		if !mapKernel(va+o, (pa&^(pageSize-1))+o, flags|pteA|pteD|pteNX) {
			return 0
		}
	}
	base.mmio = va + pageUp(n+off) + pageSize // a hole catches overruns
	return va + off
}

// ---- I/O APIC and the tables that name it ------------------------------------------

// ioapic is one I/O APIC (ACPI 5.2.12.3).
type ioapic struct{ va, gsi, pins uint64 }

var apics = struct {
	magic, n uint64
	a        [8]ioapic
	// over are the interrupt source overrides: GSI and flags by ISA line.
	over [16]struct{ gsi, flags uint32 }
	// vecGSI is GSI + 1 of each vector that a level-triggered pin uses.
	vecGSI [256]uint32
}{magic: dataMagic}

// ioapicWrite selects register reg of the unit that serves gsi and writes it. reg
// counts from the pin's redirection entry: 0 low, 1 high word.
func ioapicWrite(gsi uint64, reg, v uint32) {
	for i := uint64(0); i < apics.n; i++ {
		if a := &apics.a[i&7]; gsi >= a.gsi && gsi < a.gsi+a.pins {
			store32(a.va, 0x10+2*uint32(gsi-a.gsi)+reg)
			store32(a.va+0x10, v)
		}
	}
}

func ioapicRead(gsi uint64, reg uint32) uint32 {
	for i := uint64(0); i < apics.n; i++ {
		if a := &apics.a[i&7]; gsi >= a.gsi && gsi < a.gsi+a.pins {
			store32(a.va, 0x10+2*uint32(gsi-a.gsi)+reg)
			return load32(a.va + 0x10)
		}
	}
	return 0
}

// maskIfLevel masks the pin behind a vector until its handler has run.
func maskIfLevel(v uint8) {
	if g := apics.vecGSI[v]; g != 0 {
		ioapicWrite(uint64(g-1), 0, ioapicRead(uint64(g-1), 0)|1<<16)
	}
}

// readMADT finds the I/O APICs and CPUs; without a MADT, the PC's usual place and what the
// MP table says.
func readMADT() {
	for i := range apics.over {
		apics.over[i].gsi = uint32(i)
	}
	t := findTable(0x43495041) // "APIC"
	if t != 0 {
		end := t + uint64(load32(t+4))
		for p := t + 44; p+2 <= end; {
			n := uint64(load8(p + 1))
			if n < 2 || p+n > end {
				break
			}
			switch load8(p) {
			case 0:
				if n >= 8 && load32(p+4)&1 != 0 {
					cpuIDs.add(uint32(load8(p + 3)))
				}
			case 9:
				if n >= 16 && load32(p+8)&1 != 0 {
					cpuIDs.add(load32(p + 4))
				}
			case 1:
				addIOAPIC(uint64(load32(p+4)), uint64(load32(p+8)))
			case 2:
				if s := load8(p + 3); s < 16 {
					apics.over[s&15].gsi = load32(p + 4)
					apics.over[s&15].flags = load32(p+8) & 0xffff
				}
			}
			p += n
		}
	}
	if t == 0 {
		readMPTable()
	}
	if apics.n == 0 {
		addIOAPIC(0xfec00000, 0)
	}
}

func addIOAPIC(pa, gsi uint64) {
	if apics.n == 8 {
		return
	}
	va := mapDevice(pa, 0x20, 0)
	store32(va, 1)
	ver := load32(va + 0x10)
	if va == 0 || ver == ^uint32(0) {
		return
	}
	a := &apics.a[apics.n&7]
	a.va, a.gsi, a.pins = va, gsi, uint64(ver>>16&0xff)+1
	apics.n++
	for i := uint64(0); i < a.pins; i++ {
		ioapicWrite(gsi+i, 0, 1<<16)
	}
}

// tablePtr is a kernel address of n bytes of firmware tables; 0 if the place is absurd.
func tablePtr(pa, n uint64) uint64 {
	if pa == 0 || pa+n < pa || pa+n > 1<<40 {
		return 0
	}
	if pa+n <= max(base.maxPFN<<12, 1<<20) {
		return phys(pa) // the direct map spans it
	}
	return mapDevice(pa, n, pteNX|pteA) // read-only
}

// findTable is the ACPI table with the signature, or 0 (ACPI 5.2.5-5.2.8).
func findTable(sig uint32) uint64 {
	if base.rsdp == 0 {
		base.rsdp = scanRSDP()
	}
	if base.rsdp == 0 {
		return 0
	}
	r := tablePtr(base.rsdp, 36)
	if r == 0 {
		return 0
	}
	root, width := uint64(load32(r+16)), uint64(4)
	if load8(r+15) >= 2 && load64u(r+24) != 0 {
		root, width = load64u(r+24), 8
	}
	x := tablePtr(root, 36)
	if x == 0 {
		return 0
	}
	n := uint64(load32(x + 4))
	if n < 36 || n > 1<<16 {
		return 0
	}
	if x = tablePtr(root, n); x == 0 {
		return 0
	}
	for o := uint64(36); o+width <= n; o += width {
		pa := uint64(load32(x + o))
		if width == 8 {
			pa = load64u(x + o)
		}
		t := tablePtr(pa, 36)
		if t == 0 || load32(t) != sig {
			continue
		}
		return tablePtr(pa, uint64(min(load32(t+4), 1<<20)))
	}
	return 0
}

func load64u(a uint64) uint64 { return uint64(load32(a)) | uint64(load32(a+4))<<32 }

// scanRSDP searches the BIOS area (ACPI 5.2.5.1).
func scanRSDP() uint64 {
	for pa := uint64(0xe0000); pa < 0x100000; pa += 16 {
		if load64(phys(pa)) == 0x2052545020445352 { // "RSD PTR "
			s := uint8(0)
			for i := uint64(0); i < 20; i++ {
				s += load8(phys(pa) + i)
			}
			if s == 0 {
				return pa
			}
		}
	}
	return 0
}
