package net

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/drivers/virtio/vsock"
	"kiln/kernel/timer"
)

// AF_VSOCK (vsock(7)): streams and packets between a machine and its host, over
// virtio-vsock, and within the machine over a loopback. A connection is two sockets that
// send each other packets (vsock_pkt.go); what differs between the two ways is the
// vsockTransport.

// Addresses of <linux/vm_sockets.h>.
const (
	vmCIDAny   = unix.VMADDR_CID_ANY
	vmCIDLocal = unix.VMADDR_CID_LOCAL
	vmCIDHost  = unix.VMADDR_CID_HOST
	vmPortAny  = unix.VMADDR_PORT_ANY

	sizeVM        = 16 // struct sockaddr_vm
	vmLastReserve = 1023
	vmPortTries   = 24 // MAX_PORT_RETRIES

	vmFlagToHost = 1
)

// What a socket begins with (net/vmw_vsock/af_vsock.c), in ticks, nanoseconds and bytes.
const (
	vmConnectTimeout = 2 * vmTicks
	vmTicks          = 250 // a second, as Debian's kernel has them
	vmCloseTimeout   = 8e9 // VSOCK_CLOSE_TIMEOUT
	vmBufSize        = 256 << 10
	vmBufMin         = 128
)

// vmState is the state of a connection, in the numbers that sock_diag uses.
type vmState byte

const (
	vmEstablished vmState = 1
	vmSynSent     vmState = 2
	vmClose       vmState = 7
	vmListen      vmState = 10
	vmClosing     vmState = 11
)

// vmStage is struct socket's state, which goes its own way: shutdown ends being connected.
type vmStage byte

const (
	vmUnconnected vmStage = iota
	vmConnecting
	vmConnected
	vmDisconnecting
)

// Directions that are shut.
const (
	vmShutRcv  = vsock.ShutdownReceive
	vmShutSnd  = vsock.ShutdownSend
	vmShutBoth = vmShutRcv | vmShutSnd
)

type vmAddr struct {
	cid, port uint32
	flags     byte
}

// vmKey is what a connection's packets are known by (vsock_find_connected_socket).
type vmKey struct {
	remoteCID, remotePort, localPort uint32
}

type vmBound struct {
	cid uint32
	x   *vsockSocket
}

// vsockTable is the sockets with an address. mu is a leaf below vsockSocket.mu.
type vsockTable struct {
	mu        sync.Mutex
	bound     map[uint32][]vmBound // by port
	connected map[vmKey]*vsockSocket
	next      uint32 // the port that is tried next
	dev       atomic.Pointer[vsockCard]
}

// vsockSocket is an AF_VSOCK socket.
type vsockSocket struct {
	base
	q waiter.Queue

	mu       sync.Mutex
	stage    vmStage
	state    vmState
	local    vmAddr
	remote   vmAddr
	bound    bool
	key      vmKey // where hasKey
	hasKey   bool
	tr       vsockTransport // nil before connect
	shut     uint32
	peerShut uint32
	done     bool // the connection has come to its end (SOCK_DONE)
	closed   bool // no descriptor is left
	gone     bool // nor a name
	err      error

	sndbuf, rcvbuf           int    // SO_SNDBUF and SO_RCVBUF, which mean nothing here
	bufSize, bufMin, bufMax  uint64 // SO_VM_SOCKETS_BUFFER_*
	connectTimeout           int64  // ticks
	connectTimer, closeTimer timer.Timer
	armed                    bool // closeTimer

	rx vsockQueue
	// bufAlloc is how much the other side may send ahead; fwdCnt what was read, toldFwd
	// what it has heard of that. txCnt is what was sent, peerAlloc and peerFwd the other
	// side's numbers. Counters wrap (5.10.6.3).
	bufAlloc, fwdCnt, toldFwd uint32
	txCnt, peerAlloc, peerFwd uint32
	need                      int  // room that a message waits for
	asked                     bool // for credit

	out      []vsockPacket // to be sent, in order
	flushing bool

	backlog int
	pending []*vsockSocket
}

