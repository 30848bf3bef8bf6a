package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/task"
)

var limitEntries = []Entry{
	{Nr: unix.SYS_PRLIMIT64, Name: "prlimit64", Func: sysPrlimit64, Support: Full},
	{Nr: unix.SYS_GETRLIMIT, Name: "getrlimit", Func: sysGetrlimit, Support: Full},
	{Nr: unix.SYS_SETRLIMIT, Name: "setrlimit", Func: sysSetrlimit, Support: Full},
	{Nr: unix.SYS_GETRUSAGE, Name: "getrusage", Func: sysGetrusage, Support: Partial,
		Note: "block operations (inblock, oublock) are 0"},
	{Nr: unix.SYS_TIMES, Name: "times", Func: sysTimes, Support: Full},
}

// rlimit is do_prlimit: EINVAL (resource, soft above hard), EPERM (beyond fs.nr_open,
// or a hard limit raised without CAP_SYS_RESOURCE).
func rlimit(t *task.Thread, p *task.Process, resource uint32, set *task.Rlimit) (task.Rlimit, error) {
	if resource >= task.NumLimits {
		return task.Rlimit{}, unix.EINVAL
	}
	if set != nil {
		if set.Cur > set.Max {
			return task.Rlimit{}, unix.EINVAL
		}
		if resource == task.RlimitNofile && set.Max > task.MaxNofile {
			return task.Rlimit{}, unix.EPERM
		}
	}
	old := p.Rlimit(int(resource))
	if set != nil {
		if set.Max > old.Max && !t.Creds().Can(unix.CAP_SYS_RESOURCE) {
			return old, unix.EPERM
		}
		p.SetRlimit(int(resource), *set)
	}
	return old, nil
}

func getRlimit(t *task.Thread, at hal.UserAddr) (l task.Rlimit, err error) {
	var b [16]byte
	err = t.CopyIn(b[:], at)
	return task.Rlimit{Cur: le.Uint64(b[:]), Max: le.Uint64(b[8:])}, err
}

// sysPrlimit64 gets and sets a limit of a process (pid, resource, new, old): EFAULT
// (new), ESRCH, EPERM (another's process), EINVAL, EPERM, EFAULT (old). See prlimit(2).
func sysPrlimit64(t *task.Thread, a *Args) (uintptr, error) {
	var set *task.Rlimit
	if a[2] != 0 {
		l, err := getRlimit(t, hal.UserAddr(a[2]))
		if err != nil {
			return 0, err
		}
		set = &l
	}
	p := t.Process()
	if pid := int32(a[0]); pid != 0 && pid != t.TID() {
		if o := t.Kernel().Thread(pid); o != nil {
			p = o.Process()
		} else if p = t.Kernel().Process(pid); p == nil {
			return 0, unix.ESRCH
		}
		if p != t.Process() && !sameUser(t, p.Creds()) {
			return 0, unix.EPERM
		}
	}
	old, err := rlimit(t, p, uint32(a[1]), set)
	if err != nil {
		return 0, err
	}
	if a[3] == 0 {
		return 0, nil
	}
	return 0, putPair(t, hal.UserAddr(a[3]), int64(old.Cur), int64(old.Max))
}

// sameUser is check_prlimit_permission: all of o's ids are the caller's real ones, or
// CAP_SYS_RESOURCE.
func sameUser(t *task.Thread, x *vfs.Creds) bool {
	c := t.Creds()
	return x != nil && c.UID == x.EUID && c.UID == x.SUID && c.UID == x.UID &&
		c.GID == x.EGID && c.GID == x.SGID && c.GID == x.GID || c.Can(unix.CAP_SYS_RESOURCE)
}

// sysGetrlimit: EINVAL, EFAULT. sysSetrlimit: EFAULT, EINVAL, EPERM. See getrlimit(2).
func sysGetrlimit(t *task.Thread, a *Args) (uintptr, error) {
	l, err := rlimit(t, t.Process(), uint32(a[0]), nil)
	if err != nil {
		return 0, err
	}
	return 0, putPair(t, hal.UserAddr(a[1]), int64(l.Cur), int64(l.Max))
}

func sysSetrlimit(t *task.Thread, a *Args) (uintptr, error) {
	l, err := getRlimit(t, hal.UserAddr(a[1]))
	if err == nil {
		_, err = rlimit(t, t.Process(), uint32(a[0]), &l)
	}
	return 0, err
}

// putUsage writes struct rusage (uapi/linux/resource.h).
func putUsage(t *task.Thread, at hal.UserAddr, u *task.Usage) error {
	var b [144]byte
	put := func(i int, v int64) { le.PutUint64(b[i*8:], uint64(v)) }
	put(0, u.User/second)
	put(1, u.User%second/1000)
	put(2, u.System/second)
	put(3, u.System%second/1000)
	put(4, u.MaxRSS*(hal.PageSize/1024))
	put(8, int64(u.MinFlt))
	put(9, int64(u.MajFlt))
	put(16, int64(u.Voluntary))
	put(17, int64(u.Involuntary))
	return t.CopyOut(at, b[:])
}

// sysGetrusage tells what the process, its children or the thread used: EINVAL, EFAULT.
// See getrusage(2).
func sysGetrusage(t *task.Thread, a *Args) (uintptr, error) {
	var u task.Usage
	switch int32(a[0]) {
	case unix.RUSAGE_SELF:
		u = t.Process().Usage()
	case unix.RUSAGE_CHILDREN:
		u = t.Process().ChildUsage()
	case unix.RUSAGE_THREAD:
		u = t.Usage()
	default:
		return 0, unix.EINVAL
	}
	return 0, putUsage(t, hal.UserAddr(a[1]), &u)
}

// tick is a clock tick of USER_HZ 100 in nanoseconds.
const tick = int64(1e7)

// sysTimes gives CPU times in ticks and returns the ticks since boot, plus Linux'
// offset of the jiffies counter (none here). EFAULT. See times(2).
func sysTimes(t *task.Thread, a *Args) (uintptr, error) {
	if a[0] != 0 {
		u := t.Process().Usage()
		var b [32]byte
		for i, v := range [...]int64{u.User, u.System, u.ChildUser, u.ChildSystem} {
			le.PutUint64(b[i*8:], uint64(v/tick))
		}
		if err := t.CopyOut(hal.UserAddr(a[0]), b[:]); err != nil {
			return 0, err
		}
	}
	return uintptr(t.Kernel().M.Nanotime() / tick), nil
}
