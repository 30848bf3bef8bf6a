package net

import (
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/wait"
)

// namespace maps AF_UNIX names to the sockets bound to them.
type namespace struct {
	mu       sync.Mutex
	abstract map[abstractName]*unixSocket
	paths    map[inode]*unixSocket
	auto     uint32
	flights  flights
	waits    sync.Mutex // inside of every unixSocket.mu
}

type inode struct{ dev, ino uint64 }

// abstractName: sockets of different types do not see each other's abstract names
// (unix_abstract_hash).
type abstractName struct {
	typ  int32
	name string
}

func (n *namespace) init() {
	n.abstract = make(map[abstractName]*unixSocket)
	n.paths = make(map[inode]*unixSocket)
	n.flights.init()
}

const (
	unixBuf     = 212992 // net.core.wmem_default
	unixDgrams  = 10     // net.unix.max_dgram_qlen
	unixMaxName = 108    // sun_path
	msgCost     = 256    // of a queued message beside its bytes
)

// unixSocket is an AF_UNIX socket. Data lies in the receiver's queue, so a writer
// takes only its peer's lock, and never two.
type unixSocket struct {
	base
	q wait.Queue

	mu                 sync.Mutex
	name               []byte // the whole sockaddr, nil if unbound; an accepted one has its listener's
	path               vfs.Path
	node               inode
	abstract           string
	peer               *unixSocket
	connected          bool // stream, seqpacket: ever connected
	peerName           []byte
	peerCreds          Ucred
	creds              Ucred // at listen, for those who connect
	groups, peerGroups []uint32
	embryo             bool // nobody has accepted it yet
	passSec            atomic.Bool
	made               Ucred // who made it
	err                error

	rx        []unixMsg
	room      []unixMsg // empty: where rx begins, of which most queues need no more
	rxBytes   int
	withFiles int  // messages with descriptors in rx
	rcvShut   bool // nothing more will come (shutdown here, or the peer's end)
	sndShut   bool
	peerGone  bool
	closed    bool
	sndbuf    int
	rcvbuf    int // shown, and nothing else
	sent      *unixSent
	waits     unixWaits
	waited    atomic.Bool // there may be some in waits.here; set with mu held

	listening bool
	backlog   int
	pending   []*unixSocket
}

func (s *Stack) newUnix(typ int) (*unixSocket, error) {
	if !s.cfg.Budget.Charge(sockCost) {
		return nil, unix.ENOBUFS
	}
	x := &unixSocket{sndbuf: unixBuf, rcvbuf: unixBuf, sent: &unixSent{}}
	x.sent.sock.Store(x)
	x.sent.most.Store(unixBuf)
	x.base = base{s: s, domain: unix.AF_UNIX, typ: int32(typ)}
	x.opt.peekOff.Store(-1)
	s.register(&x.base, x)
	return x, nil
}

func (s *Stack) unixSocket(c *Caller, typ, protocol int) (Socket, error) {
	if protocol != 0 && protocol != unix.AF_UNIX {
		return nil, unix.EPROTONOSUPPORT
	}
	switch typ {
	case unix.SOCK_RAW:
		typ = unix.SOCK_DGRAM // as BSD had it
	case unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET:
	default:
		return nil, unix.ESOCKTNOSUPPORT
	}
	x, err := s.newUnix(typ)
	if err != nil {
		return nil, err
	}
	x.made = c.ucred()
	return x, nil
}

// SocketPair makes two connected AF_UNIX sockets; EOPNOTSUPP for other families.
func (s *Stack) SocketPair(c *Caller, family, typ, protocol int) (Socket, Socket, error) {
	if family != unix.AF_UNIX {
		x, err := s.Socket(c, family, typ, protocol)
		if err != nil {
			return nil, nil, err
		}
		x.Release(nil)
		return nil, nil, unix.EOPNOTSUPP
	}
	a, err := s.unixSocket(c, typ, protocol)
	if err != nil {
		return nil, nil, err
	}
	b, err := s.unixSocket(c, typ, protocol)
	if err != nil {
		a.Release(nil)
		return nil, nil, err
	}
	x, y := a.(*unixSocket), b.(*unixSocket)
	x.peer, y.peer = y, x
	x.connected, y.connected = true, true
	x.peerCreds, y.peerCreds = c.ucred(), c.ucred()
	x.peerGroups, y.peerGroups = c.groups(), c.groups()
	return x, y, nil
}

