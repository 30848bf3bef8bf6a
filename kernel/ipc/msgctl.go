package ipc

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/task"
)

// Commands of msgctl (uapi/linux/msg.h).
const (
	MsgStat    = 11
	MsgInfo    = 12
	MsgStatAny = 13
)

// MsgDS is struct msqid64_ds; times are seconds.
type MsgDS struct {
	Perm                Perm
	Stime, Rtime, Ctime int64
	Bytes, Num, Qbytes  uint64
	Lspid, Lrpid        int32
}

func (q *msgQueue) ds() MsgDS {
	return MsgDS{q.perm, q.stime, q.rtime, q.ctime, q.bytes, uint64(len(q.msgs)), q.qbytes, q.lspid, q.lrpid}
}

// MsgStat serves IPC_STAT, MSG_STAT and MSG_STAT_ANY: EINVAL, EACCES, EIDRM.
func (n *Namespace) MsgStat(t *task.Thread, id, cmd int32) (MsgDS, error) {
	q, err := n.msg.findRead(t, id, cmd != Stat, cmd == MsgStatAny)
	if err != nil {
		return MsgDS{}, err
	}
	defer q.mu.Unlock()
	return q.ds(), nil
}

// MsgInfo is struct msginfo (seven ints and a short) for IPC_INFO and MSG_INFO, and the
// highest slot in use.
func (n *Namespace) MsgInfo(cmd int32) (info [8]int32, top int32) {
	top, used := n.msg.top()
	l := &n.Limits
	info = [8]int32{msgMNI * msgMNB / 1024, msgMNB, int32(l.MsgMax.Load()), int32(l.MsgMNB.Load()), int32(n.msg.limit.Load()), 16, msgMNB, 0xffff}
	if cmd == MsgInfo {
		info[0], info[1], info[6] = used, int32(n.used.msgCount.Load()), int32(n.used.msgBytes.Load())
	}
	return info, top
}

// MsgSet is IPC_SET: EINVAL, EPERM, also for a size beyond msgmnb without CAP_SYS_RESOURCE.
func (n *Namespace) MsgSet(t *task.Thread, id int32, uid, gid, mode uint32, qbytes uint64) error {
	q, err := n.msg.change(t, id)
	if err != nil {
		return err
	}
	defer q.mu.Unlock()
	if qbytes > uint64(n.Limits.MsgMNB.Load()) && !t.Creds().Can(unix.CAP_SYS_RESOURCE) {
		return unix.EPERM
	}
	if err := q.perm.update(uid, gid, mode); err != nil {
		return err
	}
	q.qbytes, q.ctime = qbytes, n.now()
	q.expunge(nil) // permissions and room may be others now
	q.wakeSenders()
	return nil
}

// expunge makes all receivers look again, or fail. mu is held.
func (q *msgQueue) expunge(err error) {
	for _, r := range q.receivers {
		r.finish(nil, err)
	}
	q.receivers = nil
}

// MsgRemove is IPC_RMID: EINVAL, EPERM. Who waits gets EIDRM.
func (n *Namespace) MsgRemove(t *task.Thread, id int32) error {
	q, err := n.msg.remove(t, id)
	if err != nil {
		return err
	}
	defer q.mu.Unlock()
	q.expunge(unix.EIDRM)
	for _, s := range q.senders {
		s.t.NotifyEvent(0)
	}
	for _, m := range q.msgs {
		n.count(-len(m.Data), -1)
		n.Free(m)
	}
	q.msgs, q.senders, q.bytes = nil, nil, 0
	n.uncharge(msgQueueCost)
	return nil
}

// Msgs lists all queues for /proc/sysvipc/msg.
func (n *Namespace) Msgs() (out []MsgDS) {
	n.msg.each(func(q *msgQueue) { out = append(out, q.ds()) })
	return out
}
