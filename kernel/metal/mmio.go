package metal

import "sync/atomic"

// mmio is a mapped window of device registers.
type mmio struct {
	va uint64
	n  int
}

func (m *mmio) at(off, width int) uint64 {
	if off < 0 || off+width > m.n || off&(width-1) != 0 && m.va&uint64(width-1) == 0 {
		panic("hal: register outside its window or misaligned")
	}
	return m.va + uint64(off)
}

// Each access is one instruction of its width: the functions are not inlined, so
// the compiler can neither merge nor drop them.

func (m *mmio) Len() int { return m.n }

//go:noinline
func (m *mmio) Read8(off int) uint8 { return *(*uint8)(ptr(m.at(off, 1))) }

//go:noinline
func (m *mmio) Read16(off int) uint16 { return *(*uint16)(ptr(m.at(off, 2))) }

//go:noinline
func (m *mmio) Read32(off int) uint32 { return atomic.LoadUint32((*uint32)(ptr(m.at(off, 4)))) }

//go:noinline
func (m *mmio) Read64(off int) uint64 { return atomic.LoadUint64((*uint64)(ptr(m.at(off, 8)))) }

//go:noinline
func (m *mmio) Write8(off int, v uint8) { *(*uint8)(ptr(m.at(off, 1))) = v }

//go:noinline
func (m *mmio) Write16(off int, v uint16) { *(*uint16)(ptr(m.at(off, 2))) = v }

//go:noinline
func (m *mmio) Write32(off int, v uint32) { *(*uint32)(ptr(m.at(off, 4))) = v }

//go:noinline
func (m *mmio) Write64(off int, v uint64) { *(*uint64)(ptr(m.at(off, 8))) = v }
