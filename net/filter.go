package net

import (
	"encoding/binary"
	"io"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/bpf"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"

	"kiln/kernel/cbpf"
	"kiln/kernel/hal"
)

// filter is a socket's classic BPF program (SO_ATTACH_FILTER): it sees a packet, from
// where the family has it begin, and says how many bytes of it may pass.
type filter struct {
	insns []bpf.Instruction
	raw   []byte // as the program gave it
}

// Limits of a program: struct sock_fprog, and the memory of a socket's options
// (net.core.optmem_max), of which Linux's own form takes at least as much as the program's.
const (
	sizeFprog   = 16
	filterRoom  = 20480 - 64
	filterInsn  = 24 // bytes on the heap an instruction
	filterBasic = 128
)

func (f *filter) cost() int64 {
	if f == nil {
		return 0
	}
	return int64(filterBasic + len(f.insns)*filterInsn)
}

// readFilter reads struct sock_fprog: EINVAL, EPERM (locked), EFAULT, EINVAL (no such
// program), ENOMEM.
func (b *base) readFilter(c *Caller, v []byte) (*filter, error) {
	if len(v) != sizeFprog {
		return nil, unix.EINVAL
	}
	if b.opt.filterLock.Load() {
		return nil, unix.EPERM
	}
	n, at := int(binary.LittleEndian.Uint16(v)), binary.LittleEndian.Uint64(v[8:])
	if n == 0 || n > bpf.MaxInstructions || at == 0 {
		return nil, unix.EINVAL
	}
	raw := make([]byte, cbpf.Size*n)
	if _, err := c.Space.CopyIn(c.C, raw, hal.UserAddr(at)); err != nil {
		return nil, err
	}
	f, ok := parseFilter(raw)
	if !ok {
		return nil, unix.EINVAL
	}
	if len(raw) >= filterRoom || !b.s.cfg.Budget.Charge(f.cost()) {
		return nil, unix.ENOMEM
	}
	return f, nil
}

// parseFilter checks a program as sk_attach_filter does.
func parseFilter(raw []byte) (*filter, bool) {
	insns, ok := cbpf.Parse(raw)
	if !ok || !cbpf.Known(insns) {
		return nil, false
	}
	// Not optimised: a hostile program could make that long.
	_, err := bpf.Compile(insns, false)
	return &filter{insns, raw}, err == nil
}

// attachFilter gives a socket the filter that v points to.
func (b *base) attachFilter(c *Caller, v []byte) error {
	f, err := b.readFilter(c, v)
	if err == nil {
		b.setFilter(f)
	}
	return err
}

// setFilter replaces the filter, nil for none.
func (b *base) setFilter(f *filter) (old *filter) {
	old = b.filt.Swap(f)
	b.s.cfg.Budget.Uncharge(old.cost())
	return old
}

// detachFilter: EPERM (locked), ENOENT.
func (b *base) detachFilter() error {
	switch {
	case b.opt.filterLock.Load():
		return unix.EPERM
	case b.filt.Load() == nil:
		return unix.ENOENT
	}
	b.setFilter(nil)
	return nil
}

// sift applies the socket's filter to a message that is nothing but bytes: how many of
// them pass, false for none of it.
func (b *base) sift(msg []byte) (int, bool) {
	f := b.filt.Load()
	if f == nil {
		return len(msg), true
	}
	return f.passes(&cbpf.Packet{Data: msg})
}

// passes is how many bytes of a packet may pass; false: it is dropped.
func (f *filter) passes(p *cbpf.Packet) (int, bool) {
	n := cbpf.Run(f.insns, p)
	return int(min(n, uint32(len(p.Data)))), n != 0
}

// setFilter gives the socket a filter, or takes it away.
func (x *inetSocket) setFilter(f *filter) {
	old := x.base.setFilter(f)
	te, ok := x.ep().(stack.TransportEndpoint)
	switch {
	case !ok:
	case f != nil:
		x.s.filters.m.Store(te, x)
		x.unfuse()
		if old == nil {
			x.s.filters.n.Add(1)
		}
	case old != nil:
		x.s.filters.m.Delete(te)
		x.s.filters.n.Add(-1)
	}
}

