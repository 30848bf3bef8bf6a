package metal

import (
	"unsafe"

	"kiln/kernel/image"
	"kiln/kernel/metal/core"
)

// stubTable is the table behind the BootBlock (kernel/image/link.go).
type stubTable struct {
	block                             [image.BootBlockSize]byte
	entry, textLo, textHi, roLo, roHi uint64
	dataLo, dataHi, bssLo, bssHi      uint64
	pinALo, pinAHi, pinBLo, pinBHi    uint64
}

// startInfo is hvm_start_info (Xen public/arch-x86/hvm/start_info.h).
type startInfo struct {
	magic, version, flags, nmods uint32
	mods, cmdline, rsdp, memmap  uint64
	entries, _                   uint32
}

type memEntry struct {
	addr, size uint64
	kind, _    uint32
}

// bump is the frame allocator of the first moments: frames after the image.
var bump = struct{ magic, next, end uint64 }{magic: dataMagic}

func bumpPages(n uint64) uint64 {
	pa := bump.next
	if pa+n*pageSize > bump.end {
		fatal("not enough memory to start")
	}
	bump.next += n * pageSize
	return pa
}

func bumpZero(n uint64) uint64 {
	pa := bumpPages(n)
	memzero(phys(pa), n*pageSize)
	return pa
}

// bootMain runs on the boot stack with the stub's page tables: physical 0-1 GiB is
// mapped at 0, and at the kernel's offset. It makes the machine fit for the Go
// runtime and returns; the assembly then resumes M 0.
func bootMain(blk, info uint64) {
	base.direct = 0
	base.magic = dataMagic
	base.blk, base.info = blk, info
	t := (*stubTable)(ptr(blk))
	si := (*startInfo)(ptr(info))
	readMap(si)
	detectCPU()
	seedRNG()
	bb := (*[5]uint64)(unsafe.Pointer(&t.block))
	base.imgPhys, base.imgEnd = bb[1], bb[2]
	bump.next = (max(bb[2], bb[4]) + pageSize - 1) &^ (pageSize - 1)
	for i := range base.usable.N {
		if r := base.usable.R[i]; r.Start <= image.StubPhys && r.End > bump.next {
			bump.end = min(r.End, 1<<30)
		}
	}
	if bump.end <= bump.next {
		fatal("the image does not leave memory below 1 GiB")
	}
	base.cmdline = si.cmdline
	base.rsdp = si.rsdp
	makeTables(t)
	c := makeCPU(0, phys(bumpZero(cpuPages)))
	base.cpus[0], base.ncpu = c.self, 1
	startFrames()
	loadCPU(c)
	c.online = 1
	// The command line may lie in low memory that others use later: keep a copy.
	keepCmdline()
	startClock()
	firstM(c)
	initTrapState()
	if base.usable.Lost != 0 {
		puts("kiln: firmware's map of memory has too many pieces: some memory is left out\n")
	}
	startCPUs()
}

// readMap reads firmware's map of memory: ram is as it says, for what is not RAM, usable is
// what may be used.
func readMap(si *startInfo) {
	entry := func(i uint64) *memEntry { return (*memEntry)(ptr(si.memmap + i*24)) }
	for i := uint64(0); i < min(uint64(si.entries), uint64(len(base.ram))); i++ {
		e := entry(i)
		base.ram[i] = ramRange{e.addr, e.addr + e.size}
		base.nram = i + 1
	}
	m := &base.usable
	m.Read(uint64(si.entries), func(i uint64) (uint64, uint64, bool) {
		e := entry(i)
		return e.addr, e.size, e.kind == 1
	})
	for i := range m.N {
		base.maxPFN = max(base.maxPFN, m.R[i].End>>12)
	}
}

// Regions of the upper half are whole slots of the top table (512 GiB each), at
// random: the direct map in 257-319, the runtime's memory in 320-447; devices in 448.
// The image is at -2 GiB.
const slotSize = 1 << 39

func slotAddr(slot uint64) uint64 { return 0xffff<<48 | slot<<39 }

