package mm

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
	"kiln/kernel/wait"
)

const (
	rw    = hal.ProtRead | hal.ProtWrite
	fixed = unix.MAP_FIXED
	priv  = unix.MAP_PRIVATE
	anon  = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	pg    = hal.PageSize
)

// rig is a machine with memory, and checks that a test gives every frame back.
type rig struct {
	t     *testing.T
	m     *fake.Machine
	mem   *Memory
	start int
	used  int64
}

func newRig(t *testing.T, frames int) *rig {
	m := fake.New(frames)
	mem := NewMemory(m)
	r := &rig{t: t, m: m, mem: mem, start: m.FreePages(), used: mem.Budget().Used()}
	return r
}

// close fails the test if frames, budget or commit charge leaked.
func (r *rig) close() {
	r.t.Helper()
	// A read-ahead in the background may still hold its object.
	for i := 0; i < 200 && (r.m.FreePages() != r.start || r.mem.Budget().Used() != r.used); i++ {
		time.Sleep(5 * time.Millisecond)
	}
	if n := r.m.FreePages(); n != r.start {
		r.t.Errorf("leaked %d frames", r.start-n)
	}
	if n := r.mem.Budget().Used(); n != r.used {
		r.t.Errorf("leaked %d bytes of budget", n-r.used)
	}
	if n := r.mem.Committed(); n != 0 {
		r.t.Errorf("leaked %d pages of commit charge", n)
	}
	for k := KindAnon; k <= KindShmem; k++ {
		if n := r.mem.Count(k); n != 0 {
			r.t.Errorf("leaked %d frames of kind %d", n, k)
		}
	}
}

// settle waits until no read-ahead works on o, each of which holds a reference; refs is
// what o has without. Pages that are being read cannot be reclaimed.
func (r *rig) settle(o *Object, refs int64) {
	r.t.Helper()
	for i := 0; o.refs.Load() != refs; i++ {
		if i == 2000 {
			r.t.Fatal("read-ahead never ends")
		}
		time.Sleep(time.Millisecond)
	}
}

func (r *rig) space() *Space {
	r.t.Helper()
	s, err := NewSpace(r.mem)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *rig) mmap(s *Space, a MapArgs) hal.UserAddr {
	r.t.Helper()
	at, err := s.Mmap(nil, a)
	if err != nil {
		r.t.Fatalf("mmap %+v: %v", a, err)
	}
	return at
}

func (r *rig) put(s *Space, a hal.UserAddr, b ...byte) {
	r.t.Helper()
	if _, err := s.CopyOut(nil, a, b); err != nil {
		r.t.Fatalf("write at %#x: %v", a, err)
	}
}

func (r *rig) get(s *Space, a hal.UserAddr) byte {
	r.t.Helper()
	var b [1]byte
	if _, err := s.CopyIn(nil, b[:], a); err != nil {
		r.t.Fatalf("read at %#x: %v", a, err)
	}
	return b[0]
}

func (r *rig) want(s *Space, a hal.UserAddr, v byte) {
	r.t.Helper()
	if g := r.get(s, a); g != v {
		r.t.Errorf("at %#x: %d, want %d", a, g, v)
	}
}

// touch is a program's own access.
func touch(s *Space, a hal.UserAddr, access hal.Prot) error {
	for range 4 {
		if err := s.HandleFault(nil, a, access); err != nil {
			return err
		}
		if p, ok := s.HW.Query(a &^ hal.PageMask); ok && access&^p.Prot == 0 {
			return nil
		}
	}
	panic("fault is never resolved")
}

func (r *rig) wantFault(s *Space, a hal.UserAddr, access hal.Prot, sig unix.Signal, code int) {
	r.t.Helper()
	f, ok := touch(s, a, access).(*FaultError)
	if !ok || f.Signal != int(sig) || f.Code != code || f.Addr != a {
		r.t.Errorf("access %d at %#x: %+v, want signal %d code %d", access, a, f, sig, code)
	}
}

// disk is a Source in a byte slice. Reads can be held, fail, and are counted.
type disk struct {
	m     *fake.Machine
	mu    sync.Mutex
	data  []byte
	reads [][2]int64 // first page, count
	fail  error
	gate  chan struct{}
	ro    bool
}

