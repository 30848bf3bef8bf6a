package metal

import (
	"sync/atomic"
	"unsafe"
)

// Page table entry bits (SDM 3A 4.5).
const (
	pteP    = 1 << 0
	pteW    = 1 << 1
	pteU    = 1 << 2
	ptePWT  = 1 << 3
	ptePCD  = 1 << 4
	pteA    = 1 << 5
	pteD    = 1 << 6
	ptePS   = 1 << 7
	pteG    = 1 << 8
	pteNone = 1 << 9 // software: inaccessible (PROT_NONE), the frame is remembered
	pteNX   = 1 << 63
	pteAddr = 0x000ffffffffff000
)

const pageSize = 4096

// allocFrame takes a frame for the kernel's own use; it may use the reserve. 0 if
// there is none.
func allocFrame() uint64 {
	pfn, ok := base.high.Alloc(0)
	if !ok {
		pfn, ok = base.low.Alloc(0)
	}
	if !ok {
		return 0
	}
	base.kernPages++
	notePressure()
	return pfn << 12
}

func allocZeroFrame() uint64 {
	pa := allocFrame()
	if pa != 0 {
		memzero(phys(pa), pageSize)
	}
	return pa
}

func freeFrame(pa uint64) {
	base.kernPages--
	releaseFrames(pa>>12, 0)
}

func releaseFrames(pfn uint64, order uint) bool {
	ok := false
	if pfn >= 1<<20 {
		ok = base.high.Release(pfn, order)
	} else {
		ok = base.low.Release(pfn, order)
	}
	if base.pressed != 0 && freePages() > lowMark()+lowMark()/4 {
		base.pressed = 0
	}
	return ok
}

func freePages() uint64 { return base.low.Free + base.high.Free }

// setMarks divides the memory (pages). Go's memory limit is an eighth of it; the goal
// adds page tables and what the collector overshoots by.
func setMarks(total uint64) {
	const mib = 1 << 20 / pageSize
	base.goLimit = max(total/8, 8*mib)
	base.floor = min(max(4*mib, total/32), 64*mib, total/6)
	base.goal = base.goLimit + base.floor/2
}

// reservePages is what AllocFrames and page tables of programs leave alone: what the
// kernel may still grow by, up to its goal, or 16 MiB, or twice what it has (as the
// collector lets a heap double), and never less than the floor. Go's heap cannot be
// told that there is no memory; a program can.
func reservePages() uint64 {
	grow := uint64(0)
	goal := base.goal + atomic.LoadUint64(&base.heapExtra)
	if k := atomic.LoadUint64(&base.kernPages); k < goal {
		grow = min(goal-k, max(16<<20/pageSize, k))
	}
	return max(base.floor, grow)
}

// lowMark is where reclaim should begin, early enough to be done before the reserve
// is reached.
func lowMark() uint64 {
	r := reservePages()
	return r + max(r/4, 1<<20/pageSize)
}

// notePressure latches the pressure line when free memory falls below the low
// watermark, and again at the reserve and at half and a quarter of it: the kernel
// is then eating what keeps it alive.
func notePressure() {
	free, level := freePages(), uint32(0)
	switch r := reservePages(); {
	case free < r/4:
		level = 4
	case free < r/2:
		level = 3
	case free < r:
		level = 2
	case free < lowMark():
		level = 1
	}
	if level > base.pressed {
		base.pressed = level
		latchLine(linePressure, false)
	}
}

// walk is the address of the page table entry for va at level (0 = 4 KiB), making
// tables on the way if it may; 0 if it cannot. A large page on the way ends it.
func walk(root, va uint64, level uint, flags uint64, alloc bool) uint64 {
	t := root & pteAddr
	for l := uint(3); ; l-- {
		e := phys(t) + (va>>(12+9*l)&511)*8
		if l == level {
			return e
		}
		v := load64(e)
		if v&pteP == 0 {
			if !alloc {
				return 0
			}
			n := allocZeroFrame()
			if n == 0 {
				return 0
			}
			v = n | pteP | pteW | flags
			store64(e, v)
		} else if v&ptePS != 0 {
			return 0
		}
		t = v & pteAddr
	}
}

// mapKernel maps one 4 KiB page of the kernel.
func mapKernel(va, pa, flags uint64) bool {
	e := walk(base.root, va, 0, 0, true)
	if e == 0 {
		return false
	}
	store64(e, pa|flags|pteP)
	return true
}

// lazyProt is what may be done with va as demand-zero memory of the runtime (the bits
// of mmap(2)), 0 if it is none.
func lazyProt(va uint64) uint32 {
	if va >= base.bssLo && va < base.bssHi {
		return 3
	}
	if va < base.goLo || va >= base.goHi {
		return 0
	}
	prot, _ := regions.Find(va)
	return prot
}