func (x *unixSocket) stream() bool { return x.typ == unix.SOCK_STREAM }
func (x *unixSocket) dgram() bool  { return x.typ == unix.SOCK_DGRAM }

// unixAddr checks a sockaddr_un (unix_validate_addr): the path or the abstract name
// with its leading NUL; empty for a bare family.
func unixAddr(b []byte) (string, error) {
	if len(b) < 2 || len(b) > sizeUn || familyOf(b) != unix.AF_UNIX {
		return "", unix.EINVAL
	}
	n := string(b[2:])
	if n == "" || n[0] == 0 {
		return n, nil
	}
	return cpath(n), nil
}

func cpath(s string) string {
	for i := range s {
		if s[i] == 0 {
			return s[:i]
		}
	}
	return s
}

func unixName(path string) []byte {
	b := append([]byte{unix.AF_UNIX, 0}, path...)
	if path != "" && path[0] != 0 {
		b = append(b, 0)
	}
	return b
}

// Bind implements Socket. See unix_bind: EINVAL for a second name, EADDRINUSE.
func (x *unixSocket) Bind(c *Caller, b []byte) error {
	n, err := unixAddr(b)
	if err != nil {
		return err
	}
	if n == "" {
		return x.autobind()
	}
	switch {
	case n[0] != 0:
		return x.bindPath(c, n)
	case x.named():
		return unix.EINVAL
	}
	return x.bindAbstract(n)
}

func (x *unixSocket) bindPath(c *Caller, path string) error {
	if c.NS == nil {
		return unix.EACCES
	}
	at := vfs.Attr{Mode: unix.S_IFSOCK}
	x.owned.Fill(&at) // fchmod of the socket counts for its name's node
	p, err := c.NS.MknodPath(c.Lookup, path, at.Mode)
	if err == unix.EEXIST {
		err = unix.EADDRINUSE
	}
	if err != nil {
		return err
	}
	a, err := p.Entry.Inode().Attr(c.C)
	if err != nil {
		return err
	}
	x.mu.Lock()
	if x.name != nil { // noticed last, as on Linux, and what has been made goes again
		x.mu.Unlock()
		_ = c.NS.Unlink(c.Lookup, path, false)
		return unix.EINVAL
	}
	defer x.mu.Unlock()
	x.path, x.node = p, inode{a.Dev, a.Ino}
	x.setName(unixName(path))
	ns := &x.s.unix
	ns.mu.Lock()
	ns.paths[x.node] = x
	ns.mu.Unlock()
	return nil
}

func (x *unixSocket) bindAbstract(n string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.name != nil {
		return unix.EINVAL
	}
	ns := &x.s.unix
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if ns.abstract[abstractName{x.typ, n}] != nil {
		return unix.EADDRINUSE
	}
	ns.abstract[abstractName{x.typ, n}] = x
	x.abstract = n
	x.setName(unixName(n))
	return nil
}

// setName gives the socket the name that its peers see from now on, of what it has sent, too. mu is
// held, or nobody else has the socket.
func (x *unixSocket) setName(n []byte) {
	if x.name = n; n != nil {
		x.sent.name.Store(&n)
	}
}

func (x *unixSocket) named() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.name != nil
}

// autobind gives a socket without a name a free one of five hexadecimal digits (unix(7)).
func (x *unixSocket) autobind() error {
	for range 1 << 20 {
		if x.named() {
			return nil
		}
		ns := &x.s.unix
		ns.mu.Lock()
		n := fmt.Sprintf("\x00%05x", ns.auto&0xfffff)
		ns.auto++
		ns.mu.Unlock()
		if x.bindAbstract(n) == nil {
			return nil
		}
	}
	return unix.ENOSPC
}

