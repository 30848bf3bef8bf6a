package net

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// SetOption implements Socket.
func (x *unixSocket) SetOption(c *Caller, level, name int, v []byte) error {
	if level != unix.SOL_SOCKET {
		return unix.EOPNOTSUPP
	}
	if name == unix.SO_BINDTODEVICE {
		return x.bindToDevice(x.s, c, cstring(v))
	}
	err := x.setPlain(c, name, v, x.sizes())
	if err == nil && (name == unix.SO_SNDBUF || name == unix.SO_SNDBUFFORCE) {
		x.mu.Lock()
		x.sent.most.Store(int64(x.sndbuf))
		x.mu.Unlock()
		x.q.Notify(waiter.WritableEvents) // there may be room now
	}
	if err != errNotHere {
		return err
	}
	n, _ := intArg(v)
	switch name {
	case unix.SO_PASSSEC:
		x.passSec.Store(n != 0)
	case unix.SO_PEEK_OFF:
		x.opt.peekOff.Store(n)
	default:
		return unix.ENOPROTOOPT
	}
	return nil
}

func (x *unixSocket) sizes() queueSizes { return queueSizes{&x.mu, &x.sndbuf, &x.rcvbuf, 2 * unixBuf} }

// GetOption implements Socket.
func (x *unixSocket) GetOption(_ *Caller, level, name, n int) ([]byte, error) {
	if level != unix.SOL_SOCKET {
		return nil, unix.EOPNOTSUPP
	}
	if b := x.getPlain(name, x.sizes()); b != nil {
		return b, nil
	}
	if b, err, ok := getAny(x, name, n); ok {
		return b, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch name {
	case unix.SO_ERROR:
		return soError(&x.err), nil
	case unix.SO_ACCEPTCONN:
		return boolVal(x.listening), nil
	case unix.SO_PEERCRED:
		u := x.peerCreds
		switch {
		case x.listening:
			u = x.creds // its own
		case !x.connected:
			u = Ucred{UID: ^uint32(0), GID: ^uint32(0)}
		}
		return append(append(le32(uint32(u.PID)), le32(u.UID)...), le32(u.GID)...), nil
	case unix.SO_PEEK_OFF:
		return intVal(int(x.opt.peekOff.Load())), nil
	case unix.SO_PASSSEC:
		return boolVal(x.passSec.Load()), nil
	case unix.SO_BINDTODEVICE:
		return x.s.deviceName(tcpip.NICID(x.keptDevice()), n)
	case unix.SO_PEERGROUPS:
		if !x.connected && !x.listening {
			return nil, unix.ENODATA
		}
		var b []byte
		for _, g := range x.peerGroups {
			b = append(b, le32(g)...)
		}
		if n < len(b) {
			return b, unix.ERANGE
		}
		return b, nil
	case unix.SO_MEMINFO:
		b := make([]byte, memInfoSize) // what waits counts as the sender's
		binary.LittleEndian.PutUint32(b[4:], uint32(x.rcvbuf))
		binary.LittleEndian.PutUint32(b[8:], uint32(x.sent.size.Load()))
		binary.LittleEndian.PutUint32(b[12:], uint32(x.sndbuf))
		return b, nil
	case unix.SO_GET_FILTER:
		return x.getFilter(n)
	}
	return nil, unix.ENOPROTOOPT
}