// vsockSocket makes one: EPROTONOSUPPORT, ESOCKTNOSUPPORT, and ENODEV for datagrams, which
// only VMware's transport has (vsock_create).
func (s *Stack) vsockSocket(c *Caller, typ, protocol int) (Socket, error) {
	if protocol != 0 && protocol != unix.AF_VSOCK {
		return nil, unix.EPROTONOSUPPORT
	}
	switch typ {
	case unix.SOCK_STREAM, unix.SOCK_SEQPACKET:
	case unix.SOCK_DGRAM:
		return nil, unix.ENODEV
	default:
		return nil, unix.ESOCKTNOSUPPORT
	}
	x, err := s.newVsock(typ)
	if err != nil {
		return nil, err
	}
	x.uid = c.ucred().UID
	s.register(&x.base, x)
	return x, nil
}

func (s *Stack) newVsock(typ int) (*vsockSocket, error) {
	if !s.cfg.Budget.Charge(sockCost) {
		return nil, unix.ENOMEM
	}
	x := &vsockSocket{state: vmClose, local: vmAddr{cid: vmCIDAny, port: vmPortAny}, sndbuf: unixBuf, rcvbuf: unixBuf,
		bufSize: vmBufSize, bufMin: vmBufMin, bufMax: vmBufSize, connectTimeout: vmConnectTimeout}
	x.remote = x.local
	x.base = base{s: s, domain: unix.AF_VSOCK, typ: int32(typ)}
	x.rx.budget = s.cfg.Budget
	// Timers run where nothing may wait for a lock.
	x.connectTimer.Init(func() { go x.connectTimedOut() })
	x.closeTimer.Init(func() { go x.closeTimedOut() })
	return x, nil
}

func (x *vsockSocket) stream() bool { return x.typ == unix.SOCK_STREAM }

// vsockAddr decodes a struct sockaddr_vm: EINVAL, where vsock_addr_cast has several errors
// that its callers make that one.
func vsockAddr(b []byte) (vmAddr, error) {
	if len(b) < sizeVM || familyOf(b) != unix.AF_VSOCK || b[12]&^vmFlagToHost != 0 {
		return vmAddr{}, unix.EINVAL
	}
	le := binary.LittleEndian
	return vmAddr{port: le.Uint32(b[4:]), cid: le.Uint32(b[8:]), flags: b[12]}, nil
}

func (a vmAddr) encode() []byte {
	b := make([]byte, sizeVM)
	le := binary.LittleEndian
	le.PutUint16(b, unix.AF_VSOCK)
	le.PutUint32(b[4:], a.port)
	le.PutUint32(b[8:], a.cid)
	b[12] = a.flags
	return b
}

// findBound is the socket whose address takes in another; VMADDR_CID_ANY takes in all.
// mu is held.
func (t *vsockTable) findBound(cid, port uint32) *vsockSocket {
	for _, b := range t.bound[port] {
		if b.cid == cid || b.cid == vmCIDAny || cid == vmCIDAny {
			return b.x
		}
	}
	return nil
}

// find is who gets a packet: the connection, else whoever is bound there.
func (t *vsockTable) find(h *vsock.Header) *vsockSocket {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x := t.connected[vmKey{uint32(h.SrcCID), h.SrcPort, h.DstPort}]; x != nil {
		return x
	}
	return t.findBound(uint32(h.DstCID), h.DstPort)
}

// Bind implements Socket: EINVAL (bound already, or no address), EADDRNOTAVAIL (a context
// that is not this machine), EACCES, EADDRINUSE.
func (x *vsockSocket) Bind(c *Caller, b []byte) error {
	a, err := vsockAddr(b)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.bind(c, a)
}

