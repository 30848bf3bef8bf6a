package image

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Exec is what one process starts with. What it leaves empty is the configuration's.
type Exec struct {
	// Program is the absolute path of the executable in the root.
	Program string `json:"program,omitempty"`
	// Args are argv, argv[0] included.
	Args []string `json:"args,omitempty"`
	// Env are K=V strings that come before the configuration's of the same name.
	Env     []string `json:"env,omitempty"`
	WorkDir string   `json:"workdir,omitempty"`
	User    *User    `json:"user,omitempty"`
	// Limits replace the configuration's of the same name.
	Limits map[string]Limit `json:"limits,omitempty"`
}

// User is whom a process runs as.
type User struct {
	UID uint32 `json:"uid" yaml:"uid"`
	GID uint32 `json:"gid" yaml:"gid"`
}

// Program is one of the several programs of an image, which the kernel supervises. The
// kernel is process 1 then and the parent of them all.
type Program struct {
	// Name is what the log, the command line and the other programs call it.
	Name string `json:"name"`
	Exec
	// Pipeline, instead of Exec, is two or more processes of which each one's standard
	// output is the next one's standard input. It is one program: it has ended when all
	// have, with the status of the last, or with PipeFail that of the last that failed.
	Pipeline []Exec `json:"pipeline,omitempty"`
	PipeFail bool   `json:"pipefail,omitempty"`
	// Essential marks the program whose end is the machine's, with its exit status. It
	// has the console as standard input and controlling terminal. Without one the
	// machine ends when all programs have, with the status of the first that failed.
	Essential bool `json:"essential,omitempty"`
	// After is what must have happened before it starts.
	After []After `json:"after,omitempty"`
	// Restart is one of Restarts, never if empty. MaxRestarts bounds restarts in a row, 0
	// does not; Backoff is the time before the first, doubled for each that follows up to
	// BackoffMax. A run of BackoffMax (at least StableTime), in which a health check
	// succeeded if there is one, starts the count anew.
	Restart     string   `json:"restart,omitempty"`
	MaxRestarts int      `json:"max_restarts,omitempty"`
	Backoff     Duration `json:"backoff,omitempty"`     // DefaultBackoff if 0
	BackoffMax  Duration `json:"backoff_max,omitempty"` // DefaultBackoffMax if 0
	// IfFailed is what its failure for good does to the machine: one of IfFaileds, end
	// if empty.
	IfFailed string  `json:"if_failed,omitempty"`
	Health   *Health `json:"health,omitempty"`
	// StopSignal asks it to end (SIGTERM if empty), and SIGKILL follows after Patience
	// (DefaultPatience if 0).
	StopSignal string   `json:"stop_signal,omitempty"`
	Patience   Duration `json:"patience,omitempty"`
}

// Programs are several. Its methods keep encoding/json from learning the types of a list
// that is not there: half a million instructions of a boot with one program.
type Programs []Program

// MarshalJSON implements json.Marshaler.
func (p Programs) MarshalJSON() ([]byte, error) { return json.Marshal([]Program(p)) }

// UnmarshalJSON implements json.Unmarshaler.
func (p *Programs) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, (*[]Program)(p)) }

// After is a condition: Program has reached Is, one of Ises ("started" if empty).
type After struct {
	Program string `json:"program" yaml:"program"`
	Is      string `json:"is,omitempty" yaml:"is"`
}

// Health is how a program is asked whether it works: one of TCP, HTTP and Command.
type Health struct {
	// TCP is a port that must take a connection.
	TCP int `json:"tcp,omitempty" yaml:"tcp"`
	// HTTP must answer a GET with Status, or with any from 200 to 399 if it is 0.
	HTTP *HealthHTTP `json:"http,omitempty" yaml:"http"`
	// Command must end with status 0; its output goes nowhere. It runs as the program does.
	Command []string `json:"command,omitempty" yaml:"command"`
	// Address is the machine's own to which TCP and HTTP connect, 127.0.0.1 if empty.
	Address  string   `json:"address,omitempty" yaml:"address"`
	Interval Duration `json:"interval,omitempty" yaml:"interval"` // DefaultInterval if 0
	Timeout  Duration `json:"timeout,omitempty" yaml:"timeout"`   // DefaultTimeout if 0
	// Retries are the failures in a row that make it unhealthy, DefaultRetries if 0.
	Retries int `json:"retries,omitempty" yaml:"retries"`
	// Grace is the time from its start to its first success in which failures do not
	// count, DefaultGrace if 0.
	Grace Duration `json:"grace,omitempty" yaml:"grace"`
	// IfUnhealthy is one of IfUnhealthies, restart if empty.
	IfUnhealthy string `json:"if_unhealthy,omitempty" yaml:"if_unhealthy"`
}

// HealthHTTP is a request.
type HealthHTTP struct {
	Port   int    `json:"port" yaml:"port"`
	Path   string `json:"path,omitempty" yaml:"path"` // "/" if empty
	Status int    `json:"status,omitempty" yaml:"status"`
}

