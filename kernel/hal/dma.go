package hal

import (
	"sync/atomic"
	"unsafe"
)

// DMA is memory shared with a device: whole frames, physically contiguous. The
// 16-, 32- and 64-bit accessors are single accesses that the compiler neither
// splits, merges nor moves across each other; on amd64 that also orders them as
// the device sees them, except a store followed by a load, which needs Barrier.
// The race detector does not look at the plain ones: a device is not a goroutine,
// and the model of one in a test orders itself by Publish32 and Load32.
type DMA struct {
	Frame PFN
	Addr  PhysAddr
	Bytes []byte
}

// NewDMA allocates 1<<order zeroed frames for a device.
func NewDMA(m Machine, order uint) (*DMA, error) {
	f, err := m.AllocFrames(order, AllocZero)
	if err != nil {
		return nil, err
	}
	return &DMA{Frame: f, Addr: f.Addr(), Bytes: m.FrameRange(f, 1<<order)}, nil
}

// Free gives the frames back; the device must have been told to forget them.
func (d *DMA) Free(m Machine, order uint) { m.FreeFrames(d.Frame, order) }

// Load16 reads a little-endian word at byte offset off (2-aligned).
//
//go:noinline
//go:norace
func (d *DMA) Load16(off int) uint16 { return *(*uint16)(unsafe.Pointer(&d.Bytes[off : off+2][0])) }

// Store16 writes a little-endian word at byte offset off (2-aligned).
//
//go:noinline
//go:norace
func (d *DMA) Store16(off int, v uint16) {
	*(*uint16)(unsafe.Pointer(&d.Bytes[off : off+2][0])) = v
}

// Load32 reads a 4-aligned word.
func (d *DMA) Load32(off int) uint32 {
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(&d.Bytes[off : off+4][0])))
}

// Store32 writes a 4-aligned word.
//
//go:noinline
//go:norace
func (d *DMA) Store32(off int, v uint32) {
	*(*uint32)(unsafe.Pointer(&d.Bytes[off : off+4][0])) = v
}

// Publish32 writes a 4-aligned word after all earlier stores and before all later
// loads: a locked instruction, so no Barrier is needed behind it.
func (d *DMA) Publish32(off int, v uint32) {
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&d.Bytes[off : off+4][0])), v)
}

// Load64 reads an 8-aligned word.
func (d *DMA) Load64(off int) uint64 {
	return atomic.LoadUint64((*uint64)(unsafe.Pointer(&d.Bytes[off : off+8][0])))
}

// Store64 writes an 8-aligned word.
//
//go:noinline
//go:norace
func (d *DMA) Store64(off int, v uint64) {
	*(*uint64)(unsafe.Pointer(&d.Bytes[off : off+8][0])) = v
}

var barrierWord uint32

// Barrier orders earlier stores before later loads (a locked instruction is a
// full fence on amd64, SDM 3A 8.2.2).
func Barrier() { atomic.AddUint32(&barrierWord, 1) }
