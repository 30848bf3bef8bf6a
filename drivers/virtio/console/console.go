// Package console drives virtio console devices (virtio 1.2, 5.3): a plain port,
// or many with names. Kiln speaks with its host over the one named org.kiln.ctl.
//
//	con, err := console.Open(m, transport, "virtio-console0", watchdog)
//	con.OnPort(func(p *console.Port) {
//		if p.Name() == console.ControlPort {
//			p.SetReceiver(func(b []byte) { … })
//			p.Write([]byte("exit 0\n"))
//		}
//	})
//
// One goroutine serves all queues of a device. Output is copied into device memory;
// a host that does not read fills a port's queue, and Write then takes less.
//
// Lock order: Console.mu is a leaf; receivers and port functions run without it.
package console

import (
	"bytes"
	"encoding/binary"
	"sync"
	"sync/atomic"

	"kiln/drivers/virtio"
	"kiln/kernel/hal"
)

// ControlPort is the name of the port that carries status and stop.
const ControlPort = "org.kiln.ctl"

// Features (5.3.3) and configuration (5.3.4).
const (
	featMultiport = 1 << 1

	cfgMaxPorts = 4
)

// Control events (5.3.6.2).
const (
	evDeviceReady = 0
	evPortAdd     = 1
	evPortRemove  = 2
	evPortReady   = 3
	evConsolePort = 4
	evPortOpen    = 6
	evPortName    = 7

	ctlLen = 8
)

const (
	queueLen = 8
	bufLen   = 256
	// maxPorts bounds the ports whose queues are set up; a queue takes memory
	// whether its port exists or not. Legacy queues take two pages each.
	maxPorts       = 31
	maxPortsLegacy = 4
	maxName        = 64
)

// Console is a device with its ports.
type Console struct {
	dev   *virtio.Device
	multi bool
	wake  chan struct{}
	ctlRx *virtio.Queue
	ctlTx *virtio.Queue

	mu       sync.Mutex
	ports    []*Port
	onPort   func(*Port)
	ctlFree  []buffer
	announce []*Port
}

// Port is one channel.
type Port struct {
	c    *Console
	id   int
	rx   *virtio.Queue
	tx   *virtio.Queue
	free []buffer // transmit buffers

	// Under Console.mu.
	present  bool
	name     string
	console  bool
	hostOpen bool
	told     bool
	receiver func([]byte)
	writable func()
	wantRoom bool
	early    [][]byte // received before there was a receiver

	dropped atomic.Uint64
}

type buffer struct {
	b    []byte
	addr hal.PhysAddr
}

// maxEarly bounds what is kept for a port that nobody has taken yet.
const maxEarly = 16

// Open brings the device up. Ports appear through OnPort.
func Open(m hal.Machine, t virtio.Transport, name string, w *virtio.Watchdog) (*Console, error) {
	dev, err := virtio.NewDevice(m, t, name)
	if err != nil {
		return nil, err
	}
	if err := dev.Negotiate(featMultiport); err != nil {
		return nil, err
	}
	c := &Console{dev: dev, multi: dev.Has(featMultiport), wake: make(chan struct{}, 1)}
	if err := t.Connect(name, nil, []func(){c.kick}); err != nil {
		return nil, err
	}
	n := 1
	if c.multi {
		limit := uint32(maxPorts)
		if t.Legacy() {
			limit = maxPortsLegacy
		}
		n = int(max(1, min(t.Config32(cfgMaxPorts), limit)))
	}
	if err := c.queues(n, w); err != nil {
		return nil, err
	}
	dev.OnError(c.kick)
	if err := dev.Start(); err != nil {
		return nil, err
	}
	c.begin()
	go c.run()
	return c, nil
}

// queues sets up all queues (5.3.2): port 0 has 0 and 1, the control queues are 2
// and 3, port n has 2n+2 and 2n+3.
func (c *Console) queues(n int, w *virtio.Watchdog) (err error) {
	make2 := func(first int) (rx, tx *virtio.Queue, err error) {
		if rx, err = c.dev.NewQueue(first, virtio.QueueConfig{Size: queueLen}); err != nil {
			return
		}
		if tx, err = c.dev.NewQueue(first+1, virtio.QueueConfig{Size: queueLen}); err != nil {
			return
		}
		w.Watch(rx, c.kick)
		w.Watch(tx, c.kick)
		return
	}
	for i := 0; i < n; i++ {
		first := 2*i + 2
		if i == 0 {
			first = 0
		}
		p := &Port{c: c, id: i}
		if p.rx, p.tx, err = make2(first); err != nil {
			return err
		}
		c.ports = append(c.ports, p)
	}
	if c.multi {
		if c.ctlRx, c.ctlTx, err = make2(2); err != nil {
			return err
		}
		if err = c.lend(c.ctlRx); err != nil {
			return err
		}
		c.ctlFree, err = c.buffers(queueLen, ctlLen)
	}
	return err
}

