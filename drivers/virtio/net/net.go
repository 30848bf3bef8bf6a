// Package net drives virtio network devices (virtio 1.2, 5.1).
//
//	dev, err := net.Open(m, transport, "virtio-net0", watchdog)
//	dev.SetReceiver(func(p *net.Packet) { copy what is wanted })
//	dev.Start()
//	err = dev.Send(&net.Packet{Slices: [][]byte{header, payload}, NeedsCsum: true, …})
//	dev.Kick() // once for a batch of Send
//
// Transmission copies into device memory, since Go memory has no physical address
// here; reception hands out slices of device memory that are good until the
// receiver returns. With MRG_RXBUF the device may deliver up to 64 KiB as one
// packet in several slices.
//
// Lock order: the receiver and the writable function run without a lock;
// Device.txMu is a leaf.
package net

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"

	"kiln/drivers/virtio"
	"kiln/kernel/hal"
)

// Features (5.1.3).
const (
	featCsum      = 1 << 0
	featGuestCsum = 1 << 1
	featMTU       = 1 << 3
	featMAC       = 1 << 5
	featGuestTSO4 = 1 << 7
	featGuestTSO6 = 1 << 8
	featHostTSO4  = 1 << 11
	featHostTSO6  = 1 << 12
	featMrgRxBuf  = 1 << 15
	featStatus    = 1 << 16
)

// Header flags and segmentation types (5.1.6).
const (
	hdrNeedsCsum = 1
	hdrDataValid = 2

	gsoNone = 0
	gsoTCP4 = 1
	gsoTCP6 = 4
	gsoECN  = 0x80
)

// Configuration fields (5.1.4).
const (
	cfgMAC    = 0
	cfgStatus = 6
	cfgMTU    = 10
)

const (
	hdrLen       = 12
	hdrLenLegacy = 10 // without MRG_RXBUF, before 1.0
	// chunk is a piece of packet memory. A full Ethernet frame with header fits.
	chunk      = 2048
	slabOrder  = 3 // chunks are made 16 at a time
	slabChunks = (hal.PageSize << slabOrder) / chunk
	// MaxPacket is the largest packet, Ethernet header included (5.1.6.3.1).
	MaxPacket   = 65550
	maxTxSegs   = (MaxPacket+hdrLen)/chunk + 1
	defaultMTU  = 1500
	maxRxChunks = (MaxPacket+hdrLen)/chunk + 2
)

// Errors of Send.
var (
	// ErrFull says that the transmit queue is full; OnWritable tells when it is not.
	ErrFull = virtio.ErrFull
	// ErrTooBig says that a packet is longer than the device can take.
	ErrTooBig = errors.New("virtio-net: packet too big")
	// ErrNoMemory says that a packet cannot be queued, and that nothing is whose end would
	// make room.
	ErrNoMemory = errors.New("virtio-net: no memory for a packet")
)

// GSO is how a large TCP packet is to be cut.
type GSO uint8

// Segmentation types.
const (
	GSONone GSO = iota
	GSOTCP4
	GSOTCP6
)

// Packet is an Ethernet frame.
type Packet struct {
	// Slices are its bytes in order, at least the headers in the first.
	Slices [][]byte
	// NeedsCsum: the checksum field at CsumStart+CsumOffset holds the
	// pseudo-header's sum; the device adds bytes from CsumStart to the end. On
	// reception it says that the sender was on this host and sent none: the
	// packet is good.
	NeedsCsum             bool
	CsumStart, CsumOffset uint16
	// CsumValid (reception): the device has verified the transport checksum.
	CsumValid bool
	// GSO, SegSize (payload bytes a segment) and HdrLen (bytes up to the
	// payload) ask for segmentation; it needs NeedsCsum.
	GSO     GSO
	SegSize uint16
	HdrLen  uint16
}

// Stats count packets.
type Stats struct {
	RxPackets, RxBytes, RxDropped uint64
	TxPackets, TxBytes, TxFull    uint64
}

