package hosted

import (
	"fmt"
	"math/bits"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

// firstPFN is where memory begins: 4 MiB, so that frame 0 is never valid and
// blocks of every order have their natural alignment.
const firstPFN = 1 << maxOrder

// maxOrder is the largest block: 4 MiB.
const maxOrder = 10

// poison fills frames that are free or were not asked to be zero.
const poison = 0xdb

// Frame states: free blocks carry their order at their first frame.
const (
	frameUsed = 0xff // allocated, or inside a block
	frameTail = 0xfe // inside a free block
)

// frames is a buddy allocator over one memfd. Free blocks are in lists linked by
// frame index; a frame's state tells whether its buddy can be merged.
type frames struct {
	file *os.File
	mem  []byte

	mu       sync.Mutex
	state    []uint8
	next     []int32
	prev     []int32
	head     [maxOrder + 1]int32
	free     int
	low      int
	reserve  int
	pressure func()
}

func (f *frames) init(n int) error {
	n &^= 1<<maxOrder - 1
	fd, err := unix.MemfdCreate("kiln-frames", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("hosted: memfd_create: %w", err)
	}
	f.file = os.NewFile(uintptr(fd), "kiln-frames")
	if err := unix.Ftruncate(fd, int64(n)<<hal.PageShift); err != nil {
		return err
	}
	if f.mem, err = unix.Mmap(fd, 0, n<<hal.PageShift, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("hosted: mapping %d frames: %w", n, err)
	}
	f.state, f.next, f.prev = make([]uint8, n), make([]int32, n), make([]int32, n)
	for i := range f.state {
		f.state[i] = frameTail
	}
	for o := range f.head {
		f.head[o] = -1
	}
	for i := n - 1<<maxOrder; i >= 0; i -= 1 << maxOrder {
		f.push(int32(i), maxOrder)
	}
	f.free, f.low, f.reserve = n, n/16, n/64
	return nil
}

func (f *frames) push(i int32, order uint) {
	f.state[i] = uint8(order)
	f.prev[i], f.next[i] = -1, f.head[order]
	if h := f.head[order]; h >= 0 {
		f.prev[h] = i
	}
	f.head[order] = i
}

func (f *frames) remove(i int32, order uint) {
	if p := f.prev[i]; p >= 0 {
		f.next[p] = f.next[i]
	} else {
		f.head[order] = f.next[i]
	}
	if n := f.next[i]; n >= 0 {
		f.prev[n] = f.prev[i]
	}
	f.state[i] = frameTail
}

// take gives a block of the order, splitting a larger one; -1 if there is none.
func (f *frames) take(order uint) int32 {
	for o := order; o <= maxOrder; o++ {
		i := f.head[o]
		if i < 0 {
			continue
		}
		f.remove(i, o)
		for o > order {
			o--
			f.push(i+1<<o, o)
		}
		for j := i; j < i+1<<order; j++ {
			f.state[j] = frameUsed
		}
		return i
	}
	return -1
}

// AllocFrames implements hal.Machine.
func (m *Machine) AllocFrames(order uint, flags hal.AllocFlags) (hal.PFN, error) {
	f := &m.frames
	n := 1 << order
	f.mu.Lock()
	left := f.free - n
	i := int32(-1)
	if order <= maxOrder && left >= 0 && (flags&hal.AllocReserve != 0 || left >= f.reserve) {
		i = f.take(order)
	}
	if i < 0 {
		f.mu.Unlock()
		return 0, hal.ErrNoMemory
	}
	crossed := f.free >= f.low && left < f.low
	f.free = left
	pressure := f.pressure
	f.mu.Unlock()
	b := m.FrameRange(firstPFN+hal.PFN(i), n)
	if flags&hal.AllocZero != 0 {
		clear(b)
	} else if !m.cfg.KeepFreed {
		fill(b)
	}
	if crossed && pressure != nil {
		go pressure()
	}
	return firstPFN + hal.PFN(i), nil
}

func fill(b []byte) {
	for i := range b[:hal.PageSize] {
		b[i] = poison
	}
	for n := hal.PageSize; n < len(b); n *= 2 {
		copy(b[n:], b[:n])
	}
}

// FreeFrames implements hal.Machine. Freeing what is free panics.
func (m *Machine) FreeFrames(p hal.PFN, order uint) {
	f := &m.frames
	if b := m.FrameRange(p, 1<<order); !m.cfg.KeepFreed {
		fill(b)
	}
	i := int32(p - firstPFN)
	f.mu.Lock()
	defer f.mu.Unlock()
	for j := i; j < i+1<<order; j++ {
		if f.state[j] != frameUsed {
			panic(fmt.Sprintf("hosted: frame %#x freed twice", firstPFN+j))
		}
		f.state[j] = frameTail
	}
	f.free += 1 << order
	// A caller may free a part of a block, so the address says the alignment.
	if i != 0 && uint(bits.TrailingZeros32(uint32(i))) < order {
		panic(fmt.Sprintf("hosted: frames %#x freed with order %d", p, order))
	}
	f.merge(i, order)
}

// merge makes a block free, together with its buddies.
func (f *frames) merge(i int32, order uint) {
	for order < maxOrder {
		b := i ^ 1<<order
		if f.state[b] != uint8(order) {
			break
		}
		f.remove(b, order)
		i &= b
		order++
	}
	f.push(i, order)
}

// Frame implements hal.Machine.
func (m *Machine) Frame(p hal.PFN) []byte { return m.FrameRange(p, 1) }

// FrameRange implements hal.Machine.
func (m *Machine) FrameRange(p hal.PFN, n int) []byte {
	i := int(p) - firstPFN
	if i < 0 || n < 0 || n > len(m.frames.state)-i {
		panic(fmt.Sprintf("hosted: frames %#x+%d outside memory", p, n))
	}
	return m.frames.mem[i<<hal.PageShift : (i+n)<<hal.PageShift : (i+n)<<hal.PageShift]
}

// MemStats implements hal.Machine.
func (m *Machine) MemStats() hal.MemStats {
	f := &m.frames
	f.mu.Lock()
	defer f.mu.Unlock()
	return hal.MemStats{
		TotalPages: uint64(len(f.state)), FreePages: uint64(f.free),
		LowWatermark: uint64(f.low), Reserve: uint64(f.reserve),
		MaxPFN: firstPFN + hal.PFN(len(f.state)),
	}
}

// GrowHeap implements hal.Machine: this heap is the host's.
func (m *Machine) GrowHeap(uint64) {}

// OnPressure implements hal.Machine. f runs in a goroutine of its own each time
// the free frames fall through the low watermark.
func (m *Machine) OnPressure(f func()) {
	m.frames.mu.Lock()
	m.frames.pressure = f
	m.frames.mu.Unlock()
}

// Phys implements hal.Machine: memory of the machine; there is no firmware.
func (m *Machine) Phys(pa hal.PhysAddr, length int) ([]byte, error) {
	const base = hal.PhysAddr(firstPFN << hal.PageShift)
	size := hal.PhysAddr(len(m.frames.mem))
	if length < 0 || pa < base || pa-base > size || hal.PhysAddr(length) > size-(pa-base) {
		return nil, hal.ErrBadAddress
	}
	off := int(pa - base)
	return m.frames.mem[off : off+length : off+length], nil
}

// takeRun takes n consecutive frames of any alignment, for good.
func (f *frames) takeRun(n int) (hal.PFN, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	blocks := (n + 1<<maxOrder - 1) >> maxOrder
	total := len(f.state) >> maxOrder
	for first := total - blocks; first >= 0; first-- {
		whole := true
		for b := first; b < first+blocks && whole; b++ {
			whole = f.state[b<<maxOrder] == maxOrder
		}
		if !whole {
			continue
		}
		for b := first; b < first+blocks; b++ {
			f.remove(int32(b<<maxOrder), maxOrder)
		}
		i := first << maxOrder
		for j := i; j < i+n; j++ {
			f.state[j] = frameUsed
		}
		f.free -= blocks << maxOrder
		// What the last block has too much goes back, frame by frame.
		for j := i + n; j < i+blocks<<maxOrder; j++ {
			f.free++
			f.merge(int32(j), 0)
		}
		return firstPFN + hal.PFN(i), true
	}
	return 0, false
}
