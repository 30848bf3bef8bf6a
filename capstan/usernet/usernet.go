// Package usernet is the network of a machine that has no network of its own: the other
// end of its card, in user space and without privileges. Inside are the machine, a gateway
// and a name server, whose addresses are usually those of QEMU's user network. What the
// machine sends to others goes out over ordinary sockets of this
// process; to the gateway, to this host's loopback.
//
//	n, err := usernet.New(conn, usernet.Usual)
//	go n.Forward(listener, 80)
package usernet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Addresses are those inside, of IPv4.
type Addresses struct{ Machine, Gateway, DNS netip.Addr }

// Usual are a machine's that has none of its own.
var Usual = Addresses{
	Machine: netip.AddrFrom4([4]byte{10, 0, 2, 15}),
	Gateway: netip.AddrFrom4([4]byte{10, 0, 2, 2}),
	DNS:     netip.AddrFrom4([4]byte{10, 0, 2, 3}),
}

// IPWord configures the machine's card with them on its kernel command line.
const IPWord = "ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:off:10.0.2.3"

// MTU is the link's.
const MTU = 9000

const (
	nic      = 1
	queue    = 512              // frames on their way to the machine
	inFlight = 256              // connections that are being made
	dialTime = 20 * time.Second // for a connection out or in
)

// limits are what a machine may have of this host, whatever its program does.
type limits struct {
	out, in int           // connections of its own and to it
	flows   int           // pairs of ports that exchange datagrams
	silence time.Duration // after which such a pair is forgotten
}

var usual = limits{out: 1024, in: 1024, flows: 1024, silence: time.Minute}

// Net is one machine's network.
type Net struct {
	s    *stack.Stack
	ep   *channel.Endpoint
	conn net.Conn
	addr Addresses
	ctx  context.Context
	stop context.CancelFunc

	max     limits
	out, in chan struct{} // one for each connection
	udp     flows
	start   time.Time
}

// New serves a link, a connection that keeps the bounds of frames, until it or the Net
// is closed.
func New(conn net.Conn, addr Addresses) (*Net, error) {
	return newNet(conn, addr, usual)
}

func newNet(conn net.Conn, addr Addresses, max limits) (*Net, error) {
	n := &Net{conn: conn, addr: addr, max: max, start: time.Now()}
	n.out, n.in = make(chan struct{}, max.out), make(chan struct{}, max.in)
	n.udp.all = map[*flow]struct{}{}
	n.ctx, n.stop = context.WithCancel(context.Background())
	n.s = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	sack := tcpip.TCPSACKEnabled(true)
	n.s.SetTransportProtocolOption(tcp.ProtocolNumber, &sack)
	n.ep = channel.New(queue, MTU+header.EthernetMinimumSize, "\x52\x55\x0a\x00\x02\x02")
	if err := n.s.CreateNIC(nic, ethernet.New(n.ep)); err != nil {
		return nil, wrap(err)
	}
	for _, a := range []netip.Addr{addr.Gateway, addr.DNS} {
		pa := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddrFrom4(a.As4()).WithPrefix()}
		if err := n.s.AddProtocolAddress(nic, pa, stack.AddressProperties{}); err != nil {
			return nil, wrap(err)
		}
	}
	// Whatever the machine wants to reach is here, and answers under its own address.
	n.s.SetPromiscuousMode(nic, true)
	n.s.SetSpoofing(nic, true)
	n.s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})
	n.s.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(n.s, 0, inFlight, n.outTCP).HandlePacket)
	n.s.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(n.s, n.outUDP).HandlePacket)
	go n.send()
	go n.receive()
	go n.expire()
	return n, nil
}

func wrap(err tcpip.Error) error { return fmt.Errorf("usernet: %v", err) }

// Close ends all connections.
func (n *Net) Close() {
	n.stop()
	n.conn.Close()
	n.s.Close()
}

