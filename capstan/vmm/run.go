// Package vmm starts machines and follows them to their end.
//
// A machine is one QEMU process, or one of the kernel itself (Process), with its console on
// pack's own standard input and output, and a virtio-console port named org.kiln.ctl on a
// socket. On that port the kernel writes how the program ended, `exit N`, `signal N` or
// `panic`, a line each, and pack writes `stop`, `signal N` and what else kernel/system's
// control knows. The port and not the console carries it, since a program may print anything.
package vmm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"kiln/capstan/scratch"
)

// PanicStatus is the exit status for a machine that ended without its program's.
const PanicStatus = 125

const (
	// stopTime is how long a program may take to stop when it is asked to: the kernel
	// gives it 10 s between SIGTERM and SIGKILL. stopMore is for the machine itself.
	stopTime = 10 * time.Second
	stopMore = 4 * time.Second
	// offLimit is how long it may take from the status line to the machine's end.
	offLimit = 5 * time.Second
	// lastOutput is how long the reader of a machine that was stopped may take for the rest of
	// its output: pack is to end though that one pauses for ever.
	lastOutput = time.Second
	// connectTime is how long a machine's connection is looked for after its end: that it is there
	// needs only to be noticed.
	connectTime = 100 * time.Millisecond
	tailSize    = 4096
	// maxSocket is the longest path that a Unix socket can have (unix(7), sun_path without the
	// zero that QEMU puts behind it).
	maxSocket = 107
)

// Streams are where the console goes.
type Streams struct {
	In       io.Reader // nil: nothing is typed
	Out, Err io.Writer
	// Plain turns the console's CR LF into LF.
	Plain bool
	// Signals are sent to the program; nil: none.
	Signals <-chan os.Signal
	// Control, if set, takes connections whose lines go to the control port and which
	// get every line that comes from it.
	Control net.Listener
}

// Run starts a machine and waits for its end. Each value from stop asks it to end: the
// first in an orderly way, the second at once. The status is the program's, 128 + the
// signal that killed it, or PanicStatus.
func Run(ctx context.Context, m *Machine, s Streams, stop <-chan os.Signal) (status int, err error) {
	bin, err := m.Find()
	if err != nil {
		return 0, err
	}
	dir, remove, err := scratch.Make("", "kiln-run-")
	if err != nil {
		return 0, fmt.Errorf("no folder for the machine's control socket: %w", err)
	}
	defer remove()
	m.Control = filepath.Join(dir, "ctl")
	if len(m.Control) > maxSocket {
		return 0, fmt.Errorf("the name of %s is too long for the machine's control socket: set TMPDIR to a folder with a shorter one", dir)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: m.Control, Net: "unix"})
	if err != nil {
		return 0, fmt.Errorf("the machine's control socket cannot be made: %w", err)
	}
	defer l.Close()
	args, done, err := m.command(dir)
	if err != nil {
		return 0, err
	}
	defer done()
	r := &runner{name: "QEMU", ctl: newControl(l), tail: &tail{}, patience: m.StopTime}
	if r.patience == 0 {
		r.patience = stopTime
	}
	r.patience += stopMore
	if s.Control != nil {
		go r.ctl.share(s.Control)
	}
	r.cmd = exec.Command(bin, args...)
	if m.Kind == Process {
		img, err := os.Open(m.Kernel)
		if err != nil {
			return 0, err
		}
		defer img.Close()
		r.name, r.alone, r.cmd.ExtraFiles = ProcessKernel, true, []*os.File{img}
	}
	if err := r.start(s); err != nil {
		return 0, err
	}
	return r.follow(ctx, s, stop)
}

// Find is the program that runs a machine.
func (m *Machine) Find() (string, error) {
	if m.Kind == Process {
		return FindProcess()
	}
	return FindQEMU()
}

// command is that program's arguments; done ends what serves it.
func (m *Machine) command(dir string) (args []string, done func(), err error) {
	if m.Kind == Process {
		return m.processArgs(dir)
	}
	args, err = m.Args()
	return args, func() {}, err
}

type runner struct {
	name   string // of the program that runs the machine
	alone  bool   // in namespaces of its own, if that can be
	cmd    *exec.Cmd
	ctl    *control
	tail   *tail
	out    *console
	errs   bytes.Buffer // that program's own messages
	exited chan error
	// copied is closed when all of the output is written.
	copied chan struct{}
	// patience is how long the machine may take from stop to its end.
	patience time.Duration
}

