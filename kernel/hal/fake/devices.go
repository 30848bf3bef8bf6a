package fake

import (
	"fmt"
	"sync"
	"sync/atomic"

	"kiln/kernel/hal"
)

// Registers models a device's registers, in an MMIO window or a range of ports.
// off is in bytes from the start of what was plugged, width is 1, 2, 4 or 8. The
// methods run on the goroutine that makes the access.
type Registers interface {
	Read(off, width int) uint64
	Write(off, width int, v uint64)
}

type plugged struct {
	base, length uint64
	dev          Registers
}

type bus struct {
	mmio, ports []plugged
}

// PlugMMIO puts dev's registers at physical address pa.
func (m *Machine) PlugMMIO(pa hal.PhysAddr, length int, dev Registers) {
	m.mu.Lock()
	m.bus.mmio = append(m.bus.mmio, plugged{uint64(pa), uint64(length), dev})
	m.mu.Unlock()
}

// PlugPorts puts dev's registers at I/O ports first, first+1, …
func (m *Machine) PlugPorts(first uint16, count int, dev Registers) {
	m.mu.Lock()
	m.bus.ports = append(m.bus.ports, plugged{uint64(first), uint64(count), dev})
	m.mu.Unlock()
}

func (m *Machine) find(list *[]plugged, addr uint64) (Registers, int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range *list {
		if addr >= p.base && addr-p.base < p.length {
			return p.dev, int(addr - p.base)
		}
	}
	return nil, 0
}

// read answers all ones where nothing is plugged, as a PC's buses do.
func (m *Machine) read(list *[]plugged, addr uint64, width int) uint64 {
	dev, off := m.find(list, addr)
	v := ^uint64(0)
	if dev != nil {
		v = dev.Read(off, width)
	}
	return v & (^uint64(0) >> (64 - 8*width))
}

func (m *Machine) write(list *[]plugged, addr uint64, width int, v uint64) {
	if dev, off := m.find(list, addr); dev != nil {
		dev.Write(off, width, v)
	}
}

// Port access, hal.Machine.
func (m *Machine) In8(port uint16) uint8   { return uint8(m.read(&m.bus.ports, uint64(port), 1)) }
func (m *Machine) In16(port uint16) uint16 { return uint16(m.read(&m.bus.ports, uint64(port), 2)) }
func (m *Machine) In32(port uint16) uint32 { return uint32(m.read(&m.bus.ports, uint64(port), 4)) }
func (m *Machine) Out8(port uint16, v uint8) {
	m.write(&m.bus.ports, uint64(port), 1, uint64(v))
}
func (m *Machine) Out16(port uint16, v uint16) {
	m.write(&m.bus.ports, uint64(port), 2, uint64(v))
}
func (m *Machine) Out32(port uint16, v uint32) {
	m.write(&m.bus.ports, uint64(port), 4, uint64(v))
}

type window struct {
	m      *Machine
	pa     uint64
	length int
}

// MapMMIO implements hal.Machine; the window need not be plugged.
func (m *Machine) MapMMIO(pa hal.PhysAddr, length int) (hal.MMIO, error) {
	if length <= 0 {
		return nil, hal.ErrBadAddress
	}
	return &window{m, uint64(pa), length}, nil
}

func (w *window) addr(off, width int) uint64 {
	if off < 0 || off+width > w.length || off%width != 0 {
		panic(fmt.Sprintf("fake: MMIO access of %d bytes at %#x in a window of %#x", width, off, w.length))
	}
	return w.pa + uint64(off)
}

func (w *window) Len() int { return w.length }
func (w *window) Read8(off int) uint8 {
	return uint8(w.m.read(&w.m.bus.mmio, w.addr(off, 1), 1))
}
func (w *window) Read16(off int) uint16 {
	return uint16(w.m.read(&w.m.bus.mmio, w.addr(off, 2), 2))
}
func (w *window) Read32(off int) uint32 {
	return uint32(w.m.read(&w.m.bus.mmio, w.addr(off, 4), 4))
}
func (w *window) Read64(off int) uint64 { return w.m.read(&w.m.bus.mmio, w.addr(off, 8), 8) }
func (w *window) Write8(off int, v uint8) {
	w.m.write(&w.m.bus.mmio, w.addr(off, 1), 1, uint64(v))
}
func (w *window) Write16(off int, v uint16) {
	w.m.write(&w.m.bus.mmio, w.addr(off, 2), 2, uint64(v))
}
func (w *window) Write32(off int, v uint32) {
	w.m.write(&w.m.bus.mmio, w.addr(off, 4), 4, uint64(v))
}
func (w *window) Write64(off int, v uint64) { w.m.write(&w.m.bus.mmio, w.addr(off, 8), 8, v) }

// msiAddr is the address fake MSIs are written to (SDM 3A 10.11.1).
const msiAddr = 0xfee00000

type irqs struct {
	pending     atomic.Int32
	dispatching sync.Mutex
	vectors     map[uint32]*source
	lines       map[uint32]*line
	spurious    int
}

// line is a wired interrupt: devices raise and lower it, sources share it.
type line struct {
	level   bool // asserted
	sources []*source
}

type source struct {
	m       *Machine
	name    string
	handler func()
	level   bool
	gsi     uint32
	vector  uint32
	masked  bool
	latched bool
	running bool
	gone    bool
}

