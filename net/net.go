// Package net is the network as programs see it: sockets over gVisor's netstack,
// AF_UNIX, AF_NETLINK, and what configures them.
//
// Wiring (cmd/kernel):
//
//	st, err := net.New(net.Config{Machine: m, Timers: q, Mem: mem, Log: logf, Hostname: "web"})
//	err = st.AddDevice("eth0", dev)            // any number; dev is drivers/virtio/net.Device
//	dev.Start()                                // after AddDevice: packets flow
//	err = st.Configure(cfg.Network, cmdline)   // never blocks: DHCP goes on in its own goroutine
//	kernel.Net = st                            // task.Kernel.Net, where the system calls look
//	st.ResolvConf(), st.Hosts()                // contents of /etc/resolv.conf and /etc/hosts
//	st.OnConfig(func() { … })                  // called when either has changed
//
// A socket is a vfs.FileOps (Socket); it never blocks and answers EAGAIN. The system
// calls in syscalls/*net*.go wait.
//
// # Memory
//
// What a peer or a program can make the kernel hold is bounded in gate.go: every
// received frame is counted from the link to its release (rxMem), every endpoint
// against the kernel-heap budget (gate), unread data of all sockets (rcvMem), bytes
// queued for sending by shrinking send buffers under pressure (txMem), and what is under way
// in connections within the machine, which share what is left (lane.capacity). At the edge a SYN or frame is dropped, socket() is
// ENOBUFS, a datagram is dropped, and a stream's window closes.
//
// # Locks
//
//	Stack.tunMu → tunDevice.mu → tunFile.mu (net/tun.go)
//	vsockSocket.mu → vsockTable.mu (net/vsock.go)
//	unixSocket.mu (lower address first where two are held) → namespace.mu
//	netstack's own locks → inetSocket callbacks → gate.mu
//	netstack's own locks → ndp.mu (net/ndp.go)
//	inetSocket.arrival → an endpoint that takes a datagram, its waiters (net/rcvmem.go)
//	groups.mu → netstack's own locks (net/groups.go)
//	fusion.mu → fuses.mu, netstack's own locks, lane.mu (net/fusion.go)
//	ethernet.mu → the driver's transmit lock
//
// No lock of ours is held over a copy that may fault: netstack's locks are, so copies
// under them are the no-fault form (inet_io.go).
package net

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/raw"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/timer"
)

// Config is what a stack is made of.
type Config struct {
	Machine hal.Machine
	Timers  *timer.Queue
	// Budget bounds kernel-heap memory (mm.Memory's); RAM is the machine's in bytes.
	Budget *mm.Budget
	RAM    uint64
	// Log writes a kernel message ("error", "warn", "info", "debug"); nil is silence.
	// Mem has the pages of packet rings; nil: there are none (ENOMEM).
	Mem      *mm.Memory
	Log      func(level, format string, args ...any)
	Hostname string
}

// Stack is one network namespace.
type Stack struct {
	cfg   Config
	ns    *stack.Stack
	clock *clock
	rx    rxMem
	tx    txMem
	rcv   rcvMem
	gate  gate
	acks  acks
	flows flowCache
	fuses fuses
	// taps are the packet sockets, nil if there are none; changed under tapMu.
	taps  atomic.Pointer[[]frameTap]
	tapMu sync.Mutex
	// fanouts are the groups of PACKET_FANOUT by number.
	fanoutMu   sync.Mutex
	fanouts    map[uint16]*fanoutGroup
	lastFanout uint16
	// filters are the sockets with a filter, by endpoint, and their number.
	filters struct {
		m sync.Map
		n atomic.Int32
	}
	tcp *tcpProtocol
	// ipStats are netstack's own counters.
	ipStats tcpip.IPStats
	ident   atomic.Uint64 // socket inode numbers
	// limits is *inetSocket to the tcpip.Timer of its attempt to connect (limitConnect): few have one,
	// and a field would make every socket larger by a size class (TestCostOfAConnection).
	limits sync.Map
	count  chan struct{} // asks counter to look

	mu       sync.Mutex
	ifaces   []*iface
	nextNIC  tcpip.NICID
	dns      []string
	search   string
	domain   string
	hostname string
	onConfig []func()
	routes   map[routeKey]routeInfo // what netstack's table has no room for

	tunMu sync.Mutex // one change of what stands behind /dev/net/tun at a time; outermost

	uevents     atomic.Uint64 // announced
	icmpOnce    sync.Once
	icmpHearers atomic.Pointer[[]*icmpHearer]
	hearMu      sync.Mutex
	hearing     map[*inetSocket]struct{} // with IP_RECVERR, but of TCP
	nlPorts     sync.Mutex               // one netlink socket gets its port at a time; before their mu

	tasks tasks // what is told of processes

	rtMu sync.Mutex // one change of the route table at a time; before mu

	unix  namespace
	vsock vsockTable
	list  sockList

	// pingGroups is /proc/sys/net/ipv4/ping_group_range: the first in the high half.
	pingGroups atomic.Uint64
	// somaxconn is /proc/sys/net/core/somaxconn.
	somaxconn atomic.Int32
	maxGroups atomic.Int32 // net.ipv4.igmp_max_memberships
}

