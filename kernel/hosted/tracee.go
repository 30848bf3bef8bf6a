package hosted

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

// Requests and register sets that x/sys/unix does not name (linux/ptrace.h, elf.h).
const (
	ptraceSysemu = 31
	ntPRFPReg    = 2
	ntX86XState  = 0x202
)

// userRegs is struct user_regs_struct; hal.Regs has its order.
type userRegs struct {
	hal.Regs
	DS, ES, FS, GS uint64
}

// Selectors of a 64-bit program on Linux.
const (
	userCS = 0x33
	userSS = 0x2b
)

// interruptSignal stops a running tracee. Its default action is to be ignored, so
// one that comes late does nothing; a traced thread reports it all the same.
const interruptSignal = unix.SIGCHLD

// tracee is a thread of the stub, traced by one thread of ours for good.
type tracee struct {
	tid  int
	stub *stub
	// fp is the vector state that the thread holds.
	fp []byte
}

// ctxImpl is what hosted keeps of a hal.Ctx.
type ctxImpl struct {
	mu        sync.Mutex
	interrupt bool
	running   *tracee
	refused   time.Time // since when the host has had no thread for it; its own thread's
}

// NewCtx makes a context with the vector state of a new Linux thread.
func (m *Machine) NewCtx() *hal.Ctx {
	c := &hal.Ctx{FP: make([]byte, m.feat.FPSize, m.feat.FPSize+4), Impl: &ctxImpl{}}
	binary.LittleEndian.PutUint16(c.FP, 0x37f)
	binary.LittleEndian.PutUint32(c.FP[24:], 0x1f80)
	if m.feat.XSAVE {
		binary.LittleEndian.PutUint64(c.FP[512:], 3)
	}
	c.RFLAGS = 0x202
	return c
}

// FreeCtx implements hal.Machine.
func (m *Machine) FreeCtx(*hal.Ctx) {}

// SyncFP implements hal.Machine: Enter leaves FP up to date.
func (m *Machine) SyncFP(*hal.Ctx) {}

// Interrupt implements hal.Machine.
func (m *Machine) Interrupt(ctx *hal.Ctx) {
	c := ctx.Impl.(*ctxImpl)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.interrupt = true
	if t := c.running; t != nil {
		unix.Tgkill(t.stub.pid, t.tid, interruptSignal)
	}
}

// begin notes that ctx runs on t; false if an interrupt came first, which it takes.
func (c *ctxImpl) begin(t *tracee) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.interrupt {
		c.interrupt = false
		return false
	}
	c.running = t
	return true
}

// takeInterrupt tells whether an interrupt is wanted, and forgets it.
func (c *ctxImpl) takeInterrupt() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.interrupt
	c.interrupt = false
	return was
}

func (c *ctxImpl) end() {
	c.mu.Lock()
	c.running = nil
	c.mu.Unlock()
}

// Enter implements hal.Machine. The thread it runs on stays the tracer of the stub
// thread that it uses, and uses it again next time.
func (m *Machine) Enter(ctx *hal.Ctx, space hal.AddressSpace) {
	as := space.(*AddressSpace)
	c := ctx.Impl.(*ctxImpl)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	t, kind := m.traceeSoon(c, as)
	if t != nil && (m.Pending() || !c.begin(t)) {
		t, kind = nil, hal.ExitInterrupt
	}
	if t == nil {
		ctx.Exit = hal.Exit{Kind: kind}
		return
	}
	defer c.end()
	t.load(ctx)
	for {
		as.mu.RLock()
		gen := as.gen
		as.mu.RUnlock()
		sig := t.resume()
		if sig == interruptSignal {
			if !c.takeInterrupt() {
				continue
			}
			t.store(ctx)
			ctx.Exit = hal.Exit{Kind: hal.ExitInterrupt}
			return
		}
		if t.exit(ctx, as, sig, gen) {
			return
		}
	}
}

// refusedFor is how long the host may refuse a thread before that counts.
const refusedFor = 500 * time.Millisecond

// traceeSoon is traceeFor, again and again while the host has no thread for us (its limits,
// pids.max of a container): others may end. Without a thread it says what Enter is to say.
func (m *Machine) traceeSoon(c *ctxImpl, as *AddressSpace) (*tracee, hal.ExitKind) {
	for pause := time.Millisecond; ; pause *= 2 {
		t, err := as.traceeFor(unix.Gettid())
		if err == nil {
			c.refused = time.Time{}
			return t, 0
		}
		if c.refused.IsZero() {
			c.refused = time.Now()
		}
		switch {
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENOMEM):
			panic(err)
		case time.Since(c.refused) > refusedFor:
			c.refused = time.Time{}
			return nil, hal.ExitRefused
		case m.Pending() || c.takeInterrupt():
			return nil, hal.ExitInterrupt
		}
		time.Sleep(min(pause, refusedFor/4))
	}
}

// newThread is replaced by a test.
var newThread = (*stub).clone

