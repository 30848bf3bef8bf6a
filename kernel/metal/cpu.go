package metal

import "unsafe"

// cpuInfo is what CPUID told; booleans only, strings are read later in Go.
var cpuInfo = struct {
	magic                                              uint32
	gbPages, fsgsbase, smep, smap, xsave, avx, rdrand  bool
	pge, hyper, deadline, x2apic, invtsc, rdseed, erms bool
	rdtscp                                             bool
	maxLeaf, maxExt                                    uint32
}{magic: dataMagic}

func detectCPU() {
	p := &cpuInfo
	p.maxLeaf, _, _, _ = cpuid(0, 0)
	p.maxExt, _, _, _ = cpuid(0x80000000, 0)
	_, _, c, d := cpuid(1, 0)
	p.pge = d&(1<<13) != 0
	p.xsave = c&(1<<26) != 0
	p.avx = c&(1<<28) != 0
	p.rdrand = c&(1<<30) != 0
	p.hyper = c&(1<<31) != 0
	p.deadline = c&(1<<24) != 0
	p.x2apic = c&(1<<21) != 0
	if p.maxLeaf >= 7 {
		_, b, _, _ := cpuid(7, 0)
		p.fsgsbase = b&1 != 0
		p.smep = b&(1<<7) != 0
		p.smap = b&(1<<20) != 0
	}
	if p.maxExt >= 0x80000001 {
		_, _, _, d := cpuid(0x80000001, 0)
		p.gbPages = d&(1<<26) != 0
		p.rdtscp = d&(1<<27) != 0
	}
	if p.maxExt >= 0x80000007 {
		_, _, _, d := cpuid(0x80000007, 0)
		p.invtsc = d&(1<<8) != 0
	}
}

// Layout of a CPU's pages: 0 CPU and GDT and TSS, 1 the fake g and m, 2-4 the
// stacks of #DF, #MC, #DB and NMI (half a page each, NMI a quarter), 5-12 the base's, 13
// frames to be freed (dropPages).
const (
	cpuPages   = 14
	cpuGDTOff  = 0x800
	cpuTSSOff  = 0x900
	cpuTLSOff  = 0xf00
	cpuGOff    = 0x1000
	cpuMOff    = 0x1400
	cpuDFTop   = 0x3000 - 16
	cpuMCTop   = 0x4000 - 16
	cpuDBTop   = 0x4800 - 16
	cpuNMITop  = 0x5000 - 16
	cpuStackLo = 0x5000
	cpuStackHi = 0xd000
	cpuDropOff = 0xd000
)

// runtime.g and runtime.m of Go 1.26, as far as prologues and a dying runtime
// read them; TestRuntimeLayout checks them against the built kernel's DWARF.
const (
	gStackLo     = 0
	gStackHi     = 8
	gStackGuard0 = 16
	gStackGuard1 = 24
	gM           = 48
	mG0          = 0
)

// makeCPU lays out CPU id's memory at a, which is zero. IST: 1 the running M's frame, 2 #DF, 3 #MC,
// 4 #DB, 5 NMI.
func makeCPU(id, a uint64) *CPU {
	c := (*CPU)(ptr(a))
	c.self = a
	c.id = uint32(id)
	c.root = base.root
	// What the assembly calls spills its arguments above the return address.
	c.baseSP = a + cpuStackHi - 64
	c.baseTLS = a + cpuTLSOff
	g := a + cpuGOff
	c.fakeG = g
	store64(c.baseTLS-8, g)
	store64(g+gStackLo, a+cpuStackLo)
	store64(g+gStackHi, a+cpuStackHi)
	store64(g+gStackGuard0, a+cpuStackLo+1024)
	store64(g+gStackGuard1, a+cpuStackLo+1024)
	store64(g+gM, a+cpuMOff)
	store64(a+cpuMOff+mG0, g)
	for _, top := range [...]uint64{cpuDFTop, cpuMCTop, cpuDBTop, cpuNMITop} {
		store64(a+top, a)
	}
	c.gdt, c.tss = a+cpuGDTOff, a+cpuTSSOff
	// Where Linux has user code of 32 bits, SYSRET wants a place but no descriptor. There is none:
	// no CS but selUCode is kept for a program, nor are its data selectors.
	for i, v := range [...]uint64{0, 0,
		0x00af9b000000ffff, 0x00cf93000000ffff, // kernel code, data
		0, 0x00cff3000000ffff, 0x00affb000000ffff} { // none, user data, user code
		store64(c.gdt+uint64(i)*8, v)
	}
	t := c.tss
	const lim = 103
	store64(c.gdt+selTSS, lim|(t&0xffffff)<<16|0x89<<40|(t>>24&0xff)<<56)
	store64(c.gdt+selTSS+8, t>>32)
	// As on Linux: read-only data that expands down, the number in bits 11:0 of the limit;
	// the node, in those above, is 0.
	store64(c.gdt+selCPU, id|0xf5<<40|1<<54)
	store64u(t+4, c.baseSP) // RSP0 is never used: every gate has an IST
	for i, top := range [...]uint64{cpuDFTop, cpuMCTop, cpuDBTop, cpuNMITop} {
		store64u(t+36+8*uint64(i+1), a+top)
	}
	store16(t+102, 104) // no I/O permission bitmap
	return c
}

