package net

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// SetOption implements Socket.
func (x *inetSocket) SetOption(c *Caller, level, name int, v []byte) error {
	switch level {
	case unix.SOL_SOCKET:
		return x.setSocket(c, name, v)
	case unix.SOL_TCP:
		if x.isTCP() {
			return x.setTCP(name, v)
		}
	case unix.SOL_IP:
		return x.setIP(c, name, v)
	case unix.SOL_IPV6:
		if x.domain == unix.AF_INET6 {
			return x.setIPv6(name, v)
		}
	case unix.SOL_UDP:
		if x.pro == unix.IPPROTO_UDP {
			switch name {
			case unix.UDP_CORK:
				if n, err := intArg(v); err != nil || n == 0 {
					return err
				}
			}
		}
	case unix.SOL_RAW:
		if x.typ == unix.SOCK_RAW {
			return unix.EOPNOTSUPP
		}
	}
	return unix.ENOPROTOOPT
}

// GetOption implements Socket.
func (x *inetSocket) GetOption(_ *Caller, level, name, n int) ([]byte, error) {
	var b []byte
	var err error
	switch level {
	case unix.SOL_SOCKET:
		b, err = x.getSocket(name)
	case unix.SOL_TCP:
		if !x.isTCP() {
			return nil, unix.EOPNOTSUPP
		}
		b, err = x.getTCP(name)
	case unix.SOL_IP:
		b, err = x.getIP(name)
		// ip_getsockopt answers one byte to who asks for less than an int.
		if err == nil && len(b) == 4 && n > 0 && n < 4 && b[1]|b[2]|b[3] == 0 {
			b = b[:1]
		}
	case unix.SOL_IPV6:
		if x.domain != unix.AF_INET6 {
			return nil, unix.ENOPROTOOPT
		}
		b, err = x.getIPv6(name)
	default:
		return nil, unix.EOPNOTSUPP
	}
	if err == nil && b == nil {
		err = unix.ENOPROTOOPT
	}
	return b, err
}

func (x *inetSocket) setSocket(c *Caller, name int, v []byte) error {
	o := x.ep.SocketOptions()
	switch name {
	case unix.SO_LINGER:
		if len(v) < 8 {
			return unix.EINVAL
		}
		on, sec := int32(binary.LittleEndian.Uint32(v)), int32(binary.LittleEndian.Uint32(v[4:]))
		o.SetLinger(tcpip.LingerOption{Enabled: on != 0, Timeout: time.Duration(uint32(sec)) * time.Second})
		return nil
	case unix.SO_BINDTODEVICE:
		return x.bindToDevice(cstring(v))
	}
	err := x.setCommon(c, name, v)
	if err != errNotHere {
		if err == nil && name == unix.SO_MARK {
			o.SetMark(x.opt.mark.Load())
		}
		return err
	}
	n, _ := intArg(v)
	switch name {
	case unix.SO_REUSEADDR:
		o.SetReuseAddress(n != 0)
	case unix.SO_REUSEPORT:
		o.SetReusePort(n != 0)
	case unix.SO_KEEPALIVE:
		o.SetKeepAlive(n != 0)
	case unix.SO_BROADCAST:
		o.SetBroadcast(n != 0)
	case unix.SO_NO_CHECK:
		o.SetNoChecksum(n != 0)
	case unix.SO_SNDBUF, unix.SO_SNDBUFFORCE:
		if name == unix.SO_SNDBUFFORCE && !c.capable(capNetAdmin) {
			return unix.EPERM
		}
		lo, hi := o.SendBufferLimits()
		o.SetSendBufferSize(clampBuf(n, lo, hi), true)
	case unix.SO_RCVBUF, unix.SO_RCVBUFFORCE:
		if name == unix.SO_RCVBUFFORCE && !c.capable(capNetAdmin) {
			return unix.EPERM
		}
		lo, hi := o.ReceiveBufferLimits()
		o.SetReceiveBufferSize(clampBuf(n, lo, hi), true)
	case unix.SO_BINDTOIFINDEX:
		if n < 0 {
			return unix.EINVAL
		}
		return errno(o.SetBindToDevice(n))
	default:
		return unix.ENOPROTOOPT
	}
	return nil
}

// clampBuf is the buffer size for a requested one: doubled for bookkeeping, as Linux
// does, within the protocol's limits.
func clampBuf(n int32, lo, hi int64) int64 {
	v := int64(uint32(n)) * 2
	if n < 0 {
		v = hi
	}
	return min(max(v, lo), hi)
}