// traceeFor finds or makes the stub's thread for a thread of ours.
func (as *AddressSpace) traceeFor(self int) (*tracee, error) {
	as.tmu.Lock()
	t := as.tracees[self]
	as.tmu.Unlock()
	if t != nil {
		return t, nil
	}
	tid, err := newThread(as.stub)
	if err != nil {
		return nil, err
	}
	t = &tracee{tid: tid, stub: as.stub, fp: make([]byte, as.m.feat.FPSize)}
	opts := uintptr(unix.PTRACE_O_EXITKILL | unix.PTRACE_O_TRACESYSGOOD)
	if e := ptrace(unix.PTRACE_SEIZE, tid, 0, opts); e != 0 {
		panic(fmt.Sprintf("hosted: tracing a thread of the stub: %v", e))
	}
	if e := ptrace(unix.PTRACE_INTERRUPT, tid, 0, 0); e != 0 {
		panic(fmt.Sprintf("hosted: stopping a thread of the stub: %v", e))
	}
	t.wait()
	t.readFP(t.fp)
	as.tmu.Lock()
	as.tracees[self] = t
	as.tmu.Unlock()
	return t, nil
}

func ptrace(req, tid int, addr, data uintptr) unix.Errno {
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(req), uintptr(tid), addr, data, 0, 0)
	return e
}

// wait waits for the thread's next stop.
func (t *tracee) wait() unix.WaitStatus {
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(t.tid, &ws, unix.WALL|unix.WNOTHREAD, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || !ws.Stopped() {
			panic(fmt.Sprintf("hosted: thread %d of stub %d died: %v, status %#x", t.tid, t.stub.pid, err, uint32(ws)))
		}
		return ws
	}
}

// resume lets the program run until it makes a system call (0) or gets a signal.
func (t *tracee) resume() unix.Signal {
	for {
		if e := ptrace(ptraceSysemu, t.tid, 0, 0); e != 0 {
			panic(fmt.Sprintf("hosted: resuming thread %d of stub %d: %v", t.tid, t.stub.pid, e))
		}
		ws := t.wait()
		if ws>>16 != 0 {
			continue // a group stop or another ptrace event: nothing of the program's
		}
		if ws.StopSignal() == unix.SIGTRAP|0x80 {
			return 0
		}
		return ws.StopSignal()
	}
}

func (t *tracee) getRegs() (r userRegs) {
	if e := ptrace(unix.PTRACE_GETREGS, t.tid, 0, uintptr(unsafe.Pointer(&r))); e != 0 {
		panic(fmt.Sprintf("hosted: PTRACE_GETREGS: %v", e))
	}
	return r
}

// load puts the state of ctx into the thread.
func (t *tracee) load(ctx *hal.Ctx) {
	if !bytes.Equal(t.fp, ctx.FP) {
		t.writeFP(ctx.FP)
	}
	r := userRegs{Regs: ctx.Regs}
	r.CS, r.SS = userCS, userSS
	r.OrigRAX = ^uint64(0) // the host is not to restart anything
	e := ptrace(unix.PTRACE_SETREGS, t.tid, 0, uintptr(unsafe.Pointer(&r)))
	if e == 0 {
		return
	}
	// Linux refuses bases of the kernel's half. A program sets them with WRGSBASE,
	// and so does the stub's gadget.
	g := userRegs{}
	g.CS, g.SS, g.RFLAGS, g.OrigRAX = userCS, userSS, 0x202, ^uint64(0)
	g.RIP, g.RDI, g.RSI = basesGadget, ctx.FSBase, ctx.GSBase
	if e = ptrace(unix.PTRACE_SETREGS, t.tid, 0, uintptr(unsafe.Pointer(&g))); e == 0 {
		t.runGadget()
		// Refused again at the bases, after all that stands before them is set.
		ptrace(unix.PTRACE_SETREGS, t.tid, 0, uintptr(unsafe.Pointer(&r)))
		if got := t.getRegs(); got.FSBase == ctx.FSBase && got.GSBase == ctx.GSBase && got.RIP == ctx.RIP {
			return
		}
	}
	panic(fmt.Sprintf("hosted: PTRACE_SETREGS: %v; fs %#x gs %#x", e, ctx.FSBase, ctx.GSBase))
}

func (t *tracee) runGadget() {
	for {
		switch sig := t.resume(); sig {
		case 0:
			return
		case interruptSignal:
			// The Interrupt that sent it is still noted; send it again for Enter's loop.
			defer unix.Tgkill(t.stub.pid, t.tid, interruptSignal)
		default:
			panic(fmt.Sprintf("hosted: the stub's gadget got %v", sig))
		}
	}
}

// store takes the thread's state into ctx.
func (t *tracee) store(ctx *hal.Ctx) {
	r := t.getRegs()
	keep := ctx.OrigRAX
	ctx.Regs = r.Regs
	ctx.OrigRAX = keep
	t.readFP(t.fp)
	copy(ctx.FP, t.fp)
}

func (t *tracee) regset() uintptr {
	if len(t.fp) > 512 {
		return ntX86XState
	}
	return ntPRFPReg
}

func (t *tracee) readFP(b []byte) {
	iov := unix.Iovec{Base: &b[0], Len: uint64(len(b))}
	if e := ptrace(unix.PTRACE_GETREGSET, t.tid, t.regset(), uintptr(unsafe.Pointer(&iov))); e != 0 {
		panic(fmt.Sprintf("hosted: PTRACE_GETREGSET: %v", e))
	}
	clear(b[464:512]) // the host's own words there (sw_reserved)
}

func (t *tracee) writeFP(b []byte) {
	iov := unix.Iovec{Base: &b[0], Len: uint64(len(b))}
	if e := ptrace(unix.PTRACE_SETREGSET, t.tid, t.regset(), uintptr(unsafe.Pointer(&iov))); e != 0 {
		panic(fmt.Sprintf("hosted: PTRACE_SETREGSET: %v (was the image passed through SanitizeFP?)", e))
	}
}
