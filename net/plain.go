package net

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
)

// queueSizes are the sizes that a socket without an endpoint of netstack's gives its own
// queues: SO_SNDBUF and SO_RCVBUF as they are read back, guarded by the socket's mutex.
type queueSizes struct {
	mu       *sync.Mutex
	snd, rcv *int
	most     int64
}

// held is q for who holds the mutex.
func (q queueSizes) held() queueSizes {
	q.mu = nil
	return q
}

// setPlain serves SOL_SOCKET for AF_UNIX, AF_PACKET, AF_NETLINK and AF_VSOCK: what setCommon does,
// sizes of queues, and what Linux keeps for every family whether or not it heeds it.
// errNotHere: it is an option of the family, or none. See sock_setsockopt.
func (b *base) setPlain(c *Caller, name int, v []byte, q queueSizes) error {
	if name == unix.SO_LINGER {
		if len(v) < 8 {
			return unix.EINVAL
		}
		on := int32(0)
		if binary.LittleEndian.Uint32(v) != 0 {
			on = 1
			b.opt.lingerSeconds.Store(int32(binary.LittleEndian.Uint32(v[4:])))
		}
		b.opt.kept.store(unix.SOL_SOCKET, name, on)
		return nil
	}
	switch name {
	case unix.SO_ATTACH_FILTER:
		return b.attachFilter(c, v)
	case unix.SO_DETACH_FILTER:
		if _, err := intArg(v); err != nil {
			return err
		}
		return b.detachFilter()
	}
	if err := b.setCommon(c, name, v); err != errNotHere {
		return err
	}
	n, _ := intArg(v)
	force := name == unix.SO_SNDBUFFORCE || name == unix.SO_RCVBUFFORCE
	if force && !c.capable(capNetAdmin) {
		return unix.EPERM
	}
	switch name {
	case unix.SO_SNDBUF, unix.SO_SNDBUFFORCE:
		q.mu.Lock()
		*q.snd = int(clampBuf(n, minSndBuf, q.most, force))
		q.mu.Unlock()
	case unix.SO_RCVBUF, unix.SO_RCVBUFFORCE:
		q.mu.Lock()
		*q.rcv = int(clampBuf(n, minRcvBuf, q.most, force))
		q.mu.Unlock()
	case unix.SO_REUSEPORT:
		if n != 0 {
			return unix.EOPNOTSUPP
		}
	case unix.SO_BINDTOIFINDEX:
		return b.keepDevice(c, n)
	case unix.SO_REUSEADDR, unix.SO_KEEPALIVE, unix.SO_BROADCAST, unix.SO_NO_CHECK:
		if n != 0 {
			n = 1
		}
		b.opt.kept.store(unix.SOL_SOCKET, name, n)
	default:
		return errNotHere
	}
	return nil
}

// keepDevice notes the interface that a socket without packets is bound to, there or not: EPERM,
// EINVAL (sock_bindtoindex_locked).
func (b *base) keepDevice(c *Caller, index int32) error {
	switch {
	case b.keptDevice() != 0 && !c.capable(capNetRaw):
		return unix.EPERM
	case index < 0:
		return unix.EINVAL
	}
	b.opt.kept.store(unix.SOL_SOCKET, unix.SO_BINDTODEVICE, index)
	return nil
}

func (b *base) keptDevice() int32 {
	n, _ := b.opt.kept.load(unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
	return n
}

// bindToDevice is SO_BINDTODEVICE, which is kept, and nothing else: ENODEV, EPERM.
func (b *base) bindToDevice(s *Stack, c *Caller, name string) error {
	nic, err := s.deviceNamed(name)
	if err != nil {
		return err
	}
	return b.keepDevice(c, int32(nic))
}

// getPlain is setPlain's other direction; nil for an option it does not know.
func (b *base) getPlain(name int, q queueSizes) []byte {
	if name == soTxrehash { // the system's choice is for sockets of IP
		n, _ := b.opt.kept.load(unix.SOL_SOCKET, name)
		return intVal(int(n))
	}
	if v := b.getCommon(name); v != nil {
		return v
	}
	switch name {
	case unix.SO_SNDBUF:
		q.mu.Lock()
		defer q.mu.Unlock()
		return intVal(*q.snd)
	case unix.SO_RCVBUF:
		q.mu.Lock()
		defer q.mu.Unlock()
		return intVal(*q.rcv)
	case unix.SO_REUSEADDR, unix.SO_REUSEPORT, unix.SO_KEEPALIVE, unix.SO_BROADCAST, unix.SO_NO_CHECK:
		n, _ := b.opt.kept.load(unix.SOL_SOCKET, name)
		return intVal(int(n))
	case unix.SO_BINDTOIFINDEX:
		return intVal(int(b.keptDevice()))
	case unix.SO_LINGER:
		n, _ := b.opt.kept.load(unix.SOL_SOCKET, name)
		return append(intVal(int(n)), intVal(int(b.opt.lingerSeconds.Load()))...)
	}
	return nil
}

// getNobody serves the last options of getsockopt for sockets whose peers are no processes. q has
// no mutex where that is held.
func (b *base) getNobody(s *Stack, name, room int, q queueSizes) ([]byte, error) {
	switch name {
	case unix.SO_PEERCRED:
		return append(append(le32(0), le32(^uint32(0))...), le32(^uint32(0))...), nil
	case unix.SO_PEERGROUPS:
		return nil, unix.ENODATA
	case unix.SO_BINDTODEVICE:
		return s.deviceName(tcpip.NICID(b.keptDevice()), room)
	case unix.SO_MEMINFO:
		if q.mu != nil {
			q.mu.Lock()
			defer q.mu.Unlock()
		}
		v := make([]byte, memInfoSize)
		binary.LittleEndian.PutUint32(v[4:], uint32(*q.rcv))
		binary.LittleEndian.PutUint32(v[12:], uint32(*q.snd))
		return v, nil
	}
	return nil, notPlain(name)
}

// notPlain is the error for an option that neither these functions nor the family know.
func notPlain(name int) error {
	if name == unix.SO_PEEK_OFF {
		return unix.EOPNOTSUPP
	}
	return unix.ENOPROTOOPT
}
