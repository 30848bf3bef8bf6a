// Package fake is a hal.Machine for unit tests: real frames in one Go slice, page
// tables in software, a clock that stands still until it is told otherwise, exits
// that a test scripts, and devices that a test models.
//
//	m := fake.New(1024)                    // 4 MiB in frames
//	as, _ := m.NewAddressSpace()           // CopyIn, CAS32, … work on mapped frames
//	m.Advance(time.Second)                 // fires the deadline, runs its function
//	m.PlugMMIO(0xfebf0000, 0x1000, model)  // registers answered by model
//	m.RaiseMSI(msi.Addr, msi.Data)         // what a device does
//
// Handlers and the deadline's function run in Dispatch. A test that wants order
// calls Dispatch or Advance itself; whatever is latched elsewhere is dispatched by
// a goroutine made for it, as the dispatcher of a real machine would.
//
// The fake is stricter than a machine: freeing a free frame, destroying an address
// space with pages in it and register accesses outside a window all panic, and
// frames that were not asked to be zero hold 0xdb.
//
// Lock order: AddressSpace.mu < Machine.mu; irq.dispatching is outside both.
package fake

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"kiln/kernel/hal"
)

// Machine implements hal.Machine. The exported fields may be set before use.
type Machine struct {
	BootInfo hal.BootInfo
	Feat     hal.Features
	NumCPU   int
	// AllocHook and MapHook, if set, may refuse an allocation or a Map.
	AllocHook func(order uint, flags hal.AllocFlags) error
	MapHook   func(batch []hal.Mapping) error
	// OnEnter, if set, runs in place of the queued exits: it is the program. It
	// leaves the reason in ctx.Exit.
	OnEnter func(ctx *hal.Ctx, as hal.AddressSpace)
	// HeapExtra is what GrowHeap was last called with.
	HeapExtra atomic.Uint64

	mu     sync.Mutex
	frames frames
	clock  clock
	irq    irqs
	bus    bus

	ctxs    map[*ctxImpl]bool
	console []byte
	rng     *rand.ChaCha8
	mixed   []byte // AddEntropy, kept for tests
	power   *hal.PowerWrite
	reset   *hal.PowerWrite
	off     chan struct{}
	offOnce sync.Once

	rebooted atomic.Bool
}

var _ hal.Machine = (*Machine)(nil)

// New makes a machine with n frames of memory, from physical address 1 MiB up.
func New(n int) *Machine {
	m := &Machine{
		NumCPU: 1,
		Feat: hal.Features{
			FPSize: 512, HWCAP: 0x178bfbff, Vendor: "KilnFakeCPU!", Brand: "fake",
			Family: 6, TSCHz: 1e9, Flags: []string{"fpu", "sse", "sse2"},
		},
		BootInfo: hal.BootInfo{Protocol: "fake"},
		rng:      rand.NewChaCha8([32]byte{1}),
		ctxs:     map[*ctxImpl]bool{},
		off:      make(chan struct{}),
	}
	m.frames.init(n)
	m.clock.init()
	m.irq.init()
	return m
}

// Boot, Features and CPUs implement hal.Machine.
func (m *Machine) Boot() *hal.BootInfo     { return &m.BootInfo }
func (m *Machine) Features() *hal.Features { return &m.Feat }
func (m *Machine) CPUs() int               { return m.NumCPU }

// ctxImpl is what the fake keeps of a hal.Ctx.
type ctxImpl struct {
	mu        sync.Mutex
	queue     []func(*hal.Ctx, hal.AddressSpace)
	interrupt bool
	wake      chan struct{}
	enters    atomic.Int64
}

// NewCtx makes a context whose MXCSR and FCW are those of a new Linux thread.
func (m *Machine) NewCtx() *hal.Ctx {
	impl := &ctxImpl{wake: make(chan struct{}, 1)}
	m.mu.Lock()
	m.ctxs[impl] = true
	m.mu.Unlock()
	c := &hal.Ctx{FP: make([]byte, m.Feat.FPSize, m.Feat.FPSize+4), Impl: impl}
	binary.LittleEndian.PutUint16(c.FP, 0x37f)
	binary.LittleEndian.PutUint32(c.FP[24:], 0x1f80)
	return c
}

// FreeCtx implements hal.Machine.
func (m *Machine) FreeCtx(ctx *hal.Ctx) {
	m.mu.Lock()
	delete(m.ctxs, ctx.Impl.(*ctxImpl))
	m.mu.Unlock()
}

// SyncFP implements hal.Machine: FP is always up to date.
func (m *Machine) SyncFP(*hal.Ctx) {}

