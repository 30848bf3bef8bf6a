package blk

import (
	"bytes"
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/drivers/virtio"
	"kiln/drivers/virtio/virtiotest"
	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
	"kiln/kernel/wait"
)

// model is a disk behind the register model.
type model struct {
	*virtiotest.Device
	mu       sync.Mutex
	data     []byte
	requests int
	flushes  int
	bad      func(sector uint64) uint8
}

func newDisk(t testing.TB, size int, feat uint64, version uint32) (*fake.Machine, *model, *Disk) {
	t.Helper()
	m := fake.New(512)
	d := &model{data: make([]byte, size)}
	for i := range d.data {
		d.data[i] = byte(i>>9) ^ byte(i)
	}
	cfg := make([]byte, 64)
	binary.LittleEndian.PutUint64(cfg, uint64(size)>>9)
	binary.LittleEndian.PutUint32(cfg[12:], 4) // seg_max
	d.Device = &virtiotest.Device{M: m, Kind: 2, Feat: feat, Config: cfg, Queues: 1, Handle: d.handle}
	d.MMIO(0xfeb00000, 5, version)
	tr, err := virtio.OpenMMIO(m, 0xfeb00000, 0x200, 5, hal.GSILevel)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := Open(m, tr, "virtio-blk0", nil)
	if err != nil {
		t.Fatal(err)
	}
	return m, d, disk
}

func (d *model) handle(_ int, c *virtiotest.Chain) (uint32, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.requests++
	h := c.Bytes()
	kind, at := binary.LittleEndian.Uint32(h), binary.LittleEndian.Uint64(h[8:])<<9
	n, status := uint32(0), uint8(0)
	switch kind {
	case 0:
		if want := c.InLen() - 1; at+uint64(want) <= uint64(len(d.data)) {
			n = c.Put(0, d.data[at:at+uint64(want)])
		} else {
			status = 1
		}
	case 1:
		if at+uint64(len(h)-16) <= uint64(len(d.data)) {
			copy(d.data[at:], h[16:])
		} else {
			status = 1
		}
	case 4:
		d.flushes++
	case 8:
		n = c.Put(0, append([]byte("kiln-root"), make([]byte, 11)...))
	default:
		status = 2
	}
	if d.bad != nil {
		status |= d.bad(at >> 9)
	}
	n += c.Put(c.InLen()-1, []byte{status})
	return n, true
}

const allFeat = 1<<2 | 1<<6 | 1<<9 | virtiotest.Version1 | virtiotest.EventIdx | virtiotest.Indirect

