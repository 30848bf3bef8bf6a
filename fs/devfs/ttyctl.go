package devfs

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// Jobs is what the terminal has to know of processes (credentials(7), job control).
type Jobs interface {
	// Caller is who makes a system call; nil is the kernel itself.
	Caller(c wait.Context) Caller
	// SessionOf is the session of a process group, 0 if there is no such group.
	SessionOf(pgrp int32) int32
	// Signal sends to every process of a group.
	Signal(pgrp int32, sig unix.Signal)
	// Leave makes every process of a session one without a terminal.
	Leave(sid int32)
}

// Caller is a process that asks something of its terminal.
type Caller interface {
	PID() int32
	PGID() int32
	SID() int32
	// HasTTY says whether its session's terminal is its own too.
	HasTTY() bool
	SetTTY(bool)
	// Admin says whether it has CAP_SYS_ADMIN.
	Admin() bool
	// Ignores says whether a signal is blocked or ignored.
	Ignores(sig unix.Signal) bool
	// Orphaned says whether nobody could continue its group were it stopped.
	Orphaned() bool
}

func (t *TTY) signal(pgrp int32, sig unix.Signal) {
	if t.Jobs != nil && pgrp > 0 {
		t.Jobs.Signal(pgrp, sig)
	}
}

func (t *TTY) caller(c wait.Context) Caller {
	if t.Jobs == nil {
		return nil
	}
	return t.Jobs.Caller(c)
}

// controls says whether t is who's controlling terminal. There is one terminal.
func (t *TTY) controls(who Caller) bool {
	if who == nil || !who.HasTTY() {
		return false
	}
	sid := who.SID()
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sid == sid
}

// checkChange keeps a background group from its terminal, as Linux's tty_check_change:
// it gets the signal and the call is restarted, or fails with EIO where nobody could
// stop or continue it.
func (t *TTY) checkChange(c wait.Context, sig unix.Signal) error {
	who := t.caller(c)
	if !t.controls(who) {
		return nil
	}
	own := who.PGID()
	t.mu.Lock()
	pgrp := t.pgrp
	t.mu.Unlock()
	switch {
	case pgrp == 0 || pgrp == own:
		return nil
	case who.Ignores(sig):
		if sig == unix.SIGTTIN {
			return unix.EIO
		}
		return nil
	case who.Orphaned():
		return unix.EIO
	}
	t.signal(own, sig)
	return wait.ErrRestart
}

// open is what tty_open does about exclusive use and sessions: a session leader without
// a terminal that opens one which is free gets it.
func (t *TTY) open(l vfs.Lookup, flags uint32, console bool) error {
	who := t.caller(l.C)
	if who == nil {
		return nil
	}
	t.mu.Lock()
	busy, sid := t.excl, t.sid
	t.mu.Unlock()
	if busy && !who.Admin() {
		return unix.EBUSY
	}
	if flags&unix.O_NOCTTY == 0 && flags&unix.O_ACCMODE != unix.O_WRONLY && !console && who.PID() == who.SID() && !who.HasTTY() && sid == 0 {
		t.give(who)
	}
	return nil
}

// give makes t who's controlling terminal.
func (t *TTY) give(who Caller) {
	sid, pgrp := who.SID(), who.PGID()
	t.mu.Lock()
	t.sid, t.pgrp = sid, pgrp
	t.mu.Unlock()
	who.SetTTY(true)
}

// Give makes it the terminal of a session, whose leader's group is in the foreground.
func (t *TTY) Give(sid int32) {
	t.mu.Lock()
	t.sid, t.pgrp = sid, sid
	t.mu.Unlock()
}

