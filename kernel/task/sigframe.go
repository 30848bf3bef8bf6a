package task

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

// AltStack is stack_t.
type AltStack struct {
	SP    uint64
	Flags uint32
	Size  uint64
}

// Alternate stack flags (uapi/linux/signal.h) and its least size.
const (
	SSOnStack    = 1
	SSDisable    = 2
	SSAutoDisarm = 1 << 31
	minSigStack  = 2048
)

// Layout of struct rt_sigframe and what is in it, in bytes (arch/x86/include/asm/sigframe.h,
// uapi/asm/sigcontext.h, uapi/asm/ucontext.h). The frame is pretcode, ucontext, siginfo;
// the vector state lies above it, 64-byte aligned.
const (
	frameUC      = 8
	ucLink       = 8
	ucStack      = 16
	ucMContext   = 40
	ucSigMask    = ucMContext + 256
	ucSize       = ucSigMask + 8
	frameInfo    = frameUC + ucSize
	siginfoSize  = 128
	frameSize    = frameInfo + siginfoSize
	mcErr        = 152
	mcTrapNo     = 160
	mcOldMask    = 168
	mcCR2        = 176
	mcFPState    = 184
	ucFPXState   = 1
	ucSSContext  = 2
	ucStrictSS   = 4
	redZone      = 128
	fpMagic1     = 0x46505853
	fpMagic2     = 0x46505845
	fpMagic2Size = 4
	fpSWReserved = 464 // struct _fpx_sw_bytes
	fxsaveSize   = 512
	mxcsrAt      = 24
	initMXCSR    = 0x1f80
	xstateBV     = 512 // XSTATE_BV, the first word of the XSAVE header (SDM 1 13.4.2)
	xsaveYMM     = 576 // the one extended component at a fixed place (SDM 1 13.5.3)
	xsaveYMMEnd  = xsaveYMM + 256
)

// flagsUser is what rt_sigreturn may change in RFLAGS (FIX_EFLAGS): AC OF DF TF SF ZF AF PF CF RF.
const flagsUser = 1<<18 | 1<<11 | flagDF | flagTF | 1<<7 | 1<<6 | 1<<4 | 1<<2 | 1<<0 | flagRF

// mcRegs is the head of struct sigcontext, the general registers.
type mcRegs [18 * 8]byte

func (m *mcRegs) put(r *hal.Regs) {
	le := binary.LittleEndian
	le.PutUint64(m[0:], r.R8)
	le.PutUint64(m[8:], r.R9)
	le.PutUint64(m[16:], r.R10)
	le.PutUint64(m[24:], r.R11)
	le.PutUint64(m[32:], r.R12)
	le.PutUint64(m[40:], r.R13)
	le.PutUint64(m[48:], r.R14)
	le.PutUint64(m[56:], r.R15)
	le.PutUint64(m[64:], r.RDI)
	le.PutUint64(m[72:], r.RSI)
	le.PutUint64(m[80:], r.RBP)
	le.PutUint64(m[88:], r.RBX)
	le.PutUint64(m[96:], r.RDX)
	le.PutUint64(m[104:], r.RAX)
	le.PutUint64(m[112:], r.RCX)
	le.PutUint64(m[120:], r.RSP)
	le.PutUint64(m[128:], r.RIP)
	le.PutUint64(m[136:], r.RFLAGS)
}

func (m *mcRegs) get(r *hal.Regs) {
	le := binary.LittleEndian
	r.R8 = le.Uint64(m[0:])
	r.R9 = le.Uint64(m[8:])
	r.R10 = le.Uint64(m[16:])
	r.R11 = le.Uint64(m[24:])
	r.R12 = le.Uint64(m[32:])
	r.R13 = le.Uint64(m[40:])
	r.R14 = le.Uint64(m[48:])
	r.R15 = le.Uint64(m[56:])
	r.RDI = le.Uint64(m[64:])
	r.RSI = le.Uint64(m[72:])
	r.RBP = le.Uint64(m[80:])
	r.RBX = le.Uint64(m[88:])
	r.RDX = le.Uint64(m[96:])
	r.RAX = le.Uint64(m[104:])
	r.RCX = le.Uint64(m[112:])
	r.RSP = le.Uint64(m[120:])
	r.RIP = le.Uint64(m[128:])
	r.RFLAGS = le.Uint64(m[136:])
}

// onAltStack says whether sp lies in the alternate stack (and it is one that stays
// armed while in use).
func (t *Thread) onAltStack(sp uint64) bool {
	a := &t.altStack
	return a.Flags&SSAutoDisarm == 0 && sp > a.SP && sp-a.SP <= a.Size
}

