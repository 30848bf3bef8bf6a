package net

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/bpf"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"kiln/kernel/cbpf"
	"kiln/kernel/hal"
)

// filter is a socket's classic BPF program (SO_ATTACH_FILTER): it sees a packet from its
// transport header on and says how many bytes of it may pass.
type filter struct {
	prog bpf.Program
	raw  []byte // as the program gave it
}

// attachFilter reads struct sock_fprog: EINVAL (no such program), EFAULT, EPERM (locked).
func (x *inetSocket) attachFilter(c *Caller, v []byte) error {
	f, err := readFilter(c, v)
	if err != nil {
		return err
	}
	if x.opt.filterLock.Load() {
		return unix.EPERM
	}
	x.setFilter(f)
	return nil
}

func readFilter(c *Caller, v []byte) (*filter, error) {
	if len(v) != 16 {
		return nil, unix.EINVAL
	}
	n, at := int(binary.LittleEndian.Uint16(v)), binary.LittleEndian.Uint64(v[8:])
	if n == 0 || n > bpf.MaxInstructions || at == 0 {
		return nil, unix.EINVAL
	}
	raw := make([]byte, cbpf.Size*n)
	if _, err := c.Space.CopyIn(c.C, raw, hal.UserAddr(at)); err != nil {
		return nil, err
	}
	insns, ok := cbpf.Parse(raw)
	if !ok {
		return nil, unix.EINVAL
	}
	for i := range insns {
		cbpf.Straighten(&insns[i])
	}
	// Not optimised: a hostile program could make that long.
	p, err := bpf.Compile(insns, false)
	if err != nil {
		return nil, unix.EINVAL
	}
	return &filter{p, raw}, nil
}

// passes is how many bytes of a packet may pass, 0: none.
func (f *filter) passes(packet []byte) int {
	n, err := bpf.Exec[bpf.BigEndian](f.prog, packet)
	if err != nil {
		return 0 // it read behind the packet, or divided by zero
	}
	return int(min(n, uint32(len(packet))))
}

// setFilter gives the socket a filter, or takes it away.
func (x *inetSocket) setFilter(f *filter) {
	old := x.filter.Swap(f)
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
	f := v.(*inetSocket).filter.Load()
	if f == nil {
		return pkt, false
	}
	head := len(pkt.TransportHeader().Slice())
	whole := append(append([]byte(nil), pkt.TransportHeader().Slice()...), pkt.Data().AsRange().ToSlice()...)
	n := f.passes(whole)
	if n == 0 {
		return nil, false
	}
	if n = max(n, head); n >= len(whole) || pkt.TransportProtocolNumber != header.UDPProtocolNumber {
		return pkt, false
	}
	return shorten(pkt, whole, n), true
}

// shorten makes a UDP packet with the first n bytes of what pkt holds from its transport
// header on. Whoever shares pkt's bytes keeps them.
func shorten(pkt *stack.PacketBuffer, whole []byte, n int) *stack.PacketBuffer {
	net := pkt.NetworkHeader().Slice()
	binary.BigEndian.PutUint16(whole[4:], uint16(n)) // the length field
	b := append(append(make([]byte, 0, len(net)+n), net...), whole[:n]...)
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	p.NetworkHeader().Consume(len(net))
	p.TransportHeader().Consume(header.UDPMinimumSize)
	p.NICID, p.PktType, p.NetworkPacketInfo = pkt.NICID, pkt.PktType, pkt.NetworkPacketInfo
	p.NetworkProtocolNumber, p.TransportProtocolNumber = pkt.NetworkProtocolNumber, pkt.TransportProtocolNumber
	p.RXChecksumValidated = true
	return p
}

// getFilter is SO_GET_FILTER: the buffer is counted in instructions, and none asks how
// many there are. The length that is answered is of instructions, too.
func (x *inetSocket) getFilter(room int) ([]byte, error) {
	f := x.filter.Load()
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
