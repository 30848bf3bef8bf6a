// Package aml reads the declarations in ACPI's byte code: devices, scopes, names
// and their constant values. It runs nothing. Methods, conditional blocks and
// fields are stepped over, so what a firmware computes at run time is not seen;
// what hypervisors declare (_HID, _CRS, _S5, virtio-mmio windows) is.
//
//	ns := aml.Parse(dsdt, ssdt)
//	for _, d := range ns.Devices("LNRO0005") {
//		for _, r := range d.Resources() { … }
//	}
//
// Input is hostile as far as this package knows: every read is bounded by the block
// it is in, nesting and the number of objects are limited, and a construct that is
// not understood ends its block and no more.
package aml

import (
	"encoding/binary"
	"strings"
)

// Limits on what a table may make the reader keep.
const (
	maxDepth   = 32
	maxObjects = 1 << 16
)

// Ref is a name inside a package: a reference to another object.
type Ref string

// Device is a Device object and its constant children.
type Device struct {
	Path string // "\_SB.PCI0.ISA"
	// Names holds the Name objects directly in the device by their four-letter
	// segment: uint64, string, []byte (Buffer), []any (Package) or Ref.
	Names map[string]any
}

// Namespace is what Parse found.
type Namespace struct {
	All   []*Device
	names map[string]any // by full path
	byID  map[string]*Device
}

// Lookup returns the constant value of a Name by its full path, such as `\_S5`.
func (n *Namespace) Lookup(path string) (any, bool) {
	v, ok := n.names[path]
	return v, ok
}

// Devices lists the devices whose _HID or _CID is id, in table order.
func (n *Namespace) Devices(id string) []*Device {
	var out []*Device
	for _, d := range n.All {
		if d.HID() == id || matchID(d.Names["_CID"], id) {
			out = append(out, d)
		}
	}
	return out
}

func matchID(v any, id string) bool {
	if list, ok := v.([]any); ok {
		for _, e := range list {
			if idString(e) == id {
				return true
			}
		}
		return false
	}
	return v != nil && idString(v) == id
}

// HID is the device's _HID, "" if it has none or computes it.
func (d *Device) HID() string { return idString(d.Names["_HID"]) }

// Present is false if a constant _STA says that the device is absent (ACPI 6.3.7).
func (d *Device) Present() bool {
	if v, ok := d.Names["_STA"].(uint64); ok {
		return v&1 != 0
	}
	return true
}

// idString gives an ID as text; integers are compressed EISA IDs (ACPI 19.6.36).
func idString(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case uint64:
		b := [4]byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)}
		const hex = "0123456789ABCDEF"
		return string([]byte{
			'@' + b[0]>>2&31, '@' + (b[0]&3)<<3 | b[1]>>5, '@' + b[1]&31,
			hex[b[2]>>4], hex[b[2]&15], hex[b[3]>>4], hex[b[3]&15],
		})
	}
	return ""
}

