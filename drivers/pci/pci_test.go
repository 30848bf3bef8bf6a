package pci_test

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"kiln/drivers/acpi"
	"kiln/drivers/acpi/aml"
	"kiln/drivers/pci"
	"kiln/drivers/virtio/virtiotest"
	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
)

func scan(t *testing.T, m *fake.Machine, tables *acpi.Tables) []*pci.Function {
	b := pci.New(m, tables)
	if b == nil {
		t.Fatal("no PCI found")
	}
	return b.Scan()
}

func TestScanFollowsBridgesAndFunctions(t *testing.T) {
	m := fake.New(1)
	h := virtiotest.NewHost(m)
	h.Add(0, 0, 0, 0x8086, 0x1237, 0x060000)
	multi := h.Add(0, 1, 0, 0x8086, 0x7000, 0x060100)
	multi.Config[0x0e] = 0x80
	h.Add(0, 1, 3, 0x8086, 0x7113, 0x068000)
	h.Add(0, 2, 0, 0x8086, 0x100e, 0x020000)
	h.Add(0, 2, 1, 0xdead, 0xbeef, 0x020000) // not there: function 0 is alone
	br := h.Add(0, 30, 0, 0x1b36, 0x000c, 0x060400)
	br.Config[0x0e], br.Config[0x19] = 1, 7
	h.Add(7, 0, 0, 0x1af4, 0x1041, 0x020000)
	loop := h.Add(7, 1, 0, 0x1b36, 0x000c, 0x060400) // leads back to its own bus
	loop.Config[0x0e], loop.Config[0x19] = 1, 7
	var got []string
	for _, f := range scan(t, m, nil) {
		got = append(got, f.Address.String())
	}
	if s := strings.Join(got, " "); s != "00:00.0 00:01.0 00:01.3 00:02.0 00:1e.0 07:00.0 07:01.0" {
		t.Error(s)
	}
}

func TestNoHostBridgeIsNoPCI(t *testing.T) {
	if pci.New(fake.New(1), nil) != nil {
		t.Error("PCI found where ports read all ones")
	}
}

func TestBARsAreSizedAndTheCommandRegisterKept(t *testing.T) {
	m := fake.New(1)
	f := virtiotest.NewHost(m).Add(0, 3, 0, 0x1af4, 0x1041, 0x020000)
	f.SetBAR(0, 32, 0xc040, 1)
	f.SetBAR(1, 4096, 0xfebd1000, 0)
	f.SetBAR(4, 16384, 0x38_fe000000, 4)
	f.Config[4] = 7
	fn := scan(t, m, nil)[0]
	for i, want := range map[int]pci.BAR{
		0: {IO: true, Base: 0xc040, Size: 32},
		1: {Base: 0xfebd1000, Size: 4096},
		4: {Base: 0x38_fe000000, Size: 16384, Wide: true},
	} {
		if b, err := fn.BAR(i); err != nil || *b != want {
			t.Errorf("BAR %d: %+v, %v", i, b, err)
		}
		if f.BAR(i)&^3 != want.Base {
			t.Errorf("BAR %d was left at %#x", i, f.BAR(i))
		}
	}
	if _, err := fn.BAR(2); err == nil {
		t.Error("BAR 2 does not exist")
	}
	if f.Config[4] != 7 {
		t.Errorf("command register %#x", f.Config[4])
	}
}

// windowTables declares a host bridge with one memory window.
func windowTables(base, length uint32) *acpi.Tables {
	b := make([]byte, 23) // DWord address space descriptor (ACPI 6.4.3.5.2)
	binary.LittleEndian.PutUint32(b[7:], base)
	binary.LittleEndian.PutUint32(b[11:], base+length-1)
	binary.LittleEndian.PutUint32(b[19:], length)
	crs := append([]byte{0x87, 23, 0}, b...)
	d := &aml.Device{Path: `\_SB.PCI0`, Names: map[string]any{"_HID": "PNP0A03", "_CRS": crs}}
	return &acpi.Tables{Names: &aml.Namespace{All: []*aml.Device{d}}}
}

func TestAnUnplacedBARIsPutIntoTheWindowApartFromOthers(t *testing.T) {
	m := fake.New(1)
	h := virtiotest.NewHost(m)
	a := h.Add(0, 1, 0, 0x1234, 1, 0x030000)
	a.SetBAR(0, 0x10000, 0xe0000000, 0)
	b := h.Add(0, 2, 0, 0x1af4, 0x1041, 0x020000)
	b.SetBAR(4, 0x4000, 0, 4)
	c := h.Add(0, 3, 0, 0x1af4, 0x1042, 0x010000)
	c.SetBAR(1, 0x1000, 0, 0)
	c.SetBAR(2, 0x1000000, 0, 0) // larger than the window
	fs := scan(t, m, windowTables(0xe0000000, 0x100000))
	if bar, err := fs[1].BAR(4); err != nil || bar.Base != 0xe0010000 || b.BAR(4) != bar.Base {
		t.Errorf("%+v, %v, register %#x", bar, err, b.BAR(4))
	}
	if bar, err := fs[2].BAR(1); err != nil || bar.Base != 0xe0014000 {
		t.Errorf("%+v, %v", bar, err)
	}
	if _, err := fs[2].BAR(2); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Error(err)
	}
}

