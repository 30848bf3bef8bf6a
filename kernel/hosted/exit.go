package hosted

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/arch/x86/x86asm"
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

// siginfo is the head of siginfo_t for the signals that exceptions raise.
type siginfo struct {
	Signo, Errno, Code int32
	_                  int32
	Addr               uint64
	_                  [104]byte
}

// si_code values (asm-generic/siginfo.h).
const (
	siKernel  = 0x80
	fpeIntDiv = 1
	busAdrAln = 1
)

// exit turns a stop of the thread into ctx.Exit. False means that the stop was ours
// to serve (a page that the stub lacked) and the program goes on.
func (t *tracee) exit(ctx *hal.Ctx, as *AddressSpace, sig unix.Signal, gen uint64) bool {
	if sig == 0 {
		t.syscallExit(ctx, as)
		return true
	}
	var si siginfo
	if e := ptrace(unix.PTRACE_GETSIGINFO, t.tid, 0, uintptr(unsafe.Pointer(&si))); e != 0 {
		panic(fmt.Sprintf("hosted: PTRACE_GETSIGINFO: %v", e))
	}
	x := hal.Exit{Kind: hal.ExitException}
	switch {
	case si.Code <= 0:
		return false // sent by a process of the host, not by the program's doing
	case sig == unix.SIGSEGV && si.Code == siKernel:
		x.Vector = hal.VectorGP
		x.Error = as.gateError(t.getRegs().RIP)
	case sig == unix.SIGSEGV:
		r := t.getRegs()
		code, ok := as.pageFault(hal.UserAddr(si.Addr), hal.UserAddr(r.RIP), gen)
		if !ok {
			return false
		}
		x.Vector, x.Addr, x.Error = hal.VectorPF, si.Addr, code
	case sig == unix.SIGSYS:
		// Called into the host's vsyscall page, whose calls the filter refuses; a machine
		// has no such page. The host has returned for the program.
		t.store(ctx)
		ctx.RIP, ctx.RSP = si.Addr, ctx.RSP-8
		ctx.Exit = hal.Exit{Kind: hal.ExitException, Vector: hal.VectorPF, Addr: si.Addr, Error: hal.PFUser | hal.PFFetch}
		return true
	case sig == unix.SIGBUS && si.Code == busAdrAln:
		x.Vector = hal.VectorAC
	case sig == unix.SIGBUS && si.Code == siKernel:
		x.Vector = hal.VectorSS
	case sig == unix.SIGFPE && si.Code == fpeIntDiv:
		x.Vector = hal.VectorDE
	case sig == unix.SIGFPE:
		x.Vector = hal.VectorMF
	case sig == unix.SIGILL:
		x.Vector = hal.VectorUD
	case sig == unix.SIGTRAP && si.Code == siKernel:
		x.Vector = hal.VectorBP
	case sig == unix.SIGTRAP:
		x.Vector = hal.VectorDB
	default:
		panic(fmt.Sprintf("hosted: unexpected %v, si_code %d at %#x", sig, si.Code, si.Addr))
	}
	t.store(ctx)
	if x.Vector == hal.VectorMF {
		// An unmasked exception in MXCSR is the SSE one (SDM 1 11.6.4).
		mx := binary.LittleEndian.Uint32(ctx.FP[24:])
		if mx&0x3f&^(mx>>7) != 0 {
			x.Vector = hal.VectorXM
		}
	}
	ctx.Exit = x
	return true
}

// gateError is the error code of a general protection fault by the instruction at rip: that of
// an INT n without a gate, else 0. The host does not tell it: IDT vector, IDT bit (SDM 3A 6.13).
func (as *AddressSpace) gateError(rip uint64) uint64 {
	var op [2]byte
	if as.fetch(op[:], hal.UserAddr(rip)); op[0] == 0xcd {
		return uint64(op[1])<<3 | 2
	}
	return 0
}

// syscallExit stores a system call. INT 0x80 stops a tracee as SYSCALL does, where the host has
// a gate for it; the machine has none: a general protection fault at the instruction.
func (t *tracee) syscallExit(ctx *hal.Ctx, as *AddressSpace) {
	keep := ctx.OrigRAX
	t.store(ctx)
	r := t.getRegs()
	ctx.RAX = r.OrigRAX
	ctx.OrigRAX = keep
	var op [2]byte
	if as.fetch(op[:], hal.UserAddr(r.RIP-2)); op == [2]byte{0xcd, 0x80} {
		ctx.RIP -= 2
		ctx.Exit = hal.Exit{Kind: hal.ExitException, Vector: hal.VectorGP, Error: as.gateError(ctx.RIP)}
		return
	}
	ctx.Exit = hal.Exit{Kind: hal.ExitSyscall}
}

// fetch reads code without touching accessed bits.
func (as *AddressSpace) fetch(b []byte, addr hal.UserAddr) int {
	as.mu.RLock()
	defer as.mu.RUnlock()
	return as.fetchLocked(b, addr)
}

func (as *AddressSpace) fetchLocked(b []byte, addr hal.UserAddr) int {
	n := 0
	for n < len(b) {
		a := addr + hal.UserAddr(n)
		e := as.entry(a)
		if e == nil || !e.present || e.prot&hal.ProtExec == 0 {
			break
		}
		n += copy(b[n:], as.m.Frame(hal.PFN(e.frame))[a&hal.PageMask:])
	}
	return n
}

// pageFault decides what a fault at addr by the instruction at rip is; gen is the
// space's generation before the program ran. The host tells the address only, so
// the kind of access comes from the page table: a page that may be read faults on a
// write. An absent page may be reported as read though it was written: once it is
// there read-only, the program faults again and the truth comes out. ok is false
// where the program is to try again.
func (as *AddressSpace) pageFault(addr, rip hal.UserAddr, gen uint64) (code uint64, ok bool) {
	as.mu.Lock()
	defer as.mu.Unlock()
	if addr >= hal.UserTop {
		return hal.PFUser | hal.PFPresent, true
	}
	fetch := as.isFetch(addr, rip)
	e := as.entry(addr)
	if e == nil || !e.present {
		if fetch {
			return hal.PFUser | hal.PFFetch, true
		}
		return hal.PFUser, true
	}
	if e.prot != hal.ProtNone && !e.installed {
		as.fill(addr&^hal.PageMask, e)
		return 0, false
	}
	// Another thread changed the entry while the fault was on its way: try again.
	if e.stamp > gen {
		return 0, false
	}
	switch {
	case fetch:
		return hal.PFUser | hal.PFPresent | hal.PFFetch, true
	case e.prot == hal.ProtNone:
		return hal.PFUser | hal.PFPresent, true
	case e.prot&hal.ProtWrite != 0:
		return 0, false // the host's own doing (it may reclaim page tables)
	}
	return hal.PFUser | hal.PFPresent | hal.PFWrite, true
}

// isFetch tells whether a fault at addr comes from fetching the instruction at rip.
func (as *AddressSpace) isFetch(addr, rip hal.UserAddr) bool {
	if e := as.entry(addr); e != nil && e.present && e.prot&hal.ProtExec != 0 {
		return false
	}
	if addr == rip {
		return true
	}
	// An instruction is at most 15 bytes, and its second part starts a page.
	if addr < rip || addr-rip >= 15 || addr&hal.PageMask != 0 {
		return false
	}
	b := make([]byte, addr-rip)
	n := as.fetchLocked(b, rip)
	i, err := x86asm.Decode(b[:n], 64)
	return n == len(b) && (err != nil || i.Op == 0) // Op 0: only prefixes, or cut off
}
