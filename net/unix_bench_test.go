package net

import (
	"testing"

	"golang.org/x/sys/unix"

	"kiln/kernel/mm"
)

// BenchmarkUnixStream writes and reads small pieces and large ones.
func BenchmarkUnixStream(b *testing.B) {
	for _, c := range []struct {
		name string
		n    int
	}{{"64", 64}, {"4K", 4 << 10}, {"64K", 64 << 10}} {
		b.Run(c.name, func(b *testing.B) {
			s := newStack(b, testRAM)
			x, y, err := s.SocketPair(me, unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				b.Fatal(err)
			}
			buf := make([]byte, c.n)
			b.ReportAllocs()
			b.SetBytes(int64(c.n))
			for b.Loop() {
				q := mm.KernelIO(buf)
				if n, err := x.Write(me.C, nil, &q, -1); n != c.n || err != nil {
					b.Fatal(n, err)
				}
				q = mm.KernelIO(buf)
				if n, err := y.Read(me.C, nil, &q, -1); n != c.n || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}
