package syscalls

import (
	"slices"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/task"
)

// procEntries are the calls of processes, with those about pidfds and about the memory of
// other processes.
var procEntries = slices.Concat(processEntries, pidfdEntries, procVMEntries)

var processEntries = []Entry{
	{Nr: unix.SYS_GETPID, Name: "getpid", Func: sysGetpid, Support: Full},
	{Nr: unix.SYS_GETTID, Name: "gettid", Func: sysGettid, Support: Full},
	{Nr: unix.SYS_GETPPID, Name: "getppid", Func: sysGetppid, Support: Full},
	{Nr: unix.SYS_CLONE, Name: "clone", Func: sysClone, Support: Partial, Note: "no namespaces (EINVAL, without privilege EPERM)"},
	{Nr: unix.SYS_CLONE3, Name: "clone3", Func: sysClone3, Support: Partial, Note: "as clone; there is no cgroup for CLONE_INTO_CGROUP (EBADF)"},
	{Nr: unix.SYS_FORK, Name: "fork", Func: sysFork, Support: Full},
	{Nr: unix.SYS_VFORK, Name: "vfork", Func: sysVfork, Support: Full},
	{Nr: unix.SYS_EXECVE, Name: "execve", Func: sysExecve, Support: Partial,
		Note: "ELF for x86-64 and #! only"},
	{Nr: unix.SYS_EXECVEAT, Name: "execveat", Func: sysExecveat, Support: Partial, Note: "as execve"},
	{Nr: unix.SYS_EXIT, Name: "exit", Func: sysExit, Support: Full},
	{Nr: unix.SYS_EXIT_GROUP, Name: "exit_group", Func: sysExitGroup, Support: Full},
	{Nr: unix.SYS_WAIT4, Name: "wait4", Func: sysWait4, Support: Full},
	{Nr: unix.SYS_WAITID, Name: "waitid", Func: sysWaitid, Support: Full},
	{Nr: unix.SYS_SET_TID_ADDRESS, Name: "set_tid_address", Func: sysSetTidAddress, Support: Full},
	{Nr: unix.SYS_SETPGID, Name: "setpgid", Func: sysSetpgid, Support: Full},
	{Nr: unix.SYS_GETPGID, Name: "getpgid", Func: sysGetpgid, Support: Full},
	{Nr: unix.SYS_GETPGRP, Name: "getpgrp", Func: sysGetpgrp, Support: Full},
	{Nr: unix.SYS_SETSID, Name: "setsid", Func: sysSetsid, Support: Full},
	{Nr: unix.SYS_GETSID, Name: "getsid", Func: sysGetsid, Support: Full},
	{Nr: unix.SYS_ARCH_PRCTL, Name: "arch_prctl", Func: sysArchPrctl, Support: Partial,
		Note: "FS and GS bases; CPUID faulting as on a CPU without it; no AMX permissions, LAM or shadow stacks (EINVAL)"},
	{Nr: unix.SYS_PERSONALITY, Name: "personality", Func: sysPersonality, Support: Partial, Note: "kept; ADDR_NO_RANDOMIZE counts"},
}

// sysGetpid, sysGettid and sysGetppid never fail. See getpid(2), gettid(2).
func sysGetpid(t *task.Thread, _ *Args) (uintptr, error)  { return uintptr(t.Process().PID()), nil }
func sysGettid(t *task.Thread, _ *Args) (uintptr, error)  { return uintptr(t.TID()), nil }
func sysGetppid(t *task.Thread, _ *Args) (uintptr, error) { return uintptr(t.Process().PPID()), nil }

// csignal is CSIGNAL: the byte of clone's flags that is the exit signal.
const csignal = 0xff

// clone adds what descriptors are about: pidfd is where CLONE_PIDFD writes one.
func clone(t *task.Thread, a *task.CloneArgs, pidfd hal.UserAddr) (uintptr, error) {
	if a.Flags&unix.CLONE_PIDFD != 0 {
		a.Attach = func(p *task.Process) (func(), error) { return attachPidfd(t, p, pidfd) }
	}
	if a.ExitSignal > task.NumSignals {
		a.ExitSignal = 0 // Linux keeps such a number, and send_signal refuses it
	}
	id, err := t.Clone(a)
	return uintptr(id), err
}