// LeaderEnded is told that the leader of a session with a terminal has ended: the
// foreground group is hung up on and the terminal is free.
func (t *TTY) LeaderEnded(sid int32) {
	t.mu.Lock()
	ours, pgrp := t.sid == sid, t.pgrp
	if ours {
		t.sid, t.pgrp = 0, 0
	}
	t.mu.Unlock()
	if ours {
		t.signal(pgrp, unix.SIGHUP)
		t.signal(pgrp, unix.SIGCONT)
		t.Jobs.Leave(sid)
	}
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

// Ioctl serves ioctl_tty(2). What changes the terminal is not for a background group.
func (f *ttyFile) Ioctl(c wait.Context, file *vfs.File, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	switch req {
	case unix.TCSETS, unix.TCSETSW, unix.TCSETSF, unix.TCSBRK, unix.TCSBRKP, unix.TIOCSBRK, unix.TCXONC, unix.TCFLSH, unix.TIOCSETD:
		if err := f.t.checkChange(c, unix.SIGTTOU); err != nil {
			return 0, err
		}
	}
	switch req {
	case unix.TCGETS, unix.TCSETS, unix.TCSETSW, unix.TCSETSF, unix.TIOCGWINSZ, unix.TIOCSWINSZ, unix.TIOCINQ, unix.TIOCOUTQ,
		unix.TIOCGETD, unix.TIOCSETD, unix.TIOCGEXCL:
		return f.attrs(c, sp, req, arg)
	case unix.TCSBRK, unix.TCSBRKP, unix.TCXONC, unix.TCFLSH, unix.TIOCSBRK, unix.TIOCCBRK, unix.TIOCEXCL, unix.TIOCNXCL, unix.TIOCSTI:
		return 0, f.flow(c, sp, req, arg)
	}
	return f.session(c, file, sp, req, arg)
}

// attrs is the part about settings and counts.
func (f *ttyFile) attrs(c wait.Context, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
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
	case unix.TIOCINQ:
		t.mu.Lock()
		n := len(t.ready)
		t.mu.Unlock()
		return putInt(c, sp, arg, uint32(n))
	case unix.TIOCOUTQ, unix.TIOCGETD: // nothing is kept here; N_TTY
		return putInt(c, sp, arg, 0)
	case unix.TIOCSETD:
		var b [4]byte
		if err := get(c, sp, arg, b[:]); err != nil {
			return 0, err
		}
		if binary.LittleEndian.Uint32(b[:]) != 0 {
			return 0, unix.EINVAL // there is no other line discipline
		}
	case unix.TIOCGEXCL:
		t.mu.Lock()
		v := uint32(0)
		if t.excl {
			v = 1
		}
		t.mu.Unlock()
		return putInt(c, sp, arg, v)
	}
	return 0, nil
}

// flow is the part about the line. A break cannot be sent over a Port, which is no error
// (ioctl_tty(2)), and what was written has left at once.
func (f *ttyFile) flow(c wait.Context, sp *mm.Space, req uint32, arg uint64) error {
	t := f.t
	switch req {
	case unix.TCXONC:
		return t.hold(arg)
	case unix.TCFLSH:
		if arg > unix.TCIOFLUSH {
			return unix.EINVAL
		}
		if arg != unix.TCOFLUSH {
			t.mu.Lock()
			t.flushInput()
			t.mu.Unlock()
		}
	case unix.TIOCEXCL, unix.TIOCNXCL:
		t.mu.Lock()
		t.excl = req == unix.TIOCEXCL
		t.mu.Unlock()
	case unix.TIOCSTI: // one byte as if it had been typed
		if who := t.caller(c); who != nil && !t.controls(who) && !who.Admin() {
			return unix.EPERM
		}
		var b [1]byte
		if err := get(c, sp, arg, b[:]); err != nil {
			return err
		}
		t.Receive(b[:])
	}
	return nil
}

// hold is TCXONC: output stopped and started here, or the peer asked to do it.
func (t *TTY) hold(how uint64) error {
	t.mu.Lock()
	switch how {
	case unix.TCOOFF:
		t.off, t.tco = true, true
	case unix.TCOON:
		if t.tco {
			t.off, t.tco = false, false
		}
	case unix.TCIOFF, unix.TCION:
		ch := t.t.cc[unix.VSTOP]
		if how == unix.TCION {
			ch = t.t.cc[unix.VSTART]
		}
		if ch != 0 {
			t.port.Write([]byte{ch})
		}
	default:
		t.mu.Unlock()
		return unix.EINVAL
	}
	t.mu.Unlock()
	t.queue.Notify(waiter.WritableEvents)
	return nil
}