// AltStack is sigaltstack's answer for the stack pointer sp.
func (t *Thread) AltStack(sp uint64) AltStack {
	a := t.altStack
	a.Flags &= SSAutoDisarm
	switch {
	case a.Size == 0:
		a.Flags |= SSDisable
	case t.onAltStack(sp):
		a.Flags |= SSOnStack
	}
	return a
}

// SetAltStack is sigaltstack's other half. EPERM: it is in use; EINVAL: flags; ENOMEM:
// too small.
func (t *Thread) SetAltStack(a AltStack) error {
	if t.onAltStack(t.Ctx.RSP) {
		return unix.EPERM
	}
	mode := a.Flags &^ SSAutoDisarm
	if mode != SSDisable && mode != SSOnStack && mode != 0 {
		return unix.EINVAL
	}
	if a == t.altStack {
		return nil // no change asked for: the size is not looked at
	}
	if mode == SSDisable {
		t.altStack = AltStack{Flags: a.Flags}
		return nil
	}
	if a.Size < minSigStack {
		return unix.ENOMEM
	}
	t.altStack = a
	return nil
}

// deliver runs act for info: the handler's frame goes on the stack and the registers
// point to the handler. A frame that cannot be written is SIGSEGV.
func (t *Thread) deliver(info *SignalInfo, act *SigAction) {
	t.interrupted(act)
	stepping := t.clearStep()
	if t.rseq.addr != 0 {
		t.fixRseq() // with the program's RIP, before it becomes the handler's
	}
	old := t.mask
	if t.restore {
		old = t.savedMask
	}
	if !t.pushFrame(info, act, old) {
		t.restore = false
		t.forceSegv(info.Signo)
		return
	}
	t.initFP()
	t.restore = false
	m := t.mask | act.Mask
	if act.Flags&SANoDefer == 0 {
		m |= Set(info.Signo)
	}
	t.SetMask(m)
	if stepping { // the step has led into the handler
		t.ptraceStop(stopArgs{code: uint32(unix.SIGTRAP), why: cldTrapped, info: t.notifyInfo(int32(unix.SIGTRAP), uint32(unix.SIGTRAP))})
	}
}

// fpFrameSize is the bytes of vector state in a frame.
func (t *Thread) fpFrameSize() uint64 {
	n := uint64(len(t.Ctx.FP))
	if t.k.M.Features().XSAVE {
		n += fpMagic2Size
	}
	return n
}

// MinSigStack is AT_MINSIGSTKSZ: the largest frame with its alignment.
func (k *Kernel) MinSigStack() uint64 {
	return (frameSize + uint64(k.M.Features().FPSize) + 4 + redZone + 64 + 15) &^ 15
}

// pushFrame is Linux' x64_setup_rt_frame.
func (t *Thread) pushFrame(info *SignalInfo, act *SigAction, mask SigSet) bool {
	if act.Flags&SARestorer == 0 {
		return false
	}
	r := &t.Ctx.Regs
	sp := r.RSP - redZone
	entering := false
	nested := t.onAltStack(r.RSP)
	if act.Flags&SAOnStack != 0 && !nested && t.altStack.Size != 0 {
		sp = t.altStack.SP + t.altStack.Size
		entering = true
	}
	fpAddr := (sp - t.fpFrameSize()) &^ 63
	at := ((fpAddr - frameSize) &^ 15) - 8
	if (nested || entering) && t.altStack.Size != 0 && t.altStack.Flags&SSAutoDisarm == 0 || entering {
		if at < t.altStack.SP || at > t.altStack.SP+t.altStack.Size {
			return false // overflow of the alternate stack
		}
	}
	if at >= uint64(hal.UserTop) || fpAddr >= uint64(hal.UserTop) {
		return false
	}
	if !t.pushFP(fpAddr) {
		return false
	}
	f := &t.frameBuf
	clear(f[frameUC : frameUC+ucMContext])
	clear(f[frameUC+ucMContext+len(mcRegs{}) : frameUC+ucSigMask])
	clear(f[frameInfo:])
	le := binary.LittleEndian
	le.PutUint64(f[0:], act.Restorer)
	uc := f[frameUC:]
	flags := uint64(ucSSContext | ucStrictSS)
	if t.k.M.Features().XSAVE {
		flags |= ucFPXState
	}
	le.PutUint64(uc, flags)
	a := t.altStack // as it was set, not as sigaltstack would show it
	le.PutUint64(uc[ucStack:], a.SP)
	le.PutUint32(uc[ucStack+8:], a.Flags)
	le.PutUint64(uc[ucStack+16:], a.Size)
	mc := uc[ucMContext:]
	(*mcRegs)(mc).put(r)
	le.PutUint16(mc[144:], userCS)
	le.PutUint16(mc[150:], userSS)
	le.PutUint64(mc[mcErr:], t.trap.err)
	le.PutUint64(mc[mcTrapNo:], t.trap.nr)
	le.PutUint64(mc[mcOldMask:], uint64(mask))
	le.PutUint64(mc[mcCR2:], t.trap.cr2)
	le.PutUint64(mc[mcFPState:], fpAddr)
	le.PutUint64(uc[ucSigMask:], uint64(mask))
	info.put(f[frameInfo:])
	if t.CopyOut(hal.UserAddr(at), f[:]) != nil {
		return false
	}
	if t.altStack.Flags&SSAutoDisarm != 0 {
		t.altStack = AltStack{Flags: SSDisable}
	}
	r.RDI, r.RAX = uint64(info.Signo), 0
	r.RSI, r.RDX = at+frameInfo, at+frameUC
	r.RSP, r.RIP = at, act.Handler
	r.RFLAGS &^= flagDF | flagRF | flagTF
	t.checkRIP()
	return true
}

