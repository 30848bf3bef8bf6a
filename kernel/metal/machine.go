package metal

import (
	"encoding/binary"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	gosyscall "syscall"
	"unsafe"
	_ "unsafe" // linkname

	"kiln/kernel/hal"
	"kiln/kernel/image"
	"kiln/kernel/metal/core"
)

// Machine is hal.Machine at ring 0. There is one.
type Machine struct {
	boot       hal.BootInfo
	feat       hal.Features
	mxMask     uint32 // what MXCSR has
	scavenging atomic.Bool
}

var (
	machine Machine
	once    sync.Once
)

// The runtime's pointer to its clock (runtime/vdso_linux.go): the only linkname of
// the kernel.
//
//go:linkname vdsoClockgettimeSym runtime.vdsoClockgettimeSym
var vdsoClockgettimeSym uintptr

// New takes the machine over for the kernel: vector state for programs, the clock,
// the dispatcher. It must be main's first call.
func New() *Machine {
	once.Do(func() {
		vdsoClockgettimeSym = uintptr(pcClock())
		debug.SetMaxThreads(core.MaxSlots - 8)
		debug.SetMemoryLimit(int64(base.goLimit << 12))
		debug.SetGCPercent(gcPercent())
		machine.enableVectors()
		machine.readFeatures()
		machine.readBoot()
		machine.OnPressure(nil)
		startDispatcher()
	})
	return &machine
}

// gcPercent lets a small heap grow to half of the limit before it is collected (the
// runtime's least goal is 4 MiB at 100), and a large one to five times what lives at most:
// the memory is in the reserve in any case, and pressure collects it (scavenge).
func gcPercent() int {
	const least = 4 << 20
	return int(min(max(base.goLimit<<12/2*100/least, 100), 400))
}

var _ hal.Machine = (*Machine)(nil)

// enableVectors turns OSXSAVE on: only now, so that the Go runtime and packages that
// looked in their init never use AVX (GO-ON-METAL 0.3).
func (m *Machine) enableVectors() {
	m.feat.FPSize = 512
	m.mxMask = mxcsrMask()
	if !cpuInfo.xsave {
		return
	}
	xcr0 := uint64(3)
	if cpuInfo.avx {
		xcr0 |= 4
	}
	baseCall(opVectors, xcr0, 0, 0)
	feat.xsave = xsaveSSE
	if cpuInfo.avx {
		feat.xsave = xsaveAVX
		if a, _, _, _ := cpuid(0xd, 1); a&1 != 0 {
			feat.xsave = xsaveOpt
		}
	}
	_, size, _, _ := cpuid(0xd, 0)
	m.feat.FPSize = int(size+63) &^ 63
	m.feat.XSAVE, m.feat.XCR0 = true, xcr0
}

// mxcsrMask is which bits of MXCSR the processor has (SDM 1 11.6.6).
func mxcsrMask() uint32 {
	raw := make([]byte, 512+15)
	img := raw[-addrOf(unsafe.Pointer(&raw[0]))&15:]
	fxsave(unsafe.Pointer(&img[0]))
	if v := binary.LittleEndian.Uint32(img[28:]); v != 0 {
		return v
	}
	return 0xffbf
}

func (m *Machine) readBoot() {
	b := &m.boot
	b.Protocol = "pvh"
	b.RSDP = hal.PhysAddr(base.rsdp)
	b.Cmdline = string(unsafe.Slice((*byte)(ptr(base.cmdline)), base.cmdlen))
	setNoise(b.Cmdline)
	if base.imgPhys == 0 {
		return
	}
	h, err := image.DecodeHeader(m.physBytes(base.imgPhys, image.HeaderSize))
	size := base.imgEnd - base.imgPhys
	detached := h.RootOff == size // the root is in no segment, being too large
	if err != nil || h.ConfigOff+h.ConfigLen > size || h.RootOff+h.RootLen > size && !detached {
		return
	}
	b.Config = m.physBytes(base.imgPhys+h.ConfigOff, h.ConfigLen)
	if h.RootLen != 0 && !detached {
		b.RootFrame = hal.PFN((base.imgPhys + h.RootOff) >> 12)
		b.RootSize = int64(h.RootLen)
	}
}

