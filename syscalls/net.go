package syscalls

import (
	"encoding/binary"
	"math"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/task"
	"kiln/kernel/wait"
	"kiln/net"
)

// netCall is a call on a socket: its file and socket, and what the call needs on the
// heap. It is pooled, since everything in it is passed through interfaces.
type netCall struct {
	file   *vfs.File // with a reference; nil in a call that has no socket yet
	sock   net.Socket
	caller net.Caller
	recv   net.RecvMsg
	send   net.SendMsg
	seq    mm.IOSeq
	iov    [8]mm.IOVec
	name   [net.MaxSockaddr]byte // an address, or an option's value
	hdr    [msghdrSize]byte
}

var netCalls = sync.Pool{New: func() any { return new(netCall) }}

func newNetCall(t *task.Thread) *netCall {
	n := netCalls.Get().(*netCall)
	n.caller = net.Caller{C: t, Space: t.Space(), PID: t.Process().PID(), Creds: t.Creds(), NS: t.Kernel().NS}
	return n
}

// socketCall begins a call on the socket behind fd: EBADF, ENOTSOCK.
func socketCall(t *task.Thread, fd uint64) (*netCall, error) {
	f, s, err := socket(t, fd)
	if err != nil {
		return nil, err
	}
	n := newNetCall(t)
	n.file, n.sock = f, s
	return n, nil
}

// paths gives the caller what path names of AF_UNIX need.
func (n *netCall) paths(t *task.Thread) { n.caller.Lookup = t.Lookup(vfs.Path{}) }

// free ends the call.
func (n *netCall) free() {
	if n.file != nil {
		n.file.DecRef()
	}
	n.file, n.sock = nil, nil
	n.caller = net.Caller{}
	n.recv.Reset()
	n.send = net.SendMsg{}
	n.seq = mm.IOSeq{}
	netCalls.Put(n)
}

// socket is the socket behind fd with the file's reference held: EBADF, ENOTSOCK.
func socket(t *task.Thread, fd uint64) (*vfs.File, net.Socket, error) {
	f := t.FDs().Get(int32(fd))
	if f == nil {
		return nil, nil, unix.EBADF
	}
	if f.Flags()&unix.O_PATH != 0 {
		f.DecRef()
		return nil, nil, unix.EBADF
	}
	s, err := net.FromFile(f)
	if err != nil {
		f.DecRef()
		return nil, nil, err
	}
	return f, s, nil
}

// sockaddrIn copies a socket address in (move_addr_to_kernel): EINVAL for a length
// out of range, EFAULT.
func sockaddrIn(t *task.Thread, buf *[net.MaxSockaddr]byte, addr, length uint64) ([]byte, error) {
	n := int32(length)
	if n < 0 || int(n) > len(buf) {
		return nil, unix.EINVAL
	}
	if n == 0 {
		return nil, nil
	}
	return buf[:n], t.CopyIn(buf[:n], hal.UserAddr(addr))
}

// sockaddrOut copies an address out, cut to the room the program says it has, and its
// real length (move_addr_to_user): EINVAL for a negative room, EFAULT.
func sockaddrOut(t *task.Thread, b []byte, addr, lenp uint64) error {
	var l [4]byte
	if err := t.CopyIn(l[:], hal.UserAddr(lenp)); err != nil {
		return err
	}
	room := int32(binary.LittleEndian.Uint32(l[:]))
	if room < 0 {
		return unix.EINVAL
	}
	if n := min(int(room), len(b)); n > 0 {
		if err := t.CopyOut(hal.UserAddr(addr), b[:n]); err != nil {
			return err
		}
	}
	binary.LittleEndian.PutUint32(l[:], uint32(len(b)))
	return t.CopyOut(hal.UserAddr(lenp), l[:])
}

const sockTypeMask = 0xf

// typeFlags splits socket(2)'s type: EINVAL for unknown flags.
func typeFlags(typ uint64) (int, uint32, bool, error) {
	fl := uint32(typ) &^ sockTypeMask
	if fl&^(unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK) != 0 {
		return 0, 0, false, unix.EINVAL
	}
	return int(typ & sockTypeMask), fl & unix.SOCK_NONBLOCK, fl&unix.SOCK_CLOEXEC != 0, nil
}

