package task

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
)

// trapInfo is the last exception, for sigcontext (thread.trap_nr and its kin).
type trapInfo struct{ nr, err, cr2 uint64 }

// si_codes of faults (asm-generic/siginfo.h).
const (
	illIllOpn  = 2
	fpeIntDiv  = 1
	fpeFltDiv  = 3
	fpeFltOvf  = 4
	fpeFltUnd  = 5
	fpeFltRes  = 6
	fpeFltInv  = 7
	segvMapErr = 1
	busAdrAln  = 1
	trapBrkpt  = 1
	trapTrace  = 2
)

// exception serves what the program did: page faults are resolved, the rest becomes
// the signal that Linux sends (arch/x86/kernel/traps.c).
func (t *Thread) exception() {
	start, switches := t.k.M.Nanotime(), t.voluntary.Load()
	t.Ctx.OrigRAX = ^uint64(0)
	e := &t.Ctx.Exit
	if e.Vector == hal.VectorPF {
		t.pageFault(e)
	} else {
		t.trap = trapInfo{nr: uint64(e.Vector), err: e.Error, cr2: t.trap.cr2}
		if info, ok := t.trapSignal(e); ok {
			t.force(info)
		}
	}
	if t.voluntary.Load() != switches {
		t.switched(true) // what it waited for is not its own time
		return
	}
	t.sysTime.Add(t.k.M.Nanotime() - start)
}

func (t *Thread) pageFault(e *hal.Exit) {
	access := hal.ProtRead
	switch {
	case e.Error&hal.PFFetch != 0:
		access = hal.ProtExec
	case e.Error&hal.PFWrite != 0:
		access = hal.ProtWrite
	}
	t.minFlt.Add(1)
	code := e.Error
	if e.Addr >= uint64(hal.UserTop) {
		code |= hal.PFPresent // Linux hides whether the kernel's half is mapped
	}
	err := t.space.HandleUserFault(t, hal.UserAddr(e.Addr), access)
	if err == nil {
		if e.Error&(hal.PFPresent|hal.PFUser) == hal.PFPresent {
			t.farReturn()
		}
		return
	}
	t.trap = trapInfo{nr: hal.VectorPF, err: code | hal.PFUser, cr2: e.Addr}
	if f, ok := err.(*mm.FaultError); ok {
		t.force(SignalInfo{Signo: int32(f.Signal), Code: int32(f.Code), Addr: uint64(f.Addr)})
		return
	}
	if t.Dying() {
		return // the OOM killer chose this one
	}
	if err == unix.ENOMEM {
		t.k.oomKill(t.space)
		// Another process may have been chosen: give it time to go, then try again.
		t.OutOfMemory()
		return
	}
	// An I/O error under a mapping.
	t.force(SignalInfo{Signo: int32(unix.SIGBUS), Code: 2 /* BUS_ADRERR */, Addr: e.Addr})
}

// farReturn does what a program's IRETQ or far RET asks for (SDM 2A). QEMU before 9.1 reads
// their frames with the kernel's rights, which SMAP forbids on the program's pages: a fault
// that no mapping resolves, and one that no processor has. Any other instruction that has it
// gets SIGSEGV, since it would have it again.
func (t *Thread) farReturn() {
	const iretq, lretq = 0xcf, 0xcb // behind REX.W
	var code [2]byte
	var frame [5 * 8]byte
	c := t.Ctx
	words := 0
	if t.CopyIn(code[:], hal.UserAddr(c.RIP)) == nil && code[0] == 0x48 {
		words = map[byte]int{iretq: 5, lretq: 2}[code[1]]
	}
	if words == 0 || t.CopyIn(frame[:words*8], hal.UserAddr(c.RSP)) != nil {
		t.force(SignalInfo{Signo: int32(unix.SIGSEGV), Code: SIKernel})
		return
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(frame[8*i:]) }
	if uint16(word(1)) != userCS || words == 5 && uint16(word(4)) != userSS {
		t.trap = trapInfo{nr: hal.VectorGP, err: word(1) & 0xfffc, cr2: t.trap.cr2}
		t.force(SignalInfo{Signo: int32(unix.SIGSEGV), Code: SIKernel})
		return
	}
	c.RIP, c.RSP = word(0), c.RSP+16
	if words == 5 {
		const mask = flagsUser | flagNT | flagID
		c.RFLAGS, c.RSP = c.RFLAGS&^mask|word(2)&mask, word(3)
	}
	t.checkRIP()
}

