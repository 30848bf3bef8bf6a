// Package uring is the shared memory of io_uring(7): a ring of submissions that the
// program fills, and one of completions that the kernel fills.
//
// The rings are the pages of one mm.Object, which the program maps and the kernel holds.
// Whatever the program writes there is read once and checked: a wild head or tail costs
// the program its own completions and nothing else. What a submission does is the business
// of package syscalls.
//
// Lock: Ring.mu is a leaf; notifications are sent without it.
package uring

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// Offsets for mmap (uapi/linux/io_uring.h).
const (
	OffSQRing = 0
	OffCQRing = 0x8000000
	OffSQEs   = 0x10000000
)

// Sizes of the entries, in bytes.
const (
	SQESize = 64
	CQESize = 16
)

// The layout of Linux's struct io_rings; programs learn it from Offsets. Heads and tails
// have cache lines of their own.
const (
	sqHead, sqTail       = 0, 64
	cqHead, cqTail       = 128, 192
	sqMask, cqMask       = 256, 260
	sqEntries, cqEntries = 264, 268
	sqDropped, sqFlags   = 272, 276
	cqFlags, cqOverflow  = 280, 284
	cqesAt               = 320
)

// Bits of the submission ring's flags.
const (
	needWakeup  = 1 << 0 // for IORING_SETUP_SQPOLL
	overflowBit = 1 << 1
)

// CQE is one completion.
type CQE struct {
	UserData uint64
	Res      int32
	Flags    uint32
}

// Ring is the file of one io_uring.
type Ring struct {
	vfs.BaseOps
	q      waiter.Queue
	obj    *mm.Object
	pages  map[int64]*hal.DMA // by index, for good
	budget *mm.Budget

	nSQ, nCQ uint32
	arrayAt  int64
	size     int64 // of the part with both rings
	// Gone is called when the last descriptor is closed.
	Gone func()

	mu       sync.Mutex
	tail     uint32 // the completion ring's, which the program cannot change
	head     uint32 // the submission ring's
	overflow []CQE
	eventfd  func()
}

// overflowCost is what a completion that does not fit is charged, in bytes.
const overflowCost = 32

// New makes the rings; sq and cq are powers of two. ENOMEM.
func New(mem *mm.Memory, sq, cq uint32) (*Ring, error) {
	r := &Ring{budget: mem.Budget(), pages: map[int64]*hal.DMA{}, nSQ: sq, nCQ: cq}
	r.arrayAt = (cqesAt + int64(cq)*CQESize + 63) &^ 63
	r.size = r.arrayAt + int64(sq)*4
	r.obj = mm.NewObject(mem, nil, OffSQEs+(int64(sq)*SQESize+hal.PageMask)&^hal.PageMask)
	for off := int64(0); off < r.size; off += hal.PageSize {
		if err := r.hold(mem, off>>hal.PageShift); err != nil {
			r.drop(mem)
			return nil, err
		}
	}
	for off := int64(0); off < int64(sq)*SQESize; off += hal.PageSize {
		if err := r.hold(mem, (OffSQEs+off)>>hal.PageShift); err != nil {
			r.drop(mem)
			return nil, err
		}
	}
	r.put32(sqMask, sq-1)
	r.put32(cqMask, cq-1)
	r.put32(sqEntries, sq)
	r.put32(cqEntries, cq)
	return r, nil
}

func (r *Ring) hold(mem *mm.Memory, idx int64) error {
	f, err := r.obj.Page(nil, idx)
	if err != nil {
		return err
	}
	r.pages[idx] = &hal.DMA{Frame: f, Bytes: mem.Bytes(f)}
	return nil
}

func (r *Ring) drop(mem *mm.Memory) {
	for _, p := range r.pages {
		mem.Unref(p.Frame)
	}
	r.pages = nil
	r.obj.DecRef()
}

func (r *Ring) at(off int64) (*hal.DMA, int) {
	return r.pages[off>>hal.PageShift], int(off & hal.PageMask)
}

func (r *Ring) get32(off int64) uint32 { d, o := r.at(off); return d.Load32(o) }

func (r *Ring) put32(off int64, v uint32) { d, o := r.at(off); d.Publish32(o, v) }

// Offsets fills struct io_sqring_offsets and struct io_cqring_offsets, 40 bytes each.
func (r *Ring) Offsets(sq, cq []byte) {
	le := binary.LittleEndian
	for i, v := range []uint32{sqHead, sqTail, sqMask, sqEntries, sqFlags, sqDropped, uint32(r.arrayAt)} {
		le.PutUint32(sq[4*i:], v)
	}
	for i, v := range []uint32{cqHead, cqTail, cqMask, cqEntries, cqOverflow, cqesAt, cqFlags} {
		le.PutUint32(cq[4*i:], v)
	}
}

// MapOffset implements vfs.OffsetMapper: both rings lie at the first offset, too.
func (r *Ring) MapOffset(off int64, length uint64) (int64, error) {
	size := uint64(r.size+hal.PageMask) &^ hal.PageMask
	switch off {
	case OffCQRing:
		off = OffSQRing
	case OffSQRing:
	case OffSQEs:
		size = uint64(r.nSQ*SQESize+hal.PageMask) &^ hal.PageMask
	default:
		return 0, unix.EINVAL
	}
	if length > size {
		return 0, unix.EINVAL
	}
	return off, nil
}

