package virtio_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"kiln/drivers/pci"
	"kiln/drivers/virtio"
	"kiln/drivers/virtio/virtiotest"
	"kiln/kernel/hal/fake"
)

// Whatever a device writes into its ring, Pop gives each request back once, with no more
// bytes than were lent, or the device has failed, and then Drain gives back the rest.
func FuzzQueue(f *testing.F) {
	f.Add([]byte{0, 1, 1, 0, 2, 0, 4, 1, 3, 0}, uint8(3))
	f.Add([]byte{0, 3, 0, 2, 1, 0, 2, 0, 1, 1, 2, 5, 9, 1, 3, 0, 3, 0, 4, 0, 5, 0}, uint8(7))
	f.Add([]byte{0, 4, 1, 0, 2, 200, 4, 1, 3, 0, 3, 0}, uint8(0))
	f.Add([]byte{0, 2, 1, 0, 2, 0, 0, 40, 3, 0}, uint8(1))
	f.Fuzz(func(t *testing.T, ops []byte, how uint8) {
		h := &virtiotest.Hostile{M: fake.New(64), Kind: 4, Old: how&8 != 0, Feat: virtio.FeatureVersion1, Answers: []byte{255}}
		if how&1 != 0 {
			h.Feat |= virtio.FeatureIndirect
		}
		if how&2 != 0 {
			h.Feat |= virtio.FeatureEventIdx
		}
		d, err := virtio.NewDevice(h.M, h, "fuzz")
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Negotiate(0); err != nil {
			t.Fatal(err)
		}
		h.Connect("", nil, nil)
		q, err := d.NewQueue(0, virtio.QueueConfig{MaxSegs: 4, Tables: 3})
		if err != nil {
			t.Fatal(err)
		}
		lent := map[int]uint32{} // by token, the bytes the device may write
		for next := 1; len(ops) >= 2; ops = ops[2:] {
			switch v := int(ops[1]); ops[0] % 6 {
			case 0:
				segs, out, room := make([]virtio.Seg, 1+v%5), v/5%3, uint32(0)
				out = min(out, len(segs))
				for i := range segs {
					segs[i] = virtio.Seg{Addr: 0x1000, Len: uint32(v)}
					if i >= out {
						room += uint32(v)
					}
				}
				switch fits, err := q.Room(len(segs)), q.Add(segs, out, next); {
				case err == nil:
					lent[next] = room
					next++
				case err == virtio.ErrFull && fits || d.Err() == nil && err != virtio.ErrFull:
					t.Fatalf("room for %d: %v", len(segs), err)
				}
			case 1:
				q.Kick()
			case 2:
				if len(ops) < 4 {
					return
				}
				id := uint32(v)
				if v > 240 {
					id = binary.LittleEndian.Uint32([]byte{ops[1], ops[2], ops[3], 255})
				}
				h.Push(0, id, uint32(ops[2]), uint16(ops[3]))
				ops = ops[2:]
			case 3:
				token, n, ok := q.Pop()
				if !ok {
					break
				}
				room, was := lent[token.(int)]
				if !was || n > room {
					t.Fatalf("request %v came back with %d bytes of %d; lent: %v", token, n, room, was)
				}
				delete(lent, token.(int))
			case 4:
				q.Listen(v)
				q.Pending()
			case 5:
				q.Quiet()
			}
		}
		if d.Err() != nil {
			q.Drain(func(token any) {
				if _, was := lent[token.(int)]; !was {
					t.Fatalf("request %v came back twice", token)
				}
				delete(lent, token.(int))
			})
			if len(lent) > 0 {
				t.Fatalf("%v did not come back", lent)
			}
		}
		if q.InFlight() != len(lent) {
			t.Fatalf("%d in flight of %d", q.InFlight(), len(lent))
		}
	})
}

// answers are the registers of a device: what is read is whatever comes next.
type answers struct{ b []byte }

func (a *answers) Read(_, width int) uint64 {
	var b [8]byte
	a.b = a.b[copy(b[:width], a.b):]
	return binary.LittleEndian.Uint64(b[:])
}

func (a *answers) Write(int, int, uint64) {}

// A PCI function with any bytes in its configuration space and its registers is a device,
// or refused.
func FuzzPCI(f *testing.F) {
	f.Add([]byte{0x34, 0x40, 0x40, 9, 0x41, 0x40, 0x42, 16, 0x43, 1}, []byte{})
	f.Add([]byte{0x4c, 255, 0x4d, 255, 0x4e, 255, 0x4f, 255}, []byte{0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 8})
	f.Add([]byte{0x10, 1, 0x44, 5, 0x50, 16}, bytes.Repeat([]byte{255}, 40))
	f.Fuzz(func(t *testing.T, changes, registers []byte) {
		m := fake.New(64)
		fn := virtiotest.NewHost(m).Add(0, 3, 0, 0x1af4, 0x1044, 0x00ff00)
		fn.SetBAR(1, 0x1000, 0xfe010000, 0)
		fn.SetBAR(4, 0x4000, 0xfe000000, 4)
		for i, at := range []uint32{0, 0x3000, 0x1000, 0x2000} {
			b := binary.LittleEndian.AppendUint32([]byte{20, byte(i + 1), 4, 0, 0, 0}, at)
			fn.AddCap(9, append(binary.LittleEndian.AppendUint32(b, 0x1000), 4, 0, 0, 0)...)
		}
		fn.AddCap(0x11, 1, 0, 1, 0, 0, 0, 1, 8, 0, 0)
		for ; len(changes) >= 2; changes = changes[2:] {
			if at := changes[0]; at >= 4 { // vendor and device stay
				fn.Config[at] = changes[1]
			}
		}
		r := &answers{registers}
		m.PlugMMIO(0xfe000000, 0x4000, r)
		m.PlugMMIO(0xfe010000, 0x1000, r)
		for _, fn := range pci.New(m, nil).Scan() {
			tr, err := virtio.OpenPCI(fn)
			if err != nil {
				continue
			}
			d, err := virtio.NewDevice(m, tr, "fuzz")
			if err != nil || d.Negotiate(0) != nil || tr.Connect("fuzz", nil, []func(){func() {}}) != nil {
				continue
			}
			d.Config64(0)
			if q, err := d.NewQueue(0, virtio.QueueConfig{}); err == nil {
				q.Add([]virtio.Seg{{Addr: 0x1000, Len: 1}}, 0, 1)
				q.Kick()
				q.Pop()
			}
		}
	})
}
