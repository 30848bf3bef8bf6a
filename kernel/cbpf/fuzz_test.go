package cbpf

import "testing"

func FuzzParse(f *testing.F) {
	f.Add([]byte{0x20, 0, 0, 0, 4, 0, 0, 0, 0x15, 0, 1, 0, 0x3e, 0, 0, 0xc0, 6, 0, 0, 0, 0, 0, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		insns, _ := Parse(b)
		for i := range insns {
			Straighten(&insns[i])
		}
	})
}
