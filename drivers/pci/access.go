package pci

import (
	"fmt"
	"sync"

	"kiln/drivers/acpi"
	"kiln/kernel/hal"
)

// Address names a function: bus, device and function.
type Address struct {
	Segment uint16
	Bus     uint8
	Dev     uint8
	Fn      uint8
}

// String is the address as lspci prints it: "00:03.0".
func (a Address) String() string {
	s := fmt.Sprintf("%02x:%02x.%d", a.Bus, a.Dev, a.Fn)
	if a.Segment != 0 {
		s = fmt.Sprintf("%04x:%s", a.Segment, s)
	}
	return s
}

// access reads and writes configuration space. Registers that cannot be reached
// read as all ones.
type access interface {
	read(a Address, off, width int) uint32
	write(a Address, off, width int, v uint32)
	// move is write, of 2 or 4 bytes, where registers of the device come to lie elsewhere
	// by it (hal.Stiller).
	move(a Address, off, width int, v uint32)
	// limit is the size of a function's configuration space.
	limit() int
}

// Configuration mechanism 1 (PCI Local Bus 3.0, 3.2.2.3.2).
const (
	portAddress = 0xcf8
	portData    = 0xcfc
)

// ports is access through a pair of I/O ports. Two accesses make one, so there is
// a lock.
type ports struct {
	m  hal.Machine
	mu sync.Mutex
}

func (p *ports) limit() int { return 256 }

func (p *ports) sel(a Address, off int) bool {
	if a.Segment != 0 || off >= 256 {
		return false
	}
	p.m.Out32(portAddress, 1<<31|uint32(a.Bus)<<16|uint32(a.Dev)<<11|uint32(a.Fn)<<8|uint32(off&^3))
	return true
}

func (p *ports) read(a Address, off, width int) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.sel(a, off) {
		return ^uint32(0)
	}
	port := uint16(portData + off&3)
	switch width {
	case 1:
		return uint32(p.m.In8(port))
	case 2:
		return uint32(p.m.In16(port))
	}
	return p.m.In32(port)
}

func (p *ports) write(a Address, off, width int, v uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.sel(a, off) {
		return
	}
	port := uint16(portData + off&3)
	switch width {
	case 1:
		p.m.Out8(port, uint8(v))
	case 2:
		p.m.Out16(port, uint16(v))
	default:
		p.m.Out32(port, v)
	}
}

func (p *ports) move(a Address, off, width int, v uint32) {
	s, ok := p.m.(hal.Stiller)
	if !ok {
		p.write(a, off, width, v)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sel(a, off) {
		s.OutStill(uint16(portData+off&3), width, v)
	}
}

// present tells whether mechanism 1 answers: the enable bit can be read back.
func (p *ports) present() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.m.In32(portAddress)
	p.m.Out32(portAddress, 1<<31)
	ok := p.m.In32(portAddress) == 1<<31
	p.m.Out32(portAddress, old)
	return ok
}

// ecam is memory-mapped access (PCI Express Base 5.0, 7.2.2): 4 KiB a function.
// A bus is mapped when it is first read.
type ecam struct {
	m       hal.Machine
	windows []acpi.ECAM
	mu      sync.Mutex
	buses   map[[2]uint16]hal.MMIO
}

func (e *ecam) limit() int { return 4096 }

func (e *ecam) bus(a Address) hal.MMIO {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := [2]uint16{a.Segment, uint16(a.Bus)}
	if w, ok := e.buses[key]; ok {
		return w
	}
	var w hal.MMIO
	for _, c := range e.windows {
		if c.Segment == a.Segment && a.Bus >= c.StartBus && a.Bus <= c.EndBus {
			if mapped, err := e.m.MapMMIO(c.Base+hal.PhysAddr(a.Bus-c.StartBus)<<20, 1<<20); err == nil {
				w = mapped
			}
			break
		}
	}
	e.buses[key] = w
	return w
}

func (e *ecam) read(a Address, off, width int) uint32 {
	w := e.bus(a)
	if w == nil || off+width > 4096 {
		return ^uint32(0)
	}
	off |= int(a.Dev)<<15 | int(a.Fn)<<12
	switch width {
	case 1:
		return uint32(w.Read8(off))
	case 2:
		return uint32(w.Read16(off))
	}
	return w.Read32(off)
}

func (e *ecam) write(a Address, off, width int, v uint32) {
	w := e.bus(a)
	if w == nil || off+width > 4096 {
		return
	}
	off |= int(a.Dev)<<15 | int(a.Fn)<<12
	switch width {
	case 1:
		w.Write8(off, uint8(v))
	case 2:
		w.Write16(off, uint16(v))
	default:
		w.Write32(off, v)
	}
}

func (e *ecam) move(a Address, off, width int, v uint32) {
	s, ok := e.m.(hal.Stiller)
	if !ok {
		e.write(a, off, width, v)
		return
	}
	if w := e.bus(a); w != nil && off+width <= 4096 {
		s.WriteStill(w, off|int(a.Dev)<<15|int(a.Fn)<<12, width, v)
	}
}
