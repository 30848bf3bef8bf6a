package task

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// What a tracer reads and changes of a frozen tracee (Thread.Tracee). All of it is for the
// tracer's goroutine while it holds the tracee.

// NumUserRegs is how many words struct user_regs_struct has: those of hal.Regs, then ds,
// es, fs and gs.
const NumUserRegs = 27

const (
	regRAX     = 10
	regOrigRAX = 15
	regCS      = 17
	regRFLAGS  = 18
	regSS      = 20
	regFSBase  = 21
	regGSBase  = 22

	flagNT = 1 << 14
	flagID = 1 << 21
	// dr6Fixed are the bits of debug register 6 that are 1 unless something happened, dr6Step
	// is a single step's (SDM 3B 17.2.3).
	dr6Fixed = 0xffff0ff0
	dr6Step  = 1 << 14
)

func userRegs(r *hal.Regs) [23]*uint64 {
	return [23]*uint64{&r.R15, &r.R14, &r.R13, &r.R12, &r.RBP, &r.RBX, &r.R11, &r.R10, &r.R9, &r.R8, &r.RAX, &r.RCX, &r.RDX,
		&r.RSI, &r.RDI, &r.OrigRAX, &r.RIP, &r.CS, &r.RFLAGS, &r.RSP, &r.SS, &r.FSBase, &r.GSBase}
}

// UserReg is word i of user_regs_struct. The trap flag of a single step is the tracer's, so
// it does not show.
func (o *Thread) UserReg(i int) uint64 {
	switch {
	case i >= regGSBase+1:
		return 0
	case i == regCS:
		return userCS
	case i == regSS:
		return userSS
	}
	v := *userRegs(&o.Ctx.Regs)[i]
	if i == regRFLAGS && o.pt.forcedTF {
		v &^= flagTF
	}
	return v
}

// SetUserReg changes word i. EIO: a selector that a 64-bit program here cannot have, a base
// beyond user space.
func (o *Thread) SetUserReg(i int, v uint64) error {
	switch {
	case i > regGSBase && v != 0, i == regCS && v != userCS, i == regSS && v != userSS,
		(i == regFSBase || i == regGSBase) && v >= uint64(hal.UserTop):
		return unix.EIO
	case i > regGSBase, i == regCS, i == regSS:
		return nil
	case i == regRFLAGS:
		if v&flagTF != 0 {
			o.pt.forcedTF = false // the program's own from now on
		} else if o.pt.forcedTF {
			v |= flagTF
		}
		o.Ctx.RFLAGS = o.Ctx.RFLAGS&^(flagsUser|flagNT) | v&(flagsUser|flagNT)
		return nil
	}
	*userRegs(&o.Ctx.Regs)[i] = v
	if i == regRAX || i == regOrigRAX {
		o.resettle()
	}
	return nil
}

// resettle decides anew, by the registers as Linux does, whether a system call is to run
// again.
func (o *Thread) resettle() {
	o.restart = 0
	switch e := unix.Errno(-o.Ctx.RAX); e {
	case wait.ErrRestart, wait.ErrRestartNoInt, wait.ErrRestartNoHnd, wait.ErrRestartBlock:
		if int32(o.Ctx.OrigRAX) != -1 {
			o.restart = e
			o.flags.Or(fSettle)
		}
	}
}

// FPState is a copy of the vector state, in the XSAVE layout with the enabled components in
// the words that Linux leaves for software; 512 bytes of FXSAVE where that is all.
func (o *Thread) FPState() []byte {
	m := o.k.M
	m.SyncFP(o.Ctx)
	if !m.Features().XSAVE {
		return append([]byte(nil), o.Ctx.FP...)
	}
	fp := append([]byte(nil), o.framedFP()...)
	clear(fp[fpSWReserved:fxsaveSize])
	binary.LittleEndian.PutUint64(fp[fpSWReserved:], m.Features().XCR0)
	return fp
}

// SetFPState replaces the first bytes of the vector state. EINVAL: it is none.
func (o *Thread) SetFPState(b []byte) error {
	m := o.k.M
	img := o.FPState()
	legacy := len(b) <= fxsaveSize
	copy(img, b)
	if m.Features().XSAVE {
		bv := binary.LittleEndian.Uint64(img[xstateBV:])
		if legacy {
			bv |= 3
		}
		if bv&^m.Features().XCR0 != 0 {
			return unix.EINVAL
		}
		for _, c := range img[xstateBV+8 : xstateBV+64] {
			if c != 0 {
				return unix.EINVAL
			}
		}
		binary.LittleEndian.PutUint64(img[xstateBV:], bv)
		clear(img[fpSWReserved:fxsaveSize])
	}
	if !m.SanitizeFP(img) {
		return unix.EINVAL
	}
	copy(o.Ctx.FP, img)
	return nil
}