// bind names the socket. mu is held.
func (x *vsockSocket) bind(c *Caller, a vmAddr) error {
	if x.bound {
		return unix.EINVAL
	}
	t := &x.s.vsock
	if a.cid != vmCIDAny && a.cid != vmCIDLocal && !t.isGuest(a.cid) {
		return unix.EADDRNOTAVAIL
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.port == vmPortAny {
		p, ok := t.freePort(x.s, a.cid)
		if !ok {
			return unix.EADDRNOTAVAIL
		}
		a.port = p
	} else {
		if a.port <= vmLastReserve && !c.capable(capNetBindService) {
			return unix.EACCES
		}
		if t.findBound(a.cid, a.port) != nil {
			return unix.EADDRINUSE
		}
	}
	if t.bound == nil {
		t.bound = make(map[uint32][]vmBound)
	}
	t.bound[a.port] = append(t.bound[a.port], vmBound{a.cid, x})
	x.bound, x.local = true, vmAddr{cid: a.cid, port: a.port}
	return nil
}

// freePort is the next port that nobody has. mu is held.
func (t *vsockTable) freePort(s *Stack, cid uint32) (uint32, bool) {
	if t.next == 0 {
		var b [4]byte
		s.cfg.Machine.Entropy(b[:])
		t.next = binary.LittleEndian.Uint32(b[:])
	}
	for range vmPortTries {
		if t.next == vmPortAny || t.next <= vmLastReserve {
			t.next = vmLastReserve + 1
		}
		p := t.next
		t.next++
		if t.findBound(cid, p) == nil {
			return p, true
		}
	}
	return 0, false
}

// isGuest says whether cid is this machine's for its host.
func (t *vsockTable) isGuest(cid uint32) bool {
	d := t.dev.Load()
	return d != nil && d.localCID() == cid
}

// Listen implements Socket. See vsock_listen: EINVAL where there is no name, or a peer.
func (x *vsockSocket) Listen(_ *Caller, backlog int) error {
	if most := int(x.s.somaxconn.Load()); backlog < 0 || backlog > most {
		backlog = most
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stage != vmUnconnected || !x.bound {
		return unix.EINVAL
	}
	x.backlog, x.state = backlog, vmListen
	return nil
}

// Accept implements Socket.
func (x *vsockSocket) Accept(*Caller) (Socket, error) {
	x.mu.Lock()
	if x.state != vmListen {
		x.mu.Unlock()
		return nil, unix.EINVAL
	}
	if len(x.pending) == 0 {
		x.mu.Unlock()
		return nil, unix.EAGAIN
	}
	y := x.pending[0]
	if x.pending = x.pending[1:]; len(x.pending) == 0 {
		x.pending = nil
	}
	x.mu.Unlock()
	y.mu.Lock()
	y.stage = vmConnected
	y.mu.Unlock()
	return y, nil
}

// Unaccept implements Socket.
func (x *vsockSocket) Unaccept(s Socket) {
	y := s.(*vsockSocket)
	x.mu.Lock()
	closed := x.closed
	if !closed {
		x.pending = append([]*vsockSocket{y}, x.pending...)
	}
	x.mu.Unlock()
	if closed {
		y.Release(nil)
		return
	}
	x.q.Notify(waiter.ReadableEvents)
}

// route is the way to a context (vsock_assign_transport): ENODEV where there is none,
// ESOCKTNOSUPPORT for packets where the host knows none.
func (x *vsockSocket) route(a vmAddr) (vsockTransport, error) {
	d := x.s.vsock.dev.Load()
	local := a.cid == vmCIDLocal
	if d != nil {
		local = local || a.cid == d.localCID()
	} else {
		local = local || a.cid == vmCIDHost
	}
	switch {
	case local:
		return (*vsockLoop)(x.s), nil
	case d == nil:
		return nil, unix.ENODEV
	case !x.stream() && !d.seqpacket():
		return nil, unix.ESOCKTNOSUPPORT
	}
	return d, nil
}

// Connect implements Socket. A connection is always under way when it returns, however
// soon the other side has answered: EINPROGRESS, EALREADY; EISCONN, EINVAL, and those of
// route and bind.
func (x *vsockSocket) Connect(c *Caller, b []byte) error {
	x.mu.Lock()
	switch x.stage {
	case vmConnected:
		x.mu.Unlock()
		return unix.EISCONN
	case vmDisconnecting:
		x.mu.Unlock()
		return unix.EINVAL
	case vmConnecting:
		x.mu.Unlock()
		return unix.EALREADY
	}
	if err := x.request(c, b); err != nil {
		x.mu.Unlock()
		return err
	}
	x.mu.Unlock()
	x.flush()
	x.watchConnect()
	return unix.EINPROGRESS
}

// request asks for a connection. mu is held.
func (x *vsockSocket) request(c *Caller, b []byte) error {
	a, err := vsockAddr(b)
	if x.state == vmListen || err != nil {
		return unix.EINVAL
	}
	x.remote = a
	tr, err := x.route(a)
	if err != nil {
		return err
	}
	if x.tr != tr {
		x.tr, x.done, x.state, x.peerShut = tr, false, vmClose, 0
		x.bufSize = min(x.bufSize, 1<<32-1)
		x.bufAlloc = uint32(x.bufSize)
	}
	if !x.bound {
		if err := x.bind(c, vmAddr{cid: vmCIDAny, port: vmPortAny}); err != nil {
			return err
		}
	}
	x.state, x.stage = vmSynSent, vmConnecting
	x.queue(vsock.OpRequest, 0)
	return nil
}

// ConnectResult implements Socket.
func (x *vsockSocket) ConnectResult() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err != nil {
		err := x.err
		x.state, x.stage, x.err = vmClose, vmUnconnected, nil
		return err
	}
	if x.state != vmEstablished && x.state != vmClosing {
		return unix.EAGAIN
	}
	return nil
}

// TimedConnect is a socket whose attempts to connect end by themselves, in a time that is
// not SO_SNDTIMEO's; one that is waited for and interrupted is given up.
type TimedConnect interface{ AbandonConnect() }

// AbandonConnect implements TimedConnect.
func (x *vsockSocket) AbandonConnect() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.state == vmSynSent {
		x.state, x.stage = vmClose, vmUnconnected
		x.s.cfg.Timers.Stop(&x.connectTimer)
	}
}

