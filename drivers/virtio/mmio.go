package virtio

import (
	"errors"
	"fmt"

	"kiln/kernel/hal"
)

// MMIO registers (4.2.2); those of the older interface in 4.2.4.
const (
	mmioMagic          = 0x000
	mmioVersion        = 0x004
	mmioDeviceID       = 0x008
	mmioFeatures       = 0x010
	mmioFeaturesSel    = 0x014
	mmioDrvFeatures    = 0x020
	mmioDrvFeaturesSel = 0x024
	mmioPageSize       = 0x028 // legacy
	mmioQueueSel       = 0x030
	mmioQueueMax       = 0x034
	mmioQueueNum       = 0x038
	mmioQueueAlign     = 0x03c // legacy
	mmioQueuePFN       = 0x040 // legacy
	mmioQueueReady     = 0x044
	mmioNotify         = 0x050
	mmioIntStatus      = 0x060
	mmioIntAck         = 0x064
	mmioStatus         = 0x070
	mmioDesc           = 0x080
	mmioAvail          = 0x090
	mmioUsed           = 0x0a0
	mmioGeneration     = 0x0fc
	mmioConfig         = 0x100

	mmioMagicValue = 0x74726976 // "virt"
)

// ErrNoDevice says that a window of virtio-mmio registers has no device behind it.
var ErrNoDevice = errors.New("virtio: no device")

// mmioTransport is virtio over MMIO, version 1 (before virtio 1.0) or 2.
type mmioTransport struct {
	m      hal.Machine
	w      hal.MMIO
	pa     hal.PhysAddr
	gsi    uint32
	flags  hal.GSIFlags
	legacy bool
	kind   uint32
	irq    hal.IRQ
}

// OpenMMIO looks at a window of length bytes at pa. ErrNoDevice if it is a
// placeholder, as most of microvm's are.
func OpenMMIO(m hal.Machine, pa hal.PhysAddr, length int, gsi uint32, flags hal.GSIFlags) (Transport, error) {
	if length < mmioConfig || length > 1<<20 {
		return nil, fmt.Errorf("%w: window of %d bytes at %#x", ErrNoDevice, length, pa)
	}
	w, err := m.MapMMIO(pa, length)
	if err != nil {
		return nil, err
	}
	if w.Read32(mmioMagic) != mmioMagicValue {
		return nil, ErrNoDevice
	}
	t := &mmioTransport{m: m, w: w, pa: pa, gsi: gsi, flags: flags}
	switch v := w.Read32(mmioVersion); v {
	case 1:
		t.legacy = true
	case 2:
	default:
		return nil, fmt.Errorf("%w: version %d at %#x", ErrNoDevice, v, pa)
	}
	if t.kind = w.Read32(mmioDeviceID); t.kind == 0 {
		return nil, ErrNoDevice
	}
	return t, nil
}

func (t *mmioTransport) String() string { return fmt.Sprintf("mmio@%x", uint64(t.pa)) }
func (t *mmioTransport) Type() uint32   { return t.kind }
func (t *mmioTransport) Legacy() bool   { return t.legacy }

func (t *mmioTransport) Features() uint64 {
	t.w.Write32(mmioFeaturesSel, 0)
	f := uint64(t.w.Read32(mmioFeatures))
	t.w.Write32(mmioFeaturesSel, 1)
	return f | uint64(t.w.Read32(mmioFeatures))<<32
}

func (t *mmioTransport) SetFeatures(f uint64) {
	t.w.Write32(mmioDrvFeaturesSel, 0)
	t.w.Write32(mmioDrvFeatures, uint32(f))
	t.w.Write32(mmioDrvFeaturesSel, 1)
	t.w.Write32(mmioDrvFeatures, uint32(f>>32))
	if t.legacy {
		t.w.Write32(mmioPageSize, hal.PageSize)
	}
}

func (t *mmioTransport) Status() uint8     { return uint8(t.w.Read32(mmioStatus)) }
func (t *mmioTransport) SetStatus(s uint8) { t.w.Write32(mmioStatus, uint32(s)) }

func (t *mmioTransport) QueueMax(q int) int {
	t.w.Write32(mmioQueueSel, uint32(q))
	return int(min(t.w.Read32(mmioQueueMax), 1<<15))
}

func (t *mmioTransport) SetQueue(q, size int, desc, avail, used hal.PhysAddr) error {
	t.w.Write32(mmioQueueSel, uint32(q))
	t.w.Write32(mmioQueueNum, uint32(size))
	if t.legacy {
		if desc>>hal.PageShift > 1<<32-1 {
			return errors.New("rings above 16 TiB")
		}
		t.w.Write32(mmioQueueAlign, hal.PageSize)
		t.w.Write32(mmioQueuePFN, uint32(desc>>hal.PageShift))
		return nil
	}
	for off, a := range map[int]hal.PhysAddr{mmioDesc: desc, mmioAvail: avail, mmioUsed: used} {
		t.w.Write32(off, uint32(a))
		t.w.Write32(off+4, uint32(a>>32))
	}
	t.w.Write32(mmioQueueReady, 1)
	if t.w.Read32(mmioQueueReady) != 1 {
		return errors.New("the device did not take it")
	}
	return nil
}

func (t *mmioTransport) Notify(q int) { t.w.Write32(mmioNotify, uint32(q)) }

func (t *mmioTransport) ConfigLen() int                { return t.w.Len() - mmioConfig }
func (t *mmioTransport) Config8(off int) uint8         { return t.w.Read8(mmioConfig + off) }
func (t *mmioTransport) Config16(off int) uint16       { return t.w.Read16(mmioConfig + off) }
func (t *mmioTransport) Config32(off int) uint32       { return t.w.Read32(mmioConfig + off) }
func (t *mmioTransport) SetConfig32(off int, v uint32) { t.w.Write32(mmioConfig+off, v) }

func (t *mmioTransport) Generation() uint32 {
	if t.legacy {
		return 0
	}
	return t.w.Read32(mmioGeneration)
}

// Connect connects the one interrupt. Its handler takes the causes away before it
// returns, since the line stays up until then.
func (t *mmioTransport) Connect(name string, config func(), queues []func()) error {
	irq, err := t.m.ConnectGSI(name, t.gsi, t.flags, func() {
		s := t.w.Read32(mmioIntStatus)
		if s == 0 {
			return
		}
		t.w.Write32(mmioIntAck, s)
		if s&1 != 0 {
			for _, f := range queues {
				f()
			}
		}
		if s&2 != 0 && config != nil {
			config()
		}
	})
	t.irq = irq
	return err
}

// Off leaves the interrupt masked; the bus has no switch of its own, so the reset
// that goes before is what ends the device's accesses.
func (t *mmioTransport) Off() {
	if t.irq != nil {
		t.irq.Mask()
	}
}
