package blk

import (
	"testing"

	"kiln/drivers/virtio/virtiotest"
	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
	"kiln/kernel/wait"
)

// Whatever a disk says of itself and answers to requests, each of them ends.
func FuzzDisk(f *testing.F) {
	f.Add(uint64(allFeat), []byte{4, 0, 0, 0, 128, 0, 0, 0, 0, 0, 0, 0, 255}, []byte{0, 21, 1, 0, 0, 1, 1, 0, 0, 252, 1, 0})
	f.Add(uint64(virtiotest.Version1), []byte{}, []byte{0, 21, 1, 0, 3, 1, 1, 0})
	f.Add(uint64(0), []byte{255, 255, 255, 255, 255, 255, 255, 255}, []byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, feat uint64, answers, script []byte) {
		h := &virtiotest.Hostile{M: fake.New(256), Kind: 2, Old: feat&virtiotest.Version1 == 0, Feat: feat &^ virtiotest.EventIdx, Answers: answers}
		// Each request is one chain, and each chain gets an answer: a silent disk is waited for.
		h.OnNotify = func(q int) {
			if len(script) < 4 || script[2] == 0 {
				script = nil
				h.Push(q, 1<<20, 0, 1) // what it did not have: it fails
			} else {
				script = h.Serve(q, script)
			}
			h.Interrupt(q)
		}
		d, err := Open(h.M, h, "virtio-blk0", nil)
		if err != nil {
			return
		}
		defer d.dev.Fail("the end")
		if d.Size() < 0 || d.Size()%512 != 0 {
			t.Errorf("%d bytes", d.Size())
		}
		c := wait.Background()
		frame := []hal.PFN{20}
		d.ReadFrames(c, 0, frame)
		d.ReadFrames(c, d.Size()-4096, frame)
		d.WriteFrames(c, 4096, frame)
		d.Flush(c)
	})
}
