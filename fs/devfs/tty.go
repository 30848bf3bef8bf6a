package devfs

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// Port is what a terminal's bytes go to. Write takes what fits; OnWritable tells of
// room after a short Write.
type Port interface {
	Write(b []byte) int
	OnWritable(f func())
}

// TTY is the console: a line discipline (termios(3), N_TTY) over a port. It starts as
// Linux's does but without ECHO: what is typed at the host's terminal is echoed there.
//
// Lock order: the process tree's (Jobs), TTY.mu, the port's own; Jobs is never called
// under TTY.mu. Program memory is never touched under it.
type TTY struct {
	port  Port
	queue waiter.Queue

	mu    sync.Mutex
	t     termios
	ws    [8]byte // struct winsize
	pgrp  int32   // the foreground group, 0 if none
	sid   int32   // the session that this terminal controls, 0 if none
	off   bool    // output is held back
	tco   bool    // by TCOOFF, so that only TCOON starts it
	excl  bool    // TIOCEXCL
	cr    bool    // the CR of a CR LF has been written, the LF not yet
	line  []byte
	ready []byte // input that read can have; in canonical mode whole lines
	ends  []int  // lengths of the lines in ready, 0 for an end of file
	lost  uint64

	// Now is the clock of VTIME, in nanoseconds; Jobs answers for the processes. Both are
	// set before the first program runs; without them a read does not time out, and who
	// asks is the kernel.
	Now  func() int64
	Jobs Jobs
}

const (
	maxLine  = 4095    // bytes of a line being typed (N_TTY_BUF_SIZE - 1)
	maxReady = 1 << 16 // bytes that wait for a reader
)

// termios is the kernel's struct termios (asm-generic/termbits.h): 36 bytes.
type termios struct {
	iflag, oflag, cflag, lflag uint32
	line                       uint8
	cc                         [19]uint8
}

const termiosSize = 36

func (t *termios) encode() (b [termiosSize]byte) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], t.iflag)
	le.PutUint32(b[4:], t.oflag)
	le.PutUint32(b[8:], t.cflag)
	le.PutUint32(b[12:], t.lflag)
	b[16] = t.line
	copy(b[17:], t.cc[:])
	return b
}

func (t *termios) decode(b []byte) {
	le := binary.LittleEndian
	t.iflag, t.oflag, t.cflag, t.lflag = le.Uint32(b[0:]), le.Uint32(b[4:]), le.Uint32(b[8:]), le.Uint32(b[12:])
	t.line = b[16]
	copy(t.cc[:], b[17:termiosSize])
}

// NewTTY makes a terminal over a port. Feed input to Receive.
func NewTTY(p Port) *TTY {
	t := &TTY{port: p, pgrp: 1, sid: 1}
	t.t = termios{
		iflag: unix.ICRNL | unix.IXON,
		oflag: unix.OPOST | unix.ONLCR,
		cflag: unix.B115200 | unix.CS8 | unix.CREAD | unix.HUPCL | unix.CLOCAL,
		lflag: unix.ISIG | unix.ICANON | unix.IEXTEN | unix.ECHOE | unix.ECHOK | unix.ECHOCTL | unix.ECHOKE,
		cc:    [19]uint8{3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22},
	}
	p.OnWritable(func() { t.queue.Notify(waiter.WritableEvents) })
	return t
}

// Receive takes input from the port (driver's goroutine). Input that nobody reads is
// dropped beyond a bound.
func (t *TTY) Receive(b []byte) {
	var sig unix.Signal
	t.mu.Lock()
	for _, c := range b {
		if s := t.input(c); s != 0 {
			sig = s
		}
	}
	pgrp := t.pgrp
	t.mu.Unlock()
	t.queue.Notify(waiter.ReadableEvents | waiter.WritableEvents)
	if sig != 0 {
		t.signal(pgrp, sig)
	}
}

// input serves one character; it returns the signal it stands for, or 0.
func (t *TTY) input(c uint8) unix.Signal {
	switch {
	case c == '\r' && t.t.iflag&unix.IGNCR != 0:
		return 0
	case c == '\r' && t.t.iflag&unix.ICRNL != 0:
		c = '\n'
	case c == '\n' && t.t.iflag&unix.INLCR != 0:
		c = '\r'
	}
	if t.t.iflag&unix.IXON != 0 {
		switch {
		case c == t.t.cc[unix.VSTART] && c != 0:
			t.restart()
			return 0
		case c == t.t.cc[unix.VSTOP] && c != 0:
			t.off = true
			return 0
		case t.t.iflag&unix.IXANY != 0:
			t.restart()
		}
	}
	if t.t.lflag&unix.ISIG != 0 && c != 0 {
		for _, k := range []struct {
			i int
			s unix.Signal
		}{{unix.VINTR, unix.SIGINT}, {unix.VQUIT, unix.SIGQUIT}, {unix.VSUSP, unix.SIGTSTP}} {
			if c == t.t.cc[k.i] {
				if t.t.lflag&unix.NOFLSH == 0 {
					t.flushInput()
				}
				t.echo(c)
				return k.s
			}
		}
	}
	if t.t.lflag&unix.ICANON == 0 {
		t.echo(c)
		t.push([]byte{c}, false)
		return 0
	}
	t.edit(c)
	return 0
}

