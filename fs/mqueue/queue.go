package mqueue

import (
	"fmt"
	"slices"
	"sort"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

// Attr is struct mq_attr.
type Attr struct{ Flags, MaxMsg, MsgSize, CurMsgs int64 }

// message is one, in order of priority and then of arrival.
type message struct {
	data []byte
	prio uint32
}

func (m *message) cost() int64 { return msgCost + int64(len(m.data)) }

// queue is a queue and its inode. The limits never change; refs and what RLIMIT_MSGQUEUE
// counts are FS.mu's, the rest is mu's.
type queue struct {
	vfs.BaseInode
	vfs.WriteAccess
	fs              *FS
	maxMsg, msgSize int64
	refs            int // its name and its files
	payer           uint32
	reserved        int64

	q  waiter.Queue // pollers
	mu sync.Mutex

	attr      vfs.Attr
	msgs      []*message
	bytes     int64
	senders   []*waiting
	receivers []*waiting
	notify    *registration
}

// waiting is a blocked thread: with the message it wants to send, or for the one it gets.
type waiting struct {
	t    *task.Thread
	msg  *message
	done bool
}

// handle is an open queue.
type handle struct {
	vfs.BaseOps
	q *queue
}

// Queue is an open queue, for the mq calls; Of gives that of a file, nil for others.
type Queue struct{ *queue }

// Of is the queue behind a file.
func Of(f *vfs.File) *Queue {
	if h, ok := f.Ops.(*handle); ok {
		return &Queue{h.q}
	}
	return nil
}

func (q *queue) attrs() vfs.Attr {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.attr
}

// Attr and SetAttr implement vfs.Inode.
func (q *queue) Attr(wait.Context) (vfs.Attr, error) { return q.attrs(), nil }

func (q *queue) SetAttr(_ wait.Context, a vfs.SetAttr) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return setAttr(&q.attr, a, q.fs.now())
}

// Open implements vfs.Inode.
func (q *queue) Open(wait.Context, uint32) (vfs.FileOps, error) {
	q.fs.mu.Lock()
	defer q.fs.mu.Unlock()
	if q.refs == 0 {
		return nil, unix.ENOENT
	}
	q.refs++
	return &handle{q: q}, nil
}

// Release implements vfs.FileOps.
func (h *handle) Release(*vfs.File) {
	h.q.fs.mu.Lock()
	defer h.q.fs.mu.Unlock()
	h.q.fs.dropRef(h.q)
}

func (h *handle) Attr(c wait.Context) (vfs.Attr, error)       { return h.q.Attr(c) }
func (h *handle) SetAttr(c wait.Context, a vfs.SetAttr) error { return h.q.SetAttr(c, a) }
func (h *handle) Seekable() bool                              { return true }

// Writes implements vfs.Writable.
func (h *handle) Writes() *vfs.WriteAccess { return h.q.Writes() }

// Unallocatable implements vfs.Unallocatable.
func (h *handle) Unallocatable() {}

// Allocate implements vfs.FileOps: a regular file without such an operation.
func (h *handle) Allocate(wait.Context, uint32, int64, int64) error { return unix.EOPNOTSUPP }

// mqueueMagic is MQUEUE_MAGIC (include/uapi/linux/magic.h).
const mqueueMagic = 0x19800202

// Seek implements vfs.Seeker (default_llseek).
func (h *handle) Seek(_ wait.Context, _ *vfs.File, cur, off int64, whence int) (int64, error) {
	switch whence {
	case unix.SEEK_SET:
	case unix.SEEK_CUR:
		off += cur
	case unix.SEEK_END:
		off += h.q.attrs().Size
	case unix.SEEK_DATA, unix.SEEK_HOLE:
		size := h.q.attrs().Size
		if off >= size {
			return 0, unix.ENXIO
		}
		if whence == unix.SEEK_HOLE {
			off = size
		}
	default:
		return 0, unix.EINVAL
	}
	if off < 0 {
		return 0, unix.EINVAL
	}
	return off, nil
}

// Unwritable implements vfs.Unwritable.
func (h *handle) Unwritable() {}

// Magic is the file system's.
func (h *handle) Magic() uint64 { return mqueueMagic }

// Read implements vfs.FileOps: a line about the queue (mqueue_read_file).
func (h *handle) Read(_ wait.Context, _ *vfs.File, dst *mm.IOSeq, off int64) (int, error) {
	q := h.q
	q.mu.Lock()
	notify, signo, pid := int32(0), int32(0), int32(0)
	if r := q.notify; r != nil {
		if notify, pid = r.notify, r.pid; r.notify == SigevSignal {
			signo = r.signo
		}
	}
	line := fmt.Sprintf("QSIZE:%-10d NOTIFY:%-5d SIGNO:%-5d NOTIFY_PID:%-6d\n", q.bytes, notify, signo, pid)
	now := q.fs.now()
	q.attr.Atime, q.attr.Ctime = now, now
	q.mu.Unlock()
	if off < 0 || off >= int64(len(line)) {
		return 0, nil
	}
	return dst.CopyOut([]byte(line[off:]))
}

// Flush implements vfs.FileOps: a process that closes a descriptor of the queue is no
// longer told of messages.
func (h *handle) Flush(t *vfs.FDTable, _ *vfs.File) {
	h.q.mu.Lock()
	if r := h.q.notify; r != nil && r.table == t {
		h.q.unregister()
	}
	h.q.mu.Unlock()
}

// CanPoll implements epoll.CanPoll.
func (h *handle) CanPoll() {}