// iface is one interface.
type iface struct {
	id   tcpip.NICID
	name string
	eth  *ethernet  // nil: loopback
	lo   *loopback  // of the loopback
	wire *tunDevice // of one that a program made; a TAP has eth too
	dhcp *dhcpClient
	// down is the absence of IFF_UP; queue is the program's txqueuelen and one more.
	down  atomic.Bool
	queue atomic.Uint32
	// soft are the flags that a program may set and that mean nothing here (softFlags).
	soft atomic.Uint32
	// peers are the other ends of addresses that have one, by address; under Stack.mu.
	peers map[tcpip.Address]tcpip.AddressWithPrefix
	// labels are those of IPv4 addresses that have another than the interface's name
	// ("lo:1"), by address; under Stack.mu.
	labels map[tcpip.Address]string
}

const loopbackNIC tcpip.NICID = 1

// New makes a stack with the loopback interface up.
func New(cfg Config) (*Stack, error) {
	if cfg.Machine == nil || cfg.Timers == nil {
		return nil, errors.New("net: Config without Machine or Timers")
	}
	if cfg.Log == nil {
		cfg.Log = func(string, string, ...any) {}
	}
	if cfg.RAM == 0 {
		cfg.RAM = cfg.Machine.MemStats().TotalPages << hal.PageShift
	}
	if cfg.Budget == nil {
		cfg.Budget = new(mm.Budget)
		cfg.Budget.SetLimit(max(int64(cfg.RAM/16), 4<<20))
	}
	s := &Stack{cfg: cfg, clock: &clock{m: cfg.Machine, q: cfg.Timers}, nextNIC: loopbackNIC, hostname: cfg.Hostname,
		count: make(chan struct{}, 1)}
	s.acks.c = s.clock
	s.ident.Store(1 << 12)
	s.somaxconn.Store(4096)
	s.maxGroups.Store(20)
	s.SetPingGroups(1, 0)
	s.unix.init()
	logStack.Store(s)
	limit := cfg.Budget.Limit()
	s.rx.init(limit/4, limit/2)
	s.tx.init(s, limit/4)
	s.rcv.init(s, limit/4)
	s.fuses.limit = limit / 4
	s.ns = stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{
			arp.NewProtocol, s.newIPv4, s.newIPv6,
		},
		TransportProtocols: []stack.TransportProtocolFactory{
			s.newTCP, s.newUDP, newLite, s.newICMP4, s.newICMP6,
		},
		Clock:       s.clock,
		HandleLocal: true,
		RawFactory:  raw.EndpointFactory{},
		SecureRNG:   entropy{cfg.Machine},
	})
	s.ipStats = s.ns.Stats().IP
	s.gate.init(s, cfg.Budget)
	go s.counter()
	if err := s.tune(); err != nil {
		return nil, err
	}
	return s, s.addLoopback()
}

// entropy is the machine's random numbers as an io.Reader.
type entropy struct{ m hal.Machine }

func (e entropy) Read(b []byte) (int, error) { e.m.Entropy(b); return len(b), nil }

// SOCK_MIN_SNDBUF and SOCK_MIN_RCVBUF (include/net/sock.h), and twice net.core.wmem_max and
// rmem_max, to which SO_SNDBUF and SO_RCVBUF are cut without FORCE.
const (
	minSndBuf = 4608
	minRcvBuf = 2304
	maxSetBuf = 2 * 212992
	leastBuf  = 4 << 10 // netstack's own limit
)

// tune sets netstack's ranges from RAM and Linux's defaults where they are smaller.
func (s *Stack) tune() error {
	size := func(def, top uint64) int { return int(min(max(s.cfg.RAM/def, 64<<10), top)) }
	sndMax, rcvMax := size(128, 4<<20), size(128, 6<<20)
	snd := tcpip.TCPSendBufferSizeRangeOption{Min: leastBuf, Default: min(64<<10, sndMax), Max: sndMax}
	rcv := tcpip.TCPReceiveBufferSizeRangeOption{Min: leastBuf, Default: min(128<<10, rcvMax), Max: rcvMax}
	sack, reuse, moderate := tcpip.TCPSACKEnabled(true), tcpip.TCPTimeWaitReuseGlobal, tcpip.TCPModerateReceiveBufferOption(true)
	nagle := tcpip.TCPDelayEnabled(true)
	// No RACK: with it, one lost segment in twenty leaves netstack's sender with a
	// congestion window of 0, and the connection never sends again. What is left is
	// SACK's loss recovery (RFC 6675).
	var recovery tcpip.TCPRecovery
	for _, o := range []tcpip.SettableTransportProtocolOption{&snd, &rcv, &sack, &reuse, &moderate, &nagle, &recovery} {
		if err := s.ns.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("net: TCP option %T: %v", o, err)
		}
	}
	// net.core.{w,r}mem_default and _max.
	const def = 212992
	dgram := size(256, 4<<20)
	err := s.ns.SetOption(tcpip.SendBufferSizeOption{Min: leastBuf, Default: min(def, dgram), Max: max(2*def, dgram)})
	if err == nil {
		err = s.ns.SetOption(tcpip.ReceiveBufferSizeOption{Min: leastBuf, Default: min(def, dgram), Max: max(2*def, dgram)})
	}
	if err != nil {
		return fmt.Errorf("net: buffer ranges: %v", err)
	}
	// net.ipv4.ip_local_port_range.
	if err := s.ns.SetPortRange(32768, 60999); err != nil {
		return fmt.Errorf("net: port range: %v", err)
	}
	return nil
}

