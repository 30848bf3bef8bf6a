package task

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
	"kiln/kernel/mm"
	"kiln/kernel/timer"
)

// rig runs programs written in Go on the fake machine: code[rip] is what the program
// does at an address. A system call there is sys(nr, …): the call returns behind the
// two bytes of the instruction, so a restart finds the same code again.
type rig struct {
	t    *testing.T
	m    *fake.Machine
	k    *Kernel
	mem  *mm.Memory
	mu   sync.Mutex
	code map[uint64]func(c *hal.Ctx, as hal.AddressSpace)
	call map[uint64]func(t *Thread) (uintptr, error)
	logs []string
	done chan uint32
}

// halting is the fake machine with hal.Idler: what it dispatches comes from another
// goroutine, so that whoever waits must be woken, and it gives every answer there is.
type halting struct {
	*fake.Machine
	wake  chan struct{}
	calls atomic.Uint32
}

func (h *halting) Idle() hal.IdleResult {
	switch h.calls.Add(1) % 8 {
	case 0:
		return hal.IdleBusy
	case 1:
		return hal.IdlePark
	case 2:
		return hal.IdleLook
	}
	<-h.wake
	return hal.IdleLook
}

func (h *halting) WakeIdle() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *halting) Others() bool { return h.calls.Load()%3 == 0 }

func newRig(t *testing.T) *rig { return newRigOn(t, fake.New(4096)) }

// newRigOn is newRig on a machine that has been set up.
func newRigOn(t *testing.T, m *fake.Machine) *rig {
	r := &rig{t: t, m: m, code: map[uint64]func(*hal.Ctx, hal.AddressSpace){},
		call: map[uint64]func(*Thread) (uintptr, error){}, done: make(chan uint32, 1)}
	r.m.OnEnter = r.enter
	r.mem = mm.NewMemory(r.m)
	r.k = NewKernel(Config{M: &halting{Machine: r.m, wake: make(chan struct{}, 1)}, Mem: r.mem, Timers: timer.NewQueue(r.m), Syscalls: r,
		Log:        func(_, f string, a ...any) { r.mu.Lock(); r.logs = append(r.logs, fmt.Sprintf(f, a...)); r.mu.Unlock() },
		OnInitExit: func(s uint32) { r.done <- s }})
	r.call[unix.SYS_EXIT] = func(t *Thread) (uintptr, error) { t.Exit(uint32(t.Ctx.RDI)); return 0, nil }
	r.call[unix.SYS_EXIT_GROUP] = func(t *Thread) (uintptr, error) {
		t.ExitGroup(uint32(t.Ctx.RDI&0xff) << 8)
		return 0, nil
	}
	r.call[unix.SYS_RT_SIGRETURN] = func(t *Thread) (uintptr, error) { t.SigReturn(); return uintptr(t.Ctx.RAX), nil }
	r.call[unix.SYS_RESTART_SYSCALL] = func(t *Thread) (uintptr, error) { return t.Restart() }
	return r
}

func (r *rig) enter(c *hal.Ctx, as hal.AddressSpace) {
	r.mu.Lock()
	f := r.code[c.RIP]
	r.mu.Unlock()
	if f == nil {
		c.Exit = hal.Exit{Kind: hal.ExitException, Vector: hal.VectorUD}
		return
	}
	f(c, as)
}

// at puts code at an address.
func (r *rig) at(rip uint64, f func(c *hal.Ctx, as hal.AddressSpace)) {
	r.mu.Lock()
	r.code[rip] = f
	r.mu.Unlock()
}

// sysAt puts a system call at an address.
func (r *rig) sysAt(rip, nr uint64, args ...uint64) {
	r.at(rip, func(c *hal.Ctx, _ hal.AddressSpace) {
		for i, p := range []*uint64{&c.RDI, &c.RSI, &c.RDX, &c.R10, &c.R8, &c.R9} {
			if i < len(args) {
				*p = args[i]
			}
		}
		c.RAX, c.RIP = nr, rip+2
		c.Exit = hal.Exit{Kind: hal.ExitSyscall}
	})
}

// jump goes on elsewhere without a trap that matters.
func (r *rig) jump(from, to uint64) {
	r.at(from, func(c *hal.Ctx, _ hal.AddressSpace) { c.RIP = to; c.Exit = hal.Exit{Kind: hal.ExitInterrupt} })
}

// on defines a system call.
func (r *rig) on(nr uint64, f func(t *Thread) (uintptr, error)) { r.call[nr] = f }

func (r *rig) Dispatch(t *Thread) {
	nr := t.Ctx.RAX
	t.Ctx.OrigRAX = nr
	f := r.call[nr]
	if f == nil {
		t.ReturnError(unix.ENOSYS)
		return
	}
	v, err := f(t)
	if err != nil {
		t.ReturnError(err.(unix.Errno))
		return
	}
	t.Return(v)
}

const (
	stackBase = 0x7000_0000
	stackSize = 64 << 10
	dataBase  = 0x6000_0000
)

func (r *rig) space() *mm.Space {
	s, err := mm.NewSpace(r.mem)
	if err != nil {
		r.t.Fatal(err)
	}
	big := ^uint64(0)
	s.SetLimits(mm.Limits{AS: big, Data: big, Stack: big, MemLock: big})
	for _, a := range []hal.UserAddr{stackBase, dataBase} {
		if _, err := s.Mmap(nil, mm.MapArgs{Addr: a, Len: stackSize, Prot: hal.ProtRead | hal.ProtWrite,
			Flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED, Name: "[test]"}); err != nil {
			r.t.Fatal(err)
		}
	}
	return s
}

// start runs a program from entry.
func (r *rig) start(entry hal.UserAddr) *Process {
	p, err := r.k.Start(StartArgs{Image: Image{Space: r.space(), Entry: entry, SP: stackBase + stackSize - 16, Name: "/bin/prog"}})
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// wait gives process 1's status.
func (r *rig) wait() uint32 {
	r.t.Helper()
	select {
	case s := <-r.done:
		return s
	case <-time.After(10 * time.Second):
		r.t.Fatal("the program did not end")
	}
	return 0
}

// eventually polls a condition that another goroutine brings about.
func (r *rig) eventually(what string, f func() bool) {
	r.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if f() {
			return
		}
	}
	r.t.Fatalf("never: %s", what)
}

func (r *rig) log() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.logs...)
}

func mmArgs(n uint64) mm.MapArgs {
	return mm.MapArgs{Len: n, Prot: hal.ProtRead | hal.ProtWrite, Flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE}
}