// The words that the keys of a program know.
const (
	RestartNever, RestartOnFailure, RestartAlways = "never", "on-failure", "always"
	FailEnd, FailIgnore                           = "end", "ignore"
	IsStarted, IsHealthy, IsEnded                 = "started", "healthy", "ended"
	UnhealthyRestart, UnhealthyEnd                = "restart", "end"
)

var (
	Restarts      = []string{RestartNever, RestartOnFailure, RestartAlways}
	IfFaileds     = []string{FailEnd, FailIgnore}
	Ises          = []string{IsStarted, IsHealthy, IsEnded} // ended: with status 0
	IfUnhealthies = []string{UnhealthyRestart, UnhealthyEnd}
)

// What keys that are left out mean.
const (
	DefaultBackoff    = Duration(100 * time.Millisecond)
	DefaultBackoffMax = Duration(30 * time.Second)
	StableTime        = Duration(10 * time.Second)
	DefaultPatience   = Duration(10 * time.Second)
	DefaultInterval   = Duration(10 * time.Second)
	DefaultTimeout    = Duration(5 * time.Second)
	DefaultRetries    = 3
	DefaultGrace      = Duration(30 * time.Second)
)

// Duration is a time in nanoseconds, written as 500ms, 10s or 2m.
type Duration int64

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 || v > 24*time.Hour {
		return fmt.Errorf("%q is not a time: write it as 500ms, 10s or 2m", b)
	}
	*d = Duration(v)
	return nil
}

// Or is d, or def if d is 0.
func (d Duration) Or(def Duration) Duration {
	if d == 0 {
		return def
	}
	return d
}