// QueueExit makes a later Enter of ctx return with e; set, if not nil, changes the
// registers as the program would have before it trapped.
func (m *Machine) QueueExit(ctx *hal.Ctx, e hal.Exit, set func(r *hal.Regs)) {
	m.QueueRun(ctx, func(c *hal.Ctx, _ hal.AddressSpace) {
		if set != nil {
			set(&c.Regs)
		}
		c.Exit = e
	})
}

// QueueSyscall queues a system call with its arguments.
func (m *Machine) QueueSyscall(ctx *hal.Ctx, nr uint64, args ...uint64) {
	m.QueueExit(ctx, hal.Exit{Kind: hal.ExitSyscall}, func(r *hal.Regs) {
		r.RAX = nr
		for i, p := range []*uint64{&r.RDI, &r.RSI, &r.RDX, &r.R10, &r.R8, &r.R9} {
			if i < len(args) {
				*p = args[i]
			}
		}
		r.RIP += 2
		r.RCX, r.R11 = r.RIP, r.RFLAGS
	})
}

// QueueRun queues a piece of program: f may use as and leaves ctx.Exit.
func (m *Machine) QueueRun(ctx *hal.Ctx, f func(ctx *hal.Ctx, as hal.AddressSpace)) {
	c := ctx.Impl.(*ctxImpl)
	c.mu.Lock()
	c.queue = append(c.queue, f)
	c.mu.Unlock()
	c.kick()
}

// Enters is the number of times ctx was entered.
func (m *Machine) Enters(ctx *hal.Ctx) int64 { return ctx.Impl.(*ctxImpl).enters.Load() }

func (c *ctxImpl) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Enter returns the next queued exit of ctx. With nothing queued it waits, as a
// program that spins would, for Interrupt, a queued exit or an interrupt.
func (m *Machine) Enter(ctx *hal.Ctx, as hal.AddressSpace) {
	c := ctx.Impl.(*ctxImpl)
	c.enters.Add(1)
	for {
		c.mu.Lock()
		if c.interrupt || m.Pending() {
			c.interrupt = false
			c.mu.Unlock()
			ctx.Exit = hal.Exit{Kind: hal.ExitInterrupt}
			return
		}
		run := m.OnEnter
		if run == nil && len(c.queue) > 0 {
			run = c.queue[0]
			c.queue = c.queue[1:]
		}
		c.mu.Unlock()
		if run != nil {
			run(ctx, as)
			return
		}
		<-c.wake
	}
}

// Interrupt implements hal.Machine.
func (m *Machine) Interrupt(ctx *hal.Ctx) {
	c := ctx.Impl.(*ctxImpl)
	c.mu.Lock()
	c.interrupt = true
	c.mu.Unlock()
	c.kick()
}

// Withdraw implements hal.Withdrawer.
func (m *Machine) Withdraw(ctx *hal.Ctx) {
	c := ctx.Impl.(*ctxImpl)
	c.mu.Lock()
	c.interrupt = false
	c.mu.Unlock()
}

// SetCPU implements hal.Machine; any goroutine may run anywhere here.
func (m *Machine) SetCPU(*hal.Ctx, int) {}

// CPU implements hal.Machine.
func (m *Machine) CPU() int { return 0 }

// mxcsrMask is the default MXCSR_MASK (SDM 1 11.6.6).
const mxcsrMask = 0xffbf

// SanitizeFP implements hal.Machine for FXSAVE images, and for the header of an
// XSAVE image where Feat.XSAVE is set.
func (m *Machine) SanitizeFP(img []byte) bool {
	if len(img) != m.Feat.FPSize || len(img) < 512 {
		return false
	}
	mx := binary.LittleEndian.Uint32(img[24:])
	binary.LittleEndian.PutUint32(img[24:], mx&mxcsrMask)
	if m.Feat.XSAVE && len(img) >= 576 {
		bv := binary.LittleEndian.Uint64(img[512:])
		binary.LittleEndian.PutUint64(img[512:], bv&m.Feat.XCR0)
		clear(img[520:576])
	}
	return true
}

// Entropy is a fixed sequence: tests repeat.
func (m *Machine) Entropy(b []byte) {
	m.mu.Lock()
	m.rng.Read(b)
	m.mu.Unlock()
}

// AddEntropy implements hal.Machine; Mixed returns what it was given.
func (m *Machine) AddEntropy(b []byte) {
	m.mu.Lock()
	m.mixed = append(m.mixed, b...)
	m.mu.Unlock()
}