func newDisk(m *fake.Machine, pages int) *disk {
	d := &disk{m: m, data: make([]byte, pages*pg)}
	for i := range pages {
		d.data[i*pg] = byte(i + 1)
	}
	return d
}

func (d *disk) ImageRun(int64, int) (hal.PFN, int) { return 0, 0 }

func (d *disk) ReadPages(_ wait.Context, idx int64, frames []hal.PFN) error {
	d.mu.Lock()
	d.reads = append(d.reads, [2]int64{idx, int64(len(frames))})
	gate, fail := d.gate, d.fail
	d.mu.Unlock()
	if gate != nil {
		<-gate
	}
	if fail != nil {
		return fail
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, f := range frames {
		b := d.m.Frame(f)
		n := copy(b, d.data[min(int(idx)+i, len(d.data)/pg)*pg:])
		clear(b[n:])
	}
	return nil
}

func (d *disk) WritePages(_ wait.Context, idx int64, frames []hal.PFN) error {
	if d.ro {
		return unix.EROFS
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, f := range frames {
		copy(d.data[(int(idx)+i)*pg:], d.m.Frame(f))
	}
	return nil
}

func (d *disk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.reads)
}

// image is a Source whose pages lie in frames already.
type image struct {
	first hal.PFN
	n     int64
}

func newImage(r *rig, pages int) *image {
	order := uint(0)
	for 1<<order < pages {
		order++
	}
	f, err := r.m.AllocFrames(order, hal.AllocZero)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := range pages {
		r.m.Frame(f + hal.PFN(i))[0] = byte(i + 1)
	}
	r.mem.MarkImage(f, pages)
	r.start -= 1 << order
	return &image{f, int64(pages)}
}

func (i *image) ImageRun(idx int64, most int) (hal.PFN, int) {
	return i.first + hal.PFN(idx), max(int(min(i.n-idx, int64(most))), 0)
}
func (i *image) ReadPages(wait.Context, int64, []hal.PFN) error  { return unix.EIO }
func (i *image) WritePages(wait.Context, int64, []hal.PFN) error { return unix.EROFS }

func (r *rig) write(o *Object, off int64, b ...byte) {
	r.t.Helper()
	q := KernelIO(b)
	if n, err := o.WriteAt(nil, &q, off); n != len(b) || err != nil {
		r.t.Fatalf("write: %d, %v", n, err)
	}
}

func (r *rig) read(o *Object, off int64, n int) []byte {
	r.t.Helper()
	b := make([]byte, n)
	q := KernelIO(b)
	m, err := o.ReadAt(nil, &q, off)
	if err != nil {
		r.t.Fatalf("read: %v", err)
	}
	return b[:m]
}

func (r *rig) wantRead(o *Object, off int64, b ...byte) {
	r.t.Helper()
	if g := r.read(o, off, len(b)); !bytes.Equal(g, b) {
		r.t.Errorf("read at %d: %v, want %v", off, g, b)
	}
}

// verify checks the treap: order, heap, parents, gaps, sizes.
func (s *Space) verify(t *testing.T) {
	t.Helper()
	n, total := 0, int64(0)
	var last uint64
	var walk func(v, parent *vma) uint64
	walk = func(v, parent *vma) uint64 {
		if v == nil {
			return 0
		}
		if v.parent != parent || parent != nil && parent.prio < v.prio {
			t.Fatalf("bad link or heap at %#x", v.start)
		}
		m := walk(v.left, v)
		if v.start < last || v.end <= v.start {
			t.Fatalf("bad order at %#x", v.start)
		}
		gap := uint64(0)
		if e := v.lowEdge(); e > last {
			gap = e - last
		}
		if v.gap != gap {
			t.Fatalf("gap at %#x: %#x, want %#x", v.start, v.gap, gap)
		}
		last = v.end
		n++
		total += v.pages()
		m = max(m, gap, walk(v.right, v))
		if v.maxGap != m {
			t.Fatalf("maxGap at %#x: %#x, want %#x", v.start, v.maxGap, m)
		}
		return m
	}
	walk(s.vmas.root, nil)
	if n != s.vmas.n || total != s.total {
		t.Fatalf("%d mappings of %d pages, counted %d of %d", n, total, s.vmas.n, s.total)
	}
	if got := int64(s.HW.(*fake.AddressSpace).Pages()); got < s.rss.Load() {
		t.Fatalf("%d pages present, rss %d", got, s.rss.Load())
	}
}
