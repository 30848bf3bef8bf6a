package tty

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// base is what the descriptions of all terminals share: the attributes are the inode's.
type base struct {
	vfs.BaseOps
	i vfs.Inode
}

func (b *base) Attr(c wait.Context) (vfs.Attr, error)       { return b.i.Attr(c) }
func (b *base) SetAttr(c wait.Context, a vfs.SetAttr) error { return b.i.SetAttr(c, a) }

// Toucher is an inode that notes when its terminal was used: w(1) shows the idle time.
type Toucher interface{ TouchTTY(now int64, write bool) }

func (b *base) touch(h *Host, write bool) {
	if t, ok := b.i.(Toucher); ok && h.Wall != nil {
		t.TouchTTY(h.Wall(), write)
	}
}

// file is a description of a TTY.
type file struct {
	base
	t *TTY
	// console is set for /dev/console, which nobody is kept from reading.
	console bool
	hung    atomic.Bool
	waits   atomic.Bool // a blocking read has found nothing and waits
}

// Of is the terminal that a description is one of, nil for others; a master's is its
// slave.
func Of(ops vfs.FileOps) *TTY {
	switch f := ops.(type) {
	case *file:
		return f.t
	case *master:
		return f.p.slave
	}
	return nil
}

func (f *file) Release(*vfs.File) { f.t.release(f) }

func (f *file) Async(mask waiter.EventMask) int32 { return vfs.AsyncReason(mask) }
func (f *file) Readiness(mask waiter.EventMask) waiter.EventMask {
	t := f.t
	if f.hung.Load() {
		return (waiterBoth | waiter.EventErr | waiter.EventHUp) & mask
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var ev waiter.EventMask
	if !t.stopped && t.drv.room() > 0 {
		ev |= waiter.WritableEvents
	}
	if t.readable(true) {
		ev |= waiter.ReadableEvents
	}
	return ev & mask
}

func (f *file) EventRegister(e *waiter.Entry) error { f.t.queue.EventRegister(e); return nil }
func (f *file) EventUnregister(e *waiter.Entry)     { f.t.queue.EventUnregister(e) }

// chunks are buffers for what goes to and comes from programs.
var chunks = sync.Pool{New: func() any { return new([bufSize]byte) }}

// Read gives one line at most in canonical mode, 0 bytes at an end of file; else what
// VMIN and VTIME say. After a hang-up there is nothing.
func (f *file) Read(c wait.Context, file *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	t := f.t
	if f.hung.Load() {
		if t.pair != nil && f.waits.Swap(false) {
			return 0, unix.EIO // it was waiting when the master closed
		}
		return 0, nil
	}
	if !f.console {
		if err := t.checkChange(c, unix.SIGTTIN); err != nil {
			return 0, err
		}
	}
	if dst.Len() == 0 {
		return 0, nil
	}
	t.mu.Lock()
	lines, vmin, vtime := t.t.lflag&unix.ICANON != 0, int(t.t.cc[unix.VMIN]), int64(t.t.cc[unix.VTIME])*tenth
	t.mu.Unlock()
	n, err := 0, error(nil)
	if lines || vmin == 1 && vtime == 0 {
		n, err = f.copyOut(dst)
	} else {
		n, err = f.readTimed(c, file, dst, vmin, vtime)
	}
	f.waits.Store(err == unix.EAGAIN && file != nil && !file.Nonblocking())
	if n > 0 {
		f.touch(t.host, false)
	}
	return n, err
}

// tenth is the unit of VTIME in nanoseconds.
const tenth = 100_000_000

// readTimed is a read of the other cases of termios(3) without ICANON, which needs a wait
// of its own: VMIN 0, VTIME 0 polls; VMIN 0 waits VTIME for the first byte; else VMIN
// bytes are waited for, with VTIME between two of them if it is not 0.
func (f *file) readTimed(c wait.Context, file *vfs.File, dst *mm.IOSeq, vmin int, vtime int64) (total int, err error) {
	t := f.t
	deadline := int64(hal.NoDeadline)
	if vmin == 0 {
		deadline = t.after(vtime)
	}
	var e waiter.Entry
	e.Init(c.Listener(), waiter.ReadableEvents|waiter.EventHUp)
	t.queue.EventRegister(&e)
	defer t.queue.EventUnregister(&e)
	for {
		n, err := f.copyOut(dst)
		if total += n; err != nil && err != unix.EAGAIN {
			if total > 0 {
				err = nil
			}
			return total, err
		}
		switch {
		case total >= max(1, vmin), dst.Len() == 0, vmin == 0 && vtime == 0, f.hung.Load():
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
}

// after is the time in ns from now.
func (t *TTY) after(ns int64) int64 {
	if t.host.Now == nil {
		return hal.NoDeadline
	}
	return t.host.Now() + ns
}

// copyOut gives what is there: one line at most in canonical mode. EAGAIN: nothing is.
func (f *file) copyOut(dst *mm.IOSeq) (total int, err error) {
	t := f.t
	b := chunks.Get().(*[bufSize]byte)
	defer chunks.Put(b)
	for dst.Len() > 0 {
		t.mu.Lock()
		if !t.readable(false) {
			hung := f.hung.Load()
			t.mu.Unlock()
			if total > 0 || hung {
				return total, nil
			}
			return 0, unix.EAGAIN
		}
		want := min(dst.Len(), len(b))
		n, done := t.take(b[:want])
		t.unlock()
		m, err := dst.CopyOut(b[:n])
		total += m
		switch {
		case err != nil && total == 0:
			return 0, err
		case err != nil, done, n < want:
			return total, nil
		}
	}
	return total, nil
}

// Write sends to the driver with output processing; EAGAIN when nothing fits or output is
// held back, EIO after a hang-up.
func (f *file) Write(c wait.Context, _ *vfs.File, src *mm.IOSeq, _ int64) (int, error) {
	t := f.t
	if f.hung.Load() {
		return 0, unix.EIO
	}
	if !f.console {
		t.mu.Lock()
		stop := t.t.lflag&unix.TOSTOP != 0
		t.mu.Unlock()
		if stop {
			if err := t.checkChange(c, unix.SIGTTOU); err != nil {
				return 0, err
			}
		}
	}
	n, err := copyIn(src, func(b []byte) int {
		t.mu.Lock()
		t.flushEcho()
		n := t.output(b)
		t.unlock()
		return n
	})
	if n > 0 {
		f.touch(t.host, true)
	}
	return n, err
}

// copyIn hands a write to put in pieces; put returns what it took.
func copyIn(src *mm.IOSeq, put func(b []byte) int) (total int, err error) {
	b := chunks.Get().(*[bufSize]byte)
	defer chunks.Put(b)
	for src.Len() > 0 {
		before := *src
		n, err := src.CopyIn(b[:min(src.Len(), len(b))])
		if n == 0 && err != nil {
			if total > 0 {
				return total, nil
			}
			return 0, err
		}
		done := put(b[:n])
		if total += done; done < n {
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
