package virtiotest

import (
	"encoding/binary"
	"sync"

	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
)

// Host is a PCI configuration space behind ports 0xcf8 and 0xcfc.
type Host struct {
	mu    sync.Mutex
	addr  uint32
	funcs map[uint32]*Function // by bus<<16 | dev<<11 | fn<<8
}

// NewHost plugs a host bridge without functions into the machine.
func NewHost(m *fake.Machine) *Host {
	h := &Host{funcs: map[uint32]*Function{}}
	m.PlugPorts(0xcf8, 8, h)
	return h
}

// Function is a type 0 function's configuration space.
type Function struct {
	Config [256]byte
	// BARSize by index; 0 for none. Wide BARs take two.
	BARSize [6]uint64
	capEnd  uint8
}

// Add places a function; vendor, device and class (24 bits) as given.
func (h *Host) Add(bus, dev, fn uint8, vendor, device uint16, class uint32) *Function {
	f := &Function{capEnd: 0x40}
	le := binary.LittleEndian
	le.PutUint16(f.Config[0:], vendor)
	le.PutUint16(f.Config[2:], device)
	le.PutUint32(f.Config[8:], class<<8)
	h.mu.Lock()
	h.funcs[uint32(bus)<<16|uint32(dev)<<11|uint32(fn)<<8] = f
	h.mu.Unlock()
	return f
}

// AddCap appends a capability and returns its offset.
func (f *Function) AddCap(id uint8, body ...byte) int {
	at := int(f.capEnd)
	f.Config[6] |= 0x10
	p := &f.Config[0x34]
	for *p != 0 {
		p = &f.Config[*p+1]
	}
	*p = uint8(at)
	f.Config[at] = id
	copy(f.Config[at+2:], body)
	f.capEnd = uint8((at + 2 + len(body) + 3) &^ 3)
	return at
}

// SetBAR gives register block i a size and an address (0: not placed). low holds
// the type bits: 0 for 32-bit memory, 4 for 64-bit, 1 for ports.
func (f *Function) SetBAR(i int, size, addr uint64, low uint32) {
	f.BARSize[i] = size
	binary.LittleEndian.PutUint32(f.Config[0x10+4*i:], uint32(addr)|low)
	if low&4 != 0 {
		binary.LittleEndian.PutUint32(f.Config[0x14+4*i:], uint32(addr>>32))
	}
}

// BAR is the block's address now.
func (f *Function) BAR(i int) uint64 {
	v := uint64(binary.LittleEndian.Uint32(f.Config[0x10+4*i:]))
	if v&1 == 0 && v&4 != 0 {
		return v&^15 | uint64(binary.LittleEndian.Uint32(f.Config[0x14+4*i:]))<<32
	}
	return v &^ 15
}

// Read implements fake.Registers.
func (h *Host) Read(off, width int) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if off < 4 {
		return uint64(h.addr)
	}
	f := h.funcs[h.addr&0xffff00]
	if f == nil || h.addr>>31 == 0 {
		return ^uint64(0)
	}
	at := int(h.addr&0xfc) + off - 4
	var b [8]byte
	copy(b[:width], f.Config[at:])
	return binary.LittleEndian.Uint64(b[:])
}

// Write implements fake.Registers.
func (h *Host) Write(off, width int, v uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if off < 4 {
		h.addr = uint32(v) &^ 0x7f000003
		return
	}
	f := h.funcs[h.addr&0xffff00]
	if f == nil || h.addr>>31 == 0 {
		return
	}
	f.write(int(h.addr&0xfc)+off-4, width, v)
}

func (f *Function) write(at, width int, v uint64) {
	le := binary.LittleEndian
	switch {
	case at >= 0x10 && at < 0x28:
		i := (at - 0x10) / 4
		size, low := f.BARSize[i], uint32(0)
		if size == 0 && i > 0 && f.BARSize[i-1] != 0 && f.Config[0x10+4*(i-1)]&5 == 4 {
			le.PutUint32(f.Config[at:], uint32(v)&uint32(-f.BARSize[i-1]>>32)) // upper half
			return
		}
		if size == 0 {
			return
		}
		if low = le.Uint32(f.Config[at:]) & 15; low&1 != 0 {
			low &= 3
		}
		le.PutUint32(f.Config[at:], uint32(v)&uint32(-size)|low)
	case at < 4 || at >= 6 && at < 0x10 || at >= 0x28 && at < 0x3c || at == 0x3d:
		// read-only
	default:
		var b [8]byte
		le.PutUint64(b[:], v)
		copy(f.Config[at:at+width], b[:])
	}
}