// checkRIP keeps the base from returning to an address that cannot be ring 3's: the
// program gets what the jump would have given it.
func (t *Thread) checkRIP() {
	if t.Ctx.RIP >= uint64(hal.UserTop) {
		t.trap = trapInfo{nr: hal.VectorGP}
		addr := t.Ctx.RIP
		t.Ctx.RIP = 0
		t.force(SignalInfo{Signo: int32(unix.SIGSEGV), Code: SIKernel, Addr: addr})
	}
}

// framedFP is the vector state as a program may see it: Ctx.FP, or a copy in fpBuf. Bytes of
// a component whose XSTATE_BV bit is clear are what happened to lie there (XSAVE and
// XSAVEOPT do not write them, SDM 1 13.7 and 13.9): the program gets the initial state.
// MXCSR is always saved. x87 and SSE are marked as in use, as Linux marks them for handlers
// that change them in the frame. Behind it is room for the mark.
func (t *Thread) framedFP() []byte {
	le := binary.LittleEndian
	bv := le.Uint64(t.Ctx.FP[xstateBV:])
	if t.k.M.Features().XCR0&^bv == 0 {
		return t.Ctx.FP
	}
	b := t.fpRoom()
	copy(b, t.Ctx.FP)
	if bv&1 == 0 {
		clear(b[:24])
		clear(b[32:160])
		le.PutUint16(b, 0x37f)
	}
	if bv&2 == 0 {
		clear(b[160:416])
	}
	if bv&4 == 0 && len(b) >= xsaveYMMEnd {
		clear(b[xsaveYMM:xsaveYMMEnd])
	}
	le.PutUint64(b[xstateBV:], bv|3)
	return b
}

// fpRoom is fpBuf without the mark behind it.
func (t *Thread) fpRoom() []byte {
	n := len(t.Ctx.FP)
	if t.fpBuf == nil {
		t.fpBuf = make([]byte, n+fpMagic2Size)
	}
	return t.fpBuf[:n]
}

// pushFP writes the vector state with the marks by which user code finds its size
// (struct _fpx_sw_bytes).
func (t *Thread) pushFP(at uint64) bool {
	t.k.M.SyncFP(t.Ctx)
	f := t.k.M.Features()
	if !f.XSAVE {
		return t.CopyOut(hal.UserAddr(at), t.Ctx.FP) == nil
	}
	b := t.framedFP()
	n := len(b)
	b = b[:n+fpMagic2Size]
	le := binary.LittleEndian
	sw := b[fpSWReserved:fxsaveSize]
	clear(sw[24:])
	le.PutUint32(sw[0:], fpMagic1)
	le.PutUint32(sw[4:], uint32(n+fpMagic2Size))
	le.PutUint64(sw[8:], f.XCR0)
	le.PutUint64(sw[16:], uint64(n))
	le.PutUint32(b[n:], fpMagic2)
	return t.CopyOut(hal.UserAddr(at), b) == nil
}

// initFP gives the program the initial vector state, as every program begins with; SyncFP
// has brought Ctx.FP up to date. What XSTATE_BV does not name is initial without a look at
// the image (SDM 1 13.8.1), but for MXCSR.
func (t *Thread) initFP() {
	fp := t.Ctx.FP
	if !t.k.M.Features().XSAVE {
		copy(fp, t.k.initFP)
		return
	}
	le := binary.LittleEndian
	le.PutUint32(fp[mxcsrAt:], initMXCSR)
	le.PutUint64(fp[xstateBV:], 0)
}

