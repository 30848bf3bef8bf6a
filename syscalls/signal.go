package syscalls

import (
	"slices"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

var signalEntries = []Entry{
	{Nr: unix.SYS_RT_SIGACTION, Name: "rt_sigaction", Func: sysRtSigaction, Support: Full},
	{Nr: unix.SYS_RT_SIGPROCMASK, Name: "rt_sigprocmask", Func: sysRtSigprocmask, Support: Full},
	{Nr: unix.SYS_RT_SIGRETURN, Name: "rt_sigreturn", Func: sysRtSigreturn, Support: Full},
	{Nr: unix.SYS_RT_SIGPENDING, Name: "rt_sigpending", Func: sysRtSigpending, Support: Full},
	{Nr: unix.SYS_RT_SIGTIMEDWAIT, Name: "rt_sigtimedwait", Func: sysRtSigtimedwait, Support: Full},
	{Nr: unix.SYS_RT_SIGSUSPEND, Name: "rt_sigsuspend", Func: sysRtSigsuspend, Support: Full},
	{Nr: unix.SYS_RT_SIGQUEUEINFO, Name: "rt_sigqueueinfo", Func: sysRtSigqueueinfo, Support: Full},
	{Nr: unix.SYS_RT_TGSIGQUEUEINFO, Name: "rt_tgsigqueueinfo", Func: sysRtTgsigqueueinfo, Support: Full},
	{Nr: unix.SYS_SIGALTSTACK, Name: "sigaltstack", Func: sysSigaltstack, Support: Full},
	{Nr: unix.SYS_KILL, Name: "kill", Func: sysKill, Support: Full},
	{Nr: unix.SYS_TKILL, Name: "tkill", Func: sysTkill, Support: Full},
	{Nr: unix.SYS_TGKILL, Name: "tgkill", Func: sysTgkill, Support: Full},
	{Nr: unix.SYS_PAUSE, Name: "pause", Func: sysPause, Support: Full},
	{Nr: unix.SYS_RESTART_SYSCALL, Name: "restart_syscall", Func: sysRestartSyscall, Support: Full},
}

// sigSetSize is sizeof(sigset_t) as the kernel has it.
const sigSetSize = 8

func getSigSet(t *task.Thread, at uint64) (task.SigSet, error) {
	v, err := getU64(t, hal.UserAddr(at))
	return task.SigSet(v), err
}

// sysRtSigaction sets and gets a handler (signal, new, old, size): EINVAL (size),
// EFAULT (new), EINVAL (signal; SIGKILL or SIGSTOP set), EFAULT (old). Unknown SA_ flags
// are cleared, as Linux does since 5.11. See sigaction(2).
func sysRtSigaction(t *task.Thread, a *Args) (uintptr, error) {
	if a[3] != sigSetSize {
		return 0, unix.EINVAL
	}
	var b [32]byte // struct kernel_sigaction: handler, flags, restorer, mask
	var act task.SigAction
	set := (*task.SigAction)(nil)
	if a[1] != 0 {
		if err := t.CopyIn(b[:], hal.UserAddr(a[1])); err != nil {
			return 0, err
		}
		act = task.SigAction{Handler: le.Uint64(b[0:]), Flags: le.Uint64(b[8:]), Restorer: le.Uint64(b[16:]),
			Mask: task.SigSet(le.Uint64(b[24:]))}
		set = &act
	}
	old, err := t.Process().Action(int32(a[0]), set)
	if err != nil || a[2] == 0 {
		return 0, err
	}
	le.PutUint64(b[0:], old.Handler)
	le.PutUint64(b[8:], old.Flags)
	le.PutUint64(b[16:], old.Restorer)
	le.PutUint64(b[24:], uint64(old.Mask))
	return 0, t.CopyOut(hal.UserAddr(a[2]), b[:])
}

// sysRtSigprocmask changes the mask (how, new, old, size): EINVAL (size), EFAULT (new),
// EINVAL (how), EFAULT (old). See sigprocmask(2).
func sysRtSigprocmask(t *task.Thread, a *Args) (uintptr, error) {
	if a[3] != sigSetSize {
		return 0, unix.EINVAL
	}
	old := t.Mask()
	if a[1] != 0 {
		set, err := getSigSet(t, a[1])
		if err != nil {
			return 0, err
		}
		switch int32(a[0]) {
		case unix.SIG_BLOCK:
			set |= old
		case unix.SIG_UNBLOCK:
			set = old &^ set
		case unix.SIG_SETMASK:
		default:
			return 0, unix.EINVAL
		}
		t.SetMask(set)
	}
	if a[2] == 0 {
		return 0, nil
	}
	return 0, putU64(t, hal.UserAddr(a[2]), uint64(old))
}

// sysRtSigreturn restores the state that a handler's frame holds. The value is RAX of
// the interrupted program. See sigreturn(2).
func sysRtSigreturn(t *task.Thread, _ *Args) (uintptr, error) {
	t.SigReturn()
	return uintptr(t.Ctx.RAX), nil
}

// sysRtSigpending gives the blocked signals that wait: EINVAL (size), EFAULT. A smaller
// size gets the first bytes. See sigpending(2).
func sysRtSigpending(t *task.Thread, a *Args) (uintptr, error) {
	if a[1] > sigSetSize {
		return 0, unix.EINVAL
	}
	var b [sigSetSize]byte
	le.PutUint64(b[:], uint64(t.Pending()&t.Mask()))
	return 0, t.CopyOut(hal.UserAddr(a[0]), b[:a[1]])
}

// sysRtSigtimedwait takes a signal (set, info, timeout, size): EINVAL (size), EFAULT
// (set), EFAULT, EINVAL (time), EAGAIN, EINTR, EFAULT (info: the signal is lost). See
// sigtimedwait(2).
func sysRtSigtimedwait(t *task.Thread, a *Args) (uintptr, error) {
	if a[3] != sigSetSize {
		return 0, unix.EINVAL
	}
	set, err := getSigSet(t, a[0])
	if err != nil {
		return 0, err
	}
	deadline := int64(hal.NoDeadline)
	if a[2] != 0 {
		ns, err := getTimespec(t, hal.UserAddr(a[2]))
		if err != nil {
			return 0, err
		}
		if deadline = 0; ns != 0 {
			deadline = t.Deadline(ns)
		}
	}
	info, err := t.SigTimedWait(set, deadline)
	if err != nil {
		return 0, err
	}
	if a[1] != 0 {
		b := info.Bytes()
		if err := t.CopyOut(hal.UserAddr(a[1]), b[:]); err != nil {
			return 0, err
		}
	}
	return uintptr(info.Signo), nil
}

// waitSignal parks the thread until a signal comes.
func waitSignal(t *task.Thread) error {
	for t.Block(hal.NoDeadline, wait.Interruptible) == wait.Ready {
	}
	return wait.ErrRestartNoHnd
}

// sysRtSigsuspend waits under another mask: EINVAL (size), EFAULT, EINTR. See
// sigsuspend(2).
func sysRtSigsuspend(t *task.Thread, a *Args) (uintptr, error) {
	if a[1] != sigSetSize {
		return 0, unix.EINVAL
	}
	set, err := getSigSet(t, a[0])
	if err != nil {
		return 0, err
	}
	t.SetUserSigmask(set)
	err = waitSignal(t)
	t.RestoreSigmask(true)
	return 0, err
}

// sysPause waits for a signal with a handler: EINTR. See pause(2).
func sysPause(t *task.Thread, _ *Args) (uintptr, error) { return 0, waitSignal(t) }

// sysSigaltstack sets and gets the alternate stack: EFAULT (new), EPERM, EINVAL, ENOMEM,
// EFAULT (old). See sigaltstack(2).
func sysSigaltstack(t *task.Thread, a *Args) (uintptr, error) {
	var b [24]byte // stack_t: pointer, flags, padding, size
	old := t.AltStack(t.Ctx.RSP)
	if a[0] != 0 {
		if err := t.CopyIn(b[:], hal.UserAddr(a[0])); err != nil {
			return 0, err
		}
		if err := t.SetAltStack(task.AltStack{SP: le.Uint64(b[0:]), Flags: le.Uint32(b[8:]), Size: le.Uint64(b[16:])}); err != nil {
			return 0, err
		}
	}
	if a[1] == 0 {
		return 0, nil
	}
	clear(b[:])
	le.PutUint64(b[0:], old.SP)
	le.PutUint32(b[8:], old.Flags)
	le.PutUint64(b[16:], old.Size)
	return 0, t.CopyOut(hal.UserAddr(a[1]), b[:])
}

// capKill is CAP_KILL.
const capKill = 5

// mayKill is check_kill_permission: EINVAL for no signal, EPERM.
func mayKill(t *task.Thread, p *task.Process, sig int32) error {
	if sig < 0 || sig > task.NumSignals {
		return unix.EINVAL
	}
	if p == t.Process() {
		return nil
	}
	c, x := t.Creds(), p.Creds()
	switch {
	case x == nil:
		return nil // on its way from its last thread to a zombie
	case c.EUID == x.SUID, c.EUID == x.UID, c.UID == x.SUID, c.UID == x.UID, c.Can(capKill),
		sig == int32(unix.SIGCONT) && p.SID() == t.Process().SID():
		return nil
	}
	return unix.EPERM
}

func userSignal(t *task.Thread, sig, code int32) task.SignalInfo {
	return task.SignalInfo{Signo: sig, Code: code, PID: t.Process().PID(), UID: t.Creds().UID, Sender: t}
}

// sysKill sends a signal to a process, a group (0, -pgid) or everybody but process 1 and
// the caller (-1). ESRCH: none; EINVAL: signal; EPERM: not allowed for any. Signal 0 only
// checks. See kill(2).
func sysKill(t *task.Thread, a *Args) (uintptr, error) {
	pid, sig := int32(a[0]), int32(a[1])
	k := t.Kernel()
	info := userSignal(t, sig, task.SIUser)
	if pid > 0 {
		return 0, killNumber(t, pid, info)
	}
	var err error
	k.Together(func() { err = killSeveral(t, pid, info) })
	return 0, err
}

// killNumber sends to the process that a number names, be it that of any of its threads.
func killNumber(t *task.Thread, pid int32, info task.SignalInfo) error {
	p := t.Kernel().Process(pid)
	if p == nil {
		o := t.Kernel().Thread(pid)
		if o == nil {
			return unix.ESRCH
		}
		p = o.Process()
	}
	return killOne(t, p, info)
}

func killSeveral(t *task.Thread, pid int32, info task.SignalInfo) error {
	k := t.Kernel()
	var to []*task.Process
	switch pid {
	case -1 << 31:
		return unix.ESRCH
	case -1:
		for _, p := range k.Processes() {
			if p.PID() > 1 && p != t.Process() {
				to = append(to, p)
			}
		}
	case 0:
		to = k.Group(t.Process().PGID())
	default:
		to = k.Group(-pid)
	}
	err, ok := error(unix.ESRCH), false
	for _, p := range to {
		e := killOne(t, p, info)
		if e == nil || pid == -1 && e == unix.EPERM {
			ok = true
		} else {
			err = e
		}
	}
	if ok {
		return nil
	}
	return err
}

func killOne(t *task.Thread, p *task.Process, info task.SignalInfo) error {
	if err := mayKill(t, p, info.Signo); err != nil || info.Signo == 0 {
		return err
	}
	return p.Queue(info)
}

// sysTkill and sysTgkill send a signal to one thread: EINVAL (a number that is not
// positive), ESRCH (none, or not in tgid), EINVAL (signal), EPERM. See tkill(2).
func sysTkill(t *task.Thread, a *Args) (uintptr, error) {
	return 0, killThread(t, -1, int32(a[0]), userSignal(t, int32(a[1]), task.SITkill))
}

func sysTgkill(t *task.Thread, a *Args) (uintptr, error) {
	if int32(a[0]) <= 0 {
		return 0, unix.EINVAL
	}
	return 0, killThread(t, int32(a[0]), int32(a[1]), userSignal(t, int32(a[2]), task.SITkill))
}

func killThread(t *task.Thread, tgid, tid int32, info task.SignalInfo) error {
	if tid <= 0 {
		return unix.EINVAL
	}
	if tid == t.TID() && (tgid <= 0 || tgid == t.Process().PID()) { // as raise does
		if err := mayKill(t, t.Process(), info.Signo); err != nil || info.Signo == 0 {
			return err
		}
		return t.Queue(info)
	}
	o := t.Kernel().Thread(tid)
	if p := t.Kernel().Process(tid); o == nil && p != nil && (tgid < 0 || tgid == tid) {
		return mayKill(t, p, info.Signo) // the leader has ended, its number is taken
	}
	if o == nil || tgid > 0 && o.Process().PID() != tgid {
		return unix.ESRCH
	}
	if err := mayKill(t, o.Process(), info.Signo); err != nil || info.Signo == 0 {
		return err
	}
	return o.Queue(info)
}

// getSigInfo reads the siginfo_t that a program sends; its number is sig. EFAULT; EPERM:
// it claims to come from the kernel or from kill, and to is not the calling thread.
func getSigInfo(t *task.Thread, at uint64, sig, to int32) (task.SignalInfo, error) {
	var b [128]byte
	if err := t.CopyIn(b[:], hal.UserAddr(at)); err != nil {
		return task.SignalInfo{}, err
	}
	le.PutUint32(b[:], uint32(sig))
	i := task.ParseSignalInfo(b[:])
	if !wholeInfo(&b, sig, i.Code) {
		return i, unix.E2BIG
	}
	if (i.Code >= 0 || i.Code == task.SITkill) && to != t.TID() {
		return i, unix.EPERM
	}
	return i, nil
}

// siginfoKernel is the part of a siginfo_t that the kernel knows; the rest is for layouts to
// come (SI_EXPANSION_SIZE).
const siginfoKernel = 48

// wholeInfo says that the kernel knows all that b says (post_copy_siginfo_from_user).
func wholeInfo(b *[128]byte, sig, code int32) bool {
	return knownInfo(sig, code) || !slices.ContainsFunc(b[siginfoKernel:], func(c byte) bool { return c != 0 })
}

// knownInfo says whether the kernel knows what a siginfo_t of this signal and code holds
// (known_siginfo_layout).
func knownInfo(sig, code int32) bool {
	const kernel, dethread, asyncNL = 0x80, -7, -60
	if code <= 0 || code == kernel {
		return code >= dethread || code == asyncNL
	}
	last := map[int32]int32{int32(unix.SIGILL): 11, int32(unix.SIGFPE): 15, int32(unix.SIGSEGV): 9, int32(unix.SIGBUS): 5, int32(unix.SIGTRAP): 6, int32(unix.SIGSYS): 2}
	if n, ok := last[sig]; ok {
		return code <= n
	}
	return code <= 6 // of SIGCHLD and SIGPOLL, and as if of SIGPOLL
}

// sysRtSigqueueinfo queues a signal with its data for a process: EFAULT, EPERM, ESRCH,
// EINVAL, EAGAIN. See rt_sigqueueinfo(2).
func sysRtSigqueueinfo(t *task.Thread, a *Args) (uintptr, error) {
	pid := int32(a[0])
	info, err := getSigInfo(t, a[2], int32(a[1]), pid)
	if err != nil {
		return 0, err
	}
	return 0, killNumber(t, pid, info)
}

// sysRtTgsigqueueinfo does it for a thread: EFAULT, EINVAL, EPERM, ESRCH, EAGAIN.
func sysRtTgsigqueueinfo(t *task.Thread, a *Args) (uintptr, error) {
	tgid, tid := int32(a[0]), int32(a[1])
	info, err := getSigInfo(t, a[3], int32(a[2]), tid)
	if err == unix.EFAULT || err == unix.E2BIG {
		return 0, err
	}
	if tgid <= 0 || tid <= 0 {
		return 0, unix.EINVAL
	}
	if err != nil {
		return 0, err
	}
	return 0, killThread(t, tgid, tid, info)
}

// sysRestartSyscall goes on with a call that a signal without a handler interrupted:
// EINTR if there is none. See restart_syscall(2).
func sysRestartSyscall(t *task.Thread, _ *Args) (uintptr, error) { return t.Restart() }