func (c *Console) buffers(n, size int) (out []buffer, err error) {
	for i := 0; i < n; i++ {
		b, at, err := c.dev.DMA(size, 8)
		if err != nil {
			return nil, err
		}
		out = append(out, buffer{b, at})
	}
	return out, nil
}

// lend fills a receive queue.
func (c *Console) lend(q *virtio.Queue) error {
	bufs, err := c.buffers(q.Size(), bufLen)
	if err != nil {
		return err
	}
	for _, b := range bufs {
		if err := c.give(q, b); err != nil {
			return err
		}
	}
	return nil
}

func (c *Console) give(q *virtio.Queue, b buffer) error {
	return q.Add([]virtio.Seg{{Addr: b.addr, Len: uint32(len(b.b))}}, 0, b)
}

// begin starts the conversation about ports; without MULTIPORT there is one, open.
func (c *Console) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.multi {
		p := c.ports[0]
		if c.addPort(p) {
			p.hostOpen, p.console, p.told = true, true, true
			c.announce = append(c.announce, p)
		}
		c.kick()
		return
	}
	c.ctlRx.Kick()
	c.ctlRx.Listen(1)
	c.send(0, evDeviceReady, 1)
}

func (c *Console) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Device gives access to errors and counters.
func (c *Console) Device() *virtio.Device { return c.dev }

// OnPort registers a function told of each port: when its name is known, and of one
// that is opened or declared a console before that, also then. It runs in the
// driver's goroutine, for ports already there too, and may call SetReceiver and Write.
func (c *Console) OnPort(f func(*Port)) {
	c.mu.Lock()
	c.onPort = f
	for _, p := range c.ports {
		if p.told {
			c.announce = append(c.announce, p)
		}
	}
	c.mu.Unlock()
	c.kick()
}

// send queues a control message. Called with mu held.
func (c *Console) send(port uint32, event, value uint16) {
	c.reapControl()
	if len(c.ctlFree) == 0 {
		return // the host does not read its control queue; nothing can be said
	}
	b := c.ctlFree[len(c.ctlFree)-1]
	le := binary.LittleEndian
	le.PutUint32(b.b, port)
	le.PutUint16(b.b[4:], event)
	le.PutUint16(b.b[6:], value)
	if c.ctlTx.Add([]virtio.Seg{{Addr: b.addr, Len: ctlLen}}, 1, b) == nil {
		c.ctlFree = c.ctlFree[:len(c.ctlFree)-1]
		c.ctlTx.Kick()
	}
}

func (c *Console) reapControl() {
	for {
		tok, _, ok := c.ctlTx.Pop()
		if !ok {
			return
		}
		c.ctlFree = append(c.ctlFree, tok.(buffer))
	}
}

// run serves all queues. Received bytes and announcements are handed out with the
// lock released.
func (c *Console) run() {
	for range c.wake {
		for c.serve() {
		}
		if c.dev.Err() != nil {
			c.mu.Lock()
			for _, p := range c.ports {
				p.hostOpen = false
			}
			c.mu.Unlock()
			return
		}
	}
}

// serve looks at every queue once; true if it should look again.
func (c *Console) serve() bool {
	c.mu.Lock()
	again := c.multi && c.control()
	var calls []func()
	for _, p := range c.ports {
		if !p.present {
			continue
		}
		again = p.receive(&calls) || again
		p.reap()
		if p.wantRoom {
			again = p.tx.Listen(1) || again
			if len(p.free) > queueLen/2 {
				p.wantRoom = false
				if p.writable != nil {
					calls = append(calls, p.writable)
				}
			}
		} else {
			p.tx.Quiet()
		}
	}
	tell := c.announce
	f := c.onPort
	if f != nil {
		c.announce = nil
	}
	c.mu.Unlock()
	if f != nil {
		for _, p := range tell {
			f(p)
		}
	}
	for _, call := range calls {
		call()
	}
	return again && c.dev.Err() == nil
}

// control serves the control queue. Called with mu held.
func (c *Console) control() bool {
	for {
		tok, n, ok := c.ctlRx.Pop()
		if !ok {
			break
		}
		b := tok.(buffer)
		if n >= ctlLen {
			c.event(b.b[:n])
		}
		if c.give(c.ctlRx, b) != nil {
			return false
		}
	}
	c.ctlRx.Kick()
	return c.ctlRx.Listen(1)
}

