package paging

import (
	"math/rand"
	"sync"
	"sync/atomic"
	"testing"

	"kiln/kernel/hal"
)

type fakeTables struct {
	next    uint64
	limit   int
	m       map[uint64]*Table
	lookups int
}

func (f *fakeTables) Alloc() (uint64, error) {
	if f.limit > 0 && len(f.m) >= f.limit {
		return 0, hal.ErrNoMemory
	}
	f.next += hal.PageSize
	f.m[f.next] = new(Table)
	return f.next, nil
}

func (f *fakeTables) Free(pa uint64) {
	if f.m[pa] == nil {
		panic("freed twice")
	}
	delete(f.m, pa)
}

func (f *fakeTables) Table(pa uint64) *Table {
	f.lookups++
	t := f.m[pa]
	if t == nil {
		panic("no such table")
	}
	return t
}

// tlb remembers what a CPU could have cached, to see that nothing stale is used.
type tlb struct{ flushed map[hal.UserAddr]bool }

func (t *tlb) Flush(a hal.UserAddr, pages int, _ bool) {
	for i := range min(pages, 1<<16) {
		t.flushed[a+hal.UserAddr(i)<<hal.PageShift] = true
	}
}

func newSpace(t *testing.T, limit int) (*Space, *fakeTables, *tlb) {
	t.Helper()
	ft := &fakeTables{m: map[uint64]*Table{}, limit: limit}
	root, _ := ft.Alloc()
	fl := &tlb{map[hal.UserAddr]bool{}}
	s := new(Space)
	s.Init(ft, fl, root)
	return s, ft, fl
}

func TestRandomOperationsAgreeWithAModel(t *testing.T) {
	s, ft, fl := newSpace(t, 0)
	type page struct {
		f hal.PFN
		p hal.Prot
	}
	model := map[hal.UserAddr]page{}
	upgrades := 0
	r := rand.New(rand.NewSource(1))
	bases := []hal.UserAddr{0x1000, 0x400000, 0x7ffff0000000, hal.UserTop - 0x200000, 0x1ff000}
	for range 20000 {
		a := bases[r.Intn(len(bases))] + hal.UserAddr(r.Intn(400))<<hal.PageShift
		n := 1 + r.Intn(40)
		if a+hal.UserAddr(n)<<hal.PageShift > hal.UserTop {
			continue
		}
		clear(fl.flushed)
		switch r.Intn(4) {
		case 0:
			f, p := hal.PFN(r.Intn(1<<20)+1), hal.Prot(r.Intn(8))
			if p == hal.ProtWrite || p == hal.ProtExec|hal.ProtWrite {
				p |= hal.ProtRead
			}
			for i := range n {
				pa := a + hal.UserAddr(i)<<hal.PageShift
				model[pa] = page{f + hal.PFN(i), p}
			}
			if err := s.Map([]hal.Mapping{{Addr: a, Frame: f, Pages: n, Prot: p}}); err != nil {
				t.Fatal(err)
			}
		case 1:
			p := []hal.Prot{0, 1, 3, 5, 7}[r.Intn(5)]
			s.Protect(a, uint64(n)<<hal.PageShift, p)
			for i := range n {
				pa := a + hal.UserAddr(i)<<hal.PageShift
				if old, ok := model[pa]; ok {
					if old.p&^p != 0 && !fl.flushed[pa] {
						t.Fatalf("Protect left %#x in the TLB", pa)
					}
					if old.p&^p == 0 && old.p != 0 {
						upgrades++
						if n == 1 && fl.flushed[pa] {
							t.Fatalf("Protect flushed %#x, which only got permissions", pa)
						}
					}
					model[pa] = page{old.f, p}
				}
			}
		case 2:
			last := hal.UserAddr(0)
			s.Unmap(a, uint64(n)<<hal.PageShift, func(pa hal.UserAddr, pte hal.PTE) {
				want, ok := model[pa]
				if !ok || want.f != pte.Frame || want.p != pte.Prot || pa <= last && last != 0 {
					t.Fatalf("Unmap reported %#x %+v, model %+v %v", pa, pte, want, ok)
				}
				if want.p != 0 && !fl.flushed[pa] {
					t.Fatalf("Unmap reported %#x before the flush", pa)
				}
				last = pa
				delete(model, pa)
			})
			for i := range n {
				if _, ok := model[a+hal.UserAddr(i)<<hal.PageShift]; ok {
					t.Fatal("Unmap missed a page")
				}
			}
		case 3:
			pte, ok := s.Query(a)
			want, mok := model[a]
			if ok != mok || ok && (pte.Frame != want.f || pte.Prot != want.p) {
				t.Fatalf("Query %#x: %+v %v, model %+v %v", a, pte, ok, want, mok)
			}
		}
	}
	if upgrades == 0 {
		t.Error("no upgrade was tried")
	}
	seen := 0
	s.Walk(0, uint64(hal.UserTop), true, func(hal.UserAddr, hal.PTE) { seen++ })
	if seen != len(model) {
		t.Fatalf("Walk saw %d pages of %d", seen, len(model))
	}
	s.Unmap(0, uint64(hal.UserTop), nil)
	if len(ft.m) != 1 {
		t.Fatalf("%d tables left after everything was unmapped", len(ft.m)-1)
	}
}