// sysClone starts a thread or a process (flags, stack, parent_tid, child_tid, tls). The
// upper half of flags is ignored; with CLONE_PIDFD the descriptor goes where parent_tid
// points. EINVAL: combinations; EAGAIN; EPERM and EINVAL: namespaces; EPERM: a TLS beyond
// user space; ENOMEM; EMFILE, EFAULT: the pidfd. See clone(2).
func sysClone(t *task.Thread, a *Args) (uintptr, error) {
	if a[0]&unix.CLONE_PIDFD != 0 && a[0]&unix.CLONE_PARENT_SETTID != 0 {
		return 0, unix.EINVAL
	}
	return clone(t, &task.CloneArgs{
		Flags: a[0] & 0xffffffff &^ csignal, ExitSignal: int32(a[0] & csignal), SP: hal.UserAddr(a[1]),
		ParentTID: hal.UserAddr(a[2]), ChildTID: hal.UserAddr(a[3]), TLS: hal.UserAddr(a[4]),
	}, hal.UserAddr(a[2]))
}

// sysFork and sysVfork are clone with the flags of fork(2) and vfork(2): EAGAIN, ENOMEM.
func sysFork(t *task.Thread, _ *Args) (uintptr, error) {
	return clone(t, &task.CloneArgs{ExitSignal: int32(unix.SIGCHLD)}, 0)
}

func sysVfork(t *task.Thread, _ *Args) (uintptr, error) {
	return clone(t, &task.CloneArgs{Flags: unix.CLONE_VM | unix.CLONE_VFORK, ExitSignal: int32(unix.SIGCHLD)}, 0)
}

// Sizes of struct clone_args (uapi/linux/sched.h).
const (
	cloneArgsVer0 = 64
	cloneArgsSize = 88
)

// sysClone3 is clone with struct clone_args. E2BIG: larger than a page, or unknown
// fields that are not zero; EINVAL: smaller than version 0, set_tid without its size or
// the reverse, an exit signal that is none or not allowed, a stack without its size or
// the reverse; EPERM: set_tid without privilege; then as clone. See clone(2).
func sysClone3(t *task.Thread, a *Args) (uintptr, error) {
	switch size := a[1]; {
	case size > hal.PageSize:
		return 0, unix.E2BIG
	case size < cloneArgsVer0:
		return 0, unix.EINVAL
	}
	var b [cloneArgsSize]byte
	if err := getStruct(t, b[:], hal.UserAddr(a[0]), a[1]); err != nil {
		return 0, err
	}
	f := func(i int) uint64 { return le.Uint64(b[i*8:]) }
	c := task.CloneArgs{Flags: f(0), ChildTID: hal.UserAddr(f(2)), ParentTID: hal.UserAddr(f(3)),
		ExitSignal: int32(f(4) & csignal), TLS: hal.UserAddr(f(7))}
	setTID, setTIDSize, cgroup := f(8), f(9), f(10)
	stack, stackSize := f(5), f(6)
	switch {
	case setTIDSize > 32, setTID == 0 && setTIDSize > 0, setTID != 0 && setTIDSize == 0,
		f(4) > task.NumSignals,
		c.Flags&cloneIntoCgroup != 0 && (cgroup > 1<<31-1 || a[1] < cloneArgsSize),
		c.Flags&(unix.CLONE_DETACHED|csignal&^0x80) != 0,
		c.Flags&(unix.CLONE_THREAD|unix.CLONE_PARENT) != 0 && c.ExitSignal != 0,
		stack == 0 && stackSize > 0, stack != 0 && stackSize == 0,
		stack+stackSize < stack || stack+stackSize > uint64(hal.UserTop):
		return 0, unix.EINVAL
	}
	if setTIDSize > 0 {
		var id [4]byte
		if err := t.CopyIn(id[:], hal.UserAddr(setTID)); err != nil {
			return 0, err
		}
		if setTIDSize > 1 { // one PID namespace
			return 0, unix.EINVAL
		}
		c.SetTID = int32(le.Uint32(id[:]))
		if c.SetTID < 1 || c.SetTID >= pidMax {
			return 0, unix.EINVAL
		}
		if !t.Creds().Can(unix.CAP_SYS_ADMIN) && !t.Creds().Can(unix.CAP_CHECKPOINT_RESTORE) {
			return 0, unix.EPERM
		}
	}
	if c.Flags&cloneIntoCgroup != 0 {
		return 0, unix.EBADF // no descriptor is that of a cgroup
	}
	if stack != 0 {
		c.SP = hal.UserAddr(stack + stackSize)
	}
	return clone(t, &c, hal.UserAddr(f(1)))
}

