package virtio

import (
	"fmt"
	"sync/atomic"

	"kiln/kernel/hal"
)

// Seg is a piece of memory lent to the device.
type Seg struct {
	Addr hal.PhysAddr
	Len  uint32
}

// QueueConfig says how a driver uses a queue.
type QueueConfig struct {
	// Size is the number of descriptors wanted, a power of two; 0 for as many
	// as the device allows (up to 1024).
	Size int
	// MaxSegs is the longest chain; chains of more than one descriptor go
	// through an indirect table where the device can do that.
	MaxSegs int
	// Tables is the number of indirect tables, 0 for none.
	Tables int
}

// maxQueue bounds a queue; devices may offer 32768.
const maxQueue = 1024

// Descriptor flags (2.7.5).
const (
	descNext     = 1
	descWrite    = 2
	descIndirect = 4
	descSize     = 16
)

// Ring flags (2.7.6, 2.7.8).
const (
	availNoInterrupt = 1
	usedNoNotify     = 1
)

// Queue is the driver's end of a split virtqueue (2.7).
//
// The rings lie in memory that the device can write, so nothing is ever read back
// from them that the driver knows itself: chains, tokens and lengths are in Go
// memory, and used entries are checked against them.
type Queue struct {
	d        *Device
	index    int
	size     int
	eventIdx bool
	mem      piece
	avail    int // offsets in mem: flags and index, then the ring
	used     int

	next     []uint16 // free list, and the chain of each request
	slots    []slot   // by head descriptor
	free     int
	freeHead uint16
	tables   piece
	tableLen int
	tabFree  []uint16

	added    uint16 // avail index including requests not yet published
	kicked   uint16 // avail index when the device was last notified of
	flags    uint16 // avail flags
	lastUsed atomic.Uint32
	inFlight atomic.Int32
	activity atomic.Uint32 // bumped by Add and Pop, for the watchdog
	// listening: the driver counts on an interrupt, and not on looking itself.
	listening atomic.Bool
}

type slot struct {
	token    any
	busy     bool
	descs    uint16 // descriptors in the chain
	table    int32  // indirect table in use, -1 for none
	writable uint32 // bytes the device may write
}

// NewQueue sets up queue index. Interrupts must have been connected.
func (d *Device) NewQueue(index int, c QueueConfig) (*Queue, error) {
	n := d.T.QueueMax(index)
	if n <= 0 {
		return nil, d.fail("it has no queue %d", index)
	}
	if c.Size == 0 {
		c.Size = maxQueue
	}
	for n > c.Size {
		n /= 2
	}
	if n&(n-1) != 0 || n == 0 {
		return nil, d.fail("queue %d has size %d, which is no power of two", index, n)
	}
	q := &Queue{d: d, index: index, size: n, eventIdx: d.Has(FeatureEventIdx)}
	if err := q.allocate(c); err != nil {
		return nil, err
	}
	q.next = make([]uint16, n)
	q.slots = make([]slot, n)
	for i := range q.next {
		q.next[i] = uint16(i + 1)
	}
	q.free = n
	err := d.T.SetQueue(index, n, q.mem.addr(0), q.mem.addr(q.avail), q.mem.addr(q.used))
	if err != nil {
		return nil, d.fail("queue %d: %v", index, err)
	}
	d.mu.Lock()
	d.queues = append(d.queues, q)
	d.mu.Unlock()
	return q, nil
}

// allocate lays the rings out (2.7, 2.7.2): descriptors, available ring with
// used_event, used ring with avail_event. The older interface computes the used
// ring's place itself, at the next page.
func (q *Queue) allocate(c QueueConfig) error {
	n := q.size
	q.avail = n * descSize
	align, usedAlign := 16, 4
	if q.d.T.Legacy() {
		align, usedAlign = hal.PageSize, hal.PageSize
	}
	// Two more bytes behind each event field, so that it can be stored as a word.
	q.used = (q.avail + 4 + 2*n + 4 + usedAlign - 1) &^ (usedAlign - 1)
	total := q.used + 4 + 8*n + 4
	q.d.mu.Lock()
	defer q.d.mu.Unlock()
	var err error
	if q.mem, err = q.d.arena.alloc(q.d.M, total, align); err != nil {
		return err
	}
	if q.d.Has(FeatureIndirect) && c.MaxSegs > 1 && c.Tables > 0 {
		q.tableLen = c.MaxSegs
		tables := min(c.Tables, n)
		if q.tables, err = q.d.arena.alloc(q.d.M, tables*c.MaxSegs*descSize, 16); err != nil {
			return err
		}
		for i := tables - 1; i >= 0; i-- {
			q.tabFree = append(q.tabFree, uint16(i))
		}
	}
	return nil
}

