package fake

import (
	"fmt"

	"kiln/kernel/hal"
)

// firstPFN is where memory begins: 1 MiB, so that frame 0 is never valid.
const firstPFN = 256

const poison = 0xdb

// frames is a first-fit allocator with natural alignment.
type frames struct {
	mem      []byte
	used     []bool
	free     int
	hint     int
	low      uint64
	reserve  uint64
	pressure func()
	phys     []region
}

type region struct {
	pa hal.PhysAddr
	b  []byte
}

func (f *frames) init(n int) {
	f.mem = make([]byte, n*hal.PageSize)
	f.used = make([]bool, n)
	f.free = n
	f.low, f.reserve = uint64(n/16), uint64(n/64)
}

// SetWatermarks sets MemStats' LowWatermark and Reserve, in pages.
func (m *Machine) SetWatermarks(low, reserve uint64) {
	m.mu.Lock()
	m.frames.low, m.frames.reserve = low, reserve
	m.mu.Unlock()
}

// AllocFrames implements hal.Machine.
func (m *Machine) AllocFrames(order uint, flags hal.AllocFlags) (hal.PFN, error) {
	if m.AllocHook != nil {
		if err := m.AllocHook(order, flags); err != nil {
			return 0, err
		}
	}
	m.mu.Lock()
	f := &m.frames
	n := 1 << order
	left := f.free - n
	if order > 10 || left < 0 || flags&hal.AllocReserve == 0 && uint64(left) < f.reserve {
		m.mu.Unlock()
		return 0, hal.ErrNoMemory
	}
	i := f.find(n)
	if i < 0 {
		m.mu.Unlock()
		return 0, hal.ErrNoMemory
	}
	for j := i; j < i+n; j++ {
		f.used[j] = true
	}
	crossed := uint64(f.free) >= f.low && uint64(left) < f.low
	f.free = left
	f.hint = i + n
	b := f.mem[i*hal.PageSize : (i+n)*hal.PageSize]
	if flags&hal.AllocZero != 0 {
		clear(b)
	} else {
		fill(b)
	}
	pressure := f.pressure
	m.mu.Unlock()
	if crossed && pressure != nil {
		go pressure()
	}
	return hal.PFN(firstPFN + i), nil
}

// find looks for n free frames, aligned to n in physical addresses.
func (f *frames) find(n int) int {
	total := len(f.used)
	start := (f.hint + n - 1) &^ (n - 1)
	for pass := 0; pass < 2; pass++ {
	next:
		for i := start; i+n <= total; i += n {
			for j := i; j < i+n; j++ {
				if f.used[j] {
					continue next
				}
			}
			return i
		}
		start = 0
	}
	return -1
}

func fill(b []byte) {
	for i := range b {
		b[i] = poison
	}
}

// FreeFrames implements hal.Machine.
func (m *Machine) FreeFrames(p hal.PFN, order uint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := &m.frames
	i, n := int(p)-firstPFN, 1<<order
	if i < 0 || i+n > len(f.used) {
		panic(fmt.Sprintf("fake: freeing frames %#x order %d outside memory", p, order))
	}
	for j := i; j < i+n; j++ {
		if !f.used[j] {
			panic(fmt.Sprintf("fake: frame %#x freed twice", firstPFN+j))
		}
		f.used[j] = false
	}
	fill(f.mem[i*hal.PageSize : (i+n)*hal.PageSize])
	f.free += n
	f.hint = min(f.hint, i)
}

// Frame implements hal.Machine.
func (m *Machine) Frame(p hal.PFN) []byte { return m.FrameRange(p, 1) }

// FrameRange implements hal.Machine.
func (m *Machine) FrameRange(p hal.PFN, n int) []byte {
	i := int(p) - firstPFN
	if i < 0 || n < 0 || i+n > len(m.frames.used) {
		panic(fmt.Sprintf("fake: frames %#x+%d outside memory", p, n))
	}
	return m.frames.mem[i*hal.PageSize : (i+n)*hal.PageSize : (i+n)*hal.PageSize]
}

// FreePages counts free frames: a test that ends where it began leaked none.
func (m *Machine) FreePages() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.frames.free
}

// MemStats implements hal.Machine.
func (m *Machine) MemStats() hal.MemStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := &m.frames
	return hal.MemStats{
		TotalPages: uint64(len(f.used)), FreePages: uint64(f.free),
		LowWatermark: f.low, Reserve: f.reserve,
		MaxPFN: hal.PFN(firstPFN + len(f.used)),
	}
}

// GrowHeap implements hal.Machine. HeapExtra is what the last call said.
func (m *Machine) GrowHeap(extra uint64) { m.HeapExtra.Store(extra) }

// OnPressure implements hal.Machine. f runs in a goroutine of its own each time
// the free frames fall through the low watermark.
func (m *Machine) OnPressure(f func()) {
	m.mu.Lock()
	m.frames.pressure = f
	m.mu.Unlock()
}

// PutPhys places bytes where firmware would have, for Phys.
func (m *Machine) PutPhys(pa hal.PhysAddr, b []byte) {
	m.mu.Lock()
	m.frames.phys = append(m.frames.phys, region{pa, b})
	m.mu.Unlock()
}

// Phys implements hal.Machine: a range inside one PutPhys, or inside memory.
func (m *Machine) Phys(pa hal.PhysAddr, length int) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if length < 0 {
		return nil, hal.ErrBadAddress
	}
	for _, r := range m.frames.phys {
		if pa >= r.pa && pa-r.pa <= hal.PhysAddr(len(r.b)) && length <= len(r.b)-int(pa-r.pa) {
			off := int(pa - r.pa)
			return r.b[off : off+length : off+length], nil
		}
	}
	b, ok := m.physLocked(pa, length)
	if !ok {
		return nil, hal.ErrBadAddress
	}
	return b, nil
}

func (m *Machine) physLocked(pa hal.PhysAddr, length int) ([]byte, bool) {
	const base = hal.PhysAddr(firstPFN << hal.PageShift)
	size := hal.PhysAddr(len(m.frames.mem))
	if pa < base || pa-base > size || hal.PhysAddr(length) > size-(pa-base) {
		return nil, false
	}
	off := int(pa - base)
	return m.frames.mem[off : off+length : off+length], true
}

// DeviceMem is memory as a bus-mastering device sees it: false where none is.
func (m *Machine) DeviceMem(pa hal.PhysAddr, length int) ([]byte, bool) {
	if length < 0 {
		return nil, false
	}
	return m.physLocked(pa, length)
}