// cloneIntoCgroup is CLONE_INTO_CGROUP (uapi/linux/sched.h).
const cloneIntoCgroup = 0x200000000

// pidMax is kernel.pid_max.
const pidMax = 32768

// sysExit ends the thread, sysExitGroup the process. See _exit(2), exit_group(2).
func sysExit(t *task.Thread, a *Args) (uintptr, error) {
	t.Exit(uint32(a[0]))
	return 0, nil
}

func sysExitGroup(t *task.Thread, a *Args) (uintptr, error) {
	t.ExitGroup(uint32(a[0]&0xff) << 8)
	return 0, nil
}

// wThread is __WNOTHREAD.
const wNoThread = 0x20000000

// sysWait4 waits for a child. EINVAL: options; ESRCH: INT_MIN; ECHILD; EFAULT comes
// after the child is gone. See wait4(2).
func sysWait4(t *task.Thread, a *Args) (uintptr, error) {
	pid, options := int32(a[0]), int(uint32(a[2]))
	if options&^(unix.WNOHANG|unix.WUNTRACED|unix.WCONTINUED|wNoThread|unix.WCLONE|unix.WALL) != 0 {
		return 0, unix.EINVAL
	}
	if pid == -1<<31 {
		return 0, unix.ESRCH
	}
	w := task.WaitArgs{PID: pid, Options: options | unix.WEXITED}
	if pid < -1 {
		w.PID, w.Group = 0, -pid
	}
	r, err := t.Wait(w)
	if err != nil || r.PID == 0 {
		return 0, err
	}
	if a[1] != 0 {
		if err := putU32(t, hal.UserAddr(a[1]), r.Status); err != nil {
			return 0, err
		}
	}
	if a[3] != 0 {
		if err := putUsage(t, hal.UserAddr(a[3]), r.Usage.Both()); err != nil {
			return 0, err
		}
	}
	return uintptr(r.PID), nil
}

// sysWaitid waits for a child and tells by siginfo. EINVAL: options, id, type; EBADF:
// P_PIDFD's descriptor; EAGAIN: it is non-blocking and there is nothing yet; ECHILD;
// EFAULT. See waitid(2).
func sysWaitid(t *task.Thread, a *Args) (uintptr, error) {
	n, err := waitid(t, a)
	if err == unix.EINVAL || err == unix.EBADF || err == unix.ECHILD || err == unix.EAGAIN {
		// Linux fills the structure with zeros on errors too, but for those that restart.
		var none [28]byte
		if a[2] != 0 && t.CopyOut(hal.UserAddr(a[2]), none[:]) != nil {
			err = unix.EFAULT
		}
	}
	return n, err
}

func waitid(t *task.Thread, a *Args) (uintptr, error) {
	id, options := int32(a[1]), int(uint32(a[3]))
	const states = unix.WEXITED | unix.WSTOPPED | unix.WCONTINUED
	if options&^(unix.WNOHANG|unix.WNOWAIT|states|wNoThread|unix.WCLONE|unix.WALL) != 0 || options&states == 0 {
		return 0, unix.EINVAL
	}
	w, again := task.WaitArgs{Options: options}, false
	switch int32(a[0]) {
	case unix.P_ALL:
		w.PID = -1
	case unix.P_PID:
		if w.PID = id; id <= 0 {
			return 0, unix.EINVAL
		}
	case unix.P_PGID:
		if w.Group = id; id < 0 {
			return 0, unix.EINVAL
		}
	case unix.P_PIDFD:
		if id < 0 {
			return 0, unix.EINVAL
		}
		p, nonblock, err := pidfdProcess(t, id)
		if err != nil {
			return 0, err
		}
		w.Child = p
		if nonblock && options&unix.WNOHANG == 0 {
			w.Options |= unix.WNOHANG
			again = true
		}
	default:
		return 0, unix.EINVAL
	}
	r, err := t.Wait(w)
	if again && err == nil && r.PID == 0 {
		err = unix.EAGAIN
	}
	if err != nil {
		return 0, err
	}
	if r.PID != 0 && a[4] != 0 {
		if err := putUsage(t, hal.UserAddr(a[4]), r.Usage.Both()); err != nil {
			return 0, err
		}
	}
	if a[2] == 0 {
		return 0, nil
	}
	// Linux writes these fields and no others (kernel/exit.c, waitid).
	var b [28]byte
	if r.PID != 0 {
		i := r.ChildInfo()
		le.PutUint32(b[0:], uint32(i.Signo))
		le.PutUint32(b[8:], uint32(i.Code))
		le.PutUint32(b[16:], uint32(i.PID))
		le.PutUint32(b[20:], i.UID)
		le.PutUint32(b[24:], uint32(i.Status))
	}
	at := hal.UserAddr(a[2])
	if err := t.CopyOut(at, b[:12]); err != nil {
		return 0, err
	}
	return 0, t.CopyOut(at+16, b[16:])
}

