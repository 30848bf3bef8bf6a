// Package anon is the files without a name in any tree: eventfd, timerfd, signalfd and
// memfd.
//
// Locks: each object's mu is a leaf; notifications are sent without it.
package anon

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

var (
	lastIno atomic.Uint64
	dev     = sync.OnceValue(vfs.AllocDev)
	words   = sync.Pool{New: func() any { return new([8]byte) }}
)

// Base is what the anonymous kinds share: attributes and a queue.
type Base struct {
	vfs.BaseOps
	Q wait.Queue
}

// Attr implements vfs.FileOps: all share one inode in Linux, too.
func (b *Base) Attr(wait.Context) (vfs.Attr, error) {
	return vfs.AnonAttr(), nil
}

// SetAttr implements vfs.FileOps.
func (b *Base) SetAttr(_ wait.Context, a vfs.SetAttr) error {
	return vfs.AnonSetAttr(a)
}

// NoSeek implements vfs.NoSeek.
func (b *Base) NoSeek() {}

// EventRegister and EventUnregister implement waiter.Waitable.
func (b *Base) EventRegister(e *waiter.Entry) error { b.Q.EventRegister(e); return nil }

// EventUnregister implements waiter.Waitable.
func (b *Base) EventUnregister(e *waiter.Entry) { b.Q.EventUnregister(e) }

// newFile makes the description of an anonymous inode.
func newFile(ops vfs.FileOps, flags uint32, name string) *vfs.File {
	f := vfs.NewFile(ops, unix.O_RDWR|flags)
	f.Name = "anon_inode:" + name
	return f
}

// putWord copies a number out.
func putWord(dst *mm.IOSeq, v uint64) (int, error) {
	n, err := dst.CopyOutWord(v)
	if err != nil {
		return 0, err
	}
	return n, nil
}

// EventFD is a counter. See eventfd(2).
type EventFD struct {
	Base
	mu    sync.Mutex
	count atomic.Uint64 // changed under mu
	sem   bool
}

// NewEventFD makes one; flags are O_NONBLOCK or 0.
func NewEventFD(initial uint32, semaphore bool, flags uint32) *vfs.File {
	e := &EventFD{sem: semaphore}
	e.count.Store(uint64(initial))
	return newFile(e, flags, "[eventfd]")
}

// FDInfo implements vfs.FDInfoer.
func (e *EventFD) FDInfo(_ wait.Context, b *bytes.Buffer) {
	fmt.Fprintf(b, "eventfd-count: %16x\n", e.count.Load())
}

// Read implements vfs.FileOps: EINVAL for less than 8 bytes, EAGAIN at zero.
func (e *EventFD) Read(_ wait.Context, _ *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	if dst.Len() < 8 {
		return 0, unix.EINVAL
	}
	e.mu.Lock()
	v := e.count.Load()
	if v == 0 {
		e.mu.Unlock()
		return 0, unix.EAGAIN
	}
	if e.sem {
		v = 1
	}
	e.count.Store(e.count.Load() - v)
	e.mu.Unlock()
	e.Q.Notify(waiter.EventOut)
	return putWord(dst, v)
}

// Write implements vfs.FileOps: EINVAL for all ones, EAGAIN where the sum would overflow.
func (e *EventFD) Write(_ wait.Context, _ *vfs.File, src *mm.IOSeq, _ int64) (int, error) {
	if src.Len() < 8 {
		return 0, unix.EINVAL
	}
	b := words.Get().(*[8]byte)
	defer words.Put(b)
	before := *src
	if _, err := src.CopyIn(b[:]); err != nil {
		return 0, err
	}
	v := binary.LittleEndian.Uint64(b[:])
	if v == ^uint64(0) {
		return 0, unix.EINVAL
	}
	if !e.Add(v) {
		*src = before
		return 0, unix.EAGAIN
	}
	src.Skip(src.Len()) // one value a write, however long
	return 8, nil
}

// Add adds v to the counter, or says that it would overflow.
func (e *EventFD) Add(v uint64) bool { return e.add(v, waiter.EventIn) }

// Completed is Add(1) for a completion of an io_uring.
func (e *EventFD) Completed() { e.add(1, waiter.EventIn|wait.RingWake) }

func (e *EventFD) add(v uint64, news waiter.EventMask) bool {
	e.mu.Lock()
	if v > ^uint64(0)-1-e.count.Load() {
		e.mu.Unlock()
		return false
	}
	e.count.Add(v)
	e.mu.Unlock()
	if v > 0 {
		e.Q.Notify(news)
	}
	return true
}

// Readiness implements waiter.Waitable.
func (e *EventFD) Readiness(mask waiter.EventMask) waiter.EventMask {
	n := e.count.Load()
	var r waiter.EventMask
	if n > 0 {
		r |= waiter.EventIn
	}
	if n < ^uint64(0)-1 {
		r |= waiter.EventOut
	}
	return r & mask
}