// store64u writes a word that is 4-aligned only.
func store64u(a, v uint64) {
	store32(a, uint32(v))
	store32(a+4, uint32(v>>32))
}

// setIST points IST 1 to the frame of m, which the CPU is about to run.
func setIST(c *CPU, m *M) { store64u(c.tss+36, addrOf(unsafe.Pointer(m))+uint64(frameEnd)) }

// loadCPU makes this processor CPU c: descriptor tables, control registers, MSRs.
func loadCPU(c *CPU) {
	if base.idt() == 0 {
		makeIDT()
	}
	d := c.self + cpuGDTOff + 0xc0 // a descriptor register image
	store16(d+6, selCPU+8-1)
	store64u(d+8, c.gdt)
	lgdt(d + 6)
	loadSegs()
	wrmsr(msrFSBase, c.baseTLS)
	wrmsr(msrGSBase, c.self)
	wrmsr(msrKernelGSBase, 0)
	store16(d+6, 4095)
	store64u(d+8, base.idt())
	lidt(d + 6)
	ltr(selTSS)
	cr4 := readCR4() | cr4OSFXSR | cr4OSXMMEXCPT
	if cpuInfo.pge {
		cr4 |= cr4PGE
	}
	if cpuInfo.fsgsbase {
		cr4 |= cr4FSGSBASE
		feat.fsgsbase = 1
	}
	if cpuInfo.smep {
		cr4 |= cr4SMEP
	}
	if cpuInfo.smap {
		cr4 |= cr4SMAP
		feat.smap = 1
	}
	writeCR4(cr4)
	wrmsr(msrSTAR, selKCode<<32|(selUData-8)<<48)
	wrmsr(msrLSTAR, pcSyscall())
	// The ways in from 32-bit code, as Linux without IA32_EMULATION shuts them. SYSENTER
	// faults while its CS is 0.
	wrmsr(msrCSTAR, pcSyscall32())
	for _, r := range [...]uint32{msrSysenterCS, msrSysenterESP, msrSysenterEIP} {
		wrmsr(r, 0)
	}
	wrmsr(msrFMASK, sysFlagMask)
	if cpuInfo.rdtscp {
		wrmsr(msrTSCAux, uint64(c.id))
	}
	idle := (*M)(ptr(c.self + cpuMOff + idleOff))
	idle.idle = 1
	idle.id = ^uint32(0)
	idle.mxcsr = 0x1f80
	idle.root = base.root
	idle.CS, idle.SS, idle.RFLAGS = selKCode, selKData, flagIF|2
	idle.RIP = pcIdle()
	idle.RSP = c.baseSP - 64
	idle.fs = c.baseTLS
	c.idleM = addrOf(unsafe.Pointer(idle))
}

// idleOff places the idle M behind the fake g (in page 1: g at 0x1000, m at
// 0x1400, the idle M at 0x1c00).
const idleOff = 0x1c00 - cpuMOff

const _ = 0x400 - uint(sizeM) // the idle M ends with its page

var idtAddr = dataMagicWord

// dataMagicWord is dataMagic as a variable's initial value.
const dataMagicWord uint64 = dataMagic

func (b *baseState) idt() uint64 {
	if idtAddr == dataMagic {
		return 0
	}
	return idtAddr
}

// makeIDT fills the table that all CPUs share: 64-bit interrupt gates (SDM 3A
// 6.14.1) through the IST; 3 and 4 may be raised by ring 3.
func makeIDT() {
	pa := allocFrame() // the early allocator has ended: its frames are the buddy's now
	idtAddr = phys(pa)
	for v := uint64(0); v < 256; v++ {
		pc, ist, dpl := pcISR()+v*16, uint64(1), uint64(0)
		switch v {
		case 1:
			pc, ist = pcDB(), 4
		case 2:
			pc, ist = pcNMI(), 5
		case 3, 4:
			dpl = 3
		case 8:
			pc, ist = pcFatal(), 2
		case 18:
			pc, ist = pcMC(), 3
		case vecCall:
			pc = pcCall()
		}
		store64(idtAddr+v*16, pc&0xffff|selKCode<<16|ist<<32|0x8e<<40|dpl<<45|(pc>>16&0xffff)<<48)
		store64(idtAddr+v*16+8, pc>>32)
	}
}
