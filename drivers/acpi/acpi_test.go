package acpi

import (
	"encoding/binary"
	"os"
	"slices"
	"testing"

	"kiln/drivers/acpi/aml"
	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
)

// load places the tables of a QEMU 7.2 machine where its firmware had put them.
// A fixture is records of address (8 bytes), length (4) and the table's bytes; the
// first is the RSDP.
func load(t testing.TB, name string, giveRSDP bool) *fake.Machine {
	b, err := os.ReadFile("testdata/" + name + ".acpi")
	if err != nil {
		t.Fatal(err)
	}
	m := fake.New(1)
	place(m, b, giveRSDP)
	return m
}

func place(m *fake.Machine, b []byte, giveRSDP bool) {
	first := true
	for len(b) > 0 {
		pa := hal.PhysAddr(binary.LittleEndian.Uint64(b))
		n := binary.LittleEndian.Uint32(b[8:])
		m.PutPhys(pa, b[12:12+n:12+n])
		if first && giveRSDP {
			m.BootInfo.RSDP = pa
		}
		b, first = b[12+n:], false
	}
}

func TestTablesOfQEMUMachines(t *testing.T) {
	for _, c := range []struct {
		name      string
		giveRSDP  bool
		ioapics   int
		mcfg      hal.PhysAddr
		hpet      hal.PhysAddr
		overrides []uint8
		power     hal.PowerWrite
		reset     hal.PowerWrite
	}{
		{"pc", false, 1, 0, 0xfed00000, []uint8{0, 5, 9, 10, 11}, hal.PowerWrite{Port: true, Addr: 0x604, Width: 2, Value: 0x2001}, hal.PowerWrite{}}, // its FADT has none
		{"q35", true, 1, 0xb0000000, 0xfed00000, []uint8{0, 5, 9, 10, 11}, hal.PowerWrite{Port: true, Addr: 0x604, Width: 2, Value: 0x2001}, hal.PowerWrite{Port: true, Addr: 0xcf9, Width: 1, Value: 0xf}},
		{"microvm", true, 2, 0, 0, nil, hal.PowerWrite{Addr: 0xfea00200, Width: 1, Value: 5<<2 | 1<<5}, hal.PowerWrite{Addr: 0xfea00202, Width: 1, Value: 0x42}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := load(t, c.name, c.giveRSDP)
			m.PlugPorts(0x604, 2, &enabled{})
			a, err := Find(m)
			if err != nil {
				t.Fatal(err)
			}
			if len(a.CPUs) != 1 || a.LAPIC != 0xfee00000 || len(a.IOAPICs) != c.ioapics {
				t.Errorf("CPUs %v, LAPIC %#x, IOAPICs %v", a.CPUs, a.LAPIC, a.IOAPICs)
			}
			if c.mcfg != 0 && (len(a.MCFG) != 1 || a.MCFG[0] != ECAM{c.mcfg, 0, 0, 255}) {
				t.Errorf("MCFG %+v", a.MCFG)
			}
			if a.HPET != c.hpet {
				t.Errorf("HPET %#x", a.HPET)
			}
			var irqs []uint8
			for _, o := range a.Overrides {
				irqs = append(irqs, o.IRQ)
			}
			if !slices.Equal(irqs, c.overrides) {
				t.Errorf("overrides of %v", irqs)
			}
			if w, ok := a.PowerOff(m); !ok || w != c.power {
				t.Errorf("power-off %+v, %v", w, ok)
			}
			if w, ok := a.Reset(); ok != (c.reset != hal.PowerWrite{}) || w != c.reset {
				t.Errorf("reset %+v, %v", w, ok)
			}
		})
	}
}

// enabled is PM1a control in ACPI mode.
type enabled struct{}

func (*enabled) Read(off, width int) uint64     { return 1 }
func (*enabled) Write(off, width int, v uint64) {}

