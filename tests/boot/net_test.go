package boot

import (
	"errors"
	"fmt"
	"net"
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

func edgeMachine(t *testing.T) (*dialer, net.Conn, func() string) {
	m, n := tapMachine(t, program(t, "edges"), "-m", "128M")
	m.WaitFor(t, "ready\n", bootLimit)
	d := newDialer(t, n, 64)
	var old net.Conn
	eventually(t, 20*time.Second, "the first connection", func() (err error) {
		old, err = d.dial("tcp4", 7001)
		return err
	})
	return d, old, m.Console
}

func TestIdleConnectionsEndAtAnEdgeAndTheMachineServesOn(t *testing.T) {
	n := size(2000, 20000)
	needRoot(t)
	n = manyFiles(t, n)
	d, old, _ := edgeMachine(t)
	conns, err := d.dialMany(n, 7002, nil)
	stat, askErr := ask(old, "stat\n")
	t.Logf("%d of %d connections (first refusal: %v); the machine says %s", len(conns), n, err, stat)
	if askErr != nil || !strings.HasPrefix(stat, "held ") {
		t.Errorf("a connection from before is not served: %q, %v", stat, askErr)
	}
	if len(conns) < 500 {
		t.Errorf("only %d connections were taken", len(conns))
	}
	for _, c := range conns {
		c.Close()
	}
	eventually(t, 60*time.Second, "a new connection is served", d.serves)
	eventually(t, 60*time.Second, "the ended ones are gone", func() error {
		stat, err := ask(old, "stat\n")
		if err == nil && !strings.HasPrefix(stat, "held 0 ") {
			err = errors.New(stat)
		}
		return err
	})
}

func TestConnectionsThatDoNotReadEndAtAnEdgeAndTheMachineServesOn(t *testing.T) {
	n := size(200, 2000)
	needRoot(t)
	n = manyFiles(t, n)
	d, old, console := edgeMachine(t)
	small := func(c net.Conn) { c.(*net.TCPConn).SetReadBuffer(4096) }
	conns, err := d.dialMany(n, 7003, small)
	time.Sleep(2 * time.Second) // the server fills what the kernel takes
	stat, askErr := ask(old, "stat\n")
	t.Logf("%d of %d connections (first refusal: %v); the machine says %s", len(conns), n, err, stat)
	if askErr != nil || !strings.HasPrefix(stat, "held ") {
		t.Errorf("a connection from before is not served: %q, %v", stat, askErr)
	}
	for _, c := range conns {
		c.Close()
	}
	eventually(t, 60*time.Second, "a new connection is served", d.serves)
	if strings.Contains(console(), "out of memory") {
		t.Error("the program was killed for memory that the kernel used")
	}
}

// The other way: the machine's program does not read what peers send.
func TestDataThatTheProgramDoesNotReadEndsAtAnEdge(t *testing.T) {
	n := size(200, 2000)
	needRoot(t)
	n = manyFiles(t, n)
	d, old, console := edgeMachine(t)
	conns, err := d.dialMany(n, 7002, func(c net.Conn) {
		c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		b := make([]byte, 1<<20)
		c.Write(b)
	})
	stat, askErr := ask(old, "stat\n")
	t.Logf("%d of %d connections (first refusal: %v); the machine says %s", len(conns), n, err, stat)
	if askErr != nil || !strings.HasPrefix(stat, "held ") {
		t.Errorf("a connection from before is not served: %q, %v", stat, askErr)
	}
	for _, c := range conns {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	eventually(t, 60*time.Second, "a new connection is served", d.serves)
	if strings.Contains(console(), "out of memory") {
		t.Error("the program was killed for memory that the kernel used")
	}
}

func TestDatagramsFromTheNetworkThatNobodyReadsAreDropped(t *testing.T) {
	n := size(20000, 100000)
	d, old, _ := edgeMachine(t)
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
	eventually(t, 20*time.Second, "a new connection is served", d.serves)
}
