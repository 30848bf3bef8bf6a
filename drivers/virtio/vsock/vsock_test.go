package vsock

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

// host is the device's side: what the driver sent, and the buffers it lent.
type host struct {
	d   *virtiotest.Device
	dev *Device

	mu     sync.Mutex
	sent   [][]byte
	rx, ev []*virtiotest.Chain
	held   []*virtiotest.Chain // of tx, while hold
	hold   bool
}

func (h *host) handle(q int, c *virtiotest.Chain) (uint32, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch q {
	case queueRx:
		h.rx = append(h.rx, c)
		return 0, false
	case queueEvent:
		h.ev = append(h.ev, c)
		return 0, false
	}
	if h.hold {
		h.held = append(h.held, c)
		return 0, false
	}
	h.sent = append(h.sent, c.Bytes())
	return 0, true
}

// open makes a machine with the device; pci or an MMIO window.
func open(t *testing.T, feat uint64, pci bool) (*host, *Device) {
	t.Helper()
	m := fake.New(1024)
	h := &host{}
	cfg := make([]byte, 8)
	binary.LittleEndian.PutUint64(cfg, 42)
	h.d = &virtiotest.Device{M: m, Kind: virtio.TypeVsock, Feat: virtiotest.Version1 | feat, Config: cfg, Queues: 3, Handle: h.handle}
	var tr virtio.Transport
	var err error
	if pci {
		tr, err = openPCI(m, h.d)
	} else {
		h.d.MMIO(0xfeb00000, 5, 2)
		tr, err = virtio.OpenMMIO(m, 0xfeb00000, 0x200, 5, hal.GSILevel)
	}
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(m, tr, "virtio-vsock0", nil)
	if err != nil {
		t.Fatal(err)
	}
	h.dev = d
	t.Cleanup(func() { d.dev.Fail("the end of the test") })
	return h, d
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for i := 0; !ok(); i++ {
		if i > 5000 {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// give puts a packet into the next receive buffer.
func (h *host) give(t *testing.T, b []byte) {
	t.Helper()
	var c *virtiotest.Chain
	until(t, "a receive buffer", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.rx) == 0 {
			return false
		}
		c, h.rx = h.rx[0], h.rx[1:]
		return true
	})
	c.Complete(c.Put(0, b))
}

func (h *host) got() [][]byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sent
}

func packet(h Header, data string) []byte {
	b := make([]byte, HeaderSize, HeaderSize+len(data))
	if h.Len == 0 {
		h.Len = uint32(len(data))
	}
	h.Put(b)
	return append(b, data...)
}

func TestPacketsGoBothWays(t *testing.T) {
	for _, c := range []struct {
		name string
		feat uint64
		pci  bool
	}{
		{"mmio", 0, false},
		{"pci", featSeqpacket | featStream, true},
		{"indirect", virtiotest.Indirect, false},
		{"event index", virtiotest.Indirect | virtiotest.EventIdx, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, d := open(t, c.feat, c.pci)
			if d.CID() != 42 || d.Seqpacket() != (c.feat&featSeqpacket != 0) {
				t.Errorf("address %d, seqpacket %v", d.CID(), d.Seqpacket())
			}
			var mu sync.Mutex
			var in []string
			back := 0
			d.SetReceiver(func(hd *Header, data []byte) {
				mu.Lock()
				defer mu.Unlock()
				if hd.SrcCID != 2 || hd.DstPort != 7 || hd.Op != OpData {
					t.Errorf("%+v", hd)
				}
				in = append(in, string(data))
			})
			d.OnSent(func(*Packet) { mu.Lock(); back++; mu.Unlock() })
			if err := d.Start(); err != nil {
				t.Fatal(err)
			}
			const n = 200
			big := bytes.Repeat([]byte{9}, d.MaxData())
			for i := range n {
				p := &Packet{Header: Header{SrcCID: 42, SrcPort: uint32(i), Op: OpData}, Data: big[:i*len(big)/(n-1)]}
				if !d.Send(p) {
					t.Fatalf("packet %d was not taken", i)
				}
			}
			until(t, "all were sent", func() bool { return len(h.got()) == n })
			for i, b := range h.got() {
				var hd Header
				hd.Parse(b)
				if hd.SrcPort != uint32(i) || int(hd.Len) != len(b)-HeaderSize || int(hd.Len) != i*len(big)/(n-1) {
					t.Fatalf("packet %d: %+v, %d bytes", i, hd, len(b))
				}
			}
			until(t, "all came back", func() bool { mu.Lock(); defer mu.Unlock(); return back == n })
			for i := range n {
				h.give(t, packet(Header{SrcCID: 2, DstPort: 7, Op: OpData}, string(big[:i])))
			}
			until(t, "all were received", func() bool { mu.Lock(); defer mu.Unlock(); return len(in) == n })
			for i, s := range in {
				if len(s) != i {
					t.Errorf("packet %d has %d bytes", i, len(s))
				}
			}
		})
	}
}