// filtered applies the filter of an endpoint's socket to a packet for it: nil if it is
// dropped, the packet itself, or a shorter one, which the caller releases (true).
func (s *Stack) filtered(ep stack.TransportEndpoint, pkt *stack.PacketBuffer) (*stack.PacketBuffer, bool) {
	if s.filters.n.Load() == 0 {
		return pkt, false
	}
	v, ok := s.filters.m.Load(ep)
	if !ok {
		return pkt, false
	}
	x := v.(*inetSocket)
	f := x.filt.Load()
	if f == nil {
		return pkt, false
	}
	head, at := len(pkt.TransportHeader().Slice()), len(pkt.NetworkHeader().Slice())
	net := append(append([]byte(nil), pkt.NetworkHeader().Slice()...), pkt.TransportHeader().Slice()...)
	net = append(net, pkt.Data().AsRange().ToSlice()...)
	whole := net[at:]
	n, ok := f.passes(seen(pkt, whole, net))
	if !ok {
		return nil, false
	}
	if n = max(n, head); n >= len(whole) || x.isTCP() {
		return pkt, false
	}
	if pkt.TransportProtocolNumber == header.UDPProtocolNumber {
		binary.BigEndian.PutUint16(whole[4:], uint16(n)) // the length field
	}
	return shorten(pkt, net[:at+n], at, head), true
}

// seen is a packet as a filter sees it, from data on; net are the bytes from its network
// header on.
func seen(pkt *stack.PacketBuffer, data, net []byte) *cbpf.Packet {
	p := &cbpf.Packet{Data: data, Net: net, Proto: uint16(pkt.NetworkProtocolNumber), Kind: packetKind(pkt.PktType), Index: uint32(pkt.NICID)}
	if p.HWType = unix.ARPHRD_ETHER; pkt.NICID == loopbackNIC {
		p.HWType = unix.ARPHRD_LOOPBACK
	}
	return p
}

// shorten makes a packet of the bytes b, with a network header of the length at and a
// transport header of head behind it, out of pkt, which was longer.
func shorten(pkt *stack.PacketBuffer, b []byte, at, head int) *stack.PacketBuffer {
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	p.NetworkHeader().Consume(at)
	p.TransportHeader().Consume(head)
	p.NICID, p.PktType, p.NetworkPacketInfo = pkt.NICID, pkt.PktType, pkt.NetworkPacketInfo
	p.NetworkProtocolNumber, p.TransportProtocolNumber = pkt.NetworkProtocolNumber, pkt.TransportProtocolNumber
	p.RXChecksumValidated = true
	return p
}

// icmpProtocol is netstack's ICMP with the filters of its sockets before their endpoints.
type icmpProtocol struct {
	stack.TransportProtocol
	s *Stack
}

func (s *Stack) newICMP4(ns *stack.Stack) stack.TransportProtocol {
	return &icmpProtocol{icmp.NewProtocol4(ns), s}
}

func (s *Stack) newICMP6(ns *stack.Stack) stack.TransportProtocol {
	return &icmpProtocol{icmp.NewProtocol6(ns), s}
}

// QueuePacket hands a reply to the socket that asked, if there is room for it.
func (p *icmpProtocol) QueuePacket(ep stack.TransportEndpoint, id stack.TransportEndpointID, pkt *stack.PacketBuffer) {
	pkt, shorter := p.s.filtered(ep, pkt)
	if pkt == nil {
		return
	}
	p.s.rcv.queue(ep, id, pkt, len(pkt.TransportHeader().Slice())+pkt.Data().Size())
	if shorter {
		pkt.DecRef()
	}
}

// rawGate is a raw endpoint, UDP-Lite's too, that applies the socket's filters and counts
// what waits in it: netstack's own bound knows payload alone, of which there may be none.
type rawGate struct {
	tcpip.Endpoint
	in    stack.RawTransportEndpoint // the same
	lite  *liteEndpoint              // that has it as its own
	x     *inetSocket
	net   tcpip.NetworkProtocolNumber
	proto tcpip.TransportProtocolNumber
}

