package mm

import (
	"testing"
	"time"

	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
)

func TestBudgetGrowsWithFreeMemoryAndShrinksWithItsCharges(t *testing.T) {
	const pages = 32 << 20 >> hal.PageShift
	m := fake.New(pages)
	m.SetWatermarks(300, 200)
	mem := NewMemory(m)
	b := mem.Budget()
	first := b.Limit()
	if first != 4<<20 {
		t.Fatalf("a first limit of %d", first)
	}
	n := int64(0)
	for b.Charge(4096) {
		n++
	}
	if got := n * 4096; got != 16<<20 {
		t.Errorf("%d bytes charged of an empty machine's, want half of its 32 MiB", got)
	}
	if extra := m.HeapExtra.Load(); extra != uint64(16<<20-first)*3/2 {
		t.Errorf("the machine was told of %d bytes", extra)
	}
	if b.Refused() != 1 {
		t.Errorf("%d refused", b.Refused())
	}
	b.Uncharge(n * 4096)
	if b.Used() != 0 || b.Limit() != first || m.HeapExtra.Load() != 0 {
		t.Errorf("given back: %d used, limit %d, told of %d", b.Used(), b.Limit(), m.HeapExtra.Load())
	}

	// With the program's pages in the way only the first part is left.
	var frames []hal.PFN
	for m.FreePages() > 300 {
		f, err := m.AllocFrames(0, 0)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, f)
	}
	for n = 0; b.Charge(4096); n++ {
	}
	if n*4096 != first || m.HeapExtra.Load() != 0 {
		t.Errorf("%d bytes charged of a full machine's, want %d", n*4096, first)
	}
	// What is there already is counted, and nothing more is let in meanwhile.
	b.Force(1 << 20)
	b.Uncharge(1 << 19)
	if b.Charge(1) || b.Used() != first+1<<19 {
		t.Errorf("%d used over a limit of %d", b.Used(), b.Limit())
	}
	b.Force(-1 << 19)
	// Its end lets the budget grow again.
	for _, f := range frames {
		m.FreeFrames(f, 0)
	}
	if !b.Charge(1 << 20) {
		t.Error("refused although memory is free again")
	}
}

func TestBudgetThatIsShortHasTheCacheReclaimed(t *testing.T) {
	const pages = 32 << 20 >> hal.PageShift
	r := newRig(t, pages)
	r.m.SetWatermarks(300, 200)
	d := newDisk(r.m, pages)
	o := NewObject(r.mem, d, pages*pg)
	// The cache takes all but some pages.
	for i := 0; r.m.FreePages() > 600; i++ {
		r.read(o, int64(i)*pg, 1)
	}
	b := r.mem.Budget()
	n := int64(0)
	for end := time.Now().Add(10 * time.Second); n < 12<<20 && time.Now().Before(end); {
		if b.Charge(64 << 10) {
			n += 64 << 10
		} else {
			time.Sleep(time.Millisecond) // a peer tries again
		}
	}
	if n < 12<<20 {
		t.Errorf("%d bytes charged beside a cache that could go", n)
	}
	b.Uncharge(n)
	o.DecRef()
	r.close()
}