func (*Machine) physBytes(pa, n uint64) []byte { return unsafe.Slice((*byte)(ptr(phys(pa))), n) }

// Boot implements hal.Machine.
func (m *Machine) Boot() *hal.BootInfo { return &m.boot }

// Features implements hal.Machine.
func (m *Machine) Features() *hal.Features { return &m.feat }

// CPUs implements hal.Machine.
func (*Machine) CPUs() int { return int(base.ncpu) }

// ---- time ----------------------------------------------------------------------

// Nanotime implements hal.Machine.
func (*Machine) Nanotime() int64 { return nanotime() }

// Walltime implements hal.Machine.
func (*Machine) Walltime() int64 { return nanotime() + atomic.LoadInt64(&clk.realOffset) }

// SetWalltime implements hal.Machine.
func (*Machine) SetWalltime(ns int64) { atomic.StoreInt64(&clk.realOffset, ns-nanotime()) }

// TimeParams implements hal.Machine. A rate that had to be measured is measured again
// over the time since boot.
func (*Machine) TimeParams() hal.TimeParams {
	baseCall(opRefine, 0, 0, 0)
	r := clk.rate()
	return hal.TimeParams{UsableTSC: clk.unsync == 0, TSCBase: r.tscBase, MonoBase: r.monoBase,
		Mult: r.mult, RealOffset: atomic.LoadInt64(&clk.realOffset)}
}

// SetDeadline implements hal.Machine. If a CPU's timer fires before, that CPU looks then
// (rearm), and nothing needs to be done now: it says that it has fired before it looks.
func (*Machine) SetDeadline(ns int64) {
	atomic.StoreInt64(&deadline.at, ns)
	if at := atomic.LoadInt64(&curCPU().armedAt); (at == 0 || at > ns) && ns != never {
		baseCall(opNewDeadline, 0, 0, 0)
	}
}

// OnDeadline implements hal.Machine.
func (*Machine) OnDeadline(f func()) { setHandler(lineDeadline, &irq{handler: f}) }

// OnPressure implements hal.Machine. The kernel's own heap gives back what it does
// not use before anybody's function takes pages from programs.
func (m *Machine) OnPressure(f func()) {
	setHandler(linePressure, &irq{handler: func() {
		m.scavenge()
		if f != nil {
			f()
		}
	}})
}

// GrowHeap implements hal.Machine.
func (m *Machine) GrowHeap(extra uint64) {
	atomic.StoreUint64(&base.heapExtra, extra>>12)
	debug.SetMemoryLimit(int64(base.goLimit<<12 + extra))
}

// scavenge makes the Go heap return its free memory, once at a time, when the
// reserve is being used. It collects, so it runs beside the dispatcher.
func (m *Machine) scavenge() {
	if freePages() < reservePages() && m.scavenging.CompareAndSwap(false, true) {
		go func() {
			debug.FreeOSMemory()
			m.scavenging.Store(false)
		}()
	}
}

// ---- programs --------------------------------------------------------------------

// NewCtx implements hal.Machine. The exit path from ring 3 writes into the Ctx, so
// all of it is touched here: it must not be demand-zero memory then.
func (m *Machine) NewCtx() *hal.Ctx {
	raw := make([]byte, m.feat.FPSize+64+4)
	for i := 0; i < len(raw); i += 64 {
		raw[i] = 0
	}
	raw[len(raw)-1] = 0
	off := int(-addrOf(unsafe.Pointer(&raw[0])) & 63)
	fp := raw[off : off+m.feat.FPSize : off+m.feat.FPSize+4]
	binary.LittleEndian.PutUint16(fp, 0x37f)       // x87 control word
	binary.LittleEndian.PutUint32(fp[24:], 0x1f80) // MXCSR
	im := new(ctxImpl)
	*im = ctxImpl{fp: addrOf(unsafe.Pointer(&fp[0])), mem: raw}
	contexts.add(im)
	ctx := new(hal.Ctx)
	*ctx = hal.Ctx{FP: fp, Impl: im}
	ctx.CS, ctx.SS, ctx.RFLAGS = selUCode, selUData, flagIF|2
	ctx.R15 = 0
	return ctx
}