func TestPacketsThatAreNoneAreDropped(t *testing.T) {
	h, d := open(t, 0, false)
	var mu sync.Mutex
	var in []Header
	d.SetReceiver(func(hd *Header, _ []byte) { mu.Lock(); in = append(in, *hd); mu.Unlock() })
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	h.give(t, nil)
	h.give(t, make([]byte, HeaderSize-1))
	h.give(t, packet(Header{Len: 11, Op: OpData}, "ten bytes!"))
	h.give(t, packet(Header{Len: 1 << 31, Op: OpData}, ""))
	h.give(t, packet(Header{Len: 3, Op: OpData}, "more than it says"))
	until(t, "one packet", func() bool { mu.Lock(); defer mu.Unlock(); return len(in) == 1 && in[0].Len == 3 })
	if err := d.dev.Err(); err != nil {
		t.Error(err)
	}
}

func TestAHostThatOnlyAsksIsNotHeardBeforeItListens(t *testing.T) {
	h, d := open(t, 0, false)
	h.hold = true
	var mu sync.Mutex
	asked := 0
	d.SetReceiver(func(*Header, []byte) {
		mu.Lock()
		asked++
		mu.Unlock()
		d.Send(&Packet{Header: Header{Op: OpReset}, Reply: true})
	})
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return asked }
	const all = maxReplies + txBuffers + rxBuffers
	go func() {
		for range all {
			h.give(t, packet(Header{Op: OpData}, ""))
		}
	}()
	until(t, "the answers fill the queue", func() bool { return count() >= maxReplies })
	time.Sleep(50 * time.Millisecond)
	if n := count(); n > maxReplies+txBuffers {
		t.Errorf("%d packets were heard while no answer was taken", n)
	}
	h.mu.Lock()
	h.hold = false
	held := h.held
	h.held = nil
	h.mu.Unlock()
	for _, c := range held {
		c.Complete(0)
	}
	until(t, "the rest is heard", func() bool { return count() == all })
}

func TestATransportResetBringsANewAddress(t *testing.T) {
	h, d := open(t, 0, true)
	reset := make(chan uint64, 4)
	d.OnReset(func(gone bool) {
		if gone {
			reset <- 0
			return
		}
		reset <- d.CID()
	})
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "event buffers", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.ev) == evBuffers })
	for i, id := range []uint32{7, eventReset} { // one that is not known, then the other
		h.d.ChangeConfig(func(c []byte) { c[0] = byte(50 + i) })
		h.mu.Lock()
		c := h.ev[i]
		h.mu.Unlock()
		c.Complete(c.Put(0, binary.LittleEndian.AppendUint32(nil, id)))
	}
	if cid := <-reset; cid != 51 {
		t.Errorf("the address %d", cid)
	}
	d.dev.Fail("a test")
	if cid := <-reset; cid != 0 {
		t.Errorf("the end was told as the address %d", cid)
	}
	if d.Send(&Packet{}) {
		t.Error("a failed device took a packet")
	}
}

func TestReservedAddressesAreRefused(t *testing.T) {
	for _, cid := range []uint64{3, 0, 1, 2, 1<<32 - 1, 1 << 32, 1<<64 - 1} {
		m := fake.New(256)
		h := &virtiotest.Hostile{M: m, Kind: virtio.TypeVsock, Feat: virtiotest.Version1}
		h.Answers = []byte{255, 0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0}
		h.Answers = binary.LittleEndian.AppendUint64(h.Answers, cid)
		if _, err := Open(m, h, "virtio-vsock0", nil); (cid == 3) != (err == nil) || cid != 3 && !errors.Is(err, virtio.ErrDevice) {
			t.Errorf("%d: %v", cid, err)
		}
	}
}
