package net

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// Socket is a socket of any family. Its calls answer EAGAIN rather than block; its
// options are in Linux's layout.
type Socket interface {
	vfs.FileOps

	// Domain, Type and Protocol are what socket(2) was given (SO_DOMAIN …).
	Domain() int
	Type() int
	Protocol() int

	Bind(c *Caller, addr []byte) error
	// Listen clamps the backlog to somaxconn.
	Listen(c *Caller, backlog int) error
	// Accept takes a connection off the queue, EAGAIN if there is none. Unaccept
	// puts one back that got no descriptor.
	Accept(c *Caller) (Socket, error)
	Unaccept(s Socket)
	// Connect starts a connection: nil if it is there at once, EINPROGRESS if it
	// goes on (ConnectResult then answers EAGAIN until it is decided), EAGAIN if
	// it cannot start yet (a full AF_UNIX backlog).
	Connect(c *Caller, addr []byte) error
	ConnectResult() error
	Shutdown(how int) error
	// SockName and PeerName are whole addresses, which the caller truncates.
	SockName() ([]byte, error)
	PeerName() ([]byte, error)

	SetOption(c *Caller, level, name int, v []byte) error
	// GetOption gives the value for a buffer of n bytes; the caller truncates.
	GetOption(c *Caller, level, name, n int) ([]byte, error)

	Recv(c *Caller, dst *mm.IOSeq, m *RecvMsg) (int, error)
	// Send returns a short count only for streams.
	Send(c *Caller, src *mm.IOSeq, m *SendMsg) (int, error)

	// Defer keeps an error for the next call (recvmmsg) or SO_ERROR; TakeError takes it.
	Defer(err error)
	TakeError() error

	// Timeouts are SO_RCVTIMEO and SO_SNDTIMEO in nanoseconds, 0 for none.
	Timeouts() (rcv, snd int64)
	// Target is how many of n bytes a blocking receive waits for, once there is one.
	Target(n, flags int) int
}

// Caller is the thread behind a call.
type Caller struct {
	C      wait.Context
	Space  *mm.Space
	PID    int32
	Creds  *vfs.Creds
	NS     *vfs.Namespace
	Lookup vfs.Lookup
	// OptVal is where getsockopt's value goes, which PACKET_HDRLEN reads, too.
	OptVal hal.UserAddr
	// Nonblock says that accept's descriptor does not wait.
	Nonblock bool
	// opener is who made the netlink socket of a request, nil elsewhere.
	opener *vfs.Creds
}

// Capabilities that sockets ask for (capabilities(7)).
const (
	capNetBindService = 10
	capNetBroadcast   = 11
	capNetAdmin       = 12
	capNetRaw         = 13
	capSysAdmin       = 21
)

// capable says whether the caller may; nobody in particular may not. Who is handed a netlink
// socket, as standard output perhaps, does not lend its capabilities to who opened it: both
// must have them (netlink_capable).
func (c *Caller) capable(bit uint) bool {
	return c != nil && c.Creds != nil && c.Creds.Can(bit) && c.opener.Can(bit)
}

// mayMark says whether the caller may choose marks and high priorities of packets.
func (c *Caller) mayMark() bool { return c.capable(capNetRaw) || c.capable(capNetAdmin) }

// Ucred is struct ucred.
type Ucred struct {
	PID int32
	UID uint32
	GID uint32
}

// sender is who SCM_CREDENTIALS says sent a message: real ids, where ucred, for
// SO_PEERCRED, has effective ones.
func (c *Caller) sender() Ucred {
	u := Ucred{PID: c.PID}
	if c.Creds != nil {
		u.UID, u.GID = c.Creds.UID, c.Creds.GID
	}
	return u
}

// author is what a thread can tell of itself to write(2) and ioctl(2), which have no Caller.
type author interface {
	Creds() *vfs.Creds
	PID() int32
}

// callerOf is the Caller of such a call: who it is, as far as c can tell.
func callerOf(c wait.Context) Caller {
	if a, ok := c.(author); ok {
		return Caller{C: c, PID: a.PID(), Creds: a.Creds()}
	}
	return Caller{C: c}
}

