// Package uart drives the 16550 serial port of a PC.
//
//	u, err := uart.Open(m, uart.COM1, gsi, flags)
//	u.SetReceiver(func(b []byte) { … }) // in the driver's goroutine
//	n := u.Write(b)                     // what fits; OnWritable tells of room
//
// Output goes straight into the transmit FIFO while it is empty, which on a virtual
// machine it always is; what does not fit waits in a ring that the transmit
// interrupt empties. Register numbers follow the data sheet of the PC16550D.
//
// Lock order: UART.mu is a leaf; receiver and writable function run without it.
package uart

import (
	"errors"
	"sync"

	"kiln/kernel/hal"
)

// COM1 is the first serial port, on ISA interrupt 4.
const (
	COM1    uint16 = 0x3f8
	COM1IRQ        = 4
)

// Registers and bits.
const (
	regData    = 0 // receive and transmit; divisor low with DLAB
	regIER     = 1 // interrupt enable; divisor high with DLAB
	regIIR     = 2 // interrupt identification, read
	regFCR     = 2 // FIFO control, write
	regLCR     = 3
	regMCR     = 4
	regLSR     = 5
	regScratch = 7

	ierReceive  = 1 << 0
	ierTransmit = 1 << 1

	fcrOn     = 0x01 | 1<<6 // enabled, receive trigger at 4 bytes
	fcrClear  = 0x06
	lcr8N1    = 0x03
	lcrBreak  = 1 << 6
	lcrDLAB   = 0x80
	mcrReady  = 0x01 | 0x02 | 0x08 // DTR, RTS, OUT2 (which gates the interrupt on a PC)
	lsrData   = 1 << 0
	lsrError  = 1<<1 | 1<<2 | 1<<3 | 1<<4
	lsrTHRE   = 1 << 5
	lsrIdle   = 1 << 6
	fifoDepth = 16
)

// ErrNoUART says that nothing that behaves like a 16550 answers at the port.
var ErrNoUART = errors.New("uart: no serial port there")

const (
	ringSize = 4096
	// maxRead bounds a run of received bytes, so that a line that never falls
	// idle (a broken device) cannot hold the goroutine.
	maxRead = 256
	// lineLooks bounds how often the transmitter is looked at for the end of a line: some
	// 20 ms of a real port, about two lines.
	lineLooks = 20000
)

// UART is a serial port.
type UART struct {
	m    hal.Machine
	base uint16
	wake chan struct{}
	irq  hal.IRQ

	mu       sync.Mutex
	ier      uint8
	ring     [ringSize]byte
	head, n  int
	last     byte // what was sent last
	receiver func([]byte)
	writable func()
	wantRoom bool // OnWritable's function waits for room
	wantIdle bool // or for the ring's end
	rx       [maxRead]byte
	lost     uint64
}

// Open takes over the port at base. 115200 baud, 8N1, FIFOs on.
func Open(m hal.Machine, base uint16, gsi uint32, flags hal.GSIFlags) (*UART, error) {
	u := &UART{m: m, base: base, wake: make(chan struct{}, 1)}
	for _, v := range []uint8{0x5a, 0xa5} {
		u.out(regScratch, v)
		if u.in(regScratch) != v {
			return nil, ErrNoUART
		}
	}
	u.out(regIER, 0)
	u.out(regLCR, lcrDLAB|lcr8N1)
	u.out(regData, 1) // divisor 1: 115200 baud
	u.out(regIER, 0)
	u.out(regLCR, lcr8N1)
	u.out(regFCR, fcrOn) // not cleared: what the base has written may still be on its way
	u.out(regMCR, mcrReady)
	irq, err := m.ConnectGSI("uart", gsi, flags, u.interrupt)
	if err != nil {
		return nil, err
	}
	u.irq = irq
	u.setIER(ierReceive)
	go u.run()
	u.kick() // bytes may have come before
	return u, nil
}

func (u *UART) in(reg uint16) uint8     { return u.m.In8(u.base + reg) }
func (u *UART) out(reg uint16, v uint8) { u.m.Out8(u.base+reg, v) }

func (u *UART) setIER(v uint8) {
	if u.ier != v {
		u.ier = v
		u.out(regIER, v)
	}
}

func (u *UART) kick() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// interrupt runs in dispatch context. The causes are switched off until the
// goroutine has served them: on an edge-triggered line (ISA) a new cause then
// makes a new edge, and on a level-triggered one the line falls.
func (u *UART) interrupt() {
	u.mu.Lock()
	u.setIER(0)
	u.mu.Unlock()
	u.kick()
}

// SetReceiver registers the function called with received bytes, in the driver's
// goroutine; they are good until it returns. Without one, they are thrown away.
func (u *UART) SetReceiver(f func([]byte)) {
	u.mu.Lock()
	u.receiver = f
	u.mu.Unlock()
	u.kick()
}

