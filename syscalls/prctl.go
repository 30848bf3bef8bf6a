package syscalls

import (
	"bytes"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/task"
)

var prctlEntries = []Entry{
	{Nr: unix.SYS_PRCTL, Name: "prctl", Func: sysPrctl, Support: Partial,
		Note: "names, dumpable, death signal, capabilities, securebits, no_new_privs, subreaper, timer slack, " +
			"transparent huge pages; no PR_SET_MM, PR_SET_VMA, core scheduling (EINVAL)"},
}

// commLen is TASK_COMM_LEN.
const (
	commLen = 16
)

// sysPrctl serves the options below; an unknown option, and arguments that an option
// wants to be 0, are EINVAL. See prctl(2).
func sysPrctl(t *task.Thread, a *Args) (uintptr, error) {
	p, at := t.Process(), hal.UserAddr(a[1])
	rest := a[2]|a[3]|a[4] != 0
	switch int32(a[0]) {
	case unix.PR_SET_PDEATHSIG:
		if a[1] > task.NumSignals {
			return 0, unix.EINVAL
		}
		t.SetPDeathSig(int32(a[1]))
	case unix.PR_GET_PDEATHSIG:
		return 0, putU32(t, at, uint32(t.PDeathSig()))
	case unix.PR_GET_DUMPABLE:
		return uintptr(p.Dumpable()), nil
	case unix.PR_SET_DUMPABLE:
		if a[1] > 1 {
			return 0, unix.EINVAL
		}
		p.SetDumpable(int32(a[1]))
	case unix.PR_SET_NAME:
		return 0, setName(t, at)
	case unix.PR_GET_NAME:
		var b [commLen]byte
		copy(b[:commLen-1], t.Name())
		return 0, t.CopyOut(at, b[:])
	case unix.PR_GET_TIMING:
		return unix.PR_TIMING_STATISTICAL, nil
	case unix.PR_SET_TIMING:
		if a[1] != unix.PR_TIMING_STATISTICAL {
			return 0, unix.EINVAL
		}
	case unix.PR_TASK_PERF_EVENTS_DISABLE, unix.PR_TASK_PERF_EVENTS_ENABLE:
	case unix.PR_GET_TSC:
		return 0, putU32(t, at, unix.PR_TSC_ENABLE)
	case unix.PR_SET_TSC:
		if a[1] != unix.PR_TSC_ENABLE {
			return 0, unix.EINVAL
		}
	case unix.PR_SET_TIMERSLACK:
		t.SetTimerSlack(a[1])
	case unix.PR_GET_TIMERSLACK:
		return uintptr(t.TimerSlack()), nil
	case unix.PR_SET_CHILD_SUBREAPER:
		p.SetSubreaper(a[1] != 0)
	case unix.PR_GET_CHILD_SUBREAPER:
		return 0, putU32(t, at, uint32(boolInt(p.Subreaper())))
	case unix.PR_GET_THP_DISABLE:
		if a[1] != 0 || rest {
			return 0, unix.EINVAL
		}
		return boolInt(p.Attr(task.AttrNoTHP)), nil // there are no huge pages to disable
	case unix.PR_SET_THP_DISABLE:
		if rest {
			return 0, unix.EINVAL
		}
		p.SetAttr(task.AttrNoTHP, a[1] != 0)
	case unix.PR_MCE_KILL, unix.PR_MCE_KILL_GET:
		return prctlMCE(t, a, rest)
	case unix.PR_GET_TID_ADDRESS:
		return 0, putU64(t, at, uint64(t.ClearTID()))
	case unix.PR_SET_IO_FLUSHER, unix.PR_GET_IO_FLUSHER:
		return prctlFlusher(t, a, rest)
	case unix.PR_SET_PTRACER:
		// Only Yama's ptrace_scope 1 asks who was allowed, and it is not applied.
		if pid := int32(a[1]); pid > 0 && a[1] != unix.PR_SET_PTRACER_ANY && t.Kernel().Thread(pid) == nil {
			return 0, unix.EINVAL
		}
	case unix.PR_SET_SYSCALL_USER_DISPATCH:
		if a[1] != unix.PR_SYS_DISPATCH_OFF || rest {
			return 0, unix.EINVAL // it can only be off
		}
	case unix.PR_GET_SPECULATION_CTRL, unix.PR_SET_SPECULATION_CTRL:
		return prctlSpeculation(a)
	case unix.PR_SET_MM:
		if !t.Creds().Can(unix.CAP_SYS_RESOURCE) {
			return 0, unix.EPERM
		}
		return 0, unix.EINVAL
	default:
		return prctlCreds(t, a, rest)
	}
	return 0, nil
}