// Mixed is all that AddEntropy was given.
func (m *Machine) Mixed() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]byte(nil), m.mixed...)
}

// ConsoleWrite implements hal.Machine; Console returns what was written.
func (m *Machine) ConsoleWrite(b []byte) {
	m.mu.Lock()
	m.console = append(m.console, b...)
	m.mu.Unlock()
}

// Console is the text written so far.
func (m *Machine) Console() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return string(m.console)
}

// SetPowerOff implements hal.Machine; PowerRecipe returns it.
func (m *Machine) SetPowerOff(w hal.PowerWrite) {
	m.mu.Lock()
	m.power = &w
	m.mu.Unlock()
}

// PowerRecipe is the write given to SetPowerOff, nil if none.
func (m *Machine) PowerRecipe() *hal.PowerWrite {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.power
}

// PowerOff closes Off and ends the calling goroutine.
func (m *Machine) PowerOff() {
	m.offOnce.Do(func() { close(m.off) })
	runtime.Goexit()
}

// SetReset implements hal.Machine; ResetRecipe returns it.
func (m *Machine) SetReset(w hal.PowerWrite) {
	m.mu.Lock()
	m.reset = &w
	m.mu.Unlock()
}

// ResetRecipe is the write given to SetReset, nil if none.
func (m *Machine) ResetRecipe() *hal.PowerWrite {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reset
}

// Reboot is PowerOff after which Rebooted is true.
func (m *Machine) Reboot() {
	m.rebooted.Store(true)
	m.PowerOff()
}

// Rebooted says whether the machine ended by Reboot.
func (m *Machine) Rebooted() bool { return m.rebooted.Load() }

// Off is closed by PowerOff.
func (m *Machine) Off() <-chan struct{} { return m.off }

// clock is virtual time with one deadline.
type clock struct {
	now      int64
	real     int64 // Walltime - Nanotime
	deadline int64
	f        func()
	host     bool
	start    time.Time
	timer    *time.Timer
}

func (c *clock) init() {
	c.now, c.real, c.deadline = 1e9, 1_700_000_000e9, hal.NoDeadline
}

// UseHostClock lets time run: Nanotime follows the host's clock from here on and
// deadlines fire by themselves.
func (m *Machine) UseHostClock() {
	m.mu.Lock()
	m.clock.host = true
	m.clock.start = time.Now().Add(-time.Duration(m.clock.now))
	m.armLocked()
	m.mu.Unlock()
}

func (m *Machine) nowLocked() int64 {
	if m.clock.host {
		return int64(time.Since(m.clock.start))
	}
	return m.clock.now
}

// Nanotime, Walltime, SetWalltime and TimeParams implement hal.Machine.
func (m *Machine) Nanotime() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nowLocked()
}

func (m *Machine) Walltime() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nowLocked() + m.clock.real
}

func (m *Machine) SetWalltime(ns int64) {
	m.mu.Lock()
	m.clock.real = ns - m.nowLocked()
	m.mu.Unlock()
}

func (m *Machine) TimeParams() hal.TimeParams {
	m.mu.Lock()
	defer m.mu.Unlock()
	return hal.TimeParams{RealOffset: m.clock.real}
}

// Advance moves the clock, deadline by deadline, and runs what comes due before it
// returns.
func (m *Machine) Advance(d time.Duration) {
	m.mu.Lock()
	end := m.clock.now + int64(d)
	for {
		if m.clock.deadline <= end {
			m.clock.now = max(m.clock.now, m.clock.deadline)
		} else {
			m.clock.now = end
		}
		due := m.clock.deadline <= m.clock.now
		m.mu.Unlock()
		m.Dispatch()
		m.mu.Lock()
		if !due {
			break
		}
	}
	m.mu.Unlock()
}

// Deadline is the armed deadline, for tests.
func (m *Machine) Deadline() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.clock.deadline
}

// OnDeadline implements hal.Machine.
func (m *Machine) OnDeadline(f func()) {
	m.mu.Lock()
	m.clock.f = f
	m.mu.Unlock()
}

// SetDeadline implements hal.Machine.
func (m *Machine) SetDeadline(ns int64) {
	m.mu.Lock()
	m.clock.deadline = ns
	m.armLocked()
	m.mu.Unlock()
}

func (m *Machine) armLocked() {
	c := &m.clock
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if c.deadline == hal.NoDeadline {
		return
	}
	if left := c.deadline - m.nowLocked(); left <= 0 {
		go m.Dispatch()
	} else if c.host {
		c.timer = time.AfterFunc(time.Duration(left), m.Dispatch)
	}
}
