package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/task"
)

const policyNote = "kept and reported; threads run first come, first served"

var schedEntries = []Entry{
	{Nr: unix.SYS_SCHED_YIELD, Name: "sched_yield", Func: sysSchedYield, Support: Full},
	{Nr: unix.SYS_SCHED_SETAFFINITY, Name: "sched_setaffinity", Func: sysSchedSetaffinity, Support: Full},
	{Nr: unix.SYS_SCHED_GETAFFINITY, Name: "sched_getaffinity", Func: sysSchedGetaffinity, Support: Full},
	{Nr: unix.SYS_SCHED_SETSCHEDULER, Name: "sched_setscheduler", Func: sysSchedSetscheduler, Support: Partial, Note: policyNote},
	{Nr: unix.SYS_SCHED_GETSCHEDULER, Name: "sched_getscheduler", Func: sysSchedGetscheduler, Support: Full},
	{Nr: unix.SYS_SCHED_SETPARAM, Name: "sched_setparam", Func: sysSchedSetparam, Support: Partial, Note: policyNote},
	{Nr: unix.SYS_SCHED_GETPARAM, Name: "sched_getparam", Func: sysSchedGetparam, Support: Full},
	{Nr: unix.SYS_SCHED_GET_PRIORITY_MAX, Name: "sched_get_priority_max", Func: sysSchedGetPriorityMax, Support: Full},
	{Nr: unix.SYS_SCHED_GET_PRIORITY_MIN, Name: "sched_get_priority_min", Func: sysSchedGetPriorityMin, Support: Full},
	{Nr: unix.SYS_SCHED_RR_GET_INTERVAL, Name: "sched_rr_get_interval", Func: sysSchedRrGetInterval, Support: Full},
	{Nr: unix.SYS_GETPRIORITY, Name: "getpriority", Func: sysGetpriority, Support: Full},
	{Nr: unix.SYS_SETPRIORITY, Name: "setpriority", Func: sysSetpriority, Support: Partial, Note: policyNote},
	{Nr: unix.SYS_GETCPU, Name: "getcpu", Func: sysGetcpu, Support: Full},
	{Nr: unix.SYS_IOPRIO_SET, Name: "ioprio_set", Func: sysIoprioSet, Support: Partial, Note: "checked and not kept: disks serve requests in order"},
	{Nr: unix.SYS_IOPRIO_GET, Name: "ioprio_get", Func: sysIoprioGet, Support: Partial, Note: "always the default"},
}

// sysSchedYield lets other threads run. See sched_yield(2).
func sysSchedYield(t *task.Thread, _ *Args) (uintptr, error) {
	t.Yield()
	return 0, nil
}

// mayNice says whether t may change o's scheduling: EPERM unless o's user is t's or
// with CAP_SYS_NICE.
func mayNice(t, o *task.Thread) error {
	c, x := t.Creds(), o.Creds()
	if c.EUID == x.EUID || c.EUID == x.UID || c.Can(unix.CAP_SYS_NICE) {
		return nil
	}
	return unix.EPERM
}

// sysSchedSetaffinity (pid, length, mask): EFAULT, ESRCH, EPERM, EINVAL (no CPU of the
// machine). See sched_setaffinity(2).
func sysSchedSetaffinity(t *task.Thread, a *Args) (uintptr, error) {
	var b [8]byte // CPUs beyond the 64 that Kernel.Sched can have do not count
	if err := t.CopyIn(b[:min(a[1]&0xffffffff, 8)], hal.UserAddr(a[2])); err != nil {
		return 0, err
	}
	o, err := findThread(t, int32(a[0]))
	if err != nil {
		return 0, err
	}
	if err := mayNice(t, o); err != nil {
		return 0, err
	}
	mask := le.Uint64(b[:]) & t.Kernel().Sched.AllCPUs()
	if mask == 0 {
		return 0, unix.EINVAL
	}
	o.SetAffinity(mask)
	return 0, nil
}

// sysSchedGetaffinity returns the bytes written: EINVAL (length too small for the CPUs,
// or no multiple of 8), ESRCH, EFAULT. See sched_getaffinity(2).
func sysSchedGetaffinity(t *task.Thread, a *Args) (uintptr, error) {
	n := a[1] & 0xffffffff
	if n*8 < uint64(t.Kernel().Sched.NumCPU()) || n&7 != 0 {
		return 0, unix.EINVAL
	}
	o, err := findThread(t, int32(a[0]))
	if err != nil {
		return 0, err
	}
	return 8, putU64(t, hal.UserAddr(a[2]), o.Affinity())
}

