package metal

import (
	"sync/atomic"

	"kiln/kernel/image"
	"kiln/kernel/metal/core"
)

// base is everything the base knows, under one spin lock (lock below) that is
// taken on each trap and base call with interrupts off and never held across
// Go code. It is in .data (dataMagic); the tables are frames.
type baseState struct {
	magic uint64
	lock  uint32
	_     uint32

	low, high core.Buddy // frames below and above 4 GiB
	floor     uint64     // frames always kept for the kernel's own needs
	goal      uint64     // frames the kernel may come to use
	goLimit   uint64     // frames the Go runtime may come to use
	heapExtra uint64     // frames that GrowHeap added to both
	kernPages uint64     // frames under the runtime's memory and page tables
	pressed   uint32     // how far memory has fallen since the pressure line was latched

	root   uint64 // kernel page table
	direct uint64 // direct map: virtual = direct + physical
	goLo   uint64 // the runtime's mappings live in [goLo, goHi)
	goHi   uint64
	mmio   uint64 // next free address of the device window
	bssLo  uint64
	bssHi  uint64

	rngn    uint64
	nram    uint64
	ram     [64]ramRange // of any kind
	usable  core.MemMap
	maxPFN  uint64
	ncpu    uint64
	cpus    [maxCPUs]uint64 // *CPU
	ms      [core.MaxSlots]uint64
	nextTID uint64
	msFree  uint64 // list of free M memory, linked through the first word
	mtop    uint32 // above the highest slot of ms that was ever used

	info    uint64 // hvm_start_info
	blk     uint64 // BootBlock
	cmdline uint64
	cmdlen  uint64
	rsdp    uint64
	imgPhys uint64
	imgEnd  uint64

	sigact [65]sigaction
	fds    [maxFD]file
	irqFD  uint64 // the descriptor that interrupts make readable

	tmAt  int64  // the next deadline that a CPU's timer is armed for,
	tmCPU uint64 // and that CPU

	lapic    uint64 // virtual address of the local APIC's page
	power    [2]uint64
	lastStat uint64
	hz       uint64
	die      dieState
}

type ramRange struct{ start, end uint64 }

const maxCPUs = image.MaxCPUs

var (
	base    = baseState{magic: dataMagic}
	runq    = core.Queue{Magic: dataMagic}
	timers  = core.Timers{Magic: dataMagic}
	futexes = core.Waiters{Magic: dataMagic}
	rng     = core.RNG{Magic: dataMagic}
	regions = core.Regions{Lo: dataMagic}
)

// counterWords are statistics written without a lock.
type counterWords struct{ magic, nmi, db, ticks, spurious uint64 }

var counters = counterWords{magic: dataMagic}

// deadline is hal.SetDeadline's. Go writes it without the base's lock.
var deadline = deadlineWord{magic: dataMagic, at: never}

type deadlineWord struct {
	magic uint64
	at    int64
}

func (b *baseState) acquire() {
	if !atomic.CompareAndSwapUint32(&b.lock, 0, 1) {
		spin(&b.lock)
	}
}

// spin takes a lock that another CPU has. The holder may be waiting for us to flush our
// TLB, and interrupts are off: so requests are served here (shoot.go).
func spin(l *uint32) {
	c := curCPU()
	c.contended++
	for {
		for atomic.LoadUint32(l) != 0 {
			serve(c)
			pause()
			c.spins++
		}
		if atomic.CompareAndSwapUint32(l, 0, 1) {
			return
		}
	}
}

func (b *baseState) release() { atomic.StoreUint32(&b.lock, 0) }

func cpuByID(id uint64) *CPU { return (*CPU)(ptr(base.cpus[id%maxCPUs])) }

func mByID(id uint32) *M { return (*M)(ptr(base.ms[id%core.MaxSlots])) }

// phys is the kernel's address of physical memory.
func phys(pa uint64) uint64 { return base.direct + pa }

// The variables through which assembly calls Go (ABIInternal, arguments in
// registers).
var (
	bootFn   = bootMain
	trapFn   = trap
	baseOpFn = baseOp
	fatalFn  = fatalTrap
	nestedFn = nestedSyscall
	apFn     = apMain
)

// bootG and bootTLS serve as g and TLS until the CPU has its own.
var (
	bootG   = [64]uint64{63: dataMagic}
	bootTLS = [4]uint64{0: dataMagic}
)