// Size is the number of descriptors.
func (q *Queue) Size() int { return q.size }

// InFlight is the number of requests that the device has.
func (q *Queue) InFlight() int { return int(q.inFlight.Load()) }

// Room tells whether a chain of n segments would fit now.
func (q *Queue) Room(n int) bool {
	return q.free >= n || q.free > 0 && len(q.tabFree) > 0 && n <= q.tableLen
}

// Add lends the device a chain: the first out segments are for it to read, the rest
// for it to write. Nothing is visible to it before Kick. token comes back from Pop
// and must not be nil. ErrFull: try again after a Pop.
func (q *Queue) Add(segs []Seg, out int, token any) error {
	if q.d.failed.Load() {
		return q.d.Err()
	}
	n := len(segs)
	if n == 0 || token == nil {
		panic("virtio: empty request")
	}
	table := int32(-1)
	descs := n
	if n > 1 && n <= q.tableLen && len(q.tabFree) > 0 {
		table = int32(q.tabFree[len(q.tabFree)-1])
		descs = 1
	}
	if q.free < descs {
		return ErrFull
	}
	head := q.freeHead
	writable := uint64(0)
	for _, s := range segs[out:] {
		writable += uint64(s.Len)
	}
	if table >= 0 {
		q.tabFree = q.tabFree[:len(q.tabFree)-1]
		base := q.tables.off + int(table)*q.tableLen*descSize
		for i, s := range segs {
			q.desc(q.tables, base+i*descSize, s, i >= out, i+1 < n, uint16(i+1))
		}
		ind := Seg{q.tables.Addr + hal.PhysAddr(base), uint32(n * descSize)}
		q.freeHead = q.next[head]
		q.desc(q.mem, q.mem.off+int(head)*descSize, ind, false, false, 0)
		q.mem.Store16(q.mem.off+int(head)*descSize+12, descIndirect)
	} else {
		i := head
		for k, s := range segs {
			nx := q.next[i]
			q.desc(q.mem, q.mem.off+int(i)*descSize, s, k >= out, k+1 < n, nx)
			i = nx
		}
		q.freeHead = i
	}
	q.free -= descs
	q.slots[head] = slot{token: token, busy: true, descs: uint16(descs), table: table,
		writable: uint32(min(writable, 1<<32-1))}
	q.mem.Store16(q.mem.off+q.avail+4+2*(int(q.added)&(q.size-1)), head)
	q.added++
	q.inFlight.Add(1)
	q.activity.Add(1)
	return nil
}

func (q *Queue) desc(p piece, at int, s Seg, write, more bool, next uint16) {
	flags := uint16(0)
	if write {
		flags |= descWrite
	}
	if more {
		flags |= descNext
	}
	p.Store64(at, uint64(s.Addr))
	p.Store32(at+8, s.Len)
	p.Store16(at+12, flags)
	p.Store16(at+14, next)
}

// Kick publishes what was added and notifies the device if it wants that.
func (q *Queue) Kick() {
	if q.added == q.kicked || q.d.failed.Load() {
		return
	}
	old := q.kicked
	q.kicked = q.added
	// The index is stored after the entries, and the device's wish is read
	// after the index is stored (2.7.13.3, 2.7.13.4); Publish32 does both.
	q.mem.Publish32(q.mem.off+q.avail, uint32(q.flags)|uint32(q.added)<<16)
	if q.eventIdx {
		event := uint16(q.mem.Load32(q.mem.off + q.used + 4 + 8*q.size))
		// The notification is due if the index stepped over the event (2.7.10.1).
		if q.added-event-1 < q.added-old {
			q.d.T.Notify(q.index)
		}
		return
	}
	if q.mem.Load32(q.mem.off+q.used)&usedNoNotify == 0 {
		q.d.T.Notify(q.index)
	}
}