// Policies beyond POSIX' (uapi/linux/sched.h).
const (
	schedOther       = 0
	schedFIFO        = 1
	schedRR          = 2
	schedBatch       = 3
	schedIdle        = 5
	schedDeadline    = 6
	schedResetOnFork = 0x40000000
)

// priorityRange is what a policy's priority can be: false for no policy.
func priorityRange(policy int32) (lo, hi int32, ok bool) {
	switch policy {
	case schedFIFO, schedRR:
		return 1, 99, true
	case schedOther, schedBatch, schedIdle, schedDeadline:
		return 0, 0, true
	}
	return 0, 0, false
}

// setScheduler is sched_setscheduler: policy -1 keeps it. EINVAL (pid, no param), EFAULT,
// ESRCH, EINVAL (policy, priority), EPERM.
func setScheduler(t *task.Thread, pid, policy int32, param uint64) error {
	if param == 0 || pid < 0 {
		return unix.EINVAL
	}
	var b [4]byte
	if err := t.CopyIn(b[:], hal.UserAddr(param)); err != nil {
		return err
	}
	o, err := findThread(t, pid)
	if err != nil {
		return err
	}
	old, oldPrio, reset := o.Policy()
	if policy >= 0 {
		reset = policy&schedResetOnFork != 0
		policy &^= schedResetOnFork
	} else {
		policy = old
	}
	prio := int32(le.Uint32(b[:]))
	lo, hi, ok := priorityRange(policy)
	// A deadline needs sched_setattr.
	if !ok || policy == schedDeadline || prio < lo || prio > hi {
		return unix.EINVAL
	}
	if !t.Creds().Can(unix.CAP_SYS_NICE) {
		limit := int32(min(o.Process().Limit(task.RlimitRtprio), 99))
		if prio > 0 && (policy != old && limit == 0 || prio > oldPrio && prio > limit) {
			return unix.EPERM
		}
		if err := mayNice(t, o); err != nil {
			return err
		}
	}
	o.SetPolicy(policy, prio, reset)
	return nil
}

// sysSchedSetscheduler and sysSchedSetparam: see setScheduler and sched_setscheduler(2).
func sysSchedSetscheduler(t *task.Thread, a *Args) (uintptr, error) {
	if int32(a[1]) < 0 {
		return 0, unix.EINVAL
	}
	return 0, setScheduler(t, int32(a[0]), int32(a[1]), a[2])
}

func sysSchedSetparam(t *task.Thread, a *Args) (uintptr, error) {
	return 0, setScheduler(t, int32(a[0]), -1, a[1])
}

// sysSchedGetscheduler and sysSchedGetparam: EINVAL, ESRCH, EFAULT.
func sysSchedGetscheduler(t *task.Thread, a *Args) (uintptr, error) {
	if int32(a[0]) < 0 {
		return 0, unix.EINVAL
	}
	o, err := findThread(t, int32(a[0]))
	if err != nil {
		return 0, err
	}
	policy, _, reset := o.Policy()
	if reset {
		policy |= schedResetOnFork
	}
	return uintptr(policy), nil
}

func sysSchedGetparam(t *task.Thread, a *Args) (uintptr, error) {
	if a[1] == 0 || int32(a[0]) < 0 {
		return 0, unix.EINVAL
	}
	o, err := findThread(t, int32(a[0]))
	if err != nil {
		return 0, err
	}
	_, prio, _ := o.Policy()
	return 0, putU32(t, hal.UserAddr(a[1]), uint32(prio))
}

// sysSchedGetPriorityMax and Min: EINVAL. See sched_get_priority_max(2).
func sysSchedGetPriorityMax(_ *task.Thread, a *Args) (uintptr, error) {
	_, hi, ok := priorityRange(int32(a[0]))
	if !ok {
		return 0, unix.EINVAL
	}
	return uintptr(hi), nil
}

func sysSchedGetPriorityMin(_ *task.Thread, a *Args) (uintptr, error) {
	lo, _, ok := priorityRange(int32(a[0]))
	if !ok {
		return 0, unix.EINVAL
	}
	return uintptr(lo), nil
}

// rrInterval is Linux' RR_TIMESLICE in nanoseconds.
const rrInterval = 100_000_000

// sysSchedRrGetInterval: EINVAL, ESRCH, EFAULT; 0 for a policy without slices. See
// sched_rr_get_interval(2).
func sysSchedRrGetInterval(t *task.Thread, a *Args) (uintptr, error) {
	if int32(a[0]) < 0 {
		return 0, unix.EINVAL
	}
	o, err := findThread(t, int32(a[0]))
	if err != nil {
		return 0, err
	}
	ns := jiffy
	switch policy, _, _ := o.Policy(); policy {
	case schedRR:
		ns = rrInterval
	case schedFIFO:
		ns = 0
	}
	return 0, putTimespec(t, hal.UserAddr(a[1]), ns)
}

