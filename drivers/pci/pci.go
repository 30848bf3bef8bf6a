// Package pci finds PCI functions and gives drivers their registers and interrupts.
//
//	bus := pci.New(m, tables)
//	for _, f := range bus.Scan() {
//		if f.Vendor == 0x1af4 {
//			win, err := f.MapBAR(4, 0, 0)       // registers
//			err = f.ConnectMSIX("virtio", handlers)
//		}
//	}
//
// Configuration space is reached through the memory window of the MCFG table where
// there is one, else through ports 0xcf8 and 0xcfc. The firmware has numbered the
// buses and placed the registers; a register block that it left out is placed in a
// window of the host bridge. References are to PCI Local Bus 3.0 unless they say
// otherwise.
//
// Lock order: Bus.mu, then the lock of the configuration ports.
package pci

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"kiln/drivers/acpi"
	"kiln/drivers/acpi/aml"
	"kiln/kernel/hal"
)

// Errors.
var (
	ErrNoBAR     = errors.New("pci: no such register block")
	ErrNoVectors = errors.New("pci: the function has no usable interrupt of this kind")
)

// Configuration registers (6.1).
const (
	regVendor     = 0x00
	regCommand    = 0x04
	regStatus     = 0x06
	regClass      = 0x08
	regHeader     = 0x0e
	regBAR0       = 0x10
	regSecondary  = 0x19
	regSubVendor  = 0x2c
	regCapability = 0x34
	regIRQLine    = 0x3c
	regIRQPin     = 0x3d

	cmdIO        = 1 << 0
	cmdMemory    = 1 << 1
	cmdMaster    = 1 << 2
	cmdNoINTx    = 1 << 10
	statusCapsOn = 1 << 4
)

// Capability identifiers.
const (
	CapMSI    = 0x05
	CapVendor = 0x09
	CapMSIX   = 0x11
)

// Bus is all of the machine's PCI.
type Bus struct {
	m      hal.Machine
	tables *acpi.Tables
	cfg    access

	mu    sync.Mutex
	funcs []*Function
	lines map[uint32]*sharedLine
	// placed are the address ranges in use, read when a block must be placed.
	placed []span
	known  bool
}

type span struct{ base, length uint64 }

// Function is one function of a device.
type Function struct {
	Address
	Vendor, Device       uint16
	SubVendor, Subsystem uint16
	Class, Subclass      uint8
	ProgIF               uint8
	// Behind is true for a function on the far side of a bridge.
	Behind bool

	bus  *Bus
	caps []Cap
	bars [6]*BAR
}

// Cap is a capability: its identifier and where it stands.
type Cap struct {
	ID  uint8
	Off int
}

// BAR is a block of registers or memory of a function.
type BAR struct {
	IO         bool
	Base, Size uint64
	Wide       bool // 64 bits
}

// New prepares access; t may be nil. It returns nil if the machine has no PCI.
func New(m hal.Machine, t *acpi.Tables) *Bus {
	b := &Bus{m: m, tables: t, lines: map[uint32]*sharedLine{}}
	if t != nil && len(t.MCFG) > 0 {
		b.cfg = &ecam{m: m, windows: t.MCFG, buses: map[[2]uint16]hal.MMIO{}}
		return b
	}
	p := &ports{m: m}
	if !p.present() {
		return nil
	}
	b.cfg = p
	return b
}

// Scan finds every function: bus 0 and what its bridges lead to.
func (b *Bus) Scan() []*Function {
	type job struct {
		segment uint16
		bus     uint8
		behind  bool
	}
	work := []job{{}}
	if e, ok := b.cfg.(*ecam); ok {
		work = nil
		for _, w := range e.windows {
			work = append(work, job{segment: w.Segment, bus: w.StartBus})
		}
	}
	seen := map[job]bool{}
	var out []*Function
	for len(work) > 0 {
		j := work[0]
		work = work[1:]
		if k := (job{j.segment, j.bus, false}); seen[k] {
			continue
		} else {
			seen[k] = true
		}
		b.scanBus(j.segment, j.bus, func(f *Function, header uint8) {
			f.Behind = j.behind
			out = append(out, f)
			if header&0x7f == 1 { // a bridge to another bus
				if next := uint8(f.read(regSecondary, 1)); next != 0 {
					work = append(work, job{j.segment, next, true})
				}
			}
		})
	}
	b.mu.Lock()
	b.funcs = out
	b.mu.Unlock()
	return out
}

