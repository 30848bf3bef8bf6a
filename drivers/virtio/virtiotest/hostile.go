package virtiotest

import (
	"encoding/binary"
	"fmt"
	"sync"

	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
)

// Hostile is a transport to a device that keeps to no rule, for fuzz targets: its registers
// are whatever Answers holds, a read after the other, and the used rings are the test's to
// write. It implements virtio.Transport.
type Hostile struct {
	M       *fake.Machine
	Kind    uint32
	Old     bool   // the interface before 1.0
	Feat    uint64 // offered
	Answers []byte // to reads of the configuration and of sizes of queues; then zeros
	// OnNotify, if set, is told of notifications.
	OnNotify func(q int)

	mu     sync.Mutex
	status uint8
	rings  map[int]hostileRing
	irqs   []func()
}

type hostileRing struct {
	size  int
	desc  hal.PhysAddr
	used  hal.PhysAddr
	index uint16
}

func (h *Hostile) answer() (v uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var b [4]byte
	h.Answers = h.Answers[copy(b[:], h.Answers):]
	return binary.LittleEndian.Uint32(b[:])
}

func (h *Hostile) String() string     { return "hostile" }
func (h *Hostile) Type() uint32       { return h.Kind }
func (h *Hostile) Legacy() bool       { return h.Old }
func (h *Hostile) Features() uint64   { return h.Feat }
func (h *Hostile) SetFeatures(uint64) {}
func (h *Hostile) Off()               {}

// Status is what was set, with what the device may add when it runs.
func (h *Hostile) Status() uint8 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.status
}

func (h *Hostile) SetStatus(s uint8) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.status = s; s == 0 { // reset: it writes nowhere any more
		h.rings = nil
	}
}

// QueueMax is mostly a size that there can be.
func (h *Hostile) QueueMax(int) int {
	if v := h.answer(); v&0xff < 0x20 {
		return int(int32(v))
	}
	return 8
}

func (h *Hostile) SetQueue(q, size int, desc, avail, used hal.PhysAddr) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range []struct {
		at hal.PhysAddr
		n  int
	}{{desc, 16 * size}, {avail, 6 + 2*size}, {used, 6 + 8*size}} {
		if _, ok := h.M.DeviceMem(r.at, r.n); !ok {
			return fmt.Errorf("a ring at %#x, outside of memory", r.at)
		}
	}
	if h.rings == nil {
		h.rings = map[int]hostileRing{}
	}
	h.rings[q] = hostileRing{size: size, desc: desc, used: used}
	return nil
}

func (h *Hostile) Notify(q int) {
	if h.OnNotify != nil {
		h.OnNotify(q)
	}
}

func (h *Hostile) ConfigLen() int          { return 256 }
func (h *Hostile) Config8(int) uint8       { return uint8(h.answer()) }
func (h *Hostile) Config16(int) uint16     { return uint16(h.answer()) }
func (h *Hostile) Config32(int) uint32     { return h.answer() }
func (h *Hostile) SetConfig32(int, uint32) {}
func (h *Hostile) Generation() uint32      { return 1 }

func (h *Hostile) Connect(_ string, config func(), queues []func()) error {
	h.irqs = queues
	if config != nil {
		h.irqs = append(h.irqs, config)
	}
	return nil
}

// Interrupt raises one of the interrupts.
func (h *Hostile) Interrupt(n int) {
	if len(h.irqs) > 0 {
		h.irqs[n%len(h.irqs)]()
	}
}

// Push puts a used entry into a queue's ring and moves the index on, by step.
func (h *Hostile) Push(q int, id, n uint32, step uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, ok := h.rings[q]
	if !ok {
		return
	}
	b, _ := h.M.DeviceMem(r.used, 6+8*r.size)
	at := 4 + 8*(int(r.index)&(r.size-1))
	mem := &hal.DMA{Bytes: b}
	mem.Store32(at, id)
	mem.Store32(at+4, n)
	r.index += step
	h.rings[q] = r
	mem.Publish32(0, uint32(r.index)<<16)
}

// Fill writes b where descriptor id of a queue points to, as far as that is one buffer that
// the device may write.
func (h *Hostile) Fill(q int, id uint32, b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, ok := h.rings[q]
	if !ok || int(id) >= r.size {
		return
	}
	d, _ := h.M.DeviceMem(r.desc+hal.PhysAddr(16*id), 16)
	if d[12]&2 == 0 {
		return
	}
	n := binary.LittleEndian.Uint32(d[8:])
	if to, ok := h.M.DeviceMem(hal.PhysAddr(binary.LittleEndian.Uint64(d)), int(n)); ok {
		copy(to, b)
	}
}

// Serve plays a script on a queue: entries of four bytes (descriptor, bytes written, steps of
// the index, length of what follows) and the bytes that are written into the buffer.
func (h *Hostile) Serve(q int, script []byte) (rest []byte) {
	if len(script) < 4 {
		return nil
	}
	id, n, step := uint32(script[0]), uint32(script[1]), uint16(script[2])
	if n > 250 {
		n = 1 << (n - 245)
	}
	data := script[4:min(len(script), 4+int(script[3]))]
	h.Fill(q, id, data)
	h.Push(q, id, n, step)
	return script[4+len(data):]
}
