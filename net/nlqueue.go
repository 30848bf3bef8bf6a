package net

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/mm"
)

// nlMessage is a datagram for the program, and the group it went to, 0 for none; port and creds
// are the sender's, 0 for the kernel. It is charged to the budget while it is queued.
type nlMessage struct {
	b     []byte
	group int
	port  uint32
	creds Ucred
}

// cost is what it takes of SO_RCVBUF and of the budget.
func (m nlMessage) cost() int { return len(m.b) + truesize }

func (x *netlinkSocket) uncharge(l []nlMessage) {
	for _, m := range l {
		x.s.cfg.Budget.Uncharge(int64(m.cost()))
	}
}

// enqueue queues a message; false: there is no room. Like Linux it takes one more while
// there is any room at all. Called with mu held.
func (x *netlinkSocket) enqueue(m nlMessage) bool {
	if x.closed || x.bytes > x.rcvbuf || !x.s.cfg.Budget.Charge(int64(m.cost())) {
		return false
	}
	x.rx = append(x.rx, m)
	x.bytes += m.cost()
	return true
}

// Deliver queues b for the program to read, as the kernel's own message (mq_notify's
// cookie); what there is no room for is lost.
func (x *netlinkSocket) Deliver(b []byte) {
	n, ok := x.sift(b)
	if !ok {
		return
	}
	x.mu.Lock()
	ok = x.enqueue(nlMessage{b: append([]byte(nil), b[:n]...)})
	x.mu.Unlock()
	if ok {
		x.q.Notify(waiter.ReadableEvents)
	}
}

// post queues m, which is not changed any more, if its group is 0 or the socket listens to it;
// what there is no room for is ENOBUFS for its reader, unless he does not want to hear of it
// (netlink_overrun).
func (x *netlinkSocket) post(m nlMessage) {
	n, ok := x.sift(m.b)
	m.b = m.b[:n]
	x.mu.Lock()
	wants := ok && !x.closed && (m.group == 0 || x.groups>>(m.group-1)&1 != 0)
	if wants && !x.enqueue(m) {
		x.drops++
		x.over = !x.quiet
	}
	x.mu.Unlock()
	if wants {
		x.q.Notify(waiter.ReadableEvents | waiter.EventErr)
	}
}

// A dump is made at once, as what is listed was then, and waits outside of the receive queue,
// where a datagram of it comes each time the program reads (netlink_dump). A socket has one.

// nlDump are the datagrams of a dump that is being made.
type nlDump struct {
	l     []nlMessage
	short bool // of memory
}

// add takes a datagram, unless x's filter drops it.
func (d *nlDump) add(x *netlinkSocket, b []byte) {
	n, ok := x.sift(b)
	if !ok {
		return
	}
	m := nlMessage{b: b[:n]}
	if d.short = d.short || !x.s.cfg.Budget.Charge(int64(m.cost())); !d.short {
		d.l = append(d.l, m)
	}
}

// beginDump says whether a dump may be made now: the one before has been read but for its
// end (__netlink_dump_start).
func (x *netlinkSocket) beginDump() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	was := x.dumping
	x.dumping = true
	return !was
}

// endDump sends what has been collected, with the end in a datagram of its own unless it is
// all there is; an error ends the dump.
func (x *netlinkSocket) endDump(r *reply, err unix.Errno) unix.Errno {
	if err == 0 {
		r.flush()
		r.append(unix.NLMSG_DONE, le32(0))
		r.flush()
	}
	x.mu.Lock()
	if err == 0 && r.dump.short {
		err = unix.ENOBUFS
	}
	if x.rest = r.dump.l; x.closed || err != 0 {
		x.uncharge(x.rest)
		x.rest = nil
	}
	x.dumping = len(x.rest) > 0
	if x.bytes < x.rcvbuf {
		x.nextOfDump()
	}
	x.mu.Unlock()
	x.q.Notify(waiter.ReadableEvents)
	return err
}

// nextOfDump queues a datagram of the dump; false: there is none. Called with mu held.
func (x *netlinkSocket) nextOfDump() bool {
	if len(x.rest) == 0 {
		return false
	}
	m := x.rest[0]
	x.rest[0] = nlMessage{}
	x.rest = x.rest[1:]
	x.rx = append(x.rx, m)
	x.bytes += m.cost()
	x.dumping = len(x.rest) > 0
	return true
}

// Recv implements Socket.
func (x *netlinkSocket) Recv(_ *Caller, dst *mm.IOSeq, m *RecvMsg) (int, error) {
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	if err := x.TakeError(); err != nil {
		return 0, err
	}
	x.mu.Lock()
	if x.over {
		x.over = false
		x.mu.Unlock()
		return 0, unix.ENOBUFS
	}
	if len(x.rx) == 0 {
		x.mu.Unlock()
		return 0, unix.EAGAIN
	}
	msg := x.rx[0]
	b := msg.b
	if m.Flags&unix.MSG_PEEK == 0 {
		x.uncharge(x.rx[:1])
		x.bytes -= msg.cost()
		x.rx[0] = nlMessage{}
		x.rx = x.rx[1:]
	}
	more := x.bytes <= x.rcvbuf/2 && x.nextOfDump()
	pktIn := x.pktIn
	x.mu.Unlock()
	if more {
		x.q.Notify(waiter.ReadableEvents)
	}
	m.Full = len(b)
	m.setName(nlAddr(msg.port, groupMask(msg.group)))
	if pktIn {
		m.Control.Msgs = append(m.Control.Msgs, Cmsg{unix.SOL_NETLINK, unix.NETLINK_PKTINFO, le32(uint32(msg.group))})
	}
	if x.opt.passcred.Load() {
		m.Control.Creds, m.Control.HasCreds = msg.creds, true
	}
	if len(b) > dst.Len() {
		m.OutFlags |= unix.MSG_TRUNC
	}
	return dst.CopyOut(b)
}
