package system

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"kiln/drivers/virtio/console"
	"kiln/fs/rootfs"
	"kiln/fs/vfs"
	"kiln/kernel/image"
	"kiln/kernel/task"
	"kiln/kernel/timer"
	"kiln/kernel/wait"
)

// control is the port org.kiln.ctl. The kernel writes how the machine ends, `exit N` or
// `signal N`. The host may write
//
//	stop                 end the programs in order
//	signal N [PID]       send signal N to the program (the essential one of several, or
//	                     all if none is), or to a process
//	run TAG EXEC         start another program, an image.Exec as JSON; `ran TAG exit N`,
//	                     `ran TAG signal N` or `ran TAG error TEXT` is the answer
//	put TAG PATH BASE64  write a file; `ran TAG ok` or `ran TAG error TEXT` is the answer
type control struct {
	mu   sync.Mutex
	port ControlPort
	line []byte
	stop func()
	// serve takes every other line.
	serve func(line string)
}

// ControlPort is what the control speaks through.
type ControlPort interface {
	Write(b []byte) int
	SetReceiver(f func([]byte))
	// Drain waits until what was written has left, for a bounded number of looks.
	Drain(rounds int, look func()) bool
}

// maxLine bounds what is kept of a line that the host never ends.
const maxLine = 64 << 10

// attach is told of each port of each console device.
func (c *control) attach(p *console.Port) {
	if p.Name() != console.ControlPort {
		return
	}
	c.connect(p)
}

// connect takes the first port that it is given.
func (c *control) connect(p ControlPort) {
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
	var lines []string
	for _, x := range b {
		if x != '\n' {
			if len(c.line) < maxLine {
				c.line = append(c.line, x)
			}
			continue
		}
		lines = append(lines, string(bytes.TrimSpace(c.line)))
		c.line = c.line[:0]
	}
	stop, serve := c.stop, c.serve
	c.mu.Unlock()
	for _, l := range lines {
		switch {
		case l == "stop" && stop != nil:
			stop()
		case l != "stop" && serve != nil:
			serve(l)
		}
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

// serveControl connects the port to the programs.
func (s *System) serveControl() {
	st := &stopper{k: s.kernel, q: s.timers}
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	s.control.stop = func() {
		if h := s.programs.Load(); h != nil {
			h.sup.Stop()
			return
		}
		st.stop()
	}
	s.control.serve = func(line string) {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "signal":
			s.signalFromHost(rest)
		case "run":
			tag, exec, _ := strings.Cut(rest, " ")
			go s.runFromHost(tag, exec)
		case "put":
			tag, what, _ := strings.Cut(rest, " ")
			go s.putFromHost(tag, what)
		}
	}
}

// signalFromHost serves `signal N [PID]`.
func (s *System) signalFromHost(args string) {
	var sig, pid int32
	n, _ := fmt.Sscan(args, &sig, &pid)
	if n < 1 || sig < 1 || sig > task.NumSignals {
		s.log.log("warn", "the host asks for the signal %q, which is none", args)
		return
	}
	info := task.SignalInfo{Signo: sig, Code: siKernel}
	if n == 2 {
		if p := s.kernel.Process(pid); p != nil {
			p.SendSignal(info)
		} else {
			s.log.log("warn", "the host sends signal %d to process %d, which there is not", sig, pid)
		}
		return
	}
	h := s.programs.Load()
	if h == nil {
		if p := s.kernel.Init(); p != nil {
			p.SendSignal(info)
		}
		return
	}
	essential := s.cfg.Essential()
	for i := range s.cfg.Programs {
		if p := &s.cfg.Programs[i]; essential == nil || p == essential {
			for _, t := range h.alive(p.Name) {
				t.SendSignal(info)
			}
		}
	}
}

// runFromHost serves `run TAG EXEC`. The program's parent is process 0, or the kernel
// where it is process 1; its output goes to the console and it has no input.
func (s *System) runFromHost(tag, exec string) {
	answer := func(text string) { s.control.say("ran " + tag + " " + text) }
	var e image.Exec
	err := image.Decode([]byte(exec), &e)
	if err == nil && !path.IsAbs(e.Program) {
		err = fmt.Errorf("program %q is not an absolute path", e.Program)
	}
	var null *vfs.File
	if err == nil {
		null, err = s.open("/dev/null")
	}
	if err != nil {
		answer("error " + err.Error())
		return
	}
	defer null.DecRef()
	ended := make(chan uint32, 1)
	unit := task.NewUnit(func() {})
	if _, err := s.spawn(e, unit, stdio{in: null}, func(status uint32) { ended <- status }); err != nil {
		answer("error " + err.Error())
		return
	}
	status := <-ended
	s.kernel.KillUnit(unit)
	answer(statusLine(status))
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

// putFromHost serves `put TAG PATH BASE64`.
func (s *System) putFromHost(tag, what string) {
	name, text, _ := strings.Cut(what, " ")
	b, err := base64.StdEncoding.DecodeString(text)
	if err == nil {
		err = rootfs.WriteFile(wait.Background(), s.ns, name, string(b))
	}
	if err != nil {
		s.control.say("ran " + tag + " error " + err.Error())
		return
	}
	s.control.say("ran " + tag + " ok")
}

// statusLine is what the control port says of a wait status (wait4(2)).
func statusLine(status uint32) string {
	if sig := status & 0x7f; sig != 0 {
		return fmt.Sprintf("signal %d", sig)
	}
	return fmt.Sprintf("exit %d", status>>8&0xff)
}
