package aml

import "encoding/binary"

// ResourceKind is what a resource descriptor describes.
type ResourceKind uint8

// Resource kinds.
const (
	Memory ResourceKind = 1 + iota
	IO
	Bus
	Interrupt
)

// Resource is one descriptor of a _CRS.
type Resource struct {
	Kind ResourceKind
	// Base and Len of memory, ports or bus numbers.
	Base, Len uint64
	// GSIs of an Interrupt. For the small IRQ descriptors they are ISA
	// interrupts, for extended ones global system interrupts.
	GSIs             []uint32
	ISA              bool
	Level, ActiveLow bool
	// Producer marks a window that a bridge passes on, not one it uses.
	Producer bool
}

// Resources decodes the device's constant _CRS; nil if it has none.
func (d *Device) Resources() []Resource {
	b, _ := d.Names["_CRS"].([]byte)
	return Resources(b)
}

// Resources decodes a resource template (ACPI 6.4), stopping at its end tag or at
// the first descriptor that does not fit.
func Resources(b []byte) []Resource {
	var out []Resource
	for len(b) > 0 {
		tag := b[0]
		var body []byte
		if tag&0x80 == 0 {
			n := int(tag & 7)
			if len(b) < 1+n || tag>>3 == 0xf {
				break
			}
			body, b = b[1:1+n], b[1+n:]
			tag >>= 3
		} else {
			if len(b) < 3 {
				break
			}
			n := int(binary.LittleEndian.Uint16(b[1:]))
			if len(b) < 3+n {
				break
			}
			body, b = b[3:3+n], b[3+n:]
		}
		if r, ok := descriptor(tag, body); ok {
			out = append(out, r)
		}
	}
	return out
}

// descriptor decodes the body of one descriptor. Small tags are their item names
// (ACPI 6.4.2), large ones the whole tag byte (6.4.3).
func descriptor(tag byte, b []byte) (Resource, bool) {
	le := binary.LittleEndian
	switch {
	case tag == 4 && len(b) >= 2: // IRQ
		r := Resource{Kind: Interrupt, ISA: true}
		for m, i := le.Uint16(b), uint32(0); i < 16; i++ {
			if m>>i&1 != 0 {
				r.GSIs = append(r.GSIs, i)
			}
		}
		if len(b) >= 3 {
			r.Level, r.ActiveLow = b[2]&1 == 0, b[2]&8 != 0
		}
		return r, true
	case tag == 8 && len(b) >= 7: // I/O port
		return Resource{Kind: IO, Base: uint64(le.Uint16(b[1:])), Len: uint64(b[6])}, true
	case tag == 9 && len(b) >= 3: // fixed I/O port
		return Resource{Kind: IO, Base: uint64(le.Uint16(b) & 0x3ff), Len: uint64(b[2])}, true
	case tag == 0x85 && len(b) >= 17: // Memory32
		return Resource{Kind: Memory, Base: uint64(le.Uint32(b[1:])), Len: uint64(le.Uint32(b[13:]))}, true
	case tag == 0x86 && len(b) >= 9: // Memory32Fixed
		return Resource{Kind: Memory, Base: uint64(le.Uint32(b[1:])), Len: uint64(le.Uint32(b[5:]))}, true
	case tag == 0x87 && len(b) >= 23: // DWord address space
		return window(b, uint64(le.Uint32(b[7:])), uint64(le.Uint32(b[19:])))
	case tag == 0x88 && len(b) >= 13: // Word address space
		return window(b, uint64(le.Uint16(b[5:])), uint64(le.Uint16(b[11:])))
	case tag == 0x8a && len(b) >= 43: // QWord address space
		return window(b, le.Uint64(b[11:]), le.Uint64(b[35:]))
	case tag == 0x89 && len(b) >= 2: // extended interrupt
		r := Resource{Kind: Interrupt, Producer: b[0]&1 == 0, Level: b[0]&2 == 0, ActiveLow: b[0]&4 != 0}
		for i := 0; i < int(b[1]) && 2+4*i+4 <= len(b); i++ {
			r.GSIs = append(r.GSIs, le.Uint32(b[2+4*i:]))
		}
		return r, true
	}
	return Resource{}, false
}

// window is the part that the address space descriptors share (ACPI 6.4.3.5).
func window(b []byte, base, length uint64) (Resource, bool) {
	r := Resource{Base: base, Len: length, Producer: b[1]&1 == 0}
	switch b[0] {
	case 0:
		r.Kind = Memory
	case 1:
		r.Kind = IO
	case 2:
		r.Kind = Bus
	default:
		return r, false
	}
	return r, true
}
