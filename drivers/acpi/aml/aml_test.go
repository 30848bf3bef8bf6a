package aml

import (
	"encoding/binary"
	"os"
	"testing"
)

// dsdt cuts the DSDT out of a fixture of the parent package.
func dsdt(t testing.TB, name string) []byte {
	b, err := os.ReadFile("../testdata/" + name + ".acpi")
	if err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 {
		n := binary.LittleEndian.Uint32(b[8:])
		if string(b[12:16]) == "DSDT" {
			return b[12 : 12+n]
		}
		b = b[12+n:]
	}
	t.Fatal("no DSDT in " + name)
	return nil
}

// block wraps body in a PkgLength.
func block(op []byte, body ...byte) []byte {
	n := len(body) + 2
	return append(append(op, byte(0x40|n&15), byte(n>>4)), body...)
}

func table(body []byte) []byte {
	b := make([]byte, 36, 36+len(body))
	copy(b, "DSDT")
	binary.LittleEndian.PutUint32(b[4:], uint32(36+len(body)))
	return append(b, body...)
}

func TestNamesResolveAgainstTheirScope(t *testing.T) {
	dev := block([]byte{0x5b, 0x82}, []byte("DEV0\x08_HID\x0dABCD0001\x00\x08^TOP_\x0a\x07\x08\\ABS_\x0b\x34\x12")...)
	ns := Parse(table(append(block([]byte{0x10}, append([]byte("_SB_"), dev...)...), []byte("\x08LAST\x01")...)))
	for path, want := range map[string]uint64{`\_SB.TOP`: 7, `\ABS`: 0x1234, `\LAST`: 1} {
		if v, ok := ns.Lookup(path); !ok || v != want {
			t.Errorf("%s = %v, %v", path, v, ok)
		}
	}
	if d := ns.Devices("ABCD0001"); len(d) != 1 || d[0].Path != `\_SB.DEV0` {
		t.Errorf("devices %v", d)
	}
}

func TestAnUnknownOpcodeEndsOnlyItsBlock(t *testing.T) {
	bad := block([]byte{0x10}, []byte("_SB_\xfe\xfe\x08NOPE\x01")...)
	ns := Parse(table(append(bad, []byte("\x08GOOD\x01")...)))
	if _, ok := ns.Lookup(`\_SB.NOPE`); ok {
		t.Error("read on after an unknown opcode")
	}
	if _, ok := ns.Lookup(`\GOOD`); !ok {
		t.Error("the block after the bad one was lost")
	}
}

func TestDeepNestingIsRefused(t *testing.T) {
	var b []byte
	for i := 0; i < 10000; i++ {
		b = append(b, 0x12, 0x3f, 1) // Package of one, claiming 63 bytes
	}
	Parse(table(append([]byte("\x08DEEP"), b...)))
	body := []byte("\x08LEAF\x01")
	for i := 0; i < 200; i++ {
		body = block([]byte{0x10}, append([]byte("SCOP"), body...)...)
	}
	Parse(table(body))
}

func FuzzParse(f *testing.F) {
	for _, n := range []string{"pc", "q35", "microvm"} {
		f.Add(dsdt(f, n))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, d := range Parse(b).All {
			d.HID()
			d.Present()
			d.Resources()
		}
		Resources(b)
	})
}