// find is the socket that a name leads to: EINVAL for none, ECONNREFUSED, and errors of
// the path.
func (x *unixSocket) find(c *Caller, n string) (*unixSocket, error) {
	ns := &x.s.unix
	if n == "" {
		return nil, unix.EINVAL
	}
	if n[0] == 0 {
		ns.mu.Lock()
		defer ns.mu.Unlock()
		if y := ns.abstract[abstractName{x.typ, n}]; y != nil {
			return y, nil
		}
		return nil, unix.ECONNREFUSED
	}
	if c.NS == nil {
		return nil, unix.ENOENT
	}
	p, err := c.NS.Walk(c.Lookup, n, vfs.WalkFollow)
	if err != nil {
		return nil, err
	}
	if err := c.NS.AccessAt(c.Lookup, p, vfs.MayWrite); err != nil {
		return nil, err
	}
	a, err := p.Entry.Inode().Attr(c.C)
	if err != nil {
		return nil, err
	}
	if a.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, unix.ECONNREFUSED
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if y := ns.paths[inode{a.Dev, a.Ino}]; y != nil {
		return y, nil
	}
	return nil, unix.ECONNREFUSED
}

// Listen implements Socket. See unix_listen.
func (x *unixSocket) Listen(c *Caller, backlog int) error {
	if x.dgram() {
		return unix.EOPNOTSUPP
	}
	if most := int(x.s.somaxconn.Load()); backlog < 0 || backlog > most {
		backlog = most
	}
	x.mu.Lock()
	if x.name == nil || x.connected {
		x.mu.Unlock()
		return unix.EINVAL
	}
	x.listening, x.backlog, x.creds, x.groups = true, backlog, c.ucred(), c.groups()
	x.peerGroups = x.groups // its own, as SO_PEERCRED of a listener
	b := x.roomy()          // the backlog may have grown
	x.mu.Unlock()
	wake(b)
	return nil
}

// Connect implements Socket. See unix_stream_connect and unix_dgram_connect: EAGAIN
// while the backlog is full, EPROTOTYPE, ECONNREFUSED, EISCONN.
func (x *unixSocket) Connect(c *Caller, b []byte) error {
	if len(b) < 2 {
		return unix.EINVAL
	}
	if x.dgram() && familyOf(b) == unix.AF_UNSPEC {
		x.turn(nil, nil)
		return nil
	}
	n, err := unixAddr(b)
	if err != nil {
		return err
	}
	if x.opt.passcred.Load() {
		if err := x.autobind(); err != nil {
			return err
		}
	}
	y, err := x.find(c, n)
	if err != nil {
		return err
	}
	if y.typ != x.typ {
		return unix.EPROTOTYPE
	}
	if x.dgram() {
		y.mu.Lock()
		ok := y.takes(x)
		y.mu.Unlock()
		if !ok {
			return unix.EPERM
		}
		x.turn(y, unixName(n))
		return nil
	}
	return x.connectStream(c, y)
}

// turn gives a datagram socket another peer, or none.
func (x *unixSocket) turn(to *unixSocket, name []byte) {
	x.mu.Lock()
	was := x.peer
	x.peer, x.peerName = to, name
	x.mu.Unlock()
	if was != nil && was != to {
		x.parted(was)
	}
}

// parted drops what a datagram socket has not read when was is not its peer any more: whom it is
// the peer of hears that messages are lost (unix_dgram_disconnected).
func (x *unixSocket) parted(was *unixSocket) {
	x.mu.Lock()
	lost := x.rx
	x.rx, x.room, x.rxBytes, x.withFiles = nil, nil, 0, 0
	b := x.roomy()
	x.mu.Unlock()
	for i := range lost {
		lost[i].drop(x.s)
	}
	wake(b)
	if was.lets(x) {
		x.q.Notify(waiter.WritableEvents)
	}
	if len(lost) == 0 {
		return
	}
	was.mu.Lock()
	hears := !was.closed && was.peer == x
	if hears {
		was.err = unix.ECONNRESET
	}
	was.mu.Unlock()
	if hears {
		was.q.Notify(waiter.EventErr)
	}
}

