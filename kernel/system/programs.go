package system

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"kiln/fs/pipe"
	"kiln/fs/vfs"
	"kiln/kernel/image"
	"kiln/kernel/supervisor"
	"kiln/kernel/task"
	"kiln/kernel/timer"
)

// programs are the several programs of an image: the supervisor's hands. The kernel is
// process 1, and each program leads a session of its own.
type programs struct {
	s   *System
	sup *supervisor.Supervisor

	mu   sync.Mutex
	runs map[string]*run
}

// run is what a program is now.
type run struct {
	unit *task.Unit

	mu    sync.Mutex
	procs []*task.Process
}

var _ supervisor.Host = (*programs)(nil)

// supervise starts the image's programs under the kernel's own process 1.
func (s *System) supervise() {
	h := &programs{s: s, runs: map[string]*run{}}
	h.sup = supervisor.New(s.cfg.Programs, h)
	s.kernel.Supervise(task.Supervision{Signal: func(int32) { h.sup.Stop() }})
	s.programs.Store(h)
	go h.sup.Run()
}

// Start implements supervisor.Host. Everything is loaded before anything runs.
func (h *programs) Start(p *image.Program, n int) (pids []int32, err error) {
	r := &run{unit: task.NewUnit(func() { h.sup.Gone(p.Name, n) })}
	h.mu.Lock()
	h.runs[p.Name] = r
	h.mu.Unlock()
	stages, err := h.prepare(p)
	if err != nil {
		return nil, err
	}
	for i := range stages {
		a := &stages[i]
		a.Unit = r.unit
		if p.Essential {
			a.TTY = h.s.tty
		}
		if i > 0 {
			a.Leader = r.procs[0]
		}
		a.Before = func(t *task.Process) {
			if p.Essential && i == 0 {
				h.s.tty.Give(t.SID())
			}
			r.mu.Lock()
			r.procs = append(r.procs, t)
			r.mu.Unlock()
		}
		a.Ended = func(status uint32) { h.sup.Ended(p.Name, n, i, status) }
		t, err := h.s.kernel.Start(*a)
		if err != nil {
			for j := i; j < len(stages); j++ {
				unload(&stages[j])
			}
			h.s.kernel.KillUnit(r.unit)
			return nil, fmt.Errorf("%s cannot be started: %w", p.Stages()[i].Program, err)
		}
		pids = append(pids, t.PID())
	}
	return pids, nil
}

// prepare loads the stages of a program and joins them by pipes.
func (h *programs) prepare(p *image.Program) (out []task.StartArgs, err error) {
	defer func() {
		if err != nil {
			for i := range out {
				unload(&out[i])
			}
		}
	}()
	var files []*vfs.File // held here until the descriptors hold them
	defer func() {
		for _, f := range files {
			f.DecRef()
		}
	}()
	var in *vfs.File
	if !p.Essential {
		if in, err = h.s.open("/dev/null"); err != nil {
			return nil, err
		}
		files = append(files, in)
	}
	stages := p.Stages()
	for i, e := range stages {
		a, err := h.s.load(e)
		if err != nil {
			return out, err
		}
		out = append(out, a)
		io, next := stdio{in: in}, (*vfs.File)(nil)
		if i < len(stages)-1 {
			r, w, err := pipe.New(h.s.mem, 0, vfs.RootCreds())
			if err != nil {
				return out, err
			}
			files = append(files, r, w)
			io.out, next = w, r
		}
		if out[i].FDs, err = h.s.stdio(a.Limits, io); err != nil {
			return out, err
		}
		in = next
	}
	return out, nil
}

func (h *programs) run(name string) *run {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.runs[name]
}

// alive are the processes of a program that it was started with and that have not ended.
func (h *programs) alive(name string) (out []*task.Process) {
	r := h.run(name)
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.procs {
		if p.State() != 'Z' {
			out = append(out, p)
		}
	}
	return out
}

