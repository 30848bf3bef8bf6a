package acpi

import (
	"encoding/binary"
	"os"
	"testing"

	"kiln/kernel/hal/fake"
)

// Tables with any bytes changed are read as far as they go. Checksums are made right
// again, so that the changes are seen.
func FuzzTables(f *testing.F) {
	var all [][]byte
	for _, name := range []string{"pc", "q35", "microvm"} {
		b, err := os.ReadFile("testdata/" + name + ".acpi")
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, b)
		f.Add(uint8(len(all)-1), []byte{})
	}
	f.Add(uint8(1), []byte{0, 100, 7, 1, 44, 255, 2, 0, 0})
	f.Fuzz(func(t *testing.T, which uint8, changes []byte) {
		b := append([]byte(nil), all[int(which)%len(all)]...)
		for ; len(changes) >= 3; changes = changes[3:] {
			at := int(binary.BigEndian.Uint16(changes))
			// The records' own heads stay: they are the fixture's.
			for off := 0; off < len(b); {
				n := int(binary.LittleEndian.Uint32(b[off+8:]))
				if at >= off+12 && at < off+12+n {
					b[at] = changes[2]
				}
				off += 12 + n
			}
		}
		for off := 0; off < len(b); {
			n := int(binary.LittleEndian.Uint32(b[off+8:]))
			if tab := b[off+12 : off+12+n]; off > 0 && n >= 36 {
				tab[9] = 0
				sum := byte(0)
				for _, c := range tab {
					sum += c
				}
				tab[9] = -sum
			}
			off += 12 + n
		}
		m := fake.New(1)
		place(m, b, true)
		a, err := Find(m)
		if err != nil {
			return
		}
		a.ISA(4)
		a.Reset()
		a.PowerOff(m)
	})
}
