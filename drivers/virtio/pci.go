package virtio

import (
	"encoding/binary"
	"errors"
	"fmt"

	"kiln/drivers/pci"
	"kiln/kernel/hal"
)

// Vendor and device numbers (4.1.2).
const (
	pciVendor      = 0x1af4
	pciModern      = 0x1040 // plus the device type
	pciTransition  = 0x1000
	pciTransitionN = 0x40
)

// Capability types (4.1.4).
const (
	capCommon = 1
	capNotify = 2
	capISR    = 3
	capDevice = 4
)

// Common configuration (4.1.4.3).
const (
	comFeaturesSel    = 0x00
	comFeatures       = 0x04
	comDrvFeaturesSel = 0x08
	comDrvFeatures    = 0x0c
	comMSIXConfig     = 0x10
	comQueues         = 0x12
	comStatus         = 0x14
	comGeneration     = 0x15
	comQueueSel       = 0x16
	comQueueSize      = 0x18
	comQueueVector    = 0x1a
	comQueueEnable    = 0x1c
	comQueueNotify    = 0x1e
	comQueueDesc      = 0x20
	comQueueAvail     = 0x28
	comQueueUsed      = 0x30
	comLen            = 0x38

	noVector = 0xffff
)

// ErrLegacyPCI says that a PCI device has only the interface before virtio 1.0.
var ErrLegacyPCI = errors.New("virtio: only the legacy PCI interface is offered; start it without disable-modern=on")

// pciTransport is virtio over PCI.
type pciTransport struct {
	f        *pci.Function
	kind     uint32
	common   region
	notify   region
	isr      region
	device   region
	notifyX  uint32
	notifyAt map[int]int
	vectors  []uint16 // by queue, the last for all beyond
	msix     bool
}

// region is a capability's part of a register block.
type region struct {
	hal.MMIO
	off, len int
}

// IsPCI tells whether f is a virtio device and of what type.
func IsPCI(f *pci.Function) (kind uint32, ok bool) {
	if f.Vendor != pciVendor {
		return 0, false
	}
	switch {
	case f.Device >= pciModern && f.Device < pciModern+0x40:
		return uint32(f.Device - pciModern), true
	case f.Device >= pciTransition && f.Device < pciTransition+pciTransitionN:
		return uint32(f.Subsystem), true // 4.1.2.3
	}
	return 0, false
}

// OpenPCI reads the capabilities of a virtio device (4.1.4) and maps its registers.
func OpenPCI(f *pci.Function) (Transport, error) {
	kind, ok := IsPCI(f)
	if !ok {
		return nil, ErrNoDevice
	}
	t := &pciTransport{f: f, kind: kind, notifyAt: map[int]int{}}
	f.Enable()
	bars := map[int]hal.MMIO{}
	for _, c := range f.Caps() {
		if c.ID != pci.CapVendor {
			continue
		}
		var r *region
		switch f.Read8(c.Off + 3) {
		case capCommon:
			r = &t.common
		case capNotify:
			r = &t.notify
		case capISR:
			r = &t.isr
		case capDevice:
			r = &t.device
		}
		if r == nil || r.MMIO != nil {
			continue // of several capabilities the first usable one counts (4.1.4)
		}
		if err := t.mapCap(r, c.Off, bars); err != nil {
			continue
		}
		if r == &t.notify {
			t.notifyX = f.Read32(c.Off + 16)
		}
	}
	if t.common.MMIO == nil && t.notify.MMIO == nil {
		return nil, fmt.Errorf("%w (%v)", ErrLegacyPCI, f.Address)
	}
	if t.common.len < comLen || t.notify.len < 2 || t.isr.len < 1 {
		return nil, fmt.Errorf("%w: %v lacks a register block", ErrDevice, f.Address)
	}
	return t, nil
}

func (t *pciTransport) mapCap(r *region, at int, bars map[int]hal.MMIO) error {
	bar, off, n := int(t.f.Read8(at+4)), uint64(t.f.Read32(at+8)), uint64(t.f.Read32(at+12))
	w := bars[bar]
	if w == nil {
		var err error
		if w, err = t.f.MapBAR(bar, 0, 0); err != nil {
			return err
		}
		bars[bar] = w
	}
	if off > uint64(w.Len()) || n > uint64(w.Len())-off || off%4 != 0 {
		return pci.ErrNoBAR
	}
	*r = region{w, int(off), int(n)}
	return nil
}

func (r *region) r8(o int) uint8       { return r.Read8(r.off + o) }
func (r *region) r16(o int) uint16     { return r.Read16(r.off + o) }
func (r *region) r32(o int) uint32     { return r.Read32(r.off + o) }
func (r *region) w8(o int, v uint8)    { r.Write8(r.off+o, v) }
func (r *region) w16(o int, v uint16)  { r.Write16(r.off+o, v) }
func (r *region) w32(o int, v uint32)  { r.Write32(r.off+o, v) }
func (r *region) w64(o int, v uint64)  { r.w32(o, uint32(v)); r.w32(o+4, uint32(v>>32)) }
func (t *pciTransport) String() string { return t.f.Address.String() }
func (t *pciTransport) Type() uint32   { return t.kind }
func (t *pciTransport) Legacy() bool   { return false }