// sysSocket makes a socket. Errors: EINVAL (type), EAFNOSUPPORT, ESOCKTNOSUPPORT,
// EPROTONOSUPPORT, EPERM (raw), EMFILE, ENOBUFS (kernel memory). See socket(2).
func sysSocket(t *task.Thread, a *Args) (uintptr, error) {
	typ, nonblock, cloexec, err := typeFlags(a[1])
	if err != nil {
		return 0, err
	}
	st, ok := t.Kernel().Net.(*net.Stack)
	if !ok {
		return 0, unix.EAFNOSUPPORT
	}
	n := newNetCall(t)
	defer n.free()
	s, err := st.Socket(&n.caller, int(int32(a[0])), typ, int(int32(a[2])))
	if err != nil {
		return 0, err
	}
	return installSocket(t, s, nonblock, cloexec)
}

func installSocket(t *task.Thread, s net.Socket, nonblock uint32, cloexec bool) (uintptr, error) {
	return installFD(t, net.SocketFile(s, nonblock, t.Creds()), cloexec)
}

// sysSocketpair makes two connected sockets: EOPNOTSUPP for families other than
// AF_UNIX, EFAULT. See socketpair(2).
func sysSocketpair(t *task.Thread, a *Args) (uintptr, error) {
	typ, nonblock, cloexec, err := typeFlags(a[1])
	if err != nil {
		return 0, err
	}
	st, ok := t.Kernel().Net.(*net.Stack)
	if !ok {
		return 0, unix.EAFNOSUPPORT
	}
	n := newNetCall(t)
	defer n.free()
	if t.FDs().Full(2) {
		return 0, unix.EMFILE
	}
	if err := t.CopyOut(hal.UserAddr(a[3]), make([]byte, 8)); err != nil {
		return 0, err // before anything is made
	}
	s1, s2, err := st.SocketPair(&n.caller, int(int32(a[0])), typ, int(int32(a[2])))
	if err != nil {
		return 0, err
	}
	f1 := net.SocketFile(s1, nonblock, t.Creds())
	fd1, err := installFD(t, f1, cloexec)
	if err != nil {
		s2.Release(nil)
		return 0, err
	}
	f2 := net.SocketFile(s2, nonblock, t.Creds())
	fd2, err := installFD(t, f2, cloexec)
	if err != nil {
		t.FDs().Withdraw(int32(fd1), f1)
		return 0, err
	}
	var b [8]byte
	binary.LittleEndian.PutUint32(b[:], uint32(fd1))
	binary.LittleEndian.PutUint32(b[4:], uint32(fd2))
	if err := t.CopyOut(hal.UserAddr(a[3]), b[:]); err != nil {
		t.FDs().Withdraw(int32(fd1), f1)
		t.FDs().Withdraw(int32(fd2), f2)
		return 0, err
	}
	return 0, nil
}

// sysBind names a socket. See bind(2).
func sysBind(t *task.Thread, a *Args) (uintptr, error) {
	n, err := socketCall(t, a[0])
	if err != nil {
		return 0, err
	}
	defer n.free()
	addr, err := sockaddrIn(t, &n.name, a[1], a[2])
	if err != nil {
		return 0, err
	}
	n.paths(t)
	return 0, n.sock.Bind(&n.caller, addr)
}

// sysListen takes connections from now on. See listen(2).
func sysListen(t *task.Thread, a *Args) (uintptr, error) {
	n, err := socketCall(t, a[0])
	if err != nil {
		return 0, err
	}
	defer n.free()
	return 0, n.sock.Listen(&n.caller, int(int32(a[1])))
}

// sysAccept is accept4 without flags.
func sysAccept(t *task.Thread, a *Args) (uintptr, error) { return accept(t, a, 0) }

// sysAccept4 takes a connection: EINVAL (flags, not listening), EOPNOTSUPP, EAGAIN,
// EMFILE (the connection stays queued), EFAULT. See accept4(2).
func sysAccept4(t *task.Thread, a *Args) (uintptr, error) {
	return accept(t, a, uint32(a[3]))
}

