// Package vmtest runs machines for the tests: images baked by the pack command of
// this tree, booted by `pack run` as a user would, with their console and exit
// status at hand.
package vmtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Root is the top of the tree.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("no go.mod above %s", dir)
		}
	}
}

// Pack is the path of build/pack, beside which the kernel lies.
func Pack() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	p := filepath.Join(root, "build", "pack")
	if _, err := os.Stat(p); err != nil {
		return "", errors.New("build/pack is missing: run `make kernel pack`")
	}
	return p, nil
}

// FreePort is want if nobody listens there, else a port that is free now.
func FreePort(want int) (int, error) {
	for _, p := range []int{want, 0} {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			continue
		}
		defer l.Close()
		return l.Addr().(*net.TCPAddr).Port, nil
	}
	return 0, errors.New("no free TCP port")
}

// Bake makes an image of what (a name, a path) in the test's own folder.
func Bake(t testing.TB, what string, flags ...string) string {
	t.Helper()
	pack := need(t)
	img := filepath.Join(t.TempDir(), "image")
	args := append([]string{"build", what, "-o", img}, flags...)
	if out, err := exec.Command(pack, args...).CombinedOutput(); err != nil {
		t.Fatalf("pack %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return img
}

func need(t testing.TB) string {
	t.Helper()
	p, err := Pack()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Machine is a running `pack run`.
type Machine struct {
	cmd   *exec.Cmd
	out   buffer
	ended chan struct{}
	err   error
}

// CPUs is how many CPUs the machines of this run have: KILN_CPUS, else 1.
func CPUs() string {
	if n := os.Getenv("KILN_CPUS"); n != "" {
		return n
	}
	return "1"
}

// RunArgs is the beginning of `pack run`, quiet and with CPUs. Flags after it override.
func RunArgs(args ...string) []string {
	return append([]string{"run", "--quiet", "-c", CPUs()}, args...)
}

// Boot starts `pack run` with args (flags, then the image, then -- and arguments). It
// is stopped when the test ends.
func Boot(t testing.TB, args ...string) *Machine {
	t.Helper()
	return Start(t, exec.Command(need(t), RunArgs(args...)...))
}

// Start is Boot with a command line of the caller's, such as one in a namespace.
func Start(t testing.TB, cmd *exec.Cmd) *Machine {
	t.Helper()
	m := &Machine{cmd: cmd, ended: make(chan struct{})}
	m.cmd.Stdout, m.cmd.Stderr = &m.out, &m.out
	// A test that times out leaves no machine behind: pack's own QEMU dies with it.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { m.err = m.cmd.Wait(); close(m.ended) }()
	t.Cleanup(func() { m.kill() })
	return m
}

func (m *Machine) kill() {
	select {
	case <-m.ended:
		return
	default:
	}
	m.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-m.ended:
	case <-time.After(15 * time.Second):
		m.cmd.Process.Kill()
		<-m.ended
	}
}

// Console is what the machine printed so far.
func (m *Machine) Console() string { return m.out.String() }

// Ended is closed when pack has returned.
func (m *Machine) Ended() <-chan struct{} { return m.ended }

// Signal sends a signal to pack.
func (m *Machine) Signal(sig syscall.Signal) { m.cmd.Process.Signal(sig) }

// Stop asks for an orderly end and returns the exit status.
func (m *Machine) Stop(t testing.TB, limit time.Duration) int {
	t.Helper()
	m.cmd.Process.Signal(syscall.SIGTERM)
	return m.Status(t, limit)
}

// Status waits for the end and returns pack's exit status.
func (m *Machine) Status(t testing.TB, limit time.Duration) int {
	t.Helper()
	select {
	case <-m.ended:
	case <-time.After(limit):
		m.kill()
		t.Fatalf("the machine still ran after %s; its console:\n%s", limit, m.Console())
	}
	var exit *exec.ExitError
	switch {
	case m.err == nil:
		return 0
	case errors.As(m.err, &exit):
		return exit.ExitCode()
	}
	t.Fatal(m.err)
	return -1
}

// WaitFor waits until the console holds text.
func (m *Machine) WaitFor(t testing.TB, text string, limit time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for !strings.Contains(m.Console(), text) {
		select {
		case <-ctx.Done():
			t.Fatalf("the console did not show %q in %s:\n%s", text, limit, m.Console())
		case <-m.ended:
			if !strings.Contains(m.Console(), text) {
				t.Fatalf("the machine ended without showing %q:\n%s", text, m.Console())
			}
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Run boots an image to its end and returns console and status.
func Run(t testing.TB, limit time.Duration, args ...string) (string, int) {
	t.Helper()
	m := Boot(t, args...)
	s := m.Status(t, limit)
	return m.Console(), s
}

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
