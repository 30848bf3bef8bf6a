package cli

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// foregroundPoll is how often a job in the background looks whether it still is: a shell
// tells it nothing when it brings it to the front.
const foregroundPoll = 200 * time.Millisecond

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// background says whether another job has the terminal. One that is not pack's controlling
// terminal has no jobs.
func background(f *os.File) bool {
	group, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP)
	return err == nil && group != unix.Getpgrp()
}

// keyboard is a terminal that the machine's console is typed on. While pack is in the
// foreground its echo and line editing, which the machine's own terminal does, are off, but
// Ctrl-C is left to pack. In the background the terminal is another job's: it is not touched,
// and nothing is read.
type keyboard struct {
	f    *os.File
	cont chan os.Signal
	done chan struct{}

	mu     sync.Mutex
	old    *unix.Termios // to restore, nil: nothing
	closed bool
}

// input is what is typed, from f, until done is called.
func input(f *os.File) (in io.Reader, done func()) {
	if !isTerminal(f) {
		return f, func() {}
	}
	k := &keyboard{f: f, cont: make(chan os.Signal, 1), done: make(chan struct{})}
	// With SIGTTIN ignored a read in the background fails (EIO) and does not stop pack.
	signal.Ignore(syscall.SIGTTIN)
	signal.Notify(k.cont, syscall.SIGCONT)
	k.take()
	go func() {
		for {
			select {
			case <-k.cont: // who stopped pack has changed the terminal meanwhile
				k.take()
			case <-k.done:
				return
			}
		}
	}()
	return k, k.close
}

// take sets the terminal up if it is pack's now.
func (k *keyboard) take() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || background(k.f) {
		return
	}
	old, err := unix.IoctlGetTermios(int(k.f.Fd()), unix.TCGETS)
	if err != nil {
		return
	}
	raw := *old
	raw.Lflag &^= unix.ECHO | unix.ICANON
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if raw != *old && unix.IoctlSetTermios(int(k.f.Fd()), unix.TCSETS, &raw) == nil {
		k.old = old
	}
}

func (k *keyboard) Read(p []byte) (int, error) {
	for {
		if background(k.f) {
			time.Sleep(foregroundPoll)
			continue
		}
		k.take()
		n, err := k.f.Read(p)
		if !errors.Is(err, unix.EIO) || !background(k.f) {
			return n, err
		}
	}
}

func (k *keyboard) close() {
	signal.Stop(k.cont)
	close(k.done)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if k.old != nil && !background(k.f) {
		unix.IoctlSetTermios(int(k.f.Fd()), unix.TCSETS, k.old)
	}
}
