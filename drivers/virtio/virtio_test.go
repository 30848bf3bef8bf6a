package virtio_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"kiln/drivers/pci"
	"kiln/drivers/virtio"
	"kiln/drivers/virtio/virtiotest"
	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
	"kiln/kernel/timer"
)

const (
	base = 0xfeb00e00
	gsi  = 23
)

// echo is an entropy-like device: it writes the request's readable bytes back.
func echo(_ int, c *virtiotest.Chain) (uint32, bool) { return c.Put(0, c.Bytes()), true }

type rig struct {
	m   *fake.Machine
	dev *virtio.Device
	q   *virtio.Queue
	mod *virtiotest.Device
	irq chan struct{}
	buf *hal.DMA
}

// how describes one way to reach the model.
type how struct {
	name    string
	version uint32 // of MMIO; 0: PCI
	vectors int
	feat    uint64
}

var ways = []how{
	{"mmio2", 2, 0, virtiotest.Version1},
	{"mmio2-event", 2, 0, virtiotest.Version1 | virtiotest.EventIdx},
	{"mmio2-event-indirect", 2, 0, virtiotest.Version1 | virtiotest.EventIdx | virtiotest.Indirect},
	{"mmio1-event-indirect", 1, 0, virtiotest.EventIdx | virtiotest.Indirect},
	{"mmio1", 1, 0, 0},
	{"pci-msix", 0, 4, virtiotest.Version1 | virtiotest.EventIdx | virtiotest.Indirect},
	{"pci-2vectors", 0, 2, virtiotest.Version1 | virtiotest.Indirect},
	{"pci-1vector", 0, 1, virtiotest.Version1},
	{"pci-intx", 0, 0, virtiotest.Version1 | virtiotest.EventIdx},
}

func open(t testing.TB, w how, m *fake.Machine, mod *virtiotest.Device) virtio.Transport {
	t.Helper()
	mod.M, mod.Feat = m, mod.Feat|w.feat
	var tr virtio.Transport
	var err error
	if w.version > 0 {
		mod.MMIO(base, gsi, w.version)
		tr, err = virtio.OpenMMIO(m, base, 0x200, gsi, hal.GSILevel)
	} else {
		mod.PCI(virtiotest.NewHost(m), 3, 0xfe000000, w.vectors, 11)
		fs := pci.New(m, nil).Scan()
		if len(fs) != 1 {
			t.Fatalf("scan found %d functions", len(fs))
		}
		tr, err = virtio.OpenPCI(fs[0])
	}
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func newRig(t testing.TB, w how, mod *virtiotest.Device, c virtio.QueueConfig) *rig {
	t.Helper()
	r := &rig{m: fake.New(256), mod: mod, irq: make(chan struct{}, 1)}
	mod.Kind = 4
	if mod.Queues == 0 {
		mod.Queues = 1
	}
	if mod.Handle == nil {
		mod.Handle = echo
	}
	tr := open(t, w, r.m, mod)
	var err error
	if r.dev, err = virtio.NewDevice(r.m, tr, "test"); err != nil {
		t.Fatal(err)
	}
	if err = r.dev.Negotiate(0); err != nil {
		t.Fatal(err)
	}
	wake := func() {
		select {
		case r.irq <- struct{}{}:
		default:
		}
	}
	if err = tr.Connect("test", nil, []func(){wake}); err != nil {
		t.Fatal(err)
	}
	if r.q, err = r.dev.NewQueue(0, c); err != nil {
		t.Fatal(err)
	}
	if r.buf, err = hal.NewDMA(r.m, 4); err != nil {
		t.Fatal(err)
	}
	r.dev.OnError(wake)
	if err = r.dev.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

// wait is how a driver waits for its device.
func (r *rig) wait(t testing.TB) {
	t.Helper()
	select {
	case <-r.irq:
	case <-time.After(10 * time.Second):
		t.Fatal("no interrupt in 10 s")
	}
}

func TestEveryRequestComesBackOnEveryTransport(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			r := newRig(t, w, &virtiotest.Device{MaxSize: 16}, virtio.QueueConfig{MaxSegs: 4, Tables: 4})
			if got, want := r.mod.DriverFeatures()&^virtio.FeaturePlatform, w.feat; got != want {
				t.Fatalf("negotiated %#x, want %#x", got, want)
			}
			// Enough requests to wrap a 16-bit index would be slow; the ring
			// wraps many times here, the index in the test below.
			const total = 3000
			sent, got := 0, 0
			for got < total {
				for sent < total && sent-got < 8 {
					at := sent % 8 * 256
					binary.LittleEndian.PutUint64(r.buf.Bytes[at:], uint64(sent))
					segs := []virtio.Seg{
						{Addr: r.buf.Addr + hal.PhysAddr(at), Len: 4}, {Addr: r.buf.Addr + hal.PhysAddr(at+4), Len: 4},
						{Addr: r.buf.Addr + hal.PhysAddr(at+128), Len: 5}, {Addr: r.buf.Addr + hal.PhysAddr(at+192), Len: 100},
					}
					if err := r.q.Add(segs, 2, sent); errors.Is(err, virtio.ErrFull) {
						break
					} else if err != nil {
						t.Fatal(err)
					}
					sent++
				}
				r.q.Kick()
				for !r.q.Listen(1) {
					r.wait(t)
				}
				for {
					tok, n, ok := r.q.Pop()
					if !ok {
						break
					}
					at := tok.(int) % 8 * 256
					b := append(bytes.Clone(r.buf.Bytes[at+128:at+133]), r.buf.Bytes[at+192:at+195]...)
					if n != 8 || binary.LittleEndian.Uint64(b) != uint64(tok.(int)) {
						t.Fatalf("request %v: %d bytes, % x", tok, n, b)
					}
					got++
				}
				if err := r.dev.Err(); err != nil {
					t.Fatal(err)
				}
			}
			if r.q.InFlight() != 0 {
				t.Errorf("%d in flight", r.q.InFlight())
			}
		})
	}
}

