package net

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// NETLINK_CONNECTOR: process events, which programs ask for and then hear of in group
// CN_IDX_PROC. See the kernel's Documentation/driver-api/connector.rst, linux/cn_proc.h.

// Tasks are what the kernel's tasks offer to netlink. None of it is needed: without it
// nothing happens and no task is known.
type Tasks struct {
	// Observe says what is wanted from then on: process events, ends of threads.
	Observe func(events, exits bool)
	// Stats is struct taskstats of the thread, or with group the process, with a number; ESRCH.
	Stats func(id int32, group bool) ([]byte, error)
	// Now is the monotonic clock, in nanoseconds; CPUs how many there are.
	Now  func() int64
	CPUs int
}

// tasks are Tasks with who listens.
type tasks struct {
	mu sync.Mutex
	Tasks
	listeners int                         // PROC_CN_MCAST_LISTEN less PROC_CN_MCAST_IGNORE
	exits     map[*netlinkSocket][]uint64 // by CPU, for taskstats
	seq       [256]atomic.Uint32          // events sent, by CPU
}

// SetTasks makes the tasks known, once at boot.
func (s *Stack) SetTasks(t Tasks) {
	s.tasks.mu.Lock()
	s.tasks.Tasks = t
	s.tasks.mu.Unlock()
}

// observe says what is wanted now. Called with mu held.
func (t *tasks) observe() {
	if t.Observe != nil {
		t.Observe(t.listeners > 0, len(t.exits) > 0)
	}
}

// Sizes of struct cn_msg and struct proc_event, and the operations of
// PROC_CN_MCAST (linux/connector.h, linux/cn_proc.h).
const (
	cnHead     = 20
	cnProc     = 1 // CN_IDX_PROC and CN_VAL_PROC
	cnMost     = 16384
	procEvent  = 40
	cnListen   = 1
	cnIgnore   = 2
	procNobody = 0 // PROC_EVENT_NONE: an acknowledgement
)

// connector takes a message to the connector: what is not for process events or not whole is
// dropped without a word. Who may not ask hears EPERM in an acknowledgement, if anybody
// listens at all.
func (s *Stack) connector(c *Caller, b []byte) {
	le := binary.LittleEndian
	if len(b) < unix.SizeofNlMsghdr {
		return
	}
	n := int(le.Uint32(b))
	if n < unix.SizeofNlMsghdr+cnHead || n > len(b) || n > unix.SizeofNlMsghdr+cnMost {
		return
	}
	m := b[unix.SizeofNlMsghdr:n]
	size := int(le.Uint16(m[16:]))
	if le.Uint32(m) != cnProc || le.Uint32(m[4:]) != cnProc || size != 4 || size > len(m)-cnHead {
		return
	}
	ack := le.Uint32(m[12:])
	t := &s.tasks
	t.mu.Lock()
	err := unix.Errno(0)
	switch op := le.Uint32(m[cnHead:]); {
	case !c.capable(capNetAdmin):
		err = unix.EPERM
	case op == cnListen:
		t.listeners++
	case op == cnIgnore:
		t.listeners--
	default:
		err = unix.EINVAL
	}
	heard := t.listeners > 0
	t.observe()
	t.mu.Unlock()
	if heard {
		var data [24]byte
		le.PutUint32(data[:], uint32(err))
		s.procEvent(procNobody, 0, ack+1, data)
	}
}

// ProcEvent tells of what a process did (PROC_EVENT_*, with its event_data) on a CPU.
func (s *Stack) ProcEvent(what, cpu uint32, data [24]byte) { s.procEvent(what, cpu, 0, data) }

func (s *Stack) procEvent(what, cpu, ack uint32, data [24]byte) {
	le := binary.LittleEndian
	t := &s.tasks
	seq := t.seq[cpu%uint32(len(t.seq))].Add(1) - 1
	b := make([]byte, unix.SizeofNlMsghdr+cnHead, unix.SizeofNlMsghdr+cnHead+procEvent)
	le.PutUint32(b, uint32(cap(b)))
	le.PutUint16(b[4:], unix.NLMSG_DONE)
	le.PutUint32(b[8:], seq)
	m := b[unix.SizeofNlMsghdr:]
	le.PutUint32(m, cnProc)
	le.PutUint32(m[4:], cnProc)
	le.PutUint32(m[8:], seq)
	le.PutUint32(m[12:], ack)
	le.PutUint16(m[16:], procEvent)
	b = le.AppendUint32(b, what)
	b = le.AppendUint32(b, cpu)
	b = le.AppendUint64(b, uint64(t.now()))
	s.broadcast(unix.NETLINK_CONNECTOR, nlMessage{b: append(b, data[:]...), group: cnProc}, nil)
}

func (t *tasks) now() int64 {
	if t.Now == nil {
		return 0
	}
	return t.Now()
}
