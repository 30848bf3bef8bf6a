package syscalls

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/bpf"

	"kiln/kernel/cbpf"
	"kiln/kernel/hal"
	"kiln/kernel/task"
)

// seccompEntries are the rows of secure computing.
var seccompEntries = []Entry{
	{Nr: unix.SYS_SECCOMP, Name: "seccomp", Func: sysSeccomp, Support: Partial,
		Note: "no SECCOMP_FILTER_FLAG_NEW_LISTENER (EINVAL), so SECCOMP_RET_USER_NOTIF gives ENOSYS as without a listener"},
}

// What a filter returns, uapi/linux/seccomp.h; the low 16 bits are data.
const (
	secKillProcess = 0x80000000
	secKillThread  = 0
	secTrap        = 0x00030000
	secErrno       = 0x00050000
	secUserNotif   = 0x7fc00000
	secTrace       = 0x7ff00000
	secLog         = 0x7ffc0000
	secAllow       = 0x7fff0000
	secActions     = 0xffff0000

	secDataSize = 64         // struct seccomp_data
	auditArch   = 0xc000003e // AUDIT_ARCH_X86_64
	maxErrno    = 4095

	siSeccomp = 1 // SYS_SECCOMP, the si_code of SECCOMP_RET_TRAP's SIGSYS
)

// secured applies seccomp to the call that is about to be served. False: it is not to be
// served, and its result is in place. See seccomp(2).
func secured(t *task.Thread, a *Args) bool { return filtered(t, a, false) }

// filtered is secured; again says that a tracer has had its say about the call.
func filtered(t *task.Thread, a *Args, again bool) bool {
	nr := uint32(t.Ctx.OrigRAX)
	if t.SeccompMode() == 1 {
		switch nr {
		case unix.SYS_READ, unix.SYS_WRITE, unix.SYS_EXIT, unix.SYS_RT_SIGRETURN:
			return true
		}
		t.KillThread(unix.SIGKILL)
		return false
	}
	var data [secDataSize]byte
	binary.LittleEndian.PutUint32(data[0:], nr)
	binary.LittleEndian.PutUint32(data[4:], auditArch)
	binary.LittleEndian.PutUint64(data[8:], t.Ctx.RIP)
	for i, v := range a {
		binary.LittleEndian.PutUint64(data[16+8*i:], v)
	}
	ret, by := uint32(secAllow), (*task.SeccompFilter)(nil)
	for f := t.Seccomp(); f != nil; f = f.Prev {
		// A filter that divides by zero returns 0, SECCOMP_RET_KILL_THREAD.
		v, err := bpf.Exec[bpf.NativeEndian](f.Prog, data[:])
		if err != nil {
			v = 0
		}
		if int32(v&secActions) < int32(ret&secActions) {
			ret, by = v, f
		}
	}
	if ret&secActions != secAllow && by.Log {
		t.Kernel().Log("info", "seccomp: %s (pid %d) called %s: action %#x", t.Name(), t.Process().PID(), callName(uint64(nr)), ret)
	}
	if ret&secActions == secTrace {
		return again || toTracer(t, a, ret&0xffff)
	}
	return act(t, nr, ret)
}

// toTracer is SECCOMP_RET_TRACE: the tracer may change the call, which is then filtered
// once more. Without one it is ENOSYS.
func toTracer(t *task.Thread, a *Args, data uint32) bool {
	told, skip := t.TraceSeccomp(uint64(data))
	if !told {
		t.ReturnError(unix.ENOSYS)
	}
	if skip {
		return false
	}
	a.reload(t)
	return filtered(t, a, true)
}

