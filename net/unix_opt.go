package net

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"
)

// SetOption implements Socket.
func (x *unixSocket) SetOption(c *Caller, level, name int, v []byte) error {
	if level != unix.SOL_SOCKET {
		return unix.EOPNOTSUPP
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
	x.mu.Lock()
	defer x.mu.Unlock()
	switch name {
	case unix.SO_ERROR:
		return soError(&x.err), nil
	case unix.SO_ACCEPTCONN:
		return boolVal(x.listening), nil
	case unix.SO_PEERCRED:
		u := x.peerCreds
		if !x.connected {
			u = Ucred{UID: ^uint32(0), GID: ^uint32(0)}
		}
		return append(append(le32(uint32(u.PID)), le32(u.UID)...), le32(u.GID)...), nil
	case unix.SO_PEEK_OFF:
		return intVal(int(x.opt.peekOff.Load())), nil
	case unix.SO_PASSSEC:
		return boolVal(x.passSec.Load()), nil
	case unix.SO_BINDTODEVICE:
		return nil, nil
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
	case unix.SO_GET_FILTER:
		return x.getFilter(n)
	}
	return nil, unix.ENOPROTOOPT
}
