package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/fs/mqueue"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/task"
)

var mqEntries = []Entry{
	{Nr: unix.SYS_MQ_OPEN, Name: "mq_open", Func: sysMqOpen, Support: Full},
	{Nr: unix.SYS_MQ_UNLINK, Name: "mq_unlink", Func: sysMqUnlink, Support: Full},
	{Nr: unix.SYS_MQ_TIMEDSEND, Name: "mq_timedsend", Func: sysMqTimedsend, Support: Full},
	{Nr: unix.SYS_MQ_TIMEDRECEIVE, Name: "mq_timedreceive", Func: sysMqTimedreceive, Support: Full},
	{Nr: unix.SYS_MQ_NOTIFY, Name: "mq_notify", Func: sysMqNotify, Support: Full},
	{Nr: unix.SYS_MQ_GETSETATTR, Name: "mq_getsetattr", Func: sysMqGetsetattr, Support: Full},
}

// mqAttrSize is struct mq_attr.
const mqAttrSize = 64

func mqOf(t *task.Thread) *mqueue.FS { return t.Kernel().Syscalls.(*Dispatcher).MQ }

func getMqAttr(t *task.Thread, at hal.UserAddr) (a mqueue.Attr, err error) {
	b := scratch(t, mqAttrSize)
	err = t.CopyIn(b, at)
	return mqueue.Attr{Flags: int64(le.Uint64(b)), MaxMsg: int64(le.Uint64(b[8:])), MsgSize: int64(le.Uint64(b[16:]))}, err
}

// sysMqOpen opens or makes a queue (name without the slash, flags, mode, attributes): EFAULT, ENOENT
// (empty name), EMFILE, and those of mqueue.OpenQueue. See mq_open(3).
func sysMqOpen(t *task.Thread, a *Args) (uintptr, error) {
	var attr *mqueue.Attr
	if a[3] != 0 {
		v, err := getMqAttr(t, hal.UserAddr(a[3]))
		if err != nil {
			return 0, err
		}
		attr = &v
	}
	name, err := pathArg(t, a[0], false)
	if err != nil {
		return 0, err
	}
	if full(t) {
		return 0, unix.EMFILE
	}
	f, err := mqOf(t).OpenQueue(t, name, uint32(a[1]), uint32(a[2]), attr)
	if err != nil {
		return 0, err
	}
	return installFD(t, f, true)
}

// sysMqUnlink removes a queue's name. See mqueue.Unlink, mq_unlink(3).
func sysMqUnlink(t *task.Thread, a *Args) (uintptr, error) {
	name, err := pathArg(t, a[0], false)
	if err != nil {
		return 0, err
	}
	return 0, mqOf(t).Unlink(t, name)
}

// mqFile is the queue behind a descriptor that is open for reading or writing, with the
// file's reference held: EBADF.
func mqFile(t *task.Thread, fd uint64, ok func(*vfs.File) bool) (*vfs.File, *mqueue.Queue, error) {
	f, err := fileOf(t, fd)
	if err != nil {
		return nil, nil, err
	}
	q := mqueue.Of(f)
	if q == nil || ok != nil && !ok(f) {
		f.DecRef()
		return nil, nil, unix.EBADF
	}
	return f, q, nil
}

// mqDeadline reads an absolute time of the wall clock: EFAULT, EINVAL. The caller ends it with
// EndWall.
func mqDeadline(t *task.Thread, at uint64) (int64, error) {
	if at == 0 {
		return hal.NoDeadline, nil
	}
	ns, err := getTimespec(t, hal.UserAddr(at))
	if err != nil {
		return 0, err
	}
	return t.WallDeadline(ns), nil
}

// sysMqTimedsend sends a message (queue, text, length, priority, time): EFAULT and EINVAL
// (time), EINVAL (priority), EBADF, EMSGSIZE, EFAULT, ENOMEM, EAGAIN, ETIMEDOUT, EINTR.
// See mq_send(3).
func sysMqTimedsend(t *task.Thread, a *Args) (uintptr, error) {
	deadline, err := mqDeadline(t, a[4])
	defer t.EndWall()
	if err != nil {
		return 0, err
	}
	prio := uint32(a[3])
	if prio >= mqueue.PrioMax {
		return 0, unix.EINVAL
	}
	f, q, err := mqFile(t, a[0], (*vfs.File).Writable)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if a[2] > uint64(q.MsgSize()) {
		return 0, unix.EMSGSIZE
	}
	return 0, q.Send(t, f.Nonblocking(), int(a[2]), prio, deadline, func(b []byte) error {
		if len(b) == 0 {
			return nil
		}
		return t.CopyIn(b, hal.UserAddr(a[1]))
	})
}

