package deb

import (
	"bytes"
	"testing"

	"kiln/capstan/deb/debtest"
)

// A package of any bytes is unpacked or refused.
func FuzzRead(f *testing.F) {
	maxData = 1 << 20
	for _, comp := range []func([]byte) debtest.Member{debtest.XZ, debtest.Zstd, debtest.Plain} {
		f.Add(debtest.Package("p", "libc6 (>= 2.3), liba | libb, python3:any", comp, debtest.Reg("./bin/x", "abc")))
	}
	f.Add(debtest.Ar(debtest.Member{Name: "debian-binary", Data: []byte("2.0\n")}, debtest.Member{Name: "control.tar", Data: make([]byte, 1024)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Read(bytes.NewReader(b))
		if err == nil && (p.Name == "" || p.Files == nil) {
			t.Errorf("%+v", p)
		}
	})
}
