package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/task"
)

const (
	deadlineNote = "SCHED_DEADLINE finds no bandwidth: EBUSY"
	attrNote     = deadlineNote + "; no utilisation clamps, as on Debian's kernel"
)

var schedEntries = []Entry{
	{Nr: unix.SYS_SCHED_YIELD, Name: "sched_yield", Func: sysSchedYield, Support: Full},
	{Nr: unix.SYS_SCHED_SETAFFINITY, Name: "sched_setaffinity", Func: sysSchedSetaffinity, Support: Full},
	{Nr: unix.SYS_SCHED_GETAFFINITY, Name: "sched_getaffinity", Func: sysSchedGetaffinity, Support: Full},
	{Nr: unix.SYS_SCHED_SETSCHEDULER, Name: "sched_setscheduler", Func: sysSchedSetscheduler, Support: Full},
	{Nr: unix.SYS_SCHED_GETSCHEDULER, Name: "sched_getscheduler", Func: sysSchedGetscheduler, Support: Full},
	{Nr: unix.SYS_SCHED_SETPARAM, Name: "sched_setparam", Func: sysSchedSetparam, Support: Full},
	{Nr: unix.SYS_SCHED_GETPARAM, Name: "sched_getparam", Func: sysSchedGetparam, Support: Full},
	{Nr: unix.SYS_SCHED_SETATTR, Name: "sched_setattr", Func: sysSchedSetattr, Support: Partial, Note: attrNote},
	{Nr: unix.SYS_SCHED_GETATTR, Name: "sched_getattr", Func: sysSchedGetattr, Support: Full},
	{Nr: unix.SYS_SCHED_GET_PRIORITY_MAX, Name: "sched_get_priority_max", Func: sysSchedGetPriorityMax, Support: Full},
	{Nr: unix.SYS_SCHED_GET_PRIORITY_MIN, Name: "sched_get_priority_min", Func: sysSchedGetPriorityMin, Support: Full},
	{Nr: unix.SYS_SCHED_RR_GET_INTERVAL, Name: "sched_rr_get_interval", Func: sysSchedRrGetInterval, Support: Full},
	{Nr: unix.SYS_GETPRIORITY, Name: "getpriority", Func: sysGetpriority, Support: Full},
	{Nr: unix.SYS_SETPRIORITY, Name: "setpriority", Func: sysSetpriority, Support: Full},
	{Nr: unix.SYS_GETCPU, Name: "getcpu", Func: sysGetcpu, Support: Full},
	{Nr: unix.SYS_IOPRIO_SET, Name: "ioprio_set", Func: sysIoprioSet, Support: Partial, Note: "kept without effect: disks serve requests in order"},
	{Nr: unix.SYS_IOPRIO_GET, Name: "ioprio_get", Func: sysIoprioGet, Support: Full},
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

// schedResetOnFork is SCHED_RESET_ON_FORK in a policy.
const schedResetOnFork = 0x40000000

// priorityRange is what a policy's priority can be: false for no policy.
func priorityRange(policy int32) (lo, hi int32, ok bool) {
	switch policy {
	case task.SchedFIFO, task.SchedRR:
		return 1, 99, true
	case task.SchedOther, task.SchedBatch, task.SchedIdle, task.SchedDeadline:
		return 0, 0, true
	}
	return 0, 0, false
}

// setScheduler is sched_setscheduler: policy -1 keeps it. EINVAL (pid, no param), EFAULT,
// ESRCH, then setSched's.
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
	p := o.SchedParam()
	if policy >= 0 {
		p.ResetOnFork = policy&schedResetOnFork != 0
		p.Policy = policy &^ schedResetOnFork
	}
	p.Priority = int32(le.Uint32(b[:]))
	if p.Policy == task.SchedDeadline {
		return unix.EINVAL // its parameters need sched_setattr
	}
	return setSched(t, o, p, keepNice)
}

// What of a SchedParam setSched leaves as it is.
type keeps uint8

const (
	setNice  keeps = iota // nothing
	keepNice              // the nice value, as sched_setscheduler does
	keepAll               // all but the flag: SCHED_FLAG_KEEP_PARAMS
)

// setSched checks what o is to become and makes it so. EINVAL (policy, priority), EPERM,
// EBUSY (SCHED_DEADLINE).
func setSched(t, o *task.Thread, p task.SchedParam, k keeps) error {
	lo, hi, ok := priorityRange(p.Policy)
	if !ok || p.Priority < lo || p.Priority > hi {
		return unix.EINVAL
	}
	if !t.Creds().Can(unix.CAP_SYS_NICE) {
		if err := mayNice(t, o); err != nil {
			return err
		}
		if !mayBecome(o, p) {
			return unix.EPERM
		}
	}
	if p.Policy == task.SchedDeadline {
		return unix.EBUSY
	}
	o.SetSched(func(now *task.SchedParam) {
		now.ResetOnFork = p.ResetOnFork
		if k == keepAll {
			return
		}
		now.Policy, now.Priority = p.Policy, p.Priority
		if k == setNice && (p.Policy == task.SchedOther || p.Policy == task.SchedBatch) {
			now.Nice = p.Nice
		}
	})
	return nil
}

