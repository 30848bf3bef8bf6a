package net

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/mm"
)

// Urgent data of AF_UNIX streams (since Linux 5.15): one byte that MSG_OOB receives ahead of
// the others. It keeps its place in the queue, where an ordinary receive stops before it
// and then skips it, unless SO_OOBINLINE is set.

// sendOOB sends all of src, the last byte as the urgent one: EOPNOTSUPP for none.
func (x *unixSocket) sendOOB(c *Caller, peer *unixSocket, src *mm.IOSeq, m *SendMsg) (int, error) {
	n := src.Len()
	if n == 0 {
		return 0, unix.EOPNOTSUPP
	}
	done := 0
	if n > 1 {
		head := *src
		head.Limit(n - 1)
		var err error
		if done, err = x.sendStream(c, peer, &head, m); err != nil || done < n-1 {
			src.Skip(done)
			return done, err
		}
		src.Skip(done)
	}
	if x.sent.full() {
		if done > 0 {
			return done, nil
		}
		return 0, unix.EAGAIN
	}
	msg, err := x.fill(c, src, 1, m)
	if err == nil {
		msg.oob = true
		if err = x.deliver(c, peer, &msg, m); err != nil {
			msg.free(x.s)
		}
	}
	if err != nil && done > 0 {
		return done, nil
	}
	if err != nil {
		return 0, err
	}
	return done + 1, nil
}

// urgent is the index of the urgent byte in the queue, -1 if there is none. mu is held.
func (x *unixSocket) urgent() int {
	for i := range x.rx {
		if x.rx[i].oob {
			return i
		}
	}
	return -1
}

// recvOOB receives the urgent byte: EINVAL if there is none, or it is to be read inline.
func (x *unixSocket) recvOOB(dst *mm.IOSeq, m *RecvMsg) (int, error) {
	if !x.stream() {
		return 0, unix.EOPNOTSUPP
	}
	x.mu.Lock()
	i := x.urgent()
	if i < 0 || x.opt.oobinline.Load() {
		x.mu.Unlock()
		return 0, unix.EINVAL
	}
	b := [1]byte{x.rx[i].bytes()[0]}
	if m.Flags&unix.MSG_PEEK == 0 {
		msg := x.remove(i)
		x.mu.Unlock()
		msg.drop(x.s)
	} else {
		x.mu.Unlock()
	}
	m.OutFlags |= unix.MSG_OOB
	return dst.CopyOut(b[:])
}

// remove takes message i out of the queue. mu is held.
func (x *unixSocket) remove(i int) unixMsg {
	msg := x.rx[i]
	if len(msg.files) > 0 {
		x.withFiles--
	}
	x.rx = append(x.rx[:i:i], x.rx[i+1:]...)
	x.rxBytes -= msg.len()
	return msg
}

// atMark says whether the urgent byte is the next to read (SIOCATMARK). mu is held.
func (x *unixSocket) atMark() bool { return x.urgent() == 0 }