// Signal implements supervisor.Host.
func (h *programs) Signal(name string, sig int32) {
	for _, p := range h.alive(name) {
		p.SendSignal(task.SignalInfo{Signo: sig, Code: siKernel})
		// A stopped program could not obey.
		p.SendSignal(task.SignalInfo{Signo: int32(unix.SIGCONT), Code: siKernel})
	}
}

// Kill implements supervisor.Host.
func (h *programs) Kill(name string) {
	if r := h.run(name); r != nil {
		h.s.kernel.KillUnit(r.unit)
	}
}

// After implements supervisor.Host.
func (h *programs) After(d time.Duration, f func()) (stop func()) {
	t := new(timer.Timer)
	t.Init(f)
	h.s.timers.Arm(t, h.s.timers.Now()+int64(d))
	return func() { h.s.timers.Stop(t) }
}

// Now implements supervisor.Host.
func (h *programs) Now() time.Duration { return time.Duration(h.s.timers.Now()) }

// Log implements supervisor.Host.
func (h *programs) Log(level, format string, args ...any) { h.s.log.log(level, format, args...) }

// Finished implements supervisor.Host.
func (h *programs) Finished(status uint32) { h.s.end(ending{status, h.s.atExit}) }

var errSlow = errors.New("no answer in time")

// Check implements supervisor.Host.
func (h *programs) Check(p *image.Program, timeout time.Duration, cancel <-chan struct{}) error {
	c := p.Health
	done := make(chan struct{})
	end := sync.OnceFunc(func() { close(done) })
	defer end()
	defer h.After(timeout, end)()
	go func() {
		select {
		case <-cancel:
			end()
		case <-done:
		}
	}()
	if len(c.Command) > 0 {
		return h.command(p, done)
	}
	addr := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if c.Address != "" {
		var err error
		if addr, err = netip.ParseAddr(c.Address); err != nil {
			return err
		}
	}
	if c.HTTP == nil {
		return h.s.net.ProbeTCP(netip.AddrPortFrom(addr, uint16(c.TCP)), done)
	}
	path := c.HTTP.Path
	if path == "" {
		path = "/"
	}
	status, err := h.s.net.ProbeHTTP(netip.AddrPortFrom(addr, uint16(c.HTTP.Port)), path, done)
	switch want := c.HTTP.Status; {
	case err != nil:
		return err
	case want != 0 && status != want, want == 0 && (status < 200 || status > 399):
		return fmt.Errorf("GET %s gives status %d", path, status)
	}
	return nil
}

// command runs a check's command beside the program, in its unit.
func (h *programs) command(p *image.Program, done <-chan struct{}) error {
	r := h.run(p.Name)
	if r == nil {
		return unix.ESRCH
	}
	e := p.Stages()[0]
	e.Program, e.Args = p.Health.Command[0], p.Health.Command
	null, err := h.s.open("/dev/null")
	if err != nil {
		return err
	}
	defer null.DecRef()
	ended := make(chan uint32, 1)
	t, err := h.s.spawn(e, r.unit, stdio{null, null, null}, func(status uint32) { ended <- status })
	if err != nil {
		return err
	}
	select {
	case status := <-ended:
		if status != 0 {
			return fmt.Errorf("%s gives %s", e.Program, statusLine(status))
		}
		return nil
	case <-done:
		t.SendSignal(task.SignalInfo{Signo: int32(unix.SIGKILL), Code: siKernel})
		<-ended
		return errSlow
	}
}

// spawn starts a process beside the image's programs; ended is told of its end.
func (s *System) spawn(e image.Exec, unit *task.Unit, io stdio, ended func(status uint32)) (*task.Process, error) {
	a, err := s.load(e)
	if err != nil {
		return nil, err
	}
	if a.FDs, err = s.stdio(a.Limits, io); err == nil {
		a.Unit, a.Ended = unit, ended
		var p *task.Process
		if p, err = s.kernel.Start(a); err == nil {
			return p, nil
		}
	}
	unload(&a)
	return nil, fmt.Errorf("%s cannot be started: %w", e.Program, err)
}