// gateRaw puts a gate in the place of a new raw endpoint.
func (x *inetSocket) gateRaw(ep tcpip.Endpoint, net tcpip.NetworkProtocolNumber, proto tcpip.TransportProtocolNumber) tcpip.Endpoint {
	lite, _ := ep.(*liteEndpoint)
	inner := ep
	if lite != nil {
		inner = lite.Endpoint
	}
	in, ok := inner.(stack.RawTransportEndpoint)
	if !ok {
		return ep
	}
	g := &rawGate{inner, in, lite, x, net, proto}
	x.s.ns.UnregisterRawTransportEndpoint(net, proto, in)
	x.s.ns.RegisterRawTransportEndpoint(net, proto, g)
	if lite != nil {
		lite.Endpoint = g
		return lite
	}
	return g
}

// Close implements tcpip.Endpoint.
func (g *rawGate) Close() {
	g.x.s.ns.UnregisterRawTransportEndpoint(g.net, g.proto, g)
	g.Endpoint.Close()
}

// Abort implements tcpip.Endpoint.
func (g *rawGate) Abort() { g.Close() }

// Read implements tcpip.Endpoint.
func (g *rawGate) Read(dst io.Writer, o tcpip.ReadOptions) (tcpip.ReadResult, tcpip.Error) {
	res, err := g.Endpoint.Read(dst, o)
	if _, short := err.(*tcpip.ErrBadBuffer); (err == nil || short) && !o.Peek {
		g.x.s.rcv.taken(g.x, res.Total)
	}
	return res, err
}

// HandlePacket implements stack.RawTransportEndpoint. A filter sees IPv4 from its header
// on, and of IPv6 and UDP-Lite what follows the network header. Headers are never cut, nor
// is IPv6, whose sum the endpoint looks at again.
func (g *rawGate) HandlePacket(pkt *stack.PacketBuffer) {
	if g.lite != nil && !g.lite.wants(pkt) || g.x.blocks(pkt) {
		return
	}
	f := g.x.filt.Load()
	if f == nil {
		g.queue(pkt)
		return
	}
	at, head := len(pkt.NetworkHeader().Slice()), len(pkt.TransportHeader().Slice())
	net := append(append([]byte(nil), pkt.NetworkHeader().Slice()...), pkt.TransportHeader().Slice()...)
	net = append(net, pkt.Data().AsRange().ToSlice()...)
	data := net
	if g.net != header.IPv4ProtocolNumber || g.proto == liteNumber {
		data = net[at:]
	}
	n, ok := f.passes(seen(pkt, data, net))
	if !ok {
		return
	}
	if n = max(n+len(net)-len(data), at+head); n >= len(net) || g.net != header.IPv4ProtocolNumber {
		g.queue(pkt)
		return
	}
	p := shorten(pkt, net[:n], at, head)
	g.queue(p)
	p.DecRef()
}

// queue hands a packet to the endpoint, which keeps IPv4's header.
func (g *rawGate) queue(pkt *stack.PacketBuffer) {
	size := len(pkt.TransportHeader().Slice()) + pkt.Data().Size()
	if g.net == header.IPv4ProtocolNumber {
		size += len(pkt.NetworkHeader().Slice())
	}
	g.x.s.rcv.deliver(g.x, g.Endpoint, size, func() { g.in.HandlePacket(pkt) })
}

// getFilter is SO_GET_FILTER: the buffer is counted in instructions, and none asks how
// many there are. The length that is answered is of instructions, too.
func (b *base) getFilter(room int) ([]byte, error) {
	f := b.filt.Load()
	switch n := len(filterBytes(f)) / cbpf.Size; {
	case f == nil:
		return []byte{}, nil
	case room == 0:
		return nil, Instructions(n)
	case room < n:
		return nil, unix.EINVAL
	default:
		return f.raw, Instructions(n)
	}
}

func filterBytes(f *filter) []byte {
	if f == nil {
		return nil
	}
	return f.raw
}

// Instructions is no failure: an option's length that is not one of bytes.
type Instructions int

// Error implements error.
func (n Instructions) Error() string { return "a number of instructions" }