// Device is a network card.
type Device struct {
	dev    *virtio.Device
	m      hal.Machine
	mac    [6]byte
	mtu    int
	hdrLen int

	rx       *virtio.Queue
	rxWake   chan struct{}
	rxBufs   []*buffer
	receiver func(*Packet)
	batchEnd func()
	slices   [][]byte
	changed  atomic.Bool
	linkUp   atomic.Bool
	onLink   atomic.Pointer[func(up bool)]

	tx       *virtio.Queue
	txWake   chan struct{}
	txMu     sync.Mutex
	txFree   []*buffer
	txMade   int
	txLimit  int
	txSegs   []virtio.Seg
	txWait   bool
	txChains chan *txChain
	writable atomic.Pointer[func()]

	rxPackets, rxBytes, rxDropped atomic.Uint64
	txPackets, txBytes, txFull    atomic.Uint64
}

// buffer is one chunk of device memory.
type buffer struct {
	b    []byte
	addr hal.PhysAddr
}

// txChain is a packet under way.
type txChain struct{ bufs []*buffer }

// Open brings the device up as far as its queues; Start lets packets flow.
func Open(m hal.Machine, t virtio.Transport, name string, w *virtio.Watchdog) (*Device, error) {
	dev, err := virtio.NewDevice(m, t, name)
	if err != nil {
		return nil, err
	}
	if err := dev.Negotiate(wanted(t.Features())); err != nil {
		return nil, err
	}
	d := &Device{dev: dev, m: m, mtu: defaultMTU, hdrLen: hdrLen,
		rxWake: make(chan struct{}, 1), txWake: make(chan struct{}, 1)}
	if t.Legacy() && !dev.Has(featMrgRxBuf) {
		d.hdrLen = hdrLenLegacy
	}
	d.readConfig()
	err = t.Connect(name, d.configChanged, []func(){func() { poke(d.rxWake) }, func() { poke(d.txWake) }})
	if err != nil {
		return nil, err
	}
	// A small machine gets half the receive memory, 256 KiB.
	size := 256
	if m.MemStats().TotalPages < 64<<20>>hal.PageShift {
		size = 128
	}
	if d.rx, err = dev.NewQueue(0, virtio.QueueConfig{Size: size}); err != nil {
		return nil, err
	}
	d.tx, err = dev.NewQueue(1, virtio.QueueConfig{Size: 256, MaxSegs: maxTxSegs, Tables: 128})
	if err != nil {
		return nil, err
	}
	d.txLimit = max(4*d.tx.Size(), 2*maxTxSegs)
	d.txSegs = make([]virtio.Seg, 0, maxTxSegs)
	d.txChains = make(chan *txChain, d.tx.Size())
	dev.OnError(func() { poke(d.rxWake); poke(d.txWake) })
	w.Watch(d.rx, func() { poke(d.rxWake) })
	w.Watch(d.tx, func() { poke(d.txWake) })
	return d, nil
}

// wanted picks features whose requirements are met too (5.1.3.1). Large packets
// are received only into merged buffers, so that small ones stay cheap.
func wanted(offered uint64) uint64 {
	f := uint64(featMAC | featMTU | featStatus | featMrgRxBuf | featCsum | featGuestCsum)
	if offered&featCsum != 0 {
		f |= featHostTSO4 | featHostTSO6
	}
	if offered&featGuestCsum != 0 && offered&featMrgRxBuf != 0 {
		f |= featGuestTSO4 | featGuestTSO6
	}
	return f
}

