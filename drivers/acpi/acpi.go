// Package acpi finds what the firmware's tables say about the machine: processors,
// interrupt controllers and their wiring, PCI configuration space, timers, the
// declared devices (through drivers/acpi/aml) and the write that turns it off.
//
//	t, err := acpi.Find(m)
//	if w, ok := t.PowerOff(m); ok {
//		m.SetPowerOff(w)
//	}
//
// Tables come from firmware and are read with every length checked; a table with a
// wrong checksum or a length beyond memory is left out. Section numbers are those
// of the ACPI specification 6.4.
package acpi

import (
	"encoding/binary"
	"errors"

	"kiln/drivers/acpi/aml"
	"kiln/kernel/hal"
)

// ErrNoTables says that the machine has no ACPI.
var ErrNoTables = errors.New("acpi: no tables (RSDP not found)")

// Limits: a machine has a handful of tables, none of them large.
const (
	maxTables = 256
	maxTable  = 4 << 20
)

// CPU is an enabled processor.
type CPU struct {
	APICID uint32
	UID    uint32
}

// IOAPIC is an interrupt controller; its inputs are GSIBase, GSIBase+1, …
type IOAPIC struct {
	ID      uint8
	Addr    hal.PhysAddr
	GSIBase uint32
}

// Override says where an ISA interrupt is really connected.
type Override struct {
	IRQ   uint8
	GSI   uint32
	Flags hal.GSIFlags
}

// ECAM is a window of PCI configuration space: 1 MiB a bus from StartBus.
type ECAM struct {
	Base             hal.PhysAddr
	Segment          uint16
	StartBus, EndBus uint8
}

// GAS is a generic address (5.2.3.2).
type GAS struct {
	IO    bool
	Addr  uint64
	Width int // bytes
}

// FADT is the part of the fixed description table that Kiln uses (5.2.9).
type FADT struct {
	Flags              uint32
	SCI                uint16
	SMICmd             uint16
	ACPIEnable         uint8
	PM1aControl        GAS
	PM1bControl        GAS
	PMTimer            GAS
	PMTimer32          bool
	Reset              GAS
	ResetValue         uint8
	SleepControl       GAS
	HardwareReduced    bool
	Has8042, HasLegacy bool
}

// Tables is everything that was found.
type Tables struct {
	CPUs      []CPU
	LAPIC     hal.PhysAddr
	IOAPICs   []IOAPIC
	Overrides []Override
	MCFG      []ECAM
	HPET      hal.PhysAddr // 0 if none
	FADT      *FADT        // nil if none
	// Serial is the console port of the SPCR table, zero if none.
	Serial GAS
	// Names is never nil.
	Names *aml.Namespace
	// Signatures lists the tables in the order of the root table.
	Signatures []string

	seen map[hal.PhysAddr]bool
	ssdt [][]byte
}

// Find reads the tables from the boot information's root pointer, or from the one
// that a search of the BIOS areas finds.
func Find(m hal.Machine) (*Tables, error) {
	rsdp := m.Boot().RSDP
	root, wide, ok := hal.PhysAddr(0), false, false
	if rsdp != 0 {
		root, wide, ok = rootTable(m, rsdp)
	}
	if !ok {
		root, wide, ok = search(m)
	}
	if !ok {
		return nil, ErrNoTables
	}
	t := &Tables{seen: map[hal.PhysAddr]bool{}}
	t.root(m, root, wide)
	t.Names = aml.Parse(t.ssdt...)
	t.ssdt = nil
	return t, nil
}

// rootTable checks the RSDP at pa (5.2.5.3) and gives the address of the XSDT
// (wide) or RSDT.
func rootTable(m hal.Machine, pa hal.PhysAddr) (hal.PhysAddr, bool, bool) {
	b, err := m.Phys(pa, 20)
	if err != nil || string(b[:8]) != "RSD PTR " || sum(b) != 0 {
		return 0, false, false
	}
	rsdt := hal.PhysAddr(binary.LittleEndian.Uint32(b[16:]))
	if b[15] >= 2 {
		if e, err := m.Phys(pa, 36); err == nil && sum(e) == 0 {
			if x := hal.PhysAddr(binary.LittleEndian.Uint64(e[24:])); x != 0 {
				return x, true, true
			}
		}
	}
	return rsdt, false, rsdt != 0
}

// search looks where a PC keeps the RSDP (5.2.5.1): the first KiB of the extended
// BIOS data area and the BIOS read-only memory, on 16-byte boundaries.
func search(m hal.Machine) (hal.PhysAddr, bool, bool) {
	areas := [][2]hal.PhysAddr{{0xe0000, 0x20000}}
	if b, err := m.Phys(0x40e, 2); err == nil {
		if ebda := hal.PhysAddr(binary.LittleEndian.Uint16(b)) << 4; ebda >= 0x400 {
			areas = append(areas, [2]hal.PhysAddr{ebda, 1024})
		}
	}
	for _, a := range areas {
		for pa := a[0]; pa < a[0]+a[1]; pa += 16 {
			b, err := m.Phys(pa, 8)
			if err != nil || string(b) != "RSD PTR " {
				continue
			}
			if root, wide, ok := rootTable(m, pa); ok {
				return root, wide, ok
			}
		}
	}
	return 0, false, false
}