func TestRingIndicesWrap(t *testing.T) {
	for _, w := range ways[:2] {
		r := newRig(t, w, &virtiotest.Device{MaxSize: 4}, virtio.QueueConfig{})
		seg := []virtio.Seg{{Addr: r.buf.Addr, Len: 8}}
		for i := 0; i < 70000; i++ {
			if err := r.q.Add(seg, 0, i); err != nil {
				t.Fatal(i, err)
			}
			r.q.Kick()
			for !r.q.Listen(1) {
				r.wait(t)
			}
			if tok, _, ok := r.q.Pop(); !ok || tok != i {
				t.Fatal(i, tok, ok, r.dev.Err())
			}
		}
	}
}

func TestEventIndexSavesNotifications(t *testing.T) {
	counts := map[bool]int{}
	for _, event := range []bool{false, true} {
		feat := uint64(virtiotest.Version1)
		if event {
			feat |= virtiotest.EventIdx
		}
		hold := make(chan struct{})
		mod := &virtiotest.Device{Handle: func(_ int, c *virtiotest.Chain) (uint32, bool) { <-hold; return 0, true }}
		r := newRig(t, how{"", 2, 0, feat}, mod, virtio.QueueConfig{})
		for i := 0; i < 20; i++ {
			if err := r.q.Add([]virtio.Seg{{Addr: r.buf.Addr, Len: 1}}, 1, i); err != nil {
				t.Fatal(err)
			}
			r.q.Kick()
		}
		close(hold)
		counts[event], _ = mod.Counts()
	}
	if counts[false] != 20 || counts[true] >= 5 {
		t.Errorf("notifications without and with event index: %v", counts)
	}
}

func TestLostInterruptIsFoundByTheWatchdog(t *testing.T) {
	for _, w := range []how{ways[0], ways[1], ways[5]} {
		mod := &virtiotest.Device{DropIRQ: func(int) bool { return true }}
		r := newRig(t, w, mod, virtio.QueueConfig{})
		var mu sync.Mutex
		var log []string
		dog := virtio.NewWatchdog(timer.NewQueue(r.m), func(f string, a ...any) {
			mu.Lock()
			log = append(log, fmt.Sprintf(f, a...))
			mu.Unlock()
		})
		dog.Watch(r.q, func() { r.irq <- struct{}{} })
		r.q.Listen(1)
		r.q.Add([]virtio.Seg{{Addr: r.buf.Addr, Len: 8}}, 0, "x")
		r.q.Kick()
		for !r.q.Pending() {
			time.Sleep(time.Millisecond)
		}
		r.m.Advance(1500 * time.Millisecond)
		select {
		case <-r.irq:
		default:
			t.Fatal("the watchdog did not wake the driver")
		}
		if tok, _, ok := r.q.Pop(); !ok || tok != "x" {
			t.Fatal(tok, ok)
		}
		if r.dev.Rescues() != 1 || len(log) != 1 {
			t.Errorf("%d rescues, log %q", r.dev.Rescues(), log)
		}
	}
}

func TestLostNotificationIsRepeatedByTheWatchdog(t *testing.T) {
	n := 0
	mod := &virtiotest.Device{DropNotify: func(int) bool { n++; return n == 1 }}
	r := newRig(t, ways[1], mod, virtio.QueueConfig{})
	dog := virtio.NewWatchdog(timer.NewQueue(r.m), nil)
	dog.Watch(r.q, func() {})
	r.q.Listen(1)
	r.q.Add([]virtio.Seg{{Addr: r.buf.Addr, Len: 8}}, 0, "x")
	r.q.Kick()
	r.m.Advance(15 * time.Second)
	r.wait(t)
	if _, _, ok := r.q.Pop(); !ok {
		t.Fatal("nothing came back")
	}
	// An idle queue is left alone: one look every ten seconds and no register.
	before, _ := mod.Counts()
	r.m.Advance(time.Hour)
	if after, _ := mod.Counts(); after != before {
		t.Errorf("%d notifications in an idle hour", after-before)
	}
}

