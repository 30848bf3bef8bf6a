// Package virtiotest models the device side of virtio for unit tests: rings,
// the MMIO registers of versions 1 and 2, and a PCI function with its capabilities.
// It follows the rules unless a test tells it not to.
package virtiotest

import (
	"encoding/binary"
	"sync"

	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
)

// Ring features.
const (
	Indirect = 1 << 28
	EventIdx = 1 << 29
	Version1 = 1 << 32
)

// Device is a model. Fields are set before the driver sees it.
type Device struct {
	M       *fake.Machine
	Kind    uint32
	Feat    uint64
	Config  []byte
	Queues  int
	MaxSize uint16
	// Handle serves a request: it returns the bytes written and true, or keeps
	// the chain for a later Complete and returns false.
	Handle func(q int, c *Chain) (uint32, bool)
	// DropNotify and DropIRQ, if set, say that a notification or interrupt is
	// lost. OnUsed, if set, may falsify a used entry.
	DropNotify func(q int) bool
	DropIRQ    func(q int) bool
	OnUsed     func(q int, id, n uint32) (uint32, uint32)

	mu       sync.Mutex
	status   uint8
	driver   uint64
	featSel  uint32
	drvSel   uint32
	queueSel uint32
	gen      uint32
	isr      uint32
	queues   []queue
	work     chan int
	irq      func(q int) // raises the queue's interrupt; q -1: configuration
	notifies int
	irqs     int
}

type queue struct {
	size              uint16
	vector            uint16
	ready             bool
	desc, avail, used uint64
	lastAvail, usedI  uint16
	signalled         uint16
}

// Chain is a request as the device sees it.
type Chain struct {
	d    *Device
	q    int
	Head uint16
	Out  [][]byte // readable
	In   [][]byte // writable
}

// Bytes joins the readable part.
func (c *Chain) Bytes() []byte {
	var b []byte
	for _, s := range c.Out {
		b = append(b, s...)
	}
	return b
}

// Put writes b into the writable part from byte off on and returns the bytes written.
func (c *Chain) Put(off int, b []byte) (n uint32) {
	for _, s := range c.In {
		if off >= len(s) {
			off -= len(s)
			continue
		}
		k := copy(s[off:], b)
		b, off = b[k:], 0
		n += uint32(k)
	}
	return n
}

// InLen is the length of the writable part.
func (c *Chain) InLen() (n int) {
	for _, s := range c.In {
		n += len(s)
	}
	return n
}

// Complete returns a chain that Handle kept.
func (c *Chain) Complete(n uint32) {
	c.d.mu.Lock()
	c.d.push(c.q, uint32(c.Head), n)
	c.d.mu.Unlock()
}

// CompleteAll returns chains of one queue, in order, with one update of the index.
func CompleteAll(cs []*Chain, n []uint32) {
	d := cs[0].d
	d.mu.Lock()
	defer d.mu.Unlock()
	q := &d.queues[cs[0].q]
	for i, c := range cs[:len(cs)-1] {
		if !q.ready {
			return
		}
		e := d.mem(q.used+4+8*uint64(q.usedI%q.size), 8)
		e.Store32(0, uint32(c.Head))
		e.Store32(4, n[i])
		q.usedI++
	}
	d.push(cs[0].q, uint32(cs[len(cs)-1].Head), n[len(cs)-1])
}

func (d *Device) start() {
	d.queues = make([]queue, d.Queues)
	if d.MaxSize == 0 {
		d.MaxSize = 256
	}
	for i := range d.queues {
		d.queues[i].size = d.MaxSize
		d.queues[i].vector = 0xffff
	}
	d.work = make(chan int, 64)
	go func() {
		for q := range d.work {
			d.serve(q)
		}
	}()
}

// Counts are the notifications received and the interrupts raised.
func (d *Device) Counts() (notifies, irqs int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.notifies, d.irqs
}

// DriverFeatures are what the driver accepted; Status is the status register.
func (d *Device) DriverFeatures() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.driver
}

// Status is the device status register.
func (d *Device) Status() uint8 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status
}

// ChangeConfig changes the configuration and says so.
func (d *Device) ChangeConfig(f func(config []byte)) {
	d.mu.Lock()
	f(d.Config)
	d.gen++
	d.isr |= 2
	d.irq(-1)
	d.mu.Unlock()
}

// Serve makes the device look at a queue, as a notification would.
func (d *Device) Serve(q int) { d.work <- q }

func (d *Device) notify(q int) {
	d.mu.Lock()
	d.notifies++
	drop := d.DropNotify != nil && d.DropNotify(q)
	d.mu.Unlock()
	if !drop && q < d.Queues {
		d.work <- q
	}
}