func (x *unixSocket) connectStream(c *Caller, l *unixSocket) error {
	x.mu.Lock()
	name, wrong := x.name, error(nil)
	switch {
	case x.connected:
		wrong = unix.EISCONN
	case x.listening:
		wrong = unix.EINVAL
	}
	x.mu.Unlock()
	srv, err := x.s.newUnix(int(x.typ))
	if err != nil {
		return unix.ENOMEM
	}
	l.mu.Lock()
	err = nil
	switch {
	case l.closed || !l.listening || l.rcvShut:
		err = unix.ECONNREFUSED
	case len(l.pending) > l.backlog:
		err = unix.EAGAIN
	}
	if err != nil {
		// Who waits for room hears of it on its own queue.
		if err == unix.EAGAIN && !l.wants(x) {
			err = unix.ENOMEM
		}
		l.mu.Unlock()
		srv.Release(nil)
		return err
	}
	if wrong != nil { // only now: a listener that refuses comes first
		l.mu.Unlock()
		srv.Release(nil)
		return wrong
	}
	srv.embryo = true
	srv.connected, srv.peer, srv.peerName, srv.peerCreds, srv.peerGroups = true, x, name, c.ucred(), c.groups()
	srv.setName(l.name)
	srv.opt.passcred.Store(l.opt.passcred.Load())
	lname, lcreds, lgroups := l.name, l.creds, l.groups
	l.mu.Unlock()

	x.mu.Lock()
	if x.connected || x.closed {
		x.mu.Unlock()
		srv.peer = nil
		srv.Release(nil)
		return unix.EISCONN
	}
	x.connected, x.peer, x.peerName, x.peerCreds, x.peerGroups = true, srv, lname, lcreds, lgroups
	x.mu.Unlock()

	l.mu.Lock()
	gone := l.closed
	if !gone {
		l.pending = append(l.pending, srv)
	}
	l.mu.Unlock()
	if gone {
		srv.Release(nil)
		return nil // connected and reset at once, as a race on Linux ends
	}
	l.q.Notify(waiter.ReadableEvents)
	x.q.Notify(waiter.WritableEvents)
	return nil
}

// Accept implements Socket.
func (x *unixSocket) Accept(c *Caller) (Socket, error) {
	if x.dgram() {
		return nil, unix.EOPNOTSUPP
	}
	x.mu.Lock()
	if !x.listening {
		x.mu.Unlock()
		return nil, unix.EINVAL
	}
	if len(x.pending) == 0 {
		err := error(unix.EAGAIN)
		if x.rcvShut && !c.Nonblock { // only who would wait hears of it
			err = unix.EINVAL
		}
		x.mu.Unlock()
		return nil, err
	}
	y := x.pending[0]
	x.pending = x.pending[1:]
	b := x.roomy()
	x.mu.Unlock()
	y.mu.Lock()
	y.embryo = false
	y.mu.Unlock()
	wake(b)
	return y, nil
}

// Unaccept implements Socket.
func (x *unixSocket) Unaccept(s Socket) {
	y := s.(*unixSocket)
	y.mu.Lock()
	y.embryo = true
	y.mu.Unlock()
	x.mu.Lock()
	closed := x.closed
	if !closed {
		x.pending = append([]*unixSocket{y}, x.pending...)
	}
	x.mu.Unlock()
	if closed {
		y.Release(nil)
		return
	}
	x.q.Notify(waiter.ReadableEvents)
}

// SockName implements Socket.
func (x *unixSocket) SockName() ([]byte, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.name == nil {
		return unixName(""), nil
	}
	return x.name, nil
}

// PeerName implements Socket: what the peer is called now.
func (x *unixSocket) PeerName() ([]byte, error) {
	x.mu.Lock()
	peer, name, connected := x.peer, x.peerName, x.connected
	x.mu.Unlock()
	if peer == nil && (!connected || x.dgram()) { // a datagram socket forgets a peer that has gone
		return nil, unix.ENOTCONN
	}
	if peer != nil {
		peer.mu.Lock()
		name = peer.name
		peer.mu.Unlock()
	}
	if name == nil {
		return unixName(""), nil
	}
	return name, nil
}