// put writes siginfo_t as Linux lays it out (siginfo_layout).
func (i *SignalInfo) put(b []byte) {
	_ = b[47]
	le := binary.LittleEndian
	le.PutUint32(b[0:], uint32(i.Signo))
	le.PutUint32(b[4:], uint32(i.Errno))
	le.PutUint32(b[8:], uint32(i.Code))
	layout := LayoutSender // of what most are
	if i.Code != SIUser && i.Code != SITkill {
		layout = i.Layout()
	}
	switch layout {
	case LayoutSender:
		le.PutUint32(b[16:], uint32(i.PID))
		le.PutUint32(b[20:], i.UID)
		i.putRest(b)
	case LayoutFault:
		le.PutUint64(b[16:], i.Addr)
		i.putRest(b)
	case LayoutChild:
		le.PutUint32(b[16:], uint32(i.PID))
		le.PutUint32(b[20:], i.UID)
		le.PutUint32(b[24:], uint32(i.Status))
		le.PutUint64(b[32:], uint64(i.UTime))
		le.PutUint64(b[40:], uint64(i.STime))
	case LayoutPoll:
		le.PutUint64(b[16:], uint64(i.Band))
		le.PutUint32(b[24:], uint32(i.FD))
	case LayoutSys:
		le.PutUint64(b[16:], i.Addr)
		le.PutUint32(b[24:], uint32(i.Syscall))
		le.PutUint32(b[28:], AuditArch)
	case LayoutTimer:
		le.PutUint32(b[16:], uint32(i.TimerID))
		le.PutUint32(b[20:], uint32(i.Overrun))
		le.PutUint64(b[24:], i.Value)
	}
}

// putRest is what lies behind a sender's ids and behind a fault's address.
func (i *SignalInfo) putRest(b []byte) {
	le := binary.LittleEndian
	le.PutUint64(b[24:], i.Value)
	le.PutUint64(b[32:], uint64(i.UTime))
	le.PutUint64(b[40:], uint64(i.STime))
}

// AuditArch is AUDIT_ARCH_X86_64.
const AuditArch = 0xc000003e

// What a siginfo_t holds behind its code.
const (
	LayoutSender = iota // PID, UID, Value
	LayoutFault         // Addr; what may lie behind it is in Value, UTime and STime
	LayoutChild         // PID, UID, Status, UTime, STime
	LayoutPoll          // Band, FD
	LayoutSys           // Addr, Syscall
	LayoutTimer         // TimerID, Overrun, Value
)

// Layout is siginfo_layout: one of these.
func (i *SignalInfo) Layout() int {
	switch {
	case i.Code == SISigIO:
		return LayoutPoll
	case i.Code == SITimer:
		return LayoutTimer
	case i.Code <= 0 || i.Code >= SIKernel:
		return LayoutSender
	}
	switch unix.Signal(i.Signo) {
	case unix.SIGSEGV, unix.SIGBUS, unix.SIGILL, unix.SIGFPE, unix.SIGTRAP:
		return LayoutFault
	case unix.SIGCHLD:
		return LayoutChild
	case unix.SIGIO:
		return LayoutPoll
	}
	switch {
	case i.Band != 0:
		return LayoutPoll // F_SETSIG
	case i.Signo == int32(unix.SIGSYS):
		return LayoutSys
	}
	return LayoutSender
}

// Bytes is the 128 bytes of siginfo_t, for rt_sigtimedwait and waitid.
func (i *SignalInfo) Bytes() (b [siginfoSize]byte) {
	i.put(b[:])
	return b
}

// ParseSignalInfo reads a siginfo_t that a program sends (rt_sigqueueinfo). put writes it
// as it was.
func ParseSignalInfo(b []byte) (i SignalInfo) {
	le := binary.LittleEndian
	i.Signo = int32(le.Uint32(b[0:]))
	i.Errno = int32(le.Uint32(b[4:]))
	i.Code = int32(le.Uint32(b[8:]))
	rest := func() {
		i.Value, i.UTime, i.STime = le.Uint64(b[24:]), int64(le.Uint64(b[32:])), int64(le.Uint64(b[40:]))
	}
	switch i.Layout() {
	case LayoutSender:
		i.PID, i.UID = int32(le.Uint32(b[16:])), le.Uint32(b[20:])
		rest()
	case LayoutFault:
		i.Addr = le.Uint64(b[16:])
		rest()
	case LayoutChild:
		i.PID, i.UID, i.Status = int32(le.Uint32(b[16:])), le.Uint32(b[20:]), int32(le.Uint32(b[24:]))
		i.UTime, i.STime = int64(le.Uint64(b[32:])), int64(le.Uint64(b[40:]))
	case LayoutPoll:
		i.Band, i.FD = int64(le.Uint64(b[16:])), int32(le.Uint32(b[24:]))
	case LayoutSys:
		i.Addr, i.Syscall = le.Uint64(b[16:]), int32(le.Uint32(b[24:]))
	case LayoutTimer:
		i.TimerID, i.Overrun = int32(le.Uint32(b[16:])), int32(le.Uint32(b[20:]))
		i.Value = le.Uint64(b[24:])
	}
	return i
}

