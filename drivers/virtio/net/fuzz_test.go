package net

import (
	"testing"

	"kiln/drivers/virtio/virtiotest"
	"kiln/kernel/hal/fake"
)

// Whatever a card says and writes, a packet that is received lies in the buffers that were
// lent, or the card has failed.
func FuzzCard(f *testing.F) {
	f.Add(uint64(everything), []byte{8, 0, 0, 0, 8}, []byte{0, 80, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 60, 1, 12, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0})
	f.Add(uint64(everything), []byte{}, []byte{0, 252, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 1, 252, 1, 0, 2, 9, 1, 0})
	f.Add(uint64(virtiotest.Version1), []byte{}, []byte{3, 11, 1, 0, 3, 12, 1, 0, 0, 255, 1, 0, 9, 1, 7, 0})
	f.Fuzz(func(t *testing.T, feat uint64, answers, script []byte) {
		h := &virtiotest.Hostile{M: fake.New(1024), Kind: 1, Old: feat&virtiotest.Version1 == 0, Feat: feat, Answers: answers}
		d, err := Open(h.M, h, "virtio-net0", nil)
		if err != nil {
			return
		}
		lent := 0
		d.receiver = func(p *Packet) {
			n := 0
			for _, s := range p.Slices {
				n += len(s)
			}
			if n == 0 || n > lent {
				t.Errorf("a packet of %d bytes from %d", n, lent)
			}
			d.Send(p)
		}
		if d.begin() != nil {
			return
		}
		lent = d.rx.Size() * chunk
		for p := new(Packet); len(script) > 0; {
			q := int(script[0] >> 7)
			script[0] &= 0x7f
			script = h.Serve(q, script)
			for d.takePacket(p) {
			}
			d.rx.Kick()
			d.Kick()
		}
		if d.dev.Err() == nil && d.rx.InFlight() == 0 {
			t.Error("the card has no buffers any more")
		}
	})
}
