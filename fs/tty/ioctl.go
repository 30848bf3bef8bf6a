package tty

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// Requests that x/sys/unix lacks (asm-generic/ioctls.h).
const (
	tcGETA         = 0x5405
	tcSETA         = 0x5406
	tcSETAW        = 0x5407
	tcSETAF        = 0x5408
	tiocCONS       = 0x541d
	tiocGSOFTCAR   = 0x5419
	tiocSSOFTCAR   = 0x541a
	tiocGLCKTRMIOS = 0x5456
	tiocSLCKTRMIOS = 0x5457
	tcGETS2        = 0x802c542a
	tcSETS2        = 0x402c542b
	tcSETSW2       = 0x402c542c
	tcSETSF2       = 0x402c542d
	tiocGPTLCK     = 0x80045439
	tiocGPTPEER    = 0x5441
	tiocGPKT       = 0x80045438
	tiocGDEV       = 0x80045432
	tiocSIG        = 0x40045436
)

// breakTime is how long TCSBRK's break lasts, in milliseconds.
const breakTime = 250

// Ioctl serves ioctl_tty(2). What changes the terminal is not for a background group.
func (f *file) Ioctl(c wait.Context, file *vfs.File, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	t := f.t
	if f.hung.Load() {
		if req == unix.TIOCSPGRP {
			return 0, unix.ENOTTY
		}
		return 0, unix.EIO
	}
	switch req {
	case unix.TIOCSETD, unix.TIOCSBRK, unix.TIOCCBRK, unix.TCSBRK, unix.TCSBRKP:
		if err := t.checkChange(c, unix.SIGTTOU); err != nil {
			return 0, err
		}
		if req != unix.TIOCCBRK {
			if err := t.drain(c); err != nil {
				return 0, err
			}
		}
		return 0, t.breakIoctl(c, sp, req, arg)
	case unix.TCXONC, unix.TCFLSH:
		if err := t.checkChange(c, unix.SIGTTOU); err != nil {
			return 0, err
		}
		if req == unix.TCXONC {
			return 0, t.hold(arg)
		}
		return 0, t.flush(arg)
	case unix.TIOCSTI:
		return 0, t.fake(c, sp, arg)
	case tiocGPTPEER:
		return 0, unix.EIO // not a master
	case unix.TIOCINQ:
		t.mu.Lock()
		n := t.waiting()
		t.mu.Unlock()
		return putInt(c, sp, arg, uint32(n))
	case unix.TIOCOUTQ:
		t.mu.Lock()
		n := t.drv.pending()
		t.mu.Unlock()
		return putInt(c, sp, arg, uint32(n))
	case unix.TIOCSPGRP, unix.TIOCGPGRP, unix.TIOCGSID, unix.TIOCSCTTY, unix.TIOCNOTTY:
		return t.sessionIoctl(c, false, file == nil || file.Readable(), sp, req, arg)
	}
	return t.common(c, sp, req, arg)
}