func (c *Caller) ucred() Ucred {
	u := Ucred{PID: c.PID}
	if c.Creds != nil {
		u.UID, u.GID = c.Creds.EUID, c.Creds.EGID
	}
	return u
}

// RecvMsg is what a receive wants and gets.
type RecvMsg struct {
	Flags int // MSG_*

	Name    [MaxSockaddr]byte // source address
	NameLen int               // 0: none
	// OutFlags are msg_flags: MSG_TRUNC, MSG_EOR, MSG_ERRQUEUE, MSG_CTRUNC.
	OutFlags int
	// Full is the datagram's whole length, for MSG_TRUNC.
	Full int
	// WantControl says that the caller has room for control messages.
	WantControl bool
	// Nonblock says that the caller does not wait.
	Nonblock bool
	Control  Control
}

// Reset makes it ready for another call.
func (m *RecvMsg) Reset() {
	m.Flags, m.NameLen, m.OutFlags, m.Full, m.WantControl, m.Nonblock = 0, 0, 0, 0, false, false
	m.Control = Control{}
}

func (m *RecvMsg) setName(b []byte) { m.NameLen = copy(m.Name[:], b) }

// SendMsg is what a send carries. Files are references that Send takes over when it
// succeeds, and only then.
type SendMsg struct {
	Flags   int
	Name    []byte // destination, nil for none
	Control Control
}

// Control is control messages in parsed form.
type Control struct {
	// Msgs are those that are plain bytes (IP_PKTINFO, SO_TIMESTAMP …).
	Msgs []Cmsg
	// Files is SCM_RIGHTS, Creds SCM_CREDENTIALS.
	Files    []*vfs.File
	Creds    Ucred
	HasCreds bool
	// Bad is what the first message that is none makes of the call (EINVAL); each family
	// looks at it in its turn.
	Bad error
	// MaxFiles is the sender's RLIMIT_NOFILE, with Files.
	MaxFiles uint64
}

// Cmsg is one control message.
type Cmsg struct {
	Level, Type int32
	Data        []byte
}

// release drops the files of a control message that nobody took.
func (c *Control) release() {
	for _, f := range c.Files {
		f.DecRef()
	}
	c.Files = nil
}

// base is what all sockets share.
type base struct {
	vfs.BaseOps
	s                *Stack
	domain, typ, pro int32
	ino              uint64
	uid              uint32 // the effective one of who made it
	opt              sockOpts
	filt             atomic.Pointer[filter]
	owned            vfs.Owned // the inode's
}

// Domain implements Socket.
func (b *base) Domain() int { return int(b.domain) }

// Type implements Socket.
func (b *base) Type() int { return int(b.typ) }

// Protocol implements Socket.
func (b *base) Protocol() int { return int(b.pro) }

// Ino is the socket's inode number, as in "socket:[n]".
func (b *base) Ino() uint64 { return b.ino }

// Attr implements vfs.FileOps.
func (b *base) Attr(wait.Context) (vfs.Attr, error) {
	now := b.s.cfg.Machine.Walltime()
	a := vfs.Attr{Dev: 8, Ino: b.ino, Mode: unix.S_IFSOCK, Nlink: 1, BlockSize: hal.PageSize, Atime: now, Mtime: now, Ctime: now}
	b.owned.Fill(&a)
	return a, nil
}

// SetAttr implements vfs.FileOps.
func (b *base) SetAttr(c wait.Context, a vfs.SetAttr) error {
	cur, err := b.Attr(c)
	if err != nil {
		return err
	}
	return b.owned.Change(cur, a)
}

func (b *base) inode() *vfs.Owned { return &b.owned }

// Target implements Socket (sock_rcvlowat). AF_UNIX with MSG_PEEK does not wait for more, and
// AF_VSOCK heeds SO_RCVLOWAT itself.
func (b *base) Target(n, flags int) int {
	inet := b.domain == unix.AF_INET || b.domain == unix.AF_INET6
	switch {
	case b.typ != unix.SOCK_STREAM, flags&unix.MSG_PEEK != 0 && !inet:
		return 1
	case flags&unix.MSG_WAITALL != 0:
		return n
	case b.domain == unix.AF_VSOCK:
		return 1
	}
	return min(n, int(max(b.opt.rcvlowat.Load(), 1)))
}

