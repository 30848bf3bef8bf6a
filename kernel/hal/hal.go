// Package hal is the seam between the kernel and the machine it runs on.
//
// Everything above this package is ordinary Go: it executes no privileged
// instruction, dereferences no address of the machine and is unit-tested on the
// host. Three implementations stand below the seam:
//
//   - kernel/metal: ring 0 on a real or virtual PC;
//   - kernel/hosted: an ordinary Linux process, the program runs in a traced stub;
//   - hal/fake: scripted, for unit tests.
//
// The heart of it is Enter. An application thread is a goroutine in a loop:
//
//	for {
//		m.Enter(ctx, as)        // runs the program at ring 3 until it traps
//		switch ctx.Exit.Kind {  // and returns like a function call
//		case hal.ExitSyscall:   ...
//		case hal.ExitException: ...
//		case hal.ExitInterrupt: m.Dispatch()
//		}
//	}
//
// Interrupt handlers in the base only latch a bit. The registered Go functions
// run later, in Dispatch, either from the task loop (the CPU was in ring 3) or
// from the implementation's own dispatcher goroutine (the CPU was idle or in Go
// code). They must not block: they wake the goroutine that does the work.
package hal

import "errors"

// PageSize is the size of a frame and of the smallest mapping, in bytes.
const (
	PageShift = 12
	PageSize  = 1 << PageShift
	PageMask  = PageSize - 1
)

// UserTop is one past the highest address a program can map. The page below
// 0x800000000000 is never mapped: SYSRET to a non-canonical RIP faults at ring 0
// (SDM 2B SYSRET; the same reason as Linux's TASK_SIZE_MAX).
const UserTop UserAddr = 0x7ffffffff000

// UserAddr is an address in the program's half of an address space. The only way
// from a UserAddr to bytes is AddressSpace's copy functions.
type UserAddr uint64

// PhysAddr is a physical address of the machine, as devices see it.
type PhysAddr uint64

// PFN is a page frame number: PhysAddr >> PageShift.
type PFN uint64

// Addr is the physical address of the frame's first byte.
func (p PFN) Addr() PhysAddr { return PhysAddr(p << PageShift) }

// NoDeadline is the deadline that never comes (absolute, nanoseconds).
const NoDeadline int64 = 1<<63 - 1

// Errors that implementations return.
var (
	ErrNoMemory    = errors.New("hal: out of page frames")
	ErrUnsupported = errors.New("hal: the machine lacks this")
	ErrInUse       = errors.New("hal: already in use")
	ErrBadAddress  = errors.New("hal: address outside the program's half")
)

// Prot is what a program may do with a page. Pages are always user pages; write
// without read is read+write, as the hardware has it.
type Prot uint8

// Protection bits; the values are those of PROT_READ, PROT_WRITE and PROT_EXEC.
const (
	ProtRead  Prot = 1
	ProtWrite Prot = 2
	ProtExec  Prot = 4
	ProtNone  Prot = 0
)

// Mapping asks for Pages consecutive frames from Frame at Addr (page aligned).
type Mapping struct {
	Addr  UserAddr
	Frame PFN
	Pages int
	Prot  Prot
}

// PTE is what an address space knows of one present page.
type PTE struct {
	Frame    PFN
	Prot     Prot
	Accessed bool
	Dirty    bool
}