func frames(t testing.TB, m *fake.Machine, n int) (out []hal.PFN) {
	for range n {
		f, err := m.AllocFrames(0, 0)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

func TestPagesMoveBetweenDiskAndFrames(t *testing.T) {
	for _, v := range []struct {
		version uint32
		feat    uint64
	}{{2, allFeat}, {2, virtiotest.Version1}, {1, allFeat &^ virtiotest.Version1}, {1, 0}} {
		m, d, disk := newDisk(t, 64*4096, v.feat, v.version)
		if disk.Serial() != "kiln-root" || disk.Size() != 64*4096 {
			t.Fatalf("serial %q, size %d", disk.Serial(), disk.Size())
		}
		fs := frames(t, m, 30)
		fs[3], fs[7] = fs[7], fs[3] // some adjacent, some not
		if err := disk.ReadFrames(wait.Background(), 8*4096, fs); err != nil {
			t.Fatal(err)
		}
		for i, f := range fs {
			if !bytes.Equal(m.Frame(f), d.data[(8+i)*4096:][:4096]) {
				t.Fatalf("page %d differs", i)
			}
		}
		for _, f := range fs {
			for i := range m.Frame(f) {
				m.Frame(f)[i] = byte(f) + byte(i)
			}
		}
		if err := disk.WriteFrames(nil, 30*4096, fs); err != nil {
			t.Fatal(err)
		}
		if err := disk.Flush(nil); err != nil {
			t.Fatal(err)
		}
		for i, f := range fs {
			if !bytes.Equal(m.Frame(f), d.data[(30+i)*4096:][:4096]) {
				t.Fatalf("written page %d differs", i)
			}
		}
		if want := int(v.feat >> 9 & 1); d.flushes != want {
			t.Errorf("%d flushes reached the device, want %d", d.flushes, want)
		}
	}
}

func TestManyCallersAtOnce(t *testing.T) {
	m, d, disk := newDisk(t, 256*4096, allFeat, 2)
	var wg sync.WaitGroup
	for g := range 16 {
		fs := frames(t, m, 8)
		wg.Go(func() {
			c := wait.Background()
			for i := range 200 {
				at := (g*37 + i*11) % 240
				if err := disk.ReadFrames(c, int64(at)*4096, fs); err != nil {
					t.Error(err)
					return
				}
				for k, f := range fs {
					if !bytes.Equal(m.Frame(f)[:64], d.data[(at+k)*4096:][:64]) {
						t.Errorf("caller %d: page %d differs", g, at+k)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestTheLastPageMayBeShort(t *testing.T) {
	m, d, disk := newDisk(t, 2*4096+1024, allFeat, 2)
	fs := frames(t, m, 2)
	if err := disk.ReadFrames(nil, 4096, fs); err != nil {
		t.Fatal(err)
	}
	want := append(bytes.Clone(d.data[2*4096:]), make([]byte, 3072)...)
	if !bytes.Equal(m.Frame(fs[1]), want) {
		t.Error("the tail is not the disk's bytes and zeros")
	}
	if err := disk.ReadFrames(nil, 2*4096, fs); err != unix.EIO {
		t.Error("a page beyond the end:", err)
	}
	if err := disk.ReadFrames(nil, 100, fs); err != unix.EINVAL {
		t.Error("unaligned:", err)
	}
	if err := disk.WriteFrames(nil, 8192, fs[:1]); err != nil {
		t.Error("short last page:", err)
	}
}

func TestErrorsReachTheCaller(t *testing.T) {
	m, d, disk := newDisk(t, 64*4096, allFeat, 2)
	fs := frames(t, m, 20)
	d.mu.Lock()
	d.bad = func(s uint64) uint8 {
		if s == 8*8 {
			return 1
		}
		return 0
	}
	d.mu.Unlock()
	if err := disk.ReadFrames(nil, 0, fs); err != nil && err != unix.EIO {
		t.Error(err)
	} else if err == nil {
		// Adjacent frames make one segment, so the bad sector must begin a
		// request: read from there.
		if err := disk.ReadFrames(nil, 8*4096, fs); err != unix.EIO {
			t.Error("bad sector:", err)
		}
	}
	_, _, ro := newDisk(t, 4096, allFeat|1<<5, 2)
	if err := ro.WriteFrames(nil, 0, []hal.PFN{300}); err != unix.EROFS {
		t.Error("write to a read-only disk:", err)
	}
}

func TestAFailedDeviceReleasesItsCallers(t *testing.T) {
	m, d, disk := newDisk(t, 64*4096, allFeat, 2)
	d.Handle = func(int, *virtiotest.Chain) (uint32, bool) { return 0, false }
	done := make(chan error, 80)
	for range 80 { // more than there are slots
		go func() { done <- disk.ReadFrames(wait.Background(), 0, []hal.PFN{260}) }()
	}
	for disk.q.InFlight() < 60 {
		time.Sleep(time.Millisecond)
	}
	_ = m
	disk.dev.Fail("test")
	for range 80 {
		select {
		case err := <-done:
			if err != unix.EIO {
				t.Fatal(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("a caller is stuck")
		}
	}
	if err := disk.Flush(nil); err != unix.EIO {
		t.Error(err)
	}
}