// contextList keeps every context in memory until it is given back.
type contextList struct {
	mu    sync.Mutex
	first *ctxImpl
}

var contexts contextList

func (l *contextList) add(c *ctxImpl) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.next = l.first; c.next != nil {
		c.next.prev = c
	}
	l.first = c
}

func (l *contextList) remove(c *ctxImpl) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.next != nil {
		c.next.prev = c.prev
	}
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		l.first = c.next
	}
	c.prev, c.next = nil, nil
}

// FreeCtx implements hal.Machine.
func (*Machine) FreeCtx(ctx *hal.Ctx) {
	im, ok := ctx.Impl.(*ctxImpl)
	if !ok {
		return // a second time
	}
	syncFP(im, false)
	contexts.remove(im)
	ctx.Impl, ctx.FP = nil, nil
}

// SyncFP implements hal.Machine.
func (*Machine) SyncFP(ctx *hal.Ctx) { syncFP(ctx.Impl.(*ctxImpl), true) }

// syncFP makes im's vector state nobody's but its area's. The goroutine may have come to
// another CPU since it entered im: then that one does it.
func syncFP(im *ctxImpl, keep bool) {
	fpSync(im, keep)
	if atomic.LoadUint64(&im.live) != 0 {
		k := uint64(0)
		if keep {
			k = 1
		}
		baseCall(opFPAway, addrOf(unsafe.Pointer(im)), k, 0)
	}
}

// Enter implements hal.Machine.
func (*Machine) Enter(ctx *hal.Ctx, as hal.AddressSpace) {
	im, a := ctx.Impl.(*ctxImpl), as.(*AddressSpace)
	for {
		r := enter(unsafe.Pointer(ctx), unsafe.Pointer(im), a)
		if r == 0 {
			return
		}
		im.prepare(r)
	}
}

// prepare does what enter says is missing.
func (im *ctxImpl) prepare(r uint64) {
	switch r {
	case 1:
		baseCall(opSlice, 0, 0, 0)
	case 2:
		syncFP(im, true)
	case 3:
		gosyscall.RawSyscall(sysMoveCPU, uintptr(im.want-1), 0, 0)
	}
}

// Interrupt implements hal.Machine.
func (*Machine) Interrupt(ctx *hal.Ctx) {
	im, ok := ctx.Impl.(*ctxImpl)
	if !ok {
		return
	}
	// Sequentially consistent with enter, which publishes cpu before it reads intr.
	atomic.StoreUint32(&im.intr, 1)
	if c := atomic.LoadUint32(&im.cpu); c != 0 && c <= uint32(base.ncpu) {
		if o := (*CPU)(ptr(base.cpus[c-1])); o.self != curCPU().self {
			baseCall(opIPI, uint64(o.id), 0, 0)
		}
	}
}

// Withdraw implements hal.Withdrawer. It is an exchange, so that what the caller reads next
// is as new as that.
func (*Machine) Withdraw(ctx *hal.Ctx) { atomic.SwapUint32(&ctx.Impl.(*ctxImpl).intr, 0) }

// SetCPU implements hal.Machine.
func (*Machine) SetCPU(ctx *hal.Ctx, cpu int) {
	want := uint32(0)
	if n := base.ncpu; n > 1 && cpu >= 0 && uint64(cpu) < n {
		want = uint32(cpu) + 1
	}
	ctx.Impl.(*ctxImpl).want = want
}

// CPU implements hal.Machine.
func (*Machine) CPU() int { return int(curCPU().id) }