// Readiness implements waiter.Waitable.
func (h *handle) Readiness(mask waiter.EventMask) waiter.EventMask {
	h.q.mu.Lock()
	defer h.q.mu.Unlock()
	var r waiter.EventMask
	if len(h.q.msgs) > 0 {
		r |= waiter.ReadableEvents
	}
	if int64(len(h.q.msgs)) < h.q.maxMsg {
		r |= waiter.WritableEvents
	}
	return r & mask
}

// EventRegister and EventUnregister implement waiter.Waitable.
func (h *handle) EventRegister(e *waiter.Entry) error { h.q.q.EventRegister(e); return nil }
func (h *handle) EventUnregister(e *waiter.Entry)     { h.q.q.EventUnregister(e) }

// Attrs is mq_getattr without the flags.
func (q *Queue) Attrs() Attr {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Attr{MaxMsg: q.maxMsg, MsgSize: q.msgSize, CurMsgs: int64(len(q.msgs))}
}

// MsgSize is the longest message.
func (q *Queue) MsgSize() int64 { return q.msgSize }

// touch notes that the queue has changed. mu is held.
func (q *queue) touch() {
	now := q.fs.now()
	q.attr.Atime, q.attr.Mtime, q.attr.Ctime = now, now, now
}

// insert puts a message behind those of its priority. mu is held.
func (q *queue) insert(m *message) {
	i := sort.Search(len(q.msgs), func(i int) bool { return q.msgs[i].prio < m.prio })
	q.msgs = slices.Insert(q.msgs, i, m)
	q.bytes += int64(len(m.data))
}

// Send is mq_timedsend with a message whose bytes are size long and that fill copies in:
// ENOMEM, fill's error, EAGAIN, ETIMEDOUT, ERESTARTSYS.
func (q *Queue) Send(t *task.Thread, nonblock bool, size int, prio uint32, deadline int64, fill func(b []byte) error) error {
	b := q.fs.mem.Budget()
	cost := msgCost + int64(size)
	if !b.Charge(cost) {
		return unix.ENOMEM
	}
	m := &message{data: make([]byte, size), prio: prio}
	if err := fill(m.data); err != nil {
		b.Uncharge(cost)
		return err
	}
	q.mu.Lock()
	if int64(len(q.msgs)) < q.maxMsg {
		q.deliver(t, m)
		q.mu.Unlock()
		q.q.Notify(waiter.ReadableEvents)
		return nil
	}
	var err error
	if nonblock {
		q.mu.Unlock()
		err = unix.EAGAIN
	} else {
		w := &waiting{t: t, msg: m}
		q.senders = append(q.senders, w)
		q.mu.Unlock()
		err = q.block(w, &q.senders, deadline)
	}
	if err != nil {
		b.Uncharge(cost)
	}
	return err
}

// deliver hands m to the first who waits, or queues it and tells who asked for it. mu is
// held.
func (q *queue) deliver(t *task.Thread, m *message) {
	if len(q.receivers) > 0 {
		w := q.receivers[0]
		q.receivers = slices.Delete(q.receivers, 0, 1)
		w.msg = m
		w.finish()
	} else {
		q.insert(m)
		if len(q.msgs) == 1 {
			q.tell(t)
		}
	}
	q.touch()
}

func (w *waiting) finish() {
	w.done = true
	w.t.NotifyEvent(0)
}

// block parks a thread until w is done: ETIMEDOUT, ERESTARTSYS.
func (q *queue) block(w *waiting, in *[]*waiting, deadline int64) error {
	if !q.fs.mem.Budget().Charge(waiterCost) {
		q.mu.Lock()
		defer q.mu.Unlock()
		return w.giveUp(in, unix.ENOMEM)
	}
	defer q.fs.mem.Budget().Uncharge(waiterCost)
	for {
		r := w.t.Block(deadline, wait.Interruptible)
		q.mu.Lock()
		if w.done || r != wait.Ready {
			err := w.giveUp(in, r.Err())
			q.mu.Unlock()
			return err
		}
		q.mu.Unlock()
	}
}

// giveUp takes w off its list, unless it is done: then there is no error. mu is held.
func (w *waiting) giveUp(in *[]*waiting, err error) error {
	if w.done {
		return nil
	}
	if i := slices.Index(*in, w); i >= 0 {
		*in = slices.Delete(*in, i, i+1)
	}
	return err
}

// Receive is mq_timedreceive; take copies the message out: EAGAIN, ETIMEDOUT, ENOMEM,
// ERESTARTSYS, take's error, which loses the message.
func (q *Queue) Receive(t *task.Thread, nonblock bool, deadline int64, take func(b []byte, prio uint32) error) (int, error) {
	q.mu.Lock()
	var m *message
	switch {
	case len(q.msgs) > 0:
		m = q.msgs[0]
		q.msgs[0] = nil
		if q.msgs = q.msgs[1:]; len(q.msgs) == 0 {
			q.msgs = nil
		}
		q.bytes -= int64(len(m.data))
		q.touch()
		if len(q.senders) > 0 {
			w := q.senders[0]
			q.senders = slices.Delete(q.senders, 0, 1)
			q.insert(w.msg)
			w.finish()
		}
		q.mu.Unlock()
		q.q.Notify(waiter.WritableEvents)
	case nonblock:
		q.mu.Unlock()
		return 0, unix.EAGAIN
	default:
		w := &waiting{t: t}
		q.receivers = append(q.receivers, w)
		q.mu.Unlock()
		if err := q.block(w, &q.receivers, deadline); err != nil {
			return 0, err
		}
		m = w.msg
	}
	defer q.fs.mem.Budget().Uncharge(m.cost())
	return len(m.data), take(m.data, m.prio)
}
