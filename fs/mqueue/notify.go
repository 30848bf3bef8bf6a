package mqueue

import (
	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/task"
)

// Kinds of notification (asm-generic/siginfo.h) and what a cookie ends with
// (linux/mqueue.h).
const (
	SigevSignal = 0
	SigevNone   = 1
	SigevThread = 2
	siMesgq     = -3

	CookieLen     = 32 // NOTIFY_COOKIE_LEN
	cookieWokenUp = 1
	cookieRemoved = 2
)

// CookieSink is a netlink socket, through which libc's thread for SIGEV_THREAD hears.
type CookieSink interface{ Deliver(b []byte) }

// Notification is what mq_notify asks for.
type Notification struct {
	Notify, Signo int32
	Value         uint64
	Cookie        []byte // SIGEV_THREAD
	Sink          CookieSink
}

// registration is the one process that is told of a message in an empty queue.
type registration struct {
	notify, signo, pid int32
	value              uint64
	cookie             []byte
	sink               CookieSink
	process            *task.Process
	table              *vfs.FDTable // whose close ends it
}

// Notify is mq_notify: EBUSY if a process is registered; nil takes the caller's
// registration back.
func (q *Queue) Notify(t *task.Thread, n *Notification) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := t.Process()
	if n == nil {
		if q.notify != nil && q.notify.process == p {
			q.unregister()
		}
		return nil
	}
	if q.notify != nil {
		return unix.EBUSY
	}
	q.notify = &registration{notify: n.Notify, signo: n.Signo, pid: p.PID(), value: n.Value, cookie: n.Cookie, sink: n.Sink,
		process: p, table: t.FDs()}
	return nil
}

// unregister is remove_notification. mu is held.
func (q *queue) unregister() {
	q.notify.say(cookieRemoved)
	q.notify = nil
}

func (r *registration) say(code byte) {
	if r.notify == SigevThread {
		r.cookie[CookieLen-1] = code
		r.sink.Deliver(r.cookie)
	}
}

// tell is __do_notify: once, and then anybody may register. mu is held.
func (q *queue) tell(t *task.Thread) {
	r := q.notify
	if r == nil {
		return
	}
	q.notify = nil
	switch r.notify {
	case SigevSignal:
		if r.signo != 0 {
			r.process.SendSignal(task.SignalInfo{Signo: r.signo, Code: siMesgq, PID: t.Process().PID(), UID: t.Creds().UID, Value: r.value})
		}
	case SigevThread:
		r.say(cookieWokenUp)
	}
}