// prctlMCE keeps what a thread wants of memory errors, of which there are none here.
func prctlMCE(t *task.Thread, a *Args, rest bool) (uintptr, error) {
	if int32(a[0]) == unix.PR_MCE_KILL_GET {
		if a[1] != 0 || rest {
			return 0, unix.EINVAL
		}
		return uintptr(t.MCEPolicy()), nil
	}
	switch {
	case a[3]|a[4] != 0:
		return 0, unix.EINVAL
	case a[1] == unix.PR_MCE_KILL_CLEAR && a[2] == 0:
		t.SetMCEPolicy(unix.PR_MCE_KILL_DEFAULT)
	case a[1] == unix.PR_MCE_KILL_SET && a[2] <= unix.PR_MCE_KILL_DEFAULT:
		t.SetMCEPolicy(int32(a[2]))
	default:
		return 0, unix.EINVAL
	}
	return 0, nil
}

// prctlFlusher keeps whether the thread cleans memory for others: EPERM without
// CAP_SYS_RESOURCE. It has no effect, since writing back never waits for memory.
func prctlFlusher(t *task.Thread, a *Args, rest bool) (uintptr, error) {
	if !t.Creds().Can(unix.CAP_SYS_RESOURCE) {
		return 0, unix.EPERM
	}
	set := int32(a[0]) == unix.PR_SET_IO_FLUSHER
	if rest || !set && a[1] != 0 || a[1] > 1 {
		return 0, unix.EINVAL
	}
	if set {
		t.SetFlusher(a[1] == 1)
		return 0, nil
	}
	return boolInt(t.Flusher()), nil
}

// prctlSpeculation answers as a processor without controls does: PR_SPEC_NOT_AFFECTED is 0,
// and nothing can be set (ENXIO); indirect branches are speculated on; the L1D is not flushed, and cannot be (EPERM); ENODEV: an
// unknown control.
func prctlSpeculation(a *Args) (uintptr, error) {
	set := int32(a[0]) == unix.PR_SET_SPECULATION_CTRL
	switch {
	case a[3]|a[4] != 0, !set && a[2] != 0:
		return 0, unix.EINVAL
	case a[1] > unix.PR_SPEC_L1D_FLUSH:
		return 0, unix.ENODEV
	case set && a[1] == unix.PR_SPEC_L1D_FLUSH:
		return 0, unix.EPERM
	case set && a[1] == unix.PR_SPEC_INDIRECT_BRANCH:
		switch a[2] {
		case unix.PR_SPEC_ENABLE:
			return 0, nil
		case unix.PR_SPEC_DISABLE, unix.PR_SPEC_FORCE_DISABLE:
			return 0, unix.EPERM
		}
		return 0, unix.ERANGE
	case set:
		return 0, unix.ENXIO
	case a[1] == unix.PR_SPEC_L1D_FLUSH:
		return unix.PR_SPEC_FORCE_DISABLE, nil
	case a[1] == unix.PR_SPEC_INDIRECT_BRANCH:
		return unix.PR_SPEC_ENABLE, nil
	}
	return unix.PR_SPEC_NOT_AFFECTED, nil
}

// setName reads comm: up to 15 bytes, cut there. EFAULT.
func setName(t *task.Thread, at hal.UserAddr) error {
	var b [commLen - 1]byte
	n, err := t.Space().CopyIn(t, b[:], at)
	if i := bytes.IndexByte(b[:n], 0); i >= 0 {
		n = i
	} else if err != nil {
		return unix.EFAULT
	}
	t.Rename(string(b[:n]))
	return nil
}

