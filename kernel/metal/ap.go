package metal

import (
	"sync/atomic"
	"unsafe"

	"kiln/kernel/image"
)

// Bringing up the other CPUs (SDM 3A 9.4): each is sent INIT and SIPI, starts in the page
// that the stub's trampoline was copied to, takes its CPU area from the stub's words, and
// arrives in apMain. One is started after the other; once it has said so by online, it
// is in its idle loop.

// cpuIDs are the APIC ids of the CPUs that firmware says may be used.
var cpuIDs = idList{magic: dataMagic}

type idList struct {
	magic, n uint32
	over     uint32 // how many more there were
	id       [maxCPUs]uint32
}

func (l *idList) add(id uint32) {
	for i := uint32(0); i < l.n; i++ {
		if l.id[i%maxCPUs] == id {
			return // as type 0 and as type 9
		}
	}
	if l.n == maxCPUs {
		l.over++
		return
	}
	l.id[l.n%maxCPUs] = id
	l.n++
}

// choose leaves those that are to be started beside self: as many as there is room for, of
// those that can be reached (above 254 by x2APIC only, which x2 says is on, has that there is).
// It returns how many cannot, and whether x2APIC is to be switched on. All CPUs must be in one
// mode, so that is known before the first is started.
func (l *idList) choose(self uint32, x2, has bool) (unreached uint32, switchOn bool) {
	n := uint32(0)
	for i := uint32(0); i < l.n; i++ {
		switch id := l.id[i%maxCPUs]; {
		case id == self:
		case id > 254 && !x2 && !has:
			unreached++
		case n == maxCPUs-1:
			l.over++
		default:
			switchOn = switchOn || id > 254 && !x2
			l.id[n%maxCPUs] = id
			n++
		}
	}
	l.n = n
	return unreached, switchOn
}

// startNS is how long a CPU may take to start. A busy host may not run it for a while.
const startNS = 1_000_000_000

// startCPUs starts all CPUs but this one. The base's lock is held: what the others do
// from now on waits for us.
func startCPUs() {
	base.tmAt = never
	base.acquire()
	page := uint64(0)
	unreached, x2 := cpuIDs.choose(curCPU().apicID, lapicMode.x2 != 0, cpuInfo.x2apic)
	if x2 {
		wrmsr(msrAPICBase, rdmsr(msrAPICBase)|apicX2)
		lapicMode.x2 = 1
	}
	if unreached != 0 {
		puts("kiln: CPUs have APIC ids above 254, but there is no x2APIC to reach them\n")
	}
	for i := uint32(0); i < cpuIDs.n; i++ {
		id := cpuIDs.id[i%maxCPUs]
		if page == 0 {
			if page = lowPage(); page == 0 {
				puts("kiln: no memory below 640 KiB to start the other CPUs in\n")
				break
			}
			stub := uint64(image.StubPhys + image.KernelOffset)
			memcopy(phys(page), stub+image.StubAP, image.StubAPSize)
			store64(stub+image.StubAPCR3, base.root)
			store64(stub+image.StubAPEntry, pcAPStart())
		}
		startCPU(id, page)
	}
	if cpuIDs.over != 0 {
		puts("kiln: the machine has more CPUs than the 64 that are used\n")
	}
	base.release()
}

// lowPage is a page of RAM that a CPU in real mode can start in: none of the tables that
// firmware left below 640 KiB is needed any more (command line and memory map are
// copied).
func lowPage() uint64 {
	for i := range base.usable.N {
		r := base.usable.R[i]
		if pa := max(r.Start, 0x8000); pa+pageSize <= min(r.End, 0x9f000) {
			return pa
		}
	}
	return 0
}

func startCPU(id uint32, page uint64) {
	const order = 4
	const _ = uint(1<<order - cpuPages)
	pfn, ok := base.low.Alloc(order)
	if !ok {
		puts("kiln: no memory for another CPU\n")
		return
	}
	base.kernPages += 1 << order
	a := phys(pfn << 12)
	memzero(a, pageSize<<order)
	c := makeCPU(base.ncpu, a)
	c.apicID = id
	slot := (*uint64)(ptr(image.StubPhys + image.KernelOffset + image.StubAPCPU))
	atomic.StoreUint64(slot, c.self)
	command(id, icrInit)
	delay(10_000)
	command(id, icrStart|uint32(page>>12))
	if !awaitCPU(c, slot, 1_000_000) {
		command(id, icrStart|uint32(page>>12))
		if !awaitCPU(c, slot, startNS) && atomic.SwapUint64(slot, 0) != 0 {
			base.kernPages -= 1 << order
			releaseFrames(pfn, order)
		}
	}
	if atomic.LoadUint32(&c.online) == 0 {
		puts("kiln: the CPU with APIC id ")
		putdec(uint64(id))
		puts(" did not start and is left out\n")
		return
	}
	base.cpus[c.id%maxCPUs] = c.self
	base.ncpu++
}

