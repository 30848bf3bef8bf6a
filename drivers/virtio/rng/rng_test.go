package rng

import (
	"bytes"
	"testing"
	"time"

	"kiln/drivers/virtio"
	"kiln/drivers/virtio/virtiotest"
	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
)

func TestWhatTheDeviceGivesReachesTheGenerator(t *testing.T) {
	m := fake.New(64)
	next := byte(0)
	d := &virtiotest.Device{M: m, Kind: 4, Feat: virtiotest.Version1, Queues: 1,
		Handle: func(_ int, c *virtiotest.Chain) (uint32, bool) {
			next++
			return c.Put(0, bytes.Repeat([]byte{next}, 40)), true // less than asked for
		}}
	d.MMIO(0xfeb00000, 5, 2)
	tr, err := virtio.OpenMMIO(m, 0xfeb00000, 0x200, 5, hal.GSILevel)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(m, tr, "virtio-rng0", nil)
	if err != nil {
		t.Fatal(err)
	}
	for want := 40; want <= 120; want += 40 {
		for i := 0; s.Fed() < want; i++ {
			if i > 5000 {
				t.Fatal("no entropy")
			}
			time.Sleep(time.Millisecond)
		}
		s.Reseed()
	}
	got := m.Mixed()
	want := append(append(bytes.Repeat([]byte{1}, 40), bytes.Repeat([]byte{2}, 40)...), bytes.Repeat([]byte{3}, 40)...)
	if !bytes.Equal(got[:120], want) {
		t.Errorf("% x", got)
	}
}
