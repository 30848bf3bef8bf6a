package ipc

import (
	"math"
	"slices"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

// Limits and flags of message queues (uapi/linux/msg.h).
const (
	msgMNI = 32000
	msgMax = 8192
	msgMNB = 16384

	// MsgNoError, MsgExcept and MsgCopy are msgrcv's flags.
	MsgNoError = 0o10000
	MsgExcept  = 0o20000
	MsgCopy    = 0o40000

	msgCost      = 96 // of a message beside its bytes
	msgQueueCost = 512
	msgWaitCost  = 160
)

// Msg is one message. Its bytes belong to who holds it.
type Msg struct {
	Type int64
	Data []byte
}

func (m *Msg) cost() int64 { return msgCost + int64(len(m.Data)) }

// msgQueue is a queue. Senders wait for room and receivers for a message in the order
// they came; a message that a receiver waits for is handed to it.
type msgQueue struct {
	base
	msgs                []*Msg
	bytes, qbytes       uint64
	stime, rtime, ctime int64
	lspid, lrpid        int32
	senders             []*msgSender
	receivers           []*msgReceiver
}

type msgSender struct {
	t    *task.Thread
	size int
}

type msgReceiver struct {
	t    *task.Thread
	pid  int32
	typ  int64
	mode msgMode
	most int // the longest message it takes
	msg  *Msg
	err  error
	done bool
}

// msgMode says how msgrcv's type chooses.
type msgMode uint8

const (
	msgAny msgMode = iota
	msgEqual
	msgNotEqual
	msgLessEqual // the lowest type
	msgNumber    // the n-th message
)

// Msgget finds or makes a queue: ENOENT, EEXIST, EACCES; ENOSPC, ENOMEM.
func (n *Namespace) Msgget(t *task.Thread, key int32, flags uint32) (int32, error) {
	return n.msg.get(t, key, flags, func(*msgQueue) error { return nil },
		func() (*msgQueue, error) {
			if err := n.charge(msgQueueCost); err != nil {
				return nil, err
			}
			return &msgQueue{base: base{perm: newPerm(t, key, flags)}, qbytes: uint64(n.Limits.MsgMNB.Load()), ctime: n.now()}, nil
		}, func(*msgQueue) { n.uncharge(msgQueueCost) })
}

// NewMsg is the room for a message of size bytes, charged until it is received or
// Free is called: ENOMEM.
func (n *Namespace) NewMsg(typ int64, size int) (*Msg, error) {
	m := &Msg{Type: typ}
	if err := n.charge(msgCost + int64(size)); err != nil {
		return nil, err
	}
	m.Data = make([]byte, size)
	return m, nil
}

// Free gives a message's charge back.
func (n *Namespace) Free(m *Msg) { n.uncharge(m.cost()) }

func (n *Namespace) count(bytes, msgs int) {
	n.used.msgBytes.Add(int64(bytes))
	n.used.msgCount.Add(int64(msgs))
}

func (q *msgQueue) fits(size int) bool {
	return q.bytes+uint64(size) <= q.qbytes && uint64(len(q.msgs))+1 <= q.qbytes
}

// Msgsnd puts m into a queue, waiting for room: EINVAL, EACCES, EIDRM, EAGAIN, ENOMEM,
// ERESTARTNOHAND. The message is the queue's if there is no error.
func (n *Namespace) Msgsnd(t *task.Thread, id int32, m *Msg, flags uint32) error {
	q, err := n.msg.find(id)
	if err != nil {
		return err
	}
	defer q.mu.Unlock()
	for {
		switch {
		case !q.perm.allows(t.Creds(), ownW):
			return unix.EACCES
		case q.removed:
			return unix.EIDRM
		case q.fits(len(m.Data)):
			q.send(n, m, t.Process().PID())
			return nil
		case flags&Nowait != 0:
			return unix.EAGAIN
		}
		if err := n.charge(msgWaitCost); err != nil {
			return err
		}
		s := &msgSender{t, len(m.Data)}
		q.senders = append(q.senders, s)
		q.mu.Unlock()
		r := t.Block(hal.NoDeadline, wait.Interruptible)
		n.uncharge(msgWaitCost)
		q.mu.Lock()
		if i := slices.Index(q.senders, s); i >= 0 {
			q.senders = slices.Delete(q.senders, i, i+1)
		}
		if q.removed {
			return unix.EIDRM
		}
		if r != wait.Ready {
			return wait.ErrRestartNoHnd
		}
	}
}

// send hands m to the first receiver that wants it, or queues it. mu is held.
func (q *msgQueue) send(n *Namespace, m *Msg, pid int32) {
	q.lspid, q.stime = pid, n.now()
	for i := 0; i < len(q.receivers); {
		r := q.receivers[i]
		if !r.mode.takes(r.typ, m) {
			i++
			continue
		}
		q.receivers = slices.Delete(q.receivers, i, i+1)
		if r.most < len(m.Data) {
			r.finish(nil, unix.E2BIG)
			continue
		}
		q.lrpid, q.rtime = r.pid, n.now()
		r.finish(m, nil)
		return
	}
	q.msgs = append(q.msgs, m)
	q.bytes += uint64(len(m.Data))
	n.count(len(m.Data), 1)
}

func (r *msgReceiver) finish(m *Msg, err error) {
	r.msg, r.err, r.done = m, err, true
	r.t.NotifyEvent(0)
}

func (m msgMode) takes(typ int64, msg *Msg) bool {
	switch m {
	case msgEqual:
		return msg.Type == typ
	case msgNotEqual:
		return msg.Type != typ
	case msgLessEqual:
		return msg.Type <= typ
	}
	return true
}

// modeOf is convert_mode.
func modeOf(typ int64, flags uint32) (msgMode, int64) {
	switch {
	case flags&MsgCopy != 0:
		return msgNumber, typ
	case typ == 0:
		return msgAny, 0
	case typ == math.MinInt64:
		return msgLessEqual, math.MaxInt64
	case typ < 0:
		return msgLessEqual, -typ
	case flags&MsgExcept != 0:
		return msgNotEqual, typ
	}
	return msgEqual, typ
}

// choose is the index of the message that is wanted, -1: none. mu is held.
func (q *msgQueue) choose(mode msgMode, typ int64) int {
	found := -1
	switch mode {
	case msgNumber:
		if typ >= 0 && typ < int64(len(q.msgs)) {
			return int(typ)
		}
	case msgLessEqual:
		for i, m := range q.msgs {
			if m.Type <= typ && (found < 0 || m.Type < q.msgs[found].Type) {
				found = i
			}
		}
	default:
		return slices.IndexFunc(q.msgs, func(m *Msg) bool { return mode.takes(typ, m) })
	}
	return found
}

// Msgrcv takes a message, waiting for one: EINVAL, EACCES, EIDRM, E2BIG, ENOMSG, ENOMEM,
// ERESTARTNOHAND; with MsgCopy a copy of the message that typ counts to, EINVAL if it is
// longer than size. The caller copies size bytes of it at most and calls Free.
func (n *Namespace) Msgrcv(t *task.Thread, id int32, size uint64, typ int64, flags uint32) (*Msg, error) {
	most := math.MaxInt
	if flags&MsgNoError == 0 && size < math.MaxInt {
		most = int(size)
	}
	mode, typ := modeOf(typ, flags)
	q, err := n.msg.find(id)
	if err != nil {
		return nil, err
	}
	defer q.mu.Unlock()
	for {
		switch {
		case !q.perm.allows(t.Creds(), ownR):
			return nil, unix.EACCES
		case q.removed:
			return nil, unix.EIDRM
		}
		if i := q.choose(mode, typ); i >= 0 {
			m := q.msgs[i]
			switch {
			case len(m.Data) > most:
				return nil, unix.E2BIG
			case flags&MsgCopy != 0:
				return n.copyMsg(m, size)
			}
			q.take(n, i, t.Process().PID())
			return m, nil
		}
		if flags&Nowait != 0 {
			return nil, unix.ENOMSG
		}
		if err := n.charge(msgWaitCost); err != nil {
			return nil, err
		}
		r := &msgReceiver{t: t, pid: t.Process().PID(), typ: typ, mode: mode, most: most}
		q.receivers = append(q.receivers, r)
		q.mu.Unlock()
		err := n.waitMsg(q, r)
		n.uncharge(msgWaitCost)
		q.mu.Lock()
		if err != nil || r.msg != nil {
			return r.msg, err
		}
	}
}

// waitMsg parks a receiver; neither a message nor an error means that it is to look again.
func (n *Namespace) waitMsg(q *msgQueue, r *msgReceiver) error {
	for {
		how := r.t.Block(hal.NoDeadline, wait.Interruptible)
		q.mu.Lock()
		if !r.done && how != wait.Ready {
			if i := slices.Index(q.receivers, r); i >= 0 {
				q.receivers = slices.Delete(q.receivers, i, i+1)
			}
			r.done, r.err = true, wait.ErrRestartNoHnd
		}
		done := r.done
		q.mu.Unlock()
		if done {
			return r.err
		}
	}
}

func (n *Namespace) copyMsg(m *Msg, size uint64) (*Msg, error) {
	if uint64(len(m.Data)) > min(size, uint64(n.Limits.MsgMax.Load())) {
		return nil, unix.EINVAL
	}
	c, err := n.NewMsg(m.Type, len(m.Data))
	if err == nil {
		copy(c.Data, m.Data)
	}
	return c, err
}

// take removes message i for the process pid. mu is held.
func (q *msgQueue) take(n *Namespace, i int, pid int32) {
	m := q.msgs[i]
	if i == 0 {
		q.msgs[0] = nil
		q.msgs = q.msgs[1:]
	} else {
		q.msgs = slices.Delete(q.msgs, i, i+1)
	}
	if len(q.msgs) == 0 {
		q.msgs = nil
	}
	q.bytes -= uint64(len(m.Data))
	n.count(-len(m.Data), -1)
	q.lrpid, q.rtime = pid, n.now()
	q.wakeSenders()
}

// wakeSenders wakes those whose message may fit; the others go to the tail (ss_wakeup).
// mu is held.
func (q *msgQueue) wakeSenders() {
	var stays, woken []*msgSender
	for _, s := range q.senders {
		if q.fits(s.size) {
			woken = append(woken, s)
			s.t.NotifyEvent(0)
		} else {
			stays = append(stays, s)
		}
	}
	q.senders = append(woken, stays...)
}