// common is what means the same for a terminal and, of its slave, a master.
func (t *TTY) common(c wait.Context, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	switch req {
	case unix.TCGETS, tcGETS2, tcGETA, tiocGLCKTRMIOS:
		t.mu.Lock()
		b, old := t.t.encode(), t.t.encodeOld()
		if req == tiocGLCKTRMIOS {
			b = t.locked.encode()
		}
		t.mu.Unlock()
		switch req {
		case tcGETA:
			return put(c, sp, arg, old[:])
		case tcGETS2:
			return put(c, sp, arg, b[:])
		}
		return put(c, sp, arg, b[:termiosSize])
	case unix.TCSETS, tcSETS2, tcSETA, unix.TCSETSW, tcSETSW2, tcSETAW, unix.TCSETSF, tcSETSF2, tcSETAF:
		return 0, t.setIoctl(c, sp, req, arg)
	case tiocSLCKTRMIOS:
		if who := t.caller(c); who != nil && !who.Can(unix.CAP_SYS_ADMIN) {
			return 0, unix.EPERM
		}
		var b [termiosSize]byte
		if err := get(c, sp, arg, b[:]); err != nil {
			return 0, err
		}
		t.mu.Lock()
		t.locked.decode(b[:])
		t.mu.Unlock()
		return 0, nil
	case tiocGSOFTCAR, tiocSSOFTCAR:
		return t.softCarrier(c, sp, req, arg)
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
	case unix.TIOCGETD: // N_TTY, there is no other
		return putInt(c, sp, arg, 0)
	case unix.TIOCGEXCL:
		t.mu.Lock()
		v := uint32(0)
		if t.excl {
			v = 1
		}
		t.mu.Unlock()
		return putInt(c, sp, arg, v)
	case unix.TIOCEXCL, unix.TIOCNXCL:
		t.mu.Lock()
		t.excl = req == unix.TIOCEXCL
		t.mu.Unlock()
		return 0, nil
	case tiocGDEV:
		return putInt(c, sp, arg, uint32(t.dev))
	case tiocCONS:
		if who := t.caller(c); who != nil && !who.Can(unix.CAP_SYS_ADMIN) {
			return 0, unix.EPERM
		}
		return 0, unix.EINVAL // what goes to the console is not redirected
	case unix.TIOCVHANGUP:
		if who := t.caller(c); who != nil && !who.Can(unix.CAP_SYS_ADMIN) {
			return 0, unix.EPERM
		}
		t.VHangup()
		return 0, nil
	}
	return 0, unix.ENOTTY
}

// setIoctl is TCSETS and its kin: W waits for output, F throws input away too.
func (t *TTY) setIoctl(c wait.Context, sp *mm.Space, req uint32, arg uint64) error {
	if err := t.checkChange(c, unix.SIGTTOU); err != nil {
		return err
	}
	t.mu.Lock()
	n := t.t
	t.mu.Unlock()
	size := termiosSize
	switch req {
	case tcSETA, tcSETAW, tcSETAF:
		size = termioSize
	case tcSETS2, tcSETSW2, tcSETSF2:
		size = termios2Size
	}
	var b [termios2Size]byte
	if err := get(c, sp, arg, b[:size]); err != nil {
		return err
	}
	if size == termioSize {
		n.decodeOld(b[:size])
	} else {
		n.decode(b[:size])
	}
	switch req {
	case unix.TCSETSW, tcSETSW2, tcSETAW, unix.TCSETSF, tcSETSF2, tcSETAF:
		if err := t.drain(c); err != nil {
			return err
		}
	}
	t.set(n, req == unix.TCSETSF || req == tcSETSF2 || req == tcSETAF)
	return nil
}

// softCarrier is CLOCAL by another name.
func (t *TTY) softCarrier(c wait.Context, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	t.mu.Lock()
	n := t.t
	t.mu.Unlock()
	if req == tiocGSOFTCAR {
		return putInt(c, sp, arg, n.cflag&unix.CLOCAL/unix.CLOCAL)
	}
	v, err := getInt(c, sp, arg)
	if err != nil {
		return 0, err
	}
	if n.cflag &^= unix.CLOCAL; v != 0 {
		n.cflag |= unix.CLOCAL
	}
	t.set(n, false)
	return 0, nil
}

// drainStep is how often a line is looked at whose last bytes are on their way, in ns.
const drainStep = 1_000_000

// drain waits until what was written has left (tcdrain).
func (t *TTY) drain(c wait.Context) error {
	var e waiter.Entry
	e.Init(c.Listener(), waiter.WritableEvents|waiter.EventHUp)
	t.queue.EventRegister(&e)
	defer t.queue.EventUnregister(&e)
	for {
		t.mu.Lock()
		n := t.drv.pending()
		t.mu.Unlock()
		if n == 0 {
			return nil
		}
		if r := c.Block(t.after(drainStep), wait.Interruptible); r != wait.Ready && r != wait.Timeout {
			return r.Err()
		}
	}
}

