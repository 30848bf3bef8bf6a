// Package tty is terminals: termios, the line discipline N_TTY, sessions and job control,
// over a serial line (the console) or between the two sides of a pseudo-terminal.
//
//	host := &tty.Host{Budget: mem.Budget(), …}
//	con := host.NewConsole(port, unix.Mkdev(4, 64)) // and port's input to con.Receive
//	ops := con.Open(inode, 0)                       // one open file description of it
//	p, err := host.NewPair(dev)                     // p.Master, p.Slave
//
// A TTY is what a program's descriptors lead to: the console, or the slave of a pair. It
// stands between a queue of input that has arrived (in), the line discipline's buffer and
// a driver that takes output: the console's port, or the buffer that the master reads.
// What the master writes is the slave's input; what the slave writes, and the echo of its
// input, is what the master reads. Behaviour is that of Linux 6.1 (drivers/tty), which
// tests/conformance compares.
//
// Lock order: Host.jobs (who controls which terminal), the process tree's (behind Jobs),
// TTY.mu, the port's own. One TTY.mu serves both sides of a pair. Jobs is never called,
// no queue is notified and no program memory is touched under TTY.mu: what a change leads
// to is collected and done by unlock.
package tty

import (
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/mm"
)

// Port is what the console's bytes go to. Write takes what fits; OnWritable tells of room
// after a short Write, and of the last byte's leaving after Pending was not 0.
type Port interface {
	Write(b []byte) int
	// Room is how many bytes Write would take; OnWritable tells of more if it is few.
	// Pending is how many have not left yet.
	Room() int
	Pending() int
	OnWritable(f func())
}

// Breaker is a Port that can hold its line in the break condition.
type Breaker interface{ SetBreak(on bool) }

// Host is what all terminals of a machine share. Now is the clock of VTIME and drains in
// nanoseconds, Wall that of time stamps; Jobs answers for the processes. All are set
// before the first program runs; without them a read does not time out, and who asks is
// the kernel.
type Host struct {
	Now    func() int64
	Wall   func() int64
	Jobs   Jobs
	Budget *mm.Budget

	jobs sync.Mutex
}

// TTY is a terminal: the console or the slave of a pair.
type TTY struct {
	host  *Host
	dev   uint64 // device number
	drv   driver
	pair  *Pair // nil for the console
	queue waiter.Queue

	mu      sync.Mutex
	t       termios
	locked  termios // bits that TIOCSLCKTRMIOS keeps from changing
	ws      [8]byte // struct winsize
	pgrp    int32   // the foreground group, 0 if none
	sid     int32   // the session that this terminal controls, 0 if none
	stopped bool    // output is held back
	tco     bool    // by TCOOFF, so that only TCOON starts it
	excl    bool    // TIOCEXCL
	in      []byte  // arrived, not yet through the line discipline
	ld      disc
	opens   int // descriptions
	files   map[*file]struct{}

	// What unlock is to do.
	wake, wakeMaster waiter.EventMask
	sigs             []pendingSig
}

type pendingSig struct {
	pgrp int32
	sig  unix.Signal
}

// driver takes output. It is called with TTY.mu held.
type driver interface {
	write(b []byte) int // what fits
	room() int
	pending() int // bytes that have not left
	flush()       // throws away what has not left
}

// maxIn bounds input that has arrived: Linux gives a serial line 64 KiB and a pty 8.
const (
	maxIn    = 1 << 16
	maxPtyIn = 8192
)

func (h *Host) newTTY(dev uint64) *TTY {
	return &TTY{host: h, dev: dev, files: map[*file]struct{}{}}
}

// NewConsole makes a terminal over a port; it belongs to session 1. Feed input to Receive.
func (h *Host) NewConsole(p Port, dev uint64) *TTY {
	t := h.newTTY(dev)
	t.drv = portDriver{p}
	t.t = stdTermios()
	t.t.cflag = unix.B115200 | unix.CS8 | unix.CREAD | unix.HUPCL | unix.CLOCAL
	t.t.setSpeeds()
	t.pgrp, t.sid = 1, 1
	p.OnWritable(func() {
		t.mu.Lock()
		t.flushEcho()
		t.wake |= waiter.WritableEvents
		t.unlock()
	})
	return t
}

type portDriver struct{ p Port }

func (d portDriver) write(b []byte) int { return d.p.Write(b) }
func (d portDriver) room() int          { return d.p.Room() }
func (d portDriver) pending() int       { return d.p.Pending() }
func (d portDriver) flush()             {} // what is in the port's ring is on its way

