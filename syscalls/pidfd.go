package syscalls

import (
	"reflect"

	"golang.org/x/sys/unix"

	"kiln/fs/anon"
	"kiln/fs/epoll"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/task"
)

var pidfdEntries = []Entry{
	{Nr: unix.SYS_PIDFD_OPEN, Name: "pidfd_open", Func: sysPidfdOpen, Support: Full},
	{Nr: unix.SYS_PIDFD_SEND_SIGNAL, Name: "pidfd_send_signal", Func: sysPidfdSendSignal, Support: Full},
	{Nr: unix.SYS_PIDFD_GETFD, Name: "pidfd_getfd", Func: sysPidfdGetfd, Support: Full},
	{Nr: unix.SYS_UNSHARE, Name: "unshare", Func: sysUnshare, Support: Partial, Note: "no namespaces (EINVAL, without privilege EPERM)"},
	{Nr: unix.SYS_SETNS, Name: "setns", Func: sysSetns, Support: Partial, Note: "checks its arguments and the privilege: there is only one namespace of each kind, the caller's"},
	{Nr: unix.SYS_KCMP, Name: "kcmp", Func: sysKcmp, Support: Partial, Note: "KCMP_IO and KCMP_SYSVSEM are always 0"},
}

// pidfdOf gives the process that a pidfd stands for: EBADF for any other file.
func pidfdOf(f *vfs.File) (*task.Process, error) {
	if p, ok := f.Ops.(*anon.PidFD); ok {
		return p.Process(), nil
	}
	return nil, unix.EBADF
}

// pidfdProcess is pidfdOf for a descriptor, and says whether that is non-blocking.
func pidfdProcess(t *task.Thread, fd int32) (p *task.Process, nonblock bool, err error) {
	f := t.FDs().Get(fd)
	if f == nil {
		return nil, false, unix.EBADF
	}
	defer f.DecRef()
	p, err = pidfdOf(f)
	return p, f.Nonblocking(), err
}

// attachPidfd is CLONE_PIDFD: a descriptor for the new process, its number at addr.
func attachPidfd(t *task.Thread, p *task.Process, addr hal.UserAddr) (undo func(), err error) {
	f, err := anon.NewPidFD(p, 0)
	if err != nil {
		return nil, err
	}
	fd, err := t.FDs().Install(f, 0, true)
	if err != nil {
		f.DecRef()
		return nil, err
	}
	undo = func() { t.FDs().Withdraw(fd, f) }
	if err := putU32(t, addr, uint32(fd)); err != nil {
		undo()
		return nil, err
	}
	return undo, nil
}

// sysPidfdOpen makes a descriptor for a process (pid, flags): EINVAL (flags but
// PIDFD_NONBLOCK; a number that is not positive; a thread that does not lead its group),
// ESRCH, EMFILE. See pidfd_open(2).
func sysPidfdOpen(t *task.Thread, a *Args) (uintptr, error) {
	pid, flags := int32(a[0]), uint32(a[1])
	if flags&^unix.PIDFD_NONBLOCK != 0 || pid <= 0 {
		return 0, unix.EINVAL
	}
	p := t.Kernel().Process(pid)
	if p == nil {
		if t.Kernel().Thread(pid) != nil {
			return 0, unix.EINVAL
		}
		return 0, unix.ESRCH
	}
	f, err := anon.NewPidFD(p, flags)
	if err != nil {
		return 0, err
	}
	fd, err := t.FDs().Install(f, 0, true)
	if err != nil {
		f.DecRef()
	}
	return uintptr(fd), err
}

// sysPidfdSendSignal sends a signal (pidfd, signal, siginfo or null, flags); a directory
// /proc/PID will do for the first. EINVAL (flags), EBADF, EFAULT, EINVAL (another number in
// siginfo), EPERM (it claims to come from the kernel), ESRCH (waited for), EINVAL (signal),
// EPERM. See pidfd_send_signal(2).
func sysPidfdSendSignal(t *task.Thread, a *Args) (uintptr, error) {
	if uint32(a[3]) != 0 {
		return 0, unix.EINVAL
	}
	f := t.FDs().Get(int32(a[0]))
	if f == nil {
		return 0, unix.EBADF
	}
	defer f.DecRef()
	p, err := pidfdOf(f)
	if err != nil {
		if p = procDirProcess(f); p == nil {
			return 0, unix.EBADF
		}
	}
	sig := int32(a[1])
	info := userSignal(t, sig, task.SIUser)
	if a[2] != 0 {
		var b [128]byte
		if err := t.CopyIn(b[:], hal.UserAddr(a[2])); err != nil {
			return 0, err
		}
		info = task.ParseSignalInfo(b[:])
		switch {
		case !wholeInfo(&b, info.Signo, info.Code):
			return 0, unix.E2BIG
		case info.Signo != sig:
			return 0, unix.EINVAL
		case (info.Code >= 0 || info.Code == task.SITkill) && t.TID() != p.PID():
			return 0, unix.EPERM
		}
	}
	if p.Reaped() {
		return 0, unix.ESRCH
	}
	return 0, killOne(t, p, info)
}