// populate makes the page at va present if it is the runtime's demand-zero memory.
func populate(va uint64, write bool) bool {
	va &^= pageSize - 1
	prot := lazyProt(va)
	if prot == 0 || write && prot&2 == 0 {
		return false
	}
	e := walk(base.root, va, 0, 0, true)
	if e == 0 {
		fatal("out of memory for the kernel itself")
	}
	if load64(e)&pteP != 0 {
		return true
	}
	pa := allocZeroFrame()
	if pa == 0 {
		fatal("out of memory for the kernel itself")
	}
	v := pa | pteP | pteA | pteD | pteG | pteNX
	if prot&2 != 0 {
		v |= pteW
	}
	store64(e, v)
	return true
}

// touch makes [va, va+n) of kernel memory present so that the base may access it;
// false if it is not all memory (EFAULT).
func touch(va, n uint64, write bool) bool {
	if va < 1<<63 || va+n < va {
		return false
	}
	for p := va &^ (pageSize - 1); p < va+n; p += pageSize {
		e := walk(base.root, p, 0, 0, false)
		if e != 0 {
			v := load64(e)
			if v&pteP != 0 && (!write || v&pteW != 0) {
				continue
			}
		} else if p >= base.direct && p < base.direct+base.maxPFN<<12 {
			continue
		}
		if !populate(p, write) {
			return false
		}
	}
	return true
}

// drop keeps a frame that no page table names any more, but another CPU's TLB may, until
// freeDropped.
func (c *CPU) drop(pa uint64) {
	if c.ndropped == pageSize/8 {
		c.freeDropped()
	}
	store64(c.self+cpuDropOff+8*c.ndropped, pa)
	c.ndropped++
}

// freeDropped frees them once no CPU can reach them (I7). It gives up the base's lock
// while it waits for the others.
func (c *CPU) freeDropped() {
	if c.ndropped == 0 {
		return
	}
	base.release()
	flushOthers(c, 0, 0, 0)
	base.acquire()
	for i := range c.ndropped {
		freeFrame(load64(c.self + cpuDropOff + 8*i))
	}
	c.ndropped = 0
}

// dropPages frees the frames under [start, end) of the runtime's area. The lock may be
// given up in between: the range still belongs to the caller, and nobody touches it.
func dropPages(start, end uint64) {
	n := 0
	c := curCPU()
	for va := start; va < end; {
		e := walk(base.root, va, 1, 0, false)
		if e == 0 {
			va = (va + 1<<30) &^ (1<<30 - 1) // at least a table of 1 GiB is missing
			continue
		}
		if load64(e)&pteP == 0 {
			va = (va + 1<<21) &^ (1<<21 - 1)
			continue
		}
		lim := min((va+1<<21)&^(1<<21-1), end)
		for ; va < lim; va += pageSize {
			e := walk(base.root, va, 0, 0, false)
			if v := load64(e); v&(pteP|pteNone) != 0 {
				store64(e, 0)
				if n < 64 {
					invlpg(va)
				}
				n++
				if base.ncpu == 1 {
					freeFrame(v & pteAddr)
					continue
				}
				c.drop(v & pteAddr)
			}
		}
	}
	if n >= 64 {
		flushGlobal()
	}
	c.freeDropped()
}

// flushGlobal empties this CPU's TLB, global pages too (SDM 3A 4.10.4.1).
func flushGlobal() {
	c := readCR4()
	writeCR4(c &^ cr4PGE)
	writeCR4(c)
}

const sizeM = (uint64(unsafe.Sizeof(M{})) + 15) &^ 15

// newM takes an M slot; nil if there is none.
func newM() *M {
	id := uint32(0)
	for base.ms[id] != 0 {
		id++
		if id == uint32(len(base.ms)) {
			return nil
		}
	}
	a := base.msFree
	if a == 0 {
		pa := allocZeroFrame()
		if pa == 0 {
			return nil
		}
		for o := uint64(0); o+sizeM <= pageSize; o += sizeM {
			store64(phys(pa)+o, base.msFree)
			base.msFree = phys(pa) + o
		}
		a = base.msFree
	}
	base.msFree = load64(a)
	memzero(a, sizeM)
	base.ms[id] = a
	base.mtop = max(base.mtop, id+1)
	m := (*M)(ptr(a))
	m.id = id
	base.nextTID++
	m.tid = base.nextTID
	m.mxcsr = 0x1f80
	m.root = base.root
	m.CS, m.SS, m.RFLAGS = selKCode, selKData, flagIF|2
	return m
}

func freeM(m *M) {
	base.ms[m.id] = 0
	timers.Clear(m.id)
	futexes.Drop(m.id)
	if idling.napper == uint64(m.id)+1 {
		idling.napper = 0
	}
	m.state = mFree
	a := addrOf(unsafe.Pointer(m))
	store64(a, base.msFree)
	base.msFree = a
}