// unlock releases mu and does what the changes made under it lead to.
func (t *TTY) unlock() {
	w, m, sigs := t.wake, t.wakeMaster, t.sigs
	t.wake, t.wakeMaster, t.sigs = 0, 0, nil
	t.mu.Unlock()
	for _, s := range sigs {
		t.signal(s.pgrp, s.sig)
	}
	if w != 0 {
		t.queue.Notify(w)
	}
	if m != 0 && t.pair != nil {
		t.pair.queue.Notify(m)
	}
}

// Dev is the device number; Foreground the foreground group, 0 if there is none
// (task.Terminal).
func (t *TTY) Dev() uint64 { return t.dev }
func (t *TTY) Foreground() int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pgrp
}

// Receive takes input from the port (driver's goroutine). Input that nobody reads is
// dropped beyond a bound.
func (t *TTY) Receive(b []byte) {
	t.mu.Lock()
	t.arrive(b)
	t.unlock()
}

// InputRoom is how much Receive would keep now.
func (t *TTY) InputRoom() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inRoom()
}

// inRoom is how much more input may wait. Called with mu held.
func (t *TTY) inRoom() int {
	if t.pair != nil {
		return maxPtyIn - len(t.in)
	}
	return maxIn - len(t.in)
}

// arrive takes what there is room for of b as input and says how much: nothing else adds
// to in. Called with mu held.
func (t *TTY) arrive(b []byte) int {
	n := min(len(b), t.inRoom())
	t.in = append(t.in, b[:n]...)
	t.feed()
	return n
}

// signalLocked notes a signal for the foreground group.
func (t *TTY) signalLocked(sig unix.Signal) {
	if t.pgrp > 0 {
		t.sigs = append(t.sigs, pendingSig{t.pgrp, sig})
	}
}

// stop and start hold output back and let it flow again (__stop_tty, __start_tty).
func (t *TTY) stop() {
	if !t.stopped {
		t.stopped = true
		t.packet(unix.TIOCPKT_STOP, unix.TIOCPKT_START)
	}
}

func (t *TTY) start() {
	if t.stopped && !t.tco {
		t.stopped = false
		t.packet(unix.TIOCPKT_START, unix.TIOCPKT_STOP)
		t.flushEcho()
		t.wake |= waiter.WritableEvents
	}
}

// resize is TIOCSWINSZ.
func (t *TTY) resize(ws [8]byte) {
	t.mu.Lock()
	if t.ws != ws {
		t.ws = ws
		t.signalLocked(unix.SIGWINCH)
	}
	t.unlock()
}

// hangUp makes every open description of t a dead one and takes the terminal from its
// session, whose leader gets SIGHUP and SIGCONT; with group, the foreground group gets
// SIGHUP too. /dev/console is not hung up on (__tty_hangup).
func (t *TTY) hangUp(group bool) {
	t.host.jobs.Lock()
	t.mu.Lock()
	for f := range t.files {
		if !f.console {
			f.hung.Store(true)
			delete(t.files, f)
		}
	}
	sid, pgrp := t.sid, t.pgrp
	t.sid, t.pgrp, t.stopped, t.tco = 0, 0, false, false
	t.in = nil
	t.ld.reset()
	if t.pair != nil {
		t.pair.status = 0
		t.t = stdTermios()
	}
	t.wake |= waiter.ReadableEvents | waiter.WritableEvents | waiter.EventHUp | waiter.EventErr
	t.unlock()
	if t.host.Jobs != nil && sid != 0 {
		t.host.Jobs.HangUp(sid, pgrp, t)
	}
	t.host.jobs.Unlock()
	if group {
		t.signal(pgrp, unix.SIGHUP)
	}
}

// Open makes a description of t. inode has the attributes; console is set for
// /dev/console, which nobody is kept from reading. It cannot be refused: see MayOpen.
func (t *TTY) Open(i vfs.Inode, console bool) vfs.FileOps {
	f := &file{base: base{i: i}, t: t, console: console}
	t.mu.Lock()
	t.opens++
	if t.pair != nil && t.pair.gone.Load() {
		f.hung.Store(true) // the master has closed since MayOpen, and hung up on those that it found
	} else {
		t.files[f] = struct{}{}
		if t.pair != nil {
			t.pair.slaveClosed = false
		}
	}
	t.unlock()
	return f
}

// release is the end of a description.
func (t *TTY) release(f *file) {
	t.mu.Lock()
	t.opens--
	delete(t.files, f)
	if t.opens == 0 {
		t.excl = false
		if t.pair != nil {
			t.pair.slaveGone()
		}
	}
	last := t.pair != nil && t.pair.ends()
	t.unlock()
	if last {
		t.pair.end()
	}
}