func (q *irqs) init() {
	q.vectors = map[uint32]*source{}
	q.lines = map[uint32]*line{}
}

// ConnectMSI implements hal.Machine.
func (m *Machine) ConnectMSI(name string, cpu int, handler func()) (hal.MSI, hal.IRQ, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := uint32(0x30)
	for m.irq.vectors[v] != nil {
		v++
	}
	if v > 0xef {
		return hal.MSI{}, nil, hal.ErrInUse
	}
	s := &source{m: m, name: name, handler: handler, vector: v}
	m.irq.vectors[v] = s
	return hal.MSI{Addr: msiAddr, Data: v}, s, nil
}

// ConnectGSI implements hal.Machine; level-triggered lines can be shared.
func (m *Machine) ConnectGSI(name string, gsi uint32, flags hal.GSIFlags, handler func()) (hal.IRQ, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if gsi > 255 {
		return nil, hal.ErrUnsupported
	}
	l := m.lineLocked(gsi)
	level := flags&hal.GSILevel != 0
	if len(l.sources) > 0 && !(level && l.sources[0].level) {
		return nil, hal.ErrInUse
	}
	s := &source{m: m, name: name, handler: handler, gsi: gsi, level: level}
	l.sources = append(l.sources, s)
	if l.level {
		m.latchLocked(s)
	}
	return s, nil
}

func (m *Machine) lineLocked(gsi uint32) *line {
	l := m.irq.lines[gsi]
	if l == nil {
		l = &line{}
		m.irq.lines[gsi] = l
	}
	return l
}

// RaiseMSI is a device's memory write; one to an unknown vector is counted by
// Spurious.
func (m *Machine) RaiseMSI(addr uint64, data uint32) {
	m.mu.Lock()
	s := m.irq.vectors[data]
	if s == nil || addr != msiAddr {
		m.irq.spurious++
	} else {
		m.latchLocked(s)
	}
	m.mu.Unlock()
}

// SetGSI drives a wired interrupt line; a rising edge latches edge-triggered
// sources, a high line latches level-triggered ones again and again.
func (m *Machine) SetGSI(gsi uint32, high bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.lineLocked(gsi)
	rising := high && !l.level
	l.level = high
	for _, s := range l.sources {
		if rising || high && s.level {
			m.latchLocked(s)
		}
	}
}

// Spurious counts MSIs that nobody had connected.
func (m *Machine) Spurious() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.irq.spurious
}

// latchLocked marks s and has it dispatched. A level source that is latched or
// running is masked, as hal.IRQ says.
func (m *Machine) latchLocked(s *source) {
	if s.latched || s.gone || s.level && s.running {
		return
	}
	s.latched = true
	if s.masked {
		return // kept until Unmask, as a latched edge is
	}
	m.irq.pending.Add(1)
	for c := range m.ctxs {
		c.kick() // a CPU at ring 3 leaves it
	}
	go m.Dispatch()
}

// Pending implements hal.Machine.
func (m *Machine) Pending() bool {
	if m.irq.pending.Load() > 0 {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.clock.deadline <= m.nowLocked() && m.clock.f != nil
}

// Dispatch implements hal.Machine. Handlers never run beside each other.
func (m *Machine) Dispatch() {
	m.irq.dispatching.Lock()
	defer m.irq.dispatching.Unlock()
	for {
		m.mu.Lock()
		s := m.nextLocked()
		if s != nil {
			s.latched = false
			s.running = true
			m.irq.pending.Add(-1)
			m.mu.Unlock()
			s.handler()
			m.mu.Lock()
			s.running = false
			if s.level && m.lineLocked(s.gsi).level {
				m.latchLocked(s)
				m.mu.Unlock()
				return // the line is still high: another goroutine goes on
			}
			m.mu.Unlock()
			continue
		}
		f := m.clock.f
		due := f != nil && m.clock.deadline <= m.nowLocked()
		if due {
			m.clock.deadline = hal.NoDeadline
		}
		m.mu.Unlock()
		if !due {
			return
		}
		f()
	}
}

func (m *Machine) nextLocked() *source {
	if m.irq.pending.Load() == 0 {
		return nil
	}
	for _, s := range m.irq.vectors {
		if s.latched && !s.masked {
			return s
		}
	}
	for _, l := range m.irq.lines {
		for _, s := range l.sources {
			if s.latched && !s.masked {
				return s
			}
		}
	}
	return nil
}

// Mask implements hal.IRQ.
func (s *source) Mask() {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if !s.masked && s.latched {
		s.m.irq.pending.Add(-1)
	}
	s.masked = true
}

// Unmask implements hal.IRQ.
func (s *source) Unmask() {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if !s.masked {
		return
	}
	s.masked = false
	if s.latched {
		s.latched = false
		if !s.level || s.m.lineLocked(s.gsi).level {
			s.m.latchLocked(s)
		}
	}
}

// Disconnect implements hal.IRQ.
func (s *source) Disconnect() {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.latched && !s.masked {
		s.m.irq.pending.Add(-1)
	}
	s.latched, s.gone = false, true
	if s.vector != 0 {
		delete(s.m.irq.vectors, s.vector)
		return
	}
	l := s.m.lineLocked(s.gsi)
	for i, o := range l.sources {
		if o == s {
			l.sources = append(l.sources[:i], l.sources[i+1:]...)
			return
		}
	}
}
