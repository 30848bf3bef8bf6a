package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/task"
)

var ptraceEntries = []Entry{
	{Nr: unix.SYS_PTRACE, Name: "ptrace", Func: sysPtrace, Support: Partial,
		Note: "no hardware breakpoints (ENOSPC when one is enabled in debug register 7), no seccomp filters read back, " +
			"PTRACE_O_SUSPEND_SECCOMP, PTRACE_SINGLEBLOCK, thread areas of 32-bit programs (EIO; EINVAL for the option)"},
}

// Requests that x/sys/unix does not name or names by another (uapi/linux/ptrace.h,
// asm/ptrace-abi.h).
const (
	ptraceGetThreadArea   = 25
	ptraceSetThreadArea   = 26
	ptraceSysemu          = 31
	ptraceSysemuStep      = 32
	ptraceGetSyscallInfo  = 0x420e
	ptraceGetRseqConfig   = 0x420f
	ptracePeekShared      = 1
	ptraceOptions         = 0xff | task.TraceExitKill
	ntPRStatus            = 1
	ntPRFPReg             = 2
	ntX86XState           = 0x202
	sizeofUser            = 928 // struct user
	userDebugReg          = 848 // offsetof(struct user, u_debugreg)
	fxsave                = 512
	syscallInfoEntry      = 1
	syscallInfoExit       = 2
	syscallInfoSeccomp    = 3
	eventSeccomp          = 7
	sigTrapSys            = 5 | 0x80
	messageSyscallEntry   = 1
	messageSyscallExit    = 2
	ptraceRseqConfigBytes = 24
)

// sysPtrace is one request of a tracer (request, thread, address, data): PTRACE_TRACEME is
// EPERM where somebody traces already. Else ESRCH (no such thread); PTRACE_ATTACH and
// PTRACE_SEIZE: EIO (address or options of a seizure), EINVAL (options), EPERM (not
// allowed, itself, traced), a restart code (a signal while it execs). Others: ESRCH (not the
// caller's, not in a stop), then what the request gives; EIO for one that is not known. See
// ptrace(2).
func sysPtrace(t *task.Thread, a *Args) (uintptr, error) {
	req, tid, addr, data := int64(a[0]), int32(a[1]), a[2], a[3]
	if req == unix.PTRACE_TRACEME {
		return 0, t.TraceMe()
	}
	if req == unix.PTRACE_ATTACH || req == unix.PTRACE_SEIZE {
		return 0, ptraceAttach(t, tid, req == unix.PTRACE_SEIZE, addr, data)
	}
	o, release, err := t.Tracee(tid, req == unix.PTRACE_KILL || req == unix.PTRACE_INTERRUPT)
	if err != nil {
		return 0, err
	}
	defer release()
	return ptraceRequest(t, o, req, addr, data)
}

func ptraceAttach(t *task.Thread, tid int32, seize bool, addr, data uint64) error {
	o := t.Kernel().Thread(tid)
	if o == nil {
		if p := t.Kernel().Process(tid); p != nil {
			return unix.EPERM // a zombie
		}
		return unix.ESRCH
	}
	opts := uint32(0)
	if seize {
		if addr != 0 || data&^(ptraceOptions|unix.PTRACE_O_SUSPEND_SECCOMP) != 0 {
			return unix.EIO
		}
		if err := checkTraceOptions(t, data); err != nil {
			return err
		}
		opts = uint32(data)
	}
	return t.Attach(o, seize, opts, func() bool { return mayAccess(t, o.Process()) })
}

// checkTraceOptions: EINVAL for what there is not; to suspend seccomp takes privilege on
// Linux and is refused here.
func checkTraceOptions(t *task.Thread, data uint64) error {
	switch {
	case data&^(ptraceOptions|unix.PTRACE_O_SUSPEND_SECCOMP) != 0:
		return unix.EINVAL
	case data&unix.PTRACE_O_SUSPEND_SECCOMP == 0:
		return nil
	case !t.Creds().Can(unix.CAP_SYS_ADMIN):
		return unix.EPERM
	}
	return unix.EINVAL
}