// awaitCPU waits until c is online; past the first ns only if it is on its way. It also
// plays our part in comparing clocks.
func awaitCPU(c *CPU, slot *uint64, ns int64) bool {
	for end := nanotime() + ns; ; {
		if atomic.LoadUint32(&c.online) != 0 {
			return true
		}
		if atomic.LoadUint64(slot) == 0 {
			compareClocks(c)
			end = nanotime() + startNS
		}
		if nanotime() >= end {
			return false
		}
		pause()
	}
}

func delay(ns int64) {
	for end := nanotime() + ns; nanotime() < end; {
		pause()
	}
}

// apMain makes this processor CPU c. It runs on c's base stack and g with the base's lock
// held by the CPU that waits for us.
func apMain(c *CPU) {
	loadCPU(c)
	mode := uint64(apicEnable)
	if lapicMode.x2 != 0 {
		mode |= apicX2
	}
	wrmsr(msrAPICBase, rdmsr(msrAPICBase)|mode)
	enableLAPIC(c)
	initTimer()
	answerClock()
	idle := (*M)(ptr(c.idleM))
	c.cur = addrOf(unsafe.Pointer(idle))
	setIST(c, idle)
	c.lazy = 1
	atomic.StoreUint32(&c.online, 1)
}

// ---- clocks ----------------------------------------------------------------------

// tscTest compares the TSC of a CPU that starts with ours. In each round we ask, it
// answers with its TSC: that reading lies between our reading before and the one after.
var tscTest = struct {
	magic uint32
	turn  uint32 // odd: the other's, even: ours
	tsc   uint64
}{magic: dataMagic}

const tscRounds = 8

// clockBounds narrows what is known of the other CPU's TSC minus ours.
type clockBounds struct{ lo, hi int64 }

func (b *clockBounds) note(before, other, after uint64) {
	b.lo = max(b.lo, int64(other-after))
	b.hi = min(b.hi, int64(other-before))
}

// offset is what has to be added to the other's TSC; 0 if the two may be the same.
func (b *clockBounds) offset() int64 {
	if b.lo <= 0 && b.hi >= 0 {
		return 0
	}
	return -(b.lo + (b.hi-b.lo)/2)
}

func compareClocks(c *CPU) {
	t := &tscTest
	b := clockBounds{-1 << 62, 1 << 62}
	for range tscRounds {
		before := rdtsc()
		atomic.AddUint32(&t.turn, 1)
		for atomic.LoadUint32(&t.turn)&1 != 0 {
			pause()
		}
		b.note(before, t.tsc, rdtsc())
	}
	if c.tscOff = b.offset(); c.tscOff != 0 {
		clk.unsync = 1
	}
	for atomic.LoadUint32(&c.online) == 0 {
		pause()
	}
}

// answerClock is the other CPU's part of compareClocks.
func answerClock() {
	t := &tscTest
	for range tscRounds {
		for atomic.LoadUint32(&t.turn)&1 == 0 {
			pause()
		}
		t.tsc = rdtsc()
		atomic.AddUint32(&t.turn, 1)
	}
}

// ---- the MP table ------------------------------------------------------------------

// readMPTable finds CPUs and I/O APICs in the table that older firmware, and some
// hypervisors without ACPI, leave (MultiProcessor Specification 1.4, chapter 4).
func readMPTable() {
	p := scanMP(0x9fc00, 0xa0000)
	if p == 0 {
		p = scanMP(0xf0000, 0x100000)
	}
	if p == 0 {
		return
	}
	t := tablePtr(uint64(load32(p+4)), 44)
	if t == 0 || load32(t) != 0x504d4350 { // "PCMP"
		return
	}
	end := t + uint64(load32(t+4)&0xffff)
	e := t + 44
	for range load32(t+32) >> 16 & 0xfff {
		if e+8 > end {
			return
		}
		switch load8(e) {
		case 0:
			if load8(e+3)&1 != 0 {
				cpuIDs.add(uint32(load8(e + 1)))
			}
			e += 12
		case 2:
			if load8(e+3)&1 != 0 && apics.n == 0 {
				addIOAPIC(uint64(load32(e+4)), 0)
			}
		}
		e += 8
	}
}

func scanMP(from, to uint64) uint64 {
	for pa := from; pa < to; pa += 16 {
		if load32(phys(pa)) == 0x5f504d5f { // "_MP_"
			s := uint8(0)
			for i := range uint64(16) {
				s += load8(phys(pa) + i)
			}
			if s == 0 {
				return phys(pa)
			}
		}
	}
	return 0
}