func makeTables(t *stubTable) {
	root := bumpZero(1)
	direct := slotAddr(257+rng.Uint64()%62) + rng.Uint64()%128<<30
	base.root = root
	// All slots of the upper half that are used get their table now, so that a
	// new address space copies 256 entries once and never again.
	bt := bootTables{root: root}
	// The image. Text is executable and read-only; nothing else is executable.
	for va := image.StubPhys + uint64(image.KernelOffset); va < image.StubPhys+image.KernelOffset+0x7000; va += pageSize {
		bt.page(va, va-image.KernelOffset, pteW|pteNX)
	}
	bt.span(t.textLo&^0xfff, t.textHi, pteG)
	bt.span(t.roLo&^0xfff, t.roHi, pteG|pteNX)
	bt.span(t.dataLo&^0xfff, t.dataHi, pteG|pteNX|pteW)
	// BSS is lazy but for the pages of small variables, which the base and the
	// first instructions of the runtime touch.
	base.bssLo, base.bssHi = (t.bssLo+0xfff)&^0xfff, t.bssHi
	bt.fresh(max(t.pinALo&^0xfff, base.bssLo), t.pinAHi)
	bt.fresh(max(t.pinBLo&^0xfff, base.bssLo), t.pinBHi)
	if t.bssLo&0xfff != 0 { // the rest of the last file-backed page
		p := t.bssLo - image.KernelOffset
		memzero8(p, base.bssLo-t.bssLo)
	}
	// The direct map: 1 GiB pages where the CPU has them, else 2 MiB; the part
	// under the image's text and read-only data is mapped read-only in 4 KiB.
	textLo, roHi := t.textLo&^0xfff-image.KernelOffset, t.roHi-image.KernelOffset
	top := max(base.maxPFN<<12, 1<<20)
	for pa := uint64(0); pa < top; {
		switch {
		case pa&^(1<<21-1) >= textLo&^(1<<21-1) && pa < roHi:
			for e := pa + 1<<21; pa < e; pa += pageSize {
				w := uint64(pteW)
				if pa >= textLo && pa < roHi {
					w = 0
				}
				bt.page(direct+pa, pa, w|pteNX|pteG)
			}
		case cpuInfo.gbPages && pa&(1<<30-1) == 0 && pa >= 1<<30 && pa+1<<30 <= top:
			*bt.entry(direct+pa, 2) = pa | pteP | pteW | pteA | pteD | pteNX | pteG | ptePS
			pa += 1 << 30
		default:
			*bt.entry(direct+pa, 1) = pa | pteP | pteW | pteA | pteD | pteNX | pteG | ptePS
			pa += 1 << 21
		}
	}
	gslot := 320 + rng.Uint64()%127
	base.goLo = slotAddr(gslot) + rng.Uint64()%64<<30
	base.goHi = slotAddr(gslot) + slotSize
	base.mmio = slotAddr(448)
	bt.entry(base.goLo, 2)
	bt.entry(base.mmio, 2)
	writeCR3(root)
	base.direct = direct
	base.blk += image.KernelOffset
	base.info = phys(base.info)
}

// bootTables builds page tables while physical memory is mapped at 0.
type bootTables struct{ root uint64 }

func (b *bootTables) entry(va uint64, level uint) *uint64 {
	t := b.root
	for l := uint(3); ; l-- {
		e := (*uint64)(ptr(t + (va>>(12+9*l)&511)*8))
		if l == level {
			return e
		}
		if *e == 0 {
			*e = bumpZero(1) | pteP | pteW
		}
		t = *e & pteAddr
	}
}

func (b *bootTables) page(va, pa, flags uint64) { *b.entry(va, 0) = pa | flags | pteP | pteA | pteD }

func (b *bootTables) span(lo, hi, flags uint64) {
	for va := lo; va < hi; {
		e := addrOf(unsafe.Pointer(b.entry(va, 0)))
		for {
			store64(e, (va-image.KernelOffset)|flags|pteP|pteA|pteD)
			va += pageSize
			e += 8
			if va >= hi || va&(1<<21-1) == 0 {
				break
			}
		}
	}
}

