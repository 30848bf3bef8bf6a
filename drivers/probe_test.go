package drivers

import (
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"kiln/drivers/virtio/virtiotest"
	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
	"kiln/kernel/timer"
)

func disk(m *fake.Machine, serial string) *virtiotest.Device {
	cfg := make([]byte, 64)
	cfg[0] = 8
	return &virtiotest.Device{M: m, Kind: 2, Feat: virtiotest.Version1, Config: cfg, Queues: 1,
		Handle: func(_ int, c *virtiotest.Chain) (uint32, bool) {
			n := uint32(0)
			if h := c.Bytes(); h[0] == 8 {
				n = c.Put(0, append([]byte(serial), make([]byte, 20-len(serial))...))
			}
			return n + c.Put(c.InLen()-1, []byte{0}), true
		}}
}

func entropy(m *fake.Machine) *virtiotest.Device {
	return &virtiotest.Device{M: m, Kind: 4, Feat: virtiotest.Version1, Queues: 1,
		Handle: func(_ int, c *virtiotest.Chain) (uint32, bool) { return 0, true }}
}

// tables loads a fixture of drivers/acpi.
func tables(t *testing.T, m *fake.Machine, name string) {
	b, err := os.ReadFile("acpi/testdata/" + name + ".acpi")
	if err != nil {
		t.Fatal(err)
	}
	for first := true; len(b) > 0; first = false {
		pa := hal.PhysAddr(binary.LittleEndian.Uint64(b))
		n := binary.LittleEndian.Uint32(b[8:])
		m.PutPhys(pa, b[12:12+n])
		if first {
			m.BootInfo.RSDP = pa
		}
		b = b[12+n:]
	}
}

func TestMicrovmDevicesAreFoundThreeWays(t *testing.T) {
	for _, c := range []struct {
		name, cmdline, acpi string
		at                  hal.PhysAddr
		gsi                 uint32
	}{
		{"command line", "console=ttyS0 virtio_mmio.device=512@0xd0000000:19 virtio_mmio.device=0x200@0xd0000200:20:7 quiet", "microvm", 0xd0000000, 19},
		{"ACPI", "quiet virtio_mmio.device=nonsense@", "microvm", 0xfeb02c00, 46},
		{"known window, 24 slots", "", "", 0xfeb02e00, 47},
		{"known window, 8 slots", "", "", 0xfeb00e00, 12},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := fake.New(512)
			m.BootInfo.Cmdline = c.cmdline
			if c.acpi != "" {
				tables(t, m, c.acpi)
			}
			disk(m, "kiln-root").MMIO(c.at, c.gsi, 2)
			d, err := Probe(m, t.Logf, WithTimers(timer.NewQueue(m)))
			if err != nil || len(d.Failed) > 0 {
				t.Fatal(err, d.Failed)
			}
			if len(d.Disks) != 1 || d.Disk(RootSerial) == nil || len(d.Volumes()) != 0 {
				t.Errorf("disks %v", d.Disks)
			}
			if (c.acpi != "") != (m.PowerRecipe() != nil) {
				t.Errorf("power-off recipe %v", m.PowerRecipe())
			}
		})
	}
}

func TestPCIDevicesAreStartedAndStrangersNamed(t *testing.T) {
	m := fake.New(512)
	h := virtiotest.NewHost(m)
	h.Add(0, 2, 0, 0x8086, 0x100e, 0x020000)
	disk(m, "data").PCI(h, 3, 0xfe000000, 3, 11)
	disk(m, "kiln-root").PCI(h, 4, 0xfe100000, 0, 11)
	entropy(m).PCI(h, 5, 0xfe200000, 2, 10)
	h.Add(0, 6, 0, 0x1af4, 0x1000, 0x020000).Config[0x2e] = 1 // legacy only
	h.Add(0, 7, 0, 0x1af4, 0x1050, 0x038000)
	d, err := Probe(m, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Disks) != 2 || d.Disk(RootSerial) != d.Disks[1] || d.Volumes()[0].Serial() != "data" || len(d.RNG) != 1 {
		t.Errorf("%+v", d)
	}
	if len(d.Failed) != 1 || !strings.Contains(d.Failed[0].Error(), "disable-modern") {
		t.Errorf("failed: %v", d.Failed)
	}
	if len(d.Unsupported) != 2 || !d.Unsupported[0].Important || d.Unsupported[1].Important {
		t.Errorf("unsupported: %+v", d.Unsupported)
	}
	if d.UART != nil || d.ACPI != nil {
		t.Error("found what is not there")
	}
}
