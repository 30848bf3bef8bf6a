package virtiotest

import "kiln/kernel/hal"

// MMIO puts the device behind virtio-mmio registers at pa, with its interrupt on
// gsi. version is 1 (legacy) or 2.
func (d *Device) MMIO(pa hal.PhysAddr, gsi uint32, version uint32) {
	d.start()
	d.irq = func(int) { d.M.SetGSI(gsi, d.isr != 0) }
	d.M.PlugMMIO(pa, 0x200, &mmio{d, version, gsi})
}

type mmio struct {
	d       *Device
	version uint32
	gsi     uint32
}

func (r *mmio) q() *queue {
	if int(r.d.queueSel) < len(r.d.queues) {
		return &r.d.queues[r.d.queueSel]
	}
	return &queue{}
}

func (r *mmio) Read(off, width int) uint64 {
	d := r.d
	d.mu.Lock()
	defer d.mu.Unlock()
	if off >= 0x100 {
		return d.config(off-0x100, width, false, 0)
	}
	if width != 4 {
		panic("virtiotest: MMIO register read with the wrong width")
	}
	switch off {
	case 0:
		return 0x74726976
	case 4:
		return uint64(r.version)
	case 8:
		return uint64(d.Kind)
	case 0x10:
		if d.featSel == 1 && r.version == 2 {
			return d.Feat >> 32
		} else if d.featSel == 0 {
			return d.Feat & 0xffffffff
		}
	case 0x34:
		if int(d.queueSel) < len(d.queues) {
			return uint64(d.MaxSize)
		}
	case 0x44:
		if r.q().ready {
			return 1
		}
	case 0x60:
		return uint64(d.isr)
	case 0x70:
		return uint64(d.status)
	case 0xfc:
		return uint64(d.gen)
	}
	return 0
}

func (r *mmio) Write(off, width int, v uint64) {
	d := r.d
	if off == 0x50 {
		d.notify(int(v))
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if off >= 0x100 {
		d.config(off-0x100, width, true, v)
		return
	}
	q := r.q()
	half := func(p *uint64, shift int) { *p = *p&^(0xffffffff<<shift) | v<<shift }
	switch off {
	case 0x14:
		d.featSel = uint32(v)
	case 0x20:
		if d.drvSel < 2 && (r.version == 2 || d.drvSel == 0) {
			half(&d.driver, int(32*d.drvSel))
		}
	case 0x24:
		d.drvSel = uint32(v)
	case 0x30:
		d.queueSel = uint32(v)
	case 0x38:
		q.size = uint16(v)
	case 0x40: // legacy: one block of pages (2.7.2)
		if r.version == 1 {
			q.desc = v << 12
			q.avail = q.desc + 16*uint64(q.size)
			q.used = (q.avail + 6 + 2*uint64(q.size) + 4095) &^ 4095
			q.ready = v != 0
		}
	case 0x44:
		q.ready = v == 1 && r.version == 2
	case 0x64:
		d.isr &^= uint32(v)
		d.M.SetGSI(r.gsi, d.isr != 0)
	case 0x70:
		d.setStatus(uint8(v))
	case 0x80, 0x84:
		half(&q.desc, 8*(off-0x80))
	case 0x90, 0x94:
		half(&q.avail, 8*(off-0x90))
	case 0xa0, 0xa4:
		half(&q.used, 8*(off-0xa0))
	}
}