// watchConnect lets an attempt that has no answer yet end in its time.
func (x *vsockSocket) watchConnect() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.state == vmSynSent && !x.closed {
		x.s.cfg.Timers.Arm(&x.connectTimer, x.s.cfg.Timers.Now()+min(x.connectTimeout, 1<<32)*(1e9/vmTicks))
	}
}

func (x *vsockSocket) connectTimedOut() {
	x.mu.Lock()
	late := x.state == vmSynSent && x.shut != vmShutBoth
	if late {
		x.state, x.stage, x.err = vmClose, vmUnconnected, unix.ETIMEDOUT
	}
	x.mu.Unlock()
	if late {
		x.q.Notify(waiter.EventErr | waiter.EventHUp | waiter.WritableEvents | waiter.ReadableEvents)
	}
}

// SockName implements Socket.
func (x *vsockSocket) SockName() ([]byte, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.local.encode(), nil
}

// PeerName implements Socket: a socket that was shut down has none.
func (x *vsockSocket) PeerName() ([]byte, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stage != vmConnected {
		return nil, unix.ENOTCONN
	}
	return x.remote.encode(), nil
}

// vmAll are the events of a connection whose state has changed.
const vmAll = waiter.ReadableEvents | waiter.WritableEvents | waiter.EventHUp | waiter.EventRdHUp | waiter.EventErr

// Shutdown implements Socket.
func (x *vsockSocket) Shutdown(how int) error {
	if how < unix.SHUT_RD || how > unix.SHUT_RDWR {
		return unix.EINVAL
	}
	mode := uint32(how + 1)
	x.mu.Lock()
	if x.stage == vmUnconnected {
		x.mu.Unlock()
		return unix.ENOTCONN
	}
	x.stage = vmDisconnecting
	x.shut |= mode
	x.done = false
	x.queue(vsock.OpShutdown, mode)
	x.mu.Unlock()
	x.flush()
	x.q.Notify(vmAll)
	return nil
}

// Readiness implements waiter.Waitable. See vsock_poll.
func (x *vsockSocket) Readiness(mask waiter.EventMask) waiter.EventMask {
	x.mu.Lock()
	defer x.mu.Unlock()
	var r waiter.EventMask
	if x.err != nil {
		r |= waiter.EventErr
	}
	if x.shut == vmShutBoth || x.shut&vmShutSnd != 0 && x.peerShut&vmShutSnd != 0 {
		r |= waiter.EventHUp
	}
	if x.shut&vmShutRcv != 0 || x.peerShut&vmShutSnd != 0 {
		r |= waiter.EventRdHUp | waiter.ReadableEvents
	}
	if len(x.pending) > 0 || x.tr != nil && x.shut&vmShutRcv == 0 && x.rx.ready(x.stream(), x.lowat()) {
		r |= waiter.ReadableEvents
	}
	if x.shut&vmShutSnd == 0 {
		switch x.state {
		case vmEstablished:
			if x.writable() {
				r |= waiter.WritableEvents
			}
		case vmClose, vmClosing:
			r |= waiter.WritableEvents
		}
	}
	return ready(mask, r)
}

func (x *vsockSocket) lowat() int { return max(int(x.opt.rcvlowat.Load()), 1) }

// EventRegister implements waiter.Waitable.
func (x *vsockSocket) EventRegister(e *waiter.Entry) error {
	x.q.EventRegister(e)
	return nil
}

// EventUnregister implements waiter.Waitable.
func (x *vsockSocket) EventUnregister(e *waiter.Entry) { x.q.EventUnregister(e) }