// breakIoctl is the line discipline's number and the break condition, which only a port
// that can do it sends (ioctl_tty(2)).
func (t *TTY) breakIoctl(c wait.Context, sp *mm.Space, req uint32, arg uint64) error {
	d, _ := t.drv.(portDriver)
	line, _ := d.p.(Breaker)
	switch req {
	case unix.TIOCSETD:
		if v, err := getInt(c, sp, arg); err != nil {
			return err
		} else if v != 0 {
			return unix.EINVAL
		}
		return nil
	case unix.TCSBRK:
		if arg != 0 {
			return nil
		}
	case unix.TIOCSBRK, unix.TIOCCBRK:
		if line != nil {
			line.SetBreak(req == unix.TIOCSBRK)
		}
		return nil
	}
	if line == nil {
		return nil
	}
	ms := int64(breakTime)
	if req == unix.TCSBRKP && arg != 0 {
		ms = min(int64(arg&0xffff)*100, 60_000)
	}
	line.SetBreak(true)
	defer line.SetBreak(false)
	for end := t.after(ms * 1_000_000); ; {
		switch r := c.Block(end, wait.Interruptible); r {
		case wait.Ready:
		case wait.Timeout:
			return nil
		default:
			return unix.EINTR
		}
	}
}

// flush is TCFLSH.
func (t *TTY) flush(what uint64) error {
	if what > unix.TCIOFLUSH {
		return unix.EINVAL
	}
	t.mu.Lock()
	if what != unix.TCOFLUSH {
		t.flushInput()
	}
	if what != unix.TCIFLUSH {
		t.flushOutput()
	}
	t.unlock()
	return nil
}

// fake is TIOCSTI: one byte as if it had been typed.
func (t *TTY) fake(c wait.Context, sp *mm.Space, arg uint64) error {
	if who := t.caller(c); who != nil && !t.controls(who) && !who.Can(unix.CAP_SYS_ADMIN) {
		return unix.EPERM
	}
	var b [1]byte
	if err := get(c, sp, arg, b[:]); err != nil {
		return err
	}
	t.Receive(b[:])
	return nil
}

// hold is TCXONC: output stopped and started here, or the peer asked to do it.
func (t *TTY) hold(how uint64) error {
	t.mu.Lock()
	defer t.unlock()
	switch how {
	case unix.TCOOFF:
		if !t.tco {
			t.stop()
			t.tco = true
		}
	case unix.TCOON:
		if t.tco {
			t.tco = false
			t.start()
		}
	case unix.TCIOFF, unix.TCION:
		k := unix.VSTOP
		if how == unix.TCION {
			k = unix.VSTART
		}
		if ch := t.t.cc[k]; ch != disabled {
			t.drv.write([]byte{ch})
		}
	default:
		return unix.EINVAL
	}
	return nil
}

