// Package smoke tries images out: it boots an entry with `pack run`, does what the
// manifest's smoke section says, stops the machine, and compares.
//
// It is one runner for all entries and knows none by name.
package smoke

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"kiln/capstan/manifest"
)

// Runner runs smoke tests.
type Runner struct {
	Pack string   // the pack executable
	Args []string // more flags for `pack run`
	Env  []string // beside this process's
	// Limit bounds one try, from start to end; 0 is 2 minutes, and what its steps may
	// wait besides (within).
	Limit time.Duration
}

// Failure is a try that did not do what it should, with the console.
type Failure struct {
	Why     error
	Console string
}

func (f *Failure) Error() string {
	return fmt.Sprintf("%v; the console:\n%s", f.Why, f.Console)
}

func (f *Failure) Unwrap() error { return f.Why }

// Run does one try of the image or entry ref.
func (r *Runner) Run(ctx context.Context, ref string, s *manifest.Smoke) error {
	limit := r.Limit
	if limit == 0 {
		limit = 2*time.Minute + s.Waits()
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	args := []string{"run", "--quiet"}
	ports, addrs := s.Ports(), map[int]string{}
	for _, guest := range ports {
		port, err := freePort()
		if err != nil {
			return err
		}
		addrs[guest] = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		args = append(args, "-p", fmt.Sprintf("%d:%d", port, guest))
	}
	if len(ports) == 0 {
		args = append(args, "-p", "none")
	}
	if s.Program != "" {
		args = append(args, "--init", s.Program)
	}
	var key ssh.Signer
	if s.SSH != nil {
		signer, line, err := newKey()
		if err != nil {
			return err
		}
		key, args = signer, append(args, "-e", s.SSH.KeyEnv+"="+line)
	}
	ctl, err := newControl()
	if err != nil {
		return err
	}
	defer ctl.close()
	if len(s.Steps) > 0 {
		args = append(args, "--control", ctl.path())
	}
	args = append(append(args, r.Args...), ref)
	if s.Args != nil {
		args = append(append(args, "--"), s.Args...)
	}
	p, err := r.start(args)
	if err != nil {
		return err
	}
	p.control = ctl
	defer p.kill()
	if err := r.try(ctx, &attempt{p: p, addrs: addrs, vars: map[string]string{}, key: key}, s); err != nil {
		p.kill()
		return &Failure{err, p.console()}
	}
	return nil
}

func (r *Runner) try(ctx context.Context, x *attempt, s *manifest.Smoke) error {
	p := x.p
	if s.Ready != "" {
		if err := p.until(ctx, func() error {
			if strings.Contains(p.stdout(), s.Ready) {
				return nil
			}
			return fmt.Errorf("%w: the console does not show %q", errRetry, s.Ready)
		}); err != nil {
			return err
		}
	}
	ended := false
	switch {
	case len(s.Steps) > 0:
		var err error
		if ended, err = x.steps(ctx, s.Steps); err != nil {
			return err
		}
	case s.HTTP != nil || s.TCP != nil:
		if err := x.requests(ctx, &manifest.Step{HTTP: s.HTTP, TCP: s.TCP, Requests: s.Requests}); err != nil {
			return err
		}
	case s.SSH != nil:
		for range max(1, s.Requests) {
			if err := p.until(ctx, func() error { return login(ctx, x.addrs[s.SSH.Port], s.SSH, x.key) }); err != nil {
				return err
			}
		}
	default:
		return p.end(ctx, s)
	}
	if err := inOrder(p.stdout(), s.Output); err != nil || ended {
		return err
	}
	return p.stop(ctx, s.Status)
}

// errRetry is a failure that a machine which still boots explains.
var errRetry = errors.New("the program does not answer")

func (s *attempt) get(ctx context.Context, h *manifest.HTTP) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	path, err := s.expand(h.Path)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+s.addrs[h.Port]+path, nil)
	if err != nil {
		return err
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", errRetry, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	want := h.Status
	if want == 0 {
		want = http.StatusOK
	}
	if resp.StatusCode != want {
		return fmt.Errorf("GET %s gives status %d, not %d", path, resp.StatusCode, want)
	}
	for _, list := range []struct {
		texts []string
		has   bool
		word  string
	}{{h.Contains, true, "without"}, {h.Lacks, false, "with"}} {
		for _, t := range list.texts {
			if t, err = s.expand(t); err != nil {
				return err
			}
			if bytes.Contains(body, []byte(t)) != list.has {
				return fmt.Errorf("GET %s gives %d bytes %s %q:\n%.500s", path, len(body), list.word, t, body)
			}
		}
	}
	for name, pattern := range h.Save {
		if err := s.save(name, pattern, string(body)); err != nil {
			return fmt.Errorf("GET %s: %w", path, err)
		}
	}
	return nil
}