// Shutdown implements Socket. The other direction of a connection shuts with it.
func (x *unixSocket) Shutdown(how int) error {
	if how < unix.SHUT_RD || how > unix.SHUT_RDWR {
		return unix.EINVAL
	}
	rd, wr := how != unix.SHUT_WR, how != unix.SHUT_RD
	x.mu.Lock()
	x.rcvShut = x.rcvShut || rd
	x.sndShut = x.sndShut || wr
	peer := x.peer
	x.mu.Unlock()
	const all = waiter.ReadableEvents | waiter.WritableEvents | waiter.EventHUp | waiter.EventRdHUp
	if peer != nil && !x.dgram() {
		peer.mu.Lock()
		peer.rcvShut = peer.rcvShut || wr
		peer.sndShut = peer.sndShut || rd
		peer.mu.Unlock()
		peer.q.Notify(all)
	}
	x.q.Notify(all)
	return nil
}

// Readiness implements waiter.Waitable. See unix_poll and unix_dgram_poll.
func (x *unixSocket) Readiness(mask waiter.EventMask) waiter.EventMask {
	var r waiter.EventMask
	x.mu.Lock()
	peer := x.peer
	if x.err != nil {
		r |= waiter.EventErr
	}
	if len(x.rx) > 0 || x.rcvShut || len(x.pending) > 0 {
		r |= waiter.ReadableEvents
	}
	if mask&waiter.EventPri != 0 && x.urgent() >= 0 {
		r |= waiter.EventPri
	}
	if x.rcvShut {
		r |= waiter.EventRdHUp
	}
	if x.rcvShut && x.sndShut || !x.dgram() && !x.connected && !x.listening {
		r |= waiter.EventHUp
	}
	listening := x.listening
	x.mu.Unlock()
	if mask&waiter.WritableEvents == 0 {
		return ready(mask, r)
	}
	writable := !listening && x.sent.writable()
	if writable && x.dgram() && peer != nil {
		// A full queue: its reader wakes us.
		peer.mu.Lock()
		if !peer.closed && peer.crowded(x) {
			writable = !peer.wants(x) // if not, send(2) says why
		}
		peer.mu.Unlock()
	}
	if writable {
		r |= waiter.WritableEvents
	}
	return ready(mask, r)
}

// EventRegister implements waiter.Waitable.
func (x *unixSocket) EventRegister(e *waiter.Entry) error {
	x.q.EventRegister(e)
	return nil
}

// EventUnregister implements waiter.Waitable.
func (x *unixSocket) EventUnregister(e *waiter.Entry) { x.q.EventUnregister(e) }

// Release implements vfs.FileOps.
func (x *unixSocket) Release(*vfs.File) {
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		return
	}
	x.closed, x.rcvShut, x.sndShut = true, true, true
	peer, pending, queued, embryo := x.peer, x.pending, x.rx, x.embryo
	x.pending, x.rx, x.room, x.rxBytes, x.withFiles = nil, nil, nil, 0, 0
	x.peer = nil
	b := x.roomy()
	ns := &x.s.unix
	ns.mu.Lock()
	if x.abstract != "" {
		delete(ns.abstract, abstractName{x.typ, x.abstract})
	} else if ns.paths[x.node] == x {
		delete(ns.paths, x.node)
	}
	ns.mu.Unlock()
	x.mu.Unlock()

	x.sent.sock.Store(nil)
	x.waitsNoMore()
	x.s.list.remove(x.ino)
	x.setFilter(nil)
	x.s.cfg.Budget.Uncharge(sockCost)
	for _, p := range pending {
		p.Release(nil)
	}
	for i := range queued {
		queued[i].drop(x.s)
	}
	wake(b)
	if peer != nil && !x.dgram() {
		peer.mu.Lock()
		peer.rcvShut, peer.sndShut, peer.peerGone = true, true, true
		if len(queued) > 0 || len(pending) > 0 || embryo {
			peer.err = unix.ECONNRESET // there was something it never read
		}
		peer.mu.Unlock()
		peer.q.Notify(waiter.ReadableEvents | waiter.WritableEvents | waiter.EventHUp | waiter.EventRdHUp | waiter.EventErr)
	}
	x.q.Notify(waiter.EventHUp)
	x.s.collect()
}

// groups are the supplementary groups, for SO_PEERGROUPS.
func (c *Caller) groups() []uint32 {
	if c == nil || c.Creds == nil {
		return nil
	}
	return c.Creds.Groups
}