// procDirProcess is the process of an open /proc/PID, nil for other files.
func procDirProcess(f *vfs.File) *task.Process {
	if d, ok := f.Inode().(interface{ Tagged() any }); ok && f.Readable() {
		p, _ := d.Tagged().(*task.Process)
		return p
	}
	return nil
}

// mayAccess is ptrace_may_access(PTRACE_MODE_ATTACH_REALCREDS): the ids of the other are
// all the caller's real ones and its capabilities no more than the caller's, and it can
// be dumped; or CAP_SYS_PTRACE.
func mayAccess(t *task.Thread, p *task.Process) bool {
	if p == t.Process() {
		return true
	}
	c, x := t.Creds(), p.Creds()
	if x != nil && !x.Domain.Within(c.Domain) {
		return false
	}
	if c.Can(unix.CAP_SYS_PTRACE) {
		return true
	}
	return x != nil && p.Dumpable() == 1 && x.Permitted&^c.Permitted == 0 &&
		c.UID == x.UID && c.UID == x.EUID && c.UID == x.SUID && c.GID == x.GID && c.GID == x.EGID && c.GID == x.SGID
}

// sysPidfdGetfd gives a duplicate of another process's descriptor (pidfd, descriptor,
// flags): EINVAL (flags), EBADF (pidfd), ESRCH (waited for, or ended), EPERM, EBADF, EMFILE.
// See pidfd_getfd(2).
func sysPidfdGetfd(t *task.Thread, a *Args) (uintptr, error) {
	if uint32(a[2]) != 0 {
		return 0, unix.EINVAL
	}
	p, _, err := pidfdProcess(t, int32(a[0]))
	if err != nil {
		return 0, err
	}
	if p.Reaped() {
		return 0, unix.ESRCH
	}
	var f *vfs.File
	if err := p.Steady(func() error {
		done(f)
		if f = nil; !mayAccess(t, p) {
			return unix.EPERM
		}
		var fds *vfs.FDTable
		if l := p.Leader(); l != nil {
			fds = l.FDs()
		}
		if fds == nil {
			return unix.ESRCH
		}
		if f = fds.Get(int32(a[1])); f == nil {
			return unix.EBADF
		}
		return nil
	}); err != nil {
		return 0, err
	}
	fd, err := t.FDs().Install(f, 0, true)
	if err != nil {
		f.DecRef()
	}
	return uintptr(fd), err
}

// Flags of unshare and setns (uapi/linux/sched.h).
const (
	cloneNewTime = 0x80
	namespaces   = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
		unix.CLONE_NEWPID | unix.CLONE_NEWNET | cloneNewTime
)

// sysUnshare takes the thread out of what it shares: EINVAL for unknown flags, for threads
// or handlers that are shared, and, like EPERM before it, for namespaces. See unshare(2).
func sysUnshare(t *task.Thread, a *Args) (uintptr, error) {
	flags := a[0]
	if flags&unix.CLONE_NEWUSER != 0 {
		flags |= unix.CLONE_THREAD | unix.CLONE_FS
	}
	if flags&unix.CLONE_VM != 0 {
		flags |= unix.CLONE_SIGHAND
	}
	if flags&unix.CLONE_SIGHAND != 0 {
		flags |= unix.CLONE_THREAD
	}
	if flags&unix.CLONE_NEWNS != 0 {
		flags |= unix.CLONE_FS
	}
	const known = unix.CLONE_THREAD | unix.CLONE_FS | unix.CLONE_SIGHAND | unix.CLONE_VM | unix.CLONE_FILES | unix.CLONE_SYSVSEM | namespaces
	switch {
	case flags&^known != 0,
		flags&unix.CLONE_THREAD != 0 && t.Process().NumThreads() > 1,
		flags&(unix.CLONE_SIGHAND|unix.CLONE_VM) != 0 && t.SharesSignals(),
		flags&unix.CLONE_VM != 0 && t.Space().Shared(),
		flags&unix.CLONE_NEWUSER != 0:
		return 0, unix.EINVAL
	case flags&namespaces != 0 && !t.Creds().Can(unix.CAP_SYS_ADMIN):
		return 0, unix.EPERM
	case flags&namespaces != 0:
		return 0, unix.EINVAL
	}
	if flags&unix.CLONE_FS != 0 {
		t.UnshareFS()
	}
	if flags&unix.CLONE_FILES != 0 {
		t.UnshareFiles()
	}
	if flags&unix.CLONE_SYSVSEM != 0 {
		t.UnshareSemUndo()
	}
	return 0, nil
}