// restart lets output flow that the stop character has stopped.
func (t *TTY) restart() { t.off = t.tco }

// edit is canonical input.
func (t *TTY) edit(c uint8) {
	switch {
	case c == t.t.cc[unix.VERASE] && c != 0:
		if n := len(t.line); n > 0 {
			t.line = t.line[:n-1]
			if t.t.lflag&unix.ECHO != 0 {
				t.port.Write([]byte("\b \b"))
			}
		}
	case c == t.t.cc[unix.VKILL] && c != 0:
		t.line = t.line[:0]
	case c == t.t.cc[unix.VEOF] && c != 0:
		t.push(t.line, true)
		t.line = t.line[:0]
	case c == '\n' || c != 0 && (c == t.t.cc[unix.VEOL] || c == t.t.cc[unix.VEOL2]):
		t.echo(c)
		t.push(append(t.line, c), true)
		t.line = t.line[:0]
	case len(t.line) < maxLine:
		t.echo(c)
		t.line = append(t.line, c)
	default:
		t.lost++
	}
}

func (t *TTY) echo(c uint8) {
	if t.t.lflag&unix.ECHO == 0 && !(c == '\n' && t.t.lflag&unix.ECHONL != 0) {
		return
	}
	switch {
	case c == '\n':
		t.port.Write([]byte("\r\n"))
	case c < 32 && c != '\t' && t.t.lflag&unix.ECHOCTL != 0:
		t.port.Write([]byte{'^', c + 64})
	default:
		t.port.Write([]byte{c})
	}
}

func (t *TTY) push(b []byte, line bool) {
	if len(t.ready)+len(b) > maxReady || len(t.ends) > maxReady {
		t.lost += uint64(len(b))
		return
	}
	t.ready = append(t.ready, b...)
	if line {
		t.ends = append(t.ends, len(b))
	}
}

func (t *TTY) flushInput() { t.line, t.ready, t.ends = t.line[:0], t.ready[:0], t.ends[:0] }

// available is how many bytes a read may have, and whether there is anything to have: an
// end of file is no bytes that are there.
func (t *TTY) available() (n int, ok bool) {
	if t.t.lflag&unix.ICANON != 0 {
		if len(t.ends) == 0 {
			return 0, false
		}
		return t.ends[0], true
	}
	return len(t.ready), len(t.ready) > 0
}

// readable is what poll says: without a timer, VMIN bytes must be there.
func (t *TTY) readable() bool {
	n, ok := t.available()
	if t.t.lflag&unix.ICANON == 0 && t.t.cc[unix.VTIME] == 0 {
		return n >= max(1, int(t.t.cc[unix.VMIN]))
	}
	return ok
}

// consume takes n bytes of what available offered.
func (t *TTY) consume(n int) {
	t.ready = t.ready[:copy(t.ready, t.ready[n:])]
	if t.t.lflag&unix.ICANON != 0 && len(t.ends) > 0 {
		if t.ends[0] -= n; t.ends[0] == 0 {
			t.ends = t.ends[:copy(t.ends, t.ends[1:])]
		}
	}
}

type ttyFile struct {
	node
	t *TTY
	// console is set for /dev/console, which nobody is kept from reading.
	console bool
}

func (f *ttyFile) Seekable() bool { return false }

func (f *ttyFile) Readiness(mask waiter.EventMask) waiter.EventMask {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	var ev waiter.EventMask
	if !f.t.off {
		ev |= waiter.WritableEvents
	}
	if f.t.readable() {
		ev |= waiter.ReadableEvents
	}
	return ev & mask
}

func (f *ttyFile) EventRegister(e *waiter.Entry) error { f.t.queue.EventRegister(e); return nil }
func (f *ttyFile) EventUnregister(e *waiter.Entry)     { f.t.queue.EventUnregister(e) }

// Read gives one line at most in canonical mode, 0 bytes at an end of file; else what
// VMIN and VTIME say.
func (f *ttyFile) Read(c wait.Context, file *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	if !f.console {
		if err := f.t.checkChange(c, unix.SIGTTIN); err != nil {
			return 0, err
		}
	}
	f.t.mu.Lock()
	canon, vmin, vtime := f.t.t.lflag&unix.ICANON != 0, int(f.t.t.cc[unix.VMIN]), int64(f.t.t.cc[unix.VTIME])*tenth
	f.t.mu.Unlock()
	if canon || vmin == 1 && vtime == 0 {
		n, err := f.take(dst)
		if n == 0 && err == nil && dst.Len() > 0 && !canon {
			err = unix.EAGAIN
		}
		return n, err
	}
	return f.readRaw(c, file, dst, vmin, vtime)
}