// AddressSpace is a program's half of a page table. It is the one store of which
// frame stands where; kernel/mm owns reference counts and policy.
//
// All methods are safe for concurrent use. A change is visible to every CPU when
// the method returns (TLB shoot-down included).
type AddressSpace interface {
	// Map installs present pages, replacing what was there without a word:
	// the caller has unmapped, or means to change the frame of a page (copy on
	// write). ErrNoMemory if page tables cannot be had; then none, or a prefix,
	// of the batch is installed.
	Map(batch []Mapping) error
	// Protect changes present pages in [addr, addr+length). ProtNone makes
	// them inaccessible while Query and Unmap still know the frame. A CPU may fault
	// once more for want of a permission that was added.
	Protect(addr UserAddr, length uint64, p Prot)
	// Unmap removes present pages in the range and calls f for each, in address
	// order, after the range has been flushed from every TLB. f may be nil.
	Unmap(addr UserAddr, length uint64, f func(addr UserAddr, pte PTE))
	// Query reports the page at addr; ok is false where none is present.
	Query(addr UserAddr) (pte PTE, ok bool)
	// Present says which of up to 64 pages from addr on are present: bit i is page i.
	Present(addr UserAddr, pages int) uint64
	// Fork gives child, a space that nobody else uses yet, the present pages of the
	// range whose frames keep accepts, and takes the permission to write them away in
	// both. keep runs under locks of the spaces and must not use them. ErrNoMemory:
	// what keep accepted is in child but for the last frame. CPUs may go on writing to
	// this space's pages until Settle, which ends one or more Forks.
	Fork(child AddressSpace, addr UserAddr, length uint64, keep func(PFN) bool) error
	Settle()
	// Walk calls f for each present page of the range in address order; with
	// clear it also clears the accessed and dirty bits it reports.
	Walk(addr UserAddr, length uint64, clear bool, f func(addr UserAddr, pte PTE))

	// CopyIn reads program memory, honouring page protection as a ring-3
	// access would. It stops at the first byte that is not readable and returns
	// the bytes done; n < len(dst) means a fault at fault. It never sleeps and
	// never calls back: the caller serves the fault (mm.Space.HandleFault) and
	// goes on from n.
	CopyIn(dst []byte, src UserAddr) (n int, fault UserAddr)
	// CopyOut is CopyIn's other direction.
	CopyOut(dst UserAddr, src []byte) (n int, fault UserAddr)
	// Zero writes n zero bytes.
	Zero(dst UserAddr, n int) (done int, fault UserAddr)
	// Load32 reads an aligned word atomically; ok is false on a fault.
	Load32(addr UserAddr) (v uint32, ok bool)
	// CAS32 compares and swaps an aligned word atomically and returns the
	// value found; the swap was done if prev == old. ok is false on a fault.
	CAS32(addr UserAddr, old, new uint32) (prev uint32, ok bool)
	// Xchg32 exchanges an aligned word atomically.
	Xchg32(addr UserAddr, new uint32) (prev uint32, ok bool)

	// Retire takes the space from every CPU: no program runs in it any more, and Unmap
	// has nothing left to flush. Query, Walk and Unmap may still be called at once, by
	// one who empties it and by those who look for pages of files; f is then called
	// under the space's lock. Destroy comes last.
	Retire()
	// Destroy frees the page tables. The space is retired, and every page must
	// have been unmapped.
	Destroy()
}

// Regs are a program's general registers. The order is that of Linux's
// user_regs_struct up to GSBase.
type Regs struct {
	R15, R14, R13, R12, RBP, RBX, R11, R10, R9, R8 uint64
	RAX, RCX, RDX, RSI, RDI                        uint64
	OrigRAX                                        uint64 // kept by task for system call restart; implementations leave it alone
	RIP, CS, RFLAGS, RSP, SS                       uint64
	FSBase, GSBase                                 uint64
}

// ExitKind says why Enter returned.
type ExitKind uint8

// Exit kinds.
const (
	// ExitSyscall: SYSCALL was executed. RAX is the number; RIP is the next
	// instruction; RCX and R11 hold RIP and RFLAGS as the instruction leaves them.
	ExitSyscall ExitKind = 1 + iota
	// ExitException: an exception (vectors 0-31). RIP is as the SDM says for the
	// vector (the faulting instruction for faults).
	ExitException
	// ExitInterrupt: something of the kernel's wants the CPU (a device, a
	// deadline, hal.Interrupt, pre-emption). The program's state is complete.
	ExitInterrupt
	// ExitRefused: the machine has not run the program and cannot for want of something
	// that it has from its host. Asking again at once is no use.
	ExitRefused
)

// Exit is the reason Enter returned.
type Exit struct {
	Kind   ExitKind
	Vector uint8  // ExitException: the vector, SDM 3A table 6-1
	Error  uint64 // ExitException: error code, 0 where the vector has none
	Addr   uint64 // vector 14: CR2
}