// PCI makes the device a PCI function of h: registers in BAR 4 at addr, the MSI-X
// table in BAR 1 at addr+0x10000 with vectors entries (0: the wired interrupt line).
func (d *Device) PCI(h *Host, dev uint8, addr uint64, vectors int, line uint8) *Function {
	d.start()
	f := h.Add(0, dev, 0, 0x1af4, 0x1040+uint16(d.Kind), 0x00ff00)
	f.SetBAR(1, 0x1000, addr+0x10000, 0)
	f.SetBAR(4, 0x4000, addr, 4)
	vendor := func(kind uint8, off, n uint32, extra ...byte) {
		b := []byte{16 + uint8(len(extra)), kind, 4, 0, 0, 0}
		b = binary.LittleEndian.AppendUint32(b, off)
		b = binary.LittleEndian.AppendUint32(b, n)
		f.AddCap(9, append(b, extra...)...)
	}
	vendor(1, 0, 0x1000)
	vendor(3, 0x1000, 0x1000)
	vendor(4, 0x2000, 0x1000)
	vendor(2, 0x3000, 0x1000, 4, 0, 0, 0)
	r := &pciRegs{d: d, f: f, line: line, table: make([]byte, vectors*16)}
	if vectors > 0 {
		r.msix = f.AddCap(0x11, byte(vectors-1), byte((vectors-1)>>8), 1, 0, 0, 0, 1, 8, 0, 0)
	}
	f.Config[0x3c], f.Config[0x3d] = line, 1
	d.irq = r.raise
	d.M.PlugMMIO(hal.PhysAddr(addr), 0x4000, r)
	d.M.PlugMMIO(hal.PhysAddr(addr+0x10000), 0x1000, (*pciTable)(r))
	return f
}

type pciRegs struct {
	d         *Device
	f         *Function
	line      uint8
	msix      int
	table     []byte
	configVec uint16
}

// raise is called with d.mu held.
func (r *pciRegs) raise(q int) {
	if r.msix == 0 || r.f.Config[r.msix+3]&0x80 == 0 {
		r.d.M.SetGSI(uint32(r.line), r.d.isr != 0)
		return
	}
	v := r.configVec
	if q >= 0 {
		v = r.d.queues[q].vector
	}
	if int(v)*16 < len(r.table) {
		e := r.table[v*16:]
		le := binary.LittleEndian
		if e[12]&1 == 0 {
			r.d.M.RaiseMSI(le.Uint64(e), le.Uint32(e[8:]))
		}
	}
}

type pciTable pciRegs

func (t *pciTable) Read(off, width int) uint64 {
	var b [8]byte
	if off+width <= len(t.table) {
		t.d.mu.Lock()
		copy(b[:width], t.table[off:])
		t.d.mu.Unlock()
	}
	return binary.LittleEndian.Uint64(b[:])
}

func (t *pciTable) Write(off, width int, v uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	if off+width <= len(t.table) {
		t.d.mu.Lock()
		copy(t.table[off:off+width], b[:])
		t.d.mu.Unlock()
	}
}

func (r *pciRegs) q() *queue {
	if int(r.d.queueSel) < len(r.d.queues) {
		return &r.d.queues[r.d.queueSel]
	}
	return &queue{}
}

func (r *pciRegs) Read(off, width int) uint64 {
	d := r.d
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case off >= 0x2000 && off < 0x3000:
		return d.config(off-0x2000, width, false, 0)
	case off == 0x1000:
		v := d.isr
		d.isr = 0
		d.M.SetGSI(uint32(r.line), false)
		return uint64(v)
	}
	q := r.q()
	b2u := map[bool]uint64{true: 1}
	switch off {
	case 4:
		if d.featSel < 2 {
			return d.Feat >> (32 * d.featSel) & 0xffffffff
		}
	case 0x10:
		return uint64(r.configVec)
	case 0x12:
		return uint64(d.Queues)
	case 0x14:
		return uint64(d.status)
	case 0x15:
		return uint64(uint8(d.gen))
	case 0x18:
		return uint64(q.size)
	case 0x1a:
		return uint64(q.vector)
	case 0x1c:
		return b2u[q.ready]
	case 0x1e:
		return uint64(d.queueSel)
	}
	return 0
}

func (r *pciRegs) Write(off, width int, v uint64) {
	d := r.d
	if off >= 0x3000 {
		if uint64(off-0x3000)/4 != v || width != 2 {
			panic("virtiotest: notification at the wrong place")
		}
		d.notify(int(v))
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if off >= 0x2000 {
		d.config(off-0x2000, width, true, v)
		return
	}
	q := r.q()
	half := func(p *uint64, shift int) { *p = *p&^(0xffffffff<<shift) | v<<shift }
	vector := func() uint16 {
		if int(v)*16 >= len(r.table) {
			return 0xffff
		}
		return uint16(v)
	}
	switch off {
	case 0:
		d.featSel = uint32(v)
	case 8:
		d.drvSel = uint32(v)
	case 0xc:
		if d.drvSel < 2 {
			half(&d.driver, int(32*d.drvSel))
		}
	case 0x10:
		r.configVec = vector()
	case 0x14:
		d.setStatus(uint8(v))
	case 0x16:
		d.queueSel = uint32(v)
	case 0x18:
		q.size = uint16(v)
	case 0x1a:
		q.vector = vector()
	case 0x1c:
		q.ready = v == 1
	case 0x20, 0x24:
		half(&q.desc, 8*(off-0x20))
	case 0x28, 0x2c:
		half(&q.avail, 8*(off-0x28))
	case 0x30, 0x34:
		half(&q.used, 8*(off-0x30))
	}
}