func accept(t *task.Thread, a *Args, flags uint32) (uintptr, error) {
	n, err := socketCall(t, a[0])
	if err != unix.EBADF && flags&^(unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK) != 0 {
		if err == nil {
			n.free()
		}
		return 0, unix.EINVAL
	}
	if err == unix.ENOTSOCK && full(t) {
		return 0, unix.EMFILE
	}
	if err != nil {
		return 0, err
	}
	defer n.free()
	if full(t) {
		return 0, unix.EMFILE
	}
	s := n.sock
	n.caller.Nonblock = n.file.Nonblocking()
	c, err := s.Accept(&n.caller)
	if err == unix.EAGAIN && !n.file.Nonblocking() {
		rcv, _ := s.Timeouts()
		_, err = t.BlockOn(s, waiter.ReadableEvents|waiter.EventErr|waiter.EventHUp, false, timeout(t, rcv), unix.EAGAIN,
			func() (int, error) { c, err = s.Accept(&n.caller); return 0, err })
		err = interrupted(rcv, err)
	}
	if err != nil {
		return 0, err
	}
	if a[1] != 0 {
		name, err := acceptedFrom(c)
		if err != nil {
			c.Release(nil)
			return 0, unix.ECONNABORTED
		}
		if err := sockaddrOut(t, name, a[1], a[2]); err != nil {
			c.Release(nil)
			return 0, err
		}
	}
	nf := net.SocketFile(c, flags&unix.SOCK_NONBLOCK, t.Creds())
	fd, err := tryInstall(t, nf, flags&unix.SOCK_CLOEXEC != 0)
	if err != nil {
		nf.Forget()
		s.Unaccept(c)
		return 0, err
	}
	return fd, nil
}

// acceptedFrom is the peer's address of a connection just accepted.
func acceptedFrom(c net.Socket) ([]byte, error) {
	if x, ok := c.(interface{ AcceptedFrom() []byte }); ok {
		return x.AcceptedFrom(), nil
	}
	return c.PeerName()
}

// interrupted is the error of a socket's call with a time-out of ns: such a call is not
// started again after a signal (sock_intr_errno).
func interrupted(ns int64, err error) error {
	if ns != 0 && err == wait.ErrRestart {
		return unix.EINTR
	}
	return err
}

// timeout is the deadline of SO_RCVTIMEO or SO_SNDTIMEO.
func timeout(t *task.Thread, ns int64) int64 {
	if ns == 0 {
		return hal.NoDeadline
	}
	return t.Deadline(ns)
}

// sysConnect connects, or sets a datagram socket's peer: EINPROGRESS and EALREADY
// where it would block, EISCONN, ECONNREFUSED and the like. See connect(2).
func sysConnect(t *task.Thread, a *Args) (uintptr, error) {
	n, err := socketCall(t, a[0])
	if err != nil {
		var b [net.MaxSockaddr]byte
		if err == unix.ENOTSOCK { // the address is looked at before what the file is
			if _, bad := sockaddrIn(t, &b, a[1], a[2]); bad != nil {
				err = bad
			}
		}
		return 0, err
	}
	defer n.free()
	addr, err := sockaddrIn(t, &n.name, a[1], a[2])
	if err != nil {
		return 0, err
	}
	return 0, n.connect(t, addr)
}

// connect connects to what addr says, waiting if the file is blocking.
func (n *netCall) connect(t *task.Thread, addr []byte) error {
	n.paths(t)
	s := n.sock
	_, snd := s.Timeouts()
	err := s.Connect(&n.caller, addr)
	if n.file.Nonblocking() {
		return err
	}
	deadline := timeout(t, snd)
	timed, ok := s.(net.TimedConnect)
	if ok {
		deadline = hal.NoDeadline
	}
	const events = waiter.WritableEvents | waiter.EventErr | waiter.EventHUp
	if err == unix.EAGAIN {
		_, err = t.BlockOn(s, events, false, deadline, unix.EAGAIN,
			func() (int, error) { return 0, s.Connect(&n.caller, addr) })
	}
	if err == unix.EINPROGRESS || err == unix.EALREADY {
		_, err = t.BlockOn(s, events, false, deadline, err,
			func() (int, error) { return 0, s.ConnectResult() })
	}
	if ok && err == wait.ErrRestart {
		timed.AbandonConnect()
		return unix.EINTR
	}
	return interrupted(snd, err)
}

// sysGetsockname and sysGetpeername. See getsockname(2), getpeername(2).
func sysGetsockname(t *task.Thread, a *Args) (uintptr, error) {
	return sockName(t, a, net.Socket.SockName)
}

// sysGetpeername: ENOTCONN.
func sysGetpeername(t *task.Thread, a *Args) (uintptr, error) {
	return sockName(t, a, net.Socket.PeerName)
}