// sysMqTimedreceive receives the oldest message of the highest priority (queue, buffer,
// its size, where the priority goes, time): EFAULT and EINVAL (time), EBADF, EMSGSIZE,
// EAGAIN, ETIMEDOUT, EINTR, EFAULT. See mq_receive(3).
func sysMqTimedreceive(t *task.Thread, a *Args) (uintptr, error) {
	deadline, err := mqDeadline(t, a[4])
	defer t.EndWall()
	if err != nil {
		return 0, err
	}
	f, q, err := mqFile(t, a[0], (*vfs.File).Readable)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if a[2] < uint64(q.MsgSize()) {
		return 0, unix.EMSGSIZE
	}
	n, err := q.Receive(t, f.Nonblocking(), deadline, func(b []byte, prio uint32) error {
		if a[3] != 0 {
			if err := putU32(t, hal.UserAddr(a[3]), prio); err != nil {
				return err
			}
		}
		return t.CopyOut(hal.UserAddr(a[1]), b)
	})
	return uintptr(n), err
}

// sysMqNotify asks to be told when a message comes into the empty queue (queue, struct
// sigevent; none: no longer): EFAULT, EINVAL (kind, signal), EFAULT (cookie), EBADF,
// ENOTSOCK and EINVAL (libc's socket), EBADF, EBUSY. See mq_notify(3).
func sysMqNotify(t *task.Thread, a *Args) (uintptr, error) {
	var n *mqueue.Notification
	if a[1] != 0 {
		var b [64]byte // struct sigevent: value, signal, notification
		if err := t.CopyIn(b[:], hal.UserAddr(a[1])); err != nil {
			return 0, err
		}
		n = &mqueue.Notification{Value: le.Uint64(b[0:]), Signo: int32(le.Uint32(b[8:])), Notify: int32(le.Uint32(b[12:]))}
		switch n.Notify {
		case mqueue.SigevSignal:
			if n.Signo < 0 || n.Signo > task.NumSignals {
				return 0, unix.EINVAL
			}
		case mqueue.SigevThread:
			if err := mqCookie(t, n); err != nil {
				return 0, err
			}
		case mqueue.SigevNone:
		default:
			return 0, unix.EINVAL
		}
	}
	f, q, err := mqFile(t, a[0], nil)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return 0, q.Notify(t, n)
}

// mqCookie reads what libc's thread is to be sent, and finds its socket.
func mqCookie(t *task.Thread, n *mqueue.Notification) error {
	n.Cookie = make([]byte, mqueue.CookieLen)
	if err := t.CopyIn(n.Cookie, hal.UserAddr(n.Value)); err != nil {
		return err
	}
	f, s, err := socket(t, uint64(n.Signo))
	if err != nil {
		return err
	}
	defer f.DecRef()
	sink, ok := s.(mqueue.CookieSink)
	if !ok {
		return unix.EINVAL
	}
	n.Sink = sink
	return nil
}

// sysMqGetsetattr gives a queue's attributes and sets O_NONBLOCK (queue, new, old): EFAULT,
// EINVAL (flags), EBADF, EFAULT. See mq_getattr(3).
func sysMqGetsetattr(t *task.Thread, a *Args) (uintptr, error) {
	var set mqueue.Attr
	if a[1] != 0 {
		var err error
		if set, err = getMqAttr(t, hal.UserAddr(a[1])); err != nil {
			return 0, err
		}
		if set.Flags&^unix.O_NONBLOCK != 0 {
			return 0, unix.EINVAL
		}
	}
	f, q, err := mqFile(t, a[0], nil)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	old := q.Attrs()
	old.Flags = int64(f.Flags() & unix.O_NONBLOCK)
	if a[1] != 0 {
		f.SetFlags(unix.O_NONBLOCK, uint32(set.Flags))
	}
	if a[2] == 0 {
		return 0, nil
	}
	return 0, t.CopyOut(hal.UserAddr(a[2]), structure(nil).longs(uint64(old.Flags), uint64(old.MaxMsg), uint64(old.MsgSize), uint64(old.CurMsgs), 0, 0, 0, 0))
}