// ParseSignal gives the number of TERM, SIGTERM or 15; TERM for "".
func ParseSignal(s string) (int32, error) {
	if s == "" {
		return int32(unix.SIGTERM), nil
	}
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n <= 64 {
		return int32(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if n := unix.SignalNum(name); n != 0 {
		return int32(n), nil
	}
	return 0, fmt.Errorf("%q is not a signal: write it as TERM, QUIT or 15", s)
}

// Stages are the processes of a program: one, or those of its pipeline.
func (p *Program) Stages() []Exec {
	if len(p.Pipeline) > 0 {
		return p.Pipeline
	}
	return []Exec{p.Exec}
}

// Find is the program with a name, nil if there is none.
func (c *Config) Find(name string) *Program {
	for i := range c.Programs {
		if c.Programs[i].Name == name {
			return &c.Programs[i]
		}
	}
	return nil
}

// Essential is the program that is marked so, nil if none is.
func (c *Config) Essential() *Program {
	for i := range c.Programs {
		if c.Programs[i].Essential {
			return &c.Programs[i]
		}
	}
	return nil
}

// Argv0 is what the process is called.
func (e *Exec) Argv0() string {
	if len(e.Args) > 0 {
		return e.Args[0]
	}
	return e.Program
}

// SetArgs replaces the arguments, but argv[0], of the program: of several, the essential one.
func (c *Config) SetArgs(args []string) error {
	if len(c.Programs) == 0 {
		e := Exec{Program: c.Program, Args: c.Args}
		c.Args = append([]string{e.Argv0()}, args...)
		return nil
	}
	switch p := c.Essential(); {
	case p == nil:
		return fmt.Errorf("the image has %d programs and none is essential: arguments belong to none of them", len(c.Programs))
	case len(p.Pipeline) > 0:
		return fmt.Errorf("the essential program %s is a pipeline: arguments belong to none of its parts", p.Name)
	default:
		p.Args = append([]string{p.Argv0()}, args...)
	}
	return nil
}

// SetEnv sets a variable for all programs.
func (c *Config) SetEnv(key, value string) {
	c.Env = SetEnv(c.Env, key, value)
	for i := range c.Programs {
		p := &c.Programs[i]
		p.unsetEnv(key)
		for j := range p.Pipeline {
			p.Pipeline[j].unsetEnv(key)
		}
	}
}

func (e *Exec) unsetEnv(key string) {
	e.Env = slices.DeleteFunc(e.Env, func(s string) bool { return EnvKey(s) == key })
}

// StopTime is how long the programs may take to end, one after another, when they are
// asked to, in nanoseconds.
func (c *Config) StopTime() Duration {
	if len(c.Programs) == 0 {
		return DefaultPatience
	}
	n := Duration(0)
	for i := range c.Programs {
		n += c.Programs[i].Patience.Or(DefaultPatience)
	}
	return n
}

// CheckPrograms finds the first mistake in the list of programs, in words for whoever
// wrote it.
func (c *Config) CheckPrograms() error {
	if len(c.Programs) == 0 {
		return nil
	}
	if c.Program != "" || len(c.Args) > 0 {
		return fmt.Errorf("program and args are keys of a single program: with programs, each has its own")
	}
	essential := ""
	for i := range c.Programs {
		p := &c.Programs[i]
		if !validProgramName(p.Name) {
			return fmt.Errorf("programs: the name %q must be letters, digits, - and _", p.Name)
		}
		if c.Find(p.Name) != p {
			return fmt.Errorf("programs: there are two with the name %s", p.Name)
		}
		if err := p.check(c); err != nil {
			return fmt.Errorf("programs: %s: %w", p.Name, err)
		}
		if p.Essential && essential != "" {
			return fmt.Errorf("programs: %s and %s are both essential: only one can give the machine its exit status", essential, p.Name)
		}
		if p.Essential {
			essential = p.Name
		}
	}
	return c.checkOrder()
}

func validProgramName(s string) bool {
	return s != "" && len(s) <= 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
}

func (p *Program) check(c *Config) error {
	if len(p.Pipeline) > 0 && (p.Program != "" || len(p.Args) > 0) {
		return fmt.Errorf("it has a program and a pipeline: one of them is to run")
	}
	if len(p.Pipeline) == 1 {
		return fmt.Errorf("a pipeline has two programs at least")
	}
	for _, e := range p.Stages() {
		if !path.IsAbs(e.Program) {
			return fmt.Errorf("program %q must be an absolute path in the image", e.Program)
		}
		for name := range e.Limits {
			if !slices.Contains(LimitNames, name) {
				return fmt.Errorf("limits has %q, which is none of %s", name, strings.Join(LimitNames, ", "))
			}
		}
	}
	if p.MaxRestarts < 0 {
		return fmt.Errorf("max_restarts %d is less than 0", p.MaxRestarts)
	}
	if p.Backoff.Or(DefaultBackoff) > p.BackoffMax.Or(DefaultBackoffMax) {
		return fmt.Errorf("backoff %v is more than backoff_max %v", time.Duration(p.Backoff), time.Duration(p.BackoffMax.Or(DefaultBackoffMax)))
	}
	if _, err := ParseSignal(p.StopSignal); err != nil {
		return fmt.Errorf("stop_signal: %w", err)
	}
	for _, err := range []error{OneOf("restart", p.Restart, Restarts), OneOf("if_failed", p.IfFailed, IfFaileds), p.Health.check()} {
		if err != nil {
			return err
		}
	}
	for _, a := range p.After {
		if err := p.checkAfter(c, a); err != nil {
			return fmt.Errorf("after: %w", err)
		}
	}
	return nil
}

func (p *Program) checkAfter(c *Config, a After) error {
	o := c.Find(a.Program)
	switch {
	case o == nil:
		return fmt.Errorf("there is no program %q", a.Program)
	case o == p:
		return fmt.Errorf("it waits for itself")
	case a.Is == IsHealthy && o.Health == nil:
		return fmt.Errorf("%s has no health check that could tell when it is healthy", o.Name)
	case a.Is == IsEnded && o.Restart == RestartAlways:
		return fmt.Errorf("%s never ends, since it is restarted always", o.Name)
	case a.Is == IsEnded && o.Essential:
		return fmt.Errorf("the machine ends with %s, which is essential", o.Name)
	}
	return OneOf("is", a.Is, Ises)
}

func (h *Health) check() error {
	if h == nil {
		return nil
	}
	kinds := 0
	for _, set := range []bool{h.TCP != 0, h.HTTP != nil, len(h.Command) > 0} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		return fmt.Errorf("health must have one of tcp, http and command")
	}
	port := h.TCP
	if h.HTTP != nil {
		port = h.HTTP.Port
		if h.HTTP.Path != "" && (h.HTTP.Path[0] != '/' || strings.ContainsAny(h.HTTP.Path, " \r\n")) {
			return fmt.Errorf("health: the path %q must begin with / and have no spaces", h.HTTP.Path)
		}
	}
	if len(h.Command) == 0 && (port < 1 || port > 65535) {
		return fmt.Errorf("health: port %d is not between 1 and 65535", port)
	}
	if len(h.Command) > 0 && !path.IsAbs(h.Command[0]) {
		return fmt.Errorf("health: command %q must be an absolute path in the image", h.Command[0])
	}
	if _, err := netip.ParseAddr(h.Address); h.Address != "" && err != nil {
		return fmt.Errorf("health: address %q is not an IP address", h.Address)
	}
	if h.Retries < 0 {
		return fmt.Errorf("health: retries %d is less than 0", h.Retries)
	}
	return OneOf("if_unhealthy", h.IfUnhealthy, IfUnhealthies)
}

// checkOrder finds programs that wait for each other.
func (c *Config) checkOrder() error {
	state := map[string]int{} // 1: being looked at, 2: done
	var visit func(p *Program) error
	visit = func(p *Program) error {
		switch state[p.Name] {
		case 1:
			return fmt.Errorf("programs: %s waits for itself through what it is to start after", p.Name)
		case 2:
			return nil
		}
		state[p.Name] = 1
		for _, a := range p.After {
			if err := visit(c.Find(a.Program)); err != nil {
				return err
			}
		}
		state[p.Name] = 2
		return nil
	}
	for i := range c.Programs {
		if err := visit(&c.Programs[i]); err != nil {
			return err
		}
	}
	return nil
}
