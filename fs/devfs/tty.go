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
// Lock order: TTY.mu, then the port's own. Program memory is never touched under it.
type TTY struct {
	port  Port
	queue waiter.Queue

	mu    sync.Mutex
	t     termios
	ws    [8]byte // struct winsize
	pgrp  int32
	sid   int32
	cr    bool // the CR of a CR LF has been written, the LF not yet
	line  []byte
	ready []byte // input that read can have; in canonical mode whole lines
	ends  []int  // lengths of the lines in ready, 0 for an end of file
	lost  uint64

	// Signal sends a signal to the foreground group; set before input comes.
	Signal func(pgrp int32, sig unix.Signal)
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
	pgrp, f := t.pgrp, t.Signal
	t.mu.Unlock()
	t.queue.Notify(waiter.ReadableEvents)
	if sig != 0 && f != nil {
		f(pgrp, sig)
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

// available is how many bytes a read may have, and whether it may return at all.
func (t *TTY) available() (n int, ok bool) {
	if t.t.lflag&unix.ICANON != 0 {
		if len(t.ends) == 0 {
			return 0, false
		}
		return t.ends[0], true
	}
	if t.t.cc[unix.VMIN] == 0 {
		return len(t.ready), true
	}
	return len(t.ready), len(t.ready) > 0
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
}

func (f *ttyFile) Seekable() bool { return false }

func (f *ttyFile) Readiness(mask waiter.EventMask) waiter.EventMask {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	ev := waiter.WritableEvents
	if n, ok := f.t.available(); ok && (n > 0 || f.t.t.lflag&unix.ICANON != 0) {
		ev |= waiter.ReadableEvents
	}
	return ev & mask
}

func (f *ttyFile) EventRegister(e *waiter.Entry) error { f.t.queue.EventRegister(e); return nil }
func (f *ttyFile) EventUnregister(e *waiter.Entry)     { f.t.queue.EventUnregister(e) }

// Read gives one line at most in canonical mode, 0 bytes at an end of file.
func (f *ttyFile) Read(_ wait.Context, _ *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
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
		case err != nil || n == 0 || canon && n < len(b) || !canon && n < len(b):
			return total, nil
		case canon && b[n-1] == '\n':
			return total, nil
		}
	}
	return total, nil
}

// Write sends to the port with output processing; EAGAIN when nothing fits.
func (f *ttyFile) Write(_ wait.Context, _ *vfs.File, src *mm.IOSeq, _ int64) (int, error) {
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
		done := f.t.output(b[:n])
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

func putInt(c wait.Context, sp *mm.Space, arg uint64, v uint32) (uintptr, error) {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], v)
	return put(c, sp, arg, b[:])
}

func put(c wait.Context, sp *mm.Space, arg uint64, b []byte) (uintptr, error) {
	if _, err := sp.CopyOut(c, hal.UserAddr(arg), b); err != nil {
		return 0, unix.EFAULT
	}
	return 0, nil
}

func get(c wait.Context, sp *mm.Space, arg uint64, b []byte) error {
	if _, err := sp.CopyIn(c, b, hal.UserAddr(arg)); err != nil {
		return unix.EFAULT
	}
	return nil
}

// Ioctl serves ioctl_tty(2).
func (f *ttyFile) Ioctl(c wait.Context, _ *vfs.File, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	t := f.t
	switch req {
	case unix.TCGETS:
		t.mu.Lock()
		b := t.t.encode()
		t.mu.Unlock()
		return put(c, sp, arg, b[:])
	case unix.TCSETS, unix.TCSETSW, unix.TCSETSF:
		var b [termiosSize]byte
		if err := get(c, sp, arg, b[:]); err != nil {
			return 0, err
		}
		t.set(b[:], req == unix.TCSETSF)
		return 0, nil
	case unix.TIOCGWINSZ:
		t.mu.Lock()
		b := t.ws
		t.mu.Unlock()
		return put(c, sp, arg, b[:])
	case unix.TIOCSWINSZ:
		var b [8]byte
		if err := get(c, sp, arg, b[:]); err != nil {
			return 0, err
		}
		t.resize(b)
		return 0, nil
	case unix.TIOCINQ:
		t.mu.Lock()
		n, _ := t.available()
		t.mu.Unlock()
		return putInt(c, sp, arg, uint32(n))
	case unix.TIOCOUTQ:
		return putInt(c, sp, arg, 0)
	}
	return f.control(c, sp, req, arg)
}

// control is the part about sessions and flow.
func (f *ttyFile) control(c wait.Context, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	t := f.t
	switch req {
	case unix.TIOCGPGRP, unix.TIOCGSID:
		t.mu.Lock()
		v := t.pgrp
		if req == unix.TIOCGSID {
			v = t.sid
		}
		t.mu.Unlock()
		return putInt(c, sp, arg, uint32(v))
	case unix.TIOCSPGRP:
		var b [4]byte
		if err := get(c, sp, arg, b[:]); err != nil {
			return 0, err
		}
		v := int32(binary.LittleEndian.Uint32(b[:]))
		if v < 0 {
			return 0, unix.EINVAL
		}
		t.mu.Lock()
		t.pgrp = v
		t.mu.Unlock()
		return 0, nil
	case unix.TIOCSCTTY, unix.TCSBRK, unix.TCSBRKP, unix.TCXONC:
		return 0, nil // output is never held back, and one session has the console
	case unix.TIOCNOTTY:
		return 0, unix.ENOTTY
	case unix.TCFLSH:
		if arg > unix.TCIOFLUSH {
			return 0, unix.EINVAL
		}
		if arg != unix.TCOFLUSH {
			t.mu.Lock()
			t.flushInput()
			t.mu.Unlock()
		}
		return 0, nil
	}
	return 0, unix.ENOTTY
}

func (t *TTY) set(b []byte, flush bool) {
	t.mu.Lock()
	was := t.t.lflag
	t.t.decode(b)
	if flush {
		t.flushInput()
	}
	if was&unix.ICANON != 0 && t.t.lflag&unix.ICANON == 0 {
		// What was typed so far becomes readable at once.
		t.ready, t.ends, t.line = append(t.ready, t.line...), t.ends[:0], t.line[:0]
	} else if was&unix.ICANON == 0 && t.t.lflag&unix.ICANON != 0 && len(t.ready) > 0 {
		t.ends = append(t.ends[:0], len(t.ready))
	}
	t.mu.Unlock()
	t.queue.Notify(waiter.ReadableEvents)
}

func (t *TTY) resize(ws [8]byte) {
	t.mu.Lock()
	changed := t.ws != ws
	t.ws = ws
	pgrp, f := t.pgrp, t.Signal
	t.mu.Unlock()
	if changed && f != nil {
		f(pgrp, unix.SIGWINCH)
	}
}