// sysSetTidAddress sets the word that the thread's end clears; it returns the thread's
// number. See set_tid_address(2).
func sysSetTidAddress(t *task.Thread, a *Args) (uintptr, error) {
	t.SetClearTID(hal.UserAddr(a[0]))
	return uintptr(t.TID()), nil
}

// sysSetpgid moves a process to a group: EINVAL, ESRCH, EPERM. See setpgid(2).
func sysSetpgid(t *task.Thread, a *Args) (uintptr, error) {
	return 0, t.SetPGID(int32(a[0]), int32(a[1]))
}

// sysGetpgid, sysGetpgrp and sysGetsid give group and session: ESRCH. See getpgid(2),
// getsid(2).
func sysGetpgid(t *task.Thread, a *Args) (uintptr, error) {
	p, err := findProcess(t, int32(a[0]))
	if err != nil {
		return 0, err
	}
	return uintptr(p.PGID()), nil
}

func sysGetpgrp(t *task.Thread, _ *Args) (uintptr, error) { return uintptr(t.Process().PGID()), nil }

func sysGetsid(t *task.Thread, a *Args) (uintptr, error) {
	p, err := findProcess(t, int32(a[0]))
	if err != nil {
		return 0, err
	}
	return uintptr(p.SID()), nil
}

// sysSetsid makes the caller the leader of a new session: EPERM if it leads a group.
// See setsid(2).
func sysSetsid(t *task.Thread, _ *Args) (uintptr, error) {
	id, err := t.SetSID()
	return uintptr(id), err
}

// Codes of arch_prctl (asm/prctl.h).
const (
	archSetGS    = 0x1001
	archSetFS    = 0x1002
	archGetFS    = 0x1003
	archGetGS    = 0x1004
	archGetCPUID = 0x1011
	archSetCPUID = 0x1012
)

// sysArchPrctl reads and sets the segment bases. EPERM: a base beyond user space;
// EFAULT; ENODEV: CPUID faulting; EINVAL: anything else. See arch_prctl(2).
func sysArchPrctl(t *task.Thread, a *Args) (uintptr, error) {
	at := hal.UserAddr(a[1])
	switch int32(a[0]) {
	case archSetFS, archSetGS:
		if at >= hal.UserTop {
			return 0, unix.EPERM
		}
		if int32(a[0]) == archSetFS {
			t.Ctx.FSBase = a[1]
		} else {
			t.Ctx.GSBase = a[1]
		}
		return 0, nil
	case archGetFS:
		return 0, putU64(t, at, t.Ctx.FSBase)
	case archGetGS:
		return 0, putU64(t, at, t.Ctx.GSBase)
	case archGetCPUID:
		return 1, nil
	case archSetCPUID:
		return 0, unix.ENODEV
	}
	return 0, unix.EINVAL
}

// Flags of personality (uapi/linux/personality.h): ADDR_NO_RANDOMIZE, and those that a
// program with more privileges does not inherit (PER_CLEAR_ON_SETID).
const (
	addrNoRandomize = 0x0040000
	perClearOnSetID = 0x0400000 | addrNoRandomize | 0x0200000 | 0x0100000
)

// sysPersonality sets the execution domain unless it is 0xffffffff, and returns the old
// one. See personality(2).
func sysPersonality(t *task.Thread, a *Args) (uintptr, error) {
	p := t.Process()
	old := p.Personality()
	if v := uint32(a[0]); v != 0xffffffff {
		p.SetPersonality(v)
	}
	return uintptr(old), nil
}