// SanitizeFP implements hal.Machine (SDM 1 13.4.2 for the header).
func (m *Machine) SanitizeFP(img []byte) bool {
	if len(img) < m.feat.FPSize {
		return false
	}
	le := binary.LittleEndian
	le.PutUint32(img[24:], le.Uint32(img[24:])&m.mxMask)
	if m.feat.XSAVE {
		le.PutUint64(img[512:], le.Uint64(img[512:])&m.feat.XCR0)
		clear(img[520:576])
	}
	return true
}

// ---- frames ------------------------------------------------------------------------

// AllocFrames implements hal.Machine.
func (m *Machine) AllocFrames(order uint, flags hal.AllocFlags) (hal.PFN, error) {
	if order > core.MaxOrder {
		return 0, hal.ErrNoMemory
	}
	f := uint64(0)
	if flags&hal.AllocZero != 0 {
		f |= allocZero
	}
	if flags&hal.AllocBelow4G != 0 {
		f |= allocBelow4G
	}
	if flags&hal.AllocReserve != 0 {
		f |= allocReserve
	}
	pfn := baseCall(opAllocFrames, uint64(order), f, 0)
	if pfn == 0 {
		return 0, hal.ErrNoMemory
	}
	if f&allocZero != 0 && order > 0 {
		memzero(phys(pfn<<12), pageSize<<order) // not with interrupts off
	}
	return hal.PFN(pfn), nil
}

// FreeFrames implements hal.Machine.
func (*Machine) FreeFrames(f hal.PFN, order uint) {
	if baseCall(opFreeFrames, uint64(f), uint64(order), 0) == 0 {
		panic("hal: frame freed twice or never allocated")
	}
}

// Frame implements hal.Machine.
func (m *Machine) Frame(f hal.PFN) []byte { return m.FrameRange(f, 1) }

// FrameRange implements hal.Machine.
func (*Machine) FrameRange(f hal.PFN, n int) []byte {
	if uint64(f) >= base.maxPFN || n < 0 || uint64(n) > base.maxPFN-uint64(f) {
		panic("hal: no such frame")
	}
	return unsafe.Slice((*byte)(ptr(phys(uint64(f)<<12))), n<<12)
}

// MemStats implements hal.Machine.
func (*Machine) MemStats() hal.MemStats {
	return hal.MemStats{
		TotalPages:   base.low.Total + base.high.Total,
		FreePages:    atomic.LoadUint64(&base.low.Free) + atomic.LoadUint64(&base.high.Free),
		LowWatermark: lowMark(),
		Reserve:      reservePages(),
		KernelPages:  atomic.LoadUint64(&base.kernPages),
		MaxPFN:       hal.PFN(base.maxPFN),
	}
}

// ---- devices -------------------------------------------------------------------------

// In8 and the rest implement hal.Machine.
func (*Machine) In8(port uint16) uint8       { return in8(port) }
func (*Machine) In16(port uint16) uint16     { return in16(port) }
func (*Machine) In32(port uint16) uint32     { return in32(port) }
func (*Machine) Out8(port uint16, v uint8)   { out8(port, v) }
func (*Machine) Out16(port uint16, v uint16) { out16(port, v) }
func (*Machine) Out32(port uint16, v uint32) { out32(port, v) }

// OutStill implements hal.Stiller.
func (*Machine) OutStill(port uint16, width int, v uint32) {
	baseCall(opStill, uint64(port), stillPort|uint64(width), uint64(v))
}

// WriteStill implements hal.Stiller.
func (*Machine) WriteStill(w hal.MMIO, off, width int, v uint32) {
	baseCall(opStill, w.(*mmio).at(off, width), uint64(width), uint64(v))
}

// MapMMIO implements hal.Machine.
func (*Machine) MapMMIO(pa hal.PhysAddr, length int) (hal.MMIO, error) {
	if length <= 0 || uint64(pa)+uint64(length) > 1<<46 {
		return nil, hal.ErrBadAddress
	}
	va := baseCall(opMapMMIO, uint64(pa), uint64(length), 0)
	if va == 0 {
		return nil, hal.ErrNoMemory
	}
	return &mmio{va: va, n: length}, nil
}