// Object implements vfs.FileOps.
func (r *Ring) Object(wait.Context) (*mm.Object, error) { return r.obj, nil }

// Attr implements vfs.FileOps.
func (r *Ring) Attr(wait.Context) (vfs.Attr, error) { return vfs.AnonAttr(), nil }

// Entries is how many completions fit.
func (r *Ring) Entries() uint32 { return r.nCQ }

// Next takes the next submission into sqe; false if there is none. A number beyond the
// ring is counted as dropped and passed over.
func (r *Ring) Next(sqe *[SQESize]byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		tail := r.get32(sqTail)
		if r.head == tail {
			return false
		}
		i := r.get32(r.arrayAt + int64(r.head&(r.nSQ-1))*4)
		r.head++
		if i >= r.nSQ {
			r.put32(sqDropped, r.get32(sqDropped)+1)
			r.put32(sqHead, r.head)
			return false
		}
		d, o := r.at(OffSQEs + int64(i)*SQESize)
		copy(sqe[:], d.Bytes[o:o+SQESize])
		r.put32(sqHead, r.head)
		return true
	}
}

// Post adds a completion. One that finds the ring full is kept until there is room.
func (r *Ring) Post(c CQE) {
	r.mu.Lock()
	r.flushLocked()
	switch {
	case len(r.overflow) == 0 && r.room():
		r.store(c)
	case r.budget.Charge(overflowCost):
		r.overflow = append(r.overflow, c)
		r.setFlag(overflowBit, true)
	default:
		r.put32(cqOverflow, r.get32(cqOverflow)+1)
	}
	f := r.eventfd
	r.mu.Unlock()
	r.q.Notify(waiter.EventIn | wait.RingWake)
	if f != nil {
		f()
	}
}

func (r *Ring) room() bool { return r.tail-r.get32(cqHead) < r.nCQ }

func (r *Ring) store(c CQE) {
	d, o := r.at(cqesAt + int64(r.tail&(r.nCQ-1))*CQESize)
	d.Store64(o, c.UserData)
	d.Store32(o+8, uint32(c.Res))
	d.Store32(o+12, c.Flags)
	r.tail++
	r.put32(cqTail, r.tail)
}

func (r *Ring) setFlag(bit uint32, on bool) {
	v := r.get32(sqFlags) &^ bit
	if on {
		v |= bit
	}
	r.put32(sqFlags, v)
}

// Spill moves completions that did not fit into the ring.
func (r *Ring) Spill() {
	r.mu.Lock()
	r.flushLocked()
	r.mu.Unlock()
}

func (r *Ring) flushLocked() {
	if len(r.overflow) == 0 {
		return
	}
	n := 0
	for n < len(r.overflow) && r.room() {
		r.store(r.overflow[n])
		n++
	}
	r.budget.Uncharge(int64(n) * overflowCost)
	if r.overflow = r.overflow[n:]; len(r.overflow) == 0 {
		r.overflow = nil
		r.setFlag(overflowBit, false)
	}
}

// Ready is how many completions the program has not taken, those that did not fit included.
func (r *Ring) Ready() uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tail - r.get32(cqHead) + uint32(len(r.overflow))
}

// SetEventFD has f called with each completion; nil ends that. False if there is one.
func (r *Ring) SetEventFD(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f != nil && r.eventfd != nil || f == nil && r.eventfd == nil {
		return false
	}
	r.eventfd = f
	return true
}

// Readiness implements waiter.Waitable.
func (r *Ring) Readiness(mask waiter.EventMask) waiter.EventMask {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := waiter.EventMask(0)
	if r.get32(sqTail)-r.head < r.nSQ {
		m |= waiter.WritableEvents
	}
	if r.tail != r.get32(cqHead) || len(r.overflow) > 0 {
		m |= waiter.ReadableEvents
	}
	return m & mask
}

// EventRegister and EventUnregister implement waiter.Waitable.
func (r *Ring) EventRegister(e *waiter.Entry) error { r.q.EventRegister(e); return nil }

// EventUnregister implements waiter.Waitable.
func (r *Ring) EventUnregister(e *waiter.Entry) { r.q.EventUnregister(e) }

// Release implements vfs.FileOps. Mappings hold the file, so nobody sees the pages now.
func (r *Ring) Release(*vfs.File) {
	if r.Gone != nil {
		r.Gone()
	}
}

// Free gives the pages back, and what did not fit in them; nothing may be posted afterwards.
func (r *Ring) Free(mem *mm.Memory) {
	r.budget.Uncharge(int64(len(r.overflow)) * overflowCost)
	r.overflow = nil
	r.drop(mem)
}

// Sleep says to the program that whoever polls the submissions is asleep, as it always is
// here: they are taken when the program wakes it.
func (r *Ring) Sleep() { r.setFlag(needWakeup, true) }