// sysSetns moves the caller to namespaces of a pidfd's process (descriptor, kinds): EBADF,
// EINVAL (another kind of file; kinds that there are not, none, or the user namespace, where
// everybody is), ESRCH, EPERM. Since all share one of each kind, nothing changes. See
// setns(2).
func sysSetns(t *task.Thread, a *Args) (uintptr, error) {
	f := t.FDs().Get(int32(a[0]))
	if f == nil {
		return 0, unix.EBADF
	}
	defer f.DecRef()
	p, err := pidfdOf(f)
	kinds := uint32(a[1])
	switch {
	case f.Flags()&unix.O_PATH != 0:
		return 0, unix.EBADF
	case err != nil, kinds == 0, kinds&^namespaces != 0:
		return 0, unix.EINVAL
	case p.Reaped() || p.Ended():
		return 0, unix.ESRCH
	case !mayAccess(t, p):
		return 0, unix.EPERM
	case kinds&unix.CLONE_NEWUSER != 0:
		return 0, unix.EINVAL
	case !t.Creds().Can(unix.CAP_SYS_ADMIN):
		return 0, unix.EPERM
	}
	return 0, nil
}

// Types of kcmp (uapi/linux/kcmp.h).
const (
	kcmpFile = iota
	kcmpVM
	kcmpFiles
	kcmpFS
	kcmpSighand
	kcmpIO
	kcmpSysVSem
	kcmpEpollTFD
)

// order is kcmp's answer: 0 for the same object, else 1 or 2 in an order that tells
// nothing of addresses.
func order(x, y any) uintptr {
	a, b := uint64(reflect.ValueOf(x).Pointer())*0x9e3779b97f4a7c15, uint64(reflect.ValueOf(y).Pointer())*0x9e3779b97f4a7c15
	switch {
	case a < b:
		return 1
	case a > b:
		return 2
	}
	return 0
}

// sysKcmp says whether two processes share an object (pid1, pid2, type, index1, index2):
// ESRCH, EPERM, EINVAL (type), EBADF, EFAULT, ENOENT. See kcmp(2).
func sysKcmp(t *task.Thread, a *Args) (uintptr, error) {
	var th [2]*task.Thread
	for i := range th {
		if th[i] = t.Kernel().Thread(int32(a[i])); th[i] == nil {
			return 0, unix.ESRCH
		}
	}
	for _, o := range th {
		if !mayAccess(t, o.Process()) {
			return 0, unix.EPERM
		}
	}
	x, y := th[0], th[1]
	switch int32(a[2]) {
	case kcmpFile:
		f, g := threadFile(x, a[3]), threadFile(y, a[4])
		defer done(f)
		defer done(g)
		if f == nil || g == nil {
			return 0, unix.EBADF
		}
		return order(f, g), nil
	case kcmpVM:
		return order(x.Space(), y.Space()), nil
	case kcmpFiles:
		return order(x.FDs(), y.FDs()), nil
	case kcmpFS:
		return order(x.FS(), y.FS()), nil
	case kcmpSighand:
		return order(x.SignalHand(), y.SignalHand()), nil
	case kcmpIO, kcmpSysVSem:
		return 0, nil // nobody has the one; the other is its thread's alone to see
	case kcmpEpollTFD:
		return kcmpEpoll(t, x, y, a)
	}
	return 0, unix.EINVAL
}

func threadFile(t *task.Thread, fd uint64) *vfs.File {
	fds := t.FDs()
	if fds == nil || fd > 1<<31-1 {
		return nil
	}
	return fds.Get(int32(fd))
}

// kcmpEpoll compares a file with the one that an epoll set of the second process has
// registered (struct kcmp_epoll_slot).
func kcmpEpoll(t, x, y *task.Thread, a *Args) (uintptr, error) {
	var b [12]byte
	if err := t.CopyIn(b[:], hal.UserAddr(a[4])); err != nil {
		return 0, err
	}
	f := threadFile(x, a[3])
	defer done(f)
	if f == nil {
		return 0, unix.EBADF
	}
	set := threadFile(y, uint64(le.Uint32(b[:])))
	defer done(set)
	if set == nil {
		return 0, unix.EBADF
	}
	ep := epoll.Of(set)
	if ep == nil {
		return 0, unix.EINVAL
	}
	g := ep.Registered(int32(le.Uint32(b[4:])), le.Uint32(b[8:]))
	if g == nil {
		return 0, unix.ENOENT
	}
	return order(f, g), nil
}
