package net

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/drivers/virtio/vsock"
)

// VsockDevice is the way to the host, as drivers/virtio/vsock has it: what is received is
// only good during the receiver's call.
type VsockDevice interface {
	// CID is the machine's address, as its host gave it.
	CID() uint64
	Seqpacket() bool
	// MaxData is how many bytes of data a packet may have.
	MaxData() int
	// Send takes a packet over; OnSent's function gets it back. False: it was not taken.
	Send(p *vsock.Packet) bool
	SetReceiver(f func(h *vsock.Header, data []byte))
	OnSent(f func(p *vsock.Packet))
	// OnReset's function is told when all connections are gone: the machine was moved to
	// another host, or (gone) the device has failed.
	OnReset(f func(gone bool))
}

// vsockCard is a device as a transport.
type vsockCard struct {
	s   *Stack
	dev VsockDevice
	cid atomic.Uint32
}

func (d *vsockCard) localCID() uint32 { return d.cid.Load() }
func (d *vsockCard) seqpacket() bool  { return d.dev.Seqpacket() }
func (d *vsockCard) most() int        { return min(d.dev.MaxData(), vsockLoopMost) }

func (d *vsockCard) send(p *vsockPacket) {
	q := &vsock.Packet{Header: p.h, Data: p.data, Cost: p.cost, Reply: p.reply}
	q.Len = uint32(len(p.data))
	if !d.dev.Send(q) {
		d.s.cfg.Budget.Uncharge(p.cost)
	}
}

// AddVsock gives the machine a way to its host; the first device is it. It must not have
// been started yet.
func (s *Stack) AddVsock(dev VsockDevice) bool {
	d := &vsockCard{s: s, dev: dev}
	d.cid.Store(uint32(dev.CID()))
	if !s.vsock.dev.CompareAndSwap(nil, d) {
		return false
	}
	dev.SetReceiver(d.receive)
	dev.OnSent(func(p *vsock.Packet) { s.cfg.Budget.Uncharge(p.Cost) })
	dev.OnReset(d.reset)
	return true
}

// receive takes a packet from the device. One that is not for this machine, or whose
// addresses have more than 32 bits, is dropped; the loopback's addresses are nobody's out
// there.
func (d *vsockCard) receive(h *vsock.Header, data []byte) {
	if h.DstCID != uint64(d.localCID()) || h.SrcCID>>32 != 0 || uint32(h.SrcCID) == vmCIDLocal || uint32(h.SrcCID) == d.localCID() {
		return
	}
	if h.Type != vsock.TypeStream && (h.Type != vsock.TypeSeqpacket || !d.seqpacket()) {
		d.s.vsockReset(d, h)
		return
	}
	p := vsockPacket{h: *h}
	if h.Op == vsock.OpData && len(data) > 0 {
		if d.s.cfg.Budget.Charge(int64(len(data)) + msgCost) {
			p.cost = int64(len(data)) + msgCost
			p.data = append(make([]byte, 0, len(data)), data...)
		} else {
			// Its socket has no room, which ends the connection.
			p.lost = true
		}
	}
	d.s.vsockReceive(d, &p)
}

// reset ends all connections over the device (virtio 1.2, 5.10.6.7).
func (d *vsockCard) reset(gone bool) {
	if gone {
		d.s.vsock.dev.CompareAndSwap(d, nil)
	} else {
		d.cid.Store(uint32(d.dev.CID()))
	}
	for _, x := range d.s.vsock.over(d) {
		x.mu.Lock()
		x.state, x.err = vmClose, unix.ECONNRESET
		x.leave()
		closed := x.closed
		x.mu.Unlock()
		x.q.Notify(vmAll)
		if closed {
			x.forget()
		}
	}
}

// over are the sockets whose connections, or attempts at them, are over a device.
func (t *vsockTable) over(d *vsockCard) (out []*vsockSocket) {
	t.mu.Lock()
	all := make([]*vsockSocket, 0, len(t.connected))
	for _, x := range t.connected {
		all = append(all, x)
	}
	for _, bs := range t.bound {
		for _, b := range bs {
			all = append(all, b.x)
		}
	}
	t.mu.Unlock()
	seen := make(map[*vsockSocket]bool, len(all))
	for _, x := range all {
		x.mu.Lock()
		if x.tr == vsockTransport(d) && !seen[x] && x.state != vmClose && x.state != vmListen {
			seen[x] = true
			out = append(out, x)
		}
		x.mu.Unlock()
	}
	return out
}