// ptraceRequest serves a request about a tracee that is held in its stop (but for
// PTRACE_KILL and PTRACE_INTERRUPT).
func ptraceRequest(t, o *task.Thread, req int64, addr, data uint64) (uintptr, error) {
	at := hal.UserAddr(data)
	switch req {
	case unix.PTRACE_PEEKTEXT, unix.PTRACE_PEEKDATA:
		var b [8]byte
		if n, _ := o.Space().Peek(t, b[:], hal.UserAddr(addr)); n < len(b) {
			return 0, unix.EIO
		}
		return 0, t.CopyOut(at, b[:])
	case unix.PTRACE_POKETEXT, unix.PTRACE_POKEDATA:
		var b [8]byte
		le.PutUint64(b[:], data)
		if n, _ := o.Space().Poke(t, hal.UserAddr(addr), b[:]); n < len(b) {
			return 0, unix.EIO
		}
		return 0, nil
	case unix.PTRACE_PEEKUSR:
		return peekUser(t, o, addr, at)
	case unix.PTRACE_POKEUSR:
		return 0, pokeUser(o, addr, data)
	case unix.PTRACE_CONT, unix.PTRACE_SYSCALL, unix.PTRACE_SINGLESTEP, ptraceSysemu, ptraceSysemuStep:
		if data > task.NumSignals {
			return 0, unix.EIO
		}
		o.Resume(int32(data), resumeHooks[req])
		return 0, nil
	case unix.PTRACE_DETACH:
		if data > task.NumSignals {
			return 0, unix.EIO
		}
		o.Detach(int32(data))
		return 0, nil
	case unix.PTRACE_KILL:
		o.SendSignal(userSignal(t, int32(unix.SIGKILL), task.SIUser))
		return 0, nil
	case unix.PTRACE_INTERRUPT:
		return 0, o.InterruptTrace()
	case unix.PTRACE_LISTEN:
		return 0, o.Listen()
	case unix.PTRACE_SETOPTIONS, unix.PTRACE_OLDSETOPTIONS:
		if err := checkTraceOptions(t, data); err != nil {
			return 0, err
		}
		o.SetTraceOptions(uint32(data))
		return 0, nil
	case unix.PTRACE_GETEVENTMSG:
		return 0, putU64(t, at, o.EventMessage())
	case unix.PTRACE_ARCH_PRCTL:
		return traceArchPrctl(t, o, addr, data)
	case ptraceGetSyscallInfo:
		return syscallInfo(t, o, addr, at)
	case ptraceGetRseqConfig:
		var b [ptraceRseqConfigBytes]byte
		if addr != uint64(len(b)) {
			return 0, unix.EINVAL
		}
		ptr, size, sig := o.RseqArea()
		le.PutUint64(b[0:], ptr)
		le.PutUint32(b[8:], size)
		le.PutUint32(b[12:], sig)
		return uintptr(len(b)), t.CopyOut(at, b[:])
	}
	if v, err, ok := ptraceSignals(t, o, req, addr, at); ok {
		return v, err
	}
	return ptraceSets(t, o, req, addr, at)
}

// resumeHooks are what each way to go on makes the tracee stop for.
var resumeHooks = map[int64]uint32{
	unix.PTRACE_SYSCALL: task.HookSyscall, unix.PTRACE_SINGLESTEP: task.HookStep,
	ptraceSysemu: task.HookEmulate, ptraceSysemuStep: task.HookEmulate | task.HookStep,
}

// ptraceSignals serves what is about signals; false: another request.
func ptraceSignals(t, o *task.Thread, req int64, addr uint64, at hal.UserAddr) (uintptr, error, bool) {
	switch req {
	case unix.PTRACE_GETSIGINFO:
		i := o.StopInfo()
		if i == nil {
			return 0, unix.EINVAL, true
		}
		b := i.Bytes()
		return 0, t.CopyOut(at, b[:]), true
	case unix.PTRACE_SETSIGINFO:
		var b [128]byte
		if err := t.CopyIn(b[:], at); err != nil {
			return 0, err, true
		}
		return 0, o.SetStopInfo(task.ParseSignalInfo(b[:])), true
	case unix.PTRACE_GETSIGMASK, unix.PTRACE_SETSIGMASK:
		if addr != sigSetSize {
			return 0, unix.EINVAL, true
		}
		if req == unix.PTRACE_GETSIGMASK {
			return 0, putU64(t, at, uint64(o.TraceMask())), true
		}
		m, err := getSigSet(t, uint64(at))
		if err == nil {
			o.SetTraceMask(m)
		}
		return 0, err, true
	case unix.PTRACE_PEEKSIGINFO:
		v, err := peekSiginfo(t, o, addr, at)
		return v, err, true
	}
	return 0, nil, false
}