// OnWritable registers the function called when there is room after a short Write.
func (u *UART) OnWritable(f func()) {
	u.mu.Lock()
	u.writable = f
	u.mu.Unlock()
}

// Lost counts bytes that the hardware dropped or received in error.
func (u *UART) Lost() uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.lost
}

func (u *UART) run() {
	for range u.wake {
		for u.serve() {
		}
	}
}

// serve moves bytes both ways once and switches the interrupts on again; true if
// there was more than fitted.
func (u *UART) serve() bool {
	u.mu.Lock()
	n := 0
	f := u.receiver
	for f != nil || n == 0 {
		s := u.in(regLSR)
		if s&lsrError != 0 {
			u.lost++
		}
		if s&lsrData == 0 || s == 0xff || n == maxRead {
			break
		}
		if f == nil {
			break // kept in the hardware until somebody wants it
		}
		u.rx[n] = u.in(regData)
		n++
	}
	u.push()
	var room func()
	if u.wantRoom && u.n < ringSize/2 {
		u.wantRoom, room = false, u.writable
	}
	if u.wantIdle && u.n == 0 {
		u.wantIdle, room = false, u.writable
	}
	ier := uint8(0)
	if f != nil {
		ier |= ierReceive
	}
	if u.n > 0 {
		ier |= ierTransmit
	}
	u.setIER(ier)
	u.mu.Unlock()
	if n > 0 {
		f(u.rx[:n])
	}
	if room != nil {
		room()
	}
	return n == maxRead
}

// push moves bytes from the ring to the FIFO while it is empty. Called with mu held.
func (u *UART) push() {
	for u.n > 0 && u.in(regLSR)&lsrTHRE != 0 {
		u.fill(fifoDepth)
	}
}

// fill gives up to n bytes of the ring to the chip, which has room for them.
func (u *UART) fill(n int) {
	for ; n > 0 && u.n > 0; n-- {
		u.last = u.ring[u.head]
		u.out(regData, u.last)
		u.head = (u.head + 1) % ringSize
		u.n--
	}
}

// finishLine sends what has been begun up to the end of its line, if that is in the ring.
// Called with mu held.
func (u *UART) finishLine() {
	if u.last == '\n' {
		return
	}
	for left := range u.n {
		if u.ring[(u.head+left)%ringSize] != '\n' {
			continue
		}
		left++
		for range lineLooks {
			if u.in(regLSR)&lsrTHRE == 0 {
				continue
			}
			k := min(left, fifoDepth)
			u.fill(k)
			if left -= k; left == 0 {
				return
			}
		}
		return
	}
}

// Write queues bytes and returns how many were taken.
func (u *UART) Write(b []byte) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	total := 0
	for len(b) > 0 {
		k := 0
		for k < len(b) && u.n < ringSize {
			u.ring[(u.head+u.n)%ringSize] = b[k]
			u.n++
			k++
		}
		b = b[k:]
		total += k
		before := u.n
		u.push()
		if u.n == before && len(b) > 0 {
			u.wantRoom = true
			break
		}
	}
	if u.n > 0 {
		u.setIER(u.ier | ierTransmit)
	}
	return total
}

// Apart runs f, which writes lines to the port by itself, while nothing that was given to
// Write is sent: a line of the kernel's stays whole, and so does one of a program's that was
// given to Write in one piece.
func (u *UART) Apart(f func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.finishLine()
	f()
	u.last = '\n'
}

// Room is how many bytes Write would take; OnWritable tells of more if it is few.
func (u *UART) Room() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	room := ringSize - u.n
	if room < fifoDepth {
		u.wantRoom = true
	}
	return room
}

// Pending is how many bytes have not left: those in the ring, and one while the chip is
// sending. OnWritable tells of the ring's end.
func (u *UART) Pending() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := u.n
	if n > 0 {
		u.wantIdle = true
	} else if u.in(regLSR)&lsrIdle == 0 {
		n = 1
	}
	return n
}

// SetBreak holds the line in the break condition, or ends that.
func (u *UART) SetBreak(on bool) {
	v := uint8(lcr8N1)
	if on {
		v |= lcrBreak
	}
	u.mu.Lock()
	u.out(regLCR, v)
	u.mu.Unlock()
}

// Drain waits until everything written has left the chip: what to do before the
// machine is turned off. It looks at most rounds times.
func (u *UART) Drain(rounds int) bool {
	for range rounds {
		u.mu.Lock()
		u.push()
		done := u.n == 0 && u.in(regLSR)&lsrIdle != 0
		u.mu.Unlock()
		if done {
			return true
		}
	}
	return false
}