// act does what a filter has said.
func act(t *task.Thread, nr, ret uint32) bool {
	data := int32(ret & 0xffff)
	switch ret & secActions {
	case secAllow:
		return true
	case secLog:
		t.Kernel().Log("warn", "seccomp: %s (pid %d) called %s", t.Name(), t.Process().PID(), callName(uint64(nr)))
		return true
	case secErrno:
		t.Return(uintptr(-int64(min(data, maxErrno))))
	case secTrap:
		// The registers stay as they were before the call; RIP is behind it.
		t.ForceSignal(task.SignalInfo{Signo: int32(unix.SIGSYS), Code: siSeccomp, Errno: data, Addr: t.Ctx.RIP, Syscall: int32(nr)})
	case secUserNotif: // nobody listens
		t.ReturnError(unix.ENOSYS)
	case secKillThread:
		t.KillThread(unix.SIGSYS)
	default: // SECCOMP_RET_KILL_PROCESS, and what is not known
		t.KillProcess(unix.SIGSYS)
	}
	return false
}

// sysSeccomp: EINVAL (operation, flags, a mode that is not to be left, a bad program),
// EFAULT, EACCES (neither no_new_privs nor CAP_SYS_ADMIN), ENOMEM (too many
// instructions), ESRCH (TSYNC_ESRCH), EOPNOTSUPP (an action that is not known); the
// number of a thread that cannot follow with TSYNC. See seccomp(2).
func sysSeccomp(t *task.Thread, a *Args) (uintptr, error) {
	op, flags, at := uint32(a[0]), uint32(a[1]), a[2]
	switch op {
	case unix.SECCOMP_SET_MODE_STRICT:
		if flags != 0 || at != 0 {
			return 0, unix.EINVAL
		}
		return 0, t.SeccompStrict()
	case unix.SECCOMP_SET_MODE_FILTER:
		return setFilter(t, flags, at)
	case unix.SECCOMP_GET_ACTION_AVAIL:
		if flags != 0 {
			return 0, unix.EINVAL
		}
		v, err := getU32(t, hal.UserAddr(at))
		if err != nil {
			return 0, err
		}
		switch v {
		case secKillProcess, secKillThread, secTrap, secErrno, secUserNotif, secTrace, secLog, secAllow:
			return 0, nil
		}
		return 0, unix.EOPNOTSUPP
	case unix.SECCOMP_GET_NOTIF_SIZES:
		if flags != 0 {
			return 0, unix.EINVAL
		}
		// The sizes of struct seccomp_notif, seccomp_notif_resp and seccomp_data.
		return 0, t.CopyOut(hal.UserAddr(at), []byte{80, 0, 24, 0, secDataSize, 0})
	}
	return 0, unix.EINVAL
}

// prctlSeccomp is prctl(PR_SET_SECCOMP).
func prctlSeccomp(t *task.Thread, a *Args) (uintptr, error) {
	switch a[1] {
	case unix.SECCOMP_MODE_STRICT:
		return 0, t.SeccompStrict()
	case unix.SECCOMP_MODE_FILTER:
		return setFilter(t, 0, a[2])
	}
	return 0, unix.EINVAL
}

func setFilter(t *task.Thread, flags uint32, at uint64) (uintptr, error) {
	const tsync, esrch = unix.SECCOMP_FILTER_FLAG_TSYNC, unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
	const known = tsync | esrch | unix.SECCOMP_FILTER_FLAG_LOG | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
	if flags&^uint32(known) != 0 {
		return 0, unix.EINVAL
	}
	prog, err := readFilter(t, at)
	if err != nil {
		return 0, err
	}
	f := &task.SeccompFilter{Prog: prog, Log: flags&unix.SECCOMP_FILTER_FLAG_LOG != 0}
	tid, err := t.AddSeccomp(f, flags&tsync != 0)
	if tid != 0 && flags&esrch != 0 {
		return 0, unix.ESRCH
	}
	return uintptr(tid), err
}

