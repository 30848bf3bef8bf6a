// Package vsock drives virtio socket devices (virtio 1.2, 5.10): packets of AF_VSOCK
// between the machine and its host. What the packets mean is the family's business
// (net/vsock.go); here they are carried.
//
//	d, err := vsock.Open(m, transport, "virtio-vsock0", watchdog)
//	d.SetReceiver(func(h *vsock.Header, data []byte) { … })
//	d.OnSent(func(p *vsock.Packet) { … })
//	d.OnReset(func(gone bool) { … })
//	err = d.Start()
//	ok := d.Send(&vsock.Packet{…})
//
// One goroutine serves all three queues. What is sent is copied into device memory, or
// waits until there is some; while many answers wait, nothing more is received, so that a
// host that only asks cannot make the kernel keep what it answers (5.10.6.4).
//
// Lock order: Device.mu is a leaf; the functions of the family run without it.
package vsock

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"kiln/drivers/virtio"
	"kiln/kernel/hal"
)

// Features (5.10.3), configuration (5.10.4), queues (5.10.2) and events (5.10.6.7).
const (
	featStream    = 1 << 0
	featSeqpacket = 1 << 1

	cfgCID = 0

	queueRx    = 0
	queueTx    = 1
	queueEvent = 2

	eventReset = 0
	eventSize  = 4
)

const (
	rxBuffers  = 32
	rxSize     = 4096 // with the header
	txBuffers  = 8
	txSize     = 16 << 10
	evBuffers  = 4
	maxReplies = 64
	// maxPending bounds the packets that wait, beside data, whose bound is credit.
	maxPending = 4096
	// burst is how many packets are received before what was sent is looked at.
	burst = 64
)

// Device is a virtio socket device.
type Device struct {
	dev        *virtio.Device
	dog        *virtio.Watchdog
	cid        atomic.Uint64
	wake       chan struct{}
	rx, tx, ev *virtio.Queue

	receiver func(*Header, []byte)
	sent     func(*Packet)
	onReset  func(gone bool)

	mu      sync.Mutex
	started bool
	ended   bool
	free    []buffer
	pending []*Packet
	replies int // among pending
}

type buffer struct {
	b    []byte
	addr hal.PhysAddr
}

// Open brings the device up; Start lets packets flow.
func Open(m hal.Machine, t virtio.Transport, name string, w *virtio.Watchdog) (*Device, error) {
	dev, err := virtio.NewDevice(m, t, name)
	if err != nil {
		return nil, err
	}
	if err := dev.Negotiate(featStream | featSeqpacket); err != nil {
		return nil, err
	}
	d := &Device{dev: dev, dog: w, wake: make(chan struct{}, 1),
		receiver: func(*Header, []byte) {}, sent: func(*Packet) {}, onReset: func(bool) {}}
	if err := t.Connect(name, nil, []func(){d.kick}); err != nil {
		return nil, err
	}
	for _, q := range []struct {
		q     **virtio.Queue
		index int
		c     virtio.QueueConfig
	}{
		{&d.rx, queueRx, virtio.QueueConfig{Size: 2 * rxBuffers, MaxSegs: 2, Tables: rxBuffers}},
		{&d.tx, queueTx, virtio.QueueConfig{Size: 2 * txBuffers, MaxSegs: 2, Tables: txBuffers}},
		{&d.ev, queueEvent, virtio.QueueConfig{Size: evBuffers}},
	} {
		if *q.q, err = dev.NewQueue(q.index, q.c); err != nil {
			return nil, err
		}
	}
	if err := d.readCID(); err != nil {
		return nil, err
	}
	dev.OnError(d.kick)
	return d, nil
}

// readCID reads the machine's address, which must be one (5.10.4).
func (d *Device) readCID() error {
	cid := d.dev.Config64(cfgCID)
	if cid <= 2 || cid >= 1<<32-1 {
		return d.dev.Fail("it gave the machine the address %d", cid)
	}
	d.cid.Store(cid)
	return nil
}

func (d *Device) kick() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// CID is the machine's address, as its host gave it.
func (d *Device) CID() uint64 { return d.cid.Load() }

// Seqpacket says whether the host knows sockets of packets.
func (d *Device) Seqpacket() bool { return d.dev.Has(featSeqpacket) }

// MaxData is how many bytes of data a packet may have.
func (d *Device) MaxData() int { return txSize - HeaderSize }

// Device gives access to errors and counters.
func (d *Device) Device() *virtio.Device { return d.dev }

// SetReceiver, OnSent and OnReset set the family's functions, before Start. What the
// receiver gets is good during the call; it may call Send.
func (d *Device) SetReceiver(f func(h *Header, data []byte)) { d.receiver = f }

// OnSent sets who gets packets back.
func (d *Device) OnSent(f func(p *Packet)) { d.sent = f }

// OnReset sets who hears that all connections are gone: the machine was moved to another
// host and may have another address, or (gone) the device has failed.
func (d *Device) OnReset(f func(gone bool)) { d.onReset = f }

// Start lends the device its buffers and begins to serve it.
func (d *Device) Start() error {
	if err := d.lend(); err != nil {
		return err
	}
	if err := d.dev.Start(); err != nil {
		return err
	}
	d.mu.Lock()
	d.started = true
	d.mu.Unlock()
	d.rx.Kick()
	d.ev.Kick()
	d.kick()
	go d.run()
	for _, q := range []*virtio.Queue{d.rx, d.tx, d.ev} {
		d.dog.Watch(q, d.kick)
	}
	return nil
}