func (s *attempt) talk(ctx context.Context, t *manifest.TCP) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", s.addrs[t.Port])
	if err != nil {
		return fmt.Errorf("%w: %w", errRetry, err)
	}
	defer conn.Close()
	for i, step := range t.Steps {
		limit := time.Now().Add(20 * time.Second)
		if d, ok := ctx.Deadline(); ok && d.Before(limit) {
			limit = d
		}
		conn.SetDeadline(limit)
		send, err := s.expand(step.Send)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(conn, send); err != nil {
			return first(i, err)
		}
		if step.Until != "" {
			err = s.readUntil(conn, i, send, &step)
		} else {
			err = s.readExactly(conn, i, send, &step)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *attempt) readExactly(conn net.Conn, i int, send string, step *manifest.Exchange) error {
	want, err := s.expand(step.Expect)
	if err != nil {
		return err
	}
	got := make([]byte, len(want))
	if n, err := io.ReadFull(conn, got); err != nil {
		if n > 0 {
			return fmt.Errorf("%q answers %q, then: %w", send, got[:n], err)
		}
		return first(i, err)
	}
	if string(got) != want {
		return fmt.Errorf("%q answers %q, not %q", send, got, want)
	}
	return nil
}

// readUntil reads until the pattern matches what has come.
func (s *attempt) readUntil(conn net.Conn, i int, send string, step *manifest.Exchange) error {
	pattern, err := s.expand(step.Until)
	if err != nil {
		return err
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	var got []byte
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if got = append(got, buf[:n]...); re.Match(got) {
			if step.Save != "" {
				return s.save(step.Save, pattern, string(got))
			}
			return nil
		}
		switch {
		case err != nil && len(got) > 0:
			return fmt.Errorf("%.200q answers %.500q, which does not match %q, then: %w", send, got, pattern, err)
		case err != nil:
			return first(i, err)
		case len(got) > 1<<20:
			return fmt.Errorf("%.200q answers a megabyte that does not match %q", send, pattern)
		}
	}
}

// first says that an error before anything was answered may be a machine that boots:
// QEMU's user network takes connections from the start and drops them.
func first(i int, err error) error {
	if i == 0 {
		return fmt.Errorf("%w: %w", errRetry, err)
	}
	return err
}

// inOrder looks for lines in a console's output.
func inOrder(out string, lines []string) error {
	rest := strings.Split(strings.ReplaceAll(out, "\r", ""), "\n")
	for _, want := range lines {
		i := 0
		for i < len(rest) && strings.TrimRight(rest[i], " ") != want {
			i++
		}
		if i == len(rest) {
			return fmt.Errorf("the console does not show the line %q in its place", want)
		}
		rest = rest[i+1:]
	}
	return nil
}

// process is a `pack run`.
type process struct {
	cmd      *exec.Cmd
	done     chan struct{}
	err      error
	out, all buffer
	control  *control
}

func (r *Runner) start(args []string) (*process, error) {
	p := &process{cmd: exec.Command(r.Pack, args...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), r.Env...)
	p.cmd.Stdout = io.MultiWriter(&p.out, &p.all)
	p.cmd.Stderr = &p.all
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// until repeats a try until it works, fails in a way that waiting does not mend, or
// the machine or the time ends.
func (p *process) until(ctx context.Context, try func() error) error {
	for {
		err := try()
		if !errors.Is(err, errRetry) {
			return err
		}
		select {
		case <-p.done:
			return fmt.Errorf("the machine ended with status %d before it answered", p.status())
		case <-ctx.Done():
			return fmt.Errorf("no answer in time: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// end waits for a program that ends by itself.
func (p *process) end(ctx context.Context, s *manifest.Smoke) error {
	select {
	case <-p.done:
	case <-ctx.Done():
		err := errors.New("the program did not end in time")
		if missing := inOrder(p.stdout(), s.Output); missing != nil {
			err = fmt.Errorf("%w; %w", err, missing)
		}
		return err
	}
	if got := p.status(); got != s.Status {
		return fmt.Errorf("the exit status is %d, not %d", got, s.Status)
	}
	return inOrder(p.stdout(), s.Output)
}

// stop asks pack to end and waits. A server that catches SIGTERM ends with a status of
// its choice, 0 or the manifest's, another of the signal; anything else is a failure.
func (p *process) stop(ctx context.Context, want int) error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-ctx.Done():
		return errors.New("the machine did not stop in time")
	case <-time.After(30 * time.Second):
		return errors.New("the machine did not stop within 30 s of SIGTERM")
	}
	switch st := p.status(); st {
	case 0, want, 128 + int(syscall.SIGTERM):
		return nil
	default:
		return fmt.Errorf("stopped by SIGTERM, it ended with status %d", st)
	}
}

func (p *process) status() int { return p.cmd.ProcessState.ExitCode() }

func (p *process) kill() {
	select {
	case <-p.done:
		return
	default:
	}
	// Two signals make pack kill its machine.
	for range 2 {
		p.cmd.Process.Signal(syscall.SIGTERM)
		time.Sleep(50 * time.Millisecond)
	}
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
	}
}

func (p *process) stdout() string  { return p.out.String() }
func (p *process) console() string { return p.all.String() }

// buffer is written by one goroutine and read by another.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