func sockName(t *task.Thread, a *Args, get func(net.Socket) ([]byte, error)) (uintptr, error) {
	f, s, err := socket(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	b, err := get(s)
	if err != nil {
		return 0, err
	}
	return 0, sockaddrOut(t, b, a[1], a[2])
}

// maxOptLen bounds an option's value; no option of ours is longer than a device name.
const maxOptLen = 4096

// sysSetsockopt: EINVAL (length), EFAULT, ENOPROTOOPT. See setsockopt(2), socket(7).
func sysSetsockopt(t *task.Thread, a *Args) (uintptr, error) {
	size := int(int32(a[4]))
	if size < 0 {
		return 0, unix.EINVAL
	}
	n, err := socketCall(t, a[0])
	if err != nil {
		return 0, err
	}
	defer n.free()
	if size < 4 && int32(a[1]) == unix.SOL_SOCKET && int32(a[2]) != unix.SO_BINDTODEVICE {
		return 0, unix.EINVAL
	}
	v := n.name[:]
	if size > len(v) {
		v = make([]byte, min(size, maxOptLen))
	}
	v = v[:min(size, len(v))]
	if a[3] == 0 && size >= 4 && int32(a[1]) == unix.SOL_IPV6 && n.sock.Domain() == unix.AF_INET6 && !structure6(int(int32(a[2]))) {
		clear(v) // do_ipv6_setsockopt takes no value for 0
	} else if err := t.CopyIn(v, hal.UserAddr(a[3])); err != nil {
		return 0, unread(n, int(int32(a[1])), int(int32(a[2])), size, err)
	}
	return 0, n.sock.SetOption(&n.caller, int(int32(a[1])), int(int32(a[2])), v)
}

// unread is the error of an option whose value cannot be read: where the protocol does not
// know the level, or IP the option, it does not look at the value.
func unread(n *netCall, level, name, size int, err error) error {
	inet := isInet(n.sock)
	switch {
	case level == unix.SOL_SOCKET:
	case inet && size < 4 && ownLevel(n.sock, level) && (level == unix.SOL_UDP || level == unix.SOL_TCP && !ofText(name)):
		return unix.EINVAL // no int: it is not looked at
	case level == unix.SOL_IPV6 && n.sock.Domain() == unix.AF_INET6 && size < 4 && !header6(name):
		return n.sock.SetOption(&n.caller, level, name, make([]byte, size)) // too short to be looked at
	case inet && ownLevel(n.sock, level) && level == unix.SOL_IP && (name == unix.IP_IPSEC_POLICY || name == unix.IP_XFRM_POLICY):
		if !n.caller.Creds.Can(unix.CAP_NET_ADMIN) {
			return unix.EPERM
		}
	case n.sock.Domain() == unix.AF_PACKET, inet && ownLevel(n.sock, level) && aboutGroups(level, name):
		if p, ok := n.sock.(interface {
			Unread(level, name, size int) error
		}); ok {
			if e := p.Unread(level, name, size); e != nil {
				return e
			}
		}
	case n.sock.Domain() == unix.AF_UNIX:
		return unix.EOPNOTSUPP
	case n.sock.Domain() == unix.AF_VSOCK && level != unix.AF_VSOCK:
		return unix.ENOPROTOOPT
	case inet && (level == unix.SOL_IP || !ownLevel(n.sock, level)):
		if _, e := n.sock.GetOption(&n.caller, level, name, 4); e == unix.ENOPROTOOPT || e == unix.EOPNOTSUPP {
			return unix.ENOPROTOOPT
		}
	}
	return err
}

// ofText says that an option of TCP is no int.
func ofText(name int) bool {
	return name == unix.TCP_CONGESTION || name == unix.TCP_ULP || name == unix.TCP_FASTOPEN_KEY
}

// structure6 says that an option of IPv6 is no int.
func structure6(name int) bool {
	switch name {
	case unix.IPV6_ADD_MEMBERSHIP, unix.IPV6_DROP_MEMBERSHIP, unix.IPV6_JOIN_ANYCAST, unix.IPV6_LEAVE_ANYCAST, flowlabelMgr,
		unix.IPV6_2292PKTOPTIONS, unix.IPV6_PKTINFO, unix.IPV6_IPSEC_POLICY, unix.IPV6_XFRM_POLICY:
		return true
	}
	return header6(name) || name >= unix.MCAST_JOIN_GROUP && name <= mcastMsfilter
}

// flowlabelMgr is IPV6_FLOWLABEL_MGR.
const flowlabelMgr = 32

// aboutGroups says that an option of IPv4 is about groups: what is only set.
func aboutGroups(level, name int) bool {
	return level == unix.SOL_IP && name >= unix.IP_ADD_MEMBERSHIP && name <= mcastMsfilter
}

// header6 says that an option is a header that goes with packets, of any length.
func header6(name int) bool {
	return name == unix.IPV6_HOPOPTS || name == unix.IPV6_RTHDRDSTOPTS || name == unix.IPV6_RTHDR || name == unix.IPV6_DSTOPTS
}

// sysGetsockopt: EFAULT, EINVAL, ENOPROTOOPT. See getsockopt(2).
func sysGetsockopt(t *task.Thread, a *Args) (uintptr, error) {
	n, err := socketCall(t, a[0])
	if err != nil {
		return 0, err
	}
	defer n.free()
	l := n.hdr[:4]
	level, name := int(int32(a[1])), int(int32(a[2]))
	if err := t.CopyIn(l, hal.UserAddr(a[4])); err != nil {
		return 0, unsized(n, level, name, err)
	}
	room := int(int32(binary.LittleEndian.Uint32(l)))
	n.caller.OptVal = hal.UserAddr(a[3])
	if room < 0 {
		if err := negative(n, level, name); err != nil {
			return 0, err
		}
		room = math.MaxInt32
	}
	v, err := n.sock.GetOption(&n.caller, level, name, room)
	if k, ok := err.(net.Instructions); ok {
		return 0, instructionsOut(t, a, v, k)
	}
	if err == unix.ERANGE && v != nil { // SO_PEERGROUPS tells how much there is
		binary.LittleEndian.PutUint32(l, uint32(len(v)))
		if err := t.CopyOut(hal.UserAddr(a[4]), l); err != nil {
			return 0, err
		}
	}
	if err != nil {
		return 0, err
	}
	v = v[:min(len(v), room)]
	if err := t.CopyOut(hal.UserAddr(a[3]), v); err != nil {
		return 0, err
	}
	binary.LittleEndian.PutUint32(l, uint32(len(v)))
	return 0, t.CopyOut(hal.UserAddr(a[4]), l)
}

// unsized is the error of a getsockopt whose length cannot be read: a level that the protocol
// does not know is refused first.
func unsized(n *netCall, level, name int, err error) error {
	if level == unix.SOL_SOCKET {
		return err
	}
	_, e := n.sock.GetOption(&n.caller, level, name, 4)
	if e == unix.EOPNOTSUPP || e == unix.ENOPROTOOPT && !ownLevel(n.sock, level) {
		return e
	}
	return err
}

// negative is the error of a getsockopt with a negative length; nil: it is a large one, as IPv6
// has it, which compares it without its sign.
func negative(n *netCall, level, name int) error {
	if level == unix.SOL_SOCKET {
		return unix.EINVAL
	}
	_, e := n.sock.GetOption(&n.caller, level, name, 4)
	switch {
	case e == unix.EOPNOTSUPP, e == unix.ENOPROTOOPT && !ownLevel(n.sock, level):
		return e
	case isInet(n.sock) && level == unix.SOL_IPV6 && name != mcastMsfilter:
		return nil
	}
	return unix.EINVAL
}

// mcastMsfilter is MCAST_MSFILTER, which compares the length with its sign.
const mcastMsfilter = 48

func isInet(s net.Socket) bool { return s.Domain() == unix.AF_INET || s.Domain() == unix.AF_INET6 }

// ownLevel says that a socket has options of this level, other than SOL_SOCKET.
func ownLevel(s net.Socket, level int) bool {
	six := s.Domain() == unix.AF_INET6
	switch {
	case !isInet(s):
		return level == map[int]int{unix.AF_NETLINK: unix.SOL_NETLINK, unix.AF_PACKET: unix.SOL_PACKET, unix.AF_VSOCK: unix.AF_VSOCK}[s.Domain()]
	case level == unix.SOL_IP:
		return !six || s.Type() != unix.SOCK_RAW
	case level == unix.SOL_IPV6:
		return six
	case level == unix.SOL_TCP:
		return s.Type() == unix.SOCK_STREAM
	case level == unix.SOL_UDP:
		return s.Type() == unix.SOCK_DGRAM && s.Protocol() == unix.IPPROTO_UDP
	}
	return s.Type() == unix.SOCK_RAW && level == unix.SOL_RAW
}

// instructionsOut answers SO_GET_FILTER, whose length is of instructions.
func instructionsOut(t *task.Thread, a *Args, v []byte, n net.Instructions) error {
	if err := t.CopyOut(hal.UserAddr(a[3]), v); err != nil {
		return err
	}
	var l [4]byte
	binary.LittleEndian.PutUint32(l[:], uint32(n))
	return t.CopyOut(hal.UserAddr(a[4]), l[:])
}

// sysShutdown: EINVAL, ENOTCONN. See shutdown(2).
func sysShutdown(t *task.Thread, a *Args) (uintptr, error) {
	f, s, err := socket(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return 0, s.Shutdown(int(int32(a[1])))
}
