// Package process has the devices of a kernel that is a process of a host
// (kernel/hosted): a terminal over two streams, a network card over a socket that keeps
// the bounds of messages, and a line to who started it.
//
//	con := process.NewConsole(os.Stdout, os.Stdin)
//	card := process.NewCard(mac, 9000, socket)
//	s, err := system.New(m, system.Options{Console: con, Cards: []system.Card{card}, …})
//
// The package opens nothing: whoever uses it brings what the other end is.
package process

import (
	"io"
	"sync"
	"time"

	vnet "kiln/drivers/virtio/net"
)

// Control is the line to the host.
type Control struct {
	rw   io.ReadWriter
	once sync.Once
}

// NewControl makes a line over a stream, which must not block long on writes.
func NewControl(rw io.ReadWriter) *Control { return &Control{rw: rw} }

// SetReceiver starts to read; f gets what arrives, good until it returns.
func (c *Control) SetReceiver(f func([]byte)) {
	c.once.Do(func() { go receive(c.rw, f) })
}

// Write says something to the host. It waits for nothing that the host does.
func (c *Control) Write(b []byte) int {
	n, _ := c.rw.Write(b)
	return n
}

// Drain has nothing to do: what is written has left.
func (c *Control) Drain(int, func()) bool { return true }

func receive(r io.Reader, f func([]byte)) {
	b := make([]byte, 4096)
	for {
		n, err := r.Read(b)
		if n > 0 {
			f(b[:n])
		}
		if err != nil {
			return
		}
	}
}

// consoleRing is how many bytes wait for the host to take them.
const consoleRing = 1 << 16

// Console is the terminal's port. Output leaves in a goroutine of its own, since
// the host may take its time.
type Console struct {
	w io.Writer
	r io.Reader

	mu       sync.Mutex
	more     sync.Cond // there is something to write, or it has left
	out      []byte
	busy     int // bytes being written
	wantRoom bool
	writable func()
	once     sync.Once
}

// NewConsole makes a terminal's port; r may be nil.
func NewConsole(w io.Writer, r io.Reader) *Console {
	c := &Console{w: w, r: r}
	c.more.L = &c.mu
	go c.run()
	return c
}

func (c *Console) run() {
	var spare []byte
	for {
		c.mu.Lock()
		for len(c.out) == 0 {
			c.more.Wait()
		}
		b := c.out
		c.out, c.busy = spare[:0], len(b)
		c.mu.Unlock()
		c.w.Write(b) // a host that is gone reads nothing more: the bytes are lost
		spare = b
		c.mu.Lock()
		c.busy = 0
		f := c.writable
		if !c.wantRoom {
			f = nil
		}
		c.wantRoom = false
		c.more.Broadcast()
		c.mu.Unlock()
		if f != nil {
			f()
		}
	}
}

// Write takes what there is room for (tty.Port).
func (c *Console) Write(b []byte) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(b), c.room())
	c.out = append(c.out, b[:n]...)
	if n < len(b) {
		c.wantRoom = true
	}
	c.more.Broadcast()
	return n
}

func (c *Console) room() int { return max(0, consoleRing-len(c.out)-c.busy) }

// Room implements tty.Port.
func (c *Console) Room() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.room()
	if n < consoleRing/2 {
		c.wantRoom = true
	}
	return n
}

// Pending implements tty.Port.
func (c *Console) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.out) + c.busy
	if n > 0 {
		c.wantRoom = true
	}
	return n
}

// OnWritable implements tty.Port.
func (c *Console) OnWritable(f func()) {
	c.mu.Lock()
	c.writable = f
	c.mu.Unlock()
}

// Log is the kernel's own voice, in order with what programs write: it takes all and
// waits for nobody.
func (c *Console) Log() io.Writer { return consoleLog{c} }

type consoleLog struct{ c *Console }

func (l consoleLog) Write(b []byte) (int, error) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	if len(l.c.out) < 4*consoleRing {
		l.c.out = append(l.c.out, b...)
		l.c.more.Broadcast()
	}
	return len(b), nil
}

// Drain waits until everything written has left, at most for d.
func (c *Console) Drain(d time.Duration) {
	late := false
	t := time.AfterFunc(d, func() {
		c.mu.Lock()
		late = true
		c.more.Broadcast()
		c.mu.Unlock()
	})
	defer t.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out)+c.busy > 0 && !late {
		c.more.Wait()
	}
}

// SetInput starts to read. receive gets what arrives; nothing is read while room says
// that there is none, so that the host holds it back.
func (c *Console) SetInput(receive func([]byte), room func() int) {
	if c.r == nil {
		return
	}
	c.once.Do(func() {
		go func() {
			b := make([]byte, 4096)
			for {
				for room() < len(b) {
					time.Sleep(2 * time.Millisecond)
				}
				n, err := c.r.Read(b)
				if n > 0 {
					receive(b[:n])
				}
				if err != nil {
					return
				}
			}
		}()
	})
}

// Link carries frames, one a call. Send must not block: ErrFull where there is no room.
type Link interface {
	Send(frame []byte) error
	Receive(b []byte) (int, error)
}

// ErrFull is Link's answer where a frame has to wait.
var ErrFull = vnet.ErrFull

// retryTime is when a full Link is tried again.
const retryTime = time.Millisecond

// Card is a network card (net.Device) over a Link. It computes no checksums.
type Card struct {
	mac  [6]byte
	mtu  int
	link Link

	mu       sync.Mutex
	receiver func(*vnet.Packet)
	writable func()
	buf      []byte
	waiting  bool
}

// NewCard makes a card; mtu is without the Ethernet header.
func NewCard(mac [6]byte, mtu int, l Link) *Card {
	return &Card{mac: mac, mtu: mtu, link: l}
}

// The card's properties, as net.Device asks for them.

func (c *Card) MAC() [6]byte { return c.mac }
func (c *Card) MTU() int     { return c.mtu }
func (c *Card) TxCsum() bool { return false }
func (c *Card) TSO4() bool   { return false }
func (c *Card) TSO6() bool   { return false }
func (c *Card) LinkUp() bool { return true }

// SetReceiver implements net.Device.
func (c *Card) SetReceiver(f func(*vnet.Packet)) {
	c.mu.Lock()
	c.receiver = f
	c.mu.Unlock()
}

// OnWritable implements net.Device.
func (c *Card) OnWritable(f func()) {
	c.mu.Lock()
	c.writable = f
	c.mu.Unlock()
}

// Kick implements net.Device: Send has sent.
func (c *Card) Kick() {}

// Send implements net.Device.
func (c *Card) Send(p *vnet.Packet) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	frame := p.Slices[0]
	if len(p.Slices) > 1 {
		c.buf = c.buf[:0]
		for _, s := range p.Slices {
			c.buf = append(c.buf, s...)
		}
		frame = c.buf
	}
	err := c.link.Send(frame)
	if err == ErrFull && !c.waiting {
		c.waiting = true
		time.AfterFunc(retryTime, c.retry)
	}
	return err
}

func (c *Card) retry() {
	c.mu.Lock()
	c.waiting = false
	f := c.writable
	c.mu.Unlock()
	if f != nil {
		f()
	}
}

// Start begins to receive.
func (c *Card) Start() error {
	go func() {
		b := make([]byte, c.mtu+18) // with a VLAN tag
		for {
			n, err := c.link.Receive(b)
			if err != nil || n == 0 {
				return // the host is gone
			}
			c.mu.Lock()
			f := c.receiver
			c.mu.Unlock()
			if f != nil {
				f(&vnet.Packet{Slices: [][]byte{b[:n]}})
			}
		}
	}()
	return nil
}
