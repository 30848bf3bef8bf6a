package boot

import (
	"fmt"
	"net"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/tests/tapnet"
)

// dialer makes connections inside a network namespace: its threads live there, and a
// socket stays in the namespace that it was made in.
type dialer struct {
	work chan func()
	wg   sync.WaitGroup
}

func newDialer(t testing.TB, n *tapnet.Net, threads int) *dialer {
	t.Helper()
	d := &dialer{work: make(chan func())}
	ready := make(chan error, threads)
	for range threads {
		d.wg.Add(1)
		go func() {
			defer d.wg.Done()
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			ready <- enter(n.NS)
			for f := range d.work {
				f()
			}
		}()
	}
	for range threads {
		if err := <-ready; err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { close(d.work); d.wg.Wait() })
	return d
}

func enter(ns string) error {
	for _, dir := range []string{"/run/netns/", "/var/run/netns/"} {
		fd, err := unix.Open(dir+ns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(fd)
			return unix.Setns(fd, unix.CLONE_NEWNET)
		}
	}
	return fmt.Errorf("no network namespace %s", ns)
}

// dialLimit is how long a connection may take that is not refused: an edge may drop its
// SYN, and Linux then repeats it after 1, 3 and 7 s.
const dialLimit = 8 * time.Second

// dial connects; udp connects a datagram socket.
func (d *dialer) dial(network string, port int) (c net.Conn, err error) {
	done := make(chan struct{})
	d.work <- func() {
		defer close(done)
		nd := net.Dialer{Timeout: dialLimit}
		c, err = nd.Dial(network, net.JoinHostPort(tapnet.GuestIP, strconv.Itoa(port)))
	}
	<-done
	return c, err
}

// dialMany makes n connections at once and gives those that were made, and the first
// error of the others. After 64 errors it stops: the edge is found.
func (d *dialer) dialMany(n, port int, each func(net.Conn)) (conns []net.Conn, first error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	limit := make(chan struct{}, 64)
	var failed atomic.Int32
	for range n {
		if failed.Load() >= 64 {
			break
		}
		limit <- struct{}{}
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer func() { <-limit }()
			c, err := d.dial("tcp4", port)
			if err == nil && each != nil {
				each(c)
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				conns = append(conns, c)
			} else {
				failed.Add(1)
				if first == nil {
					first = err
				}
			}
		}()
	}
	wg.Wait()
	return conns, first
}

// ask sends a line on an echo connection and reads the answer.
func ask(c net.Conn, line string) (string, error) {
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := c.Write([]byte(line)); err != nil {
		return "", err
	}
	b := make([]byte, 256)
	n, err := c.Read(b)
	return string(b[:n]), err
}

// serves says whether a new connection is served.
func (d *dialer) serves() error {
	c, err := d.dial("tcp4", 7001)
	if err != nil {
		return err
	}
	defer c.Close()
	if got, err := ask(c, "hello\n"); err != nil || got != "hello\n" {
		return fmt.Errorf("echo gives %q, %v", got, err)
	}
	return nil
}

// manyFiles lets this process have a socket for each of n connections, or for as many
// as the host allows, which it returns.
func manyFiles(t testing.TB, n int) int {
	t.Helper()
	const others = 500
	var now syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now); err != nil {
		t.Fatal(err)
	}
	want := uint64(n + others)
	if now.Cur >= want {
		return n
	}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: want, Max: max(want, now.Max)}) == nil {
		return n
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: now.Max, Max: now.Max}); err != nil {
		t.Fatal(err)
	}
	t.Logf("the host allows %d descriptors: %d connections, not %d", now.Max, now.Max-others, n)
	return int(now.Max) - others
}

// edges is a machine of testdata/edges.c, with a connection from before the flood.
type edges struct {
	d       *dialer
	old     net.Conn
	console func() string
	charged int // kB of the kernel's memory that were in use then
}

// stat asks the machine for its counters.
func (e *edges) stat() (line string, held, charged int, err error) {
	if line, err = ask(e.old, "stat\n"); err != nil {
		return line, 0, 0, err
	}
	if m := reStat.FindStringSubmatch(line); m != nil {
		held, _ = strconv.Atoi(m[1])
		charged, _ = strconv.Atoi(m[2])
		return line, held, charged, nil
	}
	return line, 0, 0, fmt.Errorf("stat gives %q", line)
}

var reStat = regexp.MustCompile(`^held (\d+) .* charged (\d+) `)

// recovers waits until nothing of the flood is left: the connections are gone, new
// ones are served, and what they were charged has been given back.
func (e *edges) recovers(t *testing.T) {
	t.Helper()
	eventually(t, 60*time.Second, "a new connection is served", e.d.serves)
	eventually(t, 120*time.Second, "the ended ones are gone, and their charges", func() error {
		line, held, charged, err := e.stat()
		// The descriptor table keeps its size.
		if err == nil && (held != 0 || charged > e.charged+512) {
			err = fmt.Errorf("%d kB were charged before; now %s", e.charged, line)
		}
		return err
	})
	if strings.Contains(e.console(), "out of memory") {
		t.Error("the program was killed for memory that the kernel used")
	}
}