func sum(b []byte) (s byte) {
	for _, c := range b {
		s += c
	}
	return s
}

// table returns a whole table, nil if it is not one or was read before.
func (t *Tables) table(m hal.Machine, pa hal.PhysAddr) []byte {
	if pa == 0 || t.seen[pa] {
		return nil
	}
	t.seen[pa] = true
	h, err := m.Phys(pa, 36)
	if err != nil {
		return nil
	}
	n := binary.LittleEndian.Uint32(h[4:])
	if n < 36 || n > maxTable {
		return nil
	}
	b, err := m.Phys(pa, int(n))
	if err != nil || sum(b) != 0 {
		return nil
	}
	return b
}

func (t *Tables) root(m hal.Machine, pa hal.PhysAddr, wide bool) {
	b := t.table(m, pa)
	if b == nil {
		return
	}
	size := 4
	if wide {
		size = 8
	}
	n := 0
	for e := b[36:]; len(e) >= size && n < maxTables; e = e[size:] {
		n++
		a := hal.PhysAddr(binary.LittleEndian.Uint32(e))
		if wide {
			a = hal.PhysAddr(binary.LittleEndian.Uint64(e))
		}
		if c := t.table(m, a); c != nil {
			t.Signatures = append(t.Signatures, string(c[:4]))
			t.read(m, c)
		}
	}
}

func (t *Tables) read(m hal.Machine, b []byte) {
	switch string(b[:4]) {
	case "FACP":
		t.fadt(m, b)
	case "APIC":
		t.madt(b)
	case "MCFG":
		t.mcfg(b)
	case "HPET":
		if len(b) >= 56 && b[40] == 0 {
			t.HPET = hal.PhysAddr(binary.LittleEndian.Uint64(b[44:]))
		}
	case "SPCR":
		if len(b) >= 52 {
			t.Serial = gas(b, 40)
		}
	case "SSDT":
		t.ssdt = append(t.ssdt, b)
	}
}

// gas reads the generic address at off; zero if the table is too short or the
// address space is neither memory nor I/O.
func gas(b []byte, off int) GAS {
	if len(b) < off+12 || b[off] > 1 {
		return GAS{}
	}
	g := GAS{IO: b[off] == 1, Addr: binary.LittleEndian.Uint64(b[off+4:]), Width: int(b[off+1]) / 8}
	if s := b[off+3]; s >= 1 && s <= 4 {
		g.Width = 1 << (s - 1) // access size, where given, is the width to use
	}
	return g
}

func (t *Tables) fadt(m hal.Machine, b []byte) {
	le := binary.LittleEndian
	if len(b) < 116 || t.FADT != nil {
		return
	}
	f := &FADT{
		Flags: le.Uint32(b[112:]), SCI: le.Uint16(b[46:]),
		SMICmd: uint16(le.Uint32(b[48:])), ACPIEnable: b[52],
		PM1aControl: GAS{true, uint64(le.Uint32(b[64:])), 2},
		PM1bControl: GAS{true, uint64(le.Uint32(b[68:])), 2},
		PMTimer:     GAS{true, uint64(le.Uint32(b[76:])), 4},
	}
	f.PMTimer32 = f.Flags>>8&1 != 0
	f.HardwareReduced = f.Flags>>20&1 != 0
	// IA-PC boot architecture flags (5.2.9.3); revision 1 lacks them and has all.
	arch := le.Uint16(b[109:])
	f.HasLegacy, f.Has8042 = arch&1 != 0 || b[8] < 2, arch&2 != 0 || b[8] < 2
	// The extended addresses win where they are given.
	for off, g := range map[int]*GAS{172: &f.PM1aControl, 184: &f.PM1bControl, 208: &f.PMTimer} {
		if x := gas(b, off); x.Addr != 0 {
			g.IO, g.Addr = x.IO, x.Addr
		}
	}
	if f.Flags>>10&1 != 0 && len(b) > 128 {
		f.Reset, f.ResetValue = gas(b, 116), b[128]
	}
	f.SleepControl = gas(b, 244)
	t.FADT = f
	dsdt := hal.PhysAddr(le.Uint32(b[40:]))
	if len(b) >= 148 {
		if x := hal.PhysAddr(le.Uint64(b[140:])); x != 0 {
			dsdt = x
		}
	}
	if d := t.table(m, dsdt); d != nil && string(d[:4]) == "DSDT" {
		t.ssdt = append([][]byte{d}, t.ssdt...)
	}
}