// Whom priorities are about: getpriority's numbers; ioprio's are one more.
const (
	whoProcess = 0
	whoGroup   = 1
	whoUser    = 2
)

// everyWho calls f for each thread that (which, who) means: EINVAL, ESRCH, or f's last
// error.
func everyWho(t *task.Thread, which, who int32, f func(o *task.Thread) error) error {
	k := t.Kernel()
	var err error = unix.ESRCH
	each := func(p *task.Process, uid uint32, any bool) {
		for _, o := range p.Threads() {
			if any || o.Creds().UID == uid {
				if e := f(o); e != nil || err == unix.ESRCH {
					err = e
				}
			}
		}
	}
	switch which {
	case whoProcess:
		o, err := findThread(t, who)
		if err != nil {
			return err
		}
		return f(o)
	case whoGroup:
		if who == 0 {
			who = t.Process().PGID()
		}
		for _, p := range k.Group(who) {
			each(p, 0, true)
		}
	case whoUser:
		uid := uint32(who)
		if who == 0 {
			uid = t.Creds().UID
		}
		for _, p := range k.Processes() {
			each(p, uid, false)
		}
	default:
		return unix.EINVAL
	}
	return err
}

// sysGetpriority returns 20 minus the lowest nice value: EINVAL, ESRCH. See
// getpriority(2).
func sysGetpriority(t *task.Thread, a *Args) (uintptr, error) {
	best := int32(0)
	err := everyWho(t, int32(a[0]), int32(a[1]), func(o *task.Thread) error {
		best = max(best, 20-o.Nice())
		return nil
	})
	if err != nil {
		return 0, err
	}
	return uintptr(best), nil
}

// sysSetpriority sets nice values: EINVAL, ESRCH, EPERM, EACCES (lower than RLIMIT_NICE
// allows). See setpriority(2).
func sysSetpriority(t *task.Thread, a *Args) (uintptr, error) {
	n := max(-20, min(int32(a[2]), 19))
	return 0, everyWho(t, int32(a[0]), int32(a[1]), func(o *task.Thread) error {
		c, x := t.Creds(), o.Creds()
		can := c.Can(unix.CAP_SYS_NICE)
		switch {
		case c.EUID != x.EUID && c.EUID != x.UID && !can:
			return unix.EPERM
		case n < o.Nice() && !can && uint64(20-n) > o.Process().Limit(task.RlimitNice):
			return unix.EACCES
		}
		o.SetNice(n)
		return nil
	})
}

// sysGetcpu tells CPU and node: EFAULT. See getcpu(2).
func sysGetcpu(t *task.Thread, a *Args) (uintptr, error) {
	if a[0] != 0 {
		if err := putU32(t, hal.UserAddr(a[0]), uint32(t.CPU())); err != nil {
			return 0, err
		}
	}
	if a[1] != 0 {
		return 0, putU32(t, hal.UserAddr(a[1]), 0)
	}
	return 0, nil
}

// sysIoprioSet checks (which, who, priority): EINVAL, EPERM, ESRCH. See ioprio_set(2).
func sysIoprioSet(t *task.Thread, a *Args) (uintptr, error) {
	class, data := int32(a[2])>>13, a[2]&0x1fff
	switch class {
	case 0:
		if data != 0 {
			return 0, unix.EINVAL
		}
	case 1: // real time
		if !t.Creds().Can(unix.CAP_SYS_ADMIN) && !t.Creds().Can(unix.CAP_SYS_NICE) {
			return 0, unix.EPERM
		}
		fallthrough
	case 2:
		if data >= 8 {
			return 0, unix.EINVAL
		}
	case 3:
	default:
		return 0, unix.EINVAL
	}
	return 0, everyWho(t, int32(a[0])-1, int32(a[1]), func(o *task.Thread) error {
		if c, x := t.Creds(), o.Creds(); x.UID != c.EUID && x.UID != c.UID && !c.Can(unix.CAP_SYS_NICE) {
			return unix.EPERM
		}
		return nil
	})
}

// sysIoprioGet answers IOPRIO_DEFAULT: EINVAL, ESRCH. See ioprio_get(2).
func sysIoprioGet(t *task.Thread, a *Args) (uintptr, error) {
	return 0, everyWho(t, int32(a[0])-1, int32(a[1]), func(*task.Thread) error { return nil })
}