// SigReturn is rt_sigreturn: the frame under the stack pointer becomes the state. A
// frame that is not one is SIGSEGV.
func (t *Thread) SigReturn() {
	r := &t.Ctx.Regs
	at := r.RSP - 8
	f := &t.frameBuf
	if at >= uint64(hal.UserTop) || t.CopyIn(f[:frameInfo], hal.UserAddr(at)) != nil {
		t.forceSegv(0)
		return
	}
	le := binary.LittleEndian
	uc := f[frameUC:]
	mc := uc[ucMContext:]
	t.SetMask(SigSet(le.Uint64(uc[ucSigMask:])))
	oldFlags := r.RFLAGS
	(*mcRegs)(mc).get(r)
	r.RFLAGS = r.RFLAGS&flagsUser | oldFlags&^flagsUser
	r.OrigRAX = ^uint64(0)
	t.restart, t.restartFn = 0, nil
	bad := le.Uint16(mc[144:])|3 != userCS
	if uint64(len(t.Ctx.FP)) > 0 {
		bad = !t.popFP(le.Uint64(mc[mcFPState:])) || bad
	}
	if bad {
		t.forceSegv(0)
		return
	}
	a := AltStack{SP: le.Uint64(uc[ucStack:]), Flags: le.Uint32(uc[ucStack+8:]), Size: le.Uint64(uc[ucStack+16:])}
	_ = t.SetAltStack(a) // Linux ignores its error too
	t.checkRIP()
}

// popFP takes over the vector state at addr; 0 is the initial state, and so is one that
// cannot be read (fpu__restore_sig).
func (t *Thread) popFP(addr uint64) bool {
	t.k.M.SyncFP(t.Ctx)
	if addr == 0 || !t.readFP(addr) {
		t.initFP()
		return addr == 0
	}
	return true
}

// readFP reads the vector state at addr to Ctx.FP, which is not to be used if it fails.
func (t *Thread) readFP(addr uint64) bool {
	if addr >= uint64(hal.UserTop) {
		return false
	}
	fp := t.Ctx.FP
	n := len(fp)
	whole := fp[:n+fpMagic2Size]
	xsave := t.k.M.Features().XSAVE
	// Mostly all of it is there, and it is ours.
	if !xsave || t.CopyIn(whole, hal.UserAddr(addr)) != nil || !t.xstateMarked(whole) {
		if xsave && !t.xstateInFrame(addr) {
			n = fxsaveSize // the legacy area alone; the rest is initial
			t.initFP()
		}
		if t.CopyIn(fp[:n], hal.UserAddr(addr)) != nil {
			return false
		}
		if xsave && n == fxsaveSize && len(fp) > fxsaveSize+8 {
			binary.LittleEndian.PutUint64(fp[fxsaveSize:], 3) // x87 and SSE are in use
		}
	}
	return t.k.M.SanitizeFP(fp)
}

// xstateInFrame is Linux' check_xstate_in_sigframe.
func (t *Thread) xstateInFrame(addr uint64) bool {
	b := make([]byte, len(t.Ctx.FP)+fpMagic2Size)
	if t.CopyIn(b[fpSWReserved:fxsaveSize], hal.UserAddr(addr+fpSWReserved)) != nil {
		return false
	}
	magic := b[len(b)-fpMagic2Size:]
	return t.CopyIn(magic, hal.UserAddr(addr+uint64(len(b)-fpMagic2Size))) == nil && t.xstateMarked(b)
}

// xstateMarked says whether b, as long as Ctx.FP and the mark, has the marks of a whole state.
func (t *Thread) xstateMarked(b []byte) bool {
	le := binary.LittleEndian
	sw, n := b[fpSWReserved:fxsaveSize], len(b)-fpMagic2Size
	size := le.Uint32(sw[16:])
	return le.Uint32(sw) == fpMagic1 && size >= fxsaveSize+64 && int(size) == n &&
		size <= le.Uint32(sw[4:]) && le.Uint32(b[n:]) == fpMagic2
}
