package console

import (
	"testing"

	"kiln/drivers/virtio/virtiotest"
	"kiln/kernel/hal/fake"
)

// Whatever a console says of its ports and writes to them, it is served or has failed.
func FuzzConsole(f *testing.F) {
	open := []byte{0, 8, 1, 8, 1, 0, 0, 0, 1, 0, 1, 0}
	f.Add(uint64(virtiotest.Version1|featMultiport), []byte{3, 0, 0, 0, 255, 0, 0, 0}, append(append([]byte{2}, open...), append([]byte{2, 1, 14, 1, 14, 1, 0, 0, 0, 7, 0, 1, 0}, "org.kiln.ctl"...)...))
	f.Add(uint64(virtiotest.Version1), []byte{}, []byte{0, 0, 5, 1, 5, 'a', 'b', 'c', '\n', 'd'})
	f.Add(uint64(0), []byte{}, []byte{0, 0, 200, 1, 1, 'x', 1, 0, 1, 1, 0})
	f.Fuzz(func(t *testing.T, feat uint64, answers, script []byte) {
		h := &virtiotest.Hostile{M: fake.New(1024), Kind: 3, Old: feat&virtiotest.Version1 == 0, Feat: feat, Answers: answers}
		c, err := Open(h.M, h, "virtio-console0", nil)
		if err != nil {
			return
		}
		defer c.dev.Fail("the end")
		c.OnPort(func(p *Port) {
			p.SetReceiver(func(b []byte) {
				if len(b) == 0 || len(b) > bufLen {
					t.Errorf("%d bytes", len(b))
				}
				p.Write(b)
			})
			if len(p.Name()) > maxName {
				t.Errorf("the name %q", p.Name())
			}
			p.Write([]byte("hello"))
		})
		for len(script) > 1 {
			script = h.Serve(int(script[0]&7), script[1:])
			for n := 0; c.serve(); n++ {
				if n > 10000 {
					t.Fatal("there is always something more")
				}
			}
		}
	})
}