// usedIndex is how far the device says it is.
func (q *Queue) usedIndex() uint16 { return uint16(q.mem.Load32(q.mem.off+q.used) >> 16) }

// Pending tells whether Pop would find something. It may be called from anywhere.
func (q *Queue) Pending() bool { return q.usedIndex() != uint16(q.lastUsed.Load()) }

// Pop takes back a finished request: its token and the bytes the device wrote.
// After the device has failed, it returns nothing; Drain takes the rest back.
func (q *Queue) Pop() (token any, n uint32, ok bool) {
	if q.d.failed.Load() {
		return nil, 0, false
	}
	last := uint16(q.lastUsed.Load())
	ahead := q.usedIndex() - last
	if ahead == 0 {
		return nil, 0, false
	}
	if int32(ahead) > q.inFlight.Load() {
		q.d.fail("queue %d: it returned %d requests and had %d", q.index, ahead, q.inFlight.Load())
		return nil, 0, false
	}
	at := q.mem.off + q.used + 4 + 8*(int(last)&(q.size-1))
	id, n := q.mem.Load32(at), q.mem.Load32(at+4)
	if id >= uint32(q.size) || !q.slots[id].busy {
		q.d.fail("queue %d: it returned request %d, which it did not have", q.index, id)
		return nil, 0, false
	}
	s := q.slots[id]
	if n > s.writable {
		// Devices of the older interface leave nonsense here (2.7.8.1).
		if !q.d.T.Legacy() {
			q.d.fail("queue %d: it wrote %d bytes into %d", q.index, n, s.writable)
			return nil, 0, false
		}
		n = s.writable
	}
	q.release(uint16(id))
	q.lastUsed.Store(uint32(last + 1))
	return s.token, n, true
}

// release puts a chain back on the free list.
func (q *Queue) release(head uint16) {
	s := &q.slots[head]
	tail := head
	for i := uint16(1); i < s.descs; i++ {
		tail = q.next[tail]
	}
	q.next[tail] = q.freeHead
	q.freeHead = head
	q.free += int(s.descs)
	if s.table >= 0 {
		q.tabFree = append(q.tabFree, uint16(s.table))
	}
	*s = slot{}
	q.inFlight.Add(-1)
	q.activity.Add(1)
}

// Drain takes back every request of a failed device.
func (q *Queue) Drain(f func(token any)) {
	if !q.d.failed.Load() {
		panic("virtio: Drain of a working device")
	}
	for i := range q.slots {
		if q.slots[i].busy {
			t := q.slots[i].token
			q.release(uint16(i))
			f(t)
		}
	}
}

// Quiet asks the device for no interrupts; it may raise some still.
func (q *Queue) Quiet() {
	if q.flags == availNoInterrupt {
		return
	}
	q.flags = availNoInterrupt
	q.listening.Store(false)
	if !q.eventIdx {
		q.mem.Store32(q.mem.off+q.avail, uint32(q.flags)|uint32(q.kicked)<<16)
	}
	// With the event index the event stays where it was: behind the device,
	// which crosses it again only after 65536 entries.
}

// Listen asks for an interrupt once the device has finished after more requests
// (1 for the next one). True means that there is something already: Pop, and
// call Listen again. Without the event index every request interrupts. A device that has
// failed has nothing, as Pop gives nothing.
func (q *Queue) Listen(after int) bool {
	q.flags = 0
	q.listening.Store(true)
	last := uint16(q.lastUsed.Load())
	if q.eventIdx {
		q.mem.Publish32(q.mem.off+q.avail+4+2*q.size, uint32(last+uint16(max(after, 1))-1))
	} else {
		q.mem.Publish32(q.mem.off+q.avail, uint32(q.kicked)<<16)
	}
	// The wish is stored before the index is read again (2.7.13.4.1 for the
	// other direction): else an entry between the two would go unannounced.
	return int(q.usedIndex()-last) >= max(after, 1) && !q.d.failed.Load()
}

// String names the queue in reports.
func (q *Queue) String() string { return fmt.Sprintf("%s queue %d", q.d.Name, q.index) }