// tenth is the unit of VTIME in nanoseconds.
const tenth = 100_000_000

// readRaw is a read of the other cases of termios(3) without ICANON, which needs a wait
// of its own: VMIN 0, VTIME 0 polls; VMIN 0 waits VTIME for the first byte; else VMIN
// bytes are waited for, with VTIME between two of them if it is not 0.
func (f *ttyFile) readRaw(c wait.Context, file *vfs.File, dst *mm.IOSeq, vmin int, vtime int64) (total int, err error) {
	t := f.t
	deadline := int64(hal.NoDeadline)
	if vmin == 0 {
		deadline = t.after(vtime)
	}
	var e waiter.Entry
	e.Init(c.Listener(), waiter.ReadableEvents)
	t.queue.EventRegister(&e)
	defer t.queue.EventUnregister(&e)
	for dst.Len() > 0 {
		n, err := f.take(dst)
		if total += n; err != nil && err != unix.EAGAIN {
			if total > 0 {
				err = nil
			}
			return total, err
		}
		switch {
		case total >= max(1, vmin) || dst.Len() == 0, vmin == 0 && vtime == 0:
			return total, nil
		case n > 0:
			if vtime > 0 {
				deadline = t.after(vtime)
			}
			continue
		}
		if file != nil && file.Nonblocking() {
			if total > 0 {
				return total, nil
			}
			return 0, unix.EAGAIN
		}
		switch r := c.Block(deadline, wait.Interruptible); {
		case r == wait.Ready:
		case r == wait.Timeout || total > 0:
			return total, nil
		default:
			return 0, r.Err()
		}
	}
	return total, nil
}

// after is the time in ns from now.
func (t *TTY) after(ns int64) int64 {
	if t.Now == nil {
		return hal.NoDeadline
	}
	return t.Now() + ns
}

// take copies what is there: one line at most in canonical mode. EAGAIN: nothing is.
func (f *ttyFile) take(dst *mm.IOSeq) (int, error) {
	var b [chunk]byte
	total := 0
	for dst.Len() > 0 {
		f.t.mu.Lock()
		n, ok := f.t.available()
		if !ok {
			f.t.mu.Unlock()
			if total > 0 {
				return total, nil
			}
			return 0, unix.EAGAIN
		}
		canon := f.t.t.lflag&unix.ICANON != 0
		n = min(n, len(b), dst.Len())
		copy(b[:n], f.t.ready)
		f.t.consume(n)
		f.t.mu.Unlock()
		m, err := dst.CopyOut(b[:n])
		total += m
		switch {
		case err != nil && total == 0:
			return 0, err
		case err != nil || n < len(b):
			return total, nil
		case canon && b[n-1] == '\n':
			return total, nil
		}
	}
	return total, nil
}

// Write sends to the port with output processing; EAGAIN when nothing fits or output is
// held back.
func (f *ttyFile) Write(c wait.Context, _ *vfs.File, src *mm.IOSeq, _ int64) (int, error) {
	f.t.mu.Lock()
	stop := f.t.t.lflag&unix.TOSTOP != 0 && !f.console
	f.t.mu.Unlock()
	if stop {
		if err := f.t.checkChange(c, unix.SIGTTOU); err != nil {
			return 0, err
		}
	}
	var b [chunk]byte
	total := 0
	for src.Len() > 0 {
		before := *src
		n, err := src.CopyIn(b[:min(src.Len(), chunk)])
		if n == 0 && err != nil {
			if total > 0 {
				return total, nil
			}
			return 0, err
		}
		f.t.mu.Lock()
		done := 0
		if !f.t.off {
			done = f.t.output(b[:n])
		}
		f.t.mu.Unlock()
		total += done
		if done < n {
			*src = before
			src.Skip(done)
			if total == 0 {
				return 0, unix.EAGAIN
			}
			return total, nil
		}
	}
	return total, nil
}

// output writes p, CR LF for LF, and returns the bytes of p that went out.
func (t *TTY) output(p []byte) int {
	if t.t.oflag&unix.OPOST == 0 || t.t.oflag&unix.ONLCR == 0 {
		return t.port.Write(p)
	}
	done := 0
	for done < len(p) {
		end := done
		for end < len(p) && p[end] != '\n' {
			end++
		}
		if end > done {
			n := t.port.Write(p[done:end])
			if done += n; done < end {
				return done
			}
			continue
		}
		crlf := []byte("\r\n")
		if t.cr {
			crlf = crlf[1:]
		}
		n := t.port.Write(crlf)
		if n < len(crlf) {
			t.cr = t.cr || n == 1
			return done
		}
		t.cr = false
		done++
	}
	return done
}
