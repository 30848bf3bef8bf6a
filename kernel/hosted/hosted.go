// Package hosted is a hal.Machine that is an ordinary Linux process, so that the
// whole kernel above hal runs real programs under `go test -race`, coverage and a
// debugger.
//
//	m, err := hosted.New(hosted.Config{Memory: 64 << 20, Console: &out})
//	defer m.Close()
//
// The idea: the machine's memory is one memfd. The kernel maps it whole (Frame).
// Each address space is a stub process that maps frames of the memfd at the
// program's addresses and nothing else but two pages of its own: the host's vDSO and
// stack are gone. The stub's first thread executes the mmap and munmap calls that
// the kernel writes into a shared page; it is not traced. The program runs on
// further threads of the stub, each traced by one thread of the kernel: Enter sets
// its registers, resumes it with PTRACE_SYSEMU and turns its stops into exits.
//
// The page table proper is in software (AddressSpace); what the stub maps is a TLB
// of it, filled by Map or by Enter at a fault, and flushed when the host's limit of
// mappings is reached.
//
// What differs from a machine: the stub's few pages at stubBase cannot be mapped by
// a program and can be seen by one; page-fault error codes are derived (see
// pageFault); CPUID tells of the host's CPU; there
// are no devices, ports, or firmware; timers are as late as the host's.
//
// What a stub can do to the host: a filter (seccomp.go) leaves its control thread the few
// calls that it is made for, from its own code alone, and kills it for any other. The
// program's threads can make none: PTRACE_SYSEMU runs none for them, and they cannot write
// to anything that the control thread or the kernel reads.
//
// Lock order: AddressSpace.mu < stub.mu; AddressSpace.mu < AddressSpace.tmu <
// Machine.mu; frames.mu and ctxImpl.mu are leaves.
package hosted

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

// Config describes a machine. The zero value is a small one without a root.
type Config struct {
	// Memory in bytes, rounded down to 4 MiB; 0 means 128 MiB.
	Memory int64
	// CPUs is what CPUs tells; 0 means 1. The host schedules the threads.
	CPUs int
	// Cmdline, Config and Root become BootInfo; Root is copied into frames.
	Cmdline string
	Config  []byte
	Root    []byte
	// Console gets ConsoleWrite's bytes; nil means standard error.
	Console io.Writer
	// KeepFreed leaves what is in frames that are freed or were not asked to be zero,
	// which tests overwrite.
	KeepFreed bool
	// PowerOff is called once by Machine.PowerOff; may be nil.
	PowerOff func()
}

// Machine implements hal.Machine.
type Machine struct {
	cfg    Config
	boot   hal.BootInfo
	feat   hal.Features
	mxMask uint32
	frames frames
	clock  clock

	console sync.Mutex
	off     sync.Once
	done    chan struct{}

	mu     sync.Mutex
	spaces map[*AddressSpace]bool
	closed atomic.Bool
}

var _ hal.Machine = (*Machine)(nil)

// New makes a machine. It fails where the host lets no process be traced or no
// memfd be made or executed.
func New(cfg Config) (*Machine, error) {
	if cfg.Memory == 0 {
		cfg.Memory = 128 << 20
	}
	if cfg.CPUs == 0 {
		cfg.CPUs = 1
	}
	if cfg.Console == nil {
		cfg.Console = os.Stderr
	}
	m := &Machine{cfg: cfg, spaces: map[*AddressSpace]bool{}, done: make(chan struct{})}
	if err := m.frames.init(int(cfg.Memory >> hal.PageShift)); err != nil {
		return nil, err
	}
	m.clock.init(m)
	m.boot = hal.BootInfo{Cmdline: cfg.Cmdline, Config: cfg.Config, Protocol: "hosted"}
	if err := m.placeRoot(cfg.Root); err != nil {
		m.Close()
		return nil, err
	}
	if err := m.probe(); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// placeRoot copies a root image into consecutive frames, which are never freed.
func (m *Machine) placeRoot(root []byte) error {
	if len(root) == 0 {
		return nil
	}
	first, ok := m.frames.takeRun((len(root) + hal.PageMask) >> hal.PageShift)
	if !ok {
		return fmt.Errorf("hosted: a root of %d MB does not fit into %d MB of memory", len(root)>>20, m.cfg.Memory>>20)
	}
	copy(m.FrameRange(first, (len(root)+hal.PageMask)>>hal.PageShift), root)
	m.boot.RootFrame, m.boot.RootSize = first, int64(len(root))
	return nil
}

// probe learns the CPU's features and the size of the vector state from a first
// traced thread, which also shows that tracing works.
func (m *Machine) probe() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	m.hostFeatures()
	m.feat.FPSize = 512
	space, err := m.NewAddressSpace()
	if err != nil {
		return err
	}
	defer space.Destroy()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	t, err := space.(*AddressSpace).traceeFor(unix.Gettid())
	if err != nil {
		return err
	}
	return m.probeFP(t)
}