// DebugReg is debug register i: addresses are kept, a breakpoint
// cannot be enabled (ENOSPC, as when all are in use). EIO: 4 and 5; EINVAL: an address that
// is not the program's.
func (o *Thread) DebugReg(i int) uint64 {
	if i == 6 {
		return o.pt.debug[6] ^ dr6Fixed
	}
	return o.pt.debug[i]
}

// SetDebugReg changes one.

func (o *Thread) SetDebugReg(i int, v uint64) error {
	switch {
	case i == 4 || i == 5:
		return unix.EIO
	case i < 4 && v >= uint64(hal.UserTop):
		return unix.EINVAL
	case i == 7 && v&0xff != 0:
		return unix.ENOSPC
	case i == 6:
		v ^= dr6Fixed
	case i == 7:
		v = 0
	}
	o.pt.debug[i] = v
	return nil
}

// StopInfo is the siginfo of the stop, nil in a group stop; SetStopInfo replaces it
// (EINVAL: there is none).
func (o *Thread) StopInfo() *SignalInfo { return o.pt.info }

func (o *Thread) SetStopInfo(i SignalInfo) error {
	if o.pt.info == nil {
		return unix.EINVAL
	}
	*o.pt.info = i
	return nil
}

// EventMessage is PTRACE_GETEVENTMSG's answer.
func (o *Thread) EventMessage() uint64 { return o.pt.message }

// TraceOptions replaces the options.
func (o *Thread) SetTraceOptions(opts uint32) {
	o.process.mu.Lock()
	o.pt.opts = opts
	o.process.mu.Unlock()
}

// TraceMask is the set of blocked signals, with the one that sigtimedwait and its kin will
// put back; SetTraceMask replaces it.
func (o *Thread) TraceMask() SigSet {
	if o.restore {
		return o.savedMask
	}
	return o.mask
}

// SetTraceMask is PTRACE_SETSIGMASK.
func (o *Thread) SetTraceMask(m SigSet) {
	o.restore = false
	o.SetMask(m)
}

// SignalQueue copies up to n pending signals from the off'th on, of the thread or its
// process (PTRACE_PEEKSIGINFO).
func (o *Thread) SignalQueue(shared bool, off uint64, n int) (out []SignalInfo) {
	p := o.process
	p.mu.Lock()
	defer p.mu.Unlock()
	q := &o.pending
	if shared {
		q = &p.pending
	}
	for e := q.head; e != nil && len(out) < n; e = e.next {
		if off > 0 {
			off--
			continue
		}
		out = append(out, e.info)
	}
	return out
}

// InterruptTrace is PTRACE_INTERRUPT: EIO unless the tracee was seized.
func (o *Thread) InterruptTrace() error {
	p := o.process
	p.mu.Lock()
	defer p.mu.Unlock()
	if !o.pt.seized {
		return unix.EIO
	}
	if p.exitFlag {
		return nil
	}
	o.pt.trapStop = true
	if o.pt.listening {
		o.pt.resume = true
		o.notify(fEvent)
	}
	o.notify(fStop)
	return nil
}

// Listen is PTRACE_LISTEN: a seized tracee's stop goes on without being one. EIO: it was
// not seized, or this is not PTRACE_EVENT_STOP's.
func (o *Thread) Listen() error {
	p, x := o.process, &o.pt
	p.mu.Lock()
	defer p.mu.Unlock()
	if !x.seized || x.info == nil || x.info.Code>>8 != EventStop {
		return unix.EIO
	}
	x.listening = true
	if x.trapNotify {
		x.resume = true
		o.notify(fEvent)
	}
	return nil
}

// RseqArea is PTRACE_GET_RSEQ_CONFIGURATION's answer: address, size and signature of what
// rseq(2) registered.
func (o *Thread) RseqArea() (addr uint64, size, sig uint32) {
	if o.rseq.addr == 0 {
		return 0, 0, 0
	}
	return uint64(o.rseq.addr), RseqSize, o.rseq.sig
}