// peekSiginfo copies pending signals (struct ptrace_peeksiginfo_args at addr): EFAULT,
// EINVAL (flags, number).
func peekSiginfo(t, o *task.Thread, addr uint64, at hal.UserAddr) (uintptr, error) {
	var b [16]byte // off, flags, nr
	if err := t.CopyIn(b[:], hal.UserAddr(addr)); err != nil {
		return 0, err
	}
	off, flags, n := le.Uint64(b[0:]), le.Uint32(b[8:]), int32(le.Uint32(b[12:]))
	if flags&^ptracePeekShared != 0 || n < 0 {
		return 0, unix.EINVAL
	}
	done := uintptr(0)
	for _, i := range o.SignalQueue(flags != 0, off, int(min(n, 1024))) {
		raw := i.Bytes()
		if err := t.CopyOut(at, raw[:]); err != nil {
			if done > 0 {
				break
			}
			return 0, err
		}
		at += hal.UserAddr(len(raw))
		done++
	}
	return done, nil
}

// peekUser and pokeUser are words of struct user: the registers, the debug registers; the
// rest reads as 0. EIO: not a word of it.
func peekUser(t, o *task.Thread, addr uint64, at hal.UserAddr) (uintptr, error) {
	if addr&7 != 0 || addr >= sizeofUser {
		return 0, unix.EIO
	}
	v := uint64(0)
	if i := int(addr / 8); i < task.NumUserRegs {
		v = o.UserReg(i)
	} else if addr >= userDebugReg && addr < userDebugReg+64 {
		v = o.DebugReg(int(addr-userDebugReg) / 8)
	}
	return 0, putU64(t, at, v)
}

func pokeUser(o *task.Thread, addr, v uint64) error {
	if addr&7 != 0 || addr >= sizeofUser {
		return unix.EIO
	}
	if i := int(addr / 8); i < task.NumUserRegs {
		return o.SetUserReg(i, v)
	}
	if addr >= userDebugReg && addr < userDebugReg+64 {
		return o.SetDebugReg(int(addr-userDebugReg)/8, v)
	}
	return unix.EIO
}

// traceArchPrctl is arch_prctl on a tracee's behalf: EPERM, EFAULT, EINVAL.
func traceArchPrctl(t, o *task.Thread, addr, code uint64) (uintptr, error) {
	switch int32(code) {
	case archGetFS:
		return 0, putU64(t, hal.UserAddr(addr), o.Ctx.FSBase)
	case archGetGS:
		return 0, putU64(t, hal.UserAddr(addr), o.Ctx.GSBase)
	case archSetFS, archSetGS:
		if hal.UserAddr(addr) >= hal.UserTop {
			return 0, unix.EPERM
		}
		if int32(code) == archSetFS {
			o.Ctx.FSBase = addr
		} else {
			o.Ctx.GSBase = addr
		}
		return 0, nil
	}
	return 0, unix.EINVAL
}

