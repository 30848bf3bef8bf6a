package smoke

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// control is the control socket of `pack run --control`, connected when it is first
// needed.
type control struct {
	dir string

	mu   sync.Mutex
	conn net.Conn
	next int
	wait map[string]chan string // by tag
}

func newControl() (*control, error) {
	dir, err := os.MkdirTemp("", "kiln-smoke-")
	return &control{dir: dir, wait: map[string]chan string{}}, err
}

func (c *control) path() string { return filepath.Join(c.dir, "ctl") }

func (c *control) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.conn.Close()
	}
	os.RemoveAll(c.dir)
}

func (c *control) send(ctx context.Context, line string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.connect(ctx); err != nil {
		return err
	}
	_, err := fmt.Fprintln(c.conn, line)
	return err
}

// connect is called with mu held.
func (c *control) connect(ctx context.Context) error {
	for c.conn == nil {
		conn, err := net.Dial("unix", c.path())
		if err == nil {
			c.conn = conn
			go c.read(conn)
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the machine's control socket is not there: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// read takes `ran TAG ANSWER`.
func (c *control) read(conn net.Conn) {
	for sc := bufio.NewScanner(conn); sc.Scan(); {
		word, rest, _ := strings.Cut(sc.Text(), " ")
		tag, answer, _ := strings.Cut(rest, " ")
		c.mu.Lock()
		if ch := c.wait[tag]; word == "ran" && ch != nil {
			ch <- answer
			delete(c.wait, tag)
		}
		c.mu.Unlock()
	}
}

// ask sends `VERB TAG WHAT` and waits for the answer.
func (c *control) ask(ctx context.Context, verb, what string) (string, error) {
	c.mu.Lock()
	c.next++
	tag := fmt.Sprint("t", c.next)
	ch := make(chan string, 1)
	c.wait[tag] = ch
	c.mu.Unlock()
	if err := c.send(ctx, verb+" "+tag+" "+what); err != nil {
		return "", err
	}
	select {
	case a := <-ch:
		return a, nil
	case <-ctx.Done():
		return "", errors.New("the machine does not answer on its control port")
	}
}