// session is the part about sessions and groups.
func (f *ttyFile) session(c wait.Context, file *vfs.File, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	t := f.t
	who := t.caller(c)
	switch req {
	case unix.TIOCGPGRP, unix.TIOCGSID:
		if who != nil && !t.controls(who) {
			return 0, unix.ENOTTY
		}
		t.mu.Lock()
		v := t.pgrp
		if req == unix.TIOCGSID {
			v = t.sid
		}
		t.mu.Unlock()
		return putInt(c, sp, arg, uint32(v))
	case unix.TIOCSPGRP:
		return 0, t.setGroup(c, who, sp, arg)
	case unix.TIOCSCTTY:
		return 0, t.acquire(who, file == nil || file.Readable(), arg)
	case unix.TIOCNOTTY:
		if !t.controls(who) {
			return 0, unix.ENOTTY
		}
		if who.PID() == who.SID() {
			t.LeaderEnded(who.SID())
		}
		who.SetTTY(false)
		return 0, nil
	}
	return 0, unix.ENOTTY
}

// setGroup is TIOCSPGRP; the order of errors is Linux's tiocspgrp.
func (t *TTY) setGroup(c wait.Context, who Caller, sp *mm.Space, arg uint64) error {
	switch err := t.checkChange(c, unix.SIGTTOU); err {
	case nil:
	case unix.EIO:
		return unix.ENOTTY
	default:
		return err
	}
	var b [4]byte
	if err := get(c, sp, arg, b[:]); err != nil {
		return err
	}
	v := int32(binary.LittleEndian.Uint32(b[:]))
	if v < 0 {
		return unix.EINVAL
	}
	if who != nil {
		if !t.controls(who) {
			return unix.ENOTTY
		}
		switch t.Jobs.SessionOf(v) {
		case 0:
			return unix.ESRCH
		case who.SID():
		default:
			return unix.EPERM
		}
	}
	t.mu.Lock()
	t.pgrp = v
	t.mu.Unlock()
	return nil
}

// acquire is TIOCSCTTY: for a session leader without a terminal, and if the terminal is
// another session's, for CAP_SYS_ADMIN with the argument 1.
func (t *TTY) acquire(who Caller, readable bool, arg uint64) error {
	if who == nil {
		return nil
	}
	sid, leads := who.SID(), who.PID() == who.SID()
	t.mu.Lock()
	owner := t.sid
	t.mu.Unlock()
	switch {
	case leads && owner == sid && who.HasTTY():
		return nil
	case !leads || who.HasTTY():
		return unix.EPERM
	case owner != 0 && (arg != 1 || !who.Admin()), !readable && !who.Admin():
		return unix.EPERM
	}
	if owner != 0 {
		t.Jobs.Leave(owner)
	}
	t.give(who)
	return nil
}

func (t *TTY) set(b []byte, flush bool) {
	t.mu.Lock()
	was := t.t.lflag
	t.t.decode(b)
	if flush {
		t.flushInput()
	}
	if t.t.iflag&unix.IXON == 0 {
		t.restart() // no character could any more (n_tty_set_termios)
	}
	if was&unix.ICANON != 0 && t.t.lflag&unix.ICANON == 0 {
		// What was typed so far becomes readable at once.
		t.ready, t.ends, t.line = append(t.ready, t.line...), t.ends[:0], t.line[:0]
	} else if was&unix.ICANON == 0 && t.t.lflag&unix.ICANON != 0 && len(t.ready) > 0 {
		t.ends = append(t.ends[:0], len(t.ready))
	}
	t.mu.Unlock()
	t.queue.Notify(waiter.ReadableEvents | waiter.WritableEvents)
}

func (t *TTY) resize(ws [8]byte) {
	t.mu.Lock()
	changed := t.ws != ws
	t.ws = ws
	pgrp := t.pgrp
	t.mu.Unlock()
	if changed {
		t.signal(pgrp, unix.SIGWINCH)
	}
}