func (x *inetSocket) bindToDevice(name string) error {
	if name == "" {
		return errno(x.ep.SocketOptions().SetBindToDevice(0))
	}
	for _, i := range x.s.interfaces() {
		if i.name == name {
			return errno(x.ep.SocketOptions().SetBindToDevice(int32(i.id)))
		}
	}
	return unix.ENODEV
}

func cstring(v []byte) string {
	for i, b := range v {
		if b == 0 || i == unix.IFNAMSIZ {
			return string(v[:i])
		}
	}
	return string(v)
}

func (x *inetSocket) getSocket(name int) ([]byte, error) {
	o := x.ep.SocketOptions()
	if b := x.getCommon(name); b != nil {
		return b, nil
	}
	switch name {
	case unix.SO_ERROR:
		err := x.ep.LastError()
		if err == nil {
			return intVal(0), nil
		}
		e, _ := errno(err).(unix.Errno)
		return intVal(int(e)), nil
	case unix.SO_LINGER:
		l := o.GetLinger()
		return append(boolVal(l.Enabled), intVal(int(l.Timeout/time.Second))...), nil
	case unix.SO_REUSEADDR:
		return boolVal(o.GetReuseAddress()), nil
	case unix.SO_REUSEPORT:
		return boolVal(o.GetReusePort()), nil
	case unix.SO_KEEPALIVE:
		return boolVal(o.GetKeepAlive()), nil
	case unix.SO_BROADCAST:
		return boolVal(o.GetBroadcast()), nil
	case unix.SO_NO_CHECK:
		return boolVal(o.GetNoChecksum()), nil
	case unix.SO_SNDBUF:
		return intVal(int(o.GetSendBufferSize())), nil
	case unix.SO_RCVBUF:
		return intVal(int(o.GetReceiveBufferSize())), nil
	case unix.SO_ACCEPTCONN:
		return boolVal(x.isTCP() && x.state() == tcp.StateListen), nil
	case unix.SO_BINDTODEVICE:
		id := o.GetBindToDevice()
		for _, i := range x.s.interfaces() {
			if id != 0 && int32(i.id) == id {
				return append([]byte(i.name), 0), nil
			}
		}
		return []byte{}, nil
	case unix.SO_BINDTOIFINDEX:
		return intVal(int(o.GetBindToDevice())), nil
	case unix.SO_PEERCRED:
		// No peer to name: pid 0, uid and gid -1.
		return append(append(le32(0), le32(^uint32(0))...), le32(^uint32(0))...), nil
	case unix.SO_COOKIE:
		return binary.LittleEndian.AppendUint64(nil, x.ino), nil
	}
	return nil, unix.ENOPROTOOPT
}

// Ranges of TCP's options (net/ipv4/tcp.c).
const (
	maxKeepSeconds = 32767
	maxKeepProbes  = 127
	maxSynCount    = 127
)

