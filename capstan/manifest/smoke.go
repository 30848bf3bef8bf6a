package manifest

import (
	"fmt"
	"path"
	"regexp"
	"time"

	"kiln/kernel/image"
)

// Smoke is one try of the image: it boots, then HTTP or TCP is spoken, or steps are done,
// and the machine is stopped, or the program ends by itself.
type Smoke struct {
	Name    string   `yaml:"name"`
	Program string   `yaml:"program"` // another program of the image, without arguments of the manifest's
	Args    []string `yaml:"args"`    // instead of the manifest's
	// Ready is a text that the console shows once there is somebody to speak to.
	Ready string `yaml:"ready"`
	HTTP  *HTTP  `yaml:"http"`
	TCP   *TCP   `yaml:"tcp"`
	SSH   *SSH   `yaml:"ssh"`
	// Requests repeats the HTTP, TCP or SSH part.
	Requests int `yaml:"requests"`
	// Steps, instead of HTTP and TCP, are done one after another.
	Steps []Step `yaml:"steps"`
	// Output are lines that the console shows, in this order.
	Output []string `yaml:"output"`
	// Status is the exit status of a program that ends by itself, or of a server that
	// SIGTERM stops if it is not 0 or the signal's.
	Status int `yaml:"status"`
}

// SSH is a try by an SSH client, which logs in with a key made for it.
type SSH struct {
	Port int    `yaml:"port"`
	User string `yaml:"user"`
	// KeyEnv is the variable that gives the image the client's public key, as a line of
	// authorized_keys.
	KeyEnv   string       `yaml:"key_env"`
	Sessions []SSHSession `yaml:"sessions"`
}

// SSHSession is a command, or the login shell, that ends with a status.
type SSHSession struct {
	Run string `yaml:"run"` // "": the login shell
	PTY bool   `yaml:"pty"` // on a terminal of 30 rows and 100 columns
	// Dialog is typed, each step once the one before it has been answered.
	Dialog []struct {
		// Resize changes the terminal's size first.
		Resize *struct {
			Rows    int `yaml:"rows"`
			Columns int `yaml:"columns"`
		} `yaml:"resize"`
		// After is a pause before typing, for a program that shows nothing when it is ready.
		After  time.Duration `yaml:"after"`
		Send   string        `yaml:"send"`
		Expect string        `yaml:"expect"` // a text in what is shown then
	} `yaml:"dialog"`
	Output []string `yaml:"output"` // lines, in this order
	Status int      `yaml:"status"`
}

// HTTP is a GET and what must come back.
type HTTP struct {
	Port     int      `yaml:"port"`
	Path     string   `yaml:"path"`
	Status   int      `yaml:"status"` // 200 if 0
	Contains []string `yaml:"contains"`
	Lacks    []string `yaml:"lacks"`
	// Save keeps the first group of a pattern as a variable.
	Save map[string]string `yaml:"save"`
}

// TCP is a conversation over one connection.
type TCP struct {
	Port  int        `yaml:"port"`
	Steps []Exchange `yaml:"steps"`
}

// Exchange sends bytes and reads what comes back.
type Exchange struct {
	Send   string `yaml:"send"`
	Expect string `yaml:"expect"` // the exact bytes
	// Until, instead of Expect, is a pattern: it is read until that matches, and Save
	// keeps its first group as a variable.
	Until string `yaml:"until"`
	Save  string `yaml:"save"`
}

// Step is one thing done to a machine that runs; exactly one of the first group is set.
// ${NAME} stands for a variable that a step before saved.
type Step struct {
	HTTP    *HTTP      `yaml:"http"`
	TCP     *TCP       `yaml:"tcp"`
	Load    *LoadStep  `yaml:"load"`
	EndLoad *EndLoad   `yaml:"end_load"`
	Console string     `yaml:"console"` // a pattern that the console shows from here on
	Signal  *Signal    `yaml:"signal"`
	Run     *RunInside `yaml:"run"`
	Put     *Put       `yaml:"put"`
	End     *End       `yaml:"end"`

	// Requests repeats HTTP and TCP, Parallel at a time.
	Requests int `yaml:"requests"`
	Parallel int `yaml:"parallel"`
	// Within tries HTTP or TCP again until it succeeds or this time is over.
	Within image.Duration `yaml:"within"`
}

// LoadStep speaks HTTP or TCP all the time, until EndLoad; a request that fails is a failure
// of the test.
type LoadStep struct {
	HTTP     *HTTP `yaml:"http"`
	TCP      *TCP  `yaml:"tcp"`
	Parallel int   `yaml:"parallel"` // 1 if 0
	// Spread is the time from one request of a worker to its next.
	Spread image.Duration `yaml:"spread"`
}

// EndLoad ends the load; ${load} is how many requests succeeded.
type EndLoad struct {
	// After is how many requests the load goes on for at least from here on.
	After int `yaml:"after"`
}