func (d *Device) reset() {
	d.driver, d.isr = 0, 0
	for i := range d.queues {
		d.queues[i] = queue{size: d.MaxSize, vector: 0xffff}
	}
}

func (d *Device) setStatus(s uint8) {
	if s == 0 {
		d.reset()
	}
	if s&8 != 0 && d.driver&^d.Feat != 0 {
		s &^= 8
	}
	d.status = s
}

func (d *Device) mem(pa uint64, n int) *hal.DMA {
	b, ok := d.M.DeviceMem(hal.PhysAddr(pa), n)
	if !ok {
		panic("virtiotest: the driver gave an address outside memory")
	}
	return &hal.DMA{Bytes: b}
}

func (d *Device) availIndex(q *queue) uint16 {
	return uint16(d.mem(q.avail, 4).Load32(0) >> 16)
}

// serve takes every available request (2.7.7).
func (d *Device) serve(i int) {
	for {
		d.mu.Lock()
		q := &d.queues[i]
		if !q.ready || d.status&4 == 0 {
			d.mu.Unlock()
			return
		}
		if d.availIndex(q) == q.lastAvail {
			if d.driver&EventIdx != 0 {
				ev := d.mem(q.used+4+8*uint64(q.size), 4)
				ev.Publish32(0, uint32(q.lastAvail))
				if d.availIndex(q) != q.lastAvail {
					d.mu.Unlock()
					continue
				}
			}
			d.mu.Unlock()
			return
		}
		head := d.mem(q.avail+4+2*uint64(q.lastAvail%q.size), 2).Load16(0)
		q.lastAvail++
		c := d.walk(i, q, head)
		handle := d.Handle
		d.mu.Unlock()
		if n, done := handle(i, c); done {
			c.Complete(n)
		}
	}
}

func (d *Device) walk(i int, q *queue, head uint16) *Chain {
	c := &Chain{d: d, q: i, Head: head}
	table, size, at := q.desc, uint64(q.size), uint64(head)
	for n := 0; n < 2000; n++ {
		if at >= size {
			panic("virtiotest: descriptor outside its table")
		}
		e := d.mem(table+16*at, 16)
		pa, length := e.Load64(0), e.Load32(8)
		flags, next := e.Load16(12), e.Load16(14)
		if flags&4 != 0 {
			if flags&1 != 0 || d.driver&Indirect == 0 {
				panic("virtiotest: bad indirect descriptor")
			}
			table, size, at = pa, uint64(length)/16, 0
			continue
		}
		b := d.mem(pa, int(length)).Bytes
		if flags&2 != 0 {
			c.In = append(c.In, b)
		} else if len(c.In) > 0 {
			panic("virtiotest: readable after writable")
		} else {
			c.Out = append(c.Out, b)
		}
		if flags&1 == 0 {
			return c
		}
		at = uint64(next)
	}
	panic("virtiotest: chain loops")
}

// push writes a used entry and interrupts if the driver wants that. Called with mu.
func (d *Device) push(i int, id, n uint32) {
	q := &d.queues[i]
	if !q.ready {
		return
	}
	if d.OnUsed != nil {
		id, n = d.OnUsed(i, id, n)
	}
	e := d.mem(q.used+4+8*uint64(q.usedI%q.size), 8)
	e.Store32(0, id)
	e.Store32(4, n)
	q.usedI++
	d.mem(q.used, 4).Publish32(0, uint32(q.usedI)<<16)
	want := false
	if d.driver&EventIdx != 0 {
		event := uint16(d.mem(q.avail+4+2*uint64(q.size), 4).Load32(0))
		want = q.usedI-event-1 < q.usedI-q.signalled
		if want {
			q.signalled = q.usedI
		}
	} else {
		want = d.mem(q.avail, 4).Load32(0)&1 == 0
	}
	if want {
		d.irqs++
		if d.DropIRQ == nil || !d.DropIRQ(i) {
			d.isr |= 1
			d.irq(i)
		}
	}
}

// UsedIndex falsifies the used index of a queue (a hostile device).
func (d *Device) UsedIndex(i int, v uint16) {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := &d.queues[i]
	if !q.ready {
		return
	}
	d.mem(q.used, 4).Publish32(0, uint32(v)<<16)
	d.isr |= 1
	d.irq(i)
}

func (d *Device) config(off, width int, write bool, v uint64) uint64 {
	if off+width > len(d.Config) {
		return 0
	}
	var b [8]byte
	if write {
		binary.LittleEndian.PutUint64(b[:], v)
		copy(d.Config[off:off+width], b[:])
		return 0
	}
	copy(b[:], d.Config[off:off+width])
	return binary.LittleEndian.Uint64(b[:])
}