func (c *Console) event(b []byte) {
	le := binary.LittleEndian
	id, ev, value := le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:])
	if id >= uint32(len(c.ports)) {
		return
	}
	p := c.ports[id]
	switch ev {
	case evPortAdd:
		if !c.addPort(p) {
			c.send(id, evPortReady, 0)
			return
		}
		c.send(id, evPortReady, 1)
		c.send(id, evPortOpen, 1)
	case evPortRemove:
		p.hostOpen, p.name, p.told = false, "", false
	case evConsolePort:
		p.console = true
		c.tell(p)
	case evPortOpen:
		p.hostOpen = value != 0
		if p.hostOpen {
			c.tell(p)
		}
	case evPortName:
		name := b[ctlLen:]
		p.name = string(bytes.TrimRight(name[:min(len(name), maxName)], "\x00"))
		p.told = false // a port known without its name is announced again
		c.tell(p)
	}
}

func (c *Console) tell(p *Port) {
	if p.present && !p.told {
		p.told = true
		c.announce = append(c.announce, p)
	}
}

// addPort gives a port its buffers; the queues stay filled over a removal.
func (c *Console) addPort(p *Port) bool {
	if p.present {
		return true
	}
	free, err := c.buffers(queueLen, bufLen)
	if err == nil {
		err = c.lend(p.rx)
	}
	if err != nil {
		return false
	}
	p.free, p.present = free, true
	p.rx.Kick()
	p.rx.Listen(1)
	return true
}

// Name is the port's name, "" if it has none.
func (p *Port) Name() string {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return p.name
}

// IsConsole tells whether the host declared the port a terminal for the kernel.
func (p *Port) IsConsole() bool {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return p.console
}

// Open tells whether somebody on the host has the port open.
func (p *Port) Open() bool {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return p.hostOpen
}

// SetReceiver registers the function called with received bytes, in the driver's
// goroutine; they are good until it returns. What came before is delivered too.
func (p *Port) SetReceiver(f func([]byte)) {
	p.c.mu.Lock()
	p.receiver = f
	p.c.mu.Unlock()
	p.c.kick()
}

// OnWritable registers the function called when there is room after a short Write.
func (p *Port) OnWritable(f func()) {
	p.c.mu.Lock()
	p.writable = f
	p.c.mu.Unlock()
}

// receive takes bytes. Called with mu held; deliveries are queued in calls.
func (p *Port) receive(calls *[]func()) bool {
	if p.receiver != nil && len(p.early) > 0 {
		f, early := p.receiver, p.early
		p.early = nil
		*calls = append(*calls, func() {
			for _, b := range early {
				f(b)
			}
		})
	}
	for {
		tok, n, ok := p.rx.Pop()
		if !ok {
			break
		}
		b := tok.(buffer)
		if data := bytes.Clone(b.b[:n]); n == 0 {
		} else if f := p.receiver; f != nil {
			*calls = append(*calls, func() { f(data) })
		} else if len(p.early) < maxEarly {
			p.early = append(p.early, data)
		} else {
			p.dropped.Add(1)
		}
		if p.c.give(p.rx, b) != nil {
			return false
		}
	}
	p.rx.Kick()
	return p.rx.Listen(1)
}

// reap takes transmit buffers back. Called with mu held.
func (p *Port) reap() {
	for {
		tok, _, ok := p.tx.Pop()
		if !ok {
			return
		}
		p.free = append(p.free, tok.(buffer))
	}
}

// Write queues bytes and returns how many were taken; fewer than len(b) if the
// host is slow (OnWritable) or the device has failed.
func (p *Port) Write(b []byte) int {
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !p.present || c.dev.Err() != nil {
		return 0
	}
	n := 0
	for n < len(b) {
		if len(p.free) == 0 {
			p.reap()
		}
		if len(p.free) == 0 {
			p.wantRoom = true
			p.tx.Kick()
			if p.tx.Listen(1) {
				continue
			}
			return n
		}
		buf := p.free[len(p.free)-1]
		k := copy(buf.b, b[n:])
		if p.tx.Add([]virtio.Seg{{Addr: buf.addr, Len: uint32(k)}}, 1, buf) != nil {
			break
		}
		p.free = p.free[:len(p.free)-1]
		n += k
	}
	p.tx.Kick()
	return n
}

// Drain waits until the host has taken everything that was written, or the device
// has failed: what to do before the machine is turned off. A host that does not
// read would hold it for good, so it looks at most rounds times, with look called
// in between (which may give the CPU away or let time pass).
func (p *Port) Drain(rounds int, look func()) bool {
	for range rounds {
		p.c.mu.Lock()
		p.reap()
		left, err := p.tx.InFlight(), p.c.dev.Err()
		p.c.mu.Unlock()
		if left == 0 || err != nil {
			return err == nil
		}
		look()
	}
	return false
}
