package ipc

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/task"
)

// Commands of semctl (uapi/linux/sem.h).
const (
	GetPID     = 11
	GetVal     = 12
	GetAll     = 13
	GetNCnt    = 14
	GetZCnt    = 15
	SetVal     = 16
	SetAll     = 17
	SemStat    = 18
	SemInfo    = 19
	SemStatAny = 20
)

// SemDS is struct semid64_ds; times are seconds.
type SemDS struct {
	Perm         Perm
	Otime, Ctime int64
	Nsems        uint64
}

func (a *semArray) ds() SemDS {
	return SemDS{a.perm, a.otime, a.ctime, uint64(len(a.sems))}
}

// SemStat serves IPC_STAT, SEM_STAT and SEM_STAT_ANY: EINVAL, EACCES, EIDRM.
func (n *Namespace) SemStat(t *task.Thread, id, cmd int32) (SemDS, error) {
	a, err := n.sem.findRead(t, id, cmd != Stat, cmd == SemStatAny)
	if err != nil {
		return SemDS{}, err
	}
	defer a.mu.Unlock()
	return a.ds(), nil
}

// SemInfo is struct seminfo for IPC_INFO and SEM_INFO, and the highest slot in use.
func (n *Namespace) SemInfo(cmd int32) (info [10]int32, top int32) {
	top, used := n.sem.top()
	l := &n.Limits
	info = [10]int32{semMNS, int32(n.sem.limit.Load()), int32(l.SemMNS.Load()), semMNS, int32(l.SemMSL.Load()), int32(l.SemOPM.Load()),
		semOPM, 20, SemMax, SemMax}
	if cmd == SemInfo {
		info[7], info[9] = used, int32(n.used.sems.Load())
	}
	return info, top
}

// SemSet is IPC_SET: EINVAL, EPERM.
func (n *Namespace) SemSet(t *task.Thread, id int32, uid, gid, mode uint32) error {
	a, err := n.sem.change(t, id)
	if err != nil {
		return err
	}
	defer a.mu.Unlock()
	if err := a.perm.update(uid, gid, mode); err != nil {
		return err
	}
	a.ctime = n.now()
	return nil
}

// SemRemove is IPC_RMID: EINVAL, EPERM. Who waits gets EIDRM.
func (n *Namespace) SemRemove(t *task.Thread, id int32) error {
	a, err := n.sem.remove(t, id)
	if err != nil {
		return err
	}
	defer a.mu.Unlock()
	for _, l := range [][]*semWaiter{a.zero, a.alter} {
		for _, w := range l {
			w.finish(unix.EIDRM)
		}
	}
	a.zero, a.alter = nil, nil
	n.dropUndos(a)
	n.dropSems(a)
	return nil
}

// SemGet serves GETVAL, GETPID, GETNCNT and GETZCNT: EINVAL (id), EACCES, EINVAL (semaphore).
func (n *Namespace) SemGet(t *task.Thread, id, num, cmd int32) (int32, error) {
	a, err := n.sem.findRead(t, id, false, false)
	if err != nil {
		return 0, err
	}
	defer a.mu.Unlock()
	if num < 0 || int(num) >= len(a.sems) {
		return 0, unix.EINVAL
	}
	switch cmd {
	case GetVal:
		return a.sems[num].val, nil
	case GetPID:
		return a.sems[num].pid, nil
	}
	return a.waiting(uint16(num), cmd == GetZCnt), nil
}

// waiting counts those that semaphore num stops, by not being zero or by being too small.
func (a *semArray) waiting(num uint16, zero bool) (n int32) {
	for _, l := range [][]*semWaiter{a.zero, a.alter} {
		for _, w := range l {
			if o := w.ops[w.blocking]; o.Num == num && (o.Op == 0) == zero {
				n++
			}
		}
	}
	return n
}

// SemGetAll is GETALL: EINVAL, EACCES.
func (n *Namespace) SemGetAll(t *task.Thread, id int32) ([]uint16, error) {
	a, err := n.sem.findRead(t, id, false, false)
	if err != nil {
		return nil, err
	}
	defer a.mu.Unlock()
	out := make([]uint16, len(a.sems))
	for i := range a.sems {
		out[i] = uint16(a.sems[i].val)
	}
	return out, nil
}

// SemSetVal is SETVAL: ERANGE, EINVAL (id), EINVAL (semaphore), EACCES.
func (n *Namespace) SemSetVal(t *task.Thread, id, num, val int32) error {
	if val < 0 || val > SemMax {
		return unix.ERANGE
	}
	a, err := n.sem.find(id)
	if err != nil {
		return err
	}
	defer a.mu.Unlock()
	switch {
	case num < 0 || int(num) >= len(a.sems):
		return unix.EINVAL
	case !a.perm.allows(t.Creds(), ownW):
		return unix.EACCES
	}
	a.forgetUndo(int(num))
	a.sems[num] = semaphore{val, t.Process().PID()}
	a.changed(n)
	return nil
}

// changed follows a value that was set.
func (a *semArray) changed(n *Namespace) {
	a.ctime = n.now()
	if a.wakeUp(nil) {
		a.otime = a.ctime
	}
}

// SemSetAll is SETALL; read copies as many values as there are semaphores: EINVAL,
// EACCES, read's error, ERANGE, EIDRM.
func (n *Namespace) SemSetAll(t *task.Thread, id int32, read func(vals []uint16) error) error {
	a, err := n.sem.find(id)
	if err != nil {
		return err
	}
	ok, count := a.perm.allows(t.Creds(), ownW), len(a.sems)
	a.mu.Unlock()
	if !ok {
		return unix.EACCES
	}
	vals := make([]uint16, count)
	if err := read(vals); err != nil {
		return err
	}
	for _, v := range vals {
		if v > SemMax {
			return unix.ERANGE
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.removed {
		return unix.EIDRM
	}
	pid := t.Process().PID()
	for i, v := range vals {
		a.sems[i] = semaphore{int32(v), pid}
		a.forgetUndo(i)
	}
	a.changed(n)
	return nil
}

// Sems lists all arrays for /proc/sysvipc/sem.
func (n *Namespace) Sems() (out []SemDS) {
	n.sem.each(func(a *semArray) { out = append(out, a.ds()) })
	return out
}
