package net

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"
)

// MSG_ZEROCOPY with SO_ZEROCOPY. What is sent is copied, as Linux does on the way to a device
// that cannot gather: the memory is the program's again when the call returns, and the
// notification that says so waits in the error queue at once, one for all that nobody has read.

// zeroCopies are the calls that are to be told of, numbered from 0.
type zeroCopies struct {
	mu         sync.Mutex
	from, next uint32
	untold     atomic.Bool // from … next-1
}

// uapi/linux/errqueue.h.
const (
	originZerocopy = 5
	zerocopyCopied = 1
)

// maySendZerocopy says whether a kind of socket knows SO_ZEROCOPY.
func (b *base) maySendZerocopy() bool {
	return (b.domain == unix.AF_INET || b.domain == unix.AF_INET6) &&
		(b.typ == unix.SOCK_STREAM && b.pro == unix.IPPROTO_TCP || b.typ == unix.SOCK_DGRAM && b.pro == unix.IPPROTO_UDP)
}

// zerocopied is told of a call that has sent n bytes; it counts a call once, which goes on with
// the same m.
func (x *inetSocket) zerocopied(n int, m *SendMsg) {
	if n <= 0 || !x.opt.zerocopy.Load() {
		return
	}
	m.Flags &^= unix.MSG_ZEROCOPY
	z := &x.zero
	z.mu.Lock()
	if !z.untold.Load() {
		z.from = z.next
	}
	z.next++
	z.untold.Store(true)
	z.mu.Unlock()
	x.q.Notify(waiter.EventErr)
}

// zerocopyError is the notification, in the form of ip(7)'s IP_RECVERR; false: there is none.
func (x *inetSocket) zerocopyError(m *RecvMsg) bool {
	z := &x.zero
	z.mu.Lock()
	from, to, ok := z.from, z.next-1, z.untold.Load()
	z.untold.Store(false)
	z.mu.Unlock()
	if !ok {
		return false
	}
	m.OutFlags |= unix.MSG_ERRQUEUE
	b := make([]byte, 16+sizeIn, 16+sizeIn6)
	cm := Cmsg{unix.SOL_IP, unix.IP_RECVERR, nil}
	if x.domain == unix.AF_INET6 {
		cm.Level, cm.Type, b = unix.SOL_IPV6, unix.IPV6_RECVERR, b[:16+sizeIn6]
	}
	b[4], b[6] = originZerocopy, zerocopyCopied
	binary.LittleEndian.PutUint32(b[8:], from)
	binary.LittleEndian.PutUint32(b[12:], to)
	cm.Data = b
	m.Control.Msgs = append(m.Control.Msgs, cm)
	return true
}
