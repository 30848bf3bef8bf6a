package syscalls

import (
	"testing"

	"gvisor.dev/gvisor/pkg/bpf"

	"kiln/kernel/cbpf"
)

// A filter of seccomp of any instructions is refused or runs to a verdict on any call: it
// reads nothing beyond the call's data, and fails by a division by zero alone.
func FuzzSeccomp(f *testing.F) {
	ld, jeq, kill, allow := []byte{0x20, 0, 0, 0, 4, 0, 0, 0}, []byte{0x15, 0, 1, 0, 0x3e, 0, 0, 0xc0}, []byte{6, 0, 0, 0, 0, 0, 0, 0x80}, []byte{6, 0, 0, 0, 0, 0, 0xff, 0x7f}
	join := func(l ...[]byte) (out []byte) {
		for _, b := range l {
			out = append(out, b...)
		}
		return out
	}
	f.Add(join(ld, jeq, allow, kill), make([]byte, secDataSize))
	f.Add(join([]byte{0x80, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0x3c, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 15, 0, 0, 0, 0x61, 0, 0, 0, 15, 0, 0, 0, 0x16, 0, 0, 0, 0, 0, 0, 0}), []byte{1})
	f.Fuzz(func(t *testing.T, raw, call []byte) {
		n := len(raw) / cbpf.Size
		if n == 0 || n > bpf.MaxInstructions {
			return
		}
		p, err := seccompProgram(raw[:n*cbpf.Size])
		if err != nil {
			return
		}
		var data [secDataSize]byte
		copy(data[:], call)
		_, err = bpf.Exec[bpf.NativeEndian](p, data[:])
		if e, ok := err.(bpf.Error); err != nil && (!ok || e.Code != bpf.DivisionByZero) {
			t.Errorf("an accepted filter fails: %v", err)
		}
	})
}