// Signal sends a signal to the program, as one to pack run is passed on, or to a process
// of the machine.
type Signal struct {
	Signal string `yaml:"signal"`
	PID    string `yaml:"pid"`
}

// RunInside starts another program of the image in the machine and waits for its end.
type RunInside struct {
	Program string            `yaml:"program"`
	Args    []string          `yaml:"args"`
	Env     map[string]string `yaml:"env"`
	User    *image.User       `yaml:"user"`
	Status  int               `yaml:"status"`
}

// Put writes a file in the machine.
type Put struct {
	Path string `yaml:"path"`
	Text string `yaml:"text"`
}

// End sends a signal (none if empty) and waits for the machine to end by itself.
type End struct {
	Signal string `yaml:"signal"`
	Status int    `yaml:"status"`
}

// Waits is how long the test's steps may try again, all together.
func (s *Smoke) Waits() (d time.Duration) {
	for i := range s.Steps {
		d += time.Duration(s.Steps[i].Within)
	}
	return d
}

func (m *Manifest) checkSmoke() error {
	for i, s := range m.Smoke {
		if s.Program != "" && !path.IsAbs(s.Program) {
			return bad("smoke %d has the program %q, which must be an absolute path in the image", i+1, s.Program)
		}
		kinds := 0
		for _, set := range []bool{s.HTTP != nil, s.TCP != nil, s.SSH != nil, len(s.Steps) > 0} {
			if set {
				kinds++
			}
		}
		if kinds > 1 {
			return bad("smoke %d has more than one of http, tcp, ssh and steps", i+1)
		}
		if kinds == 0 && len(s.Output) == 0 && s.Status == 0 {
			return bad("smoke %d checks nothing", i+1)
		}
		if s.SSH != nil && (s.SSH.Port == 0 || s.SSH.User == "" || s.SSH.KeyEnv == "" || len(s.SSH.Sessions) == 0) {
			return bad("smoke %d: ssh needs port, user, key_env and sessions", i+1)
		}
		for j := range s.Steps {
			if err := s.Steps[j].check(); err != nil {
				return bad("smoke %d, step %d: %w", i+1, j+1, err)
			}
		}
	}
	return nil
}

func (s *Step) check() error {
	kinds := 0
	for _, set := range []bool{s.HTTP != nil, s.TCP != nil, s.Load != nil, s.EndLoad != nil, s.Console != "", s.Signal != nil,
		s.Run != nil, s.Put != nil, s.End != nil} {
		if set {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return fmt.Errorf("it must have one of http, tcp, load, end_load, console, signal, run, put and end")
	case s.Load != nil && (s.Load.HTTP == nil) == (s.Load.TCP == nil):
		return fmt.Errorf("load must have one of http and tcp")
	case s.Run != nil && !path.IsAbs(s.Run.Program):
		return fmt.Errorf("run has the program %q, which must be an absolute path in the image", s.Run.Program)
	case s.Put != nil && !path.IsAbs(s.Put.Path):
		return fmt.Errorf("put has the path %q, which must be absolute", s.Put.Path)
	}
	for _, sig := range s.signals() {
		if _, err := image.ParseSignal(sig); err != nil {
			return err
		}
	}
	for _, x := range s.patterns() {
		if _, err := regexp.Compile(x); err != nil {
			return fmt.Errorf("%q is no pattern (%w)", x, err)
		}
	}
	return nil
}

func (s *Step) signals() (out []string) {
	if s.Signal != nil {
		out = append(out, s.Signal.Signal)
	}
	if s.End != nil {
		out = append(out, s.End.Signal)
	}
	return out
}

func (s *Step) patterns() (out []string) {
	out = append(out, s.Console)
	tcp := s.TCP
	if s.Load != nil && s.Load.TCP != nil {
		tcp = s.Load.TCP
	}
	if tcp != nil {
		for _, e := range tcp.Steps {
			out = append(out, e.Until)
		}
	}
	if s.HTTP != nil {
		for _, x := range s.HTTP.Save {
			out = append(out, x)
		}
	}
	return out
}

// Ports are the ports of the machine that the test connects to.
func (s *Smoke) Ports() []int {
	var out []int
	seen := map[int]bool{}
	add := func(h *HTTP, t *TCP) {
		for _, p := range []int{port(h), portTCP(t)} {
			if p != 0 && !seen[p] {
				seen[p] = true
				out = append(out, p)
			}
		}
	}
	add(s.HTTP, s.TCP)
	if s.SSH != nil {
		out = append(out, s.SSH.Port)
	}
	for i := range s.Steps {
		add(s.Steps[i].HTTP, s.Steps[i].TCP)
		if l := s.Steps[i].Load; l != nil {
			add(l.HTTP, l.TCP)
		}
	}
	return out
}

func port(h *HTTP) int {
	if h == nil {
		return 0
	}
	return h.Port
}

func portTCP(t *TCP) int {
	if t == nil {
		return 0
	}
	return t.Port
}
