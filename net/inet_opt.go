package net

import (
	"encoding/binary"
	"math"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// SetOption implements Socket.
func (x *inetSocket) SetOption(c *Caller, level, name int, v []byte) error {
	if level != unix.SOL_SOCKET || name != unix.SO_REUSEADDR && name != unix.SO_REUSEPORT {
		x.opt.tuned.Store(true)
	}
	switch level {
	case unix.SOL_SOCKET:
		return x.setSocket(c, name, v)
	case unix.SOL_TCP:
		if x.isTCP() {
			return x.setTCP(name, v)
		}
	case unix.SOL_IP:
		if !x.rawIPv6() {
			return x.setIP(c, name, v)
		}
	case unix.SOL_IPV6:
		if x.domain == unix.AF_INET6 {
			return x.setIPv6(c, name, v)
		}
	case unix.SOL_UDP:
		if x.pro == unix.IPPROTO_UDP && x.typ == unix.SOCK_DGRAM {
			return x.setUDP(name, v)
		}
	case unix.SOL_RAW:
		return x.setRaw(name, v)
	case solICMPv6:
		return x.setICMPv6(name, v)
	}
	return unix.ENOPROTOOPT
}

// rawIPv6 says that the socket has no options of IPv4's, which IPv6's others have.
func (x *inetSocket) rawIPv6() bool { return x.domain == unix.AF_INET6 && x.typ == unix.SOCK_RAW }

// unknownLevel is getsockopt's error of a level that the socket has not: IPv6 and IPv4 differ.
func (x *inetSocket) unknownLevel() error {
	if x.domain == unix.AF_INET6 {
		return unix.ENOPROTOOPT
	}
	return unix.EOPNOTSUPP
}

// GetOption implements Socket.
func (x *inetSocket) GetOption(_ *Caller, level, name, n int) ([]byte, error) {
	var b []byte
	var err error
	switch level {
	case unix.SOL_SOCKET:
		b, err = x.getSocket(name, n)
	case unix.SOL_TCP:
		if !x.isTCP() {
			return nil, x.unknownLevel()
		}
		b, err = x.getTCP(name)
	case unix.SOL_IP:
		if x.rawIPv6() {
			return nil, unix.ENOPROTOOPT
		}
		b, err = x.getIP(name)
		// ip_getsockopt answers one byte to who asks for less than an int.
		if err == nil && len(b) == 4 && name != unix.IP_MULTICAST_IF && n > 0 && n < 4 && b[1]|b[2]|b[3] == 0 {
			b = b[:1]
		}
	case unix.SOL_IPV6:
		if x.domain != unix.AF_INET6 {
			return nil, x.unknownLevel()
		}
		b, err = x.getIPv6(name, n)
	case unix.SOL_UDP:
		if x.pro != unix.IPPROTO_UDP || x.typ != unix.SOCK_DGRAM {
			return nil, x.unknownLevel()
		}
		b = x.getUDP(name)
	case unix.SOL_RAW:
		b, err = x.getRaw(name, n)
	case solICMPv6:
		b, err = x.getICMPv6(name)
	default:
		return nil, x.unknownLevel()
	}
	if err == nil && b == nil {
		err = unix.ENOPROTOOPT
	}
	return b, err
}

func (x *inetSocket) setSocket(c *Caller, name int, v []byte) error {
	o := x.ep().SocketOptions()
	switch name {
	case unix.SO_LINGER:
		if len(v) < 8 {
			return unix.EINVAL
		}
		on, sec := int32(binary.LittleEndian.Uint32(v)), int32(binary.LittleEndian.Uint32(v[4:]))
		if on != 0 {
			x.opt.lingerSeconds.Store(sec)
		}
		o.SetLinger(tcpip.LingerOption{Enabled: on != 0, Timeout: time.Duration(uint32(sec)) * time.Second})
		return nil
	case unix.SO_BINDTODEVICE:
		if o.GetBindToDevice() != 0 && !c.capable(capNetRaw) {
			return unix.EPERM
		}
		return x.bindToDevice(cstring(v))
	case unix.SO_ATTACH_FILTER:
		f, err := x.readFilter(c, v)
		if err == nil {
			x.setFilter(f)
		}
		return err
	case unix.SO_PEEK_OFF:
		if n, err := intArg(v); err == nil && n < 0 && x.pro == unix.IPPROTO_UDP && x.typ == unix.SOCK_DGRAM {
			return nil
		}
	case unix.SO_DETACH_FILTER:
		if x.filt.Load() != nil && !x.opt.filterLock.Load() {
			x.setFilter(nil)
			return nil
		}
		return x.detachFilter()
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
		_, hi := o.SendBufferLimits()
		x.opt.sndBuf.Store(true)
		o.SetSendBufferSize(clampBuf(n, minSndBuf, hi, name == unix.SO_SNDBUFFORCE), true)
		if f := x.fused.Load(); f != nil {
			f.out.resized()
		}
	case unix.SO_RCVBUF, unix.SO_RCVBUFFORCE:
		if name == unix.SO_RCVBUFFORCE && !c.capable(capNetAdmin) {
			return unix.EPERM
		}
		_, hi := o.ReceiveBufferLimits()
		x.opt.rcvBuf.Store(true)
		size := clampBuf(n, minRcvBuf, hi, name == unix.SO_RCVBUFFORCE)
		x.opt.rcvShown.Store(int32(size))
		o.SetReceiveBufferSize(size, true)
		if f := x.fused.Load(); f != nil {
			f.in.resized()
		}
	case unix.SO_BINDTOIFINDEX:
		switch {
		case o.GetBindToDevice() != 0 && !c.capable(capNetRaw):
			return unix.EPERM
		case n < 0:
			return unix.EINVAL
		}
		return x.bindToIndex(n)
	default:
		return unix.ENOPROTOOPT
	}
	return nil
}

// clampBuf is the buffer size for a requested one: doubled for bookkeeping, as Linux
// does, within the protocol's limits.
func clampBuf(n int32, lo, hi int64, force bool) int64 {
	v := int64(uint32(n)) * 2
	if !force {
		v = min(v, maxSetBuf) // a negative size is a large one
	} else if n < 0 {
		v = 0
	}
	return min(max(v, lo), hi)
}

func (x *inetSocket) bindToDevice(name string) error {
	nic, err := x.s.deviceNamed(name)
	if err != nil {
		return err
	}
	return x.bindToIndex(int32(nic))
}

// deviceNamed is the interface of a name, 0 for none: ENODEV.
func (s *Stack) deviceNamed(name string) (tcpip.NICID, error) {
	if name == "" {
		return 0, nil
	}
	if i := s.byName(name); i != nil {
		return i.id, nil
	}
	return 0, unix.ENODEV
}

// deviceName is the other way round, in room bytes: EINVAL.
func (s *Stack) deviceName(nic tcpip.NICID, room int) ([]byte, error) {
	if nic != 0 && room < unix.IFNAMSIZ {
		return nil, unix.EINVAL
	}
	if i := s.byIndex(nic); nic != 0 && i != nil {
		return append([]byte(i.name), 0), nil
	}
	return []byte{}, nil
}

func cstring(v []byte) string {
	for i, b := range v {
		if b == 0 || i == unix.IFNAMSIZ {
			return string(v[:i])
		}
	}
	return string(v)
}

func (x *inetSocket) getSocket(name, room int) ([]byte, error) {
	o := x.ep().SocketOptions()
	if b := x.getCommon(name); b != nil {
		return b, nil
	}
	if b, err, ok := getAny(x, name, room); ok {
		return b, err
	}
	switch name {
	case unix.SO_ERROR:
		if err, ok := x.datagramError().(unix.Errno); ok {
			return intVal(int(err)), nil
		}
		if err, ok := x.opt.takeError().(unix.Errno); ok {
			return intVal(int(err)), nil
		}
		if x.isTCP() && x.untold() && x.state() == tcp.StateError && x.told.Swap(true) {
			return intVal(0), nil
		}
		err := x.ep().LastError()
		if err == nil {
			return intVal(0), nil
		}
		if x.isTCP() && x.broken() {
			x.told.Store(true)
		}
		e, _ := errno(err).(unix.Errno)
		return intVal(int(e)), nil
	case unix.SO_LINGER:
		return append(boolVal(o.GetLinger().Enabled), intVal(int(x.opt.lingerSeconds.Load()))...), nil
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
		if n := x.opt.rcvShown.Load(); n != 0 && n < leastBuf {
			return intVal(int(n)), nil
		}
		return intVal(int(o.GetReceiveBufferSize())), nil
	case unix.SO_ACCEPTCONN:
		return boolVal(x.isTCP() && x.state() == tcp.StateListen), nil
	case unix.SO_BINDTODEVICE:
		return x.s.deviceName(x.device(), room)
	case unix.SO_BINDTOIFINDEX:
		return intVal(int(o.GetBindToDevice())), nil
	case unix.SO_PEERCRED:
		// No peer to name: pid 0, uid and gid -1.
		return append(append(le32(0), le32(^uint32(0))...), le32(^uint32(0))...), nil
	case unix.SO_PEERGROUPS:
		return nil, unix.ENODATA
	case unix.SO_PEEK_OFF:
		if x.pro == unix.IPPROTO_UDP && x.typ == unix.SOCK_DGRAM {
			return intVal(-1), nil // off, and stays so
		}
		return nil, unix.EOPNOTSUPP
	case unix.SO_GET_FILTER:
		return x.getFilter(room)
	case unix.SO_MEMINFO:
		return x.memInfo(), nil
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
	if name == unix.TCP_ULP && len(v) > 0 {
		return unix.ENOENT // none is there
	}
	if name == unix.TCP_CONGESTION {
		cc := tcpip.CongestionControlOption(cstring(v))
		if len(v) == 0 {
			return unix.EINVAL
		}
		return errno(x.ep().SetSockOpt(&cc))
	}
	n, err := intArg(v)
	if err != nil {
		return err
	}
	o := x.ep().SocketOptions()
	within := func(lo, hi int32) error {
		if n < lo || n > hi {
			return unix.EINVAL
		}
		return nil
	}
	switch name {
	case unix.TCP_NODELAY:
		x.opt.kept.drop(unix.SOL_TCP, name)
		o.SetDelayOption(n == 0)
	case unix.TCP_CORK:
		x.opt.kept.drop(unix.SOL_TCP, name)
		if o.SetCorkOption(n != 0); n != 0 {
			x.unfuse()
		}
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
		if x.opt.userMSS.Store(n); n == 0 {
			return nil
		}
		return errno(x.ep().SetSockOptInt(tcpip.MaxSegOption, int(n)))
	case unix.TCP_KEEPIDLE:
		if err := within(1, maxKeepSeconds); err != nil {
			return err
		}
		d := tcpip.KeepaliveIdleOption(time.Duration(n) * time.Second)
		return errno(x.ep().SetSockOpt(&d))
	case unix.TCP_KEEPINTVL:
		if err := within(1, maxKeepSeconds); err != nil {
			return err
		}
		d := tcpip.KeepaliveIntervalOption(time.Duration(n) * time.Second)
		return errno(x.ep().SetSockOpt(&d))
	case unix.TCP_KEEPCNT:
		if err := within(1, maxKeepProbes); err != nil {
			return err
		}
		return errno(x.ep().SetSockOptInt(tcpip.KeepaliveCountOption, int(n)))
	case unix.TCP_SYNCNT:
		if err := within(1, maxSynCount); err != nil {
			return err
		}
		x.opt.kept.store(unix.SOL_TCP, name, n)
		return errno(x.ep().SetSockOptInt(tcpip.TCPSynCountOption, int(n)))
	case unix.TCP_USER_TIMEOUT:
		if n < 0 {
			return unix.EINVAL
		}
		d := tcpip.TCPUserTimeoutOption(time.Duration(n) * time.Millisecond)
		err := x.ep().SetSockOpt(&d)
		if n != 0 {
			x.unfuse()
		}
		return errno(err)
	case unix.TCP_DEFER_ACCEPT:
		n = synackTime(max(n, 0))
		x.opt.deferAccept.Store(n)
		d := tcpip.TCPDeferAcceptOption(time.Duration(n) * time.Second)
		return errno(x.ep().SetSockOpt(&d))
	case unix.TCP_LINGER2:
		x.opt.linger2.Store(min(n, 0))
		d := tcpip.TCPLingerTimeoutOption(time.Duration(n) * time.Second)
		return errno(x.ep().SetSockOpt(&d))
	case unix.TCP_WINDOW_CLAMP:
		if n == 0 && !x.isClosed() {
			return unix.EINVAL
		}
		if n != 0 {
			n = max(n, minRcvBuf/2)
		}
		if x.opt.windowClamp.Store(n); n == 0 {
			n = math.MaxInt32 // netstack takes none only before a socket has a port
		}
		return errno(x.ep().SetSockOptInt(tcpip.TCPWindowClampOption, int(n)))
	case unix.TCP_FASTOPEN:
		// Data in a SYN is not taken, as on a Linux whose peers have no cookie.
		if n < 0 || !x.isClosed() && x.state() != tcp.StateListen {
			return unix.EINVAL
		}
		x.opt.fastopen.Store(n)
	case unix.TCP_FASTOPEN_CONNECT, unix.TCP_FASTOPEN_NO_COOKIE:
		if err := within(0, 1); err != nil {
			return err
		}
		if !x.isClosed() && (name == unix.TCP_FASTOPEN_CONNECT || x.state() != tcp.StateListen) {
			return unix.EINVAL
		}
		x.opt.kept.store(unix.SOL_TCP, name, n)
	case unix.TCP_NOTSENT_LOWAT:
		x.opt.notsentLowat.Store(n)
	case unix.TCP_INQ:
		if err := within(0, 1); err != nil {
			return err
		}
		x.opt.inq.Store(n == 1)
	case unix.TCP_THIN_DUPACK:
		return within(0, 1)
	case unix.TCP_REPAIR, unix.TCP_REPAIR_WINDOW, unix.TCP_REPAIR_QUEUE:
		return unix.EPERM // no socket is in repair
	case unix.TCP_QUEUE_SEQ:
		if !x.isClosed() {
			return unix.EPERM
		}
		return unix.EINVAL
	case unix.TCP_REPAIR_OPTIONS, unix.TCP_MD5SIG, unix.TCP_MD5SIG_EXT, unix.TCP_FASTOPEN_KEY:
		return unix.EINVAL // nor has it keys
	case unix.TCP_TIMESTAMP:
		return unix.EPERM
	default:
		known, err := x.opt.kept.set(unix.SOL_TCP, name, n)
		if !known {
			return unix.ENOPROTOOPT
		}
		return err
	}
	return nil
}

// isClosed says that Linux has a TCP socket in TCP_CLOSE: before it connects or listens, and
// when a connection has failed.
func (x *inetSocket) isClosed() bool { return linuxState(x.state()) == linuxClose }

func (x *inetSocket) getInt(o tcpip.SockOptInt) ([]byte, error) {
	n, err := x.ep().GetSockOptInt(o)
	if err != nil {
		return nil, errno(err)
	}
	return intVal(n), nil
}

func (x *inetSocket) getTCP(name int) ([]byte, error) {
	o := x.ep().SocketOptions()
	switch name {
	case unix.TCP_NODELAY, unix.TCP_CORK:
		if v, pushed := x.opt.kept.load(unix.SOL_TCP, name); pushed {
			return intVal(int(v)), nil
		}
		return boolVal(name == unix.TCP_NODELAY && !o.GetDelayOption() || name == unix.TCP_CORK && o.GetCorkOption()), nil
	case unix.TCP_QUICKACK:
		return boolVal(x.opt.quickack.Load() != 2), nil
	case unix.TCP_MAXSEG:
		if x.isClosed() || x.state() == tcp.StateListen {
			if n := x.opt.userMSS.Load(); n != 0 {
				return intVal(int(n)), nil
			}
			return intVal(tcpDefaultMSS), nil
		}
		mss, _ := x.segmentSizes(x.pathMTU())
		return intVal(mss), nil
	case unix.TCP_TIMESTAMP:
		return intVal(int(x.s.cfg.Machine.Nanotime() / int64(time.Millisecond))), nil
	case unix.TCP_KEEPIDLE:
		var d tcpip.KeepaliveIdleOption
		err := x.ep().GetSockOpt(&d)
		return intVal(int(time.Duration(d) / time.Second)), errno(err)
	case unix.TCP_KEEPINTVL:
		var d tcpip.KeepaliveIntervalOption
		err := x.ep().GetSockOpt(&d)
		return intVal(int(time.Duration(d) / time.Second)), errno(err)
	case unix.TCP_KEEPCNT:
		return x.getInt(tcpip.KeepaliveCountOption)
	case unix.TCP_SYNCNT:
		return x.getInt(tcpip.TCPSynCountOption)
	case unix.TCP_USER_TIMEOUT:
		var d tcpip.TCPUserTimeoutOption
		err := x.ep().GetSockOpt(&d)
		return intVal(int(time.Duration(d) / time.Millisecond)), errno(err)
	case unix.TCP_DEFER_ACCEPT:
		return intVal(int(x.opt.deferAccept.Load())), nil
	case unix.TCP_LINGER2:
		if x.opt.linger2.Load() < 0 {
			return intVal(-1), nil
		}
		var d tcpip.TCPLingerTimeoutOption
		err := x.ep().GetSockOpt(&d)
		return intVal(int(time.Duration(d) / time.Second)), errno(err)
	case unix.TCP_WINDOW_CLAMP:
		if n := x.opt.windowClamp.Load(); n != 0 || x.isClosed() {
			return intVal(int(n)), nil
		}
		return x.getInt(tcpip.TCPWindowClampOption)
	case unix.TCP_CONGESTION:
		var cc tcpip.CongestionControlOption
		if err := x.ep().GetSockOpt(&cc); err != nil {
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
	case unix.TCP_THIN_DUPACK, unix.TCP_REPAIR:
		return intVal(0), nil
	case unix.TCP_REPAIR_QUEUE, unix.TCP_QUEUE_SEQ, unix.TCP_REPAIR_WINDOW:
		return nil, unix.EINVAL
	case unix.TCP_ULP, unix.TCP_SAVED_SYN, unix.TCP_CC_INFO, unix.TCP_FASTOPEN_KEY:
		return []byte{}, nil
	case unix.TCP_INFO:
		return x.tcpInfo(), nil
	}
	if v, ok := x.opt.kept.get(unix.SOL_TCP, name); ok {
		return intVal(int(v)), nil
	}
	return nil, unix.ENOPROTOOPT
}
