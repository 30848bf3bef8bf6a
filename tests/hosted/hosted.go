// Package hosted runs programs on the whole kernel above hal as an ordinary process:
// the wiring of kernel/system over kernel/hosted.
package hosted

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"

	"kiln/capstan/erofs"
	"kiln/capstan/tree"
	"kiln/kernel/hosted"
	"kiln/kernel/image"
	"kiln/kernel/system"
	"kiln/kernel/task"
	"kiln/syscalls"
)

// Run is what a program does on a machine of its own.
type Run struct {
	Root   *tree.Tree
	Config image.Config
	Memory int64
	CPUs   int
	Limit  time.Duration // 0: a minute
	// Without names system calls that answer ENOSYS.
	Without []string
	// Observe hears of each system call.
	Observe func(t *task.Thread, name string, a syscalls.Args) (done func(err error))
}

// ErrTime means that the program still ran when its time was over.
var ErrTime = errors.New("the program did not end in time")

// Result is what came of a run.
type Result struct {
	Output string // of the terminal
	Log    string // the kernel's own
	Status int    // as a shell has it
}

// Do boots, runs the program to its end and closes the machine.
func (r *Run) Do() (res Result, err error) {
	l, err := erofs.Plan(r.Root, erofs.None)
	if err != nil {
		return res, err
	}
	var root bytes.Buffer
	if _, err := l.WriteTo(&root); err != nil {
		return res, err
	}
	term, log := &port{}, &buffer{}
	m, err := hosted.New(hosted.Config{Memory: r.Memory, CPUs: r.CPUs, Root: root.Bytes(), Console: log})
	if err != nil {
		return res, err
	}
	defer func() { res.Output, res.Log = term.String(), log.String() }()
	cfg := r.Config
	cfg.Version = image.ConfigVersion
	cfg.Network.Mode = "none"
	s, err := system.New(m, system.Options{Config: &cfg, NoDevices: true, Console: term, Without: r.Without, Observe: r.Observe})
	if err != nil {
		return res, fmt.Errorf("system: %w", err)
	}
	type end struct {
		status uint32
		err    error
	}
	done := make(chan end, 1)
	go func() {
		status, err := s.Run()
		done <- end{status, err}
	}()
	limit := r.Limit
	if limit == 0 {
		limit = time.Minute
	}
	select {
	case e := <-done:
		// Threads of the program may be on their way out still, and the kernel's
		// goroutines have no end: the machine stays, without its programs.
		res.Status = shell(e.status)
		return res, e.err
	case <-time.After(limit):
		return res, ErrTime
	}
}

func shell(status uint32) int {
	if sig := status & 0x7f; sig != 0 {
		return 128 + int(sig)
	}
	return int(status >> 8 & 0xff)
}

// buffer collects what a console gets.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (p *buffer) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.Write(b)
}

func (p *buffer) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.String()
}

// port is a buffer as a tty.Port, which always has room.
type port struct{ buffer }

func (p *port) Write(b []byte) int {
	p.buffer.Write(b)
	return len(b)
}

func (p *port) Room() int         { return 1 << 16 }
func (p *port) Pending() int      { return 0 }
func (p *port) OnWritable(func()) {}
