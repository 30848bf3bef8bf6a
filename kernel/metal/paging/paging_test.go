package paging

import (
	"math/rand"
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

func (t *tlb) Flush(a hal.UserAddr, pages int) {
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
					if old.p != 0 && !fl.flushed[pa] {
						t.Fatalf("Protect left %#x in the TLB", pa)
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