func TestPCInterruptsFollowTheOverrides(t *testing.T) {
	a, err := Find(load(t, "pc", true))
	if err != nil {
		t.Fatal(err)
	}
	if gsi, f := a.ISA(0); gsi != 2 || f != 0 {
		t.Errorf("timer: GSI %d, %b", gsi, f)
	}
	if gsi, f := a.ISA(11); gsi != 11 || f != hal.GSILevel {
		t.Errorf("IRQ 11: GSI %d, %b", gsi, f)
	}
	if gsi, f := a.ISA(4); gsi != 4 || f != 0 {
		t.Errorf("serial: GSI %d, %b", gsi, f)
	}
}

func TestMicrovmDeclaresItsVirtioDevices(t *testing.T) {
	a, err := Find(load(t, "microvm", true))
	if err != nil {
		t.Fatal(err)
	}
	var at []uint64
	var gsi []uint32
	for _, d := range a.Names.Devices("LNRO0005") {
		for _, r := range d.Resources() {
			switch r.Kind {
			case aml.Memory:
				at = append(at, r.Base)
			case aml.Interrupt:
				gsi = append(gsi, r.GSIs...)
				if !r.Level || r.ActiveLow {
					t.Errorf("%s: %+v", d.Path, r)
				}
			}
		}
	}
	if !slices.Equal(at, []uint64{0xfeb02e00, 0xfeb02c00, 0xfeb02a00}) || !slices.Equal(gsi, []uint32{47, 46, 45}) {
		t.Errorf("windows %#x, interrupts %d", at, gsi)
	}
}

func TestDevicesOfPCsAreFoundByEISAID(t *testing.T) {
	for _, name := range []string{"pc", "q35"} {
		a, err := Find(load(t, name, true))
		if err != nil {
			t.Fatal(err)
		}
		if rtc := a.Names.Devices("PNP0B00"); len(rtc) != 1 || rtc[0].Resources()[0].Base != 0x70 {
			t.Errorf("%s: RTC %v", name, rtc)
		}
		// The host bridge's windows follow a dozen methods, fields and
		// regions: they are all stepped over without losing the place.
		var bridge []aml.Resource
		for _, id := range []string{"PNP0A03", "PNP0A08"} {
			for _, d := range a.Names.Devices(id) {
				bridge = append(bridge, d.Resources()...)
			}
		}
		if !slices.ContainsFunc(bridge, func(r aml.Resource) bool { return r.Kind == aml.Memory && r.Base > 1<<20 }) {
			t.Errorf("%s: host bridge %+v", name, bridge)
		}
	}
}

func TestBrokenTablesAreLeftOut(t *testing.T) {
	if _, err := Find(fake.New(1)); err != ErrNoTables {
		t.Fatal(err)
	}
	whole, err := Find(load(t, "q35", true))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("testdata/q35.acpi")
	if err != nil {
		t.Fatal(err)
	}
	// One wrong byte in any table behind the root: that table, or for the
	// FADT also the DSDT behind it, is missing and nothing else.
	rsdp := 12 + int(binary.LittleEndian.Uint32(b[8:]))
	rsdt := rsdp + 12 + int(binary.LittleEndian.Uint32(b[rsdp+8:]))
	for at := rsdt; at < len(b); {
		n := int(binary.LittleEndian.Uint32(b[at+8:]))
		sig := string(b[at+12 : at+16])
		c := slices.Clone(b)
		c[at+12+n/2] ^= 0x55
		m := fake.New(1)
		place(m, c, true)
		a, err := Find(m)
		if err != nil {
			t.Fatal(sig, err)
		}
		want := slices.DeleteFunc(slices.Clone(whole.Signatures), func(s string) bool { return s == sig })
		if !slices.Equal(a.Signatures, want) {
			t.Errorf("%s broken: %v", sig, a.Signatures)
		}
		if _, ok := a.Names.Lookup(`\_S5`); ok == (sig == "FACP" || sig == "DSDT") {
			t.Errorf("%s broken: _S5 found %v", sig, ok)
		}
		at += 12 + n
	}
}