// Parse reads definition blocks: whole tables with their 36-byte headers. Tables
// that are too short are ignored.
func Parse(tables ...[]byte) *Namespace {
	p := &parser{ns: &Namespace{names: map[string]any{}, byID: map[string]*Device{}}}
	for _, t := range tables {
		if len(t) < 36 {
			continue
		}
		n := int(binary.LittleEndian.Uint32(t[4:]))
		if n < 36 || n > len(t) {
			n = len(t)
		}
		p.block(t[36:n], `\`, nil, 0)
	}
	return p.ns
}

// Opcodes (ACPI 20.3). Extended ones follow 0x5b.
const (
	opZero     = 0x00
	opOne      = 0x01
	opAlias    = 0x06
	opName     = 0x08
	opByte     = 0x0a
	opWord     = 0x0b
	opDWord    = 0x0c
	opString   = 0x0d
	opQWord    = 0x0e
	opScope    = 0x10
	opBuffer   = 0x11
	opPackage  = 0x12
	opVarPkg   = 0x13
	opMethod   = 0x14
	opExternal = 0x15
	opExt      = 0x5b
	opIf       = 0xa0
	opElse     = 0xa1
	opWhile    = 0xa2
	opOnes     = 0xff

	extMutex      = 0x01
	extEvent      = 0x02
	extRegion     = 0x80
	extField      = 0x81
	extDevice     = 0x82
	extProcessor  = 0x83
	extPower      = 0x84
	extThermal    = 0x85
	extIndexField = 0x86
	extBankField  = 0x87
	extDataRegion = 0x88
)

type parser struct {
	ns      *Namespace
	objects int
}

// block reads the terms of one scope. dev is the device whose body it is.
func (p *parser) block(b []byte, scope string, dev *Device, depth int) {
	if depth > maxDepth {
		return
	}
	r := &reader{b: b}
	for len(r.b) > 0 && !r.bad {
		if p.objects++; p.objects > maxObjects {
			return
		}
		p.term(r, scope, dev, depth)
	}
}

func (p *parser) term(r *reader, scope string, dev *Device, depth int) {
	switch op := r.byte(); op {
	case opName:
		path := join(scope, r.name())
		v := p.data(r, depth)
		if r.bad {
			return
		}
		p.ns.names[path] = v
		// Almost always the name stands in the device's own body; a path that
		// leads elsewhere finds its device by name.
		at, seg := split(path)
		if dev == nil || dev.Path != at {
			dev = p.ns.byID[at]
		}
		if dev != nil {
			dev.Names[seg] = v
		}
	case opScope:
		body := r.pkg()
		path := join(scope, body.name())
		if !body.bad {
			p.block(body.b, path, p.ns.byID[path], depth+1)
		}
	case opMethod, opIf, opElse, opWhile:
		r.pkg()
	case opAlias:
		r.name()
		r.name()
	case opExternal:
		r.name()
		r.byte()
		r.byte()
	case opExt:
		p.extended(r, scope, depth)
	case opZero, opOne, opOnes, opByte, opWord, opDWord, opQWord, opString, opBuffer, opPackage, opVarPkg:
		r.unread()
		p.data(r, depth) // a value that stands alone is legal and idle
	default:
		p.expression(r, op, depth)
	}
}

func (p *parser) extended(r *reader, scope string, depth int) {
	switch op := r.byte(); op {
	case extDevice:
		body := r.pkg()
		path := join(scope, body.name())
		if body.bad {
			return
		}
		d := &Device{Path: path, Names: map[string]any{}}
		p.ns.All = append(p.ns.All, d)
		p.ns.byID[path] = d
		p.block(body.b, path, d, depth+1)
	case extProcessor, extPower, extThermal:
		body := r.pkg()
		path := join(scope, body.name())
		body.skip(map[byte]int{extProcessor: 6, extPower: 3}[op])
		if !body.bad {
			p.block(body.b, path, nil, depth+1)
		}
	case extField, extIndexField, extBankField:
		r.pkg()
	case extMutex:
		r.name()
		r.byte()
	case extEvent:
		r.name()
	case extRegion:
		r.name()
		r.byte()
		p.data(r, depth)
		p.data(r, depth)
	case extDataRegion:
		r.name()
		p.data(r, depth)
		p.data(r, depth)
		p.data(r, depth)
	default:
		r.bad = true
	}
}

// expression steps over the operators that tables use in declarations (region
// offsets, buffer fields). Anything else ends the block.
func (p *parser) expression(r *reader, op byte, depth int) {
	if depth > maxDepth {
		r.bad = true
		return
	}
	switch op {
	case 0x72, 0x74, 0x77, 0x79, 0x7a, 0x7b, 0x7c, 0x7d, 0x7e, 0x7f: // Add … Xor
		p.data(r, depth+1)
		p.data(r, depth+1)
		p.target(r)
	case 0x70: // Store
		p.data(r, depth+1)
		p.target(r)
	case 0x8a, 0x8b, 0x8c, 0x8d, 0x8f: // CreateDWordField … CreateQWordField
		p.data(r, depth+1)
		p.data(r, depth+1)
		r.name()
	default:
		r.bad = true
	}
}

func (p *parser) target(r *reader) {
	if len(r.b) > 0 && (r.b[0] == 0 || r.b[0] >= 0x60 && r.b[0] <= 0x6e) {
		r.byte() // nothing, a local or an argument
		return
	}
	r.name()
}

// data reads a constant: a number, string, buffer, package or name. nil stands for
// an expression whose value is not known.
func (p *parser) data(r *reader, depth int) any {
	if depth > maxDepth {
		r.bad = true
		return nil
	}
	if p.objects++; p.objects > maxObjects {
		r.bad = true
		return nil
	}
	switch op := r.byte(); op {
	case opZero:
		return uint64(0)
	case opOne:
		return uint64(1)
	case opOnes:
		return ^uint64(0)
	case opByte:
		return r.uint(1)
	case opWord:
		return r.uint(2)
	case opDWord:
		return r.uint(4)
	case opQWord:
		return r.uint(8)
	case opString:
		return r.str()
	case opBuffer:
		body := r.pkg()
		n, ok := p.data(body, depth+1).(uint64)
		if body.bad || !ok {
			return nil
		}
		// The declared size may exceed the initial bytes; nobody here reads
		// the zeros that follow, so they are not made.
		return body.b[:min(uint64(len(body.b)), n)]
	case opPackage:
		body := r.pkg()
		return p.list(body, int(body.byte()), depth)
	case opVarPkg:
		body := r.pkg()
		n, _ := p.data(body, depth+1).(uint64)
		return p.list(body, int(min(n, maxObjects)), depth)
	default:
		if isName(op) {
			r.unread()
			return Ref(r.name())
		}
		p.expression(r, op, depth)
		return nil
	}
}

func (p *parser) list(r *reader, n, depth int) any {
	out := []any{}
	for len(out) < n && len(r.b) > 0 && !r.bad {
		v := p.data(r, depth+1)
		if r.bad {
			break
		}
		out = append(out, v)
	}
	return out
}

// join resolves a NameString against a scope (ACPI 5.3).
func join(scope, name string) string {
	if strings.HasPrefix(name, `\`) {
		return name
	}
	for strings.HasPrefix(name, "^") {
		name = name[1:]
		scope, _ = split(scope)
	}
	switch {
	case name == "":
		return scope
	case scope == `\`:
		return `\` + name
	}
	return scope + "." + name
}

// split parts a path into its scope and last segment.
func split(path string) (scope, seg string) {
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return `\`, strings.TrimPrefix(path, `\`)
}
