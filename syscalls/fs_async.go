package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/task"
)

// Kinds of owner of a file (F_SETOWN_EX).
const (
	ownerThread  = 0
	ownerProcess = 1
	ownerGroup   = 2
)

// pollBands are si_band for the POLL_* reasons (fs/fcntl.c).
var pollBands = [...]int64{
	vfs.PollIn: 0x41, vfs.PollOut: 0x304, vfs.PollMsg: 0x441, vfs.PollErr: 0x8, vfs.PollPri: 0x82, vfs.PollHup: 0x18,
}

// newOwner is who id of a kind means, as far as t is concerned.
func newOwner(t *task.Thread, kind, id int32) *vfs.Owner {
	c, k := t.Creds(), t.Kernel()
	o := &vfs.Owner{Type: kind, ID: id, UID: c.UID, EUID: c.EUID}
	o.Send = func(f *vfs.File, fd, code int32) { sendIO(k, o, f.Signal(), fd, code) }
	return o
}

// sendIO sends a file's owner SIGIO, or what F_SETSIG says with the reason (send_sigio).
func sendIO(k *task.Kernel, o *vfs.Owner, sig, fd, code int32) {
	plain := task.SignalInfo{Signo: int32(unix.SIGIO), Code: task.SIKernel}
	info := task.SignalInfo{Signo: sig, Code: code, Band: pollBands[code], FD: fd}
	send := func(c *vfs.Creds, queue func(task.SignalInfo) error) {
		if o.EUID != 0 && o.EUID != c.SUID && o.EUID != c.UID && o.UID != c.SUID && o.UID != c.UID {
			return
		}
		if sig == 0 || queue(info) != nil {
			_ = queue(plain)
		}
	}
	switch o.Type {
	case ownerThread:
		if t := k.Thread(o.ID); t != nil {
			send(t.Creds(), t.Queue)
		}
	case ownerProcess:
		if p := k.Process(o.ID); p != nil {
			send(p.Creds(), p.Queue)
		}
	case ownerGroup:
		for _, p := range k.Group(o.ID) {
			send(p.Creds(), p.Queue)
		}
	}
}

// setOwner is F_SETOWN and its kin: ESRCH for whom there is not, unless it is nobody.
func setOwner(t *task.Thread, f *vfs.File, kind, id int32) error {
	// A number of any kind does, as find_vpid's.
	if k := t.Kernel(); id != 0 && k.Process(id) == nil && k.Thread(id) == nil && len(k.Group(id)) == 0 {
		return unix.ESRCH
	}
	f.SetOwner(newOwner(t, kind, id))
	return nil
}

// setOwn is F_SETOWN and FIOSETOWN: a negative number is a group's.
func setOwn(t *task.Thread, f *vfs.File, id int32) error {
	switch {
	case id == -1<<31:
		return unix.EINVAL
	case id < 0:
		return setOwner(t, f, ownerGroup, -id)
	}
	return setOwner(t, f, ownerProcess, id)
}

// getOwn is F_GETOWN.
func getOwn(f *vfs.File) int32 {
	o := f.Owner()
	switch {
	case o == nil:
		return 0
	case o.Type == ownerGroup:
		return -o.ID
	}
	return o.ID
}

// ownerEx is F_SETOWN_EX, F_GETOWN_EX (struct f_owner_ex{type, pid}) and F_GETOWNER_UIDS.
func ownerEx(t *task.Thread, f *vfs.File, cmd int, arg uint64) (uintptr, error) {
	var b [8]byte
	if cmd == fSetOwnEx {
		if err := t.CopyIn(b[:], hal.UserAddr(arg)); err != nil {
			return 0, err
		}
		kind := int32(le.Uint32(b[:]))
		if kind < ownerThread || kind > ownerGroup {
			return 0, unix.EINVAL
		}
		return 0, setOwner(t, f, kind, int32(le.Uint32(b[4:])))
	}
	o := f.Owner()
	if o == nil {
		o = &vfs.Owner{}
	}
	if cmd == fGetOwnerUIDs {
		le.PutUint32(b[:], o.UID)
		le.PutUint32(b[4:], o.EUID)
	} else {
		le.PutUint32(b[:], uint32(o.Type))
		le.PutUint32(b[4:], uint32(o.ID))
	}
	return 0, t.CopyOut(hal.UserAddr(arg), b[:])
}

// setLease is F_SETLEASE: EINVAL for a kind, EAGAIN, EACCES for another's file without
// CAP_LEASE, EINVAL for what is not a regular file.
func setLease(t *task.Thread, f *vfs.File, fd, kind int32) error {
	switch kind {
	case unix.F_RDLCK, unix.F_WRLCK, unix.F_UNLCK:
	default:
		return unix.EINVAL
	}
	at, err := f.Ops.Attr(t)
	if err != nil {
		return err
	}
	if at.UID != t.Creds().FSUID && !t.Creds().Can(vfs.CapLease) {
		return unix.EACCES
	}
	return f.SetLease(fd, kind, newOwner(t, ownerProcess, t.Process().PID()))
}

// rwHint is F_GET_RW_HINT and F_SET_RW_HINT, which no storage here uses: EFAULT, EINVAL for
// what is no hint.
func rwHint(t *task.Thread, f *vfs.File, cmd int, arg uint64) (uintptr, error) {
	const longest = 5 // RWH_WRITE_LIFE_EXTREME
	if cmd == fGetRWHint {
		return 0, putU64(t, hal.UserAddr(arg), f.Hint())
	}
	h, err := getU64(t, hal.UserAddr(arg))
	if err != nil {
		return 0, err
	}
	if h > longest {
		return 0, unix.EINVAL
	}
	f.SetHint(h)
	return 0, nil
}
