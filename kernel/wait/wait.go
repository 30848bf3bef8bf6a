// Package wait is the one model of blocking.
//
// Objects (pipes, sockets, eventfds, children, futexes) never block. They answer
// EAGAIN, report readiness and keep a waiter.Queue. Whoever wants to wait
// registers an entry whose listener is its Context and calls Block in a loop:
//
//	var e waiter.Entry
//	e.Init(c.Listener(), waiter.ReadableEvents)
//	f.EventRegister(&e)
//	defer f.EventUnregister(&e)
//	for {
//		n, err := f.Read(c, dst, off)
//		if err != unix.EAGAIN {
//			return n, err
//		}
//		if r := c.Block(deadline, wait.Interruptible); r != wait.Ready {
//			return 0, r.Err()
//		}
//	}
//
// A program's thread is a Context (kernel/task), which gives its CPU token back
// while it blocks; Background is one for kernel goroutines.
package wait

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"
)

// RingWake goes with an event that is a completion of an io_uring, for those who listen for it:
// from the ring to who polls it, through eventfds and epoll sets. A request that makes a
// completion of each event would answer itself for ever (EPOLL_URING_WAKE).
const RingWake waiter.EventMask = 1 << 27

// Kind says what may end a wait before its event.
type Kind uint8

// Kinds of waiting, as Linux has them.
const (
	Interruptible   Kind = iota // signals, kill and stop end it
	Killable                    // only a fatal signal ends it
	Uninterruptible             // only the event or the deadline ends it: device I/O
)

// Result says how a wait ended.
type Result uint8

// Results of Block.
const (
	Ready   Result = iota // notified (perhaps spuriously: test again)
	Timeout               // the deadline passed
	Signal                // a signal is pending
	Kill                  // the thread is to die
	Stop                  // a stop, ptrace or freeze request is pending
)

// Again says that err is EAGAIN: a comparison of interfaces takes five times as long.
func Again(err error) bool {
	e, ok := err.(unix.Errno)
	return ok && e == unix.EAGAIN
}

// ErrRestart is what an interrupted call returns where Linux has ERESTARTSYS: the
// exit-to-user boundary turns it into EINTR or a rewound instruction. The other
// restart codes live beside it. Their numbers are Linux's (include/linux/errno.h)
// and never reach a program.
const (
	ErrRestart      = unix.Errno(512) // ERESTARTSYS: restart if SA_RESTART or no handler
	ErrRestartNoInt = unix.Errno(513) // ERESTARTNOINTR: always restart
	ErrRestartNoHnd = unix.Errno(514) // ERESTARTNOHAND: restart only if no handler ran
	ErrRestartBlock = unix.Errno(516) // ERESTART_RESTARTBLOCK: through restart_syscall
)

// Err is the error an ordinary blocking call returns for a wait that ended so.
// Ready has none; Timeout is ETIMEDOUT, which many calls replace.
func (r Result) Err() error {
	switch r {
	case Ready:
		return nil
	case Timeout:
		return unix.ETIMEDOUT
	}
	return ErrRestart
}

// Context is the one who waits. It may have any number of entries registered,
// and only its own goroutine calls Block.
type Context interface {
	// Listener wakes this context; its NotifyEvent never blocks. A wake-up that
	// comes while the context is not blocked makes its next Block return Ready.
	Listener() waiter.EventListener
	// Block waits for a notification, the absolute deadline in nanoseconds of
	// hal.Machine.Nanotime (hal.NoDeadline: none), or what kind allows.
	Block(deadline int64, kind Kind) Result
}

type background struct{ ch chan struct{} }

// Background is a Context for a kernel goroutine: it has no signals, and no
// deadline but NoDeadline (others are ignored: kernel goroutines take their
// timers from kernel/timer). Not for sharing between goroutines.
func Background() Context { return &background{make(chan struct{}, 1)} }

func (b *background) Listener() waiter.EventListener { return b }

// NotifyEvent implements waiter.EventListener.
func (b *background) NotifyEvent(waiter.EventMask) {
	select {
	case b.ch <- struct{}{}:
	default:
	}
}

func (b *background) Block(int64, Kind) Result {
	<-b.ch
	return Ready
}