// Close kills the stubs and gives the memory back. Nothing may use m any more.
func (m *Machine) Close() {
	if m.closed.Swap(true) {
		return
	}
	m.clock.stop()
	m.mu.Lock()
	var all []*AddressSpace
	for as := range m.spaces {
		all = append(all, as)
	}
	m.mu.Unlock()
	for _, as := range all {
		as.mu.Lock()
		if !as.destroyed {
			as.end()
		}
		as.mu.Unlock()
	}
	unix.Munmap(m.frames.mem)
	m.frames.file.Close()
}

func (m *Machine) track(as *AddressSpace, on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if on {
		m.spaces[as] = true
	} else {
		delete(m.spaces, as)
	}
}

// Boot, Features and CPUs implement hal.Machine.
func (m *Machine) Boot() *hal.BootInfo     { return &m.boot }
func (m *Machine) Features() *hal.Features { return &m.feat }
func (m *Machine) CPUs() int               { return m.cfg.CPUs }

// SetCPU implements hal.Machine: the host decides.
func (m *Machine) SetCPU(*hal.Ctx, int) {}

// CPU implements hal.Machine.
func (m *Machine) CPU() int { return 0 }

// Entropy implements hal.Machine.
func (m *Machine) Entropy(b []byte) { rand.Read(b) }

// AddEntropy implements hal.Machine; the host has enough.
func (m *Machine) AddEntropy([]byte) {}

// ConsoleWrite implements hal.Machine.
func (m *Machine) ConsoleWrite(b []byte) {
	m.console.Lock()
	m.cfg.Console.Write(b)
	m.console.Unlock()
}

// SetPowerOff implements hal.Machine.
func (m *Machine) SetPowerOff(hal.PowerWrite) {}

// PowerOff implements hal.Machine: the hook runs, Off is closed, and the calling
// goroutine ends. The machine is there until Close.
func (m *Machine) PowerOff() {
	m.off.Do(func() {
		if m.cfg.PowerOff != nil {
			m.cfg.PowerOff()
		}
		close(m.done)
	})
	runtime.Goexit()
}

// SetReset implements hal.Machine.
func (m *Machine) SetReset(hal.PowerWrite) {}

// Reboot implements hal.Machine. A process does not start itself again: it ends.
func (m *Machine) Reboot() { m.PowerOff() }

// Off is closed by PowerOff.
func (m *Machine) Off() <-chan struct{} { return m.done }

// There are no devices: ports read as an empty bus does, windows and interrupts are
// not to be had.

func (m *Machine) In8(uint16) uint8     { return 0xff }
func (m *Machine) In16(uint16) uint16   { return 0xffff }
func (m *Machine) In32(uint16) uint32   { return 0xffffffff }
func (m *Machine) Out8(uint16, uint8)   {}
func (m *Machine) Out16(uint16, uint16) {}
func (m *Machine) Out32(uint16, uint32) {}

// MapMMIO implements hal.Machine.
func (m *Machine) MapMMIO(hal.PhysAddr, int) (hal.MMIO, error) { return nil, hal.ErrUnsupported }

// ConnectMSI implements hal.Machine.
func (m *Machine) ConnectMSI(string, int, func()) (hal.MSI, hal.IRQ, error) {
	return hal.MSI{}, nil, hal.ErrUnsupported
}

// ConnectGSI implements hal.Machine.
func (m *Machine) ConnectGSI(string, uint32, hal.GSIFlags, func()) (hal.IRQ, error) {
	return nil, hal.ErrUnsupported
}