// Phys implements hal.Machine.
func (m *Machine) Phys(pa hal.PhysAddr, length int) ([]byte, error) {
	a, n := uint64(pa), uint64(length)
	if length < 0 || a+n < a {
		return nil, hal.ErrBadAddress
	}
	ok := a+n <= 1<<20
	for i := uint64(0); i < base.nram && !ok; i++ {
		ok = a >= base.ram[i].start && a+n <= base.ram[i].end
	}
	if !ok {
		return nil, hal.ErrBadAddress
	}
	if a+n <= max(base.maxPFN<<12, 1<<20) {
		return m.physBytes(a, n), nil
	}
	va := baseCall(opMapMMIO, a, n, pteA)
	if va == 0 {
		return nil, hal.ErrNoMemory
	}
	return unsafe.Slice((*byte)(ptr(va)), n), nil
}

// Entropy implements hal.Machine.
func (*Machine) Entropy(b []byte) {
	for len(b) > 0 {
		n := min(len(b), 256)
		gosyscall.RawSyscall(318, uintptr(unsafe.Pointer(&b[0])), uintptr(n), 0)
		b = b[n:]
	}
}

// AddEntropy implements hal.Machine.
func (*Machine) AddEntropy(b []byte) {
	var w [8]byte
	for len(b) > 0 {
		clear(w[:])
		n := copy(w[:], b)
		baseCall(opMix, binary.LittleEndian.Uint64(w[:])^rdtsc(), 0, 0)
		b = b[n:]
	}
}

// ConsoleWrite implements hal.Machine. Interrupts are off for 64 bytes at a time.
func (*Machine) ConsoleWrite(b []byte) {
	for len(b) > 0 {
		n := min(len(b), 64)
		gosyscall.RawSyscall(1, 2, uintptr(unsafe.Pointer(&b[0])), uintptr(n))
		b = b[n:]
	}
}

// SetPowerOff implements hal.Machine.
func (m *Machine) SetPowerOff(w hal.PowerWrite) {
	if a, port, ok := m.writeTarget(w); ok {
		d := &base.die
		d.addr, d.port, d.value = a, port, w.Value
		d.width = uint32(w.Width)
	}
}

// SetReset implements hal.Machine.
func (m *Machine) SetReset(w hal.PowerWrite) {
	if a, port, ok := m.writeTarget(w); ok {
		base.die.reset = note{a, uint64(w.Width), uint64(w.Value), uint64(port)}
	}
}

// writeTarget resolves a PowerWrite to something the panic path can do.
func (m *Machine) writeTarget(w hal.PowerWrite) (addr uint64, port uint32, ok bool) {
	if w.Width != 1 && w.Width != 2 && w.Width != 4 {
		return 0, 0, false
	}
	if w.Port {
		return w.Addr & 0xffff, 1, true
	}
	va := baseCall(opMapMMIO, w.Addr, uint64(w.Width), 0)
	return va, 0, va != 0
}

// LastWords prepares what the panic path does before it ends the machine, when no
// Go can run any more: console is printed (at most 256 bytes), then the writes are
// made in order (at most four: bumping the index of a virtqueue that already holds
// "exit 125", and ringing its doorbell). Nothing of it happens at a clean PowerOff.
func (m *Machine) LastWords(console []byte, writes []hal.PowerWrite) {
	d := &base.die
	d.nnotes = 0
	d.nlast = uint64(copy(d.last[:], console))
	n := uint64(0)
	for _, w := range writes {
		if a, port, ok := m.writeTarget(w); ok && n < uint64(len(d.notes)) {
			d.notes[n] = note{a, uint64(w.Width), uint64(w.Value), uint64(port)}
			n++
		}
	}
	d.nnotes = n
}

// PowerOff implements hal.Machine.
func (*Machine) PowerOff() {
	baseCall(opFatal, 0, 0, 0)
	os.Exit(0)
}

// Reboot implements hal.Machine.
func (*Machine) Reboot() {
	baseCall(opReset, 0, 0, 0)
	os.Exit(0)
}