func (x *inetSocket) setTCP(name int, v []byte) error {
	if name == unix.TCP_CONGESTION {
		cc := tcpip.CongestionControlOption(cstring(v))
		if len(v) == 0 {
			return unix.EINVAL
		}
		return errno(x.ep.SetSockOpt(&cc))
	}
	n, err := intArg(v)
	if err != nil {
		return err
	}
	o := x.ep.SocketOptions()
	within := func(lo, hi int32) error {
		if n < lo || n > hi {
			return unix.EINVAL
		}
		return nil
	}
	switch name {
	case unix.TCP_NODELAY:
		o.SetDelayOption(n == 0)
	case unix.TCP_CORK:
		o.SetCorkOption(n != 0)
	case unix.TCP_QUICKACK:
		o.SetQuickAck(n != 0)
		x.opt.quickack.Store(2 - n&1)
		if f := x.flow.Load(); f != nil {
			x.s.acks.quick(f, n&1 != 0)
		}
	case unix.TCP_MAXSEG:
		if n != 0 && (n < 88 || n > 32767) { // TCP_MIN_MSS, MAX_TCP_WINDOW
			return unix.EINVAL
		}
		return errno(x.ep.SetSockOptInt(tcpip.MaxSegOption, int(n)))
	case unix.TCP_KEEPIDLE:
		if err := within(1, maxKeepSeconds); err != nil {
			return err
		}
		d := tcpip.KeepaliveIdleOption(time.Duration(n) * time.Second)
		return errno(x.ep.SetSockOpt(&d))
	case unix.TCP_KEEPINTVL:
		if err := within(1, maxKeepSeconds); err != nil {
			return err
		}
		d := tcpip.KeepaliveIntervalOption(time.Duration(n) * time.Second)
		return errno(x.ep.SetSockOpt(&d))
	case unix.TCP_KEEPCNT:
		if err := within(1, maxKeepProbes); err != nil {
			return err
		}
		return errno(x.ep.SetSockOptInt(tcpip.KeepaliveCountOption, int(n)))
	case unix.TCP_SYNCNT:
		if err := within(1, maxSynCount); err != nil {
			return err
		}
		return errno(x.ep.SetSockOptInt(tcpip.TCPSynCountOption, int(n)))
	case unix.TCP_USER_TIMEOUT:
		if n < 0 {
			return unix.EINVAL
		}
		d := tcpip.TCPUserTimeoutOption(time.Duration(n) * time.Millisecond)
		return errno(x.ep.SetSockOpt(&d))
	case unix.TCP_DEFER_ACCEPT:
		n = max(n, 0)
		x.opt.deferAccept.Store(n)
		d := tcpip.TCPDeferAcceptOption(time.Duration(n) * time.Second)
		return errno(x.ep.SetSockOpt(&d))
	case unix.TCP_LINGER2:
		x.opt.linger2.Store(n)
		d := tcpip.TCPLingerTimeoutOption(time.Duration(n) * time.Second)
		return errno(x.ep.SetSockOpt(&d))
	case unix.TCP_WINDOW_CLAMP:
		if n == 0 && x.state() != tcp.StateInitial && x.state() != tcp.StateClose {
			return unix.EINVAL
		}
		return errno(x.ep.SetSockOptInt(tcpip.TCPWindowClampOption, int(n)))
	case unix.TCP_FASTOPEN:
		// Data in a SYN is not taken, as on a Linux whose peers have no cookie.
		if n < 0 || x.state() != tcp.StateInitial && x.state() != tcp.StateBound && x.state() != tcp.StateListen {
			return unix.EINVAL
		}
		x.opt.fastopen.Store(n)
	case unix.TCP_FASTOPEN_CONNECT, unix.TCP_FASTOPEN_NO_COOKIE:
		return within(0, 1)
	case unix.TCP_NOTSENT_LOWAT:
		x.opt.notsentLowat.Store(n)
	case unix.TCP_INQ:
		if err := within(0, 1); err != nil {
			return err
		}
		x.opt.inq.Store(n == 1)
	case unix.TCP_THIN_LINEAR_TIMEOUTS, unix.TCP_THIN_DUPACK:
		return within(0, 1)
	case unix.TCP_TX_DELAY, unix.TCP_TIMESTAMP:
		return nil
	default:
		return unix.ENOPROTOOPT
	}
	return nil
}

func (x *inetSocket) getInt(o tcpip.SockOptInt) ([]byte, error) {
	n, err := x.ep.GetSockOptInt(o)
	if err != nil {
		return nil, errno(err)
	}
	return intVal(n), nil
}

