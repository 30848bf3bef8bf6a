package tty

import (
	"bytes"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// Pair is a pseudo-terminal: a slave, which is a TTY, and its master (pty(7)).
type Pair struct {
	slave *TTY
	queue waiter.Queue // who waits at the master

	// Under slave.mu.
	out         []byte // what the master can read
	mastered    bool   // the master is open
	slaveClosed bool   // the last description of the slave has gone
	lockedOpen  bool   // TIOCSPTLCK
	packets     bool   // TIOCPKT
	status      uint8  // TIOCPKT_* that the master has not read
	mstopped    bool   // the master's own output, by TCXONC

	ended bool // both ends have closed

	gone  atomic.Bool // no more opens: the master has closed
	freed func()      // of Master
}

// PairCost is what a pair is charged to the kernel-heap budget: its buffers when they are
// full, in bytes.
const PairCost = bufSize + maxPtyIn + maxOut + 2*maxEcho

// maxOut bounds what waits for the master: its line discipline's buffer of 4095 bytes,
// which a flush does not reach, and the 8 KiB of the line.
const (
	masterKept = bufSize - 1
	maxOut     = masterKept + maxPtyIn
)

// NewPair makes a pair whose slave has device number dev. It is locked. ENOMEM over the
// budget.
func (h *Host) NewPair(dev uint64) (*Pair, error) {
	if h.Budget != nil && !h.Budget.Charge(PairCost) {
		return nil, unix.ENOMEM
	}
	t := h.newTTY(dev)
	p := &Pair{slave: t, mastered: true, lockedOpen: true}
	t.pair, t.drv, t.t = p, (*ptyDriver)(p), stdTermios()
	return p, nil
}

// Slave is the terminal.
func (p *Pair) Slave() *TTY { return p.slave }

// MayOpen says whether the slave can be opened: EIO while it is locked or after the
// master has closed.
func (p *Pair) MayOpen() error {
	p.slave.mu.Lock()
	defer p.slave.mu.Unlock()
	if p.gone.Load() || p.lockedOpen {
		return unix.EIO
	}
	return nil
}

// ptyDriver is the slave's output: the master's input.
type ptyDriver Pair

func (d *ptyDriver) room() int {
	if !d.mastered {
		return maxOut // write takes it, and nobody will ever read it
	}
	return maxOut - len(d.out)
}

func (d *ptyDriver) write(b []byte) int {
	if !d.mastered {
		return len(b)
	}
	b = b[:min(len(b), d.room())]
	if len(b) > 0 {
		d.out = append(d.out, b...)
		d.slave.wakeMaster |= waiter.ReadableEvents
	}
	return len(b)
}

// pending is 0 as on Linux: what has been written has left.
func (*ptyDriver) pending() int { return 0 }

func (d *ptyDriver) flush() { d.out = d.out[:min(len(d.out), masterKept)] }

// packet notes a change for a master in packet mode. Called with mu held.
func (t *TTY) packet(set, clear uint8) {
	if p := t.pair; p != nil && p.packets {
		p.status = p.status&^clear | set
		t.wakeMaster |= waiter.ReadableEvents | waiter.EventPri
	}
}

// modesChanged tells a master in packet mode what pty_set_termios does.
func (p *Pair) modesChanged(old, now *termios) {
	was, is := old.usesFlowKeys(), now.usesFlowKeys()
	if was != is {
		if is {
			p.slave.packet(unix.TIOCPKT_DOSTOP, unix.TIOCPKT_NOSTOP)
		} else {
			p.slave.packet(unix.TIOCPKT_NOSTOP, unix.TIOCPKT_DOSTOP)
		}
	}
	if (old.lflag|now.lflag)&extProc != 0 {
		p.slave.packet(tiocpktIoctl, 0)
	}
}

// tiocpktIoctl is TIOCPKT_IOCTL (asm-generic/ioctls.h).
const tiocpktIoctl = 64

// slaveGone is the end of the slave's last description. Called with mu held.
func (p *Pair) slaveGone() {
	p.slaveClosed = true
	p.slave.wakeMaster |= waiterBoth | waiter.EventHUp
}

// master is the description of the master.
type master struct {
	base
	p     *Pair
	peers Peers
	close func()
}

// Master is the one description of p's master. closed is called when it is released, freed
// when the slave's descriptions have gone, too.
func (p *Pair) Master(i vfs.Inode, peers Peers, closed, freed func()) vfs.FileOps {
	p.freed = freed
	return &master{base: base{i: i}, p: p, peers: peers, close: closed}
}

// ends says whether the last end of the pair closes now: its number is free then and
// nothing of it is left, as for pty_unix98_remove. Called with slave.mu held; whoever is
// told so calls end without.
func (p *Pair) ends() bool {
	if p.mastered || p.slave.opens > 0 || p.ended {
		return false
	}
	p.ended = true
	return true
}

func (p *Pair) end() {
	p.freed()
	if b := p.slave.host.Budget; b != nil {
		b.Uncharge(PairCost)
	}
}

// Release hangs up on the slave.
func (f *master) Release(*vfs.File) {
	p, t := f.p, f.p.slave
	p.gone.Store(true)
	f.close()
	t.hangUp(false)
	t.mu.Lock()
	p.mastered, p.out, t.ld = false, nil, disc{}
	t.wake |= waiterBoth | waiter.EventHUp
	last := p.ends()
	t.unlock()
	if last {
		p.end()
	}
}

// FDInfo implements vfs.FDInfoer.
func (f *master) FDInfo(_ wait.Context, b *bytes.Buffer) {
	fmt.Fprintf(b, "tty-index:\t%d\n", unix.Minor(f.p.slave.dev))
}

func (f *master) EventRegister(e *waiter.Entry) error { f.p.queue.EventRegister(e); return nil }
func (f *master) EventUnregister(e *waiter.Entry)     { f.p.queue.EventUnregister(e) }

func (f *master) Async(mask waiter.EventMask) int32 { return vfs.AsyncReason(mask) }
func (f *master) Readiness(mask waiter.EventMask) waiter.EventMask {
	p := f.p
	p.slave.mu.Lock()
	defer p.slave.mu.Unlock()
	var ev waiter.EventMask
	if len(p.out) > 0 {
		ev |= waiter.ReadableEvents
	}
	if p.packets && p.status != 0 {
		ev |= waiter.ReadableEvents | waiter.EventPri
	}
	if p.slaveClosed {
		ev |= waiter.EventHUp
	}
	if !p.mstopped && p.slave.inRoom() > 0 {
		ev |= waiter.WritableEvents
	}
	return ev & mask
}

// Read gives what the slave wrote: in packet mode behind a byte 0, or the byte of what
// has changed alone. EIO once no slave is open.
func (f *master) Read(_ wait.Context, _ *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	p, t := f.p, f.p.slave
	if dst.Len() == 0 {
		return 0, nil
	}
	b := chunks.Get().(*[bufSize]byte)
	defer chunks.Put(b)
	t.mu.Lock()
	n := 0
	switch {
	case p.packets && p.status != 0:
		b[0], n = p.status, 1
		p.status = 0
	case len(p.out) == 0:
		closed := p.slaveClosed
		t.mu.Unlock()
		if closed {
			return 0, unix.EIO
		}
		return 0, unix.EAGAIN
	default:
		if p.packets {
			b[0], n = unix.TIOCPKT_DATA, 1
		}
		k := copy(b[n:min(dst.Len(), len(b))], p.out)
		n += k
		if p.out = p.out[:copy(p.out, p.out[k:])]; len(p.out) == 0 {
			p.out = nil
		}
		t.flushEcho()
		t.wake |= waiter.WritableEvents
	}
	t.unlock()
	return dst.CopyOut(b[:n])
}

// Write is typing at the slave.
func (f *master) Write(_ wait.Context, _ *vfs.File, src *mm.IOSeq, _ int64) (int, error) {
	p, t := f.p, f.p.slave
	return copyIn(src, func(b []byte) int {
		t.mu.Lock()
		if p.mstopped {
			b = nil
		}
		n := t.arrive(b)
		t.unlock()
		return n
	})
}
