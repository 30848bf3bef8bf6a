package tty

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// Jobs is what a terminal has to know of processes (credentials(7), job control).
type Jobs interface {
	// Caller is who makes a system call; nil is the kernel itself.
	Caller(c wait.Context) Caller
	// SessionOf is the session of a process group, 0 if there is no such group.
	SessionOf(pgrp int32) int32
	// Signal sends to every process of a group.
	Signal(pgrp int32, sig unix.Signal)
	// Leave makes every process of a session one without a terminal.
	Leave(sid int32)
	// HangUp takes t from the processes of a session that have it, and sends SIGHUP and
	// SIGCONT to its leader, who remembers the foreground group.
	HangUp(sid, pgrp int32, t *TTY)
}

// Caller is a process that asks something of its terminal.
type Caller interface {
	PID() int32
	PGID() int32
	SID() int32
	// TTY is its controlling terminal, nil if it has none.
	TTY() *TTY
	SetTTY(*TTY)
	// Can says whether it has a capability (CAP_*).
	Can(capability int) bool
	// Ignores says whether a signal is blocked or ignored.
	Ignores(sig unix.Signal) bool
	// Orphaned says whether nobody could continue its group were it stopped.
	Orphaned() bool
	// Install gives it a descriptor for f, whose reference it takes over if there is no
	// error.
	Install(f *vfs.File, cloexec bool) (int32, error)
}

func (t *TTY) signal(pgrp int32, sig unix.Signal) {
	if j := t.host.Jobs; j != nil && pgrp > 0 {
		j.Signal(pgrp, sig)
	}
}

// caller is who makes the call, nil for the kernel.
func (t *TTY) caller(c wait.Context) Caller {
	if t.host.Jobs == nil {
		return nil
	}
	return t.host.Jobs.Caller(c)
}

// Controlling is the terminal that /dev/tty is for a caller; ENXIO.
func (h *Host) Controlling(c wait.Context) (*TTY, error) {
	if h.Jobs != nil {
		if who := h.Jobs.Caller(c); who != nil {
			if t := who.TTY(); t != nil {
				return t, nil
			}
		}
	}
	return nil, unix.ENXIO
}

// controls says whether t is who's controlling terminal.
func (t *TTY) controls(who Caller) bool { return who != nil && who.TTY() == t }

// checkChange keeps a background group from its terminal, as Linux's tty_check_change:
// it gets the signal and the call is restarted, or fails with EIO where nobody could
// stop or continue it.
func (t *TTY) checkChange(c wait.Context, sig unix.Signal) error {
	who := t.caller(c)
	if !t.controls(who) {
		return nil
	}
	own, pgrp := who.PGID(), t.Foreground()
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

// MayOpen is what tty_open does about exclusive use and sessions before a description is
// made: EBUSY; a session leader without a terminal that opens one which is free gets it,
// unless it is noctty (O_NOCTTY, /dev/console, /dev/tty).
func (t *TTY) MayOpen(c wait.Context, flags uint32, noctty bool) error {
	who := t.caller(c)
	if who == nil {
		return nil
	}
	t.mu.Lock()
	busy := t.excl
	t.mu.Unlock()
	if busy && !who.Can(unix.CAP_SYS_ADMIN) {
		return unix.EBUSY
	}
	if noctty || flags&unix.O_NOCTTY != 0 || flags&unix.O_ACCMODE == unix.O_WRONLY || who.PID() != who.SID() {
		return nil
	}
	t.host.jobs.Lock()
	defer t.host.jobs.Unlock()
	if who.TTY() == nil && t.session() == 0 {
		t.give(who)
	}
	return nil
}

func (t *TTY) session() int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sid
}

// give makes t who's controlling terminal. Called with Host.jobs held.
func (t *TTY) give(who Caller) {
	sid, pgrp := who.SID(), who.PGID()
	t.mu.Lock()
	t.sid, t.pgrp = sid, pgrp
	t.mu.Unlock()
	who.SetTTY(t)
}

// Give makes t the terminal of a session, whose leader's group is in the foreground (boot).
func (t *TTY) Give(sid int32) {
	t.mu.Lock()
	t.sid, t.pgrp = sid, sid
	t.mu.Unlock()
}

// LeaderEnded is told that the leader of session sid, whose terminal t is, has ended.
func (t *TTY) LeaderEnded(sid int32) { t.disassociate(sid, true) }

// disassociate takes t from its session, because the leader has ended or said TIOCNOTTY:
// the foreground group is hung up on, and with a terminal that is no pty, at the leader's
// end, everybody (disassociate_ctty).
func (t *TTY) disassociate(sid int32, ended bool) {
	if ended && t.pair == nil {
		t.hangUp(true)
	} else {
		pgrp := t.Foreground()
		t.signal(pgrp, unix.SIGHUP)
		if !ended {
			t.signal(pgrp, unix.SIGCONT)
		}
	}
	t.host.jobs.Lock()
	defer t.host.jobs.Unlock()
	t.mu.Lock()
	if t.sid == sid {
		t.sid, t.pgrp = 0, 0
	}
	t.mu.Unlock()
	t.host.Jobs.Leave(sid)
}

// VHangup is vhangup(2) and TIOCVHANGUP.
func (t *TTY) VHangup() { t.hangUp(false) }

// sessionIoctl is the part of ioctl_tty(2) about sessions and groups. t is the slave when
// the master asks, which may look at a terminal that is not its own.
func (t *TTY) sessionIoctl(c wait.Context, fromMaster, readable bool, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	who := t.caller(c)
	switch req {
	case unix.TIOCGPGRP, unix.TIOCGSID:
		if who != nil && !fromMaster && !t.controls(who) {
			return 0, unix.ENOTTY
		}
		t.mu.Lock()
		v := t.pgrp
		if req == unix.TIOCGSID {
			v = t.sid
		}
		t.mu.Unlock()
		if req == unix.TIOCGSID && v == 0 {
			return 0, unix.ENOTTY
		}
		return putInt(c, sp, arg, uint32(v))
	case unix.TIOCSPGRP:
		return 0, t.setGroup(c, who, sp, arg)
	case unix.TIOCSCTTY:
		return 0, t.acquire(who, readable, arg)
	case unix.TIOCNOTTY:
		if fromMaster || !t.controls(who) {
			return 0, unix.ENOTTY
		}
		if who.PID() == who.SID() {
			t.disassociate(who.SID(), false)
		}
		who.SetTTY(nil)
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
		if !t.controls(who) || t.session() != who.SID() {
			return unix.ENOTTY
		}
		switch t.host.Jobs.SessionOf(v) {
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
	t.host.jobs.Lock()
	defer t.host.jobs.Unlock()
	sid, leads := who.SID(), who.PID() == who.SID()
	owner, admin := t.session(), who.Can(unix.CAP_SYS_ADMIN)
	switch {
	case leads && owner == sid:
		return nil
	case !leads || who.TTY() != nil:
		return unix.EPERM
	case owner != 0 && (arg != 1 || !admin), !readable && !admin:
		return unix.EPERM
	}
	if owner != 0 {
		t.host.Jobs.Leave(owner)
	}
	t.give(who)
	return nil
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

func getInt(c wait.Context, sp *mm.Space, arg uint64) (int32, error) {
	var b [4]byte
	err := get(c, sp, arg, b[:])
	return int32(binary.LittleEndian.Uint32(b[:])), err
}