// Ioctl of a master: requests about settings, size and groups are the slave's.
func (f *master) Ioctl(c wait.Context, file *vfs.File, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	p, t := f.p, f.p.slave
	switch req {
	case unix.TIOCSPGRP, unix.TIOCGPGRP, unix.TIOCGSID, unix.TIOCSCTTY, unix.TIOCNOTTY:
		return t.sessionIoctl(c, true, file == nil || file.Readable(), sp, req, arg)
	case unix.TIOCSPTLCK, unix.TIOCPKT, tiocSIG:
		if req == tiocSIG {
			return 0, p.sendSignal(unix.Signal(int32(arg)))
		}
		v, err := getInt(c, sp, arg)
		if err != nil {
			return 0, err
		}
		t.mu.Lock()
		if req == unix.TIOCSPTLCK {
			p.lockedOpen = v != 0
		} else {
			if v != 0 && !p.packets {
				p.status = 0
			}
			p.packets = v != 0
		}
		t.mu.Unlock()
		return 0, nil
	case tiocGPTLCK, tiocGPKT, unix.TIOCGPTN, unix.TIOCINQ, unix.TIOCOUTQ:
		return putInt(c, sp, arg, p.value(req))
	case tiocGPTPEER:
		return f.peer(c, uint32(arg))
	case unix.TCFLSH:
		return 0, p.flushMaster(arg)
	case unix.TCXONC:
		return 0, p.holdMaster(arg)
	case unix.TCSBRK, unix.TCSBRKP, unix.TIOCSBRK, unix.TIOCCBRK:
		return 0, nil
	case unix.TIOCSETD:
		return 0, t.breakIoctl(c, sp, req, arg)
	case unix.TIOCSTI:
		if who := t.caller(c); who != nil && !who.Can(unix.CAP_SYS_ADMIN) {
			return 0, unix.EPERM
		}
		var b [1]byte
		if err := get(c, sp, arg, b[:]); err != nil {
			return 0, err
		}
		t.mu.Lock()
		t.drv.write(b[:])
		t.unlock()
		return 0, nil
	case unix.TIOCEXCL, unix.TIOCNXCL, unix.TIOCVHANGUP:
		return 0, nil // the master has one description and no line to hang up
	}
	return t.common(c, sp, req, arg)
}

// value is the requests of a master that read a number.
func (p *Pair) value(req uint32) uint32 {
	t := p.slave
	t.mu.Lock()
	defer t.mu.Unlock()
	on := false
	switch req {
	case unix.TIOCGPTN:
		return unix.Minor(t.dev)
	case unix.TIOCINQ:
		return uint32(min(len(p.out), masterKept))
	case tiocGPTLCK:
		on = p.lockedOpen
	case tiocGPKT:
		on = p.packets
	}
	if on {
		return 1
	}
	return 0
}

// sendSignal is TIOCSIG: a key's signal without the key.
func (p *Pair) sendSignal(sig unix.Signal) error {
	if sig != unix.SIGINT && sig != unix.SIGQUIT && sig != unix.SIGTSTP {
		return unix.EINVAL
	}
	p.slave.signal(p.slave.Foreground(), sig)
	return nil
}

// flushMaster is TCFLSH of the master: its input is the slave's output, and back.
func (p *Pair) flushMaster(what uint64) error {
	if what > unix.TCIOFLUSH {
		return unix.EINVAL
	}
	t := p.slave
	t.mu.Lock()
	if what != unix.TCOFLUSH {
		p.out = nil
		t.wake |= waiter.WritableEvents
	}
	if what != unix.TCIFLUSH {
		t.in = nil
		t.wakeMaster |= waiter.WritableEvents
	}
	t.unlock()
	return nil
}

// holdMaster is TCXONC of the master. The keys are lost if there is no room for them
// (tty_send_xchar).
func (p *Pair) holdMaster(how uint64) error {
	t := p.slave
	t.mu.Lock()
	defer t.unlock()
	switch how {
	case unix.TCOOFF, unix.TCOON:
		p.mstopped = how == unix.TCOOFF
		t.wakeMaster |= waiter.WritableEvents
	case unix.TCIOFF:
		t.arrive([]byte{19})
	case unix.TCION:
		t.arrive([]byte{17})
	default:
		return unix.EINVAL
	}
	return nil
}

// Peers opens the slave of a master for TIOCGPTPEER: the file system's part.
type Peers interface {
	OpenPeer(c wait.Context, p *Pair, flags uint32) (*vfs.File, error)
}

// peer is TIOCGPTPEER: a descriptor of the slave, wherever its node is.
func (f *master) peer(c wait.Context, flags uint32) (uintptr, error) {
	who := f.p.slave.caller(c)
	if who == nil || f.peers == nil {
		return 0, unix.EIO
	}
	file, err := f.peers.OpenPeer(c, f.p, flags)
	if err != nil {
		return 0, err
	}
	fd, err := who.Install(file, flags&unix.O_CLOEXEC != 0)
	if err != nil {
		file.DecRef()
		return 0, err
	}
	return uintptr(fd), nil
}