func (b *Bus) scanBus(segment uint16, bus uint8, found func(*Function, uint8)) {
	for dev := uint8(0); dev < 32; dev++ {
		for fn := uint8(0); fn < 8; fn++ {
			a := Address{segment, bus, dev, fn}
			id := b.cfg.read(a, regVendor, 4)
			if id&0xffff == 0xffff || id == 0 {
				if fn == 0 {
					break
				}
				continue
			}
			f := &Function{Address: a, Vendor: uint16(id), Device: uint16(id >> 16), bus: b}
			class := f.read(regClass, 4)
			f.Class, f.Subclass, f.ProgIF = uint8(class>>24), uint8(class>>16), uint8(class>>8)
			header := uint8(f.read(regHeader, 1))
			if header&0x7f == 0 {
				sub := f.read(regSubVendor, 4)
				f.SubVendor, f.Subsystem = uint16(sub), uint16(sub>>16)
			}
			found(f, header)
			if fn == 0 && header&0x80 == 0 {
				break
			}
		}
	}
}

func (f *Function) read(off, width int) uint32     { return f.bus.cfg.read(f.Address, off, width) }
func (f *Function) write(off, width int, v uint32) { f.bus.cfg.write(f.Address, off, width, v) }

// command sets the command register, whose decoders make register blocks come and go.
func (f *Function) command(v uint32) {
	if f.read(regCommand, 2) != v {
		f.bus.cfg.move(f.Address, regCommand, 2, v)
	}
}

// Read8, Read16 and Read32 read configuration registers; all ones where there is none.
func (f *Function) Read8(off int) uint8   { return uint8(f.read(off, 1)) }
func (f *Function) Read16(off int) uint16 { return uint16(f.read(off, 2)) }
func (f *Function) Read32(off int) uint32 { return f.read(off, 4) }

// Write8, Write16 and Write32 write configuration registers.
func (f *Function) Write8(off int, v uint8)   { f.write(off, 1, uint32(v)) }
func (f *Function) Write16(off int, v uint16) { f.write(off, 2, uint32(v)) }
func (f *Function) Write32(off int, v uint32) { f.write(off, 4, v) }

// Caps lists the capabilities (6.7). A list that loops or leaves its area is cut.
func (f *Function) Caps() []Cap {
	if f.caps != nil || f.read(regStatus, 2)&statusCapsOn == 0 {
		return f.caps
	}
	f.caps = []Cap{}
	off := int(f.read(regCapability, 1) &^ 3)
	for n := 0; n < 48 && off >= 0x40 && off <= 0xfc; n++ {
		v := f.read(off, 2)
		f.caps = append(f.caps, Cap{uint8(v), off})
		off = int(v >> 8 &^ 3)
	}
	return f.caps
}

// Cap finds the first capability with the identifier.
func (f *Function) Cap(id uint8) (off int, ok bool) {
	for _, c := range f.Caps() {
		if c.ID == id {
			return c.Off, true
		}
	}
	return 0, false
}

// BAR reads and sizes register block i (6.2.5.1), placing it if the firmware did not.
func (f *Function) BAR(i int) (*BAR, error) {
	if i < 0 || i > 5 {
		return nil, ErrNoBAR
	}
	f.bus.mu.Lock()
	defer f.bus.mu.Unlock()
	bar := f.sizeLocked(i)
	if bar == nil {
		return nil, ErrNoBAR
	}
	if bar.Base == 0 {
		if err := f.bus.placeLocked(f, i, bar); err != nil {
			return nil, err
		}
	}
	return bar, nil
}

// sizeLocked asks the function how large the block is: bits that stay zero when
// ones are written are its size. Decoding is off meanwhile.
func (f *Function) sizeLocked(i int) *BAR {
	if f.bars[i] != nil {
		return f.bars[i]
	}
	off := regBAR0 + 4*i
	lo := f.read(off, 4)
	bar := &BAR{IO: lo&1 != 0}
	bar.Wide = !bar.IO && lo>>1&3 == 2 && i < 5
	cmd := f.read(regCommand, 2)
	f.command(cmd &^ (cmdIO | cmdMemory))
	f.write(off, 4, ^uint32(0))
	mask := f.read(off, 4)
	f.write(off, 4, lo)
	m64, v64 := uint64(mask), uint64(lo)
	if bar.Wide {
		hi := f.read(off+4, 4)
		f.write(off+4, 4, ^uint32(0))
		m64 |= uint64(f.read(off+4, 4)) << 32
		f.write(off+4, 4, hi)
		v64 |= uint64(hi) << 32
	} else {
		m64 |= 0xffffffff << 32
	}
	f.command(cmd)
	low := uint64(15)
	if bar.IO {
		low = 3
		if m64&0xffff0000 == 0 {
			m64 |= 0xffff0000 // 16-bit decoders leave the upper half zero
		}
	}
	if mask == 0 || mask == ^uint32(0) && lo == ^uint32(0) {
		return nil
	}
	bar.Base, bar.Size = v64&^low, -(m64 &^ low)
	if bar.Size == 0 || bar.Size&(bar.Size-1) != 0 || bar.Base&(bar.Size-1) != 0 {
		return nil // not a size: the device answers nonsense
	}
	f.bars[i] = bar
	return bar
}

