package anon

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"weak"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

// siginfoSize is struct signalfd_siginfo.
const siginfoSize = 128

// SignalFD gives pending signals to whoever reads: those of the reader, as in Linux, and
// poll(2) sees those of who polls (ForReader). What epoll and the like see, which ask without
// saying who they are, are the signals of the thread that made it and of its process.
// See signalfd(2).
type SignalFD struct {
	Base
	process *task.Process
	maker   weak.Pointer[task.Thread]
	set     atomic.Uint64
}

// NewSignalFD makes one for the signals of set; flags are O_NONBLOCK or 0. It keeps the
// process: ENOMEM.
func NewSignalFD(t *task.Thread, set task.SigSet, flags uint32) (*vfs.File, error) {
	s := &SignalFD{process: t.Process(), maker: weak.Make(t)}
	if err := s.process.Keep(); err != nil {
		return nil, err
	}
	s.set.Store(uint64(set))
	return newFile(s, flags, "[signalfd]"), nil
}

// Release implements vfs.FileOps.
func (s *SignalFD) Release(*vfs.File) { s.process.Drop() }

// FDInfo implements vfs.FDInfoer.
func (s *SignalFD) FDInfo(_ wait.Context, b *bytes.Buffer) {
	fmt.Fprintf(b, "sigmask:\t%016x\n", s.set.Load())
}

// SetMask replaces the set for by; what is pending of it makes the file readable at once.
func (s *SignalFD) SetMask(by *task.Process, set task.SigSet) {
	s.set.Store(uint64(set))
	s.process.SignalEvents().Notify(waiter.ReadableEvents)
	if by != s.process {
		by.SignalEvents().Notify(waiter.ReadableEvents)
	}
}

var siginfos = sync.Pool{New: func() any { return new([siginfoSize]byte) }}

// Read implements vfs.FileOps: as many signals as fit, EINVAL if none would, EAGAIN.
func (s *SignalFD) Read(c wait.Context, _ *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	t, ok := c.(*task.Thread)
	if !ok || dst.Len() < siginfoSize {
		return 0, unix.EINVAL
	}
	b := siginfos.Get().(*[siginfoSize]byte)
	defer siginfos.Put(b)
	done := 0
	for dst.Len() >= siginfoSize {
		info, ok := t.TakeSignal(task.SigSet(s.set.Load()))
		if !ok {
			break
		}
		putSiginfo(b, &info)
		n, err := dst.CopyOut(b[:])
		if err != nil {
			if done == 0 {
				return 0, err // the signal is lost, as in Linux
			}
			break
		}
		done += n
	}
	if done == 0 {
		return 0, unix.EAGAIN
	}
	return done, nil
}

// putSiginfo fills a struct signalfd_siginfo (signalfd_copyinfo).
func putSiginfo(b *[siginfoSize]byte, i *task.SignalInfo) {
	clear(b[:])
	le := binary.LittleEndian
	le.PutUint32(b[0:], uint32(i.Signo))
	le.PutUint32(b[4:], uint32(i.Errno))
	le.PutUint32(b[8:], uint32(i.Code))
	le.PutUint32(b[12:], uint32(i.PID))
	le.PutUint32(b[16:], i.UID)
	switch i.Layout() {
	case task.LayoutSender, task.LayoutTimer:
		le.PutUint32(b[24:], uint32(i.TimerID))
		le.PutUint32(b[32:], uint32(i.Overrun))
		le.PutUint32(b[44:], uint32(i.Value))
		le.PutUint64(b[48:], i.Value)
	case task.LayoutChild:
		le.PutUint32(b[40:], uint32(i.Status))
		le.PutUint64(b[56:], uint64(i.UTime))
		le.PutUint64(b[64:], uint64(i.STime))
	case task.LayoutPoll:
		le.PutUint32(b[20:], uint32(i.FD))
		le.PutUint32(b[28:], uint32(i.Band))
	case task.LayoutFault:
		le.PutUint64(b[72:], i.Addr)
	case task.LayoutSys:
		le.PutUint32(b[84:], uint32(i.Syscall))
		le.PutUint64(b[88:], i.Addr)
		le.PutUint32(b[96:], task.AuditArch)
	}
}

// signalsOf is a SignalFD as one thread sees it.
type signalsOf struct {
	s *SignalFD
	t *task.Thread
}

// ForReader is what the thread c waits on until the file is readable for it: signals of
// its own.
func (s *SignalFD) ForReader(c wait.Context) waiter.Waitable {
	t, ok := c.(*task.Thread)
	if !ok || t == s.maker.Value() {
		return s
	}
	return &signalsOf{s, t}
}

func (s *SignalFD) ready(pending task.SigSet, mask waiter.EventMask) waiter.EventMask {
	if uint64(pending)&s.set.Load() != 0 {
		return mask & waiter.EventIn
	}
	return 0
}

// Readiness implements waiter.Waitable.
func (s *SignalFD) Readiness(mask waiter.EventMask) waiter.EventMask {
	if t := s.maker.Value(); t != nil {
		return s.ready(t.Pending(), mask)
	}
	return s.ready(s.process.Pending(), mask)
}

// EventRegister implements waiter.Waitable.
func (s *SignalFD) EventRegister(e *waiter.Entry) error {
	s.process.SignalEvents().EventRegister(e)
	return nil
}

// EventUnregister implements waiter.Waitable.
func (s *SignalFD) EventUnregister(e *waiter.Entry) { s.process.SignalEvents().EventUnregister(e) }

// Readiness implements waiter.Waitable.
func (r *signalsOf) Readiness(mask waiter.EventMask) waiter.EventMask {
	return r.s.ready(r.t.Pending(), mask)
}

// EventRegister implements waiter.Waitable.
func (r *signalsOf) EventRegister(e *waiter.Entry) error {
	r.t.Process().SignalEvents().EventRegister(e)
	return nil
}

// EventUnregister implements waiter.Waitable.
func (r *signalsOf) EventUnregister(e *waiter.Entry) {
	r.t.Process().SignalEvents().EventUnregister(e)
}
