package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/ipc"
	"kiln/kernel/task"
)

// sysMsgget finds or makes a message queue (key, flags). See ipc.Msgget, msgget(2).
func sysMsgget(t *task.Thread, a *Args) (uintptr, error) {
	id, err := ipcOf(t).Msgget(t, int32(a[0]), uint32(a[1]))
	return uintptr(id), err
}

// sysMsgsnd sends a message (id, struct msgbuf, size of its text, flags): EFAULT (type),
// EINVAL (size, id, type), ENOMEM, EFAULT (text), and those of ipc.Msgsnd. See msgop(2).
func sysMsgsnd(t *task.Thread, a *Args) (uintptr, error) {
	id, size := int32(a[0]), a[2]
	n := ipcOf(t)
	typ, err := getU64(t, hal.UserAddr(a[1]))
	switch {
	case err != nil:
		return 0, err
	case size > uint64(n.Limits.MsgMax.Load()) || id < 0, int64(typ) < 1:
		return 0, unix.EINVAL
	}
	m, err := n.NewMsg(int64(typ), int(size))
	if err != nil {
		return 0, err
	}
	if size > 0 {
		err = t.CopyIn(m.Data, hal.UserAddr(a[1])+8)
	}
	if err == nil {
		err = n.Msgsnd(t, id, m, uint32(a[3]))
	}
	if err != nil {
		n.Free(m)
	}
	return 0, err
}

// sysMsgrcv receives a message (id, struct msgbuf, size of its text, type, flags): EINVAL
// (id, size, flags), those of ipc.Msgrcv, EFAULT, which loses the message. The value is
// how many bytes of text there are. See msgop(2).
func sysMsgrcv(t *task.Thread, a *Args) (uintptr, error) {
	id, size, flags := int32(a[0]), a[2], uint32(a[4])
	n := ipcOf(t)
	if id < 0 || int64(size) < 0 ||
		flags&ipc.MsgCopy != 0 && (flags&ipc.MsgExcept != 0 || flags&ipc.Nowait == 0) {
		return 0, unix.EINVAL
	}
	if flags&ipc.MsgCopy != 0 { // whose copy Linux makes of what is in the buffer
		if _, err := t.Space().CopyIn(t, make([]byte, min(size, uint64(n.Limits.MsgMax.Load()))), hal.UserAddr(a[1])); err != nil {
			return 0, unix.EFAULT
		}
	}
	m, err := n.Msgrcv(t, id, size, int64(a[3]), flags)
	if err != nil {
		return 0, err
	}
	defer n.Free(m)
	if err := putU64(t, hal.UserAddr(a[1]), uint64(m.Type)); err != nil {
		return 0, err
	}
	size = min(size, uint64(len(m.Data)))
	return uintptr(size), t.CopyOut(hal.UserAddr(a[1])+8, m.Data[:size])
}

// msgSize is struct msqid64_ds.
const msgSize = 120

// sysMsgctl reads and changes queues (id, command, buffer): EINVAL (id, command), and
// those of the command. See msgctl(2).
func sysMsgctl(t *task.Thread, a *Args) (uintptr, error) {
	id, cmd, at := int32(a[0]), int32(a[1]), hal.UserAddr(a[2])
	n := ipcOf(t)
	if id < 0 || cmd < 0 {
		return 0, unix.EINVAL
	}
	switch cmd {
	case ipc.Info, ipc.MsgInfo:
		info, top := n.MsgInfo(cmd)
		return putInts(t, at, info[:], top)
	case ipc.Stat, ipc.MsgStat, ipc.MsgStatAny:
		d, err := n.MsgStat(t, id, cmd)
		if err != nil {
			return 0, err
		}
		ret := d.Perm.ID
		if cmd == ipc.Stat {
			ret = 0
		}
		s := newStructure(&d.Perm).longs(uint64(d.Stime), uint64(d.Rtime), uint64(d.Ctime), d.Bytes, d.Num, d.Qbytes).
			ints(d.Lspid, d.Lrpid).longs(0, 0)
		return uintptr(ret), t.CopyOut(at, s)
	case ipc.Set:
		uid, gid, mode, b, err := getPerm(t, at, msgSize)
		if err != nil {
			return 0, err
		}
		return 0, n.MsgSet(t, id, uid, gid, mode, le.Uint64(b[88:]))
	case ipc.Rmid:
		return 0, n.MsgRemove(t, id)
	}
	return 0, unix.EINVAL
}
