package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/ipc"
	"kiln/kernel/task"
)

// sysShmget finds or makes a segment (key, size, flags). See ipc.Shmget, shmget(2).
func sysShmget(t *task.Thread, a *Args) (uintptr, error) {
	id, err := ipcOf(t).Shmget(t, int32(a[0]), a[1], uint32(a[2]))
	return uintptr(id), err
}

// sysShmat maps a segment (id, address, flags). See ipc.Shmat, shmat(2).
func sysShmat(t *task.Thread, a *Args) (uintptr, error) {
	at, err := ipcOf(t).Shmat(t, int32(a[0]), a[1], uint32(a[2]))
	return uintptr(at), err
}

// sysShmdt unmaps what shmat mapped at an address. See ipc.Shmdt, shmdt(2).
func sysShmdt(t *task.Thread, a *Args) (uintptr, error) {
	return 0, ipcOf(t).Shmdt(t, hal.UserAddr(a[0]))
}

// shmSize is struct shmid64_ds.
const shmSize = 112

// sysShmctl reads and changes segments (id, command, buffer). EINVAL: id, command;
// EIDRM; EACCES (reading); EPERM (changing, locking); EFAULT. See shmctl(2).
func sysShmctl(t *task.Thread, a *Args) (uintptr, error) {
	id, cmd, at := int32(a[0]), int32(a[1]), hal.UserAddr(a[2])
	n := ipcOf(t)
	if id < 0 || cmd < 0 {
		return 0, unix.EINVAL
	}
	switch cmd {
	case ipc.Info:
		top, _, _, _ := n.ShmTotals()
		_, _, ids := n.IDs()
		mni := uint64(ids.Limit.Load())
		return uintptr(top), t.CopyOut(at, structure(nil).longs(n.Limits.ShmMax.Load(), 1, mni, mni, n.Limits.ShmAll.Load(), 0, 0, 0, 0))
	case ipc.ShmInfo:
		top, used, pages, rss := n.ShmTotals()
		return uintptr(top), t.CopyOut(at, structure(nil).longs(uint64(used), pages, rss, 0, 0, 0))
	case ipc.Stat, ipc.ShmStat, ipc.ShmStatAny:
		d, err := n.ShmStat(t, id, cmd)
		if err != nil {
			return 0, err
		}
		ret := d.Perm.ID
		if cmd == ipc.Stat {
			ret = 0
		}
		s := newStructure(&d.Perm).longs(d.Size, uint64(d.Atime), uint64(d.Dtime), uint64(d.Ctime)).
			ints(d.Cpid, d.Lpid).longs(d.Nattch, 0, 0)
		return uintptr(ret), t.CopyOut(at, s)
	case ipc.Set:
		uid, gid, mode, _, err := getPerm(t, at, shmSize)
		if err != nil {
			return 0, err
		}
		return 0, n.ShmSet(t, id, uid, gid, mode)
	case ipc.Rmid:
		return 0, n.ShmRemove(t, id)
	case ipc.ShmLock, ipc.ShmUnlock:
		return 0, n.ShmSetLocked(t, id, cmd == ipc.ShmLock)
	}
	return 0, unix.EINVAL
}