// syscallInfo is PTRACE_GET_SYSCALL_INFO: struct ptrace_syscall_info as far as size goes;
// the value is how long it is.
func syscallInfo(t, o *task.Thread, size uint64, at hal.UserAddr) (uintptr, error) {
	var b [88]byte
	r := &o.Ctx.Regs
	le.PutUint32(b[4:], auditArch)
	le.PutUint64(b[8:], r.RIP)
	le.PutUint64(b[16:], r.RSP)
	n := 24
	call := func(op byte, end int) {
		b[0], n = op, end
		for i, v := range [7]uint64{r.OrigRAX, r.RDI, r.RSI, r.RDX, r.R10, r.R8, r.R9} {
			le.PutUint64(b[24+8*i:], v)
		}
	}
	code := int32(0)
	if i := o.StopInfo(); i != nil {
		code = i.Code
	}
	switch msg := o.EventMessage(); {
	case code == sigTrapSys && msg == messageSyscallEntry:
		call(syscallInfoEntry, 80)
	case code == sigTrapSys && msg == messageSyscallExit:
		b[0], n = syscallInfoExit, 33
		le.PutUint64(b[24:], r.RAX)
		if int64(r.RAX) < 0 && int64(r.RAX) >= -maxErrno {
			b[32] = 1
		}
	case code == int32(unix.SIGTRAP)|eventSeccomp<<8:
		call(syscallInfoSeccomp, 84)
		le.PutUint32(b[80:], uint32(msg))
	}
	return uintptr(n), t.CopyOut(at, b[:min(uint64(n), size)])
}

// ptraceSets serves whole register sets. EIO: no such request.
func ptraceSets(t, o *task.Thread, req int64, addr uint64, at hal.UserAddr) (uintptr, error) {
	switch req {
	case unix.PTRACE_GETREGS:
		return 0, t.CopyOut(at, generalRegs(o))
	case unix.PTRACE_SETREGS:
		return 0, setRegs(t, at, 8*task.NumUserRegs, func(b []byte) error { return setGeneralRegs(o, b) })
	case unix.PTRACE_GETFPREGS:
		return 0, t.CopyOut(at, o.FPState()[:fxsave])
	case unix.PTRACE_SETFPREGS:
		return 0, setRegs(t, at, fxsave, o.SetFPState)
	case unix.PTRACE_GETREGSET, unix.PTRACE_SETREGSET:
		return 0, regSet(t, o, req == unix.PTRACE_SETREGSET, addr, at)
	}
	return 0, unix.EIO
}

func setRegs(t *task.Thread, at hal.UserAddr, n int, set func([]byte) error) error {
	b := make([]byte, n)
	if err := t.CopyIn(b, at); err != nil {
		return err
	}
	return set(b)
}

func generalRegs(o *task.Thread) []byte {
	b := make([]byte, 8*task.NumUserRegs)
	for i := range task.NumUserRegs {
		le.PutUint64(b[8*i:], o.UserReg(i))
	}
	return b
}

func setGeneralRegs(o *task.Thread, b []byte) error {
	for i := 0; i < len(b)/8; i++ {
		if err := o.SetUserReg(i, le.Uint64(b[8*i:])); err != nil {
			return err
		}
	}
	return nil
}

// regSet is PTRACE_GETREGSET and PTRACE_SETREGSET of note type typ with the struct iovec
// at: EFAULT, EINVAL (no such set, a length that is not of whole words), EFAULT.
func regSet(t, o *task.Thread, set bool, typ uint64, at hal.UserAddr) error {
	var iov [16]byte
	if err := t.CopyIn(iov[:], at); err != nil {
		return err
	}
	base, n := hal.UserAddr(le.Uint64(iov[0:])), le.Uint64(iov[8:])
	var b []byte
	var put func([]byte) error
	switch uint32(typ) {
	case ntPRStatus:
		b, put = generalRegs(o), func(b []byte) error { return setGeneralRegs(o, b) }
	case ntPRFPReg:
		b, put = o.FPState()[:fxsave], o.SetFPState
	case ntX86XState:
		b, put = o.FPState(), o.SetFPState
		if len(b) == fxsave {
			return unix.ENODEV // no XSAVE
		}
	default:
		return unix.EINVAL
	}
	if n%8 != 0 {
		return unix.EINVAL
	}
	n = min(n, uint64(len(b)))
	if !set {
		if err := t.CopyOut(base, b[:n]); err != nil {
			return err
		}
		return putU64(t, at+8, n)
	}
	if uint32(typ) == ntX86XState && n != uint64(len(b)) {
		return unix.EFAULT
	}
	if err := t.CopyIn(b[:n], base); err != nil {
		return err
	}
	if err := put(b[:n]); err != nil {
		return err
	}
	return putU64(t, at+8, n)
}
