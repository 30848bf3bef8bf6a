package uart

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"kiln/kernel/hal/fake"
)

// chip is a 16550 with an edge-triggered interrupt, as on ISA.
type chip struct {
	m       *fake.Machine
	mu      sync.Mutex
	regs    [8]uint8
	rx      []byte
	tx      []byte
	blocked bool // the transmitter does not move
	looks   int  // it moves again when it has been looked at this often; 0: not by that
	stays   bool // blocked is not over by itself
	thri    bool
}

func (c *chip) update() {
	pending := c.regs[regIER]&ierReceive != 0 && len(c.rx) > 0 || c.regs[regIER]&ierTransmit != 0 && c.thri
	c.m.SetGSI(4, pending)
}

func (c *chip) Read(off, _ int) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.update()
	switch off {
	case regData:
		if len(c.rx) == 0 {
			return 0
		}
		b := c.rx[0]
		c.rx = c.rx[1:]
		return uint64(b)
	case regLSR:
		v := uint64(0)
		if len(c.rx) > 0 {
			v |= lsrData
		}
		if !c.blocked {
			v |= lsrTHRE | lsrIdle
		} else if c.looks > 0 {
			c.looks--
			c.blocked = c.looks > 0
		}
		return v
	}
	return uint64(c.regs[off])
}

func (c *chip) Write(off, _ int, v uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.update()
	if off == regData && c.regs[regLCR]&lcrDLAB == 0 {
		c.tx = append(c.tx, byte(v))
		c.thri = false
		if len(c.tx)%40 == 39 { // now and then the FIFO stays full for a while
			c.blocked = true
			if !c.stays {
				time.AfterFunc(time.Millisecond, c.unblock)
			}
		} else {
			c.thri = !c.blocked
		}
		return
	}
	if off == regIER && uint8(v)&^c.regs[regIER]&ierTransmit != 0 && !c.blocked {
		c.thri = true // enabling it with an empty transmitter interrupts at once
	}
	c.regs[off] = uint8(v)
}

func (c *chip) unblock() {
	c.mu.Lock()
	c.blocked, c.thri = false, true
	c.update()
	c.mu.Unlock()
}

func (c *chip) receive(b []byte) {
	c.mu.Lock()
	c.rx = append(c.rx, b...)
	c.update()
	c.mu.Unlock()
}

func open(t *testing.T) (*chip, *UART) {
	m := fake.New(1)
	c := &chip{m: m}
	m.PlugPorts(COM1, 8, c)
	u, err := Open(m, COM1, 4, 0)
	if err != nil {
		t.Fatal(err)
	}
	return c, u
}

func TestEveryByteIsTransmittedInOrder(t *testing.T) {
	c, u := open(t)
	var want []byte
	room := make(chan bool, 1)
	u.OnWritable(func() {
		select {
		case room <- true:
		default:
		}
	})
	for i := 0; i < 20000; i++ {
		want = append(want, byte(i*13>>2))
	}
	for rest := want; len(rest) > 0; {
		n := u.Write(rest)
		if rest = rest[n:]; len(rest) > 0 {
			select {
			case <-room:
			case <-time.After(5 * time.Second):
				t.Fatalf("stuck with %d bytes left", len(rest))
			}
		}
	}
	for i := 0; !u.Drain(1); i++ {
		if i > 5000 {
			t.Fatal("not drained")
		}
		time.Sleep(time.Millisecond)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !bytes.Equal(c.tx, want) {
		t.Errorf("%d of %d bytes, or out of order", len(c.tx), len(want))
	}
}

func TestReceivedBytesSurviveUntilSomebodyWantsThem(t *testing.T) {
	c, u := open(t)
	c.receive([]byte("early "))
	got := make(chan []byte, 1000)
	u.SetReceiver(func(b []byte) { got <- bytes.Clone(b) })
	var text []byte
	want := []byte("early ")
	for i := 0; i < 200; i++ {
		c.receive([]byte("line\n"))
		want = append(want, "line\n"...)
		if i%10 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	for len(text) < len(want) {
		select {
		case b := <-got:
			text = append(text, b...)
		case <-time.After(5 * time.Second):
			t.Fatalf("stuck after %d of %d bytes", len(text), len(want))
		}
	}
	if !bytes.Equal(text, want) {
		t.Error("bytes differ")
	}
}

func TestNothingThereIsNoUART(t *testing.T) {
	if _, err := Open(fake.New(1), COM1, 4, 0); err != ErrNoUART {
		t.Error(err)
	}
}

// What writes to the port by itself is not mixed with what is queued.
func TestWhatIsWrittenApartStaysWhole(t *testing.T) {
	c, u := open(t)
	done := make(chan bool)
	go func() {
		defer close(done)
		for range 300 {
			for rest := []byte("program\n"); len(rest) > 0; {
				if n := u.Write(rest); n > 0 {
					rest = rest[n:]
				} else {
					time.Sleep(100 * time.Microsecond)
				}
			}
		}
	}()
	const line = "a line of the kernel's\n"
	for range 100 {
		u.Apart(func() {
			for i := range line {
				u.out(regData, line[i])
			}
		})
		time.Sleep(50 * time.Microsecond)
	}
	<-done
	for i := 0; !u.Drain(1); i++ {
		if i > 5000 {
			t.Fatal("not drained")
		}
		time.Sleep(time.Millisecond)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := bytes.Count(c.tx, []byte(line)); n != 100 {
		t.Errorf("%d of 100 lines are whole", n)
	}
}

// Nor does it come between the beginning of a line that waits to be sent and its end.
func TestLinesThatWaitAreSentWhole(t *testing.T) {
	c, u := open(t)
	c.mu.Lock()
	c.tx, c.stays = bytes.Repeat([]byte("\n"), 25), true
	c.mu.Unlock()
	u.Write([]byte("the FIFO is full in the middle of this line\r\nand the next waits\r\n"))
	c.mu.Lock()
	sent := string(c.tx[25:])
	c.looks = 5
	c.mu.Unlock()
	if sent != "the FIFO is full" {
		t.Fatalf("%q was sent at once", sent)
	}
	u.Apart(func() { u.out(regData, '!') })
	for range 3 {
		c.unblock() // the second line fills it once more
		u.Drain(100)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if got := string(c.tx[25:]); got != "the FIFO is full in the middle of this line\r\n!and the next waits\r\n" {
		t.Errorf("%q", got)
	}
}