// start starts the program in a session of its own, so that an interrupt typed on the terminal
// reaches pack alone.
func (r *runner) start(s Streams) error {
	out := io.Writer(s.Out)
	if s.Plain {
		out = &dropCR{w: out}
	}
	r.out = &console{w: out, failed: make(chan error, 1)}
	// A pipe of its own: the program's end and that of its output are two things.
	output, stdout, err := os.Pipe()
	if err != nil {
		return err
	}
	r.cmd.Stdout = stdout
	r.cmd.Stderr = &r.errs
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if r.alone {
		namespaces(r.cmd.SysProcAttr)
	}
	in, stdin, err := os.Pipe()
	if err != nil {
		output.Close()
		stdout.Close()
		return err
	}
	r.cmd.Stdin = in
	started := make(chan error)
	r.exited = make(chan error, 1)
	go func() {
		// Pdeathsig acts when the thread that started the child ends, so this one stays.
		runtime.LockOSThread()
		err := r.cmd.Start()
		if err != nil && r.alone {
			// Not everywhere may a user make namespaces: it runs without them.
			c := *r.cmd.SysProcAttr
			c.Cloneflags, c.UidMappings, c.GidMappings = 0, nil, nil
			again := exec.Command(r.cmd.Path, r.cmd.Args[1:]...)
			again.Stdin, again.Stdout, again.Stderr, again.ExtraFiles, again.SysProcAttr = in, r.cmd.Stdout, r.cmd.Stderr, r.cmd.ExtraFiles, &c
			r.cmd = again
			err = r.cmd.Start()
		}
		in.Close()
		stdout.Close()
		started <- err
		if err == nil {
			r.exited <- r.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		output.Close()
		return fmt.Errorf("%s cannot be started: %w", filepath.Base(r.cmd.Path), err)
	}
	r.copied = make(chan struct{})
	go func() {
		io.Copy(io.MultiWriter(r.tail, r.out), output)
		output.Close()
		close(r.copied)
	}()
	if s.In != nil {
		go func() {
			io.Copy(stdin, s.In)
			// A serial line has no end of file; a terminal says it with Ctrl-D.
			stdin.Write([]byte{4})
		}()
	}
	return nil
}

// follow waits for the end: the program's, and then that of its output. A reader that pauses has
// its time until the machine is to stop.
func (r *runner) follow(ctx context.Context, s Streams, stop <-chan os.Signal) (int, error) {
	var deadline, cut <-chan time.Time
	var copied chan struct{} // r.copied once the program has ended
	var end error
	exited, status := r.exited, r.ctl.status
	have, code, stopping := false, 0, false
	finish := func() (int, error) {
		if have {
			return code, nil
		}
		return r.finish(s, stopping, end)
	}
	ask := func() {
		stopping = true
		if exited == nil {
			cut = time.After(lastOutput)
			return
		}
		r.ctl.send("stop\n")
		if !have {
			deadline = time.After(r.patience)
		}
	}
	for {
		select {
		case end = <-exited:
			exited, copied, deadline = nil, r.copied, nil
			if stopping {
				cut = time.After(lastOutput)
			}
		case <-copied:
			return finish()
		case <-cut:
			return finish()
		case code = <-status:
			have, status = true, nil
			deadline = time.After(offLimit)
		case <-ctx.Done():
			r.kill(exited)
			return PanicStatus, ctx.Err()
		case <-stop:
			switch {
			case !stopping:
				ask()
			case exited != nil:
				r.cmd.Process.Kill()
			default:
				return finish()
			}
		case err := <-r.out.failed:
			if gone := r.unwritten(s, err); gone && !stopping {
				ask()
			}
		case sig := <-s.Signals:
			if n, ok := sig.(syscall.Signal); ok {
				r.ctl.send(fmt.Sprintf("signal %d\n", n))
			}
		case <-deadline:
			deadline = nil
			r.cmd.Process.Kill()
		}
	}
}

// finish is the status of a machine that has ended and was not heard of before.
func (r *runner) finish(s Streams, stopping bool, end error) (int, error) {
	// The line may have arrived with the end of the machine.
	r.ctl.close()
	if code, have := r.ctl.last(); have {
		return code, nil
	}
	return r.lost(s, stopping, end)
}

// unwritten tells of output that cannot be written, unless who read it is gone: that is the end
// of a program in a pipeline, too.
func (r *runner) unwritten(s Streams, err error) (gone bool) {
	if gone = errors.Is(err, syscall.EPIPE); !gone {
		fmt.Fprintf(s.Err, "pack: the console's output is lost where it cannot be written (%s); the machine goes on\n", reason(err))
	}
	return gone
}

// kill ends the program if it has not ended yet, which exited, if not nil, tells.
func (r *runner) kill(exited <-chan error) {
	if exited != nil {
		r.cmd.Process.Kill()
		<-exited
	}
	select {
	case <-r.copied:
	case <-time.After(lastOutput):
	}
}

// lost reports a machine that ended without a word on its program.
func (r *runner) lost(s Streams, stopping bool, err error) (int, error) {
	if stopping {
		return 128 + int(syscall.SIGKILL), nil // it was killed, on request or after waiting
	}
	var ee *exec.ExitError
	if msg := strings.TrimSpace(r.errs.String()); errors.As(err, &ee) && msg != "" {
		if first, _, _ := strings.Cut(msg, "\n"); ee.ExitCode() == 1 && r.tail.len() == 0 {
			return 1, fmt.Errorf("%s did not start the machine: %s", r.name, strings.TrimPrefix(first, filepath.Base(r.cmd.Path)+": "))
		}
		fmt.Fprintln(s.Err, msg)
	}
	what := "the machine ended without saying how its program did"
	if ee != nil {
		if ws, ok := ee.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			what = fmt.Sprintf("%s crashed or was killed (%v) before the machine said how its program did", r.name, ws.Signal())
		}
	}
	fmt.Fprintf(s.Err, "pack: %s; the console's last lines:\n%s", what, r.tail.lines(20))
	return PanicStatus, nil
}