// Exception vectors that code above the seam tells apart (SDM 3A table 6-1).
const (
	VectorDE = 0  // divide error
	VectorDB = 1  // debug
	VectorBP = 3  // breakpoint
	VectorOF = 4  // overflow
	VectorBR = 5  // BOUND range
	VectorUD = 6  // invalid opcode
	VectorNM = 7  // device not available
	VectorSS = 12 // stack fault
	VectorGP = 13 // general protection
	VectorPF = 14 // page fault
	VectorMF = 16 // x87 floating point
	VectorAC = 17 // alignment check
	VectorXM = 19 // SIMD floating point
)

// Page-fault error code bits (SDM 3A 4.7).
const (
	PFPresent = 1 << 0
	PFWrite   = 1 << 1
	PFUser    = 1 << 2
	PFFetch   = 1 << 4
)

// Ctx is the complete user state of one thread. NewCtx makes it: FP must have the
// alignment and size the machine's XSAVE asks for.
type Ctx struct {
	Regs
	// FP is the vector state: a standard-format XSAVE image, or the 512 bytes
	// of FXSAVE where Features.XSAVE is false. It may be read and changed between
	// Machine.SyncFP and the next Enter; a malformed image must be passed through
	// SanitizeFP first. Its capacity is at least 4 bytes more, for the mark behind it
	// in a signal's frame; the bytes 464 to 511 are the owner's to use.
	FP   []byte
	Exit Exit
	// Impl belongs to the implementation.
	Impl any
}

// Features is what the CPU offers to programs.
type Features struct {
	XSAVE                   bool
	XCR0                    uint64 // enabled components
	FPSize                  int    // length of Ctx.FP
	FSGSBASE                bool   // AT_HWCAP2 bit 1
	HWCAP                   uint32 // CPUID.1:EDX, for AT_HWCAP
	SMEP                    bool
	SMAP                    bool
	RDRAND                  bool
	Vendor                  string
	Brand                   string
	Family, Model, Stepping int
	Flags                   []string // /proc/cpuinfo names
	Caches                  []Cache  // nil if the processor does not tell
	TSCHz                   uint64
	CPUSegment              uint16 // selector whose limit is the CPU's number in ring 3 (LSL), 0 if none
}

// TimeParams turn a TSC reading into nanoseconds:
//
//	mono = MonoBase + ((tsc - TSCBase) * Mult >> 32)   (128-bit product)
//	real = mono + RealOffset
//
// The vDSO's data page is filled from them. UsableTSC is false where the TSC
// cannot serve ring 3; then the vDSO falls back to the system call.
type TimeParams struct {
	UsableTSC  bool
	TSCBase    uint64
	MonoBase   int64
	Mult       uint64
	RealOffset int64
}

// AllocFlags modify AllocFrames.
type AllocFlags uint8

// Allocation flags.
const (
	// AllocZero gives zeroed frames.
	AllocZero AllocFlags = 1 << iota
	// AllocBelow4G gives frames that a 32-bit device can reach.
	AllocBelow4G
	// AllocReserve may dip into the reserve that keeps reclaim and exit going.
	AllocReserve
)

// MemStats counts frames.
type MemStats struct {
	TotalPages   uint64 // all that the allocator manages
	FreePages    uint64
	LowWatermark uint64 // below this the OnPressure function is called
	Reserve      uint64 // AllocFrames without AllocReserve stops here
	KernelPages  uint64 // frames under the Go runtime's memory and page tables
	MaxPFN       PFN    // one past the highest frame that Frame accepts
}

// MSI is what a device must write to raise a message-signalled interrupt.
type MSI struct {
	Addr uint64
	Data uint32
}

// IRQ is a connected interrupt. A level-triggered source stays masked from the
// moment it is latched until its handler has returned.
type IRQ interface {
	Mask()
	Unmask()
	Disconnect()
}

