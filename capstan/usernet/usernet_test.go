package usernet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
)

// guest is a machine on the link.
type guest struct {
	t *testing.T
	s *stack.Stack
	n *Net
}

func newGuest(t *testing.T, max limits) *guest { return newGuestAt(t, Usual, max) }

func newGuestAt(t *testing.T, at Addresses, max limits) *guest {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "link")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	n, err := newNet(ends[0], at, max)
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, n: n, s: stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})}
	ep := channel.New(4096, MTU+header.EthernetMinimumSize, "\x52\x54\x00\x12\x34\x56")
	if err := g.s.CreateNIC(nic, ethernet.New(ep)); err != nil {
		t.Fatal(err)
	}
	own := tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4(at.Machine.As4()), PrefixLen: 24}
	if err := g.s.AddProtocolAddress(nic, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: own}, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	g.s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, Gateway: tcpip.AddrFrom4(at.Gateway.As4()), NIC: nic}})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for {
			pkt := ep.ReadContext(ctx)
			if pkt == nil {
				return
			}
			v := pkt.ToView()
			ends[1].Write(v.AsSlice())
			v.Release()
			pkt.DecRef()
		}
	}()
	go func() {
		b := make([]byte, MTU+64)
		for {
			k, err := ends[1].Read(b)
			if err != nil {
				return
			}
			pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b[:k])})
			ep.InjectInbound(header.Ethernet(b[:k]).Type(), pkt)
			pkt.DecRef()
		}
	}()
	t.Cleanup(func() { cancel(); n.Close(); ends[1].Close(); g.s.Close() })
	return g
}

func to(a tcpip.Address, port int) *tcpip.FullAddress {
	return &tcpip.FullAddress{NIC: nic, Addr: a, Port: uint16(port)}
}

func (g *guest) udp(port int) net.Conn {
	g.t.Helper()
	c, err := gonet.DialUDP(g.s, nil, to(tcpip.AddrFrom4(g.n.addr.Gateway.As4()), port), ipv4.ProtocolNumber)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	return c
}

func (g *guest) tcp(port int, limit time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, err := gonet.DialContextTCP(ctx, g.s, *to(tcpip.AddrFrom4(g.n.addr.Gateway.As4()), port), ipv4.ProtocolNumber)
	if err != nil {
		return nil, err
	}
	g.t.Cleanup(func() { c.Close() })
	return c, nil
}

func (g *guest) flows() int {
	g.n.udp.mu.Lock()
	defer g.n.udp.mu.Unlock()
	return len(g.n.udp.all)
}

// ask sends a datagram and reads the answer.
func ask(t *testing.T, c net.Conn, text string) {
	t.Helper()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, datagramMax)
	if k, err := c.Read(b); err != nil || string(b[:k]) != text {
		t.Fatalf("%d bytes, %v, of %d", k, err, len(text))
	}
}

// echoUDP answers each datagram with itself; senders counts the ports they came from.
func echoUDP(t *testing.T) (port int, senders func() int) {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	var n atomic.Int64
	go func() {
		seen := map[string]bool{}
		b := make([]byte, datagramMax)
		for {
			k, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			if !seen[from.String()] {
				seen[from.String()] = true
				n.Add(1)
			}
			c.WriteTo(b[:k], from)
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).Port, func() int { return int(n.Load()) }
}

func TestDatagramsOfAllSizesPassBothWays(t *testing.T) {
	g := newGuest(t, usual)
	port, _ := echoUDP(t)
	c := g.udp(port)
	for _, n := range []int{1, 512, MTU, 40000} {
		ask(t, c, string(bytes.Repeat([]byte{'x'}, n)))
	}
	if n := g.flows(); n != 1 {
		t.Errorf("%d flows", n)
	}
}

// A machine's own gateway leads to this host's loopback, as the usual one does.
func TestAddressesCanBeOthers(t *testing.T) {
	at := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 7, n}) }
	g := newGuestAt(t, Addresses{Machine: at(2), Gateway: at(1), DNS: at(3)}, usual)
	port, _ := echoUDP(t)
	ask(t, g.udp(port), "through the gateway")
}

func TestTheOldestFlowMakesRoomForANewOne(t *testing.T) {
	max := usual
	max.flows = 8
	g := newGuest(t, max)
	port, senders := echoUDP(t)
	first, kept := g.udp(port), g.udp(port)
	ask(t, first, "first")
	ask(t, kept, "kept")
	for i := range 3 * max.flows {
		ask(t, g.udp(port), "more")
		ask(t, kept, "kept")
		if n := g.flows(); n > max.flows {
			t.Fatalf("%d flows after %d more", n, i+1)
		}
	}
	if n := senders(); n != 2+3*max.flows {
		t.Errorf("%d sockets of the host sent, so the one in use was given up", n)
	}
	ask(t, first, "first again") // from another socket
}

func TestFlowsEndWhenBothEndsAreSilentAndNotBefore(t *testing.T) {
	max := usual
	max.silence = 400 * time.Millisecond
	g := newGuest(t, max)
	sink, err := net.ListenPacket("udp", "127.0.0.1:0") // which never answers
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	c := g.udp(sink.LocalAddr().(*net.UDPAddr).Port)
	from := map[string]bool{}
	for range 12 {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		sink.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, a, err := sink.ReadFrom(make([]byte, 16))
		if err != nil {
			t.Fatal(err)
		}
		from[a.String()] = true
		time.Sleep(max.silence / 8)
	}
	if len(from) != 1 {
		t.Errorf("it came from %v while it was in use", from)
	}
	for end := time.Now().Add(10 * time.Second); g.flows() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the flow is still there")
		}
	}
}

func TestConnectionsOfAMachineAreBounded(t *testing.T) {
	max := usual
	max.out = 4
	g := newGuest(t, max)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var accepted atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	port := l.Addr().(*net.TCPAddr).Port
	var conns []net.Conn
	for range max.out {
		c, err := g.tcp(port, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		ask(t, c, "hello")
		conns = append(conns, c)
	}
	if _, err := g.tcp(port, 300*time.Millisecond); err == nil || accepted.Load() != int64(max.out) {
		t.Errorf("one more than may be: %v, %d accepted", err, accepted.Load())
	}
	conns[0].Close()
	c, err := g.tcp(port, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	ask(t, c, "room again")
}

// flaky is a listener that fails a few times.
type flaky struct {
	net.Listener
	left atomic.Int64
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return f.Listener.Accept()
}

func TestForwardsOutlastFailuresAndAreBounded(t *testing.T) {
	max := usual
	max.in = 2
	g := newGuest(t, max)
	server, err := gonet.ListenTCP(g.s, *to(tcpip.AddrFrom4(g.n.addr.Machine.As4()), 80), ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	t.Cleanup(func() { server.Close() })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{Listener: l}
	f.left.Store(3)
	ended := make(chan struct{})
	go func() { g.n.Forward(f, 80); close(ended) }()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	first := dial()
	ask(t, first, "first")
	ask(t, dial(), "second")
	third := dial() // in the listener's queue
	third.Write([]byte("third"))
	third.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if k, err := third.Read(make([]byte, 8)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the third of two: %d %v", k, err)
	}
	first.Close()
	third.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 5)
	if _, err := io.ReadFull(third, b); err != nil || string(b) != "third" {
		t.Errorf("the third after the first: %q %v", b, err)
	}
	third.Close() // Forward looks at its listener when there is room
	l.Close()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("Forward goes on without its listener")
	}
}