// stiller counts the writes for which other CPUs stand still.
type stiller struct {
	*fake.Machine
	writes []uint32
}

func (s *stiller) OutStill(port uint16, width int, v uint32) {
	s.writes = append(s.writes, v)
	if width == 2 {
		s.Out16(port, uint16(v))
	} else {
		s.Out32(port, v)
	}
}

func (s *stiller) WriteStill(w hal.MMIO, off, width int, v uint32) { panic("no such window") }

// Nobody touches a device while another's registers move.
func TestOtherCPUsStandStillWhileRegisterBlocksMove(t *testing.T) {
	m := &stiller{Machine: fake.New(1)}
	h := virtiotest.NewHost(m.Machine)
	a := h.Add(0, 1, 0, 0x1af4, 0x1041, 0x020000)
	a.SetBAR(4, 0x4000, 0xe0000000, 4)
	a.Config[4] = 7
	b := h.Add(0, 2, 0, 0x1af4, 0x1042, 0x010000)
	b.SetBAR(4, 0x4000, 0, 4)
	fs := pci.New(m, windowTables(0xe0000000, 0x100000)).Scan()
	// Decoders off and on, to see how large it is; and on, which they are.
	if bar, err := fs[0].BAR(4); err != nil || bar.Size != 0x4000 || !slices.Equal(m.writes, []uint32{4, 7}) {
		t.Errorf("%+v, %v: %#x", bar, err, m.writes)
	}
	fs[0].Enable()
	if len(m.writes) != 2 {
		t.Errorf("%#x", m.writes)
	}
	// They are off: it gets its address, both halves, and they are switched on.
	if bar, err := fs[1].BAR(4); err != nil || bar.Base != 0xe0004000 || b.BAR(4) != bar.Base {
		t.Errorf("%+v, %v", bar, err)
	}
	if fs[1].Enable(); !slices.Equal(m.writes[len(m.writes)-3:], []uint32{0xe0004000, 0, 7}) || b.Config[4] != 7 {
		t.Errorf("%#x", m.writes)
	}
}

func TestLoopingCapabilitiesEnd(t *testing.T) {
	m := fake.New(1)
	f := virtiotest.NewHost(m).Add(0, 3, 0, 0x1af4, 0x1041, 0x020000)
	at := f.AddCap(9, 1, 2, 3)
	f.Config[at+1] = byte(at)
	if n := len(scan(t, m, nil)[0].Caps()); n > 48 {
		t.Errorf("%d capabilities", n)
	}
}

func TestSharedWiredInterruptsReachEverybody(t *testing.T) {
	m := fake.New(1)
	h := virtiotest.NewHost(m)
	var hits [2]int
	for i := range hits {
		f := h.Add(0, uint8(1+i), 0, 0x1af4, 0x1041, 0x020000)
		f.Config[0x3c], f.Config[0x3d] = 11, 1
	}
	for i, f := range scan(t, m, nil) {
		if err := f.ConnectINTx("x", func() { hits[i]++; m.SetGSI(11, false) }); err != nil {
			t.Fatal(err)
		}
	}
	m.SetGSI(11, true)
	m.Dispatch()
	if hits != [2]int{1, 1} {
		t.Error(hits)
	}
}

func TestDevicesThatNobodyDrivesAreNamed(t *testing.T) {
	m := fake.New(1)
	h := virtiotest.NewHost(m)
	h.Add(0, 3, 0, 0x8086, 0x100e, 0x020000)
	h.Add(0, 4, 0, 0x1b36, 0x0010, 0x010802)
	h.Add(0, 5, 0, 0x8086, 0x7010, 0x010180)
	want := []string{
		"an Intel e1000 network card at 00:03.0 is not supported; use virtio-net",
		"an NVMe disk (1b36:0010) at 00:04.0 is not supported; use virtio-blk",
		"an IDE controller (8086:7010) at 00:05.0 is not supported; use virtio-blk",
	}
	for i, f := range scan(t, m, nil) {
		if s, important := f.Describe(); s != want[i] || important != (i < 2) {
			t.Errorf("%q, %v", s, important)
		}
	}
}