func (s *Stack) addLoopback() error {
	lo := &loopback{s: s}
	lo.mtu.Store(65536)
	if err := s.ns.CreateNICWithOptions(loopbackNIC, lo, stack.NICOptions{Name: "lo"}); err != nil {
		return fmt.Errorf("net: lo: %v", err)
	}
	s.ifaces = append(s.ifaces, &iface{id: loopbackNIC, name: "lo", lo: lo})
	s.nextNIC++
	if err := s.addAddress(loopbackNIC, tcpip.AddrFrom4([4]byte{127, 0, 0, 1}), 8); err != nil {
		return err
	}
	if err := s.addAddress(loopbackNIC, header.IPv6Loopback, 128); err != nil {
		return err
	}
	s.ns.AddRoute(tcpip.Route{Destination: header.IPv4LoopbackSubnet, NIC: loopbackNIC})
	s.ns.AddRoute(tcpip.Route{Destination: header.IPv6Loopback.WithPrefix().Subnet(), NIC: loopbackNIC})
	return nil
}

func protoOf(a tcpip.Address) tcpip.NetworkProtocolNumber {
	if a.Len() == 4 {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

func (s *Stack) addAddress(nic tcpip.NICID, a tcpip.Address, prefix int) error {
	pa := tcpip.ProtocolAddress{Protocol: protoOf(a),
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: a, PrefixLen: prefix}}
	if err := s.ns.AddProtocolAddress(nic, pa, stack.AddressProperties{}); err != nil {
		if _, dup := err.(*tcpip.ErrDuplicateAddress); dup {
			return nil
		}
		return fmt.Errorf("net: address %v/%d: %v", a, prefix, err)
	}
	s.forgetFlows()
	if i := s.byIndex(nic); i != nil {
		s.notify(addrGroup(a), unix.RTM_NEWADDR, s.addrMessage(i, tcpip.AddressWithPrefix{Address: a, PrefixLen: prefix}))
	}
	return nil
}

// AddDevice adds a network card as the next interface; dev must not have been
// started yet.
func (s *Stack) AddDevice(name string, dev Device) error {
	s.mu.Lock()
	id := s.nextNIC
	s.nextNIC++
	s.mu.Unlock()
	eth := newEthernet(s, id, dev)
	if err := s.ns.CreateNICWithOptions(id, eth, stack.NICOptions{Name: name, QDisc: direct{eth}}); err != nil {
		return fmt.Errorf("net: %s: %v", name, err)
	}
	i := &iface{id: id, name: name, eth: eth}
	i.soft.Store(unix.IFF_MULTICAST)
	s.mu.Lock()
	s.ifaces = append(s.ifaces, i)
	s.mu.Unlock()
	if d, ok := dev.(interface{ OnLink(func(up bool)) }); ok {
		d.OnLink(func(bool) { s.linkChanged(i) })
	}
	return nil
}

// first is the first interface that is not the loopback.
func (s *Stack) first() *iface {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.ifaces {
		if i.eth != nil {
			return i
		}
	}
	return nil
}

// card is the network card behind an interface, nil for the loopback.
func (s *Stack) card(id tcpip.NICID) *ethernet {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.ifaces {
		if i.id == id {
			return i.eth
		}
	}
	return nil
}

func (s *Stack) interfaces() []*iface {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*iface(nil), s.ifaces...)
}

// Hostname is for hosts; SetHostname follows sethostname(2).
func (s *Stack) SetHostname(h string) {
	s.mu.Lock()
	s.hostname = h
	s.mu.Unlock()
	s.changed()
}

// OnConfig registers a function to call when ResolvConf or Hosts has changed.
func (s *Stack) OnConfig(f func()) {
	s.mu.Lock()
	s.onConfig = append(s.onConfig, f)
	s.mu.Unlock()
}

func (s *Stack) changed() {
	s.mu.Lock()
	fs := append([]func(){}, s.onConfig...)
	s.mu.Unlock()
	for _, f := range fs {
		f()
	}
}

func (s *Stack) logf(level, format string, args ...any) { s.cfg.Log(level, "net: "+format, args...) }