// Idler is a Machine on which the last thread to block can wait for the next interrupt
// itself, which is quicker than to park its goroutine and have it found again.
type Idler interface {
	// Idle waits, halting the CPU, until something is latched (Dispatch then), WakeIdle is
	// called, or for no reason; one goroutine at a time.
	Idle() IdleResult
	// WakeIdle ends Idle, or makes the next one return at once.
	WakeIdle()
	// Others says, as a hint, that goroutines wait for the processor of the caller.
	Others() bool
}

// Stiller is a Machine that can have all other CPUs stand still during a write that moves
// registers in the machine's address space, as those of PCI's command and base addresses do.
// By the specifications nobody has to: but an emulator that runs CPUs in threads may look up
// where another CPU's access goes before it moves them, and let it go to wherever that is then.
// QEMU 7.2's TCG does, and was seen to crash by it.
type Stiller interface {
	// OutStill is Out16 or Out32, by width in bytes.
	OutStill(port uint16, width int, v uint32)
	// WriteStill is w.Write16 or w.Write32.
	WriteStill(w MMIO, off, width int, v uint32)
}

// IdleResult is what the caller of Idle is to do.
type IdleResult int

const (
	IdleLook IdleResult = iota // see whether there is news
	IdleBusy                   // let other goroutines run, then come back
	IdlePark                   // park the goroutine
)

// Withdrawer is a Machine on which the caller of Enter, about to look at what it was
// interrupted for, can take back the calls of Interrupt until then: its next Enter need
// not return for them.
type Withdrawer interface{ Withdraw(ctx *Ctx) }

// IRQCounter is a Machine that counts interrupts, for those who look at it.
type IRQCounter interface{ IRQCounts() []IRQCount }

// IRQCount is how often a line's handler has run. Kind is what Linux's /proc/interrupts
// calls the controller and trigger, Number the line or, for a message, the vector; Number
// is -1 for a CPU's own, whose Kind is its label there.
type IRQCount struct {
	Number     int
	Kind, Name string
	Count      uint64
}

// GSIFlags describe a wired interrupt (ACPI 5.2.12.5 MPS INTI flags).
type GSIFlags uint8

// Wired interrupt properties.
const (
	GSILevel GSIFlags = 1 << iota
	GSIActiveLow
)

// MMIO is a mapped window of device registers (uncached). Offsets are in bytes;
// accesses are single, in order and of exactly the width named. An offset
// outside the window panics: it is a driver bug, never device input.
type MMIO interface {
	Len() int
	Read8(off int) uint8
	Read16(off int) uint16
	Read32(off int) uint32
	Read64(off int) uint64
	Write8(off int, v uint8)
	Write16(off int, v uint16)
	Write32(off int, v uint32)
	Write64(off int, v uint64)
}

// BootInfo is what the boot path found.
type BootInfo struct {
	Cmdline string
	// RSDP is the ACPI root pointer, 0 if the boot protocol gave none (then the
	// BIOS areas are worth a search).
	RSDP PhysAddr
	// Config is the image's JSON document (kernel/image.Config), nil if none.
	Config []byte
	// Root is the root file system that was loaded with the kernel: Size bytes
	// from frame RootFrame; Size 0 if the root is elsewhere. Its frames are never
	// freed and never written.
	RootFrame PFN
	RootSize  int64
	// Protocol names the way in: "pvh", "hosted".
	Protocol string
}

// PowerWrite is a write that ends the machine (ACPI S5, or a sleep control register)
// or resets it. The base keeps it for the panic path, where no Go runs.
type PowerWrite struct {
	Port  bool // I/O port, else MMIO
	Addr  uint64
	Width int // 1, 2 or 4 bytes
	Value uint32
}