// madt reads the interrupt controllers (5.2.12).
func (t *Tables) madt(b []byte) {
	le := binary.LittleEndian
	if len(b) < 44 {
		return
	}
	t.LAPIC = hal.PhysAddr(le.Uint32(b[36:]))
	for e := b[44:]; len(e) >= 2 && int(e[1]) >= 2 && int(e[1]) <= len(e); e = e[e[1]:] {
		switch r := e[:e[1]]; {
		case r[0] == 0 && len(r) >= 8: // local APIC
			if le.Uint32(r[4:])&1 != 0 {
				t.CPUs = append(t.CPUs, CPU{APICID: uint32(r[3]), UID: uint32(r[2])})
			}
		case r[0] == 9 && len(r) >= 16: // local x2APIC
			if le.Uint32(r[8:])&1 != 0 {
				t.CPUs = append(t.CPUs, CPU{APICID: le.Uint32(r[4:]), UID: le.Uint32(r[12:])})
			}
		case r[0] == 1 && len(r) >= 12:
			t.IOAPICs = append(t.IOAPICs, IOAPIC{r[2], hal.PhysAddr(le.Uint32(r[4:])), le.Uint32(r[8:])})
		case r[0] == 2 && len(r) >= 10:
			t.Overrides = append(t.Overrides, Override{r[3], le.Uint32(r[4:]), inti(le.Uint16(r[8:]))})
		case r[0] == 5 && len(r) >= 12:
			t.LAPIC = hal.PhysAddr(le.Uint64(r[4:]))
		}
	}
}

// inti turns MPS INTI flags (table 5.50) into ours; ISA's default is edge, high.
func inti(v uint16) (f hal.GSIFlags) {
	if v&3 == 3 {
		f |= hal.GSIActiveLow
	}
	if v>>2&3 == 3 {
		f |= hal.GSILevel
	}
	return f
}

func (t *Tables) mcfg(b []byte) {
	le := binary.LittleEndian
	if len(b) < 44 {
		return
	}
	for e := b[44:]; len(e) >= 16; e = e[16:] {
		w := ECAM{hal.PhysAddr(le.Uint64(e)), le.Uint16(e[8:]), e[10], e[11]}
		if w.Base != 0 && w.EndBus >= w.StartBus {
			t.MCFG = append(t.MCFG, w)
		}
	}
}

// ISA gives the global system interrupt of an ISA interrupt.
func (t *Tables) ISA(irq uint8) (gsi uint32, flags hal.GSIFlags) {
	if t != nil {
		for _, o := range t.Overrides {
			if o.IRQ == irq {
				return o.GSI, o.Flags
			}
		}
	}
	return uint32(irq), 0
}

// PM1 control bits (4.8.3.2.1) and sleep control bits (4.8.3.7).
const (
	sciEnable     = 1 << 0
	pm1SleepShift = 10
	pm1SleepGo    = 1 << 13
	slpTypeShift  = 2
	slpEnable     = 1 << 5
)

// PowerOff is the write that enters S5. It switches the machine to ACPI mode if
// the firmware left it in legacy mode, since the sleep registers need not work
// before (4.8.2.5).
func (t *Tables) PowerOff(m hal.Machine) (hal.PowerWrite, bool) {
	f := t.FADT
	if f == nil {
		return hal.PowerWrite{}, false
	}
	typ, ok := t.sleepType()
	if !ok {
		return hal.PowerWrite{}, false
	}
	if f.HardwareReduced || f.PM1aControl.Addr == 0 {
		g := f.SleepControl
		if g.Addr == 0 {
			return hal.PowerWrite{}, false
		}
		return hal.PowerWrite{Port: g.IO, Addr: g.Addr, Width: 1, Value: typ<<slpTypeShift | slpEnable}, true
	}
	g := f.PM1aControl
	w := hal.PowerWrite{Port: g.IO, Addr: g.Addr, Width: 2, Value: typ<<pm1SleepShift | pm1SleepGo}
	if g.IO && g.Addr < 0xffff {
		w.Value |= uint32(t.enable(m) & sciEnable)
	}
	return w, true
}

// Reset is the write that resets the machine (4.8.3.6). The register is one byte wide,
// whatever its address says.
func (t *Tables) Reset() (hal.PowerWrite, bool) {
	if t.FADT == nil || t.FADT.Reset.Addr == 0 {
		return hal.PowerWrite{}, false
	}
	g := t.FADT.Reset
	return hal.PowerWrite{Port: g.IO, Addr: g.Addr, Width: 1, Value: uint32(t.FADT.ResetValue)}, true
}

// enable asks the firmware for ACPI mode and returns PM1a control.
func (t *Tables) enable(m hal.Machine) uint16 {
	f := t.FADT
	port := uint16(f.PM1aControl.Addr)
	v := m.In16(port)
	if v&sciEnable != 0 || f.SMICmd == 0 || f.ACPIEnable == 0 {
		return v
	}
	m.Out8(f.SMICmd, f.ACPIEnable)
	// The firmware answers within its SMI handler, before the next
	// instruction; a few reads cover one that does not.
	for i := 0; i < 1000; i++ {
		if v = m.In16(port); v&sciEnable != 0 {
			break
		}
	}
	return v
}

// sleepType is the first element of \_S5 (7.4.2).
func (t *Tables) sleepType() (uint32, bool) {
	v, _ := t.Names.Lookup(`\_S5`)
	p, _ := v.([]any)
	if len(p) == 0 {
		return 0, false
	}
	n, ok := p[0].(uint64)
	return uint32(n & 7), ok
}
