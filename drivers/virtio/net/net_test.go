package net

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"

	"kiln/drivers/virtio"
	"kiln/drivers/virtio/virtiotest"
	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
)

const modern = virtiotest.Version1 | virtiotest.EventIdx | virtiotest.Indirect

// card is a network card model: what it sent is in sent, inject receives.
type card struct {
	*virtiotest.Device
	mu   sync.Mutex
	rx   []*virtiotest.Chain
	sent [][]byte // with header
	hold []*virtiotest.Chain
	slow bool
}

func (c *card) handle(q int, ch *virtiotest.Chain) (uint32, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if q == 0 {
		c.rx = append(c.rx, ch)
		return 0, false
	}
	c.sent = append(c.sent, ch.Bytes())
	if c.slow {
		c.hold = append(c.hold, ch)
		return 0, false
	}
	return 0, true
}

// inject delivers a packet with its header over as many buffers as it takes.
func (c *card) inject(t testing.TB, hdr int, b []byte) {
	t.Helper()
	n := (len(b) + chunk - 1) / chunk
	var cs []*virtiotest.Chain
	for i := 0; ; i++ {
		c.mu.Lock()
		if len(c.rx) >= n {
			cs, c.rx = c.rx[:n:n], c.rx[n:]
			c.mu.Unlock()
			break
		}
		c.mu.Unlock()
		if i > 5000 {
			t.Fatal("the driver does not give receive buffers")
		}
		time.Sleep(time.Millisecond)
	}
	if hdr == hdrLen {
		binary.LittleEndian.PutUint16(b[10:], uint16(n))
	}
	var lens []uint32
	for _, ch := range cs {
		k := min(len(b), chunk)
		ch.Put(0, b[:k])
		b = b[k:]
		lens = append(lens, uint32(k))
	}
	virtiotest.CompleteAll(cs, lens)
}

func newCard(t testing.TB, feat uint64, version uint32) (*fake.Machine, *card, *Device) {
	t.Helper()
	m := fake.New(2048)
	c := &card{}
	c.Device = &virtiotest.Device{M: m, Kind: 1, Feat: feat, Queues: 2, Handle: c.handle,
		Config: []byte{0x52, 0x54, 0, 0x12, 0x34, 0x56, 1, 0, 1, 0, 0xdc, 5, 0, 0, 0, 0}}
	c.MMIO(0xfeb00000, 5, version)
	tr, err := virtio.OpenMMIO(m, 0xfeb00000, 0x200, 5, hal.GSILevel)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(m, tr, "virtio-net0", nil)
	if err != nil {
		t.Fatal(err)
	}
	return m, c, d
}

const everything = modern | featMAC | featMTU | featStatus | featMrgRxBuf | featCsum | featGuestCsum |
	featHostTSO4 | featHostTSO6 | featGuestTSO4 | featGuestTSO6

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