// trapSignal maps a vector; false where nothing is to be sent.
func (t *Thread) trapSignal(e *hal.Exit) (SignalInfo, bool) {
	rip := t.Ctx.RIP
	mk := func(s unix.Signal, code int32, addr uint64) (SignalInfo, bool) {
		return SignalInfo{Signo: int32(s), Code: code, Addr: addr}, true
	}
	switch e.Vector {
	case hal.VectorDE:
		return mk(unix.SIGFPE, fpeIntDiv, rip)
	case hal.VectorDB:
		code := int32(trapTrace)
		if t.Ctx.RFLAGS&flagTF == 0 {
			code = trapBrkpt
		} else {
			t.pt.debug[6] = dr6Step
		}
		return mk(unix.SIGTRAP, code, rip)
	case hal.VectorBP:
		return mk(unix.SIGTRAP, SIKernel, 0)
	case hal.VectorUD:
		return mk(unix.SIGILL, illIllOpn, rip)
	case 11, hal.VectorSS: // segment not present, stack fault
		return mk(unix.SIGBUS, SIKernel, 0)
	case hal.VectorAC:
		return mk(unix.SIGBUS, busAdrAln, 0)
	case hal.VectorMF, hal.VectorXM:
		code := t.fpCode(e.Vector)
		if code == 0 {
			return SignalInfo{}, false
		}
		return mk(unix.SIGFPE, code, rip)
	}
	return mk(unix.SIGSEGV, SIKernel, 0)
}

// fpCode says which floating point exception it was (fpu__exception_code). The status
// words lie where FXSAVE puts them (SDM 1 table 10-2).
func (t *Thread) fpCode(vector uint8) int32 {
	t.k.M.SyncFP(t.Ctx)
	fp := t.Ctx.FP
	var err uint32
	if vector == hal.VectorMF {
		cwd, swd := binary.LittleEndian.Uint16(fp[0:]), binary.LittleEndian.Uint16(fp[2:])
		err = uint32(swd &^ cwd)
	} else {
		mxcsr := binary.LittleEndian.Uint32(fp[24:])
		err = ^(mxcsr >> 7) & mxcsr
	}
	switch {
	case err&1 != 0:
		return fpeFltInv
	case err&4 != 0:
		return fpeFltDiv
	case err&8 != 0:
		return fpeFltOvf
	case err&0x12 != 0:
		return fpeFltUnd
	case err&0x20 != 0:
		return fpeFltRes
	}
	return 0
}

// reportDeath writes the one report of a program that dies of a signal in its own
// code: what, where, with which instruction, in which mapping.
func (t *Thread) reportDeath(info *SignalInfo) {
	var b strings.Builder
	r := &t.Ctx.Regs
	fmt.Fprintf(&b, "%s[%d] killed by %s (%s) in thread %q (%d)", t.process.commName(), t.process.pid,
		unix.SignalName(unix.Signal(info.Signo)), unix.Signal(info.Signo), t.Name(), t.TID())
	b.WriteString(t.describeCause(info))
	fmt.Fprintf(&b, "\n  at rip %#x in %s, code %s", r.RIP, t.where(r.RIP), t.codeAt(r.RIP))
	fmt.Fprintf(&b, "\n  rsp %#x in %s", r.RSP, t.where(r.RSP))
	fmt.Fprintf(&b, "\n  rax %#x rbx %#x rcx %#x rdx %#x rsi %#x rdi %#x rbp %#x", r.RAX, r.RBX, r.RCX, r.RDX, r.RSI, r.RDI, r.RBP)
	fmt.Fprintf(&b, "\n  r8 %#x r9 %#x r10 %#x r11 %#x r12 %#x r13 %#x r14 %#x r15 %#x", r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15)
	t.k.Log("error", "%s", b.String())
}

func (p *Process) commName() string {
	if l := p.Leader(); l != nil {
		return l.Name()
	}
	return "?"
}

// describeCause is the part after the signal's name: the address of a fault, or who
// sent it.
func (t *Thread) describeCause(info *SignalInfo) string {
	switch {
	case info.Code <= 0:
		return fmt.Sprintf(", sent by process %d", info.PID)
	case t.trap.nr == hal.VectorPF && (info.Signo == int32(unix.SIGSEGV) || info.Signo == int32(unix.SIGBUS)):
		what := "reading"
		if t.trap.err&hal.PFFetch != 0 {
			what = "executing"
		} else if t.trap.err&hal.PFWrite != 0 {
			what = "writing"
		}
		return fmt.Sprintf(" %s address %#x, %s", what, info.Addr, t.where(info.Addr))
	case t.trap.nr == hal.VectorGP:
		return fmt.Sprintf(": general protection (error code %#x): a privileged instruction or a wild address", t.trap.err)
	}
	if info.Syscall != 0 {
		return fmt.Sprintf(": seccomp forbids system call %d", info.Syscall)
	}
	return fmt.Sprintf(": exception %d", t.trap.nr)
}

// where names the mapping that holds addr and the offset in it.
func (t *Thread) where(addr uint64) string {
	v, ok := t.space.Find(hal.UserAddr(addr))
	if !ok {
		return "no mapping"
	}
	name := t.nameOf(&v)
	if name == "" {
		name = "anonymous memory"
	}
	prot := []byte("---")
	for i, c := range "rwx" {
		if v.Prot>>i&1 != 0 {
			prot[i] = byte(c)
		}
	}
	return fmt.Sprintf("%s+%#x (%s)", name, int64(addr-uint64(v.Start))+v.Offset, prot)
}

func (t *Thread) codeAt(rip uint64) string {
	var code [16]byte
	if rip >= uint64(hal.UserTop) {
		return "(not readable)"
	}
	n, _ := t.space.HW.CopyIn(code[:], hal.UserAddr(rip))
	if n == 0 {
		return "(not readable)"
	}
	return fmt.Sprintf("% x", code[:n])
}