// mayBecome says whether o may be given p by its owner without CAP_SYS_NICE
// (user_check_sched_setscheduler of Linux).
func mayBecome(o *task.Thread, p task.SchedParam) bool {
	old := o.SchedParam()
	switch p.Policy {
	case task.SchedOther, task.SchedBatch:
		if p.Nice < old.Nice && !mayLower(o, p.Nice) {
			return false
		}
	case task.SchedFIFO, task.SchedRR:
		limit := o.Process().Limit(task.RlimitRtprio)
		if p.Policy != old.Policy && limit == 0 || p.Priority > old.Priority && uint64(p.Priority) > limit {
			return false
		}
	case task.SchedDeadline:
		return false
	}
	if old.Policy == task.SchedIdle && p.Policy != task.SchedIdle && !mayLower(o, old.Nice) {
		return false
	}
	return p.ResetOnFork || !old.ResetOnFork
}

// mayLower says whether RLIMIT_NICE lets o's nice value be n.
func mayLower(o *task.Thread, n int32) bool {
	return uint64(20-n) <= o.Process().Limit(task.RlimitNice)
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
	p := o.SchedParam()
	if p.ResetOnFork {
		p.Policy |= schedResetOnFork
	}
	return uintptr(p.Policy), nil
}

func sysSchedGetparam(t *task.Thread, a *Args) (uintptr, error) {
	if a[1] == 0 || int32(a[0]) < 0 {
		return 0, unix.EINVAL
	}
	o, err := findThread(t, int32(a[0]))
	if err != nil {
		return 0, err
	}
	return 0, putU32(t, hal.UserAddr(a[1]), uint32(o.SchedParam().Priority))
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
	switch o.SchedParam().Policy {
	case task.SchedRR:
		ns = task.RRInterval
	case task.SchedFIFO:
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

// everyRoot is everyWho for user 0 by number, which ioprio_set does not take for the caller's
// own, as all others do.
func everyRoot(t *task.Thread, _, _ int32, f func(o *task.Thread) error) error {
	err := error(unix.ESRCH)
	for _, p := range t.Kernel().Processes() {
		for _, o := range p.Threads() {
			if o.Creds().UID != 0 {
				continue
			}
			if err = f(o); err != nil {
				return err
			}
		}
	}
	return err
}

// sysGetpriority returns 20 minus the lowest nice value: EINVAL, ESRCH. See
// getpriority(2).
func sysGetpriority(t *task.Thread, a *Args) (uintptr, error) {
	best := int32(0)
	err := everyWho(t, int32(a[0]), int32(a[1]), func(o *task.Thread) error {
		best = max(best, 20-o.SchedParam().Nice)
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
		case n < o.SchedParam().Nice && !can && !mayLower(o, n):
			return unix.EACCES
		}
		o.SetSched(func(p *task.SchedParam) { p.Nice = n })
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

// Classes of an I/O priority and where they are in it (uapi/linux/ioprio.h). The three low
// bits are the level in the class; hints lie between.
const (
	ioprioShift    = 13
	ioprioNone     = 0
	ioprioRealTime = 1
	ioprioBest     = 2
	ioprioIdle     = 3
)

// sysIoprioSet sets I/O priorities (which, who, priority): EINVAL, EPERM, ESRCH. See
// ioprio_set(2).
func sysIoprioSet(t *task.Thread, a *Args) (uintptr, error) {
	v := uint32(a[2])
	switch v >> ioprioShift {
	case ioprioNone:
		if v&7 != 0 {
			return 0, unix.EINVAL
		}
	case ioprioRealTime:
		if !t.Creds().Can(unix.CAP_SYS_ADMIN) && !t.Creds().Can(unix.CAP_SYS_NICE) {
			return 0, unix.EPERM
		}
	case ioprioBest, ioprioIdle:
	default:
		return 0, unix.EINVAL
	}
	which, who := int32(a[0])-1, int32(a[1])
	all := everyWho
	if which == whoUser && who == 0 {
		all = everyRoot
	}
	return 0, all(t, which, who, func(o *task.Thread) error {
		if c, x := t.Creds(), o.Creds(); x.UID != c.EUID && x.UID != c.UID && !c.Can(unix.CAP_SYS_NICE) {
			return unix.EPERM
		}
		o.SetIOPrio(uint16(v))
		return nil
	})
}

// sysIoprioGet gives the best priority of those asked for: EINVAL, ESRCH. See
// ioprio_get(2).
func sysIoprioGet(t *task.Thread, a *Args) (uintptr, error) {
	best, found := uint16(0), false
	err := everyWho(t, int32(a[0])-1, int32(a[1]), func(o *task.Thread) error {
		if v := o.IOPrio(); !found || v != 0 && (best == 0 || v < best) {
			best, found = v, true
		}
		return nil
	})
	return uintptr(best), err
}