func TestPacketsOfAllSizesArriveWhole(t *testing.T) {
	for _, v := range []struct {
		name    string
		version uint32
		feat    uint64
		hdr     int
		sizes   []int
	}{
		{"modern", 2, everything, 12, []int{1, 60, 1514, 2036, 2037, 4096, 65550}},
		{"modern without merging", 2, modern | featMAC, 12, []int{60, 1514, 2036}},
		{"legacy", 1, featMAC, 10, []int{60, 1514, 2038}},
		{"legacy with merging", 1, featMAC | featMrgRxBuf | virtiotest.EventIdx, 12, []int{60, 1514, 9000}},
	} {
		t.Run(v.name, func(t *testing.T) {
			_, c, d := newCard(t, v.feat, v.version)
			got := make(chan []byte, 10)
			d.SetReceiver(func(p *Packet) { got <- bytes.Join(p.Slices, nil) })
			if err := d.Start(); err != nil {
				t.Fatal(err)
			}
			if d.MAC() != [6]byte{0x52, 0x54, 0, 0x12, 0x34, 0x56} || d.MTU() != 1500 {
				t.Errorf("MAC % x, MTU %d", d.MAC(), d.MTU())
			}
			for i := 0; i < 400; i++ { // many times round the ring
				want := pattern(v.sizes[i%len(v.sizes)])
				c.inject(t, v.hdr, append(make([]byte, v.hdr), want...))
				select {
				case b := <-got:
					if !bytes.Equal(b, want) {
						t.Fatalf("packet %d of %d bytes arrived as %d", i, len(want), len(b))
					}
				case <-time.After(5 * time.Second):
					t.Fatal("packet lost", i)
				}
			}
			for i := 0; i < 1000; i++ {
				want := pattern(v.sizes[i%len(v.sizes)])
				for {
					err := d.Send(&Packet{Slices: [][]byte{want[:1], want[1:]}})
					if err == nil {
						break
					}
					if !errors.Is(err, ErrFull) {
						t.Fatal(err)
					}
					time.Sleep(time.Millisecond)
				}
				d.Kick()
			}
			for i := 0; i < 5000; i++ {
				if c.mu.Lock(); len(c.sent) == 1000 {
					c.mu.Unlock()
					break
				}
				c.mu.Unlock()
				time.Sleep(time.Millisecond)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			for i, b := range c.sent {
				if !bytes.Equal(b[v.hdr:], pattern(v.sizes[i%len(v.sizes)])) {
					t.Fatalf("sent packet %d differs (%d bytes)", i, len(b))
				}
			}
			if len(c.sent) != 1000 {
				t.Fatalf("%d of 1000 packets were sent", len(c.sent))
			}
		})
	}
}

// Where there is no memory for a packet and nothing is under way, it is dropped: nobody would
// tell when it could go.
func TestPacketWithoutMemoryIsNotWaitedFor(t *testing.T) {
	_, _, d := newCard(t, everything, 2)
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	if err := d.Send(&Packet{Slices: [][]byte{pattern(60)}}); err != nil {
		t.Fatal(err)
	}
	d.Kick()
	d.txMu.Lock()
	d.txLimit = d.txMade // no more
	d.txMu.Unlock()
	err := ErrFull
	for i := 0; err == ErrFull && i < 2000; i++ { // until the first one is through
		err = d.Send(&Packet{Slices: [][]byte{pattern(65000)}})
		time.Sleep(time.Millisecond)
	}
	if err != ErrNoMemory {
		t.Error(err)
	}
	if err := d.Send(&Packet{Slices: [][]byte{pattern(60)}}); err != nil {
		t.Error("a small one:", err)
	}
}

func TestOffloadsAreInTheHeader(t *testing.T) {
	_, c, d := newCard(t, everything, 2)
	got := make(chan Packet, 1)
	d.SetReceiver(func(p *Packet) { got <- *p })
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	if !d.TxCsum() || !d.RxCsum() || !d.TSO4() || !d.TSO6() {
		t.Fatal("offloads not negotiated")
	}
	err := d.Send(&Packet{Slices: [][]byte{pattern(5000)}, NeedsCsum: true, CsumStart: 34, CsumOffset: 16,
		GSO: GSOTCP6, SegSize: 1440, HdrLen: 74})
	if err != nil {
		t.Fatal(err)
	}
	d.Kick()
	for {
		c.mu.Lock()
		if len(c.sent) == 1 {
			break
		}
		c.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	want := []byte{1, 4, 74, 0, 0xa0, 5, 34, 0, 16, 0, 0, 0}
	if !bytes.Equal(c.sent[0][:12], want) {
		t.Errorf("header % x, want % x", c.sent[0][:12], want)
	}
	c.mu.Unlock()
	c.inject(t, 12, append([]byte{2, 1, 54, 0, 0xb4, 5, 0, 0, 0, 0, 0, 0}, pattern(3000)...))
	if p := <-got; !p.CsumValid || p.NeedsCsum || p.GSO != GSOTCP4 || p.SegSize != 1460 {
		t.Errorf("%+v", p)
	}
}

func TestAFullQueueIsReportedAndThenWritable(t *testing.T) {
	_, c, d := newCard(t, everything, 2)
	room := make(chan bool, 10)
	d.OnWritable(func() { room <- true })
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	c.slow = true
	c.mu.Unlock()
	n := 0
	for d.Send(&Packet{Slices: [][]byte{pattern(100)}}) == nil {
		n++
		d.Kick()
	}
	if n < 100 || n > 256 {
		t.Errorf("%d packets fitted", n)
	}
	for {
		c.mu.Lock()
		hold := c.hold
		if len(hold) == n {
			c.slow = false
			c.mu.Unlock()
			for _, ch := range hold {
				ch.Complete(0)
			}
			break
		}
		c.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	select {
	case <-room:
	case <-time.After(5 * time.Second):
		t.Fatal("nobody was told of room")
	}
	if err := d.Send(&Packet{Slices: [][]byte{pattern(100)}}); err != nil {
		t.Error(err)
	}
	if err := d.Send(&Packet{Slices: [][]byte{make([]byte, 70000)}}); err != ErrTooBig {
		t.Error(err)
	}
	if d.Stats().TxFull == 0 {
		t.Error("not counted")
	}
}

func TestLinkChangesAreTold(t *testing.T) {
	_, c, d := newCard(t, everything, 2)
	up := make(chan bool, 2)
	d.OnLink(func(u bool) { up <- u })
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	if !d.LinkUp() {
		t.Error("down at start")
	}
	c.ChangeConfig(func(b []byte) { b[6] = 0 })
	if <-up {
		t.Error("still up")
	}
	c.ChangeConfig(func(b []byte) { b[6] = 1 })
	if !<-up {
		t.Error("still down")
	}
}

func TestMalformedPacketsAreDroppedOrFailTheDevice(t *testing.T) {
	_, c, d := newCard(t, everything, 2)
	n := 0
	done := make(chan bool, 10)
	d.SetReceiver(func(p *Packet) { n++; done <- true })
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	take := func() *virtiotest.Chain {
		for {
			c.mu.Lock()
			if len(c.rx) > 0 {
				ch := c.rx[0]
				c.rx = c.rx[1:]
				c.mu.Unlock()
				return ch
			}
			c.mu.Unlock()
			time.Sleep(time.Millisecond)
		}
	}
	for _, short := range []uint32{0, 5, 11} { // shorter than the header
		ch := take()
		ch.Put(0, make([]byte, 12))
		ch.Complete(short)
	}
	ch := take()
	ch.Put(0, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0})
	ch.Complete(12) // header and nothing else
	c.inject(t, 12, append(make([]byte, 12), pattern(60)...))
	<-done
	if s := d.Stats(); n != 1 || s.RxDropped != 4 || d.dev.Err() != nil {
		t.Fatalf("%d received, %+v, %v", n, s, d.dev.Err())
	}
	// A packet that claims buffers which do not follow.
	ch = take()
	ch.Put(0, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1})
	ch.Complete(13)
	for i := 0; d.dev.Err() == nil; i++ {
		if i > 5000 {
			t.Fatal("the device got away with it")
		}
		time.Sleep(time.Millisecond)
	}
	if err := d.Send(&Packet{Slices: [][]byte{pattern(60)}}); !errors.Is(err, virtio.ErrDevice) {
		t.Error(err)
	}
}
