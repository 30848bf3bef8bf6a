package smoke

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"kiln/capstan/manifest"
)

// Size of the terminal that a session with a pty has.
const (
	ptyRows, ptyColumns = 30, 100
	stepLimit           = 20 * time.Second
)

// newKey makes the key that one try logs in with, and its line of authorized_keys.
func newKey() (ssh.Signer, string, error) {
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, "", err
	}
	s, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		return nil, "", err
	}
	return s, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.PublicKey()))), nil
}

// login speaks SSH: each session of the manifest in turn, over one connection.
func login(ctx context.Context, addr string, s *manifest.SSH, key ssh.Signer) error {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("%w: %w", errRetry, err)
	}
	defer raw.Close()
	if t, ok := ctx.Deadline(); ok {
		raw.SetDeadline(t)
	}
	// Who logs in for the first time believes the host key: it was made at this boot.
	conn, chans, reqs, err := ssh.NewClientConn(raw, addr, &ssh.ClientConfig{
		User: s.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errRetry, err)
	}
	c := ssh.NewClient(conn, chans, reqs)
	defer c.Close()
	for i := range s.Sessions {
		if err := session(ctx, c, &s.Sessions[i]); err != nil {
			return fmt.Errorf("session %d: %w", i+1, err)
		}
	}
	return nil
}

// session is one: a command or a login shell, without or on a terminal.
func session(ctx context.Context, c *ssh.Client, w *manifest.SSHSession) error {
	s, err := c.NewSession()
	if err != nil {
		return err
	}
	defer s.Close()
	if w.PTY {
		if err := s.RequestPty("xterm", ptyRows, ptyColumns, ssh.TerminalModes{}); err != nil {
			return fmt.Errorf("no terminal: %w", err)
		}
	}
	in, err := s.StdinPipe()
	if err != nil {
		return err
	}
	t := &transcript{more: make(chan struct{}, 1)}
	s.Stdout, s.Stderr = t, t
	if w.Run != "" {
		err = s.Start(w.Run)
	} else {
		err = s.Shell()
	}
	if err != nil {
		return err
	}
	for _, step := range w.Dialog {
		if step.Resize != nil {
			if err := s.WindowChange(step.Resize.Rows, step.Resize.Columns); err != nil {
				return err
			}
		}
		time.Sleep(step.After)
		if _, err := in.Write([]byte(step.Send)); err != nil {
			return fmt.Errorf("%q: %w", step.Send, err)
		}
		if err := t.await(ctx, step.Expect); err != nil {
			return fmt.Errorf("%q: %w", step.Send, err)
		}
	}
	if !w.PTY {
		in.Close()
	}
	status, err := ended(ctx, s)
	switch {
	case err != nil:
		return fmt.Errorf("%w; it shows:\n%s", err, t.text())
	case status != w.Status:
		return fmt.Errorf("the exit status is %d, not %d; it shows:\n%s", status, w.Status, t.text())
	}
	if err := inOrder(t.text(), w.Output); err != nil {
		return fmt.Errorf("%w; it shows:\n%s", err, t.text())
	}
	return nil
}

// ended waits for a session's end: the exit status, 128 and the signal's number where one
// killed the program.
func ended(ctx context.Context, s *ssh.Session) (int, error) {
	done := make(chan error, 1)
	go func() { done <- s.Wait() }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		return 0, errors.New("it did not end in time")
	case <-time.After(stepLimit):
		return 0, fmt.Errorf("it did not end within %s", stepLimit)
	}
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		return exit.ExitStatus(), nil
	}
	return 0, err
}

// transcript is what a session prints; expectations go through it once.
type transcript struct {
	mu   sync.Mutex
	b    bytes.Buffer
	seen int
	more chan struct{}
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.b.Write(p)
	t.mu.Unlock()
	select {
	case t.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (t *transcript) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// await waits for a text behind the one that was found last.
func (t *transcript) await(ctx context.Context, want string) error {
	limit := time.After(stepLimit)
	for {
		t.mu.Lock()
		rest := t.b.Bytes()[t.seen:]
		i := bytes.Index(rest, []byte(want))
		if i >= 0 {
			t.seen += i + len(want)
			t.mu.Unlock()
			return nil
		}
		shown := string(rest)
		t.mu.Unlock()
		select {
		case <-t.more:
		case <-ctx.Done():
			return fmt.Errorf("%q does not come in time, but %q", want, shown)
		case <-limit:
			return fmt.Errorf("%q does not come within %s, but %q", want, stepLimit, shown)
		}
	}
}