// send takes frames to the machine.
func (n *Net) send() {
	var frame []byte
	for {
		pkt := n.ep.ReadContext(n.ctx)
		if pkt == nil {
			return
		}
		frame = frame[:0]
		for _, b := range pkt.AsSlices() {
			frame = append(frame, b...)
		}
		pkt.DecRef()
		if _, err := n.conn.Write(frame); err != nil {
			return
		}
	}
}

// receive takes frames from the machine.
func (n *Net) receive() {
	b := make([]byte, MTU+64)
	for {
		k, err := n.conn.Read(b)
		if err != nil {
			return
		}
		if k < header.EthernetMinimumSize {
			continue
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b[:k])})
		n.ep.InjectInbound(header.Ethernet(b[:k]).Type(), pkt)
		pkt.DecRef()
	}
}

// Forward takes a listener's connections to a port of the machine, until the listener
// is closed.
func (n *Net) Forward(l net.Listener, port int) {
	const most = time.Second
	var pause time.Duration
	for {
		select {
		case n.in <- struct{}{}: // more than these wait in the listener's queue
		case <-n.ctx.Done():
			return
		}
		c, err := l.Accept()
		if err != nil {
			<-n.in
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Descriptors have run out, or the connection has ended already: others come.
			pause = min(max(2*pause, 5*time.Millisecond), most)
			select {
			case <-time.After(pause):
				continue
			case <-n.ctx.Done():
				return
			}
		}
		pause = 0
		go func() {
			defer func() { <-n.in }()
			n.forward(c, port)
		}()
	}
}

func (n *Net) forward(c net.Conn, port int) {
	ctx, cancel := context.WithTimeout(n.ctx, dialTime)
	defer cancel()
	in, err := gonet.DialContextTCP(ctx, n.s, tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFrom4(n.addr.Machine.As4()), Port: uint16(port)}, ipv4.ProtocolNumber)
	if err != nil {
		reset(c)
		return
	}
	join(c, in)
}

// reset ends a connection as one that nobody took.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	c.Close()
}

type halfCloser interface{ CloseWrite() error }

// join copies both ways and passes the ends of the streams on.
func join(a, b net.Conn) {
	done := make(chan bool, 2)
	one := func(to, from net.Conn) {
		_, err := io.Copy(to, from)
		if h, ok := to.(halfCloser); ok && err == nil {
			h.CloseWrite()
		}
		done <- err == nil
	}
	go one(a, b)
	go one(b, a)
	if <-done {
		<-done
	}
	a.Close()
	b.Close()
}

// host is where this process finds what the machine calls addr.
func (n *Net) host(addr tcpip.Address, port uint16) string {
	a, _ := netip.AddrFromSlice(addr.AsSlice())
	switch a {
	case n.addr.Gateway:
		a = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case n.addr.DNS:
		a = resolver()
	}
	return netip.AddrPortFrom(a, port).String()
}

// resolver is the host's first name server.
func resolver() netip.Addr {
	b, _ := os.ReadFile("/etc/resolv.conf")
	for _, line := range strings.Split(string(b), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			if a, err := netip.ParseAddr(f[1]); err == nil {
				return a
			}
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// outTCP serves a connection that the machine makes.
func (n *Net) outTCP(r *tcp.ForwarderRequest) {
	id := r.ID()
	select {
	case n.out <- struct{}{}:
	default:
		r.Complete(false) // as a server with a full queue: the machine tries again
		return
	}
	go func() {
		defer func() { <-n.out }()
		out, err := net.DialTimeout("tcp", n.host(id.LocalAddress, id.LocalPort), dialTime)
		if err != nil {
			r.Complete(true)
			return
		}
		var wq waiter.Queue
		ep, terr := r.CreateEndpoint(&wq)
		r.Complete(false)
		if terr != nil {
			out.Close()
			return
		}
		join(out, gonet.NewTCPConn(&wq, ep))
	}()
}