func edgeMachine(t *testing.T) *edges {
	m, n := tapMachine(t, program(t, "edges"), "-m", "128M")
	m.WaitFor(t, "ready\n", bootLimit)
	d := newDialer(t, n, 64)
	// Before the dialer's threads end, for one of them may have started the machine, and
	// it ends with its thread (vmtest.Start).
	t.Cleanup(func() {
		select {
		case <-m.Ended():
			t.Errorf("the machine has ended, with status %d", m.Status(t, time.Second))
		default:
		}
	})
	var old net.Conn
	eventually(t, 20*time.Second, "the first connection", func() (err error) {
		old, err = d.dial("tcp4", 7001)
		return err
	})
	e := &edges{d: d, old: old, console: m.Console}
	var err error
	if _, _, e.charged, err = e.stat(); err != nil {
		t.Fatal(err)
	}
	return e
}

// hangUp closes connections some at a time. A close with data unread is one RST, which
// TCP never repeats: the host's queue to the machine holds a thousand frames, and a
// peer that loses its RST rightly waits for minutes.
func hangUp(conns []net.Conn) {
	for i, c := range conns {
		c.Close()
		if i%50 == 49 {
			time.Sleep(50 * time.Millisecond)
		}
	}
}

func TestIdleConnectionsEndAtAnEdgeAndTheMachineServesOn(t *testing.T) {
	n := size(2000, 20000)
	needRoot(t)
	n = manyFiles(t, n)
	e := edgeMachine(t)
	// Twice: what the first flood left behind would show in the second.
	for range 2 {
		conns, err := e.d.dialMany(n, 7002, nil)
		line, _, _, askErr := e.stat()
		t.Logf("%d of %d connections (first refusal: %v); the machine says %s", len(conns), n, err, line)
		if askErr != nil {
			t.Errorf("a connection from before is not served: %v", askErr)
		}
		if len(conns) < min(n, 5000) {
			t.Errorf("only %d connections were taken", len(conns))
		}
		hangUp(conns)
		e.recovers(t)
	}
}

func TestConnectionsThatDoNotReadEndAtAnEdgeAndTheMachineServesOn(t *testing.T) {
	n := size(200, 2000)
	needRoot(t)
	n = manyFiles(t, n)
	e := edgeMachine(t)
	small := func(c net.Conn) { c.(*net.TCPConn).SetReadBuffer(4096) }
	conns, err := e.d.dialMany(n, 7003, small)
	time.Sleep(2 * time.Second) // the server fills what the kernel takes
	line, _, _, askErr := e.stat()
	t.Logf("%d of %d connections (first refusal: %v); the machine says %s", len(conns), n, err, line)
	if askErr != nil {
		t.Errorf("a connection from before is not served: %v", askErr)
	}
	hangUp(conns)
	e.recovers(t)
}

// The other way: the machine's program does not read what peers send.
func TestDataThatTheProgramDoesNotReadEndsAtAnEdge(t *testing.T) {
	n := size(200, 2000)
	needRoot(t)
	n = manyFiles(t, n)
	e := edgeMachine(t)
	conns, err := e.d.dialMany(n, 7002, func(c net.Conn) {
		c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		b := make([]byte, 1<<20)
		c.Write(b)
	})
	line, _, _, askErr := e.stat()
	t.Logf("%d of %d connections (first refusal: %v); the machine says %s", len(conns), n, err, line)
	if askErr != nil {
		t.Errorf("a connection from before is not served: %v", askErr)
	}
	for _, c := range conns {
		c.(*net.TCPConn).SetLinger(0)
	}
	hangUp(conns)
	// Where segments were dropped the peer's RST is not at the number that is due, and
	// counts only after a challenge that is sent twice a second at most (RFC 5961 3.2
	// and 7): as on Linux, some connections stay until the program closes them.
	if _, err := ask(e.old, "drop\n"); err != nil {
		t.Errorf("a connection from before is not served: %v", err)
	}
	e.recovers(t)
}

func TestDatagramsFromTheNetworkThatNobodyReadsAreDropped(t *testing.T) {
	n := size(20000, 100000)
	e := edgeMachine(t)
	d, old := e.d, e.old
	c, err := d.dial("udp4", 7005)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 1400)
	for i := range n {
		c.Write(b[:1+(i&1)*1399])
	}
	if got, err := ask(old, "hello\n"); err != nil || got != "hello\n" {
		t.Errorf("TCP gives %q, %v", got, err)
	}
	u, err := d.dial("udp4", 7006)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	eventually(t, 20*time.Second, "a datagram is echoed", func() error {
		u.SetDeadline(time.Now().Add(time.Second))
		if _, err := u.Write([]byte("hi")); err != nil {
			return err
		}
		_, err := u.Read(b)
		return err
	})
	e.recovers(t)
}
