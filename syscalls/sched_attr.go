package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/task"
)

// struct sched_attr (uapi/linux/sched/types.h): its first size and today's, in bytes.
const (
	schedAttrSize0 = 48
	schedAttrSize  = 56
)

// Flags of struct sched_attr (uapi/linux/sched.h).
const (
	schedFlagResetOnFork = 1
	schedFlagKeepPolicy  = 8
	schedFlagKeepParams  = 0x10
	schedFlagUtilClamp   = 0x60
	schedFlagAll         = 0x7f
)

// schedAttr is struct sched_attr without what only deadlines and clamps have.
type schedAttr struct {
	policy, nice, priority    int32
	flags                     uint64
	runtime, deadline, period uint64
}

// copyInSchedAttr reads a struct sched_attr of any size: EFAULT, E2BIG (too small, or
// more than this kernel knows; the size it knows is stored), EINVAL.
func copyInSchedAttr(t *task.Thread, addr hal.UserAddr) (a schedAttr, err error) {
	var b [schedAttrSize]byte
	if err := t.CopyIn(b[:4], addr); err != nil {
		return a, err
	}
	size := le.Uint32(b[:])
	if size == 0 {
		size = schedAttrSize0
	}
	tooBig := func() (schedAttr, error) {
		_ = putU32(t, addr, schedAttrSize)
		return a, unix.E2BIG
	}
	if size < schedAttrSize0 || size > hal.PageSize {
		return tooBig()
	}
	if size > schedAttrSize {
		rest := make([]byte, size-schedAttrSize)
		if err := t.CopyIn(rest, addr+schedAttrSize); err != nil {
			return a, err
		}
		for _, v := range rest {
			if v != 0 {
				return tooBig()
			}
		}
	}
	if err := t.CopyIn(b[:min(size, schedAttrSize)], addr); err != nil {
		return a, err
	}
	a = schedAttr{policy: int32(le.Uint32(b[4:])), flags: le.Uint64(b[8:]), nice: int32(le.Uint32(b[16:])), priority: int32(le.Uint32(b[20:])),
		runtime: le.Uint64(b[24:]), deadline: le.Uint64(b[32:]), period: le.Uint64(b[40:])}
	if a.flags&schedFlagUtilClamp != 0 && size < schedAttrSize {
		return a, unix.EINVAL
	}
	a.nice = max(-20, min(a.nice, 19))
	return a, nil
}

// sysSchedSetattr (pid, attr, flags): EINVAL (no attr, pid, flags), then the structure's
// errors, EINVAL (policy), ESRCH, EINVAL (flags, priority, times), EPERM, EOPNOTSUPP
// (utilisation clamps), EBUSY (SCHED_DEADLINE). See sched_setattr(2).
func sysSchedSetattr(t *task.Thread, a *Args) (uintptr, error) {
	pid := int32(a[0])
	if a[1] == 0 || pid < 0 || uint32(a[2]) != 0 {
		return 0, unix.EINVAL
	}
	attr, err := copyInSchedAttr(t, hal.UserAddr(a[1]))
	if err != nil {
		return 0, err
	}
	if attr.policy < 0 {
		return 0, unix.EINVAL
	}
	o, err := findThread(t, pid)
	if err != nil {
		return 0, err
	}
	old := o.SchedParam()
	p := task.SchedParam{Policy: attr.policy, Priority: attr.priority, Nice: attr.nice, ResetOnFork: attr.flags&schedFlagResetOnFork != 0}
	if attr.flags&schedFlagKeepParams != 0 {
		p.Nice = old.Nice
		if old.Priority > 0 {
			p.Priority = old.Priority
		}
	}
	if attr.flags&schedFlagKeepPolicy != 0 {
		p.Policy, p.ResetOnFork = old.Policy, old.ResetOnFork
	}
	if _, _, ok := priorityRange(p.Policy); !ok || attr.flags&^schedFlagAll != 0 || p.Policy == task.SchedDeadline && !attr.timesFit() {
		return 0, unix.EINVAL
	}
	if attr.flags&schedFlagUtilClamp != 0 {
		// Checked before the clamps in Linux: only what is wrong otherwise is told.
		if lo, hi, _ := priorityRange(p.Policy); p.Priority >= lo && p.Priority <= hi && (t.Creds().Can(unix.CAP_SYS_NICE) || mayBecome(o, p)) {
			return 0, unix.EOPNOTSUPP
		}
	}
	if attr.flags&schedFlagKeepParams != 0 {
		return 0, setSched(t, o, p, keepAll)
	}
	return 0, setSched(t, o, p, setNice)
}

// timesFit is Linux' __checkparam_dl: runtime <= deadline <= period, none too short and
// none with the highest bit set, the period between 100 us and 2^22 us.
func (a *schedAttr) timesFit() bool {
	period := a.period
	if period == 0 {
		period = a.deadline
	}
	return a.deadline != 0 && a.runtime >= 1<<10 && a.deadline>>63 == 0 && a.period>>63 == 0 &&
		period >= a.deadline && a.deadline >= a.runtime && period >= 100_000 && period <= 1<<22*1000
}

// sysSchedGetattr (pid, attr, size, flags): EINVAL, ESRCH, EFAULT. See sched_getattr(2).
func sysSchedGetattr(t *task.Thread, a *Args) (uintptr, error) {
	pid, size := int32(a[0]), uint32(a[2])
	if a[1] == 0 || pid < 0 || size > hal.PageSize || size < schedAttrSize0 || uint32(a[3]) != 0 {
		return 0, unix.EINVAL
	}
	o, err := findThread(t, pid)
	if err != nil {
		return 0, err
	}
	p := o.SchedParam()
	var b [schedAttrSize]byte
	size = min(size, schedAttrSize)
	le.PutUint32(b[0:], size)
	le.PutUint32(b[4:], uint32(p.Policy))
	if p.ResetOnFork {
		le.PutUint64(b[8:], schedFlagResetOnFork)
	}
	if p.Priority > 0 {
		le.PutUint32(b[20:], uint32(p.Priority))
	} else {
		le.PutUint32(b[16:], uint32(p.Nice))
	}
	return 0, t.CopyOut(hal.UserAddr(a[1]), b[:size])
}
