package net

import (
	"testing"

	"golang.org/x/sys/unix"

	"kiln/kernel/mm"
)

// BenchmarkPingPong is a request of 100 bytes and an answer of 1 KB over two stacks.
func BenchmarkPingPong(b *testing.B) {
	x, y, _, _ := twoStacks(b, testRAM, true)
	srv, cli, _ := connected(b, x, y, in4(10, 0, 0, 1, 0))
	req, resp := make([]byte, 100), make([]byte, 1024)
	b.ReportAllocs()
	for b.Loop() {
		write(b, cli, req)
		readFull(b, srv, len(req))
		write(b, srv, resp)
		readFull(b, cli, len(resp))
	}
}

// BenchmarkConnections is connect, accept and close on both sides.
func BenchmarkConnections(b *testing.B) {
	x, y, _, _ := twoStacks(b, testRAM, true)
	l := listen(b, x, in4(10, 0, 0, 1, 80), 128)
	b.ReportAllocs()
	for b.Loop() {
		c, err := connect(b, y, in4(10, 0, 0, 1, 80))
		if err != nil {
			b.Fatal(err)
		}
		s := accept(b, l)
		s.Release(nil)
		c.Release(nil)
	}
}

func BenchmarkStreamWrite(b *testing.B) {
	s := newStack(b, testRAM)
	srv, cli, _ := connected(b, s, s, in4(127, 0, 0, 1, 0))
	buf, in := make([]byte, 1024), make([]byte, 1024)
	b.ReportAllocs()
	b.SetBytes(1024)
	for b.Loop() {
		q := mm.KernelIO(buf)
		if _, err := cli.Write(me.C, nil, &q, -1); err != nil {
			b.Fatal(err)
		}
		for n := 0; n < 1024; {
			q = mm.KernelIO(in)
			k, err := srv.Read(me.C, nil, &q, -1)
			if err == unix.EAGAIN {
				got, _ := read(b, srv, 1024)
				k = len(got)
			}
			n += k
		}
	}
}