// placeLocked gives a block an address inside the host bridge's windows, apart
// from everything that has one.
func (b *Bus) placeLocked(f *Function, i int, bar *BAR) error {
	if f.Behind {
		return fmt.Errorf("pci: register block %d of %v has no address and is behind a bridge", i, f.Address)
	}
	b.learnLocked()
	for _, w := range b.windows(bar) {
		at, ok := b.fit(w, bar.Size)
		if !ok {
			continue
		}
		bar.Base = at
		b.placed = append(b.placed, span{at, bar.Size})
		off := regBAR0 + 4*i
		f.bus.cfg.move(f.Address, off, 4, uint32(at))
		if bar.Wide {
			f.bus.cfg.move(f.Address, off+4, 4, uint32(at>>32))
		}
		return nil
	}
	return fmt.Errorf("pci: no room for register block %d of %v (%#x bytes)", i, f.Address, bar.Size)
}

// fit finds size free bytes, aligned to their size, in w.
func (b *Bus) fit(w span, size uint64) (uint64, bool) {
	at := (max(w.base, 0x1000) + size - 1) &^ (size - 1)
	// Each range in use can be in the way once: at only grows.
	for range len(b.placed) + 1 {
		if at < w.base || at-w.base > w.length || size > w.length-(at-w.base) {
			return 0, false
		}
		i := slices.IndexFunc(b.placed, func(p span) bool { return at < p.base+p.length && p.base < at+size })
		if i < 0 {
			return at, true
		}
		at = (b.placed[i].base + b.placed[i].length + size - 1) &^ (size - 1)
	}
	return 0, false
}

func (b *Bus) learnLocked() {
	if b.known {
		return
	}
	b.known = true
	for _, f := range b.funcs {
		n := 6
		switch h := f.read(regHeader, 1) & 0x7f; {
		case h == 1: // a bridge forwards a window of memory (PCI-PCI Bridge 1.2, 3.2.5.8)
			n = 2
			v := f.read(0x20, 4)
			if base, top := uint64(v&0xfff0)<<16, uint64(v>>20)<<20|0xfffff; base != 0 && base < top {
				b.placed = append(b.placed, span{base, top + 1 - base})
			}
		case h != 0:
			n = 0
		}
		for i := 0; i < n; i++ {
			if bar := f.sizeLocked(i); bar != nil {
				if bar.Base != 0 {
					b.placed = append(b.placed, span{bar.Base, bar.Size})
				}
				if bar.Wide {
					i++
				}
			}
		}
	}
}

// windows are the host bridge's, from its _CRS.
func (b *Bus) windows(bar *BAR) (out []span) {
	if b.tables == nil {
		return nil
	}
	kind := aml.Memory
	if bar.IO {
		kind = aml.IO
	}
	for _, id := range []string{"PNP0A08", "PNP0A03"} {
		for _, d := range b.tables.Names.Devices(id) {
			for _, r := range d.Resources() {
				// The legacy VGA hole lies below 1 MiB.
				if r.Kind == kind && r.Producer && (bar.IO || r.Base >= 1<<20) &&
					(bar.Wide || r.Base+r.Len <= 1<<32) {
					out = append(out, span{r.Base, r.Len})
				}
			}
		}
		if out != nil {
			break
		}
	}
	return out
}

// Enable switches on the function's decoders and its access to memory.
func (f *Function) Enable() {
	f.command(f.read(regCommand, 2) | cmdIO | cmdMemory | cmdMaster)
}

// Disable takes the function's access to memory away: after it, nothing that was
// given to the device is written any more.
func (f *Function) Disable() { f.write(regCommand, 2, f.read(regCommand, 2)&^cmdMaster) }

// MapBAR maps length bytes at off of register block i; length 0 is all of it.
// Only blocks in memory can be mapped.
func (f *Function) MapBAR(i int, off, length uint64) (hal.MMIO, error) {
	bar, err := f.BAR(i)
	if err != nil {
		return nil, err
	}
	if length == 0 && off < bar.Size {
		length = bar.Size - off
	}
	if bar.IO || length == 0 || off > bar.Size || length > bar.Size-off || length > 1<<30 {
		return nil, ErrNoBAR
	}
	return f.bus.m.MapMMIO(hal.PhysAddr(bar.Base+off), int(length))
}
