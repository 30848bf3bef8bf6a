package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/ipc"
	"kiln/kernel/task"
)

// sysSemget finds or makes an array of semaphores (key, number, flags). See ipc.Semget,
// semget(2).
func sysSemget(t *task.Thread, a *Args) (uintptr, error) {
	id, err := ipcOf(t).Semget(t, int32(a[0]), int32(a[1]), uint32(a[2]))
	return uintptr(id), err
}

// sysSemop is semtimedop without a time (id, operations, number). See semop(2).
func sysSemop(t *task.Thread, a *Args) (uintptr, error) {
	return semop(t, int32(a[0]), a[1], uint32(a[2]), hal.NoDeadline, nil)
}

// sysSemtimedop does operations all at once, waiting as long as it takes or a relative
// time (id, operations, number, time): EFAULT (time), E2BIG, EINVAL (number), EFAULT,
// EINVAL (id, time), and those of ipc.Semop. It never restarts. See semop(2).
func sysSemtimedop(t *task.Thread, a *Args) (uintptr, error) {
	if a[3] == 0 {
		return sysSemop(t, a)
	}
	ns, bad := getTimespec(t, hal.UserAddr(a[3]))
	if bad == unix.EFAULT {
		return 0, bad
	}
	return semop(t, int32(a[0]), a[1], uint32(a[2]), t.Deadline(ns), bad)
}

// sembufSize is struct sembuf.
const sembufSize = 6

// semop is the common part; bad is what is wrong with the time.
func semop(t *task.Thread, id int32, at uint64, count uint32, deadline int64, bad error) (uintptr, error) {
	n := ipcOf(t)
	if int64(count) > n.Limits.SemOPM.Load() {
		return 0, unix.E2BIG
	}
	if count < 1 {
		return 0, unix.EINVAL
	}
	var few [8]ipc.SemOp
	ops := few[:]
	b := localOf(t).b[:]
	if int(count) > len(few) {
		cost := int64(count) * 2 * sembufSize
		if !t.Kernel().Mem.Budget().Charge(cost) {
			return 0, unix.ENOMEM
		}
		defer t.Kernel().Mem.Budget().Uncharge(cost)
		ops, b = make([]ipc.SemOp, count), make([]byte, int(count)*sembufSize)
	}
	ops, b = ops[:count], b[:int(count)*sembufSize]
	if err := t.CopyIn(b, hal.UserAddr(at)); err != nil {
		return 0, err
	}
	if id < 0 || bad != nil {
		return 0, unix.EINVAL
	}
	for i := range ops {
		w := b[i*sembufSize:]
		ops[i] = ipc.SemOp{Num: le.Uint16(w), Op: int16(le.Uint16(w[2:])), Flags: int16(le.Uint16(w[4:]))}
	}
	return 0, n.Semop(t, id, ops, deadline)
}

// semSize is struct semid64_ds.
const semSize = 104

// sysSemctl reads and changes arrays (id, semaphore, command, argument): EINVAL (id,
// command), and those of the command. See semctl(2).
func sysSemctl(t *task.Thread, a *Args) (uintptr, error) {
	id, num, cmd, at := int32(a[0]), int32(a[1]), int32(a[2]), hal.UserAddr(a[3])
	n := ipcOf(t)
	if id < 0 {
		return 0, unix.EINVAL
	}
	switch cmd {
	case ipc.Info, ipc.SemInfo:
		info, top := n.SemInfo(cmd)
		return putInts(t, at, info[:], top)
	case ipc.Stat, ipc.SemStat, ipc.SemStatAny:
		d, err := n.SemStat(t, id, cmd)
		if err != nil {
			return 0, err
		}
		ret := d.Perm.ID
		if cmd == ipc.Stat {
			ret = 0
		}
		s := newStructure(&d.Perm).longs(uint64(d.Otime), 0, uint64(d.Ctime), 0, d.Nsems, 0, 0)
		return uintptr(ret), t.CopyOut(at, s)
	case ipc.GetAll:
		vals, err := n.SemGetAll(t, id)
		if err != nil {
			return 0, err
		}
		b := make([]byte, 0, 2*len(vals))
		for _, v := range vals {
			b = le.AppendUint16(b, v)
		}
		return 0, t.CopyOut(at, b)
	case ipc.SetAll:
		return 0, n.SemSetAll(t, id, func(vals []uint16) error {
			b := make([]byte, 2*len(vals))
			err := t.CopyIn(b, at)
			for i := range vals {
				vals[i] = le.Uint16(b[2*i:])
			}
			return err
		})
	case ipc.GetVal, ipc.GetPID, ipc.GetNCnt, ipc.GetZCnt:
		v, err := n.SemGet(t, id, num, cmd)
		return uintptr(v), err
	case ipc.SetVal:
		return 0, n.SemSetVal(t, id, num, int32(a[3]))
	case ipc.Set:
		uid, gid, mode, _, err := getPerm(t, at, semSize)
		if err != nil {
			return 0, err
		}
		return 0, n.SemSet(t, id, uid, gid, mode)
	case ipc.Rmid:
		return 0, n.SemRemove(t, id)
	}
	return 0, unix.EINVAL
}