func (t *pciTransport) Features() uint64 {
	t.common.w32(comFeaturesSel, 0)
	f := uint64(t.common.r32(comFeatures))
	t.common.w32(comFeaturesSel, 1)
	return f | uint64(t.common.r32(comFeatures))<<32
}

func (t *pciTransport) SetFeatures(f uint64) {
	t.common.w32(comDrvFeaturesSel, 0)
	t.common.w32(comDrvFeatures, uint32(f))
	t.common.w32(comDrvFeaturesSel, 1)
	t.common.w32(comDrvFeatures, uint32(f>>32))
}

func (t *pciTransport) Status() uint8     { return t.common.r8(comStatus) }
func (t *pciTransport) SetStatus(s uint8) { t.common.w8(comStatus, s) }

func (t *pciTransport) QueueMax(q int) int {
	if q >= int(t.common.r16(comQueues)) {
		return 0
	}
	t.common.w16(comQueueSel, uint16(q))
	return int(t.common.r16(comQueueSize))
}

func (t *pciTransport) SetQueue(q, size int, desc, avail, used hal.PhysAddr) error {
	c := &t.common
	c.w16(comQueueSel, uint16(q))
	c.w16(comQueueSize, uint16(size))
	if t.msix {
		v := t.vectors[min(q, len(t.vectors)-1)]
		c.w16(comQueueVector, v)
		if c.r16(comQueueVector) != v {
			return errors.New("the device has no room for its interrupt")
		}
	}
	at := uint64(c.r16(comQueueNotify)) * uint64(t.notifyX)
	if at+2 > uint64(t.notify.len) || at%2 != 0 {
		return fmt.Errorf("its notification register lies outside the block (%#x)", at)
	}
	t.notifyAt[q] = int(at)
	c.w64(comQueueDesc, uint64(desc))
	c.w64(comQueueAvail, uint64(avail))
	c.w64(comQueueUsed, uint64(used))
	c.w16(comQueueEnable, 1)
	return nil
}

// Notify writes the queue's number to its register (4.1.5.2). The map is not
// written any more once the queues are set.
func (t *pciTransport) Notify(q int) { t.notify.w16(t.notifyAt[q], uint16(q)) }

func (t *pciTransport) ConfigLen() int { return t.device.len }

// config bounds an access: fields that the device does not have read as zero.
func (t *pciTransport) config(off, n int) bool {
	return t.device.MMIO != nil && off >= 0 && off+n <= t.device.len
}

func (t *pciTransport) Config8(off int) uint8 {
	if !t.config(off, 1) {
		return 0
	}
	return t.device.r8(off)
}

func (t *pciTransport) Config16(off int) uint16 {
	if !t.config(off, 2) {
		return 0
	}
	return t.device.r16(off)
}

func (t *pciTransport) Config32(off int) uint32 {
	if off%4 != 0 && t.config(off, 4) { // network MTU and the like are not aligned to 4
		var b [4]byte
		for i := range b {
			b[i] = t.device.r8(off + i)
		}
		return binary.LittleEndian.Uint32(b[:])
	}
	if !t.config(off, 4) {
		return 0
	}
	return t.device.r32(off)
}

func (t *pciTransport) SetConfig32(off int, v uint32) {
	if t.config(off, 4) {
		t.device.w32(off, v)
	}
}

func (t *pciTransport) Generation() uint32 { return uint32(t.common.r8(comGeneration)) }

// Connect uses a vector for the configuration and one for each function in queues,
// two where the table is short, or the wired interrupt where there is no MSI-X.
func (t *pciTransport) Connect(name string, config func(), queues []func()) error {
	if config == nil {
		config = func() {}
	}
	all := func() {
		for _, f := range queues {
			f()
		}
	}
	n := t.f.MSIXVectors()
	var handlers []func()
	switch {
	case n > len(queues):
		handlers = append([]func(){config}, queues...)
		t.vectors = nil
		for i := range queues {
			t.vectors = append(t.vectors, uint16(i+1))
		}
	case n >= 2:
		handlers, t.vectors = []func(){config, all}, []uint16{1}
	case n == 1:
		handlers, t.vectors = []func(){func() { all(); config() }}, []uint16{0}
	}
	if n > 0 {
		if err := t.f.ConnectMSIX(name, handlers); err == nil {
			t.msix = true
			t.common.w16(comMSIXConfig, 0)
			if t.common.r16(comMSIXConfig) == noVector {
				return fmt.Errorf("%w: %v has no room for its configuration interrupt", ErrDevice, t.f.Address)
			}
			return nil
		} else if !errors.Is(err, pci.ErrNoVectors) && !errors.Is(err, hal.ErrUnsupported) {
			return err
		}
	}
	t.common.w16(comMSIXConfig, noVector)
	return t.f.ConnectINTx(name, func() {
		// Reading the register takes the causes away (4.1.4.5).
		s := t.isr.r8(0)
		if s&1 != 0 {
			all()
		}
		if s&2 != 0 {
			config()
		}
	})
}

// Off takes bus mastering away.
func (t *pciTransport) Off() { t.f.Disable() }