func (x *inetSocket) getTCP(name int) ([]byte, error) {
	o := x.ep.SocketOptions()
	switch name {
	case unix.TCP_NODELAY:
		return boolVal(!o.GetDelayOption()), nil
	case unix.TCP_CORK:
		return boolVal(o.GetCorkOption()), nil
	case unix.TCP_QUICKACK:
		return boolVal(x.opt.quickack.Load() != 2), nil
	case unix.TCP_MAXSEG:
		b, err := x.getInt(tcpip.MaxSegOption)
		if x.state() == tcp.StateInitial || x.state() == tcp.StateBound || x.state() == tcp.StateListen {
			return intVal(536), nil // TCP_MSS_DEFAULT, before there is a path
		}
		return b, err
	case unix.TCP_KEEPIDLE:
		var d tcpip.KeepaliveIdleOption
		err := x.ep.GetSockOpt(&d)
		return intVal(int(time.Duration(d) / time.Second)), errno(err)
	case unix.TCP_KEEPINTVL:
		var d tcpip.KeepaliveIntervalOption
		err := x.ep.GetSockOpt(&d)
		return intVal(int(time.Duration(d) / time.Second)), errno(err)
	case unix.TCP_KEEPCNT:
		return x.getInt(tcpip.KeepaliveCountOption)
	case unix.TCP_SYNCNT:
		return x.getInt(tcpip.TCPSynCountOption)
	case unix.TCP_USER_TIMEOUT:
		var d tcpip.TCPUserTimeoutOption
		err := x.ep.GetSockOpt(&d)
		return intVal(int(time.Duration(d) / time.Millisecond)), errno(err)
	case unix.TCP_DEFER_ACCEPT:
		return intVal(int(x.opt.deferAccept.Load())), nil
	case unix.TCP_LINGER2:
		var d tcpip.TCPLingerTimeoutOption
		err := x.ep.GetSockOpt(&d)
		return intVal(int(time.Duration(d) / time.Second)), errno(err)
	case unix.TCP_WINDOW_CLAMP:
		return x.getInt(tcpip.TCPWindowClampOption)
	case unix.TCP_CONGESTION:
		var cc tcpip.CongestionControlOption
		if err := x.ep.GetSockOpt(&cc); err != nil {
			return nil, errno(err)
		}
		b := make([]byte, 16) // TCP_CA_NAME_MAX
		copy(b, cc)
		return b, nil
	case unix.TCP_FASTOPEN:
		return intVal(int(x.opt.fastopen.Load())), nil
	case unix.TCP_NOTSENT_LOWAT:
		return intVal(int(x.opt.notsentLowat.Load())), nil
	case unix.TCP_INQ:
		return boolVal(x.opt.inq.Load()), nil
	case unix.TCP_FASTOPEN_CONNECT, unix.TCP_FASTOPEN_NO_COOKIE, unix.TCP_THIN_LINEAR_TIMEOUTS, unix.TCP_THIN_DUPACK,
		unix.TCP_REPAIR, unix.TCP_SAVE_SYN:
		return intVal(0), nil
	case unix.TCP_INFO:
		return x.tcpInfo(), nil
	}
	return nil, unix.ENOPROTOOPT
}

// linuxState is netstack's TCP state in Linux's numbers (include/net/tcp_states.h).
func linuxState(s tcp.EndpointState) byte {
	switch s {
	case tcp.StateEstablished:
		return 1
	case tcp.StateConnecting, tcp.StateSynSent:
		return 2
	case tcp.StateSynRecv:
		return 3
	case tcp.StateFinWait1:
		return 4
	case tcp.StateFinWait2:
		return 5
	case tcp.StateTimeWait:
		return 6
	case tcp.StateCloseWait:
		return 8
	case tcp.StateLastAck:
		return 9
	case tcp.StateListen:
		return 10
	case tcp.StateClosing:
		return 11
	}
	return 7 // TCP_CLOSE
}

// tcpInfo is struct tcp_info as of Linux 6.1 (232 bytes); what netstack does not
// count is zero.
func (x *inetSocket) tcpInfo() []byte {
	b := make([]byte, 232)
	var i tcpip.TCPInfoOption
	x.ep.GetSockOpt(&i)
	le := binary.LittleEndian
	b[0] = linuxState(x.state())
	b[1] = byte(i.CcState)
	mss, _ := x.ep.GetSockOptInt(tcpip.MaxSegOption)
	le.PutUint32(b[8:], uint32(i.RTO/time.Microsecond))
	le.PutUint32(b[12:], 40000) // ato
	le.PutUint32(b[16:], uint32(mss))
	le.PutUint32(b[20:], uint32(mss))
	le.PutUint32(b[68:], uint32(i.RTT/time.Microsecond))
	le.PutUint32(b[72:], uint32(i.RTTVar/time.Microsecond))
	le.PutUint32(b[76:], i.SndSsthresh)
	le.PutUint32(b[80:], i.SndCwnd)
	le.PutUint32(b[84:], uint32(mss))
	if st, ok := x.ep.Stats().(*tcp.Stats); ok {
		le.PutUint32(b[136:], uint32(st.SegmentsSent.Value()))
		le.PutUint32(b[140:], uint32(st.SegmentsReceived.Value()))
		le.PutUint32(b[100:], uint32(st.SendErrors.Retransmits.Value()))
	}
	if i.ReorderSeen {
		le.PutUint32(b[88:], 4)
	} else {
		le.PutUint32(b[88:], 3)
	}
	return b
}
