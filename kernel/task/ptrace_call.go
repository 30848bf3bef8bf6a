package task

import (
	"golang.org/x/sys/unix"
)

// noSuchCall is -ENOSYS, which RAX holds until a traced call has its result.
const noSuchCall = ^uintptr(unix.ENOSYS) + 1

// SyscallEntry is the stop before a system call of a traced thread, with RAX -ENOSYS. It
// says whether the call is to be served: not under PTRACE_SYSEMU, nor where the tracer has
// made its number -1, nor in a thread that is to end. Number and arguments are in the
// registers again.
func (t *Thread) SyscallEntry() bool {
	h := t.hooks.Load()
	if h&(HookSyscall|HookEmulate) != 0 {
		t.Return(noSuchCall)
		t.syscallStop(msgSyscallEntry, h&HookEmulate != 0)
		if t.flags.Load()&fKill != 0 {
			return false
		}
	} else if h&HookStep != 0 {
		t.Return(noSuchCall)
		t.flags.Or(fSysExit)
	}
	if h&HookEmulate != 0 {
		t.flags.And(^fSysExit)
		return false
	}
	return int32(t.Ctx.OrigRAX) != -1
}

// syscallStop reports the start or end of a system call; a signal that the tracer injects
// is sent.
func (t *Thread) syscallStop(message uint64, emulated bool) {
	p := t.process
	p.mu.Lock()
	code := uint32(unix.SIGTRAP)
	if t.pt.opts&TraceSysGood != 0 {
		code |= 0x80
	}
	p.mu.Unlock()
	tr := t.pt.tracer.Load()
	sig, ok := t.ptraceStop(stopArgs{code: code, why: cldTrapped, info: t.notifyInfo(int32(unix.SIGTRAP), code),
		message: message, inCall: message == msgSyscallEntry && !emulated})
	if ok && sig != 0 && tr != nil {
		t.SendSignal(SignalInfo{Signo: sig, Code: SIKernel, Sender: t})
	}
}

// syscallExit is the stop behind a system call, or the trap of a single step over one.
func (t *Thread) syscallExit() {
	switch h := t.hooks.Load(); {
	case h&HookStep != 0:
		t.trap.nr, t.trap.err = 1, 0
		t.force(SignalInfo{Signo: int32(unix.SIGTRAP), Code: trapBrkpt, Addr: t.Ctx.RIP})
	case h&HookSyscall != 0:
		t.syscallStop(msgSyscallExit, false)
	}
}

// TraceSeccomp is SECCOMP_RET_TRACE: false if no tracer wants to hear of it. skip: the call
// is not to be served, its result is in place.
func (t *Thread) TraceSeccomp(data uint64) (told, skip bool) {
	if !t.wantsEvent(EventSeccomp) {
		return false, true
	}
	t.Return(noSuchCall)
	t.ptraceEvent(EventSeccomp, data)
	return true, t.flags.Load()&fKill != 0 || int32(t.Ctx.OrigRAX) == -1
}