// control is the machine's port org.kiln.ctl.
type control struct {
	status chan int // gets one value at most

	mu     sync.Mutex
	conn   net.Conn
	queued string
	code   int
	have   bool
	done   chan struct{} // closed when nothing more will come
	l      *net.UnixListener
	shared []net.Conn // of Streams.Control
}

func newControl(l *net.UnixListener) *control {
	c := &control{status: make(chan int, 1), done: make(chan struct{}), l: l}
	go func() {
		defer close(c.done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		c.conn = conn
		if c.queued != "" {
			io.WriteString(conn, c.queued)
		}
		c.mu.Unlock()
		sc := bufio.NewScanner(conn)
		for sc.Scan() {
			c.tell(sc.Text())
			if code, ok := parseStatus(sc.Text()); ok {
				c.mu.Lock()
				first := !c.have
				if first {
					c.code, c.have = code, true
				}
				c.mu.Unlock()
				if first {
					c.status <- code
				}
			}
		}
	}()
	return c
}

// parseStatus reads a line of the control port.
func parseStatus(line string) (int, bool) {
	word, num, _ := strings.Cut(strings.TrimSpace(line), " ")
	n, err := strconv.Atoi(num)
	switch {
	case word == "panic":
		return PanicStatus, true
	case word == "exit" && err == nil:
		return n & 0xff, true
	case word == "signal" && err == nil && n > 0 && n < 128:
		return 128 + n, true
	}
	return 0, false
}

// share lets others speak to the machine.
func (c *control) share(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		c.shared = append(c.shared, conn)
		c.mu.Unlock()
		go func() {
			sc := bufio.NewScanner(conn)
			for sc.Scan() {
				c.send(sc.Text() + "\n")
			}
			c.mu.Lock()
			c.shared = slices.DeleteFunc(c.shared, func(o net.Conn) bool { return o == conn })
			c.mu.Unlock()
			conn.Close()
		}()
	}
}

// tell passes a line of the machine's on.
func (c *control) tell(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.shared {
		conn.SetWriteDeadline(time.Now().Add(time.Second))
		io.WriteString(conn, line+"\n")
	}
}

func (c *control) send(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		c.queued += s
		return
	}
	c.conn.SetWriteDeadline(time.Now().Add(time.Second))
	io.WriteString(c.conn, s)
}

// close waits for what is still in the socket after the machine's end. Its connection may not
// have been taken yet.
func (c *control) close() {
	c.l.SetDeadline(time.Now().Add(connectTime))
	select {
	case <-c.done:
	case <-time.After(time.Second):
	}
	c.l.Close()
}

func (c *control) last() (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.code, c.have
}

// tail keeps the last bytes written.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if n := len(t.b) - tailSize; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(p), nil
}

func (t *tail) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.b)
}

func (t *tail) lines(n int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimRight(strings.ReplaceAll(string(t.b), "\r", ""), "\n")
	if text == "" {
		return "(none)\n"
	}
	lines := strings.Split(text, "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n") + "\n"
}

// console is where a machine's output goes. What cannot be written is dropped: the machine is
// not to wait for it.
type console struct {
	w      io.Writer
	failed chan error // gets the first error
	once   sync.Once
}

func (c *console) Write(p []byte) (int, error) {
	if _, err := c.w.Write(p); err != nil {
		c.once.Do(func() { c.failed <- err })
	}
	return len(p), nil
}

// dropCR leaves out the carriage returns that a terminal driver puts before newlines.
type dropCR struct {
	w  io.Writer
	cr bool
}

func (d *dropCR) Write(p []byte) (int, error) {
	out := make([]byte, 0, len(p)+1)
	for _, c := range p {
		if d.cr && c != '\n' {
			out = append(out, '\r')
		}
		if d.cr = c == '\r'; !d.cr {
			out = append(out, c)
		}
	}
	if _, err := d.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}