func (d *Device) lend() error {
	for range rxBuffers {
		b, at, err := d.dev.DMA(rxSize, 16)
		if err != nil {
			return err
		}
		if !d.rx.Room(2) {
			break
		}
		if err := d.giveRx(buffer{b, at}); err != nil {
			return err
		}
	}
	for range min(evBuffers, d.ev.Size()) {
		b, at, err := d.dev.DMA(eventSize, 8)
		if err != nil {
			return err
		}
		if err := d.giveEvent(buffer{b, at}); err != nil {
			return err
		}
	}
	for range txBuffers {
		b, at, err := d.dev.DMA(txSize, 16)
		if err != nil {
			return err
		}
		d.free = append(d.free, buffer{b, at})
	}
	return nil
}

func (d *Device) giveRx(b buffer) error {
	return d.rx.Add([]virtio.Seg{{Addr: b.addr, Len: HeaderSize}, {Addr: b.addr + HeaderSize, Len: rxSize - HeaderSize}}, 0, b)
}

func (d *Device) giveEvent(b buffer) error {
	return d.ev.Add([]virtio.Seg{{Addr: b.addr, Len: eventSize}}, 0, b)
}

// Send takes a packet over and never waits. False: the device has failed, or does not take
// what it is sent.
func (d *Device) Send(p *Packet) bool {
	d.mu.Lock()
	if !d.started || d.ended || d.dev.Err() != nil || len(p.Data) > d.MaxData() || len(p.Data) == 0 && len(d.pending) >= maxPending {
		d.mu.Unlock()
		return false
	}
	if len(d.pending) == 0 && d.put(p) {
		d.tx.Kick()
		d.mu.Unlock()
		d.sent(p)
		return true
	}
	d.pending = append(d.pending, p)
	if p.Reply {
		d.replies++
	}
	d.mu.Unlock()
	d.kick() // to listen for room
	return true
}

// Sent says that the device has taken all that it was given, or takes nothing any more.
func (d *Device) Sent() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.started || d.ended || d.dev.Err() != nil {
		return true
	}
	d.reap()
	return len(d.pending) == 0 && d.tx.InFlight() == 0
}

// put gives the device a packet; false if there is no room now. mu is held.
func (d *Device) put(p *Packet) bool {
	if len(d.free) == 0 {
		d.reap()
	}
	if len(d.free) == 0 || !d.tx.Room(2) {
		return false
	}
	b := d.free[len(d.free)-1]
	p.Len = uint32(len(p.Data))
	p.Put(b.b)
	segs := [2]virtio.Seg{{Addr: b.addr, Len: HeaderSize}}
	n := 1
	if len(p.Data) > 0 {
		copy(b.b[HeaderSize:], p.Data)
		segs[1], n = virtio.Seg{Addr: b.addr + HeaderSize, Len: p.Len}, 2
	}
	if d.tx.Add(segs[:n], n, b) != nil {
		return false
	}
	d.free = d.free[:len(d.free)-1]
	return true
}

// reap takes back buffers that were sent. mu is held.
func (d *Device) reap() {
	for {
		tok, _, ok := d.tx.Pop()
		if !ok {
			return
		}
		d.free = append(d.free, tok.(buffer))
	}
}

func (d *Device) run() {
	for range d.wake {
		for d.serve() {
		}
		if d.dev.Err() != nil {
			d.end()
			return
		}
	}
}

// end gives back what the failed device did not take.
func (d *Device) end() {
	d.mu.Lock()
	d.ended = true
	left := d.pending
	d.pending, d.replies = nil, 0
	d.mu.Unlock()
	for _, p := range left {
		d.sent(p)
	}
	d.onReset(true)
}

// serve looks at every queue once; true if it should look again.
func (d *Device) serve() bool {
	again := d.transmit()
	again = d.receive() || again
	again = d.events() || again
	return again && d.dev.Err() == nil
}

// transmit sends what waited for room.
func (d *Device) transmit() bool {
	d.mu.Lock()
	d.reap()
	var done []*Packet
	for len(d.pending) > 0 && d.put(d.pending[0]) {
		p := d.pending[0]
		d.pending[0] = nil
		d.pending = d.pending[1:]
		if p.Reply {
			d.replies--
		}
		done = append(done, p)
	}
	again := false
	if d.tx.Kick(); len(d.pending) > 0 {
		again = d.tx.Listen(1)
	} else {
		d.pending = nil
		d.tx.Quiet()
	}
	d.mu.Unlock()
	for _, p := range done {
		d.sent(p)
	}
	return again
}

// choked says that too many answers wait to be sent.
func (d *Device) choked() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.replies >= maxReplies
}

// receive hands out what came.
func (d *Device) receive() bool {
	for range burst {
		if d.choked() {
			d.rx.Kick()
			return false // transmit goes on when there is room
		}
		tok, n, ok := d.rx.Pop()
		if !ok {
			d.rx.Kick()
			return d.rx.Listen(1)
		}
		b := tok.(buffer)
		if n >= HeaderSize {
			var h Header
			h.Parse(b.b)
			// A packet that says it is longer than what was written is none.
			if h.Len <= n-HeaderSize {
				d.receiver(&h, b.b[HeaderSize:HeaderSize+h.Len])
			}
		}
		if d.giveRx(b) != nil {
			return false
		}
	}
	d.rx.Kick()
	return true
}

// events serves the event queue.
func (d *Device) events() bool {
	for {
		tok, n, ok := d.ev.Pop()
		if !ok {
			break
		}
		b := tok.(buffer)
		reset := n >= eventSize && binary.LittleEndian.Uint32(b.b) == eventReset
		if d.giveEvent(b) != nil {
			return false
		}
		if reset && d.readCID() == nil {
			d.onReset(false)
		}
	}
	d.ev.Kick()
	return d.ev.Listen(1)
}
