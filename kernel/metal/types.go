package metal

import "unsafe"

// Variables of the base that are written before or outside Go must not be in
// BSS, which has no memory until it is touched. They start with a non-zero word
// (dataMagic), which makes the linker place them in .data.
const dataMagic = 0x6b696c6e

// frame is what a trap saves, in the order in which it lies in memory. The
// processor pushes SS to RIP (and the error code for some vectors): IST 1 of each
// CPU points to the end of the running M's frame, so nothing is copied.
type frame struct {
	R15, R14, R13, R12, RBP, RBX, R11, R10, R9, R8 uint64
	RAX, RCX, RDX, RSI, RDI                        uint64
	Vector, Error                                  uint64
	RIP, CS, RFLAGS, RSP, SS                       uint64
}

// frameEnd is IST 1 relative to an M; a multiple of 16 as the processor wants.
const frameEnd = unsafe.Sizeof(frame{})

// States of an M.
const (
	mFree = iota
	mRunning
	mRunnable
	mFutex
	mSleep
	mEpoll
	mIdle
)

// M is a thread of the Go runtime as the base sees it. Ms live in pages of the
// base, 16-byte aligned, and are referred to by number; no pointer to one is ever
// stored where the garbage collector could see the store.
type M struct {
	frame
	xmm    [32]uint64
	mxcsr  uint32
	id     uint32
	fs     uint64 // FS base: the runtime's TLS
	root   uint64 // CR3 while it runs
	cr2    uint64
	state  uint32
	user   uint32 // the trap came from ring 3, Enter is about to return
	tid    uint64
	cpu    uint32 // where it runs, or ran last
	idle   uint32
	mask   uint64 // blocked signals
	pend   uint64 // pending signals
	pcode  uint64 // si_code of the last asynchronous signal
	altSP  uint64
	altLen uint64
	// What it waits for.
	waitAddr uint64 // futex word, or epoll_wait's event buffer
	waitMax  uint64
	waitEP   uint64 // the epoll descriptor
	remain   uint64 // nanosleep: struct timespec to fill, unused
	nextHere uint32 // 1 + the M behind it in CPU.here
}

// CPU is the state of one processor; GS points to it while the kernel runs.
type CPU struct {
	self     uint64
	scratch  uint64
	cur      uint64 // *M
	ctx      uint64 // *hal.Ctx in ring 3, or 0
	impl     uint64 // its *ctxImpl
	enterSP  uint64 // goroutine's SP in Enter
	baseSP   uint64
	baseTLS  uint64 // FS base while the base runs: the word below holds fakeG
	fakeG    uint64
	savedSP  uint64
	savedBP  uint64
	root     uint64 // CR3 now; 0 while it changes
	inBase   uint32
	slice    uint32 // a time slice is armed
	id       uint32
	apicID   uint32
	resched  uint32
	online   uint32
	idleM    uint64
	sliceAt  int64
	armedAt  int64
	tss      uint64
	gdt      uint64
	sysCount uint64
	owner    uint64 // *ctxImpl whose vector state the registers hold, or 0
	// here and hereEnd are 1 + the first and last M that asked to run on this CPU.
	here, hereEnd uint32
	// Devices are slow: what is to be told to local APICs is noted under the base's lock
	// and done behind it (settle). kicks are CPUs to wake, arm is when the timer is to fire.
	kicks uint64
	arm   int64
	// lazy says that it idles: requests to flush are kept in stale (shoot.go).
	lazy, stale uint32
	tscOff      int64 // to be added to its TSC for CPU 0's
	ndropped    uint64
	contended   uint64
	spins       uint64
	noiseAt     int64 // when its timer fires without need next (noise.go)
	noiseState  uint64
}

// cpuFeat is what the assembly must know of the processor.
type cpuFeat struct {
	magic    uint32
	fsgsbase uint8
	smap     uint8
	xsave    uint8 // xsaveNone to xsaveOpt
}

// How vector state is saved (SDM 1 13.7, 13.9).
const (
	xsaveNone = iota // FXSAVE
	xsaveSSE         // XSAVE, no AVX
	xsaveAVX
	xsaveOpt // XSAVEOPT, with AVX
)

var feat = cpuFeat{magic: dataMagic}

// irqWords is the interrupt latch.
type irqWords struct {
	magic uint32
	any   uint32
	word  [4]uint64
	// count is statistics by vector.
	count [256]uint32
}

var irqs = irqWords{magic: dataMagic}

// ctxImpl is the metal part of a hal.Ctx.
type ctxImpl struct {
	fp   uint64 // 64-byte aligned address of Ctx.FP
	bp   uint64
	live uint64 // *CPU that has the vector state, 0 if fp has all of it (user_amd64.s)
	intr uint32 // Interrupt was called; one word with want for enter's test
	want uint32 // 1 + the CPU it is to run on, 0 for any
	cpu  uint32 // 1 + CPU while in ring 3

	// What fp points into, and the place among all contexts: until FreeCtx the base
	// has addresses that the garbage collector does not see.
	mem        []byte
	prev, next *ctxImpl
}

// ptr makes a pointer of an address. All memory that the base reaches this way is
// outside the Go heap or pinned for the call.
//
//go:nosplit
func ptr(a uint64) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&a)) }

//go:nosplit
func addrOf(p unsafe.Pointer) uint64 { return uint64(uintptr(p)) }

func load64(a uint64) uint64     { return *(*uint64)(ptr(a)) }
func store64(a uint64, v uint64) { *(*uint64)(ptr(a)) = v }
func load32(a uint64) uint32     { return *(*uint32)(ptr(a)) }
func store32(a uint64, v uint32) { *(*uint32)(ptr(a)) = v }
func load8(a uint64) uint8       { return *(*uint8)(ptr(a)) }
func store8(a uint64, v uint8)   { *(*uint8)(ptr(a)) = v }
func store16(a uint64, v uint16) { *(*uint16)(ptr(a)) = v }

func addrOf2(m *M) uint64 { return addrOf(unsafe.Pointer(m)) }

const mXMMOff = uint64(unsafe.Offsetof(M{}.xmm))