func TestNoMemoryForTablesIsAnErrorAndLeaksNothing(t *testing.T) {
	s, ft, _ := newSpace(t, 4)
	if err := s.Map([]hal.Mapping{{Addr: 0x400000, Frame: 1, Pages: 1, Prot: 1}}); err != nil {
		t.Fatal(err)
	}
	err := s.Map([]hal.Mapping{{Addr: 0x7f0000000000, Frame: 1, Pages: 1, Prot: 1}})
	if err != hal.ErrNoMemory {
		t.Fatalf("got %v", err)
	}
	s.Unmap(0, uint64(hal.UserTop), nil)
	s.Destroy()
	if len(ft.m) != 1 {
		t.Fatalf("%d tables left", len(ft.m)-1)
	}
}

func TestMapRefusesTheKernelHalf(t *testing.T) {
	s, _, _ := newSpace(t, 0)
	for _, a := range []hal.UserAddr{hal.UserTop, 0xffff800000000000, 0x7fffffffe000, 0x1001} {
		if err := s.Map([]hal.Mapping{{Addr: a, Frame: 1, Pages: 2, Prot: 1}}); err != hal.ErrBadAddress {
			t.Errorf("Map at %#x: %v", a, err)
		}
	}
}

func TestTablesGoWithTheirLastPage(t *testing.T) {
	s, ft, _ := newSpace(t, 0)
	for _, a := range []hal.UserAddr{0x1000, 0x200000, 0x40000000, 0x8000000000, 0x7fffffffe000} {
		if err := s.Map([]hal.Mapping{{Addr: a, Frame: 5, Pages: 1, Prot: 3}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []hal.UserAddr{0x200000, 0x8000000000, 0x7fffffffe000, 0x40000000, 0x1000} {
		s.Unmap(a, hal.PageSize, nil)
	}
	if len(ft.m) != 1 {
		t.Fatalf("%d tables left", len(ft.m)-1)
	}
}

// Sparse pages are the worst case of a teardown: one table each.
func TestTeardownOfSparsePagesIsLinear(t *testing.T) {
	s, ft, _ := newSpace(t, 0)
	const n = 4000
	for i := range n {
		if err := s.Map([]hal.Mapping{{Addr: hal.UserAddr(i) << 22, Frame: 5, Pages: 1, Prot: 3}}); err != nil {
			t.Fatal(err)
		}
	}
	lookups := ft.lookups
	got := 0
	s.Unmap(0, uint64(hal.UserTop), func(hal.UserAddr, hal.PTE) { got++ })
	if got != n || len(ft.m) != 1 {
		t.Fatalf("%d pages reported, %d tables left", got, len(ft.m)-1)
	}
	if per := (ft.lookups - lookups) / n; per > 40 {
		t.Fatalf("%d table look-ups a page", per)
	}
}

// A look-up that finds nothing must not spoil the remembered path.
func TestAMissKeepsTheCountsRight(t *testing.T) {
	s, ft, _ := newSpace(t, 0)
	if err := s.Map([]hal.Mapping{{Addr: 0x400000, Frame: 1, Pages: 2, Prot: 3}}); err != nil {
		t.Fatal(err)
	}
	s.Query(0x7f0000000000)
	s.Query(0x7f40000000)
	s.Query(0x50000000)
	s.Unmap(0x400000, hal.PageSize, nil)
	if _, ok := s.Query(0x401000); !ok {
		t.Fatal("the second page is gone")
	}
	s.Unmap(0x401000, hal.PageSize, nil)
	if len(ft.m) != 1 {
		t.Fatalf("%d tables left", len(ft.m)-1)
	}
}

func TestCallbacksMayUseTheSpace(t *testing.T) {
	s, _, _ := newSpace(t, 0)
	if err := s.Map([]hal.Mapping{{Addr: 0x400000, Frame: 1, Pages: 100, Prot: 3}}); err != nil {
		t.Fatal(err)
	}
	s.Walk(0, uint64(hal.UserTop), false, func(a hal.UserAddr, _ hal.PTE) {
		s.Unmap(a, uint64(hal.UserTop-a), func(a hal.UserAddr, _ hal.PTE) { s.Query(a) })
	})
}

// Fork against a model: what keep accepts is in the child, without write permission in
// either space, flushed in the parent, and nothing else.
func TestForkSharesWhatIsKept(t *testing.T) {
	r := rand.New(rand.NewSource(2))
	for range 300 {
		s, ft, fl := newSpace(t, 0)
		root, _ := ft.Alloc()
		c := new(Space)
		c.Init(ft, fl, root)
		model := map[hal.UserAddr]hal.PTE{}
		base := hal.UserAddr(0x40000000)
		const span = 3 * 512
		for range r.Intn(60) {
			a, n, f := base+hal.UserAddr(r.Intn(span))<<hal.PageShift, 1+r.Intn(30), hal.PFN(1+r.Intn(1<<20))
			p := []hal.Prot{0, 1, 3, 5, 7}[r.Intn(5)]
			if err := s.Map([]hal.Mapping{{Addr: a, Frame: f, Pages: n, Prot: p}}); err != nil {
				t.Fatal(err)
			}
			for i := range n {
				model[a+hal.UserAddr(i)<<hal.PageShift] = hal.PTE{Frame: f + hal.PFN(i), Prot: p}
			}
		}
		lo := base + hal.UserAddr(r.Intn(span))<<hal.PageShift
		hi := lo + hal.UserAddr(r.Intn(span))<<hal.PageShift
		kept := func(f hal.PFN) bool { return f%3 != 0 }
		clear(fl.flushed)
		mid := lo + hal.UserAddr(r.Intn(span))<<hal.PageShift
		mid = min(mid, hi)
		for _, part := range [][2]hal.UserAddr{{lo, mid}, {mid, hi}} {
			if err := s.Fork(c, part[0], uint64(part[1]-part[0]), kept); err != nil {
				t.Fatal(err)
			}
		}
		if len(fl.flushed) != 0 {
			t.Fatal("flushed before the end of the fork")
		}
		s.Settle()
		for a := base; a < base+(span+64)<<hal.PageShift; a += hal.PageSize {
			want, had := model[a]
			shared := had && a >= lo && a < hi && kept(want.Frame)
			if shared {
				if want.Prot&hal.ProtWrite != 0 && !fl.flushed[a] {
					t.Fatalf("%#x can still be written through the TLB", a)
				}
				want.Prot &^= hal.ProtWrite
			}
			if got, ok := s.Query(a); ok != had || got.Frame != want.Frame || got.Prot != want.Prot {
				t.Fatalf("parent at %#x: %+v %v, want %+v %v", a, got, ok, want, had)
			}
			got, ok := c.Query(a)
			if ok != shared || ok && (got.Frame != want.Frame || got.Prot != want.Prot || got.Dirty) {
				t.Fatalf("child at %#x: %+v %v, want %+v %v", a, got, ok, want, shared)
			}
		}
		for a := base; a < base+span<<hal.PageShift; a += 50 << hal.PageShift {
			mask := uint64(0)
			for i := range 50 {
				if _, ok := model[a+hal.UserAddr(i)<<hal.PageShift]; ok {
					mask |= 1 << i
				}
			}
			if got := s.Present(a, 50); got != mask {
				t.Fatalf("Present of %#x: %#x, want %#x", a, got, mask)
			}
		}
		// The end of both: every page is reported once, no table is left.
		for _, x := range []*Space{s, c} {
			n := 0
			x.Walk(0, uint64(hal.UserTop), false, func(hal.UserAddr, hal.PTE) { n++ })
			x.Retire()
			clear(fl.flushed)
			last := hal.UserAddr(0)
			cut := base + hal.UserAddr(r.Intn(span))<<hal.PageShift
			for _, part := range [][2]hal.UserAddr{{base, cut}, {cut, base + (span+64)<<hal.PageShift}} {
				x.Unmap(part[0], uint64(part[1]-part[0]), func(a hal.UserAddr, _ hal.PTE) {
					if a <= last && last != 0 {
						t.Fatalf("%#x after %#x", a, last)
					}
					last = a
					n--
				})
			}
			if n != 0 || len(fl.flushed) != 0 {
				t.Fatalf("%d pages not reported, %d flushed", n, len(fl.flushed))
			}
			x.Destroy()
		}
		if len(ft.m) != 2 {
			t.Fatalf("%d tables left", len(ft.m)-2)
		}
	}
}

// Reclaim looks at pages of files, and takes some, while the space that maps them is
// emptied: each page is reported once, and no table is used that is gone.
func TestReclaimLooksAtASpaceThatEnds(t *testing.T) {
	const tables, pages = 8, 200
	for range 100 {
		s, ft, _ := newSpace(t, 0)
		for i := range tables {
			m := hal.Mapping{Addr: hal.UserAddr(i) * leafSpan, Frame: hal.PFN(1 + i*pages), Pages: pages, Prot: hal.ProtRead}
			if err := s.Map([]hal.Mapping{m}); err != nil {
				t.Fatal(err)
			}
		}
		s.Retire()
		var seen [1 + tables*pages]atomic.Int32
		take := func(_ hal.UserAddr, p hal.PTE) { seen[p.Frame].Add(1) }
		var all sync.WaitGroup
		all.Go(func() {
			for i := tables - 1; i >= 0; i-- {
				for k := range hal.UserAddr(pages) {
					a := hal.UserAddr(i)*leafSpan + k<<hal.PageShift
					s.Walk(a, hal.PageSize, true, func(hal.UserAddr, hal.PTE) {})
					if _, ok := s.Query(a); ok && k%3 == 0 {
						s.Unmap(a, hal.PageSize, take)
					}
				}
			}
		})
		s.Unmap(0, uint64(hal.UserTop), take)
		all.Wait()
		for f := 1; f < len(seen); f++ {
			if n := seen[f].Load(); n != 1 {
				t.Fatalf("frame %d was reported %d times", f, n)
			}
		}
		if s.Destroy(); len(ft.m) != 1 {
			t.Fatalf("%d tables left", len(ft.m)-1)
		}
	}
}

func TestForkWithoutMemoryForTables(t *testing.T) {
	s, ft, fl := newSpace(t, 0)
	root, _ := ft.Alloc()
	c := new(Space)
	c.Init(ft, fl, root)
	for i := range 4 {
		if err := s.Map([]hal.Mapping{{Addr: hal.UserAddr(i) << 30, Frame: hal.PFN(10 + i), Pages: 1, Prot: 3}}); i > 0 && err != nil {
			t.Fatal(err)
		}
	}
	ft.limit = len(ft.m) + 5
	var last hal.PFN
	accepted := 0
	err := s.Fork(c, 0, uint64(hal.UserTop), func(f hal.PFN) bool { accepted++; last = f; return true })
	if err != hal.ErrNoMemory {
		t.Fatal(err)
	}
	n := 0
	c.Walk(0, uint64(hal.UserTop), false, func(_ hal.UserAddr, p hal.PTE) {
		if n++; p.Frame == last {
			t.Error("the last frame has a place")
		}
	})
	if n != accepted-1 {
		t.Errorf("%d of %d pages are in the child", n, accepted)
	}
	for _, x := range []*Space{s, c} {
		x.Retire()
		x.Unmap(0, uint64(hal.UserTop), nil)
		x.Destroy()
	}
	if len(ft.m) != 2 {
		t.Errorf("%d tables left", len(ft.m)-2)
	}
}