func TestAHostileDeviceFailsAndHarmsNothing(t *testing.T) {
	for name, attack := range map[string]func(mod *virtiotest.Device, r *rig){
		"id beyond the queue": func(mod *virtiotest.Device, r *rig) {
			mod.OnUsed = func(int, uint32, uint32) (uint32, uint32) { return 1 << 20, 0 }
		},
		"id that it does not have": func(mod *virtiotest.Device, r *rig) {
			mod.OnUsed = func(_ int, id, n uint32) (uint32, uint32) { return id ^ 3, n }
		},
		"length beyond the buffer": func(mod *virtiotest.Device, r *rig) {
			mod.OnUsed = func(_ int, id, n uint32) (uint32, uint32) { return id, 1 << 31 }
		},
		"used index far ahead": func(mod *virtiotest.Device, r *rig) {
			mod.Handle = func(q int, c *virtiotest.Chain) (uint32, bool) { go mod.UsedIndex(0, 0x8000); return 0, false }
		},
	} {
		t.Run(name, func(t *testing.T) {
			mod := &virtiotest.Device{}
			r := newRig(t, ways[1], mod, virtio.QueueConfig{})
			attack(mod, r)
			r.q.Listen(1)
			for i := 0; i < 2; i++ {
				if err := r.q.Add([]virtio.Seg{{Addr: r.buf.Addr, Len: 8}}, 0, i); err != nil {
					t.Fatal(err)
				}
			}
			r.q.Kick()
			r.wait(t)
			for r.dev.Err() == nil {
				if _, _, ok := r.q.Pop(); !ok && r.dev.Err() == nil {
					t.Fatal("the device got away with it")
				}
			}
			if !errors.Is(r.dev.Err(), virtio.ErrDevice) || mod.Status() != 0 {
				t.Errorf("%v, status %#x", r.dev.Err(), mod.Status())
			}
			if err := r.q.Add([]virtio.Seg{{Addr: r.buf.Addr, Len: 8}}, 0, 9); !errors.Is(err, virtio.ErrDevice) {
				t.Error("Add after failure:", err)
			}
			if _, _, ok := r.q.Pop(); ok {
				t.Error("Pop after failure")
			}
			n := r.q.InFlight()
			r.q.Drain(func(any) { n-- })
			if n != 0 || r.q.InFlight() != 0 {
				t.Error("requests lost in Drain")
			}
		})
	}
}

func TestAPlaceholderIsNoDevice(t *testing.T) {
	m := fake.New(16)
	if _, err := virtio.OpenMMIO(m, base, 0x200, gsi, 0); !errors.Is(err, virtio.ErrNoDevice) {
		t.Error("nothing there:", err)
	}
	(&virtiotest.Device{M: m, Kind: 0}).MMIO(base, gsi, 1)
	if _, err := virtio.OpenMMIO(m, base, 0x200, gsi, 0); !errors.Is(err, virtio.ErrNoDevice) {
		t.Error("placeholder:", err)
	}
}

func TestFullQueueSaysSoAndLosesNothing(t *testing.T) {
	var mu sync.Mutex
	var held []*virtiotest.Chain
	mod := &virtiotest.Device{MaxSize: 8, Handle: func(_ int, c *virtiotest.Chain) (uint32, bool) {
		mu.Lock()
		held = append(held, c)
		mu.Unlock()
		return 0, false
	}}
	r := newRig(t, ways[0], mod, virtio.QueueConfig{})
	n := 0
	for r.q.Add([]virtio.Seg{{Addr: r.buf.Addr, Len: 8}, {Addr: r.buf.Addr + 8, Len: 8}}, 1, n+1) == nil {
		n++
	}
	if n != 4 || r.q.Room(1) {
		t.Fatalf("%d chains of two in 8 descriptors", n)
	}
	r.q.Kick()
	for {
		mu.Lock()
		k := len(held)
		mu.Unlock()
		if k == n {
			break
		}
		time.Sleep(time.Millisecond)
	}
	// Out of order, as devices may (2.7.8).
	for i := len(held) - 1; i >= 0; i-- {
		held[i].Complete(1)
	}
	seen := map[any]bool{}
	for {
		tok, _, ok := r.q.Pop()
		if !ok {
			break
		}
		seen[tok] = true
	}
	if len(seen) != n || !r.q.Room(8) {
		t.Errorf("%d came back, room %v", len(seen), r.q.Room(8))
	}
}