// Timeouts implements Socket.
func (b *base) Timeouts() (rcv, snd int64) { return b.opt.rcvTimeo.Load(), b.opt.sndTimeo.Load() }

// Calls that only some kinds have.

// Listen implements Socket.
func (b *base) Listen(*Caller, int) error { return unix.EOPNOTSUPP }

// Accept implements Socket.
func (b *base) Accept(*Caller) (Socket, error) { return nil, unix.EOPNOTSUPP }

// Unaccept implements Socket.
func (b *base) Unaccept(Socket) {}

// ConnectResult implements Socket.
func (b *base) ConnectResult() error { return nil }

// FromFile is the socket behind a file: ENOTSOCK.
func FromFile(f *vfs.File) (Socket, error) {
	if s, ok := f.Ops.(Socket); ok {
		return s, nil
	}
	return nil, unix.ENOTSOCK
}

// Socket makes one: socket(2), its checks in Linux's order (net/socket.c, inet_create,
// unix_create, netlink_create). typ has no flags in it.
func (s *Stack) Socket(c *Caller, family, typ, protocol int) (Socket, error) {
	if family < 0 || family >= unix.AF_MAX {
		return nil, unix.EAFNOSUPPORT
	}
	if typ < 0 || typ > 10 { // SOCK_MAX is 11
		return nil, unix.EINVAL
	}
	switch family {
	case unix.AF_INET, unix.AF_INET6:
		return s.inetSocket(c, family, typ, protocol)
	case unix.AF_UNIX:
		return s.unixSocket(c, typ, protocol)
	case unix.AF_NETLINK:
		return s.netlinkSocket(c, typ, protocol)
	case unix.AF_PACKET:
		return s.packetSocket(c, typ, protocol)
	case unix.AF_VSOCK:
		return s.vsockSocket(c, typ, protocol)
	}
	return nil, unix.EAFNOSUPPORT
}

// register gives a new socket its inode number and a place in /proc/net.
func (s *Stack) register(b *base, sock Socket) {
	b.ino = s.ident.Add(1)
	s.list.add(b.ino, sock)
}

// Async implements vfs.Asyncer.
func (b *base) Async(mask waiter.EventMask) int32 { return vfs.AsyncReason(mask) }

// SocketFile wraps a socket for a descriptor table; flags are O_NONBLOCK or 0.
func SocketFile(sock Socket, flags uint32, c *vfs.Creds) *vfs.File {
	if b, ok := sock.(interface{ inode() *vfs.Owned }); ok {
		b.inode().Own(c, 0o777)
	}
	f := vfs.NewFile(sock, unix.O_RDWR|flags)
	if b, ok := sock.(interface{ Ino() uint64 }); ok {
		f.Name = "socket:[" + utoa(b.Ino()) + "]"
	}
	return f
}

func utoa(n uint64) string {
	var b [20]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return string(b[i:])
		}
	}
}

// ready is the part of mask that a socket in state r reports.
func ready(mask, r waiter.EventMask) waiter.EventMask {
	return r & (mask | waiter.EventErr | waiter.EventHUp)
}

// ProtocolName is what Linux calls a socket's protocol (struct proto), as in /proc/net/protocols.
func ProtocolName(s Socket) string {
	six := ""
	switch s.Domain() {
	case unix.AF_UNIX:
		if s.Type() == unix.SOCK_STREAM {
			return "UNIX-STREAM"
		}
		return "UNIX"
	case unix.AF_NETLINK:
		return "NETLINK"
	case unix.AF_PACKET:
		return "PACKET"
	case unix.AF_VSOCK:
		return "AF_VSOCK"
	case unix.AF_INET6:
		six = "v6"
	}
	switch {
	case s.Type() == unix.SOCK_STREAM:
		return "TCP" + six
	case s.Type() == unix.SOCK_RAW:
		return "RAW" + six
	case s.Protocol() == unix.IPPROTO_UDP:
		return "UDP" + six
	case s.Protocol() == unix.IPPROTO_UDPLITE && six != "":
		return "UDPLITEv6"
	case s.Protocol() == unix.IPPROTO_UDPLITE:
		return "UDP-Lite"
	}
	return "PING" + six
}
