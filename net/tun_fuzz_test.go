package net

import (
	"testing"

	"golang.org/x/sys/unix"

	"kiln/kernel/mm"
)

// Whatever a program writes into a TUN or TAP interface, with packet information, offload
// headers or without, is delivered or refused, and nothing of it stays.
func FuzzTun(f *testing.F) {
	s := newStack(f, testRAM)
	var files []*tunFile
	for i, flags := range []uint16{unix.IFF_TUN, unix.IFF_TUN | unix.IFF_NO_PI, unix.IFF_TAP | unix.IFF_NO_PI, unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR, unix.IFF_TAP | unix.IFF_VNET_HDR} {
		d, err := s.addTun("fuzz"+string(rune('0'+i)), flags, 0)
		if err != nil {
			f.Fatal(err)
		}
		file := s.OpenTun(nil).(*tunFile)
		if err := d.attach(file); err != nil {
			f.Fatal(err)
		}
		d.i.down.Store(false)
		if err := s.ns.EnableNIC(d.i.id); err != nil {
			f.Fatal(err)
		}
		files = append(files, file)
	}
	ip4 := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0x7c, 0xcf, 127, 0, 0, 1, 127, 0, 0, 1, 0, 5, 30, 97, 0, 8, 0, 0}
	ip6 := append([]byte{0x60, 0, 0, 0, 0, 8, 58, 255}, make([]byte, 40)...)
	head := []byte{1, 1, 28, 0, 10, 0, 20, 0, 6, 0}
	f.Add(uint8(0), append([]byte{0, 0, 8, 0}, ip4...))
	f.Add(uint8(1), ip6)
	f.Add(uint8(2), append(append(make([]byte, 12), 8, 0), ip4...))
	f.Add(uint8(3), append(head, ip4...))
	f.Add(uint8(4), append(append([]byte{0, 0, 8, 6}, head...), make([]byte, 42)...))
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		file := files[int(which)%len(files)]
		before := s.cfg.Budget.Used()
		src := mm.KernelIO(b)
		if n, err := file.Write(nil, nil, &src, 0); err == nil && n != len(b) {
			t.Errorf("%d of %d bytes", n, len(b))
		}
		for _, r := range files { // what the stack answers
			var buf [70000]byte
			for {
				dst := mm.KernelIO(buf[:])
				if _, err := r.Read(nil, nil, &dst, 0); err != nil {
					break
				}
			}
		}
		if now := s.cfg.Budget.Used(); now > before+1<<20 {
			t.Errorf("%d bytes stay charged", now-before)
		}
	})
}