func (b *bootTables) fresh(lo, hi uint64) {
	for va := lo; va < hi; va += pageSize {
		if e := b.entry(va, 0); *e == 0 {
			*e = bumpZero(1) | pteP | pteW | pteA | pteD | pteG | pteNX
		}
	}
}

func memzero8(p, n uint64) {
	for i := uint64(0); i < n; i++ {
		store8(p+i, 0)
	}
}

// startFrames hands the memory that is left to the page allocator.
func startFrames() {
	const gb4 = 1 << 20
	lowEnd := min(base.maxPFN, gb4)
	initBuddy(&base.low, 0, lowEnd)
	base.high.Init(gb4, nil, nil, nil)
	if base.maxPFN > gb4 {
		initBuddy(&base.high, gb4, base.maxPFN)
	}
	mem := bumpPages(16)
	regions.Init(base.goLo, base.goHi, unsafe.Slice((*core.Region)(ptr(phys(mem))), 16*pageSize/24))
	for i := range base.usable.N {
		r := base.usable.R[i]
		if r.End <= 1<<20 {
			continue
		}
		lo, hi := r.Start>>12, r.End>>12
		if r.Start <= image.StubPhys {
			lo = bump.next >> 12
		}
		if lo < hi {
			base.low.AddRange(lo, min(hi, gb4))
			if hi > gb4 {
				base.high.AddRange(max(lo, gb4), hi)
			}
		}
	}
	total := base.low.Total + base.high.Total
	setMarks(total)
	bump.end = bump.next // a later bumpPages would hand out a frame of the buddy's
}

func initBuddy(b *core.Buddy, first, end uint64) {
	n := end - first
	st := bumpPages((n + pageSize - 1) / pageSize)
	next := bumpPages((4*n + pageSize - 1) / pageSize)
	prev := bumpPages((4*n + pageSize - 1) / pageSize)
	b.Init(first, unsafe.Slice((*uint8)(ptr(phys(st))), n),
		unsafe.Slice((*uint32)(ptr(phys(next))), n), unsafe.Slice((*uint32)(ptr(phys(prev))), n))
}

func keepCmdline() {
	if base.cmdline == 0 {
		return
	}
	src := phys(base.cmdline)
	n := uint64(0)
	for n < 4000 && load8(src+n) != 0 {
		n++
	}
	pa := allocFrame()
	memcopy(phys(pa), src, n)
	base.cmdline, base.cmdlen = phys(pa), n
}

// cmdlineHas says whether the kernel command line has a word, before " -- ".
func cmdlineHas(word string) bool {
	start := uint64(0)
	for i := uint64(0); i <= base.cmdlen; i++ {
		if i < base.cmdlen && load8(base.cmdline+i) != ' ' {
			continue
		}
		n := i - start
		if n == 2 && load8(base.cmdline+start) == '-' && load8(base.cmdline+start+1) == '-' {
			return false
		}
		same := n == uint64(len(word))
		for j := uint64(0); same && j < n; j++ {
			same = load8(base.cmdline+start+j) == word[j]
		}
		if same {
			return true
		}
		start = i + 1
	}
	return false
}

// firstM makes M 0: the runtime's entry on a stack with argc, argv, environment
// and auxiliary vector as Linux lays them out (GO-ON-METAL 1.2).
func firstM(c *CPU) {
	m := newM()
	m.state = mRunning
	c.cur = addrOf(unsafe.Pointer(m))
	pfn, ok := base.low.Alloc(5) // 128 KiB: g0 takes 64 KiB below SP
	if !ok {
		fatal("no memory for the first stack")
	}
	top := phys(pfn<<12) + 32*pageSize
	// Strings and random bytes at the top, the vector below.
	rnd := top - 16
	store64(rnd, rng.Uint64())
	store64(rnd+8, rng.Uint64())
	arg0 := top - 32
	store64(arg0, 0x6e6c696b) // "kiln"
	sp := top - 256
	for i, v := range [...]uint64{1, arg0, 0, 0, 6, pageSize, 25, rnd, 0, 0} {
		store64(sp+uint64(i)*8, v)
	}
	m.RSP = sp
	m.RIP = pcRT0()
	setIST(c, m)
}