// readFilter copies and checks a struct sock_fprog.
func readFilter(t *task.Thread, at uint64) (bpf.Program, error) {
	var head [16]byte
	if err := t.CopyIn(head[:], hal.UserAddr(at)); err != nil {
		return bpf.Program{}, err
	}
	n := int(binary.LittleEndian.Uint16(head[:]))
	if n == 0 || n > bpf.MaxInstructions {
		return bpf.Program{}, unix.EINVAL
	}
	if c := t.Creds(); !c.NoNewPrivs && !c.Can(unix.CAP_SYS_ADMIN) {
		return bpf.Program{}, unix.EACCES
	}
	raw := make([]byte, cbpf.Size*n)
	if err := t.CopyIn(raw, hal.UserAddr(binary.LittleEndian.Uint64(head[8:]))); err != nil {
		return bpf.Program{}, err
	}
	return seccompProgram(raw)
}

// seccompProgram checks a filter's instructions: EINVAL.
func seccompProgram(raw []byte) (bpf.Program, error) {
	insns, ok := cbpf.Parse(raw)
	if !ok || !restrict(insns) {
		return bpf.Program{}, unix.EINVAL
	}
	// Not optimised: a hostile program could make that long.
	p, err := bpf.Compile(insns, false)
	if err != nil {
		return bpf.Program{}, unix.EINVAL
	}
	return p, nil
}

// restrict applies seccomp's own rules (seccomp_check_filter): aligned loads of words of
// the data only, no loads of packets, no remainders; and shifts by less than a word. A
// load of the length is that of a constant.
func restrict(insns []bpf.Instruction) bool {
	for i := range insns {
		in := &insns[i]
		switch in.OpCode {
		case bpf.Alu | bpf.Lsh | bpf.K, bpf.Alu | bpf.Rsh | bpf.K:
			if in.K >= 32 {
				return false
			}
		case bpf.Ld | bpf.W | bpf.Abs:
			if in.K >= secDataSize || in.K&3 != 0 {
				return false
			}
		case bpf.Misc | bpf.Tax, bpf.Misc | bpf.Txa:
			cbpf.Straighten(in)
		case bpf.Ld | bpf.W | bpf.Len:
			*in = bpf.Stmt(bpf.Ld|bpf.Imm, secDataSize)
		case bpf.Ldx | bpf.W | bpf.Len:
			*in = bpf.Stmt(bpf.Ldx|bpf.Imm, secDataSize)
		case bpf.Ret | bpf.K, bpf.Ret | bpf.A,
			bpf.Alu | bpf.Add | bpf.K, bpf.Alu | bpf.Add | bpf.X, bpf.Alu | bpf.Sub | bpf.K, bpf.Alu | bpf.Sub | bpf.X,
			bpf.Alu | bpf.Mul | bpf.K, bpf.Alu | bpf.Mul | bpf.X, bpf.Alu | bpf.Div | bpf.K, bpf.Alu | bpf.Div | bpf.X,
			bpf.Alu | bpf.And | bpf.K, bpf.Alu | bpf.And | bpf.X, bpf.Alu | bpf.Or | bpf.K, bpf.Alu | bpf.Or | bpf.X,
			bpf.Alu | bpf.Xor | bpf.K, bpf.Alu | bpf.Xor | bpf.X, bpf.Alu | bpf.Lsh | bpf.X,
			bpf.Alu | bpf.Rsh | bpf.X, bpf.Alu | bpf.Neg,
			bpf.Ld | bpf.Imm, bpf.Ldx | bpf.Imm,
			bpf.Ld | bpf.Mem, bpf.Ldx | bpf.Mem, bpf.St, bpf.Stx, bpf.Jmp | bpf.Ja,
			bpf.Jmp | bpf.Jeq | bpf.K, bpf.Jmp | bpf.Jeq | bpf.X, bpf.Jmp | bpf.Jge | bpf.K, bpf.Jmp | bpf.Jge | bpf.X,
			bpf.Jmp | bpf.Jgt | bpf.K, bpf.Jmp | bpf.Jgt | bpf.X, bpf.Jmp | bpf.Jset | bpf.K, bpf.Jmp | bpf.Jset | bpf.X:
		default:
			return false
		}
	}
	return true
}