// prctlCreds serves the options about privileges.
func prctlCreds(t *task.Thread, a *Args, rest bool) (uintptr, error) {
	c := *t.Creds()
	switch int32(a[0]) {
	case unix.PR_GET_SECCOMP:
		return uintptr(t.SeccompMode()), nil
	case unix.PR_SET_SECCOMP:
		return prctlSeccomp(t, a)
	case unix.PR_GET_KEEPCAPS:
		return boolInt(c.KeepCaps), nil
	case unix.PR_SET_KEEPCAPS:
		if a[1] > 1 {
			return 0, unix.EINVAL
		}
		if c.Securebits&(secKeepCaps<<1) != 0 {
			return 0, unix.EPERM
		}
		c.KeepCaps = a[1] != 0
		c.Securebits = c.Securebits&^secKeepCaps | uint32(a[1])*secKeepCaps
	case unix.PR_CAPBSET_READ:
		if a[1] > unix.CAP_LAST_CAP {
			return 0, unix.EINVAL
		}
		return uintptr(c.Bounding >> a[1] & 1), nil
	case unix.PR_CAPBSET_DROP:
		if !c.Can(unix.CAP_SETPCAP) {
			return 0, unix.EPERM
		}
		if a[1] > unix.CAP_LAST_CAP {
			return 0, unix.EINVAL
		}
		c.Bounding &^= 1 << a[1]
	case unix.PR_GET_SECUREBITS:
		return uintptr(c.Securebits), nil
	case unix.PR_SET_SECUREBITS:
		// Each even bit's lock is the odd bit above it.
		const all, locks = 0xff, 0xaa
		old, v := c.Securebits, a[1]
		if v&^all != 0 || uint64(old&locks)&^v != 0 || (uint64(old)^v)&uint64(old&locks>>1) != 0 || !c.Can(unix.CAP_SETPCAP) {
			return 0, unix.EPERM
		}
		c.Securebits = uint32(v)
		c.KeepCaps = v&secKeepCaps != 0
	case unix.PR_SET_NO_NEW_PRIVS:
		if a[1] != 1 || rest {
			return 0, unix.EINVAL
		}
		c.NoNewPrivs = true
	case unix.PR_GET_NO_NEW_PRIVS:
		if a[1] != 0 || rest {
			return 0, unix.EINVAL
		}
		return boolInt(c.NoNewPrivs), nil
	case unix.PR_CAP_AMBIENT:
		v, changed, err := ambient(c.Ambient, c.Permitted&c.Inheritable, c.Securebits, a)
		if err != nil || !changed {
			return uintptr(v), err
		}
		c.Ambient = v
	default:
		return 0, unix.EINVAL
	}
	t.SetCreds(&c)
	return 0, nil
}

// ambient is PR_CAP_AMBIENT on a set; may are the capabilities it can hold.
func ambient(set, may uint64, bits uint32, a *Args) (v uint64, changed bool, err error) {
	if a[1] == unix.PR_CAP_AMBIENT_CLEAR_ALL {
		if a[2]|a[3]|a[4] != 0 {
			return 0, false, unix.EINVAL
		}
		return 0, true, nil
	}
	if a[2] > unix.CAP_LAST_CAP || a[3]|a[4] != 0 {
		return 0, false, unix.EINVAL
	}
	switch n := a[2]; a[1] {
	case unix.PR_CAP_AMBIENT_IS_SET:
		return set >> n & 1, false, nil
	case unix.PR_CAP_AMBIENT_RAISE:
		if may>>n&1 == 0 || bits&secNoAmbientRaise != 0 {
			return 0, false, unix.EPERM
		}
		return set | 1<<n, true, nil
	case unix.PR_CAP_AMBIENT_LOWER:
		return set &^ (1 << n), true, nil
	}
	return 0, false, unix.EINVAL
}
