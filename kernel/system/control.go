package system

import (
	"bytes"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"kiln/drivers/virtio/console"
	"kiln/kernel/task"
	"kiln/kernel/timer"
)

// control is the port org.kiln.ctl: the kernel writes `exit N` or `signal N`, the
// host writes `stop`.
type control struct {
	mu   sync.Mutex
	port *console.Port
	line []byte
	stop func()
}

// maxLine bounds what is kept of a line that the host never ends.
const maxLine = 256

// attach is told of each port of each console device.
func (c *control) attach(p *console.Port) {
	if p.Name() != console.ControlPort {
		return
	}
	c.mu.Lock()
	first := c.port == nil
	if first {
		c.port = p
	}
	c.mu.Unlock()
	if first {
		p.SetReceiver(c.receive)
	}
}

func (c *control) receive(b []byte) {
	c.mu.Lock()
	var stop bool
	for _, x := range b {
		if x != '\n' {
			if len(c.line) < maxLine {
				c.line = append(c.line, x)
			}
			continue
		}
		stop = stop || string(bytes.TrimSpace(c.line)) == "stop"
		c.line = c.line[:0]
	}
	f := c.stop
	c.mu.Unlock()
	if stop && f != nil {
		f()
	}
}

// say writes a line; false if there is no port.
func (c *control) say(line string) bool {
	c.mu.Lock()
	p := c.port
	c.mu.Unlock()
	if p == nil {
		return false
	}
	p.Write([]byte(line + "\n"))
	return true
}

// drain waits until the host has the line, for a bounded number of looks.
func (c *control) drain(look func()) {
	c.mu.Lock()
	p := c.port
	c.mu.Unlock()
	if p != nil {
		p.Drain(2000, look)
	}
}

// stopper ends the program when the host asks: SIGTERM, and SIGKILL after ten
// seconds.
type stopper struct {
	k     *task.Kernel
	q     *timer.Queue
	once  sync.Once
	timer timer.Timer
}

const stopPatience = int64(10e9) // nanoseconds

func (s *stopper) stop() {
	s.once.Do(func() {
		p := s.k.Init()
		if p == nil {
			return
		}
		s.timer.Init(func() { p.SendSignal(task.SignalInfo{Signo: int32(unix.SIGKILL)}) })
		s.q.Arm(&s.timer, s.q.Now()+stopPatience)
		p.SendSignal(task.SignalInfo{Signo: int32(unix.SIGTERM)})
	})
}

// statusLine is what the control port says of a wait status (wait4(2)).
func statusLine(status uint32) string {
	if sig := status & 0x7f; sig != 0 {
		return fmt.Sprintf("signal %d", sig)
	}
	return fmt.Sprintf("exit %d", status>>8&0xff)
}