// Machine is the seam. All methods may be called from any goroutine unless they
// say otherwise.
type Machine interface {
	Boot() *BootInfo
	Features() *Features
	CPUs() int

	// Time. Nanotime is CLOCK_MONOTONIC: nanoseconds since boot, never back.
	Nanotime() int64
	// Walltime is CLOCK_REALTIME in nanoseconds since the epoch.
	Walltime() int64
	SetWalltime(ns int64)
	TimeParams() TimeParams
	// SetDeadline arms the one machine-wide deadline (absolute Nanotime);
	// NoDeadline disarms. When it has passed, the OnDeadline function runs in
	// dispatch context, at once if it has passed already.
	SetDeadline(ns int64)
	OnDeadline(f func())

	// Running programs.
	NewAddressSpace() (AddressSpace, error)
	NewCtx() *Ctx
	FreeCtx(ctx *Ctx)
	// SyncFP brings ctx.FP up to date: Enter leaves part of a program's vector
	// state in the processor. The caller runs ctx, or knows that nobody does.
	SyncFP(ctx *Ctx)
	// Enter runs the program until it traps; the reason is in ctx.Exit. The
	// calling goroutine keeps its P. It returns at once with ExitInterrupt if
	// an interrupt is pending or Interrupt(ctx) was called since the last Enter.
	Enter(ctx *Ctx, as AddressSpace)
	// Interrupt makes the current or next Enter of ctx return soon.
	Interrupt(ctx *Ctx)
	// SetCPU makes every later Enter of ctx run on a CPU, 0 to CPUs()-1, until the next
	// SetCPU of ctx; -1, as a new Ctx has it, for any. It is a store and moves nothing: the
	// goroutine that runs ctx calls it outside Enter, and the next Enter goes to that CPU.
	// Going costs an inter-processor interrupt where the goroutine is on another CPU
	// (CPU tells), nothing where it is on the right one. A number that the machine does
	// not have means any.
	SetCPU(ctx *Ctx, cpu int)
	// CPU is the number of the CPU that the caller runs on: a hint, since a goroutine may
	// be moved at any time. In the program it is fixed by SetCPU alone.
	CPU() int
	// Dispatch runs the functions of latched interrupts. Pending is its cheap
	// test, for the task loop after each system call.
	Dispatch()
	Pending() bool
	// SanitizeFP makes img (FPSize bytes from a program) safe to restore:
	// reserved MXCSR and header bits are cleared. False if it is not an image.
	SanitizeFP(img []byte) bool

	// Frames.
	AllocFrames(order uint, flags AllocFlags) (PFN, error)
	FreeFrames(f PFN, order uint)
	// Frame is the frame's bytes in the kernel's own mapping; FrameRange the
	// bytes of n consecutive frames.
	Frame(f PFN) []byte
	FrameRange(f PFN, n int) []byte
	MemStats() MemStats
	// OnPressure registers the function called (in Go context, not under any
	// lock of the allocator) when free frames fall below the low watermark.
	OnPressure(f func())

	// GrowHeap says that the Go runtime's memory may come to be extra bytes more than
	// the share of RAM that the machine gave it at boot; the reserve follows. Each call
	// replaces the last. It does not block.
	GrowHeap(extra uint64)

	// Devices.
	In8(port uint16) uint8
	In16(port uint16) uint16
	In32(port uint16) uint32
	Out8(port uint16, v uint8)
	Out16(port uint16, v uint16)
	Out32(port uint16, v uint32)
	MapMMIO(pa PhysAddr, length int) (MMIO, error)
	// Phys is a read-only view of physical memory that firmware filled (ACPI
	// tables). It copies nothing; ErrBadAddress where there is no memory.
	Phys(pa PhysAddr, length int) ([]byte, error)
	// ConnectMSI allocates a vector; handler runs in dispatch context.
	ConnectMSI(name string, cpu int, handler func()) (MSI, IRQ, error)
	ConnectGSI(name string, gsi uint32, flags GSIFlags, handler func()) (IRQ, error)

	// Entropy fills b with random bytes (never short); AddEntropy mixes more in.
	Entropy(b []byte)
	AddEntropy(b []byte)

	// ConsoleWrite writes to the early console, synchronously, on the panic path too.
	ConsoleWrite(b []byte)
	// SetPowerOff gives the base the write that ends the machine.
	SetPowerOff(w PowerWrite)
	// PowerOff ends the machine. It does not return.
	PowerOff()
	// SetReset gives the base the write that resets the machine.
	SetReset(w PowerWrite)
	// Reboot resets the machine: by that write, else in a way that every PC has. It
	// does not return.
	Reboot()
}