func (d *Device) readConfig() {
	t := d.dev.T
	if d.dev.Has(featMAC) {
		d.dev.ConfigStable(func() {
			for i := range d.mac {
				d.mac[i] = t.Config8(cfgMAC + i)
			}
		})
	} else { // a locally administered address of our own
		d.m.Entropy(d.mac[:])
		d.mac[0] = d.mac[0]&^1 | 2
	}
	if d.dev.Has(featMTU) {
		if v := int(t.Config16(cfgMTU)); v >= 68 { // RFC 791's least
			d.mtu = v
		}
	}
	d.linkUp.Store(true)
	if d.dev.Has(featStatus) {
		d.linkUp.Store(t.Config16(cfgStatus)&1 != 0)
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// MAC is the hardware address.
func (d *Device) MAC() [6]byte { return d.mac }

// MTU is the largest IP packet, without the Ethernet header.
func (d *Device) MTU() int { return d.mtu }

// Name is "virtio-net0".
func (d *Device) Name() string { return d.dev.Name }

// TxCsum: NeedsCsum may be set in Send. RxCsum: received packets may say that
// their checksum is good. TSO4 and TSO6: GSO may be set in Send.
func (d *Device) TxCsum() bool { return d.dev.Has(featCsum) }
func (d *Device) RxCsum() bool { return d.dev.Has(featGuestCsum) }
func (d *Device) TSO4() bool   { return d.dev.Has(featHostTSO4) }
func (d *Device) TSO6() bool   { return d.dev.Has(featHostTSO6) }

// LinkUp is the state of the cable; OnLink registers a function told of changes,
// in the driver's goroutine.
func (d *Device) LinkUp() bool           { return d.linkUp.Load() }
func (d *Device) OnLink(f func(up bool)) { d.onLink.Store(&f) }

// OnWritable registers a function that is called in the driver's goroutine when
// Send has room again after ErrFull. It must not block.
func (d *Device) OnWritable(f func()) { d.writable.Store(&f) }

// Device gives access to errors and counters.
func (d *Device) Device() *virtio.Device { return d.dev }

// Stats returns the counters.
func (d *Device) Stats() Stats {
	return Stats{d.rxPackets.Load(), d.rxBytes.Load(), d.rxDropped.Load(),
		d.txPackets.Load(), d.txBytes.Load(), d.txFull.Load()}
}

// SetReceiver registers the function called for each received packet, in the
// driver's goroutine. The packet and its slices are only good until it returns.
// To be called before Start.
func (d *Device) SetReceiver(f func(*Packet)) { d.receiver = f }

// OnBatchEnd registers a function called after the last of a run of packets that
// arrived together, in the driver's goroutine. To be called before Start.
func (d *Device) OnBatchEnd(f func()) { d.batchEnd = f }

// Start fills the receive queue and lets the device run.
func (d *Device) Start() error {
	if err := d.begin(); err != nil {
		return err
	}
	go d.receive()
	go d.transmitted()
	return nil
}

// begin lends the device the receive buffers and starts it.
func (d *Device) begin() error {
	if d.receiver == nil {
		d.receiver = func(*Packet) {}
	}
	for d.rx.Room(1) {
		slab, err := d.slab()
		if err != nil {
			if d.rx.InFlight() == 0 {
				return err
			}
			break // fewer buffers are slower, not wrong
		}
		for _, b := range slab {
			if d.rx.Room(1) {
				d.lend(b)
			} else {
				d.txFree = append(d.txFree, b)
				d.txMade++
			}
		}
	}
	d.tx.Quiet()
	d.rx.Listen(1)
	if err := d.dev.Start(); err != nil {
		return err
	}
	d.rx.Kick()
	return nil
}

// slab allocates device memory for packets.
func (d *Device) slab() ([]*buffer, error) {
	for order := slabOrder; ; order-- {
		mem, err := hal.NewDMA(d.m, uint(order))
		if err == nil {
			var out []*buffer
			for at := 0; at < len(mem.Bytes); at += chunk {
				out = append(out, &buffer{mem.Bytes[at : at+chunk : at+chunk], mem.Addr + hal.PhysAddr(at)})
			}
			return out, nil
		}
		if order == 0 {
			return nil, err
		}
	}
}

func (d *Device) lend(b *buffer) {
	seg := [1]virtio.Seg{{Addr: b.addr, Len: chunk}}
	if d.rx.Add(seg[:], 0, b) != nil {
		d.rxDropped.Add(1) // only when the device has failed: the buffer is lost with it
	}
}

func (d *Device) configChanged() {
	d.changed.Store(true)
	poke(d.rxWake)
}

// receive is the driver's goroutine for the receive queue.
func (d *Device) receive() {
	var p Packet
	for range d.rxWake {
		if d.changed.Swap(false) {
			d.linkChanged()
		}
		for {
			d.rx.Quiet()
			n := 0
			for ; d.takePacket(&p); n++ {
				if n&15 == 15 {
					d.rx.Kick() // the device gets buffers back while we work
				}
			}
			if n > 0 && d.batchEnd != nil {
				d.batchEnd()
			}
			d.rx.Kick()
			if !d.rx.Listen(1) || d.dev.Err() != nil {
				break
			}
		}
		if d.dev.Err() != nil {
			d.setLink(false)
			return
		}
	}
}

func (d *Device) linkChanged() {
	if d.dev.CheckStatus() != nil {
		return
	}
	if d.dev.Has(featStatus) {
		d.setLink(d.dev.T.Config16(cfgStatus)&1 != 0)
	}
}

func (d *Device) setLink(up bool) {
	if d.linkUp.Swap(up) != up {
		if f := d.onLink.Load(); f != nil {
			(*f)(up)
		}
	}
}

// takePacket takes one packet, gives it to the receiver and its buffers back to
// the device. False if there was none.
func (d *Device) takePacket(p *Packet) bool {
	tok, n, ok := d.rx.Pop()
	if !ok {
		return false
	}
	first := tok.(*buffer)
	d.rxBufs = append(d.rxBufs[:0], first)
	d.slices = d.slices[:0]
	good := int(n) >= d.hdrLen
	if good {
		if n > uint32(d.hdrLen) {
			d.slices = append(d.slices, first.b[d.hdrLen:n])
		}
		good = d.merge(first, &n)
	}
	if good && n > uint32(d.hdrLen) {
		*p = Packet{Slices: d.slices}
		d.parse(first.b, p)
		d.rxPackets.Add(1)
		d.rxBytes.Add(uint64(n) - uint64(d.hdrLen))
		d.receiver(p)
	} else {
		d.rxDropped.Add(1)
	}
	for _, b := range d.rxBufs {
		d.lend(b)
	}
	return true
}

// merge collects the further buffers of a packet that did not fit one (5.1.6.4).
func (d *Device) merge(first *buffer, n *uint32) bool {
	if !d.dev.Has(featMrgRxBuf) {
		return true
	}
	count := int(binary.LittleEndian.Uint16(first.b[10:]))
	if count == 0 || count > maxRxChunks {
		d.dev.Fail("a packet in %d buffers", count)
		return false
	}
	for i := 1; i < count; i++ {
		tok, m, ok := d.rx.Pop()
		if !ok {
			// The device makes all parts of a packet visible at once.
			d.dev.Fail("a packet of %d buffers ended after %d", count, i)
			return false
		}
		b := tok.(*buffer)
		d.rxBufs = append(d.rxBufs, b)
		d.slices = append(d.slices, b.b[:m])
		*n += m
	}
	return true
}

// parse reads the header (5.1.6). Its claims are only used within the packet's
// bounds, which the receiver's own parsing sets.
func (d *Device) parse(h []byte, p *Packet) {
	le := binary.LittleEndian
	if !d.dev.Has(featGuestCsum) {
		return
	}
	p.CsumValid = h[0]&(hdrDataValid|hdrNeedsCsum) != 0
	if h[0]&hdrNeedsCsum != 0 {
		p.NeedsCsum = true
		p.CsumStart, p.CsumOffset = le.Uint16(h[6:]), le.Uint16(h[8:])
	}
	switch h[1] &^ gsoECN {
	case gsoTCP4:
		p.GSO = GSOTCP4
	case gsoTCP6:
		p.GSO = GSOTCP6
	}
	p.HdrLen, p.SegSize = le.Uint16(h[2:]), le.Uint16(h[4:])
}

// Send copies a packet into the transmit queue. The device sees it at the next
// Kick. ErrFull: nothing was queued, OnWritable's function will be called.
func (d *Device) Send(p *Packet) error {
	size := d.hdrLen
	for _, s := range p.Slices {
		size += len(s)
	}
	if size > MaxPacket+hdrLen || size == d.hdrLen {
		return ErrTooBig
	}
	d.txMu.Lock()
	defer d.txMu.Unlock()
	if err := d.dev.Err(); err != nil {
		return err
	}
	need := (size + chunk - 1) / chunk
	if !d.tx.Room(need) || len(d.txFree) < need {
		d.reap()
	}
	if !d.tx.Room(need) || !d.grow(need) {
		return d.full()
	}
	var c *txChain
	select {
	case c = <-d.txChains:
	default:
		c = &txChain{}
	}
	d.fill(c, p, need)
	if err := d.tx.Add(d.txSegs, len(d.txSegs), c); err != nil {
		d.recycle(c)
		return err
	}
	d.txPackets.Add(1)
	d.txBytes.Add(uint64(size - d.hdrLen))
	return nil
}

// grow sees to it that need free buffers are there, making more up to the limit.
func (d *Device) grow(need int) bool {
	for len(d.txFree) < need && d.txMade < d.txLimit {
		slab, err := d.slab()
		if err != nil {
			break
		}
		d.txFree = append(d.txFree, slab...)
		d.txMade += len(slab)
	}
	return len(d.txFree) >= need
}

// full asks for an interrupt when a good part of the queue is empty, and answers
// ErrFull; unless the device made room meanwhile. With nothing in the queue no interrupt would
// come: ErrNoMemory.
func (d *Device) full() error {
	d.txFull.Add(1)
	if d.tx.InFlight() == 0 {
		return ErrNoMemory
	}
	d.txWait = true
	d.tx.Kick()
	if d.tx.Listen(max(1, d.tx.InFlight()/2)) {
		poke(d.txWake)
	}
	return ErrFull
}

// fill writes header and bytes into chunks and describes them in txSegs.
func (d *Device) fill(c *txChain, p *Packet, need int) {
	c.bufs = append(c.bufs[:0], d.txFree[len(d.txFree)-need:]...)
	d.txFree = d.txFree[:len(d.txFree)-need]
	h := c.bufs[0].b[:d.hdrLen]
	clear(h)
	if p.NeedsCsum && d.TxCsum() {
		h[0] = hdrNeedsCsum
		binary.LittleEndian.PutUint16(h[6:], p.CsumStart)
		binary.LittleEndian.PutUint16(h[8:], p.CsumOffset)
	}
	if p.GSO != GSONone {
		h[1] = gsoTCP4
		if p.GSO == GSOTCP6 {
			h[1] = gsoTCP6
		}
		binary.LittleEndian.PutUint16(h[2:], p.HdrLen)
		binary.LittleEndian.PutUint16(h[4:], p.SegSize)
	}
	d.txSegs = d.txSegs[:0]
	i, at := 0, d.hdrLen
	for _, s := range p.Slices {
		for len(s) > 0 {
			if at == chunk {
				d.txSegs = append(d.txSegs, virtio.Seg{Addr: c.bufs[i].addr, Len: chunk})
				i, at = i+1, 0
			}
			n := copy(c.bufs[i].b[at:], s)
			s, at = s[n:], at+n
		}
	}
	d.txSegs = append(d.txSegs, virtio.Seg{Addr: c.bufs[i].addr, Len: uint32(at)})
}

// Kick tells the device of what Send queued.
func (d *Device) Kick() {
	d.txMu.Lock()
	d.tx.Kick()
	d.txMu.Unlock()
}

// Sent says that the device has taken all that it was given, or takes nothing any more.
func (d *Device) Sent() bool {
	d.txMu.Lock()
	defer d.txMu.Unlock()
	d.reap()
	return d.tx.InFlight() == 0 || d.dev.Err() != nil
}

// reap takes transmitted packets' buffers back. Called with txMu held.
func (d *Device) reap() {
	for {
		tok, _, ok := d.tx.Pop()
		if !ok {
			return
		}
		d.recycle(tok.(*txChain))
	}
}

func (d *Device) recycle(c *txChain) {
	d.txFree = append(d.txFree, c.bufs...)
	select {
	case d.txChains <- c:
	default:
	}
}

// transmitted is the driver's goroutine for the transmit queue. It sleeps unless a
// sender met a full queue: all other reaping is done by senders.
func (d *Device) transmitted() {
	for range d.txWake {
		d.txMu.Lock()
		d.reap()
		d.tx.Quiet()
		again := d.txWait && d.dev.Err() == nil && d.tx.InFlight() > d.tx.Size()/2
		if again && !d.tx.Listen(max(1, d.tx.InFlight()/2)) {
			d.txMu.Unlock()
			continue // the next interrupt comes when there is room
		}
		if again {
			poke(d.txWake)
			d.txMu.Unlock()
			continue
		}
		tell := d.txWait
		d.txWait = false
		d.txMu.Unlock()
		if f := d.writable.Load(); f != nil && tell {
			(*f)()
		}
		if d.dev.Err() != nil {
			return
		}
	}
}
